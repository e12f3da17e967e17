//! A host goes only forward: what it remembers of that, and what is said where it remembers nothing.

use super::installed::QUICK;
use super::{Host, Lab};

/// Commits a motd that says `text`.
fn say(lab: &mut Lab, text: &str) -> String {
    lab.fleet.write("hosts/web-01/files/etc/motd", format!("{text}\n"));
    lab.fleet.commit(text)
}

fn told(host: &Host, event: &str) -> Vec<serde_json::Value> {
    host.journal(&[&format!("TRUEUP_EVENT={event}")])
}

/// The agent starts again with nothing that it remembers.
fn forgets(host: &Host, meanwhile: impl FnOnce()) {
    host.ok(&["systemctl", "stop", "trueup"]);
    host.shell("find /var/lib/trueup -mindepth 1 -delete");
    meanwhile();
    host.ok(&["systemctl", "start", "trueup"]);
}

#[test]
fn a_lost_record_is_told_and_only_the_floor_keeps_what_is_older_out() {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = say(&mut lab, "first");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    let second = say(&mut lab, "second");
    host.await_applied(&second);
    assert_eq!(told(&host, "state-lost").len(), 0, "a new host has lost nothing");

    // With a floor the older commit is as little taken as before.
    forgets(&host, || {
        lab.fleet.reset(&first);
        host.write("/etc/trueup/agent.d/floor.toml", format!("[trust]\nfloor = \"{second}\"\n"));
    });
    let status = host.await_status("below the floor", |status| status["reason"] == "below-floor");
    assert!(status["message"].as_str().is_some_and(|said| said.contains(&second[..7])), "{status:#}");
    assert_eq!(host.read("/etc/motd"), "second\n");

    // Without one there is nothing left that it could be compared with.
    forgets(&host, || drop(host.shell("rm /etc/trueup/agent.d/floor.toml")));
    host.await_applied(&first);
    assert_eq!(host.read("/etc/motd"), "first\n");
    // The status is there before what the journal is told.
    host.await_that("journalctl -b -q TRUEUP_EVENT=state-lost | grep -q .");
    let [entry] = &told(&host, "state-lost")[..] else { panic!("once: {:#?}", told(&host, "state-lost")) };
    assert_eq!((&entry["PRIORITY"], &entry["TRUEUP_REVISION"]), (&"4".into(), &first.clone().into()));
    // From there on it goes forward again, and says no more of it.
    let third = say(&mut lab, "third");
    host.await_applied(&third);
    lab.fleet.reset(&first);
    host.await_status("refused", |status| status["reason"] == "not-a-descendant");
    assert_eq!(told(&host, "state-lost").len(), 1);

    // The record alone: what the ledger knows is enough to go on from.
    host.ok(&["systemctl", "stop", "trueup"]);
    host.shell("rm /var/lib/trueup/record*");
    host.ok(&["systemctl", "start", "trueup"]);
    host.await_status("still refused", |status| status["reason"] == "not-a-descendant");
    assert_eq!(host.read("/etc/motd"), "third\n");
    host.await_that("journalctl TRUEUP_EVENT=state-lost -o cat | grep -q 'which the ledger knows'");
}

#[test]
fn another_branch_has_a_record_of_its_own_and_the_old_one_keeps_its_own() {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = say(&mut lab, "first");
    lab.fleet.branch("canary");
    let second = say(&mut lab, "second");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&second);

    let follow = |branch: &str| {
        host.write("/etc/trueup/agent.d/branch.toml", format!("[source]\nbranch = \"{branch}\"\n"));
        host.ok(&["systemctl", "reload", "trueup"]);
    };
    // It is behind what this host has, and root says so.
    follow("canary");
    host.await_applied(&first);
    let [entry] = &told(&host, "branch-changed")[..] else { panic!("once") };
    assert!(entry["MESSAGE"].as_str().is_some_and(|said| said.contains("main")), "{entry:#}");
    assert_eq!(told(&host, "state-lost").len(), 0);

    // The old branch was rewritten meanwhile, and what it had come to is remembered.
    lab.fleet.reset(&first);
    let rewritten = say(&mut lab, "rewritten");
    follow("main");
    let status = host.await_status("refused", |status| status["reason"] == "not-a-descendant");
    assert_ne!(status["revision"]["applied"], rewritten.as_str());
    assert_eq!(host.read("/etc/motd"), "first\n");
    lab.fleet.reset(&second);
    host.await_applied(&second);
    assert_eq!(told(&host, "branch-changed").len(), 1, "going back to a branch that is known is no news");
}

#[test]
fn a_server_that_gives_now_this_and_now_that_moves_nothing_and_fills_no_journal() {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = say(&mut lab, "first");
    let second = say(&mut lab, "second");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&second);
    host.shell("stat -c %i:%Y /etc/motd >/run/motd-before");
    for _ in 0..8 {
        lab.fleet.reset(&first);
        assert_eq!(host.run(&["trueup", "sync"]).status, 3, "older");
        lab.fleet.reset(&second);
        assert_eq!(host.run(&["trueup", "sync"]).status, 0, "what it has");
    }
    host.shell("stat -c %i:%Y /etc/motd | cmp - /run/motd-before");
    let lines = told(&host, "refused").len();
    assert!((1..=3).contains(&lines), "{lines} lines of sixteen looks");
    assert_eq!(told(&host, "branch-changed").len() + told(&host, "state-lost").len(), 0);
    let third = say(&mut lab, "third");
    host.await_applied(&third);
}
