use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::kinds::{Spec, file};
use crate::model::{Drift, Id, Release, Update, packed};

/// Everything that a revision wants of one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// The name of the host's directory.
    pub host: String,
    /// Every resource, by id; strangers in exclusive directories too, once they were looked for. Those are never stored.
    #[serde(serialize_with = "declared", deserialize_with = "packed")]
    pub resources: BTreeMap<Id, Wanted>,
    /// `[policy] update` of the layers, the nearest; `None` where none says so.
    pub update: Option<Update>,
    /// `[guard] max_removals`.
    pub max_removals: Option<u64>,
    /// What must hold after a change, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, Check>,
    /// Exclusive directories of which it cannot be told what in them is a stranger.
    #[serde(skip)]
    pub unlisted: BTreeMap<Id, Unlisted>,
}

/// What is in an exclusive directory cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlisted {
    /// The reason word.
    pub reason: &'static str,
    /// A line for people.
    pub message: String,
    /// All but names that nobody can write down was told.
    pub but_names: bool,
}

impl Desired {
    /// What the revision itself names, strangers apart.
    pub fn declared(&self) -> impl Iterator<Item = (&Id, &Wanted)> {
        self.resources.iter().filter(|(_, wanted)| wanted.stranger_of.is_none())
    }

    /// The exclusive directory that `id` is a stranger in.
    pub fn stranger_of(&self, id: &Id) -> Option<&Id> {
        self.resources.get(id).and_then(|wanted| wanted.stranger_of.as_ref())
    }
}

fn declared<S: Serializer>(resources: &BTreeMap<Id, Wanted>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(resources.iter().filter(|(_, wanted)| wanted.stranger_of.is_none()))
}

impl Desired {
    /// A secret among what is wanted could not be read.
    pub fn has_unread_secrets(&self) -> bool {
        let unread =
            |wanted: &Wanted| matches!(&wanted.spec, Spec::File(file::Spec { what: file::What::Sealed { .. }, .. }));
        self.resources.values().any(unread)
    }
}

/// What must hold after a change, or the change is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is asked.
    pub probe: Probe,
    /// How long one try may take, in milliseconds.
    pub timeout_ms: u64,
    /// The layer that declares it: `roles/web`.
    pub layer: String,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// Whether this URL answers, with success or another place to look.
    Http(String),
    /// Whether somebody listens at this address and port.
    Tcp(String),
    /// Whether a program ends well.
    Command {
        /// The program, and its arguments.
        line: Vec<String>,
        /// Who runs it; root where nobody is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
}

impl Check {
    /// Where no time-out is said.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// How long one try may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// In words.
    pub fn describe(&self) -> String {
        let asked = match &self.probe {
            Probe::Http(url) => format!("http {url}"),
            Probe::Tcp(address) => format!("tcp {address}"),
            Probe::Command { line, user } => {
                let by = user.as_ref().map_or_else(String::new, |user| format!(" as {user}"));
                format!("command {}{by}", line.join(" "))
            }
        };
        let timeout = self.timeout();
        let timeout = match timeout.subsec_millis() {
            0 => format!("{} s", timeout.as_secs()),
            _ => format!("{} ms", timeout.as_millis()),
        };
        format!("{asked}, within {timeout}")
    }
}

/// What is wanted of one resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// The state.
    pub spec: Spec,
    /// What to do about drift.
    pub drift: Drift,
    /// What happens when the declaration goes away.
    pub release: Release,
    /// The layer that declares it: `roles/web`.
    pub layer: String,
    /// Of a directory: nothing but what is declared may be in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<file::Exclusive>,
    /// The exclusive directory that it is a stranger in: nobody declares it.
    #[serde(skip)]
    pub stranger_of: Option<Id>,
}
