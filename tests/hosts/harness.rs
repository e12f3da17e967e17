//! The harness itself: what the other tests stand on.

use std::fs;
use std::path::Path;

use super::apt::Package;
use super::listing::Listing;
use super::{Lab, git};

#[test]
fn a_host_boots_with_systemd_a_network_a_git_server_and_a_package_repository() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/motd", "from the fleet\n");
    let commit = lab.fleet.commit("first");
    lab.apt().publish(&[Package::new("sleeper", "1.0").service("/bin/sleep infinity", "")]);
    let host = lab.boot("web-01");

    assert_eq!(host.ok(&["hostname"]).trim(), "web-01");
    assert_eq!(host.ok(&["hostname", "-f"]).trim(), "web-01.fleet.test");
    assert_eq!(host.ok(&["systemctl", "is-system-running"]).trim(), "running");
    assert_eq!(host.ok(&["cat", "/proc/1/comm"]).trim(), "systemd");
    assert!(host.shell("journalctl -b --no-pager | tail -n 5").contains("systemd"), "a journal is kept");

    // Its own package manager, from the lab's repository.
    host.shell("DEBIAN_FRONTEND=noninteractive apt-get -y -qq install sleeper");
    assert_eq!(host.package("sleeper").as_deref(), Some("1.0"));
    assert_eq!(host.unit_state("sleeper.service"), "active enabled");

    // Every Git server, with the git of the image.
    let address = lab.network.address();
    let tip = |url: &str, more: &str| host.shell(&format!("{more} git ls-remote {url} refs/heads/main | cut -f1"));
    let _daemon = git::daemon(&address, lab.served());
    let ssh = git::Ssh::start(&address, lab.directory("ssh"));
    host.write("/root/key", ssh.deploy_key());
    host.shell("chmod 600 /root/key");
    host.write("/root/known", ssh.known_hosts(true));
    let path = lab.fleet.bare().display().to_string();
    let over_ssh = "GIT_SSH_COMMAND='ssh -i /root/key -o BatchMode=yes -o UserKnownHostsFile=/root/known'";
    let https = format!("https://{address}:{}/fleet.git", super::lab::HTTPS_PORT);
    assert_eq!(tip(&format!("git://{address}/fleet.git"), "").trim(), commit);
    assert_eq!(tip(&https, "GIT_SSL_CAINFO=/etc/trueup/ca.pem").trim(), commit);
    assert_eq!(tip(&format!("ssh://root@{address}:{}{path}", git::SSH_PORT), over_ssh).trim(), commit);
    assert!(!host.holds(&format!("git ls-remote {https}")), "an unknown authority is not believed");
    host.write("/root/known", ssh.known_hosts(false));
    assert!(!host.holds(&format!("{over_ssh} git ls-remote ssh://root@{address}:{}{path}", git::SSH_PORT)));
    lab.network.partition(true);
    assert!(!host.holds(&format!("timeout 2 git ls-remote git://{address}/fleet.git")));
}

#[test]
fn two_hosts_are_strangers_to_each_other_and_nothing_is_left_of_them() {
    let Some(lab) = Lab::new(2) else { return };
    let directory = lab.directory("");
    let bridge = Path::new("/sys/class/net").join(lab.network.bridge());
    let (mut one, two) = (lab.boot("web-01"), lab.boot("db-01"));
    assert_ne!(one.read("/etc/machine-id"), two.read("/etc/machine-id"));
    one.ok(&["systemd-run", "--quiet", "--unit=same", "sleep", "infinity"]);
    assert_eq!(two.unit("same.service", "ActiveState"), "inactive");
    two.ok(&["systemd-run", "--quiet", "--unit=same", "sleep", "infinity"]);
    two.ok(&["systemctl", "stop", "same"]);
    assert_eq!(one.unit("same.service", "ActiveState"), "active", "control groups are each host's own");

    // A listing sees what a look would not.
    let before = Listing::of(&one);
    assert_eq!(before.changes(&Listing::of(&one)), Vec::<String>::new());
    one.shell("touch -d 2001-01-01 /etc/issue; chmod 600 /etc/fstab; echo >/etc/new");
    let changed = before.leaves_changed(&Listing::of(&one));
    assert_eq!(changed, ["/etc/fstab", "/etc/issue", "/etc/new"]);

    // The plug is pulled: what was written is there, what ran is not.
    one.cut();
    assert_eq!(one.stat("/etc/fstab"), "regular file 600 root:root");
    assert_eq!(one.unit("same.service", "ActiveState"), "inactive");
    assert_eq!(two.ok(&["hostname"]).trim(), "db-01", "the other host did not notice");

    drop((one, two));
    drop(lab);
    assert!(!bridge.exists(), "the bridge is gone");
    assert!(!directory.exists(), "the directory is gone");
    let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
    assert!(!mounts.contains(&directory.display().to_string()), "no mount of the machine's: {mounts}");
    let groups = fs::read_dir("/sys/fs/cgroup/systemd/trueup-tests").into_iter().flatten().flatten();
    let ours = bridge.file_name().expect("a name").to_string_lossy().into_owned() + "-";
    assert_eq!(groups.filter(|group| group.file_name().to_string_lossy().starts_with(&ours)).count(), 0);
}
