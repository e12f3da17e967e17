use super::{Observed, Present, Spec, Standing, What};

/// What a change of type does to the paths below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A link, or a file, goes: what was reached by way of it is no longer there.
    Opens,
    /// A directory goes, or becomes something else: nothing can be below it any more.
    Closes,
}

/// What converging to `want` does to the paths below, where `seen` stands now.
pub fn turn(want: &Spec, seen: &Observed) -> Option<Turn> {
    let Observed::Present(Present { what, .. }) = seen else { return None };
    match (&want.what, what) {
        (What::Attributes, _) | (What::Directory | What::Tree { .. }, Standing::Directory) => None,
        (_, Standing::Directory) => Some(Turn::Closes),
        (What::Symlink { target: to }, Standing::Symlink { target: from }) => (to != from).then_some(Turn::Opens),
        (What::Regular { .. } | What::Sealed { .. }, Standing::Regular { .. } | Standing::Large { .. }) => None,
        _ => Some(Turn::Opens),
    }
}

impl Observed {
    /// The length of what stands there in bytes; nothing of what has no content.
    pub fn size(&self) -> u64 {
        match self {
            Self::Present(Present { what: Standing::Regular { size, .. } | Standing::Large { size }, .. }) => *size,
            _ => 0,
        }
    }

    /// A directory stands there.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Present(Present { what: Standing::Directory, .. }))
    }

    /// A symbolic link stands there.
    pub fn is_link(&self) -> bool {
        matches!(self, Self::Present(Present { what: Standing::Symlink { .. }, .. }))
    }
}
