//! Each row of the table of what the system needs after a file changes: the system's own engine does it, once, and what
//! the file says is in force.

use std::collections::BTreeMap;

use super::apt::Package;
use super::installed::deb;
use super::lab::APT_KEY;
use super::{Host, Lab, Variant, dnf};

/// Engines that are found by name, and those that only systemd calls.
const BY_NAME: [&str; 7] =
    ["systemd-sysusers", "systemd-tmpfiles", "udevadm", "networkctl", "update-ca-certificates", "ldconfig", "apt-get"];
const OF_SYSTEMD: [&str; 2] = ["systemd-sysctl", "systemd-modules-load"];

/// Notes that an engine runs, and with what; fails in its place where the host is told so.
const NOTE: &str = "#!/bin/sh\necho NAME \"$@\" >>/run/engines\n\
                    if [ -e /run/fail-NAME ]; then echo 'the engine has no luck' >&2; exit 7; fi\n\
                    if [ -e /run/kill-NAME ]; then rm /run/kill-NAME; kill -KILL \"$(systemctl show --value -p MainPID trueup)\"; sleep 60; fi\n\
                    exec REAL \"$@\"\n";

/// In the place of podman's: makes a unit of each container, as podman-systemd.unit(5) says.
const GENERATOR: &str = "#!/bin/sh\nfor file in /etc/containers/systemd/*.container; do\n\
                         [ -e \"$file\" ] || continue\nname=${file##*/}\n\
                         { cat \"$file\"; printf '[Service]\\nExecStart=/bin/true\\n'; } >\"$1/${name%.container}.service\"\ndone\n";

/// Two services that systemd starts on no container unless it is told to.
const ANYWHERE: &str = "[Unit]\nConditionVirtualization=\nConditionCapability=\n\
                        [Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n";

/// Everything that the table's engines need to do what they do on a machine.
const PREPARE: &str = "
systemctl -q unmask systemd-networkd.service systemd-networkd.socket systemd-resolved systemd-timesyncd
mount -o remount,rw /sys; mount -o remount,rw /sys/devices
systemctl start systemd-udevd
ip link add probe0 type veth peer name probe1
ip link set probe1 up
systemctl start systemd-networkd systemd-resolved systemd-timesyncd
for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29; do
    mkdir -p /opt/probe-$n/lib
    cp /usr/lib/x86_64-linux-gnu/libz.so.1 /opt/probe-$n/lib/
done
";

/// Services that are restarted, and those that never are.
const RESTARTED: [(&str, &str); 3] =
    [("journald", "systemd-journald"), ("resolved", "systemd-resolved"), ("timesyncd", "systemd-timesyncd")];
const NEVER: [&str; 2] = ["dbus", "systemd-logind"];

/// One row: what it is called, its file, what that holds in the `n`th revision, the engines that are to run, and a script
/// that holds once it is in force.
struct Row {
    name: &'static str,
    file: fn(usize) -> String,
    content: fn(usize) -> String,
    engines: &'static [&'static str],
    holds: fn(usize) -> String,
}

const ROWS: &[Row] = &[
    Row {
        name: "a unit file",
        file: |_| "units/probe.service".to_owned(),
        content: |n| format!("[Unit]\nDescription=probe {n}\n[Service]\nExecStart=/bin/true\n"),
        engines: &["daemon-reload"],
        holds: |n| format!("[ \"$(systemctl show --value -p Description probe)\" = 'probe {n}' ]"),
    },
    Row {
        name: "a unit file below /usr/local",
        file: |_| "files/usr/local/lib/systemd/system/local.service".to_owned(),
        content: |n| format!("[Unit]\nDescription=local {n}\n[Service]\nExecStart=/bin/true\n"),
        engines: &["daemon-reload"],
        holds: |n| format!("[ \"$(systemctl show --value -p Description local)\" = 'local {n}' ]"),
    },
    Row {
        name: "a container",
        file: |_| "files/etc/containers/systemd/box.container".to_owned(),
        content: |n| format!("[Unit]\nDescription=box {n}\n"),
        engines: &["daemon-reload"],
        holds: |n| format!("[ \"$(systemctl show --value -p Description box)\" = 'box {n}' ]"),
    },
    Row {
        name: "fstab",
        file: |_| "files/etc/fstab".to_owned(),
        content: |n| format!("tmpfs /mnt/probe{n} tmpfs noauto 0 0\n"),
        engines: &["daemon-reload"],
        holds: |n| format!("[ \"$(systemctl show --value -p LoadState mnt-probe{n}.mount)\" = loaded ]"),
    },
    Row {
        name: "sysusers",
        file: |_| "files/etc/sysusers.d/probe.conf".to_owned(),
        content: |n| format!("u probe{n} -\n"),
        engines: &["systemd-sysusers"],
        holds: |n| format!("getent passwd probe{n}"),
    },
    Row {
        name: "tmpfiles",
        file: |_| "files/etc/tmpfiles.d/probe.conf".to_owned(),
        content: |n| format!("d /run/probe-{n} 0750 root root\n"),
        engines: &["systemd-tmpfiles --create"],
        holds: |n| format!("[ \"$(stat -c %a /run/probe-{n})\" = 750 ]"),
    },
    Row {
        name: "sysctl",
        file: |_| "files/etc/sysctl.d/50-probe.conf".to_owned(),
        content: |n| format!("net.core.somaxconn = {}\n", 4000 + n),
        engines: &["systemd-sysctl"],
        holds: |n| format!("grep -qx {} /proc/sys/net/core/somaxconn", 4000 + n),
    },
    Row {
        name: "modules",
        file: |_| "files/etc/modules-load.d/probe.conf".to_owned(),
        content: |n| format!("# {n}\n"),
        engines: &["systemd-modules-load"],
        // A host here is a container, which loads none.
        holds: |_| "true".to_owned(),
    },
    Row {
        name: "udev rules",
        file: |_| "files/etc/udev/rules.d/50-probe.rules".to_owned(),
        content: |n| format!("SUBSYSTEM==\"net\", KERNEL==\"probe0\", ENV{{PROBE}}=\"{n}\"\n"),
        engines: &["udevadm control --reload"],
        holds: |n| {
            format!(
                "/usr/bin/udevadm trigger --action=change --settle /sys/class/net/probe0 && \
                 /usr/bin/udevadm info /sys/class/net/probe0 | grep -qx 'E: PROBE={n}'"
            )
        },
    },
    Row {
        name: "a network",
        file: |_| "files/etc/systemd/network/20-probe.network".to_owned(),
        content: |n| format!("[Match]\nName=probe0\n[Network]\nAddress=10.99.{n}.1/24\n"),
        engines: &["udevadm control --reload", "networkctl reload"],
        holds: |n| format!("ip -4 -o address show dev probe0 | grep -qF 10.99.{n}.1/24"),
    },
    Row {
        name: "journald",
        file: |_| "files/etc/systemd/journald.conf.d/probe.conf".to_owned(),
        content: |n| format!("[Journal]\nRateLimitBurst={}\n", 20_000 + n),
        engines: &["journald"],
        holds: |_| "systemctl -q is-active systemd-journald".to_owned(),
    },
    Row {
        name: "resolved",
        file: |_| "files/etc/systemd/resolved.conf.d/probe.conf".to_owned(),
        content: |n| format!("[Resolve]\nDNS=192.0.2.{n}\n"),
        engines: &["resolved"],
        holds: |n| format!("resolvectl dns | grep -qw 192.0.2.{n}"),
    },
    Row {
        name: "timesyncd",
        file: |_| "files/etc/systemd/timesyncd.conf.d/probe.conf".to_owned(),
        content: |n| format!("[Time]\nNTP=192.0.2.{n}\n"),
        engines: &["timesyncd"],
        holds: |n| format!("[ \"$(timedatectl show-timesync --value -p SystemNTPServers)\" = 192.0.2.{n} ]"),
    },
    Row {
        name: "a certificate",
        file: |n| format!("files/usr/local/share/ca-certificates/probe-{n}.crt"),
        // Each host has the authority of the lab.
        content: |_| String::new(),
        engines: &["update-ca-certificates"],
        // The one before went, and its link with it.
        holds: |n| {
            format!(
                "openssl x509 -noout -in /etc/ssl/certs/probe-{n}.pem && [ \"$(ls /etc/ssl/certs | grep -c '^probe-')\" = 1 ]"
            )
        },
    },
    Row {
        name: "a directory of libraries",
        file: |_| "files/etc/ld.so.conf.d/probe.conf".to_owned(),
        content: |n| format!("/opt/probe-{n}/lib\n"),
        engines: &["ldconfig"],
        holds: |n| {
            format!(
                "/usr/sbin/ldconfig -p | grep -qF /opt/probe-{n}/lib/ && [ \"$(/usr/sbin/ldconfig -p | grep -c /opt/probe-)\" = 1 ]"
            )
        },
    },
    Row {
        name: "a policy of dbus",
        file: |_| "files/etc/dbus-1/system.d/probe.conf".to_owned(),
        content: |n| format!("<busconfig><!-- {n} --></busconfig>\n"),
        engines: &["needs-reboot"],
        holds: |_| "systemctl -q is-active dbus".to_owned(),
    },
    Row {
        name: "logind",
        file: |_| "files/etc/systemd/logind.conf.d/probe.conf".to_owned(),
        content: |n| format!("[Login]\nInhibitDelayMaxSec={n}\n"),
        engines: &["needs-reboot"],
        holds: |_| "systemctl -q is-active systemd-logind".to_owned(),
    },
    Row {
        name: "a package source",
        file: |_| "files/etc/apt/sources.list.d/probe.sources".to_owned(),
        content: |n| format!("# {n}\n"),
        engines: &["apt-get update"],
        holds: |_| "true".to_owned(),
    },
    Row {
        name: "a key of packages",
        file: |_| format!("files{APT_KEY}"),
        content: |n| format!("Comment: {n}\n"),
        engines: &["apt-get update"],
        holds: |_| "true".to_owned(),
    },
];

impl Row {
    /// Writes its file of the `n`th revision into the fleet; `before` is the revision that has it now.
    fn declare(&self, lab: &Lab, before: Option<usize>, n: usize) {
        let content = match self.name {
            "a certificate" => lab.authority().certificate(),
            "a package source" => format!("{}{}", (self.content)(n), lab.apt().source(APT_KEY)).into_bytes(),
            // A header of an armoured key, RFC 4880, 6.2.
            "a key of packages" => lab.apt().key().replacen("\n\n", &format!("\n{}\n", (self.content)(n)), 1).into(),
            _ => (self.content)(n).into_bytes(),
        };
        if let Some(before) = before
            && (self.file)(before) != (self.file)(n)
        {
            lab.fleet.remove(&format!("hosts/web-13/{}", (self.file)(before)));
        }
        lab.fleet.write(&format!("hosts/web-13/{}", (self.file)(n)), content);
    }
}

/// What the engines did since this was last asked.
struct Engines<'h> {
    host: &'h Host,
    reloads: usize,
    reboots: usize,
    invocations: BTreeMap<&'static str, String>,
}

impl<'h> Engines<'h> {
    fn of(host: &'h Host) -> Self {
        let mut engines = Self { host, reloads: 0, reboots: 0, invocations: BTreeMap::new() };
        engines.ran();
        engines
    }

    /// Each engine that ran, as often as it did, sorted.
    fn ran(&mut self) -> Vec<String> {
        let noted = self.host.shell("touch /run/engines; cat /run/engines; : >/run/engines");
        // A look at packages is none of it.
        let mut ran: Vec<String> = noted
            .lines()
            .map(|line| if line.starts_with("apt-get") { apt(line) } else { line })
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        let pid_1 = self.host.shell("journalctl -b --sync; journalctl -b -q -o cat _PID=1 --no-pager");
        let reloads =
            pid_1.lines().filter(|line| line.starts_with("Reload") && line.contains(" requested from ")).count();
        ran.extend((self.reloads..reloads).map(|_| "daemon-reload".to_owned()));
        let reboots = self.host.journal(&["TRUEUP_EVENT=pending", "TRUEUP_REASON=needs-reboot"]).len();
        ran.extend((self.reboots..reboots).map(|_| "needs-reboot".to_owned()));
        (self.reloads, self.reboots) = (reloads, reboots);
        for (word, unit) in RESTARTED.into_iter().chain(NEVER.map(|unit| (unit, unit))) {
            let now = self.host.unit(unit, "InvocationID");
            if self.invocations.insert(word, now.clone()).is_some_and(|before| before != now) {
                ran.push(word.to_owned());
            }
        }
        ran.sort();
        ran
    }
}

fn apt(line: &str) -> &'static str {
    if line.split(' ').any(|word| word == "update") { "apt-get update" } else { "" }
}

/// A host with all engines, each of which is noted, and the agent, which looks when it is asked.
fn host(lab: &Lab) -> Host {
    let mut files = lab.agent_files("interval = \"1h\"\n");
    let mut put = |path: &str, content: &str| files.push((path.to_owned(), content.into()));
    put("/etc/systemd/network/05-host0.network", "[Match]\nName=host0 probe1\n[Link]\nUnmanaged=yes\n");
    put("/etc/systemd/system/systemd-timesyncd.service.d/anywhere.conf", ANYWHERE);
    put("/usr/lib/systemd/system-generators/podman-system-generator", GENERATOR);
    let host = lab.boot_plain(Variant::Trixie, "web-13", &files);
    host.shell("chmod 755 /usr/lib/systemd/system-generators/podman-system-generator; systemctl daemon-reload");
    host.install(&deb());
    host.shell("systemctl stop trueup.socket trueup.service");
    host.shell(PREPARE);
    for name in BY_NAME {
        let real = host.shell(&format!("command -v {name}")).trim().to_owned();
        note(&host, name, &format!("/usr/local/sbin/{name}"), &real);
    }
    for name in OF_SYSTEMD {
        let path = format!("/usr/lib/systemd/{name}");
        host.shell(&format!("mv {path} {path}.real"));
        note(&host, name, &path, &format!("{path}.real"));
    }
    host
}

fn note(host: &Host, name: &str, path: &str, real: &str) {
    host.write(path, NOTE.replace("NAME", name).replace("REAL", real));
    host.ok(&["chmod", "755", path]);
}

/// Has the agent look, and waits until all of `commit` is in force.
#[track_caller]
fn applied(host: &Host, commit: &str) {
    host.run(&["trueup", "sync"]);
    host.await_applied(commit);
}

fn expected<'r>(rows: impl IntoIterator<Item = &'r Row>) -> Vec<String> {
    let mut engines: Vec<String> = rows.into_iter().flat_map(|row| row.engines).map(|&name| name.to_owned()).collect();
    engines.sort();
    engines.dedup();
    engines
}

#[test]
fn every_row_is_brought_into_force_by_the_systems_own_engine_once() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-13/host.toml", "[packages]\ntool = \"present\"\n");
    // Booted before the repository is made: it does not know the source.
    let host = host(&lab);
    lab.apt().publish(&[Package::new("tool", "1.0")]);
    let mut at: Vec<usize> = vec![1; ROWS.len()];
    ROWS.iter().for_each(|row| row.declare(&lab, None, 1));
    let first = lab.fleet.commit("all rows");
    let mut engines = Engines::of(&host);
    host.shell("systemctl start trueup");
    host.await_applied(&first);
    let in_force = |at: &[usize]| ROWS.iter().zip(at).for_each(|(row, &n)| host.await_that(&(row.holds)(n)));
    in_force(&at);
    assert_eq!(host.package("tool").as_deref(), Some("1.0"), "its index came first");
    assert_eq!(engines.ran(), expected(ROWS), "all at once");

    for _ in 0..3 {
        host.ok(&["trueup", "sync"]);
    }
    assert_eq!(engines.ran(), Vec::<String>::new(), "nothing to do");

    for (which, row) in ROWS.iter().enumerate() {
        let n = 2 + which;
        row.declare(&lab, Some(at[which]), n);
        at[which] = n;
        let commit = lab.fleet.commit(row.name);
        applied(&host, &commit);
        host.await_that(&(row.holds)(n));
        assert_eq!(engines.ran(), expected([row]), "{}", row.name);
    }

    // By hand is a change, too; ten files of one row are brought into force together, and so are ten that go.
    host.shell("echo by hand >>/etc/sysctl.d/50-probe.conf; echo 'd /run/by-hand' >/etc/tmpfiles.d/probe.conf");
    host.await_that("! grep -q hand /etc/sysctl.d/50-probe.conf && ! grep -q hand /etc/tmpfiles.d/probe.conf");
    host.ok(&["trueup", "sync"]);
    in_force(&at);
    let ran = engines.ran();
    assert!(ran.iter().all(|name| ["systemd-sysctl", "systemd-tmpfiles --create"].contains(&name.as_str())), "{ran:?}");
    assert!((2..=4).contains(&ran.len()), "once for each, or for each pass: {ran:?}");
    let many = ["sysusers", "tmpfiles", "sysctl", "modules", "a directory of libraries"];
    let many: Vec<&Row> = ROWS.iter().filter(|row| many.contains(&row.name)).collect();
    let tenth = |row: &Row, n: usize| format!("hosts/web-13/{}", (row.file)(0)).replace("probe", &format!("x{n}"));
    for there in [true, false] {
        for (row, n) in many.iter().flat_map(|row| (0..10).map(move |n| (row, n))) {
            if there {
                lab.fleet.write(&tenth(row, n), "# nothing\n");
            } else {
                lab.fleet.remove(&tenth(row, n));
            }
        }
        let commit = lab.fleet.commit("ten files of a row");
        host.run(&["trueup", "sync", "--allow-removals", "50"]);
        host.await_applied(&commit);
        assert_eq!(engines.ran(), expected(many.iter().copied()), "there: {there}");
    }

    // What does not run is not started.
    host.shell(
        "systemctl stop systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd systemd-networkd.socket \
         systemd-networkd systemd-resolved systemd-timesyncd 2>/dev/null",
    );
    engines.ran();
    for (which, row) in ROWS.iter().enumerate() {
        row.declare(&lab, Some(at[which]), 29);
        at[which] = 29;
    }
    let commit = lab.fleet.commit("all again");
    applied(&host, &commit);
    let still =
        expected(ROWS.iter().filter(|row| !["udev rules", "a network", "resolved", "timesyncd"].contains(&row.name)));
    assert_eq!(engines.ran(), still);
    let state = host.run(&[
        "systemctl",
        "is-active",
        "systemd-udevd",
        "systemd-networkd",
        "systemd-resolved",
        "systemd-timesyncd",
    ]);
    assert_eq!(state.stdout, "inactive\n".repeat(4));
}

/// Commits of each of these rows its `n`th revision, and gives the commit.
fn commit(lab: &mut Lab, names: &[&str], n: usize) -> String {
    let rows = ROWS.iter().filter(|row| names.contains(&row.name));
    rows.for_each(|row| row.declare(lab, n.checked_sub(1).filter(|&before| before > 0), n));
    lab.fleet.commit(&format!("revision {n}"))
}

#[test]
fn an_engine_that_fails_is_told_with_its_reason_and_one_that_is_owed_is_run_once() {
    let Some(mut lab) = Lab::new(1) else { return };
    let rows = ["a unit file", "sysusers", "tmpfiles", "modules", "sysctl"];
    let first = commit(&mut lab, &rows, 1);
    let host = host(&lab);
    // A container may load none, so that this is nobody's failure.
    host.write("/run/fail-systemd-modules-load", "");
    let mut engines = Engines::of(&host);
    host.shell("systemctl start trueup");
    host.await_applied(&first);
    engines.ran();

    host.write("/run/fail-systemd-sysctl", "");
    let second = commit(&mut lab, &rows, 2);
    host.run(&["trueup", "sync"]);
    let failed = host.await_status("the engine has failed", |status| {
        status["revision"]["seen"] == *second && status["state"] == "degraded" && status["running"].is_null()
    });
    assert!(failed.to_string().contains("the engine has no luck"), "{failed:#}");
    assert_ne!(failed["revision"]["applied"], *second, "{failed:#}");
    let told = host.journal(&["TRUEUP_EVENT=failed", "TRUEUP_CHANGE=sysctl"]);
    assert_eq!(told.len(), 1, "{told:#?}");
    // What others do does not wait for it.
    for row in ROWS.iter().filter(|row| rows.contains(&row.name) && row.name != "sysctl") {
        host.await_that(&(row.holds)(2));
    }
    host.shell("grep -qx 4001 /proc/sys/net/core/somaxconn; rm /run/fail-systemd-sysctl");
    engines.ran();
    host.run(&["trueup", "retry"]);
    host.await_applied(&second);
    host.shell("grep -qx 4002 /proc/sys/net/core/somaxconn");
    assert_eq!(engines.ran(), ["systemd-sysctl"], "it alone is tried again, and once");

    // The agent is killed after all files are written, as the first engine of several is about to begin.
    host.write("/run/kill-systemd-tmpfiles", "");
    let agent = host.agent();
    let third = commit(&mut lab, &rows, 3);
    host.run(&["trueup", "sync"]);
    host.await_applied(&third);
    assert_ne!(host.agent(), agent);
    ROWS.iter().filter(|row| rows.contains(&row.name)).for_each(|row| host.await_that(&(row.holds)(3)));
    let create = "systemd-tmpfiles --create";
    assert_eq!(
        engines.ran(),
        ["daemon-reload", "systemd-modules-load", "systemd-sysctl", "systemd-sysusers", create, create]
    );
}

/// In the place of Fedora's, which Debian does not have.
const UPDATE_CA_TRUST: &str = "#!/bin/sh\necho update-ca-trust \"$@\" >>/run/engines\n\
    cat /etc/pki/ca-trust/source/anchors/* >/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem\n";

#[test]
fn an_rpm_host_has_engines_of_its_own() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/rpm-01/files/etc/motd", "rpm-01\n");
    lab.fleet.commit("first");
    // Booted before the repository is made: it does not know the source.
    let host = lab.boot_on(Variant::Rpm, "rpm-01", "");
    host.shell("rm -f /usr/sbin/update-ca-certificates; mkdir -p /etc/pki/ca-trust/extracted/pem");
    host.shell("mv /usr/bin/dnf-3 /usr/bin/dnf-real");
    note(&host, "dnf", "/usr/bin/dnf-3", "/usr/bin/dnf-real");
    host.write("/usr/bin/update-ca-trust", UPDATE_CA_TRUST);
    host.ok(&["chmod", "755", "/usr/bin/update-ca-trust"]);
    host.trueup(&["run"]).converged();
    let ran = || {
        let noted = host.shell("touch /run/engines; cat /run/engines; : >/run/engines");
        let engine = |line: &str| match line.split(' ').next() {
            Some("dnf") if !line.contains(" makecache") => None,
            Some(name) => Some(name.to_owned()),
            None => None,
        };
        let mut engines: Vec<String> = noted.lines().filter_map(engine).collect();
        engines.sort();
        engines
    };
    ran();

    lab.dnf().publish(&[dnf::Package::new("tool", "1.0-1")]);
    let put = |path: &str, content: &[u8]| lab.fleet.write(&format!("hosts/rpm-01/files/etc/{path}"), content);
    put("yum.repos.d/lab.repo", lab.dnf().source().as_bytes());
    put("pki/rpm-gpg/RPM-GPG-KEY-lab", b"a key\n");
    put("pki/ca-trust/source/anchors/lab.crt", &lab.authority().certificate());
    put("ld.so.conf.d/probe.conf", b"/opt/probe/lib\n");
    lab.fleet.write("hosts/rpm-01/host.toml", "[packages]\ntool = \"present\"\n");
    lab.fleet.commit("all rows");
    host.shell("mkdir -p /opt/probe/lib; cp -L /usr/lib/x86_64-linux-gnu/libz.so.1 /opt/probe/lib/");
    host.trueup(&["run"]).converged();
    assert_eq!(host.package("tool").as_deref(), Some("1.0-1"), "its index came first");
    assert_eq!(ran(), ["dnf", "update-ca-trust"]);
    host.shell("grep -q 'BEGIN CERTIFICATE' /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem");
    host.shell("ldconfig -p | grep -qF /opt/probe/lib/");
    host.trueup(&["run"]).idle();
    assert_eq!(ran(), Vec::<String>::new());

    for (path, engine) in [
        ("yum.repos.d/lab.repo", "dnf"),
        ("pki/rpm-gpg/RPM-GPG-KEY-lab", "dnf"),
        ("pki/ca-trust/source/anchors/lab.crt", "update-ca-trust"),
    ] {
        let path = format!("hosts/rpm-01/files/etc/{path}");
        let more = ["# once more\n".as_bytes(), &lab.authority().certificate()].concat();
        let content =
            if path.ends_with(".repo") { format!("{}# once more\n", lab.dnf().source()).into() } else { more };
        lab.fleet.write(&path, content);
        lab.fleet.commit(&path);
        host.trueup(&["run"]).converged();
        assert_eq!(ran(), [engine], "{path}");
    }
}
