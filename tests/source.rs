//! The source against real repositories and real servers on the loopback address, through the real
//! worker process.
#![allow(clippy::disallowed_methods, reason = "tests lay out repositories and start servers")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use trueup::config::SourceSettings;
use trueup::host::{Reader, Worker};
use trueup::model::CommitId;
use trueup::source::{Entry, Source, SourceError};

mod forward;
mod http;
mod local;
mod pinned;
mod server;

pub fn trueup() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_trueup"))
}

pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "init.defaultBranch=main", "-c", "user.name=Ana", "-c", "user.email=ana@example.org"])
        .args(arguments)
        .current_dir(directory)
        .env_remove("GIT_DIR")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_COMMITTER_DATE", "1700000000 +0000")
        .env("GIT_AUTHOR_DATE", "1700000000 +0000")
        .output()
        .expect("git is installed");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// The same, with `input` on its standard input.
pub fn pipe(directory: &Path, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("git")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git is installed");
    child.stdin.take().expect("asked for").write_all(input.as_bytes()).expect("reads");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "git {arguments:?}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// A scratch directory with a fleet repository `work` of one commit, and a directory that stands for a host.
pub struct Bench {
    pub at: tempfile::TempDir,
    pub worker: Worker,
}

/// How workers are started for the host below `at`.
fn worker(at: &Path, executable: &Path) -> Worker {
    Reader::directory(&at.join("machine")).expect("opens").worker(executable.to_owned())
}

impl Bench {
    pub fn new() -> Self {
        Self::with(&["init", "--quiet", "work"])
    }

    fn with(init: &[&str]) -> Self {
        let at = tempfile::tempdir().expect("tempdir");
        git(at.path(), init);
        fs::create_dir(at.path().join("machine")).expect("mkdir");
        let worker = worker(at.path(), trueup());
        let bench = Self { at, worker };
        bench.file("trueup.toml", "format = 1\n");
        bench.file("hosts/web-01/host.toml", "roles = [\"base\"]\n");
        bench.file("hosts/web-01/files/etc/motd", "welcome\n");
        bench.file("hosts/web-02/host.toml", "");
        bench.file("roles/base/role.toml", "");
        bench.file("roles/base/files/usr/local/bin/x", "#!/bin/sh\n");
        let executable = bench.work().join("roles/base/files/usr/local/bin/x");
        fs::set_permissions(executable, fs::Permissions::from_mode(0o755)).expect("chmod");
        std::os::unix::fs::symlink("motd", bench.work().join("hosts/web-01/files/etc/issue")).expect("symlink");
        bench.commit("first");
        bench
    }

    pub fn work(&self) -> PathBuf {
        self.at.path().join("work")
    }

    pub fn file(&self, path: &str, content: &str) {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().expect("in a directory")).expect("mkdir");
        fs::write(path, content).expect("write");
    }

    pub fn commit(&self, message: &str) -> CommitId {
        git(&self.work(), &["add", "--all"]);
        git(&self.work(), &["commit", "--quiet", "--allow-empty", "--message", message]);
        git(&self.work(), &["rev-parse", "HEAD"]).parse().expect("a commit id")
    }

    pub fn settings(&self, url: &str) -> SourceSettings {
        SourceSettings { allow_insecure: true, timeout: Duration::from_secs(60), ..SourceSettings::at(url) }
    }

    pub fn open(&self, settings: &SourceSettings) -> Result<Source, SourceError> {
        Source::open(settings, &self.worker)
    }

    fn local(&self) -> SourceSettings {
        self.settings(self.work().to_str().expect("UTF-8"))
    }

    /// The one clone there is.
    pub fn clone(&self) -> PathBuf {
        let names = self.clones();
        let clones: Vec<&String> = names.iter().filter(|name| !name.contains('.')).collect();
        assert_eq!(clones.len(), 1, "{names:?}");
        self.cache().join(clones[0])
    }

    pub fn cache(&self) -> PathBuf {
        self.at.path().join("machine/var/cache/trueup/clone")
    }

    /// What is in the directory of the clones.
    pub fn clones(&self) -> Vec<String> {
        let names = fs::read_dir(self.cache()).into_iter().flatten();
        let mut names: Vec<String> =
            names.map(|entry| entry.expect("reads").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    pub fn packs(&self) -> usize {
        let packs = fs::read_dir(self.clone().join("objects/pack")).expect("a clone");
        packs.filter(|entry| entry.as_ref().expect("reads").path().extension().is_some_and(|end| end == "pack")).count()
    }
}

pub fn layers(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub fn check_first(source: &mut Source) {
    assert_eq!(
        (source.tip().subject.as_str(), source.tip().author.as_str(), source.tip().time),
        ("first", "Ana", 1_700_000_000)
    );
    let mut snapshot = source.snapshot().expect("a snapshot");
    assert_eq!(snapshot.hosts, BTreeSet::from(["web-01".to_owned(), "web-02".to_owned()]));
    assert_eq!(snapshot.roles, BTreeSet::from(["base".to_owned()]));
    assert_eq!(snapshot.entries.keys().collect::<Vec<_>>(), ["trueup.toml"]);
    source.read_layers(&mut snapshot, &layers(&["hosts/web-01", "roles/base", "roles/none"])).expect("reads");
    assert_eq!(
        snapshot.entries.keys().collect::<Vec<_>>(),
        [
            "hosts/web-01/files/etc/issue",
            "hosts/web-01/files/etc/motd",
            "hosts/web-01/host.toml",
            "roles/base/files/usr/local/bin/x",
            "roles/base/role.toml",
            "trueup.toml"
        ]
    );
    assert_eq!(snapshot.entries["hosts/web-01/files/etc/issue"], Entry::Symlink { target: b"motd"[..].into() });
    let executable = Entry::File { content: b"#!/bin/sh\n"[..].into(), executable: true };
    assert_eq!(snapshot.entries["roles/base/files/usr/local/bin/x"], executable);
    let motd = Entry::File { content: b"welcome\n"[..].into(), executable: false };
    assert_eq!(snapshot.entries["hosts/web-01/files/etc/motd"], motd);
}

/// A server process that is ended with the test, and all that it started.
pub struct Server(pub Child);

impl Drop for Server {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).ok();
        drop(self.0.wait());
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

pub fn wait_for(port: u16) {
    for _ in 0..2000 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return;
        }
        thread::yield_now();
        thread::sleep(Duration::from_millis(5));
    }
    panic!("nothing listens on port {port}");
}

pub fn git_daemon(base: &Path) -> (Server, String) {
    let port = free_port();
    let daemon = Command::new("git")
        .args(["daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1"])
        .arg(format!("--port={port}"))
        .arg(format!("--base-path={}", base.display()))
        .arg(base)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("git daemon starts");
    let server = Server(daemon);
    wait_for(port);
    (server, format!("git://127.0.0.1:{port}/work"))
}

pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn background(command: &mut Command, port: u16) -> Server {
    let command = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server(command.spawn().expect("the server starts"));
    wait_for(port);
    server
}
