//! The command as people and scripts meet it: exit status, what it prints where, and what is left when it cannot print.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::scratch::{put, root_and_repo};

/// A repository with one host, and a directory to be it.
struct Scene {
    scratch: tempfile::TempDir,
    root: PathBuf,
    repo: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let (scratch, root, repo) = root_and_repo();
        let scene = Self { scratch, root, repo };
        scene.declare("trueup.toml", "format = 1\n");
        scene.declare("hosts/web-01/files/etc/motd", "hello\n");
        scene
    }

    fn declare(&self, path: &str, text: &str) {
        put(&self.repo.join(path), text);
    }

    fn on_host(&self, path: &str, text: &str) {
        put(&self.root.join(path), text);
    }

    /// `trueup VERB… --root DIR`.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
        command.args(arguments).arg("--root").arg(&self.root).stdin(Stdio::null());
        command
    }

    /// The same, with `--repo` and `--host`.
    fn of_fleet(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.arg("--repo").arg(&self.repo).args(["--host", "web-01"]);
        command
    }

    fn converge(&self) {
        let done = self.of_fleet(&["run"]).output().expect("started");
        assert_eq!(status(&done), 0, "{done:?}");
    }

    fn motd(&self) -> Option<String> {
        fs::read_to_string(self.root.join("etc/motd")).ok()
    }
}

fn status(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[track_caller]
fn json(command: &mut Command) -> (i32, Value) {
    let output = command.output().expect("started");
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no JSON: {error}\n{output:?}"));
    (status(&output), value)
}

#[track_caller]
fn reason(command: &mut Command) -> (i32, String, String) {
    let (status, value) = json(command);
    let word = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    (status, word("reason"), word("message"))
}

/// `output` holds `what`, once.
#[track_caller]
fn once(output: &str, what: &str) {
    assert_eq!(output.matches(what).count(), 1, "{what:?} in {output:?}");
}

#[test]
fn what_cannot_be_printed_does_not_stop_the_work() {
    let full = || File::options().write(true).open("/dev/full").expect("it is there");
    let scene = Scene::new();
    let done = scene.of_fleet(&["run"]).stdout(full()).output().expect("started");
    assert_eq!((status(&done), scene.motd().as_deref()), (0, Some("hello\n")), "{done:?}");
    for verb in [&["plan"][..], &["drift"], &["facts"], &["restore"]] {
        let mut command = if verb == ["plan"] { scene.of_fleet(verb) } else { scene.command(verb) };
        let done = command.stdout(full()).output().expect("started");
        assert_eq!(status(&done), 0, "{verb:?}: {done:?}");
    }
    let check = Command::new(env!("CARGO_BIN_EXE_trueup")).arg("check").arg(&scene.repo).stdout(full()).output();
    assert_eq!(status(&check.expect("started")), 0);
    // Nor what cannot be told.
    let done = scene.command(&["restore", "k-1"]).stderr(full()).status().expect("started");
    assert_eq!(done.code(), Some(1));
}

#[test]
fn a_report_that_cannot_be_printed_is_a_failure_after_the_work() {
    let scene = Scene::new();
    let full = File::options().write(true).open("/dev/full").expect("it is there");
    let done = scene.of_fleet(&["run", "--json"]).stdout(full).output().expect("started");
    assert_eq!((status(&done), scene.motd().as_deref()), (1, Some("hello\n")), "{done:?}");
    once(&told(&done), "No space left on device");
}

#[test]
fn a_damaged_ledger_is_told_as_json_and_as_stalled() {
    let scene = Scene::new();
    scene.converge();
    scene.on_host("var/lib/trueup/ledger", "half");
    drop(fs::remove_file(scene.root.join("var/lib/trueup/ledger.previous")));
    for verb in [&["drift", "--json"][..], &["release", "--all", "--json"]] {
        let (status, word, _) = reason(&mut scene.command(verb));
        assert_eq!((status, word.as_str()), (3, "state-damaged"), "{verb:?}");
    }
    for verb in [&["drift"][..], &["release", "--all"], &["restore"], &["restore", "k-1"], &["rebind", "web-02"]] {
        let done = scene.command(verb).output().expect("started");
        assert_eq!(status(&done), 3, "{verb:?}: {done:?}");
        once(&(told(&done) + &said(&done)), "is damaged");
    }
}

#[test]
fn settings_that_cannot_be_used_stall_whoever_needs_them() {
    let scene = Scene::new();
    scene.on_host("etc/trueup/agent.toml", "[policy]\nupdate = \"never\"\n");
    for verb in ["run", "plan"] {
        let (status, word, _) = reason(&mut scene.of_fleet(&[verb, "--json"]));
        assert_eq!((status, word.as_str()), (3, "bad-settings"), "{verb}");
    }
    let (status, word, _) = reason(&mut scene.command(&["release", "--all", "--json"]));
    assert_eq!((status, word.as_str()), (3, "bad-settings"));
    fs::remove_file(scene.root.join("etc/trueup/agent.toml")).expect("removed");
    fs::create_dir(scene.root.join("etc/trueup/agent.toml")).expect("made");
    let (status, word, message) = reason(&mut scene.of_fleet(&["plan", "--json"]));
    assert_eq!((status, word.as_str()), (3, "bad-settings"), "{message}");
}

#[test]
fn the_lock_of_another_process_stalls_and_is_told_in_one_line() {
    let scene = Scene::new();
    scene.converge();
    let lock = File::options().write(true).open(scene.root.join("var/lib/trueup/lock")).expect("it is there");
    lock.try_lock().expect("free");
    let (status_run, word, message) = reason(&mut scene.of_fleet(&["run", "--json"]));
    assert_eq!((status_run, word.as_str()), (3, "locked"));
    once(&message, &format!("pid {}", std::process::id()));
    let (status_release, word, _) = reason(&mut scene.command(&["release", "--all", "--json"]));
    assert_eq!((status_release, word.as_str()), (3, "locked"));
    for verb in [&["release", "--all"][..], &["restore", "k-1"], &["rebind", "web-02"]] {
        let done = scene.command(verb).output().expect("started");
        let text = told(&done) + &said(&done);
        assert_eq!((status(&done), text.lines().count()), (3, 1), "{verb:?}: {done:?}");
        once(&text, "locked: another trueup is at work here");
    }
}

#[test]
fn what_somebody_else_may_not_read_needs_root_and_is_no_damage() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: not tested");
        return;
    }
    let scene = Scene::new();
    scene.converge();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(scene.scratch.path(), open.clone()).expect("set");
    // Where the program was built may be closed to others.
    let program = scene.scratch.path().join("trueup");
    fs::copy(env!("CARGO_BIN_EXE_trueup"), &program).expect("copied");
    fs::set_permissions(&program, open).expect("set");
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).arg("--root").arg(&scene.root).stdin(Stdio::null()).uid(65534).gid(65534);
        command.current_dir("/");
        command
    };
    let (status_drift, word, message) = reason(&mut nobody(&["drift", "--json"]));
    assert_eq!((status_drift, word.as_str()), (1, "cannot-tell"), "{message}");
    once(&message, "needs root");
    once(&message, "Permission denied");
    let repo = scene.repo.to_str().expect("text");
    let fleet = ["--json", "--host", "web-01", "--repo", repo];
    let (status_plan, word, message) = reason(nobody(&["plan"]).args(fleet));
    assert_eq!((status_plan, word.as_str()), (1, "cannot-tell"), "{message}");
    // Nor is there a place for our state to be made.
    fs::remove_dir_all(scene.root.join("var")).expect("removed");
    let (status_run, word, message) = reason(nobody(&["run"]).args(fleet));
    assert_eq!((status_run, word.as_str()), (1, "state-unwritable"), "{message}");
    once(&message, "Permission denied");
    once(&message, "needs root");
    let done = nobody(&["rebind", "web-02"]).output().expect("started");
    assert_eq!(status(&done), 1);
    once(&told(&done), "Permission denied");
    once(&told(&done), "needs root");
}

#[test]
fn options_that_do_not_fit_are_refused_and_not_passed_over() {
    let scene = Scene::new();
    let done = scene.of_fleet(&["plan", "--branch", "next"]).output().expect("started");
    assert_eq!(status(&done), 1, "{done:?}");
    once(&told(&done), "--branch");
    for path in ["..", "a/../..", "/srv", "a//b", "./a"] {
        for done in [
            scene.of_fleet(&["plan", "--path", path]).output().expect("started"),
            Command::new(env!("CARGO_BIN_EXE_trueup")).args(["check", "--path", path]).output().expect("started"),
        ] {
            assert_eq!(status(&done), 1, "{path}: {done:?}");
            assert!(told(&done).contains("relative to the root of the repository"), "{path}: {done:?}");
        }
    }
}

#[test]
fn the_wrong_directory_is_no_fleet_rather_than_one_without_this_host() {
    let scene = Scene::new();
    scene.declare("sub/readme", "");
    let (status_sub, word, message) = reason(&mut scene.of_fleet(&["plan", "--json", "--path", "sub"]));
    assert_eq!((status_sub, word.as_str()), (3, "not-a-fleet"), "{message}");
    once(&message, "there is no trueup.toml in the directory ");
    once(&message, "--path");
    let mut command = scene.command(&["plan", "--json", "--host", "web-02"]);
    let (status_host, word, message) = reason(command.arg("--repo").arg(&scene.repo));
    assert_eq!((status_host, word.as_str()), (3, "no-such-host"));
    once(&message, &format!("the directory {} has no directory for this host", scene.repo.display()));
    // What was good before still holds, and the plan says why it is not newer.
    scene.converge();
    let done = scene.of_fleet(&["plan", "--path", "sub"]).output().expect("started");
    assert_eq!(status(&done), 3, "{done:?}");
    once(&said(&done), "stalled   not-a-fleet: there is no trueup.toml");
}

#[test]
fn rebind_and_restore_speak_json() {
    let scene = Scene::new();
    scene.on_host("etc/motd", "before\n");
    scene.converge();
    let (_, list) = json(&mut scene.command(&["restore", "--json"]));
    let id = list["kept"][0]["id"].as_str().expect("an id").to_owned();
    let (status_restore, value) = json(&mut scene.command(&["restore", &id, "--json"]));
    assert_eq!((status_restore, scene.motd().as_deref()), (0, Some("before\n")));
    assert_eq!((&value["version"], &value["command"]), (&1.into(), &"restore".into()));
    assert_eq!((&value["id"], &value["resource"]), (&id.as_str().into(), &"file:/etc/motd".into()));
    assert_eq!((&value["to"], &value["managed"]), (&Value::Null, &true.into()));
    assert!(value["replaced"].as_str().is_some_and(|copy| copy.starts_with("k-") && copy != id), "{value}");
    let to = scene.scratch.path().join("copy");
    let (_, value) = json(&mut scene.command(&["restore", &id, "--json", "--to", to.to_str().expect("text")]));
    assert_eq!(value["to"].as_str(), to.to_str());
    let (status_rebind, value) = json(&mut scene.command(&["rebind", "web-02", "--json"]));
    assert_eq!(status_rebind, 0);
    assert_eq!(value, serde_json::json!({"version": 1, "command": "rebind", "was": "web-01", "host": "web-02"}));
}

#[test]
fn a_cause_is_said_once() {
    let done = Command::new(env!("CARGO_BIN_EXE_trueup")).args(["check", "/nope"]).output().expect("started");
    assert_eq!(status(&done), 1);
    once(&told(&done), "No such file or directory");
}

#[test]
fn fragments_are_read_in_order_without_hidden_ones_and_through_links() {
    let scene = Scene::new();
    let update = |name: &str, value: &str| {
        scene.on_host(&format!("etc/trueup/agent.d/{name}"), &format!("[policy]\nupdate = \"{value}\"\n"));
    };
    update("20-b.toml", "observe");
    update("10-a.toml", "auto");
    update(".30-c.toml", "never");
    update("40-d.toml~", "never");
    let (status_plan, value) = json(&mut scene.of_fleet(&["run", "--json"]));
    assert_eq!((status_plan, scene.motd()), (2, None), "the last one observes: {value}");
    scene.on_host("srv/agent/auto.toml", "[policy]\nupdate = \"auto\"\n");
    symlink("/srv/agent/auto.toml", scene.root.join("etc/trueup/agent.d/50-e.toml")).expect("made");
    scene.converge();
    assert_eq!(scene.motd().as_deref(), Some("hello\n"), "the link is followed");
}

#[test]
fn a_mistake_in_a_role_that_no_host_includes_is_told_too() {
    let scene = Scene::new();
    let check = || {
        let repo = scene.repo.to_str().expect("text");
        let output =
            Command::new(env!("CARGO_BIN_EXE_trueup")).args(["check", repo, "--json"]).output().expect("it runs");
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).expect("JSON"))
    };
    scene.declare("roles/unused/role.toml", "[policy]\ndrift = \"report\"\n");
    assert_eq!(check().0, Some(0));
    scene.declare("roles/unused/role.toml", "[polcy]\ndrift = \"report\"\n");
    let (code, checked) = check();
    assert_eq!(code, Some(1), "{checked:#}");
    assert_eq!(checked["problems"][0]["path"], "roles/unused/role.toml", "{checked:#}");
}

/// Verbs that ask the agent.
const ASKING: &[&[&str]] = &[
    &["sync"],
    &["suspend", "/etc/motd", "--for", "8h", "--reason", "INC-4711"],
    &["suspend", "--until", "09:00"],
    &["resume"],
    &["approve"],
    &["approve", "4f2a9c1"],
    &["retry"],
    &["rollback", "4f2a9c1"],
];

#[test]
fn what_only_the_agent_can_do_says_how_to_start_it() {
    let scene = Scene::new();
    for verb in ASKING {
        let done = scene.command(verb).output().expect("started");
        assert_eq!((status(&done), said(&done).as_str()), (3, ""), "{verb:?}: {done:?}");
        // A pass without it does that, too.
        let instead = if verb[0] == "retry" { "; or, without it, `trueup run --retry`" } else { "" };
        let words = format!("trueup: the agent is not running: systemctl start trueup{instead}\n");
        assert_eq!(told(&done), words, "{verb:?}");
        let (code, value) = json(scene.command(verb).arg("--json"));
        assert_eq!((code, &value["done"], &value["reason"]), (3, &false.into(), &"not-running".into()), "{value}");
        assert_eq!(value["command"], verb[0]);
    }
}

#[test]
fn what_cannot_be_asked_is_refused_before_the_agent_is_looked_for() {
    let scene = Scene::new();
    for (verb, why) in [
        (&["suspend", "--for", "31d"][..], "30 days"),
        (&["suspend", "--for", "8"], "a whole number and s, m, h or d"),
        (&["suspend", "--until", "tea time"], "a time of the day like 09:00"),
        (&["suspend", "--until", "2026-01-01 00:00"], "over already"),
        (&["suspend", "nginx"], "nginx.service"),
        (&["suspend", "--reason", "a\nb"], "one line"),
        (&["resume", "../motd"], "/etc/motd"),
        (&["rollback"], "<COMMIT>"),
    ] {
        let done = scene.command(verb).output().expect("started");
        assert_eq!(status(&done), 1, "{verb:?}: {done:?}");
        assert!(told(&done).contains(why), "{verb:?}: {done:?}");
    }
}

#[test]
fn without_an_agent_the_status_is_what_is_on_disk() {
    let scene = Scene::new();
    scene.converge();
    scene.on_host("etc/trueup/agent.toml", "[source]\nurl = \"https://git.example.org/fleet.git\"\n");
    let (code, value) = json(&mut scene.command(&["status", "--json"]));
    assert_eq!((code, &value["version"], &value["state"]), (3, &1.into(), &"stalled".into()), "{value:#}");
    assert_eq!((&value["reason"], &value["host"]), (&"not-running".into(), &"web-01".into()));
    assert_eq!((&value["resources"]["managed"], &value["last"]["state"]), (&1.into(), &"in-sync".into()));
    assert_eq!((&value["source"]["url"], &value["agent"]), (&"https://git.example.org/fleet.git".into(), &Value::Null));
    let done = scene.command(&["status"]).output().expect("started");
    assert_eq!(status(&done), 3);
    let text = said(&done);
    assert!(text.starts_with("web-01   stalled   not-running"), "{text}");
    once(&text, "1 managed · not looked at");
    assert!(text.ends_with("  next       systemctl start trueup · journalctl -u trueup\n"), "{text}");
    // What cannot be believed is said, and the rest all the same.
    scene.on_host("var/lib/trueup/ledger", "half");
    drop(fs::remove_file(scene.root.join("var/lib/trueup/ledger.previous")));
    let (code, value) = json(&mut scene.command(&["status", "--json"]));
    assert_eq!((code, &value["reason"]), (3, &"not-running".into()));
    once(&value["notes"].to_string(), "is damaged");
}

#[test]
fn passes_in_which_something_happened_are_remembered_and_no_others() {
    let scene = Scene::new();
    let empty = scene.command(&["history"]).output().expect("started");
    assert_eq!((status(&empty), said(&empty).as_str()), (0, "Nothing has happened yet.\n"));
    let passes = || {
        let (code, value) = json(&mut scene.command(&["history", "--json"]));
        assert_eq!((code, &value["version"], &value["command"]), (0, &1.into(), &"history".into()));
        value["passes"].as_array().expect("a list").clone()
    };
    scene.converge();
    scene.converge();
    assert_eq!(passes().len(), 1, "the second changed nothing");
    scene.on_host("etc/motd", "edited\n");
    scene.converge();
    let known = passes();
    assert_eq!(known.len(), 2);
    assert_eq!((&known[0]["command"], &known[0]["state"]), (&"run".into(), &"in-sync".into()));
    let line = known[0]["lines"][0].as_str().expect("a line");
    assert!(line.starts_with("changed file:/etc/motd  content +1 -1  corrective; "), "{line}");
    once(line, "trueup restore k-");

    let list = scene.command(&["history"]).output().expect("started");
    assert_eq!((status(&list), said(&list).lines().count()), (0, 2), "{list:?}");
    let pass = known[0]["pass"].as_str().expect("an id");
    let details = scene.command(&["history", pass]).output().expect("started");
    assert_eq!(status(&details), 0);
    once(&said(&details), pass);
    once(&said(&details), line);
    let none = scene.command(&["history", "b81d07e"]).output().expect("started");
    assert_eq!(status(&none), 1);
    once(&told(&none), "b81d07e");
}

#[test]
fn a_watched_status_is_a_line_for_each_change_and_ends_when_interrupted() {
    let scene = Scene::new();
    let mut watching = scene.command(&["status", "--watch"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    let mut out = std::io::BufReader::new(watching.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut out, &mut line).expect("read");
    assert!(line.ends_with("stalled   not-running: the agent is not running: systemctl start trueup\n"), "{line}");
    let pid = nix::unistd::Pid::from_raw(watching.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it is ours");
    assert_eq!(watching.wait().expect("it ends").code(), Some(0));
}

#[test]
fn every_verb_explains_itself() {
    let help = |arguments: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_trueup")).args(arguments).arg("--help").output().expect("started");
        assert_eq!(status(&done), 0, "{arguments:?}: {done:?}");
        said(&done).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let all = help(&[]);
    for (verb, words) in [
        ("status", "--watch"),
        ("sync", "--allow-removals <N>"),
        ("history", "[COMMIT|PASS]"),
        ("suspend", "[default: 4h]"),
        ("resume", "without any, everything"),
        ("approve", "the newest that was seen"),
        ("retry", "failed or is contested"),
        ("rollback", "until `trueup resume`"),
        ("restore", "suspended for 4 hours"),
    ] {
        assert!(all.contains(&format!(" {verb} ")), "{verb} in {all}");
        let text = help(&[verb]);
        assert!(text.contains(words), "{words:?} in {text}");
    }
}

#[test]
fn a_pass_that_stalls_before_there_is_a_plan_shows_none() {
    let scene = Scene::new();
    scene.converge();
    let done = scene.command(&["run", "--host", "nobody"]).arg("--repo").arg(&scene.repo).output().expect("started");
    assert_eq!(status(&done), 3, "{done:?}");
    let text = said(&done);
    assert!(text.contains("no-such-host") && !text.contains("Nothing to do"), "{text}");
}
