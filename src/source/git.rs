use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::objects::{self, Name, Node, TreeEntry};
use super::pipe::{Pipe, Received};
use super::{DEEPEST, Entry, MOST_ENTRIES, Snapshot, SourceError};
use crate::config::{SourceSettings, Transport, transport};
use crate::host::StateDir;
use crate::model::{Digest, Revision, one_line};
use crate::worker::protocol::{Kind, ObjectName, Open, Place, Remote, Secret};

mod history;

pub use history::{Back, Stands};

type Result<T> = std::result::Result<T, SourceError>;

/// One branch of one repository, looked at. The worker behind it lives as long as this does.
#[derive(Debug)]
pub struct Source {
    pipe: Pipe,
    branch: String,
    /// The commit that the branch names.
    tip: ObjectName,
    tip_revision: Revision,
    /// The commit that is read: the tip, unless it was turned to another.
    revision: Revision,
    tree: ObjectName,
    /// The fleet repository within the repository.
    path: String,
    /// By path: `hosts/web-01` → its tree.
    layers: BTreeMap<String, ObjectName>,
    /// How many files and directories were read.
    entries: usize,
}

/// A leaf whose content is still to come.
struct Leaf {
    path: String,
    id: ObjectName,
    node: Node,
}

impl Source {
    /// Looks at the branch at the first of the URLs that answers; the clone of it is kept in `state`.
    /// `executable` is this program, which is also the worker.
    ///
    /// # Errors
    /// What the last URL said, with what the others said.
    pub fn open(settings: &SourceSettings, state: &StateDir, executable: &Path) -> Result<Self> {
        let mut others = Vec::new();
        for url in &settings.urls {
            match place(settings, url, state).and_then(|place| Self::at(place, settings, url, executable)) {
                Ok(source) => return Ok(source),
                Err(error) => others.push(error),
            }
        }
        Err(match (others.pop(), others.is_empty()) {
            (None, _) => SourceError::Settings("source.url names nothing".to_owned()),
            (Some(last), true) => last,
            (Some(last), false) => SourceError::AllFailed { others, last: Box::new(last) },
        })
    }

    /// Looks at what is checked out in the repository `directory`.
    pub(super) fn head(directory: &Path, path: &str, executable: &Path) -> Result<Self> {
        const LIMIT: Duration = Duration::from_secs(300);
        let text = text(directory)?;
        let pipe = Pipe::start(executable, &text, LIMIT)?;
        Self::over(pipe, Open { place: Place::Local { directory: text }, branch: "HEAD".to_owned() }, path)
    }

    fn at(place: Place, settings: &SourceSettings, url: &str, executable: &Path) -> Result<Self> {
        let pipe = Pipe::start(executable, url, settings.timeout)?;
        Self::over(pipe, Open { place, branch: settings.branch.clone() }, &settings.path)
    }

    pub(super) fn over(mut pipe: Pipe, open: Open, path: &str) -> Result<Self> {
        let branch = open.branch.clone();
        let tip = pipe.open(open)?;
        let content = pipe.object(tip, Kind::Commit)?;
        let commit = objects::commit(tip, &content).map_err(|why| pipe.corrupt(tip, &why))?;
        Ok(Self {
            pipe,
            branch,
            tip,
            tree: commit.tree,
            tip_revision: commit.revision.clone(),
            revision: commit.revision,
            path: path.to_owned(),
            layers: BTreeMap::new(),
            entries: 0,
        })
    }

    /// The commit that the branch names.
    pub fn tip(&self) -> &Revision {
        &self.tip_revision
    }

    /// The commit that is read: the tip, unless it was turned to another.
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// The URL or directory that it was found at.
    pub fn place(&self) -> &str {
        self.pipe.place()
    }

    /// The fleet repository within the repository; empty for its root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The branch that is followed; `HEAD` where that was asked for.
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// The root of the fleet repository: `trueup.toml`, and the names of hosts and roles.
    ///
    /// # Errors
    /// Where an object is not to be had, or is not what its id says.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot {
            revision: self.revision.clone(),
            hosts: BTreeSet::new(),
            roles: BTreeSet::new(),
            layers: BTreeSet::new(),
            entries: BTreeMap::new(),
        };
        let Some(root) = self.root()? else { return Ok(snapshot) };
        let mut leaves = Vec::new();
        for entry in self.tree(root)? {
            let Name::Good(name) = entry.name else { continue };
            match (name.as_str(), entry.node) {
                ("hosts", Node::Directory) => snapshot.hosts = self.names("hosts", entry.id)?,
                ("roles", Node::Directory) => snapshot.roles = self.names("roles", entry.id)?,
                ("trueup.toml", Node::Submodule) => drop(snapshot.entries.insert(name, Entry::Submodule)),
                ("trueup.toml", Node::File { .. } | Node::Symlink) => {
                    leaves.push(Leaf { path: name, id: entry.id, node: entry.node })
                }
                _ => {}
            }
        }
        self.read(leaves, &mut snapshot)?;
        Ok(snapshot)
    }

    /// Reads the whole of `layers` (`hosts/web-01`) into `snapshot`, and nothing else of the revision.
    /// One that is not there has no entries.
    ///
    /// # Errors
    /// Where an object is not to be had, is not what its id says, or there is too much of it all.
    pub fn read_layers(&mut self, snapshot: &mut Snapshot, layers: &[String]) -> Result<()> {
        let mut level: Vec<(String, ObjectName)> = Vec::new();
        for layer in layers {
            if snapshot.layers.insert(layer.clone()) {
                level.extend(self.layers.get(layer).map(|tree| (layer.clone(), *tree)));
            }
        }
        let mut leaves = Vec::new();
        for depth in 0.. {
            if level.is_empty() {
                break;
            }
            if depth > DEEPEST {
                return Err(
                    self.too_large(format!("{} is nested more than {DEEPEST} deep", one_line(&level[0].0, 200)))
                );
            }
            level = self.descend(&level, &mut leaves, snapshot)?;
        }
        self.read(leaves, snapshot)
    }

    /// Reads the directories of one level: their leaves into `leaves`, their directories back.
    fn descend(
        &mut self,
        level: &[(String, ObjectName)],
        leaves: &mut Vec<Leaf>,
        snapshot: &mut Snapshot,
    ) -> Result<Vec<(String, ObjectName)>> {
        let mut wanted: Vec<ObjectName> = level.iter().map(|(_, tree)| *tree).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let contents = self.contents(&wanted, Kind::Tree)?;
        let mut below = Vec::new();
        for (path, tree) in level {
            let Some(Received::Content(content)) = contents.get(tree) else {
                return Err(self.pipe.corrupt(*tree, "is not there"));
            };
            for entry in self.parsed(*tree, content, path)? {
                self.entries += 1;
                if self.entries > MOST_ENTRIES {
                    return Err(self
                        .too_large(format!("what this host uses has more than {MOST_ENTRIES} files and directories")));
                }
                match (entry.name, entry.node) {
                    (Name::Bad(name, why), _) => {
                        drop(snapshot.entries.insert(format!("{path}/{name}"), Entry::BadName(why)))
                    }
                    (Name::Good(name), Node::Directory) => below.push((format!("{path}/{name}"), entry.id)),
                    (Name::Good(name), Node::Submodule) => {
                        drop(snapshot.entries.insert(format!("{path}/{name}"), Entry::Submodule))
                    }
                    (Name::Good(name), node) => {
                        leaves.push(Leaf { path: format!("{path}/{name}"), id: entry.id, node })
                    }
                }
            }
        }
        Ok(below)
    }

    /// Reads the contents of `leaves`; equal ones once.
    fn read(&mut self, leaves: Vec<Leaf>, snapshot: &mut Snapshot) -> Result<()> {
        let mut wanted: Vec<ObjectName> = leaves.iter().map(|leaf| leaf.id).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let shared: BTreeMap<ObjectName, std::result::Result<Arc<[u8]>, u64>> = self
            .contents(&wanted, Kind::Blob)?
            .into_iter()
            .map(|(id, received)| match received {
                Received::Content(content) => (id, Ok(Arc::from(content))),
                Received::TooLarge(size) => (id, Err(size)),
            })
            .collect();
        for leaf in leaves {
            let entry = match (&shared[&leaf.id], leaf.node) {
                (Err(size), _) => Entry::TooLarge { size: *size },
                (Ok(content), Node::Symlink) => Entry::Symlink { target: content.to_vec() },
                (Ok(content), node) => {
                    Entry::File { content: Arc::clone(content), executable: node == Node::File { executable: true } }
                }
            };
            snapshot.entries.insert(leaf.path, entry);
        }
        Ok(())
    }

    fn contents(&mut self, wanted: &[ObjectName], kind: Kind) -> Result<BTreeMap<ObjectName, Received>> {
        let asked: Vec<(ObjectName, Kind)> = wanted.iter().map(|id| (*id, kind)).collect();
        Ok(wanted.iter().copied().zip(self.pipe.objects(&asked)?).collect())
    }

    /// The tree of the fleet repository, where it is there.
    fn root(&mut self) -> Result<Option<ObjectName>> {
        let mut at = self.tree;
        let path = self.path.clone();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let below = self
                .tree(at)?
                .into_iter()
                .find(|entry| entry.node == Node::Directory && matches!(&entry.name, Name::Good(name) if name == part));
            match below {
                Some(entry) => at = entry.id,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The names of the directories directly in `tree`, which is at `path`.
    fn names(&mut self, path: &str, tree: ObjectName) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for entry in self.tree(tree)? {
            if let (Name::Good(name), Node::Directory) = (entry.name, entry.node) {
                self.layers.insert(format!("{path}/{name}"), entry.id);
                names.insert(name);
            }
        }
        Ok(names)
    }

    fn tree(&mut self, id: ObjectName) -> Result<Vec<TreeEntry>> {
        let content = self.pipe.object(id, Kind::Tree)?;
        self.parsed(id, &content, "")
    }

    fn parsed(&self, id: ObjectName, content: &[u8], path: &str) -> Result<Vec<TreeEntry>> {
        let at = if path.is_empty() { String::new() } else { format!(" ({path})") };
        objects::tree(id, content).map_err(|why| self.pipe.corrupt(id, &format!("{why}{at}")))
    }

    fn too_large(&self, what: String) -> SourceError {
        SourceError::TooLarge { place: self.pipe.place().to_owned(), what }
    }
}

/// What the worker has to know to reach `url`.
fn place(settings: &SourceSettings, url: &str, state: &StateDir) -> Result<Place> {
    let transport = transport(url).map_err(|why| SourceError::Settings(format!("a URL of the source {why}")))?;
    if let Transport::Local(directory) = &transport {
        return Ok(Place::Local { directory: text(directory)? });
    }
    if transport.is_insecure() && !settings.allow_insecure {
        let message = format!(
            "{url}: anybody on the way can change what is fetched; set source.allow_insecure = true to take it all the same"
        );
        return Err(SourceError::of_worker("insecure", &message));
    }
    let login = match &settings.token_file {
        Some(file) if transport == Transport::Https => Some(login(file)?),
        _ => None,
    };
    let optional = |path: &Option<std::path::PathBuf>| path.as_deref().map_or(Ok(String::new()), text);
    let name = |url: &str| Digest::of(format!("{url}\n{}", settings.branch).as_bytes()).to_string()[..24].to_owned();
    let cache = state.directory("clone")?.join(name(url));
    Ok(Place::Remote(Remote {
        url: url.to_owned(),
        cache: text(&cache)?,
        beside: settings.urls.iter().filter(|other| *other != url).map(|other| name(other)).collect(),
        insecure: settings.allow_insecure,
        ca_file: optional(&settings.ca_file)?,
        login,
        ssh_key: optional(&settings.ssh_key)?,
        known_hosts: text(&settings.known_hosts)?,
    }))
}

/// The token in `file`, or `USER:TOKEN`. Servers that take a token take it with any user name.
fn login(file: &Path) -> Result<(String, Secret)> {
    const LONGEST: u64 = 8 << 10;
    let failed = |source| SourceError::Read { path: file.to_owned(), source };
    let open = File::open(file).map_err(failed)?;
    if open.metadata().map_err(failed)?.mode() & 0o007 != 0 {
        return Err(SourceError::Settings(format!(
            "{} can be read by everybody on this host: chmod 600 it",
            file.display()
        )));
    }
    let mut token = String::new();
    open.take(LONGEST).read_to_string(&mut token).map_err(failed)?;
    let token = token.trim();
    if token.is_empty() || token.chars().any(char::is_control) {
        return Err(SourceError::Settings(format!("{} does not hold one token", file.display())));
    }
    let (user, secret) = token.split_once(':').unwrap_or(("x-token-auth", token));
    Ok((user.to_owned(), Secret(secret.to_owned())))
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| SourceError::Settings(format!("{} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests;
