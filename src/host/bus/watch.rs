//! Changes of units, as they happen: hints to look, never the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::stream::{self, SelectAll, StreamExt};
use tokio::time;
use zbus::proxy::CacheProperties;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedVariant};

use super::{AT_ONCE, Error, Refusal, UNIT, proxy};

/// Of more units than this changes are found by the look at the interval alone: each costs dbus-daemon(1) a rule
/// (`max_match_rules_per_connection`), and each look at what changed costs all of them.
const MOST: usize = 256;
/// How long the bus may take to note what is watched.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells when a watched unit becomes something else than it was, and when unit files are enabled or disabled.
///
/// Belongs to the thread, and the tokio runtime, that made it.
#[derive(Debug)]
pub struct UnitWatch {
    connection: Connection,
    manager: proxy::ManagerProxy<'static>,
    units: BTreeSet<String>,
    /// Those that systemd does not drop though they do not run: each look at one would make it read its files anew.
    held: BTreeSet<String>,
    signals: SelectAll<MessageStream>,
    /// `ActiveState` as it was told last, by object path.
    states: BTreeMap<String, String>,
}

impl UnitWatch {
    /// One that watches nothing yet.
    ///
    /// # Errors
    /// Where there is no bus to reach, or systemd is not on it.
    pub async fn connect() -> Result<Self, Error> {
        let connect = async {
            let connection = zbus::connection::Builder::system().method_timeout(PATIENCE).build().await?;
            // Without a subscriber systemd sends no signals of units.
            let manager =
                proxy::ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
            manager.subscribe().await?;
            Ok((connection, manager))
        };
        let (connection, manager) = bounded(connect).await?;
        let (units, held) = (BTreeSet::new(), BTreeSet::new());
        Ok(Self { connection, manager, units, held, signals: SelectAll::new(), states: BTreeMap::new() })
    }

    /// Watches these units from now on, and no others.
    ///
    /// # Errors
    /// Where the bus does not take it; what was watched before is then not watched any more.
    pub async fn watch(&mut self, units: BTreeSet<String>) -> Result<(), Error> {
        if self.units == units {
            return Ok(());
        }
        self.signals.clear();
        self.states.clear();
        self.units.clear();
        let held = async {
            self.hold(&units).await;
            Ok(())
        };
        bounded(held).await?;
        if units.is_empty() {
            return Ok(());
        }
        let connection = &self.connection;
        let add = async {
            let mut signals = SelectAll::new();
            let files = rule("/org/freedesktop/systemd1", super::MANAGER, "UnitFilesChanged")?;
            signals.push(MessageStream::for_match_rule(files, connection, None).await?);
            for unit in units.iter().take(MOST) {
                let path = proxy::unit_path(unit);
                let changed = rule(&path, "org.freedesktop.DBus.Properties", "PropertiesChanged")?;
                signals.push(MessageStream::for_match_rule(changed, connection, None).await?);
            }
            Ok(signals)
        };
        self.signals = bounded(add).await?;
        self.units = units;
        Ok(())
    }

    /// Makes systemd keep these of its units, and no others, for as long as this is connected. What it has no such unit of,
    /// a template, is not held.
    async fn hold(&mut self, units: &BTreeSet<String>) {
        let Self { manager, held, .. } = self;
        let gone: Vec<String> = held.difference(units).cloned().collect();
        let let_go = gone.iter().map(|unit| manager.unref_unit(unit));
        stream::iter(let_go).buffer_unordered(AT_ONCE).for_each(async |_| ()).await;
        held.retain(|unit| units.contains(unit));
        let new: Vec<String> = units.difference(held).cloned().collect();
        let take = new.into_iter().map(async |unit| manager.ref_unit(&unit).await.is_ok().then_some(unit));
        let taken: Vec<Option<String>> = stream::iter(take).buffer_unordered(AT_ONCE).collect().await;
        held.extend(taken.into_iter().flatten());
    }

    /// How many of them are not watched.
    pub fn left_out(&self) -> usize {
        self.units.len().saturating_sub(MOST)
    }

    /// Waits until something changed; false where the bus is gone, and nothing will be told any more.
    pub async fn changed(&mut self) -> bool {
        if self.units.is_empty() {
            return std::future::pending().await;
        }
        loop {
            match self.signals.next().await {
                Some(Ok(message)) if self.is_news(&message) => return true,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            }
        }
    }

    /// systemd tells a unit's properties whenever it touches it; only what it has become is of interest.
    fn is_news(&mut self, message: &Message) -> bool {
        let header = message.header();
        if header.member().is_none_or(|member| member.as_str() != "PropertiesChanged") {
            return true;
        }
        let path = header.path().map(ToString::to_string).unwrap_or_default();
        let body = message.body();
        let Ok((interface, changed, _)) = body.deserialize::<(String, BTreeMap<String, OwnedVariant>, Vec<String>)>()
        else {
            return true;
        };
        let state = changed.get("ActiveState").and_then(|state| String::try_from(state.clone()).ok());
        match state.filter(|_| interface == UNIT) {
            Some(state) => {
                self.states.get(&path) != Some(&state) && {
                    self.states.insert(path, state);
                    true
                }
            }
            None => false,
        }
    }
}

fn rule<'r>(path: &'r str, interface: &'r str, member: &'r str) -> zbus::Result<MatchRule<'r>> {
    let rule = MatchRule::builder().msg_type(zbus::message::Type::Signal).sender("org.freedesktop.systemd1");
    rule.path(path).interface(interface).member(member).build()
}

async fn bounded<T>(what: impl Future<Output = zbus::Result<T>>) -> Result<T, Error> {
    let unknown = |why: String| Error::Unknown { thing: "systemd on the system bus".to_owned(), why };
    match time::timeout(PATIENCE, what).await {
        Ok(done) => done.map_err(|error| unknown(Refusal::from(error).text)),
        Err(_) => Err(unknown(format!("it did not answer within {} s", PATIENCE.as_secs()))),
    }
}
