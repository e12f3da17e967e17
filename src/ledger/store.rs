use std::sync::Arc;

use crate::host::{Document, DocumentError, StateDir, StateError};

use super::Ledger;

/// Bumped when an older trueup could misread what is written.
const FORMAT: u32 = 1;

/// The ledger of this host; an empty one where there is none yet. The second value says that the file was
/// damaged and its previous copy stands in.
///
/// # Errors
/// Where it is there and cannot be believed: then nothing may be changed.
pub fn load(state: &StateDir) -> Result<(Ledger, bool), DocumentError> {
    Ok(match state.load("ledger", FORMAT)? {
        Some(Document { value, recovered }) => (value, recovered),
        None => (Ledger::default(), false),
    })
}

/// The ledger as [`load`] reads it, for whoever only looks at it; `None` where it cannot be believed.
pub fn look(state: &StateDir) -> Option<Arc<Ledger>> {
    let read = state.load_shared("ledger", FORMAT).ok()?;
    Some(read.map_or_else(Arc::default, |document| document.value))
}

/// Writes the ledger; on disk when this returns.
///
/// # Errors
/// Where our directory cannot be written; the old ledger then still stands.
pub fn save(state: &StateDir, ledger: &Ledger) -> Result<(), StateError> {
    state.save("ledger", FORMAT, ledger)
}
