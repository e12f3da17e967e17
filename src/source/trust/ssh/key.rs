use std::fmt;

use base64ct::{Base64, Encoding};
use signature::Verifier;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, PublicKey, Signature};

use super::Refusal;
use super::wire::{Wire, put};
use crate::model::one_line;

/// The fewest bits of an RSA key that is believed.
const FEWEST_BITS: usize = 2048;
/// The most bits of an RSA key that can be verified here.
const MOST_BITS: usize = 4096;

/// A kind of key: its name, that of its certificates, and of how many strings it is made.
pub(super) struct KeyKind {
    pub name: &'static str,
    pub certificate: &'static str,
    pub strings: usize,
}

macro_rules! kinds {
    ($(($name:literal, $certificate:literal, $strings:literal)),* $(,)?) => {
        &[$(KeyKind { name: $name, certificate: $certificate, strings: $strings }),*]
    };
}

/// All that are verified here; see PROTOCOL.certkeys and PROTOCOL.u2f of OpenSSH. DSA is not: it is too short.
pub(super) const KINDS: &[KeyKind] = kinds![
    ("ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com", 1),
    ("ssh-rsa", "ssh-rsa-cert-v01@openssh.com", 2),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256-cert-v01@openssh.com", 2),
    ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384-cert-v01@openssh.com", 2),
    ("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521-cert-v01@openssh.com", 2),
    ("sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519-cert-v01@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256@openssh.com", "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", 3),
];

/// Whether `name` is that of a kind of key, or of its certificates.
pub(in crate::source::trust) fn is_kind(name: &str) -> bool {
    KINDS.iter().any(|kind| kind.name == name || kind.certificate == name)
}

/// Whether `blob` is the name of its kind and then as many strings as that has.
fn is_whole(blob: &[u8], kind: &KeyKind) -> bool {
    let mut wire = Wire::of(blob);
    (0..=kind.strings).all(|_| wire.string().is_some()) && wire.end().is_some()
}

/// A public key of SSH.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::source::trust) struct Key(KeyData);

impl Key {
    /// The key that is written as its kind and base64.
    ///
    /// # Errors
    /// Why it is none that can be used.
    pub fn of_text(kind: &str, base64: &str) -> Result<Self, String> {
        if KINDS.iter().any(|known| known.certificate == kind) {
            return Err(
                "a certificate stands where a key belongs; write the key of its authority, with cert-authority"
                    .to_owned(),
            );
        }
        if !is_kind(kind) {
            let kind = one_line(kind, 60);
            return Err(format!("{kind:?} is no kind of key that is verified here; use ssh-ed25519"));
        }
        let blob = Base64::decode_vec(base64).map_err(|_| "there is no key after its kind, or it is cut".to_owned())?;
        if Wire::of(&blob).string() != Some(kind.as_bytes()) {
            return Err(match Wire::of(&blob).text().is_some_and(is_kind) {
                true => format!("the key is of another kind than {kind}"),
                false => "there is no key after its kind, or it is cut".to_owned(),
            });
        }
        let key = Self::of_blob(&blob).ok_or_else(|| format!("there is no key of the kind {kind}, or it is cut"))?;
        match key.bits() {
            Some(bits) if bits > MOST_BITS => Err(format!(
                "an RSA key of {bits} bits cannot be verified here, {MOST_BITS} are the most; use ssh-ed25519"
            )),
            _ => Ok(key),
        }
    }

    /// The key with these bytes, its kind first; `None` where that is no key that can be verified.
    pub fn of_blob(blob: &[u8]) -> Option<Self> {
        let name = Wire::of(blob).text()?;
        let kind = KINDS.iter().find(|kind| kind.name == name)?;
        if !is_whole(blob, kind) {
            return None;
        }
        PublicKey::from_bytes(blob).ok().map(|key| Self(key.key_data().clone()))
    }

    /// Whether the key with these bytes is cut, or has something after it: as far as its kind is known.
    pub fn is_cut(blob: &[u8]) -> bool {
        let kind = Wire::of(blob).text().and_then(|name| KINDS.iter().find(|kind| kind.name == name));
        kind.is_some_and(|kind| !is_whole(blob, kind))
    }

    /// The key of a certificate: its `kind`, and the strings that it is made of, as they stand there.
    pub(super) fn of_certificate(kind: &KeyKind, strings: &[u8]) -> Option<Self> {
        let mut blob = Vec::new();
        put(&mut blob, kind.name.as_bytes());
        blob.extend_from_slice(strings);
        Self::of_blob(&blob)
    }

    /// As ssh-keygen -l writes it: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Whether it is one that only its owner can use.
    ///
    /// # Errors
    /// `weak-key`, `unknown-signature`.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        match self.bits() {
            Some(bits) if bits < FEWEST_BITS => Err(Refusal::WeakKey {
                key: self.fingerprint(),
                why: format!("an RSA key of {bits} bits, which can be forged; sign with an ed25519 key"),
            }),
            Some(bits) if bits > MOST_BITS => Err(Refusal::UnknownSignature(format!(
                "is by an RSA key of {bits} bits ({}), and {MOST_BITS} are the most that are verified here; sign with an ed25519 key",
                self.fingerprint()
            ))),
            _ => Ok(()),
        }
    }

    /// Of an RSA key: how many bits it has.
    fn bits(&self) -> Option<usize> {
        let modulus = self.0.rsa()?.n.as_positive_bytes()?;
        let first = modulus.first()?;
        Some(modulus.len() * 8 - first.leading_zeros() as usize)
    }

    /// Whether `blob`, an algorithm and a signature, is one by this key over `message`. Security keys have to say that
    /// somebody touched them, and with `verified` that they knew who.
    pub(super) fn signed(&self, message: &[u8], blob: &[u8], verified: bool) -> Result<(), &'static str> {
        const UNREADABLE: &str = "it cannot be read";
        const PRESENT: u8 = 1;
        const VERIFIED: u8 = 4;
        let mut wire = Wire::of(blob);
        let algorithm = wire.text().ok_or(UNREADABLE)?;
        wire.string().ok_or(UNREADABLE)?;
        // Other keys do not say, and nobody has to touch them.
        let mut flags = PRESENT;
        if let Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 = self.0.algorithm() {
            flags = wire.byte().ok_or(UNREADABLE)?;
            wire.number().ok_or(UNREADABLE)?;
        }
        wire.end().ok_or(UNREADABLE)?;
        match (self.0.algorithm().as_str(), algorithm) {
            ("ssh-rsa", "rsa-sha2-256" | "rsa-sha2-512") => {}
            ("ssh-rsa", "ssh-rsa") => return Err("it is made with SHA-1, which can be forged"),
            (own, algorithm) if own == algorithm => {}
            _ => return Err("it is of another kind than the key"),
        }
        if flags & PRESENT == 0 {
            return Err("nobody touched the security key that made it");
        }
        if verified && flags & VERIFIED == 0 {
            return Err(
                "its certificate asks for a security key that verifies who touches it, and that did not happen",
            );
        }
        let signature = Signature::try_from(blob).map_err(|_| UNREADABLE)?;
        self.0.verify(message, &signature).map_err(|_| "it is not over this")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of an RSA key with a modulus of `bits` bits, and this exponent.
    fn rsa(bits: usize, exponent: &[u8]) -> String {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] >>= (8 - bits % 8) % 8;
        if modulus[0] & 0x80 != 0 {
            modulus.insert(0, 0);
        }
        let mut blob = Vec::new();
        for part in [b"ssh-rsa", exponent, &modulus] {
            put(&mut blob, part);
        }
        Base64::encode_string(&blob)
    }

    #[test]
    fn rsa_keys_are_measured_to_the_bit() {
        let key = |bits| Key::of_text("ssh-rsa", &rsa(bits, &[1, 0, 1]));
        for bits in [1024, 2047, 2048, 2049, 4095, 4096] {
            let key = key(bits).expect("a key");
            assert_eq!((key.bits(), key.check().is_ok()), (Some(bits), bits >= FEWEST_BITS), "{bits}");
        }
        assert!(key(4097).expect_err("too long").contains("4097 bits"));
        let longer = Key::of_blob(&Base64::decode_vec(&rsa(4097, &[1, 0, 1])).expect("base64")).expect("a key");
        assert_eq!(longer.check().expect_err("too long").reason(), "unknown-signature");
    }

    #[test]
    fn what_is_no_key_is_none() {
        let ed25519 = "AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
        assert!(Key::of_text("ssh-ed25519", ed25519).is_ok());
        let blob = Base64::decode_vec(ed25519).expect("base64");
        for end in 0..blob.len() {
            assert!(Key::of_blob(&blob[..end]).is_none(), "cut at {end}");
        }
        assert!(Key::of_blob(&[&blob[..], &[0]].concat()).is_none(), "more than a key");
        let certificate = Key::of_text("ssh-ed25519-cert-v01@openssh.com", ed25519).expect_err("no key");
        assert!(certificate.contains("cert-authority"), "{certificate}");
        for (kind, base64) in
            [("ssh-dss", ed25519), ("ssh-rsa", ed25519), ("ssh-ed25519", ""), ("ssh-rsa", "AAAAB3NzaC1yc2E=")]
        {
            assert!(Key::of_text(kind, base64).is_err(), "{kind} {base64}");
        }
    }
}
