//! What of a pass somebody should look at.

use super::Attention;
use crate::model::one_line;
use crate::report::{Line, RefreshLine, Report, text};

/// What is to be looked at, the most urgent first; within that in the order of work.
pub(super) fn attention(report: &Report) -> Vec<Attention> {
    const ORDER: &[&str] = &["failed", "contested", "skipped", "drifted", "pending"];
    let mut all: Vec<Attention> = report.steps.iter().filter_map(of_line).collect();
    let failed = |id: String, how: &str, message: Option<&String>| Attention {
        what: "failed".to_owned(),
        reason: None,
        message: one_line(&text::named(how, text::of_it(&id, message.map_or("", String::as_str))), 300),
        id,
        attempts: 1,
        next: None,
    };
    all.extend(report.refreshes.iter().filter(|line| line.outcome == "failed").map(|line| Attention {
        attempts: line.attempts.max(1),
        next: line.next,
        ..failed(line.id.as_str().to_owned(), line.how.as_str(), line.message.as_ref())
    }));
    all.extend(report.refreshes.iter().filter(|line| line.outcome == "owed").filter_map(owed));
    all.extend(report.activations.iter().filter(|line| line.outcome == "failed").map(|line| Attention {
        attempts: line.attempts.max(1),
        next: line.next,
        ..failed(text::word(line.what), "the system", line.message.as_ref())
    }));
    all.sort_by_key(|one| ORDER.iter().position(|what| *what == one.what));
    all
}

/// What a unit owes and is held back from, but for what is told with what is suspended.
fn owed(line: &RefreshLine) -> Option<Attention> {
    let what = match line.reason.as_deref()? {
        "suspended" => return None,
        "contested" => "contested",
        _ => "pending",
    };
    let message = line.message.as_deref().unwrap_or_default();
    let why = line.reason.as_deref().and_then(|word| message.strip_prefix(word)?.strip_prefix(": ")).unwrap_or(message);
    let message = format!("{} owed: {why}", line.how.as_str());
    Some(Attention {
        id: line.id.as_str().to_owned(),
        what: what.to_owned(),
        reason: line.reason.clone(),
        message: one_line(&message, 300),
        attempts: 0,
        next: line.next,
    })
}

fn of_line(line: &Line) -> Option<Attention> {
    let what = match (line.outcome, line.reason.as_deref()) {
        ("failed", _) => "failed",
        ("skipped", _) => "skipped",
        ("reported", Some("contested")) => "contested",
        // Told with what is suspended.
        ("reported", Some("suspended")) => return None,
        ("reported", _) => "drifted",
        ("planned" | "not-tried", _) => "pending",
        _ => return None,
    };
    let changes = line.changes.join(", ");
    let message = match (&line.message, changes.as_str()) {
        (Some(message), "") => message.clone(),
        (Some(message), _) if what == "drifted" || what == "contested" => format!("{changes}; {message}"),
        (Some(message), _) => text::of_it(line.id.as_str(), message).to_owned(),
        (None, _) => changes,
    };
    Some(Attention {
        id: line.id.as_str().to_owned(),
        what: what.to_owned(),
        reason: line.reason.clone(),
        message: one_line(&message, 300),
        attempts: if what == "failed" { line.attempts.max(1) } else { 0 },
        next: line.next,
    })
}
