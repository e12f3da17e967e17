//! The agent is killed at any instant of a pass, the plug is pulled in one, a pass hangs: systemd starts the agent
//! again, and it converges by itself, with nothing owed lost and nothing left behind.

use serde_json::{Value, json};

use super::apt::Package;
use super::installed::{QUICK, deb};
use super::server::{Says, Server, bound_to_us};
use super::{Host, Lab, Variant};
use crate::sample::{self, Dice};

/// The calls with which what a step does, or the record of it, comes into force, and how many of them there are from one
/// that is struck to the next. strace(1) counts each call by itself, in each thread. A pass has a thread of its own, in
/// which a revision of this test takes 19 of `rename` (our own documents), 6 of `renameat` and 1 of `renameat2` (files of
/// the host), 35 of `unlink`, 1 of `unlinkat` and 53 of `fsync`: `tests/long` strikes at each of them, other
/// runs at some of them.
const CALLS: [(&str, usize); 6] =
    [("rename", 1), ("renameat", 1), ("renameat2", 1), ("unlinkat", 1), ("unlink", 6), ("fsync", 9)];

/// Restarts at once, so that a test of many is quick.
const AT_ONCE: &str = "[Service]\nRestartSec=50ms\n";

/// What a unit that counts its starts is.
fn service(name: &str, n: usize) -> String {
    format!(
        "[Unit]\nDescription={n}\n[Service]\nExecStart=/bin/sh -c 'echo {n} >>/srv/{name}.starts; exec sleep infinity'\n\
         [Install]\nWantedBy=multi-user.target\n"
    )
}

/// The `n`th revision: something of each kind changes from each to the next.
fn declare(lab: &mut Lab, n: usize) -> String {
    let put = |path: &str, content: String| lab.fleet.write(&format!("hosts/web-01/{path}"), content);
    let package = ["absent", "present"][n % 2];
    put(
        "host.toml",
        format!(
            "[packages]\ntool = \"{package}\"\n[units.\"beat.service\"]\nenabled = true\nactive = true\n\
             [units.\"tick.service\"]\nenabled = true\nactive = true\nwatch = [\"/etc/app/**\"]\n"
        ),
    );
    for file in ["one", "two", "three"] {
        put(&format!("files/etc/app/{file}"), format!("{n} {file}\n").repeat(50));
    }
    put(&format!("files/etc/only-{}", n % 2), "here\n".to_owned());
    if n > 0 {
        lab.fleet.remove(&format!("hosts/web-01/files/etc/only-{}", (n + 1) % 2));
    }
    put("units/beat.service", service("beat", n));
    put("units/tick.service", service("tick", 0));
    put("files/etc/sysusers.d/app.conf", format!("u app{n} -\n"));
    put("files/etc/tmpfiles.d/app.conf", format!("d /srv/made-{n} 0750 root root\n"));
    lab.fleet.commit(&format!("revision {n}"))
}

/// Everything is as the `n`th revision has it, and each restart that was owed was done once.
#[track_caller]
fn holds(host: &Host, n: usize, what: &str) {
    for file in ["one", "two", "three"] {
        assert_eq!(host.read(&format!("/etc/app/{file}")), format!("{n} {file}\n").repeat(50), "{what}");
    }
    let only = [format!("/etc/only-{}", n % 2), format!("/etc/only-{}", (n + 1) % 2)];
    assert_eq!(only.map(|path| host.has(&path)), [true, false], "{what}");
    assert_eq!(host.package("tool").is_some(), n % 2 == 1, "{what}");
    let script = format!("getent passwd app{n} && test -d /srv/made-{n}");
    assert!(host.holds(&script), "{what}: a file of sysusers.d or tmpfiles.d was not heeded");
    let starts: String = (0..=n).map(|n| format!("{n}\n")).collect();
    assert_eq!(host.read("/srv/beat.starts"), starts, "{what}: not once for each unit file");
    assert_eq!(
        host.read("/srv/tick.starts"),
        "0\n".repeat(n + 1),
        "{what}: not once for each change of what it watches"
    );
    assert_eq!(host.unit_state("beat.service"), "active enabled", "{what}");
    assert_eq!(host.unit("beat.service", "Description"), n.to_string(), "{what}");
    assert_eq!(host.shell("find /etc /srv /usr/sbin /run -xdev -name '*.trueup-*' -o -name policy-rc.d"), "", "{what}");
    assert_eq!(host.ok(&["dpkg", "--audit"]), "", "{what}");
}

/// What trueup keeps of its own; digests are shown as such. What was put back, as a package that dpkg left half done, is
/// counted for a while.
fn own(host: &Host) -> String {
    host.shell("cd /var/lib/trueup && find . -not -name 'experience*' -printf '%p %m\\n' | sed -E 's/[0-9a-f]{40,}/DIGEST/g' | sort")
}

/// Looks at a file all the time, and says so where it is not whole or not there.
const ALWAYS_WHOLE: &str = "while sleep 0.02; do for f in one two three; do
    [ \"$(uniq /etc/app/$f | wc -l)\" = 1 ] || { echo $f; cat /etc/app/$f; }; done; done >/run/not-whole 2>&1";

impl Host {
    /// Kills the agent at the `n`th `call` of any of its threads, from now on, for as long as this is not dropped.
    fn strike(&self, call: &str, n: usize) -> Server {
        let mut strace = bound_to_us("strace");
        strace.args(["-f", "-b", "execve", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        strace.args(["-e", &format!("inject={call}:signal=KILL:when={n}"), "-p", &self.outside(&self.agent())]);
        Server::start(strace, Says::Stderr, "attached")
    }
}

#[test]
fn killed_between_any_two_steps_it_converges_by_itself_restarts_what_is_owed_once_and_leaves_nothing() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[Package::new("tool", "1.0")]);
    let first = declare(&mut lab, 0);
    let host = lab.boot_installed("web-01", QUICK);
    host.write("/etc/systemd/system/trueup.service.d/50.conf", AT_ONCE);
    host.ok(&["systemctl", "daemon-reload"]);
    host.await_applied(&first);
    let mut n = 1;
    let revision = declare(&mut lab, n);
    host.await_applied(&revision);
    holds(&host, n, "unharmed");
    let kept = own(&host);
    let mut reader = host.spawn(&["sh", "-c", ALWAYS_WHOLE], None);

    let (all, mut dice) = (sample::long(), Dice::new());
    let mut told = Vec::new();
    for (call, stride) in CALLS {
        let mut struck = 0;
        let (first, stride) = if all { (1, 1) } else { (1 + dice.below(stride), stride) };
        for at in (first..).step_by(stride) {
            let what = format!("{call} {at}");
            let agent = host.agent();
            let strike = host.strike(call, at);
            n += 1;
            let revision = declare(&mut lab, n);
            host.await_applied(&revision);
            let unharmed = host.agent() == agent;
            drop(strike);
            holds(&host, n, &what);
            assert_eq!(own(&host), kept, "{what}");
            if unharmed {
                break;
            }
            struck += 1;
        }
        told.push(format!("{struck} of {call}"));
    }
    reader.end();
    println!("killed at {}", told.join(", "));
    assert_eq!(host.read("/run/not-whole"), "");
    assert!(n > 30, "{told:?}");
}

/// How many files change at once, so that there is time to pull the plug between the first and the last.
const FILES: usize = 400;

/// Remembers what it read at its start.
const READER: &str = "[Service]\nExecStart=/bin/sh -c 'cat /srv/app/* | cut -d\" \" -f1 | uniq >/run/read; exec sleep infinity'\n\
    [Install]\nWantedBy=multi-user.target\n";

#[test]
fn after_the_plug_is_pulled_in_a_pass_of_the_agent_it_converges_by_itself_and_owes_nothing() {
    let Some(mut lab) = Lab::new(1) else { return };
    let declare = |lab: &mut Lab, what: &str| {
        for n in 0..FILES {
            lab.fleet.write(&format!("hosts/web-01/files/srv/app/{n:03}"), format!("{what} {n:03}\n").repeat(50));
        }
        lab.fleet.write(
            "hosts/web-01/host.toml",
            "[units.\"reader.service\"]\nenabled = true\nactive = true\nwatch = [\"/srv/app/**\"]\n",
        );
        lab.fleet.write("hosts/web-01/units/reader.service", format!("[Unit]\nDescription={what}\n{READER}"));
        lab.fleet.write("hosts/web-01/files/etc/sysusers.d/app.conf", format!("u app-{what} -\n"));
        lab.fleet.commit(what)
    };
    let first = declare(&mut lab, "old");
    let mut host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);

    for (what, before) in [("new", "old"), ("newest", "new")] {
        let revision = declare(&mut lab, what);
        // Somewhere in the middle: when the first that is written is seen, whichever it is.
        host.shell(&format!("until grep -rqs '^{what} ' /srv/app; do :; done"));
        // Nobody starts the agent again before it was looked at what is there.
        std::os::unix::fs::symlink("/dev/null", host.root().join("etc/systemd/system/trueup.service")).expect("masked");
        host.cut();

        let content = host.shell("cd /srv/app; for n in *; do uniq $n; done");
        let lines: Vec<&str> = content.lines().collect();
        assert_eq!(lines.len(), FILES, "never a mix");
        for (n, line) in lines.iter().enumerate() {
            assert!([format!("{what} {n:03}"), format!("{before} {n:03}")].contains(&(*line).to_owned()), "{line}");
        }
        assert!(lines.iter().any(|line| line.starts_with(before)), "it was cut too late to show anything");

        host.shell("rm /etc/systemd/system/trueup.service; systemctl daemon-reload; systemctl start --no-block trueup");
        host.await_applied(&revision);
        assert_eq!(host.shell("cat /srv/app/* | uniq | cut -d' ' -f1 | uniq"), format!("{what}\n"));
        assert_eq!(host.read("/run/read"), format!("{what}\n"), "it runs with what it watches");
        assert_eq!(host.unit("reader.service", "Description"), what);
        assert!(host.holds(&format!("getent passwd app-{what}")));
        assert_eq!(host.shell("find /etc /srv -xdev -name '*.trueup-*'"), "");
        assert_eq!(host.shell("find /var/lib/trueup -name '*~' -path '*~'"), "");
    }
}

/// What of the status says what holds the agent back, as it must be after whatever happens.
fn brakes(status: &Value) -> Value {
    let attention = status["attention"].as_array().expect("a list").iter();
    let contested = attention.filter(|one| one["what"] == "contested").map(|one| json!([one["id"], one["next"]]));
    json!({
        "update": status["update"],
        "approved": status["approved"],
        "rolled back": status["rolled_back"],
        "suspended": status["suspended"],
        "contested": contested.collect::<Vec<Value>>(),
    })
}

/// How often the unit that fails was tried, and when it is tried next.
#[track_caller]
fn tries(status: &Value) -> (u64, i64) {
    let attention = status["attention"].as_array().expect("a list");
    let failed = attention.iter().find(|one| one["id"] == "unit:bad.service");
    let failed = failed.unwrap_or_else(|| panic!("it does not fail: {status:#}"));
    (failed["attempts"].as_u64().expect("tried"), failed["next"].as_i64().expect("tried again"))
}

#[test]
fn whatever_holds_it_back_survives_a_restart_a_kill_and_the_plug() {
    let Some(mut lab) = Lab::new(1) else { return };
    for name in ["fought", "suspended", "other"] {
        lab.fleet.write(&format!("hosts/web-01/files/etc/{name}"), "ours\n");
    }
    lab.fleet.write(
        "hosts/web-01/units/bad.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/false\n",
    );
    lab.fleet.write("hosts/web-01/host.toml", "[units.\"bad.service\"]\nactive = true\n");
    let first = lab.fleet.commit("web-01");
    let mut host = lab.boot_installed("web-01", &format!("{QUICK}[policy]\nupdate = \"hold\"\n"));
    host.await_status("it is seen", |status| status["reason"] == "held");
    host.ok(&["trueup", "approve"]);
    host.await_status("all but one holds", |status| status["resources"]["failed"] == 1);

    let mut writer = host.spawn(&["sh", "-c", "while sleep 0.5; do echo theirs >/etc/fought; done"], None);
    host.await_status("contested", |status| status["resources"]["contested"] == 1);
    writer.end();
    host.write("/etc/fought", "theirs\n");
    host.ok(&["trueup", "suspend", "file:/etc/suspended", "--for", "2h", "--reason", "INC-4711"]);
    host.write("/etc/suspended", "theirs\n");
    lab.fleet.write("hosts/web-01/files/etc/other", "newer\n");
    let second = lab.fleet.commit("not approved");
    let status = host.await_status("it is seen", |status| {
        status["revision"]["seen"] == *second && status["resources"]["suspended"] == 1 && status["running"].is_null()
    });
    let (held, mut tried) = (brakes(&status), tries(&status));
    assert_eq!(held["approved"]["commit"], first);
    assert_eq!(held["suspended"][0]["reason"], "INC-4711");
    assert_eq!(held["contested"][0][0], "file:/etc/fought");

    let mut still_held = |host: &Host, what: &str| {
        host.await_passes(2);
        let status = host.await_status("nothing runs", |status| status["running"].is_null());
        assert_eq!(brakes(&status), held, "{what}");
        // It is tried again at its time and no sooner; a test that takes that long sees the next try.
        let (attempts, next) = tries(&status);
        let now: i64 = host.ok(&["date", "+%s"]).trim().parse().expect("a number");
        assert!(
            (attempts, next) == tried || now >= tried.1 && attempts == tried.0 + 1,
            "{what}: {tried:?} → {attempts} {next}"
        );
        tried = (attempts, next);
        let content = ["fought", "suspended", "other"].map(|name| host.read(&format!("/etc/{name}")));
        assert_eq!(content, ["theirs\n", "theirs\n", "ours\n"], "{what}");
    };
    still_held(&host, "nothing happened");
    host.ok(&["systemctl", "restart", "trueup"]);
    still_held(&host, "restarted");
    host.ok(&["kill", "-KILL", &host.agent()]);
    still_held(&host, "killed");
    for (event, id) in [("contested", "file:/etc/fought"), ("suspended", "file:/etc/suspended")] {
        let told = host.journal(&[&format!("TRUEUP_EVENT={event}"), &format!("TRUEUP_RESOURCE={id}")]);
        assert_eq!(told.len(), 1, "told once, whoever tells it: {told:#?}");
    }
    host.cut();
    still_held(&host, "the plug was pulled");

    // So does a rollback, and the end of it all.
    host.ok(&["trueup", "approve", &second]);
    host.await_status("approved", |status| status["revision"]["attempted"] == *second);
    host.ok(&["trueup", "rollback", &first]);
    host.await_status("rolled back", |status| status["revision"]["attempted"] == *first);
    host.cut();
    host.await_passes(2);
    assert_eq!(host.status()["rolled_back"]["commit"], *first);
    assert_eq!(host.read("/etc/other"), "ours\n");
    host.ok(&["trueup", "resume"]);
    host.ok(&["trueup", "retry"]);
    host.await_status("nothing is held", |status| {
        let counts = &status["resources"];
        counts["suspended"] == 0 && counts["contested"] == 0 && status["revision"]["attempted"] == *second
    });
    let content = ["fought", "suspended", "other"].map(|name| host.read(&format!("/etc/{name}")));
    assert_eq!(content, ["ours\n", "ours\n", "newer\n"]);
}

/// Short enough for a test, long enough for a machine that is busy.
const WATCHDOG: &str = "[Service]\nWatchdogSec=8s\n";

fn boot_watched(lab: &Lab, more: &str) -> Host {
    let mut files = lab.agent_files(more);
    files.push(("/etc/systemd/system/trueup.service.d/50.conf".to_owned(), WATCHDOG.as_bytes().to_owned()));
    let host = lab.boot_plain(Variant::Bookworm, "web-01", &files);
    host.install(&deb());
    host
}

/// Whoever opens the file waits until this ends: fanotify(7), FAN_OPEN_PERM. Nobody answers.
const BLOCK: &str = "
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
FAN_CLASS_CONTENT, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD = 4, 1, 0x10000, -100
libc.fanotify_mark.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]
group = libc.fanotify_init(FAN_CLASS_CONTENT, os.O_RDONLY)
if group < 0 or libc.fanotify_mark(group, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, os.fsencode(sys.argv[1])):
    sys.exit(os.strerror(ctypes.get_errno()))
print('blocked', flush=True)
signal.pause()
";

#[test]
fn a_pass_that_hangs_holds_nobody_and_systemd_starts_the_agent_again() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    let first = lab.fleet.commit("web-01");
    let host = boot_watched(&lab, QUICK);
    host.await_applied(&first);
    let agent = host.agent();

    let mut block = bound_to_us("python3");
    block.args(["-c", BLOCK]).arg(host.root().join("etc/app.conf"));
    let blocked = Server::start(block, Says::Stdout, "blocked");
    host.await_journal(&["UNIT=trueup.service", "UNIT_RESULT=watchdog"], || {
        // Neither of them opens the file.
        host.shell("perl -e 'truncate(\"/etc/app.conf\", 1)'; chmod 0666 /etc/app.conf");
        let hangs = host.await_status("a pass that hangs", |status| !status["running"].is_null());
        assert_eq!(hangs["agent"]["pid"].to_string(), agent, "whoever asks is answered meanwhile");
    });
    drop(blocked);
    host.await_status("it is put back by a new agent", |status| {
        let pid = status["agent"]["pid"].to_string();
        pid != agent && status["state"] == "in-sync" && status["running"].is_null()
    });
    assert_eq!(host.read("/etc/app.conf"), "port = 80\n");
    assert_eq!(host.stat("/etc/app.conf"), "regular file 644 root:root");
}

#[test]
fn a_transaction_that_takes_longer_than_the_watchdog_waits_is_no_hanging() {
    let Some(mut lab) = Lab::new(1) else { return };
    // It says what it does all the time, as a large one does.
    let postinst = "#!/bin/sh\nfor n in $(seq 50); do echo \"Setting up part $n ...\"; sleep 0.5; done\n";
    lab.apt().publish(&[Package::new("slow", "1.0").script("postinst", postinst)]);
    lab.fleet.write("hosts/web-01/host.toml", "[packages]\nslow = \"present\"\n");
    let first = lab.fleet.commit("web-01");
    // The clock has nothing to do with it: one pass, that of the start.
    let host = boot_watched(&lab, "interval = \"1h\"\n");
    let agent = host.agent();
    let status = host.await_applied(&first);
    assert!(status["last"]["took_ms"].as_u64() > Some(16_000), "longer than twice the watchdog: {status:#}");
    assert_eq!(host.package("slow").as_deref(), Some("1.0"));
    assert_eq!((host.agent(), host.unit("trueup.service", "NRestarts")), (agent, "0".to_owned()));
}
