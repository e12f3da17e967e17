//! What is printed. Nobody may be reading any more, or the disk behind it may be full: that never ends the work.

use std::io::Write;

use anyhow::Context;

/// Text for people. That nobody takes it is no failure of the work that it tells of.
pub(super) fn print(text: &str) {
    let out = std::io::stdout();
    let text = shown(text, anstream::AutoStream::choice(&out));
    let mut out = out.lock();
    drop(out.write_all(&text).and_then(|()| out.flush()));
}

/// `text` with its colours or without them, in one piece: stripped as it is written, each line would be a call of write(2).
fn shown(text: &str, choice: anstream::ColorChoice) -> Vec<u8> {
    let mut shown = anstream::AutoStream::new(Vec::with_capacity(text.len()), choice);
    // Nothing in memory fails.
    drop(shown.write_all(text.as_bytes()));
    shown.into_inner()
}

/// What went wrong, for people.
pub(super) fn tell(text: &str) {
    let mut out = anstream::stderr().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// One document for programs, after the work.
///
/// # Errors
/// Where it cannot be written: whoever asked for it does not have it.
pub(super) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot print the JSON document")
}

/// The error and what it came from, no cause said twice.
pub(super) fn chain(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_said_already_is_not_said_again() {
        let inner = anyhow::anyhow!("no space").context("cannot write: no space").context("saving");
        assert_eq!(chain(&inner), "saving: cannot write: no space");
    }
}
