//! Whose ledger it is.

use super::stop::At;
use crate::host::Reader;
use crate::ledger::{self, Binding, Ledger};
use crate::model::{Class, Facts, Id, Stage, Stop};
use crate::report::{Report, State};

/// The ledger, if it is this machine's; that of a cloned disk is not believed: all is adopted anew. The second
/// value says that the file is damaged, and this its previous copy.
///
/// # Errors
/// Where it cannot be believed, or it cannot be told whose it is.
pub fn read_ledger(host: &Reader, own: &Facts, report: &mut Report) -> Result<(Ledger, bool), Stop> {
    let (mut ledger, recovered) = ledger::load(&host.state()).at(Stage::Verify)?;
    made_before_a_crash(host, &mut ledger);
    if recovered {
        let message = "the ledger was damaged; its previous copy is used, and what was done since is found anew";
        report.raise(State::Degraded, "state-damaged", Some(message.to_owned()));
    }
    let Some(bound) = ledger.bound.as_ref().and_then(|bound| bound.machine_id.as_ref()) else {
        return Ok((ledger, recovered));
    };
    match &own.machine_id {
        Some(own) if own == bound => Ok((ledger, recovered)),
        Some(_) => {
            let note = "the ledger is of another machine (a cloned disk?): everything is adopted anew";
            report.notes.push(note.to_owned());
            Ok((Ledger::default(), false))
        }
        None => Err(Stop {
            stage: Stage::Verify,
            class: Class::Transient,
            reason: "cannot-tell".to_owned(),
            message: "this machine has no machine id (/etc/machine-id), and its ledger is bound to one".to_owned(),
        }),
    }
}

/// A pass that was cut short may have made directories on the way to something and not said so: those that look like
/// it and hold nobody else's. Whatever else stands there by now, somebody else made.
fn made_before_a_crash(host: &Reader, ledger: &mut Ledger) {
    let making = std::mem::take(&mut ledger.making);
    let known = |path: &str| {
        ledger.entries.contains_key(&Id::new("file", path)) || ledger.implied.contains(path) || making.contains(path)
    };
    let ours = |path: &&String| {
        let names = host.made_between(path).ok().flatten();
        names.is_some_and(|names| names.iter().all(|name| known(&format!("{path}/{name}"))))
    };
    let ours: Vec<String> = making.iter().filter(ours).cloned().collect();
    ledger.implied.extend(ours);
}

/// The ledger is bound to the name it was made under.
pub(super) fn bind(ledger: &mut Ledger, host: &str, facts: &Facts) -> Result<(), HostChanged> {
    match &mut ledger.bound {
        Some(bound) if bound.host != host => Err(HostChanged { was: bound.host.clone(), is: host.to_owned() }),
        Some(bound) => {
            // There was none yet when it was bound: from now on a clone is known by it.
            if bound.machine_id.is_none() {
                bound.machine_id.clone_from(&facts.machine_id);
            }
            Ok(())
        }
        None => {
            ledger.bound = Some(Binding { host: host.to_owned(), machine_id: facts.machine_id.clone() });
            Ok(())
        }
    }
}

/// This host selects another directory than the one it was converged to.
#[derive(Debug, thiserror::Error)]
#[error(
    "this host was converged as {was} and now selects hosts/{is}; nothing is applied until root says: trueup rebind {is}"
)]
pub(super) struct HostChanged {
    pub(super) was: String,
    pub(super) is: String,
}
