use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use zlink::connection::{Connection, ReadConnection};

use super::Shared;
use super::answer::{Call, Doing, judge};
use super::bounded::{Bounded, Replies, Requests};
use super::documents::{Documents, Message, Which};
use super::seats::Seat;
use super::wire::{Fault, Method, Wrong};
use crate::daemon::{Answer, Asked, Caller, Request};
use crate::host::{Clock, Reader};

/// How long the name service is waited for; without its answer the user is a number.
const NAME: Duration = Duration::from_millis(100);

/// One connection, for as long as its peer keeps to the rules. Whatever it does wrong just ends it.
pub(super) async fn serve(stream: UnixStream, mut seat: Seat, pid: Option<i32>, shared: &Shared) {
    let (mut requests, replies) = Connection::new(Bounded(stream)).split();
    // Documents are shared, so they do not go through a buffer of the connection's own.
    let mut replies = replies.into_write_half();
    loop {
        let received = timeout(shared.limits.request, requests.receive_call::<Method>()).await;
        let Ok(Ok((received, _))) = received else { return };
        let call =
            Call { uid: seat.uid(), more: received.more(), upgrade: received.upgrade(), now: Clock::System.now() };
        let oneway = received.oneway();
        let snapshot = shared.snapshots.borrow().clone();
        let doing = judge(received.method().clone(), call, &snapshot, &mut documents(shared));
        drop(snapshot);
        let message = match doing {
            Ok(Doing::Say(message)) => message,
            Ok(Doing::Watch) if oneway => return,
            Ok(Doing::Watch) if seat.watch() => return watch(&requests, &mut replies, shared).await,
            Ok(Doing::Watch) => Message::of(&Fault::Busy),
            Ok(Doing::Ask(request)) => match ask(request, seat.uid(), pid, shared).await {
                Ok(answer) => Message::reply(serde_json::json!({ "message": answer.message, "pass": answer.pass })),
                Err(wrong) => Message::of(&wrong),
            },
            Err(wrong) => Message::of(&wrong),
        };
        if !oneway && !send(&mut replies, &message, shared).await {
            return;
        }
        if seat.uid() == 0 {
            tokio::task::yield_now().await;
        } else {
            sleep(shared.limits.pause).await;
        }
    }
}

/// The status now, and whenever it changes: the newest only, however slow the reader is.
async fn watch(requests: &ReadConnection<Requests>, replies: &mut Replies, shared: &Shared) {
    let mut snapshots = shared.snapshots.clone();
    let mut told = None;
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let same = told.as_ref().is_some_and(|told| Arc::ptr_eq(told, &snapshot.status) || **told == *snapshot.status);
        if !same {
            let message = documents(shared).get(&snapshot, Which::Watched);
            if !send(replies, &message, shared).await {
                return;
            }
            told = Some(snapshot.status);
            sleep(shared.limits.watch).await;
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            // A watcher has nothing more to say on its connection.
            () = requests.read_half().ends() => return,
        }
    }
}

/// Asks the loop, by the name of whoever is behind the connection.
async fn ask(request: Request, uid: u32, pid: Option<i32>, shared: &Shared) -> Result<Answer, Wrong> {
    let name = timeout(NAME, name(pid, uid)).await.ok().flatten();
    let caller = Caller { uid, name: name.unwrap_or_else(|| uid.to_string()) };
    let (reply, answer) = oneshot::channel();
    let asked = async {
        shared.requests.send(Asked { request, caller, reply }).await.ok()?;
        answer.await.ok()
    };
    match timeout(shared.limits.answer, asked).await {
        Ok(Some(Ok(answer))) => Ok(answer),
        Ok(Some(Err(refusal))) => Err(Wrong::refused(&refusal.reason, refusal.message)),
        Ok(None) => Err(Wrong::refused("stopping", "the agent is about to end: try again when it runs".to_owned())),
        Err(_) => Err(Wrong::refused("no-answer", "the agent did not answer in time: journalctl -u trueup".to_owned())),
    }
}

/// The name of whoever is behind the connection. The name service may ask a server somewhere and hang: so it is asked
/// by a thread that nobody waits for, not even at the end of the agent.
async fn name(pid: Option<i32>, uid: u32) -> Option<String> {
    let (tell, told) = oneshot::channel();
    let ask = move || drop(Reader::machine().map(|host| tell.send(host.login_name(pid, uid))));
    std::thread::Builder::new().name("name".to_owned()).spawn(ask).ok()?;
    told.await.ok()
}

/// Whether all of it was taken in time.
async fn send(replies: &mut Replies, message: &Message, shared: &Shared) -> bool {
    let all = async {
        for part in message.parts() {
            replies.send(part).await?;
        }
        std::io::Result::Ok(())
    };
    matches!(timeout(shared.limits.reply, all).await, Ok(Ok(())))
}

/// What is written already. Never held while something is waited for.
pub(super) fn documents(shared: &Shared) -> MutexGuard<'_, Documents> {
    shared.documents.lock().unwrap_or_else(PoisonError::into_inner)
}
