#![allow(clippy::disallowed_methods, reason = "tests make what is then looked at")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::*;
use crate::host::Writer;

/// Somebody who is not root and not us.
const SOMEBODY: u32 = 4242;

struct Host {
    root: tempfile::TempDir,
    writer: Writer,
}

fn host() -> Host {
    let root = tempfile::tempdir().expect("a scratch directory");
    let writer = Writer::take(Reader::directory(root.path()).expect("opened")).expect("nobody else holds the lock");
    Host { root, writer }
}

impl Host {
    fn at(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn dir(&self, path: &str) {
        for above in self.at(path).ancestors().collect::<Vec<_>>().into_iter().rev().filter(|at| !at.exists()) {
            fs::create_dir(above).expect("made");
            fs::set_permissions(above, fs::Permissions::from_mode(0o755)).expect("set");
        }
    }

    fn file(&self, path: &str, content: &str) {
        self.dir(path.rsplit_once('/').expect("absolute").0);
        fs::write(self.at(path), content).expect("written");
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(0o644)).expect("set");
    }

    fn link(&self, path: &str, target: &str) {
        self.dir(path.rsplit_once('/').expect("absolute").0);
        symlink(target, self.at(path)).expect("linked");
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).expect("readable")
    }

    fn mode(&self, path: &str) -> u32 {
        fs::symlink_metadata(self.at(path)).expect("there").mode() & 0o7777
    }

    fn left_over(&self) -> Vec<String> {
        fn below(dir: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable")) {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with(".trueup-") {
                    found.push(name);
                }
                if entry.file_type().expect("told").is_dir() {
                    below(&entry.path(), found);
                }
            }
        }
        let mut found = Vec::new();
        below(self.root.path(), &mut found);
        found
    }
}

/// Giving files away and mounting takes root; elsewhere these tests say so and pass.
fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not root: not tested");
    }
    root
}

fn plain(mode: u32) -> Attributes {
    Attributes { mode: Some(mode), ..Attributes::default() }
}

#[test]
fn the_systems_own_links_are_followed_and_never_lead_out() {
    let mut host = host();
    host.file("/usr/lib/app/x", "x");
    host.link("/lib", "usr/lib");
    host.link("/abs", "/usr/lib");
    host.link("/deep/out", "../../../../../../usr");
    host.link("/round", "round");
    for path in ["/lib/app/x", "/abs/app/x", "/deep/out/lib/app/x"] {
        let meta = host.writer.look(path).expect("trusted").expect("there");
        assert_eq!(meta.real.as_deref(), Some("/usr/lib/app/x"), "{path}");
        assert_eq!(host.writer.read(path, 10).expect("readable").expect("there"), b"x");
    }
    assert_eq!(host.writer.canonical("/lib/app/new/deep").expect("told"), "/usr/lib/app/new/deep");
    assert_eq!(host.writer.canonical("/etc/none").expect("told"), "/etc/none");
    // Where it leads nothing is there yet, and what is written is made there.
    host.link("/srv/first", "second/./x/../y");
    host.link("/srv/second", "/lib/none");
    for (path, real) in [("/srv/first/a/b", "/usr/lib/none/y/a/b"), ("/srv/second/a", "/usr/lib/none/a")] {
        assert_eq!(host.writer.canonical(path).expect("told"), real);
        assert_eq!(host.writer.looks().canonical(path).expect("told").as_deref(), Some(real));
    }
    assert_eq!(host.writer.canonical("/srv/first").expect("told"), "/srv/first", "the last component is not followed");
    assert!(matches!(host.writer.look("/round/x"), Err(Error::Io { .. })));
    host.writer.write_file("/abs/made/y", plain(0o644), b"y", Over::Nothing).expect("written");
    assert_eq!(host.text("/usr/lib/made/y"), "y");
}

#[test]
fn a_link_that_somebody_could_move_is_not_followed() {
    if !root() {
        return;
    }
    let mut host = host();
    host.dir("/real");
    // Its own link in root's directory; root's link in its own, in a sticky, in a group's directory; and below its own.
    host.link("/a/link", "/real");
    lchown(host.at("/a/link"), Some(SOMEBODY), None).expect("given away");
    host.link("/b/link", "/real");
    chown(host.at("/b"), Some(SOMEBODY), None).expect("given away");
    host.link("/c/link", "/real");
    fs::set_permissions(host.at("/c"), fs::Permissions::from_mode(0o1777)).expect("set");
    host.link("/d/link", "/real");
    fs::set_permissions(host.at("/d"), fs::Permissions::from_mode(0o775)).expect("set");
    host.link("/e/deep/link", "/real");
    chown(host.at("/e"), Some(SOMEBODY), None).expect("given away");
    for (path, who) in [
        ("/a/link/x", "uid 4242"),
        ("/b/link/x", "uid 4242, who owns /b,"),
        ("/c/link/x", "everybody"),
        ("/d/link/x", "gid 0"),
        ("/e/deep/link/x", "who owns /e,"),
    ] {
        let error = host.writer.write_file(path, plain(0o644), b"x", Over::Nothing).expect_err("refused");
        assert_eq!(error.reason(), "untrusted-link", "{path}");
        assert!(error.to_string().contains(who), "{error}");
        assert_eq!(host.writer.look(path).expect_err("refused").reason(), "untrusted-link");
    }
    assert_eq!(fs::read_dir(host.at("/real")).expect("readable").count(), 0);
}

#[test]
fn what_leads_elsewhere_in_the_end_is_not_followed_either() {
    if !root() {
        return;
    }
    let host = host();
    host.file("/secret", "s");
    host.link("/etc/x", "/secret");
    assert_eq!(host.writer.read("/etc/x", 10).expect_err("a link").reason(), "in-the-way");
    let mut looks = host.writer.looks();
    let link = looks.look("/etc/x").expect("told").expect("there");
    assert_eq!(looks.digest("/etc/x", &link, 3).expect_err("a link").reason(), "in-the-way");
    assert_eq!(host.writer.read_following("/etc/x", 10).expect("root's own").expect("there"), b"s");
    lchown(host.at("/etc/x"), Some(SOMEBODY), None).expect("given away");
    assert_eq!(host.writer.read_following("/etc/x", 10).expect_err("not root's").reason(), "untrusted-link");
}

#[test]
fn paths_are_absolute_and_normalised() {
    let host = host();
    for path in ["relative", "", "/a/../b", "/a/./b", "//a", "/a/", "/a\0b"] {
        assert_eq!(host.writer.look(path).expect_err(path).reason(), "bad-path", "{path:?}");
    }
    assert!(host.writer.look(&format!("/{}", "n".repeat(255))).expect("long enough").is_none());
    assert_eq!(host.writer.look(&format!("/{}", "n".repeat(256))).expect_err("too long").reason(), "bad-path");
    assert_eq!(host.writer.look("/").expect("there").expect("there").node, NodeType::Directory);
}

#[test]
fn absence_is_not_a_file_on_the_way() {
    let mut host = host();
    host.file("/etc/a", "a");
    assert!(host.writer.look("/etc/none/x").expect("told").is_none());
    assert_eq!(host.writer.look("/etc/a/x").expect_err("told").reason(), "in-the-way");
    let error = host.writer.write_file("/etc/a/x", plain(0o644), b"", Over::Nothing).expect_err("no directory");
    assert_eq!(error.to_string(), "/etc/a/x: a file at /etc/a is in the way");
}

#[test]
fn a_look_at_many_paths_says_of_each_what_a_look_at_it_alone_says() {
    let host = host();
    for path in ["/etc/a", "/etc/b", "/etc/sub/c", "/usr/lib/x/d"] {
        host.file(path, path);
    }
    host.link("/lib", "usr/lib");
    host.link("/etc/l", "a");
    let mut looks = host.writer.looks();
    for path in [
        "/",
        "/etc",
        "/etc/a",
        "/etc/b",
        "/etc/l",
        "/etc/none",
        "/etc/sub/c",
        "/etc/sub/none",
        "/etc/a/x",
        "/etc/none/x",
        "/etc/none/y",
        "/etc/none/sub/deep/z",
        "/etc/none",
        "/etc/nonesuch/x",
        "/etc/nonesuch/../a",
        "/etc/nonesuch//x",
        "/etc/nonesuch/y",
        "/etc/b",
        "/lib/x/d",
        "/lib/x/none",
        "/lib/x",
        "/lib/y/z",
        "/lib/y/z/w/v",
        "/lib/y/u",
        "/none/x",
        "/lib/x/d",
        "/lib",
        "/etc/",
        "/etc/..",
        "/etc/.",
        "/etc/a\0",
        "relative",
        "",
    ] {
        let told = |error: Error| error.to_string();
        assert_eq!(looks.look(path).map_err(told), host.writer.look(path).map_err(told), "{path:?}");
        let canonical = looks.canonical(path).map(|real| real.unwrap_or_else(|| (*path).to_owned()));
        assert_eq!(canonical.map_err(told), host.writer.canonical(path).map_err(told), "{path:?}");
    }
    // What is below something that is missing is not looked for once more, and is not taken for something else.
    assert!(looks.look("/gone/a/b").expect("told").is_none());
    host.file("/gone/a/b", "made since");
    assert_eq!(looks.look("/gone/c/d").expect("told"), None, "of one look");
    assert!(looks.look("/etc/a").expect("told").is_some());
    assert!(looks.look("/gone/a/b").expect("told").is_some());
    let long = format!("/etc/{}", "n".repeat(256));
    assert_eq!(looks.look(&long).expect_err("too long").reason(), "bad-path");
}

#[test]
fn what_is_known_is_not_read_unless_it_changed_or_somebody_wants_it_read() {
    let host = host();
    host.file("/etc/a", "abc");
    let memory = crate::host::Memory::default();
    let reader = Reader::directory(host.at("/").as_path()).expect("opened").with_memory(memory.clone());
    let digest = |mut looks: super::Looks<'_>| {
        let meta = looks.look("/etc/a").expect("told").expect("there");
        looks.digest("/etc/a", &meta, 10).expect("readable").expect("there").0.expect("short")
    };
    let (abc, other) = (Digest::of(b"abc"), Digest::of(b"other"));
    assert_eq!(digest(reader.looks_with_hashed()), abc, "nothing is known of it");
    let meta = reader.look("/etc/a").expect("told").expect("there");
    memory.files.pretend("/etc/a", &meta, &other);
    assert_eq!(digest(reader.looks_with_hashed()), other, "it is known");
    assert_eq!(digest(reader.looks()), abc, "it is read");
    assert_eq!(digest(reader.looks_with_hashed()), abc, "what was found to be otherwise is known no longer");
    memory.files.pretend("/etc/a", &meta, &other);
    memory.files.forget(std::path::Path::new("/etc/a"));
    assert_eq!(digest(reader.looks_with_hashed()), abc, "it was forgotten");
    memory.files.pretend("/etc/a", &meta, &other);
    fs::rename(host.at("/etc/a"), host.at("/etc/b")).expect("renamed");
    host.file("/etc/a", "abc");
    assert_eq!(digest(reader.looks_with_hashed()), abc, "another file stands there");
}

#[test]
fn reading_has_a_limit_and_leaves_no_trace() {
    let host = host();
    host.file("/etc/a", "abc");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let times = fs::FileTimes::new().set_accessed(old).set_modified(old + Duration::from_secs(60));
    for path in ["/etc/a", "/etc"] {
        fs::File::open(host.at(path)).expect("opened").set_times(times).expect("set");
    }
    assert_eq!(host.writer.read("/etc/a", 3).expect("readable").expect("there"), b"abc");
    assert_eq!(host.writer.read("/etc/a", 2).expect_err("longer").reason(), "too-large");
    let mut looks = host.writer.looks();
    let a = looks.look("/etc/a").expect("told").expect("there");
    let mut digest = |limit| {
        let read = looks.digest("/etc/a", &a, limit).expect("readable").expect("there");
        (read.0, read.1.size)
    };
    assert_eq!(digest(3), (Some(Digest::of(b"abc")), 3));
    assert_eq!(digest(2), (None, 3));
    assert_eq!(host.writer.list("/etc").expect("readable"), ["a"]);
    for path in ["/etc/a", "/etc"] {
        assert_eq!(fs::metadata(host.at(path)).expect("there").accessed().expect("told"), old, "{path}");
    }
}

#[test]
fn a_fifo_is_neither_opened_nor_replaced_by_chance() {
    let mut host = host();
    host.dir("/run");
    rustix::fs::mkfifoat(rustix::fs::CWD, host.at("/run/f"), Mode::from_raw_mode(0o600)).expect("made");
    assert_eq!(host.writer.read("/run/f", 1).expect_err("a fifo").to_string(), "/run/f: a fifo is in the way");
    let error = host.writer.set_attributes("/run/f", plain(0o644)).expect_err("a fifo");
    assert_eq!(error.reason(), "in-the-way");
    host.writer.write_file("/run/f", plain(0o644), b"x", Over::Leaf).expect("allowed");
    assert_eq!(host.text("/run/f"), "x");
}

#[test]
fn modes_are_exact() {
    let mut host = host();
    for (n, mode) in [0o644, 0o600, 0o666, 0o000, 0o4755, 0o2755, 0o777].into_iter().enumerate() {
        let path = format!("/a/b/f{n}");
        host.writer.write_file(&path, plain(mode), b"x", Over::Nothing).expect("written");
        assert_eq!(host.mode(&path), mode);
        host.writer.make_directory(&format!("/a/b/d{n}"), plain(mode), Over::Nothing).expect("made");
        assert_eq!(host.mode(&format!("/a/b/d{n}")), mode);
    }
    assert_eq!((host.mode("/a"), host.mode("/a/b")), (0o755, 0o755));
}

#[test]
fn modes_are_exact_under_every_umask() {
    for umask in ["000", "077"] {
        let test = Command::new("sh")
            .args(["-c", "umask $1; exec \"$0\" --exact host::files::tests::modes_are_exact"])
            .arg(std::env::current_exe().expect("known"))
            .arg(umask)
            .output()
            .expect("started");
        let told = String::from_utf8_lossy(&test.stdout);
        assert!(test.status.success() && told.contains("1 passed"), "umask {umask}: {told}");
    }
}

#[test]
fn a_new_file_is_the_declared_owners_and_an_old_one_keeps_what_is_not_said() {
    if !root() {
        return;
    }
    let mut host = host();
    host.dir("/srv/app");
    chown(host.at("/srv/app"), Some(SOMEBODY), Some(SOMEBODY)).expect("given away");
    fs::set_permissions(host.at("/srv/app"), fs::Permissions::from_mode(0o2775)).expect("set");
    host.writer.write_file("/srv/app/x", plain(0o640), b"1", Over::Nothing).expect("written");
    let owner = |path: &str| {
        let meta = fs::symlink_metadata(host.at(path)).expect("there");
        (meta.uid(), meta.gid(), meta.mode() & 0o7777)
    };
    assert_eq!(owner("/srv/app/x"), (0, 0, 0o640), "neither the directory's owner nor its group");
    chown(host.at("/srv/app/x"), Some(7), Some(8)).expect("given away");
    host.writer
        .write_file("/srv/app/x", Attributes { gid: Some(9), ..Attributes::default() }, b"2", Over::Leaf)
        .expect("ok");
    let owner = |path: &str| {
        let meta = fs::symlink_metadata(host.at(path)).expect("there");
        (meta.uid(), meta.gid(), meta.mode() & 0o7777)
    };
    assert_eq!(owner("/srv/app/x"), (7, 9, 0o640));
    let link = Attributes { uid: Some(5), gid: Some(6), ..Attributes::default() };
    host.writer.make_symlink("/srv/app/l", "x", link, Over::Nothing).expect("linked");
    let meta = fs::symlink_metadata(host.at("/srv/app/l")).expect("there");
    assert_eq!((meta.uid(), meta.gid()), (5, 6));
}

#[test]
fn a_default_list_of_somebodys_directory_does_not_open_what_is_written_there() {
    if !root() {
        return;
    }
    let mut host = host();
    host.dir("/srv/app");
    // acl(5) as the kernel keeps it: version 2; owner rwx, user 4242 rwx, group rwx, mask rwx, others none.
    let mut list = vec![2, 0, 0, 0];
    for (tag, id) in [(1_u16, u32::MAX), (2, SOMEBODY), (4, u32::MAX), (16, u32::MAX), (32, u32::MAX)] {
        list.extend(tag.to_le_bytes());
        list.extend((if tag == 32 { 0_u16 } else { 7 }).to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let dir = fs::File::open(host.at("/srv/app")).expect("opened");
    let set = rustix::fs::fsetxattr(&dir, "system.posix_acl_default", &list, rustix::fs::XattrFlags::empty());
    if set.is_err() {
        eprintln!("no access control lists on this file system: not tested");
        return;
    }
    chown(host.at("/srv/app"), Some(SOMEBODY), None).expect("given away");
    host.writer.write_file("/srv/app/conf/x", plain(0o640), b"s", Over::Nothing).expect("written");
    host.writer.write_file("/srv/app/y", plain(0o640), b"s", Over::Nothing).expect("written");
    for path in ["/srv/app/conf/x", "/srv/app/y"] {
        let file = fs::File::open(host.at(path)).expect("opened");
        let found = rustix::fs::fgetxattr(&file, "system.posix_acl_access", vec![0; 1024].as_mut_slice());
        assert_eq!(found, Err(Errno::NODATA), "{path}");
    }
}

#[test]
fn user_attributes_of_a_file_stay_with_it() {
    let mut host = host();
    host.file("/etc/a", "1");
    let old = fs::File::open(host.at("/etc/a")).expect("opened");
    if rustix::fs::fsetxattr(&old, "user.note", b"mine", rustix::fs::XattrFlags::empty()).is_err() {
        eprintln!("no extended attributes on this file system: not tested");
        return;
    }
    host.writer.write_file("/etc/a", plain(0o644), b"2", Over::Leaf).expect("written");
    let mut value = [0; 16];
    let new = fs::File::open(host.at("/etc/a")).expect("opened");
    assert_eq!(rustix::fs::fgetxattr(&new, "user.note", value.as_mut_slice()), Ok(4));
    assert_eq!(&value[..4], b"mine");
}

#[test]
fn other_names_of_a_file_stay_as_they_are() {
    let mut host = host();
    host.file("/etc/root", "content");
    fs::set_permissions(host.at("/etc/root"), fs::Permissions::from_mode(0o600)).expect("set");
    host.dir("/srv");
    fs::hard_link(host.at("/etc/root"), host.at("/srv/x")).expect("linked");
    host.writer.set_attributes("/srv/x", plain(0o666)).expect("set");
    assert_eq!((host.mode("/etc/root"), host.mode("/srv/x")), (0o600, 0o666));
    assert_eq!(host.text("/srv/x"), "content");
    assert_ne!(
        fs::metadata(host.at("/etc/root")).expect("there").ino(),
        fs::metadata(host.at("/srv/x")).expect("there").ino()
    );
    // Where somebody else could have made the link, a copy would show them what they may not read.
    if root() {
        host.dir("/home/bob");
        fs::hard_link(host.at("/etc/root"), host.at("/home/bob/x")).expect("linked");
        chown(host.at("/home/bob"), Some(SOMEBODY), None).expect("given away");
        let error = host.writer.set_attributes("/home/bob/x", plain(0o644)).expect_err("refused");
        assert_eq!(error.reason(), "in-the-way");
        assert_eq!((host.mode("/etc/root"), host.mode("/home/bob/x")), (0o600, 0o600));
    }
    assert_eq!(host.left_over(), Vec::<String>::new());
}

#[test]
fn owner_and_mode_of_one_name_are_set_in_place() {
    if !root() {
        return;
    }
    let mut host = host();
    host.file("/etc/a", "a");
    let before = fs::metadata(host.at("/etc/a")).expect("there");
    host.writer.set_attributes("/etc/a", Attributes { uid: Some(3), ..plain(0o4750) }).expect("set");
    let after = fs::metadata(host.at("/etc/a")).expect("there");
    assert_eq!((after.uid(), after.gid(), after.mode() & 0o7777, after.ino()), (3, before.gid(), 0o4750, before.ino()));
    assert_eq!(host.writer.set_attributes("/etc/none", plain(0o600)).expect_err("nothing").reason(), "no-such-file");
    // What it may do in the name of one it does not in that of another, in place and in a copy of its own.
    let other = |uid, gid| Attributes { uid, gid, ..Attributes::default() };
    for links in [1, 2] {
        for (attributes, before, after) in [
            (other(Some(0), None), 0o6755, 0o755),
            (other(None, Some(0)), 0o6755, 0o4755),
            (other(Some(3), Some(3)), 0o6755, 0o6755),
            (other(Some(0), Some(0)), 0o1755, 0o1755),
        ] {
            host.file("/etc/powers", "x");
            let theirs = Attributes { mode: Some(before), ..other(Some(3), Some(3)) };
            host.writer.set_attributes("/etc/powers", theirs).expect("set");
            if links == 2 {
                fs::hard_link(host.at("/etc/powers"), host.at("/etc/powers.2")).expect("linked");
            }
            host.writer.set_attributes("/etc/powers", attributes).expect("set");
            let meta = host.writer.look("/etc/powers").expect("looked").expect("there");
            assert_eq!(meta.mode, after, "{attributes:?}, {links} names");
            for name in ["/etc/powers", "/etc/powers.2"] {
                drop(fs::remove_file(host.at(name)));
            }
        }
    }
}

#[test]
fn what_is_not_allowed_to_go_stays() {
    let mut host = host();
    host.file("/etc/dir/stranger", "s");
    host.file("/etc/a", "a");
    let refused = |result: Result<(), Error>| result.expect_err("refused").reason();
    assert_eq!(refused(host.writer.write_file("/etc/a", plain(0o644), b"x", Over::Nothing)), "stale");
    assert_eq!(refused(host.writer.write_file("/etc/dir", plain(0o644), b"x", Over::Leaf)), "in-the-way");
    assert_eq!(refused(host.writer.write_file("/etc/dir", plain(0o644), b"x", Over::Empty)), "not-empty");
    assert_eq!(refused(host.writer.remove_directory("/etc/dir")), "not-empty");
    assert_eq!(refused(host.writer.remove_directory("/etc/a")), "in-the-way");
    assert_eq!(refused(host.writer.remove("/etc/dir")), "in-the-way");
    assert_eq!((host.text("/etc/dir/stranger").as_str(), host.text("/etc/a").as_str()), ("s", "a"));
    assert_eq!(host.left_over(), Vec::<String>::new());
}

#[test]
fn types_change_places_where_that_is_allowed() {
    let mut host = host();
    host.file("/etc/dir/deep/stranger", "s");
    host.link("/etc/dir/out", "/keep");
    host.file("/keep/me", "k");
    host.writer.write_file("/etc/dir", plain(0o600), b"f", Over::Tree).expect("a file over a tree");
    assert_eq!((host.text("/etc/dir").as_str(), host.mode("/etc/dir")), ("f", 0o600));
    assert_eq!(host.text("/keep/me"), "k", "links below are removed, not followed");
    host.writer.make_directory("/etc/dir", plain(0o700), Over::Leaf).expect("a directory over a file");
    assert_eq!(host.mode("/etc/dir"), 0o700);
    host.writer
        .make_symlink("/etc/dir", "/keep", Attributes::default(), Over::Empty)
        .expect("a link over an empty directory");
    assert_eq!(host.writer.read_link("/etc/dir").expect("readable").as_deref(), Some("/keep"));
    host.writer.write_file("/etc/dir", plain(0o644), b"g", Over::Leaf).expect("a file over a link");
    assert_eq!((host.text("/etc/dir").as_str(), host.text("/keep/me").as_str()), ("g", "k"));
    host.writer.remove("/etc/dir").expect("removed");
    host.writer.remove("/etc/dir").expect("nothing there is fine");
    host.writer.remove_tree("/keep").expect("removed");
    assert!(!host.at("/keep").exists());
    assert_eq!(host.left_over(), Vec::<String>::new());
}

struct Mounted(std::path::PathBuf);

impl Mounted {
    fn bind(what: &Path, at: &Path) -> Option<Self> {
        Self::mount(&[std::ffi::OsStr::new("--bind"), what.as_os_str()], at)
    }

    fn mount(how: &[&std::ffi::OsStr], at: &Path) -> Option<Self> {
        let done = Command::new("mount").args(how).arg(at).output().is_ok_and(|out| out.status.success());
        if !done {
            eprintln!("cannot mount here: not tested");
        }
        done.then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).output());
    }
}

#[test]
fn mount_points_stay_whatever_is_allowed() {
    if !root() {
        return;
    }
    let mut host = host();
    host.file("/data/precious", "p");
    host.file("/etc/hosts", "h");
    host.dir("/etc/tree/sub");
    host.file("/etc/tree/a", "a");
    let Some(_file) = Mounted::bind(&host.at("/data/precious"), &host.at("/etc/hosts")) else { return };
    let Some(_dir) = Mounted::bind(&host.at("/data"), &host.at("/etc/tree/sub")) else { return };
    assert!(host.writer.look("/etc/hosts").expect("told").expect("there").mount_point);
    for error in [
        host.writer.write_file("/etc/hosts", plain(0o644), b"x", Over::Tree).expect_err("mounted"),
        host.writer.remove("/etc/hosts").expect_err("mounted"),
        host.writer.set_attributes("/etc/hosts", plain(0o600)).expect_err("mounted"),
        host.writer.remove_tree("/etc/tree").expect_err("mounted below"),
        host.writer.write_file("/etc/tree", plain(0o644), b"x", Over::Tree).expect_err("mounted below"),
        host.writer.remove_directory("/etc/tree/sub").expect_err("mounted"),
    ] {
        assert!(error.reason() == "in-the-way" && error.to_string().contains("a mount point"), "{error}");
    }
    assert_eq!((host.text("/data/precious").as_str(), host.text("/etc/tree/a").as_str()), ("p", "a"));
    assert_eq!(host.left_over(), Vec::<String>::new());
    host.writer.set_attributes("/etc/tree/sub", plain(0o711)).expect("a directory may be mounted and have a mode");
}

#[test]
fn a_full_disk_leaves_the_old_file_and_nothing_beside_it() {
    if !root() {
        return;
    }
    let mut host = host();
    host.dir("/srv");
    let how = ["-t", "tmpfs", "-o", "size=64k,mode=0755", "none"].map(std::ffi::OsStr::new);
    let Some(_full) = Mounted::mount(&how, &host.at("/srv")) else { return };
    host.file("/srv/x", "old");
    let error = host.writer.write_file("/srv/x", plain(0o644), &[b'x'; 1 << 20], Over::Leaf).expect_err("no space");
    assert_eq!(error.reason(), "disk-full");
    assert_eq!((host.text("/srv/x").as_str(), host.left_over()), ("old", Vec::new()));
    host.writer.write_file("/srv/x", plain(0o644), b"new", Over::Leaf).expect("space again");
    assert_eq!(host.text("/srv/x"), "new");
}

#[test]
fn an_immutable_file_is_told_as_such() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    if !root() {
        return;
    }
    let mut host = host();
    host.file("/etc/a", "a");
    let file = fs::File::open(host.at("/etc/a")).expect("opened");
    let Ok(flags) = ioctl_getflags(&file) else { return };
    if ioctl_setflags(&file, flags | IFlags::IMMUTABLE).is_err() {
        eprintln!("no immutable files on this file system: not tested");
        return;
    }
    let results = [
        host.writer.write_file("/etc/a", plain(0o644), b"x", Over::Tree),
        host.writer.remove("/etc/a"),
        host.writer.set_attributes("/etc/a", plain(0o600)),
    ];
    ioctl_setflags(&file, flags).expect("set back");
    for result in results {
        assert_eq!(
            result.expect_err("immutable").to_string(),
            "/etc/a: an immutable file is in the way; see chattr(1)"
        );
    }
    assert_eq!(host.left_over(), Vec::<String>::new());
}

#[test]
fn what_a_crash_left_is_swept_and_nothing_else() {
    let mut host = host();
    host.file("/etc/.trueup-0123456789abcdef~", "left");
    host.link("/etc/.trueup-1123456789abcdef~", "/nowhere");
    host.file("/etc/.trueup-2123456789abcdef~/sub/x", "left");
    for other in ["/etc/.trueup-0123456789abcdeg~", "/etc/.trueup-0123~", "/etc/.trueup-0123456789abcdef", "/etc/x~"] {
        host.file(other, "not ours");
    }
    assert_eq!(host.writer.sweep("/etc").expect("swept"), 3);
    assert_eq!(host.writer.list("/etc").expect("readable").len(), 4);
    assert_eq!(host.writer.sweep("/none").expect("nothing to do"), 0);
    // Somebody could have given root's own directory our name where they may rename.
    if root() {
        host.file("/srv/.trueup-2123456789abcdef~/roots", "r");
        chown(host.at("/srv"), Some(SOMEBODY), None).expect("given away");
        assert_eq!(host.writer.sweep("/srv").expect("swept"), 0);
        assert_eq!(host.text("/srv/.trueup-2123456789abcdef~/roots"), "r");
    }
}

#[test]
fn of_many_changes_one_to_a_directory_on_the_way_counts_for_those_after_it() {
    let mut host = host();
    host.file("/srv/d/old", "old");
    host.link("/l", "/srv");
    let paths = ["/srv/d/old", "/l/d", "/l/d", "/srv/d/new"];
    let changed = host.writer.change_together(
        paths.len(),
        |host, at| {
            let path = paths[at];
            match at {
                0 => host.remove(path),
                1 => host.remove_directory(path),
                2 => host.make_directory(path, plain(0o755), Over::Nothing),
                _ => return Ok(Made::Ready(Box::new(host.make_ready(path, plain(0o644), b"new", Over::Nothing)?))),
            }
            .map(|()| Made::Done)
        },
        |at| paths[at].to_owned(),
    );
    assert!(changed.iter().all(Result::is_ok), "{changed:?}");
    assert_eq!(host.text("/srv/d/new"), "new");
}

#[test]
fn a_directory_that_somebody_removes_amid_many_changes_is_made_again() {
    let mut host = host();
    host.dir("/srv/d");
    let (paths, directory) = (["/srv/d/a", "/srv/d/b"], host.at("/srv/d"));
    let changed = host.writer.change_together(
        paths.len(),
        |host, at| {
            let ready = host.make_ready(paths[at], plain(0o644), b"new", Over::Nothing)?;
            if at == 0 {
                fs::remove_dir_all(&directory).expect("removed by somebody");
            }
            Ok(Made::Ready(Box::new(ready)))
        },
        |at| paths[at].to_owned(),
    );
    assert!(changed[0].is_err(), "it went with its directory: {changed:?}");
    assert!(changed[1].is_ok(), "{changed:?}");
    assert_eq!(host.text("/srv/d/b"), "new");
}

#[test]
fn the_longest_path_that_can_be_declared_can_be_written() {
    let mut host = host();
    let path = |bytes: usize| {
        let mut path = "/d".repeat(2000) + "/";
        path.push_str(&"x".repeat(bytes - path.len()));
        path
    };
    let attributes = Attributes { mode: Some(0o644), ..Attributes::default() };
    let path_of_4096 = path(4096);
    host.writer.write_file(&path_of_4096, attributes, b"far down", Over::Nothing).expect("written");
    assert_eq!(host.writer.read(&path_of_4096, 100).expect("read").as_deref(), Some(&b"far down"[..]));
    assert_eq!(host.writer.look(&path(4097)).expect_err("one more").reason(), "bad-path");
}

/// Writes `/srv/<place>/<n>` of each place, all together.
fn write_together(host: &mut Host, places: &[&str], n: usize, content: &str) -> Vec<Result<(), Error>> {
    let paths: Vec<String> =
        (0..n).flat_map(|n| places.iter().map(move |place| format!("/srv/{place}/{}/{n}", n % 3))).collect();
    let write = |writer: &mut Writer, at: usize| {
        let ready = writer.make_ready(&paths[at], plain(0o640), content.as_bytes(), Over::Leaf)?;
        Ok(Made::Ready(Box::new(ready)))
    };
    host.writer.change_together(paths.len(), write, |at| paths[at].clone())
}

#[test]
fn many_files_of_several_file_systems_take_their_places_together() {
    let mut host = host();
    let mut places = vec!["here"];
    let mut mounted = Vec::new();
    if root() {
        host.dir("/layers/lower/sub");
        host.dir("/layers/tmpfs");
        let tmpfs = ["-t", "tmpfs", "-o", "mode=0755", "none"].map(std::ffi::OsStr::new);
        mounted.extend(Mounted::mount(&tmpfs, &host.at("/layers/tmpfs")));
        ["/layers/tmpfs/upper", "/layers/tmpfs/work", "/srv/overlay", "/srv/tmpfs"]
            .iter()
            .for_each(|path| host.dir(path));
        let layers = ["lowerdir=", ",upperdir=", ",workdir="].iter().zip(["lower", "tmpfs/upper", "tmpfs/work"]);
        let layers: String =
            layers.map(|(key, path)| format!("{key}{}", host.at(&format!("/layers/{path}")).display())).collect();
        let overlay = ["-t", "overlay", "-o", &layers, "none"].map(std::ffi::OsStr::new);
        for (place, how) in [("tmpfs", tmpfs), ("overlay", overlay)] {
            let there = Mounted::mount(&how, &host.at(&format!("/srv/{place}")));
            places.extend(there.is_some().then_some(place));
            mounted.extend(there);
        }
        let images: [(&str, &[&str], u64); 3] = [
            ("ext4", &["mke2fs", "-q", "-t", "ext4"], 8),
            ("xfs", &["mkfs.xfs", "-q"], 320),
            ("btrfs", &["mkfs.btrfs", "-q"], 120),
        ];
        for (place, make, megabytes) in images {
            let image = host.at(&format!("/layers/{place}.img"));
            fs::File::create(&image).and_then(|file| file.set_len(megabytes << 20)).expect("made");
            if !Command::new(make[0]).args(&make[1..]).arg(&image).status().is_ok_and(|it| it.success()) {
                eprintln!("no {} here: not tested", make[0]);
                continue;
            }
            host.dir(&format!("/srv/{place}"));
            let how = ["-o".as_ref(), "loop".as_ref(), image.as_os_str()];
            let there = Mounted::mount(&how, &host.at(&format!("/srv/{place}")));
            places.extend(there.is_some().then_some(place));
            mounted.extend(there);
        }
    }
    for content in ["first", "second"] {
        let results = write_together(&mut host, &places, 60, content);
        assert!(results.len() == 60 * places.len() && results.iter().all(Result::is_ok), "{results:?}");
        for place in &places {
            for n in 0..60 {
                let path = format!("/srv/{place}/{}/{n}", n % 3);
                assert_eq!((host.text(&path).as_str(), host.mode(&path)), (content, 0o640), "{path}");
            }
        }
        assert_eq!(host.left_over(), Vec::<String>::new());
    }
    // The last mounted goes first.
    while mounted.pop().is_some() {}
}

#[test]
fn of_many_files_one_that_cannot_be_written_keeps_no_other_from_it() {
    let mut host = host();
    host.file("/srv/here/1", "a file where a directory has to be");
    let results = write_together(&mut host, &["here"], 60, "new");
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.is_ok(), n % 3 != 1, "{n}: {result:?}");
    }
    assert_eq!(
        (host.text("/srv/here/1").as_str(), host.text("/srv/here/2/2").as_str()),
        ("a file where a directory has to be", "new")
    );
    assert_eq!(host.left_over(), Vec::<String>::new());
}

#[test]
fn what_was_made_ready_takes_no_place_that_changed_meanwhile_and_leaves_nothing() {
    let mut host = host();
    let ready = |host: &mut Host| host.writer.make_ready("/etc/x", plain(0o644), b"new", Over::Leaf).expect("made");
    let none = ready(&mut host);
    assert_eq!(host.left_over().len(), 1);
    host.file("/etc/x", "somebody's");
    assert_eq!(host.writer.put(none).expect_err("something is there by now").reason(), "stale");
    let other = ready(&mut host);
    host.file("/etc/x", "somebody's, and newer");
    assert_eq!(host.writer.put(other).expect_err("it changed").reason(), "stale");
    drop(ready(&mut host));
    assert_eq!((host.text("/etc/x").as_str(), host.left_over()), ("somebody's, and newer", Vec::new()));
    let last = ready(&mut host);
    host.writer.put(last).expect("nothing changed");
    assert_eq!(host.text("/etc/x"), "new");
}

#[test]
fn a_tree_whose_place_was_taken_meanwhile_goes_with_all_that_is_in_it() {
    let mut host = host();
    host.dir("/srv/app");
    if root() {
        // Where others can rename, only what is known to be ours is cleared.
        chown(host.at("/srv/app"), Some(SOMEBODY), None).expect("given away");
    }
    let (new, old) = (host.at("/srv/app/new"), host.at("/srv/app/old"));
    host.file("/srv/app/old", "a file");
    let fill = |stage: &Stage<'_>, meanwhile: &dyn Fn()| {
        stage.directory("in", plain(0o700))?;
        stage.file("in/x", plain(0o600), b"ours")?;
        meanwhile();
        Ok(())
    };
    let taken = || fs::write(&new, "somebody's").expect("written");
    let made = host.writer.make_tree("/srv/app/new", plain(0o700), Over::Nothing, |stage| fill(stage, &taken));
    assert_eq!(made.expect_err("something is there by now").reason(), "stale");
    let turned = || {
        fs::remove_file(&old).expect("removed");
        fs::create_dir(&old).expect("made");
        fs::write(old.join("x"), "somebody's").expect("written");
    };
    let made = host.writer.make_tree("/srv/app/old", plain(0o700), Over::Leaf, |stage| fill(stage, &turned));
    assert_eq!(made.expect_err("it is a directory by now").reason(), "stale");
    assert_eq!(
        (host.text("/srv/app/new").as_str(), host.text("/srv/app/old/x").as_str()),
        ("somebody's", "somebody's")
    );
    assert_eq!(host.left_over(), Vec::<String>::new());
}

#[test]
fn a_directory_of_a_lower_layer_makes_way_and_what_somebody_put_into_it_stays() {
    if !root() {
        return;
    }
    let mut host = host();
    for path in ["/layers/lower/empty", "/layers/lower/linked", "/layers/tmpfs", "/srv/overlay"] {
        host.dir(path);
    }
    host.file("/layers/lower/full/x", "theirs");
    let tmpfs = ["-t", "tmpfs", "-o", "mode=0755", "none"].map(std::ffi::OsStr::new);
    let Some(_upper) = Mounted::mount(&tmpfs, &host.at("/layers/tmpfs")) else { return };
    host.dir("/layers/tmpfs/upper");
    host.dir("/layers/tmpfs/work");
    let at = |path: &str| host.at(path).display().to_string();
    let (lower, upper, work) = (at("/layers/lower"), at("/layers/tmpfs/upper"), at("/layers/tmpfs/work"));
    let layers = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let overlay = ["-t", "overlay", "-o", &layers, "none"].map(std::ffi::OsStr::new);
    let Some(_overlay) = Mounted::mount(&overlay, &host.at("/srv/overlay")) else { return };

    host.writer.write_file("/srv/overlay/empty", plain(0o640), b"file", Over::Empty).expect("it makes way");
    assert_eq!((host.text("/srv/overlay/empty").as_str(), host.mode("/srv/overlay/empty")), ("file", 0o640));
    host.writer.make_symlink("/srv/overlay/linked", "x", Attributes::default(), Over::Empty).expect("it makes way");
    assert_eq!(fs::read_link(host.at("/srv/overlay/linked")).expect("a link"), Path::new("x"));
    let error =
        host.writer.write_file("/srv/overlay/full", plain(0o644), b"file", Over::Empty).expect_err("it is full");
    assert_eq!((error.reason(), host.text("/srv/overlay/full/x").as_str()), ("not-empty", "theirs"));
    host.writer
        .write_file("/srv/overlay/full", plain(0o644), b"file", Over::Tree)
        .expect("it goes with all that is in it");
    assert_eq!(host.text("/srv/overlay/full"), "file");
    // And back.
    host.writer.make_directory("/srv/overlay/full", plain(0o755), Over::Leaf).expect("made");
    assert!(host.at("/srv/overlay/full").is_dir());
    assert_eq!(host.left_over(), [""; 0]);
}
