//! Workload W(N): N files of 0.5 to 4 KiB in directories of 50, with modes and owners in turn, 20 small packages,
//! 15 services and 5 timers, on a real host. trueup as a fresh process beside the floor: the same work in a few
//! lines of Rust. Printed as tables.
//!
//! Then the agent on the same host: what it takes while it waits, and for each poll with nothing new.
//!
//! `cargo bench` is N = 100 and 1,000; `cargo bench -- --full` adds 10,000; `-- --peers` measures CFEngine and Puppet
//! too, as Debian has them; `-- --agent` is only the agent. Needs root, and what `tests/setup` installs. Absolute values move with the machine; the ratios below each table much less.
//!
//! This program is also copied to the host, where `floor` and `measure` are what it does there.
#![allow(clippy::disallowed_methods, reason = "a benchmark makes processes and files; the ban is for the agent")]

use std::path::Path;
use std::process::ExitCode;

#[path = "workload/agent.rs"]
mod agent;
#[path = "workload/floor.rs"]
mod floor;
#[path = "workload/measure.rs"]
mod measure;
#[path = "workload/peers.rs"]
mod peers;
#[path = "workload/table.rs"]
mod table;

/// What boots hosts for the tests.
#[allow(dead_code, reason = "of what the tests need only what boots a host is used here")]
#[path = "../tests/hosts"]
mod hosts {
    pub mod apt;
    pub mod dnf;
    pub mod git;
    pub mod host;
    pub mod image;
    pub mod lab;
    pub mod locks;
    pub mod network;
    pub mod report;
    pub mod server;
    pub mod vm;
}

use hosts::apt::Package;
use hosts::host::Host;
use hosts::lab::Lab;
use measure::Measured;
use peers::Peer;

/// Where the files of the workload are on the host.
const ROOT: &str = "/srv/workload";
/// The ext4 that they are on, as a server has it: a host of the tests is an overlay.
const DISK: &str = "/srv";
/// Where the image of that is, below the lab's directory; sparse, and its size in MB.
const IMAGE: (&str, u64) = ("disk", 4096);
/// Where this program is on the host.
const PROGRAM: &str = "/usr/local/bin/workload";
/// Where the fleet repository is on the host.
const FLEET: &str = "/opt/fleet.git";

const MODES: [&str; 3] = ["0644", "0640", "0600"];
const OWNERS: [(&str, &str); 3] = [("root", "root"), ("www-data", "www-data"), ("backup", "adm")];
const PACKAGES: usize = 20;
const SERVICES: usize = 15;
const TIMERS: usize = 5;

/// First convergences that are measured; each starts from nothing.
const FIRST: usize = 3;
/// Passes of the other sorts that are measured.
const ROUNDS: usize = 9;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| *word != "--bench").collect();
    match words[..] {
        [] => bench(&[100, 1_000], What::Trueup),
        ["--full"] => bench(&[100, 1_000, 10_000], What::Trueup),
        ["--peers"] => bench(&[100, 1_000], What::Peers),
        ["--full", "--peers"] | ["--peers", "--full"] => bench(&[100, 1_000, 10_000], What::Peers),
        ["--agent"] => bench(&[100, 1_000], What::Agent),
        ["floor", files, scratch] => {
            floor::print(Path::new(files), Path::new(scratch), &units());
            ExitCode::SUCCESS
        }
        ["measure", program, ref arguments @ ..] => {
            println!("{}", measure::run(program, arguments).to_json());
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: cargo bench [-- [--full] [--peers] | --agent]");
            ExitCode::from(2)
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Passes of trueup, the floor, and the agent.
    Trueup,
    /// Those, and the same workload by others.
    Peers,
    /// The agent alone.
    Agent,
}

/// What one size took.
struct Passes {
    first: Measured,
    idle: Measured,
    repaired: Measured,
}

fn bench(sizes: &[usize], what: What) -> ExitCode {
    let Some(mut lab) = Lab::new(1) else { return ExitCode::FAILURE };
    let packages: Vec<Package> = (0..PACKAGES).map(|k| Package::new(&package(k), "1.0")).collect();
    lab.apt().publish(&packages);
    if what == What::Peers {
        lab.apt().stock(&peers::debs());
    }
    for &n in sizes {
        declare(&lab, n);
    }
    lab.fleet.commit("the workload");
    let host = lab.boot("bench");
    prepare(&host, &lab);
    println!("{}\n", table::machine(&host.ok(&["systemctl", "--version"])));
    if what == What::Peers {
        peers::prepare(&host);
        println!("Beside it {}.\n", peers::versions(&host));
    }
    let mut known = vec![None; sizes.len()];
    for (&n, known) in sizes.iter().zip(&mut known).filter(|_| what != What::Agent) {
        let passes = passes(&host, &lab, n);
        let floor = host.ok(&[PROGRAM, "floor", ROOT, "/srv/floor"]);
        let floors = floor::parse(&floor);
        let peers: Vec<_> = match what {
            What::Peers => Peer::ALL.map(|peer| (peer, peers::passes(&host, &lab, peer, n))).into(),
            _ => Vec::new(),
        };
        println!("{}", table::table(n, &passes, &floors, &peers));
        *known = Some(table::idle(&floors, floor::Part::Agent).1);
    }
    let mut agents = Vec::new();
    for (&n, known) in sizes.iter().zip(known) {
        fresh_disk(&host, &lab);
        host.shell("rm -rf /var/lib/trueup");
        agents.push((n, agent::measure(&host, &lab, n), known));
    }
    println!("{}", table::agents(&agents));
    ExitCode::SUCCESS
}

fn package(k: usize) -> String {
    format!("small-{k:02}")
}

/// The units of the workload, services first.
fn units() -> Vec<String> {
    let services = (0..SERVICES).map(|k| format!("bench-{k:02}.service"));
    services.chain((0..TIMERS).map(|k| format!("bench-{k:02}.timer"))).collect()
}

/// The host of the fleet that is W(n).
fn host_of(n: usize) -> String {
    format!("w{n}")
}

/// The `k`th file, below [`ROOT`]: its name ends in which mode and owner it has.
fn path_of(k: usize) -> String {
    format!("d{:03}/f{:02}.m{}o{}", k / 50, k % 50, k % 3, k / 3 % 3)
}

/// What is in the `k`th file: 0.5 to 4 KiB of text that does not repeat.
fn content_of(k: usize) -> String {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(k as u64 + 1) | 1;
    let mut next = || {
        // xorshift64: all that is asked of it is to differ from file to file.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let length = 512 + usize::try_from(next() % 3_585).expect("below 3,585");
    let mut text = String::with_capacity(length + 64);
    while text.len() < length {
        text.push_str(&format!("{:016x} {:016x} {:016x}\n", next(), next(), next()));
    }
    text.truncate(length);
    text
}

/// Writes W(n) into the fleet, as a host of its own.
fn declare(lab: &Lab, n: usize) {
    let host = host_of(n);
    for k in 0..n {
        lab.fleet.write(&format!("hosts/{host}/files{ROOT}/{}", path_of(k)), content_of(k));
    }
    let mut manifest = String::from("[packages]\n");
    for k in 0..PACKAGES {
        manifest.push_str(&format!("{} = \"present\"\n", package(k)));
    }
    manifest.push_str("[units]\n");
    for unit in units() {
        manifest.push_str(&format!("\"{unit}\" = \"on\"\n"));
    }
    for (m, mode) in MODES.iter().enumerate() {
        for (o, (owner, group)) in OWNERS.iter().enumerate() {
            manifest.push_str(&format!(
                "[files.\"{ROOT}/*/*.m{m}o{o}\"]\nmode = \"{mode}\"\nowner = \"{owner}\"\ngroup = \"{group}\"\n"
            ));
        }
    }
    lab.fleet.write(&format!("hosts/{host}/host.toml"), manifest);
}

/// Puts on the host what is there before any pass: this program, the repository, packages and units.
fn prepare(host: &Host, lab: &Lab) {
    host.copy_in(&std::env::current_exe().expect("this program has a path"), PROGRAM);
    host.copy_in(lab.fleet.bare(), FLEET);
    let names: Vec<String> = (0..PACKAGES).map(package).collect();
    host.shell(&format!("DEBIAN_FRONTEND=noninteractive apt-get -y -qq install {}", names.join(" ")));
    for unit in units() {
        let text = match unit.strip_suffix(".timer") {
            None => "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n".to_owned(),
            // Never due while it is measured.
            Some(stem) => {
                format!("[Timer]\nOnCalendar=2099-01-01\nUnit={stem}.service\n[Install]\nWantedBy=timers.target\n")
            }
        };
        host.write(&format!("/etc/systemd/system/{unit}"), text);
    }
    agent::prepare(host);
    host.shell(&format!("systemctl daemon-reload; systemctl --quiet enable --now {}", units().join(" ")));
}

/// Measures one size, from nothing to converged to repaired.
fn passes(host: &Host, lab: &Lab, n: usize) -> Passes {
    let name = host_of(n);
    let run = ["run", "--repo", FLEET, "--host", &name];
    let measured = || {
        let command = [&[PROGRAM, "measure", "trueup"], &run[..]].concat();
        let measured = Measured::from_json(&host.ok(&command));
        assert_eq!(measured.status, 0, "trueup {run:?} failed: {}", measured.said);
        measured
    };
    let first = first(host, lab, n, FIRST, "/var/lib/trueup", measured);
    host.trueup(&run).idle();
    let (idle, repaired) = idle_and_repaired(host, n, ROUNDS, measured);
    Passes { first, idle, repaired }
}

/// Gives the host a file system for the files on which nothing was ever removed: among inodes that were freed minutes ago
/// ext4 looks long for one to use, which would be most of what writing many files takes (`recently_deleted` in
/// fs/ext4/ialloc.c of the kernel).
fn fresh_disk(host: &Host, lab: &Lab) {
    host.shell(&format!("while mountpoint -q {DISK}; do umount {DISK}; done"));
    host.mount_ext4(&lab.directory(IMAGE.0), DISK, IMAGE.1, &[]);
}

/// First convergences, each from nothing: without the files and without `state`.
fn first(host: &Host, lab: &Lab, n: usize, rounds: usize, state: &str, measured: impl Fn() -> Measured) -> Measured {
    let first = median(rounds, || {
        fresh_disk(host, lab);
        host.shell(&format!("rm -rf {state}; sync"));
        measured()
    });
    // What was measured is a host that converged, and nothing less.
    assert_eq!(host.shell(&format!("find {ROOT} -type f | wc -l")).trim(), n.to_string());
    first
}

/// Passes with nothing to do, and passes with one file to put back.
fn idle_and_repaired(host: &Host, n: usize, rounds: usize, measured: impl Fn() -> Measured) -> (Measured, Measured) {
    let idle = median(rounds, &measured);
    // Another one each time: one file that changes so often would be contested.
    let mut which = n / 2;
    let path = |k: usize| format!("{ROOT}/{}", path_of(k));
    let repaired = median(rounds, || {
        which += 1;
        host.shell(&format!("echo changed >>{}", path(which)));
        measured()
    });
    assert_eq!(host.peek(&path(which)), content_of(which).into_bytes(), "it was put back");
    (idle, repaired)
}

/// The middle of `rounds` measurements, by wall time.
fn median(rounds: usize, mut measured: impl FnMut() -> Measured) -> Measured {
    let mut all: Vec<Measured> = (0..rounds).map(|_| measured()).collect();
    all.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    all.swap_remove(rounds / 2)
}

/// The middle of `values`.
fn median_of(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
