//! trueup upgrades itself, there and back, by pushes to the fleet repository alone; and a new version that is no good.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::installed::{QUICK, package};
use super::server::done;
use super::{Host, Lab, Variant, dnf};
use crate::sample;

/// Messages of systemd, by the ids that its catalog has.
const UNIT_STARTED: &str = "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf";
const UNIT_SUCCESS: &str = "MESSAGE_ID=7ad2d189f7e94e70a38c781354912448";
const UNIT_FAILED: &str = "MESSAGE_ID=d9b373ed55a64feb8242e02dbe79a49c";
const PROCESS_EXIT: &str = "MESSAGE_ID=98e322203f7a4ed290d09fe03c09fe15";

const OLD: &str = "0.0.9-1";
const NEW: &str = "0.1.0-1";

fn build(variant: Variant, more: &[&str]) -> PathBuf {
    let kind = if variant == Variant::Rpm { "rpm" } else { "deb" };
    package(&[&[kind, "--debug"], more].concat())
}

/// The fleet wants this version of trueup, and a file that says which push it was.
fn push(lab: &mut Lab, version: &str, says: &str) -> String {
    let manifest = format!("[packages]\ntrueup = {{ version = \"{version}\", downgrade = \"intended\" }}\n");
    lab.fleet.write("hosts/own-01/host.toml", manifest);
    lab.fleet.write("hosts/own-01/files/etc/app.conf", format!("{says}\n"));
    lab.fleet.commit(&format!("trueup {version}, {says}"))
}

/// A host with the predecessor, which its agent was told to keep to.
fn set_up(lab: &mut Lab, variant: Variant) -> (Host, String) {
    let (old, new) = (build(variant, &["--version", "0.0.9"]), build(variant, &[]));
    match variant {
        Variant::Rpm => [&old, &new].into_iter().for_each(|rpm| lab.dnf().add(rpm)),
        _ => [&old, &new].into_iter().for_each(|deb| lab.apt().add(deb)),
    }
    let first = push(lab, OLD, "first");
    let host = lab.boot_plain(variant, "own-01", &lab.agent_files(QUICK));
    match variant {
        Variant::Rpm => drop(host.shell("dnf -q -y install trueup-0.0.9")),
        _ => host.install(&old),
    }
    host.await_applied(&first);
    (host, first)
}

/// Units of our transactions of which systemd says this.
fn transactions(host: &Host, message: &str) -> Vec<String> {
    let entries = host.journal(&[message, "_PID=1"]);
    let units = entries.iter().filter_map(|entry| entry["UNIT"].as_str()).map(str::to_owned);
    units.filter(|unit| unit.starts_with("trueup-packages-")).collect()
}

/// The package database is without a flaw, as its own programs say.
#[track_caller]
fn is_clean(host: &Host, variant: Variant) {
    if variant == Variant::Rpm {
        assert_eq!(host.ok(&["rpm", "-V", "--noconfig", "trueup"]), "");
        assert_eq!(host.ok(&["rpm", "-q", "trueup"]).lines().count(), 1, "one of it");
        host.ok(&["dnf", "-q", "-C", "check"]);
    } else {
        assert_eq!(host.ok(&["dpkg", "--audit"]), "");
        assert_eq!(host.ok(&["dpkg", "--verify", "trueup"]).replace("??5?????? c /etc/trueup/agent.toml\n", ""), "");
        host.ok(&["apt-get", "-q", "check"]);
    }
}

fn there_and_back(variant: Variant) {
    let Some(mut lab) = Lab::new(1) else { return };
    let (host, _) = set_up(&mut lab, variant);
    let rounds = if sample::long() { 20 } else { 2 };
    let already = transactions(&host, UNIT_STARTED).len();
    for round in 1..=rounds {
        for version in [NEW, OLD] {
            let agent = host.agent();
            let commit = push(&mut lab, version, &format!("round {round} of {version}"));
            let status = host.await_applied(&commit);
            assert_eq!(host.package("trueup").as_deref(), Some(version), "round {round}");
            assert_eq!(host.unit_state("trueup.service"), "active enabled");
            assert_ne!(host.agent(), agent, "another agent runs");
            assert_eq!(host.program(), "/usr/bin/trueup", "which is the one that is installed");
            assert_eq!(host.read("/etc/app.conf"), format!("round {round} of {version}\n"));
            // What the one before wrote down is known.
            assert_eq!(status["notes"].as_array().map_or(0, Vec::len), 0, "{status:#}");
            let history = host.ok(&["trueup", "history", "--json"]);
            assert!(history.contains(&commit), "round {round}: {history}");
            is_clean(&host, variant);
        }
    }
    let started = transactions(&host, UNIT_STARTED);
    assert_eq!(started.len() - already, 2 * rounds, "one transaction a push: {started:?}");
    assert_eq!(transactions(&host, UNIT_SUCCESS).len(), started.len(), "each came to its end");
    for message in [UNIT_FAILED, PROCESS_EXIT] {
        let ours = |entry: &serde_json::Value| entry["UNIT"].as_str().is_some_and(|unit| unit.starts_with("trueup"));
        let bad: Vec<_> = host.journal(&[message, "_PID=1"]).into_iter().filter(ours).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
    assert_eq!(host.shell("journalctl -b -q --no-pager -g 'SIGKILL|status=9' || true"), "", "nothing was killed");
    for event in ["failed", "state-lost", "degraded", "rolled-back", "drift"] {
        let told = host.journal(&[&format!("TRUEUP_EVENT={event}")]);
        assert!(told.is_empty(), "{event}: {told:#?}");
    }
    assert!(!host.has("/var/lib/trueup/hand"), "nothing is armed any more");
    assert_eq!(host.shell("ls -A /var/lib/trueup/packages 2>/dev/null || true"), "");
    println!("{rounds} rounds there and back on {variant:?}: {} transactions", started.len() - already);
}

#[test]
fn twenty_times_there_and_back_by_pushes_alone_on_a_deb_host() {
    there_and_back(Variant::Bookworm);
}

#[test]
fn twenty_times_there_and_back_by_pushes_alone_on_an_rpm_host() {
    there_and_back(Variant::Rpm);
}

/// The package as it is, one version on, whose program ends at once.
fn broken_deb(lab: &Lab) {
    let tree = lab.directory("broken");
    done(Command::new("dpkg-deb").arg("-R").args([&build(Variant::Bookworm, &[]), &tree]));
    let control = fs::read_to_string(tree.join("DEBIAN/control")).expect("there");
    fs::write(tree.join("DEBIAN/control"), control.replace(NEW, "0.2.0-1")).expect("a file of the lab's own");
    fs::write(tree.join("usr/bin/trueup"), "#!/bin/sh\nexit 1\n").expect("a file of the lab's own");
    let built = lab.directory("trueup_0.2.0-1_amd64.deb");
    done(Command::new("dpkg-deb").args(["--root-owner-group", "-Zgzip", "-b"]).args([&tree, &built]));
    lab.apt().add(&built);
}

/// As much of such a package as it takes.
fn broken_rpm(lab: &Lab) {
    let of = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        fs::read_to_string(path).expect("one of ours")
    };
    let mut rpm = dnf::Package::new("trueup", "0.2.0-1").file("/usr/bin/trueup", "#!/bin/sh\nexit 1\n", 0o755);
    for unit in
        ["trueup.service", "trueup.socket", "trueup-undo.service", "trueup-undo.timer", "trueup-undo-boot.service"]
    {
        rpm = rpm.file(&format!("/usr/lib/systemd/system/{unit}"), &of(&format!("systemd/{unit}")), 0o644);
    }
    for (name, path) in [("sysusers", "sysusers.d"), ("tmpfiles", "tmpfiles.d")] {
        rpm = rpm.file(&format!("/usr/lib/{path}/trueup.conf"), &of(&format!("systemd/trueup.{name}")), 0o644);
    }
    lab.dnf().publish(&[rpm.config("/etc/trueup/agent.toml", "").script("post", &of("packaging/rpm/post"))]);
}

fn no_good(variant: Variant) {
    let Some(mut lab) = Lab::new(1) else { return };
    let (host, first) = set_up(&mut lab, variant);
    host.write("/etc/trueup/agent.d/50-change.toml", "[change]\nsettle = \"1s\"\ndeadline = \"20s\"\n");
    host.ok(&["systemctl", "reload", "trueup"]);
    match variant {
        Variant::Rpm => {
            broken_rpm(&lab);
            host.ok(&["dnf", "-q", "--refresh", "makecache"]);
        }
        _ => broken_deb(&lab),
    }
    let second = push(&mut lab, "0.2.0-1", "no good");
    // Its package comes, and no agent that starts is one.
    host.await_that("grep -qx 'exit 1' /usr/bin/trueup");
    host.await_that("[ \"$(systemctl show --value -p NRestarts trueup)\" -ge 2 ]");
    // The program that settled last takes it back, without anybody's help and without an agent.
    host.await_that("! grep -qx 'exit 1' /usr/bin/trueup");
    host.await_that("systemctl --quiet is-active trueup");
    let status = host.await_status("it is undone", |status| {
        status["state"] == "rolled-back" && status["running"].is_null() && status["revision"]["seen"] == *second
    });
    assert_eq!((&status["reason"], &status["revision"]["applied"]), (&"not-settled".into(), &first.clone().into()));
    assert_eq!(host.package("trueup").as_deref(), Some(OLD));
    assert_eq!(host.read("/etc/app.conf"), "first\n");
    assert_eq!(host.program(), "/usr/bin/trueup");
    assert!(!host.has("/var/lib/trueup/hand"));
    is_clean(&host, variant);

    // The next one that is good is applied.
    let third = push(&mut lab, NEW, "good");
    host.await_applied(&third);
    assert_eq!(host.package("trueup").as_deref(), Some(NEW));
    is_clean(&host, variant);
}

#[test]
fn a_new_version_that_ends_at_once_is_taken_back_by_the_one_that_settled_last_on_a_deb_host() {
    no_good(Variant::Bookworm);
}

#[test]
fn a_new_version_that_ends_at_once_is_taken_back_by_the_one_that_settled_last_on_an_rpm_host() {
    no_good(Variant::Rpm);
}
