//! Services that systemd has just started anew by itself (`Restart=`, systemd.service(5)) since they failed: one that does
//! so over and over is active between any two of its ends.

use std::time::Duration;

use serde::Deserialize;

use super::{Active, Fails, Observed};
use crate::host::{Error, Program, Reader};

/// How long a run has to last until nothing is made of how the one before it ended.
const LATELY: Duration = Duration::from_secs(60);
/// How long ago, at most, the run before it ended: who waits for longer is seen to wait.
const BEFORE: Duration = Duration::from_secs(360);
/// How long the journal may take to tell.
const PATIENCE: Duration = Duration::from_secs(10);

/// What systemd says once a unit has ended, `Failed with result …` and `Deactivated successfully`: `journalctl --catalog`.
const FAILED: &str = "d9b373ed55a64feb8242e02dbe79a49c";
const ENDED_WELL: &str = "7ad2d189f7e94e70a38c781354912448";

/// Adds to what was found of `names` which of them failed and were started anew a moment ago. Nothing is asked of what
/// runs for longer.
pub(super) fn add(host: &Reader, names: &[&str], found: &mut [Result<Observed, Error>]) {
    let age = |pid| Some(host.since_1970().saturating_sub(host.began(pid)?));
    let young = |at: &usize| matches!(&found[*at], Ok(seen) if is_young(names[*at], seen, &age));
    let young: Vec<usize> = (0..names.len()).filter(young).collect();
    if young.is_empty() {
        return;
    }
    let Ok(bus) = host.bus() else { return };
    let restarts = bus.restarts(&young.iter().map(|&at| names[at]).collect::<Vec<_>>());
    for (at, restarts) in young.into_iter().zip(restarts) {
        // systemd begins to count anew whenever somebody starts it.
        if !matches!(restarts, Ok(1..)) {
            continue;
        }
        if let (Ok(seen), Some(result)) = (&mut found[at], last_failure(host, names[at])) {
            seen.fails = Some(Fails { result, anew: true });
        }
    }
}

/// Whether the service `name` has begun its run so lately that how the one before ended counts.
fn is_young(name: &str, seen: &Observed, age: &dyn Fn(u32) -> Option<Duration>) -> bool {
    name.ends_with(".service")
        && match (seen.active, seen.main) {
            (Some(Active::Active), Some(main)) => age(main).is_some_and(|age| age < LATELY),
            // What waits is known already.
            (Some(Active::Activating), _) => seen.fails.is_none() && !seen.waits(),
            _ => false,
        }
}

/// How the last run of the unit `name` that has ended failed; `None` where it ended well, or that cannot be told.
fn last_failure(host: &Reader, name: &str) -> Option<String> {
    // Backwards: together with `--since`, journalctl(1) of systemd 252 gives the first of them.
    let mut journal = Program::new("journalctl").args(["--no-pager", "--quiet", "--boot", "--reverse", "--lines=1"]);
    journal = journal.args(["--output=json", "--output-fields=UNIT_RESULT"]);
    journal = journal.arg(format!("--since=@{}", host.since_1970().saturating_sub(BEFORE).as_secs()));
    for (at, word) in [FAILED, ENDED_WELL].into_iter().enumerate() {
        journal = if at > 0 { journal.arg("+") } else { journal };
        // Anybody may say so of a unit; only systemd is believed.
        journal = journal.args(["_PID=1".to_owned(), format!("UNIT={name}"), format!("MESSAGE_ID={word}")]);
    }
    result(&host.query(&journal.limit(PATIENCE)).ok()?.text())
}

/// What an entry of the journal says of how a unit failed.
fn result(entry: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "UNIT_RESULT")]
        result: Option<String>,
    }
    serde_json::from_str::<Entry>(entry.trim()).ok()?.result.filter(|result| result != "success")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_that_has_just_begun_is_asked_about() {
        let at = |seconds| move |_: u32| Some(Duration::from_secs(seconds));
        let runs = Observed { main: Some(7), ..Observed::nothing(Some(Active::Active)) };
        assert!(is_young("a.service", &runs, &at(59)));
        assert!(!is_young("a.service", &runs, &at(60)), "one restart long ago is nobody's concern");
        assert!(!is_young("a.service", &runs, &|_| None), "its process has gone");
        assert!(!is_young("a.socket", &runs, &at(0)));
        assert!(!is_young("a.service", &Observed { main: None, ..runs }, &at(0)));
        let sub = |sub: &str| Observed { sub: sub.to_owned(), ..Observed::nothing(Some(Active::Activating)) };
        assert!(is_young("a.service", &sub("start"), &at(3600)), "it has yet to come up");
        assert!(!is_young("a.service", &sub("auto-restart"), &at(0)), "how it ended is known");
    }

    #[test]
    fn the_last_entry_tells_how_a_run_ended() {
        let failed = r#"{"UNIT_RESULT":"exit-code","__CURSOR":"s=1","_BOOT_ID":"b"}"#;
        assert_eq!(result(&format!("{failed}\n")).as_deref(), Some("exit-code"));
        for none in [r#"{"__CURSOR":"s=1","_BOOT_ID":"b"}"#, "", "-- No entries --", r#"{"UNIT_RESULT":"success"}"#] {
            assert_eq!(result(none), None, "{none}");
        }
    }
}
