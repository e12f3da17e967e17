//! The last verified revision, compiled, in our own directory: drift is corrected from it for as long as
//! Git cannot be reached.

use serde::{Deserialize, Serialize};

use super::bind::{HostChanged, bind};
use super::stop::stop;
use super::{Ask, Looked, Weighed, names, weigh};
use crate::compile::{self, Compiled, Desired};
use crate::host::{DocumentError, Payloads, Reader, StateDir, StateError};
use crate::ledger::Ledger;
use crate::model::{Class, Digest, Facts, Revision, Stage, Stop};
use crate::report::{Report, State};
use crate::source::Record;

/// Bumped when an older trueup could misread what is written.
const FORMAT: u32 = 1;

/// A compiled revision with the pack of its payloads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    /// Which commit.
    pub(super) revision: Revision,
    /// What it wants of this host.
    pub(super) desired: Desired,
    /// The pack of its contents.
    pub(super) payloads: Digest,
}

impl Stored {
    /// What was stored last; `None` where nothing was, or only its previous copy is whole: that one is older,
    /// and hosts do not go back.
    ///
    /// # Errors
    /// Where it is there and cannot be believed.
    pub(super) fn load(state: &StateDir) -> Result<Option<Self>, DocumentError> {
        Ok(state.load("revision", FORMAT)?.filter(|document| !document.recovered).map(|document| document.value))
    }
}

/// Stores a revision with the pack of its payloads; what stands there already is not written again.
pub(super) fn store(
    state: &StateDir,
    revision: &Revision,
    desired: &Desired,
    payloads: &Payloads,
) -> Result<(), StateError> {
    let payloads = payloads.store(state)?;
    state.save("revision", FORMAT, &Stored { revision: revision.clone(), desired: desired.clone(), payloads })
}

/// Reasons for which nothing at all is to be done, not even what was good before.
const FINAL: &[&str] = &[
    "no-such-host",
    "host-changed",
    "other-machine",
    "unconfigured",
    "uncommitted",
    "state-damaged",
    "agent-too-old",
    "cannot-tell",
];

/// A host that is held keeps to the revision it has.
pub(super) fn held(revision: &Revision) -> Stop {
    Stop {
        stage: Stage::Verify,
        class: Class::Stalled,
        reason: "held".to_owned(),
        message: format!("update = \"hold\": {} is seen and not applied", revision.short()),
    }
}

/// As `look`, from what is stored, since the newest revision cannot be had: `why`.
pub(super) fn look(
    host: &Reader,
    ask: &Ask,
    report: &mut Report,
    (mut ledger, recovered): (Ledger, bool),
    own: &Facts,
    why: Stop,
) -> Result<Looked, Stop> {
    if FINAL.contains(&why.reason.as_str()) {
        return Err(why);
    }
    let Ok(Some(stored)) = Stored::load(&host.state()) else { return Err(why) };
    // Only what was acted on last: anything else may be older.
    let acted = |commit| Record::load(&host.state()).is_ok_and(|record| record.was_acted_on(commit));
    if !stored.revision.commit.as_ref().is_none_or(acted) {
        return Err(Stop { message: format!("{}; and our own copy is of another revision", why.message), ..why });
    }
    let mut payloads = Payloads::new();
    if !matches!(payloads.load(&host.state(), &stored.payloads), Ok(true)) {
        return Err(Stop {
            message: format!("{}; and our own copy of the last revision is not whole", why.message),
            ..why
        });
    }
    let Stored { revision, desired, .. } = stored;
    let names = compile::names_tried(ask.settings.host.name.as_deref(), ask.facts.as_ref().unwrap_or(own));
    let Some(is) = names.first() else { return Err(why) };
    if !names.contains(&desired.host) {
        return Err(stop(Stage::Compile, &HostChanged { was: desired.host, is: is.clone() }));
    }
    bind(&mut ledger, &desired.host, own).map_err(|error| stop(Stage::Compile, &error))?;
    report.host = Some(desired.host.clone());
    if report.revision.seen.is_none() {
        report.seen(&revision);
    }
    let state = match (why.class, why.reason.as_str()) {
        (_, "held") => State::Pending,
        (Class::Transient, _) => State::Degraded,
        (Class::Stalled, _) => State::Stalled,
    };
    report.notes.push(format!("keeping to {}", revision.short()));
    let compiled = Compiled { desired, payloads, notes: Vec::new(), machine_id: None, roles: Vec::new() };
    names::follow(host, &compiled.desired, &mut ledger);
    let Weighed { plan, desired, payloads, observe_only } = weigh(host, ask, report, &ledger, compiled)?;
    report.insist(state, &why);
    Ok(Looked {
        report: report.clone(),
        plan,
        desired,
        payloads,
        ledger,
        revision,
        forward: None,
        standing: Some((state, why)),
        observe_only,
        recovered,
    })
}
