//! Signatures by SSH keys: PROTOCOL.sshsig of OpenSSH. Here it is found out who made one, not whether they may.

mod certificate;
mod key;
mod wire;

pub(super) use self::certificate::Certificate;
pub(super) use self::key::{Key, is_kind};
use self::wire::{Wire, put};
use super::{Refusal, armor};

use sha2::Digest as _;

/// What a signature of a commit is made for; one that was made for something else is none.
pub(super) const NAMESPACE: &str = "git";

/// Who made a signature.
#[derive(Debug)]
pub(super) struct Signer {
    /// With this key.
    pub key: Key,
    /// And with this certificate of it, where the signature brings one.
    pub certificate: Option<Certificate>,
}

/// Who made `signature`, which is armoured, over `payload`.
///
/// # Errors
/// `bad-signature`, `unknown-signature`, `weak-key`.
pub(super) fn verify(signature: &[u8], payload: &[u8]) -> Result<Signer, Refusal> {
    let blob = armor::ssh(signature).ok_or_else(unreadable)?;
    let parts = Parts::of(&blob).ok_or_else(unreadable)?;
    if parts.namespace != NAMESPACE {
        return Err(Refusal::BadSignature(format!(
            "it is made for {:?} and not for {NAMESPACE:?}",
            crate::model::one_line(parts.namespace, 60)
        )));
    }
    let hash = match parts.hash {
        "sha256" => sha2::Sha256::digest(payload).to_vec(),
        "sha512" => sha2::Sha512::digest(payload).to_vec(),
        _ => {
            return Err(Refusal::UnknownSignature(
                "is over a hash that is not known here; sign with ssh-keygen's own".to_owned(),
            ));
        }
    };
    let signer = Signer::of_blob(parts.key)?;
    signer.key.check()?;
    let mut message = MAGIC.to_vec();
    for part in [parts.namespace.as_bytes(), b"", parts.hash.as_bytes(), &hash] {
        put(&mut message, part);
    }
    let verified = signer.certificate.as_ref().is_some_and(|certificate| certificate.verified);
    let signed = signer.key.signed(&message, parts.signature, verified);
    signed.map_err(|why| Refusal::BadSignature(format!("{why} (key {})", signer.key.fingerprint())))?;
    Ok(signer)
}

fn unreadable() -> Refusal {
    Refusal::BadSignature("it cannot be read".to_owned())
}

impl Signer {
    fn of_blob(blob: &[u8]) -> Result<Self, Refusal> {
        if let Some(key) = Key::of_blob(blob) {
            return Ok(Self { key, certificate: None });
        }
        let kind = Wire::of(blob).text().ok_or_else(unreadable)?;
        if !is_kind(kind) {
            let kind = crate::model::one_line(kind, 60);
            return Err(Refusal::UnknownSignature(format!(
                "is by a key of the kind {kind:?}, which is not verified here; sign with an ed25519 key"
            )));
        }
        if key::KINDS.iter().any(|known| known.name == kind) {
            return Err(unreadable());
        }
        let (key, certificate) = Certificate::of_blob(blob)?;
        Ok(Self { key, certificate: Some(certificate) })
    }

    /// Fingerprints of all keys that it rests on.
    pub fn fingerprints(&self) -> impl Iterator<Item = String> {
        let authority = self.certificate.as_ref().map(|certificate| certificate.authority.fingerprint());
        [self.key.fingerprint()].into_iter().chain(authority)
    }
}

const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;

/// A signature as it is written.
struct Parts<'a> {
    key: &'a [u8],
    namespace: &'a str,
    hash: &'a str,
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(blob: &'a [u8]) -> Option<Self> {
        let mut wire = Wire::of(blob);
        if wire.bytes(MAGIC.len())? != MAGIC || wire.number()? != VERSION {
            return None;
        }
        let (key, namespace) = (wire.string()?, wire.text()?);
        // What is reserved is not signed, so nothing may stand there.
        if !wire.string()?.is_empty() {
            return None;
        }
        let (hash, signature) = (wire.text()?, wire.string()?);
        wire.end()?;
        Some(Self { key, namespace, hash, signature })
    }
}
