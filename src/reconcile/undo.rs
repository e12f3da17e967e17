//! Undoing a revision: a pass towards the stored, compiled set of the last revision that settled here, and from then on
//! drift is corrected to that, until there is a newer commit or root says `trueup retry`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bind::bind;
use super::offline::Stored;
use super::standing::Standing;
use super::stop::{At, stop};
use super::trial::{self, Pinned, Trial};
use super::{Ask, Looked, Restraint, brakes, names, settings, strangers, weigh};
use crate::apply::Thing;
use crate::brakes::Brakes;
use crate::compile::Compiled;
use crate::host::{Payloads, Reader, StateDir};
use crate::kinds::Spec;
use crate::kinds::package::{self, Downgrade, Version};
use crate::ledger::Ledger;
use crate::model::{Class, CommitId, Facts, Id, Release, Revision, Stage, Stop, one_line};
use crate::report::{Report, State};
use crate::source::{Gate, Passed};

/// Bumped when an older trueup could misread what is written.
const FORMAT: u32 = 1;
/// Documents of our own directory.
const GOOD: &str = "good";
const QUARANTINE: &str = "quarantine";

/// The last revision that settled here, as it was compiled then.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Good {
    stored: Stored,
    /// Who signed it, where somebody had to.
    #[serde(default)]
    passed: Option<Passed>,
    /// The settings files of then, path and text.
    #[serde(default)]
    settings: Vec<(String, String)>,
}

/// A revision that was undone on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Quarantine {
    /// Which.
    pub(super) commit: CommitId,
    /// The stable word for why.
    reason: String,
    /// Why, in one line.
    cause: String,
    /// When, seconds since 1970.
    at: i64,
    /// The versions that packages had before it.
    #[serde(default)]
    packages: BTreeMap<Id, String>,
    /// Undoing it failed, and is not tried again.
    #[serde(default)]
    failed: Option<String>,
    /// When root had chosen it by then: another time than that is another word.
    #[serde(default)]
    chosen: Option<i64>,
}

/// The quarantine that `commit` is under, unless somebody wants it tried again.
pub(super) fn quarantined(host: &Reader, ask: &Ask, brakes: &Brakes, commit: Option<&CommitId>) -> Option<Quarantine> {
    let quarantine = standing(&host.state()).filter(|one| Some(&one.commit) == commit && !ask.retry)?;
    let named = brakes.rolled_back.as_ref();
    let by_root =
        named.is_some_and(|choice| choice.commit == quarantine.commit && Some(choice.at) != quarantine.chosen);
    (!by_root).then_some(quarantine)
}

/// What is undone on this host, where anything is.
pub(super) fn standing(state: &StateDir) -> Option<Quarantine> {
    // What cannot be believed is forgotten: the commit is tried, judged and undone once more.
    state.load::<Option<Quarantine>>(QUARANTINE, FORMAT).ok().flatten().and_then(|document| document.value)
}

fn save(state: &StateDir, quarantine: Option<&Quarantine>) -> Result<(), Stop> {
    state.save(QUARANTINE, FORMAT, &quarantine).at(Stage::Record)
}

/// A revision is acted on: what is quarantined is so no longer, where it is this one or an older one.
pub(super) fn lift(state: &StateDir, commit: Option<&CommitId>, is_newer: bool) -> Result<(), Stop> {
    match standing(state) {
        Some(quarantine) if is_newer || Some(&quarantine.commit) == commit => save(state, None),
        _ => Ok(()),
    }
}

/// `revision`, which was stored when it was begun, is what this host goes back to from now on.
pub(super) fn pin(host: &Reader, ask: &Ask, revision: &Revision) -> Result<Option<Pinned>, Stop> {
    let state = host.state();
    let Some(stored) = Stored::load(&state).ok().flatten().filter(|stored| stored.revision.commit == revision.commit)
    else {
        return Ok(None);
    };
    let Some(commit) = stored.revision.commit.clone() else { return Ok(None) };
    let passed = Gate::open(host, &ask.settings.trust).ok().and_then(|gate| gate.passed(&commit).cloned());
    let pinned = Pinned { commit: commit.to_string(), payloads: stored.payloads };
    let settings = settings::settings_files(host).unwrap_or_default();
    state.save(GOOD, FORMAT, &Good { stored, passed, settings }).at(Stage::Record)?;
    Ok(Some(pinned))
}

fn good(state: &StateDir) -> Option<Good> {
    state.load(GOOD, FORMAT).ok().flatten().map(|document| document.value)
}

/// The settings files of when this host settled last, path and text.
pub(super) fn kept_settings(state: &StateDir) -> Option<Vec<(String, String)>> {
    good(state).map(|good| good.settings)
}

/// Whether undoing came to no end.
pub(super) fn is_given_up(state: &StateDir) -> bool {
    standing(state).is_some_and(|quarantine| quarantine.failed.is_some())
}

/// The revision that this host goes back to, as it was written down last: that may be newer than what its trial says,
/// where that was cut short right after it.
pub(super) fn pinned(state: &StateDir) -> Option<Pinned> {
    let Good { stored, .. } = good(state)?;
    Some(Pinned { commit: stored.revision.commit?.to_string(), payloads: stored.payloads })
}

/// Whether `trial` is that of the last good revision, to which this host goes back.
pub(super) fn goes_on(state: &StateDir, trial: &Trial) -> bool {
    trial.is_owed() && trial.is_pinned() && standing(state).is_some_and(|quarantine| quarantine.failed.is_none())
}

/// `revision` made something bad that was good before: it is undone by the next pass.
pub(super) fn quarantine(
    host: &Reader,
    report: &mut Report,
    trial: Trial,
    revision: &Revision,
    (thing, why): (Thing, String),
) -> Result<(), Stop> {
    let Some(commit) = revision.commit.clone() else { return Ok(()) };
    let cause = trial::said(host, &thing, &why);
    report.raise(State::Degraded, trial::word(&thing), Some(format!("{cause}; {} is undone", commit.short())));
    condemn(host, trial, (trial::word(&thing), &cause))?;
    report.undo = true;
    Ok(())
}

/// What is on trial is quarantined from now on, for this reason and cause, and undone by the next pass.
pub(super) fn condemn(host: &Reader, trial: Trial, (reason, cause): (&str, &str)) -> Result<(), Stop> {
    let Ok(commit) = trial.commit.parse() else { return Ok(()) };
    let state = &host.state();
    let chosen = brakes(host).ok().and_then(|brakes| brakes.rolled_back).map(|choice| choice.at);
    let quarantine = Quarantine {
        commit,
        reason: reason.to_owned(),
        cause: one_line(cause, 600),
        at: host.now(),
        packages: trial.packages.clone(),
        failed: None,
        chosen,
    };
    // In this order: what is quarantined is undone, whatever comes in between.
    save(state, Some(&quarantine))?;
    let back = trial.pinned.as_ref().map(|pinned| pinned.commit.clone()).unwrap_or_default();
    Trial { commit: back, over: false, told: Vec::new(), ..trial }.save(state)
}

/// What is undone is undone no more, since that comes to no end.
pub(super) fn give_up(state: &StateDir, report: &mut Report, why: &str) -> Result<(), Stop> {
    let Some(quarantine) = standing(state) else { return Ok(()) };
    ended(state, report, Trial::load(state)?, &quarantine, (None, Some(why.to_owned()))).map(drop)
}

/// The pass that undoes has ended: whether all is as it was. What keeps it from that for good is not tried again.
pub(super) fn ended(
    state: &StateDir,
    report: &mut Report,
    trial: Trial,
    quarantine: &Quarantine,
    (bad, stuck): (Option<(Thing, String)>, Option<String>),
) -> Result<bool, Stop> {
    let failed = match bad {
        Some((thing, why)) => Some(format!("{thing} is not well after that either: {why}")),
        None => stuck,
    };
    let done = failed.is_none();
    if let Some(why) = failed {
        let quarantine = Quarantine { failed: Some(one_line(&why, 600)), ..quarantine.clone() };
        save(state, Some(&quarantine))?;
        report.insist(State::Stalled, &quarantine.undo_failed(&why));
    }
    Trial { over: true, ..trial }.save(state)?;
    Ok(done)
}

impl Quarantine {
    fn undo_failed(&self, why: &str) -> Stop {
        let commit = self.commit.short();
        let message = format!(
            "{commit} could not be undone: {why}; it is undone since {}; nothing is changed before a newer commit or \
             trueup retry",
            self.cause
        );
        Stop { stage: Stage::Apply, class: Class::Stalled, reason: "undo-failed".to_owned(), message }
    }

    /// What is said for as long as it holds.
    fn undone(&self, to: &Revision) -> Stop {
        let message = format!(
            "{} undone to {}: {}; quarantined until a newer commit or trueup retry",
            self.commit.short(),
            to.short(),
            self.cause
        );
        Stop { stage: Stage::Apply, class: Class::Stalled, reason: self.reason.clone(), message }
    }
}

/// As `look`, of the last good revision, since the one that would be acted on was undone here. `why` is what keeps this
/// host from a newer one, if anything.
pub(super) fn look(
    host: &Reader,
    ask: &Ask,
    report: &mut Report,
    (mut ledger, recovered, restraint): (Ledger, bool, Restraint),
    (own, gate): (&Facts, &Gate),
    (quarantine, why): (Quarantine, Option<&Stop>),
) -> Result<Looked, Stop> {
    if let Some(why) = &quarantine.failed {
        return Err(quarantine.undo_failed(why));
    }
    let state = host.state();
    let lost = || quarantine.undo_failed("our own copy of the last good revision is not whole");
    let Good { stored, passed, .. } = good(&state).ok_or_else(lost)?;
    let Stored { revision, mut desired, .. } = stored;
    if let Some(commit) = &revision.commit {
        report.believe(gate.still_by(commit, passed.as_ref()).map_err(|error| stop(Stage::Verify, &error))?);
    }
    let before = report.clone();
    let payloads = Payloads::of_pack(stored.payloads);
    bind(&mut ledger, &desired.host, own).map_err(|error| stop(Stage::Compile, &error))?;
    report.host = Some(desired.host.clone());
    for (id, version) in &quarantine.packages {
        if let Some(Spec::Package(spec @ package::Spec::Present { .. })) =
            desired.resources.get_mut(id).map(|wanted| &mut wanted.spec)
        {
            back_to(spec, version);
        }
    }
    // What it took over goes back, whatever it says of letting go.
    for (id, entry) in &mut ledger.entries {
        if !desired.resources.contains_key(id) {
            entry.release = Release::Restore;
        }
    }
    let mut compiled = Compiled { desired, payloads, notes: Vec::new(), machine_id: None, roles: Vec::new() };
    names::follow(host, &compiled.desired, &mut ledger);
    let known = strangers::Known { own: &ask.settings.trusted_files(), ..strangers::Known::default() };
    strangers::find(host, &known, &mut compiled.desired, &mut ledger, restraint.met());
    let back = Ask { leave: ask.leave.back(), ..ask.clone() };
    let weighed = weigh(host, &back, report, &ledger, restraint, compiled)?;
    if !weighed.whole {
        *report = before;
        return Err(lost());
    }
    let undone = quarantine.undone(&revision);
    let standing = match why.filter(|why| why.class == Class::Stalled) {
        Some(why) => {
            report.notes.push(undone.message);
            (State::Stalled, why.clone())
        }
        None => (State::RolledBack, undone),
    };
    let standing = Some(Standing::told(report, standing));
    report.revision.attempted = Some(quarantine.commit.to_string());
    report.back_to = revision.commit.as_ref().map(ToString::to_string);
    let looked = weighed.looked(report.clone(), (ledger, recovered), revision, standing);
    Ok(Looked { undoing: Some(quarantine), ..looked })
}

/// A package that was upgraded or downgraded goes back to the version that it had. No version has `*` or `?` in it
/// (deb-version(7), rpm-version(7)), so the pattern is that version, and unlike an exact one it is not held.
fn back_to(spec: &mut package::Spec, before: &str) {
    let package::Spec::Present { version, downgrade, .. } = spec else { return };
    *downgrade = Downgrade::Always;
    if *version == Version::Any || matches!(version, Version::Glob(_)) {
        *version = Version::Glob(before.to_owned());
    }
}
