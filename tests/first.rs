//! First attempts that fail or are cut short: nobody else's work is taken for ours, and nothing of it is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::days::Scene;

const X: &str = "[files.\"/etc/x\"]\n";

impl Scene {
    /// `trueup restore` with these arguments; what it says.
    fn restore(&self, arguments: &[&str]) -> String {
        let mut trueup = Command::new(env!("CARGO_BIN_EXE_trueup"));
        let output = trueup.arg("restore").args(arguments).arg("--root").arg(self.at("root")).output();
        let output = output.expect("it starts");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    fn undeclare(&self, tree: &str) {
        fs::remove_dir_all(self.at("repo/hosts/web-01/files").join(tree)).expect("removed");
    }
}

#[test]
fn what_a_person_wrote_after_an_attempt_that_failed_is_kept_when_the_declaration_goes() {
    let scene = Scene::new();
    scene.converges();
    scene.declare(&format!("{X}content = \"ours\\n\"\n"));
    assert_eq!(scene.injected("renameat2:error=EROFS").0, Some(1));
    assert_eq!(scene.read("etc/x"), None);
    scene.put("root/etc/x", "a person's\n");
    scene.declare("");
    let report = scene.converges();
    let kept = report["steps"][0]["kept"].as_str().unwrap_or_else(|| panic!("not kept: {report:#}")).to_owned();
    scene.restore(&[&kept]);
    assert_eq!(scene.read("etc/x").as_deref(), Some("a person's\n"));
}

#[test]
fn an_original_is_kept_though_attributes_only_was_tried_first_and_failed() {
    let scene = Scene::new();
    scene.put("root/etc/x", "orig\n");
    scene.converges();
    scene.declare(&format!("{X}attributes_only = true\nmode = \"0600\"\n"));
    assert_eq!(scene.injected("fchmod:error=EPERM").0, Some(1));
    scene.declare(&format!("{X}content = \"ours\\n\"\n"));
    scene.converges();
    assert_eq!(scene.read("etc/x").as_deref(), Some("ours\n"));
    scene.declare("");
    scene.converges();
    assert_eq!((scene.read("etc/x").as_deref(), scene.mode("etc/x")), (Some("orig\n"), 0o644));
}

#[test]
fn a_directory_that_somebody_else_made_meanwhile_is_theirs() {
    let scene = Scene::new();
    scene.converges();
    scene.put("repo/hosts/web-01/files/opt/pkg/conf.d/f", "ours\n");
    assert_eq!(scene.injected("mkdirat:signal=KILL:when=1").0, None);
    assert!(!scene.at("root/opt/pkg").exists());
    fs::create_dir_all(scene.at("root/opt/pkg/conf.d")).expect("made");
    fs::set_permissions(scene.at("root/opt/pkg/conf.d"), fs::Permissions::from_mode(0o750)).expect("set");
    scene.converges();
    scene.undeclare("opt");
    scene.converges();
    assert_eq!((scene.read("opt/pkg/conf.d/f"), scene.mode("opt/pkg/conf.d")), (None, 0o750));
}

#[test]
fn a_directory_that_we_made_before_a_crash_is_ours() {
    let scene = Scene::new();
    scene.converges();
    scene.put("repo/hosts/web-01/files/opt/pkg/conf.d/f", "ours\n");
    assert_eq!(scene.injected("mkdirat:signal=KILL:when=3").0, None);
    assert!(scene.at("root/opt/pkg").exists() && !scene.at("root/opt/pkg/conf.d").exists());
    scene.converges();
    scene.undeclare("opt");
    scene.converges();
    assert!(!scene.at("root/opt").exists());
}

#[test]
fn what_a_crash_left_beside_a_file_goes_though_nothing_else_is_to_be_done() {
    // The directory was traded for the file, and not cleared away yet.
    let scene = Scene::new();
    scene.put("root/srv/app/a", "theirs\n");
    scene.declare("[files.\"/srv/app\"]\ncontent = \"ours\\n\"\nreplace = \"directory\"\n");
    assert_eq!(scene.injected("unlinkat:signal=KILL:when=1").0, None);
    assert_eq!((scene.read("srv/app").as_deref(), scene.left_overs().len()), (Some("ours\n"), 1));
    scene.converges();
    assert_eq!(scene.left_overs(), Vec::<std::path::PathBuf>::new());

    // A revision that was cut short, and taken back.
    for first in [Some("A\n"), None] {
        let scene = Scene::new();
        let declare = |content: Option<&str>| {
            scene.declare(&content.map_or(String::new(), |content| format!("{X}content = {content:?}\n")));
        };
        declare(first);
        scene.converges();
        declare(Some("B\n"));
        assert_eq!(scene.injected("renameat,renameat2:signal=KILL:when=1").0, None);
        assert_eq!((scene.read("etc/x").as_deref(), scene.left_overs().len()), (first, 1));
        declare(first);
        scene.converges();
        assert_eq!(scene.left_overs(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn what_a_crash_left_of_giving_something_back_goes_too() {
    // Of letting go.
    let scene = Scene::new();
    scene.put("root/etc/x", "orig\n");
    scene.declare(&format!("{X}content = \"ours\\n\"\n"));
    scene.converges();
    scene.declare("");
    assert_eq!(scene.injected("renameat,renameat2:signal=KILL:when=1").0, None);
    assert_eq!(scene.left_overs().len(), 1);
    scene.declare(&format!("{X}content = \"ours\\n\"\n"));
    scene.converges();
    assert_eq!(scene.left_overs(), Vec::<std::path::PathBuf>::new());

    // Of `trueup restore`.
    scene.put("root/etc/x", "a person's\n");
    let report = scene.converges();
    let kept = report["steps"][0]["kept"].as_str().expect("kept").to_owned();
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-f", "-o", "/dev/null", "-e", "trace=renameat,renameat2", "-e"]);
    strace.arg("inject=renameat,renameat2:signal=KILL:when=1").arg(env!("CARGO_BIN_EXE_trueup"));
    let killed = strace.args(["restore", &kept, "--root"]).arg(scene.at("root")).output().expect("it starts");
    assert_eq!((killed.status.code(), scene.left_overs().len()), (None, 1));
    scene.converges();
    assert_eq!(scene.left_overs(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_a_pass_says_is_kept_can_be_given_back_and_it_says_so_of_what_is_not() {
    let scene = Scene::new();
    let names = ["a", "b", "c"];
    for name in names {
        scene.put(&format!("repo/hosts/web-01/files/etc/{name}"), "ours\n");
    }
    scene.converges();
    let larger = |name: &str| {
        let file = fs::File::create(scene.at("root/etc").join(name)).expect("made");
        std::io::Write::write_all(&mut &file, name.as_bytes()).expect("written");
        file.set_len(100 << 20).expect("set");
    };
    names.iter().for_each(|name| larger(name));
    let report = scene.converges();
    let steps = report["steps"].as_array().expect("steps");
    let kept: Vec<&str> = steps.iter().filter_map(|step| step["kept"].as_str()).collect();
    assert_eq!(kept.len(), 2, "{report:#}");
    assert!(steps[2]["message"].as_str().is_some_and(|why| why.contains("no copy")), "{report:#}");
    let listed = scene.restore(&[]);
    assert!(kept.iter().all(|id| listed.contains(id)), "{listed}");
    // Older ones give way to newer ones, on the disk too.
    larger("c");
    scene.converges();
    let bytes = fs::read_dir(scene.at("root/var/lib/trueup/kept")).expect("listed");
    let bytes: u64 = bytes.map(|entry| entry.expect("read").metadata().expect("there").len()).sum();
    assert_eq!(bytes, 200 << 20);
}
