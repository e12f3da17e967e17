use std::collections::BTreeSet;

use base64ct::{Base64, Encoding};

use super::Recipient;

/// How a file of age starts.
const MAGIC: &str = "age-encryption.org/v1";
/// How one starts that is text.
const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
/// And how it ends.
const END: &str = "-----END AGE ENCRYPTED FILE-----";
/// How long its lines are.
const COLUMNS: usize = 64;
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
        const ARMOUR: &str = "this file of age is damaged: its armour is not whole, or more stands around it";
        let decoded = is_armored(file).then(|| of_armor(file));
        let bytes = match &decoded {
            Some(decoded) => decoded.as_deref().ok_or(ARMOUR)?,
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

    /// Whether `file` is to be one of age, by how it begins; it may be damaged.
    pub fn is_attempted(file: &[u8]) -> bool {
        is_armored(file) || file.starts_with(MAGIC.as_bytes())
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

/// Whether `file` is a text that begins as one of age, with or without what may not stand before that.
fn is_armored(file: &[u8]) -> bool {
    file.trim_ascii_start().starts_with(BEGIN.as_bytes())
}

/// The bytes of an armour. It is as strict as the format of age has it, so that nobody is told of a file that it is whole where
/// who has to open it says that it is damaged: RFC 7468, section 3, in the strict form, with nothing but blanks behind it.
fn of_armor(file: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(file).ok()?;
    let unended = |line| str::strip_suffix(line, "\r\n").or_else(|| line.strip_suffix('\n')).unwrap_or(line);
    let mut lines = text.split_inclusive('\n').map(unended);
    if lines.next() != Some(BEGIN) {
        return None;
    }
    let (mut body, mut is_last) = (String::with_capacity(text.len()), false);
    while let Some(line) = lines.next() {
        if line == END {
            let nothing_more = lines.all(|line| line.trim_ascii().is_empty());
            return Base64::decode_vec(&body).ok().filter(|_| nothing_more);
        }
        if is_last || line.is_empty() || line.len() > COLUMNS {
            return None;
        }
        is_last = line.len() < COLUMNS;
        body.push_str(line);
    }
    None
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
    fn an_armour_is_taken_as_strictly_as_by_who_opens_it() {
        let binary = [b"age-encryption.org/v1\n-> X25519 a\nbody\n--- mac\n".as_slice(), &[7; 100]].concat();
        let text = Base64::encode_string(&binary);
        let lines: Vec<&str> =
            text.as_bytes().chunks(COLUMNS).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
        let whole = format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"));
        let unwrapped = format!("{BEGIN}\n{text}\n{END}\n");
        let no_end = &whole[..whole.len() - END.len() - 1];
        for (file, is_whole) in [
            (whole.clone(), true),
            (whole.trim_end().to_owned(), true),
            (whole.replace('\n', "\r\n"), true),
            (format!("{whole}\n \t\n"), true),
            (format!("\n\n{whole}"), false),
            (format!(" {whole}"), false),
            (format!("{whole}more\n"), false),
            (format!("{whole}{whole}"), false),
            (no_end.to_owned(), false),
            (whole.replacen('\n', " \n", 1), false),
            (whole.replacen('\n', "\n\n", 1), false),
            (whole.replacen(END, &format!(" {END}"), 1), false),
            (whole.replace('\n', " \n"), false),
            (unwrapped, false),
        ] {
            assert_eq!(Header::read(file.as_bytes()).is_ok(), is_whole, "{file:?}");
            assert!(Header::is_attempted(file.as_bytes()), "{file:?}");
            #[cfg(feature = "secrets")]
            assert_eq!(super::super::age::is_unwrapped(file.as_bytes(), &binary), is_whole, "{file:?}");
        }
        assert!(Header::is_attempted(&binary) && !Header::is_attempted(text.as_bytes()));
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
