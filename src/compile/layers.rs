//! Which layers a host is made of, and which of two may overrule the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use super::expr::Scope;
use super::vars;
use crate::manifest::{
    At, Fleet, Include, Layer, LayerKind, MANIFEST_LIMIT, Problem, nearest, parse_fleet, parse_layer,
};
use crate::model::{Facts, one_line};
use crate::secret::Recipient;
use crate::source::{Entry, Snapshot};

/// The most roles between a host and the deepest of them.
pub(super) const DEPTH_LIMIT: usize = 32;

/// The manifest at the root of the fleet repository.
pub(super) const FLEET: &str = "trueup.toml";

/// One layer of the host at hand.
#[derive(Debug)]
pub(super) struct Here {
    /// Its directory, `roles/web`; for the fleet itself `trueup.toml`.
    pub name: String,
    /// The path of its manifest, which need not exist.
    pub manifest: String,
    /// What the manifest says.
    pub layer: Layer,
    /// Every layer below it, by index, whether it includes it itself or through others.
    pub includes: BTreeSet<usize>,
}

/// The layers of one host: the fleet first, then depth first, each once, the host last.
#[derive(Debug)]
pub(super) struct Layers(pub Vec<Here>);

impl Layers {
    /// Whether what `above` says overrules what `below` says.
    pub fn overrules(&self, above: usize, below: usize) -> bool {
        self.0[above].includes.contains(&below)
    }

    /// The names of the roles, in order.
    pub fn roles(&self) -> Vec<String> {
        self.0.iter().filter_map(|here| here.name.strip_prefix("roles/")).map(str::to_owned).collect()
    }
}

/// The directories of layers that have to be read before `host` can be compiled; empty when all are there. Roles
/// that do not exist are not asked for, conditions are not judged yet.
pub fn missing_layers(snapshot: &Snapshot, host: &str) -> Vec<String> {
    // What is wrong with those that are there is told where they are resolved.
    let all = layers_of(snapshot, host, &mut Vec::new());
    all.into_iter().filter(|name| !snapshot.layers.contains(name)).collect()
}

/// The directories of all layers that `host` may be made of, whatever the conditions, of those that were read; and what is
/// wrong with their manifests, for it may hide one.
pub(super) fn reachable(snapshot: &Snapshot, host: &str, problems: &mut Vec<Problem>) -> BTreeSet<String> {
    layers_of(snapshot, host, problems).into_iter().collect()
}

/// The keys that `trueup.toml` names; and what is wrong with it, for it may hide one.
pub(super) fn fleet_recipients(snapshot: &Snapshot, problems: &mut Vec<Problem>) -> Vec<At<Recipient>> {
    match text_of(snapshot, FLEET) {
        Ok(text) => {
            let (fleet, mut found, _) = parse_fleet(FLEET, text.unwrap_or_default());
            problems.append(&mut found);
            fleet.recipients
        }
        Err(problem) => {
            problems.push(problem);
            Vec::new()
        }
    }
}

/// The keys that the manifest of `host` names; and what is wrong with it, for it may hide one.
pub(super) fn host_recipients(snapshot: &Snapshot, host: &str, problems: &mut Vec<Problem>) -> Vec<At<Recipient>> {
    let manifest = manifest_of(&format!("hosts/{host}"), LayerKind::Host);
    let (layer, mut found, _) = read_layer(snapshot, &manifest, LayerKind::Host);
    problems.append(&mut found);
    layer.recipients
}

/// The directories of the layers of `host`, nearest first, as far as they were read; conditions are not judged.
fn layers_of(snapshot: &Snapshot, host: &str, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    let mut queue = VecDeque::new();
    if snapshot.hosts.contains(host) {
        queue.push_back((format!("hosts/{host}"), LayerKind::Host, 0));
    }
    while let Some((name, kind, depth)) = queue.pop_front() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let manifest = manifest_of(&name, kind);
        if depth > DEPTH_LIMIT {
            let message = format!("roles are at most {DEPTH_LIMIT} deep; this one is one more, below {host}");
            problems.push(Problem::error(manifest, None, message).hint("let roles include fewer of each other"));
            continue;
        }
        all.push(name.clone());
        if !snapshot.layers.contains(&name) {
            continue;
        }
        let (layer, mut found, _) = read_layer(snapshot, &manifest, kind);
        problems.append(&mut found);
        for include in layer.roles {
            match snapshot.roles.contains(&include.role.value) {
                true => queue.push_back((format!("roles/{}", include.role.value), LayerKind::Role, depth + 1)),
                false => problems.push(unknown(snapshot, &include.role, &manifest)),
            }
        }
    }
    all
}

/// The manifest at `path` includes `role`, and there is none.
fn unknown(snapshot: &Snapshot, role: &At<String>, path: &str) -> Problem {
    let message = format!("there is no role `{}`", one_line(&role.value, 100));
    let hint = match nearest(&role.value, snapshot.roles.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "a role is a directory below roles/".to_owned(),
    };
    Problem::error(path, Some(role.span.clone()), message).hint(hint)
}

fn manifest_of(layer: &str, kind: LayerKind) -> String {
    match kind {
        LayerKind::Host => format!("{layer}/host.toml"),
        LayerKind::Role => format!("{layer}/role.toml"),
    }
}

/// The text of the manifest at `path`; `Ok(None)` where there is none.
fn text_of<'a>(snapshot: &'a Snapshot, path: &str) -> Result<Option<&'a str>, Problem> {
    let too_large = |size: u64| {
        Problem::error(
            path,
            None,
            format!("a manifest has at most {MANIFEST_LIMIT} bytes (1 MiB); this one has {size}"),
        )
    };
    let content = match snapshot.entries.get(path) {
        None => return Ok(None),
        Some(Entry::File { content, .. }) => content,
        Some(Entry::TooLarge { size }) => return Err(too_large(*size)),
        Some(Entry::Symlink { .. } | Entry::Submodule | Entry::BadName(_)) => {
            return Err(Problem::error(path, None, "a manifest must be a regular file"));
        }
    };
    if content.len() > MANIFEST_LIMIT {
        return Err(too_large(content.len() as u64));
    }
    match std::str::from_utf8(content) {
        Ok(text) => Ok(Some(text)),
        Err(error) => {
            let line = content[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(Problem::error(path, None, format!("not UTF-8 on line {line}")))
        }
    }
}

fn read_layer(snapshot: &Snapshot, path: &str, kind: LayerKind) -> (Layer, Vec<Problem>, bool) {
    match text_of(snapshot, path) {
        Ok(text) => parse_layer(path, text.unwrap_or_default(), kind),
        Err(problem) => (Layer::default(), vec![problem], false),
    }
}

/// What [`resolve`] found.
pub(super) struct Resolved {
    pub layers: Layers,
    /// Whether every manifest could be read as TOML, so that what is missing is not there.
    pub whole: bool,
}

/// Reads the manifests of `host` and puts its layers in order. `None` where the repository is for a newer agent, of
/// which nothing else is told.
pub(super) fn resolve(snapshot: &Snapshot, host: &str, facts: &Facts, problems: &mut Vec<Problem>) -> Option<Resolved> {
    let (fleet, whole) = match text_of(snapshot, FLEET) {
        Ok(Some(text)) => {
            let (fleet, mut found, whole) = parse_fleet(FLEET, text);
            if found.iter().any(|problem| problem.reason == Some("agent-too-old")) {
                *problems = found;
                return None;
            }
            problems.append(&mut found);
            (fleet, whole)
        }
        Ok(None) => {
            let problem = Problem::error(FLEET, None, "there is no trueup.toml, so this is no fleet repository");
            problems.push(
                problem.hint("put one at its root, with `format = 1`; where it is in a subdirectory, say source.path"),
            );
            (Fleet::default(), true)
        }
        Err(problem) => {
            problems.push(problem);
            (Fleet::default(), false)
        }
    };
    let manifest = manifest_of(&format!("hosts/{host}"), LayerKind::Host);
    let (layer, mut found, host_whole) = read_layer(snapshot, &manifest, LayerKind::Host);
    problems.append(&mut found);
    let vars = vars::over(&fleet.vars, &layer.vars);
    let mut walk = Walk {
        snapshot,
        host,
        scope: Scope::for_roles(&vars, host, facts),
        list: vec![fleet_layer(fleet)],
        done: BTreeMap::new(),
        open: Vec::new(),
        whole: whole && host_whole,
        problems,
    };
    let includes = walk.includes(&layer.roles, &manifest);
    walk.list.push(Here { name: format!("hosts/{host}"), manifest, layer, includes });
    Some(Resolved { whole: walk.whole, layers: Layers(walk.list) })
}

/// The fleet as the layer that every other includes.
fn fleet_layer(fleet: Fleet) -> Here {
    let layer = Layer {
        vars: fleet.vars,
        policy: fleet.policy,
        max_removals: fleet.max_removals,
        recipients: fleet.recipients,
        ..Layer::default()
    };
    Here { name: FLEET.to_owned(), manifest: FLEET.to_owned(), layer, includes: BTreeSet::new() }
}

struct Walk<'a> {
    snapshot: &'a Snapshot,
    host: &'a str,
    scope: Scope,
    list: Vec<Here>,
    done: BTreeMap<String, usize>,
    open: Vec<String>,
    whole: bool,
    problems: &'a mut Vec<Problem>,
}

impl Walk<'_> {
    /// Visits the roles that the manifest at `path` includes; the indexes of all layers below it.
    fn includes(&mut self, roles: &[Include], path: &str) -> BTreeSet<usize> {
        let mut below = BTreeSet::from([0]);
        let mut here = BTreeSet::new();
        for include in roles {
            let role = include.role.value.as_str();
            if !here.insert(role) && include.when.is_none() {
                let message = format!("the role `{}` stands here twice", one_line(role, 100));
                self.problems.push(Problem::error(path, Some(include.role.span.clone()), message));
                continue;
            }
            if !self.snapshot.roles.contains(role) {
                self.problems.push(unknown(self.snapshot, &include.role, path));
                continue;
            }
            if self.holds(include, path)
                && let Some(index) = self.visit(role, path, &include.role.span)
            {
                below.extend(self.list[index].includes.iter().copied());
                below.insert(index);
            }
        }
        below
    }

    fn holds(&mut self, include: &Include, path: &str) -> bool {
        let Some(when) = &include.when else { return true };
        self.scope.holds(&when.value).unwrap_or_else(|trouble| {
            let mut problem = Problem::error(path, Some(when.span.clone()), trouble.message);
            problem.hint = trouble.hint;
            self.problems.push(problem);
            false
        })
    }

    fn visit(&mut self, role: &str, from: &str, span: &Range<usize>) -> Option<usize> {
        if let Some(index) = self.done.get(role) {
            return Some(*index);
        }
        let mut fail = |message: String, hint: &str| {
            self.problems.push(Problem::error(from, Some(span.clone()), message).hint(hint));
            None
        };
        if let Some(start) = self.open.iter().position(|open| open == role) {
            let circle = [&self.open[start..], &[role.to_owned()]].concat().join(" → ");
            return fail(format!("roles include each other in a circle: {circle}"), "take one of them out");
        }
        if self.open.len() == DEPTH_LIMIT {
            let message =
                format!("roles are at most {DEPTH_LIMIT} deep; `{role}` would be one more, below {}", self.host);
            return fail(message, "let roles include fewer of each other");
        }
        if !self.snapshot.layers.contains(&format!("roles/{role}")) {
            return fail(format!("the role `{role}` was not read"), "this is a defect of trueup; please report it");
        }
        let name = format!("roles/{role}");
        let manifest = manifest_of(&name, LayerKind::Role);
        let (layer, mut found, whole) = read_layer(self.snapshot, &manifest, LayerKind::Role);
        self.problems.append(&mut found);
        self.whole &= whole;
        self.open.push(role.to_owned());
        let includes = self.includes(&layer.roles, &manifest);
        self.open.pop();
        let index = self.list.len();
        self.list.push(Here { name, manifest, layer, includes });
        self.done.insert(role.to_owned(), index);
        Some(index)
    }
}
