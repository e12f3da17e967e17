//! The last verified revision, compiled, in our own directory: drift is corrected from it for as long as
//! Git cannot be reached.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bind::{HostChanged, bind};
use super::judged;
use super::newest::{Refused, rolled_back};
use super::reuse::Told;
use super::standing::Standing;
use super::stop::stop;
use super::{Ask, Looked, Restraint, names, strangers, undo, weigh};
use crate::brakes::Brakes;
use crate::compile::{self, Compiled, Desired};
use crate::host::{DocumentError, Payloads, Reader, StateDir, StateError};
use crate::ledger::Ledger;
use crate::model::{Class, CommitId, Digest, Facts, Revision, Stage, Stop, Update};
use crate::report::{Report, State, commit_text};
use crate::source::{Gate, Record, SourceError};

/// Bumped when an older trueup could misread what is written.
const FORMAT: u32 = 1;

/// A compiled revision with the pack of its payloads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    /// Which commit.
    pub(super) revision: Revision,
    /// What it wants of this host.
    pub(super) desired: Desired,
    /// The pack of its contents.
    pub(super) payloads: Digest,
    /// The length of that in bytes.
    #[serde(default)]
    pub(super) length: u64,
    /// What compiling it told.
    #[serde(default)]
    pub(super) notes: Vec<String>,
    /// See [`super::reuse`]; none where it is compiled anew each time.
    #[serde(default)]
    pub(super) compiled_from: Option<Digest>,
    /// The commit as Git hashes it, where that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) raw: Option<String>,
}

impl Stored {
    /// What was stored last; `None` where nothing was, or only its previous copy is whole: that one is older,
    /// and hosts do not go back.
    ///
    /// # Errors
    /// Where it is there and cannot be believed.
    pub(super) fn load(state: &StateDir) -> Result<Option<Self>, DocumentError> {
        Ok(Self::look(state)?.map(Arc::unwrap_or_clone))
    }

    /// As [`Stored::load`], for whoever only looks at it.
    ///
    /// # Errors
    /// As that.
    pub(super) fn look(state: &StateDir) -> Result<Option<Arc<Self>>, DocumentError> {
        let document = state.load_shared("revision", FORMAT)?.filter(|document| !document.recovered);
        Ok(document.map(|document| document.value))
    }

    /// What the revision that was stored last says of later ones: `hold` where that cannot be believed. `None` where
    /// nothing was ever stored.
    pub(super) fn said(state: &StateDir) -> Option<Update> {
        match state.load_shared::<Self>("revision", FORMAT) {
            Ok(None) => None,
            Ok(Some(document)) if !document.recovered => Some(document.value.desired.update.unwrap_or(Update::Auto)),
            Ok(Some(_)) | Err(_) => Some(Update::Hold),
        }
    }
}

/// Stores a revision with the pack of its payloads; what stands there already is not written again.
pub(super) fn store(
    state: &StateDir,
    revision: &Revision,
    desired: &Desired,
    payloads: &Payloads,
    told: &Told,
) -> Result<(), StateError> {
    let payloads = payloads.store(state)?;
    let length = state.size(&Payloads::pack_file(&payloads))?.unwrap_or_default();
    let Told { notes, from, raw } = told.clone();
    let (revision, desired) = (revision.clone(), desired.clone());
    state.save("revision", FORMAT, &Stored { revision, desired, payloads, length, notes, compiled_from: from, raw })
}

/// Reasons for which nothing at all is to be done, not even what was good before.
const FINAL: &[&str] = &[
    "no-such-host",
    "host-changed",
    "other-machine",
    "unconfigured",
    "uncommitted",
    "state-damaged",
    "cannot-tell",
    "interrupted",
];

/// Whether our own copy, which is of `commit`, may be converged to. What root went back to may, from the moment that
/// root said so. Anything else only if it was acted on last, or it may be older; and where root went back since, only
/// if the host is there already: an attempt that ended early is not carried on against root's word.
fn may_hold(commit: &CommitId, record: &Record, brakes: &Brakes, ledger: &Ledger) -> bool {
    let is = |other: Option<&CommitId>| other == Some(commit);
    let there = is(ledger.attempted.as_ref().and_then(|revision| revision.commit.as_ref()));
    match &brakes.rolled_back {
        Some(choice) if choice.commit == *commit => true,
        Some(_) => record.was_acted_on(commit) && there,
        None => record.was_acted_on(commit),
    }
}

/// The word for a source that was not asked, which nobody hears.
const NOT_ASKED: &str = "unasked";

/// Why there is no newest revision where the source was asked just before.
pub(super) fn not_asked() -> Stop {
    let (reason, message) = (NOT_ASKED.to_owned(), "the source was asked just before".to_owned());
    Stop { stage: Stage::Fetch, class: Class::Transient, reason, message }
}

/// Whether that is why.
pub(super) fn is_not_asked(why: &Stop) -> bool {
    why.reason == NOT_ASKED
}

/// Whether what is known of the source, and our own copy, are all that a pass needs that does not ask it.
pub(super) fn suffices(host: &Reader, ask: &Ask, brakes: &Brakes, facts: &Facts) -> bool {
    let Some(last) = judged::last(&host.state(), ask) else { return false };
    match judged::verdict(&last, ask, brakes, facts) {
        Some(_) => true,
        None if last.verdict.is_some() || !judged::stands(&last, ask, brakes) => false,
        None => Stored::look(&host.state())
            .is_ok_and(|stored| stored.is_some_and(|stored| commit_text(&stored.revision) == last.seen)),
    }
}

/// What was made of the tip that was seen last, as that is what is known of it: said of the source that is silent now.
fn before(host: &Reader, ask: &Ask, report: &mut Report, brakes: &Brakes, facts: &Facts) -> Option<(State, Stop)> {
    let last = judged::last(&host.state(), ask)?;
    if report.revision.seen.is_none() {
        report.revision.seen = Some(last.seen.clone());
        report.commit.clone_from(&last.commit);
    }
    if report.revision.seen.as_ref() != Some(&last.seen) {
        return None;
    }
    judged::verdict(&last, ask, brakes, facts)
}

/// Why nothing is done at all: there is no newest revision to act on, which is `why`, and `error` is why our own copy is
/// acted on no longer.
fn kept_no_longer(why: Stop, error: &SourceError) -> Stop {
    let own = stop(Stage::Verify, error);
    // Who moves the branch is told first.
    if why.class == Class::Stalled {
        let besides = if own.reason == why.reason { String::new() } else { format!("; {}", own.message) };
        return Stop { message: format!("{}{besides}; nothing is changed here until then", why.message), ..why };
    }
    let besides = if is_not_asked(&why) { String::new() } else { format!("; {}", why.message) };
    Stop { message: format!("{}; nothing is changed here until then{besides}", own.message), ..own }
}

/// As `look`, from what is stored, since the newest revision cannot be had: `why`.
pub(super) fn look(
    host: &Reader,
    ask: &Ask,
    report: &mut Report,
    (mut ledger, recovered, restraint): (Ledger, bool, Restraint),
    (own, gate): (&Facts, &Gate),
    Refused { why, below_floor }: Refused,
) -> Result<Looked, Stop> {
    // Our own state may be of a newer trueup, and is not touched then; a revision that asks for one only waits for it.
    let of_our_state = why.reason == "agent-too-old" && why.stage != Stage::Compile;
    if FINAL.contains(&why.reason.as_str()) || of_our_state {
        return Err(why);
    }
    let asked = !is_not_asked(&why);
    if why.stage == Stage::Fetch && asked {
        report.source_error = Some(why.clone());
    }
    let silent = why.stage == Stage::Fetch && why.class == Class::Transient;
    let facts = ask.facts.as_ref().unwrap_or(own);
    let verdict = if silent { before(host, ask, report, &restraint.brakes, facts) } else { None };
    // Whoever is not patient is told first that the source does not answer.
    let (verdict, waits) = match verdict {
        Some((state, stop)) if !ask.patient && state < State::Degraded => (None, Some(stop)),
        verdict => (verdict, None),
    };
    report.notes.extend(waits.map(|stop| stop.message));
    let why = match &verdict {
        Some((_, stop)) if FINAL.contains(&stop.reason.as_str()) => return Err(stop.clone()),
        Some((_, stop)) => stop.clone(),
        None => why,
    };
    if let Some(below) = below_floor {
        let what = if why.reason == below.reason { String::new() } else { format!("; {}", why.message) };
        return Err(Stop { message: format!("{}: it is kept to no longer{what}", below.message), ..below });
    }
    let Ok(Some(stored)) = Stored::load(&host.state()) else { return Err(why) };
    if let Some(quarantine) = undo::quarantined(host, ask, &restraint.brakes, stored.revision.commit.as_ref()) {
        if report.revision.seen.is_none() {
            report.seen(&stored.revision);
        }
        let ground = (ledger, recovered, restraint);
        return undo::look(host, ask, report, ground, (own, gate), (quarantine, Some(&why)));
    }
    if let Some(commit) = &stored.revision.commit {
        let by_root = restraint.brakes.rolled_back.as_ref().is_some_and(|choice| choice.commit == *commit);
        match gate.still(commit) {
            Ok(passed) => report.believe(passed),
            Err(_) if by_root => {}
            Err(error) => return Err(kept_no_longer(why, &error)),
        }
    }
    let may_hold =
        |commit| Record::load(&host.state()).is_ok_and(|record| may_hold(commit, &record, &restraint.brakes, &ledger));
    if !stored.revision.commit.as_ref().is_none_or(may_hold) {
        return Err(Stop { message: format!("{}; and our own copy is of another revision", why.message), ..why });
    }
    let (before, unknown) = (report.clone(), why.clone());
    let Stored { revision, desired, payloads, .. } = stored;
    let payloads = Payloads::of_pack(payloads);
    let names = compile::names_tried(ask.settings.host.name.as_deref(), facts);
    let Some(is) = names.first() else { return Err(why) };
    if !names.contains(&desired.host) {
        return Err(stop(Stage::Compile, &HostChanged { was: desired.host, is: is.clone() }));
    }
    bind(&mut ledger, &desired.host, own).map_err(|error| stop(Stage::Compile, &error))?;
    report.host = Some(desired.host.clone());
    if report.revision.seen.is_none() {
        report.seen(&revision);
    }
    let copy = commit_text(&revision);
    let behind = report.revision.seen.as_ref().filter(|seen| **seen != copy && restraint.brakes.rolled_back.is_none());
    let (state, why) = match (verdict, behind) {
        (Some((state, why)), _) => (Some(state), why),
        // It may be approved, or have come just before the source fell silent.
        (None, Some(seen)) if silent && ask.patient => {
            let seen = seen.get(..7).unwrap_or(seen);
            (
                Some(State::Pending),
                Stop { message: format!("{seen} is seen, and cannot be had: {}", why.message), ..why },
            )
        }
        (None, _) if silent && ask.patient => (None, why),
        (None, _) => (Some(judged::state_of(&why)), why),
    };
    if asked || state.is_some() {
        report.notes.push(format!("keeping to {}", revision.short()));
    }
    if let Some(choice) =
        restraint.brakes.rolled_back.as_ref().filter(|choice| revision.commit.as_ref() == Some(&choice.commit))
    {
        report.notes.push(rolled_back(choice).message);
    }
    let mut compiled = Compiled { desired, payloads, notes: Vec::new(), machine_id: None, roles: Vec::new() };
    names::follow(host, &compiled.desired, &mut ledger);
    let known = strangers::Known { own: &ask.settings.trusted_files(), ..strangers::Known::default() };
    strangers::find(host, &known, &mut compiled.desired, &mut ledger, restraint.met());
    let weighed = weigh(host, ask, report, &ledger, restraint, compiled)?;
    if !weighed.whole {
        *report = before;
        let message = format!("{}; and our own copy of the last revision is not whole", unknown.message);
        return Err(Stop { message, ..unknown });
    }
    // What a host that is only looked at has to wait for is said already.
    let said = weighed.look_only && why.class == Class::Transient && report.state >= State::Pending;
    let state = state.filter(|state| !(said && *state == State::Pending));
    let standing = state.map(|state| Standing::told(report, (state, why)));
    Ok(weighed.looked(report.clone(), (ledger, recovered), revision, standing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brakes::Choice;

    fn commit(digit: char) -> CommitId {
        digit.to_string().repeat(40).parse().expect("40 digits")
    }

    #[test]
    fn our_own_copy_holds_where_it_is_what_the_host_has_and_never_against_root_s_word() {
        let attempted = |digit| Ledger {
            attempted: Some(Revision { commit: Some(commit(digit)), ..Revision::uncommitted() }),
            ..Ledger::default()
        };
        let root_says = |digit: Option<char>| Brakes {
            rolled_back: digit.map(|digit| Choice { commit: commit(digit), by: "ana".to_owned(), at: 1 }),
            ..Brakes::default()
        };
        let mut forward = Record::default();
        forward.apply("main", &commit('4'), 1);
        let mut back = forward.clone();
        back.go_back("main", &commit('2'), 2);
        for (what, stored, record, brakes, ledger, holds) in [
            ("what was acted on last", '4', &forward, None, '4', true),
            ("what was begun, and may be carried on", '4', &forward, None, '3', true),
            ("an older copy", '3', &forward, None, '3', false),
            ("stored, and the record not yet moved", '5', &forward, None, '4', false),
            ("what root went back to, not yet begun", '2', &forward, Some('2'), '4', true),
            ("what root went back to", '2', &back, Some('2'), '2', true),
            ("the newer one, where root's commit is not to be had", '4', &forward, Some('2'), '4', true),
            ("the newer one, half done when root went back", '4', &forward, Some('2'), '3', false),
            ("the newer one, after going back", '4', &back, Some('2'), '2', false),
            ("the older one, after resume", '2', &back, None, '2', true),
            ("the newer one, after resume, not begun", '4', &back, None, '2', false),
        ] {
            let may = may_hold(&commit(stored), record, &root_says(brakes), &attempted(ledger));
            assert_eq!(may, holds, "{what}");
        }
    }
}
