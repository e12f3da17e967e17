//! Storey 11: one pass, as one straight story.
//!
//! `Fetch → Verify → Compile → Observe → Plan ‖ Apply → Settle → Record → Report`. Left of the ‖ nothing
//! of the host is changed: everything there takes a [`Reader`], and only [`pass`] has a [`Writer`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::apply::{self, Applied, Ground};
use crate::compile::{Compiled, Desired};
use crate::config::Settings;
use crate::host::{self, Payloads, Reader, StateDir, Writer};
use crate::kinds::{self, AnyJob, Observed};
use crate::ledger::{self, Ledger};
use crate::model::{Class, Facts, Id, Revision, Stage, Stop, Update};
use crate::plan::{self, Plan, Situation, Unseen};
use crate::report::{Report, State, commit_text};
use crate::source::{Origin, Record, SourceError};

mod back;
mod bind;
mod fetch;
mod names;
mod offline;
mod select;
mod stop;

use bind::bind;
pub use bind::read_ledger;
use fetch::fetch;
use select::compile_host;
pub use select::read_host;
use stop::At;

pub use back::{drift, give_back, release};

/// What somebody asks of a pass.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The verb, for the report.
    pub command: &'static str,
    /// The agent's settings, the command line's taken in.
    pub settings: Settings,
    /// The repository, where the command line names one; else the settings do.
    pub local: Option<PathBuf>,
    /// Facts to use instead of the host's own.
    pub facts: Option<Facts>,
    /// How many removals somebody has allowed.
    pub allow_removals: Option<u64>,
    /// This program, to be run as fetch worker.
    pub executable: PathBuf,
}

/// Everything that is known left of the write boundary.
#[derive(Debug)]
pub struct Looked {
    /// What it says so far: the plan.
    pub report: Report,
    /// What is to be done.
    pub plan: Plan,
    /// What is wanted.
    pub desired: Desired,
    /// The contents that the desired set names.
    pub payloads: Payloads,
    /// What is ours.
    pub ledger: Ledger,
    /// The commit, and where the branch stood.
    pub revision: Revision,
    /// The record to be moved forward, and the branch; none where this is not the newest revision.
    forward: Option<(Record, String)>,
    /// What stays to be said whatever comes of the plan: why this is not the newest revision.
    standing: Option<(State, Stop)>,
    observe_only: bool,
    /// The ledger on disk is damaged; this is its previous copy.
    recovered: bool,
}

/// One pass: looks, and where there is something to do and nothing forbids it, does it.
pub fn pass(host: &mut Writer, ask: &Ask, shown: impl FnOnce(&Report, &Writer)) -> Report {
    let mut report = Report::new(ask.command);
    let looked = match look(host, ask, &mut report) {
        Ok(looked) => looked,
        Err(stop) => {
            shown(&report, host);
            report.stopped(&stop);
            return report;
        }
    };
    shown(&looked.report, host);
    if looked.observe_only {
        return looked.report;
    }
    act(host, ask, looked)
}

/// Everything left of the write boundary: what `plan` shows and what a pass begins with. What is known
/// when it has to stop stands in `report`. Where the newest revision is not to be had, or is refused, the
/// last good one still holds.
///
/// # Errors
/// Where the pass cannot go on.
pub fn look(host: &Reader, ask: &Ask, report: &mut Report) -> Result<Looked, Stop> {
    let own = host.facts().at(Stage::Compile)?;
    let (mut ledger, recovered) = read_ledger(host, &own, report)?;
    report.revision.attempted = ledger.attempted.as_ref().map(commit_text);
    report.revision.applied = ledger.applied.as_ref().map(commit_text);
    let later = ask.settings.not_yet();
    report
        .notes
        .extend(later.iter().map(|key| format!("agent.toml: {key} is set, and this version does not act on it")));

    let facts = ask.facts.as_ref().unwrap_or(&own);
    let Newest { compiled, revision, record, branch } = match newest(host, ask, report, &mut ledger, (facts, &own)) {
        Ok(newest) => newest,
        Err(stop) => return offline::look(host, ask, report, (ledger, recovered), &own, stop),
    };
    names::follow(host, &compiled.desired, &mut ledger);
    let mut planned = report.clone();
    match weigh(host, ask, &mut planned, &ledger, compiled) {
        Ok(Weighed { plan, desired, payloads, observe_only }) => Ok(Looked {
            report: planned,
            plan,
            desired,
            payloads,
            ledger,
            revision,
            forward: Some((record, branch)),
            standing: None,
            observe_only,
            recovered,
        }),
        // Whoever asks for the plan sees the one that is refused.
        Err(stop) if ask.command == "plan" => {
            *report = planned;
            Err(stop)
        }
        Err(stop) => {
            offline::look(host, ask, report, (ledger, recovered), &own, stop).inspect_err(|_| *report = planned)
        }
    }
}

/// The newest revision of the source, verified and compiled.
struct Newest {
    compiled: Compiled,
    revision: Revision,
    record: Record,
    branch: String,
}

/// Fetch, verify, compile. Of the facts the first are compiled with, the second are this host's own.
fn newest(
    host: &Reader,
    ask: &Ask,
    report: &mut Report,
    ledger: &mut Ledger,
    (facts, own): (&Facts, &Facts),
) -> Result<Newest, Stop> {
    host.say("looking at the source");
    let record = Record::load(&host.state()).at(Stage::Fetch)?;
    let mut origin = fetch(host, ask)?;
    let revision = origin.revision().clone();
    report.seen(&revision);
    let branch = verify(&mut origin, &record, ask).at(Stage::Verify)?;
    let compiled = compile_host(&mut origin, ask, host, facts, report)?;
    bind(ledger, &compiled.desired.host, own).at(Stage::Compile)?;
    let update = ask.settings.policy.update.max(compiled.desired.update.unwrap_or(Update::Auto));
    if update == Update::Hold && ledger.attempted.as_ref() != Some(&revision) {
        let held = offline::held(&revision);
        // Whoever asks for the plan sees the one that waits.
        if ask.command != "plan" {
            return Err(held);
        }
        report.notes.push(held.message);
    }
    Ok(Newest { compiled, revision, record, branch })
}

/// A plan that the guard lets pass.
struct Weighed {
    plan: Plan,
    desired: Desired,
    payloads: Payloads,
    observe_only: bool,
}

/// Observe and plan: the same whether the revision came from Git just now or from our own copy.
fn weigh(host: &Reader, ask: &Ask, report: &mut Report, ledger: &Ledger, compiled: Compiled) -> Result<Weighed, Stop> {
    let Compiled { desired, mut payloads, .. } = compiled;
    payloads = payloads.with_kept(host.state());
    host.say("looking at the host");
    let observed = observe(host, &desired, ledger);
    let mut plan = plan::make(&Situation {
        ledger,
        desired: &desired,
        observed: &observed,
        takeover: ask.settings.policy.takeover,
        brought: &BTreeSet::new(),
        originals: seconds(ask.settings.state.originals),
        now: host.now(),
    });
    explain(host, &payloads, &mut plan);
    let allowed = ask.allow_removals.max(desired.max_removals);
    let judged = plan::guard(&plan, ledger, &desired, allowed);
    // What is refused whole is shown as it is, and not asked about any further.
    let foreseen = if judged.is_ok() { foresee(host, &mut plan) } else { Vec::new() };
    report.plan(&plan);
    report.notes.extend(foreseen);
    judged.map_err(|refusal| Stop {
        stage: Stage::Plan,
        class: Class::Stalled,
        reason: refusal.reason().to_owned(),
        message: format!("the plan is refused whole: {refusal}"),
    })?;
    let update = ask.settings.policy.update.max(desired.update.unwrap_or(Update::Auto));
    let observe_only = update == Update::Observe;
    if observe_only {
        report.notes.push("update = \"observe\": this host is looked at and never changed".to_owned());
    }
    Ok(Weighed { plan, desired, payloads, observe_only })
}

/// Everything right of the write boundary.
fn act(host: &mut Writer, ask: &Ask, looked: Looked) -> Report {
    let Looked { mut report, plan, desired, payloads, mut ledger, revision, mut forward, standing, recovered, .. } =
        looked;
    let state = host.state();
    let now = host.now();
    let begun = begin(&state, forward.as_mut(), &revision, &desired, &payloads, now)
        .and_then(|()| if recovered { ledger::save(&state, &ledger).at(Stage::Record) } else { Ok(()) });
    if let Err(stop) = begun {
        report.stopped(&stop);
        return report;
    }
    let mut ground = Ground {
        host,
        state: &state,
        ledger: &mut ledger,
        desired: &desired,
        payloads: &payloads,
        takeover: ask.settings.policy.takeover,
        originals: seconds(ask.settings.state.originals),
        allowed_removals: ask.allow_removals.max(desired.max_removals),
        only: None,
    };
    let mut applied = if plan.is_empty() { Ok(Applied::default()) } else { apply::apply(&mut ground, &plan) };
    if let Ok(applied) = &mut applied {
        ground.host.say("looking at what was done");
        apply::settle(ground.host, &plan, applied);
    }
    let recorded = applied.at(Stage::Apply).and_then(|applied| {
        report.applied(&plan, &applied);
        if let Some((state, why)) = &standing {
            report.insist(*state, why);
        }
        let edits = seconds(ask.settings.state.edits);
        let converged = report.converged();
        apply::record(&mut ground, &plan, &applied, &revision, converged, edits).at(Stage::Record)?;
        // Also those that a pass which was cut short left empty.
        apply::drop_implied(&mut ground).at(Stage::Record)?;
        if converged {
            remember(&state, forward.as_mut(), &revision, true, now)?;
        }
        apply::sweep_contents(&ground, &[payloads.pack_name()]).at(Stage::Record)
    });
    if let Err(stop) = recorded {
        report.stopped(&stop);
    }
    report.revision.attempted = Some(commit_text(&revision));
    report.revision.applied = ledger.applied.as_ref().map(commit_text);
    report
}

/// Before anything is changed: the revision is stored as it is compiled, and the record says that it is going
/// to be acted on. From here on the host does not go back behind it.
fn begin(
    state: &StateDir,
    forward: Option<&mut (Record, String)>,
    revision: &Revision,
    desired: &Desired,
    payloads: &Payloads,
    now: i64,
) -> Result<(), Stop> {
    if forward.is_some() {
        offline::store(state, revision, desired, payloads).at(Stage::Record)?;
    }
    remember(state, forward, revision, false, now)
}

/// Only forward: the tip has to contain what was acted on last. Gives the name that is remembered under.
fn verify(origin: &mut Origin, record: &Record, ask: &Ask) -> Result<String, SourceError> {
    match origin {
        Origin::Git(source) => {
            source.only_forward(record, ask.settings.trust.floor.as_ref())?;
            Ok(source.branch().to_owned())
        }
        Origin::Directory(_) => Ok(String::new()),
    }
}

fn observe(host: &Reader, desired: &Desired, ledger: &Ledger) -> BTreeMap<Id, Result<Observed, host::Error>> {
    let ids: Vec<&Id> = plan::concerned(desired, ledger).into_iter().collect();
    let found = kinds::observe(host, &ids);
    ids.into_iter().cloned().zip(found).collect()
}

/// Asks each kind what its steps would do beside what they say; what would be refused is no step. Where package
/// sources change first nothing can be told yet.
fn foresee(host: &Reader, plan: &mut Plan) -> Vec<String> {
    if plan.packages_after_sources() {
        return Vec::new();
    }
    let jobs: Vec<AnyJob<'_>> =
        plan.steps.iter().map(|step| AnyJob { id: &step.id, want: &step.want, seen: &step.seen }).collect();
    let kinds::Foreseen { notes, refused } = kinds::foresee(host, &jobs);
    let refused: BTreeMap<usize, host::Error> = refused.into_iter().collect();
    let mut at = 0;
    plan.steps.retain(|step| {
        let error = refused.get(&at);
        at += 1;
        plan.failed.extend(error.map(|error| Unseen {
            id: step.id.clone(),
            reason: error.reason(),
            message: error.chain(),
        }));
        error.is_none()
    });
    notes
}

/// Adds to every change of content what it is, line by line.
fn explain(host: &Reader, payloads: &Payloads, plan: &mut Plan) {
    for step in &mut plan.steps {
        step.detail = step.want.explain(host, payloads, step.id.name(), &step.seen);
    }
    for told in &mut plan.told {
        told.detail = told.want.explain(host, payloads, told.id.name(), &told.seen);
    }
}

/// Notes that this commit is going to be acted on, or that everything of it holds; on disk when this returns.
fn remember(
    state: &StateDir,
    forward: Option<&mut (Record, String)>,
    revision: &Revision,
    applied: bool,
    now: i64,
) -> Result<(), Stop> {
    let (Some((record, branch)), Some(commit)) = (forward, &revision.commit) else { return Ok(()) };
    let known = record.branch(branch);
    let mark = if applied { &known.applied } else { &known.attempted };
    if mark.as_ref().is_some_and(|mark| mark.commit == *commit) {
        return Ok(());
    }
    record.see(branch, commit, now);
    if applied {
        record.apply(branch, commit, now);
    } else {
        record.attempt(branch, commit, now);
    }
    record.save(state).at(Stage::Record)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
