//! What `--json` prints, as its readers know it.
#![allow(dead_code, reason = "some of it is only shown, when a test fails")]

use serde::Deserialize;

/// One pass, or what one would do.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    pub version: u32,
    pub command: String,
    pub host: Option<String>,
    pub state: String,
    pub reason: Option<String>,
    pub message: Option<String>,
    #[serde(default)]
    pub revision: Revision,
    #[serde(default)]
    pub steps: Vec<Step>,
    #[serde(default)]
    pub refreshes: Vec<Refresh>,
    #[serde(default)]
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct Revision {
    pub seen: Option<String>,
    pub attempted: Option<String>,
    pub applied: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Step {
    pub id: String,
    pub action: String,
    /// Empty where there is none: what cannot be looked at.
    #[serde(deserialize_with = "or_empty")]
    pub cause: String,
    #[serde(default)]
    pub changes: Vec<String>,
    pub layer: Option<String>,
    pub outcome: String,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub kept: Option<String>,
}

fn or_empty<'de, D: serde::Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

#[derive(Debug, Clone, Deserialize)]
pub struct Refresh {
    pub id: String,
    pub how: String,
    #[serde(default)]
    pub because: Vec<String>,
    pub outcome: String,
    #[serde(default)]
    pub message: Option<String>,
}

/// A run of the command with `--json`: how it ended and what it said.
#[derive(Debug, Clone)]
pub struct Told {
    pub status: i32,
    pub report: Report,
    pub stderr: String,
}

impl Told {
    /// The step of `id`.
    pub fn step(&self, id: &str) -> &Step {
        self.report.steps.iter().find(|step| step.id == id).unwrap_or_else(|| panic!("no step for {id}: {self:#?}"))
    }

    /// The refresh of `id`.
    pub fn refresh(&self, id: &str) -> &Refresh {
        let found = self.report.refreshes.iter().find(|refresh| refresh.id == id);
        found.unwrap_or_else(|| panic!("no refresh of {id}: {self:#?}"))
    }

    /// The ids of all steps, in order.
    pub fn ids(&self) -> Vec<&str> {
        self.report.steps.iter().map(|step| step.id.as_str()).collect()
    }

    /// It converged: exit status 0, in sync, every step done.
    #[track_caller]
    pub fn converged(&self) -> &Self {
        let undone = self.report.steps.iter().any(|step| step.outcome != "done");
        let unrefreshed = self.report.refreshes.iter().any(|refresh| refresh.outcome != "done");
        assert!(self.status == 0 && self.report.state == "in-sync" && !undone && !unrefreshed, "{self:#?}");
        self
    }

    /// It had nothing to do.
    #[track_caller]
    pub fn idle(&self) -> &Self {
        self.converged();
        assert!(self.report.steps.is_empty() && self.report.refreshes.is_empty(), "{self:#?}");
        self
    }

    /// It was refused, with this reason.
    #[track_caller]
    pub fn stalled(&self, reason: &str) -> &Self {
        assert!(
            self.status == 3 && self.report.state == "stalled" && self.report.reason.as_deref() == Some(reason),
            "stalled with {reason} was expected: {self:#?}"
        );
        assert!(self.report.message.as_deref().is_some_and(|message| !message.is_empty()), "says nothing: {self:#?}");
        self
    }
}
