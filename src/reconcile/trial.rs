//! A revision is on trial from before the first step towards it until everything that it touched has settled. What was
//! well before is written down first, so that a crash, a restart or a newer revision forgets none of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::stop::At;
use super::{Ask, settings, undo};
use crate::apply::{self, Applied, Eyes, Thing, Vital};
use crate::compile::{Desired, Wanted};
use crate::config::SourceSettings;
use crate::host::{Reader, StateDir, Writer};
use crate::kinds::{Observed, Spec, package};
use crate::model::{Class, Digest, Id, Outcome, Revision, Stage, Stop};
use crate::plan::Plan;
use crate::report::{Report, State, commit_text};

/// Bumped when an older trueup could misread what is written.
const FORMAT: u32 = 1;
/// A document of our own directory.
const NAME: &str = "trial";

/// Steps that failed for these are tried again; until then nothing is judged by what they leave undone.
const LATER: &[&str] =
    &["package-lock-held", "download-failed", "index-failed", "disk-full", "read-only", "timed-out", "interrupted"];

/// The last revision that settled here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pinned {
    /// Its commit, in full.
    pub(super) commit: String,
    /// The pack of its contents, which stays.
    pub(super) payloads: Digest,
}

/// How it stands with the revision that is, or was last, on trial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Trial {
    /// Its commit, in full.
    pub(super) commit: String,
    /// The last revision that settled here; none where none did.
    pub(super) pinned: Option<Pinned>,
    /// What was well before the first step.
    pub(super) good: BTreeSet<Thing>,
    /// What was not.
    pub(super) bad: BTreeSet<Thing>,
    /// What the steps touched, and what depends on that.
    pub(super) touched: BTreeSet<Thing>,
    /// Versions of packages before the steps that changed them.
    pub(super) packages: BTreeMap<Id, String>,
    /// It was waited for to the end.
    pub(super) over: bool,
    /// What was not well then, and why.
    pub(super) told: Vec<(Thing, String)>,
}

/// What came of the waiting.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Something is to be tried again first.
    Later,
    /// Somebody asked for an end.
    Interrupted,
    /// This is not well; everything else is.
    Over(Vec<(Thing, String)>),
}

impl Trial {
    /// As it was written last; none is as if there had been none.
    ///
    /// # Errors
    /// Where it cannot be read or believed.
    pub(super) fn load(state: &StateDir) -> Result<Self, Stop> {
        let document = state.load::<Self>(NAME, FORMAT).at(Stage::Record)?;
        let mut trial = document.map(|document| document.value).unwrap_or_default();
        // It was found good, and cut short before that was written here too.
        if trial.can_be_undone()
            && let Some(pinned) = undo::pinned(state).filter(|pinned| pinned.commit == trial.commit)
        {
            trial = Self { pinned: Some(pinned), over: true, ..trial };
        }
        Ok(trial)
    }

    pub(super) fn save(&self, state: &StateDir) -> Result<(), Stop> {
        state.save(NAME, FORMAT, self).at(Stage::Record)
    }

    /// Whether there is something to be waited for, whatever else is to be done.
    pub(super) fn is_owed(&self) -> bool {
        !self.commit.is_empty() && !self.over
    }

    /// Whether it is that of the last revision that settled here.
    pub(super) fn is_pinned(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.commit == self.commit)
    }

    /// Whether there is something to be undone, and something to go back to.
    pub(super) fn can_be_undone(&self) -> bool {
        self.is_owed() && self.pinned.is_some() && !self.is_pinned()
    }

    /// Whether `thing` being bad is a reason to undo what it was touched by.
    pub(super) fn is_cause(&self, thing: &Thing) -> bool {
        self.touched.contains(thing) && self.good.contains(thing)
    }

    /// The trial of `commit`, going on from this one; none where that is well and known to be. `work` says that there
    /// is something to do.
    fn of(self, commit: &str, work: bool) -> Option<Self> {
        if self.commit == commit && self.over && self.told.is_empty() && self.is_pinned() {
            return None;
        }
        Some(match (work, self.is_owed()) {
            // What an earlier revision has begun is judged with what this one does.
            (_, true) => Self { commit: commit.to_owned(), ..self },
            (true, false) => Self { commit: commit.to_owned(), pinned: self.pinned, ..Self::default() },
            (false, false) => Self { commit: commit.to_owned(), over: true, ..self },
        })
    }
}

/// Before the first step: what is well now, on disk when this returns. None where nothing is on trial.
///
/// # Errors
/// Where our own directory cannot be written, or somebody asks for an end.
pub(super) fn begin(
    host: &Reader,
    ask: &Ask,
    plan: &Plan,
    desired: &Desired,
    revision: &Revision,
) -> Result<Option<Trial>, Stop> {
    if !host.is_machine() || revision.commit.is_none() {
        return Ok(None);
    }
    let state = host.state();
    let before = match Trial::load(&state) {
        // Damaged for good: there is nothing to go back to, until this one has settled.
        Err(stop) if stop.class == Class::Stalled => Trial::default(),
        before => before?,
    };
    let Some(mut trial) = before.clone().of(&commit_text(revision), plan.is_work()) else { return Ok(None) };
    if plan.is_work() {
        trial.touch(host, plan, desired);
        let new: Vec<Thing> = apply::things(desired)
            .into_iter()
            .filter(|thing| !trial.good.contains(thing) && !trial.bad.contains(thing))
            // What no host can do without is nobody's fault who did not touch it.
            .filter(|thing| !matches!(thing, Thing::Vital(_)) || trial.touched.contains(thing))
            .collect();
        host.say("looking at what is well before anything is changed");
        let looks = open(host, ask, (desired, false), |eyes| apply::look(eyes, &new.iter().collect::<Vec<_>>()));
        let looks = looks.ok_or_else(interrupted)?;
        for (thing, look) in new.into_iter().zip(looks) {
            if look.is_good() {
                trial.good.insert(thing)
            } else {
                trial.bad.insert(thing)
            };
        }
    }
    if trial != before {
        trial.save(&state)?;
    }
    Ok(Some(trial))
}

/// Looks, or watches, at this host.
fn open<T>(
    host: &Reader,
    ask: &Ask,
    (desired, gateway_answered): (&Desired, bool),
    look: impl FnOnce(&Eyes<'_>) -> T,
) -> T {
    let endpoints = ask.settings.source.as_ref().map(SourceSettings::endpoints).unwrap_or_default();
    let settings = || settings::settings(host).map(drop).map_err(|stop| stop.message);
    look(&Eyes { host, worker: &ask.worker, desired, endpoints: &endpoints, gateway_answered, settings: &settings })
}

fn interrupted() -> Stop {
    let message = "ended before anything was changed, as asked".to_owned();
    Stop { stage: Stage::Apply, class: Class::Transient, reason: "interrupted".to_owned(), message }
}

impl Trial {
    /// Takes in what `plan` touches, and what depends on that.
    fn touch(&mut self, host: &Reader, plan: &Plan, desired: &Desired) {
        // What catches up with a binary that somebody replaced is no work of this revision, and no fault of it.
        let steps = plan.steps.iter().filter(|step| step.remedy().is_none());
        let changed: BTreeSet<Id> = steps.map(|step| step.id.clone()).collect();
        let moved: Vec<&Id> =
            plan.refreshes.iter().filter(|refresh| !refresh.catches_up).map(|refresh| &refresh.id).collect();
        let mut units: BTreeSet<String> = changed
            .iter()
            .chain(moved.iter().copied())
            .filter(|id| id.kind() == "unit")
            .map(|id| id.name().to_owned())
            .collect();
        for (id, wanted) in desired.resources.iter().filter(|(id, _)| id.kind() == "unit") {
            if !wanted.spec.declared_used(id.name(), &changed).is_empty() {
                units.insert(id.name().to_owned());
            }
        }
        // What a package brings may be used by anything.
        let packages = changed.iter().any(|id| id.kind() == "package");
        let things = apply::things(desired);
        let named = |thing: &Thing| match thing {
            Thing::Unit(name) => Some(name.clone()),
            Thing::Check(_) | Thing::Vital(_) => None,
        };
        let watched: Vec<String> = things.iter().filter_map(named).collect();
        let others: Vec<&str> =
            watched.iter().map(String::as_str).filter(|name| !packages && !units.contains(*name)).collect();
        units.extend(apply::depending(host, &others, &units));
        let at_stake = apply::at_stake(changed.iter().chain(moved));
        let touched = |thing: &Thing| match thing {
            Thing::Unit(name) => packages || units.contains(name),
            Thing::Check(_) => true,
            Thing::Vital(vital) => at_stake.contains(vital),
        };
        self.touched.extend(things.into_iter().filter(touched));
        for step in &plan.steps {
            if let (Spec::Package(_), Observed::Package(package::Observed::Installed { version, .. })) =
                (&step.want, &step.seen)
            {
                self.packages.entry(step.id.clone()).or_insert_with(|| version.clone());
            }
        }
    }

    /// Waits until everything has come up and stayed so, or has not.
    pub(super) fn judge(
        &self,
        host: &Reader,
        ask: &Ask,
        desired: &Desired,
        (plan, applied): (&Plan, &Applied),
    ) -> Verdict {
        if applied.interrupted {
            return Verdict::Interrupted;
        }
        let waits =
            plan.held.iter().any(|held| held.why.is_failure()) || plan.owing.iter().any(|held| held.why.is_for_later());
        let answered = self.good.contains(&Thing::Vital(Vital::Gateway));
        let mut things = apply::things(desired);
        things.remove(&Thing::Vital(Vital::Gateway));
        things.retain(|thing| !matches!(thing, Thing::Vital(_)) || self.is_cause(thing) || self.over);
        let watch = |things: BTreeMap<Thing, bool>| {
            open(host, ask, (desired, answered), |eyes| apply::watch(eyes, &things, ask.settings.change.settle))
        };
        if !self.over && (waits || is_for_later(applied)) {
            // What does not hang on what is to be tried again is judged now; that may fail because this host cut itself off.
            let open = unfinished(plan, applied);
            let waits = |thing: &Thing| match thing {
                Thing::Unit(name) => {
                    let id = Id::new("unit", name);
                    let uses = |wanted: &Wanted| !wanted.spec.declared_used(name, &open).is_empty();
                    open.contains(&id) || desired.resources.get(&id).is_some_and(uses)
                }
                Thing::Check(_) => true,
                Thing::Vital(_) => false,
            };
            things.retain(|thing| self.pinned.is_some() && self.is_cause(thing) && !waits(thing));
            return match watch(things.into_iter().map(|thing| (thing, true)).collect()) {
                Some(bad) if bad.is_empty() => Verdict::Later,
                Some(bad) => Verdict::Over(bad),
                None => Verdict::Interrupted,
            };
        }
        if self.over {
            // What was not well then may be by now: one look, and nothing is waited for.
            let told: Vec<&Thing> = self.told.iter().map(|(thing, _)| thing).filter(|it| things.contains(it)).collect();
            let looks = open(host, ask, (desired, answered), |eyes| apply::look(eyes, &told));
            let Some(looks) = looks else { return Verdict::Interrupted };
            let still = told.into_iter().zip(looks).filter(|(_, look)| !look.is_good()).map(|(thing, _)| thing);
            let still: BTreeSet<&Thing> = still.collect();
            return Verdict::Over(self.told.iter().filter(|(thing, _)| still.contains(thing)).cloned().collect());
        }
        if things.is_disjoint(&self.touched) {
            return Verdict::Over(Vec::new());
        }
        let things = things.into_iter().map(|thing| (thing.clone(), self.pinned.is_some() && self.is_cause(&thing)));
        match watch(things.collect()) {
            Some(bad) => Verdict::Over(bad),
            None => Verdict::Interrupted,
        }
    }
}

/// What was not done of `plan`.
fn unfinished(plan: &Plan, applied: &Applied) -> BTreeSet<Id> {
    let undone = applied.outcomes.iter().filter(|(_, outcome)| **outcome != Outcome::Done).map(|(id, _)| id);
    let refreshed = applied.refreshed.iter().filter(|one| one.outcome != Outcome::Done).map(|one| &one.id);
    let held = plan.held.iter().map(|held| &held.step.id).chain(plan.owing.iter().map(|held| &held.refresh.id));
    undone.chain(refreshed).chain(held).cloned().collect()
}

fn is_for_later(applied: &Applied) -> bool {
    let refreshed = applied.refreshed.iter().map(|refreshed| &refreshed.outcome);
    let all = applied.outcomes.values().chain(refreshed).chain(applied.activated.iter().map(|(_, outcome)| outcome));
    all.into_iter().any(|outcome| match outcome {
        Outcome::Failed { reason, .. } => LATER.contains(&reason.as_str()),
        _ => false,
    })
}

/// The stable word for `thing` not being well.
pub(super) fn word(thing: &Thing) -> &'static str {
    match thing {
        Thing::Unit(_) => "unit-failed",
        Thing::Check(_) => "check-failed",
        Thing::Vital(vital) => vital.reason(),
    }
}

/// Says in `report`, and writes down, what came of the trial of `revision`: it is undone, told, or good from now on.
/// Whether nothing of it keeps the revision from counting as applied. `converged` says that all of its steps hold.
///
/// # Errors
/// Where our own directory cannot be written.
pub(super) fn conclude(
    host: &mut Writer,
    ask: &Ask,
    report: &mut Report,
    mut trial: Trial,
    verdict: Verdict,
    (revision, converged, undoing): (&Revision, bool, Option<(&undo::Quarantine, Option<String>)>),
) -> Result<bool, Stop> {
    let state = host.state();
    let bad = match verdict {
        // The trial goes on with the next pass, which arms anew: this one has come to its end, and can speak to the world.
        Verdict::Later => {
            if undoing.is_none() {
                apply::disarm(host).at(Stage::Record)?;
            }
            return Ok(false);
        }
        Verdict::Interrupted => {
            let message = match (ask.booting, apply::is_armed(&state).unwrap_or(true)) {
                (true, _) => {
                    "this host is coming up: what lies in files is undone, and the rest once the agent runs".to_owned()
                }
                (false, false) => {
                    "ended while it waited for everything to settle, as asked; the next pass goes on".to_owned()
                }
                (false, true) => format!(
                    "ended while it waited for everything to settle, as asked; unless another pass does, this revision is \
                     undone in {} min",
                    ask.settings.change.deadline.as_secs().div_ceil(60)
                ),
            };
            report.raise(State::Pending, "interrupted", Some(message));
            return Ok(false);
        }
        Verdict::Over(bad) => bad,
    };
    let cause = bad.iter().find(|(thing, _)| !trial.over && trial.is_cause(thing)).cloned();
    if let Some((thing, why)) = bad.first().filter(|_| cause.is_none()) {
        let more = if bad.len() > 1 { format!("; and {} more", bad.len() - 1) } else { String::new() };
        let before = if trial.bad.contains(thing) { ", as before" } else { "" };
        report.raise(State::Degraded, word(thing), Some(format!("{thing} is not well{before}: {why}{more}")));
    }
    let units_hold = !bad.iter().any(|(thing, _)| matches!(thing, Thing::Unit(_)));
    if let Some((quarantine, stuck)) = undoing {
        let done = undo::ended(&state, report, trial, quarantine, (cause, stuck))?;
        apply::disarm(host).at(Stage::Record)?;
        return Ok(done && units_hold);
    }
    let is_pinned = trial.is_pinned();
    let can_undo = trial.pinned.is_some() && !is_pinned;
    if let Some(cause) = cause {
        if can_undo {
            undo::quarantine(host, report, trial, revision, cause)?;
            return Ok(false);
        }
        let (thing, why) = &cause;
        report.raise(
            State::Degraded,
            word(thing),
            Some(format!("{}; there is nothing to go back to", said(host, thing, why))),
        );
    }
    trial.over = true;
    // A first revision that is not well is nothing to go back to.
    let first_is_well = trial.pinned.is_some() || bad.is_empty();
    trial.told = bad;
    if converged && first_is_well && !is_pinned {
        trial.pinned = undo::pin(host, ask, revision)?.or(trial.pinned);
    }
    trial.save(&state)?;
    if !is_pinned && trial.is_pinned() {
        // What undoes the next one is what could do all of this.
        drop(state.keep_program(ask.worker.executable(), true));
    }
    apply::disarm(host).at(Stage::Record)?;
    Ok(units_hold)
}

/// What happened to `thing`, with the last words of a unit.
pub(super) fn said(host: &Reader, thing: &Thing, why: &str) -> String {
    match thing {
        Thing::Check(_) => format!("{thing} failed: {why}"),
        Thing::Vital(Vital::Network | Vital::Gateway | Vital::Names) => format!("this host cut itself off: {why}"),
        Thing::Vital(Vital::Bus) => format!("{thing} lets nobody in: {why}"),
        Thing::Vital(Vital::Settings) => format!("{thing} cannot be used: {why}"),
        Thing::Unit(name) => {
            let words = apply::last_words(host, name);
            let words = if words.is_empty() { String::new() } else { format!(" (\"{words}\")") };
            format!("{name} is not well: {why}{words}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> Thing {
        Thing::Unit(name.to_owned())
    }

    fn pinned(commit: &str) -> Option<Pinned> {
        Some(Pinned { commit: commit.to_owned(), payloads: Digest::of(b"") })
    }

    /// `a` settled here, well.
    fn settled() -> Trial {
        Trial { commit: "a".to_owned(), pinned: pinned("a"), over: true, ..Trial::default() }
    }

    #[test]
    fn drift_that_is_put_back_on_a_good_revision_is_on_no_trial() {
        assert_eq!(settled().of("a", true), None);
        assert_eq!(settled().of("a", false), None);
    }

    #[test]
    fn a_revision_that_changes_nothing_is_waited_for_by_nobody() {
        let trial = settled().of("b", false).expect("it is to be what this host goes back to");
        assert!(!trial.is_owed() && trial.told.is_empty());
    }

    #[test]
    fn a_newer_revision_is_judged_together_with_the_one_that_has_not_settled() {
        let mut trial = settled().of("b", true).expect("on trial");
        assert!(trial.is_owed());
        trial.good.insert(unit("x.service"));
        trial.touched.insert(unit("x.service"));
        let after_a_crash = trial.clone().of("b", false).expect("still on trial");
        assert_eq!(after_a_crash, trial);
        for work in [true, false] {
            let next = trial.clone().of("c", work).expect("on trial");
            assert!(next.is_owed() && next.is_cause(&unit("x.service")));
            assert_eq!((next.commit.as_str(), &next.pinned), ("c", &pinned("a")));
        }
    }

    #[test]
    fn only_what_was_touched_and_was_well_before_is_a_cause() {
        let mut trial = settled();
        trial.good = [unit("touched"), unit("other")].into();
        trial.bad = [unit("broken")].into();
        trial.touched = [unit("touched"), unit("broken"), unit("new")].into();
        let causes: Vec<&str> =
            ["touched", "other", "broken", "new"].into_iter().filter(|name| trial.is_cause(&unit(name))).collect();
        assert_eq!(causes, ["touched"]);
    }

    #[test]
    fn what_is_told_is_looked_at_again_until_it_is_well() {
        let told = vec![(Thing::Check("web".to_owned()), "refused".to_owned())];
        let trial = Trial { told, ..settled() };
        assert_eq!(trial.clone().of("a", false), Some(trial.clone()));
        assert!(trial.of("a", true).expect("on trial").is_owed());
    }

    #[test]
    fn what_is_written_is_read_and_a_document_of_before_is_none() {
        let mut trial = settled();
        trial.good = [unit("a.service"), Thing::Check("web".to_owned())].into();
        let text = serde_json::to_string(&trial).expect("written");
        assert!(text.contains(r#"{"unit":"a.service"}"#), "{text}");
        assert_eq!(serde_json::from_str::<Trial>(&text).expect("read"), trial);
        assert_eq!(serde_json::from_str::<Trial>("{}").expect("read"), Trial::default());
    }
}
