use std::collections::{BTreeMap, BTreeSet};

use super::along::Along;
use super::{Action, Left, Plan, PlannedRefresh, Step, Told, Unseen, Verdict, behind, classify, hold, ways};
use crate::brakes::Holds;
use crate::compile::{Desired, Unlisted, Wanted};
use crate::host;
use crate::kinds::{Activation, Before, Observed, Phase, Spec, file, unit};
use crate::ledger::{Entry, Kept, Ledger, Origin, Why};
use crate::model::{Cause, Drift, Id, Release, Takeover};

/// Why something that is let go is as it was before anybody declared it.
const STAYS: &str = "was there before, stays";

/// Everything that a plan is made from.
#[derive(Debug)]
pub struct Situation<'a> {
    /// What is ours.
    pub ledger: &'a Ledger,
    /// What is wanted.
    pub desired: &'a Desired,
    /// What a look found, for every id of either.
    pub observed: &'a BTreeMap<Id, Result<Observed, host::Error>>,
    /// Whether this host allows what stands on it to be taken over.
    pub takeover: Takeover,
    /// What was not there when this pass began: a package that it installed brought it, so taking it over
    /// takes nothing from anybody.
    pub brought: &'a BTreeSet<Id>,
    /// What is held back.
    pub held: &'a Holds,
    /// How long originals are kept, in seconds.
    pub originals: i64,
    /// Seconds since 1970.
    pub now: i64,
}

/// Every resource that is wanted or ours: what a plan is about.
pub fn concerned<'a>(desired: &'a Desired, ledger: &'a Ledger) -> BTreeSet<&'a Id> {
    desired.resources.keys().chain(ledger.entries.keys()).collect()
}

/// The plan of a situation. The same situation gives the same plan.
pub fn make(situation: &Situation<'_>) -> Plan {
    let mut plan = Plan { wanted: situation.desired.declared().count(), ..Plan::default() };
    let nothing = Ok(Observed::File(file::Observed::Absent));
    let mut turns = BTreeMap::new();
    let Situation { ledger, desired, observed, .. } = situation;
    let (mut entries, mut resources) = (Along::of(&ledger.entries), Along::of(&desired.resources));
    let mut observed = Along::of(observed);
    // What lies above a path comes before it.
    for id in concerned(desired, ledger) {
        let (entry, wanted) = (entries.at(id), resources.at(id));
        let seen = match ways::judged(situation, &turns, id, wanted.is_some()) {
            ways::Below::AsSeen => observed.at(id),
            ways::Below::Nothing => Some(&nothing),
            ways::Below::Elsewhere => {
                plan.forgotten.push(id.clone());
                continue;
            }
        };
        let steps = plan.steps.len();
        match seen {
            Some(Ok(seen)) => judge(situation, &mut plan, id, (entry, wanted), seen),
            Some(Err(error)) => {
                let unseen = Unseen { id: id.clone(), reason: error.reason(), message: error.chain() };
                if unseen.reason == "deferred" { plan.deferred.push(unseen) } else { plan.failed.push(unseen) }
            }
            None => plan.failed.push(Unseen {
                id: id.clone(),
                reason: "cannot-tell",
                message: format!("{id} was not looked at"),
            }),
        }
        turns.extend(plan.steps[steps..].iter().filter_map(|step| Some((step.id.clone(), ways::turn(step)?))));
    }
    for (id, Unlisted { reason, message, .. }) in &situation.desired.unlisted {
        if !plan.failed.iter().any(|unseen| unseen.id == *id) {
            plan.failed.push(Unseen { id: id.clone(), reason, message: message.clone() });
            plan.unlisted.insert(id.clone());
        }
    }
    gone_with_their_files(situation, &mut plan);
    hold::set_aside(situation, &mut plan);
    ways::hold_back(&mut plan);
    ways::order(&mut plan.steps);
    follow_up(situation, &mut plan);
    plan
}

fn judge(
    situation: &Situation<'_>,
    plan: &mut Plan,
    id: &Id,
    (entry, wanted): (Option<&Entry>, Option<&Wanted>),
    seen: &Observed,
) {
    let whole = seen;
    let aside = behind::aside(whole);
    let full = aside.as_ref().unwrap_or(whole);
    // Links that follow what is about to change are no difference that anybody has made.
    let unlinked = behind::unlinked(wanted, full);
    let seen = unlinked.as_ref().map_or(full, |(seen, _)| seen);
    let put_back = entry.and_then(|entry| {
        entry.put_back(situation.ledger.believed(situation.now, situation.originals), situation.originals)
    });
    // Of what a pass that was cut short began with, too, where it had nothing to keep as an original.
    let begun = |entry: &Entry| entry.origin == Origin::Adopted && entry.applied.is_none();
    let came_later = wanted.filter(|_| entry.is_none_or(begun)).and_then(|wanted| came_later(situation, id, wanted));
    let applied = entry.and_then(|entry| entry.effective(|spec| spec.diff(seen).is_empty())).or(came_later);
    let due = wanted.map(|wanted| due(situation, id, &wanted.spec, (entry, applied), seen));
    let verdict = classify(applied, due.as_ref(), seen, entry.is_some(), put_back.as_ref());
    let verdict = match (verdict, &unlinked) {
        (Verdict::Adopt | Verdict::InSync, Some((_, cause))) => Verdict::Act(*cause),
        (verdict, _) => verdict,
    };
    match verdict {
        Verdict::NotOurs => {}
        Verdict::Adopt | Verdict::InSync if wanted.is_some_and(|wanted| behind::judge(plan, id, wanted, whole)) => {}
        Verdict::Adopt => plan.adopted.push(id.clone()),
        Verdict::InSync => plan.in_sync.push(id.clone()),
        Verdict::Forget => plan.forgotten.push(id.clone()),
        Verdict::Act(cause) => {
            // What we left half-way is no doing of somebody else's.
            let begun = entry.and_then(|entry| entry.intended.as_deref()).filter(|begun| applied != Some(*begun));
            let cause = if begun.is_some_and(|begun| begun.is_begun(seen)) { Cause::Intended } else { cause };
            // Only where something is wanted does the table say to act.
            if let (Some(wanted), Some(due)) = (wanted, due) {
                act(situation, plan, id, full, wanted, &due.within(cause), cause);
            }
        }
        Verdict::LetGo(cause) => {
            if let Some(entry) = entry {
                let_go(plan, id, seen, entry, put_back, cause);
            }
        }
    }
}

/// What was applied where a stranger is now: nothing, in a directory that it was not in before, or that is only looked at.
/// What we made ourselves for what lay in it came no later.
fn came_later<'a>(situation: &Situation<'a>, id: &Id, wanted: &'a Wanted) -> Option<&'a Spec> {
    let directory = wanted.stranger_of.as_ref()?;
    let was = situation.ledger.was_stranger(directory, id);
    let new = was == Some(false) && !situation.ledger.implied.contains(id.name());
    (new || wanted.drift == Drift::Report).then_some(&wanted.spec)
}

/// What there is to do for `want`: it, and what was applied before and nobody asks for any more; over what we made
/// ourselves too.
fn due(
    situation: &Situation<'_>,
    id: &Id,
    want: &Spec,
    (entry, applied): (Option<&Entry>, Option<&Spec>),
    seen: &Observed,
) -> Spec {
    // A directory that we made for what lies below it is ours too.
    let implied = entry.is_none() && situation.ledger.implied.contains(id.name());
    if let (Spec::File(want), Observed::File(seen)) = (want, seen)
        && implied
        && seen.is_directory()
    {
        return Spec::File(file::over_own(want, &file::What::Directory));
    }
    let Some(last) = applied else { return want.clone() };
    let Some(Origin::Found { before, at, .. }) = entry.map(|entry| &entry.origin) else {
        return want.after(last, None);
    };
    let age = situation.ledger.believed(situation.now, situation.originals).saturating_sub(*at);
    let own = last.diff(seen).is_empty();
    // Somebody's directory is not taken away for the sake of what stood there before us.
    let theirs = !own && matches!(seen, Observed::File(seen) if seen.is_directory());
    let goes_back = !matches!(before, Before::File(_)) || age <= situation.originals && !theirs;
    match (want.after(last, goes_back.then_some(before)), last) {
        (Spec::File(due), Spec::File(last)) if own => Spec::File(file::over_own(&due, &last.what)),
        (due, _) => due,
    }
}

fn act(
    situation: &Situation<'_>,
    plan: &mut Plan,
    id: &Id,
    seen: &Observed,
    wanted: &Wanted,
    want: &Spec,
    cause: Cause,
) {
    let entry = situation.ledger.entries.get(id);
    let declared = |id: &Id| situation.desired.resources.contains_key(id);
    if let Some(why) = wanted.spec.deferred(id.name(), seen, &declared) {
        return plan.deferred.push(Unseen { id: id.clone(), reason: "deferred", message: why.to_owned() });
    }
    let changes = want.diff(seen);
    let secret = want.is_secret() || entry.is_some_and(Entry::is_secret);
    let told = |reason| Told {
        id: id.clone(),
        cause,
        changes: changes.clone(),
        detail: None,
        layer: wanted.layer.clone(),
        reason,
        want: want.clone(),
        seen: seen.clone(),
        secret,
    };
    match (wanted.drift, cause) {
        (Drift::Report, Cause::Corrective | Cause::Conflicting) => return plan.told.push(told("report-only")),
        (Drift::Ignore, cause) if !seen.is_absent() && (cause == Cause::Corrective || unlisted(situation, wanted)) => {
            return plan.ignored.push(id.clone());
        }
        _ => {}
    }
    if !hold::rests(situation.held, id)
        && let Some(error) = want.obstacle(id.name(), seen, cause)
    {
        return plan.failed.push(Unseen { id: id.clone(), reason: error.reason(), message: error.chain() });
    }
    // A directory that we made for what lies below it is nobody else's.
    let implied = id.kind() == "file" && situation.ledger.implied.contains(id.name());
    let strangers = entry.is_none() && !seen.is_absent() && !implied && cause == Cause::Intended;
    if strangers && situation.takeover == Takeover::Refuse && !situation.brought.contains(id) {
        return plan.told.push(told("takeover-refused"));
    }
    let action = if want.removes() {
        Action::Remove
    } else if seen.is_absent() {
        Action::Create
    } else if strangers {
        Action::TakeOver
    } else {
        Action::Change
    };
    let original = is_original(situation.ledger, id, wanted, cause);
    let keep = match original {
        _ if seen.is_absent() || implied => None,
        true => Some(Why::Original),
        false => {
            let theirs = is_strange(entry, seen) || is_left_alone(entry, id, want);
            (cause != Cause::Intended || theirs).then_some(Why::Edit)
        }
    };
    let phase = want.phase(seen.known_as(id), &changes);
    plan.steps.push(Step {
        id: id.clone(),
        action,
        cause,
        changes,
        detail: None,
        layer: wanted.layer.clone(),
        want: want.clone(),
        seen: seen.clone(),
        phase,
        original: original || takes_more(entry, want, seen),
        keep,
        drift: wanted.drift,
        release: wanted.release,
        secret,
    });
}

/// Whether it is a stranger of a directory of which it cannot be told what in it is one: that is not removed, whatever was
/// begun.
fn unlisted(situation: &Situation<'_>, wanted: &Wanted) -> bool {
    wanted.stranger_of.as_ref().is_some_and(|directory| situation.desired.unlisted.contains_key(directory))
}

/// Whether what stands there now is what stood there before us.
fn is_original(ledger: &Ledger, id: &Id, wanted: &Wanted, cause: Cause) -> bool {
    // What nobody manages and is corrected all the same is a stranger that came later.
    let Some(entry) = ledger.entries.get(id) else { return cause == Cause::Intended };
    match &entry.origin {
        // What was adopted and drifted is put back to what was adopted, not to the drift.
        Origin::Adopted => cause != Cause::Corrective,
        // Content that was left alone so far is about to be overwritten; it may have changed since.
        Origin::Found { before, overwritten, .. } => {
            let left_alone = match (&entry.applied, &entry.intended) {
                (Some(applied), _) => !applied.overwrites(),
                // An attempt failed, or was cut short. An earlier one may have overwritten what it kept.
                (None, Some(intended)) => {
                    let kept = |copy: &Kept| copy.resource == *id && copy.before == *before;
                    !intended.overwrites() && !ledger.kept.iter().any(kept)
                }
                (None, None) => false,
            };
            !overwritten && left_alone && wanted.spec.overwrites()
        }
    }
}

/// Only owner and mode were ours so far, and now the content goes or is overwritten: it may be anybody's by now.
fn is_left_alone(entry: Option<&Entry>, id: &Id, want: &Spec) -> bool {
    let applied = entry.and_then(|entry| entry.applied.as_ref());
    id.kind() == "file"
        && applied.is_some_and(|applied| !applied.overwrites() && !applied.removes())
        && (want.overwrites() || want.removes())
}

/// What is in a directory was left alone so far, and goes with it now: that is what stood there before us too. Where
/// there was something else before us, that is what comes back.
fn takes_more(entry: Option<&Entry>, want: &Spec, seen: &Observed) -> bool {
    let Some(entry) = entry else { return false };
    let Origin::Found { before: Before::File(file::Before::Directory { .. } | file::Before::Absent), .. } =
        entry.origin
    else {
        return false;
    };
    match (entry.effective(|spec| spec.diff(seen).is_empty()), want, seen) {
        (Some(Spec::File(last)), Spec::File(want), Observed::File(seen)) => {
            last.what == file::What::Directory && file::goes_whole(want, seen)
        }
        _ => false,
    }
}

/// A first attempt was cut short, and what stands there is neither what was before it nor what it was to make:
/// somebody wrote there since. Only what is written whole tells that from our own half-done work.
fn is_strange(entry: Option<&Entry>, seen: &Observed) -> bool {
    let Some(Entry { origin: Origin::Found { before, .. }, applied: None, intended, .. }) = entry else { return false };
    let now = seen.before();
    now.expires() && now != *before && !intended.as_ref().is_some_and(|intended| intended.diff(seen).is_empty())
}

fn let_go(plan: &mut Plan, id: &Id, seen: &Observed, entry: &Entry, put_back: Option<Spec>, cause: Cause) {
    if entry.origin == Origin::Adopted && seen.is_absent() {
        return plan.forgotten.push(id.clone());
    }
    // Nothing of what a first attempt was to make is known to stand there: it may be somebody's work.
    let cause = if is_strange(Some(entry), seen) { Cause::Conflicting } else { cause };
    let mut left = |why: &str| plan.left.push(Left { id: id.clone(), why: why.to_owned() });
    if entry.release == Release::Leave {
        return left("released, left in place");
    }
    if cause == Cause::Conflicting && entry.drift == Drift::Report {
        return left("changed by somebody else, left in place");
    }
    if entry.origin == Origin::Adopted {
        return left(STAYS);
    }
    let Some(want) = put_back else { return left("released, left in place") };
    if want.obstacle(id.name(), seen, cause).is_some() || want.removes() && is_replaced(entry, seen) {
        return left("something else stands there by now, left in place");
    }
    let changes = want.diff(seen);
    if changes.is_empty() {
        return left(STAYS);
    }
    let phase = want.phase(seen.known_as(id), &changes);
    let keep = (cause == Cause::Conflicting || is_left_alone(Some(entry), id, &want)).then_some(Why::Edit);
    plan.steps.push(Step {
        id: id.clone(),
        action: Action::LetGo,
        cause,
        changes,
        detail: None,
        layer: entry.layer.clone(),
        secret: want.is_secret() || entry.is_secret(),
        want,
        seen: seen.clone(),
        phase,
        original: false,
        keep,
        drift: entry.drift,
        release: entry.release,
    });
}

/// What stands there is of another type than anything of ours that stood there: it is somebody's own.
fn is_replaced(entry: &Entry, seen: &Observed) -> bool {
    let Observed::File(seen) = seen else { return false };
    let ours = entry.applied.iter().chain(entry.intended.as_deref());
    let mut like =
        ours.filter_map(|spec| if let Spec::File(spec) = spec { file::is_like(&spec.what, seen) } else { None });
    like.next().is_some_and(|first| !first && !like.any(|like| like))
}

/// What is let go together with the file that defines it returns to nothing: it cannot be started again.
fn gone_with_their_files(situation: &Situation<'_>, plan: &mut Plan) {
    let going: BTreeSet<Id> = plan.removals().map(|step| step.id.clone()).collect();
    for left in std::mem::take(&mut plan.left) {
        let known = situation.ledger.entries.get(&left.id).and_then(|entry| entry.applied.as_ref());
        let known = known.filter(|_| left.why == STAYS);
        let without = known.and_then(|spec| spec.without(left.id.name(), &|id| going.contains(id)));
        match (without, situation.observed.get(&left.id)) {
            (Some(want), Some(Ok(seen))) if want.diff(seen).is_empty() => plan.forgotten.push(left.id),
            (Some(_), _) => {
                let why = "its unit file goes; what runs of it goes on until somebody stops it".to_owned();
                plan.left.push(Left { why, ..left });
            }
            (None, _) => plan.left.push(left),
        }
    }
    for step in plan.steps.iter_mut().filter(|step| step.action == Action::LetGo) {
        if let Some(want) = step.want.without(step.id.name(), &|id| going.contains(id)) {
            step.changes = want.diff(&step.seen);
            step.phase = want.phase(step.seen.known_as(&step.id), &step.changes);
            step.want = want;
        }
    }
    let (idle, steps) = std::mem::take(&mut plan.steps)
        .into_iter()
        .partition::<Vec<_>, _>(|step| step.action == Action::LetGo && step.changes.is_empty());
    plan.steps = steps;
    plan.forgotten.extend(idle.into_iter().map(|step| step.id));
}

/// What the steps entail, and what is still owed since an earlier pass.
fn follow_up(situation: &Situation<'_>, plan: &mut Plan) {
    hold::activations(situation.held, &situation.ledger.activations, plan);
    let intended: BTreeSet<Id> =
        plan.steps.iter().filter(|step| step.cause == Cause::Intended).map(|step| step.id.clone()).collect();
    let changed: BTreeSet<Id> = plan.steps.iter().map(|step| step.id.clone()).collect();
    let stopping: BTreeSet<Id> =
        plan.steps.iter().filter(|step| step.phase == Phase::Stop).map(|step| step.id.clone()).collect();
    let mut observed = Along::of(situation.observed);
    for (id, wanted) in &situation.desired.resources {
        let Some(Ok(seen)) = observed.at(id) else { continue };
        if let Observed::Unit(unit) = seen
            && !unit.start_files.is_empty()
        {
            plan.reads.insert(id.clone(), unit.start_files.clone());
        }
        if let Observed::Unit(unit::Observed { follow: Some(follow), .. }) = seen
            && plan.steps.iter().chain(plan.held.iter().map(|held| &held.step)).any(|step| step.id == *id)
        {
            plan.following.insert(id.clone(), follow.asked.clone());
        }
        if stopping.contains(id) {
            continue;
        }
        let invocation = seen.invocation().map(ToOwned::to_owned);
        let owed = situation.ledger.refreshes.get(id).filter(|owed| {
            // Another invocation than the one that owed it has read everything anew, but for its unit file where systemd
            // itself has not.
            let unread = situation.ledger.activations.contains(&Activation::DaemonReload);
            let is_its_file = |file: &Id| unit::is_its_file(id.name(), file);
            owed.invocation.is_none() || owed.invocation == invocation || unread && owed.because.iter().any(is_its_file)
        });
        let owed = owed.filter(|owed| !owed.catches_up || behind::is_still_put_right(id, wanted, seen, owed));
        let how_now = wanted.spec.refresh(id.name(), seen, &changed);
        let mut because: BTreeSet<Id> = owed.into_iter().flat_map(|owed| owed.because.iter().cloned()).collect();
        if how_now.is_some() {
            because.extend(wanted.spec.used(id.name(), seen, &changed));
        }
        // What is owed and what comes to it are one thing to do: a reload does not do where a restart was owed.
        let how = wanted.spec.refresh(id.name(), seen, &because);
        // Nor does a reload do where only the files for which a restart was owed are not known any more.
        if let Some(how) = how.into_iter().chain(owed.map(|owed| owed.how)).min() {
            let drift = because.is_disjoint(&intended);
            let corrective = drift && how_now.is_some();
            let because = because.into_iter().collect();
            // Whatever it is behind in, it catches up by this: once, and as thoroughly as either needs it.
            let remedy = |step: &Step| step.remedy().filter(|_| step.id == *id);
            let catching_up = plan.steps.iter().find_map(remedy);
            if catching_up.is_some() {
                plan.steps.retain(|step| remedy(step).is_none());
                plan.in_sync.push(id.clone());
            }
            let how = catching_up.into_iter().fold(how, Ord::min);
            let catches_up = how_now.is_none() && owed.is_some_and(|owed| owed.catches_up);
            let refresh = PlannedRefresh { id: id.clone(), how, because, invocation, drift, corrective, catches_up };
            hold::refresh(situation.held, plan, refresh);
        }
    }
}
