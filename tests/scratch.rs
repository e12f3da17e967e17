//! Files of scratch directories, in which tests set their scenes.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A scratch directory, in it a directory that stands for a host, and where its repository is to be.
pub fn root_and_repo() -> (TempDir, PathBuf, PathBuf) {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let (root, repo) = (scratch.path().join("root"), scratch.path().join("repo"));
    fs::create_dir(&root).expect("made");
    (scratch, root, repo)
}

/// Writes the file `path`, and makes the directories that it lies in.
pub fn put(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().expect("below something")).expect("made");
    fs::write(path, content).expect("written");
}
