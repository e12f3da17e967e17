//! All that the agent knows, and what it does about each event.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::event::Event;
use super::live::Live;
use super::pass::{self, Doing, Ended, Job, Link};
use super::schedule::{Pace, Schedule};
use super::watcher::Managed;
use super::{Snapshot, systemd};
use crate::brakes::{Brakes, Suspension};
use crate::config::Settings;
use crate::host::{Entry, Memory, Reader};
use crate::ledger;
use crate::model::{Facts, Stop};
use crate::reconcile;
use crate::report::journal::{self, Told};
use crate::report::status::{self, Parts};
use crate::report::{Last, Passed, Report, RestoreStatus, Status};
use crate::source::SharedHealth;

mod asked;
mod desk;
mod ended;
mod hanging;
mod reload;
mod shown;
#[cfg(test)]
mod tests;

pub(super) use desk::Written;
use desk::{Desk, Task, Work};
use reload::{again, rhythm};
pub(super) use shown::Held;

/// How long a pass that found the exclusive lock taken waits for the next attempt.
const LOCKED: Duration = Duration::from_secs(2);
/// How many attempts at the lock are no event.
const ATTEMPTS: u32 = 15;

/// How soon a pass that shows no life is looked after again.
const LATE: Duration = Duration::from_secs(2);

/// How long after a pass its own changes may still be told by the watches.
const ECHO: Duration = Duration::from_millis(200);
/// How long after changes that a pass made itself the host is looked at once more.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// What goes on.
pub(super) enum Flow {
    /// Wait for the next event.
    Go,
    /// The agent ends.
    End,
}

/// The agent.
pub(super) struct Agent {
    host: Reader,
    executable: PathBuf,
    settings: Result<Settings, Stop>,
    /// The beginning of a digest of the files that they are from.
    digest: Option<String>,
    /// Why settings were not taken that were to be read anew.
    refused: Option<String>,
    /// When they are read again that could not be looked at.
    reread: Option<Instant>,
    /// As read at the start: what the repository is compiled with does not move while the agent runs.
    facts: Option<Facts>,
    schedule: Schedule,
    brakes: Result<Brakes, Stop>,
    desk: Desk,
    live: Live,
    stored: Live,
    /// How the URLs of the source did.
    health: SharedHealth,
    /// What passes read that need not be read again.
    memory: Memory,
    /// The source is left alone until then.
    leave_alone: Option<Instant>,
    told: Option<Told>,
    running: Option<Current>,
    /// Why it does not go on, where it does not.
    hanging: Option<String>,
    /// When that is looked at next.
    look_at: Instant,
    /// The pass that is to run next, and why not only by the clock.
    wanted: Option<Wanted>,
    /// When the next pass begins by itself.
    due: Instant,
    /// When a pass is due that a local change led to.
    hinted: Option<Instant>,
    pace: Pace,
    /// A hint may be what the pass that runs, or ended last, changed itself: that is looked at once more.
    echoes: bool,
    /// The pass that is hinted at is such a look.
    afterwards: bool,
    /// When the source was asked last and answered.
    asked_at: Option<Instant>,
    /// What is to be watched.
    managed: watch::Sender<Managed>,
    /// What of it cannot be.
    unwatched: watch::Receiver<Option<String>>,
    attempts: u32,
    /// Which other trueup was at work when a pass was to begin.
    at_work: Option<String>,
    /// Until when what people asked for was looked at by the clock, seconds since 1970.
    kept_time: i64,
    /// Suspensions of which the clock says that they begin later, and when they were found.
    ahead: Vec<(Suspension, Instant)>,
    /// When what failed or is contested may be tried again, seconds since 1970.
    nexts: Vec<i64>,
    /// When the watchdog is to hear of us again.
    feed_at: Option<Instant>,
    /// A look at the source while a pass runs.
    glancing: bool,
    /// What was told of passes that came to nothing, and could not tell it themselves.
    early: Told,
    begun: Instant,
    /// When the last pass ended.
    ended_at: Option<Instant>,
    report: Option<Arc<Report>>,
    /// What of the ledger the status shows.
    held: Held,
    last: Option<Last>,
    history: Arc<[Passed]>,
    status: Option<Arc<Status>>,
    /// What came of copies that were asked for, the newest last.
    restored: Vec<RestoreStatus>,
    snapshots: watch::Sender<Snapshot>,
    ended: mpsc::UnboundedSender<Ended>,
    doing: watch::Sender<Doing>,
    glanced: mpsc::UnboundedSender<Option<String>>,
    hands: Hands,
    started: i64,
    stopping: bool,
    /// Nothing is waited for any more but the desk.
    ending: bool,
}

/// The pass that runs.
struct Current {
    pass: String,
    since: i64,
    link: Link,
    /// Why it runs, to be taken up again where it could not even begin.
    wanted: Wanted,
}

/// A pass that somebody, or something, asked for.
#[derive(Clone, Default)]
struct Wanted {
    pass: String,
    allow_removals: Option<u64>,
    retry: bool,
    /// The source is asked even where it is left alone.
    source: bool,
    /// Nothing but a change on this host led to it: what was found at the source is still fresh enough.
    hinted: bool,
    /// It only looks at what the last one changed itself.
    afterwards: bool,
}

impl Wanted {
    /// This and then `later`, in one pass; whoever waits for either waits for that.
    fn and(mut self, later: Option<Self>) -> Self {
        if let Some(later) = later {
            self.pass = later.pass;
            self.allow_removals = self.allow_removals.max(later.allow_removals);
            self.retry |= later.retry;
            self.source |= later.source;
            self.hinted &= later.hinted;
            self.afterwards &= later.afterwards;
        }
        self
    }
}

/// What the loop hands to the agent when it makes one.
pub(super) struct Wires {
    pub(super) ended: mpsc::UnboundedSender<Ended>,
    pub(super) doing: watch::Sender<Doing>,
    pub(super) managed: watch::Sender<Managed>,
    /// What hears of changes has a part in it.
    pub(super) memory: Memory,
    pub(super) unwatched: watch::Receiver<Option<String>>,
    pub(super) glanced: mpsc::UnboundedSender<Option<String>>,
    pub(super) written: mpsc::UnboundedSender<Written>,
    pub(super) hands: Hands,
}

/// What tells the journal of a host.
type Log = Box<dyn Fn(&Reader, &[Entry])>;

/// What the agent does to the world by itself.
pub(super) struct Hands {
    /// Starts a pass; what comes of it arrives, whatever happens.
    pub(super) start: Box<dyn Fn(Job, Link, mpsc::UnboundedSender<Ended>)>,
    /// Does something that may take its time.
    pub(super) aside: Box<dyn Fn(Task)>,
    /// Tells the journal.
    pub(super) log: Log,
}

impl Default for Hands {
    fn default() -> Self {
        Self {
            start: Box::new(pass::start),
            aside: Box::new(desk::aside),
            log: Box::new(|host, entries| _ = host.log(entries)),
        }
    }
}

impl Agent {
    /// An agent that has read its settings, its brakes and its history, and not looked at anything yet.
    pub(super) fn new(host: Reader, executable: PathBuf, wires: Wires) -> Self {
        let own = host.agent_state();
        let (settings, digest) = reconcile::settings_and_digest(&host);
        let facts = host.facts().ok();
        let live = Live::load(&own).unwrap_or_default();
        let state = host.state();
        let held = ledger::load(&state).map(|(ledger, _)| Held::of(&ledger)).unwrap_or_default();
        // One that is damaged starts afresh with the next pass, which says so.
        let history: Arc<[Passed]> = reconcile::history(&state).unwrap_or_default().into();
        let started = host.now();
        let Wires { ended, doing, managed, memory, unwatched, glanced, written, hands } = wires;
        let status = Arc::new(status::make(&Parts::new(settings.as_ref().unwrap_or(&Settings::default()), started)));
        let (snapshots, _) = watch::channel(Snapshot { status, report: None, history: Arc::clone(&history) });
        let mut agent = Self {
            schedule: rhythm(&settings, facts.as_ref()),
            brakes: reconcile::brakes(&host),
            desk: Desk::new(written),
            stored: live.clone(),
            live,
            health: SharedHealth::default(),
            memory,
            host,
            executable,
            digest: digest.filter(|_| settings.is_ok()),
            reread: again(settings.as_ref().err()),
            refused: None,
            settings,
            facts,
            leave_alone: None,
            told: None,
            running: None,
            hanging: None,
            look_at: Instant::now(),
            wanted: None,
            due: Instant::now(),
            hinted: None,
            pace: Pace::default(),
            echoes: false,
            afterwards: false,
            asked_at: None,
            managed,
            unwatched,
            attempts: 0,
            at_work: None,
            kept_time: started,
            ahead: Vec::new(),
            nexts: Vec::new(),
            feed_at: systemd::watchdog().map(|patience| Instant::now() + patience / 2),
            glancing: false,
            early: Told::default(),
            begun: Instant::now(),
            ended_at: None,
            report: None,
            held,
            last: None,
            history,
            status: None,
            restored: Vec::new(),
            snapshots,
            ended,
            doing,
            glanced,
            hands,
            started,
            stopping: false,
            ending: false,
        };
        agent.log(&[journal::started(env!("CARGO_PKG_VERSION"))]);
        if let Err(stop) = &agent.settings {
            agent.log(&[journal::no_settings(&stop.message)]);
        }
        agent.publish();
        agent
    }

    /// What the socket answers from.
    pub(super) fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.snapshots.subscribe()
    }

    /// When something is due by the clock: a pass, or a word to the watchdog. The latter is reckoned from the last
    /// one, so that no stream of events puts it off.
    pub(super) fn due(&self) -> Option<Instant> {
        let pass = self.configured().then_some(self.due);
        let wakes = self.wakes().filter(|_| self.configured());
        [pass, self.hinted, self.feed_at, wakes, self.reread, self.looks_after()].into_iter().flatten().min()
    }

    /// Whether it is of interest that something changed; where that is known already it only takes time.
    pub(super) fn takes_hints(&self) -> bool {
        self.hinted.is_none()
    }

    /// Whether requests are taken in: one at a time, in their order.
    pub(super) fn takes_requests(&self) -> bool {
        !self.desk.is_busy()
    }

    /// What is done about `event`.
    pub(super) fn take(&mut self, event: Event) -> Flow {
        self.feed();
        self.look_after();
        match event {
            Event::Due => self.clock(),
            Event::Changed => self.hint(),
            Event::Glanced(seen) => self.glanced(seen.as_deref()),
            Event::Ended(ended) => return self.pass_ended(*ended),
            Event::Doing => {}
            Event::Asked(asked) => self.put_down(Work::Asked(asked)),
            Event::Written(written) => {
                self.written(*written);
                if self.ending && !self.desk.is_busy() {
                    return self.end();
                }
            }
            Event::Reload => self.reload(),
            Event::Stop => return self.stop(),
        }
        self.publish();
        Flow::Go
    }

    fn clock(&mut self) {
        if self.reread.is_some_and(|at| at <= Instant::now()) {
            self.read_settings();
        }
        if self.configured() && self.is_over() {
            self.keep_time();
            let hint = Wanted { hinted: true, ..Wanted::default() };
            self.wanted.get_or_insert(hint);
            self.go_on();
        }
        if self.hinted.is_some_and(|hinted| hinted <= Instant::now()) {
            self.hinted = None;
            let hint = Wanted { hinted: true, afterwards: std::mem::take(&mut self.afterwards), ..Wanted::default() };
            self.wanted.get_or_insert(hint);
            self.go_on();
        }
        if Instant::now() < self.due || !self.configured() {
            return;
        }
        if self.running.is_some() {
            // It is late; the next one is due in its turn.
            self.due = self.next();
            self.glance();
            return;
        }
        self.wanted.get_or_insert_default();
        self.due = self.next();
        self.go_on();
    }

    /// Something changed here, perhaps by a pass of ours: one that finds nothing changes nothing.
    fn hint(&mut self) {
        if self.hinted.is_some() {
            return;
        }
        let now = Instant::now();
        let ours = self.running.is_some() || self.ended_at.is_some_and(|ended| now < ended + ECHO);
        self.afterwards = ours && std::mem::take(&mut self.echoes);
        self.hinted = Some(if self.afterwards {
            // Most likely what the pass itself did; what comes after that look is somebody else's.
            let due = now + AFTERWARDS;
            self.pace.pass(due - self.begun);
            due
        } else {
            self.begun + self.pace.hint(now - self.begun, self.schedule.interval())
        });
    }

    /// A word to the watchdog where it is time, unless a pass hangs.
    fn feed(&mut self) {
        let (Some(patience), now) = (systemd::watchdog().map(|patience| patience / 2), Instant::now()) else { return };
        if self.feed_at.is_some_and(|at| now < at) {
            return;
        }
        let alive = self.running.as_ref().is_none_or(|current| current.link.pulse.is_alive(patience));
        if alive {
            systemd::feed_watchdog();
        }
        self.feed_at = Some(now + feed_after(alive, patience));
    }

    /// Looks at the source while a pass is at work, or waits: a new revision ends that between two steps.
    fn glance(&mut self) {
        let planned = self.doing.borrow().planned.is_some();
        let left_alone = self.leave_alone.is_some_and(|until| Instant::now() < until);
        if let Ok(settings) = &self.settings
            && self.configured()
            && planned
            && !left_alone
            && !self.glancing
            && !self.stopping
        {
            self.glancing = true;
            let worker = self.host.worker(self.executable.clone());
            pass::glance(settings.clone(), worker, self.health.clone(), self.glanced.clone());
        }
    }

    fn glanced(&mut self, seen: Option<&str>) {
        self.glancing = false;
        let Some(current) = self.running.as_ref().filter(|_| seen.is_some()) else { return };
        let acted = self.doing.borrow().planned.as_ref().and_then(|planned| planned.revision.seen.clone());
        if acted.is_some_and(|acted| seen != Some(acted.as_str())) {
            current.link.interrupt.store(true, Ordering::Relaxed);
            self.want(true);
        }
    }

    /// One more pass, as soon as none runs; one that asks the `source` though it was left alone.
    fn want(&mut self, source: bool) {
        let mut wanted = self.taken_up();
        wanted.source |= source;
        self.wanted = Some(wanted);
        self.go_on();
    }

    /// What is wanted already, by more than a hint from now on, and the id that it will have.
    fn taken_up(&mut self) -> Wanted {
        let mut wanted = self.wanted.take().unwrap_or_default();
        if wanted.pass.is_empty() {
            wanted.pass = self.host.new_pass();
        }
        (wanted.hinted, wanted.afterwards) = (false, false);
        wanted
    }

    /// Begins what is wanted, where nothing runs, and what people asked for is on disk.
    fn go_on(&mut self) {
        if self.running.is_none()
            && !self.desk.is_busy()
            && !self.stopping
            && self.configured()
            && let Some(wanted) = self.wanted.take()
        {
            self.begin(wanted);
        }
    }

    fn begin(&mut self, wanted: Wanted) {
        self.read_brakes();
        self.keep_time();
        let Ok(settings) = &self.settings else { return };
        let pass = if wanted.pass.is_empty() { self.host.new_pass() } else { wanted.pass.clone() };
        let left_alone = self.leave_alone.is_some_and(|until| Instant::now() < until) && !wanted.source;
        let fresh = self.asked_at.is_some_and(|at| Instant::now() < at + self.schedule.interval());
        // What it finds is found by this one.
        (self.hinted, self.echoes) = (None, !wanted.afterwards);
        let link = Link {
            interrupt: Arc::new(AtomicBool::new(false)),
            looking: Arc::default(),
            pulse: Arc::default(),
            doing: self.doing.clone(),
        };
        let job = Job {
            pass: pass.clone(),
            settings: settings.clone(),
            facts: self.facts.clone(),
            allow_removals: wanted.allow_removals,
            retry: wanted.retry,
            not_now: self.live.why.clone().filter(|_| left_alone),
            unasked: wanted.hinted && fresh && self.live.failures == 0,
            restore: self.brakes.iter().flat_map(|brakes| &brakes.restoring).map(|one| one.copy.clone()).collect(),
            told: self.told.take().unwrap_or_default(),
            early: self.early.clone(),
            observed: self.report.as_ref().is_some_and(|report| report.observed),
            live: self.live.clone(),
            stored: self.stored.clone(),
            started: self.started,
            executable: self.executable.clone(),
            health: self.health.clone(),
            memory: self.memory.clone(),
        };
        self.running = Some(Current { pass, since: self.host.now(), link: link.clone(), wanted });
        self.doing.send_replace(Doing::default());
        self.due = self.next();
        (self.hands.start)(job, link, self.ended.clone());
    }

    fn stop(&mut self) -> Flow {
        systemd::stopping();
        self.stopping = true;
        match &self.running {
            Some(current) => {
                // One that crosses the boundary right now sees this before its first step.
                current.link.interrupt.store(true, Ordering::SeqCst);
                if current.link.looking.load(Ordering::SeqCst) {
                    // A source that does not answer is not waited for; whoever looked goes with the agent.
                    return self.end();
                }
                systemd::status("ending between two steps");
                Flow::Go
            }
            None => self.end(),
        }
    }

    fn end(&mut self) -> Flow {
        if self.desk.is_busy() {
            // Whoever asked has an answer, and the journal knows of it.
            self.ending = true;
            return Flow::Go;
        }
        self.log(&[journal::stopping()]);
        Flow::End
    }

    fn configured(&self) -> bool {
        self.settings.as_ref().is_ok_and(|settings| settings.source.is_some())
    }

    fn next(&self) -> Instant {
        Instant::now() + self.schedule.until_next(self.host.since_1970())
    }

    fn log(&self, entries: &[Entry]) {
        (self.hands.log)(&self.host, entries);
    }
}

/// When the watchdog is to hear of us next. A pass that is late may just be slow: it is looked after soon, since the
/// next word in its turn would come after the watchdog's end.
fn feed_after(alive: bool, patience: Duration) -> Duration {
    if alive { patience } else { patience.min(LATE) }
}

/// Even between 0 and 1.
fn chance() -> f64 {
    let mut random = [0; 4];
    // Short of entropy everybody waits half as long.
    match rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(4) => f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX),
        _ => 0.5,
    }
}
