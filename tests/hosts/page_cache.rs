//! The plug of a virtual machine is pulled: what was only in its page cache is lost, too.

use std::time::Duration;

use super::apt::Package;
use super::installed::{QUICK, deb};
use super::{Host, Lab};
use crate::sample::{self, Dice};

/// How often the plug is pulled where nobody asked for more.
const PULLS: usize = 5;
const MANY_PULLS: usize = 100;

/// How many files change at once, and how often the line of each is in it: more than one block.
/// More than are written at a time: of those that come after the one that is seen some are not even begun then.
const FILES: usize = 600;
const LINES: usize = 1000;

/// How long after it was seen that a file is written the plug may be pulled.
const MILLISECONDS: usize = 20;

/// Tells of each file its mode, its group and its line, with how often that is there; of a link, where to.
const LOOK: &str = r#"
for my $path (sort glob '/srv/app/* /srv/only/* /srv/current') {
    if (-l $path) { print "$path ", readlink $path, "\n"; next }
    my (undef, undef, $mode, undef, undef, $gid) = stat $path;
    open my $file, '<', $path or die;
    local $/;
    my $content = <$file> // '';
    my ($line) = $content =~ /^(.+)/;
    my $times = $line && length($content) / (1 + length $line);
    my $whole = $line && $content eq "$line\n" x $times ? "$times x $line" : 'a mix';
    printf "$path %04o %s %s\n", $mode & 07777, scalar getgrgid $gid, $whole;
}
"#;

/// Looks at each boot, before there is an agent.
const LOOKER: &str = "[Unit]\nBefore=trueup.service\n[Service]\nType=oneshot\n\
    ExecStart=/bin/sh -c 'exec perl /usr/local/lib/look >/run/seen'\n";

/// Remembers what it read at its start.
const READER: &str = "[Service]\nExecStart=/bin/sh -c 'cat /srv/app/* | cut -d\" \" -f1 | uniq >/run/read; exec sleep infinity'\n\
    [Install]\nWantedBy=multi-user.target\n";

/// Waits until a file is there that begins so.
const AWAIT: &str = r#"my ($path, $begin) = @ARGV;
while (1) {
    if (open my $file, '<', $path) { exit if index(<$file> // '', $begin) == 0 }
    select undef, undef, undef, 0.005;
}"#;

/// The `n`th revision: something of each kind changes from each to the next. `all` is what takes long where every
/// instruction is emulated, too: a package, a unit file.
fn declare(lab: &mut Lab, n: usize, all: bool) -> String {
    let put = |path: &str, content: String| lab.fleet.write(&format!("hosts/web-01/{path}"), content);
    for file in 0..FILES {
        put(&format!("files/srv/app/{file:03}"), format!("{n} {file:03}\n").repeat(LINES));
    }
    put(&format!("files/srv/only/{n}"), "here\n".to_owned());
    if all {
        put("units/reader.service", format!("[Unit]\nDescription={n}\n{READER}"));
    }
    let (mode, group) = attributes(n);
    let packages = if all { format!("[packages]\ntool = \"{}\"\n", package(n)) } else { String::new() };
    put(
        "host.toml",
        format!(
            "{packages}[files.\"/srv/app/**\"]\nmode = \"{mode}\"\ngroup = \"{group}\"\n\
             [units.\"reader.service\"]\nenabled = true\nactive = true\nwatch = [\"/srv/app/**\"]\n"
        ),
    );
    if n > 0 {
        lab.fleet.remove("hosts/web-01/files/srv/current");
        lab.fleet.remove(&format!("hosts/web-01/files/srv/only/{}", n - 1));
    }
    lab.fleet.link("hosts/web-01/files/srv/current", &format!("only/{n}"));
    lab.fleet.commit(&format!("revision {n}"))
}

fn attributes(n: usize) -> (&'static str, &'static str) {
    [("0640", "adm"), ("0600", "daemon")][n % 2]
}

/// Installed by each tenth revision, or removed.
fn package(n: usize) -> &'static str {
    ["absent", "present"][n / 10 % 2]
}

/// What is looked at, as the `n`th revision has it.
fn whole(n: usize) -> Vec<String> {
    let (mode, group) = attributes(n);
    let mut lines: Vec<String> =
        (0..FILES).map(|file| format!("/srv/app/{file:03} {mode} {group} {LINES} x {n} {file:03}")).collect();
    lines.push(format!("/srv/current only/{n}"));
    lines.push(format!("/srv/only/{n} 0644 root 1 x here"));
    lines
}

/// Tells what else there is to see of a revision, and what an interrupted pass may have left, which is nothing.
const REST: &str = "cat /run/read
    systemctl show -p ActiveState -p UnitFileState -p Description reader | sort
    find /etc /srv /usr/sbin /run -xdev -name '*.trueup-*' -o -name policy-rc.d
    find /var/lib/trueup -name '*~'
    journalctl -q -b TRUEUP_EVENT=state-lost TRUEUP_EVENT=attempted TRUEUP_EVENT=failed
    dpkg --audit
    dpkg-query -W -f '${db:Status-Status}\\n' tool 2>/dev/null || echo absent";

/// Everything is as the `n`th revision has it, and nothing else is there.
#[track_caller]
fn holds(host: &Host, n: usize, all: bool) {
    let seen = host.ok(&["perl", "/usr/local/lib/look"]);
    assert_eq!(seen.lines().collect::<Vec<_>>(), whole(n));
    let package = if all && package(n) == "present" { "installed" } else { "absent" };
    let description = if all { n } else { 0 };
    let rest = format!("{n}\nActiveState=active\nDescription={description}\nUnitFileState=enabled\n{package}\n");
    assert_eq!(host.shell(REST), rest);
}

#[test]
fn after_power_and_page_cache_are_lost_in_a_pass_each_file_is_old_or_new_and_it_converges_by_itself() {
    let Some(mut lab) = Lab::new(1) else { return };
    let all = sample::long();
    if all {
        lab.apt().publish(&[Package::new("tool", "1.0")]);
    }
    let first = declare(&mut lab, 0, all);
    // What pulls it in before the agent.
    let wanted = "[Unit]\nWants=look.service\n";
    let reader = format!("[Unit]\nDescription=0\n{READER}");
    let files = [
        ("/etc/systemd/system/trueup.service.d/look.conf", wanted),
        ("/usr/local/lib/look", LOOK),
        ("/etc/systemd/system/look.service", LOOKER),
        ("/etc/systemd/system/reader.service", &reader),
    ];
    let files = files.map(|(path, content)| (path.to_owned(), content.into()));
    let mut host = lab.boot_vm("web-01", QUICK, &files, &deb());
    host.await_applied(&first);
    holds(&host, 0, all);
    host.ok(&["sync"]);

    let mut dice = Dice::new();
    let pulls = if all { MANY_PULLS } else { PULLS };
    let (mut moments, mut amid, mut revision) = (Vec::new(), 0, first);
    for n in 1..=pulls {
        revision = declare(&mut lab, n, all);
        // Somewhere in the first half of what there is to do.
        let moment = (dice.below(FILES / 2), dice.below(MILLISECONDS));
        moments.push(moment);
        let path = format!("/srv/app/{:03}", moment.0);
        host.ok(&["timeout", "120", "perl", "-e", AWAIT, &path, &format!("{n} ")]);
        // At an instant that nothing tells of.
        std::thread::sleep(Duration::from_millis(moment.1 as u64));
        host.cut();

        // As it was when the agent started.
        let seen = host.read("/run/seen");
        let (old, new) = (whole(n - 1), whole(n));
        let strange = seen.lines().filter(|line| !old.iter().chain(&new).any(|one| one == line));
        assert_eq!(strange.collect::<Vec<_>>(), Vec::<&str>::new(), "neither old nor new: {moment:?} of {n}");
        let paths = seen.lines().filter(|line| line.starts_with("/srv/app/") || line.starts_with("/srv/current"));
        assert_eq!(paths.count(), FILES + 1, "each is there: {moment:?} of {n}");
        amid += usize::from((0..FILES).any(|file| seen.lines().any(|line| line == old[file])));

        // A host that comes up twice amid one revision is put back: the next strikes in another.
        host.await_applied(&revision);
        holds(&host, n, all);
        println!("pull {n} of {pulls}, at {moment:?}");
    }
    println!("the plug was pulled {pulls} times, {amid} of them before the last of {FILES} files, at {moments:?}");
    assert!(amid * 2 > pulls, "{amid} of {pulls} were in the middle");

    // What it says is applied is on the disk, and stays so where the kernel panics.
    let boot = |host: &Host| host.read("/proc/sys/kernel/random/boot_id");
    let before = boot(&host);
    host.write("/srv/lost", "only in the page cache\n");
    let panics = host.spawn(&["sh", "-c", "echo c >/proc/sysrq-trigger"], None);
    host.await_panics(1);
    drop(panics);
    assert_ne!(boot(&host), before);
    assert!(host.holds("! test -s /srv/lost"), "the page cache is lost with the kernel");
    assert_eq!(host.read("/run/seen").lines().collect::<Vec<_>>(), whole(pulls));
    host.await_applied(&revision);
}
