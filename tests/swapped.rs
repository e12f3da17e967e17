//! Somebody who owns a directory exchanges what is in it with links to what is root's, all the while root writes there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use trueup::host::{Attributes, Made, Over, Reader, Writer};
use trueup::kinds::Kind;
use trueup::kinds::file::{File, Observed, Present, Standing};
use trueup::model::Digest;

use super::sample::{self, Dice};
use super::scratch::put;

/// Somebody who is not root and not us.
const SOMEBODY: u32 = 4242;
/// So many exchanges at least, and so many things done meanwhile.
const SWAPS: usize = 100_000;
const DONE: usize = 10_000;
/// What nobody reads by a name of somebody's.
const ROOTS: &str = "this is root's alone\n";

/// Two names of somebody's directory, one of which is a link to `to`, or another name of it.
struct Pair {
    name: &'static str,
    aside: &'static str,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// A directory, and a link to one of root's with the same names in it.
    Directory(&'static str),
    /// A file, and a link to one of root's.
    File(&'static str),
    /// A file, and another name of one of root's.
    Name(&'static str),
    /// A directory, and another of somebody's.
    Other,
}

const PAIRS: [Pair; 5] = [
    Pair { name: "conf", aside: ".conf", what: What::Directory("../../etc/victim") },
    Pair { name: "up", aside: ".up", what: What::Directory("../../etc") },
    Pair { name: "f", aside: ".f", what: What::File("../../etc/victim/a") },
    Pair { name: "h", aside: ".h", what: What::Name("etc/linked") },
    Pair { name: "two", aside: ".two", what: What::Other },
];

/// Below these something is written and read; `etc/victim` has all of these names, too.
const PLACES: [&str; 3] = ["/srv/app/conf", "/srv/app/up/victim", "/srv/app/two"];

struct Scene {
    scratch: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        // Where nothing has to be written to a disk more is done in the same time.
        let memory = Path::new("/dev/shm");
        let scratch = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let scene = Self { scratch: scratch.expect("a scratch directory") };
        for name in ["a", "b", "d/x", "sub/deep/x", "tree/x"] {
            put(&scene.at(&format!("etc/victim/{name}")), ROOTS);
        }
        symlink("a", scene.at("etc/victim/l")).expect("made");
        put(&scene.at("etc/linked"), ROOTS);
        fs::set_permissions(scene.at("etc/linked"), fs::Permissions::from_mode(0o600)).expect("set");
        fs::create_dir_all(scene.at("srv/app")).expect("made");
        chown(scene.at("srv/app"), Some(SOMEBODY), Some(SOMEBODY)).expect("root gives it away");
        PAIRS.iter().for_each(|pair| scene.plant(pair));
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn names(&self, pair: &Pair) -> (PathBuf, PathBuf) {
        (self.at("srv/app").join(pair.name), self.at("srv/app").join(pair.aside))
    }

    /// Sets a pair up anew: root may just have taken one of the two away, or put something else there.
    fn plant(&self, pair: &Pair) {
        let (name, aside) = self.names(pair);
        for path in [&name, &aside] {
            let _ = fs::remove_file(path);
            let _ = fs::remove_dir_all(path);
        }
        // Never through a link, which root may just have put back.
        let own = |path: &Path| drop(lchown(path, Some(SOMEBODY), Some(SOMEBODY)));
        let _ = match pair.what {
            What::Directory(to) => {
                // As deep as what the link leads to.
                let below = if to.ends_with("victim") { name.clone() } else { name.join("victim") };
                fs::create_dir_all(&below).and_then(|()| symlink(to, &aside))
            }
            What::File(to) => fs::File::create_new(&name).and_then(|_| symlink(to, &aside)),
            What::Name(of) => fs::File::create_new(&name).and_then(|_| fs::hard_link(self.at(of), &aside)),
            What::Other => fs::create_dir(&name).and_then(|()| fs::create_dir(&aside)),
        };
        own(&name);
    }

    /// Exchanges until `stop`; how often.
    fn swap(&self, stop: &AtomicBool, swaps: &AtomicUsize) {
        while !stop.load(Ordering::Relaxed) {
            for pair in &PAIRS {
                let (name, aside) = self.names(pair);
                match renameat_with(CWD, &name, CWD, &aside, RenameFlags::EXCHANGE) {
                    Ok(()) => drop(swaps.fetch_add(1, Ordering::Relaxed)),
                    Err(_) => self.plant(pair),
                }
            }
        }
    }

    /// Everything below `path`, with all that can be told of it but how many names it has.
    fn tree(&self, path: &str) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut todo = vec![self.at(path)];
        while let Some(at) = todo.pop() {
            let meta = fs::symlink_metadata(&at).expect("there");
            let content = if meta.is_dir() {
                todo.extend(fs::read_dir(&at).expect("readable").map(|entry| entry.expect("readable").path()));
                String::new()
            } else if meta.is_symlink() {
                format!("{:?}", fs::read_link(&at).expect("readable"))
            } else {
                fs::read_to_string(&at).expect("readable")
            };
            // Somebody gives names to it, and root takes them away.
            let changed = if at.ends_with("linked") { (0, 0) } else { (meta.ctime(), meta.ctime_nsec()) };
            let told = (meta.ino(), meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec(), changed);
            found.insert(at, format!("{told:?} {content}"));
        }
        found
    }

    /// Where something of an interrupted write is left.
    fn left(&self) -> Vec<PathBuf> {
        let of_ours =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".trueup-"));
        self.tree("").into_keys().filter(of_ours).collect()
    }
}

fn plain(mode: u32) -> Attributes {
    Attributes { mode: Some(mode), ..Attributes::default() }
}

/// One of the things that root does there; what it came to.
fn act(host: &mut Writer, dice: &mut Dice) -> Result<(), trueup::host::Error> {
    let place = PLACES[dice.below(PLACES.len())];
    let at = |name: &str| format!("{place}/{name}");
    let over = [Over::Leaf, Over::Empty, Over::Tree][dice.below(3)];
    let file = ["/srv/app/f", "/srv/app/h"][dice.below(2)];
    match dice.below(21) {
        0 => host.write_file(&at("a"), plain(0o640), b"ours\n", over),
        1 => host.write_file(&at("sub/deep/new"), plain(0o640), b"ours\n", over),
        2 => host.make_directory(&at("made"), plain(0o750), over),
        3 => host.make_symlink(&at("l"), "b", Attributes { uid: Some(7), ..Attributes::default() }, over),
        4 => {
            host.set_attributes(&at("a"), Attributes { uid: Some(7), gid: Some(8), mode: Some(0o604), unlisted: None })
        }
        5 => host.set_attributes(&at("d"), plain(0o705)),
        6 => host.remove(&at("a")),
        7 => host.remove_directory(&at("made")),
        8 => host.remove_tree(&at("sub")),
        9 => host.remove_tree(["/srv/app/conf", "/srv/app/up", "/srv/app/two"][dice.below(3)]),
        10 => host.sweep(place).map(drop),
        11 => host.make_tree(&at("tree"), plain(0o700), over, |stage| {
            stage.directory("in", plain(0o700))?;
            stage.file("in/x", plain(0o600), b"ours\n")
        }),
        12 => {
            let write = |host: &mut Writer, n: usize| {
                let ready = host.make_ready(&at(&format!("many-{n}")), plain(0o600), b"ours\n", Over::Leaf)?;
                Ok(Made::Ready(Box::new(ready)))
            };
            host.change_together(10, write, |n| at(&format!("many-{n}"))).into_iter().collect()
        }
        13 => host.write_file(file, plain(0o640), b"ours\n", over),
        14 => host.set_attributes(file, Attributes { uid: Some(7), gid: Some(8), mode: Some(0o604), unlisted: None }),
        15 => host.remove(file),
        16 => host.make_directory(["/srv/app/conf", "/srv/app/two"][dice.below(2)], plain(0o755), over),
        17 => {
            let read = host.read(&at("a"), 1000)?;
            assert_ne!(read.as_deref(), Some(ROOTS.as_bytes()), "{place} was read through");
            let read = host.read("/srv/app/f", 1000)?;
            assert_ne!(read.as_deref(), Some(ROOTS.as_bytes()), "/srv/app/f was read through");
            Ok(())
        }
        18 => {
            let below = host.below(place, 1000, &|_| true)?;
            assert!(!below.nodes.iter().any(|(path, _)| path == "d/x"), "{place} was listed through");
            Ok(())
        }
        19 => {
            // Content, owner and mode are of one file, whichever it is: they are kept, and put back, together.
            for _ in 0..20 {
                if let Some(Ok(Observed::Present(Present { what: Standing::Regular { digest, .. }, mode, .. }))) =
                    File::observe(host, &["/srv/app/h"]).pop()
                    && digest == Digest::of(ROOTS.as_bytes())
                {
                    assert_eq!(mode, 0o600, "/srv/app/h: content of one, mode of the other");
                }
            }
            Ok(())
        }
        _ => {
            // A directory of somebody's in the place of one: what is in it goes, and nothing else.
            host.write_file(&at("sub"), plain(0o600), b"ours\n", Over::Tree)?;
            host.make_directory(&at("sub"), plain(0o700), Over::Tree)
        }
    }
}

#[test]
fn of_a_hundred_thousand_exchanges_none_leads_out_of_somebodys_directory() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: not tested");
        return;
    }
    let scene = Scene::new();
    let reader = Reader::directory(scene.scratch.path()).expect("opened");
    let mut host = Writer::take(reader).expect("nobody else holds the lock");
    let before = scene.tree("etc");
    let (stop, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let times = if sample::long() { 10 } else { 1 };
    let mut dice = Dice::new();
    let mut ended: BTreeMap<String, usize> = BTreeMap::new();
    let mut done = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| scene.swap(&stop, &swaps));
        // Whatever happens to this thread, the other ends.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while swaps.load(Ordering::Relaxed) < times * SWAPS || done < times * DONE {
                let word = act(&mut host, &mut dice).err().map_or("done".to_owned(), |error| error.reason().to_owned());
                *ended.entry(word).or_default() += 1;
                done += 1;
            }
        }));
        stop.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    println!("{} exchanges, {done} things done: {ended:?}", swaps.load(Ordering::Relaxed));
    assert_eq!(scene.tree("etc"), before, "what is root's is as it was");
    // What was moved aside cannot go back where somebody has put something there again meanwhile: that stays theirs.
    let left = scene.left();
    assert!(left.len() * 500 <= done, "{left:?}");
    // It was a race: some were in time, and some were not.
    for word in ["done", "untrusted-link", "in-the-way"] {
        assert!(ended.get(word).is_some_and(|&times| times > 10), "{word}: {ended:?}");
    }
}
