//! What depends on one another converges in one pass.

use super::Lab;
use super::apt::Package;

/// Shows at each start which configuration it was started with.
const APPD: &str =
    "#!/bin/sh\nid -un >>/run/appd.starts\ncat /etc/appd/appd.conf >>/run/appd.starts\nexec sleep infinity\n";

const EAGER: &str = "[Service]\nType=exec\nExecStart=/usr/bin/eagerd\n[Install]\nWantedBy=multi-user.target\n";

#[test]
fn source_key_package_its_users_file_and_its_unit_come_in_one_pass() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/motd", "web-01\n");
    lab.fleet.commit("web-01");
    // Booted before the repository is made: it does not know the source.
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();

    lab.apt().publish(&[
        Package::new("appd", "1.0")
            .file("/usr/bin/appd", APPD, 0o755)
            .file("/etc/appd/appd.conf", "as packaged\n", 0o644)
            .script("conffiles", "/etc/appd/appd.conf\n")
            .field("Depends", "appd-common (>= 1.0)")
            .service(
                "/usr/bin/appd",
                "getent passwd appd >/dev/null || useradd --system --shell /usr/sbin/nologin appd",
            ),
        Package::new("appd-common", "1.0").file("/usr/share/appd/words", "one\n", 0o644),
        // It asks nobody whether it may start.
        Package::new("eagerd", "1.0")
            .file("/usr/bin/eagerd", &APPD.replace("appd", "eagerd"), 0o755)
            .file("/etc/eagerd/eagerd.conf", "as packaged\n", 0o644)
            .file("/lib/systemd/system/eagerd.service", EAGER, 0o644)
            .script("conffiles", "/etc/eagerd/eagerd.conf\n")
            .script("postinst", "#!/bin/sh\nset -e\nsystemctl daemon-reload\nsystemctl enable --now eagerd.service\n"),
    ]);
    lab.fleet.write(
        "hosts/web-01/files/etc/apt/sources.list.d/fleet.sources",
        lab.apt().source("/etc/apt/keyrings/fleet.asc"),
    );
    lab.fleet.write("hosts/web-01/files/etc/apt/keyrings/fleet.asc", lab.apt().key());
    lab.fleet.write("hosts/web-01/files/etc/appd/appd.conf", "from the fleet\n");
    lab.fleet.write("hosts/web-01/files/etc/eagerd/eagerd.conf", "from the fleet\n");
    lab.fleet.write("hosts/web-01/files/etc/sysctl.d/50-app.conf", "net.core.somaxconn = 4321\n");
    lab.fleet.write("hosts/web-01/files/etc/sysusers.d/app.conf", "g appdata 4242\n");
    lab.fleet.write("hosts/web-01/files/etc/tmpfiles.d/app.conf", "d /srv/appdata 0750 root appdata\n");
    lab.fleet.write("hosts/web-01/files/etc/appd/data.conf", "for the group\n");
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[packages]\nappd = \"present\"\neagerd = \"present\"\n\
         [files.\"/etc/appd/appd.conf\"]\nowner = \"appd\"\ngroup = \"appd\"\nmode = \"0400\"\n\
         [files.\"/etc/appd/data.conf\"]\ngroup = \"appdata\"\nmode = \"0640\"\n\
         [units.\"appd.service\"]\nenabled = true\nactive = true\nwatch = [\"/etc/appd/**\"]\n\
         [units]\n\"eagerd.service\" = \"on\"\n",
    );
    lab.fleet.commit("all of appd");

    let plan = host.run(&["trueup", "plan"]);
    assert_eq!(plan.status, 2, "{plan:#?}");
    assert!(plan.stdout.contains("planned after sources"), "{}", plan.stdout);
    assert_eq!(host.package("appd"), None, "a plan changes nothing");

    let run = host.trueup(&["run"]);
    run.converged();
    for id in [
        "file:/etc/apt/sources.list.d/fleet.sources",
        "file:/etc/apt/keyrings/fleet.asc",
        "package:appd",
        "file:/etc/appd/appd.conf",
        "unit:appd.service",
    ] {
        assert_eq!(run.step(id).cause, "intended", "{id}");
    }
    assert_eq!(host.package("appd").as_deref(), Some("1.0"));
    assert_eq!(host.package("appd-common").as_deref(), Some("1.0"));
    assert_eq!(host.read("/etc/appd/appd.conf"), "from the fleet\n");
    assert_eq!(host.stat("/etc/appd/appd.conf"), "regular file 400 appd:appd");
    assert_eq!(host.unit_state("appd.service"), "active enabled");
    assert_eq!(host.read("/run/appd.starts"), "root\nfrom the fleet\n", "started once, with its files in place");
    let starts = host.read("/run/eagerd.starts");
    assert!(starts.ends_with("as packaged\nroot\nfrom the fleet\n"), "{starts}");
    assert_eq!(starts.lines().count(), 4, "it runs by its own configuration, and was started anew once: {starts}");
    assert_eq!(run.refresh("unit:eagerd.service").because, ["package:appd", "package:eagerd"]);
    // The system's own engines did their part.
    assert_eq!(host.read("/proc/sys/net/core/somaxconn").trim(), "4321");
    assert_eq!(host.stat("/etc/appd/data.conf"), "regular file 640 root:appdata");
    assert_eq!(host.stat("/srv/appdata"), "directory 750 root:appdata");
    assert!(!host.has("/usr/sbin/policy-rc.d"), "what withheld the first start is gone");
    host.trueup(&["run"]).idle();

    // A change of a watched file restarts it once; a unit that is stopped and not declared active stays so.
    lab.fleet.write("hosts/web-01/files/etc/appd/appd.conf", "from the fleet, again\n");
    lab.fleet.write("hosts/web-01/files/etc/appd/data.conf", "for the group, again\n");
    lab.fleet.commit("two watched files");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(run.report.refreshes.len(), 1, "{run:#?}");
    assert_eq!(run.refresh("unit:appd.service").because, ["file:/etc/appd/appd.conf", "file:/etc/appd/data.conf"]);
    assert_eq!(host.read("/run/appd.starts"), "root\nfrom the fleet\nroot\nfrom the fleet, again\n");

    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[packages]\nappd = \"present\"\n\
         [files.\"/etc/appd/appd.conf\"]\nowner = \"appd\"\ngroup = \"appd\"\nmode = \"0400\"\n\
         [files.\"/etc/appd/data.conf\"]\ngroup = \"appdata\"\nmode = \"0640\"\n\
         [units.\"appd.service\"]\nenabled = true\nwatch = [\"/etc/appd/**\"]\n",
    );
    lab.fleet.commit("active or not is no matter of ours");
    host.trueup(&["run"]).converged();
    host.shell("systemctl stop appd");
    lab.fleet.write("hosts/web-01/files/etc/appd/appd.conf", "a third time\n");
    lab.fleet.commit("a watched file of a stopped unit");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(host.unit_state("appd.service"), "inactive enabled", "{run:#?}");
}

#[test]
fn what_an_engine_of_the_system_cannot_do_of_what_is_declared_is_told_whatever_it_ends_with() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/host.toml", "");
    lab.fleet.write("hosts/web-01/files/etc/sysusers.d/app.conf", "u app 0\n");
    lab.fleet.write("hosts/web-01/files/etc/tmpfiles.d/app.conf", "d /srv/taken 0755 root root\n");
    lab.fleet.commit("app");
    let host = lab.boot("web-01");
    host.write("/srv/taken", "a file\n");

    // They end well.
    let run = host.trueup(&["run"]);
    run.converged();
    for (engine, said) in [
        ("systemd-sysusers", "Suggested user ID 0 for app already used."),
        ("systemd-tmpfiles", "\"/srv/taken\" already exists and is not a directory."),
    ] {
        let line = format!("{engine} ended well, but said: {said}");
        assert!(run.report.notes.contains(&line), "{run:#?}");
        assert_eq!(host.journal(&["TRUEUP_EVENT=complaint", &format!("TRUEUP_CHANGE={engine}")]).len(), 1);
    }
    host.trueup(&["run"]).idle();

    // What it cannot make of the distribution's lines is nobody's failure; of ours it is, though it names no file.
    host.write("/usr/lib/tmpfiles.d/theirs.conf", "d /proc/vendors 0755 root root\n");
    lab.fleet.write("hosts/web-01/files/etc/tmpfiles.d/app.conf", "d /srv/ours 0750 root root\n");
    lab.fleet.commit("another");
    let run = host.trueup(&["run"]);
    run.converged();
    assert!(!run.report.notes.iter().any(|note| note.contains("vendors")), "{run:#?}");
    lab.fleet.write("hosts/web-01/files/etc/tmpfiles.d/app.conf", "L+ /srv/taken/link - - - - /etc/motd\n");
    lab.fleet.commit("a link");
    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
    let why = run.report.message.clone().unwrap_or_default();
    assert!(why.contains("Failed to create symlink '/srv/taken/link': Not a directory"), "{run:#?}");
}
