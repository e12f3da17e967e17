//! One path may have been managed under another name before: a directory was moved and a link left in its place.

use std::collections::BTreeMap;

use crate::brakes::{Held, Holds};
use crate::compile::Desired;
use crate::host::Reader;
use crate::kinds::{self, Spec, file};
use crate::ledger::Ledger;
use crate::model::Id;

/// What is no longer declared and is, by way of a link, what is declared under another name goes on under that
/// name: it is not let go, and what stood there before stays known.
pub(super) fn follow(host: &Reader, desired: &Desired, ledger: &mut Ledger) {
    let file = |id: &&Id| id.kind() == "file";
    let gone: Vec<Id> =
        ledger.entries.keys().filter(file).filter(|id| !desired.resources.contains_key(id)).cloned().collect();
    if gone.is_empty() {
        return;
    }
    let declared = declared(host, desired);
    for old in gone {
        let Some(new) = real(host, &old).and_then(|path| declared.get(&path)) else { continue };
        if linked_by_us(desired, &old) && !holds(host, ledger, &old, new) {
            continue;
        }
        if let Some(entry) = ledger.entries.remove(&old) {
            ledger.entries.entry((*new).clone()).or_insert(entry);
        }
    }
}

/// The link on the way may be one that trueup made: then what stands behind it need not be what was moved there.
fn linked_by_us(desired: &Desired, old: &Id) -> bool {
    let mut above = file::ancestors(old.name()).map(|path| Id::new("file", path));
    above.any(|above| desired.resources.get(&above).is_some_and(|wanted| wanted.spec.is_link()))
}

/// What was applied under the name `old` stands at `new`.
fn holds(host: &Reader, ledger: &Ledger, old: &Id, new: &Id) -> bool {
    let seen = kinds::observe(host, &[new]).pop();
    let Some((Ok(seen), entry)) = seen.zip(ledger.entries.get(old)) else { return false };
    entry.intended.as_deref().into_iter().chain(&entry.applied).any(|spec| spec.diff(&seen).is_empty())
}

/// What is suspended under a name that is no longer declared is suspended under the one that is.
pub(super) fn suspend(host: &Reader, desired: &Desired, ledger: &Ledger, holds: &mut Holds) {
    let is_suspended = |held: &Held| matches!(held, Held::Suspended { .. });
    let old: Vec<(Id, Held)> = holds
        .resources
        .iter()
        .filter(|(id, held)| id.kind() == "file" && is_suspended(held) && !desired.resources.contains_key(id))
        .map(|(id, held)| (id.clone(), held.clone()))
        .collect();
    if old.is_empty() {
        return;
    }
    let declared = declared(host, desired);
    for (old, why) in old {
        // A directory of ours that is a link by now was moved; any other link is itself what is suspended.
        let was_directory = ledger
            .entries
            .get(&old)
            .and_then(|entry| entry.applied.as_ref())
            .is_some_and(|spec| matches!(spec, Spec::File(file::Spec { what: file::What::Directory, .. })));
        let path = if was_directory { target(host, &old) } else { real(host, &old) };
        let Some(new) = path.and_then(|path| declared.get(&path)) else { continue };
        if !holds.resources.get(*new).is_some_and(is_suspended) {
            holds.resources.insert((*new).clone(), why);
        }
    }
}

/// The declared files by where they really are.
fn declared<'d>(host: &Reader, desired: &'d Desired) -> BTreeMap<String, &'d Id> {
    let files = desired.resources.keys().filter(|id| id.kind() == "file");
    files.filter_map(|id| Some((real(host, id)?, id))).collect()
}

/// Where it really is. What cannot be resolved is told by the look at it.
fn real(host: &Reader, id: &Id) -> Option<String> {
    host.canonical(id.name()).ok()
}

/// Where it really is, as a directory: a link in its place is followed.
fn target(host: &Reader, id: &Id) -> Option<String> {
    let inside = host.canonical(&format!("{}/.inside", id.name())).ok()?;
    inside.strip_suffix("/.inside").map(ToOwned::to_owned)
}
