//! What is known of the source across passes.

use serde::{Deserialize, Serialize};

use crate::host::{DocumentError, StateDir, StateError};
use crate::model::Stop;
use crate::report::Report;
use crate::report::status::Looks;

/// Bumped when an older trueup could misread what is written.
const FORMAT: u32 = 1;
/// A document of the agent's own directory.
const NAME: &str = "source";
/// How old the stored time of the last look may become, in seconds: it is only for `max_age` after a restart.
const STORED_EVERY: i64 = 60 * 60;

/// How looking at the source went. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Live {
    /// What the status shows.
    #[serde(flatten)]
    pub looks: Looks,
    /// How the last look failed.
    pub why: Option<Stop>,
    /// How many looks failed in a row.
    pub failures: u32,
    /// The commit that was seen last, in full.
    pub seen: Option<String>,
}

impl Live {
    /// What is stored; nothing where there is nothing that can be believed: it is only about ages.
    pub fn load(state: &StateDir) -> Result<Self, DocumentError> {
        Ok(state.load(NAME, FORMAT)?.map(|document| document.value).unwrap_or_default())
    }

    /// Stores it where it changed since `stored` by more than the time that passes anyway.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn save(&self, stored: &mut Self, state: &StateDir) -> Result<(), StateError> {
        let (is, was) = (&self.looks, &stored.looks);
        let aged = is.looked.zip(was.looked).is_none_or(|(is, was)| is.saturating_sub(was) >= STORED_EVERY);
        let same = (is.fetched, is.failing_since) == (was.fetched, was.failing_since);
        if same && (is.looked == was.looked || !aged) {
            return Ok(());
        }
        state.save(NAME, FORMAT, self)?;
        stored.clone_from(self);
        Ok(())
    }

    /// Takes in how a pass that asked the source found it.
    pub fn after(&mut self, report: &Report, now: i64) {
        if let Some(walls) = report.walls {
            self.looks.behind(walls);
        }
        if let Some(why) = &report.source_error {
            self.looks.failed(now, &why.message);
            self.failures = self.failures.saturating_add(1);
            self.why = Some(why.clone());
            return;
        }
        // A pass that stopped before it came to the source says nothing of it.
        let Some(seen) = &report.revision.seen else { return };
        let new = self.seen.as_ref() != Some(seen);
        self.looks.succeeded(now, new);
        self.seen = Some(seen.clone());
        (self.why, self.failures) = (None, 0);
    }

    /// For how long, in seconds, no look went well, where that is longer than `max_age`.
    pub fn stale(&self, started: i64, max_age: i64, now: i64) -> Option<i64> {
        let age = now.saturating_sub(self.looks.looked.unwrap_or(started));
        (age > max_age).then_some(age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Class, Stage};

    fn seen(commit: &str) -> Report {
        let mut report = Report::new("agent");
        report.revision.seen = Some(commit.to_owned());
        report
    }

    fn failed() -> Report {
        let (stage, class, reason) = (Stage::Fetch, Class::Transient, "unreachable".to_owned());
        let mut report = seen("a");
        report.source_error = Some(Stop { stage, class, reason, message: "no route".to_owned() });
        report
    }

    #[test]
    fn a_source_that_fails_is_told_since_when_and_one_that_answers_again_is_well() {
        let mut live = Live::default();
        live.after(&seen("a"), 100);
        live.after(&failed(), 160);
        live.after(&failed(), 220);
        assert_eq!(
            (live.looks.looked, live.looks.fetched, live.looks.failing_since, live.failures),
            (Some(100), Some(100), Some(160), 2)
        );
        live.after(&seen("a"), 280);
        assert_eq!(
            (live.looks.looked, live.looks.fetched, live.looks.failing_since, live.failures),
            (Some(280), Some(100), None, 0)
        );
        live.after(&seen("b"), 340);
        assert_eq!(live.looks.fetched, Some(340));
    }

    #[test]
    fn stale_is_later_than_max_age_and_a_start_counts_as_a_look() {
        let live = Live { looks: Looks { looked: Some(1000), ..Looks::default() }, ..Live::default() };
        assert_eq!((live.stale(5000, 60, 1060), live.stale(5000, 60, 1061)), (None, Some(61)));
        assert_eq!((Live::default().stale(1000, 60, 1060), Live::default().stale(1000, 60, 1061)), (None, Some(61)));
    }

    #[test]
    fn that_time_passes_is_not_stored_each_time() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::new(scratch.path().join("agent"));
        let (mut live, mut stored) = (Live::default(), Live::default());
        let on_disk = |state: &StateDir| Live::load(state).expect("readable").looks.looked;
        live.after(&seen("a"), 100);
        live.save(&mut stored, &state).expect("saved");
        live.after(&seen("a"), 160);
        live.save(&mut stored, &state).expect("nothing to do");
        assert_eq!(on_disk(&state), Some(100));
        live.after(&seen("a"), 100 + STORED_EVERY);
        live.save(&mut stored, &state).expect("saved");
        assert_eq!(on_disk(&state), Some(100 + STORED_EVERY));
        live.after(&failed(), 4000);
        live.save(&mut stored, &state).expect("saved");
        assert_eq!(Live::load(&state).expect("readable").looks.failing_since, Some(4000));
    }
}
