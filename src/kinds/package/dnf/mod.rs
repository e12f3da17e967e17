//! dnf and rpm: Fedora and its kin. What is rpm's is the same for all; in which words dnf is asked, and how it answers,
//! is another matter in its fourth generation (`dnf-3`, written in Python) and in its fifth (`dnf5`).

mod answers;
mod database;
mod five;
mod four;
mod provided;
mod version;
mod work;

use std::collections::HashMap;
use std::marker::PhantomData;
use std::time::Duration;

use self::database::Lock;
pub use self::database::{Database, Written, has_database, observe, sound, written_last};
pub use self::five::Five;
pub use self::four::Four;
pub use self::provided::provided;
pub use self::version::compare;
pub use self::work::at_work;
use super::blame::Blame;
use super::fault::{Fault, Remedy};
use super::solve::{Policy, Rules, Task};
use super::tool::{Mark, Tool};
use super::{Order, Transaction, transient};
use crate::host::{Error, Reader, Writer};

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(180);
/// How long fetching may take: indexes, or the packages of a transaction.
const FETCH: Duration = Duration::from_secs(15 * 60);
/// Only what is known already: no index is fetched, however old it is.
const FROM_CACHE: &str = "-C";
/// No more than what was asked for comes or goes, see dnf.conf(5) and dnf5.conf(5).
const OPTIONS: &[&str] = &["--setopt=install_weak_deps=False", "--setopt=clean_requirements_on_remove=False"];

/// A generation of dnf: its words.
pub trait Generation {
    /// The program, by the name that it has wherever it is.
    const PROGRAM: &'static str;
    /// Where it writes down why packages are installed.
    const REASONS: &'static str;

    /// The versions of `names` that there are in the package sources, one a line: name, version, architecture.
    fn available(host: &Reader, names: &[&str]) -> Result<String, Fault>;

    /// Why each package is installed, one a line: name, architecture, reason. The index is not needed for that.
    fn reasons(host: &Reader) -> Result<String, Error>;

    /// What keeps packages at their versions; `None` where nothing can.
    fn locks(host: &Reader) -> Result<Option<Vec<Lock>>, Error>;

    /// What it would do for `tasks`, without writing anything; `erasing` also by removing what is in their way.
    fn simulate(host: &Reader, tasks: &[&Task], erasing: bool) -> Result<Transaction, Fault>;

    /// Mends what a run that was cut short left in the way of the next.
    fn mend(host: &mut Writer) -> Result<(), Fault>;

    /// Fetches the indexes of all package sources.
    fn update(host: &mut Writer) -> Result<(), Fault>;

    /// Fetches the packages that `tasks` need into its own cache.
    fn download(host: &mut Writer, tasks: &[&Task]) -> Result<(), Fault>;

    /// Does the transaction, and answers with all that was printed. How it ended shows in what is there.
    fn perform(host: &mut Writer, tasks: &[&Task]) -> Result<String, Fault>;

    /// Who did not get through a transaction that printed `log`.
    fn blame(log: &str) -> Blame;

    /// Whose scripts failed in a transaction that printed `log`, and rpm has gone on.
    fn warnings(log: &str) -> Vec<(String, String)>;

    /// Why a transaction that printed `log`, and names nobody, did not get through.
    fn refusal(log: &str) -> Fault;

    /// Marks packages that are installed.
    fn mark(host: &mut Writer, mark: Mark, names: &[&str]) -> Result<(), Fault>;
}

/// Which of them is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// `dnf-3`.
    Four,
    /// `dnf5`.
    Five,
}

/// That which the system itself uses: where its `dnf` leads; or whichever is installed.
pub fn spoken(host: &Reader) -> Option<Spoken> {
    let all = [(Spoken::Five, Five::PROGRAM), (Spoken::Four, Four::PROGRAM)];
    let there = || all.into_iter().filter(|(_, program)| host.below_root(program).exists());
    let own = host.read_link("/usr/bin/dnf").ok().flatten().unwrap_or_default();
    let is_own = |program: &str| program.rsplit('/').next() == own.rsplit('/').next();
    there().find(|(_, program)| is_own(program)).or_else(|| there().next()).map(|(spoken, _)| spoken)
}

/// dnf(8) and rpm(8).
pub struct Dnf<G>(PhantomData<G>);

impl<G: Generation> Tool for Dnf<G> {
    type Database = Database;
    const RULES: Rules = Rules { order: Order::Rpm, is_name };

    fn read(host: &Reader) -> Result<Database, Error> {
        Database::read::<G>(host)
    }

    fn policies(host: &Reader, database: &Database, names: &[&str]) -> Result<HashMap<String, Policy>, Fault> {
        match G::available(host, names) {
            Ok(text) => answers::policies(&text, database.native()),
            // Without any index nothing is known of any name, which a fresh one may change.
            Err(fault) if fault.remedy == Remedy::Refresh => Ok(HashMap::new()),
            Err(fault) => Err(fault),
        }
    }

    fn simulate(host: &Reader, database: &Database, tasks: &[&Task]) -> Result<Transaction, Fault> {
        let mut transaction = match G::simulate(host, tasks, false) {
            Err(fault) if fault.reason == "unresolvable" => return Err(instead::<G>(host, tasks, database, fault)),
            answer => answer?,
        };
        answers::complete(&mut transaction, database);
        answers::keeps_to(&transaction, tasks)?;
        Ok(transaction)
    }

    fn ready(host: &mut Writer, _withheld: &[&str]) -> Result<String, Fault> {
        transient::after_ours(host)?;
        G::mend(host)?;
        // A look takes no lock, and would see what somebody has done one half of.
        transient::alone(host, work::at_work)?;
        // What it mends are no packages.
        Ok(String::new())
    }

    fn update(host: &mut Writer) -> Result<(), Fault> {
        G::update(host)
    }

    fn download(host: &mut Writer, tasks: &[&Task]) -> Result<(), Fault> {
        G::download(host, tasks)
    }

    fn perform(host: &mut Writer, tasks: &[&Task], _withheld: &[&str]) -> Result<String, Fault> {
        G::perform(host, tasks)
    }

    fn blame(log: &str) -> Blame {
        G::blame(log)
    }

    fn warnings(log: &str) -> Vec<(String, String)> {
        G::warnings(log)
    }

    fn refusal(log: &str) -> Fault {
        G::refusal(log)
    }

    fn mark(host: &mut Writer, mark: Mark, names: &[&str]) -> Result<(), Fault> {
        G::mark(host, mark, names)
    }
}

/// Where a look leaves its trace: in our own directory rather than in the system's logs.
fn own_log(host: &Reader) -> impl Iterator<Item = String> {
    let state = host.state();
    let ours = state.path().is_dir().then(|| format!("--setopt=logdir={}", state.path().join("dnf").display()));
    ours.into_iter().chain(["--setopt=log_size=100k", "--setopt=log_rotate=1"].map(str::to_owned))
}

/// What kept an index from being fetched.
fn of_the_index(fault: Fault) -> Fault {
    match fault.reason {
        "download-failed" | "package-failed" => Fault { reason: "index-failed", ..fault },
        _ => fault,
    }
}

/// Why `tasks` cannot be done: what dnf says, or, where it could do them by removing something, what that is.
fn instead<G: Generation>(host: &Reader, tasks: &[&Task], database: &Database, fault: Fault) -> Fault {
    let Ok(mut erasing) = G::simulate(host, tasks, true) else { return fault };
    answers::complete(&mut erasing, database);
    erasing.remove.retain(|name| !tasks.iter().any(|task| task.name == *name));
    if erasing.remove.is_empty() {
        return fault;
    }
    let gone = crate::model::one_line(&erasing.remove.join(", "), 300);
    Fault::new("removes-undeclared", format!("that would also remove {gone}, which is not declared absent"))
}

/// `glibc.i686` of `glibc:i686`.
fn with_architecture(name: &str) -> String {
    name.replacen(':', ".", 1)
}

/// The architecture of this machine, see uname(2).
fn native() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// Letters, digits and `+-._`, with an architecture perhaps: nothing that dnf takes for an option, a pattern, a
/// file or a group.
fn is_name(name: &str) -> bool {
    let (bare, architecture) = name.split_once(':').unwrap_or((name, "any"));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    bare.bytes().next().is_some_and(plain)
        && bare.bytes().all(|b| plain(b) || b"+.-".contains(&b))
        && !architecture.is_empty()
        && architecture.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn what_dnf_would_take_for_something_else_is_no_name() {
        for name in
            ["", "-y", "a*", "alpha=1.0", "--purge", "alpha beta", "/bin/sh", "@core", "alpha:", "a[bc]", "a\nrun"]
        {
            assert!(!is_name(name), "{name:?}");
        }
        for name in ["gcc-c++", "glibc:i686", "NetworkManager", "python3.12", "perl-Foo_Bar", "7zip"] {
            assert!(is_name(name), "{name:?}");
        }
    }
}
