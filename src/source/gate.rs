//! What a commit has to pass, besides history, before it is acted on here: somebody whom root named has signed it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::trust::chain::{self, ChainError, History, Link};
use super::trust::{self, Refusal, Revoked, Signed, Signers, Trust};
use super::{Source, SourceError};
use crate::config::TrustSettings;
use crate::host::{self, Reader, StateDir};
use crate::model::{CommitId, TrustMode, Word, Zone, one_line};

const NAME: &str = "trust";
const FORMAT: u32 = 1;
/// What a file of trust may hold at most, in bytes.
const LARGEST: u64 = 4 << 20;

type Result<T> = std::result::Result<T, SourceError>;

/// Whom this host believes: the files of trust as they are now, and what is remembered of earlier ones.
#[derive(Debug, Clone)]
pub struct Gate {
    /// None where root named nobody: then a commit is believed because of the server that gives it.
    trust: Option<Trust>,
    settings: TrustSettings,
    zone: Zone,
    kept: Kept,
    /// That was damaged, and is its previous copy.
    recovered: bool,
    /// Something was revoked that is not remembered yet.
    more_revoked: bool,
}

/// What is remembered, synced, whatever the files say later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Fingerprints that were revoked once.
    #[serde(default)]
    revoked: BTreeSet<String>,
    /// How far the chain was judged, and where it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chained: Option<Chained>,
    /// What was let through last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passed: Option<Passed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Chained {
    introduction: CommitId,
    commit: CommitId,
}

/// A commit that was let through, and who signed it. Names are escaped and bounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Which.
    pub commit: CommitId,
    /// Who signed it.
    pub by: String,
    /// With which key.
    pub fingerprint: String,
    /// Every key that this rests on, by fingerprint; that one alone where an earlier version remembered it.
    #[serde(default)]
    pub keys: Vec<String>,
    /// `head` or `chain`.
    pub mode: String,
    /// It does not contain how far the chain was judged, which stays as it is.
    #[serde(skip)]
    behind: bool,
}

impl Gate {
    /// Reads what `settings` name.
    ///
    /// # Errors
    /// `bad-trust` where a file is missing, empty, not understood or not root's alone: nobody is believed then. Where
    /// what is remembered cannot be read.
    pub fn open(host: &Reader, settings: &TrustSettings) -> Result<Self> {
        let zone = host.zone();
        let stored = host.state().load::<Kept>(NAME, FORMAT)?;
        // A copy from before may lack the newest; what is written next is whole again.
        let recovered = stored.as_ref().is_some_and(|stored| stored.recovered);
        let kept = stored.map(|stored| stored.value).unwrap_or_default();
        let mut gate = Self { trust: None, settings: settings.clone(), zone, kept, recovered, more_revoked: false };
        let mut signers: Option<Signers> = None;
        for file in &settings.signers {
            let (name, content) = read(host, file)?;
            let more = Signers::parse(&name, &content, &gate.zone).map_err(SourceError::Trust)?;
            signers = Some(match signers {
                Some(signers) => signers.and(more),
                None => more,
            });
        }
        let Some(signers) = signers else { return Ok(gate) };
        let mut revoked = Revoked::default();
        if let Some(file) = &settings.revoked {
            let (name, content) = read(host, file)?;
            revoked = Revoked::parse(&name, &content).map_err(SourceError::Trust)?;
        }
        gate.more_revoked = recovered || revoked.fingerprints().any(|one| !gate.kept.revoked.contains(one));
        revoked.unite(gate.kept.revoked.iter().cloned());
        gate.trust = Some(Trust { signers, revoked });
        Ok(gate)
    }

    /// What was remembered was damaged: revocations that its previous copy does not know are forgotten.
    pub fn was_damaged(&self) -> bool {
        self.recovered
    }

    /// Whether root named anybody.
    pub fn is_configured(&self) -> bool {
        self.trust.is_some()
    }

    /// Remembers what was revoked; on disk when this returns.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn keep_revoked(&mut self, state: &StateDir) -> Result<()> {
        if let Some(trust) = self.trust.as_ref().filter(|_| self.more_revoked) {
            self.kept.revoked.extend(trust.revoked.fingerprints().map(str::to_owned));
            state.save(NAME, FORMAT, &self.kept)?;
            self.more_revoked = false;
        }
        Ok(())
    }

    /// Whether the commit that `source` reads may be acted on. `now` is when it was judged first: the time of its commit
    /// is chosen by whoever signs, and a key that expires later takes nothing back.
    ///
    /// # Errors
    /// Why it is not believed, or where that cannot be told.
    pub fn judge(&self, source: &mut Source, now: i64) -> Result<Option<Passed>> {
        let Some(trust) = &self.trust else { return Ok(None) };
        let Some(commit) = source.revision().commit.clone() else { return Ok(None) };
        let refused = |refusal| SourceError::Refused { commit: commit.short().to_owned(), refusal };
        match self.settings.mode {
            TrustMode::Head => {
                let signed = trust::verify(source.raw(), source.hash(), trust, now).map_err(refused)?;
                Ok(Some(self.passes(commit, signed)))
            }
            TrustMode::Chain => {
                let passed = self.chain(source, &commit, trust, now)?;
                source.judged();
                Ok(Some(passed))
            }
        }
    }

    fn passes(&self, commit: CommitId, signed: Signed) -> Passed {
        let Signed { principal, fingerprint, keys, .. } = signed;
        let mode = self.settings.mode.as_str().to_owned();
        Passed { commit, by: principal, fingerprint, keys, mode, behind: false }
    }

    fn chain(&self, source: &mut Source, commit: &CommitId, trust: &Trust, now: i64) -> Result<Passed> {
        let Some(introduction) = &self.settings.introduction else {
            return Err(SourceError::Settings("trust.introduction is not set".to_owned()));
        };
        let chained = self.kept.chained.as_ref().filter(|chained| chained.introduction == *introduction);
        // What was judged before is where it goes on, where the branch still has it; it contains the introduction.
        let known = match chained {
            // Of one that was judged, and of whose signer nothing is remembered any more, it begins again.
            Some(chained) if chained.commit == *commit && self.passed(commit).is_none() => introduction.clone(),
            Some(chained) if source.reaches(commit, &chained.commit)? => chained.commit.clone(),
            _ if source.reaches(commit, introduction)? => introduction.clone(),
            _ => {
                return Err(SourceError::Unintroduced {
                    commit: commit.short().to_owned(),
                    introduction: introduction.short().to_owned(),
                });
            }
        };
        let new: BTreeSet<CommitId> = source.since(commit, &known)?.into_iter().collect();
        let behind = chained.is_some_and(|chained| chained.commit != known);
        let mut walk = Walk { source, new, known, introduction: introduction.clone() };
        let judged = chain::judge(&mut walk, commit, trust, &self.zone, now).map_err(|error| match error {
            ChainError::History(error) => error,
            other => SourceError::Chain { reason: other.reason().unwrap_or("unsigned"), message: other.to_string() },
        })?;
        match judged.signed {
            Some(signed) => Ok(Passed { behind, ..self.passes(commit.clone(), signed) }),
            None => Ok(Passed { behind, ..self.known(source, commit, trust, now)? }),
        }
    }

    /// It was judged before, or is the introduction itself. Who signed it is told all the same, and one whose key was
    /// revoked since is believed no longer.
    fn known(&self, source: &Source, commit: &CommitId, trust: &Trust, now: i64) -> Result<Passed> {
        match trust::verify(source.raw(), source.hash(), trust, now) {
            Ok(signed) => Ok(self.passes(commit.clone(), signed)),
            Err(refusal @ Refusal::RevokedKey { .. }) => {
                Err(SourceError::Refused { commit: commit.short().to_owned(), refusal })
            }
            // It may be somebody whom only the repository names, or nobody: root vouches for the introduction.
            Err(_) => match self.passed(commit) {
                Some(passed) => self.not_revoked(passed, trust).cloned(),
                None => Ok(Passed {
                    commit: commit.clone(),
                    by: "trust.introduction".to_owned(),
                    fingerprint: commit.short().to_owned(),
                    keys: Vec::new(),
                    mode: self.settings.mode.as_str().to_owned(),
                    behind: false,
                }),
            },
        }
    }

    fn not_revoked<'p>(&self, passed: &'p Passed, trust: &Trust) -> Result<&'p Passed> {
        let keys = if passed.keys.is_empty() { std::slice::from_ref(&passed.fingerprint) } else { &passed.keys };
        let refused = |refusal| SourceError::Refused { commit: passed.commit.short().to_owned(), refusal };
        trust.revoked.check(keys.iter().cloned()).map_err(refused)?;
        Ok(passed)
    }

    /// Whether what this host has stored of `commit` may still be acted on: it was let through, and no key that this
    /// rests on was revoked since. `None` where nobody has to have signed it.
    ///
    /// # Errors
    /// Why it may not.
    pub fn still(&self, commit: &CommitId) -> Result<Option<&Passed>> {
        match (&self.trust, self.passed(commit)) {
            (None, _) => Ok(None),
            (Some(trust), Some(passed)) => self.not_revoked(passed, trust).map(Some),
            (Some(_), None) => Err(SourceError::Unverified { commit: commit.short().to_owned() }),
        }
    }

    /// As [`Gate::still`], where `passed` was remembered elsewhere: of a commit that was let through before the last one.
    ///
    /// # Errors
    /// Why it may not.
    pub fn still_by<'p>(&self, commit: &CommitId, passed: Option<&'p Passed>) -> Result<Option<&'p Passed>> {
        match (&self.trust, passed.filter(|passed| passed.commit == *commit)) {
            (None, _) => Ok(None),
            (Some(trust), Some(passed)) => self.not_revoked(passed, trust).map(Some),
            (Some(_), None) => Err(SourceError::Unverified { commit: commit.short().to_owned() }),
        }
    }

    /// Remembers that `passed` was let through; on disk when this returns.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn remember(&mut self, state: &StateDir, passed: &Passed) -> Result<()> {
        let mut kept = Kept { passed: Some(passed.clone()), ..self.kept.clone() };
        let moves = self.settings.mode == TrustMode::Chain && !passed.behind;
        if let Some(introduction) = self.settings.introduction.as_ref().filter(|_| moves) {
            kept.chained = Some(Chained { introduction: introduction.clone(), commit: passed.commit.clone() });
        }
        if kept != self.kept {
            state.save(NAME, FORMAT, &kept)?;
            self.kept = kept;
        }
        Ok(())
    }

    /// Who signed `commit`, where it was the last that was let through.
    pub fn passed(&self, commit: &CommitId) -> Option<&Passed> {
        self.kept.passed.as_ref().filter(|passed| self.is_configured() && passed.commit == *commit)
    }
}

fn read(host: &Reader, file: &Path) -> Result<(String, Vec<u8>)> {
    let name = one_line(&file.display().to_string(), 400);
    let bad = |why: String| SourceError::Trust(Refusal::BadTrust { file: name.clone(), line: None, why });
    let path = file.to_str().ok_or_else(|| bad("its name is not UTF-8".to_owned()))?;
    let unreadable = |error: host::Error| match error {
        host::Error::Refused { why, .. } => bad(one_line(&why, 800)),
        error => bad(one_line(&error.chain(), 800)),
    };
    match host.read_roots_own(path, LARGEST).map_err(unreadable)? {
        Some(content) if content.is_empty() => {
            Err(bad("is empty, and nothing is believed with it; a comment says that nobody is meant".to_owned()))
        }
        Some(content) => Ok((name, content)),
        None => Err(bad("is not there, and nothing is believed without it; put it back".to_owned())),
    }
}

/// The new commits of a branch, as the chain walks them.
struct Walk<'a> {
    source: &'a mut Source,
    /// What the worker says is new; what it leaves out is walked all the same, unless it is proven to be known.
    new: BTreeSet<CommitId>,
    known: CommitId,
    introduction: CommitId,
}

impl History for Walk<'_> {
    type Error = SourceError;

    fn commit(&mut self, id: &CommitId) -> Result<Link> {
        let (commit, signers) = self.source.link(id)?;
        let trusted = *id == self.known
            || (!self.new.contains(id)
                && self.source.reaches(&self.known, id)?
                && self.source.reaches(id, &self.introduction)?);
        Ok(if trusted { Link::Trusted { signers } } else { Link::New { commit: Arc::from(commit), signers } })
    }
}
