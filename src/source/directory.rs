use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::objects::Name;
use super::{DEEPEST, Entry, MOST_BYTES, MOST_ENTRIES, Snapshot, SourceError};
use crate::model::Revision;
use crate::worker::protocol::LARGEST_BLOB;

type Result<T> = std::result::Result<T, SourceError>;

/// A plain directory as it is on disk, under no version control: for checking and trying out. The agent
/// itself never takes one.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    revision: Revision,
    entries: usize,
    bytes: u64,
}

impl Directory {
    /// The directory `path`.
    ///
    /// # Errors
    /// Where it is no directory that can be read.
    pub fn open(path: &Path) -> Result<Self> {
        list(path)?;
        Ok(Self { path: path.to_owned(), revision: Revision::uncommitted(), entries: 0, bytes: 0 })
    }

    /// `uncommitted`.
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// `trueup.toml`, and the names of hosts and roles.
    ///
    /// # Errors
    /// Where something cannot be read.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let mut entries = BTreeMap::new();
        let manifest = self.path.join("trueup.toml");
        if fs::symlink_metadata(&manifest).is_ok_and(|meta| !meta.is_dir()) {
            entries.extend(self.leaf(&manifest)?.map(|entry| ("trueup.toml".to_owned(), entry)));
        }
        Ok(Snapshot {
            revision: self.revision.clone(),
            hosts: self.names("hosts")?,
            roles: self.names("roles")?,
            layers: BTreeSet::new(),
            entries,
        })
    }

    /// Reads the whole of `layers` (`hosts/web-01`) into `snapshot`. One that is not there has no entries.
    ///
    /// # Errors
    /// Where something cannot be read, or there is too much of it all.
    pub fn read_layers(&mut self, snapshot: &mut Snapshot, layers: &[String]) -> Result<()> {
        for layer in layers {
            let known = match layer.split_once('/') {
                Some(("hosts", name)) => snapshot.hosts.contains(name),
                Some(("roles", name)) => snapshot.roles.contains(name),
                _ => false,
            };
            if snapshot.layers.insert(layer.clone()) && known {
                self.walk(layer, 0, &mut snapshot.entries)?;
            }
        }
        Ok(())
    }

    fn walk(&mut self, at: &str, depth: usize, entries: &mut BTreeMap<String, Entry>) -> Result<()> {
        if depth > DEEPEST {
            return Err(self.too_large(format!("{at} is nested more than {DEEPEST} deep")));
        }
        for name in list(&self.path.join(at))? {
            if name.eq_ignore_ascii_case(".git") {
                continue;
            }
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                return Err(self.too_large(format!("more than {MOST_ENTRIES} files and directories")));
            }
            let below = match Name::of(name.as_bytes()) {
                Name::Good(name) => format!("{at}/{name}"),
                Name::Bad(name, why) => {
                    entries.insert(format!("{at}/{name}"), Entry::BadName(why));
                    continue;
                }
            };
            let path = self.path.join(&below);
            let meta =
                fs::symlink_metadata(&path).map_err(|source| SourceError::Read { path: path.clone(), source })?;
            if meta.is_dir() {
                self.walk(&below, depth + 1, entries)?;
            } else if let Some(entry) = self.leaf(&path)? {
                entries.insert(below, entry);
            }
        }
        Ok(())
    }

    /// What stands at `path`; `None` for what Git would not keep either: sockets, pipes, devices.
    fn leaf(&mut self, path: &Path) -> Result<Option<Entry>> {
        let failed = |source| SourceError::Read { path: path.to_owned(), source };
        let meta = fs::symlink_metadata(path).map_err(failed)?;
        if meta.is_symlink() {
            let target = fs::read_link(path).map_err(failed)?;
            return Ok(Some(Entry::Symlink { target: target.as_os_str().as_bytes().into() }));
        }
        if !meta.is_file() {
            return Ok(None);
        }
        if meta.len() > LARGEST_BLOB {
            return Ok(Some(Entry::TooLarge { size: meta.len() }));
        }
        // What was a file a moment ago may be a link or a pipe now.
        let flags = rustix::fs::OFlags::RDONLY
            | rustix::fs::OFlags::NOFOLLOW
            | rustix::fs::OFlags::NONBLOCK
            | rustix::fs::OFlags::CLOEXEC;
        let file: File =
            rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(|error| failed(error.into()))?.into();
        let mut content = Vec::new();
        (&file).take(LARGEST_BLOB + 1).read_to_end(&mut content).map_err(failed)?;
        self.bytes += content.len() as u64;
        if self.bytes > MOST_BYTES {
            return Err(self.too_large(format!("more than {MOST_BYTES} bytes")));
        }
        if content.len() as u64 > LARGEST_BLOB {
            return Ok(Some(Entry::TooLarge { size: content.len() as u64 }));
        }
        let executable = file.metadata().map_err(failed)?.mode() & 0o100 != 0;
        Ok(Some(Entry::File { content: content.into(), executable }))
    }

    /// The names of the directories directly below `top`; none where it is not there.
    fn names(&self, top: &str) -> Result<BTreeSet<String>> {
        let path = self.path.join(top);
        if !fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            return Ok(BTreeSet::new());
        }
        let names = list(&path)?.into_iter().filter_map(|name| match Name::of(name.as_bytes()) {
            Name::Good(name) if fs::symlink_metadata(path.join(&name)).is_ok_and(|meta| meta.is_dir()) => Some(name),
            _ => None,
        });
        Ok(names.filter(|name| !name.eq_ignore_ascii_case(".git")).collect())
    }

    fn too_large(&self, what: String) -> SourceError {
        SourceError::TooLarge { place: self.path.display().to_string(), what }
    }
}

/// The names in the directory `path`.
fn list(path: &Path) -> Result<Vec<std::ffi::OsString>> {
    let failed = |source| SourceError::Read { path: path.to_owned(), source };
    fs::read_dir(path).map_err(failed)?.map(|entry| entry.map(|entry| entry.file_name()).map_err(failed)).collect()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests lay out what is read")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fleet() -> tempfile::TempDir {
        let at = tempfile::tempdir().expect("tempdir");
        for directory in ["hosts/web-01/files/etc", "hosts/db/.git", "roles/base", "other"] {
            fs::create_dir_all(at.path().join(directory)).expect("mkdir");
        }
        for (file, content) in [
            ("trueup.toml", "format = 1\n"),
            ("hosts/web-01/host.toml", ""),
            ("hosts/web-01/files/etc/motd", "hi\n"),
            ("hosts/db/.git/config", ""),
            ("other/x", ""),
        ] {
            fs::write(at.path().join(file), content).expect("write");
        }
        std::os::unix::fs::symlink("/etc/shadow", at.path().join("hosts/web-01/files/etc/link")).expect("symlink");
        at
    }

    #[test]
    fn only_the_layers_asked_for_are_read_and_no_link_is_followed() {
        let at = fleet();
        fs::set_permissions(at.path().join("hosts/web-01/files/etc/motd"), fs::Permissions::from_mode(0o755))
            .expect("chmod");
        let mut directory = Directory::open(at.path()).expect("opens");
        let mut snapshot = directory.snapshot().expect("reads");
        assert_eq!(snapshot.revision.short(), "uncommitted");
        assert_eq!(snapshot.hosts, BTreeSet::from(["web-01".to_owned(), "db".to_owned()]));
        assert_eq!(snapshot.entries.keys().collect::<Vec<_>>(), ["trueup.toml"]);
        directory.read_layers(&mut snapshot, &["hosts/web-01".to_owned(), "roles/none".to_owned()]).expect("reads");
        assert_eq!(
            snapshot.entries.keys().collect::<Vec<_>>(),
            ["hosts/web-01/files/etc/link", "hosts/web-01/files/etc/motd", "hosts/web-01/host.toml", "trueup.toml"]
        );
        assert_eq!(
            snapshot.entries["hosts/web-01/files/etc/link"],
            Entry::Symlink { target: b"/etc/shadow"[..].into() }
        );
        let motd = Entry::File { content: b"hi\n"[..].into(), executable: true };
        assert_eq!(snapshot.entries["hosts/web-01/files/etc/motd"], motd);
    }

    #[test]
    fn git_s_own_directory_is_passed_over() {
        let at = fleet();
        let mut directory = Directory::open(at.path()).expect("opens");
        let mut snapshot = directory.snapshot().expect("reads");
        directory.read_layers(&mut snapshot, &["hosts/db".to_owned()]).expect("reads");
        assert_eq!(snapshot.entries.len(), 1, "{:?}", snapshot.entries.keys());
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = Directory::open(Path::new("/nowhere/fleet")).expect_err("not there");
        assert!(error.to_string().contains("cannot read /nowhere/fleet"), "{error}");
        assert_eq!(error.reason(), "cannot-read");
    }

    #[test]
    fn a_file_over_the_limit_is_not_read() {
        let at = fleet();
        let big = |extra: u64| {
            File::create(at.path().join("hosts/web-01/big"))
                .and_then(|file| file.set_len(LARGEST_BLOB + extra))
                .expect("sparse")
        };
        for (extra, too_large) in [(0, false), (1, true)] {
            big(extra);
            let mut directory = Directory::open(at.path()).expect("opens");
            let mut snapshot = directory.snapshot().expect("reads");
            directory.read_layers(&mut snapshot, &["hosts/web-01".to_owned()]).expect("reads");
            assert_eq!(snapshot.entries["hosts/web-01/big"] == Entry::TooLarge { size: LARGEST_BLOB + 1 }, too_large);
        }
    }
}
