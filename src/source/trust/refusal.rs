/// Why a commit is not believed, or a file of trust is not used. Each is one line that names the key and what to do;
/// text from outside is escaped and bounded already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no signature.
    #[error("it is not signed; sign it (git commit -S), or push a signed commit that contains it")]
    Unsigned,
    /// There is more than one signature, and nobody can say which of them counts.
    #[error("it has {0} signatures; sign it anew, once")]
    SeveralSignatures(usize),
    /// The signature is of a kind that is not accepted here.
    #[error("its signature {0}")]
    UnknownSignature(String),
    /// What was signed is not what is there, or the signature cannot be read.
    #[error("its signature does not hold: {0}; the commit may have been tampered with, sign it anew")]
    BadSignature(String),
    /// Nobody who may sign has this key.
    #[error("it is signed by {key}, {why}")]
    UnknownKey {
        /// Fingerprint or id.
        key: String,
        /// Why that is nobody's, and what to do.
        why: String,
    },
    /// The key was taken back.
    #[error("it is signed by {key}, {why}; sign it anew with another key")]
    RevokedKey {
        /// Fingerprint, and whose it is where that is known.
        key: String,
        /// Where it was taken back.
        why: String,
    },
    /// The key is valid no longer, or was no longer when the commit says that it was made.
    #[error("it is signed by {key}, {why}")]
    ExpiredKey {
        /// Fingerprint, and whose it is.
        key: String,
        /// Since when, and what to do.
        why: String,
    },
    /// The key is not valid yet, or was not yet when the commit says that it was made.
    #[error("it is signed by {key}, {why}")]
    NotYetValidKey {
        /// Fingerprint, and whose it is.
        key: String,
        /// From when on, and what to do.
        why: String,
    },
    /// The key, or the hash that it signed, can be forged.
    #[error("it is signed by {key}, {why}")]
    WeakKey {
        /// Fingerprint.
        key: String,
        /// What is weak, and what to do.
        why: String,
    },
    /// A file that says whom to believe cannot be used, so nobody is believed.
    #[error("{file}{}: {why}", line.map(|line| format!(":{line}")).unwrap_or_default())]
    BadTrust {
        /// Which.
        file: String,
        /// Line, from 1, where it is about one.
        line: Option<usize>,
        /// What is wrong, and what to do.
        why: String,
    },
}

impl Refusal {
    /// The stable word for reports.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::SeveralSignatures(_) => "several-signatures",
            Self::UnknownSignature(_) => "unknown-signature",
            Self::BadSignature(_) => "bad-signature",
            Self::UnknownKey { .. } => "unknown-key",
            Self::RevokedKey { .. } => "revoked-key",
            Self::ExpiredKey { .. } => "expired-key",
            Self::NotYetValidKey { .. } => "not-yet-valid-key",
            Self::WeakKey { .. } => "weak-key",
            Self::BadTrust { .. } => "bad-trust",
        }
    }
}
