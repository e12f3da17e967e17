//! Golden cases: data only, below `tests/cases/`. A case is a `repo/` and what is expected of it; it may have
//! a `host/` to start from, a `before/` repository that is applied first, a `drift/` laid over the host after
//! that, and a `then/` repository that is applied after the drift; then `brakes.json` and `experience.json` are put
//! into trueup's own state. Over every case, without code per case, the four properties of the house hold.
//!
//! `TRUEUP_BLESS=1` writes what is found as what is expected: read the difference before it is committed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use trueup::brakes::{self, Brakes, Experience};
use trueup::config;
use trueup::host::{Clock, Progress, Reader, Writer};
use trueup::ledger::Ledger;
use trueup::reconcile::{self, Ask};
use trueup::report::journal::{self, Told};
use trueup::report::{Palette, Report, State, plan_text, result_text};

/// Every case starts at this time.
pub const NOW: i64 = 1_800_000_000;

/// A case, laid out in a scratch directory.
struct Scene {
    _scratch: tempfile::TempDir,
    case: PathBuf,
    root: PathBuf,
    repo: PathBuf,
}

impl Scene {
    fn new(case: &Path) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let (root, repo) = (scratch.path().join("root"), scratch.path().join("repo"));
        fs::create_dir(&root).expect("made");
        let scene = Self { _scratch: scratch, case: case.to_owned(), root, repo };
        if case.join("host").exists() {
            scene.lay_over("host");
        }
        if case.join("before").exists() {
            scene.use_repo("before");
            let report = scene.pass(Progress::default());
            assert!(report.converged(), "{}: before/ does not converge: {report:#?}", case.display());
            if case.join("drift").exists() {
                scene.lay_over("drift");
            }
            if let Ok(gone) = fs::read_to_string(case.join("drift.removed")) {
                for path in gone.lines() {
                    fs::remove_file(scene.root.join(path.trim_start_matches('/'))).expect("was there");
                }
            }
            if case.join("then").exists() {
                scene.use_repo("then");
                let report = scene.pass(Progress::default());
                assert!(report.converged(), "{}: then/ does not converge: {report:#?}", case.display());
            }
        }
        scene.brake();
        scene.use_repo("repo");
        scene
    }

    /// What people asked for and what passes met, as data; the documents have a checksum of their own.
    fn brake(&self) {
        let read = |name: &str| fs::read(self.case.join(name)).ok();
        if let Some(text) = read("brakes.json") {
            let brakes: Brakes = serde_json::from_slice(&text).expect("brakes");
            brakes::save(&self.reader().agent_state(), &brakes).expect("saved");
        }
        if let Some(text) = read("experience.json") {
            let experience: Experience = serde_json::from_slice(&text).expect("an experience");
            brakes::save_experience(&self.reader().state(), &experience).expect("saved");
        }
    }

    /// Git keeps no empty directories, so those of a host hold a `.gitkeep`.
    fn lay_over(&self, name: &str) {
        copy(&self.case.join(name), &self.root);
        for (path, _) in walk(&self.root) {
            if path.ends_with("/.gitkeep") {
                fs::remove_file(self.root.join(path.trim_start_matches('/'))).expect("removed");
            }
        }
    }

    /// Outside of any Git repository, so that it is read as it stands.
    fn use_repo(&self, name: &str) {
        if self.repo.exists() {
            fs::remove_dir_all(&self.repo).expect("removed");
        }
        fs::create_dir(&self.repo).expect("made");
        copy(&self.case.join(name), &self.repo);
    }

    fn ask(&self, command: &'static str) -> Ask {
        let mut settings = config::settings(&[]).expect("no settings are valid settings");
        settings.host.name = Some("web-01".to_owned());
        settings.policy.setid = self.case.join("setid").exists();
        Ask {
            local: Some(self.repo.clone()),
            pass: String::new(),
            ..Ask::new(command, settings, &self.reader(), PathBuf::from(env!("CARGO_BIN_EXE_trueup")))
        }
    }

    /// The text without where the scene happens to be.
    fn anywhere(&self, text: &str) -> String {
        text.replace(self.repo.to_str().expect("text"), "/REPO")
    }

    fn reader(&self) -> Reader {
        Reader::directory(&self.root).expect("the root is there").with_clock(Clock::Fixed(NOW))
    }

    fn pass(&self, progress: Progress) -> Report {
        let mut host = Writer::take(self.reader().with_progress(progress)).expect("nobody else is here");
        reconcile::pass(&mut host, &self.ask("run"), |_, _| ())
    }

    fn plan(&self) -> Report {
        let mut report = Report::new("plan");
        match reconcile::look(&self.reader(), &self.ask("plan"), &mut report) {
            Ok(looked) => looked.report,
            Err(stop) => {
                report.stopped(&stop);
                report
            }
        }
    }

    /// What an operator would find: every path but our own state, with type, mode and content.
    fn tree(&self) -> String {
        let mut out = String::new();
        for (path, meta) in walk(&self.root) {
            if path.starts_with("/var/lib/trueup") {
                continue;
            }
            let full = self.root.join(path.trim_start_matches('/'));
            let mode = meta.mode() & 0o7777;
            if meta.is_symlink() {
                let target = fs::read_link(&full).expect("a link");
                let _ = writeln!(out, "link           {path} -> {}", target.display());
            } else if meta.is_dir() {
                let _ = writeln!(out, "directory {mode:04o} {path}");
            } else {
                let content = fs::read(&full).expect("a file");
                let content = String::from_utf8_lossy(&content);
                let _ = writeln!(out, "file      {mode:04o} {path} {content:?}");
            }
        }
        out
    }

    /// What is ours, and what stood there before: all of the ledger but the copies, which a crash may double.
    fn owned(&self) -> Ledger {
        let (ledger, recovered) = trueup::ledger::load(&self.reader().state()).expect("it is whole");
        assert!(!recovered);
        Ledger { kept: Vec::new(), ..ledger }
    }

    /// Every path with all that a write would change.
    fn stamps(&self) -> BTreeMap<String, (u64, i64, i64, i64, i64, u32)> {
        walk(&self.root)
            .into_iter()
            .map(|(path, meta)| {
                (path, (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec(), meta.mode()))
            })
            .collect()
    }
}

pub fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<PathBuf> = fs::read_dir(directory)
        .expect("cases")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.join("repo").exists())
        .collect();
    cases.sort();
    assert!(cases.len() >= 10, "only {} cases are found", cases.len());
    cases
}

pub fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().expect("readable");
        if kind.is_dir() {
            if !target.exists() {
                fs::create_dir(&target).expect("made");
                fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).expect("set");
            }
            copy(&source, &target);
        } else if kind.is_symlink() {
            drop(fs::remove_file(&target));
            symlink(fs::read_link(&source).expect("a link"), &target).expect("made");
        } else {
            drop(fs::remove_file(&target));
            fs::copy(&source, &target).expect("copied");
            // Git keeps one bit of a mode; the rest must not depend on who cloned.
            let executable = entry.metadata().expect("readable").mode() & 0o100 != 0;
            fs::set_permissions(&target, fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))
                .expect("set");
        }
    }
}

pub fn walk(root: &Path) -> Vec<(String, fs::Metadata)> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).expect("readable") {
            let path = entry.expect("readable").path();
            let meta = fs::symlink_metadata(&path).expect("there");
            if meta.is_dir() {
                todo.push(path.clone());
            }
            let name = path.strip_prefix(root).expect("below").to_str().expect("text");
            found.push((format!("/{name}"), meta));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn expect(case: &Path, name: &str, found: &str) {
    let path = case.join("expect").join(name);
    if std::env::var_os("TRUEUP_BLESS").is_some() {
        fs::create_dir_all(case.join("expect")).expect("made");
        fs::write(&path, found).expect("written");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == found,
        "{} differs:\n{}",
        path.display(),
        similar::TextDiff::from_lines(&expected, found).unified_diff().header("expected", "found")
    );
}

/// Whether there is nothing to do until something changes, or what holds it back ends.
fn lasts(report: &Report) -> bool {
    let rests = |outcome: &str| ["done", "reported"].contains(&outcome);
    report.converged() || (report.state < State::Stalled && report.steps.iter().all(|line| rests(line.outcome)))
}

#[test]
fn every_case_plans_and_converges_as_expected() {
    for case in cases() {
        let scene = Scene::new(&case);
        let report = scene.plan();
        let mut text = report.problems.clone();
        text.push_str(&plan_text(&report, NOW, Palette::default()));
        text.push_str(&result_text(&report, Palette::default()));
        expect(&case, "plan.txt", &scene.anywhere(&text));
        let report = scene.pass(Progress::default());
        expect(&case, "tree.txt", &scene.tree());
        let mut json = serde_json::to_string_pretty(&report).expect("it serializes");
        json.push('\n');
        expect(&case, "report.json", &scene.anywhere(&json));
    }
}

#[test]
fn every_case_tells_the_journal_once() {
    for case in cases() {
        let scene = Scene::new(&case);
        let mut told = Told::default();
        let entries = journal::entries(&mut told, &scene.pass(Progress::default()), NOW);
        crate::journal::sound(&entries);
        expect(&case, "journal.txt", &scene.anywhere(&crate::journal::rendered(&entries)));
        let again = journal::entries(&mut told, &scene.pass(Progress::default()), NOW + 60);
        assert_eq!(again, [], "{}: the second pass says something", case.display());
    }
}

#[test]
fn a_plan_writes_nothing() {
    for case in cases() {
        let scene = Scene::new(&case);
        let before = scene.stamps();
        scene.plan();
        assert_eq!(before, scene.stamps(), "{}", case.display());
    }
}

#[test]
fn plan_and_run_say_the_same_word_for_word() {
    for case in cases() {
        let scene = Scene::new(&case);
        let planned = plan_text(&scene.plan(), NOW, Palette::default());
        let mut shown = String::new();
        let mut host = Writer::take(scene.reader()).expect("nobody else is here");
        let report = reconcile::pass(&mut host, &scene.ask("run"), |report, _| {
            shown = plan_text(report, NOW, Palette::default());
        });
        if report.state != State::Stalled {
            assert_eq!(planned, shown, "{}", case.display());
        }
    }
}

#[test]
fn applying_twice_changes_nothing_the_second_time() {
    for case in cases() {
        let scene = Scene::new(&case);
        let first = scene.pass(Progress::default());
        let before = scene.stamps();
        let second = scene.pass(Progress::default());
        // What failed is tried again.
        if lasts(&first) {
            assert_eq!(before, scene.stamps(), "{}: the second pass wrote", case.display());
            let acted: Vec<_> = second.steps.iter().filter(|line| line.outcome == "done").collect();
            assert!(acted.is_empty() && second.refreshes.is_empty(), "{}: {acted:#?}", case.display());
        }
    }
}

#[test]
fn a_crash_after_any_step_and_another_pass_end_in_the_same_tree() {
    let mut crashes = 0;
    for case in cases() {
        let calm = Scene::new(&case);
        calm.pass(Progress::default());
        let (expected, owned) = (calm.tree(), calm.owned());
        for point in 1.. {
            let scene = Scene::new(&case);
            let count = Rc::new(Cell::new(0));
            let crash = Progress::new({
                let count = Rc::clone(&count);
                move |_| {
                    count.set(count.get() + 1);
                    // Unwinding writes nothing, as a killed process writes nothing.
                    if count.get() == point {
                        std::panic::resume_unwind(Box::new("crash"));
                    }
                }
            });
            if catch_unwind(AssertUnwindSafe(|| scene.pass(crash))).is_ok() {
                break;
            }
            crashes += 1;
            let report = scene.pass(Progress::default());
            assert_eq!(expected, scene.tree(), "{}: crashed at {point}", case.display());
            assert_eq!(owned, scene.owned(), "{}: crashed at {point}", case.display());
            let before = scene.stamps();
            scene.pass(Progress::default());
            if lasts(&report) {
                assert_eq!(before, scene.stamps(), "{}: crashed at {point}, not settled after", case.display());
            }
        }
    }
    assert!(crashes > 50, "only {crashes} crashes");
}

#[test]
fn an_end_that_is_asked_for_at_any_moment_is_no_failure_and_another_pass_ends_in_the_same_tree() {
    let failed = |report: &Report| {
        let failed = report.steps.iter().filter(|line| line.outcome == "failed");
        failed.map(|line| (line.id.to_string(), line.reason.clone())).collect::<Vec<_>>()
    };
    let mut ends = 0;
    for case in cases() {
        let calm = Scene::new(&case);
        let whole = failed(&calm.pass(Progress::default()));
        let (expected, owned) = (calm.tree(), calm.owned());
        for point in 1.. {
            let scene = Scene::new(&case);
            let (end, count) = (Arc::new(AtomicBool::new(false)), Cell::new(0));
            let ask_for_it = Progress::new({
                let end = Arc::clone(&end);
                move |_| {
                    count.set(count.get() + 1);
                    end.store(count.get() >= point, Ordering::SeqCst);
                }
            });
            let reader = scene.reader().with_progress(ask_for_it).with_interrupt(Arc::clone(&end));
            let mut host = Writer::take(reader).expect("nobody else is here");
            let report = reconcile::pass(&mut host, &scene.ask("run"), |_, _| ());
            drop(host);
            if !end.load(Ordering::SeqCst) {
                break;
            }
            ends += 1;
            for one in failed(&report) {
                assert!(whole.contains(&one), "{}: ended at {point}: {one:?}", case.display());
            }
            scene.pass(Progress::default());
            assert_eq!(expected, scene.tree(), "{}: ended at {point}", case.display());
            assert_eq!(owned, scene.owned(), "{}: ended at {point}", case.display());
        }
    }
    assert!(ends > 50, "only {ends} ends");
}

#[test]
fn nothing_but_what_is_declared_or_owned_is_touched() {
    for case in cases() {
        let scene = Scene::new(&case);
        let strangers =
            [("/etc/stranger.conf", "mine"), ("/srv/stranger", "mine"), ("/usr/local/bin/stranger", "mine")];
        for (path, content) in strangers {
            let path = scene.root.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("below the root")).expect("made");
            fs::write(path, content).expect("written");
        }
        let before = scene.stamps();
        let report = scene.pass(Progress::default());
        let after = scene.stamps();
        let ours = |path: &str| {
            path.starts_with("/var/lib/trueup")
                || report
                    .steps
                    .iter()
                    .any(|line| line.id.name() == path || line.id.name().starts_with(&format!("{path}/")))
                || path.contains("/etc/systemd/system")
                || before.keys().any(|inside| inside.starts_with(&format!("{path}/")))
        };
        for (path, stamp) in &before {
            if !ours(path) {
                assert_eq!(after.get(path), Some(stamp), "{}: {path} was touched", case.display());
            }
        }
        for (path, content) in strangers {
            let path = scene.root.join(path.trim_start_matches('/'));
            assert_eq!(fs::read_to_string(path).expect("still there"), content, "{}", case.display());
        }
    }
}
