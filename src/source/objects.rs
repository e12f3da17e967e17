//! Git's objects: hashed, and taken apart. Nothing here asks anybody for anything.

use std::collections::BTreeSet;

use super::snapshot::BadName;
use crate::model::{CommitId, Revision, escaped};
use crate::worker::protocol::{Kind, ObjectName};

/// A commit that was hashed.
#[derive(Debug)]
pub(super) struct Commit {
    pub tree: ObjectName,
    pub parents: Vec<ObjectName>,
    pub revision: Revision,
}

/// One entry of a tree that was hashed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TreeEntry {
    pub name: Name,
    pub node: Node,
    pub id: ObjectName,
}

/// The name of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    Good(String),
    /// Not UTF-8, with control characters, or too long: here escaped and shortened.
    Bad(String, BadName),
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File { executable: bool },
    Symlink,
    Submodule,
}

/// The longest name that Linux takes, in bytes; NAME_MAX in limits.h.
const LONGEST_NAME: usize = 255;

type Result<T> = std::result::Result<T, String>;

/// Whether `content` is what `name` names; SHA-1 with collision detection, as Git's own.
pub(super) fn check(name: ObjectName, kind: Kind, content: &[u8]) -> Result<()> {
    let kind = match kind {
        Kind::Commit => gix_object::Kind::Commit,
        Kind::Tree => gix_object::Kind::Tree,
        Kind::Blob => gix_object::Kind::Blob,
    };
    let header = gix_object::encode::loose_header(kind, content.len() as u64);
    match digest(hash(name), &[&header, content]) {
        Some(id) if id.as_slice() == name.as_bytes() => Ok(()),
        Some(_) => Err("does not hash to its id".to_owned()),
        None => Err("is made to collide with another".to_owned()),
    }
}

/// The hash of `parts` together; none of what was made to have the hash of something else.
fn digest(kind: gix_hash::Kind, parts: &[&[u8]]) -> Option<gix_hash::ObjectId> {
    let mut hasher = gix_hash::hasher(kind);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.try_finalize().ok()
}

pub(super) fn hash(name: ObjectName) -> gix_hash::Kind {
    if name.as_bytes().len() == 20 { gix_hash::Kind::Sha1 } else { gix_hash::Kind::Sha256 }
}

pub(super) fn name(id: &CommitId) -> ObjectName {
    ObjectName::from_hex(id.as_str()).expect("a commit id is 40 or 64 hexadecimal digits")
}

pub(super) fn commit_id(name: ObjectName) -> CommitId {
    name.to_string().parse().expect("an object name is 20 or 32 bytes, written in lower case")
}

/// Takes the commit `name` apart. One that another reader could take for something else is refused.
pub(super) fn commit(id: ObjectName, content: &[u8]) -> Result<Commit> {
    let parsed =
        gix_object::CommitRef::from_bytes(content, hash(id)).map_err(|_| "is no commit that can be read".to_owned())?;
    let headers = content.windows(2).position(|end| end == b"\n\n").unwrap_or(content.len());
    if content[..headers].contains(&0) {
        return Err("has a NUL in its headers".to_owned());
    }
    let mut signatures = BTreeSet::new();
    for (name, _) in &parsed.extra_headers {
        let name: &[u8] = name;
        let once = [&b"tree"[..], b"parent", b"author", b"committer"].contains(&name);
        if once || name.starts_with(b"gpgsig") && !signatures.insert(name) {
            return Err(format!("has a header {} where it cannot be", escaped(&String::from_utf8_lossy(name))));
        }
    }
    let own = |id: gix_hash::ObjectId| ObjectName::from_bytes(id.as_slice()).expect("an object id is 20 or 32 bytes");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(1000).collect::<String>();
    Ok(Commit {
        tree: own(parsed.tree()),
        parents: parsed.parents().map(own).collect(),
        revision: Revision {
            commit: Some(commit_id(id)),
            subject: text(&parsed.message().summary()).trim().to_owned(),
            author: parsed.author().map(|author| text(author.name)).unwrap_or_default(),
            time: parsed.time().map(|time| time.seconds).unwrap_or(0),
        },
    })
}

/// Takes the tree `id` apart. Names that would mean another place are refused.
pub(super) fn tree(id: ObjectName, content: &[u8]) -> Result<Vec<TreeEntry>> {
    let mut names = BTreeSet::new();
    let mut entries = Vec::new();
    let mut before = Vec::new();
    let mut rest = content;
    while !rest.is_empty() {
        let (mode, raw, id) = entry(&mut rest, id).ok_or_else(|| "is no directory that can be read".to_owned())?;
        if raw.is_empty() || raw == b"." || raw == b".." || raw.eq_ignore_ascii_case(b".git") || raw.contains(&b'/') {
            return Err(format!("has an entry named {:?}, which cannot be", String::from_utf8_lossy(raw)));
        }
        if !names.insert(raw) {
            return Err(format!("has two entries named {:?}", String::from_utf8_lossy(raw)));
        }
        // No other modes, and no other ways to write them; but for what old tools have left in histories.
        let node = match mode {
            b"40000" | b"040000" => Node::Directory,
            b"100644" | b"100664" => Node::File { executable: false },
            b"100755" => Node::File { executable: true },
            b"120000" => Node::Symlink,
            b"160000" => Node::Submodule,
            _ => return Err(format!("has an entry of the mode {:?}", String::from_utf8_lossy(mode))),
        };
        // As Git sorts: a directory as if its name ended with a slash.
        let place = [raw, if node == Node::Directory { b"/" } else { b"\0" }].concat();
        if place < before {
            return Err(format!("has its entry {:?} at a wrong place", String::from_utf8_lossy(raw)));
        }
        before = place;
        entries.push(TreeEntry { name: Name::of(raw), node, id });
    }
    Ok(entries)
}

/// Takes the first entry off `rest`, a tree in which ids are of the same kind as `like`: mode, name, id.
fn entry<'a>(rest: &mut &'a [u8], like: ObjectName) -> Option<(&'a [u8], &'a [u8], ObjectName)> {
    let mut until = |end: u8| {
        let at = rest.iter().position(|byte| *byte == end)?;
        let before = &rest[..at];
        *rest = &rest[at + 1..];
        Some(before)
    };
    let (mode, name) = (until(b' ')?, until(0)?);
    let (id, after) = rest.split_at_checked(like.as_bytes().len())?;
    *rest = after;
    Some((mode, name, ObjectName::from_bytes(id)?))
}

impl Name {
    /// The name with these bytes.
    pub fn of(raw: &[u8]) -> Self {
        if raw.len() > LONGEST_NAME {
            return Self::Bad(format!("{}…", raw[..40].escape_ascii()), BadName::TooLong);
        }
        match std::str::from_utf8(raw) {
            Ok(text) if !text.chars().any(char::is_control) => Self::Good(text.to_owned()),
            Ok(text) => Self::Bad(escaped(text), BadName::Control),
            Err(_) => Self::Bad(raw.escape_ascii().to_string(), BadName::NotUtf8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashed(kind: gix_object::Kind, content: &[u8]) -> ObjectName {
        let id = gix_object::compute_hash(gix_hash::Kind::Sha1, kind, content).expect("no collision");
        ObjectName::from_bytes(id.as_slice()).expect("20 bytes")
    }

    fn tree_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut content = Vec::new();
        for (mode, name) in entries {
            content.extend_from_slice(mode.as_bytes());
            content.push(b' ');
            content.extend_from_slice(name);
            content.push(0);
            content.extend_from_slice(&[7; 20]);
        }
        content
    }

    fn parsed(entries: &[(&str, &[u8])]) -> Result<Vec<TreeEntry>> {
        tree(ObjectName::from_bytes(&[1; 20]).expect("20 bytes"), &tree_of(entries))
    }

    #[test]
    fn content_that_is_not_what_its_id_says_is_told_from_what_is() {
        let id = hashed(gix_object::Kind::Blob, b"hello");
        assert_eq!(id.to_string(), "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0");
        assert!(check(id, Kind::Blob, b"hello").is_ok());
        assert!(check(id, Kind::Blob, b"hellp").is_err());
        assert!(check(id, Kind::Tree, b"hello").is_err());
    }

    /// The first 320 bytes of the two files of SHAttered, of which the last 128 differ: all that makes them collide.
    /// <https://shattered.io>; "The first collision for full SHA-1", Stevens and others, 2017.
    const SHATTERED: [&str; 3] = [
        "255044462d312e330a25e2e3cfd30a0a0a312030206f626a0a3c3c2f57696474682032203020522f4865696768742033203020522f547970\
         652034203020522f537562747970652035203020522f46696c7465722036203020522f436f6c6f7253706163652037203020522f4c656e67\
         74682038203020522f42697473506572436f6d706f6e656e7420383e3e0a73747265616d0affd8fffe00245348412d312069732064656164\
         2121212121852fec092339759c39b1a1c63c4c97e1fffe01",
        "7f46dc93a6b67e013b029aaa1db2560b45ca67d688c7f84b8c4c791fe02b3df614f86db1690901c56b45c1530afedfb76038e972722fe7ad\
         728f0e4904e046c230570fe9d41398abe12ef5bc942be33542a4802d98b5d70f2a332ec37fac3514e74ddc0f2cc1a874cd0c78305a215664\
         61309789606bd0bf3f98cda8044629a1",
        "7346dc9166b67e118f029ab621b2560ff9ca67cca8c7f85ba84c79030c2b3de218f86db3a90901d5df45c14f26fedfb3dc38e96ac22fe7bd\
         728f0e45bce046d23c570feb141398bb552ef5a0a82be331fea48037b8b5d71f0e332edf93ac3500eb4ddc0decc1a864790c782c76215660\
         dd309791d06bd0af3f98cda4bc4629b1",
    ];

    #[test]
    fn what_was_made_to_collide_has_no_hash() {
        let bytes = |hex: &str| -> Vec<u8> {
            let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
            (0..hex.len()).step_by(2).map(digit).collect()
        };
        let [same, one, other] = SHATTERED.map(bytes);
        assert_eq!((same.len(), one.len(), other.len()), (192, 128, 128));
        for end in [&one, &other] {
            // Whatever follows, and in whatever parts it comes.
            assert_eq!(digest(gix_hash::Kind::Sha1, &[&same, end]), None);
            assert_eq!(digest(gix_hash::Kind::Sha1, &[&[same.clone(), end.clone()].concat(), b"more"]), None);
            // The attack is the whole of it, or none.
            assert!(digest(gix_hash::Kind::Sha1, &[&same, &end[1..]]).is_some());
            assert!(digest(gix_hash::Kind::Sha256, &[&same, end]).is_some());
        }
    }

    #[test]
    fn every_mode_of_git_is_known() {
        let entries =
            parsed(&[("100644", b"a"), ("100755", b"b"), ("120000", b"c"), ("160000", b"d"), ("40000", b"e")])
                .expect("a tree");
        let nodes: Vec<Node> = entries.iter().map(|entry| entry.node).collect();
        assert_eq!(
            nodes,
            [
                Node::File { executable: false },
                Node::File { executable: true },
                Node::Symlink,
                Node::Submodule,
                Node::Directory
            ]
        );
    }

    #[test]
    fn what_is_no_mode_of_git_s_is_refused() {
        for bad in ["", "0", "644", "100600", "0100644", "1100644", "100644a", "040755", "170000", "-40000"] {
            assert!(parsed(&[(bad, b"a")]).expect_err(bad).contains("of the mode"), "{bad}");
        }
        assert!(parsed(&[("040000", b"a"), ("100664", b"b")]).is_ok(), "as old tools wrote them");
    }

    #[test]
    fn names_that_mean_another_place_are_refused() {
        for bad in [&b""[..], b".", b"..", b".git", b".GIT", b"a/b", b"/"] {
            assert!(parsed(&[("100644", bad)]).is_err(), "{bad:?}");
        }
        assert!(parsed(&[("100644", b"a"), ("100644", b"a")]).expect_err("twice").contains("two entries"));
    }

    #[test]
    fn entries_are_sorted_as_git_sorts_them() {
        for good in [
            &[("100644", &b"a"[..]), ("100644", b"a.b"), ("100644", b"b")][..],
            &[("100644", b"a.b"), ("40000", b"a"), ("100644", b"a0")],
            &[("160000", b"a"), ("100644", b"a.b")],
        ] {
            assert!(parsed(good).is_ok(), "{good:?}");
            let reversed: Vec<_> = good.iter().rev().copied().collect();
            assert!(parsed(&reversed).expect_err("unsorted").contains("at a wrong place"), "{reversed:?}");
        }
    }

    #[test]
    fn names_that_cannot_be_shown_are_kept_apart() {
        let entries = parsed(&[("100644", b"a\nb"), ("100644", "ü".as_bytes()), ("100644", b"\xff")]).expect("a tree");
        let names: Vec<&Name> = entries.iter().map(|entry| &entry.name).collect();
        assert_eq!(
            names,
            [
                &Name::Bad("a\\nb".to_owned(), BadName::Control),
                &Name::Good("ü".to_owned()),
                &Name::Bad("\\xff".to_owned(), BadName::NotUtf8)
            ]
        );
    }

    #[test]
    fn a_name_that_no_file_can_have_is_not_kept_whole() {
        assert!(matches!(Name::of(&[b'a'; 255]), Name::Good(name) if name.len() == 255));
        for length in [256, 1 << 20] {
            let Name::Bad(name, BadName::TooLong) = Name::of(&vec![0xff; length]) else { panic!("{length}") };
            assert!(name.len() < 200, "{name}");
        }
    }

    #[test]
    fn a_commit_is_taken_apart_and_a_broken_one_is_an_error() {
        let content = b"tree b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0\nparent 0123456789012345678901234567890123456789\nauthor Ana <a@x> 1700000000 +0100\ncommitter Ben <b@x> 1700000001 +0000\n\ntls: new intermediate\n\nmore\n";
        let id = hashed(gix_object::Kind::Commit, content);
        let commit = commit(id, content).expect("a commit");
        assert_eq!(commit.tree.to_string(), "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0");
        assert_eq!(commit.parents.len(), 1);
        assert_eq!(
            (commit.revision.subject.as_str(), commit.revision.author.as_str(), commit.revision.time),
            ("tls: new intermediate", "Ana", 1_700_000_001)
        );
        for end in [0, 10, 60, 120] {
            assert!(super::commit(id, &content[..end]).is_err(), "cut at {end}");
        }
    }
}
