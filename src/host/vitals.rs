//! How the machine under us is: disks, locks, sockets. For whoever asks why trueup cannot work on it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::StatVfsMountFlags;

use super::{Error, Reader};
use crate::model::one_line;

/// A file system, as statvfs(3) tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that anybody may still write.
    pub free: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Files that can still be made; file systems without a fixed number have none of either.
    pub files_free: u64,
    /// How many files it can hold; 0 where that is not fixed.
    pub files: u64,
    /// Mounted read-only.
    pub read_only: bool,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// The name of its program, as the kernel has it; escaped, bounded.
    pub name: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

impl Reader {
    /// The file system that `path` is on, or would be made on.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn disk(&self, path: &str) -> Result<Disk, Error> {
        let mut at = self.below_root(path);
        while !at.exists() && at.pop() {}
        let stat = rustix::fs::statvfs(&at).map_err(|errno| Error::Io {
            doing: "look at the file system of",
            path: PathBuf::from(path),
            source: errno.into(),
        })?;
        Ok(Disk {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            size: stat.f_blocks.saturating_mul(stat.f_frsize),
            files_free: stat.f_favail,
            files: stat.f_files,
            read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
        })
    }

    /// Who holds a lock on the file `path`; `None` where nobody does, or it is not there.
    ///
    /// # Errors
    /// Where the file cannot be looked at.
    pub fn lock_holder(&self, path: &str) -> Result<Option<Holder>, Error> {
        let meta = match fs::symlink_metadata(self.below_root(path)) {
            Ok(meta) => meta,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { doing: "look at", path: PathBuf::from(path), source }),
        };
        Ok(lock_holder(meta.ino()).map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_else(|_| "a process".to_owned());
            Holder { pid, name: one_line(name.trim_end(), 40) }
        }))
    }
}

/// Which process holds a lock for writing on the file with this inode, as far as /proc/locks (proc_locks(5)) tells.
pub(super) fn lock_holder(inode: u64) -> Option<u32> {
    holder_in(&fs::read_to_string("/proc/locks").ok()?, inode)
}

/// Locks by flock(2), and by fcntl(2) as package managers have them. One that is only waited for has an arrow.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    let inode = format!(":{inode}");
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK" | "POSIX", _, "WRITE", pid, node, ..] if node.ends_with(&inode) => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, Reader) {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let reader = Reader::directory(directory.path()).expect("opened");
        (directory, reader)
    }

    #[test]
    fn a_missing_directory_is_on_the_disk_it_would_be_made_on() {
        let (_directory, reader) = scratch();
        let disk = reader.disk("/").expect("looked at");
        assert!(disk.size > 0 && disk.free <= disk.size, "{disk:?}");
        assert_eq!(reader.disk("/var/lib/trueup").expect("looked at").size, disk.size);
    }

    #[test]
    fn the_holder_of_a_lock_is_the_one_that_has_it() {
        let locks = "1: POSIX  ADVISORY  READ 10 08:01:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 11 08:01:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 12 08:01:77 0 EOF\n\
                     4: POSIX  ADVISORY  WRITE 13 08:01:177 0 EOF\n";
        assert_eq!(holder_in(locks, 77), Some(12));
        assert_eq!(holder_in(locks, 177), Some(13));
        assert_eq!(holder_in(locks, 7), None);
    }

    #[test]
    fn our_own_lock_names_us() {
        let (_directory, reader) = scratch();
        assert_eq!(reader.lock_holder("/var/lib/trueup/lock").expect("looked at"), None);
        let lock = reader.state().lock().expect("taken");
        let holder = reader.lock_holder("/var/lib/trueup/lock").expect("looked at").expect("held");
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.name.is_empty());
        drop(lock);
        assert_eq!(reader.lock_holder("/var/lib/trueup/lock").expect("looked at"), None);
    }
}
