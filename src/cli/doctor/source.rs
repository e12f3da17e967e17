//! Where revisions come from, why they are believed, and who this host is to the repository.

use std::path::Path;

use super::Finding;
use super::looked::{Looked, Unseen};
use crate::cli::reach::advice;
use crate::compile;
use crate::config::{SourceSettings, credential, how_to_load, ssh_server};
use crate::model::{Word, one_line};

pub(super) fn reached(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "source";
    let mut findings = vec![match &looked.source {
        None => return Vec::new(),
        Some(Err(Unseen::NeedsRoot)) => Finding::needs_root(ABOUT),
        Some(Err(Unseen::Failed(why))) => Finding::bad(ABOUT, why, "see the message"),
        Some(Ok(Err(why))) => Finding::bad(ABOUT, format!("{}: {}", why.reason, why.message), why.advice()),
        Some(Ok(Ok(found))) => {
            let (tip, subject) = (found.revision.short(), one_line(&found.revision.subject, 60));
            let took = found.took.as_millis();
            let message = format!("{} {} is at {tip} {subject}; looked at in {took} ms", found.place, found.branch);
            if found.fleet {
                Finding::ok(ABOUT, message)
            } else {
                let message = format!("{message}; there is no trueup.toml where the fleet repository should be");
                Finding::bad(ABOUT, message, "check source.path and source.branch")
            }
        }
    }];
    if let Some(Ok(Ok(found))) = &looked.source {
        findings.extend(found.passed_over.iter().map(|(url, reason, message)| {
            Finding::warn(ABOUT, format!("{url} is passed over, {reason}: {message}"), advice(reason))
        }));
    }
    findings
}

/// Which directory of the repository this host is.
pub(super) fn selection(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "host";
    let facts = match &looked.facts {
        Ok(facts) => facts,
        Err(why) => return vec![Finding::bad(ABOUT, why, "correct what is named")],
    };
    let mut findings = Vec::new();
    // Without settings it is not known which name was meant.
    let Ok(settings) = &looked.settings else { return findings };
    let setting = settings.host.name.as_deref();
    let tried = compile::names_tried(setting, facts);
    let bound = looked.ledger.as_ref().ok().and_then(|(ledger, _)| ledger.bound.as_ref());
    let known = looked.source.as_ref().and_then(|seen| seen.as_ref().ok()?.as_ref().ok());
    let names = tried.iter().map(|name| format!("hosts/{name}")).collect::<Vec<_>>().join(", ");
    findings.push(match known.map(|reached| compile::select(&reached.hosts, setting, facts)) {
        _ if tried.is_empty() && !looked.machine => {
            Finding::warn(ABOUT, "a directory has no name of its own", "say which in [host] name, or with --host")
        }
        _ if tried.is_empty() => {
            Finding::bad(ABOUT, "this host has no name", "hostnamectl hostname NAME, or [host] name")
        }
        None => Finding::ok(ABOUT, format!("it looks for {names}")),
        Some(Some(name)) if bound.is_some_and(|bound| bound.host != name) => {
            let was = bound.map(|bound| bound.host.as_str()).unwrap_or_default();
            let message = format!("it is hosts/{name} now, and was converged as {was}; nothing is applied");
            Finding::bad(ABOUT, message, format!("put the name back, or trueup rebind {name}"))
        }
        Some(Some(name)) => Finding::ok(ABOUT, format!("it is hosts/{name}")),
        Some(None) => Finding::bad(
            ABOUT,
            format!("the repository has no directory for this host (looked for {names}); nothing is applied"),
            "add one, or say which in [host] name",
        ),
    });
    let other = bound.and_then(|bound| bound.machine_id.as_ref()).filter(|id| facts.machine_id.as_ref() != Some(id));
    match (&facts.machine_id, other) {
        (None, _) if looked.machine => {
            let advice = "systemd-machine-id-setup";
            findings.push(Finding::bad("machine-id", "this machine has no machine id (/etc/machine-id)", advice));
        }
        (Some(_), Some(_)) => findings.push(Finding::warn(
            "machine-id",
            "our ledger is of another machine (a cloned disk?): everything is adopted anew",
            "nothing, if that is so",
        )),
        (Some(id), None) => findings.push(Finding::ok("machine-id", one_line(id, 40))),
        (None, _) => {}
    }
    findings
}

pub(super) fn trust(looked: &Looked) -> Vec<Finding> {
    let Some(source) = configured(looked) else { return Vec::new() };
    let floor = looked.settings.as_ref().ok().and_then(|settings| settings.trust.floor.as_ref());
    let floor = floor.map_or(String::new(), |floor| format!("; nothing older than {} is taken", floor.short()));
    let mut findings = vec![match &looked.trust {
        Some(Ok(())) => {
            let mode = looked.settings.as_ref().map_or("head", |settings| settings.trust.mode.as_str());
            Finding::ok("trust", format!("commits have to be signed by whom root named, {mode} mode{floor}"))
        }
        Some(Err(Unseen::NeedsRoot)) => Finding::needs_root("trust"),
        Some(Err(Unseen::Failed(why))) => {
            Finding::bad("trust", why, "mend the file that is named; no new revision is acted on until then")
        }
        None => Finding::warn(
            "trust",
            format!(
                "transport-only: a commit is believed because of the server that gives it (its certificate, its pinned \
                 key), not because of who signed it{floor}"
            ),
            "whoever may push to the branch is root here: name who may sign in trust.signers, or guard server and branch",
        ),
    }];
    if source.allow_insecure {
        findings.push(Finding::warn(
            "trust",
            "source.allow_insecure: http:// and git:// can be read and changed by anybody on the way",
            "use https or ssh, and take it out",
        ));
    }
    findings
}

/// Files that have to be there, and root's alone.
pub(super) fn credentials(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "credentials";
    let credentials = match &looked.credentials {
        Err(Unseen::NeedsRoot) => return vec![Finding::needs_root(ABOUT)],
        Err(Unseen::Failed(why)) => return vec![Finding::bad(ABOUT, why, "see the message")],
        Ok(credentials) => credentials,
    };
    let mut findings = Vec::new();
    for one in credentials {
        let (key, path) = (one.key, &one.path);
        let secret = matches!(key, "source.token_file" | "source.ssh_key" | "source.client_key");
        let handed_over = credential(Path::new(path));
        findings.push(match &one.found {
            Err(why) => {
                Finding::bad(ABOUT, format!("{path} ({key}) cannot be looked at: {why}"), "check its directory")
            }
            Ok(None) if let Some(name) = handed_over => {
                let message = format!("trueup.service has no credential {name} ({key})");
                Finding::bad(ABOUT, message, how_to_load(name))
            }
            Ok(None) if key == "source.known_hosts" => Finding::bad(
                ABOUT,
                format!("{path} ({key}) is missing: no server is believed"),
                pinning(looked).unwrap_or_else(|| "pin the server's key there".to_owned()),
            ),
            Ok(None) if secret => {
                let advice = format!("put it there, root's own and for nobody else: install -m 600 FILE {path}");
                Finding::bad(ABOUT, format!("{path} ({key}) is missing"), advice)
            }
            Ok(None) => Finding::bad(ABOUT, format!("{path} ({key}) is missing"), "put it there, or take the key out"),
            Ok(Some((uid, _))) if looked.machine && *uid != 0 => {
                Finding::bad(ABOUT, format!("{path} ({key}) belongs to uid {uid}"), format!("chown root {path}"))
            }
            Ok(Some((_, mode))) if mode & 0o170_000 != 0o100_000 => {
                Finding::bad(ABOUT, format!("{path} ({key}) is not a file"), "put a file there")
            }
            Ok(Some((_, mode))) if secret && mode & 0o077 != 0 => {
                let message = format!("{path} ({key}, mode {:04o}) can be read by others than root", mode & 0o7777);
                Finding::bad(ABOUT, message, format!("chmod 600 {path}; if it was read, replace it"))
            }
            Ok(Some((_, mode))) if mode & 0o022 != 0 => {
                let message = format!("{path} ({key}, mode {:04o}) can be written by others than root", mode & 0o7777);
                Finding::bad(ABOUT, message, format!("chmod go-w {path}"))
            }
            Ok(Some(_)) => Finding::ok(ABOUT, format!("{path} ({key})")),
        });
    }
    if credentials.is_empty() && configured(looked).is_some() {
        findings.push(Finding::ok(ABOUT, "none are configured"));
    }
    findings
}

/// ssh believes only servers whose keys are pinned.
pub(super) fn pins(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "ssh";
    let Some(source) = configured(looked) else { return Vec::new() };
    if !source.urls.iter().any(|url| ssh_server(url).is_some()) {
        return vec![Finding::ok(ABOUT, "not used by this source")];
    }
    let mut findings = Vec::new();
    if !looked.ssh {
        findings.push(Finding::bad(ABOUT, "there is no ssh on this host", "install openssh-client (openssh-clients)"));
    }
    if source.ssh_key.is_none() {
        let message = "source.ssh_key is not set: ssh uses the keys in root's own ~/.ssh, if there are any";
        findings.push(Finding::warn(ABOUT, message, "give this host a key of its own, and name it as source.ssh_key"));
    }
    let file = source.known_hosts.display();
    for pin in &looked.pins {
        findings.push(match &pin.keys {
            Ok(keys) if keys.is_empty() => {
                Finding::bad(ABOUT, format!("{file} has no key of {}: it is not believed", pin.server), &pin.how)
            }
            Ok(keys) => Finding::ok(ABOUT, format!("{} is pinned: {}", pin.server, keys.join(", "))),
            Err(why) => Finding::warn(ABOUT, format!("{file} cannot be looked at: {why}"), "install openssh-client"),
        });
    }
    findings
}

fn configured(looked: &Looked) -> Option<&SourceSettings> {
    looked.settings.as_ref().ok()?.source.as_ref()
}

fn pinning(looked: &Looked) -> Option<String> {
    let source = configured(looked)?;
    let server = source.urls.iter().find_map(|url| ssh_server(url))?;
    Some(crate::cli::reach::how_to_pin(&server, source))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::looked::tests::{healthy, settings};
    use super::super::looked::{Credential, Pin};
    use super::*;
    use crate::cli::reach::Unreached;
    use crate::ledger::{Binding, Ledger};
    use crate::model::Class;

    const SSH: &str = "[source]\nurl = \"ssh://git@h:2222/x\"\nssh_key = \"/etc/trueup/key\"\n";

    #[test]
    fn a_source_that_is_not_reached_says_why_and_what_to_do() {
        let mut looked = healthy();
        assert!(reached(&looked)[0].message.contains("is at 4f2a9c1 first; looked at in 20 ms"));
        let why =
            Unreached { reason: "unreachable", class: Class::Transient, message: "https://h/x: no answer".to_owned() };
        looked.source = Some(Ok(Err(why)));
        let found = reached(&looked);
        assert_eq!((found[0].level, found[0].message.as_str()), (Level::Bad, "unreachable: https://h/x: no answer"));
        assert!(found[0].advice.as_deref().is_some_and(|advice| advice.contains("network")), "{found:?}");
        looked.source = Some(Err(Unseen::NeedsRoot));
        assert_eq!(reached(&looked), [Finding::needs_root("source")]);
    }

    #[test]
    fn urls_that_are_passed_over_are_told_with_what_to_do() {
        let mut looked = healthy();
        let Some(Ok(Ok(found))) = &mut looked.source else { panic!("reached") };
        found.passed_over = vec![("https://h/x".to_owned(), "not-a-descendant", "main moved".to_owned())];
        let found = reached(&looked);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[1],
            Finding::warn(
                "source",
                "https://h/x is passed over, not-a-descendant: main moved",
                "push a branch that contains what was acted on last; nothing older is taken"
            )
        );
    }

    #[test]
    fn a_repository_that_is_no_fleet_or_does_not_know_this_host_is_bad() {
        let mut looked = healthy();
        let Some(Ok(Ok(found))) = &mut looked.source else { panic!("reached") };
        found.fleet = false;
        assert_eq!(reached(&looked)[0].level, Level::Bad);
        let mut looked = healthy();
        let Some(Ok(Ok(found))) = &mut looked.source else { panic!("reached") };
        found.hosts = ["db-01".to_owned()].into();
        let found = selection(&looked);
        assert!(found[0].level == Level::Bad && found[0].message.contains("hosts/web-01"), "{found:?}");
    }

    #[test]
    fn a_host_that_was_another_and_a_cloned_disk_are_told() {
        let bound = |host: &str, id: &str| {
            let bound = Some(Binding { host: host.to_owned(), machine_id: Some(id.to_owned()) });
            Ok((Ledger { bound, ..Ledger::default() }, false))
        };
        let mut looked = healthy();
        let own = looked.facts.as_ref().expect("facts").machine_id.clone().expect("an id");
        looked.ledger = bound("web-01", &own);
        assert!(selection(&looked).iter().all(|one| one.level == Level::Ok));
        looked.ledger = bound("web-02", &own);
        assert_eq!(selection(&looked)[0].advice.as_deref(), Some("put the name back, or trueup rebind web-01"));
        looked.ledger = bound("web-01", "other");
        assert_eq!(selection(&looked)[1].level, Level::Warn);
    }

    #[test]
    fn trust_by_transport_is_always_told() {
        let mut looked = healthy();
        assert!(trust(&looked)[0].message.starts_with("transport-only"));
        looked.settings = Ok(settings("[source]\nurl = \"http://h/x\"\nallow_insecure = true\n"));
        assert_eq!(trust(&looked).len(), 2);
    }

    #[test]
    fn credentials_are_there_and_roots_alone() {
        let of = |key: &'static str, found| {
            let mut looked = healthy();
            looked.settings = Ok(settings(SSH));
            looked.credentials = Ok(vec![Credential { key, path: "/p".to_owned(), found }]);
            let mut found = credentials(&looked);
            assert_eq!(found.len(), 1, "{found:?}");
            found.remove(0)
        };
        for key in ["source.token_file", "source.ssh_key", "source.client_key"] {
            assert_eq!(of(key, Ok(Some((0, 0o100_600)))).level, Level::Ok);
            for (uid, mode, advice) in [
                (1000, 0o100_600, "chown root /p"),
                (0, 0o100_640, "chmod 600 /p"),
                (0, 0o100_604, "chmod 600 /p"),
                (0, 0o40_700, "put a file there"),
            ] {
                let found = of(key, Ok(Some((uid, mode))));
                assert!(
                    found.level == Level::Bad && found.advice.as_deref().unwrap_or("").contains(advice),
                    "{found:?}"
                );
            }
            assert!(of(key, Ok(None)).advice.expect("what to do").contains("install -m 600"));
        }
        for key in ["source.ca_file", "source.client_cert", "source.known_hosts"] {
            assert_eq!(of(key, Ok(Some((0, 0o100_644)))).level, Level::Ok);
            assert_eq!(of(key, Ok(Some((0, 0o100_666)))).level, Level::Bad);
            assert_eq!(of(key, Ok(None)).level, Level::Bad);
        }
        let mut looked = healthy();
        let (key, path) = ("source.token_file", "/run/credentials/trueup.service/fleet-token".to_owned());
        looked.credentials = Ok(vec![Credential { key, path, found: Ok(None) }]);
        let found = credentials(&looked);
        assert_eq!(found[0].message, "trueup.service has no credential fleet-token (source.token_file)");
        assert!(found[0].advice.as_deref().is_some_and(|advice| advice.contains("LoadCredential=fleet-token:")));
        assert!(of("source.known_hosts", Ok(None)).advice.expect("what to do").contains("ssh-keyscan -p 2222 h"));
    }

    #[test]
    fn an_ssh_server_has_to_be_pinned() {
        let mut looked = healthy();
        assert_eq!(pins(&looked)[0].level, Level::Ok);
        looked.settings = Ok(settings(SSH));
        let mut with = |keys: Result<Vec<String>, String>| {
            looked.pins = vec![Pin { server: "[h]:2222".to_owned(), how: "how".to_owned(), keys }];
            pins(&looked).remove(0)
        };
        assert!(with(Ok(vec!["ED25519 SHA256:x".to_owned()])).message.contains("is pinned: ED25519 SHA256:x"));
        assert_eq!(
            with(Ok(Vec::new())),
            Finding::bad("ssh", "/etc/trueup/known_hosts has no key of [h]:2222: it is not believed", "how")
        );
        assert_eq!(with(Err("no".to_owned())).level, Level::Warn);
        looked.ssh = false;
        assert_eq!(pins(&looked)[0].level, Level::Bad);
    }
}
