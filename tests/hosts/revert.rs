//! `git revert` on a real host: files, units and packages are as they were.

use super::apt::Package;
use super::{Host, Lab};

const UNIT: &str = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

/// What is to come back, a line for each thing: what stands at every path, what units are and do, which packages are
/// there, and in which version.
fn state(host: &Host) -> Vec<String> {
    let mut state = Vec::new();
    let mut note = |script: &str| state.extend(host.shell(script).lines().map(str::to_owned));
    let places = "/etc /opt /srv /usr";
    note(&format!("find {places} -xdev -printf '%p %y %m %U:%G %l\\n' | sort"));
    note(&format!("find {places} -xdev -type f -print0 | sort -z | xargs -0 sha256sum"));
    note("systemctl list-unit-files --no-legend --plain | sort");
    let units = "{app,rests,runs,enabled,masked,fresh,tool,cron}.service apt-daily.timer tick.timer";
    note(&format!(
        "for unit in {units}; do systemctl show -p Id,LoadState,ActiveState,UnitFileState,DropInPaths $unit | paste -s; done"
    ));
    note("dpkg-query -W -f '${binary:Package} ${Version} ${db:Status-Status}\\n' | grep -v 'config-files$'");
    note("apt-mark showauto | sed 's/^/automatic /'; apt-mark showhold | sed 's/^/held /'");
    assert!(state.len() > 1000, "a whole host was expected");
    state
}

#[track_caller]
fn is_back(before: &[String], host: &Host) {
    let now = state(host);
    let gone: Vec<&String> = before.iter().filter(|line| !now.contains(line)).collect();
    let new: Vec<&String> = now.iter().filter(|line| !before.contains(line)).collect();
    assert!(gone.is_empty() && new.is_empty(), "was {gone:#?}, is {new:#?}");
}

#[test]
fn files_units_and_packages_of_a_revision_that_is_reverted_are_as_they_were() {
    let Some(mut lab) = Lab::new(1) else { return };
    let version = |version| {
        Package::new("tool", version).service("/bin/sleep infinity", "").file("/usr/share/tool", version, 0o644)
    };
    lab.apt().publish(&[
        version("1.0"),
        version("2.0"),
        Package::new("gone", "1.0").file("/usr/share/gone", "here\n", 0o644),
        Package::new("extra", "1.0").file("/usr/share/extra", "here\n", 0o644),
    ]);
    let host = lab.boot("web-01");
    host.shell(
        "apt-get -qq update; apt-get -y -qq install tool=1.0 gone; apt-mark -q auto gone
         printf 'theirs, no newline' >/etc/motd; chown daemon:adm /etc/motd; chmod 0604 /etc/motd
         mkdir -m 0710 /srv/box; echo theirs >/srv/box/theirs; ln -s nowhere /etc/pointer; echo theirs >/etc/touched",
    );
    for unit in ["rests", "runs", "enabled"] {
        host.write(&format!("/etc/systemd/system/{unit}.service"), UNIT);
    }
    host.shell("systemctl daemon-reload; systemctl -q enable enabled.service; systemctl start runs.service");
    lab.fleet.write("hosts/web-01/files/etc/anchor", "ours\n");
    lab.fleet.commit("next to nothing");
    host.trueup(&["run"]).converged();
    let untouched = state(&host);

    let first = "[packages]\ntool = \"1.0\"\ngone = \"present\"\n\
                 [units]\n\"app.service\" = \"on\"\n\"rests.service\" = \"off\"\n\"apt-daily.timer\" = \"masked\"\n\
                 [units.\"runs.service\"]\nactive = true\n[units.\"enabled.service\"]\nenabled = true\n\
                 [files.\"/etc/touched\"]\nattributes_only = true\nmode = \"0640\"\n";
    lab.fleet.write("hosts/web-01/host.toml", first);
    lab.fleet.write("hosts/web-01/units/app.service", UNIT);
    lab.fleet.write("hosts/web-01/files/etc/app/conf", "first\n");
    lab.fleet.commit("first");
    host.trueup(&["run"]).converged();
    host.trueup(&["run"]).idle();
    let before = state(&host);
    let main = host.unit("app.service", "MainPID");

    let second = "[packages]\ntool = \"2.0\"\ngone = \"absent\"\nextra = \"present\"\n\
                  [units]\n\"app.service\" = \"masked\"\n\"rests.service\" = \"on\"\n\"apt-daily.timer\" = \"on\"\n\
                  \"runs.service\" = \"off\"\n\"enabled.service\" = \"off\"\n\"fresh.service\" = \"on\"\n\
                  \"cron.service\" = \"masked\"\n\"tick.timer\" = \"on\"\n\
                  [files.\"/etc/touched\"]\ncontent = \"ours\\n\"\nowner = \"daemon\"\nmode = \"0600\"\n\
                  [files.\"/etc/pointer\"]\ntype = \"directory\"\nreplace = \"any\"\n\
                  [files.\"/srv/box\"]\ncontent = \"ours\\n\"\nreplace = \"directory\"\n\
                  [files.\"/etc/app/conf\"]\ngroup = \"adm\"\nmode = \"0640\"\n\
                  [files.\"/etc/issue\"]\nstate = \"absent\"\n";
    // A mask stands where the unit file is.
    lab.fleet
        .write("hosts/web-01/host.toml", second.replace("\"app.service\" = \"masked\"", "\"app.service\" = \"off\""));
    for (path, content) in [
        ("units/fresh.service", UNIT),
        ("units/tick.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n"),
        ("units/tick.timer", "[Timer]\nOnCalendar=yearly\n[Install]\nWantedBy=timers.target\n"),
        ("units/app.service.d/nice.conf", "[Service]\nNice=5\n"),
        ("units/rests.service.d/nice.conf", "[Service]\nNice=5\n"),
        ("files/etc/app/conf", "second\n"),
        ("files/etc/app/deep/er/conf", "second\n"),
        ("files/etc/motd", "ours\n"),
    ] {
        lab.fleet.write(&format!("hosts/web-01/{path}"), content);
    }
    lab.fleet.commit("second");
    host.trueup(&["run"]).converged();
    assert_eq!(host.package("tool").as_deref(), Some("2.0"));
    assert_eq!((host.package("gone"), host.package("extra").as_deref()), (None, Some("1.0")));
    assert_eq!(
        (host.unit_state("app.service").as_str(), host.unit_state("rests.service").as_str()),
        ("inactive disabled", "active enabled")
    );
    assert_eq!(host.unit("rests.service", "Nice"), "5");
    assert_eq!(
        (host.unit("cron.service", "LoadState").as_str(), host.unit_state("tick.timer").as_str()),
        ("masked", "active enabled")
    );

    lab.fleet.revert();
    host.trueup(&["run"]).converged();
    is_back(&before, &host);
    assert_ne!(host.unit("app.service", "MainPID"), main, "it was stopped and runs again");
    host.trueup(&["run"]).idle();

    lab.fleet.remove("hosts/web-01");
    lab.fleet.write("hosts/web-01/files/etc/anchor", "ours\n");
    lab.fleet.commit("next to nothing again");
    host.trueup(&["run"]).converged();
    is_back(&untouched, &host);
    host.trueup(&["run"]).idle();
}
