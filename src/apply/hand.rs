//! The dead man's hand: what undoes a change that has cut this host off, whatever became of the agent. It is a file of
//! ours and a packaged timer that looks at it, and both are there before the first step.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::watch::seconds;
use crate::host::{Error, Reader, StateDir, StateError, Uptime, Writer};

/// The packaged timer; its unit and that of the boot ask for the file, so its name is not ours to change.
const TIMER: &str = "trueup-undo.timer";
/// In our own directory. No document with a previous copy: that it is there is what counts.
const NAME: &str = "hand";
/// A host that came up this often, and settled never, goes back before it comes up once more.
const BOOTS: u32 = 2;

/// Armed: what this host has begun is undone unless it settles in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hand {
    /// What is on trial.
    commit: String,
    /// The boot in which it counts.
    boot: String,
    /// Since when, in seconds of that boot.
    since: u64,
    /// How long, in seconds.
    deadline: u64,
    /// How often this host came up meanwhile.
    boots: u32,
    /// How often it has struck.
    struck: u32,
    /// The agent was ended by it, and is to be started again.
    restart: bool,
}

/// It strikes.
#[derive(Debug)]
pub struct Due {
    /// Why.
    pub why: String,
    armed: Hand,
}

impl Due {
    /// Whether it is armed as it was then: whoever had the lock meanwhile has not come to the end of it.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn holds(&self, state: &StateDir) -> Result<bool, StateError> {
        Ok(Hand::load(state)?.as_ref() == Some(&self.armed))
    }
}

impl Default for Hand {
    /// What cannot be read any more: of no boot, so that its time begins anew.
    fn default() -> Self {
        let (commit, boot) = (String::new(), String::new());
        Self { commit, boot, since: 0, deadline: 600, boots: 0, struck: 0, restart: false }
    }
}

impl Hand {
    /// As it is armed; `None` where it is not. What cannot be read is armed.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn load(state: &StateDir) -> Result<Option<Self>, StateError> {
        Ok(state.read(NAME)?.map(|text| serde_json::from_slice(&text).unwrap_or_default()))
    }

    fn save(&self, state: &StateDir) -> Result<(), StateError> {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        state.write(NAME, &text)
    }

    /// Armed now for `commit`, and for so long.
    fn new(commit: &str, now: &Uptime, deadline: Duration) -> Self {
        let (commit, boot) = (commit.to_owned(), now.boot.clone());
        Self { commit, boot, since: now.seconds, deadline: deadline.as_secs(), ..Self::default() }
    }

    /// As it counts `now`: after a reboot its time begins anew.
    fn at(&self, now: &Uptime) -> Self {
        if self.boot == now.boot {
            return self.clone();
        }
        let boots = if self.boot.is_empty() { 0 } else { self.boots + 1 };
        Self { boot: now.boot.clone(), since: now.seconds, boots, ..self.clone() }
    }

    /// Why it strikes `now`; `None` as long as there is time. `alive` is until when work was shown to go on.
    fn due(&self, now: &Uptime, alive: u64, booting: bool) -> Option<String> {
        if self.boots >= BOOTS {
            return Some(format!("this host came up {} times and did not settle", self.boots));
        }
        let late = !booting && now.seconds.saturating_sub(self.since.max(alive)) >= self.deadline;
        late.then(|| format!("it had not settled within {}", seconds(Duration::from_secs(self.deadline))))
    }

    /// Why it strikes now, as it is armed now.
    ///
    /// # Errors
    /// Where our own directory cannot be read, or the kernel does not tell the time.
    pub fn due_now(host: &Reader, booting: bool) -> Result<Option<Due>, Error> {
        let Some(armed) = Self::load(&host.state()).map_err(unkept)? else { return Ok(None) };
        let now = host.uptime()?;
        let why = armed.at(&now).due(&now, host.was_alive(), booting);
        Ok(why.map(|why| Due { why, armed }))
    }

    /// Counts this boot, where that was not done yet.
    ///
    /// # Errors
    /// As for [`Hand::due_now`], and where our own directory cannot be written.
    pub fn count(host: &Writer) -> Result<(), Error> {
        let (state, now) = (host.state(), host.uptime()?);
        match Self::load(&state).map_err(unkept)? {
            Some(hand) if hand.boot != now.boot => hand.at(&now).save(&state).map_err(unkept),
            _ => Ok(()),
        }
    }

    /// It strikes: how often it has by now. What it does has as long as a change has. `restart` is that the agent was
    /// ended for it.
    ///
    /// # Errors
    /// As for [`Hand::count`].
    pub fn strike(host: &Writer, restart: bool) -> Result<u32, Error> {
        let (state, now) = (host.state(), host.uptime()?);
        let hand = Self::load(&state).map_err(unkept)?.unwrap_or_default();
        let (struck, restart) = (hand.struck + 1, restart || hand.restart);
        let hand = Self { boot: now.boot, since: now.seconds, boots: 0, struck, restart, ..hand };
        hand.save(&state).map_err(unkept)?;
        Ok(struck)
    }

    /// Whether it has ended an agent that nobody has started again.
    pub fn owes_an_agent(state: &StateDir) -> bool {
        Self::load(state).ok().flatten().is_some_and(|hand| hand.restart)
    }
}

fn unkept(error: StateError) -> Error {
    Error::Unknown { thing: TIMER.to_owned(), why: error.to_string() }
}

fn unarmed(why: &str) -> Error {
    Error::Refused { thing: TIMER.to_owned(), reason: "not-armed", why: why.to_owned() }
}

/// Arms it for `commit`, where it is not: on disk, and its timer read back, when this returns. `None` is what it was armed
/// for, which is being undone.
///
/// # Errors
/// `not-armed` where the timer does not run: then nothing is armed that was not; where our own directory cannot be written.
pub fn arm(host: &mut Writer, commit: Option<&str>, deadline: Duration) -> Result<(), Error> {
    let (state, now) = (host.state(), host.uptime()?);
    let armed = Hand::load(&state).map_err(unkept)?;
    let kept = armed.as_ref().filter(|hand| commit.is_none_or(|commit| hand.commit == commit));
    let next = match kept {
        Some(hand) => hand.at(&now),
        None => Hand::new(commit.unwrap_or_default(), &now, deadline),
    };
    if armed.as_ref() != Some(&next) {
        next.save(&state).map_err(unkept)?;
    }
    let runs = run(host);
    if runs.is_err() && armed.is_none() {
        state.remove(NAME).map_err(unkept)?;
    }
    runs
}

fn run(host: &mut Writer) -> Result<(), Error> {
    if !runs(host)? {
        host.start_units(&[TIMER]).pop().transpose()?;
        if !runs(host)? {
            return Err(unarmed("it was started and does not run; systemctl status trueup-undo.timer"));
        }
    }
    Ok(())
}

fn runs(host: &Reader) -> Result<bool, Error> {
    let Some(status) = host.bus()?.statuses(&[TIMER]).pop().transpose()? else {
        return Err(unarmed("systemd does not know it"));
    };
    match status.load.as_str() {
        "loaded" => Ok(status.active == "active"),
        "not-found" => Err(unarmed("it is not installed; install the package of trueup")),
        "masked" => Err(unarmed("it is masked; systemctl unmask trueup-undo.timer")),
        load => Err(unarmed(&format!("systemd cannot use it ({load}); systemctl status trueup-undo.timer"))),
    }
}

/// There is nothing to be undone any more. A timer that goes on finds that out by itself.
///
/// # Errors
/// Where our own directory cannot be read or written.
pub fn disarm(host: &mut Writer) -> Result<(), StateError> {
    if is_armed(&host.state())? {
        host.state().remove(NAME)?;
        rest(host);
    }
    Ok(())
}

/// Stops the timer, as nothing is armed.
pub fn rest(host: &mut Writer) {
    drop(host.stop_units(&[TIMER]));
}

/// Whether something is undone here unless it settles.
///
/// # Errors
/// Where that cannot be told.
pub fn is_armed(state: &StateDir) -> Result<bool, StateError> {
    state.exists(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(600);

    fn up(boot: &str, seconds: u64) -> Uptime {
        Uptime { boot: boot.to_owned(), seconds }
    }

    #[test]
    fn it_strikes_at_its_time_and_no_earlier() {
        let hand = Hand::new("c", &up("a", 1000), DEADLINE);
        assert_eq!(hand.at(&up("a", 1599)).due(&up("a", 1599), 0, false), None);
        assert_eq!(hand.due(&up("a", 1600), 0, false).as_deref(), Some("it had not settled within 10 min"));
        assert_eq!(hand.due(&up("a", 1600), 0, true), None, "while it comes up only how often counts");
        assert_eq!(hand.due(&up("a", 0), 0, false), None, "a clock that goes back strikes nobody");
    }

    #[test]
    fn as_long_as_work_is_shown_to_go_on_there_is_time() {
        let hand = Hand::new("c", &up("a", 1000), DEADLINE);
        assert_eq!(hand.due(&up("a", 5000), 4401, false), None);
        assert_eq!(hand.due(&up("a", 5000), 5900, false), None, "it may be silent for a while yet");
        assert!(hand.due(&up("a", 5000), 4400, false).is_some());
    }

    #[test]
    fn its_time_begins_anew_after_a_reboot_and_the_second_strikes() {
        let hand = Hand::new("c", &up("a", 1000), DEADLINE);
        let once = hand.at(&up("b", 5));
        assert_eq!((once.due(&up("b", 604), 0, false), once.due(&up("b", 605), 0, false).is_some()), (None, true));
        assert_eq!(once.at(&up("b", 300)), once);
        let twice = once.at(&up("c", 3));
        let why = Some("this host came up 2 times and did not settle");
        let due = |booting| twice.due(&up("c", 3), 0, booting);
        assert_eq!((due(true).as_deref(), due(false).as_deref()), (why, why));
    }

    #[test]
    fn what_is_damaged_is_armed_and_begins_anew() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let state = StateDir::new(directory.path().join("state"));
        assert_eq!(Hand::load(&state).expect("looked"), None);
        for damage in ["\0nonsense", "{}", "{\"boot\": 7}"] {
            state.write(NAME, damage.as_bytes()).expect("written");
            let hand = Hand::load(&state).expect("looked").expect("armed").at(&up("a", 5000));
            assert_eq!((hand.since, hand.boots, hand.due(&up("a", 5599), 0, false)), (5000, 0, None), "{damage}");
            assert!(hand.due(&up("a", 5600), 0, false).is_some());
        }
        let hand = Hand::new("c", &up("a", 1), DEADLINE);
        hand.save(&state).expect("saved");
        assert_eq!(Hand::load(&state).expect("looked"), Some(hand));
    }
}
