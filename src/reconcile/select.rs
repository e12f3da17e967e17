//! From a commit to what it wants of this host, reading no other host's layers.

use super::Ask;
use super::stop::stop;
use crate::compile::{self, Compiled, Options, Secrets};
use crate::host::Reader;
use crate::manifest::{self, Problem, Text};
use crate::model::{Class, Facts, Stage, Stop, one_line};
use crate::report::Report;
use crate::source::{Origin, Snapshot, SourceError};

/// Selects this host, reads its layers and no others, and compiles them, whole or not at all.
pub(super) fn compile_host(
    origin: &mut Origin,
    ask: &Ask,
    host: &Reader,
    facts: &Facts,
    report: &mut Report,
) -> Result<Compiled, Stop> {
    let source = |error: SourceError| stop(Stage::Fetch, &error);
    let mut snapshot = origin.snapshot().map_err(source)?;
    let place = place(origin, ask);
    if !snapshot.entries.contains_key("trueup.toml") {
        let message = format!("there is no trueup.toml in {place}; is source.path (or --path) right?");
        return Err(stalled("not-a-fleet", &message));
    }
    let setting = ask.settings.host.name.as_deref();
    let Some(name) = compile::select(&snapshot.hosts, setting, facts).map(ToOwned::to_owned) else {
        let tried = compile::names_tried(setting, facts).join(", ");
        let tried =
            if tried.is_empty() { "this host has no name".to_owned() } else { format!("looked for hosts/{tried}") };
        let message =
            format!("{place} has no directory for this host ({tried}); nothing is applied, nothing is removed");
        return Err(stalled("no-such-host", &message));
    };
    report.host = Some(name.clone());
    read_host(origin, &mut snapshot, &name).map_err(source)?;
    let known = known_facts(host, &snapshot, &name, facts);
    let keys = host.keyring();
    let secrets = Secrets::Opened(&*keys);
    let options = Options { setid: ask.settings.policy.setid, on_host: host.is_machine(), secrets };
    let compiled = compile::compile(&snapshot, &name, &known, &options).map_err(|problems| {
        report.problems = manifest::render(&problems, manifest::text_of(&snapshot), false);
        refuse(&problems, manifest::text_of(&snapshot))
    })?;
    report.notes.extend(noted(&compiled));
    if let (Some(pin), Some(own), true) = (&compiled.machine_id, &facts.machine_id, host.is_machine())
        && pin != own
    {
        let message =
            format!("hosts/{name} is pinned to machine id {pin}, and this machine's is {own}; nothing is applied");
        return Err(stalled("other-machine", &message));
    }
    Ok(compiled)
}

/// What compiling told, for people.
pub(super) fn noted(compiled: &Compiled) -> impl Iterator<Item = String> {
    compiled.notes.iter().map(|note| format!("{}: {}", note.path, note.message))
}

/// What is compiled, for people: a revision, or a directory.
fn place(origin: &Origin, ask: &Ask) -> String {
    let below = ask.settings.source.as_ref().map_or("", |source| source.path.as_str());
    match (&origin.revision().commit, &ask.local) {
        (None, Some(path)) if below.is_empty() => format!("the directory {}", path.display()),
        (None, Some(path)) => format!("the directory {}", path.join(below).display()),
        _ if below.is_empty() => format!("revision {}", origin.revision().short()),
        _ => format!("{below}/ of revision {}", origin.revision().short()),
    }
}

fn stalled(reason: &str, message: &str) -> Stop {
    let (stage, class) = (Stage::Compile, Class::Stalled);
    Stop { stage, class, reason: reason.to_owned(), message: one_line(message, 1000) }
}

/// Reads the layers of `host` into `snapshot`, and no others.
///
/// # Errors
/// Where a layer cannot be read.
pub fn read_host(origin: &mut Origin, snapshot: &mut Snapshot, host: &str) -> Result<(), SourceError> {
    loop {
        let missing = compile::missing_layers(snapshot, host);
        if missing.is_empty() {
            return Ok(());
        }
        origin.read_layers(snapshot, &missing)?;
    }
}

/// `facts` of this machine; those that a directory cannot tell are what the repository assumes of `name`.
pub fn known_facts(host: &Reader, snapshot: &Snapshot, name: &str, facts: &Facts) -> Facts {
    let mut known = facts.clone();
    if !host.is_machine() {
        complete(&mut known, compile::assumed_facts(snapshot, name));
    }
    known
}

fn complete(facts: &mut Facts, assumed: Facts) {
    facts.os = facts.os.take().or(assumed.os);
    facts.arch = facts.arch.take().or(assumed.arch);
    facts.hostname = facts.hostname.take().or(assumed.hostname);
    facts.fqdn = facts.fqdn.take().or(assumed.fqdn);
    facts.machine_id = facts.machine_id.take().or(assumed.machine_id);
    facts.cpus = facts.cpus.or(assumed.cpus);
    facts.memory_mib = facts.memory_mib.or(assumed.memory_mib);
}

fn refuse(problems: &[Problem], text_of: impl Fn(&str) -> Option<Text<'static>>) -> Stop {
    let errors: Vec<&Problem> = problems.iter().filter(|problem| problem.is_error()).collect();
    // What is told is what the word is about.
    let told = errors.iter().find(|problem| problem.reason.is_some()).or(errors.first());
    let reason = told.and_then(|problem| problem.reason).unwrap_or("compile-error");
    let line = |problem: &Problem| Some(format!(":{}", text_of(&problem.path)?.position(problem.span.as_ref()?).0));
    let first = told.map_or_else(String::new, |problem| {
        format!(": {}{}: {}", problem.path, line(problem).unwrap_or_default(), problem.message)
    });
    let more = match errors.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    stalled(reason, &format!("the revision does not compile for this host{first}{more}"))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn the_word_and_the_message_are_of_one_problem() {
        let refuse = |problems: &[Problem]| refuse(problems, |_| Some(Cow::from("a = 1\nb = 2\n").into()));
        let plain = Problem::error("a.toml", Some(6..7), "unknown key");
        let worded = Problem::error("b.toml", None, "setuid is not allowed").reason("setid");
        let note = Problem::note("0.toml", None, "a note").reason("no-word");
        let stop = refuse(&[note, plain.clone(), worded]);
        assert_eq!(stop.reason, "setid");
        assert_eq!(
            stop.message,
            "the revision does not compile for this host: b.toml: setuid is not allowed (and 1 more)"
        );
        let stop = refuse(&[plain]);
        assert_eq!(stop.reason, "compile-error");
        assert_eq!(stop.message, "the revision does not compile for this host: a.toml:2: unknown key");
    }
}
