use std::fmt;

use serde::{Deserialize, Serialize};

use super::Id;

/// How one step ended. That a resource did not converge is data; the rest goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub enum Outcome {
    /// It holds now.
    Done,
    /// It does not.
    Failed {
        /// The stable word: `unknown-owner`, `package-failed`, `in-the-way`…
        reason: String,
        /// One line for people.
        message: String,
    },
    /// Not tried, since something it depends on did not converge.
    Skipped {
        /// What it depends on.
        because: Id,
    },
}

/// The stages of a pass, in order; see `reconcile.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Stage {
    Fetch,
    Verify,
    Compile,
    Observe,
    Plan,
    Apply,
    Settle,
    Record,
    Report,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fetch => "fetch",
            Self::Verify => "verify",
            Self::Compile => "compile",
            Self::Observe => "observe",
            Self::Plan => "plan",
            Self::Apply => "apply",
            Self::Settle => "settle",
            Self::Record => "record",
            Self::Report => "report",
        })
    }
}

/// Whether trying again without anybody's help may go better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// It may: an unreachable source, a full disk.
    Transient,
    /// Somebody has to act: a refused commit, a mistake in the repository.
    Stalled,
}

/// The pass could not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Where.
    pub stage: Stage,
    /// Whether to try again.
    pub class: Class,
    /// The stable word: `not-a-descendant`, `no-such-host`, `guard`…
    pub reason: String,
    /// One line for people, naming the thing and what to do.
    pub message: String,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl std::error::Error for Stop {}
