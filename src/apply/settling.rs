//! Looking at what has to come up and stay so, as [`Watch`] asks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use super::vital::{self, Vital};
use super::watch::{Kind, Look, Watch};
use crate::compile::{Check, Desired, Probe};
use crate::host::{Error, Program, Reader, Worker};
use crate::kinds::unit::Active;
use crate::kinds::{self, Observed, Spec};
use crate::model::{Id, one_line};
use crate::worker::Question;

/// How long between two looks.
const PACE: Duration = Duration::from_secs(1);
/// How soon an end that somebody asks for is noticed meanwhile.
const NOTICE: Duration = Duration::from_millis(100);
/// How often what holds is asked again.
const EACH: Duration = Duration::from_secs(5);
/// How long the end of a program may take beyond its own limit.
const GRACE: Duration = Duration::from_secs(5);

/// Something that has to come up and stay so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thing {
    /// A unit that must be active.
    Unit(String),
    /// A check.
    Check(String),
    /// What this host cannot do without.
    Vital(Vital),
}

/// What looking takes.
pub struct Eyes<'a> {
    /// The machine.
    pub host: &'a Reader,
    /// How what speaks to the network is started.
    pub worker: &'a Worker,
    /// What is wanted.
    pub desired: &'a Desired,
    /// Where the sources are connected to.
    pub endpoints: &'a [(String, u16)],
    /// The default gateway itself answered before.
    pub gateway_answered: bool,
    /// Whether our own settings can be used, or why not.
    pub settings: &'a dyn Fn() -> Result<(), String>,
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unit(name) => f.write_str(name),
            Self::Check(name) => write!(f, "the check {name}"),
            Self::Vital(vital) => vital.fmt(f),
        }
    }
}

/// The units that must be active, the checks, and what no host can do without.
pub fn things(desired: &Desired) -> BTreeSet<Thing> {
    let units = desired.resources.iter().filter(|(_, wanted)| {
        matches!(&wanted.spec, Spec::Unit(unit) if unit.active == Some(true) && unit.masked != Some(true))
    });
    let units = units.map(|(id, _)| Thing::Unit(id.name().to_owned()));
    let checks = desired.checks.keys().cloned().map(Thing::Check);
    units.chain(checks).chain(Vital::ALL.map(Thing::Vital)).collect()
}

/// How each of `things` is right now; `None` where somebody asks for an end.
pub fn look(eyes: &Eyes<'_>, things: &[&Thing]) -> Option<Vec<Look>> {
    let Eyes { host, worker, desired, .. } = eyes;
    let units: Vec<Id> = things.iter().filter_map(|thing| unit_id(thing)).collect();
    let mut units = kinds::observe(host, &units.iter().collect::<Vec<_>>()).into_iter();
    let checks: Vec<&Check> = things
        .iter()
        .filter_map(|thing| match thing {
            Thing::Check(name) => desired.checks.get(name),
            Thing::Unit(_) | Thing::Vital(_) => None,
        })
        .collect();
    let mut checks = ask(host, worker, &checks)?.into_iter();
    let nothing = || Look::Down("nobody asks it any more".to_owned());
    let mut looks = Vec::new();
    for thing in things {
        looks.push(match thing {
            Thing::Unit(_) => match units.next() {
                Some(Err(error)) if error.reason() == "interrupted" => return None,
                Some(seen) => unit(seen),
                None => nothing(),
            },
            Thing::Check(name) if desired.checks.contains_key(name) => checks.next().unwrap_or_else(nothing),
            Thing::Check(_) => nothing(),
            Thing::Vital(vital) => vital::look(eyes, *vital)?,
        });
    }
    Some(looks)
}

fn unit_id(thing: &Thing) -> Option<Id> {
    match thing {
        Thing::Unit(name) => Some(Id::new("unit", name)),
        Thing::Check(_) | Thing::Vital(_) => None,
    }
}

fn unit(seen: Result<Observed, Error>) -> Look {
    let seen = match seen {
        Ok(Observed::Unit(seen)) => seen,
        Ok(_) => return Look::Down("it is no unit".to_owned()),
        // Not to be told is not bad: it is looked at again.
        Err(error) => return Look::Coming(one_line(&error.chain(), 200)),
    };
    let word = seen.active.map_or("unknown", Active::as_str).to_owned();
    match seen.active {
        Some(Active::Active | Active::Reloading | Active::Refreshing) => match seen.fails {
            Some(_) => Look::Anew(seen.invocation),
            None => Look::Good(seen.invocation),
        },
        // A condition that does not hold keeps it down, as it is meant to.
        Some(Active::Inactive) if seen.condition_failed => Look::Good(seen.invocation),
        Some(Active::Activating) if seen.fails.is_some_and(|fails| !fails.anew) => {
            Look::Coming("it waits to be started anew".to_owned())
        }
        Some(Active::Activating) => Look::Coming(word),
        Some(Active::Failed) => Look::Failed(word),
        _ => Look::Down(word),
    }
}

fn ask(host: &Reader, worker: &Worker, checks: &[&Check]) -> Option<Vec<Look>> {
    let programs: Vec<Result<Program, Error>> = checks.iter().map(|check| program(worker, check)).collect();
    let runnable: Vec<Program> = programs.iter().filter_map(|program| program.as_ref().ok().cloned()).collect();
    if runnable.is_empty() && programs.is_empty() {
        return Some(Vec::new());
    }
    let mut answers = host.query_all(&runnable)?.into_iter();
    let look = |program: Result<Program, Error>| {
        let answer = program.and_then(|_| {
            answers.next().unwrap_or_else(|| {
                Err(Error::Unknown { thing: "a check".to_owned(), why: "nobody asked it".to_owned() })
            })
        });
        match answer {
            Ok(_) => Look::Good(None),
            Err(Error::Program { status, tail, .. }) if tail.is_empty() => Look::Down(status),
            Err(Error::Program { tail, .. }) => Look::Down(tail),
            Err(Error::TimeOut { after, .. }) => Look::Down(format!("no end within {} s", after.as_secs())),
            Err(error) => Look::Down(one_line(&error.chain(), 300)),
        }
    };
    Some(programs.into_iter().map(look).collect())
}

/// What asks: over the network a process behind the walls of the fetch worker, else a transient unit, systemd-run(1).
fn program(worker: &Worker, check: &Check) -> Result<Program, Error> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let timeout = check.timeout();
    let question = match &check.probe {
        Probe::Http(url) => Question::Http(url.clone()),
        Probe::Tcp(address) => Question::Tcp(address.clone()),
        Probe::Command { line, user } => {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let seconds = format!("{}ms", timeout.as_millis());
            let mut run = Program::new("systemd-run").args(["--quiet", "--collect", "--wait", "--pipe"]);
            run = run.arg(format!("--unit=trueup-check-{}-{number}", std::process::id()));
            run = run.arg("--description=Check of trueup");
            run = run.args(["-p", "Type=exec", "-p", "TimeoutStopSec=1", "-p"]).arg(format!("RuntimeMaxSec={seconds}"));
            if let Some(user) = user {
                run = run.arg("-p").arg(format!("User={user}"));
            }
            return Ok(run.command_of_unit(line.iter().map(String::as_str)).limit(timeout + GRACE));
        }
    };
    Ok(worker.program(&question.arguments(worker.user()?, timeout)).limit(timeout + GRACE))
}

/// Watches `things` until each is well for `settle`, or what `decides` is not; what is bad then, and why. `None` where
/// somebody asked for an end.
pub fn watch(eyes: &Eyes<'_>, things: &BTreeMap<Thing, bool>, settle: Duration) -> Option<Vec<(Thing, String)>> {
    let host = eyes.host;
    let all: Vec<&Thing> = things.keys().collect();
    let kind = |thing: &Thing| if matches!(thing, Thing::Unit(_)) { Kind::Unit } else { Kind::Check };
    let mut watch =
        Watch::new(settle, things.iter().map(|(thing, decides)| (thing.to_string(), kind(thing), *decides)));
    let begun = Instant::now();
    let each = EACH.min(settle / 3);
    let mut asked: Vec<Option<Instant>> = all.iter().map(|_| None).collect();
    while !watch.is_over() {
        let due: Vec<usize> = (0..all.len())
            .filter(|&at| {
                let rests = !matches!(all[at], Thing::Unit(_)) && watch.is_good(at);
                !rests || asked[at].is_none_or(|last: Instant| last.elapsed() >= each)
            })
            .collect();
        let looks = look(eyes, &due.iter().map(|&at| all[at]).collect::<Vec<_>>())?;
        for (at, look) in due.into_iter().zip(looks) {
            asked[at] = Some(Instant::now());
            watch.take(at, look, begun.elapsed());
        }
        if watch.is_over() {
            break;
        }
        host.say(&watch.waiting(begun.elapsed()));
        let next = Instant::now() + PACE.min(settle / 3);
        while Instant::now() < next {
            if host.interrupted() {
                return None;
            }
            thread::sleep(NOTICE.min(next.saturating_duration_since(Instant::now())));
        }
    }
    Some(watch.bad().into_iter().map(|(at, why)| (all[at].clone(), why)).collect())
}

/// The units among `names` that cannot do without one of `touched`.
pub fn depending(host: &Reader, names: &[&str], touched: &BTreeSet<String>) -> Vec<String> {
    let Ok(bus) = host.bus() else { return Vec::new() };
    let required = bus.required(names);
    let needs = |required: &Vec<String>| required.iter().any(|unit| touched.contains(unit));
    let found = names.iter().zip(required).filter(|(_, required)| required.as_ref().is_ok_and(needs));
    found.map(|(name, _)| (*name).to_owned()).collect()
}

/// The last that `unit` said, escaped and bounded; nothing where that cannot be told.
pub fn last_words(host: &Reader, unit: &str) -> String {
    const BOUND: usize = 300;
    let journal = Program::new("journalctl").args(["--no-pager", "--quiet", "--boot", "--output=cat", "--lines=3"]);
    let said = |field: String| {
        let output = host.query(&journal.clone().arg(field).limit(Duration::from_secs(20))).ok()?;
        let text = output.text();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        (!lines.is_empty()).then(|| one_line(&lines[lines.len().saturating_sub(3)..].join("; "), BOUND))
    };
    said(format!("_SYSTEMD_UNIT={unit}")).or_else(|| said(format!("UNIT={unit}"))).unwrap_or_default()
}
