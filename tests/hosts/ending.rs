//! What ends the agent does not wait for what need not end by itself: each restart and stop here has a short time.

use super::apt::Package;
use super::installed::QUICK;
use super::server::{Says, Server, bound_to_us};
use super::{Host, Lab};

/// `systemctl VERB trueup`, which has half a minute: the unit itself would have ten.
#[track_caller]
fn soon(host: &Host, verb: &str) {
    let output = host.run(&["timeout", "30", "systemctl", verb, "trueup"]);
    assert_eq!(output.status, 0, "{verb}: {output:?}");
}

#[test]
fn a_process_that_stayed_behind_and_does_not_care_for_signals_goes_with_the_agent() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/tmpfiles.d/app.conf", "d /run/app\n");
    let first = lab.fleet.commit("a directory");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    let leaving = "#!/bin/sh\nsetsid sh -c \"trap '' TERM HUP; exec sleep 4711\" </dev/null >/dev/null 2>&1 &\n";
    host.write("/usr/local/sbin/systemd-tmpfiles", leaving);
    host.shell("chmod 755 /usr/local/sbin/systemd-tmpfiles; echo by hand >/etc/tmpfiles.d/app.conf");
    let left = "pgrep -fx 'sleep 4711' >/dev/null";
    host.await_that(left);
    soon(&host, "restart");
    assert!(!host.holds(left));
    host.await_applied(&first);

    // Nor does it keep an agent away that was killed.
    host.shell("echo by hand >/etc/tmpfiles.d/app.conf");
    host.await_that(left);
    host.await_applied(&first);
    let before = host.agent();
    host.shell("systemctl kill --kill-who=main -s KILL trueup");
    host.await_that(&format!("[ \"$(systemctl show --value -p MainPID trueup)\" != {before} ]"));
    host.await_applied(&first);
    assert!(!host.holds(left));
}

#[test]
fn an_agent_that_waits_for_the_lock_of_packages_ends_at_once_and_owes_the_package() {
    let Some(mut lab) = Lab::new(1) else { return };
    let postinst = "#!/bin/sh\nwhile [ -e /run/wait ]; do sleep 0.1; done\n";
    lab.apt().publish(&[Package::new("slow", "1.0").script("postinst", postinst), Package::new("tool", "1.0")]);
    lab.fleet.write("hosts/web-01/host.toml", "[packages]\n");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    let first = lab.fleet.commit("no package");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);

    host.write("/run/wait", "");
    let somebody = host.spawn(&["apt-get", "-q", "-y", "install", "slow"], None);
    host.await_that("dpkg-query -W -f '${db:Status-Status}' slow 2>/dev/null | grep -q half-configured");
    lab.fleet.write("hosts/web-01/host.toml", "[packages]\ntool = \"present\"\n");
    let second = lab.fleet.commit("a package");
    let waiting = |status: &serde_json::Value| {
        status["running"]["doing"].as_str().is_some_and(|doing| doing.starts_with("waiting for"))
    };
    host.await_status("it waits for the lock", waiting);
    soon(&host, "restart");
    host.await_status("it waits again", waiting);
    soon(&host, "stop");
    host.ok(&["rm", "/run/wait"]);
    assert_eq!(somebody.wait().status, 0);
    host.ok(&["systemctl", "start", "trueup"]);
    host.await_applied(&second);
    assert_eq!(host.package("tool").as_deref(), Some("1.0"));
    assert_eq!(host.journal(&["TRUEUP_EVENT=failed"]).len(), 0, "to be stopped is no failure");
}

#[test]
fn a_first_start_is_withheld_until_the_package_is_there_though_the_agent_was_killed() {
    let Some(mut lab) = Lab::new(1) else { return };
    let service = "/bin/sh -c 'cat /etc/slow.conf >>/run/started; exec sleep infinity'";
    let wait = "while [ -e /run/wait ]; do sleep 0.1; done";
    lab.apt().publish(&[Package::new("slow", "1.0")
        .file("/etc/slow.conf", "as packaged\n", 0o644)
        .script("conffiles", "/etc/slow.conf\n")
        .service(service, wait)]);
    lab.fleet.write("hosts/web-01/host.toml", "[packages]\n");
    let first = lab.fleet.commit("no package");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);

    host.write("/run/wait", "");
    let on = "[packages]\nslow = \"present\"\n[units]\n\"slow.service\" = \"on\"\n";
    lab.fleet.write("hosts/web-01/host.toml", on);
    lab.fleet.write("hosts/web-01/files/etc/slow.conf", "from the fleet\n");
    let second = lab.fleet.commit("a package");
    let inside = "dpkg-query -W -f '${db:Status-Status}' slow 2>/dev/null | grep -q half-configured";
    host.await_that(inside);
    host.shell("systemctl kill --kill-who=main -s KILL trueup");
    host.await_status("it waits for what it began", |status| {
        status["running"]["doing"].as_str().is_some_and(|doing| doing.starts_with("waiting for"))
    });
    soon(&host, "stop");
    assert!(host.has("/usr/sbin/policy-rc.d"));
    assert!(host.holds(inside));
    host.ok(&["rm", "/run/wait"]);
    host.await_that("dpkg-query -W -f '${db:Status-Status}' slow | grep -qx installed");
    host.await_that("! systemctl list-units --plain --no-legend 'trueup-packages-*' | grep -q .");
    assert!(!host.has("/run/started"), "not with the package's own configuration");
    assert!(!host.has("/usr/sbin/policy-rc.d"), "it goes with the transaction");
    host.ok(&["systemctl", "start", "trueup"]);
    host.await_applied(&second);
    assert_eq!(host.read("/run/started"), "from the fleet\n", "once, with the fleet's own configuration");
    assert_eq!(host.unit_state("slow.service"), "active enabled");
    assert!(!host.has("/usr/sbin/policy-rc.d"));
}

#[test]
fn a_package_whose_script_waits_for_the_agent_to_restart_is_installed() {
    let Some(mut lab) = Lab::new(1) else { return };
    let postinst = "#!/bin/sh\nset -e\nsystemctl restart trueup\necho theirs >/etc/plugin.conf.dpkg-dist\necho done >>/run/configured\n";
    lab.apt().publish(&[Package::new("plugin", "1.0").script("postinst", postinst)]);
    lab.fleet.write("hosts/web-01/host.toml", "[packages]\n");
    let first = lab.fleet.commit("no package");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    lab.fleet.write("hosts/web-01/host.toml", "[packages]\nplugin = \"present\"\n");
    let second = lab.fleet.commit("a package");
    host.await_applied(&second);
    assert_eq!(host.read("/run/configured"), "done\n", "once, and not cut short");
    assert_eq!(host.journal(&["TRUEUP_EVENT=failed"]).len(), 0, "to be restarted is no failure");
    // What it laid down once its agent had gone.
    host.await_that("journalctl -q -o cat TRUEUP_EVENT=left-beside | grep -q .");
    let told = host.journal(&["TRUEUP_EVENT=left-beside"]);
    assert_eq!(told.len(), 1, "once: {told:#?}");
    assert_eq!(told[0]["TRUEUP_RESOURCE"], "file:/etc/plugin.conf", "{told:#?}");
    assert_eq!(host.shell("ls /var/lib/trueup/packages"), "");
}

#[test]
fn an_agent_whose_source_does_not_answer_ends_at_once() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    let first = lab.fleet.commit("web-01");
    let address = lab.network.address();
    // It takes connections, and says nothing.
    let mut silent = bound_to_us("python3");
    let script = "import socket, time; s = socket.create_server(('ADDRESS', 8444)); print('up'); time.sleep(4711)";
    silent.args(["-uc", &script.replace("ADDRESS", &address)]);
    let _silent = Server::start(silent, Says::Stdout, "up");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);

    let fragment = format!("[source]\nurl = \"https://{address}:8444/fleet.git\"\ntimeout = \"10m\"\n");
    host.write("/etc/trueup/agent.d/silent.toml", fragment);
    soon(&host, "reload");
    let asking = "ss -Htn state established dport = 8444 | grep -q .";
    host.await_that(asking);
    // Meanwhile whoever asks for the status is answered.
    assert!(host.status()["running"]["pass"].is_string());
    soon(&host, "restart");
    host.await_that(asking);
    soon(&host, "stop");
    host.no_agent();
}
