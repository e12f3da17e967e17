//! What lies above a path changes its type: what is written below it goes where it is declared, never where a link
//! that goes, or one that comes, leads.

use std::fs;
use std::os::unix::fs::symlink;

use crate::days::Scene;

/// Somebody else's `/data/file`, and a link of ours that leads there.
fn behind_a_link(theirs: &str) -> Scene {
    let scene = Scene::new();
    scene.put("root/data/file", theirs);
    scene.declare("[files.\"/srv/x\"]\ntype = \"symlink\"\ntarget = \"/data\"\n");
    scene.converges();
    scene.declare("");
    scene.put("repo/hosts/web-01/files/srv/x/file", "ours\n");
    scene
}

#[test]
fn what_is_declared_below_a_link_that_is_let_go_is_not_written_through_it() {
    for theirs in ["theirs\n", "ours\n"] {
        let scene = behind_a_link(theirs);
        scene.converges();
        assert_eq!(scene.read("data/file").as_deref(), Some(theirs));
        assert!(!scene.at("root/srv/x").is_symlink());
        assert_eq!(scene.read("srv/x/file").as_deref(), Some("ours\n"));
    }
}

#[test]
fn a_link_that_cannot_be_let_go_keeps_what_is_below_it_from_being_written() {
    let scene = behind_a_link("theirs\n");
    fs::remove_file(scene.at("root/data/file")).expect("removed");
    let (code, report) = scene.injected("unlinkat:error=EIO");
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(scene.read("data/file"), None, "{report:#}");
}

#[test]
fn a_directory_that_was_moved_behind_a_link_is_made_again_with_what_is_in_it() {
    let scene = Scene::new();
    scene.declare("[files.\"/srv/x\"]\ntype = \"directory\"\nreplace = \"symlink\"\n");
    scene.put("repo/hosts/web-01/files/srv/x/file", "ours\n");
    scene.converges();
    fs::rename(scene.at("root/srv/x"), scene.at("root/data")).expect("moved");
    symlink("/data", scene.at("root/srv/x")).expect("linked");
    scene.converges();
    assert!(!scene.at("root/srv/x").is_symlink());
    assert_eq!(scene.read("srv/x/file").as_deref(), Some("ours\n"));
}

#[test]
fn what_was_in_a_directory_that_becomes_a_link_is_let_go_there_and_not_behind_the_link() {
    for theirs in ["theirs\n", "ours\n"] {
        let scene = Scene::new();
        scene.put("root/data/conf", theirs);
        scene.put("repo/hosts/web-01/files/srv/app/conf", "ours\n");
        scene.converges();
        fs::remove_dir_all(scene.at("repo/hosts/web-01/files/srv")).expect("removed");
        let link = "[files.\"/srv/app\"]\ntype = \"symlink\"\ntarget = \"/data\"\nreplace = \"directory\"\n";
        scene.declare(link);
        scene.converges();
        assert!(scene.at("root/srv/app").is_symlink());
        let report = scene.converges();
        assert_eq!(report["steps"].as_array().map(Vec::len), Some(0), "{report:#}");
        assert_eq!(scene.read("data/conf").as_deref(), Some(theirs));
    }
}

#[test]
fn what_a_crash_left_in_the_ledger_is_not_let_go_through_a_link_that_came_since() {
    let scene = Scene::new();
    scene.put("root/data/conf", "theirs\n");
    scene.put("repo/hosts/web-01/files/srv/app/conf", "ours\n");
    scene.converges();
    fs::remove_dir_all(scene.at("repo/hosts/web-01/files/srv")).expect("removed");
    scene.declare("[files.\"/srv/app\"]\ntype = \"symlink\"\ntarget = \"/data\"\nreplace = \"directory\"\n");
    for kill in 1..20 {
        if !scene.killed_at(kill) {
            break;
        }
        assert_eq!(scene.read("data/conf").as_deref(), Some("theirs\n"), "killed at {kill}");
    }
    scene.converges();
    assert_eq!(scene.read("data/conf").as_deref(), Some("theirs\n"));
    assert!(scene.at("root/srv/app").is_symlink());
}

#[test]
fn what_package_managers_read_goes_children_first_too() {
    let scene = Scene::new();
    scene.declare("[files.\"/etc/apt/made.d\"]\ntype = \"directory\"\n");
    scene.put("repo/hosts/web-01/files/etc/apt/made.d/f", "ours\n");
    scene.converges();
    fs::remove_dir_all(scene.at("repo/hosts/web-01/files/etc/apt")).expect("removed");
    scene.declare("");
    scene.converges();
    assert!(!scene.at("root/etc/apt").exists());
}

#[test]
fn a_file_becomes_a_directory_with_a_file_in_it_in_one_pass() {
    for (old, new) in [("srv/x", "srv/x/y"), ("usr/share/keyrings", "usr/share/keyrings/y")] {
        let scene = Scene::new();
        scene.put(&format!("repo/hosts/web-01/files/{old}"), "a file\n");
        scene.converges();
        fs::remove_file(scene.at(&format!("repo/hosts/web-01/files/{old}"))).expect("removed");
        scene.put(&format!("repo/hosts/web-01/files/{new}"), "in a directory\n");
        scene.converges();
        assert_eq!(scene.read(new).as_deref(), Some("in a directory\n"));
    }
}
