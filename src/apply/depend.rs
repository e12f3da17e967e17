use std::collections::{BTreeMap, BTreeSet};

use super::{Applied, Ground};
use crate::host::{self, Reader};
use crate::kinds::{self, Need, Observed, Phase, Spec, package, unit};
use crate::model::{Cause, Id, Outcome};
use crate::plan::{Plan, Step};

/// Where packages have their unit files.
pub(super) const OF_PACKAGES: &str = "/usr/lib/systemd/system/";

/// What `step` depends on and does not hold, if anything: it failed in this pass or could not be looked at.
pub(super) fn missing(step: &Step, plan: &Plan, applied: &Applied) -> Option<Id> {
    if let Some(package) = applied.unready.get(&step.id) {
        return Some(package.clone());
    }
    let needs: Vec<_> = step.want.needs(step.id.name()).into_iter().filter_map(Need::meets).collect();
    if needs.is_empty() {
        return None;
    }
    let failed = applied.outcomes.iter().filter(|(_, outcome)| **outcome != Outcome::Done).map(|(id, _)| id);
    failed.chain(plan.unmet()).find(|id| **id != step.id && needs.iter().any(|needs| needs(id))).cloned()
}

/// The units that `plan` would turn on, start or start anew and whose package is not there as it is to be, each with that
/// package: what a service needs beside its files, such as a user or a key, the scripts of its package make. `before`: the
/// plan from before packages were installed.
pub(super) fn unready(ground: &Ground<'_>, before: &Plan, plan: &Plan, applied: &Applied) -> BTreeMap<Id, Id> {
    let failed = failed_packages(ground, before, plan, applied);
    if failed.is_empty() || !ground.host.is_machine() {
        return BTreeMap::new();
    }
    // A service that stopped comes back though a newer version of its package could not be had; and so does what an undo
    // puts back.
    let steps = plan.steps.iter().filter(|step| step.phase == Phase::Units && !applied.outcomes.contains_key(&step.id));
    let steps = steps.map(|step| (&step.id, step.cause == Cause::Corrective || ground.settled));
    let refreshes = plan.refreshes.iter().map(|refresh| (&refresh.id, refresh.corrective || ground.settled));
    let mut due: BTreeMap<&Id, bool> = BTreeMap::new();
    for (id, goes_back) in steps.chain(refreshes) {
        due.entry(id).and_modify(|all| *all &= goes_back).or_insert(goes_back);
    }
    let files: BTreeMap<&Id, BTreeSet<String>> =
        due.keys().map(|id| (*id, files_of_packages(ground.host, id.name()))).collect();
    let Ok(owners) = package::owners(ground.host, &files.values().flatten().cloned().collect()) else {
        // Any package that failed may be theirs.
        let blind = due.into_iter().filter(|(id, goes_back)| !goes_back && !files[id].is_empty());
        return blind.filter_map(|(id, _)| Some((id.clone(), failed.first()?.clone()))).collect();
    };
    let names: BTreeSet<&String> = owners.values().flatten().collect();
    let ids: Vec<Id> = names.into_iter().map(|name| Id::new("package", name)).collect();
    let seen = kinds::observe(ground.host, &ids.iter().collect::<Vec<_>>());
    let stands: BTreeMap<&str, Stand> = ids.iter().map(Id::name).zip(seen.iter().map(Stand::of)).collect();
    let unready = due.into_iter().filter_map(|(id, goes_back)| {
        let owners = files[id].iter().filter_map(|file| owners.get(file)).flatten();
        let mut owners = owners.filter_map(|name| Some((name.as_str(), *stands.get(name.as_str())?)));
        Some((id.clone(), owners.find_map(|(name, stand)| keeps_back(name, stand, &failed, goes_back))?))
    });
    unready.collect()
}

/// How a package was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Installed, and configured, in whatever version.
    Whole,
    /// Somewhere in between, or not there.
    Half,
    /// That cannot be told.
    Unknown,
}

impl Stand {
    fn of(seen: &Result<Observed, host::Error>) -> Self {
        match seen {
            Ok(Observed::Package(package::Observed::Installed { .. })) => Self::Whole,
            Ok(_) => Self::Half,
            Err(_) => Self::Unknown,
        }
    }
}

/// The package to wait for, if the unit whose file `owner` brought has to: what is to go on as it was needs no more than a
/// package that is whole.
fn keeps_back(owner: &str, stand: Stand, failed: &BTreeSet<Id>, goes_back: bool) -> Option<Id> {
    let bare = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
    let declared = failed.iter().find(|id| bare(id.name()) == bare(owner));
    match (stand, declared) {
        (Stand::Half, None) => Some(Id::new("package", owner)),
        (Stand::Half, Some(id)) => Some(id.clone()),
        (Stand::Whole | Stand::Unknown, Some(id)) if !goes_back => Some(id.clone()),
        (Stand::Whole | Stand::Unknown, _) => None,
    }
}

/// The packages that are to be there and failed, now or before, or could not be looked at.
fn failed_packages(ground: &Ground<'_>, before: &Plan, plan: &Plan, applied: &Applied) -> BTreeSet<Id> {
    let wanted = |id: &&Id| match ground.desired.resources.get(*id).map(|wanted| &wanted.spec) {
        Some(Spec::Package(want)) => matches!(want, package::Spec::Present { .. }),
        _ => false,
    };
    let failed = applied.outcomes.iter().filter(|(_, outcome)| **outcome != Outcome::Done).map(|(id, _)| id);
    failed.chain(before.unmet()).chain(plan.unmet()).filter(wanted).cloned().collect()
}

/// Where a unit file of a package stands under the name `unit`, or behind a link of that name.
fn files_of_packages(host: &Reader, unit: &str) -> BTreeSet<String> {
    let hops = unit::unit_files(unit).into_iter().filter_map(|path| host.hops(&path).ok()).flatten();
    let real = hops.filter(|hop| matches!(host.look(hop), Ok(Some(_)))).filter_map(|hop| host.canonical(&hop).ok());
    real.filter(|path| path.starts_with(OF_PACKAGES)).collect()
}

/// How a step ended. What is missing because a package is missing is not at fault itself.
pub(super) fn outcome(
    step: &Step,
    result: Result<(), host::Error>,
    plan: &Plan,
    outcomes: &BTreeMap<Id, Outcome>,
) -> Outcome {
    let error = match result {
        Ok(()) => return Outcome::Done,
        Err(error) => error,
    };
    if matches!(error.reason(), "no-such-unit" | "unknown-owner") {
        let failed = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed { .. })).map(|(id, _)| id);
        let refused = plan.failed.iter().map(|unseen| &unseen.id);
        let held = plan.held.iter().map(|held| &held.step.id);
        let packages: Vec<&Id> = failed.chain(refused).chain(held).filter(|id| id.kind() == "package").collect();
        // The one that is called like it, as far as names tell: ssh.service is openssh-server's.
        let stem = step.id.name().split(['.', '@']).next().unwrap_or_default();
        let same = packages.iter().find(|id| id.name() == stem).or(packages.iter().find(|id| id.name().contains(stem)));
        if let Some(package) = same.or(packages.first()) {
            return Outcome::Skipped { because: (*package).clone() };
        }
    }
    super::failed(&error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_waits_for_the_package_that_brought_its_file() {
        let id = |name: &str| Id::new("package", name);
        let failed = BTreeSet::from([id("app"), id("other")]);
        for goes_back in [false, true] {
            assert_eq!(keeps_back("app", Stand::Half, &failed, goes_back), Some(id("app")));
            assert_eq!(keeps_back("app:amd64", Stand::Half, &failed, goes_back), Some(id("app")));
            // One that came along with what is declared.
            assert_eq!(keeps_back("app-common", Stand::Half, &failed, goes_back), Some(id("app-common")));
            assert_eq!(keeps_back("app-common", Stand::Whole, &failed, goes_back), None, "it has not failed");
        }
        for stand in [Stand::Whole, Stand::Unknown] {
            assert_eq!(keeps_back("app", stand, &failed, false), Some(id("app")), "another version is declared");
            assert_eq!(keeps_back("app", stand, &failed, true), None, "it goes on with the version that it had");
        }
    }
}
