//! What the agent does about a request.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::super::Answer;
use super::super::requests::{Decision, Pass};
use super::Agent;
use super::desk::Work;
use crate::brakes::Suspension;
use crate::host::Entry;
use crate::reconcile;
use crate::report::journal;

impl Agent {
    pub(super) fn carry_out(&mut self, decision: Decision) -> Answer {
        let pass = decision.pass;
        if pass == Pass::Instead
            && let Some(current) = &self.running
        {
            current.link.interrupt.store(true, Ordering::Relaxed);
        }
        let message = decision.message;
        if pass == Pass::No {
            return Answer { message, pass: None };
        }
        let mut wanted = self.taken_up();
        wanted.allow_removals = wanted.allow_removals.max(decision.allow_removals);
        wanted.retry |= decision.retry;
        wanted.source |= decision.source;
        let id = wanted.pass.clone();
        self.wanted = Some(wanted);
        self.go_on();
        Answer { message, pass: Some(id) }
    }

    /// Follows the clock: what is over is told once. Passes judge by themselves.
    pub(super) fn keep_time(&mut self) {
        let (now, kept_time) = (self.host.now(), std::mem::replace(&mut self.kept_time, self.host.now()));
        let Ok(brakes) = &mut self.brakes else { return };
        // What was over before this agent started was told by the one before.
        let is_news = |one: &&Suspension| one.until > kept_time;
        let mut over: Vec<Suspension> = brakes.over(now).filter(is_news).cloned().collect();
        brakes.forget(now);
        // By a clock that is put right it ends in its time. By one that was ahead when it was asked for it would
        // last too long: once it has lasted as long as it was asked for it is over.
        let ahead: Vec<Suspension> = brakes.suspensions.iter().filter(|one| one.is_ahead(now)).cloned().collect();
        self.ahead.retain(|(one, _)| ahead.contains(one));
        for one in ahead {
            if self.ahead.iter().all(|(known, _)| *known != one) {
                self.ahead.push((one, Instant::now()));
            }
        }
        let lasted: Vec<Suspension> = self
            .ahead
            .iter()
            .filter(|(one, since)| ends(one, *since) <= Instant::now())
            .map(|(one, _)| one.clone())
            .collect();
        brakes.suspensions.retain(|one| !lasted.contains(one));
        let written = !lasted.is_empty();
        over.extend(lasted);
        let entries: Vec<Entry> = over.iter().map(journal::expired).collect();
        self.log(&entries);
        if written {
            self.put_down(Work::Over);
        }
    }

    /// When something ends by itself that holds something back, or is to be tried again, the next time.
    pub(super) fn wakes(&self) -> Option<Instant> {
        let now = self.host.now();
        let suspended = self.brakes.iter().flat_map(|brakes| &brakes.suspensions).map(|one| one.until);
        let first = suspended.chain(self.nexts.iter().copied()).filter(|&at| at > now).min();
        let wait = |at: i64| Duration::from_secs(at.saturating_sub(now).unsigned_abs());
        // What is further away is looked for again later.
        let first = first.map(|at| Instant::now() + wait(at).min(Duration::from_secs(86_400)));
        first.into_iter().chain(self.ahead.iter().map(|(one, since)| ends(one, *since))).min()
    }

    /// Whether something ended that is not known to have.
    pub(super) fn is_over(&self) -> bool {
        let now = self.host.now();
        let suspended = self.brakes.iter().flat_map(|brakes| &brakes.suspensions).map(|one| one.until);
        suspended.chain(self.nexts.iter().copied()).any(|at| at > self.kept_time && at <= now)
            || self.ahead.iter().any(|(one, since)| ends(one, *since) <= Instant::now())
    }

    /// What people asked for may not have been readable when it was read last.
    pub(super) fn read_brakes(&mut self) {
        if self.brakes.is_err() {
            self.brakes = reconcile::brakes(&self.host);
        }
    }
}

/// When a suspension is over that was found at `since`, whatever the clock says.
fn ends(one: &Suspension, since: Instant) -> Instant {
    since + Duration::from_secs(one.length().unsigned_abs())
}
