//! Right of the write boundary: apply, settle, record.

use super::forward::{begin, remember};
use super::stop::{At, stop};
use super::{Ask, Looked, offline, seconds, trial, undo};
use crate::apply::{self, Applied, Ground};
use crate::host::{self, Payloads, StateDir, Writer};
use crate::ledger;
use crate::model::{Digest, Id, Outcome, Revision, Stage, Stop};
use crate::plan::Plan;
use crate::report::{Report, commit_text};

/// Everything right of the write boundary.
pub(super) fn act(host: &mut Writer, ask: &Ask, looked: Looked) -> Report {
    let Looked { mut report, mut plan, desired, payloads, mut ledger, revision, mut forward, standing, .. } = looked;
    let Looked { mut restraint, held, recovered, damaged, undoing, .. } = looked;
    let state = host.state();
    let now = host.now();
    // As long as it has to be, it would pass for whole.
    let mended = if damaged { payloads.write(&state).at(Stage::Record) } else { Ok(()) };
    if ask.booting {
        plan.only_what_lies_in_files();
    }
    let newer = forward.as_ref().is_some_and(|forward| !forward.by_root);
    let begun = mended
        .and_then(|()| begin(&state, forward.as_mut(), &revision, &desired, &payloads, now))
        .and_then(|()| if recovered { ledger::save(&state, &ledger).at(Stage::Record) } else { Ok(()) })
        .and_then(|()| restraint.about_to(&state, &plan, &desired, now))
        .and_then(|()| match ask.booting {
            true => trial::Trial::load(&state).map(Some),
            false => trial::begin(host, ask, &plan, &desired, &revision),
        })
        .and_then(|trial| match undoing {
            None => undo::lift(&state, revision.commit.as_ref(), newer).map(|()| trial),
            Some(_) => Ok(trial),
        })
        .and_then(|trial| arm(host, ask, trial.as_ref(), undoing.is_some()).map(|()| trial));
    let trial = match begun {
        Ok(trial) => trial,
        Err(stop) => {
            report.stopped(&stop);
            return report;
        }
    };
    host.leave_sign();
    let leave = if undoing.is_some() { ask.leave.back() } else { ask.leave };
    let mut ground = Ground {
        host,
        state: &state,
        ledger: &mut ledger,
        desired: &desired,
        payloads: &payloads,
        takeover: ask.settings.policy.takeover,
        held: &held,
        originals: seconds(ask.settings.state.originals),
        leave,
        settled: undoing.is_some(),
        only: None,
    };
    apply::tidy(&mut ground);
    let mut applied = if plan.is_empty() { Ok(Applied::default()) } else { apply::apply(&mut ground, &plan) };
    if let Ok(applied) = &mut applied {
        ground.host.say("looking at what was done");
        apply::settle(ground.host, &plan, applied);
        applied.asides = ground.host.take_asides();
    }
    let recorded = applied.at(Stage::Apply).and_then(|mut applied| {
        applied.interrupted |= ask.booting;
        restraint.came_of(&state, &plan, &applied, &desired, ground.host.now())?;
        if let Some(standing) = &standing {
            standing.lift(&mut report);
        }
        report.applied(&plan, &applied);
        let ended = Acted { plan: &plan, applied: &applied, revision: &revision, undoing: undoing.as_ref() };
        let converged = conclude(&mut ground, ask, &mut report, &ended, trial);
        if let Some(standing) = &standing {
            standing.insist(&mut report);
        }
        if converged? {
            remember(&state, forward.as_mut(), &revision, true, now)?;
        }
        // What cannot be told may be needed.
        match needed_packs(&state, &payloads, undoing.is_some()) {
            Ok(needed) => apply::sweep_contents(&ground, &needed).at(Stage::Record),
            Err(_) => Ok(()),
        }
    });
    if let Err(stop) = recorded {
        report.stopped(&stop);
    }
    let attempted = undoing.map(|undoing| undoing.commit.to_string());
    report.revision.attempted = Some(attempted.unwrap_or_else(|| commit_text(&revision)));
    report.revision.applied = ledger.applied.as_ref().map(commit_text);
    report
}

/// Arms the dead man's hand before the first step of what can be undone, and keeps the program that undoes it. What is
/// undone already is not held up by that.
fn arm(host: &mut Writer, ask: &Ask, trial: Option<&trial::Trial>, undoing: bool) -> Result<(), Stop> {
    let owed = trial.is_some_and(|trial| trial.can_be_undone() || undoing && trial.is_owed());
    if !owed {
        return apply::disarm(host).at(Stage::Record);
    }
    if ask.booting {
        return Ok(());
    }
    let commit = trial.filter(|_| !undoing).map(|trial| trial.commit.as_str());
    let kept = host.state().keep_program(ask.worker.executable(), false).at(Stage::Record);
    let armed = apply::arm(host, commit, ask.settings.change.deadline).map_err(|error| unarmed(&error));
    if undoing { Ok(()) } else { kept.and(armed) }
}

fn unarmed(error: &host::Error) -> Stop {
    let mut unarmed = stop(Stage::Apply, error);
    unarmed.message = format!("nothing is changed, since what would undo it is not armed: {}", unarmed.message);
    unarmed
}

/// What a pass did, and of which revision.
struct Acted<'a> {
    plan: &'a Plan,
    applied: &'a Applied,
    revision: &'a Revision,
    undoing: Option<&'a undo::Quarantine>,
}

/// Settle and record: what was done is written down before it is waited for. Whether everything of the revision holds.
fn conclude(
    ground: &mut Ground<'_>,
    ask: &Ask,
    report: &mut Report,
    acted: &Acted<'_>,
    trial: Option<trial::Trial>,
) -> Result<bool, Stop> {
    let Acted { plan, applied, revision, undoing } = acted;
    let converged = report.converged();
    let edits = seconds(ask.settings.state.edits);
    let at_once = converged && trial.is_none();
    let before = ground.ledger.attempted.clone();
    apply::record(ground, plan, applied, revision, at_once, edits).at(Stage::Record)?;
    if undoing.is_some() {
        // What was tried last is what was undone.
        ground.ledger.attempted = before;
        ledger::save(ground.state, ground.ledger).at(Stage::Record)?;
    }
    // Also those that a pass which was cut short left empty.
    apply::drop_implied(ground).at(Stage::Record)?;
    let Some(trial) = trial else { return Ok(converged) };
    let verdict = trial.judge(ground.host, ask, ground.desired, (plan, applied));
    let undoing = undoing.map(|quarantine| (quarantine, stuck(ground, plan, applied)));
    let holds = trial::conclude(ground.host, ask, report, trial, verdict, (revision, converged, undoing))?;
    if converged && holds {
        ground.ledger.applied = Some((*revision).clone());
        ledger::save(ground.state, ground.ledger).at(Stage::Record)?;
    }
    Ok(converged && holds)
}

/// What keeps a host from going back, if anything. A package whose version the archive has no longer does not: that is
/// told, and everything else goes back. Nor does what is wanted alike by both revisions.
fn stuck(ground: &Ground<'_>, plan: &Plan, applied: &Applied) -> Option<String> {
    let undone = offline::Stored::look(ground.state).ok().flatten();
    let alike = |id: &Id| {
        let wanted = ground.desired.resources.get(id);
        wanted.is_some() && undone.as_ref().is_some_and(|undone| undone.desired.resources.get(id) == wanted)
    };
    let failed = applied.outcomes.iter().filter_map(|(id, outcome)| match outcome {
        Outcome::Failed { message, .. } => Some((id, message)),
        _ => None,
    });
    let unseen = plan.failed.iter().map(|unseen| (&unseen.id, &unseen.message));
    let (_, message) = failed.chain(unseen).find(|(id, _)| id.kind() != "package" && !alike(id))?;
    Some(message.clone())
}

/// The packs of contents that stay: what is acted on, what this host would go back to, and what was undone.
fn needed_packs(state: &StateDir, payloads: &Payloads, undoing: bool) -> Result<Vec<Digest>, Stop> {
    let mut needed = vec![payloads.pack_name()];
    needed.extend(trial::Trial::load(state)?.pinned.map(|pinned| pinned.payloads));
    if undoing {
        needed.extend(offline::Stored::look(state).ok().flatten().map(|stored| stored.payloads));
    }
    Ok(needed)
}
