use std::collections::BTreeMap;

use super::{Action, Plan, Step};
use crate::compile::Desired;
use crate::ledger::Ledger;
use crate::model::Id;

/// Up to this many removals are nobody's mistake.
const FEW: u64 = 10;

/// Why a plan is refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It takes away more than anybody is likely to mean.
    #[error(
        "it would remove {removals} of {managed} managed resources ({first}…); if that is meant, allow it once with \
         --allow-removals {removals}, or in the repository with [guard] max_removals = {removals}"
    )]
    TooManyRemovals {
        /// How many go.
        removals: u64,
        /// How many there are.
        managed: u64,
        /// One of them.
        first: Id,
    },
    /// Nothing that is managed is declared any more.
    #[error(
        "nothing of what is managed here is declared any more: it would let go of all {managed} managed resources \
         ({first}…); look for what became of this host's directory and roles, or, if that is meant, allow it once with \
         --allow-removals {managed}, or in the repository with [guard] max_removals = {managed}"
    )]
    NothingStays {
        /// How many there are.
        managed: u64,
        /// One of them.
        first: Id,
    },
    /// It would clear a directory of more than anybody is likely to mean.
    #[error(
        "it would remove {strangers} strangers from the exclusive {directory} ({first}…); if that is meant, allow it once \
         with --allow-removals {strangers}, or in the repository with [guard] max_removals = {strangers}; what is to stay \
         is named in `ignore`"
    )]
    TooManyStrangers {
        /// How many.
        strangers: u64,
        /// The directory.
        directory: Id,
        /// One of them.
        first: Id,
    },
    /// The system does not work without it.
    #[error("{0} is essential or protected on this host and is never removed")]
    Protected(Id),
    /// trueup does not remove itself.
    #[error("{0} is trueup's own; it is not changed from the repository")]
    SelfTrust(Id),
}

impl Refusal {
    /// The stable reason word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooManyRemovals { .. } | Self::NothingStays { .. } | Self::TooManyStrangers { .. } => "guard",
            Self::Protected(_) => "protected",
            Self::SelfTrust(_) => "self-trust",
        }
    }
}

/// Whose leave a plan has to remove things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// What somebody has allowed in words: so many removals.
    Named(Option<u64>),
    /// It goes back to where this host was, for which nobody has to be asked; but for newcomers, who were never there before:
    /// of those it is so many.
    Back(Option<u64>),
}

impl Leave {
    /// The same, of what goes back.
    #[must_use]
    pub fn back(self) -> Self {
        Self::Back(self.named())
    }

    /// How many removals somebody has allowed in words.
    pub fn named(self) -> Option<u64> {
        let (Self::Named(named) | Self::Back(named)) = self;
        named
    }
}

/// Refuses a plan that would do more harm than anybody is likely to mean: `DESIGN.md` §6.
///
/// # Errors
/// The first reason to refuse, the gravest first.
pub fn guard(plan: &Plan, ledger: &Ledger, desired: &Desired, leave: Leave) -> Result<(), Refusal> {
    // What is only held back counts: a brake is no way around the guard, nor in its way once it is off.
    let held = || plan.held.iter().map(|held| &held.step).filter(|step| !step.changes.is_empty());
    let steps = || plan.steps.iter().chain(held());
    for step in steps().filter(|step| step.want.removes()) {
        if step.id.kind() == "package" && step.id.name().split(':').next() == Some("trueup") {
            return Err(Refusal::SelfTrust(step.id.clone()));
        }
        if step.seen.is_protected() {
            return Err(Refusal::Protected(step.id.clone()));
        }
    }
    let named = leave.named().max(desired.max_removals);
    strangers(steps(), desired, named)?;
    // On a host that is new here, what it is to have counts as what it has.
    let managed = ledger.entries.len().max(plan.wanted) as u64;
    let going: Vec<&Step> =
        steps().filter(|step| step.want.removes() && desired.stranger_of(&step.id).is_none()).collect();
    let let_go: Vec<&Step> = steps().filter(|step| step.action == Action::LetGo).collect();
    // Whoever lets go of all has lost the host's directory, whether things are removed or put back.
    let none_stays = !ledger.entries.keys().any(|id| desired.resources.contains_key(id));
    let all_go = !let_go.is_empty() && none_stays;
    let refused = if all_go {
        let_go
    } else if going.len() as u64 > FEW && going.len() as u64 * 4 > managed {
        going
    } else {
        return Ok(());
    };
    let removals = refused.len() as u64;
    if matches!(leave, Leave::Named(_))
        && named.is_none_or(|named| removals > named)
        && let Some(first) = refused.first()
    {
        let first = first.id.clone();
        return Err(match all_go {
            true => Refusal::NothingStays { managed: removals, first },
            false => Refusal::TooManyRemovals { removals, managed, first },
        });
    }
    Ok(())
}

/// Refuses what would clear an exclusive directory of more than a few strangers.
fn strangers<'s>(
    steps: impl Iterator<Item = &'s Step>,
    desired: &Desired,
    allowed: Option<u64>,
) -> Result<(), Refusal> {
    let mut going: BTreeMap<&Id, Vec<&Id>> = BTreeMap::new();
    for step in steps {
        if let Some(directory) = desired.stranger_of(&step.id).filter(|_| !step.seen.is_absent()) {
            going.entry(directory).or_default().push(&step.id);
        }
    }
    for (directory, going) in going {
        let strangers = going.len() as u64;
        if strangers > FEW
            && allowed.is_none_or(|allowed| strangers > allowed)
            && let Some(first) = going.first()
        {
            let (directory, first) = (directory.clone(), (*first).clone());
            return Err(Refusal::TooManyStrangers { strangers, directory, first });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brakes::Held;
    use crate::compile::Wanted;
    use crate::kinds::{Observed, Phase, Spec, package};
    use crate::ledger::{Entry, Origin};
    use crate::model::{Cause, Change, Drift, Release};
    use crate::plan::HeldStep;

    fn id(n: usize) -> Id {
        Id::new("package", &format!("p{n}"))
    }

    fn managed(count: usize) -> Ledger {
        let entry = Entry {
            was_secret: false,
            origin: Origin::Adopted,
            applied: None,
            intended: None,
            drift: Drift::Correct,
            release: Release::Restore,
            layer: String::new(),
        };
        Ledger { entries: (0..count).map(|n| (id(n), entry.clone())).collect(), ..Ledger::default() }
    }

    /// A host that wants the last `kept` of `of` packages.
    fn wanting(of: usize, kept: usize) -> Desired {
        let wanted = || Wanted {
            spec: Spec::Package(package::Spec::Absent),
            drift: Drift::Correct,
            release: Release::Restore,
            layer: String::new(),
            exclusive: None,
            stranger_of: None,
        };
        let resources = (of - kept..of).map(|n| (id(n), wanted())).collect();
        Desired {
            host: String::new(),
            resources,
            update: None,
            max_removals: None,
            checks: std::collections::BTreeMap::new(),
            unlisted: std::collections::BTreeMap::new(),
        }
    }

    fn removing(count: usize, action: Action, essential: bool) -> Plan {
        let seen = Observed::Package(package::Observed::Installed {
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            essential,
            automatic: false,
            held: Some(false),
            order: package::Order::Deb,
        });
        let step = |n| Step {
            id: id(n),
            action,
            cause: Cause::Intended,
            changes: vec![Change::new("state", "installed", "absent")],
            detail: None,
            layer: String::new(),
            want: Spec::Package(package::Spec::Absent),
            seen: seen.clone(),
            phase: Phase::Packages,
            original: false,
            keep: None,
            drift: Drift::Correct,
            release: Release::Restore,
            secret: false,
        };
        Plan { steps: (0..count).map(step).collect(), ..Plan::default() }
    }

    fn refused(removals: usize, of: usize, allowed: Option<u64>) -> bool {
        let plan = removing(removals, Action::LetGo, false);
        guard(&plan, &managed(of), &wanting(of, of - removals), Leave::Named(allowed)).is_err()
    }

    #[test]
    fn more_than_ten_and_more_than_a_quarter_is_too_much() {
        assert!(!refused(10, 12, None), "ten are few");
        assert!(refused(11, 43, None), "eleven of 43 are more than a quarter");
        assert!(!refused(11, 44, None), "eleven of 44 are a quarter");
        assert!(refused(1, 1, None) && refused(3, 3, None), "all of it, however few");
        assert!(!refused(11, 12, Some(11)));
        assert!(refused(11, 12, Some(10)));
    }

    #[test]
    fn what_is_held_back_counts_as_much() {
        let mut plan = removing(11, Action::LetGo, false);
        let step = plan.steps.remove(0);
        let why = Held::Suspended { until: 1, by: "alice".to_owned(), reason: String::new() };
        plan.held.push(HeldStep { step, why });
        assert!(guard(&plan, &managed(43), &wanting(43, 32), Leave::Named(None)).is_err());
        assert!(guard(&plan, &managed(44), &wanting(44, 33), Leave::Named(None)).is_ok());
    }

    #[test]
    fn more_than_ten_strangers_of_one_directory_are_too_many_however_much_is_managed() {
        let judge = |going: usize, directories: usize, leave: Leave| {
            let plan = removing(going, Action::Remove, false);
            let mut desired = wanting(1000, 1000);
            for (n, step) in plan.steps.iter().enumerate() {
                let wanted = desired.resources.get_mut(&step.id).expect("wanted");
                wanted.stranger_of = Some(Id::new("file", &format!("/etc/{}.d", n % directories)));
            }
            guard(&plan, &managed(9), &desired, leave).is_ok()
        };
        let nobody = Leave::Named(None);
        assert!(judge(10, 1, nobody), "ten are few");
        assert!(!judge(11, 1, nobody));
        assert!(judge(11, 2, nobody), "of each");
        let root = Leave::Named(Some(11));
        assert!(judge(11, 1, root) && !judge(12, 1, root));
        assert!(!judge(11, 1, nobody.back()), "to go back is no leave for newcomers");
        assert!(judge(11, 1, root.back()) && !judge(12, 1, root.back()));
    }

    #[test]
    fn to_go_back_needs_nobodys_leave_and_as_many_as_can_be_counted_are_a_number_like_any_other() {
        let judge =
            |leave: Leave| guard(&removing(12, Action::LetGo, false), &managed(12), &wanting(12, 0), leave).is_ok();
        assert!(!judge(Leave::Named(None)) && judge(Leave::Back(None)));
        assert!(judge(Leave::Named(Some(u64::MAX))) && !judge(Leave::Named(Some(11))) && judge(Leave::Back(Some(11))));
    }

    #[test]
    fn what_is_declared_absent_counts_as_removal_but_never_as_all() {
        assert!(guard(&removing(3, Action::Remove, false), &managed(3), &wanting(3, 3), Leave::Named(None)).is_ok());
        assert!(
            guard(&removing(11, Action::Remove, false), &managed(11), &wanting(11, 11), Leave::Named(None)).is_err()
        );
    }

    #[test]
    fn essential_packages_and_trueup_itself_are_never_allowed_to_go() {
        let plan = removing(1, Action::Remove, true);
        assert_eq!(guard(&plan, &managed(9), &wanting(9, 9), Leave::Named(Some(99))), Err(Refusal::Protected(id(0))));
        let mut plan = removing(1, Action::Remove, false);
        for name in ["trueup", "trueup:amd64"] {
            plan.steps[0].id = Id::new("package", name);
            assert!(matches!(
                guard(&plan, &managed(9), &wanting(9, 9), Leave::Named(Some(99))),
                Err(Refusal::SelfTrust(_))
            ));
        }
    }

    #[test]
    fn what_cannot_be_looked_at_does_not_make_letting_go_of_all_any_smaller() {
        let plan = removing(5, Action::LetGo, false);
        assert!(guard(&plan, &managed(6), &wanting(6, 0), Leave::Named(None)).is_err());
        assert!(guard(&plan, &managed(6), &wanting(6, 1), Leave::Named(None)).is_ok());
    }

    #[test]
    fn a_new_host_is_measured_by_what_it_is_to_have() {
        let plan = Plan { wanted: 111, ..removing(11, Action::Remove, false) };
        assert!(guard(&plan, &managed(0), &wanting(0, 0), Leave::Named(None)).is_ok());
    }
}
