use serde::{Deserialize, Serialize};

use super::{Ledger, Origin, Why};

/// A clock that is years ahead for one pass must not delete every original: what is over by it is deleted only once a
/// later pass finds the clock still there, an hour on. All in seconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// What is over by this time is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    believed: Option<i64>,
    /// When something was first found to be over that is not by what is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    doubted: Option<i64>,
}

/// How long the clock has to go on before it is believed; nothing where copies are kept for less than a day anyway.
fn proof(originals: i64) -> i64 {
    if originals < 86_400 { 0 } else { 3_600 }
}

impl Clock {
    pub(super) fn is_new(&self) -> bool {
        *self == Self::default()
    }
}

impl Ledger {
    /// The time by which copies are over, where it is `now` by the clock and originals are kept for `originals` seconds.
    pub fn believed(&self, now: i64, originals: i64) -> i64 {
        if proof(originals) == 0 { now } else { self.clock.believed.unwrap_or(i64::MIN).min(now) }
    }

    /// Notes that it is `now`, where that makes a difference to what is kept.
    pub(super) fn pass_time(&mut self, now: i64, originals: i64, edits: i64) {
        let Clock { believed, doubted } = &mut self.clock;
        match *doubted {
            Some(since) if now < since => *doubted = None,
            Some(since) if now.saturating_sub(since) >= proof(originals) => {
                (*believed, *doubted) = (Some(since.max(believed.unwrap_or(since))), None);
            }
            _ => {}
        }
        let believed = believed.map_or(i64::MIN, |believed| believed.min(now));
        let over = |at: i64, limit: i64| now.saturating_sub(at) > limit && believed.saturating_sub(at) <= limit;
        let kept = self.kept.iter().any(|copy| match copy.why {
            Why::Original => over(copy.at, originals),
            Why::Edit => over(copy.at, edits),
        });
        let found = |origin: &Origin| matches!(origin, Origin::Found { before, at, .. } if before.expires() && over(*at, originals));
        if self.clock.doubted.is_none() && (kept || self.entries.values().any(|entry| found(&entry.origin))) {
            self.clock.doubted = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{Observed, file};
    use crate::ledger::KeptLimits;
    use crate::model::Id;

    const DAY: i64 = 86_400;
    const LIMITS: KeptLimits = KeptLimits { originals: 30 * DAY, edits: 7 * DAY };

    fn pass(ledger: &mut Ledger, now: i64) -> usize {
        ledger.expire(now, LIMITS, &std::collections::BTreeSet::new());
        ledger.kept.len()
    }

    fn with_an_original(at: i64) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.keep(&Id::new("file", "/x"), Why::Original, at, Observed::File(file::Observed::Absent).before(), 1);
        ledger
    }

    #[test]
    fn a_clock_that_is_ahead_for_some_passes_deletes_nothing() {
        let mut ledger = with_an_original(0);
        let years = 3_650 * DAY;
        for now in [DAY, years, years + 60, years + 3_599, 2 * DAY, years, 3 * DAY, 3 * DAY + 7_200] {
            assert_eq!(pass(&mut ledger, now), 1, "at {now}");
        }
        assert_eq!(ledger.clock.doubted, None, "nothing is doubted of a clock that is right");
    }

    #[test]
    fn what_is_over_goes_an_hour_later() {
        let mut ledger = with_an_original(0);
        let over = 30 * DAY + 1;
        for now in [over - 1, over, over + 3_599] {
            assert_eq!(pass(&mut ledger, now), 1, "at {now}");
        }
        assert_eq!(pass(&mut ledger, over + 3_600), 0);
        assert_eq!(ledger.believed(over + 9_999, LIMITS.originals), over);
    }
}
