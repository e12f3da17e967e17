//! Local changes, as hints to look sooner: inotify(7) on the directories that managed files are in, and systemd's
//! signals of managed units.
//!
//! A watch is set on a thread of its own, and only where what is mounted on the way answers: the kernel may take its time
//! over that, and the loop, which answers and hears signals, may not.
//!
//! Directories are watched rather than files, since a replaced file is another one. In exclusive directories, and those in
//! them in which something is managed, every name is of interest. A hint may be lost or say
//! too much; the look by the clock is the truth.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use futures_util::StreamExt;
use inotify::{Event, EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};

use tokio::sync::{mpsc, oneshot, watch};

use crate::host::{self, Memory, Mounts, Reader, UnitWatch};
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
    /// What cannot be watched of either, for people.
    missing: [Option<String>; 2],
    /// What is changed is read again, whatever its times say.
    memory: Memory,
}

/// Watches what `managed` says, for as long as the agent runs. One hint at a time: while nobody takes it nothing is
/// read any more, so that whoever changes things without end takes up nobody's time but the kernel's. `missing` is what
/// cannot be watched, for people.
pub(super) async fn run(
    mut managed: watch::Receiver<Managed>,
    memory: Memory,
    hints: mpsc::Sender<()>,
    missing: watch::Sender<Option<String>>,
) {
    let mut watcher = Watcher { memory, ..Watcher::default() };
    loop {
        let ready = watcher.files.as_ref().is_none_or(|files| files.setting.is_none());
        tokio::select! {
            biased;
            told = managed.changed(), if ready => {
                if told.is_err() {
                    return;
                }
                let all = managed.borrow_and_update().clone();
                watcher.watch(&all).await;
                missing.send_replace(watcher.missing());
            }
            changed = watcher.hears() => {
                missing.send_replace(watcher.missing());
                if changed && hints.send(()).await.is_err() {
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
        let mut missing = None;
        if self.files.is_none() {
            match FileWatch::new() {
                Ok(files) => self.files = Some(files),
                Err(error) => missing = Some(format!("files are not watched: {error}")),
            }
        }
        if let Some(files) = &mut self.files
            && let Err(error) = files.watch(names("file"), &managed.exclusive, &self.memory.mounts)
        {
            missing = Some(format!("changes of files are watched no further: {error}"));
        }
        let units: BTreeSet<String> = names("unit").map(ToOwned::to_owned).collect();
        self.missing = [missing, self.watch_units(units).await];
    }

    /// What cannot be watched, for people.
    fn missing(&self) -> Option<String> {
        let files = self.files.iter().flat_map(|files| &files.missing);
        let mut missing: Vec<&str> = self.missing.iter().flatten().chain(files).map(String::as_str).collect();
        if !missing.is_empty() {
            missing.push("what changes there is found at the interval");
        }
        Some(missing.join("; ")).filter(|missing| !missing.is_empty())
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

    /// Waits for the next that is heard; whether something that is watched changed.
    async fn hears(&mut self) -> bool {
        let Self { files, units, memory, .. } = self;
        let gone = tokio::select! {
            heard = file_heard(files) => {
                match heard {
                    Heard::Set => return false,
                    Heard::Changed(Some(paths)) => paths.iter().for_each(|path| memory.files.forget(path)),
                    Heard::Changed(None) => memory.files.forget_all(),
                }
                false
            }
            told = unit_changed(units) => !told,
        };
        if gone {
            // The bus was restarted, perhaps; the next pass connects anew.
            self.units = None;
        }
        true
    }
}

async fn file_heard(files: &mut Option<FileWatch>) -> Heard {
    match files {
        Some(files) => files.hears().await,
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
    whole: HashMap<WatchDescriptor, Whole>,
    /// What is being set. Until that is done whatever happens in a directory that is not known yet is of interest.
    setting: Option<Setting>,
    /// What could not be watched, for people.
    missing: Vec<String>,
}

/// An exclusive directory, or one in it: its path within that, and what is ignored.
type Whole = (PathBuf, Arc<Ignored>);

/// Watches that are set by a thread.
struct Setting {
    /// What of each directory is of interest.
    wanted: BTreeMap<PathBuf, (BTreeSet<OsString>, Option<Whole>)>,
    set: oneshot::Receiver<AllSet>,
}

/// What a [`FileWatch`] hears of.
#[derive(Debug, PartialEq)]
enum Heard {
    /// What was to be set is set.
    Set,
    /// These changed; `None` where it may be anything.
    Changed(Option<Vec<PathBuf>>),
}

/// What came of each directory.
type AllSet = Vec<(PathBuf, Result<WatchDescriptor, Unset>)>;

/// Why there is no watch.
enum Unset {
    /// There is no such directory. It may come later; the clock finds it then.
    NotThere,
    /// It lies on what does not answer.
    NotAnswering(String),
    /// The kernel gives none.
    Refused(io::Error),
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
        Ok(Self { events, watches, directories, names, whole, setting: None, missing: Vec::new() })
    }

    /// Watches these files, and no others, once it is heard that they are set.
    ///
    /// # Errors
    /// Where there is no thread that sets what is to be set.
    fn watch<'f>(
        &mut self,
        files: impl Iterator<Item = &'f str>,
        exclusive: &BTreeMap<Id, Exclusive>,
        mounts: &Mounts,
    ) -> io::Result<()> {
        let mut wanted = by_directory(files.chain(PACKAGES.iter().copied()));
        let exclusive: BTreeMap<&Path, Arc<Ignored>> =
            exclusive.iter().map(|(id, how)| (Path::new(id.name()), Arc::new(how.ignored()))).collect();
        for path in exclusive.keys() {
            wanted.entry((*path).to_owned()).or_default();
        }
        let gone: Vec<PathBuf> = self.directories.keys().filter(|path| !wanted.contains_key(*path)).cloned().collect();
        for path in gone {
            if let Some(descriptor) = self.directories.remove(&path) {
                // One whose directory is gone has ended by itself.
                let _ = self.watches.remove(descriptor);
            }
        }
        let paths: Vec<PathBuf> = wanted.keys().cloned().collect();
        let (watches, mounts) = (self.watches.clone(), mounts.clone());
        let (tell, set) = oneshot::channel();
        // Whoever waits for it is gone only where the agent ends.
        let task = move || drop(tell.send(set_all(watches, mounts, paths)));
        thread::Builder::new().name("watches".to_owned()).spawn(task)?;
        let wanted = wanted.into_iter().map(|(path, names)| {
            let around = path.ancestors().find_map(|above| Some((above, exclusive.get(above)?)));
            let whole = around
                .and_then(|(above, ignored)| Some((path.strip_prefix(above).ok()?.to_owned(), Arc::clone(ignored))));
            (path, (names, whole))
        });
        self.setting = Some(Setting { wanted: wanted.collect(), set });
        Ok(())
    }

    /// Takes in what was set.
    fn take_in(&mut self, all: AllSet) {
        let Some(Setting { mut wanted, .. }) = self.setting.take() else { return };
        self.names.clear();
        self.whole.clear();
        let (mut silent, mut refused) = (Vec::new(), Vec::new());
        for (path, set) in all {
            let descriptor = match set {
                Ok(descriptor) => descriptor,
                Err(Unset::NotThere) => {
                    self.directories.remove(&path);
                    continue;
                }
                Err(Unset::NotAnswering(why)) => {
                    silent.push(why);
                    // One from before tells as soon as there is something to tell.
                    let Some(before) = self.directories.get(&path) else { continue };
                    before.clone()
                }
                Err(Unset::Refused(why)) => {
                    refused.push(why);
                    continue;
                }
            };
            if let Some((names, whole)) = wanted.remove(&path) {
                self.names.insert(descriptor.clone(), names);
                self.whole.extend(whole.map(|whole| (descriptor.clone(), whole)));
            }
            // A directory that was moved away lives on, and is no longer ours to watch.
            if let Some(moved) = self.directories.insert(path, descriptor.clone())
                && moved != descriptor
            {
                let _ = self.watches.remove(moved);
            }
        }
        self.missing = not_watched(&silent, &refused);
    }

    /// Waits until something that is watched changed, or all is set.
    async fn hears(&mut self) -> Heard {
        loop {
            let event = tokio::select! {
                biased;
                all = all_set(&mut self.setting) => {
                    self.take_in(all);
                    return Heard::Set;
                }
                event = self.events.next() => event,
            };
            match event {
                Some(Ok(event)) if self.concerns(&event) => return Heard::Changed(self.paths(&event)),
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
        if self.setting.is_some() && !self.names.contains_key(&event.wd) {
            return true;
        }
        let strange = |(within, ignored): &(PathBuf, Arc<Ignored>)| {
            within.join(name).to_str().is_none_or(|within| !ignored.covers(within))
        };
        self.names.get(&event.wd).is_some_and(|names| names.contains(name))
            || self.whole.get(&event.wd).is_some_and(strange)
    }
}

/// What was to be set, once that is done; for ever nothing where nothing is.
async fn all_set(setting: &mut Option<Setting>) -> AllSet {
    match setting {
        Some(setting) => (&mut setting.set).await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

/// Sets a watch on each of these directories: adding one that is there gives the same, and one that was replaced a new one.
fn set_all(mut watches: Watches, mounts: Mounts, paths: Vec<PathBuf>) -> AllSet {
    let host = Reader::machine().map(|host| host.with_mounts(mounts));
    let mut set = |path: &Path| {
        match (&host, path.to_str()) {
            (Ok(host), Some(text)) => host.answers(text).map_err(|error| match error {
                host::Error::NotAnswering { .. } => Unset::NotAnswering(error.to_string()),
                // It is not known where it leads.
                _ => Unset::NotThere,
            })?,
            _ => return Err(Unset::NotThere),
        }
        watches.add(path, mask()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unset::NotThere,
            _ => Unset::Refused(error),
        })
    };
    paths.into_iter().map(|path| (set(&path), path)).map(|(set, path)| (path, set)).collect()
}

/// How many directories are not watched, and why the last of them are not.
fn not_watched(silent: &[String], refused: &[io::Error]) -> Vec<String> {
    let silent = silent.last().map(|why| (silent.len(), why.clone()));
    let hint = "see fs.inotify.max_user_watches";
    let refused = refused.last().map(|why| (refused.len(), format!("{why}; {hint}")));
    let told = |(count, why)| format!("{count} directories are not watched ({why})");
    silent.into_iter().chain(refused).map(told).collect()
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

    /// Watches these from now on.
    async fn watch<'f>(
        watcher: &mut FileWatch,
        files: impl Iterator<Item = &'f str>,
        exclusive: &BTreeMap<Id, Exclusive>,
    ) {
        watcher.watch(files, exclusive, &Mounts::default()).expect("a thread");
        assert_eq!(watcher.hears().await, Heard::Set);
    }

    async fn is_told(watcher: &mut FileWatch) -> bool {
        tokio::time::timeout(Duration::from_secs(20), watcher.hears()).await.is_ok()
    }

    #[test]
    fn what_happens_to_a_watched_file_is_told() {
        in_loop(async || {
            let scratch = tempfile::tempdir().expect("a scratch directory");
            let path = scratch.path().join("motd");
            let mut watcher = FileWatch::new().expect("the kernel has one");
            watch(&mut watcher, [path.to_str().expect("text")].into_iter(), &BTreeMap::new()).await;
            fs::write(&path, "a").expect("written");
            assert_eq!(watcher.hears().await, Heard::Changed(Some(vec![path.clone()])), "made");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
            assert!(is_told(&mut watcher).await, "its mode");
            fs::rename(&path, scratch.path().join("other")).expect("renamed");
            assert!(is_told(&mut watcher).await, "renamed");
        });
    }

    #[test]
    fn what_does_not_answer_is_told_not_to_be_watched_and_holds_nobody() {
        in_loop(async || {
            let scratch = tempfile::tempdir().expect("a scratch directory");
            let real = scratch.path().canonicalize().expect("it is there");
            let name = |name: &str| real.join(name).to_str().expect("text").to_owned();
            let (here, far, there) = (name("here/f"), name("far/f"), name("far/deep/f"));
            fs::create_dir(name("here")).expect("made");
            fs::create_dir_all(name("far/deep")).expect("made");
            let mut watcher = FileWatch::new().expect("the kernel has one");
            watch(&mut watcher, [far.as_str()].into_iter(), &BTreeMap::new()).await;
            let table = format!("1 0 8:1 / / rw - ext4 x rw\n2 1 0:9 / {} rw - nfs4 x rw\n", name("far"));
            let hangs = Mounts::pretend(&table, &["sh", "-c", "exec sleep 1000"], Duration::from_millis(50));
            let all = [far.as_str(), &there, &here];
            watcher.watch(all.into_iter(), &BTreeMap::new(), &hangs).expect("a thread");
            assert_eq!(watcher.hears().await, Heard::Set);
            let missing = watcher.missing.join("; ");
            assert!(
                missing.starts_with("2 directories are not watched (") && missing.contains("(nfs4) does not answer")
            );
            fs::write(&there, "a").expect("written");
            fs::write(&here, "a").expect("written");
            assert_eq!(watcher.hears().await, Heard::Changed(Some(vec![PathBuf::from(&here)])));
            // A watch from before, as long as it tells.
            fs::write(&far, "a").expect("written");
            let is_told = async { while watcher.hears().await != Heard::Changed(Some(vec![PathBuf::from(&far)])) {} };
            assert!(tokio::time::timeout(Duration::from_secs(20), is_told).await.is_ok());
        });
    }

    #[test]
    fn neighbours_and_what_is_no_longer_watched_are_not_told() {
        in_loop(async || {
            let scratch = tempfile::tempdir().expect("a scratch directory");
            let name = |name: &str| scratch.path().join(name).to_str().expect("text").to_owned();
            let (ours, last) = (name("ours"), name("last"));
            let mut watcher = FileWatch::new().expect("the kernel has one");
            watch(&mut watcher, [ours.as_str()].into_iter(), &BTreeMap::new()).await;
            watch(&mut watcher, [last.as_str()].into_iter(), &BTreeMap::new()).await;
            // Only the last of these is of interest; what comes before it in the queue is not.
            fs::write(&ours, "a").expect("written");
            fs::write(name("stranger"), "a").expect("written");
            let quiet = tokio::time::timeout(Duration::from_millis(200), watcher.hears()).await;
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
            watch(&mut watcher, [ours.to_str().expect("text")].into_iter(), &exclusive).await;
            fs::write(directory.join("x.live"), "a").expect("written");
            fs::write(directory.join("sub/live"), "a").expect("written");
            let quiet = tokio::time::timeout(Duration::from_millis(200), watcher.hears()).await;
            assert!(quiet.is_err(), "what is ignored was told");
            fs::write(directory.join("stranger"), "a").expect("written");
            assert!(is_told(&mut watcher).await, "in the directory");
            let mut watcher = FileWatch::new().expect("the kernel has one");
            watch(&mut watcher, [ours.to_str().expect("text")].into_iter(), &exclusive).await;
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
            watch(&mut watcher, [path.to_str().expect("text")].into_iter(), &BTreeMap::new()).await;
            fs::remove_dir(&directory).expect("removed");
            assert!(is_told(&mut watcher).await, "the directory is gone");
            fs::create_dir(&directory).expect("made");
            watch(&mut watcher, [path.to_str().expect("text")].into_iter(), &BTreeMap::new()).await;
            fs::write(&path, "a").expect("written");
            assert!(is_told(&mut watcher).await, "the new directory is watched");
        });
    }
}
