//! Which revision a pass acts on under `update = "hold"`, and after root went back, on a directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use trueup::brakes::{self, Brakes, Choice};
use trueup::host::StateDir;
use trueup::model::Digest;
use trueup::source::BranchRecord;

use super::scratch::put;

/// A fleet repository with one host, and the directory that stands for that host.
struct Scene {
    scratch: tempfile::TempDir,
}

impl Scene {
    fn new(settings: &str) -> Self {
        let scene = Self { scratch: tempfile::tempdir().expect("a scratch directory") };
        scene.put("repo/trueup.toml", "format = 1\n");
        scene.settings(settings);
        scene.git(&["init", "--quiet", "--initial-branch=main"]);
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn put(&self, path: &str, content: &str) {
        put(&self.at(path), content);
    }

    fn settings(&self, settings: &str) {
        self.put("root/etc/trueup/agent.toml", settings);
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

    /// Commits files that say `text`, and gives the commit.
    fn say(&self, text: &str) -> String {
        for name in ["one", "two"] {
            self.put(&format!("repo/hosts/web-01/files/etc/{name}"), text);
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", text]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// What people asked for on this host.
    fn brakes(&self, approved: Option<&str>, rolled_back: Option<&str>) {
        let choice = |id: &str| Choice { commit: id.parse().expect("an id"), by: "alice".to_owned(), at: 1 };
        let asked =
            Brakes { approved: approved.map(choice), rolled_back: rolled_back.map(choice), ..Brakes::default() };
        brakes::save(&StateDir::new(self.at("root/var/lib/trueup/agent")), &asked).expect("saved");
    }

    /// The record is as a version wrote it that knew nothing of what revisions say of later ones.
    fn forget_what_was_said(&self) {
        let path = self.at("root/var/lib/trueup/record");
        let mut document: Value = serde_json::from_slice(&fs::read(&path).expect("there")).expect("JSON");
        let mut branches: BTreeMap<String, BranchRecord> =
            serde_json::from_value(document["branches"].clone()).expect("branches");
        for branch in branches.values_mut() {
            branch.update.take().expect("it was remembered");
        }
        document["sha256"] = Digest::of(&serde_json::to_vec(&branches).expect("JSON")).to_string().into();
        document["branches"] = serde_json::to_value(&branches).expect("JSON");
        fs::write(path, serde_json::to_vec_pretty(&document).expect("JSON")).expect("written");
    }

    /// The source is there, or away.
    fn reachable(&self, reachable: bool) {
        let (from, to) = if reachable { ("away", "repo") } else { ("repo", "away") };
        fs::rename(self.at(from), self.at(to)).expect("moved");
    }

    /// What the host has.
    fn has(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.at("root/etc").join(name)).unwrap_or_default();
        let (one, two) = (read("one"), read("two"));
        if one == two { one } else { format!("{one}, {two}") }
    }

    fn drift(&self) {
        self.put("root/etc/one", "by hand");
    }

    fn command(&self, program: &mut Command, verb: &str) -> (Option<i32>, Value) {
        let (root, repo) = (self.at("root"), self.at("repo"));
        let paths = [Path::new("--root"), &root, Path::new("--repo"), &repo];
        let retry: &[&str] = if verb == "run" { &["--retry"] } else { &[] };
        let output =
            program.args([verb, "--json", "--host", "web-01"]).args(retry).args(paths).stderr(Stdio::null()).output();
        let output = output.expect("it starts");
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// A pass. So many corrections in so short a time would be a contest, which is not what is shown here.
    fn run(&self) -> Value {
        self.command(&mut Command::new(env!("CARGO_BIN_EXE_trueup")), "run").1
    }

    fn plan(&self) -> Value {
        self.command(&mut Command::new(env!("CARGO_BIN_EXE_trueup")), "plan").1
    }

    /// A pass that is killed at the `n`th rename. Whether there was one.
    fn killed_at(&self, n: usize) -> bool {
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-f", "-o", "/dev/null", "-e", "trace=rename,renameat,renameat2", "-e"]);
        strace.arg(format!("inject=rename,renameat,renameat2:signal=KILL:when={n}"));
        self.command(strace.arg(env!("CARGO_BIN_EXE_trueup")), "run").0.is_none()
    }

    /// A pass that ends so: state, reason, what the host has then.
    #[track_caller]
    fn ends(&self, state: &str, reason: Option<&str>, has: &str) -> Value {
        let report = self.run();
        let found = (report["state"].as_str(), report["reason"].as_str(), self.has());
        assert_eq!(found, (Some(state), reason, has.to_owned()), "{report:#}");
        report
    }

    /// Drift is corrected, to what the host has.
    #[track_caller]
    fn stays(&self, state: &str, reason: Option<&str>) -> Value {
        let has = self.has();
        self.drift();
        self.ends(state, reason, &has)
    }
}

#[track_caller]
fn says(report: &Value, words: &[&str]) {
    let message = report["message"].as_str().unwrap_or_default();
    for word in words {
        assert!(message.contains(word), "{word:?} was to be said: {report:#}");
    }
}

const HOLD: &str = "[policy]\nupdate = \"hold\"\n";

#[test]
fn a_held_host_goes_to_what_is_approved_and_no_further_and_not_back() {
    let scene = Scene::new(HOLD);
    let first = scene.say("first");
    let second = scene.say("second");
    let report = scene.ends("pending", Some("held"), "");
    says(&report, &[&second[..7], "nothing is applied", "trueup approve"]);

    // Not the tip: that very commit, and drift is corrected to it.
    scene.brakes(Some(&first), None);
    let report = scene.ends("pending", Some("held"), "first");
    says(&report, &[&second[..7], &first[..7], "alice", "trueup approve"]);
    assert_eq!((&report["revision"]["seen"], &report["revision"]["applied"]), (&second.into(), &first.clone().into()));
    let third = scene.say("third");
    scene.stays("pending", Some("held"));
    scene.reachable(false);
    scene.stays("stalled", Some("cannot-read"));
    scene.reachable(true);

    // Whoever asks for the plan sees what approving the tip would do.
    let plan = scene.plan();
    assert!(plan["steps"][0]["diff"].to_string().contains("third"), "{plan:#}");
    assert!(plan["notes"].to_string().contains(&third[..7]), "{plan:#}");

    scene.brakes(Some(&third), None);
    let report = scene.ends("in-sync", None, "third");
    assert_eq!(report["revision"]["applied"], third.as_str());
    scene.stays("in-sync", None);

    // An approval of what is older than what was acted on: a host only goes forward.
    scene.brakes(Some(&first), None);
    scene.stays("in-sync", None);
    let fourth = scene.say("fourth");
    let report = scene.stays("pending", Some("held"));
    says(&report, &[&fourth[..7], &first[..7], &third[..7], "only goes forward", "trueup rollback"]);

    // An approval of what is not of this branch, or nowhere at all.
    scene.git(&["checkout", "--quiet", "-b", "side", &third]);
    let stranger = scene.say("stranger");
    scene.git(&["checkout", "--quiet", "main"]);
    scene.brakes(Some(&stranger), None);
    let report = scene.stays("stalled", Some("not-in-history"));
    says(&report, &[&stranger[..7], "trueup approve", &fourth[..7]]);
    scene.brakes(Some(&"0123456789".repeat(4)), None);
    scene.stays("stalled", Some("no-such-commit"));
    scene.brakes(Some(&fourth), None);
    scene.ends("in-sync", None, "fourth");
}

#[test]
fn a_host_that_is_switched_to_hold_keeps_to_what_it_has() {
    let scene = Scene::new("");
    let first = scene.say("first");
    scene.ends("in-sync", None, "first");
    scene.settings(HOLD);
    scene.stays("in-sync", None);
    let second = scene.say("second");
    let report = scene.stays("pending", Some("held"));
    says(&report, &[&first[..7], &second[..7], "trueup approve"]);
    scene.settings("");
    scene.ends("in-sync", None, "second");
}

#[test]
fn no_revision_takes_hold_off_for_itself() {
    let scene = Scene::new("");
    scene.say("first");
    scene.ends("in-sync", None, "first");
    // The one that is seen says so: it waits, and everything after it.
    policy(&scene, "hold");
    let held = scene.say("held");
    scene.ends("pending", Some("held"), "first");
    scene.brakes(Some(&held), None);
    scene.ends("in-sync", None, "held");
    // The one that the host has says so: a later one that does not has to be approved all the same.
    policy(&scene, "auto");
    let lifted = scene.say("lifted");
    let report = scene.stays("pending", Some("held"));
    says(&report, &[&lifted[..7]]);
    // agent.toml has its own word, whatever an approved revision says.
    scene.settings(HOLD);
    scene.brakes(Some(&lifted), None);
    scene.ends("in-sync", None, "lifted");
    scene.say("later");
    scene.ends("pending", Some("held"), "lifted");
    // Root approved a revision without hold, and took it off in agent.toml.
    scene.settings("");
    scene.ends("in-sync", None, "later");
    // An approved revision does not unlock one that says hold.
    policy(&scene, "hold");
    scene.say("held again");
    scene.ends("pending", Some("held"), "later");
    // One that cannot be compiled keeps nobody from an approved one.
    let approved = scene.git(&["rev-parse", "HEAD"]);
    scene.put("repo/hosts/web-01/host.toml", "nonsense = 1\n");
    scene.say("broken");
    scene.settings(HOLD);
    scene.brakes(Some(&approved), None);
    let report = scene.ends("pending", Some("held"), "held again");
    assert!(report["notes"].to_string().contains("nonsense"), "{report:#}");
    // Looking only is more cautious still, and needs nobody's leave.
    policy(&scene, "observe");
    scene.say("observe");
    scene.drift();
    let report = scene.run();
    assert_eq!(
        (report["state"].as_str(), scene.has().as_str()),
        (Some("pending"), "by hand, held again"),
        "{report:#}"
    );
}

/// The update word of the host's own directory.
fn policy(scene: &Scene, update: &str) {
    scene.put("repo/hosts/web-01/host.toml", &format!("[policy]\nupdate = \"{update}\"\n"));
}

/// What is applied by approval says hold, and a later commit, which does not, waits. The first commit, and that one.
fn lifting(scene: &Scene) -> (String, String) {
    policy(scene, "hold");
    let first = scene.say("first");
    scene.brakes(Some(&first), None);
    scene.ends("in-sync", None, "first");
    let held = scene.say("held");
    scene.brakes(Some(&held), None);
    scene.ends("in-sync", None, "held");
    policy(scene, "auto");
    scene.say("lifted");
    scene.ends("pending", Some("held"), "held");
    (first, held)
}

#[test]
fn damage_to_our_own_copy_takes_no_hold_off() {
    let flip = |scene: &Scene, name: &str| {
        let name = format!("root/var/lib/trueup/{name}");
        let mut stored = fs::read(scene.at(&name)).expect("it is there");
        let last = stored.len() - 1;
        stored[last] ^= 1;
        fs::write(scene.at(&name), stored).expect("damaged");
    };
    // The previous copy is whole, and neither is.
    for damaged in [&["revision"][..], &["revision", "revision.previous"]] {
        let scene = Scene::new("");
        lifting(&scene);
        damaged.iter().for_each(|name| flip(&scene, name));
        let report = scene.run();
        assert_eq!((report["reason"].as_str(), scene.has().as_str()), (Some("held"), "held"), "{report:#}");
    }
    // A record of a version that did not remember what holds: our own copy has it, and where that is lost it may be hold.
    for damaged in [&[][..], &["revision"], &["revision", "revision.previous"]] {
        let scene = Scene::new("");
        lifting(&scene);
        scene.forget_what_was_said();
        damaged.iter().for_each(|name| flip(&scene, name));
        let report = scene.run();
        assert_eq!((report["reason"].as_str(), scene.has().as_str()), (Some("held"), "held"), "{report:#}");
    }
}

#[test]
fn going_back_and_forth_takes_no_hold_off() {
    let scene = Scene::new("");
    policy(&scene, "auto");
    let free = scene.say("free");
    scene.ends("in-sync", None, "free");
    let (first, held) = lifting(&scene);
    // Neither one that says hold nor one that does not has a say in what follows.
    for back in [&first, &free] {
        scene.brakes(Some(&held), Some(back));
        scene.run();
        assert_ne!(scene.has(), "held");
        // Whoever resumes is where they were before: what was approved holds.
        scene.brakes(Some(&held), None);
        scene.ends("pending", Some("held"), "held");
        scene.brakes(None, Some(back));
        scene.run();
        scene.brakes(None, None);
        let has = scene.has();
        scene.ends("pending", Some("held"), &has);
        scene.brakes(Some(&held), None);
        scene.ends("pending", Some("held"), "held");
    }
}

#[test]
fn root_goes_back_and_stays_there_until_resume() {
    let scene = Scene::new("");
    let first = scene.say("first");
    let second = scene.say("second");
    scene.ends("in-sync", None, "second");
    scene.brakes(None, Some(&first));
    let plan = scene.plan();
    assert!(plan["steps"][0]["diff"].to_string().contains("first"), "{plan:#}");
    assert_eq!((plan["reason"].as_str(), scene.has().as_str()), (Some("rolled-back-by-root"), "second"), "{plan:#}");
    let report = scene.ends("pending", Some("rolled-back-by-root"), "first");
    says(&report, &[&first[..7], "alice", "trueup resume"]);
    assert_eq!((&report["revision"]["seen"], &report["revision"]["applied"]), (&second.into(), &first.clone().into()));
    let third = scene.say("third");
    scene.stays("pending", Some("rolled-back-by-root"));
    // Offline too, as long as it takes, and after resume.
    scene.reachable(false);
    let report = scene.stays("stalled", Some("cannot-read"));
    assert!(report["notes"].to_string().contains("rolled back to"), "{report:#}");
    scene.brakes(None, None);
    scene.stays("stalled", Some("cannot-read"));
    assert_eq!(scene.has(), "first");
    scene.reachable(true);
    let report = scene.ends("in-sync", None, "third");
    assert_eq!(report["revision"]["applied"], third.as_str());
    scene.reachable(false);
    scene.stays("stalled", Some("cannot-read"));
    assert_eq!(scene.has(), "third");
}

#[test]
fn a_rollback_sets_nothing_aside_but_that_one_commit() {
    let scene = Scene::new("");
    let first = scene.say("first");
    let second = scene.say("second");
    let third = scene.say("third");
    scene.ends("in-sync", None, "third");
    // Nowhere, and below the floor: what the host has stays.
    scene.brakes(None, Some(&"0123456789".repeat(4)));
    let report = scene.stays("stalled", Some("no-such-commit"));
    says(&report, &["0123456", "trueup resume"]);
    scene.settings(&format!("[trust]\nfloor = \"{second}\"\n"));
    scene.brakes(None, Some(&first));
    let report = scene.stays("stalled", Some("below-floor"));
    says(&report, &[&first[..7], &second[..7]]);
    assert_eq!(scene.has(), "third");
    scene.brakes(None, Some(&second));
    scene.ends("pending", Some("rolled-back-by-root"), "second");
    scene.settings("");

    // The branch goes to an older commit: refused during the rollback, which holds, and after it.
    scene.git(&["reset", "--quiet", "--hard", &first]);
    let report = scene.stays("stalled", Some("not-a-descendant"));
    says(&report, &[&third[..7], &first[..7]]);
    assert!(report["notes"].to_string().contains("rolled back to"), "{report:#}");
    assert_eq!(scene.has(), "second");
    scene.brakes(None, None);
    scene.stays("stalled", Some("not-a-descendant"));
    assert_eq!(scene.has(), "second");
    // It is rewritten: root's commit is proven by what was acted on before.
    scene.say("forced");
    scene.stays("stalled", Some("not-a-descendant"));
    scene.brakes(None, Some(&first));
    scene.ends("stalled", Some("not-a-descendant"), "first");
    // Back on the branch.
    scene.git(&["reset", "--quiet", "--hard", &third]);
    scene.ends("pending", Some("rolled-back-by-root"), "first");
    scene.brakes(None, None);
    scene.ends("in-sync", None, "third");
    scene.git(&["reset", "--quiet", "--hard", &second]);
    scene.stays("stalled", Some("not-a-descendant"));
}

#[test]
fn what_is_below_the_floor_is_not_kept_to_either() {
    let scene = Scene::new("");
    let first = scene.say("first");
    let second = scene.say("second");
    scene.ends("in-sync", None, "second");
    scene.brakes(None, Some(&first));
    scene.ends("pending", Some("rolled-back-by-root"), "first");
    let leaves = |scene: &Scene| {
        scene.drift();
        let report = scene.ends("stalled", Some("below-floor"), "by hand, first");
        says(&report, &[&first[..7], &second[..7], "kept to no longer"]);
    };
    let floor = format!("[trust]\nfloor = \"{second}\"\n");
    scene.settings(&floor);
    leaves(&scene);
    // The tip contains the floor, and waits.
    scene.brakes(None, None);
    scene.settings(&format!("{HOLD}{floor}"));
    leaves(&scene);
    scene.brakes(Some(&second), None);
    scene.ends("in-sync", None, "second");
    // What the host has does, and a tip that does not is refused.
    scene.git(&["reset", "--quiet", "--hard", &first]);
    scene.stays("stalled", Some("below-floor"));
    assert_eq!(scene.has(), "second");
}

#[test]
fn the_plan_of_a_rollback_passes_the_guard() {
    let scene = Scene::new("");
    let first = scene.say("first");
    for n in 0..20 {
        scene.put(&format!("repo/hosts/web-01/files/etc/many/{n}"), "x");
    }
    scene.say("many");
    scene.ends("in-sync", None, "many");
    scene.brakes(None, Some(&first));
    scene.stays("stalled", Some("guard"));
    assert_eq!(scene.has(), "many");
}

#[test]
fn a_rollback_wins_over_hold_and_resume_goes_on_with_what_is_approved() {
    let scene = Scene::new(HOLD);
    let first = scene.say("first");
    let second = scene.say("second");
    scene.brakes(Some(&second), None);
    scene.ends("in-sync", None, "second");
    scene.say("third");
    scene.brakes(Some(&second), Some(&first));
    scene.ends("pending", Some("rolled-back-by-root"), "first");
    scene.brakes(Some(&second), None);
    scene.ends("pending", Some("held"), "second");
    // A rollback to what was never applied here, and is newer, is the way forward.
    let fourth = scene.say("fourth");
    scene.say("fifth");
    scene.brakes(Some(&second), Some(&fourth));
    scene.ends("pending", Some("rolled-back-by-root"), "fourth");
    scene.brakes(Some(&second), None);
    let report = scene.stays("pending", Some("held"));
    says(&report, &["only goes forward", &fourth[..7]]);
    assert_eq!(scene.has(), "fourth");
}

#[test]
fn brakes_that_cannot_be_believed_stop_the_pass() {
    let scene = Scene::new("");
    scene.say("first");
    scene.ends("in-sync", None, "first");
    scene.put("root/var/lib/trueup/agent/brakes", "?");
    scene.say("second");
    scene.ends("stalled", Some("state-damaged"), "first");
}

/// Kills a pass at each of its renames, and checks what comes after with `check`. How often there was a pass to kill.
fn at_each_rename(begin: impl Fn() -> Scene, check: impl Fn(&Scene)) -> usize {
    (1..40)
        .take_while(|&n| {
            let scene = begin();
            let killed = scene.killed_at(n);
            if killed {
                check(&scene);
            }
            killed
        })
        .count()
}

#[test]
fn a_crash_anywhere_in_a_rollback_or_a_resume_is_carried_on_and_never_turned_round() {
    let first = |scene: &Scene| scene.git(&["rev-list", "--max-parents=0", "HEAD"]);
    let rolling = || {
        let scene = Scene::new("");
        let first = scene.say("first");
        scene.say("second");
        scene.ends("in-sync", None, "second");
        scene.brakes(None, Some(&first));
        scene
    };
    let struck = at_each_rename(rolling, |scene| {
        let before = scene.has();
        scene.reachable(false);
        scene.run();
        let has = scene.has();
        assert!(has == before || has == "first", "root's word is turned round: {before} became {has}");
        scene.reachable(true);
        scene.ends("pending", Some("rolled-back-by-root"), "first");
        scene.brakes(None, None);
        scene.ends("in-sync", None, "second");
    });
    assert!(struck > 5, "only {struck} crashes");

    let resuming = || {
        let scene = rolling();
        scene.ends("pending", Some("rolled-back-by-root"), "first");
        scene.brakes(None, None);
        scene
    };
    let struck = at_each_rename(resuming, |scene| {
        scene.reachable(false);
        scene.run();
        assert!(["first", "second", "second, first"].contains(&scene.has().as_str()), "{}", scene.has());
        scene.reachable(true);
        scene.ends("in-sync", None, "second");
        scene.git(&["reset", "--quiet", "--hard", &first(scene)]);
        scene.ends("stalled", Some("not-a-descendant"), "second");
    });
    assert!(struck > 5, "only {struck} crashes");

    // Root changes their mind in the middle of a resume.
    let struck = at_each_rename(resuming, |scene| {
        let commit = first(scene);
        scene.brakes(None, Some(&commit));
        let before = scene.has();
        scene.reachable(false);
        scene.run();
        let has = scene.has();
        assert!(has == before || has == "first", "{before} became {has}");
        scene.reachable(true);
        scene.ends("pending", Some("rolled-back-by-root"), "first");
    });
    assert!(struck > 5, "only {struck} crashes");
}
