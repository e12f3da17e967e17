use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Directory, Had, Snapshot, Source, SourceError};
use crate::host::Worker;
use crate::model::Revision;
use crate::worker::protocol::Walls;

/// Where a snapshot comes from.
#[derive(Debug)]
pub enum Origin {
    /// A commit.
    Git(Box<Source>),
    /// A directory as it is on disk.
    Directory(Directory),
}

type Result<T> = std::result::Result<T, SourceError>;

impl Origin {
    /// The fleet repository in `path`, `subdirectory` below it: what is committed at `HEAD`, where `path`
    /// is in a Git repository, else the directory as it is. Of a commit that was `had` already no object is read before
    /// it is needed.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn local(path: &Path, subdirectory: &str, worker: &Worker, had: Option<Had<'_>>) -> Result<Self> {
        let path = fs::canonicalize(path).map_err(|source| SourceError::Read { path: path.to_owned(), source })?;
        match repository_of(&path) {
            Some((repository, within)) => {
                let within =
                    within.to_str().ok_or_else(|| SourceError::Settings(format!("{} is not UTF-8", path.display())))?;
                let below = [within, subdirectory.trim_matches('/')].join("/");
                let below = below.trim_matches('/');
                Source::head(&repository, below, worker, had).map(|source| Self::Git(Box::new(source)))
            }
            None => Self::work_tree(&path, subdirectory),
        }
    }

    /// The directory `subdirectory` of `path` as it is on disk, under Git or not.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn work_tree(path: &Path, subdirectory: &str) -> Result<Self> {
        Directory::open(&path.join(subdirectory)).map(Self::Directory)
    }

    /// The commit that the branch names; `uncommitted` for a directory.
    pub fn tip(&self) -> &Revision {
        match self {
            Self::Git(source) => source.tip(),
            Self::Directory(directory) => directory.revision(),
        }
    }

    /// What stands around the fetch worker; none reads a directory.
    pub fn walls(&self) -> Option<Walls> {
        match self {
            Self::Git(source) => source.walls(),
            Self::Directory(_) => None,
        }
    }

    /// The commit that is read: the tip, unless the source was turned to another; `uncommitted` for a directory.
    pub fn revision(&self) -> &Revision {
        match self {
            Self::Git(source) => source.revision(),
            Self::Directory(directory) => directory.revision(),
        }
    }

    /// The commit that is read, as Git hashes it, without the header of the object; none of a directory.
    pub fn raw(&self) -> Option<&[u8]> {
        match self {
            Self::Git(source) => Some(source.raw()),
            Self::Directory(_) => None,
        }
    }

    /// The root of the fleet repository: `trueup.toml`, and the names of hosts and roles.
    ///
    /// # Errors
    /// See [`Source::snapshot`], [`Directory::snapshot`].
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        match self {
            Self::Git(source) => source.snapshot(),
            Self::Directory(directory) => directory.snapshot(),
        }
    }

    /// Reads the whole of `layers` into `snapshot`.
    ///
    /// # Errors
    /// See [`Source::read_layers`], [`Directory::read_layers`].
    pub fn read_layers(&mut self, snapshot: &mut Snapshot, layers: &[String]) -> Result<()> {
        match self {
            Self::Git(source) => source.read_layers(snapshot, layers),
            Self::Directory(directory) => directory.read_layers(snapshot, layers),
        }
    }
}

/// The repository that `path` is in, and where in it: the nearest directory upwards that is a bare
/// repository or has a `.git`.
fn repository_of(path: &Path) -> Option<(PathBuf, &Path)> {
    path.ancestors().find_map(|at| {
        // One that cannot be looked at is there, and says why when it is opened: what lies beside it is not the fleet's.
        let gone = |error: io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        if !fs::symlink_metadata(at.join(".git")).is_err_and(gone) {
            return Some((at.to_owned(), path.strip_prefix(at).expect("an ancestor is a prefix")));
        }
        let bare = at.join("HEAD").is_file() && at.join("objects").is_dir() && at.join("refs").is_dir();
        bare.then(|| (at.to_owned(), Path::new("")))
    })
}
