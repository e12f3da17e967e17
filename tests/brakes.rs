//! Days on which something holds a pass back, on a directory and with a clock that the test holds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use trueup::brakes::{self, Brakes, Suspension};
use trueup::config;
use trueup::host::{Clock, Progress, Reader, Writer};
use trueup::reconcile::{self, Ask};
use trueup::report::{Report, State};

use super::scratch::put;

/// Every scene starts at this time.
const START: i64 = 1_800_000_000;

struct Scene {
    scratch: tempfile::TempDir,
    now: i64,
    retry: bool,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { scratch: tempfile::tempdir().expect("a scratch directory"), now: START, retry: false };
        scene.put("repo/trueup.toml", "format = 1\n");
        scene.put("root/etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:7:7::/:/bin/sh\n");
        scene.put("root/etc/group", "root:x:0:\n");
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn put(&self, path: &str, content: &str) {
        put(&self.at(path), content);
    }

    fn declare(&self, path: &str, content: &str) {
        self.put(&format!("repo/hosts/web-01/files{path}"), content);
    }

    fn manifest(&self, text: &str) {
        self.put("repo/hosts/web-01/host.toml", text);
    }

    fn edit(&self, path: &str, content: &str) {
        self.put(&format!("root{path}"), content);
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at("root").join(path.trim_start_matches('/'))).ok()
    }

    fn reader(&self) -> Reader {
        Reader::directory(&self.at("root")).expect("the root is there").with_clock(Clock::Fixed(self.now))
    }

    fn run(&self, progress: Progress) -> Report {
        self.run_with(|reader| reader.with_progress(progress))
    }

    fn run_with(&self, with: impl FnOnce(Reader) -> Reader) -> Report {
        let mut settings = config::settings(&[]).expect("no settings are valid settings");
        settings.host.name = Some("web-01".to_owned());
        let ask = Ask {
            local: Some(self.at("repo")),
            retry: self.retry,
            pass: String::new(),
            ..Ask::new("run", settings, &self.reader(), Path::new(env!("CARGO_BIN_EXE_trueup")).to_owned())
        };
        let mut host = Writer::take(with(self.reader())).expect("nobody else is here");
        reconcile::pass(&mut host, &ask, |_, _| ())
    }

    fn pass(&self) -> Report {
        self.run(Progress::default())
    }

    fn suspend(&self, resource: Option<&str>, until: i64) {
        let mut brakes = brakes::load(&self.reader().agent_state()).expect("whole").value;
        brakes.suspend(Suspension {
            resource: resource.map(|id| id.parse().expect("an id")),
            since: self.now,
            until,
            by: "alice".to_owned(),
            reason: "INC-4711".to_owned(),
        });
        brakes::save(&self.reader().agent_state(), &brakes).expect("saved");
    }

    /// Our own state and everything else, as bytes.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut todo = vec![self.at("root")];
        while let Some(directory) = todo.pop() {
            for entry in fs::read_dir(directory).expect("readable") {
                let path = entry.expect("readable").path();
                if path.is_dir() { todo.push(path) } else { found.push((path.clone(), fs::read(path).expect("read"))) }
            }
        }
        found.sort();
        found
    }
}

fn line<'r>(report: &'r Report, id: &str) -> Option<&'r trueup::report::Line> {
    report.steps.iter().find(|line| line.id.as_str() == id)
}

#[test]
fn a_pass_that_is_asked_to_end_has_failed_nowhere_and_what_it_did_is_done() {
    let scene = Scene::new();
    for name in ["a", "b", "c"] {
        scene.declare(&format!("/etc/{name}"), "one\n");
    }
    assert!(scene.pass().converged());
    for name in ["a", "b", "c"] {
        scene.declare(&format!("/etc/{name}"), "two\n");
    }
    // Asked to end when it comes to the second file, or before it looked at any.
    let interrupt = Arc::new(AtomicBool::new(false));
    let ends = |at: &'static str| {
        let (interrupt, ended) = (Arc::clone(&interrupt), Arc::clone(&interrupt));
        interrupt.store(false, Ordering::Relaxed);
        let progress = Progress::new(move |line| {
            let _ = ended.fetch_or(line == at, Ordering::Relaxed);
        });
        scene.run_with(|reader| reader.with_progress(progress).with_interrupt(interrupt))
    };
    let before = scene.everything();
    let report = ends("looking at the host");
    assert_eq!(
        (report.state, report.reason.as_deref(), report.counts.failed),
        (State::Pending, Some("interrupted"), 0)
    );
    assert_eq!(scene.everything(), before);

    let report = ends("/etc/b");
    assert_eq!(
        (report.state, report.reason.as_deref(), report.counts.failed),
        (State::Pending, Some("interrupted"), 0)
    );
    let outcome = |id| line(&report, id).map(|line| line.outcome);
    assert_eq!((outcome("file:/etc/a"), outcome("file:/etc/c")), (Some("done"), Some("not-tried")), "{report:#?}");
    let report = scene.pass();
    assert!(report.converged());
    assert!(line(&report, "file:/etc/a").is_none() && line(&report, "file:/etc/c").is_some(), "{report:#?}");
}

#[test]
fn another_writer_is_contested_within_ten_minutes_and_neighbours_converge_on() {
    let mut scene = Scene::new();
    scene.declare("/etc/fought", "ours\n");
    scene.declare("/etc/neighbour", "0\n");
    assert_eq!(scene.pass().state, State::InSync);
    let mut corrected = Vec::new();
    for minute in 1..=30 {
        scene.now = START + minute * 60;
        scene.edit("/etc/fought", &format!("theirs {minute}\n"));
        scene.declare("/etc/neighbour", &format!("{minute}\n"));
        let report = scene.pass();
        assert_eq!(scene.read("/etc/neighbour"), Some(format!("{minute}\n")));
        if scene.read("/etc/fought").as_deref() == Some("ours\n") {
            corrected.push(minute);
            assert_eq!((report.state, report.reason.as_deref()), (State::InSync, None));
        } else {
            assert_eq!((report.state, report.reason.as_deref()), (State::Degraded, Some("contested")));
            let line = line(&report, "file:/etc/fought").expect("it is told");
            assert_eq!((line.outcome, line.reason.as_deref()), ("reported", Some("contested")));
            assert!(line.next.is_some_and(|next| next > scene.now) && line.attempts >= 5, "{line:?}");
        }
    }
    assert_eq!(corrected, [1, 2, 3, 4, 5, 15], "five times, and a try after ten minutes; the next after twenty");

    scene.retry = true;
    assert_eq!(scene.pass().state, State::InSync, "root wants it tried");
    assert_eq!(scene.read("/etc/fought").as_deref(), Some("ours\n"));
}

#[test]
fn a_contest_ends_when_the_other_writer_does() {
    let mut scene = Scene::new();
    scene.declare("/etc/fought", "ours\n");
    scene.pass();
    for minute in 1..=6 {
        scene.now += 60;
        scene.edit("/etc/fought", &format!("theirs {minute}\n"));
        scene.pass();
    }
    assert_eq!(scene.read("/etc/fought").as_deref(), Some("theirs 6\n"));
    for _ in 0..60 {
        scene.now += 60;
        scene.pass();
    }
    assert_eq!(scene.read("/etc/fought").as_deref(), Some("ours\n"));
    scene.edit("/etc/fought", "theirs again\n");
    assert_eq!(scene.pass().state, State::InSync, "no longer contested");
    // Three days later nothing of it is kept.
    scene.now += 3 * 86_400;
    scene.pass();
    let met = brakes::load_experience(&scene.reader().state()).expect("whole").expect("there");
    assert_eq!(met.value, brakes::Experience::default());
}

#[test]
fn a_stranger_that_comes_back_is_contested_also_where_passes_in_between_find_nothing_and_forgotten_in_the_end() {
    let id = "file:/etc/app.d/theirs";
    let mut scene = Scene::new();
    scene.manifest("[files.\"/etc/app.d\"]\ntype = \"directory\"\nexclusive = true\n");
    scene.declare("/etc/app.d/ours", "ours\n");
    assert!(scene.pass().converged());
    let mut corrected = 0;
    for minute in 1..=9 {
        scene.now = START + minute * 60;
        scene.edit("/etc/app.d/theirs", "again\n");
        corrected += usize::from(line(&scene.pass(), id).is_some_and(|line| line.outcome == "done"));
        scene.now += 30;
        scene.pass();
    }
    assert_eq!(corrected, 5);
    assert_eq!(scene.pass().reason.as_deref(), Some("contested"));
    assert_eq!(scene.read("/etc/app.d/theirs").as_deref(), Some("again\n"));
    fs::remove_file(scene.at("root/etc/app.d/theirs")).expect("there");
    let is_known = |scene: &Scene| {
        let (ledger, _) = trueup::ledger::load(&scene.reader().state()).expect("whole");
        ledger.entries.keys().any(|known| known.as_str() == id)
    };
    assert!(is_known(&scene));
    for day in [3, 6, 9] {
        scene.now = START + day * 24 * 3600;
        assert!(scene.pass().converged());
    }
    assert!(!is_known(&scene));
}

#[test]
fn passes_that_are_killed_do_not_exceed_the_budget() {
    let mut scene = Scene::new();
    scene.declare("/etc/fought", "ours\n");
    scene.pass();
    let mut written = 0;
    for second in 1..=20 {
        scene.now = START + second;
        scene.edit("/etc/fought", &format!("theirs {second}\n"));
        // The last thing that a pass says is said after everything was written and before that is recorded.
        let crash = Progress::new(|line| {
            if line == "looking at what was done" {
                std::panic::resume_unwind(Box::new("crash"));
            }
        });
        drop(catch_unwind(AssertUnwindSafe(|| scene.run(crash))));
        written += usize::from(scene.read("/etc/fought").as_deref() == Some("ours\n"));
    }
    assert_eq!(written, 5);
}

#[test]
fn a_suspended_file_keeps_its_edit_while_a_commit_changes_its_neighbours_and_is_taken_back_at_expiry() {
    let mut scene = Scene::new();
    scene.declare("/etc/app/conf", "one\n");
    scene.declare("/etc/app/other", "one\n");
    scene.pass();
    scene.suspend(Some("file:/etc/app/conf"), START + 4 * 3600);
    scene.edit("/etc/app/conf", "by hand\n");
    scene.declare("/etc/app/conf", "two\n");
    scene.declare("/etc/app/other", "two\n");
    for hour in 0..4 {
        scene.now = START + hour * 3600;
        let report = scene.pass();
        assert_eq!((report.state, report.reason.as_deref()), (State::Suspended, Some("suspended")));
        assert!(!report.converged(), "not everything of the revision holds");
        let line = line(&report, "file:/etc/app/conf").expect("it is told");
        assert_eq!((line.outcome, line.next), ("reported", Some(START + 4 * 3600)));
        assert_eq!(line.message.as_deref(), Some("by alice: INC-4711"));
        assert_eq!(scene.read("/etc/app/conf").as_deref(), Some("by hand\n"));
        assert_eq!(scene.read("/etc/app/other").as_deref(), Some("two\n"));
    }
    scene.now = START + 4 * 3600;
    let report = scene.pass();
    assert_eq!(report.state, State::InSync, "{report:#?}");
    let line = line(&report, "file:/etc/app/conf").expect("it is put back");
    assert_eq!(line.cause, Some(trueup::model::Cause::Conflicting));
    assert!(line.kept.is_some(), "what was there is kept");
    assert_eq!(scene.read("/etc/app/conf").as_deref(), Some("two\n"));
}

#[test]
fn what_is_let_go_while_suspended_goes_at_expiry() {
    let mut scene = Scene::new();
    scene.declare("/etc/app/conf", "one\n");
    scene.declare("/etc/stays", "one\n");
    scene.pass();
    scene.suspend(Some("file:/etc/app/conf"), START + 3600);
    fs::remove_dir_all(scene.at("repo/hosts/web-01/files/etc/app")).expect("removed");
    assert_eq!(scene.pass().state, State::Suspended);
    assert_eq!(scene.read("/etc/app/conf").as_deref(), Some("one\n"));
    scene.now += 3600;
    assert_eq!(scene.pass().state, State::InSync);
    assert!(!scene.at("root/etc/app").exists());
}

#[test]
fn a_suspended_directory_that_was_moved_away_is_not_made_for_what_is_in_it() {
    let mut scene = Scene::new();
    scene.declare("/srv/app/x", "x\n");
    scene.manifest("[files.\"/srv/app\"]\ntype = \"directory\"\nmode = \"0700\"\n");
    assert_eq!(scene.pass().state, State::InSync);
    scene.suspend(Some("file:/srv/app"), START + 3600);
    fs::rename(scene.at("root/srv/app"), scene.at("root/srv/away")).expect("moved");
    for _ in 0..2 {
        let report = scene.pass();
        assert_eq!(report.state, State::Suspended, "{report:#?}");
        let told = line(&report, "file:/srv/app/x").expect("told");
        assert_eq!((told.outcome, told.reason.as_deref()), ("reported", Some("suspended")));
        assert!(!scene.at("root/srv/app").exists());
    }
    scene.now += 3600;
    assert_eq!(scene.pass().state, State::InSync);
    assert_eq!(scene.read("/srv/app/x").as_deref(), Some("x\n"));
}

#[test]
fn what_is_let_go_while_it_is_suspended_and_moved_aside_is_not_forgotten() {
    let mut scene = Scene::new();
    scene.edit("/etc/app.conf", "theirs\n");
    scene.declare("/etc/app.conf", "ours\n");
    scene.declare("/etc/stays", "one\n");
    assert_eq!(scene.pass().state, State::InSync);
    scene.suspend(Some("file:/etc/app.conf"), START + 3600);
    fs::remove_file(scene.at("repo/hosts/web-01/files/etc/app.conf")).expect("removed");
    let aside = || fs::rename(scene.at("root/etc/app.conf"), scene.at("root/etc/aside")).expect("moved");
    aside();
    let report = scene.pass();
    assert_eq!(report.state, State::Suspended, "{report:#?}");
    let told = line(&report, "file:/etc/app.conf").expect("told");
    assert_eq!((told.outcome, told.reason.as_deref()), ("reported", Some("suspended")));
    // Something is in the way now; a second pass has nothing new to write.
    std::os::unix::fs::symlink("aside", scene.at("root/etc/app.conf")).expect("linked");
    let before = scene.everything();
    assert_eq!(scene.pass().state, State::Suspended);
    assert_eq!(before, scene.everything());
    // Over, and as it was when it was suspended.
    fs::remove_file(scene.at("root/etc/app.conf")).expect("removed");
    fs::rename(scene.at("root/etc/aside"), scene.at("root/etc/app.conf")).expect("moved back");
    scene.now += 3600;
    assert_eq!(scene.pass().state, State::InSync);
    assert_eq!(scene.read("/etc/app.conf").as_deref(), Some("theirs\n"), "what stood there before us");
}

#[test]
fn what_restarts_a_suspended_unit_is_owed_until_it_is_over() {
    let mut scene = Scene::new();
    scene.declare("/etc/stays", "one\n");
    scene.pass();
    scene.suspend(Some("unit:systemd-resolved.service"), START + 3600);
    scene.declare("/etc/systemd/resolved.conf.d/x.conf", "[Resolve]\n");
    for _ in 0..2 {
        let report = scene.pass();
        assert_eq!((report.state, report.reason.as_deref()), (State::Suspended, Some("suspended")));
        assert!(!report.converged() && report.counts.failed == 0, "{report:#?}");
        let told: Vec<_> = report.activations.iter().map(|line| (line.outcome, line.message.as_deref())).collect();
        assert_eq!(told, [("owed", Some("suspended: by alice: INC-4711"))]);
        assert!(scene.read("/etc/systemd/resolved.conf.d/x.conf").is_some(), "the file is not held");
    }
    let before = scene.everything();
    scene.pass();
    assert_eq!(before, scene.everything());
    scene.now += 3600;
    let report = scene.pass();
    assert_eq!(report.activations.iter().map(|line| line.outcome).collect::<Vec<_>>(), ["done"], "{report:#?}");
    assert_eq!(report.state, State::InSync);
}

#[test]
fn a_suspension_goes_with_what_is_declared_under_another_name() {
    let scene = Scene::new();
    scene.declare("/srv/app/x", "x\n");
    let mode = |path: &str, mode: &str| {
        scene.manifest(&format!("[files.\"{path}\"]\ntype = \"directory\"\nmode = \"{mode}\"\n"))
    };
    mode("/srv/app", "0755");
    assert_eq!(scene.pass().state, State::InSync);
    scene.suspend(Some("file:/srv/app/x"), START + 3600);
    scene.suspend(Some("file:/srv/app"), START + 3600);
    mode("/srv/data", "0700");
    scene.edit("/srv/app/x", "by hand\n");
    fs::rename(scene.at("root/srv/app"), scene.at("root/srv/data")).expect("moved");
    std::os::unix::fs::symlink("data", scene.at("root/srv/app")).expect("linked");
    fs::rename(scene.at("repo/hosts/web-01/files/srv/app"), scene.at("repo/hosts/web-01/files/srv/data"))
        .expect("renamed");
    for _ in 0..2 {
        let report = scene.pass();
        assert_eq!(report.state, State::Suspended, "{report:#?}");
        let told = line(&report, "file:/srv/data/x").expect("told");
        assert_eq!((told.outcome, told.reason.as_deref()), ("reported", Some("suspended")));
        assert_eq!(scene.read("/srv/data/x").as_deref(), Some("by hand\n"));
        let mode = fs::metadata(scene.at("root/srv/data")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "the directory itself");
    }
}

#[test]
fn a_suspended_host_is_looked_at_and_nothing_is_written() {
    let mut scene = Scene::new();
    scene.declare("/etc/a", "one\n");
    scene.pass();
    scene.suspend(None, START + 60);
    scene.declare("/etc/a", "two\n");
    scene.declare("/etc/b", "one\n");
    let before = scene.everything();
    let report = scene.pass();
    assert_eq!((report.state, report.reason.as_deref()), (State::Suspended, Some("suspended")));
    let message = report.message.expect("who and why");
    assert_eq!(message, "the whole host until 2027-01-15 08:01 UTC by alice: INC-4711");
    assert_eq!(report.counts.changes, 2, "the plan is told");
    assert_eq!(before, scene.everything());
    scene.now += 60;
    assert_eq!(scene.pass().state, State::InSync);
    assert_eq!(scene.read("/etc/b").as_deref(), Some("one\n"));
}

#[test]
fn what_failed_waits_longer_each_time_and_no_longer_once_its_declaration_changes() {
    let mut scene = Scene::new();
    scene.declare("/etc/fine", "fine\n");
    let owner = |name: &str| format!("[files.\"/srv/app\"]\ntype = \"directory\"\nowner = \"{name}\"\n");
    scene.manifest(&owner("nobody-knows"));
    let first = scene.pass();
    assert_eq!(first.reason.as_deref(), Some("unknown-owner"));
    assert_eq!(line(&first, "file:/srv/app").expect("told").attempts, 0, "it was tried just now");
    let mut tried = Vec::new();
    for second in (0..3600).step_by(10) {
        scene.now = START + second;
        let before = scene.everything();
        let report = scene.pass();
        assert_eq!((report.state, report.reason.as_deref()), (State::Degraded, Some("unknown-owner")));
        let told = line(&report, "file:/srv/app").expect("told");
        if told.action == "wait" {
            assert_eq!((told.outcome, told.reason.as_deref()), ("failed", Some("unknown-owner")));
            assert_eq!(usize::try_from(told.attempts).expect("few"), tried.len() + 1);
            assert!(told.next.is_some_and(|next| next > scene.now));
            assert_eq!(before, scene.everything(), "waiting writes nothing");
        } else {
            tried.push(second);
        }
    }
    scene.declare("/srv/app/conf", "conf\n");
    let report = scene.pass();
    let skipped = line(&report, "file:/srv/app/conf").expect("told");
    assert_eq!((skipped.outcome, skipped.message.as_deref()), ("skipped", Some("because file:/srv/app")));
    assert_eq!(tried.len(), 5, "after 1, 3, 7, 15 and 31 minutes, and a little: {tried:?}");
    scene.manifest(&owner("root"));
    let report = scene.pass();
    assert_ne!(line(&report, "file:/srv/app").map(|line| line.action), Some("wait"), "{report:#?}");
}

#[test]
fn retry_and_success_end_the_waiting() {
    let mut scene = Scene::new();
    scene.declare("/etc/mine", "mine\n");
    scene.manifest("[files.\"/etc/mine\"]\nowner = \"later\"\n");
    scene.pass();
    scene.now += 1;
    let report = scene.pass();
    assert_eq!(line(&report, "file:/etc/mine").map(|line| line.action), Some("wait"));
    scene.retry = true;
    let report = scene.pass();
    assert_eq!(line(&report, "file:/etc/mine").map(|line| line.action), Some("create"), "tried at once");
    scene.retry = false;
    let user = rustix::process::getuid().as_raw();
    scene.edit("/etc/passwd", &format!("root:x:0:0::/:/bin/sh\nlater:x:{user}:0::/:/bin/sh\n"));
    let report = scene.pass();
    assert_eq!(line(&report, "file:/etc/mine").map(|line| line.action), Some("wait"), "nobody told us");
    scene.now += 75;
    let report = scene.pass();
    assert_eq!(report.state, State::InSync, "{report:#?}");
    let met = brakes::load_experience(&scene.reader().state()).expect("whole").expect("there");
    assert_eq!(met.value, brakes::Experience::default(), "the entry went");
}

#[test]
fn nothing_is_changed_where_it_cannot_be_told_what_is_suspended() {
    let scene = Scene::new();
    scene.declare("/etc/a", "one\n");
    scene.pass();
    scene.put("root/var/lib/trueup/agent/brakes", "half");
    scene.edit("/etc/a", "by hand\n");
    let before = scene.everything();
    let report = scene.pass();
    assert_eq!((report.state, report.reason.as_deref()), (State::Stalled, Some("state-damaged")));
    assert_eq!(before, scene.everything());
}

#[test]
fn what_passes_met_may_be_lost_and_is_only_a_note() {
    let scene = Scene::new();
    scene.declare("/etc/a", "one\n");
    scene.pass();
    scene.put("root/var/lib/trueup/experience", "half");
    let report = scene.pass();
    assert_eq!(report.state, State::InSync);
    assert!(report.notes.iter().any(|note| note.contains("forgotten")), "{:?}", report.notes);
    assert!(scene.pass().notes.is_empty(), "it was written afresh");
    assert_eq!(brakes::load(&scene.reader().agent_state()).expect("none").value, Brakes::default());
}
