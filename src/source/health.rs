//! How each URL of a source did, so that one that fails is asked after the others for a while. A state machine: whoever
//! asks it says what time it is. It is kept in memory, by the agent across its passes: that it is lost costs one wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::SourceError;
use crate::model::one_line;

/// For how long a URL that failed is asked last, in seconds: at first,
const SHORTEST: i64 = 60;
/// and at most. Each failure doubles it.
const LONGEST: i64 = 30 * 60;

/// What is known of the URLs of a source. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// The URL that was taken last.
    answered: Option<String>,
    failing: BTreeMap<String, Failing>,
}

/// A URL that did not give a revision that could be acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Since when.
    pub since: i64,
    /// The stable word.
    pub reason: &'static str,
    /// One line for people.
    pub message: String,
    times: u32,
    /// Until when it is asked last.
    until: i64,
}

impl Failing {
    /// A clock that was put back keeps nobody waiting for longer than a right one.
    fn rests(&self, now: i64) -> bool {
        now < self.until && self.until.saturating_sub(now) <= LONGEST
    }
}

impl Health {
    /// Nothing known.
    pub const fn new() -> Self {
        Self { answered: None, failing: BTreeMap::new() }
    }

    /// The URL that was taken last.
    pub fn answered(&self) -> Option<&str> {
        self.answered.as_deref()
    }

    /// How `url` fails, where it does.
    pub fn failing(&self, url: &str) -> Option<&Failing> {
        self.failing.get(url)
    }

    /// `urls`, by their place among them, in the order in which they are to be asked: as preferred, those last that failed
    /// just now.
    fn order(&self, urls: &[String], now: i64) -> Vec<usize> {
        let rests = |at: &usize| self.failing.get(&urls[*at]).is_some_and(|failing| failing.rests(now));
        let (last, first): (Vec<usize>, Vec<usize>) = (0..urls.len()).partition(rests);
        [first, last].concat()
    }

    /// `url` gave a revision that can be acted on.
    fn succeeded(&mut self, url: &str) {
        self.failing.remove(url);
        self.answered = Some(url.to_owned());
    }

    /// It did not, and this is why.
    fn failed(&mut self, url: &str, now: i64, why: &SourceError) {
        let failing = self.failing.entry(url.to_owned()).or_insert(Failing {
            since: now,
            reason: "",
            message: String::new(),
            times: 0,
            until: 0,
        });
        let rest = SHORTEST.checked_shl(failing.times).map_or(LONGEST, |rest| rest.min(LONGEST));
        failing.times = (failing.times + 1).min(16);
        (failing.until, failing.reason) = (now.saturating_add(rest), why.reason());
        failing.message = one_line(&why.to_string(), 300);
        if self.answered.as_deref() == Some(url) {
            self.answered = None;
        }
    }

    /// Forgets whatever is not among `urls`.
    fn keep_to(&mut self, urls: &[String]) {
        self.failing.retain(|url, _| urls.contains(url));
        self.answered.take_if(|url| !urls.contains(url));
    }
}

/// The same, for all who ask the source: passes, and looks beside them.
#[derive(Debug, Clone, Default)]
pub struct SharedHealth(Arc<Mutex<Health>>);

impl SharedHealth {
    /// As it is now.
    pub fn now(&self) -> Health {
        self.with(|health| health.clone())
    }

    pub(super) fn order(&self, urls: &[String], now: i64) -> Vec<usize> {
        self.with(|health| {
            health.keep_to(urls);
            health.order(urls, now)
        })
    }

    /// `url` gave a revision that can be acted on.
    pub fn succeeded(&self, url: &str) {
        self.with(|health| health.succeeded(url));
    }

    /// It did not, and this is why.
    pub fn failed(&self, url: &str, now: i64, why: &SourceError) {
        self.with(|health| health.failed(url, now, why));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Health) -> T) -> T {
        // Whole after each act, so also after one that panicked.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).into()
    }

    fn why() -> SourceError {
        SourceError::of_worker("unreachable", "no route\nto host")
    }

    #[test]
    fn a_url_that_failed_is_asked_last_until_its_time_is_over() {
        let mut health = Health::new();
        assert_eq!(health.order(&urls(), 1000), [0, 1, 2]);
        health.failed("a", 1000, &why());
        assert_eq!(health.order(&urls(), 1000), [1, 2, 0]);
        assert_eq!(health.order(&urls(), 1000 + SHORTEST - 1), [1, 2, 0]);
        assert_eq!(health.order(&urls(), 1000 + SHORTEST), [0, 1, 2]);
        let failing = health.failing("a").expect("still known");
        assert_eq!(
            (failing.since, failing.reason, failing.message.as_str()),
            (1000, "unreachable", "no route\\nto host")
        );
    }

    #[test]
    fn each_failure_doubles_the_time_up_to_the_longest_and_a_success_clears_it() {
        let mut health = Health::new();
        let mut now = 0;
        let mut rests = Vec::new();
        for _ in 0..40 {
            health.failed("a", now, &why());
            let until = health.failing("a").expect("it failed").until;
            assert!(health.order(&urls(), until - 1) == [1, 2, 0] && health.order(&urls(), until) == [0, 1, 2]);
            rests.push(until - now);
            now = until;
        }
        assert_eq!(rests[..6], [60, 120, 240, 480, 960, 1800]);
        assert!(rests[5..].iter().all(|rest| *rest == LONGEST));
        assert_eq!(health.failing("a").expect("it fails").since, 0);
        health.succeeded("a");
        assert_eq!((health.failing("a"), health.answered()), (None, Some("a")));
        health.failed("a", now, &why());
        assert_eq!(health.failing("a").expect("it failed").until, now + SHORTEST, "it begins anew");
        assert_eq!(health.answered(), None);
    }

    #[test]
    fn where_all_failed_they_are_asked_as_preferred() {
        let mut health = Health::new();
        for url in ["c", "a", "b"] {
            health.failed(url, 1000, &why());
        }
        assert_eq!(health.order(&urls(), 1010), [0, 1, 2]);
        health.succeeded("b");
        assert_eq!(health.order(&urls(), 1010), [1, 0, 2]);
    }

    #[test]
    fn a_clock_that_is_put_back_makes_nobody_wait_longer() {
        let mut health = Health::new();
        health.failed("a", 1_000_000, &why());
        assert_eq!(health.order(&urls(), 1_000_000 - LONGEST), [0, 1, 2]);
        health.failed("b", i64::MAX - 1, &why());
        assert_eq!(health.order(&urls(), 0), [0, 1, 2]);
        assert_eq!(health.order(&urls(), i64::MIN), [0, 1, 2]);
    }

    #[test]
    fn urls_of_former_settings_are_forgotten() {
        let shared = SharedHealth::default();
        for n in 0..1000 {
            let urls = [format!("url {n}")];
            shared.order(&urls, 0);
            shared.failed(&urls[0], 0, &why());
        }
        assert_eq!(shared.now().failing.len(), 1);
        shared.succeeded("gone");
        shared.order(&urls(), 0);
        assert_eq!(shared.now(), Health::new());
    }
}
