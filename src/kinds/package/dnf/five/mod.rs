//! The fifth dnf, run so that nothing asks a question. It does what it is to do in one `do`, see dnf5-do(8).

mod answers;
mod locks;

pub use self::locks::Conditions;
use super::database::{EVERY, LIMIT, Lock};
use super::work::{self, LOCKS_OF_PLANS};
use super::{FETCH, FROM_CACHE, Generation, LOOK, OPTIONS, native, of_the_index, own_log, with_architecture};
use crate::host::{Attributes, Error, NodeType, Output, Over, Program, Reader, Writer};
use crate::kinds::package::Transaction;
use crate::kinds::package::blame::Blame;
use crate::kinds::package::fault::Fault;
use crate::kinds::package::solve::{Action, Task};
use crate::kinds::package::tool::Mark;
use crate::kinds::package::transient::{self, both, stderr};
use crate::model::one_line;

const ENVIRONMENT: &[(&str, &str)] = &[
    ("LC_ALL", "C.UTF-8"),
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
];

/// What it says is read.
const PLAIN: &str = "--setopt=color=never";
/// What `excludepkgs` of dnf5.conf(5) names is hidden where it is installed, too.
const NOTHING_HIDDEN: &str = "--setopt=disable_excludes=*";
const NO_SOURCES: &str = "--disable-repo=*";
/// Where it keeps its locks, see dnf5-versionlock(8).
const VERSIONLOCK: &str = "/etc/dnf/versionlock.toml";

/// dnf5(8).
pub struct Five;

impl Generation for Five {
    const PROGRAM: &'static str = "/usr/bin/dnf5";
    const REASONS: &'static str = "/usr/lib/sysimage/libdnf5/packages.toml";

    fn available(host: &Reader, names: &[&str]) -> Result<String, Fault> {
        let names = names.iter().map(|name| with_architecture(name));
        let ask = ["-q", "repoquery", "--available", "--qf", "%{name}\t%{evr}\t%{arch}\\n"];
        let output = host.query(&looking(host).args(ask).arg("--").args(names))?;
        match output.status {
            0 => Ok(output.text()),
            _ => Err(answers::refusal(&stderr(&output))),
        }
    }

    fn reasons(host: &Reader) -> Result<String, Error> {
        let ask = ["-q", "repoquery", "--installed", "--qf", "%{name}\t%{arch}\t%{reason}\\n"];
        let output = host.query(&looking(host).args([NO_SOURCES, NOTHING_HIDDEN]).args(ask))?;
        match output.status {
            0 => Ok(output.text()),
            _ => {
                let why = answers::refusal(&stderr(&output)).why;
                Err(Error::Unknown { thing: "why packages are installed".to_owned(), why })
            }
        }
    }

    fn locks(host: &Reader) -> Result<Option<Vec<Lock>>, Error> {
        let Some(content) = host.read_following(VERSIONLOCK, LIMIT)? else { return Ok(Some(Vec::new())) };
        let locks = Self::locks_in(&String::from_utf8_lossy(&content));
        locks.map(Some).map_err(|why| Error::Unknown { thing: VERSIONLOCK.to_owned(), why })
    }

    fn simulate(host: &Reader, tasks: &[&Task], erasing: bool) -> Result<Transaction, Fault> {
        let dnf = looking(host).arg("--assumeno").args(options(tasks)).args(items(tasks));
        let output = host.query(&if erasing { dnf.arg("--allowerasing") } else { dnf })?;
        let transaction = answers::simulation(output.status, &output.text(), &stderr(&output))?;
        keeps_what_is_excluded_out(host, &transaction, tasks)?;
        Ok(transaction)
    }

    /// Its locks end with the process that holds them.
    fn mend(_: &mut Writer) -> Result<(), Fault> {
        Ok(())
    }

    fn update(host: &mut Writer) -> Result<(), Fault> {
        host.say("fetching the package indexes");
        let output = host.run(&program().args(["-y", "makecache", "--refresh"]).limit(FETCH))?;
        if output.status == 0 {
            return Ok(());
        }
        let fault = answers::refusal(&stderr(&output));
        Err(of_the_index(fault))
    }

    /// Tries the transaction, too: what is not signed, and files that two packages have, it finds no earlier.
    fn download(host: &mut Writer, tasks: &[&Task]) -> Result<(), Fault> {
        // By the index that the transaction was planned with, however old that is.
        let fetch = program().args(["-y", "--setopt=metadata_expire=never"]).args(options(tasks)).args(items(tasks));
        let attempt =
            program().args(["-y", FROM_CACHE, "--setopt=tsflags=test"]).args(options(tasks)).args(items(tasks));
        for dnf in [fetch.arg("--downloadonly"), attempt] {
            let output = alone(host, &dnf.limit(FETCH))?;
            if output.status != 0 {
                return Err(answers::refusal(&stderr(&output)));
            }
        }
        Ok(())
    }

    fn perform(host: &mut Writer, tasks: &[&Task]) -> Result<String, Fault> {
        let mut arguments = [PLAIN, "-y", FROM_CACHE].map(str::to_owned).to_vec();
        arguments.extend(options(tasks));
        arguments.extend(items(tasks));
        // It waits for its lock by itself.
        transient::Transaction {
            program: Self::PROGRAM,
            arguments: &arguments,
            script: None,
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
        answers::refusal(log)
    }

    /// See dnf5-mark(8) and dnf5-versionlock(8).
    fn mark(host: &mut Writer, mark: Mark, names: &[&str]) -> Result<(), Fault> {
        let specs: Vec<String> = names.iter().flat_map(|name| installed(name)).collect();
        // A lock has no architecture.
        let bare: Vec<String> = names.iter().map(|name| name.split(':').next().unwrap_or(name).to_owned()).collect();
        match mark {
            Mark::Manual => told(host, &["mark", "user", "--skip-unavailable"], &specs),
            Mark::Auto => told(host, &["mark", "dependency", "--skip-unavailable"], &specs),
            Mark::Unhold => unlock(host, &bare),
            Mark::Hold => {
                // A lock to another version would stay beside the new one.
                unlock(host, &bare)?;
                told(host, &["versionlock", "add"], &specs)
            }
        }
    }
}

impl Five {
    /// What is locked, as its file has it.
    pub(super) fn locks_in(text: &str) -> Result<Vec<Lock>, String> {
        Ok(locks::parse(text)?.into_iter().map(Lock::Conditions).collect())
    }
}

fn program() -> Program {
    let program = Program::new(Five::PROGRAM);
    ENVIRONMENT.iter().fold(program, |program, (name, value)| program.env(name, *value)).arg(PLAIN).any_status()
}

/// What only looks, and waits for nobody.
fn looking(host: &Reader) -> Program {
    // Before it had that lock it did not know the option, and there is no such file.
    let has_lock = LOCKS_OF_PLANS.iter().any(|lock| host.below_root(lock).exists());
    let no_lock = has_lock.then_some("--setopt=skip_system_repo_lock=True");
    program().arg(FROM_CACHE).args(own_log(host)).args(no_lock).limit(LOOK)
}

/// What all that is done for `tasks` has in common.
fn options(tasks: &[&Task]) -> Vec<String> {
    let mut options: Vec<String> = OPTIONS.iter().map(|option| (*option).to_owned()).collect();
    if tasks.iter().all(|task| task.takes_away()) {
        options.extend([NO_SOURCES, NOTHING_HIDDEN].map(str::to_owned));
    } else if passes_over_locks(tasks) {
        options.push(NOTHING_HIDDEN.to_owned());
    }
    options
}

/// Whether a lock has to be passed over: where a locked package is to come in a version that is said. What else is
/// locked, or excluded, is looked after by us then.
fn passes_over_locks(tasks: &[&Task]) -> bool {
    tasks.iter().any(|task| task.held && matches!(task.action, Action::Install { version: Some(_), .. }))
}

/// An installed package, as it may be called: where no architecture is said, it is the native one, or every.
fn installed(name: &str) -> Vec<String> {
    match name.contains(':') {
        true => vec![with_architecture(name)],
        false => vec![format!("{name}.{}", native()), format!("{name}.{EVERY}")],
    }
}

/// All of `tasks`, in one transaction.
fn items(tasks: &[&Task]) -> Vec<String> {
    let (mut install, mut remove) = (Vec::new(), Vec::new());
    for task in tasks {
        match &task.action {
            Action::Install { version, .. } => {
                let (bare, architecture) = task.name.split_once(':').unzip();
                let version = version.as_ref().map_or(String::new(), |version| format!("-{version}"));
                let architecture = architecture.map_or(String::new(), |architecture| format!(".{architecture}"));
                install.push(format!("{}{version}{architecture}", bare.unwrap_or(&task.name)));
            }
            // Of one that is not there it only says so.
            Action::Remove | Action::Release => remove.extend(installed(&task.name)),
        }
    }
    let part = |action: &str, specs: Vec<String>| {
        let action = (!specs.is_empty()).then(|| format!("--action={action}"));
        action.into_iter().chain(specs).collect::<Vec<_>>()
    };
    let start = ["do", "--type=package"].map(str::to_owned);
    start.into_iter().chain(part("install", install)).chain(part("remove", remove)).collect()
}

/// Where locks are passed over so are packages that this host excludes, see `excludepkgs` in dnf5.conf(5): none of them
/// is to come beside what was locked. What else is locked, the plan itself refuses.
fn keeps_what_is_excluded_out(host: &Reader, transaction: &Transaction, tasks: &[&Task]) -> Result<(), Fault> {
    if !passes_over_locks(tasks) {
        return Ok(());
    }
    let is_held = |name: &str| {
        let bare = name.rsplit_once(':').map_or(name, |(bare, _)| bare);
        tasks.iter().any(|task| task.held && (task.name == bare || task.name == name))
    };
    let others: Vec<(&str, &str)> = transaction
        .install
        .iter()
        .filter(|install| !is_held(&install.name))
        .map(|install| (install.name.as_str(), install.to.as_str()))
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = others.iter().map(|(name, _)| *name).collect();
    let there = Five::available(host, &names)?;
    match others.iter().find(|(name, version)| !answers::lists(&there, name, version)) {
        None => Ok(()),
        Some((name, version)) => {
            let bare = name.rsplit_once(':').map_or(*name, |(bare, _)| bare);
            let why = format!("that would also install {bare} {version}, which this host excludes");
            Err(Fault::new("unresolvable", one_line(&why, 300)))
        }
    }
}

/// Takes out the versions that packages of these names are locked to. `versionlock delete` would take all entries of a
/// name, an administrator's too; it is asked where the file is a link to another place.
fn unlock(host: &mut Writer, names: &[String]) -> Result<(), Fault> {
    transient::alone(host, work::before_five)?;
    let meta = match host.look(VERSIONLOCK)? {
        None => return Ok(()),
        Some(meta) if meta.node != NodeType::Regular => return told(host, &["versionlock", "delete"], names),
        Some(meta) => meta,
    };
    let damaged = |why| Error::Unknown { thing: VERSIONLOCK.to_owned(), why };
    let content = host.read(VERSIONLOCK, LIMIT)?.unwrap_or_default();
    let text = String::from_utf8(content).map_err(|_| damaged("it is no text".to_owned()))?;
    if let Some(left) = locks::without_versions(&text, names).map_err(damaged)? {
        let attributes =
            Attributes { uid: Some(meta.uid), gid: Some(meta.gid), mode: Some(meta.mode), ..Attributes::default() };
        host.write_file(VERSIONLOCK, attributes, left.as_bytes(), Over::Leaf)?;
    }
    Ok(())
}

fn told(host: &mut Writer, verbs: &[&str], names: &[String]) -> Result<(), Fault> {
    let output = alone(host, &program().args(["-q", "-y", NO_SOURCES, NOTHING_HIDDEN]).args(verbs).args(names))?;
    match output.status {
        0 => Ok(()),
        _ => Err(answers::refusal(&both(&output))),
    }
}

/// Runs a program that takes a lock once nobody else holds it: it would wait for whoever does, and not tell us.
fn alone(host: &mut Writer, program: &Program) -> Result<Output, Fault> {
    transient::alone(host, work::before_five)?;
    transient::patiently(host, program, |output| answers::lock_holder(&stderr(output)))
}

/// Whether a line tells what is being done.
fn telling(line: &str) -> bool {
    const DOING: &[&str] = &["Installing ", "Upgrading ", "Downgrading ", "Reinstalling ", "Removing "];
    // `[3/5] Installing words-0:1.0-1.noarch   100% | …`
    let step = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map(|(_, step)| step);
    step.is_some_and(|step| DOING.iter().any(|start| step.starts_with(start)))
        || line.starts_with(">>> Running ")
        || line.starts_with("Waiting for a lock ")
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
            task("gone", Action::Remove),
            install("beta", Some("1:1.0-1.fc40")),
            install("glibc:i686", None),
            install("glibc:i686", Some("2.39-1")),
            task("libm:i686", Action::Release),
        ];
        let tasks: Vec<&Task> = tasks.iter().collect();
        let native = native();
        let expected = format!(
            "do --type=package --action=install alpha beta-1:1.0-1.fc40 glibc.i686 glibc-2.39-1.i686 --action=remove \
             gone.{native} gone.noarch libm.i686"
        );
        assert_eq!(items(&tasks).join(" "), expected);
        let gone = task("gone", Action::Remove);
        assert!(!items(&[&gone]).contains(&"--action=install".to_owned()), "an action without items is an error");
    }

    #[test]
    fn dnf_may_do_no_more_than_the_tasks_need() {
        let (mut held, gone) = (install("a", Some("1.0-1")), task("b", Action::Remove));
        assert_eq!(options(&[&held]), OPTIONS);
        held.held = true;
        assert!(options(&[&held, &gone]).contains(&NOTHING_HIDDEN.to_owned()));
        let any = Task { held: true, ..install("a", None) };
        assert_eq!(options(&[&any]), OPTIONS, "it may come in a version that its lock allows, and no other");
        assert!(!options(&[&held, &gone]).contains(&NO_SOURCES.to_owned()));
        assert!(options(&[&gone]).contains(&NO_SOURCES.to_owned()), "no index is needed to remove something");
        assert!(options(&[&gone]).contains(&NOTHING_HIDDEN.to_owned()), "nor is it hidden");
    }

    #[test]
    fn a_look_passes_over_the_lock_where_there_is_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let host = Reader::directory(directory.path()).expect("a directory");
        let passes = |host: &Reader| format!("{:?}", looking(host)).contains("skip_system_repo_lock");
        assert!(!passes(&host), "an older one does not know of it");
        let lock = directory.path().join(LOCKS_OF_PLANS[1].trim_start_matches('/'));
        std::fs::DirBuilder::new().recursive(true).create(lock.parent().expect("below")).expect("made");
        crate::host::write_new(&lock, b"").expect("written");
        assert!(passes(&host));
    }

    #[test]
    fn what_is_done_is_told_and_the_headings_of_a_table_are_not() {
        let log = include_str!("../../fixtures/dnf5-script-failed.txt");
        let told: Vec<&str> = log.lines().filter(|line| telling(line)).collect();
        assert_eq!(told.len(), 2, "{told:#?}");
        assert!(told[0].starts_with("[3/4] Installing bash-0:5.2-1.noarch"), "{told:#?}");
        assert_eq!(told[1], ">>> Running %pre scriptlet: broken-0:1.0-1.noarch");
    }
}
