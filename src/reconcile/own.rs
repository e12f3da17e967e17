//! What decides whom this host believes, wherever root has put it: not for the repository to write.

use std::collections::{BTreeMap, BTreeSet};

use crate::compile::Desired;
use crate::config::Settings;
use crate::host::{self, Reader};
use crate::kinds::file::{Observed as File, Present, What, ancestors};
use crate::kinds::{Observed, Spec};
use crate::model::{Class, Id, Stage, Stop};

const OPENS_SECRETS: &str =
    "is the key that opens the secrets of this host; name another in agent.toml (secrets.identity) first";
const IS_BELIEVED: &str = "decides whom this host believes (agent.toml), which is not for the repository to write";

/// Files that are this host's own, by every name that is known of them.
#[derive(Debug)]
pub struct Own {
    /// What the agent's settings name.
    trusted: BTreeSet<String>,
    /// The directories that those lie in.
    above: BTreeSet<String>,
    /// Where root named no other key, those of the host open its secrets: without them nothing that is kept comes back.
    keys: &'static [&'static str],
}

impl Own {
    /// Those of this host.
    pub fn of(host: &Reader, settings: &Settings) -> Self {
        let written = settings.trusted_files();
        let written = || written.iter().filter_map(|path| path.to_str());
        let mut trusted: BTreeSet<String> = written().map(str::to_owned).collect();
        // Where that cannot be told it is not believed either, by whoever reads it.
        trusted.extend(written().filter_map(|path| host.leads_to(path).ok()));
        let above = trusted.iter().flat_map(|path| ancestors(path)).map(str::to_owned).collect();
        let keys: &[&str] = if settings.secrets.identity.is_none() { &host::HOST_KEYS } else { &[] };
        Self { trusted, above, keys }
    }

    /// Why a file or link at `path` is not for a repository that has secrets for this host.
    pub fn refuses(&self, path: &str) -> Option<&'static str> {
        if self.keys.contains(&path) {
            return Some(OPENS_SECRETS);
        }
        (self.trusted.contains(path) || self.above.contains(path)).then_some(IS_BELIEVED)
    }
}

/// Refuses whole what declares a file of the agent's settings, by whatever name, or takes away a directory it lies in.
///
/// # Errors
/// `self-trust`, with both.
pub(super) fn refuse(
    host: &Reader,
    settings: &Settings,
    desired: &Desired,
    observed: &BTreeMap<Id, Result<Observed, host::Error>>,
) -> Result<(), Stop> {
    let mut own = Own::of(host, settings);
    if !desired.resources.values().any(|wanted| wanted.spec.is_secret()) {
        own.keys = &[];
    }
    for (id, wanted) in &desired.resources {
        let Spec::File(spec) = &wanted.spec else { continue };
        let stays = matches!(spec.what, What::Directory | What::Attributes);
        let real = match observed.get(id) {
            Some(Ok(Observed::File(File::Present(Present { real: Some(real), .. })))) => real.as_str(),
            _ => id.name(),
        };
        let names = [id.name(), real];
        let why = if spec.what != What::Attributes && names.iter().any(|name| own.keys.contains(name)) {
            OPENS_SECRETS
        } else if names.iter().any(|name| own.trusted.contains(*name) || !stays && own.above.contains(*name)) {
            IS_BELIEVED
        } else {
            continue;
        };
        let message = format!("{id} ({}) {why}", wanted.layer);
        return Err(Stop { stage: Stage::Plan, class: Class::Stalled, reason: "self-trust".to_owned(), message });
    }
    Ok(())
}

/// Of a revision that was compiled while this host allowed them, what sets setuid, setgid and sticky bits is not touched
/// once it does not any more.
pub(super) fn refuse_setid(
    settings: &Settings,
    desired: &Desired,
    observed: &mut BTreeMap<Id, Result<Observed, host::Error>>,
) {
    if settings.policy.setid {
        return;
    }
    for (id, wanted) in &desired.resources {
        if let Spec::File(spec) = &wanted.spec
            && let Some(mode) = spec.mode.filter(|mode| mode & 0o7000 != 0)
        {
            let why = format!(
                "mode {mode:04o} sets setuid, setgid or sticky, which this host does not allow any more: setid in [policy] \
                 of agent.toml"
            );
            let refused = host::Error::Refused { thing: id.name().to_owned(), reason: "setid", why };
            observed.insert(id.clone(), Err(refused));
        }
    }
}
