//! What runs, and is older than what stands on the host: a difference beside what is declared of a unit, which the truth
//! table does not know. It never is what the repository asks for anew, so it is drift whenever it is found.

use super::{Action, Plan, Step, Told};
use crate::compile::Wanted;
use crate::kinds::{Observed, Phase, Refresh, Spec, unit};
use crate::ledger::OwedRefresh;
use crate::model::{Cause, Change, Drift, Id};

/// `seen`, as what is declared is compared with it: as if what runs were what stands there. None where it is.
pub(super) fn aside(seen: &Observed) -> Option<Observed> {
    match seen {
        Observed::Unit(unit) if !unit.behind.is_empty() => {
            Some(Observed::Unit(unit::Observed { behind: Vec::new(), ..unit.clone() }))
        }
        _ => None,
    }
}

/// `seen`, as if the links of the unit had nothing to follow; what they have to, and whether the repository asks for it.
/// None where they have not.
pub(super) fn unlinked(wanted: Option<&Wanted>, seen: &Observed) -> Option<(Observed, Cause)> {
    let (Spec::Unit(want), Observed::Unit(unit)) = (&wanted?.spec, seen) else { return None };
    let follow = unit.follow.as_ref().filter(|_| want.enabled == Some(true))?;
    let cause = if follow.intended { Cause::Intended } else { Cause::Corrective };
    Some((Observed::Unit(unit::Observed { follow: None, ..unit.clone() }), cause))
}

/// Plans what is to be done about a unit that is as declared, but for what it runs. Whether that is a step; what is only
/// told makes none.
pub(super) fn judge(plan: &mut Plan, id: &Id, wanted: &Wanted, seen: &Observed) -> bool {
    let (Spec::Unit(_), Observed::Unit(unit)) = (&wanted.spec, seen) else { return false };
    if unit.behind.is_empty() || wanted.drift == Drift::Ignore {
        return false;
    }
    let told = wanted.drift == Drift::Report;
    let (mends, stays): (Vec<&unit::Behind>, Vec<_>) =
        unit.behind.iter().partition(|behind| !told && behind.remedy.is_some());
    let changes = |all: &[&unit::Behind]| all.iter().map(|behind| behind.change(told)).collect::<Vec<Change>>();
    // A restart also loads the libraries anew.
    let all = unit.remedy() == Some(Refresh::Restart) && !told;
    if let Some(first) = stays.first().filter(|_| !all) {
        plan.told.push(Told {
            id: id.clone(),
            cause: Cause::Corrective,
            changes: changes(&stays),
            detail: None,
            layer: wanted.layer.clone(),
            reason: first.why.word(),
            want: wanted.spec.clone(),
            seen: seen.clone(),
            secret: false,
        });
    }
    if mends.is_empty() {
        return false;
    }
    plan.steps.push(Step {
        id: id.clone(),
        action: Action::Change,
        cause: Cause::Corrective,
        changes: changes(&mends),
        detail: None,
        layer: wanted.layer.clone(),
        want: wanted.spec.clone(),
        seen: seen.clone(),
        phase: Phase::Units,
        original: false,
        keep: None,
        drift: wanted.drift,
        release: wanted.release,
        secret: false,
    });
    true
}

/// Whether a debt that comes of this alone is still to be paid: what is declared may be by now that it is only told, or
/// left as it is.
pub(super) fn is_still_put_right(id: &Id, wanted: &Wanted, seen: &Observed, owed: &OwedRefresh) -> bool {
    let Spec::Unit(want) = &wanted.spec else { return false };
    let because = owed.because.iter().cloned().collect();
    let moves = want.on_change == unit::OnChange::Restart || wanted.spec.refresh(id.name(), seen, &because).is_some();
    wanted.drift == Drift::Correct && moves
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::brakes::{Held, Holds};
    use crate::compile::Desired;
    use crate::host::Error;
    use crate::ledger::{Entry, Ledger, Origin};
    use crate::model::{Release, Takeover};
    use crate::plan::{PlannedRefresh, Situation, make};

    fn app() -> Id {
        Id::new("unit", "app.service")
    }

    fn behind(why: unit::Why, remedy: Option<Refresh>) -> unit::Behind {
        unit::Behind { why, paths: vec!["/usr/bin/app".to_owned()], remedy }
    }

    /// A unit that is as declared, and was, and runs what is `behind`.
    struct Host {
        desired: Desired,
        ledger: Ledger,
        seen: unit::Observed,
    }

    impl Host {
        fn new(behind: Vec<unit::Behind>) -> Self {
            let spec = Spec::Unit(unit::Spec { active: Some(true), ..unit::Spec::default() });
            let (drift, release) = (Drift::Correct, Release::Restore);
            let wanted =
                Wanted { spec: spec.clone(), drift, release, layer: String::new(), exclusive: None, stranger_of: None };
            let mut entry = Entry::new(Origin::Adopted, drift, release, "");
            entry.applied = Some(spec);
            let seen = unit::Observed {
                load: unit::Load::Loaded,
                file: unit::FileState::Enabled,
                sub: "running".to_owned(),
                invocation: Some("a".to_owned()),
                main: Some(7),
                behind,
                ..unit::Observed::nothing(Some(unit::Active::Active))
            };
            Self {
                desired: Desired {
                    host: String::new(),
                    resources: BTreeMap::from([(app(), wanted)]),
                    update: None,
                    max_removals: None,
                    checks: BTreeMap::new(),
                    unlisted: BTreeMap::new(),
                },
                ledger: Ledger { entries: BTreeMap::from([(app(), entry)]), ..Ledger::default() },
                seen,
            }
        }

        fn wanted(&mut self) -> &mut Wanted {
            self.desired.resources.get_mut(&app()).expect("it is wanted")
        }

        fn plan(&self, holds: &Holds) -> Plan {
            let observed: BTreeMap<Id, Result<Observed, Error>> =
                BTreeMap::from([(app(), Ok(Observed::Unit(self.seen.clone())))]);
            make(&Situation {
                ledger: &self.ledger,
                desired: &self.desired,
                observed: &observed,
                takeover: Takeover::Refuse,
                brought: &BTreeSet::new(),
                held: holds,
                originals: 9,
                now: 0,
            })
        }
    }

    fn binary() -> unit::Behind {
        behind(unit::Why::ReplacedBinary, Some(Refresh::Restart))
    }

    fn library() -> unit::Behind {
        behind(unit::Why::ReplacedLibrary, None)
    }

    #[test]
    fn what_may_be_put_right_is_a_corrective_step_known_already_or_not() {
        let mut host = Host::new(vec![library(), binary()]);
        for _ in 0..2 {
            let plan = host.plan(&Holds::default());
            let [step] = plan.steps.as_slice() else { panic!("{plan:?}") };
            assert_eq!(
                (step.action, step.cause, step.remedy()),
                (Action::Change, Cause::Corrective, Some(Refresh::Restart))
            );
            assert_eq!(step.changes.len(), 1, "a restart also loads libraries anew");
            assert!(!plan.is_work(), "no revision has asked for it");
            assert!(plan.told.is_empty() && plan.in_sync.is_empty() && plan.adopted.is_empty(), "{plan:?}");
            // First seen as declared: nothing is taken over.
            host.ledger.entries.clear();
        }
    }

    #[test]
    fn what_is_only_told_is_as_declared_all_the_same() {
        let plan = Host::new(vec![library()]).plan(&Holds::default());
        assert!(plan.is_empty(), "{plan:?}");
        assert_eq!((plan.told[0].reason, plan.told[0].cause), ("replaced-library", Cause::Corrective));
        assert_eq!(plan.in_sync, [app()]);

        let mut host = Host::new(vec![binary()]);
        host.wanted().drift = Drift::Report;
        let plan = host.plan(&Holds::default());
        assert!(plan.is_empty() && plan.told[0].changes[0].to.is_empty(), "{plan:?}");
        host.wanted().drift = Drift::Ignore;
        let plan = host.plan(&Holds::default());
        assert!(plan.is_empty() && plan.told.is_empty() && plan.in_sync == [app()], "{plan:?}");

        // A reload puts right what it is for, and nothing else.
        let reload = behind(unit::Why::OlderConfiguration, Some(Refresh::Reload));
        let plan = Host::new(vec![library(), reload]).plan(&Holds::default());
        assert_eq!((plan.steps[0].remedy(), plan.told[0].reason), (Some(Refresh::Reload), "replaced-library"));
    }

    #[test]
    fn a_step_for_something_else_does_nothing_about_it() {
        let mut host = Host::new(vec![binary()]);
        host.wanted().spec = Spec::Unit(unit::Spec { enabled: Some(false), ..unit::Spec::default() });
        let plan = host.plan(&Holds::default());
        assert_eq!((plan.steps.len(), plan.steps[0].remedy()), (1, None), "{plan:?}");
        assert_eq!(plan.steps[0].cause, Cause::Intended, "nor does it make the repository's own word drift");
        host.desired.resources.clear();
        let plan = host.plan(&Holds::default());
        assert!(plan.steps.is_empty() && plan.left.len() == 1, "what is let go is left as it is: {plan:?}");
    }

    #[test]
    fn what_is_owed_to_it_is_done_once() {
        let mut host = Host::new(vec![binary()]);
        let owed = |how| OwedRefresh {
            how,
            because: vec![Id::new("file", "/etc/app.conf")],
            invocation: Some("a".to_owned()),
            catches_up: false,
        };
        for how in [Refresh::Restart, Refresh::Reload] {
            host.ledger.refreshes.insert(app(), owed(how));
            let plan = host.plan(&Holds::default());
            assert!(plan.steps.is_empty() && plan.refreshes.len() == 1 && plan.is_work(), "{plan:?}");
            assert_eq!((plan.refreshes[0].how, plan.in_sync), (Refresh::Restart, vec![app()]), "what either needs");
        }
        // The files that a restart was owed for may not be known any more, and a reload would do for the others.
        let mut host = Host::new(Vec::new());
        host.ledger.refreshes.insert(app(), owed(Refresh::Restart));
        let watch_reload = vec!["/etc/app.conf".to_owned()];
        host.wanted().spec = Spec::Unit(unit::Spec { active: Some(true), watch_reload, ..unit::Spec::default() });
        assert_eq!(host.plan(&Holds::default()).refreshes[0].how, Refresh::Restart);
    }

    #[test]
    fn what_failed_to_catch_up_is_owed_and_still_no_work_of_a_revision() {
        let reload = behind(unit::Why::OlderConfiguration, Some(Refresh::Reload));
        let plan = Host::new(vec![library(), reload]).plan(&Holds::default());
        let late = plan.steps[0].catching_up().expect("it catches up");
        assert_eq!((late.how, late.because.as_slice()), (Refresh::Reload, &[Id::new("file", "/usr/bin/app")][..]));

        // A reload that failed has moved the date by which it was told.
        let mut host = Host::new(Vec::new());
        let PlannedRefresh { how, because, invocation, catches_up, .. } = late;
        host.ledger.refreshes.insert(app(), OwedRefresh { how, because, invocation, catches_up });
        let plan = host.plan(&Holds::default());
        assert_eq!((plan.refreshes.len(), plan.refreshes[0].how), (1, Refresh::Reload), "{plan:?}");
        assert!(plan.refreshes[0].catches_up && !plan.is_work() && !plan.is_empty(), "{plan:?}");
        let text = serde_json::to_string(&host.ledger).expect("written");
        assert_eq!(serde_json::from_str::<Ledger>(&text).expect("read again"), host.ledger);
        for drift in [Drift::Report, Drift::Ignore] {
            host.wanted().drift = drift;
            assert!(host.plan(&Holds::default()).is_empty(), "{drift:?}: it is drift and nothing else");
        }
        host.wanted().drift = Drift::Correct;
        let never = unit::Spec { active: Some(true), on_change: unit::OnChange::None, ..unit::Spec::default() };
        let before = std::mem::replace(&mut host.wanted().spec, Spec::Unit(never));
        assert!(host.plan(&Holds::default()).is_empty(), "nothing moves it any more");
        host.wanted().spec = before;
        host.seen.invocation = Some("b".to_owned());
        assert!(host.plan(&Holds::default()).is_empty(), "another run has read everything");
    }

    #[test]
    fn it_is_held_back_as_any_restart() {
        let host = Host::new(vec![binary()]);
        let spent = Held::Spent { restarts: 10, next: 9 };
        let contested = Held::Contested { corrections: 5, next: 9 };
        for (holds, why) in [
            (Holds { spent: BTreeMap::from([(app(), spent.clone())]), ..Holds::default() }, spent),
            (Holds { resources: BTreeMap::from([(app(), contested.clone())]), ..Holds::default() }, contested),
        ] {
            let plan = host.plan(&holds);
            assert!(plan.is_empty() && plan.held[0].why == why, "{plan:?}");
        }
        let mut plan = host.plan(&Holds::default());
        plan.only_what_lies_in_files();
        assert!(plan.is_empty(), "while a host comes up nothing is restarted: {plan:?}");
    }
}
