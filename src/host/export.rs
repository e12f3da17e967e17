use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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

/// Runs `command`, words that a shell would split, on `path` at this terminal, and waits for it. Where `end` is set
/// meanwhile it is ended: `false`.
///
/// # Errors
/// Where it cannot be started, or ends badly.
pub fn edit(command: &str, path: &Path, end: &AtomicBool) -> Result<bool, Error> {
    const NOTICE: Duration = Duration::from_millis(50);
    let failed = |source| Error::Start { program: command.to_owned(), source };
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let mut child = std::process::Command::new(program).args(words).arg(path).spawn().map_err(failed)?;
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(true),
            Some(status) => {
                return Err(Error::Program {
                    program: command.to_owned(),
                    status: status.to_string(),
                    tail: String::new(),
                });
            }
            None if end.load(Ordering::SeqCst) => {
                let _ = child.kill();
                let _ = child.wait();
                return Ok(false);
            }
            None => std::thread::sleep(NOTICE),
        }
    }
}
