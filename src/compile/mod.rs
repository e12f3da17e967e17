//! Storey 6: from a snapshot and facts to what is wanted of a host. Pure.
//!
//! The caller reads what [`missing_layers`] names until it names nothing, then calls [`compile`]. Layers are put in
//! order (`layers`), what they say of one thing is made one (`merge`), trees and `[files]` become files (`tree`,
//! `files`, `file`, `paths`), conditions and templates are evaluated (`expr`).

mod checks;
mod compiled;
mod deep;
mod desired;
mod exclusive;
mod expr;
mod facts;
mod file;
mod files;
mod layers;
mod merge;
mod packages;
mod paths;
mod secrets;
mod select;
mod source;
mod tags;
#[cfg(test)]
mod tests;
mod tree;
mod units;
mod vars;
mod work;

pub use compiled::{Compiled, Options, compile};
pub use desired::{Check, Desired, Probe, Unlisted, Wanted};
pub use facts::assumed_facts;
pub use layers::missing_layers;
pub use packages::package_name;
pub use secrets::{Reader, Readers, Secrets, is_of_secret, readers};
pub use select::{names_tried, select};
pub use tree::{FILE_LIMIT, LFS, UNITS};
pub use units::{is_enabling, is_of_units};
pub use work::RESOURCE_LIMIT;
