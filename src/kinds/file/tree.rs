//! Directories that go with all that is in them: a copy of that is kept.

use serde::{Deserialize, Serialize};

use super::before::{self, Before, Kept, Unlisted};
use super::secret;
use super::{Observed, Replace, Spec, Turn, What, turn};
use crate::host::{Attributes, Error, NodeType, Payloads, Reader, Stage, TreeLimits};
use crate::model::Digest;
use crate::secret::Keys;

/// Of more than this no copy is kept, so it is not replaced.
pub(super) const LIMITS: TreeLimits = TreeLimits { nodes: 1_000, bytes: 64 << 20 };

/// Something that was in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its path within the directory.
    pub path: String,
    /// Its type and content.
    #[serde(flatten)]
    pub what: Leaf,
    /// Owner, group and mode.
    #[serde(flatten)]
    pub attributes: before::Attributes,
}

/// Type and content of a [`Node`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Leaf {
    /// A regular file; its content is kept by its digest.
    Regular {
        /// SHA-256 of the content.
        digest: Digest,
        /// How it is kept where it may be a secret.
        #[serde(default, skip_serializing_if = "Kept::is_plain")]
        kept: Kept,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it pointed.
        target: String,
    },
}

impl Node {
    pub(super) fn content(&self) -> Option<Digest> {
        match &self.what {
            Leaf::Regular { digest, kept } => Some(kept.0.map_or(*digest, |sealed| sealed.0)),
            _ => None,
        }
    }

    /// Makes it again in the directory `at`.
    pub(super) fn put(&self, keys: &dyn Keys, stage: &Stage<'_>, payloads: &Payloads, at: &str) -> Result<(), Error> {
        let before::Attributes { uid, gid, mode, .. } = self.attributes;
        let attributes = Attributes { uid, gid, mode: Some(mode), unlisted: None };
        match &self.what {
            Leaf::Directory => stage.directory(&self.path, attributes),
            Leaf::Symlink { target } => stage.symlink(&self.path, target, attributes),
            Leaf::Regular { digest, kept } => {
                let name = format!("{at}/{}", self.path);
                match kept.0 {
                    None => stage.file(&self.path, attributes, &payloads.need(digest, &name)?),
                    Some(sealed) => {
                        let plain = secret::open(keys, payloads, &name, (digest, sealed))?;
                        stage.file(&self.path, attributes, &plain)
                    }
                }
            }
        }
    }

    /// What letting go of `path` by `want` leaves there.
    fn of(path: &str, want: &Spec) -> Option<Self> {
        let what = match &want.what {
            What::Regular { content, .. } => Leaf::Regular { digest: *content, kept: Kept(want.secret) },
            What::Symlink { target } => Leaf::Symlink { target: target.clone() },
            What::Directory => Leaf::Directory,
            What::Absent | What::Attributes | What::Tree { .. } | What::Sealed { .. } => return None,
        };
        let number = |name: &Option<String>| name.as_ref().and_then(|name| name.parse().ok());
        let (uid, gid) = (number(&want.owner), number(&want.group));
        let mode = want.unlisted.or(want.mode).unwrap_or(0o644);
        let attributes = before::Attributes { uid, gid, mode, unlisted: Unlisted::default() };
        Some(Self { path: path.to_owned(), what, attributes })
    }
}

/// What a copy was to be made of is no longer what it was.
pub(super) fn stale(path: &str) -> Error {
    Error::Refused {
        thing: path.to_owned(),
        reason: "stale",
        why: "it changed while a copy was made; the next pass looks again".to_owned(),
    }
}

/// Whether converging to `want` takes a directory away with all that is in it.
pub fn goes_whole(want: &Spec, seen: &Observed) -> bool {
    turn(want, seen) == Some(Turn::Closes) && matches!(want.replace, Replace::Directory | Replace::Any)
}

/// How many bytes a copy of the directory `path` comes to.
///
/// # Errors
/// Where none can be kept.
pub fn tree_size(host: &Reader, path: &str) -> Result<u64, Error> {
    let nodes = host.tree(path, LIMITS)?;
    Ok(nodes.iter().filter(|(_, meta, _)| meta.node == NodeType::Regular).map(|(_, meta, _)| meta.size).sum())
}

/// What stands at `path`, a directory that goes, with all that is in it; each content is handed to `keep`, with its path within, which tells
/// how it is kept. What is
/// let go in the same pass (`let_go`: path within, and what it is brought to) is there as letting go leaves it, and
/// directories that were made for it only (`implied`) are not.
///
/// # Errors
/// Where no copy can be kept of something, it is too much, or `keep` fails.
pub fn keep_tree<E: From<Error>>(
    host: &Reader,
    path: &str,
    seen: &Observed,
    let_go: &[(&str, &Spec)],
    implied: &dyn Fn(&str) -> bool,
    mut keep: impl FnMut(&str, &[u8]) -> Result<Kept, E>,
) -> Result<Before, E> {
    let owns = host.can_own() && host.has_users();
    let mut tree = Vec::new();
    for (within, mut meta, target) in host.tree(path, LIMITS)? {
        if let_go.iter().any(|(gone, want)| *gone == within && want.what != What::Attributes) {
            continue;
        }
        let full = format!("{path}/{within}");
        let what = match (meta.node, target) {
            (NodeType::Regular, _) => {
                let (content, told) = host.read_told(&full, LIMITS.bytes)?.ok_or_else(|| stale(&full))?;
                // Owner and mode of the very file: another may stand there by now.
                meta = told;
                let kept = keep(&within, &content)?;
                Leaf::Regular { digest: Digest::of(&content), kept }
            }
            (_, Some(target)) => Leaf::Symlink { target },
            _ => Leaf::Directory,
        };
        let (uid, gid) = (owns.then_some(meta.uid), owns.then_some(meta.gid));
        let mut attributes = before::Attributes { uid, gid, mode: meta.mode, unlisted: Unlisted::default() };
        if meta.node != NodeType::Symlink {
            // It is made again without its list.
            let (now, unlisted) = host.unlisted(&full)?.ok_or_else(|| stale(&full))?;
            if (now.inode, now.changed) != (meta.inode, meta.changed) {
                return Err(stale(&full).into());
            }
            attributes.mode = unlisted.unwrap_or(meta.mode);
        }
        tree.push(Node { path: within, what, attributes });
    }
    tree.extend(let_go.iter().filter_map(|(within, want)| Node::of(within, want)));
    tree.sort_by(|a, b| a.path.cmp(&b.path));
    for at in (0..tree.len()).rev() {
        let inside = format!("{}/", tree[at].path);
        let empty = !tree.iter().any(|node| node.path.starts_with(&inside));
        if tree[at].what == Leaf::Directory && empty && implied(&format!("{path}/{}", tree[at].path)) {
            tree.remove(at);
        }
    }
    Ok(match Before::of(seen).told_of_list(host, path)? {
        Before::Directory { attributes, .. } => Before::Directory { tree, attributes },
        other => other,
    })
}
