//! The work tree of somebody's checkout: written below one directory, whatever links are in it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::Error;

/// A directory, and what may be written below it. No symbolic link on the way is followed, so nothing is written
/// elsewhere. What is made belongs to whom the directory around it belongs: root may do this in somebody's checkout.
#[derive(Debug)]
pub struct WorkTree {
    path: PathBuf,
    dir: OwnedFd,
}

/// Opens a directory on the way.
const ON: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl WorkTree {
    /// The directory `path`.
    ///
    /// # Errors
    /// Where it is none, or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| Error::Io {
            doing: "open",
            path: path.to_owned(),
            source: errno.into(),
        })?;
        Ok(Self { path: path.to_owned(), dir })
    }

    /// Writes the file `path`, whose components are plain names: the complete old or the complete new one is there at every
    /// instant. Where `new`, what stands there by now is left alone.
    ///
    /// # Errors
    /// Where a link or a file is on the way, something else stands there, or it cannot be written; the old one is there then.
    pub fn put(&self, path: &str, content: &[u8], mode: u32, new: bool) -> Result<(), Error> {
        let (dir, name) = self.parent(path)?;
        let staged = format!(".trueup-{}~", std::process::id());
        let written = || -> Result<(), Errno> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&dir, staged.as_str(), flags, Mode::from_raw_mode(0o600))?;
            if let Some((uid, gid)) = owner_of(dir.as_fd())? {
                rustix::fs::fchown(&file, Some(uid), Some(gid))?;
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            let mut file = File::from(file);
            file.write_all(content)
                .and_then(|()| file.sync_all())
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            rename(dir.as_fd(), &staged, name, new)
        };
        self.or_clean(path, dir.as_fd(), &staged, written())
    }

    /// Makes the symbolic link `path`, as [`WorkTree::put`] does a file.
    ///
    /// # Errors
    /// As [`WorkTree::put`].
    pub fn link(&self, path: &str, target: &str, new: bool) -> Result<(), Error> {
        let (dir, name) = self.parent(path)?;
        let staged = format!(".trueup-{}~", std::process::id());
        let made = || -> Result<(), Errno> {
            rustix::fs::symlinkat(target, &dir, staged.as_str())?;
            if let Some(owner) = owner_of(dir.as_fd())? {
                // Whoever owns the directory may have put something else in its place.
                let made = rustix::fs::openat(
                    &dir,
                    staged.as_str(),
                    OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                give(made.as_fd(), FileType::Symlink, owner)?;
            }
            rename(dir.as_fd(), &staged, name, new)
        };
        self.or_clean(path, dir.as_fd(), &staged, made())
    }

    /// The content of the file `path`; `None` where no regular file is there, or a link is on the way.
    ///
    /// # Errors
    /// Where it cannot be read, or is longer than `limit`.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let failed = |errno: Errno| Error::Io { doing: "read", path: self.path.join(path), source: errno.into() };
        // What stands in the way of a link: opened without waiting for whoever writes into a pipe.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let walked = above.split('/').filter(|part| !part.is_empty()).try_fold(None, |dir: Option<OwnedFd>, part| {
            let at = dir.as_ref().map_or(self.dir.as_fd(), AsFd::as_fd);
            rustix::fs::openat(at, part, ON, Mode::empty()).map(Some)
        });
        let opened = walked.and_then(|dir| {
            let at = dir.as_ref().map_or(self.dir.as_fd(), AsFd::as_fd);
            rustix::fs::openat(at, name, flags, Mode::empty())
        });
        let file = match opened {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&file).map_err(failed)?.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let mut content = Vec::new();
        let read = File::from(file).take(limit + 1).read_to_end(&mut content);
        read.map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        if content.len() as u64 > limit {
            return Err(failed(Errno::FBIG));
        }
        Ok(Some(content))
    }

    fn or_clean(&self, path: &str, dir: BorrowedFd<'_>, staged: &str, done: Result<(), Errno>) -> Result<(), Error> {
        done.map_err(|errno| {
            // The error that matters is the first.
            let _ = rustix::fs::unlinkat(dir, staged, AtFlags::empty());
            self.failed(path, errno)
        })
    }

    /// The directory that `path` lies in, made where it is missing, and its last component.
    fn parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str), Error> {
        let odd = |name: &&str| matches!(*name, "" | "." | "..") || name.contains('\0');
        if let Some(name) = path.split('/').find(odd) {
            return Err(Error::Refused {
                thing: path.to_owned(),
                reason: "bad-path",
                why: format!("a path below the repository has no component {name:?}"),
            });
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut dir =
            self.dir.try_clone().map_err(|source| Error::Io { doing: "open", path: self.path.clone(), source })?;
        for part in above.split('/').filter(|part| !part.is_empty()) {
            dir = enter(dir.as_fd(), part).map_err(|errno| self.failed(path, errno))?;
        }
        Ok((dir, name))
    }

    fn failed(&self, path: &str, errno: Errno) -> Error {
        let path = self.path.join(path);
        let what = match errno {
            Errno::LOOP | Errno::NOTDIR => "a symbolic link or a file",
            Errno::EXIST => "what was not there a moment ago",
            Errno::ISDIR | Errno::NOTEMPTY => "a directory",
            _ => return Error::Io { doing: "write", path, source: errno.into() },
        };
        Error::InTheWay { path: path.display().to_string(), what: what.to_owned(), hint: String::new() }
    }
}

fn enter(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(dir, name, ON, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755))?;
    let made = rustix::fs::openat(dir, name, ON, Mode::empty())?;
    if let Some(owner) = owner_of(dir)? {
        give(made.as_fd(), FileType::Directory, owner)?;
    }
    Ok(made)
}

/// Gives what we just made to somebody, if it is that: ours, of this type, and under no other name, with nothing in it.
pub(super) fn give(made: BorrowedFd<'_>, is: FileType, (uid, gid): (Uid, Gid)) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(made)?;
    let ours = stat.st_uid == rustix::process::geteuid().as_raw() && FileType::from_raw_mode(stat.st_mode) == is;
    let alone = match is {
        FileType::Directory => super::files::is_empty(made)?,
        _ => stat.st_nlink == 1,
    };
    if !ours || !alone {
        return Err(Errno::EXIST);
    }
    rustix::fs::chownat(made, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
}

/// Whom `dir` belongs to, where it can be given to somebody: for root.
pub(super) fn owner_of(dir: BorrowedFd<'_>) -> Result<Option<(Uid, Gid)>, Errno> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let stat = rustix::fs::fstat(dir)?;
    Ok(Some((Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))))
}

fn rename(dir: BorrowedFd<'_>, from: &str, to: &str, new: bool) -> Result<(), Errno> {
    if new { super::files::rename_new(dir, from, to) } else { rustix::fs::renameat(dir, from, dir, to) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn nothing_is_written_through_a_link_or_over_what_is_new() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let (inside, outside) = (scratch.path().join("in"), scratch.path().join("out"));
        for made in [&inside, &outside] {
            fs::create_dir(made).expect("made");
        }
        symlink(&outside, inside.join("hosts")).expect("linked");
        let tree = WorkTree::open(&inside).expect("a directory");
        for path in ["hosts/x", "hosts/a/x", "../x", "a//x", "/x"] {
            let refused = tree.put(path, b"x", 0o644, true).expect_err(path);
            assert!(["in-the-way", "bad-path"].contains(&refused.reason()), "{path}: {refused}");
            assert!(tree.link(path, "x", false).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
        fs::write(outside.join("x"), "outside").expect("written");
        assert_eq!(tree.read("hosts/x", 9).expect("told"), None);
        fs::remove_file(outside.join("x")).expect("ours");

        tree.put("roles/a/x", b"one", 0o755, true).expect("written");
        assert_eq!(tree.put("roles/a/x", b"two", 0o644, true).expect_err("it is there").reason(), "in-the-way");
        let x = inside.join("roles/a/x");
        assert_eq!(fs::read(&x).expect("there"), b"one");
        assert_eq!(fs::metadata(&x).expect("there").permissions().mode() & 0o777, 0o755);
        assert_eq!(tree.read("roles/a/x", 3).expect("read").as_deref(), Some(&b"one"[..]));
        assert!(tree.read("roles/a/x", 2).is_err(), "it is longer");
        for nothing in ["roles/a", "roles/b", "roles/b/x", "roles/a/x/y"] {
            assert_eq!(tree.read(nothing, 9).expect("told"), None, "{nothing}");
        }
        tree.put("roles/a/x", b"two", 0o600, false).expect("replaced");
        assert_eq!((fs::read(&x).expect("there"), fs::metadata(&x).expect("there").len()), (b"two".to_vec(), 3));
        // A link in the place of a file is replaced, and where it leads stays.
        symlink(&outside, inside.join("roles/a/l")).expect("linked");
        tree.put("roles/a/l", b"l", 0o644, false).expect("replaced");
        tree.link("roles/a/m", "/somewhere", true).expect("linked");
        assert_eq!(fs::read_link(inside.join("roles/a/m")).expect("a link"), Path::new("/somewhere"));
        assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
        assert_eq!(fs::read_dir(inside.join("roles/a")).expect("there").count(), 3, "nothing staged is left");
    }
}
