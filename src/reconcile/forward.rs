//! What is remembered of a revision that is acted on, before and after.

use super::offline;
use super::reuse::Told;
use super::stop::At;
use crate::compile::Desired;
use crate::host::{Payloads, StateDir};
use crate::model::{CommitId, Revision, Stage, Stop, Update};
use crate::source::{Gate, Passed, Record};

/// What there is to remember where a pass acts on a commit of a branch.
#[derive(Debug)]
pub(super) struct Forward {
    /// What is remembered so far.
    pub(super) record: Record,
    /// The branch; empty for a directory.
    pub(super) branch: String,
    /// Where the branch is.
    pub(super) tip: Option<CommitId>,
    /// Only root's word brings this host there: the commit does not contain what was acted on before, and how far
    /// the branch had come stays known.
    pub(super) by_root: bool,
    /// What the commit says of later ones.
    pub(super) update: Update,
    /// What else is stored of it as it is compiled; none where it was taken from there.
    pub(super) told: Option<Told>,
    /// Who signed it, and who remembers that; none where nobody has to.
    pub(super) passed: Option<(Gate, Passed)>,
}

/// Before anything is changed: the revision is stored as it is compiled, and the record says that it is going
/// to be acted on. From here on the host does not go back behind it.
pub(super) fn begin(
    state: &StateDir,
    forward: Option<&mut Forward>,
    revision: &Revision,
    desired: &Desired,
    payloads: &Payloads,
    now: i64,
) -> Result<(), Stop> {
    if let Some(Forward { told: Some(told), .. }) = &forward {
        offline::store(state, revision, desired, payloads, told).at(Stage::Record)?;
    }
    let mut forward = forward;
    if let Some(Forward { passed: Some((gate, passed)), .. }) = &mut forward {
        gate.remember(state, passed).at(Stage::Record)?;
    }
    remember(state, forward, revision, false, now)
}

/// Notes that this commit is going to be acted on, or that everything of it holds; on disk when this returns.
pub(super) fn remember(
    state: &StateDir,
    forward: Option<&mut Forward>,
    revision: &Revision,
    applied: bool,
    now: i64,
) -> Result<(), Stop> {
    let (Some(Forward { record, branch, tip, by_root, update, .. }), Some(commit)) = (forward, &revision.commit) else {
        return Ok(());
    };
    let known = record.branch(branch);
    let mark = match (*by_root, applied) {
        (true, _) => &known.by_root,
        (false, true) => &known.applied,
        (false, false) => &known.attempted,
    };
    let back = known.by_root.is_some();
    let said = *by_root || known.update == Some(*update);
    if back == *by_root && said && mark.as_ref().is_some_and(|mark| mark.commit == *commit) {
        return Ok(());
    }
    record.see(branch, tip.as_ref().unwrap_or(commit), now);
    match (*by_root, applied) {
        (true, _) => record.go_back(branch, commit, now),
        (false, true) => record.apply(branch, commit, now),
        (false, false) => record.attempt(branch, commit, now),
    }
    if !*by_root {
        record.says(branch, *update);
    }
    record.save(state).at(Stage::Record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(digit: char) -> Revision {
        let commit = digit.to_string().repeat(40).parse().expect("40 digits");
        Revision { commit: Some(commit), ..Revision::uncommitted() }
    }

    /// What is on disk of main after `commits` were acted on one after the other, each by root's word or not.
    fn acted(commits: &[(char, bool)]) -> crate::source::BranchRecord {
        let at = tempfile::tempdir().expect("tempdir");
        let state = StateDir::new(at.path().join("state"));
        for (digit, by_root) in commits {
            for applied in [false, true] {
                let record = Record::load(&state).expect("whole");
                let update = if *by_root { Update::Auto } else { Update::Hold };
                let mut forward = Forward {
                    record,
                    branch: "main".to_owned(),
                    tip: revision('f').commit,
                    by_root: *by_root,
                    update,
                    told: None,
                    passed: None,
                };
                remember(&state, Some(&mut forward), &revision(*digit), applied, 1).expect("remembered");
            }
        }
        Record::load(&state).expect("whole").branch("main")
    }

    #[test]
    fn going_back_keeps_how_far_the_branch_had_come_until_the_way_forward_is_taken_again() {
        let there = |digit| revision(digit).commit;
        let known = acted(&[('4', false), ('2', true)]);
        assert_eq!((known.anchor().cloned(), known.acted_on().cloned()), (there('4'), there('2')));
        assert_eq!(known.update, Some(Update::Hold), "what root went back to has no say in what follows");
        assert_eq!(known.seen.map(|mark| mark.commit), there('f'));
        let known = acted(&[('4', false), ('2', true), ('3', true)]);
        assert_eq!((known.anchor().cloned(), known.acted_on().cloned()), (there('4'), there('3')));
        // The very commit that was acted on before the rollback.
        let known = acted(&[('4', false), ('2', true), ('4', false)]);
        assert_eq!((known.anchor().cloned(), known.by_root), (there('4'), None));
    }
}
