use std::collections::BTreeMap;

use crate::host;
use crate::kinds::Need;
use crate::model::{Id, Outcome};
use crate::plan::{Plan, Step};

/// What `step` depends on and does not hold, if anything: it failed in this pass or could not be looked at.
pub(super) fn missing(step: &Step, plan: &Plan, outcomes: &BTreeMap<Id, Outcome>) -> Option<Id> {
    let needs: Vec<_> = step.want.needs(step.id.name()).into_iter().filter_map(Need::meets).collect();
    if needs.is_empty() {
        return None;
    }
    let failed = outcomes.iter().filter(|(_, outcome)| **outcome != Outcome::Done).map(|(id, _)| id);
    failed.chain(plan.unmet()).find(|id| **id != step.id && needs.iter().any(|needs| needs(id))).cloned()
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
