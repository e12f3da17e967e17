//! apt and dpkg: Debian and its kin.

mod answers;
mod command;
mod database;
mod version;

use std::collections::HashMap;

pub use self::database::Database;
pub use self::version::compare;
use super::fault::Fault;
use super::solve::{Policy, Rules, Task};
use super::tool::{self, Mark, Tool};
use super::{Observed, Order, Transaction};
use crate::host::{Error, Reader, Writer};

/// What is installed under `names`.
pub fn observe(host: &Reader, names: &[&str]) -> Result<Vec<Observed>, Error> {
    let database = Database::read(host)?;
    Ok(names.iter().map(|name| tool::Database::observed(&database, name)).collect())
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
        Ok(answers::policy(&command::policy(host, names)?))
    }

    fn simulate(host: &Reader, _: &Database, tasks: &[&Task]) -> Result<Transaction, Fault> {
        command::simulate(host, tasks)
    }

    fn ready(host: &mut Writer) -> Result<(), Fault> {
        command::ready(host)
    }

    fn update(host: &mut Writer) -> Result<(), Fault> {
        command::update(host)
    }

    fn download(host: &mut Writer, tasks: &[&Task]) -> Result<(), Fault> {
        command::download(host, tasks)
    }

    fn perform(host: &mut Writer, tasks: &[&Task]) -> Result<String, Fault> {
        command::perform(host, tasks)
    }

    fn failure_of(name: &str, log: &str) -> Fault {
        answers::failure_of(name, log)
    }

    fn mark(host: &mut Writer, mark: Mark, names: &[&str]) -> Result<(), Fault> {
        command::mark(host, mark, names)
    }
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
    use super::is_name;

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
