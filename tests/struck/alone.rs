//! Two at once.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use super::{FEW, Scene, text};

#[test]
fn while_a_pass_is_inside_an_apply_another_ends_with_its_name_and_touches_nothing() {
    let scene = Scene::new(FEW);
    scene.begin();
    // It stops where the first file takes its name, and has the lock until it is told to go on.
    let trace = scene.at("trace");
    let strace =
        ["-o", trace.to_str().expect("text"), "-e", "trace=renameat", "-e", "inject=renameat:signal=STOP:when=1"];
    let mut first = scene.strace(&strace).stdout(Stdio::null()).spawn().expect("it starts");
    while !fs::read_to_string(&trace).is_ok_and(|said| said.contains("stopped by SIGSTOP")) {
        assert!(first.try_wait().expect("a child").is_none(), "it ended before it began");
        thread::yield_now();
    }
    assert!(scene.is_inside());
    let before = scene.tree();
    let output = scene.command("run").output().expect("it starts");
    let told: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!((output.status.code(), &told["reason"]), (Some(3), &"locked".into()), "{}", text(&output));
    let message = told["message"].as_str().expect("a message");
    let pid = message.split_once("(pid ").and_then(|(_, rest)| rest.split_once(')')).expect("who has it").0;
    assert!(scene.tree() == before, "something was changed");

    assert!(Command::new("kill").args(["-CONT", pid]).status().expect("kill(1)").success());
    let ended = first.wait().expect("a child");
    assert!(ended.success(), "{ended}");
    scene.recovers("two at once");
}
