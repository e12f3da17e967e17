//! What stays to be said whatever comes of a plan.

use crate::model::Stop;
use crate::report::{Report, State};

/// Why this is not the newest revision.
#[derive(Debug)]
pub(super) struct Standing {
    state: State,
    why: Stop,
    /// State, reason and message without it.
    found: (State, Option<String>, Option<String>),
}

impl Standing {
    /// Says `why` in `report`, unless something worse holds.
    pub(super) fn told(report: &mut Report, (state, why): (State, Stop)) -> Self {
        let found = (report.state, report.reason.clone(), report.message.clone());
        let standing = Self { state, why, found };
        standing.insist(report);
        standing
    }

    /// Takes it off again: what comes of the plan is judged by itself.
    pub(super) fn lift(&self, report: &mut Report) {
        (report.state, report.reason, report.message) = self.found.clone();
    }

    /// Says it again.
    pub(super) fn insist(&self, report: &mut Report) {
        report.insist(self.state, &self.why);
    }
}
