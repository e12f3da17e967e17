//! Killed at a system call: whatever the instant, each file is the old one or the new one, the next pass
//! converges, and nothing is left behind. Each call of those that change something is struck in turn.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What changes a file system, or makes a change last.
const CALLS: &[&str] =
    &["renameat", "renameat2", "rename", "fsync", "unlinkat", "unlink", "mkdirat", "symlinkat", "fchmod", "fchown"];

/// A fleet with two revisions that differ in every file, as directories.
struct Scene {
    scratch: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { scratch: tempfile::tempdir().expect("a scratch directory") };
        scene.revision("old");
        fs::create_dir(scene.at("root")).expect("made");
        assert!(scene.run(None), "the first revision converges");
        scene.revision("new");
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn revision(&self, what: &str) {
        drop(fs::remove_dir_all(self.at("repo")));
        let write = |path: String, content: String| {
            let path = self.at("repo").join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, content).expect("written");
        };
        write("trueup.toml".to_owned(), "format = 1\n".to_owned());
        write(
            "hosts/web-01/host.toml".to_owned(),
            format!("[files.\"/etc/link\"]\ntype = \"symlink\"\ntarget = \"{what}\"\n"),
        );
        for n in 0..6 {
            write(format!("hosts/web-01/files/etc/app/{n}"), format!("{what} {n}\n").repeat(100));
        }
        write(format!("hosts/web-01/files/etc/only-{what}/deep/x"), what.to_owned());
    }

    /// One pass; killed at the `n`th of `call` where that is asked for. Whether it ended well.
    fn run(&self, strike: Option<(&str, usize)>) -> bool {
        let trueup = env!("CARGO_BIN_EXE_trueup");
        let mut command = match strike {
            None => Command::new(trueup),
            Some((call, n)) => {
                let mut strace = Command::new("strace");
                strace.args(["-qq", "-f", "-o", "/dev/null", "-e"]).arg(format!("trace={call}"));
                strace.arg("-e").arg(format!("inject={call}:signal=KILL:when={n}")).arg(trueup);
                strace
            }
        };
        let (root, repo) = (self.at("root"), self.at("repo"));
        let paths = [Path::new("--root"), &root, Path::new("--repo"), &repo];
        command.args(["run", "--host", "web-01"]).args(paths).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("it starts").success()
    }

    /// Every file is whole, of one revision or the other.
    fn is_whole(&self) -> bool {
        (0..6).all(|n| {
            let content = fs::read_to_string(self.at(&format!("root/etc/app/{n}"))).expect("always there");
            ["old", "new"].iter().any(|what| content == format!("{what} {n}\n").repeat(100))
        })
    }

    fn left_overs(&self, directory: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() && !path.is_symlink() {
                found.extend(self.left_overs(&path));
            }
            if path.to_string_lossy().ends_with('~') {
                found.push(path);
            }
        }
        found
    }
}

#[test]
fn at_any_call_that_changes_something_the_next_pass_converges_and_nothing_is_left() {
    let mut struck = 0;
    for call in CALLS {
        for n in 1.. {
            let scene = Scene::new();
            if scene.run(Some((call, n))) {
                break;
            }
            struck += 1;
            assert!(scene.is_whole(), "{call} {n}: a mix");
            assert!(scene.run(None), "{call} {n}: the next pass fails");
            assert_eq!(
                fs::read_to_string(scene.at("root/etc/app/5")).expect("there"),
                "new 5\n".repeat(100),
                "{call} {n}"
            );
            assert!(
                !scene.at("root/etc/only-old").exists() && scene.at("root/etc/only-new/deep/x").exists(),
                "{call} {n}"
            );
            assert_eq!(scene.left_overs(&scene.at("root")), Vec::<PathBuf>::new(), "{call} {n}");
        }
    }
    println!("struck at {struck} calls");
    assert!(struck >= 60, "only {struck} calls were struck");
}
