use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shows that work goes on: it beats at each thing that is said or looked at, and knows how long what is waited
/// for right now may take. What guards the agent against hanging asks it.
#[derive(Debug)]
pub struct Pulse(Mutex<Beats>);

#[derive(Debug)]
struct Beats {
    last: Instant,
    /// Until then silence is no bad sign: somebody else is waited for, with a limit.
    quiet: Instant,
}

impl Default for Pulse {
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Beats { last: now, quiet: now }))
    }
}

impl Pulse {
    /// Work went on.
    pub fn beat(&self) {
        let now = Instant::now();
        *self.lock() = Beats { last: now, quiet: now };
    }

    /// From now on something is waited for that ends by itself after at most `limit`.
    pub fn expect(&self, limit: Duration) {
        let now = Instant::now();
        *self.lock() = Beats { last: now, quiet: now + limit };
    }

    /// Whether work went on within the last `patience`, or what is waited for is not over its time.
    pub fn is_alive(&self, patience: Duration) -> bool {
        let beats = self.lock();
        let now = Instant::now();
        now < beats.quiet || now.saturating_duration_since(beats.last.max(beats.quiet)) < patience
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
}
