//! Whom commits are believed, on a host with the deb and with keys and commits of git(1) and ssh-keygen(1).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::installed::QUICK;
use super::{Host, Lab};

/// An SSH key of somebody; its file.
fn key(lab: &Lab, name: &str, kind: &[&str]) -> PathBuf {
    let directory = lab.directory("keys");
    fs::create_dir_all(&directory).expect("a directory of the lab's own");
    let file = directory.join(name);
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-C", name, "-f"]).arg(&file).args(kind).status();
    assert!(made.expect("ssh-keygen starts").success());
    file
}

fn public(key: &Path) -> String {
    fs::read_to_string(key.with_extension("pub")).expect("made with it").trim().to_owned()
}

fn fingerprint(key: &Path) -> String {
    let output = Command::new("ssh-keygen").args(["-lf"]).arg(key.with_extension("pub")).output().expect("starts");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split(' ').nth(1).expect("size, fingerprint, comment").to_owned()
}

/// Commits a motd that says `text`.
fn say(lab: &mut Lab, text: &str) -> String {
    lab.fleet.write("hosts/web-01/files/etc/motd", format!("{text}\n"));
    lab.fleet.commit(text)
}

fn refused(host: &Host, reason: &str, words: &[&str]) {
    let status = host.await_status(reason, |status| status["reason"] == reason);
    assert_eq!(status["state"], "stalled", "{status:#}");
    let said = status["message"].as_str().unwrap_or_default().to_owned();
    words.iter().for_each(|word| assert!(said.contains(word), "{reason}: {word:?} in {said}"));
    assert!(!host.journal(&["TRUEUP_EVENT=refused", &format!("TRUEUP_REASON={reason}")]).is_empty(), "told: {said}");
}

/// The settings of a host that believes `signers`.
fn trusting(lab: &Lab, more: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = lab.agent_files(QUICK);
    files.push(("/etc/trueup/agent.d/trust.toml".to_owned(), format!("[trust]\n{more}").into_bytes()));
    files
}

const SIGNERS: &str = "signers = \"/etc/trueup/allowed_signers\"\nrevoked = \"/etc/trueup/revoked\"\n";

#[test]
fn only_what_somebody_signed_whom_root_named_is_acted_on() {
    let Some(mut lab) = Lab::new(1) else { return };
    let ana = key(&lab, "ana", &["-t", "ed25519"]);
    let ben = key(&lab, "ben", &["-t", "ecdsa"]);
    let eve = key(&lab, "eve", &["-t", "ed25519"]);
    let old = key(&lab, "old", &["-t", "rsa", "-b", "3072"]);
    let signers = format!(
        "ana@example.org namespaces=\"git\" {}\nben@example.org {}\nold@example.org valid-before=\"20250101Z\" {}\n",
        public(&ana),
        public(&ben),
        public(&old)
    );
    lab.fleet.sign_with(Some(&ana));
    let first = say(&mut lab, "first");
    let mut files = trusting(&lab, SIGNERS);
    files.push(("/etc/trueup/allowed_signers".to_owned(), signers.clone().into_bytes()));
    files.push(("/etc/trueup/revoked".to_owned(), b"# nobody yet\n".to_vec()));
    let host = lab.boot_plain(super::Variant::Bookworm, "web-01", &files);
    host.install(&super::installed::deb());
    let status = host.await_applied(&first);
    assert_eq!(status["authenticity"], "signed");
    assert_eq!(status["signed"]["key"], fingerprint(&ana).as_str());
    let shown = host.ok(&["trueup", "status"]);
    assert!(shown.contains(&format!("signed by ana@example.org ({}), head mode", fingerprint(&ana))), "{shown}");

    lab.fleet.sign_with(None);
    say(&mut lab, "unsigned");
    refused(&host, "unsigned", &["git commit -S"]);
    assert_eq!(host.read("/etc/motd"), "first\n");
    // The last good one holds.
    host.write("/etc/motd", "by hand\n");
    host.await_that("grep -qx first /etc/motd");

    lab.fleet.sign_with(Some(&eve));
    say(&mut lab, "by a stranger");
    refused(&host, "unknown-key", &[&fingerprint(&eve)]);
    // Its commits are dated into the time when the key was valid: what counts is that it is not now.
    lab.fleet.sign_with(Some(&old));
    say(&mut lab, "backdated");
    refused(&host, "expired-key", &[&fingerprint(&old), "old@example.org"]);
    lab.fleet.sign_with(Some(&ben));
    let second = say(&mut lab, "second");
    host.await_applied(&second);

    // Revoked is revoked, also when the line goes.
    host.write("/etc/trueup/revoked", format!("{}\n", fingerprint(&ana)));
    lab.fleet.sign_with(Some(&ana));
    say(&mut lab, "revoked");
    refused(&host, "revoked-key", &[&fingerprint(&ana)]);
    host.write("/etc/trueup/revoked", "# nobody\n");
    say(&mut lab, "still revoked");
    host.await_status("still revoked", |status| {
        status["reason"] == "revoked-key" && status["seen"]["subject"] == "still revoked"
    });
    assert_eq!(host.read("/etc/motd"), "second\n");

    // A trust file that is broken, or could be written by others, stops everything with its name.
    lab.fleet.sign_with(Some(&ben));
    for (break_it, word) in [
        ("rm /etc/trueup/allowed_signers", "not there"),
        (": >/etc/trueup/allowed_signers", "allowed_signers"),
        ("echo 'ben@example.org sudo=\"yes\" ssh-ed25519 AAAA' >/etc/trueup/allowed_signers", "allowed_signers:1"),
        ("chmod 666 /etc/trueup/allowed_signers", "chmod go-w"),
    ] {
        host.shell(break_it);
        let broken = say(&mut lab, "third");
        let status = host.await_status(word, |status| {
            status["reason"] == "bad-trust" && status["message"].as_str().is_some_and(|said| said.contains(word))
        });
        assert_ne!(status["revision"]["applied"], broken, "{break_it}");
        assert_eq!(host.read("/etc/motd"), "second\n", "{break_it}");
        // Nothing is put back either: it stops everything.
        host.write("/etc/motd", "by hand\n");
        assert_eq!(host.run(&["trueup", "sync"]).status, 3, "{break_it}");
        assert_eq!(host.read("/etc/motd"), "by hand\n", "{break_it}");
        host.write("/etc/trueup/allowed_signers", &signers);
        host.shell("chmod 644 /etc/trueup/allowed_signers");
        host.await_status("mended", |status| status["reason"] != "bad-trust");
        // What was signed by nobody else than ben is believed again; the next one is seen while it is broken.
        lab.fleet.write("hosts/web-01/files/etc/motd", "second\n");
        let good = lab.fleet.commit("as it was");
        host.await_applied(&good);
    }
    let doctor = host.run(&["trueup", "doctor"]).stdout;
    assert!(doctor.contains("commits have to be signed by whom root named"), "{doctor}");

    // Root's word goes back to what this host has followed, and to nothing that nobody signed.
    let good = host.status()["revision"]["applied"].as_str().expect("applied").to_owned();
    lab.fleet.sign_with(None);
    let forged = say(&mut lab, "forged");
    refused(&host, "unsigned", &[]);
    host.ok(&["trueup", "rollback", &forged]);
    host.await_status("not even by root's word", |status| {
        status["reason"] == "unsigned" && !status["rolled_back"].is_null()
    });
    assert_eq!(host.read("/etc/motd"), "second\n");
    host.ok(&["trueup", "rollback", &first]);
    host.await_that("grep -qx first /etc/motd");
    host.ok(&["trueup", "resume"]);
    lab.fleet.reset(&good);
    host.await_that("grep -qx second /etc/motd");

    // Who signed what is applied is found to be a thief: nothing of it is put back any more.
    host.write("/etc/trueup/revoked", format!("{}\n", fingerprint(&ben)));
    refused(&host, "revoked-key", &[&fingerprint(&ben)]);
    host.write("/etc/motd", "by hand\n");
    assert_eq!(host.run(&["trueup", "sync"]).status, 3);
    assert_eq!(host.read("/etc/motd"), "by hand\n");
    // Nor from our own copy while nobody answers.
    lab.network.partition(true);
    host.ok(&["systemctl", "restart", "trueup"]);
    host.await_status("without a source", |status| status["reason"] == "revoked-key" && status["last"].is_object());
    assert_eq!(host.read("/etc/motd"), "by hand\n");
    lab.network.partition(false);
}

#[test]
fn what_came_before_root_named_anybody_is_kept_to_no_longer_until_somebody_signs() {
    let Some(mut lab) = Lab::new(1) else { return };
    let ana = key(&lab, "ana", &["-t", "ed25519"]);
    let first = say(&mut lab, "first");
    let host = lab.boot_installed("web-01", QUICK);
    let status = host.await_applied(&first);
    assert_eq!(status["authenticity"], "transport-only");
    host.write("/etc/trueup/allowed_signers", format!("ana@example.org {}\n", public(&ana)));
    host.write("/etc/trueup/agent.d/trust.toml", "[trust]\nsigners = \"/etc/trueup/allowed_signers\"\n");
    host.ok(&["systemctl", "reload", "trueup"]);
    refused(&host, "unsigned", &[]);
    assert_eq!(host.status()["authenticity"], "unverified");
    host.write("/etc/motd", "by hand\n");
    assert_eq!(host.run(&["trueup", "sync"]).status, 3);
    assert_eq!(host.read("/etc/motd"), "by hand\n");
    // A repository cannot write the file by which it is believed.
    lab.fleet.sign_with(Some(&ana));
    lab.fleet.write("hosts/web-01/files/srv/signers", "eve\n");
    host.shell("ln -s /etc/trueup/allowed_signers /srv/of-trueup; cp /etc/trueup/allowed_signers /srv/signers");
    host.write("/etc/trueup/agent.d/trust.toml", "[trust]\nsigners = \"/srv/signers\"\n");
    host.ok(&["systemctl", "reload", "trueup"]);
    say(&mut lab, "another");
    refused(&host, "self-trust", &["/srv/signers"]);
    lab.fleet.remove("hosts/web-01/files/srv/signers");
    let second = say(&mut lab, "second");
    let status = host.await_applied(&second);
    assert_eq!((status["authenticity"].as_str(), host.read("/etc/motd").as_str()), (Some("signed"), "second\n"));
}

#[test]
fn in_a_chain_every_commit_is_signed_by_somebody_whom_its_parents_allow() {
    let Some(mut lab) = Lab::new(1) else { return };
    let ana = key(&lab, "ana", &["-t", "ed25519"]);
    let ben = key(&lab, "ben", &["-t", "ed25519"]);
    let line = |name: &str, key: &Path| format!("{name}@example.org {}\n", public(key));
    lab.fleet.sign_with(Some(&ana));
    lab.fleet.write("allowed_signers", line("ana", &ana));
    let first = say(&mut lab, "first");
    let mut files =
        trusting(&lab, &format!("signers = \"/etc/trueup/signers\"\nmode = \"chain\"\nintroduction = \"{first}\"\n"));
    files.push(("/etc/trueup/signers".to_owned(), line("ana", &ana).into_bytes()));
    let host = lab.boot_plain(super::Variant::Bookworm, "web-01", &files);
    host.install(&super::installed::deb());
    let status = host.await_applied(&first);
    assert_eq!(status["signed"]["mode"], "chain");

    // Nobody signs what comes in between, though the tip is.
    lab.fleet.sign_with(None);
    let good = first;
    say(&mut lab, "unsigned");
    lab.fleet.sign_with(Some(&ana));
    say(&mut lab, "on top of it");
    refused(&host, "unsigned", &[]);
    lab.fleet.reset(&good);

    // A commit that names ben is ana's; from then on his are believed.
    lab.fleet.write("allowed_signers", line("ana", &ana) + &line("ben", &ben));
    let named = say(&mut lab, "names ben");
    host.await_applied(&named);
    lab.fleet.sign_with(Some(&ben));
    let bens = say(&mut lab, "by ben");
    let status = host.await_applied(&bens);
    assert_eq!(status["signed"]["by"], "ben@example.org");
    let merged = lab.fleet.merge("hosts/web-01/files/etc/issue", "merged\n", Some(&ben), Some(&ana));
    host.await_applied(&merged);
    lab.fleet.merge("hosts/web-01/files/etc/issue", "unsigned side\n", None, Some(&ana));
    refused(&host, "unsigned", &[]);
    assert_eq!(host.read("/etc/issue"), "merged\n");
    lab.fleet.reset(&merged);

    // The file of signers neither goes away nor becomes empty.
    lab.fleet.sign_with(Some(&ana));
    lab.fleet.remove("allowed_signers");
    say(&mut lab, "without signers");
    refused(&host, "signers-removed", &[]);
    lab.fleet.reset(&merged);
    lab.fleet.write("allowed_signers", "# nobody\n");
    say(&mut lab, "nobody may sign");
    refused(&host, "bad-signers", &[]);
    lab.fleet.reset(&merged);
    let last = say(&mut lab, "last");
    host.await_applied(&last);
}
