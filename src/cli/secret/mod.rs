//! Secrets, for who writes the repository: encrypted to the hosts that need them and to whom `trueup.toml` names.

use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::compile::{self, Readers};
use crate::host::{self, Instead};
use crate::model::one_line;
use crate::secret::{self as age, Header, Identity, Plain, Recipient};
use crate::source::{Entry, Origin, Snapshot};

mod edit;
mod encrypt;
mod rekey;
mod show;

/// Encrypt, read and change secrets of a fleet repository.
#[derive(Debug, Args)]
pub(super) struct Secret {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a secret: to every host that has it, and to the recipients of trueup.toml
    Encrypt(encrypt::Encrypt),
    /// Change a secret in $EDITOR; what it holds stays in memory
    Edit(edit::Edit),
    /// Encrypt secrets anew, to whom has to read them now
    Rekey(rekey::Rekey),
    /// Print what a secret holds
    Show(show::Show),
}

impl Secret {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        anyhow::ensure!(age::SUPPORTED, "this trueup was built without the feature `secrets`");
        // Before the first of it is read.
        host::hide();
        host::Scratch::sweep();
        match &self.verb {
            Verb::Encrypt(verb) => verb.run(),
            Verb::Edit(verb) => verb.run(),
            Verb::Rekey(verb) => verb.run(),
            Verb::Show(verb) => verb.run(),
        }
    }
}

/// Whose key opens what is there.
#[derive(Debug, Args)]
struct Key {
    /// The private key that opens it, of SSH or age [default: $TRUEUP_IDENTITY, ~/.ssh/id_ed25519, ~/.ssh/id_rsa,
    /// ~/.config/age/keys.txt, whichever is there]
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

impl Key {
    fn identity(&self) -> anyhow::Result<Identity> {
        let named = self.identity.clone().or_else(|| std::env::var_os("TRUEUP_IDENTITY").map(PathBuf::from));
        if let Some(path) = named {
            let found = host::identity_file(&path).map_err(anyhow::Error::msg)?;
            return found.with_context(|| format!("there is no {}", path.display()));
        }
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let (mut found, mut wrong): (Option<Identity>, Vec<String>) = (None, Vec::new());
        for path in [".ssh/id_ed25519", ".ssh/id_rsa", ".config/age/keys.txt"].map(|path| home.join(path)) {
            match host::identity_file(&path) {
                Ok(None) => {}
                Ok(Some(read)) => {
                    found = Some(match found {
                        Some(found) => found.and(read),
                        None => read,
                    });
                }
                Err(why) => wrong.push(why),
            }
        }
        found.with_context(|| match wrong.is_empty() {
            true => "there is no key to open secrets with: name one with --identity or TRUEUP_IDENTITY".to_owned(),
            false => wrong.join("; "),
        })
    }
}

/// A fleet repository as it stands on disk, every layer read.
struct Fleet {
    root: PathBuf,
    snapshot: Snapshot,
}

impl Fleet {
    /// That which `below` lies in.
    fn around(below: &Path) -> anyhow::Result<Self> {
        let root = below.ancestors().find(|path| path.join("trueup.toml").is_file());
        let root =
            root.with_context(|| format!("{} is in no fleet repository: no trueup.toml above it", below.display()))?;
        let mut origin = Origin::work_tree(root, "")?;
        let mut snapshot = origin.snapshot()?;
        let layers = |kind: &str, names: &std::collections::BTreeSet<String>| {
            names.iter().map(|name| format!("{kind}/{name}")).collect::<Vec<_>>()
        };
        let every = [layers("hosts", &snapshot.hosts), layers("roles", &snapshot.roles)].concat();
        origin.read_layers(&mut snapshot, &every)?;
        Ok(Self { root: root.to_owned(), snapshot })
    }

    /// The repository that `file` lies in, and its path there.
    fn of(file: &Path) -> anyhow::Result<(Self, String)> {
        let file = std::path::absolute(file)?;
        anyhow::ensure!(
            !file.components().any(|part| part == Component::ParentDir),
            "{}: write the path without ..",
            file.display()
        );
        let fleet = Self::around(file.parent().unwrap_or(&file))?;
        let path = file.strip_prefix(&fleet.root).ok().and_then(Path::to_str).map(str::to_owned);
        let path = path.with_context(|| format!("{} is not UTF-8", file.display()))?;
        host::follows_no_link(&fleet.root, &path)?;
        Ok((fleet, path))
    }

    /// Who has to be able to read the secret at `path`; those who cannot be told of are told on standard error.
    fn readers(&self, path: &str) -> anyhow::Result<Readers> {
        let readers =
            compile::readers(&self.snapshot, path).map_err(|why| anyhow::anyhow!("{} {why}", one_line(path, 200)))?;
        for host in &readers.nameless {
            let host = one_line(host, 100);
            super::tell(&format!(
                "trueup: hosts/{host} has {} and cannot read it: put its /etc/ssh/ssh_host_ed25519_key.pub into \
                 hosts/{host}/host.toml as `recipient` in [secrets], and rekey\n",
                one_line(path, 200)
            ));
        }
        anyhow::ensure!(
            !readers.known.is_empty(),
            "nobody could read {}: name keys as `recipients` in [secrets] of trueup.toml, or as `recipient` in that of a host.toml",
            one_line(path, 200)
        );
        Ok(readers)
    }

    /// The file at `path`, encrypted.
    fn sealed(&self, path: &str) -> anyhow::Result<&[u8]> {
        match self.snapshot.entries.get(path) {
            Some(Entry::File { content, .. }) => {
                Header::read(content).map_err(|why| anyhow::anyhow!("{}: {why}", one_line(path, 200)))?;
                Ok(content)
            }
            Some(Entry::TooLarge { size }) => anyhow::bail!(
                "{} has {size} bytes, and a file of a fleet at most {} (16 MiB), so nobody opens it: encrypt it again, with less",
                one_line(path, 200),
                compile::FILE_LIMIT
            ),
            _ => anyhow::bail!("there is no file {} in {}", one_line(path, 200), self.root.display()),
        }
    }

    fn open(&self, path: &str, identity: &Identity) -> anyhow::Result<Plain> {
        let sealed = self.sealed(path)?;
        identity.open(sealed).with_context(|| format!("cannot open {}", one_line(path, 200)))
    }

    /// What is at `path` since this was read, or nothing is, where nobody has changed it.
    fn unchanged(&self, path: &str) -> Instead<'_> {
        match self.snapshot.entries.get(path) {
            Some(Entry::File { content, .. }) => Instead::This(content),
            _ => Instead::Nothing,
        }
    }

    /// Writes `plain`, encrypted to `readers`, to `path`.
    fn write(&self, path: &str, plain: &[u8], readers: &Readers, instead: Instead<'_>) -> anyhow::Result<()> {
        let to: std::collections::BTreeSet<Recipient> =
            readers.known.iter().map(|reader| reader.recipient.clone()).collect();
        let to: Vec<Recipient> = to.into_iter().collect();
        let sealed = age::seal(plain, &to, true).and_then(|sealed| fits(sealed.len() as u64).map(|()| sealed));
        let sealed = sealed.map_err(|why| anyhow::anyhow!("{} is not written: {why}", one_line(path, 200)))?;
        Ok(host::replace_file(&self.root, path, &sealed, instead)?)
    }

    /// Every secret in a tree, one that is too large too.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let there = self.snapshot.entries.iter().filter(|(path, entry)| {
            matches!(entry, Entry::File { .. } | Entry::TooLarge { .. }) && compile::is_of_secret(&self.snapshot, path)
        });
        there.map(|(path, _)| path.as_str())
    }
}

/// Whether a secret that has `size` bytes encrypted can be in a fleet; why not, where it cannot.
fn fits(size: u64) -> Result<(), String> {
    match size <= compile::FILE_LIMIT {
        true => Ok(()),
        false => Err(format!(
            "encrypted it would have {size} bytes, and a file of a fleet has at most {} (16 MiB)",
            compile::FILE_LIMIT
        )),
    }
}

/// Who can read it, for people: `hosts/web-01/host.toml and 2 others`.
fn names(readers: &Readers) -> Vec<String> {
    let known = readers.known.iter();
    known.map(|reader| format!("{} ({})", reader.manifest, reader.recipient.fingerprint())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_as_large_as_any_file_of_a_fleet_at_most() {
        assert_eq!(fits(compile::FILE_LIMIT), Ok(()));
        let why = fits(compile::FILE_LIMIT + 1).expect_err("one byte more");
        assert!(why.contains("16777217 bytes") && why.contains("at most 16777216 (16 MiB)"), "{why}");
    }
}
