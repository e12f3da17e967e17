//! Where what people asked for is judged and written down: on a thread of its own, one piece after the other, since
//! a disk may take its time and the loop, with the socket, may not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::mpsc;

use super::super::pass::Given;
use super::super::requests::{self, Decision, Known};
use super::super::{Asked, Refusal};
use super::Agent;
use crate::apply;
use crate::brakes::{self, Brakes};
use crate::host::{DocumentError, Entry, StateDir};
use crate::ledger::{self, Ledger};
use crate::model::{Class, CommitId, Stop, one_line};
use crate::reconcile;
use crate::report::RestoreStatus;

/// How many copies are told of that were given back, or could not be.
const RESTORED: usize = 20;

/// Something to be done away from the loop.
pub(in super::super) type Task = Box<dyn FnOnce() + Send>;

/// What is to be written down.
pub(super) enum Work {
    /// Somebody asks for something.
    Asked(Asked),
    /// A pass has come to copies that it was to give back.
    Given(Vec<Given>),
    /// Suspensions are over, though the clock does not say so.
    Over,
}

/// What was written down.
#[derive(Default)]
pub(in super::super) struct Written {
    /// What people asked for, as it holds from now on; none where nothing changed.
    pub(super) brakes: Option<Brakes>,
    /// What came of copies that were asked for.
    pub(super) restored: Vec<RestoreStatus>,
    /// For the journal.
    pub(super) entries: Vec<Entry>,
    /// Who waits for an answer, and which.
    pub(super) answer: Option<(Asked, Result<Decision, Refusal>)>,
}

/// One piece of work at a time.
pub(super) struct Desk {
    busy: bool,
    waiting: VecDeque<Work>,
    written: mpsc::UnboundedSender<Written>,
}

impl Desk {
    pub(super) fn new(written: mpsc::UnboundedSender<Written>) -> Self {
        Self { busy: false, waiting: VecDeque::new(), written }
    }

    /// Whether something is being written, or waits for it.
    pub(super) fn is_busy(&self) -> bool {
        self.busy || !self.waiting.is_empty()
    }
}

/// Runs `task` on a thread; where there is none to be had, here.
pub(super) fn aside(task: Task) {
    let task = Arc::new(Mutex::new(Some(task)));
    let take = |task: &Mutex<Option<Task>>| task.lock().unwrap_or_else(PoisonError::into_inner).take();
    let there = Arc::clone(&task);
    let started =
        thread::Builder::new().name("desk".to_owned()).spawn(move || take(&there).into_iter().for_each(|task| task()));
    if started.is_err() {
        take(&task).into_iter().for_each(|task| task());
    }
}

impl Agent {
    /// Has `work` done as soon as nothing else is.
    pub(super) fn put_down(&mut self, work: Work) {
        self.desk.waiting.push_back(work);
        self.next_work();
    }

    fn next_work(&mut self) {
        if self.desk.busy {
            return;
        }
        let Some(work) = self.desk.waiting.pop_front() else { return };
        self.desk.busy = true;
        let ground = Ground {
            brakes: self.brakes.clone(),
            state: self.host.state(),
            own: self.host.agent_state(),
            configured: self.configured(),
            seen: self.live.seen.as_deref().and_then(|seen| seen.parse().ok()),
            now: self.host.now(),
        };
        let written = self.desk.written.clone();
        (self.hands.aside)(Box::new(move || {
            // The loop is gone only where the agent ends.
            let _ = written.send(ground.work(work));
        }));
    }

    /// Takes in what was written down: it holds, is told, and is answered.
    pub(super) fn written(&mut self, written: Written) {
        self.desk.busy = false;
        let Written { brakes, restored, entries, answer } = written;
        if let Some(brakes) = brakes {
            self.brakes = Ok(brakes);
        }
        self.restored.extend(restored);
        self.restored.drain(..self.restored.len().saturating_sub(RESTORED));
        self.log(&entries);
        if let Some((asked, decided)) = answer {
            let answered = decided.map(|decision| self.carry_out(decision));
            // Whoever asked may be gone.
            let _ = asked.reply.send(answered);
        }
        self.next_work();
        self.go_on();
    }
}

/// What work starts from.
struct Ground {
    brakes: Result<Brakes, Stop>,
    state: StateDir,
    /// The agent's own corner of it.
    own: StateDir,
    configured: bool,
    seen: Option<CommitId>,
    now: i64,
}

impl Ground {
    fn work(mut self, work: Work) -> Written {
        match work {
            Work::Asked(asked) => {
                let mut written = Written::default();
                let decided = self.decide(&asked, &mut written);
                Written { answer: Some((asked, decided)), ..written }
            }
            Work::Given(given) => {
                // Passes give back only what these know of.
                let Ok(mut brakes) = self.brakes.clone() else { return Written::default() };
                let (restored, entries) = requests::given(&given, &mut brakes);
                // Where it cannot be written it is given back once more after a restart: what stands there is kept.
                let _ = self.keep(&brakes);
                Written { brakes: Some(brakes), restored, entries, answer: None }
            }
            Work::Over => {
                // Where it cannot be written they begin anew with the agent.
                let _ = self.brakes.as_ref().map(|brakes| self.keep(brakes));
                Written::default()
            }
        }
    }

    /// Takes a request in: what holds from now on is on disk when this returns.
    fn decide(&mut self, asked: &Asked, written: &mut Written) -> Result<Decision, Refusal> {
        let Asked { request, caller, .. } = asked;
        let damaged = |error: &DocumentError| requests::refusal("state-damaged", &one_line(&error.to_string(), 400));
        let ledger = match ledger::load(&self.state) {
            Ok((ledger, _)) => ledger,
            Err(error) if requests::names_resources(request) => return Err(damaged(&error)),
            Err(_) => Ledger::default(),
        };
        // It may not have been readable when it was read last.
        if self.brakes.is_err() {
            self.brakes = reconcile::brakes_in(&self.own);
        }
        let damaged = self.brakes.is_err();
        let mut brakes = match &self.brakes {
            Ok(brakes) => brakes.clone(),
            // Root says that it is all over, where that can never be known again.
            Err(stop) if stop.class == Class::Stalled && requests::forgets_all(request) => Brakes::default(),
            Err(stop) => return Err(requests::refusal(&stop.reason, &stop.message)),
        };
        let (configured, seen, now) = (self.configured, self.seen.clone(), self.now);
        let armed = apply::is_armed(&self.state).unwrap_or(false);
        let known = Known { configured, damaged, seen, ledger: &ledger, armed, now };
        let before = brakes.clone();
        let decision = requests::decide(request, caller, &mut brakes, &known)?;
        let entries = requests::told(request, caller, (&before, &brakes), &known);
        self.keep(&brakes)?;
        (written.brakes, written.entries) = (Some(brakes), entries);
        Ok(decision)
    }

    /// On disk before anybody hears that it holds.
    fn keep(&self, brakes: &Brakes) -> Result<(), Refusal> {
        brakes::save(&self.own, brakes)
            .map_err(|error| requests::refusal(error.word().0, &one_line(&error.to_string(), 400)))
    }
}
