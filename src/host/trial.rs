use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Error, Writer};

/// Where trials are, root's alone.
const TRIALS: &str = "/run/trueup/trial";

/// A private directory with copies of files that are to be judged before they are installed; it goes with this.
#[derive(Debug)]
pub struct Trial {
    directory: PathBuf,
}

impl Writer {
    /// A new one, empty. What a process that was killed has left is removed: there is one pass at a time.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn trial(&self) -> Result<Trial, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let all = self.below_root(TRIALS);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let own = format!("{}-", std::process::id());
        let directory = all.join(format!("{own}{number}"));
        let failed = |source| Error::Io { doing: "make", path: directory.clone(), source };
        for left in fs::read_dir(&all).into_iter().flatten().flatten() {
            if !left.file_name().to_string_lossy().starts_with(&own) {
                // What cannot be removed now is removed by the next.
                let _ = fs::remove_dir_all(left.path());
            }
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&all).map_err(failed)?;
        DirBuilder::new().mode(0o700).create(&directory).map_err(failed)?;
        Ok(Trial { directory })
    }
}

impl Trial {
    /// Puts a file there, root's alone; where it is. `name` is relative, of our own making.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn put(&self, name: &str, content: &[u8]) -> Result<PathBuf, Error> {
        let path = self.directory.join(name);
        let written = || -> io::Result<()> {
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?.write_all(content)
        };
        match written() {
            Ok(()) => Ok(path),
            Err(source) => Err(Error::Io { doing: "write", path, source }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
