//! Looking, and nothing else: what the checks judge.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::brakes;
use crate::cli::reach::{self, Reached, Unreached};
use crate::config::{Settings, SourceSettings, Transport, ssh_server, transport};
use crate::daemon::SOCKET;
use crate::daemon::client::Client;
use crate::host::{Bus, Disk, Document, Holder, Reader, StateDir, UnitStatus};
use crate::kinds;
use crate::ledger::{self, Ledger};
use crate::model::{Facts, Id, Stop, one_line};
use crate::reconcile;
use crate::report::AgentStatus;
use crate::source::{self, Gate, Record};
use crate::worker::protocol::Walls;

/// What could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unseen {
    /// Only root can.
    NeedsRoot,
    /// In words.
    Failed(String),
}

type Seen<T> = Result<T, Unseen>;

/// How a unit of ours is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) status: UnitStatus,
    /// `enabled`, `disabled`…; `None` where there is no unit file.
    pub(super) file: Option<String>,
}

/// A file that the settings name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credential {
    /// `source.token_file`.
    pub(super) key: &'static str,
    pub(super) path: String,
    /// Owner and mode with the type; `None` where it is not there.
    pub(super) found: Result<Option<(u32, u32)>, String>,
}

/// The pinned keys of an ssh server.
#[derive(Debug, Clone)]
pub(super) struct Pin {
    /// As in known_hosts(5).
    pub(super) server: String,
    /// What to do where there is none.
    pub(super) how: String,
    pub(super) keys: Result<Vec<String>, String>,
}

/// One document of our own state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not there yet.
    None,
    Whole,
    /// Damaged, and its previous copy is whole.
    Previous,
}

/// Everything that the checks judge.
#[derive(Debug)]
pub(super) struct Looked {
    /// A machine, rather than a directory that stands for one.
    pub(super) machine: bool,
    pub(super) executable: String,
    /// Seconds since 1970.
    pub(super) now: i64,
    /// The files that settings were read from.
    pub(super) files: Vec<String>,
    pub(super) settings: Result<Settings, Stop>,
    pub(super) facts: Result<Facts, String>,
    /// `trueup.service` and `trueup.socket`.
    pub(super) units: Seen<(Unit, Unit)>,
    /// `trueup-undo.timer`.
    pub(super) timer: Seen<Unit>,
    /// Which version of the agent answers; `None` where it was not asked.
    pub(super) answer: Option<Result<String, String>>,
    /// Digests of the settings files: of those that the agent has in force, and of those on disk.
    pub(super) settings_files: (Option<String>, Option<String>),
    /// `None` where there is no source to look at.
    pub(super) source: Option<Seen<Result<Reached, Unreached>>>,
    /// Whether the files of trust can be used; `None` where none are named.
    pub(super) trust: Option<Seen<()>>,
    pub(super) credentials: Seen<Vec<Credential>>,
    pub(super) pins: Vec<Pin>,
    /// Whether ssh(1) is there.
    pub(super) ssh: bool,
    pub(super) synchronized: Seen<bool>,
    /// The latest time that our own record names.
    pub(super) recorded: Option<i64>,
    pub(super) disks: Vec<(&'static str, Result<Disk, String>)>,
    pub(super) ledger: Seen<(Ledger, bool)>,
    /// The others of our own documents.
    pub(super) documents: Vec<(&'static str, Seen<Standing>)>,
    pub(super) holder: Seen<Option<Holder>>,
    /// What stands around the fetch worker.
    pub(super) worker: Seen<Walls>,
    /// Whether the journal listens.
    pub(super) journal: bool,
    /// Whether packages can be looked at.
    pub(super) packages: Result<(), String>,
    pub(super) package_locks: Vec<(&'static str, Holder)>,
    /// How many directories may be watched.
    pub(super) watches: Option<u64>,
}

/// Where a disk that is full or read-only hurts.
const DISKS: [&str; 3] = ["/var/lib/trueup", "/etc", "/var"];
/// Locks of package managers.
const PACKAGE_LOCKS: [&str; 8] = [
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
    "/run/dnf/rpmtransaction.lock",
    "/var/lib/dnf/system-repo.lock",
    "/usr/lib/sysimage/libdnf5/system-repo.lock",
];

pub(super) fn look(host: &Reader, executable: &Path) -> Looked {
    let rootless = host.is_machine() && !rustix::process::geteuid().is_root();
    let settings = reconcile::settings(host);
    let read = reconcile::settings_files(host).ok();
    let on_disk = read.as_deref().map(reconcile::settings_digest);
    let files = read.unwrap_or_default().into_iter().map(|(path, _)| path).collect();
    let follows = settings.as_ref().ok().and_then(|settings| settings.source.as_ref());
    let units = units(host);
    let asked = ask(host, &units);
    let in_force = asked.as_ref().and_then(|asked| asked.as_ref().ok()?.settings.clone());
    let state = host.state();
    Looked {
        machine: host.is_machine(),
        // What it is run by may be a name in /proc.
        executable: one_line(&std::env::current_exe().as_deref().unwrap_or(executable).display().to_string(), 400),
        now: host.now(),
        files,
        facts: host.facts().map_err(|error| error.to_string()),
        answer: asked.map(|asked| asked.map(|agent| agent.version)),
        settings_files: (in_force, on_disk),
        units,
        timer: if host.is_machine() { unit(host, "trueup-undo.timer") } else { Err(Unseen::NeedsRoot) },
        source: reached(host, settings.as_ref().ok(), executable, rootless),
        trust: settings
            .as_ref()
            .ok()
            .filter(|settings| settings.trust.is_configured())
            .map(|settings| as_root(rootless, || Gate::open(host, &settings.trust).map(drop).map_err(failed))),
        credentials: as_root(rootless, || Ok(follows.map(credentials).unwrap_or_default())),
        pins: follows.filter(|_| host.is_machine() && !rootless).map(|source| pins(host, source)).unwrap_or_default(),
        ssh: ["/usr/bin/ssh", "/usr/local/bin/ssh", "/bin/ssh"].iter().any(|path| Path::new(path).exists()),
        synchronized: host.bus().and_then(Bus::clock_synchronized).map_err(|error| Unseen::Failed(error.to_string())),
        recorded: recorded(&state, follows),
        disks: DISKS.map(|path| (path, host.disk(path).map_err(|error| error.chain()))).into(),
        ledger: as_root(rootless, || ledger::load(&state).map_err(failed)),
        documents: documents(host, rootless),
        holder: as_root(rootless, || host.lock_holder("/var/lib/trueup/lock").map_err(failed)),
        worker: as_root(rootless, || source::walls(&host.worker(executable.to_owned())).map_err(failed)),
        journal: host.below_root("/run/systemd/journal/socket").exists(),
        packages: packages(host),
        package_locks: PACKAGE_LOCKS
            .into_iter()
            .filter_map(|path| Some((path, host.lock_holder(path).ok()??)))
            .collect(),
        watches: number(host, "/proc/sys/fs/inotify/max_user_watches"),
        settings,
    }
}

fn as_root<T>(rootless: bool, look: impl FnOnce() -> Seen<T>) -> Seen<T> {
    if rootless { Err(Unseen::NeedsRoot) } else { look() }
}

/// The error and what it came from, in one line.
fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Unseen {
    Unseen::Failed(one_line(&crate::cli::output::chain(&error.into()), 800))
}

fn units(host: &Reader) -> Seen<(Unit, Unit)> {
    if !host.is_machine() {
        return Err(Unseen::Failed("a directory has no systemd".to_owned()));
    }
    Ok((unit(host, "trueup.service")?, unit(host, "trueup.socket")?))
}

fn unit(host: &Reader, name: &str) -> Seen<Unit> {
    let bus = host.bus().map_err(failed)?;
    let status = bus.statuses(&[name]).pop().expect("each name has its answer").map_err(failed)?;
    let file = bus.file_states(&[name]).pop().expect("each name has its answer").map_err(failed)?;
    Ok(Unit { status, file })
}

/// Asks the agent who it is. Whoever connects to a socket that systemd holds starts the service behind it, and a look
/// starts nothing: so only one that runs is asked, or one without systemd.
fn ask(host: &Reader, units: &Seen<(Unit, Unit)>) -> Option<Result<AgentStatus, String>> {
    let (runs, held) = match units {
        Ok((service, socket)) => (service.status.active == "active", socket.status.active == "active"),
        Err(_) => (false, false),
    };
    if !runs && (held || !host.below_root(SOCKET).exists()) {
        return None;
    }
    let status = Client::connect(&host.below_root(SOCKET)).and_then(|mut client| client.status());
    let unknown = AgentStatus { version: String::new(), pid: 0, started: 0, settings: None };
    Some(status.map(|status| status.agent.unwrap_or(unknown)).map_err(|error| one_line(&error.to_string(), 300)))
}

fn reached(
    host: &Reader,
    settings: Option<&Settings>,
    executable: &Path,
    rootless: bool,
) -> Option<Seen<Result<Reached, Unreached>>> {
    let settings = settings.filter(|settings| settings.source.is_some())?;
    Some(as_root(rootless, || Ok(reach::reach(host, settings, executable))))
}

/// The files that the source's URLs make use of.
fn credentials(source: &SourceSettings) -> Vec<Credential> {
    let over = |wanted: &Transport| source.urls.iter().any(|url| transport(url).as_ref() == Ok(wanted));
    let (https, ssh) = (over(&Transport::Https), over(&Transport::Ssh));
    let named = [
        ("source.ca_file", source.ca_file.as_deref().filter(|_| https)),
        ("source.client_cert", source.client_cert.as_deref().filter(|_| https)),
        ("source.client_key", source.client_key.as_deref().filter(|_| https)),
        ("source.token_file", source.token_file.as_deref().filter(|_| https)),
        ("source.ssh_key", source.ssh_key.as_deref().filter(|_| ssh)),
        ("source.known_hosts", Some(source.known_hosts.as_path()).filter(|_| ssh)),
    ];
    let look = |key, path: &Path| {
        let found = match std::fs::metadata(path) {
            Ok(meta) => Ok(Some((meta.uid(), meta.mode()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        Credential { key, path: one_line(&path.display().to_string(), 400), found }
    };
    named.into_iter().filter_map(|(key, path)| Some(look(key, path?))).collect()
}

fn pins(host: &Reader, source: &SourceSettings) -> Vec<Pin> {
    let Some(file) = source.known_hosts.to_str().filter(|file| Path::new(file).exists()) else { return Vec::new() };
    let servers = source.urls.iter().filter_map(|url| ssh_server(url));
    let pin = |server: String| {
        let (keys, how) = (reach::pinned(host, &server, file), reach::how_to_pin(&server, source));
        Pin { server, how, keys }
    };
    servers.map(pin).collect()
}

fn recorded(state: &StateDir, source: Option<&SourceSettings>) -> Option<i64> {
    let branch = Record::load(state).ok()?.branch(&source?.branch);
    [branch.seen, branch.attempted, branch.applied].into_iter().flatten().map(|mark| mark.time).max()
}

/// Those that have types of their own are read as such; of the others only that they are whole.
fn documents(host: &Reader, rootless: bool) -> Vec<(&'static str, Seen<Standing>)> {
    let state = host.state();
    let record = || {
        Record::load(&state).map_err(failed)?;
        Ok(if state.exists("record").map_err(failed)? { Standing::Whole } else { Standing::None })
    };
    let brakes = || {
        if brakes::load(&host.agent_state()).map_err(failed)?.recovered {
            return Ok(Standing::Previous);
        }
        let there = host.agent_state().exists("brakes").map_err(failed)?;
        Ok(if there { Standing::Whole } else { Standing::None })
    };
    let mut documents = vec![("record", as_root(rootless, record)), ("agent/brakes", as_root(rootless, brakes))];
    for name in ["revision", "experience", "told", "history"] {
        documents.push((name, as_root(rootless, || standing(&state, name))));
    }
    documents
}

fn standing(state: &StateDir, name: &str) -> Seen<Standing> {
    // Whose format it is matters to whoever reads it; here, that it is whole.
    match state.load::<serde::de::IgnoredAny>(name, u32::MAX).map_err(failed)? {
        None => Ok(Standing::None),
        Some(Document { recovered: false, .. }) => Ok(Standing::Whole),
        Some(_) => Ok(Standing::Previous),
    }
}

/// As a pass looks at packages; of one that is never managed.
fn packages(host: &Reader) -> Result<(), String> {
    if !host.is_machine() {
        return Err("a directory has no package manager".to_owned());
    }
    let id = Id::new("package", "trueup");
    match kinds::observe(host, &[&id]).into_iter().next() {
        Some(Err(error)) => Err(error.chain()),
        _ => Ok(()),
    }
}

fn number(host: &Reader, path: &str) -> Option<u64> {
    let text = host.is_machine().then(|| std::fs::read_to_string(path).ok()).flatten()?;
    text.trim().parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config;
    use crate::model::{CommitId, Revision};

    pub(in crate::cli::doctor) const NOW: i64 = 1_795_000_000;

    pub(in crate::cli::doctor) fn settings(text: &str) -> Settings {
        config::settings(&[("/etc/trueup/agent.toml".to_owned(), text.to_owned())]).expect("valid")
    }

    pub(in crate::cli::doctor) fn unit(load: &str, active: &str, file: Option<&str>) -> Unit {
        let status =
            UnitStatus { load: load.to_owned(), active: active.to_owned(), sub: String::new(), has_job: false };
        Unit { status, file: file.map(str::to_owned) }
    }

    /// A host on which all is well, to be changed in one place.
    pub(in crate::cli::doctor) fn healthy() -> Looked {
        let commit: CommitId = "4f2a9c14f2a9c14f2a9c14f2a9c14f2a9c14f2a9".parse().expect("an id");
        let reached = Reached {
            place: "https://git.example.org/fleet.git".to_owned(),
            branch: "main".to_owned(),
            revision: Revision {
                commit: Some(commit),
                subject: "first".to_owned(),
                author: "Ana".to_owned(),
                time: NOW - 60,
            },
            fleet: true,
            hosts: ["web-01".to_owned()].into(),
            took: Duration::from_millis(20),
            passed_over: Vec::new(),
        };
        let disk = Disk { free: 8 << 30, size: 16 << 30, files_free: 900_000, files: 1_000_000, read_only: false };
        Looked {
            machine: true,
            executable: "/usr/bin/trueup".to_owned(),
            now: NOW,
            files: vec!["/etc/trueup/agent.toml".to_owned()],
            settings: Ok(settings("[source]\nurl = \"https://git.example.org/fleet.git\"\n")),
            facts: Ok(Facts {
                hostname: Some("web-01".to_owned()),
                machine_id: Some("5b1f8d7c0a2e4e6f9b3c1d2a7f8e9012".to_owned()),
                ..Facts::default()
            }),
            units: Ok((unit("loaded", "active", Some("enabled")), unit("loaded", "active", Some("enabled")))),
            timer: Ok(unit("loaded", "inactive", Some("static"))),
            answer: Some(Ok(env!("CARGO_PKG_VERSION").to_owned())),
            settings_files: (Some("a".to_owned()), Some("a".to_owned())),
            source: Some(Ok(Ok(reached))),
            trust: None,
            credentials: Ok(Vec::new()),
            pins: Vec::new(),
            ssh: true,
            synchronized: Ok(true),
            recorded: Some(NOW - 60),
            disks: DISKS.map(|path| (path, Ok(disk))).into(),
            ledger: Ok((Ledger::default(), false)),
            documents: vec![("record", Ok(Standing::Whole)), ("revision", Ok(Standing::None))],
            holder: Ok(None),
            worker: Ok(Walls { uid: 990, landlock: 6, filtered: true }),
            journal: true,
            packages: Ok(()),
            package_locks: Vec::new(),
            watches: Some(65_536),
        }
    }

    #[test]
    fn only_the_files_that_the_urls_make_use_of_are_looked_at() {
        let keys = |url: &str| -> Vec<&str> {
            let text = format!("[source]\nurl = \"{url}\"\ntoken_file = \"/t\"\nssh_key = \"/k\"\nca_file = \"/c\"\n");
            let settings = settings(&text);
            credentials(settings.source.as_ref().expect("a source")).into_iter().map(|one| one.key).collect()
        };
        assert_eq!(keys("https://h/x"), ["source.ca_file", "source.token_file"]);
        assert_eq!(keys("git@h:x"), ["source.ssh_key", "source.known_hosts"]);
        assert_eq!(keys("/srv/x"), Vec::<&str>::new());
    }

    #[test]
    fn a_look_at_an_empty_directory_needs_nothing_and_changes_nothing() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let host = Reader::directory(scratch.path()).expect("opened");
        let looked = look(&host, Path::new("/nowhere/trueup"));
        assert!(looked.source.is_none() && looked.settings.is_ok_and(|settings| settings.source.is_none()));
        assert!(looked.documents.iter().all(|(_, seen)| seen.is_ok()), "{:?}", looked.documents);
        assert_eq!(std::fs::read_dir(scratch.path()).expect("readable").count(), 0);
    }
}
