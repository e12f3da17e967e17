//! Units restart, reload and run once, when something they use changed, and only then.

use super::{Host, Lab};

/// Says at each start and each reload that it did, and with which configuration.
const TOLD: &str = "[Unit]\nDescription=Tells\n[Service]\nExecStartPre=/bin/sh -c 'echo start >>/run/%p.told; cat /etc/%p/* >/run/%p.config'\n\
                    ExecStart=/bin/sleep infinity\nExecReload=/bin/sh -c 'echo reload >>/run/%p.told'\n[Install]\nWantedBy=multi-user.target\n";

/// What the unit said since the last time, in order.
fn told(host: &Host, unit: &str) -> String {
    host.shell(&format!("cat /run/{unit}.told 2>/dev/null || :; rm -f /run/{unit}.told"))
}

fn files(lab: &Lab, unit: &str, content: &str) {
    for n in 0..6 {
        lab.fleet.write(&format!("hosts/web-01/files/etc/{unit}/{n}"), format!("{content}\n"));
    }
}

#[test]
fn each_does_what_it_has_to_once_and_nothing_starts_that_is_not_declared_active() {
    let Some(mut lab) = Lab::new(1) else { return };
    for unit in ["restarts", "reloads", "rests"] {
        lab.fleet.write(&format!("hosts/web-01/units/{unit}.service"), TOLD);
        files(&lab, unit, "first");
    }
    lab.fleet.write(
        "hosts/web-01/units/once.service",
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo ran >>/run/once.told'\n",
    );
    files(&lab, "once", "first");
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[units.\"restarts.service\"]\nenabled = true\nactive = true\nwatch = [\"/etc/restarts/*\"]\n\
         [units.\"reloads.service\"]\nactive = true\non_change = \"reload\"\nwatch = [\"/etc/reloads/*\"]\n\
         [units.\"rests.service\"]\nwatch = [\"/etc/rests/*\"]\n\
         [units.\"once.service\"]\non_change = \"start\"\nwatch = [\"/etc/once/*\"]\n\
         [units]\n\"systemd-timesyncd.service\" = \"masked\"\n",
    );
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    assert_eq!(told(&host, "restarts"), "start\n");
    assert_eq!(told(&host, "reloads"), "start\n");
    assert_eq!(told(&host, "rests"), "");
    assert_eq!(told(&host, "once"), "ran\n");
    assert_eq!(host.unit_state("rests.service"), "inactive disabled");
    host.trueup(&["run"]).idle();

    for unit in ["restarts", "reloads", "rests", "once"] {
        files(&lab, unit, "second");
    }
    lab.fleet.write("hosts/web-01/units/restarts.service.d/more.conf", "[Service]\nNice=5\n");
    lab.fleet.commit("second");
    let before = host.unit("restarts.service", "InvocationID");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(run.refresh("unit:restarts.service").because.len(), 7, "{run:#?}");
    assert_ne!(before, host.unit("restarts.service", "InvocationID"));
    assert_eq!(told(&host, "restarts"), "start\n", "seven files, one restart");
    assert_eq!(host.unit("restarts.service", "Nice"), "5", "after a daemon-reload");
    assert_eq!(host.shell("cat /run/restarts.config"), "second\n".repeat(6));
    assert_eq!(told(&host, "reloads"), "reload\n");
    assert_eq!(told(&host, "rests"), "", "a change starts nothing");
    assert_eq!(told(&host, "once"), "ran\n");
    host.trueup(&["run"]).idle();
    assert_eq!(told(&host, "once"), "");

    // One that cannot start is told with where to look; the others are done.
    lab.fleet.write("hosts/web-01/units/broken.service", "[Service]\nExecStart=/bin/false\n");
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[units.\"restarts.service\"]\nenabled = true\nactive = true\nwatch = [\"/etc/restarts/*\"]\n[units.\"broken.service\"]\nactive = true\n",
    );
    files(&lab, "restarts", "third");
    lab.fleet.commit("third");
    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
    let broken = run.step("unit:broken.service");
    assert_eq!(broken.reason.as_deref(), Some("unit-failed"), "{run:#?}");
    assert!(broken.message.as_deref().is_some_and(|said| said.contains("journalctl -u broken.service")), "{run:#?}");
    assert_eq!(told(&host, "restarts"), "start\n");
}

#[test]
fn a_unit_waits_for_systemd_to_have_read_its_new_file() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/units/app.service", TOLD);
    lab.fleet.write("hosts/web-01/units/other.service", TOLD);
    // It never runs, and systemd says what is wrong with it each time that it reads it.
    lab.fleet.write("hosts/web-01/units/idle.service", "[Service]\nExecStart=/bin/true\nNoSuchKey=3\n");
    for unit in ["app", "other"] {
        files(&lab, unit, "first");
    }
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[units]\n\"app.service\" = \"on\"\n[units.\"other.service\"]\nactive = true\nwatch = [\"/etc/other/*\"]\n",
    );
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    assert_eq!((told(&host, "app").as_str(), told(&host, "other").as_str()), ("start\n", "start\n"));
    let complaints = || host.journal(&["CONFIG_FILE=/etc/systemd/system/idle.service"]).len();
    let before = complaints();
    host.trueup(&["run"]).idle();
    let read = complaints() - before;
    assert!((1..=2).contains(&read), "to tell how it is, and what more there is to tell: {read}");

    let policy = "/etc/dbus-1/system.d/zz.conf";
    let reconfigure = "busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig";
    host.write(
        policy,
        "<busconfig><policy context=\"mandatory\"><deny send_destination=\"org.freedesktop.systemd1\" \
         send_interface=\"org.freedesktop.systemd1.Manager\" send_member=\"Reload\"/></policy></busconfig>\n",
    );
    host.shell(reconfigure);
    lab.fleet.write("hosts/web-01/units/app.service.d/nice.conf", "[Service]\nNice=5\n");
    files(&lab, "other", "second");
    lab.fleet.commit("second");
    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
    assert_eq!(told(&host, "app"), "", "it would run by its old definition");
    assert_eq!(run.refresh("unit:app.service").outcome, "failed", "{run:#?}");
    assert_eq!(told(&host, "other"), "start\n", "whose own files are as systemd knows them");
    host.trueup(&["run"]);
    assert_eq!(told(&host, "app"), "");

    host.shell(&format!("rm {policy}; {reconfigure}"));
    host.trueup(&["run", "--retry"]).converged();
    assert_eq!(told(&host, "app"), "start\n", "it was owed");
    assert_eq!(host.unit("app.service", "Nice"), "5");
    host.trueup(&["run"]).idle();

    // Of two that systemd has yet to start anew the one that ended well is as it is meant to be, and the other is not active.
    lab.fleet.write("hosts/web-01/units/app.service.d/anew.conf", "[Service]\nRestart=always\nRestartSec=1h\n");
    lab.fleet.commit("anew");
    host.trueup(&["run"]).converged();
    let ends = |signal: &str| {
        host.shell(&format!("systemctl kill -s {signal} app"));
        host.await_that("systemctl show -p SubState app | grep -qx SubState=auto-restart");
        told(&host, "app");
    };
    ends("TERM");
    host.trueup(&["run"]).idle();
    host.shell("systemctl restart app");
    ends("KILL");
    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
    let step = run.step("unit:app.service");
    assert_eq!(
        (step.reason.as_deref(), step.changes.as_slice()),
        (Some("unit-failed"), ["waits to be started anew → active".to_owned()].as_slice())
    );
    assert!(step.message.as_deref().is_some_and(|said| said.contains("failed (signal)")), "{run:#?}");
    assert_eq!(host.unit("app.service", "SubState"), "auto-restart", "systemd starts it when that is due");
    lab.fleet.write("hosts/web-01/units/app.service.d/nice.conf", "[Service]\nNice=6\n");
    lab.fleet.commit("mended");
    host.trueup(&["run", "--retry"]).converged();
    assert_eq!((told(&host, "app").as_str(), host.unit("app.service", "Nice").as_str()), ("start\n", "6"));
    host.trueup(&["run"]).idle();
}

#[test]
fn an_administrators_linked_unit_file_is_not_touched_when_its_unit_is_disabled() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[units.\"theirs.service\"]\nenabled = false\n[units.\"plain.service\"]\nenabled = false\n",
    );
    lab.fleet.commit("off");
    let host = lab.boot("web-01");
    let unit = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\nAlias=also.service\n";
    host.write("/srv/theirs.service", unit);
    host.write("/etc/systemd/system/plain.service", unit.replace("also", "too"));
    let link = "/etc/systemd/system/theirs.service";
    host.shell("systemctl -q enable --now /srv/theirs.service plain.service");
    host.shell(&format!("touch -h -d 2001-01-01 {link}"));
    host.trueup(&["run"]).converged();
    assert_eq!(host.unit_state("theirs.service"), "active linked");
    assert_eq!(host.unit_state("plain.service"), "active disabled");
    assert!(host.shell(&format!("stat -c '%N %y' {link}")).contains("2001-01-01"), "it was there all the time");
    let left =
        host.shell("cd /etc/systemd/system; ls also.service too.service */theirs.service */plain.service 2>&1 || :");
    assert_eq!(left.lines().filter(|line| line.contains("No such file")).count(), 4, "{left}");
    host.trueup(&["run"]).idle();
}

#[test]
fn a_service_that_fails_over_and_over_is_told_while_it_is_up_too() {
    let Some(mut lab) = Lab::new(1) else { return };
    let steady = "[Service]\nExecStart=/bin/sleep infinity\n";
    let again = |status: u8| {
        format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=1\nExecStart=/bin/sh -c 'sleep 4; exit {status}'\n"
        )
    };
    lab.fleet.write("hosts/web-01/units/polls.service", again(0));
    lab.fleet.write("hosts/web-01/units/flaps.service", steady);
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[units.\"polls.service\"]\nactive = true\n[units.\"flaps.service\"]\nactive = true\n",
    );
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    let up = |unit: &str| {
        let shown = format!("systemctl show -p NRestarts -p SubState {unit}");
        host.await_that(&format!("{shown} | grep -qx SubState=running && ! {shown} | grep -qx NRestarts=0"));
    };
    up("polls.service");
    host.trueup(&["run"]).idle();

    // By hand, so that nobody watches how it settles.
    host.write("/etc/systemd/system/flaps.service", again(1));
    host.shell("systemctl daemon-reload; systemctl restart flaps.service");
    lab.fleet.write("hosts/web-01/units/flaps.service", again(1));
    lab.fleet.commit("flaps");
    up("flaps.service");
    for _ in 0..2 {
        let run = host.trueup(&["run"]);
        assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
        assert_eq!(run.step("unit:flaps.service").changes, ["failed and was started anew → active"], "{run:#?}");
        let said = run.step("unit:flaps.service").message.clone().unwrap_or_default();
        assert!(said.contains("it failed (exit-code), and systemd has just started it anew"), "{run:#?}");
        up("flaps.service");
    }

    lab.fleet.write("hosts/web-01/units/flaps.service", steady);
    lab.fleet.commit("mended");
    host.trueup(&["run", "--retry"]).converged();
    host.trueup(&["run"]).idle();
}
