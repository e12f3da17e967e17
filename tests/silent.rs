//! What was found of the newest revision stays said while the source is silent, on a directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use trueup::brakes::{self, Brakes, Choice};
use trueup::config::{self, Settings, SourceSettings};
use trueup::host::{Reader, Writer};
use trueup::model::{Class, Stage, Stop, Update};
use trueup::reconcile::{self, Ask};
use trueup::report::{Report, State, journal};

use super::scratch::put;

/// A fleet repository that settings name, and the directory that stands for its one host, converged.
struct Scene {
    scratch: tempfile::TempDir,
    settings: Settings,
}

impl Scene {
    fn converged() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let mut settings = config::settings(&[]).expect("no settings are valid settings");
        settings.host.name = Some("web-01".to_owned());
        settings.source = Some(SourceSettings::at(scratch.path().join("repo").to_string_lossy()));
        let scene = Self { scratch, settings };
        scene.put("root/etc/hostname", "web-01\n");
        scene.put("repo/trueup.toml", "format = 1\n");
        scene.git(&["init", "--quiet", "--initial-branch=main"]);
        scene.says("one\n");
        let report = scene.pass(true);
        assert_eq!((report.state, scene.motd().as_str()), (State::InSync, "one\n"), "{report:#?}");
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn put(&self, path: &str, content: &str) {
        put(&self.at(path), content);
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=Ana", "-c", "user.email=ana@example.org"])
            .args(arguments)
            .current_dir(self.at("repo"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .expect("git is installed");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "a commit"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Commits what `/etc/motd` is to say.
    fn says(&self, text: &str) -> String {
        self.put("repo/hosts/web-01/files/etc/motd", text);
        self.commit()
    }

    fn motd(&self) -> String {
        fs::read_to_string(self.at("root/etc/motd")).unwrap_or_default()
    }

    fn approve(&self, commit: &str) {
        let commit = commit.parse().expect("an id");
        let approved = Some(Choice { commit, by: "alice".to_owned(), at: 1 });
        let reader = Reader::directory(&self.at("root")).expect("the root is there");
        brakes::save(&reader.agent_state(), &Brakes { approved, ..Brakes::default() }).expect("saved");
    }

    /// A pass of the agent; where the source does not answer it goes on with what it has.
    fn pass(&self, answers: bool) -> Report {
        self.pass_of(answers, true)
    }

    fn pass_of(&self, answers: bool, patient: bool) -> Report {
        let reader = Reader::directory(&self.at("root")).expect("the root is there");
        let not_now = (!answers).then(|| Stop {
            stage: Stage::Fetch,
            class: Class::Transient,
            reason: "unreachable".to_owned(),
            message: "no route to host".to_owned(),
        });
        let program = Path::new(env!("CARGO_BIN_EXE_trueup")).to_owned();
        let ask = Ask { not_now, patient, ..Ask::new("agent", self.settings.clone(), &reader, program) };
        let mut host = Writer::take(reader).expect("nobody else is here");
        reconcile::pass(&mut host, &ask, |_, _| ())
    }

    /// As [`Scene::pass`], of an agent that asked the source a moment ago.
    fn again(&self) -> Report {
        let reader = Reader::directory(&self.at("root")).expect("the root is there");
        let program = Path::new(env!("CARGO_BIN_EXE_trueup")).to_owned();
        let ask = Ask { unasked: true, patient: true, ..Ask::new("agent", self.settings.clone(), &reader, program) };
        reconcile::pass(&mut Writer::take(reader).expect("nobody else is here"), &ask, |_, _| ())
    }

    /// With and without the source, and with it again, the same is said of `seen`; gives the pass without it.
    #[track_caller]
    fn stands(&self, state: State, reason: &str, seen: &str) -> Report {
        let told = self.pass(true);
        assert_eq!((told.state, told.reason.as_deref()), (state, Some(reason)), "{told:#?}");
        let silent = self.pass(false);
        let said = |report: &Report| (report.state, report.reason.clone(), report.message.clone());
        assert_eq!(said(&silent), said(&told));
        assert_eq!(silent.revision.seen.as_deref(), Some(seen));
        assert_eq!(silent.commit, told.commit);
        assert!(silent.source_error.is_some(), "that the source is silent is known all the same");
        // The journal is told of it once, and of nothing that is well again.
        let mut before = journal::Told::default();
        let entries: Vec<usize> = [&told, &silent, &silent, &self.pass(true)]
            .into_iter()
            .map(|report| journal::entries(&mut before, report, 1_800_000_000).len())
            .collect();
        assert!(entries[0] > 0 && entries[1..] == [0, 0, 0], "{entries:?}");
        silent
    }
}

#[test]
fn a_revision_that_does_not_compile_is_not_forgotten_and_drift_is_corrected_on() {
    let scene = Scene::converged();
    scene.put("repo/hosts/web-01/host.toml", "no = [such\n");
    let broken = scene.commit();
    scene.pass(true);
    scene.put("root/etc/motd", "by hand\n");
    scene.stands(State::Stalled, "compile-error", &broken);
    assert_eq!(scene.motd(), "one\n");
    fs::remove_file(scene.at("repo/hosts/web-01/host.toml")).expect("removed");
    scene.says("two\n");
    assert_eq!(scene.pass(true).state, State::InSync);
    assert_eq!(scene.pass(false).state, State::InSync, "what was mended is forgotten");
}

#[test]
fn a_held_host_goes_on_to_say_what_waits() {
    let mut scene = Scene::converged();
    scene.settings.policy.update = Update::Hold;
    let second = scene.says("two\n");
    scene.stands(State::Pending, "held", &second);
    // Whoever runs a pass by hand hears first that the source does not answer.
    let by_hand = scene.pass_of(false, false);
    assert_eq!((by_hand.state, by_hand.reason.as_deref()), (State::Degraded, Some("unreachable")));
    assert!(by_hand.notes.iter().any(|note| note.contains("trueup approve")), "{:?}", by_hand.notes);
    // Approved meanwhile: it cannot be had yet, and the host is not where it is to be.
    scene.approve(&second);
    let silent = scene.pass(false);
    assert_eq!((silent.state, silent.reason.as_deref()), (State::Pending, Some("unreachable")), "{silent:#?}");
    assert!(silent.message.as_deref().is_some_and(|said| said.contains(&second[..7])), "{silent:#?}");
    assert_eq!(scene.pass(true).state, State::InSync);
    assert_eq!(scene.pass(false).state, State::InSync);
}

#[test]
fn a_host_that_is_not_in_the_repository_any_more_is_left_alone() {
    let scene = Scene::converged();
    fs::rename(scene.at("repo/hosts/web-01"), scene.at("repo/hosts/web-02")).expect("renamed");
    let without = scene.commit();
    scene.put("root/etc/motd", "by hand\n");
    scene.stands(State::Stalled, "no-such-host", &without);
    assert_eq!(scene.motd(), "by hand\n");
}

#[test]
fn what_was_refused_stays_refused() {
    let mut scene = Scene::converged();
    let first = scene.git(&["rev-parse", "HEAD"]);
    scene.says("two\n");
    assert_eq!(scene.pass(true).state, State::InSync);
    scene.git(&["reset", "--quiet", "--hard", &first]);
    let rewritten = scene.says("three\n");
    scene.stands(State::Stalled, "not-a-descendant", &rewritten);
    // Before anything was ever applied, too.
    fs::remove_dir_all(scene.at("root/var/lib/trueup")).expect("removed");
    scene.git(&["checkout", "--quiet", "-b", "floor"]);
    scene.settings.trust.floor = Some(scene.says("newer\n").parse().expect("an id"));
    scene.git(&["checkout", "--quiet", "main"]);
    scene.stands(State::Stalled, "below-floor", &rewritten);
}

#[test]
fn a_source_that_was_asked_a_moment_ago_is_asked_again_only_where_that_is_needed() {
    let mut scene = Scene::converged();
    let away = || fs::rename(scene.at("repo"), scene.at("away")).expect("renamed");
    let back = || fs::rename(scene.at("away"), scene.at("repo")).expect("renamed");
    away();
    scene.put("root/etc/motd", "by hand\n");
    let report = scene.again();
    assert!(report.unasked && report.source_error.is_none() && report.notes.is_empty(), "{report:#?}");
    assert_eq!((report.state, scene.motd().as_str()), (State::InSync, "one\n"));
    back();
    scene.put("repo/hosts/web-01/host.toml", "no = [such\n");
    scene.commit();
    assert_eq!(scene.pass(true).reason.as_deref(), Some("compile-error"));
    away();
    assert_eq!(scene.again().reason.as_deref(), Some("compile-error"));
    // What was found depends on what is set.
    scene.settings.policy.setid = true;
    let report = scene.again();
    assert!(!report.unasked && report.source_error.is_some(), "{report:#?}");
}
