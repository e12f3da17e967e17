//! A chain of commits from one that is believed: each is signed by somebody whom *all* its parents allow.
//!
//! Who may sign stands in the repository itself, in one file. What the parents of a commit say of that decides, never
//! what it says itself; where a parent has no such file, the signers that are configured on the host decide. So at a
//! merge only those may sign whom both sides allow. The file, once there, can be changed by those whom it names, and can
//! neither go away nor stop naming anybody. It is the rule of Guix, see "Specifying Channel Authorizations" in its manual.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::commit::Commit;
use super::{Refusal, Signed, Signers, Trust, believe};
use crate::model::{CommitId, Digest, Zone};

/// The most commits that are judged at once.
const MOST_COMMITS: usize = 50_000;
/// The most bytes of commits and files of signers that are held at once.
const MOST_BYTES: usize = 64 << 20;

/// Where commits come from.
pub trait History {
    /// Why a commit cannot be had.
    type Error;

    /// The commit `id`. It is asked for once.
    ///
    /// # Errors
    /// Where it cannot be had, or is not what its id says.
    fn commit(&mut self, id: &CommitId) -> Result<Link, Self::Error>;
}

/// One commit of a history, and what its file of signers holds: `None` where there is no such file. What is no regular
/// file, or too large to be read, is to be given as something that cannot be understood, and not as `None`.
#[derive(Debug, Clone)]
pub enum Link {
    /// It is believed already: the introduction, or what was judged before, or an ancestor of such a commit that
    /// descends from the introduction. What is before it is not looked at.
    Trusted {
        /// Who may sign after it.
        signers: Option<Arc<[u8]>>,
    },
    /// It is to be judged.
    New {
        /// As Git hashes it, without the header of the object. It has to be hashed already: its id is believed here.
        commit: Arc<[u8]>,
        /// Who may sign after it.
        signers: Option<Arc<[u8]>>,
    },
}

/// What a chain was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Who signed its last commit; `None` where that was believed already.
    pub signed: Option<Signed>,
    /// The commits that are believed now, and were not before, in an order in which parents come first.
    pub commits: Vec<CommitId>,
}

/// Why a chain is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ChainError<E> {
    /// A commit cannot be had.
    #[error(transparent)]
    History(E),
    /// A commit is not signed by somebody whom its parents allow.
    #[error("{}: {refusal}", commit.short())]
    Refused {
        /// Which.
        commit: CommitId,
        /// Why not.
        refusal: Refusal,
    },
    /// A commit takes the file of signers away.
    #[error("{} takes away the file of signers that its parent {} has; put it back there", commit.short(), parent.short())]
    SignersRemoved {
        /// Which.
        commit: CommitId,
        /// The parent that has it.
        parent: CommitId,
    },
    /// A commit leaves a file of signers that cannot be used.
    #[error("{} leaves signers that cannot be used: {why}", commit.short())]
    BadSigners {
        /// Which.
        commit: CommitId,
        /// What is wrong with them.
        why: Refusal,
    },
    /// A commit comes from nowhere that is believed.
    #[error("{} does not descend from a commit that is believed: it has no parent", commit.short())]
    Unrelated {
        /// Which.
        commit: CommitId,
    },
    /// There is more than is looked at.
    #[error("there are more than {limit} between {} and what is believed; name a later introduction", tip.short())]
    TooLarge {
        /// How much is looked at.
        limit: &'static str,
        /// Where it began.
        tip: CommitId,
    },
}

impl<E> ChainError<E> {
    /// The stable word for reports; `None` is what the history says itself.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::History(_) => None,
            Self::Refused { refusal, .. } => Some(refusal.reason()),
            Self::SignersRemoved { .. } => Some("signers-removed"),
            Self::BadSigners { .. } => Some("bad-signers"),
            Self::Unrelated { .. } => Some("unrelated-history"),
            Self::TooLarge { .. } => Some("too-large"),
        }
    }
}

/// Whether all commits from those that `history` says are trusted up to `tip` may be believed. `host` is what is
/// configured here: its signers decide where a parent has none of its own, its revocations everywhere. `zone` is that of
/// times in files of signers that name none, `now` the clock of this host in seconds since 1970.
///
/// # Errors
/// Why not, of the first commit in the order of history that is not believed.
pub fn judge<H: History>(
    history: &mut H,
    tip: &CommitId,
    host: &Trust,
    zone: &Zone,
    now: i64,
) -> Result<Judged, ChainError<H::Error>> {
    let graph = Graph::collect(history, tip)?;
    let mut court = Court { host, zone, now, signers: BTreeMap::new() };
    let mut judged = Judged { signed: None, commits: Vec::new() };
    for id in graph.in_order() {
        let signed = court.judge(&graph, id)?;
        judged.commits.push(id.clone());
        if id == tip {
            judged.signed = Some(signed);
        }
    }
    // With ids that are hashes there is no circle; if there were one, nothing of it was judged.
    if judged.commits.len() == graph.commits.values().filter(|node| node.raw.is_some()).count() {
        Ok(judged)
    } else {
        Err(ChainError::Unrelated { commit: tip.clone() })
    }
}

/// All commits from a tip to what is trusted.
struct Graph {
    commits: BTreeMap<CommitId, Node>,
    /// Contents of files of signers.
    files: BTreeMap<Digest, Arc<[u8]>>,
}

struct Node {
    /// `None` where it is trusted.
    raw: Option<Arc<[u8]>>,
    parents: BTreeSet<CommitId>,
    signers: Option<Digest>,
}

impl Graph {
    fn collect<H: History>(history: &mut H, tip: &CommitId) -> Result<Self, ChainError<H::Error>> {
        let mut graph = Self { commits: BTreeMap::new(), files: BTreeMap::new() };
        let mut wanted = vec![tip.clone()];
        let mut seen = BTreeSet::from([tip.clone()]);
        let mut bytes = 0;
        while let Some(id) = wanted.pop() {
            let (raw, signers) = match history.commit(&id).map_err(ChainError::History)? {
                Link::Trusted { signers } => (None, signers),
                Link::New { commit, signers } => (Some(commit), signers),
            };
            bytes += raw.as_ref().map_or(0, |raw| raw.len());
            let signers = signers.map(|content| {
                let digest = Digest::of(&content);
                if let Entry::Vacant(place) = graph.files.entry(digest) {
                    bytes += place.insert(content).len();
                }
                digest
            });
            let parents = match &raw {
                None => BTreeSet::new(),
                Some(raw) => parents(&id, raw)?,
            };
            wanted.extend(parents.iter().filter(|parent| seen.insert((*parent).clone())).cloned());
            let node = Node { raw, parents, signers };
            graph.commits.insert(id, node);
            if seen.len() > MOST_COMMITS {
                return Err(ChainError::TooLarge { limit: "50000 commits", tip: tip.clone() });
            }
            if bytes > MOST_BYTES {
                return Err(ChainError::TooLarge { limit: "64 MiB of commits", tip: tip.clone() });
            }
        }
        Ok(graph)
    }

    /// The commits that are not trusted, parents first.
    fn in_order(&self) -> impl Iterator<Item = &CommitId> {
        let new = |id: &CommitId| self.commits[id].raw.is_some();
        let mut children: BTreeMap<&CommitId, Vec<&CommitId>> = BTreeMap::new();
        let mut waits: BTreeMap<&CommitId, usize> = BTreeMap::new();
        for (id, node) in self.commits.iter().filter(|(_, node)| node.raw.is_some()) {
            let before: Vec<&CommitId> = node.parents.iter().filter(|parent| new(parent)).collect();
            waits.insert(id, before.len());
            before.into_iter().for_each(|parent| children.entry(parent).or_default().push(id));
        }
        let mut ready: Vec<&CommitId> = waits.iter().filter(|(_, before)| **before == 0).map(|(id, _)| *id).collect();
        std::iter::from_fn(move || {
            let id = ready.pop()?;
            for child in children.remove(id).unwrap_or_default() {
                if let Some(before) = waits.get_mut(child) {
                    *before -= 1;
                    if *before == 0 {
                        ready.push(child);
                    }
                }
            }
            Some(id)
        })
    }
}

fn parents<E>(id: &CommitId, raw: &[u8]) -> Result<BTreeSet<CommitId>, ChainError<E>> {
    match Commit::of(raw, kind(id)) {
        Ok(commit) => Ok(commit.parents.into_iter().collect()),
        Err(refusal) => Err(ChainError::Refused { commit: id.clone(), refusal }),
    }
}

/// What commits are judged by.
struct Court<'a> {
    host: &'a Trust,
    zone: &'a Zone,
    now: i64,
    /// What files of signers say, by their content.
    signers: BTreeMap<Digest, Result<Signers, Refusal>>,
}

impl Court<'_> {
    fn judge<E>(&mut self, graph: &Graph, id: &CommitId) -> Result<Signed, ChainError<E>> {
        let Node { raw, parents, signers: own } = &graph.commits[id];
        let raw = raw.as_deref().unwrap_or_default();
        let (host, now) = (self.host, self.now);
        let mut signed = None;
        let mut asked = BTreeSet::new();
        for parent in parents {
            let theirs = graph.commits[parent].signers;
            if theirs.is_some() && own.is_none() {
                return Err(ChainError::SignersRemoved { commit: id.clone(), parent: parent.clone() });
            }
            if asked.insert(theirs) {
                let signers = match theirs {
                    None => &host.signers,
                    Some(digest) => self.read(graph, digest, parent)?,
                };
                let refused = |refusal| ChainError::Refused { commit: id.clone(), refusal };
                signed = Some(believe(raw, kind(id), signers, &host.revoked, now).map_err(refused)?);
            }
        }
        let signed = signed.ok_or_else(|| ChainError::Unrelated { commit: id.clone() })?;
        // Only now: what somebody wrote who may not is not even read.
        if let Some(digest) = own {
            self.read(graph, *digest, id)?;
        }
        Ok(signed)
    }

    /// What the file of signers with `digest` says, as it stands in `commit`.
    fn read<E>(&mut self, graph: &Graph, digest: Digest, commit: &CommitId) -> Result<&Signers, ChainError<E>> {
        let read = self.signers.entry(digest).or_insert_with(|| {
            Signers::parse(&format!("the signers as of {}", commit.short()), &graph.files[&digest], self.zone)
        });
        read.as_ref().map_err(|why| ChainError::BadSigners { commit: commit.clone(), why: why.clone() })
    }
}

fn kind(id: &CommitId) -> gix_hash::Kind {
    if id.as_str().len() == 40 { gix_hash::Kind::Sha1 } else { gix_hash::Kind::Sha256 }
}

#[cfg(test)]
mod tests;
