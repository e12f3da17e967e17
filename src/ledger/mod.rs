//! Storey 7: what trueup has taken charge of on this host.
//!
//! Ownership is recorded before something is made and dropped only after it is gone; a restart owed is
//! recorded before the file is written. So whatever a crash leaves behind, the ledger knows of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::kinds::file::{Exclusive, ancestors};
use crate::kinds::unit::Links;
use crate::kinds::{Activation, Before, Refresh, Spec};
use crate::model::{Drift, Id, Release, Revision, packed};

mod clock;
mod kept;
mod store;
mod unjudged;

pub use clock::Clock;
pub use kept::{KEPT_BYTES, Kept, KeptLimits, Why};
pub use store::{load, look, save};
pub use unjudged::{Set, Stands, Unjudged, Written};

/// Everything that is ours on this host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// The name and machine this ledger is of; `None` before the first pass.
    pub bound: Option<Binding>,
    /// By resource.
    #[serde(deserialize_with = "packed")]
    pub entries: BTreeMap<Id, Entry>,
    /// What the system needs since files changed, not done yet.
    pub activations: BTreeSet<Activation>,
    /// What units have to do since something they use changed, not done yet.
    pub refreshes: BTreeMap<Id, OwedRefresh>,
    /// What units were restarted for to catch up with, and the run that came of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub caught_up: BTreeMap<Id, CaughtUp>,
    /// The unit files of packages as they stood before a package transaction, by unit: what it replaces moves the unit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub replacing: BTreeMap<Id, UnitFile>,
    /// What the `[Install]` sections of units that are to stay enabled asked for before what defines them changed: their
    /// links have still to follow.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub following: BTreeMap<Id, Links>,
    /// Directories made only because something declared lies below them.
    pub implied: BTreeSet<String>,
    /// Directories about to be made for that reason: ours once we know that it was us who made them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub making: BTreeSet<String>,
    /// Exclusive directories that were cleared, as far as it could be done: what is in one now and is not told here came later.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exclusive: BTreeMap<Id, Cleared>,
    /// Paths that are being written and that no entry says so of: what is let go, what is given back.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub writing: BTreeSet<String>,
    /// What units have still to judge in place.
    #[serde(skip_serializing_if = "Unjudged::is_empty")]
    pub unjudged: Unjudged,
    /// Copies of what was overwritten.
    pub kept: Vec<Kept>,
    /// Up to when time is believed where copies are deleted for good.
    #[serde(skip_serializing_if = "Clock::is_new")]
    pub clock: Clock,
    /// The revision of which everything held last.
    pub applied: Option<Revision>,
    /// The revision that was tried last.
    pub attempted: Option<Revision>,
}

/// An exclusive directory of which the strangers have gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// What was ignored then.
    #[serde(flatten)]
    pub exclusive: Exclusive,
    /// Strangers that were there before and are still: what could not go, or not yet.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub left: BTreeSet<String>,
}

impl Cleared {
    /// Whether what is at the path `within` the directory, and a stranger, was there before.
    pub fn had(&self, within: &str) -> bool {
        self.left.contains(within) || self.exclusive.ignored().covers(within)
    }
}

impl Ledger {
    /// Whether `id`, a stranger of the exclusive `directory`, was there before that was cleared; `None` where that never was.
    /// One within it that is exclusive no longer may have ignored it.
    pub fn was_stranger(&self, directory: &Id, id: &Id) -> Option<bool> {
        self.exclusive.get(directory)?;
        let within = |above: &str| id.name().strip_prefix(above)?.strip_prefix('/');
        let inside = ancestors(id.name()).take_while(|above| above.len() >= directory.name().len());
        let mut known = inside.filter_map(|above| Some((self.exclusive.get(&Id::new("file", above))?, within(above)?)));
        Some(known.any(|(was, within)| was.had(within)))
    }
}

/// Whose ledger this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The name of the host's directory.
    pub host: String,
    /// machine-id(5), where there is one.
    pub machine_id: Option<String>,
}

/// One resource that is ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What stood there before.
    pub origin: Origin,
    /// What was last applied and held; `None` while the first attempt is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Spec>,
    /// What is being applied: written before the effect, taken off after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intended: Option<Box<Spec>>,
    /// What was written here before, and stands here still, was a secret.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_secret: bool,
    /// What was last said about drift, for when the declaration is gone.
    pub drift: Drift,
    /// What was last said about letting go, for when the declaration is gone.
    pub release: Release,
    /// The layer that declared it last.
    pub layer: String,
}

/// What stood in a resource's place before trueup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It was as declared when first seen, and never written since: letting go leaves it.
    Adopted,
    /// This; nothing, where trueup made it.
    Found {
        /// Enough to put it back.
        before: Before,
        /// When it was first overwritten, in seconds since 1970.
        at: i64,
        /// Its content was overwritten, not only its attributes.
        #[serde(default)]
        overwritten: bool,
    },
}

/// A unit has to do this still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedRefresh {
    /// What.
    pub how: Refresh,
    /// Since these changed.
    pub because: Vec<Id>,
    /// The unit's invocation when the debt was written down: another one proves that it restarted since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// What it ran was older than what stood on the host, and nothing else asks for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub catches_up: bool,
}

/// What a unit has caught up with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaughtUp {
    /// Which files.
    pub with: Vec<Id>,
    /// The invocation that began with them.
    pub run: String,
}

/// A unit file as it stood, and what ran by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitFile {
    /// Where, by its canonical path.
    pub path: String,
    /// Its inode, and when that was last changed, in nanoseconds since 1970: package managers put a new one in its place.
    pub stamp: Option<(u64, i128)>,
    /// What the unit has to do once it is another.
    pub how: Refresh,
    /// The unit's invocation then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
}

impl OwedRefresh {
    /// This and what `other` says of the same run of the unit: one thing to do, as thorough as either needs it.
    #[must_use]
    pub fn join(mut self, other: Self) -> Self {
        self.how = self.how.min(other.how);
        let new = other.because.into_iter().filter(|id| !self.because.contains(id)).collect::<Vec<_>>();
        self.because.extend(new);
        self.catches_up &= other.catches_up;
        self
    }
}

impl Entry {
    /// Ours from now on, nothing applied yet.
    pub fn new(origin: Origin, drift: Drift, release: Release, layer: &str) -> Self {
        Self { origin, applied: None, intended: None, was_secret: false, drift, release, layer: layer.to_owned() }
    }

    /// What the host is known to have been brought to: what was last applied, or what was being applied
    /// when a pass ended early, where `holds` says that it is what stands there.
    pub fn effective(&self, holds: impl Fn(&Spec) -> bool) -> Option<&Spec> {
        match &self.intended {
            Some(intended) if holds(intended) => Some(intended),
            _ => self.applied.as_ref(),
        }
    }

    /// There is something of it still to come, should it be let go: what stood there before, or what was begun.
    pub fn owes(&self) -> bool {
        self.origin != Origin::Adopted || self.intended.is_some()
    }

    /// What stands there may be a secret: it was to be one, or takes the place of one.
    pub fn is_secret(&self) -> bool {
        self.was_secret || [self.applied.as_ref(), self.intended.as_deref()].into_iter().flatten().any(Spec::is_secret)
    }

    /// Notes that `spec` is what was applied last, and nothing is under way. What is only given other attributes is as
    /// secret as it was.
    pub fn set_applied(&mut self, spec: Spec) {
        self.was_secret = self.is_secret() && !spec.overwrites();
        self.applied = Some(spec);
        self.intended = None;
    }

    /// What to converge to when it is let go; `None` leaves it as it is. Originals older than
    /// `originals` seconds are no longer there to be put back.
    pub fn put_back(&self, now: i64, originals: i64) -> Option<Spec> {
        let Origin::Found { before, at, overwritten } = &self.origin else { return None };
        if before.expires() && now.saturating_sub(*at) > originals {
            return None;
        }
        let last = self.intended.as_deref().or(self.applied.as_ref())?;
        let whole = if *overwritten { before.as_found() } else { None };
        whole.or_else(|| before.put_back(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::file;

    /// The wire format of version 1, as it was first written; it must stay readable.
    const FIRST: &str = include_str!("fixtures/1.json");

    #[test]
    fn every_version_it_ever_had_is_still_read() {
        let ledger: Ledger = serde_json::from_str(FIRST).expect("version 1 is read");
        assert_eq!(ledger.entries.len(), 3);
        let again = serde_json::to_string(&ledger).expect("written");
        assert_eq!(serde_json::from_str::<Ledger>(&again).expect("read again"), ledger);
    }

    #[test]
    fn what_was_a_secret_is_one_until_other_content_is_written() {
        use crate::kinds::file::{Sealed, Spec as File, What};
        let of = |what: What, secret: bool| {
            Spec::File(File { secret: secret.then(|| Sealed(crate::model::Digest::of(b"sealed"))), ..File::of(what) })
        };
        let content = || What::Regular { content: crate::model::Digest::of(b"x"), size: 1 };
        let mut entry = Entry::new(Origin::Adopted, Drift::Correct, Release::Restore, "");
        let mut said = Vec::new();
        for spec in
            [of(content(), false), of(content(), true), of(What::Attributes, false), of(What::Attributes, false)]
        {
            entry.set_applied(spec);
            said.push(entry.is_secret());
        }
        entry.intended = Some(Box::new(of(content(), false)));
        said.push(entry.is_secret());
        entry.set_applied(of(content(), false));
        said.push(entry.is_secret());
        assert_eq!(said, [false, true, true, true, true, false]);
        assert!(!serde_json::to_string(&entry).expect("written").contains("was_secret"), "a version back has none");
    }

    #[test]
    fn what_units_have_caught_up_with_is_read_again_and_an_empty_note_of_it_is_none() {
        let mut ledger = Ledger::default();
        assert!(!serde_json::to_string(&ledger).expect("written").contains("caught_up"), "a version back has none");
        let caught_up = CaughtUp { with: vec![Id::new("file", "/etc/app.conf")], run: "a".to_owned() };
        ledger.caught_up.insert(Id::new("unit", "app.service"), caught_up);
        let text = serde_json::to_string(&ledger).expect("written");
        assert_eq!(serde_json::from_str::<Ledger>(&text).expect("read again"), ledger);
    }

    #[test]
    fn a_cleared_directory_is_written_as_it_was_before_anything_could_be_left_in_it() {
        let old = r#"{"exclusive":{"file:/etc/a.d":{"ignore":["*.bak"]},"file:/etc/b.d":{}}}"#;
        let mut ledger: Ledger = serde_json::from_str(old).expect("read");
        let cleared = &ledger.exclusive[&Id::new("file", "/etc/a.d")];
        assert!(cleared.had("x.bak") && !cleared.had("pipe"));
        let written = serde_json::to_value(&ledger).expect("written");
        assert_eq!(
            written["exclusive"],
            serde_json::json!({"file:/etc/a.d": {"ignore": ["*.bak"]}, "file:/etc/b.d": {}})
        );
        let other = ledger.exclusive.get_mut(&Id::new("file", "/etc/b.d")).expect("there");
        other.left.insert("pipe".to_owned());
        assert!(other.had("pipe") && !other.had("pipe2"));
        let again = serde_json::to_string(&ledger).expect("written");
        assert_eq!(serde_json::from_str::<Ledger>(&again).expect("read again"), ledger);
    }

    #[test]
    fn what_a_crash_left_applied_counts_as_applied() {
        let spec = |mode| Spec::File(file::Spec { mode: Some(mode), ..file::Spec::of(file::What::Directory) });
        let entry = Entry {
            was_secret: false,
            origin: Origin::Adopted,
            applied: Some(spec(1)),
            intended: Some(Box::new(spec(2))),
            drift: Drift::Correct,
            release: Release::Restore,
            layer: String::new(),
        };
        assert_eq!(entry.effective(|_| true), Some(&spec(2)));
        assert_eq!(entry.effective(|_| false), Some(&spec(1)));
    }
}
