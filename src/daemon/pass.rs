//! One pass of the agent, on a thread of its own, which makes and owns its view of the host.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::config::Settings;
use crate::host::{LockError, Memory, Progress, Pulse, Reader, Worker, Writer};
use crate::ledger;
use crate::model::{Class, Facts, Stage, Stop, one_line};
use crate::plan::Leave;
use crate::reconcile::{self, Ask};
use crate::report::journal::{self, Told};
use crate::report::{Passed, Report, State, age};
use crate::source::{Known, Record, SharedHealth, Source};

use super::agent::Held;
use super::live::Live;
use super::watcher::Managed;

/// Everything that a pass needs to know.
pub(super) struct Job {
    /// Its id.
    pub(super) pass: String,
    pub(super) settings: Settings,
    /// As read at the agent's start.
    pub(super) facts: Option<Facts>,
    pub(super) allow_removals: Option<u64>,
    pub(super) retry: bool,
    /// The source is left alone, and why.
    pub(super) not_now: Option<Stop>,
    /// The source was asked just now: what is known of it is enough.
    pub(super) unasked: bool,
    /// Copies to give back first.
    pub(super) restore: Vec<String>,
    /// What was told already.
    pub(super) told: Told,
    /// What the loop itself told, of passes that could not.
    pub(super) early: Told,
    /// It is known from a pass before how the resources are.
    pub(super) observed: bool,
    /// How the source was found so far.
    pub(super) live: Live,
    /// What of that stands on disk.
    pub(super) stored: Live,
    /// When the agent started, seconds since 1970.
    pub(super) started: i64,
    /// This program.
    pub(super) executable: PathBuf,
    /// How the URLs of the source did.
    pub(super) health: SharedHealth,
    /// What was read before.
    pub(super) memory: Memory,
}

/// What is shared with the loop while a pass runs.
#[derive(Clone)]
pub(super) struct Link {
    /// Set, it ends between two steps.
    pub(super) interrupt: Arc<AtomicBool>,
    /// It is left of the write boundary, where it can be left alone at any time.
    pub(super) looking: Arc<AtomicBool>,
    /// Shows that it goes on.
    pub(super) pulse: Arc<Pulse>,
    /// What it is doing.
    pub(super) doing: watch::Sender<Doing>,
}

/// What a pass is doing.
#[derive(Clone, Default)]
pub(super) struct Doing {
    /// What it does or waits for right now, in one line.
    pub(super) line: String,
    /// What it is about to do; none before that is known, and where there is nothing to do.
    pub(super) planned: Option<Arc<Report>>,
}

/// What came of a copy that was to be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// `k-7f31`.
    pub(super) copy: String,
    /// Why it could not be; none where it was.
    pub(super) failed: Option<String>,
}

/// What came of a pass.
pub(super) struct Ended {
    /// What it found and did.
    pub(super) report: Report,
    /// What was told, this included; none where that was lost with the pass.
    pub(super) told: Option<Told>,
    /// The copies that it was to give back.
    pub(super) given: Vec<Given>,
    /// How the source was found; none where the pass did not come to it.
    pub(super) live: Option<Live>,
    /// What of that stands on disk.
    pub(super) stored: Option<Live>,
    /// Passes in which something happened, the newest first.
    pub(super) history: Option<Vec<Passed>>,
    /// What of the ledger the status shows.
    pub(super) held: Option<Held>,
    /// What is managed; none where that is not known.
    pub(super) managed: Option<Managed>,
    /// How long it took.
    pub(super) took: Duration,
    /// When it ended, seconds since 1970.
    pub(super) at: i64,
    /// Somebody else holds the exclusive lock: nothing was even looked at; and who, where that is another trueup.
    pub(super) locked: Option<Option<String>>,
    /// The journal was told of it, where there was something to tell.
    pub(super) said: bool,
    /// The source was asked.
    pub(super) asked: bool,
}

/// Starts a pass; what comes of it arrives at `ended`, whatever happens.
pub(super) fn start(job: Job, link: Link, ended: mpsc::UnboundedSender<Ended>) {
    let thread = thread::Builder::new().name("pass".to_owned());
    let failed = ended.clone();
    let started = thread.spawn(move || {
        let begun = Instant::now();
        let mut done = run(job, &link);
        done.took = begun.elapsed();
        // The loop is gone only where the agent ends.
        let _ = ended.send(done);
    });
    if let Err(error) = started {
        let message = format!("cannot start a thread for the pass: {error}");
        let _ = failed.send(Ended::stopped(stop(Class::Transient, "no-thread", &message), 0));
    }
}

fn run(job: Job, link: &Link) -> Ended {
    // A pass that panics is a mistake of ours; it costs this pass, never the agent.
    let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attempt(job, link)));
    attempt.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        let message = format!("a mistake in trueup ended the pass, please report it: {}", one_line(text, 400));
        Ended::stopped(stop(Class::Transient, "internal-error", &message), 0)
    })
}

fn attempt(job: Job, link: &Link) -> Ended {
    let reader = match Reader::machine() {
        Ok(reader) => reader,
        Err(error) => return Ended::stopped(stop(Class::Transient, error.reason(), &error.chain()), 0),
    };
    let doing = link.doing.clone();
    let reader = reader
        .with_interrupt(Arc::clone(&link.interrupt))
        .with_pulse(Arc::clone(&link.pulse))
        .with_memory(job.memory.clone())
        .with_progress(Progress::new(move |line| doing.send_modify(|doing| doing.line = one_line(line, 200))));
    let now = reader.now();
    let mut host = match Writer::take(reader) {
        Ok(host) => host,
        Err(error) => {
            let (reason, class) = match &error {
                LockError::Held { .. } => ("locked", Class::Transient),
                LockError::State(error) => error.word(),
            };
            let ended = Ended::stopped(stop(class, reason, &error.to_string()), now);
            let locked = matches!(error, LockError::Held { .. }).then(|| another(&error));
            return Ended { locked, told: Some(job.told), ..ended };
        }
    };
    let Job { pass, settings, facts, allow_removals, retry, not_now, unasked, restore, .. } = job;
    let Job { mut told, early, observed, mut live, mut stored, started, executable, health, .. } = job;
    let left_alone = not_now.is_some();
    let ask = Ask {
        facts,
        leave: Leave::Named(allow_removals),
        retry,
        pass,
        not_now,
        unasked,
        patient: true,
        health,
        ..Ask::new("agent", settings, &host, executable)
    };
    let given = give_back(&mut host, &restore);
    let mut report = shown_pass(&mut host, &ask, link);
    report.notes.extend(given.iter().filter_map(Given::note));
    let asked = !left_alone && !report.unasked;
    if asked {
        live.after(&report, host.now());
    }
    if report.undo {
        // It is a pass of its own; what led to it is told and remembered first.
        reconcile::tell(&host, &mut told, &early, &report);
        reconcile::remember_pass(&host, &mut report);
        let undo = ask.undo(&host);
        report = shown_pass(&mut host, &undo, link);
    }
    let now = host.now();
    // It is about ages after a restart; where it cannot be stored they begin anew.
    let _ = live.save(&mut stored, &host.agent_state());
    judge_age(&mut report, &live, Some(&ask.settings), started, now);
    // One that was asked to end before it knew anything has nothing to tell: the next one has. Nor has one that only
    // found the source silent for a moment, and had nothing to go on with.
    let early_end = report.reason.as_deref() == Some("interrupted") && report.steps.is_empty();
    let blink = observed && only_silent(&report, &live, now);
    let said = !early_end && !blink;
    if said {
        reconcile::tell(&host, &mut told, &early, &report);
        reconcile::remember_pass(&host, &mut report);
    }
    let state = host.state();
    let ledger = ledger::look(&state);
    let managed = ledger.as_deref().map(Managed::of);
    let held = ledger.as_deref().map(Held::of);
    let history = reconcile::history(&state).ok();
    Ended {
        report,
        told: Some(told),
        given,
        live: Some(live),
        stored: Some(stored),
        history,
        held,
        managed,
        took: Duration::ZERO,
        at: now,
        locked: None,
        said,
        asked,
    }
}

/// A pass whose progress is seen from outside.
fn shown_pass(host: &mut Writer, ask: &Ask, link: &Link) -> Report {
    link.looking.store(true, Ordering::SeqCst);
    reconcile::pass(host, ask, |report, _| {
        link.looking.store(false, Ordering::SeqCst);
        // What is only told, or not done here, is no work under way.
        if has_work(report) {
            link.doing.send_modify(|doing| doing.planned = Some(Arc::new(report.clone())));
        }
    })
}

/// Whether something is about to be done, whatever else is amiss.
fn has_work(report: &Report) -> bool {
    let planned = |outcome: &str| outcome == "planned";
    !report.look_only
        && (report.settling
            || report.steps.iter().any(|line| planned(line.outcome))
            || report.refreshes.iter().any(|line| planned(line.outcome))
            || report.activations.iter().any(|line| planned(line.outcome)))
}

/// Whether all that there is to say is that the source has been silent for less than is worth an entry.
fn only_silent(report: &Report, live: &Live, now: i64) -> bool {
    let silent = report.source_error.as_ref().filter(|why| why.class == Class::Transient);
    let lasts = live.looks.failing_since.is_some_and(|since| now.saturating_sub(since) >= journal::BLINK);
    !report.observed && !lasts && silent.is_some_and(|why| report.reason.as_ref() == Some(&why.reason))
}

/// Who holds the lock, where that is another trueup: a pass that somebody runs by hand.
fn another(error: &LockError) -> Option<String> {
    let holder = Reader::machine().ok()?.lock_holder("/var/lib/trueup/lock").ok()??;
    (holder.name == env!("CARGO_PKG_NAME")).then(|| error.to_string())
}

/// Says in `report` that no look at the source went well for too long, where that is so.
pub(super) fn judge_age(report: &mut Report, live: &Live, settings: Option<&Settings>, started: i64, now: i64) {
    let Some(source) = settings.and_then(|settings| settings.source.as_ref()) else { return };
    if let Some(since) = live.stale(started, seconds(source.max_age), now) {
        let why = live.why.as_ref().map_or_else(String::new, |why| format!(": {}", why.message));
        let message = format!("no look at the source went well for {}{why}", age(since));
        report.raise(State::Degraded, "stale", Some(message));
    }
}

/// Looks at the source beside a pass that has read it already; what its branch is at arrives at `told`, nothing where
/// that could not be seen.
pub(super) fn glance(
    settings: Settings,
    worker: Worker,
    health: SharedHealth,
    told: mpsc::UnboundedSender<Option<String>>,
) {
    let tell = told.clone();
    let look = move || {
        let host = Reader::machine().ok()?;
        let record = Record::load(&host.state()).ok()?;
        let floor = settings.trust.floor.as_ref();
        let known = Known { health: &health, record: &record, floor, clock: &|| host.now(), patience: journal::BLINK };
        let source = Source::seek(settings.source.as_ref()?, &worker, &known).ok()?;
        source.tip().commit.as_ref().map(ToString::to_string)
    };
    let started = thread::Builder::new().name("glance".to_owned()).spawn(move || {
        let seen = look();
        // The loop is gone only where the agent ends.
        let _ = tell.send(seen);
    });
    if started.is_err() {
        let _ = told.send(None);
    }
}

/// Puts copies back to where they came from.
fn give_back(host: &mut Writer, copies: &[String]) -> Vec<Given> {
    let give = |host: &mut Writer, copy: &str| -> Result<(), String> {
        let (mut ledger, _) = ledger::load(&host.state()).map_err(|error| error.to_string())?;
        let kept = ledger.kept.iter().find(|kept| kept.id == copy).cloned();
        let kept = kept.ok_or_else(|| "it is no longer kept".to_owned())?;
        reconcile::give_back(host, &mut ledger, &kept).map(drop).map_err(|stop| stop.message)
    };
    let one = |copy: &String| {
        // A copy that cannot even be tried without a mistake of ours is not tried for ever.
        let given = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| give(host, copy)));
        let given = given.unwrap_or_else(|_| Err("a mistake in trueup, please report it".to_owned()));
        Given { copy: copy.clone(), failed: given.err().map(|why| one_line(&why, 400)) }
    };
    copies.iter().map(one).collect()
}

impl Given {
    /// What there is to say of it beside the rest.
    fn note(&self) -> Option<String> {
        self.failed.as_ref().map(|why| format!("{} could not be given back: {why}", self.copy))
    }
}

impl Ended {
    /// A pass that could not go on before it had a host to look at.
    fn stopped(stop: Stop, at: i64) -> Self {
        let mut report = Report::new("agent");
        report.stopped(&stop);
        Self {
            report,
            told: None,
            given: Vec::new(),
            live: None,
            stored: None,
            history: None,
            held: None,
            managed: None,
            took: Duration::ZERO,
            at,
            locked: None,
            said: false,
            asked: false,
        }
    }
}

fn stop(class: Class, reason: &str, message: &str) -> Stop {
    Stop { stage: Stage::Fetch, class, reason: reason.to_owned(), message: one_line(message, 1000) }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Activation;
    use crate::report::{ActivationLine, State};

    #[test]
    fn what_is_about_to_be_done_is_known_whatever_else_is_amiss() {
        let what = Activation::Sysctl;
        let line = |outcome| ActivationLine { what, outcome, message: None, attempts: 0, next: None };
        let mut report = Report::new("agent");
        report.raise(State::Degraded, "package-failed", None);
        report.activations = vec![line("failed")];
        assert!(!has_work(&report), "it waits to be tried again");
        report.activations.push(line("planned"));
        assert!(has_work(&report));
        report.look_only = true;
        assert!(!has_work(&report), "nothing of this host is changed");
    }
}
