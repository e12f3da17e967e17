//! The command's side of the status socket: blocking, with time limits, and errors in words for people.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use tokio::runtime::{Builder, Runtime};

use super::socket::wire::Fault;
use super::{Answer, Request};
use crate::model::{CommitId, Id, one_line};
use crate::report::{Passed, Status};

/// Within this the agent answers, or is said not to.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often, and how long apart, an agent that is not there is looked for: it may just be restarting.
const RESTARTING: (u32, Duration) = (20, Duration::from_millis(20));

type Connection = zlink::tokio::unix::Connection;

/// The agent, to be asked. Each call is a connection of its own: the agent ends one that is idle.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    runtime: Runtime,
    /// Made already, and not used yet.
    connection: Option<Connection>,
}

/// Why the agent could not be asked, or did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("the agent is not running: systemctl start trueup")]
    NotRunning,
    /// Nobody listens, and something else does what was asked for.
    #[error("the agent is not running: systemctl start trueup; or, without it, {0}")]
    Instead(&'static str),
    /// The socket is there and cannot be reached.
    #[error("cannot reach the agent at {}: {source}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No connection, or no answer, in time.
    #[error("the agent does not answer: systemctl status trueup")]
    Silent,
    /// The agent ended the connection: it stops, or restarts.
    #[error("the agent ended the connection; it may be restarting: systemctl status trueup")]
    Gone,
    /// Too many others are connected.
    #[error("too many others ask the agent right now: try again in a moment")]
    Busy,
    /// Only root may ask for this.
    #[error("this needs root")]
    PermissionDenied,
    /// It cannot be done.
    #[error("{message} ({reason})")]
    Refused {
        /// The stable word.
        reason: String,
        /// One line for people, with what to do.
        message: String,
    },
    /// A value that is not as it should be.
    #[error("{message}")]
    Invalid {
        /// Which parameter of the method.
        parameter: String,
        /// One line for people.
        message: String,
    },
    /// The agent speaks otherwise: it is of another version.
    #[error("the agent answers what this trueup does not understand; is it another version? ({0})")]
    Strange(String),
}

#[derive(Debug, Deserialize)]
struct StatusReply {
    status: Status,
}

#[derive(Debug, Deserialize)]
struct HistoryReply {
    history: Vec<Passed>,
}

#[derive(Debug, Deserialize)]
struct AnswerReply {
    message: String,
    #[serde(default)]
    pass: Option<String>,
}

/// What one call gives: the connection's own failure, or the agent's answer.
type Called<T> = zlink::Result<Result<T, Fault>>;

#[zlink::proxy("io.trueup.Agent")]
trait Agent {
    async fn status(&mut self) -> zlink::Result<Result<StatusReply, Fault>>;
    #[zlink(more)]
    async fn watch(&mut self) -> zlink::Result<impl Stream<Item = zlink::Result<Result<StatusReply, Fault>>>>;
    async fn history(&mut self, limit: Option<u64>) -> zlink::Result<Result<HistoryReply, Fault>>;
    async fn sync(&mut self, allow_removals: Option<u64>) -> zlink::Result<Result<AnswerReply, Fault>>;
    async fn suspend(
        &mut self,
        resources: &[&str],
        until: i64,
        reason: &str,
    ) -> zlink::Result<Result<AnswerReply, Fault>>;
    async fn resume(&mut self, resources: &[&str]) -> zlink::Result<Result<AnswerReply, Fault>>;
    async fn approve(&mut self, commit: Option<&str>) -> zlink::Result<Result<AnswerReply, Fault>>;
    async fn retry(&mut self) -> zlink::Result<Result<AnswerReply, Fault>>;
    async fn rollback(&mut self, commit: &str) -> zlink::Result<Result<AnswerReply, Fault>>;
    async fn restore(&mut self, copy: &str) -> zlink::Result<Result<AnswerReply, Fault>>;
}

impl Client {
    /// Connects to the agent that listens at `path`.
    ///
    /// # Errors
    /// Where it does not run, or takes no connection in time.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|source| unreachable(path, source))?;
        let mut client = Self { path: path.to_owned(), runtime, connection: None };
        client.connection = Some(client.connection()?);
        Ok(client)
    }

    fn connection(&mut self) -> Result<Connection, ClientError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let stream = connect(self.path.clone())?.map_err(|source| unreachable(&self.path, source))?;
        let _inside = self.runtime.enter();
        Ok(Connection::new(zlink::tokio::unix::Stream::try_from(stream).map_err(told)?))
    }

    /// How the host is.
    ///
    /// # Errors
    /// Where the agent does not answer.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        let begun = Instant::now();
        loop {
            match self.call(async |connection| connection.status().await) {
                // Asked again is as good as once, where the agent ended in between: one that ends may take more than
                // one connection with it.
                Err(ClientError::Gone) if begun.elapsed() < PATIENCE => std::thread::sleep(RESTARTING.1),
                asked => return asked.map(|reply| reply.status),
            }
        }
    }

    /// Tells `each` the status now and whenever it changes, until that has enough.
    ///
    /// # Errors
    /// Where the agent does not answer, or ends the connection.
    pub fn watch(&mut self, mut each: impl FnMut(Status) -> ControlFlow<()>) -> Result<(), ClientError> {
        let mut connection = self.connection()?;
        self.runtime.block_on(async {
            let statuses = connection.watch().await.map_err(told)?;
            let mut statuses = pin!(statuses);
            // The first comes at once; between the others any time may pass.
            let mut next = within(statuses.next()).await?;
            while let Some(status) = next {
                let status = status.map_err(told)?.map_err(ClientError::from)?;
                if each(status.status).is_break() {
                    return Ok(());
                }
                next = statuses.next().await;
            }
            Err(ClientError::Gone)
        })
    }

    /// Passes in which something happened, the newest first; at most `limit`.
    ///
    /// # Errors
    /// Where the agent does not answer.
    pub fn history(&mut self, limit: Option<u64>) -> Result<Vec<Passed>, ClientError> {
        self.call(async |connection| connection.history(limit).await).map(|reply| reply.history)
    }

    /// Asks for something that only root may ask for.
    ///
    /// # Errors
    /// Where the caller is not root, the agent refuses, or does not answer.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, ClientError> {
        let answer = match request {
            Request::Sync { allow_removals } => self.call(async |agent| agent.sync(*allow_removals).await),
            Request::Suspend { resources, until, reason } => {
                let ids: Vec<&str> = resources.iter().map(Id::as_str).collect();
                self.call(async |agent| agent.suspend(&ids, *until, reason).await)
            }
            Request::Resume { resources } => {
                let ids: Vec<&str> = resources.iter().map(Id::as_str).collect();
                self.call(async |agent| agent.resume(&ids).await)
            }
            Request::Approve { commit } => return self.approve(commit.as_ref().map(CommitId::as_str)),
            Request::Retry => self.call(async |agent| agent.retry().await),
            Request::Rollback { commit } => return self.rollback(commit.as_str()),
            Request::Restore { copy } => self.call(async |agent| agent.restore(copy).await),
        };
        answer.map(Answer::from)
    }

    /// [`Request::Approve`], by as many digits of the commit as people type; the agent knows which are meant.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn approve(&mut self, commit: Option<&str>) -> Result<Answer, ClientError> {
        self.call(async |agent| agent.approve(commit).await).map(Answer::from)
    }

    /// [`Request::Rollback`], by as many digits of the commit as people type; the agent knows which are meant.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn rollback(&mut self, commit: &str) -> Result<Answer, ClientError> {
        self.call(async |agent| agent.rollback(commit).await).map(Answer::from)
    }

    fn call<T>(&mut self, method: impl AsyncFnOnce(&mut Connection) -> Called<T>) -> Result<T, ClientError> {
        let mut connection = self.connection()?;
        self.runtime.block_on(async {
            match within(method(&mut connection)).await? {
                // A connection that was ended before the call went through may have been told why.
                Err(zlink::Error::Io(error)) if error.kind() == ErrorKind::BrokenPipe => {
                    let last = within(connection.receive_reply::<serde_json::Value, Fault>()).await?;
                    Err(last.map_or(ClientError::Gone, |(last, _)| last.err().map_or(ClientError::Gone, Into::into)))
                }
                called => Ok(called.map_err(told)??),
            }
        })
    }
}

impl From<AnswerReply> for Answer {
    fn from(reply: AnswerReply) -> Self {
        Self { message: one_line(&reply.message, 600), pass: reply.pass }
    }
}

impl From<Fault> for ClientError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::PermissionDenied => Self::PermissionDenied,
            Fault::Busy => Self::Busy,
            Fault::Refused { reason, message } => Self::Refused { reason, message: one_line(&message, 600) },
            Fault::InvalidParameter { parameter, message } => {
                Self::Invalid { parameter, message: one_line(&message, 600) }
            }
        }
    }
}

fn unreachable(path: &Path, source: std::io::Error) -> ClientError {
    match source.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NotRunning,
        _ => ClientError::Unreachable { path: path.to_owned(), source },
    }
}

/// Connects as a thread that waits in the listener's queue, since a connect(2) that may not block is turned away by
/// a full queue instead of having its turn. A thread that waits for ever ends with the command.
fn connect(path: PathBuf) -> Result<std::io::Result<UnixStream>, ClientError> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(connect_patiently(&path)));
    told.recv_timeout(PATIENCE).map_err(|_| ClientError::Silent)
}

/// An agent that restarts takes its socket with it for an instant.
fn connect_patiently(path: &Path) -> std::io::Result<UnixStream> {
    for _ in 0..RESTARTING.0 {
        match UnixStream::connect(path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                std::thread::sleep(RESTARTING.1);
            }
            connected => return connected,
        }
    }
    UnixStream::connect(path)
}

async fn within<T>(what: impl Future<Output = T>) -> Result<T, ClientError> {
    tokio::time::timeout(PATIENCE, what).await.map_err(|_| ClientError::Silent)
}

/// What happened to the connection, in words.
fn told(error: zlink::Error) -> ClientError {
    match error {
        zlink::Error::UnexpectedEof => ClientError::Gone,
        zlink::Error::Io(error) => match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => ClientError::Gone,
            _ => ClientError::Strange(one_line(&error.to_string(), 200)),
        },
        error => ClientError::Strange(one_line(&error.to_string(), 200)),
    }
}
