//! Storey 10: what a pass found and did, as one value; the JSON and the text are both made from it, so
//! they cannot disagree.

use serde::Serialize;

use crate::kinds::{Activation, Refresh};
use crate::model::{Cause, Id};

mod tell;
mod text;

pub use tell::commit_text;
pub use text::{Palette, age, plan_text, result_text};

/// The version of the JSON form.
const VERSION: u32 = 1;

/// What a pass, or a look, found and did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Of the JSON form.
    pub version: u32,
    /// The verb: `run`, `plan`, `drift`.
    pub command: &'static str,
    /// The host's directory; `None` where none was selected.
    pub host: Option<String>,
    /// The highest state that holds.
    pub state: State,
    /// The stable word for why it is not `in-sync`.
    pub reason: Option<String>,
    /// One line for people.
    pub message: Option<String>,
    /// Commit ids, in full.
    pub revision: Revisions,
    /// How it is known who wrote the revision: `transport-only`, since signatures are not verified yet.
    pub authenticity: &'static str,
    /// First line of the seen commit's message, and its author: as written.
    pub commit: Option<CommitWords>,
    /// Every step, in the order of work, then what is only told.
    pub steps: Vec<Line>,
    /// Units that restart, reload or run.
    pub refreshes: Vec<RefreshLine>,
    /// What the system's own engines have to do.
    pub activations: Vec<ActivationLine>,
    /// No longer declared, and left as they are.
    pub left: Vec<NoteLine>,
    /// Not possible here: packages of a directory.
    pub deferred: Vec<NoteLine>,
    /// What else has to be said.
    pub notes: Vec<String>,
    /// Mistakes in the repository, underlined, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub problems: String,
    /// In numbers.
    pub counts: Counts,
}

/// States of a host, the best first; see `DESIGN.md` §8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Everything holds.
    InSync,
    /// A difference that policy only reports.
    Drifted,
    /// Changes that were not made: a look, `observe`.
    Pending,
    /// A resource failed.
    Degraded,
    /// The pass could not go on.
    Stalled,
}

impl State {
    /// The word, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InSync => "in-sync",
            Self::Drifted => "drifted",
            Self::Pending => "pending",
            Self::Degraded => "degraded",
            Self::Stalled => "stalled",
        }
    }

    /// The exit code of the command: 0 in sync, 1 failed, 2 changes pending or drift, 3 refused or stalled.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::InSync => 0,
            Self::Degraded => 1,
            Self::Drifted | Self::Pending => 2,
            Self::Stalled => 3,
        }
    }
}

/// Where the host is in history: full commit ids, or `uncommitted`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Revisions {
    /// Tip of the branch.
    pub seen: Option<String>,
    /// Tried last.
    pub attempted: Option<String>,
    /// Everything of it held last.
    pub applied: Option<String>,
}

/// What its author says of a commit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CommitWords {
    /// First line of the message.
    pub subject: String,
    /// Name of the author.
    pub author: String,
    /// Committer's time, seconds since 1970.
    pub time: i64,
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Which.
    pub id: Id,
    /// `create`, `change`, `take-over`, `remove`, `let-go`, `report`, `look`.
    pub action: &'static str,
    /// `intended`, `corrective`, `conflicting`.
    pub cause: Option<Cause>,
    /// Property by property, for people.
    pub changes: Vec<String>,
    /// A change of content, line by line.
    pub diff: Vec<String>,
    /// The layer that declares it.
    pub layer: String,
    /// `planned`, `done`, `failed`, `skipped`, `reported`.
    pub outcome: &'static str,
    /// The stable word for a failure, or for why it is only told.
    pub reason: Option<String>,
    /// One line for people.
    pub message: Option<String>,
    /// The copy made of what was overwritten: `k-7f31`.
    pub kept: Option<String>,
    /// It only showed after packages were installed.
    #[serde(skip_serializing_if = "is_false")]
    pub late: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(value: &bool) -> bool {
    !value
}

/// One unit that restarts, reloads or runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefreshLine {
    /// The unit.
    pub id: Id,
    /// What it does.
    pub how: Refresh,
    /// Since these changed.
    pub because: Vec<Id>,
    /// `planned`, `done`, `failed`.
    pub outcome: &'static str,
    /// One line for people.
    pub message: Option<String>,
}

/// One of the system's own engines.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActivationLine {
    /// Its word: `daemon-reload`.
    pub what: Activation,
    /// `planned`, `done`, `failed`.
    pub outcome: &'static str,
    /// One line for people.
    pub message: Option<String>,
}

/// A resource and what there is to say of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NoteLine {
    /// Which.
    pub id: Id,
    /// What.
    pub note: String,
}

/// In numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Resources wanted.
    pub managed: usize,
    /// Steps.
    pub changes: usize,
    /// Steps that take something away.
    pub removals: usize,
    /// Units that restart.
    pub restarts: usize,
    /// Units that reload.
    pub reloads: usize,
    /// Failed or skipped.
    pub failed: usize,
}
