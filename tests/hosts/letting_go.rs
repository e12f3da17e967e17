//! What happens when something is taken out of the repository.

use super::apt::Package;
use super::listing::{Listing, OWN};
use super::{Host, Lab};

const TICK: &str = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

#[test]
fn what_trueup_made_goes_and_what_stood_there_before_is_back() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[
        Package::new("before", "1.0"),
        Package::new("fresh", "1.0"),
        Package::new("library", "1.0"),
        Package::new("needs-library", "1.0").field("Depends", "library"),
        Package::new("unwanted", "1.0").file("/usr/share/unwanted", "here\n", 0o644),
    ]);
    let host = lab.boot("web-01");
    host.shell(
        "apt-get -y -qq install before unwanted
         printf 'theirs, no newline' >/etc/motd; chown daemon:adm /etc/motd; chmod 0604 /etc/motd
         echo theirs >/etc/gone; chmod 0640 /etc/gone
         ln -s nowhere /etc/pointer
         echo theirs >/etc/touched; chmod 0666 /etc/touched; chown daemon /etc/touched",
    );
    assert_eq!(host.unit_state("cron.service"), "active enabled");

    let stays = "[files.\"/etc/stays\"]\ncontent = \"stays\\n\"\n";
    lab.fleet.write("hosts/web-01/host.toml", format!("roles = [\"all\"]\n{stays}"));
    lab.fleet.write(
        "roles/all/role.toml",
        "[packages]\nbefore = \"present\"\nfresh = \"present\"\nlibrary = \"present\"\nunwanted = \"absent\"\n\
         [files.\"/etc/gone\"]\nstate = \"absent\"\n\
         [files.\"/etc/pointer\"]\ntype = \"symlink\"\ntarget = \"motd\"\n\
         [files.\"/etc/touched\"]\nattributes_only = true\nmode = \"0600\"\nowner = \"root\"\n\
         [files.\"/srv/box\"]\ntype = \"directory\"\n\
         [units]\n\"tick.service\" = \"on\"\n\"cron.service\" = \"off\"\n",
    );
    lab.fleet.write("roles/all/files/etc/motd", "ours\n");
    lab.fleet.write("roles/all/files/etc/app/deep/new.conf", "ours\n");
    lab.fleet.write("roles/all/files/srv/box/ours", "ours\n");
    lab.fleet.write("roles/all/units/tick.service", TICK);
    lab.fleet.commit("all");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(run.step("file:/etc/motd").action, "take-over", "{run:#?}");
    assert_eq!(host.read("/etc/motd"), "ours\n");
    assert_eq!(host.unit_state("tick.service"), "active enabled");
    assert_eq!(host.unit_state("cron.service"), "inactive disabled");
    assert!(!host.has("/etc/gone") && host.package("unwanted").is_none());
    host.shell("echo stranger >/srv/box/theirs; apt-get -y -qq install needs-library");

    lab.fleet.write("hosts/web-01/host.toml", stays);
    lab.fleet.commit("nothing of it");
    let plan = host.trueup(&["plan"]);
    assert_eq!(plan.status, 2, "{plan:#?}");
    let run = host.trueup(&["run"]);
    run.converged();
    // What stood there is back, content, mode and owner.
    assert_eq!(host.read("/etc/motd"), "theirs, no newline");
    assert_eq!(host.stat("/etc/motd"), "regular file 604 daemon:adm");
    assert_eq!(
        (host.read("/etc/gone").as_str(), host.stat("/etc/gone").as_str()),
        ("theirs\n", "regular file 640 root:root")
    );
    assert_eq!(host.ok(&["readlink", "/etc/pointer"]).trim(), "nowhere");
    assert_eq!(host.stat("/etc/touched"), "regular file 666 daemon:root");
    assert_eq!(host.unit_state("cron.service"), "active enabled");
    assert_eq!(host.package("before").as_deref(), Some("1.0"));
    assert_eq!(host.package("unwanted").as_deref(), Some("1.0"));
    // What trueup made is gone.
    assert!(!host.has("/etc/app"), "with the directories that it made on the way");
    assert!(!host.has("/etc/systemd/system/tick.service") && !host.has("/srv/box/ours"));
    assert_eq!(host.unit("tick.service", "LoadState"), "not-found");
    assert_eq!(host.unit("tick.service", "ActiveState"), "inactive");
    assert!(!host.holds("systemctl is-enabled tick.service"));
    assert_eq!(host.package("fresh"), None);
    // What others need or put there stays.
    assert_eq!(host.read("/srv/box/theirs"), "stranger\n");
    assert_eq!(host.package("library").as_deref(), Some("1.0"));
    assert_eq!(host.ok(&["apt-mark", "showauto", "library"]).trim(), "library");
    assert_eq!(host.read("/etc/stays"), "stays\n");
    host.trueup(&["run"]).idle();
}

#[test]
fn nothing_is_left_of_a_unit_that_trueup_made_and_that_failed() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/stays", "stays\n");
    let broken = "[Service]\nExecStart=/bin/false\n";
    for unit in ["broken.service", "plain.service", "in@.service"] {
        lab.fleet.write(&format!("hosts/web-01/units/{unit}"), broken);
    }
    lab.fleet.write("hosts/web-01/units/runs.service", TICK);
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[units.\"broken.service\"]\nactive = true\n[units.\"in@one.service\"]\nactive = true\n",
    );
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    assert_eq!(host.trueup(&["run"]).report.state, "degraded");
    host.shell("systemctl start plain.service runs.service || :");
    let failed = || host.ok(&["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).lines().count();
    host.await_that("systemctl is-failed -q plain.service");
    assert_eq!(failed(), 3);

    lab.fleet.write("hosts/web-01/host.toml", "");
    lab.fleet.remove("hosts/web-01/units");
    lab.fleet.commit("gone");
    let plan = host.run(&["trueup", "plan"]).stdout;
    assert!(!plan.contains("was there before"), "trueup has made them: {plan}");
    assert!(plan.contains("its unit file goes; what runs of it goes on until somebody stops it"), "{plan}");
    host.trueup(&["run"]).converged();
    assert_eq!(failed(), 0);
    assert_eq!(host.ok(&["systemctl", "is-system-running"]).trim(), "running");
    assert_eq!(host.unit("runs.service", "ActiveState"), "active");
    host.trueup(&["run"]).idle();
}

#[test]
fn nothing_returns_after_the_time_of_originals_or_under_leave_and_by_hand_all_is_let_go() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[Package::new("fresh", "1.0")]);
    let host = lab.boot_with("web-01", "[state]\noriginals = \"1s\"\n");
    host.shell("echo theirs >/etc/motd; echo theirs >/etc/left");
    lab.fleet.write("hosts/web-01/host.toml", "roles = [\"left\"]\n");
    lab.fleet.write("hosts/web-01/files/etc/stays", "stays\n");
    lab.fleet.write("hosts/web-01/files/etc/motd", "ours\n");
    lab.fleet.write(
        "roles/left/role.toml",
        "[policy]\nrelease = \"leave\"\n[packages]\nfresh = \"present\"\n[units]\n\"tick.service\" = \"on\"\n",
    );
    lab.fleet.write("roles/left/files/etc/left", "ours\n");
    lab.fleet.write("roles/left/files/etc/left.new", "ours\n");
    lab.fleet.write("roles/left/units/tick.service", TICK);
    lab.fleet.commit("web-01");
    host.trueup(&["run"]).converged();

    // Time itself is what is waited for here.
    host.ok(&["sleep", "2"]);
    host.trueup(&["run"]).idle();
    lab.fleet.write("hosts/web-01/host.toml", "");
    lab.fleet.remove("hosts/web-01/files/etc/motd");
    lab.fleet.commit("without motd and role");
    host.trueup(&["run"]).converged();
    assert_eq!(host.read("/etc/motd"), "ours\n", "its original is no longer kept");
    assert_eq!((host.read("/etc/left").as_str(), host.read("/etc/left.new").as_str()), ("ours\n", "ours\n"));
    assert_eq!(host.package("fresh").as_deref(), Some("1.0"));
    assert_eq!(host.unit_state("tick.service"), "active enabled");
    host.trueup(&["run"]).idle();

    // Root hands the host back.
    let released = host.run(&["trueup", "release", "--all"]);
    assert_eq!(released.status, 0, "{released:#?}");
    assert!(!host.has("/etc/stays"), "{released:#?}");
}

/// `run` is refused for `reason`, and not one file of the host is another.
fn refused(host: &Host, reason: &str) {
    let before = Listing::of(host).without(&OWN);
    host.trueup(&["run"]).stalled(reason);
    assert_eq!(host.run(&["trueup", "plan"]).status, 3);
    assert_eq!(before.changes(&Listing::of(host).without(&OWN)), Vec::<String>::new(), "{reason}");
    assert_eq!(host.unit_state("tick.service"), "active enabled");
}

#[test]
fn a_host_directory_that_is_emptied_or_another_name_removes_nothing() {
    let Some(mut lab) = Lab::new(1) else { return };
    for host in ["web-01", "db-01"] {
        lab.fleet.write(&format!("hosts/{host}/host.toml"), "[units]\n\"tick.service\" = \"on\"\n");
        lab.fleet.write(&format!("hosts/{host}/units/tick.service"), TICK);
        for n in 0..12 {
            lab.fleet.write(&format!("hosts/{host}/files/etc/{host}/{n}"), "ours\n");
        }
    }
    lab.fleet.write("hosts/db-01/files/etc/motd", "db-01\n");
    let full = lab.fleet.commit("two hosts");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();

    lab.fleet.remove("hosts/web-01");
    lab.fleet.write("hosts/web-01/files/.gitkeep", "");
    lab.fleet.commit("emptied");
    refused(&host, "guard");
    lab.fleet.remove("hosts/web-01");
    lab.fleet.commit("gone");
    refused(&host, "no-such-host");

    // Most of it: more than ten, more than a quarter.
    lab.fleet.write("hosts/web-01/host.toml", "[units]\n\"tick.service\" = \"on\"\n");
    lab.fleet.write("hosts/web-01/units/tick.service", TICK);
    lab.fleet.commit("most of it gone");
    refused(&host, "guard");
    lab.fleet.write("hosts/web-01/host.toml", "[units]\n\"tick.service\" = \"on\"\n[guard]\nmax_removals = 12\n");
    lab.fleet.commit("on purpose");
    host.trueup(&["run"]).converged();
    assert!(!host.has("/etc/web-01"));

    // The name of another host, which has a directory of its own.
    host.shell("hostname db-01; echo db-01 >/etc/hostname; echo 127.0.1.1 db-01 >>/etc/hosts");
    refused(&host, "host-changed");
    assert!(!host.has("/etc/db-01"));
    host.shell("hostname web-01; echo web-01 >/etc/hostname");
    host.trueup(&["run"]).idle();

    // Unless root says so.
    host.shell("hostname db-01; echo db-01 >/etc/hostname");
    let rebound = host.run(&["trueup", "rebind", "db-01"]);
    assert_eq!(rebound.status, 0, "{rebound:#?}");
    host.trueup(&["run"]).converged();
    assert_eq!(host.read("/etc/db-01/0"), "ours\n");
    assert_ne!(host.trueup(&["run"]).report.revision.applied.as_deref(), Some(full.as_str()));
}
