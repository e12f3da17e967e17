//! A host under `update = "hold"`, and one that root went back on.

use trueup::brakes::{self, Brakes, Choice};
use trueup::host::StateDir;

use super::{Host, Lab};

/// What people asked for on this host, as the agent would write it.
fn brakes(host: &Host, approved: Option<&str>, rolled_back: Option<&str>) {
    let choice = |id: &str| Choice { commit: id.parse().expect("an id"), by: "alice".to_owned(), at: 1 };
    let asked = Brakes { approved: approved.map(choice), rolled_back: rolled_back.map(choice), ..Brakes::default() };
    brakes::save(&StateDir::new(host.root().join("var/lib/trueup/agent")), &asked).expect("saved");
}

/// Commits a revision that says `text` in a file, and has a unit that runs only with it.
fn say(lab: &mut Lab, text: &str) -> String {
    lab.fleet.write("hosts/web-01/files/etc/motd", format!("{text}\n"));
    let unit = format!("[Service]\nExecStart=/bin/sleep infinity\nEnvironment=SAYS={text}\n");
    lab.fleet.write("hosts/web-01/units/sleeper.service", unit);
    lab.fleet.write("hosts/web-01/host.toml", "[units.\"sleeper.service\"]\nactive = true\n");
    lab.fleet.commit(text)
}

/// A pass after edits by hand: it ends so, and the host is as `text` says again.
#[track_caller]
fn corrects(host: &Host, state: &str, reason: Option<&str>, text: &str) {
    host.shell("echo by hand >/etc/motd; systemctl stop sleeper.service");
    holds(host, state, reason, text);
}

/// A pass ends so, and the host is as `text` says.
#[track_caller]
fn holds(host: &Host, state: &str, reason: Option<&str>, text: &str) {
    let told = host.trueup(&["run"]);
    assert_eq!((told.report.state.as_str(), told.report.reason.as_deref()), (state, reason), "{told:#?}");
    assert_eq!(host.read("/etc/motd"), format!("{text}\n"), "{told:#?}");
    assert_eq!(host.unit("sleeper.service", "ActiveState"), "active", "{told:#?}");
    assert_eq!(host.unit("sleeper.service", "Environment"), format!("SAYS={text}"), "{told:#?}");
}

#[test]
fn a_held_host_corrects_to_the_approved_revision_only() {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = say(&mut lab, "first");
    let second = say(&mut lab, "second");
    let host = lab.boot_with("web-01", "[policy]\nupdate = \"hold\"\n");
    let told = host.trueup(&["run"]);
    assert_eq!((told.status, told.report.reason.as_deref()), (2, Some("held")), "{told:#?}");
    assert!(!host.has("/etc/systemd/system/sleeper.service"), "nothing is applied before it is approved");

    // An ancestor of the tip, over the network, from the commit down.
    brakes(&host, Some(&first), None);
    holds(&host, "pending", Some("held"), "first");
    corrects(&host, "pending", Some("held"), "first");
    let told = host.trueup(&["plan"]);
    assert!(told.ids().contains(&"file:/etc/motd"), "the plan is of the one that waits: {told:#?}");
    assert_eq!(told.report.revision.seen.as_deref(), Some(second.as_str()));

    // A new commit waits, offline nothing changes, and across a restart it is remembered.
    let third = say(&mut lab, "third");
    corrects(&host, "pending", Some("held"), "first");
    lab.network.partition(true);
    host.write("/etc/trueup/agent.toml", lab.agent_toml("timeout = \"2s\"\n[policy]\nupdate = \"hold\"\n"));
    host.shell("echo by hand >/etc/motd");
    assert_eq!(host.trueup(&["run"]).report.state, "degraded");
    assert_eq!(host.read("/etc/motd"), "first\n");
    lab.network.partition(false);
    brakes(&host, Some(&third), None);
    let mut host = host;
    host.cut();
    holds(&host, "in-sync", None, "third");
    host.trueup(&["run"]).idle();
}

#[test]
fn a_host_that_root_went_back_on_stays_there_until_resume() {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = say(&mut lab, "first");
    let host = lab.boot("web-01");
    let second = say(&mut lab, "second");
    host.trueup(&["run"]).converged();

    brakes(&host, None, Some(&first));
    holds(&host, "pending", Some("rolled-back-by-root"), "first");
    say(&mut lab, "third");
    corrects(&host, "pending", Some("rolled-back-by-root"), "first");

    // The branch is forced meanwhile, and the clone lost with what it had of the old one.
    lab.fleet.reset(&second);
    lab.fleet.write("hosts/web-01/files/etc/motd", "forced\n");
    lab.fleet.force_push("forced");
    host.shell("rm -rf /var/cache/trueup/clone");
    corrects(&host, "stalled", Some("not-a-descendant"), "first");
    brakes(&host, None, None);
    corrects(&host, "stalled", Some("not-a-descendant"), "first");

    lab.fleet.reset(&second);
    holds(&host, "in-sync", None, "second");
    host.trueup(&["run"]).idle();
}
