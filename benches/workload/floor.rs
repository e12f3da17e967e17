//! The floor: the least that the work itself takes, in a few lines each, on the same host and files.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::measure::own_cpu;

/// How often each is done; the median counts.
const ROUNDS: usize = 7;

/// One thing that was done, and what it took, in milliseconds.
#[derive(Debug, Clone)]
pub struct Floor {
    /// Which.
    pub what: String,
    /// From start to end.
    pub wall: f64,
    /// User and system; of what other processes do for us nothing is counted.
    pub cpu: f64,
    /// Of which pass with nothing to do it is a part.
    pub part: Part,
}

/// Of which pass with nothing to do something is a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Of one by a fresh process.
    Fresh,
    /// Of one by an agent that knows what it looked at before.
    Agent,
    /// Of both.
    Both,
    /// Of none.
    Neither,
}

impl Part {
    /// How it is printed, between processes and for people.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Fresh => " ·",
            Self::Agent => " °",
            Self::Both => " ·°",
            Self::Neither => "",
        }
    }

    /// What [`Part::mark`] gave.
    fn parse(mark: &str) -> Option<Self> {
        [Self::Fresh, Self::Agent, Self::Both, Self::Neither].into_iter().find(|part| part.mark() == mark)
    }
}

/// What [`print`] printed.
pub fn parse(text: &str) -> Vec<Floor> {
    let line = |line: &str| {
        let [what, wall, cpu, mark] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
        let part = Part::parse(mark)?;
        Some(Floor { what: what.to_owned(), wall: wall.parse().ok()?, cpu: cpu.parse().ok()?, part })
    };
    text.lines().map(|text| line(text).unwrap_or_else(|| panic!("no floor: {text}"))).collect()
}

/// Measures everything over the files in the directories of `root`; what is written goes below `scratch`.
pub fn print(root: &Path, scratch: &Path, units: &[String]) {
    let files = files(root);
    let contents: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).expect("readable")).collect();
    say("start a process", Part::Fresh, || {
        Command::new("/bin/true").status().expect("it starts");
    });
    say("lstat every file", Part::Agent, || {
        for path in &files {
            fs::symlink_metadata(path).expect("it is there");
        }
    });
    say("read and SHA-256 every file", Part::Fresh, || {
        for path in &files {
            std::hint::black_box(Sha256::digest(fs::read(path).expect("readable")));
        }
    });
    say("state of 20 units in one call, connection made anew", Part::Fresh, || list_units(units));
    let kept = Bus::connect();
    say("state of 20 units in one call, connection kept", Part::Agent, || kept.list(units));
    say("enabled or not, 20 units, by the links", Part::Both, || {
        for unit in units {
            let target = if unit.ends_with(".timer") { "timers" } else { "multi-user" };
            fs::read_link(format!("/etc/systemd/system/{target}.target.wants/{unit}")).expect("it is enabled");
        }
    });
    say("dpkg's status, unchanged by its own stat", Part::Agent, || {
        fs::metadata("/var/lib/dpkg/status").expect("a Debian host");
    });
    say("dpkg's status, read whole", Part::Fresh, || {
        let status = fs::read_to_string("/var/lib/dpkg/status").expect("a Debian host");
        std::hint::black_box(status.lines().filter(|line| line.starts_with("Status: install ok installed")).count());
    });
    write_all(
        "write all: temporary, rename; nothing durable",
        root,
        &scratch.join("plain"),
        &files,
        &contents,
        |targets| {
            for target in targets {
                target.stage(false);
                target.rename();
            }
        },
    );
    write_all(
        "write all: temporaries, one syncfs, renames, one syncfs",
        root,
        &scratch.join("grouped"),
        &files,
        &contents,
        |targets| {
            let directory = File::open(scratch).expect("it is there");
            targets.iter().for_each(|target| target.stage(false));
            rustix::fs::syncfs(&directory).expect("synced");
            targets.iter().for_each(Target::rename);
            rustix::fs::syncfs(&directory).expect("synced");
        },
    );
    write_all("write all: temporary, fsync, rename each", root, &scratch.join("each"), &files, &contents, |targets| {
        for target in targets {
            target.stage(true);
            target.rename();
        }
    });
    write_all(
        "write all: the same, and fsync of the directory each",
        root,
        &scratch.join("both"),
        &files,
        &contents,
        |targets| {
            for target in targets {
                target.stage(true);
                target.rename();
                let above = target.path.parent().expect("below scratch");
                File::open(above).and_then(|directory| directory.sync_all()).expect("synced");
            }
        },
    );
}

/// One file to be written.
struct Target<'a> {
    path: PathBuf,
    temporary: PathBuf,
    content: &'a [u8],
}

impl Target<'_> {
    fn stage(&self, durable: bool) {
        let mut file = File::create(&self.temporary).expect("created");
        file.write_all(self.content).expect("written");
        if durable {
            file.sync_all().expect("synced");
        }
    }

    fn rename(&self) {
        fs::rename(&self.temporary, &self.path).expect("renamed");
    }
}

fn write_all(
    what: &str,
    root: &Path,
    scratch: &Path,
    files: &[PathBuf],
    contents: &[Vec<u8>],
    mut write: impl FnMut(&[Target<'_>]),
) {
    let mut rounds = Vec::new();
    for round in 0..ROUNDS.min(3) {
        // Each elsewhere, and nothing is removed: on ext4 that would make each file after it dearer.
        let scratch = &scratch.join(round.to_string());
        let targets: Vec<Target<'_>> = files
            .iter()
            .zip(contents)
            .map(|(path, content)| {
                let path = scratch.join(path.strip_prefix(root).expect("below the root"));
                fs::create_dir_all(path.parent().expect("below scratch")).expect("made");
                Target { temporary: path.with_extension("new"), path, content }
            })
            .collect();
        fs::create_dir_all(scratch).expect("made");
        let directory = File::open(scratch).expect("it is there");
        rustix::fs::syncfs(directory).expect("synced");
        rounds.push(timed(|| write(&targets)));
    }
    tell(what, Part::Neither, rounds);
}

/// Does it [`ROUNDS`] times, after once that does not count.
fn say(what: &str, part: Part, mut work: impl FnMut()) {
    work();
    tell(what, part, (0..ROUNDS).map(|_| timed(&mut work)).collect());
}

fn tell(what: &str, part: Part, mut rounds: Vec<(f64, f64)>) {
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (wall, cpu) = rounds[rounds.len() / 2];
    println!("{what}\t{wall}\t{cpu}\t{}", part.mark());
}

fn timed(work: impl FnOnce()) -> (f64, f64) {
    let (began, used) = (Instant::now(), own_cpu());
    work();
    (began.elapsed().as_secs_f64() * 1e3, own_cpu() - used)
}

/// The files in the directories of `root`, in order.
fn files(root: &Path) -> Vec<PathBuf> {
    let entries = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        entries.map(|entry| entry.expect("readable").path()).collect()
    };
    let mut files: Vec<PathBuf> = entries(root).iter().flat_map(|directory| entries(directory)).collect();
    files.sort();
    files
}

fn list_units(units: &[String]) {
    Bus::connect().list(units);
}

/// A connection to the system's bus.
struct Bus {
    runtime: tokio::runtime::Runtime,
    connection: zbus::Connection,
}

impl Bus {
    fn connect() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connection = runtime.block_on(zbus::Connection::system()).expect("a bus");
        Self { runtime, connection }
    }

    fn list(&self, units: &[String]) {
        let (manager, interface) = ("org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager");
        let path = "/org/freedesktop/systemd1";
        let names = (units,);
        let call = self.connection.call_method(Some(manager), path, Some(interface), "ListUnitsByNames", &names);
        std::hint::black_box(self.runtime.block_on(call).expect("systemd answers"));
    }
}
