//! Storey 11: what a pass found and did, as one value; the JSON and the text are both made from it, so
//! they cannot disagree.

use serde::{Deserialize, Serialize};

use crate::host::Aside;
use crate::kinds::{Activation, Refresh};
use crate::model::{Cause, Id, Stop, Update};
use crate::source::{Anew, Walls};

mod held;
mod history;
pub mod journal;
mod judged;
pub mod status;
mod tell;
mod text;

pub use history::{Passed, REMEMBERED, history_text, lines_text, matching, passed, passed_text, remember};
pub use judged::Judged;
pub use status::{
    AgentStatus, Attention, ChoiceStatus, Last, ResourceCounts, RestoreStatus, Running, SourceStatus, Status,
    SuspendedStatus, UrlStatus, WallsStatus, change_line, status_text, status_text_for,
};
pub use tell::commit_text;
pub use text::{Palette, age, plan_text, result_text, span};

/// The version of the JSON form.
const VERSION: u32 = 1;

/// Nobody's signature is asked for: a revision is believed because of the server that gave it.
const TRANSPORT_ONLY: &str = "transport-only";
/// Root says who may sign, and of what holds here it is not known who did.
const UNVERIFIED: &str = "unverified";

/// What a pass, or a look, found and did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Of the JSON form.
    pub version: u32,
    /// The verb: `agent`, `run`, `plan`, `drift`.
    pub command: &'static str,
    /// The id of the pass, a ULID; empty where only a look was taken.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pass: String,
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
    /// The source could not be looked at, or what is there cannot be had.
    #[serde(skip)]
    pub source_error: Option<Stop>,
    /// Nothing of this host is to be changed, whatever is planned.
    #[serde(skip)]
    pub look_only: bool,
    /// The resources of this host were looked at.
    #[serde(skip)]
    pub observed: bool,
    /// The source was not asked, since it was just before; what is known of it is from then.
    #[serde(skip)]
    pub unasked: bool,
    /// Something is waited for until it has come up, whatever else is to be done.
    #[serde(skip)]
    pub settling: bool,
    /// This revision is undone by the next pass, at once.
    #[serde(skip)]
    pub undo: bool,
    /// A revision is undone: the commit that the steps are of, which this host goes back to.
    #[serde(skip)]
    pub back_to: Option<String>,
    /// What was made of the tip that was seen; none where it was not seen, or only as it was before.
    #[serde(skip)]
    pub judged: Option<Judged>,
    /// The most cautious of agent.toml and the repository, where the latter is known; told by the status.
    #[serde(skip)]
    pub update: Option<Update>,
    /// What stands around the fetch worker that was sent out.
    #[serde(skip)]
    pub walls: Option<Walls>,
    /// Why the branch is followed anew, on a host that followed one before.
    #[serde(skip)]
    pub anew: Option<Anew>,
    /// How it is known who wrote the revision: `signed`, `unverified`, or `transport-only` where nobody's
    /// signature is asked for.
    pub authenticity: &'static str,
    /// Who signed the revision, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedBy>,
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
    /// Of these, what was found beside what became of the steps, for the journal.
    #[serde(skip)]
    pub asides: Vec<Aside>,
    /// Mistakes in the repository, underlined, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub problems: String,
    /// In numbers.
    pub counts: Counts,
}

/// Who signed a revision. Names are escaped and bounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedBy {
    /// As root's files name them.
    pub by: String,
    /// The fingerprint of the key.
    pub key: String,
    /// `head` or `chain`.
    pub mode: String,
}

/// States of a host, the best first; see `DESIGN.md` §8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Everything holds.
    InSync,
    /// A pass is at work on a difference.
    Converging,
    /// A difference that policy only reports.
    Drifted,
    /// Changes that were not made: a look, `observe`.
    Pending,
    /// Something, or everything, is not changed for a while, as somebody asked.
    Suspended,
    /// A resource failed or is contested; the source is stale.
    Degraded,
    /// A revision was undone.
    RolledBack,
    /// The pass could not go on.
    Stalled,
}

impl State {
    /// The word, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InSync => "in-sync",
            Self::Converging => "converging",
            Self::Drifted => "drifted",
            Self::Pending => "pending",
            Self::Suspended => "suspended",
            Self::Degraded => "degraded",
            Self::RolledBack => "rolled-back",
            Self::Stalled => "stalled",
        }
    }

    /// The exit code of the command: 0 in sync, 1 failed, 2 changes pending or drift, 3 refused or stalled.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::InSync => 0,
            Self::Degraded | Self::RolledBack => 1,
            Self::Converging | Self::Drifted | Self::Pending | Self::Suspended => 2,
            Self::Stalled => 3,
        }
    }
}

/// Where the host is in history: full commit ids, or `uncommitted`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Revisions {
    /// Tip of the branch.
    pub seen: Option<String>,
    /// Tried last.
    pub attempted: Option<String>,
    /// Everything of it held last.
    pub applied: Option<String>,
}

/// What its author says of a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// `create`, `change`, `take-over`, `remove`, `let-go`, `report`, `wait`, `look`.
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
    /// The stable word for a failure, for why it is only told, or of what a unit was behind in.
    pub reason: Option<String>,
    /// One line for people.
    pub message: Option<String>,
    /// The copy made of what was overwritten: `k-7f31`.
    pub kept: Option<String>,
    /// It only showed after packages were installed.
    #[serde(skip_serializing_if = "is_false")]
    pub late: bool,
    /// How many times it was tried, or corrected, where it waits or is contested.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Until when it is held back, seconds since 1970: it is tried, or may be changed, again then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(value: &bool) -> bool {
    !value
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(value: &u32) -> bool {
    *value == 0
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
    /// `planned`, `done`, `failed`; `owed` where it is held back.
    pub outcome: &'static str,
    /// The stable word of what holds it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// One line for people.
    pub message: Option<String>,
    /// How many times it was tried, where it waits.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Until when it is held back, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

/// One of the system's own engines.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActivationLine {
    /// Its word: `daemon-reload`.
    pub what: Activation,
    /// `planned`, `done`, `failed`; `owed` where it is held back.
    pub outcome: &'static str,
    /// One line for people.
    pub message: Option<String>,
    /// How many times it was tried, where it waits.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Until when it is held back, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
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
