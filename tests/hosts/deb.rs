//! The deb: installed, upgraded, removed, purged. What the agent itself does is no matter here: a stand-in takes steps,
//! so that it is seen when one is cut short.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Host, Lab, Variant};

/// Takes one step of two seconds after the other, and ends between two.
const STAND_IN: &str = "#!/bin/sh\ntrap 'end=1' TERM\nsystemd-notify --ready\nwhile [ -z \"$end\" ]; do\n\
                        sh -c 'echo began; sleep 2; echo done' >>/run/steps\ndone\n";

const DROP_IN: &str = "[Service]\nNotifyAccess=all\nExecStart=\nExecStart=/usr/local/bin/stand-in\n";

/// Builds the package of `version` around the binary under test.
fn build(version: &str, into: &Path) -> PathBuf {
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/build"))
        .args(["deb", "--version", version, "--binary", env!("CARGO_BIN_EXE_trueup"), "--output"])
        .arg(into)
        .stdin(Stdio::null())
        .output()
        .expect("packaging/build is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end())
}

/// A host without anything of trueup, with both packages below `/root`.
fn fresh(lab: &Lab) -> Host {
    let host = lab.boot_plain(Variant::Bookworm, "web-01", &[]);
    for (version, name) in [("0.0.9", "/root/old.deb"), ("0.1.0", "/root/new.deb")] {
        host.copy_in(&build(version, &lab.directory("packages")), name);
    }
    host.write("/usr/local/bin/stand-in", STAND_IN);
    host.write("/etc/systemd/system/trueup.service.d/stand-in.conf", DROP_IN);
    host.shell("chmod 755 /usr/local/bin/stand-in");
    host
}

/// Everything of trueup's that somebody could find: links of units, what it owns.
fn traces(host: &Host) -> String {
    host.shell("find /etc /run /usr /var -xdev -name '*trueup*' ! -path '*/dpkg/*' ! -name trueup.service.d | sort")
}

#[test]
fn a_deb_is_installed_upgraded_while_a_step_runs_removed_and_purged() {
    let Some(lab) = Lab::new(1) else { return };
    let host = fresh(&lab);

    host.ok(&["dpkg", "-i", "/root/old.deb"]);
    assert_eq!(host.package("trueup").as_deref(), Some("0.0.9-1"));
    assert_eq!(host.unit_state("trueup.service"), "active enabled");
    assert_eq!(host.unit_state("trueup.socket"), "active enabled");
    assert!(host.holds("getent passwd trueup-fetch"), "the worker's user");
    for (path, what) in [
        ("/etc/trueup/agent.toml", "regular file 644 root:root"),
        ("/etc/trueup/agent.d", "directory 755 root:root"),
        ("/var/lib/trueup", "directory 700 root:root"),
        ("/run/trueup/trueup.sock", "socket 666 root:root"),
        ("/usr/share/man/man1/trueup-run.1.gz", "regular file 644 root:root"),
        ("/usr/share/man/man5/trueup-agent.toml.5.gz", "regular file 644 root:root"),
        ("/usr/share/bash-completion/completions/trueup", "regular file 644 root:root"),
    ] {
        assert_eq!(host.stat(path), what, "{path}");
    }

    // In the middle of a step. dpkg does not wait for its end, which might wait for dpkg.
    host.shell("echo '# mine' >>/etc/trueup/agent.toml; echo x >/var/lib/trueup/x");
    let before = host.unit("trueup.service", "MainPID");
    host.shell("until grep -q began /run/steps; do sleep 0.05; done");
    host.ok(&["dpkg", "-i", "/root/new.deb"]);
    let another = "until [ \"$(systemctl show -p MainPID --value trueup)\" != \"$1\" ]; do sleep 0.05; done";
    host.ok(&["sh", "-euc", another, "another", &before]);
    host.shell(
        "until [ \"$(systemctl is-active trueup.service trueup.socket | uniq)\" = active ]; do sleep 0.05; done",
    );
    assert_eq!(host.package("trueup").as_deref(), Some("0.1.0-1"));
    assert!(host.read("/etc/trueup/agent.toml").ends_with("# mine\n"));

    // Stopped stays stopped: nobody who connects starts it, nor does an upgrade.
    host.shell("systemctl stop trueup");
    let steps = host.read("/run/steps");
    assert!(steps.lines().eq(["began", "done"].into_iter().cycle().take(steps.lines().count())), "cut short: {steps}");
    assert!(!host.has("/run/trueup/trueup.sock"));
    host.ok(&["dpkg", "-i", "/root/new.deb"]);
    assert_eq!(host.unit_state("trueup.service"), "inactive enabled");
    host.shell("systemctl disable trueup");
    host.ok(&["dpkg", "-i", "/root/new.deb"]);
    assert_eq!(host.unit_state("trueup.service"), "inactive disabled");
    host.shell("systemctl enable --now trueup");

    host.ok(&["dpkg", "-r", "trueup"]);
    assert_eq!(host.unit_state("trueup.service").trim(), "inactive");
    assert_eq!(host.unit_state("trueup.socket").trim(), "inactive");
    assert_eq!(traces(&host), "/etc/trueup\n/run/trueup\n/var/lib/trueup\n", "no link of a unit");
    assert_eq!(host.read("/var/lib/trueup/x"), "x\n");

    // It comes back as it came.
    host.ok(&["dpkg", "-i", "/root/new.deb"]);
    assert_eq!(host.unit_state("trueup.service"), "active enabled");
    assert!(host.read("/etc/trueup/agent.toml").ends_with("# mine\n"));

    host.shell("systemctl mask --now trueup.service");
    host.ok(&["dpkg", "-P", "trueup"]);
    assert_eq!(traces(&host), "");
    host.ok(&["dpkg", "-i", "/root/new.deb"]);
    assert_eq!(host.unit_state("trueup.service"), "active enabled", "the mask is gone too");
}

#[test]
fn a_deb_is_installed_removed_and_purged_where_no_systemd_runs_and_where_nothing_may_start() {
    let Some(lab) = Lab::new(1) else { return };
    let host = fresh(&lab);
    // As in a chroot: nothing of the running system is reached.
    let elsewhere = |script: &str| host.shell(&format!("unshare -m sh -euc 'mount -t tmpfs tmpfs /run; {script}'"));
    elsewhere("dpkg -i /root/old.deb; dpkg -i /root/new.deb");
    host.shell("systemctl daemon-reload");
    assert_eq!(host.unit_state("trueup.service"), "inactive enabled");
    assert_eq!(host.unit_state("trueup.socket"), "inactive enabled");
    elsewhere("dpkg -r trueup; dpkg -P trueup");
    assert_eq!(traces(&host), "");

    host.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n");
    host.shell("chmod 755 /usr/sbin/policy-rc.d");
    host.ok(&["dpkg", "-i", "/root/new.deb"]);
    assert_eq!(host.unit_state("trueup.service"), "inactive enabled");
    host.ok(&["dpkg", "-P", "trueup"]);
    assert_eq!(traces(&host), "");
}
