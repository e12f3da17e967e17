//! The rpm, with the agent that it brings, on a host of Fedora's kin: installed by dnf, set up, upgraded in the middle
//! of a pass, removed.

use std::path::PathBuf;

use super::dnf::Package;
use super::installed::{INSIDE_PROGRAM, INSIDE_START, SLOW, WAIT, package};
use super::{Host, Lab, Variant};

fn old() -> PathBuf {
    package(&["rpm", "--debug", "--version", "0.0.9"])
}

fn new() -> PathBuf {
    package(&["rpm", "--debug"])
}

const TOOL: &str = "[packages]\ntool = \"present\"\n";

/// A host with the predecessor, whose agent follows the fleet.
fn set_up(lab: &Lab) -> Host {
    lab.dnf().add(&old());
    let host = lab.boot_plain(Variant::Rpm, "rpm-01", &lab.ready_for_setup());
    host.ok(&["dnf", "-q", "-y", "install", "trueup"]);
    host
}

fn upgrade(lab: &Lab, host: &Host) {
    lab.dnf().add(&new());
    host.ok(&["dnf", "-q", "-y", "--refresh", "upgrade", "trueup"]);
}

/// Links of units and what else lies about in trueup's name.
fn traces(host: &Host) -> String {
    host.shell("find /etc /run /usr -xdev -name '*trueup*' | sort")
}

#[test]
fn an_rpm_is_installed_set_up_upgraded_inside_steps_and_removed() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.dnf().publish(&[Package::new("tool", "1.0-1")]);
    let first = lab.app("rpm-01", "80", TOOL);
    let host = set_up(&lab);

    // Installed it idles, and says what to do.
    assert_eq!(host.package("trueup").as_deref(), Some("0.0.9-1"));
    assert_eq!(host.ok(&["rpm", "-V", "trueup"]), "");
    assert_eq!(host.unit_state("trueup.service"), "active enabled");
    assert_eq!(host.unit_state("trueup.socket"), "active static");
    assert!(host.holds("getent passwd trueup-fetch"), "the worker's user");
    assert_eq!(host.stat("/var/lib/trueup"), "directory 700 root:root");
    assert_eq!(host.stat("/run/trueup/trueup.sock"), "socket 666 root:root");
    let status = host.run(&["trueup", "status"]);
    assert_eq!(status.status, 3, "{status:?}");
    assert!(status.stdout.contains("unconfigured") && status.stdout.contains("trueup setup"), "{status:?}");

    // It follows the fleet, and puts back what drifts.
    host.set_up(&lab);
    host.await_applied(&first);
    assert_eq!(host.package("tool").as_deref(), Some("1.0-1"));
    for (script, id) in [
        ("echo by hand >/etc/app.conf", "file:/etc/app.conf"),
        ("systemctl stop app", "unit:app.service"),
        ("systemctl disable app", "unit:app.service"),
        ("dnf -q -y remove tool", "package:tool"),
    ] {
        let matches = ["TRUEUP_EVENT=drift".to_owned(), format!("TRUEUP_RESOURCE={id}")];
        let entry = host.await_journal(&[&matches[0], &matches[1]], || drop(host.shell(script)));
        assert_eq!(entry["TRUEUP_CAUSE"], "corrective", "{script}: {entry:#}");
        host.await_status("in sync again", |status| status["state"] == "in-sync" && status["running"].is_null());
    }
    assert_eq!(host.package("tool").as_deref(), Some("1.0-1"));
    assert_eq!(host.unit_state("app.service"), "active enabled");
    assert_eq!(host.read("/etc/app.conf"), "port = 80\n");

    // Upgraded inside a step that runs a program, by dnf.
    let invocation = host.unit("app.service", "InvocationID");
    host.write(WAIT, "");
    let second = lab.app("rpm-01", "8080", TOOL);
    host.upgraded_inside(INSIDE_PROGRAM, || upgrade(&lab, &host));
    assert_eq!(host.package("trueup").as_deref(), Some("0.1.0-1"));
    host.await_applied(&second);
    assert_eq!(host.read("/etc/app.conf"), "port = 8080\n");
    assert!(host.has("/run/app-8080"));
    assert_ne!(host.unit("app.service", "InvocationID"), invocation, "it was restarted");
    host.steps_are_whole();

    // The same inside a step that starts a unit.
    host.write(WAIT, "");
    lab.fleet.write("hosts/rpm-01/units/slow.service", SLOW);
    let slow = format!("{TOOL}[units.\"slow.service\"]\nenabled = true\nactive = true\n");
    let third = lab.app("rpm-01", "8080", &slow);
    host.upgraded_inside(INSIDE_START, || {
        host.ok(&["dnf", "-q", "-y", "reinstall", "trueup"]);
    });
    host.await_applied(&third);
    assert!(host.read("/etc/trueup/agent.toml").contains("url = \"https://"), "what root wrote stays");

    // Stopped stays stopped.
    host.ok(&["systemctl", "stop", "trueup"]);
    host.ok(&["dnf", "-q", "-y", "reinstall", "trueup"]);
    assert_eq!(host.unit_state("trueup.service"), "inactive enabled");
    host.ok(&["systemctl", "start", "trueup"]);

    // Removed: the host stays as it is, nothing of the agent runs, and what root wrote is kept beside.
    host.ok(&["dnf", "-q", "-y", "remove", "trueup"]);
    assert_eq!(host.unit_state("trueup.service").trim(), "inactive");
    assert_eq!(host.unit_state("trueup.socket").trim(), "inactive");
    host.no_agent();
    assert!(host.read("/etc/trueup/agent.toml.rpmsave").contains("url = \"https://"));
    assert!(!host.has("/etc/trueup/agent.toml"));
    assert_eq!(traces(&host), "/etc/trueup\n/run/trueup\n", "no socket, no link of a unit");
    assert_eq!(host.unit_state("app.service"), "active enabled");
    assert_eq!(host.package("tool").as_deref(), Some("1.0-1"));

    // It comes again, and goes on once root gives it back what root wrote.
    host.ok(&["dnf", "-q", "-y", "install", "trueup"]);
    assert_eq!(host.run(&["trueup", "status"]).status, 3);
    host.write("/etc/app.conf", "by hand\n");
    host.shell("mv /etc/trueup/agent.toml.rpmsave /etc/trueup/agent.toml; systemctl reload trueup");
    host.await_applied(&third);
    assert_eq!(host.read("/etc/app.conf"), "port = 8080\n");
}

#[test]
fn the_fleet_upgrades_the_agent_in_a_transaction_of_dnf() {
    let Some(mut lab) = Lab::new(1) else { return };
    // Its scriptlet runs after trueup's, and takes time.
    let post = "while [ -e /run/wait ]; do sleep 0.1; done; echo done >>/run/configured";
    let slow = Package::new("slow", "1.0-1").field("Requires", "trueup").script("post", post);
    lab.dnf().publish(&[slow.field("Requires(post)", "trueup")]);
    let first = lab.app("rpm-01", "80", "");
    let host = set_up(&lab);
    host.set_up(&lab);
    host.await_applied(&first);

    host.write(WAIT, "");
    lab.dnf().add(&new());
    host.ok(&["dnf", "-q", "--refresh", "makecache"]);
    let before = host.agent();
    let second = lab.app("rpm-01", "8080", "[packages]\ntrueup = \"0.1.0-1\"\nslow = \"present\"\n");
    let inside = "systemctl list-units --plain --no-legend 'trueup-packages-*' | grep -q running";
    host.upgraded_by_itself(&before, inside);
    host.await_applied(&second);
    assert_eq!(host.read("/run/configured"), "done\n", "once, and not cut short");
    assert_eq!(host.package("trueup").as_deref(), Some("0.1.0-1"));
    assert_eq!(host.package("slow").as_deref(), Some("1.0-1"));
    assert_eq!(host.read("/etc/app.conf"), "port = 8080\n");
    assert_eq!(host.journal(&["TRUEUP_EVENT=failed"]).len(), 0);
}
