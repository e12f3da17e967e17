//! A pass that is struck: killed at a system call, or one of its calls fails, or its state is damaged. Whatever it is,
//! each managed file is the old or the new one, nothing is claimed that does not hold, and passes after it converge.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use trueup::config;
use trueup::host::{Clock, Reader, Writer};
use trueup::reconcile::{self, Ask};
use trueup::report::{Report, State};

use super::scratch::put;
use super::source::{git, trueup};

mod alone;
mod documents;
mod failing;
mod killed;

/// What somebody can see at a path: type, mode, owner, group, and content or target.
type Node = (char, u32, u32, u32, Vec<u8>);
/// A directory that stands for a host, without our own state.
type Tree = BTreeMap<String, Node>;

/// Calls that change a file system, or make a change last.
pub const EFFECTS: &[&str] = &[
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "syncfs",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "link",
    "linkat",
    "symlinkat",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "ftruncate",
    "fsetxattr",
    "copy_file_range",
];

/// A fleet of two revisions that differ in everything a file can be, and a host that is at the first.
struct Scene {
    scratch: tempfile::TempDir,
    /// How many files of one directory change.
    files: usize,
    commits: [String; 3],
    first: Tree,
    second: Tree,
}

/// The `n`th of `call` in a pass.
#[derive(Debug, Clone)]
struct Place {
    call: String,
    n: usize,
    /// It writes, or opens what it may have to make, and on no pipe: that a worker or a reader is gone is not the disk.
    stores: bool,
    /// The path of the descriptor that it is given, where it is given one.
    on: String,
}

const HOST: &str = r#"
[files."/etc/app/1"]
owner = "OWNER"
group = "OWNER"
mode = "MODE"

[files."/etc/link"]
type = "symlink"
target = "REVISION"

[files."/etc/attributes"]
attributes_only = true
mode = "MODE"
"#;

/// What is a file or a link in one of them is a directory or a link in the other.
const OLD: &str = r#"
[files."/etc/flips/directory"]
type = "directory"

[files."/etc/flips/link"]
type = "symlink"
target = "old"

[files."/etc/flips/*"]
replace = "any"
"#;
const NEW: &str = r#"
[files."/etc/flips/file"]
type = "directory"

[files."/etc/flips/directory"]
type = "symlink"
target = "new"

[files."/etc/flips/*"]
replace = "any"

[files."/etc/unwanted"]
state = "absent"
"#;

/// Few enough that each change is made durable by itself.
const FEW: usize = 3;
/// So many that they are made durable together.
const MANY: usize = 40;

impl Scene {
    fn new(files: usize) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let mut scene = Self { scratch, files, commits: Default::default(), first: Tree::new(), second: Tree::new() };
        fs::create_dir(scene.at("repo")).expect("made");
        git(&scene.at("repo"), &["init", "--quiet"]);
        for (path, content) in [
            ("passwd", "root:x:0:0::/root:/bin/sh\napp:x:1234:1234::/:/bin/sh\n"),
            ("group", "root:x:0:\napp:x:1234:\n"),
            ("taken", "theirs\n"),
            ("given", "theirs\n"),
            ("unwanted", "theirs\n"),
            ("attributes", "theirs\n"),
        ] {
            put(&scene.at("root/etc").join(path), content);
        }
        // Each contains the one before, so that going back is a third.
        scene.commits = ["old", "new", "old"].map(|revision| scene.commit(revision));
        scene.check_out(0);
        scene.converge(0, "the first revision");
        scene.first = scene.tree();
        copy(&scene.at("root"), &scene.at("before"));
        scene.check_out(1);
        scene.converge(0, "the second revision");
        scene.second = scene.tree();
        assert!(scene.first.keys().ne(scene.second.keys()));
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn commit(&self, revision: &str) -> String {
        let repo = self.at("repo");
        for name in ["hosts", "trueup.toml"] {
            drop(fs::remove_dir_all(repo.join(name)));
        }
        let write = |path: &str, content: &str| put(&repo.join(path), content);
        let host = |path: &str, content: &str| write(&format!("hosts/web-01/{path}"), content);
        write("trueup.toml", "format = 1\n");
        let old = revision == "old";
        let (owner, mode) = if old { ("root", "0640") } else { ("app", "0600") };
        let declared = HOST.replace("OWNER", owner).replace("MODE", mode).replace("REVISION", revision);
        host("host.toml", &(declared + if old { OLD } else { NEW }));
        for n in 0..self.files {
            host(&format!("files/etc/app/{n}"), &format!("{revision} {n}\n").repeat(100));
        }
        host("units/app.service", &format!("[Service]\nExecStart=/bin/sleep infinity\n# {revision}\n"));
        host(&format!("units/{revision}.service"), "[Service]\nExecStart=/bin/sleep infinity\n");
        host("units/app.service.d/limits.conf", &format!("[Service]\nNice={}\n", revision.len()));
        host(&format!("files/etc/only-{revision}/deep/x"), revision);
        host(if old { "files/etc/given" } else { "files/etc/taken" }, "ours\n");
        if old {
            host("files/etc/flips/file", "old\n");
            host("files/etc/flips/directory/x", "old\n");
        } else {
            host("files/etc/flips/file/x", "new\n");
            host("files/etc/flips/link", "new\n");
        }
        git(&repo, &["add", "--all"]);
        git(&repo, &["commit", "--quiet", "--message", revision]);
        git(&repo, &["rev-parse", "HEAD"])
    }

    /// The branch is at this commit. The work tree is not looked at.
    fn check_out(&self, which: usize) {
        put(&self.at("repo/.git/refs/heads/main"), &format!("{}\n", self.commits[which]));
    }

    /// The host is as it was before the second revision, which is to come.
    fn begin(&self) {
        fs::remove_dir_all(self.at("root")).expect("removed");
        copy(&self.at("before"), &self.at("root"));
        self.check_out(1);
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(trueup());
        self.of(&mut command, verb);
        command
    }

    fn of(&self, command: &mut Command, verb: &str) {
        command.args([verb, "--host", "web-01", "--json", "--root"]).arg(self.at("root"));
        command.arg("--repo").arg(self.at("repo"));
    }

    /// A pass under strace(1), of its own process only: the fetch worker has sweeps of its own.
    fn strace(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "300", "strace", "-qq"]).args(arguments).arg(trueup());
        self.of(&mut command, "run");
        command
    }

    fn struck(&self, strace: &[&str]) -> Output {
        self.strace(strace).output().expect("it starts")
    }

    /// The host, hours after the pass that was struck: what failed and waited before it is tried again does no longer.
    fn reader(&self, hours: i64) -> Reader {
        let host = Reader::directory(&self.at("root")).expect("opens");
        let now = host.now();
        host.with_clock(Clock::Fixed(now + hours * 3600))
    }

    fn ask(&self, command: &'static str, host: &Reader) -> Ask {
        let mut settings = config::settings(&[]).expect("no settings are valid settings");
        settings.host.name = Some("web-01".to_owned());
        Ask { local: Some(self.at("repo")), ..Ask::new(command, settings, host, trueup().to_owned()) }
    }

    /// A pass that nothing strikes.
    fn pass(&self, hours: i64) -> Report {
        let host = self.reader(hours);
        let ask = self.ask("run", &host);
        reconcile::pass(&mut Writer::take(host).expect("nobody else is here"), &ask, |_, _| ())
    }

    fn converge(&self, hours: i64, what: &str) {
        let report = self.pass(hours);
        assert!(report.converged() && report.state == State::InSync, "{what}: {report:#?}");
    }

    /// What a pass of the second revision calls, in order, from where the program itself begins.
    fn places(&self) -> Vec<Place> {
        self.begin();
        let trace = self.at("trace");
        let output = self.struck(&["-y", "-o", trace.to_str().expect("text")]);
        assert!(output.status.success(), "{}", text(&output));
        let (mut counts, mut places) = (BTreeMap::<String, usize>::new(), Vec::new());
        let mut begun = false;
        for line in fs::read_to_string(trace).expect("a trace").lines() {
            let Some((call, _)) = line.split_once('(') else { continue };
            if call == "exit_group" || !call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                continue;
            }
            // The first thing that Rust's own start does; what comes before is the loader.
            begun |= call == "sigaltstack" || call == "poll";
            let n = counts.entry(call.to_owned()).or_default();
            *n += 1;
            if begun {
                let piped = ["<pipe:", "<anon_inode:", "<socket:", "<UNIX"].iter().any(|to| line.contains(to));
                let stores = EFFECTS.contains(&call) && !piped || line.contains("O_CREAT");
                let on = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).unwrap_or_default().0;
                places.push(Place { call: call.to_owned(), n: *n, stores, on: on.to_owned() });
            }
        }
        places
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        walk(&self.at("root"), "", &mut tree);
        tree.retain(|path, _| path != "/var" && !path.starts_with("/var/"));
        tree
    }

    /// Everything is the old one or the new one; what is neither has one of our temporary names.
    fn is_whole(&self, when: &str) {
        let tree = self.tree();
        let paths: BTreeSet<&String> = tree.keys().chain(self.first.keys()).chain(self.second.keys()).collect();
        for path in paths.into_iter().filter(|path| !is_temporary(path)) {
            let seen = tree.get(path);
            let (old, new) = (self.first.get(path), self.second.get(path));
            assert!(seen == old || seen == new, "{when}: {path} is {seen:?}, which is neither {old:?} nor {new:?}");
        }
    }

    /// The next pass converges, nothing is left over, nothing is to be done, and a revert brings the first tree back.
    fn recovers(&self, when: &str) {
        if !self.pass(1).converged() {
            self.converge(2, &format!("{when}: the second pass after it"));
        }
        self.is_at(&self.second, when);
        let host = self.reader(2);
        let looked = reconcile::look(&host, &self.ask("plan", &host), &mut Report::new("plan")).expect("it looks");
        assert!(looked.plan.is_empty(), "{when}: {:#?}", looked.plan);
        self.check_out(2);
        self.converge(3, &format!("{when}: the revert"));
        self.is_at(&self.first, &format!("{when}: the revert"));
    }

    fn is_at(&self, wanted: &Tree, when: &str) {
        let tree = self.tree();
        for path in tree.keys().chain(wanted.keys()).collect::<BTreeSet<_>>() {
            assert_eq!(tree.get(path), wanted.get(path), "{when}: {path}");
        }
        let mut own = Tree::new();
        walk(&self.at("root/var"), "", &mut own);
        let left: Vec<&String> = own.keys().filter(|path| path.ends_with('~')).collect();
        assert_eq!(left, Vec::<&String>::new(), "{when}");
    }

    /// A document of our own state, as JSON; none where it is not there.
    fn document(&self, name: &str) -> Option<Value> {
        let text = fs::read_to_string(self.at("root/var/lib/trueup").join(name)).ok()?;
        serde_json::from_str(text.split_once('\n')?.1).ok()
    }

    /// Whether a pass has said what it is about to do, and not yet what came of it.
    fn is_inside(&self) -> bool {
        let ledger = self.document("ledger").or_else(|| self.document("ledger.previous")).expect("a ledger");
        let entries = ledger["entries"].as_object().expect("entries");
        entries.values().any(|entry| !entry["intended"].is_null())
            || ledger["writing"].as_array().is_some_and(|writing| !writing.is_empty())
    }
}

fn is_temporary(path: &str) -> bool {
    path.split('/').any(|name| name.starts_with(".trueup-") && name.ends_with('~'))
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().expect("cp(1)");
    assert!(status.success());
}

fn walk(directory: &Path, below: &str, tree: &mut Tree) {
    for entry in fs::read_dir(directory).expect("readable") {
        let entry = entry.expect("readable");
        let path = format!("{below}/{}", entry.file_name().to_str().expect("text"));
        let meta = entry.metadata().expect("there");
        let (kind, content) = if meta.is_dir() {
            walk(&entry.path(), &path, tree);
            ('d', Vec::new())
        } else if meta.is_symlink() {
            ('l', fs::read_link(entry.path()).expect("a link").into_os_string().into_encoded_bytes())
        } else {
            ('f', fs::read(entry.path()).expect("readable"))
        };
        tree.insert(path, (kind, meta.mode() & 0o7777, meta.uid(), meta.gid(), content));
    }
}

fn text(output: &Output) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", output.status, part(&output.stdout), part(&output.stderr))
}
