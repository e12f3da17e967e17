//! What somebody changes on a host is found, told, and dealt with as the policy says.

use super::apt::Package;
use super::{Host, Lab};

const BEAT: &str = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

/// A way to disturb a host.
struct Disturbance {
    what: &'static str,
    script: &'static str,
    id: &'static str,
    /// How the change is told.
    change: &'static str,
}

const DISTURBANCES: [Disturbance; 10] = [
    Disturbance {
        what: "an edit",
        script: "echo '# by hand' >>/etc/app.conf",
        id: "file:/etc/app.conf",
        change: "content",
    },
    Disturbance {
        what: "a chmod",
        script: "chmod 0666 /etc/app.conf",
        id: "file:/etc/app.conf",
        change: "mode 0666 → 0640",
    },
    Disturbance {
        what: "a chown",
        script: "chown daemon /etc/app.conf",
        id: "file:/etc/app.conf",
        change: "owner daemon → root",
    },
    Disturbance {
        what: "a chgrp",
        script: "chgrp daemon /etc/app.conf",
        id: "file:/etc/app.conf",
        change: "group daemon → adm",
    },
    Disturbance { what: "a deletion", script: "rm /etc/app.conf", id: "file:/etc/app.conf", change: "" },
    Disturbance {
        what: "another target",
        script: "ln -sfn /etc/passwd /etc/app.link",
        id: "file:/etc/app.link",
        change: "target",
    },
    Disturbance { what: "a lost directory", script: "rmdir /srv/app", id: "file:/srv/app", change: "" },
    Disturbance {
        what: "a stop", script: "systemctl stop beat", id: "unit:beat.service", change: "inactive → active"
    },
    Disturbance {
        what: "a disabling",
        script: "systemctl disable beat",
        id: "unit:beat.service",
        change: "disabled → enabled",
    },
    Disturbance { what: "a removal", script: "dpkg --remove tool", id: "package:tool", change: "" },
];

/// What must hold of a converged host, in one string.
fn state(host: &Host) -> String {
    [
        host.read("/etc/app.conf"),
        host.stat("/etc/app.conf"),
        host.ok(&["readlink", "/etc/app.link"]),
        host.stat("/srv/app"),
        host.unit_state("beat.service"),
        format!("{:?}", host.package("tool")),
    ]
    .join("\n")
}

#[test]
fn every_kind_of_drift_is_told_as_corrective_and_put_back() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[Package::new("tool", "1.0")]);
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[packages]\ntool = \"present\"\n[files.\"/etc/app.conf\"]\nmode = \"0640\"\ngroup = \"adm\"\n\
         [files.\"/srv/app\"]\ntype = \"directory\"\n[units]\n\"beat.service\" = \"on\"\n",
    );
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    lab.fleet.link("hosts/web-01/files/etc/app.link", "app.conf");
    lab.fleet.write("hosts/web-01/units/beat.service", BEAT);
    lab.fleet.commit("web-01");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    let wanted = state(&host);
    host.trueup(&["drift"]).idle();

    for Disturbance { what, script, id, change } in DISTURBANCES {
        host.shell(script);
        let drift = host.trueup(&["drift"]);
        assert_eq!((drift.status, drift.ids()), (2, vec![id]), "{what}: {drift:#?}");
        let step = drift.step(id);
        assert_eq!(step.cause, "corrective", "{what}: {step:#?}");
        assert!(step.changes.iter().any(|told| told.starts_with(change)), "{what}: {step:#?}");

        // So many at once is more than anybody but a test corrects.
        let run = host.trueup(&["run", "--retry"]);
        run.converged();
        assert_eq!(run.ids(), [id], "{what}");
        assert_eq!((run.step(id).cause.as_str(), &run.step(id).changes), ("corrective", &step.changes), "{what}");
        assert_eq!(state(&host), wanted, "{what}");
        host.trueup(&["run"]).idle();
    }

    // A file that was put back did not touch the unit; a unit file that was, restarts its unit once.
    let invocation = host.unit("beat.service", "InvocationID");
    host.shell("echo '# by hand' >>/etc/systemd/system/beat.service; echo >>/etc/app.conf");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(run.refresh("unit:beat.service").how, "restart");
    assert_eq!(run.refresh("unit:beat.service").because, ["file:/etc/systemd/system/beat.service"]);
    assert_ne!(host.unit("beat.service", "InvocationID"), invocation);

    // All at once: one pass.
    for disturbance in &DISTURBANCES {
        drop(host.run(&["sh", "-c", disturbance.script]));
    }
    host.trueup(&["run", "--retry"]).converged();
    assert_eq!(state(&host), wanted);
}

#[test]
fn an_edit_that_was_put_back_can_be_had_again_byte_for_byte() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    lab.fleet.commit("web-01");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();

    let edits: [&[u8]; 3] = [b"port = 8080\n# no newline at the end", b"\xff\xfe\0binary\r\n\0", b""];
    let mut kept = Vec::new();
    for edit in edits {
        host.write("/etc/app.conf", edit);
        host.shell("chmod 0604 /etc/app.conf; chown daemon:adm /etc/app.conf");
        let run = host.trueup(&["run"]);
        run.converged();
        assert_eq!(host.read("/etc/app.conf"), "port = 80\n");
        kept.push(run.step("file:/etc/app.conf").kept.clone().expect("an edit is kept"));
    }
    for (id, edit) in kept.iter().zip(edits) {
        let output = host.run(&["trueup", "restore", id]);
        assert_eq!(output.status, 0, "{output:#?}");
        assert_eq!(host.peek("/etc/app.conf"), edit);
        assert_eq!(host.stat("/etc/app.conf"), "regular file 604 daemon:adm");
    }
    assert_eq!(host.run(&["trueup", "restore", "k-0000"]).status, 1, "an id that there is not");
    host.trueup(&["run"]).converged();
    assert_eq!(host.read("/etc/app.conf"), "port = 80\n");
}

#[test]
fn under_report_drift_is_told_and_left_also_when_a_commit_changes_the_same_resource() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[Package::new("tool", "1.0")]);
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[policy]\ndrift = \"report\"\n[packages]\ntool = \"present\"\n[units]\n\"beat.service\" = \"on\"\n",
    );
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    lab.fleet.write("hosts/web-01/files/etc/other.conf", "one\n");
    lab.fleet.write("hosts/web-01/units/beat.service", BEAT);
    lab.fleet.commit("web-01");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();

    host.shell("echo by hand >/etc/app.conf; systemctl stop beat; dpkg --remove tool");
    let left = |host: &Host| {
        assert_eq!(host.read("/etc/app.conf"), "by hand\n");
        assert_eq!(host.unit_state("beat.service"), "inactive enabled");
        assert_eq!(host.package("tool"), None);
    };
    for _ in 0..2 {
        let run = host.trueup(&["run"]);
        assert_eq!((run.status, run.report.state.as_str()), (2, "drifted"), "{run:#?}");
        for id in ["file:/etc/app.conf", "unit:beat.service", "package:tool"] {
            let step = run.step(id);
            let told = (step.action.as_str(), step.cause.as_str(), step.outcome.as_str());
            assert_eq!(told, ("report", "corrective", "reported"), "{step:#?}");
        }
        assert_eq!(run.report.steps.len(), 3, "{run:#?}");
        left(&host);
    }

    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 81\n");
    lab.fleet.write("hosts/web-01/files/etc/other.conf", "two\n");
    lab.fleet.commit("both files");
    for other in [Some("done"), None] {
        let run = host.trueup(&["run"]);
        assert_eq!((run.status, run.report.state.as_str()), (2, "drifted"), "{run:#?}");
        let step = run.step("file:/etc/app.conf");
        assert_eq!((step.cause.as_str(), step.outcome.as_str()), ("conflicting", "reported"), "{step:#?}");
        let there = run.report.steps.iter().find(|step| step.id == "file:/etc/other.conf");
        assert_eq!(there.map(|step| step.outcome.as_str()), other, "what did not drift follows the commit");
        left(&host);
    }
    assert_eq!(host.read("/etc/other.conf"), "two\n");

    // Whoever made it so may also unmake it.
    host.shell("echo port = 81 >/etc/app.conf; systemctl start beat");
    let run = host.trueup(&["run"]);
    assert_eq!(run.ids(), ["package:tool"], "{run:#?}");
}

#[test]
fn under_ignore_drift_is_left_until_the_declaration_changes() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/host.toml", "[files.\"/etc/seed.conf\"]\ndrift = \"ignore\"\n");
    lab.fleet.write("hosts/web-01/files/etc/seed.conf", "seed\n");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    lab.fleet.commit("web-01");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();

    host.write("/etc/seed.conf", "grown\n");
    host.trueup(&["run"]).idle();
    host.trueup(&["drift"]).idle();
    assert_eq!(host.read("/etc/seed.conf"), "grown\n");

    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 81\n");
    lab.fleet.commit("another file");
    assert_eq!(host.trueup(&["run"]).converged().ids(), ["file:/etc/app.conf"]);
    assert_eq!(host.read("/etc/seed.conf"), "grown\n");

    lab.fleet.write("hosts/web-01/files/etc/seed.conf", "a new seed\n");
    lab.fleet.commit("the seed");
    assert_eq!(host.trueup(&["run"]).converged().ids(), ["file:/etc/seed.conf"]);
    assert_eq!(host.read("/etc/seed.conf"), "a new seed\n");

    host.shell("rm /etc/seed.conf");
    host.trueup(&["run"]).converged();
    assert_eq!(host.read("/etc/seed.conf"), "a new seed\n", "written when missing");
}
