//! What the agent does about a request.

use std::sync::atomic::Ordering;

use super::super::requests::{self, Decision, Known, Pass};
use super::super::{Answer, Asked, Caller, Refusal, Request};
use super::Agent;
use crate::brakes::{self, Brakes, Suspension};
use crate::host::Entry;
use crate::ledger::{self, Ledger};
use crate::model::{Class, one_line};
use crate::reconcile;
use crate::report::journal;

impl Agent {
    pub(super) fn answer(&mut self, asked: Asked) {
        let Asked { request, caller, reply } = asked;
        let answered = self.decide(&request, &caller).map(|decision| self.carry_out(decision));
        // Whoever asked may be gone.
        let _ = reply.send(answered);
    }

    /// Takes a request in: what holds from now on is on disk and in the journal when this returns.
    fn decide(&mut self, request: &Request, caller: &Caller) -> Result<Decision, Refusal> {
        self.read_brakes();
        let damaged =
            |error: &dyn std::error::Error| requests::refusal("state-damaged", &one_line(&error.to_string(), 400));
        let ledger = match ledger::load(&self.host.state()) {
            Ok((ledger, _)) => ledger,
            Err(error) if requests::names_resources(request) => return Err(damaged(&error)),
            Err(_) => Ledger::default(),
        };
        let mut brakes = match &self.brakes {
            Ok(brakes) => brakes.clone(),
            // Root says that it is all over, where that can never be known again.
            Err(stop) if stop.class == Class::Stalled && requests::forgets_all(request) => Brakes::default(),
            Err(stop) => return Err(requests::refusal(&stop.reason, &stop.message)),
        };
        let known = Known {
            configured: self.configured(),
            seen: self.live.seen.as_deref().and_then(|seen| seen.parse().ok()),
            ledger: &ledger,
            now: self.host.now(),
        };
        let before = brakes.clone();
        let decision = requests::decide(request, caller, &mut brakes, &known)?;
        let entries = requests::told(request, caller, (&before, &brakes), &known);
        self.keep(brakes)?;
        self.log(&entries);
        Ok(decision)
    }

    /// On disk before anybody hears that it holds.
    fn keep(&mut self, brakes: Brakes) -> Result<(), Refusal> {
        brakes::save(&self.host.agent_state(), &brakes)
            .map_err(|error| requests::refusal(error.word().0, &one_line(&error.to_string(), 400)))?;
        self.brakes = Ok(brakes);
        Ok(())
    }

    fn carry_out(&mut self, decision: Decision) -> Answer {
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
        wanted.restore.extend(decision.restore);
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
