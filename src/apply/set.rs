//! The files that one unit uses are judged once all are in place, by the `validate` of that unit. Where it refuses them,
//! all of them are put back before anything reads them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Applied, Error, Ground, validate};
use crate::compile::Desired;
use crate::host::Payloads;
use crate::kinds::unit::{self, Unit};
use crate::kinds::{self, AnyJob, Around, Kind, Observed, Phase, Spec};
use crate::ledger::{self, Entry};
use crate::model::{Id, Outcome};
use crate::plan::{Plan, Step};

/// What stood where the files of units go, before any of them is written.
pub(super) struct Sets {
    stood: BTreeMap<Id, Stood>,
    contents: Payloads,
}

struct Stood {
    seen: Observed,
    /// What the ledger says, with the intent, and without what comes of it.
    entry: Option<Entry>,
}

/// A unit with what it uses of some files.
pub(super) struct Set<'d> {
    pub(super) unit: &'d Id,
    pub(super) spec: &'d unit::Spec,
    /// Sorted.
    pub(super) files: Vec<Id>,
}

/// What each declared unit uses of `files`; none that uses nothing of them.
pub(super) fn of_units<'d>(desired: &'d Desired, files: &BTreeSet<Id>) -> Vec<Set<'d>> {
    let set = |(id, spec): (&'d Id, &'d unit::Spec)| Set { unit: id, spec, files: Unit::used(id.name(), spec, files) };
    units(desired).map(set).filter(|set| !set.files.is_empty()).collect()
}

fn units(desired: &Desired) -> impl Iterator<Item = (&Id, &unit::Spec)> {
    desired.resources.iter().filter_map(|(id, wanted)| match &wanted.spec {
        Spec::Unit(spec) => Some((id, spec)),
        _ => None,
    })
}

/// Remembers what stands where the steps of these phases write files that a unit uses, where any is judged in place.
/// What cannot be remembered is not overwritten.
pub(super) fn remember(ground: &Ground<'_>, plan: &Plan, phases: &[Phase], applied: &mut Applied) -> Sets {
    let mut sets = Sets { stood: BTreeMap::new(), contents: Payloads::new() };
    if ground.settled || !ground.host.is_machine() || units(ground.desired).all(|(_, spec)| spec.validate.is_empty()) {
        return sets;
    }
    let due = |step: &&Step| {
        phases.contains(&step.phase) && !applied.outcomes.contains_key(&step.id) && step.id.kind() == "file"
    };
    let due: Vec<&Step> = plan.steps.iter().filter(due).collect();
    let files = due.iter().map(|step| step.id.clone()).collect();
    let used: BTreeSet<Id> = of_units(ground.desired, &files).into_iter().flat_map(|set| set.files).collect();
    for step in due.into_iter().filter(|step| used.contains(&step.id)) {
        match step.seen.content(ground.host, step.id.name()) {
            Ok(content) => {
                content.map(|content| sets.contents.insert(content));
                let entry = ground.ledger.entries.get(&step.id).cloned();
                sets.stood.insert(step.id.clone(), Stood { seen: step.seen.clone(), entry });
            }
            Err(error) => drop(applied.outcomes.insert(step.id.clone(), super::failed(&error))),
        }
    }
    sets
}

/// Has each unit judge its files where any of them was written; what one refuses is put back with all that belongs to it.
pub(super) fn judge(ground: &mut Ground<'_>, sets: &Sets, applied: &mut Applied) -> Result<(), Error> {
    // Half of a set is neither right nor wrong.
    if applied.interrupted {
        return Ok(());
    }
    let done = |id: &&Id| applied.outcomes.get(*id) == Some(&Outcome::Done);
    let written: BTreeSet<Id> = sets.stood.keys().filter(done).cloned().collect();
    let written = of_units(ground.desired, &written);
    let mut refused: BTreeMap<Id, String> = BTreeMap::new();
    for Set { unit, spec, files } in written.iter().filter(|set| !set.spec.validate.is_empty()) {
        let verdict = validate::in_place(ground.host, &spec.validate);
        if let Err(why) = &verdict {
            let message = format!("put back with all that {} uses: {why}", unit.name());
            refused.extend(files.iter().map(|file| (file.clone(), message.clone())));
        }
        applied.judged.insert((*unit).clone(), verdict);
    }
    // What is put back may belong to other sets, and those are whole or not at all.
    let mut known = 0;
    while refused.len() > known {
        known = refused.len();
        for Set { files, .. } in &written {
            if let Some(message) = files.iter().find_map(|file| refused.get(file)).cloned() {
                for file in files {
                    refused.entry(file.clone()).or_insert_with(|| message.clone());
                }
            }
        }
    }
    put_back(ground, sets, &refused, applied)
}

fn put_back(
    ground: &mut Ground<'_>,
    sets: &Sets,
    refused: &BTreeMap<Id, String>,
    applied: &mut Applied,
) -> Result<(), Error> {
    if refused.is_empty() {
        return Ok(());
    }
    ground.host.say("putting back what was refused");
    // Whoever asks for an end meanwhile gets it once all of it is back.
    ground.host.hear(false);
    // What was made last goes first.
    let ids: Vec<&Id> = refused.keys().rev().collect();
    let now = kinds::observe(ground.host, &ids);
    for (id, now) in ids.into_iter().zip(now) {
        let stood = &sets.stood[id];
        let done = match (stood.seen.before().as_found(), now) {
            (Some(want), Ok(seen)) => {
                let jobs = [AnyJob { id, want: &want, seen: &seen }];
                let around = Around { resting: &ground.held.resting(), withheld: &[] };
                kinds::apply(ground.host, &sets.contents, &jobs, &around).pop().unwrap_or(Ok(())).map_err(|e| e.chain())
            }
            (None, _) => Err("what stood there is of a kind that cannot be put back".to_owned()),
            (_, Err(error)) => Err(error.chain()),
        };
        let (reason, message) = match done {
            Ok(()) => {
                match &stood.entry {
                    Some(entry) => drop(ground.ledger.entries.insert(id.clone(), entry.clone())),
                    None => drop(ground.ledger.entries.remove(id)),
                }
                (validate::FAILED, refused[id].clone())
            }
            Err(why) => ("not-put-back", format!("{}; it could not be put back: {why}", refused[id])),
        };
        applied.outcomes.insert(id.clone(), Outcome::Failed { reason: reason.to_owned(), message });
    }
    ground.host.hear(true);
    ledger::save(ground.state, ground.ledger)?;
    Ok(())
}
