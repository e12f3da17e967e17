//! Hosts that have trueup from its package, with its agent running.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

use super::host::Running;
use super::{Host, Lab, Variant};

/// The deb of the program that is tested; its path. Built once a run.
pub fn deb() -> PathBuf {
    static DEB: LazyLock<PathBuf> = LazyLock::new(|| package(&["deb", "--debug"]));
    DEB.clone()
}

/// Builds a package of the program that is tested, with more arguments of packaging/build.
pub fn package(arguments: &[&str]) -> PathBuf {
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/build");
    let output = Command::new(build)
        .args(arguments)
        .args(["--binary", env!("CARGO_BIN_EXE_trueup")])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("packaging/build starts");
    assert!(output.status.success(), "packaging/build ended with {}", output.status);
    PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end())
}

/// What the agent of most tests has in its configuration: it looks each second or two, so that tests are quick.
pub const QUICK: &str = "interval = \"2s\"\n";

impl Lab {
    /// Boots a host that follows the fleet and has the deb installed; its agent runs.
    pub fn boot_installed(&self, name: &str, more: &str) -> Host {
        let host = self.boot_plain(Variant::Bookworm, name, &self.agent_files(more));
        host.install(&deb());
        host
    }
}

impl Host {
    /// Installs a deb of the machine; configuration that stands there stays.
    pub fn install(&self, deb: &std::path::Path) {
        let name = deb.file_name().expect("a file").to_str().expect("text").to_owned();
        self.copy_in(deb, &format!("/srv/{name}"));
        self.ok(&["dpkg", "--force-confold", "-i", &format!("/srv/{name}")]);
    }

    /// The status document.
    #[track_caller]
    pub fn status(&self) -> Value {
        let output = self.run(&["trueup", "status", "--json"]);
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("no status: {error}: {output:?}"))
    }

    /// Watches the status until it is as wanted.
    #[track_caller]
    pub fn await_status(&self, what: &str, mut until: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for line in Lines::of(self.spawn(&["timeout", "120", "trueup", "status", "--watch", "--json"], None)) {
            last = serde_json::from_str(&line).unwrap_or_else(|error| panic!("not a status: {error}: {line}"));
            if until(&last) {
                return last;
            }
        }
        panic!("{}: {what} never came; the last status: {last:#}", self.name());
    }

    /// Waits until this revision holds here, whole.
    #[track_caller]
    pub fn await_applied(&self, commit: &str) -> Value {
        self.await_status(&format!("{commit} applied"), |status| {
            status["revision"]["applied"] == *commit && status["state"] == "in-sync"
        })
    }

    /// Waits until this many passes came to their end.
    #[track_caller]
    pub fn await_passes(&self, count: usize) {
        let mut seen = Vec::new();
        self.await_status(&format!("{count} passes"), |status| {
            if let Some(pass) = status["last"]["pass"].as_str().map(ToOwned::to_owned)
                && !seen.contains(&pass)
            {
                seen.push(pass);
            }
            // The first may have ended long ago.
            seen.len() > count
        });
    }

    /// Entries of the journal that match, oldest first.
    #[track_caller]
    pub fn journal(&self, matches: &[&str]) -> Vec<Value> {
        let text = self.ok(&[&["journalctl", "-b", "-q", "-o", "json", "--no-pager"], matches].concat());
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Does something, and waits for the entry of the journal that matches and comes of it.
    #[track_caller]
    pub fn await_journal(&self, matches: &[&str], disturb: impl FnOnce()) -> Value {
        // By time: a cursor together with matches loses the first that matches.
        let since = self.ok(&["date", "+--since=@%s.%6N"]);
        disturb();
        let journalctl = ["timeout", "120", "journalctl", "-b", "-q", "-o", "json", "--no-tail", "-f", since.trim()];
        let follow = [&journalctl, matches].concat();
        let line = Lines::of(self.spawn(&follow, None)).next();
        let line = line.unwrap_or_else(|| panic!("{}: nothing in the journal that matches {matches:?}", self.name()));
        serde_json::from_str(&line).expect("JSON")
    }
}

/// The lines that a command on a host prints, as they come; it is ended with this.
pub struct Lines {
    running: Running,
    reader: BufReader<std::process::ChildStdout>,
}

impl Lines {
    /// Of a command that was just started.
    pub fn of(mut running: Running) -> Self {
        let reader = BufReader::new(running.stdout());
        Self { running, reader }
    }
}

impl Iterator for Lines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.running.end();
    }
}
