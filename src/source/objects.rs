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
    match gix_object::compute_hash(hash(name), kind, content) {
        Ok(id) if id.as_slice() == name.as_bytes() => Ok(()),
        Ok(_) => Err("does not hash to its id".to_owned()),
        Err(_) => Err("is made to collide with another".to_owned()),
    }
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

/// Takes the commit `name` apart.
pub(super) fn commit(id: ObjectName, content: &[u8]) -> Result<Commit> {
    let parsed =
        gix_object::CommitRef::from_bytes(content, hash(id)).map_err(|_| "is no commit that can be read".to_owned())?;
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
    for entry in gix_object::TreeRefIter::from_bytes(content, hash(id)) {
        let entry = entry.map_err(|_| "is no directory that can be read".to_owned())?;
        let raw: &[u8] = entry.filename;
        if raw.is_empty() || raw == b"." || raw == b".." || raw.eq_ignore_ascii_case(b".git") || raw.contains(&b'/') {
            return Err(format!("has an entry named {:?}, which cannot be", String::from_utf8_lossy(raw)));
        }
        if !names.insert(raw) {
            return Err(format!("has two entries named {:?}", String::from_utf8_lossy(raw)));
        }
        let node = match entry.mode.kind() {
            gix_object::tree::EntryKind::Tree => Node::Directory,
            gix_object::tree::EntryKind::Blob => Node::File { executable: false },
            gix_object::tree::EntryKind::BlobExecutable => Node::File { executable: true },
            gix_object::tree::EntryKind::Link => Node::Symlink,
            gix_object::tree::EntryKind::Commit => Node::Submodule,
        };
        let id = ObjectName::from_bytes(entry.oid.as_bytes()).expect("an object id is 20 or 32 bytes");
        entries.push(TreeEntry { name: Name::of(raw), node, id });
    }
    Ok(entries)
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
    fn names_that_mean_another_place_are_refused() {
        for bad in [&b""[..], b".", b"..", b".git", b".GIT", b"a/b", b"/"] {
            assert!(parsed(&[("100644", bad)]).is_err(), "{bad:?}");
        }
        assert!(parsed(&[("100644", b"a"), ("100644", b"a")]).expect_err("twice").contains("two entries"));
    }

    #[test]
    fn names_that_cannot_be_shown_are_kept_apart() {
        let entries = parsed(&[("100644", b"a\nb"), ("100644", b"\xff"), ("100644", "ü".as_bytes())]).expect("a tree");
        let names: Vec<&Name> = entries.iter().map(|entry| &entry.name).collect();
        assert_eq!(
            names,
            [
                &Name::Bad("a\\nb".to_owned(), BadName::Control),
                &Name::Bad("\\xff".to_owned(), BadName::NotUtf8),
                &Name::Good("ü".to_owned())
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
