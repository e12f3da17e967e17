//! `[facts]`: what is assumed off the host, and must be so on it.

use super::layers::{Here, Layers, resolve};
use super::merge::{Claim, Place, settle, undominated};
use crate::manifest::{Assumed, At, Problem};
use crate::model::{Facts, Family, Os, one_line};
use crate::source::Snapshot;

/// How many facts there are: each turn of the loop below but the last learns one at least.
const FACTS: usize = 7;

/// What the layers of `host` say of it in `[facts]`, the nearer before the farther; for use off the host. Every layer
/// that [`super::missing_layers`] names must have been read.
pub fn assumed_facts(snapshot: &Snapshot, host: &str) -> Facts {
    let mut facts = Facts::default();
    // What a role assumes may decide about another role's condition, so this is done until nothing more is learnt.
    for _ in 0..=FACTS {
        let Some(resolved) = resolve(snapshot, host, &facts, &mut Vec::new()) else { return facts };
        let mut known = Facts::default();
        for here in &resolved.layers.0 {
            assume(&mut known, &here.layer.facts);
        }
        if known == facts {
            break;
        }
        facts = known;
    }
    facts
}

fn assume(facts: &mut Facts, assumed: &Assumed) {
    fn set<T: Clone>(fact: &mut Option<T>, assumed: Option<&At<T>>) {
        if let Some(assumed) = assumed {
            *fact = Some(assumed.value.clone());
        }
    }
    if let Some(os) = &assumed.os {
        let (id, version) = &os.value;
        facts.os = Some(Os {
            id: id.clone(),
            family: Family::of(id, ""),
            version: version.clone(),
            codename: codename(id, version).to_owned(),
        });
    }
    set(&mut facts.arch, assumed.arch.as_ref());
    set(&mut facts.hostname, assumed.hostname.as_ref());
    set(&mut facts.fqdn, assumed.fqdn.as_ref());
    set(&mut facts.machine_id, assumed.machine_id.as_ref());
    set(&mut facts.cpus, assumed.cpus.as_ref());
    set(&mut facts.memory_mib, assumed.memory_mib.as_ref());
}

/// `VERSION_CODENAME` of os-release(5), where it is known; empty otherwise.
fn codename(id: &str, version: &str) -> &'static str {
    match (id, version) {
        ("debian" | "raspbian", "10") => "buster",
        ("debian" | "raspbian", "11") => "bullseye",
        ("debian" | "raspbian", "12") => "bookworm",
        ("debian" | "raspbian", "13") => "trixie",
        ("debian" | "raspbian", "14") => "forky",
        ("ubuntu", "20.04") => "focal",
        ("ubuntu", "22.04") => "jammy",
        ("ubuntu", "24.04") => "noble",
        ("ubuntu", "24.10") => "oracular",
        ("ubuntu", "25.04") => "plucky",
        ("ubuntu", "25.10") => "questing",
        _ => "",
    }
}

/// Every statement in `[facts]` that no nearer layer overrules and that is not so on this host, whose real facts these
/// are. Where `facts` is `None`, off the host, layers that contradict each other instead.
pub(super) fn wrong(layers: &Layers, snapshot: &Snapshot, facts: Option<&Facts>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, name) in NAMES.iter().enumerate() {
        let claim = |(layer, here): (usize, &Here)| {
            let at = said(&here.layer.facts)[index].take()?;
            Some(Claim { layer, place: Place::new(&here.manifest, &at.span), value: at.value })
        };
        let claims: Vec<Claim<String>> = layers.0.iter().enumerate().filter_map(claim).collect();
        match facts.map(|facts| real(facts)[index].take()) {
            None => {
                problems.extend(settle(claims, &format!("`{name}` of [facts]"), Clone::clone, layers, snapshot).err())
            }
            Some(None) => {}
            Some(Some(real)) => {
                for claim in undominated(claims, layers).into_iter().filter(|claim| !agrees(name, &claim.value, &real))
                {
                    let (said, real) = (one_line(&claim.value, 100), one_line(&real, 100));
                    let problem = claim.place.error(format!("`{name}` is {said} here, and {real} on this host"));
                    problems.push(problem.hint("correct [facts], or take it out").reason("facts-mismatch"));
                }
            }
        }
    }
    problems
}

/// `os = "debian"` without a version agrees with any.
fn agrees(name: &str, said: &str, real: &str) -> bool {
    said == real || (name == "os" && real.split_once(':').is_some_and(|(id, _)| id == said))
}

const NAMES: [&str; FACTS] = ["os", "arch", "hostname", "fqdn", "machine_id", "cpus", "memory_mib"];

fn said(assumed: &Assumed) -> [Option<At<String>>; FACTS] {
    let os = assumed.os.clone().map(|os| os.map(|(id, version)| os_text(&id, &version)));
    let cpus = assumed.cpus.clone().map(|cpus| cpus.map(|cpus| cpus.to_string()));
    let memory = assumed.memory_mib.clone().map(|memory| memory.map(|memory| memory.to_string()));
    let Assumed { arch, hostname, fqdn, machine_id, .. } = assumed.clone();
    [os, arch, hostname, fqdn, machine_id, cpus, memory]
}

fn real(facts: &Facts) -> [Option<String>; FACTS] {
    let os = facts.os.as_ref().map(|os| os_text(&os.id, &os.version));
    let (cpus, memory) = (facts.cpus.map(|cpus| cpus.to_string()), facts.memory_mib.map(|memory| memory.to_string()));
    let Facts { arch, hostname, fqdn, machine_id, .. } = facts.clone();
    [os, arch, hostname, fqdn, machine_id, cpus, memory]
}

fn os_text(id: &str, version: &str) -> String {
    if version.is_empty() { id.to_owned() } else { format!("{id}:{version}") }
}
