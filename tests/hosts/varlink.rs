//! The status socket, spoken to by systemd's own tool.

use serde_json::Value;

use super::installed::{Lines, QUICK, deb};
use super::{Lab, Variant};

const SOCKET: &str = "unix:/run/trueup/trueup.sock";
const WATCH: &str = "io.trueup.Agent.Watch";

#[test]
fn varlinkctl_asks_watches_suspends_and_resumes_and_nobody_else_may_change_anything() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-13/files/etc/app.conf", "port = 80\n");
    let first = lab.fleet.commit("first");
    let host = lab.boot_plain(Variant::Trixie, "web-13", &lab.agent_files(QUICK));
    host.install(&deb());
    host.await_applied(&first);

    let info = host.ok(&["varlinkctl", "info", SOCKET]);
    assert!(info.contains("io.trueup.Agent") && info.contains(env!("CARGO_PKG_VERSION")), "{info}");
    let interfaces = host.ok(&["varlinkctl", "list-interfaces", SOCKET]);
    assert!(interfaces.lines().any(|line| line == "io.trueup.Agent"), "{interfaces}");
    // It parses the description before it prints it.
    let description = host.ok(&["varlinkctl", "introspect", SOCKET, "io.trueup.Agent"]);
    for method in ["Status", "Watch", "Suspend", "Rollback"] {
        assert!(description.contains(&format!("method {method}")), "{description}");
    }
    let call = |arguments: &[&str]| -> Value {
        let said = host.ok(&[&["varlinkctl", "--json=short", "call", SOCKET], arguments].concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    };
    let status = call(&["io.trueup.Agent.Status", "{}"]);
    assert_eq!(status["status"]["state"], "in-sync", "{status:#}");
    assert_eq!(status["status"]["revision"]["applied"], *first);

    // Watching, the second comes of itself: a suspension by root.
    let mut watch = Lines::of(host.spawn(
        &["timeout", "--foreground", "120", "varlinkctl", "--json=short", "--more", "call", SOCKET, WATCH, "{}"],
        None,
    ));
    let mut until = |what: &str, holds: &dyn Fn(&Value) -> bool| {
        // JSON text sequences: RFC 7464.
        let status = |line: &str| serde_json::from_str::<Value>(line.trim_start_matches('\u{1e}')).expect("JSON");
        let found = watch.find(|line| holds(&status(line)["status"]));
        assert!(found.is_some(), "{what} never came");
    };
    until("in sync", &|status| status["state"] == "in-sync");
    let tomorrow = host.ok(&["date", "-d", "+1 day", "+%s"]);
    let what =
        format!(r#"{{"resources": ["file:/etc/app.conf"], "until": {}, "reason": "INC-4711"}}"#, tomorrow.trim());
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "varlinkctl", "call", SOCKET];
    for (method, parameters) in [("Suspend", what.as_str()), ("Resume", r#"{"resources": []}"#), ("Sync", "{}")] {
        let refused = host.run(&[&nobody[..], &[&format!("io.trueup.Agent.{method}"), parameters]].concat());
        assert_ne!(refused.status, 0, "{refused:?}");
        assert!(refused.stderr.contains("PermissionDenied"), "{refused:?}");
    }
    let looked = host.run(&[&nobody[..], &["io.trueup.Agent.Status", "{}"]].concat());
    assert!(looked.status == 0 && looked.stdout.contains("in-sync"), "anyone may look: {looked:?}");
    assert_eq!(host.status()["suspended"].as_array().map(Vec::len), Some(0), "nobody changed anything");

    let answer = call(&["io.trueup.Agent.Suspend", &what]);
    assert!(answer["message"].as_str().is_some_and(|line| line.contains("file:/etc/app.conf")), "{answer:#}");
    until("suspended", &|status| status["suspended"][0]["reason"] == "INC-4711");
    host.write("/etc/app.conf", "by hand\n");
    host.await_passes(2);
    assert_eq!(host.read("/etc/app.conf"), "by hand\n");
    call(&["io.trueup.Agent.Resume", r#"{"resources": ["file:/etc/app.conf"]}"#]);
    until("in sync again", &|status| {
        status["suspended"].as_array().is_some_and(Vec::is_empty) && status["state"] == "in-sync"
    });
    assert_eq!(host.read("/etc/app.conf"), "port = 80\n");

    // What makes no sense is told in the service's own words.
    for (method, parameters, word) in [
        ("io.trueup.Agent.Suspend", r#"{"resources": ["file:etc"], "until": 1, "reason": ""}"#, "InvalidParameter"),
        ("io.trueup.Agent.Rollback", r#"{"commit": "0000000"}"#, "Refused"),
        ("io.trueup.Agent.Nothing", "{}", "MethodNotFound"),
    ] {
        let refused = host.run(&["varlinkctl", "call", SOCKET, method, parameters]);
        assert!(refused.status != 0 && refused.stderr.contains(word), "{refused:?}");
    }
}
