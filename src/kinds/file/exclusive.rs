//! Directories that hold nothing but what is declared: what else is in one is a stranger.

use std::collections::BTreeSet;

use globset::{GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use super::ancestors;
use super::protected::{self, Shape};
use crate::host::{Below, Error, Meta, NodeType, Reader};
use crate::kinds::{package, pattern};

/// What is listed of a directory has at most so many nodes.
const NODES: usize = 20_000;
/// So many strangers are looked at, in one directory.
const STRANGERS: usize = 1_000;
/// And so many bytes of them are read.
const BYTES: u64 = 1 << 30;

/// Nothing but what is declared may be below a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusive {
    /// Patterns of what may be, relative to the directory; what is below something that matches may be, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
}

impl Exclusive {
    /// What `ignore` matches. A pattern that is none matches nothing; the parser has told of it.
    pub fn ignored(&self) -> Ignored {
        let mut set = GlobSetBuilder::new();
        for text in &self.ignore {
            // An empty `live/` is not a stranger where `live/**` are none.
            for text in std::iter::once(text.as_str()).chain(text.strip_suffix("/**")) {
                if let Ok(glob) = pattern(text) {
                    set.add(glob);
                }
            }
        }
        Ignored(set.build().unwrap_or_else(|_| GlobSet::empty()))
    }
}

/// The patterns of an [`Exclusive`], ready for use.
#[derive(Debug)]
pub struct Ignored(GlobSet);

impl Ignored {
    /// Whether the path `within` the directory, or one above it, matches.
    pub fn covers(&self, within: &str) -> bool {
        !self.0.is_empty() && std::iter::once(within).chain(ancestors(within)).any(|path| self.0.is_match(path))
    }
}

/// What a look into an exclusive directory found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strangers {
    /// What is declared by nobody, and owned by no package: directories only with nothing in them that stays.
    pub paths: BTreeSet<String>,
    /// What an installed package owns, or nobody may touch.
    pub spared: BTreeSet<String>,
    /// What is there, too, and cannot be managed.
    pub unnameable: Vec<String>,
}

/// Something in an exclusive directory.
struct Node {
    within: String,
    meta: Meta,
    /// Nobody touches it, whoever it belongs to.
    fixed: bool,
}

/// One directory, listed.
struct Listed<'a> {
    directory: &'a str,
    /// Without the symbolic links on the way.
    real: String,
    nodes: Vec<Node>,
    unnameable: Vec<String>,
}

impl Listed<'_> {
    fn path(&self, within: &str) -> String {
        format!("{}/{within}", self.directory)
    }

    fn real(&self, within: &str) -> String {
        format!("{}/{within}", self.real)
    }
}

/// Looks into exclusive directories, in one batch; one that is no directory yet has no strangers. `declared` is what is
/// to be there, by every name that it has.
pub fn strangers(
    host: &Reader,
    asked: &[(&str, &Exclusive)],
    declared: &BTreeSet<String>,
) -> Vec<Result<Strangers, Error>> {
    let others: BTreeSet<&str> = asked.iter().map(|(directory, _)| *directory).collect();
    let listed: Vec<_> = asked.iter().map(|(directory, exclusive)| list(host, directory, exclusive, &others)).collect();
    let mut names = BTreeSet::new();
    for listed in listed.iter().flatten() {
        let unknown = listed.nodes.iter().filter(|node| !node.fixed && !declared.contains(&listed.path(&node.within)));
        names.extend(unknown.flat_map(|node| [listed.path(&node.within), listed.real(&node.within)]));
    }
    let owned = if names.is_empty() { Ok(BTreeSet::new()) } else { package::owned(host, &names) };
    let judge = |listed: Result<Listed<'_>, Error>| match (listed, &owned) {
        (Ok(listed), Ok(owned)) => listed.judge(owned, declared, &others),
        (Ok(listed), Err(error)) => Err(Error::Unknown {
            thing: listed.directory.to_owned(),
            why: format!("which package owns what is in it cannot be told: {}", error.chain()),
        }),
        (Err(error), _) => Err(error),
    };
    listed.into_iter().map(judge).collect()
}

/// What is in one directory, but for what is ignored. What is exclusive by itself is not entered.
fn list<'a>(
    host: &Reader,
    directory: &'a str,
    exclusive: &Exclusive,
    others: &BTreeSet<&str>,
) -> Result<Listed<'a>, Error> {
    let real = match host.look(directory)? {
        Some(meta) if meta.node == NodeType::Directory => meta.real.unwrap_or_else(|| directory.to_owned()),
        _ => {
            let (real, nodes, unnameable) = (directory.to_owned(), Vec::new(), Vec::new());
            return Ok(Listed { directory, real, nodes, unnameable });
        }
    };
    if let Err(protected) = protected::may_be_exclusive(&protected::unaliased(&real)) {
        let why = format!("symbolic links on the way lead to {real}: {}", protected.why);
        return Err(Error::Refused { thing: directory.to_owned(), reason: protected.reason, why });
    }
    let ignored = exclusive.ignored();
    // fsck(8) makes the one, who writes the repository names the other.
    let left_alone = |within: &str| {
        let name = within.rsplit('/').next().unwrap_or(within);
        ignored.covers(within) || name == "lost+found" || package::is_working_name(name)
    };
    let enter = |within: &str| !left_alone(within) && !others.contains(format!("{directory}/{within}").as_str());
    let Below { nodes, unnameable } = host.below(directory, NODES, &enter)?;
    let node = |(within, meta): (String, Meta)| {
        let fixed = meta.mount_point || left_alone(&within);
        Node { within, meta, fixed }
    };
    Ok(Listed { directory, real, nodes: nodes.into_iter().map(node).collect(), unnameable })
}

impl Listed<'_> {
    fn judge(
        self,
        owned: &BTreeSet<String>,
        declared: &BTreeSet<String>,
        others: &BTreeSet<&str>,
    ) -> Result<Strangers, Error> {
        let mut spared = BTreeSet::new();
        let mut stays: BTreeSet<String> = BTreeSet::new();
        let mut rest = Vec::new();
        for Node { within, meta, fixed } in &self.nodes {
            let (path, real) = (self.path(within), self.real(within));
            let protected = |path: &str| {
                let path = protected::unaliased(path);
                protected::is_fragment(&path) || protected::permitted(&path, Shape::Other).is_err()
            };
            let is_owned = owned.contains(&path) || owned.contains(&real);
            let fixed = *fixed || is_owned || protected(&path) || protected(&real);
            if fixed || declared.contains(&path) || declared.contains(&real) || others.contains(path.as_str()) {
                stays.extend(ancestors(&path).map(str::to_owned));
                if fixed {
                    spared.insert(path);
                }
            } else {
                rest.push((path, meta));
            }
        }
        let inside = format!("{}/", self.directory);
        let below = declared.range(inside.clone()..).take_while(|path| path.starts_with(&inside));
        stays.extend(below.flat_map(|path| ancestors(path)).map(str::to_owned));
        stays.extend(self.unnameable.iter().flat_map(|path| ancestors(path)).map(str::to_owned));
        rest.retain(|(path, _)| !stays.contains(path));
        let bytes: u64 =
            rest.iter().filter(|(_, meta)| meta.node == NodeType::Regular).map(|(_, meta)| meta.size).sum();
        if rest.len() > STRANGERS || bytes > BYTES {
            let count = rest.len();
            return Err(Error::Unknown {
                thing: self.directory.to_owned(),
                why: format!(
                    "{count} files and directories in it, {bytes} B, are declared by nobody; at most {STRANGERS} and \
                     {BYTES} B are dealt with: name them in `ignore`, or move them away by hand"
                ),
            });
        }
        let paths = rest.into_iter().map(|(path, _)| path).collect();
        Ok(Strangers { paths, spared, unnameable: self.unnameable })
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests lay out what is looked at")]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn paths(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn look(root: &Path, exclusive: &Exclusive, declared: &BTreeSet<String>) -> Result<Strangers, Error> {
        let host = Reader::directory(root).expect("opens");
        strangers(&host, &[("/etc/d", exclusive)], declared).pop().expect("one answer")
    }

    #[test]
    fn what_is_not_declared_ignored_owned_or_ours_is_a_stranger_and_no_link_is_followed() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let at = |path: &str| root.path().join(path);
        for directory in ["etc/d/lost+found", "etc/d/a/b", "etc/d/need", "etc/d/live/x", "etc/d/full", "etc/other"] {
            fs::create_dir_all(at(directory)).expect("made");
        }
        for file in
            ["etc/d/ours", "etc/d/theirs", "etc/d/a/b/c", "etc/d/lost+found/1", "etc/d/live/x/y", "etc/d/full/keep"]
        {
            fs::write(at(file), "x").expect("written");
        }
        fs::write(at("etc/d/.trueup-0123456789abcdef~"), "half").expect("written");
        fs::write(at("etc/other/file"), "x").expect("written");
        symlink("../other", at("etc/d/link")).expect("made");
        let exclusive = Exclusive { ignore: vec!["live/**".to_owned(), "full/keep".to_owned()] };
        let found =
            look(root.path(), &exclusive, &paths(&["/etc/d", "/etc/d/ours", "/etc/d/need/deep/x"])).expect("told");
        let strange = ["/etc/d/a", "/etc/d/a/b", "/etc/d/a/b/c", "/etc/d/link", "/etc/d/theirs"];
        assert_eq!(found.paths, paths(&strange));
        assert_eq!(found.unnameable, Vec::<String>::new());
    }

    #[test]
    fn names_that_nobody_can_write_down_are_told_and_what_they_are_in_stays() {
        let root = tempfile::tempdir().expect("a scratch directory");
        fs::create_dir_all(root.path().join("etc/d/sub")).expect("made");
        for name in [&b"sub/\xff"[..], b"new\nline"] {
            fs::write(root.path().join("etc/d").join(std::ffi::OsStr::from_bytes(name)), "x").expect("written");
        }
        let found = look(root.path(), &Exclusive::default(), &BTreeSet::new()).expect("told");
        assert_eq!(found.paths, BTreeSet::new());
        assert_eq!(found.unnameable, ["/etc/d/new\\nline", "/etc/d/sub/\\xff"]);
    }

    #[test]
    fn what_is_no_directory_has_no_strangers_and_what_leads_into_the_system_is_refused() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("usr/d")).expect("made");
        fs::write(at("usr/d/x"), "x").expect("written");
        assert_eq!(look(root.path(), &Exclusive::default(), &BTreeSet::new()).expect("told"), Strangers::default());
        symlink("usr", at("etc")).expect("made");
        let error = look(root.path(), &Exclusive::default(), &BTreeSet::new()).expect_err("it is /usr/d");
        assert_eq!(error.reason(), "protected-path");
        fs::remove_file(at("etc")).expect("removed");
        fs::create_dir(at("etc")).expect("made");
        symlink("../usr/d", at("etc/d")).expect("made");
        assert_eq!(look(root.path(), &Exclusive::default(), &BTreeSet::new()).expect("told"), Strangers::default());
    }

    #[test]
    fn a_thousand_strangers_are_dealt_with_and_no_more() {
        let root = tempfile::tempdir().expect("a scratch directory");
        fs::create_dir_all(root.path().join("etc/d")).expect("made");
        let add = |n: usize| fs::write(root.path().join(format!("etc/d/{n}")), "").expect("written");
        (0..STRANGERS).for_each(add);
        let look = || look(root.path(), &Exclusive::default(), &BTreeSet::new());
        assert_eq!(look().expect("told").paths.len(), STRANGERS);
        add(STRANGERS);
        let error = look().expect_err("too many");
        assert_eq!(error.reason(), "cannot-tell");
        assert!(error.to_string().contains("1001 files and directories"), "{error}");
    }

    fn ignoring(patterns: &[&str]) -> Ignored {
        Exclusive { ignore: patterns.iter().map(|text| (*text).to_owned()).collect() }.ignored()
    }

    #[test]
    fn what_is_ignored_is_so_with_all_that_is_below_it() {
        let ignored = ignoring(&["live/**", "*.tmp", "a/*/b"]);
        for (within, covered) in [
            ("live", true),
            ("live/x/y", true),
            ("lively", false),
            ("x.tmp", true),
            ("x.tmp/y", true),
            ("d/x.tmp", false),
            ("a/x/b", true),
            ("a/x/b/c", true),
            ("a/x/y/b", false),
            ("a", false),
        ] {
            assert_eq!(ignored.covers(within), covered, "{within}");
        }
        assert!(!ignoring(&[]).covers("x"));
        assert!(ignoring(&["**"]).covers("x/y"));
    }
}
