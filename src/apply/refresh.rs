//! Units restart, reload or run since something that they use changed, or since what they run is older than what stands on
//! the host.

use std::collections::BTreeMap;

use super::{Applied, Error, Ground, Refreshed, failed, set, validate, verdict};
use crate::host;
use crate::kinds::{self, Activation, Refresh, unit};
use crate::ledger::{self, CaughtUp};
use crate::model::{Id, Outcome};
use crate::plan::{Plan, PlannedRefresh, Step};

/// By unit, which run of it has still to do what is asked of it.
pub(super) type Runs = BTreeMap<Id, String>;

/// Which run each unit is that `plan` moves, once all that it reads stands in place: another one has read that.
pub(super) fn runs(ground: &Ground<'_>, plan: &Plan) -> Runs {
    let ids: Vec<&Id> = plan.refreshes.iter().map(|refresh| &refresh.id).collect();
    let names: Vec<&str> = ids.iter().map(|id| id.name()).collect();
    let runs = unit::runs(ground.host, &names);
    ids.into_iter().zip(runs).filter_map(|(id, run)| Some((id.clone(), run?))).collect()
}

/// Restarts, reloads and runs what uses something that changed, and what catches up; each debt is dropped once paid.
pub(super) fn refresh(ground: &mut Ground<'_>, plan: &Plan, runs: &Runs, applied: &mut Applied) -> Result<(), Error> {
    let changed = |id: &Id| !matches!(applied.outcomes.get(id), Some(Outcome::Failed { .. } | Outcome::Skipped { .. }));
    // A file that could not be changed triggers nothing.
    let (due, moot): (Vec<&PlannedRefresh>, Vec<_>) =
        plan.refreshes.iter().partition(|refresh| refresh.because.iter().any(changed));
    let owing = plan.owing.iter().map(|held| &held.refresh);
    let moot = moot.into_iter().chain(owing.filter(|refresh| !refresh.because.iter().any(changed)));
    for refresh in moot.filter(|refresh| !applied.owed.contains(&refresh.id)) {
        ground.ledger.refreshes.remove(&refresh.id);
    }
    let late = catching_up(ground, plan, applied);
    let runs: Runs =
        late.iter().filter_map(|late| Some((late.id.clone(), late.invocation.clone()?))).chain(runs.clone()).collect();
    if ground.host.interrupted() && !(due.is_empty() && late.is_empty()) {
        applied.interrupted = true;
        applied.outcomes.retain(|id, _| !late.iter().any(|late| late.id == *id));
        return Ok(());
    }
    // By its new unit file a unit can only run once systemd has read that. Until then it stays owed.
    let unread = ground.ledger.activations.contains(&Activation::DaemonReload);
    let defined = |refresh: &&PlannedRefresh| refresh.because.iter().any(|id| unit::is_its_file(refresh.id.name(), id));
    let (blind, mut due): (Vec<_>, Vec<_>) = due.into_iter().partition(|refresh| unread && defined(refresh));
    // Where that was not tried in this pass, it waits, and this with it.
    let why = applied.activated.iter().find(|(what, _)| *what == Activation::DaemonReload);
    if let Some((_, outcome @ Outcome::Failed { .. })) = why.cloned() {
        applied.refreshed.extend(blind.into_iter().map(|refresh| Refreshed::of(refresh, outcome.clone())));
    }
    let (waiting, ready): (Vec<_>, Vec<_>) = due.into_iter().partition(|it| applied.unready.contains_key(&it.id));
    for refresh in waiting {
        // It stays owed.
        let because = applied.unready[&refresh.id].clone();
        applied.refreshed.push(Refreshed::of(refresh, Outcome::Skipped { because }));
    }
    due = ready;
    if !ground.settled {
        due = accepted(ground, due, applied);
    }
    // What these units accept is known already.
    due.extend(&late);
    let turns: Vec<unit::Turn<'_>> = due.iter().map(|refresh| turn(&refresh.id, refresh.how, &runs)).collect();
    let results = if turns.is_empty() { Vec::new() } else { unit::refresh(ground.host, &turns) };
    let ended = |(refresh, result): (&&PlannedRefresh, Result<(), host::Error>)| {
        Refreshed::of(refresh, result.map_or_else(|error| failed(&error), |()| Outcome::Done))
    };
    let mut refreshed: Vec<Refreshed> = due.iter().zip(results).map(ended).collect();
    fall_back(ground, &runs, &mut refreshed);
    // What failed stays owed: the unit still runs on what was there before.
    for done in refreshed.iter().filter(|refreshed| refreshed.outcome == Outcome::Done) {
        // Nor does a reload pay for a restart that came to be owed meanwhile.
        if ground.ledger.refreshes.get(&done.id).is_some_and(|owed| owed.how >= done.how) {
            ground.ledger.refreshes.remove(&done.id);
        }
    }
    caught_up(ground, &due, &refreshed);
    for one in refreshed {
        if !late.iter().any(|late| late.id == one.id) {
            applied.refreshed.push(one);
        } else if one.outcome != Outcome::Done {
            applied.outcomes.insert(one.id, one.outcome);
        } else if one.instead.is_some() {
            // More than its step says.
            applied.refreshed.push(one);
        }
    }
    if !plan.refreshes.is_empty() || !plan.owing.is_empty() || plan.steps.iter().any(|step| step.remedy().is_some()) {
        ledger::save(ground.state, ground.ledger)?;
    }
    Ok(())
}

/// What the steps that catch up are to do, where nothing kept them from it. What is not tried is not owed: a look finds it
/// again.
fn catching_up(ground: &mut Ground<'_>, plan: &Plan, applied: &Applied) -> Vec<PlannedRefresh> {
    let mut due = Vec::new();
    for late in plan.steps.iter().filter_map(Step::catching_up) {
        match applied.outcomes.get(&late.id) {
            Some(Outcome::Done) => due.push(late),
            // What is owed for something else, too, is found by no look.
            _ if ground.ledger.refreshes.get(&late.id).is_some_and(|owed| owed.catches_up) => {
                ground.ledger.refreshes.remove(&late.id);
            }
            _ => {}
        }
    }
    due
}

/// Notes which runs have begun with what their units had to catch up with.
fn caught_up(ground: &mut Ground<'_>, due: &[&PlannedRefresh], refreshed: &[Refreshed]) {
    let restarted = |one: &Refreshed| one.outcome == Outcome::Done && one.how == Refresh::Restart;
    let all = due.iter().zip(refreshed).filter(|(late, one)| late.catches_up && restarted(one));
    let late: Vec<&PlannedRefresh> = all.map(|(late, _)| *late).collect();
    let runs = unit::runs(ground.host, &late.iter().map(|late| late.id.name()).collect::<Vec<_>>());
    for (late, run) in late.into_iter().zip(runs) {
        if let Some(run) = run.filter(|run| late.invocation.as_ref() != Some(run)) {
            ground.ledger.caught_up.insert(late.id.clone(), CaughtUp { with: late.because.clone(), run });
        }
    }
}

fn turn<'t>(id: &'t Id, how: Refresh, runs: &'t Runs) -> unit::Turn<'t> {
    unit::Turn { name: id.name(), how, run: runs.get(id).map(String::as_str) }
}

/// Restarts the units that failed to reload, still run, and are declared to be restarted then: once, whatever comes of it.
fn fall_back(ground: &mut Ground<'_>, runs: &Runs, refreshed: &mut [Refreshed]) {
    let falls = |one: &&mut Refreshed| {
        let declared = || set::spec_of(ground.desired, &one.id);
        one.how == Refresh::Reload
            && one.outcome != Outcome::Done
            && declared().is_some_and(|spec| unit::falls_back(one.id.name(), spec))
    };
    let failed: Vec<&mut Refreshed> = refreshed.iter_mut().filter(falls).collect();
    if failed.is_empty() || ground.host.interrupted() {
        return;
    }
    let seen = kinds::observe(ground.host, &failed.iter().map(|one| &one.id).collect::<Vec<_>>());
    let is_up = |seen| matches!(seen, Ok(kinds::Observed::Unit(seen)) if seen.is_active());
    let running = failed.into_iter().zip(seen).filter_map(|(one, seen)| is_up(seen).then_some(one)).collect::<Vec<_>>();
    let ids: Vec<Id> = running.iter().map(|one| one.id.clone()).collect();
    let turns: Vec<unit::Turn<'_>> = ids.iter().map(|id| turn(id, Refresh::Restart, runs)).collect();
    let results = unit::refresh(ground.host, &turns);
    for (one, result) in running.into_iter().zip(results) {
        let Outcome::Failed { message: reload, .. } = std::mem::replace(&mut one.outcome, Outcome::Done) else {
            continue;
        };
        if let Err(error) = result {
            let message = format!("{}; its reload had failed before: {reload}", error.chain());
            one.outcome = Outcome::Failed { reason: error.reason().to_owned(), message };
        }
        (one.how, one.instead) = (Refresh::Restart, Some(reload));
    }
}

/// Those of `due` whose unit accepts what stands in place. The others stay owed: they run on what was there before.
fn accepted<'p>(
    ground: &mut Ground<'_>,
    due: Vec<&'p PlannedRefresh>,
    applied: &mut Applied,
) -> Vec<&'p PlannedRefresh> {
    let mut accepted = Vec::new();
    for refresh in due {
        match verdict(ground, &refresh.id, applied) {
            Ok(()) => accepted.push(refresh),
            Err(message) => {
                let outcome = Outcome::Failed { reason: validate::FAILED.to_owned(), message };
                applied.refreshed.push(Refreshed::of(refresh, outcome));
            }
        }
    }
    accepted
}

impl Refreshed {
    fn of(refresh: &PlannedRefresh, outcome: Outcome) -> Self {
        let PlannedRefresh { id, how, because, .. } = refresh.clone();
        Self { id, how, because, outcome, instead: None }
    }
}
