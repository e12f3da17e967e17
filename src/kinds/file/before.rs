use serde::{Deserialize, Serialize};

use super::tree::stale;
use super::written::WrittenBefore;
use super::{Node, Observed, Replace, Sealed, Spec, Standing, What};
use crate::host::{Error, Reader};
use crate::model::Digest;

/// What stood at a path before trueup wrote there. Owners are numbers, as on the disk; `None` where
/// they could not be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type", try_from = "WrittenBefore")]
pub enum Before {
    /// Nothing.
    Absent,
    /// A regular file; its content is kept by its digest.
    Regular {
        /// SHA-256 of the content.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// How it is kept where it may be a secret: encrypted to this host.
        #[serde(skip_serializing_if = "Kept::is_plain")]
        kept: Kept,
        /// Owner, group and mode.
        #[serde(flatten)]
        attributes: Attributes,
    },
    /// A regular file that was too long to be kept, so it is never overwritten.
    Large {
        /// Its length in bytes.
        size: u64,
        /// Owner, group and mode.
        #[serde(flatten)]
        attributes: Attributes,
    },
    /// A directory.
    Directory {
        /// What was in it, where it had to go with all that.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tree: Vec<Node>,
        /// Owner, group and mode.
        #[serde(flatten)]
        attributes: Attributes,
    },
    /// A symbolic link.
    Symlink {
        /// Where it pointed.
        target: String,
        /// Owner and group.
        #[serde(flatten)]
        attributes: Attributes,
    },
    /// A device, fifo or socket, which cannot be put back.
    Other,
}

/// How a content is kept: as it is, or encrypted. No property of what stood there, so all are equal.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kept(pub Option<Sealed>);

impl Kept {
    pub(super) fn is_plain(&self) -> bool {
        self.0.is_none()
    }
}

impl PartialEq for Kept {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Kept {}

/// Owner, group and mode that something had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Number of the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Number of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Permission bits.
    pub mode: u32,
    /// Those that it had without its access control list.
    #[serde(default, skip_serializing_if = "Unlisted::is_same")]
    pub unlisted: Unlisted,
}

/// The permission bits that something had without its access control list, where it had one: with it the group bits say
/// what the list grants at most; see acl(5). No look tells of it, so all are equal.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Unlisted(pub Option<u32>);

impl Unlisted {
    fn is_same(&self) -> bool {
        self.0.is_none()
    }
}

impl PartialEq for Unlisted {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Unlisted {}

impl Before {
    pub(super) fn of(seen: &Observed) -> Self {
        let Observed::Present(seen) = seen else { return Self::Absent };
        let attributes = Attributes {
            uid: seen.owner.as_ref().map(|owner| owner.id),
            gid: seen.group.as_ref().map(|group| group.id),
            mode: seen.mode,
            unlisted: Unlisted::default(),
        };
        match &seen.what {
            Standing::Regular { digest, size } => {
                Self::Regular { digest: *digest, size: *size, kept: Kept::default(), attributes }
            }
            Standing::Directory => Self::Directory { tree: Vec::new(), attributes },
            Standing::Symlink { target } => Self::Symlink { target: target.clone(), attributes },
            Standing::Large { size } => Self::Large { size: *size, attributes },
            Standing::Other(_) => Self::Other,
        }
    }

    /// This, with the mode that it had without its list.
    fn with_unlisted(mut self, mode: Option<u32>) -> Self {
        if let Self::Regular { attributes, .. } | Self::Directory { attributes, .. } = &mut self {
            attributes.unlisted = Unlisted(mode);
        }
        self
    }

    fn attributes(&self) -> Option<&Attributes> {
        match self {
            Self::Absent | Self::Other => None,
            Self::Regular { attributes, .. }
            | Self::Large { attributes, .. }
            | Self::Directory { attributes, .. }
            | Self::Symlink { attributes, .. } => Some(attributes),
        }
    }

    /// This, with owner, group and mode of `before`: those were ours to set since, the content was not.
    pub(super) fn renewed(&self, before: &Self) -> Self {
        let mut now = self.clone();
        if let (
            Self::Regular { attributes, .. }
            | Self::Large { attributes, .. }
            | Self::Directory { attributes, .. }
            | Self::Symlink { attributes, .. },
            Some(old),
        ) = (&mut now, before.attributes())
        {
            *attributes = *old;
        }
        now
    }

    /// The content that putting back needs, as it is kept.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Regular { digest, kept, .. } => Some(kept.0.map_or(*digest, |sealed| sealed.0)),
            _ => None,
        }
    }

    /// The same, where the content is kept encrypted.
    #[must_use]
    pub fn sealed(mut self, as_kept: Digest) -> Self {
        if let Self::Regular { kept, .. } = &mut self {
            *kept = Kept(Some(Sealed(as_kept)));
        }
        self
    }

    fn secret(&self) -> Option<Sealed> {
        if let Self::Regular { kept, .. } = self { kept.0 } else { None }
    }

    /// The contents of all that was in it, where it was a directory that had to go.
    pub fn of_tree(&self) -> impl Iterator<Item = Digest> {
        let nodes = if let Self::Directory { tree, .. } = self { tree.as_slice() } else { &[] };
        nodes.iter().filter_map(Node::content)
    }

    /// `before`, which stands at `path`, with the mode that it has without its access control list.
    ///
    /// # Errors
    /// Where that cannot be told, or it is no longer as it was seen (`stale`).
    pub fn told_of_list(self, host: &Reader, path: &str) -> Result<Self, Error> {
        let (Self::Regular { attributes, .. } | Self::Directory { attributes, .. }) = &self else { return Ok(self) };
        let Some((meta, unlisted)) = host.unlisted(path)? else { return Err(stale(path)) };
        let is = |id: Option<u32>, now| id.is_none_or(|id| id == now);
        if meta.mode != attributes.mode || !is(attributes.uid, meta.uid) || !is(attributes.gid, meta.gid) {
            return Err(stale(path));
        }
        Ok(self.with_unlisted(unlisted))
    }

    pub(super) fn put_back(&self, last: &Spec) -> Option<Spec> {
        let old = self.attributes();
        if last.what == What::Attributes {
            // Only what was ours to set goes back.
            let old = old?;
            return Some(Spec {
                owner: last.owner.as_ref().and(old.uid).map(|uid| uid.to_string()),
                group: last.group.as_ref().and(old.gid).map(|gid| gid.to_string()),
                mode: last.mode.and(Some(old.mode)).filter(|_| !matches!(self, Self::Symlink { .. })),
                unlisted: last.mode.and(old.unlisted.0),
                ..Spec::of(What::Attributes)
            });
        }
        self.as_found()
    }

    /// What `want` comes to after `last`: what that had set, and nobody asks for any more, is as it was before.
    pub(super) fn after(&self, want: &Spec, last: &Spec) -> Spec {
        let mut due = want.clone();
        match (&want.what, &last.what) {
            (What::Attributes, what) => {
                let old = self.attributes();
                let back = |id: Option<u32>, last: &Option<String>| last.as_ref().and(id).map(|id| id.to_string());
                due.owner = due.owner.or_else(|| back(old?.uid, &last.owner));
                due.group = due.group.or_else(|| back(old?.gid, &last.group));
                if let (None, Some(_), Some(old)) = (due.mode, last.mode, old) {
                    (due.mode, due.unlisted) = (Some(old.mode), old.unlisted.0);
                }
                // What we made ourselves is nobody else's to come back.
                if *what != What::Attributes
                    && *self != Self::Absent
                    && let Some(found) = self.as_found()
                {
                    (due.what, due.replace, due.secret) = (found.what, Replace::Own, found.secret);
                }
            }
            // A directory that had to go comes back with what was in it.
            (What::Directory, What::Regular { .. } | What::Sealed { .. } | What::Symlink { .. } | What::Absent) => {
                if let Self::Directory { tree, .. } = self
                    && !tree.is_empty()
                {
                    due.what = What::Tree { nodes: tree.clone() };
                }
            }
            _ => {}
        }
        due
    }

    /// What stood there, whatever has been there since.
    pub(super) fn as_found(&self) -> Option<Spec> {
        let old = self.attributes();
        let what = match self {
            Self::Absent => What::Absent,
            Self::Regular { digest, size, .. } => What::Regular { content: *digest, size: *size },
            Self::Directory { tree, .. } if tree.is_empty() => What::Directory,
            Self::Directory { tree, .. } => What::Tree { nodes: tree.clone() },
            Self::Symlink { target, .. } => What::Symlink { target: target.clone() },
            Self::Large { .. } | Self::Other => return None,
        };
        Some(Spec {
            owner: old.and_then(|old| old.uid).map(|uid| uid.to_string()),
            group: old.and_then(|old| old.gid).map(|gid| gid.to_string()),
            mode: old.map(|old| old.mode).filter(|_| !matches!(what, What::Symlink { .. })),
            unlisted: old.and_then(|old| old.unlisted.0),
            what,
            replace: Replace::Own,
            validate: Vec::new(),
            secret: self.secret(),
        })
    }
}
