use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kinds::Spec;
use crate::model::{Drift, Id, Release, Update};

/// Everything that a revision wants of one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// The name of the host's directory.
    pub host: String,
    /// Every resource, by id.
    pub resources: BTreeMap<Id, Wanted>,
    /// `[policy] update` of the layers, the nearest; `None` where none says so.
    pub update: Option<Update>,
    /// `[guard] max_removals`.
    pub max_removals: Option<u64>,
}

/// What is wanted of one resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// The state.
    pub spec: Spec,
    /// What to do about drift.
    pub drift: Drift,
    /// What happens when the declaration goes away.
    pub release: Release,
    /// The layer that declares it: `roles/web`.
    pub layer: String,
}
