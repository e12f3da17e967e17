//! What would come of a plan here. Pure.

use crate::host;
use crate::kinds;
use crate::model::{Id, Stop};
use crate::reconcile::First;

/// What a plan here would change, and why it would be refused.
#[derive(Debug)]
pub(super) struct Outlook {
    pub(super) differences: Vec<Difference>,
    /// Why it would be refused whole.
    pub(super) refused: Option<Stop>,
}

/// Something that a plan here would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) id: Id,
    pub(super) changes: Vec<String>,
    /// `mode`, `content`…, each once.
    pub(super) properties: Vec<String>,
    pub(super) layer: String,
}

impl Outlook {
    pub(super) fn of(first: First) -> Self {
        let differs = |(id, seen): (&Id, &Result<kinds::Observed, host::Error>)| {
            let wanted = first.desired.resources.get(id)?;
            let found = seen.as_ref().map(|seen| wanted.spec.diff(seen));
            let properties = found.iter().flatten().map(|change| change.property.clone()).collect();
            let changes: Vec<String> = match found {
                Ok(found) => found.iter().map(ToString::to_string).collect(),
                // Told as deferred by every pass below a directory.
                Err(error) if error.reason() == "deferred" => Vec::new(),
                Err(error) => vec![error.chain()],
            };
            let layer = wanted.layer.clone();
            (!changes.is_empty()).then(|| Difference { id: id.clone(), changes, properties, layer })
        };
        let mut differences: Vec<Difference> = first.observed.iter().filter_map(differs).collect();
        // As declared, and running something older than stands there.
        let behind = first.plan.steps.iter().filter(|step| step.remedy().is_some()).map(|step| Difference {
            id: step.id.clone(),
            changes: step.changes.iter().map(ToString::to_string).collect(),
            properties: Vec::new(),
            layer: step.layer.clone(),
        });
        differences.extend(behind);
        differences.sort_by(|a, b| a.id.cmp(&b.id));
        Self { differences, refused: first.refused }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::brakes::Holds;
    use crate::compile::{Desired, Wanted};
    use crate::kinds::{Observed, Refresh, Spec, unit};
    use crate::ledger::Ledger;
    use crate::model::{Drift, Release, Takeover};
    use crate::plan::{self, Situation};

    /// Of a unit that is declared to run, and runs something older in these ways.
    fn told(enabled: bool, drift: Drift, behind: &[(unit::Why, Option<Refresh>)]) -> Vec<String> {
        let id = Id::new("unit", "app.service");
        let spec = Spec::Unit(unit::Spec { active: Some(true), enabled: Some(true), ..unit::Spec::default() });
        let layer = "hosts/web-01".to_owned();
        let wanted = Wanted { spec, drift, release: Release::Restore, layer, exclusive: None, stranger_of: None };
        let path = vec!["/etc/systemd/system/app.service.d/a.conf".to_owned()];
        let seen = unit::Observed {
            load: unit::Load::Loaded,
            file: if enabled { unit::FileState::Enabled } else { unit::FileState::Disabled },
            main: Some(7),
            behind: behind
                .iter()
                .map(|(why, remedy)| unit::Behind { why: *why, paths: path.clone(), remedy: *remedy })
                .collect(),
            ..unit::Observed::nothing(Some(unit::Active::Active))
        };
        let desired = Desired {
            host: String::new(),
            resources: BTreeMap::from([(id.clone(), wanted)]),
            update: None,
            max_removals: None,
            checks: BTreeMap::new(),
            unlisted: BTreeMap::new(),
        };
        let observed = BTreeMap::from([(id, Ok(Observed::Unit(seen)))]);
        let plan = plan::make(&Situation {
            ledger: &Ledger::default(),
            desired: &desired,
            observed: &observed,
            takeover: Takeover::Adopt,
            brought: &BTreeSet::new(),
            held: &Holds::default(),
            originals: 9,
            now: 0,
        });
        let outlook = Outlook::of(First { desired, observed, plan, refused: None });
        outlook.differences.iter().map(|one| format!("{} {}", one.id, one.changes.join(", "))).collect()
    }

    #[test]
    fn a_unit_that_a_plan_would_restart_is_told_once_and_what_is_only_told_is_not() {
        let file = (unit::Why::OlderUnitFile, Some(Refresh::Restart));
        let library = (unit::Why::ReplacedLibrary, None);
        let wanted = "unit:app.service runs by an older unit file than there is \
                      (/etc/systemd/system/app.service.d/a.conf) → restart";
        assert_eq!(told(true, Drift::Correct, &[file, library]), [wanted]);
        assert_eq!(told(true, Drift::Correct, &[library]), Vec::<String>::new());
        assert_eq!(told(true, Drift::Report, &[file]), Vec::<String>::new());
        assert_eq!(told(false, Drift::Correct, &[file]), ["unit:app.service disabled → enabled"]);
    }
}
