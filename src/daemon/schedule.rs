//! When passes are due. Pure: time and chance are handed in.

use std::time::Duration;

use crate::model::Digest;

/// After how many intervals at most a source that does not answer is asked again.
const LONGEST: u32 = 8;

/// The rhythm of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    interval: Duration,
    /// Where in the interval this host's passes begin, always the same: a fleet spreads out by itself.
    phase: Duration,
}

impl Schedule {
    /// Passes every `interval`, at the place in it that `host` (any text that is this host's own) has.
    pub fn new(interval: Duration, host: &str) -> Self {
        // A setting of zero is refused where settings are read.
        let interval = interval.max(Duration::from_millis(1));
        let digest = Digest::of(host.as_bytes()).to_string();
        let place = u64::from_str_radix(&digest[..15], 16).unwrap_or(0);
        let nanoseconds = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        Self { interval, phase: Duration::from_nanos(place % nanoseconds) }
    }

    /// How long from `now` (since 1970) until the next pass by the clock: more than nothing, at most an interval.
    pub fn until_next(&self, now: Duration) -> Duration {
        let interval = self.interval.as_nanos();
        let gone = (now.as_nanos() + interval - self.phase.as_nanos()) % interval;
        Duration::from_nanos(u64::try_from(interval - gone).unwrap_or(u64::MAX))
    }

    /// How long to leave a source alone that did not answer `failures` times in a row: full jitter, `chance` is
    /// even between 0 and 1. Passes go on meanwhile, from what is stored.
    pub fn leave_alone(&self, failures: u32, chance: f64) -> Duration {
        let most = self.interval * 2u32.saturating_pow(failures.min(16)).min(LONGEST);
        most.mul_f64(chance.clamp(0.0, 1.0))
    }

    /// How often passes are due.
    pub fn interval(&self) -> Duration {
        self.interval
    }
}

/// How soon a hint that something changed leads to a pass: at once, unless hints keep coming. Times are those
/// of any clock that does not go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// When the last pass that a hint led to was due.
    last: Option<Duration>,
    /// How long after it the next may be.
    gap: Duration,
}

/// A burst of changes is one.
const BURST: Duration = Duration::from_millis(50);
/// The shortest time between two passes that hints lead to.
const GAP: Duration = Duration::from_secs(2);

impl Default for Pace {
    fn default() -> Self {
        Self { last: None, gap: GAP }
    }
}

impl Pace {
    /// A pass is due at `due` that no hint led to and that hints have to keep apart from all the same.
    pub fn pass(&mut self, due: Duration) {
        self.last = Some(due);
    }

    /// When the pass is due that a hint at `now` leads to; somebody who changes things all the time is looked
    /// after less and less often, down to every `interval`.
    pub fn hint(&mut self, now: Duration, interval: Duration) -> Duration {
        let due = match self.last {
            Some(last) if now < last + self.gap => {
                let due = last + self.gap;
                self.gap = (self.gap * 2).min(interval).max(GAP);
                due
            }
            Some(last) if now < last + 2 * self.gap => now + BURST,
            _ => {
                self.gap = GAP;
                now + BURST
            }
        };
        self.last = Some(due);
        due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_host_keeps_its_place_in_the_interval_and_a_fleet_spreads() {
        let begun = Duration::from_secs(1_800_000_000);
        let place = |host: &str| (begun + Schedule::new(MINUTE, host).until_next(begun)).as_millis() % 60_000;
        assert_eq!(place("web-01"), place("web-01"));
        let mut seconds = [0; 60];
        for host in 0..1000 {
            seconds[usize::try_from(place(&format!("host-{host}")) / 1000).expect("small")] += 1;
        }
        // The mean is 17 in a second; were they not spread, one second had them all.
        assert!(seconds.iter().all(|&count| count < 40), "{seconds:?}");
    }

    #[test]
    fn a_source_that_does_not_answer_is_asked_less_often_but_never_given_up() {
        let schedule = Schedule::new(MINUTE, "web-01");
        let longest: Vec<u64> = (0..6).map(|n| schedule.leave_alone(n, 1.0).as_secs() / 60).collect();
        assert_eq!(longest, [1, 2, 4, 8, 8, 8]);
        assert_eq!(schedule.leave_alone(u32::MAX, 1.0), 8 * MINUTE);
        assert_eq!(schedule.leave_alone(3, 0.0), Duration::ZERO);
        assert_eq!(schedule.leave_alone(3, 0.5), 4 * MINUTE);
    }

    #[test]
    fn a_single_change_is_looked_at_at_once_and_a_stream_of_them_ever_less() {
        let mut pace = Pace::default();
        let at = Duration::from_secs;
        assert_eq!(pace.hint(at(100), MINUTE), at(100) + BURST);
        // A change each second, as the loop sees them: one hint waits at a time.
        let (mut now, mut passes) = (at(101), Vec::new());
        while now < at(700) {
            let due = pace.hint(now, MINUTE);
            passes.push(due.as_secs());
            now = at(due.as_secs() + 1);
        }
        let gaps: Vec<u64> = passes.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(&gaps[..5], [4, 8, 16, 32, 60], "{passes:?}");
        assert!(gaps[5..].iter().all(|&gap| gap == 60), "{gaps:?}");
        let later = at(5000);
        assert_eq!(pace.hint(later, MINUTE), later + BURST, "it is quiet again");
        assert_eq!(pace.gap, GAP);
    }

    proptest! {
        #[test]
        fn the_next_pass_is_within_an_interval_and_each_is_one_later(
            interval in 1u64..100_000_000, now in 0u64..4_000_000_000_000, host in "[a-z]{1,8}",
        ) {
            let schedule = Schedule::new(Duration::from_millis(interval), &host);
            let now = Duration::from_millis(now);
            let wait = schedule.until_next(now);
            prop_assert!(!wait.is_zero() && wait <= schedule.interval());
            prop_assert_eq!(schedule.until_next(now + wait), schedule.interval());
        }
    }
}
