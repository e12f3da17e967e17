//! What the agent does about the end of a pass.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::live::Live;
use super::super::pass::{self, Ended};
use super::desk::Work;
use super::{ATTEMPTS, Agent, Flow, LOCKED, chance};
use crate::report::{Last, Report, journal};

impl Agent {
    pub(super) fn pass_ended(&mut self, ended: Ended) -> Flow {
        let Some(current) = self.running.take() else { return Flow::Go };
        self.ended_at = Some(Instant::now());
        self.look_after();
        let Ended { mut report, told, given, live, stored, history, held, managed, took, at, locked, asked, said } =
            ended;
        self.echoes &= acted(&report);
        if asked && report.source_error.is_none() {
            self.asked_at = self.ended_at;
        }
        if let Some(managed) = managed {
            self.managed.send_replace(managed);
        }
        let untold = told.is_none() || live.is_none();
        self.told = told;
        // What was wanted of it is not forgotten over an end before its first step, nor over a pass by hand.
        let unmoved = report.reason.as_deref() == Some("interrupted") && !acted(&report);
        if locked.is_some() || unmoved {
            self.wanted = Some(current.wanted.and(self.wanted.take()));
        }
        let waits = locked.is_some();
        if let Some(other) = locked {
            self.attempts += 1;
            self.due = Instant::now() + LOCKED;
            if self.attempts < ATTEMPTS {
                self.publish();
                return if self.stopping { self.end() } else { Flow::Go };
            }
            self.due = self.next();
            if other.is_some() {
                // One that was started by hand is no trouble of this host.
                self.at_work = other;
                self.publish();
                return if self.stopping { self.end() } else { Flow::Go };
            }
        } else {
            (self.attempts, self.at_work) = (0, None);
        }
        report.pass.clone_from(&current.pass);
        if untold {
            let started = self.started;
            pass::judge_age(&mut report, &self.live, self.settings.as_ref().ok(), started, self.host.now());
            let entries = journal::entries(&mut self.early, &report, self.host.now());
            self.log(&entries);
        } else if said {
            // It took in what was said here.
            self.early.settle();
        }
        if !given.is_empty() {
            self.put_down(Work::Given(given));
        }
        self.found_source(live, &report);
        self.stored = stored.unwrap_or_else(|| self.stored.clone());
        if let Some(history) = history {
            self.history = history.into();
        }
        if let Some(held) = held {
            self.held = held;
        }
        if selects_anew(&report) {
            // A name that comes late (DHCP) is found by the next pass.
            self.facts = self.host.facts().ok();
        }
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let blink = !said && !untold && !unmoved;
        let report = match self.report.as_deref().filter(|before| before.observed && !report.observed) {
            // A source that is silent for a moment makes nothing of what is known.
            Some(before) if blink => before.clone(),
            Some(before) => report.over(before),
            None => report,
        };
        if !unmoved {
            // Whoever waits for one that did not move waits for the next.
            self.last = Some(Last { pass: current.pass, at, took_ms, state: report.state });
        }
        self.nexts = nexts(&report);
        self.report = Some(Arc::new(report));
        if self.stopping {
            return self.end();
        }
        if !waits {
            self.go_on();
        }
        self.publish();
        Flow::Go
    }

    /// Takes in how the source was found, and leaves it alone for a while where it did not answer.
    fn found_source(&mut self, live: Option<Live>, report: &Report) {
        let Some(live) = live else { return };
        if live.failures > self.live.failures {
            let wait = self.schedule.leave_alone(live.failures - 1, chance());
            self.leave_alone = Some(Instant::now() + wait);
        } else if report.source_error.is_none() {
            self.leave_alone = None;
        }
        self.live = live;
    }
}

/// When what `report` tells of may be tried again.
fn nexts(report: &Report) -> Vec<i64> {
    let steps = report.steps.iter().filter_map(|line| line.next);
    let refreshes = report.refreshes.iter().filter_map(|line| line.next);
    steps.chain(refreshes).chain(report.activations.iter().filter_map(|line| line.next)).collect()
}

/// Whether a pass changed anything, or may have.
fn acted(report: &Report) -> bool {
    let tried = |outcome: &str| matches!(outcome, "done" | "failed");
    report.steps.iter().any(|line| tried(line.outcome))
        || report.refreshes.iter().any(|line| tried(line.outcome))
        || report.activations.iter().any(|line| tried(line.outcome))
}

/// Who this host is was not clear.
fn selects_anew(report: &Report) -> bool {
    matches!(report.reason.as_deref(), Some("no-such-host" | "host-changed" | "cannot-tell"))
}
