//! How often a unit may restart for trueup's sake. Pure; time is handed in.

use serde::{Deserialize, Serialize};

/// Over this long it is counted how often: ten minutes, in seconds.
const WINDOW: i64 = 600;
/// No more times than these are kept: more are never allowed.
const MOST: usize = 1000;

/// When a unit was restarted, reloaded or run by passes within the last ten minutes, whatever asked for it: seconds
/// since 1970, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Restarts(Vec<i64>);

impl Restarts {
    /// The unit restarts at `now`.
    pub(super) fn spend(&mut self, now: i64) {
        self.0.push(now);
        let more = self.0.len().saturating_sub(MOST);
        self.0.drain(..more);
    }

    /// Forgets what no longer counts at `now`. A clock that went back has made times of what is to come: they count as
    /// of now, so that they age again from here.
    pub(super) fn age(&mut self, now: i64) {
        for time in &mut self.0 {
            *time = now.min(*time);
        }
        self.0.retain(|&time| now.saturating_sub(time) < WINDOW);
    }

    /// Nothing counts any more.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// How many times count.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// When it may restart again, where it has done so `most` times at `now`.
    pub(super) fn waits(&self, most: usize, now: i64) -> Option<i64> {
        let oldest = self.0.len().checked_sub(most.max(1)).map(|at| self.0[at])?;
        let next = oldest.saturating_add(WINDOW);
        (now < next).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_budget_comes_back_as_the_oldest_is_forgotten() {
        let mut restarts = Restarts::default();
        for at in [0, 100, 200] {
            assert_eq!(restarts.waits(3, at), None);
            restarts.spend(at);
        }
        assert_eq!((restarts.waits(3, 200), restarts.waits(3, 599)), (Some(600), Some(600)));
        assert_eq!((restarts.waits(4, 200), restarts.waits(2, 599)), (None, Some(700)));
        restarts.age(600);
        assert_eq!((restarts.count(), restarts.waits(3, 600)), (2, None));
        restarts.age(800);
        assert!(restarts.is_over());
    }

    #[test]
    fn a_clock_that_went_back_waits_no_longer_than_ten_minutes() {
        let mut restarts = Restarts::default();
        restarts.spend(1_000_000);
        restarts.age(50);
        assert_eq!(restarts.waits(1, 50), Some(650));
        restarts.age(650);
        assert!(restarts.is_over());
    }

    proptest! {
        /// Whatever asks, and whenever: no ten minutes have more than the budget.
        #[test]
        fn no_ten_minutes_have_more(gaps in proptest::collection::vec(0..200_i64, 0..200), most in 1..12_usize) {
            let (mut restarts, mut now, mut done) = (Restarts::default(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                restarts.age(now);
                if restarts.waits(most, now).is_none() {
                    restarts.spend(now);
                    done.push(now);
                }
            }
            for from in &done {
                prop_assert!(done.iter().filter(|at| (*from..from + WINDOW).contains(at)).count() <= most);
            }
        }
    }
}
