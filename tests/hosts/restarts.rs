//! However many files of a unit change, it restarts once, after one daemon-reload.

use super::apt::Package;
use super::{Host, Lab};

const SERVICES: usize = 20;
const FILES: usize = 20;

fn name(n: usize) -> String {
    format!("s{n:02}")
}

/// Twenty files for each service.
fn files(lab: &Lab, content: &str) {
    for service in (0..SERVICES).map(name) {
        for file in 0..FILES {
            lab.fleet.write(&format!("hosts/web-01/files/etc/{service}/{file}"), format!("{content} {file}\n"));
        }
    }
}

/// How often PID 1 has said so of `unit` since boot.
fn started(host: &Host, unit: &str) -> usize {
    host.shell(&format!("journalctl --sync; journalctl -q -o cat _PID=1 UNIT={unit} | grep -c '^Started' || :"))
        .trim()
        .parse()
        .expect("a number")
}

fn daemon_reloads(host: &Host) -> usize {
    let count = "journalctl --sync; journalctl -q -o cat _PID=1 | grep -cE '^Reloading\\.+$' || :";
    host.shell(count).trim().parse().expect("a number")
}

#[test]
fn twenty_services_with_twenty_files_each_restart_once_after_one_daemon_reload() {
    let Some(mut lab) = Lab::new(1) else { return };
    let mut manifest = String::new();
    for service in (0..SERVICES).map(name) {
        lab.fleet.write(
            &format!("hosts/web-01/units/{service}.service"),
            "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
        );
        manifest +=
            &format!("[units.\"{service}.service\"]\nenabled = true\nactive = true\nwatch = [\"/etc/{service}/*\"]\n");
    }
    lab.fleet.write("hosts/web-01/host.toml", manifest);
    files(&lab, "first");
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    let units: Vec<String> = (0..SERVICES).map(|n| format!("{}.service", name(n))).collect();
    let runs = || units.iter().map(|unit| host.unit(unit, "InvocationID")).collect::<Vec<_>>();
    let starts = || units.iter().map(|unit| started(&host, unit)).collect::<Vec<_>>();
    assert_eq!(starts(), vec![1; SERVICES]);

    // All files and nothing else: nobody reads unit files anew for that.
    let (before, reloads) = (runs(), daemon_reloads(&host));
    files(&lab, "second");
    lab.fleet.commit("second");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(run.report.refreshes.len(), SERVICES, "{run:#?}");
    assert!(run.report.refreshes.iter().all(|line| line.because.len() == FILES), "{run:#?}");
    assert_eq!(starts(), vec![2; SERVICES], "each once");
    let after = runs();
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "each is another run");
    assert_eq!(daemon_reloads(&host), reloads);

    // One unit file with them: one daemon-reload, and still one restart each.
    files(&lab, "third");
    lab.fleet.write("hosts/web-01/units/s07.service.d/nice.conf", "[Service]\nNice=5\n");
    lab.fleet.commit("third");
    host.trueup(&["run"]).converged();
    assert_eq!(starts(), vec![3; SERVICES], "each once");
    assert_eq!(daemon_reloads(&host), reloads + 1);
    assert_eq!(host.unit("s07.service", "Nice"), "5", "strictly before it");
    assert_eq!(units.iter().map(|unit| host.unit(unit, "NRestarts")).collect::<Vec<_>>(), vec!["0"; SERVICES]);
    let last = runs();
    host.trueup(&["run"]).idle();
    assert_eq!(runs(), last, "and none without a change");
}

#[test]
fn a_stopped_unit_with_a_changed_drop_in_stays_stopped() {
    let Some(mut lab) = Lab::new(1) else { return };
    let unit = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";
    for name in ["enabled", "undeclared"] {
        lab.fleet.write(&format!("hosts/web-01/units/{name}.service"), unit);
        lab.fleet.write(&format!("hosts/web-01/units/{name}.service.d/nice.conf"), "[Service]\nNice=1\n");
    }
    lab.fleet.write("hosts/web-01/host.toml", "[units.\"enabled.service\"]\nenabled = true\n");
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    host.shell("systemctl start enabled.service undeclared.service; systemctl stop enabled.service undeclared.service");
    for name in ["enabled", "undeclared"] {
        lab.fleet.write(&format!("hosts/web-01/units/{name}.service.d/nice.conf"), "[Service]\nNice=2\n");
    }
    lab.fleet.commit("second");
    let run = host.trueup(&["run"]);
    run.converged();
    assert!(run.report.refreshes.is_empty(), "{run:#?}");
    for (name, state) in [("enabled", "inactive enabled"), ("undeclared", "inactive disabled")] {
        let unit = format!("{name}.service");
        assert_eq!(host.unit_state(&unit), state);
        assert_eq!(started(&host, &unit), 1, "by hand, and by nobody else");
        assert_eq!(host.unit(&unit, "Nice"), "2", "whoever starts it starts the new one");
    }
}

/// Says what it did; reloads as long as it may.
const FAILS_TO_RELOAD: &str = "[Service]\nExecStartPre=/bin/sh -c 'echo start >>/run/%N.told'\nExecStart=/bin/sleep infinity\n\
                               ExecReload=/bin/sh -c 'echo reload >>/run/%N.told; test ! -e /run/%N.refuses'\n";

#[test]
fn a_reload_that_fails_or_cannot_be_done_falls_back_as_declared() {
    let Some(mut lab) = Lab::new(1) else { return };
    for unit in ["falls", "reports"] {
        lab.fleet.write(&format!("hosts/web-01/units/{unit}.service"), FAILS_TO_RELOAD);
    }
    for unit in ["cannot", "cannot-falls"] {
        let without = FAILS_TO_RELOAD.split("ExecReload").next().expect("the lines before");
        lab.fleet.write(&format!("hosts/web-01/units/{unit}.service"), without);
    }
    let units = ["falls", "reports", "cannot", "cannot-falls"];
    let manifest = units.map(|unit| {
        let falls_back = if unit.ends_with("falls") { "reload_failed = \"restart\"\n" } else { "" };
        format!(
            "[units.\"{unit}.service\"]\nactive = true\n{falls_back}watch = {{ reload = [\"/etc/{unit}.conf\"] }}\n"
        )
    });
    lab.fleet.write("hosts/web-01/host.toml", manifest.concat());
    let files = |lab: &mut Lab, content: &str| {
        for unit in units {
            lab.fleet.write(&format!("hosts/web-01/files/etc/{unit}.conf"), content);
        }
        lab.fleet.commit(content);
    };
    files(&mut lab, "first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    let told = |unit: &str| host.shell(&format!("cat /run/{unit}.told; rm /run/{unit}.told")).replace('\n', " ");
    assert_eq!(units.map(told), ["start "; 4]);

    host.shell("touch /run/falls.refuses /run/reports.refuses; touch /run/cannot.told");
    files(&mut lab, "second");
    let plan = host.trueup(&["plan"]);
    let notes = [
        "unit:cannot.service cannot be reloaded (no ExecReload=): declare a restart instead",
        "unit:cannot-falls.service cannot be reloaded (no ExecReload=): it will be restarted",
    ];
    let noted = |plan: &super::report::Told| notes.map(|note| plan.report.notes.iter().any(|told| told == note));
    assert_eq!(noted(&plan), [true; 2], "{plan:#?}");
    let invocation = host.unit("falls.service", "InvocationID");
    let run = host.trueup(&["run"]);
    assert_eq!(run.report.state, "degraded", "{run:#?}");
    let outcome = |run: &super::report::Told, unit: &str| {
        let line = run.refresh(&format!("unit:{unit}.service"));
        format!("{} {}", line.how, line.outcome)
    };
    assert_eq!(
        units.map(|unit| outcome(&run, unit)),
        ["restart done", "reload failed", "reload failed", "restart done"],
        "{run:#?}"
    );
    assert_eq!(units.map(told), ["reload start ", "reload ", "", "start "], "each at most once");
    assert_ne!(host.unit("falls.service", "InvocationID"), invocation);
    let journal = host.shell("journalctl --sync; journalctl -q -o cat TRUEUP_RESOURCE=unit:falls.service");
    assert!(
        journal.contains("falls.service restarted in place of a reload: falls.conf changed; its reload failed:"),
        "{journal}"
    );

    // What only reports is tried again by the rules that hold for all that failed.
    host.shell("rm /run/*.refuses; touch /run/cannot.told /run/falls.told /run/cannot-falls.told");
    let run = host.trueup(&["run", "--retry"]);
    assert_eq!(outcome(&run, "reports"), "reload done", "{run:#?}");
    assert_eq!(units.map(told), ["", "reload ", "", ""]);

    // The remedy that the plan names is one: what is owed is done as the declaration has it now.
    host.shell("touch /run/reports.told /run/falls.told /run/cannot-falls.told");
    lab.fleet.write("hosts/web-01/host.toml", manifest.concat().replace("watch = { reload", "watch = { restart"));
    lab.fleet.commit("third");
    host.trueup(&["run"]).converged();
    assert_eq!(units.map(told), ["", "start ", "start ", ""], "the one that was reloaded reads it by a restart now");
}

#[test]
fn a_unit_that_restarts_along_with_another_does_not_restart_again() {
    let Some(mut lab) = Lab::new(1) else { return };
    // Named so that neither the order of names nor that of declarations puts them right.
    let units = ["a-part", "b-whole", "c-reads"];
    let mut manifest = String::new();
    for unit in units {
        let text = match unit {
            "b-whole" => FAILS_TO_RELOAD.replace("/bin/sleep", "/opt/sleep"),
            _ => format!("[Unit]\nPartOf=b-whole.service\nAfter=b-whole.service\n{FAILS_TO_RELOAD}"),
        };
        lab.fleet.write(&format!("hosts/web-01/units/{unit}.service"), text);
        let how = if unit == "c-reads" { "reload" } else { "restart" };
        manifest +=
            &format!("[units.\"{unit}.service\"]\nactive = true\nwatch = {{ {how} = [\"/etc/{unit}.conf\"] }}\n");
    }
    lab.fleet.write("hosts/web-01/host.toml", manifest);
    let files = |lab: &mut Lab, units: &[&str], content: &str| {
        for unit in units {
            lab.fleet.write(&format!("hosts/web-01/files/etc/{unit}.conf"), content);
        }
        lab.fleet.commit(content);
    };
    files(&mut lab, &units, "first");
    let host = lab.boot("web-01");
    host.shell("cp /bin/sleep /opt/sleep");
    host.trueup(&["run"]).converged();
    let told = |unit: &str| host.shell(&format!("cat /run/{unit}.told; : >/run/{unit}.told")).replace('\n', " ");
    assert_eq!(units.map(told), ["start "; 3]);

    files(&mut lab, &units, "second");
    host.trueup(&["run"]).converged();
    assert_eq!(units.map(told), ["start "; 3], "all three, and what restarts has read all there is to read");

    // The whole catches up with its program; the parts owe what a file asks of them.
    host.shell("cp /opt/sleep /opt/sleep.new; mv /opt/sleep.new /opt/sleep");
    files(&mut lab, &["a-part", "c-reads"], "third");
    host.trueup(&["run"]).converged();
    assert_eq!(units.map(told), ["start "; 3]);
    host.trueup(&["run"]).idle();
    assert_eq!(units.map(told), [""; 3]);
}

#[test]
fn what_a_unit_reads_as_it_starts_restarts_it_once() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write(
        "hosts/web-01/units/app@.service",
        "[Service]\nEnvironmentFile=-/etc/default/%i\nEnvironmentFile=/etc/app.d/*.env\nLoadCredential=token:/etc/app.token\n\
         ExecStart=/bin/sleep infinity\n",
    );
    lab.fleet.write("hosts/web-01/host.toml", "[units.\"app@one.service\"]\nactive = true\n");
    let write = |lab: &Lab, path: &str, content: &str| {
        lab.fleet.write(&format!("hosts/web-01/files/etc/{path}"), format!("WORD={content}\n"));
    };
    for path in ["default/one", "default/two", "app.d/a.env", "app.d/a.conf", "app.token", "later.env"] {
        write(&lab, path, "first");
    }
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    let unit = "app@one.service";
    let restarts_for = |lab: &mut Lab, paths: &[&str], content: &str| {
        for path in paths {
            write(lab, path, content);
        }
        lab.fleet.commit(content);
        let before = started(&host, unit);
        let run = host.trueup(&["run"]);
        run.converged();
        let because = run.report.refreshes.iter().flat_map(|line| line.because.clone()).collect::<Vec<_>>();
        (started(&host, unit) - before, because)
    };
    let ids = |paths: &[&str]| paths.iter().map(|path| format!("file:/etc/{path}")).collect::<Vec<_>>();
    let all = ["app.d/a.env", "app.token", "default/one"];
    assert_eq!(restarts_for(&mut lab, &all, "second"), (1, ids(&all)), "three files, one restart");
    for path in all {
        assert_eq!(restarts_for(&mut lab, &[path], &format!("by {path}")), (1, ids(&[path])));
    }
    assert_eq!(restarts_for(&mut lab, &["default/two", "app.d/a.conf", "later.env"], "third"), (0, vec![]), "others'");

    // The pass that brings the line, and the file with it; then the file alone.
    let drop_in = "systemd/system/app@.service.d/later.conf";
    lab.fleet.write("hosts/web-01/units/app@.service.d/later.conf", "[Service]\nEnvironmentFile=/etc/later.env\n");
    let (restarts, because) = restarts_for(&mut lab, &["later.env"], "fourth");
    assert_eq!((restarts, because.contains(&ids(&[drop_in])[0])), (1, true), "{because:?}");
    assert_eq!(restarts_for(&mut lab, &["later.env"], "fifth"), (1, ids(&["later.env"])));
    host.trueup(&["run"]).idle();
}

/// A package with the service of its name, whose scripts restart it at an upgrade or leave that to others.
fn package(name: &str, version: &str, restarts: bool) -> Package {
    let unit = format!("{name}.service");
    let restart = if restarts { format!("[ -z \"$2\" ] || systemctl restart {unit}\n") } else { String::new() };
    Package::new(name, version)
        .file(&format!("/lib/systemd/system/{unit}"), "[Service]\nExecStart=/bin/sleep infinity\n", 0o644)
        .script("postinst", &format!("#!/bin/sh\nset -e\nsystemctl daemon-reload\n{restart}"))
}

#[test]
fn the_upgrade_of_its_package_restarts_a_unit_that_the_package_leaves_running() {
    let Some(mut lab) = Lab::new(1) else { return };
    let all = ["leaves", "restarts", "stopped", "none"];
    let publish = |lab: &Lab, version: &str| {
        lab.apt().publish(&all.map(|name| package(name, version, name == "restarts")));
        // A change of what is installed only: no other file of any of them is ours.
        let packages = all.map(|name| format!("{name} = \"{version}\"\n")).concat();
        lab.fleet.write(
            "hosts/web-01/host.toml",
            format!(
                "[packages]\n{packages}[units.\"leaves.service\"]\nactive = true\n[units.\"restarts.service\"]\nactive = true\n\
                 [units.\"stopped.service\"]\non_change = \"restart\"\n[units.\"none.service\"]\nactive = true\non_change = \"none\"\n"
            ),
        );
    };
    publish(&lab, "1.0");
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    let starts = || all.map(|name| started(&host, &format!("{name}.service")));
    assert_eq!(starts(), [1, 1, 0, 1]);

    publish(&lab, "2.0");
    lab.fleet.commit("second");
    host.shell("apt-get -qq update");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(host.package("leaves").as_deref(), Some("2.0"));
    assert_eq!(starts(), [2, 2, 0, 1], "each once, whoever did it: {run:#?}");
    let units: Vec<&str> = run.report.refreshes.iter().map(|line| line.id.as_str()).collect();
    assert_eq!(units, ["unit:leaves.service"], "{run:#?}");
    assert_eq!(run.refresh("unit:leaves.service").because, ["file:/usr/lib/systemd/system/leaves.service"]);
    host.trueup(&["run"]).idle();
    assert_eq!(starts(), [2, 2, 0, 1]);
}

#[test]
fn drop_ins_of_others_are_told_apart_and_left_alone() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/units/app.service", "[Service]\nExecStart=/bin/sleep infinity\n");
    lab.fleet.write("hosts/web-01/units/app.service.d/ours.conf", "[Service]\nNice=1\n");
    lab.fleet.write("hosts/web-01/host.toml", "[units.\"app.service\"]\nactive = true\n");
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    let run = host.trueup(&["run"]);
    run.converged();
    assert!(run.report.notes.is_empty(), "{run:#?}");
    let theirs = "/etc/systemd/system/app.service.d/zz-theirs.conf";
    host.write(theirs, "[Service]\nNice=7\n");
    host.shell("systemctl daemon-reload; systemctl set-property --runtime app.service CPUWeight=50");
    let invocation = host.unit("app.service", "InvocationID");
    for command in ["plan", "run"] {
        let told = host.trueup(&[command]);
        told.idle();
        let note = told.report.notes.concat();
        assert!(note.starts_with("unit:app.service has drop-ins that nobody declares"), "{told:#?}");
        assert!(note.contains(theirs) && !note.contains("ours.conf"), "{note}");
        assert!(note.contains("(by systemctl set-property, until the next reboot)"), "{note}");
    }
    assert_eq!(host.read(theirs), "[Service]\nNice=7\n");
    assert_eq!(host.unit("app.service", "InvocationID"), invocation);
}
