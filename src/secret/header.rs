use std::collections::BTreeSet;

use base64ct::{Base64, Encoding};

use super::Recipient;

/// How a file of age starts.
const MAGIC: &str = "age-encryption.org/v1";
/// How one starts that is text.
const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
/// The most bytes of a header that are looked at.
const LONGEST: usize = 1 << 20;
/// And the most lines, two or three for each key: the library that opens a file reads all of them anew for each.
const LINES: usize = 4096;

/// What the header of a file of age says of whom it is for. It is not proven here: who opens the file proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The arguments of each stanza: the type first.
    stanzas: Vec<Vec<String>>,
}

impl Header {
    /// Reads the header of `file`, armoured or not.
    ///
    /// # Errors
    /// Where it is no file of age.
    pub fn read(file: &[u8]) -> Result<Self, &'static str> {
        const NONE: &str = "this is not encrypted: it is no file of age";
        const LONG: &str = "this file of age is encrypted to more keys than are looked at";
        const CUT: &str = "this file of age is damaged: its header has no end";
        let armored = file.trim_ascii_start();
        let decoded = armored.starts_with(BEGIN.as_bytes()).then(|| of_armor(armored));
        let bytes = match &decoded {
            Some(decoded) => decoded.as_deref().ok_or("this file of age is damaged: its armour is not whole")?,
            None => file,
        };
        let bytes = &bytes[..bytes.len().min(LONGEST)];
        let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| std::str::from_utf8(line).ok());
        if lines.next() != Some(Some(MAGIC)) {
            return Err(NONE);
        }
        let mut stanzas = Vec::new();
        for (n, line) in lines.enumerate() {
            if n == LINES {
                return Err(LONG);
            }
            match line.ok_or(CUT)? {
                end if end.starts_with("---") => return Ok(Self { stanzas }),
                line => {
                    if let Some(arguments) = line.strip_prefix("-> ") {
                        stanzas.push(arguments.split(' ').map(str::to_owned).collect());
                    }
                }
            }
        }
        Err(CUT)
    }

    /// How many keys of age it is encrypted to; the header does not say which.
    pub fn unnamed(&self) -> usize {
        self.of("X25519").count()
    }

    /// Whether it can be opened by a passphrase only.
    pub fn is_by_passphrase(&self) -> bool {
        self.of("scrypt").next().is_some()
    }

    /// Whether it is encrypted to `recipient`; `None` where the header does not tell.
    pub fn is_for(&self, recipient: &Recipient) -> Option<bool> {
        let (kind, tag) = recipient.tag()?;
        Some(self.of(kind).any(|arguments| arguments.get(1) == Some(&tag)))
    }

    /// Whether it is encrypted to these and nobody else, as far as the header tells.
    pub fn is_just_for<'r>(&self, recipients: impl Iterator<Item = &'r Recipient>) -> bool {
        let (named, unnamed): (Vec<_>, Vec<_>) = recipients.partition(|recipient| recipient.is_named_in_files());
        let tags: BTreeSet<_> = named.iter().filter_map(|recipient| recipient.tag()).collect();
        let there = ["ssh-ed25519", "ssh-rsa"]
            .into_iter()
            .flat_map(|kind| self.of(kind).filter_map(move |arguments| Some((kind, arguments.get(1)?.clone()))));
        there.collect::<BTreeSet<_>>() == tags && self.unnamed() == unnamed.len()
    }

    fn of<'h>(&'h self, kind: &'h str) -> impl Iterator<Item = &'h Vec<String>> {
        self.stanzas.iter().filter(move |arguments| arguments.first().is_some_and(|first| first == kind))
    }
}

/// The bytes of an armour, RFC 7468.
fn of_armor(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n').skip(1);
    let body: Vec<u8> =
        lines.map(<[u8]>::trim_ascii).take_while(|line| !line.starts_with(b"-----END")).flatten().copied().collect();
    Base64::decode_vec(std::str::from_utf8(&body).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_age_is_told_from_one_that_is_damaged() {
        for (file, said) in [
            (&b""[..], "not encrypted"),
            (b"password = hunter2\n", "not encrypted"),
            (b"age-encryption.org/v2\n", "not encrypted"),
            (b"age-encryption.org/v1\n-> X25519 x\n", "no end"),
            (b"-----BEGIN AGE ENCRYPTED FILE-----\n*\n", "armour"),
        ] {
            let why = Header::read(file).expect_err("refused");
            assert!(why.contains(said), "{why}");
        }
    }

    #[test]
    fn a_header_has_no_more_lines_than_can_be_read_again_and_again() {
        let with = |stanzas: usize| format!("{MAGIC}\n{}--- mac\n", "-> x\n\n".repeat(stanzas));
        assert!(Header::read(with(LINES / 2 - 1).as_bytes()).is_ok());
        let why = Header::read(with(LINES / 2).as_bytes()).expect_err("one line more");
        assert!(why.contains("more keys"), "{why}");
    }

    #[test]
    fn stanzas_are_told_apart() {
        let text =
            "age-encryption.org/v1\n-> X25519 a\nbody\n-> ssh-ed25519 tag epk\nbody\n-> X25519 b\nbody\n--- mac\n\u{1}";
        let header = Header::read(text.as_bytes()).expect("a header");
        assert_eq!((header.unnamed(), header.is_by_passphrase()), (2, false));
        let scrypt = Header::read(b"age-encryption.org/v1\n-> scrypt salt 18\nbody\n--- mac\n").expect("a header");
        assert!(scrypt.is_by_passphrase());
    }
}
