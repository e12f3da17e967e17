//! Which links enable a unit follows its `[Install]` section, and what is declared of one unit is not undone for another.

use super::apt::Package;
use super::{Host, Lab};

const WORKS: &str = "[Service]\nExecStart=/bin/sleep infinity\n";

/// A unit file of a service that is enabled by `install`.
fn service(install: &str) -> String {
    format!("{WORKS}[Install]\n{install}\n")
}

/// The links below the administrator's directory that have to do with units called `name`.
fn links(host: &Host, name: &str) -> Vec<String> {
    let script = format!("cd /etc/systemd/system; find . -type l -lname '*/{name}*' -printf '%P\\n' | LC_ALL=C sort");
    host.shell(&script).lines().map(str::to_owned).collect()
}

fn told_as_drift(host: &Host) -> usize {
    host.journal(&["TRUEUP_EVENT=drift"]).len()
}

#[test]
fn links_follow_an_install_section_in_the_pass_that_changes_it_and_those_of_others_stay() {
    let Some(mut lab) = Lab::new(1) else { return };
    let brought = |version: &str, target: &str| {
        let unit = service(&format!("WantedBy={target}"));
        Package::new("brought", version).file("/usr/lib/systemd/system/brought.service", &unit, 0o644)
    };
    lab.apt().publish(&[brought("1.0", "multi-user.target"), brought("2.0", "graphical.target")]);
    let declare = |lab: &mut Lab, version: &str| {
        lab.fleet.write(
            "hosts/web-01/host.toml",
            format!("[packages]\nbrought = \"{version}\"\n[units]\n\"app.service\" = \"on\"\n\"plain.service\" = \"on\"\n\"brought.service\" = \"on\"\n"),
        );
    };
    declare(&mut lab, "1.0");
    lab.fleet.write(
        "hosts/web-01/units/app.service",
        service("WantedBy=multi-user.target\nAlias=web.service\nAlso=app.socket"),
    );
    lab.fleet.write(
        "hosts/web-01/units/app.socket",
        "[Socket]\nListenStream=/run/app\n[Install]\nWantedBy=sockets.target\n",
    );
    lab.fleet.write("hosts/web-01/units/plain.service", WORKS);
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    let own = "/etc/systemd/system";
    host.write(&format!("{own}/app.service.d/local.conf"), "[Install]\nWantedBy=default.target\n");
    host.shell("systemctl -q reenable app.service; systemctl restart app.service; systemctl -q add-wants rescue.target app.service brought.service");
    host.trueup(&["run"]).idle();
    let theirs = ["default.target.wants/app.service", "rescue.target.wants/app.service"];
    assert_eq!(
        links(&host, "app.s"),
        [theirs[0], "multi-user.target.wants/app.service", theirs[1], "sockets.target.wants/app.socket", "web.service"]
    );

    declare(&mut lab, "2.0");
    lab.fleet.write("hosts/web-01/units/app.service", service("WantedBy=graphical.target\nAlias=www.service"));
    lab.fleet.write("hosts/web-01/units/plain.service.d/install.conf", "[Install]\nRequiredBy=multi-user.target\n");
    lab.fleet.commit("second");
    let plan = host.trueup(&["plan"]);
    let step = plan.step("unit:app.service");
    assert_eq!(step.cause, "intended", "{plan:#?}");
    assert_eq!(
        step.changes,
        [
            "unlinked multi-user.target.wants/app.service, sockets.target.wants/app.socket, web.service",
            "linked graphical.target.wants/app.service, www.service",
        ]
    );
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(run.step("unit:brought.service").cause, "intended", "{run:#?}");
    assert_eq!(links(&host, "app.s"), [theirs[0], "graphical.target.wants/app.service", theirs[1], "www.service"]);
    assert_eq!(links(&host, "plain.service"), ["multi-user.target.requires/plain.service"]);
    assert_eq!(
        links(&host, "brought.service"),
        ["graphical.target.wants/brought.service", "rescue.target.wants/brought.service"]
    );
    for unit in ["app.service", "plain.service", "brought.service"] {
        assert_eq!(host.unit_state(unit), "active enabled", "{unit}");
    }
    assert_eq!(host.unit("www.service", "Id"), "app.service", "systemd has read it");
    host.trueup(&["run"]).idle();
    assert_eq!(told_as_drift(&host), 0);

    // What somebody has made of it goes with their edit, by our own copy too.
    host.shell(&format!(
        "cd {own}; sed -i s/graphical/getty/ app.service; systemctl daemon-reload; systemctl -q reenable app"
    ));
    assert_eq!(links(&host, "app.s"), [theirs[0], "getty.target.wants/app.service", "www.service"]);
    host.shell("ip link set host0 down");
    let run = host.trueup(&["run"]);
    assert_eq!(run.step("unit:app.service").cause, "corrective", "{run:#?}");
    assert_eq!(links(&host, "app.s"), [theirs[0], "graphical.target.wants/app.service", "www.service"]);
}

#[test]
fn what_is_declared_stays_enabled_when_a_unit_that_brings_it_along_goes() {
    let Some(mut lab) = Lab::new(1) else { return };
    let units = [
        ("app.service", service("WantedBy=multi-user.target\nAlso=app.socket")),
        ("app.socket", "[Socket]\nListenStream=/run/app\n[Install]\nWantedBy=sockets.target\n".to_owned()),
        ("off.service", service("WantedBy=multi-user.target\nAlso=off.timer other.timer")),
        ("off.timer", "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n".to_owned()),
        ("other.timer", "[Timer]\nOnCalendar=daily\nUnit=off.service\n[Install]\nWantedBy=timers.target\n".to_owned()),
        ("in@.service", service("WantedBy=multi-user.target\nDefaultInstance=one")),
        ("out@.service", service("WantedBy=multi-user.target\nDefaultInstance=one")),
    ];
    for (name, text) in &units {
        lab.fleet.write(&format!("hosts/web-01/units/{name}"), text);
    }
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[units]\n\"app.service\" = \"on\"\n\"app.socket\" = \"on\"\n\"off.service\" = \"on\"\n\"off.timer\" = \"on\"\n\
         \"in@two.service\" = \"on\"\n\"out@one.service\" = \"on\"\n\
         [units.\"in@.service\"]\nenabled = true\n[units.\"out@.service\"]\nenabled = true\n",
    );
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();

    lab.fleet.remove("hosts/web-01/units/app.service");
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[units]\n\"app.socket\" = { enabled = true }\n\"off.service\" = \"off\"\n\"off.timer\" = \"on\"\n\"in@two.service\" = \"on\"\n\
         [units.\"out@.service\"]\nenabled = true\n",
    );
    lab.fleet.commit("second");
    host.trueup(&["run"]).converged();
    assert_eq!(links(&host, "app."), ["sockets.target.wants/app.socket"]);
    assert_eq!(links(&host, "off."), ["timers.target.wants/off.timer"]);
    assert_eq!(links(&host, "other."), Vec::<String>::new(), "what nobody declares goes along");
    assert_eq!(links(&host, "in@"), ["multi-user.target.wants/in@two.service"]);
    assert_eq!(links(&host, "out@"), ["multi-user.target.wants/out@one.service"]);
    host.trueup(&["run"]).idle();
    assert_eq!(told_as_drift(&host), 0);

    // The template comes again while one of its instances is there: its own is another.
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[units]\n\"in@two.service\" = \"on\"\n[units.\"in@.service\"]\nenabled = true\n",
    );
    lab.fleet.commit("third");
    host.trueup(&["run"]).converged();
    let both = ["multi-user.target.wants/in@one.service", "multi-user.target.wants/in@two.service"];
    assert_eq!(links(&host, "in@"), both);
    host.trueup(&["run"]).idle();
}

#[test]
fn an_undo_has_the_links_of_before() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/units/app.service", service("WantedBy=multi-user.target"));
    lab.fleet.write("hosts/web-01/units/in@.service", service("WantedBy=multi-user.target\nDefaultInstance=one"));
    let on = "[units]\n\"app.service\" = \"on\"\n[units.\"in@.service\"]\nenabled = true\n";
    lab.fleet.write("hosts/web-01/host.toml", on);
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    let broken = "[Service]\nExecStart=/bin/false\n[Install]\nWantedBy=graphical.target\n";
    lab.fleet.write("hosts/web-01/units/app.service", broken);
    lab.fleet.write("hosts/web-01/units/in@.service", service("WantedBy=graphical.target\nDefaultInstance=two"));
    lab.fleet.commit("second");
    let run = host.trueup(&["run"]);
    assert_eq!(run.report.state, "rolled-back", "{run:#?}");
    assert_eq!(run.step("unit:in@.service").changes.len(), 2, "{run:#?}");
    assert_eq!(links(&host, "app.service"), ["multi-user.target.wants/app.service"]);
    assert_eq!(links(&host, "in@"), ["multi-user.target.wants/in@one.service"]);
    host.trueup(&["run"]);
    assert_eq!(links(&host, "app.service"), ["multi-user.target.wants/app.service"]);
}

#[test]
fn another_name_of_what_is_enabled_in_the_same_pass_and_units_without_a_file_are_understood() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet
        .write("hosts/web-01/units/app.service", service("WantedBy=multi-user.target\nAlias=a.service web.service"));
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[units]\n\"a.service\" = \"on\"\n\"app.service\" = \"on\"\n\"web.service\" = \"on\"\n\"-.mount\" = \"on\"\n\
         [units.\"system.slice\"]\nenabled = true\n",
    );
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    assert_eq!(host.unit("web.service", "Id"), "app.service");
    host.trueup(&["run"]).idle();

    // What nobody has is still told.
    lab.fleet.write("hosts/web-01/host.toml", "[units]\n\"nowhere.service\" = \"on\"\n\"app.service\" = \"off\"\n");
    lab.fleet.commit("second");
    let run = host.trueup(&["run"]);
    assert_eq!(run.step("unit:nowhere.service").reason.as_deref(), Some("no-such-unit"), "{run:#?}");
}
