//! Storey 12: one pass, as one straight story.
//!
//! `Fetch → Verify → Compile → Observe → Plan ‖ Apply → Settle → Record → Report`. Left of the ‖ nothing
//! of the host is changed: everything there takes a [`Reader`], and only [`pass`] has a [`Writer`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::apply;
use crate::brakes::Holds;
use crate::compile::{Compiled, Desired};
use crate::config::Settings;
use crate::host::{self, Payloads, Reader, Worker, Writer};
use crate::kinds::{self, Activation, AnyJob, Observed, Spec, unit};
use crate::ledger::Ledger;
use crate::model::{Class, Detail, Facts, Id, Revision, Stage, Stop, Update};
use crate::plan::{self, HeldStep, Left, Plan, Situation, Step, Unseen};
use crate::report::{Report, State, commit_text};
use crate::source::{Gate, SharedHealth};

mod act;
mod back;
mod bind;
mod commits;
mod fetch;
mod first;
mod forward;
mod hand;
mod history;
mod judged;
mod names;
mod newest;
mod offline;
mod own;
mod packages;
mod restraint;
mod reuse;
mod select;
mod settings;
mod standing;
mod stop;
mod strangers;
mod tell;
mod trial;
mod undo;
mod units;
mod unjudged;

use act::act;
pub use bind::read_ledger;
pub use commits::{NotNamed, named_commit};
pub use first::{First, first};
use forward::Forward;
pub use hand::{is_due, owes_an_agent, rest, strike};
pub use history::{history, remember_pass};
use newest::{Newest, Refused, newest};
pub use own::Own;
use restraint::Restraint;
pub use restraint::{brakes, brakes_in};
pub use select::{known_facts, read_host};
pub use settings::{SETTINGS, settings, settings_and_digest, settings_digest, settings_files, settings_with};
use standing::Standing;
use stop::At;
pub use strangers::with_strangers;

pub use back::{drift, give_back, release};
pub use tell::tell;

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
    /// Whose leave it has to remove things.
    pub leave: plan::Leave,
    /// What failed or is contested is tried again now, and not later.
    pub retry: bool,
    /// What failed before is no reason to wait: another revision made it fail.
    pub afresh: bool,
    /// The id of the pass; see [`Reader::new_pass`].
    pub pass: String,
    /// The source is not asked in this pass, and this is why: how the last look at it failed.
    pub not_now: Option<Stop>,
    /// The source was asked a moment ago: what is known of it is enough, where that is all that a pass needs.
    pub unasked: bool,
    /// A source that cannot be reached is a note rather than a state: it is looked at again soon.
    pub patient: bool,
    /// What is quarantined is undone, whatever any source has.
    pub striking: bool,
    /// This host is coming up: only what lies in files is changed.
    pub booting: bool,
    /// How fetch workers are started here.
    pub worker: Worker,
    /// How the URLs of the source did in passes before.
    pub health: SharedHealth,
}

impl Ask {
    /// A pass with these settings that nobody asks anything special of.
    pub fn new(command: &'static str, settings: Settings, host: &Reader, executable: PathBuf) -> Self {
        host.identify(settings.secrets.identity.as_deref());
        Self {
            command,
            settings,
            local: None,
            facts: None,
            leave: plan::Leave::Named(None),
            retry: false,
            afresh: false,
            pass: host.new_pass(),
            not_now: None,
            unasked: false,
            patient: false,
            striking: false,
            booting: false,
            worker: host.worker(executable),
            health: SharedHealth::default(),
        }
    }
}

impl Ask {
    /// The pass that undoes what this one did.
    #[must_use]
    pub fn undo(&self, host: &Reader) -> Self {
        Self {
            retry: false,
            afresh: true,
            unasked: true,
            leave: plan::Leave::Named(None),
            pass: host.new_pass(),
            ..self.clone()
        }
    }
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
    /// Those of them that are needed could be read.
    whole: bool,
    /// What is ours.
    pub ledger: Ledger,
    /// The commit, and where the branch stood.
    pub revision: Revision,
    /// What there is to remember of it; none where it comes from our own copy.
    forward: Option<Forward>,
    /// What stays to be said whatever comes of the plan: why this is not the newest revision.
    standing: Option<Standing>,
    /// Nothing of this host is to be changed, whatever is planned.
    look_only: bool,
    restraint: Restraint,
    held: Holds,
    /// The ledger on disk is damaged; this is its previous copy.
    recovered: bool,
    /// Our own copy of the contents was read and is not whole.
    damaged: bool,
    /// The revision that is undone; this is the last good one.
    undoing: Option<undo::Quarantine>,
}

/// One pass: looks, and where there is something to do and nothing forbids it, does it.
pub fn pass(host: &mut Writer, ask: &Ask, shown: impl FnOnce(&Report, &Writer)) -> Report {
    let mut report = Report::new(ask.command);
    report.pass.clone_from(&ask.pass);
    host.connect_anew();
    let (looked, late) = unjudged::look(host, ask, &mut report);
    if host.interrupted() {
        // What was not looked at any more did not fail, nor is it a reason to refuse the rest.
        let Report { pass, revision, source_error, unasked, .. } = report;
        let mut report = Report { pass, revision, source_error, unasked, ..Report::new(ask.command) };
        shown(&report, host);
        let message = "ended before anything was changed, as asked".to_owned();
        report.raise(State::Pending, "interrupted", Some(message));
        return report;
    }
    let looked = match looked {
        Ok(mut looked) => {
            let owed = || trial::Trial::load(&host.state()).is_ok_and(|trial| trial.is_owed());
            looked.report.settling = host.is_machine() && owed();
            judged::remember(&host.state(), &mut looked.report);
            looked
        }
        Err(stop) => {
            judged::remember(&host.state(), &mut report);
            shown(&report, host);
            report.stopped(&stop);
            return report;
        }
    };
    shown(&looked.report, host);
    if looked.look_only {
        return looked.report;
    }
    let mut report = act(host, ask, looked);
    unjudged::insist(&mut report, &late);
    report
}

/// Everything left of the write boundary: what `plan` shows and what a pass begins with. What is known
/// when it has to stop stands in `report`. Where the newest revision is not to be had, is refused or waits, the
/// last good one still holds.
///
/// # Errors
/// Where the pass cannot go on.
pub fn look(host: &Reader, ask: &Ask, report: &mut Report) -> Result<Looked, Stop> {
    let before = report.clone();
    let looked = look_with(host, ask, report, true)?;
    if looked.whole {
        return Ok(looked);
    }
    *report = before;
    Ok(Looked { damaged: true, ..look_with(host, ask, report, false)? })
}

/// Whether what was compiled before may be taken from our own copy, `reuse` says.
fn look_with(host: &Reader, ask: &Ask, report: &mut Report, reuse: bool) -> Result<Looked, Stop> {
    report.ask_for_signers(!ask.settings.trust.signers.is_empty());
    let own = host.facts().at(Stage::Compile)?;
    let (mut ledger, recovered) = read_ledger(host, &own, report)?;
    report.revision.attempted = ledger.attempted.as_ref().map(commit_text);
    report.revision.applied = ledger.applied.as_ref().map(commit_text);
    let restraint = Restraint::read(host, ask, report)?;
    // Whom to believe is asked first: where that cannot be told nothing is acted on, our own copy neither.
    let mut gate = Gate::open(host, &ask.settings.trust).at(Stage::Verify)?;
    if gate.was_damaged() {
        report
            .notes
            .push("our record of trust was damaged: its previous copy may lack the newest revocation".to_owned());
    }
    if ask.command != "plan" {
        gate.keep_revoked(&host.state()).at(Stage::Verify)?;
    }

    let facts = ask.facts.as_ref().unwrap_or(&own);
    if ask.striking
        && let Some(quarantine) = undo::standing(&host.state())
    {
        return undo::look(host, ask, report, (ledger, recovered, restraint), (&own, &gate), (quarantine, None));
    }
    if reuse && ask.unasked && offline::suffices(host, ask, &restraint.brakes, facts) {
        let mut known = Report { unasked: true, ..report.clone() };
        let ground = (ledger.clone(), recovered, restraint.clone());
        match offline::look(host, ask, &mut known, ground, (&own, &gate), Refused::from(offline::not_asked())) {
            // Our own copy is not to be had after all.
            Err(stop) if offline::is_not_asked(&stop) => {}
            looked => {
                *report = known;
                return looked;
            }
        }
    }
    let newest = newest(host, ask, report, &mut ledger, (&restraint.brakes, &gate), (facts, &own), reuse);
    let Newest { compiled, revision, forward, standing, below_floor } = match newest {
        Ok(newest) => newest,
        Err(refused) => {
            judged::refuse(report, ask, &restraint.brakes, facts, &refused.why, &host.state());
            return offline::look(host, ask, report, (ledger, recovered, restraint), (&own, &gate), refused);
        }
    };
    if let Some(quarantine) = undo::quarantined(host, ask, &restraint.brakes, revision.commit.as_ref()) {
        judged::judge(report, ask, &restraint.brakes, facts, None);
        let why = standing.as_ref().map(|(_, why)| why);
        return undo::look(host, ask, report, (ledger, recovered, restraint), (&own, &gate), (quarantine, why));
    }
    let mut compiled = compiled;
    names::follow(host, &compiled.desired, &mut ledger);
    let known = strangers::Known { own: &ask.settings.trusted_files(), ..strangers::Known::default() };
    strangers::find(host, &known, &mut compiled.desired, &mut ledger, restraint.met());
    let mut planned = report.clone();
    match weigh(host, ask, &mut planned, &ledger, restraint.clone(), compiled) {
        Ok(weighed) => {
            let why = standing.as_ref().map(|(state, stop)| (*state, stop));
            judged::judge(&mut planned, ask, &weighed.restraint.brakes, facts, why);
            let standing = standing.map(|why| Standing::told(&mut planned, why));
            let looked = weighed.looked(planned, (ledger, recovered), revision, standing);
            Ok(Looked { forward: Some(forward), ..looked })
        }
        // Whoever asks for the plan sees the one that is refused.
        Err(stop) if ask.command == "plan" => {
            *report = planned;
            Err(stop)
        }
        Err(why) => {
            judged::refuse(report, ask, &restraint.brakes, facts, &why, &host.state());
            planned.judged.clone_from(&report.judged);
            offline::look(
                host,
                ask,
                report,
                (ledger, recovered, restraint),
                (&own, &gate),
                Refused { why, below_floor },
            )
            .inspect_err(|_| *report = planned)
        }
    }
}

/// A plan that the guard lets pass.
struct Weighed {
    plan: Plan,
    desired: Desired,
    payloads: Payloads,
    whole: bool,
    look_only: bool,
    restraint: Restraint,
    held: Holds,
}

impl Weighed {
    /// What a pass begins with, from our own copy of `revision`, where nothing is undone.
    fn looked(
        self,
        report: Report,
        (ledger, recovered): (Ledger, bool),
        revision: Revision,
        standing: Option<Standing>,
    ) -> Looked {
        let Self { plan, desired, payloads, whole, look_only, restraint, held } = self;
        Looked {
            report,
            plan,
            desired,
            payloads,
            whole,
            ledger,
            revision,
            forward: None,
            standing,
            look_only,
            restraint,
            held,
            recovered,
            damaged: false,
            undoing: None,
        }
    }
}

/// Observe and plan: the same whether the revision came from Git just now or from our own copy.
fn weigh(
    host: &Reader,
    ask: &Ask,
    report: &mut Report,
    ledger: &Ledger,
    mut restraint: Restraint,
    compiled: Compiled,
) -> Result<Weighed, Stop> {
    let Compiled { desired, mut payloads, .. } = compiled;
    payloads = payloads.with_kept(host.state());
    host.say("looking at the host");
    let now = host.now();
    let mut held = restraint.holds(&desired, now);
    names::suspend(host, &desired, ledger, &mut held);
    unjudged::tell(ledger, report);
    let mut observed = observe(host, &desired, ledger);
    if observed.values().any(|seen| seen.as_ref().is_err_and(|error| error.reason() == "interrupted")) {
        // What was not looked at has not failed.
        return Err(Stop {
            stage: Stage::Observe,
            class: Class::Transient,
            reason: "interrupted".to_owned(),
            message: "ended while it looked, as asked; nothing was changed".to_owned(),
        });
    }
    own::refuse(host, &ask.settings, &desired, &observed)?;
    own::refuse_setid(&ask.settings, &desired, &mut observed);
    let planned = |observed: &BTreeMap<Id, Result<Observed, host::Error>>| {
        plan::make(&Situation {
            ledger,
            desired: &desired,
            observed,
            takeover: ask.settings.policy.takeover,
            brought: &BTreeSet::new(),
            held: &held,
            originals: seconds(ask.settings.state.originals),
            now,
        })
    };
    let mut plan = planned(&observed);
    // What judges a unit before it starts or moves may have read a secret there.
    let moves = |step: &Step| matches!(step.id.kind(), "file" | "unit");
    if plan.steps.iter().any(moves) || !plan.refreshes.is_empty() {
        units::tell_start_files(host, &desired, &mut observed)?;
        plan = planned(&observed);
    }
    if plan.steps.iter().any(|step| unit::may_define(&step.id)) {
        // What is to stand there may be in our own copy alone.
        payloads.open(&host.state());
    }
    if apply::follow(host, &payloads, (&desired, ledger), &plan, &mut observed) {
        plan = planned(&observed);
    }
    restraint.found(&plan, ledger, now);
    let quiet = plan.is_empty() && plan.held.is_empty() && plan.told.is_empty();
    let needed = plan.steps.iter().filter_map(|step| step.want.payload());
    let whole = quiet || payloads.open(&host.state()) && payloads.are_whole(needed);
    explain(host, &payloads, &mut plan);
    let judged = plan::guard(&plan, ledger, &desired, ask.leave);
    // What is refused whole is shown as it is, and not asked about any further.
    let seen = plan.failed.len();
    let mut foreseen = if judged.is_ok() { foresee(host, &mut plan, &held, (&desired, ledger)) } else { Vec::new() };
    foreseen.extend(units::without_reload(host, &plan, &desired));
    restraint.foreseen(&plan.failed[seen..], &desired, now);
    report.plan(&plan);
    report.notes.extend(foreseen);
    report.notes.extend(units::strange_drop_ins(host, &desired, ledger));
    report.notes.extend(packages::provided(host, &desired, &observed));
    judged.map_err(|refusal| refused_whole(&refusal))?;
    let update = ask.settings.policy.update.max(desired.update.unwrap_or(Update::Auto));
    // Where a newer revision waits because of `hold`, that counts though it is not acted on.
    report.update = report.update.max(Some(update));
    if update == Update::Observe {
        report.notes.push("update = \"observe\": this host is looked at and never changed".to_owned());
    }
    let suspended = restraint.brakes.host_suspended(now).is_some();
    report.suspended(restraint.brakes.in_force(now));
    let look_only = suspended || update == Update::Observe;
    report.look_only = look_only;
    Ok(Weighed { plan, desired, payloads, whole, look_only, restraint, held })
}

fn refused_whole(refusal: &plan::Refusal) -> Stop {
    Stop {
        stage: Stage::Plan,
        class: Class::Stalled,
        reason: refusal.reason().to_owned(),
        message: format!("the plan is refused whole: {refusal}"),
    }
}

fn observe(host: &Reader, desired: &Desired, ledger: &Ledger) -> BTreeMap<Id, Result<Observed, host::Error>> {
    let ids: Vec<&Id> = plan::concerned(desired, ledger).into_iter().collect();
    apply::observe(host, desired, ledger, &ids)
}

/// Asks each kind what its steps would do beside what they say; what would be refused is no step. Where package
/// sources change first nothing can be told yet.
fn foresee(host: &Reader, plan: &mut Plan, held: &Holds, (desired, ledger): (&Desired, &Ledger)) -> Vec<String> {
    if plan.packages_after_sources() {
        return Vec::new();
    }
    let jobs: Vec<AnyJob<'_>> =
        plan.steps.iter().map(|step| AnyJob { id: &step.id, want: &step.want, seen: &step.seen }).collect();
    let kinds::Foreseen { notes, refused } = kinds::foresee(host, &jobs, &held.resting());
    let said = |error| plan::said(error, Activation::PackageIndex, desired, ledger);
    let refused: BTreeMap<usize, host::Error> = refused.into_iter().map(|(at, error)| (at, said(error))).collect();
    let mut at = 0;
    plan.steps.retain(|step| {
        let error = refused.get(&at);
        at += 1;
        let Some(error) = error else { return true };
        let id = step.id.clone();
        match step.stays(error) {
            Some(why) => plan.left.push(Left { id, why: format!("released, left in place: {why}") }),
            None => plan.failed.push(Unseen { id, reason: error.reason(), message: error.chain() }),
        }
        false
    });
    notes
}

/// Adds to every change of content what it is, line by line.
fn explain(host: &Reader, payloads: &Payloads, plan: &mut Plan) {
    let explained = |secret: bool, want: &Spec, id: &Id, seen: &Observed| match secret {
        // Neither what it is to be nor what stands there, which may have been it until now.
        true => Some(Detail::of_secret()),
        false => want.explain(host, payloads, id.name(), seen),
    };
    for step in &mut plan.steps {
        step.detail = explained(step.secret, &step.want, &step.id, &step.seen);
    }
    // What is only kept in mind changes nothing.
    for HeldStep { step, .. } in plan.held.iter_mut().filter(|held| !held.step.changes.is_empty()) {
        step.detail = explained(step.secret, &step.want, &step.id, &step.seen);
    }
    for told in &mut plan.told {
        told.detail = explained(told.secret, &told.want, &told.id, &told.seen);
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
