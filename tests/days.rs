//! Sequences of commits, edits and crashes, as days of work bring them, on a directory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::scratch::put;

pub struct Scene {
    scratch: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        let scene = Self { scratch: tempfile::tempdir().expect("a scratch directory") };
        scene.put("repo/trueup.toml", "format = 1\n");
        scene.put("repo/hosts/web-01/files/etc/stays", "stays\n");
        fs::create_dir(scene.at("root")).expect("made");
        scene
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    pub fn put(&self, path: &str, content: &str) {
        put(&self.at(path), content);
    }

    pub fn declare(&self, manifest: &str) {
        self.put("repo/hosts/web-01/host.toml", manifest);
    }

    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at("root").join(path)).ok()
    }

    pub fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.at("root").join(path)).expect("there").permissions().mode() & 0o7777
    }

    pub fn command(&self, program: &mut Command) -> (Option<i32>, Value) {
        let (root, repo) = (self.at("root"), self.at("repo"));
        let paths = [Path::new("--root"), &root, Path::new("--repo"), &repo];
        let output = program.args(["run", "--json", "--host", "web-01"]).args(paths).stderr(Stdio::null()).output();
        let output = output.expect("it starts");
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    pub fn run(&self) -> (Option<i32>, Value) {
        self.command(&mut Command::new(env!("CARGO_BIN_EXE_trueup")))
    }

    /// A pass that may have so many bytes of memory.
    fn run_within(&self, bytes: u64) -> (Option<i32>, Value) {
        let script = format!("ulimit -d {}; exec \"$0\" \"$@\"", bytes >> 10);
        self.command(Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_trueup")]))
    }

    #[track_caller]
    pub fn converges(&self) -> Value {
        let (code, report) = self.run();
        assert_eq!(code, Some(0), "{report:#}");
        report
    }

    /// A pass in which the kernel does to the system calls what `inject` says, as strace(1) has it.
    pub fn injected(&self, inject: &str) -> (Option<i32>, Value) {
        let calls = inject.split(':').next().unwrap_or_default();
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-f", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e"]);
        self.command(strace.arg(format!("inject={inject}")).arg(env!("CARGO_BIN_EXE_trueup")))
    }

    /// Where something of an interrupted write is left.
    pub fn left_overs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![self.at("root")];
        while let Some(directory) = todo.pop() {
            for entry in fs::read_dir(directory).expect("readable") {
                let path = entry.expect("readable").path();
                if path.to_string_lossy().ends_with('~') {
                    found.push(path.clone());
                }
                if path.is_dir() && !path.is_symlink() {
                    todo.push(path);
                }
            }
        }
        found
    }

    /// A pass that is killed at the `n`th rename. Whether there was one.
    pub fn killed_at(&self, n: usize) -> bool {
        self.injected(&format!("rename,renameat,renameat2:signal=KILL:when={n}")).0.is_none()
    }
}

const X: &str = "[files.\"/etc/x\"]\n";

#[test]
fn what_a_crash_left_half_recorded_is_never_taken_for_what_was_there_before_us() {
    let mut struck = 0;
    for kill in 1..20 {
        for edited in [false, true] {
            let scene = Scene::new();
            scene.put("root/etc/x", "orig\n");
            scene.declare(&format!("{X}content = \"B\\n\"\n[files.\"/etc/y\"]\ncontent = \"B\\n\"\n"));
            if !scene.killed_at(kill) {
                break;
            }
            struck += 1;
            if edited {
                scene.put("root/etc/x", "by hand\n");
            }
            scene.declare(&format!("{X}content = \"C\\n\"\n[files.\"/etc/y\"]\ncontent = \"C\\n\"\n"));
            scene.converges();
            assert_eq!(scene.read("etc/x").as_deref(), Some("C\n"), "killed at {kill}");
            scene.declare("");
            scene.converges();
            let owned = fs::read_to_string(scene.at("root/var/lib/trueup/ledger")).expect("there");
            // Where the crash came before anything was written down, a later edit is what stood there before.
            let before = scene.read("etc/x");
            let known = ["orig\n", "by hand\n"].contains(&before.as_deref().unwrap_or_default());
            assert!(known && (edited || before.as_deref() == Some("orig\n")), "killed at {kill}: {before:?} {owned}");
            assert_eq!(scene.read("etc/y"), None, "killed at {kill}");
        }
    }
    assert!(struck >= 10, "only {struck} crashes");
}

#[test]
fn what_a_crash_left_is_ours_though_the_next_attempt_is_refused() {
    let scene = Scene::new();
    scene.put("root/etc/passwd", "root:x:0:0::/:/bin/sh\n");
    scene.put("root/etc/group", "root:x:0:\n");
    scene.declare(&format!("{X}content = \"B\\n\"\n"));
    let mut kill = 1;
    while scene.read("etc/x").is_none() {
        let _ = fs::remove_dir_all(scene.at("root/var"));
        assert!(scene.killed_at(kill), "never written before the end");
        kill += 1;
    }
    scene.declare(&format!("{X}content = \"B\\n\"\nowner = \"nobody-knows\"\n"));
    assert_eq!(scene.run().1["reason"], "unknown-owner");
    scene.declare("");
    scene.converges();
    assert_eq!(scene.read("etc/x"), None);
}

#[test]
fn what_was_last_said_of_a_resource_holds_when_it_goes_though_it_was_only_told() {
    let scene = Scene::new();
    scene.declare(&format!("{X}content = \"ours\\n\"\n"));
    scene.converges();
    scene.put("root/etc/x", "by hand\n");
    scene.declare(&format!("{X}content = \"ours\\n\"\ndrift = \"report\"\n"));
    assert_eq!(scene.run().0, Some(2));
    scene.declare("");
    scene.converges();
    assert_eq!(scene.read("etc/x").as_deref(), Some("by hand\n"));
}

#[test]
fn an_original_comes_back_whole_whatever_was_ours_of_it_in_between() {
    // Content, then attributes only.
    let scene = Scene::new();
    scene.put("root/etc/x", "orig\n");
    scene.declare(&format!("{X}content = \"ours\\n\"\n[files.\"/etc/new\"]\ncontent = \"ours\\n\"\n"));
    scene.converges();
    scene.declare(&format!(
        "{X}attributes_only = true\nmode = \"0600\"\n[files.\"/etc/new\"]\nattributes_only = true\nmode = \"0600\"\n"
    ));
    scene.converges();
    scene.declare("");
    scene.converges();
    assert_eq!(
        (scene.read("etc/x").as_deref(), scene.mode("etc/x"), scene.read("etc/new")),
        (Some("orig\n"), 0o644, None)
    );

    // Attributes only, then content, with a change by the system in between.
    let scene = Scene::new();
    scene.put("root/etc/x", "orig\n");
    scene.declare(&format!("{X}attributes_only = true\nmode = \"0600\"\n"));
    scene.converges();
    scene.put("root/etc/x", "the system's\n");
    scene.declare(&format!("{X}content = \"ours\\n\"\n"));
    scene.converges();
    scene.declare("");
    scene.converges();
    assert_eq!((scene.read("etc/x").as_deref(), scene.mode("etc/x")), (Some("the system's\n"), 0o644));
}

#[test]
fn what_is_kept_is_never_all_in_memory() {
    const LENGTH: u64 = 200 << 20;
    let scene = Scene::new();
    scene.put("root/etc/x", "");
    let length = |length: Option<u64>| {
        let file = fs::File::options().write(true).open(scene.at("root/etc/x")).expect("there");
        length.into_iter().for_each(|length| file.set_len(length).expect("a file without data"));
        file.metadata().expect("told").len()
    };
    // An original, then an edit, with room for half of one: getrlimit(2).
    scene.declare(&format!("{X}content = \"ours\\n\"\n"));
    for more in [0, 1] {
        length(Some(LENGTH + more));
        let (status, report) = scene.run_within(100 << 20);
        assert_eq!((status, &report["state"]), (Some(0), &"in-sync".into()), "{report:#}");
        assert_eq!(length(None), 5);
    }
    scene.declare("");
    scene.converges();
    assert_eq!(length(None), LENGTH);
}

#[test]
fn what_is_ours_no_longer_goes_back_though_something_else_of_it_is() {
    // From the content to attributes only: what is in it is somebody else's again, and stays so.
    let scene = Scene::new();
    scene.put("root/etc/x", "orig\n");
    let attributes = format!("{X}attributes_only = true\nmode = \"0600\"\n");
    for last in ["the first\n", "the second\n"] {
        scene.declare(&attributes);
        scene.converges();
        scene.declare(&format!("{X}content = \"ours\\n\"\n"));
        scene.converges();
        assert_eq!(scene.read("etc/x").as_deref(), Some("ours\n"));
        scene.declare(&attributes);
        let before = if last == "the first\n" { "orig\n" } else { "the first\n" };
        scene.converges();
        assert_eq!((scene.read("etc/x").as_deref(), scene.mode("etc/x")), (Some(before), 0o600));
        scene.put("root/etc/x", last);
        assert_eq!(scene.converges()["steps"].as_array().map(Vec::len), Some(0));
    }
    scene.declare("");
    scene.converges();
    assert_eq!((scene.read("etc/x").as_deref(), scene.mode("etc/x")), (Some("the second\n"), 0o644));

    // One attribute less.
    scene.declare(&format!("{X}attributes_only = true\nmode = \"0600\"\nowner = \"root\"\n"));
    scene.converges();
    scene.declare(&format!("{X}attributes_only = true\nowner = \"root\"\n"));
    scene.converges();
    assert_eq!(scene.mode("etc/x"), 0o644);
}

#[test]
fn what_we_made_ourselves_is_not_in_the_way_of_what_it_was_before() {
    let file = format!("{X}content = \"ours\\n\"\n");
    let link = format!("{X}type = \"symlink\"\ntarget = \"stays\"\n");
    let directory = format!("{X}type = \"directory\"\n");
    let scene = Scene::new();
    let is = || {
        let meta = fs::symlink_metadata(scene.at("root/etc/x")).expect("there");
        if meta.is_symlink() {
            &link
        } else if meta.is_dir() {
            &directory
        } else {
            &file
        }
    };
    for declared in [&file, &link, &file, &directory, &link, &directory, &file] {
        scene.declare(declared);
        scene.converges();
        assert_eq!(is(), declared);
    }
    // But what somebody else put there is.
    fs::remove_file(scene.at("root/etc/x")).expect("removed");
    symlink("theirs", scene.at("root/etc/x")).expect("made");
    assert_eq!(scene.run().1["reason"], "in-the-way");
}

#[test]
fn what_somebody_put_in_the_place_of_what_we_made_is_theirs_where_it_is_of_another_type() {
    let file = format!("{X}content = \"ours\\n\"\n");
    let directory = format!("{X}type = \"directory\"\n");
    let put = |at: &Path, what: &str| match what {
        "a link" => symlink("theirs", at).expect("made"),
        "a directory" => fs::create_dir(at).expect("made"),
        _ => fs::write(at, "theirs\n").expect("written"),
    };
    for (ours, theirs, before, stays) in [
        (&file, "a link", false, true),
        (&file, "a directory", false, true),
        (&directory, "a file", false, true),
        // An edit is kept, and so is this where there is something to be put back.
        (&file, "a file", false, false),
        (&file, "a link", true, false),
    ] {
        let scene = Scene::new();
        let x = scene.at("root/etc/x");
        if before {
            scene.put("root/etc/x", "the original\n");
        }
        scene.declare(ours);
        scene.converges();
        if x.is_dir() { fs::remove_dir(&x) } else { fs::remove_file(&x) }.expect("removed");
        put(&x, theirs);
        scene.declare("");
        let report = scene.converges();
        let left = report["left"].to_string().contains("something else stands there by now");
        assert_eq!(left, stays, "{theirs} for {ours}: {report:#}");
        assert_eq!(fs::symlink_metadata(&x).is_ok(), stays || before, "{theirs} for {ours}");
        assert_eq!(report["steps"].to_string().contains("k-"), !stays, "{theirs} for {ours}: {report:#}");
    }
}

#[test]
fn what_stands_in_the_way_of_letting_go_is_left_and_let_go_of() {
    let scene = Scene::new();
    scene.declare(&format!("{X}content = \"ours\\n\"\n"));
    scene.converges();
    fs::remove_file(scene.at("root/etc/x")).expect("removed");
    let made = Command::new("mkfifo").arg(scene.at("root/etc/x")).status().expect("it runs");
    assert!(made.success());
    scene.declare("");
    let report = scene.converges();
    assert!(report["left"].to_string().contains("something else stands there"), "{report:#}");
    let report = scene.converges();
    assert_eq!(report["left"].as_array().map(Vec::len), Some(0), "it is forgotten: {report:#}");
}

#[test]
fn a_tree_that_moved_behind_a_link_goes_on_under_its_new_name() {
    let scene = Scene::new();
    scene.put("root/etc/ng/conf", "orig\n");
    scene.put("repo/hosts/web-01/files/etc/ng/conf", "ours\n");
    scene.converges();
    fs::create_dir_all(scene.at("root/srv")).expect("made");
    fs::rename(scene.at("root/etc/ng"), scene.at("root/srv/ng")).expect("moved");
    symlink("/srv/ng", scene.at("root/etc/ng")).expect("linked");
    fs::remove_dir_all(scene.at("repo/hosts/web-01/files/etc/ng")).expect("removed");
    scene.put("repo/hosts/web-01/files/srv/ng/conf", "ours\n");
    let report = scene.converges();
    assert_eq!(report["steps"].as_array().map(Vec::len), Some(0), "{report:#}");
    fs::remove_dir_all(scene.at("repo/hosts/web-01/files/srv")).expect("removed");
    scene.converges();
    assert_eq!(scene.read("srv/ng/conf").as_deref(), Some("orig\n"), "what stood there before was not forgotten");
}

#[test]
fn a_directory_that_we_made_is_ours_where_takeovers_are_refused() {
    let scene = Scene::new();
    scene.put("root/etc/trueup/agent.toml", "[policy]\ntakeover = \"refuse\"\n");
    scene.put("repo/hosts/web-01/files/srv/app/f", "ours\n");
    scene.converges();
    scene.declare("[files.\"/srv/app\"]\ntype = \"directory\"\nmode = \"0700\"\n");
    scene.converges();
    assert_eq!(scene.mode("srv/app"), 0o700);
    fs::remove_dir_all(scene.at("repo/hosts/web-01/files/srv")).expect("removed");
    scene.declare("");
    scene.converges();
    assert!(!scene.at("root/srv/app").exists());
}

#[test]
fn a_host_that_is_held_before_its_first_revision_is_pending() {
    let scene = Scene::new();
    scene.declare("[policy]\nupdate = \"hold\"\n");
    let (code, report) = scene.run();
    assert_eq!((code, report["state"].as_str(), report["reason"].as_str()), (Some(2), Some("pending"), Some("held")));
    assert_eq!(scene.read("etc/stays"), None);
}
