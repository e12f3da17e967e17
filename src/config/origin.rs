//! What is in force, and where it comes from: for whoever asks why a host does what it does.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::parse::SECTIONS;
use super::settings::{Settings, SourceSettings};
use super::url::shown;
use super::values::duration_text;
use crate::model::{Word, one_line};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said otherwise.
    Default,
    /// A line of a fragment; the last that names the key.
    File {
        /// Which fragment.
        path: String,
        /// Line, from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", one_line(path, 4096)),
        }
    }
}

/// One key as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// `source.branch`.
    pub key: &'static str,
    /// Its value as text, never a secret; empty where there is none.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether this version acts on it.
    pub acted_on: bool,
}

impl Settings {
    /// Every key that is in force, in the order of the documentation. Without a source only what was written of it.
    pub fn in_force(&self) -> Vec<InForce> {
        let keys = SECTIONS.iter().flat_map(|(_, keys)| *keys).copied();
        let known = keys.filter_map(|key| {
            let origin = self.origin(key);
            let value = self.value(key).or_else(|| (origin != Origin::Default).then(String::new))?;
            let acted_on = self.source.is_some() || !key.starts_with("source.");
            Some(InForce { key, value, origin, acted_on })
        });
        known.collect()
    }

    /// Where the value of `key` comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.written.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// The value of `key`; `None` where it has none and nobody said so.
    fn value(&self, key: &str) -> Option<String> {
        let word = |word: &dyn fmt::Display| Some(word.to_string());
        match key {
            "host.name" => self.host.name.clone(),
            "trust.signers" if self.trust.is_configured() => {
                Some(self.trust.signers.iter().filter_map(|file| path_text(file)).collect::<Vec<_>>().join(", "))
            }
            "trust.revoked" => self.trust.revoked.as_deref().and_then(path_text),
            "trust.mode" => word(&self.trust.mode.as_str()),
            "trust.introduction" => self.trust.introduction.as_ref().map(ToString::to_string),
            "trust.floor" => self.trust.floor.as_ref().map(ToString::to_string),
            "policy.update" => word(&self.policy.update.as_str()),
            "policy.takeover" => word(&self.policy.takeover.as_str()),
            "policy.setid" => word(&self.policy.setid),
            "change.settle" => Some(duration_text(self.change.settle)),
            "change.deadline" => Some(duration_text(self.change.deadline)),
            "change.restarts" => word(&self.change.restarts),
            "state.originals" => Some(duration_text(self.state.originals)),
            "state.edits" => Some(duration_text(self.state.edits)),
            "secrets.identity" => self.secrets.identity.as_deref().and_then(path_text),
            _ => self.source.as_ref().and_then(|source| of_source(source, key)),
        }
    }
}

fn path_text(path: &Path) -> Option<String> {
    Some(one_line(&path.display().to_string(), 4096))
}

fn of_source(source: &SourceSettings, key: &str) -> Option<String> {
    let time = |duration: Duration| Some(duration_text(duration));
    match key {
        "source.url" => Some(source.urls.iter().map(|url| shown(url)).collect::<Vec<_>>().join(", ")),
        "source.branch" => Some(source.branch.clone()),
        "source.path" => Some(source.path.clone()),
        "source.interval" => time(source.interval),
        "source.max_age" => time(source.max_age),
        "source.allow_insecure" => Some(source.allow_insecure.to_string()),
        "source.ca_file" => source.ca_file.as_deref().and_then(path_text),
        "source.proxy" => source.proxy.clone(),
        "source.client_cert" => source.client_cert.as_deref().and_then(path_text),
        "source.client_key" => source.client_key.as_deref().and_then(path_text),
        "source.token_file" => source.token_file.as_deref().and_then(path_text),
        "source.ssh_key" => source.ssh_key.as_deref().and_then(path_text),
        "source.known_hosts" => path_text(&source.known_hosts),
        "source.timeout" => time(source.timeout),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    fn of(fragments: &[(&str, &str)]) -> Settings {
        let fragments: Vec<(String, String)> =
            fragments.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        settings(&fragments).expect("valid")
    }

    fn line(settings: &Settings, key: &str) -> String {
        let all = settings.in_force();
        let of = all.iter().find(|one| one.key == key).unwrap_or_else(|| panic!("{key} is not among {all:?}"));
        format!("{} = {} ({})", of.key, of.value, of.origin)
    }

    #[test]
    fn each_value_names_the_line_that_wins_or_default() {
        let settings = of(&[
            (
                "/etc/trueup/agent.toml",
                "[source]\nurl = \"https://h/x\"\nbranch = \"a\"\n\n[host]\nname = \"web-01\"\n",
            ),
            ("/etc/trueup/agent.d/x.toml", "# ours\n[source]\nbranch = \"b\"\ntimeout = \"90s\"\n"),
        ]);
        assert_eq!(line(&settings, "source.url"), "source.url = https://h/x (/etc/trueup/agent.toml:2)");
        assert_eq!(line(&settings, "source.branch"), "source.branch = b (/etc/trueup/agent.d/x.toml:3)");
        assert_eq!(line(&settings, "source.timeout"), "source.timeout = 90s (/etc/trueup/agent.d/x.toml:4)");
        assert_eq!(line(&settings, "source.interval"), "source.interval = 1m (default)");
        assert_eq!(line(&settings, "source.max_age"), "source.max_age = 1d (default)");
        assert_eq!(line(&settings, "policy.update"), "policy.update = auto (default)");
        assert_eq!(line(&settings, "host.name"), "host.name = web-01 (/etc/trueup/agent.toml:6)");
        assert_eq!(line(&settings, "state.originals"), "state.originals = 30d (default)");
        assert!(!settings.in_force().iter().any(|one| one.key == "trust.floor"));
    }

    #[test]
    fn every_key_that_is_set_is_listed() {
        let mut text = String::new();
        for (section, keys) in SECTIONS {
            text.push_str(&format!("[{section}]\n"));
            for key in *keys {
                let value = match *key {
                    "source.url" => "\"git@h:x\"",
                    "source.allow_insecure" | "policy.setid" => "true",
                    "policy.update" => "\"hold\"",
                    "policy.takeover" => "\"refuse\"",
                    "trust.mode" => "\"chain\"",
                    "trust.floor" | "trust.introduction" => "\"4f2a9c14f2a9c14f2a9c14f2a9c14f2a9c14f2a9\"",
                    "source.proxy" => "\"http://p:3128\"",
                    "source.branch" | "source.path" | "host.name" => "\"word\"",
                    "source.interval" | "source.max_age" | "source.timeout" => "\"2h\"",
                    "change.settle" => "\"20s\"",
                    "change.restarts" => "7",
                    key if key.starts_with("change.") || key.starts_with("state.") => "\"2h\"",
                    _ => "\"/a/file\"",
                };
                text.push_str(&format!("{} = {value}\n", key.split_once('.').expect("a section").1));
            }
        }
        let settings = of(&[("a.toml", &text)]);
        let all = settings.in_force();
        for key in SECTIONS.iter().flat_map(|(_, keys)| *keys) {
            let one = all.iter().find(|one| one.key == *key).unwrap_or_else(|| panic!("{key} is missing"));
            assert!(!one.value.is_empty() && matches!(one.origin, Origin::File { .. }), "{one:?}");
            assert!(one.acted_on, "{one:?}");
        }
    }

    #[test]
    fn without_a_source_what_was_written_of_it_is_told_as_not_acted_on() {
        let settings = of(&[("a.toml", "[source]\nbranch = \"b\"\n")]);
        let branch = settings.in_force().into_iter().find(|one| one.key == "source.branch").expect("listed");
        assert!(!branch.acted_on, "{branch:?}");
        assert!(!settings.in_force().iter().any(|one| one.key == "source.timeout"));
    }
}
