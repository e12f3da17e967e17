//! What is below a directory, by name and type alone.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::walk::Parent;
use super::{Meta, NodeType, io, names_in, stage, sweep};
use crate::host::{Error, Reader};

/// What is below a directory.
#[derive(Debug, Default)]
pub struct Below {
    /// By path within it, parents first. A mount point says so of itself, and so does a directory of another file
    /// system; neither is entered.
    pub nodes: Vec<(String, Meta)>,
    /// Paths whose names nobody can write down, escaped: not UTF-8, or with control characters.
    pub unnameable: Vec<String>,
}

impl Reader {
    /// Everything below the directory `path`, without what an interrupted write may have left; nothing where it is not
    /// there. No link is followed, and only what `enter` says of a path within it is entered.
    ///
    /// # Errors
    /// Where it cannot be read, is more than `limit` nodes, or an end is asked for (`interrupted`).
    pub fn below(&self, path: &str, limit: usize, enter: &dyn Fn(&str) -> bool) -> Result<Below, Error> {
        let Some(reached) = self.root.directory(path)? else { return Ok(Below::default()) };
        self.root.answers_below(path, &reached)?;
        let Parent { dir, .. } = reached;
        let device = Meta::of(dir.as_fd(), "", AtFlags::EMPTY_PATH).map_err(io("look at", path))?.device;
        let mut walk = Walk { reader: self, path, limit, device, enter, found: Below::default() };
        walk.list(&dir, "", sweep::DEPTH)?;
        Ok(walk.found)
    }
}

struct Walk<'a> {
    reader: &'a Reader,
    path: &'a str,
    limit: usize,
    device: (u32, u32),
    enter: &'a dyn Fn(&str) -> bool,
    found: Below,
}

impl Walk<'_> {
    fn list(&mut self, dir: &OwnedFd, within: &str, depth: usize) -> Result<(), Error> {
        if self.reader.interrupted() {
            return Err(Error::interrupted(self.path));
        }
        let unknown = |why: String| Error::Unknown { thing: self.path.to_owned(), why };
        let mut names = names_in(dir.as_fd()).map_err(io("list", self.path))?;
        names.sort();
        for name in names.iter().filter(|name| !stage::is_temporary(name.to_bytes())) {
            let text = name.to_str().ok().filter(|text| !text.chars().any(char::is_control));
            let Some(text) = text else {
                self.found.unnameable.push(format!("{}/{within}{}", self.path, name.to_bytes().escape_ascii()));
                continue;
            };
            let inner = format!("{within}{text}");
            let mut meta = match Meta::of(dir.as_fd(), name.as_c_str(), AtFlags::empty()) {
                Err(Errno::NOENT) => continue,
                meta => meta.map_err(io("look at", &format!("{}/{inner}", self.path)))?,
            };
            let directory = meta.node == NodeType::Directory;
            // Of a file an overlay may tell the device of a layer; Documentation/filesystems/overlayfs.rst of the kernel.
            meta.mount_point |= directory && meta.device != self.device;
            let entered = directory && !meta.mount_point && (self.enter)(&inner);
            self.found.nodes.push((inner.clone(), meta));
            if self.found.nodes.len() > self.limit {
                return Err(unknown(format!("more than {} files and directories are below it", self.limit)));
            }
            if entered {
                let deeper = depth.checked_sub(1).ok_or_else(|| unknown("a very deep directory tree".to_owned()))?;
                match sweep::enter(dir.as_fd(), name.as_c_str(), self.path) {
                    Ok(below) => self.list(&below, &format!("{inner}/"), deeper)?,
                    Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}
