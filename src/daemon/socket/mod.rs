//! The status socket: Varlink, interface `io.trueup.Agent`.
//!
//! Anyone local may connect, so everything is bounded before it is looked at: connections of each user and of all
//! ([`Seats`]), the length of a request, how long one may take to come, how long a reply may take to be
//! read. Each connection is a task of its own that answers from the snapshot alone; only what root asks for goes to
//! the loop. zlink parses, names the types and describes the interface; its `Server` is not used, since it serves
//! all connections from one task: a single peer that reads no replies would hold every other.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{Asked, Snapshot};

mod answer;
mod bounded;
mod connection;
mod documents;
mod interface;
mod parameters;
mod seats;
pub(super) mod wire;

pub use seats::Seats;

/// Before connections are taken again after one could not be: too many files are open, say.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How long things may take, and how many connections there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Within this a whole request has to come.
    pub request: Duration,
    /// Within this a reply has to be taken.
    pub reply: Duration,
    /// Within this the loop has to answer.
    pub answer: Duration,
    /// Between two requests of one connection that is not root's.
    pub pause: Duration,
    /// Between two statuses for one watcher; what changes in between is told together.
    pub watch: Duration,
    /// How many connections there may be.
    pub seats: Seats,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            reply: Duration::from_secs(5),
            answer: Duration::from_secs(5),
            pause: Duration::from_millis(10),
            watch: Duration::from_millis(100),
            seats: Seats::default(),
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    limits: Limits,
    snapshots: watch::Receiver<Snapshot>,
    requests: mpsc::Sender<Asked>,
    documents: Mutex<documents::Documents>,
}

/// Serves `listener` until it is dropped; connections end with it. Answers come from the newest of `snapshots`; what
/// root asks for goes to `requests`.
pub async fn serve(listener: UnixListener, snapshots: watch::Receiver<Snapshot>, requests: mpsc::Sender<Asked>) {
    serve_within(listener, snapshots, requests, Limits::default()).await;
}

/// [`serve`], with other limits.
pub async fn serve_within(
    listener: UnixListener,
    snapshots: watch::Receiver<Snapshot>,
    requests: mpsc::Sender<Asked>,
    limits: Limits,
) {
    let table = seats::Table::new(limits.seats);
    let shared = Arc::new(Shared { limits, snapshots, requests, documents: Mutex::default() });
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => admit(stream, &table, &shared, &mut connections),
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
        while connections.try_join_next().is_some() {}
        // However many connect, everything else has its turn after each.
        tokio::task::yield_now().await;
    }
}

/// Serves `stream` in a task of its own, where there is a seat for its user; else says so and closes it.
fn admit(stream: UnixStream, table: &seats::Table, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    let Ok(peer) = stream.peer_cred() else { return };
    let Some(seat) = table.take(peer.uid()) else {
        // A new socket has room for this. Whoever does not read it sees that the connection ended.
        let busy = documents::Message::of(&wire::Fault::Busy);
        if let Ok(mut stream) = stream.into_std() {
            let _ = stream.write_all(&busy.parts().concat());
        }
        return;
    };
    let (table, shared) = (table.clone(), Arc::clone(shared));
    connections.spawn(async move {
        connection::serve(stream, seat, peer.pid(), &shared).await;
        // With nobody there, nothing is kept in memory for them.
        if table.is_empty() {
            connection::documents(&shared).clear();
        }
    });
}

#[cfg(test)]
mod tests;
