use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, Gid, Mode, Uid};
use rustix::io::Errno;

use super::list::unlisted;
use super::stage::{Exact, Ready, Staged, own_link, refuse_fixed, write_all};
use super::walk::{Parent, stale};
use super::{Meta, NodeType, Syncs, in_the_way, io, look_in, open_quietly};
use crate::host::{Error, Writer};

/// Owner, group and permission bits to give. What is `None` stays as it is on what is replaced by its
/// like, and is otherwise root's (or ours, where we are not root), 0644 of files, 0755 of directories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// Permission bits, `0o7777` at most.
    pub mode: Option<u32>,
    /// Those of what carries no access control list, where `mode` is what was told of something with one; see acl(5).
    pub unlisted: Option<u32>,
}

impl Attributes {
    /// What is set on `node`, which may have lost its list.
    fn on(self, node: &OwnedFd, now: &Meta) -> Result<Self, Errno> {
        Ok(match self.unlisted {
            Some(_) if unlisted(node, now.mode)?.is_none() => Self { mode: self.unlisted, ..self },
            _ => self,
        })
    }
}

/// What may stand in the place that is written and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nothing.
    Nothing,
    /// Anything that is no directory.
    Leaf,
    /// Anything that is no directory, and an empty directory.
    Empty,
    /// Anything, a directory with all that is below it included.
    Tree,
}

/// Where something is about to be written, looked at.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) parent: Parent,
    pub(super) standing: Option<Meta>,
    /// The directory is root's: what its default access control list gives is what root wants.
    trusting: bool,
}

impl Place {
    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.parent.dir.as_fd()
    }

    /// The mode of the file that stands here without its access control list. What cannot be told is not handed on.
    fn unlisted(&self) -> Option<u32> {
        let mode = self.standing.as_ref()?.mode;
        unlisted(&self.model()?, mode).unwrap_or(Some(mode & !0o070))
    }

    /// The descriptor of the file that stands here, for its label.
    fn model(&self) -> Option<OwnedFd> {
        match &self.standing {
            Some(meta) if meta.node == NodeType::Regular => open_quietly(&self.parent).ok().map(|(file, _)| file),
            _ => None,
        }
    }
}

impl Writer {
    /// Makes `path` a regular file with this content: at every instant the whole old one or the whole
    /// new one, and on disk when this returns. Missing directories on the way are made, root's, 0755.
    ///
    /// # Errors
    /// Where it cannot; what stood there is then still there, and nothing is left beside it.
    pub fn write_file(&mut self, path: &str, attributes: Attributes, content: &[u8], over: Over) -> Result<(), Error> {
        let ready = self.make_ready(path, attributes, content, over)?;
        self.put(ready)
    }

    /// The same, but for its taking its place: [`Writer::put`] does that.
    ///
    /// # Errors
    /// As [`Writer::write_file`].
    pub fn make_ready(
        &mut self,
        path: &str,
        attributes: Attributes,
        content: &[u8],
        over: Over,
    ) -> Result<Ready, Error> {
        let place = self.place(path, over)?;
        let exact = self.exact(&place, attributes, NodeType::Regular, 0o644);
        let model = place.model();
        let trusting = place.trusting && place.standing.as_ref().is_none_or(|meta| self.root.believes(meta.uid));
        let later = self.syncs.later(place.dir());
        Ready::make(place, path, over, |place, path| {
            Staged::file(place.dir(), path, exact, model.as_ref(), trusting, later, write_all(content))
        })
    }

    /// Has what was made ready take its place.
    ///
    /// # Errors
    /// `stale` where that is no longer as it was then; as [`Writer::write_file`].
    pub fn put(&mut self, ready: Ready) -> Result<(), Error> {
        ready.put(&self.syncs)
    }

    /// Makes `path` a directory, where it is none yet; empty, with its attributes from the first instant.
    ///
    /// # Errors
    /// As [`Writer::write_file`]; and where a directory is there already (`stale`).
    pub fn make_directory(&mut self, path: &str, attributes: Attributes, over: Over) -> Result<(), Error> {
        self.directory_with(path, attributes, over, |_| Ok(()))
    }

    /// The same, with what `fill` puts into it.
    pub(super) fn directory_with(
        &mut self,
        path: &str,
        attributes: Attributes,
        over: Over,
        fill: impl FnOnce(BorrowedFd<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.root.forget_near();
        let place = self.place(path, over)?;
        if place.standing.as_ref().is_some_and(|meta| meta.node == NodeType::Directory) {
            return Err(stale(path));
        }
        let exact = self.exact(&place, attributes, NodeType::Directory, 0o755);
        let staged = Staged::directory(place.dir(), path, exact, place.trusting, &self.syncs, fill)?;
        staged.place(&place.parent, place.standing.as_ref(), over, &self.syncs)
    }

    /// Makes `path` a symbolic link to `target`.
    ///
    /// # Errors
    /// As [`Writer::write_file`].
    pub fn make_symlink(&mut self, path: &str, target: &str, attributes: Attributes, over: Over) -> Result<(), Error> {
        self.root.forget_near();
        let place = self.place(path, over)?;
        let exact = self.exact(&place, attributes, NodeType::Symlink, 0);
        let staged = Staged::symlink(place.dir(), path, target, exact.owner)?;
        staged.place(&place.parent, place.standing.as_ref(), over, &self.syncs)
    }

    /// Sets what is given of owner, group and mode on the file, directory or symbolic link `path`, never wider than
    /// before and after in between. A file that has other names is replaced by a copy, so that those stay as they are.
    ///
    /// # Errors
    /// `no-such-file` where nothing is there; `in-the-way` for other types, and for a file with several names
    /// where somebody else could have given it this one.
    pub fn set_attributes(&mut self, path: &str, attributes: Attributes) -> Result<(), Error> {
        let missing = || Error::Refused {
            thing: path.to_owned(),
            reason: "no-such-file",
            why: "only its attributes are declared, and it is not there".to_owned(),
        };
        self.root.forget_near();
        let parent = self.root.parent(path)?.ok_or_else(missing)?;
        let meta = look_in(&parent, path)?.ok_or_else(missing)?;
        if meta.immutable || (meta.mount_point && meta.node != NodeType::Directory) {
            refuse_fixed(&meta, path)?;
        }
        match meta.node {
            NodeType::Regular | NodeType::Directory => {}
            NodeType::Symlink if !self.can_own() => return Ok(()),
            NodeType::Symlink => {
                let owner = (attributes.uid.unwrap_or(meta.uid), attributes.gid.unwrap_or(meta.gid));
                return own_link(parent.dir.as_fd(), &parent.name, owner).map_err(io("set the owner of", path));
            }
            other => return Err(in_the_way(path, other.describe(), "")),
        }
        // Asked of the descriptor again: the name may have been given to something else.
        let (node, now) = open_quietly(&parent).map_err(io("open", path))?;
        if now.node != meta.node {
            return Err(stale(path));
        }
        if now.node == NodeType::Regular && now.links > 1 {
            return self.copy_with(path, attributes);
        }
        let attributes = attributes.on(&node, &now).map_err(io("read the access control list of", path))?;
        self.set_in_place(&node, &now, attributes).map_err(io("set owner and mode of", path))?;
        // What is mounted here lies on another file system than its name.
        let durable =
            if meta.mount_point { self.syncs.dir(node.as_fd()) } else { self.syncs.node(&node, parent.dir.as_fd()) };
        durable.map_err(io("sync", path))
    }

    fn set_in_place(&self, node: &OwnedFd, now: &Meta, attributes: Attributes) -> Result<(), Errno> {
        let mode = attributes.mode.unwrap_or_else(|| now.mode_for_another(attributes));
        let uid = attributes.uid.filter(|&uid| uid != now.uid);
        let gid = attributes.gid.filter(|&gid| gid != now.gid);
        let owns = self.can_own() && (uid.is_some() || gid.is_some());
        if owns {
            // For as long as owner and mode do not belong together, only what both modes allow.
            if now.mode & mode != now.mode {
                rustix::fs::fchmod(node, Mode::from_raw_mode(now.mode & mode))?;
            }
            rustix::fs::fchown(node, uid.map(Uid::from_raw), gid.map(Gid::from_raw))?;
        }
        // A change of owner clears setuid and setgid; see chown(2).
        if owns || mode != now.mode {
            rustix::fs::fchmod(node, Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }

    /// Replaces a file that has several names by a copy of its own.
    fn copy_with(&mut self, path: &str, attributes: Attributes) -> Result<(), Error> {
        let parent = self.root.parent_judged(path)?.ok_or_else(|| stale(path))?;
        if let Some(who) = &parent.loose {
            // The copy could be of a file that they may not read.
            let what = format!("a file with several names, perhaps given this one by {who}");
            return Err(in_the_way(path, what.trim_end_matches(','), ""));
        }
        self.root.forget_near();
        let place = self.place(path, Over::Leaf)?;
        let (source, meta) = open_quietly(&place.parent).map_err(io("open", path))?;
        if meta.node != NodeType::Regular {
            return Err(stale(path));
        }
        let exact = self.exact(&place, attributes, NodeType::Regular, meta.mode_for_another(attributes));
        let trusting = self.root.believes(meta.uid);
        let label = source.try_clone().map_err(|source| Error::Io { doing: "open", path: path.into(), source })?;
        let staged = Staged::file(place.dir(), path, exact, Some(&label), trusting, false, |file| {
            std::io::copy(&mut std::fs::File::from(source), file).map(drop)
        })?;
        staged.place(&place.parent, place.standing.as_ref(), Over::Leaf, &self.syncs)
    }

    /// The place `path`, its missing directories made, and nothing there that may not be replaced.
    fn place(&mut self, path: &str, over: Over) -> Result<Place, Error> {
        let exact = Exact { owner: self.can_own().then_some((0, 0)), mode: 0o755, unlisted: None };
        let made = RefCell::new(Vec::new());
        let parent = self.root.parent_made(path, &|dir, name, at| {
            let above = Meta::of(dir, "", AtFlags::EMPTY_PATH).map_err(io("look at the directory of", at))?;
            make_between(dir, name, at, exact, self.root.believes(above.uid), &self.syncs)?;
            // Ours from now on, also where it cannot be synced.
            made.borrow_mut().push(at.to_owned());
            self.syncs.dir(dir).map_err(io("sync the directory of", at))
        });
        self.made.append(&mut made.into_inner());
        let parent = parent?;
        if parent.name == "." {
            return Err(in_the_way(path, "the root directory", ""));
        }
        let above =
            Meta::of(parent.dir.as_fd(), "", AtFlags::EMPTY_PATH).map_err(io("look at the directory of", path))?;
        if above.immutable {
            return Err(in_the_way(path, "an immutable directory", "see chattr(1)"));
        }
        let standing = look_in(&parent, path)?;
        if let Some(meta) = &standing {
            refuse_fixed(meta, path)?;
            match (over, meta.node) {
                (Over::Nothing, _) => return Err(stale(path)),
                (Over::Leaf, NodeType::Directory) => return Err(in_the_way(path, meta.node.describe(), "")),
                _ => {}
            }
        }
        Ok(Place { trusting: self.root.believes(above.uid), parent, standing })
    }

    fn exact(&self, place: &Place, attributes: Attributes, node: NodeType, mode: u32) -> Exact {
        let like = place.standing.as_ref().filter(|meta| meta.node == node);
        let uid = attributes.uid.or(like.map(|meta| meta.uid)).unwrap_or(0);
        let gid = attributes.gid.or(like.map(|meta| meta.gid)).unwrap_or(0);
        let mode = attributes.mode.or(like.map(|meta| meta.mode_for_another(attributes))).unwrap_or(mode);
        let unlisted = match attributes.mode {
            Some(_) => attributes.unlisted,
            None => like.and_then(|_| place.unlisted()).map(|unlisted| unlisted & (mode | 0o777)),
        };
        Exact { owner: self.can_own().then_some((uid, gid)), mode: mode & 0o7777, unlisted }
    }
}

/// Makes a directory that a path implies, not yet synced.
fn make_between(
    dir: BorrowedFd<'_>,
    name: &str,
    at: &str,
    exact: Exact,
    trusting: bool,
    syncs: &Syncs,
) -> Result<(), Error> {
    let mut staged = Staged::directory(dir, at, exact, trusting, syncs, |_| Ok(()))?;
    let dir = dir.try_clone_to_owned().map_err(|source| Error::Io { doing: "make", path: at.into(), source })?;
    let parent = Parent { dir: Rc::new(dir), name: name.to_owned(), real: None, loose: None };
    staged.take_place(&parent, None, Over::Nothing)
}
