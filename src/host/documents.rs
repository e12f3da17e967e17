use std::any::Any;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Meta;
use super::begun::{Begun, up};

/// Documents as they were read, for whoever reads them again: each for as long as its file is the same, unchanged.
#[derive(Debug, Clone, Default)]
pub struct Documents(Arc<Mutex<BTreeMap<String, Read>>>);

#[derive(Debug)]
struct Read {
    stands: Stands,
    begun: Begun,
    value: Arc<dyn Any + Send + Sync>,
}

/// All that moves where a file is another one, or was changed; see inode(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stands {
    device: u64,
    inode: u64,
    size: u64,
    modified: i128,
    changed: i128,
}

impl Stands {
    pub(super) fn of(meta: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            changed: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        }
    }

    pub(super) fn of_meta(meta: &Meta) -> Self {
        let (major, minor) = meta.device;
        Self {
            device: rustix::fs::makedev(major, minor),
            inode: meta.inode,
            size: meta.size,
            modified: meta.modified,
            changed: meta.changed,
        }
    }

    /// The same, changed so many seconds earlier.
    #[cfg(test)]
    pub(super) fn changed_before(self, seconds: i128) -> Self {
        Self { changed: self.changed - seconds * 1_000_000_000, ..self }
    }
}

impl Documents {
    fn read(&self) -> MutexGuard<'_, BTreeMap<String, Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `name` was read as, where it is as it was.
    pub(super) fn get<T: Send + Sync + 'static>(&self, name: &str, stands: Stands) -> Option<Arc<T>> {
        self.get_at(name, stands, up())
    }

    fn get_at<T: Send + Sync + 'static>(&self, name: &str, stands: Stands, up: u64) -> Option<Arc<T>> {
        let read = self.read();
        let was = read.get(name).filter(|was| was.stands == stands && was.begun.is_of_today(up))?;
        Arc::clone(&was.value).downcast().ok()
    }

    /// `name` was read, from the moment `begun` on, and is as `stands` says before and after. One that was written just
    /// now may be written again without its times moving on: it is read once more.
    pub(super) fn put<T: Send + Sync + 'static>(&self, name: &str, stands: Stands, value: &Arc<T>, begun: Begun) {
        if begun.is_long_after(stands.changed) {
            self.insert(name, stands, Arc::clone(value), begun);
        } else {
            self.forget(name);
        }
    }

    /// Nothing is known of `name` any more.
    pub(super) fn forget(&self, name: &str) {
        self.read().remove(name);
    }

    pub(super) fn insert<T: Send + Sync + 'static>(&self, name: &str, stands: Stands, value: Arc<T>, begun: Begun) {
        self.read().insert(name.to_owned(), Read { stands, begun, value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::begun::DAY;

    #[test]
    fn what_was_read_stands_for_its_file_as_long_as_that_is_the_same_and_for_a_day() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let stands = Stands::of(&directory.path().metadata().expect("there"));
        let documents = Documents::default();
        documents.put("n", stands, &Arc::new(7u32), Begun::now());
        assert_eq!(documents.get::<u32>("n", stands), None, "it was written just now");
        let settled = stands.changed_before(3);
        documents.put("n", settled, &Arc::new(7u32), Begun::now());
        assert_eq!(documents.get::<u32>("n", settled).as_deref(), Some(&7));
        assert_eq!(documents.get::<u32>("n", stands), None, "another file stands there");
        assert_eq!(documents.get::<u64>("n", settled), None, "it is read as something else");
        assert_eq!(documents.get_at::<u32>("n", settled, up() + DAY), None, "a day later");
    }
}
