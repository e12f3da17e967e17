//! Which units a package must not start before their own files are in place, see `kinds::package`.

use super::Ground;
use crate::kinds::{Observed, Spec};
use crate::model::Id;

/// The declared units that do not run yet.
pub(super) fn withheld(ground: &Ground<'_>) -> Vec<String> {
    // Whoever says nothing about whether a unit runs leaves that to its package.
    let says = |spec: &Spec| matches!(spec, Spec::Unit(unit) if unit.active.is_some() || unit.masked == Some(true));
    let ids: Vec<&Id> =
        ground.desired.resources.iter().filter(|(_, wanted)| says(&wanted.spec)).map(|(id, _)| id).collect();
    let seen = crate::kinds::observe(ground.host, &ids);
    let resting =
        ids.into_iter().zip(seen).filter(|(_, seen)| matches!(seen, Ok(Observed::Unit(seen)) if !seen.is_active()));
    resting.map(|(id, _)| id.name().to_owned()).collect()
}
