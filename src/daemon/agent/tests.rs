//! The loop with a clock that the test holds, and passes that only say what came of them.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::oneshot;
use tokio::time;

use super::super::{Answer, Asked, Caller, Refusal, Request};
use super::*;
use crate::host::{Clock, Memory};
use crate::model::Id;
use crate::report::{Line, State};

const NOW: i64 = 1_800_000_000;

/// An agent whose passes end as `ends` says.
struct Scene {
    agent: Agent,
    passes: Rc<RefCell<Vec<Job>>>,
    /// What is to be done away from the loop.
    tasks: Rc<RefCell<Vec<Task>>>,
    written: mpsc::UnboundedReceiver<Written>,
    told: Rc<RefCell<Vec<String>>>,
    scratch: tempfile::TempDir,
}

impl Scene {
    fn new(interval: &str) -> Self {
        Self::on(tempfile::tempdir().expect("a scratch directory"), interval)
    }

    /// Another agent on the same host.
    fn restarted(self) -> Self {
        Self::on(self.scratch, "1h")
    }

    fn on(scratch: tempfile::TempDir, interval: &str) -> Self {
        let etc = scratch.path().join("etc/trueup");
        #[allow(clippy::disallowed_methods, reason = "the scene is set by hand")]
        {
            std::fs::create_dir_all(&etc).expect("made");
            let settings = format!("[source]\nurl = \"/srv/fleet\"\ninterval = \"{interval}\"\n");
            std::fs::write(etc.join("agent.toml"), settings).expect("written");
        }
        Self::started(scratch)
    }

    /// An agent with the settings that stand there.
    fn started(scratch: tempfile::TempDir) -> Self {
        let host = Reader::directory(scratch.path()).expect("it is there").with_clock(Clock::Fixed(NOW));
        let passes = Rc::<RefCell<Vec<Job>>>::default();
        let begun = Rc::clone(&passes);
        let start = Box::new(move |job, _, _| begun.borrow_mut().push(job));
        let tasks = Rc::<RefCell<Vec<Task>>>::default();
        let aside = Rc::clone(&tasks);
        let aside = Box::new(move |task| aside.borrow_mut().push(task));
        let told = Rc::<RefCell<Vec<String>>>::default();
        let heard = Rc::clone(&told);
        let log = Box::new(move |_: &Reader, entries: &[Entry]| {
            heard.borrow_mut().extend(entries.iter().map(|entry| entry.message.clone()));
        });
        let hands = Hands { start, aside, log };
        let (writes, written) = mpsc::unbounded_channel();
        let wires = Wires {
            ended: mpsc::unbounded_channel().0,
            doing: watch::channel(Doing::default()).0,
            managed: watch::channel(Managed::default()).0,
            memory: Memory::default(),
            unwatched: watch::channel(None).1,
            glanced: mpsc::unbounded_channel().0,
            written: writes,
            hands,
        };
        let agent = Agent::new(host, PathBuf::from("trueup"), wires);
        Self { agent, passes, tasks, written, told, scratch }
    }

    /// Does what is to be done away from the loop.
    fn write(&mut self) {
        while let Some(task) = { self.tasks.borrow_mut().pop() } {
            task();
            let written = self.written.try_recv().expect("something was written");
            self.agent.take(Event::Written(Box::new(written)));
        }
    }

    /// The pass that was begun last, in its turn, ends so.
    fn end(&mut self, change: impl FnOnce(&mut Ended)) {
        let mut ended = done(self.passes.borrow().last().expect("one runs"), in_sync());
        change(&mut ended);
        self.agent.take(Event::Ended(Box::new(ended)));
    }

    /// What the journal was told since this was called last.
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.borrow_mut())
    }

    /// What the pass was asked for that was begun last, as the `n`th.
    fn begun(&self, n: usize) -> (Vec<String>, bool, Option<u64>) {
        let passes = self.passes.borrow();
        assert_eq!(passes.len(), n);
        let job = passes.last().expect("one");
        (job.restore.clone(), job.retry, job.allow_removals)
    }

    /// Asks, as root; the answer comes once it is written down.
    fn ask(&mut self, request: Request) -> oneshot::Receiver<Result<Answer, Refusal>> {
        let (reply, answer) = oneshot::channel();
        let caller = Caller { uid: 0, name: "alice".to_owned() };
        self.agent.take(Event::Asked(Asked { request, caller, reply }));
        answer
    }

    /// Lives on until `end`, with a change on this host at every `beat`; passes end as `each` says, at once.
    async fn live(&mut self, end: Duration, beat: Option<Duration>, each: impl Fn(&Job) -> Report) {
        let end = Instant::now() + end;
        let mut next = beat.map(|beat| Instant::now() + beat);
        let mut hint = false;
        let mut seen = self.passes.borrow().len();
        loop {
            let due = self.agent.due().into_iter().chain(next).chain([end]).min().expect("the end");
            time::sleep_until(due).await;
            if self.agent.due().is_some_and(|due| due <= Instant::now()) {
                self.agent.take(Event::Due);
            }
            if let (Some(at), Some(beat)) = (next, beat)
                && at <= Instant::now()
            {
                (hint, next) = (true, Some(at + beat));
            }
            // As the loop: one hint waits at a time.
            if hint && self.agent.takes_hints() {
                hint = false;
                self.agent.take(Event::Changed);
            }
            while self.passes.borrow().len() > seen {
                let done = done(&self.passes.borrow()[seen], each(&self.passes.borrow()[seen]));
                seen += 1;
                self.agent.take(Event::Ended(Box::new(done)));
            }
            if Instant::now() >= end {
                return;
            }
        }
    }
}

/// A pass that ended with `report`.
fn done(job: &Job, report: Report) -> Ended {
    Ended {
        report,
        told: Some(job.told.clone()),
        given: Vec::new(),
        live: Some(job.live.clone()),
        stored: Some(job.stored.clone()),
        history: None,
        held: None,
        managed: None,
        took: Duration::ZERO,
        at: NOW,
        locked: None,
        said: true,
        asked: !job.unasked,
    }
}

fn in_sync() -> Report {
    let mut report = Report::new("agent");
    report.revision.seen = Some("a".repeat(40));
    report
}

/// A pass that changed something.
fn changed() -> Report {
    let mut report = in_sync();
    report.steps.push(Line {
        id: "file:/etc/fought".parse().expect("an id"),
        action: "change",
        cause: Some(crate::model::Cause::Corrective),
        changes: Vec::new(),
        diff: Vec::new(),
        layer: String::new(),
        outcome: "done",
        reason: None,
        message: None,
        kept: None,
        late: false,
        attempts: 0,
        next: None,
    });
    report
}

#[tokio::test(start_paused = true)]
async fn somebody_who_changes_things_all_the_time_is_looked_after_less_and_less_often() {
    for each in [in_sync, changed] {
        let mut scene = Scene::new("10m");
        scene.live(Duration::from_secs(600), Some(Duration::from_secs(1)), |_| each()).await;
        let passes = scene.passes.borrow();
        // Two at each of 0, 2, 4, 8… seconds, and the one by the clock.
        assert!(passes.len() <= 22, "{} passes", passes.len());
        assert!(passes.len() >= 8, "{} passes", passes.len());
        let asked = passes.iter().filter(|job| !job.unasked).count();
        assert!(asked <= 2, "{asked} asked the source, beside the clock");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_pass_changed_itself_is_looked_at_once_more_and_that_is_all() {
    let mut scene = Scene::new("1h");
    scene.live(Duration::from_secs(1), None, |_| changed()).await;
    assert_eq!(scene.passes.borrow().len(), 1);
    scene.agent.take(Event::Changed);
    scene.live(Duration::from_secs(60), None, |_| in_sync()).await;
    assert_eq!(scene.passes.borrow().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_its_time_holds_nobody_but_whoever_asked() {
    let mut scene = Scene::new("1h");
    let until = NOW + 3600;
    let suspend = Request::Suspend { resources: Vec::new(), until, reason: String::new() };
    let mut answer = scene.ask(suspend);
    assert!(answer.try_recv().is_err(), "it is not on disk yet");
    assert!(!scene.agent.takes_requests(), "the next has its turn later");
    scene.agent.take(Event::Doing);
    assert!(scene.agent.snapshots().borrow().status.suspended.is_empty(), "nor does it hold");
    assert!(matches!(scene.agent.take(Event::Stop), Flow::Go), "it is waited for at the end");
    scene.write();
    assert!(answer.try_recv().is_ok_and(|answered| answered.is_ok()));
    assert_eq!(reconcile::brakes(&scene.agent.host).expect("whole").suspensions.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_does_not_go_on_is_told_once_and_the_status_says_so_until_it_does() {
    const SILENT: Duration = Duration::from_secs(180);
    let shown = |scene: &Scene| {
        let status = Arc::clone(&scene.agent.snapshots().borrow().status);
        (status.state, status.reason.clone().unwrap_or_default(), status.message.clone().unwrap_or_default())
    };
    for ends in [true, false] {
        let mut scene = Scene::new("1h");
        scene.live(Duration::from_secs(1), None, |_| managing(3)).await;
        drop(scene.ask(Request::Sync { allow_removals: None }));
        scene.write();
        let pulse = Arc::clone(&scene.agent.running.as_ref().expect("one runs").link.pulse);
        scene.agent.doing.send_modify(|doing| doing.line = "looking at the host".to_owned());
        drop(scene.told());
        assert!(scene.agent.due().is_some_and(|due| due <= Instant::now() + Duration::from_secs(60)), "looked after");
        pulse.come_to("/srv/x");
        scene.agent.take(Event::Due);
        assert_eq!(shown(&scene).0, State::InSync);
        pulse.pretend(SILENT);
        scene.agent.take(Event::Due);
        scene.agent.take(Event::Due);
        let message = "the pass that runs has shown no progress for 3 min: looking at the host, last at /srv/x";
        assert_eq!(shown(&scene), (State::Degraded, "no-progress".to_owned(), message.to_owned()));
        assert_eq!(scene.told(), [format!("hangs: {message}")]);
        if ends {
            scene.end(|_| ());
        } else {
            pulse.beat();
            scene.agent.take(Event::Due);
        }
        assert_eq!(shown(&scene).0, State::InSync);
        assert_eq!(scene.told(), ["goes-on: the pass that showed no progress goes on, or is over"]);
    }
}

/// A host with one managed file, of which a copy is kept; gives the id of that.
fn with_copy(scene: &Scene) -> String {
    let id: Id = "file:/etc/motd".parse().expect("an id");
    let mut ledger = ledger::Ledger::default();
    let entry = ledger::Entry {
        was_secret: false,
        origin: ledger::Origin::Adopted,
        applied: None::<crate::kinds::Spec>,
        intended: None,
        drift: crate::model::Drift::Correct,
        release: crate::model::Release::Restore,
        layer: "roles/base".to_owned(),
    };
    ledger.entries.insert(id.clone(), entry);
    let before = crate::kinds::Before::File(crate::kinds::file::Before::Absent);
    let copy = ledger.keep(&id, ledger::Why::Edit, NOW, before, 0);
    ledger::save(&scene.agent.host.state(), &ledger).expect("saved");
    copy
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_given_back_by_a_pass_which_says_what_came_of_it() {
    for failed in [None, Some("no space left".to_owned())] {
        let mut scene = Scene::new("1h");
        let copy = with_copy(&scene);
        let resource: Id = "file:/etc/motd".parse().expect("an id");
        let before = Request::Suspend { resources: vec![resource], until: NOW + 60, reason: "before".to_owned() };
        drop(scene.ask(before));
        scene.write();
        scene.end(|_| ());
        let mut answer = scene.ask(Request::Restore { copy: copy.clone() });
        scene.write();
        assert!(answer.try_recv().is_ok_and(|answered| answered.is_ok()));
        assert!(!scene.told().iter().any(|line| line.contains(&copy)), "nothing is done yet");
        let shown = |scene: &Scene| {
            let status = Arc::clone(&scene.agent.snapshots().borrow().status);
            let outcome = status.restores.last().map(|one| one.outcome.clone()).unwrap_or_default();
            (outcome, status.suspended.iter().map(|one| one.reason.clone()).collect::<Vec<_>>())
        };
        let reason = format!("restored {copy}");
        assert_eq!(shown(&scene), ("pending".to_owned(), vec![reason.clone()]));

        // It is not forgotten over a restart.
        drop(scene.ask(Request::Sync { allow_removals: None }));
        let mut scene = scene.restarted();
        drop(scene.ask(Request::Sync { allow_removals: None }));
        scene.write();
        assert_eq!(scene.begun(1).0, std::slice::from_ref(&copy));
        // The next pass does not do it again.
        drop(scene.ask(Request::Retry));
        scene.write();
        let given = pass::Given { copy: copy.clone(), failed: failed.clone() };
        scene.end(|ended| ended.given = vec![given]);
        assert_eq!(scene.passes.borrow().len(), 1, "first it is written down");
        scene.write();
        assert_eq!(scene.begun(2).0, [""; 0]);
        let told = scene.told();
        let told = told.iter().find(|line| line.contains(&copy)).expect("told");
        match failed {
            None => {
                assert_eq!(*told, format!("restored: /etc/motd is as in {copy} again, as asked by alice"));
                assert_eq!(shown(&scene), ("done".to_owned(), vec![reason]));
            }
            Some(_) => {
                assert!(told.starts_with("failed: /etc/motd is not as in"), "{told}");
                assert!(told.ends_with("as asked by alice: no space left"), "{told}");
                assert_eq!(shown(&scene), ("failed".to_owned(), vec!["before".to_owned()]));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_of_a_pass_that_ended_before_it_acted_is_asked_of_the_next() {
    let mut scene = Scene::new("1h");
    drop(scene.ask(Request::Retry));
    scene.write();
    drop(scene.ask(Request::Sync { allow_removals: Some(20) }));
    scene.write();
    assert_eq!(scene.begun(1), (vec![], true, None));
    let first = scene.passes.borrow()[0].pass.clone();
    let interrupted = |ended: &mut Ended| ended.report.raise(State::Pending, "interrupted", None);
    scene.end(interrupted);
    assert_eq!(scene.begun(2), (vec![], true, Some(20)));
    let shown = |scene: &Scene| scene.agent.snapshots().borrow().status.last.as_ref().map(|last| last.pass.clone());
    assert_eq!(shown(&scene), None, "whoever waits for {first} waits for the next");
    scene.end(|_| ());
    assert_eq!(shown(&scene), Some(scene.passes.borrow()[1].pass.clone()));
    scene.live(Duration::from_secs(1), None, |_| in_sync()).await;
    assert_eq!(scene.passes.borrow().len(), 2, "once it is done");
}

/// A pass that found so many resources as declared.
fn managing(managed: usize) -> Report {
    let mut report = in_sync();
    (report.observed, report.counts.managed, report.host) = (true, managed, Some("web-01".to_owned()));
    report
}

fn stop(reason: &str) -> Stop {
    let (stage, class) = (crate::model::Stage::Fetch, crate::model::Class::Transient);
    Stop { stage, class, reason: reason.to_owned(), message: "for now".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn what_looked_at_nothing_says_nothing_of_resources() {
    let mut scene = Scene::new("1h");
    let shown = |scene: &Scene| {
        let status = Arc::clone(&scene.agent.snapshots().borrow().status);
        (status.resources.managed, status.reason.clone(), status.host.clone(), status.notes.clone())
    };
    let web = Some("web-01".to_owned());
    scene.live(Duration::from_secs(1), None, |_| managing(10)).await;
    assert_eq!(shown(&scene), (10, None, web.clone(), vec![]));

    // Somebody runs a pass by hand, for as long as it takes.
    drop(scene.ask(Request::Retry));
    scene.write();
    let other = "another trueup is at work here (pid 42)".to_owned();
    for _ in 0..=ATTEMPTS {
        scene.end(|ended| (ended.told, ended.live, ended.locked) = (None, None, Some(Some(other.clone()))));
        time::sleep_until(scene.agent.due().expect("again")).await;
        scene.agent.take(Event::Due);
    }
    assert_eq!(shown(&scene), (10, None, web.clone(), vec![other]));
    assert!(scene.passes.borrow().last().is_some_and(|job| job.retry), "it is not forgotten");

    // A mistake of ours, and a source that is silent.
    scene.end(|ended| {
        (ended.told, ended.live) = (None, None);
        ended.report.stopped(&stop("internal-error"));
    });
    assert_eq!(shown(&scene), (10, Some("internal-error".to_owned()), web.clone(), vec![]));
    drop(scene.ask(Request::Retry));
    scene.write();
    scene.end(|ended| ended.report = managing(11));
    drop(scene.ask(Request::Retry));
    scene.write();
    scene.end(|ended| {
        ended.said = false;
        ended.report.stopped(&stop("unreachable"));
    });
    assert_eq!(shown(&scene), (11, None, web, vec![]));
}

#[tokio::test(start_paused = true)]
async fn what_the_loop_told_is_closed_by_a_pass_and_told_again_when_it_comes_again() {
    let mut scene = Scene::new("1h");
    let fails = |scene: &mut Scene| {
        drop(scene.ask(Request::Retry));
        scene.write();
        scene.told();
        scene.end(|ended| {
            (ended.told, ended.live, ended.said) = (None, None, false);
            ended.report.stopped(&stop("internal-error"));
        });
        scene.told()
    };
    assert_eq!(fails(&mut scene), ["degraded: internal-error: for now"]);
    assert_eq!(fails(&mut scene), [""; 0], "that is known");
    drop(scene.ask(Request::Retry));
    scene.write();
    let mut told = scene.passes.borrow().last().map(|job| job.told.clone()).expect("one");
    let mut well = managing(10);
    well.revision.applied = Some("a".repeat(40));
    told.take_in(&scene.passes.borrow().last().expect("one").early);
    let entries: Vec<String> = journal::entries(&mut told, &well, NOW).into_iter().map(|entry| entry.message).collect();
    assert_eq!(entries, ["converged: in sync with aaaaaaa: 10 resources"]);
    scene.end(|ended| ended.report = well);
    assert_eq!(fails(&mut scene), ["degraded: internal-error: for now"]);
}

impl Scene {
    /// The clock of the machine says something else.
    fn clock(&mut self, now: i64) {
        let host = Reader::directory(self.scratch.path()).expect("it is there").with_clock(Clock::Fixed(now));
        self.agent.host = host;
    }

    fn suspend(&mut self, length: i64) {
        let now = self.agent.host.now();
        drop(self.ask(Request::Suspend { resources: vec![], until: now + length, reason: String::new() }));
        self.write();
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_by_itself_is_taken_up_at_once() {
    let mut scene = Scene::new("1h");
    scene.live(Duration::from_secs(1), None, |_| in_sync()).await;
    scene.suspend(90);
    scene.end(|ended| {
        // What is contested is tried again then.
        let mut report = changed();
        (report.steps[0].outcome, report.steps[0].next) = ("reported", Some(NOW + 30));
        ended.report = report;
    });
    let passes = scene.passes.borrow().len();
    for (at, over) in [(NOW + 30, false), (NOW + 90, true)] {
        let due = scene.agent.due().expect("something ends") - Instant::now();
        let wait = u64::try_from(at - scene.agent.host.now()).expect("later");
        assert!(due <= Duration::from_secs(wait + 1), "{due:?}");
        time::sleep(due).await;
        scene.clock(at);
        scene.told();
        scene.agent.take(Event::Due);
        let ended = "resumed: this host may be changed again: the suspension by alice is over";
        assert_eq!(scene.told(), if over { vec![ended] } else { vec![] });
        scene.end(|_| ());
        assert_eq!(scene.agent.snapshots().borrow().status.suspended.is_empty(), over);
    }
    assert_eq!(scene.passes.borrow().len(), passes + 2);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_behind_at_boot_changes_nothing_of_what_root_asked_for() {
    let mut scene = Scene::new("1d");
    scene.suspend(3600);
    scene.end(|_| ());
    let stored = |scene: &Scene| reconcile::brakes(&scene.agent.host).expect("whole").suspensions;
    let asked = stored(&scene);
    let mut scene = scene.restarted();
    let behind = NOW - 1_000_000;
    scene.clock(behind);
    drop(scene.ask(Request::Sync { allow_removals: None }));
    scene.write();
    scene.end(|_| ());
    drop(scene.ask(Request::Approve { commit: Some("a".repeat(40).parse().expect("an id")) }));
    scene.write();
    scene.end(|_| ());
    assert_eq!(stored(&scene), asked);
    // Put right it holds as long as it was to.
    scene.clock(NOW + 3599);
    assert_eq!(scene.agent.brakes.as_ref().expect("whole").in_force(NOW + 3599).count(), 1);
    // One that was right all along: it was asked for by a clock that was ahead, and lasts no longer than asked for.
    scene.clock(behind);
    time::sleep(Duration::from_secs(3600)).await;
    assert!(scene.agent.due().is_some_and(|due| due <= Instant::now()));
    scene.agent.take(Event::Due);
    scene.write();
    assert!(stored(&scene).is_empty());
}

#[tokio::test(start_paused = true)]
async fn settings_that_are_not_taken_stay_said_and_those_that_cannot_be_read_are_read_again() {
    let mut scene = Scene::new("1h");
    let file = scene.scratch.path().join("etc/trueup/agent.toml");
    #[allow(clippy::disallowed_methods, reason = "the scene is set by hand")]
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    let shown = |scene: &Scene| {
        let status = Arc::clone(&scene.agent.snapshots().borrow().status);
        (status.notes.concat(), status.agent.as_ref().and_then(|agent| agent.settings.clone()))
    };
    let before = shown(&scene);
    write("[source]\nurl = 1\n");
    scene.agent.take(Event::Reload);
    let (notes, digest) = shown(&scene);
    assert!(notes.starts_with("settings were not taken, and those from before stay: "), "{notes}");
    assert_eq!(digest, before.1, "those are in force");
    write("[source]\nurl = \"/srv/fleet\"\n");
    scene.agent.take(Event::Reload);
    let after = shown(&scene);
    assert!(after.0.is_empty() && after.1.is_some() && after.1 != before.1);

    // At the start there are none from before.
    write("[source]\nurl = 1\n");
    let mut scene = Scene::started(scene.scratch);
    let told = scene.told();
    assert!(told.iter().any(|line| line.ends_with("; nothing is done before they can be used")), "{told:?}");
    assert_eq!((scene.agent.due(), shown(&scene).1), (None, None), "somebody has to mend them");
    // As where a disk could not be read for a moment.
    scene.agent.settings = Err(stop("cannot-tell"));
    scene.agent.reread = again(scene.agent.settings.as_ref().err());
    write("[source]\nurl = \"/srv/fleet\"\n");
    time::sleep_until(scene.agent.due().expect("they are read again")).await;
    scene.agent.take(Event::Due);
    assert_eq!(scene.passes.borrow().len(), 1);
}

#[test]
fn a_pass_that_shows_no_life_is_looked_after_again_before_the_watchdog_strikes() {
    let patience = Duration::from_secs(60);
    assert_eq!(feed_after(true, patience), patience);
    assert!(feed_after(false, patience) <= Duration::from_secs(5));
}
