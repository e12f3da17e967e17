//! Secrets: read on their host only, and found nowhere but where they belong.
#![cfg(feature = "secrets")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::scratch::{put, root_and_repo};
use super::source::trueup;

const KEY: &str = "/etc/ssh/ssh_host_ed25519_key";
const SECRET: &str = "hosts/web-01/files/etc/app/key.age";

/// A fleet with two hosts and an author, and a directory to be `web-01`.
struct Scene {
    scratch: tempfile::TempDir,
    root: PathBuf,
    repo: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let (scratch, root, repo) = root_and_repo();
        let scene = Self { scratch, root, repo };
        fs::create_dir_all(scene.root.join("etc/ssh")).expect("made");
        let author = scene.key(&scene.author());
        put(&scene.repo.join("trueup.toml"), &format!("format = 1\n[secrets]\nrecipients = [\"{author}\"]\n"));
        let own = scene.key(&scene.root.join(&KEY[1..]));
        scene.host("web-01", &own);
        scene.declare("hosts/web-01/files/etc/motd", "hello\n");
        scene
    }

    fn author(&self) -> PathBuf {
        self.scratch.path().join("author")
    }

    /// A new key at `path`; its public half.
    fn key(&self, path: &Path) -> String {
        let _ = fs::remove_file(path);
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).output();
        assert!(made.expect("ssh-keygen is there").status.success());
        let line = fs::read_to_string(path.with_file_name(format!("{}.pub", name(path)))).expect("a public half");
        line.trim().to_owned()
    }

    fn host(&self, name: &str, key: &str) {
        let manifest = format!("roles = [\"base\"]\n[secrets]\nrecipient = \"{key}\"\n");
        self.declare(&format!("hosts/{name}/host.toml"), &manifest);
        self.declare("roles/base/role.toml", "");
    }

    fn declare(&self, path: &str, text: &str) {
        put(&self.repo.join(path), text);
    }

    fn trueup(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(trueup());
        command.args(arguments).current_dir(&self.repo).env("TRUEUP_IDENTITY", self.author());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("read");
        child.wait_with_output().expect("ended")
    }

    #[track_caller]
    fn encrypt(&self, path: &str, content: &str) {
        let done = self.trueup(&["secret", "encrypt", path], content);
        assert!(done.status.success(), "{}", all(&done));
    }

    /// `trueup VERB…` on the directory that is `web-01`.
    fn on_host(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(trueup());
        command.args(arguments).arg("--root").arg(&self.root).stdin(Stdio::null());
        if ["run", "plan"].contains(&arguments[0]) {
            command.arg("--repo").arg(&self.repo).args(["--host", "web-01"]);
        }
        command.output().expect("started")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.on_host(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no JSON: {error}\n{}", all(&output)))
    }

    #[track_caller]
    fn converge(&self) {
        let done = self.on_host(&["run"]);
        assert_eq!(done.status.code(), Some(0), "{}", all(&done));
    }

    /// All that is in the repository, under version control.
    fn commit(&self) {
        let settings = ["-c", "user.name=Ana", "-c", "user.email=ana@example.org"];
        for arguments in [&["init", "--quiet"][..], &["add", "--all"], &["commit", "--quiet", "--message", "all"]] {
            let mut git = Command::new("git");
            git.args(settings).args(arguments).current_dir(&self.repo);
            git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
            let done = git.output().expect("git is there");
            assert!(done.status.success(), "{}", all(&done));
        }
    }

    fn here(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path.trim_start_matches('/'))).ok()
    }
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("text")
}

fn all(output: &Output) -> String {
    [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat()
}

/// Everything by which somebody could know `canary`: itself, and what it is called by its digest.
fn traces(canary: &str) -> [Vec<u8>; 3] {
    let hex: String = Sha256::digest(canary).iter().map(|byte| format!("{byte:02x}")).collect();
    [canary.trim().as_bytes().to_vec(), hex.as_bytes()[..12].to_vec(), Sha256::digest(canary).to_vec()]
}

/// The files below `directory` that hold `what`.
fn found(directory: &Path, what: &[u8]) -> Vec<String> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                open.push(path);
            } else if fs::read(&path).is_ok_and(|held| held.windows(what.len()).any(|part| part == what)) {
                files.push(path.strip_prefix(directory).expect("below").to_string_lossy().into_owned());
            }
        }
    }
    files
}

const CANARIES: [&str; 3] = ["canary-one-PUJB\n", "canary-two-XVQK\n", "canary-by-hand-ZRWM\n"];

/// No output tells of any canary, and no file of the host but `at` holds it.
#[track_caller]
fn silent(scene: &Scene, outputs: &[Output], at: &[&str]) {
    for canary in CANARIES {
        let [plain, hex, raw] = traces(canary);
        for output in outputs {
            let said = all(output);
            for part in [&plain, &hex] {
                let part = String::from_utf8_lossy(part);
                assert!(!said.contains(&*part), "{part} is told:\n{said}");
            }
        }
        for file in found(&scene.root, &plain) {
            assert!(at.contains(&file.as_str()), "{canary} is in {file}");
        }
        assert_eq!(found(&scene.root, &raw), Vec::<String>::new(), "not in a pack either");
    }
}

#[test]
fn a_secret_is_where_it_belongs_and_nowhere_else_whatever_is_done_about_it() {
    let scene = Scene::new();
    let at = ["etc/app/key"];
    scene.encrypt(SECRET, CANARIES[0]);
    assert_eq!(found(&scene.repo, CANARIES[0].trim().as_bytes()), Vec::<String>::new());
    let planned = scene.on_host(&["plan"]);
    assert_eq!(planned.status.code(), Some(2), "{}", all(&planned));
    let mut said = vec![planned, scene.on_host(&["run"]), scene.on_host(&["run", "--json"])];
    assert_eq!(scene.here("/etc/app/key").as_deref(), Some(CANARIES[0]));
    let mode = fs::metadata(scene.root.join("etc/app/key")).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    silent(&scene, &said, &at);

    // Another secret, planned with its diff and then applied.
    scene.encrypt(SECRET, CANARIES[1]);
    let planned = scene.on_host(&["plan"]);
    assert!(all(&planned).contains("content differs (secret)"), "{}", all(&planned));
    said.extend([planned, scene.on_host(&["plan", "--json"]), scene.on_host(&["run"]), scene.on_host(&["history"])]);
    assert_eq!(scene.here("/etc/app/key").as_deref(), Some(CANARIES[1]));
    silent(&scene, &said, &at);

    // It drifts: told, put back, and the edit kept, encrypted.
    fs::write(scene.root.join("etc/app/key"), CANARIES[2]).expect("written");
    for verb in
        [&["drift"][..], &["drift", "--json"], &["plan"], &["run"], &["run", "--json"], &["restore"], &["status"]]
    {
        said.push(scene.on_host(verb));
    }
    assert_eq!(scene.here("/etc/app/key").as_deref(), Some(CANARIES[1]));
    silent(&scene, &said, &at);

    // It is to be no secret any more, and then nothing at all: what stood there is one still.
    fs::remove_file(scene.repo.join(SECRET)).expect("there");
    scene.declare("hosts/web-01/files/etc/app/key", "public\n");
    said.push(scene.on_host(&["plan"]));
    said.push(scene.on_host(&["run"]));
    assert_eq!(scene.here("/etc/app/key").as_deref(), Some("public\n"));
    silent(&scene, &said, &[]);
    scene.encrypt(SECRET, CANARIES[0]);
    fs::remove_file(scene.repo.join("hosts/web-01/files/etc/app/key")).expect("there");
    scene.converge();
    fs::remove_file(scene.repo.join(SECRET)).expect("there");
    fs::write(scene.root.join("etc/app/key"), CANARIES[2]).expect("written");
    said.extend([scene.on_host(&["plan"]), scene.on_host(&["run"]), scene.on_host(&["restore", "--json"])]);
    assert_eq!(scene.here("/etc/app/key"), None);
    silent(&scene, &said, &[]);
}

#[test]
fn what_somebody_wrote_over_a_secret_is_given_back() {
    let scene = Scene::new();
    scene.encrypt(SECRET, CANARIES[0]);
    fs::create_dir_all(scene.root.join("etc/app")).expect("made");
    fs::write(scene.root.join("etc/app/key"), CANARIES[1]).expect("written");
    scene.converge();
    fs::write(scene.root.join("etc/app/key"), CANARIES[2]).expect("written");
    scene.converge();
    assert_eq!(scene.here("/etc/app/key").as_deref(), Some(CANARIES[0]));
    let kept = scene.json(&["restore"])["kept"].clone();
    let copies = kept.as_array().expect("a list");
    assert_eq!(copies.len(), 2, "{kept:#}");
    for (copy, canary) in copies.iter().zip([CANARIES[1], CANARIES[2]]) {
        let id = copy["id"].as_str().expect("an id");
        let to = scene.scratch.path().join(id);
        let done = scene.on_host(&["restore", id, "--to", to.to_str().expect("text")]);
        assert_eq!(fs::read_to_string(&to).expect("written"), canary, "{}", all(&done));
        let done = scene.on_host(&["restore", id]);
        assert_eq!((done.status.code(), scene.here("/etc/app/key").as_deref()), (Some(0), Some(canary)));
    }
    silent(&scene, &[], &["etc/app/key"]);
}

#[test]
fn a_secret_that_is_not_for_this_host_keeps_the_old_one_and_holds_nobody_up() {
    let scene = Scene::new();
    scene.encrypt(SECRET, CANARIES[0]);
    scene.converge();
    // The host gets another key, and the manifest the new one: nobody has rekeyed.
    let old = fs::read(scene.root.join(&KEY[1..])).expect("there");
    let new = scene.key(&scene.root.join(&KEY[1..]));
    scene.host("web-01", &new);
    scene.declare("hosts/web-01/files/etc/motd", "changed\n");
    let run = scene.json(&["run"]);
    assert_eq!((&run["state"], &run["reason"]), (&"degraded".into(), &"secret-not-for-us".into()), "{run:#}");
    assert_eq!(scene.here("/etc/app/key").as_deref(), Some(CANARIES[0]), "the old one stays");
    assert_eq!(scene.here("/etc/motd").as_deref(), Some("changed\n"), "the rest goes on");
    let text = run.to_string();
    assert!(text.contains("trueup secret rekey") && text.contains("ssh-ed25519 SHA256:"), "{text}");

    let rekeyed = scene.trueup(&["secret", "rekey"], "");
    assert!(all(&rekeyed).contains("rekeyed   hosts/web-01/files/etc/app/key.age"), "{}", all(&rekeyed));
    scene.converge();
    scene.on_host(&["run"]);
    let again = scene.trueup(&["secret", "rekey"], "");
    assert!(all(&again).contains("unchanged"), "{}", all(&again));

    // What the old key opened is not for the new one either, where drift is to be put back.
    fs::write(scene.root.join(&KEY[1..]), old).expect("written");
    fs::write(scene.root.join("etc/app/key"), CANARIES[2]).expect("written");
    let run = scene.json(&["run"]);
    assert_eq!(run["reason"], "secret-not-for-us", "{run:#}");
    assert_eq!(scene.here("/etc/app/key").as_deref(), Some(CANARIES[2]));
}

#[test]
fn keys_that_cannot_be_used_are_told_and_a_directory_without_any_is_nobodys_fault() {
    let scene = Scene::new();
    scene.encrypt(SECRET, CANARIES[0]);
    let key = scene.root.join(&KEY[1..]);
    let reason = |scene: &Scene| {
        let run = scene.json(&["run"]);
        (run["reason"].as_str().unwrap_or_default().to_owned(), run.to_string())
    };
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("set");
    let (word, text) = reason(&scene);
    assert_eq!(word, "secret-no-identity", "{text}");
    assert!(text.contains("chmod 600"), "{text}");
    scene.key(&key);
    let locked = Command::new("ssh-keygen").args(["-q", "-p", "-N", "passphrase", "-f"]).arg(&key).status();
    assert!(locked.expect("started").success());
    let (word, text) = reason(&scene);
    assert!(word == "secret-no-identity" && text.contains("protected by a passphrase"), "{text}");
    // One that root named, and that is not there.
    put(&scene.root.join("etc/trueup/agent.toml"), "[secrets]\nidentity = \"/etc/trueup/key\"\n");
    let (word, text) = reason(&scene);
    assert!(word == "secret-no-identity" && text.contains("/etc/trueup/key is not there"), "{text}");
    fs::remove_file(scene.root.join("etc/trueup/agent.toml")).expect("there");
    fs::remove_file(&key).expect("there");
    let run = scene.json(&["run"]);
    assert_eq!(run["state"], "in-sync", "{run:#}");
    assert!(run.to_string().contains("encrypted, and there is no key here"), "{run:#}");
    assert_eq!(scene.here("/etc/app/key"), None);
}

#[test]
fn another_key_is_noticed_though_the_commit_is_the_same() {
    let scene = Scene::new();
    scene.encrypt(SECRET, CANARIES[0]);
    scene.commit();
    scene.converge();
    let key = scene.root.join(&KEY[1..]);
    let old = fs::read(&key).expect("there");
    let reason = || scene.json(&["run", "--retry"])["reason"].clone();
    // Replaced, and that by the settings; taken away; and there again.
    scene.key(&key);
    assert_eq!(reason(), "secret-not-for-us");
    put(&key, &String::from_utf8(old).expect("text"));
    scene.converge();
    put(&scene.root.join("etc/trueup/agent.toml"), "[secrets]\nidentity = \"/etc/trueup/key\"\n");
    assert_eq!(reason(), "secret-no-identity");
    fs::copy(&key, scene.root.join("etc/trueup/key")).expect("copied");
    fs::set_permissions(scene.root.join("etc/trueup/key"), fs::Permissions::from_mode(0o600)).expect("set");
    scene.converge();
    scene.key(&scene.root.join("etc/trueup/key"));
    assert_eq!(reason(), "secret-not-for-us");
    fs::remove_file(scene.root.join("etc/trueup/agent.toml")).expect("there");
    scene.converge();
    // What was told to nobody is nowhere: which key it is follows from the file, not from what is in it.
    silent(&scene, &[], &["etc/app/key"]);
}

#[test]
fn a_secret_is_rendered_after_it_was_decrypted_and_no_error_says_what_it_holds() {
    let scene = Scene::new();
    scene.encrypt("roles/base/files/etc/app.conf.j2.age", "host = {{ host.name }}\npassword = canary-one-PUJB\n");
    scene.converge();
    assert_eq!(scene.here("/etc/app.conf").as_deref(), Some("host = web-01\npassword = canary-one-PUJB\n"));
    let broken = "{{ canary_two_XVQK }}\n{% canary-one-PUJB %}\n";
    for wrong in [broken, "x\n{{ vars.canary_two_XVQK }}\n", "{{ 'canary-one-PUJB' | canary_two_XVQK }}"] {
        scene.encrypt("roles/base/files/etc/app.conf.j2.age", wrong);
        let run = scene.json(&["run"]);
        assert_eq!(run["reason"], "secret-template", "{run:#}");
        assert!(!run.to_string().contains("canary"), "{run:#}");
        assert!(scene.here("/etc/app.conf").is_some_and(|old| old.starts_with("host = web-01")));
    }
    silent(&scene, &[], &["etc/app.conf"]);
}

#[test]
fn check_tells_of_a_secret_that_a_host_cannot_read_and_rekey_puts_it_right() {
    let scene = Scene::new();
    scene.encrypt("roles/base/files/etc/base.age", "x");
    scene.encrypt(SECRET, "y");
    let check = || scene.trueup(&["check", "--json"], "");
    let fine = check();
    assert!(fine.status.success(), "{}", all(&fine));
    // A second host includes the role.
    let other = scene.key(&scene.scratch.path().join("web-02"));
    scene.host("web-02", &other);
    let told: Value = serde_json::from_slice(&check().stdout).expect("JSON");
    let problems = told["problems"].as_array().expect("a list");
    assert_eq!(problems.len(), 1, "{told:#}");
    assert_eq!(problems[0]["path"], "roles/base/files/etc/base.age");
    assert_eq!(problems[0]["hosts"], serde_json::json!(["web-02"]));
    assert_eq!(problems[0]["hint"], "encrypt it anew with `trueup secret rekey roles/base/files/etc/base.age`");
    let rekeyed = scene.trueup(&["secret", "rekey"], "");
    assert!(rekeyed.status.success(), "{}", all(&rekeyed));
    assert!(check().status.success());
    // It is read with the key of either, and says what it said.
    for key in [scene.author(), scene.scratch.path().join("web-02"), scene.root.join(&KEY[1..])] {
        let key = key.to_str().expect("text");
        let shown = scene.trueup(&["secret", "show", "roles/base/files/etc/base.age", "--identity", key], "");
        assert_eq!(shown.stdout, b"x", "{}", all(&shown));
    }
    // What no host could open is told before it is pushed: here something stands before it.
    let whole = fs::read_to_string(scene.repo.join(SECRET)).expect("there");
    scene.declare(SECRET, &format!("\n{whole}"));
    let damaged = check();
    assert!(!damaged.status.success() && all(&damaged).contains("its armour is not whole"), "{}", all(&damaged));
    let twice = scene.trueup(&["secret", "encrypt", SECRET], &format!("\n{whole}"));
    assert!(!twice.status.success() && all(&twice).contains("encrypted already"), "{}", all(&twice));
    scene.declare(SECRET, &whole);
    // What is not encrypted at all is a mistake, not a secret.
    scene.declare("roles/base/files/etc/plain.age", "canary-one-PUJB\n");
    let told = all(&check());
    assert!(told.contains("this is not encrypted") && !told.contains("PUJB"), "{told}");
}

#[test]
fn a_secret_is_edited_in_memory_and_its_copy_goes_whatever_ends_the_editor() {
    let scene = Scene::new();
    scene.encrypt(SECRET, "old\n");
    let editor = scene.scratch.path().join("editor");
    let seen = scene.scratch.path().join("seen");
    let edit = |script: &str| {
        put(&editor, &format!("#!/bin/sh\necho \"$1\" >{}\n{script}\n", seen.display()));
        fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).expect("set");
        let mut command = Command::new(trueup());
        command.args(["secret", "edit", SECRET]).current_dir(&scene.repo);
        command.env("TRUEUP_IDENTITY", scene.author()).env_remove("VISUAL").env("EDITOR", &editor);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("started")
    };
    let copy = || PathBuf::from(fs::read_to_string(&seen).expect("started").trim());
    let gone = || !copy().exists() && !copy().parent().expect("a directory").exists();
    let shown = || all(&scene.trueup(&["secret", "show", SECRET], ""));

    let done = edit("stat -c %a \"$1\" >>\"$1\"; stat -f -c %T \"$1\" >>\"$1\"").wait_with_output().expect("ended");
    assert!(done.status.success() && gone(), "{}", all(&done));
    assert_eq!(shown(), "old\n600\ntmpfs\n");
    let failed = edit("echo new >\"$1\"; cp \"$1\" \"$1.swp\"; exit 1").wait_with_output().expect("ended");
    assert!(!failed.status.success() && gone());
    let _ = fs::remove_file(&seen);
    let waiting = edit("echo new >\"$1\"; exec sleep 60");
    while fs::read_to_string(&seen).map_or(true, |path| path.is_empty()) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(shown(), "old\n600\ntmpfs\n");
    assert!(copy().exists(), "nobody takes away what another has open");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(waiting.id()).expect("a process"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("sent");
    let ended = waiting.wait_with_output().expect("ended");
    assert!(!ended.status.success() && gone(), "{}", all(&ended));
    assert_eq!(shown(), "old\n600\ntmpfs\n", "what was not saved is not taken");
    // Killed, it can do nothing more: the next of them does.
    let killed = edit("kill -9 $PPID").wait_with_output().expect("ended");
    assert!(!killed.status.success() && copy().exists(), "{}", all(&killed));
    assert_eq!(shown(), "old\n600\ntmpfs\n");
    assert!(gone());
}

#[test]
fn nobody_waits_at_a_pipe_in_the_place_of_a_key_or_of_what_was_edited() {
    let scene = Scene::new();
    scene.encrypt(SECRET, CANARIES[0]);
    scene.converge();
    let before = fs::read(scene.repo.join(SECRET)).expect("written");
    let in_time = || {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "60"]).arg(trueup()).current_dir(&scene.repo).stdin(Stdio::null());
        command.env_remove("VISUAL");
        command
    };
    let editor = scene.scratch.path().join("editor");
    let seen = scene.scratch.path().join("seen");
    put(&editor, &format!("#!/bin/sh\necho \"$1\" >{}\nrm \"$1\"\nmkfifo \"$1\"\n", seen.display()));
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).expect("set");
    let mut edit = in_time();
    edit.args(["secret", "edit", SECRET]).env("TRUEUP_IDENTITY", scene.author()).env("EDITOR", &editor);
    let edited = edit.output().expect("started");
    assert_eq!(edited.status.code(), Some(1), "{}", all(&edited));
    assert!(all(&edited).contains("it is not a regular file"), "{}", all(&edited));
    assert!(fs::read(scene.repo.join(SECRET)).expect("there") == before, "something was written");
    let copy = PathBuf::from(fs::read_to_string(&seen).expect("started").trim());
    assert!(!copy.parent().expect("a directory").exists());

    let key = scene.root.join(&KEY[1..]);
    fs::remove_file(&key).expect("there");
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&key).status().expect("started").success());
    let mut show = in_time();
    show.args(["secret", "show", SECRET, "--identity"]).arg(&key);
    let shown = show.output().expect("started");
    assert_eq!(shown.status.code(), Some(1), "{}", all(&shown));
    let mut run = in_time();
    run.args(["run", "--json", "--host", "web-01", "--root"]).arg(&scene.root).arg("--repo").arg(&scene.repo);
    let run = run.output().expect("started");
    let told: Value = serde_json::from_slice(&run.stdout).unwrap_or_else(|_| panic!("no JSON: {}", all(&run)));
    assert_eq!((&told["state"], &told["reason"]), (&"degraded".into(), &"secret-no-identity".into()), "{told:#}");
    assert!(told.to_string().contains("/etc/ssh/ssh_host_ed25519_key: it is not a regular file"), "{told:#}");
    assert_eq!(scene.here("/etc/app/key").as_deref(), Some(CANARIES[0]), "the old one stays");
}

#[test]
fn what_somebody_else_wrote_while_a_secret_was_edited_is_not_written_over() {
    let scene = Scene::new();
    scene.encrypt(SECRET, "old\n");
    let edit = |path: &str, script: &str| {
        let editor = scene.scratch.path().join("editor");
        put(&editor, &format!("#!/bin/sh\necho canary-one-PUJB >\"$1\"\n{script}\n"));
        fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).expect("set");
        let mut command = Command::new(trueup());
        command.args(["secret", "edit", path]).current_dir(&scene.repo).stdin(Stdio::null());
        command.env("TRUEUP_IDENTITY", scene.author()).env_remove("VISUAL").env("EDITOR", &editor);
        command.output().expect("started")
    };
    let shown = |path: &str| all(&scene.trueup(&["secret", "show", path], ""));
    // Changed, removed, made where there was none.
    let theirs = format!("echo theirs | {} secret encrypt {SECRET} >&2", trueup().display());
    let changed = edit(SECRET, &theirs);
    assert!(!changed.status.success() && all(&changed).contains("changed meanwhile"), "{}", all(&changed));
    assert!(all(&changed).contains("edit it again"), "{}", all(&changed));
    assert_eq!(shown(SECRET), "theirs\n");
    let removed = edit(SECRET, &format!("rm {SECRET}"));
    assert!(!removed.status.success() && !scene.repo.join(SECRET).exists(), "{}", all(&removed));
    let made = edit(SECRET, &theirs);
    assert!(!made.status.success() && shown(SECRET) == "theirs\n", "{}", all(&made));
    // What was edited is nowhere.
    assert_eq!(found(scene.scratch.path(), b"canary-one-PUJB\n\n"), Vec::<String>::new());
    assert_eq!(found(&scene.repo, b"canary-one-PUJB"), Vec::<String>::new());
    let done = edit(SECRET, "true");
    assert!(done.status.success() && shown(SECRET) == "canary-one-PUJB\n", "{}", all(&done));
}

#[test]
fn no_link_of_the_repository_is_written_through() {
    let scene = Scene::new();
    let outside = scene.scratch.path().join("outside");
    fs::create_dir_all(&outside).expect("made");
    std::os::unix::fs::symlink(&outside, scene.repo.join("hosts/web-01/files/srv")).expect("made");
    scene.encrypt(SECRET, "old\n");
    fs::rename(scene.repo.join("hosts/web-01/files/etc/app"), outside.join("app")).expect("moved");
    std::os::unix::fs::symlink(outside.join("app"), scene.repo.join("hosts/web-01/files/etc/app")).expect("made");
    let before = fs::read(outside.join("app/key.age")).expect("there");
    for arguments in [
        &["secret", "encrypt", "hosts/web-01/files/srv/deep/x.age"][..],
        &["secret", "encrypt", SECRET],
        &["secret", "edit", SECRET],
        &["secret", "rekey", SECRET],
    ] {
        let refused = scene.trueup(arguments, "hunter2");
        assert!(!refused.status.success(), "{arguments:?}");
        assert!(all(&refused).contains("symbolic link"), "{arguments:?}: {}", all(&refused));
    }
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 1, "nothing was made there");
    assert_eq!(fs::read(outside.join("app/key.age")).expect("there"), before);
    // A link that is the secret itself is replaced by nothing either.
    fs::remove_file(scene.repo.join("hosts/web-01/files/etc/app")).expect("there");
    fs::create_dir(scene.repo.join("hosts/web-01/files/etc/app")).expect("made");
    std::os::unix::fs::symlink(outside.join("app/key.age"), scene.repo.join(SECRET)).expect("made");
    let refused = scene.trueup(&["secret", "encrypt", SECRET], "hunter2");
    assert!(!refused.status.success() && all(&refused).contains("symbolic link"), "{}", all(&refused));
}

#[test]
fn root_leaves_somebody_s_checkout_to_them() {
    use std::os::unix::fs::{MetadataExt, chown};
    // Nobody else can give anything away.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let scene = Scene::new();
    let owner = |path: &str| {
        let meta = fs::metadata(scene.repo.join(path)).expect("there");
        (meta.uid(), meta.gid())
    };
    chown(scene.repo.join("hosts/web-01/files"), Some(4211), Some(4212)).expect("given");
    scene.encrypt("hosts/web-01/files/srv/deep/x.age", "hunter2");
    for made in ["srv", "srv/deep", "srv/deep/x.age"] {
        assert_eq!(owner(&format!("hosts/web-01/files/{made}")), (4211, 4212), "{made}");
    }
    // Whose it is, it stays.
    chown(scene.repo.join("hosts/web-01/files/srv/deep/x.age"), Some(4213), Some(4214)).expect("given");
    fs::set_permissions(scene.repo.join("hosts/web-01/files/srv/deep/x.age"), fs::Permissions::from_mode(0o666))
        .expect("set");
    let rekeyed = scene.trueup(&["secret", "rekey", "--all"], "");
    assert!(rekeyed.status.success(), "{}", all(&rekeyed));
    assert_eq!(owner("hosts/web-01/files/srv/deep/x.age"), (4213, 4214));
    let mode = fs::metadata(scene.repo.join("hosts/web-01/files/srv/deep/x.age")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "as it was, whatever the umask is");
    assert_eq!(owner("hosts/web-01/files/srv"), (4211, 4212));
}

#[test]
fn what_would_lose_a_secret_or_give_it_to_nobody_changes_nothing() {
    let scene = Scene::new();
    scene.encrypt(SECRET, "hunter2");
    let before = fs::read(scene.repo.join(SECRET)).expect("written");
    let empty = scene.trueup(&["secret", "encrypt", SECRET], "");
    assert!(!empty.status.success() && all(&empty).contains("nothing to encrypt"), "{}", all(&empty));
    assert_eq!(fs::read(scene.repo.join(SECRET)).expect("there"), before);
    let nobody = scene.trueup(&["secret", "encrypt", "hosts/wbe-01/files/etc/x.age"], "hunter2");
    assert!(!nobody.status.success() && all(&nobody).contains("there is no hosts/wbe-01"), "{}", all(&nobody));
    assert!(!scene.repo.join("hosts/wbe-01").exists());
}

#[test]
fn a_secret_that_no_fleet_can_have_takes_the_place_of_none() {
    let scene = Scene::new();
    scene.encrypt(SECRET, "hunter2");
    let before = fs::read(scene.repo.join(SECRET)).expect("written");
    let editor = scene.scratch.path().join("editor");
    put(&editor, "#!/bin/sh\nhead -c 12500000 /dev/zero >\"$1\"\n");
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).expect("set");
    let edit = || {
        let mut command = Command::new(trueup());
        command.args(["secret", "edit", SECRET]).current_dir(&scene.repo).stdin(Stdio::null());
        command.env("TRUEUP_IDENTITY", scene.author()).env_remove("VISUAL").env("EDITOR", &editor);
        command.output().expect("started")
    };
    // It is short enough, and its armour is not.
    let long = scene.scratch.path().join("long");
    put(&long, &"x".repeat(12_500_000));
    let long = long.to_str().expect("text");
    let encrypt = ["secret", "encrypt", SECRET, "--from"];
    for done in [scene.trueup(&[&encrypt[..], &[long]].concat(), ""), edit()] {
        assert_eq!(done.status.code(), Some(1), "{}", all(&done));
        assert!(all(&done).contains("is not written: encrypted it would have 16"), "{}", all(&done));
    }
    let endless = scene.trueup(&[&encrypt[..], &["/dev/zero"]].concat(), "");
    assert!(!endless.status.success() && all(&endless).contains("nothing is changed"), "{}", all(&endless));
    assert!(fs::read(scene.repo.join(SECRET)).expect("there") == before, "something was written");
    assert!(scene.trueup(&["check"], "").status.success());
    // One that is there all the same is told as what it is.
    put(&scene.repo.join(SECRET), &"x".repeat((16 << 20) + 1));
    let named = ["secret", "rekey", SECRET];
    for done in
        [edit(), scene.trueup(&["secret", "show", SECRET], ""), scene.trueup(&named, ""), scene.trueup(&named[..2], "")]
    {
        assert_eq!(done.status.code(), Some(1), "{}", all(&done));
        assert!(all(&done).contains("has 16777217 bytes, and a file of a fleet at most 16777216"), "{}", all(&done));
    }
    scene.encrypt(SECRET, "short again");
}

#[test]
fn a_mistake_in_a_manifest_takes_a_secret_from_nobody() {
    let scene = Scene::new();
    let shared = "roles/base/files/etc/base.age";
    scene.encrypt(SECRET, "old\n");
    scene.encrypt(shared, "old\n");
    let (fleet, host) = ("trueup.toml", "hosts/web-01/host.toml");
    for (manifest, right, wrong, said) in [
        (fleet, "[secrets]", "[secret]", "trueup.toml, line 2: "),
        (fleet, "recipients", "recipient", "trueup.toml, line 3: "),
        (fleet, "AAAAC3NzaC1lZDI1NTE5", "AAAAC3NzaC1lZDI1NTE", "trueup.toml, line 3: "),
        (host, "AAAAC3NzaC1lZDI1NTE5", "AAAAC3NzaC1lZDI1NTE", "hosts/web-01/host.toml, line 3: "),
        (host, "[secrets]", "[secrets", "hosts/web-01/host.toml, line 2"),
    ] {
        let whole = fs::read_to_string(scene.repo.join(manifest)).expect("there");
        assert!(whole.contains(right), "{whole}");
        scene.declare(manifest, &whole.replace(right, wrong));
        let before = [SECRET, shared].map(|path| fs::read(scene.repo.join(path)).expect("there"));
        for arguments in
            [&["rekey"][..], &["rekey", "--all"], &["rekey", SECRET], &["encrypt", SECRET], &["edit", SECRET]]
        {
            let done = scene.trueup(&[&["secret"], arguments].concat(), "new\n");
            assert_eq!(done.status.code(), Some(1), "{wrong}: {arguments:?}: {}", all(&done));
            assert!(all(&done).contains(said), "{wrong}: {arguments:?}: {}", all(&done));
        }
        let after = [SECRET, shared].map(|path| fs::read(scene.repo.join(path)).expect("there"));
        assert!(before == after, "{wrong}: something was written");
        scene.declare(manifest, &whole);
    }
    let rekeyed = scene.trueup(&["secret", "rekey", "--all"], "");
    assert!(rekeyed.status.success(), "{}", all(&rekeyed));
}

#[test]
fn the_key_that_opens_secrets_is_not_written_over_by_one_and_a_directory_that_goes_keeps_none_in_the_clear() {
    let scene = Scene::new();
    scene.encrypt(SECRET, "hunter2-canary");
    let manifest = fs::read_to_string(scene.repo.join("hosts/web-01/host.toml")).expect("there");
    let leave = "[files.\"/etc/app/key\"]\nrelease = \"leave\"\n";
    scene.declare("hosts/web-01/host.toml", &format!("{manifest}{leave}"));
    scene.converge();
    // What stands in a directory that goes whole is kept, of secrets encrypted.
    fs::remove_file(scene.repo.join(SECRET)).expect("removed");
    let gone = "[files.\"/etc/app\"]\nstate = \"absent\"\nreplace = \"directory\"\n";
    scene.declare("hosts/web-01/host.toml", &format!("{manifest}{gone}"));
    scene.converge();
    assert_eq!(scene.here("/etc/app/key"), None);
    assert_eq!(found(&scene.root, b"hunter2-canary"), Vec::<String>::new());
    let kept = scene.json(&["restore"])["kept"].as_array().map(Vec::len);
    assert!(kept.is_some_and(|kept| kept > 0), "a copy is kept all the same");
    // The host's own key is not for the repository, once it has secrets.
    let own = fs::read(scene.root.join(&KEY[1..])).expect("there");
    scene.encrypt("hosts/web-01/files/etc/ssh/ssh_host_ed25519_key.age", "another key");
    let refused = scene.on_host(&["run"]);
    assert!(all(&refused).contains("self-trust") || all(&refused).contains("secrets.identity"), "{}", all(&refused));
    assert_eq!(fs::read(scene.root.join(&KEY[1..])).expect("there"), own);
}
