//! What every package manager's transaction has in common: which declarations do not hold, what can be done
//! together, fetched before anything is changed, done at once, and looked at afterwards.

use std::collections::{BTreeSet, HashMap};
use std::marker::PhantomData;

use super::fault::{Fault, Remedy};
use super::solve::{self, Action, Limits, Open, Settled, Task};
use super::tool::{Database, Mark, Tool};
use super::transient::INTERRUPTED;
use super::{Observed, Package, Refusal, Spec, Transaction, Version, satisfies};
use crate::host::{Error, Reader, Writer};
use crate::kinds::{Job, Kind};
use crate::model::one_line;

/// Fetches the indexes of all package sources.
pub fn refresh_index<T: Tool>(host: &mut Writer) -> Result<(), Error> {
    T::update(host).map_err(|fault| error("package sources", fault))
}

/// What converging `jobs` would do, where what is `resting` stays as it is.
pub fn simulate<T: Tool>(
    host: &Reader,
    jobs: &[(&str, &Spec, &Observed)],
    resting: &[&str],
) -> Result<Transaction, Error> {
    let database = T::read(host)?;
    let jobs: Vec<(&str, &Spec)> = jobs.iter().map(|(name, want, _)| (*name, *want)).collect();
    let open = open(&database, &jobs);
    let resolved = Resolved::<T>::of(host, &database, &open).map_err(|fault| error("packages", fault))?;
    let settled = resolved.settle(&database, resting, |tasks, allow| {
        let transaction = T::simulate(host, &database, tasks)?;
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
    transaction.notes.extend(unheld(&database, &open));
    let changing = settled.accepted.iter().map(|task| task.index).collect();
    transaction.notes.extend(held_by_others(&open, &changing));
    Ok(transaction)
}

/// Converges `jobs` in one transaction that leaves what is `resting` as it is, and does not start the units that are
/// `withheld`. What is there afterwards answers for
/// each.
pub fn apply<T: Tool>(
    host: &mut Writer,
    jobs: &[Job<'_, Package>],
    resting: &[&str],
    withheld: &[&str],
) -> Vec<Result<(), Error>> {
    let wants: Vec<(&str, &Spec)> = jobs.iter().map(|job| (job.name, job.want)).collect();
    let mut faults = HashMap::new();
    let all = converge::<T>(host, &wants, resting, withheld, &mut faults).err();
    if let Some(fault) = all.as_ref().filter(|fault| fault.reason == INTERRUPTED) {
        // What is there now says nothing of a transaction that goes on.
        return wants.iter().map(|(name, _)| Err(error(name, fault.clone()))).collect();
    }
    let database = match T::read(host) {
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
fn converge<T: Tool>(
    host: &mut Writer,
    jobs: &[(&str, &Spec)],
    resting: &[&str],
    withheld: &[&str],
    faults: &mut HashMap<usize, Fault>,
) -> Result<(), Fault> {
    let mended = T::ready(host, withheld)?;
    // Looked at again: the lock may have been another's until now.
    let database = T::read(host)?;
    let open = open(&database, jobs);
    if open.is_empty() {
        return Ok(());
    }
    let mut work = Work::of(&Resolved::<T>::of(host, &database, &open)?, host, &database, resting)?;
    if work.faults.values().any(|fault| fault.remedy == Remedy::Refresh) {
        let refreshed = T::update(host);
        work = Work::of(&Resolved::<T>::of(host, &database, &open)?, host, &database, resting)?;
        if let Err(stale) = refreshed {
            work.doubt(&stale);
        }
    }
    let Work { accepted, transaction, faults: failed } = work;
    faults.extend(failed);
    if !accepted.is_empty() {
        host.say(&told(&transaction));
        let tasks: Vec<&Task> = accepted.iter().collect();
        // Nobody's lock was held since that was planned; what takes nothing away may not by T's own option.
        if tasks.iter().any(|task| task.takes_away()) {
            no_more(&transaction, &T::simulate(host, &database, &tasks)?)?;
        }
        let log = T::perform(host, &tasks, withheld)?;
        faults.extend(accepted.iter().map(|task| (task.index, T::failure_of(&task.name, &mended, &log))));
    }
    let tried: BTreeSet<usize> = accepted.iter().map(|task| task.index).collect();
    mark::<T>(host, &open, &tried)
}

/// Whether what would be removed `now` was part of what was `planned`.
fn no_more(planned: &Transaction, now: &Transaction) -> Result<(), Fault> {
    let more: Vec<&str> = now.remove.iter().filter(|name| !planned.remove.contains(name)).map(String::as_str).collect();
    if more.is_empty() {
        return Ok(());
    }
    let why = format!("packages changed meanwhile, and that would also remove {} now", one_line(&more.join(", "), 300));
    Err(Fault::new("removes-undeclared", why).with(Remedy::General))
}

/// What comes earlier goes before what it cannot be had together with: what is declared before what is only put back.
fn by_weight<'o, 'a>(open: &'o [Open<'a>]) -> impl Iterator<Item = &'o Open<'a>> {
    open.iter().filter(|open| !open.want.is_back()).chain(open.iter().filter(|open| open.want.is_back()))
}

/// The jobs that do not hold, as things are now.
fn open<'a>(database: &impl Database, jobs: &[(&'a str, &'a Spec)]) -> Vec<Open<'a>> {
    let open = jobs.iter().enumerate().map(|(index, (name, want))| Open {
        index,
        name: database.canonical(name),
        want,
        seen: database.observed(name),
        held: database.is_held(database.canonical(name)),
    });
    open.filter(|open| !Package::diff(open.want, &open.seen).is_empty()).collect()
}

/// What to ask of the package manager, and what need not be asked.
struct Resolved<T> {
    tasks: Vec<Task>,
    faults: HashMap<usize, Fault>,
    may_go: BTreeSet<String>,
    tool: PhantomData<T>,
}

impl<T: Tool> Resolved<T> {
    fn of(host: &Reader, database: &T::Database, open: &[Open<'_>]) -> Result<Self, Fault> {
        debug_assert!(open.iter().all(|open| database.canonical(open.name) == open.name));
        let wanted = open.iter().filter(|open| matches!(open.want, Spec::Present { .. }));
        // What cannot be a name is never given to a program, which might take it for an option.
        let names: Vec<&str> = wanted.map(|open| open.name).filter(|name| (T::RULES.is_name)(name)).collect();
        let policies = match names.is_empty() {
            true => HashMap::new(),
            false => T::policies(host, database, &names)?,
        };
        let (mut tasks, mut faults) = (Vec::new(), HashMap::new());
        for open in by_weight(open) {
            if matches!((open.want, &open.seen), (Spec::Present { .. }, Observed::Absent { .. }))
                && let Some(why) = T::cannot_have(host, database, open.name)?
            {
                faults.insert(open.index, Fault::new("no-such-package", why));
                continue;
            }
            match solve::task(open, &policies, T::RULES) {
                Ok(task) => tasks.extend(task),
                Err(fault) => drop(faults.insert(open.index, fault)),
            }
        }
        let gone = open.iter().filter(|open| Package::removes(open.want));
        let may_go = gone.map(|open| open.name.to_owned()).collect();
        Ok(Self { tasks, faults, may_go, tool: PhantomData })
    }

    /// What can be done together. `ask` gets, beside the tasks, the rule that their transaction must keep.
    fn settle(
        &self,
        database: &T::Database,
        resting: &[&str],
        mut ask: impl FnMut(&[&Task], &dyn Fn(&Transaction) -> Result<(), Fault>) -> Result<Transaction, Fault>,
    ) -> Result<Settled<'_>, Fault> {
        // What the repository says anew of a contested one is a task of its own.
        let resting = resting.iter().map(|name| database.canonical(name).to_owned());
        let resting = resting.filter(|name| !self.tasks.iter().any(|task| task.name == *name)).collect();
        let limits = Limits { may_go: &self.may_go, resting: &resting, is_held: &|name| database.is_held(name) };
        solve::settle(&self.tasks, |tasks| {
            ask(tasks, &|transaction| solve::judge(transaction, tasks, T::RULES.order, &limits))
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
    fn of<T: Tool>(
        resolved: &Resolved<T>,
        host: &mut Writer,
        database: &T::Database,
        resting: &[&str],
    ) -> Result<Self, Fault> {
        let settled = resolved.settle(database, resting, |tasks, allow| {
            let transaction = T::simulate(host, database, tasks)?;
            allow(&transaction)?;
            if !transaction.install.is_empty() {
                host.say(&format!("downloading {}", count(transaction.install.len())));
                T::download(host, tasks)?;
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
fn mark<T: Tool>(host: &mut Writer, open: &[Open<'_>], tried: &BTreeSet<usize>) -> Result<(), Fault> {
    let database = T::read(host)?;
    let (mut hold, mut unhold, mut manual, mut auto) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for open in open {
        let Observed::Installed { version: there, automatic, held, .. } = database.observed(open.name) else {
            // dnf's locks outlive what they lock.
            if *open.want == Spec::Released && database.is_held(open.name) {
                unhold.push(open.name);
            }
            continue;
        };
        match open.want {
            Spec::Left { unhold: lift, automatic: was } => {
                if *lift && held == Some(true) {
                    unhold.push(open.name);
                }
                if *was && !automatic {
                    auto.push(open.name);
                }
            }
            Spec::Present { version, unhold: lift, .. } => {
                if *lift && held == Some(true) {
                    unhold.push(open.name);
                }
                let ours = matches!(version, Version::Exact(_)) && satisfies(version, &there);
                // apt forgets that it is held when it is told to change it all the same.
                if held == Some(false) && (ours || is_held_by_others(open)) {
                    hold.push(open.name);
                }
                if automatic {
                    manual.push(open.name);
                }
            }
            // It could not go, since something needs it: from now on it goes with that.
            Spec::Released => {
                if held == Some(true) {
                    unhold.push(open.name);
                }
                if !automatic && !tried.contains(&open.index) {
                    auto.push(open.name);
                }
            }
            Spec::Absent => {}
        }
    }
    for (mark, names) in [(Mark::Unhold, unhold), (Mark::Hold, hold), (Mark::Manual, manual), (Mark::Auto, auto)] {
        if !names.is_empty() {
            T::mark(host, mark, &names)?;
        }
    }
    Ok(())
}

/// What to say of exact versions where nothing can be held at one.
fn unheld(database: &impl Database, open: &[Open<'_>]) -> Option<String> {
    let why = database.cannot_hold()?;
    let exact = |open: &&Open<'_>| matches!(open.want, Spec::Present { version: Version::Exact(_), .. });
    let names: Vec<&str> = open.iter().filter(exact).map(|open| open.name).collect();
    (!names.is_empty())
        .then(|| one_line(&format!("not held at the declared version: {}: {why}", names.join(", ")), 300))
}

/// It is held, and not by a declaration, as far as can be told: an exact version is held by one.
fn is_held_by_others(open: &Open<'_>) -> bool {
    open.held && matches!(open.want, Spec::Present { version: Version::Any | Version::Glob(_), unhold: false, .. })
}

/// What to say of what somebody else holds and what is changed all the same, since a declaration asks for that.
fn held_by_others(open: &[Open<'_>], changing: &BTreeSet<usize>) -> Option<String> {
    let held = open.iter().filter(|open| changing.contains(&open.index) && is_held_by_others(open));
    let names: Vec<&str> = held.map(|open| open.name).collect();
    let said = || {
        format!("held on this host, changed all the same as declared, and still held afterwards: {}", names.join(", "))
    };
    (!names.is_empty()).then(|| one_line(&said(), 300))
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

#[cfg(test)]
mod tests {
    use super::super::Downgrade;
    use super::*;

    #[test]
    fn what_is_put_back_gives_way_to_what_is_declared() {
        let (back, absent, declared) = (Spec::back(), Spec::Absent, Spec::present(Version::Any, Downgrade::default()));
        let wants = [("before", &back), ("gone", &absent), ("mail", &declared)];
        let open: Vec<Open<'_>> = wants
            .iter()
            .enumerate()
            .map(|(index, (name, want))| {
                let seen = Observed::Absent { config_files: false };
                Open { index, name, want, seen, held: false }
            })
            .collect();
        assert_eq!(by_weight(&open).map(|open| open.name).collect::<Vec<_>>(), ["gone", "mail", "before"]);
    }

    #[test]
    fn a_hold_of_somebody_else_is_told_where_what_it_holds_changes() {
        let glob = Spec::present(Version::Glob("3.*".to_owned()), Downgrade::default());
        let exact = Spec::present(Version::Exact("3.0".to_owned()), Downgrade::default());
        let ours = Spec::Present { version: Version::Any, downgrade: Downgrade::default(), unhold: true, back: false };
        let wants = [("theirs", &glob), ("exact", &exact), ("ours", &ours), ("rests", &glob), ("free", &glob)];
        let open: Vec<Open<'_>> = wants
            .iter()
            .enumerate()
            .map(|(index, (name, want))| {
                let seen = Observed::Absent { config_files: false };
                Open { index, name, want, seen, held: *name != "free" }
            })
            .collect();
        let told = held_by_others(&open, &BTreeSet::from([0, 1, 2, 4])).expect("one is held");
        assert!(told.starts_with("held on this host, changed all the same") && told.ends_with(": theirs"), "{told}");
        assert_eq!(held_by_others(&open, &BTreeSet::from([1, 2, 4])), None);
    }

    #[test]
    fn what_was_not_planned_to_go_does_not_go() {
        let removing = |names: &[&str]| Transaction {
            remove: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Transaction::default()
        };
        assert_eq!(no_more(&removing(&["a", "b"]), &removing(&["b", "a"])), Ok(()));
        assert_eq!(no_more(&removing(&["a", "b"]), &removing(&["a"])), Ok(()));
        let fault = no_more(&removing(&["a"]), &removing(&["a", "theirs"])).expect_err("refused");
        assert_eq!(fault.reason, "removes-undeclared");
        assert!(fault.why.contains("theirs"), "{}", fault.why);
    }
}
