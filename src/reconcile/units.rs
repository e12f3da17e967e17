//! What systemd and the directories of others tell of declared units once it is known what is to change.

use std::collections::BTreeMap;

use crate::compile::Desired;
use crate::host::{self, Reader};
use crate::kinds::{Observed, Refresh, Spec, unit};
use crate::ledger::Ledger;
use crate::model::{Class, Id, Stage, Stop};
use crate::plan::Plan;

/// Adds to what was seen of units what they read as they start, since a file is to change.
///
/// # Errors
/// Where it is not to be told: written now, what one of them reads would not move it any more.
pub(super) fn tell_start_files(
    host: &Reader,
    desired: &Desired,
    observed: &mut BTreeMap<Id, Result<Observed, host::Error>>,
) -> Result<(), Stop> {
    let units = desired.resources.iter().map(|(id, wanted)| (id, &wanted.spec));
    let untold = unit::add_start_files(host, units, observed);
    match untold.first().and_then(|id| observed.get(id)) {
        Some(Err(error)) => Err(Stop {
            stage: Stage::Observe,
            class: Class::Transient,
            reason: error.reason().to_owned(),
            message: format!("what units read as they start is not to be told: {}", error.chain()),
        }),
        _ => Ok(()),
    }
}

/// What others put beside declared units. Where it cannot be looked at, that is said.
pub(super) fn strange_drop_ins(host: &Reader, desired: &Desired, ledger: &Ledger) -> Vec<String> {
    let units = desired.resources.keys().filter(|id| id.kind() == "unit").map(Id::name).collect();
    let ours = |id: &Id| desired.resources.contains_key(id) || ledger.entries.contains_key(id);
    unit::strange_drop_ins(host, &units, &ours)
        .unwrap_or_else(|error| vec![format!("drop-ins of others cannot be told: {}", error.chain())])
}

/// Which of the reloads cannot be done, as systemd has read the units now; their own files may change that.
pub(super) fn without_reload(host: &Reader, plan: &Plan, desired: &Desired) -> Vec<String> {
    let reloads = plan.refreshes.iter().filter(|refresh| refresh.how == Refresh::Reload);
    let as_known = reloads.filter(|refresh| !refresh.because.iter().any(|id| unit::is_its_file(refresh.id.name(), id)));
    let names: Vec<&str> = as_known.map(|refresh| refresh.id.name()).collect();
    let told = |name: &str| {
        let falls_back = match desired.resources.get(&Id::new("unit", name)).map(|wanted| &wanted.spec) {
            Some(Spec::Unit(spec)) => unit::falls_back(name, spec),
            _ => false,
        };
        let then = if falls_back { "it will be restarted" } else { "declare a restart instead" };
        format!("unit:{name} cannot be reloaded (no ExecReload=): {then}")
    };
    unit::without_reload(host, &names).into_iter().map(told).collect()
}
