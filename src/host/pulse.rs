use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shows that work goes on: it beats at each thing that is said or looked at, and knows how long what is waited
/// for right now may take. What guards the agent against hanging asks it.
#[derive(Debug)]
pub struct Pulse(Mutex<Beats>);

/// Work that has not gone on for longer than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// For how long.
    pub lasts: Duration,
    /// The path that was come to last, where that was the last thing that was done.
    pub at: Option<String>,
}

#[derive(Debug)]
struct Beats {
    last: Instant,
    /// Until then silence is no bad sign: somebody else is waited for, with a limit.
    quiet: Instant,
    /// The path that was come to last; empty where something else was begun since.
    at: String,
}

impl Beats {
    fn beat(&mut self, limit: Duration) {
        self.last = Instant::now();
        self.quiet = self.last + limit;
    }
}

impl Default for Pulse {
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Beats { last: now, quiet: now, at: String::new() }))
    }
}

impl Pulse {
    /// Work went on.
    pub fn beat(&self) {
        self.lock().beat(Duration::ZERO);
    }

    /// Something else was begun.
    pub fn turn(&self) {
        self.expect(Duration::ZERO);
    }

    /// Work went on to this path.
    pub fn come_to(&self, path: &str) {
        let mut beats = self.lock();
        beats.beat(Duration::ZERO);
        beats.at.clear();
        beats.at.push_str(path);
    }

    /// From now on something is waited for that ends by itself after at most `limit`.
    pub fn expect(&self, limit: Duration) {
        let mut beats = self.lock();
        beats.beat(limit);
        beats.at.clear();
    }

    /// Whether work went on within the last `patience`, or what is waited for is not over its time.
    pub fn is_alive(&self, patience: Duration) -> bool {
        let beats = self.lock();
        let now = Instant::now();
        now < beats.quiet || now.saturating_duration_since(beats.last.max(beats.quiet)) < patience
    }

    /// What there is to say where work has not gone on for longer than `patience`, and nothing is waited for.
    pub fn silence(&self, patience: Duration) -> Option<Silence> {
        let beats = self.lock();
        let lasts = Instant::now().saturating_duration_since(beats.last.max(beats.quiet));
        let at = (!beats.at.is_empty()).then(|| beats.at.clone());
        (lasts > patience).then_some(Silence { lasts, at })
    }

    /// It is as if nothing had gone on for so long.
    #[cfg(test)]
    pub(crate) fn pretend(&self, silent: Duration) {
        let mut beats = self.lock();
        let then = Instant::now().checked_sub(silent).expect("this machine is up for longer");
        (beats.last, beats.quiet) = (then, then);
    }

    fn lock(&self) -> MutexGuard<'_, Beats> {
        // Nothing panics while it holds this; were it so, the values are still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_a_bad_sign_unless_something_is_waited_for() {
        let pulse = Pulse::default();
        assert!(pulse.is_alive(Duration::from_secs(60)));
        assert!(!pulse.is_alive(Duration::ZERO));
        pulse.expect(Duration::from_secs(60));
        assert!(pulse.is_alive(Duration::ZERO));
        pulse.beat();
        assert!(!pulse.is_alive(Duration::ZERO), "what was waited for is over");
    }

    #[test]
    fn a_silence_is_told_with_what_was_come_to_last_unless_something_is_waited_for() {
        const MINUTE: Duration = Duration::from_secs(60);
        let pulse = Pulse::default();
        let at = |pulse: &Pulse| pulse.silence(MINUTE).map(|silence| (silence.lasts >= 2 * MINUTE, silence.at));
        pulse.come_to("/srv/x");
        assert_eq!(at(&pulse), None);
        pulse.pretend(2 * MINUTE);
        assert_eq!(at(&pulse), Some((true, Some("/srv/x".to_owned()))));
        assert_eq!(pulse.silence(3 * MINUTE), None);
        pulse.beat();
        pulse.pretend(2 * MINUTE);
        assert_eq!(at(&pulse), Some((true, Some("/srv/x".to_owned()))), "it is still at it");
        pulse.turn();
        pulse.pretend(2 * MINUTE);
        assert_eq!(at(&pulse), Some((true, None)));
        pulse.come_to("/srv/x");
        pulse.expect(MINUTE);
        assert_eq!(pulse.silence(Duration::ZERO), None);
    }
}
