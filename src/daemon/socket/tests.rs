//! A server on a socket pair, a loop that says yes, and peers that speak bytes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

use super::answer::{CHANGES, Call, Doing, judge};
use super::bounded::LONGEST_REQUEST;
use super::documents::Documents;
use super::wire::{Fault, INTERFACE, Method, Wrong};
use super::{Limits, Seats, interface, serve_within};
use crate::daemon::{Answer, Asked, Refusal, Request, Snapshot};
use crate::model::Cause;
use crate::report::{Attention, ChoiceStatus, Line, Passed, ResourceCounts, Revisions, State, Status, SuspendedStatus};

const SEEN: &str = "b81d07e000000000000000000000000000000000";
const APPLIED: &str = "4f2a9c1000000000000000000000000000000000";
const PASSED: &str = "4f2a9c2000000000000000000000000000000000";
const NOW: i64 = 1_800_000_000;

pub(super) fn line(id: &str, cause: Option<Cause>, diff: &[&str]) -> Line {
    Line {
        id: id.parse().expect("an id"),
        action: "change",
        cause,
        changes: vec!["content".to_owned()],
        diff: diff.iter().map(|&line| line.to_owned()).collect(),
        layer: "roles/web".to_owned(),
        outcome: "done",
        reason: None,
        message: None,
        kept: None,
        late: false,
        attempts: 0,
        next: None,
    }
}

pub(super) fn passed(pass: &str) -> Passed {
    Passed {
        pass: pass.to_owned(),
        at: NOW,
        command: "agent".to_owned(),
        state: State::InSync,
        reason: None,
        message: None,
        revision: Some(PASSED.to_owned()),
        subject: None,
        lines: vec!["file:/etc/motd".to_owned()],
        total: 1,
    }
}

pub(super) fn attention() -> Attention {
    Attention {
        id: "package:nginx".to_owned(),
        what: "failed".to_owned(),
        reason: None,
        message: String::new(),
        attempts: 1,
        next: None,
    }
}

pub(super) fn suspended() -> SuspendedStatus {
    SuspendedStatus { resource: None, since: NOW, until: NOW + 1, by: "alice".to_owned(), reason: String::new() }
}

pub(super) fn snapshot() -> Snapshot {
    let choice = |commit: &str| ChoiceStatus { commit: commit.to_owned(), by: "alice".to_owned(), at: NOW };
    let status = Status {
        version: 1,
        host: Some("web-01".to_owned()),
        state: State::InSync,
        reason: None,
        message: None,
        since: NOW,
        update: "auto".to_owned(),
        revision: Revisions { seen: Some(SEEN.to_owned()), attempted: None, applied: Some(APPLIED.to_owned()) },
        seen: None,
        applied: None,
        source: None,
        authenticity: "transport-only".to_owned(),
        signed: None,
        resources: ResourceCounts { managed: 2, ..ResourceCounts::default() },
        attention: vec![attention()],
        suspended: vec![suspended()],
        approved: Some(choice(SEEN)),
        rolled_back: None,
        restores: Vec::new(),
        running: None,
        last: None,
        next: None,
        notes: Vec::new(),
        agent: None,
    };
    Snapshot { status: Arc::new(status), report: None, history: vec![passed("1")].into() }
}

fn call(uid: u32, method: &str, parameters: Value) -> Result<Doing, Wrong> {
    let method = Method { method: format!("{INTERFACE}.{method}"), parameters: Some(parameters) };
    let call = Call { uid, more: false, upgrade: false, now: NOW };
    judge(method, call, &snapshot(), &mut Documents::default())
}

fn asked(method: &str, parameters: Value) -> Request {
    match call(0, method, parameters) {
        Ok(Doing::Ask(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// The name of the parameter that is wrong.
fn wrong(method: &str, parameters: Value) -> String {
    match call(0, method, parameters) {
        Err(Wrong::Agent(Fault::InvalidParameter { parameter, .. })) => parameter,
        other => panic!("{other:?}"),
    }
}

fn refused(method: &str, parameters: Value) -> String {
    match call(0, method, parameters) {
        Err(Wrong::Agent(Fault::Refused { reason, .. })) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_method_that_is_described_is_answered() {
    for method in interface::agent().methods() {
        let name = method.name().as_str();
        let given = call(0, name, json!({"no_such_parameter": 1}));
        assert!(matches!(given, Err(Wrong::Agent(Fault::InvalidParameter { .. }))), "{name}: {given:?}");
        let more = Call { uid: 0, more: true, upgrade: true, now: NOW };
        let named = Method { method: format!("{INTERFACE}.{name}"), parameters: None };
        let upgraded = judge(named, more, &snapshot(), &mut Documents::default());
        assert!(matches!(upgraded, Err(Wrong::Service(_))), "{name}: {upgraded:?}");
    }
    for name in CHANGES {
        assert!(interface::agent().methods().any(|method| method.name().as_str() == *name), "{name}");
    }
}

#[test]
fn what_is_not_there_is_said_as_varlink_says_it() {
    let error = |method: &str| {
        let method = Method { method: method.to_owned(), parameters: None };
        let call = Call { uid: 0, more: false, upgrade: false, now: NOW };
        let wrong = judge(method, call, &snapshot(), &mut Documents::default()).expect_err("refused");
        serde_json::to_value(wrong).expect("JSON")["error"].as_str().expect("text").to_owned()
    };
    assert_eq!(error("io.trueup.Agent.Format"), "org.varlink.service.MethodNotFound");
    assert_eq!(error("Status"), "org.varlink.service.MethodNotFound");
    assert_eq!(error("io.trueup.Other.Status"), "org.varlink.service.InterfaceNotFound");
    assert_eq!(error("org.varlink.service.GetAll"), "org.varlink.service.MethodNotFound");
    assert_eq!(error("org.varlink.service.GetInterfaceDescription"), "org.varlink.service.InvalidParameter");
    assert_eq!(error("io.trueup.Agent.Watch"), "org.varlink.service.ExpectedMore");
}

#[test]
fn only_root_may_ask_for_a_change() {
    for method in CHANGES {
        for uid in [1, 1000, u32::MAX] {
            let refused = call(uid, method, json!({}));
            assert!(matches!(refused, Err(Wrong::Agent(Fault::PermissionDenied))), "{method}: {refused:?}");
        }
    }
    for method in ["Status", "Resources", "Drift", "Plan", "History"] {
        assert!(matches!(call(1000, method, json!({})), Ok(Doing::Say(_))), "{method}");
    }
}

#[test]
fn requests_are_taken_as_they_are_meant() {
    assert_eq!(asked("Sync", json!({})), Request::Sync { allow_removals: None });
    assert_eq!(asked("Sync", json!({"allow_removals": 20})), Request::Sync { allow_removals: Some(20) });
    assert_eq!(asked("Retry", json!({})), Request::Retry);
    assert_eq!(asked("Restore", json!({"copy": "k-7f31"})), Request::Restore { copy: "k-7f31".to_owned() });
    let motd = || vec!["file:/etc/motd".parse().expect("an id")];
    let given = json!({"resources": ["file:/etc/motd", "file:/etc/motd"]});
    assert_eq!(asked("Resume", given), Request::Resume { resources: motd() });
    let given = json!({"resources": ["file:/etc/motd"], "until": NOW + 60, "reason": "two\nlines"});
    let wanted = Request::Suspend { resources: motd(), until: NOW + 60, reason: "two\\nlines".to_owned() };
    assert_eq!(asked("Suspend", given), wanted);
}

#[test]
fn values_have_their_limits() {
    let suspend = |until: i64, reason: usize, resources: usize| {
        let ids: Vec<String> = (0..resources).map(|n| format!("file:/{n}")).collect();
        call(0, "Suspend", json!({"resources": ids, "until": until, "reason": "ä".repeat(reason)}))
    };
    let month = 30 * 24 * 3600;
    for (until, reason, resources) in [(NOW + 1, 0, 0), (NOW + month, 500, 100)] {
        assert!(matches!(suspend(until, reason, resources), Ok(Doing::Ask(_))));
    }
    let past_limits = [(NOW, 0, 0), (NOW + month + 1, 0, 0), (i64::MAX, 0, 0), (NOW + 1, 501, 0), (NOW + 1, 0, 101)];
    for (until, reason, resources) in past_limits {
        assert!(suspend(until, reason, resources).is_err(), "{until} {reason} {resources}");
    }
    assert_eq!(wrong("Suspend", json!({"resources": ["motd"], "until": NOW + 1, "reason": ""})), "resources");
    assert_eq!(wrong("Suspend", json!({"resources": [], "until": NOW + 1})), "reason");
    assert_eq!(wrong("Sync", json!({"allow_removals": -1})), "allow_removals");
    for copy in ["7f31", "k-", "k-7F31", "k-../../etc", &format!("k-{}", "0".repeat(65))] {
        assert_eq!(wrong("Restore", json!({"copy": copy})), "copy");
    }
}

#[test]
fn a_short_commit_is_one_that_this_host_knows() {
    let rollback = |commit: &str| match asked("Rollback", json!({"commit": commit})) {
        Request::Rollback { commit } => commit.as_str().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(rollback("b81d"), SEEN);
    assert_eq!(rollback("B81D07E"), SEEN);
    assert_eq!(rollback("4f2a9c2"), PASSED, "from the history");
    let unknown = "1".repeat(40);
    assert_eq!(rollback(&unknown), unknown, "a full id is the loop's to judge");
    assert_eq!(refused("Rollback", json!({"commit": "4f2a9c"})), "ambiguous-commit");
    assert_eq!(refused("Approve", json!({"commit": "dead"})), "no-such-commit");
    assert_eq!(asked("Approve", json!({})), Request::Approve { commit: None });
    for bad in ["", "b81", "main", "HEAD", "b81d07e-", &"1".repeat(65), &"ä".repeat(20)] {
        assert_eq!(wrong("Rollback", json!({"commit": bad})), "commit");
    }
}

/// Whoever is connected.
type Peer = BufReader<UnixStream>;

/// A server in this process, and what its loop was asked.
struct Served {
    path: std::path::PathBuf,
    snapshots: watch::Sender<Snapshot>,
    asked: mpsc::UnboundedReceiver<Request>,
    _directory: tempfile::TempDir,
}

fn quick() -> Limits {
    Limits { watch: Duration::ZERO, pause: Duration::ZERO, ..Limits::default() }
}

/// Seats that are the same whether the tests are root's or not.
fn seats(connections: usize, watchers: usize) -> Seats {
    let both = (connections, watchers);
    Seats { others: both, each: both, root: both }
}

async fn served(limits: Limits) -> Served {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).expect("bound");
    let (snapshots, receiver) = watch::channel(snapshot());
    let (requests, mut from_socket) = mpsc::channel::<Asked>(4);
    let (tell, asked) = mpsc::unbounded_channel();
    tokio::spawn(serve_within(listener, receiver, requests, limits));
    tokio::spawn(async move {
        while let Some(Asked { request, caller, reply }) = from_socket.recv().await {
            assert_eq!(caller.uid, 0, "only root gets here");
            let answer = match &request {
                Request::Retry => Err(Refusal { reason: "unconfigured".to_owned(), message: "no source".to_owned() }),
                _ => Ok(Answer { message: "done".to_owned(), pass: Some("01J".to_owned()) }),
            };
            let _ = reply.send(answer);
            let _ = tell.send(request);
        }
    });
    Served { path, snapshots, asked, _directory: directory }
}

impl Served {
    async fn connect(&self) -> Peer {
        BufReader::new(UnixStream::connect(&self.path).await.expect("connected"))
    }

    fn change(&self, message: &str) {
        self.snapshots.send_modify(|snapshot| {
            let mut status = (*snapshot.status).clone();
            status.message = Some(message.to_owned());
            snapshot.status = Arc::new(status);
        });
    }
}

async fn write(stream: &mut Peer, value: &Value) {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(0);
    stream.write_all(&bytes).await.expect("written");
}

/// The next message; `None` where the connection ended.
async fn read(stream: &mut Peer) -> Option<Value> {
    let mut bytes = Vec::new();
    stream.read_until(0, &mut bytes).await.ok()?;
    (bytes.pop()? == 0).then(|| serde_json::from_slice(&bytes).expect("JSON"))
}

async fn talk(stream: &mut Peer, method: &str) -> Option<Value> {
    write(stream, &json!({"method": format!("{INTERFACE}.{method}")})).await;
    read(stream).await
}

#[tokio::test]
async fn one_connection_asks_many_times() {
    let mut served = served(quick()).await;
    let mut stream = served.connect().await;
    let status = talk(&mut stream, "Status").await.expect("answered");
    assert_eq!(status["parameters"]["status"]["host"], "web-01");
    write(&mut stream, &json!({"method": "org.varlink.service.GetInfo", "parameters": {}})).await;
    let info = read(&mut stream).await.expect("answered");
    assert_eq!(info["parameters"]["interfaces"], json!([INTERFACE, "org.varlink.service"]));
    write(&mut stream, &json!({"method": "io.trueup.Agent.Nothing", "oneway": true})).await;
    write(&mut stream, &json!({"method": "io.trueup.Agent.Nothing"})).await;
    let missing = read(&mut stream).await.expect("answered");
    assert_eq!(missing["error"], "org.varlink.service.MethodNotFound");
    if rustix::process::getuid().is_root() {
        let sync = talk(&mut stream, "Sync").await.expect("answered");
        assert_eq!(sync["parameters"], json!({"message": "done", "pass": "01J"}));
        let retry = talk(&mut stream, "Retry").await.expect("answered");
        assert_eq!(retry["error"], "io.trueup.Agent.Refused");
        assert_eq!(retry["parameters"], json!({"reason": "unconfigured", "message": "no source"}));
        assert_eq!(served.asked.recv().await, Some(Request::Sync { allow_removals: None }));
    }
}

#[tokio::test]
async fn a_request_over_the_limit_ends_the_connection_and_one_within_is_answered() {
    let served = served(quick()).await;
    for (length, answered) in [(LONGEST_REQUEST - 1, true), (LONGEST_REQUEST, true), (LONGEST_REQUEST + 1, false)] {
        let mut stream = served.connect().await;
        let mut request = json!({"method": "io.trueup.Agent.Status"}).to_string().into_bytes();
        request.resize(length, b' ');
        request.push(0);
        // The other side may close before all of it is written.
        let _ = stream.write_all(&request).await;
        assert_eq!(read(&mut stream).await.is_some(), answered, "{length}");
    }
}

#[tokio::test]
async fn requests_in_one_breath_are_all_answered_in_order() {
    let served = served(quick()).await;
    let mut stream = served.connect().await;
    let mut all = Vec::new();
    for n in 0..100 {
        all.extend(json!({"method": format!("io.trueup.Agent.No{n}")}).to_string().bytes());
        all.push(0);
    }
    stream.write_all(&all).await.expect("written");
    for n in 0..100 {
        let answer = read(&mut stream).await.expect("answered");
        assert_eq!(answer["parameters"]["method"], format!("io.trueup.Agent.No{n}"));
    }
}

#[tokio::test]
async fn what_is_no_request_ends_the_connection() {
    let served = served(quick()).await;
    let deep = "[".repeat(10_000);
    for bad in [
        "",
        "{",
        "null",
        "[]",
        "{\"method\": 1}",
        "\u{1}",
        &format!("{{\"method\":\"a.b\",\"parameters\":{deep}"),
        "{\"parameters\":{}}",
    ] {
        let mut stream = served.connect().await;
        stream.write_all(bad.as_bytes()).await.expect("written");
        stream.write_all(&[0]).await.expect("written");
        assert_eq!(read(&mut stream).await, None, "{bad:.40}");
    }
    let mut stream = served.connect().await;
    assert!(talk(&mut stream, "Status").await.is_some(), "others are served on");
}

#[tokio::test]
async fn half_a_request_is_not_waited_for_but_a_watcher_is() {
    let served = served(Limits { request: Duration::from_millis(50), ..quick() }).await;
    let mut watcher = served.connect().await;
    write(&mut watcher, &json!({"method": "io.trueup.Agent.Watch", "more": true})).await;
    assert!(read(&mut watcher).await.is_some());
    for half in [&b""[..], b"{\"method\":"] {
        let mut stream = served.connect().await;
        stream.write_all(half).await.expect("written");
        assert_eq!(read(&mut stream).await, None, "closed");
    }
    served.change("later");
    let told = read(&mut watcher).await.expect("still there");
    assert_eq!(told["parameters"]["status"]["message"], "later");
}

#[tokio::test]
async fn a_watcher_is_told_of_changes_and_of_nothing_else() {
    let served = served(quick()).await;
    let mut stream = served.connect().await;
    write(&mut stream, &json!({"method": "io.trueup.Agent.Watch", "more": true})).await;
    let first = read(&mut stream).await.expect("told");
    assert_eq!(first["continues"], true);
    // The same status again, and another history: nothing to tell.
    served.snapshots.send_modify(|snapshot| {
        snapshot.status = Arc::new((*snapshot.status).clone());
        snapshot.history = vec![passed("2"), passed("1")].into();
    });
    // By the time that another is answered a few times, the watcher had its turn.
    let mut other = served.connect().await;
    for _ in 0..3 {
        assert!(talk(&mut other, "Status").await.is_some());
    }
    served.change("one");
    let second = read(&mut stream).await.expect("told");
    assert_eq!(second["parameters"]["status"]["message"], "one");
}

#[tokio::test]
async fn a_watcher_that_reads_nothing_holds_nobody_and_is_let_go() {
    let limits = Limits { reply: Duration::from_secs(1), seats: seats(2, 1), ..quick() };
    let served = served(limits).await;
    let mut watcher = served.connect().await;
    write(&mut watcher, &json!({"method": "io.trueup.Agent.Watch", "more": true})).await;
    assert!(read(&mut watcher).await.is_some());
    let mut other = served.connect().await;
    // Until its seat is given back to another watcher: it has to be let go for that.
    let long = "x".repeat(1 << 20);
    for n in 0.. {
        served.change(&format!("{n} {long}"));
        let status = talk(&mut other, "Status").await.expect("answered meanwhile");
        assert!(status["parameters"]["status"]["message"].as_str().expect("text").starts_with(&n.to_string()));
        write(&mut other, &json!({"method": "io.trueup.Agent.Watch", "more": true})).await;
        if read(&mut other).await.expect("answered").get("error").is_none() {
            return;
        }
    }
}

#[tokio::test]
async fn a_watcher_that_hangs_up_gives_its_seat_back() {
    let served = served(Limits { seats: seats(2, 1), ..quick() }).await;
    let mut watcher = served.connect().await;
    let mut other = served.connect().await;
    let watch = json!({"method": "io.trueup.Agent.Watch", "more": true});
    write(&mut watcher, &watch).await;
    assert!(read(&mut watcher).await.is_some());
    write(&mut other, &watch).await;
    assert_eq!(read(&mut other).await.expect("answered")["error"], "io.trueup.Agent.Busy");
    drop(watcher);
    loop {
        write(&mut other, &watch).await;
        if read(&mut other).await.expect("answered").get("error").is_none() {
            return;
        }
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let served = served(Limits { seats: seats(2, 1), ..quick() }).await;
    let mut taken = [served.connect().await, served.connect().await];
    for stream in &mut taken {
        assert!(talk(stream, "Status").await.is_some());
    }
    let mut third = served.connect().await;
    assert_eq!(read(&mut third).await, Some(json!({"error": "io.trueup.Agent.Busy"})));
    assert_eq!(read(&mut third).await, None);
    let [first, mut second] = taken;
    drop(first);
    assert!(talk(&mut second, "Status").await.is_some());
    loop {
        let mut again = served.connect().await;
        let _ = again.write_all(b"{\"method\":\"io.trueup.Agent.Status\"}\0").await;
        if read(&mut again).await.is_some_and(|answer| answer.get("error").is_none()) {
            return;
        }
    }
}

#[tokio::test]
async fn a_loop_that_is_gone_or_silent_is_said_to_be() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    for (silent, reason) in [(false, "stopping"), (true, "no-answer")] {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bound");
        let (_snapshots, receiver) = watch::channel(snapshot());
        let (requests, from_socket) = mpsc::channel(1);
        let _kept = silent.then_some(from_socket);
        let limits = Limits { answer: Duration::from_millis(20), ..quick() };
        tokio::spawn(serve_within(listener, receiver, requests, limits));
        let mut stream = BufReader::new(UnixStream::connect(&path).await.expect("connected"));
        let answer = talk(&mut stream, "Retry").await.expect("answered");
        assert_eq!(answer["parameters"]["reason"], reason);
    }
}
