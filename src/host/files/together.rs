//! Many changes made durable together: one syncfs(2) for each file system instead of one fsync(2) for each file and each
//! directory. It tells of what could not be written only by a descriptor that was open before; see the man page.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::stage::{Ready, sync, sync_here};
use super::{Error, io};
use crate::host::Writer;

/// File systems of which syncfs(2) makes everything durable; see statfs(2). On what is elsewhere (NFS, FUSE), and on what
/// is not known, each change is synced by itself.
const KNOWN: &[(u64, Told)] = &[
    (0xef53, Told::BySync),      // ext4, ext3, ext2
    (0x5846_5342, Told::BySync), // XFS
    (0x9123_683e, Told::BySync), // Btrfs
    (0x0102_1994, Told::BySync), // tmpfs
    (0xf2f5_2010, Told::BySync), // F2FS
    // overlayfs syncs the layer that is written, and does not hand on what was lost there.
    (0x794c_7630, Told::ByFile),
];

/// Who tells of contents that could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// syncfs(2).
    BySync,
    /// Each file, once it is asked.
    ByFile,
}

/// A file system, by the device of a directory on it.
pub type FileSystem = u64;

/// When what changes is made durable: at once, or together.
#[derive(Debug, Default)]
pub(in crate::host) struct Syncs(RefCell<Option<Together>>);

#[derive(Debug, Default)]
struct Together {
    /// The descriptor for syncfs(2), opened before anything was changed there; none where each change is synced by itself.
    systems: BTreeMap<FileSystem, Option<(OwnedFd, Told)>>,
    /// Where something was changed since that was last asked.
    touched: BTreeSet<FileSystem>,
}

impl Syncs {
    /// Whether what is about to change in the directory `dir` is made durable later, together with other changes.
    pub(super) fn later(&self, dir: BorrowedFd<'_>) -> bool {
        let mut together = self.0.borrow_mut();
        let Some(together) = together.as_mut() else { return false };
        let Ok(meta) = rustix::fs::fstat(dir) else { return false };
        let system = together.systems.entry(meta.st_dev).or_insert_with(|| open(dir).ok().flatten());
        if system.is_some() {
            together.touched.insert(meta.st_dev);
        }
        system.is_some()
    }

    /// Makes what changed in the directory `dir` durable, now or later.
    pub(super) fn dir(&self, dir: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.later(dir) { Ok(()) } else { sync_here(dir) }
    }

    /// The same of `node`, which lies in `dir`.
    pub(super) fn node(&self, node: &OwnedFd, dir: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.later(dir) { Ok(()) } else { sync(node) }
    }

    /// Whether syncing these file systems tells of every content that was lost.
    fn tell(&self, systems: &BTreeSet<FileSystem>) -> bool {
        let together = self.0.borrow();
        let known = |system| together.as_ref().and_then(|together| together.systems.get(system));
        systems.iter().all(|system| matches!(known(system), Some(Some((_, Told::BySync)))))
    }

    /// What was touched is on disk when this returns, but for the file systems that it tells.
    fn sync(&self) -> BTreeMap<FileSystem, Errno> {
        let together = self.0.borrow();
        let all = together.iter().flat_map(|together| &together.systems);
        all.filter_map(|(system, dir)| {
            let errno = rustix::fs::syncfs(&dir.as_ref()?.0).err()?;
            Some((*system, errno))
        })
        .collect()
    }
}

/// A descriptor for syncfs(2), where that is known to do.
fn open(dir: BorrowedFd<'_>) -> Result<Option<(OwnedFd, Told)>, Errno> {
    // The type is a number of the kernel, whatever type it has here.
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
    let kind = rustix::fs::fstatfs(dir)?.f_type as u64;
    let Some((_, told)) = KNOWN.iter().find(|(known, _)| *known == kind) else { return Ok(None) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, ".", flags, Mode::empty()).map(|dir| Some((dir, *told)))
}

/// One of many changes: done but for its being durable, or ready to be done.
#[derive(Debug)]
pub enum Made {
    /// Done.
    Done,
    /// Whole, under a temporary name.
    Ready(Box<Ready>),
}

impl Writer {
    /// Makes many changes, and makes them durable together: each is on disk when this returns, or is an error. `change`
    /// does the `n`th; files that it makes ready take their places once the contents of all of them are on disk.
    pub fn change_together(
        &mut self,
        n: usize,
        mut change: impl FnMut(&mut Self, usize) -> Result<Made, Error>,
        path: impl Fn(usize) -> String,
    ) -> Vec<Result<(), Error>> {
        self.syncs = Syncs(RefCell::new(Some(Together::default())));
        let mut changes = Vec::with_capacity(n);
        self.root.keep_near(true);
        for at in 0..n {
            let changed = change(self, at);
            changes.push((changed, self.touched()));
        }
        self.root.keep_near(false);
        let lost = self.syncs.sync();
        let placed: Vec<(Result<(), Error>, BTreeSet<FileSystem>)> = changes
            .into_iter()
            .enumerate()
            .map(|(at, (changed, touched))| {
                let unsynced = touched.iter().find_map(|system| lost.get(system)).copied();
                let placed = match (changed, unsynced) {
                    (Err(error), _) => Err(error),
                    // Which of them could not be written is not told: each is asked, and none takes its place.
                    (Ok(Made::Ready(ready)), Some(errno)) => {
                        Err(ready.sync().err().unwrap_or_else(|| io("sync the file system of", &path(at))(errno)))
                    }
                    (Ok(Made::Done), Some(errno)) => Err(io("sync the file system of", &path(at))(errno)),
                    (Ok(Made::Ready(ready)), None) => {
                        let asked = if self.syncs.tell(&touched) { Ok(()) } else { ready.sync() };
                        asked.and_then(|()| self.put(*ready))
                    }
                    (Ok(Made::Done), None) => Ok(()),
                };
                (placed, touched)
            })
            .collect();
        let lost = self.syncs.sync();
        self.syncs = Syncs::default();
        let durable = |(at, (placed, touched)): (usize, (Result<(), Error>, BTreeSet<FileSystem>))| {
            let unsynced = touched.iter().find_map(|system| lost.get(system));
            placed.and_then(|()| unsynced.map_or(Ok(()), |errno| Err(io("sync the file system of", &path(at))(*errno))))
        };
        placed.into_iter().enumerate().map(durable).collect()
    }

    /// Where something was changed since this was last asked.
    fn touched(&self) -> BTreeSet<FileSystem> {
        self.syncs.0.borrow_mut().as_mut().map(|together| std::mem::take(&mut together.touched)).unwrap_or_default()
    }
}
