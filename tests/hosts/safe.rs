//! A change that makes something bad is undone, whoever looks; what was bad before, or is nobody's fault, undoes nothing.

use super::apt::Package;
use super::installed::QUICK;
use super::{Host, Lab};

/// Runs as long as nobody asks it to end, where /run/ok is there or the file says so.
const FUSSY: &str = "[Service]\nExecStart=/bin/sh -c '[ -e /run/ok ] && exec sleep infinity; echo cannot bind >&2; exit 3'\n\
                     [Install]\nWantedBy=multi-user.target\n";
const STEADY: &str = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

/// Answers with the status that is written in its file.
const SERVER: &str = "use IO::Socket::INET; $| = 1;\n\
    my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1:8080', Listen => 9, ReuseAddr => 1) or die;\n\
    open(F, '<', '/etc/answer') or die; chomp(my $code = <F>);\n\
    while (my $c = $s->accept) { sysread($c, my $in, 4096); print $c \"HTTP/1.0 $code X\\r\\n\\r\\n\"; close $c }\n";

fn app(lab: &mut Lab, unit: &str, more: &str, message: &str) -> String {
    lab.fleet.write("hosts/web-01/host.toml", format!("[units]\n\"app.service\" = \"on\"\n{more}"));
    lab.fleet.write("hosts/web-01/units/app.service", unit);
    lab.fleet.commit(message)
}

const THREE: [&str; 3] = ["web-01", "web-02", "web-03"];

/// As [`app`], on three hosts.
fn app_of_three(lab: &mut Lab, unit: &str, more: &str, message: &str) -> String {
    for name in THREE {
        lab.fleet.write(&format!("hosts/{name}/host.toml"), format!("[units]\n\"app.service\" = \"on\"\n{more}"));
        lab.fleet.write(&format!("hosts/{name}/units/app.service"), unit);
    }
    lab.fleet.commit(message)
}

/// Waits until `bad` was undone to `good`, for this reason.
fn undone(host: &Host, good: &str, bad: &str, reason: &str) -> serde_json::Value {
    let status = host.await_status("it is undone", |status| {
        status["state"] == "rolled-back" && status["running"].is_null() && status["revision"]["attempted"] == *bad
    });
    assert_eq!((&status["reason"], &status["revision"]["applied"]), (&reason.into(), &good.into()), "{status:#}");
    status
}

#[test]
fn a_commit_whose_service_does_not_start_is_undone_and_quarantined_until_retry_or_a_newer_commit() {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = app(&mut lab, STEADY, "", "steady");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    host.write("/etc/app.conf", "theirs\n");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "ours\n");
    let mut second = String::new();
    let told = host.await_journal(&["TRUEUP_EVENT=rolled-back"], || second = app(&mut lab, FUSSY, "", "fussy"));
    let status = undone(&host, &first, &second, "unit-failed");
    assert!(status["message"].as_str().is_some_and(|said| said.contains("cannot bind")), "{status:#}");
    assert!(told["MESSAGE"].as_str().is_some_and(|said| said.contains("cannot bind")), "{told:#}");
    assert_eq!(host.read("/etc/app.conf"), "theirs\n", "what it took over is given back");
    assert_eq!(host.unit("app.service", "ActiveState"), "active");
    assert_eq!(host.run(&["trueup", "status"]).status, 1);

    // Nobody tries it again, and drift is corrected to the good one, also by another agent.
    let run = host.unit("app.service", "InvocationID");
    host.ok(&["systemctl", "restart", "trueup"]);
    host.await_passes(2);
    undone(&host, &first, &second, "unit-failed");
    assert_eq!(host.unit("app.service", "InvocationID"), run);
    host.await_journal(&["TRUEUP_EVENT=drift"], || drop(host.shell("systemctl stop app")));
    host.await_status("it is put back", |status| status["state"] == "rolled-back" && status["running"].is_null());
    assert_eq!(host.unit("app.service", "ActiveState"), "active");

    // The same commit, once somebody says so and it is no longer its fault.
    host.shell("touch /run/ok");
    host.ok(&["trueup", "retry"]);
    host.await_applied(&second);
    assert_eq!(host.read("/etc/app.conf"), "ours\n");

    // What it would go back to does not start either by now: that is said, once, and nothing more is tried.
    host.shell("rm /run/ok");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "newer\n");
    app(&mut lab, &format!("# anew\n{FUSSY}"), "", "still fussy");
    host.await_status("it cannot be undone", |status| {
        status["state"] == "stalled" && status["reason"] == "undo-failed" && status["running"].is_null()
    });
    let run = host.unit("app.service", "InvocationID");
    host.await_passes(2);
    assert_eq!(host.status()["reason"], "undo-failed");
    assert_eq!(host.unit("app.service", "InvocationID"), run);
    assert_eq!(host.run(&["trueup", "status"]).status, 3);
    assert_eq!(host.journal(&["TRUEUP_REASON=undo-failed"]).len(), 1);
    let fourth = app(&mut lab, STEADY, "", "steady again");
    let status = host.await_applied(&fourth);
    assert_eq!(status["state"], "in-sync", "{status:#}");
    assert_eq!(host.read("/etc/app.conf"), "newer\n");
}

#[test]
fn a_commit_that_breaks_a_check_is_undone_with_the_version_that_its_package_had() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[Package::new("tool", "1.0"), Package::new("tool", "2.0")]);
    let check = "watch = [\"/etc/answer\"]\n[checks.web]\nhttp = \"http://127.0.0.1:8080/\"\n\
                 [checks.port]\ntcp = \"127.0.0.1:8080\"\n\
                 [checks.mine]\ncommand = [\"/bin/sh\", \"-c\", \"[ $(id -un) = nobody ]\"]\nuser = \"nobody\"\n";
    let manifest = |version: &str| {
        format!("[packages]\ntool = \"{version}\"\n[units.\"app.service\"]\nenabled = true\nactive = true\n{check}")
    };
    let unit = "[Service]\nExecStart=/usr/bin/perl /usr/local/lib/server\n[Install]\nWantedBy=multi-user.target\n";
    lab.fleet.write("hosts/web-01/units/app.service", unit);
    lab.fleet.write("hosts/web-01/files/usr/local/lib/server", SERVER);
    lab.fleet.write("hosts/web-01/files/etc/answer", "200\n");
    lab.fleet.write("hosts/web-01/host.toml", manifest("1.*"));
    let first = lab.fleet.commit("it answers");
    let host = lab.boot_installed("web-01", QUICK);
    let status = host.await_applied(&first);
    assert_eq!(status["state"], "in-sync", "{status:#}");
    assert_eq!(host.package("tool").as_deref(), Some("1.0"));

    lab.fleet.write("hosts/web-01/files/etc/answer", "500\n");
    lab.fleet.write("hosts/web-01/host.toml", manifest("2.0"));
    let second = lab.fleet.commit("it answers badly");
    let status = undone(&host, &first, &second, "check-failed");
    assert!(status["message"].as_str().is_some_and(|said| said.contains("it answered 500")), "{status:#}");
    assert_eq!(host.read("/etc/answer"), "200\n");
    assert_eq!(host.package("tool").as_deref(), Some("1.0"));
    let third = lab.fleet.revert();
    host.await_applied(&third);
    assert_eq!(host.status()["state"], "in-sync");
}

#[test]
fn what_was_not_well_before_is_told_and_undoes_nothing() {
    let Some(mut lab) = Lab::new(1) else { return };
    let check =
        "[checks.ready]\ncommand = [\"/usr/bin/test\", \"-e\", \"/run/ok\", \"-a\", \"!\", \"-e\", \"/etc/bad\"]\n";
    lab.fleet.write("hosts/web-01/host.toml", check);
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "one\n");
    let first = lab.fleet.commit("a first revision");
    let host = lab.boot_installed("web-01", QUICK);
    let failing = |commit: &str| {
        host.await_status("it is told", |status| {
            status["state"] == "degraded"
                && status["reason"] == "check-failed"
                && status["revision"]["attempted"] == *commit
                && status["running"].is_null()
        })
    };
    failing(&first);
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "two\n");
    let second = lab.fleet.commit("a second");
    failing(&second);
    host.await_passes(2);
    failing(&second);
    assert_eq!(host.read("/etc/app.conf"), "two\n");
    host.shell("touch /run/ok");
    host.await_status("it holds by itself", |status| status["state"] == "in-sync");
    // From now on it is a reason.
    lab.fleet.write("hosts/web-01/files/etc/bad", "");
    let third = lab.fleet.commit("what must not be there");
    undone(&host, &second, &third, "check-failed");
    assert!(!host.has("/etc/bad"));
}

#[test]
fn a_first_revision_that_fails_has_nothing_to_go_back_to() {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = app(&mut lab, FUSSY, "", "fussy from the first");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_status("it is told", |status| {
        status["state"] == "degraded" && status["revision"]["attempted"] == *first && status["running"].is_null()
    });
    host.await_passes(2);
    assert!(host.has("/etc/systemd/system/app.service"));
    assert_eq!(host.status()["state"], "degraded");
    let second = app(&mut lab, STEADY, "", "steady");
    host.await_applied(&second);
}

#[test]
fn a_source_that_goes_silent_while_three_hosts_settle_undoes_nothing_on_any() {
    let Some(mut lab) = Lab::new(3) else { return };
    let first = app_of_three(&mut lab, STEADY, "", "steady");
    let hosts = THREE.map(|name| lab.boot_installed(name, QUICK));
    for host in &hosts {
        host.await_applied(&first);
        host.write("/etc/trueup/agent.d/50.toml", "[change]\nsettle = \"15s\"\n");
        host.ok(&["systemctl", "reload", "trueup"]);
    }
    let second = app_of_three(&mut lab, &format!("# anew\n{STEADY}"), "", "steady and newer");
    for host in &hosts {
        host.await_status("it settles, and says so", |status| {
            status["running"]["doing"].as_str().is_some_and(|doing| doing.starts_with("settling"))
        });
    }
    lab.network.partition(true);
    for host in &hosts {
        let status = host.await_status("it settled", |status| {
            status["revision"]["applied"] == *second && status["running"].is_null()
        });
        assert!(status["state"] == "in-sync" || status["state"] == "degraded", "{status:#}");
        host.await_passes(1);
    }
    lab.network.partition(false);
    for host in &hosts {
        let status = host.await_status("in sync", |status| status["state"] == "in-sync");
        assert_eq!(status["revision"]["applied"], *second);
        assert!(host.journal(&["TRUEUP_EVENT=rolled-back"]).is_empty());
    }
}

#[test]
fn a_mirror_that_is_down_while_three_hosts_change_is_waited_for_and_undoes_nothing_on_any() {
    let Some(mut lab) = Lab::new(3) else { return };
    lab.apt().publish(&[Package::new("tool", "1.0")]);
    let first = app_of_three(&mut lab, STEADY, "", "steady");
    let hosts = THREE.map(|name| lab.boot_installed(name, QUICK));
    for host in &hosts {
        host.await_applied(&first);
    }
    lab.apt().is_down(true);
    let anew = format!("# anew\n{STEADY}");
    let second = app_of_three(&mut lab, &anew, "[packages]\ntool = \"1.*\"\n", "with a tool");
    for host in &hosts {
        let status = host.await_status("it is told", |status| {
            status["revision"]["attempted"] == *second && status["state"] == "degraded" && status["running"].is_null()
        });
        assert_eq!(status["revision"]["applied"], *first, "{status:#}");
        assert!(!host.has("/var/lib/trueup/hand"), "nobody strikes for that");
        host.await_passes(1);
        assert!(host.read("/etc/systemd/system/app.service").starts_with("# anew"));
    }
    lab.apt().is_down(false);
    for host in &hosts {
        host.ok(&["trueup", "retry"]);
        host.await_applied(&second);
        assert_eq!(host.package("tool").as_deref(), Some("1.0"));
        assert!(host.journal(&["TRUEUP_EVENT=rolled-back"]).is_empty());
    }
}

#[test]
fn a_unit_restarts_no_more_often_than_its_budget_and_owes_the_rest() {
    let Some(mut lab) = Lab::new(1) else { return };
    let watching = |lab: &mut Lab, conf: &str| {
        lab.fleet.write("hosts/web-01/files/etc/app.conf", format!("{conf}\n"));
        lab.fleet.write(
            "hosts/web-01/host.toml",
            "[units.\"app.service\"]\nenabled = true\nactive = true\nwatch = [\"/etc/app.conf\"]\n",
        );
        lab.fleet.write("hosts/web-01/units/app.service", STEADY);
        lab.fleet.commit(conf)
    };
    let first = watching(&mut lab, "first");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    host.write("/etc/trueup/agent.d/50.toml", "[change]\nrestarts = 2\n");
    host.ok(&["systemctl", "reload", "trueup"]);
    let run = || host.unit("app.service", "InvocationID");
    let mut before = run();
    for conf in ["second", "third"] {
        let commit = watching(&mut lab, conf);
        host.await_applied(&commit);
        assert_ne!(run(), before, "{conf}");
        before = run();
    }
    let fourth = watching(&mut lab, "fourth");
    let status = host.await_status("its restart is owed", |status| {
        status["reason"] == "restart-budget" && status["running"].is_null()
    });
    assert_eq!((status["state"].as_str(), run()), (Some("degraded"), before.clone()), "{status:#}");
    assert_eq!(host.read("/etc/app.conf"), "fourth\n");
    assert_ne!(status["revision"]["applied"], *fourth, "what runs is not what it says");
    let text = host.run(&["trueup", "status"]).stdout;
    assert!(text.contains("restart owed") && text.contains("trueup retry"), "{text}");
    // Nothing is forgotten with the agent.
    host.ok(&["systemctl", "restart", "trueup"]);
    host.await_passes(1);
    assert_eq!((host.status()["reason"].as_str(), run()), (Some("restart-budget"), before.clone()));
    host.ok(&["trueup", "retry"]);
    host.await_applied(&fourth);
    assert_ne!(run(), before);
}

#[test]
fn an_agent_that_ends_while_a_revision_settles_goes_on_with_that_when_it_is_back() {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = app(&mut lab, STEADY, "", "steady");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    host.write("/etc/trueup/agent.d/50.toml", "[change]\nsettle = \"1m\"\n");
    host.ok(&["systemctl", "reload", "trueup"]);
    host.shell("touch /run/ok");
    let second = app(&mut lab, FUSSY, "", "fussy");
    host.await_status("it settles", |status| {
        status["running"]["doing"].as_str().is_some_and(|doing| doing.starts_with("settling"))
    });
    host.ok(&["systemctl", "stop", "trueup"]);
    host.shell("rm /run/ok; systemctl restart app");
    host.ok(&["systemctl", "start", "trueup"]);
    undone(&host, &first, &second, "unit-failed");
    assert_eq!(host.unit("app.service", "ActiveState"), "active");
}

#[test]
fn a_service_whose_start_itself_is_refused_is_undone_at_once_and_waits_for_no_second_try() {
    let Some(mut lab) = Lab::new(1) else { return };
    let unit = |program: &str| {
        format!("[Service]\nType=exec\nExecStart={program} infinity\n[Install]\nWantedBy=multi-user.target\n")
    };
    let first = app(&mut lab, &unit("/bin/sleep"), "", "steady");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    let second = app(&mut lab, &unit("/bin/nothing-like-it"), "", "no such program");
    undone(&host, &first, &second, "unit-failed");
    assert_eq!(host.unit("app.service", "ActiveState"), "active");
    assert!(host.read("/etc/systemd/system/app.service").contains("/bin/sleep"));
}
