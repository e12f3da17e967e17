//! The dead man's hand: a change that takes away what would put it right is undone by itself all the same.

use super::apt::Package;
use super::image::Variant;
use super::installed::{QUICK, deb};
use super::{Host, Lab};

/// How long a change has: the shortest that there is.
const SOON: &str = "[change]\nsettle = \"1s\"\ndeadline = \"20s\"\n";
const LATE: &str = "[change]\nsettle = \"15s\"\ndeadline = \"1h\"\n";

fn set(host: &Host, change: &str) {
    host.write("/etc/trueup/agent.d/50-change.toml", change);
    host.ok(&["systemctl", "reload", "trueup"]);
}

fn oneshot(script: &str) -> String {
    format!(
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c '{script}'\n[Install]\nWantedBy=multi-user.target\n"
    )
}

/// The unit `name`, of which nothing is wanted but that it runs, and `/etc/app.conf`.
fn commit(lab: &mut Lab, name: &str, unit: &str, message: &str) -> String {
    lab.fleet.write("hosts/web-01/host.toml", format!("[units]\n\"{name}\" = \"on\"\n"));
    lab.fleet.write(&format!("hosts/web-01/units/{name}"), unit);
    lab.fleet.write("hosts/web-01/files/etc/app.conf", format!("{message}\n"));
    lab.fleet.commit(message)
}

/// Waits until `bad` was undone to `good`, for this reason.
#[track_caller]
fn undone(host: &Host, good: &str, bad: &str, reason: &str) {
    let status = host.await_status("it is undone", |status| {
        status["state"] == "rolled-back" && status["running"].is_null() && status["revision"]["seen"] == *bad
    });
    assert_eq!((&status["reason"], &status["revision"]["applied"]), (&reason.into(), &good.into()), "{status:#}");
    assert_eq!(host.read("/etc/app.conf"), "good\n");
    assert!(!host.has("/var/lib/trueup/hand"), "nothing is armed any more");
    assert_eq!(host.unit("trueup-undo.timer", "ActiveState"), "inactive");
}

#[test]
fn a_change_that_cuts_this_host_off_is_undone_and_the_next_good_one_applied() {
    let Some(mut lab) = Lab::new(1) else { return };
    let gateway = lab.network.address();
    let up = oneshot(&format!("ip link set host0 up; ip route replace default via {gateway}"));
    let first = commit(&mut lab, "network-uplink.service", &up, "good");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    let down = oneshot("ip link set host0 down");
    let second = commit(&mut lab, "network-uplink.service", &down, "it cuts itself off");
    undone(&host, &first, &second, "cut-off");
    let said = host.journal(&["TRUEUP_EVENT=rolled-back"]);
    assert!(
        said.iter().any(|one| one["MESSAGE"].as_str().is_some_and(|said| said.contains("cut itself off"))),
        "{said:?}"
    );
    let third = commit(&mut lab, "network-uplink.service", &format!("# anew\n{up}"), "good");
    host.await_applied(&third);
}

#[test]
fn a_change_after_which_nobody_knows_where_the_source_is_is_undone() {
    let Some(mut lab) = Lab::new(1) else { return };
    let hosts = format!("127.0.0.1 localhost\n{} git.fleet.test\n", lab.network.address());
    lab.fleet.write("hosts/web-01/files/etc/hosts", &hosts);
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "good\n");
    let first = lab.fleet.commit("good");
    let mut files = lab.agent_files(QUICK);
    let by_name = lab.agent_toml(QUICK).replace(&lab.network.address(), "git.fleet.test");
    files.push(("/etc/trueup/agent.toml".to_owned(), by_name.into_bytes()));
    files.push(("/etc/hosts".to_owned(), hosts.clone().into_bytes()));
    let host = lab.boot_plain(Variant::Bookworm, "web-01", &files);
    host.install(&deb());
    host.await_applied(&first);
    lab.fleet.write("hosts/web-01/files/etc/hosts", "127.0.0.1 localhost\n");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "lost\n");
    let second = lab.fleet.commit("nobody knows");
    undone(&host, &first, &second, "cut-off");
    assert_eq!(host.read("/etc/hosts"), hosts);
}

#[test]
fn a_change_that_passes_the_judge_of_sshd_and_keeps_it_from_starting_is_undone() {
    let Some(mut lab) = Lab::new(1) else { return };
    let ssh =
        "[units.\"ssh.service\"]\nenabled = true\nactive = true\non_change = \"restart\"\nwatch = [\"/etc/ssh/**\"]\n";
    lab.fleet.write("hosts/web-01/host.toml", ssh);
    lab.fleet.write("hosts/web-01/files/etc/ssh/sshd_config.d/50.conf", "PrintMotd no\n");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "good\n");
    let first = lab.fleet.commit("good");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    // An address of nobody here: only who binds to it finds that out.
    lab.fleet.write("hosts/web-01/files/etc/ssh/sshd_config.d/50.conf", "ListenAddress 192.0.2.1\n");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "no way in\n");
    let second = lab.fleet.commit("no way in");
    undone(&host, &first, &second, "unit-failed");
    assert_eq!(host.unit("ssh.service", "ActiveState"), "active");
}

#[test]
fn a_change_that_takes_the_bus_away_is_undone_without_it() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "good\n");
    let first = lab.fleet.commit("good");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[units.\"dbus.socket\"]\nactive = false\nmasked = true\n[units.\"dbus.service\"]\nactive = false\nmasked = true\n",
    );
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "no bus\n");
    let second = lab.fleet.commit("no bus");
    undone(&host, &first, &second, "bus-lost");
    assert_eq!(host.unit("dbus.socket", "ActiveState"), "active");
    host.ok(&["busctl", "--system", "list"]);
}

#[test]
fn a_change_that_breaks_the_agent_itself_is_undone_by_the_program_that_settled_last() {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = commit(&mut lab, "app.service", &oneshot("true"), "good");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    set(&host, SOON);
    // The agent ends at once, and none that starts is one.
    let killer = "cp /usr/bin/trueup /root/trueup; cp /bin/false /usr/bin/broken; mv /usr/bin/broken /usr/bin/trueup; \
                  systemctl kill --signal=KILL trueup";
    let second = commit(&mut lab, "app.service", &oneshot(killer), "it ends the agent");
    host.await_that("grep -q ends /etc/app.conf");
    host.await_that("grep -q good /etc/app.conf");
    host.await_that("! test -e /var/lib/trueup/hand");
    assert!(host.holds("cmp -s /bin/false /usr/bin/trueup"), "it was undone by another");
    host.shell("mv /root/trueup /usr/bin/trueup; systemctl restart trueup");
    undone(&host, &first, &second, "not-settled");
    let third = commit(&mut lab, "app.service", &oneshot("exit 0"), "good");
    host.await_applied(&third);
}

#[test]
fn a_change_that_leaves_the_agent_without_usable_settings_is_undone() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/trueup/agent.d/70-fleet.toml", "[state]\nedits = \"2d\"\n");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "good\n");
    let first = lab.fleet.commit("good");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    set(&host, SOON);
    // By itself it is well, and so it is beside everything that the repository has; not beside what root has.
    lab.fleet.write("hosts/web-01/files/etc/trueup/agent.d/70-fleet.toml", "[change]\nsettle = \"4m\"\n");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "bad\n");
    let second = lab.fleet.commit("no time is left");
    undone(&host, &first, &second, "bad-settings");
    host.ok(&["systemctl", "restart", "trueup"]);
    undone(&host, &first, &second, "bad-settings");
}

#[test]
fn a_change_after_which_this_host_comes_up_again_and_again_is_undone_before_it_does() {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = commit(&mut lab, "app.service", &oneshot("true"), "good");
    let mut host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    set(&host, LATE);
    let boots = oneshot("cat /etc/app.conf >>/var/log/boots");
    let second = commit(&mut lab, "app.service", &boots, "it does not stay up");
    for boot in 1..=2 {
        host.await_status("it settles", |status| {
            status["running"]["doing"].as_str().is_some_and(|doing| doing.starts_with("settling"))
        });
        host.await_that(&format!("[ \"$(grep -c stay /var/log/boots)\" = {boot} ]"));
        host.shell("sync");
        host.cut();
    }
    undone(&host, &first, &second, "not-settled");
    assert_eq!(host.read("/var/log/boots"), "it does not stay up\n".repeat(2), "it was undone before anything started");
    let struck = host.journal(&["_SYSTEMD_UNIT=trueup-undo-boot.service"]);
    assert!(!struck.is_empty(), "while it came up");
}

#[test]
fn a_change_that_panics_the_kernel_is_undone_while_this_host_comes_up() {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = commit(&mut lab, "app.service", &oneshot("true"), "good");
    let mut host = lab.boot_vm("web-01", QUICK, &[], &deb());
    host.await_applied(&first);
    host.ok(&["sync"]);
    let second = commit(&mut lab, "app.service", &oneshot("echo c >/proc/sysrq-trigger"), "it panics");
    // In the pass, and at the next boot, which starts it once more.
    host.await_panics(2);
    undone(&host, &first, &second, "not-settled");
    let third = commit(&mut lab, "app.service", &oneshot("exit 0"), "good");
    host.await_applied(&third);
}

#[test]
fn a_package_that_takes_longer_than_the_deadline_is_neither_interrupted_nor_undone() {
    let Some(mut lab) = Lab::new(1) else { return };
    let slow = Package::new("slow", "1.0").script(
        "postinst",
        "#!/bin/sh\necho began >>/run/steps\nmkfifo /run/go\ncat /run/go >/dev/null\necho ended >>/run/steps\n",
    );
    lab.apt().publish(&[slow]);
    let first = commit(&mut lab, "app.service", &oneshot("true"), "good");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    set(&host, SOON);
    lab.fleet.write("hosts/web-01/host.toml", "[packages]\nslow = \"1.*\"\n[units]\n\"app.service\" = \"on\"\n");
    let second = lab.fleet.commit("it takes long");
    host.await_that("test -p /run/go");
    // Four looks ten seconds apart are longer than it has.
    let mut looks = std::collections::BTreeSet::new();
    while looks.len() < 4 {
        let before = host.unit("trueup-undo.service", "InvocationID");
        host.await_that(&format!(
            "[ \"$(systemctl show --value -p InvocationID trueup-undo.service)\" != \"{before}\" ]"
        ));
        looks.insert(host.unit("trueup-undo.service", "InvocationID"));
    }
    assert!(host.has("/var/lib/trueup/hand"), "it is armed all the time");
    host.shell("echo >/run/go");
    let status = host.await_applied(&second);
    assert_eq!(status["state"], "in-sync", "{status:#}");
    host.steps_are_whole();
    assert_eq!(host.package("slow").as_deref(), Some("1.0"));
    assert!(!host.has("/var/lib/trueup/hand"));
}

#[test]
fn without_its_timer_nothing_is_changed() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "good\n");
    let first = lab.fleet.commit("good");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    host.ok(&["systemctl", "mask", "trueup-undo.timer"]);
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "newer\n");
    let second = lab.fleet.commit("newer");
    let status =
        host.await_status("it is refused", |status| status["reason"] == "not-armed" && status["running"].is_null());
    assert!(status["message"].as_str().is_some_and(|said| said.contains("unmask trueup-undo.timer")), "{status:#}");
    assert_eq!(host.read("/etc/app.conf"), "good\n");
    assert!(host.run(&["trueup", "doctor"]).stdout.contains("trueup-undo.timer is masked"));
    host.ok(&["systemctl", "unmask", "trueup-undo.timer"]);
    host.ok(&["trueup", "sync"]);
    host.await_applied(&second);
}
