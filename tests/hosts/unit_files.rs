//! The unit files that the packages bring: systemd understands them, and what it thinks of their hardening.

use serde::Deserialize;

use super::Lab;
use super::apt::Package;

const SERVICE: &str = include_str!("../../systemd/trueup.service");
const SOCKET: &str = include_str!("../../systemd/trueup.socket");

/// What `systemd-analyze security` may say at most: it weighs what each missing directive exposes, from 0 to 10. Every
/// release knows more directives than the one before, so there is room for those.
const EXPOSURE: f64 = 7.0;

/// One row of its table.
#[derive(Debug, Deserialize)]
struct Row {
    /// A directive, such as `ProtectHome=` or `CapabilityBoundingSet=~CAP_SYS_(NICE|RESOURCE)`.
    name: String,
    /// What is lost without it; none where nothing is.
    exposure: Option<String>,
}

impl Row {
    /// The words of which one has to stand in the unit file: what is set there, or why it is not.
    fn words(&self) -> Vec<String> {
        let Some((_, value)) = self.name.split_once("=~") else {
            return self.name.split('/').map(str::to_owned).collect();
        };
        let Some((before, rest)) = value.split_once('(') else {
            return vec![value.trim_end_matches('*').to_owned()];
        };
        let each = rest.trim_end_matches(')').split('|');
        each.map(|part| format!("{before}{}", part.trim_end_matches('*'))).collect()
    }
}

/// A lab with a host that has the units where the packages put them.
fn host_with_units(lab: &Lab) -> super::Host {
    let host = lab.boot("web-01");
    host.write("/usr/lib/systemd/system/trueup.service", SERVICE);
    host.write("/usr/lib/systemd/system/trueup.socket", SOCKET);
    host.write("/usr/lib/sysusers.d/trueup.conf", include_str!("../../systemd/trueup.sysusers"));
    host.write("/usr/lib/tmpfiles.d/trueup.conf", include_str!("../../systemd/trueup.tmpfiles"));
    host.write("/usr/lib/systemd/catalog/trueup.catalog", include_str!("../../systemd/trueup.catalog"));
    // As the package does. Services of these hosts have no Landlock, which systemd-nspawn(1) refuses them.
    host.shell("systemd-sysusers trueup.conf; systemctl daemon-reload");
    host
}

#[test]
fn systemd_has_nothing_to_say_against_what_the_packages_bring() {
    let Some(lab) = Lab::new(1) else { return };
    let host = host_with_units(&lab);
    // Pages of the manual are not on the host.
    let verify = host.run(&["systemd-analyze", "verify", "--man=no", "trueup.service", "trueup.socket"]);
    assert_eq!((verify.status, verify.stderr.trim()), (0, ""), "{verify:#?}");
    for program in ["systemd-sysusers", "systemd-tmpfiles --create"] {
        let said = host.shell(&format!("{program} trueup.conf 2>&1"));
        assert!(!said.contains("trueup.conf:"), "{said}");
    }
    assert_eq!(host.shell("getent passwd trueup-fetch | cut -d: -f6,7").trim(), "/:/usr/sbin/nologin");
    assert_eq!(host.stat("/var/lib/trueup"), "directory 700 root:root");
    assert_eq!(host.stat("/run/trueup"), "directory 755 root:root");
    assert_eq!(host.stat("/etc/trueup/agent.d"), "directory 755 root:root");
    assert_eq!(host.shell("journalctl --update-catalog 2>&1"), "");
}

#[test]
fn what_hardening_is_missing_is_answered_in_the_unit_file() {
    let Some(lab) = Lab::new(1) else { return };
    let host = host_with_units(&lab);
    let table = host.ok(&["systemd-analyze", "security", "--no-pager", "trueup.service"]);
    println!("systemd-analyze security trueup.service:\n{table}");
    let score = table.split("exposure level for trueup.service: ").nth(1).and_then(|rest| rest.split(' ').next());
    let score: f64 = score.and_then(|score| score.parse().ok()).unwrap_or_else(|| panic!("no score in {table}"));
    assert!(score <= EXPOSURE, "{score} is worse than {EXPOSURE}");

    let rows = host.ok(&["systemd-analyze", "security", "--json=short", "trueup.service"]);
    let rows: Vec<Row> = serde_json::from_str(&rows).expect("a table");
    let missing = rows.iter().filter(|row| row.exposure.as_deref().is_some_and(|exposure| exposure != "0.0"));
    let unanswered: Vec<&Row> =
        missing.filter(|row| !row.words().iter().any(|word| SERVICE.contains(word.as_str()))).collect();
    assert!(rows.len() > 50, "only {} rows are seen", rows.len());
    assert!(unanswered.is_empty(), "neither set in trueup.service nor is there a reason: {unanswered:#?}");
}

#[test]
fn a_pass_and_all_that_it_starts_work_behind_the_walls_of_the_unit() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[Package::new("sleeper", "1.0").service("/bin/sleep infinity", "")]);
    let write = |path: &str, text: &str| lab.fleet.write(&format!("hosts/web-01/files/etc/{path}"), text);
    write("sysusers.d/app.conf", "u app - \"of a test\"\n");
    write("tmpfiles.d/app.conf", "d /srv/app 2770 root app\nc /srv/app/null 0666 root root - 1:3\n");
    write("sysctl.d/50-app.conf", "net.core.somaxconn = 4321\n");
    write("ld.so.conf.d/app.conf", "/opt/app/lib\n");
    write("app.conf", "of the app\n");
    lab.fleet.write("hosts/web-01/units/app.service", "[Service]\nExecStart=/bin/sleep infinity\n");
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[packages]\nsleeper = \"present\"\n[units.\"app.service\"]\nactive = true\n\
         [files.\"/etc/app.conf\"]\nowner = \"app\"\ngroup = \"app\"\nmode = \"0400\"\n",
    );
    lab.fleet.commit("of everything something");
    let host = host_with_units(&lab);
    // One pass instead of the agent; everything else is as in the unit.
    host.write(
        "/etc/systemd/system/trueup.service.d/once.conf",
        "[Service]\nType=oneshot\nRestart=no\nExecStart=\nExecStart=/usr/bin/trueup run\n",
    );
    host.shell("systemctl daemon-reload");
    let started = host.run(&["systemctl", "start", "trueup.service"]);
    assert_eq!(started.status, 0, "{}", host.shell("journalctl -u trueup --no-pager -o cat"));
    host.trueup(&["run"]).idle();

    assert_eq!(host.package("sleeper").as_deref(), Some("1.0"));
    assert_eq!(host.unit("sleeper.service", "ActiveState"), "active");
    assert_eq!(host.unit("app.service", "ActiveState"), "active");
    assert_eq!(host.stat("/etc/app.conf"), "regular file 400 app:app");
    assert_eq!(host.stat("/srv/app"), "directory 2770 root:app");
    assert_eq!(host.stat("/srv/app/null"), "character special file 666 root:root");
    assert_eq!(host.read("/proc/sys/net/core/somaxconn").trim(), "4321");
}
