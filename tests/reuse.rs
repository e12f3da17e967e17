//! A revision that was compiled already is not read again from Git: what follows from that, on a directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::scratch::put;

/// A fleet repository with one host at its first revision, and the directory that stands for that host, converged.
struct Scene {
    scratch: tempfile::TempDir,
}

impl Scene {
    fn converged() -> Self {
        let scene = Self { scratch: tempfile::tempdir().expect("a scratch directory") };
        scene.put("root/etc/hostname", "web-01\n");
        scene.put("repo/trueup.toml", "format = 1\n");
        scene.put("repo/hosts/web-01/files/etc/motd", "welcome\n");
        scene.git(&["init", "--quiet", "--initial-branch=main"]);
        scene.git(&["add", "--all"]);
        scene.git(&["commit", "--quiet", "--message", "first"]);
        assert_eq!(scene.run()["state"], "in-sync");
        assert_eq!(scene.motd(), "welcome\n");
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn put(&self, path: &str, content: &str) {
        put(&self.at(path), content);
    }

    fn motd(&self) -> String {
        fs::read_to_string(self.at("root/etc/motd")).expect("it is there")
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=Ana", "-c", "user.email=ana@example.org"])
            .args(arguments)
            .current_dir(self.at("repo"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .expect("git is installed");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Nothing but commits is left in the repository.
    fn lose_contents(&self) {
        let mut lost = 0;
        for line in self.git(&["cat-file", "--batch-all-objects", "--batch-check"]).lines() {
            let (id, rest) = line.split_once(' ').expect("an id and what it is");
            if !rest.starts_with("commit") {
                fs::remove_file(self.at("repo/.git/objects").join(&id[..2]).join(&id[2..])).expect("a loose object");
                lost += 1;
            }
        }
        assert!(lost > 1);
    }

    fn run(&self) -> Value {
        let (root, repo) = (self.at("root"), self.at("repo"));
        let output = Command::new(env!("CARGO_BIN_EXE_trueup"))
            .args(["run", "--json", "--retry", "--host", "web-01"])
            .args([Path::new("--root"), &root, Path::new("--repo"), &repo])
            .stderr(Stdio::null())
            .output()
            .expect("it starts");
        serde_json::from_slice(&output.stdout).expect("a report")
    }
}

#[test]
fn with_nothing_new_the_commit_alone_is_read_and_drift_is_put_back() {
    let scene = Scene::converged();
    scene.lose_contents();
    let report = scene.run();
    assert_eq!((&report["state"], &report["host"]), (&Value::from("in-sync"), &Value::from("web-01")), "{report:#}");
    scene.put("root/etc/motd", "by hand\n");
    assert_eq!(scene.run()["state"], "in-sync");
    assert_eq!(scene.motd(), "welcome\n");
}

#[test]
fn where_the_branch_is_where_it_was_no_object_is_read_at_all() {
    let scene = Scene::converged();
    let head = scene.git(&["rev-parse", "HEAD"]);
    let (objects, aside) = (scene.at("repo/.git/objects"), scene.at("objects"));
    fs::rename(&objects, &aside).expect("moved");
    fs::create_dir_all(objects.join("pack")).expect("made");
    scene.put("root/etc/motd", "by hand\n");
    let report = scene.run();
    assert_eq!((&report["state"], &report["revision"]["seen"]), (&"in-sync".into(), &Value::from(head.as_str())));
    assert_eq!(report["commit"]["subject"], "first", "{report:#}");
    assert_eq!(scene.motd(), "welcome\n");
    // Where Git keeps it otherwise, whoever knows all its ways is asked, and reads the commit.
    scene.put(
        "repo/.git/packed-refs",
        &format!("# pack-refs with: peeled fully-peeled sorted \n{head} refs/heads/main\n"),
    );
    fs::remove_file(scene.at("repo/.git/refs/heads/main")).expect("removed");
    assert_eq!(scene.run()["reason"], "damaged-clone");
    fs::remove_dir_all(&objects).expect("removed");
    fs::rename(&aside, &objects).expect("moved back");
    assert_eq!(scene.run()["state"], "in-sync");
    scene.put("repo/hosts/web-01/files/etc/motd", "changed\n");
    scene.git(&["add", "--all"]);
    scene.git(&["commit", "--quiet", "--message", "second"]);
    assert_eq!(scene.run()["state"], "in-sync");
    assert_eq!(scene.motd(), "changed\n");
}

#[test]
fn where_anything_else_differs_that_it_is_compiled_from_it_is_compiled_anew() {
    let scene = Scene::converged();
    scene.lose_contents();
    scene.put("root/etc/trueup/agent.toml", "[policy]\nsetid = true\n");
    let report = scene.run();
    assert_ne!(report["state"], "in-sync", "{report:#}");
    scene.put("root/etc/trueup/agent.toml", "");
    assert_eq!(scene.run()["state"], "in-sync");
    scene.put("root/etc/os-release", "ID=debian\n");
    assert_ne!(scene.run()["state"], "in-sync");
}

#[test]
fn a_copy_that_is_not_whole_is_not_believed() {
    let scene = Scene::converged();
    let pack = fs::read_dir(scene.at("root/var/lib/trueup/payloads")).expect("there").next().expect("one pack");
    let pack = pack.expect("readable").path();
    let whole = fs::read(&pack).expect("readable");
    let mut damaged = whole.clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    for bad in [&damaged[..], &whole[..whole.len() - 1]] {
        fs::write(&pack, bad).expect("damaged");
        scene.put("root/etc/motd", "by hand\n");
        assert_eq!(scene.run()["state"], "in-sync");
        assert_eq!(scene.motd(), "welcome\n");
        assert_eq!(fs::read(&pack).expect("readable"), whole, "it is whole again");
    }
    // Without anything to do as well: for the day that the source is gone.
    fs::remove_file(&pack).expect("removed");
    assert_eq!(scene.run()["state"], "in-sync");
    assert_eq!(fs::read(&pack).expect("written anew"), whole);
}

#[test]
fn while_the_source_is_gone_a_content_that_is_damaged_keeps_nothing_from_being_put_back_but_itself() {
    let scene = Scene::converged();
    scene.put("repo/hosts/web-01/files/etc/issue", "authorised use only\n");
    scene.git(&["add", "--all"]);
    scene.git(&["commit", "--quiet", "--message", "two"]);
    assert_eq!(scene.run()["state"], "in-sync");
    let pack = fs::read_dir(scene.at("root/var/lib/trueup/payloads")).expect("there").next().expect("one pack");
    let pack = pack.expect("readable").path();
    let mut damaged = fs::read(&pack).expect("readable");
    let at = damaged.windows(10).position(|part| part == b"authorised").expect("in it");
    damaged[at] ^= 1;
    fs::write(&pack, &damaged).expect("damaged");
    fs::rename(scene.at("repo"), scene.at("gone")).expect("moved away");
    scene.put("root/etc/motd", "by hand\n");
    let report = scene.run();
    assert_eq!(scene.motd(), "welcome\n", "{report:#}");

    scene.put("root/etc/issue", "by hand\n");
    let report = scene.run();
    let message = report["message"].as_str().unwrap_or_default();
    assert!(message.contains("our own copy of the last revision is not whole"), "{report:#}");
    assert_eq!(report["steps"].as_array().map(Vec::len), Some(0), "{report:#}");
    assert_eq!(fs::read_to_string(scene.at("root/etc/issue")).expect("there"), "by hand\n");

    fs::rename(scene.at("gone"), scene.at("repo")).expect("moved back");
    assert_eq!(scene.run()["state"], "in-sync");
    assert_eq!(fs::read_to_string(scene.at("root/etc/issue")).expect("there"), "authorised use only\n");
}

#[test]
fn what_this_host_does_not_allow_any_more_is_not_done_from_our_own_copy_either() {
    let scene = Scene::converged();
    scene.put("root/etc/trueup/agent.toml", "[policy]\nsetid = true\n");
    scene.put("repo/hosts/web-01/files/srv/tool", "run\n");
    scene.put("repo/hosts/web-01/host.toml", "[files.\"/srv/tool\"]\nmode = \"2755\"\n");
    scene.git(&["add", "--all"]);
    scene.git(&["commit", "--quiet", "--message", "two"]);
    assert_eq!(scene.run()["state"], "in-sync");
    let tool = scene.at("root/srv/tool");
    let mode = || fs::metadata(&tool).expect("there").permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o2755);

    scene.put("root/etc/trueup/agent.toml", "");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("changed");
    scene.put("root/etc/motd", "by hand\n");
    let report = scene.run();
    assert_eq!((&report["state"], &report["reason"]), (&Value::from("stalled"), &Value::from("setid")), "{report:#}");
    assert_eq!((mode(), scene.motd()), (0o755, "welcome\n".to_owned()), "{report:#}");
    fs::remove_file(&tool).expect("removed");
    scene.run();
    assert!(!tool.exists(), "nor is it made");
}

#[test]
fn a_revision_for_a_newer_trueup_waits_for_it_and_drift_is_put_back_meanwhile() {
    for newer in ["format = 1\nrequires = \">=9.0\"\n", "format = 2\n"] {
        let scene = Scene::converged();
        scene.put("repo/trueup.toml", newer);
        scene.git(&["commit", "--quiet", "--all", "--message", "newer"]);
        scene.put("root/etc/motd", "by hand\n");
        let report = scene.run();
        let said = (&report["state"], &report["reason"]);
        assert_eq!(said, (&Value::from("stalled"), &Value::from("agent-too-old")), "{report:#}");
        assert_eq!(scene.motd(), "welcome\n");
    }
}
