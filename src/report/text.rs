use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::{Line, Report, SignedBy, State};
use crate::model::{escaped, one_line};

/// Colours of a terminal, or none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Palette {
    colour: bool,
}

impl Palette {
    /// Colours where `colour` says so.
    pub fn new(colour: bool) -> Self {
        Self { colour }
    }

    pub(super) fn paint(self, colour: AnsiColor, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let style = Style::new().fg_color(Some(colour.into()));
        format!("{style}{text}{style:#}")
    }

    /// `text` in the colour of `state`.
    pub(super) fn state(self, state: State, text: &str) -> String {
        let colour = match state {
            State::InSync => AnsiColor::Green,
            State::Converging | State::Drifted | State::Pending | State::Suspended => AnsiColor::Yellow,
            State::Degraded | State::RolledBack | State::Stalled => AnsiColor::Red,
        };
        self.paint(colour, text)
    }
}

/// `message` without the thing it is about, which is named beside it.
pub(super) fn of_it<'m>(id: &str, message: &'m str) -> &'m str {
    let name = id.split_once(':').map_or(id, |(_, name)| name);
    let after = |what: &str| message.strip_prefix(what).and_then(|rest| rest.strip_prefix(": "));
    after(id).or_else(|| after(name)).unwrap_or(message)
}

/// What a refresh is called before what came of it, where that does not begin so.
pub(super) fn named(how: &str, message: &str) -> String {
    if message.starts_with(how) { message.to_owned() } else { format!("{how}: {message}") }
}

/// Seconds as people say them: `12 s`, `6 min`, `2 h`, `3 d`.
pub fn age(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min", s / 60),
        s @ 3600..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// How long something lasts, as people say it: `40 s`, `4 min`, `5 h 12 min`, `2 d 3 h`.
pub fn span(seconds: i64) -> String {
    let two = |many: i64, unit: &str, rest: i64, of: &str| {
        if rest == 0 { format!("{many} {unit}") } else { format!("{many} {unit} {rest} {of}") }
    };
    match seconds.max(0) {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min", s / 60),
        s @ 3600..86_400 => two(s / 3600, "h", s % 3600 / 60, "min"),
        s => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

/// What is not done for now, after a failure or until something ends: its sign, and how that reads.
fn held(outcome: &str, next: i64, message: Option<&str>, now: i64, palette: Palette) -> (String, String) {
    let left = span(next.saturating_sub(now));
    let message = one_line(message.unwrap_or_default(), 300);
    match outcome {
        "failed" => (palette.paint(AnsiColor::Red, "✗"), format!("tried again in {left}: {message}")),
        _ => (palette.paint(AnsiColor::Yellow, "?"), format!("owed for {left} more; {message}")),
    }
}

/// The plan, for people. `run` and `plan` print the same.
pub fn plan_text(report: &Report, now: i64, palette: Palette) -> String {
    let mut out = head(report, now);
    let id_width = width(report.steps.iter().map(|line| line.id.as_str().chars().count()), 37, 60);
    let change_width = width(report.steps.iter().map(|line| words(line, now).chars().count()), 29, 64);
    for line in &report.steps {
        step(&mut out, line, now, (id_width, change_width), palette);
    }
    for refresh in &report.refreshes {
        let because: Vec<&str> = refresh.because.iter().map(|id| base(id.name())).collect();
        let why = one_line(&format!("{}: {} changed", refresh.how.as_str(), because.join(", ")), 120);
        if let Some(next) = refresh.next {
            let (sign, held) = held(refresh.outcome, next, refresh.message.as_deref(), now, palette);
            let _ = writeln!(out, "  {sign} {:id_width$}  {why}; {held}", refresh.id);
            continue;
        }
        let sign = palette.paint(AnsiColor::Cyan, "↻");
        let _ = writeln!(out, "  {sign} {:id_width$}  {why:change_width$}  intended", refresh.id);
    }
    let (waiting, engines): (Vec<_>, Vec<_>) = report.activations.iter().partition(|line| line.next.is_some());
    if !engines.is_empty() {
        let engines: Vec<String> = engines.into_iter().map(|line| word(line.what)).collect();
        let _ = writeln!(out, "  then  {}", engines.join(", "));
    }
    for line in waiting {
        let (sign, held) = held(line.outcome, line.next.unwrap_or(now), line.message.as_deref(), now, palette);
        let _ = writeln!(out, "  {sign} {:id_width$}  {held}", word(line.what));
    }
    for left in &report.left {
        let _ = writeln!(out, "  - {:id_width$}  let go: {}", left.id, left.note);
    }
    if !report.deferred.is_empty() {
        let ids: Vec<String> = report.deferred.iter().map(|line| escaped(line.id.as_str())).collect();
        let _ = writeln!(out, "  deferred  {}", ids.join(", "));
    }
    for note in &report.notes {
        let _ = writeln!(out, "  note  {}", one_line(note, 400));
    }
    let _ = writeln!(out, "{}", sum(report));
    out
}

/// What came of it, for people: one line if all went well.
pub fn result_text(report: &Report, palette: Palette) -> String {
    let mut out = String::new();
    for line in report.steps.iter().filter(|line| line.late) {
        let cause = line.cause.map_or("", |cause| crate::model::Word::as_str(cause));
        let _ = writeln!(out, "  after packages  {}  {}  {cause}", line.id, words(line, 0));
    }
    for line in report.steps.iter().filter(|line| line.outcome == "failed") {
        let why = of_it(line.id.as_str(), line.message.as_deref().unwrap_or_default());
        let _ = writeln!(out, "  {} {}  {}", palette.paint(AnsiColor::Red, "failed "), line.id, one_line(why, 600));
    }
    for line in report.steps.iter().filter(|line| line.outcome == "skipped") {
        let why = line.message.as_deref().unwrap_or_default();
        let _ = writeln!(out, "  {} {}  {}", palette.paint(AnsiColor::Yellow, "skipped"), line.id, one_line(why, 300));
    }
    for line in report.refreshes.iter().filter(|line| line.outcome == "skipped") {
        let why = named(line.how.as_str(), line.message.as_deref().unwrap_or_default());
        let _ = writeln!(out, "  {} {}  {}", palette.paint(AnsiColor::Yellow, "skipped"), line.id, one_line(&why, 300));
    }
    for line in report.refreshes.iter().filter(|line| line.outcome == "failed") {
        let why = of_it(line.id.as_str(), line.message.as_deref().unwrap_or_default());
        let failed = palette.paint(AnsiColor::Red, "failed ");
        let _ = writeln!(out, "  {failed} {}  {}", line.id, one_line(&named(line.how.as_str(), why), 600));
    }
    for line in report.refreshes.iter().filter(|line| line.message.is_some() && line.outcome == "done") {
        let why = line.message.as_deref().unwrap_or_default();
        let _ = writeln!(out, "  instead {}  {}: {}", line.id, line.how.as_str(), one_line(why, 600));
    }
    for line in report.activations.iter().filter(|line| line.outcome == "failed") {
        let why = line.message.as_deref().unwrap_or_default();
        let _ =
            writeln!(out, "  {} {}  {}", palette.paint(AnsiColor::Red, "failed "), word(line.what), one_line(why, 600));
    }
    for line in report.steps.iter().filter(|line| line.message.is_some() && line.outcome == "done") {
        let why = line.message.as_deref().unwrap_or_default();
        let _ = writeln!(out, "  left    {}  {}", line.id, one_line(why, 300));
    }
    for line in report.steps.iter().filter(|line| line.kept.is_some() && line.outcome == "done") {
        let kept = line.kept.as_deref().unwrap_or_default();
        let _ = writeln!(out, "  kept    what stood at {}: trueup restore {kept}", line.id);
    }
    let (reason, message) = (report.reason.as_deref(), report.message.as_deref());
    let _ = writeln!(out, "{}", verdict(report.host.as_deref(), report.state, reason, message, palette));
    if report.commit.is_some() {
        let _ = match &report.signed {
            Some(SignedBy { by, key, .. }) => writeln!(out, "authenticity: signed by {by} ({key})"),
            None => writeln!(out, "authenticity: {}", report.authenticity),
        };
    }
    out
}

/// A host and how it is, in one line.
pub(super) fn verdict(
    host: Option<&str>,
    state: State,
    reason: Option<&str>,
    message: Option<&str>,
    palette: Palette,
) -> String {
    let host = host.map(escaped).unwrap_or_default();
    let state = palette.state(state, state.as_str());
    let mut line = if host.is_empty() { state } else { format!("{host}   {state}") };
    if let Some(reason) = reason {
        let _ = write!(line, "   {}", escaped(reason));
    }
    if let Some(message) = message {
        let _ = write!(line, ": {}", one_line(message, 600));
    }
    line
}

fn head(report: &Report, now: i64) -> String {
    let short =
        |id: &Option<String>| id.as_deref().map(|id| if id.len() >= 40 { id[..7].to_owned() } else { id.to_owned() });
    let Some(seen) = short(&report.revision.seen) else { return String::new() };
    let mut out = match short(&report.revision.applied) {
        Some(applied) if applied != seen => format!("revision {applied} → {seen}"),
        _ => format!("revision {seen}"),
    };
    if let Some(commit) = &report.commit {
        let ago = age(now.saturating_sub(commit.time));
        let _ = write!(out, "   {}   ({}, {ago} ago)", one_line(&commit.subject, 72), one_line(&commit.author, 40));
    }
    out.push('\n');
    out
}

fn step(out: &mut String, line: &Line, now: i64, (id_width, change_width): (usize, usize), palette: Palette) {
    let sign = match line.action {
        "create" => palette.paint(AnsiColor::Green, "+"),
        "change" => palette.paint(AnsiColor::Yellow, "~"),
        "take-over" => palette.paint(AnsiColor::Magenta, "!"),
        "remove" | "let-go" => palette.paint(AnsiColor::Red, "-"),
        "report" => palette.paint(AnsiColor::Yellow, "?"),
        _ => palette.paint(AnsiColor::Red, "✗"),
    };
    let id = one_line(line.id.as_str(), 200);
    let cause = line.cause.map_or("", |cause| crate::model::Word::as_str(cause));
    let row =
        format!("  {sign} {id:id_width$}  {:change_width$}  {cause:11} {}", words(line, now), escaped(&line.layer));
    let _ = writeln!(out, "{}", row.trim_end());
    for diff in &line.diff {
        let text = escaped(diff.strip_suffix('\r').unwrap_or(diff));
        let painted = match diff.as_bytes().first() {
            Some(b'+') => palette.paint(AnsiColor::Green, &text),
            Some(b'-') => palette.paint(AnsiColor::Red, &text),
            _ => text,
        };
        let _ = writeln!(out, "        {painted}");
    }
}

/// What there is to say of a step, on its line.
fn words(line: &Line, now: i64) -> String {
    let changes = line.changes.join(", ");
    let message = line.message.as_deref().unwrap_or_default();
    let left = span(line.next.unwrap_or(now).saturating_sub(now));
    let text = match (line.action, line.reason.as_deref()) {
        ("take-over", _) => format!("{changes}; taken over, what is there is kept"),
        ("let-go", _) => format!("let go: {changes}"),
        ("report", Some("takeover-refused")) => format!("not taken over (takeover = \"refuse\"): {changes}"),
        ("report", Some("suspended")) => format!("suspended for {left} more {message}; {changes}"),
        ("report", Some("contested")) => format!("contested, tried again in {left}: {changes}"),
        ("report", _) => format!("reported only: {changes}"),
        ("wait", _) => {
            format!("failed {}, tried again in {left}: {}", times(line.attempts), of_it(line.id.as_str(), message))
        }
        ("look", _) => of_it(line.id.as_str(), message).to_owned(),
        _ => changes,
    };
    one_line(&text, 300)
}

fn times(n: u32) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

fn sum(report: &Report) -> String {
    let counts = report.counts;
    let many = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    let asked = |next: &Option<i64>| next.is_none();
    let refreshes = report.refreshes.iter().filter(|line| asked(&line.next)).count();
    let engines = report.activations.iter().filter(|line| asked(&line.next)).count();
    if counts.changes + counts.restarts + counts.reloads + refreshes + engines == 0 {
        let held = report.refreshes.len() + report.activations.len() - refreshes - engines;
        return match report.steps.len() + held {
            0 => {
                let deferred = report.deferred.len();
                let holds = many(counts.managed.saturating_sub(deferred), "resource");
                let deferred = if deferred == 0 { String::new() } else { format!(", {deferred} deferred") };
                format!("Nothing to do: {holds} as declared{deferred}.")
            }
            n => format!("Nothing to do; {} to look at.", many(n, "difference")),
        };
    }
    format!(
        "{}, {}, {}, {}.",
        many(counts.changes, "change"),
        many(counts.reloads, "reload"),
        many(counts.restarts, "restart"),
        many(counts.removals, "removal")
    )
}

pub(super) fn word(what: crate::kinds::Activation) -> String {
    serde_json::to_value(what).ok().and_then(|value| value.as_str().map(ToOwned::to_owned)).unwrap_or_default()
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn width(lengths: impl Iterator<Item = usize>, least: usize, most: usize) -> usize {
    lengths.max().unwrap_or(0).clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deferred_is_not_said_to_be_as_declared() {
        let mut report = Report::new("plan");
        report.counts.managed = 3;
        assert_eq!(sum(&report), "Nothing to do: 3 resources as declared.");
        let note = |name: &str| crate::report::NoteLine { id: name.parse().expect("an id"), note: String::new() };
        report.deferred = vec![note("package:a"), note("package:b")];
        assert_eq!(sum(&report), "Nothing to do: 1 resource as declared, 2 deferred.");
    }

    #[test]
    fn no_name_of_a_resource_reorders_a_line() {
        let id: crate::model::Id = "file:/etc/\u{202e}x\u{1b}[31m".parse().expect("an id");
        let line = |action: &'static str, outcome: &'static str| crate::report::Line {
            id: id.clone(),
            action,
            cause: None,
            changes: vec![id.to_string()],
            diff: Vec::new(),
            layer: "roles/\u{202e}x".to_owned(),
            outcome,
            reason: None,
            message: Some("m\u{202e}".to_owned()),
            kept: (outcome == "done").then(|| "k-1".to_owned()),
            late: true,
            attempts: 0,
            next: None,
        };
        let mut report = Report::new("run");
        report.steps = vec![line("change", "done"), line("create", "failed"), line("create", "skipped")];
        let how = crate::kinds::Refresh::Reload;
        let because = vec![id.clone()];
        let (message, attempts, next) = (None, 0, Some(9));
        report.refreshes = vec![crate::report::RefreshLine {
            id: id.clone(),
            how,
            because,
            outcome: "failed",
            reason: None,
            message,
            attempts,
            next,
        }];
        report.left = vec![crate::report::NoteLine { id: id.clone(), note: String::new() }];
        for text in [plan_text(&report, 0, Palette::default()), result_text(&report, Palette::default())] {
            assert!(!text.contains(['\u{202e}', '\u{1b}']), "{text:?}");
            assert!(text.contains("file:/etc/\\u{202e}x\\u{1b}[31m"), "{text:?}");
        }
        let json = serde_json::to_string(&report).expect("JSON");
        assert!(json.contains("file:/etc/\u{202e}x"), "what programs read is the id itself");
    }

    #[test]
    fn what_is_named_beside_it_is_not_named_again() {
        for (id, message, rest) in [
            ("unit:a.service", "unit:a.service: start failed", "start failed"),
            ("package:tool", "tool: no source has it", "no source has it"),
            ("package:tool", "tool is held", "tool is held"),
            ("file:/a", "cannot write /a: no space", "cannot write /a: no space"),
        ] {
            assert_eq!(of_it(id, message), rest);
        }
        assert_eq!(named("reload", "reload failed"), "reload failed");
        assert_eq!(named("reload", "no answer"), "reload: no answer");
    }

    #[test]
    fn spans_are_said_in_two_units() {
        let said: Vec<String> = [-5, 59, 90, 18_720, 7200, 176_400].into_iter().map(span).collect();
        assert_eq!(said, ["0 s", "59 s", "1 min", "5 h 12 min", "2 h", "2 d 1 h"]);
    }

    #[test]
    fn ages_are_said_as_people_say_them() {
        let said: Vec<String> = [-5, 59, 60, 3600, 172_799, 172_800].into_iter().map(age).collect();
        assert_eq!(said, ["0 s", "59 s", "1 min", "1 h", "47 h", "2 d"]);
        let said: Vec<String> = [-5, 59, 3599, 3600, 18_720, 86_400, 183_700].into_iter().map(span).collect();
        assert_eq!(said, ["0 s", "59 s", "59 min", "1 h", "5 h 12 min", "1 d", "2 d 3 h"]);
    }
}
