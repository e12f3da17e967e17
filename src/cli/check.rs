use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::compile::{self, Options, Secrets};
use crate::manifest::{self, LayerKind, Problem, Text};
use crate::model::escaped;
use crate::source::{Entry, Origin, Snapshot};

/// Check every host of a fleet repository.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The repository, as it stands on disk
    #[arg(default_value = ".", conflicts_with = "repo")]
    directory: PathBuf,
    /// The same, spelled as for `run` and `plan`
    #[arg(long, value_name = "PATH")]
    repo: Option<PathBuf>,
    /// Subdirectory that is the fleet repository
    #[arg(long, value_name = "DIR", default_value = "", value_parser = super::subdirectory)]
    path: String,
    /// Only this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Allow setuid, setgid and sticky bits, as `setid = true` does on a host
    #[arg(long)]
    setid: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The JSON form.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    version: u32,
    command: &'static str,
    ok: bool,
    hosts: Vec<HostLine<'a>>,
    problems: Vec<ProblemLine<'a>>,
}

#[derive(Debug, Serialize)]
struct HostLine<'a> {
    name: &'a str,
    ok: bool,
    resources: usize,
}

#[derive(Debug, Serialize)]
struct ProblemLine<'a> {
    severity: &'static str,
    path: &'a str,
    line: Option<usize>,
    column: Option<usize>,
    message: &'a str,
    hint: Option<&'a str>,
    reason: Option<&'a str>,
    hosts: &'a [String],
}

impl Check {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let directory = self.repo.as_ref().unwrap_or(&self.directory);
        let mut origin = Origin::work_tree(directory, &self.path)?;
        let mut snapshot = origin.snapshot()?;
        anyhow::ensure!(
            snapshot.entries.contains_key("trueup.toml"),
            "{} is not a fleet repository: it has no trueup.toml",
            directory.join(&self.path).display()
        );
        let hosts: Vec<String> = match &self.host {
            Some(host) => {
                anyhow::ensure!(snapshot.hosts.contains(host), "there is no hosts/{}", escaped(host));
                vec![host.clone()]
            }
            None => snapshot.hosts.iter().cloned().collect(),
        };
        let roles: Vec<String> = snapshot.roles.iter().map(|role| format!("roles/{role}")).collect();
        let every: Vec<String> = hosts.iter().map(|host| format!("hosts/{host}")).chain(roles).collect();
        origin.read_layers(&mut snapshot, &every)?;

        let mut problems: BTreeMap<Key, (Problem, Vec<String>)> = BTreeMap::new();
        let mut lines = Vec::new();
        for host in &hosts {
            let (found, resources) = compile_one(&snapshot, host, self.setid);
            let ok = !found.iter().any(Problem::is_error);
            for problem in found {
                problems.entry(key(&problem)).or_insert_with(|| (problem, Vec::new())).1.push(host.clone());
            }
            lines.push(HostLine { name: host, ok, resources });
        }
        if self.host.is_none() {
            // Roles that no host includes are compiled by nobody; what they say has to be right all the same.
            for problem in snapshot.roles.iter().flat_map(|role| manifest_problems(&snapshot, role)) {
                problems.entry(key(&problem)).or_insert_with(|| (problem, Vec::new()));
            }
        }
        let ok = lines.iter().all(|line| line.ok) && !problems.values().any(|(problem, _)| problem.is_error());
        if self.json {
            let mut texts = BTreeMap::new();
            let problems =
                problems.values().map(|(problem, hosts)| line(&snapshot, &mut texts, problem, hosts)).collect();
            super::print_json(&Checked { version: 1, command: "check", ok, hosts: lines, problems })?;
        } else {
            print(&snapshot, problems.into_values().map(|(problem, _)| problem).collect(), &lines);
        }
        Ok(u8::from(!ok))
    }
}

/// One problem of a role is one problem, however many hosts include it.
type Key = (String, Option<(usize, usize)>, String);

fn key(problem: &Problem) -> Key {
    (problem.path.clone(), problem.span.as_ref().map(|span| (span.start, span.end)), problem.message.clone())
}

fn compile_one(snapshot: &Snapshot, host: &str, setid: bool) -> (Vec<Problem>, usize) {
    let facts = compile::assumed_facts(snapshot, host);
    match compile::compile(snapshot, host, &facts, &Options { setid, on_host: false, secrets: Secrets::Judged }) {
        Ok(compiled) => (compiled.notes, compiled.desired.resources.len()),
        Err(problems) => (problems, 0),
    }
}

/// What is wrong with the manifest of a role by itself.
fn manifest_problems(snapshot: &Snapshot, role: &str) -> Vec<Problem> {
    let path = format!("roles/{role}/role.toml");
    let Some(Entry::File { content, .. }) = snapshot.entries.get(&path) else { return Vec::new() };
    let text = String::from_utf8_lossy(content);
    let (_, problems, _) = manifest::parse_layer(&path, &text, LayerKind::Role);
    problems
}

/// `texts` are those that were read already.
fn line<'a>(
    snapshot: &Snapshot,
    texts: &mut BTreeMap<&'a str, Option<Text<'static>>>,
    problem: &'a Problem,
    hosts: &'a [String],
) -> ProblemLine<'a> {
    let place = problem.span.as_ref().and_then(|span| {
        let text = texts.entry(&problem.path).or_insert_with(|| manifest::text_of(snapshot)(&problem.path));
        text.as_ref().map(|text| text.position(span))
    });
    ProblemLine {
        severity: if problem.is_error() { "error" } else { "note" },
        path: &problem.path,
        line: place.map(|(line, _)| line),
        column: place.map(|(_, column)| column),
        message: &problem.message,
        hint: problem.hint.as_deref(),
        reason: problem.reason,
        hosts,
    }
}

fn print(snapshot: &Snapshot, problems: Vec<Problem>, hosts: &[HostLine<'_>]) {
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let notes = problems.len() - errors;
    if !problems.is_empty() {
        let text = manifest::render(&problems, manifest::text_of(snapshot), true);
        super::print(&text);
    }
    let mut out = String::new();
    for line in hosts {
        let word = if line.ok { format!("ok      {} resources", line.resources) } else { "errors".to_owned() };
        let _ = writeln!(out, "{:30} {word}", escaped(line.name));
    }
    let many = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    let _ = writeln!(out, "{}, {}, {}.", many(hosts.len(), "host"), many(errors, "error"), many(notes, "note"));
    super::print(&out);
}
