use std::any::Any;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file that was changed within so many seconds before it was read is read again: clocks of file systems are coarse.
const SETTLED: i64 = 2;

/// Documents as they were read, for whoever reads them again: each for as long as its file is the same, unchanged.
#[derive(Debug, Clone, Default)]
pub struct Documents(Arc<Mutex<BTreeMap<String, Read>>>);

#[derive(Debug)]
struct Read {
    stands: Stands,
    value: Arc<dyn Any + Send + Sync>,
}

/// All that moves where a file is another one, or was changed; see inode(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stands {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stands {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// The same, changed so many seconds earlier.
    #[cfg(test)]
    pub(super) fn changed_before(self, seconds: i64) -> Self {
        Self { changed: (self.changed.0 - seconds, self.changed.1), ..self }
    }
}

impl Documents {
    fn read(&self) -> MutexGuard<'_, BTreeMap<String, Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `name` was read as, where it is as it was.
    pub(super) fn get<T: Send + Sync + 'static>(&self, name: &str, stands: Stands) -> Option<Arc<T>> {
        let read = self.read();
        let was = read.get(name).filter(|was| was.stands == stands)?;
        Arc::clone(&was.value).downcast().ok()
    }

    /// `name` was read, and is as `stands` says before and after. One that was written just now may be written again
    /// without its times moving on: it is read once more.
    pub(super) fn put<T: Send + Sync + 'static>(&self, name: &str, stands: Stands, value: &Arc<T>) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
        if stands.changed.0.saturating_add(SETTLED) < now {
            self.insert(name, stands, Arc::clone(value));
        } else {
            self.read().remove(name);
        }
    }

    pub(super) fn insert<T: Send + Sync + 'static>(&self, name: &str, stands: Stands, value: Arc<T>) {
        self.read().insert(name.to_owned(), Read { stands, value });
    }
}
