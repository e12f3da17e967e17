//! Secrets on a host whose agent runs: read with the host's own SSH key, and found nowhere but where they belong.
#![cfg(feature = "secrets")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use trueup::secret::{Recipient, seal};

use super::installed::QUICK;
use super::{Host, Lab};
use crate::sample::{self, Dice};

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
    grep -rIlaF -f /run/patterns /var/lib /var/cache /var/log /run /tmp /var/tmp /dev/shm /etc /root /usr/lib/systemd /core* 2>/dev/null
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
    silent_of(host, what, &CANARIES);
}

#[track_caller]
fn silent_of(host: &Host, what: &str, canaries: &[&str]) {
    let found = found(host, canaries);
    assert!(found.is_empty(), "{what}: {found:#?}");
}

/// Where else one of these is.
fn found(host: &Host, canaries: &[&str]) -> Vec<String> {
    let looked = host.run_with(&["sh", "-c", LOOK], format!("{}\n", canaries.join("\n")).as_bytes());
    let mut found: Vec<String> =
        looked.stdout.lines().filter(|line| *line != "/etc/app/key").map(str::to_owned).collect();
    // The disk as it is, whatever a process hides.
    for canary in canaries {
        let looked = Command::new("grep").args(["-rlaF", canary]).arg(host.root().join("var")).output().expect("grep");
        found.extend(String::from_utf8_lossy(&looked.stdout).lines().map(str::to_owned));
    }
    found
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

    // Not understood by the engine that reads it, which quotes its line.
    let line = "f+ /run/app 0600canary-engine-QQLM root root - x\n";
    lab.fleet.write("hosts/web-01/files/etc/tmpfiles.d/app.conf.age", sealed(line, &public));
    let quoted = commit(&mut lab, CANARIES[1], &public);
    let status = host.await_status("systemd-tmpfiles fails", |status| {
        status["revision"]["seen"] == *quoted && status["reason"] == "program-failed" && status["running"].is_null()
    });
    assert!(status.to_string().contains("what was said is not shown"), "{status:#}");
    assert_eq!(found(&host, &["canary-engine-QQLM"]), ["/etc/tmpfiles.d/app.conf"]);
    lab.fleet.remove("hosts/web-01/files/etc/tmpfiles.d/app.conf.age");

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

/// What every secret of a day has in it.
const OF_A_DAY: &str = "canary-day-";
/// So many passes are a day's, a minute from each to the next, and so many of them are done where not all is asked for.
const DAY: usize = 24 * 60;
const OF_IT: usize = 96;
/// So many things may happen, each as often as any other.
const EVENTS: usize = 16;

/// Something that happens on a day, the `n`th of it; what it is called.
fn happens(host: &Host, lab: &mut Lab, n: usize, what: usize, (public, stranger): (&str, &str)) -> &'static str {
    let text = format!("{OF_A_DAY}{n:04}");
    let drifts =
        |script: &str| drop(host.run_with(&["sh", "-c", script], format!("{OF_A_DAY}{n:04}-by-hand\n").as_bytes()));
    match what {
        0 | 1 => drop(commit(lab, &text, public)),
        2 => drop(commit(lab, &text, stranger)),
        3 => drop(commit(lab, &format!("{text} invalid"), public)),
        4 => drop(commit(lab, &format!("{text} bad"), public)),
        5 | 6 => drifts("cat >/etc/app/key"),
        7 => {
            drifts("rm -f /etc/app/key; mkdir -p /etc/app/key; cat >/etc/app/key/inner; sleep 0.2; rm -rf /etc/app/key")
        }
        8 => {
            host.run(&["trueup", "suspend", "file:/etc/app/key", "--for", "1h", "--reason", "a day"]);
            drifts("cat >/etc/app/key; trueup sync; trueup resume file:/etc/app/key");
        }
        9 => {
            let kept = host.shell("journalctl -b -q -o cat --output-fields=TRUEUP_KEPT TRUEUP_RESOURCE=file:/etc/app/key | grep -a '^k-' | tail -n 1 || true");
            host.run(&["trueup", "restore", kept.trim(), "--to", "/dev/shm/given-back"]);
            host.run(&["trueup", "restore", kept.trim()]);
            host.run(&["rm", "-f", "/dev/shm/given-back"]);
        }
        10 => drop(host.run(&["systemctl", "kill", "-s", "KILL", "trueup.service"])),
        11 => drop(host.run(&["systemctl", "restart", "trueup.service"])),
        12 => {
            commit(lab, &text, public);
            lab.fleet.write("hosts/web-01/host.toml", "");
            lab.fleet.remove("hosts/web-01/files/etc/app/key.age");
            lab.fleet.commit("no secret");
        }
        13 => drop(host.run(&["chmod", "644", "/etc/app/key"])),
        14 => drop(host.run(&["trueup", "retry"])),
        _ => drop(host.run(&["systemctl", "kill", "-s", "ABRT", "trueup.service"])),
    }
    [
        "a commit",
        "a commit",
        "one for somebody else",
        "one that is refused",
        "one that is undone",
        "an edit",
        "an edit",
        "a directory in its place",
        "an edit while suspended",
        "a restore",
        "a kill",
        "a restart",
        "a declaration that goes",
        "another mode",
        "another try",
        "a crash",
    ][what]
}

#[test]
fn a_secret_is_nowhere_else_over_a_day_of_passes() {
    let Some(mut lab) = Lab::new(1) else { return };
    let (private, public) = key(&lab, "host-key");
    let (_, stranger) = key(&lab, "other-key");
    let first = commit(&mut lab, &format!("{OF_A_DAY}0000"), &public);
    let mut files = lab.agent_files("interval = \"1d\"\n");
    files.push(("/etc/ssh/ssh_host_ed25519_key".to_owned(), private));
    let at_once = b"[Service]\nLimitCORE=infinity\nRestartSec=50ms\n".to_vec();
    files.push(("/etc/systemd/system/trueup.service.d/cores.conf".to_owned(), at_once));
    let host = lab.boot_plain(super::Variant::Bookworm, "web-01", &files);
    host.ok(&["chmod", "600", "/etc/ssh/ssh_host_ed25519_key"]);
    host.install(&super::installed::deb());
    host.await_applied(&first);

    // One pass for each thing that happens, and two or three in which nothing does.
    let passes = if sample::long() { DAY } else { OF_IT };
    let mut dice = Dice::new();
    let (mut done, mut looks, mut n, mut last_pass) = (0, 0, 0, String::new());
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    let mut left: Vec<usize> = Vec::new();
    while done < passes {
        n += 1;
        assert!(n < 4 * passes, "{done} passes only: {told:?}");
        if left.is_empty() {
            left = (0..EVENTS).collect();
        }
        let event = left.swap_remove(dice.below(left.len()));
        let what = happens(&host, &mut lab, n, event, (&public, &stranger));
        *told.entry(what).or_default() += 1;
        for _ in 0..=1 + dice.below(3) {
            // Where the agent has just ended nobody answers.
            let looked = host.shell("trueup sync >/dev/null 2>&1 || true; trueup status --json || true");
            let status: serde_json::Value = serde_json::from_str(&looked).unwrap_or_default();
            let ended = status["last"]["pass"].as_str().unwrap_or_default().to_owned();
            done += usize::from(!ended.is_empty() && ended != last_pass);
            last_pass = ended;
        }
        if dice.below(6) == 0 {
            looks += 1;
            silent_of(&host, &format!("{n}: {what}"), &[OF_A_DAY]);
        }
    }
    println!("{done} passes, {looks} looks: {told:?}");
    silent_of(&host, "a day", &[OF_A_DAY]);

    // Where it belongs it is; and who looks for it would find it elsewhere.
    host.run(&["trueup", "resume", "file:/etc/app/key"]);
    let last = commit(&mut lab, &format!("{OF_A_DAY}last"), &public);
    host.run(&["trueup", "sync"]);
    host.run(&["trueup", "retry"]);
    host.await_applied(&last);
    assert_eq!(host.read("/etc/app/key"), format!("{OF_A_DAY}last\n"));
    host.shell("cp /etc/app/key /var/tmp/copy");
    let found = found(&host, &[OF_A_DAY]);
    assert!(found.iter().any(|line| line == "/var/tmp/copy"), "{found:?}");
}
