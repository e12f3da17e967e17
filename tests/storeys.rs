//! The house holds: a module imports only from storeys below it.

use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up. `worker` stands aside: it may use nothing of the house.
const STOREYS: &[&str] = &[
    "model",
    "config",
    "host",
    "kinds",
    "source",
    "manifest",
    "compile",
    "ledger",
    "brakes",
    "plan",
    "apply",
    "report",
    "reconcile",
    "daemon",
    "cli",
];

/// What stands outside of the order, and what it may import.
const ASIDE: &[(&str, &[&str])] = &[("worker", &[]), ("secret", &[])];

/// What a storey may import of what stands aside.
const DOORS: &[(&str, &str)] = &[
    ("source", "worker"),
    ("apply", "worker"),
    ("cli", "worker"),
    ("host", "secret"),
    ("kinds", "secret"),
    ("manifest", "secret"),
    ("compile", "secret"),
    ("ledger", "secret"),
    ("apply", "secret"),
    ("reconcile", "secret"),
    ("cli", "secret"),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

fn storey(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("below src");
    let first = inside.components().next().expect("a name").as_os_str().to_str().expect("text");
    first.trim_end_matches(".rs").to_owned()
}

/// The top-level modules that `text` names after `crate::`, those of a braced list too.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for part in line.split("crate::").skip(1) {
            if let Some(list) = part.strip_prefix('{') {
                found.extend(
                    list.split(',')
                        .map(|name| name.trim_matches(|c: char| !c.is_alphanumeric() && c != '_').to_owned()),
                );
            } else {
                found.push(part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            }
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn wrong(from: &str, to: &str) -> bool {
    if from == to || ["lib", "main"].contains(&from) {
        return false;
    }
    if let Some((_, allowed)) = ASIDE.iter().find(|(name, _)| *name == from) {
        return !allowed.contains(&to);
    }
    if DOORS.contains(&(from, to)) {
        return false;
    }
    let height = |name: &str| STOREYS.iter().position(|storey| *storey == name);
    match (height(from), height(to)) {
        (Some(from), Some(to)) => to >= from,
        // A name that is no storey is a macro or an item of the crate's root: there are none.
        _ => true,
    }
}

#[test]
fn a_module_imports_only_from_storeys_below() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut seen = 0;
    let mut problems = Vec::new();
    for file in files {
        let from = storey(&file);
        let text = fs::read_to_string(&file).expect("text");
        for to in imports(&text) {
            seen += 1;
            if wrong(&from, &to) {
                problems.push(format!("{} ({from}) imports {to}", file.display()));
            }
        }
    }
    assert!(seen > 100, "only {seen} imports are seen");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn the_check_sees_an_import_that_goes_up() {
    assert!(wrong("model", "host"));
    assert!(wrong("plan", "apply"));
    assert!(wrong("worker", "model"));
    assert!(wrong("config", "worker"));
    assert!(!wrong("apply", "plan"));
    assert_eq!(imports("use crate::{host, model};\nuse crate::plan::Plan;"), ["host", "model", "plan"]);
}

#[test]
fn only_the_worker_names_gix() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    for file in files.into_iter().filter(|file| storey(file) != "worker") {
        let text = fs::read_to_string(&file).expect("text");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        assert!(!code.into_iter().any(|line| line.contains("gix::")), "{} names gix", file.display());
    }
}

#[test]
fn no_file_is_without_its_module_line() {
    for top in ["src", "tests"] {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(top), &mut files);
        for file in files {
            let name = file.file_stem().expect("a name").to_str().expect("text").to_owned();
            if ["lib", "main"].contains(&name.as_str()) {
                continue;
            }
            let directory = file.parent().expect("a parent");
            let (name, above) = if name == "mod" {
                (
                    directory.file_name().expect("a name").to_str().expect("text").to_owned(),
                    directory.parent().expect("a parent"),
                )
            } else {
                (name, directory)
            };
            let parents =
                [above.join("mod.rs"), above.join("lib.rs"), above.join("main.rs"), above.with_extension("rs")];
            let known = parents.iter().filter_map(|parent| fs::read_to_string(parent).ok()).any(|text| {
                text.lines().any(|line| {
                    let line = line.trim();
                    [
                        format!("mod {name};"),
                        format!("pub mod {name};"),
                        format!("pub(crate) mod {name};"),
                        format!("pub(super) mod {name};"),
                    ]
                    .iter()
                    .any(|known| line == known)
                })
            });
            assert!(known, "{} is in no module list", file.display());
        }
    }
}
