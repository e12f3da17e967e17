//! First attempts that fail or are cut short: nobody else's work is taken for ours, and nothing of it is lost.

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
