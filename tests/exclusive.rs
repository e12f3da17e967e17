//! Exclusive directories on a directory that stands for a host: what counts as there before, and what drift tells.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::scratch::put;
use super::source::trueup;

const EXCLUSIVE: &str = "[files.\"/etc/app.d\"]\ntype = \"directory\"\nexclusive = true\n";
const MANIFEST: &str = "repo/hosts/web-01/host.toml";

struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().expect("a scratch directory"));
        scene.put("root/etc/hostname", "web-01\n");
        scene.put("repo/trueup.toml", "format = 1\n");
        scene.put("repo/hosts/web-01/files/etc/app.d/ours.conf", "ours\n");
        scene.put(MANIFEST, EXCLUSIVE);
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn put(&self, path: &str, content: &str) {
        put(&self.at(path), content);
    }

    fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.at("root").join(path)).is_ok()
    }

    fn trueup(&self, verb: &str) -> Value {
        let mut command = Command::new(trueup());
        command.args([verb, "--json", "--root"]).arg(self.at("root")).stdin(Stdio::null());
        if verb == "run" {
            command.args(["--retry", "--host", "web-01", "--repo"]).arg(self.at("repo"));
        }
        let output = command.output().expect("it starts");
        serde_json::from_slice(&output.stdout).expect("a report")
    }

    /// A step of a report, by the path of its file.
    #[track_caller]
    fn step(report: &Value, path: &str) -> Value {
        let steps = report["steps"].as_array().expect("steps");
        let found = steps.iter().find(|step| step["id"] == format!("file:/{path}"));
        found.unwrap_or_else(|| panic!("no step of {path}: {report:#}")).clone()
    }
}

#[test]
fn a_stranger_that_can_never_go_makes_no_original_of_those_who_come_after_it() {
    let scene = Scene::new();
    scene.put("root/etc/app.d/theirs.conf", "theirs\n");
    let made = Command::new("mkfifo").arg(scene.at("root/etc/app.d/pipe")).status();
    assert!(made.expect("mkfifo is there").success());
    let first = scene.trueup("run");
    assert_eq!(first["state"], "degraded", "{first:#}");
    assert_eq!(Scene::step(&first, "etc/app.d/theirs.conf")["cause"], "intended");
    assert!(!scene.has("etc/app.d/theirs.conf") && scene.has("etc/app.d/pipe"));
    for round in ["one", "two"] {
        scene.put(&format!("root/etc/app.d/{round}.conf"), "evil\n");
        let drift = scene.trueup("drift");
        let told = drift["steps"].as_array().expect("steps");
        assert_eq!(told.len(), 1, "what was there before is no drift: {drift:#}");
        let run = scene.trueup("run");
        let step = Scene::step(&run, &format!("etc/app.d/{round}.conf"));
        assert_eq!((&step["cause"], &step["outcome"]), (&"corrective".into(), &"done".into()), "{run:#}");
        assert!(!scene.has(&format!("etc/app.d/{round}.conf")));
    }
    // What was there before comes back, who came later does not.
    scene.put(MANIFEST, "[files.\"/etc/app.d\"]\ntype = \"directory\"\n");
    scene.trueup("run");
    assert!(scene.has("etc/app.d/theirs.conf") && scene.has("etc/app.d/pipe"));
    assert!(!scene.has("etc/app.d/one.conf") && !scene.has("etc/app.d/two.conf"));
}

#[test]
fn a_name_that_nobody_can_write_down_makes_none_either_and_what_is_ignored_no_longer_was_there_before() {
    use std::os::unix::ffi::OsStrExt;
    let scene = Scene::new();
    let manifest = "[files.\"/etc/app.d\"]\ntype = \"directory\"\nexclusive = { ignore = [\"*.bak\"] }\n";
    scene.put(MANIFEST, manifest);
    scene.put("root/etc/app.d/x.bak", "theirs\n");
    let unnameable = scene.at("root/etc/app.d").join(std::ffi::OsStr::from_bytes(b"\xff"));
    fs::write(unnameable, "x").expect("written");
    scene.trueup("run");
    scene.put("root/etc/app.d/evil.conf", "evil\n");
    let run = scene.trueup("run");
    assert_eq!(Scene::step(&run, "etc/app.d/evil.conf")["cause"], "corrective", "{run:#}");
    scene.put(MANIFEST, EXCLUSIVE);
    let run = scene.trueup("run");
    assert_eq!(Scene::step(&run, "etc/app.d/x.bak")["cause"], "intended", "{run:#}");
    assert!(!scene.has("etc/app.d/x.bak"));
}

#[test]
fn drift_knows_what_is_the_agents_own_and_what_is_declared_and_was_not_delivered() {
    let scene = Scene::new();
    scene.put("root/etc/trueup/agent.toml", "[secrets]\nidentity = \"/etc/app.d/own.key\"\n");
    scene.put("root/etc/app.d/own.key", "a key\n");
    assert_eq!(scene.trueup("run")["state"], "in-sync");
    // A link is in the way of what is declared now.
    symlink("nowhere", scene.at("root/etc/app.d/late.conf")).expect("made");
    scene.put("repo/hosts/web-01/files/etc/app.d/late.conf", "late\n");
    let run = scene.trueup("run");
    assert_eq!(Scene::step(&run, "etc/app.d/late.conf")["outcome"], "failed", "{run:#}");
    let drift = scene.trueup("drift");
    assert_eq!(drift["steps"].as_array().map(Vec::len), Some(0), "{drift:#}");
    scene.put("root/etc/app.d/evil.conf", "evil\n");
    let drift = scene.trueup("drift");
    assert_eq!(Scene::step(&drift, "etc/app.d/evil.conf")["cause"], "corrective");
    assert_eq!(drift["steps"].as_array().map(Vec::len), Some(1), "{drift:#}");
}

#[test]
fn what_an_exclusive_directory_within_another_ignored_was_there_before_once_it_is_exclusive_no_longer() {
    let inner = "[files.\"/etc/app.d/live\"]\ntype = \"directory\"\n";
    for (round, without) in [EXCLUSIVE.to_owned(), format!("{EXCLUSIVE}{inner}")].into_iter().enumerate() {
        let scene = Scene::new();
        scene.put(MANIFEST, &format!("{EXCLUSIVE}{inner}exclusive = {{ ignore = [\"*.bak\"] }}\n"));
        for name in ["here.bak", "held.bak"] {
            scene.put(&format!("root/etc/app.d/live/{name}"), "theirs\n");
        }
        assert_eq!(scene.trueup("run")["state"], "in-sync");
        scene.put("root/etc/app.d/live/evil.conf", "evil\n");
        // One that cannot go in this pass was there before in the next, too.
        let held = scene.at("root/etc/app.d/live/held.bak");
        fs::remove_file(&held).expect("removed");
        assert!(Command::new("mkfifo").arg(&held).status().expect("mkfifo is there").success());
        scene.put(MANIFEST, &without);
        let run = scene.trueup("run");
        assert_eq!(Scene::step(&run, "etc/app.d/live/evil.conf")["cause"], "corrective", "{round}: {run:#}");
        assert_eq!(Scene::step(&run, "etc/app.d/live/here.bak")["cause"], "intended", "{round}: {run:#}");
        assert_eq!(Scene::step(&run, "etc/app.d/live/held.bak")["outcome"], "failed", "{round}: {run:#}");
        let drift = scene.trueup("drift");
        assert_eq!(drift["steps"].as_array().map(Vec::len), Some(0), "{round}: {drift:#}");
        fs::remove_file(&held).expect("removed");
        fs::write(&held, "theirs\n").expect("written");
        let run = scene.trueup("run");
        assert_eq!(Scene::step(&run, "etc/app.d/live/held.bak")["cause"], "intended", "{round}: {run:#}");
        assert!(!scene.has("etc/app.d/live/here.bak") && !scene.has("etc/app.d/live/held.bak"));
        // They come back, and who came later does not.
        scene.put(MANIFEST, "[files.\"/etc/app.d\"]\ntype = \"directory\"\n");
        scene.trueup("run");
        assert!(scene.has("etc/app.d/live/here.bak") && scene.has("etc/app.d/live/held.bak"), "{round}");
        assert!(!scene.has("etc/app.d/live/evil.conf"), "{round}");
    }
}
