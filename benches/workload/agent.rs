//! The agent at rest and at its polls, looked at from outside, by /proc of the host: see proc(5).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::hosts::host::Host;
use super::hosts::lab::Lab;
use super::hosts::server::bound_to_us;
use super::{host_of, median_of};

/// How long it is watched where it has nothing to do.
const REST: Duration = Duration::from_secs(150);
/// How long it is watched where it polls each second, and so how many polls are measured.
const POLLS: u32 = 60;
/// How long anything may take to come about.
const PATIENCE: Duration = Duration::from_secs(120);
/// The port of the server whose requests are counted.
const PORT: u16 = 8444;
/// What stat of proc(5) counts in: `sysconf(_SC_CLK_TCK)`, which is 100 wherever Linux has a stable interface.
const TICK: f64 = 10.0;

/// What the agent took, for one size.
pub struct Agent {
    /// Hours before its next poll.
    pub rest: Rest,
    /// At its polls over https.
    pub https: Polls,
    /// At its polls over `git://`: the same without TLS and HTTP.
    pub git: Polls,
}

/// An agent that waits.
pub struct Rest {
    /// Right after its first pass, and after many polls.
    pub memory: [Memory; 2],
    /// Its threads.
    pub threads: usize,
    /// How often any of them was woken, a minute.
    pub wakes: f64,
    /// What it used, in milliseconds a minute.
    pub cpu: f64,
}

/// In bytes; see proc_pid_smaps(5).
#[derive(Clone, Copy)]
pub struct Memory {
    /// Proportional set size.
    pub pss: u64,
    /// Of that, what is no file.
    pub own: u64,
    /// Resident set size.
    pub rss: u64,
}

/// One poll with nothing new, of many.
pub struct Polls {
    /// CPU of the agent itself, in milliseconds.
    pub agent: f64,
    /// CPU of all that it started and waited for: the fetch worker.
    pub worker: f64,
    /// From its begin to its end, in milliseconds, as the status has it.
    pub took: f64,
    /// Requests that the server saw.
    pub requests: f64,
}

/// Puts the agent's own units on the host; a package would bring them.
pub fn prepare(host: &Host) {
    for unit in ["trueup.service", "trueup.socket"] {
        let text = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(unit)).expect("a unit of ours");
        host.write(&format!("/usr/lib/systemd/system/{unit}"), text);
    }
}

/// Measures the agent of the host W(n), which has converged.
pub fn measure(host: &Host, lab: &Lab, n: usize) -> Agent {
    let address = lab.network.address();
    let https = format!("https://{address}:{PORT}/fleet.git");
    let git = format!("git://{address}/fleet.git");
    let [http_server, git_server] = [Counted::https(lab), Counted::git(lab)];

    start(host, n, &https, "1d");
    let memory = memory(host);
    let (before, began) = (Sample::take(host), Instant::now());
    sleep(REST);
    let (after, minutes) = (Sample::take(host), began.elapsed().as_secs_f64() / 60.0);
    let (wakes, cpu) = ((after.switches - before.switches) as f64 / minutes, (after.cpu - before.cpu) / minutes);

    let https = polls(host, n, &https, &http_server);
    let used = memory_of(host);
    let threads = fs::read_dir(process(host).join("task")).expect("it runs").count();
    let git = polls(host, n, &git, &git_server);
    host.ok(&["systemctl", "stop", "trueup.service"]);
    Agent { rest: Rest { memory: [memory, used], threads, wakes, cpu }, https, git }
}

fn memory(host: &Host) -> Memory {
    // What the pass has just given back is given back to the kernel a moment later, if at all.
    sleep(Duration::from_secs(5));
    memory_of(host)
}

/// Polls each second, for a minute.
fn polls(host: &Host, n: usize, url: &str, server: &Counted) -> Polls {
    start(host, n, url, "1s");
    // The first of them may still have caches to fill.
    sleep(Duration::from_secs(5));
    let (before, requests) = (Sample::take(host), server.requests());
    sleep(Duration::from_secs(u64::from(POLLS)));
    let (after, requests) = (Sample::take(host), server.requests() - requests);
    let each = |all: f64| all / f64::from(POLLS);
    let mut took: Vec<f64> = (0..9).map(|_| took(host)).collect();
    Polls {
        agent: each(after.ticks - before.ticks),
        worker: each(after.children - before.children),
        took: median_of(&mut took),
        requests: each(requests as f64),
    }
}

/// How long one pass took.
fn took(host: &Host) -> f64 {
    sleep(Duration::from_secs(1));
    status(host)["last"]["took_ms"].as_f64().expect("there was a pass")
}

/// Starts the agent anew and waits until its first pass is over.
fn start(host: &Host, n: usize, url: &str, interval: &str) {
    host.write(
        "/etc/trueup/agent.toml",
        format!(
            "[source]\nurl = \"{url}\"\nca_file = \"/etc/trueup/ca.pem\"\nallow_insecure = true\ninterval = \"{interval}\"\n\
             [host]\nname = \"{}\"\n",
            host_of(n)
        ),
    );
    host.ok(&["systemctl", "restart", "trueup.service"]);
    let began = Instant::now();
    loop {
        let status = status(host);
        if status["last"]["state"] == "in-sync" && status["running"].is_null() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the agent did not come to rest: {status:#}");
        sleep(Duration::from_millis(200));
    }
}

fn status(host: &Host) -> serde_json::Value {
    let output = host.run(&["trueup", "status", "--json"]);
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("no status ({error}): {output:?}"))
}

/// The agent in the host's /proc, seen from the machine: to look at it is no work for the host.
fn process(host: &Host) -> PathBuf {
    host.root().join("proc").join(host.unit("trueup.service", "MainPID"))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn memory_of(host: &Host) -> Memory {
    let rollup = text(&process(host).join("smaps_rollup"));
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{rollup}"));
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    };
    Memory { pss: field("Pss:"), own: field("Pss_Anon:"), rss: field("Rss:") }
}

/// What the agent has done so far.
struct Sample {
    /// How often its threads were put to sleep, and so woken.
    switches: u64,
    /// What its threads that are there used, in milliseconds, to the nanosecond.
    cpu: f64,
    /// What the process used, in milliseconds, to the tick.
    ticks: f64,
    /// The same of the children that it waited for.
    children: f64,
}

impl Sample {
    fn take(host: &Host) -> Self {
        let process = process(host);
        let (mut switches, mut cpu) = (0, 0.0);
        for task in fs::read_dir(process.join("task")).expect("it runs").flatten() {
            // One that ends meanwhile is one of a pass.
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            switches += line.and_then(|count| count.trim().parse::<u64>().ok()).expect("a number");
            let run = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let run = run.split_whitespace().next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok());
            cpu += run.unwrap_or_default() / 1e6;
        }
        // The name of the program, in parentheses, may hold anything.
        let stat = text(&process.join("stat"));
        let rest = stat.rsplit_once(')').expect("a name").1;
        let fields: Vec<f64> = rest.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect();
        // From the third field on: utime is the 14th, then stime, cutime, cstime.
        let [user, system, children_user, children_system] = fields[11..15] else { panic!("{stat}") };
        Self { switches, cpu, ticks: (user + system) * TICK, children: (children_user + children_system) * TICK }
    }
}

/// A Git server whose requests are counted by the lines that it writes of them.
struct Counted {
    server: Child,
    log: PathBuf,
    line: &'static str,
}

impl Counted {
    fn https(lab: &Lab) -> Self {
        let (address, tls) = (lab.network.address(), lab.directory("tls"));
        let mut command = bound_to_us("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hosts/https_git.py"));
        command.arg(format!("--listen={address}:{PORT}")).arg(format!("--root={}", lab.served().display()));
        command.arg(format!("--certificate={}", tls.join("server.pem").display()));
        command.arg(format!("--key={}", tls.join("server.key").display()));
        Self::start(command, lab.directory("https.log"), "listening", "HTTP/1.1\"")
    }

    fn git(lab: &Lab) -> Self {
        let path = std::process::Command::new("git").arg("--exec-path").output().expect("git is there").stdout;
        let program = Path::new(String::from_utf8_lossy(&path).trim()).join("git-daemon");
        let mut command = bound_to_us(program);
        command.args(["--verbose", "--export-all", "--reuseaddr", "--port=9418"]);
        command.arg(format!("--listen={}", lab.network.address()));
        command.arg(format!("--base-path={}", lab.served().display())).arg(lab.served());
        Self::start(command, lab.directory("git.log"), "Ready to rumble", "Request ")
    }

    fn start(mut command: std::process::Command, log: PathBuf, ready: &str, line: &'static str) -> Self {
        let file = File::create(&log).expect("a file of the lab's own");
        command.stdout(file.try_clone().expect("a second handle")).stderr(file).stdin(Stdio::null());
        let counted = Self { server: command.spawn().expect("setpriv starts"), log, line };
        let began = Instant::now();
        while !text(&counted.log).contains(ready) {
            assert!(began.elapsed() < PATIENCE, "{}", text(&counted.log));
            sleep(Duration::from_millis(20));
        }
        counted
    }

    fn requests(&self) -> usize {
        text(&self.log).lines().filter(|line| line.contains(self.line)).count()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}
