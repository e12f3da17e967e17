//! Whole directories: what is in one, as far as a copy can be kept of it, and one made whole before it takes its place.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

use super::stage::{Exact, Staged, own_link, sync, write_all};
use super::walk::Parent;
use super::write::{Attributes, Over};
use super::{Meta, NodeType, in_the_way, io, names_in, sweep};
use crate::host::{Error, Reader, Writer};

/// What a copy of a tree may come to.
#[derive(Debug, Clone, Copy)]
pub struct TreeLimits {
    /// How many files, directories and links.
    pub nodes: usize,
    /// How many bytes of content, all together.
    pub bytes: u64,
}

impl TreeLimits {
    fn exceeded(self, path: &str) -> Error {
        Error::Refused {
            thing: path.to_owned(),
            reason: "too-large-to-keep",
            why: format!(
                "more is in this directory than a copy is kept of ({} files and directories, {} B); move it away by hand",
                self.nodes, self.bytes
            ),
        }
    }
}

impl Reader {
    /// Everything below the directory `path` by its path within it, parents first, with the targets of symbolic links.
    ///
    /// # Errors
    /// Where something in it cannot be kept: a device, fifo or socket, a mount point, an immutable file, a name that
    /// is not UTF-8; where it is more than `limits` say; or it cannot be read.
    pub fn tree(&self, path: &str, limits: TreeLimits) -> Result<Vec<(String, Meta, Option<String>)>, Error> {
        let Some(reached) = self.root.directory(path)? else { return Ok(Vec::new()) };
        self.root.answers_below(path, &reached)?;
        let Parent { dir, .. } = reached;
        let mut found = Found { path, limits, bytes: 0, nodes: Vec::new() };
        found.walk(&dir, "", sweep::DEPTH)?;
        Ok(found.nodes)
    }
}

struct Found<'a> {
    path: &'a str,
    limits: TreeLimits,
    bytes: u64,
    nodes: Vec<(String, Meta, Option<String>)>,
}

impl Found<'_> {
    fn walk(&mut self, dir: &OwnedFd, within: &str, depth: usize) -> Result<(), Error> {
        let path = self.path;
        let mut names = names_in(dir.as_fd()).map_err(io("list", path))?;
        names.sort();
        for name in names {
            let shown = || format!("{path}/{within}{}", name.to_bytes().escape_ascii());
            let refused = |what: &str| {
                in_the_way(path, &format!("a directory with {what} at {}", shown()), "no copy can be kept of it")
            };
            let Ok(text) = name.to_str() else { return Err(refused("a name that is not UTF-8")) };
            let meta = Meta::of(dir.as_fd(), name.as_c_str(), AtFlags::empty()).map_err(io("look at", &shown()))?;
            if meta.mount_point {
                return Err(refused("a mount point"));
            }
            if meta.immutable {
                return Err(refused("an immutable file"));
            }
            let (mut target, inner) = (None, format!("{within}{text}"));
            match meta.node {
                NodeType::Regular => self.bytes = self.bytes.saturating_add(meta.size),
                NodeType::Directory => {}
                NodeType::Symlink => {
                    let read = rustix::fs::readlinkat(dir, name.as_c_str(), Vec::new());
                    let read = read.map_err(io("read the link", &shown()))?;
                    target = Some(read.into_string().map_err(|_| refused("a link whose target is not UTF-8"))?);
                }
                other => return Err(refused(other.describe())),
            }
            let is_directory = meta.node == NodeType::Directory;
            self.nodes.push((inner.clone(), meta, target));
            if self.nodes.len() > self.limits.nodes || self.bytes > self.limits.bytes {
                return Err(self.limits.exceeded(path));
            }
            if is_directory {
                let deeper = depth.checked_sub(1).ok_or_else(|| in_the_way(path, "a very deep directory tree", ""))?;
                self.walk(&sweep::enter(dir.as_fd(), name.as_c_str(), path)?, &format!("{inner}/"), deeper)?;
            }
        }
        Ok(())
    }
}

/// A directory that is being filled, before it takes its place.
#[derive(Debug)]
pub struct Stage<'s> {
    dir: BorrowedFd<'s>,
    path: &'s str,
    can_own: bool,
}

impl Stage<'_> {
    /// Makes the directory `within`, whose parent has been made.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn directory(&self, within: &str, attributes: Attributes) -> Result<(), Error> {
        let (parent, name) = self.parent(within)?;
        let fail = |errno| io("make", self.path)(errno);
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)).map_err(fail)?;
        let made = sweep::enter(parent.as_fd(), name, self.path)?;
        self.exact(attributes, 0o755).set(&made).and_then(|()| sync(&made)).map_err(fail)
    }

    /// Makes the file `within` with this content.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn file(&self, within: &str, attributes: Attributes, content: &[u8]) -> Result<(), Error> {
        let (parent, name) = self.parent(within)?;
        let exact = self.exact(attributes, 0o644);
        Staged::file(parent.as_fd(), self.path, exact, None, false, false, write_all(content))?.named(name)
    }

    /// Makes `within` a symbolic link.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn symlink(&self, within: &str, target: &str, attributes: Attributes) -> Result<(), Error> {
        let (parent, name) = self.parent(within)?;
        rustix::fs::symlinkat(target, &parent, name).map_err(io("make the link", self.path))?;
        match self.exact(attributes, 0).owner {
            Some(owner) => own_link(parent.as_fd(), name, owner).map_err(io("set the owner of", self.path)),
            None => Ok(()),
        }
    }

    fn exact(&self, attributes: Attributes, mode: u32) -> Exact {
        let owner = (attributes.uid.unwrap_or(0), attributes.gid.unwrap_or(0));
        Exact { owner: self.can_own.then_some(owner), mode: attributes.mode.unwrap_or(mode) & 0o7777, unlisted: None }
    }

    fn parent<'w>(&self, within: &'w str) -> Result<(OwnedFd, &'w str), Error> {
        let (above, name) = within.rsplit_once('/').unwrap_or((".", within));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let parent = rustix::fs::openat2(self.dir, above, flags, Mode::empty(), resolve);
        Ok((parent.map_err(io("reach", self.path))?, name))
    }
}

impl Writer {
    /// Makes `path` a directory that `fill` puts something into; it takes its place once it is whole.
    ///
    /// # Errors
    /// As [`Writer::write_file`]; and where a directory is there already (`stale`).
    pub fn make_tree(
        &mut self,
        path: &str,
        attributes: Attributes,
        over: Over,
        fill: impl FnOnce(&Stage<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let can_own = self.can_own();
        self.directory_with(path, attributes, over, |dir| fill(&Stage { dir, path, can_own }))
    }
}
