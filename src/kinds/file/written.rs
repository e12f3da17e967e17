//! How specs and what stood there before are written: one flat map each, whatever the type. They are read as just
//! that, since serde keeps a copy of every value of a map whose type only one of them tells, and there are thousands
//! of them in a ledger.

use serde::Deserialize;

use super::before::{Attributes, Kept, Unlisted};
use super::spec::{Replace, Sealed};
use super::{Before, Node, Spec, What};
use crate::model::Digest;
use crate::secret::Locked;

/// A [`Spec`] as it is written.
#[derive(Deserialize)]
pub(super) struct WrittenSpec {
    #[serde(rename = "type")]
    what: Type,
    content: Option<Digest>,
    size: Option<u64>,
    nodes: Option<Vec<Node>>,
    target: Option<String>,
    why: Option<Locked>,
    owner: Option<String>,
    group: Option<String>,
    mode: Option<u32>,
    unlisted: Option<u32>,
    #[serde(default)]
    replace: Replace,
    #[serde(default)]
    validate: Vec<String>,
    secret: Option<Sealed>,
}

/// The types that a [`What`] may have.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Absent,
    Regular,
    Directory,
    Tree,
    Symlink,
    Attributes,
    Sealed,
}

/// What makes a type what it is, is not told.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is missing")]
pub(super) struct Missing(&'static str);

impl TryFrom<WrittenSpec> for Spec {
    type Error = Missing;

    fn try_from(written: WrittenSpec) -> Result<Self, Missing> {
        let WrittenSpec { what, content, size, nodes, target, why, .. } = written;
        let WrittenSpec { owner, group, mode, unlisted, replace, validate, secret, .. } = written;
        let what = match what {
            Type::Absent => What::Absent,
            Type::Regular => What::Regular { content: told(content, "content")?, size: told(size, "size")? },
            Type::Directory => What::Directory,
            Type::Tree => What::Tree { nodes: told(nodes, "nodes")? },
            Type::Symlink => What::Symlink { target: told(target, "target")? },
            Type::Attributes => What::Attributes,
            Type::Sealed => What::Sealed { why: told(why, "why")? },
        };
        Ok(Self { what, owner, group, mode, unlisted, replace, validate, secret })
    }
}

/// A [`Before`] as it is written.
#[derive(Deserialize)]
pub(super) struct WrittenBefore {
    #[serde(rename = "type")]
    was: Was,
    digest: Option<Digest>,
    size: Option<u64>,
    #[serde(default)]
    kept: Kept,
    #[serde(default)]
    tree: Vec<Node>,
    target: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
    #[serde(default)]
    unlisted: Unlisted,
}

/// The types that a [`Before`] may have.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Was {
    Absent,
    Regular,
    Large,
    Directory,
    Symlink,
    Other,
}

impl TryFrom<WrittenBefore> for Before {
    type Error = Missing;

    fn try_from(written: WrittenBefore) -> Result<Self, Missing> {
        let WrittenBefore { was, digest, size, kept, tree, target, uid, gid, mode, unlisted } = written;
        let attributes = || Ok(Attributes { uid, gid, mode: told(mode, "mode")?, unlisted });
        Ok(match was {
            Was::Absent => Self::Absent,
            Was::Regular => Self::Regular {
                digest: told(digest, "digest")?,
                size: told(size, "size")?,
                kept,
                attributes: attributes()?,
            },
            Was::Large => Self::Large { size: told(size, "size")?, attributes: attributes()? },
            Was::Directory => Self::Directory { tree, attributes: attributes()? },
            Was::Symlink => Self::Symlink { target: told(target, "target")?, attributes: attributes()? },
            Was::Other => Self::Other,
        })
    }
}

fn told<T>(value: Option<T>, name: &'static str) -> Result<T, Missing> {
    value.ok_or(Missing(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        Digest::of(b"content")
    }

    fn again<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
        serde_json::from_str(&serde_json::to_string(value).expect("written")).expect("read again")
    }

    #[test]
    fn every_spec_is_read_as_it_was_written() {
        let nodes = vec![];
        let why = Locked::NoIdentity("none".to_owned());
        for what in [
            What::Absent,
            What::Regular { content: digest(), size: 7 },
            What::Directory,
            What::Tree { nodes },
            What::Symlink { target: "../there".to_owned() },
            What::Attributes,
            What::Sealed { why },
        ] {
            let plain = Spec::of(what);
            assert_eq!(again(&plain), plain);
            let full = Spec {
                owner: Some("app".to_owned()),
                group: Some("7".to_owned()),
                mode: Some(0o640),
                unlisted: Some(0o600),
                replace: Replace::Symlink,
                validate: vec!["true".to_owned(), "{}".to_owned()],
                secret: Some(Sealed(digest())),
                ..plain
            };
            assert_eq!(again(&full), full);
            // Two sealings are equal whatever they hold.
            assert_eq!(again(&full).secret.map(|sealed| sealed.0), Some(digest()));
        }
    }

    #[test]
    fn all_that_stood_there_is_read_as_it_was_written() {
        let unlisted = Unlisted(Some(0o604));
        let attributes = Attributes { uid: Some(0), gid: None, mode: 0o644, unlisted };
        for before in [
            Before::Absent,
            Before::Regular { digest: digest(), size: 7, kept: Kept::default(), attributes },
            Before::Large { size: 1 << 40, attributes },
            Before::Directory { tree: vec![], attributes },
            Before::Symlink { target: "there".to_owned(), attributes },
            Before::Other,
        ] {
            assert_eq!(again(&before), before);
        }
        let kept = Kept(Some(Sealed(digest())));
        let Before::Regular { kept, attributes, .. } =
            again(&Before::Regular { digest: digest(), size: 7, kept, attributes })
        else {
            panic!("a regular file")
        };
        assert_eq!(kept.0.map(|sealed| sealed.0), Some(digest()));
        assert_eq!(attributes.unlisted.0, Some(0o604));
    }

    #[test]
    fn what_is_missing_is_named() {
        let wrong = |text| serde_json::from_str::<Spec>(text).map_err(|error| error.to_string());
        assert_eq!(wrong(r#"{"type":"symlink"}"#), Err("`target` is missing".to_owned()));
        assert!(wrong(r#"{"owner":"root"}"#).is_err_and(|why| why.contains("type")));
        assert!(wrong(r#"{"type":"socket"}"#).is_err_and(|why| why.contains("socket")));
        let wrong = serde_json::from_str::<Before>(r#"{"type":"large","size":1}"#);
        assert_eq!(wrong.map_err(|error| error.to_string()), Err("`mode` is missing".to_owned()));
    }
}
