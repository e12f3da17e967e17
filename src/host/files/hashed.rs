//! Contents that need not be read again: a file whose stat is as it was when its content was hashed has that content.
//!
//! In memory only, so that nothing of it outlives a boot or an agent. What a stat cannot tell is read: a file that was
//! changed so shortly before that the clock of its file system may not have moved on, one that changed as it was read,
//! one on a file system whose times others set, and each once a day, since who writes through a mapping need not move
//! any time; see inode(7), mmap(2), statx(2).

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::Meta;
use crate::host::begun::{Begun, up};
use crate::model::Digest;

/// File systems whose times are the kernel's own, and move whenever a file is written; see statfs(2).
const KEEPS_TIME: &[u64] = &[
    0xef53,      // ext4, ext3, ext2
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0xf2f5_2010, // F2FS
    0x794c_7630, // overlayfs
];

/// What is known, shared by passes one after the other and by whoever hears of changes.
#[derive(Debug, Clone, Default)]
pub struct Hashed(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    files: HashMap<Box<str>, Content>,
    mounts: Option<Mounts>,
    /// Which look this is.
    look: u64,
    /// Seconds since the boot, as it began.
    up: u64,
    /// Something was asked for in it.
    asked: bool,
}

/// What was read of one file.
#[derive(Debug)]
struct Content {
    stat: Stat,
    digest: Digest,
    read: Begun,
    /// In which look it was asked for last.
    look: u64,
}

/// All that moves where a file is another one, or was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    device: (u32, u32),
    inode: u64,
    size: u64,
    modified: i128,
    changed: i128,
    mode: u32,
    owner: (u32, u32),
    mount: Option<u64>,
}

impl Stat {
    fn of(meta: &Meta) -> Self {
        Self {
            device: meta.device,
            inode: meta.inode,
            size: meta.size,
            modified: meta.modified,
            changed: meta.changed,
            mode: meta.mode,
            owner: (meta.uid, meta.gid),
            mount: meta.mount,
        }
    }
}

impl Hashed {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A look begins: what the last one had no use for is dropped, and what another mount may have changed.
    pub(in crate::host) fn begin(&self) {
        self.table().begin(up(), Mounts::changed);
    }

    /// `path` may have been changed, whatever its times say.
    pub fn forget(&self, path: &Path) {
        if let Some(path) = path.to_str() {
            self.table().files.remove(path);
        }
    }

    /// Anything may have been changed.
    pub fn forget_all(&self) {
        self.table().files.clear();
    }

    /// `path`, which is as `meta` says, is taken to hold this.
    #[cfg(test)]
    pub(super) fn pretend(&self, path: &str, meta: &Meta, digest: &Digest) {
        let begun = Begun { wall: meta.changed.saturating_add(crate::host::begun::SETTLED + 1), up: up() };
        self.table().learn(path, Stat::of(meta), digest, begun);
    }

    /// What the file `path` holds, which is as `meta` says; `None` where it has to be read.
    pub(super) fn of(&self, path: &str, meta: &Meta) -> Option<Digest> {
        self.table().of(path, &Stat::of(meta))
    }

    /// `file` was read, from the moment `begun` on, and was as `meta` says before and after it.
    pub(super) fn learn(&self, path: &str, file: BorrowedFd<'_>, meta: &Meta, digest: &Digest, begun: Begun) {
        if keeps_time(file) {
            self.table().learn(path, Stat::of(meta), digest, begun);
        } else {
            self.forget(Path::new(path));
        }
    }
}

fn keeps_time(file: BorrowedFd<'_>) -> bool {
    // The type is a number of the kernel, whatever type it has here.
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
    rustix::fs::fstatfs(file).is_ok_and(|system| KEEPS_TIME.contains(&(system.f_type as u64)))
}

impl Table {
    fn begin(&mut self, up: u64, mounts_changed: impl FnOnce(&mut Option<Mounts>) -> bool) {
        let last = self.look;
        // A look that came to nothing says nothing of what is needed.
        if std::mem::take(&mut self.asked) {
            self.files.retain(|_, content| content.look == last);
        }
        if mounts_changed(&mut self.mounts) {
            self.files.retain(|_, content| content.stat.mount.is_some());
        }
        self.look += 1;
        self.up = up;
    }

    fn of(&mut self, path: &str, stat: &Stat) -> Option<Digest> {
        self.asked = true;
        let content = self.files.get_mut(path)?;
        content.look = self.look;
        (content.stat == *stat && content.read.is_of_today(self.up)).then_some(content.digest)
    }

    fn learn(&mut self, path: &str, stat: Stat, digest: &Digest, begun: Begun) {
        if begun.is_long_after(stat.changed) {
            let content = Content { stat, digest: *digest, read: begun, look: self.look };
            self.files.insert(path.into(), content);
        } else {
            self.files.remove(path);
        }
    }
}

/// The table of mounts, which tells that it was changed: see proc_pid_mountinfo(5) and poll(2).
#[derive(Debug)]
struct Mounts(File);

impl Mounts {
    /// Whether anything was mounted or unmounted since this was asked last, or that cannot be told.
    fn changed(known: &mut Option<Self>) -> bool {
        let opened = known.is_none();
        if opened {
            *known = File::open("/proc/self/mountinfo").ok().map(Self);
        }
        let Some(Self(file)) = known else { return true };
        let mut asked = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        opened || !matches!(rustix::event::poll(&mut asked, Some(&at_once)), Ok(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::begun::DAY;

    const SECOND: i128 = 1_000_000_000;

    fn stat() -> Stat {
        Stat {
            device: (8, 1),
            inode: 7,
            size: 3,
            modified: 10 * SECOND,
            changed: 10 * SECOND,
            mode: 0o644,
            owner: (0, 0),
            mount: Some(1),
        }
    }

    fn at(wall: i128, up: u64) -> Begun {
        Begun { wall, up }
    }

    fn learned(wall: i128, up: u64, stat: Stat) -> Table {
        let mut table = Table::default();
        table.begin(up, |_| false);
        table.learn("/x", stat, &Digest::of(b"x"), at(wall, up));
        table
    }

    #[test]
    fn whatever_moves_in_a_stat_has_the_file_read_again() {
        let mut table = learned(100 * SECOND, 5, stat());
        assert_eq!(table.of("/x", &stat()), Some(Digest::of(b"x")));
        assert_eq!(table.of("/y", &stat()), None);
        for other in [
            Stat { device: (8, 2), ..stat() },
            Stat { inode: 8, ..stat() },
            Stat { size: 4, ..stat() },
            Stat { modified: 10 * SECOND + 1, ..stat() },
            Stat { changed: 10 * SECOND - 1, ..stat() },
            Stat { mode: 0o600, ..stat() },
            Stat { owner: (0, 1), ..stat() },
            Stat { owner: (1, 0), ..stat() },
            Stat { mount: Some(2), ..stat() },
            Stat { mount: None, ..stat() },
        ] {
            assert_eq!(table.of("/x", &other), None, "{other:?}");
        }
    }

    #[test]
    fn what_was_changed_just_before_it_was_read_is_read_again() {
        for (wall, known) in [(9, false), (10, false), (12, false), (13, true)] {
            assert_eq!(learned(wall * SECOND, 5, stat()).of("/x", &stat()).is_some(), known, "read at {wall} s");
        }
        // What was known of it before is not known any more either.
        let mut table = learned(100 * SECOND, 5, stat());
        table.learn("/x", stat(), &Digest::of(b"y"), at(11 * SECOND, 6));
        assert_eq!(table.of("/x", &stat()), None);
    }

    #[test]
    fn everything_is_read_again_once_a_day() {
        let mut table = learned(100 * SECOND, 5, stat());
        for (up, known) in [(5 + DAY - 1, true), (5 + DAY, false)] {
            table.begin(up, |_| false);
            assert_eq!(table.of("/x", &stat()).is_some(), known, "{up} s after the boot");
        }
    }

    #[test]
    fn what_another_mount_may_have_changed_is_read_again_unless_the_kernel_tells_mounts_apart() {
        for (mount, known) in [(Some(1), true), (None, false)] {
            let stat = Stat { mount, ..stat() };
            let mut table = learned(100 * SECOND, 5, stat);
            table.begin(6, |_| true);
            assert_eq!(table.of("/x", &stat).is_some(), known, "{mount:?}");
        }
    }

    #[test]
    fn what_no_look_asks_for_is_forgotten() {
        let mut table = learned(100 * SECOND, 5, stat());
        for _ in 0..3 {
            table.begin(6, |_| false);
        }
        assert_eq!(table.files.len(), 1, "looks that came to nothing");
        assert_eq!(table.of("/y", &stat()), None);
        table.begin(7, |_| false);
        assert_eq!(table.files.len(), 0);
    }

    #[test]
    fn the_table_of_mounts_is_asked() {
        let mut mounts = None;
        assert!(Mounts::changed(&mut mounts), "nothing is known at first");
        assert!(mounts.is_some());
    }
}
