//! apt's programs, run so that nothing asks a question, nobody's lock is fought for, and killing trueup
//! does not kill dpkg.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::answers::{self, Fault, Remedy};
use super::database::Database;
use super::solve::Task;
use crate::host::{Error, Output, Program, Reader, Writer};
use crate::kinds::package::Transaction;

/// How long a lock is waited for, in all.
const LOCK_WAIT: Duration = Duration::from_secs(120);
/// How long between two looks at a lock.
const LOCK_LOOK: Duration = Duration::from_secs(5);
/// How long a transaction may take before it is cut.
const TRANSACTION: Duration = Duration::from_secs(30 * 60);
/// How long fetching may take: indexes, or the packages of a transaction.
const FETCH: Duration = Duration::from_secs(15 * 60);
/// Where our directory keeps what a transaction prints while it runs.
const LOGS: &str = "packages";
/// What of a log is kept in memory.
const LOG_LIMIT: usize = 4 << 20;

/// Nobody is asked anything, no service is restarted behind our back, old configuration files stay.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("APT_LISTCHANGES_FRONTEND", "none"),
    ("NEEDRESTART_MODE", "l"),
    ("UCF_FORCE_CONFFOLD", "1"),
    ("LC_ALL", "C.UTF-8"),
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
];

/// See apt.conf(5) and dpkg(1).
const OPTIONS: &[&str] = &[
    "-q",
    "-y",
    "--no-install-recommends",
    "-o",
    "APT::Get::AutomaticRemove=false",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
];

/// For a look that leaves no trace: no cache written, no lock taken.
const NO_TRACE: &[&str] =
    &["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o", "Debug::NoLocking=1"];

fn program(name: &str) -> Program {
    ENVIRONMENT.iter().fold(Program::new(name), |program, (name, value)| program.env(name, *value)).any_status()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn both(output: &Output) -> String {
    format!("{}\n{}", output.text(), stderr(output))
}

/// What apt knows of `names`, without writing anything.
pub fn policy(host: &Reader, names: &[&str]) -> Result<String, Fault> {
    let output = host.query(&program("apt-cache").args(NO_TRACE).arg("policy").args(names))?;
    match output.status {
        0 => Ok(output.text()),
        _ => Err(answers::refusal(&output.text(), &stderr(&output)).with(Remedy::General)),
    }
}

/// `apt-get install` with what `tasks` need and no more.
fn install(tasks: &[&Task]) -> Vec<String> {
    let mut arguments: Vec<String> = OPTIONS.iter().map(|option| (*option).to_owned()).collect();
    if tasks.iter().any(|task| task.is_downgrade()) {
        arguments.push("--allow-downgrades".to_owned());
    }
    if tasks.iter().any(|task| task.held) {
        arguments.push("--allow-change-held-packages".to_owned());
    }
    arguments.push("install".to_owned());
    arguments.extend(tasks.iter().map(|task| task.argument()));
    arguments
}

/// What apt would do for `tasks`, without writing anything.
pub fn simulate(host: &Reader, tasks: &[&Task]) -> Result<Transaction, Fault> {
    let apt = program("apt-get").arg("-s").args(NO_TRACE).args(install(tasks)).limit(Duration::from_secs(180));
    let output = host.query(&apt)?;
    if output.status != 0 {
        return Err(answers::refusal(&output.text(), &stderr(&output)));
    }
    answers::simulation(&output.text()).map_err(|why| Fault::new("cannot-tell", why).with(Remedy::General))
}

/// Fetches the packages that `tasks` need into apt's own cache.
pub fn download(host: &mut Writer, tasks: &[&Task]) -> Result<(), Fault> {
    let apt = program("apt-get").arg("--download-only").args(install(tasks)).limit(FETCH);
    let output = patiently(host, &apt)?;
    match output.status {
        0 => Ok(()),
        _ => Err(answers::refusal(&output.text(), &stderr(&output))),
    }
}

/// Fetches the indexes of all package sources.
pub fn update(host: &mut Writer) -> Result<(), Fault> {
    host.say("fetching the package indexes");
    // Without the option apt-get answers 0 although a source could not be reached, see apt.conf(5).
    let apt = program("apt-get").args(["-q", "-o", "APT::Update::Error-Mode=any", "update"]).limit(FETCH);
    let output = patiently(host, &apt)?;
    if output.status == 0 {
        return Ok(());
    }
    let fault = answers::refusal(&output.text(), &stderr(&output));
    Err(match fault.reason {
        "download-failed" | "package-failed" => Fault { reason: "index-failed", ..fault },
        _ => fault,
    })
}

/// `apt-mark hold NAME…` and its like, see apt-mark(8).
pub fn mark(host: &mut Writer, verb: &str, names: &[&str]) -> Result<(), Fault> {
    if names.is_empty() {
        return Ok(());
    }
    let output = patiently(host, &program("apt-mark").arg("-q").arg(verb).args(names))?;
    match output.status {
        0 => Ok(()),
        _ => Err(answers::refusal(&output.text(), &stderr(&output))),
    }
}

/// Waits until nobody else is at work, and mends what an interrupted run left behind.
pub fn ready(host: &mut Writer) -> Result<(), Fault> {
    let mut configured = false;
    // Once for each thing that may have to be mended, and once to see that nothing has to.
    for _ in 0..3 {
        let output = patiently(host, &program("apt-get").args(["-q", "check"]))?;
        let said = both(&output);
        // Half-done packages are told from those of a run that goes on only now that nobody holds the lock.
        if !configured && (answers::is_interrupted(&said) || Database::read(host)?.is_interrupted()) {
            configured = true;
            host.say("finishing an interrupted dpkg");
            let arguments = ["--force-confdef", "--force-confold", "--configure", "-a"].map(str::to_owned);
            // What could not be configured shows in what is there afterwards.
            transact(host, "dpkg", &arguments)?;
        } else if answers::is_unmet(&said) {
            mend(host)?;
        } else {
            return Ok(());
        }
    }
    Ok(())
}

/// Installs what is missing of the dependencies of what is installed; removes nothing for that.
fn mend(host: &mut Writer) -> Result<(), Fault> {
    let mut arguments: Vec<String> = OPTIONS.iter().map(|option| (*option).to_owned()).collect();
    arguments.extend(["--fix-broken", "install"].map(str::to_owned));
    let output = host.query(&program("apt-get").arg("-s").args(NO_TRACE).args(&arguments))?;
    let transaction = match output.status {
        0 => answers::simulation(&output.text()).map_err(|why| Fault::new("cannot-tell", why)),
        _ => Err(answers::refusal(&output.text(), &stderr(&output))),
    };
    match transaction {
        Ok(transaction) if transaction.remove.is_empty() => {
            host.say("installing missing dependencies");
            transact(host, "apt-get", &waiting(arguments)).map(drop)
        }
        Ok(transaction) => {
            let gone = crate::model::one_line(&transaction.remove.join(", "), 300);
            let why = format!("dependencies are unmet, and apt would mend them by removing {gone}; that is for you");
            Err(Fault::new("removes-undeclared", why).with(Remedy::General))
        }
        Err(fault) => Err(Fault { why: format!("dependencies are unmet: {}", fault.why), ..fault }),
    }
}

/// Does the transaction, and answers with all that it printed. How it ended shows in what is there.
pub fn perform(host: &mut Writer, tasks: &[&Task]) -> Result<String, Fault> {
    transact(host, "apt-get", &waiting(install(tasks)))
}

/// The same arguments for a run that nobody tries again: it waits for the lock by itself.
fn waiting(arguments: Vec<String>) -> Vec<String> {
    let lock = format!("DPkg::Lock::Timeout={}", LOCK_WAIT.as_secs());
    ["-o".to_owned(), lock].into_iter().chain(arguments).collect()
}

/// Runs a program that takes a lock; where somebody else holds that, says who, waits and tries again.
fn patiently(host: &mut Writer, program: &Program) -> Result<Output, Fault> {
    let mut waited = Duration::ZERO;
    loop {
        let output = host.run(program)?;
        let holder = answers::lock_holder(&stderr(&output)).filter(|_| output.status != 0);
        let Some(holder) = holder else { return Ok(output) };
        if waited >= LOCK_WAIT || host.interrupted() {
            return Err(answers::lock_held(&holder));
        }
        host.say(&format!("waiting for {holder} to let go of the package lock, {} s so far", waited.as_secs()));
        thread::sleep(LOCK_LOOK);
        waited += LOCK_LOOK;
    }
}

/// Runs a program that must not be killed half-way: in a unit of its own, where there is systemd, so
/// that neither the end of trueup nor its upgrade reaches it.
fn transact(host: &mut Writer, name: &str, arguments: &[String]) -> Result<String, Fault> {
    // Where systemd is the service manager, see sd_booted(3).
    if !host.below_root("/run/systemd/system").is_dir() {
        let output = host.run(&program(name).args(arguments).limit(TRANSACTION))?;
        return Ok(both(&output));
    }
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let unit = format!("trueup-packages-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let log = format!("{LOGS}/{unit}.log");
    let state = host.state();
    let failed = |error: crate::host::StateError| Fault::new("io-error", error.to_string()).with(Remedy::General);
    // Left-overs of a trueup that was killed; what still runs keeps its file open.
    for name in state.list(LOGS).map_err(failed)? {
        state.remove(&format!("{LOGS}/{name}")).map_err(failed)?;
    }
    state.write(&log, b"").map_err(failed)?;
    let path = state.path().join(&log);
    let started = host.run(&in_unit(&unit, &path.to_string_lossy(), name, arguments));
    let ended = started.map_err(Fault::from).and_then(|_| wait(host, &unit, &log));
    let said = state.read(&log).map(Option::unwrap_or_default).unwrap_or_default();
    state.remove(&log).map_err(failed)?;
    ended?;
    if said.ends_with(b"\ntimeout\n") {
        return Err(timed_out());
    }
    let said = &said[said.len().saturating_sub(LOG_LIMIT)..];
    Ok(String::from_utf8_lossy(said).into_owned())
}

/// Starts `name` in the transient service `unit`. It prints to a file, not to a pipe of ours: a pipe
/// would break, and dpkg with it, when we end. See systemd-run(1), systemd.exec(5), systemd.service(5).
fn in_unit(unit: &str, log: &str, name: &str, arguments: &[String]) -> Program {
    let mut run = Program::new("systemd-run").args(["--quiet", "--collect"]).arg(format!("--unit={unit}"));
    run = run.arg("--description=Package transaction of trueup");
    for property in [
        "Type=exec".to_owned(),
        format!("StandardOutput=append:{log}"),
        format!("StandardError=append:{log}"),
        format!("RuntimeMaxSec={}", TRANSACTION.as_secs()),
        "TimeoutStopSec=30".to_owned(),
        // Maintainer scripts are written for a shell in which a broken pipe ends a program.
        "IgnoreSIGPIPE=no".to_owned(),
        // The last line of the log: how it ended, which the unit, once gone, no longer tells.
        "ExecStopPost=-/usr/bin/printenv SERVICE_RESULT".to_owned(),
    ] {
        run = run.arg("-p").arg(property);
    }
    for (name, value) in ENVIRONMENT {
        run = run.arg(format!("--setenv={name}={value}"));
    }
    run.arg("--").arg(name).args(arguments)
}

/// Waits until the unit has ended, telling what goes on.
fn wait(host: &Reader, unit: &str, log: &str) -> Result<(), Fault> {
    let show =
        Program::new("systemctl").args(["show", "--property=ActiveState", "--value"]).arg(format!("{unit}.service"));
    let (mut waited, mut pause) = (Duration::ZERO, Duration::from_millis(50));
    let mut told = String::new();
    // systemd cuts it at its time; long past that something else is wrong.
    while waited < TRANSACTION + Duration::from_secs(120) {
        let state = match host.query(&show) {
            Ok(output) => output.text().trim().to_owned(),
            // The service manager does not answer while it executes itself anew, as its upgrade does.
            Err(Error::Program { .. } | Error::TimeOut { .. }) => String::new(),
            Err(error) => return Err(error.into()),
        };
        if matches!(state.as_str(), "inactive" | "failed") {
            return Ok(());
        }
        let said = host.state().read(log).map(Option::unwrap_or_default).unwrap_or_default();
        if let Some(line) = last_line(&said).filter(|line| *line != told) {
            host.say(&line);
            told = line;
        }
        thread::sleep(pause);
        waited += pause;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    Err(timed_out())
}

fn timed_out() -> Fault {
    let why = format!("the transaction was cut after {} minutes", TRANSACTION.as_secs() / 60);
    Fault::new("timed-out", why).with(Remedy::General)
}

/// What is being done, by the last whole line of a growing log that says so.
fn last_line(log: &[u8]) -> Option<String> {
    const DOING: &[&str] =
        &["Get:", "Preparing to unpack ", "Unpacking ", "Setting up ", "Removing ", "Purging ", "Processing triggers "];
    const WAITING: &str = "Waiting for cache lock";
    let tail = &log[log.len().saturating_sub(4096)..];
    let end = tail.iter().rposition(|&byte| byte == b'\n')?;
    let text = String::from_utf8_lossy(&tail[..end]);
    let telling = |line: &&str| DOING.iter().any(|start| line.starts_with(start)) || line.starts_with(WAITING);
    let line = text.split(['\n', '\r']).map(str::trim).rfind(telling)?;
    Some(crate::model::one_line(line, 120))
}

#[cfg(test)]
mod tests {
    use super::super::solve::Action;
    use super::*;

    fn task(name: &str, version: Option<&str>, downgrade: bool, held: bool) -> Task {
        let action = Action::Install { version: version.map(str::to_owned), downgrade };
        Task { index: 0, name: name.to_owned(), action, held }
    }

    #[test]
    fn apt_may_do_no_more_than_the_tasks_need() {
        let plain = install(&[&task("a", None, false, false)]);
        assert!(!plain.iter().any(|option| option.starts_with("--allow")), "{plain:?}");
        let more = install(&[&task("a", None, false, false), &task("b", Some("1.0"), true, true)]);
        let end: Vec<&str> = more[OPTIONS.len()..].iter().map(String::as_str).collect();
        assert_eq!(end, ["--allow-downgrades", "--allow-change-held-packages", "install", "a", "b=1.0"]);
        assert!(!more.iter().any(|option| option.contains("essential")));
    }

    #[test]
    fn progress_is_the_last_whole_line_that_says_what_is_done() {
        let log = b"Unpacking a ...\nSetting up a ...\r\nhello from a script\nUnpacking b";
        assert_eq!(last_line(log), Some("Setting up a ...".to_owned()));
        assert_eq!(last_line(b"Setting up"), None);
        assert_eq!(last_line(b"\n\n"), None);
    }
}
