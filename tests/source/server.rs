//! Servers, and the clones that are made of them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trueup::config::SourceSettings;
use trueup::model::Class;
use trueup::source::Record;

use super::{Bench, check_first, git, git_daemon};

#[test]
fn a_server_is_cloned_then_fetched_from_and_not_asked_for_what_is_at_hand() {
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    let settings = bench.settings(&url);
    check_first(&mut bench.open(&settings).expect("clones"));
    assert_eq!(bench.packs(), 1);
    check_first(&mut bench.open(&settings).expect("looks"));
    assert_eq!(bench.packs(), 1, "nothing new, no pack");
    let first = bench.commit("second");
    let mut source = bench.open(&settings).expect("fetches");
    assert_eq!((source.tip().subject.as_str(), bench.packs()), ("second", 2));
    assert!(source.descends_from(&first).expect("can be told"));
    let left: Vec<String> = bench.clones().into_iter().filter(|name| name.contains('.')).collect();
    assert_eq!(left.len(), 1, "the lock only: {left:?}");
}

#[test]
fn a_server_of_sha_256_is_cloned() {
    let bench = Bench::with(&["init", "--quiet", "--object-format=sha256", "work"]);
    let (_daemon, url) = git_daemon(bench.at.path());
    check_first(&mut bench.open(&bench.settings(&url)).expect("clones"));
    check_first(&mut bench.open(&bench.settings(&url)).expect("looks"));
}

#[test]
fn a_rewritten_branch_is_fetched_and_judged_here() {
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    let mut source = bench.open(&bench.settings(&url)).expect("clones");
    let mut record = Record::default();
    record.apply("main", source.tip().commit.as_ref().expect("a commit"), 1);
    source.only_forward(&record, None).expect("the same");
    git(&bench.work(), &["commit", "--quiet", "--amend", "--message", "rewritten"]);
    let mut source = bench.open(&bench.settings(&url)).expect("fetches");
    assert_eq!(source.only_forward(&record, None).expect_err("rewritten").reason(), "not-a-descendant");
}

#[test]
fn a_damaged_clone_is_fetched_afresh() {
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    let settings = bench.settings(&url);
    check_first(&mut bench.open(&settings).expect("clones"));
    let pack = |extension: &str| {
        let packs = fs::read_dir(bench.clone().join("objects/pack")).expect("a clone");
        let mut found = packs
            .map(|entry| entry.expect("reads").path())
            .filter(|path| path.extension().is_some_and(|end| end == extension));
        found.next().expect("a pack")
    };
    let writable = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
    type Damage<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let damages: [Damage<'_>; 8] = [
        (
            "a truncated pack",
            Box::new(|| {
                let path = pack("pack");
                writable(&path);
                let half = fs::metadata(&path).expect("there").len() / 2;
                fs::File::options().write(true).open(&path).and_then(|file| file.set_len(half)).expect("truncates");
            }),
        ),
        (
            "a pack with a flipped byte",
            Box::new(|| {
                let path = pack("pack");
                writable(&path);
                let mut content = fs::read(&path).expect("reads");
                let middle = content.len() / 2;
                content[middle] ^= 0xff;
                fs::write(&path, content).expect("writes");
            }),
        ),
        ("no index", Box::new(|| fs::remove_file(pack("idx")).expect("removes"))),
        (
            "an empty index",
            Box::new(|| {
                let path = pack("idx");
                writable(&path);
                fs::write(path, "").expect("writes");
            }),
        ),
        (
            "an empty reference",
            Box::new(|| fs::write(bench.clone().join("refs/trueup/candidate"), "").expect("writes")),
        ),
        ("no HEAD", Box::new(|| fs::remove_file(bench.clone().join("HEAD")).expect("removes"))),
        ("a broken configuration", Box::new(|| fs::write(bench.clone().join("config"), "[core\n").expect("writes"))),
        (
            "a file in its place",
            Box::new(|| {
                let clone = bench.clone();
                fs::remove_dir_all(&clone).expect("removes");
                fs::write(&clone, "").expect("writes");
            }),
        ),
    ];
    for (what, damage) in damages {
        damage();
        let mut source = bench.open(&settings).unwrap_or_else(|error| panic!("{what}: {error}"));
        check_first(&mut source);
        let first = source.tip().commit.clone().expect("a commit");
        assert!(source.descends_from(&first).expect(what), "{what}");
    }
    let stale = ["refs/trueup/candidate.lock", "packed-refs.lock", "objects/pack/.tmpA", "objects/pack/x.keep"];
    stale.iter().for_each(|name| fs::write(bench.clone().join(name), "").expect("writes"));
    bench.commit("second");
    assert_eq!(bench.open(&settings).expect("fetches").tip().subject, "second");
    assert!(stale.iter().all(|name| !bench.clone().join(name).exists()));
}

#[test]
fn a_clone_grows_by_one_pack_a_fetch_and_by_nothing_else_until_it_is_made_anew() {
    fn files(directory: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).expect("reads").map(|entry| entry.expect("reads").path());
        let (below, mut found): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
        found.extend(below.iter().flat_map(|path| files(path)));
        found
    }
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    let settings = bench.settings(&url);
    // What a fetch leaves beside its pack goes with the next look.
    let looked = || {
        drop(bench.open(&settings).expect("fetches"));
        drop(bench.open(&settings).expect("looks"));
        files(&bench.clone())
    };
    let mut before = looked();
    for n in 0..4 {
        bench.file("hosts/web-01/files/etc/motd", &format!("{n}\n"));
        match n % 2 {
            0 => drop(bench.commit("forward")),
            _ => drop(git(&bench.work(), &["commit", "--quiet", "--all", "--amend", "--message", "rewritten"])),
        }
        let after = looked();
        let new: Vec<_> = after.iter().filter(|path| !before.contains(path)).collect();
        assert!(new.len() <= 2 && after.len() <= before.len() + 2, "a pack and its index: {new:?}");
        before = after;
    }
    let names = bench.clones();
    assert_eq!(names.len(), 2, "the clone and its lock: {names:?}");
}

#[test]
fn a_clone_of_former_settings_goes_and_those_of_all_that_is_configured_stay() {
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    git(&bench.work(), &["branch", "--quiet", "other"]);
    let settings = bench.settings(&url);
    let clones = |settings: &SourceSettings| {
        drop(bench.open(settings).expect("looks"));
        let names = bench.clones();
        assert!(names.iter().all(|name| !name.contains('.') || name.ends_with(".lock")), "{names:?}");
        names.into_iter().filter(|name| !name.contains('.')).collect::<Vec<_>>()
    };
    let main = clones(&settings);
    let other = clones(&SourceSettings { branch: "other".to_owned(), ..settings.clone() });
    assert!(main.len() == 1 && other.len() == 1 && main != other, "{main:?} {other:?}");
    // Two URLs are configured: the clone of the one that does not answer today is kept for the day it is needed.
    let main = clones(&settings);
    let mut both = settings.clone();
    both.urls.insert(0, url.replace("127.0.0.1", "localhost"));
    assert_eq!(clones(&both).len(), 2);
    assert_eq!(clones(&both).iter().filter(|name| main.contains(name)).count(), 1);
    // One that cannot be reached takes nothing with it.
    drop(bench.open(&bench.settings(&url.replace("/work", "/none"))).expect_err("not there"));
    assert_eq!(clones(&both).len(), 2);
    assert_eq!(clones(&settings), main);
}

#[test]
fn a_clone_of_many_packs_is_made_anew() {
    let bench = Bench::new();
    let (_daemon, url) = git_daemon(bench.at.path());
    let settings = bench.settings(&url);
    check_first(&mut bench.open(&settings).expect("clones"));
    for n in 0..101 {
        fs::write(bench.clone().join(format!("objects/pack/{n}.pack")), "").expect("writes");
    }
    check_first(&mut bench.open(&settings).expect("afresh"));
    assert_eq!(bench.packs(), 1);
}

#[test]
fn what_a_server_does_not_have_is_said_so() {
    let bench = Bench::new();
    let (daemon, url) = git_daemon(bench.at.path());
    let refused = |settings: &SourceSettings| bench.open(settings).expect_err("not to be had");
    let error = refused(&SourceSettings { branch: "absent".to_owned(), ..bench.settings(&url) });
    assert_eq!((error.reason(), error.to_string()), ("no-such-branch", format!("{url} has no branch absent")));
    let error = refused(&bench.settings(&url.replace("/work", "/none")));
    assert_eq!(error.reason(), "no-such-repository", "{error}");
    let error = refused(&SourceSettings { allow_insecure: false, ..bench.settings(&url) });
    assert_eq!((error.reason(), error.class()), ("insecure", Class::Stalled));
    drop(daemon);
    let error = refused(&bench.settings(&url));
    assert_eq!((error.reason(), error.class()), ("unreachable", Class::Transient), "{error}");
    assert!(bench.clones().iter().all(|name| name.ends_with(".lock")), "nothing is left behind");
}

#[test]
fn a_server_that_never_answers_is_given_up_after_its_time() {
    let bench = Bench::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("git://{}/work", silent.local_addr().expect("an address"));
    let settings = SourceSettings { timeout: Duration::from_secs(1), ..bench.settings(&url) };
    let error = bench.open(&settings).expect_err("no answer");
    assert_eq!((error.reason(), error.class()), ("timed-out", Class::Transient));
    assert_eq!(error.to_string(), format!("{url}: nothing complete came within 1 s; given up"));
}
