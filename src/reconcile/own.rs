//! What decides whom this host believes, wherever root has put it: not for the repository to write.

use std::collections::{BTreeMap, BTreeSet};

use crate::compile::Desired;
use crate::config::Settings;
use crate::host::{self, Reader};
use crate::kinds::file::{Observed as File, Present, What, ancestors};
use crate::kinds::{Observed, Spec};
use crate::model::{Class, Id, Stage, Stop};

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
    let written = settings.trusted_files();
    let mut own: BTreeSet<String> = written.iter().filter_map(|path| path.to_str()).map(str::to_owned).collect();
    // Where that cannot be told it is not believed either, by whoever reads it.
    own.extend(written.iter().filter_map(|path| path.to_str()).filter_map(|path| host.leads_to(path).ok()));
    // Where root named no other key, those of the host open its secrets: without them nothing that is kept comes back.
    let secrets = desired.resources.values().any(|wanted| wanted.spec.is_secret());
    let keys: &[&str] = if secrets && settings.secrets.identity.is_none() { &host::HOST_KEYS } else { &[] };
    let above: BTreeSet<&str> = own.iter().flat_map(|path| ancestors(path)).collect();
    for (id, wanted) in &desired.resources {
        let Spec::File(spec) = &wanted.spec else { continue };
        let stays = matches!(spec.what, What::Directory | What::Attributes);
        let real = match observed.get(id) {
            Some(Ok(Observed::File(File::Present(Present { real: Some(real), .. })))) => real.as_str(),
            _ => id.name(),
        };
        let names = [id.name(), real];
        if spec.what != What::Attributes && names.iter().any(|name| keys.contains(name)) {
            let message = format!(
                "{id} ({}) is the key that opens the secrets of this host; name another in agent.toml (secrets.identity) first",
                wanted.layer
            );
            let (class, reason) = (Class::Stalled, "self-trust".to_owned());
            return Err(Stop { stage: Stage::Plan, class, reason, message });
        }
        if names.iter().any(|name| own.contains(*name) || !stays && above.contains(name)) {
            let message = format!(
                "{id} ({}) decides whom this host believes (agent.toml), which is not for the repository to write",
                wanted.layer
            );
            let (class, reason) = (Class::Stalled, "self-trust".to_owned());
            return Err(Stop { stage: Stage::Plan, class, reason, message });
        }
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
