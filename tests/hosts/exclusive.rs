//! Exclusive directories: what nobody declares goes, what packages own stays, and what stood there before comes back.

use super::{Host, Lab, Variant, apt, dnf};

const EXCLUSIVE: &str = "exclusive = { ignore = [\"live/**\"] }\n";

fn declare(lab: &mut Lab, name: &str, more: &str) {
    lab.fleet
        .write(&format!("hosts/{name}/host.toml"), format!("[files.\"/etc/app.d\"]\ntype = \"directory\"\n{more}"));
    lab.fleet.write(&format!("hosts/{name}/files/etc/app.d/ours.conf"), "ours\n");
    lab.fleet.commit(&format!("of {name}: {more}"));
}

fn listed(host: &Host) -> String {
    let all = host.shell("cd /etc/app.d && find . -mindepth 1 -printf '%p %y %m %u:%g %l\\n' | sort");
    all.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn strangers_go_and_come_back(lab: &mut Lab, host: &Host, name: &str) {
    host.shell(
        "cd /etc/app.d; mkdir -m 0750 old live; echo old >old/x; chmod 0600 old/x; chown daemon:adm old old/x
         echo theirs >theirs.conf; chmod 0640 theirs.conf; ln -s nowhere link; echo x >live/x
         echo theirs >packaged.d/theirs",
    );
    declare(lab, name, "");
    host.trueup(&["run"]).converged();
    let before = listed(host);

    declare(lab, name, EXCLUSIVE);
    let plan = host.trueup(&["plan"]);
    assert_eq!(plan.status, 2, "{plan:#?}");
    for gone in ["old", "old/x", "theirs.conf", "link", "packaged.d/theirs"] {
        assert_eq!(plan.step(&format!("file:/etc/app.d/{gone}")).action, "remove", "{plan:#?}");
    }
    assert_eq!(plan.report.steps.len(), 5, "{plan:#?}");
    host.trueup(&["run"]).converged();
    let clean = listed(host);
    let names: Vec<&str> = clean.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["./live", "./live/x", "./ours.conf", "./packaged.conf", "./packaged.d", "./packaged.d/owned"]);
    host.trueup(&["run"]).idle();

    // What comes later is drift: put right, and to be had again.
    host.shell("echo evil >/etc/app.d/evil.conf; echo more >/etc/app.d/live/more");
    let drift = host.trueup(&["drift"]);
    assert_eq!(drift.step("file:/etc/app.d/evil.conf").cause, "corrective", "{drift:#?}");
    let run = host.trueup(&["run"]);
    run.converged();
    let kept = run.step("file:/etc/app.d/evil.conf").kept.clone().expect("a copy is kept");
    assert!(!host.has("/etc/app.d/evil.conf") && host.has("/etc/app.d/live/more"));
    host.ok(&["trueup", "restore", &kept]);
    assert_eq!(host.read("/etc/app.d/evil.conf"), "evil\n");
    host.shell("rm /etc/app.d/evil.conf /etc/app.d/live/more");

    // More than ten are nobody's wish.
    host.shell("cd /etc/app.d; for n in 1 2 3 4 5 6 7 8 9 10 11; do echo $n >many-$n; done");
    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.reason.as_deref()), (3, Some("guard")), "{run:#?}");
    assert!(run.report.message.as_deref().is_some_and(|why| why.contains("11 strangers")), "{run:#?}");
    assert!(host.has("/etc/app.d/many-11"));
    host.trueup(&["run", "--allow-removals", "11"]).converged();
    assert!(!host.has("/etc/app.d/many-1") && host.has("/etc/app.d/packaged.conf"));

    declare(lab, name, "");
    host.trueup(&["run"]).converged();
    assert_eq!(listed(host), before, "what stood there before is back, and nothing that came later");
}

#[test]
fn strangers_go_and_come_back_but_for_what_dpkg_installed() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[apt::Package::new("tool", "1.0").file("/etc/app.d/packaged.conf", "packaged\n", 0o644).file(
        "/etc/app.d/packaged.d/owned",
        "packaged\n",
        0o644,
    )]);
    declare(&mut lab, "web-01", "");
    let host = lab.boot("web-01");
    host.shell("apt-get -y -qq install tool");
    strangers_go_and_come_back(&mut lab, &host, "web-01");
}

#[test]
fn strangers_go_and_come_back_but_for_what_rpm_installed() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.dnf().publish(&[dnf::Package::new("tool", "1.0-1")
        .file("/etc/app.d/packaged.conf", "packaged\n", 0o644)
        .file("/etc/app.d/packaged.d/owned", "packaged\n", 0o644)]);
    declare(&mut lab, "rpm-01", "");
    let host = lab.boot_on(Variant::Rpm, "rpm-01", "");
    host.shell("dnf -q -y install tool");
    strangers_go_and_come_back(&mut lab, &host, "rpm-01");
}
