//! Secrets on a host whose agent runs: read with the host's own SSH key, and found nowhere but where they belong.
#![cfg(feature = "secrets")]

use std::fs;
use std::process::Command;

use trueup::secret::{Recipient, seal};

use super::installed::QUICK;
use super::{Host, Lab};

const CANARIES: [&str; 4] = ["canary-one-PUJB", "canary-two-XVQK", "canary-bad-HGTS", "canary-by-hand-ZRWM"];

/// Watches both, and is not well on a key that is bad; a judge reads the key beforehand and says what it read.
const APP: &str = "[Service]\nExecStart=/bin/sh -c '! grep -q bad /etc/app/key && exec sleep infinity'\n\
                   [Install]\nWantedBy=multi-user.target\n";
const MANIFEST: &str = "[units.\"app.service\"]\nenabled = true\nactive = true\nwatch = [\"/etc/app/*\"]\n\
                        [files.\"/etc/app/key\"]\nvalidate = [\"sh\", \"-c\", \"cat {}; ! grep -q invalid {}\"]\n";

/// A pair of SSH keys: the private one, and its public half.
fn key(lab: &Lab, name: &str) -> (Vec<u8>, String) {
    let path = lab.directory(name);
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status();
    assert!(made.expect("ssh-keygen is there").success());
    let public = fs::read_to_string(path.with_extension("pub")).expect("a public half");
    (fs::read(&path).expect("a private half"), public)
}

fn sealed(text: &str, to: &str) -> Vec<u8> {
    seal(text.as_bytes(), &[Recipient::parse(to).expect("a key")], true).expect("sealed")
}

/// Commits `text` as the secret of the host, for who has the key `to`.
fn commit(lab: &mut Lab, text: &str, to: &str) -> String {
    lab.fleet.write("hosts/web-01/host.toml", MANIFEST);
    lab.fleet.write("hosts/web-01/units/app.service", APP);
    lab.fleet.write("hosts/web-01/files/etc/app/key.age", sealed(&format!("{text}\n"), to));
    lab.fleet.commit("another key")
}

/// What a process says of itself to others, where canaries are looked for besides the disk; the looker names them in its
/// input and not in its arguments.
const LOOK: &str = "
umask 077
cat >/run/patterns
{
    grep -rIlaF -f /run/patterns /var/lib /var/cache /var/log /run /tmp /var/tmp /dev/shm /etc /root /usr/lib/systemd 2>/dev/null
    grep -laF -f /run/patterns /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null
    journalctl --no-pager -o export | grep -aF -f /run/patterns | sed 's/^/journal: /'
    for verb in status 'status --json' history 'history --json' drift 'drift --json' plan 'plan --json' doctor 'restore' 'restore --json'; do
        trueup $verb 2>&1 | grep -aF -f /run/patterns | sed \"s/^/trueup $verb: /\"
    done
    for method in Status Resources Drift Plan History; do
        varlinkctl call /run/trueup/trueup.sock io.trueup.Agent.$method '{}' 2>&1 | grep -aF -f /run/patterns | sed \"s/^/$method: /\"
    done
} | grep -v '^/run/patterns$'
true
";

/// No canary is anywhere but at `/etc/app/key`.
#[track_caller]
fn silent(host: &Host, what: &str) {
    let found = host.run_with(&["sh", "-c", LOOK], format!("{}\n", CANARIES.join("\n")).as_bytes());
    let told: Vec<&str> = found.stdout.lines().filter(|line| *line != "/etc/app/key").collect();
    assert!(told.is_empty(), "{what}: {told:#?}\n{}", found.stderr);
    // The disk as it is, whatever a process hides.
    for canary in CANARIES {
        let found = Command::new("grep").args(["-rlaF", canary]).arg(host.root().join("var")).output().expect("grep");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{what}");
    }
}

#[test]
fn a_secret_is_nowhere_but_at_its_path_over_failures_drift_undo_and_a_crash() {
    let Some(mut lab) = Lab::new(1) else { return };
    let (private, public) = key(&lab, "host-key");
    let (_, stranger) = key(&lab, "other-key");
    let first = commit(&mut lab, CANARIES[0], &public);
    let mut files = lab.agent_files(&format!("{QUICK}[change]\nsettle = \"1s\"\n"));
    files.push(("/etc/ssh/ssh_host_ed25519_key".to_owned(), private));
    let cores = b"[Service]\nLimitCORE=infinity\n".to_vec();
    files.push(("/etc/systemd/system/trueup.service.d/cores.conf".to_owned(), cores));
    let host = lab.boot_plain(super::Variant::Bookworm, "web-01", &files);
    host.ok(&["chmod", "600", "/etc/ssh/ssh_host_ed25519_key"]);
    host.install(&super::installed::deb());
    host.await_applied(&first);
    let is = |canary: &str| assert_eq!(host.read("/etc/app/key"), format!("{canary}\n"));
    is(CANARIES[0]);
    assert_eq!(host.ok(&["stat", "-c", "%a %U %G", "/etc/app/key"]).trim(), "600 root root");
    silent(&host, "a first pass");

    // Not for this host: the old one stays, and one line says what to do.
    let second = commit(&mut lab, CANARIES[1], &stranger);
    let status = host.await_status("it cannot be read", |status| {
        status["revision"]["seen"] == *second && status["reason"] == "secret-not-for-us" && status["running"].is_null()
    });
    assert!(status.to_string().contains("trueup secret rekey"), "{status:#}");
    is(CANARIES[0]);
    silent(&host, "one that is not for this host");

    // Refused by its judge, which says what it read.
    let third = commit(&mut lab, "canary-bad-HGTS invalid", &public);
    let status = host.await_status("it is refused", |status| {
        status["revision"]["seen"] == *third && status["reason"] == "validation-failed" && status["running"].is_null()
    });
    assert!(status.to_string().contains("what it said is not shown"), "{status:#}");
    is(CANARIES[0]);
    silent(&host, "one that its judge refuses");

    let fourth = commit(&mut lab, CANARIES[1], &public);
    host.await_applied(&fourth);
    is(CANARIES[1]);

    // Somebody writes over it: it is put back, and what was written is kept, encrypted.
    let told = host.await_journal(&["TRUEUP_EVENT=drift", "TRUEUP_RESOURCE=file:/etc/app/key"], || {
        host.shell("echo canary-by-hand-ZRWM >/etc/app/key");
    });
    host.await_that("grep -q canary-two-XVQK /etc/app/key");
    assert!(told.to_string().contains("content differs (secret)"), "{told:#}");
    silent(&host, "drift");
    let copy = told["TRUEUP_KEPT"].as_str().expect("what stood there is kept").to_owned();
    host.ok(&["trueup", "restore", &copy, "--to", "/dev/shm/given-back"]);
    assert_eq!(host.ok(&["cat", "/dev/shm/given-back"]), "canary-by-hand-ZRWM\n");
    host.ok(&["rm", "/dev/shm/given-back"]);

    // The unit does not bear the next one: what it was undone to was encrypted until then.
    let fifth = commit(&mut lab, CANARIES[2], &public);
    let status = host.await_status("it is undone", |status| {
        status["state"] == "rolled-back" && status["revision"]["seen"] == *fifth && status["running"].is_null()
    });
    assert_eq!(status["revision"]["applied"], *fourth, "{status:#}");
    is(CANARIES[1]);
    silent(&host, "an undo");

    // An agent that has read a secret and crashes leaves no core, whatever its limits are.
    let pid = host.agent();
    assert!(host.ok(&["cat", &format!("/proc/{pid}/limits")]).contains("Max core file size        unlimited"));
    host.ok(&["kill", "-ABRT", &pid]);
    host.await_that(&format!("[ \"$(systemctl show -p MainPID --value trueup)\" -gt 0 ] && [ ! -d /proc/{pid} ]"));
    assert_eq!(host.shell("ls /var/tmp /var/lib/systemd/coredump / | grep '^core' || true"), "");
    silent(&host, "a crash");
}
