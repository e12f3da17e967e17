//! Objects that Git makes not, or would not make so: whole, and hashing to their ids.

use gix_object::Kind;

use super::hostile::{Scene, evil, sha1};
use super::pack::WHO;
use super::server::Says;

/// A file, a directory, a link.
const FILE: &str = "100644";
const DIRECTORY: &str = "40000";

#[test]
fn a_directory_that_git_would_not_make_is_refused() {
    let scene = Scene::new();
    let refuses = |what: &str, entries: &[(&str, &str)]| {
        let mut objects = sha1();
        let (blob, empty) = (objects.blob(b"evil\n"), objects.tree(&[]));
        let entries: Vec<_> =
            entries.iter().map(|(mode, name)| (*mode, *name, if *mode == DIRECTORY { empty } else { blob })).collect();
        let tree = objects.fleet_with(&entries);
        let tip = objects.commit(&format!("tree {tree}\n"));
        scene.refuses(what, &Says::all(&objects, tip), &["corrupt-object"]);
    };
    refuses("two files of one name", &[(FILE, "motd"), (FILE, "motd")]);
    refuses("a file and a directory of one name", &[(FILE, "motd"), (FILE, "motd.d"), (DIRECTORY, "motd")]);
    refuses("entries that are not sorted", &[(FILE, "b"), (FILE, "a")]);
    refuses("a directory that is sorted as a file", &[(DIRECTORY, "a"), (FILE, "a.b")]);
    refuses("a file that is sorted as a directory", &[(FILE, "a.b"), (FILE, "a")]);
    for name in ["", ".", "..", ".git", ".GIT", "a/b", "/etc"] {
        refuses(&format!("an entry {name:?}"), &[(FILE, name)]);
    }
    for mode in ["", "0", "777777777777", "1100644", "100600", "x", "-1"] {
        refuses(&format!("an entry of mode {mode:?}"), &[(mode, "motd")]);
    }
}

#[test]
fn a_directory_that_is_cut_off_is_refused() {
    let scene = Scene::new();
    for cut in [1, 19, 20, 21, 25] {
        let mut objects = sha1();
        let blob = objects.blob(b"evil\n");
        let whole = [&b"100644 motd\0"[..], blob.as_slice()].concat();
        let etc = objects.put(Kind::Tree, &whole[..whole.len() - cut]);
        let tree = objects.fleet_with(&[(DIRECTORY, "etc", etc)]);
        let tip = objects.commit(&format!("tree {tree}\n"));
        scene.refuses(
            &format!("a directory without its last {cut} bytes"),
            &Says::all(&objects, tip),
            &["corrupt-object"],
        );
    }
}

#[test]
fn an_object_of_another_kind_than_it_should_be_is_refused() {
    let scene = Scene::new();
    let refuses = |what: &str, reasons: &[&str], make: &dyn Fn(&mut super::pack::Objects) -> gix_hash::ObjectId| {
        let mut objects = sha1();
        let tip = make(&mut objects);
        scene.refuses(what, &Says::all(&objects, tip), reasons);
    };
    refuses("a file where a directory should be", &["corrupt-object"], &|objects| {
        let blob = objects.blob(b"evil\n");
        let tree = objects.fleet_with(&[(DIRECTORY, "etc", blob)]);
        objects.commit(&format!("tree {tree}\n"))
    });
    refuses("a directory where a file should be", &["corrupt-object"], &|objects| {
        let empty = objects.tree(&[]);
        let tree = objects.fleet_of(empty);
        objects.commit(&format!("tree {tree}\n"))
    });
    refuses("a commit where a directory should be", &["corrupt-object"], &|objects| {
        let tree = objects.fleet(b"evil\n");
        let commit = objects.commit(&format!("tree {tree}\n"));
        objects.commit(&format!("tree {commit}\n"))
    });
    refuses("a branch that is a directory", &["corrupt-object", "damaged-clone"], &|objects| objects.fleet(b"evil\n"));
    refuses("a branch that is a file", &["corrupt-object", "damaged-clone"], &|objects| objects.blob(b"evil\n"));
    refuses("a branch that is a tag", &["corrupt-object", "damaged-clone"], &|objects| {
        let tree = objects.fleet(b"evil\n");
        let tip = objects.commit(&format!("tree {tree}\n"));
        objects.put(Kind::Tag, format!("object {tip}\ntype commit\ntag x\ntagger {WHO}\n\nx\n").as_bytes())
    });
}

#[test]
fn a_commit_that_git_would_not_make_is_refused() {
    let scene = Scene::new();
    let refuses = |what: &str, reasons: &[&str], content: &dyn Fn(&str) -> Vec<u8>| {
        let mut objects = sha1();
        let tree = objects.fleet(b"evil\n");
        let tip = objects.put(Kind::Commit, &content(&tree.to_string()));
        scene.refuses(what, &Says::all(&objects, tip), reasons);
    };
    let after = |more: &'static str| {
        move |tree: &str| format!("tree {tree}\nauthor {WHO}\ncommitter {WHO}\n{more}\nodd\n").into_bytes()
    };
    let bad = &["corrupt-object", "damaged-clone"];
    let other = "0123456789012345678901234567890123456789";
    refuses("nothing", bad, &|_| Vec::new());
    refuses("no tree", bad, &|_| format!("author {WHO}\ncommitter {WHO}\n\nodd\n").into_bytes());
    refuses("half a tree", bad, &|tree| {
        format!("tree {}\nauthor {WHO}\ncommitter {WHO}\n\nodd\n", &tree[..20]).into_bytes()
    });
    refuses("no author", bad, &|tree| format!("tree {tree}\n\nodd\n").into_bytes());
    refuses("two trees", bad, &|tree| {
        format!("tree {tree}\ntree {other}\nauthor {WHO}\ncommitter {WHO}\n\nodd\n").into_bytes()
    });
    refuses("another tree later", bad, &after("tree 0123456789012345678901234567890123456789\n"));
    refuses("a parent later", bad, &after("parent 0123456789012345678901234567890123456789\n"));
    refuses("another author", bad, &after("author Eve <eve@example.org> 1 +0000\n"));
    refuses("two signatures", bad, &after("gpgsig one\ngpgsig two\n"));
    refuses("two signatures of the other kind", bad, &after("gpgsig-sha256 one\ngpgsig-sha256 two\n"));
    refuses("a NUL in the name", bad, &|tree| {
        format!("tree {tree}\nauthor A\0na <a@x> 1 +0000\ncommitter {WHO}\n\nodd\n").into_bytes()
    });
    refuses("a NUL in a header", bad, &after("encoding UTF\0-8\n"));
    refuses("a tree and a NUL", bad, &|tree| {
        format!("tree {tree}\0\nauthor {WHO}\ncommitter {WHO}\n\nodd\n").into_bytes()
    });
    refuses("sixteen megabytes to say", &["too-large"], &|tree| {
        let message = "word ".repeat((16 << 20) / 5);
        format!("tree {tree}\nauthor {WHO}\ncommitter {WHO}\n\n{message}\n").into_bytes()
    });
    refuses("sixteen megabytes of a header", &["too-large"], &|tree| {
        let header = "word ".repeat((16 << 20) / 5);
        format!("tree {tree}\nauthor {WHO}\ncommitter {WHO}\nx {header}\n\nodd\n").into_bytes()
    });
}

#[test]
fn a_commit_of_a_thousand_parents_is_read() {
    let scene = Scene::new();
    let (mut objects, first) = evil();
    let tree = objects.fleet(b"evil\n");
    let parents: Vec<_> = (0..1000)
        .map(|n| {
            objects
                .commit(&format!("tree {tree}\nparent {first}\nauthor N{n} <n@x> 1 +0000\n").replace("author N", "x N"))
        })
        .collect();
    let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
    let tip = objects.commit(&format!("tree {tree}\n{parents}"));
    scene.takes("a thousand parents", &Says::all(&objects, tip), b"evil\n");
}

#[test]
fn a_history_with_a_hole_is_read_at_its_tip_and_nothing_behind_the_hole_is_believed() {
    let scene = Scene::new();
    let (mut objects, _) = evil();
    let tree = objects.fleet(b"evil\n");
    let gone = objects.commit(&format!("tree {tree}\nparent 0123456789012345678901234567890123456789\n"));
    objects.remove(gone);
    let tip = objects.commit(&format!("tree {tree}\nparent {gone}\n"));
    scene.takes("a hole", &Says::all(&objects, tip), b"evil\n");
    let [refused, again] = scene.descent(&Says::all(&objects, tip), "0123456789012345678901234567890123456789");
    println!("{refused}");
    assert_eq!(refused.split(':').next(), Some("damaged-clone"), "{refused}");
    assert_eq!(again.split(':').next(), Some("damaged-clone"), "{again}");
}
