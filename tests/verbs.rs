//! The verbs that ask the agent, against one that answers over the real socket, in a directory that stands for a host.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use trueup::daemon::{Answer, Asked, Refusal, Request, Snapshot, socket};
use trueup::report::{Last, Passed, Running, State, Status};

const APPLIED: &str = "4f2a9c1000000000000000000000000000000000";
const SEEN: &str = "b81d07e000000000000000000000000000000000";
const PASS: &str = "01JD0000020000000000000000";

/// An agent that answers every request, and notes it.
struct Agent {
    root: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Request>>>,
    snapshots: watch::Sender<Snapshot>,
}

impl Agent {
    fn start() -> Self {
        let root = tempfile::tempdir().expect("a scratch directory");
        let path = root.path().join("run/trueup/trueup.sock");
        fs::create_dir_all(path.parent().expect("below something")).expect("made");
        let (snapshots, receiver) = watch::channel(snapshot());
        let asked = Arc::<Mutex<Vec<Request>>>::default();
        let (notes, changes) = (Arc::clone(&asked), snapshots.clone());
        let (ready, started) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = UnixListener::bind(&path).expect("bound");
                ready.send(()).expect("it waits");
                let (requests, mut incoming) = mpsc::channel::<Asked>(4);
                let answers = async {
                    while let Some(Asked { request, reply, .. }) = incoming.recv().await {
                        notes.lock().expect("whole").push(request.clone());
                        if let Request::Restore { copy } = &request {
                            changes
                                .send_modify(|snapshot| snapshot.status = restoring(copy, "pending", "it goes back"));
                        }
                        let _ = reply.send(answer(&request));
                        match &request {
                            Request::Sync { .. } => pass(&changes).await,
                            Request::Restore { copy } => restore(&changes, copy).await,
                            _ => {}
                        }
                    }
                };
                tokio::join!(socket::serve(listener, receiver, requests), answers);
            });
        });
        started.recv().expect("it listens");
        Self { root, asked, snapshots }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
        command.args(arguments).arg("--root").arg(self.root.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("started")
    }

    /// The requests since this was called last.
    fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut *self.asked.lock().expect("whole"))
    }
}

fn answer(request: &Request) -> Result<Answer, Refusal> {
    let message = match request {
        Request::Retry => {
            return Err(Refusal { reason: "unconfigured".to_owned(), message: "no source is configured".to_owned() });
        }
        Request::Sync { .. } => "looking now",
        _ => "noted",
    };
    let pass = matches!(request, Request::Sync { .. }).then(|| PASS.to_owned());
    Ok(Answer { message: message.to_owned(), pass })
}

/// A pass as its watchers see it: it runs, it ends, something happened.
async fn pass(snapshots: &watch::Sender<Snapshot>) {
    let before = Arc::clone(&snapshots.borrow().status);
    let status = |running: Option<Running>, last: &str| {
        let last = Some(Last { pass: last.to_owned(), at: 1, took_ms: 5, state: State::Degraded });
        let source = before.source.clone();
        let silent = source.as_ref().is_some_and(|source| source.failing_since.is_some());
        let after = if silent { status(State::InSync, None) } else { status(State::Degraded, Some("in-the-way")) };
        Arc::new(Status { running, last, source, ..after })
    };
    let running = Running { pass: PASS.to_owned(), since: 1, doing: "installing packages".to_owned() };
    snapshots.send_modify(|snapshot| snapshot.status = status(Some(running), "01JD0000010000000000000000"));
    tokio::task::yield_now().await;
    snapshots.send_modify(|snapshot| {
        snapshot.status = status(None, PASS);
        snapshot.history = vec![passed()].into();
    });
}

/// A copy is given back, or is no longer kept, a while after it was asked for.
async fn restore(snapshots: &watch::Sender<Snapshot>, copy: &str) {
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let (outcome, message) = if copy == "k-7f31" { ("done", "noted") } else { ("failed", "it is no longer kept") };
    snapshots.send_modify(|snapshot| snapshot.status = restoring(copy, outcome, message));
}

fn restoring(copy: &str, outcome: &str, message: &str) -> Arc<Status> {
    let restores = json!([{ "copy": copy, "resource": "file:/etc/motd", "by": "alice", "at": 1,
        "outcome": outcome, "message": message }]);
    let restores = serde_json::from_value(restores).expect("copies");
    Arc::new(Status { restores, ..status(State::InSync, None) })
}

fn passed() -> Passed {
    Passed {
        pass: PASS.to_owned(),
        at: 1,
        command: "agent".to_owned(),
        state: State::Degraded,
        reason: Some("in-the-way".to_owned()),
        message: Some("a directory stands at /a".to_owned()),
        revision: Some(APPLIED.to_owned()),
        subject: Some("tls: new intermediate".to_owned()),
        lines: vec!["failed file:/a (in-the-way): a directory stands at /a".to_owned()],
        total: 1,
    }
}

fn status(state: State, reason: Option<&str>) -> Status {
    serde_json::from_value(json!({
        "version": 1, "host": "web-01", "state": state, "reason": reason, "since": 0, "update": "auto",
        "message": reason.map(|_| "a directory stands at /a"),
        "revision": {"seen": SEEN, "attempted": null, "applied": APPLIED},
        "authenticity": "transport-only", "attention": [], "suspended": [], "notes": [],
        "resources": {"managed": 1, "in_sync": 1, "failed": 0, "skipped": 0, "drifted": 0, "contested": 0,
            "suspended": 0, "pending": 0},
        "agent": {"version": "0.1.0", "pid": 1, "started": 0},
    }))
    .expect("a status")
}

fn snapshot() -> Snapshot {
    Snapshot { status: Arc::new(status(State::InSync, None)), report: None, history: Vec::new().into() }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no JSON: {error}\n{output:?}"))
}

/// Only root may ask for changes.
fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn the_status_is_the_agents() {
    let agent = Agent::start();
    let shown = agent.run(&["status"]);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    assert!(said(&shown).starts_with("web-01   in-sync   for "), "{shown:?}");
    let shown = document(&agent.run(&["status", "--json"]));
    assert_eq!((&shown["state"], &shown["agent"]["pid"]), (&"in-sync".into(), &1.into()));
    agent.snapshots.send_modify(|one| one.status = Arc::new(status(State::Degraded, Some("in-the-way"))));
    assert_eq!(agent.run(&["status"]).status.code(), Some(1));
}

#[test]
fn a_sync_waits_for_its_pass_and_tells_what_came_of_it() {
    if !root() {
        return;
    }
    let agent = Agent::start();
    let done = agent.run(&["sync", "--allow-removals", "3"]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let text = "  failed file:/a (in-the-way): a directory stands at /a\n\
                4f2a9c1   web-01   degraded   in-the-way: a directory stands at /a\n";
    assert_eq!(said(&done), text);
    assert_eq!(agent.asked(), [Request::Sync { allow_removals: Some(3) }]);
    let shown = document(&agent.run(&["sync", "--json"]));
    assert_eq!((&shown["state"], &shown["last"]["pass"]), (&"degraded".into(), &PASS.into()));
    let history = agent.run(&["history", "4f2a"]);
    assert_eq!(history.status.code(), Some(0));
    assert!(said(&history).contains(PASS) && said(&history).contains("tls: new intermediate"), "{history:?}");
}

#[test]
fn a_sync_that_did_not_reach_the_source_says_so_and_is_no_success() {
    if !root() {
        return;
    }
    let agent = Agent::start();
    let source = json!({"url": "https://git.example.org/fleet.git", "branch": "main", "looked": 1, "fetched": 1,
        "failing_since": 2, "error": "no route to host"});
    let silent =
        Status { source: Some(serde_json::from_value(source).expect("a source")), ..status(State::InSync, None) };
    agent.snapshots.send_modify(|one| one.status = Arc::new(silent));
    let done = agent.run(&["sync"]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let text = said(&done);
    assert!(text.contains("  the look at the source failed: no route to host\n"), "{text}");
    assert!(text.ends_with("4f2a9c1   web-01   in-sync\n"), "{text}");
}

#[test]
fn what_is_typed_is_what_the_agent_is_asked_for() {
    if !root() {
        return;
    }
    let agent = Agent::start();
    let ids = |ids: &[&str]| ids.iter().map(|id| id.parse().expect("an id")).collect::<Vec<_>>();
    let commit = |id: &str| id.parse().expect("a commit");
    for (typed, request) in [
        (&["resume"][..], Request::Resume { resources: Vec::new() }),
        (
            &["resume", "/etc/motd", "a.service"],
            Request::Resume { resources: ids(&["file:/etc/motd", "unit:a.service"]) },
        ),
        (&["approve"], Request::Approve { commit: None }),
        (&["approve", "b81d07e"], Request::Approve { commit: Some(commit(SEEN)) }),
        (&["rollback", "4f2a9"], Request::Rollback { commit: commit(APPLIED) }),
        (&["restore", "k-7f31"], Request::Restore { copy: "k-7f31".to_owned() }),
    ] {
        let done = agent.run(typed);
        assert_eq!((done.status.code(), said(&done).as_str()), (Some(0), "noted\n"), "{typed:?}: {done:?}");
        assert_eq!(agent.asked(), [request], "{typed:?}");
    }
    let before = trueup::host::Clock::System.now();
    let done = agent.run(&["suspend", "/etc/motd", "--for", "8h", "--reason", "INC-4711", "--json"]);
    let after = trueup::host::Clock::System.now();
    assert_eq!((&document(&done)["done"], &document(&done)["message"]), (&true.into(), &"noted".into()));
    let [Request::Suspend { resources, until, reason }] = &agent.asked()[..] else { panic!("one request") };
    assert_eq!((resources, reason.as_str()), (&ids(&["file:/etc/motd"]), "INC-4711"));
    assert!((before + 8 * 3600..=after + 8 * 3600).contains(until), "{until}");
}

#[test]
fn a_restore_waits_for_its_pass_and_fails_where_that_did() {
    if !root() {
        return;
    }
    let agent = Agent::start();
    let done = agent.run(&["restore", "k-0bad"]);
    assert_eq!((done.status.code(), said(&done).as_str()), (Some(1), ""), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("it is no longer kept"), "{done:?}");
    let done = agent.run(&["restore", "k-0bad", "--json"]);
    assert_eq!((done.status.code(), &document(&done)["done"]), (Some(1), &false.into()), "{done:?}");
    let done = agent.run(&["restore", "k-7f31", "--json"]);
    assert_eq!((done.status.code(), &document(&done)["done"]), (Some(0), &true.into()), "{done:?}");
}

#[test]
fn a_refusal_is_told_in_a_line_and_as_json() {
    if !root() {
        return;
    }
    let agent = Agent::start();
    let done = agent.run(&["retry"]);
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    let told = String::from_utf8(done.stderr).expect("text");
    assert_eq!((told.lines().count(), told.contains("no source is configured")), (1, true), "{told}");
    let shown = document(&agent.run(&["retry", "--json"]));
    assert_eq!((&shown["done"], &shown["reason"]), (&false.into(), &"unconfigured".into()));
    let unknown = agent.run(&["rollback", "dead"]);
    assert_eq!(unknown.status.code(), Some(3), "{unknown:?}");
}

#[test]
fn without_an_agent_nothing_changes_and_is_told_once() {
    let root = tempfile::tempdir().expect("a scratch directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
    command.args(["status", "--watch", "--json", "--root"]).arg(root.path());
    let watching = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("started");
    thread::sleep(std::time::Duration::from_millis(3500));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(watching.id().cast_signed()), nix::sys::signal::Signal::SIGINT)
        .expect("it is ours");
    let shown = watching.wait_with_output().expect("it ends");
    assert_eq!(said(&shown).lines().count(), 1, "{}", said(&shown));
}

#[test]
fn each_change_of_the_status_is_a_line() {
    let agent = Agent::start();
    let mut watching = agent.command(&["status", "--watch"]).stdout(Stdio::piped()).spawn().expect("started");
    let mut out = BufReader::new(watching.stdout.take().expect("piped"));
    let mut line = || {
        let mut line = String::new();
        out.read_line(&mut line).expect("readable");
        line
    };
    assert!(line().ends_with("   4f2a9c1   web-01   in-sync\n"));
    agent.snapshots.send_modify(|one| one.status = Arc::new(status(State::Degraded, Some("in-the-way"))));
    assert!(line().ends_with("   degraded   in-the-way: a directory stands at /a\n"));
    // A status that says the same is no line: the next one is another.
    agent.snapshots.send_modify(|one| one.status = Arc::new(status(State::Degraded, Some("in-the-way"))));
    agent.snapshots.send_modify(|one| one.status = Arc::new(status(State::Stalled, Some("guard"))));
    assert!(line().ends_with("   stalled   guard: a directory stands at /a\n"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(watching.id().cast_signed()), nix::sys::signal::Signal::SIGINT)
        .expect("it is ours");
    assert_eq!(watching.wait().expect("it ends").code(), Some(0));
}
