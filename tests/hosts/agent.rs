//! The agent, installed from its deb: it follows the repository, puts back what drifts, tells the journal, and
//! says nothing where nothing happens.

use super::apt::Package;
use super::installed::QUICK;
use super::{Host, Lab};

const BEAT: &str = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

/// What somebody does on a host, and the resource that it is about.
const DISTURBANCES: [(&str, &str); 7] = [
    ("echo '# by hand' >>/etc/app.conf", "file:/etc/app.conf"),
    ("chmod 0666 /etc/app.conf", "file:/etc/app.conf"),
    ("chown daemon /etc/app.conf", "file:/etc/app.conf"),
    ("rm /etc/app.conf", "file:/etc/app.conf"),
    ("systemctl stop beat", "unit:beat.service"),
    ("systemctl disable beat", "unit:beat.service"),
    ("dpkg --remove tool", "package:tool"),
];

fn fleet(lab: &Lab, host: &str) {
    lab.fleet.write(
        &format!("hosts/{host}/host.toml"),
        "[packages]\ntool = \"present\"\n[files.\"/etc/app.conf\"]\nmode = \"0640\"\n[units]\n\"beat.service\" = \"on\"\n",
    );
    lab.fleet.write(&format!("hosts/{host}/files/etc/app.conf"), "port = 80\n");
    lab.fleet.write(&format!("hosts/{host}/units/beat.service"), BEAT);
    // systemd complains whenever it reads what never runs.
    lab.fleet.write(&format!("hosts/{host}/units/idle.service"), "[Service]\nExecStart=/bin/true\nNoSuchKey=3\n");
}

fn state(host: &Host) -> String {
    [
        host.read("/etc/app.conf"),
        host.stat("/etc/app.conf"),
        host.unit_state("beat.service"),
        format!("{:?}", host.package("tool")),
    ]
    .join("\n")
}

#[test]
fn a_push_is_applied_on_three_hosts_drift_is_put_back_and_told_and_nothing_is_said_of_nothing() {
    let Some(mut lab) = Lab::new(3) else { return };
    lab.apt().publish(&[Package::new("tool", "1.0")]);
    let names = ["web-01", "web-02", "web-03"];
    for name in names {
        fleet(&lab, name);
    }
    let first = lab.fleet.commit("three hosts");
    let hosts = names.map(|name| lab.boot_installed(name, QUICK));
    for host in &hosts {
        host.await_applied(&first);
        assert_eq!(host.stat("/etc/app.conf"), "regular file 640 root:root");
    }

    for name in names {
        lab.fleet.write(&format!("hosts/{name}/files/etc/app.conf"), format!("port = 8080 # {name}\n"));
    }
    let second = lab.fleet.commit("another port");
    for host in &hosts {
        host.await_applied(&second);
        assert_eq!(host.read("/etc/app.conf"), format!("port = 8080 # {}\n", host.name()));
        let applied = &host.journal(&["TRUEUP_EVENT=applied", &format!("TRUEUP_REVISION={second}")]);
        assert_eq!(applied.len(), 1, "{applied:#?}");
    }

    let host = &hosts[0];
    let wanted = state(host);
    for (script, id) in DISTURBANCES {
        let matches = ["TRUEUP_EVENT=drift".to_owned(), format!("TRUEUP_RESOURCE={id}")];
        let entry = host.await_journal(&[&matches[0], &matches[1]], || drop(host.shell(script)));
        assert_eq!(entry["TRUEUP_CAUSE"], "corrective", "{script}: {entry:#}");
        assert_eq!(entry["TRUEUP_REVISION"], *second, "{script}: {entry:#}");
        assert_eq!(entry["TRUEUP_PASS"].as_str().map(str::len), Some(26), "{script}: {entry:#}");
        assert!(entry["TRUEUP_CHANGE"].as_str().is_some_and(|change| !change.is_empty()), "{script}: {entry:#}");
        host.await_status("in sync again", |status| status["state"] == "in-sync" && status["running"].is_null());
        assert_eq!(state(host), wanted, "{script}");
    }

    // Ten intervals in which nothing happens: not a line of anybody of the agent's unit, nor of systemd about what rests.
    host.await_passes(2);
    let lines = |host: &Host| {
        let idle = "CONFIG_FILE=/etc/systemd/system/idle.service";
        (host.journal(&["_SYSTEMD_UNIT=trueup.service"]).len(), host.journal(&[idle]).len())
    };
    let before = lines(host);
    assert!(before.1 > 0, "it was read");
    host.await_passes(10);
    assert_eq!(lines(host), before);
}

#[test]
fn a_remote_that_is_gone_is_told_since_when_drift_is_put_back_and_it_is_followed_again() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    let first = lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);

    lab.network.partition(true);
    let gone = host.await_status("a source that fails", |status| !status["source"]["failing_since"].is_null());
    assert_eq!(gone["state"], "in-sync", "drift is watched and corrected offline: {gone:#}");
    let text = host.run(&["trueup", "status"]).stdout;
    assert!(text.contains("failing for") && text.contains("in-sync"), "{text}");
    for _ in 0..3 {
        host.await_journal(&["TRUEUP_EVENT=drift"], || host.write("/etc/app.conf", "port = 81\n"));
        host.await_passes(3);
        assert_eq!(host.read("/etc/app.conf"), "port = 80\n");
    }
    host.await_passes(4);
    assert_eq!(host.status()["source"]["failing_since"], gone["source"]["failing_since"]);

    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 8080\n");
    let second = lab.fleet.commit("while it was away");
    lab.network.partition(false);
    host.await_applied(&second);
    assert!(host.status()["source"]["failing_since"].is_null());
    assert_eq!(host.read("/etc/app.conf"), "port = 8080\n");
}

#[test]
fn whoever_keeps_changing_a_file_is_not_fought_and_its_neighbours_converge_on() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/fought", "ours\n");
    lab.fleet.write("hosts/web-01/files/etc/neighbour", "one\n");
    let first = lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);

    let mut writer = host.spawn(&["sh", "-c", "while sleep 1; do echo theirs >/etc/fought; done"], None);
    let contested = host.await_status("contested", |status| status["reason"] == "contested");
    assert_eq!(contested["state"], "degraded");
    lab.fleet.write("hosts/web-01/files/etc/neighbour", "two\n");
    let second = lab.fleet.commit("the neighbour");
    host.await_status("the neighbour", |status| status["revision"]["attempted"] == *second);
    host.await_passes(5);
    assert_eq!(host.read("/etc/neighbour"), "two\n");
    let told = host.journal(&["TRUEUP_RESOURCE=file:/etc/fought"]);
    let corrected = told.iter().filter(|entry| entry["TRUEUP_EVENT"] == "drift").count();
    assert!(corrected <= 5, "{corrected} corrections: {told:#?}");
    let lines = host.journal(&["_SYSTEMD_UNIT=trueup.service"]).len();
    assert!(told.len() <= 20, "{} lines of it, {lines} in all", told.len());
    assert_eq!(told.iter().filter(|entry| entry["TRUEUP_EVENT"] == "contested").count(), 1, "{told:#?}");
    writer.end();

    // Nobody writes it any more: tried again when asked.
    host.ok(&["trueup", "retry"]);
    host.await_status("in sync", |status| status["state"] == "in-sync");
    assert_eq!(host.read("/etc/fought"), "ours\n");
}

#[test]
fn a_suspended_file_keeps_its_edit_while_a_commit_changes_its_neighbours_and_is_taken_back_at_expiry() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app/one", "one\n");
    lab.fleet.write("hosts/web-01/files/etc/app/two", "two\n");
    let first = lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);

    host.ok(&["trueup", "suspend", "file:/etc/app/one", "--for", "1h", "--reason", "INC-4711"]);
    host.write("/etc/app/one", "by hand\n");
    lab.fleet.write("hosts/web-01/files/etc/app/one", "one, newer\n");
    lab.fleet.write("hosts/web-01/files/etc/app/two", "two, newer\n");
    let second = lab.fleet.commit("both");
    let status = host.await_status("the other one", |status| status["revision"]["attempted"] == *second);
    assert_eq!((status["state"].as_str(), host.read("/etc/app/two").as_str()), (Some("suspended"), "two, newer\n"));
    assert_eq!(status["suspended"][0]["reason"], "INC-4711");
    // It survives a restart of the agent, and what goes on meanwhile.
    host.ok(&["systemctl", "restart", "trueup"]);
    host.await_passes(3);
    assert_eq!(host.read("/etc/app/one"), "by hand\n");
    let text = host.run(&["trueup", "status"]).stdout;
    assert!(text.contains("INC-4711") && text.contains("file:/etc/app/one"), "{text}");

    // Shorter now, so that it expires.
    host.ok(&["trueup", "suspend", "file:/etc/app/one", "--for", "3s"]);
    host.await_applied(&second);
    assert_eq!(host.read("/etc/app/one"), "one, newer\n");
    assert!(host.ok(&["trueup", "restore"]).contains("/etc/app/one"), "her version is kept");
}

#[test]
fn a_held_host_corrects_to_the_approved_revision_only() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    let first = lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", &format!("{QUICK}[policy]\nupdate = \"hold\"\n"));
    host.await_status("it is seen", |status| status["reason"] == "held" && status["revision"]["seen"] == *first);
    assert!(!host.has("/etc/app.conf"), "nothing is approved yet");
    host.ok(&["trueup", "approve"]);
    host.await_applied(&first);

    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 8080\n");
    let second = lab.fleet.commit("not approved");
    host.await_status("it is seen", |status| status["reason"] == "held" && status["revision"]["seen"] == *second);
    host.await_journal(&["TRUEUP_EVENT=drift"], || host.write("/etc/app.conf", "by hand\n"));
    host.await_passes(2);
    assert_eq!(host.read("/etc/app.conf"), "port = 80\n");

    host.ok(&["trueup", "approve", &second[..9]]);
    host.await_applied(&second);
    assert_eq!(host.read("/etc/app.conf"), "port = 8080\n");

    host.ok(&["trueup", "rollback", &first]);
    host.await_status("rolled back", |status| status["revision"]["attempted"] == *first);
    host.await_passes(2);
    assert_eq!(host.read("/etc/app.conf"), "port = 80\n");
    host.ok(&["trueup", "resume"]);
    host.await_applied(&second);
    assert_eq!(host.read("/etc/app.conf"), "port = 8080\n");
}

#[test]
fn settings_are_read_anew_on_reload_and_wrong_ones_are_not_taken() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    lab.fleet.write("hosts/web-02/files/etc/app.conf", "port = 90\n");
    let first = lab.fleet.commit("two");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    host.await_journal(&["TRUEUP_EVENT=bad-settings"], || {
        host.write("/etc/trueup/agent.d/50.toml", "[policy]\nupdate = \"never\"\n");
        host.ok(&["systemctl", "reload", "trueup"]);
    });
    host.await_journal(&["TRUEUP_EVENT=drift"], || host.write("/etc/app.conf", "x\n"));
    host.await_passes(1);
    assert_eq!(host.read("/etc/app.conf"), "port = 80\n", "what was in force goes on");
    host.write("/etc/trueup/agent.d/50.toml", "[policy]\nupdate = \"observe\"\n");
    host.ok(&["systemctl", "reload", "trueup"]);
    host.await_status("observing", |status| status["update"] == "observe" && status["running"].is_null());
    host.write("/etc/app.conf", "x\n");
    host.await_status("pending", |status| status["state"] == "pending");
    assert_eq!(host.read("/etc/app.conf"), "x\n");
}

#[test]
fn stopped_stays_stopped_and_the_socket_survives_a_restart() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    let first = lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    let socket = host.unit("trueup.socket", "InvocationID");
    // Whoever asks meanwhile gets an answer.
    for _ in 0..3 {
        let restart = host.spawn(&["systemctl", "restart", "trueup"], None);
        for _ in 0..20 {
            let asked = host.run(&["trueup", "status", "--json"]);
            assert!([0, 2].contains(&asked.status), "{asked:?}");
        }
        assert_eq!(restart.wait().status, 0);
    }
    host.ok(&["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "trueup"]);
    host.await_applied(&first);
    assert_eq!(host.unit("trueup.socket", "InvocationID"), socket, "it was never closed");

    let stop = host.run(&["systemctl", "stop", "trueup"]);
    assert_eq!((stop.status, stop.stderr.as_str()), (0, ""), "nobody is told that the socket might start it again");
    let stopped = host.run(&["trueup", "status"]);
    assert_eq!(stopped.status, 3, "{stopped:?}");
    assert!(stopped.stdout.contains("not running"), "{stopped:?}");
    assert_eq!(host.unit("trueup.service", "ActiveState"), "inactive");
    assert_eq!(host.unit("trueup.socket", "ActiveState"), "inactive");
    host.ok(&["systemctl", "start", "trueup"]);
    host.await_applied(&first);
}

#[test]
fn a_sync_is_done_once_nobody_else_is_at_work() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    let first = lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", "interval = \"1d\"\n");
    host.await_applied(&first);
    host.shell("mkfifo /run/held /run/let-go");
    let mut holder =
        host.spawn(&["flock", "/var/lib/trueup/lock", "sh", "-c", "echo held >/run/held; cat /run/let-go"], None);
    assert_eq!(host.read("/run/held"), "held\n");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 8080\n");
    let second = lab.fleet.commit("while somebody is at work");
    let sync = host.spawn(&["trueup", "sync", "--json"], None);
    host.await_status("it was tried", |status| !status["running"].is_null());
    host.await_status("and could not begin", |status| status["running"].is_null());
    host.shell("echo >/run/let-go");
    holder.end();
    let synced = sync.wait();
    assert_eq!(synced.status, 0, "{synced:?}");
    let status: serde_json::Value = serde_json::from_str(&synced.stdout).expect("a status");
    assert_eq!(status["revision"]["applied"], *second);
}

#[test]
fn a_damaged_record_of_what_is_suspended_stops_everything_until_root_resumes() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    let first = lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    host.ok(&["trueup", "suspend", "/etc/app.conf"]);
    host.ok(&["trueup", "suspend", "/etc/app.conf", "--for", "2h"]);
    host.shell("echo damaged >/var/lib/trueup/agent/brakes");
    host.ok(&["systemctl", "restart", "trueup"]);
    host.write("/etc/app.conf", "by hand\n");
    let status = host.await_status("it is told", |status| status["reason"] == "state-damaged");
    assert!(status["message"].as_str().is_some_and(|said| said.contains("trueup resume")), "{status:#}");
    host.await_passes(2);
    assert_eq!(host.read("/etc/app.conf"), "by hand\n", "that might be suspended, and is");
    let refused = host.run(&["trueup", "suspend", "/etc/app.conf"]);
    assert_eq!(refused.status, 3, "{refused:?}");
    host.ok(&["trueup", "resume"]);
    host.await_applied(&first);
    assert_eq!(host.read("/etc/app.conf"), "port = 80\n");
}

#[test]
fn a_local_change_of_a_file_a_package_or_a_unit_is_found_without_waiting_for_the_interval() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[Package::new("tool", "1.0")]);
    fleet(&lab, "web-01");
    lab.fleet.write("hosts/web-01/files/srv/app/deep/a.conf", "a\n");
    let first = lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", "interval = \"1d\"\n");
    host.await_applied(&first);
    for (script, id) in [
        ("echo x >>/etc/app.conf", "file:/etc/app.conf"),
        ("rm -r /srv/app", "file:/srv/app/deep/a.conf"),
        // The directory is another one now.
        ("echo x >/srv/app/deep/a.conf", "file:/srv/app/deep/a.conf"),
        ("dpkg --remove tool", "package:tool"),
        ("systemctl stop beat", "unit:beat.service"),
        ("systemctl disable beat", "unit:beat.service"),
        // One that dies by itself.
        ("systemctl kill --signal=KILL beat", "unit:beat.service"),
    ] {
        let resource = format!("TRUEUP_RESOURCE={id}");
        host.await_journal(&["TRUEUP_EVENT=drift", &resource], || drop(host.shell(script)));
        host.await_status("in sync again", |status| status["state"] == "in-sync" && status["running"].is_null());
    }
    assert_eq!(host.read("/srv/app/deep/a.conf"), "a\n");
    assert_eq!(host.package("tool").as_deref(), Some("1.0"));
}

#[test]
fn a_new_revision_ends_waiting_for_the_package_manager() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[Package::new("tool", "1.0")]);
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    let first = lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    // Somebody is at work with the package manager, and stays so (fcntl(2), as apt and dpkg lock).
    host.shell("mkfifo /run/held");
    let lock = "use Fcntl; open(F, '+>>', '/var/lib/dpkg/lock-frontend') or die; \
                my $l = pack('s s x4 q q i x4', F_WRLCK, 0, 0, 0, 0); fcntl(F, F_SETLK, $l) or die; \
                open(T, '>', '/run/held'); print T \"held\\n\"; close T; sleep 250";
    let mut holder = host.spawn(&["perl", "-e", lock], None);
    assert_eq!(host.read("/run/held"), "held\n");
    lab.fleet.write("hosts/web-01/host.toml", "[packages]\ntool = \"present\"\n");
    lab.fleet.commit("a package that cannot be installed now");
    host.await_status("it waits", |status| {
        status["running"]["doing"].as_str().is_some_and(|doing| doing.contains("perl") || doing.contains("wait"))
    });
    lab.fleet.write("hosts/web-01/host.toml", "");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 8080\n");
    let third = lab.fleet.commit("without it");
    // Long before the lock's own two minutes, and though nobody lets go of it.
    host.await_applied(&third);
    assert_eq!(host.read("/etc/app.conf"), "port = 8080\n");
    assert_eq!(host.package("tool"), None);
    holder.end();
}

#[test]
fn the_status_says_hold_where_only_the_revision_that_waits_does() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    let first = lab.fleet.commit("first");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    lab.fleet.write("hosts/web-01/host.toml", "[policy]\nupdate = \"hold\"\n");
    let mut second = String::new();
    let told = host.await_journal(&["TRUEUP_EVENT=pending"], || second = lab.fleet.commit("hold"));
    assert_eq!(told["TRUEUP_REVISION"], second.as_str(), "{told:#}");
    let status = host.await_status("the newer waits", |status| status["reason"] == "held");
    assert_eq!((&status["update"], &status["revision"]["seen"]), (&"hold".into(), &second.as_str().into()));
    assert!(host.run(&["trueup", "status"]).stdout.contains("waits for: trueup approve"));
}

#[test]
fn a_start_that_takes_its_time_is_told_with_what_it_is_at_and_for_how_long() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "one\n");
    let first = lab.fleet.commit("first");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    host.shell("mkfifo /run/go");
    lab.fleet.write(
        "hosts/web-01/units/slow.service",
        "[Service]\nTimeoutStartSec=300\nExecStartPre=/bin/sh -c 'read go </run/go'\nExecStart=/bin/sleep infinity\n",
    );
    lab.fleet.write("hosts/web-01/host.toml", "[units.\"slow.service\"]\nactive = true\n");
    let second = lab.fleet.commit("second");
    let asked = host.spawn(&["sh", "-c", "exec trueup sync 2>/run/said"], None);
    // In a log, too, which is no terminal.
    host.await_that("grep -q 'starting slow.service (activating start-pre, [0-9]* s)' /run/said");
    let text = host.run(&["trueup", "status"]).stdout;
    assert!(text.contains("starting slow.service (activating start-pre, "), "{text}");
    host.shell("echo go >/run/go");
    host.await_applied(&second);
    assert_eq!(asked.wait().status, 0);
    assert!(host.read("/run/said").lines().count() < 10, "not a line for each second");
}
