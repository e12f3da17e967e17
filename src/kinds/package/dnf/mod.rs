//! dnf and rpm: Fedora and its kin. It is the fourth dnf that is spoken to, `dnf-3`, also where a fifth is
//! installed beside it.

mod answers;
mod command;
mod database;
mod version;

use std::collections::HashMap;

pub use self::command::at_work;
pub use self::database::{Database, Written, has_database, observe, sound, written_last};
pub use self::version::compare;
use super::fault::{Fault, Remedy};
use super::solve::{Policy, Rules, Task};
use super::tool::{Mark, Tool};
use super::{Order, Transaction, transient};
use crate::host::{Error, Reader, Writer};

/// The program, by the name that it has wherever it is.
pub const PROGRAM: &str = "/usr/bin/dnf-3";

/// dnf(8) and rpm(8).
pub struct Dnf;

impl Tool for Dnf {
    type Database = Database;
    const RULES: Rules = Rules { order: Order::Rpm, is_name };

    fn read(host: &Reader) -> Result<Database, Error> {
        Database::read(host)
    }

    fn policies(host: &Reader, database: &Database, names: &[&str]) -> Result<HashMap<String, Policy>, Fault> {
        match command::available(host, names) {
            Ok(text) => answers::policies(&text, database.native()),
            // Without any index nothing is known of any name, which a fresh one may change.
            Err(fault) if fault.remedy == Remedy::Refresh => Ok(HashMap::new()),
            Err(fault) => Err(fault),
        }
    }

    fn simulate(host: &Reader, database: &Database, tasks: &[&Task]) -> Result<Transaction, Fault> {
        let mut transaction = match command::simulate(host, tasks, false) {
            Err(fault) if fault.reason == "unresolvable" => return Err(instead(host, tasks, database, fault)),
            answer => answer?,
        };
        answers::complete(&mut transaction, database);
        answers::keeps_to(&transaction, tasks)?;
        Ok(transaction)
    }

    fn ready(host: &mut Writer, _withheld: &[&str]) -> Result<(), Fault> {
        transient::after_ours(host)?;
        command::forget_stale_locks(host)?;
        // A look takes no lock, and would see what somebody has done one half of.
        transient::alone(host, command::at_work)
    }

    fn update(host: &mut Writer) -> Result<(), Fault> {
        command::update(host)
    }

    fn download(host: &mut Writer, tasks: &[&Task]) -> Result<(), Fault> {
        command::download(host, tasks)
    }

    fn perform(host: &mut Writer, tasks: &[&Task], _withheld: &[&str]) -> Result<String, Fault> {
        command::perform(host, tasks)
    }

    fn failure_of(name: &str, log: &str) -> Fault {
        answers::failure_of(name, log)
    }

    fn mark(host: &mut Writer, mark: Mark, names: &[&str]) -> Result<(), Fault> {
        command::mark(host, mark, names)
    }
}

/// Why `tasks` cannot be done: what dnf says, or, where it could do them by removing something, what that is.
fn instead(host: &Reader, tasks: &[&Task], database: &Database, fault: Fault) -> Fault {
    let Ok(mut erasing) = command::simulate(host, tasks, true) else { return fault };
    answers::complete(&mut erasing, database);
    erasing.remove.retain(|name| !tasks.iter().any(|task| task.name == *name));
    if erasing.remove.is_empty() {
        return fault;
    }
    let gone = crate::model::one_line(&erasing.remove.join(", "), 300);
    Fault::new("removes-undeclared", format!("that would also remove {gone}, which is not declared absent"))
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
