use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The full id of a commit, lower-case hexadecimal: 40 digits (SHA-1) or 64 (SHA-256).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

/// The text is not the full id of a commit.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{0}` is not a full commit id (40 or 64 lower-case hexadecimal digits)")]
pub struct NotACommitId(String);

impl CommitId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first seven digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..7]
    }
}

impl FromStr for CommitId {
    type Err = NotACommitId;

    fn from_str(text: &str) -> Result<Self, NotACommitId> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match text.len() {
            40 | 64 if hex => Ok(Self(text.to_owned())),
            _ => Err(NotACommitId(crate::model::one_line(text, 80))),
        }
    }
}

impl TryFrom<String> for CommitId {
    type Error = NotACommitId;

    fn try_from(text: String) -> Result<Self, NotACommitId> {
        text.parse()
    }
}

impl From<CommitId> for String {
    fn from(id: CommitId) -> Self {
        id.0
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A commit that may be acted on, or a plain directory that is under no version control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// `None` is a plain directory: `uncommitted`.
    pub commit: Option<CommitId>,
    /// First line of the commit message, as written by its author: escape before showing.
    pub subject: String,
    /// The author's name, as written: escape before showing.
    pub author: String,
    /// When it was committed, in seconds since 1970, by the committer's own clock.
    pub time: i64,
}

impl Revision {
    /// The revision of a directory that is not under Git.
    pub fn uncommitted() -> Self {
        Self { commit: None, subject: String::new(), author: String::new(), time: 0 }
    }

    /// Seven digits, or `uncommitted`.
    pub fn short(&self) -> &str {
        self.commit.as_ref().map_or("uncommitted", CommitId::short)
    }
}
