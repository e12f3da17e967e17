use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::Error;
use super::files::rename_new;
use super::work_tree::{give, owner_of};

/// What a file is written in the place of.
#[derive(Debug, Clone, Copy)]
pub enum Instead<'a> {
    /// Whatever stands there.
    Anything,
    /// A file that holds this.
    This(&'a [u8]),
    /// Nothing: no file is there.
    Nothing,
}

/// Writes `content` to the file `path` of the directory `root`: the complete old or the complete new one is there at every
/// instant. Its owner and mode stay; a new one can be read by whoever could read its directory, and belongs to whom that
/// does, as what is made on the way: root may do this in somebody's checkout. Below `root` no symbolic link is followed or
/// replaced.
///
/// # Errors
/// Where it cannot be written, or what stands there is not `instead`; that is there then.
pub fn replace_file(root: &Path, path: &str, content: &[u8], instead: Instead<'_>) -> Result<(), Error> {
    let whole = root.join(path);
    let failed = |source: io::Error| Error::Io { doing: "write", path: whole.clone(), source };
    let name = name(path);
    let Some((directory, there)) = place(root, path, true)? else { return Err(failed(Errno::NOENT.into())) };
    let staged = format!(".{name}.{}~", std::process::id());
    let mode = there.map_or(0o644, |meta| meta.st_mode & 0o777);
    let written = || -> io::Result<bool> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, &staged, flags, Mode::from_raw_mode(mode))?;
        if let Some(around) = owner_of(directory.as_fd())? {
            let owner = there.map_or(around, |there| (Uid::from_raw(there.st_uid), Gid::from_raw(there.st_gid)));
            rustix::fs::fchown(&file, Some(owner.0), Some(owner.1))?;
        }
        if there.is_some() {
            // Whatever the umask is.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        }
        let mut file = File::from(file);
        file.write_all(content)?;
        file.sync_all()?;
        // As late as it can be: what somebody writes from here on is theirs to lose.
        let still = match instead {
            Instead::Anything => true,
            Instead::This(old) => holds(&directory, name, old)?,
            Instead::Nothing => {
                return match rename_new(directory.as_fd(), &staged, name) {
                    Err(Errno::EXIST) => Ok(false),
                    renamed => renamed.map(|()| true).map_err(Into::into),
                };
            }
        };
        if still {
            rustix::fs::renameat(&directory, &staged, &directory, name)?;
        }
        Ok(still)
    };
    let written = written();
    if !matches!(written, Ok(true)) {
        // The error that matters is the first.
        let _ = rustix::fs::unlinkat(&directory, &staged, AtFlags::empty());
    }
    match written.map_err(failed)? {
        true => Ok(()),
        false => Err(Error::Refused {
            thing: path.to_owned(),
            reason: "stale",
            why: "it was changed meanwhile by somebody else, and is as they left it; look at it, then do it again"
                .to_owned(),
        }),
    }
}

/// Whether `path` can be a file of the directory `root`: nothing on the way to it is a symbolic link, nor is it one.
///
/// # Errors
/// Where one is, or that cannot be told.
pub fn follows_no_link(root: &Path, path: &str) -> Result<(), Error> {
    place(root, path, false).map(drop)
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether the file `name` holds `old`, and nothing else.
fn holds(directory: &OwnedFd, name: &str, old: &[u8]) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::LOOP) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let mut now = Vec::with_capacity(old.len() + 1);
    file.take(old.len() as u64 + 1).read_to_end(&mut now)?;
    Ok(now == old)
}

/// The directory that `path` lies in, made where `make` says so, and what stands at `path`; `None` without the directory.
fn place(root: &Path, path: &str, make: bool) -> Result<Option<(OwnedFd, Option<Stat>)>, Error> {
    let failed = |source: Errno| Error::Io { doing: "reach", path: root.join(path), source: source.into() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory = rustix::fs::open(root, flags, Mode::empty()).map_err(failed)?;
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut way = String::new();
    for part in above.split('/').filter(|part| !part.is_empty()) {
        way = if way.is_empty() { part.to_owned() } else { format!("{way}/{part}") };
        let mut made = false;
        match there(&directory, part, path, &way)? {
            Some(_) => {}
            None if make => match rustix::fs::mkdirat(&directory, part, Mode::from_raw_mode(0o777)) {
                Ok(()) => made = true,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            },
            None => return Ok(None),
        }
        let next = rustix::fs::openat(&directory, part, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)?;
        if made && let Some(owner) = owner_of(directory.as_fd()).map_err(failed)? {
            give(next.as_fd(), FileType::Directory, owner).map_err(failed)?;
        }
        directory = next;
    }
    let there = there(&directory, name, path, path)?;
    Ok(Some((directory, there)))
}

/// What stands at `part` of `directory`, which is `way` of the repository; a symbolic link is an error.
fn there(directory: &OwnedFd, part: &str, path: &str, way: &str) -> Result<Option<Stat>, Error> {
    match rustix::fs::statat(directory, part, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(meta) if FileType::from_raw_mode(meta.st_mode) == FileType::Symlink => Err(Error::InTheWay {
            path: path.to_owned(),
            what: format!("{way}, a symbolic link,"),
            hint: "it is not followed: name the place that is meant by itself".to_owned(),
        }),
        Ok(meta) => Ok(Some(meta)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(Error::Io { doing: "reach", path: way.into(), source: error.into() }),
    }
}
