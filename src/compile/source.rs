//! `source =`: content from another file of the repository.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::layers::Layers;
use super::merge::Place;
use super::paths;
use super::tree;
use super::work::Work;
use crate::manifest::{Problem, Stand, nearest};
use crate::model::one_line;
use crate::source::Entry;

/// A file that a `source` names, as it stands in the repository.
pub(super) struct File {
    pub place: Place,
    pub content: Arc<[u8]>,
    pub executable: bool,
    /// How many times it is to be rendered: its `.j2` suffixes.
    pub templates: usize,
}

/// The path in the repository that layer `layer` means by `source`: below its own directory, or, with a slash at the
/// beginning, below the root of the fleet repository.
fn full(layer: &str, source: &str) -> String {
    match source.strip_prefix('/') {
        Some(from_root) => from_root.to_owned(),
        None => format!("{layer}/{source}"),
    }
}

/// The directories of the repository below which a `source` of some layer names something, as `roles/web/shared`.
pub(super) fn directories(layers: &Layers) -> BTreeSet<String> {
    let named = layers.0.iter().flat_map(|here| {
        let stands = here.layer.files.iter().filter_map(|entry| entry.stand.as_ref());
        stands.filter_map(|stand| match &stand.value {
            Stand::Source(source) => Some(full(&here.name, source)),
            _ => None,
        })
    });
    named.flat_map(|path| path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect::<Vec<_>>()).collect()
}

/// The file that `layer` means by `source`, said at `place`. With `raw` its suffixes belong to its name.
///
/// # Errors
/// Where it is none, or none that this host may have.
pub(super) fn find(
    work: &Work<'_>,
    layer: usize,
    source: &str,
    place: &Place,
    raw: bool,
) -> Result<File, Box<Problem>> {
    let shown = one_line(source, 200);
    let path = full(&work.layers.0[layer].name, source);
    let error = |why: String| Box::new(place.error(why));
    if let Err(refused) = paths::well_formed(&format!("/{path}")) {
        let hint =
            "it is a path below the directory of this layer, or below the root of the repository: \"/roles/web/x\"";
        return Err(Box::new(place.error(format!("`source` \"{shown}\": {}", refused.why)).hint(hint)));
    }
    if !work.layers.0[1..].iter().any(|here| paths::is_or_below(&path, &here.name)) {
        let hint = "a host reads its own directory and those of its roles, and nothing else of the repository";
        return Err(Box::new(place.error(format!("`{shown}` is in no layer of this host")).hint(hint)));
    }
    let Some(entry) = work.snapshot.entries.get(&path) else { return Err(missing(work, &path, &shown, place)) };
    let own = Place { path: path.clone(), span: None };
    let (content, executable) = match entry {
        Entry::Symlink { .. } => {
            return Err(error(format!("`{shown}` is a symbolic link, which is never followed; name the file itself")));
        }
        entry => tree::regular(&own, entry)?,
    };
    let mut templates = 0;
    let mut name = path.as_str();
    while let Some(stem) = name.strip_suffix(".j2").filter(|_| !raw) {
        templates += 1;
        name = stem;
    }
    if name.ends_with(".age") && !raw {
        return Err(Box::new(tree::no_secret(&own)));
    }
    Ok(File { place: own, content: Arc::clone(content), executable, templates })
}

/// Why there is no file at `path`.
fn missing(work: &Work<'_>, path: &str, shown: &str, place: &Place) -> Box<Problem> {
    let entries = &work.snapshot.entries;
    let inside = format!("{path}/");
    if entries.range(inside.clone()..).next().is_some_and(|(path, _)| path.starts_with(&inside)) {
        return Box::new(place.error(format!("`{shown}` is a directory; `source` names one file")));
    }
    let above = path.match_indices('/').find_map(|(at, _)| Some((&path[..at], entries.get(&path[..at])?)));
    let why = match &above {
        Some((above, Entry::Symlink { .. })) => {
            format!("`{shown}`: {above} is a symbolic link, which is never followed")
        }
        Some((above, Entry::Submodule)) => format!("`{shown}`: {above} is a submodule, which cannot be used"),
        Some((above, _)) => format!("`{shown}`: {above} is a file"),
        None => format!("there is no file `{}` in the repository", one_line(path, 200)),
    };
    let layers = work.layers.0[1..].iter().map(|here| here.name.as_str());
    let files =
        entries.keys().map(String::as_str).filter(|file| layers.clone().any(|layer| paths::is_or_below(file, layer)));
    let problem = place.error(why);
    Box::new(match nearest(path, files).filter(|_| above.is_none()) {
        Some(near) => problem.hint(format!("did you mean \"/{near}\"?")),
        None => problem,
    })
}
