//! What holds a pass back: what people asked for, and what earlier passes met.

use std::collections::{BTreeMap, BTreeSet};

use super::Ask;
use super::stop::At;
use crate::apply::{self, Applied};
use crate::brakes::{self, Brakes, Experience, Failure, Found, Holds, known_by, tried_as};
use crate::compile::Desired;
use crate::host::{DocumentError, Reader, StateDir};
use crate::ledger::Ledger;
use crate::model::{Cause, Class, Id, Outcome, Stage, Stop};
use crate::plan::{Action, Plan, Step, Unseen};
use crate::report::Report;

/// Failures that are no reason to wait: somebody else was at it, or nothing was tried at all. Those that come of a
/// fight are counted as what they are, a contest.
const NO_WAIT: &[&str] = &["did-not-hold", "stale", "deferred", "interrupted"];

/// What people asked for on this host.
///
/// # Errors
/// Where that cannot be read or believed: anything may be suspended then.
pub fn brakes(host: &Reader) -> Result<Brakes, Stop> {
    brakes_in(&host.agent_state())
}

/// As [`fn@brakes`], of what stands in the agent's own corner, `own`.
///
/// # Errors
/// As [`fn@brakes`].
pub fn brakes_in(own: &StateDir) -> Result<Brakes, Stop> {
    const MEND: &str = "nothing is changed before root says `trueup resume`, which forgets what was suspended";
    match brakes::load(own) {
        Ok(document) if !document.recovered => Ok(document.value),
        // The copy from before knows nothing of what was asked for last.
        Ok(_) => {
            let why = "the record of what is suspended is damaged";
            let (stage, class, reason) = (Stage::Verify, Class::Stalled, "state-damaged".to_owned());
            Err(Stop { stage, class, reason, message: format!("{why}; {MEND}") })
        }
        // What is damaged here is not the ledger: nothing would be adopted anew.
        Err(DocumentError::Damaged { path, why }) => {
            let path = path.display();
            let message = format!(
                "the record of what is suspended, {path}, is damaged ({why}), and so is its previous copy; {MEND}"
            );
            let (stage, class, reason) = (Stage::Verify, Class::Stalled, "state-damaged".to_owned());
            Err(Stop { stage, class, reason, message })
        }
        Err(error) => Err(error).at(Stage::Verify).map_err(|stop| match stop.class {
            Class::Stalled => Stop { message: format!("{}; {MEND}", stop.message), ..stop },
            Class::Transient => stop,
        }),
    }
}

/// Everything that holds a pass back.
#[derive(Debug, Clone)]
pub(super) struct Restraint {
    /// What people asked for.
    pub(super) brakes: Brakes,
    experience: Experience,
    /// What stands on disk; none where that cannot be believed.
    stored: Option<Experience>,
    /// How often a unit may restart within ten minutes; none is no bound.
    budget: Option<usize>,
}

impl Restraint {
    /// As it stands on this host. Where `ask` is to try again, what was met is forgotten.
    ///
    /// # Errors
    /// Where what people asked for cannot be read or believed: anything may be suspended then.
    pub(super) fn read(host: &Reader, ask: &Ask, report: &mut Report) -> Result<Self, Stop> {
        let brakes = brakes(host)?;
        let stored = match brakes::load_experience(&host.state()) {
            Ok(document) => Some(document.map(|document| document.value).unwrap_or_default()),
            Err(error @ DocumentError::CannotLook(_)) => return Err(error).at(Stage::Verify),
            Err(error) => {
                report.notes.push(format!("what earlier passes met is forgotten: {error}"));
                None
            }
        };
        let mut experience = stored.clone().unwrap_or_default();
        if ask.retry {
            experience.forget_all();
        } else if ask.afresh {
            experience.forget_failures();
        }
        // What is undone is not held up by how often what broke it was committed.
        let bound = host.is_machine() && !ask.afresh && !ask.striking;
        let budget = bound.then_some(ask.settings.change.restarts);
        Ok(Self { brakes, experience, stored, budget })
    }

    /// What is held while `desired` is wanted.
    pub(super) fn holds(&mut self, desired: &Desired, now: i64) -> Holds {
        self.experience.meet(desired, now);
        brakes::held(&self.brakes, &self.experience, self.budget, now)
    }

    /// What earlier passes met trouble with.
    pub(super) fn met(&self) -> impl Iterator<Item = &Id> {
        self.experience.contests.keys().chain(self.experience.retries.keys())
    }

    /// Takes in what was found on the host.
    pub(super) fn found(&mut self, plan: &Plan, ledger: &Ledger, now: i64) {
        let contested = |held: &brakes::Held| matches!(held, brakes::Held::Contested { .. });
        let held = plan.held.iter().filter(|held| contested(&held.why)).map(|held| &held.step.id);
        let owing = plan.owing.iter().filter(|held| contested(&held.why)).map(|held| &held.refresh.id);
        let differing: BTreeSet<&Id> = held.chain(owing).collect();
        let holding = plan.adopted.iter().chain(&plan.in_sync).filter(|id| !differing.contains(id)).collect();
        let going = plan.steps.iter().chain(plan.held.iter().map(|held| &held.step));
        let unseen = plan.failed.iter().map(|unseen| &unseen.id);
        let refreshes = plan.refreshes.iter().chain(plan.owing.iter().map(|held| &held.refresh));
        let owed = |id: &&Id| ledger.refreshes.contains_key(*id);
        let found = Found {
            holding,
            differing,
            going: going.map(|step| &step.id).chain(unseen.clone()).collect(),
            owing: refreshes.map(|refresh| &refresh.id).chain(unseen.filter(owed)).collect(),
            needed: ledger.activations.clone(),
        };
        self.experience.found(&found, now);
    }

    /// Takes in what is refused beforehand: asking again costs as much as trying again, and waits as long.
    pub(super) fn foreseen(&mut self, refused: &[Unseen], desired: &Desired, now: i64) {
        let host = desired.host.as_str();
        for Unseen { id, reason, message } in refused {
            self.experience.failed(id, tried_as(desired, id), Failure { reason, message, host }, now);
        }
    }

    /// Before anything is done: what is about to be corrected counts, though the pass may never come back to say how
    /// it went. On disk when this returns, where it changed.
    ///
    /// # Errors
    /// Where our own directory cannot be written.
    pub(super) fn about_to(&mut self, state: &StateDir, plan: &Plan, desired: &Desired, now: i64) -> Result<(), Stop> {
        let mut counted = self.experience.clone();
        for id in corrections(plan) {
            if let Some(wanted) = desired.resources.get(id) {
                counted.correct(id, known_by(&wanted.spec), now);
            }
        }
        self.store(state, counted)
    }

    /// After it: counts what was really tried, and how that went. On disk when this returns, where it changed.
    ///
    /// # Errors
    /// Where our own directory cannot be written.
    pub(super) fn came_of(
        mut self,
        state: &StateDir,
        plan: &Plan,
        applied: &Applied,
        desired: &Desired,
        now: i64,
    ) -> Result<(), Stop> {
        let mut met = std::mem::take(&mut self.experience);
        let corrections: BTreeSet<&Id> = corrections(plan).chain(corrected(applied.afterwards.iter())).collect();
        let host = desired.host.as_str();
        let wanted = |id: &Id| desired.resources.get(id).map(|wanted| known_by(&wanted.spec));
        let mut touched = BTreeMap::new();
        for step in plan.steps.iter().chain(&applied.afterwards) {
            let id = &step.id;
            let Some(outcome @ (Outcome::Done | Outcome::Failed { .. })) = applied.outcomes.get(id) else { continue };
            match failure(outcome, host) {
                Some(failure) => {
                    // What it has not caught up with it owes from now on.
                    if step.remedy().is_some() {
                        met.refresh_failed(id, wanted(id), failure, now);
                    }
                    met.failed(id, tried_as(desired, id), failure, now);
                }
                None if *outcome == Outcome::Done => drop(met.retries.remove(id)),
                None => {}
            }
            touched.insert(id, failure(outcome, host).is_some());
            let told = applied.refreshed.iter().any(|refreshed| refreshed.id == *id);
            if self.budget.is_some() && step.remedy().is_some() && was_touched(outcome) && !told {
                met.restart(id, now);
            }
        }
        let tried = |refreshed: &&apply::Refreshed| !matches!(refreshed.outcome, Outcome::Skipped { .. });
        for refreshed in applied.refreshed.iter().filter(tried) {
            let id = &refreshed.id;
            if self.budget.is_some() && was_touched(&refreshed.outcome) {
                met.restart(id, now);
            }
            match failure(&refreshed.outcome, host) {
                Some(failure) => met.refresh_failed(id, wanted(id), failure, now),
                None => drop(met.refreshes.remove(id)),
            }
            touched.entry(id).or_insert_with(|| failure(&refreshed.outcome, host).is_some());
        }
        for (what, outcome) in &applied.activated {
            match failure(outcome, host) {
                Some(failure) => met.activation_failed(*what, failure, now),
                None => drop(met.activations.remove(what)),
            }
        }
        for (id, failed) in touched.into_iter().filter(|(id, _)| corrections.contains(id)) {
            match wanted(id) {
                Some(wanted) if failed => met.correction_failed(id, wanted, now),
                Some(wanted) => met.correct(id, wanted, now),
                None => {}
            }
        }
        self.store(state, met)
    }

    /// Writes `experience`, where it is not what stands there.
    fn store(&mut self, state: &StateDir, experience: Experience) -> Result<(), Stop> {
        if self.stored.as_ref() != Some(&experience) {
            brakes::save_experience(state, &experience).at(Stage::Record)?;
            self.stored = Some(experience);
        }
        Ok(())
    }
}

/// Whether anything was done to the unit: one that `validate` refuses runs on.
fn was_touched(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Failed { reason, .. } if reason == apply::VALIDATION_FAILED)
}

/// How it failed, where that is a reason to wait.
fn failure<'o>(outcome: &'o Outcome, host: &'o str) -> Option<Failure<'o>> {
    match outcome {
        Outcome::Failed { reason, message } if !NO_WAIT.contains(&reason.as_str()) => {
            Some(Failure { reason, message, host })
        }
        _ => None,
    }
}

/// Resources that `plan` puts back, each once; units that restart only since something is put back are too.
fn corrections(plan: &Plan) -> impl Iterator<Item = &Id> {
    let refreshed = plan.refreshes.iter().filter(|refresh| refresh.corrective).map(|refresh| &refresh.id);
    let all: BTreeSet<&Id> = corrected(plan.steps.iter()).chain(refreshed).collect();
    all.into_iter()
}

fn corrected<'s>(steps: impl Iterator<Item = &'s Step>) -> impl Iterator<Item = &'s Id> {
    steps.filter(|step| step.cause != Cause::Intended && step.action != Action::LetGo).map(|step| &step.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Refreshed;
    use crate::compile::Wanted;
    use crate::kinds::{Activation, Observed, Phase, Refresh, Spec, package, unit};
    use crate::model::{Drift, Release};
    use crate::plan::PlannedRefresh;

    const NOW: i64 = 1_800_000_000;
    const BUDGET: usize = 15;

    struct Scene {
        _scratch: tempfile::TempDir,
        state: StateDir,
        desired: Desired,
    }

    impl Scene {
        fn new() -> Self {
            let scratch = tempfile::tempdir().expect("a scratch directory");
            let (spec, drift, release) = (Spec::Unit(unit::Spec::default()), Drift::Correct, Release::Restore);
            let wanted = Wanted { spec, drift, release, layer: String::new(), exclusive: None, stranger_of: None };
            let resources = [(app(), wanted)].into();
            let desired = Desired {
                host: "web-01".to_owned(),
                resources,
                update: None,
                max_removals: None,
                checks: BTreeMap::new(),
                unlisted: BTreeMap::new(),
            };
            Self { state: StateDir::new(scratch.path().join("state")), _scratch: scratch, desired }
        }

        fn restraint(&self) -> Restraint {
            let stored = brakes::load_experience(&self.state).expect("whole").map(|document| document.value);
            let stored = stored.unwrap_or_default();
            Restraint {
                brakes: Brakes::default(),
                experience: stored.clone(),
                stored: Some(stored),
                budget: Some(BUDGET),
            }
        }

        /// A pass that restarts the unit, at `now`, with this outcome.
        fn restarts(&self, drift: bool, outcome: Outcome, now: i64) {
            let refresh = PlannedRefresh {
                id: app(),
                how: Refresh::Restart,
                because: vec![],
                invocation: None,
                drift,
                corrective: drift,
                catches_up: false,
            };
            let plan = Plan { refreshes: vec![refresh], ..Plan::default() };
            let mut applied = Applied::default();
            applied.refreshed.push(Refreshed {
                id: app(),
                how: Refresh::Restart,
                because: vec![],
                outcome,
                instead: None,
            });
            let mut restraint = self.restraint();
            restraint.about_to(&self.state, &plan, &self.desired, now).expect("saved");
            restraint.came_of(&self.state, &plan, &applied, &self.desired, now).expect("saved");
        }

        fn holds(&self, now: i64) -> Holds {
            self.restraint().holds(&self.desired, now)
        }
    }

    fn app() -> Id {
        Id::new("unit", "app.service")
    }

    fn failed(reason: &str) -> Outcome {
        Outcome::Failed { reason: reason.to_owned(), message: "no".to_owned() }
    }

    #[test]
    fn units_that_restart_for_drift_are_contested_as_files_are() {
        let scene = Scene::new();
        for second in 0..9 {
            scene.restarts(false, Outcome::Done, NOW + second);
        }
        assert_eq!(scene.holds(NOW + 9), Holds::default(), "the repository asked for them");
        for second in 10..15 {
            assert_eq!(scene.holds(NOW + second), Holds::default());
            scene.restarts(true, Outcome::Done, NOW + second);
        }
        assert_eq!(scene.holds(NOW + 15).resources[&app()].word(), "contested");
    }

    #[test]
    fn a_restart_that_failed_waits_and_one_that_succeeded_does_not() {
        let scene = Scene::new();
        scene.restarts(false, failed("unit-failed"), NOW);
        assert_eq!(scene.holds(NOW + 59).refreshes[&app()].word(), "unit-failed");
        assert_eq!(scene.holds(NOW + 75), Holds::default());
        scene.restarts(false, Outcome::Done, NOW + 75);
        let Experience { refreshes, contests, .. } = scene.restraint().experience;
        assert!(refreshes.is_empty() && contests.is_empty());
        scene.restarts(false, failed("interrupted"), NOW + 75);
        assert_eq!(scene.holds(NOW + 75), Holds::default(), "it is nobody's failure that we were stopped");
    }

    #[test]
    fn a_unit_restarts_no_more_often_than_its_budget_whatever_asks_for_it() {
        let scene = Scene::new();
        for second in 0..15 {
            assert!(scene.holds(NOW + second).spent.is_empty());
            let refused = second == 3;
            scene.restarts(false, if refused { failed(apply::VALIDATION_FAILED) } else { Outcome::Done }, NOW + second);
        }
        assert!(scene.holds(NOW + 15).spent.is_empty(), "one was refused beforehand: it never restarted");
        scene.restarts(false, failed("unit-failed"), NOW + 15);
        let spent = scene.holds(NOW + 16).spent;
        assert_eq!(spent[&app()], brakes::Held::Spent { restarts: 15, next: NOW + 600 });
        assert!(scene.holds(NOW + 599).spent.contains_key(&app()) && scene.holds(NOW + 600).spent.is_empty());

        let undoing = Restraint { budget: None, ..scene.restraint() }.holds(&scene.desired, NOW + 16);
        assert!(undoing.spent.is_empty(), "what is undone is not held up");
    }

    #[test]
    fn a_unit_that_catches_up_with_what_stands_there_spends_its_budget_and_is_contested_as_any_other() {
        let scene = Scene::new();
        let behind = unit::Behind {
            why: unit::Why::ReplacedBinary,
            paths: vec!["/usr/bin/app".to_owned()],
            remedy: Some(Refresh::Restart),
        };
        let seen = unit::Observed {
            load: unit::Load::Loaded,
            file: unit::FileState::Enabled,
            sub: "running".to_owned(),
            main: Some(7),
            behind: vec![behind],
            ..unit::Observed::nothing(Some(unit::Active::Active))
        };
        let step = Step {
            id: app(),
            action: Action::Change,
            cause: Cause::Corrective,
            changes: Vec::new(),
            detail: None,
            layer: String::new(),
            want: Spec::Unit(unit::Spec::default()),
            seen: Observed::Unit(seen),
            phase: Phase::Units,
            original: false,
            keep: None,
            drift: Drift::Correct,
            release: Release::Restore,
            secret: false,
        };
        let plan = Plan { steps: vec![step], ..Plan::default() };
        for second in 0..5 {
            let mut applied = Applied::default();
            applied.outcomes.insert(app(), Outcome::Done);
            let mut restraint = scene.restraint();
            restraint.about_to(&scene.state, &plan, &scene.desired, NOW + second).expect("saved");
            restraint.came_of(&scene.state, &plan, &applied, &scene.desired, NOW + second).expect("saved");
        }
        assert_eq!(scene.holds(NOW + 5).resources[&app()].word(), "contested");
        let few = Restraint { budget: Some(5), ..scene.restraint() }.holds(&scene.desired, NOW + 5);
        assert_eq!(few.spent[&app()].word(), "restart-budget");
    }

    #[test]
    fn an_engine_that_failed_waits() {
        let scene = Scene::new();
        let mut applied = Applied::default();
        applied.activated.push((Activation::Sysctl, failed("program-failed")));
        scene.restraint().came_of(&scene.state, &Plan::default(), &applied, &scene.desired, NOW).expect("saved");
        assert_eq!(scene.holds(NOW).activations[&Activation::Sysctl].word(), "program-failed");
    }

    #[test]
    fn what_is_refused_beforehand_waits_and_is_tried_again_when_another_package_is_declared_otherwise() {
        let mut scene = Scene::new();
        let wanted = |spec| Wanted {
            spec: Spec::Package(spec),
            drift: Drift::Correct,
            release: Release::Restore,
            layer: String::new(),
            exclusive: None,
            stranger_of: None,
        };
        let [rival, theirs, gone] = ["rival", "theirs", "gone"].map(|name| Id::new("package", name));
        let present = package::Spec::present(package::Version::Any, package::Downgrade::Never);
        scene.desired.resources.insert(rival.clone(), wanted(present));
        let refused = [rival.clone(), gone.clone()].map(|id| Unseen {
            id,
            reason: "removes-undeclared",
            message: "theirs".to_owned(),
        });
        let foresees = |now| {
            let mut restraint = scene.restraint();
            drop(restraint.holds(&scene.desired, now));
            restraint.foreseen(&refused, &scene.desired, now);
            restraint.about_to(&scene.state, &Plan::default(), &scene.desired, now).expect("saved");
        };
        foresees(NOW);
        let held = scene.holds(NOW + 59).resources;
        assert_eq!((held[&rival].word(), held[&gone].word()), ("removes-undeclared", "removes-undeclared"));
        assert_eq!(scene.holds(NOW + 75), Holds::default());
        foresees(NOW + 75);
        assert_eq!(scene.holds(NOW + 75 + 119).resources.len(), 2, "longer each time");
        scene.desired.resources.insert(theirs, wanted(package::Spec::Absent));
        assert_eq!(scene.holds(NOW + 75).resources.keys().collect::<Vec<_>>(), [&gone], "that may have been it");
    }

    #[test]
    fn nothing_is_written_where_nothing_was_met() {
        let scene = Scene::new();
        let plan = Plan::default();
        let mut restraint = scene.restraint();
        restraint.about_to(&scene.state, &plan, &scene.desired, NOW).expect("nothing to do");
        restraint.came_of(&scene.state, &plan, &Applied::default(), &scene.desired, NOW).expect("nothing to do");
        assert!(!scene.state.path().exists());
    }
}
