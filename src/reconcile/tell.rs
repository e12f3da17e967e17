//! The journal is told of a pass, and what it was told is remembered.

use crate::host::{Entry, Reader};
use crate::report::Report;
use crate::report::journal::{self, Told};

/// Bumped when an older trueup could misread what is written.
const FORMAT: u32 = 1;
/// A document of our own directory.
const NAME: &str = "told";

/// Tells the journal of this machine what `report`, of a whole pass, has to say beside what was said before. That is
/// read from our own directory, so `told` may start empty, and is written there where it changed: to be called under
/// the exclusive lock. What was told elsewhere and is not written there, `early`, is taken in. Damage makes it start afresh; what cannot be written still counts in `told`. A directory has
/// no journal, and nothing is written there.
pub fn tell(host: &Reader, told: &mut Told, early: &Told, report: &Report) {
    if host.is_machine() {
        tell_by(host, told, early, report, |entries| host.log(entries));
    }
}

/// As [`tell`], by way of `log`, which gives how many entries were lost.
fn tell_by(host: &Reader, told: &mut Told, early: &Told, report: &Report, log: impl FnOnce(&[Entry]) -> usize) {
    // Another process may have told since.
    if !told.is_unsaved()
        && let Ok(Some(document)) = host.state().load::<Told>(NAME, FORMAT)
    {
        *told = document.value;
    }
    let before = told.clone();
    told.take_in(early);
    let entries = journal::entries(told, report, host.now());
    let lost = if entries.is_empty() { 0 } else { log(&entries) };
    if lost > 0 {
        // The first says what was lost before, and may be lost too.
        let first = if lost == entries.len() { before.lost().saturating_sub(1) } else { 0 };
        told.lose(first.saturating_add(lost as u64));
    }
    if *told != before || told.is_unsaved() {
        told.saved(host.state().save(NAME, FORMAT, told).is_ok());
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the scene is set by hand")]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::Clock;
    use crate::model::{Class, Stage, Stop};

    const NOW: i64 = 1_800_000_000;

    fn stalled(reason: &str) -> Report {
        let mut report = Report::new("run");
        let message = "something".to_owned();
        report.stopped(&Stop { stage: Stage::Compile, class: Class::Stalled, reason: reason.to_owned(), message });
        report
    }

    fn messages(host: &Reader, told: &mut Told, report: &Report) -> Vec<String> {
        let mut messages = Vec::new();
        tell_by(host, told, &Told::default(), report, |entries| {
            messages = entries.iter().map(|entry| entry.message.clone()).collect();
            0
        });
        messages
    }

    fn host(root: &std::path::Path) -> Reader {
        Reader::directory(root).expect("it is there").with_clock(Clock::Fixed(NOW))
    }

    #[test]
    fn what_was_told_is_not_told_again_by_another_process() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let host = host(scratch.path());
        let report = stalled("compile-error");
        assert_eq!(messages(&host, &mut Told::default(), &report), ["stalled: compile-error: something"]);
        let document = scratch.path().join("var/lib/trueup/told");
        let written = fs::read(&document).expect("it was saved");
        assert_eq!(messages(&host, &mut Told::default(), &report), [""; 0]);
        assert_eq!(fs::read(&document).expect("still there"), written);
        // Damaged: told once more.
        fs::write(&document, "no document").expect("written");
        let _ = fs::remove_file(scratch.path().join("var/lib/trueup/told.previous"));
        assert_eq!(messages(&host, &mut Told::default(), &report).len(), 1);
        assert_eq!(messages(&host, &mut Told::default(), &report).len(), 0);
    }

    #[test]
    fn what_cannot_be_saved_is_not_told_again_all_the_same() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        // A file where our directory belongs.
        fs::create_dir_all(scratch.path().join("var/lib")).expect("made");
        fs::write(scratch.path().join("var/lib/trueup"), "").expect("written");
        let host = host(scratch.path());
        let (mut told, report) = (Told::default(), stalled("compile-error"));
        assert_eq!(messages(&host, &mut told, &report).len(), 1);
        assert_eq!(messages(&host, &mut told, &report).len(), 0);
        assert!(told.is_unsaved());
        fs::remove_file(scratch.path().join("var/lib/trueup")).expect("removed");
        assert_eq!(messages(&host, &mut told, &report).len(), 0);
        assert!(!told.is_unsaved());
        assert_eq!(messages(&host, &mut Told::default(), &report).len(), 0, "it was saved once it could be");
    }

    #[test]
    fn what_was_lost_is_counted_and_told_once_somebody_takes_it() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let host = host(scratch.path());
        let mut told = Told::default();
        tell_by(&host, &mut told, &Told::default(), &stalled("compile-error"), <[Entry]>::len);
        assert_eq!(told.lost(), 1);
        // The word of the one that was lost, and the next state, are lost too.
        tell_by(&host, &mut told, &Told::default(), &stalled("no-such-host"), <[Entry]>::len);
        assert_eq!(told.lost(), 2);
        let said = messages(&host, &mut told, &stalled("no-such-host"));
        assert_eq!(said, ["lost-entries: the journal did not take 2 entries in time"]);
        assert_eq!(messages(&host, &mut told, &stalled("no-such-host")).len(), 0);
    }

    #[test]
    fn a_directory_is_told_nothing_of() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let mut told = Told::default();
        tell(&host(scratch.path()), &mut told, &Told::default(), &stalled("compile-error"));
        assert_eq!(told, Told::default());
        assert_eq!(fs::read_dir(scratch.path()).expect("readable").count(), 0);
    }
}
