//! What is wanted and yet not done for now: suspended, contested, or waiting after a failure.

use std::collections::BTreeSet;

use super::{Action, HeldRefresh, HeldStep, Plan, PlannedRefresh, Situation, Step};
use crate::brakes::{Held, Holds};
use crate::kinds::{Activation, Need, Phase, Spec, file};
use crate::model::{Cause, Id};

/// Takes the steps that are held out of what is to be done.
pub(super) fn set_aside(situation: &Situation<'_>, plan: &mut Plan) {
    let holds = situation.held;
    for step in std::mem::take(&mut plan.steps) {
        match why(situation, &step).cloned() {
            Some(why) => plan.held.push(HeldStep { step, why }),
            None => plan.steps.push(step),
        }
    }
    let remedies: Vec<&Step> = plan.steps.iter().filter(|step| step.cause == Cause::Intended).collect();
    let (tried, held) = std::mem::take(&mut plan.held).into_iter().partition::<Vec<_>, _>(
        |held| matches!(&held.why, Held::Waiting { reason, .. } if has_remedy(&held.step, reason, &remedies)),
    );
    plan.held = held;
    plan.steps.extend(tried.into_iter().map(|held| held.step));
    stay_ours(situation, holds, plan);
}

/// What holds `step` back, if anything does.
fn why<'h>(situation: &Situation<'h>, step: &Step) -> Option<&'h Held> {
    let holds = situation.held;
    match holds.resources.get(&step.id) {
        // What somebody else does is contested, not what the repository says.
        Some(Held::Contested { .. }) if step.cause == Cause::Intended || step.action == Action::LetGo => None,
        Some(held) => Some(held),
        None if step.remedy().is_some() => holds.spent.get(&step.id),
        None => below(holds, step).or_else(|| above(situation, step)).or_else(|| around(situation, step)),
    }
}

/// Strangers in a directory that is suspended are left alone with it.
fn around<'h>(situation: &Situation<'h>, step: &Step) -> Option<&'h Held> {
    let held = situation.held.resources.get(situation.desired.stranger_of(&step.id)?)?;
    matches!(held, Held::Suspended { .. }).then_some(held)
}

/// Whether the repository changes what `step`, which failed as `reason` says, depends on: that may well be the remedy,
/// and it is tried at once.
fn has_remedy(step: &Step, reason: &str, remedies: &[&Step]) -> bool {
    let needs: Vec<_> = step.want.needs(step.id.name()).into_iter().filter_map(Need::meets).collect();
    let changed: BTreeSet<Id> = remedies.iter().map(|remedy| remedy.id.clone()).collect();
    if changed.iter().any(|id| needs.iter().any(|needs| needs(id)))
        || !step.want.used(step.id.name(), &step.seen, &changed).is_empty()
    {
        return true;
    }
    remedies.iter().any(|remedy| {
        let package = remedy.phase == Phase::Packages;
        let entails = |what| remedy.activations().contains(&what);
        match (step.phase, reason) {
            (Phase::Packages, _) => entails(Activation::PackageIndex),
            (_, "unknown-owner") => package || entails(Activation::Sysusers),
            (_, "no-such-unit") => package || entails(Activation::DaemonReload),
            _ => false,
        }
    })
}

/// What is in a directory that is suspended and not there is not made: that would make the directory too.
fn above<'h>(situation: &Situation<'h>, step: &Step) -> Option<&'h Held> {
    let Spec::File(_) = &step.want else { return None };
    let gone = |id: &Id| matches!(situation.observed.get(id), Some(Ok(seen)) if seen.is_absent());
    let parents = step.id.name().match_indices('/').filter(|(at, _)| *at > 0);
    let mut parents = parents.map(|(at, _)| Id::new(step.id.kind(), &step.id.name()[..at]));
    parents.find_map(|id| {
        let held = situation.held.resources.get(&id)?;
        (matches!(held, Held::Suspended { .. }) && gone(&id)).then_some(held)
    })
}

/// What is suspended and no longer declared is not let go meanwhile, though nothing were to be done for it now: what
/// stood there before us is put back once it is over, if what stands there then allows it.
fn stay_ours(situation: &Situation<'_>, holds: &Holds, plan: &mut Plan) {
    let mut kept = Vec::new();
    let going = plan.forgotten.iter().chain(plan.left.iter().map(|left| &left.id));
    for id in going {
        let Some(why @ Held::Suspended { .. }) = holds.resources.get(id) else { continue };
        let (Some(entry), Some(Ok(seen))) = (situation.ledger.entries.get(id), situation.observed.get(id)) else {
            continue;
        };
        let Some(want) = entry.applied.as_ref().or(entry.intended.as_deref()) else { continue };
        let step = Step {
            id: id.clone(),
            action: Action::LetGo,
            cause: Cause::Intended,
            changes: Vec::new(),
            detail: None,
            layer: entry.layer.clone(),
            want: want.clone(),
            seen: seen.clone(),
            phase: want.phase(id.name(), &[]),
            original: false,
            keep: None,
            drift: entry.drift,
            release: entry.release,
            secret: entry.is_secret(),
        };
        kept.push(HeldStep { step, why: why.clone() });
    }
    let stays = |id: &Id| kept.iter().any(|held| held.step.id == *id);
    plan.forgotten.retain(|id| !stays(id));
    plan.left.retain(|left| !stays(&left.id));
    plan.held.extend(kept);
}

/// What takes a directory away takes what is suspended in it too.
fn below<'h>(holds: &'h Holds, step: &Step) -> Option<&'h Held> {
    let Spec::File(want) = &step.want else { return None };
    if matches!(want.what, file::What::Directory | file::What::Tree { .. } | file::What::Attributes) {
        return None;
    }
    let inside = format!("{}/", step.id.name());
    let first = Id::new(step.id.kind(), &inside);
    let inside = holds.resources.range(&first..).take_while(|(id, _)| id.as_str().starts_with(first.as_str()));
    inside.map(|(_, held)| held).find(|held| matches!(held, Held::Suspended { .. }))
}

/// Whether `id` is suspended or contested: then nothing that stands in its way is anybody's concern.
pub(super) fn rests(holds: &Holds, id: &Id) -> bool {
    holds.resources.get(id).is_some_and(|held| !held.is_failure())
}

/// Has `refresh` done, or owed for longer where something holds it back. What the repository asks for anew ends the
/// waiting after a failure: it may well be the remedy.
pub(super) fn refresh(holds: &Holds, plan: &mut Plan, refresh: PlannedRefresh) {
    let why = match holds.resources.get(&refresh.id) {
        Some(held @ Held::Suspended { .. }) => Some(held),
        Some(held @ Held::Contested { .. }) if refresh.drift => Some(held),
        _ => holds.refreshes.get(&refresh.id).filter(|_| refresh.drift).or_else(|| holds.spent.get(&refresh.id)),
    };
    match why.cloned() {
        Some(why) => plan.owing.push(HeldRefresh { refresh, why }),
        None => plan.refreshes.push(refresh),
    }
}

/// What the system needs: what is owed since earlier passes, unless it failed and waits, and what the steps ask for.
/// What restarts a unit that is suspended stays owed.
pub(super) fn activations(holds: &Holds, owed: &BTreeSet<Activation>, plan: &mut Plan) {
    let asked: BTreeSet<Activation> = plan.steps.iter().flat_map(Step::activations).collect();
    for &what in asked.union(owed) {
        let unit = what.unit().and_then(|unit| holds.resources.get(&Id::new("unit", unit)));
        let suspended = unit.filter(|held| matches!(held, Held::Suspended { .. }));
        let failed = || holds.activations.get(&what).filter(|_| !asked.contains(&what));
        match suspended.or_else(failed) {
            Some(why) => plan.waiting.push((what, why.clone())),
            None => drop(plan.activations.insert(what)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::compile::{Desired, Wanted};
    use crate::kinds::{Observed, Refresh, package, unit};
    use crate::ledger::{Entry, Ledger, Origin, OwedRefresh};
    use crate::model::{Cause, Digest, Drift, Release, Takeover};
    use crate::plan::make;

    fn conf() -> Id {
        Id::new("file", "/etc/app.conf")
    }

    fn unit() -> Id {
        Id::new("unit", "app.service")
    }

    fn sysctl() -> Id {
        Id::new("file", "/etc/sysctl.d/app.conf")
    }

    fn file(content: &str) -> Spec {
        let what = file::What::Regular { content: Digest::of(content.as_bytes()), size: content.len() as u64 };
        Spec::File(file::Spec::of(what))
    }

    fn seen(content: &str) -> Observed {
        let digest = Digest::of(content.as_bytes());
        Observed::File(file::Observed::Present(file::Present {
            what: file::Standing::Regular { digest, size: content.len() as u64 },
            owner: None,
            group: None,
            mode: 0o644,
            links: 1,
            mount_point: false,
            real: None,
        }))
    }

    /// An active unit that watches a file, and a file that sysctl reads; all three were applied as `one`.
    struct Host {
        desired: Desired,
        ledger: Ledger,
        observed: BTreeMap<Id, Result<Observed, crate::host::Error>>,
    }

    impl Host {
        fn new() -> Self {
            let watching = Spec::Unit(unit::Spec { watch: vec!["/etc/app.conf".to_owned()], ..unit::Spec::default() });
            let running = Observed::Unit(unit::Observed {
                load: unit::Load::Loaded,
                file: unit::FileState::Enabled,
                sub: "running".to_owned(),
                invocation: Some("a".to_owned()),
                ..unit::Observed::nothing(Some(unit::Active::Active))
            });
            let mut host = Self {
                desired: Desired {
                    host: String::new(),
                    resources: BTreeMap::new(),
                    update: None,
                    max_removals: None,
                    checks: BTreeMap::new(),
                    unlisted: BTreeMap::new(),
                },
                ledger: Ledger::default(),
                observed: BTreeMap::new(),
            };
            for (id, spec, seen) in
                [(conf(), file("one"), seen("one")), (sysctl(), file("one"), seen("one")), (unit(), watching, running)]
            {
                let mut entry = Entry::new(Origin::Adopted, Drift::Correct, Release::Restore, "");
                entry.applied = Some(spec.clone());
                host.ledger.entries.insert(id.clone(), entry);
                host.observed.insert(id.clone(), Ok(seen));
                host.want(&id, spec);
            }
            host
        }

        fn want(&mut self, id: &Id, spec: Spec) {
            let (drift, release) = (Drift::Correct, Release::Restore);
            self.desired.resources.insert(
                id.clone(),
                Wanted { spec, drift, release, layer: String::new(), exclusive: None, stranger_of: None },
            );
        }

        fn plan(&self, holds: &Holds) -> Plan {
            make(&Situation {
                ledger: &self.ledger,
                desired: &self.desired,
                observed: &self.observed,
                takeover: Takeover::Adopt,
                brought: &BTreeSet::new(),
                held: holds,
                originals: 9,
                now: 0,
            })
        }
    }

    fn suspended() -> Held {
        Held::Suspended { until: 9, by: "alice".to_owned(), reason: String::new() }
    }

    fn waiting() -> Held {
        Held::Waiting { reason: "unit-failed".to_owned(), message: String::new(), attempts: 1, next: 9 }
    }

    fn holding(id: Id, held: Held) -> Holds {
        Holds { resources: BTreeMap::from([(id, held)]), ..Holds::default() }
    }

    fn ids<'p>(steps: impl IntoIterator<Item = &'p Step>) -> Vec<&'p str> {
        steps.into_iter().map(|step| step.id.as_str()).collect()
    }

    #[test]
    fn a_suspended_file_is_no_step_and_restarts_nothing() {
        let mut host = Host::new();
        host.want(&conf(), file("two"));
        let free = host.plan(&Holds::default());
        assert_eq!((ids(&free.steps), free.refreshes.len()), (vec!["file:/etc/app.conf"], 1));

        let plan = host.plan(&holding(conf(), suspended()));
        assert!(plan.is_empty() && plan.owing.is_empty(), "{plan:?}");
        assert_eq!(ids(plan.held.iter().map(|held| &held.step)), ["file:/etc/app.conf"]);
        assert_eq!(plan.unmet().count(), 0, "what depends on it goes on");
        let plan = host.plan(&holding(conf(), waiting()));
        assert_eq!(plan.unmet().collect::<Vec<_>>(), [&conf()], "what depends on it is skipped");
    }

    #[test]
    fn a_unit_that_has_restarted_as_often_as_it_may_owes_its_restart_though_the_repository_asks_for_it() {
        let mut host = Host::new();
        host.want(&conf(), file("two"));
        let spent = Held::Spent { restarts: 10, next: 9 };
        let holds = Holds { spent: BTreeMap::from([(unit(), spent.clone())]), ..Holds::default() };
        let plan = host.plan(&holds);
        assert_eq!((ids(&plan.steps), plan.refreshes.len()), (vec!["file:/etc/app.conf"], 0));
        assert_eq!(plan.owing[0].why, spent);
        let both = Holds { resources: BTreeMap::from([(unit(), suspended())]), ..holds };
        assert_eq!(host.plan(&both).owing[0].why, suspended(), "what people asked for goes before");
    }

    #[test]
    fn what_a_unit_reads_by_its_own_settings_restarts_it_and_nothing_else_does() {
        let mut host = Host::new();
        host.want(&unit(), Spec::Unit(unit::Spec::default()));
        host.want(&conf(), file("two"));
        host.want(&sysctl(), file("two"));
        assert!(host.plan(&Holds::default()).refreshes.is_empty(), "nobody said so");
        let Some(Ok(Observed::Unit(running))) = host.observed.get_mut(&unit()) else { panic!("it was looked at") };
        running.start_files = vec!["/etc/app.*".to_owned()];
        let plan = host.plan(&Holds::default());
        assert_eq!(
            plan.refreshes.iter().map(|one| (one.how, one.because.clone())).collect::<Vec<_>>(),
            [(Refresh::Restart, vec![conf()])]
        );
    }

    #[test]
    fn what_is_owed_and_what_comes_to_it_are_one_thing_to_do() {
        let mut host = Host::new();
        let (reloads, restarts) = (vec![conf().name().to_owned()], vec![sysctl().name().to_owned()]);
        let spec = unit::Spec { watch_reload: reloads, watch_restart: restarts, ..unit::Spec::default() };
        host.want(&unit(), Spec::Unit(spec));
        host.want(&conf(), file("two"));
        let how = |host: &Host| host.plan(&Holds::default()).refreshes.iter().map(|one| one.how).collect::<Vec<_>>();
        assert_eq!(how(&host), [Refresh::Reload]);
        let owed = OwedRefresh {
            how: Refresh::Restart,
            because: vec![sysctl()],
            invocation: Some("a".to_owned()),
            catches_up: false,
        };
        host.ledger.refreshes.insert(unit(), owed);
        assert_eq!(how(&host), [Refresh::Restart], "a reload would leave the other file unread");
    }

    #[test]
    fn a_suspended_unit_owes_its_restart_and_what_it_owed_before() {
        let mut host = Host::new();
        host.want(&conf(), file("two"));
        let plan = host.plan(&holding(unit(), suspended()));
        assert_eq!(ids(&plan.steps), ["file:/etc/app.conf"]);
        assert!(plan.refreshes.is_empty());
        assert_eq!(plan.owing[0].refresh.because, [conf()]);

        let mut host = Host::new();
        let owed = OwedRefresh {
            how: Refresh::Restart,
            because: vec![conf()],
            invocation: Some("a".to_owned()),
            catches_up: false,
        };
        host.ledger.refreshes.insert(unit(), owed);
        let plan = host.plan(&holding(unit(), suspended()));
        assert!(plan.is_empty(), "nothing is done: {plan:?}");
        assert_eq!(plan.owing[0].refresh.because, [conf()]);
        let plan = host.plan(&Holds::default());
        assert_eq!(plan.refreshes.len(), 1, "and once it is over it is");
        // Where the debt comes from was weighed by the pass that made it.
        assert_eq!((plan.refreshes[0].drift, plan.refreshes[0].corrective), (true, false));
        host.observed.insert(conf(), Ok(seen("theirs")));
        assert!(host.plan(&Holds::default()).refreshes[0].corrective, "what is put back now");
    }

    #[test]
    fn a_unit_that_started_anew_before_systemd_read_its_file_owes_its_restart_still() {
        let mut host = Host::new();
        let own = Id::new("file", "/etc/systemd/system/app.service");
        let owed = |because| OwedRefresh {
            how: Refresh::Restart,
            because,
            invocation: Some("before".to_owned()),
            catches_up: false,
        };
        host.ledger.refreshes.insert(unit(), owed(vec![own.clone()]));
        assert!(host.plan(&Holds::default()).refreshes.is_empty(), "it has read everything anew");
        host.ledger.activations.insert(Activation::DaemonReload);
        assert_eq!(host.plan(&Holds::default()).refreshes[0].because, [own], "but for what systemd has not");
        host.ledger.refreshes.insert(unit(), owed(vec![conf()]));
        assert!(host.plan(&Holds::default()).refreshes.is_empty(), "other files it reads itself");
    }

    #[test]
    fn a_contested_resource_is_not_corrected_and_still_follows_the_repository() {
        let mut host = Host::new();
        host.observed.insert(conf(), Ok(seen("theirs")));
        let contested = || Held::Contested { corrections: 5, next: 9 };
        let plan = host.plan(&holding(conf(), contested()));
        assert!(plan.is_empty() && plan.held.len() == 1 && plan.unmet().count() == 0, "{plan:?}");

        // Put back by us, read by a unit that is itself contested: it has been restarted often enough.
        let plan = host.plan(&holding(unit(), contested()));
        assert_eq!((plan.refreshes.len(), plan.owing.len()), (0, 1));
        assert!(plan.owing[0].refresh.drift);

        let mut host = Host::new();
        host.want(&conf(), file("two"));
        let plan = host.plan(&holding(unit(), contested()));
        assert_eq!((plan.refreshes.len(), plan.owing.len()), (1, 0), "the repository asks for it");
        assert!(!plan.refreshes[0].drift);
        let plan = host.plan(&holding(conf(), contested()));
        assert_eq!(ids(&plan.steps), ["file:/etc/app.conf"], "intended");
    }

    #[test]
    fn a_restart_that_failed_waits_until_the_repository_says_something_new() {
        let mut host = Host::new();
        let owed = OwedRefresh {
            how: Refresh::Restart,
            because: vec![conf()],
            invocation: Some("a".to_owned()),
            catches_up: false,
        };
        host.ledger.refreshes.insert(unit(), owed);
        let holds = Holds { refreshes: BTreeMap::from([(unit(), waiting())]), ..Holds::default() };
        let plan = host.plan(&holds);
        assert!(plan.is_empty() && plan.owing.len() == 1, "{plan:?}");
        host.want(&conf(), file("two"));
        let plan = host.plan(&holds);
        assert_eq!((plan.refreshes.len(), plan.owing.len()), (1, 0));
    }

    #[test]
    fn an_engine_that_failed_waits_until_what_it_reads_changes() {
        let mut host = Host::new();
        host.ledger.activations.insert(Activation::Sysctl);
        let holds = Holds { activations: BTreeMap::from([(Activation::Sysctl, waiting())]), ..Holds::default() };
        assert!(!host.plan(&Holds::default()).is_empty());
        let plan = host.plan(&holds);
        assert!(plan.is_empty() && plan.waiting.len() == 1, "{plan:?}");
        host.want(&sysctl(), file("two"));
        let plan = host.plan(&holds);
        assert!(plan.activations.contains(&Activation::Sysctl) && plan.waiting.is_empty(), "{plan:?}");
    }

    #[test]
    fn what_is_written_behind_a_link_is_what_it_is_where_it_lies() {
        let mut host = Host::new();
        let conf = Id::new("file", "/srv/link/app.conf");
        host.want(&conf, file("one"));
        host.observed.insert(conf.clone(), Ok(Observed::File(file::Observed::Absent)));
        assert!(host.plan(&Holds::default()).activations.is_empty());
        for (real, needs, phase) in [
            ("/etc/tmpfiles.d/app.conf", Activation::Tmpfiles, Phase::Files),
            ("/etc/sysusers.d/app.conf", Activation::Sysusers, Phase::Early),
        ] {
            let behind = file::Observed::AbsentBehind { real: real.to_owned() };
            let Observed::File(file::Observed::Present(there)) = seen("two") else { unreachable!("a file") };
            let there = file::Observed::Present(file::Present { real: Some(real.to_owned()), ..there });
            for seen in [behind, there] {
                host.observed.insert(conf.clone(), Ok(Observed::File(seen)));
                let plan = host.plan(&Holds::default());
                assert_eq!(plan.activations, BTreeSet::from([needs]), "{plan:#?}");
                assert_eq!(plan.steps[0].phase, phase);
            }
        }
    }

    #[test]
    fn what_restarts_a_suspended_unit_stays_owed() {
        let mut host = Host::new();
        let conf = Id::new("file", "/etc/systemd/resolved.conf.d/app.conf");
        host.want(&conf, file("one"));
        host.observed.insert(conf, Ok(Observed::File(file::Observed::Absent)));
        let holds = holding(Id::new("unit", "systemd-resolved.service"), suspended());
        assert!(host.plan(&Holds::default()).activations.contains(&Activation::Resolved));
        let plan = host.plan(&holds);
        assert_eq!((plan.steps.len(), plan.activations.len()), (1, 0), "{plan:#?}");
        assert_eq!(plan.waiting, [(Activation::Resolved, suspended())]);

        let mut host = Host::new();
        host.ledger.activations.insert(Activation::Resolved);
        let plan = host.plan(&holds);
        assert!(plan.is_empty() && plan.waiting.len() == 1, "{plan:#?}");
        let failed = holding(Id::new("unit", "systemd-resolved.service"), waiting());
        assert!(!host.plan(&failed).is_empty(), "what else is wrong with the unit is no reason");
    }

    #[test]
    fn what_is_let_go_waits_while_it_is_suspended_and_not_while_it_was_contested() {
        let mut host = Host::new();
        host.desired.resources.remove(&conf());
        let made = Origin::Found { before: crate::kinds::Before::File(file::Before::Absent), at: 0, overwritten: true };
        host.ledger.entries.get_mut(&conf()).expect("there").origin = made;
        let plan = host.plan(&holding(conf(), suspended()));
        assert_eq!((plan.steps.len(), plan.held.len(), plan.forgotten.len()), (0, 1, 0));
        let plan = host.plan(&holding(conf(), Held::Contested { corrections: 5, next: 9 }));
        assert_eq!(plan.steps.len(), 1);
    }

    /// A directory with a file in it, both applied and now gone.
    fn moved_away() -> Host {
        let mut host = Host::new();
        let directory = file::Spec::of(file::What::Directory);
        for (id, spec) in
            [("/srv/app", Spec::File(directory)), ("/srv/app/sub/x", file("one")), ("/srv/apple", file("one"))]
        {
            let id = Id::new("file", id);
            let mut entry = Entry::new(Origin::Adopted, Drift::Correct, Release::Restore, "");
            entry.applied = Some(spec.clone());
            host.ledger.entries.insert(id.clone(), entry);
            host.observed.insert(id.clone(), Ok(Observed::File(file::Observed::Absent)));
            host.want(&id, spec);
        }
        host
    }

    #[test]
    fn what_is_in_a_suspended_directory_that_was_moved_away_is_not_made_anew() {
        let mut host = moved_away();
        let directory = Id::new("file", "/srv/app");
        let plan = host.plan(&holding(directory.clone(), suspended()));
        assert_eq!(ids(&plan.steps), ["file:/srv/apple"]);
        assert_eq!(ids(plan.held.iter().map(|held| &held.step)), ["file:/srv/app", "file:/srv/app/sub/x"]);
        // No longer declared itself: it would be made for what is in it.
        host.desired.resources.remove(&directory);
        let plan = host.plan(&holding(directory.clone(), suspended()));
        assert_eq!(ids(&plan.steps), ["file:/srv/apple"]);
        // Where it stands its contents are nobody's but ours, and a failure is told by itself.
        assert_eq!(host.plan(&holding(Id::new("file", "/srv"), suspended())).steps.len(), 2);
        assert_eq!(host.plan(&holding(directory, waiting())).steps.len(), 2);
    }

    #[test]
    fn what_failed_is_tried_at_once_where_the_repository_changes_what_it_depends_on() {
        let mut host = Host::new();
        let broken = |host: &mut Host| {
            let spec =
                unit::Spec { active: Some(true), watch: vec!["/etc/app.conf".to_owned()], ..unit::Spec::default() };
            host.want(&unit(), Spec::Unit(spec));
            let Some(Ok(Observed::Unit(seen))) = host.observed.get_mut(&unit()) else { panic!("a unit") };
            seen.active = Some(unit::Active::Failed);
        };
        broken(&mut host);
        let holds = holding(unit(), waiting());
        assert_eq!((host.plan(&holds).steps.len(), host.plan(&holds).held.len()), (0, 1), "nothing has changed");
        host.want(&sysctl(), file("two"));
        assert_eq!(ids(&host.plan(&holds).steps), ["file:/etc/sysctl.d/app.conf"], "nor anything that it uses");
        host.want(&conf(), file("two"));
        let plan = host.plan(&holds);
        assert_eq!(plan.steps.last().map(|step| step.id.as_str()), Some("unit:app.service"), "{plan:#?}");
        assert!(plan.held.is_empty() && plan.unmet().count() == 0);
        // What is only put back, or held itself, is no remedy.
        let mut both = holds.clone();
        both.resources.insert(conf(), suspended());
        assert_eq!(host.plan(&both).held.len(), 2);
        let mut host = Host::new();
        broken(&mut host);
        host.observed.insert(conf(), Ok(seen("theirs")));
        assert_eq!(ids(&host.plan(&holds).steps), ["file:/etc/app.conf"]);
    }

    #[test]
    fn a_package_that_failed_is_tried_at_once_where_the_repository_changes_its_sources() {
        let mut host = Host::new();
        let package = Id::new("package", "app");
        let present = package::Spec::present(package::Version::Any, package::Downgrade::default());
        host.want(&package, Spec::Package(present));
        host.observed.insert(package.clone(), Ok(Observed::Package(package::Observed::Absent { config_files: false })));
        let holds = holding(package, waiting());
        host.want(&conf(), file("two"));
        assert_eq!(ids(&host.plan(&holds).steps), ["file:/etc/app.conf"]);
        let source = Id::new("file", "/etc/apt/sources.list.d/app.sources");
        host.want(&source, file("one"));
        host.observed.insert(source, Ok(Observed::File(file::Observed::Absent)));
        let plan = host.plan(&holds);
        assert!(ids(&plan.steps).contains(&"package:app") && plan.packages_after_sources(), "{plan:#?}");
    }

    #[test]
    fn what_is_suspended_and_moved_aside_or_changed_is_not_forgotten_when_it_is_let_go() {
        let mut host = Host::new();
        host.desired.resources.remove(&conf());
        let before = seen("zero").before();
        host.ledger.entries.get_mut(&conf()).expect("there").origin =
            Origin::Found { before, at: 0, overwritten: true };
        host.ledger.entries.get_mut(&conf()).expect("there").drift = Drift::Report;
        for there in [Observed::File(file::Observed::Absent), seen("theirs")] {
            host.observed.insert(conf(), Ok(there));
            let plan = host.plan(&Holds::default());
            assert_eq!(plan.steps.len() + plan.held.len(), 0, "{plan:#?}");
            assert_eq!(plan.forgotten.len() + plan.left.len(), 1);
            let plan = host.plan(&holding(conf(), suspended()));
            assert_eq!(plan.forgotten.len() + plan.left.len() + plan.steps.len(), 0, "{plan:#?}");
            assert_eq!(ids(plan.held.iter().map(|held| &held.step)), ["file:/etc/app.conf"]);
        }
    }

    #[test]
    fn what_a_pass_that_was_cut_short_left_is_nobody_elses_doing() {
        let id = Id::new("package", "trueup");
        let exact = |version: &str| {
            let version = package::Version::Exact(version.to_owned());
            Spec::Package(package::Spec::present(version, package::Downgrade::Intended))
        };
        // The transaction came to its end, and what kept the version goes with the agent that was to mark it.
        let unmarked = |version: &str| {
            Observed::Package(package::Observed::Installed {
                version: version.to_owned(),
                architecture: "amd64".to_owned(),
                essential: false,
                automatic: false,
                held: Some(false),
                order: package::Order::Deb,
            })
        };
        let cause = |begun: Option<&str>, wanted: &str, there: &str| {
            let mut host = Host::new();
            let mut entry = Entry::new(Origin::Adopted, Drift::Correct, Release::Restore, "");
            (entry.applied, entry.intended) = (Some(exact("1.1")), begun.map(exact).map(Box::new));
            host.ledger.entries.insert(id.clone(), entry);
            host.observed.insert(id.clone(), Ok(unmarked(there)));
            host.want(&id, exact(wanted));
            let plan = host.plan(&Holds::default());
            plan.steps.iter().find(|step| step.id == id).map(|step| step.cause)
        };
        assert_eq!(cause(Some("1.0"), "1.0", "1.0"), Some(Cause::Intended));
        assert_eq!(cause(Some("1.0"), "0.9", "1.0"), Some(Cause::Intended), "another push came meanwhile");
        assert_eq!(cause(Some("1.2"), "1.1", "1.2"), Some(Cause::Intended), "or it was taken back");
        assert_eq!(cause(None, "1.0", "1.0"), Some(Cause::Conflicting), "somebody else was quicker");
        assert_eq!(cause(Some("1.0"), "1.0", "0.8"), Some(Cause::Conflicting), "that was not ours");
        assert_eq!(cause(Some("1.1"), "1.1", "1.1"), Some(Cause::Corrective), "somebody took the mark away");
    }
}
