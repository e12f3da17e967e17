//! What a package manager is asked, in which words it is told. The story that asks is the same for all: `converge`.

use std::collections::HashMap;

use super::blame::Blame;
use super::fault::Fault;
use super::solve::{Policy, Rules, Task};
use super::{Observed, Transaction};
use crate::host::{Error, Reader, Writer};

/// One package manager. Chosen at compile time: who uses one names it, through `backend`.
pub trait Tool {
    /// What it has written down about what is installed.
    type Database: Database;
    /// What its names and versions are like.
    const RULES: Rules;

    /// Reads what is installed.
    fn read(host: &Reader) -> Result<Self::Database, Error>;

    /// The versions that it could install of `names`; those it does not know are missing. Writes nothing.
    fn policies(host: &Reader, database: &Self::Database, names: &[&str]) -> Result<HashMap<String, Policy>, Fault>;

    /// Why no package of this name can be installed on this host, whatever its sources have.
    fn cannot_have(_host: &Reader, _database: &Self::Database, _name: &str) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// What it would do for `tasks`. Writes nothing.
    fn simulate(host: &Reader, database: &Self::Database, tasks: &[&Task]) -> Result<Transaction, Fault>;

    /// Waits until nobody else is at work, and mends what an interrupted run left behind, without starting the units
    /// that are `withheld`. Answers with all that was printed by what mended it.
    fn ready(host: &mut Writer, withheld: &[&str]) -> Result<String, Fault>;

    /// Fetches the indexes of all package sources.
    fn update(host: &mut Writer) -> Result<(), Fault>;

    /// Fetches the packages that `tasks` need into its own cache.
    fn download(host: &mut Writer, tasks: &[&Task]) -> Result<(), Fault>;

    /// Does the transaction, without starting the units that are `withheld`, and answers with all that was printed.
    /// How it ended shows in what is there.
    fn perform(host: &mut Writer, tasks: &[&Task], withheld: &[&str]) -> Result<String, Fault>;

    /// Who did not get through a transaction that printed `log`, by the names that it prints.
    fn blame(log: &str) -> Blame;

    /// What failed in a transaction that printed `log` without keeping anything from being done: by the names that it prints,
    /// with the package's own words.
    fn warnings(_log: &str) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Why a transaction that printed `log`, and names nobody, did not get through.
    fn refusal(log: &str) -> Fault;

    /// Takes away again what came half-way, where nothing else is done before that is whole: nothing but what `came`.
    fn take_back(_host: &mut Writer, _came: &dyn Fn(&str) -> bool, _withheld: &[&str]) -> Result<(), Fault> {
        Ok(())
    }

    /// Marks packages that are installed.
    fn mark(host: &mut Writer, mark: Mark, names: &[&str]) -> Result<(), Fault>;
}

/// What is installed, as the package manager knows it.
pub trait Database {
    /// The name that the package manager prints: an architecture is part of it only where it is a foreign one.
    fn canonical<'a>(&self, name: &'a str) -> &'a str;

    /// The package of this name: of the native architecture, unless the name says otherwise.
    fn observed(&self, name: &str) -> Observed;

    /// Kept as it is, by whomever; also where that is "not installed".
    fn is_held(&self, name: &str) -> bool;

    /// Why no package can be held at its version on this host, if none can.
    fn cannot_hold(&self) -> Option<&'static str> {
        None
    }
}

/// What can be said of an installed package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Kept at its version.
    Hold,
    /// Kept no more.
    Unhold,
    /// Wanted for itself.
    Manual,
    /// There for something else, and goes with that.
    Auto,
}
