//! The host as a whole: told when it changes.

use super::Pass;
use crate::host::Priority;
use crate::kinds::unit::Why;
use crate::model::{Cause, Class};
use crate::report::journal::Event;
use crate::report::journal::sentence::{self, count, grouped, tally};
use crate::report::{Line, State, age};

/// What is not found by looking at resources.
pub(super) const STANDING: &[&str] = &[SOURCE];
/// How the host is, before the word and the reason: what comes and goes is told less often, something else at once.
const HOST: &str = "host ";
/// Whether the source answers.
const SOURCE: &str = "source";

/// A source that is silent for less than this, in seconds, is not worth an entry, where the host goes on without it.
pub const BLINK: i64 = 300;

/// Reasons for which a revision must not be acted on, whoever waits.
const REFUSED: &[&str] = &[
    "not-a-descendant",
    "below-floor",
    "corrupt-object",
    "guard",
    "protected",
    "self-trust",
    "unsigned",
    "several-signatures",
    "unknown-signature",
    "bad-signature",
    "unknown-key",
    "revoked-key",
    "expired-key",
    "not-yet-valid-key",
    "weak-key",
    "bad-trust",
    "signers-removed",
    "bad-signers",
    "unrelated-history",
];

/// A state that is worth an entry.
struct Condition {
    event: Event,
    priority: Priority,
    /// The same as long as this is.
    what: String,
    /// Told once an hour where these change.
    words: String,
    sentence: String,
    commit: Option<String>,
    count: Option<usize>,
}

impl Pass<'_> {
    /// Why what is planned is not done.
    pub(super) fn why_not(&self) -> String {
        let report = self.report;
        match (report.state, report.reason.as_deref(), &report.message) {
            (State::Pending, Some("changes" | "observe"), _) => "update = \"observe\"".to_owned(),
            (State::Suspended, _, Some(message)) => format!("suspended: {message}"),
            (State::Suspended, _, None) => "suspended".to_owned(),
            (_, Some(reason), _) => reason.to_owned(),
            _ => "nothing is changed by this pass".to_owned(),
        }
    }

    /// How the host and its source are, where that changed.
    pub(super) fn state(&mut self) {
        let silent = self.source();
        let state = if silent { self.without_source() } else { self.report.state };
        let condition = if silent && state < State::Degraded { None } else { self.condition(state) };
        match condition {
            Some(condition) => {
                // Of a host where resources failed it is that they did: each says itself why.
                let failing = condition.event == Event::Degraded && self.failing() && !self.cut_short();
                let reason = self.report.reason.as_deref().filter(|_| !failing).unwrap_or_default();
                let about = format!("{HOST}{} {reason}", condition.event.as_str());
                self.told.others_are_over(HOST, Some(&about));
                if self.is_news(about, &condition.what, &condition.words) {
                    self.tell(&condition);
                }
            }
            // On its way to one or the other.
            None if state == State::Converging => {}
            None => self.told.others_are_over(HOST, None),
        }
        if self.trouble {
            self.told.worst = self.told.worst.max(Some(state));
        }
        self.converged(state);
    }

    fn tell(&mut self, condition: &Condition) {
        let draft = self
            .draft(condition.event, &condition.sentence, condition.commit.as_deref())
            .priority(condition.priority)
            .with("TRUEUP_REASON", self.report.reason.as_deref().unwrap_or_default())
            .with("TRUEUP_COUNT", &condition.count.map_or_else(String::new, |count| count.to_string()));
        self.push(draft);
    }

    /// Tells when the source falls silent and when it answers again. Whether it being silent is why the state is as
    /// it is.
    fn source(&mut self) -> bool {
        let report = self.report;
        let Some(error) = report.source_error.as_ref().filter(|error| error.class == Class::Transient) else {
            // A pass that ended before it asked knows nothing of the source.
            if report.source_error.is_none() && report.revision.seen.is_none() {
                return false;
            }
            let since = self.told.silent_since.take();
            if self.told.holds(SOURCE) {
                self.told.over(SOURCE);
                let after = since.map_or_else(String::new, |since| format!(" after {}", age(self.now - since)));
                let draft = self.draft(
                    Event::Reachable,
                    &format!("the source answers again{after}"),
                    report.revision.seen.as_deref(),
                );
                self.push(draft);
            }
            return false;
        };
        let since = *self.told.silent_since.get_or_insert(self.now);
        let silent = report.state == State::Degraded && report.reason.as_deref() == Some(&error.reason);
        let lasting = self.now.saturating_sub(since) >= BLINK;
        if (silent || lasting) && self.told.is_news(SOURCE, "silent", "", self.now) {
            let since = if since < self.now { format!(" for {}", age(self.now - since)) } else { String::new() };
            let keeping = match &report.revision.attempted {
                Some(commit) => format!("; keeping to {}", sentence::short(commit)),
                None => String::new(),
            };
            let sentence = format!("the source does not answer{since}: {}{keeping}", error.message);
            let draft = self
                .draft(Event::Unreachable, &sentence, report.revision.attempted.as_deref())
                .with("TRUEUP_REASON", &error.reason);
            self.push(draft);
        }
        silent
    }

    /// The state as it were if the source answered.
    fn without_source(&self) -> State {
        let report = self.report;
        let reason = |word| report.steps.iter().any(|line| line.reason.as_deref() == Some(word));
        if self.failing() {
            State::Degraded
        } else if reason("suspended") {
            State::Suspended
        } else if reason("report-only") || report.steps.iter().any(stays_behind) {
            State::Drifted
        } else {
            State::InSync
        }
    }

    /// Whether resources are why the host is degraded.
    fn failing(&self) -> bool {
        tally(self.report, "failed") + tally(self.report, "skipped") > 0 || self.contests() > 0
    }

    /// Whether the pass could not do what it had planned, and says itself why.
    fn cut_short(&self) -> bool {
        self.report.steps.iter().any(|line| line.outcome == "planned")
    }

    fn contests(&self) -> usize {
        self.report.steps.iter().filter(|line| line.reason.as_deref() == Some("contested")).count()
    }

    fn condition(&self, state: State) -> Option<Condition> {
        let report = self.report;
        let reason = report.reason.as_deref().unwrap_or_default();
        let message = report.message.as_deref().unwrap_or_default();
        let seen = report.revision.seen.clone();
        let plain = |event: Event| Condition {
            event,
            priority: event.priority(),
            what: format!("{} {reason} {}", event.as_str(), seen.as_deref().unwrap_or_default()),
            words: message.to_owned(),
            sentence: self.why(event),
            commit: seen.clone(),
            count: None,
        };
        match state {
            State::Stalled if REFUSED.contains(&reason) => Some(plain(Event::Refused)),
            // Nobody set it up yet: that is no trouble.
            State::Stalled if reason == "unconfigured" => {
                Some(Condition { priority: Priority::Notice, ..plain(Event::Stalled) })
            }
            State::Stalled => Some(plain(Event::Stalled)),
            State::RolledBack => Some(plain(Event::RolledBack)),
            State::Degraded if self.failing() && !self.cut_short() => Some(self.degraded(plain(Event::Degraded))),
            // The same trouble with another revision is the same trouble.
            State::Degraded => Some(Condition { what: format!("degraded {reason}"), ..plain(Event::Degraded) }),
            State::Pending if reason == "interrupted" => Some(plain(Event::Interrupted)),
            State::Pending if reason == "held" => Some(self.held(plain(Event::Pending))),
            State::Pending if !["changes", "observe"].contains(&reason) => Some(plain(Event::Pending)),
            State::Pending | State::Suspended => self.waiting(plain(Event::Pending)),
            State::InSync | State::Converging | State::Drifted => None,
        }
    }

    /// The reason and the message of the report, without what the event says already.
    fn why(&self, event: Event) -> String {
        let reason = self.report.reason.as_deref().unwrap_or_default();
        match self.report.message.as_deref() {
            None | Some("") => reason.to_owned(),
            // The line says itself why.
            Some(message) if event == Event::RolledBack => message.to_owned(),
            Some(message) if reason == event.as_str() || reason.is_empty() => message.to_owned(),
            Some(message) => format!("{reason}: {message}"),
        }
    }

    fn degraded(&self, plain: Condition) -> Condition {
        let report = self.report;
        let parts: Vec<String> = [
            (tally(report, "failed"), "failed"),
            (tally(report, "skipped"), "skipped"),
            (self.contests(), "contested"),
        ]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", grouped(number)))
        .collect();
        let sentence = format!("{}, of {} managed", parts.join(", "), count(report.counts.managed, "resource"));
        // Each has an entry of its own.
        Condition {
            what: "degraded".to_owned(),
            words: String::new(),
            sentence,
            commit: report.revision.attempted.clone(),
            ..plain
        }
    }

    fn held(&self, plain: Condition) -> Condition {
        let report = self.report;
        let seen = report.revision.seen.as_deref().unwrap_or_default();
        let title = sentence::titled(seen, &report.revision, report.commit.as_ref());
        let sentence = format!("{title} is seen and not applied (update = \"hold\"): trueup approve");
        Condition { words: String::new(), sentence, ..plain }
    }

    /// Changes that are known and not made; what drifted has entries of its own.
    fn waiting(&self, plain: Condition) -> Option<Condition> {
        let report = self.report;
        let waits = |line: &&Line| line.outcome == "planned" && line.cause == Some(Cause::Intended);
        let waiting: Vec<String> = report
            .steps
            .iter()
            .filter(waits)
            .map(|line| format!("{} {} {}", line.id, line.changes.join(" "), line.diff.join("\n")))
            .collect();
        if waiting.is_empty() {
            return None;
        }
        let seen = report.revision.seen.as_deref().unwrap_or_default();
        let title = sentence::titled(seen, &report.revision, report.commit.as_ref());
        let changes = count(waiting.len(), "change");
        let sentence = format!("{title}: {changes} not made: {}", self.why_not());
        Some(Condition {
            what: format!("waiting\n{}", waiting.join("\n")),
            words: String::new(),
            sentence,
            count: Some(waiting.len()),
            ..plain
        })
    }

    /// Says that all is well again, where something else was said before.
    fn converged(&mut self, state: State) {
        let report = self.report;
        let Some(worst) = self.told.worst else { return };
        // A host that has nothing, or that nobody looked at, is in sync with nothing.
        let looked = report.observed || report.source_error.is_none();
        let Some(applied) = report.revision.applied.as_deref().filter(|_| looked) else { return };
        let title = sentence::titled(applied, &report.revision, report.commit.as_ref());
        let sentence = match state {
            State::InSync => format!("in sync with {title}: {}", count(report.counts.managed, "resource")),
            State::Drifted if worst > State::Drifted => {
                format!("{title} holds again, but for what is only reported")
            }
            _ => return,
        };
        self.told.worst = (state == State::Drifted).then_some(State::Drifted);
        let draft = self.draft(Event::Converged, &sentence, Some(applied));
        self.push(draft);
    }
}

/// A unit that runs what is older than what stands there, and is left to.
fn stays_behind(line: &Line) -> bool {
    line.outcome == "reported" && line.reason.as_deref().is_some_and(Why::has_word)
}
