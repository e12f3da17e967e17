//! Built without the feature `secrets`: nothing is opened or sealed, and that is said.

use super::{Locked, Plain, Recipient};

const NOT_HERE: &str = "this trueup was built without the feature `secrets`";

/// Keys that open secrets: none.
#[derive(Debug)]
pub struct Identity(());

impl Identity {
    /// None is read.
    ///
    /// # Errors
    /// Always.
    pub fn parse(_text: &str) -> Result<Self, String> {
        Err(format!("is of no use: {NOT_HERE}"))
    }

    /// These keys and those of `other`.
    #[must_use]
    pub fn and(self, _other: Self) -> Self {
        self
    }

    /// Their public halves.
    pub fn recipients(&self) -> &[Recipient] {
        &[]
    }

    /// Opens nothing.
    ///
    /// # Errors
    /// Always.
    pub fn open(&self, _sealed: &[u8]) -> Result<Plain, Locked> {
        Err(Locked::NoIdentity(NOT_HERE.to_owned()))
    }
}

/// Seals nothing.
///
/// # Errors
/// Always.
pub fn seal(_plain: &[u8], _to: &[Recipient], _armored: bool) -> Result<Vec<u8>, String> {
    Err(NOT_HERE.to_owned())
}

/// What it looks like is believed.
pub(super) fn is_usable(recipient: &Recipient) -> bool {
    recipient.to_string().len() > 40
}
