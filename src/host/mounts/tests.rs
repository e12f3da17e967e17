#![allow(clippy::disallowed_methods, reason = "tests make what is then looked at")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::host::Reader;
use crate::host::files::TreeLimits;

/// Whoever asks, hangs.
const HANGS: &[&str] = &["sh", "-c", "exec sleep 1000"];
/// Nobody is waited for who does.
const SHORT: Duration = Duration::from_millis(50);
/// Longer than any answer takes.
const LONG: Duration = Duration::from_secs(60);

/// A host with something mounted at `/srv/net`, and a link that leads there.
struct Scene {
    root: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a scratch directory");
        fs::create_dir_all(root.path().join("srv/net/deep")).expect("made");
        fs::create_dir_all(root.path().join("etc")).expect("made");
        fs::write(root.path().join("etc/motd"), "hello").expect("written");
        fs::write(root.path().join("srv/net/file"), "far away").expect("written");
        symlink("../srv/net", root.path().join("etc/link")).expect("linked");
        Self { root }
    }

    fn mounts(&self, program: &[&str], patience: Duration) -> Mounts {
        let real = self.root.path().canonicalize().expect("it is there");
        let table = format!(
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / {}/srv/net rw - nfs4 server:/x rw,hard\n",
            real.display()
        );
        Mounts::pretend(&table, program, patience)
    }

    fn host(&self, program: &[&str], patience: Duration) -> Reader {
        Reader::directory(self.root.path()).expect("opens").with_mounts(self.mounts(program, patience))
    }
}

#[test]
fn what_lies_on_what_does_not_answer_is_not_looked_at_by_any_way_and_all_else_is() {
    let scene = Scene::new();
    let host = scene.host(HANGS, SHORT);
    let limits = TreeLimits { nodes: 10, bytes: 100 };
    let mut looks = host.looks();
    assert!(looks.look("/srv/other").expect("looked at").is_none());
    for (what, looked) in [
        ("a file", host.look("/srv/net/file").map(drop)),
        ("the mount point", host.look("/srv/net").map(drop)),
        ("its neighbours' directory was reached just now", looks.look("/srv/net").map(drop)),
        ("by a link", host.look("/etc/link/file").map(drop)),
        ("its name", host.canonical("/etc/link/deep/x").map(drop)),
        ("where it leads", host.leads_to("/etc/link").map(drop)),
        ("its content", host.read("/srv/net/file", 10).map(drop)),
        ("a directory", host.list("/srv/net/deep").map(drop)),
        ("what is below its directory", host.below("/srv", 10, &|_| true).map(drop)),
        ("a copy of its directory", host.tree("/srv", limits).map(drop)),
        ("who else gets at it", host.who_else("/srv/net/file").map(drop)),
        ("whether it answers", host.answers("/etc/link")),
    ] {
        let error = looked.expect_err(what);
        assert_eq!(error.reason(), "not-answering", "{what}: {error}");
        let told = error.to_string();
        assert!(told.contains("srv/net (nfs4) does not answer"), "{told}");
    }
    assert_eq!(host.read("/etc/motd", 10).expect("read").expect("there"), b"hello");
    assert!(host.look("/etc/link").expect("looked at").is_some(), "the link itself is here");
    assert_eq!(host.list("/srv").expect("listed"), ["net"]);
}

#[test]
fn whatever_is_answered_is_an_answer() {
    let scene = Scene::new();
    for program in [&["true"][..], &["false"]] {
        let host = scene.host(program, LONG);
        assert_eq!(host.read("/etc/link/file", 10).expect("read").expect("there"), b"far away");
    }
    let error = scene.host(&["/none"], LONG).look("/srv/net/file").expect_err("nobody asks");
    assert_eq!(error.reason(), "program-failed", "{error}");
    let error = scene.host(&["sh", "-c", "kill -9 $$"], LONG).look("/srv/net/file").expect_err("killed");
    assert_eq!(error.reason(), "not-answering", "{error}");
}

#[test]
fn nobody_else_is_sent_after_one_that_hangs_and_once_that_comes_back_it_is_asked_anew() {
    let scene = Scene::new();
    let at = |name: &str| scene.root.path().join(name).display().to_string();
    let script = format!("echo >>{}; while ! [ -e {} ]; do sleep 0.01; done", at("asked"), at("back"));
    let program = ["sh", "-c", &script];
    let asked = || fs::read(at("asked")).expect("readable").len();
    let mounts = scene.mounts(&program, SHORT);
    let look = || {
        let host = Reader::directory(scene.root.path()).expect("opens").with_mounts(mounts.clone());
        host.look("/srv/net/file").map_err(|error| error.reason())
    };
    for pass in 1..4 {
        assert_eq!(look().expect_err("it hangs"), "not-answering", "pass {pass}");
        while !Path::new(&at("asked")).exists() {
            std::thread::yield_now();
        }
        assert_eq!(asked(), 1, "pass {pass}");
    }
    fs::write(at("back"), "").expect("written");
    while look().is_err() {
        std::thread::yield_now();
    }
    assert!(asked() > 1, "it was asked anew");
}

#[test]
fn an_answer_that_is_old_before_the_others_have_come_is_one() {
    let scene = Scene::new();
    let mounts = scene.mounts(&["true"], LONG);
    mounts.lock().believed = Duration::ZERO;
    let path = scene.root.path().canonicalize().expect("it is there").join("srv/net/file");
    mounts.answer(path.to_str().expect("text"), "x").expect("it answered");
}

#[test]
fn who_is_asked_no_more_is_reaped() {
    let scene = Scene::new();
    let mounts = scene.mounts(HANGS, SHORT);
    let path = scene.root.path().canonicalize().expect("it is there").join("srv/net/file");
    mounts.answer(path.to_str().expect("text"), "x").expect_err("it hangs");
    let child = match mounts.lock().asked.values().next() {
        Some(Known::Waiting(asking)) => asking.0.id(),
        other => panic!("{other:?}"),
    };
    drop(mounts);
    while Path::new(&format!("/proc/{child}")).exists() {
        std::thread::yield_now();
    }
}

#[test]
fn the_mounts_of_this_machine_are_read() {
    let mounts = Mounts::default();
    mounts.answer("/proc/self/mountinfo", "x").expect("the kernel answers");
    assert!(matches!(mounts.lock().source, Source::Kernel(_)));
}
