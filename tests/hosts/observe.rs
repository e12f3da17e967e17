//! A host that is only looked at.

use std::collections::BTreeMap;

use super::apt::Package;
use super::listing::{Listing, OWN};
use super::{Host, Lab};

const FILES: usize = 50;

/// Content and all three times of the files, looked at without moving one.
fn traces(host: &Host) -> BTreeMap<String, (Vec<u8>, String)> {
    let times = host.shell(r"find /srv/app -printf '%p\t%T@ %C@ %A@\n'");
    let line = |line: &str| {
        let (path, times) = line.split_once('\t').expect("a tab");
        let content = if host.stat(path).starts_with("regular") { host.peek(path) } else { Vec::new() };
        (path.to_owned(), (content, times.to_owned()))
    };
    times.lines().filter(|line| !line.starts_with("/srv/app\t")).map(line).collect()
}

#[test]
fn in_observe_not_one_byte_or_timestamp_changes_and_the_plan_is_complete() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[Package::new("fresh", "1.0")]);
    lab.fleet.write("hosts/web-01/host.toml", "[packages]\nfresh = \"present\"\n[units]\n\"cron.service\" = \"off\"\n");
    for n in 0..FILES {
        lab.fleet.write(&format!("hosts/web-01/files/srv/app/{n:02}.conf"), format!("first\nwanted {n:02}\nlast\n"));
    }
    lab.fleet.write("hosts/web-01/files/srv/app/missing.conf", "not there yet\n");
    let commit = lab.fleet.commit("web-01");
    let host = lab.boot_with("web-01", "[policy]\nupdate = \"observe\"\n");
    // Times of access that any reading would move: relatime, mount(8).
    host.shell(
        "mkdir /srv/app; cd /srv/app
         for n in $(seq -w 0 49); do printf 'first\\nfound %s\\nlast\\n' $n >$n.conf; done
         chmod 0600 07.conf; chown daemon 08.conf
         touch -a -d 2020-01-01 *.conf; touch -m -d 2021-01-01 *.conf",
    );
    let files = traces(&host);
    assert_eq!(files.len(), FILES);
    let before = Listing::of(&host).without(&OWN);

    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.state.as_str()), (2, "pending"), "{run:#?}");
    assert_eq!(run.report.revision.seen.as_deref(), Some(commit.as_str()));
    assert_eq!(run.report.revision.applied, None);
    assert_eq!(run.report.steps.len(), FILES + 3, "{:?}", run.ids());
    assert!(run.report.steps.iter().all(|step| step.outcome == "planned"), "{run:#?}");
    assert_eq!(run.step("file:/srv/app/missing.conf").action, "create");
    assert_eq!(
        run.step("file:/srv/app/07.conf").changes.iter().filter(|change| *change == "mode 0600 → 0644").count(),
        1
    );
    assert_eq!(
        run.step("file:/srv/app/08.conf").changes.iter().filter(|change| *change == "owner daemon → root").count(),
        1
    );

    let plan = host.run(&["trueup", "plan"]);
    assert_eq!(plan.status, 2, "{plan:#?}");
    let lines: Vec<&str> = plan.stdout.lines().map(str::trim).collect();
    for n in 0..FILES {
        assert!(plan.stdout.contains(&format!("file:/srv/app/{n:02}.conf")), "{}", plan.stdout);
        let has = |sign: char, word: &str| {
            let wanted = format!("{word} {n:02}");
            lines.iter().any(|line| line.strip_prefix(sign).is_some_and(|rest| rest.trim() == wanted))
        };
        assert!(has('-', "found") && has('+', "wanted"), "the diff of {n:02}: {}", plan.stdout);
    }
    for word in ["package:fresh", "unit:cron.service", "file:/srv/app/missing.conf"] {
        assert!(plan.stdout.contains(word), "{}", plan.stdout);
    }
    assert_eq!(host.run(&["trueup", "drift"]).status, 0, "what was never applied has not drifted");

    assert_eq!(before.changes(&Listing::of(&host).without(&OWN)), Vec::<String>::new());
    assert_eq!(traces(&host), files);
    assert_eq!(host.unit_state("cron.service"), "active enabled");
}
