//! What a first pass would make of what is wanted, for those who only ask.

use std::collections::{BTreeMap, BTreeSet};

use super::{observe, own, refused_whole, seconds, with_strangers};
use crate::brakes::Holds;
use crate::compile::Desired;
use crate::config::Settings;
use crate::host::{self, Reader};
use crate::kinds::Observed;
use crate::ledger::{self, Ledger};
use crate::model::{Id, Stop};
use crate::plan::{self, Leave, Plan, Situation};

/// What would come of it on a host of which nothing is known yet, but what its units have caught up with.
#[derive(Debug)]
pub struct First {
    /// What is wanted, with what would go from exclusive directories.
    pub desired: Desired,
    /// How each of it was found.
    pub observed: BTreeMap<Id, Result<Observed, host::Error>>,
    /// What would be done.
    pub plan: Plan,
    /// Why that would be refused whole.
    pub refused: Option<Stop>,
}

/// Looks at what is wanted and plans it. Nothing is changed.
pub fn first(host: &Reader, settings: &Settings, desired: Desired) -> First {
    let desired = with_strangers(host, settings, desired);
    // A unit that was restarted for a file is not for it over and over.
    let caught_up = ledger::look(&host.state()).map(|known| known.caught_up.clone()).unwrap_or_default();
    let ledger = Ledger { caught_up, ..Ledger::default() };
    let observed = observe(host, &desired, &ledger);
    let plan = plan::make(&Situation {
        ledger: &ledger,
        desired: &desired,
        observed: &observed,
        takeover: settings.policy.takeover,
        brought: &BTreeSet::new(),
        held: &Holds::default(),
        originals: seconds(settings.state.originals),
        now: host.now(),
    });
    let refused = own::refuse(host, settings, &desired, &observed)
        .and_then(|()| plan::guard(&plan, &ledger, &desired, Leave::Named(None)).map_err(|why| refused_whole(&why)));
    First { refused: refused.err(), desired, observed, plan }
}
