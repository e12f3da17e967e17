//! Servers and networks that lie, cut, trickle and swell: the source against each, through the real worker behind its
//! wall. Whatever comes, a look ends with a reason, nothing stays behind, and the next good look goes well.
#![allow(clippy::disallowed_methods, reason = "tests lay out repositories and start servers")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use trueup::config::SourceSettings;

use super::source::{Bench, check_first, git, git_daemon, layers};

mod hostile;
mod killed;
mod odd;
pub mod pack;
pub mod server;
mod talk;

/// What somebody on the way does with what the server says.
#[derive(Debug, Default)]
struct Way {
    /// How many bytes of each connection pass before it is cut; negative where all do.
    cut: AtomicI64,
    /// Which byte of each connection has a bit flipped; negative where none has.
    flip: AtomicI64,
    /// How many bytes passed in the last connection.
    passed: AtomicU64,
    /// Only this many bytes a turn, and a turn never ends by itself.
    trickles: Mutex<bool>,
}

/// Somebody between the worker and the server at `port`; the port that is listened at.
fn in_the_middle(port: u16) -> (u16, Arc<Way>) {
    let way = Arc::new(Way { cut: AtomicI64::new(-1), flip: AtomicI64::new(-1), ..Way::default() });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = listener.local_addr().expect("an address").port();
    let shared = Arc::clone(&way);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let way = Arc::clone(&shared);
            thread::spawn(move || {
                let server = TcpStream::connect(("127.0.0.1", port)).expect("the server is there");
                let (mut from, mut to) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
                thread::spawn(move || {
                    drop(std::io::copy(&mut from, &mut to));
                    drop(to.shutdown(Shutdown::Write));
                });
                pass(server, &client, &way);
                drop(client.shutdown(Shutdown::Both));
            });
        }
    });
    (own, way)
}

fn pass(mut server: TcpStream, mut client: &TcpStream, way: &Way) {
    let (cut, flip) = (way.cut.load(Ordering::SeqCst), way.flip.load(Ordering::SeqCst));
    let mut passed = 0i64;
    let mut block = [0; 4096];
    while let Ok(n @ 1..) = server.read(&mut block) {
        for (i, byte) in (passed..).zip(&mut block[..n]) {
            if i == flip {
                *byte ^= 0x10;
            }
        }
        let n = i64::try_from(n).expect("small");
        let left = if cut < 0 { n } else { (cut - passed).clamp(0, n) };
        passed += left;
        way.passed.store(passed.unsigned_abs(), Ordering::SeqCst);
        let part = &block[..usize::try_from(left).expect("small")];
        if *way.trickles.lock().expect("whole") {
            // The rest never comes; the worker's end closes the connection.
            drop(client.write_all(&part[..1.min(part.len())]));
            drop(client.read(&mut [0; 1]));
            return;
        }
        if client.write_all(part).is_err() || left < n {
            return;
        }
    }
}

/// A bench whose server is reached through somebody in the middle.
fn bench() -> (Bench, impl Sized, SourceSettings, Arc<Way>) {
    let bench = Bench::new();
    // Large enough to come in several parts.
    let noise: String = (0..20_000u64).map(|n| format!("{:x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    bench.file("hosts/web-01/files/srv/noise", &noise);
    git(&bench.work(), &["add", "--all"]);
    git(&bench.work(), &["commit", "--quiet", "--amend", "--message", "first"]);
    let (daemon, url) = git_daemon(bench.at.path());
    let port = url.split(['/', ':']).nth(4).and_then(|port| port.parse().ok()).expect("git://HOST:PORT/");
    let (own, way) = in_the_middle(port);
    let settings = bench.settings(&url.replace(&port.to_string(), &own.to_string()));
    (bench, daemon, settings, way)
}

/// The next look goes well, and nothing of the one before is left.
fn recovers(bench: &Bench, settings: &SourceSettings, after: &str) {
    let mut source = bench.open(settings).unwrap_or_else(|error| panic!("after {after}: {error}"));
    let mut snapshot = source.snapshot().expect("a snapshot");
    source.read_layers(&mut snapshot, &layers(&["hosts/web-01"])).expect("reads");
    drop(source);
    let names = bench.clones();
    assert_eq!(names.len(), 2, "after {after}: the clone and its lock, and no more: {names:?}");
    // What a fetch itself leaves beside its pack goes with the next look.
    drop(bench.open(settings).expect("looks"));
    let strange = files(&bench.clone()).into_iter().find(|path| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        name.contains("tmp") || name.ends_with(".lock") || name.ends_with(".keep")
    });
    assert_eq!(strange, None, "after {after}");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("reads").map(|entry| entry.expect("reads").path());
    let (below, mut found): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    found.extend(below.iter().flat_map(|path| files(path)));
    found
}

#[test]
fn a_connection_that_is_cut_at_any_place_is_a_transient_error_and_leaves_nothing() {
    let (bench, _daemon, settings, way) = bench();
    recovers(&bench, &settings, "nothing");
    fs::remove_dir_all(bench.cache()).expect("removes");
    drop(bench.open(&settings).expect("clones"));
    let all = i64::try_from(way.passed.load(Ordering::SeqCst)).expect("small");
    assert!(all > 50_000, "{all}");
    for n in 0..50 {
        drop(fs::remove_dir_all(bench.cache()));
        let at = all * n / 50;
        way.cut.store(at, Ordering::SeqCst);
        let error = bench.open(&settings).expect_err("it was cut");
        assert_eq!(error.class(), trueup::model::Class::Transient, "cut at {at} of {all}: {error}");
        way.cut.store(-1, Ordering::SeqCst);
        recovers(&bench, &settings, &format!("a cut at {at} of {all}"));
    }
}

#[test]
fn what_was_changed_on_the_way_is_never_believed() {
    let (bench, _daemon, settings, way) = bench();
    drop(bench.open(&settings).expect("clones"));
    let all = i64::try_from(way.passed.load(Ordering::SeqCst)).expect("small");
    let first = git(&bench.work(), &["rev-parse", "HEAD"]);
    let mut refused = 0;
    for n in 0..50 {
        drop(fs::remove_dir_all(bench.cache()));
        way.flip.store(all * n / 50, Ordering::SeqCst);
        // It may say another branch or capability and still hand over what is right.
        match bench.open(&settings) {
            Ok(source) => assert_eq!(source.tip().commit.as_ref().map(|id| id.as_str()), Some(first.as_str())),
            Err(_) => refused += 1,
        }
        way.flip.store(-1, Ordering::SeqCst);
        recovers(&bench, &settings, "a flipped bit");
    }
    assert!(refused > 40, "{refused} of 50");
}

#[test]
fn a_server_that_trickles_is_cut_and_the_next_look_goes_well() {
    let (bench, _daemon, settings, way) = bench();
    *way.trickles.lock().expect("whole") = true;
    let hasty = SourceSettings { timeout: Duration::from_secs(1), ..settings.clone() };
    let error = bench.open(&hasty).expect_err("nothing comes");
    assert_eq!(error.reason(), "timed-out", "{error}");
    *way.trickles.lock().expect("whole") = false;
    recovers(&bench, &settings, "a trickle");
}

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("reads");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("there");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_pack_that_swells_is_refused_and_the_agent_s_memory_does_not_move() {
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    let settings = bench.settings(&url);
    check_first(&mut bench.open(&settings).expect("clones"));
    // 400 MB of nothing are 400 KB of pack.
    let zeros = bench.at.path().join("zeros");
    fs::File::create(&zeros).and_then(|file| file.set_len(400 << 20)).expect("sparse");
    let blob = git(&bench.work(), &["hash-object", "-w", "--no-filters", zeros.to_str().expect("text")]);
    git(&bench.work(), &["update-index", "--add", "--cacheinfo", &format!("100644,{blob},hosts/web-01/files/bomb")]);
    git(&bench.work(), &["commit", "--quiet", "--message", "bomb"]);
    let before = peak();
    let error = bench.open(&settings).expect_err("it swells");
    assert_eq!(error.reason(), "too-large", "{error}");
    let grown = peak() - before;
    assert!(grown < 64 << 20, "the agent's side took {} MiB more", grown >> 20);
    // Once it is gone from the branch, it goes on.
    git(&bench.work(), &["reset", "--quiet", "--hard", "HEAD~1"]);
    check_first(&mut bench.open(&settings).expect("fetches"));
}

/// Writes objects and a commit of a shape that git(1) does not make, with Python's zlib; the commit's id.
fn made(bench: &Bench, script: &str) -> String {
    let git = bench.work().join(".git");
    let mut python = Command::new("python3");
    python.args(["-c", &format!("{OBJECTS}\n{script}"), git.to_str().expect("text")]);
    let output = python.output().expect("python3 starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let commit = String::from_utf8(output.stdout).expect("text").trim().to_owned();
    super::source::git(&bench.work(), &["update-ref", "refs/heads/main", &commit]);
    commit
}

const OBJECTS: &str = r#"
import hashlib, os, struct, sys, zlib
git = sys.argv[1]
def put(kind, data):
    raw = kind + b" %d\0" % len(data) + data
    name = hashlib.sha1(raw).hexdigest()
    path = os.path.join(git, "objects", name[:2])
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, name[2:]), "wb") as f: f.write(zlib.compress(raw, 1))
    return name
def tree(*entries):
    return put(b"tree", b"".join(mode + b" " + name + b"\0" + bytes.fromhex(id) for mode, name, id in entries))
def commit(root):
    who = b"Ana <ana@example.org> 1700000000 +0000"
    return put(b"commit", b"tree " + root.encode() + b"\nauthor " + who + b"\ncommitter " + who + b"\n\nodd\n")
"#;

#[test]
fn directories_that_are_nested_without_end_are_refused() {
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    made(
        &bench,
        r#"
below = tree((b"100644", b"f", put(b"blob", b"x")))
for _ in range(5000): below = tree((b"40000", b"d", below))
host = tree((b"40000", b"files", below))
print(commit(tree((b"40000", b"hosts", tree((b"40000", b"web-01", host))))))
"#,
    );
    // git(1) itself hands out less than that.
    git(&bench.work(), &["config", "core.maxTreeDepth", "10000"]);
    let mut source = bench.open(&bench.settings(&url)).expect("opens");
    let mut snapshot = source.snapshot().expect("a snapshot");
    let error = source.read_layers(&mut snapshot, &layers(&["hosts/web-01"])).expect_err("too deep");
    assert_eq!(error.reason(), "too-large", "{error}");
}

#[test]
fn a_server_that_advertises_odd_names_writes_nothing_outside_of_the_cache() {
    let bench = Bench::new();
    let id = git(&bench.work(), &["rev-parse", "HEAD"]);
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    for name in ["refs/heads/../../../etc/cron.d/x", "refs/heads/main/../../../../x", "/etc/x", "refs/heads/main\0x"] {
        let advertised = [
            line(&format!("{id} HEAD\0symref=HEAD:{name} agent=git/2 object-format=sha1\n")),
            line(&format!("{id} {name}\n")),
            "0000".to_owned(),
        ]
        .concat();
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = server.local_addr().expect("an address").port();
        thread::spawn(move || {
            for mut stream in server.incoming().flatten() {
                drop(stream.read(&mut [0; 4096]));
                drop(stream.write_all(advertised.as_bytes()));
                drop(stream.read(&mut [0; 4096]));
            }
        });
        let error = bench.open(&bench.settings(&format!("git://127.0.0.1:{port}/work"))).expect_err("nothing is there");
        assert!(!error.reason().is_empty());
        let written = files(&bench.at.path().join("machine"));
        assert!(written.iter().all(|path| path.starts_with(bench.cache())), "{name:?}: {written:?}");
    }
}

#[test]
fn a_thousand_fetches_leave_a_clone_that_is_no_more_than_twice_a_fresh_one() {
    let bench = Bench::new();
    for n in 0..200 {
        bench.file(&format!("hosts/host-{n:03}/files/etc/motd"), &format!("{n} {}\n", "x".repeat(n)));
    }
    bench.commit("many hosts");
    let from = git(&bench.work(), &["rev-parse", "HEAD"]);
    // A thousand commits that are there from the start, told one by one.
    let stream: String = (0..1000)
        .map(|n| {
            let parent = if n == 0 { format!("from {from}\n") } else { String::new() };
            let content = format!("{n}\n");
            format!(
                "commit refs/heads/later\nmark :{}\ncommitter Ana <a@x> {} +0000\ndata 1\nx\n{parent}M 100644 inline hosts/web-01/files/etc/motd\ndata {}\n{content}\n",
                n + 1,
                1_700_000_000 + n,
                content.len()
            )
        })
        .collect();
    super::source::pipe(&bench.work(), &["fast-import", "--quiet", "--export-marks=marks"], &stream);
    let marks = fs::read_to_string(bench.work().join("marks")).expect("marks");
    let mut commits: Vec<(usize, &str)> = marks
        .lines()
        .filter_map(|line| line.strip_prefix(':')?.split_once(' '))
        .map(|(mark, id)| (mark.parse().expect("a number"), id))
        .collect();
    commits.sort_unstable();
    let (_daemon, url) = git_daemon(bench.at.path());
    let settings = bench.settings(&url);
    drop(bench.open(&settings).expect("clones"));
    let size = || files(&bench.clone()).iter().map(|path| fs::metadata(path).expect("there").len()).sum::<u64>();
    let main = bench.work().join(".git/refs/heads/main");
    let mut most = 0;
    for (_, id) in commits {
        fs::write(&main, format!("{id}\n")).expect("writes");
        let source = bench.open(&settings).expect("fetches");
        assert_eq!(source.tip().commit.as_ref().map(|commit| commit.as_str()), Some(id));
        most = most.max(size());
    }
    fs::remove_dir_all(bench.cache()).expect("removes");
    drop(bench.open(&settings).expect("clones"));
    println!("at most {most} bytes, {} afresh", size());
    // Of a small repository the indexes of packs are most: a megabyte is nobody's trouble.
    assert!(most < 2 * size() + (1 << 20), "{most} bytes, {} afresh", size());
}
