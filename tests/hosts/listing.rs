//! Every file of a host with what would betray a write to it.

use std::collections::BTreeMap;

use super::Host;

/// Path → type, mode, owner, size, modification and change time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing(BTreeMap<String, String>);

/// The system's own records, which move whatever trueup does.
const NOISE: &str = "-path /var/log -o -path /var/lib/systemd";

/// Where trueup keeps what is its own: records of passes, not the host's files.
pub const OWN: [&str; 2] = ["/var/lib/trueup", "/var/cache/trueup"];

impl Listing {
    /// Everything on the root file system. /run, /proc, /sys, /dev and /tmp are others.
    pub fn of(host: &Host) -> Self {
        // A change of content moves the change time, which nobody can set back.
        let text =
            host.shell(&format!(r"find / -xdev \( {NOISE} \) -prune -o -printf '%p\t%y %m %U:%G %s %T@ %C@ %l\n'"));
        let line = |line: &str| line.split_once('\t').map(|(path, rest)| (path.to_owned(), rest.to_owned()));
        let listing = Self(text.lines().filter_map(line).collect());
        assert!(listing.0.len() > 1000, "a whole host was expected");
        listing
    }

    /// Without what is at or below one of `places`.
    pub fn without(mut self, places: &[&str]) -> Self {
        self.0.retain(|path, _| {
            !places
                .iter()
                .any(|place| path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        });
        self
    }

    /// What is not the same in `later`, each as `path: before → after`.
    pub fn changes(&self, later: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for path in self.paths_changed(later) {
            let told = |listing: &Self| listing.0.get(&path).cloned().unwrap_or_else(|| "absent".to_owned());
            changes.push(format!("{path}: {} → {}", told(self), told(later)));
        }
        changes
    }

    /// The paths of what is not the same in `later`, sorted.
    pub fn paths_changed(&self, later: &Self) -> Vec<String> {
        let mut paths: Vec<String> = self
            .0
            .iter()
            .filter(|(path, told)| later.0.get(*path) != Some(*told))
            .map(|(path, _)| path.clone())
            .collect();
        paths.extend(later.0.keys().filter(|path| !self.0.contains_key(*path)).cloned());
        paths.sort();
        paths
    }

    /// Like `paths_changed`, without directories: their times tell of what happened in them.
    pub fn leaves_changed(&self, later: &Self) -> Vec<String> {
        let directory = |listing: &Self, path: &str| listing.0.get(path).is_none_or(|told| told.starts_with("d "));
        let mut paths = self.paths_changed(later);
        paths.retain(|path| !(directory(self, path) && directory(later, path)));
        paths
    }

    /// The paths that `wanted` is true of.
    pub fn paths(&self, wanted: impl Fn(&str) -> bool) -> Vec<&str> {
        self.0.keys().map(String::as_str).filter(|path| wanted(path)).collect()
    }
}
