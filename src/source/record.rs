use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SourceError;
use crate::host::StateDir;
use crate::model::{CommitId, Digest, Update};

const NAME: &str = "record";
const PREVIOUS: &str = "record.previous";
const VERSION: u32 = 1;

/// Our own memory of where each branch was, whatever the URL: what only moves forward. It is synced
/// before anything is acted on, and where it cannot be read nothing is accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    branches: BTreeMap<String, BranchRecord>,
}

/// What is remembered of one branch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BranchRecord {
    /// The tip that was seen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Mark>,
    /// The commit that was acted on last, whole or in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempted: Option<Mark>,
    /// The commit of which everything held last, on the way forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Mark>,
    /// The commit that was acted on since, by root's word, though it does not contain what was acted on before.
    /// It moves nothing: a new tip has to contain what it had to before. None once the way forward is taken again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_root: Option<Mark>,
    /// What the revision that was acted on last says of later ones, on the way forward: root's word brings none of it
    /// back. None in a record of a version that did not remember it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
}

/// A commit, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Which.
    pub commit: CommitId,
    /// Seconds since 1970, by this host's clock.
    pub time: i64,
}

/// Why a branch is followed anew: nothing is known of it that a tip has to contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anew {
    /// Something was acted on here before, and what was is remembered no more.
    StateLost {
        /// The commit that the ledger still knows of: a tip has to contain it.
        from: Option<CommitId>,
    },
    /// Root follows another branch than before.
    OtherBranch {
        /// Which it was.
        before: String,
    },
}

/// As stored: the checksum is of `branches` as they are serialized.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    sha256: Digest,
    branches: BTreeMap<String, BranchRecord>,
}

impl BranchRecord {
    /// What a new tip has to contain: the commit that was acted on last, whole or in part.
    pub fn anchor(&self) -> Option<&CommitId> {
        // Nothing is applied that was not attempted before, so what was attempted is never the older.
        self.attempted.as_ref().or(self.applied.as_ref()).map(|mark| &mark.commit)
    }

    /// When `commit` was acted on here, where it was: as it was judged then, it stays.
    pub fn acted_on_at(&self, commit: &CommitId) -> Option<i64> {
        let marks = [&self.attempted, &self.applied, &self.by_root];
        marks.into_iter().flatten().find(|mark| mark.commit == *commit).map(|mark| mark.time)
    }

    /// What was acted on last, be it by root's word: what this host has.
    pub fn acted_on(&self) -> Option<&CommitId> {
        self.by_root.as_ref().map(|mark| &mark.commit).or(self.anchor())
    }
}

impl Record {
    /// What is stored in `state`; nothing where nothing was ever stored.
    ///
    /// # Errors
    /// `state-damaged` where it is there and not whole, or gone while its previous copy is there.
    pub fn load(state: &StateDir) -> Result<Self, SourceError> {
        let damaged =
            |why: String| SourceError::StateDamaged { path: state.path().join(NAME), why, previous: PREVIOUS };
        let Some(content) = state.read(NAME)? else {
            return match state.exists(PREVIOUS)? {
                true => Err(damaged("is gone".to_owned())),
                false => Ok(Self::default()),
            };
        };
        parse(&content).map_err(damaged)
    }

    /// Stores it, synced; what was stored before is kept as the previous copy.
    ///
    /// # Errors
    /// Where it cannot be written; what was stored before then still is.
    pub fn save(&self, state: &StateDir) -> Result<(), SourceError> {
        let content = self.stored();
        match state.read(NAME)? {
            Some(before) if before == content => return Ok(()),
            Some(before) => state.write(PREVIOUS, &before)?,
            None => {}
        }
        Ok(state.write(NAME, &content)?)
    }

    /// Why `branch` is followed anew, where it is and this is no new host: it was `acted_here` before, or the ledger
    /// knows the commit `from`. That commit is believed to be of this branch from now on.
    pub fn start(&mut self, branch: &str, acted_here: bool, from: Option<&CommitId>, now: i64) -> Option<Anew> {
        if self.branch(branch).anchor().is_some() {
            return None;
        }
        let last = |of: &BranchRecord| of.attempted.as_ref().or(of.applied.as_ref()).map(|mark| mark.time);
        let before = self.branches.iter().filter(|(_, of)| last(of).is_some()).max_by_key(|(_, of)| last(of));
        if let Some((before, _)) = before {
            return Some(Anew::OtherBranch { before: before.clone() });
        }
        if let Some(from) = from {
            self.attempt(branch, from, now);
        }
        (acted_here || from.is_some()).then(|| Anew::StateLost { from: from.cloned() })
    }

    /// What is remembered of `branch`.
    pub fn branch(&self, branch: &str) -> BranchRecord {
        self.branches.get(branch).cloned().unwrap_or_default()
    }

    /// Whether `commit` is what was acted on last, of any branch.
    pub fn was_acted_on(&self, commit: &CommitId) -> bool {
        self.branches.values().any(|branch| branch.acted_on() == Some(commit))
    }

    /// Every commit that is known of any branch.
    pub fn commits(&self) -> impl Iterator<Item = &CommitId> {
        let marks = self.branches.values().flat_map(|of| [&of.seen, &of.attempted, &of.applied, &of.by_root]);
        marks.flatten().map(|mark| &mark.commit)
    }

    /// `commit` is the tip of `branch`.
    pub fn see(&mut self, branch: &str, commit: &CommitId, now: i64) {
        self.of(branch).seen = Some(Mark { commit: commit.clone(), time: now });
    }

    /// `commit` of `branch` is going to be acted on.
    pub fn attempt(&mut self, branch: &str, commit: &CommitId, now: i64) {
        let of = self.of(branch);
        of.attempted = Some(Mark { commit: commit.clone(), time: now });
        of.by_root = None;
    }

    /// `commit` of `branch` is going to be acted on by root's word. How far the branch had come stays known.
    pub fn go_back(&mut self, branch: &str, commit: &CommitId, now: i64) {
        self.of(branch).by_root = Some(Mark { commit: commit.clone(), time: now });
    }

    /// Everything of `commit` of `branch` holds.
    pub fn apply(&mut self, branch: &str, commit: &CommitId, now: i64) {
        let mark = Mark { commit: commit.clone(), time: now };
        let of = self.of(branch);
        of.attempted = Some(mark.clone());
        of.applied = Some(mark);
        of.by_root = None;
    }

    /// What was acted on of `branch`, on the way forward, says this of later revisions.
    pub fn says(&mut self, branch: &str, update: Update) {
        self.of(branch).update = Some(update);
    }

    fn of(&mut self, branch: &str) -> &mut BranchRecord {
        self.branches.entry(branch.to_owned()).or_default()
    }

    fn stored(&self) -> Vec<u8> {
        let stored = Stored { version: VERSION, sha256: checksum(&self.branches), branches: self.branches.clone() };
        let mut content = serde_json::to_vec_pretty(&stored).expect("strings and numbers serialize");
        content.push(b'\n');
        content
    }
}

fn checksum(branches: &BTreeMap<String, BranchRecord>) -> Digest {
    Digest::of(&serde_json::to_vec(branches).expect("strings and numbers serialize"))
}

fn parse(content: &[u8]) -> Result<Record, String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let broken = |error: serde_json::Error| format!("is not whole ({error})");
    let version = serde_json::from_slice::<Versioned>(content).map_err(broken)?.version;
    if version != VERSION {
        return Err(format!("has version {version}, and this trueup knows version {VERSION}"));
    }
    let stored: Stored = serde_json::from_slice(content).map_err(broken)?;
    if checksum(&stored.branches) != stored.sha256 {
        return Err("does not match its checksum".to_owned());
    }
    Ok(Record { branches: stored.branches })
}

/// Whether `tip` of `branch` may be acted on, given what is `known` of it; `contains` says whether it is,
/// or descends from, the anchor of that. Without an anchor any tip may.
///
/// # Errors
/// `not-a-descendant`.
pub fn judge(branch: &str, known: &BranchRecord, tip: &CommitId, contains: bool) -> Result<(), SourceError> {
    match known.anchor() {
        Some(anchor) if anchor != tip && !contains => {
            let staying = known.by_root.as_ref().or(known.applied.as_ref()).map_or(anchor, |mark| &mark.commit);
            Err(SourceError::NotADescendant {
                branch: branch.to_owned(),
                from: anchor.short().to_owned(),
                to: tip.short().to_owned(),
                staying: staying.short().to_owned(),
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests damage what is stored")]
mod tests {
    use std::fs;

    use super::*;

    fn commit(digit: char) -> CommitId {
        digit.to_string().repeat(40).parse().expect("40 digits")
    }

    fn state() -> (tempfile::TempDir, StateDir) {
        let at = tempfile::tempdir().expect("tempdir");
        let state = StateDir::new(at.path().join("state"));
        (at, state)
    }

    fn saved() -> (tempfile::TempDir, StateDir, Record) {
        let (at, state) = state();
        let mut record = Record::default();
        record.apply("main", &commit('a'), 1);
        record.save(&state).expect("saves");
        record.see("main", &commit('b'), 2);
        record.save(&state).expect("saves");
        (at, state, record)
    }

    #[test]
    fn nothing_stored_is_an_empty_record_and_what_is_stored_is_read_back() {
        let (_at, state) = state();
        assert_eq!(Record::load(&state).expect("empty"), Record::default());
        let (_at, state, record) = saved();
        assert_eq!(Record::load(&state).expect("whole"), record);
        assert!(state.exists(PREVIOUS).expect("can be told"));
    }

    #[test]
    fn version_1_stays_readable() {
        let text = r#"{
  "version": 1,
  "sha256": "SUM",
  "branches": {
    "main": {
      "seen": { "commit": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "time": 2 },
      "applied": { "commit": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "time": 1 }
    }
  }
}"#;
        let sum = Digest::of(br#"{"main":{"seen":{"commit":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","time":2},"applied":{"commit":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","time":1}}}"#);
        let record = parse(text.replace("SUM", &sum.to_string()).as_bytes()).expect("reads");
        assert_eq!(record.branch("main").anchor(), Some(&commit('a')));
    }

    #[test]
    fn a_branch_that_nothing_is_known_of_is_followed_anew_and_why_depends_on_what_was_before() {
        let started =
            |record: &mut Record, here, from: Option<char>| record.start("main", here, from.map(commit).as_ref(), 5);
        assert_eq!(started(&mut Record::default(), false, None), None, "a new host");
        assert_eq!(started(&mut Record::default(), true, None), Some(Anew::StateLost { from: None }));
        let mut known = Record::default();
        assert_eq!(started(&mut known, false, Some('4')), Some(Anew::StateLost { from: Some(commit('4')) }));
        assert_eq!(known.branch("main").anchor(), Some(&commit('4')), "a tip has to contain what the ledger knows");
        assert_eq!(started(&mut known, true, Some('4')), None, "it is known now");
        let mut other = Record::default();
        other.apply("old", &commit('1'), 1);
        other.apply("older", &commit('2'), 0);
        other.see("seen", &commit('2'), 9);
        assert_eq!(started(&mut other, true, Some('4')), Some(Anew::OtherBranch { before: "old".to_owned() }));
        assert_eq!(other.branch("main").anchor(), None, "the ledger speaks of the other branch");
    }

    #[test]
    fn a_record_that_is_there_and_not_whole_is_never_taken_for_none() {
        let (_at, state, _) = saved();
        let path = state.path().join(NAME);
        let whole = fs::read(&path).expect("reads");
        let future =
            String::from_utf8(whole.clone()).expect("text").replace("\"version\": 1", "\"version\": 2").into_bytes();
        let mut flipped = whole.clone();
        let at = whole.iter().rposition(|byte| *byte == b'b').expect("a digit of the commit");
        flipped[at] = b'c';
        for content in [Vec::new(), whole[..whole.len() / 2].to_vec(), flipped, future, b"{}".to_vec()] {
            fs::write(&path, &content).expect("write");
            let error = Record::load(&state).expect_err("damaged");
            assert_eq!(error.reason(), "state-damaged", "{error}");
        }
        fs::remove_file(&path).expect("remove");
        assert_eq!(Record::load(&state).expect_err("gone").reason(), "state-damaged");
        fs::create_dir(&path).expect("mkdir");
        assert_eq!(Record::load(&state).expect_err("a directory").reason(), "state-damaged");
        fs::remove_dir(&path).expect("rmdir");
        std::os::unix::fs::symlink(PREVIOUS, &path).expect("symlink");
        assert_eq!(Record::load(&state).expect_err("a symlink").reason(), "state-damaged");
    }

    #[test]
    fn going_back_by_root_s_word_changes_what_the_host_has_and_not_what_a_tip_has_to_contain() {
        let mut record = Record::default();
        record.apply("main", &commit('4'), 1);
        record.go_back("main", &commit('2'), 2);
        let known = record.branch("main");
        assert_eq!((known.anchor(), known.acted_on()), (Some(&commit('4')), Some(&commit('2'))));
        assert!(record.was_acted_on(&commit('2')) && !record.was_acted_on(&commit('4')));
        assert_eq!(
            judge("main", &known, &commit('3'), false).expect_err("older than what was acted on").to_string(),
            "main moved from 4444444 to 3333333, which does not contain it; staying on 2222222"
        );
        assert_eq!(parse(&record.stored()).expect("whole"), record, "it is stored");
        for forward in [Record::attempt, Record::apply] {
            let mut record = record.clone();
            forward(&mut record, "main", &commit('5'), 3);
            let known = record.branch("main");
            assert_eq!((known.anchor(), known.acted_on()), (Some(&commit('5')), Some(&commit('5'))));
        }
    }

    #[test]
    fn only_what_contains_the_last_is_accepted() {
        let mut record = Record::default();
        assert!(judge("main", &record.branch("main"), &commit('1'), false).is_ok(), "the first");
        record.apply("main", &commit('4'), 1);
        let judged = |record: &Record, contains| judge("main", &record.branch("main"), &commit('1'), contains);
        assert!(judged(&record, true).is_ok());
        assert_eq!(
            judged(&record, false).expect_err("rewritten").to_string(),
            "main moved from 4444444 to 1111111, which does not contain it; staying on 4444444"
        );
        record.attempt("main", &commit('5'), 2);
        let error = judged(&record, false).expect_err("rewritten");
        assert_eq!(
            error.to_string(),
            "main moved from 5555555 to 1111111, which does not contain it; staying on 4444444"
        );
        assert_eq!((error.reason(), error.class()), ("not-a-descendant", crate::model::Class::Stalled));
        assert!(
            judge("other", &record.branch("other"), &commit('1'), false).is_ok(),
            "another branch has its own record"
        );
    }
}
