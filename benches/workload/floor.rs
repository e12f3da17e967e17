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
    /// It is part of a pass with nothing to do.
    pub idle: bool,
}

/// What [`print`] printed.
pub fn parse(text: &str) -> Vec<Floor> {
    let line = |line: &str| {
        let [what, wall, cpu, idle] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
        Some(Floor { what: what.to_owned(), wall: wall.parse().ok()?, cpu: cpu.parse().ok()?, idle: idle == "idle" })
    };
    text.lines().map(|text| line(text).unwrap_or_else(|| panic!("no floor: {text}"))).collect()
}

/// Measures everything over the files in the directories of `root`; what is written goes below `scratch`.
pub fn print(root: &Path, scratch: &Path, units: &[String]) {
    let files = files(root);
    let contents: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).expect("readable")).collect();
    say("start a process", true, || {
        Command::new("/bin/true").status().expect("it starts");
    });
    say("lstat every file", false, || {
        for path in &files {
            fs::symlink_metadata(path).expect("it is there");
        }
    });
    say("read and SHA-256 every file", true, || {
        for path in &files {
            std::hint::black_box(Sha256::digest(fs::read(path).expect("readable")));
        }
    });
    say("state of 20 units in one call, connection made anew", true, || list_units(units));
    say("enabled or not, 20 units, by the links", true, || {
        for unit in units {
            let target = if unit.ends_with(".timer") { "timers" } else { "multi-user" };
            fs::read_link(format!("/etc/systemd/system/{target}.target.wants/{unit}")).expect("it is enabled");
        }
    });
    say("dpkg's status, read whole", true, || {
        let status = fs::read_to_string("/var/lib/dpkg/status").expect("a Debian host");
        std::hint::black_box(status.lines().filter(|line| line.starts_with("Status: install ok installed")).count());
    });
    write_all("write all: temporary, rename; nothing durable", root, scratch, &files, &contents, |targets| {
        for target in targets {
            target.stage(false);
            target.rename();
        }
    });
    write_all("write all: temporaries, one syncfs, renames, one syncfs", root, scratch, &files, &contents, |targets| {
        let directory = File::open(scratch).expect("it is there");
        targets.iter().for_each(|target| target.stage(false));
        rustix::fs::syncfs(&directory).expect("synced");
        targets.iter().for_each(Target::rename);
        rustix::fs::syncfs(&directory).expect("synced");
    });
    write_all("write all: temporary, fsync, rename each", root, scratch, &files, &contents, |targets| {
        for target in targets {
            target.stage(true);
            target.rename();
        }
    });
    write_all("write all: the same, and fsync of the directory each", root, scratch, &files, &contents, |targets| {
        for target in targets {
            target.stage(true);
            target.rename();
            let above = target.path.parent().expect("below scratch");
            File::open(above).and_then(|directory| directory.sync_all()).expect("synced");
        }
    });
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
    for _ in 0..ROUNDS.min(3) {
        drop(fs::remove_dir_all(scratch));
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
    tell(what, false, rounds);
    drop(fs::remove_dir_all(scratch));
}

/// Does it [`ROUNDS`] times, after once that does not count.
fn say(what: &str, idle: bool, mut work: impl FnMut()) {
    work();
    tell(what, idle, (0..ROUNDS).map(|_| timed(&mut work)).collect());
}

fn tell(what: &str, idle: bool, mut rounds: Vec<(f64, f64)>) {
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (wall, cpu) = rounds[rounds.len() / 2];
    println!("{what}\t{wall}\t{cpu}\t{}", if idle { "idle" } else { "" });
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let reply = runtime.block_on(async {
        let bus = zbus::Connection::system().await?;
        let manager = "org.freedesktop.systemd1";
        let interface = "org.freedesktop.systemd1.Manager";
        bus.call_method(Some(manager), "/org/freedesktop/systemd1", Some(interface), "ListUnitsByNames", &(units,))
            .await
    });
    std::hint::black_box(reply.expect("systemd answers"));
}
