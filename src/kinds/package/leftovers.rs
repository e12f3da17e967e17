//! What package managers lay beside a configuration file that they leave as it is, or that they replace: dpkg(1), ucf(1),
//! rpm(8). Looked for before a transaction and after it, since each says so in words of its own, and ucf in none.

use std::collections::BTreeMap;

use crate::host::{About, Aside, Error, NodeType, Reader, Writer};
use crate::model::one_line;

/// Where packages have their configuration files.
const PLACE: &str = "/etc";
/// How they end that hold what the package brings.
const BROUGHT: &[&str] = &[".dpkg-dist", ".dpkg-new", ".ucf-dist", ".ucf-new", ".rpmnew"];
/// How they end that hold what stood there before.
const STOOD: &[&str] = &[".dpkg-old", ".dpkg-bak", ".ucf-old", ".rpmsave", ".rpmorig"];
/// So many names are looked at.
const NAMES: usize = 200_000;
/// So many are told by their names.
const EACH: usize = 50;

/// By path, what tells one from another that is laid in its place: inode, length, and when it was last written to.
type Standing = BTreeMap<String, (u64, u64, i128)>;

/// What lies beside configuration files now.
pub struct Leftovers(Result<Standing, Error>);

impl Leftovers {
    /// Looks for them.
    pub fn look(host: &Reader) -> Self {
        Self(standing(host))
    }

    /// As it is written down for whoever sees the end of the transaction; read again by [`Leftovers::written`].
    pub fn to_write(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0.as_ref().ok()).expect("paths and numbers are plain data")
    }

    /// What was written down before a transaction.
    pub fn written(text: &[u8]) -> Self {
        let standing: Option<Standing> = serde_json::from_slice(text).unwrap_or_default();
        let why = "it was not known before a package transaction, or was not kept".to_owned();
        Self(standing.ok_or(Error::Unknown { thing: PLACE.to_owned(), why }))
    }

    /// Tells what is there by now that was not. Where that cannot be told, it says so.
    pub fn tell_new(self, host: &mut Writer) {
        match (self.0, standing(host)) {
            (Ok(before), Ok(now)) => told(&before, &now).into_iter().for_each(|aside| host.tell_aside(aside)),
            (Err(error), _) | (_, Err(error)) => {
                let line = format!("what was left beside configuration files is not known: {}", error.chain());
                host.tell_aside(Aside { about: About::Beside(PLACE.to_owned()), line });
            }
        }
    }
}

/// The files in [`PLACE`] that have such a name. Links are not followed.
fn standing(host: &Reader) -> Result<Standing, Error> {
    let mut found = Standing::new();
    let (mut places, mut names) = (vec![PLACE.to_owned()], 0);
    while let Some(place) = places.pop() {
        let listed = match host.list(&place) {
            // Something else stands there since it was looked at.
            Err(Error::InTheWay { .. }) => continue,
            listed => listed?,
        };
        names += listed.len();
        if names > NAMES {
            return Err(Error::Unknown {
                thing: PLACE.to_owned(),
                why: format!("there are more than {NAMES} names in it"),
            });
        }
        // No package manager lays down names that nobody can write.
        for name in listed.into_iter().filter(|name| !name.contains(char::is_control)) {
            let path = format!("{place}/{name}");
            let Some(meta) = host.look(&path)? else { continue };
            match meta.node {
                // What is mounted below is nobody's configuration, and may not answer.
                NodeType::Directory if meta.mount_point => {}
                NodeType::Directory => places.push(path),
                NodeType::Regular if beside(&path).is_some() => {
                    found.insert(path, (meta.inode, meta.size, meta.modified));
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

/// The configuration file that `path` lies beside, and whether it is what a package brings for it.
fn beside(path: &str) -> Option<(&str, bool)> {
    let of = |suffixes: &[&str]| suffixes.iter().find_map(|suffix| path.strip_suffix(suffix));
    of(BROUGHT).map(|path| (path, true)).or_else(|| of(STOOD).map(|path| (path, false)))
}

/// What is to be said of those that are there `now` and were not, as they are, `before`.
fn told(before: &Standing, now: &Standing) -> Vec<Aside> {
    let new: Vec<&str> =
        now.iter().filter(|(path, meta)| before.get(*path) != Some(meta)).map(|(path, _)| path.as_str()).collect();
    let line = |path: &&str| {
        let (of, is_brought) = beside(path)?;
        let (of, name) = (one_line(of, 300), one_line(path, 300));
        let line = match is_brought {
            true => format!("{of} stays as it is; what its package brings lies beside it: {name}"),
            false => format!("what stood at {of} lies beside it: {name}"),
        };
        Some(Aside { about: About::Beside(beside(path)?.0.to_owned()), line })
    };
    let mut asides: Vec<Aside> = new.iter().take(EACH).filter_map(line).collect();
    if let Some(more) = new.len().checked_sub(EACH).filter(|more| *more > 0) {
        let line = format!("and {more} more files lie beside configuration files: find {PLACE} -newer {}", new[0]);
        asides.push(Aside { about: About::Beside(PLACE.to_owned()), line: one_line(&line, 400) });
    }
    asides
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests lay out what is read")]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_a_transaction_laid_beside_configuration_files_is_found() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("etc/app/conf.d")).expect("made");
        fs::create_dir_all(at("etc/odd.rpmnew")).expect("made");
        for (path, content) in
            [("etc/old.conf.dpkg-dist", "1"), ("etc/app/again.conf.rpmnew", "1"), ("etc/app/x.conf", "")]
        {
            fs::write(at(path), content).expect("written");
        }
        std::os::unix::fs::symlink("/etc", at("etc/round")).expect("made");
        let host = Reader::directory(root.path()).expect("opens");
        let before = standing(&host).expect("looked through");
        assert_eq!(before.keys().collect::<Vec<_>>(), ["/etc/app/again.conf.rpmnew", "/etc/old.conf.dpkg-dist"]);
        assert!(told(&before, &before).is_empty());

        fs::write(at("etc/app/again.conf.rpmnew"), "another").expect("written");
        fs::write(at("etc/app/conf.d/a.conf.dpkg-new"), "").expect("written");
        fs::write(at("etc/app/gone.conf.rpmsave"), "").expect("written");
        let told: Vec<Aside> = told(&before, &standing(&host).expect("looked through"));
        let path = |aside: &Aside| match &aside.about {
            About::Beside(path) => path.clone(),
            other => panic!("{other:?}"),
        };
        let paths: Vec<String> = told.iter().map(path).collect();
        let lines: Vec<(&str, &str)> =
            paths.iter().map(String::as_str).zip(told.iter().map(|aside| aside.line.as_str())).collect();
        assert_eq!(
            lines,
            [
                (
                    "/etc/app/again.conf",
                    "/etc/app/again.conf stays as it is; what its package brings lies beside it: /etc/app/again.conf.rpmnew"
                ),
                (
                    "/etc/app/conf.d/a.conf",
                    "/etc/app/conf.d/a.conf stays as it is; what its package brings lies beside it: /etc/app/conf.d/a.conf.dpkg-new"
                ),
                ("/etc/app/gone.conf", "what stood at /etc/app/gone.conf lies beside it: /etc/app/gone.conf.rpmsave"),
            ]
        );
    }

    #[test]
    fn what_was_there_before_is_read_as_it_was_written() {
        let before = Standing::from([("/etc/a.conf.rpmnew".to_owned(), (7, 9, 1_700_000_000_123_456_789))]);
        let written = Leftovers(Ok(before.clone())).to_write();
        assert_eq!(Leftovers::written(&written).0.ok(), Some(before));
        let unknown = || Error::Unknown { thing: PLACE.to_owned(), why: String::new() };
        for text in [&Leftovers(Err(unknown())).to_write()[..], b"", b"[1"] {
            assert!(Leftovers::written(text).0.is_err(), "that is not the same as nothing");
        }
    }

    #[test]
    fn many_are_counted_and_a_place_without_any_is_none() {
        let many: Standing = (0..60).map(|n| (format!("/etc/{n:02}.conf.dpkg-dist"), (n, 0, 0))).collect();
        let told = told(&Standing::new(), &many);
        assert_eq!(told.len(), EACH + 1);
        assert!(told[EACH].line.starts_with("and 10 more files"), "{told:?}");
        let root = tempfile::tempdir().expect("a scratch directory");
        let host = Reader::directory(root.path()).expect("opens");
        assert!(standing(&host).expect("nothing is there").is_empty());
        // What cannot be looked at is not told as nothing.
        fs::write(root.path().join("etc"), "").expect("written");
        assert!(standing(&host).is_ok_and(|found| found.is_empty()), "no directory, no leftovers");
    }
}
