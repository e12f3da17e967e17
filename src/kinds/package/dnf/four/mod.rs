//! The fourth dnf, run so that nothing asks a question. It does what it is to do in one shell of its own.

mod answers;

use super::database::{LIMIT, Lock, lines};
use super::{FETCH, FROM_CACHE, Generation, LOOK, OPTIONS, of_the_index, own_log, with_architecture, work};
use crate::host::{Error, Output, Program, Reader, Writer};
use crate::kinds::package::Transaction;
use crate::kinds::package::blame::Blame;
use crate::kinds::package::fault::{Fault, Remedy};
use crate::kinds::package::solve::{Action, Task};
use crate::kinds::package::tool::Mark;
use crate::kinds::package::transient::{self, both, stderr};

/// What is printed is there at once, and in order.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("LC_ALL", "C.UTF-8"),
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("PYTHONUNBUFFERED", "1"),
];

const NO_SOURCES: &str = "--disablerepo=*";
/// Settings of the versionlock plugin, and where it keeps its locks.
const VERSIONLOCK: &str = "/etc/dnf/plugins/versionlock.conf";
const LOCKS: &str = "/etc/dnf/plugins/versionlock.list";
/// Whoever holds a lock is named, rather than waited for.
const NO_WAIT: &str = "--setopt=exit_on_lock=True";

/// dnf(8) of the fourth generation.
pub struct Four;

impl Generation for Four {
    const PROGRAM: &'static str = "/usr/bin/dnf-3";
    const REASONS: &'static str = "/var/lib/dnf/history.sqlite";

    fn available(host: &Reader, names: &[&str]) -> Result<String, Fault> {
        let names = names.iter().map(|name| with_architecture(name));
        let ask = ["-q", "repoquery", "--available", "--qf", "%{name}\t%{evr}\t%{arch}"];
        let output = host.query(&looking(host).args(ask).arg("--").args(names))?;
        match output.status {
            0 => Ok(output.text()),
            _ => Err(answers::refusal(&output.text(), &stderr(&output))),
        }
    }

    fn reasons(host: &Reader) -> Result<String, Error> {
        let ask = ["-q", "repoquery", "--installed", "--qf", "%{name}\t%{arch}\t%{reason}"];
        let program = looking(host).arg(NO_SOURCES).args(ask);
        let output = host.query(&program)?;
        match output.status {
            0 => Ok(output.text()),
            _ => {
                let why = answers::refusal(&output.text(), &stderr(&output)).why;
                Err(Error::Unknown { thing: "why packages are installed".to_owned(), why })
            }
        }
    }

    /// See dnf-versionlock(8).
    fn locks(host: &Reader) -> Result<Option<Vec<Lock>>, Error> {
        let Some(settings) = host.read_following(VERSIONLOCK, LIMIT)? else { return Ok(None) };
        let settings = lines(&settings);
        let value = |name: &str| {
            let assigned = settings.iter().filter_map(|line| line.split_once('='));
            assigned.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned()).next_back()
        };
        if !value("enabled").is_some_and(|value| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str())) {
            return Ok(None);
        }
        let list = value("locklist").filter(|path| path.starts_with('/')).unwrap_or_else(|| LOCKS.to_owned());
        let list = host.read_following(&list, LIMIT)?.unwrap_or_default();
        Ok(Some(lines(&list).into_iter().map(Lock::Pattern).collect()))
    }

    fn simulate(host: &Reader, tasks: &[&Task], erasing: bool) -> Result<Transaction, Fault> {
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

    fn mend(host: &mut Writer) -> Result<(), Fault> {
        work::forget_stale_locks(host)
    }

    fn update(host: &mut Writer) -> Result<(), Fault> {
        host.say("fetching the package indexes");
        let output = patiently(host, &program().args(["-y", NO_WAIT, "makecache", "--refresh"]).limit(FETCH))?;
        if output.status == 0 {
            return Ok(());
        }
        let fault = answers::refusal(&output.text(), &stderr(&output));
        Err(of_the_index(fault))
    }

    /// Tries the transaction, too: files that two packages have it finds no earlier.
    fn download(host: &mut Writer, tasks: &[&Task]) -> Result<(), Fault> {
        // By the index that the transaction was planned with, however old that is. What it only tries it only downloads.
        let attempt = ["-y", "--setopt=metadata_expire=never", "--setopt=tsflags=test", NO_WAIT];
        let dnf = program().args(attempt).args(options(tasks));
        let dnf = dnf.args(["shell", "/dev/stdin"]).input(script(tasks).into_bytes()).limit(FETCH);
        let output = patiently(host, &dnf)?;
        answers::failed(&output.text(), &stderr(&output)).map_or(Ok(()), Err)
    }

    fn perform(host: &mut Writer, tasks: &[&Task]) -> Result<String, Fault> {
        let mut arguments = vec!["-y".to_owned(), FROM_CACHE.to_owned()];
        arguments.extend(options(tasks));
        arguments.push("shell".to_owned());
        let script = script(tasks);
        // It waits for its lock by itself.
        transient::Transaction {
            program: Self::PROGRAM,
            arguments: &arguments,
            script: Some(&script),
            environment: ENVIRONMENT,
            telling,
            afterwards: None,
        }
        .run(host)
    }

    fn blame(log: &str) -> Blame {
        answers::blame(log)
    }

    fn warnings(log: &str) -> Vec<(String, String)> {
        answers::warnings(log)
    }

    fn refusal(log: &str) -> Fault {
        answers::refusal(log, "")
    }

    /// `dnf mark` and the versionlock plugin.
    fn mark(host: &mut Writer, mark: Mark, names: &[&str]) -> Result<(), Fault> {
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
}

fn program() -> Program {
    ENVIRONMENT
        .iter()
        .fold(Program::new(Four::PROGRAM), |program, (name, value)| program.env(name, *value))
        .any_status()
}

/// What only looks.
fn looking(host: &Reader) -> Program {
    program().arg(FROM_CACHE).args(own_log(host)).limit(LOOK)
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
    fn what_is_done_is_told_and_the_headings_of_a_table_are_not() {
        assert!(telling("Installing       : alpha-1.1-1.noarch      5/5"));
        assert!(telling("Running scriptlet: broken-1.0-1.noarch     2/3"));
        assert!(!telling("Installing dependencies:") && !telling("Installing:") && !telling("so sorry"));
    }
}
