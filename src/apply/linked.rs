//! Units that are to stay enabled follow their `[Install]` sections: once what defines them is another, what the old section
//! linked and the new one does not goes, and what the new one asks for is linked. What somebody else has linked stays.

use std::collections::BTreeMap;

use super::Ground;
use super::replaced::has_file_of_package;
use crate::compile::Desired;
use crate::host::{self, Payloads, Reader};
use crate::kinds::file::What;
use crate::kinds::unit::{self, Coming, Enablement, Links, View};
use crate::kinds::{Observed, Spec};
use crate::ledger::Ledger;
use crate::model::{Cause, Id};
use crate::plan::{Plan, Step};

/// Which units `desired` has enabled, and which not.
pub(super) fn enablement(desired: &Desired) -> Enablement {
    let units = desired.resources.iter().filter_map(|(id, wanted)| match &wanted.spec {
        Spec::Unit(want) if want.masked != Some(true) => Some((id.name().to_owned(), want.enabled?)),
        _ => None,
    });
    units.collect()
}

/// Adds to what was seen of units what their links have to follow once `plan` is carried out. Whether there is any.
pub fn follow(
    host: &Reader,
    payloads: &Payloads,
    (desired, ledger): (&Desired, &Ledger),
    plan: &Plan,
    observed: &mut BTreeMap<Id, Result<Observed, host::Error>>,
) -> bool {
    let moves: Vec<&Step> = plan.steps.iter().filter(|step| unit::may_define(&step.id)).collect();
    if moves.is_empty() && ledger.following.is_empty() {
        return false;
    }
    let coming = moves.iter().map(|step| (step.id.name().to_owned(), coming(step, payloads))).collect();
    let (now, then) = (View::now(host), View::once(host, &coming));
    let Ok(there) = unit::all_links(host) else { return false };
    let enablement = enablement(desired);
    let intended = moves.iter().any(|step| step.cause == Cause::Intended);
    let mut found = false;
    for (name, _) in enablement.iter().filter(|(_, enabled)| **enabled) {
        let id = Id::new("unit", name);
        let Some(Ok(Observed::Unit(seen))) = observed.get_mut(&id) else { continue };
        if !seen.is_enabled() {
            continue;
        }
        // What was begun before and has not come to its end may have made links already.
        let known = ledger.following.get(&id);
        let asked = match (known.cloned(), now.asked(name)) {
            (known, Ok(asked)) => known.unwrap_or_default().into_iter().chain(asked).collect(),
            (Some(known), Err(_)) => known,
            (None, Err(_)) => continue,
        };
        let follow = unit::follow(name, &asked, &then, &there, &enablement);
        seen.follow = follow.map(|follow| unit::Follow { intended: intended || known.is_some(), ..follow });
        found |= seen.follow.is_some();
    }
    found
}

/// What is to stand where `step` goes.
fn coming(step: &Step, payloads: &Payloads) -> Coming {
    let Spec::File(want) = &step.want else { return Coming::Unknown };
    match &want.what {
        What::Absent => Coming::Nothing,
        What::Symlink { target } => Coming::Link(target.clone()),
        What::Regular { content, .. } if want.secret.is_none() => {
            payloads.get(content).map_or(Coming::Unknown, |text| Coming::File(text.to_vec()))
        }
        _ => Coming::Unknown,
    }
}

/// What the sections of the units ask for that are to be enabled and that packages bring, before another one may.
pub(super) fn of_packages(ground: &Ground<'_>) -> Vec<(Id, Links)> {
    let view = View::now(ground.host);
    let enabled = enablement(ground.desired).into_iter().filter(|(_, enabled)| *enabled).map(|(name, _)| name);
    let theirs = enabled.filter(|name| has_file_of_package(ground.host, name));
    theirs.filter_map(|name| Some((Id::new("unit", &name), view.asked(&name).ok()?))).collect()
}
