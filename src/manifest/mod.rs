//! Storey 5: the fleet repository's format as written. Pure.
//!
//! `trueup.toml`, `role.toml` and `host.toml` are read with spans and walked by hand, so that every problem of a
//! file is found at once, each with its place and a hint. What the words mean together is `compile`'s question.

mod checks;
mod entries;
mod files;
mod fleet;
mod layer;
mod near;
mod problem;
mod render;
mod sections;
mod types;
mod version;
mod walk;

pub use fleet::parse_fleet;
pub use layer::parse_layer;
pub(crate) use near::nearest;
pub use problem::{Problem, Severity, Text, position};
pub use render::{render, text_of};
pub use types::{
    Assumed, At, CheckEntry, FileEntry, Fleet, Include, Layer, LayerKind, PackageEntry, Policy, Probe, Stand, State,
    UnitEntry, Var, VarEntry, Vars,
};

/// The only `format` this version understands.
pub const FORMAT: u64 = 1;

/// The most bytes of one manifest.
pub const MANIFEST_LIMIT: usize = 1 << 20;
