//! What every package manager's transaction has in common: which declarations do not hold, what can be done
//! together, fetched before anything is changed, done at once, and looked at afterwards.

use std::collections::{BTreeSet, HashMap};

use super::blame::{self, Blame};
use super::fault::{Fault, Remedy};
use super::marks::{held_by_others, mark, unheld};
use super::solve::{Action, Open, Task};
use super::tool::{Database, Mark, Tool};
use super::transient::INTERRUPTED;
use super::work::{Resolved, Work, open};
use super::{Observed, Package, Refusal, Spec, Transaction};
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
    let mut tried = BTreeSet::new();
    let ran = course.run(host, resolved, work, faults, &mut tried);
    // Who waits for what goes on marks that.
    if ran.as_ref().is_err_and(|fault| fault.reason == INTERRUPTED) {
        return ran;
    }
    // However it ended: apt has forgotten holds in what was done.
    let marked = mark::<T>(host, &open, &tried);
    ran.and(marked)
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
    /// Does `work`, and again what did not get through it for the sake of others, without those. `tried` gets what was.
    fn run(
        &self,
        host: &mut Writer,
        mut resolved: Resolved<T>,
        mut work: Work,
        faults: &mut HashMap<usize, Fault>,
        tried: &mut BTreeSet<usize>,
    ) -> Result<(), Fault> {
        let mut blame = Blame::default();
        for left in (0..=AGAIN).rev() {
            faults.extend(std::mem::take(&mut work.faults));
            if work.accepted.is_empty() {
                break;
            }
            tried.extend(work.accepted.iter().map(|task| task.index));
            let log = self.perform(host, &work)?;
            let now = T::read(host)?;
            let of_log = T::blame(&log).named(|name| now.canonical(name).to_owned());
            warn(host, &T::warnings(&log), |name| now.canonical(name).to_owned());
            let is_news = blame.learn(&of_log);
            let half = blame::half_there(&blame, |name| now.observed(name));
            let undone = blame::undone(&work.accepted, |name| now.observed(name));
            for task in &undone {
                // It may wait for who was at fault before.
                let culprit = blame.behind(&task.name).or_else(|| of_log.culprit(&task.name));
                let mut fault = self.why(&task.name, &blame, culprit, &log);
                fault.why.push_str(&self.in_the_way(&task.name, culprit, &half));
                faults.insert(task.index, fault);
            }
            let rest = blame::blameless(&undone, &blame, |name| now.observed(name));
            if let Err(fault) = self.clear_away(host, &now, &of_log, &half) {
                // That is what keeps up who is not at fault.
                rest.iter().for_each(|task| drop(faults.remove(&task.index)));
                return Err(fault);
            }
            if !is_news || rest.is_empty() || left == 0 {
                break;
            }
            let of_culprit = |(name, _): &(String, String)| (name.clone(), blame.because(name, self.is_told(name)));
            resolved.failed = blame.culprits.iter().map(of_culprit).collect();
            (resolved.tasks, resolved.faults) = (rest, HashMap::new());
            let again = self.again(host, &resolved);
            let of_rest = resolved.tasks.iter().map(|task| task.index);
            match again {
                Ok(next) => {
                    of_rest.for_each(|index| drop(faults.remove(&index)));
                    work = next;
                }
                // Nothing goes on, and what was done stays: that concerns the rest alone.
                Err(fault) => {
                    faults.extend(of_rest.map(|index| (index, fault.clone())));
                    break;
                }
            }
        }
        Ok(())
    }

    /// What to do after a transaction that left all that is `resolved` undone.
    fn again(&self, host: &mut Writer, resolved: &Resolved<T>) -> Result<Work, Fault> {
        if host.interrupted() {
            return Err(Fault::new(INTERRUPTED, "stopped between two transactions; the next pass goes on"));
        }
        Work::of(resolved, host, &T::read(host)?, self.resting)
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

    /// Has what those at fault left behind keep nothing else up, now and later: what is `half` there is held, where a
    /// declaration is there that the hold ends with, and what came half-way since it needs one of them is taken back.
    fn clear_away(&self, host: &mut Writer, now: &T::Database, blame: &Blame, half: &[&str]) -> Result<(), Fault> {
        let half: Vec<&str> = half.iter().copied().filter(|name| self.is_told(name)).collect();
        if !half.is_empty() {
            T::mark(host, Mark::Hold, &half)?;
        }
        match blame.culprits.is_empty() || blame.is_general {
            true => Ok(()),
            false => T::take_back(host, &|name| self.came(now, name), self.withheld),
        }
    }

    /// Why `name` is undone because of `culprit`, after a transaction that printed `log`, where all so far lay the `blame`.
    /// What dpkg could not configure before it may not have come to in there.
    fn why(&self, name: &str, blame: &Blame, culprit: Option<&str>, log: &str) -> Fault {
        let own = blame.words(name).or_else(|| self.mended.words(name)).map(str::to_owned);
        let why = own.or_else(|| culprit.map(|culprit| blame.because(culprit, self.is_told(culprit))));
        why.map_or_else(|| T::refusal(log), |why| Fault::new("package-failed", why))
    }

    /// What to say for `name` of what is `half` there, since apt would take that away first whatever else it does.
    fn in_the_way(&self, name: &str, culprit: Option<&str>, half: &[&str]) -> String {
        if half.contains(&name) {
            return "; it is held, since apt would take it away first whatever else it does".to_owned();
        }
        let Some(culprit) = culprit.filter(|culprit| half.contains(culprit) && !self.is_told(culprit)) else {
            return String::new();
        };
        let culprit = one_line(culprit, 80);
        format!(
            "; {culprit} is half-installed and not declared, and apt takes it away first whatever else it does: \
             `apt-get install --reinstall {culprit}` once its script is mended"
        )
    }

    /// Whether what became of `name` is told for itself: it is not where it is only left to what needs it.
    fn is_told(&self, name: &str) -> bool {
        self.open.iter().any(|open| open.name == name && !matches!(open.want, Spec::Left { .. }))
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
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::super::played::{self, Play, Played};
    use super::super::{Downgrade, Version};
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

    /// What a pass that declares `wants` present comes to, reason and words of each; with what is in the play afterwards.
    fn converged(play: Play, wants: &[&str], flag: &Arc<AtomicBool>) -> (Vec<Option<(&'static str, String)>>, Play) {
        let root = tempfile::tempdir().expect("a scratch directory");
        let reader = Reader::directory(root.path()).expect("a directory").with_interrupt(Arc::clone(flag));
        let mut host = Writer::take(reader).expect("alone");
        play.begin();
        let (any, seen) = (Spec::present(Version::Any, Downgrade::default()), played::gone());
        let jobs: Vec<_> = wants.iter().map(|name| Job::<Package> { name, want: &any, seen: &seen }).collect();
        let ended = apply::<Played>(&mut host, &jobs, &[], &[]).into_iter();
        (ended.map(|result| result.err().map(|error| (error.reason(), error.chain()))).collect(), Play::end())
    }

    /// A transaction that brings `fine`, at which an administrator's hold is lost, and in which `culprit` fails as it is left
    /// half there; `late` is not come to.
    fn failing(culprit: &str) -> Play {
        let blame = Blame {
            culprits: vec![(culprit.to_owned(), "so sorry".to_owned())],
            waiting: [("needs".to_owned(), BTreeSet::from(["hidden".to_owned()]))].into(),
            is_general: false,
        };
        let half = Observed::Broken { status: "half-installed".into(), version: "1.0".into(), essential: false };
        Play { held: ["fine".to_owned()].into(), ..Play::of(&[("fine", played::there()), (culprit, half)], blame) }
    }

    #[test]
    fn a_stop_between_two_transactions_concerns_only_what_was_not_come_to() {
        let flag = Arc::<AtomicBool>::default();
        let play = Play { stops: Some(Arc::clone(&flag)), ..failing("sorry") };
        let (ended, after) = converged(play, &["fine", "sorry", "late"], &flag);
        assert_eq!(ended[0], None, "it is there");
        let [sorry, late] = [1, 2].map(|at| ended[at].clone().expect("not there"));
        assert_eq!((sorry.0, late.0), ("package-failed", INTERRUPTED));
        assert!(sorry.1.contains("so sorry; it is held") && late.1.contains("between two"), "{sorry:?} {late:?}");
        assert_eq!(after.held, ["fine", "sorry"].map(str::to_owned).into(), "a hold outlasts what was done to it");
    }

    #[test]
    fn what_cannot_be_planned_after_a_transaction_keeps_no_mark_of_that_from_being_set() {
        let play = Play { later: Some(Fault::new("disk-full", "full").with(Remedy::General)), ..failing("sorry") };
        let (ended, after) = converged(play, &["fine", "sorry", "late"], &Arc::default());
        let reasons: Vec<_> = ended.iter().map(|it| it.as_ref().map(|it| it.0)).collect();
        assert_eq!(reasons, [None, Some("package-failed"), Some("disk-full")]);
        assert_eq!(after.held, ["fine", "sorry"].map(str::to_owned).into());
    }

    #[test]
    fn what_ends_amid_the_transactions_keeps_no_mark_from_being_set() {
        let play =
            Play { spoils: Some(Fault::new("package-failed", "no answer").with(Remedy::General)), ..failing("sorry") };
        let (ended, after) = converged(play, &["fine", "sorry", "late"], &Arc::default());
        assert!(ended[0].is_none() && ended[2].as_ref().is_some_and(|it| it.1.contains("no answer")), "{ended:?}");
        assert_eq!(after.held, ["fine", "sorry"].map(str::to_owned).into());
    }

    #[test]
    fn what_is_half_there_and_not_declared_is_not_held_but_told() {
        let (ended, after) = converged(failing("hidden"), &["fine", "needs"], &Arc::default());
        let (_, why) = ended[1].clone().expect("not there");
        assert!(why.contains("because package:hidden failed: so sorry; hidden is half-installed"), "{why}");
        assert_eq!(after.held, ["fine".to_owned()].into(), "nobody would lift it");
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
