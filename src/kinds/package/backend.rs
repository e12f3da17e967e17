use super::{Observed, Package, Spec, Transaction, apt};
use crate::host::{Error, Reader, Writer};
use crate::kinds::Job;

/// The package manager of this host. Closed: a new one is one module and its word in each `match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backend {
    /// apt and dpkg.
    Apt,
}

/// Package managers that are known by sight but not spoken to, and the program that shows each.
const OTHERS: &[(&str, &str)] = &[
    ("/usr/bin/dnf", "dnf and rpm"),
    ("/usr/bin/zypper", "zypper and rpm"),
    ("/usr/bin/pacman", "pacman"),
    ("/sbin/apk", "apk"),
    ("/usr/bin/rpm", "rpm"),
];

impl Backend {
    /// Chosen by what the host has, rather than by what it calls itself.
    pub(super) fn of(host: &Reader) -> Result<Self, Error> {
        let has = |path: &str| host.below_root(path).exists();
        if has("/usr/bin/dpkg") && has("/usr/bin/apt-get") {
            return Ok(Self::Apt);
        }
        let why = OTHERS.iter().find(|(program, _)| has(program)).map_or_else(
            || "no package manager was found on this host".to_owned(),
            |(_, family)| format!("packages of {family} are not supported yet; only those of apt and dpkg are"),
        );
        Err(Error::Unknown { thing: "packages".to_owned(), why })
    }

    pub(super) fn observe(self, host: &Reader, names: &[&str]) -> Result<Vec<Observed>, Error> {
        match self {
            Self::Apt => apt::observe(host, names),
        }
    }

    pub(super) fn apply(self, host: &mut Writer, jobs: &[Job<'_, Package>]) -> Vec<Result<(), Error>> {
        match self {
            Self::Apt => apt::apply(host, jobs),
        }
    }

    pub(super) fn simulate(self, host: &Reader, jobs: &[(&str, &Spec, &Observed)]) -> Result<Transaction, Error> {
        match self {
            Self::Apt => apt::simulate(host, jobs),
        }
    }

    pub(super) fn refresh_index(self, host: &mut Writer) -> Result<(), Error> {
        match self {
            Self::Apt => apt::refresh_index(host),
        }
    }
}
