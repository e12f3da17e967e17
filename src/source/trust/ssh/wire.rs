//! How SSH writes values: RFC 4251, section 5.

/// Bytes that are read from the front; each read is `None` where they do not reach.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    /// All of `bytes`.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// `Some` where all of it was read.
    pub fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// The next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    /// A number of four bytes.
    pub fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?))
    }

    /// A number of eight bytes.
    pub fn long(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.bytes(8)?.try_into().ok()?))
    }

    /// A length and that many bytes.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.bytes(length)
    }

    /// A string that is UTF-8.
    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }
}

/// `bytes` with its length before it, after `out`.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("what is written here is short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_is_read_past_the_end() {
        let mut bytes = Vec::new();
        put(&mut bytes, b"ana");
        put(&mut bytes, b"\xff");
        bytes.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 1, 0]);
        let mut wire = Wire::of(&bytes);
        assert_eq!(
            (wire.text(), wire.string(), wire.byte(), wire.long()),
            (Some("ana"), Some(&b"\xff"[..]), Some(7), Some(256))
        );
        assert!(wire.end().is_some());
        for end in 0..bytes.len() {
            let mut wire = Wire::of(&bytes[..end]);
            let read = || Some((wire.string()?, wire.string()?, wire.byte()?, wire.long()?));
            assert_eq!({ read }(), None, "cut at {end}");
        }
        assert_eq!(Wire::of(&[0xff, 0xff, 0xff, 0xff, 1]).string(), None);
        assert_eq!(Wire::of(&[0, 0, 0, 1, 0xff]).text(), None);
    }
}
