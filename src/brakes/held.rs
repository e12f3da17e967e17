use std::collections::{BTreeMap, BTreeSet};

use super::{Brakes, Experience, Restarts, Retry, Suspension};
use crate::kinds::{Activation, Kind, package};
use crate::model::Id;

/// Why something is not changed, though it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Somebody asked for it.
    Suspended {
        /// Until when, seconds since 1970.
        until: i64,
        /// Who: a login name.
        by: String,
        /// Why, in their words; may be empty.
        reason: String,
    },
    /// Somebody else keeps changing it back.
    Contested {
        /// How many times it was corrected within the last day; twelve is that many or more.
        corrections: usize,
        /// When it is tried again, seconds since 1970.
        next: i64,
    },
    /// It failed, and is tried again later.
    Waiting {
        /// The stable word of the last failure.
        reason: String,
        /// How it failed last: one line for people.
        message: String,
        /// How many times it was tried.
        attempts: u32,
        /// When it is tried again, seconds since 1970.
        next: i64,
    },
    /// A unit has restarted as often as it may within ten minutes, whatever asked for it.
    Spent {
        /// How many times it did.
        restarts: usize,
        /// When it may again, seconds since 1970.
        next: i64,
    },
}

/// All that is held at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    /// Resources.
    pub resources: BTreeMap<Id, Held>,
    /// Restarts, reloads and runs of units, which failed.
    pub refreshes: BTreeMap<Id, Held>,
    /// Units that have restarted as often as they may.
    pub spent: BTreeMap<Id, Held>,
    /// Work of the system's own engines, which failed.
    pub activations: BTreeMap<Activation, Held>,
}

impl Holds {
    /// Resources that are suspended or contested: they are not changed for the sake of others either.
    pub fn resting(&self) -> BTreeSet<Id> {
        self.resources.iter().filter(|(_, held)| !held.is_failure()).map(|(id, _)| id.clone()).collect()
    }
}

impl Held {
    /// It failed: what depends on it is not tried.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Waiting { .. })
    }

    /// It comes about by itself, later: until then what it would bring about is not judged.
    pub fn is_for_later(&self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::Spent { .. })
    }

    /// The stable word.
    pub fn word(&self) -> &str {
        match self {
            Self::Suspended { .. } => "suspended",
            Self::Contested { .. } => "contested",
            Self::Waiting { reason, .. } => reason,
            Self::Spent { .. } => "restart-budget",
        }
    }

    fn waiting(retry: &Retry, now: i64) -> Option<Self> {
        let (reason, message) = retry.words();
        let next = retry.waits(now)?;
        Some(Self::Waiting { reason: reason.to_owned(), message: message.to_owned(), attempts: retry.attempts(), next })
    }
}

impl From<&Suspension> for Held {
    fn from(suspension: &Suspension) -> Self {
        let Suspension { until, by, reason, .. } = suspension;
        Self::Suspended { until: *until, by: by.clone(), reason: reason.clone() }
    }
}

/// What is held at `now`, one by one; whether the whole host is, [`Brakes::host_suspended`] says. `experience`
/// has met what is declared: [`Experience::meet`]. What people asked for goes before what passes met. A unit restarts
/// `budget` times in ten minutes at most; none is no bound.
pub fn held(brakes: &Brakes, experience: &Experience, budget: Option<usize>, now: i64) -> Holds {
    let waiting = |(id, retry): (&Id, &Retry)| Some((id.clone(), Held::waiting(retry, now)?));
    let contested = experience.contests.iter().filter_map(|(id, contest)| {
        let next = contest.waits(now)?;
        Some((id.clone(), Held::Contested { corrections: contest.corrections(), next }))
    });
    let mut resting: BTreeMap<Id, Held> = contested.collect();
    let holds = brakes.suspensions.iter().filter(|suspension| now < suspension.until);
    resting.extend(holds.filter_map(|suspension| Some((suspension.resource.clone()?, Held::from(suspension)))));
    // What waits for others to rest no more has nothing to wait for once none does.
    let packages_rest = resting.keys().any(|id| id.kind() == package::Package::WORD);
    let moot = |retry: &Retry| !packages_rest && retry.words().0 == package::WOULD_CHANGE_RESTING;
    let failed = experience.retries.iter().filter(|(_, retry)| !moot(retry));
    let mut resources: BTreeMap<Id, Held> = failed.filter_map(waiting).collect();
    resources.append(&mut resting);
    Holds {
        resources,
        refreshes: experience.refreshes.iter().filter_map(waiting).collect(),
        spent: budget.map(|most| spent(experience, most, now)).unwrap_or_default(),
        activations: experience
            .activations
            .iter()
            .filter_map(|(what, retry)| Some((*what, Held::waiting(retry, now)?)))
            .collect(),
    }
}

fn spent(experience: &Experience, most: usize, now: i64) -> BTreeMap<Id, Held> {
    let of = |(id, restarts): (&Id, &Restarts)| {
        let next = restarts.waits(most, now)?;
        Some((id.clone(), Held::Spent { restarts: restarts.count(), next }))
    };
    experience.restarts.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brakes::Failure;
    use crate::model::Digest;

    #[test]
    fn what_people_asked_for_goes_before_what_passes_met_and_everything_ends() {
        let ids = ["a", "b", "c"].map(|name| Id::new("unit", name));
        let failure = Failure { reason: "unit-failed", message: "no", host: "web-01" };
        let digest = Digest::of(b"");
        let mut experience = Experience::default();
        for id in &ids {
            experience.failed(id, Some(digest), failure, 0);
        }
        experience.refresh_failed(&ids[0], Some(digest), failure, 0);
        experience.activation_failed(Activation::Sysctl, failure, 0);
        for id in &ids[..2] {
            for _ in 0..5 {
                experience.correct(id, digest, 0);
            }
        }
        let suspension = |resource, until| Suspension {
            resource,
            since: 0,
            until,
            by: "alice".to_owned(),
            reason: "INC-4711".to_owned(),
        };
        let mut brakes = Brakes::default();
        brakes.suspend(suspension(Some(ids[0].clone()), 50));
        brakes.suspend(suspension(None, 50));

        let at = |now| held(&brakes, &experience, None, now);
        let words = |now| at(now).resources.values().map(|held| held.word().to_owned()).collect::<Vec<_>>();
        assert_eq!(words(49), ["suspended", "contested", "unit-failed"]);
        assert_eq!(words(50), ["contested", "contested", "unit-failed"]);
        assert_eq!(words(599), ["contested", "contested"]);
        assert_eq!(at(600), Holds::default());
        assert_eq!((at(0).refreshes.len(), at(0).activations.len()), (1, 1));
        let failures: Vec<bool> = at(0).resources.values().map(Held::is_failure).collect();
        assert_eq!(failures, [false, false, true]);
    }

    #[test]
    fn what_would_change_a_suspended_package_waits_no_longer_than_that_is_suspended() {
        let (tool, words) = (Id::new("package", "tool"), Id::new("package", "words"));
        let failure = Failure { reason: "package-suspended", message: "no", host: "web-01" };
        let mut experience = Experience::default();
        experience.failed(&tool, None, failure, 0);
        let mut brakes = Brakes::default();
        let (by, reason) = ("alice".to_owned(), String::new());
        brakes.suspend(Suspension { resource: Some(words.clone()), since: 0, until: 9, by, reason });
        let at = |now| held(&brakes, &experience, None, now);
        assert_eq!(at(8).resources.keys().collect::<Vec<_>>(), [&tool, &words]);
        assert_eq!(at(8).resting(), BTreeSet::from([words]), "what failed does not rest");
        assert_eq!(at(9), Holds::default());
    }
}
