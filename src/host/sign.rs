use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use super::Reader;

/// Apart from our state, so that it outlives the loss of that.
const SIGN: &str = "/var/cache/trueup/acted-here";

impl Reader {
    /// Whether something was acted on here before, whatever our state says: where that is lost, this is no new host.
    /// Where it cannot be told it was not.
    pub fn was_acted_on(&self) -> bool {
        fs::symlink_metadata(self.below_root(SIGN)).is_ok()
    }

    /// Leaves the sign of that on a machine. It is only a sign: one that cannot be left now is left by the next pass.
    pub fn leave_sign(&self) {
        if self.is_machine() && !self.was_acted_on() {
            let _ = self.write_sign();
        }
    }

    fn write_sign(&self) -> io::Result<()> {
        let path = self.below_root(SIGN);
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        }
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }
}
