//! One program, from its start to its end.

use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// What a program took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// From start to end, in milliseconds.
    pub wall: f64,
    /// Of the program and of all that it waited for, user and system, in milliseconds.
    pub cpu: f64,
    /// Of the largest process among them, in KiB.
    pub peak: u64,
    /// Its exit status; -1 after a signal.
    pub status: i32,
    /// What it wrote to standard error.
    pub said: String,
}

impl Measured {
    /// On one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data")
    }

    /// What `to_json` wrote.
    pub fn from_json(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("no measurement ({error}): {text}"))
    }
}

/// Runs `program` and waits for it. This process has to have had no other child: what getrusage(2) tells is of
/// all children together, and a child starts out with the peak of its parent, so this program stays small.
pub fn run(program: &str, arguments: &[&str]) -> Measured {
    let began = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let wall = began.elapsed().as_secs_f64() * 1e3;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage does not fail");
    Measured {
        wall,
        cpu: milliseconds(usage.user_time()) + milliseconds(usage.system_time()),
        peak: u64::try_from(usage.max_rss()).unwrap_or(0),
        status: output.status.code().unwrap_or(-1),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What this process has used so far, user and system, in milliseconds.
pub fn own_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage does not fail");
    milliseconds(usage.user_time()) + milliseconds(usage.system_time())
}

fn milliseconds(time: nix::sys::time::TimeVal) -> f64 {
    time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3
}
