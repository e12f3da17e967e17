//! What the journal is told: every sort of entry is known and explained, told once, bounded and escaped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use trueup::host::{About, Aside, Entry};
use trueup::model::{Cause, Class, Stage, Stop};
use trueup::report::journal::{self, Event, FIELD_BYTES, MESSAGE_BYTES, Told};
use trueup::report::{CommitWords, Line, Report, State};
use trueup::source::Anew;

const NOW: i64 = 1_800_000_000;
const ONE: &str = "1111111aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const TWO: &str = "2222222bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// The message catalog by id: subject, and the lines below it.
fn catalog() -> BTreeMap<String, (String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/trueup.catalog");
    let text = fs::read_to_string(path).expect("the catalog");
    let mut entries = BTreeMap::new();
    for entry in format!("\n{text}").split("\n-- ").skip(1) {
        let (id, rest) = entry.split_once('\n').expect("an id in a line of its own");
        let subject = rest.strip_prefix("Subject: ").and_then(|rest| rest.lines().next()).unwrap_or_default();
        let double = entries.insert(id.to_owned(), (subject.to_owned(), rest.to_owned()));
        assert_eq!(double, None, "{id} stands there twice");
    }
    entries
}

/// The names between `@`.
fn substituted(text: &str) -> BTreeSet<&str> {
    let upper = |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    text.split('@').filter(upper).collect()
}

pub fn field<'a>(entry: &'a Entry, name: &str) -> Option<&'a str> {
    entry.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

/// Holds of every entry, whatever it is of.
#[track_caller]
pub fn sound(entries: &[Entry]) {
    let catalog = catalog();
    for entry in entries {
        assert!(entry.message.len() <= MESSAGE_BYTES, "{} bytes: {}", entry.message.len(), entry.message);
        let word = field(entry, "TRUEUP_EVENT").expect("every entry has its event");
        let event = Event::ALL.iter().find(|event| event.as_str() == word).expect("a known event");
        let many = entry.message_id == Event::More.message_id();
        assert!(many || entry.message_id == event.message_id(), "{entry:#?}");
        assert!(entry.message.starts_with(&format!("{word}: ")), "{entry:#?}");
        let mut names = BTreeSet::new();
        for (name, value) in &entry.fields {
            assert!(names.insert(*name), "{name} twice: {entry:#?}");
            assert!(name.starts_with("TRUEUP_") && name.len() <= 64, "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{name}");
            assert!(!value.is_empty() && value.len() <= FIELD_BYTES, "{name} has {} bytes", value.len());
        }
        let values = entry.fields.iter().map(|(_, value)| value);
        for text in values.chain([&entry.message]) {
            assert!(!text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{text:?}");
        }
        // What journalctl(1) finds no field for it shows by the name of the field.
        let (subject, text) = &catalog[entry.message_id];
        for name in substituted(subject).into_iter().chain(substituted(text)) {
            assert!(names.contains(name), "the catalog speaks of {name}, which is not there: {entry:#?}");
        }
    }
}

/// Entries, for people and for `expect/journal.txt`.
pub fn rendered(entries: &[Entry]) -> String {
    let mut out = String::new();
    for entry in entries {
        let _ = writeln!(out, "<{}> {}", entry.priority as u8, entry.message);
        for (name, value) in entry.fields.iter().filter(|(name, _)| *name != "TRUEUP_PASS") {
            let _ = writeln!(out, "    {name}={value}");
        }
    }
    out
}

#[test]
fn every_event_has_an_id_of_its_own_and_is_explained() {
    let catalog = catalog();
    let mut ids = BTreeSet::new();
    let mut words = BTreeSet::new();
    for event in Event::ALL {
        let id = event.message_id();
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{id}");
        assert!(ids.insert(id.to_owned()), "{id} is given twice");
        assert!(words.insert(event.as_str()), "{} is given twice", event.as_str());
        let Some((subject, text)) = catalog.get(id) else { panic!("{} is not in the catalog", event.as_str()) };
        assert!(!subject.is_empty(), "{} has no subject", event.as_str());
        assert!(text.lines().any(|line| line.starts_with("What to do: ")), "{} says not what to do", event.as_str());
        assert!(text.lines().all(|line| line.len() <= 100 && line.trim_end() == line), "{}", event.as_str());
    }
    let strangers: Vec<&String> = catalog.keys().filter(|id| !ids.contains(*id)).collect();
    assert!(strangers.is_empty(), "the catalog explains what is never said: {strangers:?}");
}

/// One line of a report.
#[test]
fn every_event_and_every_field_stands_in_the_readme() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(home.join("README.md")).expect("README.md");
    let section = readme.split("### The journal").nth(1).and_then(|rest| rest.split("\n### ").next()).expect("there");
    // Of another event, the rest.
    for event in Event::ALL.iter().filter(|event| **event != Event::More) {
        assert!(section.contains(&format!("`{}`", event.as_str())), "the README lacks {}", event.as_str());
    }
    let code = ["entries.rs", "entries/state.rs", "asked.rs"].map(|file| {
        fs::read_to_string(home.join("src/report/journal").join(file)).expect("the source of the journal's words")
    });
    let code = code.map(|text| text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()).concat();
    for field in code.split("with(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(section.contains(&format!("`{field}`")), "the README lacks {field}");
    }
}

fn line(id: &str, outcome: &'static str, cause: Cause) -> Line {
    Line {
        id: id.parse().expect("an id"),
        action: "change",
        cause: Some(cause),
        changes: vec!["content +1 -1".to_owned()],
        diff: vec!["-a secret".to_owned(), "+another".to_owned()],
        layer: "roles/web".to_owned(),
        outcome,
        reason: None,
        message: None,
        kept: None,
        late: false,
        attempts: 0,
        next: None,
    }
}

fn because(line: Line, reason: &str, message: &str) -> Line {
    Line { reason: Some(reason.to_owned()), message: Some(message.to_owned()), ..line }
}

/// A pass over `commit` that ended in `state`.
fn report(state: State, reason: &str, commit: &str, steps: Vec<Line>) -> Report {
    let mut report = Report::new("agent");
    report.pass = "01JDAAAAAAAAAAAAAAAAAAAAAA".to_owned();
    (report.observed, report.counts.managed) = (true, 3);
    report.revision.seen = Some(commit.to_owned());
    report.revision.attempted = Some(commit.to_owned());
    report.revision.applied = Some(commit.to_owned());
    report.commit = Some(CommitWords { subject: "tls: new".to_owned(), author: "Ana".to_owned(), time: NOW });
    report.steps = steps;
    report.raise(state, reason, Some(format!("because of {reason}")));
    report
}

fn fine(commit: &str) -> Report {
    report(State::InSync, "", commit, Vec::new())
}

fn reported(steps: Vec<Line>) -> Report {
    report(State::Drifted, "drift", ONE, steps)
}

/// The source is not to be had.
fn without_source(reason: &str, message: &str, state: State) -> Report {
    let mut report = fine(ONE);
    let (stage, class) = (Stage::Fetch, Class::Transient);
    report.source_error = Some(Stop { stage, class, reason: reason.to_owned(), message: message.to_owned() });
    if state > State::InSync {
        report.raise(state, reason, Some(message.to_owned()));
    }
    report
}

/// Passes one after the other, a minute apart: what the journal is told of each.
fn tell(passes: &[Report]) -> Vec<Vec<String>> {
    let mut told = Told::default();
    let mut said = Vec::new();
    for (pass, now) in passes.iter().zip((NOW..).step_by(60)) {
        // Every pass may be of another process.
        let json = serde_json::to_string(&told).expect("it serializes");
        told = serde_json::from_str(&json).expect("it reads");
        let entries = journal::entries(&mut told, pass, now);
        sound(&entries);
        assert!(!rendered(&entries).contains("secret"), "content: {entries:#?}");
        said.push(entries.into_iter().map(|entry| entry.message).collect());
    }
    said
}

#[track_caller]
fn check(passes: &[Report], expected: &[&[&str]]) {
    assert_eq!(tell(passes), expected);
}

#[test]
fn an_unchanged_host_is_worth_no_line() {
    check(&[fine(ONE), fine(ONE), fine(TWO)], &[&[], &[], &[]]);
}

#[test]
fn drift_that_is_corrected_is_told_each_time() {
    let kept = Line { kept: Some("k-7f31".to_owned()), ..line("file:/etc/a", "done", Cause::Corrective) };
    let pass = report(State::InSync, "", ONE, vec![kept]);
    let told = "drift: /etc/a content +1 -1, put back to roles/web@1111111; what stood there: trueup restore k-7f31";
    check(&[pass.clone(), fine(ONE), pass.clone(), pass], &[&[told], &[], &[told], &[told]]);
}

#[test]
fn drift_that_is_only_reported_is_told_until_it_is_another() {
    let one = because(line("file:/etc/a", "reported", Cause::Corrective), "report-only", "");
    let mut two = one.clone();
    two.diff[1] = "+a third".to_owned();
    let told = "drift: /etc/a content +1 -1, reported only (drift = \"report\", roles/web)";
    check(
        &[
            reported(vec![one.clone()]),
            reported(vec![one.clone()]),
            reported(vec![two.clone()]),
            reported(vec![two]),
            fine(ONE),
            fine(ONE),
        ],
        &[&[told], &[], &[told], &[], &["converged: in sync with 1111111 \"tls: new\": 3 resources"], &[]],
    );
}

#[test]
fn a_branch_that_is_followed_anew_is_told_once_and_is_no_trouble() {
    let anew = |anew: Anew| Report { anew: Some(anew), ..fine(ONE) };
    let lost = || anew(Anew::StateLost { from: None });
    let other = || anew(Anew::OtherBranch { before: "old\nerror: forged".to_owned() });
    check(
        &[lost(), lost(), fine(ONE), other(), fine(ONE)],
        &[
            &[
                "state-lost: what was acted on here is remembered no more; 1111111 \"tls: new\" is adopted anew, and may be \
               older than that",
            ],
            &[],
            &[],
            &["branch-changed: another branch than old\\nerror: forged is followed now; it is adopted at 1111111 \
               \"tls: new\""],
            &[],
        ],
    );
}

#[test]
fn what_is_suspended_is_told_with_who_and_until_when() {
    let one = because(line("file:/etc/a", "reported", Cause::Corrective), "suspended", "by alice: INC-4711");
    let one = Line { next: Some(NOW + 3600), ..one };
    let two = Line { cause: Some(Cause::Intended), id: "file:/etc/b".parse().expect("an id"), ..one.clone() };
    let pass = |steps| report(State::Suspended, "suspended", ONE, steps);
    check(
        &[pass(vec![one.clone(), two.clone()]), pass(vec![one, two]), fine(ONE)],
        &[
            &[
                "drift: /etc/a content +1 -1, left as it is: suspended until 2027-01-15 09:00 UTC by alice: INC-4711",
                "pending: /etc/b content +1 -1, left as it is: suspended until 2027-01-15 09:00 UTC by alice: INC-4711",
            ],
            &[],
            &["converged: in sync with 1111111 \"tls: new\": 3 resources"],
        ],
    );
}

#[test]
fn a_resource_that_is_contested_takes_few_lines_a_day() {
    let corrected = || report(State::InSync, "", ONE, vec![line("file:/etc/a", "done", Cause::Corrective)]);
    let left = |minute: usize| {
        let message = format!("somebody keeps changing it back; tried again in {minute} min");
        let mut line = because(line("file:/etc/a", "reported", Cause::Corrective), "contested", &message);
        line.diff.push(format!("+{minute}"));
        report(State::Degraded, "contested", ONE, vec![line])
    };
    let passes: Vec<Report> = (0..600).map(|minute| if minute < 5 { corrected() } else { left(minute) }).collect();
    let said = tell(&passes);
    let lines: Vec<&String> = said.iter().flatten().collect();
    assert_eq!(lines.len(), 7, "{lines:#?}");
    assert!(
        lines[5]
            .starts_with("contested: /etc/a content +1 -1, left alone for a while: somebody keeps changing it back"),
        "{lines:#?}"
    );
    assert_eq!(lines[6], "degraded: 1 contested, of 3 resources managed");
}

#[test]
fn a_failure_is_told_until_its_reason_is_another() {
    let pass = |reason: &str, message: &str| {
        let failed = because(line("package:nginx", "failed", Cause::Intended), reason, message);
        let skipped = line("unit:nginx.service", "skipped", Cause::Intended);
        report(State::Degraded, reason, ONE, vec![failed, skipped])
    };
    let waiting = |minutes| pass("package-lock-held", &format!("held by apt (pid {minutes}) for {minutes} min"));
    check(
        &[waiting(1), waiting(2), waiting(30), pass("package-failed", "dpkg: no"), fine(ONE), fine(ONE)],
        &[
            &[
                "failed: package nginx: held by apt (pid 1) for 1 min (package-lock-held)",
                "degraded: 1 failed, 1 skipped, of 3 resources managed",
            ],
            &[],
            &[],
            &["failed: package nginx: dpkg: no (package-failed)"],
            &["converged: in sync with 1111111 \"tls: new\": 3 resources"],
            &[],
        ],
    );
}

#[test]
fn a_pass_that_could_do_nothing_says_why_though_something_fails_as_well() {
    let failing = because(line("package:nginx", "failed", Cause::Intended), "no-such-package", "no source has it");
    let mut full = report(State::Degraded, "no-such-package", ONE, vec![failing.clone()]);
    let mut stopped = full.clone();
    stopped.steps.push(line("file:/etc/a", "planned", Cause::Corrective));
    let (stage, class, message) = (Stage::Record, Class::Transient, "cannot write the ledger: no space".to_owned());
    stopped.stopped(&Stop { stage, class, reason: "disk-full".to_owned(), message });
    assert_eq!(stopped.reason.as_deref(), Some("disk-full"), "it is what keeps everything else");
    full.steps = vec![failing];
    let said = tell(&[full.clone(), stopped, full]);
    assert_eq!(
        said[1],
        [
            "drift: /etc/a content +1 -1, left as it is: disk-full",
            "degraded: disk-full: cannot write the ledger: no space"
        ]
    );
    assert_eq!(said[2], ["degraded: 1 failed, of 3 resources managed"]);
}

#[test]
fn a_revision_is_told_with_what_it_changed() {
    let steps = vec![
        line("file:/etc/a", "done", Cause::Intended),
        Line { action: "take-over", kept: Some("k-1".to_owned()), ..line("file:/etc/b", "done", Cause::Intended) },
        Line {
            action: "let-go",
            changes: vec!["a file → absent".to_owned()],
            ..line("file:/etc/c", "done", Cause::Intended)
        },
        line("file:/etc/d", "done", Cause::Conflicting),
    ];
    let mut partly = steps.clone();
    partly.push(because(line("file:/etc/e", "failed", Cause::Intended), "io-error", "no"));
    let said =
        tell(&[report(State::InSync, "", TWO, steps), fine(TWO), report(State::Degraded, "io-error", TWO, partly)]);
    assert_eq!(
        said[0],
        [
            "changed: /etc/a content +1 -1 by roles/web@2222222",
            "taken-over: /etc/b content +1 -1 by roles/web@2222222; what stood there: trueup restore k-1",
            "let-go: /etc/c is no longer declared: removed, as trueup had made it",
            "drift: /etc/d content +1 -1, replaced by roles/web@2222222, which changed it too",
            "applied: 2222222 \"tls: new\": 4 changes, 1 taken over, 1 let go",
        ]
    );
    assert_eq!(said[1], [""; 0]);
    assert_eq!(
        said[2][4..],
        [
            "failed: /etc/e: no (io-error)",
            "attempted: 2222222 \"tls: new\": 4 changes, 1 taken over, 1 let go, 1 failed",
            "degraded: 1 failed, of 3 resources managed",
        ]
    );
}

#[test]
fn what_undoes_a_revision_names_the_one_that_the_host_goes_back_to() {
    let mut undo = report(
        State::RolledBack,
        "unit-failed",
        TWO,
        vec![line("file:/etc/a", "done", Cause::Intended), line("file:/etc/b", "done", Cause::Corrective)],
    );
    undo.back_to = Some(ONE.to_owned());
    let said = tell(&[undo]);
    assert_eq!(
        said[0],
        [
            "changed: /etc/a content +1 -1 by roles/web@1111111",
            "drift: /etc/b content +1 -1, put back to roles/web@1111111",
            "rolled-back: because of unit-failed",
        ]
    );
}

#[test]
fn what_is_refused_is_told_for_each_revision_that_is() {
    let refused = |seen: &str| {
        let mut report = report(State::Stalled, "not-a-descendant", ONE, Vec::new());
        report.message =
            Some(format!("main moved from 1111111 to {seen}, which does not contain it; staying on 1111111"));
        report.revision.seen = Some(seen.to_owned());
        report
    };
    let told = |seen: &str| {
        format!(
            "refused: not-a-descendant: main moved from 1111111 to {seen}, which does not contain it; staying on 1111111"
        )
    };
    let said = tell(&[refused(ONE), refused(ONE), refused(TWO), refused(TWO), fine(TWO)]);
    let converged = "converged: in sync with 2222222 \"tls: new\": 3 resources".to_owned();
    assert_eq!(said, [vec![told(ONE)], vec![], vec![told(TWO)], vec![], vec![converged]]);
}

#[test]
fn a_host_that_nobody_set_up_says_so_once_and_raises_no_alarm() {
    let mut pass = Report::new("agent");
    let message = "no source is configured".to_owned();
    let (stage, class) = (Stage::Fetch, Class::Stalled);
    pass.stopped(&Stop { stage, class, reason: "unconfigured".to_owned(), message });
    let mut told = Told::default();
    let entries = journal::entries(&mut told, &pass, NOW);
    assert_eq!(rendered(&entries).lines().next(), Some("<5> stalled: unconfigured: no source is configured"));
    assert!(journal::entries(&mut told, &pass, NOW + 60).is_empty());
}

#[test]
fn a_source_that_is_gone_is_told_once_with_since_when_and_so_is_its_return() {
    let blip = without_source("unreachable", "no answer", State::InSync);
    let gone = without_source("unreachable", "no answer from 10.0.0.1", State::Degraded);
    let slow = without_source("timed-out", "too slow", State::Degraded);
    check(
        &[fine(ONE), blip.clone(), fine(ONE), blip, gone.clone(), slow, gone, fine(ONE), fine(ONE)],
        &[
            &[],
            &[],
            &[],
            &[],
            &["unreachable: the source does not answer for 1 min: no answer from 10.0.0.1; keeping to 1111111"],
            &[],
            &[],
            &["reachable: the source answers again after 4 min"],
            &[],
        ],
    );
}

#[test]
fn an_agent_that_goes_on_without_its_source_says_so_after_five_minutes() {
    let silent = without_source("unreachable", "no answer", State::InSync);
    let mut passes = vec![silent; 12];
    passes.push(fine(ONE));
    let said = tell(&passes);
    let told = "unreachable: the source does not answer for 5 min: no answer; keeping to 1111111";
    assert_eq!(said[5], [told]);
    assert_eq!(said[12], ["reachable: the source answers again after 12 min"]);
    assert_eq!(said.concat().len(), 2, "{said:?}");
}

#[test]
fn what_comes_and_goes_is_told_less_often_and_something_else_at_once() {
    let stalled = |reason: &str| report(State::Stalled, reason, ONE, Vec::new());
    let (name, mistakes) = (stalled("no-such-host"), stalled("compile-error"));
    let mut passes: Vec<Report> = (0..5).flat_map(|_| [name.clone(), fine(ONE)]).collect();
    passes.push(mistakes);
    passes.push(name);
    let said = tell(&passes);
    let of = |word: &str| said.concat().iter().filter(|line| line.starts_with(&format!("stalled: {word}"))).count();
    assert_eq!(of("no-such-host"), 3, "{said:?}");
    assert_eq!(said[10], ["stalled: compile-error: because of compile-error"]);
    let there_and_back = [stalled("no-such-host"), stalled("compile-error"), stalled("no-such-host")];
    assert!(tell(&there_and_back).iter().all(|lines| lines.len() == 1), "each is news");
}

#[test]
fn a_host_to_which_nothing_was_applied_is_in_sync_with_nothing_and_says_no_such_thing() {
    let bare = |mut report: Report| {
        (report.revision.applied, report.revision.attempted) = (None, None);
        report
    };
    // An observed host, and one whose own copy was lost, of which nothing is known while the source is silent.
    let mut gone = without_source("unreachable", "no answer", State::Degraded);
    (gone.observed, gone.counts.managed) = (false, 0);
    let unreachable = "unreachable: the source does not answer: no answer";
    let back = "reachable: the source answers again after 1 min";
    let said = tell(&[bare(fine(ONE)), bare(gone.clone()), bare(fine(ONE))]);
    assert_eq!(said, [vec![], vec![unreachable.to_owned()], vec![back.to_owned()]]);
    let failing = report(State::Degraded, "internal-error", ONE, Vec::new());
    let said = tell(&[failing, gone, fine(ONE)]);
    assert_eq!(said[1], [format!("{unreachable}; keeping to 1111111")]);
    assert_eq!(said[2], [back, "converged: in sync with 1111111 \"tls: new\": 3 resources"]);
}

#[test]
fn drift_is_told_while_the_source_is_gone() {
    let mut gone = without_source("unreachable", "no answer", State::Degraded);
    gone.steps = vec![line("file:/etc/a", "done", Cause::Corrective)];
    let mut failing = without_source("unreachable", "no answer", State::Degraded);
    failing.steps = vec![because(line("file:/etc/a", "failed", Cause::Corrective), "io-error", "no")];
    let said = tell(&[gone.clone(), failing, without_source("unreachable", "no answer", State::Degraded)]);
    assert_eq!(said[0][0], "drift: /etc/a content +1 -1, put back to roles/web@1111111");
    assert_eq!(said[1], ["failed: /etc/a: no (io-error)", "degraded: 1 failed, of 3 resources managed"]);
    assert_eq!(said[2], ["converged: in sync with 1111111 \"tls: new\": 3 resources"]);
}

#[test]
fn a_held_and_an_observed_host_say_what_waits() {
    let mut held = report(State::Pending, "held", ONE, Vec::new());
    held.revision.seen = Some(TWO.to_owned());
    let mut newer = held.clone();
    newer.revision.seen = Some("3333333ccccccccccccccccccccccccccccccccc".to_owned());
    check(
        &[held.clone(), held, newer],
        &[
            &["pending: 2222222 \"tls: new\" is seen and not applied (update = \"hold\"): trueup approve"],
            &[],
            &["pending: 3333333 \"tls: new\" is seen and not applied (update = \"hold\"): trueup approve"],
        ],
    );
    let planned =
        vec![line("file:/etc/a", "planned", Cause::Intended), line("file:/etc/b", "planned", Cause::Corrective)];
    let observed = report(State::Pending, "changes", ONE, planned);
    // Another revision that changes nothing more here.
    let mut later = observed.clone();
    later.revision.seen = Some(TWO.to_owned());
    check(
        &[observed.clone(), observed, later],
        &[
            &[
                "drift: /etc/b content +1 -1, left as it is: update = \"observe\"",
                "pending: 1111111 \"tls: new\": 1 change not made: update = \"observe\"",
            ],
            &[],
            &[],
        ],
    );
}

#[test]
fn a_pass_that_was_ended_between_steps_says_so_and_forgets_nothing() {
    let failed = because(line("file:/etc/a", "failed", Cause::Intended), "io-error", "no");
    let failing = report(State::Degraded, "io-error", ONE, vec![failed]);
    let interrupted =
        report(State::Pending, "interrupted", ONE, vec![line("file:/etc/a", "not-tried", Cause::Intended)]);
    let said = tell(&[failing.clone(), interrupted, failing]);
    assert_eq!(said[1], ["interrupted: because of interrupted"]);
    assert_eq!(said[2], ["degraded: 1 failed, of 3 resources managed"], "the failure itself is known");
}

#[test]
fn what_lies_beside_a_configuration_file_is_told_each_time_that_it_comes() {
    let mut with = fine(ONE);
    let line = "/etc/a.conf stays as it is; what its package brings lies beside it: /etc/a.conf.dpkg-dist".to_owned();
    with.asides = vec![Aside { about: About::Beside("/etc/a.conf".to_owned()), line }];
    let said = "left-beside: /etc/a.conf stays as it is; what its package brings lies beside it: /etc/a.conf.dpkg-dist";
    let entries = journal::entries(&mut Told::default(), &with, NOW);
    assert!(entries.iter().any(|entry| field(entry, "TRUEUP_RESOURCE") == Some("file:/etc/a.conf")), "{entries:#?}");
    check(&[fine(ONE), with.clone(), fine(ONE), with], &[&[], &[said], &[], &[said]]);
}

#[test]
fn what_failed_and_kept_nothing_from_being_done_is_told_each_time() {
    let mut with = fine(ONE);
    let script = "app is as it is to be, but its %post scriptlet failed, exit status 1: so sorry";
    let engine = "systemd-sysusers ended well, but said: no more ids";
    with.asides = vec![
        Aside { about: About::Script("app".to_owned()), line: script.to_owned() },
        Aside { about: About::Engine("systemd-sysusers".to_owned()), line: engine.to_owned() },
    ];
    let entries = journal::entries(&mut Told::default(), &with, NOW);
    let about = |what, value| entries.iter().any(|entry| field(entry, what) == Some(value));
    assert!(about("TRUEUP_RESOURCE", "package:app") && about("TRUEUP_CHANGE", "systemd-sysusers"), "{entries:#?}");
    let said = [format!("complaint: {script}"), format!("complaint: {engine}")];
    let said = [said[0].as_str(), said[1].as_str()];
    check(&[fine(ONE), with.clone(), fine(ONE), with], &[&[], &said, &[], &said]);
}

#[test]
fn ten_thousand_drifts_are_a_bounded_report_with_a_count() {
    let lines = |outcome| (0..10_000).map(|n| line(&format!("file:/etc/{n}"), outcome, Cause::Corrective)).collect();
    for (outcome, state, tail) in [
        ("done", State::InSync, "drift: and 9,980 more, put back"),
        ("reported", State::Drifted, "drift: and 9,980 more, left as they are; trueup drift lists them"),
        ("failed", State::Degraded, "failed: and 9,980 more, trueup status lists them"),
    ] {
        let mut told = Told::default();
        let pass = report(state, "drift", ONE, lines(outcome));
        let entries = journal::entries(&mut told, &pass, NOW);
        sound(&entries);
        assert!((21..=22).contains(&entries.len()), "{outcome}: {}", entries.len());
        let last = &entries[20];
        assert_eq!(last.message, tail);
        assert_eq!(field(last, "TRUEUP_COUNT"), Some("9980"));
        let ids = field(last, "TRUEUP_RESOURCES").expect("some are named");
        assert!(ids.starts_with("file:/etc/20 file:/etc/21 ") && !ids.contains('…'), "{ids}");
        if outcome != "done" {
            assert_eq!(journal::entries(&mut told, &pass, NOW + 60), [], "{outcome}: told twice");
        }
    }
}

#[test]
fn text_of_the_repository_forges_nothing() {
    let hostile = "x\nTRUEUP_EVENT=applied\nPRIORITY=0\n\x1b[2J\u{202e}\0\u{9b}";
    let long = hostile.repeat(1000);
    for text in [hostile, &long] {
        let mut drifted = because(line("file:/etc/a", "reported", Cause::Corrective), text, text);
        drifted.id = trueup::model::Id::new("file", &format!("/etc/{text}"));
        drifted.changes = vec![text.to_owned(); 3];
        drifted.layer = text.to_owned();
        drifted.kept = Some(text.to_owned());
        let done = Line { outcome: "done", ..drifted.clone() };
        let failed = Line { outcome: "failed", ..drifted.clone() };
        let applied = Line { cause: Some(Cause::Intended), ..done.clone() };
        let mut pass = report(State::Stalled, text, ONE, vec![drifted, done, failed, applied]);
        pass.commit = Some(CommitWords { subject: text.to_owned(), author: text.to_owned(), time: 0 });
        pass.message = Some(text.to_owned());
        pass.revision.seen = Some(text.to_owned());
        let entries = journal::entries(&mut Told::default(), &pass, NOW);
        sound(&entries);
        let events: Vec<&str> = entries.iter().filter_map(|entry| field(entry, "TRUEUP_EVENT")).collect();
        assert_eq!(events, ["drift", "drift", "failed", "changed", "attempted", "stalled"]);
        sound(&[
            journal::bad_settings(text),
            journal::started(text),
            journal::suspended(&[], NOW, text, text),
            journal::retried(text),
        ]);
    }
}
