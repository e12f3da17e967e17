use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Error;

/// Writes `content` to a new file that only its owner can read: something of ours that somebody asked to have.
///
/// # Errors
/// Where something is there already, or it cannot be written; nothing is left behind then.
pub fn write_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Io { doing: "write", path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|source| {
        // The error that matters is the first.
        let _ = fs::remove_file(path);
        failed(source)
    })
}

/// A directory in memory, its owner's alone, that goes with this, whatever an editor has left in it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new one.
    ///
    /// # Errors
    /// Where there is no file system in memory to make it on: nothing is written to a disk instead.
    pub fn new() -> Result<Self, Error> {
        let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let places = own.into_iter().chain([PathBuf::from("/dev/shm")]);
        let mut last = Error::Unknown { thing: "/dev/shm".to_owned(), why: "is not in memory".to_owned() };
        for place in places.filter(|place| in_memory(place)) {
            let path = place.join(format!("trueup-secret-{}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(source) => last = Error::Io { doing: "make", path, source },
            }
        }
        Err(last)
    }

    /// Writes a file into it; where it is.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn put(&self, name: &str, content: &[u8]) -> Result<PathBuf, Error> {
        let path = self.0.join(name);
        write_new(&path, content).map(|()| path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether what is written to `place` stays in memory, statfs(2).
fn in_memory(place: &Path) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    rustix::fs::statfs(place).is_ok_and(|found| [TMPFS, RAMFS].contains(&found.f_type))
}

/// Runs `command`, words that a shell would split, on `path` at this terminal, and waits for it. Where `end` is set
/// meanwhile it is ended: `false`.
///
/// # Errors
/// Where it cannot be started, or ends badly.
pub fn edit(command: &str, path: &Path, end: &AtomicBool) -> Result<bool, Error> {
    const NOTICE: Duration = Duration::from_millis(50);
    let failed = |source| Error::Start { program: command.to_owned(), source };
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let mut child = std::process::Command::new(program).args(words).arg(path).spawn().map_err(failed)?;
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(true),
            Some(status) => {
                return Err(Error::Program {
                    program: command.to_owned(),
                    status: status.to_string(),
                    tail: String::new(),
                });
            }
            None if end.load(Ordering::SeqCst) => {
                let _ = child.kill();
                let _ = child.wait();
                return Ok(false);
            }
            None => std::thread::sleep(NOTICE),
        }
    }
}
