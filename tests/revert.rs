//! `git revert` and a pass bring back what was there before, whatever was applied: the same paths, types, bytes, owners
//! and modes. Over every golden case, without code per case; units and packages have their own test on a real host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use trueup::brakes::{self, Brakes, Experience};
use trueup::config;
use trueup::host::{Clock, Reader, Writer};
use trueup::plan::Leave;
use trueup::reconcile::{self, Ask};
use trueup::report::Report;

use super::golden::{NOW, cases, copy, walk};
use super::sample::sample;
use super::scratch::put;
use super::source::{git, trueup};

/// How many pairs of cases there are where nobody asked for all of them.
const PAIRS: usize = 24;

/// Where the cases are.
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");

/// What somebody can see at a path: type, mode, owner, group, and content or target.
type Node = (char, u32, u32, u32, Vec<u8>);
type Tree = BTreeMap<String, Node>;

/// A fleet repository under Git, and a directory that stands for the host.
struct Scene {
    scratch: tempfile::TempDir,
    setid: bool,
}

impl Scene {
    /// The host as `case` begins, with an account, and with files that are nobody's business.
    fn new(case: &Path) -> Self {
        let scene = Self { scratch: tempfile::tempdir().expect("a scratch directory"), setid: false };
        for name in ["repo", "root"] {
            fs::create_dir(scene.at(name)).expect("made");
        }
        git(&scene.at("repo"), &["init", "--quiet"]);
        if case.join("host").exists() {
            scene.lay_over(&case.join("host"));
        }
        scene.put("root/etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1234:1234::/:/bin/sh\n");
        scene.put("root/etc/group", "root:x:0:\napp:x:1234:\n");
        for stranger in ["etc/stranger.conf", "srv/stranger", "usr/local/bin/stranger", "etc/deep/er/stranger"] {
            scene.put(&format!("root/{stranger}"), "theirs\n");
        }
        symlink("stranger.conf", scene.at("root/etc/stranger.link")).expect("made");
        // No two of them are as trueup would make them.
        for (n, (path, meta)) in (0..).zip(walk(&scene.at("root"))) {
            let path = scene.at("root").join(path.trim_start_matches('/'));
            if !meta.is_symlink() {
                let mode = if meta.is_dir() { 0o711 } else { 0o600 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode + n % 7)).expect("set");
            }
            if meta.is_file() && meta.uid() == 0 {
                chown(&path, Some(1234), Some(2000 + n)).expect("given away");
            }
        }
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn put(&self, path: &str, content: &str) {
        put(&self.at(path), content);
    }

    fn lay_over(&self, from: &Path) {
        copy(from, &self.at("root"));
        for (path, _) in walk(&self.at("root")).into_iter().filter(|(path, _)| path.ends_with("/.gitkeep")) {
            fs::remove_file(self.at("root").join(path.trim_start_matches('/'))).expect("removed");
        }
    }

    /// The repository is as `from` has it, and declares one thing that all have: what lets go of everything is refused.
    /// None where it is so already.
    fn commit(&self, from: Option<&Path>) -> Option<String> {
        let repo = self.at("repo");
        for entry in fs::read_dir(&repo).expect("readable").map(|entry| entry.expect("readable").path()) {
            if entry.is_dir() && !entry.ends_with(".git") {
                fs::remove_dir_all(entry).expect("removed");
            }
        }
        self.put("repo/trueup.toml", "format = 1\n");
        if let Some(from) = from {
            copy(from, &repo);
        }
        if from.is_none_or(|from| from.join("hosts/web-01").exists()) {
            self.put("repo/hosts/web-01/files/etc/anchor", "ours\n");
        }
        git(&repo, &["add", "--all"]);
        if git(&repo, &["status", "--porcelain"]).is_empty() {
            return None;
        }
        git(&repo, &["commit", "--quiet", "--message", "as it is"]);
        Some(git(&repo, &["rev-parse", "HEAD"]))
    }

    fn revert(&self, commit: &str) {
        git(&self.at("repo"), &["revert", "--no-edit", commit]);
    }

    fn reader(&self, now: i64) -> Reader {
        Reader::directory(&self.at("root")).expect("opens").with_clock(Clock::Fixed(now))
    }

    fn pass(&self, now: i64) -> Report {
        let host = self.reader(now);
        let mut settings = config::settings(&[]).expect("no settings are valid settings");
        settings.host.name = Some("web-01".to_owned());
        settings.policy.setid = self.setid;
        let ask = Ask {
            local: Some(self.at("repo")),
            // The guard counts; it has tests of its own.
            leave: Leave::Named(Some(1000)),
            ..Ask::new("run", settings, &host, trueup().to_owned())
        };
        reconcile::pass(&mut Writer::take(host).expect("nobody else is here"), &ask, |_, _| ())
    }

    fn tree(&self) -> Tree {
        let seen = |(path, meta): (String, fs::Metadata)| {
            let full = self.at("root").join(path.trim_start_matches('/'));
            let (kind, content) = if meta.is_symlink() {
                ('l', fs::read_link(full).expect("a link").into_os_string().into_encoded_bytes())
            } else if meta.is_dir() {
                ('d', Vec::new())
            } else {
                ('f', fs::read(full).expect("readable"))
            };
            (path, (kind, meta.mode() & 0o7777, meta.uid(), meta.gid(), content))
        };
        let own = |path: &str| path == "/var/lib/trueup" || path.starts_with("/var/lib/trueup/");
        // That they are there is our own state's doing too.
        let shared = |path: &str| path == "/var" || path == "/var/lib";
        walk(&self.at("root")).into_iter().filter(|(path, _)| !own(path) && !shared(path)).map(seen).collect()
    }
}

/// How `now` differs from `then`, but for what is at `but`.
fn differences(then: &Tree, now: &Tree, but: &BTreeSet<String>) -> Vec<String> {
    let paths: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let differs = |path: &&String| then.get(*path) != now.get(*path) && !but.contains(*path);
    let told = |path: &String| format!("{path}: was {:?}, is {:?}", then.get(path), now.get(path));
    paths.into_iter().filter(differs).map(told).collect()
}

/// The repositories of a case, in the order in which they are applied.
fn repositories(case: &Path) -> Vec<PathBuf> {
    ["before", "then", "repo"].map(|name| case.join(name)).into_iter().filter(|from| from.exists()).collect()
}

/// Whether a manifest of this repository says so.
fn says(repository: &Path, what: &str) -> bool {
    let read = |(path, meta): (String, fs::Metadata)| {
        let path = repository.join(path.trim_start_matches('/'));
        meta.is_file() && fs::read_to_string(path).is_ok_and(|text| text.contains(what))
    };
    walk(repository).into_iter().any(read)
}

/// What came of a way there and back.
#[derive(Default)]
struct Came {
    reverts: usize,
    wrong: Vec<String>,
}

impl Came {
    fn is_right(&self, least: usize) {
        println!("{} reverts", self.reverts);
        assert!(self.wrong.is_empty(), "{} are wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
        assert!(self.reverts >= least, "only {} reverts", self.reverts);
    }
}

/// Applies `repositories` one after another, and then goes back by the way it came; nothing but what `but` says may be
/// different. What happens before the last of them is `meanwhile`.
fn there_and_back(
    scene: &Scene,
    repositories: &[PathBuf],
    meanwhile: impl Fn(&Scene),
    but: &BTreeSet<String>,
    came: &mut Came,
) {
    let mut what = String::new();
    let untouched = scene.tree();
    scene.commit(None);
    assert!(scene.pass(NOW).converged());
    let mut stations = vec![(scene.tree(), true)];
    let mut still = vec![false];
    let anchor = BTreeSet::from(["/etc/anchor".to_owned()]);
    assert_eq!(differences(&untouched, &stations[0].0, &anchor), Vec::<String>::new(), "nothing is declared");
    let mut commits = Vec::new();
    for (n, repository) in repositories.iter().enumerate() {
        if n + 1 == repositories.len() {
            meanwhile(scene);
        }
        let Some(commit) = scene.commit(Some(repository)) else { continue };
        commits.push((commit, says(repository, "release = \"leave\"")));
        let report = scene.pass(NOW);
        stations.push((scene.tree(), report.converged()));
        still.push(says(repository, "update = \"observe\"") || !repository.join("hosts/web-01").exists());
        what = format!("{what} {}", repository.strip_prefix(CASES).expect("a case").display());
    }
    // What was suspended, contested or waiting is so no longer.
    let mut now = NOW;
    for (n, (commit, leaves)) in commits.iter().enumerate().rev() {
        now += 2 * 24 * 3600;
        scene.revert(commit);
        let report = scene.pass(now);
        // What it was to leave stays, and where nothing is to be changed on this host nothing goes back.
        if *leaves {
            return;
        }
        if still[n] {
            continue;
        }
        came.reverts += 1;
        let (then, converged) = &stations[n];
        let differ = differences(then, &scene.tree(), but);
        if !differ.is_empty() {
            came.wrong.push(format!("{what}: back to {n}: {}", differ.join("\n  ")));
        } else if *converged && !report.converged() {
            came.wrong.push(format!("{what}: back to {n}: {report:#?}"));
        }
    }
}

#[test]
fn a_revert_of_any_case_brings_back_what_was_there_before() {
    let mut came = Came::default();
    for case in cases() {
        let scene = Scene { setid: case.join("setid").exists(), ..Scene::new(&case) };
        there_and_back(&scene, &repositories(&case), |_| (), &BTreeSet::new(), &mut came);
    }
    came.is_right(40);
}

#[test]
fn a_revert_brings_back_what_was_there_before_though_there_was_drift_and_something_was_held_back() {
    let mut came = Came::default();
    for case in cases() {
        let names = ["drift", "drift.removed", "brakes.json", "experience.json"];
        if !names.iter().any(|name| case.join(name).exists()) {
            continue;
        }
        let scene = Scene { setid: case.join("setid").exists(), ..Scene::new(&case) };
        let gone = fs::read_to_string(case.join("drift.removed")).unwrap_or_default();
        // What becomes of drift is what the case is about.
        let mut drifted: BTreeSet<String> = gone.lines().map(str::to_owned).collect();
        if case.join("drift").exists() {
            // A directory stays for what is in it.
            drifted.extend(walk(&case.join("drift")).into_iter().map(|(path, _)| path));
        }
        let meanwhile = |scene: &Scene| {
            if case.join("drift").exists() {
                scene.lay_over(&case.join("drift"));
            }
            for path in gone.lines() {
                fs::remove_file(scene.at("root").join(path.trim_start_matches('/'))).expect("was there");
            }
            if let Ok(text) = fs::read(case.join("brakes.json")) {
                let brakes: Brakes = serde_json::from_slice(&text).expect("brakes");
                brakes::save(&scene.reader(NOW).agent_state(), &brakes).expect("saved");
            }
            if let Ok(text) = fs::read(case.join("experience.json")) {
                let experience: Experience = serde_json::from_slice(&text).expect("an experience");
                brakes::save_experience(&scene.reader(NOW).state(), &experience).expect("saved");
            }
        };
        there_and_back(&scene, &repositories(&case), meanwhile, &drifted, &mut came);
    }
    came.is_right(20);
}

#[test]
fn a_revert_from_one_case_to_another_brings_that_one_back() {
    let all = cases();
    let pairs: Vec<(&PathBuf, &PathBuf)> = all
        .iter()
        .flat_map(|one| all.iter().filter(move |other| *other != one).map(move |other| (one, other)))
        .collect();
    let mut came = Came::default();
    for (one, other) in sample(pairs, PAIRS) {
        let scene = Scene { setid: true, ..Scene::new(one) };
        there_and_back(&scene, &[one.join("repo"), other.join("repo")], |_| (), &BTreeSet::new(), &mut came);
    }
    came.is_right(PAIRS);
}
