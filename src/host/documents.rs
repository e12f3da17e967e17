use std::any::Any;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file that was changed within so many seconds before it was read is read again: clocks of file systems are coarse.
const SETTLED: i64 = 2;
/// Within so many seconds each is read again, whatever its file says of itself: a disk may have lost what it held.
const DAY: i64 = 86_400;

/// Documents as they were read, for whoever reads them again: each for as long as its file is the same, unchanged.
#[derive(Debug, Clone, Default)]
pub struct Documents(Arc<Mutex<BTreeMap<String, Read>>>);

#[derive(Debug)]
struct Read {
    stands: Stands,
    /// Seconds since the boot.
    at: i64,
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
        let was = read.get(name).filter(|was| was.stands == stands && up().saturating_sub(was.at) < DAY)?;
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
        self.read().insert(name.to_owned(), Read { stands, at: up(), value });
    }
}

fn up() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_stands_for_its_file_as_long_as_that_is_the_same_and_for_a_day() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let stands = Stands::of(&directory.path().metadata().expect("there"));
        let documents = Documents::default();
        documents.put("n", stands, &Arc::new(7u32));
        assert_eq!(documents.get::<u32>("n", stands), None, "it was written just now");
        let settled = stands.changed_before(3);
        documents.put("n", settled, &Arc::new(7u32));
        assert_eq!(documents.get::<u32>("n", settled).as_deref(), Some(&7));
        assert_eq!(documents.get::<u32>("n", stands), None, "another file stands there");
        assert_eq!(documents.get::<u64>("n", settled), None, "it is read as something else");
        documents.read().get_mut("n").expect("there").at -= DAY;
        assert_eq!(documents.get::<u32>("n", settled), None, "a day later");
    }
}
