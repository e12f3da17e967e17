//! For tests: a package manager that plays one transaction, of which the test says how it goes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::blame::Blame;
use super::fault::Fault;
use super::solve::{Policy, Rules, Task};
use super::tool::{Database, Mark, Tool};
use super::{Install, Observed, Order, Transaction};
use crate::host::{Error, Reader, Writer};

/// What is there, and how the transaction goes.
#[derive(Debug, Clone, Default)]
pub struct Play {
    /// What is there.
    pub there: BTreeMap<String, Observed>,
    /// What is held.
    pub held: BTreeSet<String>,
    /// What is there after it.
    pub comes: Vec<(String, Observed)>,
    /// What it prints.
    pub blame: Blame,
    /// It was done.
    pub is_over: bool,
    /// An end is asked for with it.
    pub stops: Option<Arc<AtomicBool>>,
    /// Why nothing more can be planned after it.
    pub later: Option<Fault>,
    /// Why what it left cannot be taken back.
    pub spoils: Option<Fault>,
}

thread_local! {
    static STAGE: RefCell<Play> = RefCell::default();
}

impl Play {
    /// One in which this `comes` of the transaction, which prints who is to `blame`.
    pub fn of(comes: &[(&str, Observed)], blame: Blame) -> Self {
        let comes = comes.iter().map(|(name, seen)| ((*name).to_owned(), seen.clone())).collect();
        Self { comes, blame, ..Self::default() }
    }

    /// Has it played on this thread.
    pub fn begin(self) {
        STAGE.set(self);
    }

    /// How it ended.
    pub fn end() -> Self {
        STAGE.take()
    }
}

/// Not there.
pub fn gone() -> Observed {
    Observed::Absent { config_files: false }
}

/// There, wanted for itself, not held.
pub fn there() -> Observed {
    let (version, architecture) = ("1.0".to_owned(), "all".to_owned());
    let (essential, automatic, held) = (false, false, Some(false));
    Observed::Installed { version, architecture, essential, automatic, held, order: Order::Deb }
}

/// Plays what [`Play::begin`] put on the stage.
pub struct Played;

impl Database for Play {
    fn canonical<'a>(&self, name: &'a str) -> &'a str {
        name
    }

    fn observed(&self, name: &str) -> Observed {
        let mut seen = self.there.get(name).cloned().unwrap_or_else(gone);
        if let Observed::Installed { held, .. } = &mut seen {
            *held = Some(self.held.contains(name));
        }
        seen
    }

    fn is_held(&self, name: &str) -> bool {
        self.held.contains(name)
    }
}

impl Tool for Played {
    type Database = Play;
    const RULES: Rules = Rules { order: Order::Deb, is_name: |_| true };

    fn read(_: &Reader) -> Result<Play, Error> {
        Ok(STAGE.with_borrow(Play::clone))
    }

    fn policies(_: &Reader, _: &Play, names: &[&str]) -> Result<HashMap<String, Policy>, Fault> {
        let one = || Policy { candidate: Some("1.0".to_owned()), versions: vec![("1.0".to_owned(), 500)] };
        Ok(names.iter().map(|name| ((*name).to_owned(), one())).collect())
    }

    fn simulate(_: &Reader, database: &Play, tasks: &[&Task]) -> Result<Transaction, Fault> {
        let comes = |task: &&Task| Install { name: task.name.clone(), from: None, to: "1.0".to_owned() };
        match &database.later {
            Some(fault) if database.is_over => Err(fault.clone()),
            _ => Ok(Transaction { install: tasks.iter().map(comes).collect(), ..Transaction::default() }),
        }
    }

    fn ready(_: &mut Writer, _: &[&str]) -> Result<String, Fault> {
        Ok(String::new())
    }

    fn update(_: &mut Writer) -> Result<(), Fault> {
        Ok(())
    }

    fn download(_: &mut Writer, _: &[&Task]) -> Result<(), Fault> {
        Ok(())
    }

    fn perform(_: &mut Writer, _: &[&Task], _: &[&str]) -> Result<String, Fault> {
        STAGE.with_borrow_mut(|play| {
            for (name, seen) in std::mem::take(&mut play.comes) {
                // As apt does.
                play.held.remove(&name);
                play.there.insert(name, seen);
            }
            play.is_over = true;
            if let Some(flag) = &play.stops {
                flag.store(true, Ordering::SeqCst);
            }
        });
        Ok("played".to_owned())
    }

    fn blame(log: &str) -> Blame {
        if log.is_empty() { Blame::default() } else { STAGE.with_borrow(|play| play.blame.clone()) }
    }

    fn refusal(log: &str) -> Fault {
        Fault::new("package-failed", log)
    }

    fn take_back(_: &mut Writer, _: &dyn Fn(&str) -> bool, _: &[&str]) -> Result<(), Fault> {
        STAGE.with_borrow(|play| play.spoils.clone()).map_or(Ok(()), Err)
    }

    fn mark(_: &mut Writer, mark: Mark, names: &[&str]) -> Result<(), Fault> {
        STAGE.with_borrow_mut(|play| {
            for name in names {
                match mark {
                    Mark::Hold => drop(play.held.insert((*name).to_owned())),
                    Mark::Unhold => drop(play.held.remove(*name)),
                    Mark::Manual | Mark::Auto => {}
                }
            }
        });
        Ok(())
    }
}
