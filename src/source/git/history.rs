//! How commits stand to each other. Every commit on a way is hashed here, from one that is believed already, so
//! that nobody can pretend that one contains another; a worker that lies can only deny it.

use std::sync::Arc;

use super::super::objects::{Name, Node, TreeEntry};
use super::super::pipe::Received;
use super::super::{Record, SourceError, judge};
use super::{Result, Source, objects};
use crate::model::CommitId;
use crate::worker::protocol::{Kind, ObjectName};

/// How a commit that somebody chose stands to what was acted on before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// It is that, or contains it: going there is going forward.
    Ahead,
    /// It does not contain it.
    Behind,
}

/// How many commits of a way are held at once: nobody knows yet who made them.
const AT_ONCE: usize = 16;
/// The largest file of signers, in bytes.
const LARGEST_SIGNERS: usize = 1 << 20;

/// What a file of signers holds; `None` where there is none.
type FileOfSigners = Option<Arc<[u8]>>;

/// A commit that root goes back to is one that this host may have.
#[derive(Debug)]
pub struct Back {
    /// How it stands to what was acted on before.
    pub stands: Stands,
    /// It is in the history of the branch as far as this host has followed it, and not only in that of the tip.
    pub followed: bool,
    /// Why the tip itself may not be acted on, where it may not.
    pub refused: Option<SourceError>,
}

impl Source {
    /// Whether the tip is `id`, or has it as an ancestor.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn descends_from(&mut self, id: &CommitId) -> Result<bool> {
        self.way(self.tip, objects::name(id))
    }

    /// Whether the tip may be acted on as far as history goes: it contains what was acted on before, and
    /// the floor, where there is one.
    ///
    /// # Errors
    /// `not-a-descendant`, `below-floor`, or where it cannot be told.
    pub fn only_forward(&mut self, record: &Record, floor: Option<&CommitId>) -> Result<()> {
        if let Some(floor) = floor
            && !self.descends_from(floor)?
        {
            let (branch, to) = (self.branch.clone(), objects::commit_id(self.tip));
            return Err(SourceError::BelowFloor { branch, to: to.short().to_owned(), floor: floor.short().to_owned() });
        }
        let known = record.branch(&self.branch);
        let contains = known.anchor().map(|anchor| self.descends_from(anchor)).transpose()?.unwrap_or(true);
        judge(&self.branch, &known, &objects::commit_id(self.tip), contains)
    }

    /// How `commit`, which was approved, stands to what was acted on before. The tip has to be judged already.
    ///
    /// # Errors
    /// `no-such-commit`, `not-in-history` or `below-floor` where nobody may go there, or where it cannot be told.
    pub fn approved(&mut self, commit: &CommitId, record: &Record, floor: Option<&CommitId>) -> Result<Stands> {
        if !self.descends_from(commit)? {
            return Err(self.unknown(commit));
        }
        self.above_floor(commit, floor)?;
        self.stands(commit, record)
    }

    /// Whether root may go back to `commit`: it is in the history of the branch as far as this host has followed
    /// it, or of a tip that may be acted on. A branch that was rewritten since is told, and hinders nothing.
    ///
    /// # Errors
    /// `no-such-commit`, `not-in-history` or `below-floor` where it may not, why the tip is refused where only that
    /// keeps it from being told, or where it cannot be told.
    pub fn back_to(&mut self, commit: &CommitId, record: &Record, floor: Option<&CommitId>) -> Result<Back> {
        let refused = match self.only_forward(record, floor) {
            Ok(()) => None,
            Err(refused @ (SourceError::NotADescendant { .. } | SourceError::BelowFloor { .. })) => Some(refused),
            Err(error) => return Err(error),
        };
        let known = record.branch(&self.branch);
        let followed = match known.anchor() {
            // What root's word has brought here before is proven, though the way to it may be lost.
            Some(_) if known.acted_on() == Some(commit) => true,
            Some(anchor) => self.way(objects::name(anchor), objects::name(commit))?,
            None => false,
        };
        let proven = followed || (refused.is_none() && self.descends_from(commit)?);
        // It may be proven and gone: from a fresh clone of a branch that was rewritten.
        if !proven || !self.pipe.has(objects::name(commit))? {
            return Err(match refused {
                Some(refused) => refused,
                None => self.unknown(commit),
            });
        }
        self.above_floor(commit, floor)?;
        Ok(Back { stands: self.stands(commit, record)?, followed, refused })
    }

    /// What is read next has a bound of its own: what was read so far was only to judge it.
    pub(in super::super) fn judged(&mut self) {
        self.pipe.refill();
    }

    /// Reads `commit` from now on, and no longer the tip. Whether it may be acted on is to be known already.
    ///
    /// # Errors
    /// Where it is not to be had, or is not what its id says.
    pub fn turn_to(&mut self, commit: &CommitId) -> Result<()> {
        let name = objects::name(commit);
        self.pipe.refill();
        let content = self.pipe.object(name, Kind::Commit)?;
        let found = objects::commit(name, &content).map_err(|why| self.pipe.corrupt(name, &why))?;
        (self.tree, self.revision, self.raw) = (found.tree, found.revision, content);
        self.layers.clear();
        (self.entries, self.named) = (0, 0);
        Ok(())
    }

    /// Whether `from` is `to`, or has it as an ancestor.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub(in super::super) fn reaches(&mut self, from: &CommitId, to: &CommitId) -> Result<bool> {
        self.way(objects::name(from), objects::name(to))
    }

    /// What the worker says is in the history of `tip` and not in that of `known`.
    ///
    /// # Errors
    /// Where it does not say.
    pub(in super::super) fn since(&mut self, tip: &CommitId, known: &CommitId) -> Result<Vec<CommitId>> {
        let names = self.pipe.since(objects::name(tip), objects::name(known))?;
        Ok(names.into_iter().map(objects::commit_id).collect())
    }

    /// The commit `id` as Git hashes it, and what its file of signers holds: `allowed_signers` beside `trueup.toml`.
    /// Something else than a file there is given as what nobody can understand.
    ///
    /// # Errors
    /// Where it is not to be had, or is not what its id says.
    pub(in super::super) fn link(&mut self, id: &CommitId) -> Result<(Vec<u8>, FileOfSigners)> {
        const SIGNERS: &str = "allowed_signers";
        const STRANGE: &[u8] = b"\0";
        let name = objects::name(id);
        let content = self.pipe.object(name, Kind::Commit)?;
        let commit = objects::commit(name, &content).map_err(|why| self.pipe.corrupt(name, &why))?;
        let Some(root) = self.root_of(commit.tree)? else { return Ok((content, None)) };
        let entry =
            self.tree(root)?.into_iter().find(|entry| matches!(&entry.name, Name::Good(name) if name == SIGNERS));
        let signers = match entry {
            None => None,
            Some(TreeEntry { node: Node::File { .. }, id, .. }) => match &self.signers {
                // It seldom changes from one commit to the next.
                Some((last, content)) if *last == id => Some(Arc::clone(content)),
                _ => {
                    let content: Arc<[u8]> = match self.pipe.objects(&[(id, Kind::Blob)])?.pop() {
                        Some(Received::Content(content)) if content.len() <= LARGEST_SIGNERS => Arc::from(content),
                        _ => Arc::from(STRANGE),
                    };
                    self.signers = Some((id, Arc::clone(&content)));
                    Some(content)
                }
            },
            Some(_) => Some(Arc::from(STRANGE)),
        };
        Ok((content, signers))
    }

    fn stands(&mut self, commit: &CommitId, record: &Record) -> Result<Stands> {
        let known = record.branch(&self.branch);
        let Some(anchor) = known.anchor() else { return Ok(Stands::Ahead) };
        let (commit, anchor) = (objects::name(commit), objects::name(anchor));
        // The short way first: to find that there is none, the whole history is walked.
        let ahead = commit == anchor || (!self.way(anchor, commit)? && self.way(commit, anchor)?);
        Ok(if ahead { Stands::Ahead } else { Stands::Behind })
    }

    /// Why `commit`, which this host may have had for long, is not to be kept to: it does not contain the floor. `None`
    /// where it does, or where it is not there any more: a branch may have been rewritten since.
    ///
    /// # Errors
    /// Where it cannot be told.
    pub fn below_floor(&mut self, commit: &CommitId, floor: &CommitId) -> Result<Option<SourceError>> {
        if !self.pipe.has(objects::name(commit))? {
            return Ok(None);
        }
        match self.above_floor(commit, Some(floor)) {
            Err(error @ SourceError::ChosenBelowFloor { .. }) => Ok(Some(error)),
            other => other.map(|()| None),
        }
    }

    fn above_floor(&mut self, commit: &CommitId, floor: Option<&CommitId>) -> Result<()> {
        match floor {
            Some(floor) if !self.way(objects::name(commit), objects::name(floor))? => {
                let (commit, floor) = (commit.short().to_owned(), floor.short().to_owned());
                Err(SourceError::ChosenBelowFloor { commit, floor })
            }
            _ => Ok(()),
        }
    }

    /// There is no way to `commit`: is it there at all?
    fn unknown(&mut self, commit: &CommitId) -> SourceError {
        let (name, branch, commit) = (objects::name(commit), self.branch.clone(), commit.short().to_owned());
        match self.pipe.has(name) {
            Ok(true) => {
                SourceError::NotInHistory { commit, branch, at: objects::commit_id(self.tip).short().to_owned() }
            }
            Ok(false) => SourceError::NoSuchCommit { commit, place: self.pipe.place().to_owned(), branch },
            Err(error) => error,
        }
    }

    /// Whether `from` is `to`, or has it as an ancestor; not, where `from` is not there.
    fn way(&mut self, from: ObjectName, to: ObjectName) -> Result<bool> {
        if to == from {
            return Ok(true);
        }
        let Some(path) = self.pipe.path(from, to, from == self.tip)? else { return Ok(false) };
        if path.first() != Some(&from) || path.last() != Some(&to) {
            return Err(self.pipe.corrupt(to, "is not where the fetch worker says that it is"));
        }
        // The last one needs no look: that it is there is what its child says.
        let wanted: Vec<(ObjectName, Kind)> = path[..path.len() - 1].iter().map(|name| (*name, Kind::Commit)).collect();
        for (batch, pairs) in wanted.chunks(AT_ONCE).zip(path.windows(2).collect::<Vec<_>>().chunks(AT_ONCE)) {
            for (received, pair) in self.pipe.objects(batch)?.into_iter().zip(pairs) {
                let Received::Content(content) = received else {
                    return Err(self.pipe.corrupt(pair[0], "is not there"));
                };
                let commit = objects::commit(pair[0], &content).map_err(|why| self.pipe.corrupt(pair[0], &why))?;
                if !commit.parents.contains(&pair[1]) {
                    return Err(self.pipe.corrupt(pair[0], "has not the parent that the fetch worker says"));
                }
            }
        }
        Ok(true)
    }
}
