//! The deb, with the agent that it brings: installed, set up, upgraded in the middle of a pass, removed, purged.

use std::path::PathBuf;

use super::apt::Package;
use super::installed::{INSIDE_PROGRAM, INSIDE_START, SLOW, WAIT, deb, package};
use super::{Host, Lab, Variant};

/// The predecessor.
fn old() -> PathBuf {
    package(&["deb", "--debug", "--version", "0.0.9"])
}

/// Everything of trueup's that somebody could find: links of units, what it owns.
fn traces(host: &Host) -> String {
    host.shell("find /etc /run /usr /var -xdev -name '*trueup*' ! -path '*/dpkg/*' ! -path '/var/*/trueup/*' | sort")
}

fn life(variant: Variant) {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = lab.app("web-01", "80", "");
    let host = lab.boot_plain(variant, "web-01", &lab.ready_for_setup());

    // Installed it idles, and says what to do.
    host.install(&old());
    assert_eq!(host.package("trueup").as_deref(), Some("0.0.9-1"));
    assert_eq!(host.unit_state("trueup.service"), "active enabled");
    assert_eq!(host.unit_state("trueup.socket"), "active static");
    assert!(host.holds("getent passwd trueup-fetch"), "the worker's user");
    for (path, what) in [
        ("/etc/trueup/agent.toml", "regular file 644 root:root"),
        ("/etc/trueup/agent.d", "directory 755 root:root"),
        ("/var/lib/trueup", "directory 700 root:root"),
        ("/run/trueup/trueup.sock", "socket 666 root:root"),
        ("/usr/share/man/man1/trueup-run.1.gz", "regular file 644 root:root"),
        ("/usr/share/man/man1/trueup-suspend.1.gz", "regular file 644 root:root"),
        ("/usr/share/man/man5/trueup-agent.toml.5.gz", "regular file 644 root:root"),
        ("/usr/share/bash-completion/completions/trueup", "regular file 644 root:root"),
    ] {
        assert_eq!(host.stat(path), what, "{path}");
    }
    let status = host.run(&["trueup", "status"]);
    assert_eq!(status.status, 3, "{status:?}");
    assert!(status.stdout.contains("unconfigured") && status.stdout.contains("trueup setup"), "{status:?}");
    assert_eq!(host.journal(&["_SYSTEMD_UNIT=trueup.service", "PRIORITY=3"]).len(), 0, "to idle is no failure");
    host.set_up(&lab);
    host.await_applied(&first);
    assert_eq!(host.unit_state("app.service"), "active enabled");

    // Upgraded inside a step that runs a program: what the change of a file leads to is still done, by the next agent.
    let invocation = host.unit("app.service", "InvocationID");
    host.write(WAIT, "");
    let second = lab.app("web-01", "8080", "");
    host.upgraded_inside(INSIDE_PROGRAM, || host.install(&deb()));
    assert_eq!(host.package("trueup").as_deref(), Some("0.1.0-1"));
    host.await_applied(&second);
    assert_eq!(host.read("/etc/app.conf"), "port = 8080\n");
    assert!(host.has("/run/app-8080"));
    assert_ne!(host.unit("app.service", "InvocationID"), invocation, "it was restarted");
    host.steps_are_whole();
    assert!(!host.journal(&["TRUEUP_EVENT=interrupted"]).is_empty());

    // The same inside a step that starts a unit.
    host.write(WAIT, "");
    lab.fleet.write("hosts/web-01/units/slow.service", SLOW);
    let third = lab.app("web-01", "8080", "[units.\"slow.service\"]\nenabled = true\nactive = true\n");
    host.upgraded_inside(INSIDE_START, || host.install(&deb()));
    host.await_applied(&third);
    assert_eq!(host.unit_state("slow.service"), "active enabled");
    assert!(host.read("/etc/trueup/agent.toml").contains("url = \"https://"), "what root wrote stays");

    // Stopped stays stopped, and disabled disabled: an upgrade starts nothing.
    host.ok(&["systemctl", "stop", "trueup"]);
    host.install(&deb());
    assert_eq!(host.unit_state("trueup.service"), "inactive enabled");
    host.ok(&["systemctl", "disable", "trueup"]);
    host.install(&deb());
    assert_eq!(host.unit_state("trueup.service"), "inactive disabled");
    host.ok(&["systemctl", "enable", "--now", "trueup"]);
    host.await_applied(&third);

    // Removed: the host stays as it is, and nothing of the agent runs.
    host.ok(&["dpkg", "-r", "trueup"]);
    assert_eq!(host.unit_state("trueup.service").trim(), "inactive");
    assert_eq!(host.unit_state("trueup.socket").trim(), "inactive");
    host.no_agent();
    assert_eq!(
        traces(&host),
        "/etc/trueup\n/run/trueup\n/var/cache/trueup\n/var/lib/trueup\n",
        "no socket, no link of a unit"
    );
    assert_eq!(host.unit_state("app.service"), "active enabled");
    assert_eq!(host.read("/etc/app.conf"), "port = 8080\n");

    // It comes back as it went, and goes on.
    host.write("/etc/app.conf", "by hand\n");
    host.await_journal(&["TRUEUP_EVENT=drift", "TRUEUP_RESOURCE=file:/etc/app.conf"], || host.install(&deb()));
    host.await_applied(&third);
    assert_eq!(host.read("/etc/app.conf"), "port = 8080\n");
    assert_eq!(host.unit_state("trueup.service"), "active enabled");

    // Purged: nothing of it is left, not even a mask; what it managed stays.
    host.ok(&["systemctl", "mask", "--now", "trueup.service"]);
    host.ok(&["dpkg", "-P", "trueup"]);
    assert_eq!(traces(&host), "");
    assert_eq!(host.unit_state("app.service"), "active enabled");
    assert_eq!(host.read("/etc/app.conf"), "port = 8080\n");
    host.install(&deb());
    assert_eq!(host.unit_state("trueup.service"), "active enabled", "the mask is gone too");
    assert_eq!(host.run(&["trueup", "status"]).status, 3, "and what it followed is");
}

#[test]
fn a_deb_is_installed_set_up_upgraded_inside_steps_removed_and_purged_on_bookworm() {
    life(Variant::Bookworm);
}

#[test]
fn a_deb_is_installed_set_up_upgraded_inside_steps_removed_and_purged_on_trixie() {
    life(Variant::Trixie);
}

#[test]
fn the_fleet_upgrades_the_agent_in_a_transaction_of_the_agents_own() {
    let Some(mut lab) = Lab::new(1) else { return };
    // Configured after trueup is, and that takes time.
    let postinst = "#!/bin/sh\nset -e\nwhile [ -e /run/wait ]; do sleep 0.1; done\necho done >>/run/configured\n";
    lab.apt().publish(&[Package::new("slow", "1.0").field("Depends", "trueup").script("postinst", postinst)]);
    lab.apt().add(&deb());
    let first = lab.app("web-01", "80", "");
    let host = lab.boot_plain(Variant::Bookworm, "web-01", &lab.ready_for_setup());
    host.install(&old());
    host.set_up(&lab);
    host.await_applied(&first);

    host.write(WAIT, "");
    let before = host.agent();
    let second = lab.app("web-01", "8080", "[packages]\ntrueup = \"0.1.0-1\"\nslow = \"present\"\n");
    let inside = "[ \"$(dpkg-query -W -f '${Version} ${db:Status-Status}' trueup)\" = '0.1.0-1 installed' ] && \
                  systemctl list-units --plain --no-legend 'trueup-packages-*' | grep -q running";
    host.upgraded_by_itself(&before, inside);
    host.await_applied(&second);
    assert_eq!(host.read("/run/configured"), "done\n", "once, and not cut short");
    assert_eq!(host.package("trueup").as_deref(), Some("0.1.0-1"));
    assert_eq!(host.package("slow").as_deref(), Some("1.0"));
    assert_eq!(host.read("/etc/app.conf"), "port = 8080\n");
    assert_eq!(host.journal(&["TRUEUP_EVENT=failed"]).len(), 0);

    // Nobody takes the agent away through the repository.
    lab.app("web-01", "8080", "[packages]\ntrueup = \"absent\"\n");
    host.await_status("self-trust", |status| status["reason"] == "self-trust");
    assert_eq!(host.package("trueup").as_deref(), Some("0.1.0-1"));
}

#[test]
fn an_agent_whose_program_was_replaced_goes_on_where_it_may_not_be_restarted() {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = lab.app("web-01", "80", "");
    let host = lab.boot_plain(Variant::Bookworm, "web-01", &lab.ready_for_setup());
    host.install(&old());
    host.set_up(&lab);
    host.await_applied(&first);
    host.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n");
    host.shell("chmod 755 /usr/sbin/policy-rc.d");
    host.install(&deb());
    assert_eq!(host.program(), "/usr/bin/trueup (deleted)");
    // It still starts itself as fetch worker.
    let second = lab.app("web-01", "8080", "");
    host.await_applied(&second);
    assert_eq!(host.program(), "/usr/bin/trueup (deleted)");
}

#[test]
fn a_deb_is_installed_removed_and_purged_where_no_systemd_runs_and_where_nothing_may_start() {
    let Some(lab) = Lab::new(1) else { return };
    let host = lab.boot_plain(Variant::Bookworm, "web-01", &[]);
    host.copy_in(&old(), "/root/old.deb");
    host.copy_in(&deb(), "/root/new.deb");
    // As in a chroot: nothing of the running system is reached.
    let elsewhere = |script: &str| host.shell(&format!("unshare -m sh -euc 'mount -t tmpfs tmpfs /run; {script}'"));
    elsewhere("dpkg -i /root/old.deb; dpkg -i /root/new.deb");
    host.shell("systemctl daemon-reload");
    assert_eq!(host.unit_state("trueup.service"), "inactive enabled");
    assert_eq!(host.unit_state("trueup.socket"), "inactive static");
    elsewhere("dpkg -r trueup; dpkg -P trueup");
    assert_eq!(traces(&host), "");

    host.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n");
    host.shell("chmod 755 /usr/sbin/policy-rc.d");
    host.ok(&["dpkg", "-i", "/root/new.deb"]);
    assert_eq!(host.unit_state("trueup.service"), "inactive enabled");
    host.ok(&["dpkg", "-P", "trueup"]);
    assert_eq!(traces(&host), "");
}
