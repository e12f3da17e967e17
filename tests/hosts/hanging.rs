//! What is mounted and does not answer: whoever looks at anything of it hangs. The agent does not, names it, and goes on
//! with everything else.

use std::process::Command;

use nix::sys::signal::Signal;

use super::installed::{QUICK, deb};
use super::server::{Says, Server, bound_to_us};
use super::{Host, Lab, Variant};

/// A file system that is mounted on the host and served from the machine; `file` is in it.
fn far_away(host: &Host, point: &str) -> Server {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hosts/fuse.py");
    let mut command: Command = bound_to_us("python3");
    command.args([script, &host.outside("1"), point, "far away\n"]);
    Server::start(command, Says::Stdout, "mounted")
}

fn declare(lab: &mut Lab, port: &str) -> String {
    let exclusive = "[files.\"/etc/app.d\"]\ntype = \"directory\"\nexclusive = true\n";
    let unit = "[units.\"uses.service\"]\nactive = true\nwatch = [\"/srv/far/file\"]\n";
    lab.fleet.write("hosts/web-01/host.toml", format!("{exclusive}{unit}"));
    lab.fleet.write("hosts/web-01/units/uses.service", "[Service]\nExecStart=/bin/sleep infinity\n");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", format!("port = {port}\n"));
    lab.fleet.write("hosts/web-01/files/srv/far/file", "far away\n");
    lab.fleet.commit(port)
}

/// Those who ask whether it answers.
fn asking(host: &Host) -> usize {
    host.run(&["pgrep", "-x", "stat"]).stdout.lines().count()
}

#[test]
fn what_does_not_answer_fails_by_name_and_everything_else_is_converged_and_watched() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    let first = lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    let server = far_away(&host, "/srv/far");
    let second = declare(&mut lab, "80");
    host.await_applied(&second);
    host.await_status("in sync", |status| status["state"] == "in-sync" && status["running"].is_null());

    // Between two passes, so that none is at it just now.
    host.ok(&["systemctl", "stop", "trueup"]);
    server.signal(Signal::SIGSTOP);
    host.ok(&["systemctl", "start", "trueup"]);
    let hanging = host.await_status("what hangs is told", |status| status["reason"] == "not-answering");
    assert_eq!(hanging["state"], "degraded", "{hanging:#}");
    let attention = &hanging["attention"][0];
    assert_eq!((&attention["id"], &attention["what"]), (&"file:/srv/far/file".into(), &"failed".into()), "{hanging:#}");
    let told = attention["message"].as_str().expect("a message");
    assert!(told.contains("what is mounted at /srv/far (fuse.far) does not answer"), "{told}");
    assert_eq!(host.run(&["trueup", "status"]).status, 1);

    // The rest is watched, put back and converged; nobody else is sent after the one who hangs.
    for _ in 0..2 {
        host.await_journal(&["TRUEUP_EVENT=drift", "TRUEUP_RESOURCE=file:/etc/app.conf"], || {
            host.write("/etc/app.conf", "by hand\n");
        });
        host.await_that("grep -qx 'port = 80' /etc/app.conf");
    }
    host.write("/etc/app.d/stranger", "x");
    host.await_that("! [ -e /etc/app.d/stranger ]");
    declare(&mut lab, "8080");
    host.await_that("grep -qx 'port = 8080' /etc/app.conf");
    host.await_passes(2);
    assert_eq!(asking(&host), 1);
    assert!(host.holds("timeout 60 systemctl restart trueup"), "whoever hangs does not keep the agent from its end");
    host.await_status("told by the next agent, too", |status| status["reason"] == "not-answering");
    let plan = host.run(&["timeout", "60", "trueup", "plan"]);
    assert!(plan.stdout.contains("does not answer"), "{plan:#?}");

    server.signal(Signal::SIGCONT);
    host.await_status("in sync again", |status| status["state"] == "in-sync" && status["running"].is_null());
    host.await_that("! pgrep -x stat");
    let drift = host.journal(&["TRUEUP_EVENT=drift", "TRUEUP_RESOURCE=file:/srv/far/file"]);
    assert_eq!(drift.len(), 0, "nothing of it was taken for drift: {drift:#?}");
}

#[test]
fn one_that_no_signal_ends_does_not_keep_the_agent_from_its_end() {
    let Some(mut lab) = Lab::new(1) else { return };
    let commit = declare(&mut lab, "80");
    let host = lab.boot_plain(Variant::Bookworm, "web-01", &lab.agent_files(QUICK));
    let server = far_away(&host, "/srv/far");
    host.install(&deb());
    host.await_applied(&commit);
    host.ok(&["systemctl", "stop", "trueup"]);
    // Requests are taken, and not answered.
    server.signal(Signal::SIGUSR1);
    host.ok(&["systemctl", "start", "trueup"]);
    host.await_status("what hangs is told", |status| status["reason"] == "not-answering");
    host.ok(&["pkill", "-KILL", "-x", "stat"]);
    assert_eq!(asking(&host), 1, "nobody ends it");
    assert!(host.holds("timeout 60 systemctl restart trueup"));
    server.signal(Signal::SIGUSR2);
    host.await_status("in sync again", |status| status["state"] == "in-sync" && status["running"].is_null());
    host.await_that("! pgrep -x stat");
}
