use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::health::SharedHealth;
use super::objects::{self, Name, Node, TreeEntry};
use super::pipe::{Pipe, Received};
use super::{
    BadName, DEEPEST, Entry, Had, LONGEST_PATH, MOST_ENTRIES, MOST_NAMES, Record, Snapshot, SourceError, still,
};
use crate::config::SourceSettings;
use crate::host::Worker;
use crate::model::{Class, CommitId, Revision, one_line};
use crate::worker::protocol::{Kind, ObjectName, Open, Place, Walls};

mod errand;
mod history;

use errand::Errand;
pub use errand::walls;
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
    /// The commit that is read, as Git hashes it.
    raw: Vec<u8>,
    /// The commit that is read: the tip, unless it was turned to another.
    revision: Revision,
    tree: ObjectName,
    /// The fleet repository within the repository.
    path: String,
    /// The file of signers that was read last.
    signers: Option<(ObjectName, Arc<[u8]>)>,
    /// By path: `hosts/web-01` → its tree.
    layers: BTreeMap<String, ObjectName>,
    /// How many files and directories were read.
    entries: usize,
    /// How long their paths are together, in bytes.
    named: usize,
}

/// What is known before a source is looked at.
pub struct Known<'a> {
    /// How its URLs did.
    pub health: &'a SharedHealth,
    /// Where its branches were.
    pub record: &'a Record,
    /// What a tip has to contain.
    pub floor: Option<&'a CommitId>,
    /// Seconds since 1970.
    pub clock: &'a dyn Fn() -> i64,
    /// For how long, in seconds, a URL may be silent before what others answer instead is refused: they may be mirrors
    /// that lag behind.
    pub patience: i64,
}

/// A leaf whose content is still to come.
struct Leaf {
    path: String,
    id: ObjectName,
    node: Node,
}

impl Source {
    /// Looks at the branch at the first of the URLs that answers; `worker` is how fetch workers are started here.
    ///
    /// # Errors
    /// What the last URL said, with what the others said.
    pub fn open(settings: &SourceSettings, worker: &Worker) -> Result<Self> {
        let (health, record) = (SharedHealth::default(), Record::default());
        Self::seek(
            settings,
            worker,
            &Known { health: &health, record: &record, floor: None, clock: &|| 0, patience: 0 },
        )
    }

    /// Looks at the branch at the first of the URLs that answers with a tip which may be acted on as far as history
    /// goes, in the order of their health, which learns how they did. Where no tip may be acted on it is that of the most
    /// preferred URL which answered: why it may not is for the caller to tell.
    ///
    /// # Errors
    /// What the last URL that did not answer said, with what the others said, where none answered, or one is silent that
    /// is still waited for.
    pub fn seek(settings: &SourceSettings, worker: &Worker, known: &Known<'_>) -> Result<Self> {
        let Known { health, record, floor, clock, patience } = known;
        let several = settings.urls.len() > 1;
        let mut others = BTreeMap::new();
        let mut refused: Option<(usize, Self)> = None;
        for at in health.order(&settings.urls, clock()) {
            let url = &settings.urls[at];
            let mut source =
                match Errand::new(settings, url, worker).and_then(|errand| errand.run(settings, url, worker)) {
                    Ok(source) => source,
                    Err(error) => {
                        health.failed(url, clock(), &error);
                        others.insert(at, error);
                        continue;
                    }
                };
            // There is nothing that one URL alone could be passed over for.
            let judged = if several { source.only_forward(record, *floor) } else { Ok(()) };
            match judged {
                Ok(()) => {
                    health.succeeded(url);
                    return Ok(source);
                }
                Err(why) => health.failed(url, clock(), &why),
            }
            if refused.as_ref().is_none_or(|(preferred, _)| at < *preferred) {
                refused = Some((at, source));
            }
        }
        let (now, how) = (clock(), health.now());
        let waited_for = |(at, error): (&usize, &SourceError)| {
            let since = how.failing(&settings.urls[*at]).map_or(now, |failing| failing.since);
            error.class() == Class::Transient && now.saturating_sub(since) < *patience
        };
        if let Some((_, source)) = refused
            && !others.iter().any(waited_for)
        {
            return Ok(source);
        }
        // In the order of the settings, so that the same trouble is told the same way whatever was asked first.
        let mut others: Vec<SourceError> = others.into_values().collect();
        Err(match (others.pop(), others.is_empty()) {
            (None, _) => SourceError::Settings("source.url names nothing".to_owned()),
            (Some(last), true) => last,
            (Some(last), false) => SourceError::AllFailed { others, last: Box::new(last) },
        })
    }

    /// Looks at what is checked out in the repository `directory`, which somebody named on the command line. Where that
    /// is still what was `had`, no worker is sent out before something else of it is read.
    pub(super) fn head(directory: &Path, path: &str, worker: &Worker, had: Option<Had<'_>>) -> Result<Self> {
        const LIMIT: Duration = Duration::from_secs(300);
        let text = text(directory)?;
        let wall = errand::of_somebody(directory);
        let open = Open { place: Place::Local { directory: text.clone() }, branch: "HEAD".to_owned() };
        if let Some(had) = had.filter(|had| still::is_still_at(directory, had.commit)) {
            let (name, content) = (objects::name(had.commit), had.raw.as_bytes());
            // What we kept of it is believed as little as what comes.
            if objects::check(name, Kind::Commit, content).is_ok() {
                let branch = open.branch.clone();
                return Self::at(Pipe::later(worker, wall, open, LIMIT), branch, (name, content.to_vec()), path);
            }
        }
        Self::over(Pipe::start(worker, &wall, None, &text, LIMIT)?, open, path)
    }

    pub(super) fn over(mut pipe: Pipe, open: Open, path: &str) -> Result<Self> {
        let branch = open.branch.clone();
        let tip = pipe.open(open)?;
        let content = pipe.object(tip, Kind::Commit)?;
        Self::at(pipe, branch, (tip, content), path)
    }

    /// The branch is at `tip`, whose content is that of its id.
    fn at(pipe: Pipe, branch: String, (tip, content): (ObjectName, Vec<u8>), path: &str) -> Result<Self> {
        let commit = objects::commit(tip, &content).map_err(|why| pipe.corrupt(tip, &why))?;
        Ok(Self {
            pipe,
            branch,
            tip,
            tree: commit.tree,
            tip_revision: commit.revision.clone(),
            raw: content,
            revision: commit.revision,
            path: path.to_owned(),
            signers: None,
            layers: BTreeMap::new(),
            entries: 0,
            named: 0,
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

    /// What stands around the fetch worker.
    pub fn walls(&self) -> Option<Walls> {
        self.pipe.walls()
    }

    /// The commit that is read, as Git hashes it, without the header of the object.
    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// By what its ids are hashed.
    pub(super) fn hash(&self) -> gix_hash::Kind {
        objects::hash(self.tip)
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
                let (name, bad) = match entry.name {
                    Name::Bad(name, why) => (name, Some(why)),
                    Name::Good(name) => (name, None),
                };
                let path = format!("{path}/{name}");
                self.named += path.len();
                if self.named > MOST_NAMES {
                    return Err(
                        self.too_large(format!("the paths that this host uses have more than {MOST_NAMES} bytes"))
                    );
                }
                let bad = bad.or_else(|| (path.len() > LONGEST_PATH).then_some(BadName::TooLong));
                match (bad, entry.node) {
                    (Some(why), _) => drop(snapshot.entries.insert(path, Entry::BadName(why))),
                    (None, Node::Directory) => below.push((path, entry.id)),
                    (None, Node::Submodule) => drop(snapshot.entries.insert(path, Entry::Submodule)),
                    (None, node) => leaves.push(Leaf { path, id: entry.id, node }),
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
                (Ok(content), Node::Symlink) if content.len() > LONGEST_PATH => {
                    Entry::TooLarge { size: content.len() as u64 }
                }
                (Ok(content), Node::Symlink) => Entry::Symlink { target: Arc::clone(content) },
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
        self.root_of(self.tree)
    }

    /// The tree of the fleet repository in the tree `at` of a commit, where it is there.
    fn root_of(&mut self, mut at: ObjectName) -> Result<Option<ObjectName>> {
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

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| SourceError::Settings(format!("{} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests;
