use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Error;

/// Writes `content` to a new file that only its owner can read: something of ours that somebody asked to have.
///
/// # Errors
/// Where something is there already, or it cannot be written; nothing is left behind then.
pub fn write_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Io { doing: "write", path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|source| {
        // The error that matters is the first.
        let _ = fs::remove_file(path);
        failed(source)
    })
}
