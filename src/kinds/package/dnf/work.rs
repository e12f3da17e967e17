//! Who is at work with packages, by the locks that a dnf takes.

use crate::host::{Error, Reader, Writer};
use crate::kinds::package::fault::Fault;
use crate::kinds::package::transient;
use crate::model::one_line;

/// Where a fourth dnf that changes packages leaves the number of its process.
const LOCKS: &[&str] = &["/var/lib/dnf/rpmdb_lock.pid", "/var/cache/dnf/download_lock.pid"];
/// Where one that only looks does; none of these is waited for by us, but by dnf.
const LESSER_LOCKS: &[&str] = &["/var/cache/dnf/metadata_lock.pid", "/var/log/log_lock.pid"];
/// What the programs are called that take these locks, and what their interpreter is.
const KIN: &[&str] = &["dnf", "yum", "python", "packagekit"];
/// What a fifth one locks by fcntl(2) while it plans and asks: for writing where it may change packages, and to the end of
/// its process. Those before 5.4 have none, the first of 5.4 have it where the second is.
pub const LOCKS_OF_PLANS: [&str; 2] = ["/var/lib/dnf/system-repo.lock", "/usr/lib/sysimage/libdnf5/system-repo.lock"];
/// What it locks while it changes packages.
const LOCK_OF_FIVE: &str = "/run/dnf/rpmtransaction.lock";

/// The dnf that is at work with packages now, if one is.
///
/// # Errors
/// Where a lock cannot be looked at.
pub fn at_work(host: &Reader) -> Result<Option<String>, Error> {
    let of_five = || transient::holder_of(host, &[&LOCKS_OF_PLANS[..], &[LOCK_OF_FIVE]].concat());
    of_four(host)?.map_or_else(of_five, |name| Ok(Some(name)))
}

/// Whoever a fifth dnf that writes would have to wait for: one that only looks, too.
///
/// # Errors
/// Where a lock cannot be looked at.
pub fn before_five(host: &Reader) -> Result<Option<String>, Error> {
    let of_five = || transient::user_of(host, &[&LOCKS_OF_PLANS[..], &[LOCK_OF_FIVE]].concat());
    of_four(host)?.map_or_else(of_five, |name| Ok(Some(name)))
}

fn of_four(host: &Reader) -> Result<Option<String>, Error> {
    for lock in LOCKS {
        if let Some(Holder::AtWork(name)) = holder(host, lock)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whose number stands in a lock file.
enum Holder {
    /// A process that may well have written it, by name.
    AtWork(String),
    /// Of one that did not: whoever wrote it is gone, and its number is another's by now.
    Stranger,
}

/// `None` where nobody holds it: one that was killed leaves its number behind, which dnf knows of by itself.
fn holder(host: &Reader, lock: &str) -> Result<Option<Holder>, Error> {
    let content = host.read(lock, 64)?.unwrap_or_default();
    let pid = String::from_utf8_lossy(&content).trim().parse().ok();
    Ok(pid.and_then(|pid| wrote(host, lock, pid)))
}

/// What the process `pid` has to do with the lock file that has its number; `None` where there is no such process.
fn wrote(host: &Reader, lock: &str, pid: u32) -> Option<Holder> {
    let name = host.read(&format!("/proc/{pid}/comm"), 64).ok().flatten()?;
    let name = String::from_utf8_lossy(&name).trim().to_owned();
    // A script bears its own name, and runs in its interpreter.
    let program = host.read_link(&format!("/proc/{pid}/exe")).ok().flatten().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    let is_kin = KIN.iter().any(|kin| name.contains(kin) || program.contains(kin));
    Some(match is_kin && !is_before_boot(host, lock) {
        true => Holder::AtWork(format!("{} (pid {pid})", one_line(&name, 40))),
        false => Holder::Stranger,
    })
}

/// Whether what is at `path` was written before this machine was started; see `btime` in proc_stat(5).
fn is_before_boot(host: &Reader, path: &str) -> bool {
    let boot = || {
        let text = host.read("/proc/stat", 1 << 20).ok().flatten()?;
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<i128>().ok()
    };
    match (host.look(path), boot()) {
        (Ok(Some(lock)), Some(boot)) => lock.modified < boot * 1_000_000_000,
        _ => false,
    }
}

/// Removes lock files that a power cut left and whose number is another process's by now: dnf would wait for the end of
/// that, which may never come.
///
/// # Errors
/// Where one cannot be looked at, or removed.
pub fn forget_stale_locks(host: &mut Writer) -> Result<(), Fault> {
    for lock in LOCKS.iter().chain(LESSER_LOCKS) {
        if matches!(holder(host, lock)?, Some(Holder::Stranger)) {
            host.remove(lock)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Attributes, Over};

    fn now(host: &Reader) -> Option<String> {
        at_work(host).expect("can be looked at")
    }

    #[test]
    fn whoever_is_at_work_is_named_and_one_that_was_killed_is_nobody() {
        let directory = tempfile::tempdir().expect("a directory");
        let host = Reader::directory(directory.path()).expect("a directory");
        assert_eq!(now(&host), None);
        let put = |path: &str, content: &str| {
            let path = directory.path().join(path);
            std::fs::DirBuilder::new().recursive(true).create(path.parent().expect("below")).expect("made");
            crate::host::write_new(&path, content.as_bytes()).expect("written");
        };
        put("var/lib/dnf/rpmdb_lock.pid", "812");
        assert_eq!(now(&host), None, "no such process");
        put("proc/812/comm", "dnf-automatic\n");
        assert_eq!(now(&host).as_deref(), Some("dnf-automatic (pid 812)"));
    }

    #[test]
    fn a_number_that_is_another_process_by_now_is_nobodys_lock() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut host = Writer::take(Reader::directory(directory.path()).expect("a directory")).expect("alone");
        let put = |path: &str, content: &str| {
            let path = directory.path().join(path);
            std::fs::DirBuilder::new().recursive(true).create(path.parent().expect("below")).expect("made");
            crate::host::write_new(&path, content.as_bytes()).expect("written");
        };
        let is_there = |host: &Reader, path: &str| host.look(path).expect("can be looked at").is_some();
        put("var/lib/dnf/rpmdb_lock.pid", "812");
        put("proc/812/comm", "sshd\n");
        assert_eq!(now(&host), None, "it is not of dnf's kin");
        forget_stale_locks(&mut host).expect("removed");
        assert!(!is_there(&host, LOCKS[0]), "dnf itself would wait for it");

        put("var/cache/dnf/download_lock.pid", "813");
        put("proc/813/comm", "subscription-ma\n");
        host.make_symlink("/proc/813/exe", "/usr/bin/python3.9", Attributes::default(), Over::Nothing).expect("made");
        assert_eq!(now(&host).as_deref(), Some("subscription-ma (pid 813)"));
        put("proc/stat", "cpu 1 2 3\nbtime 1000000000\nprocesses 5\n");
        forget_stale_locks(&mut host).expect("none");
        assert!(now(&host).is_some() && is_there(&host, LOCKS[1]));
        // The machine was started after that was written.
        host.remove("/proc/stat").expect("removed");
        put("proc/stat", "cpu 1 2 3\nbtime 40000000000\nprocesses 5\n");
        assert_eq!(now(&host), None);
        forget_stale_locks(&mut host).expect("removed");
        assert!(!is_there(&host, LOCKS[1]));
    }
}
