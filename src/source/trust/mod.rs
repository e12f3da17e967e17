//! Whom a commit is believed: its signature, the files that say who may sign, and the rule by which those change.
//! Pure: bytes and times in, a verdict out.
//!
//! The time of a commit is chosen by whoever signs it. So a key has to be valid then *and* now, by the clock of this
//! host: neither a backdated commit by a key that expired is believed, nor one that is dated into the time of a key to
//! come.
//!
//! What is not understood is refused: the line of a file, an option, a second signature. [`verify`] judges one commit,
//! [`chain`] all since one that is believed.

mod allowed;
mod armor;
pub mod chain;
mod commit;
#[cfg(not(feature = "openpgp"))]
mod no_openpgp;
#[cfg(feature = "openpgp")]
mod openpgp;
mod refusal;
mod revoked;
mod signers;
mod ssh;

#[cfg(not(feature = "openpgp"))]
use no_openpgp as openpgp;

use self::armor::Armor;
use self::commit::Commit;
use crate::model::Zone;

pub use refusal::Refusal;
pub use revoked::Revoked;
pub use signers::Signers;

/// Whom to believe.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Who may sign.
    pub signers: Signers,
    /// Which keys may not, whoever has them.
    pub revoked: Revoked,
}

/// A commit is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Who signed it: the principals of an `allowed_signers` line as they are written there, what a certificate names,
    /// or the user id of an OpenPGP key. Escaped and bounded.
    pub principal: String,
    /// Of the key, as its own tools write it; of the primary key, where a subkey of OpenPGP signed.
    pub fingerprint: String,
    /// Every key that this rests on, by fingerprint: the one that signed, and whose word makes it good.
    pub keys: Vec<String>,
    /// With what.
    pub kind: SignatureKind,
}

/// With what a commit is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureKind {
    /// An SSH key.
    Ssh,
    /// An SSH key, by its certificate.
    SshCertificate,
    /// An OpenPGP key.
    OpenPgp,
}

/// Whether `commit`, as Git hashes it by `hash` and without the header of the object, is signed by somebody whom
/// `trust` names. `now` is the clock of this host, in seconds since 1970.
///
/// # Errors
/// Why it is not believed.
pub fn verify(commit: &[u8], hash: gix_hash::Kind, trust: &Trust, now: i64) -> Result<Signed, Refusal> {
    believe(commit, hash, &trust.signers, &trust.revoked, now)
}

fn believe(
    commit: &[u8],
    hash: gix_hash::Kind,
    signers: &Signers,
    revoked: &Revoked,
    now: i64,
) -> Result<Signed, Refusal> {
    let commit = Commit::of(commit, hash)?;
    let signature = commit.signature()?;
    let times = Times { committed: commit.committed, now };
    match armor::kind(&signature.armored) {
        Some(Armor::Ssh) => {
            let signer = ssh::verify(&signature.armored, &signature.payload)?;
            let keys: Vec<String> = signer.fingerprints().collect();
            revoked.check(keys.clone())?;
            let principal = allowed::who(signers.ssh(), &signer, times, signers.files())?;
            let certified = signer.certificate.is_some();
            let kind = if certified { SignatureKind::SshCertificate } else { SignatureKind::Ssh };
            Ok(Signed { principal, fingerprint: signer.key.fingerprint(), keys, kind })
        }
        Some(Armor::OpenPgp) => openpgp::verify(&signature, signers, revoked, times),
        None => {
            Err(Refusal::UnknownSignature("is neither of SSH nor of OpenPGP; sign with a key of either".to_owned()))
        }
    }
}

/// When a signature has to hold.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// When the committer says that it was made.
    committed: i64,
    /// By the clock of this host.
    now: i64,
}

impl Times {
    /// Whether both lie from `from` to `to`, these included, the validity of `key` that `place` tells.
    ///
    /// # Errors
    /// `not-yet-valid-key`, `expired-key`: with `remedy`.
    fn within(self, key: &str, from: Option<i64>, to: Option<i64>, place: &str, remedy: &str) -> Result<(), Refusal> {
        let said = |at: i64| format!("{} UTC", Zone::utc().stamp(at));
        let (key, [(earlier, early), (later, late)]) = (key.to_owned(), self.in_order());
        if let Some(from) = from.filter(|from| earlier < *from) {
            let why = format!("which is valid from {} on ({place}), and {early}; {remedy}", said(from));
            return Err(Refusal::NotYetValidKey { key, why });
        }
        if let Some(to) = to.filter(|to| later > *to) {
            let why = format!("which was valid until {} ({place}), and {late}; {remedy}", said(to));
            return Err(Refusal::ExpiredKey { key, why });
        }
        Ok(())
    }

    /// The earlier and the later, with what to call them.
    fn in_order(self) -> [(i64, String); 2] {
        let said = |at: i64| format!("{} UTC", Zone::utc().stamp(at));
        let committed = (self.committed, format!("the commit says that it was made {}", said(self.committed)));
        let now = (self.now, format!("it is {} now", said(self.now)));
        if self.committed <= self.now { [committed, now] } else { [now, committed] }
    }
}

#[cfg(test)]
mod tests;
