use std::borrow::Cow;
use std::ops::Range;

/// A mistake in the repository, or something worth saying about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it keeps the host from being compiled.
    pub severity: Severity,
    /// The file of the repository, relative to the fleet repository's root.
    pub path: String,
    /// Which bytes of the file; `None` where it is about the file as a whole.
    pub span: Option<Range<usize>>,
    /// What is wrong, naming the thing. One line; may hold text from the repository, so it is escaped when shown.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The stable word where this has a status reason of its own: `agent-too-old`, `self-trust`.
    pub reason: Option<&'static str>,
}

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is applied.
    Error,
    /// Worth knowing; nothing else follows from it.
    Note,
}

impl Problem {
    /// An error in `path`, at `span` where one is known.
    pub fn error(path: impl Into<String>, span: Option<Range<usize>>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, path: path.into(), span, message: message.into(), hint: None, reason: None }
    }

    /// A note on `path`, at `span` where one is known.
    pub fn note(path: impl Into<String>, span: Option<Range<usize>>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::error(path, span, message) }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with a stable reason word.
    #[must_use]
    pub fn reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Whether it keeps the host from being compiled.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Sorts by file and place, errors before notes at one place, and drops repetitions.
    pub(crate) fn order(problems: &mut Vec<Problem>) {
        let key = |p: &Problem| {
            (
                p.path.clone(),
                p.span.as_ref().map(|s| s.start),
                p.severity,
                p.span.as_ref().map(|s| s.end),
                p.message.clone(),
            )
        };
        problems.sort_by_cached_key(key);
        problems.dedup();
    }
}

/// A file that is text, and where its lines begin: it may have a problem in each.
#[derive(Debug)]
pub struct Text<'t> {
    text: Cow<'t, str>,
    lines: Vec<usize>,
}

impl<'t> From<Cow<'t, str>> for Text<'t> {
    fn from(text: Cow<'t, str>) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        Self { text, lines }
    }
}

impl Text<'_> {
    /// What is in it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Which line byte `at` is in, counted from 1, and where that begins.
    pub fn line(&self, at: usize) -> (usize, usize) {
        let number = self.lines.partition_point(|begin| *begin <= at);
        (number, self.lines[number - 1])
    }

    /// Line and column of where `span` starts, both counted from 1, the column in characters.
    pub fn position(&self, span: &Range<usize>) -> (usize, usize) {
        let start = self.text.floor_char_boundary(span.start);
        let (number, begin) = self.line(start);
        (number, self.text[begin..start].chars().count() + 1)
    }
}

/// Line and column of one place, as [`Text::position`].
pub fn position(text: &str, span: &Range<usize>) -> (usize, usize) {
    Text::from(Cow::from(text)).position(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a = 1\nö = 22\n";
        let position = |span: Range<usize>| position(text, &span);
        assert_eq!(position(0..1), (1, 1));
        assert_eq!(position(5..6), (1, 6), "the end of a line is in it");
        assert_eq!(position(11..12), (2, 5));
        assert_eq!(position(7..8), (2, 1), "inside a character is at its start");
        assert_eq!(position(99..100), (3, 1), "past the end is the end");
        assert_eq!(super::position("", &(0..0)), (1, 1));
    }

    #[test]
    fn problems_are_in_the_order_of_the_repository_and_said_once() {
        let mut problems = vec![
            Problem::note("b", Some(5..6), "note"),
            Problem::error("b", Some(5..6), "error"),
            Problem::error("a", Some(9..10), "late"),
            Problem::error("a", None, "whole"),
            Problem::error("a", Some(9..10), "late"),
        ];
        Problem::order(&mut problems);
        let said: Vec<_> = problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(said, ["whole", "late", "error", "note"]);
    }
}
