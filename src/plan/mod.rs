//! Storey 9: from what is wanted, what is observed, what was last applied and what is held back to what is to be
//! done. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::brakes::Held;
use crate::host;
use crate::kinds::unit::Links;
use crate::kinds::{Activation, Observed, Phase, Refresh, Spec, file};
use crate::ledger::Why;
use crate::model::{Cause, Change, Detail, Drift, Id, Release};

mod along;
mod behind;
mod classify;
mod guard;
mod hold;
mod make;
mod said;
mod ways;

pub use classify::{Verdict, classify};
pub use guard::{Leave, Refusal, guard};
pub use make::{Situation, concerned, make};
pub use said::{reads_secrets, said};

/// The ordered difference, and all that was found beside it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What is to be done, in the order of work.
    pub steps: Vec<Step>,
    /// Units that have to restart, reload or run, since something they use changes.
    pub refreshes: Vec<PlannedRefresh>,
    /// What the system needs afterwards, or still needs since an earlier pass.
    pub activations: BTreeSet<Activation>,
    /// Differences that are told and not acted on.
    pub told: Vec<Told>,
    /// What would be done if nothing held it back.
    pub held: Vec<HeldStep>,
    /// What units have to do, and are held back from: it stays owed.
    pub owing: Vec<HeldRefresh>,
    /// What the system still needs, and what failed lately.
    pub waiting: Vec<(Activation, Held)>,
    /// Resources that are no longer declared and stay as they are.
    pub left: Vec<Left>,
    /// Resources that could not be looked at, or that something stands in the way of.
    pub failed: Vec<Unseen>,
    /// Those of them that hold themselves: only what else is in these directories cannot be told.
    pub unlisted: BTreeSet<Id>,
    /// Resources that cannot be done here: packages of a directory.
    pub deferred: Vec<Unseen>,
    /// As declared when first seen: recorded, not touched.
    pub adopted: Vec<Id>,
    /// As declared, and known to be: the ledger is already right, or needs only its record.
    pub in_sync: Vec<Id>,
    /// Not as declared, and declared to be left so.
    pub ignored: Vec<Id>,
    /// No longer declared and gone, or as it was before: dropped from the ledger.
    pub forgotten: Vec<Id>,
    /// Patterns of what units read as they start, by their own settings, where systemd was asked.
    pub reads: BTreeMap<Id, Vec<String>>,
    /// What the `[Install]` sections of units asked for so far whose links have to follow another one.
    pub following: BTreeMap<Id, Links>,
    /// How many resources are wanted.
    pub wanted: usize,
}

/// One resource's part of the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which.
    pub id: Id,
    /// What kind of step, for people.
    pub action: Action,
    /// Why.
    pub cause: Cause,
    /// Property by property.
    pub changes: Vec<Change>,
    /// A change of content, line by line.
    pub detail: Option<Detail>,
    /// The layer that declares it, or did.
    pub layer: String,
    /// What to converge to.
    pub want: Spec,
    /// What the look found.
    pub seen: Observed,
    /// When in the pass.
    pub phase: Phase,
    /// What stands there is what stood there before us.
    pub original: bool,
    /// Whether what stands there is kept first, and as what.
    pub keep: Option<Why>,
    /// What to do about drift from now on.
    pub drift: Drift,
    /// What to do when the declaration goes away.
    pub release: Release,
    /// What stands there, or is to, may be a secret: nothing of it is shown, and a copy of it is kept encrypted.
    pub secret: bool,
}

/// What kind of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing is there yet.
    Create,
    /// Ours, and not as wanted.
    Change,
    /// Somebody else's until now; what is there is kept.
    TakeOver,
    /// Declared absent.
    Remove,
    /// No longer declared: removed, or put back as it was.
    LetGo,
}

/// A step that is not taken for now.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldStep {
    /// What it would be.
    pub step: Step,
    /// What holds it back.
    pub why: Held,
}

/// A difference that is not acted on.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Which.
    pub id: Id,
    /// Why it would be needed.
    pub cause: Cause,
    /// Property by property.
    pub changes: Vec<Change>,
    /// A change of content, line by line.
    pub detail: Option<Detail>,
    /// The layer that declares it.
    pub layer: String,
    /// The stable word: `report-only`, `takeover-refused`, or in what a unit is behind.
    pub reason: &'static str,
    /// What it would be converged to.
    pub want: Spec,
    /// What the look found.
    pub seen: Observed,
    /// As [`Step::secret`].
    pub secret: bool,
}

/// A resource that is no longer declared and stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Which.
    pub id: Id,
    /// Why it stays.
    pub why: String,
}

/// A resource that cannot be converged, as can be told beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// Which.
    pub id: Id,
    /// The stable word.
    pub reason: &'static str,
    /// One line for people.
    pub message: String,
}

/// A unit that has to do something since something it uses changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRefresh {
    /// The unit.
    pub id: Id,
    /// What it does.
    pub how: Refresh,
    /// Since these change, or changed in an earlier pass.
    pub because: Vec<Id>,
    /// Its invocation as observed.
    pub invocation: Option<String>,
    /// Nothing that the repository says anew asks for it: what changes is put back, or it was owed before.
    pub drift: bool,
    /// It follows what this pass puts back. What an earlier pass owed was counted there, if it was that.
    pub corrective: bool,
    /// An earlier pass owed it since the unit ran what was older than what stood on the host, and nothing else asks for it.
    pub catches_up: bool,
}

/// A refresh that is not done for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRefresh {
    /// What it would be.
    pub refresh: PlannedRefresh,
    /// What holds it back.
    pub why: Held,
}

impl Step {
    /// What the system needs after it.
    pub fn activations(&self) -> Vec<Activation> {
        self.want.activations(self.seen.known_as(&self.id))
    }

    /// What catches up with what stands on the host, where this step is that.
    pub fn catching_up(&self) -> Option<PlannedRefresh> {
        let Observed::Unit(seen) = &self.seen else { return None };
        let files = seen.behind.iter().filter(|behind| behind.remedy.is_some()).flat_map(|behind| &behind.paths);
        Some(PlannedRefresh {
            id: self.id.clone(),
            how: seen.remedy()?,
            because: files.map(|path| Id::new("file", path)).collect(),
            invocation: seen.invocation.clone(),
            drift: true,
            corrective: true,
            catches_up: true,
        })
    }

    /// What it does to a unit since that runs what is older than what stands on the host.
    pub fn remedy(&self) -> Option<Refresh> {
        match &self.seen {
            Observed::Unit(seen) => seen.remedy(),
            _ => None,
        }
    }

    /// Why what is let go stays as it is, if that is what the failure to put it back means: something else is there now, or
    /// what was there before is not to be had.
    pub fn stays(&self, error: &host::Error) -> Option<String> {
        let why = match (error.reason(), &self.want) {
            ("not-empty", _) => "what is in it is not ours".to_owned(),
            ("in-the-way" | "too-large-to-keep", _) => "something else stands there by now".to_owned(),
            (reason, Spec::Package(want)) if want.stays_away(reason) => match error {
                host::Error::Refused { why, .. } => why.clone(),
                other => other.chain(),
            },
            _ => return None,
        };
        (self.action == Action::LetGo).then_some(why)
    }

    /// A directory goes, with all that is below it, or becomes something else.
    pub fn closes_directory(&self) -> bool {
        ways::turn(self) == Some(file::Turn::Closes)
    }

    /// What was reached by way of a link, or a file, that stands there is no longer.
    pub fn opens_way(&self) -> bool {
        ways::turn(self) == Some(file::Turn::Opens)
    }
}

impl Plan {
    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.refreshes.is_empty() && self.activations.is_empty()
    }

    /// There is something to do that a revision asks for, or what was changed on the host: more than to start anew what runs
    /// on something older.
    pub fn is_work(&self) -> bool {
        self.refreshes.iter().any(|refresh| !refresh.catches_up)
            || !self.activations.is_empty()
            || self.steps.iter().any(|step| step.remedy().is_none())
    }

    /// Leaves what can be done while a host comes up: files, and which units it goes on to start. Whatever is left out is
    /// planned by the next pass.
    pub fn only_what_lies_in_files(&mut self) {
        self.steps.retain(|step| step.phase != Phase::Packages && step.remedy().is_none());
        for step in &mut self.steps {
            if let Spec::Unit(unit) = &mut step.want {
                unit.active = None;
            }
        }
        self.refreshes.clear();
        self.activations.retain(|activation| *activation == Activation::DaemonReload);
    }

    /// Package work depends on sources that this plan changes first.
    pub fn packages_after_sources(&self) -> bool {
        let sources = self
            .steps
            .iter()
            .any(|step| step.phase == Phase::Early && step.activations().contains(&Activation::PackageIndex));
        sources && self.steps.iter().any(|step| step.phase == Phase::Packages)
    }

    /// Whether `step` takes away what lies between its path and what other steps write below it.
    pub fn makes_way(&self, step: &Step) -> bool {
        let inside = format!("{}/", step.id.name());
        step.opens_way()
            && self.steps.iter().any(|other| other.id.kind() == "file" && other.id.name().starts_with(&inside))
    }

    /// The steps that take something away.
    pub fn removals(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.want.removes())
    }

    /// What cannot be relied on: it could not be looked at, something stands in its way, or it failed and waits.
    /// What is suspended or contested can.
    pub fn unmet(&self) -> impl Iterator<Item = &Id> {
        let waiting = self.held.iter().filter(|held| held.why.is_failure()).map(|held| &held.step.id);
        let failed = self.failed.iter().map(|unseen| &unseen.id);
        failed.filter(|id| !self.unlisted.contains(*id)).chain(waiting)
    }
}
