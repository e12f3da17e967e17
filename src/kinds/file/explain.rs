use std::time::Duration;

use similar::{ChangeTag, TextDiff};

use super::protected::{self, Shape};
use super::{KEEP, Observed, Present, Spec, Standing, What};
use crate::host::{Error, Payloads, Reader, StateError};
use crate::model::{Detail, Digest};

/// Contents longer than this are told by their length.
const COMPARED: u64 = 1 << 20;
/// How many lines a detail has at most.
const LINES: usize = 200;
/// How many unchanged lines are shown around a change.
const AROUND: usize = 2;

/// What a change of content is, line by line.
pub(super) fn explain(host: &Reader, payloads: &Payloads, name: &str, want: &Spec, seen: &Observed) -> Option<Detail> {
    let What::Regular { content, size } = &want.what else { return None };
    if want.secret.is_some() {
        return Some(Detail::of_secret());
    }
    if let Observed::Present(Present { real: Some(real), .. }) = seen {
        // What may not be managed by its own name is not shown under another.
        protected::refuse(name, real, Shape::of(want)).ok()?;
    }
    match seen {
        Observed::Present(Present { what: Standing::Regular { digest, size: old_size }, .. }) => {
            if digest == content {
                return None;
            }
            let old = (*old_size <= COMPARED).then(|| host.read(name, COMPARED).ok().flatten()).flatten();
            let new = (*size <= COMPARED).then(|| payloads.get(content)).flatten();
            Some(compare(old.as_deref(), new.as_deref()).unwrap_or_else(|| lengths("", *old_size, *size)))
        }
        Observed::Present(Present { what: Standing::Large { size: old_size }, .. }) => {
            Some(lengths("", *old_size, *size))
        }
        Observed::Absent | Observed::AbsentBehind { .. } => {
            let new = (*size <= COMPARED).then(|| payloads.get(content)).flatten();
            Some(match new.as_deref().map(text) {
                Some(Some(text)) => Detail { summary: format!("+{}", text.lines().count()), lines: Vec::new() },
                Some(None) => Detail { summary: format!("binary, {size} B"), lines: Vec::new() },
                None => Detail { summary: format!("{size} B"), lines: Vec::new() },
            })
        }
        Observed::Present(_) => None,
    }
}

/// What stands at `name` cannot be kept, so it is not overwritten.
pub(super) fn too_large(name: &str, size: u64, limit: u64) -> Error {
    Error::Refused {
        thing: name.to_owned(),
        reason: "too-large-to-keep",
        why: format!("{size} B are too much to keep a copy of ({limit} B at most)"),
    }
}

/// Has a copy of the content that stands at `name`, which was `seen`, in our own directory; its length, where it has one.
///
/// # Errors
/// As [`Reader::keep`].
pub fn keep(host: &Reader, name: &str, seen: &Observed) -> Result<Result<Option<u64>, Error>, StateError> {
    let Observed::Present(Present { what, .. }) = seen else { return Ok(Ok(None)) };
    Ok(match what {
        Standing::Large { size } => Err(too_large(name, *size, KEEP)),
        Standing::Regular { digest, .. } => match host.keep(name, digest, KEEP)? {
            Err(error) if error.reason() == "too-large" => Err(too_large(name, seen.size(), KEEP)),
            kept => kept.map(Some),
        },
        _ => Ok(None),
    })
}

/// The content that stands at `name`, which was seen to be `digest`.
pub(super) fn content(host: &Reader, name: &str, digest: &Digest, size: u64, limit: u64) -> Result<Vec<u8>, Error> {
    if size > limit {
        return Err(too_large(name, size, limit));
    }
    let stale = || Error::Refused {
        thing: name.to_owned(),
        reason: "stale",
        why: "it was changed by somebody else just now; looked at again in the next pass".to_owned(),
    };
    let content = match host.read(name, limit) {
        Ok(content) => content.ok_or_else(stale)?,
        Err(error) if error.reason() == "too-large" => return Err(too_large(name, size, limit)),
        Err(error) => return Err(error),
    };
    if Digest::of(&content) == *digest {
        return Ok(content);
    }
    // What was known of it is not so: else each pass would plan by it.
    host.forget(name);
    Err(stale())
}

fn text(content: &[u8]) -> Option<&str> {
    std::str::from_utf8(content).ok().filter(|text| !text.contains('\0'))
}

fn lengths(what: &str, old: u64, new: u64) -> Detail {
    Detail { summary: format!("{what}{old} B → {new} B"), lines: Vec::new() }
}

/// `None` where one of them is not at hand.
fn compare(old: Option<&[u8]>, new: Option<&[u8]>) -> Option<Detail> {
    let (old, new) = (old?, new?);
    let (Some(before), Some(after)) = (text(old), text(new)) else {
        return Some(lengths("binary, ", old.len() as u64, new.len() as u64));
    };
    // Cut short, a diff is longer than need be, but no less true.
    let diff = TextDiff::configure().timeout(Duration::from_millis(500)).diff_lines(before, after);
    let (mut added, mut removed, mut all) = (0_usize, 0_usize, 0_usize);
    let mut lines = Vec::new();
    for change in diff.grouped_ops(AROUND).iter().flatten().flat_map(|op| diff.iter_changes(op)) {
        let sign = match change.tag() {
            ChangeTag::Equal => ' ',
            ChangeTag::Insert => '+',
            ChangeTag::Delete => '-',
        };
        added += usize::from(sign == '+');
        removed += usize::from(sign == '-');
        let line = change.value();
        let mut shown = vec![format!("{sign}{}", line.strip_suffix('\n').unwrap_or(line))];
        if !line.ends_with('\n') {
            shown.push("\\ No newline at end of file".to_owned());
        }
        all += shown.len();
        lines.extend(shown.into_iter().take(LINES.saturating_sub(lines.len())));
    }
    if all > LINES {
        lines.push(format!("… {} more", all - LINES));
    }
    Some(Detail { summary: format!("+{added} -{removed}"), lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(old: &str, new: &str) -> Detail {
        compare(Some(old.as_bytes()), Some(new.as_bytes())).expect("both are at hand")
    }

    #[test]
    fn changed_lines_are_shown_with_two_around() {
        let detail = detail("1\n2\n3\n4\n5\n6\n7\n", "1\n2\n3\nfour\n5\n6\n7\n");
        assert_eq!(detail.summary, "+1 -1");
        assert_eq!(detail.lines, [" 2", " 3", "-4", "+four", " 5", " 6"]);
    }

    #[test]
    fn a_missing_line_end_is_a_change_that_is_seen() {
        assert_eq!(detail("a\n", "a").lines, ["-a", "+a", "\\ No newline at end of file"]);
    }

    #[test]
    fn what_is_no_text_is_told_by_its_length() {
        let detail = compare(Some(b"a\0b"), Some(b"abcd")).expect("both are at hand");
        assert_eq!((detail.summary.as_str(), detail.lines.len()), ("binary, 3 B → 4 B", 0));
        let detail = compare(Some(b"\xff"), Some(b"")).expect("both are at hand");
        assert_eq!(detail.summary, "binary, 1 B → 0 B");
    }

    #[test]
    fn lines_are_bounded_at_two_hundred() {
        let lines = |n: usize| (0..n).map(|i| format!("{i}\n")).collect::<String>();
        for (n, shown) in [(199, 199), (200, 200), (201, 201), (5000, 201)] {
            let detail = detail("", &lines(n));
            assert_eq!((detail.lines.len(), detail.summary), (shown, format!("+{n} -0")));
        }
        assert_eq!(detail("", &lines(201)).lines[200], "… 1 more");
    }
}
