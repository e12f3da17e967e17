//! Programs that work on packages, run so that nobody's lock is fought for, and killing trueup does not kill
//! a transaction.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::fault::{Fault, Remedy, lock_held};
use super::leftovers::Leftovers;
use crate::host::{Error, Output, Program, Reader, StateError, Writer};
use crate::model::one_line;

/// How long a lock is waited for, in all.
pub const LOCK_WAIT: Duration = Duration::from_secs(120);
/// How long between two looks at a lock.
const LOCK_LOOK: Duration = Duration::from_secs(5);
/// How soon an end that somebody asks for is noticed meanwhile.
const NOTICE: Duration = Duration::from_millis(200);
/// How long a transaction may take before it is cut.
const TRANSACTION: Duration = Duration::from_secs(30 * 60);
/// Where our directory keeps what a transaction reads and prints while it runs.
const LOGS: &str = "packages";
/// How the name of what lay beside configuration files before one ends.
const BEFORE: &str = "before";
/// What of a log is read at the end.
const LOG_LIMIT: u64 = 4 << 20;
/// What of it is read for what goes on now.
const TAIL: u64 = 4096;
/// What a script that prints in a loop may take of the disk, and what it prints within a second. The transaction goes
/// on: it must not be killed for what a script prints.
const LOG_ON_DISK: u64 = 64 << 20;

/// A program of a package manager that changes what is installed.
#[derive(Debug)]
pub struct Transaction<'a> {
    /// The program.
    pub program: &'a str,
    /// Its arguments.
    pub arguments: &'a [String],
    /// A script that it reads: the path of a file that holds it becomes its last argument.
    pub script: Option<&'a str>,
    /// Its whole environment.
    pub environment: &'a [(&'a str, &'a str)],
    /// Whether a line that it prints tells what is being done.
    pub telling: fn(&str) -> bool,
    /// A command line for its unit, run once it has ended, however it did.
    pub afterwards: Option<String>,
}

/// The word for what somebody asked to end: it has not failed.
pub const INTERRUPTED: &str = "interrupted";

/// What the units of transactions are called, and then the number of the process that began it and which of its own.
const UNIT: &str = "trueup-packages-";

impl Transaction<'_> {
    /// It runs in a unit of its own, where there is systemd, so that neither the end of trueup nor its upgrade
    /// reaches it. Answers with all that it printed; how it ended shows in what is there.
    pub fn run(&self, host: &mut Writer) -> Result<String, Fault> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unit = format!("{UNIT}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let [log, script, before] = ["log", "script", BEFORE].map(|what| format!("{LOGS}/{unit}.{what}"));
        let state = host.state();
        tell_late(host);
        sweep(host).map_err(failed)?;
        let mut arguments = self.arguments.to_vec();
        if let Some(content) = self.script {
            state.write(&script, content.as_bytes()).map_err(failed)?;
            arguments.push(state.path().join(&script).to_string_lossy().into_owned());
        }
        // Its end may be somebody else's to see.
        let beside = Leftovers::look(host);
        state.write(&before, &beside.to_write()).map_err(failed)?;
        // Where systemd is the service manager, see sd_booted(3).
        let said = match host.below_root("/run/systemd/system").is_dir() {
            true => self.run_in(host, &unit, &log, &arguments),
            false => {
                let program = self.environment.iter().fold(Program::new(self.program), |it, (k, v)| it.env(k, *v));
                let output = host.run(&program.any_status().args(&arguments).limit(TRANSACTION));
                output.map(|output| both(&output)).map_err(Fault::from)
            }
        };
        // What goes on still prints there, may not have read its script yet, and has not laid down all that it will.
        if !matches!(&said, Err(fault) if fault.reason == INTERRUPTED) {
            beside.tell_new(host);
            for name in [&log, &script, &before] {
                state.remove(name).map_err(failed)?;
            }
        }
        said
    }

    fn run_in(&self, host: &mut Writer, unit: &str, log: &str, arguments: &[String]) -> Result<String, Fault> {
        let state = host.state();
        state.write(log, b"").map_err(failed)?;
        let path = state.path().join(log);
        host.run(&self.in_unit(unit, &path.to_string_lossy(), arguments))?;
        self.wait(host, unit, log)?;
        let said = state.tail(log, LOG_LIMIT).map(Option::unwrap_or_default).unwrap_or_default();
        ended(&String::from_utf8_lossy(&said))
    }

    /// Starts it in the transient service `unit`. It prints to a file, not to a pipe of ours: a pipe would
    /// break, and the transaction with it, when we end. See systemd-run(1), systemd.exec(5), systemd.service(5).
    fn in_unit(&self, unit: &str, log: &str, arguments: &[String]) -> Program {
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
        ]
        .into_iter()
        .chain(self.afterwards.iter().map(|command| format!("ExecStopPost=-{command}")))
        .chain([
            // The last line of the log: how it ended, which the unit, once gone, no longer tells.
            "ExecStopPost=-/usr/bin/printenv SERVICE_RESULT".to_owned(),
        ]) {
            run = run.arg("-p").arg(property);
        }
        for (name, value) in self.environment {
            run = run.arg(format!("--setenv={name}={value}"));
        }
        run.command_of_unit([self.program].into_iter().chain(arguments.iter().map(String::as_str)))
    }

    /// Waits until the unit has ended, telling what goes on.
    fn wait(&self, host: &Reader, unit: &str, log: &str) -> Result<(), Fault> {
        let show = Program::new("systemctl")
            .args(["show", "--property=ActiveState", "--value"])
            .arg(format!("{unit}.service"));
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
            let state = host.state();
            let said = state.tail(log, TAIL).map(Option::unwrap_or_default).unwrap_or_default();
            // Where that cannot be done the disk is as full as it would be anyhow.
            drop(state.empty_beyond(log, LOG_ON_DISK));
            if let Some(line) = last_line(&said, self.telling).filter(|line| *line != told) {
                host.say(&line);
                told = line;
            }
            // A script of the transaction may be what asks for our end, and wait for it.
            if host.interrupted() {
                let why =
                    format!("stopped while its transaction goes on, in {unit}.service; the next pass waits for that");
                return Err(Fault::new(INTERRUPTED, why).with(Remedy::General));
            }
            thread::sleep(pause);
            waited += pause;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        Err(timed_out())
    }
}

/// The units of transactions that a trueup began and that go on, this one's or one's that was killed.
///
/// # Errors
/// Where systemd does not tell.
pub fn running(host: &Reader) -> Result<Vec<String>, Error> {
    if !host.below_root("/run/systemd/system").is_dir() {
        return Ok(Vec::new());
    }
    let list = Program::new("systemctl").args(["list-units", "--plain", "--no-pager"]);
    let output = host.query(&list.arg(format!("{UNIT}*.service")))?;
    running_in(&output.text()).map_err(|why| Error::Unknown { thing: "systemctl".to_owned(), why })
}

/// Those that a list of units has and that have not ended: name, load, active and sub state, description. It ends with how
/// many there are: one that was cut short would know of fewer.
pub(super) fn running_in(list: &str) -> Result<Vec<String>, String> {
    let unit = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.strip_suffix(".service")?.to_owned();
        (!matches!(words.nth(1)?, "inactive" | "failed")).then_some(name)
    };
    let count = list.lines().find_map(|line| line.split_once(" loaded units listed.")?.0.trim().parse::<usize>().ok());
    let listed = list.lines().filter(|line| line.starts_with(UNIT)).count();
    match count {
        Some(count) if count == listed => {
            Ok(list.lines().filter(|line| line.starts_with(UNIT)).filter_map(unit).collect())
        }
        _ => Err("its list of units is not whole".to_owned()),
    }
}

/// Waits until no transaction that a trueup began goes on: it holds the lock, or is about to take it.
///
/// # Errors
/// Also where systemd does not tell: the lock may not be taken yet.
pub fn after_ours(host: &Reader) -> Result<(), Fault> {
    let mut waited = Duration::ZERO;
    while let Some(unit) = running(host)?.into_iter().next() {
        wait_for(host, &format!("the transaction that trueup began before ({unit}.service)"), &mut waited)?;
    }
    Ok(())
}

/// Removes what a trueup that was killed left of its transaction, once that has ended.
///
/// # Errors
/// Where our own directory cannot be read or written.
pub fn sweep(host: &Reader) -> Result<(), StateError> {
    let state = host.state();
    let names = state.list(LOGS)?;
    if names.is_empty() {
        return Ok(());
    }
    // What cannot be told now is swept the next time.
    let Ok(running) = running(host) else { return Ok(()) };
    for name in names.iter().filter(|name| !goes_on(name, &running) && !is_before(name)) {
        state.remove(&format!("{LOGS}/{name}"))?;
    }
    Ok(())
}

/// Whether what is kept under this name is of a transaction that is still `running`.
fn goes_on(name: &str, running: &[String]) -> bool {
    name.rsplit_once('.').is_some_and(|(of, _)| running.iter().any(|unit| of == unit))
}

/// Whether it is what lay beside configuration files before.
fn is_before(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, what)| what == BEFORE)
}

/// Tells what transactions that outlived their trueup have laid beside configuration files, once each has ended. What
/// cannot be told now is told the next time.
pub fn tell_late(host: &mut Writer) {
    let state = host.state();
    let names: Vec<String> = state.list(LOGS).unwrap_or_default().into_iter().filter(|name| is_before(name)).collect();
    if names.is_empty() {
        return;
    }
    let Ok(running) = running(host) else { return };
    for name in names.iter().filter(|name| !goes_on(name, &running)) {
        let name = format!("{LOGS}/{name}");
        let Ok(Some(before)) = state.read(&name) else { continue };
        // Told once, or not at all.
        if state.remove(&name).is_ok() {
            Leftovers::written(&before).tell_new(host);
        }
    }
}

fn failed(error: StateError) -> Fault {
    Fault::new("io-error", error.to_string()).with(Remedy::General)
}

fn timed_out() -> Fault {
    let why = format!("the transaction was cut after {} minutes", TRANSACTION.as_secs() / 60);
    Fault::new("timed-out", why).with(Remedy::General)
}

/// Runs a program that takes a lock; where somebody else holds that, says who, waits and tries again.
/// `holder` finds in what was printed who kept it from its lock.
pub fn patiently(
    host: &mut Writer,
    program: &Program,
    holder: impl Fn(&Output) -> Option<String>,
) -> Result<Output, Fault> {
    let mut waited = Duration::ZERO;
    loop {
        let output = host.run(program)?;
        let Some(holder) = holder(&output) else { return Ok(output) };
        wait_for(host, &holder, &mut waited)?;
    }
}

/// Waits until `holder` finds nobody who is at work with packages.
pub fn alone(host: &Reader, holder: impl Fn(&Reader) -> Result<Option<String>, Error>) -> Result<(), Fault> {
    let mut waited = Duration::ZERO;
    while let Some(holder) = holder(host)? {
        wait_for(host, &holder, &mut waited)?;
    }
    Ok(())
}

/// Whoever has locked one of these files by fcntl(2) now.
///
/// # Errors
/// Where one cannot be looked at.
pub fn holder_of(host: &Reader, locks: &[&str]) -> Result<Option<String>, Error> {
    named(host, locks, Reader::locked_by)
}

/// The same, whoever only reads by it included.
///
/// # Errors
/// As [`holder_of`].
pub fn user_of(host: &Reader, locks: &[&str]) -> Result<Option<String>, Error> {
    named(host, locks, Reader::used_by)
}

fn named(
    host: &Reader,
    locks: &[&str],
    holder: impl Fn(&Reader, &str) -> Result<Option<u32>, Error>,
) -> Result<Option<String>, Error> {
    for lock in locks {
        let Some(pid) = holder(host, lock)? else { continue };
        let name = host.read(&format!("/proc/{pid}/comm"), 64).ok().flatten().unwrap_or_default();
        return Ok(Some(match String::from_utf8_lossy(&name).trim() {
            "" => "another process".to_owned(),
            name => format!("{} (pid {pid})", one_line(name, 40)),
        }));
    }
    Ok(None)
}

/// Waits a little for `holder` to let go of its lock, unless that took too long already.
fn wait_for(host: &Reader, holder: &str, waited: &mut Duration) -> Result<(), Fault> {
    if *waited >= LOCK_WAIT {
        return Err(lock_held(holder));
    }
    host.say(&format!("waiting for {holder} to let go of the package lock, {} s so far", waited.as_secs()));
    let again = *waited + LOCK_LOOK;
    while *waited < again {
        // Nothing is begun yet, so this is as good as between two steps. Whoever holds the lock may wait for our end.
        if host.interrupted() {
            let why = format!("stopped while {holder} held the package lock");
            return Err(Fault::new(INTERRUPTED, why).with(Remedy::General));
        }
        thread::sleep(NOTICE);
        *waited += NOTICE;
    }
    Ok(())
}

/// What a program printed as an error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All that a program printed.
pub fn both(output: &Output) -> String {
    format!("{}\n{}", output.text(), stderr(output))
}

/// All that was printed before the last line, which says how the unit ended: `$SERVICE_RESULT` of systemd.exec(5).
fn ended(log: &str) -> Result<String, Fault> {
    let killed = |how: &str| {
        let why =
            format!("the package manager was killed in the middle ({how}); the next pass mends what it left half done");
        Err(Fault::new("package-failed", why).with(Remedy::General))
    };
    let (said, result) = log.strip_suffix('\n').map_or(("", log), |log| log.rsplit_once('\n').unwrap_or(("", log)));
    match result {
        "timeout" => Err(timed_out()),
        "oom-kill" => killed("by the kernel, for want of memory"),
        "signal" => killed("by a signal"),
        "core-dump" => killed("it crashed"),
        "watchdog" | "resources" | "protocol" | "start-limit-hit" => killed(result),
        // What it did shows in what is there.
        "success" | "exit-code" => Ok(said.to_owned()),
        // Nothing said how it ended.
        _ => Ok(log.to_owned()),
    }
}

/// What is being done, by the last whole line of the end of a growing log that says so.
fn last_line(tail: &[u8], telling: fn(&str) -> bool) -> Option<String> {
    let end = tail.iter().rposition(|&byte| byte == b'\n')?;
    let text = String::from_utf8_lossy(&tail[..end]);
    let line = text.split(['\n', '\r']).map(str::trim).rfind(|line| telling(line))?;
    Some(one_line(&line.split_whitespace().collect::<Vec<_>>().join(" "), 120))
}

#[cfg(test)]
mod tests {
    use super::super::cut;
    use super::*;
    use crate::host::About;

    #[test]
    fn what_goes_on_is_told_from_what_has_ended() {
        let list = "trueup-packages-12-0.service loaded active running Package transaction of trueup\n\
                    trueup-packages-12-1.service loaded deactivating stop-post Package transaction of trueup\n\
                    trueup-packages-9-0.service loaded failed failed Package transaction of trueup\n\n\
                    3 loaded units listed.\n";
        let running = |list: &str| running_in(list).expect("whole");
        assert_eq!(running(list), ["trueup-packages-12-0", "trueup-packages-12-1"]);
        assert_eq!(running(include_str!("fixtures/list-units.txt")), ["trueup-packages-1161-0"]);
        assert!(running(include_str!("fixtures/list-units-none.txt")).is_empty());
        assert!(running_in("").is_err());
        cut::is_all_or_nothing(include_str!("fixtures/list-units.txt"), running_in);
        cut::is_all_or_nothing(include_str!("fixtures/list-units-none.txt"), running_in);
    }

    #[test]
    fn what_a_transaction_that_outlived_its_trueup_laid_down_is_told_once() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let lay = |path: &str| {
            let path = root.path().join(path);
            std::fs::DirBuilder::new().recursive(true).create(path.parent().expect("below")).expect("made");
            crate::host::write_new(&path, b"theirs").expect("written");
        };
        lay("etc/old.conf.dpkg-dist");
        let mut host = Writer::take(Reader::directory(root.path()).expect("a directory")).expect("alone");
        let before = format!("{LOGS}/{UNIT}1-0.{BEFORE}");
        host.state().write(&before, &Leftovers::look(&host).to_write()).expect("written");
        lay("etc/app.conf.dpkg-dist");
        sweep(&host).expect("swept");
        tell_late(&mut host);
        let told: Vec<About> = host.take_asides().into_iter().map(|aside| aside.about).collect();
        assert_eq!(told, [About::Beside("/etc/app.conf".to_owned())]);
        tell_late(&mut host);
        assert!(host.take_asides().is_empty() && host.state().list(LOGS).expect("listed").is_empty());

        let running = ["trueup-packages-1-0".to_owned()];
        assert!(goes_on("trueup-packages-1-0.before", &running) && !goes_on("trueup-packages-1-1.log", &running));
    }

    #[test]
    fn a_package_manager_that_was_killed_is_told_as_that_and_its_last_line_is_no_word_of_its_own() {
        let said = "Unpacking a ...\nSetting up a ...\n";
        let whole = said.trim_end();
        for fine in ["success", "exit-code"] {
            assert_eq!(ended(&format!("{said}{fine}\n")), Ok(whole.to_owned()));
        }
        for (result, why) in
            [("signal", "by a signal"), ("oom-kill", "for want of memory"), ("core-dump", "it crashed")]
        {
            let fault = ended(&format!("{said}{result}\n")).expect_err(result);
            assert_eq!((fault.reason, fault.remedy), ("package-failed", Remedy::General));
            assert!(fault.why.contains("killed in the middle") && fault.why.contains(why), "{}", fault.why);
        }
        assert_eq!(ended(&format!("{said}timeout\n")).expect_err("cut").reason, "timed-out");
        // Also where it had not printed anything; and what no unit says of its end is the program's own.
        assert!(ended("signal\n").is_err());
        assert_eq!(ended("success\n"), Ok(String::new()));
        for other in ["", said, "Setting up a"] {
            assert_eq!(ended(other), Ok(other.to_owned()));
        }
    }

    #[test]
    fn progress_is_the_last_whole_line_that_says_what_is_done() {
        let telling = |line: &str| line.starts_with("Setting up ") || line.starts_with("Unpacking ");
        let log = b"Unpacking a ...\nSetting up   a ...\r\nhello from a script\nUnpacking b";
        assert_eq!(last_line(log, telling), Some("Setting up a ...".to_owned()));
        assert_eq!(last_line(b"Setting up", telling), None);
        assert_eq!(last_line(b"\n\n", telling), None);
    }
}
