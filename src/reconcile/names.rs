//! One path may have been managed under another name before: a directory was moved and a link left in its place.

use std::collections::BTreeMap;

use crate::compile::Desired;
use crate::host::Reader;
use crate::ledger::Ledger;
use crate::model::Id;

/// What is no longer declared and is, by way of a link, what is declared under another name goes on under that
/// name: it is not let go, and what stood there before stays known.
pub(super) fn follow(host: &Reader, desired: &Desired, ledger: &mut Ledger) {
    let file = |id: &&Id| id.kind() == "file";
    let gone: Vec<Id> =
        ledger.entries.keys().filter(file).filter(|id| !desired.resources.contains_key(id)).cloned().collect();
    if gone.is_empty() {
        return;
    }
    // What cannot be resolved is told by the look at it.
    let real = |id: &Id| host.canonical(id.name()).ok();
    let declared: BTreeMap<String, &Id> =
        desired.resources.keys().filter(file).filter_map(|id| Some((real(id)?, id))).collect();
    for old in gone {
        let Some(new) = real(&old).and_then(|path| declared.get(&path)) else { continue };
        if let Some(entry) = ledger.entries.remove(&old) {
            ledger.entries.entry((*new).clone()).or_insert(entry);
        }
    }
}
