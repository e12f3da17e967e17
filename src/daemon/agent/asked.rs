//! What the agent does about a request.

use std::sync::atomic::Ordering;

use super::super::Answer;
use super::super::requests::{Decision, Pass};
use super::Agent;
use crate::brakes::{self, Suspension};
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
        let now = self.host.now();
        let Ok(brakes) = &mut self.brakes else { return };
        // What was over before this agent started was told by the one before.
        let is_news = |one: &&Suspension| one.until > self.kept_time;
        let entries: Vec<Entry> = brakes.over(now).filter(is_news).map(journal::expired).collect();
        self.kept_time = now;
        if brakes.keep_time(now) {
            // Where it cannot be stored passes look at the time all the same.
            let _ = brakes::save(&self.host.agent_state(), brakes);
        }
        self.log(&entries);
    }

    /// What people asked for may not have been readable when it was read last.
    pub(super) fn read_brakes(&mut self) {
        if self.brakes.is_err() {
            self.brakes = reconcile::brakes(&self.host);
        }
    }
}
