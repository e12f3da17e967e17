//! Whose ledger it is: bound to a name and a machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::scratch::put;

struct Scene {
    scratch: tempfile::TempDir,
}

impl Scene {
    /// A fleet with two hosts, and a directory that is the machine `1…`.
    fn new() -> Self {
        let scene = Self { scratch: tempfile::tempdir().expect("a scratch directory") };
        for (path, content) in [
            ("repo/trueup.toml", "format = 1\n"),
            ("repo/hosts/web-01/files/etc/motd", "web-01\n"),
            ("repo/hosts/web-01/files/etc/only-web", "web-01\n"),
            ("repo/hosts/db-01/files/etc/motd", "db-01\n"),
            ("root/etc/motd", "the original\n"),
        ] {
            scene.write(path, content);
        }
        scene.machine('1');
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        put(&self.at(path), content);
    }

    fn machine(&self, digit: char) {
        self.write("root/etc/machine-id", &format!("{}\n", digit.to_string().repeat(32)));
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }

    fn trueup(&self, arguments: &[&str]) -> (i32, Value) {
        let root = self.at("root");
        let output = Command::new(env!("CARGO_BIN_EXE_trueup"))
            .args(arguments)
            .args([Path::new("--root"), &root])
            .output()
            .expect("it runs");
        (output.status.code().expect("no signal"), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    fn run(&self, host: &str) -> (i32, Value) {
        let repo = self.at("repo");
        self.trueup(&["run", "--json", "--host", host, "--repo", repo.to_str().expect("text")])
    }
}

#[test]
fn under_another_name_nothing_happens_until_root_says_so() {
    let scene = Scene::new();
    assert_eq!(scene.run("web-01").0, 0);
    let (code, report) = scene.run("db-01");
    assert_eq!((code, report["reason"].as_str()), (3, Some("host-changed")), "{report:#}");
    assert_eq!(scene.read("root/etc/motd").as_deref(), Some("web-01\n"));
    assert!(scene.read("root/etc/only-web").is_some(), "nothing is removed");

    assert_eq!(scene.trueup(&["rebind", "db-01"]).0, 0);
    let (code, report) = scene.run("db-01");
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(scene.read("root/etc/motd").as_deref(), Some("db-01\n"));
    assert_eq!(scene.read("root/etc/only-web"), None, "what the host before had is let go");
    assert_eq!(scene.run("web-01").0, 3);
}

#[test]
fn the_ledger_of_another_machine_is_not_believed_by_any_verb() {
    let scene = Scene::new();
    assert_eq!(scene.run("web-01").0, 0);
    scene.machine('2');
    // A clone must not let go of what the machine that it was cloned from has.
    assert_eq!(scene.trueup(&["release", "--all", "--json"]).0, 0);
    assert_eq!(scene.read("root/etc/motd").as_deref(), Some("web-01\n"));
    let (code, report) = scene.run("web-01");
    assert_eq!(code, 0, "{report:#}");
    assert!(report["notes"].to_string().contains("another machine"), "{report:#}");
    // Adopted anew: what is there now was there before.
    assert_eq!(scene.trueup(&["release", "--all", "--json"]).0, 0);
    assert_eq!(scene.read("root/etc/motd").as_deref(), Some("web-01\n"));
}

#[test]
fn without_a_machine_id_nothing_is_concluded_from_a_ledger_that_has_one() {
    let scene = Scene::new();
    assert_eq!(scene.run("web-01").0, 0);
    fs::remove_file(scene.at("root/etc/machine-id")).expect("removed");
    let (code, report) = scene.run("web-01");
    assert_eq!((code, report["reason"].as_str()), (1, Some("cannot-tell")), "{report:#}");
    scene.machine('1');
    assert_eq!(scene.trueup(&["release", "--all", "--json"]).0, 0);
    assert_eq!(scene.read("root/etc/motd").as_deref(), Some("the original\n"), "nothing was forgotten");
}

#[test]
fn a_machine_id_that_came_later_is_remembered() {
    let scene = Scene::new();
    fs::remove_file(scene.at("root/etc/machine-id")).expect("removed");
    assert_eq!(scene.run("web-01").0, 0);
    scene.machine('1');
    assert_eq!(scene.run("web-01").0, 0);
    scene.machine('2');
    let (code, report) = scene.run("web-01");
    assert_eq!(code, 0, "{report:#}");
    assert!(report["notes"].to_string().contains("another machine"), "{report:#}");
}

#[test]
fn state_that_would_lie_outside_the_root_is_refused() {
    let scene = Scene::new();
    fs::create_dir_all(scene.at("elsewhere")).expect("made");
    fs::create_dir_all(scene.at("root/var")).expect("made");
    for target in [scene.at("elsewhere"), PathBuf::from("../../elsewhere"), scene.at("nowhere")] {
        drop(fs::remove_file(scene.at("root/var/lib")));
        std::os::unix::fs::symlink(&target, scene.at("root/var/lib")).expect("linked");
        let repo = scene.at("repo");
        let output = Command::new(env!("CARGO_BIN_EXE_trueup"))
            .args(["run", "--host", "web-01", "--repo", repo.to_str().expect("text"), "--root"])
            .arg(scene.at("root"))
            .output()
            .expect("it runs");
        assert_ne!(output.status.code(), Some(0));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("/var/lib leads out of"), "{said}");
        assert_eq!(fs::read_dir(scene.at("elsewhere")).expect("listed").count(), 0);
        assert!(!scene.at("nowhere").exists());
    }
    fs::remove_file(scene.at("root/var/lib")).expect("removed");
    fs::create_dir_all(scene.at("root/srv/lib")).expect("made");
    std::os::unix::fs::symlink("../srv/lib", scene.at("root/var/lib")).expect("linked");
    assert_eq!(scene.run("web-01").0, 0);
    assert!(scene.at("root/srv/lib/trueup").exists(), "below the root it may be wherever it likes");
}
