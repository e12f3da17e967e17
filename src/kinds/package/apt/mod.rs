//! apt and dpkg: Debian and its kin.

mod answers;
mod command;
mod database;
mod provided;
mod version;

use std::collections::HashMap;

pub use self::database::Database;
pub use self::provided::provided;
pub use self::version::compare;
use super::at_work::AtWork;
use super::blame::Blame;
use super::fault::{self, Fault};
use super::solve::{Policy, Rules, Task};
use super::tool::{self, Mark, Tool};
use super::{Observed, Order, Transaction, transient};
use crate::host::{Error, Reader, Writer};
use crate::model::one_line;

/// Locked by whoever is at work with packages, dpkg-frontend(7) first.
const LOCKS: &[&str] = &["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"];

/// The architectures that dpkg takes packages of, one a line; not there while only its own is. See dpkg(1),
/// `--add-architecture`.
const ARCHITECTURES: &str = "/var/lib/dpkg/arch";

/// What is installed under `names`.
pub fn observe(host: &Reader, names: &[&str]) -> Result<Vec<Result<Observed, Error>>, Error> {
    let database = Database::read(host)?;
    let look = |name: &&str| match tool::Database::observed(&database, name) {
        Observed::Absent { .. } if is_name(name) && database.is_lost(host, name) => Err(lost(name)),
        seen => settled(name, seen, || AtWork::now(host)),
    };
    Ok(names.iter().map(look).collect())
}

fn lost(name: &str) -> Error {
    let name = one_line(name, 80);
    let why = format!(
        "dpkg has files of it and does not know it: /var/lib/dpkg/status is not whole; its predecessors are status-old \
         beside it and dpkg.status.* in /var/backups, and `apt-get install --reinstall {name}` makes it known again"
    );
    Error::Unknown { thing: format!("package:{name}"), why }
}

/// What is half there while somebody is at work is on its way, and will be another by the next look.
fn settled(name: &str, seen: Observed, at_work: impl Fn() -> Result<AtWork, Error>) -> Result<Observed, Error> {
    let Observed::Broken { status, .. } = &seen else { return Ok(seen) };
    match at_work() {
        // From what a transaction of ours has left so far it goes on.
        Ok(AtWork::Nobody | AtWork::Ours) => Ok(seen),
        Ok(AtWork::Theirs(holder)) => {
            Err(fault::later(&format!("package:{name}"), &format!("it is {status} while "), &holder))
        }
        Err(error) => {
            let why = format!("it is {status}, and whether anybody is at work with it is not known: {}", error.chain());
            Err(Error::Unknown { thing: format!("package:{name}"), why })
        }
    }
}

/// Whoever holds dpkg's lock now.
///
/// # Errors
/// Where a lock cannot be looked at.
pub(super) fn lock_holder(host: &Reader) -> Result<Option<String>, Error> {
    transient::holder_of(host, LOCKS)
}

/// apt-get(8) and its like.
pub struct Apt;

impl Tool for Apt {
    type Database = Database;
    const RULES: Rules = Rules { order: Order::Deb, is_name };

    fn read(host: &Reader) -> Result<Database, Error> {
        Database::read(host)
    }

    fn policies(host: &Reader, _: &Database, names: &[&str]) -> Result<HashMap<String, Policy>, Fault> {
        command::policy(host, names)
    }

    fn cannot_have(host: &Reader, database: &Database, name: &str) -> Result<Option<String>, Error> {
        let Some((_, architecture)) = tool::Database::canonical(database, name).split_once(':') else {
            return Ok(None);
        };
        let known = host.read(ARCHITECTURES, 4096)?.unwrap_or_default();
        Ok(strange(architecture, &String::from_utf8_lossy(&known)))
    }

    fn simulate(host: &Reader, _: &Database, tasks: &[&Task]) -> Result<Transaction, Fault> {
        command::simulate(host, tasks)
    }

    fn ready(host: &mut Writer, withheld: &[&str]) -> Result<String, Fault> {
        command::ready(host, withheld)
    }

    fn update(host: &mut Writer) -> Result<(), Fault> {
        command::update(host)
    }

    fn download(host: &mut Writer, tasks: &[&Task]) -> Result<(), Fault> {
        command::download(host, tasks)
    }

    fn perform(host: &mut Writer, tasks: &[&Task], withheld: &[&str]) -> Result<String, Fault> {
        command::perform(host, tasks, withheld)
    }

    fn blame(log: &str) -> Blame {
        answers::blame(log)
    }

    fn refusal(log: &str) -> Fault {
        answers::refusal(log, "")
    }

    fn take_back(host: &mut Writer, came: &dyn Fn(&str) -> bool, withheld: &[&str]) -> Result<(), Fault> {
        command::take_back(host, came, withheld)
    }

    fn mark(host: &mut Writer, mark: Mark, names: &[&str]) -> Result<(), Fault> {
        command::mark(host, mark, names)
    }
}

/// Why nothing of the foreign `architecture` can be installed where dpkg has these, one a line. A source may list it all the
/// same, and apt plans it.
fn strange(architecture: &str, known: &str) -> Option<String> {
    let is_known = known.lines().any(|line| line.trim() == architecture);
    let architecture = one_line(architecture, 40);
    let why =
        || format!("this host has no packages of {architecture}: `dpkg --add-architecture {architecture}` allows them");
    (!is_known).then(why)
}

/// A name as Debian policy 5.6.1 has it, with an architecture perhaps: nothing that apt takes for an
/// option, a pattern or a wish to remove.
fn is_name(name: &str) -> bool {
    let (bare, architecture) = name.split_once(':').unwrap_or((name, "any"));
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bare.len() >= 2
        && bare.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && bare.bytes().all(|b| plain(b) || b"+.-".contains(&b))
        && !architecture.is_empty()
        && architecture.bytes().all(|b| plain(b) || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_half_there_is_drift_only_where_nobody_is_at_work() {
        let half = || Observed::Broken { status: "half-configured".into(), version: "1.0".into(), essential: false };
        let theirs = || Ok(AtWork::Theirs("apt-get (pid 812)".to_owned()));
        let unknown = || Err(Error::Unknown { thing: "systemctl".to_owned(), why: "no answer".to_owned() });
        assert_eq!(settled("a", half(), || Ok(AtWork::Nobody)).ok(), Some(half()));
        assert_eq!(settled("a", half(), || Ok(AtWork::Ours)).ok(), Some(half()), "it is waited for, and gone on from");
        let error = settled("a", half(), theirs).expect_err("looked at later");
        assert_eq!(error.reason(), "package-lock-held");
        assert_eq!(settled("a", half(), unknown).expect_err("nor is it mended blindly").reason(), "cannot-tell");
        let gone = || Observed::Absent { config_files: false };
        assert_eq!(settled("a", gone(), theirs).ok(), Some(gone()));
    }

    #[test]
    fn of_an_architecture_that_dpkg_does_not_take_nothing_can_be_installed() {
        assert_eq!(strange("i386", "amd64\ni386\n"), None);
        for known in ["", "amd64\n", "amd64\nhurd-i386\n"] {
            let why = strange("i386", known).expect("refused");
            assert!(why.contains("dpkg --add-architecture i386"), "{why}");
        }
    }

    #[test]
    fn what_apt_would_take_for_something_else_is_no_name() {
        for name in ["", "-y", "a", "a*", "alpha=1.0", "--purge", "Alpha", "alpha beta", "alpha/x", "alpha:", "a.*:b/"]
        {
            assert!(!is_name(name), "{name:?}");
        }
        for name in ["g++-12", "libm:i386", "0ad", "xx:kfreebsd-amd64"] {
            assert!(is_name(name), "{name:?}");
        }
    }
}
