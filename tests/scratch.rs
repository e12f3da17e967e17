//! Files of scratch directories, in which tests set their scenes.

use std::fs;
use std::path::Path;

/// Writes the file `path`, and makes the directories that it lies in.
pub fn put(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().expect("below something")).expect("made");
    fs::write(path, content).expect("written");
}
