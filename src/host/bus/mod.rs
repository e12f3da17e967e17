//! systemd's manager over D-Bus; see org.freedesktop.systemd1(5).
//!
//! Looking is on [`Bus`], which a [`Reader`](super::Reader) hands out; what changes anything is on
//! [`Writer`](super::Writer). Everything is asked for in batches: one call where systemd has one for
//! many units, else all calls at once and then all answers.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::runtime::Runtime;
use zbus::proxy::CacheProperties;
use zbus::{Connection, DBusError, OwnedVariant};

use super::Error;
use crate::model::one_line;

mod jobs;
mod private;
mod proxy;
mod timedate;
mod unit_files;
mod watch;

pub use unit_files::UnitFileResults;
pub use watch::UnitWatch;

/// How long one call may take. A daemon-reload runs generators, which systemd itself ends after 90 s.
const CALL: Duration = Duration::from_secs(150);

/// How long the bus may take to let somebody in.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many calls are under way at once; dbus-daemon(1) refuses more than 128 of one connection
/// (`max_replies_per_connection`).
const AT_ONCE: usize = 64;
/// How many units are asked for their details at once, with up to six calls each.
const DETAILS_AT_ONCE: usize = 16;

const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// systemd over D-Bus: one connection, driven from the thread that asks.
#[derive(Debug)]
pub struct Bus {
    manager: proxy::ManagerProxy<'static>,
    connection: Connection,
    // Last, so that it is still there when the connection goes.
    runtime: Runtime,
}

/// How a unit is, in systemd's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitStatus {
    /// `loaded`, `not-found`, `masked`, `error`, `bad-setting`…
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating`…
    pub active: String,
    /// `running`, `exited`, `listening`…; depends on the type of the unit.
    pub sub: String,
    /// It is about to be started, stopped or reloaded.
    pub has_job: bool,
}

/// More about one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitDetails {
    /// What is on disk is newer than what the manager has read.
    pub need_daemon_reload: bool,
    /// Which run of the unit this is, in hexadecimal; `None` where it never ran.
    pub invocation: Option<String>,
    /// A start was tried, and a condition of the unit did not hold.
    pub condition_failed: bool,
    /// `Type=` of a service; `None` for other units, and where it was not asked for.
    pub service_type: Option<String>,
    /// `RemainAfterExit=` of a service.
    pub remain_after_exit: bool,
    /// The main process of a service that runs; `None` where it has none, and where it was not asked for.
    pub main: Option<u32>,
    /// How the last run of a service ended: `success`, `exit-code`, `signal`…; `None` where it was not asked for.
    pub result: Option<String>,
}

/// When a service began what it runs, by two clocks: that of the boot (CLOCK_MONOTONIC), which nobody sets, and the wall
/// clock as it was then, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instants {
    /// Its main process was started: `ExecMainStartTimestamp`.
    pub started: (Duration, Duration),
    /// Its unit became active, or had read its configuration again: `StateChangeTimestamp`.
    pub changed: (Duration, Duration),
}

/// What there is to ask of a unit beside what is asked of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It is not active: why.
    AtRest,
    /// It is active: which process it runs, if it is a service.
    Runs,
    /// It ran, and waits to be started anew: how that ended.
    Waits,
    /// Nothing.
    Nothing,
}

/// The files that a unit reads whenever it starts, as its own settings name them, specifiers filled in; systemd.exec(5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartFiles {
    /// `EnvironmentFile=`: absolute paths, or patterns as in glob(7).
    pub environment: Vec<String>,
    /// `LoadCredential=`: absolute paths of files or directories, or names of credentials.
    pub credentials: Vec<String>,
    /// `LoadCredentialEncrypted=`, the same.
    pub encrypted: Vec<String>,
    /// `ImportCredential=`: names of credentials, or patterns of names.
    pub imported: Vec<String>,
}

/// What a call was answered with instead of a result.
#[derive(Debug, Clone)]
struct Refusal {
    /// The D-Bus name of the error; empty where there was no answer.
    name: String,
    /// In words, escaped, one line.
    text: String,
}

impl From<zbus::Error> for Refusal {
    fn from(error: zbus::Error) -> Self {
        let (name, text) = match &error {
            zbus::Error::MethodError(name, text, _) => (name.to_string(), text.clone()),
            zbus::Error::FDO(error) => {
                let text = error.description().map(str::to_owned);
                (error.name().to_string(), text)
            }
            _ => (String::new(), None),
        };
        let text = text.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| error.to_string());
        Self { name, text: one_line(text.trim().trim_end_matches('.'), 300) }
    }
}

impl Refusal {
    /// Whether the unit, or its unit file, is not there.
    fn is_missing(&self) -> bool {
        matches!(self.name.as_str(), "org.freedesktop.systemd1.NoSuchUnit" | "org.freedesktop.DBus.Error.FileNotFound")
    }

    /// Whether this systemd has no such property.
    fn is_unknown_property(&self) -> bool {
        self.name == "org.freedesktop.DBus.Error.UnknownProperty"
    }

    /// Where looking failed.
    fn unknown(self, unit: &str) -> Error {
        Error::Unknown { thing: format!("unit:{unit}"), why: self.text }
    }

    /// Where `what` was tried on `unit` and nothing was done.
    fn refused(self, unit: &str, what: &'static str) -> Error {
        let thing = format!("unit:{unit}");
        let refused = |reason, why: &str| Error::Refused { thing: thing.clone(), reason, why: why.to_owned() };
        match self.name.as_str() {
            _ if self.is_missing() => refused("no-such-unit", "there is no unit file of this name on this host"),
            "org.freedesktop.systemd1.UnitMasked" => {
                refused("masked", "it is masked; declare `masked = false`, or unmask it on the host")
            }
            "org.freedesktop.systemd1.JobTypeNotApplicable" if what == "reload" => {
                refused("cannot-reload", "it cannot be reloaded (no ExecReload=); declare a restart instead")
            }
            "org.freedesktop.DBus.Error.FileExists" | "org.freedesktop.systemd1.UnitExists" if what == "mask" => {
                refused(
                    "unit-file-in-the-way",
                    &format!("its unit file stands in /etc/systemd/system, where the mask would be; {}", self.text),
                )
            }
            _ => Error::Unit { thing, what, why: self.text },
        }
    }
}

impl Bus {
    /// By the system bus; where there is none, by the socket on which systemd itself listens to root, as systemctl(1)
    /// does. So a host without a bus can still be put right.
    pub(super) fn connect() -> Result<Self, Error> {
        let bus = Self::by(async || Ok(zbus::connection::Builder::system()), PATIENCE);
        bus.or_else(|error| {
            let private = async || Ok(zbus::connection::Builder::socket(private::Private::connect().await?).p2p());
            Self::by(private, PATIENCE).map_err(|_| error)
        })
    }

    /// The time-out of calls does not hold for what comes before the first of them.
    fn by(
        bus: impl AsyncFnOnce() -> zbus::Result<zbus::connection::Builder<'static>>,
        patience: Duration,
    ) -> Result<Self, Error> {
        let failed = |why: String| Error::Unknown { thing: "connect".to_owned(), why };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(e.to_string()))?;
        let connect = async {
            let connection = bus().await?.method_timeout(CALL).build().await?;
            let manager =
                proxy::ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
            Ok((connection, manager))
        };
        let (connection, manager) = runtime
            .block_on(async { tokio::time::timeout(patience, connect).await })
            .map_err(|_| failed(format!("it did not answer within {} s", patience.as_secs())))?
            .map_err(|error: zbus::Error| failed(Refusal::from(error).text))?;
        Ok(Self { manager, connection, runtime })
    }

    /// Whether the system bus itself lets somebody in.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn answers() -> Result<(), Error> {
        const SOON: Duration = Duration::from_secs(5);
        Self::by(async || Ok(zbus::connection::Builder::system()), SOON).map(drop)
    }

    /// Runs all of `work`, many at once, and returns the answers in order.
    fn all<T>(&self, work: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
        self.runtime.block_on(stream::iter(work).buffered(AT_ONCE).collect())
    }

    /// How each unit is, in one call. No name may be that of a template.
    pub fn statuses(&self, names: &[&str]) -> Vec<Result<UnitStatus, Error>> {
        if names.is_empty() {
            return Vec::new();
        }
        let status = |row: proxy::Row| UnitStatus { load: row.2, active: row.3, sub: row.4, has_job: row.7 != 0 };
        match self.runtime.block_on(self.manager.list_units_by_names(names)) {
            // An answer holds the unit's own name where an alias was asked for: only the order tells.
            Ok(rows) if rows.len() == names.len() => rows.into_iter().map(|row| Ok(status(row))).collect(),
            // One bad name refuses the whole call, so each is asked for by itself.
            _ => self.all(names.iter().map(|name| async move {
                let rows = self.manager.list_units_by_names(&[name]).await;
                let rows = rows.map_err(|error| Refusal::from(error).unknown(name))?;
                rows.into_iter().next().map(status).ok_or_else(|| Error::Unknown {
                    thing: format!("unit:{name}"),
                    why: "systemd did not answer for it".to_owned(),
                })
            })),
        }
    }

    /// The state of each unit file (`enabled`, `static`…, see systemctl(1), `is-enabled`); `None` where there is none.
    pub fn file_states(&self, names: &[&str]) -> Vec<Result<Option<String>, Error>> {
        if names.is_empty() {
            return Vec::new();
        }
        let listed = self.runtime.block_on(self.manager.list_unit_files_by_patterns(&[], names));
        let mut listed: BTreeMap<String, String> = listed
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(path, state)| Some((path.rsplit_once('/')?.1.to_owned(), state)))
            .collect();
        // What is not listed may still have a state (an instance of a template), and a list that failed
        // tells nothing.
        let missing: BTreeSet<&str> = names.iter().copied().filter(|name| !listed.contains_key(*name)).collect();
        let mut failed: BTreeMap<&str, Refusal> = BTreeMap::new();
        let asked = self.all(missing.iter().map(|name| async move { self.manager.get_unit_file_state(name).await }));
        for (name, state) in missing.into_iter().zip(asked) {
            match state.map_err(Refusal::from) {
                Ok(state) => drop(listed.insert(name.to_owned(), state)),
                Err(refusal) if refusal.is_missing() => {}
                Err(refusal) => drop(failed.insert(name, refusal)),
            }
        }
        names
            .iter()
            .map(|name| match failed.get(name) {
                Some(refusal) => Err(refusal.clone().unknown(name)),
                None => Ok(listed.get(*name).cloned()),
            })
            .collect()
    }

    /// More about each loaded unit. How it is decides what there is to ask.
    pub fn details(&self, units: &[(&str, Asked)]) -> Vec<Result<UnitDetails, Error>> {
        let details = stream::iter(units).map(|&(name, asked)| async move {
            self.detail(name, asked).await.map_err(|error| Refusal::from(error).unknown(name))
        });
        self.runtime.block_on(details.buffered(DETAILS_AT_ONCE).collect())
    }

    async fn detail(&self, name: &str, asked: Asked) -> zbus::Result<UnitDetails> {
        let unit = |property| self.property(name, UNIT, property);
        let at_rest = asked == Asked::AtRest;
        if at_rest {
            // systemd drops what does not run as soon as it is not asked about, and reads its files for each question, with a
            // line of the journal for all that it does not understand there. Where it cannot be held, it is asked all the same.
            drop(self.manager.ref_unit(name).await);
        }
        let service = at_rest && name.ends_with(".service");
        let runs = asked == Asked::Runs && name.ends_with(".service");
        let waits = asked == Asked::Waits && name.ends_with(".service");
        let ask = |wanted: bool, property: &'static str| async move {
            if wanted { self.property(name, SERVICE, property).await.map(Some) } else { Ok(None) }
        };
        let unit_if = |wanted: bool, property: &'static str| async move {
            if wanted { self.property(name, UNIT, property).await.map(Some) } else { Ok(None) }
        };
        let (reload, invocation, holds, tried, kind, remain, main, result) = tokio::try_join!(
            unit("NeedDaemonReload"),
            unit("InvocationID"),
            unit_if(at_rest, "ConditionResult"),
            unit_if(at_rest, "ConditionTimestampMonotonic"),
            ask(service, "Type"),
            ask(service, "RemainAfterExit"),
            ask(runs, "MainPID"),
            ask(waits, "Result"),
        )?;
        let flag = |value: Option<OwnedVariant>| value.map(bool::try_from).transpose();
        let tried = tried.map(u64::try_from).transpose()?.unwrap_or(0) > 0;
        Ok(UnitDetails {
            need_daemon_reload: bool::try_from(reload)?,
            invocation: hexadecimal(invocation)?,
            condition_failed: tried && flag(holds)? == Some(false),
            service_type: kind.map(String::try_from).transpose()?,
            remain_after_exit: flag(remain)?.unwrap_or(false),
            // Zero where there is none.
            main: main.map(u32::try_from).transpose()?.filter(|&pid| pid > 0),
            result: result.map(String::try_from).transpose()?,
        })
    }

    async fn property(&self, unit: &str, interface: &str, name: &str) -> zbus::Result<OwnedVariant> {
        proxy::property(&self.connection, unit, interface, name).await
    }

    /// Which run of the unit this is (its `InvocationID`, in hexadecimal); `None` where it never ran.
    ///
    /// # Errors
    /// Where systemd does not answer.
    pub fn invocation(&self, name: &str) -> Result<Option<String>, Error> {
        let id = async { hexadecimal(self.property(name, UNIT, "InvocationID").await?) };
        self.runtime.block_on(id).map_err(|error| Refusal::from(error).unknown(name))
    }

    /// The units that each of these cannot do without: `Requires=`, `Requisite=`, `BindsTo=`; systemd.unit(5).
    pub fn required(&self, names: &[&str]) -> Vec<Result<Vec<String>, Error>> {
        self.units_of(names, &["Requires", "Requisite", "BindsTo"])
    }

    /// The units that each of these restarts along with: `PartOf=`, `Requires=`, `Requisite=`, `BindsTo=`; systemd.unit(5).
    pub fn restarts_with(&self, names: &[&str]) -> Vec<Result<Vec<String>, Error>> {
        self.units_of(names, &["PartOf", "Requires", "Requisite", "BindsTo"])
    }

    /// The units that these properties of each name.
    fn units_of(&self, names: &[&str], properties: &[&'static str]) -> Vec<Result<Vec<String>, Error>> {
        self.all(names.iter().map(|name| async move {
            let mut all = Vec::new();
            for property in properties {
                let units = self.property(name, UNIT, property).await;
                let units = units.and_then(Vec::<String>::try_from);
                let units: Vec<String> = units.map_err(|error: zbus::Error| Refusal::from(error).unknown(name))?;
                all.extend(units);
            }
            Ok(all)
        }))
    }

    /// How often systemd has started each service anew by itself since somebody else did: `NRestarts`.
    pub fn restarts(&self, names: &[&str]) -> Vec<Result<u32, Error>> {
        self.all(names.iter().map(|name| async move {
            let restarts = self.property(name, SERVICE, "NRestarts").await.and_then(u32::try_from);
            restarts.map_err(|error| Refusal::from(error).unknown(name))
        }))
    }

    /// Whether each unit can be reloaded: it has an `ExecReload=`, or reloads by itself; systemd.service(5).
    pub fn can_reload(&self, names: &[&str]) -> Vec<Result<bool, Error>> {
        self.all(names.iter().map(|name| async move {
            let can = self.property(name, UNIT, "CanReload").await.and_then(bool::try_from);
            can.map_err(|error| Refusal::from(error).unknown(name))
        }))
    }

    /// What each unit reads whenever it starts. What runs no program reads nothing.
    pub fn start_files(&self, names: &[&str]) -> Vec<Result<StartFiles, Error>> {
        self.all(names.iter().map(|name| async move {
            let Some(interface) = executing(name) else { return Ok(StartFiles::default()) };
            let ask = |property: &'static str| async move {
                match self.property(name, interface, property).await {
                    Ok(value) => Ok(Some(value)),
                    // An older systemd that does not know the setting has nothing of it.
                    Err(error) if Refusal::from(error.clone()).is_unknown_property() => Ok(None),
                    Err(error) => Err(error),
                }
            };
            let files = async {
                let (environment, credentials, encrypted, imported) = tokio::try_join!(
                    ask("EnvironmentFiles"),
                    ask("LoadCredential"),
                    ask("LoadCredentialEncrypted"),
                    // Since version 254.
                    ask("ImportCredential"),
                )?;
                let pairs = |value: Option<OwnedVariant>| {
                    let pairs = value.map(Vec::<(String, String)>::try_from).transpose()?.unwrap_or_default();
                    zbus::Result::Ok(pairs.into_iter().map(|(_, path)| path).collect())
                };
                let files = environment.map(Vec::<(String, bool)>::try_from).transpose()?.unwrap_or_default();
                Ok(StartFiles {
                    environment: files.into_iter().map(|(path, _)| path).collect(),
                    credentials: pairs(credentials)?,
                    encrypted: pairs(encrypted)?,
                    imported: imported.map(Vec::<String>::try_from).transpose()?.unwrap_or_default(),
                })
            };
            files.await.map_err(|error: zbus::Error| Refusal::from(error).unknown(name))
        }))
    }

    /// When a service began what it runs; `None` where systemd does not know.
    ///
    /// # Errors
    /// Where systemd does not answer.
    pub fn instants(&self, name: &str) -> Result<Option<Instants>, Error> {
        let times = async {
            let (start, start_wall, change, change_wall) = tokio::try_join!(
                self.property(name, SERVICE, "ExecMainStartTimestampMonotonic"),
                self.property(name, SERVICE, "ExecMainStartTimestamp"),
                self.property(name, UNIT, "StateChangeTimestampMonotonic"),
                self.property(name, UNIT, "StateChangeTimestamp"),
            )?;
            let time = |value| u64::try_from(value).map(Duration::from_micros);
            let started = (time(start)?, time(start_wall)?);
            let changed = (time(change)?, time(change_wall)?);
            Ok((!started.0.is_zero()).then_some(Instants { started, changed }))
        };
        self.runtime.block_on(times).map_err(|error: zbus::Error| Refusal::from(error).unknown(name))
    }

    /// The paths of the unit file and drop-ins that the manager has read.
    ///
    /// # Errors
    /// Where systemd does not answer.
    pub fn files(&self, name: &str) -> Result<Vec<String>, Error> {
        let paths = async {
            let (fragment, drop_ins) =
                tokio::try_join!(self.property(name, UNIT, "FragmentPath"), self.property(name, UNIT, "DropInPaths"),)?;
            let mut all = Vec::<String>::try_from(drop_ins)?;
            all.push(String::try_from(fragment)?);
            all.retain(|path| !path.is_empty());
            Ok(all)
        };
        self.runtime.block_on(paths).map_err(|error: zbus::Error| Refusal::from(error).unknown(name))
    }

    /// The path of the unit file that the manager has read; empty for a unit that has none.
    ///
    /// # Errors
    /// Where systemd does not answer.
    pub fn fragment(&self, name: &str) -> Result<String, Error> {
        let path = async { String::try_from(self.property(name, UNIT, "FragmentPath").await?) };
        self.runtime.block_on(path).map_err(|error: zbus::Error| Refusal::from(error).unknown(name))
    }
}

/// The interface of a unit that runs programs.
fn executing(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "service" => Some(SERVICE),
        "socket" => Some("org.freedesktop.systemd1.Socket"),
        "mount" => Some("org.freedesktop.systemd1.Mount"),
        "swap" => Some("org.freedesktop.systemd1.Swap"),
        _ => None,
    }
}

fn hexadecimal(id: OwnedVariant) -> zbus::Result<Option<String>> {
    let bytes: Vec<u8> = id.try_into()?;
    let run = bytes.iter().any(|&byte| byte != 0);
    Ok(run.then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;

    #[test]
    fn a_bus_that_takes_connections_and_says_nothing_is_not_waited_for_for_ever() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let socket = directory.path().join("bus");
        // The kernel takes the connection; nobody ever reads from it.
        let _silent = UnixListener::bind(&socket).expect("a socket");
        let address = format!("unix:path={}", socket.display());
        let (done, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let bus = async || Ok(zbus::connection::Builder::address(address.as_str()));
            drop(done.send(Bus::by(bus, Duration::from_millis(100)).map(drop)));
        });
        let end = ended.recv_timeout(Duration::from_secs(5)).expect("it ends");
        assert!(end.expect_err("no answer").to_string().contains("did not answer"));
    }

    fn refusal(name: &str) -> Refusal {
        Refusal { name: name.to_owned(), text: "so it is".to_owned() }
    }

    #[test]
    fn what_systemd_refuses_becomes_a_stable_word() {
        let word = |name, what| refusal(name).refused("a.service", what).reason();
        assert_eq!(word("org.freedesktop.systemd1.NoSuchUnit", "start"), "no-such-unit");
        assert_eq!(word("org.freedesktop.DBus.Error.FileNotFound", "enable"), "no-such-unit");
        assert_eq!(word("org.freedesktop.systemd1.UnitMasked", "start"), "masked");
        assert_eq!(word("org.freedesktop.systemd1.JobTypeNotApplicable", "reload"), "cannot-reload");
        assert_eq!(word("org.freedesktop.DBus.Error.FileExists", "mask"), "unit-file-in-the-way");
        assert_eq!(word("org.freedesktop.DBus.Error.FileExists", "enable"), "unit-failed");
    }

    #[test]
    fn a_call_that_failed_tells_in_one_line() {
        let error = Refusal::from(zbus::Error::Failure("two\nlines".to_owned())).unknown("a.service");
        assert_eq!(error.reason(), "cannot-tell");
        assert!(error.to_string().contains("two\\nlines"), "{error}");
    }
}
