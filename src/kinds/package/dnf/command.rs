//! dnf's programs, run so that nothing asks a question.

use std::time::Duration;

use super::{PROGRAM, answers};
use crate::host::{Output, Program, Reader, Writer};
use crate::kinds::package::Transaction;
use crate::kinds::package::fault::{Fault, Remedy};
use crate::kinds::package::solve::{Action, Task};
use crate::kinds::package::tool::Mark;
use crate::kinds::package::transient::{self, both, stderr};
use crate::model::one_line;

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(180);
/// How long fetching may take: indexes, or the packages of a transaction.
const FETCH: Duration = Duration::from_secs(15 * 60);

/// Where a dnf that changes packages leaves the number of its process.
const LOCKS: &[&str] = &["/var/lib/dnf/rpmdb_lock.pid", "/var/cache/dnf/download_lock.pid"];
/// Where one that only looks does; none of these is waited for by us, but by dnf.
const LESSER_LOCKS: &[&str] = &["/var/cache/dnf/metadata_lock.pid", "/var/log/log_lock.pid"];
/// What the programs are called that take these locks, and what their interpreter is.
const KIN: &[&str] = &["dnf", "yum", "python", "packagekit"];

/// What is printed is there at once, and in order.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("LC_ALL", "C.UTF-8"),
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("PYTHONUNBUFFERED", "1"),
];

/// No more than what was asked for comes or goes, see dnf.conf(5).
const OPTIONS: &[&str] = &["--setopt=install_weak_deps=False", "--setopt=clean_requirements_on_remove=False"];
/// Only what is known already: no index is fetched, however old it is.
const FROM_CACHE: &str = "-C";
const NO_SOURCES: &str = "--disablerepo=*";
/// Whoever holds a lock is named, rather than waited for.
const NO_WAIT: &str = "--setopt=exit_on_lock=True";

fn program() -> Program {
    ENVIRONMENT.iter().fold(Program::new(PROGRAM), |program, (name, value)| program.env(name, *value)).any_status()
}

/// A look leaves its trace in our own directory rather than in the system's logs.
fn looking(host: &Reader) -> Program {
    let state = host.state();
    let ours = state.path().is_dir().then(|| format!("--setopt=logdir={}", state.path().join("dnf").display()));
    program().arg(FROM_CACHE).args(ours).args(["--setopt=log_size=100k", "--setopt=log_rotate=1"]).limit(LOOK)
}

/// The dnf that is at work with packages now, if one is.
pub fn at_work(host: &Reader) -> Option<String> {
    LOCKS.iter().find_map(|lock| match holder(host, lock)? {
        Holder::AtWork(name) => Some(name),
        Holder::Stranger => None,
    })
}

/// Whose number stands in a lock file.
enum Holder {
    /// A process that may well have written it, by name.
    AtWork(String),
    /// Of one that did not: whoever wrote it is gone, and its number is another's by now.
    Stranger,
}

/// `None` where nobody holds it: one that was killed leaves its number behind, which dnf knows of by itself.
fn holder(host: &Reader, lock: &str) -> Option<Holder> {
    let content = host.read(lock, 64).ok().flatten()?;
    let pid: u32 = String::from_utf8_lossy(&content).trim().parse().ok()?;
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
/// Where one cannot be removed.
pub fn forget_stale_locks(host: &mut Writer) -> Result<(), Fault> {
    for lock in LOCKS.iter().chain(LESSER_LOCKS) {
        if matches!(holder(host, lock), Some(Holder::Stranger)) {
            host.remove(lock)?;
        }
    }
    Ok(())
}

/// `glibc.i686` of `glibc:i686`.
fn with_architecture(name: &str) -> String {
    name.replacen(':', ".", 1)
}

/// The versions of `names` that there are in the package sources, one a line.
pub fn available(host: &Reader, names: &[&str]) -> Result<String, Fault> {
    let names = names.iter().map(|name| with_architecture(name));
    let ask = ["-q", "repoquery", "--available", "--qf", "%{name}\t%{evr}\t%{arch}"];
    let output = host.query(&looking(host).args(ask).arg("--").args(names))?;
    match output.status {
        0 => Ok(output.text()),
        _ => Err(answers::refusal(&output.text(), &stderr(&output))),
    }
}

/// Why each package is installed, one a line. The index is not needed for that.
pub fn reasons(host: &Reader) -> Result<String, crate::host::Error> {
    let ask = ["-q", "repoquery", "--installed", "--qf", "%{name}\t%{arch}\t%{reason}"];
    let program = looking(host).arg(NO_SOURCES).args(ask);
    let output = host.query(&program)?;
    match output.status {
        0 => Ok(output.text()),
        _ => {
            let why = answers::refusal(&output.text(), &stderr(&output)).why;
            Err(crate::host::Error::Unknown { thing: "why packages are installed".to_owned(), why })
        }
    }
}

/// What all that is done for `tasks` has in common.
fn options(tasks: &[&Task]) -> Vec<String> {
    let mut options: Vec<String> = OPTIONS.iter().map(|option| (*option).to_owned()).collect();
    if tasks.iter().all(|task| task.takes_away()) {
        options.push(NO_SOURCES.to_owned());
    }
    if tasks.iter().any(|task| task.held) {
        // What else is locked is looked after by us then.
        options.push("--disableplugin=versionlock".to_owned());
    }
    options
}

/// What `dnf shell` is told: all of `tasks`, then to do it, in one transaction. See dnf(8).
fn script(tasks: &[&Task]) -> String {
    let line = |task: &&Task| {
        let name = with_architecture(&task.name);
        let form = if task.name.contains(':') { "na" } else { "n" };
        match &task.action {
            Action::Install { version: None, .. } => format!("install-{form} {name}\n"),
            Action::Install { version: Some(version), .. } => {
                let (bare, architecture) = name.split_at(task.name.find(':').unwrap_or(name.len()));
                format!("install {bare}-{version}{architecture}\n")
            }
            Action::Remove | Action::Release => format!("remove-{form} {name}\n"),
        }
    };
    tasks.iter().map(line).chain(["run\n".to_owned()]).collect()
}

/// What dnf would do for `tasks`, without writing anything; `erasing` also by removing what is in their way.
pub fn simulate(host: &Reader, tasks: &[&Task], erasing: bool) -> Result<Transaction, Fault> {
    let mut dnf = looking(host).arg("--assumeno").args(options(tasks));
    if erasing {
        dnf = dnf.arg("--allowerasing");
    }
    let output = host.query(&dnf.args(["shell", "/dev/stdin"]).input(script(tasks).into_bytes()))?;
    if let Some(fault) = answers::failed(&output.text(), &stderr(&output)) {
        return Err(fault);
    }
    answers::simulation(&output.text()).map_err(|why| Fault::new("cannot-tell", why).with(Remedy::General))
}

/// Fetches the packages that `tasks` need into dnf's own cache.
pub fn download(host: &mut Writer, tasks: &[&Task]) -> Result<(), Fault> {
    // By the index that the transaction was planned with, however old that is.
    let dnf = program().args(["-y", "--setopt=metadata_expire=never", "--downloadonly", NO_WAIT]).args(options(tasks));
    let dnf = dnf.args(["shell", "/dev/stdin"]).input(script(tasks).into_bytes()).limit(FETCH);
    let output = patiently(host, &dnf)?;
    answers::failed(&output.text(), &stderr(&output)).map_or(Ok(()), Err)
}

/// Fetches the indexes of all package sources.
pub fn update(host: &mut Writer) -> Result<(), Fault> {
    host.say("fetching the package indexes");
    let output = patiently(host, &program().args(["-y", NO_WAIT, "makecache", "--refresh"]).limit(FETCH))?;
    if output.status == 0 {
        return Ok(());
    }
    let fault = answers::refusal(&output.text(), &stderr(&output));
    Err(match fault.reason {
        "download-failed" | "package-failed" => Fault { reason: "index-failed", ..fault },
        _ => fault,
    })
}

/// Does the transaction, and answers with all that it printed. How it ended shows in what is there.
pub fn perform(host: &mut Writer, tasks: &[&Task]) -> Result<String, Fault> {
    let mut arguments = vec!["-y".to_owned(), FROM_CACHE.to_owned()];
    arguments.extend(options(tasks));
    arguments.push("shell".to_owned());
    let script = script(tasks);
    // It waits for its lock by itself.
    transient::Transaction {
        program: PROGRAM,
        arguments: &arguments,
        script: Some(&script),
        environment: ENVIRONMENT,
        telling,
        afterwards: None,
    }
    .run(host)
}

/// `dnf mark` and the versionlock plugin.
pub fn mark(host: &mut Writer, mark: Mark, names: &[&str]) -> Result<(), Fault> {
    let names: Vec<String> = names.iter().map(|name| with_architecture(name)).collect();
    match mark {
        Mark::Manual => told(host, &["mark", "install"], &names),
        Mark::Auto => told(host, &["mark", "remove"], &names),
        Mark::Unhold => told(host, &["versionlock", "delete"], &names),
        Mark::Hold => {
            // A lock to another version would stay beside the new one. Where there is none, that is an error.
            drop(told(host, &["versionlock", "delete"], &names));
            told(host, &["versionlock", "add"], &names)
        }
    }
}

fn told(host: &mut Writer, verbs: &[&str], names: &[String]) -> Result<(), Fault> {
    let dnf = program().args(["-q", "-y", NO_WAIT, NO_SOURCES]).args(verbs).args(names);
    let output = patiently(host, &dnf)?;
    match output.status {
        0 => Ok(()),
        _ => Err(answers::refusal(&output.text(), &stderr(&output))),
    }
}

/// Runs a program that takes a lock, and waits for whoever holds that.
fn patiently(host: &mut Writer, program: &Program) -> Result<Output, Fault> {
    transient::patiently(host, program, |output| answers::lock_holder(&both(output)))
}

/// Whether a line tells what is being done.
fn telling(line: &str) -> bool {
    const DOING: &[&str] = &[
        "Installing ",
        "Upgrading ",
        "Downgrading ",
        "Reinstalling ",
        "Obsoleting ",
        "Erasing ",
        "Cleanup ",
        "Running scriptlet: ",
    ];
    line.starts_with("Waiting for process ")
        || line.contains(" : ") && DOING.iter().any(|start| line.starts_with(start))
        || line.starts_with(DOING[DOING.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Attributes, Over};

    fn task(name: &str, action: Action) -> Task {
        Task { index: 0, name: name.to_owned(), action, held: false }
    }

    fn install(name: &str, version: Option<&str>) -> Task {
        task(name, Action::Install { version: version.map(str::to_owned), downgrade: false })
    }

    #[test]
    fn all_tasks_are_one_transaction() {
        let tasks = [
            install("alpha", None),
            install("beta", Some("1:1.0-1.fc40")),
            install("glibc:i686", None),
            install("glibc:i686", Some("2.39-1")),
            task("gone", Action::Remove),
            task("libm:i686", Action::Release),
        ];
        let tasks: Vec<&Task> = tasks.iter().collect();
        assert_eq!(
            script(&tasks),
            "install-n alpha\ninstall beta-1:1.0-1.fc40\ninstall-na glibc.i686\ninstall glibc-2.39-1.i686\n\
             remove-n gone\nremove-na libm.i686\nrun\n"
        );
    }

    #[test]
    fn dnf_may_do_no_more_than_the_tasks_need() {
        let (mut held, gone) = (install("a", Some("1.0-1")), task("b", Action::Remove));
        assert_eq!(options(&[&held]), OPTIONS);
        held.held = true;
        assert!(options(&[&held, &gone]).contains(&"--disableplugin=versionlock".to_owned()));
        assert!(!options(&[&held, &gone]).contains(&NO_SOURCES.to_owned()));
        assert!(options(&[&gone]).contains(&NO_SOURCES.to_owned()), "no index is needed to remove something");
    }

    #[test]
    fn whoever_is_at_work_is_named_and_one_that_was_killed_is_nobody() {
        let directory = tempfile::tempdir().expect("a directory");
        let host = Reader::directory(directory.path()).expect("a directory");
        assert_eq!(at_work(&host), None);
        let put = |path: &str, content: &str| {
            let path = directory.path().join(path);
            std::fs::DirBuilder::new().recursive(true).create(path.parent().expect("below")).expect("made");
            crate::host::write_new(&path, content.as_bytes()).expect("written");
        };
        put("var/lib/dnf/rpmdb_lock.pid", "812");
        assert_eq!(at_work(&host), None, "no such process");
        put("proc/812/comm", "dnf-automatic\n");
        assert_eq!(at_work(&host).as_deref(), Some("dnf-automatic (pid 812)"));
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
        assert_eq!(at_work(&host), None, "it is not of dnf's kin");
        forget_stale_locks(&mut host).expect("removed");
        assert!(!is_there(&host, LOCKS[0]), "dnf itself would wait for it");

        put("var/cache/dnf/download_lock.pid", "813");
        put("proc/813/comm", "subscription-ma\n");
        host.make_symlink("/proc/813/exe", "/usr/bin/python3.9", Attributes::default(), Over::Nothing).expect("made");
        assert_eq!(at_work(&host).as_deref(), Some("subscription-ma (pid 813)"));
        put("proc/stat", "cpu 1 2 3\nbtime 1000000000\nprocesses 5\n");
        forget_stale_locks(&mut host).expect("none");
        assert!(at_work(&host).is_some() && is_there(&host, LOCKS[1]));
        // The machine was started after that was written.
        host.remove("/proc/stat").expect("removed");
        put("proc/stat", "cpu 1 2 3\nbtime 40000000000\nprocesses 5\n");
        assert_eq!(at_work(&host), None);
        forget_stale_locks(&mut host).expect("removed");
        assert!(!is_there(&host, LOCKS[1]));
    }

    #[test]
    fn what_is_done_is_told_and_the_headings_of_a_table_are_not() {
        assert!(telling("Installing       : alpha-1.1-1.noarch      5/5"));
        assert!(telling("Running scriptlet: broken-1.0-1.noarch     2/3"));
        assert!(!telling("Installing dependencies:") && !telling("Installing:") && !telling("so sorry"));
    }
}
