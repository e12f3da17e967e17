//! The trees of a layer: `files/` laid over `/`, `units/` over `/etc/systemd/system`.

use std::sync::Arc;

use super::layers::Layers;
use super::merge::Place;
use super::paths;
use super::source;
use super::units;
use crate::manifest::{Problem, nearest};
use crate::model::one_line;
use crate::secret::SUFFIX;
use crate::source::{BadName, Entry, Snapshot};

/// Where administrators' units are, systemd.unit(5).
pub const UNITS: &str = "/etc/systemd/system";

/// The most bytes of one file.
pub const FILE_LIMIT: u64 = 16 << 20;

/// How every Git LFS pointer starts, by its specification.
pub const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// One leaf of a tree.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    /// Where it stands in the repository.
    pub place: Place,
    /// Where it goes: the canonical path, suffixes taken off.
    pub path: String,
    pub content: LeafContent,
}

#[derive(Debug, Clone)]
pub(super) enum LeafContent {
    File {
        content: Arc<[u8]>,
        executable: bool,
        /// How many times it is to be rendered: its `.j2` suffixes.
        templates: usize,
        /// It is encrypted: its `.age` suffix.
        secret: bool,
    },
    Symlink(String),
}

/// Every leaf of the trees of one layer, and what is wrong with them. `raw` says of a path with its suffixes whether
/// they belong to its name.
pub(super) fn leaves(
    snapshot: &Snapshot,
    layers: &Layers,
    layer: usize,
    mut raw: impl FnMut(&str) -> bool,
    problems: &mut Vec<Problem>,
) -> Vec<Leaf> {
    let here = &layers.0[layer];
    let prefix = format!("{}/", here.name);
    let mut leaves = Vec::new();
    let mut strangers = Vec::new();
    for (source, entry) in snapshot.entries.range(prefix.clone()..) {
        let Some(inside) = source.strip_prefix(&prefix) else { break };
        let place = Place { path: source.clone(), span: None };
        let (tree, rest) = match inside.split_once('/') {
            Some((tree @ ("files" | "units"), rest)) => (tree, rest),
            other => {
                strangers.push((source, inside, other.map(|(directory, _)| directory)));
                continue;
            }
        };
        if rest == ".gitkeep" || rest.ends_with("/.gitkeep") {
            continue;
        }
        let root = if tree == "units" { UNITS } else { "" };
        let full = format!("{root}/{rest}");
        match leaf(&place, &full, entry, &mut raw) {
            Ok(leaf) if tree == "units" => match units::fits_tree(&leaf) {
                Ok(()) => leaves.push(leaf),
                Err(problem) => problems.push(problem),
            },
            Ok(leaf) => match units::no_links_into(&leaf) {
                Ok(()) => leaves.push(leaf),
                Err(problem) => problems.push(problem),
            },
            Err(problem) => problems.push(problem),
        }
    }
    let used = source::directories(layers);
    let here_used = |directory: &str| used.contains(&format!("{prefix}{directory}"));
    strangers.retain(|(_, _, directory)| !directory.is_some_and(here_used));
    tell_strangers(&here.manifest, &strangers, problems);
    leaves
}

/// Tells of what stands in a layer and belongs to no tree.
fn tell_strangers(manifest: &str, strangers: &[(&String, &str, Option<&str>)], problems: &mut Vec<Problem>) {
    let mut told = std::collections::BTreeSet::new();
    let own = manifest.rsplit('/').next().unwrap_or(manifest);
    for (source, inside, directory) in strangers {
        match directory {
            // Documents beside the manifest are welcome, but not a manifest under another name.
            None if *inside != own && (inside.ends_with(".toml") || nearest(inside, [own]).is_some()) => {
                let message = format!("`{}` is not read: the manifest here is {own}", one_line(inside, 100));
                problems.push(Problem::error((*source).clone(), None, message).hint(format!("call it {own}")));
            }
            None if matches!(*inside, "files" | "units") => {
                problems.push(Problem::error((*source).clone(), None, format!("`{inside}` must be a directory")));
            }
            None => {}
            Some(directory) if !told.insert(*directory) => {}
            Some(directory) => {
                let message = format!("`{}/` is no tree of a layer; nothing in it is used", one_line(directory, 100));
                let problem = match nearest(directory, ["files", "units"]) {
                    Some(near) => {
                        Problem::error((*source).clone(), None, message).hint(format!("did you mean `{near}/`?"))
                    }
                    None => Problem::note((*source).clone(), None, message).hint("a layer has files/ and units/"),
                };
                problems.push(problem);
            }
        }
    }
}

fn leaf(place: &Place, full: &str, entry: &Entry, raw: &mut impl FnMut(&str) -> bool) -> Result<Leaf, Problem> {
    let canonical = |path: &str| {
        paths::canonical(path)
            .map_err(|refused| Problem { hint: refused.hint.map(str::to_owned), ..place.error(refused.why) })
    };
    if let Entry::Symlink { target } = entry {
        let content = LeafContent::Symlink(link(place, target)?);
        return Ok(Leaf { place: place.clone(), path: canonical(full)?, content });
    }
    let (content, executable) = regular(place, entry)?;
    let path = canonical(full)?;
    if raw(&path) {
        return Ok(Leaf {
            place: place.clone(),
            path,
            content: LeafContent::File { content: Arc::clone(content), executable, templates: 0, secret: false },
        });
    }
    let opened = full.strip_suffix(SUFFIX);
    let mut name = opened.unwrap_or(full);
    let mut templates = 0;
    while let Some(stem) = name.strip_suffix(".j2") {
        templates += 1;
        name = stem;
    }
    if name.ends_with(SUFFIX) {
        let hint = "`.age` stands last and once, as in x.conf.j2.age; raw = true in [files] ships a file as it is";
        return Err(place.error("a file is decrypted once, and before anything else").hint(hint));
    }
    if name.ends_with('/') {
        return Err(place.error("nothing is left of this name once its suffix is taken off"));
    }
    let secret = opened.is_some();
    let content = LeafContent::File { content: Arc::clone(content), executable, templates, secret };
    Ok(Leaf { place: place.clone(), path: canonical(name)?, content })
}

/// The content of a file of the repository, and whether Git has the executable bit.
pub(super) fn regular<'e>(place: &Place, entry: &'e Entry) -> Result<(&'e Arc<[u8]>, bool), Problem> {
    let (content, executable) = match entry {
        Entry::File { content, executable } => (content, *executable),
        Entry::Symlink { .. } => return Err(place.error("a symbolic link is no file")),
        Entry::Submodule => {
            return Err(place.error("a submodule cannot be used").hint("put the files themselves into the repository"));
        }
        Entry::TooLarge { size } => return Err(too_large(place, *size)),
        Entry::BadName(why) => {
            let why = match why {
                BadName::NotUtf8 => "this name is not UTF-8",
                BadName::Control => "this name holds a control character",
                BadName::TooLong => "this name is longer than 255 bytes, or its path than 4096",
            };
            return Err(place.error(why).hint("rename it"));
        }
    };
    if content.len() as u64 > FILE_LIMIT {
        return Err(too_large(place, content.len() as u64));
    }
    if content.starts_with(LFS) {
        return Err(place
            .error("this is a Git LFS pointer, not the file")
            .hint("put the file itself into the repository"));
    }
    Ok((content, executable))
}

/// Why `source` cannot name the secret at `place`.
pub(super) fn no_secret(place: &Place) -> Problem {
    let hint =
        "put it into files/ or units/ of the layer; raw = true in [files] ships a file with this suffix as it is";
    place.error("a secret is declared by the tree that it is in, not by `source`").hint(hint)
}

fn too_large(place: &Place, size: u64) -> Problem {
    place.error(format!("a file has at most {FILE_LIMIT} bytes (16 MiB); this one has {size}"))
}

fn link(place: &Place, target: &[u8]) -> Result<String, Problem> {
    match std::str::from_utf8(target) {
        Ok(text) => link_target(text).map(|()| text.to_owned()).map_err(|why| place.error(why)),
        Err(_) => Err(place.error("the target of this symlink is not UTF-8")),
    }
}

/// Whether a symlink can point to `target`, symlink(2).
pub(super) fn link_target(target: &str) -> Result<(), String> {
    if target.is_empty() {
        return Err("the target of this symlink is empty".to_owned());
    }
    if target.len() >= paths::PATH_LIMIT {
        return Err(format!(
            "the target of a symlink has at most {} bytes; this one has {}",
            paths::PATH_LIMIT - 1,
            target.len()
        ));
    }
    if target.chars().any(char::is_control) {
        return Err("the target of a symlink cannot hold control characters".to_owned());
    }
    Ok(())
}
