//! Jobs of systemd's queue: asked for in a batch, then waited for together.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::{self, Instant, MissedTickBehavior};

use super::{AT_ONCE, Bus, MANAGER, Refusal, SERVICE, UNIT, proxy};
use crate::host::{Error, Reader, Writer};

/// What jobs are given at least, and at most, whatever the units say: systemd's own default is 90 s.
const AT_LEAST: Duration = Duration::from_secs(90);
const AT_MOST: Duration = Duration::from_secs(600);
/// systemd's own time-out should strike first: it knows why.
const GRACE: Duration = Duration::from_secs(10);

/// Every name got the same answer: none.
pub(super) fn nobody(names: &[&str], what: &'static str, why: &str) -> Vec<Result<(), Error>> {
    let error = |name: &&str| Err(Error::Unit { thing: format!("unit:{name}"), what, why: why.to_owned() });
    names.iter().map(error).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Start,
    Stop,
    Restart,
    Reload,
}

impl Doing {
    fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }

    fn progress(self) -> &'static str {
        match self {
            Self::Start => "starting",
            Self::Stop => "stopping",
            Self::Restart => "restarting",
            Self::Reload => "reloading",
        }
    }
}

/// How one name's job ended, as far as the queue tells.
enum End {
    /// systemd would not queue it.
    Refused(Refusal),
    /// `done`, `failed`, `timeout`…, see `JobRemoved` in org.freedesktop.systemd1(5).
    Job(String),
    /// It had not ended by the deadline.
    Late,
    /// The bus went away while it was waited for.
    Lost,
}

impl Writer {
    /// Starts each unit and waits until it is up, or a oneshot has run.
    pub fn start_units(&mut self, names: &[&str]) -> Vec<Result<(), Error>> {
        self.jobs(Doing::Start, names)
    }

    /// Stops each unit and waits until it is down.
    pub fn stop_units(&mut self, names: &[&str]) -> Vec<Result<(), Error>> {
        self.jobs(Doing::Stop, names)
    }

    /// Restarts each unit that is active; one that is not stays so.
    pub fn restart_units(&mut self, names: &[&str]) -> Vec<Result<(), Error>> {
        self.jobs(Doing::Restart, names)
    }

    /// Makes each unit read its configuration again.
    pub fn reload_units(&mut self, names: &[&str]) -> Vec<Result<(), Error>> {
        self.jobs(Doing::Reload, names)
    }

    /// Lets the lock go, then starts the units of `start`, one after the other, and makes those of `reload` read their
    /// configuration again: for units that take the lock themselves.
    pub fn hand_over(self, start: &[&str], reload: &[&str]) -> Vec<Result<(), Error>> {
        let Self { reader, _lock: lock, .. } = self;
        drop(lock);
        let mut results: Vec<_> = start.iter().flat_map(|name| reader.jobs(Doing::Start, &[name])).collect();
        results.extend(reader.jobs(Doing::Reload, reload));
        results
    }
}

impl Reader {
    /// For a [`Writer`], or what was one until just now.
    fn jobs(&self, doing: Doing, names: &[&str]) -> Vec<Result<(), Error>> {
        if names.is_empty() {
            return Vec::new();
        }
        let bus = match self.bus() {
            Ok(bus) => bus,
            Err(error) => return nobody(names, doing.word(), &error.to_string()),
        };
        let tell = |line: &str| self.say(line);
        bus.runtime.block_on(async {
            let limit = bus.time_limit(names).await;
            match bus.run_jobs(doing, names, limit, &tell).await {
                Ok(ends) => {
                    let mut results = Vec::with_capacity(names.len());
                    for (name, end) in names.iter().zip(ends) {
                        results.push(bus.result(doing, name, end, limit).await);
                    }
                    results
                }
                Err(error) => nobody(names, doing.word(), &Refusal::from(error).text),
            }
        })
    }
}

impl Bus {
    /// How long jobs of these units may take together: what the slowest allows itself, within bounds.
    async fn time_limit(&self, names: &[&str]) -> Duration {
        let manager = async |name| {
            let reply = self
                .connection
                .call_method(
                    Some("org.freedesktop.systemd1"),
                    "/org/freedesktop/systemd1",
                    Some("org.freedesktop.DBus.Properties"),
                    "Get",
                    &(MANAGER, name),
                )
                .await
                .ok()?;
            u64::try_from(reply.body().deserialize::<zbus::OwnedVariant>().ok()?).ok()
        };
        let mut longest = manager("DefaultTimeoutStartUSec").await.unwrap_or(0);
        for name in names.iter().filter(|name| name.ends_with(".service")) {
            let span = async |name, property| match self.property(name, SERVICE, property).await {
                Ok(value) => u64::try_from(value).unwrap_or(0),
                Err(_) => 0,
            };
            // Stop and start, since a restart is both; infinity is the greatest number.
            let both = span(name, "TimeoutStartUSec").await.saturating_add(span(name, "TimeoutStopUSec").await);
            longest = longest.max(both);
        }
        Duration::from_micros(longest).saturating_add(GRACE).clamp(AT_LEAST, AT_MOST)
    }

    /// Queues a job for every name, then waits until each has ended.
    async fn run_jobs(
        &self,
        doing: Doing,
        names: &[&str],
        limit: Duration,
        tell: &dyn Fn(&str),
    ) -> zbus::Result<Vec<End>> {
        // Listening comes first: a job may end before its call is answered.
        let mut removed = self.manager.receive_job_removed().await?;
        // Twice does no harm, systemd counts a client once.
        drop(self.manager.subscribe().await);

        let calls =
            names.iter().enumerate().map(|(i, name)| async move { (i, queue(&self.manager, doing, name).await) });
        let mut calls = pin!(stream::iter(calls).buffer_unordered(AT_ONCE));
        let mut unanswered = names.len();
        let mut ends: Vec<Option<End>> = names.iter().map(|_| None).collect();
        // Two names of one unit share a job.
        let mut open: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut ended: BTreeMap<String, String> = BTreeMap::new();
        let began = Instant::now();
        let mut tick = time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);

        while unanswered > 0 || !open.is_empty() {
            // Answers and signals are taken as they come: a full queue of one would hold up the other.
            tokio::select! {
                Some((i, answer)) = calls.next(), if unanswered > 0 => {
                    unanswered -= 1;
                    match answer {
                        Ok(job) => match ended.get(job.as_str()) {
                            Some(result) => ends[i] = Some(End::Job(result.clone())),
                            None => open.entry(job.as_str().to_owned()).or_default().push(i),
                        },
                        Err(error) => ends[i] = Some(End::Refused(error.into())),
                    }
                }
                signal = removed.next() => {
                    let Some(signal) = signal else { return Ok(rest(ends, || End::Lost)) };
                    let Ok(args) = signal.args() else { continue };
                    for i in open.remove(args.job().as_str()).into_iter().flatten() {
                        ends[i] = Some(End::Job((*args.result()).to_owned()));
                    }
                    ended.insert(args.job().as_str().to_owned(), (*args.result()).to_owned());
                }
                _ = tick.tick() => {
                    let seconds = began.elapsed().as_secs();
                    if seconds > 0 {
                        let waiting: Vec<&str> =
                            names.iter().zip(&ends).filter(|(_, end)| end.is_none()).map(|(name, _)| *name).collect();
                        let state = self.state(waiting.first()).await;
                        tell(&progress(doing, &waiting, &state, seconds));
                    }
                }
                () = time::sleep_until(began + limit) => return Ok(rest(ends, || End::Late)),
            }
        }
        Ok(rest(ends, || End::Lost))
    }

    /// How a unit that is waited for is, in systemd's words; empty where that is not to be told.
    async fn state(&self, name: Option<&&str>) -> String {
        let Some(name) = name else { return String::new() };
        let row = self.manager.list_units_by_names(&[name]).await.ok().and_then(|rows| rows.into_iter().next());
        row.map(|row| format!("{} {}", row.3, row.4)).unwrap_or_default()
    }

    async fn result(&self, doing: Doing, name: &str, end: End, limit: Duration) -> Result<(), Error> {
        let failed = |why: String| Err(Error::Unit { thing: format!("unit:{name}"), what: doing.word(), why });
        match end {
            // What is not there does not run.
            End::Refused(refusal) if doing == Doing::Stop && refusal.is_missing() => Ok(()),
            End::Refused(refusal) => Err(refusal.refused(name, doing.word())),
            End::Late => failed(format!(
                "not done after {} s; systemd goes on with it, see systemctl status {name}",
                limit.as_secs()
            )),
            End::Lost => failed("the bus went away before it was done".to_owned()),
            // A reload of what is not active is skipped.
            End::Job(result) if result == "done" || result == "skipped" => Ok(()),
            End::Job(result) => {
                let cause = self.cause(name).await.unwrap_or_default();
                failed(job_failure(name, &result, &cause))
            }
        }
    }

    /// Why the unit is down, in systemd's own word: `exit-code`, `signal`, `timeout`, or its sub state.
    async fn cause(&self, name: &str) -> zbus::Result<String> {
        let interface = match name.rsplit_once('.').map(|(_, suffix)| suffix) {
            Some("service") => SERVICE,
            Some("socket") => "org.freedesktop.systemd1.Socket",
            Some("mount") => "org.freedesktop.systemd1.Mount",
            Some("timer") => "org.freedesktop.systemd1.Timer",
            _ => "",
        };
        if !interface.is_empty() {
            let result = String::try_from(self.property(name, interface, "Result").await?)?;
            if result != "success" {
                return Ok(result);
            }
        }
        String::try_from(self.property(name, UNIT, "SubState").await?)
    }
}

async fn queue(
    manager: &proxy::ManagerProxy<'static>,
    doing: Doing,
    name: &str,
) -> zbus::Result<zbus::OwnedObjectPath> {
    match doing {
        Doing::Start => manager.start_unit(name, "replace").await,
        Doing::Stop => manager.stop_unit(name, "replace").await,
        Doing::Restart => manager.try_restart_unit(name, "replace").await,
        Doing::Reload => manager.reload_unit(name, "replace").await,
    }
}

fn rest(ends: Vec<Option<End>>, missing: impl Fn() -> End) -> Vec<End> {
    ends.into_iter().map(|end| end.unwrap_or_else(&missing)).collect()
}

/// `state` is that of the first of those that are waited for.
fn progress(doing: Doing, waiting: &[&str], state: &str, seconds: u64) -> String {
    let word = doing.progress();
    let state = if state.is_empty() { String::new() } else { format!("{state}, ") };
    match waiting {
        [one] => format!("{word} {one} ({state}{seconds} s)"),
        [first, more @ ..] => format!("{word} {first} and {} more ({state}{seconds} s)", more.len()),
        [] => format!("{word} ({seconds} s)"),
    }
}

/// What a job's result means; the words are those of `JobRemoved` in org.freedesktop.systemd1(5).
fn job_failure(name: &str, result: &str, cause: &str) -> String {
    let what = match result {
        "failed" if cause.is_empty() => "it failed".to_owned(),
        "failed" => format!("it failed ({cause})"),
        "dependency" => "a unit that it requires failed".to_owned(),
        "timeout" => "systemd's time-out for it passed".to_owned(),
        "canceled" => "another job took its place".to_owned(),
        "assert" => "an assertion of the unit does not hold".to_owned(),
        "unsupported" => "this kind of unit is not supported here".to_owned(),
        other => format!("its job ended as {other}"),
    };
    format!("{what}; see journalctl -u {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_job_tells_why_and_where_to_look() {
        assert_eq!(
            job_failure("a.service", "failed", "exit-code"),
            "it failed (exit-code); see journalctl -u a.service"
        );
        assert_eq!(
            job_failure("a.service", "dependency", "dead"),
            "a unit that it requires failed; see journalctl -u a.service"
        );
    }

    #[test]
    fn progress_stays_one_short_line() {
        assert_eq!(
            progress(Doing::Start, &["a.service"], "activating start-pre", 3),
            "starting a.service (activating start-pre, 3 s)"
        );
        assert_eq!(
            progress(Doing::Stop, &["a.service", "b.timer", "c.socket"], "", 4),
            "stopping a.service and 2 more (4 s)"
        );
    }
}
