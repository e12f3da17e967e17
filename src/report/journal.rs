//! What the journal is told: which events there are, what is worth an entry and what was said already, and how it
//! reads. Pure: `reconcile` hands the entries to the host.
//!
//! A state is told when it changes, not each pass; what was done is told each time; ten thousand of a sort are
//! twenty entries and one with the count. No entry holds content of a file.

use crate::host::{Entry, Priority};
use crate::model::one_line;

mod asked;
mod entries;
mod event;
mod sentence;
mod told;

pub use asked::{
    allowed, approved, bad_settings, expired, forgotten, forward, goes_on, hangs, no_settings, not_restored, reloaded,
    restored, resumed, retried, rollback, started, stopping, suspended,
};
pub use entries::{BLINK, entries};
pub use event::Event;
pub use told::Told;

/// What a message may be long, in bytes.
pub const MESSAGE_BYTES: usize = 1024;

/// What the value of a field may be long, in bytes.
pub const FIELD_BYTES: usize = 2048;

/// An entry on its way: everything that goes in is escaped and bounded here, and nowhere else.
struct Draft(Entry);

impl Draft {
    /// An entry of `event` that says `sentence`.
    fn new(event: Event, sentence: &str) -> Self {
        Self(Entry {
            message_id: event.message_id(),
            priority: event.priority(),
            message: bounded(&format!("{}: {sentence}", event.as_str()), MESSAGE_BYTES),
            fields: vec![("TRUEUP_EVENT", event.as_str().to_owned())],
        })
    }

    /// Another priority than what is usual for the event.
    fn priority(mut self, priority: Priority) -> Self {
        self.0.priority = priority;
        self
    }

    /// It stands for many entries of its event.
    fn of_many(mut self) -> Self {
        self.0.message_id = Event::More.message_id();
        self
    }

    /// Adds a field; one without a value is left out.
    fn with(mut self, name: &'static str, value: &str) -> Self {
        if !value.is_empty() {
            self.0.fields.push((name, bounded(value, FIELD_BYTES)));
        }
        self
    }

    fn done(self) -> Entry {
        self.0
    }
}

/// `text` escaped and cut to at most `limit` bytes, with `…` where something was cut.
fn bounded(text: &str, limit: usize) -> String {
    let mut line = one_line(text, limit);
    if line.len() > limit {
        let room = limit.saturating_sub('…'.len_utf8());
        let end = (0..=room).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_bounded_in_bytes_and_starts_no_line() {
        assert_eq!(bounded("größe", 7), "größe");
        assert_eq!(bounded("größer", 7), "grö…");
        assert_eq!(bounded("größer", 6), "gr…");
        assert_eq!(bounded(&"→".repeat(1000), 2048).len(), 2046);
        assert!(bounded(&"\u{202e}\n".repeat(5000), FIELD_BYTES).len() <= FIELD_BYTES);
        let entry = Draft::new(Event::Drift, "x\nTRUEUP_EVENT=applied").with("TRUEUP_LAYER", "a\nb").done();
        assert_eq!(entry.message, "drift: x\\nTRUEUP_EVENT=applied");
        assert_eq!(entry.fields[1].1, "a\\nb");
    }
}
