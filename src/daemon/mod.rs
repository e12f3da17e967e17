//! Storey 13: the agent. One closed enum of events, one loop, one thread; a pass runs on a thread of its own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time;

use crate::host::{self, LockError, Memory, Reader};
use crate::model::{CommitId, Id};
use crate::report::{Passed, Report, Status};

mod agent;
pub mod client;
mod event;
mod live;
mod pass;
mod requests;
mod schedule;
#[doc(hidden)]
pub mod socket;
mod systemd;
mod watcher;

use agent::{Agent, Flow, Hands, Wires};
use event::Event;
use pass::Doing;

/// Where the status socket is.
pub const SOCKET: &str = "/run/trueup/trueup.sock";

/// What the socket answers from: it never waits for a pass.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// How the host is.
    pub status: Arc<Status>,
    /// What the last pass found and did; none before the first.
    pub report: Option<Arc<Report>>,
    /// Passes in which something happened, the newest first.
    pub history: Arc<[Passed]>,
}

/// What root may ask the agent for. Everything is answered at once; a pass that it needs runs afterwards.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Look now, at the source too.
    Sync {
        /// Removals that the guard lets pass, once.
        allow_removals: Option<u64>,
    },
    /// Stop changing these, or the whole host where there are none.
    Suspend {
        /// Which.
        resources: Vec<Id>,
        /// Until when, seconds since 1970.
        until: i64,
        /// Why.
        reason: String,
    },
    /// Change these again; where there are none, everything: suspensions and a rollback end.
    Resume {
        /// Which.
        resources: Vec<Id>,
    },
    /// Let a held host go to this revision; `None` is the one seen last.
    Approve {
        /// Which.
        commit: Option<CommitId>,
    },
    /// Try what failed or is contested again, now.
    Retry,
    /// Go back to this revision, and stay there until `Resume`.
    Rollback {
        /// Which.
        commit: CommitId,
    },
    /// Give a kept copy back to where it came from, and suspend that resource, so that it stays.
    Restore {
        /// `k-7f31`.
        copy: String,
    },
}

/// Who asks, by the credentials of the peer (unix(7), SO_PEERCRED).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user of the process that connected.
    pub uid: u32,
    /// The login name behind it, where the kernel knows (`/proc/PID/loginuid`); else that of `uid`, else the number.
    pub name: String,
}

/// A request on its way to the loop.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub request: Request,
    /// Who. Always root: others are refused at the socket.
    pub caller: Caller,
    /// Where the answer goes; whoever asked may be gone.
    pub reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// What comes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// One line for people: what holds from now on.
    pub message: String,
    /// The pass that does it, to be waited for; none where no pass is needed.
    pub pass: Option<String>,
}

/// A request that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// The stable word: `not-managed`, `unconfigured`…
    pub reason: String,
    /// One line for people, with what to do.
    pub message: String,
}

/// Why there can be no agent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another one runs, or our own directory cannot be used.
    #[error("there is another agent on this host, or its state cannot be used")]
    Lock(#[from] LockError),
    /// The machine cannot be looked at.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// Something that the loop needs is not to be had.
    #[error("cannot {doing}")]
    Io {
        /// What for.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// How many requests may wait for the loop: it takes in one after the other.
const WAITING: usize = 64;

/// Runs the agent until it is asked to end; `executable` is this program, for the fetch worker.
///
/// # Errors
/// Where it cannot start.
pub fn run(executable: PathBuf) -> Result<(), Error> {
    let failed = |doing| move |source| Error::Io { doing, source };
    let host = Reader::machine()?;
    let _alone = host.agent_state().lock()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed("make its runtime"))?;
    tokio::task::LocalSet::new().block_on(&runtime, work(host, executable))
}

async fn work(host: Reader, executable: PathBuf) -> Result<(), Error> {
    let failed = |doing| move |source| Error::Io { doing, source };
    let mut signals = Signals::listen().map_err(failed("listen for signals"))?;
    let listener = systemd::socket().map_err(failed("listen on the status socket"))?;
    let (asks, mut asked) = mpsc::channel(WAITING);
    let (ends, mut ended) = mpsc::unbounded_channel();
    let (doing, mut done) = watch::channel(Doing::default());
    let (managed, to_watch) = watch::channel(watcher::Managed::default());
    let (missing, unwatched) = watch::channel(None);
    // One at a time: the next is taken in when the pass that the last led to is over.
    let (hints, mut hinted) = mpsc::channel(1);
    let (glanced, mut glances) = mpsc::unbounded_channel();

    let (written, mut writes) = mpsc::unbounded_channel();
    let (hands, memory) = (Hands::default(), Memory::default());
    let mut agent = Agent::new(
        host,
        executable,
        Wires { ended: ends, doing, managed, memory: memory.clone(), unwatched, glanced, written, hands },
    );
    tokio::task::spawn_local(socket::serve(listener, agent.snapshots(), asks));
    tokio::task::spawn_local(watcher::run(to_watch, memory, hints, missing));
    systemd::ready();
    loop {
        let (due, takes_hints, takes_requests) = (agent.due(), agent.takes_hints(), agent.takes_requests());
        let event = tokio::select! {
            biased;
            event = signals.next() => event,
            () = until(due) => Event::Due,
            Some(ended) = ended.recv() => Event::Ended(Box::new(ended)),
            Some(written) = writes.recv() => Event::Written(Box::new(written)),
            Some(asked) = asked.recv(), if takes_requests => Event::Asked(asked),
            Some(seen) = glances.recv() => Event::Glanced(seen),
            Ok(()) = done.changed() => Event::Doing,
            Some(()) = hinted.recv(), if takes_hints => Event::Changed,
        };
        if let Flow::End = agent.take(event) {
            return Ok(());
        }
    }
}

async fn until(due: Option<time::Instant>) {
    match due {
        Some(due) => time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// What the agent is told by signals.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.terminate.recv() => Event::Stop,
            _ = self.interrupt.recv() => Event::Stop,
            _ = self.hangup.recv() => Event::Reload,
        }
    }
}
