use std::fs::{self, OpenOptions};
use std::io::{self, Write};
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

/// Runs `command`, of which words are made, on `path` at this terminal, and waits for it. Where `end` is set
/// meanwhile it is ended: `false`.
///
/// # Errors
/// Where it cannot be started, or ends badly.
pub fn edit(command: &str, path: &Path, end: &AtomicBool) -> Result<bool, Error> {
    const NOTICE: Duration = Duration::from_millis(50);
    let failed = |source| Error::Start { program: command.to_owned(), source };
    let words = words(command)
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidInput, "a quote in it has no end")))?;
    let mut words = words.iter().map(String::as_str);
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

/// The words of `command` as a shell splits them, POSIX.1-2017, section 2.2: `emacsclient -a ""`. Nothing in them is expanded.
/// `None` where a quote has no end.
fn words(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = command.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match letter {
            '\'' => loop {
                match rest.next()? {
                    '\'' => break,
                    inside => word.push(inside),
                }
            },
            '"' => loop {
                match rest.next()? {
                    '"' => break,
                    '\\' if rest.peek().is_some_and(|next| "\\\"$`".contains(*next)) => word.extend(rest.next()),
                    inside => word.push(inside),
                }
            },
            '\\' => word.push(rest.next()?),
            plain => word.push(plain),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_does() {
        for (command, split) in [
            ("", &[][..]),
            (" vim  -u\tNONE ", &["vim", "-u", "NONE"]),
            ("emacsclient -a \"\"", &["emacsclient", "-a", ""]),
            ("'/opt/my editor/bin' --wait", &["/opt/my editor/bin", "--wait"]),
            (r"/opt/my\ editor/bin", &["/opt/my editor/bin"]),
            (r#"a"b \"c\" \d"'e "f'"#, &[r#"ab "c" \de "f"#]),
            ("$EDITOR ~", &["$EDITOR", "~"]),
        ] {
            let found = words(command).expect(command);
            assert_eq!(found, split, "{command}");
        }
        for open in ["vim 'x", "vim \"x", "vim \\"] {
            assert_eq!(words(open), None, "{open}");
        }
    }
}
