//! Installing packages runs other people's scripts: afterwards all that is ours is looked at again, and what
//! is left to do is planned anew.

use std::collections::{BTreeMap, BTreeSet};

use super::{Applied, Error, Ground, intend, linked, observe, record, replaced};
use crate::compile::Desired;
use crate::host;
use crate::kinds::{Observed, Phase, Refresh, Spec, package, unit};
use crate::ledger::OwedRefresh;
use crate::model::{Id, Outcome};
use crate::plan::{self, Plan, Situation, Step};

/// The plan of what is left after packages were installed. What the packages brought to a path that we have
/// not written yet is what stood there before us. None where an end was asked for: what is then not looked at did
/// not fail.
pub(super) fn again(ground: &mut Ground<'_>, plan: &Plan, applied: &mut Applied) -> Result<Option<Plan>, Error> {
    ground.host.say("looking again after the package transaction");
    let later: Vec<&Step> = plan.steps.iter().filter(|step| step.phase > Phase::Packages).collect();
    for step in &later {
        if applied.made.contains(&step.id) && ground.ledger.entries.get(&step.id).is_some_and(|e| e.applied.is_none()) {
            ground.ledger.entries.remove(&step.id);
        }
        // What it is behind in now is found anew.
        if step.remedy().is_some() && !applied.owed.contains(&step.id) {
            ground.ledger.refreshes.remove(&step.id);
        }
    }
    let desired = still_strange(ground);
    let desired = desired.as_ref().unwrap_or(ground.desired);
    let all = plan::concerned(desired, ground.ledger);
    let ids: Vec<Id> =
        all.into_iter().filter(|id| ground.only.is_none_or(|only| only.contains(*id))).cloned().collect();
    let mut observed = observe(ground.host, desired, ground.ledger, &ids.iter().collect::<Vec<_>>());
    if ground.host.interrupted() {
        applied.interrupted = true;
        return Ok(None);
    }
    let units = desired.resources.iter().map(|(id, wanted)| (id, &wanted.spec));
    // What cannot be told of a unit is its own failure now.
    unit::add_start_files(ground.host, units, &mut observed);
    let brought: BTreeSet<Id> = later.iter().filter(|step| step.seen.is_absent()).map(|step| step.id.clone()).collect();
    // What is owed for what packages brought is owed whatever becomes of the second plan.
    applied.owed.extend(replaced::owe(ground.host, ground.ledger));
    applied.owed.extend(started_early(ground, plan, &later, &observed));
    let made = |observed: &BTreeMap<Id, Result<Observed, host::Error>>| {
        plan::make(&Situation {
            ledger: ground.ledger,
            desired,
            observed,
            takeover: ground.takeover,
            brought: &brought,
            held: ground.held,
            originals: ground.originals,
            now: ground.host.now(),
        })
    };
    let mut second = made(&observed);
    if linked::follow(ground.host, ground.payloads, (desired, ground.ledger), &second, &mut observed) {
        second = made(&observed);
    }
    second.steps.retain(|step| !applied.outcomes.contains_key(&step.id));
    // There is one transaction in a pass: what it undid of other packages is for the next.
    let (mut undone, steps) = second.steps.into_iter().partition::<Vec<_>, _>(|step| step.phase == Phase::Packages);
    second.steps = steps;
    // What was refused beforehand was not part of it, and has been told.
    undone.retain(|step| !plan.failed.iter().any(|unseen| unseen.id == step.id));
    undone.retain(|step| !plan.left.iter().any(|left| left.id == step.id));
    if let Some(only) = ground.only {
        second.steps.retain(|step| only.contains(&step.id));
        second.failed.retain(|unseen| only.contains(&unseen.id));
    } else if let Err(refusal) = plan::guard(&second, ground.ledger, ground.desired, ground.leave) {
        applied.refused = Some(refusal);
        // What will not be written will not have to be restarted for.
        ground.ledger.refreshes.retain(|id, _| applied.owed.contains(id));
        second.steps.clear();
        second.refreshes.clear();
        second.owing.clear();
        return Ok(Some(second));
    }
    answer(ground, &later, &second, applied);
    for step in &undone {
        let message = format!("{}: the package transaction changed it; the next pass puts it right", step.id);
        applied.outcomes.insert(step.id.clone(), Outcome::Failed { reason: "did-not-hold".to_owned(), message });
    }
    let planned: BTreeSet<&Id> = plan.steps.iter().map(|step| &step.id).collect();
    let late = second.steps.iter().chain(&undone).filter(|step| !planned.contains(&step.id));
    applied.afterwards = late.cloned().collect();
    intend::intend(ground, &second, applied)?;
    Ok(Some(second))
}

/// Has the units that a package has started by itself, past all that withholds its first start, owe a restart, where files
/// were still to come: they run on what the package brought. Names them.
fn started_early(
    ground: &mut Ground<'_>,
    plan: &Plan,
    later: &[&Step],
    observed: &BTreeMap<Id, Result<Observed, host::Error>>,
) -> BTreeSet<Id> {
    let mut owing = BTreeSet::new();
    if !later.iter().any(|step| step.phase < Phase::Units) {
        return owing;
    }
    let packages = plan.steps.iter().filter(|step| step.phase == Phase::Packages).map(|step| &step.id);
    for step in later {
        let Some(Spec::Unit(want)) = ground.desired.resources.get(&step.id).map(|wanted| &wanted.spec) else {
            continue;
        };
        if let Some(Ok(Observed::Unit(seen))) = observed.get(&step.id)
            && step.seen.is_absent()
            && want.active == Some(true)
            && seen.is_active()
        {
            let (because, invocation) = (packages.clone().cloned().collect(), seen.invocation.clone());
            let owed = OwedRefresh { how: Refresh::Restart, because, invocation, catches_up: false };
            ground.ledger.refreshes.insert(step.id.clone(), owed);
            owing.insert(step.id.clone());
        }
    }
    owing
}

/// What is wanted, without the strangers that a package has brought or taken over since: those are none any more. None
/// where nothing is another. What is a stranger by now, and was none, is found by the next pass.
fn still_strange(ground: &Ground<'_>) -> Option<Desired> {
    let strangers = ground.desired.resources.iter().filter(|(_, wanted)| wanted.stranger_of.is_some());
    let names: BTreeSet<String> = strangers.map(|(id, _)| id.name().to_owned()).collect();
    if names.is_empty() {
        return None;
    }
    // Where it cannot be told whose they are they are left alone.
    let owned = package::owned(ground.host, &names).unwrap_or(names);
    let mut desired = ground.desired.clone();
    desired.resources.retain(|id, wanted| wanted.stranger_of.is_none() || !owned.contains(id.name()));
    Some(desired)
}

/// What was planned and is not in the second plan has its outcome from that: nothing is dropped in silence.
fn answer(ground: &mut Ground<'_>, later: &[&Step], second: &Plan, applied: &mut Applied) {
    for step in later {
        let id = &step.id;
        if applied.outcomes.contains_key(id) || second.steps.iter().any(|other| other.id == *id) {
            continue;
        }
        let failed = |reason: &str, message: String| Outcome::Failed { reason: reason.to_owned(), message };
        let unseen = second.failed.iter().chain(&second.deferred).find(|unseen| unseen.id == *id);
        let told = second.told.iter().find(|told| told.id == *id).map(|told| told.reason);
        let held = second.held.iter().find(|held| held.step.id == *id).map(|held| held.why.word());
        let outcome = if second.adopted.contains(id) || second.in_sync.contains(id) {
            // The package itself brought about what was planned.
            record::brought_about(ground.ledger, ground.desired, step);
            Outcome::Done
        } else if second.forgotten.contains(id) || second.left.iter().any(|left| left.id == *id) {
            ground.ledger.entries.remove(id);
            Outcome::Done
        } else if let Some(unseen) = unseen {
            failed(unseen.reason, unseen.message.clone())
        } else if let Some(reason) = told.or(held) {
            failed(reason, format!("{id}: it differs after the package transaction and is left as it is"))
        } else {
            failed("stale", format!("{id}: it changed while packages were installed; the next pass looks again"))
        };
        applied.outcomes.insert(id.clone(), outcome);
    }
}
