//! `[checks]` of all layers.

use std::collections::BTreeMap;

use super::desired::{Check, Probe};
use super::work::Work;
use crate::manifest::{self, CheckEntry};

/// The most checks of one host: all are asked at once.
pub(super) const CHECK_LIMIT: usize = 64;

pub(super) fn compile(work: &mut Work<'_>) -> BTreeMap<String, Check> {
    let layers = work.layers;
    let mut declared: BTreeMap<&str, Vec<(usize, &CheckEntry)>> = BTreeMap::new();
    for (layer, here) in layers.0.iter().enumerate() {
        for entry in &here.layer.checks {
            if work.holds(layer, entry.when.as_ref()) {
                declared.entry(&entry.name.value).or_default().push((layer, entry));
            }
        }
    }
    if let Some((_, entries)) = declared.iter().nth(CHECK_LIMIT) {
        let (layer, entry) = entries[0];
        let message = format!("a host has at most {CHECK_LIMIT} checks; this one has {}", declared.len());
        work.problems.push(work.place(layer, &entry.name.span).error(message));
    }
    declared.into_iter().filter_map(|(name, entries)| Some((name.to_owned(), check(work, name, &entries)?))).collect()
}

fn check(work: &mut Work<'_>, name: &str, entries: &[(usize, &CheckEntry)]) -> Option<Check> {
    let probes = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.probe.as_ref())).collect();
    let probe = work.settle(probes, &format!("the check `{name}`"), |probe| match probe {
        manifest::Probe::Http(url) => format!("http {url}"),
        manifest::Probe::Tcp(address) => format!("tcp {address}"),
        manifest::Probe::Command(line) => format!("command {}", line.join(" ")),
    });
    let users = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.user.as_ref())).collect();
    let user = work.settle(users, &format!("`user` of the check `{name}`"), Clone::clone);
    let timeouts = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.timeout.as_ref())).collect();
    let timeout =
        work.settle(timeouts, &format!("`timeout` of the check `{name}`"), |long| format!("{} ms", long.as_millis()));
    let probe = probe?;
    let layer = work.layers.0[probe.layer].name.clone();
    let probe = match probe.value {
        manifest::Probe::Http(url) => Probe::Http(url),
        manifest::Probe::Tcp(address) => Probe::Tcp(address),
        manifest::Probe::Command(line) => Probe::Command { line, user: user.map(|user| user.value) },
    };
    let timeout = timeout.map_or(Check::TIMEOUT, |timeout| timeout.value);
    Some(Check { probe, timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX), layer })
}
