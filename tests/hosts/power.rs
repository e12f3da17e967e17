//! The plug is pulled in the middle of a pass; the next one converges.

use super::apt::Package;
use super::listing::Listing;
use super::{Host, Lab};
use crate::sample::{self, Dice};

/// Of those that come after the one that is seen some are not even begun then, however fast it goes: they are written 500 at a
/// time.
const FILES: usize = 1500;

fn number(lab: &Lab, what: &str) {
    for n in 0..FILES {
        lab.fleet.write(&format!("hosts/web-01/files/srv/app/{n:04}.conf"), format!("{what} {n:04}\n").repeat(50));
    }
}

/// The host has no file that a write left half way.
fn no_left_over(host: &Host) {
    let listing = Listing::of(host);
    assert_eq!(listing.paths(|path| path.contains(".trueup-")), Vec::<&str>::new());
}

/// How often the plug is pulled where nobody asked for more.
const PULLS: usize = 5;
const MANY_PULLS: usize = 25;

#[test]
fn after_the_plug_is_pulled_while_files_are_written_each_is_old_or_new_and_the_next_pass_converges() {
    let Some(mut lab) = Lab::new(1) else { return };
    number(&lab, "0");
    lab.fleet.commit("0");
    let mut host = lab.boot("web-01");
    host.trueup(&["run"]).converged();

    let mut dice = Dice::new();
    let (mut moments, mut amid) = (Vec::new(), 0);
    let pulls = if sample::long() { MANY_PULLS } else { PULLS };
    for pull in 1..=pulls {
        let (what, before) = (pull.to_string(), (pull - 1).to_string());
        number(&lab, &what);
        lab.fleet.commit(&what);
        // What it prints is more than a pipe holds that nobody reads.
        let running = host.spawn(&["sh", "-c", "exec trueup run >/run/told 2>&1"], None);
        // Somewhere in the middle: when this one is seen.
        let moment = dice.below(FILES / 2);
        moments.push(moment);
        host.shell(&format!("until grep -qs '^{what} ' /srv/app/{moment:04}.conf; do :; done"));
        host.cut();
        drop(running.wait());

        let content = host.shell("cd /srv/app; for n in *.conf; do uniq $n; done");
        let lines: Vec<&str> = content.lines().collect();
        assert_eq!(lines.len(), FILES, "never a mix");
        for (n, line) in lines.iter().enumerate() {
            assert!([format!("{what} {n:04}"), format!("{before} {n:04}")].contains(&(*line).to_owned()), "{line}");
        }
        amid += usize::from(lines.iter().any(|line| line.starts_with(&format!("{before} "))));
        host.trueup(&["run"]).converged();
        assert_eq!(host.shell("cat /srv/app/*.conf | uniq | cut -d' ' -f1 | uniq"), format!("{what}\n"));
        no_left_over(&host);
        host.trueup(&["run"]).idle();
    }
    println!("the plug was pulled {pulls} times, {amid} of them before the last of {FILES} files, at {moments:?}");
    assert!(amid * 2 > pulls, "{amid} of {pulls} were in the middle");
}

#[test]
fn after_the_plug_is_pulled_inside_a_package_the_next_pass_repairs_and_converges() {
    let Some(mut lab) = Lab::new(1) else { return };
    // The first time it is configured it says so, and stays there.
    let postinst = "#!/bin/sh\nset -e\nif [ ! -e /srv/once ]; then\n  touch /srv/once; sync; echo here >/run/where\n  exec sleep infinity\nfi\n";
    lab.apt().publish(&[
        Package::new("slow", "1.0").script("postinst", postinst).file("/usr/share/slow", "slow\n", 0o644),
        Package::new("quick", "1.0").field("Depends", "slow"),
    ]);
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[packages]\nslow = \"present\"\nquick = \"present\"\n[units.\"tick.service\"]\nenabled = true\nactive = true\n",
    );
    lab.fleet.write("hosts/web-01/files/etc/motd", "ours\n");
    lab.fleet.write(
        "hosts/web-01/units/tick.service",
        "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    );
    lab.fleet.commit("web-01");
    let mut host = lab.boot("web-01");
    host.shell("mkfifo /run/where");
    let running = host.spawn(&["trueup", "run"], None);
    assert_eq!(host.read("/run/where"), "here\n");
    host.cut();
    drop(running.wait());

    assert_eq!(host.package("slow"), None, "half configured");
    host.trueup(&["run"]).converged();
    assert_eq!(host.package("slow").as_deref(), Some("1.0"));
    assert_eq!(host.package("quick").as_deref(), Some("1.0"));
    assert_eq!(host.ok(&["dpkg", "--audit"]), "");
    assert_eq!(host.read("/etc/motd"), "ours\n");
    assert_eq!(host.unit_state("tick.service"), "active enabled");
    assert!(!host.has("/usr/sbin/policy-rc.d"));
    no_left_over(&host);
    host.trueup(&["run"]).idle();
}
