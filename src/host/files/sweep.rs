//! Removing: single nodes, empty directories, whole trees, and what a crash left behind.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;

use super::stage::{is_temporary, not_empty, refuse_fixed, sync_here, temporary_name};
use super::walk::{Parent, stale};
use super::{Meta, NodeType, in_the_way, io, look_in, names_in, rename_new};
use crate::host::{Error, Writer};

/// How deep a tree may be that is removed; each level holds a descriptor.
pub(super) const DEPTH: usize = 128;

impl Writer {
    /// Removes the file, symbolic link, fifo, socket or device node `path`, durably. Nothing there is fine.
    ///
    /// # Errors
    /// Where a directory, a mount point or an immutable file is there, or it cannot be removed.
    pub fn remove(&mut self, path: &str) -> Result<(), Error> {
        self.root.forget_near();
        let Some(parent) = self.root.parent(path)? else { return Ok(()) };
        let Some(meta) = look_in(&parent, path)? else { return Ok(()) };
        refuse_fixed(&meta, path)?;
        if meta.node == NodeType::Directory {
            return Err(in_the_way(path, meta.node.describe(), ""));
        }
        match rustix::fs::unlinkat(&parent.dir, parent.name.as_str(), AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => Err(stale(path)),
            other => other.map_err(io("remove", path)),
        }?;
        self.syncs.dir(parent.dir.as_fd()).map_err(io("sync the directory of", path))
    }

    /// Removes the empty directory `path`, durably. Nothing there is fine.
    ///
    /// # Errors
    /// `not-empty` where something is in it; a mount point; something else than a directory.
    pub fn remove_directory(&mut self, path: &str) -> Result<(), Error> {
        self.root.forget_near();
        let Some(parent) = self.root.parent(path)? else { return Ok(()) };
        let Some(meta) = look_in(&parent, path)? else { return Ok(()) };
        refuse_fixed(&meta, path)?;
        match rustix::fs::unlinkat(&parent.dir, parent.name.as_str(), AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Err(not_empty(path)),
            Err(Errno::NOTDIR) => return Err(in_the_way(path, meta.node.describe(), "")),
            other => other.map_err(io("remove", path))?,
        }
        self.syncs.dir(parent.dir.as_fd()).map_err(io("sync the directory of", path))
    }

    /// Removes the directory `path` with all that is below it: it is there whole, or not at all. Nothing there is fine.
    ///
    /// # Errors
    /// Where something is mounted at it or below it (nothing is removed then), or something cannot be removed.
    pub fn remove_tree(&mut self, path: &str) -> Result<(), Error> {
        self.root.forget_near();
        let Some(parent) = self.root.parent(path)? else { return Ok(()) };
        let Some(meta) = look_in(&parent, path)? else { return Ok(()) };
        refuse_fixed(&meta, path)?;
        check_tree(parent.dir.as_fd(), parent.name.as_str(), path, true)?;
        // What a crash leaves of it under this name is swept.
        let aside = temporary_name();
        let back = || rename_new(parent.dir.as_fd(), &aside, &parent.name);
        let name = match rustix::fs::renameat(&parent.dir, parent.name.as_str(), &parent.dir, aside.as_str()) {
            Ok(()) => aside.as_str(),
            // A directory of a lower layer cannot be renamed; Documentation/filesystems/overlayfs.rst of the kernel.
            Err(Errno::XDEV) => parent.name.as_str(),
            Err(errno) => return Err(io("move aside", path)(errno)),
        };
        let moved = Meta::of(parent.dir.as_fd(), name, AtFlags::empty()).map_err(io("look at", path))?;
        if moved.node != NodeType::Directory || moved.inode != meta.inode {
            // Somebody put something else there just now: it goes back. A link goes where something is there again.
            if name == aside && back().is_err() {
                let _ = rustix::fs::unlinkat(&parent.dir, name, AtFlags::empty());
            }
            return Err(stale(path));
        }
        sync_here(parent.dir.as_fd()).map_err(io("sync the directory of", path))?;
        clear(parent.dir.as_fd(), name, path)?;
        sync_here(parent.dir.as_fd()).map_err(io("sync the directory of", path))
    }

    /// As [`Writer::sweep`], the first time it is asked for this directory: the lock keeps new left-overs away.
    ///
    /// # Errors
    /// As [`Writer::sweep`].
    pub fn sweep_once(&mut self, path: &str) -> Result<usize, Error> {
        if self.swept.insert(path.to_owned()) { self.sweep(path) } else { Ok(0) }
    }

    /// Removes what an interrupted write left in the directory `path`; tells how many names went.
    ///
    /// # Errors
    /// Where the directory cannot be read, or a left-over not be removed.
    pub fn sweep(&mut self, path: &str) -> Result<usize, Error> {
        let Some(Parent { dir, loose, .. }) = self.root.directory(path)? else { return Ok(0) };
        let mut swept = 0;
        for name in names_in(dir.as_fd()).map_err(io("list", path))? {
            if !is_temporary(name.to_bytes()) {
                continue;
            }
            let Ok(meta) = Meta::of(dir.as_fd(), name.as_c_str(), AtFlags::empty()) else { continue };
            let gone = match meta.node {
                NodeType::Regular | NodeType::Symlink => {
                    rustix::fs::unlinkat(&dir, name.as_c_str(), AtFlags::empty()).map_err(io("sweep", path))
                }
                // Where others can rename, one of root's own directories may have been given this name.
                NodeType::Directory if loose.is_none() => check_tree(dir.as_fd(), name.as_c_str(), path, true)
                    .and_then(|()| clear(dir.as_fd(), name.as_c_str(), path)),
                NodeType::Directory => match rustix::fs::unlinkat(&dir, name.as_c_str(), AtFlags::REMOVEDIR) {
                    Err(Errno::NOTEMPTY | Errno::EXIST) => continue,
                    other => other.map_err(io("sweep", path)),
                },
                _ => continue,
            };
            gone?;
            swept += 1;
        }
        Ok(swept)
    }
}

pub(super) fn enter<P: Arg>(dir: BorrowedFd<'_>, name: P, path: &str) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(io("open", path))
}

/// Whether the directory `name` may go: nothing mounted in it, and nothing in it at all unless `whole`.
pub(super) fn check_tree<P: Arg>(dir: BorrowedFd<'_>, name: P, path: &str, whole: bool) -> Result<(), Error> {
    let tree = enter(dir, name, path)?;
    if whole {
        return check(&tree, path, DEPTH);
    }
    if names_in(tree.as_fd()).map_err(io("list", path))?.is_empty() { Ok(()) } else { Err(not_empty(path)) }
}

fn check(dir: &OwnedFd, path: &str, depth: usize) -> Result<(), Error> {
    for name in names_in(dir.as_fd()).map_err(io("list", path))? {
        let below = || format!("{path}/{}", name.to_bytes().escape_ascii());
        let meta = Meta::of(dir.as_fd(), name.as_c_str(), AtFlags::empty()).map_err(io("look at", &below()))?;
        if meta.mount_point {
            return Err(in_the_way(path, &format!("a mount point at {}", below()), ""));
        }
        if meta.immutable {
            return Err(in_the_way(path, &format!("an immutable file at {}", below()), "see chattr(1)"));
        }
        if meta.node == NodeType::Directory {
            let deeper = depth.checked_sub(1).ok_or_else(|| in_the_way(path, "a very deep directory tree", ""))?;
            check(&enter(dir.as_fd(), name.as_c_str(), &below())?, &below(), deeper)?;
        }
    }
    Ok(())
}

/// Removes the directory `name` with all that is below it, never through a link or past a mount point.
pub(super) fn clear<P: Arg + Copy>(dir: BorrowedFd<'_>, name: P, path: &str) -> Result<(), Error> {
    empty(&enter(dir, name, path)?, path, DEPTH)?;
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(io("remove", path))
}

pub(super) fn empty(dir: &OwnedFd, path: &str, depth: usize) -> Result<(), Error> {
    for name in names_in(dir.as_fd()).map_err(io("list", path))? {
        let name: &CStr = &name;
        let below = || format!("{path}/{}", name.to_bytes().escape_ascii());
        let meta = Meta::of(dir.as_fd(), name, AtFlags::empty()).map_err(io("look at", &below()))?;
        if meta.mount_point {
            return Err(in_the_way(path, &format!("a mount point at {}", below()), ""));
        }
        let flags = if meta.node == NodeType::Directory {
            let deeper = depth.checked_sub(1).ok_or_else(|| in_the_way(path, "a very deep directory tree", ""))?;
            empty(&enter(dir.as_fd(), name, &below())?, &below(), deeper)?;
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        rustix::fs::unlinkat(dir, name, flags).map_err(io("remove", &below()))?;
    }
    Ok(())
}
