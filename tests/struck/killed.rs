//! Killed at a system call.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

use super::super::sample::sample;
use super::{EFFECTS, FEW, MANY, Place, Scene, text};

/// How many calls are struck where nobody asked for all of them, and at least.
const SAMPLES: [(usize, usize); 2] = [(FEW, 50), (MANY, 30)];
/// Of calls that change nothing, how many of each: being killed before one of them is as before the next that does.
const MOST: usize = 24;

/// All places of calls with an effect, and some of the others.
fn places(scene: &Scene) -> Vec<Place> {
    let all = scene.places();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for place in &all {
        *counts.entry(place.call.clone()).or_default() += 1;
    }
    let mut nth: BTreeMap<String, usize> = BTreeMap::new();
    let taken = |place: &Place| {
        let (i, count) = (nth.entry(place.call.clone()).or_default(), counts[&place.call]);
        *i += 1;
        EFFECTS.contains(&place.call.as_str()) || count <= MOST || *i * MOST / count != (*i - 1) * MOST / count
    };
    all.into_iter().filter(taken).collect()
}

#[test]
fn a_pass_killed_at_any_system_call_leaves_each_file_old_or_new_and_the_next_converges() {
    for (files, some) in SAMPLES {
        killed(&Scene::new(files), some);
    }
}

/// Kills passes of `scene` at `some` of their calls.
fn killed(scene: &Scene, some: usize) {
    let all = places(scene);
    let count = all.len();
    let (mut struck, mut inside) = (0, 0);
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for Place { call, n, .. } in sample(all, some) {
        let when = format!("killed at {call} {n}");
        scene.begin();
        let inject = format!("inject={call}:signal=KILL:when={n}");
        let output = scene.struck(&["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
        // It may make one less of them: names and threads differ.
        if output.status.signal() == Some(9) || output.status.code() == Some(137) {
            struck += 1;
            *calls.entry(call).or_default() += 1;
            inside += usize::from(scene.is_inside());
        } else {
            assert!(output.status.success(), "{when}: {}", text(&output));
        }
        scene.is_whole(&when);
        scene.recovers(&when);
    }
    println!(
        "{} files: killed at {struck} of {count} system calls of a pass, {inside} of them inside an apply: {calls:?}",
        scene.files
    );
    assert!(count >= 400 && struck * 6 >= some * 5 && inside >= 10, "{struck} of {count}, {inside} inside an apply");
}
