//! Storey 4: from a source to a verified [`Snapshot`].
//!
//! [`Source`] speaks with the fetch worker, a process of its own, over a pipe, and believes nothing it
//! says: every object is hashed, from the commit down. [`Record`] is our own synced memory of where each
//! branch was, and only what contains that is accepted; an older commit only by root's word. [`Directory`] is a plain directory, for checking
//! and trying out; [`Origin`] is either. [`Health`] remembers which URL is asked first. [`trust`] judges whose commits are believed.

mod directory;
mod error;
mod gate;
mod git;
mod health;
mod objects;
mod origin;
mod pipe;
mod record;
mod snapshot;
mod still;
pub mod trust;

pub use directory::Directory;
pub use error::SourceError;
pub use gate::{Gate, Passed};
pub use git::{Back, Known, Source, Stands, walls};
pub use health::{Failing, Health, SharedHealth};
pub use origin::Origin;
pub use record::{Anew, BranchRecord, Mark, Record, judge};
pub use snapshot::{BadName, Entry, Snapshot};
pub use still::Had;

pub use crate::worker::protocol::Walls;

/// How deep directories may be nested.
const DEEPEST: usize = 64;
/// How many files and directories of one revision are read at most.
const MOST_ENTRIES: usize = 200_000;
/// How many bytes the paths of those have together at most.
const MOST_NAMES: usize = 32 << 20;
/// The longest path in the repository, and the longest target of a link, in bytes; DESIGN §3.
const LONGEST_PATH: usize = 4096;
/// How many bytes of one revision are read at most.
const MOST_BYTES: u64 = 512 << 20;
