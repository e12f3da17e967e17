//! The dead man's hand strikes: a change that has not settled in time is undone from our own state alone.

use std::path::PathBuf;

use super::stop::{At, stop};
use super::trial::Trial;
use super::{Ask, offline, pass, settings, undo};
use crate::apply::{self, Hand};
use crate::config::{self, Settings};
use crate::host::{Reader, StateDir, Writer};
use crate::kinds::package;
use crate::model::{Stage, Stop};
use crate::report::{Report, State};

/// More often than this it does not strike for one change.
const MOST: u32 = 2;

/// Why the hand strikes now; `None` where it does not, or there is nothing to be undone. `booting` is that this host is
/// coming up.
///
/// # Errors
/// Where that cannot be told.
pub fn is_due(host: &Reader, booting: bool) -> Result<Option<String>, Stop> {
    // Where that cannot be told nothing is at work that systemd would know of.
    let busy = !booting && package::running(host).is_ok_and(|units| !units.is_empty());
    Hand::look(host, busy, booting).map_err(|error| stop(Stage::Apply, &error))
}

/// Whether something is undone on this host unless it settles in time.
///
/// # Errors
/// Where that cannot be told.
pub fn is_armed(host: &Reader) -> Result<bool, Stop> {
    apply::is_armed(&host.state()).at(Stage::Record)
}

/// Stops the timer where nothing is armed.
///
/// # Errors
/// Where that cannot be told.
pub fn rest(host: &mut Writer) -> Result<(), Stop> {
    if !is_armed(host)? {
        apply::rest(host);
    }
    Ok(())
}

/// Undoes what has not settled, since `why`; `None` where there is nothing that could be. While this host comes up only
/// what lies in files is undone, and the agent does the rest.
///
/// # Errors
/// Where our own directory cannot be read or written.
pub fn strike(host: &mut Writer, executable: PathBuf, why: &str, booting: bool) -> Result<Option<Report>, Stop> {
    let state = host.state();
    let trial = Trial::load(&state);
    let undoing = undo::goes_on(&state, &trial);
    if !undoing && !trial.can_be_undone() {
        apply::disarm(host).at(Stage::Record)?;
        return Ok(None);
    }
    let struck = Hand::strike(host).map_err(|error| stop(Stage::Apply, &error))?;
    if !undoing {
        undo::condemn(&state, trial, ("not-settled", why), host.now())?;
    }
    let mut report = if struck > MOST {
        let mut report = Report::new("undo");
        undo::give_up(&state, &mut report, why)?;
        report
    } else {
        let settings = settings(host).or_else(|stop| kept_settings(&state).ok_or(stop))?;
        let ask = Ask {
            afresh: true,
            booting,
            not_now: Some(offline::not_asked()),
            ..Ask::new("undo", settings, host, executable)
        };
        pass(host, &ask, |_, _| ())
    };
    if report.state == State::Stalled {
        apply::disarm(host).at(Stage::Record)?;
    }
    report.settling = false;
    Ok(Some(report))
}

/// The settings that this host had when it settled last.
fn kept_settings(state: &StateDir) -> Option<Settings> {
    config::settings(&undo::kept_settings(state)?).ok()
}
