use super::Refusal;
use super::key::{KINDS, Key};
use super::wire::Wire;
use crate::model::one_line;

/// The most principals of a certificate; as many as OpenSSH reads.
const MOST_PRINCIPALS: usize = 256;
/// A certificate of a user, not of a host.
const USER: u32 = 1;
/// The one critical option that means something for a signature, and is held to.
const VERIFY_REQUIRED: &str = "verify-required";

/// A certificate whose signature holds; see PROTOCOL.certkeys of OpenSSH. Whether its authority is one that counts
/// here, and whether it is valid at some time, is not known yet.
#[derive(Debug)]
pub(in crate::source::trust) struct Certificate {
    /// Who signed it.
    pub authority: Key,
    /// Whom it names, as they are written there. At least one.
    pub principals: Vec<String>,
    /// Seconds since 1970; it is valid then already. `None` is always.
    pub valid_from: Option<i64>,
    /// Seconds since 1970; it is still valid then. `None` is forever.
    pub valid_to: Option<i64>,
    /// A security key has to have verified who used it.
    pub(super) verified: bool,
}

impl Certificate {
    /// The key that the certificate `blob` is about, and what it says of that.
    ///
    /// # Errors
    /// `bad-signature`, `unknown-signature`, `weak-key`.
    pub fn of_blob(blob: &[u8]) -> Result<(Key, Self), Refusal> {
        let unknown = |why: String| Err(Refusal::UnknownSignature(format!("is by a certificate {why}")));
        let parts = Parts::of(blob).ok_or(Refusal::BadSignature("its certificate cannot be read".to_owned()))?;
        let mut verified = false;
        for (name, value) in parts.options {
            match name {
                VERIFY_REQUIRED if value.is_empty() => verified = true,
                _ => {
                    let name = one_line(name, 60);
                    return unknown(format!(
                        "with the critical option {name:?}, which cannot be kept to here; have it certified without"
                    ));
                }
            }
        }
        if parts.kind != USER {
            return unknown("of a host; have one made for a user".to_owned());
        }
        if parts.principals.is_empty() {
            return unknown("that names nobody; have it certified for somebody (ssh-keygen -n)".to_owned());
        }
        parts.authority.check()?;
        let signed = parts.authority.signed(parts.signed, parts.signature, false);
        signed.map_err(|why| Refusal::BadSignature(format!("that of its certificate: {why}")))?;
        let seconds = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
        let certificate = Self {
            authority: parts.authority,
            principals: parts.principals.into_iter().map(str::to_owned).collect(),
            valid_from: (parts.valid_after > 0).then(|| seconds(parts.valid_after)),
            // It is valid before that, and no longer then.
            valid_to: (parts.valid_before < u64::MAX).then(|| seconds(parts.valid_before) - 1),
            verified,
        };
        Ok((parts.key, certificate))
    }
}

/// A certificate as it is written.
struct Parts<'a> {
    key: Key,
    kind: u32,
    principals: Vec<&'a str>,
    valid_after: u64,
    valid_before: u64,
    options: Vec<(&'a str, &'a [u8])>,
    authority: Key,
    /// What its authority signed.
    signed: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(blob: &'a [u8]) -> Option<Self> {
        let mut wire = Wire::of(blob);
        let name = wire.text()?;
        let kind = KINDS.iter().find(|kind| kind.certificate == name)?;
        let _nonce = wire.string()?;
        let before = wire.rest();
        (0..kind.strings).try_for_each(|_| wire.string().map(drop))?;
        let key = Key::of_certificate(kind, &before[..before.len() - wire.rest().len()])?;
        let _serial = wire.long()?;
        let kind = wire.number()?;
        let _id = wire.string()?;
        let principals = strings(wire.string()?)?;
        let (valid_after, valid_before) = (wire.long()?, wire.long()?);
        let options = options(wire.string()?)?;
        let (_extensions, _reserved) = (wire.string()?, wire.string()?);
        let authority = Key::of_blob(wire.string()?)?;
        let signed = &blob[..blob.len() - wire.rest().len()];
        let signature = wire.string()?;
        wire.end()?;
        Some(Self { key, kind, principals, valid_after, valid_before, options, authority, signed, signature })
    }
}

fn strings(bytes: &[u8]) -> Option<Vec<&str>> {
    let mut wire = Wire::of(bytes);
    let mut strings = Vec::new();
    while wire.end().is_none() {
        strings.push(wire.text()?);
    }
    (strings.len() <= MOST_PRINCIPALS).then_some(strings)
}

fn options(bytes: &[u8]) -> Option<Vec<(&str, &[u8])>> {
    let mut wire = Wire::of(bytes);
    let mut options = Vec::new();
    while wire.end().is_none() {
        options.push((wire.text()?, wire.string()?));
    }
    Some(options)
}
