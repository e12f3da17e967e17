//! From plans and what came of them to a report.

use super::{
    ActivationLine, CommitWords, Counts, Line, NoteLine, RefreshLine, Report, Revisions, SignedBy, State,
    TRANSPORT_ONLY, UNVERIFIED, VERSION,
};
use crate::apply::Applied;
use crate::host::About;
use crate::kinds::unit::{self, Why};
use crate::kinds::{Observed, Refresh};
use crate::model::{Change, Class, Detail, Outcome, Revision, Stop};
use crate::plan::{Action, Plan, Step, Told};
use crate::report::text::of_it;
use crate::source::Passed;

impl Report {
    /// Whether it has to be known who signed a revision. Nothing is known of that yet.
    pub fn ask_for_signers(&mut self, asked: bool) {
        self.authenticity = if asked { UNVERIFIED } else { TRANSPORT_ONLY };
        self.signed = None;
    }

    /// The revision is believed because of `passed`, where somebody has to have signed it.
    pub fn believe(&mut self, passed: Option<&Passed>) {
        if let Some(Passed { by, fingerprint, mode, .. }) = passed {
            self.authenticity = "signed";
            self.signed = Some(SignedBy { by: by.clone(), key: fingerprint.clone(), mode: mode.clone() });
        }
    }

    /// Nothing known yet.
    pub fn new(command: &'static str) -> Self {
        Self {
            version: VERSION,
            command,
            pass: String::new(),
            host: None,
            state: State::InSync,
            reason: None,
            message: None,
            revision: Revisions::default(),
            source_error: None,
            look_only: false,
            observed: false,
            unasked: false,
            settling: false,
            undo: false,
            back_to: None,
            judged: None,
            walls: None,
            anew: None,
            update: None,
            authenticity: TRANSPORT_ONLY,
            signed: None,
            commit: None,
            steps: Vec::new(),
            refreshes: Vec::new(),
            activations: Vec::new(),
            left: Vec::new(),
            deferred: Vec::new(),
            notes: Vec::new(),
            asides: Vec::new(),
            problems: String::new(),
            counts: Counts::default(),
        }
    }

    /// Notes the revision that was seen.
    pub fn seen(&mut self, revision: &Revision) {
        self.revision.seen = Some(commit_text(revision));
        self.commit = revision.commit.is_some().then(|| CommitWords {
            subject: revision.subject.clone(),
            author: revision.author.clone(),
            time: revision.time,
        });
    }

    /// Tells `plan`, as planned.
    pub fn plan(&mut self, plan: &Plan) {
        self.observed = true;
        self.steps = plan.steps.iter().map(step_line).collect();
        self.steps.extend(plan.told.iter().map(told_line));
        self.steps.extend(plan.failed.iter().map(|unseen| Line {
            id: unseen.id.clone(),
            action: "look",
            cause: None,
            changes: Vec::new(),
            diff: Vec::new(),
            layer: String::new(),
            outcome: "failed",
            reason: Some(unseen.reason.to_owned()),
            message: Some(unseen.message.clone()),
            kept: None,
            late: false,
            attempts: 0,
            next: None,
        }));
        self.refreshes = plan
            .refreshes
            .iter()
            .map(|refresh| RefreshLine {
                id: refresh.id.clone(),
                how: refresh.how,
                because: refresh.because.clone(),
                outcome: "planned",
                reason: None,
                message: None,
                attempts: 0,
                next: None,
            })
            .collect();
        let planned = |&what| ActivationLine { what, outcome: "planned", message: None, attempts: 0, next: None };
        self.activations = plan.activations.iter().map(planned).collect();
        self.left = plan.left.iter().map(|left| NoteLine { id: left.id.clone(), note: left.why.clone() }).collect();
        self.deferred = plan
            .deferred
            .iter()
            .map(|unseen| NoteLine { id: unseen.id.clone(), note: unseen.message.clone() })
            .collect();
        if plan.packages_after_sources() {
            self.notes.push("packages: planned after sources".to_owned());
        }
        let refreshes = |how| {
            plan.refreshes.iter().filter(|refresh| refresh.how == how).count()
                + plan.steps.iter().filter(|step| step.remedy() == Some(how)).count()
        };
        self.counts = Counts {
            managed: plan.wanted,
            changes: plan.steps.len(),
            removals: plan.removals().count(),
            restarts: refreshes(Refresh::Restart),
            reloads: refreshes(Refresh::Reload),
            failed: plan.failed.len(),
        };
        self.held(plan);
        if !plan.is_empty() {
            self.raise(State::Pending, "changes", None);
        }
        self.drifted(plan);
        let degraded = plan.told.iter().find(|told| told.reason == "takeover-refused");
        if let Some(told) = degraded {
            self.raise(State::Degraded, told.reason, Some(format!("{} stands on this host already", told.id)));
        }
        if let Some(unseen) = plan.failed.first() {
            self.raise(State::Degraded, unseen.reason, Some(unseen.message.clone()));
        }
    }

    /// What is only told is a difference that stays.
    fn drifted(&mut self, plan: &Plan) {
        if plan.told.iter().any(|told| told.reason == "report-only") {
            self.raise(State::Drifted, "drift", None);
        }
        if let Some(told) = plan.told.iter().find(|told| Why::has_word(told.reason)) {
            let changes = change_words(&told.changes, "").join(", ");
            let message = format!("{} {changes}; {}", told.id, unit::advice(told.id.name()));
            self.raise(State::Drifted, told.reason, Some(message));
        }
    }

    /// Tells what came of the plan told before. What was pending is so no longer.
    pub fn applied(&mut self, plan: &Plan, applied: &Applied) {
        if self.state == State::Pending && self.reason.as_deref() == Some("changes") {
            (self.state, self.reason, self.message) = (State::InSync, None, None);
            self.drifted(plan);
        }
        self.steps.splice(
            plan.steps.len()..plan.steps.len(),
            applied.afterwards.iter().map(|step| Line { late: true, ..step_line(step) }),
        );
        let steps = plan.steps.len() + applied.afterwards.len();
        let mut failures = Vec::new();
        for line in self.steps.iter_mut().take(steps) {
            line.outcome = match applied.outcomes.get(&line.id) {
                Some(Outcome::Done) => {
                    line.kept = applied.kept.get(&line.id).cloned();
                    line.message = applied.stays.get(&line.id).map(|why| format!("it stays: {why}"));
                    if applied.unkept.contains(&line.id) {
                        let why = "no copy of what stood there is kept: 256 MiB of edits are, of this pass alone";
                        line.message = Some(why.to_owned());
                    }
                    "done"
                }
                Some(Outcome::Failed { reason, message }) => {
                    line.reason = Some(reason.clone());
                    line.message = Some(message.clone());
                    // A package of a directory is not at fault.
                    if reason != "deferred" {
                        failures.push((reason.clone(), message.clone()));
                    }
                    if reason == "deferred" { "deferred" } else { "failed" }
                }
                Some(Outcome::Skipped { because }) => {
                    line.message = Some(format!("because {because}"));
                    failures.push(("skipped".to_owned(), format!("{} because {because}", line.id)));
                    "skipped"
                }
                None => "not-tried",
            };
        }
        // What is held back stays as it was told.
        for line in self.refreshes.iter_mut().filter(|line| line.outcome == "planned") {
            line.outcome = "not-tried";
        }
        for refreshed in &applied.refreshed {
            let (outcome, message) = ended(&refreshed.outcome);
            let reload = refreshed.instead.as_deref().map(|why| of_it(refreshed.id.as_str(), why));
            let message = message.or(reload.map(|why| format!("its reload failed: {why}")));
            let line = RefreshLine {
                id: refreshed.id.clone(),
                how: refreshed.how,
                because: refreshed.because.clone(),
                outcome,
                reason: None,
                message,
                attempts: 0,
                next: None,
            };
            match self.refreshes.iter_mut().find(|known| known.id == line.id) {
                Some(known) => *known = line,
                None => self.refreshes.push(line),
            }
            failures.extend(failure(&refreshed.outcome));
        }
        self.activations.retain(|line| line.outcome != "planned");
        let activated = applied.activated.iter().map(|(what, outcome)| {
            let (outcome, message) = ended(outcome);
            ActivationLine { what: *what, outcome, message, attempts: 0, next: None }
        });
        let before = std::mem::take(&mut self.activations);
        self.activations = activated.chain(before).collect();
        failures.extend(applied.activated.iter().filter_map(|(_, outcome)| failure(outcome)));
        if let Some(refusal) = &applied.refused {
            failures.push((refusal.reason().to_owned(), format!("after packages: {refusal}")));
        }
        self.notes.extend(applied.asides.iter().map(|aside| match aside.about {
            About::Beside(_) | About::Script(_) => format!("packages: {}", aside.line),
            About::Engine(_) => aside.line.clone(),
        }));
        self.asides.clone_from(&applied.asides);
        self.counts.failed += failures.len();
        // What was skipped is not the cause.
        failures.sort_by_key(|(reason, _)| reason == "skipped");
        if let Some((reason, message)) = failures.into_iter().next() {
            self.raise(State::Degraded, &reason, Some(message));
        }
        if !applied.interrupted
            && let Some(line) = self.steps.iter().take(steps).find(|line| line.outcome == "not-tried")
        {
            let message = format!("{} was not tried", line.id);
            self.raise(State::Degraded, "not-tried", Some(message));
        }
        if applied.interrupted {
            self.raise(
                State::Pending,
                "interrupted",
                Some("ended between steps, as asked; the rest is still to do".to_owned()),
            );
        }
    }

    /// What this one says, which looked at no resource, and of resources what `before` found.
    #[must_use]
    pub fn over(self, before: &Self) -> Self {
        let before = before.clone();
        let known = self.revision.seen.is_some();
        Self {
            observed: before.observed,
            host: self.host.or(before.host),
            update: self.update.or(before.update),
            commit: if known { self.commit } else { before.commit },
            revision: Revisions {
                seen: self.revision.seen.or(before.revision.seen),
                attempted: self.revision.attempted.or(before.revision.attempted),
                applied: self.revision.applied.or(before.revision.applied),
            },
            steps: before.steps,
            refreshes: before.refreshes,
            activations: before.activations,
            left: before.left,
            deferred: before.deferred,
            counts: before.counts,
            ..self
        }
    }

    /// The pass could not go on.
    pub fn stopped(&mut self, stop: &Stop) {
        let state = match stop.class {
            _ if ["held", "interrupted"].contains(&stop.reason.as_str()) => State::Pending,
            Class::Stalled => State::Stalled,
            Class::Transient => State::Degraded,
        };
        // Before that is over nothing else is mended.
        self.insist(state, stop);
    }

    /// Says `why`, which stays true whatever was done, unless something worse holds.
    pub fn insist(&mut self, state: State, why: &Stop) {
        if state >= self.state {
            self.state = state;
            self.reason = Some(why.reason.clone());
            self.message = Some(why.message.clone());
        }
    }

    /// Sets the state, unless a worse one holds.
    pub fn raise(&mut self, state: State, reason: &str, message: Option<String>) {
        if state > self.state {
            self.state = state;
            self.reason = Some(reason.to_owned());
            self.message = message;
        }
    }

    /// Whether everything of the revision holds.
    pub fn converged(&self) -> bool {
        self.state <= State::Drifted || (self.state == State::Suspended && !self.waits_for_suspended())
    }
}

/// The full commit id, or `uncommitted`.
pub fn commit_text(revision: &Revision) -> String {
    revision.commit.as_ref().map_or_else(|| "uncommitted".to_owned(), ToString::to_string)
}

fn failure(outcome: &Outcome) -> Option<(String, String)> {
    match outcome {
        Outcome::Failed { reason, message } => Some((reason.clone(), message.clone())),
        _ => None,
    }
}

fn ended(outcome: &Outcome) -> (&'static str, Option<String>) {
    match outcome {
        Outcome::Done => ("done", None),
        Outcome::Failed { message, .. } => ("failed", Some(message.clone())),
        Outcome::Skipped { because } => ("skipped", Some(format!("because {because}"))),
    }
}

pub(super) fn step_line(step: &Step) -> Line {
    let detail = step.detail.clone().unwrap_or_default();
    Line {
        id: step.id.clone(),
        action: match step.action {
            Action::Create => "create",
            Action::Change => "change",
            Action::TakeOver => "take-over",
            Action::Remove => "remove",
            Action::LetGo => "let-go",
        },
        cause: Some(step.cause),
        changes: change_words(&step.changes, &detail.summary),
        diff: detail.lines,
        layer: step.layer.clone(),
        outcome: "planned",
        reason: behind(step),
        message: None,
        kept: None,
        late: false,
        attempts: 0,
        next: None,
    }
}

/// The stable word of what a unit is behind in, where that is what the step is for.
fn behind(step: &Step) -> Option<String> {
    match &step.seen {
        Observed::Unit(seen) => seen.behind.iter().find(|it| it.remedy.is_some()).map(|it| it.why.word().to_owned()),
        _ => None,
    }
}

fn told_line(told: &Told) -> Line {
    let detail = told.detail.clone().unwrap_or_default();
    Line {
        id: told.id.clone(),
        action: "report",
        cause: Some(told.cause),
        changes: change_words(&told.changes, &detail.summary),
        diff: detail.lines,
        layer: told.layer.clone(),
        outcome: "reported",
        reason: Some(told.reason.to_owned()),
        message: Why::has_word(told.reason).then(|| unit::advice(told.id.name())),
        kept: None,
        late: false,
        attempts: 0,
        next: None,
    }
}

fn change_words(changes: &[Change], summary: &str) -> Vec<String> {
    let words = |change: &Change| match change.property.as_str() {
        "content" if !summary.is_empty() => format!("content {summary}"),
        "state" if *summary == Detail::of_secret().summary => format!("{change} (secret)"),
        // A new file: how long it is.
        "state" if !summary.is_empty() => format!("{change} {summary}"),
        _ => change.to_string(),
    };
    changes.iter().map(words).collect()
}
