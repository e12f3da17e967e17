use super::{Brakes, Experience};
use crate::host::{Document, DocumentError, StateDir, StateError};

/// Bumped when an older trueup could misread what is written.
const FORMAT: u32 = 1;
/// A document of the agent's own directory below the state, which passes never sweep.
const NAME: &str = "brakes";
/// A document of the state that passes write.
const EXPERIENCE: &str = "experience";

/// What people asked for; nothing where nobody ever did. `recovered` says that it is the previous copy.
///
/// # Errors
/// Where it is there and cannot be believed: then nothing may be changed, since that might be suspended.
pub fn load(state: &StateDir) -> Result<Document<Brakes>, DocumentError> {
    Ok(state.load(NAME, FORMAT)?.unwrap_or(Document { value: Brakes::default(), recovered: false }))
}

/// Writes what people asked for; on disk when this returns.
///
/// # Errors
/// Where it cannot be written; the old one then still stands.
pub fn save(state: &StateDir, brakes: &Brakes) -> Result<(), StateError> {
    state.save(NAME, FORMAT, brakes)
}

/// What earlier passes met; `None` where they met nothing. `recovered` says that it is the previous copy.
///
/// # Errors
/// Where it is there and cannot be believed. Nobody asked for what it holds: it may be started afresh.
pub fn load_experience(state: &StateDir) -> Result<Option<Document<Experience>>, DocumentError> {
    state.load(EXPERIENCE, FORMAT)
}

/// Writes what passes met; on disk when this returns.
///
/// # Errors
/// Where it cannot be written; the old one then still stands.
pub fn save_experience(state: &StateDir, experience: &Experience) -> Result<(), StateError> {
    state.save(EXPERIENCE, FORMAT, experience)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wire format of version 1, as it was first written; it must stay readable.
    const FIRST: &str = include_str!("fixtures/brakes-1.json");

    #[test]
    fn every_version_of_the_brakes_is_still_read() {
        let brakes: Brakes = serde_json::from_str(FIRST).expect("version 1 is read");
        assert_eq!(brakes.suspensions.len(), 2);
        assert!(brakes.approved.is_some() && brakes.rolled_back.is_some());
        let again = serde_json::to_string(&brakes).expect("written");
        assert_eq!(serde_json::from_str::<Brakes>(&again).expect("read again"), brakes);
    }

    #[test]
    fn both_documents_come_back_as_they_were_saved() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::new(directory.path().join("state"));
        assert_eq!(load(&state).expect("none is no error").value, Brakes::default());
        assert!(load_experience(&state).expect("none is no error").is_none());
        let brakes: Brakes = serde_json::from_str(FIRST).expect("version 1 is read");
        save(&state, &brakes).expect("saved");
        assert_eq!(load(&state).expect("there").value, brakes);
        let experience = Experience::default();
        save_experience(&state, &experience).expect("saved");
        assert_eq!(load_experience(&state).expect("whole").expect("there").value, experience);
    }
}
