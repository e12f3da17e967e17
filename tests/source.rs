//! The source against real repositories and real servers on the loopback address, through the real
//! worker process.
#![allow(clippy::disallowed_methods, reason = "tests lay out repositories and start servers")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use trueup::config::SourceSettings;
use trueup::host::{Reader, Worker};
use trueup::model::{Class, CommitId};
use trueup::source::{BadName, Entry, Origin, Record, Source, SourceError, Stands};

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

// Repositories of this machine.

#[test]
fn a_path_and_a_file_url_are_read_in_place() {
    let bench = Bench::new();
    check_first(&mut bench.open(&bench.local()).expect("opens"));
    let url = format!("file://{}", bench.work().display());
    check_first(&mut bench.open(&bench.settings(&url)).expect("opens"));
    git(bench.at.path(), &["clone", "--quiet", "--bare", "work", "bare.git"]);
    let bare = bench.at.path().join("bare.git");
    check_first(&mut bench.open(&bench.settings(bare.to_str().expect("UTF-8"))).expect("opens"));
    assert!(bench.clones().is_empty(), "nothing is cloned");
}

#[test]
fn a_repository_of_sha_256_is_read_as_well() {
    let bench = Bench::with(&["init", "--quiet", "--object-format=sha256", "work"]);
    let mut source = bench.open(&bench.local()).expect("opens");
    assert_eq!(source.tip().commit.as_ref().map(|id| id.as_str().len()), Some(64));
    check_first(&mut source);
}

#[test]
fn a_repository_with_hostile_settings_of_its_own_runs_nothing() {
    let bench = Bench::new();
    let mark = bench.at.path().join("ran");
    let touch = format!("touch {}", mark.display());
    for key in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "uploadpack.packObjectsHook",
        "filter.x.smudge",
        "core.gitProxy",
    ] {
        git(&bench.work(), &["config", key, &touch]);
    }
    check_first(&mut bench.open(&bench.local()).expect("opens"));
    assert!(!mark.exists());
}

#[test]
fn what_is_no_repository_is_named_with_its_reason() {
    let bench = Bench::new();
    let refused = |path: &str| bench.open(&bench.settings(path)).expect_err("no repository");
    let error = refused("/nowhere/fleet.git");
    assert_eq!(
        (error.reason(), error.to_string().as_str()),
        ("cannot-read", "cannot read /nowhere/fleet.git: No such file or directory")
    );
    let empty = bench.at.path().join("empty");
    fs::create_dir(&empty).expect("mkdir");
    let error = refused(empty.to_str().expect("UTF-8"));
    assert_eq!((error.reason(), error.class()), ("not-a-repository", Class::Stalled));
    assert!(error.to_string().contains(empty.to_str().expect("UTF-8")), "{error}");
    let error = bench.open(&SourceSettings { branch: "absent".to_owned(), ..bench.local() }).expect_err("no branch");
    assert_eq!((error.reason(), error.class()), ("no-such-branch", Class::Stalled));
    assert!(error.to_string().ends_with("has no branch absent"), "{error}");
}

#[test]
fn a_directory_that_may_not_be_read_is_named() {
    // For root nothing is forbidden, so the worker runs as somebody else, through a wrapper.
    if Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout != b"0\n") {
        eprintln!("skipped: has to be root to become somebody else");
        return;
    }
    let bench = Bench::new();
    let open_to_all = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    open_to_all(bench.at.path(), 0o755);
    let program = bench.at.path().join("trueup");
    fs::copy(trueup(), &program).expect("copy");
    open_to_all(&program, 0o755);
    let wrapper = bench.at.path().join("as-nobody");
    fs::write(
        &wrapper,
        format!("#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups {} \"$@\"\n", program.display()),
    )
    .expect("write");
    open_to_all(&wrapper, 0o755);
    for path in ["", ".git/objects"] {
        let path = bench.work().join(path);
        open_to_all(&path, 0o700);
        let error = Source::open(&bench.local(), &worker(bench.at.path(), &wrapper)).expect_err("not readable");
        assert_eq!(error.reason(), "cannot-read", "{error}");
        let path = path.display().to_string();
        assert!(error.to_string().contains(&format!("{}: Permission denied", path.trim_end_matches('/'))), "{error}");
        open_to_all(&bench.work().join(&path), 0o755);
    }
}

#[test]
fn what_a_link_in_a_repository_leads_to_is_not_told() {
    let bench = Bench::new();
    let secret = bench.at.path().join("secret");
    fs::write(&secret, "s3cret:$y$j9T$\n").expect("write");
    let mut refused = 0;
    for name in [".git/refs/heads/main", ".git/config", ".git/HEAD", ".git/packed-refs"] {
        let (path, aside) = (bench.work().join(name), bench.at.path().join("aside"));
        drop(fs::rename(&path, &aside));
        std::os::unix::fs::symlink(&secret, &path).expect("symlink");
        if let Err(error) = bench.open(&bench.local()) {
            refused += 1;
            assert!(!error.to_string().contains("s3cret"), "{name}: {error}");
        }
        fs::remove_file(&path).expect("remove");
        drop(fs::rename(&aside, &path));
    }
    assert!(refused >= 2, "some of it was read");
}

#[test]
fn a_small_repository_that_is_large_in_memory_is_bounded() {
    let bench = Bench::new();
    // One long content, and links to it: a hundred times sixteen megabytes, were each to have its own.
    let long = bench.at.path().join("long");
    fs::write(&long, vec![b'x'; 15 << 20]).expect("write");
    let blob = git(&bench.work(), &["hash-object", "-w", long.to_str().expect("text")]);
    for n in 0..100 {
        let entry = format!("120000,{blob},hosts/web-01/files/etc/link-{n}");
        git(&bench.work(), &["update-index", "--add", "--cacheinfo", &entry]);
    }
    git(&bench.work(), &["commit", "--quiet", "--message", "links"]);
    let mut source = bench.open(&bench.local()).expect("opens");
    let mut snapshot = source.snapshot().expect("a snapshot");
    source.read_layers(&mut snapshot, &layers(&["hosts/web-01"])).expect("reads");
    assert_eq!(snapshot.entries["hosts/web-01/files/etc/link-7"], Entry::TooLarge { size: 15 << 20 });

    // One tree with a long name, in many places: git(1) makes none, so it is made by hand.
    let named = |name: &[u8]| {
        let raw = bench.at.path().join("tree");
        let id: Vec<u8> = (0..40).step_by(2).map(|i| u8::from_str_radix(&blob[i..i + 2], 16).expect("hex")).collect();
        fs::write(&raw, [b"100644 ", name, b"\0", &id].concat()).expect("write");
        git(&bench.work(), &["hash-object", "-w", "-t", "tree", "--literally", raw.to_str().expect("text")])
    };
    let tree = named(&vec![b'n'; 1 << 20]);
    let list: String = (0..1000).map(|n| format!("040000 tree {tree}\tdirectory-{n}\n")).collect();
    let made = pipe(&bench.work(), &["mktree"], &list);
    let host = pipe(&bench.work(), &["mktree"], &format!("040000 tree {made}\tfiles\n"));
    let hosts = pipe(&bench.work(), &["mktree"], &format!("040000 tree {host}\tweb-01\n"));
    let root = pipe(&bench.work(), &["mktree"], &format!("040000 tree {hosts}\thosts\n"));
    let commit = git(&bench.work(), &["commit-tree", &root, "-m", "long names"]);
    git(&bench.work(), &["update-ref", "refs/heads/main", &commit]);
    let mut source = bench.open(&bench.local()).expect("opens");
    let mut snapshot = source.snapshot().expect("a snapshot");
    source.read_layers(&mut snapshot, &layers(&["hosts/web-01"])).expect("reads");
    assert_eq!(snapshot.entries.len(), 1000);
    assert!(
        snapshot.entries.iter().all(|(path, entry)| path.len() < 400 && *entry == Entry::BadName(BadName::TooLong))
    );
}

#[test]
fn odd_entries_are_kept_as_what_they_are() {
    let bench = Bench::new();
    let files = bench.work().join("hosts/web-01/files");
    let big =
        |name: &str, size: u64| fs::File::create(files.join(name)).and_then(|file| file.set_len(size)).expect("sparse");
    big("limit", 16 << 20);
    big("over", (16 << 20) + 1);
    fs::write(files.join("new\nline"), "").expect("write");
    let bad = files.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff"));
    fs::write(bad, "").expect("write");
    let id = git(&bench.work(), &["rev-parse", "HEAD"]);
    git(&bench.work(), &["update-index", "--add", "--cacheinfo", &format!("160000,{id},hosts/web-01/files/sub")]);
    git(&bench.work(), &["add", "hosts"]);
    git(&bench.work(), &["update-index", "--add", "--cacheinfo", &format!("160000,{id},hosts/web-01/files/sub")]);
    git(&bench.work(), &["commit", "--quiet", "--message", "odd"]);
    let mut source = bench.open(&bench.local()).expect("opens");
    let mut snapshot = source.snapshot().expect("a snapshot");
    source.read_layers(&mut snapshot, &layers(&["hosts/web-01"])).expect("reads");
    let entry = |name: &str| &snapshot.entries[&format!("hosts/web-01/files/{name}")];
    assert!(matches!(entry("limit"), Entry::File { content, .. } if content.len() == 16 << 20));
    assert_eq!(entry("over"), &Entry::TooLarge { size: (16 << 20) + 1 });
    assert_eq!(entry("sub"), &Entry::Submodule);
    assert_eq!(entry("new\\nline"), &Entry::BadName(BadName::Control));
    assert_eq!(entry("\\xff"), &Entry::BadName(BadName::NotUtf8));
}

#[test]
fn the_fleet_repository_may_be_a_subdirectory() {
    let bench = Bench::new();
    bench.file("ops/fleet/trueup.toml", "format = 1\n");
    bench.file("ops/fleet/hosts/db-01/host.toml", "");
    bench.commit("nested");
    let mut source = bench.open(&SourceSettings { path: "ops/fleet".to_owned(), ..bench.local() }).expect("opens");
    let mut snapshot = source.snapshot().expect("a snapshot");
    assert_eq!(snapshot.hosts, BTreeSet::from(["db-01".to_owned()]));
    source.read_layers(&mut snapshot, &layers(&["hosts/db-01"])).expect("reads");
    assert_eq!(snapshot.entries.keys().collect::<Vec<_>>(), ["hosts/db-01/host.toml", "trueup.toml"]);
    let mut source = bench.open(&SourceSettings { path: "ops/none".to_owned(), ..bench.local() }).expect("opens");
    assert!(source.snapshot().expect("an empty one").entries.is_empty());
}

#[test]
fn a_local_origin_is_the_commit_or_the_work_tree_or_the_plain_directory() {
    let bench = Bench::new();
    bench.file("ops/trueup.toml", "format = 1\n");
    let id = bench.commit("nested");
    bench.file("ops/trueup.toml", "edited\n");
    let content = |origin: &mut Origin| match &origin.snapshot().expect("a snapshot").entries["trueup.toml"] {
        Entry::File { content, .. } => String::from_utf8_lossy(content).into_owned(),
        other => panic!("{other:?}"),
    };
    let mut committed = Origin::local(&bench.work().join("ops"), "", &bench.worker).expect("opens");
    assert_eq!(committed.revision().commit, Some(id));
    assert_eq!(content(&mut committed), "format = 1\n");
    let mut on_disk = Origin::work_tree(&bench.work(), "ops").expect("opens");
    assert_eq!(on_disk.revision().short(), "uncommitted");
    assert_eq!(content(&mut on_disk), "edited\n");
    let plain = bench.at.path().join("plain");
    fs::create_dir(&plain).expect("mkdir");
    fs::write(plain.join("trueup.toml"), "plain\n").expect("write");
    let mut plain = Origin::local(&plain, "", &bench.worker).expect("opens");
    assert_eq!(plain.revision().short(), "uncommitted");
    assert_eq!(content(&mut plain), "plain\n");
}

#[test]
fn the_first_url_that_answers_is_taken_and_all_are_named_when_none_does() {
    let bench = Bench::new();
    let mut settings = bench.local();
    settings.urls.insert(0, "/nowhere/a".to_owned());
    check_first(&mut bench.open(&settings).expect("the second answers"));
    settings.urls = vec!["/nowhere/a".to_owned(), "/nowhere/b".to_owned()];
    let error = bench.open(&settings).expect_err("none answers");
    assert_eq!(error.reason(), "cannot-read");
    assert!(error.to_string().contains("/nowhere/a") && error.to_string().contains("/nowhere/b"), "{error}");
}

// Only forward.

#[test]
fn a_force_push_is_refused_and_a_fast_forward_is_not() {
    let bench = Bench::new();
    let first = bench.commit("first");
    let mut record = Record::default();
    record.apply("main", &first, 1);

    git(&bench.work(), &["checkout", "--quiet", "-b", "side"]);
    bench.commit("on the side");
    git(&bench.work(), &["checkout", "--quiet", "main"]);
    bench.commit("second");
    git(&bench.work(), &["merge", "--quiet", "--no-edit", "side"]);
    let merged: CommitId = git(&bench.work(), &["rev-parse", "HEAD"]).parse().expect("an id");
    let mut source = bench.open(&bench.local()).expect("opens");
    source.only_forward(&record, Some(&first)).expect("a fast-forward over a merge");
    record.apply("main", &merged, 2);
    drop(source);

    git(&bench.work(), &["reset", "--quiet", "--hard", first.as_str()]);
    let rewritten = bench.commit("rewritten");
    let error = bench.open(&bench.local()).expect("opens").only_forward(&record, None).expect_err("a force-push");
    assert_eq!((error.reason(), error.class()), ("not-a-descendant", Class::Stalled));
    let (from, to) = (merged.short(), rewritten.short());
    assert_eq!(
        error.to_string(),
        format!("main moved from {from} to {to}, which does not contain it; staying on {from}")
    );

    git(&bench.work(), &["reset", "--quiet", "--hard", first.as_str()]);
    let error = bench.open(&bench.local()).expect("opens").only_forward(&record, None).expect_err("an older commit");
    assert_eq!(error.reason(), "not-a-descendant");
    let error = bench.open(&bench.local()).expect("opens").only_forward(&Record::default(), Some(&merged));
    assert_eq!(error.expect_err("below the floor").reason(), "below-floor");
}

// Chosen commits.

/// main is at `third`, on top of `second` and `first`; `stranger` is on another branch.
struct Line {
    bench: Bench,
    first: CommitId,
    second: CommitId,
    third: CommitId,
    stranger: CommitId,
}

fn line() -> Line {
    let bench = Bench::new();
    let said = |text: &str| {
        bench.file("hosts/web-01/files/etc/motd", text);
        bench.commit(text)
    };
    let first = said("first");
    git(&bench.work(), &["checkout", "--quiet", "-b", "side"]);
    let stranger = said("stranger");
    git(&bench.work(), &["checkout", "--quiet", "main"]);
    let (second, third) = (said("second"), said("third"));
    Line { bench, first, second, third, stranger }
}

fn motd(source: &mut Source) -> String {
    let mut snapshot = source.snapshot().expect("a snapshot");
    assert_eq!(&snapshot.revision, source.revision());
    source.read_layers(&mut snapshot, &layers(&["hosts/web-01"])).expect("reads");
    match &snapshot.entries["hosts/web-01/files/etc/motd"] {
        Entry::File { content, .. } => String::from_utf8_lossy(content).into_owned(),
        other => panic!("{other:?}"),
    }
}

fn nowhere() -> CommitId {
    "0123456789".repeat(4).parse().expect("40 digits")
}

#[test]
fn a_source_that_is_turned_to_an_older_commit_reads_that_one_and_knows_its_tip() {
    let line = line();
    let mut source = line.bench.open(&line.bench.local()).expect("opens");
    assert_eq!(motd(&mut source), "third");
    for (commit, text) in [(&line.first, "first"), (&line.second, "second"), (&line.third, "third")] {
        source.turn_to(commit).expect("it is there");
        assert_eq!(motd(&mut source), text);
        assert_eq!((source.revision().subject.as_str(), source.tip().subject.as_str()), (text, "third"));
    }
    assert_eq!(source.turn_to(&nowhere()).expect_err("not there").reason(), "corrupt-object");
}

#[test]
fn a_commit_that_is_approved_has_to_be_of_the_branch_and_above_the_floor() {
    let line = line();
    let mut source = line.bench.open(&line.bench.local()).expect("opens");
    let mut record = Record::default();
    let mut judged = |record: &Record, commit: &CommitId, floor: Option<&CommitId>| {
        source.approved(commit, record, floor).map_err(|error| error.reason())
    };
    assert_eq!(judged(&record, &line.first, None), Ok(Stands::Ahead), "nothing was acted on yet");
    record.apply("main", &line.second, 1);
    assert_eq!(judged(&record, &line.third, None), Ok(Stands::Ahead));
    assert_eq!(judged(&record, &line.second, None), Ok(Stands::Ahead), "it is that");
    assert_eq!(judged(&record, &line.first, None), Ok(Stands::Behind));
    assert_eq!(judged(&record, &line.stranger, None), Err("not-in-history"));
    assert_eq!(judged(&record, &nowhere(), None), Err("no-such-commit"));
    assert_eq!(judged(&record, &line.second, Some(&line.second)), Ok(Stands::Ahead));
    assert_eq!(judged(&record, &line.first, Some(&line.second)), Err("below-floor"));
    // Gone back since, by root's word: how far the branch had come is what counts.
    record.go_back("main", &line.first, 2);
    assert_eq!(judged(&record, &line.first, None), Ok(Stands::Behind));
}

#[test]
fn root_goes_back_to_what_is_in_the_history_of_the_branch_and_above_the_floor() {
    let line = line();
    let mut record = Record::default();
    record.apply("main", &line.second, 1);
    let back = |record: &Record, commit: &CommitId, floor: Option<&CommitId>| {
        let mut source = line.bench.open(&line.bench.local()).expect("opens");
        let back = source.back_to(commit, record, floor).map_err(|error| (error.reason(), error.class()))?;
        Ok((back.stands, back.refused.map(|error| error.reason())))
    };
    assert_eq!(back(&record, &line.first, None), Ok((Stands::Behind, None)));
    assert_eq!(back(&record, &line.third, None), Ok((Stands::Ahead, None)), "not applied here before");
    assert_eq!(back(&Record::default(), &line.first, None), Ok((Stands::Ahead, None)), "a new host");
    assert_eq!(back(&record, &line.first, Some(&line.second)), Err(("below-floor", Class::Stalled)));
    assert_eq!(back(&record, &line.stranger, None), Err(("not-in-history", Class::Stalled)));
    assert_eq!(back(&record, &nowhere(), None), Err(("no-such-commit", Class::Stalled)));

    // A server that serves an older branch is still refused, and takes nothing from root's word.
    record.apply("main", &line.third, 2);
    record.go_back("main", &line.first, 3);
    git(&line.bench.work(), &["reset", "--quiet", "--hard", line.second.as_str()]);
    assert_eq!(back(&record, &line.first, None), Ok((Stands::Behind, Some("not-a-descendant"))));
    let error = line.bench.open(&line.bench.local()).expect("opens").only_forward(&record, None).expect_err("older");
    let (from, to, staying) = (line.third.short(), line.second.short(), line.first.short());
    assert_eq!(
        error.to_string(),
        format!("main moved from {from} to {to}, which does not contain it; staying on {staying}")
    );
    // What only the refused branch contains is nobody's history.
    git(&line.bench.work(), &["reset", "--quiet", "--hard", line.first.as_str()]);
    let forced = line.bench.commit("forced");
    assert_eq!(back(&record, &forced, None), Err(("not-a-descendant", Class::Stalled)));
    assert_eq!(back(&record, &line.second, None), Ok((Stands::Behind, Some("not-a-descendant"))));
}

#[test]
fn a_rewritten_branch_takes_no_fresh_clone_at_each_look_for_a_commit_that_is_gone() {
    let line = line();
    let (_daemon, url) = git_daemon(line.bench.at.path());
    let settings = line.bench.settings(&url);
    let mut record = Record::default();
    record.apply("main", &line.third, 1);
    record.go_back("main", &line.second, 2);
    // The server has nothing of the old branch any more, and our clone is lost: `second` is to be had nowhere.
    git(&line.bench.work(), &["checkout", "--quiet", "--orphan", "new"]);
    line.bench.commit("another beginning");
    git(&line.bench.work(), &["branch", "--quiet", "--force", "main", "new"]);
    drop(line.bench.open(&settings).expect("clones"));
    let clone = line.bench.clone();
    let mark = clone.join("mark");
    fs::write(&mark, "").expect("write");
    for commit in [&line.second, &line.first, &nowhere()] {
        let mut source = line.bench.open(&settings).expect("looks");
        assert_eq!(source.back_to(commit, &record, None).expect_err("gone").reason(), "not-a-descendant");
        let judged = source.approved(commit, &record, None).expect_err("gone");
        assert_eq!(judged.reason(), "no-such-commit", "{judged}");
    }
    assert!(mark.exists(), "the clone is still the same");
}

// Servers.

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

#[test]
fn a_server_is_cloned_then_fetched_from_and_not_asked_for_what_is_at_hand() {
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    let settings = bench.settings(&url);
    check_first(&mut bench.open(&settings).expect("clones"));
    assert_eq!(bench.packs(), 1);
    check_first(&mut bench.open(&settings).expect("looks"));
    assert_eq!(bench.packs(), 1, "nothing new, no pack");
    let first = bench.commit("second");
    let mut source = bench.open(&settings).expect("fetches");
    assert_eq!((source.tip().subject.as_str(), bench.packs()), ("second", 2));
    assert!(source.descends_from(&first).expect("can be told"));
    let left: Vec<String> = bench.clones().into_iter().filter(|name| name.contains('.')).collect();
    assert_eq!(left.len(), 1, "the lock only: {left:?}");
}

#[test]
fn a_server_of_sha_256_is_cloned() {
    let bench = Bench::with(&["init", "--quiet", "--object-format=sha256", "work"]);
    let (_daemon, url) = git_daemon(bench.at.path());
    check_first(&mut bench.open(&bench.settings(&url)).expect("clones"));
    check_first(&mut bench.open(&bench.settings(&url)).expect("looks"));
}

#[test]
fn a_rewritten_branch_is_fetched_and_judged_here() {
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    let mut source = bench.open(&bench.settings(&url)).expect("clones");
    let mut record = Record::default();
    record.apply("main", source.tip().commit.as_ref().expect("a commit"), 1);
    source.only_forward(&record, None).expect("the same");
    git(&bench.work(), &["commit", "--quiet", "--amend", "--message", "rewritten"]);
    let mut source = bench.open(&bench.settings(&url)).expect("fetches");
    assert_eq!(source.only_forward(&record, None).expect_err("rewritten").reason(), "not-a-descendant");
}

#[test]
fn a_damaged_clone_is_fetched_afresh() {
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    let settings = bench.settings(&url);
    check_first(&mut bench.open(&settings).expect("clones"));
    let pack = |extension: &str| {
        let packs = fs::read_dir(bench.clone().join("objects/pack")).expect("a clone");
        let mut found = packs
            .map(|entry| entry.expect("reads").path())
            .filter(|path| path.extension().is_some_and(|end| end == extension));
        found.next().expect("a pack")
    };
    let writable = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
    type Damage<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let damages: [Damage<'_>; 8] = [
        (
            "a truncated pack",
            Box::new(|| {
                let path = pack("pack");
                writable(&path);
                let half = fs::metadata(&path).expect("there").len() / 2;
                fs::File::options().write(true).open(&path).and_then(|file| file.set_len(half)).expect("truncates");
            }),
        ),
        (
            "a pack with a flipped byte",
            Box::new(|| {
                let path = pack("pack");
                writable(&path);
                let mut content = fs::read(&path).expect("reads");
                let middle = content.len() / 2;
                content[middle] ^= 0xff;
                fs::write(&path, content).expect("writes");
            }),
        ),
        ("no index", Box::new(|| fs::remove_file(pack("idx")).expect("removes"))),
        (
            "an empty index",
            Box::new(|| {
                let path = pack("idx");
                writable(&path);
                fs::write(path, "").expect("writes");
            }),
        ),
        (
            "an empty reference",
            Box::new(|| fs::write(bench.clone().join("refs/trueup/candidate"), "").expect("writes")),
        ),
        ("no HEAD", Box::new(|| fs::remove_file(bench.clone().join("HEAD")).expect("removes"))),
        ("a broken configuration", Box::new(|| fs::write(bench.clone().join("config"), "[core\n").expect("writes"))),
        (
            "a file in its place",
            Box::new(|| {
                let clone = bench.clone();
                fs::remove_dir_all(&clone).expect("removes");
                fs::write(&clone, "").expect("writes");
            }),
        ),
    ];
    for (what, damage) in damages {
        damage();
        let mut source = bench.open(&settings).unwrap_or_else(|error| panic!("{what}: {error}"));
        check_first(&mut source);
        let first = source.tip().commit.clone().expect("a commit");
        assert!(source.descends_from(&first).expect(what), "{what}");
    }
    let stale = ["refs/trueup/candidate.lock", "packed-refs.lock", "objects/pack/.tmpA", "objects/pack/x.keep"];
    stale.iter().for_each(|name| fs::write(bench.clone().join(name), "").expect("writes"));
    bench.commit("second");
    assert_eq!(bench.open(&settings).expect("fetches").tip().subject, "second");
    assert!(stale.iter().all(|name| !bench.clone().join(name).exists()));
}

#[test]
fn a_clone_grows_by_one_pack_a_fetch_and_by_nothing_else_until_it_is_made_anew() {
    fn files(directory: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).expect("reads").map(|entry| entry.expect("reads").path());
        let (below, mut found): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
        found.extend(below.iter().flat_map(|path| files(path)));
        found
    }
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    let settings = bench.settings(&url);
    // What a fetch leaves beside its pack goes with the next look.
    let looked = || {
        drop(bench.open(&settings).expect("fetches"));
        drop(bench.open(&settings).expect("looks"));
        files(&bench.clone())
    };
    let mut before = looked();
    for n in 0..4 {
        bench.file("hosts/web-01/files/etc/motd", &format!("{n}\n"));
        match n % 2 {
            0 => drop(bench.commit("forward")),
            _ => drop(git(&bench.work(), &["commit", "--quiet", "--all", "--amend", "--message", "rewritten"])),
        }
        let after = looked();
        let new: Vec<_> = after.iter().filter(|path| !before.contains(path)).collect();
        assert!(new.len() <= 2 && after.len() <= before.len() + 2, "a pack and its index: {new:?}");
        before = after;
    }
    let names = bench.clones();
    assert_eq!(names.len(), 2, "the clone and its lock: {names:?}");
}

#[test]
fn a_clone_of_former_settings_goes_and_those_of_all_that_is_configured_stay() {
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    git(&bench.work(), &["branch", "--quiet", "other"]);
    let settings = bench.settings(&url);
    let clones = |settings: &SourceSettings| {
        drop(bench.open(settings).expect("looks"));
        let names = bench.clones();
        assert!(names.iter().all(|name| !name.contains('.') || name.ends_with(".lock")), "{names:?}");
        names.into_iter().filter(|name| !name.contains('.')).collect::<Vec<_>>()
    };
    let main = clones(&settings);
    let other = clones(&SourceSettings { branch: "other".to_owned(), ..settings.clone() });
    assert!(main.len() == 1 && other.len() == 1 && main != other, "{main:?} {other:?}");
    // Two URLs are configured: the clone of the one that does not answer today is kept for the day it is needed.
    let main = clones(&settings);
    let mut both = settings.clone();
    both.urls.insert(0, url.replace("127.0.0.1", "localhost"));
    assert_eq!(clones(&both).len(), 2);
    assert_eq!(clones(&both).iter().filter(|name| main.contains(name)).count(), 1);
    // One that cannot be reached takes nothing with it.
    drop(bench.open(&bench.settings(&url.replace("/work", "/none"))).expect_err("not there"));
    assert_eq!(clones(&both).len(), 2);
    assert_eq!(clones(&settings), main);
}

#[test]
fn a_clone_of_many_packs_is_made_anew() {
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    let settings = bench.settings(&url);
    check_first(&mut bench.open(&settings).expect("clones"));
    for n in 0..101 {
        fs::write(bench.clone().join(format!("objects/pack/{n}.pack")), "").expect("writes");
    }
    check_first(&mut bench.open(&settings).expect("afresh"));
    assert_eq!(bench.packs(), 1);
}

#[test]
fn what_a_server_does_not_have_is_said_so() {
    let bench = Bench::new();
    let (daemon, url) = git_daemon(bench.at.path());
    let refused = |settings: &SourceSettings| bench.open(settings).expect_err("not to be had");
    let error = refused(&SourceSettings { branch: "absent".to_owned(), ..bench.settings(&url) });
    assert_eq!((error.reason(), error.to_string()), ("no-such-branch", format!("{url} has no branch absent")));
    let error = refused(&bench.settings(&url.replace("/work", "/none")));
    assert_eq!(error.reason(), "no-such-repository", "{error}");
    let error = refused(&SourceSettings { allow_insecure: false, ..bench.settings(&url) });
    assert_eq!((error.reason(), error.class()), ("insecure", Class::Stalled));
    drop(daemon);
    let error = refused(&bench.settings(&url));
    assert_eq!((error.reason(), error.class()), ("unreachable", Class::Transient), "{error}");
    assert!(bench.clones().iter().all(|name| name.ends_with(".lock")), "nothing is left behind");
}

#[test]
fn a_server_that_never_answers_is_given_up_after_its_time() {
    let bench = Bench::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("git://{}/work", silent.local_addr().expect("an address"));
    let settings = SourceSettings { timeout: Duration::from_secs(1), ..bench.settings(&url) };
    let error = bench.open(&settings).expect_err("no answer");
    assert_eq!((error.reason(), error.class()), ("timed-out", Class::Transient));
    assert_eq!(error.to_string(), format!("{url}: nothing complete came within 1 s; given up"));
}

/// `git http-backend` behind a server of a few lines. `requests` counts; a request without the right
/// `authorization` gets 401.
struct Http {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
    requests: Arc<AtomicUsize>,
}

fn http(base: &Path, authorization: Option<&'static str>, redirect: Option<String>) -> Http {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address").to_string();
    let http = Http { address, seen: Arc::default(), requests: Arc::default() };
    let (seen, requests, base) = (Arc::clone(&http.seen), Arc::clone(&http.requests), base.to_owned());
    thread::spawn(move || {
        for stream in socket.incoming() {
            requests.fetch_add(1, Ordering::SeqCst);
            serve_http(stream.expect("a connection"), &base, authorization, redirect.as_deref(), &seen);
        }
    });
    http
}

fn serve_http(
    stream: TcpStream,
    base: &Path,
    authorization: Option<&str>,
    redirect: Option<&str>,
    seen: &Mutex<Vec<String>>,
) {
    let mut input = BufReader::new(stream.try_clone().expect("a socket"));
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let mut lines = head.iter().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    seen.lock().expect("whole").extend(head.iter().cloned());
    let mut output = stream;
    let mut refuse =
        |line: &str| drop(write!(output, "HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
    if let Some(to) = redirect {
        let path = head[0].split(' ').nth(1).expect("a path");
        return refuse(&format!("301 Moved\r\nLocation: {to}{path}"));
    }
    if authorization.is_some() && header("authorization").as_deref() != authorization {
        return refuse("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"");
    }
    let mut parts = head[0].split(' ');
    let (method, target) = (parts.next().expect("a method"), parts.next().expect("a target"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().expect("a length"))];
    input.read_exact(&mut body).expect("the body");
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", base)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git http-backend starts");
    backend.stdin.take().expect("stdin").write_all(&body).expect("takes the body");
    let answer = backend.wait_with_output().expect("ends").stdout;
    let text = String::from_utf8_lossy(&answer);
    let status = text.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    drop(write!(output, "HTTP/1.1 {status}\r\nConnection: close\r\n"));
    drop(output.write_all(&answer));
}

#[test]
fn http_is_cloned_from_and_looked_at() {
    let bench = Bench::new();
    let server = http(bench.at.path(), None, None);
    let settings = bench.settings(&format!("http://{}/work/.git", server.address));
    check_first(&mut bench.open(&settings).expect("clones"));
    let before = server.requests.load(Ordering::SeqCst);
    check_first(&mut bench.open(&settings).expect("looks"));
    assert_eq!(server.requests.load(Ordering::SeqCst) - before, 2, "the handshake and one list of references");
    let error = bench.open(&bench.settings(&format!("http://{}/none", server.address))).expect_err("not there");
    assert_eq!((error.reason(), error.class()), ("no-such-repository", Class::Stalled), "{error}");
}

#[test]
fn a_token_is_not_sent_in_the_open_and_a_login_that_is_asked_for_is_an_error() {
    let bench = Bench::new();
    let server = http(bench.at.path(), Some("Basic nobody-knows"), None);
    let token = bench.at.path().join("token");
    fs::write(&token, "s3cret\n").expect("write");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("chmod");
    let settings =
        SourceSettings { token_file: Some(token), ..bench.settings(&format!("http://{}/work/.git", server.address)) };
    let error = bench.open(&settings).expect_err("no login");
    assert_eq!((error.reason(), error.class()), ("access-denied", Class::Stalled), "{error}");
    let seen = server.seen.lock().expect("whole");
    assert!(!seen.is_empty() && seen.iter().all(|line| !line.to_lowercase().starts_with("authorization")), "{seen:?}");
}

#[test]
fn a_redirect_is_not_followed() {
    let bench = Bench::new();
    let other = http(bench.at.path(), None, None);
    let server = http(bench.at.path(), None, Some(format!("http://{}", other.address)));
    let error = bench.open(&bench.settings(&format!("http://{}/work/.git", server.address))).expect_err("redirected");
    assert_eq!((error.reason(), error.class()), ("redirected", Class::Stalled), "{error}");
    assert!(error.to_string().contains("source.url"), "{error}");
    assert_eq!(other.requests.load(Ordering::SeqCst), 0);
}

#[test]
fn a_token_file_that_everybody_can_read_is_refused() {
    let bench = Bench::new();
    let token = bench.at.path().join("token");
    fs::write(&token, "s3cret\n").expect("write");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).expect("chmod");
    let settings = SourceSettings { token_file: Some(token), ..bench.settings("https://127.0.0.1:1/x") };
    let error = bench.open(&settings).expect_err("refused");
    assert_eq!(error.reason(), "bad-settings");
    assert!(error.to_string().contains("chmod 600"), "{error}");
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

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let bench = Bench::new();
    let path = |name: &str| bench.at.path().join(name).display().to_string();
    let (key, certificate) = (path("key.pem"), path("certificate.pem"));
    let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    let make = ["req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "1", "-keyout", &key, "-out", &certificate];
    run("openssl", &[&make[..], &subject[..]].concat());
    let port = free_port();
    let accept = port.to_string();
    let mut server = Command::new("openssl");
    let _server =
        background(server.args(["s_server", "-www", "-accept", &accept, "-cert", &certificate, "-key", &key]), port);
    let url = |host: &str| format!("https://{host}:{port}/work");
    let error = bench.open(&bench.settings(&url("localhost"))).expect_err("self-signed");
    assert_eq!((error.reason(), error.class()), ("bad-certificate", Class::Stalled), "{error}");
    assert!(error.to_string().contains("self-signed"), "{error}");
    let believed =
        |host: &str| SourceSettings { ca_file: Some(PathBuf::from(&certificate)), ..bench.settings(&url(host)) };
    let error = bench.open(&believed("127.0.0.1")).expect_err("another name");
    assert_eq!(error.reason(), "bad-certificate", "{error}");
    let error = bench.open(&believed("localhost")).expect_err("no repository there");
    assert_ne!(error.reason(), "bad-certificate", "{error}");
}

#[test]
fn ssh_is_cloned_from_with_a_pinned_host_key_only() {
    let sshd = Path::new("/usr/sbin/sshd");
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !sshd.exists() || !root {
        eprintln!("skipped: needs /usr/sbin/sshd, and root to start it");
        return;
    }
    let bench = Bench::new();
    fs::set_permissions(bench.at.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::create_dir_all("/run/sshd").expect("where sshd drops its privileges");
    let path = |name: &str| bench.at.path().join(name).display().to_string();
    for key in ["host", "user", "stranger"] {
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
    }
    let port = free_port();
    let accepted = fs::read_to_string(path("user.pub")).expect("reads");
    fs::write(path("authorized"), format!("environment=\"GIT_CONFIG_COUNT=1\",environment=\"GIT_CONFIG_KEY_0=safe.directory\",environment=\"GIT_CONFIG_VALUE_0=*\" {accepted}")).expect("writes");
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
         PermitRootLogin yes\nPermitUserEnvironment yes\nUsePAM no\nPasswordAuthentication no\n",
        path("host"),
        path("authorized")
    );
    fs::write(path("sshd_config"), config).expect("writes");
    let _server = background(Command::new(sshd).args(["-D", "-e", "-f", &path("sshd_config")]), port);
    let host_key = fs::read_to_string(path("host.pub")).expect("reads");
    fs::write(path("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).expect("writes");
    fs::write(path("no_hosts"), "").expect("writes");

    let settings = SourceSettings {
        ssh_key: Some(PathBuf::from(path("user"))),
        known_hosts: PathBuf::from(path("known_hosts")),
        ..bench.settings(&format!("ssh://root@127.0.0.1:{port}{}", bench.work().display()))
    };
    check_first(&mut bench.open(&settings).expect("clones"));
    let unknown = SourceSettings { known_hosts: PathBuf::from(path("no_hosts")), ..settings.clone() };
    let error = bench.open(&unknown).expect_err("not pinned");
    assert_eq!((error.reason(), error.class()), ("bad-host-key", Class::Stalled), "{error}");
    // Nobody is asked for the passphrase of a key.
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "word", "-f", &path("locked")]);
    let locked = SourceSettings { ssh_key: Some(PathBuf::from(path("locked"))), ..settings.clone() };
    let locked = SourceSettings { timeout: Duration::from_secs(20), ..locked };
    let error = bench.open(&locked).expect_err("it cannot be opened");
    assert_eq!((error.reason(), error.class()), ("access-denied", Class::Stalled), "{error}");
    let stranger = SourceSettings { ssh_key: Some(PathBuf::from(path("stranger"))), ..settings };
    let error = bench.open(&stranger).expect_err("not let in");
    assert_eq!((error.reason(), error.class()), ("access-denied", Class::Stalled), "{error}");
}
