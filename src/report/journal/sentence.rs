//! How a line of a report reads in the journal. Text is escaped and bounded by whoever makes the entry.

use crate::kinds::unit::Why;
use crate::model::{Id, one_line};
use crate::report::text::of_it;
use crate::report::{CommitWords, Line, RefreshLine, Report, Revisions};

/// What a name, or the words of one line, may be long, in characters.
const PART: usize = 300;
/// What the first line of a commit may be long, in characters.
const SUBJECT: usize = 72;

/// What it is called, for people.
pub(super) fn name(id: &Id) -> String {
    let name = one_line(id.name(), PART);
    if id.kind() == "package" { format!("package {name}") } else { name }
}

/// The revision that was acted on, or tried to, in seven digits.
pub(super) fn short(commit: &str) -> &str {
    match commit.get(..7) {
        Some(short) if commit.len() >= 40 => short,
        _ => commit,
    }
}

/// `b81d07e "nginx 1.22.1-9+deb12u3"`; the words are those of the tip, so only where that is what `commit` is.
pub(super) fn titled(commit: &str, revision: &Revisions, words: Option<&CommitWords>) -> String {
    match words {
        Some(words) if revision.seen.as_deref() == Some(commit) && !words.subject.is_empty() => {
            // A quote would end the quote.
            format!("{} \"{}\"", short(commit), one_line(&words.subject, SUBJECT).replace('"', "'"))
        }
        _ => short(commit).to_owned(),
    }
}

/// `roles/web@4f2a9c1`.
pub(super) fn place(line: &Line, commit: &str) -> String {
    format!("{}@{}", one_line(&line.layer, PART), short(commit))
}

/// Property by property.
pub(super) fn changes(line: &Line) -> String {
    one_line(&line.changes.join(", "), PART)
}

fn what_stood_there(line: &Line) -> String {
    line.kept.as_ref().map_or_else(String::new, |kept| format!("; what stood there: trueup restore {kept}"))
}

/// What was not as it was last applied, and was put back.
pub(super) fn put_back(line: &Line, commit: &str, conflicting: bool) -> String {
    let (name, place, stood) = (name(&line.id), place(line, commit), what_stood_there(line));
    if conflicting {
        return format!("{name} {}, replaced by {place}, which changed it too{stood}", changes(line));
    }
    if line.id.kind() != "file" {
        let (found, done) = found_and_done(line);
        return format!("{name} {found}, {done}{stood}");
    }
    match line.changes.first().and_then(|change| change.split_once(" → ")) {
        Some(("absent", _)) => format!("{name} absent, put back to {place}{stood}"),
        Some((there, "absent")) => format!("{name} is there ({there}), removed as by {place}{stood}"),
        _ => format!("{name} {}, put back to {place}{stood}", changes(line)),
    }
}

/// What a unit or package was, and what was done about it.
fn found_and_done(line: &Line) -> (String, String) {
    let mut found: Vec<&str> = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for change in &line.changes {
        let (was, is) = match change.split_once(" → ") {
            Some((was, is)) => (was, is),
            None if change == "unmasked" => ("masked", "unmasked"),
            None => ("", change.as_str()),
        };
        found.extend((!was.is_empty()).then_some(was));
        done.push(match is {
            "active" => "started",
            "inactive" => "stopped",
            "absent" => "removed",
            "restart" => "restarted",
            "reload" => "reloaded",
            other => other,
        });
    }
    found.dedup();
    done.dedup();
    if found.is_empty() {
        found.push("differs");
    }
    (one_line(&found.join(", "), PART), one_line(&done.join(", "), PART))
}

/// A difference that stays, and why.
pub(super) fn left_alone(line: &Line, why: &str) -> String {
    let (name, changes) = (name(&line.id), changes(line));
    match line.reason.as_deref() {
        Some("report-only") => {
            format!("{name} {changes}, reported only (drift = \"report\", {})", one_line(&line.layer, PART))
        }
        Some(reason) if Why::has_word(reason) => {
            format!("{name} {changes}, reported only: {}", one_line(line.message.as_deref().unwrap_or(why), PART))
        }
        _ => format!("{name} {changes}, left as it is: {}", one_line(why, PART)),
    }
}

/// A change that the declaration asked for.
pub(super) fn changed(line: &Line, commit: &str) -> String {
    let (name, place, stood) = (name(&line.id), place(line, commit), what_stood_there(line));
    let changes = changes(line);
    match line.action {
        "let-go" => {
            let how = match (&line.message, changes.as_str()) {
                (Some(stays), _) => one_line(stays, PART),
                (None, changes) if changes.ends_with(" → absent") => "removed, as trueup had made it".to_owned(),
                (None, changes) => format!("put back as it was before trueup ({changes})"),
            };
            format!("{name} is no longer declared: {how}{stood}")
        }
        "create" if line.id.kind() == "file" => format!("{name} created by {place}"),
        "remove" => format!("{name} removed by {place}{stood}"),
        "create" | "change" if line.id.kind() == "unit" => {
            format!("{name} {} by {place}{stood}", found_and_done(line).1)
        }
        _ => format!("{name} {changes} by {place}{stood}"),
    }
}

/// What failed, and how; the message names the thing already, or it is put in front.
pub(super) fn failed(id: &Id, reason: Option<&str>, message: Option<&str>) -> String {
    let name = name(id);
    let whole = message.unwrap_or_default();
    let own = of_it(id.as_str(), whole);
    let named = own.len() == whole.len() && whole.contains(id.name());
    let message = one_line(own, 600);
    let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
    match message.as_str() {
        "" => format!("{name}{reason}"),
        message if named => format!("{message}{reason}"),
        message => format!("{name}: {message}{reason}"),
    }
}

/// `nginx.service reloaded`.
pub(super) fn refreshed(line: &RefreshLine) -> String {
    use crate::kinds::Refresh;
    let how = match line.how {
        // What went well has nothing to say of itself, but for what it was done in place of.
        Refresh::Restart if line.message.is_some() => "restarted in place of a reload",
        Refresh::Restart => "restarted",
        Refresh::Reload => "reloaded",
        Refresh::Start => "run",
    };
    format!("{} {how}", name(&line.id))
}

/// A few, and how many more.
pub(super) fn some<T: AsRef<str>>(items: &[T], few: usize) -> String {
    let shown: Vec<&str> = items.iter().take(few).map(AsRef::as_ref).collect();
    match items.len().saturating_sub(few) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `1 change`, `5 changes`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `9,980`.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Of how many lines this is the outcome.
pub(super) fn tally(report: &Report, outcome: &str) -> usize {
    report.steps.iter().filter(|line| line.outcome == outcome).count()
        + report.refreshes.iter().filter(|line| line.outcome == outcome).count()
        + report.activations.iter().filter(|line| line.outcome == outcome).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cause;

    fn line(id: &str, changes: &[&str]) -> Line {
        Line {
            id: id.parse().expect("an id"),
            action: "change",
            cause: Some(Cause::Corrective),
            changes: changes.iter().map(|&change| change.to_owned()).collect(),
            diff: Vec::new(),
            layer: "roles/web".to_owned(),
            outcome: "done",
            reason: None,
            message: None,
            kept: None,
            late: false,
            attempts: 0,
            next: None,
        }
    }

    const COMMIT: &str = "4f2a9c1000000000000000000000000000000000";

    #[test]
    fn drift_reads_as_people_say_it() {
        let told = |line: &Line| put_back(line, COMMIT, false);
        let edited = Line { kept: Some("k-7f31".to_owned()), ..line("file:/etc/motd", &["content +1 -1"]) };
        assert_eq!(
            told(&edited),
            "/etc/motd content +1 -1, put back to roles/web@4f2a9c1; what stood there: trueup restore k-7f31"
        );
        for (id, changes, sentence) in [
            ("file:/etc/gone", &["absent → a file +1"][..], "/etc/gone absent, put back to roles/web@4f2a9c1"),
            ("file:/etc/old", &["a file → absent"], "/etc/old is there (a file), removed as by roles/web@4f2a9c1"),
            ("unit:nginx.service", &["inactive → active"], "nginx.service inactive, started"),
            (
                "unit:nginx.service",
                &["disabled → enabled", "failed → active"],
                "nginx.service disabled, failed, enabled, started",
            ),
            ("unit:nginx.service", &["unmasked"], "nginx.service masked, unmasked"),
            ("package:tool", &["absent → installed", "held"], "package tool absent, installed, held"),
            ("package:tool", &["held"], "package tool differs, held"),
            ("package:telnet", &["0.17 → absent"], "package telnet 0.17, removed"),
        ] {
            assert_eq!(told(&line(id, changes)), sentence);
        }
        assert_eq!(
            put_back(&edited, COMMIT, true),
            "/etc/motd content +1 -1, replaced by roles/web@4f2a9c1, which changed it too; what stood there: trueup restore k-7f31"
        );
    }

    #[test]
    fn what_failed_is_named_once() {
        let id: Id = "file:/etc/motd".parse().expect("an id");
        assert_eq!(failed(&id, Some("io-error"), Some("no space")), "/etc/motd: no space (io-error)");
        assert_eq!(failed(&id, Some("x"), Some("cannot write /etc/motd")), "cannot write /etc/motd (x)");
        assert_eq!(failed(&id, None, None), "/etc/motd");
        let id: Id = "unit:a.service".parse().expect("an id");
        let message = "unit:a.service: start failed: see journalctl -u a.service";
        assert_eq!(failed(&id, Some("x"), Some(message)), "a.service: start failed: see journalctl -u a.service (x)");
    }

    #[test]
    fn a_subject_ends_no_quote_and_belongs_to_its_commit() {
        let words = CommitWords { subject: "a\": 0 changes\nx".to_owned(), author: String::new(), time: 0 };
        let mut revision = Revisions { seen: Some(COMMIT.to_owned()), ..Revisions::default() };
        assert_eq!(titled(COMMIT, &revision, Some(&words)), "4f2a9c1 \"a': 0 changes\\nx\"");
        revision.seen = Some("another".to_owned());
        assert_eq!(titled(COMMIT, &revision, Some(&words)), "4f2a9c1");
        assert_eq!(titled("uncommitted", &revision, None), "uncommitted");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 9980, 1_234_567].map(grouped), ["0", "999", "9,980", "1,234,567"]);
        assert_eq!((count(1, "change"), count(2, "change")), ("1 change".to_owned(), "2 changes".to_owned()));
        assert_eq!(some(&["a", "b", "c"], 2), "a, b and 1 more");
    }
}
