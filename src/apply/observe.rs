use std::collections::BTreeMap;

use crate::compile::Desired;
use crate::host::{self, Reader};
use crate::kinds::file::What;
use crate::kinds::file::protected::is_our_unit;
use crate::kinds::unit::{self, Behind, Declared};
use crate::kinds::{self, Observed, Spec, package};
use crate::ledger::Ledger;
use crate::model::{Drift, Id};

/// Looks at every one of `ids`, and of the units among them that `desired` has, whether what they run is what stands on
/// the host; what `ledger` says that one has caught up with it does not catch up with over and over.
pub fn observe(
    host: &Reader,
    desired: &Desired,
    ledger: &Ledger,
    ids: &[&Id],
) -> BTreeMap<Id, Result<Observed, host::Error>> {
    let found = kinds::observe(host, ids);
    let mut observed: BTreeMap<Id, Result<Observed, host::Error>> =
        ids.iter().map(|id| (*id).clone()).zip(found).collect();
    if host.is_machine() && !host.interrupted() {
        for (id, found) in behind(host, desired, ledger, &observed) {
            if let Some(Ok(Observed::Unit(seen))) = observed.get_mut(&id) {
                seen.behind = found;
            }
        }
    }
    observed
}

fn behind(
    host: &Reader,
    desired: &Desired,
    ledger: &Ledger,
    observed: &BTreeMap<Id, Result<Observed, host::Error>>,
) -> Vec<(Id, Vec<Behind>)> {
    let first = Id::new("unit", "");
    let wanted = desired.resources.range(&first..).take_while(|(id, _)| id.kind() == "unit");
    let running = wanted.filter_map(|(id, wanted)| match (&wanted.spec, observed.get(id)) {
        (Spec::Unit(want), Some(Ok(Observed::Unit(seen)))) if seen.main.is_some() && wanted.drift != Drift::Ignore => {
            // The package of trueup restarts trueup.
            (!is_our_unit(id.name())).then_some((id, want, seen))
        }
        _ => None,
    });
    let running: Vec<(&Id, &unit::Spec, &unit::Observed)> = running.collect();
    let units: Vec<_> = running.iter().map(|(id, want, seen)| (id.name(), *want, *seen)).collect();
    let below = |prefix: &str| {
        let first = Id::new("file", prefix);
        let from = desired.resources.range(&first..);
        from.map(|(id, _)| id).take_while(|id| id.as_str().starts_with(first.as_str())).collect()
    };
    // A file that was changed by somebody is put back first, and what uses it starts anew for that; or it is only told,
    // and nothing is to read it sooner than it would have. What is seeded is its program's own.
    let holds = |id: &Id| {
        let wanted = desired.resources.get(id)?;
        let content = matches!(&wanted.spec, Spec::File(file) if matches!(file.what, What::Regular { .. } | What::Symlink { .. }));
        let as_declared = matches!(observed.get(id), Some(Ok(seen)) if wanted.spec.diff(seen).is_empty());
        Some(content && wanted.drift != Drift::Ignore && as_declared)
    };
    let began_with = |unit: &str, run: &str, file: &Id| {
        let known = ledger.caught_up.get(&Id::new("unit", unit));
        known.is_some_and(|known| known.run == run && known.with.contains(file))
    };
    let found = unit::behind(host, &units, &Declared { below: &below, holds: &holds, began_with: &began_with });
    let found: Vec<(Id, Vec<Behind>)> =
        running.into_iter().map(|(id, ..)| id.clone()).zip(found).filter(|(_, found)| !found.is_empty()).collect();
    // What is half unpacked is nothing to be started on, and whoever is at it may restart what it brings: later.
    if found.is_empty() || package::nobody_is_at_work(host) { found } else { Vec::new() }
}
