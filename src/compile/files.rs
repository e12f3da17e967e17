//! `[files]` of all layers, and their trees.

use std::collections::{BTreeMap, BTreeSet};

use globset::{Glob, GlobMatcher, GlobSet, GlobSetBuilder};

use super::file::{self, About};
use super::merge::Claim;
use super::paths;
use super::tree::{self, Leaf};
use super::work::Work;
use crate::kinds;
use crate::kinds::file::What;
use crate::manifest::{FileEntry, Problem, Stand, nearest};
use crate::model::{Id, one_line};

/// What is declared of files, once compiled.
pub(super) struct Files {
    /// Every declared path, canonical.
    pub paths: Vec<String>,
}

/// A pattern of `[files]`.
pub(super) struct Pattern<'a> {
    pub layer: usize,
    pub entry: &'a FileEntry,
    /// In characters; the longest wins.
    pub length: usize,
}

/// Every entry of `[files]` whose condition holds.
struct Entries<'a> {
    exact: BTreeMap<String, Vec<(usize, &'a FileEntry)>>,
    patterns: Vec<Pattern<'a>>,
    set: GlobSet,
    /// Paths that a layer does not declare, since its own condition does not hold.
    gated: BTreeSet<(usize, String)>,
}

/// What a layer says stands at a path.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Leaf(Leaf),
    Entry(Stand),
}

impl<'a> Entries<'a> {
    /// What the entries say about `path`, which the patterns with these indexes match.
    fn about<'e>(&'e self, path: &'e str, matches: &[usize]) -> About<'e, 'a> {
        let exact = self.exact.get(path).map(Vec::as_slice).unwrap_or_default();
        // Indexes are answered in the order of the list, which is longest first.
        About { path, exact, patterns: matches.iter().map(|index| &self.patterns[*index]).collect() }
    }
}

/// A matcher in which `*` stays within a directory and `**` does not.
pub(super) fn matcher(pattern: &str) -> Result<GlobMatcher, String> {
    glob(pattern).map(|glob| glob.compile_matcher())
}

fn glob(text: &str) -> Result<Glob, String> {
    kinds::pattern(text).map_err(|error| format!("`{}` is no pattern: {}", one_line(text, 200), error.kind()))
}

pub(super) fn compile(work: &mut Work<'_>) -> Files {
    let entries = entries(work);
    let mut declared = leaves(work, &entries);
    for (path, said) in &entries.exact {
        for (layer, entry) in said {
            if let Some(stand) = &entry.stand {
                let place = work.place(*layer, &stand.span);
                let claim = Claim { layer: *layer, value: Source::Entry(stand.value.clone()), place };
                declare(work, &mut declared, path, claim);
            }
        }
    }
    from_nowhere(work, &entries, &declared);
    let mut matched = vec![false; entries.patterns.len()];
    for (path, claims) in &declared {
        let matches = entries.set.matches(path);
        matches.iter().for_each(|index| matched[*index] = true);
        file::compile(work, &entries.about(path, &matches), claims);
    }
    for (pattern, _) in
        entries.patterns.iter().zip(matched).filter(|(pattern, matched)| !matched && !pattern.entry.broken)
    {
        let message =
            format!("the pattern `{}` matches nothing that is declared", one_line(&pattern.entry.path.value, 200));
        work.problems.push(work.place(pattern.layer, &pattern.entry.path.span).note(message));
    }
    let files = Files { paths: declared.into_keys().collect() };
    below_files(work);
    files
}

/// Sorts the entries of all layers by kind, and tells of paths and patterns that cannot be.
fn entries<'a>(work: &mut Work<'a>) -> Entries<'a> {
    let layers = work.layers;
    let mut exact: BTreeMap<String, Vec<(usize, &FileEntry)>> = BTreeMap::new();
    let mut patterns = Vec::new();
    let mut gated = BTreeSet::new();
    for (layer, here) in layers.0.iter().enumerate() {
        for entry in &here.layer.files {
            let written = &entry.path.value;
            let canonical = if entry.pattern { paths::canonical_pattern(written) } else { paths::canonical(written) };
            let path = match canonical {
                Ok(path) => path,
                Err(refused) => {
                    let problem = work.place(layer, &entry.path.span).error(refused.why);
                    work.problems.push(Problem { hint: refused.hint.map(str::to_owned), ..problem });
                    continue;
                }
            };
            let holds = work.holds(layer, entry.when.as_ref());
            match (entry.pattern, holds) {
                (true, false) => {}
                (true, true) => match glob(&path) {
                    Ok(glob) => patterns.push((glob, Pattern { layer, entry, length: path.chars().count() })),
                    Err(why) => work.problems.push(work.place(layer, &entry.path.span).error(why)),
                },
                (false, false) => drop(gated.insert((layer, path))),
                (false, true) => {
                    let said = exact.entry(path).or_default();
                    match said.iter().find(|(other, _)| *other == layer) {
                        Some((_, other)) => two_names(work, layer, other, entry),
                        None => said.push((layer, entry)),
                    }
                }
            }
        }
    }
    patterns.sort_by_key(|(_, pattern)| std::cmp::Reverse(pattern.length));
    let mut set = GlobSetBuilder::new();
    let mut kept = Vec::new();
    for (glob, pattern) in patterns {
        set.add(glob);
        kept.push(pattern);
    }
    let set = set.build().unwrap_or_else(|error| {
        work.problems.push(Problem::error(
            &layers.0[0].manifest,
            None,
            format!("the patterns of [files] are too much: {error}"),
        ));
        GlobSet::empty()
    });
    Entries { exact, patterns: kept, set, gated }
}

fn two_names(work: &mut Work<'_>, layer: usize, one: &FileEntry, other: &FileEntry) {
    let first = work.place(layer, &one.path.span).show(work.snapshot);
    let (a, b) = (one_line(&one.path.value, 200), one_line(&other.path.value, 200));
    work.problems.push(
        work.place(layer, &other.path.span).error(format!("`{a}` ({first}) and `{b}` are two names of one path")),
    );
}

type Declared = BTreeMap<String, Vec<Claim<Source>>>;

/// The trees of all layers, by path.
fn leaves(work: &mut Work<'_>, entries: &Entries<'_>) -> Declared {
    let mut declared = Declared::new();
    let (snapshot, layers) = (work.snapshot, work.layers);
    for layer in 1..layers.0.len() {
        let mut problems = Vec::new();
        let found = tree::leaves(
            snapshot,
            layers,
            layer,
            |path| entries.about(path, &entries.set.matches(path)).raw(work),
            &mut problems,
        );
        work.problems.append(&mut problems);
        for leaf in found {
            if entries.gated.contains(&(layer, leaf.path.clone())) {
                continue;
            }
            let (path, place) = (leaf.path.clone(), leaf.place.clone());
            declare(work, &mut declared, &path, Claim { layer, value: Source::Leaf(leaf), place });
        }
    }
    declared
}

/// Adds what one layer says stands at `path`, which it may say once.
fn declare(work: &mut Work<'_>, declared: &mut Declared, path: &str, claim: Claim<Source>) {
    let claims = declared.entry(path.to_owned()).or_default();
    match claims.iter().find(|other| other.layer == claim.layer) {
        Some(other) => {
            let message = format!(
                "`{}` is declared twice: by {} and by {}",
                one_line(path, 200),
                other.place.show(work.snapshot),
                claim.place.show(work.snapshot)
            );
            work.problems.push(claim.place.error(message).hint("take one of them out"));
        }
        None => claims.push(claim),
    }
}

/// Tells of entries that give attributes to a path that nothing declares.
fn from_nowhere(work: &mut Work<'_>, entries: &Entries<'_>, declared: &Declared) {
    for (path, said) in entries.exact.iter().filter(|(path, _)| !declared.contains_key(*path)) {
        let gated = entries.gated.iter().any(|(_, gated)| gated == path);
        for (layer, entry) in said.iter().filter(|(_, entry)| !entry.broken && !gated) {
            let raw = entry.raw.as_ref().is_some_and(|raw| raw.value);
            let message = format!(
                "`{}` has content from nowhere: no tree holds it, and this entry gives none",
                one_line(&entry.path.value, 200)
            );
            let problem = work.place(*layer, &entry.path.span).error(message);
            let peeled = path.strip_suffix(".j2").filter(|peeled| declared.contains_key(*peeled) && !raw);
            let near = peeled.or_else(|| nearest(path, declared.keys().map(String::as_str)));
            let hint = match (near, peeled) {
                (Some(near), Some(_)) => format!("once rendered the file is `{}`", one_line(near, 200)),
                (Some(near), None) => format!("did you mean `{}`?", one_line(near, 200)),
                (None, _) => {
                    let layer = &work.layers.0[*layer].name;
                    format!(
                        "put it into {layer}/files, or say `content`, `source`, `type`, `state` or `attributes_only`"
                    )
                }
            };
            work.problems.push(problem.hint(hint));
        }
    }
}

/// Tells of paths below something that is no directory.
fn below_files(work: &mut Work<'_>) {
    let mut problems = Vec::new();
    let file = |id: &Id| match work.resources.get(id).map(|wanted| &wanted.spec) {
        Some(kinds::Spec::File(spec)) => Some(&spec.what),
        _ => None,
    };
    for (id, wanted) in &work.resources {
        if id.kind() != "file" || matches!(file(id), Some(What::Absent)) {
            continue;
        }
        let path = id.name();
        for (at, _) in path.match_indices('/').skip(1) {
            let above = Id::new("file", &path[..at]);
            let kind = match file(&above) {
                Some(What::Regular { .. } | What::Sealed { .. }) => "a file",
                Some(What::Symlink { .. }) => "a symlink",
                Some(What::Absent) => "absent",
                Some(What::Directory | What::Tree { .. } | What::Attributes) | None => continue,
            };
            let message = format!(
                "`{}` ({}) cannot stand below `{}`, which is {kind} ({})",
                one_line(path, 200),
                wanted.layer,
                one_line(above.name(), 200),
                work.resources[&above].layer
            );
            let manifest =
                work.layers.0.iter().find(|here| here.name == wanted.layer).map_or("", |here| here.manifest.as_str());
            problems.push(
                Problem::error(manifest, None, message)
                    .hint("declare one of them, or name the directory by its real path"),
            );
        }
    }
    work.problems.append(&mut problems);
}
