use serde::{Deserialize, Serialize};

use super::{CommitWords, State};
use crate::model::{Digest, Stop};

/// What a pass made of the tip of the branch: that stays true while nobody answers who could say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The branch.
    pub branch: String,
    /// Its tip, the full commit id.
    pub seen: String,
    /// What its author says of it.
    pub commit: Option<CommitWords>,
    /// Why it is not acted on as it is; none where it is.
    pub verdict: Option<(State, Stop)>,
    /// The names that a directory for this host was looked for under.
    pub names: Vec<String>,
    /// A digest of what the verdict depends on beside the commit.
    pub under: Digest,
}
