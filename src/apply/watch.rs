//! Whether what changed comes up and stays so: a state machine over a clock that is handed in. Pure.

use std::time::Duration;

/// How long something may take to come up.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How often in a row something has to be found down, however short the time is that it has to stay well.
const LOOKS: u32 = 3;
/// A unit that is run anew more often than this while it is watched does not stay up.
const RUNS: u32 = 2;

/// What one look at something found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It is well; of a unit, in this run.
    Good(Option<String>),
    /// It looks well, in this run, and has failed and was started anew a moment ago.
    Anew(Option<String>),
    /// It is about to be.
    Coming(String),
    /// It is not, and may yet be.
    Down(String),
    /// It is not, and will not be by itself.
    Failed(String),
}

impl Look {
    /// It is well.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good(_))
    }
}

/// What kind of thing is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A unit.
    Unit,
    /// A check: it waits for units to come up.
    Check,
}

/// How something ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It is well, and stayed so.
    Settled,
    /// It is not.
    Bad(String),
}

/// One thing that is watched.
#[derive(Debug, Clone)]
struct Item {
    name: String,
    kind: Kind,
    /// Once it is bad there is nothing more to wait for.
    decides: bool,
    good_since: Option<Duration>,
    down: Option<(Duration, u32)>,
    run: Option<String>,
    runs: u32,
    last: Option<Look>,
    /// Since when each look found it less than well.
    ill_since: Option<Duration>,
    end: Option<End>,
}

/// Everything that is watched after a change.
#[derive(Debug, Clone)]
pub struct Watch {
    settle: Duration,
    items: Vec<Item>,
}

impl Watch {
    /// Watches `items` (name, kind, and whether its being bad ends the waiting) from now on, which is the time 0.
    pub fn new(settle: Duration, items: impl IntoIterator<Item = (String, Kind, bool)>) -> Self {
        let item = |(name, kind, decides)| Item {
            name,
            kind,
            decides,
            good_since: None,
            down: None,
            run: None,
            runs: 0,
            last: None,
            ill_since: None,
            end: None,
        };
        Self { settle, items: items.into_iter().map(item).collect() }
    }

    /// Takes in that `look` was found of the item `at` at the time `now`.
    pub fn take(&mut self, at: usize, look: Look, now: Duration) {
        let (settle, too_late) = (self.settle, now >= PATIENCE + self.settle);
        let rising = self.items.iter().any(|item| item.kind == Kind::Unit && item.end.is_none() && !item.is_good());
        let item = &mut self.items[at];
        item.ill_since = if look.is_good() { None } else { item.ill_since.or(Some(now)) };
        item.last = Some(look.clone());
        match look {
            Look::Good(run) | Look::Anew(run) => {
                item.down = None;
                if item.run.is_some() && run != item.run {
                    item.runs += 1;
                    item.good_since = None;
                }
                item.run = run;
                let since = *item.good_since.get_or_insert(now);
                item.end = if item.runs > RUNS {
                    Some(End::Bad(format!("it was started anew {} times within {}", item.runs, seconds(now))))
                } else if now.saturating_sub(since) >= settle {
                    Some(End::Settled)
                } else if too_late {
                    Some(End::Bad(format!("it did not stay well for {}", seconds(settle))))
                } else {
                    None
                };
            }
            Look::Coming(word) => {
                (item.good_since, item.down) = (None, None);
                item.end = (now >= PATIENCE).then(|| End::Bad(format!("{word} for {}", seconds(PATIENCE))));
            }
            Look::Down(why) => {
                item.good_since = None;
                // What it asks of may still come up.
                let waits = item.kind == Kind::Check && rising;
                let (since, looks) = item.down.filter(|_| !waits).unwrap_or((now, 0));
                item.down = Some((since, looks + 1));
                let long = now.saturating_sub(since) >= settle && looks + 1 >= LOOKS;
                item.end = (long || too_late).then_some(End::Bad(why));
            }
            Look::Failed(why) => {
                item.good_since = None;
                item.end = Some(End::Bad(why));
            }
        }
    }

    /// Whether there is nothing more to wait for.
    pub fn is_over(&self) -> bool {
        let bad = |item: &&Item| matches!(item.end, Some(End::Bad(_)));
        self.items.iter().filter(|item| item.decides).any(|item| bad(&item))
            || self.items.iter().all(|item| item.end.is_some())
    }

    /// Whether the item `at` is looked at again by the next look: what is well is asked less often.
    pub fn is_good(&self, at: usize) -> bool {
        self.items[at].is_good()
    }

    /// What is bad, by index, and why.
    pub fn bad(&self) -> Vec<(usize, String)> {
        let bad = |(at, item): (usize, &Item)| match &item.end {
            Some(End::Bad(why)) => Some((at, why.clone())),
            _ => None,
        };
        self.items.iter().enumerate().filter_map(bad).collect()
    }

    /// What is waited for, for people.
    pub fn waiting(&self, now: Duration) -> String {
        let word = |item: &Item| {
            let word = match item.last.as_ref()? {
                Look::Good(_) => return None,
                Look::Anew(_) => "failed and was started anew",
                Look::Coming(word) | Look::Down(word) | Look::Failed(word) => word,
            };
            let long = now.saturating_sub(item.ill_since.unwrap_or(now));
            let long = if long.is_zero() { String::new() } else { format!(" for {}", seconds(long)) };
            Some(format!("{} ({word}{long})", item.name))
        };
        let open: Vec<String> = self.items.iter().filter(|item| item.end.is_none()).filter_map(word).collect();
        if !open.is_empty() {
            return format!("settling: waiting for {}", open.join(", "));
        }
        let since = self.items.iter().filter(|item| item.end.is_none()).filter_map(|item| item.good_since).max();
        let left = since.map_or(Duration::ZERO, |since| (since + self.settle).saturating_sub(now));
        format!("settling: everything is well, for {} more", seconds(left))
    }
}

impl Item {
    fn is_good(&self) -> bool {
        self.last.as_ref().is_some_and(Look::is_good)
    }
}

/// A time in words.
pub(super) fn seconds(long: Duration) -> String {
    match long.as_secs() {
        long if long >= 120 && long.is_multiple_of(60) => format!("{} min", long / 60),
        long => format!("{long} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn good(run: &str) -> Look {
        Look::Good(Some(run.to_owned()))
    }

    fn watch(items: &[(&str, Kind, bool)]) -> Watch {
        Watch::new(SETTLE, items.iter().map(|(name, kind, decides)| ((*name).to_owned(), *kind, *decides)))
    }

    fn unit() -> Watch {
        watch(&[("a.service", Kind::Unit, true)])
    }

    #[test]
    fn what_is_well_for_long_enough_has_settled_and_no_earlier() {
        let mut watch = unit();
        watch.take(0, Look::Coming("activating".to_owned()), at(0));
        assert_eq!(watch.waiting(at(7)), "settling: waiting for a.service (activating for 7 s)");
        watch.take(0, good("1"), at(10));
        watch.take(0, good("1"), at(39));
        assert!(!watch.is_over());
        assert_eq!(watch.waiting(at(39)), "settling: everything is well, for 1 s more");
        watch.take(0, good("1"), at(40));
        assert!(watch.is_over() && watch.bad().is_empty());
    }

    #[test]
    fn what_failed_is_not_waited_for() {
        let mut watch = unit();
        watch.take(0, good("1"), at(0));
        watch.take(0, Look::Failed("failed".to_owned()), at(2));
        assert!(watch.is_over());
        assert_eq!(watch.bad(), [(0, "failed".to_owned())]);
    }

    #[test]
    fn what_never_comes_up_is_waited_for_five_minutes() {
        let mut watch = unit();
        for now in 0..300 {
            watch.take(0, Look::Coming("activating".to_owned()), at(now));
            assert!(!watch.is_over(), "{now}");
        }
        watch.take(0, Look::Coming("activating".to_owned()), at(300));
        assert_eq!(watch.bad(), [(0, "activating for 5 min".to_owned())]);
    }

    #[test]
    fn what_is_started_anew_again_and_again_does_not_stay_up() {
        let mut watch = unit();
        for (run, now) in [("1", 0), ("2", 6), ("3", 12)] {
            watch.take(0, good(run), at(now));
            watch.take(0, Look::Coming("activating".to_owned()), at(now + 1));
            assert!(!watch.is_over());
        }
        watch.take(0, good("4"), at(18));
        assert_eq!(watch.bad(), [(0, "it was started anew 3 times within 18 s".to_owned())]);
        let mut once = unit();
        once.take(0, good("1"), at(0));
        once.take(0, good("2"), at(20));
        once.take(0, good("2"), at(49));
        assert!(!once.is_over(), "it is well since 20 s");
        once.take(0, good("2"), at(50));
        assert!(once.is_over() && once.bad().is_empty());
    }

    #[test]
    fn what_was_started_anew_a_moment_ago_is_not_well_by_one_look_and_settles_once_it_lasts() {
        let anew = |run: &str| Look::Anew(Some(run.to_owned()));
        assert!(!anew("2").is_good());
        let mut watch = unit();
        watch.take(0, good("1"), at(0));
        watch.take(0, anew("2"), at(5));
        assert_eq!(watch.waiting(at(5)), "settling: waiting for a.service (failed and was started anew)");
        assert_eq!(watch.waiting(at(9)), "settling: waiting for a.service (failed and was started anew for 4 s)");
        watch.take(0, anew("2"), at(34));
        assert!(!watch.is_over());
        watch.take(0, anew("2"), at(35));
        assert!(watch.is_over() && watch.bad().is_empty());
        let mut flaps = unit();
        for (run, now) in [("1", 0), ("2", 3), ("3", 6), ("4", 9)] {
            flaps.take(0, anew(run), at(now));
        }
        assert_eq!(flaps.bad(), [(0, "it was started anew 3 times within 9 s".to_owned())]);
    }

    #[test]
    fn a_check_waits_for_units_that_come_up_and_then_as_long_as_it_has_to_hold() {
        let mut watch = watch(&[("a.service", Kind::Unit, true), ("check web", Kind::Check, true)]);
        let refused = || Look::Down("refused".to_owned());
        for now in 0..100 {
            watch.take(0, Look::Coming("activating".to_owned()), at(now));
            watch.take(1, refused(), at(now));
        }
        assert!(!watch.is_over());
        watch.take(0, good("1"), at(100));
        watch.take(1, refused(), at(100));
        watch.take(1, refused(), at(128));
        assert!(!watch.is_over());
        watch.take(1, refused(), at(130));
        assert_eq!(watch.bad(), [(1, "refused".to_owned())]);
    }

    #[test]
    fn one_look_that_fails_is_a_retry_and_no_verdict() {
        let mut watch = Watch::new(at(1), [("check web".to_owned(), Kind::Check, true)]);
        watch.take(0, Look::Down("refused".to_owned()), at(0));
        watch.take(0, Look::Down("refused".to_owned()), at(60));
        assert!(!watch.is_over(), "a try may take its time");
        watch.take(0, Look::Good(None), at(61));
        watch.take(0, Look::Good(None), at(62));
        assert!(watch.is_over() && watch.bad().is_empty());
    }

    #[test]
    fn what_decides_nothing_is_told_and_the_rest_is_waited_for() {
        let mut watch = watch(&[("a.service", Kind::Unit, false), ("b.service", Kind::Unit, true)]);
        watch.take(0, Look::Failed("failed".to_owned()), at(0));
        watch.take(1, good("1"), at(0));
        assert!(!watch.is_over());
        watch.take(1, good("1"), at(30));
        assert!(watch.is_over());
        assert_eq!(watch.bad(), [(0, "failed".to_owned())]);
    }

    #[test]
    fn what_comes_and_goes_is_not_watched_for_ever() {
        let mut watch = watch(&[("check web", Kind::Check, true)]);
        let mut now = 0;
        while !watch.is_over() {
            watch.take(0, if now % 20 == 0 { Look::Down("refused".to_owned()) } else { Look::Good(None) }, at(now));
            now += 5;
            assert!(now <= 400);
        }
        assert_eq!(watch.bad().len(), 1);
    }
}
