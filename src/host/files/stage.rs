//! What is written is made whole under a temporary name in the same directory, and then takes its place.

use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::list::LIST;
use super::walk::{HERE, Parent, stale};
use super::write::Place;
use super::{Meta, NodeType, Over, Syncs, in_the_way, io, look_in, rename_new, sweep};
use crate::host::Error;

/// Temporary names start and end so that cron, run-parts, sudoers and `*.conf` patterns pass them over.
const START: &str = ".trueup-";
const END: &str = "~";

/// A temporary name that nobody can guess, so that nobody can occupy it beforehand.
pub(super) fn temporary_name() -> String {
    // The keys of a `RandomState` come from getrandom(2).
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("{START}{random:016x}{END}")
}

/// Whether `name` is that of a temporary file of ours, which is removed where one is found.
pub fn is_temporary(name: &[u8]) -> bool {
    name.strip_prefix(START.as_bytes())
        .and_then(|rest| rest.strip_suffix(END.as_bytes()))
        .is_some_and(|hex| hex.len() == 16 && hex.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)))
}

/// Owner, group and permission bits, all told. No owner where we are not root: it is then ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exact {
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: u32,
    /// The mode of what carries no access control list, where `mode` is that of something with one.
    pub(super) unlisted: Option<u32>,
}

impl Exact {
    /// What is set on something with a list that is the very one `mode` was told with, or without.
    fn on(self, listed: bool) -> Self {
        let unlisted = self.unlisted.filter(|_| !listed);
        Self { mode: unlisted.unwrap_or(self.mode), ..self }
    }

    /// Sets them on an open file or directory; a mode after an owner, since chown(2) clears bits of the mode.
    pub(super) fn set(self, node: &OwnedFd) -> Result<(), Errno> {
        if let Some((uid, gid)) = self.owner {
            rustix::fs::fchown(node, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        rustix::fs::fchmod(node, Mode::from_raw_mode(self.mode))
    }
}

/// Something under its temporary name. Dropped before it took its place, it is removed again.
#[derive(Debug)]
pub(super) struct Staged<'p> {
    dir: BorrowedFd<'p>,
    path: &'p str,
    name: String,
    node: NodeType,
    /// Where it is a directory: what is in that goes by this, for its name may lie where others can rename.
    made: Option<OwnedFd>,
    placed: bool,
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.placed {
            if let Some(made) = &self.made {
                let _ = sweep::empty(made, self.path, sweep::DEPTH);
            }
            let flags = if self.node == NodeType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // What cannot be removed now is swept the next time something is written here.
            let _ = rustix::fs::unlinkat(self.dir, self.name.as_str(), flags);
        }
    }
}

impl<'p> Staged<'p> {
    /// A file that `fill` writes the content of: owner, group, mode, label first, then content, then synced unless that is
    /// done `later`.
    /// `model` is the file that it will replace, whose label (and attributes, where `trusting`) it takes over.
    pub(super) fn file(
        dir: BorrowedFd<'p>,
        path: &'p str,
        exact: Exact,
        model: Option<&OwnedFd>,
        trusting: bool,
        later: bool,
        fill: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<Self, Error> {
        let name = temporary_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name.as_str(), flags, Mode::from_raw_mode(0o600))
            .map_err(io("make a file beside", path))?;
        let staged = Self { dir, path, name, node: NodeType::Regular, made: None, placed: false };
        let exact = exact.on(extend(&file, model, trusting));
        exact.set(&file).map_err(io("set owner and mode of", path))?;
        let mut file = File::from(file);
        let written = fill(&mut file).and_then(|()| {
            // Writing clears setuid and setgid where we are not root; see chmod(2).
            if exact.mode & 0o7000 != 0 {
                rustix::fs::fchmod(&file, Mode::from_raw_mode(exact.mode))?;
            }
            if later { Ok(()) } else { file.sync_all() }
        });
        written.map_err(|source| Error::Io { doing: "write", path: path.into(), source })?;
        Ok(staged)
    }

    /// A directory, with what `fill` puts into it; nobody else gets at that before it is whole.
    pub(super) fn directory(
        dir: BorrowedFd<'p>,
        path: &'p str,
        exact: Exact,
        trusting: bool,
        syncs: &Syncs,
        fill: impl FnOnce(BorrowedFd<'_>) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let name = temporary_name();
        rustix::fs::mkdirat(dir, name.as_str(), Mode::from_raw_mode(0o700)).map_err(io("make", path))?;
        let mut staged = Self { dir, path, name, node: NodeType::Directory, made: None, placed: false };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(dir, staged.name.as_str(), flags, Mode::empty()).map_err(io("make", path))?;
        let made = staged.made.insert(made);
        let exact = exact.on(extend(made, None, trusting));
        fill(made.as_fd())?;
        exact.set(made).map_err(io("set owner and mode of", path))?;
        syncs.node(made, dir).map_err(io("sync", path))?;
        Ok(staged)
    }

    /// A symbolic link.
    pub(super) fn symlink(
        dir: BorrowedFd<'p>,
        path: &'p str,
        target: &str,
        owner: Option<(u32, u32)>,
    ) -> Result<Self, Error> {
        let name = temporary_name();
        rustix::fs::symlinkat(target, dir, name.as_str()).map_err(io("make the link", path))?;
        let staged = Self { dir, path, name, node: NodeType::Symlink, made: None, placed: false };
        if let Some(owner) = owner {
            own_link(dir, &staged.name, owner).map_err(io("set the owner of", path))?;
        }
        Ok(staged)
    }

    /// Takes `name` in a directory that nobody else gets at.
    pub(super) fn named(mut self, name: &str) -> Result<(), Error> {
        rustix::fs::renameat(self.dir, self.name.as_str(), self.dir, name).map_err(io("rename to", self.path))?;
        self.placed = true;
        Ok(())
    }

    /// Takes the place of what stands there (`standing`, as just looked at), and is on disk when this returns, or later.
    pub(super) fn place(
        mut self,
        parent: &Parent,
        standing: Option<&Meta>,
        over: Over,
        syncs: &Syncs,
    ) -> Result<(), Error> {
        self.take_place(parent, standing, over)?;
        syncs.dir(self.dir).map_err(io("sync the directory of", self.path))
    }

    /// Stays under its temporary name, for somebody else to place or to remove.
    fn keep(mut self) -> String {
        self.placed = true;
        std::mem::take(&mut self.name)
    }

    /// As [`Staged::place`], not yet synced.
    pub(super) fn take_place(&mut self, parent: &Parent, standing: Option<&Meta>, over: Over) -> Result<(), Error> {
        let (dir, path, to) = (self.dir, self.path, parent.name.as_str());
        let plain = |from: &str| rustix::fs::renameat(dir, from, dir, to);
        match standing {
            None => {
                match rename_new(dir, &self.name, to) {
                    Err(Errno::EXIST) => return Err(stale(path)),
                    other => other.map_err(io("rename to", path))?,
                }
                self.placed = true;
            }
            Some(meta) if meta.node != NodeType::Directory && self.node != NodeType::Directory => {
                plain(&self.name).map_err(io("rename to", path))?;
                self.placed = true;
            }
            Some(meta) => self.exchange(to, meta, over)?,
        }
        Ok(())
    }

    /// Trades places with what stands there, which then goes. rename(2) cannot put a file over a
    /// directory, nor a directory over anything that is none.
    fn exchange(&mut self, to: &str, standing: &Meta, over: Over) -> Result<(), Error> {
        let (dir, path) = (self.dir, self.path);
        let was_directory = standing.node == NodeType::Directory;
        if was_directory {
            sweep::check_tree(dir, to, path, over == Over::Tree)?;
        }
        let swap = |a: &str, b: &str| rustix::fs::renameat_with(dir, a, dir, b, RenameFlags::EXCHANGE);
        let old = match swap(&self.name, to) {
            Ok(()) => self.name.clone(),
            Err(Errno::INVAL | Errno::NOSYS) => self.step_aside(to)?,
            Err(Errno::XDEV) if was_directory => return self.follow(to, standing, over),
            Err(errno) => return Err(io("rename to", path)(errno)),
        };
        self.placed = true;
        let back = |this: &mut Self| {
            let back = if old == this.name {
                swap(&old, to)
            } else {
                let plain = |from: &str, to: &str| rustix::fs::renameat(dir, from, dir, to);
                plain(to, &this.name).and_then(|()| plain(&old, to))
            };
            back.map_err(io("rename back to", path))?;
            this.placed = false;
            Ok(())
        };
        // Somebody put something else there just now: it goes back.
        let now = Meta::of(dir, old.as_str(), AtFlags::empty()).map_err(io("look at what was", path))?;
        if (now.node == NodeType::Directory) != was_directory || (was_directory && now.inode != standing.inode) {
            back(self)?;
            return Err(stale(path));
        }
        if !was_directory {
            return rustix::fs::unlinkat(dir, old.as_str(), AtFlags::empty()).map_err(io("remove what was", path));
        }
        if over == Over::Tree {
            return sweep::clear(dir, old.as_str(), path);
        }
        match rustix::fs::unlinkat(dir, old.as_str(), AtFlags::REMOVEDIR) {
            // As here: and something was put into it.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                back(self)?;
                Err(not_empty(path))
            }
            other => other.map_err(io("remove what was", path)),
        }
    }

    /// After a directory of a lower layer, which cannot be renamed, has gone; Documentation/filesystems/overlayfs.rst of the
    /// kernel. Cut in between, the next pass finds nothing here, or what is left of it, of which all was kept, and goes on.
    fn follow(&mut self, to: &str, standing: &Meta, over: Over) -> Result<(), Error> {
        let (dir, path) = (self.dir, self.path);
        let now = Meta::of(dir, to, AtFlags::empty()).map_err(io("look at what was", path))?;
        if now.node != NodeType::Directory || now.inode != standing.inode {
            return Err(stale(path));
        }
        if over == Over::Tree {
            sweep::clear(dir, to, path)?;
        } else {
            match rustix::fs::unlinkat(dir, to, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => return Err(not_empty(path)),
                other => other.map_err(io("remove what was", path))?,
            }
        }
        match rename_new(dir, &self.name, to) {
            Err(Errno::EXIST) => return Err(stale(path)),
            other => other.map_err(io("rename to", path))?,
        }
        self.placed = true;
        Ok(())
    }

    /// Without an exchange: the old one steps aside first. Cut in between, the next pass finds nothing here and makes it.
    fn step_aside(&self, to: &str) -> Result<String, Error> {
        let (dir, path) = (self.dir, self.path);
        let aside = temporary_name();
        rustix::fs::renameat(dir, to, dir, aside.as_str()).map_err(io("move aside", path))?;
        if let Err(errno) = rustix::fs::renameat(dir, self.name.as_str(), dir, to) {
            rustix::fs::renameat(dir, aside.as_str(), dir, to).map_err(io("rename back to", path))?;
            return Err(io("rename to", path)(errno));
        }
        Ok(aside)
    }
}

/// A file that is whole, under a temporary name beside the place that it is to take. Dropped, it is removed again.
#[derive(Debug)]
pub struct Ready {
    place: Place,
    path: String,
    over: Over,
    /// Its temporary name; none once it took its place.
    name: Option<String>,
}

impl Drop for Ready {
    fn drop(&mut self) {
        let name = self.name.take();
        drop(self.under(name));
    }
}

impl Ready {
    /// What `stage` makes in the directory of `place`.
    pub(super) fn make(
        place: Place,
        path: &str,
        over: Over,
        stage: impl for<'p> FnOnce(&'p Place, &'p str) -> Result<Staged<'p>, Error>,
    ) -> Result<Self, Error> {
        let name = Some(stage(&place, path)?.keep());
        Ok(Self { place, path: path.to_owned(), over, name })
    }

    /// What stands under its temporary name, `name`.
    fn under(&self, name: Option<String>) -> Option<Staged<'_>> {
        let (dir, path) = (self.place.dir(), self.path.as_str());
        name.map(|name| Staged { dir, path, name, node: NodeType::Regular, made: None, placed: false })
    }

    /// Its content is on disk when this returns.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = self.name.as_deref().unwrap_or_default();
        let file = rustix::fs::openat(self.place.dir(), name, flags, Mode::empty()).map_err(io("open", &self.path))?;
        rustix::fs::fsync(&file).map_err(io("write", &self.path))
    }

    /// Takes its place, where that is as it was when it was made ready.
    pub(super) fn put(mut self, syncs: &Syncs) -> Result<(), Error> {
        let standing = look_in(&self.place.parent, &self.path)?;
        if !is_as_it_was(self.place.standing.as_ref(), standing.as_ref()) {
            return Err(stale(&self.path));
        }
        let name = self.name.take();
        let Some(staged) = self.under(name) else { return Ok(()) };
        staged.place(&self.place.parent, standing.as_ref(), self.over, syncs)
    }
}

/// Whether what stands there was not changed. Of its other names some may have come or gone, which moves its time, too:
/// those may be written with this one.
fn is_as_it_was(then: Option<&Meta>, now: Option<&Meta>) -> bool {
    let (Some(then), Some(now)) = (then, now) else { return then == now };
    let names = then.links != now.links && then.node == NodeType::Regular;
    let changed = if names { now.changed } else { then.changed };
    *now == Meta { links: if names { now.links } else { then.links }, changed, ..then.clone() }
}

/// A directory that cannot go since something is in it.
pub(super) fn not_empty(path: &str) -> Error {
    Error::Refused {
        thing: path.to_owned(),
        reason: "not-empty",
        why: "the directory is not empty; it stays".to_owned(),
    }
}

/// Gives what stands under `name`, if it is a symbolic link, to `owner`.
pub(super) fn own_link(dir: BorrowedFd<'_>, name: &str, (uid, gid): (u32, u32)) -> Result<(), Errno> {
    // By its descriptor: whoever owns the directory could put a hard link to another file under the name.
    let link = rustix::fs::openat(dir, name, HERE, Mode::empty())?;
    let meta = Meta::of(link.as_fd(), "", AtFlags::EMPTY_PATH)?;
    if meta.node != NodeType::Symlink || meta.links != 1 {
        return Err(Errno::STALE);
    }
    rustix::fs::chownat(&link, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)
}

/// The label, access control list and user attributes of a new node. As good as it goes: a file
/// system without them is no error. See xattr(7), acl(5). Whether it has the list of `model` now.
fn extend(node: &OwnedFd, model: Option<&OwnedFd>, trusting: bool) -> bool {
    if !trusting {
        // Whoever owns the directory may have set a default list that lets them read what we write.
        let _ = rustix::fs::fremovexattr(node, LIST);
        let _ = rustix::fs::fremovexattr(node, "system.posix_acl_default");
    }
    let Some(model) = model else { return false };
    let copy = |name: &str| {
        let mut value = vec![0; 64 * 1024];
        rustix::fs::fgetxattr(model, name, value.as_mut_slice())
            .and_then(|length| rustix::fs::fsetxattr(node, name, &value[..length], XattrFlags::empty()))
            .is_ok()
    };
    copy("security.selinux");
    let listed = trusting && copy(LIST);
    if trusting {
        let mut names = vec![0; 64 * 1024];
        let length = rustix::fs::flistxattr(model, names.as_mut_slice()).unwrap_or(0);
        for name in names[..length].split(|&byte| byte == 0) {
            if let Ok(name) = std::str::from_utf8(name)
                && name.starts_with("user.")
            {
                copy(name);
            }
        }
    }
    listed
}

/// Makes what changed in an open directory durable.
pub(super) fn sync(dir: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::fsync(dir) {
        // Some file systems cannot sync a directory, and need not.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

/// The same for a directory that was opened for going on only.
pub(super) fn sync_here(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    sync(&rustix::fs::openat(dir, ".", flags, Mode::empty())?)
}

/// Writes all of `content`.
pub(super) fn write_all(content: &[u8]) -> impl FnOnce(&mut File) -> std::io::Result<()> + '_ {
    move |file| file.write_all(content)
}

/// What is fixed in its place: nothing may be written over it, whatever the declaration says.
pub(super) fn refuse_fixed(meta: &Meta, path: &str) -> Result<(), Error> {
    if meta.mount_point {
        return Err(in_the_way(path, "a mount point", ""));
    }
    if meta.immutable {
        let what = if meta.node == NodeType::Directory { "an immutable directory" } else { "an immutable file" };
        return Err(in_the_way(path, what, "see chattr(1)"));
    }
    Ok(())
}
