use super::openpgp::Keyring;
use super::{Refusal, allowed, openpgp};
use crate::model::{Zone, one_line};

/// Who may sign: what one file says, or several.
#[derive(Debug, Clone)]
pub struct Signers {
    files: String,
    ssh: Vec<allowed::Entry>,
    openpgp: Keyring,
}

impl Signers {
    /// What `content` says: lines of `allowed_signers` (see ssh-keygen(1)), or OpenPGP keys, armoured or not. `file` is
    /// what it is called in messages, `zone` that of times that name none.
    ///
    /// # Errors
    /// `bad-trust` where anything of it is not understood, or it names nobody.
    pub fn parse(file: &str, content: &[u8], zone: &Zone) -> Result<Self, Refusal> {
        let files = one_line(file, 400);
        if openpgp::is_keyring(content) {
            return Ok(Self { openpgp: Keyring::parse(file, content)?, ssh: Vec::new(), files });
        }
        Ok(Self { ssh: allowed::parse(file, content, zone)?, openpgp: Keyring::default(), files })
    }

    /// These, and those of another file.
    pub fn and(mut self, other: Self) -> Self {
        self.files = format!("{} or {}", self.files, other.files);
        self.ssh.extend(other.ssh);
        self.openpgp.extend(other.openpgp);
        self
    }

    /// What they are called in messages.
    pub(super) fn files(&self) -> &str {
        &self.files
    }

    pub(super) fn ssh(&self) -> &[allowed::Entry] {
        &self.ssh
    }

    #[cfg(feature = "openpgp")]
    pub(super) fn openpgp(&self) -> &Keyring {
        &self.openpgp
    }
}
