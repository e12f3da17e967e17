use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{Problem, Severity};
use crate::model::{escaped, one_line};
use crate::source::{Entry, Snapshot};

/// The most characters shown of a message or a hint.
const WIDEST: usize = 600;

/// Every problem as text for people: what, where (file, line, column), the place underlined, what to do.
/// Text from outside is escaped and bounded.
pub fn render(problems: &[Problem], text_of: impl Fn(&str) -> Option<Arc<[u8]>>, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for problem in problems {
        let content = text_of(&problem.path);
        let text = content.as_deref().and_then(|content| std::str::from_utf8(content).ok());
        out.push_str(&renderer.render(&[group(problem, text)]));
        out.push_str("\n\n");
    }
    out.truncate(out.trim_end().len());
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// Finds the text of files of `snapshot`, for [`render`].
pub fn text_of(snapshot: &Snapshot) -> impl Fn(&str) -> Option<Arc<[u8]>> + '_ {
    |path| match snapshot.entries.get(path) {
        Some(Entry::File { content, .. }) => Some(Arc::clone(content)),
        _ => None,
    }
}

fn group<'a>(problem: &Problem, text: Option<&str>) -> Group<'a> {
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
fn excerpt(text: &str, span: &Range<usize>) -> (String, usize, Range<usize>) {
    let boundary = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (boundary(span.start), boundary(span.end.max(span.start)));
    let first = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
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
    (harmless(shown), text[..first].matches('\n').count() + 1, start..end)
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
        render(&[problem], |_| Some(Arc::from(text.as_bytes())), false)
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
