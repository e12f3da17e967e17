//! Storey 8: what holds changes back, though they are wanted.
//!
//! [`Brakes`] are what people asked for on this host: suspensions, an approval, a rollback. The agent alone
//! writes them, on request of root. [`Experience`] is what earlier passes met: resources that somebody keeps
//! changing back, and those that failed and wait to be tried again. Passes write it, under the exclusive lock.
//! Both are pure values; time is handed in. Both survive restarts and reboots.

use serde::{Deserialize, Serialize};

use crate::model::{CommitId, Id};

mod budget;
mod contest;
mod experience;
mod held;
mod retry;
mod store;

pub use budget::Restarts;
pub use contest::Contest;
pub use experience::{Experience, Found, known_by, tried_as};
pub use held::{Held, Holds, held};
pub use retry::{Failure, Retry};
pub use store::{load, load_experience, save, save_experience};

/// How long a suspension that is over is remembered, in seconds.
const FORGOTTEN: i64 = 24 * 60 * 60;
/// By how much a clock may go back, in seconds, without anything being made of it.
const SLACK: i64 = 60;

/// What people asked for on this host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Brakes {
    /// What is not to be changed for a while. At most one of each resource, and one of the host.
    pub suspensions: Vec<Suspension>,
    /// Under `update = "hold"`: the revision that may be applied.
    pub approved: Option<Choice>,
    /// The revision that `trueup rollback` went to; holds until `trueup resume`.
    pub rolled_back: Option<Choice>,
    /// Copies that the next pass gives back to where they came from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub restoring: Vec<Restoring>,
}

/// Something is not changed for a while; it is looked at all the same. It always expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// Which resource; `None` is the whole host.
    pub resource: Option<Id>,
    /// Since when, seconds since 1970.
    pub since: i64,
    /// Until when, seconds since 1970: at this second it is over.
    pub until: i64,
    /// Who asked for it: a login name.
    pub by: String,
    /// Why, in their words; may be empty.
    pub reason: String,
}

/// Somebody asked for a copy, and no pass has come to it yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoring {
    /// `k-7f31`.
    pub copy: String,
    /// Where it goes.
    pub resource: Id,
    /// Who asked: a login name.
    pub by: String,
    /// When, seconds since 1970.
    pub at: i64,
    /// The suspension that keeps it there; none where the resource is not managed.
    #[serde(default)]
    pub held: Option<Suspension>,
    /// The one that this took the place of.
    #[serde(default)]
    pub before: Option<Suspension>,
}

/// Somebody chose a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The revision.
    pub commit: CommitId,
    /// Who: a login name.
    pub by: String,
    /// When, seconds since 1970.
    pub at: i64,
}

impl Brakes {
    /// The suspension of the whole host that holds at `now`.
    pub fn host_suspended(&self, now: i64) -> Option<&Suspension> {
        self.suspensions.iter().find(|suspension| suspension.resource.is_none() && now < suspension.until)
    }

    /// The suspension of `id` alone that holds at `now`.
    pub fn suspended(&self, id: &Id, now: i64) -> Option<&Suspension> {
        self.suspensions.iter().find(|suspension| suspension.resource.as_ref() == Some(id) && now < suspension.until)
    }

    /// All suspensions that hold at `now`, that of the whole host first.
    pub fn in_force(&self, now: i64) -> impl Iterator<Item = &Suspension> {
        let of_host = self.host_suspended(now);
        let others = move |one: &&Suspension| one.resource.is_some() && now < one.until;
        of_host.into_iter().chain(self.suspensions.iter().filter(others))
    }

    /// Adds a suspension; one of the same resource is replaced.
    pub fn suspend(&mut self, suspension: Suspension) {
        self.suspensions.retain(|known| known.resource != suspension.resource);
        self.suspensions.push(suspension);
        self.suspensions.sort_by(|a, b| a.resource.cmp(&b.resource));
    }

    /// A pass has given `copy` back, or could not: then what was suspended for it is as it was before.
    pub fn restored(&mut self, copy: &str, given: bool) -> Option<Restoring> {
        let at = self.restoring.iter().position(|one| one.copy == copy)?;
        let one = self.restoring.remove(at);
        if let Some(held) = one.held.as_ref().filter(|held| !given && self.suspensions.contains(held)) {
            self.suspensions.retain(|other| other != held);
            one.before.iter().for_each(|before| self.suspend(before.clone()));
        }
        Some(one)
    }

    /// What is over at `now`.
    pub fn over(&self, now: i64) -> impl Iterator<Item = &Suspension> {
        self.suspensions.iter().filter(move |one| one.until <= now)
    }

    /// Forgets what has been over for a day, and no earlier: a clock that was wrong at boot may be put right.
    pub fn forget(&mut self, now: i64) {
        self.suspensions.retain(|one| now.saturating_sub(one.until) < FORGOTTEN);
    }
}

impl Suspension {
    /// Whether a clock that says `now` is behind the one by which it was asked for, or that one was ahead. It holds:
    /// which of the two was wrong cannot be told, and what root asked for stays written as it was.
    pub fn is_ahead(&self, now: i64) -> bool {
        self.since.saturating_sub(now) > SLACK
    }

    /// How long it was asked for, in seconds.
    pub fn length(&self) -> i64 {
        self.until.saturating_sub(self.since).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const HOUR: i64 = 3600;

    fn suspended() -> Brakes {
        let mut brakes = Brakes::default();
        let (by, reason) = ("alice".to_owned(), String::new());
        brakes.suspend(Suspension { resource: None, since: NOW, until: NOW + 4 * HOUR, by, reason });
        brakes
    }

    #[test]
    fn a_clock_that_was_ahead_for_a_while_takes_no_suspension_off() {
        let mut brakes = suspended();
        let ahead = NOW + 20 * HOUR;
        assert!(brakes.host_suspended(ahead).is_none());
        assert_eq!(brakes.over(ahead).count(), 1);
        brakes.forget(ahead);
        assert!(brakes.host_suspended(NOW + HOUR).is_some(), "and holds again");
        brakes.forget(NOW + 4 * HOUR + FORGOTTEN);
        assert_eq!(brakes, Brakes::default());
    }

    #[test]
    fn a_clock_that_is_behind_takes_no_suspension_off_and_nothing_from_it() {
        let brakes = suspended();
        let behind = NOW - 1000 * HOUR;
        let one = brakes.host_suspended(behind).expect("it holds");
        assert!(one.is_ahead(behind) && !one.is_ahead(NOW - SLACK), "a small step is none");
        assert_eq!((one.until, one.length()), (NOW + 4 * HOUR, 4 * HOUR));
    }
}
