//! What package managers tell of declared packages beside what there is to do.

use std::collections::{BTreeMap, BTreeSet};

use crate::compile::Desired;
use crate::host::{self, Reader};
use crate::kinds::{Observed, Spec, package};
use crate::model::Id;

/// Who provides what is declared absent, and is as declared. Where that cannot be looked at, it is said.
pub(super) fn provided(
    host: &Reader,
    desired: &Desired,
    observed: &BTreeMap<Id, Result<Observed, host::Error>>,
) -> Vec<String> {
    let is_absent = |id: &&Id| match (desired.resources.get(*id).map(|wanted| &wanted.spec), observed.get(*id)) {
        (Some(Spec::Package(package::Spec::Absent)), Some(Ok(seen))) => seen.is_absent(),
        _ => false,
    };
    let names: BTreeSet<&str> = desired.resources.keys().filter(is_absent).map(Id::name).collect();
    package::provided(host, &names).unwrap_or_else(|error| {
        vec![format!("packages: who provides what is absent cannot be told: {}", error.chain())]
    })
}
