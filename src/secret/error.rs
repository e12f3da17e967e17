use serde::{Deserialize, Serialize};

/// Why a secret cannot be read here. Holds nothing of what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "locked", content = "why")]
pub enum Locked {
    /// Nobody expects a key here: a directory, or a check of the repository.
    #[error("it is encrypted, and there is no key here")]
    Away,
    /// The keys at hand are none of those it is encrypted to.
    #[error("it is not encrypted to {0}")]
    NotForUs(String),
    /// There should be a key here, and it cannot be used.
    #[error("{0}")]
    NoIdentity(String),
    /// It is cut short, or was changed after it was encrypted.
    #[error("{0}")]
    Damaged(String),
    /// It was read, and what it holds is a template that does not render.
    #[error("{0}")]
    Template(String),
}

impl Locked {
    /// The stable word for reports.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Away => "secret-elsewhere",
            Self::NotForUs(_) => "secret-not-for-us",
            Self::NoIdentity(_) => "secret-no-identity",
            Self::Damaged(_) => "secret-damaged",
            Self::Template(_) => "secret-template",
        }
    }
}
