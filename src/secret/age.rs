//! Opening and sealing, by the crate `age`. The one module that names it.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use ::age::armor::{ArmoredReader, ArmoredWriter, Format};
use ::age::{DecryptError, Decryptor, Encryptor, ssh, x25519};

use super::{Header, Locked, Plain, Recipient};

/// Keys that open secrets, out of one file.
pub struct Identity {
    keys: Vec<Box<dyn ::age::Identity + Send + Sync>>,
    own: Vec<Recipient>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("own", &self.own).finish_non_exhaustive()
    }
}

/// How a private key of SSH starts.
const BEGIN: &str = "-----BEGIN ";

impl Identity {
    /// Reads a private key of SSH, or a file of identities of age.
    ///
    /// # Errors
    /// Why it cannot be used; nothing of it is in the message.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with(BEGIN) { Self::of_ssh(text) } else { Self::of_age(text) }
    }

    fn of_ssh(text: &str) -> Result<Self, String> {
        let key = ssh::Identity::from_buffer(text.trim_start().as_bytes(), None)
            .map_err(|_| "is no private key of SSH that can be read".to_owned())?;
        match &key {
            ssh::Identity::Unencrypted(_) => {}
            ssh::Identity::Encrypted(_) => {
                return Err(
                    "is protected by a passphrase, and nobody is there to type it: it has to be a key without one"
                        .to_owned(),
                );
            }
            ssh::Identity::Unsupported(_) => {
                return Err("is a key of a type that cannot decrypt: it is ssh-ed25519, ssh-rsa, or a file of identities of age".to_owned());
            }
        }
        let own = ssh::Recipient::try_from(key.clone()).ok().and_then(|own| Recipient::parse(&own.to_string()).ok());
        let own = own.ok_or_else(|| "is a private key of SSH without a public half that can be used".to_owned())?;
        Ok(Self { keys: vec![Box::new(key)], own: vec![own] })
    }

    fn of_age(text: &str) -> Result<Self, String> {
        let (mut keys, mut own): (Vec<Box<dyn ::age::Identity + Send + Sync>>, _) = (Vec::new(), Vec::new());
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let key = x25519::Identity::from_str(line)
                .map_err(|_| "is neither a private key of SSH nor a file of identities of age".to_owned())?;
            own.extend(Recipient::parse(&key.to_public().to_string()).ok());
            keys.push(Box::new(key));
        }
        if keys.is_empty() { Err("holds no key".to_owned()) } else { Ok(Self { keys, own }) }
    }

    /// These keys and those of `other`.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.keys.extend(other.keys);
        self.own.extend(other.own);
        self
    }

    /// Their public halves.
    pub fn recipients(&self) -> &[Recipient] {
        &self.own
    }

    /// What `sealed`, armoured or not, holds.
    ///
    /// # Errors
    /// Why these keys do not open it.
    pub fn open(&self, sealed: &[u8]) -> Result<Plain, Locked> {
        let mut plain = Vec::with_capacity(sealed.len());
        let opened = Decryptor::new_buffered(ArmoredReader::new(sealed))
            .and_then(|file| file.decrypt(self.keys.iter().map(|key| &**key as &dyn ::age::Identity)))
            .and_then(|mut content| content.read_to_end(&mut plain).map_err(DecryptError::from));
        // What was read of a damaged file is wiped too.
        let plain = Plain::from(plain);
        match opened {
            Ok(_) => Ok(plain),
            Err(DecryptError::NoMatchingKeys) => Err(Locked::NotForUs(self.name())),
            Err(_) => Err(Locked::Damaged("it is cut short, or was changed after it was encrypted".to_owned())),
        }
    }

    /// For people: the public halves.
    fn name(&self) -> String {
        self.own.iter().map(Recipient::fingerprint).collect::<Vec<_>>().join(" or ")
    }
}

/// `plain` as only those in `to` can read it; as text where `armored`.
///
/// # Errors
/// Where there is nobody in `to`, one of them cannot be encrypted to together with the others, or they are more than any
/// reader looks at.
pub fn seal(plain: &[u8], to: &[Recipient], armored: bool) -> Result<Vec<u8>, String> {
    let keys = to.iter().map(key).collect::<Option<Vec<_>>>().ok_or("one of the keys cannot be encrypted to")?;
    let keys = keys.iter().map(|key| &**key as &dyn ::age::Recipient);
    let format = if armored { Format::AsciiArmor } else { Format::Binary };
    let sealed = || -> std::io::Result<Vec<u8>> {
        let encryptor = Encryptor::with_recipients(keys).map_err(std::io::Error::other)?;
        let mut writer = encryptor.wrap_output(ArmoredWriter::wrap_output(Vec::new(), format)?)?;
        writer.write_all(plain)?;
        writer.finish()?.finish()
    };
    let sealed = sealed().map_err(|error| error.to_string())?;
    match Header::read(&sealed) {
        Ok(_) => Ok(sealed),
        Err(_) => Err(format!("its {} readers are more than a file of age is read for", to.len())),
    }
}

fn key(recipient: &Recipient) -> Option<Box<dyn ::age::Recipient>> {
    let text = recipient.to_string();
    if let Ok(key) = text.parse::<ssh::Recipient>() {
        return Some(Box::new(key));
    }
    text.parse::<x25519::Recipient>().ok().map(|key| Box::new(key) as _)
}

pub(super) fn is_usable(recipient: &Recipient) -> bool {
    key(recipient).is_some()
}

/// Whether who opens secrets finds just `bytes` in the armour of `file`.
#[cfg(test)]
pub(super) fn is_unwrapped(file: &[u8], bytes: &[u8]) -> bool {
    let mut found = Vec::new();
    ArmoredReader::new(file).read_to_end(&mut found).is_ok() && found == bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (Identity, Recipient) {
        let key = x25519::Identity::generate();
        let text = ::age::secrecy::ExposeSecret::expose_secret(&key.to_string()).to_owned();
        let identity = Identity::parse(&format!("# a comment\n\n{text}\n")).expect("an identity");
        let own = identity.recipients()[0].clone();
        (identity, own)
    }

    #[test]
    fn who_it_is_for_opens_it_and_nobody_else_does() {
        let ((ana, to_ana), (ben, to_ben), (eve, _)) = (fresh(), fresh(), fresh());
        for armored in [false, true] {
            let sealed = seal(b"canary", &[to_ana.clone(), to_ben.clone()], armored).expect("sealed");
            assert!(!sealed.windows(6).any(|six| six == b"canary"));
            assert_eq!(
                (&*ana.open(&sealed).expect("opened"), &*ben.open(&sealed).expect("opened")),
                (&b"canary"[..], &b"canary"[..])
            );
            assert!(matches!(eve.open(&sealed), Err(Locked::NotForUs(_))));
            assert!(Header::read(&sealed).expect("a header").unnamed() >= 2);
        }
    }

    #[test]
    fn nothing_is_encrypted_to_more_keys_than_are_looked_at_again() {
        // Two lines of the header each, of which there are 4096, and perhaps those of a stanza that means nothing.
        let many: Vec<Recipient> = (0..2048).map(|_| fresh().1).collect();
        let why = seal(b"x", &many, true).expect_err("too many");
        assert!(why.contains("2048 readers"), "{why}");
        assert!(seal(b"x", &many[..2000], true).is_ok());
    }

    #[test]
    fn what_was_changed_is_not_opened() {
        let (ana, to_ana) = fresh();
        let sealed = seal(&[7; 200], &[to_ana], false).expect("sealed");
        for cut in [sealed.len() - 1, sealed.len() / 2, 30] {
            assert!(matches!(ana.open(&sealed[..cut]), Err(Locked::Damaged(_))), "{cut}");
        }
        let mut bent = sealed;
        *bent.last_mut().expect("not empty") ^= 1;
        assert!(matches!(ana.open(&bent), Err(Locked::Damaged(_))));
        assert!(seal(b"x", &[], false).is_err(), "for nobody");
    }

    #[test]
    fn a_file_that_is_no_key_is_told_without_what_it_holds() {
        for (text, said) in [
            ("", "holds no key"),
            ("# only a comment\n", "holds no key"),
            ("hunter2\n", "is neither"),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----\n",
                "no private key of SSH",
            ),
        ] {
            let why = Identity::parse(text).expect_err("refused");
            assert!(why.contains(said) && !why.contains("hunter2"), "{why}");
        }
    }
}
