//! A host that somebody set up by hand, adopted: what was committed plans to nothing there, and a fresh host comes to the
//! same.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::apt::Package;
use super::listing::{Listing, OWN};
use super::server::done;
use super::{Host, Lab};

/// Forty files, links and directories of an application, with owners, modes and names of every kind.
const FILES: &str = r#"
mkdir -p /etc/app/sub/deep /srv/app/empty /etc/sysusers.d
printf 'u app 4242 "An application" /srv/app\n' >/etc/sysusers.d/app.conf
systemd-sysusers app.conf
i=0
for mode in 644 600 640 755 750 444; do
    for owner in root:root app:app root:app 4343:4343 app:root; do
        i=$((i+1))
        printf 'number = %d\nlast' $i >"/etc/app/$i.conf"
        chown $owner "/etc/app/$i.conf"
        chmod $mode "/etc/app/$i.conf"
    done
done
ln -s 1.conf /etc/app/current
ln -s /not/there /etc/app/nowhere
ln -s ../../usr/share/zoneinfo/Europe/Paris /etc/app/time
chown -h app:app /etc/app/time
printf '{{ literally }}\n' >/etc/app/x.j2
printf 'not encrypted\n' >/etc/app/x.age
printf 'x\n' >'/etc/app/a[1] b.conf'
chmod 640 '/etc/app/a[1] b.conf'
head -c 100000 /dev/urandom >/etc/app/sub/deep/blob
chmod 644 /etc/app/sub/deep/blob
: >/etc/app/sub/nothing
chmod 750 /etc/app/sub
chown root:app /etc/app/sub
chown app:app /srv/app
chmod 2750 /srv/app && chmod g-s /srv/app
chmod 700 /srv/app/empty
echo data >/srv/app/data
printf 'This host was here before.\n' >/etc/motd
"#;

/// Unit files and drop-ins, and what became of ten units.
const UNITS: &str = r#"
cd /etc/systemd/system
service() { printf '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' >"$1"; }
service one.service; service two.service; service four@.service; service six.service
printf '[Service]\nType=oneshot\nExecStart=/bin/true\n' >three.service
printf '[Timer]\nOnCalendar=yearly\n[Install]\nWantedBy=timers.target\n' >three.timer
printf '[Socket]\nListenStream=/run/five.sock\n[Install]\nWantedBy=sockets.target\n' >five.socket
printf '[Service]\nExecStart=/bin/sleep infinity\n' >five.service
mkdir one.service.d p1.service.d
printf '[Service]\nNice=5\n' >one.service.d/nice.conf
printf '[Service]\nEnvironment=A=b\n' >p1.service.d/10-a.conf
chmod 600 p1.service.d/10-a.conf
systemctl daemon-reload
systemctl -q enable --now one.service three.timer four@a.service five.socket
systemctl -q enable six.service
systemctl -q disable --now p2.service
systemctl -q mask --now p3.service
"#;

/// The key that opens the secrets of a host that has no other.
const KEY: &str = "/etc/ssh/ssh_host_rsa_key";

const NAMES: [&str; 10] = [
    "one.service",
    "two.service",
    "three.timer",
    "four@a.service",
    "five.socket",
    "six.service",
    "p1.service",
    "p2.service",
    "p3.service",
    "dbus.service",
];

/// What is compared of each thing that was adopted.
fn state(host: &Host, ids: &[String]) -> Vec<String> {
    let of = |kind: &str| ids.iter().filter_map(|id| id.strip_prefix(kind)).map(str::to_owned).collect::<Vec<_>>();
    let script = "for path; do stat -c '%N %F %a %u:%g' -- \"$path\"; [ -L \"$path\" ] || [ -d \"$path\" ] || sha256sum <\"$path\"; done";
    let paths = of("file:");
    let mut arguments = vec!["sh", "-euc", script, "state"];
    arguments.extend(paths.iter().map(String::as_str));
    let mut lines: Vec<String> = host.ok(&arguments).lines().map(str::to_owned).collect();
    lines.extend(of("package:").iter().map(|name| format!("{name} {:?}", host.package(name))));
    lines.extend(of("unit:").iter().map(|name| format!("{name} {}", host.unit_state(name))));
    lines
}

/// What was committed on the host, on the server that it follows.
fn push(lab: &Lab, host: &Host) {
    let bundle = lab.directory("fleet.bundle");
    fs::write(&bundle, host.peek("/root/fleet.bundle")).expect("a file of the lab's own");
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "--git-dir"]).arg(lab.fleet.bare()).args(["fetch", "--quiet"]);
    done(git.arg(&bundle).arg("+main:refs/heads/main"));
}

#[test]
fn an_existing_host_is_adopted_plans_to_nothing_and_a_fresh_host_comes_to_the_same() {
    let Some(mut lab) = Lab::new(1) else { return };
    let packages: Vec<String> = (1..=10).map(|n| format!("p{n}")).collect();
    let built: Vec<Package> = packages
        .iter()
        .map(|name| match name.as_str() {
            "p1" | "p2" | "p3" => Package::new(name, "1.0").service("/bin/sleep infinity", ""),
            _ => Package::new(name, "2:1.0-3"),
        })
        .collect();
    lab.apt().publish(&built);
    lab.fleet.write("hosts/other/files/etc/motd", "another host\n");
    lab.fleet.commit("a fleet that does not know this host");
    let host = lab.boot("web-01");
    host.shell(&format!("DEBIAN_FRONTEND=noninteractive apt-get -y -qq install {}", packages.join(" ")));
    host.shell(FILES);
    host.shell(UNITS);
    host.shell(&format!("mkdir -p /etc/ssh; [ -e {KEY} ] || echo a key >{KEY}; chmod 600 {KEY}"));

    // As its operator does it: a checkout on the host, what is to be adopted, a commit.
    host.copy_in(&lab.directory("git/work"), "/root/fleet");
    let before = Listing::of(&host).without(&OWN).without(&["/root"]);
    let mut arguments = vec!["trueup", "adopt", "/etc/app", "/srv/app", "/etc/motd", "/etc/sysusers.d/app.conf"];
    let ids: Vec<String> = packages.iter().map(|name| format!("package:{name}")).collect();
    arguments.extend(ids.iter().map(String::as_str));
    arguments.push("package:p4:native");
    arguments.extend(NAMES);
    arguments.extend(["--repo", "/root/fleet", "--json"]);
    let adopt = |more: &[&str]| {
        let output = host.run(&[&arguments[..], more].concat());
        let told: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:#?}"));
        (output.status, told)
    };
    // One of the units runs without a drop-in that was written since it started: the first pass would restart it.
    let (_, told) = adopt(&["--dry-run"]);
    let changes = |told: &Value| -> Vec<String> {
        let differences = told["differences"].as_array().expect("a list");
        differences.iter().map(|one| format!("{} {}", one["id"], one["changes"])).collect()
    };
    let drop_in = "/etc/systemd/system/p1.service.d/10-a.conf";
    let older = format!("runs by an older unit file than there is ({drop_in}) → restart");
    assert_eq!(changes(&told), [format!("\"unit:p1.service\" [\"{older}\"]")], "{told:#}");
    host.shell("systemctl restart p1.service");
    // One whose file goes with this boot is not there on any other host.
    host.shell(
        "mkdir -p /run/systemd/system; printf '[Service]\\nExecStart=/bin/sleep infinity\\n' >/run/systemd/system/runt.service; \
         systemctl daemon-reload; systemctl start runt.service",
    );
    let (_, told) = adopt(&["--dry-run", "runt.service"]);
    let lines = told["resources"].as_array().expect("a list");
    let runt = lines.iter().find(|line| line["id"] == "unit:runt.service").expect("it is told");
    assert_eq!((&runt["outcome"], &runt["reason"]), (&"left-out".into(), &"unit-state".into()), "{told:#}");
    host.shell("systemctl stop runt.service; rm /run/systemd/system/runt.service; systemctl daemon-reload");
    // Nor is the key by which this host would read its secrets for the repository, encrypted or not.
    let (status, told) = adopt(&["--dry-run", "--encrypt", KEY]);
    assert_eq!(status, 1, "{told:#}");
    assert!(
        told["resources"].as_array().expect("a list").iter().any(|line| line["reason"] == "self-trust"),
        "{told:#}"
    );
    let (status, told) = adopt(&[]);
    assert_eq!((status, &told["differences"]), (0, &Value::Array(Vec::new())), "{told:#}");
    let resources = told["resources"].as_array().expect("a list");
    assert!(resources.iter().all(|line| line["outcome"] == "adopted"), "{told:#}");
    let adopted: Vec<String> = resources.iter().filter_map(|line| line["id"].as_str()).map(str::to_owned).collect();
    let count = |kind: &str| adopted.iter().filter(|id| id.starts_with(kind)).count();
    assert!(count("file:") >= 50 && count("package:") == 10 && count("unit:") == 10, "{adopted:#?}");
    assert_eq!(before.changes(&Listing::of(&host).without(&OWN).without(&["/root"])), Vec::<String>::new());
    host.shell(
        "cd /root/fleet; git config user.name Ana; git config user.email ana@example.org; \
         git add hosts/web-01; git commit -q -m 'web-01 as it is'; trueup check; \
         git bundle create -q /root/fleet.bundle main",
    );
    push(&lab, &host);

    // Nothing is to be done, and nothing is done.
    let plan = host.trueup(&["plan"]);
    assert!(plan.report.steps.is_empty() && plan.report.refreshes.is_empty(), "{plan:#?}");
    host.trueup(&["run"]).converged();
    let ran = host.trueup(&["run"]);
    ran.idle();
    assert_eq!(before.changes(&Listing::of(&host).without(&OWN).without(&["/root"])), Vec::<String>::new());
    let first = state(&host, &adopted);
    drop(host);

    let fresh = lab.boot("web-01");
    assert_eq!(fresh.stat("/etc/app"), "absent");
    fresh.trueup(&["run"]).converged();
    assert_eq!(state(&fresh, &adopted), first);
    fresh.trueup(&["run"]).idle();
}
