//! Hosts that have trueup from its package, with its agent running.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

use super::host::{Output, Running};
use super::lab::HTTPS_PORT;
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

/// As long as this is there, neither [`SLOW`] starts nor does what makes the application's directory come to its end.
pub const WAIT: &str = "/run/wait";

/// In the place of systemd-tmpfiles: tells when it begins and ends.
const TMPFILES: &str = "#!/bin/sh\ncase $* in *trueup.conf*) exec /usr/bin/systemd-tmpfiles \"$@\" ;; esac\n\
                        echo began >>/run/steps\nwhile [ -e /run/wait ]; do sleep 0.1; done\n\
                        /usr/bin/systemd-tmpfiles \"$@\"\nstatus=$?\necho ended >>/run/steps\nexit $status\n";

/// Holds inside a step that runs a program.
pub const INSIDE_PROGRAM: &str = "[ \"$(tail -n 1 /run/steps)\" = began ]";

/// Holds inside a step that starts [`SLOW`].
pub const INSIDE_START: &str = "systemctl show -p ActiveState slow | grep -qx ActiveState=activating";

/// A unit that is started once it is waited for no more.
pub const SLOW: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\n\
                        ExecStart=/bin/sh -c 'while [ -e /run/wait ]; do sleep 0.1; done'\n\
                        [Install]\nWantedBy=multi-user.target\n";

/// Where hosts have the authority of the lab's servers.
const CA: &str = "/etc/trueup/ca.pem";

impl Lab {
    /// What a host needs so that its agent can be set up to follow the fleet, and does so quickly.
    pub fn ready_for_setup(&self) -> Vec<(String, Vec<u8>)> {
        vec![
            (CA.to_owned(), self.authority().certificate()),
            ("/etc/trueup/agent.d/quick.toml".to_owned(), format!("[source]\n{QUICK}").into_bytes()),
        ]
    }

    /// Commits a fleet in which a unit of `host` uses a file, and needs a directory, with `more` in its manifest.
    pub fn app(&mut self, host: &str, port: &str, more: &str) -> String {
        let watching = "[units.\"app.service\"]\nenabled = true\nactive = true\nwatch = [\"/etc/app.conf\"]\n";
        let unit = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";
        self.fleet.write(&format!("hosts/{host}/host.toml"), format!("{watching}{more}"));
        self.fleet.write(&format!("hosts/{host}/files/etc/app.conf"), format!("port = {port}\n"));
        self.fleet.write(&format!("hosts/{host}/files/etc/tmpfiles.d/app.conf"), format!("d /run/app-{port}\n"));
        self.fleet.write(&format!("hosts/{host}/units/app.service"), unit);
        self.fleet.commit(port)
    }

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

    /// Has the agent follow the lab's fleet, as its root would.
    pub fn set_up(&self, lab: &Lab) {
        self.write("/usr/local/sbin/systemd-tmpfiles", TMPFILES);
        self.ok(&["chmod", "755", "/usr/local/sbin/systemd-tmpfiles"]);
        let url = format!("https://{}:{HTTPS_PORT}/fleet.git", lab.network.address());
        let told = self.ok(&["trueup", "setup", &url, "--ca-file", CA, "--yes"]);
        assert!(told.contains("trueup.service is enabled"), "{told}");
    }

    /// No program that a step ran was cut short.
    #[track_caller]
    pub fn steps_are_whole(&self) {
        let steps = self.read("/run/steps");
        assert!(steps.lines().eq(["began", "ended"].into_iter().cycle().take(steps.lines().count())), "{steps}");
    }

    /// Neither the agent nor its worker runs.
    #[track_caller]
    pub fn no_agent(&self) {
        let all = self.ok(&["ps", "-eo", "comm,args"]);
        assert!(!all.contains("trueup agent") && !all.contains("trueup-fetch"), "{all}");
    }

    /// The agent's process, as the host counts.
    pub fn agent(&self) -> String {
        self.unit("trueup.service", "MainPID")
    }

    /// The agent's program, as it was when the process started.
    pub fn program(&self) -> String {
        self.ok(&["readlink", &format!("/proc/{}/exe", self.agent())]).trim().to_owned()
    }

    /// Waits until a shell script ends well.
    #[track_caller]
    pub fn await_that(&self, script: &str) {
        let wait = format!("until {script}; do sleep 0.05; done");
        let waited = self.run(&["timeout", "120", "sh", "-uc", &wait]);
        assert_eq!(waited.status, 0, "{}: `{script}` never held", self.name());
    }

    /// Has `upgrade` put another program in the agent's place while the pass is `inside` a step that lasts as long as
    /// there is [`WAIT`]. It is not waited for, the step is not cut short, and another agent follows.
    #[track_caller]
    pub fn upgraded_inside(&self, inside: &str, upgrade: impl FnOnce()) {
        let before = self.agent();
        self.await_that(inside);
        upgrade();
        self.await_that("[ \"$(systemctl show --value -p ActiveState trueup)\" = deactivating ]");
        assert_eq!(self.program(), "/usr/bin/trueup (deleted)", "the old agent goes on");
        assert!(self.agent() == before && self.holds(inside), "it was cut short");
        self.ok(&["rm", WAIT]);
        self.await_that(&format!("[ \"$(systemctl show --value -p MainPID trueup)\" != {before} ]"));
        self.await_that("systemctl --quiet is-active trueup");
        assert_eq!(self.program(), "/usr/bin/trueup");
    }

    /// The agent ends while a package transaction of its own is `inside` something that lasts as long as there is
    /// [`WAIT`]. The transaction goes on, and another agent waits for it.
    #[track_caller]
    pub fn upgraded_by_itself(&self, before: &str, inside: &str) {
        self.await_that(inside);
        let other = format!("pid=$(systemctl show --value -p MainPID trueup); [ $pid != {before} ] && [ $pid != 0 ]");
        self.await_that(&format!("{{ {other}; }}"));
        self.await_that("systemctl --quiet is-active trueup");
        assert_eq!(self.program(), "/usr/bin/trueup");
        assert!(self.holds(inside), "it was cut short");
        self.ok(&["rm", WAIT]);
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
        let watch = ["timeout", "--foreground", "120", "trueup", "status", "--watch", "--json"];
        let mut lines = Lines::of(self.spawn(&watch, None));
        for line in &mut lines {
            last = serde_json::from_str(&line).unwrap_or_else(|error| panic!("not a status: {error}: {line}"));
            if until(&last) {
                return last;
            }
        }
        let ended = lines.ended();
        panic!("{}: {what} never came; the last status: {last:#}; {ended:?}", self.name());
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
        let journalctl =
            ["timeout", "--foreground", "120", "journalctl", "-b", "-q", "-o", "json", "--no-tail", "-f", since.trim()];
        let follow = [&journalctl, matches].concat();
        let line = Lines::of(self.spawn(&follow, None)).next();
        let line = line.unwrap_or_else(|| panic!("{}: nothing in the journal that matches {matches:?}", self.name()));
        serde_json::from_str(&line).expect("JSON")
    }
}

/// The lines that a command on a host prints, as they come; it is ended with this.
pub struct Lines {
    running: Option<Running>,
    reader: BufReader<std::process::ChildStdout>,
}

impl Lines {
    /// Of a command that was just started.
    pub fn of(mut running: Running) -> Self {
        let reader = BufReader::new(running.stdout());
        Self { running: Some(running), reader }
    }

    /// How the command ended that has printed its last line.
    pub fn ended(mut self) -> Output {
        self.running.take().expect("it is running until then").wait()
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
        if let Some(running) = &mut self.running {
            running.end();
        }
    }
}
