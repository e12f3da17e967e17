//! A revision that was compiled already, by this very program and for the same facts, is taken from our own copy:
//! with nothing new a pass reads the commit that the branch names and no other object, and not that where a repository of
//! this machine is named on the command line and has it checked out still. Which secrets can be read follows
//! from the keys of this host: with others it is compiled anew.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::Ask;
use super::offline::Stored;
use crate::compile::Compiled;
use crate::host::{Payloads, Reader};
use crate::model::{Digest, Facts};
use crate::report::Report;
use crate::source::Origin;

/// What there is to know of a revision that was compiled besides what it wants.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// What compiling told, for people.
    pub(super) notes: Vec<String>,
    /// All that it follows from; none where it is compiled anew each time.
    pub(super) from: Option<Digest>,
    /// The commit as Git hashes it; see [`crate::source::Had`].
    pub(super) raw: Option<String>,
}

/// Everything that what is compiled follows from, as one digest; none where it cannot all be named, as of a directory.
pub(super) fn compiled_from(host: &Reader, ask: &Ask, facts: &Facts, origin: &Origin) -> Option<Digest> {
    let Origin::Git(source) = origin else { return None };
    // Another build may compile otherwise.
    let program = fs::metadata("/proc/self/exe").ok()?;
    let program = (program.dev(), program.ino(), program.size(), program.mtime(), program.mtime_nsec());
    let settings = (&ask.settings.host.name, ask.settings.policy.setid);
    let content = (source.revision().commit.as_ref()?, source.path());
    let keys = host.keyring().stamp();
    let all = (env!("CARGO_PKG_VERSION"), program, content, settings, facts, host.is_machine(), keys);
    serde_json::to_vec(&all).ok().map(|all| Digest::of(&all))
}

/// What stands in our own copy, if it is from the same; what compiling told is in `report` then. A copy that is not
/// whole is no failure: it is made anew.
pub(super) fn compiled_before(host: &Reader, from: Option<Digest>, report: &mut Report) -> Option<Compiled> {
    let stored = Stored::look(&host.state()).ok()??;
    if stored.compiled_from.is_none() || stored.compiled_from != from {
        return None;
    }
    // Its contents are read only where something is to be changed; one that was cut short is written anew.
    if host.state().size(&Payloads::pack_file(&stored.payloads)).ok()? != Some(stored.length) {
        return None;
    }
    let stored = Arc::unwrap_or_clone(stored);
    let payloads = Payloads::of_pack(stored.payloads);
    report.host = Some(stored.desired.host.clone());
    report.notes.extend(stored.notes);
    Some(Compiled { desired: stored.desired, payloads, notes: Vec::new(), machine_id: None, roles: Vec::new() })
}
