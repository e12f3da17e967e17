//! The status document: `trueup status --json`, and what the socket answers.

use serde::{Deserialize, Serialize};

use super::{CommitWords, Revisions, SignedBy, State};

mod attention;
mod make;
mod text;

pub use make::{Looks, Parts, make};
pub use text::{change_line, status_text, status_text_for};

/// How a host is. All times are seconds since 1970. Holds no content of any file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the JSON form.
    pub version: u32,
    /// The host's directory in the repository; `None` where none was selected yet.
    pub host: Option<String>,
    /// The highest state that holds.
    pub state: State,
    /// The stable word for why it is not `in-sync`.
    pub reason: Option<String>,
    /// One line for people.
    pub message: Option<String>,
    /// Since when state and reason are what they are.
    pub since: i64,
    /// `auto`, `hold`, `observe`: the most cautious of agent.toml and the repository.
    pub update: String,
    /// Commit ids, in full.
    pub revision: Revisions,
    /// What the author of the seen revision says of it.
    pub seen: Option<CommitWords>,
    /// What the author of the applied revision says of it.
    pub applied: Option<CommitWords>,
    /// The repository; none where none is configured.
    pub source: Option<SourceStatus>,
    /// How it is known who wrote the revision: `signed`, `unverified` where root says who may sign and it is not known
    /// who did, `transport-only`.
    pub authenticity: String,
    /// Who signed the revision, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedBy>,
    /// In numbers.
    pub resources: ResourceCounts,
    /// Resources that are not as declared, bounded: `resources` has the numbers. Failed first.
    pub attention: Vec<Attention>,
    /// What is suspended, the whole host first.
    pub suspended: Vec<SuspendedStatus>,
    /// The revision that was approved, under `hold`.
    pub approved: Option<ChoiceStatus>,
    /// The revision that root went back to.
    pub rolled_back: Option<ChoiceStatus>,
    /// Copies that are to be given back, or were since the agent started, the newest last; bounded.
    #[serde(default)]
    pub restores: Vec<RestoreStatus>,
    /// The pass that runs right now.
    pub running: Option<Running>,
    /// The last pass that ended.
    pub last: Option<Last>,
    /// When the next pass begins by itself.
    pub next: Option<i64>,
    /// What else has to be said.
    pub notes: Vec<String>,
    /// The agent itself; none where no agent answered.
    pub agent: Option<AgentStatus>,
}

/// The repository.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// The first URL, without anything secret.
    pub url: String,
    /// The branch.
    pub branch: String,
    /// When it was last looked at with success.
    pub looked: Option<i64>,
    /// When something new was last found there.
    pub fetched: Option<i64>,
    /// Since when every look failed.
    pub failing_since: Option<i64>,
    /// How the last look failed.
    pub error: Option<String>,
    /// What stood around the fetch worker that last looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WallsStatus>,
    /// The URL whose revision was taken last, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    /// Those of several URLs that do not answer, or answer with what may not be acted on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<UrlStatus>,
}

/// A URL that is passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UrlStatus {
    /// Without anything secret.
    pub url: String,
    /// Since when.
    pub since: i64,
    /// The stable word.
    pub reason: String,
    /// One line for people.
    pub message: String,
}

/// What stands around a fetch worker, as it said itself before it read anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallsStatus {
    /// The user that it is; 0 where the host has none for it.
    pub uid: u32,
    /// The version of Landlock in force, landlock(7); 0 where the kernel has none.
    pub landlock: u8,
    /// Whether its system calls are filtered.
    pub filtered: bool,
}

/// Resources in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceCounts {
    /// Wanted.
    pub managed: usize,
    /// As declared.
    pub in_sync: usize,
    /// Failed.
    pub failed: usize,
    /// Not tried, since something failed.
    pub skipped: usize,
    /// Different, and only told.
    pub drifted: usize,
    /// Somebody keeps changing them.
    pub contested: usize,
    /// Not changed for a while.
    pub suspended: usize,
    /// To be done.
    pub pending: usize,
}

/// One resource that is not as declared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Which.
    pub id: String,
    /// `failed`, `skipped`, `drifted`, `contested`, `pending`.
    pub what: String,
    /// The stable word.
    pub reason: Option<String>,
    /// One line for people.
    pub message: String,
    /// How many times it was tried, where it failed.
    pub attempts: u32,
    /// When it is tried next, where that is later than the next pass.
    pub next: Option<i64>,
}

/// What is suspended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuspendedStatus {
    /// Which resource; `None` is the whole host.
    pub resource: Option<String>,
    /// Since when.
    pub since: i64,
    /// Until when.
    pub until: i64,
    /// Who asked.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A revision that somebody chose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceStatus {
    /// The full commit id.
    pub commit: String,
    /// Who.
    pub by: String,
    /// When.
    pub at: i64,
}

/// A copy that somebody asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreStatus {
    /// `k-7f31`.
    pub copy: String,
    /// Where it goes.
    pub resource: String,
    /// Who asked.
    pub by: String,
    /// When.
    pub at: i64,
    /// `pending`, `done`, `failed`.
    pub outcome: String,
    /// One line for people.
    pub message: String,
}

/// The pass that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Its id.
    pub pass: String,
    /// Since when.
    pub since: i64,
    /// What it is doing or waiting for, in one line.
    pub doing: String,
}

/// The last pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Last {
    /// Its id.
    pub pass: String,
    /// When it ended.
    pub at: i64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How it ended.
    pub state: State,
}

/// The agent itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it runs.
    pub started: i64,
    /// The beginning of a digest of the settings files that are in force; none where none are.
    #[serde(default)]
    pub settings: Option<String>,
}
