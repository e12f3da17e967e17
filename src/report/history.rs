//! Passes in which something happened, for `trueup history`.

use std::fmt::Write as _;

use anstyle::AnsiColor;
use serde::{Deserialize, Serialize};

use super::text::{Palette, age, of_it, verdict, word};
use super::{Line, Report, State};
use crate::kinds::Refresh;
use crate::model::{Cause, Word, Zone, escaped, one_line};

/// How many passes are remembered.
pub const REMEMBERED: usize = 200;
/// How many lines are remembered of one pass.
const LINES: usize = 50;
/// How many lines are remembered in all: what is read and written by a pass in which something happens stays small.
const ALL_LINES: usize = 2000;

/// One pass in which something happened: a step, a failure, another state or another revision than before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Passed {
    /// Its id.
    pub pass: String,
    /// When it ended, seconds since 1970.
    pub at: i64,
    /// The verb: `agent`, `run`, `release`.
    pub command: String,
    /// How it ended.
    pub state: State,
    /// The stable word for why that is not `in-sync`.
    pub reason: Option<String>,
    /// One line for people.
    pub message: Option<String>,
    /// The full id of the commit that was acted on; none where there was none.
    pub revision: Option<String>,
    /// First line of that commit's message.
    pub subject: Option<String>,
    /// What was done or failed, a line each, bounded.
    pub lines: Vec<String>,
    /// How many lines there would be.
    pub total: usize,
}

/// Something that a pass did or could not do.
struct Event {
    done: bool,
    /// What stays the same each time that it fails again; the line begins with it.
    head: String,
    rest: String,
}

impl Event {
    fn line(&self) -> String {
        one_line(&format!("{}{}", self.head, self.rest), 300)
    }
}

/// What is to be remembered of a pass that ended at `now`, where something happened in it that did not happen in the
/// pass before as well: what merely fails again, or is still as it was, is nothing new.
pub fn passed(previous: Option<&Passed>, report: &Report, now: i64) -> Option<Passed> {
    let events = events(report);
    let attempted = report.revision.attempted.clone().filter(|commit| commit != "uncommitted");
    let same = previous.is_some_and(|before| {
        let moved = attempted.is_some() && before.revision.is_some() && before.revision != attempted;
        before.state == report.state && before.reason == report.reason && !moved && fails_as_before(before, &events)
    });
    if same && !events.iter().any(|event| event.done) {
        return None;
    }
    let acted_on_newest = report.revision.seen == report.revision.attempted;
    let commit = report.commit.as_ref().filter(|_| acted_on_newest && attempted.is_some());
    Some(Passed {
        pass: report.pass.clone(),
        at: now,
        command: report.command.to_owned(),
        state: report.state,
        reason: report.reason.clone(),
        message: report.message.as_deref().map(|message| one_line(message, 600)),
        subject: commit.map(|words| one_line(&words.subject, 200)),
        revision: attempted,
        lines: events.iter().take(LINES).map(Event::line).collect(),
        total: events.len(),
    })
}

/// Puts `pass` in front, and forgets what is too old: whole passes, and before that the lines of old ones.
pub fn remember(history: &mut Vec<Passed>, pass: Passed) {
    history.insert(0, pass);
    history.truncate(REMEMBERED);
    let mut lines = 0;
    for passed in history.iter_mut() {
        lines += passed.lines.len();
        if lines > ALL_LINES {
            passed.lines.clear();
        }
    }
}

/// Those that `which` names: the beginning of a commit id, four digits at least, or of the id of a pass.
pub fn matching<'a>(history: &'a [Passed], which: &str) -> Vec<&'a Passed> {
    let (commit, pass) = (which.to_ascii_lowercase(), which.to_ascii_uppercase());
    let named = |passed: &&Passed| {
        which.len() >= 4
            && (passed.revision.as_ref().is_some_and(|id| id.starts_with(&commit)) || passed.pass.starts_with(&pass))
    };
    history.iter().filter(named).collect()
}

/// What waits to be tried again is told in another order than what was just tried.
fn fails_as_before(before: &Passed, events: &[Event]) -> bool {
    let failed = |line: &&String| line.starts_with("failed ") || line.starts_with("skipped ");
    let known: Vec<&String> = before.lines.iter().filter(failed).collect();
    let now: Vec<String> =
        events.iter().take(LINES).filter(|event| !event.done).map(|event| one_line(&event.head, 299)).collect();
    known.len() == now.len() && now.iter().all(|head| known.iter().any(|line| line.starts_with(head)))
}

fn events(report: &Report) -> Vec<Event> {
    let mut all: Vec<Event> = report.steps.iter().filter_map(step).collect();
    let ended = |outcome: &str, done: String, (what, about): (String, &str), message: Option<&String>| match outcome {
        "done" => Some(Event { done: true, head: done, rest: String::new() }),
        "failed" => Some(Event {
            done: false,
            head: format!("failed {what}"),
            rest: message.map(|message| format!(": {}", of_it(about, message))).unwrap_or_default(),
        }),
        _ => None,
    };
    all.extend(report.activations.iter().filter_map(|line| {
        let what = word(line.what);
        ended(line.outcome, format!("ran {what}"), (what, ""), line.message.as_ref())
    }));
    all.extend(report.refreshes.iter().filter_map(|line| {
        let verb = match line.how {
            Refresh::Restart => "restarted",
            Refresh::Reload => "reloaded",
            Refresh::Start => "ran",
        };
        let what = format!("to {} {}", line.how.as_str(), line.id);
        ended(line.outcome, format!("{verb} {}", line.id), (what, line.id.as_str()), line.message.as_ref())
    }));
    all
}

fn step(line: &Line) -> Option<Event> {
    let id = one_line(line.id.as_str(), 200);
    let message = of_it(line.id.as_str(), line.message.as_deref().unwrap_or_default());
    Some(match line.outcome {
        "done" => {
            let verb = match line.action {
                "create" => "created",
                "change" => "changed",
                "take-over" => "took over",
                "remove" => "removed",
                "let-go" => "let go",
                _ => "did",
            };
            let mut rest = String::new();
            if !line.changes.is_empty() {
                let _ = write!(rest, "  {}", line.changes.join(", "));
            }
            // That a declaration moved is what is expected.
            if let Some(cause) = line.cause.filter(|cause| *cause != Cause::Intended) {
                let _ = write!(rest, "  {}", cause.as_str());
            }
            if let Some(kept) = &line.kept {
                let _ = write!(rest, "; what stood there: trueup restore {kept}");
            }
            if !message.is_empty() {
                let _ = write!(rest, "; {message}");
            }
            Event { done: true, head: format!("{verb} {id}"), rest }
        }
        "failed" => {
            let reason = line.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            Event { done: false, head: format!("failed {id}{reason}"), rest: format!(": {message}") }
        }
        "skipped" => Event { done: false, head: format!("skipped {id}"), rest: format!(" {message}") },
        _ => return None,
    })
}

/// One line a pass, for people, the newest first.
pub fn history_text(history: &[Passed], now: i64, palette: Palette) -> String {
    let mut out = String::new();
    // A word that says no more than the state is left out.
    let reason = |one: &Passed| {
        let reason = one.reason.as_deref().filter(|reason| *reason != one.state.as_str());
        escaped(reason.unwrap_or_default())
    };
    let width = history.iter().map(|one| reason(one).len()).max().unwrap_or(0).min(24);
    for (at, one) in history.iter().enumerate() {
        let moved = history.get(at + 1).is_none_or(|before| before.revision != one.revision);
        let ago = format!("{} ago", age(now.saturating_sub(one.at)));
        let commit = one.revision.as_deref().map_or("-", |commit| commit.get(..7).unwrap_or(commit));
        let state = palette.state(one.state, &format!("{:<11}", one.state.as_str()));
        let reason = reason(one);
        let row =
            format!("{ago:<10}  {:<26}  {commit:<7}  {state}  {reason:<width$}  {}", one.pass, summary(one, moved));
        let _ = writeln!(out, "{}", row.trim_end());
    }
    out
}

/// Everything that is remembered of one pass, for people.
pub fn passed_text(one: &Passed, now: i64, zone: &Zone, palette: Palette) -> String {
    let mut out = format!("pass {}", escaped(&one.pass));
    let _ =
        write!(out, "   {} ({} ago)   by {}", zone.clock(one.at, now), age(now.saturating_sub(one.at)), one.command);
    let _ = writeln!(out);
    if let Some(commit) = &one.revision {
        let subject = one.subject.as_deref().map(|subject| format!("  {}", escaped(subject))).unwrap_or_default();
        let _ = writeln!(out, "  revision  {}{subject}", escaped(commit));
    }
    let (reason, message) = (one.reason.as_deref(), one.message.as_deref());
    let _ = writeln!(out, "  {}", verdict(None, one.state, reason, message, palette));
    out.push_str(&lines_text(one, palette));
    out
}

/// What was done and what failed, indented.
pub fn lines_text(one: &Passed, palette: Palette) -> String {
    let mut out = String::new();
    for line in &one.lines {
        let line = escaped(line);
        let _ = match line.strip_prefix("failed ") {
            Some(rest) => writeln!(out, "  {} {rest}", palette.paint(AnsiColor::Red, "failed")),
            None => writeln!(out, "  {line}"),
        };
    }
    let more = one.total.saturating_sub(one.lines.len());
    if more > 0 {
        let other = if one.lines.is_empty() { "" } else { "more " };
        let _ = writeln!(out, "  {more} {other}told in: journalctl TRUEUP_PASS={}", escaped(&one.pass));
    }
    out
}

/// What a pass did, in a few words: which commit came with it where the host `moved`, else the gravest that it did.
fn summary(one: &Passed, moved: bool) -> String {
    let subject = one.subject.as_deref().map(|subject| one_line(subject, 60));
    let message = one.message.as_deref().filter(|_| one.state != State::InSync);
    if one.total == 0 {
        return message.map(|message| one_line(message, 80)).or(subject).unwrap_or_default();
    }
    let gravest = one.lines.iter().find(|line| line.starts_with("failed ")).or(one.lines.first());
    // Where its copy is stands in what is told of the pass.
    let gravest = gravest.map(|line| line.split("; what stood there").next().unwrap_or(line));
    match (subject.filter(|_| moved), gravest) {
        (Some(subject), _) => format!("{subject}: {}", counted(one)),
        (None, Some(line)) if one.total == 1 => one_line(line, 80),
        (None, Some(line)) => format!("{}, and {} more", one_line(line, 70), one.total - 1),
        (None, None) => counted(one),
    }
}

/// `2 done, 1 failed`
fn counted(one: &Passed) -> String {
    let count = |word: &str| one.lines.iter().filter(|line| line.starts_with(word)).count();
    let (failed, skipped) = (count("failed "), count("skipped "));
    if one.total > one.lines.len() {
        return format!("{} done or failed", one.total);
    }
    let said = [(one.total - failed - skipped, "done"), (failed, "failed"), (skipped, "skipped")];
    let said = said.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}"));
    said.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: State, reason: Option<&str>) -> Report {
        let mut report = Report::new("agent");
        report.pass = "01JD00000000000000000000AA".to_owned();
        (report.state, report.reason) = (state, reason.map(ToOwned::to_owned));
        report.revision.attempted = Some("4f2a9c1".repeat(6)[..40].to_owned());
        report
    }

    fn line(id: &str, outcome: &'static str, reason: Option<&str>, message: Option<&str>) -> Line {
        Line {
            id: id.parse().expect("an id"),
            action: "change",
            cause: Some(Cause::Corrective),
            changes: vec!["mode 0666 → 0644".to_owned()],
            diff: vec!["-secret".to_owned()],
            layer: String::new(),
            outcome,
            reason: reason.map(ToOwned::to_owned),
            message: message.map(ToOwned::to_owned),
            kept: None,
            late: false,
            attempts: 0,
            next: None,
        }
    }

    #[test]
    fn a_pass_like_the_one_before_is_nothing_new() {
        let quiet = report(State::InSync, None);
        let first = passed(None, &quiet, 1).expect("the first is told");
        assert_eq!(first.lines, Vec::<String>::new());
        assert_eq!(passed(Some(&first), &quiet, 2), None);
        // Told and planned is not done.
        let mut looked = quiet.clone();
        looked.steps =
            vec![line("file:/a", "reported", Some("report-only"), None), line("file:/b", "planned", None, None)];
        assert_eq!(passed(Some(&first), &looked, 2), None);
    }

    #[test]
    fn a_step_another_state_or_another_revision_is_told() {
        let first = passed(None, &report(State::InSync, None), 1).expect("told");
        let mut done = report(State::InSync, None);
        done.steps = vec![line("file:/a", "done", None, None)];
        done.steps[0].kept = Some("k-7f31".to_owned());
        let told = passed(Some(&first), &done, 2).expect("a step");
        let line = "changed file:/a  mode 0666 → 0644  corrective; what stood there: trueup restore k-7f31";
        assert_eq!((told.lines, told.total), (vec![line.to_owned()], 1));
        assert!(passed(Some(&first), &report(State::Degraded, Some("stale")), 2).is_some());
        let mut moved = report(State::InSync, None);
        moved.revision.attempted = Some("b".repeat(40));
        assert_eq!(passed(Some(&first), &moved, 2).expect("moved").revision, Some("b".repeat(40)));
    }

    #[test]
    fn what_fails_again_is_told_once() {
        let failing = |message: &str| {
            let mut report = report(State::Degraded, Some("in-the-way"));
            report.steps = vec![
                line("file:/a", "failed", Some("in-the-way"), Some(message)),
                line("unit:a.service", "skipped", None, Some("because file:/a")),
            ];
            report
        };
        let first = passed(None, &failing("tried again in 4 min"), 1).expect("told");
        assert_eq!(first.lines[0], "failed file:/a (in-the-way): tried again in 4 min");
        assert_eq!(passed(Some(&first), &failing("tried again in 3 min"), 2), None, "only the wait differs");
        let mut turned = failing("tried again in 2 min");
        turned.steps.reverse();
        assert_eq!(passed(Some(&first), &turned, 2), None, "only the order differs");
        let mut other = failing("x");
        other.steps.push(line("file:/b", "failed", Some("in-the-way"), Some("x")));
        assert_eq!(passed(Some(&first), &other, 2).expect("another failure").total, 3);
        let mut word = failing("x");
        word.steps[0].reason = Some("read-only".to_owned());
        assert!(passed(Some(&first), &word, 2).is_some(), "it fails otherwise");
    }

    #[test]
    fn ten_thousand_failures_are_bounded_and_told_once() {
        let mut many = report(State::Degraded, Some("in-the-way"));
        many.steps =
            (0..10_000).map(|n| line(&format!("file:/{n:05}"), "failed", Some("in-the-way"), Some("x"))).collect();
        let first = passed(None, &many, 1).expect("told");
        assert_eq!((first.lines.len(), first.total), (LINES, 10_000));
        assert_eq!(passed(Some(&first), &many, 2), None);
    }

    #[test]
    fn text_from_outside_cannot_forge_a_line() {
        let mut report = report(State::Degraded, Some("x"));
        report.message = Some("a\nb".to_owned());
        report.steps = vec![line("file:/a\nb", "failed", Some("x"), Some("\u{1b}[2J"))];
        let told = passed(None, &report, 1).expect("told");
        assert_eq!(told.message.as_deref(), Some("a\\nb"));
        assert_eq!(told.lines, ["failed file:/a\\nb (x): \\u{1b}[2J"]);
    }

    #[test]
    fn the_oldest_lose_their_lines_first_and_then_themselves() {
        let one = Passed {
            lines: vec!["x".to_owned(); LINES],
            total: LINES,
            ..passed(None, &report(State::InSync, None), 1).expect("told")
        };
        let mut history = Vec::new();
        for at in 0..300 {
            remember(&mut history, Passed { at, ..one.clone() });
        }
        assert_eq!((history.len(), history[0].at), (REMEMBERED, 299));
        let kept = history.iter().filter(|passed| !passed.lines.is_empty()).count();
        assert_eq!(kept, ALL_LINES / LINES);
        assert_eq!(history[REMEMBERED - 1].total, LINES, "how many there were is still known");
    }

    #[test]
    fn a_pass_is_found_by_the_beginning_of_its_commit_or_its_id() {
        let first = passed(None, &report(State::InSync, None), 1).expect("told");
        let history = [first];
        for (which, found) in [("4f2a", 1), ("4F2A9C1", 1), ("01jd0", 1), ("01JD", 1), ("4f2", 0), ("b81d07e", 0)] {
            assert_eq!(matching(&history, which).len(), found, "{which}");
        }
    }

    #[test]
    fn the_list_and_the_details_are_aligned_and_short() {
        let mut failing = report(State::Degraded, Some("in-the-way"));
        failing.message = Some("a directory stands at /a".to_owned());
        failing.steps = vec![
            line("file:/a", "failed", Some("in-the-way"), Some("a directory stands at /a")),
            line("file:/b", "done", None, None),
        ];
        let history =
            [passed(None, &failing, 40).expect("told"), passed(None, &report(State::InSync, None), 0).expect("told")];
        let expected = "\
1 min ago   01JD00000000000000000000AA  4f2a9c1  degraded     in-the-way  failed file:/a (in-the-way): a directory stands at /a, and 1 more
1 min ago   01JD00000000000000000000AA  4f2a9c1  in-sync
";
        assert_eq!(history_text(&history, 100, Palette::default()), expected);
        let expected = "\
pass 01JD00000000000000000000AA   00:00 (1 min ago)   by agent
  revision  4f2a9c14f2a9c14f2a9c14f2a9c14f2a9c14f2a9
  degraded   in-the-way: a directory stands at /a
  failed file:/a (in-the-way): a directory stands at /a
  changed file:/b  mode 0666 → 0644  corrective
";
        assert_eq!(passed_text(&history[0], 100, &Zone::utc(), Palette::default()), expected);
    }
}
