//! Where revisions come from, and which are refused.

use super::lab::HTTPS_PORT;
use super::{Host, Lab, git};

/// Points the agent elsewhere.
fn configure(host: &Host, source: &str) {
    host.write("/etc/trueup/agent.toml", format!("[source]\n{source}"));
}

/// Commits a motd that says `text`.
fn say(lab: &mut Lab, text: &str) -> String {
    lab.fleet.write("hosts/web-01/files/etc/motd", format!("{text}\n"));
    lab.fleet.commit(text)
}

/// The next pass brings `text`.
#[track_caller]
fn arrives(lab: &mut Lab, host: &Host, text: &str) {
    let commit = say(lab, text);
    let told = host.trueup(&["run"]);
    told.converged();
    assert_eq!(told.report.revision.applied.as_deref(), Some(commit.as_str()), "{text}");
    assert_eq!(host.read("/etc/motd"), format!("{text}\n"));
}

/// The next pass does not bring what is committed, and what it says contains each of `words`.
#[track_caller]
fn does_not_arrive(lab: &mut Lab, host: &Host, text: &str, words: &[&str]) {
    let standing = host.read("/etc/motd");
    let commit = say(lab, text);
    let told = host.trueup(&["run"]);
    assert!([1, 3].contains(&told.status), "{text}: {told:#?}");
    assert!(told.report.reason.as_deref().is_some_and(|reason| !reason.is_empty()), "{text}: {told:#?}");
    assert_ne!(told.report.revision.applied.as_deref(), Some(commit.as_str()), "{text}");
    let said = told.report.message.clone().unwrap_or_default();
    for word in words {
        assert!(said.contains(word), "{text}: {word:?} was to be said: {told:#?}");
    }
    assert_eq!(host.read("/etc/motd"), standing, "{text}");
}

#[test]
fn a_force_push_is_refused_with_its_reason_and_going_forward_is_not() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/other", "other\n");
    let first = say(&mut lab, "first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    arrives(&mut lab, &host, "second");
    let good = say(&mut lab, "third");
    host.trueup(&["run"]).converged();

    // Another commit in the place of the last.
    lab.fleet.write("hosts/web-01/files/etc/motd", "forced\n");
    let forced = lab.fleet.force_push("forced");
    // Drift is corrected meanwhile, to what holds.
    host.shell("echo by hand >/etc/other");
    let told = host.trueup(&["run"]);
    told.stalled("not-a-descendant");
    let said = told.report.message.clone().unwrap_or_default();
    assert!(said.contains(&good[..7]) && said.contains(&forced[..7]), "{said}");
    assert_eq!(told.report.revision.seen.as_deref(), Some(forced.as_str()));
    assert_eq!(told.report.revision.applied.as_deref(), Some(good.as_str()));
    assert_eq!(host.read("/etc/motd"), "third\n");
    assert_eq!(host.read("/etc/other"), "other\n");

    // An older commit, signed or not: the branch only moves forward.
    lab.fleet.reset(&first);
    host.trueup(&["run"]).stalled("not-a-descendant");
    assert_eq!(host.read("/etc/motd"), "third\n");

    // And again when all that is only a cache is lost.
    host.shell("rm -rf /var/cache/trueup");
    host.trueup(&["run"]).stalled("not-a-descendant");

    // Back on the branch, and rolled back the way that Git has for it.
    lab.fleet.reset(&good);
    host.trueup(&["run"]).idle();
    arrives(&mut lab, &host, "fourth");
    let reverted = lab.fleet.revert();
    let told = host.trueup(&["run"]);
    told.converged();
    assert_eq!(told.report.revision.applied.as_deref(), Some(reverted.as_str()));
    assert_eq!(host.read("/etc/motd"), "third\n");
}

#[test]
fn the_fleet_comes_over_https_ssh_git_and_from_a_directory_and_from_nobody_unproven() {
    let Some(mut lab) = Lab::new(1) else { return };
    let address = lab.network.address();
    let first = say(&mut lab, "first");
    // From the package, so that the worker is a user of its own; its passes are ours.
    let host = lab.boot_installed("web-01", "");
    host.await_applied(&first);
    host.ok(&["systemctl", "disable", "--now", "trueup"]);
    let https = format!("https://{address}:{HTTPS_PORT}/fleet.git");
    let ca = "ca_file = \"/etc/trueup/ca.pem\"\n";

    // https: an authority of one's own, which is needed.
    arrives(&mut lab, &host, "over https");
    configure(&host, &format!("url = \"{https}\"\n"));
    does_not_arrive(&mut lab, &host, "from an unknown authority", &["certificate"]);
    configure(&host, &format!("url = \"https://{address}:{HTTPS_PORT}/missing.git\"\n{ca}"));
    does_not_arrive(&mut lab, &host, "from a repository that there is not", &["missing.git"]);

    // A token, which never shows.
    const TOKEN: &str = "tok-3f9d0c";
    let _closed = git::https(&address, HTTPS_PORT + 1, lab.served(), lab.authority(), Some(TOKEN));
    let closed = format!("url = \"https://{address}:{}/fleet.git\"\n{ca}", HTTPS_PORT + 1);
    configure(&host, &closed);
    does_not_arrive(&mut lab, &host, "without a token", &[]);
    configure(&host, &format!("{closed}token_file = \"/etc/trueup/token\"\n"));
    host.write("/etc/trueup/token", "tok-wrong\n");
    host.shell("chmod 0600 /etc/trueup/token");
    does_not_arrive(&mut lab, &host, "with the wrong token", &[]);
    assert!(!host.trueup(&["run"]).report.message.unwrap_or_default().contains("tok-wrong"));
    host.write("/etc/trueup/token", format!("{TOKEN}\n"));
    arrives(&mut lab, &host, "with the token");
    assert!(!host.holds(&format!("grep -rq {TOKEN} /var/lib/trueup /var/cache/trueup /run /var/log")), "it is nowhere");

    // ssh: the server's key is pinned, ours is the deploy key.
    let server = git::Ssh::start(&address, lab.directory("ssh"));
    host.write("/etc/trueup/deploy", server.deploy_key());
    host.write("/etc/trueup/known_hosts", server.known_hosts(true));
    host.shell("chmod 0600 /etc/trueup/deploy");
    let path = lab.fleet.bare().display().to_string();
    let keys = "ssh_key = \"/etc/trueup/deploy\"\nknown_hosts = \"/etc/trueup/known_hosts\"\n";
    configure(&host, &format!("url = \"ssh://root@{address}:{}{path}\"\n{keys}", git::SSH_PORT));
    arrives(&mut lab, &host, "over ssh");
    host.write("/etc/trueup/known_hosts", server.known_hosts(false));
    does_not_arrive(&mut lab, &host, "from another server", &[]);
    host.write("/etc/trueup/known_hosts", "");
    does_not_arrive(&mut lab, &host, "from a server nobody knows", &[]);

    // git://, only where that is said.
    let _daemon = git::daemon(&address, lab.served());
    configure(&host, &format!("url = \"git://{address}/fleet.git\"\n"));
    does_not_arrive(&mut lab, &host, "unencrypted", &["allow_insecure"]);
    configure(&host, &format!("url = \"git://{address}/fleet.git\"\nallow_insecure = true\n"));
    arrives(&mut lab, &host, "over git");

    // The first that answers of several.
    configure(&host, &format!("url = [\"https://{address}:1/fleet.git\", \"{https}\"]\n{ca}"));
    arrives(&mut lab, &host, "from the second url");

    // A directory; one that cannot be read is named.
    configure(&host, "url = \"file:///srv/fleet.git\"\n");
    does_not_arrive(&mut lab, &host, "from no directory", &["/srv/fleet.git"]);
    say(&mut lab, "from a directory");
    host.copy_in(lab.fleet.bare(), "/srv/fleet.git");
    host.trueup(&["run"]).converged();
    assert_eq!(host.read("/etc/motd"), "from a directory\n");
    host.shell("rm -r /srv/fleet.git; mkdir -m 0700 /srv/fleet.git");
    does_not_arrive(&mut lab, &host, "from a directory that holds nothing", &["/srv/fleet.git"]);
}

#[test]
fn drift_is_corrected_while_the_source_cannot_be_reached() {
    let Some(mut lab) = Lab::new(1) else { return };
    say(&mut lab, "first");
    let host = lab.boot("web-01");
    configure(
        &host,
        &format!("url = \"https://{}:1/fleet.git\"\nca_file = \"/etc/trueup/ca.pem\"\n", lab.network.address()),
    );
    let told = host.trueup(&["run"]);
    assert_eq!(told.status, 1, "nothing was ever fetched: {told:#?}");
    host.write("/etc/trueup/agent.toml", lab.agent_toml(""));
    host.trueup(&["run"]).converged();

    lab.network.partition(true);
    host.write("/etc/trueup/agent.toml", lab.agent_toml("timeout = \"2s\"\n"));
    host.shell("echo by hand >/etc/motd");
    let told = host.trueup(&["run"]);
    assert_eq!(host.read("/etc/motd"), "first\n", "{told:#?}");
    assert_eq!(told.step("file:/etc/motd").cause, "corrective");
    lab.network.partition(false);
    arrives(&mut lab, &host, "second");
}

#[test]
fn what_systemd_hands_over_serves_the_agent_and_root_by_hand_and_what_is_missing_is_named() {
    let Some(mut lab) = Lab::new(1) else { return };
    const TOKEN: &str = "tok-8c41aa";
    let address = lab.network.address();
    let first = say(&mut lab, "first");
    let host = lab.boot_installed("web-01", "");
    host.await_applied(&first);
    let _closed = git::https(&address, HTTPS_PORT + 1, lab.served(), lab.authority(), Some(TOKEN));
    let closed = format!("https://{address}:{}/fleet.git", HTTPS_PORT + 1);
    let keys = "ca_file = \"fleet-ca\"\ntoken_file = \"fleet-token\"\n";
    host.write("/root/token", format!("{TOKEN}\n"));
    host.shell("chmod 0600 /root/token");

    // Nobody hands it over yet.
    configure(&host, &format!("url = \"{closed}\"\n{keys}"));
    host.ok(&["systemctl", "reload", "trueup"]);
    let told = host.await_status("a credential that is missing", |status| {
        status["message"].as_str().is_some_and(|message| message.contains("LoadCredential=fleet-"))
    });
    assert_eq!(told["reason"], "cannot-read", "{told}");
    let told = host.run(&["trueup", "doctor"]);
    assert!(told.stdout.contains("trueup.service has no credential fleet-token"), "{told:?}");

    host.write(
        "/etc/systemd/system/trueup.service.d/credentials.conf",
        "[Service]\nLoadCredential=fleet-token:/root/token\nLoadCredential=fleet-ca:/etc/trueup/ca.pem\n",
    );
    let second = say(&mut lab, "second");
    host.shell("systemctl daemon-reload; systemctl restart trueup");
    host.await_applied(&second);
    // Root by hand, while the agent runs.
    host.trueup(&["plan"]).idle();
    let told = host.run(&["trueup", "doctor"]);
    assert!(told.stdout.contains("/run/credentials/trueup.service/fleet-token"), "{told:?}");
    // By a file: what looks for it has a command line too.
    let places = "/var/lib/trueup /var/cache/trueup /run/trueup /var/log /proc/[0-9]*/cmdline /proc/[0-9]*/environ";
    assert!(!host.holds(&format!("grep -rqsf /root/token {places}")), "it is where it was put, and nowhere else");
    assert!(!host.holds("journalctl --no-pager | grep -qf /root/token"), "nor in the journal");

    // Of two URLs the first is dead: the status says so, and the agent goes on.
    let dead = format!("https://{address}:1/fleet.git");
    configure(&host, &format!("url = [\"{dead}\", \"{closed}\"]\ninterval = \"1s\"\n{keys}"));
    host.ok(&["systemctl", "reload", "trueup"]);
    let third = say(&mut lab, "third");
    let status = host.await_applied(&third);
    assert_eq!(status["source"]["answered"], closed.as_str(), "{status}");
    let failing = &status["source"]["failing"][0];
    assert_eq!((&failing["url"], &failing["reason"]), (&dead.as_str().into(), &"unreachable".into()), "{status}");
    assert_eq!((&status["state"], &status["source"]["failing_since"]), (&"in-sync".into(), &serde_json::Value::Null));
    let told = host.ok(&["trueup", "status"]);
    assert!(told.contains(&format!("answered by {closed}")) && told.contains("passed over for"), "{told}");
    let told = host.run(&["trueup", "doctor"]);
    assert!(told.stdout.contains(&format!("{dead} is passed over, unreachable")), "{told:?}");
}

#[test]
fn a_mirror_that_lags_behind_is_passed_over_and_nothing_flaps() {
    let Some(mut lab) = Lab::new(1) else { return };
    let address = lab.network.address();
    let first = say(&mut lab, "first");
    let host = lab.boot_installed("web-01", "");
    host.await_applied(&first);
    // A mirror stops where it is; the host follows it first, and then the server it is a mirror of.
    host.copy_in(lab.fleet.bare(), "/srv/mirror.git");
    let https = format!("https://{address}:{HTTPS_PORT}/fleet.git");
    let second = say(&mut lab, "second");
    host.await_applied(&second);
    let urls =
        format!("url = [\"/srv/mirror.git\", \"{https}\"]\nca_file = \"/etc/trueup/ca.pem\"\ninterval = \"1s\"\n");
    configure(&host, &urls);
    host.ok(&["systemctl", "reload", "trueup"]);
    let status = host.await_status("a mirror that is passed over", |status| {
        status["source"]["failing"][0]["reason"] == "not-a-descendant"
    });
    assert_eq!(status["source"]["answered"], https.as_str(), "{status}");
    let third = say(&mut lab, "third");
    host.await_applied(&third);
    // Over many looks, some of which ask the mirror again.
    for _ in 0..3 {
        // What was remembered is lost with the agent.
        host.ok(&["systemctl", "restart", "trueup"]);
        host.await_status("in sync", |status| {
            status["state"] == "in-sync" && status["source"]["answered"] == https.as_str()
        });
    }
    let refused = host.journal(&["TRUEUP_EVENT=refused"]);
    assert!(refused.is_empty(), "{refused:#?}");
    host.shell("rm -r /srv/mirror.git");
    host.copy_in(lab.fleet.bare(), "/srv/mirror.git");
    host.ok(&["systemctl", "restart", "trueup"]);
    host.await_status("a mirror that has caught up", |status| status["source"]["answered"] == "/srv/mirror.git");
}
