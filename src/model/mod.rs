//! Storey 0: the words everything else is said in. Pure values, no effects.

mod change;
mod digest;
mod facts;
pub mod glob;
mod id;
mod outcome;
mod packed;
mod policy;
mod revision;
mod text;
mod zone;

pub use change::{Change, Detail};
pub use digest::Digest;
pub use facts::{Facts, Family, Os};
pub use id::{Id, NotAnId};
pub use outcome::{Class, Outcome, Stage, Stop};
pub use packed::packed;
pub use policy::{Cause, Drift, Release, Takeover, TrustMode, Update, Word};
pub use revision::{CommitId, NotACommitId, Revision};
pub use text::{escaped, one_line};
pub use zone::Zone;
