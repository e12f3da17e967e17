//! The plug of a virtual machine is pulled: what was only in its page cache is lost, too.

use std::time::Duration;

use super::apt::Package;
use super::installed::QUICK;
use super::{Host, Lab};
use crate::sample::{self, Dice};

/// How often the plug is pulled where nobody asked for more.
const PULLS: usize = 5;
const MANY_PULLS: usize = 100;

/// How many files change at once, and how often the line of each is in it: more than one block.
const FILES: usize = 60;
const LINES: usize = 1000;

/// How long after it was seen that a file is written the plug may be pulled.
const MILLISECONDS: usize = 100;

/// Tells of each file its mode, its group and its lines, once each with how often they are there; of a link, where to.
const LOOK: &str = r#"#!/usr/bin/perl
for my $path (sort glob '/srv/app/* /srv/only/* /srv/current') {
    if (-l $path) { print "$path ", readlink $path, "\n"; next }
    my (undef, undef, $mode, undef, undef, $gid) = stat $path;
    open my $file, '<', $path or die;
    my %lines;
    $lines{$_}++ while <$file>;
    printf "$path %04o %s", $mode & 07777, scalar getgrgid $gid;
    print map({ s/\n//r && " $lines{$_} x " . s/\n//r } sort keys %lines), "\n";
}
"#;

/// Looks at each boot, before there is an agent.
const LOOKER: &str = "[Unit]\nBefore=trueup.service\n[Service]\nType=oneshot\n\
    ExecStart=/bin/sh -c 'exec /usr/local/sbin/look >/run/seen'\n[Install]\nWantedBy=multi-user.target\n";

/// Remembers what it read at its start.
const READER: &str = "[Service]\nExecStart=/bin/sh -c 'cat /srv/app/* | cut -d\" \" -f1 | uniq >/run/read; exec sleep infinity'\n\
    [Install]\nWantedBy=multi-user.target\n";

/// Waits until a file is there that begins so.
const AWAIT: &str = r#"my ($path, $begin) = @ARGV;
while (1) {
    if (open my $file, '<', $path) { exit if index(<$file> // '', $begin) == 0 }
    select undef, undef, undef, 0.005;
}"#;

/// The `n`th revision: something of each kind changes from each to the next.
fn declare(lab: &mut Lab, n: usize) -> String {
    let put = |path: &str, content: String| lab.fleet.write(&format!("hosts/web-01/{path}"), content);
    for file in 0..FILES {
        put(&format!("files/srv/app/{file:03}"), format!("{n} {file:03}\n").repeat(LINES));
    }
    put(&format!("files/srv/only/{n}"), "here\n".to_owned());
    put("units/reader.service", format!("[Unit]\nDescription={n}\n{READER}"));
    let (mode, group, package) = attributes(n);
    put(
        "host.toml",
        format!(
            "[packages]\ntool = \"{package}\"\n[files.\"/srv/app/**\"]\nmode = \"{mode}\"\ngroup = \"{group}\"\n\
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

fn attributes(n: usize) -> (&'static str, &'static str, &'static str) {
    [("0640", "adm", "absent"), ("0600", "daemon", "present")][n % 2]
}

/// What is looked at, as the `n`th revision has it.
fn whole(n: usize) -> Vec<String> {
    let (mode, group, _) = attributes(n);
    let mut lines: Vec<String> =
        (0..FILES).map(|file| format!("/srv/app/{file:03} {mode} {group} {LINES} x {n} {file:03}")).collect();
    lines.push(format!("/srv/current only/{n}"));
    lines.push(format!("/srv/only/{n} 0644 root 1 x here"));
    lines
}

/// Everything is as the `n`th revision has it, and nothing else is there.
#[track_caller]
fn holds(host: &Host, n: usize) {
    let seen = host.ok(&["/usr/local/sbin/look"]);
    assert_eq!(seen.lines().collect::<Vec<_>>(), whole(n));
    assert_eq!(host.read("/run/read"), format!("{n}\n"), "it runs with what it watches");
    assert_eq!(host.unit_state("reader.service"), "active enabled");
    assert_eq!(host.unit("reader.service", "Description"), n.to_string());
    assert_eq!(host.package("tool").is_some(), attributes(n).2 == "present");
    assert_eq!(host.ok(&["dpkg", "--audit"]), "");
    assert_eq!(host.shell("find /etc /srv /usr /var -xdev -name '*.trueup-*' -o -name policy-rc.d"), "");
    let kept = host.shell("find /var/lib/trueup -name '*~'");
    assert_eq!(kept, "", "its own documents are whole");
}

#[test]
fn after_power_and_page_cache_are_lost_in_a_pass_each_file_is_old_or_new_and_it_converges_by_itself() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[Package::new("tool", "1.0")]);
    let first = declare(&mut lab, 0);
    let mut host = lab.boot_vm("web-01", QUICK);
    host.write("/usr/local/sbin/look", LOOK);
    host.ok(&["chmod", "755", "/usr/local/sbin/look"]);
    host.write("/etc/systemd/system/look.service", LOOKER);
    host.ok(&["systemctl", "enable", "--quiet", "look"]);
    host.await_applied(&first);
    holds(&host, 0);
    host.ok(&["sync"]);

    let mut dice = Dice::new();
    let (mut moments, mut amid) = (Vec::new(), 0);
    let pulls = if sample::long() { MANY_PULLS } else { PULLS };
    for n in 1..=pulls {
        let revision = declare(&mut lab, n);
        let moment = (dice.below(FILES), dice.below(MILLISECONDS));
        moments.push(moment);
        let await_it = ["timeout", "120", "perl", "-e", AWAIT, &format!("/srv/app/{:03}", moment.0), &format!("{n} ")];
        host.ok(&await_it);
        // At a moment that nothing tells of.
        std::thread::sleep(Duration::from_millis(moment.1 as u64));
        host.cut();

        // As it was when the agent started.
        let seen = host.read("/run/seen");
        let (old, new) = (whole(n - 1), whole(n));
        let strange: Vec<&str> =
            seen.lines().filter(|line| ![&old, &new].iter().any(|all| all.iter().any(|one| one == line))).collect();
        assert_eq!(strange, Vec::<&str>::new(), "neither old nor new, after {moment:?}");
        let paths = seen.lines().filter(|line| line.starts_with("/srv/app/") || line.starts_with("/srv/current"));
        assert_eq!(paths.count(), FILES + 1, "each is there, after {moment:?}");
        amid +=
            usize::from(seen.lines().any(|line| line.starts_with("/srv/app/") && old.iter().any(|one| one == line)));

        host.await_applied(&revision);
        holds(&host, n);
        assert_eq!(host.journal(&["TRUEUP_EVENT=state-lost"]).len(), 0);
    }
    println!("the plug was pulled {pulls} times, {amid} of them before the last of {FILES} files, at {moments:?}");
    assert!(amid * 2 > pulls, "{amid} of {pulls} were in the middle");

    // What it says is applied is on the disk.
    let revision = declare(&mut lab, pulls + 1);
    host.await_applied(&revision);
    host.cut();
    assert_eq!(host.read("/run/seen").lines().collect::<Vec<_>>(), whole(pulls + 1));
    host.await_applied(&revision);
    holds(&host, pulls + 1);
}

#[test]
fn a_virtual_machine_loses_its_page_cache_with_its_power_and_comes_up_again_after_a_panic() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/motd", "from the fleet\n");
    let first = lab.fleet.commit("first");
    let mut host = lab.boot_vm("web-01", "");
    host.await_applied(&first);
    assert_eq!(host.read("/etc/motd"), "from the fleet\n");
    assert_eq!(host.ok(&["hostname", "-f"]).trim(), "web-01.fleet.test");

    let boot = |host: &Host| host.read("/proc/sys/kernel/random/boot_id");
    let before = boot(&host);
    host.write("/srv/kept", "kept\n");
    host.ok(&["sync", "/srv/kept"]);
    host.write("/srv/lost", "lost\n");
    host.cut();
    assert_eq!((host.read("/srv/kept").as_str(), host.has("/srv/lost")), ("kept\n", false));
    let second = boot(&host);
    assert_ne!(second, before);

    let panics = host.spawn(&["sh", "-c", "echo c >/proc/sysrq-trigger"], None);
    host.await_reboot();
    drop(panics);
    assert_ne!(boot(&host), second);
    host.await_applied(&first);
}
