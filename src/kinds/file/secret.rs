//! Content that may be seen on the host at its own path and nowhere else.

use super::{Before, Sealed, Spec, What};
use crate::host::{Error, Payloads, Reader};
use crate::model::Digest;
use crate::secret::{Keys, Locked, Plain};

/// What a payload holds that is kept encrypted, and that `thing` cannot do without; it has to be `content`.
///
/// # Errors
/// Where it is not to be had, or there is no key for it.
pub(super) fn open(
    keys: &dyn Keys,
    payloads: &Payloads,
    thing: &str,
    (content, sealed): (&Digest, Sealed),
) -> Result<Plain, Error> {
    let encrypted = payloads.need(&sealed.0, thing)?;
    let plain = keys.open(&encrypted).map_err(|locked| Error::locked(thing, &locked))?;
    if Digest::of(&plain) == *content {
        return Ok(plain);
    }
    Err(Error::locked(thing, &Locked::Damaged("our own copy of it is not whole".to_owned())))
}

/// The content that `want` has at `name`, where it is a regular file.
///
/// # Errors
/// Where it is not to be had.
pub fn content(host: &Reader, payloads: &Payloads, name: &str, want: &Spec) -> Result<Option<Plain>, Error> {
    match (&want.what, want.secret) {
        (What::Regular { content, .. }, Some(sealed)) => {
            open(&*host.keyring(), payloads, name, (content, sealed)).map(Some)
        }
        (What::Regular { content, .. }, None) => payloads.need(content, name).map(|all| Some(all.to_vec().into())),
        _ => Ok(None),
    }
}

/// `content`, which stood at `name`, as it is to be kept: encrypted to this host; and `before` with that.
///
/// # Errors
/// Where this host has no key.
pub fn sealed(host: &Reader, name: &str, before: Before, content: &[u8]) -> Result<(Before, Vec<u8>), Error> {
    let encrypted = seal(host, name, content)?;
    Ok((before.sealed(Digest::of(&encrypted)), encrypted))
}

/// `content`, which stood at `name`, encrypted to this host.
///
/// # Errors
/// Where this host has no key.
pub fn seal(host: &Reader, name: &str, content: &[u8]) -> Result<Vec<u8>, Error> {
    host.keyring().seal(content).map_err(|locked| Error::Refused {
        thing: name.to_owned(),
        reason: locked.reason(),
        why: format!(
            "what stands there may be a secret, and no copy of it can be encrypted: {locked}; it is left as it is"
        ),
    })
}
