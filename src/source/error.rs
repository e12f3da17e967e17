use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::trust::Refusal;
use crate::config::how_to_load;
use crate::host;
use crate::model::Class;

/// There is no revision to act on from this source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The fetch worker says why it cannot.
    #[error("{message}")]
    Fetch {
        /// The stable word.
        reason: &'static str,
        /// Names the thing; escaped, one line.
        message: String,
    },
    /// The fetch worker could not be started.
    #[error("the fetch worker: {0}")]
    Start(#[source] host::Error),
    /// What the fetch worker needs is not to be had here.
    #[error("for the fetch worker: {0}")]
    Host(#[source] host::Error),
    /// The fetch worker took too long and was ended.
    #[error("{place}: nothing complete came within {} s; given up", after.as_secs())]
    TimedOut {
        /// What was fetched from.
        place: String,
        /// The time it was given.
        after: Duration,
    },
    /// The fetch worker ended by itself, or did not keep to the protocol.
    #[error("{place}: the fetch worker failed: {why}")]
    Worker {
        /// What was fetched from.
        place: String,
        /// Its last words; escaped, one line.
        why: String,
    },
    /// An object is not what its id says, or is malformed.
    #[error("{place}: object {object} {why}")]
    Corrupt {
        /// What was fetched from.
        place: String,
        /// Its id, and its path where that is known.
        object: String,
        /// What is wrong with it.
        why: String,
    },
    /// The revision is larger than what is read.
    #[error("{place}: {what}")]
    TooLarge {
        /// What was read.
        place: String,
        /// Which limit.
        what: String,
    },
    /// A file or directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A credential that systemd was to hand over is not there.
    #[error("trueup.service has no credential {name}: {}", how_to_load(name))]
    NoCredential {
        /// Its name.
        name: String,
    },
    /// What is configured cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The branch was moved to a commit that does not contain what was acted on before.
    #[error("{branch} moved from {from} to {to}, which does not contain it; staying on {staying}")]
    NotADescendant {
        /// The branch.
        branch: String,
        /// What was acted on last.
        from: String,
        /// Where the branch is now.
        to: String,
        /// What holds here.
        staying: String,
    },
    /// The branch does not contain the commit that `trust.floor` names.
    #[error("{branch} is at {to}, which does not contain the floor {floor}; refused")]
    BelowFloor {
        /// The branch.
        branch: String,
        /// Where it is.
        to: String,
        /// The floor.
        floor: String,
    },
    /// Somebody chose a commit that does not contain the one that `trust.floor` names.
    #[error("{commit} does not contain the floor {floor} (trust.floor of agent.toml), so it is refused")]
    ChosenBelowFloor {
        /// What was chosen.
        commit: String,
        /// The floor.
        floor: String,
    },
    /// Somebody chose a commit that is in the repository, and not in the history of the branch.
    #[error("{commit} is not in the history of {branch}, which is at {at}")]
    NotInHistory {
        /// What was chosen.
        commit: String,
        /// The branch.
        branch: String,
        /// Where it is.
        at: String,
    },
    /// Somebody chose a commit that the repository does not have.
    #[error("{place} has no commit {commit} in the history of {branch}")]
    NoSuchCommit {
        /// What was chosen.
        commit: String,
        /// Where it was looked for.
        place: String,
        /// The branch.
        branch: String,
    },
    /// Nobody whom root named has signed it, or not as it has to be.
    #[error("{commit} is not believed: {refusal}")]
    Refused {
        /// Which commit.
        commit: String,
        /// Why.
        refusal: Refusal,
    },
    /// What this host has stored was not verified: it came before root named anybody, or is remembered no more.
    #[error(
        "{commit}, which this host has, was not verified here, and nobody has acted on it by root's word; push a commit that is signed"
    )]
    Unverified {
        /// Which commit.
        commit: String,
    },
    /// A file that says whom to believe cannot be used.
    #[error("nothing is believed: {0}")]
    Trust(Refusal),
    /// A commit on the way to the tip is not believed.
    #[error("the chain is broken: {message}")]
    Chain {
        /// The stable word.
        reason: &'static str,
        /// Names the commit; escaped, one line.
        message: String,
    },
    /// The chain does not begin where root says.
    #[error("{commit} does not contain {introduction}, with which the chain begins (trust.introduction of agent.toml)")]
    Unintroduced {
        /// Which commit.
        commit: String,
        /// Where the chain begins.
        introduction: String,
    },
    /// A document of ours cannot be read.
    #[error("{0}")]
    Document(#[from] host::DocumentError),
    /// Our own record cannot be read or written.
    #[error("{0}")]
    State(#[from] host::StateError),
    /// Our own record is there and is not whole.
    #[error("our record of the branches {} {why}; nothing is accepted until it is repaired (its previous copy is {previous} beside it)", path.display())]
    StateDamaged {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// The name of the copy.
        previous: &'static str,
    },
    /// None of several URLs gave the revision.
    #[error("{last}{}", before(others))]
    AllFailed {
        /// What the others said, in order.
        others: Vec<SourceError>,
        /// What the last said.
        last: Box<SourceError>,
    },
}

fn before(others: &[SourceError]) -> String {
    others.iter().map(|error| format!("; before that {error}")).collect()
}

/// The words that the worker may say; any other is `fetch-failed`.
const WORDS: &[&str] = &[
    "unreachable",
    "access-denied",
    "bad-certificate",
    "bad-host-key",
    "no-such-repository",
    "no-such-branch",
    "redirected",
    "insecure",
    "not-a-repository",
    "cannot-read",
    "too-large",
    "damaged-clone",
    "fetch-failed",
];

impl SourceError {
    /// What the worker said, its word made one of ours.
    pub(super) fn of_worker(reason: &str, message: &str) -> Self {
        let reason = WORDS.iter().copied().find(|word| *word == reason).unwrap_or("fetch-failed");
        Self::Fetch { reason, message: crate::model::one_line(message, 800) }
    }

    /// The stable word for reports.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Fetch { reason, .. } => reason,
            Self::Start(_) | Self::Worker { .. } => "fetch-failed",
            Self::Host(host::Error::Io { doing: "read", .. }) => "cannot-read",
            Self::Host(error) => error.reason(),
            Self::TimedOut { .. } => "timed-out",
            Self::Corrupt { .. } => "corrupt-object",
            Self::TooLarge { .. } => "too-large",
            Self::Read { .. } | Self::NoCredential { .. } => "cannot-read",
            Self::Settings(_) => "bad-settings",
            Self::NotADescendant { .. } => "not-a-descendant",
            Self::BelowFloor { .. } | Self::ChosenBelowFloor { .. } => "below-floor",
            Self::NotInHistory { .. } => "not-in-history",
            Self::NoSuchCommit { .. } => "no-such-commit",
            Self::Refused { refusal, .. } | Self::Trust(refusal) => refusal.reason(),
            Self::Unverified { .. } => "unverified",
            Self::Chain { reason, .. } => reason,
            Self::Unintroduced { .. } => "unrelated-history",
            Self::Document(host::DocumentError::CannotLook(error)) => error.word().0,
            Self::Document(host::DocumentError::Damaged { .. }) => "state-damaged",
            Self::Document(host::DocumentError::FromTheFuture { .. }) => "agent-too-old",
            Self::State(error) => error.word().0,
            Self::StateDamaged { .. } => "state-damaged",
            Self::AllFailed { last, .. } => last.reason(),
        }
    }

    /// Whether trying again may go better without anybody's help.
    pub fn class(&self) -> Class {
        match self {
            Self::Fetch { reason: "unreachable" | "fetch-failed" | "damaged-clone", .. }
            | Self::Start(_)
            | Self::Worker { .. }
            | Self::TimedOut { .. } => Class::Transient,
            Self::State(error) | Self::Document(host::DocumentError::CannotLook(error)) => error.word().1,
            // One that may come back is worth waiting for, whatever the others say.
            Self::AllFailed { others, last } => {
                let transient = others.iter().chain([&**last]).any(|error| error.class() == Class::Transient);
                if transient { Class::Transient } else { Class::Stalled }
            }
            _ => Class::Stalled,
        }
    }
}
