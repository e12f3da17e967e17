//! What units judge in place is owed a verdict from before it is written. One that a pass which was cut short owes is
//! given before anything else is planned.

use super::bind::read_ledger;
use super::stop::At;
use super::{Ask, Looked};
use crate::apply::{self, Late};
use crate::host::Writer;
use crate::ledger::Ledger;
use crate::model::{Stage, Stop};
use crate::report::{Report, State};

/// Says what is not judged yet, to whoever only looks.
pub(super) fn tell(ledger: &Ledger, report: &mut Report) {
    let units = ledger.unjudged.sets.iter().filter(|(_, set)| !set.validate.is_empty());
    report.notes.extend(units.map(|(unit, _)| {
        let unit = unit.name();
        format!(
            "a pass was cut short before what {unit} uses was judged; the next one that may change it does that first"
        )
    }));
}

/// As [`super::look`]. Where a verdict is owed and the host may be changed, that is given first, and it is looked anew: what
/// was refused is as it was before. `report` is of the look that counts.
pub(super) fn look(host: &mut Writer, ask: &Ask, report: &mut Report) -> (Result<Looked, Stop>, Late) {
    let first = super::look(host, ask, report);
    // What goes back to what has settled here is judged by nobody, and all of the set goes back with it.
    let owes = |looked: &Looked| !looked.look_only && looked.undoing.is_none() && !looked.ledger.unjudged.is_empty();
    let Some(looked) = first.as_ref().ok().filter(|looked| owes(looked) && !host.interrupted()) else {
        return (first, Late::default());
    };
    let late = match judge(host, ask, looked) {
        Ok(late) => late,
        Err(stop) => return (Err(stop), Late::default()),
    };
    *report = Report { pass: ask.pass.clone(), ..Report::new(ask.command) };
    let mut looked = super::look(host, ask, report);
    looked.as_mut().map_or(report, |looked| &mut looked.report).notes.extend(late.notes.iter().cloned());
    (looked, late)
}

fn judge(host: &mut Writer, ask: &Ask, looked: &Looked) -> Result<Late, Stop> {
    let own = host.facts().at(Stage::Verify)?;
    // As it stands on disk: what the look has added to it belongs to what it planned.
    let (mut ledger, _) = read_ledger(host, &own, &mut Report::new(ask.command))?;
    apply::judge_late(host, &host.state(), &mut ledger, &looked.held.resting()).at(Stage::Apply)
}

/// What was refused and stands there all the same is told of the pass that found it so.
pub(super) fn insist(report: &mut Report, late: &Late) {
    if let Some(first) = late.stuck.first() {
        report.notes.extend(late.stuck.iter().cloned());
        report.raise(State::Degraded, apply::NOT_PUT_BACK, Some(first.clone()));
    }
}
