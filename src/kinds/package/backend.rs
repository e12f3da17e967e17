use std::collections::{BTreeMap, BTreeSet};

use super::apt::{self, Apt};
use super::dnf::{self, Dnf, Five, Four, Spoken};
use super::{Observed, Package, Spec, Transaction, converge};
use crate::host::{Error, Reader, Writer};
use crate::kinds::Job;
use crate::model::Family;

/// The package manager of this host. Closed: a new one is one module and its word in each `match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backend {
    /// apt and dpkg.
    Apt,
    /// dnf and rpm.
    Dnf(Spoken),
}

/// Package managers that are known by sight but not spoken to, and the program that shows each.
const OTHERS: &[(&str, &str)] =
    &[("/usr/bin/zypper", "zypper and rpm"), ("/usr/bin/pacman", "pacman"), ("/sbin/apk", "apk")];

impl Backend {
    /// Chosen by the family that the host says it is of; where nobody knows that, by what it has.
    pub(super) fn of(host: &Reader) -> Result<Self, Error> {
        let has = |path: &str| host.below_root(path).exists();
        let has_apt = has("/usr/bin/dpkg") && has("/usr/bin/apt-get");
        let dnf = dnf::spoken(host).filter(|_| has("/usr/bin/rpm")).map(Self::Dnf);
        let unknown = |why: String| Err(Error::Unknown { thing: "packages".to_owned(), why });
        let family = match host.facts() {
            Ok(facts) => facts.os.and_then(|os| os.family),
            Err(error) => return unknown(error.to_string()),
        };
        match (family, dnf) {
            (Some(Family::Debian) | None, _) if has_apt => Ok(Self::Apt),
            (Some(Family::Debian), _) => {
                unknown("this host says it is of Debian's kin, but has no apt-get or dpkg".to_owned())
            }
            (Some(Family::Redhat) | None, Some(dnf)) => Ok(dnf),
            (Some(Family::Redhat), None) => {
                unknown("this host says it is of Fedora's kin, but has neither dnf5 nor dnf-3, or no rpm".to_owned())
            }
            (Some(Family::Suse | Family::Arch) | None, _) => {
                unknown(OTHERS.iter().find(|(program, _)| has(program)).map_or_else(
                    || "no package manager was found on this host".to_owned(),
                    |(_, family)| {
                        format!("packages of {family} are not supported yet; only those of apt and of dnf are")
                    },
                ))
            }
        }
    }

    pub(super) fn observe(self, host: &Reader, names: &[&str]) -> Result<Vec<Result<Observed, Error>>, Error> {
        match self {
            Self::Apt => apt::observe(host, names),
            Self::Dnf(Spoken::Four) => dnf::observe::<Four>(host, names),
            Self::Dnf(Spoken::Five) => dnf::observe::<Five>(host, names),
        }
    }

    pub(super) fn provided(
        self,
        host: &Reader,
        names: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
        match self {
            Self::Apt => apt::provided(host, names),
            Self::Dnf(_) => dnf::provided(host, names),
        }
    }

    pub(super) fn apply(
        self,
        host: &mut Writer,
        jobs: &[Job<'_, Package>],
        resting: &[&str],
        withheld: &[&str],
    ) -> Vec<Result<(), Error>> {
        match self {
            Self::Apt => converge::apply::<Apt>(host, jobs, resting, withheld),
            Self::Dnf(Spoken::Four) => converge::apply::<Dnf<Four>>(host, jobs, resting, withheld),
            Self::Dnf(Spoken::Five) => converge::apply::<Dnf<Five>>(host, jobs, resting, withheld),
        }
    }

    pub(super) fn simulate(
        self,
        host: &Reader,
        jobs: &[(&str, &Spec, &Observed)],
        resting: &[&str],
    ) -> Result<Transaction, Error> {
        match self {
            Self::Apt => converge::simulate::<Apt>(host, jobs, resting),
            Self::Dnf(Spoken::Four) => converge::simulate::<Dnf<Four>>(host, jobs, resting),
            Self::Dnf(Spoken::Five) => converge::simulate::<Dnf<Five>>(host, jobs, resting),
        }
    }

    pub(super) fn refresh_index(self, host: &mut Writer) -> Result<(), Error> {
        match self {
            Self::Apt => converge::refresh_index::<Apt>(host),
            Self::Dnf(Spoken::Four) => converge::refresh_index::<Dnf<Four>>(host),
            Self::Dnf(Spoken::Five) => converge::refresh_index::<Dnf<Five>>(host),
        }
    }
}
