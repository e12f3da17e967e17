//! The journal of a host tells what `trueup run` did, in fields and in words, and explains it.

use serde_json::Value;

use super::{Host, Lab};

const BEAT: &str = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

/// The entries of trueup that match, the oldest first.
#[track_caller]
fn entries(host: &Host, matches: &[&str]) -> Vec<Value> {
    host.ok(&["journalctl", "--sync"]);
    let output = host.run(&[&["journalctl", "-q", "-o", "json", "SYSLOG_IDENTIFIER=trueup"], matches].concat());
    let entry = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    output.stdout.lines().map(entry).collect()
}

fn of<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry[field].as_str().unwrap_or_else(|| panic!("{field} is missing: {entry:#}"))
}

fn messages(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| of(entry, "MESSAGE")).collect()
}

#[test]
fn the_journal_tells_what_was_done_in_fields_and_words_and_explains_it() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/host.toml", "[units]\n\"beat.service\" = \"on\"\n");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    lab.fleet.write("hosts/web-01/units/beat.service", BEAT);
    let commit = lab.fleet.commit("a beat \u{1b}[2J\u{202e}");
    let short = &commit[..7];
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();

    let applied = entries(&host, &["TRUEUP_EVENT=applied"]);
    assert_eq!(messages(&applied), [format!("applied: {short} \"a beat \\u{{1b}}[2J\\u{{202e}}\": 3 changes")]);
    let applied = &applied[0];
    assert_eq!(of(applied, "PRIORITY"), "5");
    assert_eq!(of(applied, "TRUEUP_REVISION"), commit);
    assert_eq!((of(applied, "TRUEUP_COUNT"), of(applied, "TRUEUP_STATE")), ("3", "in-sync"));
    assert_eq!(of(applied, "TRUEUP_PASS").len(), 26);
    assert_eq!(entries(&host, &["TRUEUP_EVENT=changed"]).len(), 3);

    // Drift: with resource, cause, revision and pass.
    host.shell("echo 'port = 8080' >/etc/app.conf; systemctl stop beat");
    let run = host.trueup(&["run"]);
    run.converged();
    let kept = run.step("file:/etc/app.conf").kept.clone().expect("an edit is kept");
    let drift = entries(&host, &["TRUEUP_EVENT=drift"]);
    assert_eq!(
        messages(&drift),
        [
            format!(
                "drift: /etc/app.conf content +1 -1, put back to hosts/web-01@{short}; what stood there: trueup restore {kept}"
            ),
            "drift: beat.service inactive, started".to_owned(),
        ]
    );
    for (entry, resource) in drift.iter().zip(["file:/etc/app.conf", "unit:beat.service"]) {
        assert_eq!((of(entry, "TRUEUP_RESOURCE"), of(entry, "TRUEUP_CAUSE")), (resource, "corrective"));
        assert_eq!((of(entry, "TRUEUP_REVISION"), of(entry, "TRUEUP_LAYER")), (commit.as_str(), "hosts/web-01"));
        assert_eq!(of(entry, "TRUEUP_PASS"), of(&drift[0], "TRUEUP_PASS"));
        assert_eq!(of(entry, "MESSAGE_ID"), of(&drift[0], "MESSAGE_ID"));
    }
    let history = entries(&host, &["TRUEUP_RESOURCE=file:/etc/app.conf"]);
    assert_eq!(history.len(), 2, "created, and put back: {history:#?}");
    assert!(!host.ok(&["journalctl", "-q", "-t", "trueup"]).contains("8080"), "content is nobody's to read here");

    // An unchanged host says nothing, and neither does a look.
    let said = entries(&host, &[]).len();
    for _ in 0..3 {
        host.trueup(&["run"]).idle();
    }
    host.trueup(&["drift"]).idle();
    // A directory has no journal.
    host.shell("mkdir -p /srv/root /srv/repo/hosts/x/files/etc; echo 'format = 1' >/srv/repo/trueup.toml; echo >/srv/repo/hosts/x/files/etc/a");
    host.ok(&["trueup", "run", "--repo", "/srv/repo", "--root", "/srv/root", "--host", "x"]);
    assert_eq!(entries(&host, &[]).len(), said);

    // `journalctl -x` explains it.
    host.write("/usr/lib/systemd/catalog/trueup.catalog", include_str!("../../systemd/trueup.catalog"));
    host.ok(&["journalctl", "--update-catalog"]);
    let explained = host.ok(&["journalctl", "-q", "-x", "-t", "trueup", "TRUEUP_RESOURCE=file:/etc/app.conf"]);
    assert!(explained.contains("Subject: Drift: file:/etc/app.conf is not as it was last applied"), "{explained}");
    assert!(explained.contains("trueup suspend file:/etc/app.conf"), "{explained}");
    assert!(explained.contains("What to do:"), "{explained}");
}

#[test]
fn trouble_is_told_once_and_so_is_its_end() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    let good = lab.fleet.commit("good");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    let before = entries(&host, &[]).len();
    let since = |host: &Host| -> Vec<String> {
        entries(host, &[])[before..].iter().map(|entry| of(entry, "MESSAGE").to_owned()).collect()
    };

    // The remote is gone; drift is corrected and told all the same.
    lab.network.partition(true);
    for _ in 0..3 {
        assert_eq!(host.trueup(&["run"]).report.state, "degraded");
    }
    host.shell("chmod 0666 /etc/app.conf");
    host.trueup(&["run"]);
    lab.network.partition(false);
    for _ in 0..2 {
        host.trueup(&["run"]).converged();
    }
    let said = since(&host);
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(said[0].starts_with("unreachable: the source does not answer: "), "{said:#?}");
    assert!(said[0].ends_with(&format!("; keeping to {}", &good[..7])), "{said:#?}");
    let drift =
        format!("drift: /etc/app.conf mode 0666 → 0644, put back to hosts/web-01@{}; what stood there: ", &good[..7]);
    assert!(said[1].starts_with(&drift), "{said:#?}");
    assert!(said[2].starts_with("reachable: the source answers again after "), "{said:#?}");

    // A revision that does not compile, and one that mends it.
    lab.fleet.write("hosts/web-01/host.toml", "[packges]\n");
    let bad = lab.fleet.commit("bad");
    for _ in 0..3 {
        host.trueup(&["run"]).stalled("compile-error");
    }
    lab.fleet.write("hosts/web-01/host.toml", "");
    lab.fleet.commit("mended");
    host.trueup(&["run"]).converged();
    let stalled = entries(&host, &["TRUEUP_EVENT=stalled"]);
    assert_eq!(stalled.len(), 1, "{stalled:#?}");
    assert_eq!((of(&stalled[0], "TRUEUP_REVISION"), of(&stalled[0], "PRIORITY")), (bad.as_str(), "3"));
    assert_eq!(since(&host).last().map(|last| last.starts_with("converged: in sync with ")), Some(true));

    // Where there is no journal it goes to standard error.
    host.shell("mv /run/systemd/journal/socket /run/systemd/journal/away; echo edited >/etc/app.conf");
    let run = host.trueup(&["run"]);
    host.shell("mv /run/systemd/journal/away /run/systemd/journal/socket");
    run.converged();
    assert!(run.stderr.starts_with("<5>drift: /etc/app.conf content +1 -1, put back to "), "{run:#?}");
    host.trueup(&["run"]).idle();
    assert_eq!(host.trueup(&["run"]).stderr, "", "and comes back");
}
