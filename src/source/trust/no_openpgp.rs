//! What stands for OpenPGP in a build without it: nothing is verified, and whoever asks for it is told.

use super::commit::Signature;
use super::{Refusal, Revoked, Signed, Signers, Times};
use crate::model::one_line;

const ABSENT: &str = "this build of trueup has no OpenPGP";

#[derive(Debug, Clone, Default)]
pub(super) struct Keyring(());

impl Keyring {
    pub fn parse(file: &str, _: &[u8]) -> Result<Self, Refusal> {
        let why =
            format!("holds OpenPGP keys, and {ABSENT}; list SSH keys (allowed_signers), or use a build that has it");
        Err(Refusal::BadTrust { file: one_line(file, 400), line: None, why })
    }

    pub fn extend(&mut self, _: Self) {}
}

/// Whether `content` is a file of OpenPGP keys.
pub(super) fn is_keyring(content: &[u8]) -> bool {
    super::armor::is_openpgp_keys(content)
}

pub(super) fn verify(_: &Signature, _: &Signers, _: &Revoked, _: Times) -> Result<Signed, Refusal> {
    Err(Refusal::UnknownSignature(format!(
        "is of OpenPGP, and {ABSENT}; sign with an SSH key, or use a build that has it"
    )))
}
