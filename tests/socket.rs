//! The status socket as a process of its own, with peers that mean no good: another user sees no content and changes
//! nothing; whatever a thousand connections do, root is answered and the memory stays bounded.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use trueup::daemon::client::{Client, ClientError};
use trueup::daemon::{Answer, Asked, Refusal, Request, Snapshot, socket};
use trueup::report::{Line, Passed, Report, Status};

/// Tells the test below to be a server, and where.
const SOCKET: &str = "TRUEUP_TEST_SOCKET";
/// How many files it may have open.
const FILES: &str = "TRUEUP_TEST_FILES";
/// Enough steps for a document of several MB.
const STEPS: usize = 20_000;

/// A server of its own process, so that its memory is its own. It ends with its standard input.
struct Server {
    child: Child,
    input: Option<ChildStdin>,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start(files: Option<u64>) -> Self {
        let directory = tempfile::tempdir().expect("a scratch directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("opened to others");
        let path = directory.path().join("socket");
        let mut command = Command::new(std::env::current_exe().expect("known"));
        command.args(["--exact", "socket::a_server", "--ignored", "--nocapture"]).env(SOCKET, &path);
        if let Some(files) = files {
            command.env(FILES, files.to_string());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        wait_for("serving", &mut BufReader::new(child.stdout.as_mut().expect("piped")));
        Self { input: child.stdin.take(), child, path, _directory: directory }
    }

    /// Changes the status.
    fn change(&mut self, message: &str) {
        let input = self.input.as_mut().expect("there until the end");
        writeln!(input, "{message}").and_then(|()| input.flush()).expect("it listens");
    }

    fn client(&self) -> Client {
        Client::connect(&self.path).expect("it listens")
    }

    /// A number of `/proc/PID/status`, in kB.
    fn kilobytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("told");
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
    }

    /// CPU time that it took so far, in ticks of 10 ms.
    fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}

/// Reads up to the line that says `what`; gives that line.
fn wait_for(what: &str, output: &mut impl BufRead) -> String {
    let mut line = String::new();
    while output.read_line(&mut line).expect("readable") > 0 {
        if line.contains(what) {
            return line;
        }
        line.clear();
    }
    panic!("it ended without {what}");
}

fn snapshot() -> Snapshot {
    let status: Status = serde_json::from_value(json!({
        "version": 1, "host": "web-01", "state": "in-sync", "since": 0, "update": "auto",
        "revision": {"seen": "b81d07e000000000000000000000000000000000", "attempted": null, "applied": null},
        "authenticity": "transport-only", "attention": [], "suspended": [], "notes": [],
        "resources": {"managed": 1, "in_sync": 1, "failed": 0, "skipped": 0, "drifted": 0, "contested": 0,
            "suspended": 0, "pending": 0},
    }))
    .expect("a status");
    let passed: Passed = serde_json::from_value(json!({
        "pass": "01J", "at": 0, "command": "agent", "state": "in-sync", "lines": [], "total": 0,
    }))
    .expect("a pass");
    let step = |n: usize| Line {
        id: format!("file:/etc/{n}").parse().expect("an id"),
        action: "change",
        cause: Some(trueup::model::Cause::Corrective),
        changes: vec!["content +1 -1".to_owned()],
        diff: vec!["-a line of a file".to_owned()],
        layer: "roles/web".to_owned(),
        outcome: "done",
        reason: None,
        message: None,
        kept: None,
        late: false,
        attempts: 0,
        next: None,
    };
    let report = Report { steps: (0..STEPS).map(step).collect(), ..Report::new("agent") };
    Snapshot { status: Arc::new(status), report: Some(Arc::new(report)), history: vec![passed].into() }
}

#[test]
#[ignore = "the server of the other tests, which start it"]
fn a_server() {
    let Some(path) = std::env::var_os(SOCKET) else { return };
    let files: Option<u64> = std::env::var(FILES).ok().and_then(|files| files.parse().ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (snapshots, receiver) = watch::channel(snapshot());
    let (requests, mut asked) = mpsc::channel::<Asked>(4);
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::bind(&path).expect("bound");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("opened to others");
        if let Some(files) = files {
            setrlimit(Resource::RLIMIT_NOFILE, files, files).expect("fewer files");
        }
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                snapshots.send_modify(|snapshot| {
                    let mut status = (*snapshot.status).clone();
                    status.message = Some(line);
                    snapshot.status = Arc::new(status);
                });
            }
            std::process::exit(0);
        });
        let answer = async {
            while let Some(Asked { request, caller, reply }) = asked.recv().await {
                let refusal = || Refusal { reason: "not-held".to_owned(), message: "nothing to approve".to_owned() };
                let _ = reply.send(match request {
                    Request::Approve { .. } => Err(refusal()),
                    request => Ok(Answer { message: format!("{request:?} by {}", caller.uid), pass: None }),
                });
            }
        };
        println!("serving");
        tokio::join!(socket::serve(listener, receiver, requests), answer);
    });
}

/// Python that calls each method once, as another user, and prints the answers as one list.
const CALLS: &str = r#"
import json, os, socket, sys
path, uid, calls = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
s = socket.socket(socket.AF_UNIX)
s.connect(path)
def read():
    message = bytearray()
    while not message.endswith(b"\0"):
        part = s.recv(1 << 20)
        if not part: sys.exit("the connection ended")
        message += part
    return json.loads(message[:-1])
answers = []
for method, parameters in calls:
    try: s.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\0")
    except BrokenPipeError: pass
    answers.append(read())
print(json.dumps(answers))
"#;

fn calls_as(uid: u32, path: &Path, calls: &Value) -> Vec<Value> {
    let (uid, calls) = (uid.to_string(), calls.to_string());
    let output = Command::new("python3")
        .args(["-c", CALLS])
        .arg(path)
        .args([uid, calls])
        .stderr(Stdio::inherit())
        .output()
        .expect("python3");
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).expect("a list of answers")
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

#[test]
fn another_user_sees_no_content_and_changes_nothing() {
    if !is_root() {
        return;
    }
    let server = Server::start(None);
    let commit = "b81d07e000000000000000000000000000000000";
    let changes = json!([
        ["io.trueup.Agent.Sync", {}],
        ["io.trueup.Agent.Sync", {"allow_removals": 100}],
        ["io.trueup.Agent.Suspend", {"resources": [], "until": 1, "reason": ""}],
        ["io.trueup.Agent.Resume", {"resources": []}],
        ["io.trueup.Agent.Approve", {}],
        ["io.trueup.Agent.Retry", {}],
        ["io.trueup.Agent.Rollback", {"commit": commit}],
        ["io.trueup.Agent.Restore", {"copy": "k-7f31"}],
    ]);
    for answer in calls_as(65534, &server.path, &changes) {
        assert_eq!(answer, json!({"error": "io.trueup.Agent.PermissionDenied"}));
    }
    let reads = json!([
        ["io.trueup.Agent.Status", {}],
        ["io.trueup.Agent.Resources", {}],
        ["io.trueup.Agent.History", {"limit": 1}],
        ["io.trueup.Agent.Drift", {}],
        ["io.trueup.Agent.Plan", {}],
        ["org.varlink.service.GetInfo", {}],
        ["org.varlink.service.GetInterfaceDescription", {"interface": "io.trueup.Agent"}],
    ]);
    for (uid, content) in [(65534, false), (0, true)] {
        let answers = calls_as(uid, &server.path, &reads);
        assert!(answers.iter().all(|answer| answer.get("parameters").is_some()), "{uid}");
        assert_eq!(answers[2]["parameters"]["history"][0]["pass"], "01J");
        for report in [&answers[3], &answers[4]] {
            let steps = report["parameters"]["report"]["steps"].as_array().expect("steps");
            assert_eq!(steps.len(), STEPS);
            assert_eq!(steps[0]["diff"].as_array().is_some_and(|diff| !diff.is_empty()), content, "{uid}");
        }
        assert_eq!(answers.iter().any(|answer| answer.to_string().contains("a line of a file")), content, "{uid}");
    }
}

#[test]
fn the_client_speaks_with_the_agent() {
    let mut server = Server::start(None);
    let mut client = server.client();
    assert_eq!(client.status().expect("answered").host.as_deref(), Some("web-01"));
    assert_eq!(client.history(Some(5)).expect("answered")[0].pass, "01J");
    let mut told = Vec::new();
    client
        .watch(|status| {
            if told.is_empty() {
                server.change("changed");
            }
            told.push(status.message);
            if told.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .expect("told");
    assert_eq!(told, [None, Some("changed".to_owned())]);
    if !is_root() {
        assert!(matches!(client.ask(&Request::Retry), Err(ClientError::PermissionDenied)));
        return;
    }
    let requests = [
        Request::Sync { allow_removals: Some(3) },
        Request::Suspend {
            resources: vec!["file:/etc/motd".parse().expect("an id")],
            until: trueup::host::Clock::System.now() + 60,
            reason: "INC-4711".to_owned(),
        },
        Request::Resume { resources: Vec::new() },
        Request::Retry,
        Request::Rollback { commit: "4f2a9c1000000000000000000000000000000000".parse().expect("a commit") },
        Request::Restore { copy: "k-7f31".to_owned() },
    ];
    for request in &requests {
        assert_eq!(client.ask(request).expect("answered").message, format!("{request:?} by 0"));
    }
    // What was only seen may be anybody's: its digits are as many as whoever made it liked.
    let seen = client.rollback("b81d07e");
    assert!(matches!(seen, Err(ClientError::Refused { reason, .. }) if reason == "no-such-commit"));
    assert!(matches!(client.rollback("dead"), Err(ClientError::Refused { reason, .. }) if reason == "no-such-commit"));
    let refused = client.ask(&Request::Approve { commit: None });
    assert_eq!(refused.expect_err("refused").to_string(), "nothing to approve (not-held)");
    let late = Request::Suspend { resources: Vec::new(), until: 1, reason: String::new() };
    assert!(matches!(client.ask(&late), Err(ClientError::Invalid { parameter, .. }) if parameter == "until"));
    drop(server);
    assert!(matches!(client.status(), Err(ClientError::NotRunning)), "the socket is left behind, nobody listens");
}

#[test]
fn where_there_is_no_agent_the_client_says_how_to_start_it() {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let missing = Client::connect(&directory.path().join("socket")).expect_err("nobody listens");
    assert_eq!(missing.to_string(), "the agent is not running: systemctl start trueup");
}

/// Python: eight users with 125 connections each, all of them up to something, and one that sends a request of 1 GiB.
/// Says how much of that was taken and when all is under way; goes on until its standard input ends.
const HOSTILE: &str = r#"
import os, resource, signal, socket, sys
path = sys.argv[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
def become(uid):
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.settimeout(0.2)
    return s
def call(method, more=b""):
    return b'{"method":"io.trueup.Agent.' + method + b'"' + more + b'}\0'
DEEDS = [
    b'{"method":"io.trueup.Agent.Sta',
    call(b"Plan") * 500,
    call(b"Watch", b',"more":true'),
    b"x" * (1 << 20),
    b"",
    call(b"Status") * 1000,
    b"\0" * 1000,
    call(b"History"),
]
def deed(n):
    s = connect()
    try: s.sendall(DEEDS[n % len(DEEDS)])
    except OSError: pass
    return s
def user(uid, done):
    become(uid)
    held = [deed(n) for n in range(125)]
    os.write(done, b".")
    n = 0
    while True:
        held[n % 125].close()
        held[n % 125] = deed(n)
        n += 1
def giant(uid, done):
    become(uid)
    s, sent, chunk = connect(), 0, b" " * (1 << 20)
    s.settimeout(5)
    try:
        while sent < 1 << 30: sent += s.send(chunk)
    except OSError: pass
    os.write(done, b"%d\n" % sent)
children = []
def start(what, uid):
    read, done = os.pipe()
    child = os.fork()
    if child == 0:
        try: what(uid, done)
        finally: os._exit(0)
    os.close(done)
    children.append(child)
    return read
sent = start(giant, 60999)
users = [start(user, 60000 + n) for n in range(8)]
print("giant", os.read(sent, 100).decode().strip(), flush=True)
for user in users: assert os.read(user, 1) == b"."
print("under way", flush=True)
sys.stdin.read()
for child in children: os.kill(child, signal.SIGKILL)
for child in children: os.waitpid(child, 0)
"#;

struct Hostile {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Hostile {
    fn start(path: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", HOSTILE]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, output }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

#[test]
fn a_thousand_hostile_connections_hold_neither_root_nor_memory() {
    if !is_root() {
        return;
    }
    let mut server = Server::start(None);
    // Root asks for the long documents too before the memory is measured.
    calls_as(0, &server.path, &json!([["io.trueup.Agent.Plan", {}], ["io.trueup.Agent.Status", {}]]));
    let before = server.kilobytes("VmRSS:");
    let mut hostile = Hostile::start(&server.path);
    let giant = wait_for("giant", &mut hostile.output);
    let taken: u64 = giant.split_whitespace().nth(1).and_then(|sent| sent.parse().ok()).expect("a number");
    assert!(taken < 4 << 20, "{taken} bytes of a request of 1 GiB were taken, the kernel's buffers included");
    wait_for("under way", &mut hostile.output);
    let mut slowest = Duration::ZERO;
    let mut client = server.client();
    for n in 0..100 {
        server.change(&format!("change {n}"));
        let start = Instant::now();
        // Each call is a new connection, among all the others.
        client.status().expect("root is answered");
        client.ask(&Request::Retry).expect("root is heard");
        slowest = slowest.max(start.elapsed());
    }
    let after = server.kilobytes("VmHWM:");
    println!("slowest of 100 pairs of calls of root: {slowest:?}; memory {before} kB before, {after} kB at most");
    assert!(after < before + (48 << 10), "{before} kB before, {after} kB at most");
    drop(hostile);
    // What they held is free again for others.
    loop {
        let status = json!([["io.trueup.Agent.Status", {}]]);
        if calls_as(60001, &server.path, &status)[0].get("parameters").is_some() {
            return;
        }
    }
}

#[test]
fn when_no_file_can_be_opened_the_server_waits_instead_of_spinning() {
    let server = Server::start(Some(24));
    let peers: Vec<_> =
        (0..40).map(|_| std::os::unix::net::UnixStream::connect(&server.path).expect("queued")).collect();
    // There is no event for "it does not spin": its CPU time is looked at over a while.
    let (start, ticks) = (Instant::now(), server.ticks());
    std::thread::sleep(Duration::from_secs(1));
    let (took, ticks) = (start.elapsed(), server.ticks() - ticks);
    assert!(u128::from(ticks) * 10 < took.as_millis() / 10, "{ticks} ticks of CPU in {took:?}");
    drop(peers);
    server.client().status().expect("served again");
}
