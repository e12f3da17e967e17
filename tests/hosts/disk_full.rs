//! A disk that is really full: an ext4 of a few MB, where managed files are and where our own state is.

use std::fs;

use super::installed::QUICK;
use super::{Host, Lab};

/// Of a file system all is anybody's: none is kept for root, or for a journal.
const ALL_OF_IT: &[&str] = &["-m", "0", "-O", "^has_journal"];

/// Fills a file system to its last block.
fn fill(host: &Host, mount: &str) {
    for (part, size) in [("ballast", "bs=64k"), ("ballast.rest", "bs=4k")] {
        host.run(&["dd", "if=/dev/zero", &format!("of={mount}/{part}"), size, "status=none"]);
    }
    host.run(&["dd", "if=/dev/zero", &format!("of={mount}/ballast.end"), "bs=1", "count=4096", "status=none"]);
    assert!(!host.holds(&format!("head -c 4096 /dev/zero >{mount}/more")), "{mount} is not full");
    host.ok(&["rm", "-f", &format!("{mount}/more")]);
}

fn has_space_again(host: &Host, mount: &str) {
    host.shell(&format!("rm {mount}/ballast*"));
}

/// Each event of the journal that says that a disk is full.
fn said(host: &Host) -> Vec<String> {
    host.ok(&["journalctl", "--sync"]);
    let entries = host.journal(&["SYSLOG_IDENTIFIER=trueup", "TRUEUP_REASON=disk-full"]);
    entries.iter().map(|entry| entry["TRUEUP_EVENT"].as_str().expect("an event").to_owned()).collect()
}

#[test]
fn a_full_disk_is_said_once_costs_no_file_and_passes_by_itself() {
    let Some(mut lab) = Lab::new(1) else { return };
    let revision = |lab: &mut Lab, what: &str, length: usize| {
        lab.fleet.write("hosts/web-01/files/srv/full/app.conf", format!("{what}\n").repeat(length));
        lab.fleet.write("hosts/web-01/files/etc/motd", format!("{what}\n"));
        lab.fleet.commit(what)
    };
    let first = revision(&mut lab, "old", 1);
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    host.ok(&["systemctl", "stop", "trueup"]);
    let images = lab.directory("images");
    fs::create_dir_all(&images).expect("a directory of the lab's own");
    host.ok(&["cp", "-a", "/var/lib/trueup", "/srv/kept"]);
    host.mount_ext4(&images.join("state"), "/var/lib/trueup", 256, ALL_OF_IT);
    host.shell("chmod 700 /var/lib/trueup; cp -a /srv/kept/. /var/lib/trueup/");
    host.mount_ext4(&images.join("full"), "/srv/full", 4, ALL_OF_IT);
    host.ok(&["systemctl", "start", "trueup"]);
    host.await_applied(&first);
    let agent = host.agent();

    // Where our own state is: nothing is begun that could not be remembered.
    fill(&host, "/var/lib/trueup");
    let second = revision(&mut lab, "new", 1);
    host.await_status("our own disk is full", |status| {
        status["state"] == "degraded" && status["reason"] == "disk-full" && status["revision"]["seen"] == *second
    });
    host.await_passes(3);
    assert_eq!(["/srv/full/app.conf", "/etc/motd"].map(|path| host.read(path)), ["old\n", "old\n"]);
    assert_eq!(said(&host), ["degraded"], "once");
    has_space_again(&host, "/var/lib/trueup");
    host.await_applied(&second);
    assert_eq!(["/srv/full/app.conf", "/etc/motd"].map(|path| host.read(path)), ["new\n", "new\n"]);

    // Where a managed file is: the others are brought about.
    fill(&host, "/srv/full");
    let third = revision(&mut lab, "newest", 4096);
    host.await_status("the disk of a file is full", |status| {
        status["state"] == "degraded" && status["reason"] == "disk-full" && status["revision"]["attempted"] == *third
    });
    host.ok(&["trueup", "retry"]);
    host.await_passes(3);
    assert_eq!(host.read("/srv/full/app.conf"), "new\n", "the old one is whole");
    assert_eq!(host.read("/etc/motd"), "newest\n");
    assert_eq!(host.shell("find /srv/full /var/lib/trueup -name '*~'"), "");
    // Of the host, of the file, and of the host again.
    assert_eq!(said(&host), ["degraded", "failed", "degraded"], "once each");
    has_space_again(&host, "/srv/full");
    host.await_applied(&third);
    assert_eq!(host.read("/srv/full/app.conf"), "newest\n".repeat(4096));
    assert_eq!(host.agent(), agent, "it lived");
}
