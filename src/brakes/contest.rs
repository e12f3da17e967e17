//! A resource that somebody else keeps changing back. Pure; time is handed in.

use serde::{Deserialize, Serialize};

use crate::model::Digest;

/// So many corrections within [`BURST`] make a resource contested.
const IN_BURST: usize = 5;
/// Ten minutes, in seconds. Also how long the first wait is.
const BURST: i64 = 600;
/// So many corrections within [`DAY`] make a resource contested.
const IN_DAY: usize = 12;
/// A day, in seconds. Also the longest wait.
const DAY: i64 = 86_400;

/// What is known of the corrections of one resource. Of their times only those are kept that still count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contest {
    /// The declaration that is being corrected to: another one ends the contest.
    wanted: Digest,
    /// When it was corrected within the last day, seconds since 1970, the oldest first. At most [`IN_DAY`].
    corrected: Vec<i64>,
    /// When correcting it failed within the last ten minutes: nobody fights, but it was touched. At most [`IN_BURST`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failed: Vec<i64>,
    /// It is contested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contested: Option<Contested>,
}

/// Between two tries at a contested resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Contested {
    /// When it was corrected last, seconds since 1970.
    tried: i64,
    /// How long it is left alone after that, in seconds.
    wait: i64,
    /// It was found different since.
    differed: bool,
}

impl Contested {
    fn next(&self) -> i64 {
        self.tried.saturating_add(self.wait)
    }
}

impl Contest {
    /// Nothing was corrected yet.
    pub(super) fn new(wanted: Digest) -> Self {
        Self { wanted, corrected: Vec::new(), failed: Vec::new(), contested: None }
    }

    /// When it is tried again, where it is left alone at `now`.
    pub(super) fn waits(&self, now: i64) -> Option<i64> {
        self.contested.as_ref().map(Contested::next).filter(|next| now < *next)
    }

    /// How many corrections still count, those that failed among them.
    pub(super) fn corrections(&self) -> usize {
        self.corrected.len() + self.failed.len()
    }

    /// Nothing of it counts any more.
    pub(super) fn is_over(&self) -> bool {
        self.corrected.is_empty() && self.failed.is_empty() && self.contested.is_none()
    }

    /// Forgets what no longer counts at `now`. A clock that went back has made times of what is to come: they
    /// count as of now, so that they age again from here.
    pub(super) fn age(&mut self, now: i64) {
        let times = [&mut self.corrected, &mut self.failed].into_iter().flatten();
        for time in times.chain(self.contested.as_mut().map(|contested| &mut contested.tried)) {
            *time = now.min(*time);
        }
        self.corrected.retain(|&time| now.saturating_sub(time) < DAY);
        self.failed.retain(|&time| now.saturating_sub(time) < BURST);
    }

    /// What is declared is `wanted` by now. What is new is no longer contested; but even so it is corrected
    /// no more than [`IN_BURST`] times in ten minutes.
    pub(super) fn declared(&mut self, wanted: Digest, now: i64) {
        if self.wanted == wanted {
            return;
        }
        self.wanted = wanted;
        self.corrected.retain(|&time| now.saturating_sub(time) < BURST);
        let burst = self.burst(now);
        let fifth = burst.len().checked_sub(IN_BURST).map(|at| burst[at]);
        self.contested = fifth.map(|tried| Contested { tried, wait: BURST, differed: false });
    }

    /// It is corrected at `now`.
    pub(super) fn correct(&mut self, now: i64) {
        self.corrected.push(now);
        let more = self.corrected.len().saturating_sub(IN_DAY);
        self.corrected.drain(..more);
        let full = self.is_full(now);
        let wait = match &self.contested {
            Some(contested) => contested.wait.saturating_mul(2).min(DAY),
            None if full => BURST,
            None => return,
        };
        self.contested = Some(Contested { tried: now, wait, differed: false });
    }

    /// Correcting it at `now` failed. That is no sign of anybody else, but no reason to touch it more often.
    pub(super) fn fail(&mut self, now: i64) {
        self.failed.push(now);
        let more = self.failed.len().saturating_sub(IN_BURST);
        self.failed.drain(..more);
        let full = self.burst(now).len() >= IN_BURST;
        match &mut self.contested {
            Some(contested) => contested.tried = now,
            None if full => self.contested = Some(Contested { tried: now, wait: BURST, differed: false }),
            None => {}
        }
    }

    /// A look found it different.
    pub(super) fn differs(&mut self) {
        if let Some(contested) = &mut self.contested {
            contested.differed = true;
        }
    }

    /// A look at `now` found it as wanted. If it was so for a whole wait, the contest is over.
    pub(super) fn holds(&mut self, now: i64) {
        let full = self.is_full(now);
        let Some(contested) = &mut self.contested else { return };
        if now < contested.next() {
            return;
        }
        if contested.differed || full {
            // Somebody else has put it back, or it is changed again and again, only slowly: it has to last.
            if contested.differed {
                (contested.tried, contested.differed) = (now, false);
            }
        } else {
            self.contested = None;
        }
    }

    /// The times that count for the last ten minutes, the oldest first.
    fn burst(&self, now: i64) -> Vec<i64> {
        let all = self.corrected.iter().chain(&self.failed).copied();
        let mut times: Vec<i64> = all.filter(|&time| now.saturating_sub(time) < BURST).collect();
        times.sort_unstable();
        times
    }

    fn is_full(&self, now: i64) -> bool {
        self.burst(now).len() >= IN_BURST || self.corrected.len() >= IN_DAY
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(what: u8) -> Digest {
        Digest::of(&[what])
    }

    /// A resource that somebody changes whenever `rival` says so, looked at by passes.
    struct Fight {
        contest: Contest,
        differs: bool,
        corrected: Vec<i64>,
    }

    impl Fight {
        fn new() -> Self {
            Self { contest: Contest::new(wanted(0)), differs: false, corrected: Vec::new() }
        }

        /// One pass. Says whether the resource differs and is left so.
        fn pass(&mut self, now: i64, changed: bool) -> bool {
            self.differs |= changed;
            self.contest.age(now);
            if !self.differs {
                self.contest.holds(now);
            } else if self.contest.waits(now).is_some() {
                self.contest.differs();
                return true;
            } else {
                self.contest.correct(now);
                self.corrected.push(now);
                self.differs = false;
            }
            false
        }

        fn most_within(&self, seconds: i64) -> usize {
            let within = |from: &i64| self.corrected.iter().filter(|&at| (*from..*from + seconds).contains(at)).count();
            self.corrected.iter().map(within).max().unwrap_or(0)
        }
    }

    #[test]
    fn who_writes_each_second_is_fought_five_times_and_then_on_a_backoff() {
        let mut fight = Fight::new();
        let mut left = 0;
        for minute in 0..(3 * 24 * 60) {
            left += usize::from(fight.pass(minute * 60, true));
        }
        let minutes: Vec<i64> = fight.corrected.iter().map(|at| at / 60).collect();
        assert_eq!(minutes, [0, 1, 2, 3, 4, 14, 34, 74, 154, 314, 634, 1274, 2554, 3994]);
        assert_eq!(left, 3 * 24 * 60 - minutes.len());
    }

    #[test]
    fn who_writes_slowly_is_left_alone_after_twelve_times_a_day() {
        let mut fight = Fight::new();
        for minute in 0..(4 * 24 * 60) {
            fight.pass(minute * 60, minute % 90 == 0);
        }
        let before = fight.corrected.iter().filter(|&&at| at < DAY).count();
        assert!((12..=16).contains(&before), "{before} on the first day");
        let last = fight.corrected.iter().filter(|&&at| at >= 3 * DAY).count();
        assert!(last <= 2, "{last} on the last day, at {:?}", fight.corrected);
    }

    #[test]
    fn what_stays_for_a_whole_wait_is_no_longer_contested() {
        let mut fight = Fight::new();
        for at in [0, 60, 120, 180, 240] {
            fight.pass(at, true);
        }
        assert_eq!(fight.contest.waits(240), Some(840));
        assert!(fight.pass(300, true), "it is left alone");
        fight.pass(840, false);
        assert_eq!(fight.corrected.last(), Some(&840), "the wait is over: it is tried");
        for at in [900, 1500, 2039] {
            fight.pass(at, false);
            assert_eq!(fight.contest.waits(at), Some(840 + 1200), "twice as long, and not over at {at}");
        }
        fight.pass(2040, false);
        assert_eq!(fight.contest.contested, None);
        assert!(!fight.pass(2100, true), "corrected at once again");
        fight.pass(2100 + DAY, false);
        assert!(fight.contest.is_over());
    }

    #[test]
    fn what_somebody_else_put_back_has_to_stay_for_a_whole_wait_too() {
        let mut fight = Fight::new();
        for at in [0, 1, 2, 3, 4, 5] {
            fight.pass(at, true);
        }
        assert!(fight.differs);
        fight.differs = false;
        fight.pass(700, false);
        assert!(fight.contest.waits(700).is_some(), "it was not seen to last");
        fight.pass(1300, false);
        assert_eq!(fight.contest.contested, None);
    }

    #[test]
    fn a_new_declaration_ends_the_contest_but_not_the_budget_of_ten_minutes() {
        let mut fight = Fight::new();
        for at in [0, 100, 200, 300, 400] {
            fight.pass(at, true);
        }
        assert_eq!(fight.contest.waits(450), Some(1000));
        fight.contest.declared(wanted(0), 450);
        assert_eq!(fight.contest.waits(450), Some(1000), "the same one ends nothing");
        fight.contest.declared(wanted(1), 450);
        assert_eq!(fight.contest.waits(450), Some(600), "the first of the five is ten minutes old then");
        fight.contest.declared(wanted(2), 650);
        assert_eq!(fight.contest.waits(650), None);
    }

    #[test]
    fn failures_count_for_ten_minutes_and_not_for_the_day() {
        let mut contest = Contest::new(wanted(0));
        for hour in 0..24 {
            contest.age(hour * 1800);
            contest.fail(hour * 1800);
            assert_eq!(contest.waits(hour * 1800), None, "after {hour}");
        }
        assert_eq!(contest.failed.len(), 1);
        for at in 0..4 {
            contest.fail(50_000 + at);
        }
        assert_eq!(contest.waits(50_003), None);
        contest.correct(50_004);
        assert!(contest.waits(50_004).is_some());
    }

    #[test]
    fn a_clock_that_goes_back_a_year_locks_for_no_longer_than_a_wait() {
        let year = 365 * DAY;
        let mut fight = Fight::new();
        for at in 0..6 {
            fight.pass(year + at, true);
        }
        assert!(fight.pass(1000, true), "nor does it unlock");
        assert!(fight.pass(1599, true));
        assert!(!fight.pass(1600, true), "ten minutes later it is tried");
    }

    proptest! {
        /// Whatever the pattern, the clock and the declarations: at most five times in ten minutes, counted in
        /// seconds that have passed; and never locked for longer than a day.
        #[test]
        fn never_more_than_five_times_in_ten_minutes(
            passes in prop::collection::vec((prop_oneof![0..30i64, 0..900i64, -100_000..100_000i64], any::<bool>(), 0..20u8), 1..300)
        ) {
            let mut fight = Fight::new();
            let (mut now, mut passed) = (1_000_000, 0);
            let mut touched = Vec::new();
            for (delta, changed, what) in passes {
                now += delta;
                passed += delta.max(0);
                fight.contest.age(now);
                if what < 4 {
                    fight.contest.declared(wanted(what), now);
                }
                if what == 19 && fight.contest.waits(now).is_none() {
                    fight.contest.fail(now);
                    touched.push(passed);
                } else {
                    let before = fight.corrected.len();
                    fight.pass(now, changed);
                    if fight.corrected.len() > before {
                        touched.push(passed);
                    }
                }
                prop_assert!(fight.contest.corrected.len() <= IN_DAY && fight.contest.failed.len() <= IN_BURST);
                prop_assert!(fight.contest.waits(now).is_none_or(|next| next <= now + DAY));
            }
            for from in &touched {
                let within = touched.iter().filter(|&at| (*from..*from + BURST).contains(at)).count();
                prop_assert!(within <= IN_BURST, "{within} in {touched:?}");
            }
        }

        /// Over any day: the budget of it, and the few tries of the backoff.
        #[test]
        fn a_day_has_few_corrections(changes in prop::collection::vec(any::<bool>(), 1000), step in 30..400i64) {
            let mut fight = Fight::new();
            for (at, changed) in changes.into_iter().enumerate() {
                fight.pass(i64::try_from(at).expect("small") * step, changed);
            }
            prop_assert!(fight.most_within(DAY) <= IN_DAY + 8, "{:?}", fight.corrected);
        }
    }
}
