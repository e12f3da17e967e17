//! apt's programs, run so that nothing asks a question.

use std::collections::HashMap;
use std::time::Duration;

use super::answers;
use super::database::Database;
use crate::host::{Output, Program, Reader, Writer};
use crate::kinds::package::Transaction;
use crate::kinds::package::fault::{Fault, Remedy};
use crate::kinds::package::policy;
use crate::kinds::package::solve::{Action, Policy, Task};
use crate::kinds::package::tool::Mark;
use crate::kinds::package::transient::{self, LOCK_WAIT, both, stderr};

/// How long fetching may take: indexes, or the packages of a transaction.
const FETCH: Duration = Duration::from_secs(15 * 60);
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

/// What apt knows of `names`, without writing anything.
pub fn policy(host: &Reader, names: &[&str]) -> Result<HashMap<String, Policy>, Fault> {
    // It answers in the order that it was asked in, and does not say where it ends: of this it always knows something.
    let is_asked = |last: &&str| names.iter().any(|name| name.split(':').next() == Some(*last));
    let known = ["dpkg", "apt", "base-files", "coreutils", "bash", "debianutils", "libc6", "perl-base"];
    let last = known.into_iter().find(|name| !is_asked(name)).unwrap_or("init-system-helpers");
    let output = host.query(&program("apt-cache").args(NO_TRACE).arg("policy").args(names).arg(last))?;
    match output.status {
        0 => answers::policy(&output.text(), last).map_err(|why| Fault::new("cannot-tell", why).with(Remedy::General)),
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
    // To apt what is half there and held is there.
    if tasks.iter().any(|task| task.held && !task.takes_away()) {
        arguments.push("--reinstall".to_owned());
    }
    arguments.push("install".to_owned());
    arguments.extend(tasks.iter().map(|task| argument(task)));
    arguments
}

/// What `apt-get install` is told of one package, see apt-get(8).
fn argument(task: &Task) -> String {
    match &task.action {
        Action::Install { version: Some(version), .. } => format!("{}={version}", task.name),
        Action::Install { version: None, .. } => task.name.clone(),
        Action::Remove | Action::Release => format!("{}-", task.name),
    }
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
pub fn mark(host: &mut Writer, mark: Mark, names: &[&str]) -> Result<(), Fault> {
    let verb = match mark {
        Mark::Hold => "hold",
        Mark::Unhold => "unhold",
        Mark::Manual => "manual",
        Mark::Auto => "auto",
    };
    let output = patiently(host, &program("apt-mark").arg("-q").arg(verb).args(names))?;
    match output.status {
        0 => Ok(()),
        _ => Err(answers::refusal(&output.text(), &stderr(&output))),
    }
}

/// Waits until nobody else is at work, and mends what an interrupted run left behind. Answers with all that was printed
/// by what mends.
pub fn ready(host: &mut Writer, withheld: &[&str]) -> Result<String, Fault> {
    transient::after_ours(host)?;
    let (mut configured, mut mended) = (false, String::new());
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
            mended += &transact(host, "dpkg", &arguments, withheld)?;
        } else if answers::is_unmet(&said) {
            mended += &mend(host, withheld)?;
        } else {
            break;
        }
        mended.push('\n');
    }
    Ok(mended)
}

/// Installs what is missing of the dependencies of what is installed; removes nothing for that.
fn mend(host: &mut Writer, withheld: &[&str]) -> Result<String, Fault> {
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
            transact(host, "apt-get", &waiting(arguments), withheld)
        }
        Ok(transaction) => {
            let gone = crate::model::one_line(&transaction.remove.join(", "), 300);
            let why = format!("dependencies are unmet, and apt would mend them by removing {gone}; that is for you");
            Err(Fault::new("removes-undeclared", why).with(Remedy::General))
        }
        Err(fault) => Err(Fault { why: format!("dependencies are unmet: {}", fault.why), ..fault }),
    }
}

/// Takes away again what came half-way and lacks what it depends on: apt does nothing else before. Nothing but what `came`
/// goes; where that does not do it is for others to say so.
pub fn take_back(host: &mut Writer, came: &dyn Fn(&str) -> bool, withheld: &[&str]) -> Result<(), Fault> {
    let output = patiently(host, &program("apt-get").args(["-q", "check"]))?;
    let said = both(&output);
    let lacking: Vec<String> = answers::unmet(&said).into_iter().filter(|name| came(name)).collect();
    if !answers::is_unmet(&said) || lacking.is_empty() {
        return Ok(());
    }
    let mut arguments: Vec<String> = OPTIONS.iter().map(|option| (*option).to_owned()).collect();
    arguments.push("install".to_owned());
    arguments.extend(lacking.iter().map(|name| format!("{name}-")));
    let output = host.query(&program("apt-get").arg("-s").args(NO_TRACE).args(&arguments))?;
    let transaction = answers::simulation(&output.text()).ok().filter(|_| output.status == 0);
    let is_ours = |it: &Transaction| it.install.is_empty() && it.remove.iter().all(|name| came(name));
    if transaction.as_ref().is_some_and(is_ours) {
        host.say("taking back what came half-way");
        transact(host, "apt-get", &waiting(arguments), withheld)?;
    }
    Ok(())
}

/// Does the transaction, and answers with all that it printed. How it ended shows in what is there.
pub fn perform(host: &mut Writer, tasks: &[&Task], withheld: &[&str]) -> Result<String, Fault> {
    transact(host, "apt-get", &waiting(performing(tasks)), withheld)
}

/// What was simulated may come to something else by the time that the lock is had.
fn performing(tasks: &[&Task]) -> Vec<String> {
    let removes = tasks.iter().any(|task| task.takes_away());
    let guard = (!removes).then(|| "--no-remove".to_owned());
    guard.into_iter().chain(install(tasks)).collect()
}

/// The same arguments for a run that nobody tries again: it waits for the lock by itself.
fn waiting(arguments: Vec<String>) -> Vec<String> {
    let lock = format!("DPkg::Lock::Timeout={}", LOCK_WAIT.as_secs());
    ["-o".to_owned(), lock].into_iter().chain(arguments).collect()
}

/// Runs a program that takes a lock, and waits for whoever holds that.
fn patiently(host: &mut Writer, program: &Program) -> Result<Output, Fault> {
    transient::patiently(host, program, |output| answers::lock_holder(&stderr(output)).filter(|_| output.status != 0))
}

/// Runs a program that must not be killed half-way. Meanwhile it starts none of the units that are `withheld`.
fn transact(host: &mut Writer, program: &str, arguments: &[String], withheld: &[&str]) -> Result<String, Fault> {
    // Where that cannot be done services start early and are restarted: no reason not to install.
    let withholds = policy::withhold(host, withheld).unwrap_or_else(|error| {
        // It may be there all the same.
        let _ = policy::release(host);
        host.say(&error.chain());
        false
    });
    let afterwards = withholds.then(policy::removal);
    let transaction =
        transient::Transaction { program, arguments, script: None, environment: ENVIRONMENT, telling, afterwards };
    let said = transaction.run(host);
    if withholds && let Err(error) = policy::release(host) {
        host.say(&error.chain());
    }
    said
}

/// Whether a line tells what is being done.
fn telling(line: &str) -> bool {
    const DOING: &[&str] =
        &["Get:", "Preparing to unpack ", "Unpacking ", "Setting up ", "Removing ", "Purging ", "Processing triggers "];
    DOING.iter().any(|start| line.starts_with(start)) || line.starts_with("Waiting for cache lock")
}

#[cfg(test)]
mod tests {
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
        assert_eq!(end, ["--allow-downgrades", "--allow-change-held-packages", "--reinstall", "install", "a", "b=1.0"]);
        assert!(!more.iter().any(|option| option.contains("essential")));
    }

    #[test]
    fn apt_removes_nothing_where_nothing_is_to_go() {
        let installed = task("a", None, false, false);
        let gone = Task { index: 1, name: "b".to_owned(), action: Action::Remove, held: false };
        assert!(performing(&[&installed]).contains(&"--no-remove".to_owned()));
        assert!(!performing(&[&installed, &gone]).contains(&"--no-remove".to_owned()));
        assert!(!install(&[&installed]).contains(&"--no-remove".to_owned()), "what it would remove is told");
    }
}
