//! Storey 10: across the write boundary. The plan is walked phase by phase; what is about to be done is
//! in the synced ledger before it is done.

use std::collections::{BTreeMap, BTreeSet};

use crate::brakes::Holds;
use crate::compile::Desired;
use crate::host::{self, About, Aside, Payloads, StateDir, StateError, Writer};
use crate::kinds::{self, Activation, AnyJob, Around, Phase, Refresh, file};
use crate::ledger::{self, Ledger};
use crate::model::{Id, Outcome, Takeover};
use crate::plan::{self, Leave, Plan, Refusal, Step};

mod activate;
mod again;
mod depend;
mod engine;
mod hand;
mod intend;
mod joined;
mod linked;
mod observe;
mod record;
mod refresh;
mod replaced;
mod set;
mod settle;
mod settling;
mod validate;
mod vital;
mod watch;
mod withhold;

pub use hand::{Due, Hand, arm, disarm, is_armed, rest};
pub use intend::{drop_implied, keep_content, stood, sweep_contents};
pub use linked::follow;
pub use observe::observe;
pub use record::record;
pub use set::{Late, NOT_PUT_BACK, judge_late};
pub use settle::settle;
pub use settling::{Eyes, Thing, depending, last_words, look, things, watch};
pub use validate::FAILED as VALIDATION_FAILED;
pub use vital::{Vital, at_stake};

/// The pass cannot go on: our own state cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Our own directory cannot be written.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What applying needs beside the plan.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The machine, exclusively.
    pub host: &'a mut Writer,
    /// Our own directory.
    pub state: &'a StateDir,
    /// What is ours; saved along the way.
    pub ledger: &'a mut Ledger,
    /// What is wanted.
    pub desired: &'a Desired,
    /// The contents that the desired set names.
    pub payloads: &'a Payloads,
    /// Whether what stands on the host may be taken over.
    pub takeover: Takeover,
    /// What is held back.
    pub held: &'a Holds,
    /// How long originals are kept, in seconds.
    pub originals: i64,
    /// Whose leave there is to remove things.
    pub leave: Leave,
    /// What is converged to has settled here before: nobody judges it anew, since what judges may be what is broken.
    pub settled: bool,
    /// Nothing but these is to be touched: root lets go of them by hand. No guard stands in the way then.
    pub only: Option<&'a BTreeSet<Id>>,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Applied {
    /// By step.
    pub outcomes: BTreeMap<Id, Outcome>,
    /// Steps that only showed after packages were installed.
    pub afterwards: Vec<Step>,
    /// Units that restarted, reloaded or ran, or failed to.
    pub refreshed: Vec<Refreshed>,
    /// What the system's own engines did, or failed to.
    pub activated: Vec<(Activation, Outcome)>,
    /// What was let go and stays, and why.
    pub stays: BTreeMap<Id, String>,
    /// What this pass took charge of.
    made: BTreeSet<Id>,
    /// What the `validate` of units said of what stands in place.
    judged: BTreeMap<Id, Result<(), String>>,
    /// What units read as they start, as far as it is known.
    reads: set::Reads,
    /// Units whose package is not there as it is to be, with that.
    unready: BTreeMap<Id, Id>,
    /// What was owed already when this pass began.
    owed: BTreeSet<Id>,
    /// Copies made of what was overwritten, by resource.
    pub kept: BTreeMap<Id, String>,
    /// What was overwritten without a copy: too much is kept in this pass already.
    pub unkept: BTreeSet<Id>,
    /// What else is to be told.
    pub asides: Vec<Aside>,
    /// The second plan, made after packages were installed, was refused by the guard.
    pub refused: Option<Refusal>,
    /// Ended between steps since somebody asked for it.
    pub interrupted: bool,
}

/// What came of one refresh.
#[derive(Debug)]
pub struct Refreshed {
    /// The unit.
    pub id: Id,
    /// What it did.
    pub how: Refresh,
    /// Since these changed.
    pub because: Vec<Id>,
    /// How it went.
    pub outcome: Outcome,
    /// Why it did this where it was to reload: how that failed.
    pub instead: Option<String>,
}

/// Removes what a crash may have left: at the start of each pass that may act, whether there is something to do or not.
pub fn tidy(ground: &mut Ground<'_>) {
    intend::sweep(ground);
    // What was left behind would keep services from starting.
    let _ = kinds::package::start_services_again(ground.host);
    kinds::package::tell_late(ground.host);
    replaced::late(ground);
}

/// Carries out `plan`.
///
/// # Errors
/// Where our own state cannot be written: then nothing further is changed.
pub fn apply(ground: &mut Ground<'_>, plan: &Plan) -> Result<Applied, Error> {
    let owed = ground.ledger.refreshes.keys().cloned().collect();
    let mut applied = Applied { owed, reads: plan.reads.clone(), ..Applied::default() };
    intend::intend(ground, plan, &mut applied)?;

    validate::validate(ground, plan, &[Phase::Stop, Phase::Early], &mut applied);
    walk(ground, plan, &[Phase::Stop, Phase::Early], &mut applied)?;
    for early in [Activation::Sysusers, Activation::PackageIndex].into_iter().filter(|it| plan.activations.contains(it))
    {
        activation(ground, early, &mut applied)?;
    }
    let packages = plan.steps.iter().any(|step| step.phase == Phase::Packages);
    if packages {
        replaced::note(ground)?;
    }
    walk(ground, plan, &[Phase::Packages], &mut applied)?;
    // One that was waited for has ended by now.
    kinds::package::tell_late(ground.host);
    not_begun(ground, plan, &applied)?;

    // Installing packages runs other people's scripts: all that is ours is looked at again.
    applied.interrupted |= packages && ground.host.interrupted();
    let second = if packages && !applied.interrupted { again::again(ground, plan, &mut applied)? } else { None };
    let mut needed = plan.activations.clone();
    let before = plan;
    let plan = second.as_ref().unwrap_or(plan);
    applied.reads.extend(plan.reads.clone());
    needed.extend(plan.activations.iter().copied());

    // What a package's script did to files that are read early is put right now. Judges may come with packages.
    let files = [Phase::Stop, Phase::Early, Phase::Files, Phase::Removals];
    validate::validate(ground, plan, &files, &mut applied);
    set::note(ground, plan, &files, &mut applied)?;
    walk(ground, plan, &files, &mut applied)?;
    set::judge(ground, &mut applied)?;
    intend::drop_implied(ground)?;
    // What failed lately and waits is owed and not planned.
    for needed in needed {
        activation(ground, needed, &mut applied)?;
    }
    forget_failed(ground, before, &applied);
    applied.unready = depend::unready(ground, before, plan, &applied);
    if !ground.settled {
        refuse_starts(ground, plan, &mut applied);
    }
    let runs = refresh::runs(ground, plan);
    walk(ground, plan, &[Phase::Units], &mut applied)?;
    refresh::refresh(ground, plan, &runs, &mut applied)?;
    Ok(applied)
}

/// Carries out the steps of these phases, each phase as one batch a kind, and saves what came of it. What lies below
/// a path that is a step itself waits for what comes of that.
fn walk(ground: &mut Ground<'_>, plan: &Plan, phases: &[Phase], applied: &mut Applied) -> Result<(), Error> {
    for &phase in phases {
        let mut todo: Vec<&Step> = plan.steps.iter().filter(|step| step.phase == phase).collect();
        todo.retain(|step| !applied.outcomes.contains_key(&step.id));
        let mut todo = todo.as_slice();
        let mut tried = false;
        while !todo.is_empty() {
            let (batch, rest) = todo.split_at(independent(todo));
            todo = rest;
            let mut due = Vec::new();
            for step in batch {
                if ground.host.interrupted() {
                    applied.interrupted = true;
                    if tried {
                        ledger::save(ground.state, ground.ledger)?;
                    }
                    return Ok(());
                }
                match depend::missing(step, plan, applied) {
                    Some(because) => drop(applied.outcomes.insert(step.id.clone(), Outcome::Skipped { because })),
                    None => due.push(*step),
                }
            }
            if due.is_empty() {
                continue;
            }
            tried = true;
            if due.iter().any(|step| step.closes_directory()) {
                // What was made only for what has gone from there by now is not in the way.
                intend::drop_implied(ground)?;
            }
            let jobs: Vec<AnyJob<'_>> =
                due.iter().map(|step| AnyJob { id: &step.id, want: &step.want, seen: &step.seen }).collect();
            let withheld = if phase == Phase::Packages { withhold::withheld(ground) } else { Vec::new() };
            let (resting, enablement) = (ground.held.resting(), linked::enablement(ground.desired));
            let around = Around { resting: &resting, withheld: &withheld, enablement: &enablement };
            let results = kinds::apply(ground.host, ground.payloads, &jobs, &around);
            for (step, result) in due.into_iter().zip(results) {
                let said = |error| plan::said(error, Activation::PackageIndex, ground.desired, ground.ledger);
                let result = if phase == Phase::Packages { result.map_err(said) } else { result };
                ended(ground, step, plan, result, applied);
            }
            intend::made(ground);
        }
        if tried {
            ledger::save(ground.state, ground.ledger)?;
        }
    }
    Ok(())
}

/// Looks at the packages that failed, whether anything of what was to be done to them is begun.
fn not_begun(ground: &mut Ground<'_>, plan: &Plan, applied: &Applied) -> Result<(), Error> {
    let failed = |id: &&Id| matches!(applied.outcomes.get(*id), Some(Outcome::Failed { .. }));
    let packages = plan.steps.iter().filter(|step| step.phase == Phase::Packages).map(|step| &step.id);
    let ids: Vec<&Id> = packages.filter(failed).collect();
    if ids.is_empty() || applied.interrupted {
        return Ok(());
    }
    // A transaction of ours that goes on may be about to begin it; it is waited for by the next pass.
    if !kinds::package::none_of_ours_is_at_work(ground.host) {
        return Ok(());
    }
    let seen = kinds::observe(ground.host, &ids);
    record::not_begun(ground.ledger, &ids.into_iter().zip(seen).collect::<Vec<_>>());
    ledger::save(ground.state, ground.ledger)?;
    Ok(())
}

/// How many of the first of `steps` do not lie below one another.
fn independent(steps: &[&Step]) -> usize {
    let mut files = BTreeSet::new();
    let lies_below = |files: &BTreeSet<&str>, step: &Step| {
        step.id.kind() == "file" && file::ancestors(step.id.name()).any(|above| files.contains(above))
    };
    let lies_above = |files: &BTreeSet<&str>, step: &Step| {
        let inside = format!("{}/", step.id.name());
        step.closes_directory() && files.iter().any(|path| path.starts_with(&inside))
    };
    for (at, step) in steps.iter().enumerate() {
        if lies_below(&files, step) || lies_above(&files, step) {
            return at;
        }
        if step.id.kind() == "file" {
            files.insert(step.id.name());
        }
    }
    steps.len()
}

/// Notes how a step ended, in the ledger too.
fn ended(ground: &mut Ground<'_>, step: &Step, plan: &Plan, result: Result<(), host::Error>, applied: &mut Applied) {
    let result = match result {
        Err(error) if error.reason() == "interrupted" => {
            applied.interrupted = true;
            return;
        }
        // What others wait for to make way has not.
        // An undo says what it could not put back.
        Err(error) if !(plan.makes_way(step) || ground.settled && step.phase == Phase::Packages) => {
            match step.stays(&error) {
                Some(why) => {
                    applied.stays.insert(step.id.clone(), why);
                    Ok(())
                }
                None => Err(error),
            }
        }
        result => result,
    };
    let outcome = depend::outcome(step, result, plan, &applied.outcomes);
    if outcome == Outcome::Done {
        record::done(ground.ledger, ground.desired, step);
        if step.closes_directory() && !applied.stays.contains_key(&step.id) {
            record::gone_with(ground.ledger, &step.id, ground.desired);
        }
    }
    applied.outcomes.insert(step.id.clone(), outcome);
}

/// Has the system's own engine do what a changed file asks for, if that is owed.
fn activation(ground: &mut Ground<'_>, what: Activation, applied: &mut Applied) -> Result<(), Error> {
    if !ground.ledger.activations.contains(&what) || applied.activated.iter().any(|(done, _)| *done == what) {
        return Ok(());
    }
    if ground.host.interrupted() {
        applied.interrupted = true;
        return Ok(());
    }
    let ours = activate::ours(ground.host, what, ground.desired);
    let outcome = match activate::activate(ground.host, what, &ours) {
        Ok(complaint) => {
            if let Some((program, said)) = complaint {
                let is_secret = plan::reads_secrets(what, ground.desired, ground.ledger);
                let said = if is_secret { host::UNSAID.to_owned() } else { said };
                let line = format!("{program} ended well, but said: {said}");
                ground.host.tell_aside(Aside { about: About::Engine(program.to_owned()), line });
            }
            ground.ledger.activations.remove(&what);
            ledger::save(ground.state, ground.ledger)?;
            Outcome::Done
        }
        Err(error) => failed(&plan::said(error, what, ground.desired, ground.ledger)),
    };
    applied.activated.push((what, outcome));
    Ok(())
}

/// Has systemd forget what failed of the units that were let go, or whose files were removed.
fn forget_failed(ground: &mut Ground<'_>, plan: &Plan, applied: &Applied) {
    let steps = plan.steps.iter().filter(|step| applied.outcomes.get(&step.id) == Some(&Outcome::Done));
    let gone = steps.filter(|step| match step.id.kind() {
        "unit" => step.action == plan::Action::LetGo,
        _ => step.want.removes() && kinds::unit::may_define(&step.id),
    });
    let gone = gone.map(|step| &step.id).chain(plan.forgotten.iter().filter(|id| id.kind() == "unit"));
    let names: BTreeSet<&str> = gone.filter_map(|id| id.name().rsplit('/').next()).collect();
    if !names.is_empty() {
        kinds::unit::forget_failed(ground.host, &names.into_iter().collect::<Vec<_>>());
    }
}

/// What the `validate` of `unit` says of what stands in place, if it has one.
fn verdict(ground: &mut Ground<'_>, unit: &Id, applied: &mut Applied) -> Result<(), String> {
    let command = match ground.desired.resources.get(unit).map(|wanted| &wanted.spec) {
        Some(kinds::Spec::Unit(spec)) if ground.host.is_machine() => spec.validate.as_slice(),
        _ => &[],
    };
    if command.is_empty() {
        return Ok(());
    }
    let secret = set::reads_secrets(ground.ledger, unit, set::spec_of(ground.desired, unit), &applied.reads);
    let host = &mut *ground.host;
    applied.judged.entry(unit.clone()).or_insert_with(|| validate::in_place(host, command, secret)).clone()
}

/// Notes as failed what would be started, or started anew, on what its `validate` refuses.
fn refuse_starts(ground: &mut Ground<'_>, plan: &Plan, applied: &mut Applied) {
    let starts = |step: &&Step| kinds::unit::starts(&step.changes) || step.remedy().is_some();
    for step in plan.steps.iter().filter(starts).filter(|step| step.phase == Phase::Units) {
        let known = applied.outcomes.contains_key(&step.id);
        if known || ground.host.interrupted() || depend::missing(step, plan, applied).is_some() {
            continue;
        }
        if let Err(message) = verdict(ground, &step.id, applied) {
            let outcome = Outcome::Failed { reason: validate::FAILED.to_owned(), message };
            applied.outcomes.insert(step.id.clone(), outcome);
        }
    }
}

fn failed(error: &host::Error) -> Outcome {
    Outcome::Failed { reason: error.reason().to_owned(), message: error.chain() }
}
