//! A user of the host owns a directory that trueup writes below, and exchanges what is in it with links to what is
//! root's, all the while the agent goes on.

use super::{Host, Lab};

/// So many exchanges at least.
const SWAPS: usize = 100_000;
/// And so many revisions meanwhile.
const REVISIONS: usize = 12;

/// Exchanges pairs of names in its working directory: something of its own, and a link to something of root's; until it
/// is told to end. Tells how often it did.
const SWAPPER: &str = r#"
use strict;
my $machine = `uname -m`;
chomp $machine;
# The number of renameat2(2), whose fifth argument 2 is RENAME_EXCHANGE.
my $renameat2 = { x86_64 => 316, aarch64 => 276 }->{$machine} or die "which number has renameat2 on $machine?";
my @pairs = (["conf", ".conf", "/etc/victim", 1], ["up", ".up", "/etc", 1], ["f", ".f", "/etc/victim/a", 0]);
my ($swaps, $stop) = (0, 0);
$SIG{TERM} = sub { $stop = 1 };
sub make { my ($at, $is_directory) = @_; if ($is_directory) { mkdir $at } else { open(my $file, ">>", $at) } }
while (!$stop) {
    for my $pair (@pairs) {
        my ($name, $aside, $to, $is_directory) = @$pair;
        if (syscall($renameat2, -100, $name, -100, $aside, 2) == 0) { $swaps++; next }
        for my $two ([$name, $aside], [$aside, $name]) {
            my ($one, $other) = @$two;
            next if lstat $one;
            if (-l $other) { make($one, $is_directory) } else { symlink $to, $one }
        }
        # Root may have put something of its own in the place of both.
        if (!-l $name && !-l $aside) { unlink $aside; rmdir $aside; rename $aside, ".aside-$swaps"; symlink $to, $aside }
    }
    if ($swaps % 1000 < 3) { open(my $told, ">", "/tmp/swaps.new"); print $told "$swaps\n"; close $told; rename "/tmp/swaps.new", "/tmp/swaps" }
}
print "$swaps\n";
"#;

const STRANGERS: &str = "cd /srv/app; for place in conf up/victim; do mkdir -p $place/x/strange; touch $place/x/strange/r $place/x/other; done";

/// The `n`th revision of what is below the directory: of everything something changes from each to the next.
fn declare(lab: &mut Lab, n: usize) -> String {
    let there = |name: &str, n: usize| match name {
        "c" => n % 3 != 2,
        "sub/deep" => n % 4 != 3,
        _ => true,
    };
    for name in ["a", "b", "c", "sub/deep"] {
        for place in ["conf", "up/victim"] {
            let path = format!("hosts/web-01/files/srv/app/{place}/{name}");
            if there(name, n) {
                lab.fleet.write(&path, format!("{n} {name}\n"));
            } else if n > 0 && there(name, n - 1) {
                lab.fleet.remove(&path);
            }
        }
    }
    let mut manifest = String::new();
    for place in ["/srv/app/conf", "/srv/app/up/victim"] {
        manifest += &format!(
            "[files.\"{place}/b\"]\nmode = \"0{}\"\nowner = \"{}\"\n\
             [files.\"{place}/d\"]\ntype = \"directory\"\nmode = \"0{}\"\n\
             [files.\"{place}/l\"]\ntype = \"symlink\"\ntarget = \"{n}\"\nreplace = \"any\"\n\
             [files.\"{place}/{}\"]\nstate = \"absent\"\n\
             [files.\"{place}/t\"]\ntype = \"{}\"\nreplace = \"any\"\n\
             [files.\"{place}/x\"]\ntype = \"directory\"\nowner = \"app\"\nexclusive = true\n",
            ["600", "604"][n % 2],
            ["root", "app"][n % 2],
            ["750", "705"][n % 2],
            ["gone", "lost"][n % 2],
            ["directory", "symlink\"\ntarget = \"elsewhere"][n % 2],
        );
    }
    manifest += &format!(
        "[files.\"/srv/app/f\"]\nattributes_only = true\nmode = \"0{}\"\nowner = \"{}\"\n",
        ["600", "604"][n % 2],
        ["root", "app"][n % 2],
    );
    lab.fleet.write("hosts/web-01/host.toml", manifest);
    lab.fleet.commit(&format!("revision {n}"))
}

/// Everything of root's that the links lead to, with all that can be told of it.
fn victim(host: &Host) -> String {
    let listed = "find /etc/victim -printf '%p %y %i %m %U:%G %s %T@ %C@ %l\\n' | sort; find /etc/victim -type f | sort | xargs sha256sum";
    host.shell(&format!("{listed}; ls -A /etc | sort; stat -c '%a %U:%G' /etc"))
}

#[test]
fn a_user_who_exchanges_directories_with_links_all_the_while_gets_nothing_written_elsewhere() {
    let Some(mut lab) = Lab::new(1) else { return };
    let first = declare(&mut lab, 0);
    let mut files = lab.agent_files("interval = \"1s\"\n");
    files.push(("/srv/swapper".to_owned(), SWAPPER.into()));
    let host = lab.boot_plain(super::Variant::Bookworm, "web-01", &files);
    host.shell(
        "useradd --system app; mkdir /srv/app; chown app:app /srv/app; chmod 644 /srv/swapper
         mkdir -p /etc/victim/d /etc/victim/x/stranger /etc/victim/t /etc/victim/sub
         for name in a b c gone lost x/other t/inner sub/deep; do echo of root >/etc/victim/$name; done
         ln -s a /etc/victim/l; chmod 600 /etc/victim/a; touch /srv/app/f; chown app: /srv/app/f",
    );
    host.install(&super::installed::deb());
    host.await_applied(&first);
    let agent = host.agent();
    let before = victim(&host);

    let swapper = "cd /srv/app; exec setpriv --reuid=app --regid=app --clear-groups perl /srv/swapper";
    let mut running = host.spawn(&["sh", "-c", swapper], None);
    host.await_that("[ -e /tmp/swaps ]");
    let swaps = || host.shell("cat /tmp/swaps").trim().parse::<usize>().expect("a number");
    let mut n = 0;
    while n < REVISIONS || swaps() < SWAPS {
        n += 1;
        assert!(n < 20 * REVISIONS, "who exchanges them has come to a halt: {}", swaps());
        let revision = declare(&mut lab, n);
        host.run(&["trueup", "sync"]);
        host.await_status("it is tried", |status| {
            status["revision"]["seen"] == *revision && status["running"].is_null()
        });
        // Strangers, whom an exclusive directory rids itself of.
        host.run(&["setpriv", "--reuid=app", "--regid=app", "--clear-groups", "sh", "-c", STRANGERS]);
    }
    let swaps = swaps();
    running.end();
    let reasons = host.shell(
        "journalctl -b -q -o json TRUEUP_EVENT=failed | grep -o '\"TRUEUP_REASON\":\"[a-z-]*\"' | sort | uniq -c",
    );
    println!("{swaps} exchanges over {n} revisions; what failed:\n{reasons}");
    assert_eq!(victim(&host), before);
    assert!(reasons.contains("untrusted-link"), "it never met a link: {reasons}");
    assert_eq!(host.agent(), agent, "the agent lives");

    // Left alone it converges by itself, and nothing is left.
    host.shell(
        "cd /srv/app; for name in conf .conf up .up f .f; do [ ! -L $name ] || rm $name; done; [ -e f ] || touch f",
    );
    let last = declare(&mut lab, n + 1);
    host.run(&["trueup", "sync"]);
    // What failed waits else for its time.
    host.run(&["trueup", "retry"]);
    host.await_applied(&last);
    // What somebody hindered root from putting back is theirs, in their directory.
    assert_eq!(host.shell("find / -xdev -path /srv/app -prune -o -name '.trueup-*' -print"), "");
    assert_eq!(victim(&host), before);
}
