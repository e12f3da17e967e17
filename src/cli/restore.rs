use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Ground, ask};
use crate::daemon::client::ClientError;
use crate::daemon::{Answer, Request};
use crate::host::{Payloads, Reader};
use crate::kinds::{Spec, file};
use crate::ledger::{self, Kept, Ledger, Why};
use crate::model::one_line;
use crate::reconcile;
use crate::report::{Report, RestoreStatus, age};

/// Give back what was overwritten.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// Which copy, as in `k-7f31`; without it, all copies are listed. Where the agent runs, what is given back is
    /// suspended for 4 hours, so that it stays
    id: Option<String>,
    /// Write its content to this file instead of where it came from
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    ground: Ground,
}

impl Restore {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        if let (Some(id), None) = (&self.id, &self.to) {
            let place = self.ground.place()?.with_progress(self.ground.progress());
            match self.ground.client(&place).and_then(|mut client| client.ask(&Request::Restore { copy: id.clone() })) {
                Ok(answer) => return self.answered(id, &answer, &place),
                // An agent without a source runs no pass that could do it.
                Err(ClientError::NotRunning) => {}
                Err(ClientError::Refused { reason, .. }) if reason == "unconfigured" => {}
                Err(error) => return ask::refused(&self.ground, "restore", error),
            }
        }
        let reader = self.ground.reader()?;
        let Some(id) = &self.id else {
            let (ledger, _) = ledger::load(&reader.state())?;
            return self.list(&ledger, reader.now());
        };
        // Settings that cannot be used keep nobody from getting back what is no secret.
        reader.identify(reconcile::settings(&reader).ok().and_then(|settings| settings.secrets.identity).as_deref());
        let mut host = super::take(reader)?;
        let own = host.facts()?;
        let (mut ledger, _) = reconcile::read_ledger(&host, &own, &mut Report::new("restore"))?;
        let kept = ledger
            .kept
            .iter()
            .find(|kept| kept.id == *id)
            .cloned()
            .with_context(|| format!("no copy is called {id}; `trueup restore` lists them"))?;
        if let Some(to) = &self.to {
            let payloads = Payloads::new().with_kept(host.state());
            let content = match kept.before.as_found() {
                Some(Spec::File(want)) => file::content(&host, &payloads, kept.resource.name(), &want)
                    .with_context(|| format!("the content of {id} cannot be had"))?,
                _ => None,
            };
            let content = content.with_context(|| {
                let what = kept.resource.as_str();
                format!(
                    "{id} of {what} is not of one file, so nothing is written to {}: trueup restore {id} puts it back",
                    to.display()
                )
            })?;
            let to = std::path::absolute(to)?;
            crate::host::write_new(&to, &content)?;
            return self.done(&ledger, &kept, Some(&to), None, host.now());
        }
        let replaced = reconcile::give_back(&mut host, &mut ledger, &kept)?;
        self.done(&ledger, &kept, None, replaced.as_deref(), host.now())
    }

    /// The agent has a pass do it, and suspends the resource, so that it stays: waits for what comes of that.
    fn answered(&self, id: &str, answer: &Answer, place: &Reader) -> anyhow::Result<u8> {
        place.say(&one_line(&answer.message, 200));
        let came = self.wait(id, place);
        place.say("");
        let came = match came {
            Ok(came) => came,
            Err(ClientError::Gone) => {
                anyhow::bail!("the agent ended before it came to {id}; the next one takes it up: trueup status")
            }
            Err(error) => return ask::refused(&self.ground, "restore", error),
        };
        let done = came.outcome == "done";
        if self.ground.json {
            let managed = ledger::load(&place.state()).is_ok_and(|(ledger, _)| {
                came.resource.parse().is_ok_and(|resource| ledger.entries.contains_key(&resource))
            });
            super::print_json(&serde_json::json!({
                "version": 1,
                "command": "restore",
                "id": id,
                "resource": came.resource,
                "to": null,
                "replaced": null,
                "managed": managed,
                "done": done,
                "message": came.message,
            }))?;
        } else if done {
            super::print(&format!("{}\n", one_line(&came.message, 1000)));
        } else {
            anyhow::bail!("{}", one_line(&came.message, 1000));
        }
        Ok(u8::from(!done))
    }

    /// What came of it, once a pass has come to it.
    fn wait(&self, id: &str, place: &Reader) -> Result<RestoreStatus, ClientError> {
        let mut came = None;
        self.ground.client(place)?.watch(|status| {
            // The newest is the last.
            let known = status.restores.into_iter().rfind(|one| one.copy == id);
            if let Some(running) = &status.running {
                place.say(&running.doing);
            }
            // None: another agent than the one that was asked.
            came = known;
            match &came {
                Some(one) if one.outcome == "pending" => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        })?;
        came.ok_or(ClientError::Gone)
    }

    fn done(
        &self,
        ledger: &Ledger,
        kept: &Kept,
        to: Option<&Path>,
        replaced: Option<&str>,
        now: i64,
    ) -> anyhow::Result<u8> {
        let Kept { id, resource, at, .. } = kept;
        let managed = ledger.entries.contains_key(resource);
        if self.ground.json {
            super::print_json(&serde_json::json!({
                "version": 1,
                "command": "restore",
                "id": id,
                "resource": resource,
                "to": to.map(Path::to_string_lossy),
                "replaced": replaced,
                "managed": managed,
            }))?;
            return Ok(0);
        }
        match to {
            Some(to) => super::print(&format!("{id}, as it stood at {resource}, is in {}\n", to.display())),
            None => super::print(&format!("{resource} is again as it stood {} ago ({id})\n", age(now - at))),
        }
        if let Some(copy) = replaced {
            super::print(&format!("What stood there until now is kept: trueup restore {copy}\n"));
        }
        if managed && to.is_none() {
            super::print("It is managed: the next pass puts it back unless the repository is changed to match.\n");
        }
        Ok(0)
    }

    fn list(&self, ledger: &Ledger, now: i64) -> anyhow::Result<u8> {
        if self.ground.json {
            let kept = ledger.kept.iter().map(shown).collect::<Result<Vec<_>, _>>()?;
            let document = serde_json::json!({ "version": 1, "command": "restore", "kept": kept });
            super::print_json(&document)?;
            return Ok(0);
        }
        if ledger.kept.is_empty() {
            super::print("Nothing is kept.\n");
        }
        let mut out = String::new();
        for Kept { id, resource, why, at, size, .. } in &ledger.kept {
            let why = match why {
                Why::Original => "original",
                Why::Edit => "edit",
            };
            let _ = writeln!(out, "{id:10} {why:9} {:>7} ago {size:>9} B  {resource}", age(now - at));
        }
        super::print(&out);
        Ok(0)
    }
}

/// A copy as JSON. From the digest of a short secret the secret can be guessed.
fn shown(kept: &Kept) -> serde_json::Result<serde_json::Value> {
    let mut copy = serde_json::to_value(kept)?;
    if kept.before.as_found().is_some_and(|spec| spec.is_secret())
        && let Some(serde_json::Value::Object(file)) = copy.pointer_mut("/before/file")
    {
        for hidden in ["digest", "size", "kept"] {
            file.remove(hidden);
        }
        file.insert("secret".to_owned(), true.into());
    }
    Ok(copy)
}
