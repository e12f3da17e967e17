//! What failed waits before it is tried again. Pure; time is handed in.

use serde::{Deserialize, Serialize};

use crate::model::{Digest, one_line};

/// The first wait, in seconds.
const FIRST: i64 = 60;
/// The longest wait, in seconds, before what is added so that a fleet spreads.
const LONGEST: i64 = 1800;

/// What is known of something that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// The declaration that could not be brought about: another one ends the waiting. None where it was let go,
    /// or is not declared itself.
    wanted: Option<Digest>,
    /// How many times it was tried.
    attempts: u32,
    /// When it was tried last, seconds since 1970.
    tried: i64,
    /// How long it waits after that, in seconds.
    wait: i64,
    /// How it failed last: the stable word.
    reason: String,
    /// How it failed last: one line for people.
    message: String,
}

/// How something failed.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// The stable word.
    pub reason: &'a str,
    /// One line for people.
    pub message: &'a str,
    /// The host, so that each of a fleet waits a little longer or shorter, and always as long.
    pub host: &'a str,
}

impl Retry {
    /// `what`, declared as `wanted`, failed at `now`, after having failed as `before` says.
    pub(super) fn after(
        before: Option<&Self>,
        what: &str,
        wanted: Option<Digest>,
        failure: Failure<'_>,
        now: i64,
    ) -> Self {
        let known = before.filter(|before| before.wanted == wanted).map_or(0, |before| before.attempts);
        let attempts = known.saturating_add(1);
        Self {
            wanted,
            attempts,
            tried: now,
            wait: wait(attempts, spread(failure.host, what)),
            reason: one_line(failure.reason, 40),
            message: one_line(failure.message, 600),
        }
    }

    /// What it was declared as.
    pub(super) fn wanted(&self) -> Option<Digest> {
        self.wanted
    }

    /// When it is tried again, where it waits at `now`.
    pub(super) fn waits(&self, now: i64) -> Option<i64> {
        let next = self.tried.saturating_add(self.wait);
        (now < next).then_some(next)
    }

    /// A clock that went back has made a time of what is to come: it counts as of now, and ages again from here.
    pub(super) fn age(&mut self, now: i64) {
        self.tried = self.tried.min(now);
    }

    /// How many times it was tried.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How it failed last: the stable word, and one line for people.
    pub(super) fn words(&self) -> (&str, &str) {
        (&self.reason, &self.message)
    }
}

/// 1, 2, 4 … 30 minutes, and up to a quarter of that more.
fn wait(attempts: u32, spread: u8) -> i64 {
    let doublings = attempts.saturating_sub(1).min(16);
    let base = (FIRST << doublings).min(LONGEST);
    base + base * i64::from(spread) / 1024
}

/// The same for ever for one thing of one host, and anything for another.
fn spread(host: &str, what: &str) -> u8 {
    Digest::of(format!("{host}\0{what}").as_bytes()).as_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(before: Option<&Retry>, host: &str, now: i64) -> Retry {
        let failure = Failure { reason: "unit-failed", message: "it\nended", host };
        Retry::after(before, "unit:a.service", Some(Digest::of(b"a")), failure, now)
    }

    #[test]
    fn waits_double_up_to_half_an_hour() {
        let waits: Vec<i64> = [1, 2, 3, 4, 5, 6, 7, u32::MAX].map(|attempts| wait(attempts, 0)).to_vec();
        assert_eq!(waits, [60, 120, 240, 480, 960, 1800, 1800, 1800]);
        assert_eq!(wait(1, u8::MAX), 74);
        assert_eq!(wait(9, u8::MAX), 2248);
    }

    #[test]
    fn hosts_of_a_fleet_spread_and_each_is_always_the_same() {
        let waits: std::collections::BTreeSet<i64> =
            (0..50).map(|n| failed(None, &format!("web-{n}"), 0).wait).collect();
        assert!(waits.len() > 8, "{waits:?}");
        assert_eq!(failed(None, "web-01", 0), failed(None, "web-01", 0));
    }

    #[test]
    fn failing_again_waits_longer_and_another_declaration_starts_afresh() {
        let first = failed(None, "web-01", 1000);
        let next = first.waits(1000).expect("it waits");
        assert!((1060..1075).contains(&next), "{next}");
        assert_eq!((first.waits(next - 1), first.waits(next)), (Some(next), None));
        assert_eq!(first.words(), ("unit-failed", "it\\nended"));
        let second = failed(Some(&first), "web-01", next);
        assert_eq!(second.attempts(), 2);
        assert!(second.waits(next + 119).is_some());
        let failure = Failure { reason: "r", message: "m", host: "web-01" };
        let other = Retry::after(Some(&second), "unit:a.service", Some(Digest::of(b"b")), failure, next);
        assert_eq!(other.attempts(), 1);
    }

    #[test]
    fn a_clock_that_goes_back_locks_for_no_longer_than_the_wait() {
        let mut retry = failed(None, "web-01", 1_000_000);
        retry.age(10);
        assert!(retry.waits(10).is_some_and(|next| next <= 10 + 75));
        retry.age(20);
        assert!(retry.waits(10 + 75).is_none());
    }
}
