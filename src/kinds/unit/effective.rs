//! Whether what a unit runs is what stands on the host: its program, its libraries, its unit file, its configuration.
//! Pure; the looking is done by [`super::processes`].

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Observed, OnChange, Spec, rules};
use crate::kinds::Refresh;
use crate::model::{Change, Id};

/// The clock by which files are written is coarse, at most 10 ms: sched(7), `HZ`; some file systems over a network have
/// one that is a little ahead.
const MARGIN: Duration = Duration::from_millis(100);

/// How many paths are named; of the others it is said how many they are.
const NAMED: usize = 1;

/// In what a process is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Its program is another file by now.
    ReplacedBinary,
    /// So is a library that it has loaded.
    ReplacedLibrary,
    /// It was started before its unit file, or a drop-in, was written.
    OlderUnitFile,
    /// It was started, or told to read it, before a declared file that it uses was written.
    OlderConfiguration,
}

impl Why {
    /// All of them.
    const ALL: [Self; 4] = [Self::ReplacedBinary, Self::ReplacedLibrary, Self::OlderUnitFile, Self::OlderConfiguration];

    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::ReplacedBinary => "replaced-binary",
            Self::ReplacedLibrary => "replaced-library",
            Self::OlderUnitFile => "older-unit-file",
            Self::OlderConfiguration => "older-configuration",
        }
    }

    /// Whether `reason` is the word of one of them.
    pub fn has_word(reason: &str) -> bool {
        Self::ALL.iter().any(|why| why.word() == reason)
    }
}

/// One thing in which what a unit runs is older than what stands on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// What.
    pub why: Why,
    /// Which files, in the order of names.
    pub paths: Vec<String>,
    /// What puts it right, where that may be done unasked.
    pub remedy: Option<Refresh>,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: it is meant so.
    Nothing,
    /// It is told, and somebody chooses when.
    Told,
    /// This puts it right.
    Done(Refresh),
}

/// What is to be done about a running unit that is behind in `why`; `file` is the one that is newer, where it is one that
/// is declared or a unit file. What does it is what `on_change` says of that file.
///
/// A binary belongs to one unit, or to few, and whoever replaces it means them: it is restarted for. A library is
/// everybody's: after an upgrade of libc all services of a host run a replaced one, and the whole fleet's hosts within the
/// same hour. No commit has asked for that outage, so it is told, and whoever is on call chooses when.
pub(super) fn verdict(name: &str, want: &Spec, seen: &Observed, why: Why, file: Option<&Id>) -> Verdict {
    if want.masked == Some(true) || want.active == Some(false) || !seen.is_active() {
        return Verdict::Nothing;
    }
    match (why, want.on_change, file) {
        // What runs once runs what stands there.
        (_, OnChange::Start, _) => Verdict::Nothing,
        (Why::ReplacedLibrary, ..) => Verdict::Told,
        (Why::ReplacedBinary, OnChange::Restart, _) if may_restart(name) => Verdict::Done(Refresh::Restart),
        (Why::ReplacedBinary, ..) => Verdict::Told,
        (_, _, None) => Verdict::Nothing,
        (_, _, Some(file)) => {
            let changed = BTreeSet::from([file.clone()]);
            match rules::refresh(name, want, seen, &changed) {
                Some(Refresh::Restart) if !may_restart(name) => Verdict::Told,
                Some(how) => Verdict::Done(how),
                // Whoever says so wants what is written to wait for the next start, and not to be told of it until then.
                None if !rules::moves(name, want, &seen.start_files, &changed) => Verdict::Nothing,
                None => Verdict::Told,
            }
        }
    }
}

/// Units whose restart ends what people are doing, where nobody asked for it; how their names begin.
const SESSIONS: [&str; 12] = [
    "display-manager.",
    "gdm.",
    "gdm3.",
    "lightdm.",
    "sddm.",
    "lxdm.",
    "xdm.",
    "getty@",
    "serial-getty@",
    "console-getty.",
    "user@",
    "session-",
];

/// Whether it may be restarted though no commit says so.
fn may_restart(name: &str) -> bool {
    rules::may_restart(name) && !SESSIONS.iter().any(|session| name.starts_with(session))
}

/// Whether a file that was written at `modified` is newer than what was read at an instant, which was `reckoned` by the
/// clock as it is set now, and `recorded` by the clock as it was then; all since 1970. A clock that was set in between
/// makes one of them wrong, so it has to be newer than both; and what is of a time that is still to come was written by
/// a clock that was wrong.
pub(super) fn is_newer(modified: Duration, reckoned: Duration, recorded: Duration, now: Duration) -> bool {
    modified > reckoned.max(recorded).saturating_add(MARGIN) && modified <= now
}

/// A service has made its own files by so long after its start, where it makes any.
const AT_START: Duration = Duration::from_secs(60);

/// Whether a file that was written at `modified` may well have been written by what was `started` then, as it began.
pub(super) fn is_its_own_doing(modified: Duration, started: Duration) -> bool {
    modified >= started && modified < started.saturating_add(AT_START)
}

/// Adds to `all` that `path` is another than what is run.
pub(super) fn add(all: &mut Vec<Behind>, why: Why, path: String, verdict: Verdict) {
    let remedy = match verdict {
        Verdict::Nothing => return,
        Verdict::Told => None,
        Verdict::Done(how) => Some(how),
    };
    match all.iter_mut().find(|behind| behind.why == why) {
        Some(behind) => {
            behind.paths.push(path);
            behind.paths.sort_unstable();
            // A restart also does what a reload would.
            behind.remedy = behind.remedy.into_iter().chain(remedy).min();
        }
        None => all.push(Behind { why, paths: vec![path], remedy }),
    }
}

impl Behind {
    /// As a change; one that is only `told` is put right by nobody.
    pub fn change(&self, told: bool) -> Change {
        let more = self.paths.len().saturating_sub(NAMED);
        let mut from = self.paths.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if more > 0 {
            from = format!("{from} and {more} more");
        }
        Change::new(self.why.word(), from, self.remedy.filter(|_| !told).map_or("", Refresh::as_str))
    }
}

/// How somebody puts right what is only told of the unit `name`.
pub fn advice(name: &str) -> String {
    if rules::may_restart(name) {
        format!("systemctl restart {name} puts it right, when it suits")
    } else {
        "a reboot puts it right".to_owned()
    }
}

/// What every path that matches `pattern` begins with.
pub(super) fn literal(pattern: &str) -> &str {
    &pattern[..pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len())]
}

#[cfg(test)]
mod tests {
    use super::super::{Active, FileState, Load};
    use super::*;

    fn running() -> Observed {
        Observed { load: Load::Loaded, file: FileState::Enabled, ..Observed::nothing(Some(Active::Active)) }
    }

    fn want(on_change: OnChange) -> Spec {
        Spec { active: Some(true), on_change, watch: vec!["/etc/app/**".to_owned()], ..Spec::default() }
    }

    /// By what a unit is behind in, and by what it is declared to do on a change.
    #[test]
    fn the_table_of_what_is_done() {
        use OnChange::{None as Never, Reload, Restart, Start};
        use Verdict::{Done, Nothing, Told};
        use Why::{OlderConfiguration, OlderUnitFile, ReplacedBinary, ReplacedLibrary};
        let conf = Id::new("file", "/etc/app/app.conf");
        let unit_file = Id::new("file", "/etc/systemd/system/app.service.d/more.conf");
        let (restart, reload) = (Done(Refresh::Restart), Done(Refresh::Reload));
        let table = [
            (ReplacedBinary, None, [restart, Told, Nothing, Told]),
            (ReplacedLibrary, None, [Told, Told, Nothing, Told]),
            (OlderUnitFile, Some(&unit_file), [restart, reload, Nothing, Nothing]),
            (OlderConfiguration, Some(&conf), [restart, reload, Nothing, Nothing]),
        ];
        for (why, file, wanted) in table {
            let done =
                [Restart, Reload, Start, Never].map(|how| verdict("app.service", &want(how), &running(), why, file));
            assert_eq!(done, wanted, "{why:?}");
        }
        // The bus and logins only a reboot replaces, and that is told.
        for (why, file) in
            [(ReplacedBinary, None), (OlderUnitFile, Some(&Id::new("file", "/etc/systemd/system/dbus.service")))]
        {
            assert_eq!(verdict("dbus.service", &want(Restart), &running(), why, file), Told, "{why:?}");
        }
        // People are at work in these, whoever upgraded them.
        for name in ["getty@tty1.service", "gdm3.service", "user@1000.service"] {
            assert_eq!(verdict(name, &want(Restart), &running(), ReplacedBinary, None), Told, "{name}");
            assert_eq!(verdict(name, &want(Restart), &running(), OlderConfiguration, Some(&conf)), Told, "{name}");
        }
    }

    #[test]
    fn what_is_not_to_run_is_not_behind() {
        let off = Spec { active: Some(false), ..Spec::default() };
        let masked = Spec { masked: Some(true), ..Spec::default() };
        let down = Observed { active: Some(Active::Inactive), ..running() };
        for (want, seen) in [(off, running()), (masked, running()), (want(OnChange::Restart), down)] {
            assert_eq!(verdict("app.service", &want, &seen, Why::ReplacedBinary, None), Verdict::Nothing, "{want:?}");
        }
        let undeclared = Spec::default();
        let done = verdict("app.service", &undeclared, &running(), Why::ReplacedBinary, None);
        assert_eq!(done, Verdict::Done(Refresh::Restart), "one that is only known by its unit file runs all the same");
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_newer() {
        const S: fn(u64) -> Duration = Duration::from_secs;
        let ms = Duration::from_millis;
        // (written, started as the clock is set now, started as it was set then, now)
        let cases = [
            ("written before it was started", S(99), S(100), S(100), S(200), false),
            ("written after it", S(101), S(100), S(100), S(200), true),
            ("at once, by a coarse clock", S(100) + ms(10), S(100), S(100), S(200), false),
            ("before, and the clock was set back an hour since", S(3_699), S(100), S(3_700), S(200), false),
            ("after, and the clock was set back before that", S(150), S(100), S(3_700), S(200), false),
            ("after both, once the clock is there again", S(3_800), S(100), S(3_700), S(3_900), true),
            ("before, and the clock was set forward an hour since", S(99), S(3_700), S(100), S(3_800), false),
            ("after, when the clock had been set forward", S(3_750), S(3_700), S(100), S(3_800), true),
            ("by a clock that was ahead, before the boot", S(9_000), S(100), S(100), S(200), false),
            (
                "without a clock at boot: 1970, then set",
                S(1_700_000_000),
                S(1_800_000_000),
                S(5),
                S(1_800_000_100),
                false,
            ),
        ];
        for (what, modified, reckoned, recorded, now, newer) in cases {
            assert_eq!(is_newer(modified, reckoned, recorded, now), newer, "{what}");
        }
    }

    #[test]
    fn what_is_written_at_the_start_of_a_service_may_be_its_own_doing_and_later_it_is_not() {
        const S: fn(u64) -> Duration = Duration::from_secs;
        for (modified, is) in [(S(99), false), (S(100), true), (S(159), true), (S(160), false)] {
            assert_eq!(is_its_own_doing(modified, S(100)), is, "{modified:?}");
        }
    }

    #[test]
    fn one_line_tells_how_many() {
        let mut all = Vec::new();
        for path in ["/usr/lib/libc.so.6", "/usr/lib/liba.so.1", "/usr/lib/libb.so.1"] {
            add(&mut all, Why::ReplacedLibrary, path.to_owned(), Verdict::Told);
        }
        add(&mut all, Why::ReplacedBinary, "/usr/sbin/app".to_owned(), Verdict::Done(Refresh::Restart));
        add(&mut all, Why::OlderUnitFile, "/etc/app".to_owned(), Verdict::Nothing);
        let told: Vec<String> = all.iter().map(|behind| behind.change(false).to_string()).collect();
        assert_eq!(
            told,
            [
                "runs a library that was replaced (/usr/lib/liba.so.1 and 2 more)",
                "runs a binary that was replaced (/usr/sbin/app) → restart",
            ]
        );
        assert_eq!(all[1].change(true).to_string(), "runs a binary that was replaced (/usr/sbin/app)");
    }

    #[test]
    fn a_restart_does_what_a_reload_would() {
        let mut all = Vec::new();
        add(&mut all, Why::OlderConfiguration, "/b".to_owned(), Verdict::Done(Refresh::Reload));
        add(&mut all, Why::OlderConfiguration, "/a".to_owned(), Verdict::Done(Refresh::Restart));
        assert_eq!((all[0].remedy, all[0].paths.len()), (Some(Refresh::Restart), 2));
    }

    #[test]
    fn what_a_pattern_begins_with_is_taken_as_it_stands() {
        for (pattern, begins) in
            [("/etc/app/**", "/etc/app/"), ("/etc/app.conf", "/etc/app.conf"), ("/etc/{a,b}", "/etc/"), ("**", "")]
        {
            assert_eq!(literal(pattern), begins);
        }
    }
}
