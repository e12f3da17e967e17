//! Mistakes in a repository, each with its golden diagnostic: `tests/cases/mistakes/<name>/` holds `repo/` and what
//! `trueup` says of every host of it in `expect/problems.txt`; `facts.json`, where it is there, makes it the facts of
//! this very host. `TRUEUP_BLESS=1` writes the texts anew; read them as an operator would before you commit them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use trueup::compile::{Options, Secrets, assumed_facts, compile, missing_layers};
use trueup::manifest::{Problem, render, text_of};
use trueup::model::{Facts, Revision};
use trueup::source::{Entry, Snapshot};

#[test]
fn every_mistake_is_told_as_expected() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/mistakes");
    let bless = std::env::var_os("TRUEUP_BLESS").is_some();
    let mut count = 0;
    let mut wrong = String::new();
    for case in children(&cases) {
        count += 1;
        let told = told(&case);
        let golden = case.join("expect/problems.txt");
        if bless {
            bless_with(&golden, &told);
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if told != expected {
            let name = case.file_name().expect("a child has a name").to_string_lossy().into_owned();
            write!(wrong, "\n### {name}: expected\n{expected}\n### {name}: told\n{told}").expect("a string takes text");
        }
    }
    assert!(count >= 20, "only {count} cases were found in {}", cases.display());
    assert!(wrong.is_empty(), "{wrong}");
}

#[allow(clippy::disallowed_methods, reason = "the author of a case asks for it")]
fn bless_with(golden: &Path, told: &str) {
    fs::create_dir_all(golden.parent().expect("a golden text stands in a directory")).expect("cases can be written");
    fs::write(golden, told).expect("cases can be written");
}

/// What is told of every host of a case.
fn told(case: &Path) -> String {
    let repo = case.join("repo");
    let facts = fs::read_to_string(case.join("facts.json")).ok();
    let facts: Option<Facts> = facts.map(|text| serde_json::from_str(&text).expect("facts.json holds facts"));
    let mut snapshot = head(&repo);
    let mut out = String::new();
    for host in snapshot.hosts.clone() {
        while let missing @ [_, ..] = missing_layers(&snapshot, &host).as_slice() {
            missing.iter().for_each(|layer| read_layer(&mut snapshot, &repo, layer));
        }
        let options = Options { on_host: facts.is_some(), secrets: Secrets::Judged, ..Options::default() };
        let host_facts = facts.clone().unwrap_or_else(|| assumed_facts(&snapshot, &host));
        let problems: Vec<Problem> = match compile(&snapshot, &host, &host_facts, &options) {
            Ok(compiled) => {
                assert!(!compiled.notes.iter().any(Problem::is_error));
                compiled.notes
            }
            Err(problems) => {
                assert!(problems.iter().any(Problem::is_error), "{}: refused without an error", case.display());
                problems
            }
        };
        let text = render(&problems, text_of(&snapshot), false);
        assert!(!text.contains('\u{1b}'), "{}: a terminal could be steered", case.display());
        write!(out, "== {host}\n{}", if text.is_empty() { "nothing to say\n" } else { &text })
            .expect("a string takes text");
    }
    out
}

/// `trueup.toml` and the names of hosts and roles.
fn head(repo: &Path) -> Snapshot {
    let names = |directory: &str| -> BTreeSet<String> {
        let children = children(&repo.join(directory)).into_iter().filter(|path| path.is_dir());
        children.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
    };
    let mut entries = BTreeMap::new();
    let fleet = repo.join("trueup.toml");
    if fleet.exists() {
        entries.insert("trueup.toml".to_owned(), entry(&fleet));
    }
    let (hosts, roles) = (names("hosts"), names("roles"));
    Snapshot { revision: Revision::uncommitted(), hosts, roles, layers: BTreeSet::new(), entries }
}

fn read_layer(snapshot: &mut Snapshot, repo: &Path, layer: &str) {
    let mut open = vec![repo.join(layer)];
    while let Some(directory) = open.pop() {
        for child in children(&directory) {
            if child.is_dir() && !child.is_symlink() {
                open.push(child);
            } else {
                let path =
                    child.strip_prefix(repo).expect("a child is below").to_str().expect("cases are UTF-8").to_owned();
                snapshot.entries.insert(path, entry(&child));
            }
        }
    }
    snapshot.layers.insert(layer.to_owned());
}

fn entry(path: &Path) -> Entry {
    if path.is_symlink() {
        return Entry::Symlink {
            target: fs::read_link(path).expect("a link is readable").into_os_string().into_vec().into(),
        };
    }
    let executable = fs::metadata(path).expect("a file has metadata").permissions().mode() & 0o100 != 0;
    Entry::File { content: fs::read(path).expect("a file is readable").into(), executable }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(read) = fs::read_dir(directory) else { return Vec::new() };
    let mut children: Vec<PathBuf> = read.map(|child| child.expect("a directory is readable").path()).collect();
    children.sort();
    children
}
