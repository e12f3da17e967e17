use std::fmt;

use base64ct::{Base64, Base64Unpadded, Encoding};
use sha2::{Digest, Sha256};

/// Whom a secret can be encrypted to: a public SSH key, or one of age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipient {
    /// As it is written, without a comment: `ssh-ed25519 AAAA…`, `age1…`.
    text: String,
    /// The key as SSH has it on the wire; none of a key of age.
    wire: Option<Vec<u8>>,
}

/// What can be encrypted to, for messages.
const KINDS: &str = "\"ssh-ed25519 AAAA…\", \"ssh-rsa AAAA…\" or \"age1…\"";

impl Recipient {
    /// Reads a line of a `.pub` file of SSH, or a recipient of age.
    ///
    /// # Errors
    /// What it has to be, where it is not.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_ascii_whitespace();
        let parsed = match (words.next(), words.next()) {
            (Some(kind @ ("ssh-ed25519" | "ssh-rsa")), Some(key)) => Self::of_ssh(kind, key),
            (Some(key), None) if key.starts_with("age1") => Some(Self { text: key.to_owned(), wire: None }),
            (Some(kind), Some(_)) if kind.starts_with("ecdsa-") || kind.starts_with("sk-") => {
                return Err(format!("is a key of type {kind}, to which nothing can be encrypted: it is {KINDS}"));
            }
            _ => None,
        };
        parsed.filter(super::age::is_usable).ok_or_else(|| format!("is no key that can be encrypted to: it is {KINDS}"))
    }

    fn of_ssh(kind: &str, key: &str) -> Option<Self> {
        let wire = Base64::decode_vec(key).ok()?;
        // The wire form starts with the length of the type and the type, RFC 4253, section 6.6.
        let (length, rest) = wire.split_first_chunk::<4>()?;
        let named = rest.get(..u32::from_be_bytes(*length) as usize)?;
        (named == kind.as_bytes()).then(|| Self { text: format!("{kind} {key}"), wire: Some(wire) })
    }

    /// What a file that is encrypted to this key says of it: the type, and for SSH the start of its digest.
    pub(super) fn tag(&self) -> Option<(&str, String)> {
        let digest = Sha256::digest(self.wire.as_ref()?);
        Some((self.text.split(' ').next()?, Base64Unpadded::encode_string(&digest[..4])))
    }

    /// Whether a file says which keys of this type it is encrypted to.
    pub fn is_named_in_files(&self) -> bool {
        self.wire.is_some()
    }

    /// For people: `ssh-ed25519 SHA256:…` as ssh-keygen(1) has it, a key of age as it is.
    pub fn fingerprint(&self) -> String {
        match &self.wire {
            Some(wire) => {
                let kind = self.text.split(' ').next().unwrap_or_default();
                format!("{kind} SHA256:{}", Base64Unpadded::encode_string(&Sha256::digest(wire)))
            }
            None => self.text.clone(),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";

    #[test]
    fn a_key_is_read_without_its_comment() {
        let key = Recipient::parse(&format!("{KEY} root@web-01\n")).expect("a key");
        assert_eq!(key.to_string(), KEY);
        assert_eq!(key, Recipient::parse(KEY).expect("a key"));
        assert!(key.fingerprint().starts_with("ssh-ed25519 SHA256:"), "{}", key.fingerprint());
    }

    #[test]
    fn what_cannot_be_encrypted_to_is_refused_with_what_can() {
        let short = &KEY[..KEY.len() - 8];
        let renamed = KEY.replace("ssh-ed25519", "ssh-rsa");
        for wrong in ["", "x", "ssh-ed25519", short, &renamed, "ecdsa-sha2-nistp256 AAAA", "age1", "AGE-SECRET-KEY-1X"]
        {
            let said = Recipient::parse(wrong).expect_err(wrong);
            assert!(said.contains("ssh-ed25519 AAAA…"), "{said}");
        }
    }
}
