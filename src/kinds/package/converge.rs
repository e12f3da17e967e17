//! What every package manager's transaction has in common: which declarations do not hold, what can be done
//! together, fetched before anything is changed, done at once, and looked at afterwards.

use std::collections::{BTreeSet, HashMap};

use super::blame::{self, Blame};
use super::fault::{Fault, Remedy};
use super::solve::{Action, Open, Task};
use super::tool::{Database, Mark, Tool};
use super::transient::INTERRUPTED;
use super::work::{Resolved, Work, open};
use super::{Observed, Package, Refusal, Spec, Transaction, Version, satisfies};
use crate::host::{About, Aside, Error, Reader, Writer};
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

/// How many times what is not at fault is tried again, each time without those who were.
const AGAIN: usize = 8;

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
    let mut resolved = Resolved::<T>::of(host, &database, &open)?;
    let mut work = Work::of(&resolved, host, &database, resting)?;
    if work.faults.values().any(|fault| fault.remedy == Remedy::Refresh) {
        let refreshed = T::update(host);
        resolved = Resolved::<T>::of(host, &database, &open)?;
        work = Work::of(&resolved, host, &database, resting)?;
        if let Err(stale) = refreshed {
            work.doubt(&stale);
        }
    }
    let mended = T::blame(&mended).named(|name| database.canonical(name).to_owned());
    let course = Course::<T> { before: &database, open: &open, resting, withheld, mended };
    let tried = course.run(host, resolved, work, faults)?;
    mark::<T>(host, &open, &tried)
}

/// What all transactions of one pass have in common.
struct Course<'c, T: Tool> {
    /// What was installed before the first.
    before: &'c T::Database,
    open: &'c [Open<'c>],
    resting: &'c [&'c str],
    withheld: &'c [&'c str],
    /// Who did not get through what mended what was left half done.
    mended: Blame,
}

impl<T: Tool> Course<'_, T> {
    /// Does `work`, and again what did not get through it for the sake of others, without those. Answers with what was
    /// tried.
    fn run(
        &self,
        host: &mut Writer,
        mut resolved: Resolved<T>,
        mut work: Work,
        faults: &mut HashMap<usize, Fault>,
    ) -> Result<BTreeSet<usize>, Fault> {
        let (mut tried, mut blame) = (BTreeSet::new(), Blame::default());
        for left in (0..=AGAIN).rev() {
            faults.extend(std::mem::take(&mut work.faults));
            if work.accepted.is_empty() {
                break;
            }
            let log = self.perform(host, &work)?;
            tried.extend(work.accepted.iter().map(|task| task.index));
            let now = T::read(host)?;
            let of_log = T::blame(&log).named(|name| now.canonical(name).to_owned());
            warn(host, &T::warnings(&log), |name| now.canonical(name).to_owned());
            let is_news = blame.learn(&of_log);
            let half = blame::half_there(&of_log, |name| now.observed(name));
            self.clear_away(host, &now, &of_log, &half)?;
            let undone = blame::undone(&work.accepted, |name| now.observed(name));
            for task in &undone {
                let mut fault = self.why(&task.name, &of_log, &log);
                if half.contains(&task.name.as_str()) {
                    fault.why.push_str("; it is held, since apt would take it away first whatever else it does");
                }
                faults.insert(task.index, fault);
            }
            let rest = blame::blameless(&undone, &blame, |name| now.observed(name));
            if !is_news || rest.is_empty() || left == 0 {
                break;
            }
            if host.interrupted() {
                let why = "stopped between two transactions; the next pass goes on";
                return Err(Fault::new(INTERRUPTED, why).with(Remedy::General));
            }
            for task in &rest {
                faults.remove(&task.index);
            }
            let of_culprit = |(name, _): &(String, String)| (name.clone(), blame.because(name, self.is_told(name)));
            resolved.failed = blame.culprits.iter().map(of_culprit).collect();
            (resolved.tasks, resolved.faults) = (rest, HashMap::new());
            work = Work::of(&resolved, host, &T::read(host)?, self.resting)?;
        }
        Ok(tried)
    }

    fn perform(&self, host: &mut Writer, work: &Work) -> Result<String, Fault> {
        host.say(&told(&work.transaction));
        let tasks: Vec<&Task> = work.accepted.iter().collect();
        // Nobody's lock was held since that was planned; what takes nothing away may not by T's own option.
        if tasks.iter().any(|task| task.takes_away()) {
            no_more(&work.transaction, &T::simulate(host, &T::read(host)?, &tasks)?)?;
        }
        T::perform(host, &tasks, self.withheld)
    }

    /// Has what those at fault left behind keep nothing else up, now and later: what is `half` there is held, and what came
    /// half-way since it needs one of them is taken back.
    fn clear_away(&self, host: &mut Writer, now: &T::Database, blame: &Blame, half: &[&str]) -> Result<(), Fault> {
        if !half.is_empty() {
            T::mark(host, Mark::Hold, half)?;
        }
        match blame.culprits.is_empty() || blame.is_general {
            true => Ok(()),
            false => T::take_back(host, &|name| self.came(now, name), self.withheld),
        }
    }

    /// Why `name` is undone after a transaction that printed `log`, which lays the `blame`. What dpkg could not configure
    /// before it may not have come to in there.
    fn why(&self, name: &str, blame: &Blame, log: &str) -> Fault {
        let own = blame.words(name).or_else(|| self.mended.words(name)).map(str::to_owned);
        let why = own.or_else(|| blame.why(name, |culprit| self.is_told(culprit)));
        why.map_or_else(|| T::refusal(log), |why| Fault::new("package-failed", why))
    }

    /// Whether what became of `name` is told for itself.
    fn is_told(&self, name: &str) -> bool {
        self.open.iter().any(|open| open.name == name)
    }

    /// Whether a transaction of this pass has brought `name`, by half.
    fn came(&self, now: &T::Database, name: &str) -> bool {
        let name = now.canonical(name);
        matches!(self.before.observed(name), Observed::Absent { .. })
            && matches!(now.observed(name), Observed::Broken { .. })
    }
}

/// So many scripts that failed are told, each for itself.
const EACH: usize = 20;

/// Has it told whose scripts failed, though the package manager went on.
fn warn(host: &mut Writer, warnings: &[(String, String)], canonical: impl Fn(&str) -> String) {
    for (at, (name, why)) in warnings.iter().enumerate().take(EACH + 1) {
        let name = canonical(name);
        let line = match warnings.len() - at {
            more if at == EACH => format!("and {more} more scripts failed, of {name} and others"),
            _ => format!("{name} is as it is to be, but {why}"),
        };
        host.tell_aside(Aside { about: About::Script(name), line: one_line(&line, 500) });
    }
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

/// Holds and marks what is there now, each kind of mark in one call. What was `tried` and should be gone is not
/// needed by anything: it is still to go.
fn mark<T: Tool>(host: &mut Writer, open: &[Open<'_>], tried: &BTreeSet<usize>) -> Result<(), Fault> {
    let database = T::read(host)?;
    let (mut hold, mut unhold, mut manual, mut auto) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for open in open {
        let (there, automatic, held) = match database.observed(open.name) {
            Observed::Installed { version, automatic, held, .. } => (version, automatic, held),
            // dnf's locks outlive what they lock.
            Observed::Absent { .. } if *open.want == Spec::Released && database.is_held(open.name) => {
                unhold.push(open.name);
                continue;
            }
            _ => continue,
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

/// It is held, and not by a declaration, as far as can be told: an exact version is held by one, and so is what is half there
/// by us.
fn is_held_by_others(open: &Open<'_>) -> bool {
    open.held
        && !blame::is_half_there(&open.seen)
        && matches!(open.want, Spec::Present { version: Version::Any | Version::Glob(_), unhold: false, .. })
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

fn told(transaction: &Transaction) -> String {
    let mut parts = Vec::new();
    let install: Vec<&str> = transaction.install.iter().map(|install| install.name.as_str()).collect();
    if !install.is_empty() {
        parts.push(format!("installing {}", install.join(", ")));
    }
    if !transaction.remove.is_empty() {
        parts.push(format!("removing {}", transaction.remove.join(", ")));
    }
    if parts.is_empty() {
        parts.push("finishing what was begun".to_owned());
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
    fn scripts_that_failed_are_told_and_of_many_how_many() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let mut host = Writer::take(Reader::directory(root.path()).expect("a directory")).expect("alone");
        let warnings: Vec<_> = (0..30).map(|n| (format!("p{n}:noarch"), "its %post said\nno".to_owned())).collect();
        warn(&mut host, &warnings, |name| name.trim_end_matches(":noarch").to_owned());
        let told = host.take_asides();
        assert_eq!(told[0].about, About::Script("p0".to_owned()));
        assert_eq!(told[0].line, "p0 is as it is to be, but its %post said\\nno");
        assert_eq!((told.len(), told[EACH].line.as_str()), (EACH + 1, "and 10 more scripts failed, of p20 and others"));
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
        let half = Observed::Broken { status: "half-installed".into(), version: "3.0".into(), essential: false };
        assert!(!is_held_by_others(&Open { index: 5, name: "ours", want: &glob, seen: half, held: true }));
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
