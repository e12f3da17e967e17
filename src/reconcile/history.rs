//! The passes that are remembered, in our own directory.

use super::stop::At;
use crate::host::{Document, DocumentError, StateDir, Writer};
use crate::model::Stage;
use crate::report::{Passed, Report, passed, remember};

/// Bumped when an older trueup could misread what is written.
const FORMAT: u32 = 1;
const NAME: &str = "history";

/// The passes in which something happened, the newest first; none where none is remembered.
///
/// # Errors
/// Where they cannot be looked at, or are damaged.
pub fn history(state: &StateDir) -> Result<Vec<Passed>, DocumentError> {
    Ok(state.load(NAME, FORMAT)?.map(|Document { value, .. }| value).unwrap_or_default())
}

/// Remembers a pass that ended just now, and gives what is remembered of it: nothing where nothing happened, and then
/// nothing is written. A history that is lost is a note in the report, and never ends a pass.
pub fn remember_pass(host: &Writer, report: &mut Report) -> Option<Passed> {
    let state = host.state();
    let mut known = match history(&state) {
        Ok(known) => known,
        Err(error @ DocumentError::Damaged { .. }) => {
            report.notes.push(format!("the history of passes starts afresh: {error}"));
            Vec::new()
        }
        // Somebody newer, or a later pass, may know it still.
        Err(error) => {
            report.notes.push(format!("this pass is not remembered: {error}"));
            return None;
        }
    };
    let passed = passed(known.first(), report, host.now())?;
    remember(&mut known, passed.clone());
    if let Err(stop) = state.save(NAME, FORMAT, &known).at(Stage::Record) {
        report.notes.push(format!("this pass is not remembered: {}", stop.message));
    }
    Some(passed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::Reader;
    use crate::report::State;

    fn report(pass: &str, state: State) -> Report {
        let mut report = Report::new("agent");
        (report.pass, report.state) = (pass.to_owned(), state);
        report
    }

    #[test]
    fn what_happened_is_remembered_the_newest_first_and_an_unchanged_pass_writes_nothing() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let host = Writer::take(Reader::directory(scratch.path()).expect("there")).expect("free");
        let file = scratch.path().join("var/lib/trueup/history");
        assert!(remember_pass(&host, &mut report("A", State::InSync)).is_some());
        let written = fs::metadata(&file).expect("written").modified().expect("a time");
        let before = fs::read(&file).expect("read");
        assert_eq!(remember_pass(&host, &mut report("B", State::InSync)), None);
        assert_eq!(fs::metadata(&file).expect("there").modified().expect("a time"), written);
        assert_eq!(fs::read(&file).expect("read"), before);
        assert!(remember_pass(&host, &mut report("C", State::Degraded)).is_some());
        let passes: Vec<String> =
            history(&host.state()).expect("whole").into_iter().map(|passed| passed.pass).collect();
        assert_eq!(passes, ["C", "A"]);
    }

    #[test]
    fn a_damaged_history_starts_afresh_and_says_so() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let host = Writer::take(Reader::directory(scratch.path()).expect("there")).expect("free");
        host.state().write("history", b"half").expect("written");
        assert!(matches!(history(&host.state()), Err(DocumentError::Damaged { .. })));
        let mut report = report("A", State::InSync);
        assert!(remember_pass(&host, &mut report).is_some());
        assert!(report.notes[0].starts_with("the history of passes starts afresh"), "{:?}", report.notes);
        assert_eq!(history(&host.state()).expect("whole").len(), 1);
    }
}
