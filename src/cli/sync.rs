use std::ops::ControlFlow;

use clap::Args;

use super::{Ground, ask};
use crate::daemon::Request;
use crate::daemon::client::ClientError;
use crate::host::Reader;
use crate::model::one_line;
use crate::report::{Palette, Status, change_line, lines_text};

/// How many passes are looked through for the one that was waited for.
const RECENT: u64 = 10;
/// How many characters of the id of a pass are its time.
const TIME: usize = 10;

/// Look at the source and the host now, and wait for what comes of it.
#[derive(Debug, Args)]
pub(super) struct Sync {
    /// Allow the guard to let this many removals pass, once
    #[arg(long, value_name = "N")]
    allow_removals: Option<u64>,
    #[command(flatten)]
    ground: Ground,
}

impl Sync {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let host = self.ground.place()?.with_progress(self.ground.progress());
        match self.sync(&host) {
            Ok(code) => Ok(code),
            Err(error) => {
                host.say("");
                match error.downcast::<ClientError>() {
                    Ok(error) => ask::refused(&self.ground, "sync", error),
                    Err(error) => Err(error),
                }
            }
        }
    }

    fn sync(&self, host: &Reader) -> anyhow::Result<u8> {
        let request = Request::Sync { allow_removals: self.allow_removals };
        let answer = self.ground.client(host)?.ask(&request)?;
        host.say(&one_line(&answer.message, 200));
        let status = match &answer.pass {
            Some(pass) => self.wait(host, pass)?,
            None => self.ground.client(host)?.status()?,
        };
        host.say("");
        // Whoever asked for a look at the source is not to think that there was one.
        let silent = status.source.as_ref().filter(|source| source.failing_since.is_some());
        let code = if silent.is_some() { status.state.exit_code().max(1) } else { status.state.exit_code() };
        if self.ground.json {
            super::print_json(&status)?;
            return Ok(code);
        }
        let palette = Palette::new(true);
        // What it did is worth telling and never worth failing for.
        let history = self.ground.client(host).and_then(|mut client| client.history(Some(RECENT))).unwrap_or_default();
        if let Some(passed) = history.iter().find(|passed| answer.pass.as_ref() == Some(&passed.pass)) {
            super::print(&lines_text(passed, palette));
        }
        if let Some(source) = silent {
            let error = source.error.as_deref().unwrap_or("no answer");
            super::print(&format!("  the look at the source failed: {}\n", one_line(error, 600)));
        }
        super::print(&format!("{}\n", change_line(&status, palette)));
        Ok(code)
    }

    /// The status once `pass` has ended.
    fn wait(&self, host: &Reader, pass: &str) -> anyhow::Result<Status> {
        let mut ended = None;
        self.ground.client(host)?.watch(|status| {
            if over(status.last.as_ref().map(|last| last.pass.as_str()), pass) {
                ended = Some(status);
                return ControlFlow::Break(());
            }
            if let Some(running) = &status.running {
                host.say(&running.doing);
            }
            ControlFlow::Continue(())
        })?;
        ended.ok_or_else(|| anyhow::anyhow!("the agent ended before the pass did; trueup status tells how things are"))
    }
}

/// Whether `pass` has ended, by what ran last. A watcher may miss statuses, so one that came later does as well; that
/// it no longer runs says nothing: where somebody else was at work it is begun again.
fn over(last: Option<&str>, pass: &str) -> bool {
    let later = |last: &str| last.get(..TIME) > pass.get(..TIME);
    last.is_some_and(|last| last == pass || later(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_pass_is_seen_though_statuses_were_missed() {
        let (before, ours) = ("01JD0000010000000000000000", "01JD0000020000000000000000");
        let (same_time, after) = ("01JD000002ZZZZZZZZZZZZZZZZ", "01JD0000030000000000000000");
        assert!(!over(None, ours));
        assert!(!over(Some(before), ours), "not begun yet, or another runs first");
        assert!(!over(Some(same_time), ours), "which of the two came first cannot be told");
        assert!(over(Some(ours), ours));
        assert!(over(Some(after), ours), "its end was missed");
    }
}
