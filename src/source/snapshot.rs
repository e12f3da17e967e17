use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::Revision;

/// What has been read of one revision of the fleet repository: `trueup.toml`, the names of all hosts
/// and roles, and the whole content of the layers asked for so far. Paths are relative to the fleet
/// repository's root (`source.path` is already taken off), `/` between components.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Which commit.
    pub revision: Revision,
    /// Names of the directories directly below `hosts/`.
    pub hosts: BTreeSet<String>,
    /// Names of the directories directly below `roles/`.
    pub roles: BTreeSet<String>,
    /// Layers whose content is in `entries`: `hosts/web-01`, `roles/base`.
    pub layers: BTreeSet<String>,
    /// By path: `trueup.toml`, and everything below the layers that were read.
    pub entries: BTreeMap<String, Entry>,
}

/// One leaf of the tree of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File {
        /// Its content.
        content: Arc<[u8]>,
        /// Whether Git has the executable bit.
        executable: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Arc<[u8]>,
    },
    /// A submodule, which is never followed.
    Submodule,
    /// A file over the limit; its content was not read.
    TooLarge {
        /// Its length in bytes.
        size: u64,
    },
    /// A name that cannot be used; the path holds it escaped.
    BadName(BadName),
}

/// Why a name cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadName {
    /// It is not UTF-8.
    NotUtf8,
    /// It holds a control character.
    Control,
    /// It, or the path that it ends, is longer than Linux takes.
    TooLong,
}
