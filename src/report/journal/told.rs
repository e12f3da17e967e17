use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::Digest;
use crate::report::State;

/// A minute's noise: what keeps changing is told this many times, and after that once in [`HOUR`].
const OFTEN: u32 = 3;
/// In seconds.
const HOUR: i64 = 3600;
/// What was quiet for so long is new when it comes again, in seconds.
const DAY: i64 = 86_400;
/// How much is remembered of what is over.
const OVER: usize = 1000;

/// What the journal was told already. Bounded by the number of resources; outlives restarts as a document of
/// trueup's own directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// By what it is about: `drift file:/etc/motd`, `host`.
    said: BTreeMap<String, Said>,
    /// The worst state in which something was said since the host converged last.
    pub(super) worst: Option<State>,
    /// Since when the source does not answer, seconds since 1970.
    pub(super) silent_since: Option<i64>,
    /// How many entries nobody took.
    lost: u64,
    /// What stands in trueup's own directory is older than this.
    #[serde(skip)]
    unsaved: bool,
}

/// What was said of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    /// A digest of the difference, or of the reason.
    what: u64,
    /// A digest of the words.
    words: u64,
    /// When, seconds since 1970.
    at: i64,
    /// How many times without an hour of rest.
    often: u32,
    /// It is not so any more.
    #[serde(default)]
    over: bool,
}

impl Told {
    /// Whether it is worth an entry that `what` holds of `about`. It is, where that is new. Other words for the same,
    /// and what keeps changing, are told once an hour.
    pub(super) fn is_news(&mut self, about: &str, what: &str, words: &str, now: i64) -> bool {
        let (what, words) = (digest(what), digest(&steady(words)));
        let Some(said) = self.said.get_mut(about) else {
            self.said.insert(about.to_owned(), Said { what, words, at: now, often: 1, over: false });
            return true;
        };
        let another = said.what != what || said.over;
        // The clock may have been set back.
        let rest = i64::try_from(now.abs_diff(said.at)).unwrap_or(i64::MAX);
        if !another && said.words == words || rest < HOUR && (!another || said.often >= OFTEN) {
            return false;
        }
        let often = if rest >= DAY { 1 } else { (said.often + 1).min(OFTEN) };
        *said = Said { what, words, at: now, often, over: false };
        true
    }

    /// What was said of `about` holds no more.
    pub(super) fn over(&mut self, about: &str) {
        if let Some(said) = self.said.get_mut(about) {
            said.over = true;
        }
    }

    /// What was said of whatever begins with `prefix`, but for `about`, holds no more.
    pub(super) fn others_are_over(&mut self, prefix: &str, about: Option<&str>) {
        let others = self.said.iter_mut().filter(|(key, _)| key.starts_with(prefix) && Some(key.as_str()) != about);
        others.for_each(|(_, said)| said.over = true);
    }

    /// Whether what was last said of `about` still holds.
    pub(super) fn holds(&self, about: &str) -> bool {
        self.said.get(about).is_some_and(|said| !said.over)
    }

    /// Everything was looked at: what is not among `known` is over. It is remembered for a while, so that what
    /// comes and goes is not told each time.
    pub(super) fn forget(&mut self, known: &BTreeSet<String>, now: i64) {
        for (about, said) in &mut self.said {
            said.over |= !known.contains(about);
        }
        let crowd = self.said.values().filter(|said| said.over).count() > OVER;
        self.said.retain(|_, said| {
            let kept = if said.often < OFTEN { HOUR } else { DAY };
            !said.over || !crowd && now.abs_diff(said.at) < kept.unsigned_abs()
        });
    }

    /// What `other` said and still holds was said here too: it is said when that is over.
    pub fn take_in(&mut self, other: &Self) {
        let holds = other.said.iter().filter(|(_, said)| !said.over);
        self.said.extend(holds.map(|(about, said)| (about.clone(), *said)));
        self.worst = self.worst.max(other.worst);
    }

    /// Somebody else took in what was said here: said again, it is news.
    pub fn settle(&mut self) {
        self.others_are_over("", None);
        self.worst = None;
    }

    /// How many entries nobody took, to be told now.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Notes that `lost` entries were not taken.
    pub fn lose(&mut self, lost: u64) {
        self.lost = self.lost.saturating_add(lost);
    }

    /// How many entries nobody took, and that nobody was told of yet.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether this is newer than what stands in trueup's own directory.
    pub fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// Notes whether it was saved.
    pub fn saved(&mut self, saved: bool) {
        self.unsaved = !saved;
    }
}

fn digest(text: &str) -> u64 {
    let digest = Digest::of(text.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Words without what changes by itself: numbers, and how long it still takes.
fn steady(words: &str) -> String {
    let words = words.split("tried again in").next().unwrap_or_default();
    let mut out = String::with_capacity(words.len());
    for c in words.chars() {
        if !c.is_ascii_digit() {
            out.push(c);
        } else if !out.ends_with('#') {
            out.push('#');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn what_was_said_is_not_said_again() {
        let mut told = Told::default();
        assert!(told.is_news("x", "a", "busy for 6 min", NOW));
        for minute in 1..10_000 {
            assert!(!told.is_news("x", "a", &format!("busy for {minute} min"), NOW + minute * 60));
        }
        assert!(!told.is_news("x", "a", "busy for 7 min; tried again in 4 h", NOW));
        assert!(told.is_news("y", "a", "busy for 6 min", NOW), "another thing");
    }

    #[test]
    fn other_words_are_told_once_an_hour_and_another_difference_at_once() {
        let mut told = Told::default();
        assert!(told.is_news("x", "a", "one", NOW));
        assert!(!told.is_news("x", "a", "two", NOW + HOUR - 1));
        assert!(told.is_news("x", "a", "two", NOW + HOUR));
        assert!(told.is_news("x", "b", "two", NOW + HOUR + 1));
        // That was the third without a day of rest.
        assert!(!told.is_news("x", "c", "two", NOW + HOUR + 2));
        assert!(told.is_news("x", "c", "two", NOW + 2 * HOUR + 1));
        assert!(!told.is_news("x", "d", "two", NOW + 3 * HOUR));
        let tomorrow = NOW + 2 * HOUR + 1 + DAY;
        assert!(told.is_news("x", "d", "two", tomorrow));
        assert!(told.is_news("x", "e", "two", tomorrow + 1));
        assert!(told.is_news("x", "f", "two", tomorrow + 2));
        assert!(!told.is_news("x", "g", "two", tomorrow + 3));
    }

    #[test]
    fn what_comes_and_goes_is_told_a_few_times_an_hour() {
        let mut told = Told::default();
        let mut entries = 0;
        for minute in 0..24 * 60 {
            let now = NOW + minute * 60;
            if minute % 2 == 0 {
                entries += usize::from(told.is_news("x", "a", "", now));
                told.forget(&BTreeSet::from(["x".to_owned()]), now);
            } else {
                told.forget(&BTreeSet::new(), now);
            }
        }
        assert!((20..=30).contains(&entries), "{entries}");
        told.forget(&BTreeSet::new(), NOW + 48 * HOUR);
        assert_eq!(told, Told::default(), "nothing is kept of it");
    }

    #[test]
    fn a_clock_that_was_set_back_silences_nothing() {
        let mut told = Told::default();
        for what in ["a", "b", "c"] {
            assert!(told.is_news("x", what, "", NOW));
        }
        assert!(!told.is_news("x", "d", "", NOW));
        assert!(told.is_news("x", "d", "", NOW - DAY));
    }

    #[test]
    fn a_crowd_of_what_is_over_is_forgotten_at_once() {
        let mut told = Told::default();
        for n in 0..=OVER {
            told.is_news(&format!("file:/{n}"), "a", "", NOW);
        }
        told.forget(&BTreeSet::new(), NOW);
        assert_eq!(told, Told::default());
    }

    #[test]
    fn it_outlives_a_restart() {
        let mut told = Told::default();
        told.is_news("drift file:/etc/motd", "a", "b", NOW);
        told.worst = Some(State::Degraded);
        told.lose(3);
        let json = serde_json::to_string(&told).expect("it serializes");
        assert_eq!(serde_json::from_str::<Told>(&json).expect("it reads"), told);
        assert_eq!(serde_json::from_str::<Told>("{}").expect("it reads"), Told::default());
    }
}
