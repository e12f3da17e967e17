//! Files, by descriptors below the root directory. See openat2(2) and path_resolution(7).
//!
//! A path is walked to the directory it lies in; what is done then is done to a name in that
//! directory, which nobody can exchange any more. Symbolic links on the way are followed only where
//! nobody but root could move them; the last component is never followed.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType};
use sha2::Digest as _;

use super::{Error, Reader, roots};
use crate::model::Digest;

mod below;
mod hashed;
mod list;
mod looks;
mod stage;
mod sweep;
mod together;
mod tree;
mod walk;
mod write;

pub use below::Below;
pub use hashed::Hashed;
pub use looks::Looks;
pub use stage::{Ready, is_temporary};
pub use together::Made;
pub(super) use together::Syncs;
pub use tree::{Stage, TreeLimits};
pub(super) use walk::Root;
pub use walk::powers_lost;
pub use write::{Attributes, Over};

use walk::Parent;

/// What lstat(2) and statx(2) tell of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Its type.
    pub node: NodeType,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Permission bits, `0o7777` at most. Those of a symbolic link mean nothing.
    pub mode: u32,
    /// Length in bytes.
    pub size: u64,
    /// How many names the inode has.
    pub links: u32,
    /// Major and minor number of the device it lies on.
    pub device: (u32, u32),
    /// Its inode.
    pub inode: u64,
    /// Time of the last change of content, in nanoseconds since 1970.
    pub modified: i128,
    /// Time of the last change of anything, in nanoseconds since 1970.
    pub changed: i128,
    /// The mount that it lies in, by a number that no other has in this boot; only where the kernel has such (Linux 6.8).
    pub mount: Option<u64>,
    /// Something is mounted here (Linux 5.8 or later tells).
    pub mount_point: bool,
    /// Immutable or append-only, see chattr(1), on file systems that tell.
    pub immutable: bool,
    /// The path without the symbolic links on the way, where there were any.
    pub real: Option<String>,
}

/// How much is read at once of a file that does not tell its length, as those of proc(5).
const UNSIZED: u64 = 8 << 10;

/// Type of a node, see inode(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum NodeType {
    Regular,
    Directory,
    Symlink,
    BlockDevice,
    CharDevice,
    Fifo,
    Socket,
}

impl NodeType {
    fn of(node: FileType) -> Self {
        match node {
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::RegularFile | FileType::Unknown => Self::Regular,
        }
    }

    /// With its article: `a symbolic link`.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Regular => "a file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::BlockDevice => "a block device",
            Self::CharDevice => "a character device",
            Self::Fifo => "a fifo",
            Self::Socket => "a socket",
        }
    }
}

fn io(doing: &'static str, path: &str) -> impl FnOnce(Errno) -> Error + use<> {
    let path = PathBuf::from(path);
    move |errno| Error::Io { doing, path, source: errno.into() }
}

fn in_the_way(path: &str, what: &str, hint: &str) -> Error {
    Error::InTheWay { path: path.to_owned(), what: what.to_owned(), hint: hint.to_owned() }
}

impl Reader {
    /// Whether owners can be told and set here: on a machine, and anywhere for root.
    pub fn can_own(&self) -> bool {
        self.is_machine() || rustix::process::geteuid().is_root()
    }

    /// Whether names of owners mean anything here: not in a directory that has no users of its own yet.
    pub fn has_users(&self) -> bool {
        // What cannot be looked at now is there: whoever reads it says why it cannot be.
        let gone = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        self.is_machine() || !std::fs::metadata(self.below_root("/etc/passwd")).is_err_and(gone)
    }

    /// What stands at `path`, itself and not where it leads; `None` where nothing does.
    ///
    /// # Errors
    /// Where that cannot be told: an untrusted link or a file on the way, no permission.
    pub fn look(&self, path: &str) -> Result<Option<Meta>, Error> {
        self.root.parent(path)?.map_or(Ok(None), |parent| look_in(&parent, path))
    }

    /// Returns once whatever is mounted on the way to the directory `path` answers, where anything is that may hang.
    ///
    /// # Errors
    /// [`Error::NotAnswering`] where that does not; and as [`Reader::look`], since then it is not known what is on the way.
    pub fn answers(&self, path: &str) -> Result<(), Error> {
        if self.root.is_quiet() { Ok(()) } else { self.root.directory(path).map(drop) }
    }

    /// Who besides root could exchange what stands at `path`, in words; `None` where nobody could.
    ///
    /// # Errors
    /// As [`Reader::look`].
    pub fn who_else(&self, path: &str) -> Result<Option<String>, Error> {
        Ok(self.root.parent_judged(path)?.and_then(|parent| parent.loose))
    }

    /// The path without the symbolic links on the way to it; the last component is not followed, and
    /// what is missing stays as it is written.
    ///
    /// # Errors
    /// As [`Reader::look`].
    pub fn canonical(&self, path: &str) -> Result<String, Error> {
        let (known, real) = self.reached(path)?;
        Ok(real + &path[known.len()..])
    }

    /// How much of `path` lies in a directory that is there, and the same without the symbolic links on the way: all of it, or
    /// up to the outermost directory that is missing. That may be a link to one, which is made there when something is
    /// written.
    fn reached<'p>(&self, path: &'p str) -> Result<(&'p str, String), Error> {
        let mut known = path;
        loop {
            if let Some(parent) = self.root.parent(known)? {
                let real = match known.len() < path.len() {
                    true => self.root.leads_to(known)?,
                    false => parent.real.unwrap_or_else(|| known.to_owned()),
                };
                return Ok((known, real));
            }
            // `/` itself is always there, so this ends.
            known = match known.rfind('/') {
                Some(at) if at > 0 => &known[..at],
                _ => return Ok((path, path.to_owned())),
            };
        }
    }

    /// The content of the regular file `path`; `None` where nothing is there. Leaves no trace, not
    /// even a time of access.
    ///
    /// # Errors
    /// Where something else is there, it is longer than `limit` bytes (`too-large`), or cannot be read.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.read_told(path, limit)?.map(|(content, _)| content))
    }

    /// The same, with what is told of the very file that was read.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_told(&self, path: &str, limit: u64) -> Result<Option<(Vec<u8>, Meta)>, Error> {
        let Some((file, meta)) = self.open_regular(path)? else { return Ok(None) };
        Ok(Some((read_all(file, path, (meta.size, limit))?, meta)))
    }

    /// As [`Reader::read`], for files of the system that may be symbolic links: a last component that is a
    /// link is followed by the rule of those on the way.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn read_following(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let path = self.followed(path)?;
        self.read(&path, limit)
    }

    /// `path`, its last component followed as long as that is a link, by the rule of those on the way.
    fn followed(&self, path: &str) -> Result<String, Error> {
        self.hops(path).map(|mut hops| hops.pop().unwrap_or_else(|| path.to_owned()))
    }

    /// `path`, and every path that it leads to where its last component is a link, one after the other, by the rule of
    /// those on the way.
    ///
    /// # Errors
    /// As [`Reader::look`].
    pub fn hops(&self, path: &str) -> Result<Vec<String>, Error> {
        let (mut at, mut hops) = (path.to_owned(), Vec::new());
        for _ in 0..8 {
            hops.push(at.clone());
            match self.look(&at)? {
                Some(meta) if meta.node == NodeType::Symlink => at = self.follow(&at, &meta)?,
                _ => return Ok(hops),
            }
        }
        Err(io("read", &at)(Errno::LOOP))
    }

    /// As [`Reader::read_following`], of a file that decides what root does: nobody but root can have put there what is
    /// read. That is asked of the very descriptors that lead there and are read. In a directory that stands for a machine
    /// nothing of it is asked.
    ///
    /// # Errors
    /// As [`Reader::read`]; `not-roots-alone` with what to do where somebody else could write or exchange it.
    pub fn read_roots_own(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        if !self.is_machine() {
            return self.read_following(path, limit);
        }
        let refused = |why| Error::Refused { thing: path.to_owned(), reason: "not-roots-alone", why };
        let mut at = path.to_owned();
        for _ in 0..8 {
            let Some(parent) = self.root.parent_judged(&at)? else { return Ok(None) };
            if let Some(who) = &parent.loose {
                let why =
                    format!("{who} could put another in the place of {at}: chown root, chmod go-w that directory");
                return Err(refused(why));
            }
            let Some(meta) = look_in(&parent, &at)? else { return Ok(None) };
            match meta.node {
                NodeType::Symlink => at = self.follow(&at, &meta)?,
                NodeType::Regular => {
                    let (file, meta) = open_quietly(&parent).map_err(io("read", &at))?;
                    return match roots::not_roots(&at, meta.uid, meta.mode) {
                        None if meta.node == NodeType::Regular => {
                            read_all(file.into(), &at, (meta.size, limit)).map(Some)
                        }
                        None => Err(walk::stale(&at)),
                        Some(why) => Err(refused(why)),
                    };
                }
                other => return Err(in_the_way(&at, other.describe(), "")),
            }
        }
        Err(io("read", &at)(Errno::LOOP))
    }

    /// Where `path` leads, all links followed by the rule of those on the way; what is missing stays as it is written.
    ///
    /// # Errors
    /// As [`Reader::look`].
    pub fn leads_to(&self, path: &str) -> Result<String, Error> {
        self.canonical(&self.followed(path)?)
    }

    /// Where the trusted link `path` leads, as a normalised path.
    fn follow(&self, path: &str, meta: &Meta) -> Result<String, Error> {
        let loose = self.root.parent_judged(path)?.and_then(|parent| parent.loose);
        let who = loose.or_else(|| (!self.root.believes(meta.uid)).then(|| format!("its owner (uid {})", meta.uid)));
        if let Some(who) = who {
            return Err(Error::UntrustedLink { path: path.to_owned(), link: path.to_owned(), who });
        }
        let at = meta.real.as_deref().unwrap_or(path);
        let target = self.read_link(path)?.ok_or_else(|| io("read", path)(Errno::NOENT))?;
        let mut names: Vec<&str> = if target.starts_with('/') { Vec::new() } else { walk::components(at)? };
        if !target.starts_with('/') {
            names.pop();
        }
        for name in target.split('/') {
            match name {
                "" | "." => {}
                ".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        Ok(format!("/{}", names.join("/")))
    }

    /// The process that holds a lock of fcntl(2) for writing on the regular file `path`, if one does; 0 where it is not to
    /// be seen from here.
    ///
    /// # Errors
    /// Where something else is there, or that cannot be told.
    pub fn locked_by(&self, path: &str) -> Result<Option<u32>, Error> {
        self.in_the_way(path, FlockType::ReadLock)
    }

    /// The same, one for reading included: whoever holds that is in the way of whoever writes.
    ///
    /// # Errors
    /// As [`Reader::locked_by`].
    pub fn used_by(&self, path: &str) -> Result<Option<u32>, Error> {
        self.in_the_way(path, FlockType::WriteLock)
    }

    /// The process whose lock is in the way of such a one of ours.
    fn in_the_way(&self, path: &str, ours: FlockType) -> Result<Option<u32>, Error> {
        let Some((file, _)) = self.open_regular(path)? else { return Ok(None) };
        let ours = Flock::from(ours);
        let theirs = rustix::process::fcntl_getlk(&file, &ours).map_err(io("look at the lock of", path))?;
        Ok(theirs.map(|lock| lock.pid.map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned())))
    }

    /// Whether this directory is one that is made on the way to something else, as far as it shows: it is root's (or
    /// ours, where we may be anybody), 0755. Then the names in it, without what an interrupted write may have left.
    ///
    /// # Errors
    /// As [`Reader::look`] and [`Reader::list`].
    pub fn made_between(&self, path: &str) -> Result<Option<Vec<String>>, Error> {
        let like_ours = |meta: &Meta| {
            meta.node == NodeType::Directory && self.root.believes(meta.uid) && meta.mode == 0o755 && !meta.mount_point
        };
        if !self.look(path)?.as_ref().is_some_and(like_ours) {
            return Ok(None);
        }
        let names = self.list(path)?.into_iter();
        Ok(Some(names.filter(|name| !stage::is_temporary(name.as_bytes())).collect()))
    }

    /// Where the symbolic link `path` points, as written; `None` where nothing is there, or no link.
    ///
    /// # Errors
    /// Where the target is not UTF-8.
    pub fn read_link(&self, path: &str) -> Result<Option<String>, Error> {
        let Some(parent) = self.root.parent(path)? else { return Ok(None) };
        match rustix::fs::readlinkat(&parent.dir, parent.name.as_str(), Vec::new()) {
            Ok(target) => target.into_string().map(Some).map_err(|_| Error::Unknown {
                thing: path.to_owned(),
                why: "the target of this symbolic link is not UTF-8".to_owned(),
            }),
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(errno) => Err(io("read the link", path)(errno)),
        }
    }

    /// The names in the directory `path`, sorted, without `.` and `..`; none where it is not there.
    /// Names that are not UTF-8 are escaped, so they cannot be opened by what is returned.
    ///
    /// # Errors
    /// Where something else is there, or it cannot be read.
    pub fn list(&self, path: &str) -> Result<Vec<String>, Error> {
        let Some(Parent { dir, .. }) = self.root.directory(path)? else { return Ok(Vec::new()) };
        let names = names_in(dir.as_fd()).map_err(io("list", path))?;
        let mut names: Vec<String> = names
            .into_iter()
            .map(|name| {
                name.into_string().unwrap_or_else(|raw| raw.into_cstring().to_bytes().escape_ascii().to_string())
            })
            .collect();
        names.sort();
        Ok(names)
    }

    pub(in crate::host) fn open_regular(&self, path: &str) -> Result<Option<(std::fs::File, Meta)>, Error> {
        let Some(parent) = self.root.parent(path)? else { return Ok(None) };
        // Opening a device can do things (rewind a tape, start a watchdog), so the type comes first.
        match look_in(&parent, path)? {
            None => return Ok(None),
            Some(meta) if meta.node != NodeType::Regular => return Err(in_the_way(path, meta.node.describe(), "")),
            Some(_) => {}
        }
        let opened = open_regular_in(&parent, path)?;
        Ok(opened.map(|(file, meta)| (file, Meta { real: parent.real.clone(), ..meta })))
    }
}

/// Opens the regular file of `parent` that `path` names, and tells what the descriptor tells; `None` where nothing is there.
fn open_regular_in(parent: &Parent, path: &str) -> Result<Option<(std::fs::File, Meta)>, Error> {
    match open_quietly(parent) {
        Ok((file, meta)) if meta.node == NodeType::Regular => Ok(Some((file.into(), meta))),
        Ok((_, meta)) => Err(in_the_way(path, meta.node.describe(), "")),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(in_the_way(path, NodeType::Symlink.describe(), "")),
        Err(errno) => Err(io("read", path)(errno)),
    }
}

fn look_in(parent: &Parent, path: &str) -> Result<Option<Meta>, Error> {
    match Meta::of(parent.dir.as_fd(), &parent.name, AtFlags::empty()) {
        Ok(meta) => Ok(Some(Meta { real: parent.real.clone(), ..meta })),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(io("look at", path)(errno)),
    }
}

/// Opens for reading without changing the time of access where we may, and without waiting for a fifo.
fn open_quietly(parent: &Parent) -> Result<(OwnedFd, Meta), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |flags| rustix::fs::openat(&parent.dir, parent.name.as_str(), flags, Mode::empty());
    let file = match open(flags | OFlags::NOATIME) {
        // Only the owner of a file and root may ask for that; see open(2).
        Err(Errno::PERM) => open(flags)?,
        other => other?,
    };
    let meta = Meta::of(file.as_fd(), "", AtFlags::EMPTY_PATH)?;
    Ok((file, meta))
}

/// All of `file`, which is `size` bytes long as far as is known: the kernel's own say nothing of it.
fn read_all(file: std::fs::File, path: &str, (size, limit): (u64, u64)) -> Result<Vec<u8>, Error> {
    // One byte more, so that the end is seen without growing.
    let room = if size == 0 { UNSIZED } else { size.min(limit).saturating_add(1) };
    let mut content = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
    file.take(limit.saturating_add(1)).read_to_end(&mut content).map_err(|source| Error::Io {
        doing: "read",
        path: PathBuf::from(path),
        source,
    })?;
    if content.len() as u64 > limit {
        let why = format!("it is longer than {limit} B");
        return Err(Error::Refused { thing: path.to_owned(), reason: "too-large", why });
    }
    Ok(content)
}

/// SHA-256 and length of what is read of `file`, which was `size` bytes long, as a stream; no digest where it is longer
/// than `limit` bytes, since a file without data can be made as long as anybody likes.
fn hash(
    host: &Reader,
    mut file: &std::fs::File,
    path: &str,
    (size, limit): (u64, u64),
    buffer: &mut Vec<u8>,
) -> Result<(Option<Digest>, u64), Error> {
    if size > limit {
        return Ok((None, size));
    }
    buffer.resize(64 * 1024, 0);
    let mut hash = sha2::Sha256::new();
    let mut length: u64 = 0;
    loop {
        if host.interrupted() {
            return Err(Error::interrupted(path));
        }
        match file.read(buffer) {
            Ok(0) => break,
            Ok(n) => {
                hash.update(&buffer[..n]);
                length += n as u64;
                // Somebody adds to it as we read.
                if length > limit {
                    return Ok((None, length));
                }
                // All of it, and the kernel had no more to give: read(2).
                if length == size && n < buffer.len() {
                    break;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Io { doing: "read", path: PathBuf::from(path), source }),
        }
    }
    Ok((Some(Digest::from_bytes(hash.finalize().into())), length))
}

/// Renames what is called `from` to `to`, where nothing stands: else [`Errno::EXIST`].
pub(super) fn rename_new(dir: BorrowedFd<'_>, from: &str, to: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        // Some file systems know no flags.
        Err(Errno::INVAL | Errno::NOSYS) => match rustix::fs::statat(dir, to, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => rustix::fs::renameat(dir, from, dir, to),
            Ok(_) => Err(Errno::EXIST),
            Err(errno) => Err(errno),
        },
        other => other,
    }
}

/// Whether an open directory has nothing in it.
pub(super) fn is_empty(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    names_in(dir).map(|names| names.is_empty())
}

/// The names in an open directory, unsorted, without `.` and `..`.
fn names_in(dir: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |flags| rustix::fs::openat(dir, ".", flags, Mode::empty());
    let readable = match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags)?,
        other => other?,
    };
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(readable)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
