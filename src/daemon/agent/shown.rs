//! What the agent shows of itself.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::{Snapshot, systemd};
use super::Agent;
use crate::brakes::Brakes;
use crate::config::Settings;
use crate::ledger::Ledger;
use crate::model::{Revision, one_line};
use crate::report::status::{self, Parts};
use crate::report::{AgentStatus, Running, Status};

/// What of the ledger the status shows.
#[derive(Debug, Default)]
pub(in super::super) struct Held {
    /// The name of the host's directory.
    pub(in super::super) host: Option<String>,
    /// The revision of which everything held last.
    pub(in super::super) applied: Option<Revision>,
    /// The revision that was tried last.
    pub(in super::super) attempted: Option<Revision>,
}

impl Held {
    pub(in super::super) fn of(ledger: &Ledger) -> Self {
        Self {
            host: ledger.bound.as_ref().map(|bound| bound.host.clone()),
            applied: ledger.applied.clone(),
            attempted: ledger.attempted.clone(),
        }
    }
}

impl Agent {
    /// Makes the status anew, for whoever asks or watches.
    pub(super) fn publish(&mut self) {
        let now = self.host.now();
        let running = self.running.as_ref().map(|current| Running {
            pass: current.pass.clone(),
            since: current.since,
            doing: self.doing.borrow().line.clone(),
        });
        let wait = self.due.saturating_duration_since(Instant::now());
        let next = self.configured().then(|| now.saturating_add(i64::try_from(wait.as_secs()).unwrap_or(0)));
        let planned = self.doing.borrow().planned.clone();
        let unwatched = self.unwatched.borrow().clone();
        let notes: Vec<String> =
            [self.refused.clone(), self.at_work.clone(), unwatched].into_iter().flatten().collect();
        let nobody = Settings::default();
        let nothing = Brakes::default();
        let settings = self.settings.as_ref().unwrap_or(&nobody);
        let status = status::make(&Parts {
            settings,
            unusable: self.settings.as_ref().err().or(self.brakes.as_ref().err()),
            host: self.held.host.as_deref(),
            report: self.report.as_deref(),
            planned: planned.as_deref(),
            applied: self.held.applied.as_ref(),
            attempted: self.held.attempted.as_ref(),
            brakes: self.brakes.as_ref().unwrap_or(&nothing),
            restored: &self.restored,
            looks: &self.live.looks,
            health: &self.health.now(),
            running,
            hanging: self.hanging.as_deref(),
            last: self.last.clone(),
            next,
            agent: Some(AgentStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                started: self.started,
                settings: self.digest.clone(),
            }),
            notes: &notes,
            now,
            previous: self.status.as_deref(),
        });
        let before = self.status.as_ref().map(|before| (before.state, before.reason.as_ref()));
        if before != Some((status.state, status.reason.as_ref())) {
            systemd::status(&status_line(&status));
        }
        let status = Arc::new(status);
        self.status = Some(Arc::clone(&status));
        self.snapshots.send_replace(Snapshot {
            status,
            report: self.report.clone(),
            history: Arc::clone(&self.history),
        });
    }
}

/// For `systemctl status`.
fn status_line(status: &Status) -> String {
    let state = status.state.as_str();
    match (&status.reason, &status.message) {
        (Some(reason), Some(message)) => one_line(&format!("{state}, {reason}: {message}"), 300),
        (Some(reason), None) => format!("{state}, {reason}"),
        _ => format!("{state}: {} resources", status.resources.managed),
    }
}
