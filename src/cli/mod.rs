//! Storey 14: the command. One file a verb; parse, dispatch, exit code.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{self, SourceSettings};
use crate::daemon::SOCKET;
use crate::daemon::client::{Client, ClientError};
use crate::host::{DocumentError, LockError, Progress, Reader, Writer};
use crate::model::{Class, Facts, Stage, Stop, one_line};
use crate::plan::Leave;
use crate::reconcile::{self, Ask, SETTINGS};
use crate::report::{Report, State};

mod adopt;
mod agent;
mod approve;
mod ask;
mod check;
mod check_worker;
mod doctor;
mod drift;
mod facts;
mod fetch_worker;
mod generate;
mod history;
mod output;
mod plan;
mod reach;
mod rebind;
mod release;
mod restore;
mod resume;
mod retry;
mod rollback;
mod run;
mod secret;
mod setup;
mod show;
mod status;
mod suspend;
mod sync;
mod undo;

use output::{print, print_json, tell};

/// Keeps plain Linux servers true to a Git repository.
#[derive(Debug, Parser)]
#[command(name = "trueup", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit status: 0 in sync or done, 1 failed, 2 changes pending or drift, 3 refused or stalled.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// How this host is
    Status(status::Status),
    /// Look at the source and the host now, and wait for what comes of it
    Sync(sync::Sync),
    /// Passes in which something happened, the newest first
    History(history::History),
    /// Stop changing resources, or the whole host, for a while
    Suspend(suspend::Suspend),
    /// Change again what was suspended; go forward again after a rollback
    Resume(resume::Resume),
    /// Let a host with update = "hold" go to a revision
    Approve(approve::Approve),
    /// Try what failed or is contested again, now
    Retry(retry::Retry),
    /// Go back to an older revision, and stay there until `trueup resume`
    Rollback(rollback::Rollback),
    /// One pass without the agent: converge this machine, or a directory, to the repository
    Run(run::Run),
    /// What a pass would change, with diffs; changes nothing
    Plan(plan::Plan),
    /// What on this host is no longer as it was last applied
    Drift(drift::Drift),
    /// Check every host of a fleet repository, for its authors and for CI
    Check(check::Check),
    /// What a host will be
    Show(show::Show),
    /// Bring what stands on this host into the work tree of a fleet repository
    Adopt(adopt::Adopt),
    /// Encrypt, read and change secrets of a fleet repository, for its authors
    Secret(secret::Secret),
    /// What conditions and templates know of this host
    Facts(facts::Print),
    /// Give back what was overwritten
    Restore(restore::Restore),
    /// Hand resources back: what trueup made goes, what stood there before returns
    Release(release::Release),
    /// Let this host be another one from now on
    Rebind(rebind::Rebind),
    /// The agent: goes on watching and converging; started by systemd
    Agent(agent::Agent),
    /// Let this host follow a repository: try it, show the plan, write agent.toml, start the agent
    Setup(setup::Setup),
    /// Look at everything that trueup stands on, and say what to do
    Doctor(doctor::Doctor),
    /// The side of a fetch that speaks to the network; started by trueup itself
    #[command(hide = true)]
    FetchWorker(fetch_worker::FetchWorker),
    /// The side of a check that speaks to the network; started by trueup itself
    #[command(hide = true)]
    CheckWorker(check_worker::CheckWorker),
    /// Undo what has not settled in time; started by a timer that trueup arms
    #[command(hide = true)]
    Undo(undo::Undo),
    /// Make completions and man pages, for packages
    #[command(hide = true)]
    Generate(generate::Generate),
}

/// Which repository, and who to be.
#[derive(Debug, Args)]
struct Fleet {
    /// The repository: a path, or a URL instead of the configured one
    #[arg(long, value_name = "PATH|URL")]
    repo: Option<String>,
    /// Subdirectory of the repository that is the fleet repository
    #[arg(long, value_name = "DIR", value_parser = subdirectory)]
    path: Option<String>,
    /// The branch to follow, of a URL
    #[arg(long)]
    branch: Option<String>,
    /// Which host to be, instead of this machine's own name
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Facts to use instead of this machine's (`run`: with --root only), as `trueup facts --json` prints them
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
    #[command(flatten)]
    ground: Ground,
}

/// On what.
#[derive(Debug, Args)]
struct Ground {
    /// Work on this directory instead of this machine: no root, systemd or network needed
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let parsed = Cli::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failures; 2 would say that changes are pending.
            let code = if error.use_stderr() { 1 } else { 0 };
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let done = match cli.verb {
        Verb::Status(verb) => verb.run(),
        Verb::Sync(verb) => verb.run(),
        Verb::History(verb) => verb.run(),
        Verb::Suspend(verb) => verb.run(),
        Verb::Resume(verb) => verb.run(),
        Verb::Approve(verb) => verb.run(),
        Verb::Retry(verb) => verb.run(),
        Verb::Rollback(verb) => verb.run(),
        Verb::Run(verb) => verb.run(),
        Verb::Plan(verb) => verb.run(),
        Verb::Drift(verb) => verb.run(),
        Verb::Check(verb) => verb.run(),
        Verb::Show(verb) => verb.run(),
        Verb::Adopt(verb) => verb.run(),
        Verb::Secret(verb) => verb.run(),
        Verb::Facts(verb) => verb.run(),
        Verb::Restore(verb) => verb.run(),
        Verb::Release(verb) => verb.run(),
        Verb::Rebind(verb) => verb.run(),
        Verb::Agent(verb) => verb.run(),
        Verb::Generate(verb) => verb.run(Cli::command()),
        Verb::Setup(verb) => verb.run(),
        Verb::Undo(verb) => verb.run(),
        Verb::Doctor(verb) => verb.run(),
        Verb::FetchWorker(verb) => return verb.run(),
        Verb::CheckWorker(verb) => return verb.run(),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell(&format!("trueup: {}\n", one_line(&output::chain(&error), 2000)));
            ExitCode::from(exit_code(&error))
        }
    }
}

impl Ground {
    /// A view of the machine, or of the directory, that shows its progress on a terminal and ends between
    /// steps when asked to.
    fn reader(&self) -> anyhow::Result<Reader> {
        let reader = self.place()?;
        let interrupt = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt)).context("cannot listen for signals")?;
        }
        Ok(reader.with_interrupt(interrupt).with_progress(self.progress()))
    }

    /// The same view, for what has no steps to end between.
    fn place(&self) -> anyhow::Result<Reader> {
        match &self.root {
            None => Ok(Reader::machine()?),
            Some(root) => {
                anyhow::ensure!(root.is_dir(), "{}: no such directory; make it first", root.display());
                Ok(Reader::directory(root)?)
            }
        }
    }

    /// A connection to the agent of this host.
    fn client(&self, host: &Reader) -> Result<Client, ClientError> {
        Client::connect(&host.below_root(SOCKET))
    }

    fn progress(&self) -> Progress {
        if self.json {
            return Progress::default();
        }
        if !std::io::stderr().is_terminal() {
            return now_and_then();
        }
        const TICK: Duration = Duration::from_millis(120);
        let bar = indicatif::ProgressBar::new_spinner();
        bar.enable_steady_tick(TICK);
        Progress::new(move |line| {
            if line.is_empty() {
                bar.finish_and_clear();
            } else {
                if bar.is_finished() {
                    bar.reset();
                    bar.enable_steady_tick(TICK);
                }
                bar.set_message(one_line(line, 200));
            }
        })
    }
}

/// Progress as lines on standard error, for a log or whoever asked from afar: nothing of what is quick, and of what takes
/// its time not more than a few lines a minute.
fn now_and_then() -> Progress {
    const EVERY: Duration = Duration::from_secs(15);
    let last = std::cell::Cell::new(Instant::now());
    Progress::new(move |line| {
        if !line.is_empty() && last.get().elapsed() >= EVERY {
            last.set(Instant::now());
            tell(&format!("trueup: {}\n", one_line(line, 200)));
        }
    })
}

impl Fleet {
    fn ask(&self, command: &'static str, host: &Reader, allow_removals: Option<u64>) -> anyhow::Result<Ask> {
        anyhow::ensure!(
            command != "run" || !host.is_machine() || self.facts.is_none(),
            "--facts is for `plan`, `show` and directories (--root): the facts of a machine are its own"
        );
        let mut settings = reconcile::settings(host)?;
        let mut local = None;
        if let Some(repo) = &self.repo {
            let source = settings.source.take();
            if repo.contains("://") || !std::path::Path::new(repo).exists() && repo.contains(':') {
                let mut source = source.unwrap_or_else(|| SourceSettings::at(repo));
                let transport =
                    config::transport(repo).map_err(|why| anyhow::anyhow!("the URL given with --repo {why}"))?;
                anyhow::ensure!(
                    source.allow_insecure || !transport.is_insecure(),
                    "http:// and git:// are neither secret nor authentic; set allow_insecure = true in [source] of {SETTINGS} if that is meant"
                );
                source.urls = vec![repo.clone()];
                settings.source = Some(source);
            } else {
                anyhow::ensure!(
                    self.branch.is_none(),
                    "--branch is for a URL: of a local repository what is checked out is taken, so check the branch out there"
                );
                local = Some(PathBuf::from(repo));
                settings.source = Some(SourceSettings::at(repo));
            }
        }
        if let Some(source) = &mut settings.source {
            if let Some(path) = &self.path {
                source.path.clone_from(path);
            }
            if let Some(branch) = &self.branch {
                source.branch.clone_from(branch);
            }
        }
        if let Some(name) = &self.host {
            settings.host.name = Some(name.clone());
        }
        Ok(Ask {
            local,
            facts: self.facts.as_deref().map(read_facts).transpose()?,
            leave: Leave::Named(allow_removals),
            ..Ask::new(command, settings, host, executable()?)
        })
    }
}

/// This program, also once an upgrade has put another in its place (proc_pid_exe(5)).
fn executable() -> anyhow::Result<PathBuf> {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() {
        return Ok(own);
    }
    std::env::current_exe().context("cannot tell where this program is")
}

/// Takes the exclusive lock of this host.
fn take(host: Reader) -> Result<Writer, Stop> {
    Writer::take(host).map_err(|error| {
        let message = error.to_string();
        let (reason, class) = match error {
            LockError::Held { .. } => ("locked", Class::Stalled),
            LockError::State(error) => error.word(),
        };
        Stop { stage: Stage::Fetch, class, reason: reason.to_owned(), message: one_line(&message, 1000) }
    })
}

/// `report` of what had to stop before it could begin, or on the way; any other error is handed on.
fn stopped(mut report: Report, error: anyhow::Error) -> anyhow::Result<Report> {
    report.stopped(&error.downcast::<Stop>()?);
    Ok(report)
}

/// The exit code for an error that no report tells of.
fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<ClientError>() {
        return ask::exit_code(error);
    }
    let stalled = match (error.downcast_ref::<Stop>(), error.downcast_ref::<DocumentError>()) {
        (Some(stop), _) => stop.class == Class::Stalled,
        (None, Some(error)) => !matches!(error, DocumentError::CannotLook(_)),
        (None, None) => false,
    };
    if stalled { State::Stalled.exit_code() } else { 1 }
}

fn read_facts(path: &std::path::Path) -> anyhow::Result<Facts> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} does not hold facts as `trueup facts --json` prints them", path.display()))
}

/// A subdirectory of a repository, as `source.path` in agent.toml.
fn subdirectory(text: &str) -> Result<String, String> {
    config::subdirectory(text).map_err(|rule| format!("it has to be {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(command: &'static str, arguments: &[&str]) -> anyhow::Result<Ask> {
        let cli = Cli::try_parse_from([&["trueup", command], arguments].concat()).expect("it is understood");
        let (Verb::Run(run::Run { fleet, .. }) | Verb::Plan(plan::Plan { fleet, .. })) = cli.verb else {
            panic!("another verb");
        };
        let host = fleet.ground.reader()?;
        fleet.ask(command, &host, None)
    }

    #[test]
    fn a_machine_is_not_changed_by_the_facts_of_another() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let root = scratch.path().to_str().expect("text");
        let refused = ask("run", &["--facts", "/nowhere"]).expect_err("refused").to_string();
        assert!(refused.contains("facts of a machine are its own"), "{refused}");
        // These go on, and find no such file.
        for error in [ask("plan", &["--facts", "/nowhere"]), ask("run", &["--facts", "/nowhere", "--root", root])] {
            let error = error.expect_err("there is no such file").to_string();
            assert_eq!(error, "cannot read /nowhere");
        }
    }

    #[test]
    fn what_only_somebody_can_mend_exits_3() {
        let stop = |class| Stop { stage: Stage::Fetch, class, reason: String::new(), message: String::new() };
        let damaged = DocumentError::Damaged { path: PathBuf::new(), why: String::new() };
        assert_eq!(exit_code(&stop(Class::Stalled).into()), 3);
        assert_eq!(exit_code(&stop(Class::Transient).into()), 1);
        assert_eq!(exit_code(&damaged.into()), 3);
        assert_eq!(exit_code(&anyhow::anyhow!("anything")), 1);
    }
}
