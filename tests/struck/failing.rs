//! A call that fails: a disk that is full, read-only or broken, no descriptor left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use super::super::sample::sample;
use super::{FEW, MANY, Place, Scene, text};

/// How many calls fail where nobody asked for all of them.
const SAMPLES: [(usize, usize); 2] = [(FEW, 50), (MANY, 30)];
/// How many of each call that only looks.
const MOST: usize = 24;
const ERRORS: &[&str] = &["ENOSPC", "EIO", "EDQUOT", "EROFS", "EMFILE"];
/// Calls that only look; of these a broken disk is all that is to be feared.
const LOOKS: &[&str] = &[
    "openat",
    "openat2",
    "statx",
    "newfstatat",
    "getdents64",
    "read",
    "pread64",
    "readlink",
    "readlinkat",
    "flock",
    "fgetxattr",
    "lseek",
];

/// What is said of a step that an error kept from being done, or of the pass that it ended; of one that only looked
/// for the source, that it could not be had.
fn words(error: &str) -> &'static [&'static str] {
    match error {
        "ENOSPC" | "EDQUOT" => &["disk-full"],
        "EROFS" => &["read-only"],
        _ => &["io-error", "cannot-tell", "state-unwritable", "fetch-failed", "cannot-read"],
    }
}

fn places(scene: &Scene) -> Vec<(Place, &'static str)> {
    let mut places = Vec::new();
    let mut looks: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for place in scene.places() {
        let call = place.call.as_str();
        if place.stores {
            places.extend(ERRORS.iter().map(|error| (place.clone(), *error)));
        } else if LOOKS.contains(&call) {
            looks.entry(place.call.clone()).or_default().push(place);
        }
    }
    for all in looks.into_values() {
        let taken = all.len().min(MOST);
        // There is no opening without a descriptor.
        let errors: &[&str] = if all[0].call.starts_with("open") { &["EIO", "EMFILE"] } else { &["EIO"] };
        let some = (0..taken).map(|i| &all[i * all.len() / taken]);
        places.extend(some.flat_map(|place| errors.iter().map(|error| (place.clone(), *error))));
    }
    places
}

/// The reason words of a report: of the pass, and of its steps.
fn reasons(told: &Value) -> BTreeSet<String> {
    let of = |value: &Value| value["reason"].as_str().map(str::to_owned);
    let parts = ["steps", "refreshes", "activations"].map(|part| told[part].as_array().cloned().unwrap_or_default());
    parts.iter().flatten().filter_map(of).chain(of(told)).collect()
}

/// No file whose content could not be synced takes a name.
fn nothing_unsynced_is_renamed(trace: &str, when: &str) {
    let mut unsynced = BTreeSet::new();
    for line in trace.lines() {
        if line.starts_with("fsync(") && line.contains("(INJECTED)") {
            let path = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).expect("of a path").0;
            let name = path.rsplit('/').next().expect("a name");
            unsynced.extend(name.ends_with('~').then(|| name.to_owned()));
        } else if line.starts_with("rename") {
            assert!(!unsynced.iter().any(|name| line.contains(name.as_str())), "{when}: {line}");
        }
    }
}

/// What came of a pass in which a call failed.
struct Came {
    /// The word by which it is counted.
    word: String,
    inside: bool,
}

/// A pass of which the `n`th of `call` fails; `None` where it made one less of them this time.
fn fails(scene: &Scene, call: &str, n: usize, error: &str) -> Option<Came> {
    let when = format!("{error} at {call} {n}");
    scene.begin();
    let trace = scene.at("trace");
    let calls = format!("trace={call},rename,renameat,renameat2");
    let inject = format!("inject={call}:error={error}:when={n}");
    let output = scene.struck(&["-y", "-o", trace.to_str().expect("text"), "-e", &calls, "-e", &inject]);
    let trace = fs::read_to_string(&trace).expect("a trace");
    let code = output.status.code();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let Some(line) = trace.lines().find(|line| line.contains("(INJECTED)")) else {
        assert_eq!(code, Some(0), "{when}: {}", text(&output));
        return None;
    };
    let inside = scene.is_inside();
    assert!(matches!(code, Some(0..=3)), "{when}: {}", text(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{when}: {stderr}");
    nothing_unsynced_is_renamed(&trace, &when);
    scene.is_whole(&when);
    let reasons = reasons(&told);
    if code != Some(0) && !told.is_null() {
        assert!(!reasons.is_empty(), "{when}: no reason: {line} {}", text(&output));
        let known = |reason: &String| words(error).contains(&reason.as_str());
        assert!(reasons.iter().all(known), "{when}: {reasons:?}: {line} {}", text(&output));
    }
    if code == Some(0) || told["revision"]["applied"] == scene.commits[1].as_str() {
        scene.is_at(&scene.second, &format!("{when}: claimed"));
        let applied = scene.document("ledger").expect("a ledger")["applied"]["commit"].clone();
        assert_eq!(applied, scene.commits[1].as_str(), "{when}: claimed, and not on disk");
    }
    scene.recovers(&when);
    let reasons: Vec<String> = reasons.into_iter().collect();
    Some(Came {
        word: format!("{error}: {}", if code == Some(0) { "in-sync".to_owned() } else { reasons.join(" ") }),
        inside,
    })
}

#[test]
fn whatever_call_fails_nothing_is_lost_or_claimed_and_the_next_pass_converges() {
    for (files, some) in SAMPLES {
        failing(&Scene::new(files), some);
    }
}

/// Has `some` of the calls of passes of `scene` fail.
fn failing(scene: &Scene, some: usize) {
    let all = places(scene);
    let count = all.len();
    let (mut struck, mut inside) = (0, 0);
    let mut came: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (Place { call, n, .. }, error) in sample(all, some) {
        match catch_unwind(AssertUnwindSafe(|| fails(scene, &call, n, error))) {
            Ok(None) => {}
            Ok(Some(one)) => {
                struck += 1;
                inside += usize::from(one.inside);
                *came.entry(one.word).or_default() += 1;
            }
            // Others may be wrong too.
            Err(why) => wrong.push(why.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned())),
        }
    }
    let files = scene.files;
    println!(
        "{files} files: {struck} of {count} calls of a pass failed, {inside} of them left it inside an apply: {came:#?}"
    );
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(count >= 1000 && struck * 6 >= some * 5, "{struck} of {count}");
}

#[test]
fn what_cannot_be_synced_together_takes_no_place_and_what_was_renamed_is_not_claimed() {
    let scene = Scene::new(MANY);
    let syncs: Vec<Place> = scene.places().into_iter().filter(|place| place.call == "syncfs").collect();
    assert_eq!(syncs.len(), 2, "the contents, and the names: {syncs:?}");
    for (Place { call, n, .. }, renamed) in syncs.into_iter().zip([false, true]) {
        let came = fails(&scene, &call, n, "EIO").expect("it fails");
        assert_eq!(came.word, "EIO: io-error");
        scene.begin();
        let inject = format!("inject={call}:error=EIO:when={n}");
        scene.struck(&["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
        let tree = scene.tree();
        let (old, new) = (&scene.first, &scene.second);
        for n in 0..MANY {
            let path = format!("/etc/app/{n}");
            assert_eq!(tree.get(&path), if renamed { new } else { old }.get(&path), "{path}");
        }
        assert!(!tree.keys().any(|path| path.ends_with('~')), "nothing is left over");
        let ledger = scene.document("ledger").expect("a ledger");
        let kept = ledger["entries"]["file:/etc/app/2"]["applied"].to_string();
        assert!(!kept.is_empty() && ledger["applied"]["commit"] != scene.commits[1].as_str(), "{ledger:#}");
    }
}

#[test]
fn a_directory_that_was_made_on_the_way_and_cannot_be_synced_is_ours_all_the_same() {
    let scene = Scene::new(FEW);
    let etc = scene.at("root/etc").to_str().expect("text").to_owned();
    let above = [etc.clone(), format!("{etc}/only-new")];
    let places: Vec<Place> =
        scene.places().into_iter().filter(|place| place.call == "fsync" && above.contains(&place.on)).collect();
    assert!(places.len() >= 2, "{places:?}");
    let mut words = BTreeSet::new();
    for Place { call, n, .. } in places {
        words.insert(fails(&scene, &call, n, "EIO").expect("it fails").word);
    }
    assert!(words.contains("EIO: io-error"), "{words:?}");
}

#[test]
fn a_revision_is_said_to_be_applied_once_that_is_on_disk() {
    let scene = Scene::new(FEW);
    let renames: Vec<Place> = scene.places().into_iter().filter(|place| place.call == "rename").collect();
    // The last of them put down what came of the pass, in several documents.
    for Place { call, n, .. } in renames.iter().rev().take(5) {
        fails(&scene, call, *n, "ENOSPC").expect("it fails");
    }
}
