//! Repositories of this machine, read in place.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use trueup::config::SourceSettings;
use trueup::model::Class;
use trueup::source::{BadName, Entry, Had, Origin, Source};

use super::{Bench, check_first, git, layers, pipe, trueup, worker};

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
    let mut committed = Origin::local(&bench.work().join("ops"), "", &bench.worker, None).expect("opens");
    assert_eq!(committed.revision().commit, Some(id));
    assert_eq!(content(&mut committed), "format = 1\n");
    let mut on_disk = Origin::work_tree(&bench.work(), "ops").expect("opens");
    assert_eq!(on_disk.revision().short(), "uncommitted");
    assert_eq!(content(&mut on_disk), "edited\n");
    let plain = bench.at.path().join("plain");
    fs::create_dir(&plain).expect("mkdir");
    fs::write(plain.join("trueup.toml"), "plain\n").expect("write");
    let mut plain = Origin::local(&plain, "", &bench.worker, None).expect("opens");
    assert_eq!(plain.revision().short(), "uncommitted");
    assert_eq!(content(&mut plain), "plain\n");
}

#[test]
fn a_commit_that_was_had_is_asked_of_nobody_before_something_of_it_is_read() {
    let bench = Bench::new();
    let id = bench.commit("first");
    let raw = git(&bench.work(), &["cat-file", "commit", "HEAD"]) + "\n";
    let nobody = worker(bench.at.path(), Path::new("/nowhere/trueup"));
    let had = |commit, raw| Some(Had { commit, raw });
    let mut origin = Origin::local(&bench.work(), "", &nobody, had(&id, &raw)).expect("nobody is needed");
    assert_eq!((origin.tip().commit.as_ref(), origin.tip().subject.as_str()), (Some(&id), "first"));
    origin.snapshot().expect_err("there is nobody to read it");
    let mut origin = Origin::local(&bench.work(), "", &bench.worker, had(&id, &raw)).expect("opens");
    assert!(origin.walls().is_none());
    origin.snapshot().expect("it is read");
    assert!(origin.walls().is_some(), "by a worker behind its wall");
    // What was kept of it is not what its id says.
    let other = raw.replace("first", "other");
    Origin::local(&bench.work(), "", &nobody, had(&id, &other)).expect_err("it is read anew");
    let origin = Origin::local(&bench.work(), "", &bench.worker, had(&id, &other)).expect("opens");
    assert_eq!(origin.tip().subject, "first");
    // The branch went on.
    bench.file("trueup.toml", "format = 1\n# more\n");
    let next = bench.commit("second");
    let origin = Origin::local(&bench.work(), "", &bench.worker, had(&id, &raw)).expect("opens");
    assert_eq!(origin.tip().commit, Some(next));
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
