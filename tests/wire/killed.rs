//! The worker killed at a system call: whatever the instant, the next look goes well by itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use trueup::config::SourceSettings;
use trueup::host::Reader;
use trueup::source::{Source, SourceError};

use super::super::sample::sample;
use super::super::source::{Bench, layers, trueup};

/// What a worker does while it fetches, and so what it can be killed at.
const CALLS: &str = "openat,read,write,pread64,close,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,mmap,munmap,\
                     mprotect,madvise,brk,recvfrom,sendto,connect,socket,poll,flock,fstat,newfstatat,statx,lseek,\
                     ftruncate,fcntl,getdents64,clone3,futex,set_robust_list,rt_sigprocmask,sigaltstack,getrandom";
/// How many places of one call are struck at most.
const MOST: usize = 24;
/// How many places are struck where nobody asked for all of them.
const SAMPLE: usize = 120;

/// What the worker is killed on the way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A first clone.
    Fresh,
    /// What is new.
    Forward,
}

/// One place: the `n`th of `call` in one thread.
#[derive(Debug, Clone)]
struct Point {
    way: Way,
    call: String,
    n: usize,
}

struct Scene {
    bench: Bench,
    settings: SourceSettings,
    commits: usize,
}

impl Scene {
    /// Puts the worker at the beginning of `way`.
    fn prepare(&mut self, way: Way) {
        match way {
            Way::Fresh => drop(fs::remove_dir_all(self.bench.cache())),
            Way::Forward => {
                self.commits += 1;
                self.bench.file("hosts/web-01/files/etc/motd", &format!("{}\n", self.commits));
                self.bench.commit("forward");
            }
        }
    }

    /// A whole look, by a worker under strace(1) with these arguments.
    fn look(&self, strace: &str) -> Result<(), SourceError> {
        let wrapper = self.wrapper(strace);
        let host = Reader::directory(&self.bench.at.path().join("machine")).expect("opens");
        let mut source = Source::open(&self.settings, &host.worker(wrapper))?;
        let mut snapshot = source.snapshot()?;
        source.read_layers(&mut snapshot, &layers(&["hosts/web-01"]))
    }

    fn wrapper(&self, strace: &str) -> PathBuf {
        let wrapper = self.bench.at.path().join("struck");
        let script = format!("#!/bin/sh\nexec strace -f -qq {strace} {} \"$@\"\n", trueup().display());
        fs::write(&wrapper, script).expect("writes");
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("chmod");
        wrapper
    }

    /// The places of `way`: of each call as many as one thread makes of it, some of the many.
    fn points(&mut self, way: Way) -> Vec<Point> {
        self.prepare(way);
        let trace = self.bench.at.path().join("trace");
        self.look(&format!("-o {} -e trace={CALLS}", trace.display())).expect("looks");
        let text = fs::read_to_string(&trace).expect("a trace");
        // strace(1) counts for each thread.
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for line in text.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            // A call that is told in two parts is named in the first.
            if let Some((call, _)) = rest.trim_start().split_once('(')
                && call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                *counts.entry((call, thread)).or_default() += 1;
            }
        }
        let mut most: BTreeMap<&str, usize> = BTreeMap::new();
        for ((call, _), count) in counts {
            let of = most.entry(call).or_default();
            *of = count.max(*of);
        }
        let places = |(call, count): (&str, usize)| {
            let taken = count.min(MOST);
            let call = call.to_owned();
            (0..taken).map(move |i| Point { way, call: call.clone(), n: 1 + i * count / taken }).collect::<Vec<_>>()
        };
        most.into_iter().flat_map(places).collect()
    }
}

#[test]
fn a_worker_that_is_killed_at_any_system_call_of_a_fetch_leaves_a_clone_that_the_next_look_mends() {
    let (bench, _daemon, settings, _) = super::bench();
    let mut scene = Scene { bench, settings, commits: 0 };
    let mut points = scene.points(Way::Fresh);
    points.extend(scene.points(Way::Forward));
    let all = points.len();
    let mut points = sample(points, SAMPLE);
    // Each from where the one before it left off.
    points.sort_by_key(|point| point.way == Way::Forward);
    let (mut struck, mut calls) = (0, BTreeMap::<String, usize>::new());
    for point in &points {
        scene.prepare(point.way);
        let Point { call, n, .. } = point;
        let done = scene.look(&format!("-o /dev/null -e trace={call} -e inject={call}:signal=KILL:when={n}"));
        super::recovers(&scene.bench, &scene.settings, &format!("{point:?}"));
        match done {
            // It makes one less of them now and then; or ends with the agent, which has all it wants.
            Ok(()) => {}
            Err(error @ (SourceError::Worker { .. } | SourceError::Fetch { .. }))
                // It has something to say only where it cannot do what it was told.
                if !error.to_string().contains("strace") =>
            {
                struck += 1;
                *calls.entry(call.clone()).or_default() += 1;
            }
            Err(error) => panic!("{point:?}: {error}"),
        }
    }
    println!("killed at {struck} of {all} places of a fetch: {calls:?}");
    assert!(struck * 10 > points.len() * 8, "{struck} of {}", points.len());
    assert!(all >= 300, "{all}");
}
