//! A directory that has to go with all that is in it is kept whole, or stays.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::days::Scene;

const FILE: &str = "[files.\"/srv/app\"]\ncontent = \"ours\\n\"\nreplace = \"directory\"\n";
const ABSENT: &str = "[files.\"/srv/app\"]\nstate = \"absent\"\nreplace = \"directory\"\n";

impl Scene {
    /// Somebody's directory at `/srv/app`.
    fn theirs(&self) {
        self.put("root/srv/app/data/db", "rows\n");
        self.put("root/srv/app/run.sh", "#!/bin/sh\n");
        let mode = |path: &str, mode| {
            fs::set_permissions(self.at("root/srv/app").join(path), fs::Permissions::from_mode(mode)).expect("set");
        };
        mode("data/db", 0o600);
        mode("run.sh", 0o755);
        mode("data", 0o2770);
        mode(".", 0o751);
        symlink("data/db", self.at("root/srv/app/link")).expect("linked");
    }

    #[track_caller]
    fn is_theirs(&self) {
        let read = (self.read("srv/app/data/db"), self.read("srv/app/run.sh"));
        assert_eq!((read.0.as_deref(), read.1.as_deref()), (Some("rows\n"), Some("#!/bin/sh\n")));
        let modes = ["", "data", "data/db", "run.sh"].map(|path| self.mode(&format!("srv/app/{path}")));
        assert_eq!(modes, [0o751, 0o2770, 0o600, 0o755]);
        let link = fs::read_link(self.at("root/srv/app/link")).expect("a link");
        assert_eq!(link, Path::new("data/db"));
        assert_eq!(fs::read_dir(self.at("root/srv/app")).expect("listed").count(), 3);
    }
}

#[test]
fn a_directory_that_was_replaced_comes_back_whole() {
    for declared in [FILE, ABSENT] {
        let scene = Scene::new();
        scene.theirs();
        scene.declare(declared);
        scene.converges();
        assert!(!scene.at("root/srv/app").is_dir());
        // Nothing of it may be swept in between.
        scene.converges();
        scene.declare("");
        scene.converges();
        scene.is_theirs();
        assert_eq!(scene.left_overs(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn a_directory_that_was_replaced_comes_back_whole_where_it_is_declared_itself_again() {
    for declared in [FILE, ABSENT] {
        let scene = Scene::new();
        scene.theirs();
        let directory = "[files.\"/srv/app\"]\ntype = \"directory\"\nmode = \"0751\"\n";
        scene.declare(directory);
        scene.converges();
        scene.declare(declared);
        scene.converges();
        assert!(!scene.at("root/srv/app").is_dir());
        scene.declare(directory);
        scene.converges();
        scene.is_theirs();
        scene.declare("");
        scene.converges();
        scene.is_theirs();
    }
}

#[test]
fn what_was_in_a_directory_of_which_only_the_mode_was_ours_comes_back_too() {
    for declared in [FILE, ABSENT] {
        let scene = Scene::new();
        scene.theirs();
        scene.declare("[files.\"/srv/app\"]\ntype = \"directory\"\nmode = \"0700\"\n");
        scene.converges();
        scene.declare(declared);
        scene.converges();
        scene.declare("");
        scene.converges();
        scene.is_theirs();
    }
}

#[test]
fn a_directory_with_all_that_is_in_it_is_there_whole_or_not_at_all() {
    for kill in 1.. {
        let scene = Scene::new();
        scene.theirs();
        scene.declare(ABSENT);
        let killed = scene.injected(&format!("unlinkat:signal=KILL:when={kill}")).0.is_none();
        if scene.at("root/srv/app").exists() {
            scene.is_theirs();
        }
        scene.converges();
        assert_eq!((scene.at("root/srv/app").exists(), scene.left_overs()), (false, Vec::new()));
        if !killed {
            assert!(kill > 4, "there is more in it");
            break;
        }
    }
}

#[test]
fn a_directory_that_was_made_for_what_is_in_it_becomes_a_file_again() {
    for below in ["inside", "deep/inside"] {
        let scene = Scene::new();
        let file = "[files.\"/srv/app\"]\ncontent = \"ours\\n\"\n";
        scene.declare(file);
        scene.converges();
        scene.declare("");
        scene.put(&format!("repo/hosts/web-01/files/srv/app/{below}"), "ours\n");
        scene.converges();
        fs::remove_dir_all(scene.at("repo/hosts/web-01/files/srv")).expect("removed");
        scene.declare(file);
        scene.converges();
        assert_eq!(scene.read("srv/app").as_deref(), Some("ours\n"));
        scene.declare("");
        scene.converges();
        assert!(!scene.at("root/srv").exists());
    }
}

#[test]
fn a_directory_of_ours_goes_though_another_was_made_in_it_on_the_way_to_something() {
    let scene = Scene::new();
    scene.declare("[files.\"/srv/app\"]\ntype = \"directory\"\n");
    scene.put("repo/hosts/web-01/files/srv/app/deep/inside", "ours\n");
    scene.converges();
    fs::remove_dir_all(scene.at("repo/hosts/web-01/files/srv")).expect("removed");
    scene.declare("");
    scene.converges();
    assert!(!scene.at("root/srv").exists());
}

#[test]
fn a_directory_that_somebody_put_in_the_place_of_a_file_is_given_back_by_restore() {
    let scene = Scene::new();
    scene.declare(FILE);
    scene.converges();
    fs::remove_file(scene.at("root/srv/app")).expect("removed");
    scene.theirs();
    let report = scene.converges();
    let kept = report["steps"][0]["kept"].as_str().unwrap_or_else(|| panic!("not kept: {report:#}"));
    assert_eq!(scene.read("srv/app").as_deref(), Some("ours\n"));
    let mut trueup = Command::new(env!("CARGO_BIN_EXE_trueup"));
    let done = trueup.args(["restore", kept, "--root"]).arg(scene.at("root")).output().expect("it starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    scene.is_theirs();
}

#[test]
fn strangers_in_a_directory_of_ours_are_kept_when_it_becomes_something_else() {
    let scene = Scene::new();
    scene.put("repo/hosts/web-01/files/srv/app/ours", "ours\n");
    scene.put("root/srv/app/original", "orig\n");
    scene.put("repo/hosts/web-01/files/srv/app/original", "ours\n");
    scene.converges();
    scene.put("root/srv/app/stranger", "theirs\n");
    fs::remove_dir_all(scene.at("repo/hosts/web-01/files/srv")).expect("removed");
    scene.declare(FILE);
    scene.converges();
    assert_eq!(scene.read("srv/app").as_deref(), Some("ours\n"));
    scene.declare("");
    scene.converges();
    assert_eq!(scene.read("srv/app/stranger").as_deref(), Some("theirs\n"));
    assert_eq!((scene.read("srv/app/ours"), scene.read("srv/app/original").as_deref()), (None, Some("orig\n")));
}

#[test]
fn a_directory_of_which_no_copy_can_be_kept_stays_and_the_plan_says_so() {
    let fifo = |scene: &Scene| {
        let made = Command::new("mkfifo").arg(scene.at("root/srv/app/fifo")).status().expect("it runs");
        assert!(made.success());
    };
    let many = |scene: &Scene| (0..1_000).for_each(|n| scene.put(&format!("root/srv/app/many/{n}"), ""));
    let large = |scene: &Scene| {
        let file = fs::File::create(scene.at("root/srv/app/large")).expect("made");
        file.set_len((64 << 20) + 1).expect("set");
    };
    type Spoil<'a> = (&'a dyn Fn(&Scene), &'a str);
    let spoil: [Spoil<'_>; 3] = [(&fifo, "in-the-way"), (&many, "too-large-to-keep"), (&large, "too-large-to-keep")];
    for (spoil, reason) in spoil {
        for declared in [FILE, ABSENT] {
            let scene = Scene::new();
            scene.theirs();
            spoil(&scene);
            scene.declare(declared);
            let (code, report) = scene.run();
            assert_eq!((code, report["reason"].as_str()), (Some(1), Some(reason)), "{report:#}");
            assert!(!report["steps"].to_string().contains("taken over"), "the plan knew: {report:#}");
            assert_eq!(scene.read("srv/app/data/db").as_deref(), Some("rows\n"));
        }
    }
}
