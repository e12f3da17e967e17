//! `trueup doctor` and `trueup setup` on a directory: what they say, and that a look changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::scratch::{put, root_and_repo};

/// A root directory that follows a repository on this machine.
struct Scene {
    _scratch: tempfile::TempDir,
    root: PathBuf,
    repo: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let (scratch, root, repo) = root_and_repo();
        let scene = Self { _scratch: scratch, root, repo };
        put(&scene.repo.join("trueup.toml"), "format = 1\n");
        put(&scene.repo.join("hosts/web-01/files/etc/motd"), "hello\n");
        scene.git(&["init", "-q", "-b", "main"]);
        scene.git(&["add", "-A"]);
        scene.git(&["commit", "-q", "-m", "first"]);
        scene.configure("");
        scene
    }

    fn git(&self, arguments: &[&str]) {
        let done = Command::new("git")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1"), ("HOME", "/nowhere")])
            .args(["-c", "user.name=Ana", "-c", "user.email=ana@example.org", "-c", "commit.gpgSign=false"])
            .args(arguments)
            .current_dir(&self.repo)
            .output()
            .expect("git starts");
        assert!(done.status.success(), "{done:?}");
    }

    fn configure(&self, more: &str) {
        let repo = self.repo.display();
        put(
            &self.root.join("etc/trueup/agent.toml"),
            &format!("[host]\nname = \"web-01\"\n[source]\nurl = \"{repo}\"\n{more}"),
        );
    }

    fn trueup(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
        command.args(arguments).arg("--root").arg(&self.root).stdin(Stdio::null());
        command.output().expect("it starts")
    }

    fn doctor(&self) -> (i32, Value) {
        let output = self.trueup(&["doctor", "--json"]);
        let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (output.status.code().expect("it ended by itself"), document)
    }

    /// The only thing that is bad is about `about`, and what is said and what to do hold these words.
    #[track_caller]
    fn is_bad(&self, about: &str, words: &[&str]) {
        let (status, document) = self.doctor();
        let bad = of_level(&document, "bad");
        assert_eq!((status, document["ok"].as_bool()), (1, Some(false)), "{document:#}");
        assert!(bad.iter().all(|finding| finding["about"] == about) && !bad.is_empty(), "{bad:#?}");
        let said =
            bad.iter().map(|finding| format!("{} {}\n", finding["message"], finding["advice"])).collect::<String>();
        for word in words {
            assert!(said.contains(word), "{word:?} in {said}");
        }
    }
}

fn of_level<'d>(document: &'d Value, level: &str) -> Vec<&'d Value> {
    document["findings"].as_array().expect("a list").iter().filter(|finding| finding["level"] == level).collect()
}

#[test]
fn what_is_well_is_told_with_what_is_in_force_and_from_where() {
    let scene = Scene::new();
    let (status, document) = scene.doctor();
    assert_eq!(
        (status, document["ok"].as_bool(), document["version"].as_u64()),
        (0, Some(true), Some(1)),
        "{document:#}"
    );
    assert_eq!(of_level(&document, "bad"), Vec::<&Value>::new());
    for finding in of_level(&document, "warn") {
        assert!(finding["advice"].is_string(), "{finding:#}");
    }
    let source = document["findings"].as_array().expect("a list").iter().find(|one| one["about"] == "source");
    assert!(source.expect("told")["message"].as_str().expect("text").contains("first; looked at in"), "{document:#}");
    let settings = document["settings"].as_array().expect("a list");
    let of = |key: &str| settings.iter().find(|one| one["key"] == key).expect("in force").clone();
    assert_eq!((&of("host.name")["line"], &of("source.interval")["value"]), (&Value::from(2), &Value::from("1m")));
    assert_eq!(of("source.interval")["path"], Value::Null);

    let text = String::from_utf8(scene.trueup(&["doctor"]).stdout).expect("text");
    assert!(
        text.lines().any(|line| line.starts_with("host.name") && line.ends_with("/etc/trueup/agent.toml:2")),
        "{text}"
    );
    assert!(text.ends_with(" 0 bad.\n") && !text.contains('\x1b'), "{text}");
}

#[test]
fn each_thing_that_is_broken_is_named_with_what_to_do() {
    let scene = Scene::new();
    let run = scene.trueup(&["run"]);
    assert!(run.status.success(), "{run:?}");
    assert_eq!(scene.doctor().0, 0);

    // The ledger.
    let ledger = scene.root.join("var/lib/trueup/ledger");
    let whole = fs::read(&ledger).expect("there");
    drop(fs::remove_file(ledger.with_extension("previous")));
    fs::write(&ledger, &whole[..whole.len() / 2]).expect("halved");
    scene.is_bad("state", &["ledger is damaged", "adopted anew"]);
    fs::write(&ledger, whole).expect("whole again");
    assert_eq!(scene.doctor().0, 0);

    // Our record: without it no older commit is refused.
    let record = scene.root.join("var/lib/trueup/record");
    let whole = fs::read(&record).expect("there");
    fs::write(&record, "half").expect("halved");
    let (status, document) = scene.doctor();
    assert_eq!(status, 1);
    assert!(of_level(&document, "bad").iter().any(|one| one["about"] == "state"), "{document:#}");
    fs::write(&record, whole).expect("whole again");

    // A name that nobody has, a branch that is not there, settings that are none.
    scene.configure("branch = \"gone\"\n");
    scene.is_bad("source", &["no-such-branch", "check source.branch"]);
    put(&scene.root.join("etc/trueup/agent.d/x.toml"), "[host]\nname = \"web-02\"\n");
    scene.configure("");
    scene.is_bad("host", &["looked for hosts/web-02", "[host] name"]);
    put(&scene.root.join("etc/trueup/agent.d/x.toml"), "[hots]\n");
    scene.is_bad("configuration", &["/etc/trueup/agent.d/x.toml:1:2: unknown section [hots]"]);
    fs::remove_file(scene.root.join("etc/trueup/agent.d/x.toml")).expect("removed");

    // A rewritten branch.
    scene.git(&["commit", "-q", "--amend", "-m", "another"]);
    scene.is_bad("source", &["not-a-descendant", "push a branch that contains"]);
    fs::rename(&scene.repo, scene.root.join("elsewhere")).expect("moved");
    scene.is_bad("source", &["repo"]);
}

#[test]
fn a_key_that_is_missing_or_open_to_others_is_bad() {
    let scene = Scene::new();
    let key = scene.root.join("key");
    let more = format!("ssh_key = \"{}\"\nknown_hosts = \"{}\"\n", key.display(), scene.root.join("hosts").display());
    // A second URL, which is not reached since the first answers.
    let repo = scene.repo.display();
    put(
        &scene.root.join("etc/trueup/agent.toml"),
        &format!("[host]\nname = \"web-01\"\n[source]\nurl = [\"{repo}\", \"ssh://git@h.invalid:2222/x\"]\n{more}"),
    );
    put(&scene.root.join("hosts"), "");
    scene.is_bad("credentials", &["key (source.ssh_key) is missing", "install -m 600"]);
    put(&key, "secret");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("set");
    scene.is_bad("credentials", &["mode 0644", "chmod 600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("set");
    assert_eq!(scene.doctor().0, 0);
    fs::remove_file(scene.root.join("hosts")).expect("removed");
    scene.is_bad("credentials", &["no server is believed", "ssh-keyscan -p 2222 h.invalid"]);
}

#[test]
fn setup_writes_the_settings_of_a_directory_and_overwrites_no_other_source() {
    let scene = Scene::new();
    fs::remove_file(scene.root.join("etc/trueup/agent.toml")).expect("removed");
    let done = scene.trueup(&["setup", "https://git.example.org/fleet.git", "--update", "observe"]);
    assert!(done.status.success(), "{done:?}");
    let text = fs::read_to_string(scene.root.join("etc/trueup/agent.toml")).expect("written");
    assert!(text.contains("\nurl = \"https://git.example.org/fleet.git\"\n"), "{text}");
    let again = scene.trueup(&["setup", "https://other.example.org/fleet.git"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("follows https://git.example.org/fleet.git already"));
    assert_eq!(fs::read_to_string(scene.root.join("etc/trueup/agent.toml")).expect("there"), text);
}
