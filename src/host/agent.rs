//! The agent of this machine, as whoever has to end it sees it: without the lock, which it holds.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Error, Program, Reader};

/// The agent.
const UNIT: &str = "trueup.service";
/// How long the service manager may take to answer.
const LIMIT: Duration = Duration::from_secs(30);

impl Reader {
    /// Ends the agent at once, wherever it is, and keeps it from being started again; whether it was wanted until now.
    /// A package transaction is a unit of its own, and goes on.
    ///
    /// # Errors
    /// Where systemd does not do it.
    pub fn end_agent(&self) -> Result<bool, Error> {
        let state = self.systemctl(&["show", "--property=ActiveState", "--value", UNIT])?;
        if state.trim() == "inactive" {
            return Ok(false);
        }
        self.systemctl(&["--no-block", "stop", UNIT])?;
        // One that ended meanwhile has nobody left to kill.
        drop(self.systemctl(&["kill", "--signal=KILL", UNIT]));
        Ok(true)
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
