//! The files that one unit uses are judged once all are in place, by the `validate` of that unit. Where it refuses them,
//! all of them are put back before anything reads them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Applied, Error, Ground, validate};
use crate::host::Payloads;
use crate::kinds::{self, AnyJob, Around, Observed, Phase, Spec, unit};
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

/// Units with the files that they use.
fn units<'d>(ground: &Ground<'d>) -> impl Iterator<Item = (&'d Id, &'d unit::Spec)> + use<'d> {
    ground.desired.resources.iter().filter_map(|(id, wanted)| match &wanted.spec {
        Spec::Unit(spec) => Some((id, spec)),
        _ => None,
    })
}

/// Remembers what stands where the steps of these phases write files that a unit uses, where any is judged in place.
/// What cannot be remembered is not overwritten.
pub(super) fn remember(ground: &Ground<'_>, plan: &Plan, phases: &[Phase], applied: &mut Applied) -> Sets {
    let mut sets = Sets { stood: BTreeMap::new(), contents: Payloads::new() };
    if !ground.host.is_machine() || units(ground).all(|(_, spec)| spec.validate.is_empty()) {
        return sets;
    }
    let due = |step: &&Step| {
        let new = phases.contains(&step.phase) && !applied.outcomes.contains_key(&step.id);
        new && step.id.kind() == "file" && units(ground).any(|(id, spec)| unit::uses(id.name(), spec, &step.id))
    };
    let due: Vec<&Step> = plan.steps.iter().filter(due).collect();
    for step in due {
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
    let written: BTreeSet<&Id> =
        sets.stood.keys().filter(|id| applied.outcomes.get(*id) == Some(&Outcome::Done)).collect();
    let mut refused: BTreeMap<Id, String> = BTreeMap::new();
    for (id, spec) in units(ground).filter(|(_, spec)| !spec.validate.is_empty()) {
        let own = |file: &&&Id| unit::uses(id.name(), spec, file);
        if written.iter().any(|file| own(&file)) {
            let verdict = validate::in_place(ground.host, &spec.validate);
            if let Err(why) = &verdict {
                let message = format!("put back with all that {} uses: {why}", id.name());
                refused.extend(written.iter().filter(own).map(|file| ((*file).clone(), message.clone())));
            }
            applied.judged.insert(id.clone(), verdict);
        }
    }
    while let Some((file, message)) = beside(ground, &written, &refused) {
        refused.insert(file, message);
    }
    put_back(ground, sets, &refused, applied)
}

/// A file that was written, and belongs to a set of which something is refused.
fn beside(ground: &Ground<'_>, written: &BTreeSet<&Id>, refused: &BTreeMap<Id, String>) -> Option<(Id, String)> {
    units(ground).find_map(|(id, spec)| {
        let own = |file: &Id| unit::uses(id.name(), spec, file);
        let (_, message) = refused.iter().find(|(file, _)| own(file))?;
        let file = written.iter().find(|file| own(file) && !refused.contains_key(**file))?;
        Some(((*file).clone(), message.clone()))
    })
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
