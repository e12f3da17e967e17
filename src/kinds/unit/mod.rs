//! systemd units of any type. The name is the full unit name, `nginx.service`.
//!
//! What to do is told by pure rules over what was observed. On a machine systemd itself is asked, over
//! D-Bus; in a directory that stands for a machine only unit files and their links are there to see.

use std::collections::BTreeSet;

use crate::host::{self, Payloads, Reader, Writer};
use crate::kinds::{Around, Job, Kind, Need, Phase, Refresh};
use crate::model::{Change, Id};

mod anew;
mod directory;
mod drop_ins;
mod effective;
mod install;
mod links;
mod machine;
mod name;
mod processes;
mod rules;
mod spec;
mod start_files;
mod state;

pub use drop_ins::strange as strange_drop_ins;
pub use effective::{Behind, Why, advice};
use install::Install;
pub use links::{Coming, Enablement, Follow, Links, View, all as all_links, follow};
pub use name::{DIRECTORIES, TYPES, is_valid};
pub use processes::{Declared, behind};
pub use rules::{falls_back, is_its_file, may_define, only_waits, starts, unit_files, used};
pub use spec::{OnChange, ReloadFailed, Spec};
pub use start_files::add as add_start_files;
pub use state::{Active, Before, Fails, FileState, Load, Observed};

/// The kind whose word is `unit`.
#[derive(Debug)]
pub struct Unit;

impl Kind for Unit {
    const WORD: &'static str = "unit";
    type Spec = Spec;
    type Observed = Observed;
    type Before = Before;

    fn describe(want: &Spec) -> String {
        rules::describe(want)
    }

    fn fallen(name: &str, _: &Spec, seen: &Observed) -> Option<host::Error> {
        rules::fallen(name, seen)
    }

    fn without(name: &str, want: &Spec, goes: &dyn Fn(&Id) -> bool) -> Option<Spec> {
        let file = rules::unit_files(name).iter().any(|path| goes(&Id::new("file", path)));
        file.then(|| Spec { enabled: Some(false), active: Some(false), masked: want.masked, ..want.clone() })
    }

    fn deferred(name: &str, want: &Spec, seen: &Observed, declared: &dyn Fn(&Id) -> bool) -> Option<&'static str> {
        let here = rules::unit_files(name).iter().any(|path| declared(&Id::new("file", path)));
        let missing = seen.active.is_none() && seen.is_absent() && rules::wants_on(want) && !here;
        missing.then_some("its unit file is not below this directory; its package brings it on the machine")
    }

    fn invocation(seen: &Observed) -> Option<&str> {
        seen.invocation.as_deref()
    }

    fn diff(want: &Spec, seen: &Observed) -> Vec<Change> {
        rules::diff(want, seen)
    }

    fn is_absent(seen: &Observed) -> bool {
        seen.is_absent()
    }

    /// A unit that is stopped or masked is still there.
    fn removes(_: &Spec) -> bool {
        false
    }

    fn phase(_: &str, _: &Spec, changes: &[Change]) -> Phase {
        rules::phase(changes)
    }

    fn needs(name: &str, want: &Spec) -> Vec<Need> {
        rules::needs(name, want)
    }

    fn refresh(name: &str, want: &Spec, seen: &Observed, changed: &BTreeSet<Id>) -> Option<Refresh> {
        rules::refresh(name, want, seen, changed)
    }

    fn declared_used(name: &str, want: &Spec, changed: &BTreeSet<Id>) -> Vec<Id> {
        rules::used(name, want, &[], changed)
    }

    fn used(name: &str, want: &Spec, seen: &Observed, changed: &BTreeSet<Id>) -> Vec<Id> {
        rules::used(name, want, &seen.start_files, changed)
    }

    fn before(seen: &Observed) -> Before {
        Before::from(seen)
    }

    fn put_back(before: &Before, last: &Spec) -> Option<Spec> {
        Some(rules::put_back(before, last))
    }

    fn observe(host: &Reader, names: &[&str]) -> Vec<Result<Observed, host::Error>> {
        if host.is_machine() { machine::observe(host, names) } else { directory::observe(host, names) }
    }

    fn apply(
        host: &mut Writer,
        _: &Payloads,
        jobs: &[Job<'_, Self>],
        around: &Around<'_>,
    ) -> Vec<Result<(), host::Error>> {
        if host.is_machine() {
            machine::apply(host, jobs, around.enablement)
        } else {
            directory::apply(host, jobs, around.enablement)
        }
    }
}

/// What one unit is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn<'a> {
    /// Its name.
    pub name: &'a str,
    /// What.
    pub how: Refresh,
    /// Which run of it has to, by its invocation: another one has read everything anew. None where that is not known.
    pub run: Option<&'a str>,
}

/// Does what [`Kind::refresh`] found to be due, in one batch; each answers for itself, in order. In a
/// directory nothing runs, and nothing is done.
pub fn refresh(host: &mut Writer, turns: &[Turn<'_>]) -> Vec<Result<(), host::Error>> {
    if host.is_machine() { machine::refresh(host, turns) } else { turns.iter().map(|_| Ok(())).collect() }
}

/// Has systemd forget those of `names` that failed and have no unit file any more: they would be told as failed, and the
/// whole system as degraded, until the next boot.
pub fn forget_failed(host: &mut Writer, names: &[&str]) {
    if host.is_machine() {
        machine::forget_failed(host, names);
    }
}

/// Which run each of `names` is now, by its invocation. None where it never ran, or where that is not to be told.
pub fn runs(host: &Reader, names: &[&str]) -> Vec<Option<String>> {
    let Some(bus) = host.bus().ok().filter(|_| host.is_machine() && !names.is_empty()) else {
        return vec![None; names.len()];
    };
    names.iter().map(|name| bus.invocation(name).ok().flatten()).collect()
}

/// Those of `names` that systemd can only restart, though they are to be reloaded. What it does not tell is found when
/// it is tried.
pub fn without_reload<'n>(host: &Reader, names: &[&'n str]) -> Vec<&'n str> {
    let Some(bus) = host.bus().ok().filter(|_| host.is_machine() && !names.is_empty()) else { return Vec::new() };
    let can = bus.can_reload(names);
    names.iter().zip(can).filter(|(_, can)| matches!(can, Ok(false))).map(|(name, _)| *name).collect()
}

/// The canonical path of the unit file that systemd has read for `name`; `None` where it has none, or does not tell.
pub fn file_of(host: &Reader, name: &str) -> Option<String> {
    let path = host.bus().ok()?.fragment(name).ok().filter(|path| !path.is_empty())?;
    host.canonical(&path).ok()
}
