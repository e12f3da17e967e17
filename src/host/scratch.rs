use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Error, write_new};

/// How the name of each begins; who made it follows.
const NAME: &str = "trueup-secret-";

/// A directory in memory, its owner's alone, that goes with this, whatever an editor has left in it. Where the process was
/// killed, the next [`Scratch::sweep`] of its user takes it away.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Held for as long as it is in use.
    _lock: File,
}

impl Scratch {
    /// A new one.
    ///
    /// # Errors
    /// Where there is no file system in memory to make it on: nothing is written to a disk instead.
    pub fn new() -> Result<Self, Error> {
        let mut last = Error::Unknown { thing: "/dev/shm".to_owned(), why: "is not in memory".to_owned() };
        for place in places() {
            match Self::below(&place) {
                Ok(scratch) => return Ok(scratch),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn below(place: &Path) -> Result<Self, Error> {
        // Somebody else may have taken a name, or one of ours for a left-over.
        const TRIES: u32 = 16;
        let name = |n: u32| place.join(format!("{NAME}{}-{n}", std::process::id()));
        let mut last = io::ErrorKind::AlreadyExists.into();
        for path in (0..TRIES).map(name) {
            match make(&path) {
                Ok(Some(lock)) => return Ok(Self { path, _lock: lock }),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(source) => return Err(Error::Io { doing: "make", path, source }),
            }
        }
        Err(Error::Io { doing: "make", path: name(0), source: last })
    }

    /// Writes a file into it; where it is.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn put(&self, name: &str, content: &[u8]) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        write_new(&path, content).map(|()| path)
    }

    /// Removes what processes of this user have left that were killed.
    pub fn sweep() {
        places().for_each(|place| sweep(&place));
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Makes the directory `path` and holds its lock; `None` where it was taken for a left-over between the two.
fn make(path: &Path) -> io::Result<Option<File>> {
    DirBuilder::new().mode(0o700).create(path)?;
    let lock = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    // Who takes it for a left-over holds this until it is gone.
    lock.lock()?;
    let own = lock.metadata()?;
    let stands = fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()));
    Ok(stands.then_some(lock))
}

/// Removes what is left in `place`: nobody holds the lock on it any more.
fn sweep(place: &Path) {
    let us = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(NAME.as_bytes()) {
            continue;
        }
        let Ok(directory) = open(&entry.path()) else { continue };
        if directory.metadata().is_ok_and(|meta| meta.uid() == us) && directory.try_lock().is_ok() {
            // What cannot be removed now is removed by the next.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Where one may be, the best first.
fn places() -> impl Iterator<Item = PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    own.into_iter().chain([PathBuf::from("/dev/shm")]).filter(|place| in_memory(place))
}

/// Whether what is written to `place` stays in memory, statfs(2).
fn in_memory(place: &Path) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    rustix::fs::statfs(place).is_ok_and(|found| [TMPFS, RAMFS].contains(&found.f_type))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_in_use_stays_and_what_was_left_goes() {
        let place = tempfile::tempdir().expect("a scratch directory");
        let outside = tempfile::tempdir().expect("a scratch directory");
        let (used, other) = (Scratch::below(place.path()).expect("made"), Scratch::below(place.path()).expect("made"));
        used.put("key", b"x").expect("written");
        assert_ne!(used.path, other.path);
        // As a process leaves it that is killed: nothing has been done but to give the lock up.
        let left = other.put("key", b"x").expect("written");
        let left = left.parent().expect("a directory").to_owned();
        let Scratch { path, _lock: lock } = &other;
        lock.unlock().expect("given up");
        fs::write(outside.path().join("x"), "x").expect("written");
        symlink(outside.path(), place.path().join(format!("{NAME}1-0"))).expect("made");
        fs::create_dir(place.path().join("trueup-other")).expect("made");
        sweep(place.path());
        assert!(left == *path && !left.exists());
        assert!(used.path.join("key").exists() && outside.path().join("x").exists());
        assert!(place.path().join("trueup-other").exists());
        let mine = used.path.clone();
        drop(used);
        assert!(!mine.exists());
    }

    #[test]
    fn a_name_that_is_taken_is_passed_over() {
        let place = tempfile::tempdir().expect("a scratch directory");
        fs::write(place.path().join(format!("{NAME}{}-0", std::process::id())), "").expect("written");
        assert!(Scratch::below(place.path()).expect("made").path.ends_with(format!("{NAME}{}-1", std::process::id())));
        let error = Scratch::below(&place.path().join("none")).expect_err("no directory");
        assert_eq!(error.reason(), "io-error");
    }
}
