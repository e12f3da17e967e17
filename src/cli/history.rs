use std::fmt::Write as _;

use clap::Args;

use super::{Ground, ask};
use crate::daemon::client::ClientError;
use crate::host::Reader;
use crate::model::one_line;
use crate::reconcile;
use crate::report::{Palette, Passed, history_text, matching, passed_text};

/// Passes in which something happened, the newest first.
#[derive(Debug, Args)]
pub(super) struct History {
    /// Only those of this commit, or this pass, with all they did: the beginning of its id
    #[arg(value_name = "COMMIT|PASS")]
    which: Option<String>,
    /// How many at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    ground: Ground,
}

impl History {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let host = self.ground.place()?;
        let all = match all(&self.ground, &host) {
            Ok(all) => all,
            Err(error) => match error.downcast::<ClientError>() {
                Ok(error) => return ask::refused(&self.ground, "history", error),
                Err(error) => return Err(error),
            },
        };
        let (palette, now, zone) = (Palette::new(true), host.now(), host.zone());
        let Some(which) = &self.which else {
            let shown = &all[..all.len().min(self.limit)];
            if self.ground.json {
                self.print_json(shown)?;
            } else if all.is_empty() {
                super::print("Nothing has happened yet.\n");
            } else {
                super::print(&history_text(shown, now, palette));
            }
            return Ok(0);
        };
        let mut found = matching(&all, which);
        anyhow::ensure!(
            !found.is_empty(),
            "no pass of the last {} in which something happened has an id or a commit that begins with {} (four digits at least)",
            all.len(),
            one_line(which, 80)
        );
        found.truncate(self.limit);
        if self.ground.json {
            let found: Vec<Passed> = found.into_iter().cloned().collect();
            self.print_json(&found)?;
            return Ok(0);
        }
        let mut out = String::new();
        for (at, passed) in found.into_iter().enumerate() {
            let gap = if at == 0 { "" } else { "\n" };
            let _ = write!(out, "{gap}{}", passed_text(passed, now, &zone, palette));
        }
        super::print(&out);
        Ok(0)
    }

    fn print_json(&self, passes: &[Passed]) -> anyhow::Result<()> {
        super::print_json(&serde_json::json!({ "version": 1, "command": "history", "passes": passes }))
    }
}

/// What the agent remembers; where none runs, what is on disk, which is root's to read.
fn all(ground: &Ground, host: &Reader) -> anyhow::Result<Vec<Passed>> {
    match ground.client(host).and_then(|mut client| client.history(None)) {
        Ok(all) => Ok(all),
        Err(ClientError::NotRunning) => Ok(reconcile::history(&host.state())?),
        Err(error) => Err(error.into()),
    }
}
