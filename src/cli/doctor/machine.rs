//! Whether the machine can do what is asked of it, and how our own memory of it is.

use std::collections::BTreeSet;

use super::Finding;
use super::looked::{Looked, Standing, Unseen};
use crate::host::Disk;
use crate::ledger::Ledger;
use crate::model::one_line;

/// 2026-01-01, seconds since 1970: before this there was no trueup, so a clock that says so is wrong.
const EARLIEST: i64 = 1_767_225_600;
/// 2100-01-01.
const LATEST: i64 = 4_102_444_800;
/// By how much our own record may be ahead of the clock, in seconds.
const SLACK: i64 = 120;

pub(super) fn clock(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "clock";
    let advice = "timedatectl; set the clock, and let something keep it right";
    let behind = looked.recorded.map_or(0, |recorded| recorded.saturating_sub(looked.now));
    vec![match looked.synchronized {
        _ if !(EARLIEST..LATEST).contains(&looked.now) => {
            Finding::bad(ABOUT, format!("it says {} s since 1970, which cannot be", looked.now), advice)
        }
        _ if behind > SLACK => {
            let message = format!("it is {behind} s behind what our own record says was the time of the last pass");
            Finding::bad(ABOUT, message, advice)
        }
        _ if !looked.machine => return Vec::new(),
        Ok(true) => Finding::ok(ABOUT, "synchronized"),
        Ok(false) => Finding::warn(
            ABOUT,
            "nothing keeps it right: certificates and times of expiry depend on it",
            "timedatectl set-ntp true, or install chrony or systemd-timesyncd",
        ),
        Err(_) => Finding::warn(ABOUT, "it cannot be told whether anything keeps it right", "timedatectl"),
    }]
}

pub(super) fn disks(looked: &Looked) -> Vec<Finding> {
    let disk = |(path, seen): &(&str, Result<Disk, String>)| match seen {
        Ok(disk) => of_disk(path, *disk),
        Err(why) => Finding::bad("disk", why, "mount; df"),
    };
    looked.disks.iter().map(disk).collect()
}

const MIB: u64 = 1 << 20;

fn of_disk(path: &str, disk: Disk) -> Finding {
    const ABOUT: &str = "disk";
    let (free, size) = (bytes(disk.free), bytes(disk.size));
    let files = match disk.files {
        0 => String::new(),
        all => format!(", {} of {all} files", disk.files_free),
    };
    let message = format!("{path}: {free} of {size} free{files}");
    let few = |least: u64| disk.files > 0 && disk.files_free < least;
    if disk.read_only {
        Finding::bad(
            ABOUT,
            format!("{path} is mounted read-only: nothing can be changed or remembered"),
            "mount it for writing (mount -o remount,rw); dmesg says why, where the kernel did it",
        )
    } else if disk.free < 32 * MIB || few(256) {
        Finding::bad(ABOUT, message, "make room: nothing can be written there")
    } else if disk.free < 512 * MIB || few(10_000) {
        Finding::warn(ABOUT, message, "make room before it is full")
    } else {
        Finding::ok(ABOUT, message)
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..1_048_576 => format!("{} KiB", count >> 10),
        1_048_576..10_737_418_240 => format!("{} MiB", count >> 20),
        _ => format!("{} GiB", count >> 30),
    }
}

/// Our own memory: what cannot be believed stops everything.
pub(super) fn state(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "state";
    let ledger = match &looked.ledger {
        Ok((_, true)) => Ok(Standing::Previous),
        Ok((ledger, false)) if *ledger == Ledger::default() => Ok(Standing::None),
        Ok((_, false)) => Ok(Standing::Whole),
        Err(why) => Err(why.clone()),
    };
    let mut findings = Vec::new();
    let mut whole = Vec::new();
    for (name, seen) in std::iter::once(("ledger", ledger)).chain(looked.documents.iter().cloned()) {
        match seen {
            Err(Unseen::NeedsRoot) => return vec![Finding::needs_root(ABOUT)],
            Err(Unseen::Failed(why)) => {
                let advice = format!(
                    "restore /var/lib/trueup/{name} from a backup, or move it away: {}; until then nothing is changed",
                    match name {
                        "ledger" => "everything is then adopted anew",
                        "record" => "any commit of the branch is then taken, older ones too",
                        "agent/brakes" => "suspensions and approvals are then forgotten",
                        _ => "it is then made anew",
                    }
                );
                findings.push(Finding::bad(ABOUT, why, advice));
            }
            Ok(Standing::Previous) => findings.push(Finding::warn(
                ABOUT,
                format!("{name} was damaged, and its previous copy stands in"),
                "nothing: the next pass writes a whole one; if it comes again, the disk (dmesg)",
            )),
            Ok(Standing::Whole) => whole.push(name),
            Ok(Standing::None) => {}
        }
    }
    if findings.is_empty() {
        let whole = if whole.is_empty() { "none yet".to_owned() } else { format!("whole: {}", whole.join(", ")) };
        findings.push(Finding::ok(ABOUT, whole));
    }
    findings
}

pub(super) fn packages(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "packages";
    if !looked.machine {
        return Vec::new();
    }
    let mut findings = vec![match &looked.packages {
        Ok(()) => Finding::ok(ABOUT, "the package manager answers"),
        Err(why) => Finding::warn(ABOUT, why, "files and units work all the same; declared packages fail"),
    }];
    let mut told = BTreeSet::new();
    for (path, holder) in &looked.package_locks {
        if told.insert(holder.pid) {
            let message = format!("{path} is held by {holder}");
            findings.push(Finding::warn(
                ABOUT,
                message,
                "nothing: it is waited for; if it hangs, look at that process",
            ));
        }
    }
    findings
}

/// What a pass that was cut short left to be done.
pub(super) fn owed(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "owed";
    // Why it cannot be told stands in what is said of the state.
    let Ok((ledger, _)) = &looked.ledger else { return Vec::new() };
    let activations = ledger.activations.iter().map(|what| {
        let word = serde_json::to_value(what).ok().and_then(|word| word.as_str().map(str::to_owned));
        word.unwrap_or_default()
    });
    let refreshes = ledger.refreshes.iter().map(|(id, owed)| format!("{} of {id}", owed.how.as_str()));
    let all: Vec<String> = activations.chain(refreshes).collect();
    vec![match all.len() {
        0 => Finding::ok(ABOUT, "nothing is left over from earlier passes"),
        n => {
            let shown = one_line(&all.iter().take(5).cloned().collect::<Vec<_>>().join(", "), 300);
            let more = if n > 5 { format!(" and {} more", n - 5) } else { String::new() };
            Finding::warn(ABOUT, format!("still to be done: {shown}{more}"), "nothing: the next pass does it")
        }
    }]
}

/// The agent watches the directories of what is managed, inotify(7).
pub(super) fn watches(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "watches";
    if !looked.machine {
        return Vec::new();
    }
    let Some(most) = looked.watches else {
        let message = "the kernel does not say how many directories may be watched";
        return vec![Finding::warn(ABOUT, message, "nothing: drift is then found at the interval")];
    };
    let files = looked.ledger.as_ref().map(|(ledger, _)| &ledger.entries);
    let directories: BTreeSet<&str> = files
        .into_iter()
        .flatten()
        .filter(|(id, _)| id.kind() == "file")
        .map(|(id, _)| id.name().rsplit_once('/').map_or("", |(directory, _)| directory))
        .collect();
    let needed = directories.len() as u64;
    // Others on this host watch too.
    vec![if needed.saturating_mul(2).max(1024) > most {
        let message = format!("{needed} directories are to be watched, and one user may watch {most} in all");
        let advice = "raise fs.inotify.max_user_watches in /etc/sysctl.d; until then drift is found at the interval";
        Finding::warn(ABOUT, message, advice)
    } else {
        Finding::ok(ABOUT, format!("{needed} directories, of at most {most}"))
    }]
}

pub(super) fn kept(looked: &Looked) -> Vec<Finding> {
    let Ok((ledger, _)) = &looked.ledger else { return Vec::new() };
    let size = ledger.kept.iter().map(|kept| kept.size).sum();
    let copies = if ledger.kept.len() == 1 { "copy" } else { "copies" };
    let message = format!("{} {copies} of what was overwritten, {}", ledger.kept.len(), bytes(size));
    vec![if size > 1024 * MIB {
        Finding::warn("kept", message, "lower state.originals, if that is too much: edits are bounded by themselves")
    } else {
        Finding::ok("kept", message)
    }]
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::looked::tests::{NOW, healthy};
    use super::*;
    use crate::host::Holder;
    use crate::kinds::{Activation, Observed, Refresh, file};
    use crate::ledger::{Entry, Origin, OwedRefresh, Why};
    use crate::model::{Drift, Id, Release};

    fn level(findings: &[Finding]) -> Level {
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings[0].level
    }

    #[test]
    fn a_clock_that_cannot_be_right_is_bad_and_one_that_nobody_keeps_a_warning() {
        let mut looked = healthy();
        assert_eq!(level(&clock(&looked)), Level::Ok);
        looked.synchronized = Ok(false);
        assert_eq!(level(&clock(&looked)), Level::Warn);
        looked.synchronized = Err(Unseen::Failed("no".to_owned()));
        assert_eq!(level(&clock(&looked)), Level::Warn);
        for (now, wanted) in [
            (EARLIEST - 1, Level::Bad),
            (EARLIEST, Level::Ok),
            (LATEST - 1, Level::Ok),
            (LATEST, Level::Bad),
            (0, Level::Bad),
        ] {
            let mut looked = healthy();
            (looked.now, looked.recorded) = (now, None);
            assert_eq!(level(&clock(&looked)), wanted, "{now}");
        }
        for (ahead, wanted) in [(SLACK, Level::Ok), (SLACK + 1, Level::Bad), (-99_999_999, Level::Ok)] {
            let mut looked = healthy();
            looked.recorded = Some(NOW + ahead);
            assert_eq!(level(&clock(&looked)), wanted, "{ahead}");
        }
    }

    #[test]
    fn a_disk_is_bad_where_nothing_can_be_written() {
        let whole = Disk { free: 600 * MIB, size: 1024 * MIB, files_free: 10_000, files: 65_536, read_only: false };
        for (disk, wanted) in [
            (whole, Level::Ok),
            (Disk { free: 512 * MIB, ..whole }, Level::Ok),
            (Disk { free: 512 * MIB - 1, ..whole }, Level::Warn),
            (Disk { free: 32 * MIB, ..whole }, Level::Warn),
            (Disk { free: 32 * MIB - 1, ..whole }, Level::Bad),
            (Disk { files_free: 9_999, ..whole }, Level::Warn),
            (Disk { files_free: 255, ..whole }, Level::Bad),
            (Disk { files: 0, files_free: 0, ..whole }, Level::Ok),
            (Disk { read_only: true, ..whole }, Level::Bad),
        ] {
            assert_eq!(of_disk("/etc", disk).level, wanted, "{disk:?}");
        }
    }

    #[test]
    fn damaged_state_is_bad_and_says_what_moving_it_away_means() {
        let mut looked = healthy();
        assert_eq!(state(&looked), [Finding::ok("state", "whole: record")]);
        looked.documents[0].1 = Ok(Standing::None);
        assert_eq!(state(&looked), [Finding::ok("state", "none yet")]);
        looked.ledger = Err(Unseen::Failed("our state /x/ledger is damaged".to_owned()));
        looked.documents[0].1 = Err(Unseen::Failed("our record is damaged".to_owned()));
        looked.documents[1].1 = Ok(Standing::Previous);
        let found = state(&looked);
        assert_eq!(found.iter().map(|one| one.level).collect::<Vec<_>>(), [Level::Bad, Level::Bad, Level::Warn]);
        assert!(found[0].advice.as_deref().is_some_and(|advice| advice.contains("adopted anew")), "{found:?}");
        assert!(found[1].advice.as_deref().is_some_and(|advice| advice.contains("older ones too")), "{found:?}");
        looked.ledger = Err(Unseen::NeedsRoot);
        assert_eq!(state(&looked), [Finding::needs_root("state")]);
    }

    #[test]
    fn who_holds_the_package_lock_is_named_once() {
        let mut looked = healthy();
        assert_eq!(level(&packages(&looked)), Level::Ok);
        let holder = Holder { pid: 812, name: "unattended-upgr".to_owned() };
        looked.package_locks = vec![("/var/lib/dpkg/lock-frontend", holder.clone()), ("/var/lib/dpkg/lock", holder)];
        let found = packages(&looked);
        assert_eq!((found.len(), found[1].level), (2, Level::Warn));
        assert!(found[1].message.contains("unattended-upgr (pid 812)"), "{found:?}");
        looked.packages = Err("none was found".to_owned());
        assert_eq!(packages(&looked)[0].level, Level::Warn);
    }

    #[test]
    fn what_is_owed_is_named() {
        let mut ledger = Ledger::default();
        ledger.activations.insert(Activation::DaemonReload);
        let owed = OwedRefresh { how: Refresh::Reload, because: Vec::new(), invocation: None, catches_up: false };
        ledger.refreshes.insert(Id::new("unit", "a.service"), owed);
        let mut looked = healthy();
        assert_eq!(level(&owed_of(&looked)), Level::Ok);
        looked.ledger = Ok((ledger, false));
        let found = owed_of(&looked);
        assert_eq!(found[0].message, "still to be done: daemon-reload, reload of unit:a.service");
        assert_eq!(level(&found), Level::Warn);
    }

    fn owed_of(looked: &Looked) -> Vec<Finding> {
        super::owed(looked)
    }

    #[test]
    fn directories_are_counted_once_and_compared_with_what_the_kernel_allows() {
        let mut ledger = Ledger::default();
        for path in ["/etc/a", "/etc/b", "/srv/c"] {
            let entry = Entry::new(Origin::Adopted, Drift::Correct, Release::Restore, "hosts/web-01");
            ledger.entries.insert(Id::new("file", path), entry);
        }
        let mut looked = healthy();
        looked.ledger = Ok((ledger, false));
        assert_eq!(watches(&looked), [Finding::ok("watches", "2 directories, of at most 65536")]);
        looked.watches = Some(1023);
        assert_eq!(level(&watches(&looked)), Level::Warn);
        looked.watches = Some(1024);
        assert_eq!(level(&watches(&looked)), Level::Ok);
    }

    #[test]
    fn kept_copies_are_summed_up() {
        let mut ledger = Ledger::default();
        let id = Id::new("file", "/etc/motd");
        for size in [3 * MIB, MIB] {
            ledger.keep(&id, Why::Edit, NOW, Observed::File(file::Observed::Absent).before(), size);
        }
        let mut looked = healthy();
        looked.ledger = Ok((ledger.clone(), false));
        assert_eq!(kept(&looked), [Finding::ok("kept", "2 copies of what was overwritten, 4 MiB")]);
        ledger.keep(&id, Why::Original, NOW, Observed::File(file::Observed::Absent).before(), 1024 * MIB);
        looked.ledger = Ok((ledger, false));
        assert_eq!(level(&kept(&looked)), Level::Warn);
    }
}
