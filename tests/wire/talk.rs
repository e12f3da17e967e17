//! A server that does not speak as servers speak: without end, of something else, or to whoever reads the journal.

use std::time::Duration;

use super::hostile::{Scene, evil};
use super::pack::Objects;
use super::server::{Part, Says, band, hello, line, packfile};

/// Escapes of a terminal, another line, a field of the journal, a direction that is turned.
const FORGED: &str = "\x1b[2J\x1b]0;owned\x07\r\nMESSAGE_ID=0123456789abcdef\nPRIORITY=0\n\u{202e}all is well\u{9b}31m";

/// What the server says of its branches.
fn refs(lines: &[String]) -> Vec<u8> {
    let mut refs: Vec<u8> = lines.iter().flat_map(line).collect();
    refs.extend_from_slice(b"0000");
    refs
}

#[test]
fn a_server_that_never_comes_to_an_end_is_refused() {
    let mut scene = Scene::new();
    let (objects, tip) = evil();
    let good = Says::all(&objects, tip);
    // More branches than there is memory for.
    let branch = line(format!("{tip} refs/heads/main/{}\n", "x".repeat(2000)));
    let refs = Part::default().then_for_ever(branch);
    scene.refuses("branches without end", &Says { refs, ..good.clone() }, &["too-large"]);
    let hello = Part::from(line("version 2\n")).then_for_ever(line(format!("x={}\n", "x".repeat(60_000))));
    scene.refuses("abilities without end", &Says { hello, ..good.clone() }, &["too-large"]);
    for at in ["fff0", "000f", "fffe", ""] {
        let endless = Part::from(at).then_for_ever("x");
        let hello = Says { hello: endless.clone(), ..good.clone() };
        scene.refuses(&format!("a first line {at} without end"), &hello, &["fetch-failed"]);
        let refs = Says { refs: endless.clone(), ..good.clone() };
        scene.refuses(&format!("a line of branches {at} without end"), &refs, &["fetch-failed"]);
        let pack = Says { pack: endless, ..good.clone() };
        scene.refuses(&format!("a line of the pack {at} without end"), &pack, &["fetch-failed"]);
    }
    // What is only for people is read as long as there is time.
    scene.settings.timeout = Duration::from_secs(3);
    let pack = Part::from(line("packfile\n")).then_for_ever(band(2, b"patience\n"));
    scene.refuses("progress without end", &Says { pack, ..good.clone() }, &["timed-out"]);
    let pack = Part::from("").then_for_ever(line("acknowledgments\n"));
    scene.refuses("acknowledgments without end", &Says { pack, ..good }, &["timed-out", "fetch-failed", "too-large"]);
}

#[test]
fn a_server_that_speaks_of_something_else_is_refused() {
    let scene = Scene::new();
    let (objects, tip) = evil();
    let good = Says::all(&objects, tip);
    for (what, hello) in [
        ("another protocol", &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]),
        ("nothing", b""),
        ("an end at once", b"0000"),
        ("version 7", b"000eversion 7\n0000"),
        ("lengths that are none", b"zzzz"),
        ("a length of 1", b"0001"),
        ("a length of 3", b"0003"),
        ("bytes", b"\xff\xfe\x00\x01"),
    ] {
        let says = Says { hello: hello.into(), ..good.clone() };
        scene.refuses(what, &says, &["fetch-failed", "unreachable", "no-such-branch"]);
    }
    let id = tip.to_string();
    for (what, said) in [
        ("no branch", vec![]),
        ("only other branches", vec![format!("{id} refs/heads/other\n"), format!("{id} refs/heads/main-2\n")]),
        ("a tag of that name", vec![format!("{id} refs/tags/main\n"), format!("{id} HEAD\n")]),
    ] {
        let says = Says { refs: refs(&said).into(), ..good.clone() };
        scene.refuses(what, &says, &["no-such-branch"]);
    }
    for (what, said) in [
        ("half an id", format!("{} refs/heads/main\n", &id[..20])),
        ("an id that is none", format!("{} refs/heads/main\n", "z".repeat(40))),
        ("an id of another kind", format!("{} refs/heads/main\n", "a".repeat(64))),
        ("an id alone", format!("{id}\n")),
        ("an id of nothing", format!("{} refs/heads/main\n", "0".repeat(40))),
        ("a commit that is not sent", format!("{} refs/heads/main\n", "a".repeat(40))),
    ] {
        let says = Says { refs: refs(&[said]).into(), ..good.clone() };
        scene.refuses(what, &says, &["fetch-failed", "damaged-clone", "no-such-branch"]);
    }
    for (what, pack) in [
        ("nothing for a pack", Vec::new()),
        ("an end for a pack", b"0000".to_vec()),
        ("another section", [line("wanted-refs\n"), b"0000".to_vec()].concat()),
        ("a pack without its bands", [line("packfile\n"), objects.pack().bytes()].concat()),
        ("a band that there is not", [line("packfile\n"), band(7, &objects.pack().bytes()), b"0000".to_vec()].concat()),
        ("a pack and no end", packfile(&objects.pack().bytes()[..100])[..80].to_vec()),
    ] {
        scene.refuses(what, &Says { pack: pack.into(), ..good.clone() }, &["fetch-failed", "unreachable"]);
    }
}

#[test]
fn what_is_said_of_other_branches_and_after_the_end_changes_nothing() {
    let scene = Scene::new();
    let (objects, tip) = evil();
    let good = Says::all(&objects, tip);
    let others = refs(&[
        format!("{} HEAD symref-target:refs/heads/../../../etc/x\n", "b".repeat(40)),
        format!("{} refs/heads/a\n", "a".repeat(40)),
        format!("{tip} refs/heads/main\n"),
        format!("{} refs/heads/main-2\n", "c".repeat(40)),
        format!("{} refs/tags/main peeled:{}\n", "d".repeat(40), "e".repeat(40)),
    ]);
    scene.takes("other branches", &Says { refs: others.into(), ..good.clone() }, b"evil\n");
    let pack = objects.pack().bytes();
    let after = [packfile(&pack), b"and more".repeat(1000)].concat();
    scene.takes("more after the end", &Says { pack: after.into(), ..good.clone() }, b"evil\n");
    let inside = packfile(&[&pack[..], &[0; 1000]].concat());
    scene.takes("more after the pack", &Says { pack: inside.into(), ..good }, b"evil\n");
}

#[test]
fn ids_of_one_kind_and_objects_of_the_other_are_refused() {
    let scene = Scene::new();
    let (objects, tip) = evil();
    let (sha1, sha256) = (gix_hash::Kind::Sha1, gix_hash::Kind::Sha256);
    let mut long = Objects::new(sha256);
    let tree = long.fleet(b"evil\n");
    let long_tip = long.commit(&format!("tree {tree}\n"));
    // As it should be.
    let good = Says::all(&long, long_tip);
    scene.takes("a repository of SHA-256", &good, b"evil\n");
    let short = Says::all(&objects, tip);
    let refuses =
        |what: &str, says: &Says| scene.refuses(what, says, &["fetch-failed", "damaged-clone", "no-such-branch"]);
    refuses("SHA-256, and ids of SHA-1", &Says { hello: hello(sha256).into(), ..short.clone() });
    refuses("SHA-256, and a pack of SHA-1", &Says { pack: short.pack.clone(), ..good.clone() });
    refuses("SHA-1, and ids of SHA-256", &Says { hello: hello(sha1).into(), ..good.clone() });
    refuses("SHA-1, and a pack of SHA-256", &Says { pack: good.pack, ..short.clone() });
    let other =
        [line("version 2\n"), line("ls-refs\n"), line("fetch\n"), line("object-format=md5\n"), b"0000".to_vec()];
    refuses("a kind of ids that there is not", &Says { hello: other.concat().into(), ..short });
}

#[test]
fn what_a_server_says_for_people_is_one_escaped_line() {
    let scene = Scene::new();
    let (objects, tip) = evil();
    let good = Says::all(&objects, tip);
    let error = line(format!("ERR {FORGED}"));
    let failed =
        [line("packfile\n"), band(2, FORGED.as_bytes()), band(3, FORGED.as_bytes()), b"0000".to_vec()].concat();
    for (what, says) in [
        ("an error at once", Says { hello: error.clone().into(), ..good.clone() }),
        ("an error for branches", Says { refs: error.clone().into(), ..good.clone() }),
        ("an error for a pack", Says { pack: error.into(), ..good.clone() }),
        ("an error inside a pack", Says { pack: failed.into(), ..good.clone() }),
        ("an ability", Says { hello: line(format!("version 2\n{FORGED}")).into(), ..good.clone() }),
        ("a branch", Says { refs: refs(&[format!("{FORGED} refs/heads/main\n")]).into(), ..good.clone() }),
        ("a section", Says { pack: line(FORGED).into(), ..good.clone() }),
    ] {
        let said = scene.refuses(what, &says, &["fetch-failed", "no-such-branch"]);
        assert!(!said.contains(['\u{202e}', '\u{9b}', '\n', '\r', '\u{1b}']), "{what}: {said:?}");
    }
    // Nobody hears progress, so nobody is told a lie by it.
    let chatty = [line("packfile\n"), band(2, FORGED.as_bytes()), band(1, &objects.pack().bytes()), b"0000".to_vec()];
    scene.takes("progress", &Says { pack: chatty.concat().into(), ..good }, b"evil\n");
}
