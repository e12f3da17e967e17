//! The status, for people.

use std::fmt::Write as _;

use anstyle::AnsiColor;

use super::{Attention, SourceStatus, Status, SuspendedStatus, WallsStatus};
use crate::model::{Zone, escaped, one_line};
use crate::report::text::{Palette, age, span, verdict};
use crate::report::{CommitWords, SignedBy, State, TRANSPORT_ONLY, UNVERIFIED};

/// How many resources are listed; the document has more.
const LISTED: usize = 20;
/// Where what is said of the whole host begins at the right.
const RIGHT: usize = 64;

/// The screen of `trueup status` at `now`: a few lines where all is well, and otherwise what is wrong and what to
/// type next.
pub fn status_text(status: &Status, now: i64, zone: &Zone, palette: Palette) -> String {
    status_text_for(true, status, now, zone, palette)
}

/// Whom the revision is believed.
fn trust(status: &Status) -> String {
    match &status.signed {
        Some(SignedBy { by, key, mode }) => {
            format!("signed by {} ({}), {} mode", escaped(by), escaped(key), escaped(mode))
        }
        None if status.authenticity == TRANSPORT_ONLY => format!("{TRANSPORT_ONLY}; no signature is verified"),
        None if status.authenticity == UNVERIFIED => {
            format!("{UNVERIFIED}; nobody whom root named is known to have signed what holds here")
        }
        None => escaped(&status.authenticity),
    }
}

/// As [`status_text`], for somebody who is `root` or not.
pub fn status_text_for(root: bool, status: &Status, now: i64, zone: &Zone, palette: Palette) -> String {
    let mut screen = Screen { out: head(status, now, palette), palette };
    screen.why(status);
    screen.revisions(status, now);
    if let Some(source) = &status.source {
        screen.source(source, now);
    }
    let ids = status.attention.iter().take(LISTED).map(|one| one_line(&one.id, 200).chars().count());
    let id_width = ids.max().unwrap_or(0).min(40);
    if status.source.is_some() {
        screen.row("trust", &trust(status));
    }
    screen.row("resources", &resources(status));
    for one in status.attention.iter().take(LISTED) {
        screen.attention(one, id_width, now);
    }
    let more = status.attention.len().saturating_sub(LISTED);
    if more > 0 {
        screen.row("", &format!("and {more} more: trueup status --json"));
    }
    for one in &status.suspended {
        screen.suspended(one, now, zone);
    }
    screen.chosen(status, now);
    // Which revision that is stands above.
    for note in status.notes.iter().filter(|note| !note.starts_with("keeping to ")) {
        screen.row("note", &one_line(note, 400));
    }
    screen.pass(status, now);
    let next: Vec<String> = what_next(status).into_iter().map(|line| as_root(line, root)).collect();
    if !next.is_empty() {
        screen.row("next", &next.join(" · "));
    }
    screen.out
}

/// The status in one line, for a log: what changes when it does, and no ages.
pub fn change_line(status: &Status, palette: Palette) -> String {
    let (reason, message) = (status.reason.as_deref(), status.message.as_deref());
    let mut line = match status.revision.applied.as_deref().or(status.revision.attempted.as_deref()) {
        Some(commit) => format!("{}   ", short(commit)),
        None => String::new(),
    };
    line.push_str(&verdict(status.host.as_deref(), status.state, reason, message, palette));
    line
}

fn head(status: &Status, now: i64, palette: Palette) -> String {
    let host = status.host.as_deref().map_or_else(|| "this host".to_owned(), escaped);
    let mut plain = format!("{host}   {}", status.state.as_str());
    let mut line = format!("{host}   {}", palette.state(status.state, status.state.as_str()));
    let mut add = |text: &str| {
        plain.push_str(text);
        line.push_str(text);
    };
    if let Some(reason) = status.reason.as_ref().filter(|reason| *reason != status.state.as_str()) {
        add(&format!("   {}", escaped(reason)));
    }
    // What is not running has no history of its own.
    if status.agent.is_some() {
        add(&format!("   for {}", age(now.saturating_sub(status.since))));
    }
    let gap = " ".repeat(RIGHT.saturating_sub(plain.chars().count()).max(3));
    format!("{line}{gap}update {}\n", escaped(&status.update))
}

struct Screen {
    out: String,
    palette: Palette,
}

impl Screen {
    fn row(&mut self, label: &str, text: &str) {
        let _ = writeln!(self.out, "  {label:<11}{text}");
    }

    fn painted(&mut self, colour: AnsiColor, label: &str, text: &str) {
        let gap = " ".repeat(11usize.saturating_sub(label.chars().count()));
        let label = self.palette.paint(colour, label);
        let _ = writeln!(self.out, "  {label}{gap}{text}");
    }

    /// Why it is not in sync, unless a line below says the same.
    fn why(&mut self, status: &Status) {
        let Some(message) = &status.message else { return };
        let contested = status.reason.as_deref() == Some("contested");
        let told = |one: &Attention| {
            one.message.contains(message.as_str())
                || message.contains(&one.message)
                || contested && one.what == "contested"
        };
        let below = status.attention.iter().take(LISTED).any(|one| !one.message.is_empty() && told(one));
        // Each suspension has a line of its own, and so has a rollback.
        if !below && !matches!(status.reason.as_deref(), Some("suspended" | "rolled-back-by-root" | "held")) {
            self.row("why", &one_line(message, 600));
        }
    }

    fn revisions(&mut self, status: &Status, now: i64) {
        let known = &status.revision;
        let seen = known.seen.as_deref().map(|commit| ("seen", commit, status.seen.as_ref()));
        let applied = known.applied.as_deref().map(|commit| {
            let same = known.seen.as_deref() == Some(commit);
            ("applied", commit, status.applied.as_ref().or(status.seen.as_ref().filter(|_| same)))
        });
        // Tried and neither applied nor the newest: the newest is refused or held.
        let tried = known.attempted.as_deref().map(|commit| ("tried", commit, None));
        let mut rows: Vec<(&str, &str, Option<&CommitWords>)> = Vec::new();
        for row in [applied, tried, seen].into_iter().flatten() {
            let again = match row.0 {
                "tried" => [&known.applied, &known.seen].iter().any(|other| other.as_deref() == Some(row.1)),
                _ => rows.iter().any(|(_, commit, _)| *commit == row.1),
            };
            if !again {
                rows.push(row);
            }
        }
        let alone = rows.len() == 1 && rows[0].0 == "applied";
        let width = rows.iter().filter_map(|(_, _, words)| *words).map(|words| subject(words).chars().count()).max();
        let width = width.unwrap_or(0);
        let ago = |words: &CommitWords| format!("{} ago", age(now.saturating_sub(words.time)));
        let ago_width = rows.iter().filter_map(|(_, _, words)| *words).map(|words| ago(words).len()).max().unwrap_or(0);
        for (at, (word, commit, words)) in rows.iter().enumerate() {
            let label = if at == 0 { "revision" } else { "" };
            let word = if alone { String::new() } else { format!("{word:<9}") };
            let said = words.map_or_else(String::new, |words| {
                let (subject, author) = (subject(words), one_line(&words.author, 40));
                format!("  {subject:width$}   {:<ago_width$}  ({author})", ago(words))
            });
            self.row(label, format!("{word}{}{said}", short(commit)).trim_end());
        }
    }

    fn source(&mut self, source: &SourceStatus, now: i64) {
        let ago = |at: i64| age(now.saturating_sub(at));
        let mut said = vec![match source.looked {
            Some(at) => format!("looked {} ago", ago(at)),
            None => "not looked at yet".to_owned(),
        }];
        said.extend(source.fetched.map(|at| format!("fetched {} ago", ago(at))));
        let place = format!("{}  {}", one_line(&source.url, 200), one_line(&source.branch, 80));
        self.row("source", &format!("{place}   {}", said.join(" · ")));
        if let Some(since) = source.failing_since {
            let error = source.error.as_deref().unwrap_or("no answer");
            let text = format!("failing for {}: {}", ago(since), one_line(error, 300));
            self.row("", &self.palette.paint(AnsiColor::Yellow, &text));
        } else if let Some(answered) = source.answered.as_ref().filter(|answered| **answered != source.url) {
            self.row("", &format!("answered by {}", one_line(answered, 200)));
        }
        for one in &source.failing {
            // Its message names it.
            let text = format!("passed over for {}, {}: {}", ago(one.since), one.reason, one_line(&one.message, 300));
            self.row("", &self.palette.paint(AnsiColor::Yellow, &text));
        }
        if let Some(walls) = &source.worker {
            self.worker(walls);
        }
    }

    /// What stands between the host and what the source may send.
    fn worker(&mut self, walls: &WallsStatus) {
        let WallsStatus { uid, landlock, filtered } = *walls;
        let user = if uid == 0 { "root, without its powers".to_owned() } else { format!("uid {uid}") };
        let paths = if landlock == 0 { "no Landlock".to_owned() } else { format!("Landlock {landlock}") };
        let calls = if filtered { "system calls filtered" } else { "system calls not filtered" };
        let text = format!("{user} · {paths} · {calls}");
        let whole = uid != 0 && landlock != 0 && filtered;
        self.row("worker", &if whole { text } else { self.palette.paint(AnsiColor::Yellow, &text) });
    }

    fn attention(&mut self, one: &Attention, id_width: usize, now: i64) {
        let colour = match one.what.as_str() {
            "failed" | "contested" => AnsiColor::Red,
            _ => AnsiColor::Yellow,
        };
        let mut text = format!("{:<id_width$}  {}", one_line(&one.id, 200), one_line(&one.message, 300));
        let next = one.next.map(|at| format!("next in {}", span(at.saturating_sub(now))));
        let tried = (one.attempts > 1).then(|| format!("{} attempt", nth(one.attempts)));
        let again: Vec<String> = tried.into_iter().chain(next).collect();
        if !again.is_empty() {
            let _ = write!(text, "   {}", again.join(", "));
        }
        self.painted(colour, &escaped(&one.what), text.trim_end());
    }

    fn suspended(&mut self, one: &SuspendedStatus, now: i64, zone: &Zone) {
        let what = one.resource.as_deref().map_or_else(|| "the whole host".to_owned(), |id| one_line(id, 200));
        let until = format!("until {} ({} left)", zone.clock(one.until, now), span(one.until.saturating_sub(now)));
        let why = if one.reason.is_empty() { String::new() } else { format!(": {}", one_line(&one.reason, 300)) };
        let text = format!("{what}  {until}  by {}{why}", one_line(&one.by, 80));
        self.painted(AnsiColor::Yellow, "suspended", &text);
    }

    /// Revisions that somebody chose, or has to.
    fn chosen(&mut self, status: &Status, now: i64) {
        let ago = |at: i64| age(now.saturating_sub(at));
        if let Some(back) = &status.rolled_back {
            let (commit, by) = (short(&back.commit), one_line(&back.by, 80));
            let forward = format!("{} ago; forward again: trueup resume", ago(back.at));
            // One that cannot be had, or that no pass came to yet, is nowhere that the host is.
            if status.revision.attempted.as_deref() == Some(back.commit.as_str()) {
                self.painted(AnsiColor::Yellow, "held", &format!("at {commit}, where {by} went back to {forward}"));
            } else {
                self.painted(AnsiColor::Yellow, "held", &format!("{by} asked to go to {commit} {forward}"));
            }
        }
        if let Some(approved) = &status.approved {
            let (commit, by) = (short(&approved.commit), one_line(&approved.by, 80));
            self.row("approved", &format!("{commit}  by {by} {} ago", ago(approved.at)));
        }
        if let Some(commit) = waits(status) {
            self.painted(AnsiColor::Yellow, "held", &format!("{} waits for: trueup approve", short(commit)));
        }
    }

    /// What runs, and where something is amiss what ran and when it is tried again.
    fn pass(&mut self, status: &Status, now: i64) {
        if let Some(running) = &status.running {
            let doing = if running.doing.is_empty() { "at work" } else { &running.doing };
            let text = format!("{}: {}", age(now.saturating_sub(running.since)), one_line(doing, 200));
            self.painted(AnsiColor::Cyan, "running", &text);
        }
        if status.state == State::InSync || status.agent.is_none() {
            return;
        }
        let ended = status.last.as_ref().map(|last| format!("ended {} ago", age(now.saturating_sub(last.at))));
        let next = status.next.filter(|_| status.running.is_none());
        let next = next.map(|at| format!("next in {}", span(at.saturating_sub(now))));
        let said: Vec<String> = ended.into_iter().chain(next).collect();
        if !said.is_empty() {
            self.row("pass", &said.join(" · "));
        }
    }
}

/// The revision that a held host has seen and may not go to.
fn waits(status: &Status) -> Option<&str> {
    let seen = status.revision.seen.as_deref().filter(|_| status.update == "hold")?;
    let approved = status.approved.as_ref().map(|choice| choice.commit.as_str());
    let here = [approved, status.revision.attempted.as_deref(), status.revision.applied.as_deref()];
    (!here.contains(&Some(seen))).then_some(seen)
}

fn resources(status: &Status) -> String {
    let counts = status.resources;
    if status.agent.is_none() {
        return format!("{} managed · not looked at", counts.managed);
    }
    if status.last.is_none() {
        return "not looked at yet".to_owned();
    }
    if counts.managed == 0 && status.state == State::Stalled {
        return "not looked at".to_owned();
    }
    if counts.managed == counts.in_sync && counts.suspended == 0 {
        return match counts.managed {
            0 => "none managed".to_owned(),
            n => format!("{n} managed, all in sync"),
        };
    }
    let mut said = vec![format!("{} managed", counts.managed), format!("{} in sync", counts.in_sync)];
    let others = [
        (counts.failed, "failed"),
        (counts.skipped, "skipped"),
        (counts.contested, "contested"),
        (counts.drifted, "drifted"),
        (counts.pending, "to be done"),
        (counts.suspended, "suspended"),
    ];
    said.extend(others.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")));
    said.join(" · ")
}

/// How somebody types `line` who is not `root`, where it needs that.
fn as_root(line: String, root: bool) -> String {
    let open = ["trueup history", "trueup status", "trueup doctor", "journalctl"];
    if root || open.iter().any(|start| line.starts_with(start)) { line } else { format!("sudo {line}") }
}

/// What to type, the likeliest first; nothing where all is well.
fn what_next(status: &Status) -> Vec<String> {
    match (status.state, status.reason.as_deref()) {
        (State::InSync | State::Converging, _) => return Vec::new(),
        (_, Some("not-running")) => {
            return vec!["systemctl start trueup".to_owned(), "journalctl -u trueup".to_owned()];
        }
        (_, Some("unconfigured")) => return vec!["trueup setup URL".to_owned()],
        (_, Some("host-changed")) => return vec!["trueup rebind NAME".to_owned()],
        _ => {}
    }
    let any = |what: &str| status.attention.iter().any(|one| one.what == what);
    let mut next = Vec::new();
    if status.reason.as_deref() == Some("compile-error") {
        next.push("trueup plan".to_owned());
    }
    if let Some(failed) = status.attention.iter().find(|one| one.what == "failed") {
        next.extend(status.revision.attempted.as_ref().map(|commit| format!("trueup history {}", short(commit))));
        next.push(format!("journalctl TRUEUP_RESOURCE={}", one_line(&failed.id, 200)));
    }
    let spent = |one: &Attention| one.reason.as_deref() == Some("restart-budget");
    if any("contested") || status.attention.iter().any(spent) {
        next.push("trueup retry".to_owned());
    }
    if waits(status).is_some() {
        next.push("trueup plan".to_owned());
        next.push("trueup approve".to_owned());
    }
    if !status.suspended.is_empty() || status.rolled_back.is_some() {
        next.push("trueup resume".to_owned());
    }
    if any("drifted") {
        next.push("trueup drift".to_owned());
    }
    if any("pending") && next.is_empty() {
        next.push("trueup plan".to_owned());
    }
    if status.state >= State::Degraded {
        next.push("trueup doctor".to_owned());
        next.push("journalctl -t trueup -p warning".to_owned());
    }
    next.truncate(3);
    next
}

fn subject(words: &CommitWords) -> String {
    one_line(&words.subject, 50)
}

fn short(commit: &str) -> String {
    let commit = escaped(commit);
    if commit.len() >= 40 && commit.is_ascii() { commit[..7].to_owned() } else { commit }
}

fn nth(n: u32) -> String {
    let end = match (n % 10, n % 100) {
        (1, t) if t != 11 => "st",
        (2, t) if t != 12 => "nd",
        (3, t) if t != 13 => "rd",
        _ => "th",
    };
    format!("{n}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Revisions;
    use crate::report::status::{AgentStatus, ChoiceStatus, Last, ResourceCounts, Running, UrlStatus};

    const NOW: i64 = 1_795_456_800;

    fn words(subject: &str, author: &str, ago: i64) -> Option<CommitWords> {
        Some(CommitWords { subject: subject.to_owned(), author: author.to_owned(), time: NOW - ago })
    }

    /// All is well.
    fn well() -> Status {
        let applied = "4f2a9c1".repeat(6)[..40].to_owned();
        Status {
            version: 1,
            host: Some("web-01".to_owned()),
            state: State::InSync,
            reason: None,
            message: None,
            since: NOW - 3 * 86_400,
            update: "auto".to_owned(),
            revision: Revisions {
                seen: Some(applied.clone()),
                attempted: Some(applied.clone()),
                applied: Some(applied),
            },
            seen: words("tls: new intermediate", "Ana", 7200),
            applied: words("tls: new intermediate", "Ana", 7200),
            source: Some(SourceStatus {
                worker: Some(WallsStatus { uid: 990, landlock: 6, filtered: true }),
                url: "https://git.example.org/fleet.git".to_owned(),
                branch: "main".to_owned(),
                looked: Some(NOW - 12),
                fetched: Some(NOW - 360),
                failing_since: None,
                error: None,
                answered: None,
                failing: Vec::new(),
            }),
            authenticity: "transport-only".to_owned(),
            signed: None,
            resources: ResourceCounts { managed: 214, in_sync: 214, ..ResourceCounts::default() },
            attention: Vec::new(),
            suspended: Vec::new(),
            approved: None,
            rolled_back: None,
            restores: Vec::new(),
            running: None,
            last: Some(Last { pass: "01JD".to_owned(), at: NOW - 12, took_ms: 80, state: State::InSync }),
            next: Some(NOW + 48),
            notes: Vec::new(),
            agent: Some(AgentStatus { version: "0.1.0".to_owned(), pid: 1, started: NOW - 4 * 86_400, settings: None }),
        }
    }

    #[track_caller]
    fn shows(status: &Status, screen: &str) {
        let text = status_text(status, NOW, &Zone::utc(), Palette::default());
        assert_eq!(text, screen, "\n{text}");
    }

    #[test]
    fn where_all_is_well_it_is_short() {
        let screen = "\
web-01   in-sync   for 3 d                                      update auto
  revision   4f2a9c1  tls: new intermediate   2 h ago  (Ana)
  source     https://git.example.org/fleet.git  main   looked 12 s ago · fetched 6 min ago
  worker     uid 990 · Landlock 6 · system calls filtered
  trust      transport-only; no signature is verified
  resources  214 managed, all in sync
";
        shows(&well(), screen);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_type_next() {
        let mut status = well();
        let attention = |what: &str, id: &str, message: &str| Attention {
            id: id.to_owned(),
            what: what.to_owned(),
            reason: None,
            message: message.to_owned(),
            attempts: 0,
            next: None,
        };
        let seen = "b81d07e".repeat(6)[..40].to_owned();
        (status.revision.seen, status.revision.attempted) = (Some(seen.clone()), Some(seen));
        status.seen = words("nginx 1.22.1-9+deb12u3", "Ben", 360);
        (status.state, status.reason) = (State::Degraded, Some("package-lock-held".to_owned()));
        status.message = Some("dpkg lock held by unattended-upgr (pid 812)".to_owned());
        status.since = NOW - 360;
        status.resources =
            ResourceCounts { managed: 214, in_sync: 212, failed: 1, skipped: 1, suspended: 1, ..status.resources };
        status.attention = vec![
            Attention {
                attempts: 3,
                next: Some(NOW + 240),
                ..attention("failed", "package:nginx", "dpkg lock held by unattended-upgr (pid 812)")
            },
            attention("skipped", "unit:nginx.service", "because package:nginx"),
        ];
        status.suspended = vec![SuspendedStatus {
            resource: Some("file:/etc/nginx/nginx.conf".to_owned()),
            since: NOW - 60,
            until: NOW + 18_720,
            by: "alice".to_owned(),
            reason: "INC-4711".to_owned(),
        }];
        let screen = "\
web-01   degraded   package-lock-held   for 6 min               update auto
  revision   applied  4f2a9c1  tls: new intermediate    2 h ago    (Ana)
             seen     b81d07e  nginx 1.22.1-9+deb12u3   6 min ago  (Ben)
  source     https://git.example.org/fleet.git  main   looked 12 s ago · fetched 6 min ago
  worker     uid 990 · Landlock 6 · system calls filtered
  trust      transport-only; no signature is verified
  resources  214 managed · 212 in sync · 1 failed · 1 skipped · 1 suspended
  failed     package:nginx       dpkg lock held by unattended-upgr (pid 812)   3rd attempt, next in 4 min
  skipped    unit:nginx.service  because package:nginx
  suspended  file:/etc/nginx/nginx.conf  until 23:12 (5 h 12 min left)  by alice: INC-4711
  pass       ended 12 s ago · next in 48 s
  next       trueup history b81d07e · journalctl TRUEUP_RESOURCE=package:nginx · trueup resume
";
        shows(&status, screen);
    }

    #[test]
    fn a_held_host_names_what_waits_and_for_what() {
        let mut status = well();
        status.update = "hold".to_owned();
        status.revision.seen = Some("b81d07e".repeat(6)[..40].to_owned());
        status.seen = words("nginx", "Ben", 360);
        (status.state, status.reason) = (State::Pending, Some("held".to_owned()));
        status.message = Some("update = \"hold\": b81d07e is seen and not applied".to_owned());
        status.approved =
            Some(ChoiceStatus { commit: "4f2a9c1".repeat(6)[..40].to_owned(), by: "alice".to_owned(), at: NOW - 7000 });
        status.running =
            Some(Running { pass: "01JE".to_owned(), since: NOW - 12, doing: "installing packages".to_owned() });
        let screen = "\
web-01   pending   held   for 3 d                               update hold
  revision   applied  4f2a9c1  tls: new intermediate   2 h ago    (Ana)
             seen     b81d07e  nginx                   6 min ago  (Ben)
  source     https://git.example.org/fleet.git  main   looked 12 s ago · fetched 6 min ago
  worker     uid 990 · Landlock 6 · system calls filtered
  trust      transport-only; no signature is verified
  resources  214 managed, all in sync
  approved   4f2a9c1  by alice 1 h ago
  held       b81d07e waits for: trueup approve
  running    12 s: installing packages
  pass       ended 12 s ago
  next       trueup plan · trueup approve
";
        shows(&status, screen);
        status.approved =
            Some(ChoiceStatus { commit: status.revision.seen.clone().expect("seen"), by: "alice".to_owned(), at: NOW });
        assert!(!status_text(&status, NOW, &Zone::utc(), Palette::default()).contains("waits for"));
    }

    #[test]
    fn urls_that_are_passed_over_are_told_below_the_source() {
        let mut status = well();
        let source = status.source.as_mut().expect("configured");
        source.answered = Some("https://mirror.example.org/fleet.git".to_owned());
        source.failing = vec![UrlStatus {
            url: source.url.clone(),
            since: NOW - 7200,
            reason: "unreachable".to_owned(),
            message: "https://git.example.org/fleet.git: no route\u{1b}[2J".to_owned(),
        }];
        let screen = "\
  source     https://git.example.org/fleet.git  main   looked 12 s ago · fetched 6 min ago
             answered by https://mirror.example.org/fleet.git
             passed over for 2 h, unreachable: https://git.example.org/fleet.git: no route\\u{1b}[2J
  worker ";
        let text = status_text(&status, NOW, &Zone::utc(), Palette::default());
        assert!(text.contains(screen), "{text}");
    }

    #[test]
    fn a_source_that_is_gone_is_said_since_when_and_a_rollback_until_when() {
        let mut status = well();
        let source = status.source.as_mut().expect("configured");
        (source.failing_since, source.error) = (Some(NOW - 7200), Some("no route to host".to_owned()));
        status.rolled_back =
            Some(ChoiceStatus { commit: "4f2a9c1".repeat(6)[..40].to_owned(), by: "root".to_owned(), at: NOW - 60 });
        (status.state, status.reason) = (State::Pending, Some("rolled-back-by-root".to_owned()));
        status.message = Some("root went back".to_owned());
        let screen = "\
web-01   pending   rolled-back-by-root   for 3 d                update auto
  revision   4f2a9c1  tls: new intermediate   2 h ago  (Ana)
  source     https://git.example.org/fleet.git  main   looked 12 s ago · fetched 6 min ago
             failing for 2 h: no route to host
  worker     uid 990 · Landlock 6 · system calls filtered
  trust      transport-only; no signature is verified
  resources  214 managed, all in sync
  held       at 4f2a9c1, where root went back to 1 min ago; forward again: trueup resume
  pass       ended 12 s ago · next in 48 s
  next       trueup resume
";
        shows(&status, screen);
    }

    #[test]
    fn without_an_agent_it_says_so_first() {
        let mut status = well();
        (status.state, status.reason) = (State::Stalled, Some("not-running".to_owned()));
        status.message = Some("the agent is not running: systemctl start trueup".to_owned());
        (status.agent, status.revision.seen) = (None, None);
        status.source.as_mut().expect("configured").looked = None;
        let screen = "\
web-01   stalled   not-running                                  update auto
  why        the agent is not running: systemctl start trueup
  revision   4f2a9c1  tls: new intermediate   2 h ago  (Ana)
  source     https://git.example.org/fleet.git  main   not looked at yet · fetched 6 min ago
  worker     uid 990 · Landlock 6 · system calls filtered
  trust      transport-only; no signature is verified
  resources  214 managed · not looked at
  next       systemctl start trueup · journalctl -u trueup
";
        shows(&status, screen);
    }

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        let mut status = well();
        let nasty = || "\u{1b}[2J\n\u{202e}x".to_owned();
        (status.host, status.reason, status.message) = (Some(nasty()), Some(nasty()), Some(nasty()));
        status.seen = words(&nasty(), &nasty(), 0);
        (status.applied, status.state) = (status.seen.clone(), State::Degraded);
        status.notes = vec![nasty()];
        status.attention =
            vec![Attention { id: nasty(), what: nasty(), reason: None, message: nasty(), attempts: 2, next: None }];
        for text in
            [status_text(&status, NOW, &Zone::utc(), Palette::default()), change_line(&status, Palette::default())]
        {
            assert!(!text.chars().any(|c| c != '\n' && c.is_control() || c == '\u{202e}'), "{text:?}");
        }
    }

    #[test]
    fn attempts_are_counted_as_people_count() {
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 13, 21, 112].map(nth),
            ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th"]
        );
    }

    #[test]
    fn a_rollback_that_no_pass_came_to_is_no_place_where_the_host_is() {
        let mut status = well();
        let commit = "0123456".repeat(6)[..40].to_owned();
        status.rolled_back = Some(ChoiceStatus { commit: commit.clone(), by: "ana".to_owned(), at: NOW - 60 });
        let held = |status: &Status| {
            let text = status_text(status, NOW, &Zone::utc(), Palette::default());
            text.lines().find(|line| line.contains("held")).unwrap_or_default().trim().to_owned()
        };
        assert_eq!(held(&status), "held       ana asked to go to 0123456 1 min ago; forward again: trueup resume");
        status.revision.attempted = Some(commit);
        assert_eq!(
            held(&status),
            "held       at 0123456, where ana went back to 1 min ago; forward again: trueup resume"
        );
    }

    #[test]
    fn whoever_is_not_root_is_told_how_to_be() {
        let mut status = well();
        (status.state, status.reason) = (State::Stalled, Some("compile-error".to_owned()));
        let next = |root| {
            let text = status_text_for(root, &status, NOW, &Zone::utc(), Palette::default());
            text.lines().last().unwrap_or_default().trim().to_owned()
        };
        assert_eq!(next(true), "next       trueup plan · trueup doctor · journalctl -t trueup -p warning");
        assert_eq!(next(false), "next       sudo trueup plan · trueup doctor · journalctl -t trueup -p warning");
    }
}
