//! Giving back: what drifted since it was applied, copies that were kept, resources that are let go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::bind::read_ledger;
use super::offline::Stored;
use super::stop::{At, stop};
use super::{explain, observe, seconds, strangers};
use crate::apply::{self, Ground};
use crate::brakes::Holds;
use crate::compile::{Desired, Wanted};
use crate::config::Settings;
use crate::host::{self, Payloads, Reader, Writer};
use crate::kinds::{self, AnyJob, Around, Observed};
use crate::ledger::{self, Kept, Ledger, Why};
use crate::model::{Id, Stage, Stop, Takeover};
use crate::plan::{self, Plan, Situation};
use crate::report::{Report, State, commit_text};

/// What is no longer as it was last applied. Needs neither Git nor network. Files of `own` are the agent's.
///
/// # Errors
/// Where the ledger cannot be believed.
pub fn drift(host: &Reader, own: &[&Path]) -> Result<Report, Stop> {
    let state = host.state();
    let mut report = Report::new("drift");
    let facts = host.facts().at(Stage::Verify)?;
    let (mut ledger, _) = read_ledger(host, &facts, &mut report)?;
    report.host = ledger.bound.as_ref().map(|bound| bound.host.clone());
    if let Some(applied) = &ledger.applied {
        report.seen(applied);
        report.revision.applied = Some(commit_text(applied));
    }
    let stored = Stored::load(&state).ok().flatten();
    let mut payloads = stored.as_ref().map_or_else(Payloads::new, |stored| Payloads::of_pack(stored.payloads));
    // Without the contents drift is still told, only not line by line.
    let _ = payloads.open(&state);
    let mut desired = as_applied(&ledger, |_| true);
    // What is declared and could not be delivered yet is no stranger.
    let due = stored.iter().flat_map(|stored| stored.desired.declared()).map(|(id, _)| id);
    let known = strangers::Known { own, due: due.collect() };
    strangers::find(host, &known, &mut desired, &mut ledger, std::iter::empty());
    // What was there before and cannot go is told by each pass, and is no drift.
    desired.resources.retain(|id, wanted| !was_there(&ledger, id, wanted));
    let observed = observe(host, &desired, &ledger);
    let mut plan = plan::make(&Situation {
        ledger: &ledger,
        desired: &desired,
        observed: &observed,
        takeover: Takeover::Adopt,
        brought: &BTreeSet::new(),
        held: &Holds::default(),
        originals: 0,
        now: host.now(),
    });
    explain(host, &payloads, &mut plan);
    // What is owed or let go is not drift.
    plan.refreshes.clear();
    plan.activations.clear();
    plan.left.clear();
    plan.steps.retain(|step| desired.resources.contains_key(&step.id));
    report.plan(&plan);
    if report.state == State::Pending {
        report.state = State::Drifted;
        report.reason = Some("drift".to_owned());
    }
    Ok(report)
}

/// Whether it is a stranger that was in its exclusive directory before that was cleared.
fn was_there(ledger: &Ledger, id: &Id, wanted: &Wanted) -> bool {
    let cleared = wanted.stranger_of.as_ref().and_then(|directory| Some((directory, ledger.exclusive.get(directory)?)));
    cleared.is_some_and(|(directory, cleared)| {
        let within = id.name().strip_prefix(directory.name()).and_then(|rest| rest.strip_prefix('/'));
        within.is_some_and(|within| cleared.left.contains(within))
    })
}

/// Puts a kept copy back to where it came from; what stands there now is kept in its turn. Gives the id of
/// that copy, where there is one.
///
/// # Errors
/// Where it cannot be written, or its content is no longer whole.
pub fn give_back(host: &mut Writer, ledger: &mut Ledger, kept: &Kept) -> Result<Option<String>, Stop> {
    let state = host.state();
    let payloads = Payloads::new().with_kept(state.clone());
    let nothing = |why: &str| host::Error::Unknown { thing: kept.resource.to_string(), why: why.to_owned() };
    let seen = kinds::observe(host, &[&kept.resource]).pop().unwrap_or_else(|| Err(nothing("could not be looked at")));
    let seen = seen.at(Stage::Observe)?;
    let want =
        kept.before.as_found().ok_or_else(|| nothing("what was kept of it cannot be put back")).at(Stage::Plan)?;
    if want.is_tree() && matches!(&seen, Observed::File(seen) if seen.is_directory()) {
        return Err(nothing("a directory stands there by now; move it away first")).at(Stage::Plan);
    }
    let before = apply::stood(host, &kept.resource, &seen).at(Stage::Observe)?;
    // What may be a secret in either is kept as one.
    let secret = want.is_secret() || ledger.entries.get(&kept.resource).is_some_and(ledger::Entry::is_secret);
    let mut copy = None;
    if kept.resource.kind() == "file" {
        // Should this be cut short, the next pass knows where to look.
        ledger.writing.insert(kept.resource.name().to_owned());
    }
    if !seen.is_absent() && !want.diff(&seen).is_empty() {
        let content = apply::keep_content(host, &kept.resource, &seen, before, secret);
        let (before, size) = content.at(Stage::Record)?.at(Stage::Observe)?;
        copy = Some(ledger.keep(&kept.resource, Why::Edit, host.now(), before, size));
    }
    ledger::save(&state, ledger).at(Stage::Record)?;
    let job = AnyJob { id: &kept.resource, want: &want, seen: &seen };
    let around = Around { resting: &BTreeSet::new(), withheld: &[], enablement: &BTreeMap::new() };
    kinds::apply(host, &payloads, &[job], &around).pop().unwrap_or(Ok(())).at(Stage::Apply)?;
    ledger.writing.remove(kept.resource.name());
    ledger::save(&state, ledger).at(Stage::Record)?;
    Ok(copy)
}

/// Lets resources go as if their declarations were gone; `None` lets all go.
///
/// # Errors
/// Where a resource is not managed, or our own state cannot be read or written.
pub fn release(
    host: &mut Writer,
    settings: &Settings,
    ids: Option<&[Id]>,
    shown: impl FnOnce(&Report, &Writer),
) -> Result<Report, Stop> {
    let state = host.state();
    host.identify(settings.secrets.identity.as_deref());
    let mut report = Report::new("release");
    let own = host.facts().at(Stage::Verify)?;
    let (mut ledger, _) = read_ledger(host, &own, &mut report)?;
    let late = apply::judge_late(host, &state, &mut ledger, &BTreeSet::new()).at(Stage::Apply)?;
    report.notes.extend(late.notes.into_iter().chain(late.stuck));
    if let Some(stranger) = ids.into_iter().flatten().find(|id| !ledger.entries.contains_key(id)) {
        let thing = stranger.to_string();
        let error =
            host::Error::Refused { thing, reason: "not-managed", why: "it is not managed on this host".to_owned() };
        return Err(stop(Stage::Plan, &error));
    }
    let goes: BTreeSet<Id> = match ids {
        Some(ids) => ids.iter().cloned().collect(),
        None => ledger.entries.keys().cloned().collect(),
    };
    let desired = as_applied(&ledger, |id| !goes.contains(id));
    let originals = seconds(settings.state.originals);
    let observed: BTreeMap<_, _> =
        observe(host, &desired, &ledger).into_iter().filter(|(id, _)| goes.contains(id)).collect();
    let released = Ledger {
        entries: ledger
            .entries
            .iter()
            .filter(|(id, _)| goes.contains(id))
            .map(|(id, entry)| (id.clone(), entry.clone()))
            .collect(),
        ..Ledger::default()
    };
    let nothing = Desired { resources: BTreeMap::new(), ..desired.clone() };
    let mut plan = plan::make(&Situation {
        ledger: &released,
        desired: &nothing,
        observed: &observed,
        takeover: Takeover::Adopt,
        brought: &BTreeSet::new(),
        held: &Holds::default(),
        originals,
        now: host.now(),
    });
    let payloads = Payloads::new().with_kept(state.clone());
    explain(host, &payloads, &mut plan);
    report.host = ledger.bound.as_ref().map(|bound| bound.host.clone());
    report.plan(&plan);
    shown(&report, host);

    let revision = ledger.attempted.clone();
    let mut ground = Ground {
        host,
        state: &state,
        ledger: &mut ledger,
        desired: &desired,
        payloads: &payloads,
        takeover: Takeover::Adopt,
        // Root asks for these in words.
        held: &Holds::default(),
        originals,
        leave: plan::Leave::Named(None),
        settled: false,
        only: Some(&goes),
    };
    let mut applied = perform(&mut ground, &plan)?;
    apply::settle(ground.host, &plan, &mut applied);
    applied.asides = ground.host.take_asides();
    report.applied(&plan, &applied);
    if let Some(revision) = revision {
        let edits = seconds(settings.state.edits);
        apply::record(&mut ground, &plan, &applied, &revision, false, edits).at(Stage::Record)?;
    }
    Ok(report)
}

fn perform(ground: &mut Ground<'_>, plan: &Plan) -> Result<apply::Applied, Stop> {
    apply::tidy(ground);
    if plan.is_empty() {
        return Ok(apply::Applied::default());
    }
    apply::apply(ground, plan).at(Stage::Apply)
}

/// What was last applied, as if it were declared.
fn as_applied(ledger: &Ledger, keep: impl Fn(&Id) -> bool) -> Desired {
    let resources = ledger
        .entries
        .iter()
        .filter(|(id, _)| keep(id))
        .filter_map(|(id, entry)| {
            let spec = entry.applied.clone()?;
            let wanted = Wanted {
                spec,
                drift: entry.drift,
                release: entry.release,
                layer: entry.layer.clone(),
                exclusive: ledger.exclusive.get(id).map(|cleared| cleared.exclusive.clone()),
                stranger_of: None,
            };
            Some((id.clone(), wanted))
        })
        .collect();
    Desired {
        host: ledger.bound.as_ref().map(|bound| bound.host.clone()).unwrap_or_default(),
        resources,
        update: None,
        max_removals: None,
        checks: BTreeMap::new(),
        unlisted: BTreeMap::new(),
    }
}
