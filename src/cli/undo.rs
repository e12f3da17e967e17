use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::Ground;
use crate::apply::Due;
use crate::host::{LockError, Reader, Writer};
use crate::reconcile;
use crate::report::journal::Told;
use crate::report::{Palette, State, result_text};

/// How long whoever holds the lock has to let go of it, once the agent was ended.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// What the timer of a change that has not settled asks for.
#[derive(Debug, Args)]
pub(super) struct Undo {
    /// This host is coming up: only files, and what is started from now on
    #[arg(long)]
    boot: bool,
}

impl Undo {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let ground = Ground { root: None, json: false };
        let reader = ground.reader()?;
        let Some(due) = reconcile::is_due(&reader, self.boot)? else {
            // Where the agent ended before it stopped the timer, that goes on for nothing. Who has the lock may be arming.
            if let Ok(mut host) = Writer::take(reader) {
                reconcile::rest(&mut host)?;
            }
            return Ok(0);
        };
        let restart = !self.boot && reader.agent_is_wanted()?;
        if !self.boot {
            reader.end_agent()?;
        }
        let done = take(&ground).and_then(|mut host| {
            let owed = restart || reconcile::owes_an_agent(&host);
            Ok((self.strike(&mut host, &due, restart)?, owed))
        });
        // Whoever was ended before, and not started again since this one was ended too.
        let owed = done.as_ref().map_or(restart, |(_, owed)| *owed);
        if !self.boot && owed {
            reader.start_agent()?;
        }
        done.map(|(code, _)| code)
    }

    fn strike(&self, host: &mut Writer, due: &Due, restart: bool) -> anyhow::Result<u8> {
        let Some(mut report) = reconcile::strike(host, super::executable()?, due, (restart, self.boot))? else {
            return Ok(0);
        };
        reconcile::tell(host, &mut Told::default(), &Told::default(), &report);
        reconcile::remember_pass(host, &mut report);
        super::print(&result_text(&report, Palette::new(true)));
        // That it was undone is what was asked for.
        Ok(if report.state < State::Stalled { 0 } else { report.state.exit_code() })
    }
}

/// Takes the lock, from whichever trueup holds it.
fn take(ground: &Ground) -> anyhow::Result<Writer> {
    let begun = Instant::now();
    loop {
        let reader: Reader = ground.reader()?;
        let holder = match Writer::take(reader) {
            Ok(host) => return Ok(host),
            Err(LockError::Held { holder }) if begun.elapsed() < PATIENCE * 2 => holder,
            Err(error) => return Err(error.into()),
        };
        if begun.elapsed() >= PATIENCE {
            let _ = holder.is_some_and(|pid| ground.place().is_ok_and(|host| host.end_trueup(pid)));
        }
        thread::sleep(PAUSE);
    }
}
