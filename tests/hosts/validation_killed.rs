//! A pass is killed between the first file of a set and the verdict on it: the next one gives that, and the set is the old
//! one or the new one, whole.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};

use super::report::Told;
use super::server::{Says, Server, bound_to_us};
use super::{Host, Lab};
use crate::sample::sample;
use crate::struck::EFFECTS;

/// How many calls are struck where nobody asked for all of them.
const SAMPLE: usize = 12;

/// Says each time that it was started or reloaded.
const APP: &str = "#!/bin/sh
trap 'echo reloaded >>/run/app.log' HUP
echo started >>/run/app.log
while :; do sleep 0.1; done
";

/// Only together are they right or wrong. Where /run/strike is there it kills whoever asks, before it answers.
const CHECK: &str = "#!/bin/sh
if [ -e /run/strike ]; then rm /run/strike; kill -KILL $(cat /run/pass); exit 0; fi
[ \"$(cat /etc/app/a.conf)\" = \"$(cat /etc/app/b.conf)\" ] || { echo a and b differ; exit 1; }
";

const UNIT: &str = "[units.\"app.service\"]\nactive = true\non_change = \"reload\"\nwatch = [\"/etc/app/**\"]\n\
                    validate = [\"/usr/local/bin/app-check\"]\n[files.\"/etc/app/b.conf\"]\nmode = \"0640\"\n";

/// A pass that may be killed: its number is in /run/pass.
const PASS: &str = "echo $$ >/run/pass; exec trueup run --retry --json";

/// A fleet whose host has a set that is right.
fn declare(lab: &mut Lab) -> String {
    lab.fleet.write(
        "hosts/web-01/units/app.service",
        "[Service]\nExecStart=/usr/local/bin/app\nExecReload=/bin/kill -HUP $MAINPID\n",
    );
    lab.fleet.write_executable("hosts/web-01/files/usr/local/bin/app", APP);
    lab.fleet.write_executable("hosts/web-01/files/usr/local/bin/app-check", CHECK);
    lab.fleet.write("hosts/web-01/files/etc/app/0-0.conf", "here\n");
    lab.fleet.write("hosts/web-01/host.toml", UNIT);
    set(lab, "0", "0")
}

fn set(lab: &mut Lab, a: &str, b: &str) -> String {
    lab.fleet.write("hosts/web-01/files/etc/app/a.conf", format!("{a}\n"));
    lab.fleet.write("hosts/web-01/files/etc/app/b.conf", format!("{b}\n"));
    lab.fleet.commit(&format!("{a} and {b}"))
}

/// The `n`th set: another file comes with each, and that of the one before goes.
fn turn(lab: &mut Lab, n: usize, b: usize) -> String {
    lab.fleet.write(&format!("hosts/web-01/files/etc/app/0-{n}.conf"), "here\n");
    lab.fleet.remove(&format!("hosts/web-01/files/etc/app/0-{}.conf", n - 1));
    set(lab, &n.to_string(), &b.to_string())
}

fn standing(host: &Host) -> String {
    host.shell("stat -c '%n %a %U' /etc/app/*; cat /etc/app/*")
}

#[track_caller]
fn refused(told: &Told, what: &str) {
    assert_eq!(told.status, 1, "{what}: {told:#?}");
    let step = told.step("file:/etc/app/a.conf");
    assert_eq!(step.reason.as_deref(), Some("validation-failed"), "{what}: {told:#?}");
    assert!(step.message.as_ref().is_some_and(|said| said.contains("a and b differ")), "{what}: {told:#?}");
}

/// Nothing is owed, kept for a verdict, or left over.
#[track_caller]
fn nothing_is_left(host: &Host, what: &str) {
    assert_eq!(host.shell("grep -c '\"unjudged\"' /var/lib/trueup/ledger || true"), "0\n", "{what}");
    assert_eq!(host.shell("find /etc -name '.trueup-*'; find /var/lib/trueup -name '*~'"), "", "{what}");
}

impl Host {
    /// Killed by the judge, before that answers.
    #[track_caller]
    fn killed_by_the_judge(&self) {
        self.shell("touch /run/strike");
        let killed = self.run(&["sh", "-c", PASS]);
        assert_eq!(killed.status, 137, "{killed:#?}");
    }

    /// A pass under strace(1), of its own process only: the fetch worker and the judge have calls of their own.
    fn under_strace(&self, arguments: &[&str]) -> i32 {
        let mut pass = self.spawn_with_input(&["sh", "-c", &format!("echo $$; read go; {PASS}")]);
        let (mut pid, mut said) = (String::new(), BufReader::new(pass.stdout()));
        said.read_line(&mut pid).expect("its number");
        let mut strace = bound_to_us("strace");
        strace.args(arguments).args(["-p", &self.outside(pid.trim())]);
        let strace = Server::start(strace, Says::Stderr, "attached");
        pass.close_input();
        std::io::copy(&mut said, &mut std::io::sink()).expect("it is read to its end");
        let status = pass.wait().status;
        drop(strace);
        status
    }

    /// The calls of a pass from when the note of a set is on disk to when the verdict is: each with which of its name it
    /// is. Of those that change nothing some: to be killed before one of them is as before the next that does.
    fn calls(&self, lab: &Lab) -> Vec<(String, usize)> {
        let trace = lab.directory("trace");
        self.under_strace(&["-y", "-o", trace.to_str().expect("text")]);
        let text = fs::read_to_string(trace).expect("a trace");
        let lines: Vec<&str> = text.lines().filter(|line| line.contains('(') && !line.starts_with("exit")).collect();
        let find = |from: usize, what: &dyn Fn(&str) -> bool| {
            from + lines[from..]
                .iter()
                .position(|line| what(line))
                .unwrap_or_else(|| panic!("not to be found:\n{text}"))
        };
        let is_ledger = |line: &str| line.starts_with("rename(") && line.contains("/ledger\"");
        let first = find(0, &|line| line.starts_with("renameat") && line.contains("/etc/app"));
        let noted = lines[..first].iter().rposition(|line| is_ledger(line)).expect("it is noted before");
        let judged = find(first, &|line| line.starts_with("clone") || line.starts_with("vfork"));
        let verdict = find(judged, &is_ledger);
        let (mut counts, mut calls) = (BTreeMap::<&str, usize>::new(), Vec::new());
        for (at, line) in lines.iter().enumerate() {
            let call = line.split_once('(').expect("a call").0;
            let n = counts.entry(call).or_default();
            *n += 1;
            if at > noted && at <= verdict && (EFFECTS.contains(&call) || at % 16 == 0 || at == judged) {
                calls.push((call.to_owned(), *n));
            }
        }
        calls
    }

    /// Kills a pass there. Whether it had noted that it owes a verdict, and not given it.
    fn is_killed_at(&self, (call, n): &(String, usize)) -> bool {
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={n}"));
        self.under_strace(&["-o", "/dev/null", "-e", &trace, "-e", &inject]) == 137
            && self.holds("grep -q '\"unjudged\"' /var/lib/trueup/ledger /var/lib/trueup/ledger.previous")
    }
}

#[test]
fn killed_between_a_set_and_its_verdict_the_next_pass_puts_back_what_is_refused_and_reloads_what_is_not_once() {
    let Some(mut lab) = Lab::new(1) else { return };
    declare(&mut lab);
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    host.await_that("grep -qx started /run/app.log");

    let before = standing(&host);
    turn(&mut lab, 1, 0);
    // What is new to it, it writes down the first time only.
    refused(&host.trueup(&["run"]), "unharmed");
    let all = host.calls(&lab);
    let (count, mut inside) = (all.len(), 0);
    for place in sample(all, SAMPLE) {
        let what = format!("refused, killed at {place:?}");
        inside += usize::from(host.is_killed_at(&place));
        refused(&host.trueup(&["run", "--retry"]), &what);
        assert_eq!(standing(&host), before, "{what}");
        nothing_is_left(&host, &what);
    }
    println!("killed inside at {inside} of {count} calls, and refused");
    assert!(count > 50 && inside * 2 > SAMPLE, "{inside} of {count}");
    let told = host.trueup(&["run"]);
    assert!(told.report.refreshes.is_empty(), "what was put back is owed to nobody: {told:#?}");
    assert_eq!(host.read("/run/app.log"), "started\n", "nothing was told to read it");

    turn(&mut lab, 2, 2);
    host.trueup(&["run", "--retry"]).converged();
    let mut n = 3;
    turn(&mut lab, n, n);
    let all = host.calls(&lab);
    let (count, mut inside) = (all.len(), 0);
    for place in sample(all, SAMPLE) {
        n += 1;
        turn(&mut lab, n, n);
        let what = format!("right, killed at {place:?}");
        let owes = host.is_killed_at(&place);
        inside += usize::from(owes);
        host.shell(": >/run/app.log");
        let told = host.trueup(&["run", "--retry"]);
        assert!(told.status == 0 && told.report.state == "in-sync", "{what}: {told:#?}");
        // Killed later, it may have reloaded and not said so.
        if owes {
            host.await_that("[ \"$(cat /run/app.log)\" = reloaded ]");
        }
        let is_there = [host.has(&format!("/etc/app/0-{n}.conf")), host.has(&format!("/etc/app/0-{}.conf", n - 1))];
        assert_eq!((host.read("/etc/app/a.conf"), is_there), (format!("{n}\n"), [true, false]), "{what}");
        host.trueup(&["run"]).idle();
        assert!(!owes || host.read("/run/app.log") == "reloaded\n", "{what}: not once");
        nothing_is_left(&host, &what);
    }
    println!("killed inside at {inside} of {count} calls, and right");
    assert!(count > 30 && inside * 2 > SAMPLE, "{inside} of {count}");
}

#[test]
fn a_verdict_that_is_owed_is_given_by_whatever_pass_comes_next_and_an_edit_is_left_alone() {
    let Some(mut lab) = Lab::new(1) else { return };
    declare(&mut lab);
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    host.await_that("grep -qx started /run/app.log");
    let before = standing(&host);

    turn(&mut lab, 1, 0);
    host.killed_by_the_judge();
    assert_eq!(host.read("/etc/app/a.conf"), "1\n", "it is in place, and nobody has judged it");
    let planned = host.trueup(&["plan"]);
    assert!(planned.report.notes.iter().any(|note| note.contains("app.service")), "{planned:#?}");
    assert_eq!(host.read("/etc/app/a.conf"), "1\n", "a plan changes nothing");
    refused(&host.trueup(&["run"]), "the same revision");
    assert_eq!(standing(&host), before);
    nothing_is_left(&host, "the same revision");

    host.killed_by_the_judge();
    host.shell("ip link set host0 down");
    refused(&host.trueup(&["run", "--retry"]), "offline");
    assert_eq!(standing(&host), before);
    host.shell("ip link set host0 up; ip route add default via $(ip -4 -o address show host0 | sed 's|.*inet \\([0-9.]*\\)\\.[0-9]*/.*|\\1.1|')");

    host.killed_by_the_judge();
    turn(&mut lab, 2, 2);
    host.trueup(&["run", "--retry"]).converged();
    host.await_that("[ $(grep -cx reloaded /run/app.log) = 1 ]");
    assert_eq!(host.shell("ls /etc/app"), "0-2.conf\na.conf\nb.conf\n", "what an undone set brought is gone");

    // Somebody writes into one of the files before the next pass comes.
    turn(&mut lab, 3, 2);
    host.killed_by_the_judge();
    host.write("/etc/app/a.conf", "theirs\n");
    let told = host.trueup(&["run", "--retry"]);
    refused(&told, "edited");
    assert!(
        told.report.notes.iter().any(|note| note.contains("file:/etc/app/a.conf could not be put back")),
        "{told:#?}"
    );
    assert_eq!(host.shell("cat /etc/app/a.conf; ls /etc/app"), "theirs\n0-2.conf\na.conf\nb.conf\n");
    nothing_is_left(&host, "edited");
}

#[test]
fn a_unit_is_not_started_on_what_it_refuses() {
    let Some(mut lab) = Lab::new(1) else { return };
    declare(&mut lab);
    lab.fleet.write("hosts/web-01/host.toml", format!("{UNIT}drift = \"report\"\n"));
    lab.fleet.commit("an edit of b is only told");
    let host = lab.boot("web-01");
    assert_eq!(host.trueup(&["run"]).status, 0);
    host.write("/etc/app/b.conf", "theirs\n");
    host.ok(&["systemctl", "stop", "app.service"]);
    let told = host.trueup(&["run"]);
    let step = told.step("unit:app.service");
    assert_eq!(step.reason.as_deref(), Some("validation-failed"), "{told:#?}");
    assert_eq!(host.unit("app.service", "ActiveState"), "inactive");
    host.write("/etc/app/b.conf", "0\n");
    host.trueup(&["run", "--retry"]).converged();
    assert_eq!(host.unit("app.service", "ActiveState"), "active");
}
