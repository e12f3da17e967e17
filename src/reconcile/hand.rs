//! The dead man's hand strikes: a change that has not settled in time is undone from our own state alone.

use std::path::PathBuf;
use std::time::Duration;

use super::stop::{At, stop};
use super::trial::Trial;
use super::{Ask, pass, settings, undo};
use crate::apply::{self, Due, Hand};
use crate::config::{self, Settings};
use crate::host::{Reader, StateDir, Writer};
use crate::kinds::package;
use crate::model::{Stage, Stop};
use crate::report::Report;

/// More often than this it does not strike for one change.
const MOST: u32 = 3;

/// Why the hand strikes now; `None` where it does not. `booting` is that this host is coming up.
///
/// # Errors
/// Where that cannot be told.
pub fn is_due(host: &Reader, booting: bool) -> Result<Option<Due>, Stop> {
    // Where that cannot be told nothing is at work that systemd would know of.
    if !booting && package::running(host).is_ok_and(|units| !units.is_empty()) {
        host.show_alive(Duration::ZERO);
    }
    Hand::due_now(host, booting).map_err(|error| stop(Stage::Apply, &error))
}

/// Whether the hand has ended an agent that nobody has started again.
pub fn owes_an_agent(host: &Reader) -> bool {
    Hand::owes_an_agent(&host.state())
}

/// Stops the timer where nothing is armed; else counts this boot.
///
/// # Errors
/// Where our own directory cannot be read or written.
pub fn rest(host: &mut Writer) -> Result<(), Stop> {
    if !apply::is_armed(&host.state()).at(Stage::Record)? {
        apply::rest(host);
    }
    Hand::count(host).map_err(|error| stop(Stage::Apply, &error))
}

/// Undoes what has not settled in time; `None` where there is nothing to be undone, or there is time by now. While this
/// host comes up only what lies in files is undone, and the agent does the rest. `restart` is that the agent was ended.
///
/// # Errors
/// Where our own directory cannot be read or written: it stays armed then.
pub fn strike(
    host: &mut Writer,
    executable: PathBuf,
    due: &Due,
    (restart, booting): (bool, bool),
) -> Result<Option<Report>, Stop> {
    let state = host.state();
    // Whoever had the lock may have come to the end of it, and begun another.
    if !due.holds(&state).at(Stage::Record)? {
        return Ok(None);
    }
    rest(host)?;
    let why = &due.why;
    let trial = Trial::load(&state)?;
    let undoing = undo::goes_on(&state, &trial);
    if !undoing && !trial.can_be_undone() {
        apply::disarm(host).at(Stage::Record)?;
        return Ok(None);
    }
    let struck = Hand::strike(host, restart).map_err(|error| stop(Stage::Apply, &error))?;
    if !undoing {
        undo::condemn(host, trial, ("not-settled", why))?;
    }
    let mut report = if struck > MOST {
        let mut report = Report::new("undo");
        undo::give_up(&state, &mut report, why)?;
        report
    } else {
        let settings = settings(host).or_else(|stop| kept_settings(&state).ok_or(stop))?;
        let ask = Ask { afresh: true, striking: true, booting, ..Ask::new("undo", settings, host, executable) };
        pass(host, &ask, |_, _| ())
    };
    if undo::is_given_up(&state) {
        apply::disarm(host).at(Stage::Record)?;
    }
    report.settling = false;
    Ok(Some(report))
}

/// The settings that this host had when it settled last.
fn kept_settings(state: &StateDir) -> Option<Settings> {
    config::settings(&undo::kept_settings(state)?).ok()
}
