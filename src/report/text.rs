use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::{Line, Report, State};
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

    fn paint(self, colour: AnsiColor, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let style = Style::new().fg_color(Some(colour.into()));
        format!("{style}{text}{style:#}")
    }
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

/// The plan, for people. `run` and `plan` print the same.
pub fn plan_text(report: &Report, now: i64, palette: Palette) -> String {
    let mut out = head(report, now);
    let id_width = width(report.steps.iter().map(|line| line.id.as_str().chars().count()), 38, 60);
    let change_width = width(report.steps.iter().map(|line| words(line).chars().count()), 30, 64);
    for line in &report.steps {
        step(&mut out, line, id_width, change_width, palette);
    }
    for refresh in &report.refreshes {
        let because: Vec<&str> = refresh.because.iter().map(|id| base(id.name())).collect();
        let why = one_line(&format!("{}: {} changed", refresh.how.as_str(), because.join(", ")), 120);
        let sign = palette.paint(AnsiColor::Cyan, "↻");
        let _ = writeln!(out, "  {sign} {:id_width$} {why:change_width$} intended", refresh.id);
    }
    if !report.activations.is_empty() {
        let engines: Vec<String> = report.activations.iter().map(|line| word(line.what)).collect();
        let _ = writeln!(out, "  then  {}", engines.join(", "));
    }
    for left in &report.left {
        let _ = writeln!(out, "  - {:id_width$} let go: {}", left.id, left.note);
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
        let _ = writeln!(out, "  after packages  {}  {}  {cause}", line.id, words(line));
    }
    for line in report.steps.iter().filter(|line| line.outcome == "failed") {
        let why = line.message.as_deref().unwrap_or_default();
        let _ = writeln!(out, "  {} {}  {}", palette.paint(AnsiColor::Red, "failed "), line.id, one_line(why, 600));
    }
    for line in report.steps.iter().filter(|line| line.outcome == "skipped") {
        let why = line.message.as_deref().unwrap_or_default();
        let _ = writeln!(out, "  {} {}  {}", palette.paint(AnsiColor::Yellow, "skipped"), line.id, one_line(why, 300));
    }
    for line in report.refreshes.iter().filter(|line| line.outcome == "failed") {
        let why = line.message.as_deref().unwrap_or_default();
        let failed = palette.paint(AnsiColor::Red, "failed ");
        let _ = writeln!(out, "  {failed} {} {}  {}", line.id, line.how.as_str(), one_line(why, 600));
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
    let colour = match report.state {
        State::InSync => AnsiColor::Green,
        State::Drifted | State::Pending => AnsiColor::Yellow,
        State::Degraded | State::Stalled => AnsiColor::Red,
    };
    let host = report.host.as_deref().map(escaped).unwrap_or_default();
    let state = palette.paint(colour, report.state.as_str());
    let mut last = if host.is_empty() { state } else { format!("{host}   {state}") };
    if let Some(reason) = &report.reason {
        let _ = write!(last, "   {reason}");
    }
    if let Some(message) = &report.message {
        let _ = write!(last, ": {}", one_line(message, 600));
    }
    let _ = writeln!(out, "{last}");
    if report.commit.is_some() {
        let _ = writeln!(out, "authenticity: {}", report.authenticity);
    }
    out
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

fn step(out: &mut String, line: &Line, id_width: usize, change_width: usize, palette: Palette) {
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
    let row = format!("  {sign} {id:id_width$} {:change_width$} {cause:11} {}", words(line), line.layer);
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
fn words(line: &Line) -> String {
    let changes = line.changes.join(", ");
    let text = match (line.action, line.reason.as_deref()) {
        ("take-over", _) => format!("{changes}; taken over, what is there is kept"),
        ("let-go", _) => format!("let go: {changes}"),
        ("report", Some("takeover-refused")) => format!("not taken over (takeover = \"refuse\"): {changes}"),
        ("report", _) => format!("reported only: {changes}"),
        ("look", _) => line.message.clone().unwrap_or_default(),
        _ => changes,
    };
    one_line(&text, 300)
}

fn sum(report: &Report) -> String {
    let counts = report.counts;
    let many = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    if counts.changes + counts.restarts + counts.reloads + report.refreshes.len() + report.activations.len() == 0 {
        return match report.steps.len() {
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

fn word(what: crate::kinds::Activation) -> String {
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
    fn ages_are_said_as_people_say_them() {
        let said: Vec<String> = [-5, 59, 60, 3600, 172_799, 172_800].into_iter().map(age).collect();
        assert_eq!(said, ["0 s", "59 s", "1 min", "1 h", "47 h", "2 d"]);
    }
}
