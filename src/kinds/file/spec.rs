use serde::{Deserialize, Serialize};

use super::Node;
use super::written::WrittenSpec;
use crate::model::Digest;
use crate::secret::Locked;

/// What is wanted at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenSpec")]
pub struct Spec {
    /// What stands there.
    #[serde(flatten)]
    pub what: What,
    /// User name or number; `None` leaves the owner alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Group name or number; `None` leaves the group alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Permission bits, `0o7777` at most; `None` leaves the mode alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Those where it has no access control list, where `mode` was told of something with one. Never declared, only used
    /// to put back what stood there before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<u32>,
    /// What may be in the way and be replaced.
    #[serde(skip_serializing_if = "Replace::is_nothing")]
    pub replace: Replace,
    /// What judges it before it is installed, `{}` being the new file; no property of what stands there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub validate: Vec<String>,
    /// It is a secret: nothing of its content is shown, and our own copy of that is this payload, which is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Sealed>,
}

/// The digest of a content as it is stored, encrypted. Two sealings of one content differ in every byte and mean the same,
/// so all are equal: the content is compared by its own digest.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub Digest);

impl PartialEq for Sealed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Sealed {}

impl Spec {
    /// This, whoever it belongs to, and nothing else said of it.
    pub fn of(what: What) -> Self {
        Self {
            what,
            owner: None,
            group: None,
            mode: None,
            unlisted: None,
            replace: Replace::Nothing,
            validate: Vec::new(),
            secret: None,
        }
    }

    /// The payload that it needs, if any.
    pub fn payload(&self) -> Option<Digest> {
        match &self.what {
            What::Regular { content, .. } => Some(self.secret.map_or(*content, |sealed| sealed.0)),
            _ => None,
        }
    }
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum What {
    /// Nothing.
    Absent,
    /// A regular file with this content.
    Regular {
        /// SHA-256 of the content; the content itself is a payload.
        content: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A directory with what was in it. Never declared, only used to put back what stood there before; a directory
    /// that stands there already is left as it is.
    Tree {
        /// What was in it, parents first.
        nodes: Vec<Node>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: String,
    },
    /// Whatever it is; only owner, group and mode are ours.
    Attributes,
    /// A secret that cannot be read here: what stands there is kept.
    Sealed {
        /// Why not.
        why: Locked,
    },
}

/// What may be in the way and be replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Replace {
    /// Nothing of another type.
    #[default]
    Nothing,
    /// A symbolic link.
    Symlink,
    /// A directory with all that is below it.
    Directory,
    /// Anything but a mount point.
    Any,
    /// What trueup put there itself: anything of these but a directory with something in it. Never
    /// declared, only used to put back what stood there before.
    Own,
}

/// `want`, where what stands there is `last`, which trueup put there itself: that is in nobody's way.
pub fn over_own(want: &Spec, last: &What) -> Spec {
    let replace = match (want.replace, last) {
        (replace, What::Attributes | What::Absent) => replace,
        (Replace::Nothing | Replace::Symlink, _) => Replace::Own,
        (Replace::Directory, What::Regular { .. } | What::Symlink { .. }) => Replace::Any,
        (replace, _) => replace,
    };
    Spec { replace, ..want.clone() }
}

impl Replace {
    fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}
