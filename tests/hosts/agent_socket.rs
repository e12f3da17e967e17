//! Whoever is on a host may speak to the agent's socket. He learns how the host is, and can neither change it, nor
//! hold the agent up, nor make it grow.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use super::installed::QUICK;
use super::{Host, Lab};

/// Calls the methods of a list, and prints the answers as JSON, one a line.
const CALLS: &str = r#"
use IO::Socket::UNIX;
$/ = "\0";
my $s = IO::Socket::UNIX->new(Peer => "/run/trueup/trueup.sock") or die "cannot connect: $!";
while (my $call = <STDIN>) {
    $s->print($call) and $s->flush or die "cannot ask: $!";
    defined(my $answer = <$s>) or die "no answer to $call";
    chomp $answer;
    print "$answer\n";
}
"#;

/// Ten users with a hundred connections each, all of them up to something, and one with a request of 1 GiB. Each user
/// asks for every change too. Says how much of the giant was taken, then `under way` when all connections were made;
/// goes on until its standard input ends, closing and making connections anew.
const HOSTILE: &str = r#"
use strict; use IO::Socket::UNIX; use Time::HiRes qw(sleep); use POSIX ();
$SIG{PIPE} = "IGNORE"; $| = 1;
sub become { my $uid = shift; $) = "$uid $uid"; $( = $uid; $< = $uid; $> = $uid; die "still root" if $> == 0; }
sub call { '{"method":"io.trueup.Agent.' . $_[0] . '"' . ($_[1] // "") . "}\0" }
my $changes = join "", call("Sync"), call("Sync", ',"parameters":{"allow_removals":100}'), call("Retry"), call("Approve"),
    call("Suspend", ',"parameters":{"resources":[],"until":4000000000,"reason":"\u001b[2J"}'),
    call("Resume", ',"parameters":{"resources":[]}'), call("Rollback", ',"parameters":{"commit":"' . "0" x 40 . '"}');
my @deeds = (
    '{"method":"io.trueup.Agent.Sta', call("Plan") x 500, call("Watch", ',"more":true'), "x" x (1 << 20), "",
    call("Status") x 1000, "\0" x 1000, $changes, "\e[31m\n<0>not ours\n\0", call("\\u001b[31mStatus"),
);
sub deed {
    my $s = IO::Socket::UNIX->new(Peer => "/run/trueup/trueup.sock") or return;
    $s->blocking(0);
    my ($bytes, $at) = ($deeds[$_[0] % @deeds], 0);
    while ($at < length $bytes) { $at += $s->syswrite($bytes, 65536, $at) // last; }
    return $s;
}
my @children;
sub start {
    my ($uid, $what) = @_;
    pipe(my $told, my $tell) or die;
    my $child = fork // die;
    if (!$child) { become($uid); $tell->autoflush(1); $what->($tell); POSIX::_exit(0); }
    push @children, $child;
    return $told;
}
my $giant = start(60099, sub {
    my ($s, $sent, $chunk) = (IO::Socket::UNIX->new(Peer => "/run/trueup/trueup.sock"), 0, " " x (1 << 20));
    while ($s && $sent < 1 << 30) { $sent += $s->syswrite($chunk) // last; }
    print {$_[0]} "$sent\n";
});
print "giant ", scalar <$giant>;
my @users = map { start(60000 + $_, sub {
    my @held = map { deed($_) } 0 .. 99;
    print {$_[0]} "done\n";
    for (my $n = 0; ; $n++) { sleep 0.01; $held[$n % 100] = deed($n); }
}) } 0 .. 9;
<$_> for @users;
print "under way\n";
<STDIN>;
kill "KILL", @children;
"#;

/// How long root's `trueup status` takes, in milliseconds, many times, one a line.
const ROOT_ASKS: &str = r#"
use Time::HiRes qw(time);
for (1 .. 40) {
    my $begun = time;
    system("trueup status --json >/run/asked") == 0 or $? >> 8 == 2 or die "status: $?";
    printf "%d\n", 1000 * (time - $begun);
}
"#;

/// How many kilobytes more than before the agent may have at its worst. A request of 64 KiB for each of the
/// 96 connections that there may be, and one copy of each document, are less than half of it.
const MORE_MEMORY: u64 = 16 << 10;

/// The changes that root may ask for, as it would.
fn changes(commit: &str) -> Vec<Value> {
    let call =
        |name: &str, parameters: Value| json!({"method": format!("io.trueup.Agent.{name}"), "parameters": parameters});
    vec![
        call("Sync", json!({})),
        call("Sync", json!({"allow_removals": 100})),
        call("Suspend", json!({"resources": [], "until": i64::MAX, "reason": "mine now"})),
        call("Suspend", json!({"resources": ["file:/etc/app.conf"], "until": i64::MAX, "reason": "mine now"})),
        call("Resume", json!({"resources": []})),
        call("Approve", json!({})),
        call("Approve", json!({"commit": commit})),
        call("Retry", json!({})),
        call("Rollback", json!({"commit": commit})),
        call("Restore", json!({"copy": "k-7f31"})),
    ]
}

impl Host {
    /// Calls methods of the agent as the user `uid`.
    #[track_caller]
    fn call_as(&self, uid: u32, calls: &[Value]) -> Vec<Value> {
        let input: Vec<u8> = calls.iter().flat_map(|call| format!("{call}\0").into_bytes()).collect();
        let uid = uid.to_string();
        let user = ["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups", "perl", "-e", CALLS];
        let output = self.run_with(&user, &input);
        assert_eq!(output.status, 0, "{output:?}");
        let answers: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(answers.len(), calls.len());
        answers
    }

    /// A line of `/proc/PID/status` or `smaps_rollup` of the agent, in kilobytes.
    #[track_caller]
    pub fn kilobytes(&self, file: &str, name: &str) -> u64 {
        let text = self.read(&format!("/proc/{}/{file}", self.agent()));
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("told");
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
    }

    /// What the agent's unit has in the journal.
    fn lines(&self) -> usize {
        self.journal(&["_SYSTEMD_UNIT=trueup.service"]).len()
    }

    /// What of the status does not change by time alone.
    fn lasting_status(&self) -> Value {
        let mut status = self.status();
        for name in ["running", "last", "next"] {
            status[name] = Value::Null;
        }
        status["source"]["looked"] = Value::Null;
        status
    }
}

#[test]
fn a_thousand_hostile_connections_hold_neither_the_loop_nor_root_nor_memory() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n".repeat(1000));
    let first = lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    // A report with differences is there to be asked for, and passes have taken what they need.
    host.await_journal(&["TRUEUP_EVENT=drift"], || host.write("/etc/app.conf", "by hand\n".repeat(1000)));
    host.await_applied(&first);
    host.await_passes(3);
    host.await_status("nothing runs", |status| status["running"].is_null());
    let (agent, before, lines) = (host.agent(), host.lasting_status(), host.lines());
    let memory = host.kilobytes("status", "VmHWM:");

    let mut hostile = host.spawn_with_input(&["prlimit", "--nofile=4096", "perl", "-e", HOSTILE]);
    let mut told = BufReader::new(hostile.stdout());
    let mut say = || {
        let mut line = String::new();
        told.read_line(&mut line).expect("readable");
        line.trim_end().to_owned()
    };
    let giant = say();
    let taken: u64 = giant.strip_prefix("giant ").and_then(|sent| sent.parse().ok()).expect("how much was taken");
    // What the kernel keeps for the socket is in it.
    assert!(taken < 4 << 20, "{taken} bytes of a request of 1 GiB were taken");
    assert_eq!(say(), "under way");

    // Passes come and go, and nobody hears of those that knock.
    host.await_passes(3);
    assert_eq!(host.lasting_status(), before);
    assert_eq!(host.lines(), lines, "{:#?}", host.journal(&["_SYSTEMD_UNIT=trueup.service"]));
    // 200 ms are what root is promised. It takes a few, most of them the start of the program; a machine that is
    // stopped for a while spoils some of the forty, and half of them may be spoiled before this fails.
    let took = host.ok(&["perl", "-e", ROOT_ASKS]);
    let mut took: Vec<u32> = took.lines().map(|line| line.parse().expect("a number")).collect();
    took.sort_unstable();
    println!("status of root among a thousand: median {} ms, slowest {} ms", took[20], took[39]);
    assert!(took[20] <= 200, "{took:?}");
    // The loop goes on: what was edited is put back, what was pushed is applied.
    host.await_journal(&["TRUEUP_EVENT=drift"], || host.write("/etc/app.conf", "by hand\n"));
    host.await_applied(&first);
    assert!(host.read("/etc/app.conf").starts_with("port = 80\n"));
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 8080\n");
    let second = lab.fleet.commit("another port");
    host.await_applied(&second);
    assert!(host.ok(&["trueup", "suspend", "file:/etc/app.conf", "--for", "1h"]).contains("/etc/app.conf"));
    host.ok(&["trueup", "resume"]);

    let worst = host.kilobytes("status", "VmHWM:");
    println!(
        "memory of the agent: at most {memory} kB before, {worst} kB since; PSS now {} kB",
        host.kilobytes("smaps_rollup", "Pss:")
    );
    assert!(worst < memory + MORE_MEMORY, "{memory} kB before, {worst} kB at most");
    assert_eq!(host.agent(), agent, "it is the same agent");
    hostile.close_input();
    assert_eq!(hostile.wait().status, 0);
}

#[test]
fn an_unprivileged_user_changes_nothing_and_sees_no_content() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "content = 4711\n");
    lab.fleet.write("hosts/web-01/host.toml", "[files.\"/etc/app.conf\"]\nmode = \"0640\"\n");
    let first = lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", &format!("{QUICK}[policy]\nupdate = \"hold\"\n"));
    host.await_status("it is seen", |status| status["reason"] == "held" && status["revision"]["seen"] == *first);
    host.ok(&["trueup", "approve"]);
    host.await_applied(&first);
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "content = 4712\n");
    let second = lab.fleet.commit("not approved");
    host.await_status("it is seen", |status| status["reason"] == "held" && status["revision"]["seen"] == *second);
    // Everything that he could ask for would have an effect: somebody suspended a file, and edited it.
    host.ok(&["trueup", "suspend", "file:/etc/app.conf", "--for", "1h", "--reason", "INC-4711"]);
    host.write("/etc/app.conf", "content = 4713\n");
    host.await_passes(2);
    host.await_status("nothing runs", |status| status["running"].is_null());
    let own = || host.shell("cd /var/lib/trueup && find . -type f -exec sha256sum {} + | sort");
    let (lines, status, state) = (host.lines(), host.lasting_status(), own());

    for answer in host.call_as(65534, &changes(&second)) {
        assert_eq!(answer, json!({"error": "io.trueup.Agent.PermissionDenied"}));
    }
    for verb in [&["sync"][..], &["approve"], &["retry"], &["resume"], &["rollback", &first], &["suspend"]] {
        let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "trueup"];
        let refused = host.run(&[&user, verb].concat());
        assert_ne!(refused.status, 0, "{refused:?}");
        assert!(refused.stderr.contains("root"), "it says what is missing: {refused:?}");
    }
    host.await_passes(2);
    host.await_status("nothing runs", |status| status["running"].is_null());
    assert_eq!((host.lines(), host.lasting_status(), own()), (lines, status, state));
    assert_eq!(host.read("/etc/app.conf"), "content = 4713\n");

    // Root sees what differs, others see that it does.
    let report = |name: &str| json!({"method": format!("io.trueup.Agent.{name}")});
    let reports = [report("Plan"), report("Drift")];
    for (uid, content) in [(65534, false), (0, true)] {
        for answer in host.call_as(uid, &reports) {
            let text = answer["parameters"]["report"].to_string();
            assert!(text.contains("file:/etc/app.conf"), "{uid}: {text}");
            assert_eq!(text.contains("content = 471"), content, "{uid}: {text}");
        }
        let others = [report("Status"), report("Resources"), report("History")];
        for answer in host.call_as(uid, &others) {
            assert!(answer["parameters"].is_object(), "{answer}");
            assert!(!answer.to_string().contains("content = 471"), "{uid}: {answer}");
        }
    }
    // From root the same calls are taken: it is who asks that counts.
    let answers = host.call_as(0, &[json!({"method": "io.trueup.Agent.Approve"}), report("Retry")]);
    assert!(answers.iter().all(|answer| answer["parameters"]["message"].is_string()), "{answers:?}");
}
