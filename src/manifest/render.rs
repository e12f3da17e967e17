use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{Problem, Severity, Text};
use crate::model::{escaped, one_line};
use crate::source::{Entry, Snapshot};

/// The most characters shown of a message or a hint.
const WIDEST: usize = 600;

/// The most problems shown, errors rather than notes: whoever has mended those asks again.
const MOST: usize = 1000;

/// Every problem as text for people: what, where (file, line, column), the place underlined, what to do.
/// Text from outside is escaped and bounded.
pub fn render(problems: &[Problem], text_of: impl Fn(&str) -> Option<Text<'static>>, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    let mut texts = BTreeMap::new();
    for problem in shown(problems) {
        let text = texts.entry(&problem.path).or_insert_with(|| text_of(&problem.path));
        out.push_str(&renderer.render(&[group(problem, text.as_ref())]));
        out.push_str("\n\n");
    }
    if let Some(more) = problems.len().checked_sub(MOST).filter(|more| *more > 0) {
        out.push_str(&format!("... and {more} more like these\n"));
    }
    out.truncate(out.trim_end().len());
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// Finds the text of files of `snapshot`, for [`render`].
pub fn text_of(snapshot: &Snapshot) -> impl Fn(&str) -> Option<Text<'static>> + '_ {
    |path| match snapshot.entries.get(path) {
        Some(Entry::File { content, .. }) => {
            let text = std::str::from_utf8(content).ok()?;
            Some(Cow::from(text.to_owned()).into())
        }
        _ => None,
    }
}

/// Of these [`MOST`], in their order.
fn shown(problems: &[Problem]) -> impl Iterator<Item = &Problem> {
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let (mut errors, mut notes) = (MOST, MOST.saturating_sub(errors));
    problems.iter().filter(move |problem| {
        let left = if problem.is_error() { &mut errors } else { &mut notes };
        let is_shown = *left > 0;
        *left = left.saturating_sub(1);
        is_shown
    })
}

fn group<'a>(problem: &Problem, text: Option<&Text<'_>>) -> Group<'a> {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Note => Level::NOTE,
    };
    let title = level.primary_title(one_line(&problem.message, WIDEST));
    let path = one_line(&problem.path, WIDEST);
    let group = match (&problem.span, text) {
        (Some(span), Some(text)) => {
            let (excerpt, line, span) = excerpt(text, span);
            let mark = AnnotationKind::Primary.span(span);
            title.element(Snippet::source(excerpt).line_start(line).path(path).annotation(mark))
        }
        _ => title.element(Origin::path(path)),
    };
    match &problem.hint {
        Some(hint) => group.element(Level::HELP.message(one_line(hint, WIDEST))),
        None => group,
    }
}

/// The lines that `span` lies in (three at most), the number of the first, and the span within them. Only these
/// are shown, so a manifest of a mebibyte costs no more than a small one.
fn excerpt(all: &Text<'_>, span: &Range<usize>) -> (String, usize, Range<usize>) {
    let text = all.as_str();
    let (start, end) = (text.floor_char_boundary(span.start), text.floor_char_boundary(span.end.max(span.start)));
    let (number, first) = all.line(start);
    let mut last = first;
    for _ in 0..3 {
        let line = text[last..].find('\n').map_or(text.len(), |newline| last + newline + 1);
        let done = line >= end || line == text.len();
        last = line;
        if done {
            break;
        }
    }
    let shown = text[first..last].trim_end_matches(['\n', '\r']);
    let end = (end - first).min(shown.len());
    let start = (start - first).min(end);
    (harmless(shown), number, start..end)
}

/// `text` with every character that steers a terminal replaced by one that shows, of the same length in bytes, so
/// that spans still fit. Those of ASCII are replaced by the renderer.
fn harmless(text: &str) -> String {
    let steers = |c: char| !c.is_ascii() && escaped(c.encode_utf8(&mut [0; 4])).starts_with('\\');
    text.chars()
        .map(|c| match c.len_utf8() {
            2 if steers(c) => '¿',
            3 if steers(c) => '\u{fffd}',
            4 if steers(c) => '\u{1f6c7}',
            _ => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &'static str, problem: Problem) -> String {
        render(&[problem], |_| Some(Cow::from(text).into()), false)
    }

    #[test]
    fn file_line_column_and_the_text_underlined() {
        let problem =
            Problem::error("hosts/a/host.toml", Some(9..13), "unknown key `ownr`").hint("did you mean `owner`?");
        let text = shown("a = 1\nb\n\nownr = 2\n", problem);
        assert!(text.contains("error: unknown key `ownr`"), "{text}");
        assert!(text.contains("hosts/a/host.toml:4:1"), "{text}");
        assert!(text.contains("4 | ownr = 2\n  | ^^^^"), "{text}");
        assert!(text.contains("help: did you mean `owner`?"), "{text}");
    }

    #[test]
    fn of_many_problems_a_thousand_are_shown_errors_first_and_the_others_counted() {
        let line = "k = 1\n";
        let mut problems: Vec<_> =
            (0..1002).map(|n| Problem::error("x", Some(n * line.len()..n * line.len() + 1), "no")).collect();
        let text = line.repeat(problems.len());
        let text_of = |_: &str| Some(Cow::from(text.clone()).into());
        let shown = render(&problems, text_of, false);
        assert!(shown.contains("x:1000:1") && !shown.contains("x:1001:1"), "{}", &shown[shown.len() - 300..]);
        assert!(shown.ends_with("\n... and 2 more like these\n"), "{}", &shown[shown.len() - 300..]);
        assert!(!render(&problems[..1000], |_| None, false).contains("more like these"));
        for problem in &mut problems[..1000] {
            problem.severity = Severity::Note;
        }
        let shown = render(&problems, text_of, false);
        for (line, is) in [(1, true), (998, true), (999, false), (1000, false), (1001, true), (1002, true)] {
            assert_eq!(shown.contains(&format!("x:{line}:1")), is, "{line}");
        }
    }

    #[test]
    fn a_problem_of_a_whole_file_names_the_file() {
        assert!(shown("", Problem::note("roles/a/files/etc/x", None, "odd")).contains("roles/a/files/etc/x"));
    }

    #[test]
    fn text_from_outside_steers_no_terminal() {
        let problem = Problem::error("a\u{1b}[2J", Some(0..30), "m\u{1b}[31m\u{202e}\nforged: line").hint("h\u{9b}2J");
        let text = shown("k = \"\u{1b}[2J \u{9b}2J \u{202e} \u{e0041}\"", problem);
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{e0041}']), "{text:?}");
        assert!(!text.contains("\nforged"), "{text}");
    }

    #[test]
    fn spans_outside_the_text_do_no_harm() {
        for span in [0..0, 2..1_000, 1_000..1_001, 1..2, Range { start: 5, end: 3 }] {
            let text = shown("ö=\n1", Problem::error("x", Some(span), "m"));
            assert!(text.contains("error: m"), "{text}");
        }
        assert!(shown("", Problem::error("x", Some(0..1), "m")).contains("error: m"));
    }
}
