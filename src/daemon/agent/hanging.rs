//! What the agent says of a pass that does not go on. It cannot end it: whoever hangs in the kernel hears no signal.

use std::time::Duration;

use tokio::time::Instant;

use super::Agent;
use crate::host::Silence;
use crate::report::{age, journal};

/// A pass that shows no life for longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the pass that runs is looked after.
const EVERY: Duration = Duration::from_secs(10);

impl Agent {
    /// When the pass that runs is looked after next.
    pub(super) fn looks_after(&self) -> Option<Instant> {
        self.running.as_ref().map(|_| self.look_at)
    }

    /// Looks whether the pass that runs goes on. That it does not is said once, and once that this is over.
    pub(super) fn look_after(&mut self) {
        self.look_at = Instant::now() + EVERY;
        let silence = self.running.as_ref().and_then(|current| current.link.pulse.silence(PATIENCE));
        let why = silence.map(|silence| in_words(&self.doing.borrow().line, silence));
        match (&self.hanging, &why) {
            (None, Some(why)) => {
                let pass = self.running.as_ref().map_or("", |current| current.pass.as_str());
                self.log(&[journal::hangs(pass, why)]);
            }
            (Some(_), None) => self.log(&[journal::goes_on()]),
            _ => {}
        }
        self.hanging = why;
    }
}

fn in_words(doing: &str, Silence { lasts, at }: Silence) -> String {
    let lasts = age(i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX));
    let doing = if doing.is_empty() { String::new() } else { format!(": {doing}") };
    let at = at.map(|at| format!(", last at {at}")).unwrap_or_default();
    format!("the pass that runs has shown no progress for {lasts}{doing}{at}")
}
