use std::collections::BTreeMap;

use super::deep::{NoStack, deep};
use super::expr::Scope;
use super::layers::{Layers, resolve};
use super::merge::{contradiction, settle};
use super::vars::{self, Contradiction};
use super::work::{RESOURCE_LIMIT, Work};
use super::{Desired, Secrets, checks, facts, files, packages, units};
use crate::host::Payloads;
use crate::manifest::{Problem, Vars, nearest};
use crate::model::{Facts, one_line};
use crate::source::Snapshot;

/// What compiling may do, besides what the repository says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Whether the repository may set setuid, setgid and sticky bits (`setid` of the agent's own `[policy]`).
    pub setid: bool,
    /// Whether the facts are those of this very host, so that `[facts]` must agree with them.
    pub on_host: bool,
    /// What to do about secrets.
    pub secrets: Secrets<'a>,
}

/// One host, compiled.
#[derive(Debug)]
pub struct Compiled {
    /// What is wanted.
    pub desired: Desired,
    /// The content of every file in `desired`.
    pub payloads: Payloads,
    /// What is worth saying, though nothing is wrong.
    pub notes: Vec<Problem>,
    /// The machine that this host must be, where the repository says so.
    pub machine_id: Option<String>,
    /// The roles that it has, in their order.
    pub roles: Vec<String>,
}

/// Compiles `host`, whole or not at all. Every layer that [`super::missing_layers`] names must have been read.
///
/// # Errors
/// Every problem found, notes among them; one at least is an error.
pub fn compile(
    snapshot: &Snapshot,
    host: &str,
    facts: &Facts,
    options: &Options<'_>,
) -> Result<Compiled, Vec<Problem>> {
    // Once for all conditions and templates; where there is none they each tell so.
    deep(|| whole(snapshot, host, facts, options)).unwrap_or_else(|NoStack| whole(snapshot, host, facts, options))
}

fn whole(snapshot: &Snapshot, host: &str, facts: &Facts, options: &Options<'_>) -> Result<Compiled, Vec<Problem>> {
    if let Some(problem) = no_such_host(snapshot, host) {
        return Err(vec![problem]);
    }
    let mut problems = Vec::new();
    let Some(resolved) = resolve(snapshot, host, facts, &mut problems) else { return Err(problems) };
    let layers = &resolved.layers;
    if !resolved.whole {
        // What could not be read may be what everything else refers to, so the rest would be told wrongly.
        Problem::order(&mut problems);
        return Err(problems);
    }
    problems.append(&mut facts::wrong(layers, snapshot, options.on_host.then_some(facts)));
    let roles = layers.roles();
    let vars = merged_vars(snapshot, layers, &mut problems);
    let scope = Scope::for_resources(&vars, host, &roles, facts);
    let mut work = Work {
        snapshot,
        layers,
        scope: &scope,
        facts,
        setid: options.setid,
        secrets: options.secrets,
        problems,
        resources: BTreeMap::new(),
        payloads: Payloads::new(),
        content: 0,
        policies: BTreeMap::new(),
    };
    let files = files::compile(&mut work);
    packages::compile(&mut work);
    units::compile(&mut work, &files);
    let checks = checks::compile(&mut work);
    let all: Vec<usize> = (0..layers.0.len()).collect();
    let update = work.of_policies(&all, "update", |policy| policy.update.as_ref(), ToString::to_string);
    let max_removals = max_removals(&mut work);
    bounded(&mut work, host);
    let Work { mut problems, resources, payloads, .. } = work;
    Problem::order(&mut problems);
    if problems.iter().any(Problem::is_error) {
        return Err(problems);
    }
    let own = &layers.0[layers.0.len() - 1].layer;
    Ok(Compiled {
        desired: Desired { host: host.to_owned(), resources, update, max_removals, checks, unlisted: BTreeMap::new() },
        payloads,
        notes: problems,
        machine_id: own.machine_id.as_ref().map(|id| id.value.clone()),
        roles,
    })
}

fn no_such_host(snapshot: &Snapshot, host: &str) -> Option<Problem> {
    let path = format!("hosts/{host}");
    if !snapshot.hosts.contains(host) {
        let problem = Problem::error(path, None, format!("there is no host `{}`", one_line(host, 100)));
        return Some(match nearest(host, snapshot.hosts.iter().map(String::as_str)) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint("a host is a directory below hosts/"),
        });
    }
    if host.to_lowercase() != host {
        let problem = Problem::error(path, None, format!("no host is ever called `{}`", one_line(host, 100)));
        return Some(problem.hint(format!("names of hosts are lower case: hosts/{}", host.to_lowercase())));
    }
    None
}

fn merged_vars(snapshot: &Snapshot, layers: &Layers, problems: &mut Vec<Problem>) -> Vars {
    let mut contradictions = Vec::new();
    let vars = vars::merge(layers, &mut contradictions);
    for Contradiction { name, one, other } in contradictions {
        let what = format!("`{}`", one_line(&name, 100));
        problems.push(contradiction(&what, (&one, &one.value), (&other, &other.value), layers, snapshot));
    }
    vars
}

fn max_removals(work: &mut Work<'_>) -> Option<u64> {
    let layers = work.layers;
    let said = layers.0.iter().enumerate();
    let claims = said.filter_map(|(layer, here)| work.claim(layer, here.layer.max_removals.as_ref())).collect();
    match settle(claims, "`max_removals` of [guard]", ToString::to_string, layers, work.snapshot) {
        Ok(claim) => claim.map(|claim| claim.value),
        Err(problem) => {
            work.problems.push(problem);
            None
        }
    }
}

fn bounded(work: &mut Work<'_>, host: &str) {
    let count = work.resources.len();
    if count > RESOURCE_LIMIT {
        let message = format!("a host has at most {RESOURCE_LIMIT} resources; this one has {count}");
        work.problems.push(Problem::error(format!("hosts/{host}"), None, message));
    }
}
