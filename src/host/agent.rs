//! The agent of this machine, as whoever has to end it sees it: without the lock, which it holds.

use std::cell::Cell;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Error, Program, Reader};

/// The agent, and what would start it for whoever asks.
const UNIT: &str = "trueup.service";
const SOCKET: &str = "trueup.socket";
/// How long the service manager may take to answer.
const LIMIT: Duration = Duration::from_secs(30);

/// In memory, so that a reboot forgets it.
const ALIVE: &str = "/run/trueup/alive";
/// How often it is written at most, where nothing else is to be said.
const OFTEN: Duration = Duration::from_secs(2);
/// Silence that is worth announcing.
const LONG: Duration = Duration::from_secs(60);

/// When whoever has the lock showed last that it is at work, and that it may be silent from then on.
#[derive(Debug, Default)]
pub(super) struct Alive {
    acting: Cell<bool>,
    /// When, and whether silence was announced.
    shown: Cell<Option<(Instant, bool)>>,
}

impl Reader {
    /// From now on this is what has the lock.
    pub(super) fn acts(&self) {
        self.alive.acting.set(self.machine);
    }

    /// Work goes on, and what is waited for ends by itself within `limit`: for whoever would take it for dead.
    pub(super) fn goes_on(&self, limit: Duration) {
        let long = limit > LONG;
        let lately = self.alive.shown.get().is_some_and(|(at, silent)| at.elapsed() < OFTEN && !silent);
        if self.alive.acting.get() && (long || !lately) {
            self.alive.shown.set(Some((Instant::now(), long)));
            self.show_alive(if long { limit } else { Duration::ZERO });
        }
    }

    /// Shows that work goes on here, and may go on in silence for so long.
    pub fn show_alive(&self, limit: Duration) {
        let Ok(now) = self.uptime() else { return };
        let path = self.below_root(ALIVE);
        let staged = path.with_extension("new");
        // Where it cannot be shown what watches goes by the beginning.
        let _ = std::fs::write(&staged, (now.seconds + limit.as_secs()).to_string())
            .and_then(|()| std::fs::rename(staged, path));
    }

    /// Until when, in seconds since this boot began, work was shown to go on here; 0 where it was not.
    pub fn was_alive(&self) -> u64 {
        let text = std::fs::read_to_string(self.below_root(ALIVE)).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }

    /// Whether the agent runs, or is about to.
    ///
    /// # Errors
    /// Where systemd does not tell.
    pub fn agent_is_wanted(&self) -> Result<bool, Error> {
        Ok(self.systemctl(&["show", "--property=ActiveState", "--value", UNIT])?.trim() != "inactive")
    }

    /// Ends the agent at once, wherever it is, and keeps it from being started again. A package transaction is a unit of
    /// its own, and goes on.
    ///
    /// # Errors
    /// Where systemd does not do it.
    pub fn end_agent(&self) -> Result<(), Error> {
        self.systemctl(&["--no-block", "stop", UNIT, SOCKET])?;
        // One that ended meanwhile has nobody left to kill.
        drop(self.systemctl(&["kill", "--signal=KILL", UNIT]));
        Ok(())
    }

    /// Has the agent start again.
    ///
    /// # Errors
    /// Where systemd does not do it.
    pub fn start_agent(&self) -> Result<(), Error> {
        self.systemctl(&["--no-block", "start", UNIT]).map(drop)
    }

    fn systemctl(&self, arguments: &[&str]) -> Result<String, Error> {
        Ok(self.query(&Program::new("systemctl").args(arguments).limit(LIMIT))?.text().to_string())
    }

    /// Ends the trueup that holds our lock and does not let go; whether there was one. Nobody else is touched.
    pub fn end_trueup(&self, pid: u32) -> bool {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let Ok(pid) = i32::try_from(pid) else { return false };
        name.trim_end() == "trueup" && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok()
    }
}
