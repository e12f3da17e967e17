//! From the report of a pass to what the journal is told of it.

use std::collections::{BTreeMap, BTreeSet};

use super::sentence::{self, count, grouped, tally};
use super::{Draft, Event, Told};
use crate::host::{About, Entry};
use crate::kinds::Activation;
use crate::model::{Cause, Id, Word, one_line};
use crate::report::held::utc;
use crate::report::text::word;
use crate::report::{Line, RefreshLine, Report, State};
use crate::source::Anew;

mod state;

pub use state::BLINK;

/// How many entries of one event a pass makes; the rest is one entry with the count.
const EACH: usize = 20;
/// What a list of ids may be long, in bytes.
const LIST: usize = 2000;

/// What `report`, of a whole pass, is worth in entries at `now` (seconds since 1970), `told` being what was said
/// before. A host that is as it was is worth none.
pub fn entries(told: &mut Told, report: &Report, now: i64) -> Vec<Entry> {
    let mut pass = Pass::new(told, report, now);
    pass.lost();
    pass.anew();
    for line in &report.steps {
        pass.line(line);
    }
    for line in &report.refreshes {
        pass.refresh(line);
    }
    pass.engines();
    pass.asides();
    pass.left();
    pass.rest();
    pass.revision();
    pass.state();
    pass.forget();
    pass.entries
}

/// The telling of one pass.
struct Pass<'a> {
    report: &'a Report,
    told: &'a mut Told,
    now: i64,
    entries: Vec<Entry>,
    /// What was found this time, by what it is about.
    known: BTreeSet<String>,
    /// Entries so far.
    each: BTreeMap<Event, usize>,
    /// What found no place, by event and by what becomes of it.
    more: BTreeMap<(Event, &'static str), More>,
    /// Something was said that asks for a word when it is over.
    trouble: bool,
}

/// What found no place.
#[derive(Default)]
struct More {
    count: usize,
    ids: String,
}

impl<'a> Pass<'a> {
    fn new(told: &'a mut Told, report: &'a Report, now: i64) -> Self {
        Self {
            report,
            told,
            now,
            entries: Vec::new(),
            known: BTreeSet::new(),
            each: BTreeMap::new(),
            more: BTreeMap::new(),
            trouble: false,
        }
    }

    /// An entry of this pass.
    fn draft(&self, event: Event, sentence: &str, commit: Option<&str>) -> Draft {
        Draft::new(event, sentence)
            .with("TRUEUP_PASS", &self.report.pass)
            .with("TRUEUP_REVISION", commit.unwrap_or_default())
            .with("TRUEUP_STATE", self.report.state.as_str())
    }

    fn push(&mut self, draft: Draft) {
        self.entries.push(draft.done());
    }

    /// Says something of `id`, where there is still place for it; else it is among the rest, of which `rest` says
    /// what becomes.
    fn say(&mut self, event: Event, id: &Id, rest: &'static str, draft: impl FnOnce(&Self) -> Draft) {
        let so_far = self.each.entry(event).or_default();
        *so_far += 1;
        if *so_far <= EACH {
            let draft = draft(self);
            return self.push(draft);
        }
        let more = self.more.entry((event, rest)).or_default();
        more.count += 1;
        if more.ids.len() + id.as_str().len() < LIST {
            more.ids.push_str(if more.ids.is_empty() { "" } else { " " });
            more.ids.push_str(id.as_str());
        }
    }

    /// As [`Told::is_news`]; what is found is not over.
    fn is_news(&mut self, about: String, what: &str, words: &str) -> bool {
        let news = self.told.is_news(&about, what, words, self.now);
        self.known.insert(about);
        self.trouble |= news;
        news
    }

    /// The commit that was acted on: where one is undone, that which this host goes back to.
    fn commit(&self) -> &'a str {
        let Report { revision, back_to, .. } = self.report;
        let acted_on = back_to.as_deref().or(revision.attempted.as_deref());
        acted_on.or(revision.seen.as_deref()).unwrap_or("uncommitted")
    }

    /// The fields of one resource.
    fn about(&self, event: Event, sentence: &str, line: &Line) -> Draft {
        self.draft(event, sentence, Some(self.commit()))
            .with("TRUEUP_RESOURCE", line.id.as_str())
            .with("TRUEUP_CAUSE", line.cause.map_or("", Word::as_str))
            .with("TRUEUP_CHANGE", &line.changes.join(", "))
            .with("TRUEUP_LAYER", &line.layer)
            .with("TRUEUP_REASON", line.reason.as_deref().unwrap_or_default())
            .with("TRUEUP_KEPT", line.kept.as_deref().unwrap_or_default())
    }

    /// What nobody took earlier.
    fn lost(&mut self) {
        let lost = self.told.take_lost();
        if lost > 0 {
            let number = usize::try_from(lost).unwrap_or(usize::MAX);
            let these = if number == 1 { "entry" } else { "entries" };
            let sentence = format!("the journal did not take {} {these} in time", grouped(number));
            let draft = self.draft(Event::Lost, &sentence, None).with("TRUEUP_COUNT", &lost.to_string());
            self.push(draft);
        }
    }

    /// Nothing is known of the branch that a tip has to contain, on a host that followed one before.
    fn anew(&mut self) {
        let report = self.report;
        let (Some(anew), Some(seen)) = (&report.anew, report.revision.seen.as_deref()) else { return };
        let tip = sentence::titled(seen, &report.revision, report.commit.as_ref());
        let (event, sentence) = match anew {
            Anew::StateLost { from: None } => (
                Event::StateLost,
                format!(
                    "what was acted on here is remembered no more; {tip} is adopted anew, and may be older than that"
                ),
            ),
            Anew::StateLost { from: Some(from) } => (
                Event::StateLost,
                format!("our record of the branches is gone; going on from {}, which the ledger knows", from.short()),
            ),
            Anew::OtherBranch { before } => {
                let before = one_line(before, 200);
                (Event::BranchChanged, format!("another branch than {before} is followed now; it is adopted at {tip}"))
            }
        };
        let about = "anew".to_owned();
        if self.told.is_news(&about, &format!("{anew:?}"), "", self.now) {
            self.push(self.draft(event, &sentence, Some(seen)));
        }
        self.known.insert(about);
    }

    /// One resource. What was skipped, deferred or not tried is only counted.
    fn line(&mut self, line: &Line) {
        match (line.outcome, line.reason.as_deref()) {
            ("done", _) => self.done(line),
            ("failed", _) => self.failed(line, line.message.as_deref()),
            ("reported", Some("takeover-refused")) => {
                self.failed(line, Some("it stands on this host already, and takeover = \"refuse\""));
            }
            ("reported", Some("contested")) => self.contested(line),
            ("reported", reason) => {
                let until = line.next.map_or_else(String::new, |next| format!(" until {}", utc(next)));
                let words = line.message.as_deref().map_or_else(String::new, |message| format!(" {message}"));
                let why = format!("{}{until}{words}", reason.unwrap_or("policy"));
                self.left_alone(line, &why);
            }
            ("planned", _) if line.cause != Some(Cause::Intended) => self.left_alone(line, &self.why_not()),
            _ => {}
        }
    }

    /// Something was done: told each time.
    fn done(&mut self, line: &Line) {
        let commit = self.commit();
        let (event, rest) = match (line.action, line.cause) {
            ("let-go", _) => (Event::LetGo, "let go of"),
            (_, Some(Cause::Corrective | Cause::Conflicting)) => (Event::Drift, "put back"),
            ("take-over", _) => (Event::TakenOver, "taken over"),
            _ => (Event::Changed, "changed"),
        };
        self.say(event, &line.id, rest, |pass| {
            let sentence = match event {
                Event::Drift => sentence::put_back(line, commit, line.cause == Some(Cause::Conflicting)),
                _ => sentence::changed(line, commit),
            };
            pass.about(event, &sentence, line)
        });
    }

    /// A difference that stays: told once, until it is another.
    fn left_alone(&mut self, line: &Line, why: &str) {
        let reason = line.reason.as_deref().unwrap_or_default();
        let cause = line.cause.map_or("", Word::as_str);
        let what = format!("{cause}\n{reason}\n{}\n{}", line.changes.join("\n"), line.diff.join("\n"));
        if self.is_news(format!("drift {}", line.id), &what, why) {
            // What is intended and has to wait is no drift.
            let event = if line.cause == Some(Cause::Intended) { Event::Pending } else { Event::Drift };
            let rest = "left as they are; trueup drift lists them";
            self.say(event, &line.id, rest, |pass| pass.about(event, &sentence::left_alone(line, why), line));
        }
    }

    fn contested(&mut self, line: &Line) {
        if self.is_news(format!("contested {}", line.id), "contested", "") {
            let why = line.message.as_deref().unwrap_or("it does not stay as declared");
            let until = line.next.map_or_else(|| "for a while".to_owned(), |next| format!("until {}", utc(next)));
            self.say(Event::Contested, &line.id, "left alone for a while; trueup status lists them", |pass| {
                let (name, changes) = (sentence::name(&line.id), sentence::changes(line));
                let sentence = format!("{name} {changes}, left alone {until}: {why}");
                pass.about(Event::Contested, &sentence, line)
            });
        }
    }

    fn failed(&mut self, line: &Line, message: Option<&str>) {
        let reason = line.reason.as_deref();
        if self.is_news(format!("failed {}", line.id), reason.unwrap_or_default(), message.unwrap_or_default()) {
            self.say(Event::Failed, &line.id, "trueup status lists them", |pass| {
                pass.about(Event::Failed, &sentence::failed(&line.id, reason, message), line)
            });
        }
    }

    fn refresh(&mut self, line: &RefreshLine) {
        let because: Vec<&str> =
            line.because.iter().map(|id| id.name().rsplit('/').next().unwrap_or(id.name())).collect();
        let commit = self.commit();
        let about = |pass: &Self, event, sentence: &str| {
            pass.draft(event, sentence, Some(commit)).with("TRUEUP_RESOURCE", line.id.as_str())
        };
        match line.outcome {
            "done" => self.say(Event::Refreshed, &line.id, "restarted, reloaded or run", |pass| {
                let because = sentence::some(&because, 5);
                let reload =
                    line.message.as_deref().map_or_else(String::new, |why| format!("; {}", one_line(why, 300)));
                let sentence = format!("{}: {because} changed{reload}", sentence::refreshed(line));
                about(pass, Event::Refreshed, &sentence).with("TRUEUP_CHANGE", line.how.as_str())
            }),
            "failed" => {
                let message = line.message.as_deref();
                if self.is_news(format!("refresh {}", line.id), line.how.as_str(), message.unwrap_or_default()) {
                    self.say(Event::Failed, &line.id, "trueup status lists them", |pass| {
                        let sentence = sentence::failed(&line.id, Some(line.how.as_str()), message);
                        about(pass, Event::Failed, &sentence).with("TRUEUP_CHANGE", line.how.as_str())
                    });
                }
            }
            _ => {}
        }
    }

    /// What the system's own engines could not do, and what only a reboot does.
    fn engines(&mut self) {
        let (report, commit) = (self.report, self.commit());
        for line in &report.activations {
            let what = word(line.what);
            if line.outcome == "done" && line.what == Activation::NeedsReboot {
                let sentence = "a reboot: dbus or logind is never restarted, and reads what changed only then";
                let draft = self.draft(Event::Pending, sentence, Some(commit)).with("TRUEUP_REASON", &what);
                self.push(draft);
            }
            let message = line.message.as_deref().unwrap_or_default();
            if line.outcome == "failed" && self.is_news(format!("engine {what}"), "failed", message) {
                let sentence = format!("{what}: {message}");
                let draft = self.draft(Event::Failed, &sentence, Some(commit)).with("TRUEUP_CHANGE", &what);
                self.push(draft);
            }
        }
    }

    /// What lies beside configuration files since packages were changed, and what failed without keeping anything from being
    /// done: told each time, since it was not so before.
    fn asides(&mut self) {
        let report = self.report;
        for aside in &report.asides {
            let (event, resource, rest) = match &aside.about {
                About::Beside(path) => (Event::LeftBeside, format!("file:{path}"), "left beside configuration files"),
                About::Script(name) => (Event::Complaint, format!("package:{name}"), "whose scripts failed"),
                About::Engine(name) => {
                    let draft = self.draft(Event::Complaint, &aside.line, Some(self.commit()));
                    self.push(draft.with("TRUEUP_CHANGE", name));
                    continue;
                }
            };
            let Ok(id) = resource.parse::<Id>() else { continue };
            self.say(event, &id, rest, |pass| {
                pass.draft(event, &aside.line, Some(pass.commit())).with("TRUEUP_RESOURCE", id.as_str())
            });
        }
    }

    /// What is no longer declared and stays. A pass that only looked finds it again, and so does the next.
    fn left(&mut self) {
        let report = self.report;
        let looked_only = report.steps.iter().any(|line| line.outcome == "planned");
        for left in report.left.iter().filter(|_| !looked_only) {
            let about = format!("left {}", left.id);
            let news = self.told.is_news(&about, &left.note, "", self.now);
            self.known.insert(about);
            if !news {
                continue;
            }
            self.say(Event::LetGo, &left.id, "let go of", |pass| {
                let sentence = format!("{} is no longer declared: {}", sentence::name(&left.id), left.note);
                pass.draft(Event::LetGo, &sentence, Some(pass.commit())).with("TRUEUP_RESOURCE", left.id.as_str())
            });
        }
    }

    /// What found no place: one entry with the count.
    fn rest(&mut self) {
        for ((event, rest), more) in std::mem::take(&mut self.more) {
            let sentence = format!("and {} more, {rest}", grouped(more.count));
            let draft = self
                .draft(event, &sentence, Some(self.commit()))
                .of_many()
                .with("TRUEUP_COUNT", &more.count.to_string())
                .with("TRUEUP_RESOURCES", &more.ids);
            self.push(draft);
        }
    }

    /// What a revision changed here. One that changed nothing is no event, nor is drift that was put back.
    fn revision(&mut self) {
        let (report, commit) = (self.report, self.commit());
        let done = |line: &&Line| line.outcome == "done" && line.cause != Some(Cause::Corrective);
        let changed = report.steps.iter().filter(done).count();
        // Where something was undone the state says so.
        if changed == 0 || report.state == State::RolledBack {
            return;
        }
        let acted = |action| report.steps.iter().filter(done).filter(|line| line.action == action).count();
        let held = |word| {
            let held = |line: &&Line| line.outcome == "reported" && line.reason.as_deref() == Some(word);
            report.steps.iter().filter(held).count()
        };
        let undone: Vec<String> = [
            (tally(report, "failed") + held("takeover-refused"), "failed"),
            (tally(report, "skipped"), "skipped"),
            (tally(report, "not-tried"), "not tried"),
            (held("contested"), "contested"),
            (held("suspended"), "suspended"),
        ]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", grouped(number)))
        .collect();
        let mut parts = vec![count(changed, "change")];
        for (number, what) in [(acted("take-over"), "taken over"), (acted("let-go"), "let go")] {
            parts.extend((number > 0).then(|| format!("{} {what}", grouped(number))));
        }
        let refreshed: Vec<String> =
            report.refreshes.iter().filter(|line| line.outcome == "done").map(sentence::refreshed).collect();
        parts.extend((!refreshed.is_empty()).then(|| sentence::some(&refreshed, 3)));
        let event = if undone.is_empty() && !report.undo { Event::Applied } else { Event::Attempted };
        parts.extend(undone);
        let title = sentence::titled(commit, &report.revision, report.commit.as_ref());
        let draft = self
            .draft(event, &format!("{title}: {}", parts.join(", ")), Some(commit))
            .with("TRUEUP_COUNT", &changed.to_string());
        self.push(draft);
    }

    /// What was not found any more is over, where everything was looked at.
    fn forget(&mut self) {
        let report = self.report;
        let planned = report.counts.managed > 0 || report.converged();
        if planned && report.reason.as_deref() != Some("interrupted") {
            self.known.extend(state::STANDING.iter().map(|&about| about.to_owned()));
            self.told.forget(&self.known, self.now);
        }
    }
}
