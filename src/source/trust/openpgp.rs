//! Signatures by OpenPGP keys, RFC 9580. What the keyring says of a key is found out when it is read; what holds at
//! the times of a commit, for each commit.

mod certificate;
mod packets;

use std::panic::{AssertUnwindSafe, catch_unwind};

use pgp::packet::{Packet, Signature as Packed, SignatureType};
use pgp::types::KeyDetails;

use self::certificate::{Certificate, Signing};
use super::commit::Signature;
use super::{Refusal, Revoked, SignatureKind, Signed, Signers, Times, armor};
use crate::model::one_line;

pub(super) use super::armor::is_openpgp_keys as is_keyring;

/// The largest keyring, in bytes.
const LARGEST: usize = 1 << 20;

/// Keys that may sign.
#[derive(Debug, Clone, Default)]
pub(super) struct Keyring(Vec<Certificate>);

impl Keyring {
    /// The keys in `content`, armoured or not, any number of them one after the other; `file` is what it is called in
    /// messages.
    ///
    /// # Errors
    /// `bad-trust` where anything of it is not understood: that could be what takes a key back.
    pub fn parse(file: &str, content: &[u8]) -> Result<Self, Refusal> {
        let file = one_line(file, 400);
        let bad = |line, why: &str| Refusal::BadTrust { file: file.clone(), line, why: why.to_owned() };
        if content.len() > LARGEST {
            return Err(bad(
                None,
                &format!("is larger than {LARGEST} bytes; export the keys with --export-options export-minimal"),
            ));
        }
        let unarmored;
        let bytes = match std::str::from_utf8(content) {
            Ok(text) => {
                let why = "is no OpenPGP public key, or it is cut; export it anew (gpg --armor --export)";
                unarmored = armor::openpgp_keys(text).map_err(|line| bad(Some(line), why))?;
                &unarmored[..]
            }
            Err(_) => content,
        };
        let read = contained(|| packets::read(bytes).and_then(packets::certificates));
        let certificates = read.map_err(|why| bad(None, &why))?;
        if certificates.is_empty() {
            return Err(bad(None, "holds no key; export one into it (gpg --armor --export)"));
        }
        let mut keyring = Self::default();
        keyring.extend(Self(certificates));
        Ok(keyring)
    }

    /// These keys too. Of a key that is there more than once all copies count together.
    pub fn extend(&mut self, other: Self) {
        for certificate in other.0 {
            match self.0.iter_mut().find(|known| known.fingerprint() == certificate.fingerprint()) {
                Some(known) => known.merge(certificate),
                None => self.0.push(certificate),
            }
        }
    }
}

/// Who of `signers` made `signature`, at `times`.
///
/// # Errors
/// Why it is not believed.
pub(super) fn verify(
    signature: &Signature,
    signers: &Signers,
    revoked: &Revoked,
    times: Times,
) -> Result<Signed, Refusal> {
    let unreadable = || Refusal::BadSignature("it cannot be read".to_owned());
    let bytes = armor::openpgp(&signature.armored).ok_or_else(unreadable)?;
    let packed = contained(|| packets::read(&bytes)).map_err(|_| unreadable())?;
    let packed = match &packed[..] {
        [Packet::Signature(packed)] => packed,
        several if several.len() > 1 && several.iter().all(|packet| matches!(packet, Packet::Signature(_))) => {
            return Err(Refusal::SeveralSignatures(several.len()));
        }
        _ => return Err(unreadable()),
    };
    if packed.typ() != Some(SignatureType::Binary) || !packets::is_understood(packed) {
        return Err(Refusal::UnknownSignature(
            "is of a kind that is not verified here; sign with git commit -S".to_owned(),
        ));
    }
    let candidates: Vec<(&Certificate, Signing<'_>)> = signers
        .openpgp()
        .0
        .iter()
        .flat_map(|certificate| certificate.made(packed).map(move |key| (certificate, key)))
        .collect();
    if candidates.is_empty() {
        let why = format!("which is no key of {}; add it there, or have somebody sign who is there", signers.files());
        return Err(Refusal::UnknownKey { key: issuer(packed), why });
    }
    packets::check_hash(packed).map_err(|why| Refusal::WeakKey { key: issuer(packed), why })?;
    let payload = &signature.payload;
    let made = candidates
        .into_iter()
        .find(|(_, key)| contained(|| if key.verify(packed, payload) { Ok(()) } else { Err(String::new()) }).is_ok());
    let Some((certificate, key)) = made else {
        return Err(Refusal::BadSignature(format!("it is not over this (key {})", issuer(packed))));
    };
    let keys = key.fingerprints(certificate);
    revoked.check(keys.clone())?;
    let principal = certificate.judge(key, packed, times)?;
    Ok(Signed { principal, fingerprint: certificate.fingerprint(), keys: keys.into(), kind: SignatureKind::OpenPgp })
}

/// The key that `signature` says that it is by: its fingerprint, or else its id.
fn issuer(signature: &Packed) -> String {
    let named = signature.issuer_fingerprint().first().map(|fingerprint| format!("{fingerprint:X}"));
    let named = named.or_else(|| signature.issuer_key_id().first().map(|id| id.to_string().to_ascii_uppercase()));
    named.unwrap_or_else(|| "a key that it does not name".to_owned())
}

/// The fingerprint of `key`, as gpg writes it.
fn fingerprint(key: &dyn KeyDetails) -> String {
    format!("{:X}", key.fingerprint())
}

/// What `work` gives. The parser is large, and whoever sends a commit may try it: a panic there must not end a pass.
fn contained<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // What it works on is only read.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("cannot be read".to_owned()))
}
