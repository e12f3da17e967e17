#![allow(clippy::disallowed_methods, reason = "tests make what is then looked at")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;
use crate::model::Digest;

struct Host {
    root: tempfile::TempDir,
    writer: Writer,
    payloads: Payloads,
}

fn host() -> Host {
    let root = tempfile::tempdir().expect("a scratch directory");
    fs::create_dir(root.path().join("etc")).expect("made");
    let writer = Writer::take(Reader::directory(root.path()).expect("opened")).expect("nobody else holds the lock");
    Host { root, writer, payloads: Payloads::new() }
}

impl Host {
    fn at(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn see(&self, path: &str) -> Observed {
        File::observe(&self.writer, &[path]).remove(0).expect("looked")
    }

    fn regular(&mut self, content: &str) -> Spec {
        let size = content.len() as u64;
        spec(What::Regular { content: self.payloads.insert(content.as_bytes()), size }, Some(0o644))
    }

    fn apply_to(&mut self, path: &str, want: &Spec, seen: &Observed) -> Result<(), Error> {
        File::apply(
            &mut self.writer,
            &self.payloads,
            &[Job { name: path, want, seen }],
            &Around { resting: &BTreeSet::new(), withheld: &[], enablement: &Default::default() },
        )
        .remove(0)
    }

    fn apply(&mut self, path: &str, want: &Spec) -> Result<(), Error> {
        let seen = self.see(path);
        self.apply_to(path, want, &seen)
    }
}

fn spec(what: What, mode: Option<u32>) -> Spec {
    Spec { mode, ..Spec::of(what) }
}

fn present(what: Standing) -> Present {
    let owner = |id, name: &str| Some(Owner { id, names: [name.to_owned()].into() });
    Present {
        what,
        owner: owner(0, "root"),
        group: owner(33, "www-data"),
        mode: 0o644,
        links: 1,
        mount_point: false,
        real: None,
    }
}

fn shown(want: &Spec, seen: &Observed) -> Vec<String> {
    File::diff(want, seen).iter().map(ToString::to_string).collect()
}

#[test]
fn every_property_that_differs_is_a_change() {
    let standing = Standing::Regular { digest: Digest::of(b"old"), size: 3 };
    let seen = Observed::Present(present(standing));
    let mut want = spec(What::Regular { content: Digest::of(b"old"), size: 3 }, Some(0o644));
    assert_eq!(shown(&want, &seen), Vec::<String>::new());
    (want.owner, want.group) = (Some("root".to_owned()), Some("33".to_owned()));
    assert_eq!(shown(&want, &seen), Vec::<String>::new(), "a name or a number");
    want.owner = Some("+0".to_owned());
    assert_eq!(shown(&want, &seen), ["owner root → +0"]);
    (want.owner, want.group, want.mode) = (Some("app".to_owned()), Some("0".to_owned()), Some(0o4600));
    want.what = What::Regular { content: Digest::of(b"new"), size: 3 };
    assert_eq!(shown(&want, &seen), ["content", "owner root → app", "group www-data → 0", "mode 0644 → 4600"]);
    assert_eq!(shown(&want, &Observed::Absent), ["absent → a file"]);
    assert_eq!(shown(&spec(What::Absent, None), &seen), ["a file → absent"]);
    assert_eq!(shown(&spec(What::Absent, None), &Observed::Absent), Vec::<String>::new());
    assert_eq!(shown(&spec(What::Directory, Some(0o755)), &seen), ["type a file → a directory"]);
    assert_eq!(shown(&spec(What::Attributes, Some(0o600)), &Observed::Absent), ["absent → present"]);
    assert_eq!(shown(&spec(What::Attributes, Some(0o600)), &seen), ["mode 0644 → 0600"]);
}

#[test]
fn a_link_has_a_target_and_no_mode() {
    let seen = Observed::Present(present(Standing::Symlink { target: "a".to_owned() }));
    assert_eq!(shown(&spec(What::Symlink { target: "a".to_owned() }, Some(0o600)), &seen), Vec::<String>::new());
    assert_eq!(shown(&spec(What::Symlink { target: "b".to_owned() }, None), &seen), ["target a → b"]);
}

#[test]
fn owners_that_cannot_be_told_are_never_wrong() {
    let mut seen = present(Standing::Directory);
    (seen.owner, seen.group) = (None, None);
    let mut want = spec(What::Directory, Some(0o644));
    want.owner = Some("app".to_owned());
    assert_eq!(shown(&want, &Observed::Present(seen)), Vec::<String>::new());
}

#[test]
fn what_package_managers_read_comes_early_and_removals_late() {
    let file = spec(What::Directory, None);
    let gone = spec(What::Absent, None);
    assert_eq!(File::phase("/etc/apt/sources.list.d/x.list", &file, &[]), Phase::Early);
    assert_eq!(File::phase("/etc/apt/sources.list.d/x.list", &gone, &[]), Phase::Early);
    assert_eq!(File::phase("/etc/sysusers.d", &file, &[]), Phase::Early);
    assert_eq!(File::phase("/usr/local/lib/sysusers.d/x.conf", &file, &[]), Phase::Early);
    assert_eq!(File::phase("/etc/aptitude", &file, &[]), Phase::Files);
    assert_eq!(File::phase("/etc/motd", &gone, &[]), Phase::Removals);
}

#[test]
fn a_file_needs_the_directories_it_lies_in() {
    let needs = |path: &str, want: &Spec| -> Vec<String> {
        let name = |need| match need {
            Need::Resource(id) => id.to_string(),
            other => format!("{other:?}"),
        };
        File::needs(path, want).into_iter().map(name).collect()
    };
    assert_eq!(needs("/srv/app/x", &spec(What::Directory, None)), ["file:/srv/app", "file:/srv"]);
    assert_eq!(needs("/x", &spec(What::Directory, None)), Vec::<String>::new());
    assert_eq!(needs("/srv/app/x", &spec(What::Absent, None)), Vec::<String>::new());
}

#[test]
fn implied_directories_are_those_that_are_missing() {
    let mut host = host();
    assert_eq!(implied(&host.writer, "/etc/a/b/c", &BTreeSet::new()).expect("told"), ["/etc/a", "/etc/a/b"]);
    let want = host.regular("x");
    host.apply("/etc/a/b/c", &want).expect("written");
    assert_eq!(implied(&host.writer, "/etc/a/b/c", &BTreeSet::new()).expect("told"), Vec::<String>::new());
    let mode = |path: &str| fs::metadata(host.at(path)).expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode("/etc/a"), mode("/etc/a/b"), mode("/etc/a/b/c")), (0o755, 0o755, 0o644));
}

#[test]
fn what_changed_since_the_look_is_not_touched() {
    let mut host = host();
    let want = host.regular("wanted");
    let seen = host.see("/etc/x");
    fs::write(host.at("/etc/x"), "somebody's").expect("written");
    assert_eq!(host.apply_to("/etc/x", &want, &seen).expect_err("stale").reason(), "stale");
    let seen = host.see("/etc/x");
    fs::write(host.at("/etc/x"), "somebodys").expect("written");
    let gone = spec(What::Absent, None);
    assert_eq!(host.apply_to("/etc/x", &gone, &seen).expect_err("stale").reason(), "stale");
    assert_eq!(fs::read_to_string(host.at("/etc/x")).expect("there"), "somebodys");
    // Where it is as wanted by now there is nothing to refuse.
    fs::remove_file(host.at("/etc/x")).expect("removed");
    host.apply_to("/etc/x", &gone, &seen).expect("gone already");
}

#[test]
fn a_removal_does_not_follow_a_directory_that_became_a_link() {
    let mut host = host();
    for dir in ["/etc/old", "/etc/new"] {
        fs::create_dir(host.at(dir)).expect("made");
        fs::write(host.at(dir).join("x"), "same").expect("written");
    }
    let seen = host.see("/etc/old/x");
    fs::remove_dir_all(host.at("/etc/old")).expect("removed");
    symlink("new", host.at("/etc/old")).expect("linked");
    assert_eq!(host.apply_to("/etc/old/x", &spec(What::Absent, None), &seen).expect_err("stale").reason(), "stale");
    assert!(host.at("/etc/new/x").exists());
}

#[test]
fn a_link_is_no_way_around_what_is_protected() {
    let mut host = host();
    fs::create_dir_all(host.at("/etc/trueup")).expect("made");
    fs::create_dir(host.at("/opt")).expect("made");
    symlink("../etc", host.at("/opt/e")).expect("linked");
    symlink("../..", host.at("/etc/trueup/up")).expect("linked");
    for (path, reason) in [
        ("/opt/e/trueup/agent.toml", "self-trust"),
        ("/opt/e/trueup/agent.d/x.toml", "self-trust"),
        ("/opt/e/systemd/system/trueup.service.d/x.conf", "self-trust"),
        ("/opt/e/trueup", "self-trust"),
        ("/opt/e/shadow", "protected-path"),
        ("/opt/e/trueup/up/usr/bin/trueup", "self-trust"),
        ("/opt/e/trueup/up/proc/x", "protected-path"),
    ] {
        let error = File::observe(&host.writer, &[path]).remove(0).expect_err(path);
        assert_eq!(error.reason(), reason, "{path}: {error}");
        // And where the link came to be after the look.
        let want = host.regular("x");
        assert_eq!(host.apply_to(path, &want, &Observed::Absent).expect_err(path).reason(), reason, "{path}");
    }
    fs::write(host.at("/etc/passwd"), "root:x:0:0::/:/bin/sh\n").expect("written");
    let seen = host.see("/opt/e/passwd");
    let want = host.regular("x");
    let refused = File::obstacle("/opt/e/passwd", &want, &seen, Cause::Intended).expect("refused");
    assert_eq!(
        refused.to_string(),
        "/opt/e/passwd: symbolic links on the way lead to /etc/passwd: /etc/passwd cannot be managed whole"
    );
    assert_eq!(File::explain(&host.writer, &host.payloads, "/opt/e/passwd", &want, &seen), None);
    for want in [want, spec(What::Absent, None), spec(What::Symlink { target: "x".to_owned() }, None)] {
        assert_eq!(host.apply_to("/opt/e/passwd", &want, &seen).expect_err("protected").reason(), "protected-path");
    }
    let want = spec(What::Attributes, Some(0o600));
    assert!(File::obstacle("/opt/e/passwd", &want, &seen, Cause::Intended).is_none());
    host.apply("/opt/e/passwd", &want).expect("attributes alone are not protected");
    assert_eq!(shown(&want, &host.see("/etc/passwd")), Vec::<String>::new());
    let want = host.regular("x");
    host.apply("/opt/e/motd", &want).expect("nothing protects it");
    assert_eq!(fs::read_to_string(host.at("/etc/motd")).expect("there"), "x");
}

#[test]
fn one_thing_is_managed_by_one_name() {
    let host = host();
    fs::create_dir(host.at("/opt")).expect("made");
    symlink("../etc", host.at("/opt/e")).expect("linked");
    symlink("e", host.at("/opt/a")).expect("linked");
    fs::write(host.at("/etc/there"), "").expect("written");
    for (real, names) in [
        ("/etc/there", ["/opt/a/there", "/opt/e/there", "/etc/there"]),
        ("/etc/new", ["/etc/new", "/opt/a/new", "/opt/e/new"]),
    ] {
        for (name, seen) in names.iter().zip(File::observe(&host.writer, &names)) {
            match seen {
                Ok(seen) => assert_eq!((*name, seen.real()), (real, None)),
                Err(error) => {
                    assert_eq!(error.reason(), "two-names");
                    assert!(*name != real && error.to_string().contains(real), "{error}");
                }
            }
        }
        // Without the real one it is the first.
        let two = File::observe(&host.writer, &["/opt/a/x", "/opt/e/x"]);
        assert!(two[1].is_err());
        let first = two[0].as_ref().expect("looked");
        assert_eq!(
            (first.is_absent(), first.real()),
            (true, Some("/etc/x")),
            "by the name that the system knows it by"
        );
        assert_eq!(shown(&spec(What::Absent, None), first), Vec::<String>::new());
        assert_eq!(shown(&spec(What::Directory, None), first), ["absent → a directory"]);
        assert!(File::observe(&host.writer, &["/opt/a/x", "/opt/e/y", "/opt/e", "/opt/a"]).iter().all(Result::is_ok));
    }
}

#[test]
fn an_owner_that_nobody_knows_keeps_the_file_unwritten() {
    let mut host = host();
    if !host.writer.can_own() {
        return;
    }
    fs::write(host.at("/etc/passwd"), "root:x:0:0::/:/bin/sh\n").expect("written");
    let mut want = host.regular("x");
    want.owner = Some("nobody-knows-me".to_owned());
    let error = host.apply("/etc/new/x", &want).expect_err("unknown");
    assert_eq!(error.to_string(), "/etc/new/x: no user \"nobody-knows-me\" on this host");
    assert!(!host.at("/etc/new").exists());
    fs::write(host.at("/etc/passwd"), "nobody-knows-me:x:77:77::/:/bin/sh\n").expect("written");
    host.apply("/etc/new/x", &want).expect("known by now");
    assert_eq!(shown(&want, &host.see("/etc/new/x")), Vec::<String>::new());
}

#[test]
fn only_what_replace_allows_goes() {
    let standings = ["file", "link", "empty", "full", "fifo"];
    let make = |host: &Host, standing: &str| {
        let at = host.at("/etc/x");
        match standing {
            "file" => fs::write(at, "old").expect("made"),
            "link" => symlink("old", at).expect("made"),
            "empty" => fs::create_dir(at).expect("made"),
            "full" => {
                fs::create_dir(&at).expect("made");
                fs::write(at.join("stranger"), "s").expect("made");
            }
            _ => rustix::fs::mkfifoat(rustix::fs::CWD, at, rustix::fs::Mode::from_raw_mode(0o600)).expect("made"),
        }
    };
    // Wanted, replace, then what comes of: a file, a link, an empty and a full directory, a fifo.
    let table = [
        ("file", Replace::Nothing, "ok way way way way"),
        ("file", Replace::Symlink, "ok ok way way way"),
        ("file", Replace::Directory, "ok way ok ok way"),
        ("file", Replace::Any, "ok ok ok ok ok"),
        ("file", Replace::Own, "ok ok ok full way"),
        ("link", Replace::Nothing, "way ok way way way"),
        ("link", Replace::Any, "ok ok ok ok ok"),
        ("link", Replace::Own, "ok ok ok full way"),
        ("dir", Replace::Nothing, "way way ok ok way"),
        ("dir", Replace::Any, "ok ok ok ok ok"),
        ("dir", Replace::Own, "ok ok ok ok way"),
        ("absent", Replace::Nothing, "ok ok ok full way"),
        ("absent", Replace::Own, "ok ok ok full way"),
        ("absent", Replace::Directory, "ok ok ok ok way"),
        ("absent", Replace::Any, "ok ok ok ok ok"),
        ("attributes", Replace::Nothing, "ok ok ok ok way"),
    ];
    for (wanted, replace, outcomes) in table {
        for (standing, outcome) in standings.iter().zip(outcomes.split(' ')) {
            let mut host = host();
            make(&host, standing);
            let mut want = match wanted {
                "file" => host.regular("new"),
                "link" => spec(What::Symlink { target: "new".to_owned() }, None),
                "dir" => spec(What::Directory, Some(0o751)),
                "absent" => spec(What::Absent, None),
                _ => spec(What::Attributes, Some(0o604)),
            };
            want.replace = replace;
            let before = host.see("/etc/x");
            let case = format!("{wanted} over {standing} with {replace:?}");
            match (host.apply("/etc/x", &want), outcome) {
                (Ok(()), "ok") => assert_eq!(shown(&want, &host.see("/etc/x")), Vec::<String>::new(), "{case}"),
                (Err(Error::InTheWay { .. }), "way") => assert_eq!(host.see("/etc/x"), before, "{case}"),
                (Err(Error::Refused { reason: "not-empty", .. }), "full") => {
                    assert!(host.at("/etc/x/stranger").exists(), "{case}");
                }
                (result, _) => panic!("{case}: {result:?}, not {outcome}"),
            }
            assert_eq!(host.writer.sweep("/etc").expect("swept"), 0, "{case} leaves something");
        }
    }
}

#[test]
fn what_an_interrupted_pass_left_goes_with_the_next_write() {
    let mut host = host();
    fs::write(host.at("/etc/.trueup-0123456789abcdef~"), "left").expect("written");
    let want = host.regular("x");
    host.apply("/etc/new/x", &want).expect("written");
    assert_eq!(host.writer.list("/etc").expect("readable"), ["new"]);
}

#[test]
fn a_file_in_the_way_comes_with_its_hint() {
    let mut host = host();
    symlink("old", host.at("/etc/x")).expect("linked");
    let want = host.regular("new");
    assert_eq!(
        host.apply("/etc/x", &want).expect_err("in the way").to_string(),
        "/etc/x: a symbolic link is in the way; replace = \"symlink\" allows a file in its place"
    );
}

#[test]
fn attributes_of_nothing_cannot_be_set() {
    let mut host = host();
    let want = spec(What::Attributes, Some(0o600));
    assert_eq!(host.apply("/etc/none", &want).expect_err("not there").reason(), "no-such-file");
}

#[test]
fn a_file_with_other_names_is_written_anew_for_a_mode() {
    let mut host = host();
    let want = host.regular("same");
    fs::write(host.at("/etc/other"), "same").expect("written");
    fs::set_permissions(host.at("/etc/other"), fs::Permissions::from_mode(0o600)).expect("set");
    fs::hard_link(host.at("/etc/other"), host.at("/etc/x")).expect("linked");
    host.apply("/etc/x", &want).expect("written");
    let mode = |path: &str| fs::metadata(host.at(path)).expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode("/etc/x"), mode("/etc/other")), (0o644, 0o600));
}

#[test]
fn who_may_write_no_more_does_not_by_a_descriptor_either() {
    let mut host = host();
    fs::write(host.at("/etc/passwd"), "root:x:0:0::/:/bin/sh\n").expect("written");
    // Mode and owners that it had, the mode that it is to have, and whether whoever has it open writes into what stands there.
    for ((mode, uid, gid), to, writes) in [
        ((0o666, 0, 0), 0o644, false),
        ((0o600, 0, 0), 0o644, true),
        ((0o644, 4242, 0), 0o644, false),
        ((0o644, 0, 4242), 0o644, true),
        ((0o664, 0, 4242), 0o664, false),
    ] {
        if uid + gid > 0 && !host.writer.can_own() {
            continue;
        }
        let _ = fs::remove_file(host.at("/etc/x"));
        fs::write(host.at("/etc/x"), "same").expect("written");
        if host.writer.can_own() {
            std::os::unix::fs::chown(host.at("/etc/x"), Some(uid), Some(gid)).expect("given away");
        }
        fs::set_permissions(host.at("/etc/x"), fs::Permissions::from_mode(mode)).expect("set");
        let mut open = fs::OpenOptions::new().write(true).open(host.at("/etc/x")).expect("opened");
        let owner = || host.writer.can_own().then(|| "0".to_owned());
        let (owner, group) = (owner(), owner());
        let want = Spec { owner, group, mode: Some(to), ..host.regular("same") };
        host.apply("/etc/x", &want).expect("applied");
        assert_eq!(shown(&want, &host.see("/etc/x")), Vec::<String>::new());
        std::io::Write::write_all(&mut open, b"evil").expect("written");
        let content = fs::read_to_string(host.at("/etc/x")).expect("there");
        assert_eq!(content, if writes { "evil" } else { "same" }, "{mode:04o} of {uid}:{gid}");
    }
}

#[test]
fn names_of_one_file_do_not_fail_each_other() {
    let mut host = host();
    let (new, gone) = (host.regular("new"), spec(What::Absent, None));
    // One by one, and together.
    for count in [6, 40] {
        let names: Vec<String> = (0..count).map(|n| format!("/etc/h{n:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for want in [&new, &gone] {
            for name in &names {
                let _ = fs::remove_file(host.at(name));
            }
            fs::write(host.at(names[0]), "old").expect("written");
            for name in &names[1..] {
                fs::hard_link(host.at(names[0]), host.at(name)).expect("linked");
            }
            let seen: Vec<Observed> = names.iter().map(|name| host.see(name)).collect();
            let jobs: Vec<_> = names.iter().zip(&seen).map(|(name, seen)| Job { name, want, seen }).collect();
            let around = Around { resting: &BTreeSet::new(), withheld: &[], enablement: &Default::default() };
            for (name, done) in names.iter().zip(File::apply(&mut host.writer, &host.payloads, &jobs, &around)) {
                done.expect(name);
                assert_eq!(shown(want, &host.see(name)), Vec::<String>::new(), "{name}");
            }
        }
    }
}

#[test]
fn a_payload_that_is_gone_is_an_error_of_that_file() {
    let mut host = host();
    let want = spec(What::Regular { content: Digest::of(b"gone"), size: 4 }, None);
    assert_eq!(host.apply("/etc/x", &want).expect_err("gone").reason(), "no-payload");
    assert!(!host.at("/etc/x").exists());
}

#[test]
fn the_plan_shows_what_changes() {
    let mut host = host();
    fs::write(host.at("/etc/x"), "a\nb\n").expect("written");
    let want = host.regular("a\nc\nd\n");
    let explain = |host: &Host, path: &str| File::explain(&host.writer, &host.payloads, path, &want, &host.see(path));
    let detail = explain(&host, "/etc/x").expect("text");
    assert_eq!(
        (detail.summary.as_str(), detail.lines),
        ("+2 -1", vec![" a".into(), "-b".into(), "+c".into(), "+d".into()])
    );
    let detail = explain(&host, "/etc/new").expect("text");
    assert_eq!((detail.summary.as_str(), detail.lines.len()), ("+3", 0));
    fs::write(host.at("/etc/x"), "a\nc\nd\n").expect("written");
    assert_eq!(explain(&host, "/etc/x"), None);
}

#[test]
fn what_is_kept_is_what_was_seen() {
    let host = host();
    fs::write(host.at("/etc/x"), "seen").expect("written");
    let seen = host.see("/etc/x");
    assert_eq!(File::content(&host.writer, "/etc/x", &seen).expect("kept").expect("a file"), b"seen");
    fs::write(host.at("/etc/x"), "else").expect("written");
    assert_eq!(File::content(&host.writer, "/etc/x", &seen).expect_err("changed").reason(), "stale");
    let kept = |limit| explain::content(&host.writer, "/etc/x", &Digest::of(b"else"), 4, limit);
    assert_eq!(kept(4).expect("as much as may be"), b"else");
    assert_eq!(kept(3).expect_err("one too many").reason(), "too-large-to-keep");
    assert_eq!(File::content(&host.writer, "/etc", &host.see("/etc")).expect("nothing to keep"), None);
}

#[test]
fn a_file_of_any_length_is_looked_at_in_no_time() {
    let mut host = host();
    let long = fs::File::create(host.at("/etc/x")).expect("made");
    fs::set_permissions(host.at("/etc/x"), fs::Permissions::from_mode(0o644)).expect("set");
    for size in [KEEP + 1, 1 << 42] {
        long.set_len(size).expect("set");
        let seen = host.see("/etc/x");
        assert!(
            matches!(&seen, Observed::Present(Present { what: Standing::Large { size: told }, .. }) if *told == size)
        );
        let want = host.regular("x");
        assert_eq!(shown(&want, &seen), ["content"]);
        assert!(File::explain(&host.writer, &host.payloads, "/etc/x", &want, &seen).is_some());
        for want in
            [want.clone(), spec(What::Absent, None), Spec { replace: Replace::Any, ..spec(What::Directory, None) }]
        {
            let refused = File::obstacle("/etc/x", &want, &seen, Cause::Intended).expect("refused");
            assert_eq!(refused.reason(), "too-large-to-keep");
            assert_eq!(host.apply("/etc/x", &want).expect_err("not kept").reason(), "too-large-to-keep");
            assert_eq!(host.see("/etc/x"), seen);
        }
        assert_eq!(File::content(&host.writer, "/etc/x", &seen).expect_err("large").reason(), "too-large-to-keep");
        assert_eq!(File::put_back(&File::before(&seen), &want), None);
        let want = spec(What::Attributes, Some(0o600));
        assert_eq!(shown(&want, &seen), ["mode 0644 → 0600"]);
        host.apply("/etc/x", &want).expect("attributes can be set");
        assert_eq!(shown(&want, &host.see("/etc/x")), Vec::<String>::new());
        let back = File::put_back(&File::before(&seen), &want).expect("attributes go back");
        host.apply("/etc/x", &back).expect("put back");
        assert_eq!(host.see("/etc/x"), seen);
    }
}

#[test]
fn a_look_ends_when_that_is_asked_for() {
    let root = tempfile::tempdir().expect("a scratch directory");
    fs::write(root.path().join("x"), "x").expect("written");
    let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let reader = Reader::directory(root.path()).expect("opened").with_interrupt(flag);
    assert_eq!(File::observe(&reader, &["/x"]).remove(0).expect_err("ended").reason(), "interrupted");
}

#[test]
fn only_the_attributes_that_were_ours_go_back() {
    let before = Before::of(&Observed::Present(present(Standing::Directory)));
    let mut last = spec(What::Attributes, Some(0o600));
    last.group = Some("app".to_owned());
    let back = File::put_back(&before, &last).expect("known");
    assert_eq!(
        (back.what, back.owner, back.group.as_deref(), back.mode),
        (What::Attributes, None, Some("33"), Some(0o644))
    );
    assert_eq!(File::put_back(&Before::Absent, &last), None);
    let fifo = Before::of(&Observed::Present(present(Standing::Other(crate::host::NodeType::Fifo))));
    assert_eq!(File::put_back(&fifo, &spec(What::Absent, None)), None);
}

#[test]
fn before_values_are_read_back_as_they_were_written() {
    let mut bare = present(Standing::Directory);
    (bare.owner, bare.group) = (None, None);
    for seen in [
        Observed::Absent,
        Observed::Present(present(Standing::Regular { digest: Digest::of(b"x"), size: 1 })),
        Observed::Present(bare),
        Observed::Present(present(Standing::Large { size: KEEP + 1 })),
        Observed::Present(present(Standing::Symlink { target: "t".to_owned() })),
        Observed::Present(present(Standing::Other(crate::host::NodeType::Socket))),
    ] {
        let before = Before::of(&seen);
        let text = serde_json::to_string(&before).expect("written");
        assert_eq!(serde_json::from_str::<Before>(&text).expect(&text), before);
    }
}

#[test]
fn a_directory_that_we_made_stays_with_a_stranger_in_it() {
    let mut host = host();
    let before = Before::of(&host.see("/etc/d"));
    let made = spec(What::Directory, Some(0o755));
    host.apply("/etc/d", &made).expect("made");
    fs::write(host.at("/etc/d/stranger"), "s").expect("written");
    let back = File::put_back(&before, &made).expect("known");
    assert_eq!(host.apply("/etc/d", &back).expect_err("not empty").reason(), "not-empty");
    fs::remove_file(host.at("/etc/d/stranger")).expect("removed");
    host.apply("/etc/d", &back).expect("removed");
    assert_eq!(host.see("/etc/d"), Observed::Absent);
}

/// Gives `path` an access control list that lets one user do as the owner, and the group nothing. Tells whether it could.
fn list(host: &Host, path: &str) -> bool {
    let mut list = vec![2, 0, 0, 0];
    // Owner, user 4242, group, mask, others; see acl(5).
    for (tag, allowed, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 7, 4242), (4, 0, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
    {
        list.extend(tag.to_le_bytes());
        list.extend(allowed.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let node = fs::File::open(host.at(path)).expect("opened");
    let set = rustix::fs::fsetxattr(&node, LIST, &list, rustix::fs::XattrFlags::empty());
    if set.is_err() {
        eprintln!("no access control lists on this file system: not tested");
    }
    set.is_ok()
}

const LIST: &str = "system.posix_acl_access";

fn mode(host: &Host, path: &str) -> u32 {
    fs::metadata(host.at(path)).expect("there").permissions().mode() & 0o7777
}

#[test]
fn a_file_that_had_a_list_comes_back_with_it_or_without_what_only_that_had_granted() {
    let mut host = host();
    let replaced = host.regular("new");
    host.payloads.insert(*b"old");
    let gone = spec(What::Absent, None);
    let link = Spec { replace: Replace::Any, ..spec(What::Symlink { target: "there".to_owned() }, None) };
    // Whether the list is lost meanwhile, and what stands there then.
    for (declared, lost, comes_back) in
        [(&gone, false, 0o700), (&link, false, 0o700), (&replaced, false, 0o770), (&replaced, true, 0o700)]
    {
        let _ = fs::remove_file(host.at("/etc/x"));
        fs::write(host.at("/etc/x"), "old").expect("written");
        if !list(&host, "/etc/x") {
            return;
        }
        assert_eq!(mode(&host, "/etc/x"), 0o770, "the mask of the list");
        let before = Before::of(&host.see("/etc/x")).told_of_list(&host.writer, "/etc/x").expect("told");
        host.apply("/etc/x", declared).expect("applied");
        if lost {
            rustix::fs::removexattr(host.at("/etc/x"), LIST).expect("removed");
        }
        let back = File::put_back(&before, declared).expect("known");
        host.apply("/etc/x", &back).expect("put back");
        assert_eq!(mode(&host, "/etc/x"), comes_back, "{declared:?}");
        assert!(File::diff(&back, &host.see("/etc/x")).is_empty(), "it is as it is to be");
        let has = rustix::fs::getxattr(host.at("/etc/x"), LIST, vec![0; 1024].as_mut_slice()).is_ok();
        assert_eq!(has, comes_back == 0o770, "{declared:?}");
    }
    // In place, where only the mode was ours.
    let only = spec(What::Attributes, Some(0o711));
    assert!(list(&host, "/etc/x"));
    let before = Before::of(&host.see("/etc/x")).told_of_list(&host.writer, "/etc/x").expect("told");
    host.apply("/etc/x", &only).expect("applied");
    let back = File::put_back(&before, &only).expect("known");
    host.apply("/etc/x", &back).expect("put back");
    assert_eq!(mode(&host, "/etc/x"), 0o770);
    host.apply("/etc/x", &only).expect("applied");
    rustix::fs::removexattr(host.at("/etc/x"), LIST).expect("removed");
    host.apply("/etc/x", &back).expect("put back");
    assert_eq!(mode(&host, "/etc/x"), 0o700);
    // What was changed since it was seen is not told of.
    assert_eq!(before.told_of_list(&host.writer, "/etc/x").expect_err("stale").reason(), "stale");
}

#[test]
fn a_directory_that_had_a_list_comes_back_without_what_only_that_had_granted() {
    let mut host = host();
    fs::create_dir_all(host.at("/etc/d/sub")).expect("made");
    fs::write(host.at("/etc/d/sub/x"), "x").expect("written");
    if !["/etc/d/sub/x", "/etc/d/sub", "/etc/d"].iter().all(|path| list(&host, path)) {
        return;
    }
    host.payloads.insert(*b"x");
    let gone = Spec { replace: Replace::Directory, ..spec(What::Absent, None) };
    let seen = host.see("/etc/d");
    let before = keep_tree::<Error>(&host.writer, "/etc/d", &seen, &[], &|_| false, |_, _| Ok(Kept::default()));
    host.apply("/etc/d", &gone).expect("removed");
    let back = File::put_back(&before.expect("kept"), &gone).expect("known");
    host.apply("/etc/d", &back).expect("put back");
    for path in ["/etc/d", "/etc/d/sub", "/etc/d/sub/x"] {
        assert_eq!(mode(&host, path), 0o700, "{path}");
    }
}

fn any_spec() -> impl Strategy<Value = (u8, u8, u32, Replace)> {
    let replace =
        prop_oneof![Just(Replace::Nothing), Just(Replace::Symlink), Just(Replace::Directory), Just(Replace::Any)];
    (0..4_u8, 0..3_u8, prop_oneof![Just(0o644), Just(0o600), Just(0o755)], replace)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stands there and whatever is wanted: what was applied holds, what was refused changed
    /// nothing, nothing is left beside it, and what stood before comes back.
    #[test]
    fn what_is_applied_holds_and_goes_back(specs in proptest::collection::vec(any_spec(), 1..6)) {
        let mut host = host();
        let mut first: Option<(Observed, Spec)> = None;
        for (what, content, mode, replace) in specs {
            let mut want = match what {
                0 => spec(What::Absent, None),
                1 => host.regular(&content.to_string()),
                2 => spec(What::Directory, None),
                _ => spec(What::Symlink { target: content.to_string() }, None),
            };
            // A directory that we may not enter ourselves is another story.
            want.mode = (what == 1 || what == 2).then_some(if what == 2 { mode | 0o100 } else { mode });
            want.replace = replace;
            let seen = host.see("/etc/x");
            match host.apply_to("/etc/x", &want, &seen) {
                Ok(()) => {
                    prop_assert_eq!(shown(&want, &host.see("/etc/x")), Vec::<String>::new());
                    first.get_or_insert((seen.clone(), want.clone()));
                    if let Some((_, last)) = &mut first {
                        *last = want;
                    }
                }
                Err(error) => {
                    prop_assert_eq!(error.reason(), "in-the-way");
                    prop_assert_eq!(host.see("/etc/x"), seen);
                }
            }
            prop_assert_eq!(host.writer.sweep("/etc").expect("swept"), 0);
        }
        if let Some((seen, last)) = first {
            let back = File::put_back(&File::before(&seen), &last).expect("can go back");
            host.apply("/etc/x", &back).expect("put back");
            prop_assert_eq!(host.see("/etc/x"), seen);
        }
    }
}
