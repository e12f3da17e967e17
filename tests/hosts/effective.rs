//! What a unit runs is what stands on the host: a replaced program or library, an older unit file, an older configuration
//! are drift.

use super::{Host, Lab, Variant};

/// Runs a program of its own, in a mount namespace of its own, and says at each start and each reload that it did.
fn unit(name: &str) -> String {
    format!(
        "[Service]\nPrivateTmp=yes\nProtectSystem=full\nExecStartPre=/bin/sh -c 'echo start >>/run/{name}.told'\nExecStart=/opt/app/{name} infinity\n\
         ExecReload=/bin/sh -c 'echo reload >>/run/{name}.told; test ! -e /run/{name}.refuses'\n[Install]\nWantedBy=multi-user.target\n"
    )
}

/// What the unit said since the last time, in order.
fn told(host: &Host, unit: &str) -> String {
    host.shell(&format!("cat /run/{unit}.told 2>/dev/null || :; rm -f /run/{unit}.told"))
}

/// As a package does it: another file, under the same name.
fn replace(host: &Host, path: &str) {
    host.shell(&format!("cp -p {path} {path}.new; mv {path}.new {path}"));
}

/// A host whose four units each have a way of their own to deal with a change, converged.
fn four(lab: &mut Lab, variant: Variant) -> Host {
    const UNITS: [(&str, &str); 4] = [
        ("restarts", ""),
        ("reloads", "on_change = \"reload\"\n"),
        ("rests", "on_change = \"none\"\n"),
        ("reports", "drift = \"report\"\n"),
    ];
    let mut manifest = String::new();
    for (name, more) in UNITS {
        lab.fleet.write(&format!("hosts/web-01/units/{name}.service"), unit(name));
        lab.fleet.write(&format!("hosts/web-01/files/etc/{name}/app.conf"), "port = 80\n");
        manifest += &format!("[units.\"{name}.service\"]\nactive = true\nwatch = [\"/etc/{name}/*\"]\n{more}");
    }
    lab.fleet.write("hosts/web-01/host.toml", manifest);
    lab.fleet.commit("four");
    let host = lab.boot_on(variant, "web-01", "");
    host.shell(&format!(
        "mkdir /opt/app; for name in {}; do cp /bin/sleep /opt/app/$name; done",
        UNITS.map(|(name, _)| name).join(" ")
    ));
    host.trueup(&["run"]).converged();
    for (name, _) in UNITS {
        assert_eq!(told(&host, name), "start\n");
    }
    host.trueup(&["run"]).idle();
    host.trueup(&["drift"]).idle();
    host
}

#[test]
fn a_replaced_binary_restarts_its_unit_once_and_is_only_told_where_that_is_asked_for() {
    let Some(mut lab) = Lab::new(1) else { return };
    let host = four(&mut lab, Variant::Bookworm);
    // What is gone for good was not replaced; nor was what is put back as the very file that it was.
    host.shell(
        "rm /opt/app/restarts; ln /opt/app/rests /opt/app/kept; rm /opt/app/rests; mv /opt/app/kept /opt/app/rests",
    );
    host.trueup(&["run"]).idle();
    host.shell("cp /bin/sleep /opt/app/restarts");
    for name in ["reloads", "rests", "reports"] {
        replace(&host, &format!("/opt/app/{name}"));
    }

    let before = host.unit("restarts.service", "InvocationID");
    let drift = host.trueup(&["drift"]);
    assert_eq!((drift.status, drift.report.state.as_str()), (2, "drifted"), "{drift:#?}");
    assert_eq!(drift.report.steps.len(), 4, "{drift:#?}");
    let plan = host.run(&["trueup", "plan"]);
    assert!(
        plan.stdout.contains("~ unit:restarts.service")
            && plan.stdout.contains("runs a binary that was replaced (/opt/app/restarts) → restart"),
        "{plan:#?}"
    );
    assert!(plan.stdout.contains("reported only: runs a binary that was replaced (/opt/app/reloads)"), "{plan:#?}");
    assert_eq!(told(&host, "restarts"), "", "a look does nothing");

    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.state.as_str()), (2, "drifted"), "{run:#?}");
    assert_eq!(run.report.reason.as_deref(), Some("replaced-binary"), "{run:#?}");
    let step = run.step("unit:restarts.service");
    assert_eq!(
        (step.outcome.as_str(), step.cause.as_str(), step.reason.as_deref()),
        ("done", "corrective", Some("replaced-binary"))
    );
    assert_eq!(told(&host, "restarts"), "start\n", "once");
    assert_ne!(host.unit("restarts.service", "InvocationID"), before);
    for name in ["reloads", "rests", "reports"] {
        let step = run.step(&format!("unit:{name}.service"));
        assert_eq!((step.outcome.as_str(), step.reason.as_deref()), ("reported", Some("replaced-binary")), "{step:#?}");
        let advice = format!("systemctl restart {name}.service puts it right, when it suits");
        assert_eq!(step.message.as_deref(), Some(advice.as_str()));
        assert_eq!(told(&host, name), "");
    }
    let lines = host.ok(&["journalctl", "-q", "-o", "cat", "TRUEUP_EVENT=drift"]);
    assert!(
        lines.contains("restarts.service runs a binary that was replaced (/opt/app/restarts), restarted"),
        "{lines}"
    );
    assert!(
        lines.contains("rests.service runs a binary that was replaced (/opt/app/rests), reported only: systemctl"),
        "{lines}"
    );
    assert_eq!(lines.lines().count(), 4, "{lines}");

    let run = host.trueup(&["run"]);
    assert_eq!(run.ids(), ["unit:reloads.service", "unit:reports.service", "unit:rests.service"], "{run:#?}");
    let again = host.ok(&["journalctl", "-q", "-o", "cat", "TRUEUP_EVENT=drift"]);
    assert_eq!(again, lines, "nothing is told twice");
    host.shell("systemctl restart reloads reports rests");
    host.trueup(&["run"]).idle();
    assert_eq!(told(&host, "restarts"), "");
}

#[test]
fn a_replaced_library_is_told_of_all_that_run_it_and_restarts_nobody() {
    let Some(mut lab) = Lab::new(1) else { return };
    let host = four(&mut lab, Variant::Bookworm);
    let libc = host.shell("readlink -f /lib/*-linux-gnu/libc.so.6").trim().to_owned();
    replace(&host, &libc);
    for _ in 0..2 {
        let run = host.trueup(&["run"]);
        assert_eq!((run.status, run.report.reason.as_deref()), (2, Some("replaced-library")), "{run:#?}");
        assert_eq!(run.report.steps.len(), 4, "{run:#?}");
        for step in &run.report.steps {
            assert_eq!(step.changes, [format!("runs a library that was replaced ({libc})")], "{step:#?}");
            assert_eq!((step.outcome.as_str(), step.reason.as_deref()), ("reported", Some("replaced-library")));
        }
    }
    for name in ["restarts", "reloads", "rests", "reports"] {
        assert_eq!(told(&host, name), "");
    }
    // Whoever restarts for something else has restarted for this too, and nothing is left to tell of it.
    replace(&host, "/opt/app/restarts");
    let run = host.trueup(&["run"]);
    assert_eq!(
        run.step("unit:restarts.service").changes,
        ["runs a binary that was replaced (/opt/app/restarts) → restart"]
    );
    assert_eq!(run.report.steps.len(), 4, "{run:#?}");
    host.shell("systemctl restart reloads rests reports");
    host.trueup(&["run"]).idle();
    assert_eq!(told(&host, "restarts"), "start\n");
}

#[test]
fn an_older_unit_file_is_caught_up_with_once_systemd_has_read_it() {
    let Some(mut lab) = Lab::new(1) else { return };
    let host = four(&mut lab, Variant::Trixie);
    for name in ["restarts", "reloads", "rests", "reports"] {
        host.shell(&format!("mkdir -p /etc/systemd/system/{name}.service.d"));
        host.write(&format!("/etc/systemd/system/{name}.service.d/by-hand.conf"), "[Service]\nNice=5\n");
    }
    host.trueup(&["run"]).idle();
    host.ok(&["systemctl", "daemon-reload"]);
    let run = host.trueup(&["run"]);
    assert_eq!(run.ids(), ["unit:reloads.service", "unit:restarts.service", "unit:reports.service"], "{run:#?}");
    for (name, outcome) in [("restarts", "done"), ("reloads", "done"), ("reports", "reported")] {
        let step = run.step(&format!("unit:{name}.service"));
        assert_eq!((step.outcome.as_str(), step.reason.as_deref()), (outcome, Some("older-unit-file")), "{step:#?}");
        let file =
            format!("runs by an older unit file than there is (/etc/systemd/system/{name}.service.d/by-hand.conf)");
        assert!(step.changes[0].starts_with(&file), "{step:#?}");
    }
    assert_eq!(told(&host, "restarts"), "start\n");
    assert_eq!(host.shell("ps -o ni= -p $(systemctl show --value -p MainPID restarts)").trim(), "5");
    assert_eq!(told(&host, "reloads"), "reload\n", "what its declaration says of a change of its unit file");
    assert_eq!((told(&host, "rests"), told(&host, "reports")), (String::new(), String::new()));

    // What is in force as soon as it is said is not older, nor is what another drop-in of the same name hides.
    host.shell("systemctl restart reports; systemctl set-property restarts.service CPUWeight=50");
    host.shell("mkdir -p /usr/lib/systemd/system/restarts.service.d; printf '[Service]\\nNice=7\\n' >/usr/lib/systemd/system/restarts.service.d/by-hand.conf; systemctl daemon-reload");
    host.trueup(&["run"]).idle();
    assert_eq!(told(&host, "restarts"), "");
}

#[test]
fn an_older_configuration_is_caught_up_with_once() {
    let Some(mut lab) = Lab::new(1) else { return };
    let host = four(&mut lab, Variant::Bookworm);
    // Edited, and edited back: what the process has read nobody knows, but when.
    host.shell("touch /etc/restarts/app.conf /etc/reloads/app.conf /etc/rests/app.conf /etc/reports/app.conf");
    let run = host.trueup(&["run"]);
    assert_eq!(run.ids(), ["unit:reloads.service", "unit:restarts.service", "unit:reports.service"], "{run:#?}");
    for (name, outcome) in [("restarts", "done"), ("reloads", "done"), ("reports", "reported")] {
        let step = run.step(&format!("unit:{name}.service"));
        assert_eq!(
            (step.outcome.as_str(), step.reason.as_deref()),
            (outcome, Some("older-configuration")),
            "{step:#?}"
        );
    }
    assert_eq!((told(&host, "restarts").as_str(), told(&host, "reloads").as_str()), ("start\n", "reload\n"));
    assert_eq!((told(&host, "rests"), told(&host, "reports")), (String::new(), String::new()));
    host.shell("systemctl restart reports; rm /run/reports.told");
    host.trueup(&["run"]).idle();

    // Of a time that is still to come: some clock was wrong, and nothing is concluded.
    host.shell("touch -d '+1 day' /etc/restarts/app.conf");
    host.trueup(&["run"]).idle();
    // An edit is put back first, and what restarts for that restarts once.
    host.shell("echo >>/etc/restarts/app.conf; echo >>/etc/reloads/app.conf");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(run.ids(), ["file:/etc/reloads/app.conf", "file:/etc/restarts/app.conf"], "{run:#?}");
    assert_eq!((told(&host, "restarts").as_str(), told(&host, "reloads").as_str()), ("start\n", "reload\n"));
    // Neither what a commit writes, nor what was written before by a pass that never came to restart for it, is found twice.
    lab.fleet.write("hosts/web-01/files/etc/restarts/app.conf", "port = 81\n");
    lab.fleet.write("hosts/web-01/files/etc/reloads/app.conf", "port = 81\n");
    lab.fleet.commit("another port");
    host.trueup(&["run"]).converged();
    assert_eq!((told(&host, "restarts").as_str(), told(&host, "reloads").as_str()), ("start\n", "reload\n"));
    for _ in 0..2 {
        host.trueup(&["run"]).idle();
    }
    assert_eq!((told(&host, "restarts"), told(&host, "reloads")), (String::new(), String::new()));
}

#[test]
fn a_reload_that_fails_to_catch_up_falls_back_as_declared_or_stays_owed() {
    let Some(mut lab) = Lab::new(1) else { return };
    let units = ["reports", "falls"];
    let mut manifest = String::new();
    for name in units {
        lab.fleet.write(&format!("hosts/web-01/units/{name}.service"), unit(name));
        lab.fleet.write(&format!("hosts/web-01/files/etc/{name}/app.conf"), "port = 80\n");
        let falls_back = if name == "falls" { "reload_failed = \"restart\"\n" } else { "" };
        manifest += &format!(
            "[units.\"{name}.service\"]\nactive = true\non_change = \"reload\"\nwatch = [\"/etc/{name}/*\"]\n{falls_back}"
        );
    }
    lab.fleet.write("hosts/web-01/host.toml", manifest);
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.shell("mkdir /opt/app; for name in reports falls; do cp /bin/sleep /opt/app/$name; done");
    host.trueup(&["run"]).converged();
    assert_eq!(units.map(|unit| told(&host, unit)), ["start\n", "start\n"]);

    host.shell("touch /etc/reports/app.conf /etc/falls/app.conf /run/reports.refuses /run/falls.refuses");
    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
    assert_eq!(run.step("unit:reports.service").outcome, "failed", "{run:#?}");
    assert_eq!(run.step("unit:falls.service").outcome, "done", "{run:#?}");
    let line = run.refresh("unit:falls.service");
    assert_eq!((line.how.as_str(), line.outcome.as_str()), ("restart", "done"), "{run:#?}");
    assert_eq!(units.map(|unit| told(&host, unit)), ["reload\n", "reload\nstart\n"]);

    // systemd counts the reload that failed as one; what it was for has not been read all the same.
    let run = host.trueup(&["run"]);
    assert_eq!(run.report.state, "degraded", "{run:#?}");
    assert_eq!(run.refresh("unit:reports.service").outcome, "failed", "{run:#?}");
    assert_eq!(told(&host, "reports"), "", "it waits as all that failed");
    host.shell("rm /run/reports.refuses");
    let run = host.trueup(&["run", "--retry"]);
    run.converged();
    assert_eq!(run.refresh("unit:reports.service").outcome, "done", "{run:#?}");
    assert_eq!(units.map(|unit| told(&host, unit)), ["reload\n", ""]);
    host.trueup(&["run"]).idle();
    assert_eq!(units.map(|unit| told(&host, unit)), ["", ""]);
}

#[test]
fn a_service_that_writes_what_it_watches_is_restarted_for_that_once() {
    let Some(mut lab) = Lab::new(1) else { return };
    let writes = "[Service]\nExecStart=/bin/sleep infinity\nExecStartPost=/bin/sh -c 'echo start >>/run/writes.told; sleep 0.3; touch /etc/app.conf'\n";
    lab.fleet.write("hosts/web-01/units/writes.service", writes);
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    lab.fleet
        .write("hosts/web-01/host.toml", "[units.\"writes.service\"]\nactive = true\nwatch = [\"/etc/app.conf\"]\n");
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    host.trueup(&["run"]);
    assert_eq!(told(&host, "writes"), "start\nstart\n", "it may have been anybody");
    for _ in 0..2 {
        let run = host.trueup(&["run"]);
        let step = run.step("unit:writes.service");
        assert_eq!(
            (step.outcome.as_str(), step.reason.as_deref()),
            ("reported", Some("older-configuration")),
            "{run:#?}"
        );
    }
    assert_eq!(told(&host, "writes"), "");
    // Whoever starts it anew has it looked at anew.
    host.shell("systemctl restart writes");
    host.trueup(&["run"]);
    assert_eq!(told(&host, "writes"), "start\nstart\n");
}

/// A package of a service whose program is another file in each version, and whose scripts restart nothing.
fn daemon(host: &Host, version: &str) {
    host.shell(&format!(
        "rm -rf /root/d; mkdir -p /root/d/DEBIAN /root/d/usr/lib/daemon /root/d/usr/lib/systemd/system; cd /root/d
         cp /bin/sleep usr/lib/daemon/run
         printf '[Service]\\nExecStart=/usr/lib/daemon/run infinity\\n' >usr/lib/systemd/system/daemon.service
         touch -d 2001-01-01 usr/lib/systemd/system/daemon.service
         printf 'Package: daemon\\nVersion: {version}\\nArchitecture: all\\nMaintainer: a <a@example.org>\\nDescription: runs\\n' >DEBIAN/control
         dpkg-deb -b . /root/daemon.deb >/dev/null
         DEBIAN_FRONTEND=noninteractive apt-get -y -qq install /root/daemon.deb >/dev/null; systemctl daemon-reload"
    ));
}

#[test]
fn a_package_that_is_upgraded_by_hand_and_restarts_nothing_is_noticed_at_once() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt();
    lab.fleet.write("hosts/web-01/host.toml", "[units]\n\"cron.service\" = \"on\"\n");
    lab.fleet.commit("nothing of it");
    // Nothing but the package database says that there is something to look at.
    let host = lab.boot_installed("web-01", "interval = \"1h\"\n");
    daemon(&host, "1.0");
    host.ok(&["systemctl", "start", "daemon"]);
    lab.fleet.write("hosts/web-01/host.toml", "[units]\n\"daemon.service\" = { active = true }\n");
    let commit = lab.fleet.commit("the daemon");
    host.ok(&["trueup", "sync"]);
    host.await_applied(&commit);
    let invocation = host.unit("daemon.service", "InvocationID");

    let matches = ["TRUEUP_EVENT=drift", "TRUEUP_RESOURCE=unit:daemon.service"];
    let entry = host.await_journal(&matches, || daemon(&host, "2.0"));
    assert_eq!(entry["TRUEUP_REASON"], "replaced-binary", "{entry:#}");
    assert_eq!(entry["TRUEUP_CAUSE"], "corrective", "{entry:#}");
    assert_eq!(
        entry["MESSAGE"], "drift: daemon.service runs a binary that was replaced (/usr/lib/daemon/run), restarted",
        "{entry:#}"
    );
    let after = host.unit("daemon.service", "InvocationID");
    assert_ne!(after, invocation);
    host.await_status("in sync again", |status| status["state"] == "in-sync" && status["running"].is_null());
    host.ok(&["trueup", "sync"]);
    assert_eq!(host.unit("daemon.service", "InvocationID"), after);
    assert_eq!(host.journal(&matches).len(), 1, "it is told once");
}
