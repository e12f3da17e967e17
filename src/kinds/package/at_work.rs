//! Who is at work with packages: one question for all package managers. Where it cannot be told that is an error, and never
//! "nobody".

use super::{apt, dnf, transient};
use crate::host::{Error, Reader};

/// Who that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtWork {
    /// Nobody.
    Nobody,
    /// A transaction of this trueup, or of one that was killed: it is waited for, and goes on from there.
    Ours,
    /// Somebody else, by name.
    Theirs(String),
}

impl AtWork {
    /// Who it is now.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn now(host: &Reader) -> Result<Self, Error> {
        Self::of(transient::running(host), || Ok(apt::lock_holder(host)?.or(dnf::at_work(host)?)))
    }

    /// A transaction of ours holds the locks of the package manager itself.
    fn of(
        running: Result<Vec<String>, Error>,
        holder: impl FnOnce() -> Result<Option<String>, Error>,
    ) -> Result<Self, Error> {
        match running?.is_empty() {
            false => Ok(Self::Ours),
            true => Ok(holder()?.map_or(Self::Nobody, Self::Theirs)),
        }
    }
}

/// Nobody is at work with packages, and that is known: what is there is whole.
pub fn nobody_is_at_work(host: &Reader) -> bool {
    matches!(AtWork::now(host), Ok(AtWork::Nobody))
}

/// No transaction of ours goes on, and that is known.
pub fn none_of_ours_is_at_work(host: &Reader) -> bool {
    matches!(AtWork::now(host), Ok(AtWork::Nobody | AtWork::Theirs(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_told_is_not_nobody() {
        let unknown = || Error::Unknown { thing: "systemctl".to_owned(), why: "no answer".to_owned() };
        let ours = || Ok(vec!["trueup-packages-1-0".to_owned()]);
        let holder = || Ok(Some("apt-get (pid 812)".to_owned()));
        assert_eq!(AtWork::of(Ok(Vec::new()), || Ok(None)).ok(), Some(AtWork::Nobody));
        assert_eq!(AtWork::of(Ok(Vec::new()), holder).ok(), Some(AtWork::Theirs("apt-get (pid 812)".to_owned())));
        assert_eq!(AtWork::of(ours(), holder).ok(), Some(AtWork::Ours), "it is ours that holds the lock");
        assert!(AtWork::of(Err(unknown()), || Ok(None)).is_err());
        assert!(AtWork::of(Ok(Vec::new()), || Err(unknown())).is_err());
    }

    #[test]
    fn a_lock_that_cannot_be_looked_at_is_not_free() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let host = Reader::directory(root.path()).expect("a directory");
        assert!(nobody_is_at_work(&host), "nothing is installed there");
        let lock = root.path().join("var/lib/dpkg/lock");
        std::fs::DirBuilder::new().recursive(true).create(&lock).expect("made");
        assert!(!nobody_is_at_work(&host));
        assert!(AtWork::now(&host).is_err());
    }
}
