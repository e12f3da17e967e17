//! The plan shown is the plan applied, and what holds is left alone.

use super::apt::Package;
use super::listing::{Listing, OWN};
use super::report::{Report, Told};
use super::{Host, Lab};

/// The lines of a plan: what will be done, with its diffs.
fn plan_lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with(' ')).collect()
}

/// What is to be done, without how it went.
fn plan_values(report: &Report) -> Vec<String> {
    let steps = report
        .steps
        .iter()
        .map(|step| format!("{} {} {} {:?} {:?}", step.id, step.action, step.cause, step.changes, step.layer));
    let refreshes =
        report.refreshes.iter().map(|refresh| format!("{} {} {:?}", refresh.id, refresh.how, refresh.because));
    steps.chain(refreshes).collect()
}

/// `plan`, then `run`, as people see them: every line of the plan stands in the run, in a row and word for word.
#[track_caller]
fn agree_in_text(host: &Host, least: usize) {
    let plan = host.run(&["trueup", "plan"]);
    assert_eq!(plan.status, 2, "{plan:#?}");
    let run = host.run(&["trueup", "run"]);
    assert_eq!(run.status, 0, "{run:#?}");
    let (planned, ran) = (plan_lines(&plan.stdout), plan_lines(&run.stdout));
    assert!(planned.len() >= least, "{}", plan.stdout);
    let found = ran.windows(planned.len()).any(|window| window == planned);
    assert!(found, "--- plan\n{}\n--- run\n{}", plan.stdout, run.stdout);
}

/// The same as values.
#[track_caller]
fn agree_in_values(host: &Host, least: usize) -> Told {
    let plan = host.trueup(&["plan"]);
    assert_eq!(plan.status, 2, "{plan:#?}");
    assert!(plan.report.steps.iter().all(|step| step.outcome == "planned"), "{plan:#?}");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!((plan.report.version, plan.report.command.as_str()), (1, "plan"));
    assert_eq!((run.report.version, run.report.command.as_str()), (1, "run"));
    assert_eq!(plan_values(&plan.report), plan_values(&run.report));
    assert!(run.report.steps.len() >= least, "{run:#?}");
    run
}

#[test]
fn plan_and_run_agree_word_for_word_and_a_second_run_writes_nothing() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[
        Package::new("tool", "1.0"),
        Package::new("served", "1.0").service("/bin/sleep infinity", ""),
        Package::new("old", "1.0"),
    ]);
    let manifest = "[packages]\ntool = \"present\"\nserved = \"1.*\"\nold = \"absent\"\n\
         [files.\"/etc/app/**\"]\ngroup = \"adm\"\nmode = \"0640\"\n\
         [files.\"/etc/issue\"]\nstate = \"absent\"\n\
         [units]\n\"cron.service\" = \"masked\"\n\
         [units.\"served.service\"]\nenabled = true\nactive = true\nwatch = [\"/etc/app/**\"]\n";
    lab.fleet.write("hosts/web-01/host.toml", manifest);
    for n in 0..20 {
        lab.fleet.write(&format!("hosts/web-01/files/etc/app/{n:02}.conf"), format!("first\nnumber {n}\nlast\n"));
    }
    lab.fleet.write("hosts/web-01/files/etc/motd", "ours\n");
    lab.fleet.link("hosts/web-01/files/etc/app/current", "00.conf");
    lab.fleet.commit("web-01");
    let host = lab.boot("web-01");
    host.shell("apt-get -y -qq install old; echo theirs >/etc/motd");
    agree_in_text(&host, 25);

    // Nothing to do: nothing is done, nothing is written; trueup's own corner included.
    let idle = |host: &Host| {
        let before = Listing::of(host);
        host.trueup(&["run"]).idle();
        let shown = host.run(&["trueup", "run"]);
        assert_eq!(shown.status, 0, "{shown:#?}");
        let plan = host.run(&["trueup", "plan"]);
        assert_eq!(plan.status, 0, "{plan:#?}");
        host.trueup(&["drift"]).idle();
        let after = Listing::of(host);
        let theirs = before.clone().without(&OWN);
        assert_eq!(theirs.changes(&after.clone().without(&OWN)), Vec::<String>::new());
        assert_eq!(before.leaves_changed(&after), Vec::<String>::new());
    };
    idle(&host);

    // Intended, corrective and conflicting, files, packages and units, made, changed and let go.
    for n in 0..5 {
        lab.fleet.write(&format!("hosts/web-01/files/etc/app/{n:02}.conf"), format!("first\nnew number {n}\nlast\n"));
    }
    lab.fleet.remove("hosts/web-01/files/etc/app/19.conf");
    lab.fleet.write("hosts/web-01/host.toml", manifest.replace("tool = \"present\"\n", ""));
    lab.fleet.commit("changes");
    host.shell(
        "echo by hand >/etc/app/00.conf; rm /etc/app/10.conf; chmod 0666 /etc/app/11.conf; systemctl disable served",
    );
    let run = agree_in_values(&host, 10);
    assert_eq!(run.step("file:/etc/app/00.conf").cause, "conflicting");
    assert_eq!(run.step("file:/etc/app/01.conf").cause, "intended");
    assert_eq!(run.step("file:/etc/app/10.conf").cause, "corrective");
    assert_eq!(run.refresh("unit:served.service").how, "restart");
    idle(&host);

    lab.fleet.write("hosts/web-01/files/etc/motd", "ours, again\n");
    lab.fleet.commit("motd");
    host.shell("chown daemon /etc/app/12.conf");
    agree_in_text(&host, 2);
    idle(&host);
}
