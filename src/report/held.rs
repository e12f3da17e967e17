//! How that reads which is held back.

use super::{ActivationLine, Line, RefreshLine, Report, State, tell};
use crate::brakes::{Held, Suspension};
use crate::kinds::Activation;
use crate::model::{Id, one_line};
use crate::plan::{HeldRefresh, HeldStep, Plan};

impl Report {
    /// Tells what `plan` holds back; the lines come after those of what is done.
    pub(super) fn held(&mut self, plan: &Plan) {
        self.steps.extend(plan.held.iter().map(line));
        self.refreshes.extend(plan.owing.iter().map(refresh_line));
        self.activations.extend(plan.waiting.iter().map(|(what, why)| activation_line(*what, why)));
        let resources = plan.held.iter().map(|held| (held.step.id.as_str(), &held.why));
        let units = plan.owing.iter().map(|held| (held.refresh.id.as_str(), &held.why));
        let engines = plan.waiting.iter().map(|(what, why)| (what.unit().unwrap_or("the system"), why));
        let all: Vec<(&str, &Held)> = resources.chain(units).chain(engines).collect();
        self.counts.failed += all.iter().filter(|(_, why)| why.is_failure()).count();

        for (_, why) in &all {
            if let Held::Waiting { reason, message, .. } = why {
                self.raise(State::Degraded, reason, Some(message.clone()));
            }
        }
        for (id, why) in all {
            match why {
                Held::Contested { .. } => {
                    let message = format!("{id} does not stay as declared; it is left alone for a while");
                    self.raise(State::Degraded, "contested", Some(message));
                }
                Held::Suspended { until, by, reason } => {
                    let message = format!("{id} until {} {}", utc(*until), who(by, reason));
                    self.raise(State::Suspended, "suspended", Some(message));
                }
                Held::Spent { .. } => {
                    let message = format!("{id} runs on what was there before; it restarts once it may again");
                    self.raise(State::Degraded, why.word(), Some(message));
                }
                Held::Waiting { .. } => {}
            }
        }
    }

    /// Tells what is suspended, though it may be as wanted: what is changed there by hand stays.
    pub fn suspended<'s>(&mut self, suspensions: impl Iterator<Item = &'s Suspension>) {
        for Suspension { resource, until, by, reason, .. } in suspensions {
            let what = resource.as_ref().map_or("the whole host", Id::as_str);
            let message = format!("{what} until {} {}", utc(*until), who(by, reason));
            self.raise(State::Suspended, "suspended", Some(message));
        }
    }

    /// Whether something of the revision waits for the end of a suspension.
    pub(super) fn waits_for_suspended(&self) -> bool {
        let suspended = |reason: &Option<String>| reason.as_deref() == Some("suspended");
        self.steps.iter().any(|line| suspended(&line.reason))
            || self.refreshes.iter().any(|line| line.outcome == "owed")
            || self.activations.iter().any(|line| line.outcome == "owed")
    }
}

fn line(held: &HeldStep) -> Line {
    let step = tell::step_line(&held.step);
    let (message, attempts, next) = told(&held.why);
    let failed = held.why.is_failure();
    Line {
        action: if failed { "wait" } else { "report" },
        outcome: if failed { "failed" } else { "reported" },
        reason: Some(held.why.word().to_owned()),
        message: Some(message),
        attempts,
        next: Some(next),
        ..step
    }
}

fn refresh_line(held: &HeldRefresh) -> RefreshLine {
    let (message, attempts, next) = told(&held.why);
    RefreshLine {
        id: held.refresh.id.clone(),
        how: held.refresh.how,
        because: held.refresh.because.clone(),
        outcome: owed(&held.why),
        reason: Some(held.why.word().to_owned()),
        message: Some(worded(&held.why, message)),
        attempts,
        next: Some(next),
    }
}

fn activation_line(what: Activation, why: &Held) -> ActivationLine {
    let (message, attempts, next) = told(why);
    ActivationLine { what, outcome: owed(why), message: Some(worded(why, message)), attempts, next: Some(next) }
}

fn owed(why: &Held) -> &'static str {
    if why.is_failure() { "failed" } else { "owed" }
}

/// `message` with what it is about, where that is not how it failed.
fn worded(why: &Held, message: String) -> String {
    if why.is_failure() { message } else { format!("{}: {message}", why.word()) }
}

/// One line for people, how many times it was tried, and until when it is held.
fn told(why: &Held) -> (String, u32, i64) {
    match why {
        Held::Suspended { until, by, reason } => (who(by, reason), 0, *until),
        Held::Contested { corrections, next } => {
            let times = u32::try_from(*corrections).unwrap_or(u32::MAX);
            (format!("corrected {times} times within a day, and it did not stay so"), times, *next)
        }
        Held::Waiting { message, attempts, next, .. } => (message.clone(), *attempts, *next),
        Held::Spent { restarts, next } => {
            (format!("{restarts} times within ten minutes, whatever asked for it, are enough"), 0, *next)
        }
    }
}

/// Who asked for it, and why where they said so.
fn who(by: &str, reason: &str) -> String {
    let by = one_line(by, 64);
    if reason.is_empty() { format!("by {by}") } else { format!("by {by}: {}", one_line(reason, 200)) }
}

/// A moment, for what is read later and elsewhere: `2027-01-15 08:00 UTC`.
pub(super) fn utc(seconds: i64) -> String {
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days are counted from the first of March of the year 0, so that a leap day is the last of its year.
    let day = day.saturating_add(719_468);
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3600, second / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        let known = [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59 UTC"),
            (1_800_000_000, "2027-01-15 08:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
            (-1, "1969-12-31 23:59 UTC"),
        ];
        for (seconds, said) in known {
            assert_eq!(utc(seconds), said);
        }
    }

    #[test]
    fn who_and_why_are_one_line() {
        assert_eq!(who("alice", ""), "by alice");
        assert_eq!(who("alice", "INC-4711\nand more"), "by alice: INC-4711\\nand more");
    }
}
