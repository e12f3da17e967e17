use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::{Attributes, Meta, io};
use crate::host::{Error, Mounts, Pulse};

/// How many symbolic links one path may lead through, as the kernel has it; see path_resolution(7).
const LINKS: usize = 40;

/// `STATX_MNT_ID_UNIQUE` of statx(2), since Linux 6.8; older kernels pass over it.
const MNT_ID_UNIQUE: u32 = 0x4000;

/// Opens a name for looking and for going on from it, never through a symbolic link.
pub(super) const HERE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The root directory. Every path is walked from its descriptor.
#[derive(Debug)]
pub(in crate::host) struct Root {
    path: PathBuf,
    /// The same without symbolic links; empty for `/`, and where that cannot be told.
    real: String,
    dir: OwnedFd,
    mounts: Mounts,
    /// Shows where a walk has come to.
    pulse: Arc<Pulse>,
    /// Whose links and directories are believed besides root's: of a directory that stands for a
    /// machine also our own, since we may be anybody.
    ours: Option<u32>,
    near: RefCell<Near>,
}

/// The directory that was reached last, while many files are made ready one after the other: those that lie in it go the
/// same way. What is made ready in a directory holds it just so until it takes its place; whatever changes something at
/// once walks to it anew.
#[derive(Debug)]
enum Near {
    /// Each path is walked anew.
    Unkept,
    /// None yet.
    Nowhere,
    /// The way to it, and a descriptor.
    Here(String, Rc<OwnedFd>),
}

/// The directory a path lies in, reached, and the last component, not yet looked at.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) dir: Rc<OwnedFd>,
    /// `.` for `/` itself.
    pub(super) name: String,
    /// The path without the symbolic links on the way, where there were any.
    pub(super) real: Option<String>,
    /// Who besides root could exchange what stands on the way; known only where the path was walked step by step.
    pub(super) loose: Option<String>,
}

/// What to do about a directory that is not there.
pub(super) type Make<'m> = &'m dyn Fn(BorrowedFd<'_>, &str, &str) -> Result<(), Error>;

impl Root {
    pub(in crate::host) fn open(path: &Path, machine: bool) -> Result<Self, Error> {
        let dir = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::Io { doing: "open", path: path.to_owned(), source: errno.into() })?;
        let ours = (!machine).then(|| rustix::process::geteuid().as_raw());
        let real = if machine { None } else { path.canonicalize().ok() };
        let real = real.and_then(|real| real.to_str().map(|real| real.trim_end_matches('/').to_owned()));
        let (real, mounts, pulse) = (real.unwrap_or_default(), Mounts::default(), Arc::default());
        Ok(Self { path: path.to_owned(), real, dir, mounts, pulse, ours, near: RefCell::new(Near::Unkept) })
    }

    /// Nothing is asked that is known in `mounts`.
    pub(in crate::host) fn know(&mut self, mounts: Mounts) {
        self.mounts = mounts;
    }

    /// Each path that is come to is shown there.
    pub(in crate::host) fn show(&mut self, pulse: Arc<Pulse>) {
        self.pulse = pulse;
    }

    /// Whether everything that is mounted on the way to `path`, which has no symbolic links, answers; `shown` is what it
    /// is called. Nothing is looked at before that.
    pub(super) fn answers(&self, path: &str, shown: &str) -> Result<(), Error> {
        self.pulse.come_to(shown);
        self.mounts.answer(&self.above(path), shown)
    }

    /// The same of everything that is mounted below the directory `path`, which was reached.
    pub(super) fn answers_below(&self, path: &str, reached: &Parent) -> Result<(), Error> {
        let real = reached.real.as_deref().map_or(path, |real| real.trim_end_matches("/."));
        self.mounts.answer_below(&self.above(real), path)
    }

    /// Whether nothing is mounted that may hang.
    pub(super) fn is_quiet(&self) -> bool {
        self.mounts.are_quiet()
    }

    fn above<'p>(&self, path: &'p str) -> Cow<'p, str> {
        if self.real.is_empty() { Cow::Borrowed(path) } else { Cow::Owned(format!("{}{path}", self.real)) }
    }

    pub(in crate::host) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether what belongs to this user is as good as root's.
    pub(super) fn believes(&self, uid: u32) -> bool {
        uid == 0 || self.ours == Some(uid)
    }

    /// From now on the directory that was reached last is kept, or it is not any more.
    pub(super) fn keep_near(&self, keep: bool) {
        *self.near.borrow_mut() = if keep { Near::Nowhere } else { Near::Unkept };
    }

    /// The way to the directory that was reached last may lead elsewhere now.
    pub(super) fn forget_near(&self) {
        let mut near = self.near.borrow_mut();
        if matches!(*near, Near::Here(..)) {
            *near = Near::Nowhere;
        }
    }

    /// The directory that `path` lies in; `None` where that is not there.
    pub(super) fn parent(&self, path: &str) -> Result<Option<Parent>, Error> {
        let mut names = components(path)?;
        let name = names.pop().unwrap_or(".").to_owned();
        self.answers(path, path)?;
        match self.straight(&names) {
            Ok(found) => Ok(found.map(|dir| Parent { dir, name, real: None, loose: None })),
            Err(()) => self.steps(path, &names, &name, None),
        }
    }

    /// The same, step by step, with `make` called for each directory that is missing; it has to be there then.
    pub(super) fn parent_made(&self, path: &str, make: Make<'_>) -> Result<Parent, Error> {
        let mut names = components(path)?;
        let name = names.pop().unwrap_or(".").to_owned();
        self.answers(path, path)?;
        if let Ok(Some(dir)) = self.straight(&names) {
            return Ok(Parent { dir, name, real: None, loose: None });
        }
        self.steps(path, &names, &name, Some(make))?.ok_or_else(|| io("reach", path)(Errno::NOENT))
    }

    /// The same, step by step, so that `loose` is known.
    pub(super) fn parent_judged(&self, path: &str) -> Result<Option<Parent>, Error> {
        let mut names = components(path)?;
        let name = names.pop().unwrap_or(".").to_owned();
        self.steps(path, &names, &name, None)
    }

    /// The directory `path` itself, `loose` known; `None` where it is not there.
    pub(super) fn directory(&self, path: &str) -> Result<Option<Parent>, Error> {
        let names = components(path)?;
        self.steps(path, &names, ".", None)
    }

    /// Where `path` leads, its last component followed too, as directories that are missing on the way would be made. By
    /// the rule of all links.
    pub(super) fn leads_to(&self, path: &str) -> Result<String, Error> {
        let mut walk = Walk::new(self, path)?;
        let mut todo: VecDeque<String> = components(path)?.into_iter().map(str::to_owned).collect();
        while let Some(name) = todo.pop_front() {
            match walk.enter(&name)? {
                Entered::Directory => {}
                Entered::Missing => {
                    let mut real = walk.at(&name);
                    for name in &todo {
                        match name.as_str() {
                            "" | "." => {}
                            ".." => real.truncate(real.rfind('/').unwrap_or(0)),
                            name => real.extend(["/", name]),
                        }
                    }
                    return Ok(real);
                }
                Entered::Link(target) => {
                    walk.follow(&target)?;
                    target.split('/').rev().for_each(|name| todo.push_front(name.to_owned()));
                }
            }
        }
        Ok(walk.steps.iter().flat_map(|step| ["/", &step.name]).collect())
    }

    /// All at once, where no symbolic link is on the way; `Err` where it takes a closer look.
    fn straight(&self, names: &[&str]) -> Result<Option<Rc<OwnedFd>>, ()> {
        let path = if names.is_empty() { ".".to_owned() } else { names.join("/") };
        if let Near::Here(known, dir) = &*self.near.borrow()
            && *known == path
            // Nothing can be made in one that was removed meanwhile.
            && rustix::fs::fstat(dir).is_ok_and(|dir| dir.st_nlink > 0)
        {
            return Ok(Some(Rc::clone(dir)));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.dir, path.as_str(), flags, Mode::empty(), resolve) {
            Ok(dir) => {
                let dir = Rc::new(dir);
                let mut near = self.near.borrow_mut();
                if !matches!(*near, Near::Unkept) {
                    *near = Near::Here(path, Rc::clone(&dir));
                }
                Ok(Some(dir))
            }
            // The kernel goes from left to right, so what is missing comes before any link.
            Err(Errno::NOENT) => Ok(None),
            Err(_) => Err(()),
        }
    }

    fn steps(&self, path: &str, names: &[&str], last: &str, make: Option<Make<'_>>) -> Result<Option<Parent>, Error> {
        let mut walk = Walk::new(self, path)?;
        let mut todo: VecDeque<String> = names.iter().map(|&name| name.to_owned()).collect();
        while let Some(name) = todo.pop_front() {
            match walk.enter(&name)? {
                Entered::Directory => {}
                Entered::Missing => {
                    let Some(make) = make else { return Ok(None) };
                    make(walk.here(), &name, &walk.at(&name))?;
                    if !matches!(walk.enter(&name)?, Entered::Directory) {
                        return Err(stale(path));
                    }
                }
                Entered::Link(target) => {
                    walk.follow(&target)?;
                    target.split('/').rev().for_each(|name| todo.push_front(name.to_owned()));
                }
            }
        }
        Ok(Some(walk.parent(last)?))
    }
}

/// What stands there changed while we were at it.
pub(super) fn stale(path: &str) -> Error {
    Error::Refused {
        thing: path.to_owned(),
        reason: "stale",
        why: "it was changed by somebody else just now; looked at again in the next pass".to_owned(),
    }
}

/// The components of a path that is absolute and normalised; none for `/`.
pub(super) fn components(path: &str) -> Result<Vec<&str>, Error> {
    let refused = |why: &str| Error::Refused {
        thing: crate::model::one_line(path, 200),
        reason: "bad-path",
        why: why.to_owned(),
    };
    let Some(rest) = path.strip_prefix('/') else { return Err(refused("paths are absolute")) };
    // The kernel is given it without the slash at its beginning, so that it fits with the zero at its end; path_resolution(7).
    if path.len() > 4096 || path.contains('\0') {
        return Err(refused("a path has at most 4096 bytes, none of them zero"));
    }
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = rest.split('/').collect();
    if names.iter().any(|name| matches!(*name, "" | "." | "..")) {
        return Err(refused("paths have no empty, `.` or `..` component"));
    }
    if names.iter().any(|name| name.len() > 255) {
        return Err(refused("a file name has at most 255 bytes"));
    }
    Ok(names)
}

enum Entered {
    Directory,
    Link(String),
    Missing,
}

/// One directory on the way.
struct Step {
    name: String,
    dir: OwnedFd,
    loose: Option<String>,
}

/// A walk from the root directory; it never leaves it, since `..` and absolute targets are resolved here.
struct Walk<'r> {
    root: &'r Root,
    path: &'r str,
    steps: Vec<Step>,
    loose: Option<String>,
    links: usize,
}

impl<'r> Walk<'r> {
    fn new(root: &'r Root, path: &'r str) -> Result<Self, Error> {
        let meta = Meta::of(root.dir.as_fd(), "", AtFlags::EMPTY_PATH).map_err(io("look at", "/"))?;
        Ok(Self { root, path, steps: Vec::new(), loose: loose(root, &meta, "/"), links: 0 })
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.steps.last().map_or(self.root.dir.as_fd(), |step| step.dir.as_fd())
    }

    /// Who besides root could exchange what stands here.
    fn loose_here(&self) -> Option<&String> {
        self.steps.last().map_or(self.loose.as_ref(), |step| step.loose.as_ref())
    }

    /// The path of `name` here, links resolved.
    fn at(&self, name: &str) -> String {
        let mut path = String::new();
        for name in self.steps.iter().map(|step| step.name.as_str()).chain([name]) {
            path.push('/');
            path.push_str(name);
        }
        path
    }

    fn enter(&mut self, name: &str) -> Result<Entered, Error> {
        match name {
            "" | "." => return Ok(Entered::Directory),
            ".." => {
                self.steps.pop();
                return Ok(Entered::Directory);
            }
            _ => {}
        }
        let at = self.at(name);
        self.root.answers(&at, self.path)?;
        // Everything about the name is asked of this one descriptor, so that it cannot be exchanged in between.
        let node = match rustix::fs::openat(self.here(), name, HERE, Mode::empty()) {
            Ok(node) => node,
            Err(Errno::NOENT) => return Ok(Entered::Missing),
            Err(errno) => return Err(io("reach", &at)(errno)),
        };
        let meta = Meta::of(node.as_fd(), "", AtFlags::EMPTY_PATH).map_err(io("look at", &at))?;
        match meta.node {
            super::NodeType::Directory => {
                let loose = self.loose_here().cloned().or_else(|| loose(self.root, &meta, &at));
                self.steps.push(Step { name: name.to_owned(), dir: node, loose });
                Ok(Entered::Directory)
            }
            super::NodeType::Symlink => self.trusted(&node, &meta, &at).map(Entered::Link),
            other => Err(Error::InTheWay {
                path: self.path.to_owned(),
                what: format!("{} at {at}", other.describe()),
                hint: String::new(),
            }),
        }
    }

    /// Where a symbolic link leads, if nobody but root could make it lead elsewhere.
    fn trusted(&self, link: &OwnedFd, meta: &Meta, at: &str) -> Result<String, Error> {
        let who = match self.loose_here() {
            Some(who) => Some(who.clone()),
            None if self.root.believes(meta.uid) => None,
            None => Some(format!("its owner (uid {})", meta.uid)),
        };
        if let Some(who) = who {
            return Err(Error::UntrustedLink { path: self.path.to_owned(), link: at.to_owned(), who });
        }
        let target = rustix::fs::readlinkat(link, "", Vec::new()).map_err(io("read the link", at))?;
        target.into_string().map_err(|_| Error::Unknown {
            thing: at.to_owned(),
            why: "the target of this symbolic link is not UTF-8".to_owned(),
        })
    }

    fn follow(&mut self, target: &str) -> Result<(), Error> {
        self.links += 1;
        if self.links > LINKS {
            return Err(io("reach", self.path)(Errno::LOOP));
        }
        if target.starts_with('/') {
            self.steps.clear();
        }
        Ok(())
    }

    fn parent(mut self, last: &str) -> Result<Parent, Error> {
        let at = self.at(last);
        if last != "." {
            self.root.answers(&at, self.path)?;
        }
        let real = (self.links > 0).then_some(at);
        let loose = self.loose_here().cloned();
        let dir = match self.steps.pop() {
            Some(step) => step.dir,
            None => self.root.dir.try_clone().map_err(|source| Error::Io {
                doing: "reach",
                path: PathBuf::from(self.path),
                source,
            })?,
        };
        Ok(Parent { dir: Rc::new(dir), name: last.to_owned(), real, loose })
    }
}

/// Who besides root could exchange what this directory holds. A sticky directory keeps others from
/// moving what is there, not from putting something where nothing is, so it is no better than any
/// other. An access control list that lets somebody write shows in the group bits; see acl(5).
fn loose(root: &Root, meta: &Meta, at: &str) -> Option<String> {
    if !root.believes(meta.uid) {
        return Some(format!("uid {}, who owns {at},", meta.uid));
    }
    if meta.mode & 0o002 != 0 {
        return Some(format!("everybody, who may write to {at},"));
    }
    (meta.mode & 0o020 != 0).then(|| format!("gid {}, who may write to {at},", meta.gid))
}

/// The bits that go where something is given to another owner or group: what it may do in the name of the one it does not
/// in that of the other. On a directory they mean something else.
pub fn powers_lost(directory: bool, owner: bool, group: bool) -> u32 {
    match (owner, group) {
        _ if directory => 0,
        (true, _) => 0o6000,
        (false, true) => 0o2000,
        (false, false) => 0,
    }
}

impl Meta {
    /// Its mode where its owner or group becomes another and nobody says a mode, see [`powers_lost`]. chown(2) sees to that
    /// by itself, where no chmod(2) follows.
    pub(super) fn mode_for_another(&self, attributes: Attributes) -> u32 {
        let owner = attributes.uid.is_some_and(|uid| uid != self.uid);
        let group = attributes.gid.is_some_and(|gid| gid != self.gid);
        self.mode & !powers_lost(self.node == super::NodeType::Directory, owner, group)
    }

    /// Asks statx(2), without triggering an automount.
    pub(super) fn of<P: rustix::path::Arg>(dir: BorrowedFd<'_>, name: P, flags: AtFlags) -> Result<Self, Errno> {
        use rustix::fs::StatxAttributes as Has;
        let flags = flags | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let asked = StatxFlags::BASIC_STATS | StatxFlags::from_bits_retain(MNT_ID_UNIQUE);
        let stat = rustix::fs::statx(dir, name, flags, asked)?;
        let has = stat.stx_attributes;
        let nanoseconds =
            |time: rustix::fs::StatxTimestamp| i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
        Ok(Self {
            node: super::NodeType::of(FileType::from_raw_mode(u32::from(stat.stx_mode))),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mode: u32::from(stat.stx_mode) & 0o7777,
            size: stat.stx_size,
            links: stat.stx_nlink,
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            modified: nanoseconds(stat.stx_mtime),
            changed: nanoseconds(stat.stx_ctime),
            mount: (stat.stx_mask & MNT_ID_UNIQUE != 0).then_some(stat.stx_mnt_id),
            mount_point: has.contains(Has::MOUNT_ROOT),
            immutable: has.intersects(Has::IMMUTABLE | Has::APPEND),
            real: None,
        })
    }
}
