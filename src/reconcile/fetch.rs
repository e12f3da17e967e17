//! Where a pass starts from.

use super::Ask;
use super::offline::Stored;
use super::stop::{At, stop};
use crate::host::Reader;
use crate::model::{Class, Stage, Stop};
use crate::report::journal;
use crate::source::{Had, Known, Origin, Record, Source};

/// The tip of the branch, or the directory that stands for one.
pub(super) fn fetch(host: &Reader, ask: &Ask, record: &Record) -> Result<Origin, Stop> {
    let stalled = |reason: &str, message: String| Stop {
        stage: Stage::Fetch,
        class: Class::Stalled,
        reason: reason.to_owned(),
        message,
    };
    if let Some(path) = &ask.local {
        let subdirectory = ask.settings.source.as_ref().map_or("", |source| source.path.as_str());
        let stored = Stored::look(&host.state()).ok().flatten();
        let had = stored.as_ref().and_then(|stored| {
            let Stored { revision, raw, .. } = stored.as_ref();
            Some(Had { commit: revision.commit.as_ref()?, raw: raw.as_deref()? })
        });
        let origin = Origin::local(path, subdirectory, &ask.worker, had).at(Stage::Fetch)?;
        if origin.tip().commit.is_some() || !host.is_machine() {
            return Ok(origin);
        }
        let path = path.display();
        let message = format!(
            "{path} is not under Git; a machine is converged to commits only (with --root a directory is enough)"
        );
        return Err(stalled("uncommitted", message));
    }
    let Some(source) = &ask.settings.source else {
        let message = "no source is configured: set url in [source] of /etc/trueup/agent.toml, or give --repo";
        return Err(stalled("unconfigured", message.to_owned()));
    };
    if let Some(why) = &ask.not_now {
        return Err(why.clone());
    }
    // Each worker is ended at its own limit, and there is one for each URL that does not answer; what the last brings is
    // asked for piece by piece.
    host.waits(source.timeout * u32::try_from(source.urls.len()).unwrap_or(u32::MAX));
    let floor = ask.settings.trust.floor.as_ref();
    let patience = if ask.patient { journal::BLINK } else { 0 };
    let known = Known { health: &ask.health, record, floor, clock: &|| host.now(), patience };
    match Source::seek(source, &ask.worker, &known) {
        Ok(source) => Ok(Origin::Git(Box::new(source))),
        Err(error) => Err(stop(Stage::Fetch, &error)),
    }
}
