//! A hostile server before a real host: the agent answers, keeps its memory and lives; the worker is gone in time, with
//! everything it started.

use std::fs::File;
use std::io::Read;

use serde_json::Value;

use super::installed::QUICK;
use super::lab::HTTPS_PORT;
use super::{Host, Lab, Variant, git};
use crate::wire::pack::{Objects, head, zeros};
use crate::wire::server::{Part, Says, Server, line};

/// Has root ask how the host is while a worker runs, fifty times, and prints how long each took, in milliseconds. A worker
/// that ended while it was asked does not count; where none runs, the agent is asked to look.
const ROOT_ASKS: &str = r#"
use strict; use Time::HiRes qw(time sleep);
my ($counted, $patience) = (0, time + 200);
while ($counted < 50) {
    die "only $counted" if time > $patience;
    my $worker = `pgrep -o -x trueup-fetch`;
    chomp $worker;
    if (!$worker) { system("trueup sync >/dev/null 2>&1 &"); sleep 0.05; next; }
    my $begun = time;
    system("trueup status --json >/run/asked") == 0 or $? >> 8 <= 3 or die "status: $?";
    my $took = 1000 * (time - $begun);
    next unless -d "/proc/$worker";
    printf "%d\n", $took;
    $counted++;
}
"#;

/// How many kilobytes more the agent may have at its worst.
const MORE_MEMORY: u64 = 8 << 10;

/// A fleet whose web-01 has one file, and its tip.
fn fleet(content: &[u8]) -> (Objects, gix_hash::ObjectId) {
    let mut objects = Objects::new(gix_hash::Kind::Sha1);
    let tree = objects.fleet(content);
    let tip = objects.commit(&format!("tree {tree}\n"));
    (objects, tip)
}

fn good(content: &[u8]) -> Says {
    let (objects, tip) = fleet(content);
    Says::all(&objects, tip)
}

/// A pack of a megabyte and a half that holds a gigabyte and a half.
fn bomb() -> Says {
    let (objects, tip) = fleet(b"evil\n");
    let mut pack = objects.pack();
    pack.entry(&head(3, 1500 << 20), &zeros(1500 << 20));
    Says::pack(pack.bytes(), tip)
}

/// Says that it will go on, and does not.
fn silent() -> Says {
    let (_, tip) = fleet(b"evil\n");
    let refs = Part::from(&line(format!("{tip} refs/heads/main\n"))[..7]);
    Says { refs, ..good(b"evil\n") }
}

/// A host that follows `server`, which has applied what that says.
fn follow(lab: &Lab, server: &Server, more: &str) -> Host {
    let agent = format!("[source]\nurl = \"{}\"\nallow_insecure = true\n{QUICK}{more}", server.url());
    let host =
        lab.boot_plain(Variant::Bookworm, "web-01", &[("/etc/trueup/agent.toml".to_owned(), agent.into_bytes())]);
    host.install(&super::installed::deb());
    host.await_status("what is good", |status| {
        status["state"] == "in-sync" && !status["revision"]["applied"].is_null()
    });
    host.await_passes(3);
    host
}

/// Whether the source fails, and this is said of it.
fn says(status: &Value, what: &str) -> bool {
    status["source"]["error"].as_str().is_some_and(|error| error.contains(what))
}

#[test]
fn the_agent_answers_and_keeps_its_memory_while_the_worker_meets_a_bomb_and_a_silence() {
    let Some(lab) = Lab::new(1) else { return };
    let server = Server::start_at(&lab.network.address(), good(b"good\n"));
    let host = follow(&lab, &server, "timeout = \"6s\"\n");
    let agent = host.agent();
    let memory = host.kilobytes("status", "VmHWM:");
    for (what, hostile, error) in
        [("a bomb", bomb(), "unfolds to more"), ("a silence", silent(), "nothing complete came")]
    {
        server.say(&hostile);
        let mut took: Vec<u32> =
            host.ok(&["perl", "-e", ROOT_ASKS]).lines().map(|line| line.parse().expect("a number")).collect();
        assert_eq!(took.len(), 50);
        took.sort_unstable();
        println!("status while the worker meets {what}: median {} ms, slowest {} ms", took[25], took[49]);
        // 200 ms are what is promised; a machine that is stopped for a while spoils some.
        assert!(took[25] <= 200 && took[49] <= 2000, "{what}: {took:?}");
        host.await_status(error, |status| says(status, error));
        assert_eq!(host.read("/etc/motd"), "good\n");
        let worst = host.kilobytes("status", "VmHWM:");
        println!("memory of the agent: at most {memory} kB before {what}, {worst} kB since");
        assert!(worst < memory + MORE_MEMORY, "{memory} kB before, {worst} kB at most");
    }
    // What it says for people forges nothing.
    let forged = "\x1b[2Jall is well\nMESSAGE_ID=0123456789abcdef0123456789abcdef\nPRIORITY=0\n<0>owned\u{202e}";
    server.say(&Says { refs: line(format!("ERR {forged}")).into(), ..good(b"evil\n") });
    host.await_status("what it says", |status| says(status, "all is well"));
    let status = host.run(&["trueup", "status"]).stdout;
    let odd = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(status.contains("all is well") && !status.contains(odd), "{status:?}");
    assert!(!status.lines().any(|line| line.starts_with("MESSAGE_ID") || line.starts_with("<0>")), "{status}");
    let journal = host.journal(&["_SYSTEMD_UNIT=trueup.service"]);
    for entry in &journal {
        let said = entry["MESSAGE"].as_str().unwrap_or_else(|| panic!("not text: {entry}"));
        assert!(!said.contains(odd) && !said.contains('\n'), "{said:?}");
        assert!(entry["PRIORITY"] != "0" && entry["MESSAGE_ID"] != "0123456789abcdef0123456789abcdef", "{entry}");
    }
    server.say(&silent());
    // At its deadline a worker is gone.
    let worker = host.shell("until pgrep -o -x trueup-fetch; do trueup sync >/dev/null 2>&1 & sleep 0.05; done");
    host.await_that(&format!("! [ -d /proc/{} ]", worker.trim()));
    assert_eq!(host.agent(), agent, "it is the same agent");
    let (mut objects, tip) = fleet(b"good\n");
    let tree = objects.fleet(b"better\n");
    let next = objects.commit(&format!("tree {tree}\nparent {tip}\n"));
    server.say(&Says::all(&objects, next));
    host.ok(&["trueup", "sync"]);
    host.await_that("grep -qx better /etc/motd");
    assert_eq!(host.shell("ls -A /var/cache/trueup/clone | grep -c . "), "2\n", "the clone and its lock");
}

#[test]
fn a_token_shows_nowhere_while_it_is_used() {
    let Some(mut lab) = Lab::new(1) else { return };
    const TOKEN: &str = "tok-3f9d0c-nobody-sees";
    lab.fleet.write("hosts/web-01/files/etc/motd", "good\n");
    let first = lab.fleet.commit("first");
    let hold = lab.directory("hold");
    let address = lab.network.address();
    let port = HTTPS_PORT + 1;
    let _server = git::https_held(&address, port, lab.served(), lab.authority(), TOKEN, &hold);
    let agent = format!(
        "[source]\nurl = \"https://{address}:{port}/fleet.git\"\nca_file = \"/etc/trueup/ca.pem\"\n\
         token_file = \"/etc/trueup/token\"\n{QUICK}"
    );
    let mut files = lab.agent_files("");
    files[0].1 = agent.into_bytes();
    files.push(("/etc/trueup/token".to_owned(), TOKEN.into()));
    let host = lab.boot_plain(Variant::Bookworm, "web-01", &files);
    host.ok(&["chmod", "600", "/etc/trueup/token"]);
    host.install(&super::installed::deb());
    host.await_applied(&first);

    // The answer to the next fetch stops in the middle, for as long as this is there.
    std::fs::write(&hold, "").expect("a file of the lab's own");
    lab.fleet.write("hosts/web-01/files/etc/motd", "better\n");
    let second = lab.fleet.commit("second");
    while !lab.directory("hold.held").exists() {
        assert!(host.run(&["trueup", "status", "--json"]).status <= 3);
        std::thread::yield_now();
    }
    let worker = host.shell("pgrep -o -x trueup-fetch").trim().to_owned();
    let sample = format!(
        "for n in 1 2 3 4 5 6 7 8 9 10; do \
            cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; \
            trueup status --json; trueup status; journalctl -b --no-pager -o json; ls -lR /run/trueup; \
         done; echo TOKENS; cat /etc/trueup/token; test -d /proc/{worker}"
    );
    for _ in 0..5 {
        let seen = host.run(&["sh", "-c", &sample]);
        assert_eq!(seen.status, 0, "the worker was there all the while: {}", seen.stderr);
        let (shown, kept) = seen.stdout.rsplit_once("TOKENS").expect("its own mark");
        assert!(kept.contains(TOKEN) && shown.contains("\nagent\n") && shown.contains("LC_ALL"), "it would be seen");
        assert!(!shown.contains(TOKEN), "{:?}", shown.lines().find(|line| line.contains(TOKEN)));
    }
    std::fs::remove_file(&hold).expect("it is there");
    host.await_applied(&second);
    for place in ["/var/lib/trueup", "/var/cache/trueup", "/run", "/var/log", "/tmp"] {
        assert!(!host.holds(&format!("grep -rqs {TOKEN} {place}")), "{place}");
    }
}

/// In the place of ssh(1): starts what tries to outlive it, and stays.
const SSH: &str = "#!/bin/sh\nsetsid sleep 4321 & setsid -f sleep 4322 & (trap '' HUP TERM INT; exec sleep 4323) &\n\
                   (sh -c 'sleep 4324 &' &) ; exec sleep 4325\n";

#[test]
fn the_worker_has_a_control_group_of_its_own_that_ends_with_all_that_is_in_it() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/motd", "good\n");
    lab.fleet.commit("first");
    let agent = "[source]\nurl = \"ssh://git@127.0.0.1/fleet.git\"\nknown_hosts = \"/etc/trueup/known_hosts\"\n\
                 timeout = \"8s\"\ninterval = \"1d\"\n";
    let host = lab.boot_unified("web-01", &[("/etc/trueup/agent.toml".to_owned(), agent.into())]);
    assert!(host.holds("[ -e /sys/fs/cgroup/cgroup.procs ]"), "this host has the one hierarchy");
    host.write("/etc/trueup/known_hosts", "127.0.0.1 ssh-ed25519 AAAA\n");
    host.write("/usr/bin/ssh", SSH);
    host.ok(&["chmod", "755", "/usr/bin/ssh"]);
    host.install(&super::installed::deb());
    let ours = "/sys/fs/cgroup/system.slice/trueup.service";
    host.await_that("pgrep -x trueup-fetch && pgrep -f 'sleep 432[34]' && pgrep -f 'sleep 4325'");
    let worker = host.shell("pgrep -x trueup-fetch").trim().to_owned();
    let agent = host.agent();
    let group = host.shell(&format!("sed -n s/^0:://p /proc/{worker}/cgroup")).trim().to_owned();
    let name = group.strip_prefix("/system.slice/trueup.service/").unwrap_or_else(|| panic!("{group}")).to_owned();
    assert!(name.starts_with(&format!("fetch-{agent}-")), "{name}");
    assert_eq!(host.shell(&format!("sed -n s/^0:://p /proc/{agent}/cgroup")).trim(), "/system.slice/trueup.service");
    // One that is in no process group of the worker's, as one would be that found a way out, and has its end of the pipe:
    // as long as it lives nobody sees an end.
    let stranger = format!("setsid sleep 4444 2>/dev/null >/proc/{worker}/fd/1 & echo $!");
    let stranger = host.shell(&stranger).trim().to_owned();
    host.shell(&format!("echo {stranger} >{ours}/{name}/cgroup.procs"));
    let inside = host.shell(&format!("cat {ours}/{name}/cgroup.procs"));
    assert!(inside.lines().count() >= 5 && inside.lines().any(|line| line == stranger), "{inside}");
    println!("{} processes in {name}", inside.lines().count());

    host.await_that(&format!("! [ -d {ours}/{name} ]"));
    assert!(!host.holds("pgrep -f 'sleep 4[34]'"), "{}", host.shell("ps -ef"));
    assert!(!host.holds(&format!("[ -d /proc/{worker} ] || [ -d /proc/{stranger} ]")));
    assert_eq!(host.agent(), agent, "the agent lives");
    host.await_status("the deadline", |status| says(status, "nothing complete came"));
}

#[test]
fn a_repository_takes_no_more_than_its_share_of_the_disk() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/motd", "first\n");
    let first = lab.fleet.commit("first");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    host.shell("mount -t tmpfs -o size=8m tmpfs /var/cache/trueup");
    // Nothing of it can be packed any smaller.
    let mut noise = Vec::new();
    let random = File::open("/dev/urandom").expect("there");
    random.take(3_000_000).read_to_end(&mut noise).expect("read");
    lab.fleet.write("roles/other/files/srv/noise", &noise);
    lab.fleet.write("hosts/web-01/files/etc/motd", "second\n");
    let second = lab.fleet.commit("large");
    let status = host.await_status("too large", |status| status["reason"] == "too-large");
    assert!(status["message"].as_str().is_some_and(|said| said.contains("share of the disk")), "{status:#}");
    assert_eq!(host.read("/etc/motd"), "first\n");
    let used = host.shell("du -sk /var/cache/trueup | cut -f1");
    assert!(used.trim().parse::<u32>().is_ok_and(|used| used < 4000), "{used} KiB stay");
    host.shell("mount -o remount,size=64m /var/cache/trueup");
    host.await_applied(&second);
}
