//! Each host converges to its own and to nothing else.

use super::apt::Package;
use super::listing::{Listing, OWN};
use super::{Host, Lab};

const SERVICE: &str = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

/// Three hosts of different roles; `stranger` has no directory.
fn fleet(lab: &mut Lab) {
    let fleet = &lab.fleet;
    fleet.write("trueup.toml", "format = 1\n[vars]\nsite = \"north\"\n");
    fleet.write("roles/base/role.toml", "[files.\"/etc/fleet/base.conf\"]\nmode = \"0640\"\ngroup = \"adm\"\n");
    fleet.write("roles/base/files/etc/fleet/base.conf", "base\n");
    fleet.write("roles/base/files/etc/motd.j2", "{{ host.name }} in {{ vars.site }}\n");
    fleet.write("roles/web/role.toml", "[packages]\nwebd = \"present\"\n[units]\n\"webd.service\" = \"on\"\n");
    fleet.write("roles/web/files/etc/webd.conf", "listen 80\n");
    fleet.write("roles/db/role.toml", "roles = [\"base\"]\n[units]\n\"replica.service\" = \"on\"\n");
    fleet.write("roles/db/units/replica.service", SERVICE);
    fleet.write("hosts/web-01/host.toml", "roles = [\"base\", \"web\"]\n");
    fleet.write("hosts/web-01/files/srv/only-web", "web-01\n");
    fleet.write("hosts/db-01/host.toml", "roles = [\"db\"]\n");
    fleet.write("hosts/bastion/host.toml", "roles = [\"base\"]\n[packages]\nguard = \"present\"\n");
    fleet.link("hosts/bastion/files/etc/fleet/current", "base.conf");
    fleet.write_executable("hosts/bastion/files/usr/local/bin/hop", "#!/bin/sh\necho hop\n");
    lab.fleet.commit("three hosts");
    let package = |name: &str| Package::new(name, "1.0").service("/bin/sleep infinity", "");
    lab.apt().publish(&[package("webd"), package("guard")]);
}

/// Converges `host`, and gives what is another file than before, the package manager's records aside.
fn converged(host: &Host, packages: &[&str]) -> Vec<String> {
    let records = ["/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt", "/var/cache/debconf", "/etc/ld.so.cache"];
    let apart = [&OWN[..], &records[..]].concat();
    let before = Listing::of(host).without(&apart);
    let told = host.trueup(&["run"]);
    told.converged();
    assert_eq!(told.report.host.as_deref(), Some(host.name()));
    let mut changed = before.leaves_changed(&Listing::of(host).without(&apart));
    // What a package brings is the package's.
    for package in packages {
        assert!(host.package(package).is_some(), "{package} is installed");
        let brought = host.ok(&["dpkg-query", "-L", package]);
        let brought: Vec<&str> = brought.lines().map(|path| path.trim_start_matches("/usr")).collect();
        changed.retain(|path| !brought.contains(&path.trim_start_matches("/usr")));
        changed.retain(|path| !path.starts_with("/var/lib/systemd") && !path.contains(&format!("{package}.service")));
    }
    host.trueup(&["run"]).idle();
    changed
}

#[test]
fn hosts_of_one_repository_converge_each_to_its_own_and_a_mistake_is_one_hosts_alone() {
    let Some(mut lab) = Lab::new(2) else { return };
    fleet(&mut lab);
    {
        let (web, db) = (lab.boot("web-01"), lab.boot("db-01"));
        assert_eq!(
            converged(&web, &["webd"]),
            ["/etc/fleet/base.conf", "/etc/motd", "/etc/webd.conf", "/srv/only-web"]
        );
        assert_eq!(web.read("/etc/motd"), "web-01 in north\n");
        assert_eq!(web.stat("/etc/fleet/base.conf"), "regular file 640 root:adm");
        assert_eq!(web.unit_state("webd.service"), "active enabled");

        let wants = "/etc/systemd/system/multi-user.target.wants/replica.service";
        let unit = "/etc/systemd/system/replica.service";
        assert_eq!(converged(&db, &[]), ["/etc/fleet/base.conf", "/etc/motd", wants, unit]);
        assert_eq!(db.read("/etc/motd"), "db-01 in north\n");
        assert_eq!(db.unit_state("replica.service"), "active enabled");

        // A mistake of one host, and in the same commit something new for all.
        lab.fleet.write("hosts/db-01/host.toml", "rolls = [\"db\"]\n");
        lab.fleet.write("roles/base/files/etc/fleet/base.conf", "base, improved\n");
        let commit = lab.fleet.commit("a mistake in db-01");
        assert_eq!(web.trueup(&["run"]).converged().report.revision.applied.as_deref(), Some(commit.as_str()));
        assert_eq!(web.read("/etc/fleet/base.conf"), "base, improved\n");
        let told = db.trueup(&["run"]);
        assert_eq!((told.status, told.report.state.as_str()), (3, "stalled"), "{told:#?}");
        assert_eq!(told.report.revision.seen.as_deref(), Some(commit.as_str()));
        assert_ne!(told.report.revision.applied.as_deref(), Some(commit.as_str()));
        assert_eq!(db.read("/etc/fleet/base.conf"), "base\n", "compiled whole or not at all");
        assert_eq!(db.unit_state("replica.service"), "active enabled");
        let shown = db.run(&["trueup", "run"]);
        let said = shown.stdout + &shown.stderr;
        assert!(said.contains("hosts/db-01/host.toml:1") && said.contains("rolls") && said.contains("roles"), "{said}");

        lab.fleet.revert();
        db.trueup(&["run"]).converged();
    }
    let (bastion, stranger) = (lab.boot("bastion"), lab.boot("stranger"));
    let hop = "/usr/local/bin/hop";
    assert_eq!(converged(&bastion, &["guard"]), ["/etc/fleet/base.conf", "/etc/fleet/current", "/etc/motd", hop]);
    assert_eq!(bastion.ok(&["readlink", "/etc/fleet/current"]).trim(), "base.conf");
    assert_eq!(bastion.ok(&[hop]), "hop\n");

    let before = Listing::of(&stranger).without(&OWN);
    let told = stranger.trueup(&["run"]);
    told.stalled("no-such-host");
    assert!(told.report.message.as_deref().unwrap_or_default().contains("stranger"), "{told:#?}");
    assert_eq!(told.ids(), Vec::<&str>::new());
    assert_eq!(stranger.run(&["trueup", "plan"]).status, 3);
    assert_eq!(before.changes(&Listing::of(&stranger).without(&OWN)), Vec::<String>::new());
}

#[test]
fn a_host_that_is_pinned_to_another_machine_is_left_alone() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/motd", "ours\n");
    lab.fleet.write("hosts/web-01/host.toml", format!("machine_id = \"{}\"\n", "0".repeat(32)));
    lab.fleet.commit("pinned to another");
    let host = lab.boot("web-01");
    let before = host.read("/etc/motd");
    host.trueup(&["run"]).stalled("other-machine");
    assert_eq!(host.read("/etc/motd"), before);

    let own = host.read("/etc/machine-id");
    lab.fleet.write("hosts/web-01/host.toml", format!("machine_id = \"{}\"\n", own.trim()));
    lab.fleet.commit("pinned to this one");
    host.trueup(&["run"]).converged();
    assert_eq!(host.read("/etc/motd"), "ours\n");
}
