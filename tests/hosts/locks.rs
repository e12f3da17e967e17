//! Locks that test threads and test processes both respect, on files of the cache directory. The kernel
//! lets go of them when their process ends, however it ends.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

/// Hosts that may be up at a time on this machine.
pub const HOSTS: usize = 2;

/// Where images, locks and running labs are kept.
pub fn cache() -> PathBuf {
    PathBuf::from(std::env::var_os("TRUEUP_TEST_CACHE").unwrap_or_else(|| "/var/cache/trueup-tests".into()))
}

fn open(name: &str) -> File {
    let directory = cache();
    fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("cannot make {}: {error}", directory.display()));
    let path = directory.join(name);
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}

/// The lock `name` if nobody holds it.
pub fn try_lock(name: &str) -> Option<File> {
    let file = open(name);
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => panic!("cannot lock {name}: {error}"),
    }
}

/// The lock `name`, waited for.
pub fn lock(name: &str) -> File {
    let file = open(name);
    file.lock().unwrap_or_else(|error| panic!("cannot lock {name}: {error}"));
    file
}

/// Leave to have `n` hosts up, until it is dropped. A lab takes all it needs at once, one lab after the
/// other, so that two that wait never hold what the other waits for. One that needs more has the machine alone.
pub fn permits(n: usize) -> Vec<File> {
    let _turn = lock("permits.turn");
    let name = |k: usize| format!("permit-{k}");
    if n >= HOSTS {
        return (0..HOSTS).map(|k| lock(&name(k))).collect();
    }
    // One thread waits for each; the first that comes is taken, the others are let go when they come.
    let (taken, first) = mpsc::channel();
    for k in 0..HOSTS {
        let taken = taken.clone();
        thread::spawn(move || drop(taken.send(lock(&format!("permit-{k}")))));
    }
    (0..n).map(|_| first.recv().expect("one thread for each permit")).collect()
}
