//! From what the agent knows to the status. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    AgentStatus, Attention, ChoiceStatus, Last, ResourceCounts, RestoreStatus, Running, SourceStatus, Status,
    SuspendedStatus, UrlStatus, WallsStatus, attention,
};
use crate::brakes::{Brakes, Choice, Restoring, Suspension};
use crate::config::{Settings, SourceSettings};
use crate::model::{Revision, Stop, Update, Word, one_line};
use crate::report::{CommitWords, Report, Revisions, State, TRANSPORT_ONLY, UNVERIFIED, commit_text};
use crate::source::{Health, Walls};

/// The version of the JSON form.
const VERSION: u32 = 1;
/// How many resources that are not as declared are told.
const ATTENTION: usize = 100;
/// How many notes are told.
const NOTES: usize = 20;

/// What the status is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// In force.
    pub settings: &'a Settings,
    /// Why nothing is done at all: settings, or what people asked for, that cannot be read.
    pub unusable: Option<&'a Stop>,
    /// The host's directory, as the ledger is bound to it: said until a pass knows better.
    pub host: Option<&'a str>,
    /// What the last pass found and did; none before the first.
    pub report: Option<&'a Report>,
    /// What the pass that runs is about to do; none before it is planned, and where none runs.
    pub planned: Option<&'a Report>,
    /// The revision of which everything held last, by the ledger.
    pub applied: Option<&'a Revision>,
    /// The revision that was tried last, by the ledger.
    pub attempted: Option<&'a Revision>,
    /// What people asked for.
    pub brakes: &'a Brakes,
    /// What came of copies that were asked for.
    pub restored: &'a [RestoreStatus],
    /// How looking at the source goes.
    pub looks: &'a Looks,
    /// How its URLs do.
    pub health: &'a Health,
    /// The pass that runs.
    pub running: Option<Running>,
    /// Why the pass that runs does not go on, where it does not.
    pub hanging: Option<&'a str>,
    /// The last pass that ended.
    pub last: Option<Last>,
    /// When the next begins by itself.
    pub next: Option<i64>,
    /// The agent; none where no agent runs.
    pub agent: Option<AgentStatus>,
    /// Seconds since 1970.
    pub now: i64,
    /// What the agent has to say of itself.
    pub notes: &'a [String],
    /// The status before: `since` goes on where nothing changed.
    pub previous: Option<&'a Status>,
}

impl<'a> Parts<'a> {
    /// Nothing known yet but the settings.
    pub fn new(settings: &'a Settings, now: i64) -> Self {
        const NOBODY: &Brakes =
            &Brakes { suspensions: Vec::new(), approved: None, rolled_back: None, restoring: Vec::new() };
        const NEVER: &Looks = &Looks { looked: None, fetched: None, failing_since: None, error: None, worker: None };
        const UNKNOWN: &Health = &Health::new();
        Self {
            settings,
            unusable: None,
            host: None,
            report: None,
            planned: None,
            applied: None,
            attempted: None,
            brakes: NOBODY,
            restored: &[],
            looks: NEVER,
            health: UNKNOWN,
            running: None,
            hanging: None,
            last: None,
            next: None,
            agent: None,
            notes: &[],
            now,
            previous: None,
        }
    }
}

/// How looking at the source goes. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Looks {
    /// When it was last looked at with success.
    pub looked: Option<i64>,
    /// When something new was last found there.
    pub fetched: Option<i64>,
    /// Since when every look failed.
    pub failing_since: Option<i64>,
    /// How the last look failed.
    pub error: Option<String>,
    /// What stood around the fetch worker that last looked.
    pub worker: Option<WallsStatus>,
}

impl Looks {
    /// A fetch worker looked, behind these walls.
    pub fn behind(&mut self, walls: Walls) {
        let Walls { uid, landlock, filtered } = walls;
        self.worker = Some(WallsStatus { uid, landlock, filtered });
    }

    /// The source answered; `new` says that it had something new.
    pub fn succeeded(&mut self, now: i64, new: bool) {
        self.looked = Some(now);
        if new {
            self.fetched = Some(now);
        }
        (self.failing_since, self.error) = (None, None);
    }

    /// It did not.
    pub fn failed(&mut self, now: i64, error: &str) {
        self.failing_since.get_or_insert(now);
        self.error = Some(one_line(error, 600));
    }
}

/// A state, the word for it, and a line.
#[derive(Debug, Clone, PartialEq)]
struct Verdict {
    state: State,
    reason: Option<String>,
    message: Option<String>,
}

impl Verdict {
    fn new(state: State, reason: &str, message: impl Into<String>) -> Self {
        Self { state, reason: Some(reason.to_owned()), message: Some(message.into()) }
    }

    /// `other`, where it is worse.
    fn or_worse(self, other: Option<Self>) -> Self {
        other.filter(|other| other.state > self.state).unwrap_or(self)
    }

    /// `other`, where it is at least as bad: it says more of the same.
    fn or_clearer(self, other: Option<Self>) -> Self {
        other.filter(|other| other.state >= self.state).unwrap_or(self)
    }
}

/// How the host is.
pub fn make(parts: &Parts<'_>) -> Status {
    let Parts { report, brakes, now, .. } = *parts;
    let Verdict { state, reason, message } = judge(parts);
    let kept = parts.previous.filter(|before| before.state == state && before.reason == reason);
    let mut attention = report.map(attention::attention).unwrap_or_default();
    let resources = report.map(|report| count(report, &attention, brakes, now)).unwrap_or_default();
    attention.truncate(ATTENTION);
    let update = report.and_then(|report| report.update).unwrap_or(Update::Auto).max(parts.settings.policy.update);
    let unknown = if parts.settings.trust.signers.is_empty() { TRANSPORT_ONLY } else { UNVERIFIED };
    Status {
        version: VERSION,
        host: report.and_then(|report| report.host.clone()).or_else(|| parts.host.map(ToOwned::to_owned)),
        state,
        reason,
        message: message.map(|message| one_line(&message, 600)),
        since: kept.map_or(now, |before| before.since),
        update: update.as_str().to_owned(),
        revision: revisions(parts),
        seen: newest(parts).and_then(|report| report.commit.as_ref()).map(bounded),
        applied: parts.applied.and_then(words),
        source: parts.settings.source.as_ref().map(|settings| source(settings, parts)),
        authenticity: report.map_or(unknown, |report| report.authenticity).to_owned(),
        signed: report.and_then(|report| report.signed.clone()),
        resources,
        attention,
        suspended: suspensions(brakes, now).map(suspended).collect(),
        approved: brakes.approved.as_ref().map(choice),
        rolled_back: brakes.rolled_back.as_ref().map(choice),
        restores: parts.restored.iter().cloned().chain(brakes.restoring.iter().map(pending)).collect(),
        running: parts.running.clone().map(|one| Running { doing: one_line(&one.doing, 200), ..one }),
        last: parts.last.clone(),
        next: parts.next,
        notes: notes(parts),
        agent: parts.agent.clone(),
    }
}

/// Of one URL alone nothing is told that the looks do not tell.
fn source(settings: &SourceSettings, parts: &Parts<'_>) -> SourceStatus {
    let (looks, health) = (parts.looks, parts.health);
    let urls = if settings.urls.len() > 1 { &settings.urls[..] } else { &[] };
    let failing = urls.iter().filter_map(|url| {
        let failing = health.failing(url)?;
        let (reason, message) = (failing.reason.to_owned(), one_line(&failing.message, 300));
        Some(UrlStatus { url: bare(url), since: failing.since, reason, message })
    });
    SourceStatus {
        url: settings.urls.first().map(|url| bare(url)).unwrap_or_default(),
        branch: settings.branch.clone(),
        looked: looks.looked,
        fetched: looks.fetched,
        failing_since: looks.failing_since,
        error: looks.error.as_deref().map(|error| one_line(error, 600)),
        worker: looks.worker,
        answered: urls.iter().find(|url| health.answered() == Some(url.as_str())).map(|url| bare(url)),
        failing: failing.collect(),
    }
}

/// What else there is to say, bounded.
fn notes(parts: &Parts<'_>) -> Vec<String> {
    let of_pass = parts.report.into_iter().flat_map(|report| report.notes.iter().map(String::as_str));
    parts.notes.iter().map(String::as_str).chain(of_pass).take(NOTES).map(|note| one_line(note, 400)).collect()
}

/// The highest state that holds. Where several hold that are equally bad, what the agent itself lacks is said first,
/// since nothing else can be mended before.
fn judge(parts: &Parts<'_>) -> Verdict {
    let found = match parts.report {
        Some(report) => freed(parts, found(report)),
        None => {
            let message = "the agent has just started, and its first pass is not over yet";
            Verdict::new(State::Converging, "first-pass", message)
        }
    };
    found
        .or_worse(under_way(parts))
        .or_clearer(parts.hanging.map(|why| Verdict::new(State::Degraded, "no-progress", why)))
        .or_worse(gone_back(parts))
        .or_clearer(braked(parts))
        .or_clearer(unconfigured(parts))
        .or_clearer(unusable(parts))
        .or_clearer(parts.agent.is_none().then(|| {
            let message = "the agent is not running: systemctl start trueup";
            Verdict::new(State::Stalled, "not-running", message)
        }))
}

fn found(report: &Report) -> Verdict {
    Verdict { state: report.state, reason: report.reason.clone(), message: report.message.clone() }
}

/// What the last pass held back and nothing holds back any longer is work for the next.
fn freed(parts: &Parts<'_>, found: Verdict) -> Verdict {
    if found.state != State::Suspended || suspensions(parts.brakes, parts.now).next().is_some() {
        return found;
    }
    Verdict::new(State::Pending, "changes", "a suspension is over; the next pass takes up what it held back")
}

fn under_way(parts: &Parts<'_>) -> Option<Verdict> {
    let planned = parts.planned.filter(|_| parts.running.is_some())?;
    // What is held back is not under way.
    let refreshes = planned.refreshes.iter().any(|line| line.outcome == "planned");
    let engines = planned.activations.iter().any(|line| line.outcome == "planned");
    let message = match planned.counts.changes {
        0 if !refreshes && !engines => return None,
        1 => "1 change is being made".to_owned(),
        n => format!("{n} changes are being made"),
    };
    Some(Verdict::new(State::Converging, "changes", message))
}

fn gone_back(parts: &Parts<'_>) -> Option<Verdict> {
    let choice = parts.brakes.rolled_back.as_ref()?;
    let there = parts.attempted.is_some_and(|attempted| attempted.commit.as_ref() == Some(&choice.commit));
    let went = if there { "went back" } else { "asked to go" };
    let message = format!("{} {went} to {}; it holds until: trueup resume", choice.by, choice.commit.short());
    Some(Verdict::new(State::Pending, "rolled-back-by-root", message))
}

fn braked(parts: &Parts<'_>) -> Option<Verdict> {
    let held: Vec<&Suspension> = suspensions(parts.brakes, parts.now).collect();
    let first = held.first()?;
    let what = match (&first.resource, held.len()) {
        (None, _) => "this host is".to_owned(),
        (Some(id), 1) => format!("{id} is"),
        (Some(_), n) => format!("{n} resources are"),
    };
    let why = if first.reason.is_empty() { String::new() } else { format!(": {}", first.reason) };
    let message = format!("{what} not changed for a while, as {} asked{why}", first.by);
    Some(Verdict::new(State::Suspended, "suspended", message))
}

/// Nothing is done at all before that is mended.
fn unusable(parts: &Parts<'_>) -> Option<Verdict> {
    parts.unusable.map(|stop| Verdict::new(State::Stalled, &stop.reason, stop.message.clone()))
}

fn unconfigured(parts: &Parts<'_>) -> Option<Verdict> {
    parts.settings.source.is_none().then(|| {
        let message = "no source is configured: trueup setup URL, or url in [source] of /etc/trueup/agent.toml";
        Verdict::new(State::Stalled, "unconfigured", message)
    })
}

/// What the pass that runs has seen already, else the last.
fn newest<'a>(parts: &Parts<'a>) -> Option<&'a Report> {
    parts.planned.filter(|report| report.revision.seen.is_some()).or(parts.report)
}

fn revisions(parts: &Parts<'_>) -> Revisions {
    let last = parts.report.map(|report| &report.revision);
    Revisions {
        seen: newest(parts).and_then(|report| report.revision.seen.clone()),
        attempted: parts.attempted.map(commit_text).or_else(|| last?.attempted.clone()),
        applied: parts.applied.map(commit_text).or_else(|| last?.applied.clone()),
    }
}

fn words(revision: &Revision) -> Option<CommitWords> {
    revision.commit.as_ref()?;
    let (subject, author) = (revision.subject.clone(), revision.author.clone());
    Some(bounded(&CommitWords { subject, author, time: revision.time }))
}

fn bounded(words: &CommitWords) -> CommitWords {
    CommitWords { subject: one_line(&words.subject, 200), author: one_line(&words.author, 80), time: words.time }
}

/// Without user and query, where people put what is secret though settings refuse it.
fn bare(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            let user = authority.rsplit_once('@').map(|(user, _)| user).filter(|user| !user.contains(':'));
            let user = user.filter(|_| scheme == "ssh").map(|user| format!("{user}@")).unwrap_or_default();
            one_line(&format!("{scheme}://{user}{host}{path}"), 300)
        }
        None => one_line(url, 300),
    }
}

/// Those that hold, the whole host first.
fn suspensions(brakes: &Brakes, now: i64) -> impl Iterator<Item = &Suspension> {
    let holds = move |one: &&Suspension| now < one.until;
    let whole = brakes.host_suspended(now);
    whole.into_iter().chain(brakes.suspensions.iter().filter(|one| one.resource.is_some()).filter(holds))
}

fn suspended(one: &Suspension) -> SuspendedStatus {
    SuspendedStatus {
        resource: one.resource.as_ref().map(|id| id.as_str().to_owned()),
        since: one.since,
        until: one.until,
        by: one_line(&one.by, 80),
        reason: one_line(&one.reason, 300),
    }
}

/// A copy that no pass has come to yet.
fn pending(one: &Restoring) -> RestoreStatus {
    RestoreStatus {
        copy: one.copy.clone(),
        resource: one.resource.as_str().to_owned(),
        by: one_line(&one.by, 80),
        at: one.at,
        outcome: "pending".to_owned(),
        message: format!("{} goes back to what it was in {}", one.resource, one.copy),
    }
}

fn choice(choice: &Choice) -> ChoiceStatus {
    ChoiceStatus { commit: choice.commit.to_string(), by: one_line(&choice.by, 80), at: choice.at }
}

/// Of what is managed; what is let go is not managed any more.
fn count(report: &Report, attention: &[Attention], brakes: &Brakes, now: i64) -> ResourceCounts {
    // A unit that could neither start nor reload is one that failed.
    let of = |what: &str| {
        let ids = attention.iter().filter(|one| one.what == what).map(|one| one.id.as_str());
        ids.collect::<BTreeSet<_>>().len()
    };
    let released: BTreeSet<&str> =
        report.steps.iter().filter(|line| line.action == "let-go").map(|line| line.id.as_str()).collect();
    let held = report.steps.iter().filter(|line| line.reason.as_deref() == Some("suspended"));
    let mut differ: BTreeSet<&str> =
        attention.iter().map(|one| one.id.as_str()).filter(|id| id.contains(':')).collect();
    differ.extend(held.map(|line| line.id.as_str()));
    let differ = differ.difference(&released).count() + report.deferred.len();
    ResourceCounts {
        managed: report.counts.managed,
        in_sync: report.counts.managed.saturating_sub(differ),
        failed: of("failed"),
        skipped: of("skipped"),
        drifted: of("drifted"),
        contested: of("contested"),
        suspended: suspensions(brakes, now).filter(|one| one.resource.is_some()).count(),
        pending: of("pending"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SourceSettings;
    use crate::model::{Class, Stage};
    use crate::report::{Counts, Line, NoteLine, RefreshLine};
    use crate::source::{SharedHealth, SourceError};

    const NOW: i64 = 1_795_456_800;
    const DAY: i64 = 86_400;

    /// Everything that parts borrow, as it is on a host where all is well.
    struct Scene {
        settings: Settings,
        unusable: Option<Stop>,
        report: Option<Report>,
        planned: Option<Report>,
        brakes: Brakes,
        looks: Looks,
        running: bool,
        agent: bool,
        previous: Option<Status>,
    }

    impl Scene {
        fn new() -> Self {
            let mut settings = Settings::default();
            settings.source = Some(SourceSettings::at("https://git.example.org/fleet.git"));
            let mut looks = Looks::default();
            looks.succeeded(NOW - 12, true);
            Self {
                settings,
                unusable: None,
                report: Some(report(State::InSync, None)),
                planned: None,
                brakes: Brakes::default(),
                looks,
                running: false,
                agent: true,
                previous: None,
            }
        }

        fn status(&self) -> Status {
            let started = NOW - 3 * DAY;
            make(&Parts {
                settings: &self.settings,
                unusable: self.unusable.as_ref(),
                host: Some("web-01"),
                report: self.report.as_ref(),
                planned: self.planned.as_ref(),
                applied: None,
                attempted: None,
                brakes: &self.brakes,
                restored: &[],
                looks: &self.looks,
                health: &Health::new(),
                running: self.running.then(|| Running { pass: "P".to_owned(), since: NOW, doing: String::new() }),
                hanging: None,
                last: None,
                next: None,
                agent: self.agent.then(|| AgentStatus { version: "0".to_owned(), pid: 1, started, settings: None }),
                now: NOW,
                notes: &[],
                previous: self.previous.as_ref(),
            })
        }

        fn verdict(&self) -> (State, Option<String>) {
            let status = self.status();
            (status.state, status.reason)
        }
    }

    fn report(state: State, reason: Option<&str>) -> Report {
        let mut report = Report::new("agent");
        (report.state, report.reason) = (state, reason.map(ToOwned::to_owned));
        report.counts = Counts { managed: 10, ..Counts::default() };
        report
    }

    fn line(id: &str, action: &'static str, outcome: &'static str, reason: Option<&str>) -> Line {
        Line {
            id: id.parse().expect("an id"),
            action,
            cause: None,
            changes: vec!["mode 0666 → 0644".to_owned()],
            diff: vec!["-password".to_owned()],
            layer: String::new(),
            outcome,
            reason: reason.map(ToOwned::to_owned),
            message: (outcome == "failed").then(|| "it is a directory".to_owned()),
            kept: None,
            late: false,
            attempts: 0,
            next: None,
        }
    }

    fn suspension(resource: Option<&str>, until: i64) -> Suspension {
        let resource = resource.map(|id| id.parse().expect("an id"));
        Suspension { resource, since: NOW - 60, until, by: "alice".to_owned(), reason: "INC-4711".to_owned() }
    }

    fn chosen() -> Choice {
        Choice { commit: "a".repeat(40).parse().expect("a commit"), by: "alice".to_owned(), at: NOW }
    }

    #[test]
    fn the_worst_that_holds_is_said() {
        use State::{Converging, Degraded, Drifted, InSync, Pending, RolledBack, Stalled, Suspended};
        type Change = fn(&mut Scene);
        let broken: Change = |scene| {
            let (reason, message) = ("bad-settings".to_owned(), String::new());
            scene.unusable = Some(Stop { stage: Stage::Fetch, class: Class::Stalled, reason, message });
        };
        let host: Change = |scene| scene.brakes.suspend(suspension(None, NOW + 1));
        let one: Change = |scene| scene.brakes.suspend(suspension(Some("file:/a"), NOW + 1));
        let over: Change = |scene| scene.brakes.suspend(suspension(Some("file:/a"), NOW));
        let back: Change = |scene| scene.brakes.rolled_back = Some(chosen());
        let gone: Change = |scene| scene.agent = false;
        let bare: Change = |scene| scene.settings.source = None;
        let first: Change = |scene| scene.report = None;
        let drift: Change = |scene| scene.report = Some(report(State::Drifted, Some("drift")));
        let failed: Change = |scene| {
            let mut failed = report(State::Degraded, Some("in-the-way"));
            failed.steps = vec![line("file:/a", "change", "failed", Some("in-the-way"))];
            scene.report = Some(failed);
        };
        let unreachable: Change = |scene| scene.report = Some(report(State::Degraded, Some("unreachable")));
        let undone: Change = |scene| scene.report = Some(report(State::RolledBack, Some("unit-failed")));
        let refused: Change = |scene| scene.report = Some(report(State::Stalled, Some("not-a-descendant")));
        let held: Change = |scene| scene.report = Some(report(State::Suspended, Some("suspended")));
        let planned: Change = |scene| {
            scene.running = true;
            let mut planned = report(State::Pending, Some("changes"));
            planned.counts.changes = 2;
            scene.planned = Some(planned);
        };
        let looking: Change = |scene| {
            scene.running = true;
            scene.planned = Some(report(State::InSync, None));
        };
        let table: &[(&str, &[Change], State, Option<&str>)] = &[
            ("all is well", &[], InSync, None),
            ("a look changes nothing", &[looking], InSync, None),
            ("a pass is at work", &[planned], Converging, Some("changes")),
            ("a pass is at work on more than it", &[planned, drift], Drifted, Some("drift")),
            ("the agent has just started", &[first], Converging, Some("first-pass")),
            ("drift is only told", &[drift], Drifted, Some("drift")),
            ("root went back", &[drift, back], Pending, Some("rolled-back-by-root")),
            ("one resource is suspended", &[drift, one], Suspended, Some("suspended")),
            ("a suspension is over", &[over], InSync, None),
            ("what it held back is to be done", &[held, over], Pending, Some("changes")),
            ("before the first pass too", &[first, host], Suspended, Some("suspended")),
            ("unreachable for a while", &[unreachable], Degraded, Some("unreachable")),
            ("a failure on a suspended host", &[failed, host], Degraded, Some("in-the-way")),
            ("undone", &[undone, host], RolledBack, Some("unit-failed")),
            ("refused", &[refused, undone, refused, host], Stalled, Some("not-a-descendant")),
            ("no source", &[bare, first, host], Stalled, Some("unconfigured")),
            ("settings that cannot be used", &[bare, broken, first], Stalled, Some("bad-settings")),
            ("no agent", &[gone, refused], Stalled, Some("not-running")),
            ("neither", &[gone, bare], Stalled, Some("not-running")),
        ];
        for (name, changes, state, reason) in table {
            let mut scene = Scene::new();
            changes.iter().for_each(|change| change(&mut scene));
            assert_eq!(scene.verdict(), (*state, reason.map(ToOwned::to_owned)), "{name}");
        }
    }

    #[test]
    fn since_goes_on_for_as_long_as_state_and_reason_do() {
        let mut scene = Scene::new();
        let before = Status { since: NOW - 500, ..scene.status() };
        scene.previous = Some(before.clone());
        assert_eq!(scene.status().since, NOW - 500);
        scene.previous = Some(Status { reason: Some("drift".to_owned()), ..before.clone() });
        assert_eq!(scene.status().since, NOW, "another reason");
        scene.previous = Some(Status { state: State::Drifted, ..before });
        assert_eq!(scene.status().since, NOW, "another state");
    }

    #[test]
    fn a_unit_that_could_neither_start_nor_reload_is_one_that_failed_and_is_named_once() {
        let mut scene = Scene::new();
        let mut found = report(State::Degraded, Some("unit-failed"));
        found.steps = vec![line("unit:a.service", "change", "failed", Some("unit-failed"))];
        found.steps[0].message = Some("unit:a.service: start failed: see journalctl".to_owned());
        found.refreshes = vec![RefreshLine {
            id: "unit:a.service".parse().expect("an id"),
            how: crate::kinds::Refresh::Reload,
            because: Vec::new(),
            outcome: "failed",
            reason: None,
            message: Some("unit:a.service: reload failed: see journalctl".to_owned()),
            attempts: 0,
            next: None,
        }];
        scene.report = Some(found);
        let status = scene.status();
        assert_eq!(status.resources.failed, 1);
        let said: Vec<&str> = status.attention.iter().map(|one| one.message.as_str()).collect();
        assert_eq!(said, ["start failed: see journalctl", "reload failed: see journalctl"]);
    }

    #[test]
    fn a_restart_that_is_owed_is_told_with_when_it_is_done_and_as_pending() {
        let mut scene = Scene::new();
        let mut found = report(State::Degraded, Some("restart-budget"));
        let owed = |name: &str, reason: &str, message: &str| RefreshLine {
            id: name.parse().expect("an id"),
            how: crate::kinds::Refresh::Restart,
            because: Vec::new(),
            outcome: "owed",
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            attempts: 0,
            next: Some(NOW + 60),
        };
        found.refreshes = vec![
            owed("unit:a.service", "restart-budget", "restart-budget: 10 times are enough"),
            owed("unit:b.service", "suspended", "suspended: by alice"),
        ];
        scene.report = Some(found);
        let status = scene.status();
        assert_eq!(status.resources.pending, 1);
        let [one] = status.attention.as_slice() else { panic!("{:?}", status.attention) };
        assert_eq!((one.what.as_str(), one.message.as_str()), ("pending", "restart owed: 10 times are enough"));
        assert_eq!(one.next, Some(NOW + 60));
    }

    #[test]
    fn what_is_not_as_declared_is_told_in_order_and_counted() {
        let mut scene = Scene::new();
        let mut found = report(State::Degraded, Some("in-the-way"));
        found.steps = vec![
            line("file:/done", "change", "done", None),
            line("file:/planned", "change", "planned", None),
            line("file:/told", "report", "reported", Some("report-only")),
            line("file:/let-go", "let-go", "failed", Some("not-empty")),
            line("file:/skipped", "create", "skipped", None),
            line("file:/held", "report", "reported", Some("suspended")),
            line("file:/fought", "report", "reported", Some("contested")),
            line("file:/failed", "create", "failed", Some("in-the-way")),
        ];
        found.refreshes = vec![RefreshLine {
            id: "unit:a.service".parse().expect("an id"),
            how: crate::kinds::Refresh::Reload,
            because: Vec::new(),
            outcome: "failed",
            reason: None,
            message: Some("no".to_owned()),
            attempts: 0,
            next: None,
        }];
        found.deferred = vec![NoteLine { id: "package:a".parse().expect("an id"), note: String::new() }];
        (found.steps[7].attempts, found.steps[7].next) = (3, Some(NOW + 240));
        (found.steps[6].attempts, found.steps[6].next) = (5, Some(NOW + 600));
        scene.report = Some(found);
        scene.brakes.suspend(suspension(Some("file:/held"), NOW + 1));
        scene.brakes.suspend(suspension(None, NOW + 1));
        let status = scene.status();
        let told: Vec<(&str, &str)> = status.attention.iter().map(|one| (one.what.as_str(), one.id.as_str())).collect();
        let expected = [
            ("failed", "file:/let-go"),
            ("failed", "file:/failed"),
            ("failed", "unit:a.service"),
            ("contested", "file:/fought"),
            ("skipped", "file:/skipped"),
            ("drifted", "file:/told"),
            ("pending", "file:/planned"),
        ];
        assert_eq!(told, expected);
        let again: Vec<(u32, Option<i64>)> =
            status.attention.iter().map(|one| (one.attempts, one.next)).take(5).collect();
        let (waits, fought) = ((3, Some(NOW + 240)), (0, Some(NOW + 600)));
        assert_eq!(again, [(1, None), waits, (1, None), fought, (0, None)]);
        let counts = ResourceCounts {
            managed: 10,
            // All but the six that differ and the one that is deferred.
            in_sync: 2,
            failed: 3,
            skipped: 1,
            drifted: 1,
            contested: 1,
            suspended: 1,
            pending: 1,
        };
        assert_eq!(status.resources, counts);
        assert_eq!(status.suspended.iter().map(|one| one.resource.is_none()).collect::<Vec<_>>(), [true, false]);
        assert!(!serde_json::to_string(&status).expect("written").contains("password"), "no content of a file");
    }

    #[test]
    fn ten_thousand_failures_are_a_hundred_and_a_number() {
        let mut scene = Scene::new();
        let mut found = report(State::Degraded, Some("in-the-way"));
        found.steps =
            (0..10_000).map(|n| line(&format!("file:/{n}"), "change", "failed", Some("in-the-way"))).collect();
        found.notes = vec!["n".repeat(10_000); 1000];
        found.message = Some("m".repeat(10_000));
        scene.report = Some(found);
        let status = scene.status();
        assert_eq!((status.attention.len(), status.resources.failed), (ATTENTION, 10_000));
        assert!(serde_json::to_string(&status).expect("written").len() < 64 << 10);
    }

    #[test]
    fn a_password_in_a_url_is_not_told() {
        for (url, told) in [
            ("https://git.example.org/fleet.git", "https://git.example.org/fleet.git"),
            ("https://user:secret@git.example.org/f", "https://git.example.org/f"),
            ("https://secret@git.example.org/f?token=secret", "https://git.example.org/f"),
            ("ssh://git@git.example.org:2222/f", "ssh://git@git.example.org:2222/f"),
            ("git@git.example.org:fleet.git", "git@git.example.org:fleet.git"),
            ("/srv/fleet.git", "/srv/fleet.git"),
        ] {
            assert_eq!(bare(url), told);
        }
    }

    #[test]
    fn which_of_several_urls_answered_and_which_did_not_is_told_and_of_one_alone_nothing() {
        let one = "https://git.example.org/fleet.git".to_owned();
        let other = "https://mirror.example.org/fleet.git".to_owned();
        let health = SharedHealth::default();
        health.failed(&one, NOW - 60, &SourceError::Settings(format!("no\nroute {}", "x".repeat(2000))));
        health.succeeded(&other);
        health.failed("https://former.example.org/x", NOW, &SourceError::Settings(String::new()));
        let health = health.now();
        let mut settings = Settings::default();
        let mut told = |urls: &[&String]| {
            let urls = urls.iter().map(|url| (*url).clone()).collect();
            settings.source = Some(SourceSettings { urls, ..SourceSettings::at("") });
            make(&Parts { health: &health, ..Parts::new(&settings, NOW) }).source.expect("configured")
        };
        let source = told(&[&one, &other]);
        assert_eq!((source.url.as_str(), source.answered.as_deref()), (one.as_str(), Some(other.as_str())));
        let [failing] = &source.failing[..] else { panic!("{:?}", source.failing) };
        assert_eq!(
            (failing.url.as_str(), failing.since, failing.reason.as_str()),
            (one.as_str(), NOW - 60, "bad-settings")
        );
        assert!(failing.message.starts_with("no\\nroute") && failing.message.len() < 400, "{failing:?}");

        let source = told(&[&one]);
        assert!(source.answered.is_none() && source.failing.is_empty());
        let text = serde_json::to_string(&source).expect("serializes");
        assert!(!text.contains("answered") && !text.contains("failing\""), "{text}");
        assert_eq!(serde_json::from_str::<SourceStatus>(&text).expect("as before"), source);
    }

    #[test]
    fn looks_at_the_source_are_remembered() {
        let mut looks = Looks::default();
        looks.failed(5, "no route");
        looks.failed(9, "no route\nat all");
        assert_eq!((looks.failing_since, looks.error.as_deref()), (Some(5), Some("no route\\nat all")));
        looks.succeeded(12, false);
        assert_eq!(looks, Looks { looked: Some(12), ..Looks::default() });
    }
}
