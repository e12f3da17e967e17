//! apt and dpkg: Debian and its kin.

mod answers;
mod command;
mod database;
mod solve;
mod version;

pub(super) use version::compare;

use std::collections::{BTreeSet, HashMap};

use self::answers::{Fault, Remedy};
use self::database::Database;
use self::solve::{Action, Open, Settled, Task};
use super::{Observed, Package, Refusal, Spec, Transaction, Version, satisfies};
use crate::host::{Error, Reader, Writer};
use crate::kinds::{Job, Kind};
use crate::model::one_line;

/// What is installed under `names`.
pub(super) fn observe(host: &Reader, names: &[&str]) -> Result<Vec<Observed>, Error> {
    let database = Database::read(host)?;
    Ok(names.iter().map(|name| database.observed(name)).collect())
}

/// Fetches the indexes of all package sources.
pub(super) fn refresh_index(host: &mut Writer) -> Result<(), Error> {
    command::update(host).map_err(|fault| error("package sources", fault))
}

/// What converging `jobs` would do.
pub(super) fn simulate(host: &Reader, jobs: &[(&str, &Spec, &Observed)]) -> Result<Transaction, Error> {
    let database = Database::read(host)?;
    let jobs: Vec<(&str, &Spec)> = jobs.iter().map(|(name, want, _)| (*name, *want)).collect();
    let open = open(&database, &jobs);
    let resolved = Resolved::of(host, &database, &open).map_err(|fault| error("packages", fault))?;
    let settled = resolved.settle(&database, |tasks, allow| {
        let transaction = command::simulate(host, tasks)?;
        allow(&transaction)?;
        Ok(transaction)
    });
    let settled = settled.map_err(|fault| error("packages", fault))?;
    let mut transaction = settled.transaction;
    let failed = settled.failed.iter().filter(|(task, _)| task.action != Action::Release);
    let failed = failed.map(|(task, fault)| (task.index, fault)).chain(resolved.faults.iter().map(|(i, f)| (*i, f)));
    for (index, fault) in failed {
        let name = jobs[index].0.to_owned();
        match fault.remedy {
            Remedy::Refresh => transaction.undecided.push(name),
            _ => transaction.refused.push(Refusal { name, reason: fault.reason, why: fault.why.clone() }),
        }
    }
    Ok(transaction)
}

/// Converges `jobs` in one transaction. What is there afterwards answers for each.
pub(super) fn apply(host: &mut Writer, jobs: &[Job<'_, Package>]) -> Vec<Result<(), Error>> {
    let wants: Vec<(&str, &Spec)> = jobs.iter().map(|job| (job.name, job.want)).collect();
    let mut faults = HashMap::new();
    let all = converge(host, &wants, &mut faults).err();
    let database = match Database::read(host) {
        Ok(database) => database,
        Err(unknown) => {
            let fault = Fault::from(unknown);
            return wants.iter().map(|(name, _)| Err(error(name, fault.clone()))).collect();
        }
    };
    let answer = |(index, (name, want)): (usize, &(&str, &Spec))| {
        let left = Package::diff(want, &database.observed(name));
        let Some(change) = left.first() else { return Ok(()) };
        let fault = faults.get(&index).or(all.as_ref()).cloned();
        Err(error(name, fault.unwrap_or_else(|| Fault::new("package-failed", format!("still to be done: {change}")))))
    };
    wants.iter().enumerate().map(answer).collect()
}

/// The one story of a transaction. `faults` gets what concerns one job alone, by its index.
fn converge(host: &mut Writer, jobs: &[(&str, &Spec)], faults: &mut HashMap<usize, Fault>) -> Result<(), Fault> {
    command::ready(host)?;
    // Looked at again: the lock may have been another's until now.
    let database = Database::read(host)?;
    let open = open(&database, jobs);
    if open.is_empty() {
        return Ok(());
    }
    let mut work = Work::of(&Resolved::of(host, &database, &open)?, host, &database)?;
    if work.faults.values().any(|fault| fault.remedy == Remedy::Refresh) {
        let refreshed = command::update(host);
        work = Work::of(&Resolved::of(host, &database, &open)?, host, &database)?;
        if let Err(stale) = refreshed {
            work.doubt(&stale);
        }
    }
    let Work { accepted, transaction, faults: failed } = work;
    faults.extend(failed);
    if !accepted.is_empty() {
        host.say(&told(&transaction));
        let tasks: Vec<&Task> = accepted.iter().collect();
        let log = command::perform(host, &tasks)?;
        faults.extend(accepted.iter().map(|task| (task.index, answers::failure_of(&task.name, &log))));
    }
    let tried: BTreeSet<usize> = accepted.iter().map(|task| task.index).collect();
    mark(host, &open, &tried)
}

/// The jobs that do not hold, as things are now.
fn open<'a>(database: &Database, jobs: &[(&'a str, &'a Spec)]) -> Vec<Open<'a>> {
    let open = jobs.iter().enumerate().map(|(index, (name, want))| Open {
        index,
        name: database.canonical(name),
        want,
        seen: database.observed(name),
        held: database.is_held(database.canonical(name)),
    });
    open.filter(|open| !Package::diff(open.want, &open.seen).is_empty()).collect()
}

/// What to ask of apt, and what need not be asked.
struct Resolved {
    tasks: Vec<Task>,
    faults: HashMap<usize, Fault>,
    may_go: BTreeSet<String>,
}

impl Resolved {
    fn of(host: &Reader, database: &Database, open: &[Open<'_>]) -> Result<Self, Fault> {
        debug_assert!(open.iter().all(|open| database.canonical(open.name) == open.name));
        let wanted = open.iter().filter(|open| matches!(open.want, Spec::Present { .. }));
        // What cannot be a name is never given to a program, which might take it for an option.
        let names: Vec<&str> = wanted.map(|open| open.name).filter(|name| solve::is_name(name)).collect();
        let policies = match names.is_empty() {
            true => HashMap::new(),
            false => answers::policy(&command::policy(host, &names)?),
        };
        let (mut tasks, mut faults) = (Vec::new(), HashMap::new());
        for open in open {
            match solve::task(open, &policies) {
                Ok(task) => tasks.extend(task),
                Err(fault) => drop(faults.insert(open.index, fault)),
            }
        }
        let gone = open.iter().filter(|open| Package::removes(open.want));
        let may_go = gone.map(|open| open.name.to_owned()).collect();
        Ok(Self { tasks, faults, may_go })
    }

    /// What can be done together. `ask` gets, beside the tasks, the rule that their transaction must keep.
    fn settle(
        &self,
        database: &Database,
        mut ask: impl FnMut(&[&Task], &dyn Fn(&Transaction) -> Result<(), Fault>) -> Result<Transaction, Fault>,
    ) -> Result<Settled<'_>, Fault> {
        solve::settle(&self.tasks, |tasks| {
            ask(tasks, &|transaction| solve::judge(transaction, tasks, &self.may_go, database))
        })
    }
}

/// What can be done together, its packages all at hand, and what cannot.
struct Work {
    accepted: Vec<Task>,
    transaction: Transaction,
    faults: HashMap<usize, Fault>,
}

impl Work {
    fn of(resolved: &Resolved, host: &mut Writer, database: &Database) -> Result<Self, Fault> {
        let settled = resolved.settle(database, |tasks, allow| {
            let transaction = command::simulate(host, tasks)?;
            allow(&transaction)?;
            if !transaction.install.is_empty() {
                host.say(&format!("downloading {}", count(transaction.install.len())));
                command::download(host, tasks)?;
            }
            Ok(transaction)
        })?;
        // What is let go and is still needed is no failure: it is marked automatic.
        let failed = settled.failed.into_iter().filter(|(task, _)| task.action != Action::Release);
        let mut faults = resolved.faults.clone();
        faults.extend(failed.map(|(task, fault)| (task.index, fault)));
        let accepted = settled.accepted.into_iter().cloned().collect();
        Ok(Self { accepted, transaction: settled.transaction, faults })
    }

    /// With an index that may be old, "there is no such package" is more than is known.
    fn doubt(&mut self, stale: &Fault) {
        for fault in self.faults.values_mut().filter(|fault| fault.remedy == Remedy::Refresh) {
            fault.reason = stale.reason;
            fault.why = format!("{}; and the index could not be fetched: {}", fault.why, stale.why);
        }
    }
}

/// Holds and marks what is there now, each kind of mark in one call. What was `tried` and should be gone is not
/// needed by anything: it is still to go.
fn mark(host: &mut Writer, open: &[Open<'_>], tried: &BTreeSet<usize>) -> Result<(), Fault> {
    let database = Database::read(host)?;
    let (mut hold, mut unhold, mut manual, mut auto) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for open in open {
        let Observed::Installed { version: there, automatic, held, .. } = database.observed(open.name) else {
            continue;
        };
        match open.want {
            Spec::Present { version, .. } => {
                if matches!(version, Version::Exact(_)) && satisfies(version, &there) && !held {
                    hold.push(open.name);
                }
                if automatic {
                    manual.push(open.name);
                }
            }
            // It could not go, since something needs it: from now on it goes with that.
            Spec::Released => {
                if held {
                    unhold.push(open.name);
                }
                if !automatic && !tried.contains(&open.index) {
                    auto.push(open.name);
                }
            }
            Spec::Absent => {}
        }
    }
    for (verb, names) in [("unhold", unhold), ("hold", hold), ("manual", manual), ("auto", auto)] {
        command::mark(host, verb, &names)?;
    }
    Ok(())
}

fn count(packages: usize) -> String {
    format!("{packages} package{}", if packages == 1 { "" } else { "s" })
}

fn told(transaction: &Transaction) -> String {
    let mut parts = Vec::new();
    let install: Vec<&str> = transaction.install.iter().map(|install| install.name.as_str()).collect();
    if !install.is_empty() {
        parts.push(format!("installing {}", install.join(", ")));
    }
    if !transaction.remove.is_empty() {
        parts.push(format!("removing {}", transaction.remove.join(", ")));
    }
    one_line(&parts.join("; "), 120)
}

fn error(name: &str, fault: Fault) -> Error {
    Error::Refused { thing: one_line(name, 80), reason: fault.reason, why: fault.why }
}
