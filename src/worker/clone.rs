//! The clone of one branch of one server: a cache. Nothing in it is synced, and any trouble with it is
//! answered by a fresh one in a new directory, which takes the place of the old once it is whole.
#![allow(
    clippy::disallowed_methods,
    reason = "the worker owns the clone, and knows nothing of the house; nothing else is written here"
)]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gix::ObjectId;

use super::protocol::Remote;
use super::remote::{self, Fetched};
use super::trouble::{Result, Trouble};

/// The largest object that is ever inflated, in bytes: a small pack can hold huge ones.
pub(super) const LARGEST_OBJECT: u64 = 256 << 20;

/// Each fetch adds a pack and nothing repacks: past so many a fresh clone is cheaper.
const MOST_PACKS: usize = 100;
/// What packs may hold beyond twice the largest of them, in bytes. What a branch that is rewritten again and again leaves
/// behind is in the others.
const SLACK: u64 = 1 << 20;

/// The packs of a clone.
#[derive(Debug, Default, PartialEq, Eq)]
struct Packs {
    count: usize,
    /// In bytes.
    all: u64,
    largest: u64,
}

impl Packs {
    /// Whether a fresh clone is better.
    fn are_worn(&self) -> bool {
        self.count > MOST_PACKS || self.all > 2 * self.largest + SLACK
    }
}

/// Has the tip of `branch` and its history at hand, and opens it.
pub(super) fn fetch(remote: &Remote, branch: &str, afresh: bool) -> Result<(gix::Repository, ObjectId)> {
    let cache = Path::new(&remote.cache);
    let written = |error: io::Error| Trouble::io("write the clone", cache, &error);
    let parent = cache.parent().ok_or_else(|| Trouble::new("bad-request", "the clone has no place"))?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(written)?;
    // Two passes at once would sweep away what the other is writing.
    let lock = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(beside(cache, "lock"))
        .map_err(written)?;
    lock.lock().map_err(written)?;
    for left_over in ["new", "old"] {
        remove(&beside(cache, left_over)).map_err(written)?;
    }
    let done = renewed(cache, remote, branch, afresh)?;
    sweep_others(cache, parent, &remote.beside);
    Ok(done)
}

/// Fetches into the clone that is there, or into a fresh one.
fn renewed(cache: &Path, remote: &Remote, branch: &str, afresh: bool) -> Result<(gix::Repository, ObjectId)> {
    if !afresh && fs::symlink_metadata(cache).is_ok() {
        match fetch_into(cache, remote, branch) {
            Ok(done) => return Ok(done),
            // The server is not there, or does not let us in: a fresh clone would meet the same.
            Err(trouble) if !may_be_ours(&trouble) => return Err(trouble),
            Err(_) => {}
        }
    }
    fresh(cache, remote, branch)
}

/// Whether the clone can be to blame for `trouble`.
fn may_be_ours(trouble: &Trouble) -> bool {
    matches!(trouble.reason, "damaged-clone" | "cannot-read" | "fetch-failed" | "too-large")
}

/// Fetches into the clone that is there.
fn fetch_into(directory: &Path, remote: &Remote, branch: &str) -> Result<(gix::Repository, ObjectId)> {
    let packs = sweep(directory).map_err(|error| Trouble::io("sweep the clone", directory, &error))?;
    if packs.are_worn() {
        return Err(Trouble::new("damaged-clone", format!("{packs:?}")));
    }
    let repository = remote::open(directory, remote)?;
    match remote::fetch(&repository, remote, branch)? {
        Fetched::Tip(tip) => opened(directory, remote, tip),
        Fetched::Same(tip) => Ok((repository, tip)),
        Fetched::OtherHash(_) => Err(Trouble::new("damaged-clone", "its ids are of another kind than the server's")),
    }
}

/// Fetches into a new directory, which then takes the place of the old.
fn fresh(cache: &Path, remote: &Remote, branch: &str) -> Result<(gix::Repository, ObjectId)> {
    let (new, old) = (beside(cache, "new"), beside(cache, "old"));
    let written = |error: io::Error| Trouble::io("write the clone", cache, &error);
    let tip = made(&new, remote, branch).inspect_err(|_| {
        // What cannot be removed now is removed by the next.
        remove(&new).ok();
    })?;
    if fs::symlink_metadata(cache).is_ok() {
        fs::rename(cache, &old).map_err(written)?;
    }
    fs::rename(&new, cache).map_err(written)?;
    remove(&old).ok();
    opened(cache, remote, tip)
}

/// Fetches into the new directory `new`.
fn made(new: &Path, remote: &Remote, branch: &str) -> Result<ObjectId> {
    let mut hash = gix::hash::Kind::Sha1;
    let tip = loop {
        let repository = init(new, remote, hash)?;
        match remote::fetch(&repository, remote, branch)? {
            Fetched::Tip(tip) | Fetched::Same(tip) => break tip,
            Fetched::OtherHash(other) if other != hash && hash == gix::hash::Kind::Sha1 => hash = other,
            Fetched::OtherHash(_) => {
                return Err(Trouble::new("fetch-failed", format!("{} changes the kind of its ids", remote.url)));
            }
        }
        remove(new).map_err(|error| Trouble::io("write the clone", new, &error))?;
    };
    opened(new, remote, tip).map(|(_, tip)| tip)
}

fn init(directory: &Path, remote: &Remote, hash: gix::hash::Kind) -> Result<gix::Repository> {
    let damaged =
        |error: gix::Error| Trouble::damaged(format_args!("cannot make the clone {}", directory.display()), &error);
    let create = gix::create::Options { object_hash: Some(hash), ..Default::default() };
    gix::create::into(directory, gix::create::Kind::Bare, create).map_err(damaged)?;
    // A limit given when opening alone is not kept everywhere; the clone's own configuration is.
    let limit = format!("[gitoxide \"objects\"]\n\tallocLimit = {LARGEST_OBJECT}\n");
    let config = directory.join("config");
    File::options()
        .append(true)
        .open(&config)
        .and_then(|mut file| file.write_all(limit.as_bytes()))
        .map_err(|error| Trouble::io("write", &config, &error))?;
    remote::open(directory, remote)
}

/// The clone opened again, as it is after a fetch, with `tip` really in it.
fn opened(directory: &Path, remote: &Remote, tip: ObjectId) -> Result<(gix::Repository, ObjectId)> {
    let repository = remote::open(directory, remote)?;
    repository.find_header(tip).map_err(|error| Trouble::damaged("what was fetched is not there", &error))?;
    Ok((repository, tip))
}

fn beside(cache: &Path, what: &str) -> PathBuf {
    let mut name = cache.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{what}"));
    cache.with_file_name(name)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

/// Removes the clones of servers and branches that are no longer configured, but for one that somebody fetches into.
/// What cannot be removed now is removed by the next.
fn sweep_others(cache: &Path, parent: &Path, beside: &[String]) {
    let own = cache.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Ok(entries) = fs::read_dir(parent) else { return };
    let names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let clone_of = |name: &String| name.split('.').next().unwrap_or_default().to_owned();
    let mut former: Vec<String> = names.iter().map(clone_of).filter(|of| *of != own && !beside.contains(of)).collect();
    former.sort_unstable();
    former.dedup();
    for of in former {
        let lock = File::options().write(true).create(true).truncate(false).open(parent.join(format!("{of}.lock")));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            for name in names.iter().filter(|name| clone_of(name) == of) {
                remove(&parent.join(name)).ok();
            }
        }
    }
}

/// Removes what a fetch that was cut short leaves behind, and counts the packs.
fn sweep(directory: &Path) -> io::Result<Packs> {
    let mut packs = Packs::default();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if name.starts_with(".tmp")
                || name.starts_with("tmp_")
                || name.ends_with(".lock")
                || name.ends_with(".keep")
            {
                fs::remove_file(entry.path())?;
            } else if name.ends_with(".pack") {
                let size = entry.metadata()?.len();
                packs = Packs { count: packs.count + 1, all: packs.all + size, largest: packs.largest.max(size) };
            }
        }
    }
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_packs_are_worn_and_those_that_hold_twice_what_is_needed() {
        let packs = |count, all, largest| Packs { count, all, largest }.are_worn();
        assert!(!packs(100, 10 << 20, 10 << 20) && packs(101, 10 << 20, 10 << 20));
        assert!(!packs(3, (20 << 20) + SLACK, 10 << 20) && packs(3, (20 << 20) + SLACK + 1, 10 << 20));
    }

    #[test]
    fn what_a_cut_fetch_leaves_behind_is_swept_and_packs_are_counted() {
        let at = tempfile::tempdir().expect("tempdir");
        let pack = at.path().join("objects/pack");
        fs::create_dir_all(&pack).expect("mkdir");
        fs::create_dir_all(at.path().join("refs/heads")).expect("mkdir");
        for name in [
            "objects/pack/.tmpX",
            "objects/pack/tmp_pack_1",
            "objects/pack/a.keep",
            "packed-refs.lock",
            "refs/heads/main.lock",
        ] {
            fs::write(at.path().join(name), "").expect("write");
        }
        for name in ["objects/pack/a.pack", "objects/pack/a.idx", "objects/pack/b.pack", "HEAD"] {
            fs::write(at.path().join(name), "").expect("write");
        }
        fs::write(at.path().join("objects/pack/a.pack"), "1234").expect("write");
        assert_eq!(sweep(at.path()).expect("sweeps"), Packs { count: 2, all: 4, largest: 4 });
        let mut left: Vec<_> =
            fs::read_dir(&pack).expect("reads").map(|entry| entry.expect("reads").file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.idx", "a.pack", "b.pack"]);
        assert!(!at.path().join("packed-refs.lock").exists() && !at.path().join("refs/heads/main.lock").exists());
    }
}
