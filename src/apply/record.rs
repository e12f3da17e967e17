use std::collections::{BTreeMap, BTreeSet};

use super::{Applied, Error, Ground};
use crate::compile::Desired;
use crate::host;
use crate::kinds::file::{Exclusive, ancestors};
use crate::kinds::{Observed, Spec};
use crate::ledger::{self, Cleared, Entry, KeptLimits, Ledger, Origin, OwedRefresh};
use crate::model::{Drift, Id, Outcome, Revision};
use crate::plan::{Action, Plan, Step};

/// What is recorded as applied: what is declared, though the step did more for it, or might do less.
fn applied(desired: &Desired, step: &Step) -> Spec {
    desired.resources.get(&step.id).map_or(&step.want, |wanted| &wanted.spec).clone()
}

/// A step was carried out.
pub(super) fn done(ledger: &mut Ledger, desired: &Desired, step: &Step) {
    if step.action == Action::LetGo {
        ledger.entries.remove(&step.id);
        return;
    }
    if let Some(entry) = ledger.entries.get_mut(&step.id) {
        entry.set_applied(applied(desired, step));
        if let Origin::Found { overwritten, before, .. } = &mut entry.origin
            && step.want.overwrites()
        {
            // Where only attributes are ours by now the content was put back.
            *overwritten = !before.expires() || entry.applied.as_ref().is_some_and(Spec::overwrites);
        }
    }
}

/// What became of the packages that failed to be changed, as they are `seen` now that their transaction has ended: where
/// nothing of it is there, nothing is begun, and what somebody else does to them later is not ours to go on with. What
/// never was ours before, and is not as it stood then, we may have brought there.
pub(super) fn not_begun(ledger: &mut Ledger, seen: &[(&Id, Result<Observed, host::Error>)]) {
    for (id, seen) in seen {
        // What cannot be told may be half there.
        let (Some(entry), Ok(seen)) = (ledger.entries.get_mut(*id), seen) else { continue };
        if entry.intended.as_ref().is_none_or(|intended| intended.is_begun(seen)) {
            continue;
        }
        if entry.applied.is_some() {
            entry.intended = None;
        } else if !matches!(&entry.origin, Origin::Found { before, .. } if *before != seen.before()) {
            ledger.entries.remove(*id);
        }
    }
}

/// A directory is none any more: what was ours in it went with it, and whatever is reached under its path by now is
/// not.
pub(super) fn gone_with(ledger: &mut Ledger, directory: &Id, desired: &Desired) {
    let inside = format!("{}/", directory.name());
    let below = |id: &Id| id.kind() == "file" && id.name().starts_with(&inside);
    ledger.entries.retain(|id, _| !below(id) || desired.resources.contains_key(id));
    ledger.implied.retain(|path| path != directory.name() && !path.starts_with(&inside));
}

/// What a step was to bring about, a package of the same pass brought about. Nothing of it stood there before.
pub(super) fn brought_about(ledger: &mut Ledger, desired: &Desired, step: &Step) {
    let entry = ledger.entries.entry(step.id.clone()).or_insert_with(|| {
        let origin = Origin::Found { before: step.seen.before(), at: 0, overwritten: true };
        Entry::new(origin, step.drift, step.release, &step.layer)
    });
    entry.set_applied(applied(desired, step));
}

/// Brings the ledger up to what this pass found and did, and saves it.
/// `converged` says that everything of `revision` holds.
///
/// # Errors
/// Where our own directory cannot be written.
pub fn record(
    ground: &mut Ground<'_>,
    plan: &Plan,
    applied: &Applied,
    revision: &Revision,
    converged: bool,
    edits: i64,
) -> Result<(), Error> {
    for id in plan.forgotten.iter().chain(plan.left.iter().map(|left| &left.id)) {
        ground.ledger.entries.remove(id);
        ground.ledger.refreshes.remove(id);
    }
    for id in plan.adopted.iter().chain(&plan.in_sync) {
        hold(ground, id, true);
    }
    let known = plan.told.iter().map(|told| &told.id);
    let unseen = plan.failed.iter().chain(&plan.deferred).map(|unseen| &unseen.id);
    let held = plan.held.iter().map(|held| &held.step.id);
    for id in plan.ignored.iter().chain(known).chain(held).chain(unseen) {
        hold(ground, id, false);
    }
    for step in plan.steps.iter().chain(&applied.afterwards) {
        give_up(ground.ledger, step, applied);
    }
    if ground.only.is_none() {
        cleared(ground, plan, applied);
    }
    let desired = ground.desired;
    // What only catches up is owed for as long as drift is put right.
    let owes = |id: &Id, owed: &OwedRefresh| {
        let wanted = desired.resources.get(id);
        wanted.is_some_and(|wanted| !owed.catches_up || wanted.drift == Drift::Correct)
    };
    ground.ledger.refreshes.retain(|id, owed| owes(id, owed));
    ground.ledger.caught_up.retain(|id, _| desired.resources.contains_key(id));
    followed(ground.ledger, desired, plan, applied);
    ground.ledger.attempted = Some(revision.clone());
    ground.ledger.making.clear();
    ground.ledger.writing.clear();
    let before = ground.ledger.applied.clone();
    if converged {
        ground.ledger.applied = Some(revision.clone());
    }
    let limits = KeptLimits { originals: ground.originals, edits };
    let fresh = applied.kept.values().cloned().collect();
    ground.ledger.expire(ground.host.now(), limits, &fresh);
    if let Err(error) = ledger::save(ground.state, ground.ledger) {
        // It is said to be applied once that is on disk.
        ground.ledger.applied = before;
        return Err(error.into());
    }
    Ok(())
}

/// Which units' links have followed: those of which it was done, or of which nothing was found to be done.
fn followed(ledger: &mut Ledger, desired: &Desired, plan: &Plan, applied: &Applied) {
    ledger.following.retain(|id, _| desired.resources.contains_key(id));
    if applied.interrupted || applied.refused.is_some() {
        return;
    }
    ledger.following.retain(|id, _| match applied.outcomes.get(id) {
        Some(outcome) => *outcome != Outcome::Done,
        None => !(plan.in_sync.contains(id) || plan.adopted.contains(id)),
    });
}

/// Which exclusive directories are cleared by now, and of which strangers they are not: one that can never go. What comes
/// into one after that is drift, and not what stood there before.
fn cleared(ground: &mut Ground<'_>, plan: &Plan, applied: &Applied) {
    let desired = ground.desired;
    let exclusive: BTreeMap<&Id, &Exclusive> =
        desired.declared().filter_map(|(id, wanted)| Some((id, wanted.exclusive.as_ref()?))).collect();
    if exclusive.is_empty() {
        ground.ledger.exclusive.clear();
        return;
    }
    let ledger = &mut *ground.ledger;
    let done = applied.outcomes.iter().filter(|(_, outcome)| **outcome == Outcome::Done).map(|(id, _)| id);
    let holds: BTreeSet<&Id> = plan.adopted.iter().chain(&plan.in_sync).chain(done).collect();
    let strangers = desired.resources.iter().filter(|(id, _)| !holds.contains(id));
    let mut left: BTreeMap<&Id, BTreeSet<String>> = BTreeMap::new();
    for (id, wanted) in strangers {
        let Some(directory) = &wanted.stranger_of else { continue };
        let within = id.name().strip_prefix(directory.name()).and_then(|rest| rest.strip_prefix('/'));
        // Who came later and does not go either stays who came later.
        let before = within.filter(|_| ledger.was_stranger(directory, id) != Some(false));
        left.entry(directory).or_default().extend(before.map(str::to_owned));
    }
    let is_cleared = |id: &Id| holds.contains(id) && desired.unlisted.get(id).is_none_or(|unlisted| unlisted.but_names);
    // What was in one that is exclusive no longer is for the one around it to know, once that is cleared.
    let around = |id: &Id| ancestors(id.name()).map(|path| Id::new("file", path)).find(|id| exclusive.contains_key(id));
    let stays = |id: &Id| exclusive.contains_key(id) || around(id).is_some_and(|around| !is_cleared(&around));
    ledger.exclusive.retain(|id, _| stays(id));
    for (id, exclusive) in exclusive.iter().filter(|(id, _)| is_cleared(id)) {
        let left = left.remove(id).unwrap_or_default();
        ledger.exclusive.insert((*id).clone(), Cleared { exclusive: (*exclusive).clone(), left });
    }
}

/// What is as wanted is ours now, if it was not, and known to hold, though a crash may have kept an earlier
/// pass from saying so; and what is said of it is remembered for the day it goes.
fn hold(ground: &mut Ground<'_>, id: &Id, holds: bool) {
    let Some(wanted) = ground.desired.resources.get(id) else { return };
    if !holds && !ground.ledger.entries.contains_key(id) {
        return;
    }
    let new = || Entry::new(Origin::Adopted, wanted.drift, wanted.release, &wanted.layer);
    let entry = ground.ledger.entries.entry(id.clone()).or_insert_with(new);
    if holds {
        // An attempt that a crash kept from being recorded has overwritten what was there.
        let attempted = entry.intended.as_deref().is_some_and(Spec::overwrites);
        if let Origin::Found { overwritten, before, .. } = &mut entry.origin
            && attempted
        {
            // Or, where only attributes are ours by now, has put it back.
            *overwritten = !before.expires() || wanted.spec.overwrites();
        }
        // Two sealings of a secret are equal; the payload tells them apart.
        let is_known = |known: &Spec| *known == wanted.spec && known.payload() == wanted.spec.payload();
        if entry.applied.as_ref().is_some_and(is_known) {
            entry.intended = None;
        } else {
            entry.set_applied(wanted.spec.clone());
        }
    }
    (entry.drift, entry.release) = (wanted.drift, wanted.release);
    entry.layer.clone_from(&wanted.layer);
}

/// A first attempt that was refused before anything was written leaves nothing that is ours.
fn give_up(ledger: &mut Ledger, step: &Step, applied: &Applied) {
    const UNWRITTEN: &[&str] =
        &["unknown-owner", "in-the-way", "untrusted-link", "stale", "no-such-file", "no-such-unit", "deferred"];
    let refused = match applied.outcomes.get(&step.id) {
        Some(Outcome::Failed { reason, .. }) => UNWRITTEN.contains(&reason.as_str()),
        Some(Outcome::Skipped { .. }) => true,
        _ => false,
    };
    if !refused {
        return;
    }
    // What an earlier pass took charge of it may have written, if anything stands there.
    let unwritten = applied.made.contains(&step.id) || step.seen.is_absent();
    if unwritten && ledger.entries.get(&step.id).is_some_and(|entry| entry.applied.is_none()) {
        ledger.entries.remove(&step.id);
    }
    // Nothing was overwritten, so there is nothing to give back.
    let kept = applied.kept.get(&step.id);
    ledger.kept.retain(|copy| Some(&copy.id) != kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{Before, package};
    use crate::model::Release;

    fn exact(version: &str) -> Spec {
        let version = package::Version::Exact(version.to_owned());
        Spec::Package(package::Spec::present(version, package::Downgrade::Intended))
    }

    fn installed(version: &str) -> Observed {
        Observed::Package(package::Observed::Installed {
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            essential: false,
            automatic: false,
            held: Some(true),
            order: package::Order::Deb,
        })
    }

    #[test]
    fn what_failed_and_has_begun_nothing_is_not_gone_on_with() {
        let absent = || Observed::Package(package::Observed::Absent { config_files: false });
        let half = || {
            let (status, version) = ("half-configured".to_owned(), "2.0".to_owned());
            Observed::Package(package::Observed::Broken { status, version, essential: false })
        };
        let unknown = || Err(host::Error::Unknown { thing: "dpkg".to_owned(), why: "no answer".to_owned() });
        let id = Id::new("package", "app");
        // What the ledger has afterwards: what was applied, and what is being applied.
        let after = |applied: Option<&str>, seen: Result<Observed, host::Error>| {
            let origin = Origin::Found { before: Before::Package(package::Before::Absent), at: 0, overwritten: false };
            let mut entry = Entry::new(origin, Drift::Report, Release::Restore, "");
            (entry.applied, entry.intended) = (applied.map(exact), Some(Box::new(exact("2.0"))));
            let mut ledger = Ledger { entries: BTreeMap::from([(id.clone(), entry)]), ..Ledger::default() };
            not_begun(&mut ledger, &[(&id, seen)]);
            ledger.entries.remove(&id).map(|entry| (entry.applied, entry.intended.map(|spec| *spec)))
        };
        assert_eq!(after(Some("1.0"), Ok(installed("1.0"))), Some((Some(exact("1.0")), None)));
        assert_eq!(after(None, Ok(absent())), None, "nothing of it is ours");
        let brought = after(None, Ok(installed("1.5")));
        assert_eq!(brought, Some((None, Some(exact("2.0")))), "it was not there before us");
        for seen in [Ok(half()), Ok(installed("2.0")), unknown()] {
            assert_eq!(after(Some("1.0"), seen), Some((Some(exact("1.0")), Some(exact("2.0")))), "it may be ours");
        }
    }
}
