//! Why something is not done.

use crate::host::Error;
use crate::model::one_line;

/// Why something is not done. It is told to each package that it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The stable reason word.
    pub reason: &'static str,
    /// One line for people.
    pub why: String,
    /// What could help.
    pub remedy: Remedy,
}

/// What could help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing of ours.
    None,
    /// A fresh index of the package sources.
    Refresh,
    /// Nothing, and no other package would fare better.
    General,
}

impl Fault {
    /// `reason`, with what `why` says.
    pub fn new(reason: &'static str, why: impl Into<String>) -> Self {
        Self { reason, why: why.into(), remedy: Remedy::None }
    }

    /// The same, and what could help.
    pub fn with(mut self, remedy: Remedy) -> Self {
        self.remedy = remedy;
        self
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { reason: error.reason(), why: error.chain(), remedy: Remedy::General }
    }
}

/// Somebody else is at work with packages.
const LOCK_HELD: &str = "package-lock-held";

/// What is to be done is not, since `holder` is at work.
pub fn lock_held(holder: &str) -> Fault {
    let why = format!("the package lock is held by {holder}; it was waited for, and is tried again later");
    Fault::new(LOCK_HELD, why).with(Remedy::General)
}

/// What a look found of `thing`, `it is so while `, may be another thing once `holder` has done.
pub fn later(thing: &str, so: &str, holder: &str) -> Error {
    let why = format!("{so}{} is at work with packages; it is looked at again later", one_line(holder, 80));
    Error::Refused { thing: thing.to_owned(), reason: LOCK_HELD, why }
}
