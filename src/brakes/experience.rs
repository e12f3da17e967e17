use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Contest, Failure, Restarts, Retry};
use crate::compile::Desired;
use crate::kinds::{Activation, Kind, Spec, package};
use crate::model::{Digest, Id};

/// What earlier passes met. Passes write it, under the exclusive lock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Experience {
    /// Resources that were corrected of late, and those that somebody keeps changing back.
    pub contests: BTreeMap<Id, Contest>,
    /// Resources that failed.
    pub retries: BTreeMap<Id, Retry>,
    /// Units that could not be restarted, reloaded or run since something they use changed.
    pub refreshes: BTreeMap<Id, Retry>,
    /// What the system's own engines failed to do.
    pub activations: BTreeMap<Activation, Retry>,
    /// When units restarted, reloaded or ran of late, whatever asked for it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub restarts: BTreeMap<Id, Restarts>,
}

/// What a look found, as far as experience depends on it.
#[derive(Debug, Default)]
pub struct Found<'a> {
    /// As declared.
    pub holding: BTreeSet<&'a Id>,
    /// Different, and left so.
    pub differing: BTreeSet<&'a Id>,
    /// No longer declared, and still to be let go of.
    pub going: BTreeSet<&'a Id>,
    /// Units that have to restart, reload or run, or may have to: they could not be looked at.
    pub owing: BTreeSet<&'a Id>,
    /// What the system still needs.
    pub needed: BTreeSet<Activation>,
}

/// What a declaration is known by: a changed one has another.
pub fn known_by(spec: &Spec) -> Digest {
    // A spec is plain data, and its keys are text: it always serializes.
    Digest::of(&serde_json::to_vec(spec).unwrap_or_default())
}

/// What `id`, as `desired` has it, is tried as: another ends the waiting after a failure. Packages are tried
/// together, and what stood in the way of one may be mended by the declaration of another.
pub fn tried_as(desired: &Desired, id: &Id) -> Option<Digest> {
    let wanted = desired.resources.get(id)?;
    if id.kind() != package::Package::WORD {
        return Some(known_by(&wanted.spec));
    }
    let packages = desired.resources.iter().filter(|(other, _)| other.kind() == id.kind());
    let all: BTreeMap<&str, &Spec> = packages.map(|(other, wanted)| (other.as_str(), &wanted.spec)).collect();
    Some(Digest::of(&serde_json::to_vec(&all).unwrap_or_default()))
}

impl Experience {
    /// Forgets what no longer counts at `now`: what is old, and what was met with other declarations than those
    /// of `desired`.
    pub fn meet(&mut self, desired: &Desired, now: i64) {
        let declared = |id: &Id| desired.resources.get(id).map(|wanted| known_by(&wanted.spec));
        self.contests.retain(|id, contest| {
            contest.age(now);
            let Some(wanted) = declared(id) else { return false };
            contest.declared(wanted, now);
            !contest.is_over()
        });
        self.retries.retain(|id, retry| {
            retry.age(now);
            retry.wanted() == tried_as(desired, id)
        });
        self.refreshes.retain(|id, retry| {
            retry.age(now);
            retry.wanted() == declared(id)
        });
        for retry in self.activations.values_mut() {
            retry.age(now);
        }
        self.restarts.retain(|_, restarts| {
            restarts.age(now);
            !restarts.is_over()
        });
    }

    /// Takes in what a look at `now` found.
    pub fn found(&mut self, found: &Found<'_>, now: i64) {
        for id in &found.holding {
            self.retries.remove(*id);
        }
        self.retries.retain(|id, retry| retry.wanted().is_some() || found.going.contains(id));
        self.refreshes.retain(|id, _| found.owing.contains(id));
        self.activations.retain(|what, _| found.needed.contains(what));
        self.contests.retain(|id, contest| {
            if found.differing.contains(id) {
                contest.differs();
            } else if found.holding.contains(id) {
                contest.holds(now);
            }
            !contest.is_over()
        });
    }

    /// `id`, declared as `wanted`, is corrected at `now`.
    pub fn correct(&mut self, id: &Id, wanted: Digest, now: i64) {
        self.contests.entry(id.clone()).or_insert_with(|| Contest::new(wanted)).correct(now);
    }

    /// `id`, declared as `wanted`, was to be corrected at `now`, and that failed.
    pub fn correction_failed(&mut self, id: &Id, wanted: Digest, now: i64) {
        self.contests.entry(id.clone()).or_insert_with(|| Contest::new(wanted)).fail(now);
    }

    /// `id`, tried as `wanted` says, see [`tried_as`], or let go, failed at `now`.
    pub fn failed(&mut self, id: &Id, wanted: Option<Digest>, failure: Failure<'_>, now: i64) {
        // Packages that failed in one transaction are tried in one again: they may need each other.
        let what = if id.kind() == package::Package::WORD { package::Package::WORD } else { id.as_str() };
        let retry = Retry::after(self.retries.get(id), what, wanted, failure, now);
        self.retries.insert(id.clone(), retry);
    }

    /// The unit `id`, declared as `wanted`, could not be restarted, reloaded or run at `now`.
    pub fn refresh_failed(&mut self, id: &Id, wanted: Option<Digest>, failure: Failure<'_>, now: i64) {
        let retry = Retry::after(self.refreshes.get(id), id.as_str(), wanted, failure, now);
        self.refreshes.insert(id.clone(), retry);
    }

    /// The system's own engine could not do `what` at `now`.
    pub fn activation_failed(&mut self, what: Activation, failure: Failure<'_>, now: i64) {
        let retry = Retry::after(self.activations.get(&what), &format!("{what:?}"), None, failure, now);
        self.activations.insert(what, retry);
    }

    /// The unit `id` restarts, reloads or runs at `now`.
    pub fn restart(&mut self, id: &Id, now: i64) {
        self.restarts.entry(id.clone()).or_default().spend(now);
    }

    /// Another revision made it fail: nothing waits, nothing is contested. What restarted has restarted.
    pub fn forget_failures(&mut self) {
        *self = Self { restarts: std::mem::take(&mut self.restarts), ..Self::default() };
    }

    /// Root wants everything tried again, now: nothing waits, nothing is contested.
    pub fn forget_all(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Wanted;
    use crate::model::{Drift, Release};

    /// The wire format of version 1, as it was first written; it must stay readable.
    const FIRST: &str = include_str!("fixtures/experience-1.json");

    fn id(name: &str) -> Id {
        Id::new("package", name)
    }

    fn wanting(names: &[&str], absent: bool) -> Desired {
        let spec = if absent { package::Spec::Absent } else { package::Spec::Released };
        let wanted = Wanted {
            spec: Spec::Package(spec),
            drift: Drift::Correct,
            release: Release::Restore,
            layer: String::new(),
            exclusive: None,
            stranger_of: None,
        };
        let resources = names.iter().map(|name| (id(name), wanted.clone())).collect();
        Desired {
            host: String::new(),
            resources,
            update: None,
            max_removals: None,
            checks: BTreeMap::new(),
            unlisted: BTreeMap::new(),
        }
    }

    fn digest(desired: &Desired, name: &str) -> Digest {
        known_by(&desired.resources[&id(name)].spec)
    }

    const FAILURE: Failure<'_> = Failure { reason: "package-failed", message: "no", host: "web-01" };

    #[test]
    fn every_version_it_ever_had_is_still_read() {
        let experience: Experience = serde_json::from_str(FIRST).expect("version 1 is read");
        assert_eq!((experience.contests.len(), experience.retries.len()), (2, 1));
        assert_eq!((experience.refreshes.len(), experience.activations.len()), (1, 1));
        let again = serde_json::to_string(&experience).expect("written");
        assert_eq!(serde_json::from_str::<Experience>(&again).expect("read again"), experience);
    }

    #[test]
    fn waiting_ends_with_another_declaration_and_contests_with_the_declaration() {
        let desired = wanting(&["a", "b"], true);
        let mut experience = Experience::default();
        for at in 0..5 {
            experience.correct(&id("a"), digest(&desired, "a"), at);
        }
        experience.failed(&id("b"), tried_as(&desired, &id("b")), FAILURE, 5);
        experience.failed(&id("gone"), None, FAILURE, 5);
        let known = experience.clone();
        experience.meet(&desired, 6);
        assert_eq!(experience, known, "the same declarations");

        experience.meet(&wanting(&["a", "b"], false), 700);
        assert!(experience.contests.is_empty(), "{experience:?}");
        assert_eq!(experience.retries.keys().collect::<Vec<_>>(), [&id("gone")]);

        let mut experience = known;
        experience.meet(&wanting(&["gone"], true), 6);
        assert_eq!(experience, Experience::default(), "neither is declared any more, and the third is again");
    }

    #[test]
    fn packages_that_failed_together_are_tried_together() {
        let mut experience = Experience::default();
        for n in 0..20 {
            experience.failed(&id(&n.to_string()), None, FAILURE, 100);
        }
        let next: BTreeSet<_> = experience.retries.values().map(|retry| retry.waits(100)).collect();
        assert_eq!(next.len(), 1);
    }

    #[test]
    fn what_holds_is_not_tried_again_and_what_is_no_longer_owed_is_forgotten() {
        let desired = wanting(&["a", "b"], true);
        let wanted = Some(digest(&desired, "a"));
        let mut experience = Experience::default();
        experience.failed(&id("a"), wanted, FAILURE, 0);
        experience.failed(&id("b"), wanted, FAILURE, 0);
        experience.failed(&id("c"), None, FAILURE, 0);
        experience.refresh_failed(&id("a"), wanted, FAILURE, 0);
        experience.refresh_failed(&id("b"), wanted, FAILURE, 0);
        experience.activation_failed(Activation::Sysctl, FAILURE, 0);
        experience.activation_failed(Activation::Udev, FAILURE, 0);
        let (a, b) = (id("a"), id("b"));
        let found = Found {
            holding: BTreeSet::from([&a]),
            owing: BTreeSet::from([&b]),
            needed: BTreeSet::from([Activation::Udev]),
            ..Found::default()
        };
        experience.found(&found, 1);
        assert_eq!(experience.retries.keys().collect::<Vec<_>>(), [&b]);
        assert_eq!(experience.refreshes.keys().collect::<Vec<_>>(), [&b]);
        assert_eq!(experience.activations.keys().collect::<Vec<_>>(), [&Activation::Udev]);
    }
}
