//! The files that one unit uses are judged once all are in place, by the `validate` of that unit. Where it refuses them,
//! all of them are put back before anything reads them. What stood there is on disk before the first of them is written,
//! so that a pass which was cut short in between owes the verdict to the next.

use std::collections::{BTreeMap, BTreeSet};

use super::{Applied, Error, Ground, intend, validate};
use crate::compile::Desired;
use crate::host::{Payloads, StateDir, Writer};
use crate::kinds::unit;
use crate::kinds::{self, AnyJob, Around, Before, Observed, Phase, Spec};
use crate::ledger::{self, Ledger, Stands, Written};
use crate::model::{Id, Outcome};
use crate::plan::{Plan, Step};

/// The word for what was refused and stands there all the same.
pub const NOT_PUT_BACK: &str = "not-put-back";

/// A unit with what it uses of some files.
pub(super) struct Set<'d> {
    pub(super) unit: &'d Id,
    pub(super) spec: &'d unit::Spec,
    /// Sorted.
    pub(super) files: Vec<Id>,
}

/// What units read as they start, by their own settings: patterns of it. Of the others nothing is known of the kind.
pub(super) type Reads = BTreeMap<Id, Vec<String>>;

/// What each declared unit uses of `files`, what it `reads` as it starts with it; none that uses nothing of them.
pub(super) fn of_units<'d>(desired: &'d Desired, reads: &Reads, files: &BTreeSet<Id>) -> Vec<Set<'d>> {
    let set = |(id, spec): (&'d Id, &'d unit::Spec)| Set { unit: id, spec, files: used(id, spec, reads, files) };
    units(desired).map(set).filter(|set| !set.files.is_empty()).collect()
}

fn used(id: &Id, spec: &unit::Spec, reads: &Reads, files: &BTreeSet<Id>) -> Vec<Id> {
    unit::used(id.name(), spec, reads.get(id).map_or(&[], Vec::as_slice), files)
}

fn units(desired: &Desired) -> impl Iterator<Item = (&Id, &unit::Spec)> {
    desired.resources.iter().filter_map(|(id, wanted)| match &wanted.spec {
        Spec::Unit(spec) => Some((id, spec)),
        _ => None,
    })
}

/// What is declared of `unit`.
pub(super) fn spec_of<'d>(desired: &'d Desired, unit: &Id) -> Option<&'d unit::Spec> {
    match desired.resources.get(unit).map(|wanted| &wanted.spec) {
        Some(Spec::Unit(spec)) => Some(spec),
        _ => None,
    }
}

/// Whether what judges the files of `unit` may read a secret; where nobody knows what it uses, whether there is any.
pub(super) fn reads_secrets(ledger: &Ledger, unit: &Id, spec: Option<&unit::Spec>, reads: &Reads) -> bool {
    let secrets: BTreeSet<Id> =
        ledger.entries.iter().filter(|(_, entry)| entry.is_secret()).map(|(id, _)| id.clone()).collect();
    // What it reads as it starts is not known any more where a pass was cut short, but for what was written.
    let written = ledger.unjudged.sets.get(unit).is_some_and(|set| !set.files.is_disjoint(&secrets));
    match spec {
        Some(spec) => written || !used(unit, spec, reads, &secrets).is_empty(),
        None => !secrets.is_empty(),
    }
}

/// The files of `sets` that stand or fall with a verdict: those of a unit that judges them, and of every set that has one
/// of these in common.
fn judged_together(sets: &[Set<'_>]) -> BTreeSet<Id> {
    let judged = sets.iter().filter(|set| !set.spec.validate.is_empty());
    let mut files: BTreeSet<Id> = judged.flat_map(|set| set.files.iter().cloned()).collect();
    let mut known = 0;
    while files.len() > known {
        known = files.len();
        for set in sets {
            if set.files.iter().any(|file| files.contains(file)) {
                files.extend(set.files.iter().cloned());
            }
        }
    }
    files
}

/// Writes down, synced, what stands where the steps of these phases write files that a unit judges in place, and that
/// they are owed a verdict. What cannot be kept is not overwritten.
pub(super) fn note(ground: &mut Ground<'_>, plan: &Plan, phases: &[Phase], applied: &mut Applied) -> Result<(), Error> {
    let desired = ground.desired;
    if ground.settled || !ground.host.is_machine() || units(desired).all(|(_, spec)| spec.validate.is_empty()) {
        return Ok(());
    }
    let due = |step: &&Step| {
        phases.contains(&step.phase) && !applied.outcomes.contains_key(&step.id) && step.id.kind() == "file"
    };
    let due: Vec<&Step> = plan.steps.iter().filter(due).collect();
    let sets = of_units(desired, &plan.reads, &due.iter().map(|step| step.id.clone()).collect());
    let together = judged_together(&sets);
    if together.is_empty() {
        return Ok(());
    }
    for step in due.into_iter().filter(|step| together.contains(&step.id)) {
        if let Err(error) = keep(ground, step, applied)? {
            applied.outcomes.insert(step.id.clone(), super::failed(&error));
        }
    }
    let unjudged = &mut ground.ledger.unjudged;
    for Set { unit, spec, files } in sets {
        let noted = files.into_iter().filter(|file| unjudged.files.contains_key(file)).collect::<Vec<_>>();
        if !noted.is_empty() {
            let set = unjudged.sets.entry(unit.clone()).or_default();
            set.validate.clone_from(&spec.validate);
            set.files.extend(noted);
        }
    }
    unjudged.owing.extend(applied.owed.iter().cloned());
    ledger::save(ground.state, ground.ledger)?;
    Ok(())
}

/// Keeps what stands where `step` goes. The outer error ends the pass, the inner one the step.
fn keep(ground: &mut Ground<'_>, step: &Step, applied: &Applied) -> Result<Result<(), crate::host::Error>, Error> {
    // Of a directory that goes whole all that is in it was kept with the intent.
    let whole = applied.kept.get(&step.id).and_then(|copy| ground.ledger.kept.iter().find(|kept| kept.id == *copy));
    let before = match whole.map(|kept| kept.before.clone()).filter(is_tree) {
        Some(whole) => whole,
        None => match intend::stood(ground.host, &step.id, &step.seen) {
            Ok(before) => before,
            Err(error) => return Ok(Err(error)),
        },
    };
    let before = match intend::keep_content(ground.host, &step.id, &step.seen, before, step.secret)? {
        Ok((before, _)) => before,
        Err(error) => return Ok(Err(error)),
    };
    let entry = ground.ledger.entries.get(&step.id).cloned();
    ground.ledger.unjudged.write(step.id.clone(), Written { before, want: step.want.clone(), entry });
    Ok(Ok(()))
}

fn is_tree(before: &Before) -> bool {
    before.as_found().is_some_and(|spec| spec.is_tree())
}

/// Has each unit judge its files where any of them was written; what one refuses is put back with all that belongs to it.
pub(super) fn judge(ground: &mut Ground<'_>, applied: &mut Applied) -> Result<(), Error> {
    // Half of a set is neither right nor wrong; the next pass puts it back.
    if applied.interrupted || ground.ledger.unjudged.is_empty() {
        return Ok(());
    }
    if ground.settled {
        // All of it goes back to what was judged long ago, whatever a pass that was cut short owes.
        ground.ledger.unjudged = Default::default();
        return Ok(ledger::save(ground.state, ground.ledger)?);
    }
    ground.ledger.unjudged.retain(|id| applied.outcomes.get(id).is_none_or(|outcome| *outcome == Outcome::Done));
    let mut refused = BTreeMap::new();
    for (unit, set) in ground.ledger.unjudged.sets.iter().filter(|(_, set)| !set.validate.is_empty()) {
        let secret = reads_secrets(ground.ledger, unit, spec_of(ground.desired, unit), &applied.reads);
        let verdict = validate::in_place(ground.host, &set.validate, secret);
        if let Err(why) = &verdict {
            refused.extend(set.files.iter().map(|file| (file.clone(), put_back_with(unit, why))));
        }
        applied.judged.insert(unit.clone(), verdict);
    }
    let refused = ground.ledger.unjudged.spread(refused);
    let resting = ground.held.resting();
    for (id, back) in put_back(ground.host, ground.state, ground.ledger, &resting, &refused) {
        let (reason, message) = match back {
            Ok(()) => (validate::FAILED, refused[&id].clone()),
            Err(why) => (NOT_PUT_BACK, format!("{}; it could not be put back: {why}", refused[&id])),
        };
        applied.outcomes.insert(id, Outcome::Failed { reason: reason.to_owned(), message });
    }
    ledger::save(ground.state, ground.ledger)?;
    Ok(())
}

fn put_back_with(unit: &Id, why: &str) -> String {
    format!("put back with all that {} uses: {why}", unit.name())
}

/// What came of a verdict that an earlier pass owed.
#[derive(Debug, Default)]
pub struct Late {
    /// What was put back, and why; for people.
    pub notes: Vec<String>,
    /// What could not be put back, and why; for people.
    pub stuck: Vec<String>,
}

/// Gives the verdict that a pass which was cut short owes: a set that is in place is judged, and put back whole where it is
/// refused; one that is not whole is put back unheard. It is then as if it had never been written.
///
/// # Errors
/// Where our own state cannot be written.
pub fn judge_late(
    host: &mut Writer,
    state: &StateDir,
    ledger: &mut Ledger,
    resting: &BTreeSet<Id>,
) -> Result<Late, Error> {
    let mut late = Late::default();
    if ledger.unjudged.is_empty() || !host.is_machine() {
        return Ok(late);
    }
    let ids: Vec<Id> = ledger.unjudged.files.keys().cloned().collect();
    let seen = kinds::observe(host, &ids.iter().collect::<Vec<_>>());
    let stands: BTreeMap<Id, Stands> = ids
        .into_iter()
        .zip(seen)
        .map(|(id, seen)| {
            // What cannot be looked at is not known to be written.
            let stands = seen.map_or(Stands::NotWritten, |now| ledger.unjudged.files[&id].stands(&now));
            (id, stands)
        })
        .collect();
    let mut refused = BTreeMap::new();
    for (unit, set) in ledger.unjudged.sets.iter().filter(|(_, set)| !set.validate.is_empty()) {
        let any = |what| set.files.iter().any(|file| stands[file] == what);
        let verdict = match any(Stands::NotWritten) {
            true => Err("a pass was cut short before all of it was written".to_owned()),
            false => {
                // What it reads as it starts is not known any more.
                validate::in_place(host, &set.validate, reads_secrets(ledger, unit, None, &Reads::new()))
            }
        };
        if let Err(why) = verdict {
            let message = put_back_with(unit, &why);
            refused.extend(set.files.iter().map(|file| (file.clone(), message.clone())));
            if any(Stands::AsWritten) {
                late.notes.push(message);
            }
        }
    }
    let refused = ledger.unjudged.spread(refused);
    let owing = ledger.unjudged.owing.clone();
    let back = put_back(host, state, ledger, resting, &refused);
    for (id, back) in &back {
        if let Err(why) = back {
            late.stuck.push(format!("{id} could not be put back: {why}"));
        }
    }
    let back = back.into_iter().filter(|(_, back)| back.is_ok()).map(|(id, _)| id).collect();
    drop_debts(host, ledger, &owing, &back);
    ledger::save(state, ledger)?;
    Ok(late)
}

/// What units owe for files that are `back` they owe no longer, unless they did before: they run on what stands there
/// again. One that was started meanwhile may have read what does no longer.
fn drop_debts(host: &Writer, ledger: &mut Ledger, owing: &BTreeSet<Id>, back: &BTreeSet<Id>) {
    let moot = |(id, owed): &(&Id, &ledger::OwedRefresh)| {
        !owing.contains(*id) && owed.because.iter().all(|file| back.contains(file))
    };
    let units: Vec<Id> = ledger.refreshes.iter().filter(moot).map(|(id, _)| id.clone()).collect();
    let seen = kinds::observe(host, &units.iter().collect::<Vec<_>>());
    for (unit, seen) in units.into_iter().zip(seen) {
        let Some(owed) = ledger.refreshes.get_mut(&unit) else { continue };
        match seen {
            Ok(seen) if seen.invocation() == owed.invocation.as_deref() => drop(ledger.refreshes.remove(&unit)),
            _ => owed.invocation = None,
        }
    }
}

/// Puts back what was refused, but for what is `resting`, and says what came of each. It is owed no verdict any more,
/// nor is what was not refused; only what may be put back yet is.
fn put_back(
    host: &mut Writer,
    state: &StateDir,
    ledger: &mut Ledger,
    resting: &BTreeSet<Id>,
    refused: &BTreeMap<Id, String>,
) -> BTreeMap<Id, Result<(), String>> {
    let mut came = BTreeMap::new();
    let mut later = BTreeSet::new();
    if !refused.is_empty() {
        host.say("putting back what was refused");
        // Whoever asks for an end meanwhile gets it once all of it is back.
        host.hear(false);
        let contents = Payloads::new().with_kept(state.clone());
        // What was made last goes first.
        let ids: Vec<&Id> = refused.keys().rev().collect();
        let now = kinds::observe(host, &ids);
        for (id, now) in ids.into_iter().zip(now) {
            let Written { entry, .. } = &ledger.unjudged.files[id];
            let entry = entry.clone();
            let back = match now {
                Ok(_) if resting.contains(id) => Err(Stays::ForNow("it is suspended or contested".to_owned())),
                Ok(now) => one_back(host, &contents, id, &ledger.unjudged.files[id], &now),
                Err(error) => Err(Stays::ForNow(error.chain())),
            };
            match &back {
                Ok(()) => match entry {
                    Some(entry) => drop(ledger.entries.insert(id.clone(), entry)),
                    None => drop(ledger.entries.remove(id)),
                },
                Err(Stays::ForNow(_)) => drop(later.insert(id.clone())),
                Err(Stays::ForGood(_)) => {}
            }
            came.insert(id.clone(), back.map_err(|(Stays::ForNow(why) | Stays::ForGood(why))| why));
        }
        host.hear(true);
    }
    ledger.unjudged.retain(|id| later.contains(id));
    came
}

/// Why something that was refused stays where it is.
enum Stays {
    /// It may be put back yet.
    ForNow(String),
    /// It is none of ours any more, or nobody could put it back.
    ForGood(String),
}

fn one_back(host: &mut Writer, contents: &Payloads, id: &Id, file: &Written, now: &Observed) -> Result<(), Stays> {
    let Some(want) = file.back() else {
        return Err(Stays::ForGood("what stood there is of a kind that cannot be put back".to_owned()));
    };
    if file.stands(now) == Stands::Strange {
        return Err(Stays::ForGood("somebody else changed it meanwhile, and it is left alone".to_owned()));
    }
    let around = Around { resting: &BTreeSet::new(), withheld: &[], enablement: &BTreeMap::new() };
    let done = kinds::apply(host, contents, &[AnyJob { id, want: &want, seen: now }], &around).pop().unwrap_or(Ok(()));
    done.map_err(|error| Stays::ForNow(error.chain()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Wanted;
    use crate::kinds::file;
    use crate::model::{Digest, Drift, Release};

    fn files(names: &[&str]) -> Vec<Id> {
        names.iter().map(|name| Id::new("file", &format!("/etc/{name}"))).collect()
    }

    #[test]
    fn what_stands_or_falls_with_a_verdict_is_what_is_judged_and_what_shares_a_file_with_it() {
        let names = ["a", "b", "c", "d"].map(|name| Id::new("unit", &format!("{name}.service")));
        let silent = unit::Spec::default();
        let judges = unit::Spec { validate: vec!["/bin/judge".to_owned()], ..silent.clone() };
        let set = |at: usize, spec, of: &[&str]| Set { unit: &names[at], spec, files: files(of) };
        let sets = [
            set(0, &silent, &["3", "4"]),
            set(1, &judges, &["1", "2"]),
            set(2, &silent, &["2", "3"]),
            set(3, &silent, &["5"]),
        ];
        let together: Vec<Id> = judged_together(&sets).into_iter().collect();
        assert_eq!(together, files(&["1", "2", "3", "4"]));
        assert!(judged_together(&[sets[0].same(), sets[3].same()]).is_empty(), "nobody judges these");
    }

    #[test]
    fn what_a_unit_reads_as_it_starts_is_of_its_set() {
        let spec = unit::Spec { watch: vec!["/etc/conf".to_owned()], ..unit::Spec::default() };
        let id = Id::new("unit", "a.service");
        let (drift, release) = (Drift::Correct, Release::Restore);
        let spec = Spec::Unit(spec);
        let wanted = Wanted { spec, drift, release, layer: String::new(), exclusive: None, stranger_of: None };
        let desired = Desired {
            host: String::new(),
            resources: BTreeMap::from([(id.clone(), wanted)]),
            update: None,
            max_removals: None,
            checks: BTreeMap::new(),
            unlisted: BTreeMap::new(),
        };
        let all = files(&["conf", "default/a", "other"]).into_iter().collect();
        let of =
            |reads: &Reads| of_units(&desired, reads, &all).into_iter().flat_map(|set| set.files).collect::<Vec<_>>();
        assert_eq!(of(&Reads::new()), files(&["conf"]));
        let reads = Reads::from([(id.clone(), vec!["/etc/default/*".to_owned()])]);
        assert_eq!(of(&reads), files(&["conf", "default/a"]));

        // A judge that may have seen a secret there is not quoted.
        let mut ledger = Ledger::default();
        let mut entry = ledger::Entry::new(ledger::Origin::Adopted, drift, release, "");
        let secret = Some(file::Sealed(Digest::of(b"sealed")));
        entry.applied = Some(Spec::File(file::Spec { secret, ..file::Spec::of(file::What::Attributes) }));
        ledger.entries.insert(files(&["default/a"])[0].clone(), entry);
        let quiet = |reads: &Reads| reads_secrets(&ledger, &id, spec_of(&desired, &id), reads);
        assert_eq!((quiet(&Reads::new()), quiet(&reads)), (false, true));
    }

    impl Set<'_> {
        fn same(&self) -> Self {
            Self { files: self.files.clone(), ..*self }
        }
    }
}
