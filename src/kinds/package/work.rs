//! What of the declarations that do not hold can be done together in one transaction, and fetched.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::marker::PhantomData;

use super::fault::{Fault, Remedy};
use super::solve::{self, Action, Limits, Open, Settled, Task};
use super::tool::{Database, Tool};
use super::{Observed, Package, Spec, Transaction};
use crate::host::{Reader, Writer};
use crate::kinds::Kind;

/// What comes earlier goes before what it cannot be had together with: what is declared before what is only put back.
fn by_weight<'o, 'a>(open: &'o [Open<'a>]) -> impl Iterator<Item = &'o Open<'a>> {
    open.iter().filter(|open| !open.want.is_back()).chain(open.iter().filter(|open| open.want.is_back()))
}

/// The jobs that do not hold, as things are now.
pub fn open<'a>(database: &impl Database, jobs: &[(&'a str, &'a Spec)]) -> Vec<Open<'a>> {
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
pub struct Resolved<T> {
    /// What to ask.
    pub tasks: Vec<Task>,
    /// Why not, by job.
    pub faults: HashMap<usize, Fault>,
    may_go: BTreeSet<String>,
    /// Who was at fault in a transaction before, by name, with what to say of what cannot do without.
    pub failed: BTreeMap<String, String>,
    tool: PhantomData<T>,
}

impl<T: Tool> Resolved<T> {
    /// Of what is `open`.
    ///
    /// # Errors
    /// Where the package manager cannot tell.
    pub fn of(host: &Reader, database: &T::Database, open: &[Open<'_>]) -> Result<Self, Fault> {
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
        Ok(Self { tasks, faults, may_go, failed: BTreeMap::new(), tool: PhantomData })
    }

    /// What can be done together. `ask` gets, beside the tasks, the rule that their transaction must keep.
    pub fn settle(
        &self,
        database: &T::Database,
        resting: &[&str],
        mut ask: impl FnMut(&[&Task], &dyn Fn(&Transaction) -> Result<(), Fault>) -> Result<Transaction, Fault>,
    ) -> Result<Settled<'_>, Fault> {
        // What the repository says anew of a contested one is a task of its own.
        let resting = resting.iter().map(|name| database.canonical(name).to_owned());
        let resting = resting.filter(|name| !self.tasks.iter().any(|task| task.name == *name)).collect();
        let is_held = |name: &str| database.is_held(name);
        let limits = Limits { may_go: &self.may_go, resting: &resting, failed: &self.failed, is_held: &is_held };
        solve::settle(&self.tasks, |tasks| {
            ask(tasks, &|transaction| solve::judge(transaction, tasks, T::RULES.order, &limits))
        })
    }
}

/// What can be done together, its packages all at hand, and what cannot.
pub struct Work {
    /// What can be done.
    pub accepted: Vec<Task>,
    /// What it comes to.
    pub transaction: Transaction,
    /// Why not the others, by job.
    pub faults: HashMap<usize, Fault>,
}

impl Work {
    /// Of what is `resolved`, fetched.
    ///
    /// # Errors
    /// Where nothing at all can be done.
    pub fn of<T: Tool>(
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
    pub fn doubt(&mut self, stale: &Fault) {
        for fault in self.faults.values_mut().filter(|fault| fault.remedy == Remedy::Refresh) {
            fault.reason = stale.reason;
            fault.why = format!("{}; and the index could not be fetched: {}", fault.why, stale.why);
        }
    }
}

fn count(packages: usize) -> String {
    format!("{packages} package{}", if packages == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::super::{Downgrade, Version};
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
}
