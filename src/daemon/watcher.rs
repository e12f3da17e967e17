//! Local changes, as hints to look sooner: inotify(7) on the directories that managed files are in, and systemd's
//! signals of managed units.
//!
//! Directories are watched rather than files, since a replaced file is another one. In exclusive directories, and those in
//! them in which something is managed, every name is of interest. A hint may be lost or say
//! too much; the look by the clock is the truth.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use inotify::{Event, EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};

use tokio::sync::{mpsc, watch};

use crate::host::{Hashed, UnitWatch};
use crate::kinds::file::{Exclusive, Ignored};
use crate::ledger::Ledger;
use crate::model::Id;

/// What package managers replace when they have done something.
const PACKAGES: &[&str] = &["/var/lib/dpkg/status", "/var/lib/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/rpmdb.sqlite"];
/// Enough for many events with long names at once.
const BUFFER: usize = 16 << 10;

/// What is to be watched.
#[derive(Debug, Clone, Default)]
pub(super) struct Managed {
    /// What is managed.
    pub(super) ids: Vec<Id>,
    /// Exclusive directories that were cleared: who comes into one is told.
    pub(super) exclusive: BTreeMap<Id, Exclusive>,
}

impl Managed {
    /// By what is ours.
    pub(super) fn of(ledger: &Ledger) -> Self {
        let exclusive = ledger.exclusive.iter().map(|(id, cleared)| (id.clone(), cleared.exclusive.clone()));
        Self { ids: ledger.entries.keys().cloned().collect(), exclusive: exclusive.collect() }
    }
}

/// Watches what is managed. What cannot be watched is found by the clock.
#[derive(Default)]
struct Watcher {
    files: Option<FileWatch>,
    units: Option<UnitWatch>,
    missing: Option<String>,
    /// What is changed is read again, whatever its times say.
    hashed: Hashed,
}

/// Watches what `managed` says, for as long as the agent runs. One hint at a time: while nobody takes it nothing is
/// read any more, so that whoever changes things without end takes up nobody's time but the kernel's. `missing` is what
/// cannot be watched, for people.
pub(super) async fn run(
    mut managed: watch::Receiver<Managed>,
    hashed: Hashed,
    hints: mpsc::Sender<()>,
    missing: watch::Sender<Option<String>>,
) {
    let mut watcher = Watcher { hashed, ..Watcher::default() };
    loop {
        tokio::select! {
            biased;
            told = managed.changed() => {
                if told.is_err() {
                    return;
                }
                let all = managed.borrow_and_update().clone();
                watcher.watch(&all).await;
                missing.send_replace(watcher.missing.clone());
            }
            () = watcher.changed() => {
                if hints.send(()).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Watcher {
    /// Watches these resources from now on, and no others.
    async fn watch(&mut self, managed: &Managed) {
        let names = |kind: &'static str| managed.ids.iter().filter(move |id| id.kind() == kind).map(Id::name);
        let mut missing = Vec::new();
        if self.files.is_none() {
            match FileWatch::new() {
                Ok(files) => self.files = Some(files),
                Err(error) => missing.push(format!("files are not watched: {error}")),
            }
        }
        if let Some(files) = &mut self.files {
            files.watch(names("file"), &managed.exclusive);
            missing.extend(files.missing());
        }
        let units: BTreeSet<String> = names("unit").map(ToOwned::to_owned).collect();
        missing.extend(self.watch_units(units).await);
        if !missing.is_empty() {
            missing.push("what changes there is found at the interval".to_owned());
        }
        self.missing = Some(missing.join("; ")).filter(|missing| !missing.is_empty());
    }

    /// Gives what cannot be watched.
    async fn watch_units(&mut self, units: BTreeSet<String>) -> Option<String> {
        if self.units.is_none() && !units.is_empty() {
            match UnitWatch::connect().await {
                Ok(watch) => self.units = Some(watch),
                Err(error) => return Some(format!("units are not watched: {}", error.chain())),
            }
        }
        let watch = self.units.as_mut()?;
        if let Err(error) = watch.watch(units).await {
            self.units = None;
            return Some(format!("units are not watched: {}", error.chain()));
        }
        let left_out = watch.left_out();
        (left_out > 0).then(|| format!("{left_out} units are not watched"))
    }

    /// Waits until something that is watched changed.
    async fn changed(&mut self) {
        let Self { files, units, hashed, .. } = self;
        let gone = tokio::select! {
            paths = file_changed(files) => {
                match paths {
                    Some(paths) => paths.iter().for_each(|path| hashed.forget(path)),
                    None => hashed.forget_all(),
                }
                false
            }
            told = unit_changed(units) => !told,
        };
        if gone {
            // The bus was restarted, perhaps; the next pass connects anew.
            self.units = None;
        }
    }
}

async fn file_changed(files: &mut Option<FileWatch>) -> Option<Vec<PathBuf>> {
    match files {
        Some(files) => files.changed().await,
        None => std::future::pending().await,
    }
}

async fn unit_changed(units: &mut Option<UnitWatch>) -> bool {
    match units {
        Some(units) => units.changed().await,
        None => std::future::pending().await,
    }
}

/// Watches the directories of files.
struct FileWatch {
    events: EventStream<Vec<u8>>,
    watches: Watches,
    directories: BTreeMap<PathBuf, WatchDescriptor>,
    names: HashMap<WatchDescriptor, BTreeSet<OsString>>,
    /// In these every name is of interest but what is ignored: each by its path within the exclusive directory.
    whole: HashMap<WatchDescriptor, (PathBuf, Arc<Ignored>)>,
    /// How many directories could not be watched, and why the last could not.
    missing: Option<(usize, String)>,
}

impl FileWatch {
    /// One that watches nothing yet.
    ///
    /// # Errors
    /// Where the kernel has none to give.
    fn new() -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        let events = inotify.into_event_stream(vec![0; BUFFER])?;
        let (directories, names, whole) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { events, watches, directories, names, whole, missing: None })
    }

    /// Watches these files from now on, and no others.
    fn watch<'f>(&mut self, files: impl Iterator<Item = &'f str>, exclusive: &BTreeMap<Id, Exclusive>) {
        let mut wanted = by_directory(files.chain(PACKAGES.iter().copied()));
        let exclusive: BTreeMap<&Path, Arc<Ignored>> =
            exclusive.iter().map(|(id, how)| (Path::new(id.name()), Arc::new(how.ignored()))).collect();
        wanted.extend(
            exclusive
                .keys()
                .filter(|path| !wanted.contains_key(**path))
                .map(|path| ((*path).to_owned(), BTreeSet::new()))
                .collect::<Vec<_>>(),
        );
        let gone: Vec<PathBuf> = self.directories.keys().filter(|path| !wanted.contains_key(*path)).cloned().collect();
        for path in gone {
            if let Some(descriptor) = self.directories.remove(&path) {
                // One whose directory is gone has ended by itself.
                let _ = self.watches.remove(descriptor);
            }
        }
        self.names.clear();
        self.whole.clear();
        self.missing = None;
        for (path, names) in wanted {
            // Adding one that is there gives the same; one that was replaced gives a new one.
            match self.watches.add(&path, mask()) {
                Ok(descriptor) => {
                    self.names.insert(descriptor.clone(), names);
                    let around = path.ancestors().find_map(|above| Some((above, exclusive.get(above)?)));
                    if let Some((above, ignored)) = around
                        && let Ok(within) = path.strip_prefix(above)
                    {
                        self.whole.insert(descriptor.clone(), (within.to_owned(), Arc::clone(ignored)));
                    }
                    // A directory that was moved away lives on, and is no longer ours to watch.
                    if let Some(moved) = self.directories.insert(path, descriptor.clone())
                        && moved != descriptor
                    {
                        let _ = self.watches.remove(moved);
                    }
                }
                // It may come later; the clock finds it then.
                Err(error) if error.kind() == io::ErrorKind::NotFound => drop(self.directories.remove(&path)),
                Err(error) => {
                    let count = self.missing.as_ref().map_or(0, |(count, _)| *count);
                    self.missing = Some((count + 1, error.to_string()));
                }
            }
        }
    }

    /// What cannot be watched, for people.
    fn missing(&self) -> Option<String> {
        let (count, why) = self.missing.as_ref()?;
        Some(format!("{count} directories are not watched ({why}; see fs.inotify.max_user_watches)"))
    }

    /// Waits until something that is watched changed, and tells its paths; `None` where it may be anything.
    async fn changed(&mut self) -> Option<Vec<PathBuf>> {
        loop {
            match self.events.next().await {
                Some(Ok(event)) if self.concerns(&event) => return self.paths(&event),
                Some(Ok(_)) => {}
                // Without events there is still the clock.
                Some(Err(_)) | None => std::future::pending().await,
            }
        }
    }

    /// A directory may be watched by more than one name.
    fn paths(&self, event: &Event<OsString>) -> Option<Vec<PathBuf>> {
        let name = event.name.as_ref()?;
        let named = self.directories.iter().filter(|(_, descriptor)| **descriptor == event.wd);
        Some(named.map(|(directory, _)| directory.join(name)).collect())
    }

    fn concerns(&self, event: &Event<OsString>) -> bool {
        if event.mask.intersects(EventMask::Q_OVERFLOW | EventMask::DELETE_SELF | EventMask::MOVE_SELF) {
            return true;
        }
        let Some(name) = &event.name else { return false };
        let strange = |(within, ignored): &(PathBuf, Arc<Ignored>)| {
            within.join(name).to_str().is_none_or(|within| !ignored.covers(within))
        };
        self.names.get(&event.wd).is_some_and(|names| names.contains(name))
            || self.whole.get(&event.wd).is_some_and(strange)
    }
}

fn mask() -> WatchMask {
    WatchMask::CLOSE_WRITE
        | WatchMask::CREATE
        | WatchMask::ATTRIB
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR
        | WatchMask::EXCL_UNLINK
}

/// The names that are of interest, by the directory they are in.
fn by_directory<'f>(files: impl Iterator<Item = &'f str>) -> BTreeMap<PathBuf, BTreeSet<OsString>> {
    let mut directories: BTreeMap<PathBuf, BTreeSet<OsString>> = BTreeMap::new();
    for path in files.map(Path::new) {
        if let (Some(directory), Some(name)) = (path.parent(), path.file_name().map(OsStr::to_owned)) {
            directories.entry(directory.to_owned()).or_default().insert(name);
        }
    }
    directories
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make what is watched")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    fn in_loop(test: impl AsyncFnOnce()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test());
    }

    async fn is_told(watcher: &mut FileWatch) -> bool {
        tokio::time::timeout(Duration::from_secs(20), watcher.changed()).await.is_ok()
    }

    #[test]
    fn what_happens_to_a_watched_file_is_told() {
        in_loop(async || {
            let scratch = tempfile::tempdir().expect("a scratch directory");
            let path = scratch.path().join("motd");
            let mut watcher = FileWatch::new().expect("the kernel has one");
            watcher.watch([path.to_str().expect("text")].into_iter(), &BTreeMap::new());
            fs::write(&path, "a").expect("written");
            assert_eq!(watcher.changed().await, Some(vec![path.clone()]), "made");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
            assert!(is_told(&mut watcher).await, "its mode");
            fs::rename(&path, scratch.path().join("other")).expect("renamed");
            assert!(is_told(&mut watcher).await, "renamed");
        });
    }

    #[test]
    fn neighbours_and_what_is_no_longer_watched_are_not_told() {
        in_loop(async || {
            let scratch = tempfile::tempdir().expect("a scratch directory");
            let name = |name: &str| scratch.path().join(name).to_str().expect("text").to_owned();
            let (ours, last) = (name("ours"), name("last"));
            let mut watcher = FileWatch::new().expect("the kernel has one");
            watcher.watch([ours.as_str()].into_iter(), &BTreeMap::new());
            watcher.watch([last.as_str()].into_iter(), &BTreeMap::new());
            // Only the last of these is of interest; what comes before it in the queue is not.
            fs::write(&ours, "a").expect("written");
            fs::write(name("stranger"), "a").expect("written");
            let quiet = tokio::time::timeout(Duration::from_millis(200), watcher.changed()).await;
            assert!(quiet.is_err(), "a neighbour was told");
            fs::write(&last, "a").expect("written");
            assert!(is_told(&mut watcher).await);
        });
    }

    #[test]
    fn who_comes_into_an_exclusive_directory_is_told_unless_that_is_ignored() {
        in_loop(async || {
            let scratch = tempfile::tempdir().expect("a scratch directory");
            let directory = scratch.path().join("d");
            fs::create_dir_all(directory.join("sub")).expect("made");
            let ours = directory.join("sub/ours");
            let how = Exclusive { ignore: vec!["*.live".to_owned(), "sub/live".to_owned()] };
            let exclusive = BTreeMap::from([(Id::new("file", directory.to_str().expect("text")), how)]);
            let mut watcher = FileWatch::new().expect("the kernel has one");
            watcher.watch([ours.to_str().expect("text")].into_iter(), &exclusive);
            fs::write(directory.join("x.live"), "a").expect("written");
            fs::write(directory.join("sub/live"), "a").expect("written");
            let quiet = tokio::time::timeout(Duration::from_millis(200), watcher.changed()).await;
            assert!(quiet.is_err(), "what is ignored was told");
            fs::write(directory.join("stranger"), "a").expect("written");
            assert!(is_told(&mut watcher).await, "in the directory");
            let mut watcher = FileWatch::new().expect("the kernel has one");
            watcher.watch([ours.to_str().expect("text")].into_iter(), &exclusive);
            fs::write(directory.join("sub/stranger"), "a").expect("written");
            assert!(is_told(&mut watcher).await, "below it, where something is managed");
        });
    }

    #[test]
    fn a_directory_that_is_replaced_is_watched_again() {
        in_loop(async || {
            let scratch = tempfile::tempdir().expect("a scratch directory");
            let directory = scratch.path().join("d");
            let path = directory.join("f");
            fs::create_dir(&directory).expect("made");
            let mut watcher = FileWatch::new().expect("the kernel has one");
            watcher.watch([path.to_str().expect("text")].into_iter(), &BTreeMap::new());
            fs::remove_dir(&directory).expect("removed");
            assert!(is_told(&mut watcher).await, "the directory is gone");
            fs::create_dir(&directory).expect("made");
            watcher.watch([path.to_str().expect("text")].into_iter(), &BTreeMap::new());
            fs::write(&path, "a").expect("written");
            assert!(is_told(&mut watcher).await, "the new directory is watched");
        });
    }
}
