//! The agent's settings as they stand on this host.

use crate::config::{self, Settings};
use crate::host::{Error, Reader};
use crate::model::{Class, Digest, Stage, Stop, one_line};

/// Where they are, below the root directory.
const DIRECTORY: &str = "/etc/trueup";
/// The file.
pub const SETTINGS: &str = "/etc/trueup/agent.toml";
/// Where the fragments are.
const FRAGMENTS: &str = "/etc/trueup/agent.d";
/// What a settings file may hold at most, in bytes.
const SETTINGS_BYTES: u64 = 1 << 20;

/// The settings below the host's root: the file and its fragments, the later wins.
///
/// # Errors
/// Where they cannot be read or used, or somebody else than root could write them.
pub fn settings(host: &Reader) -> Result<Settings, Stop> {
    parsed(&settings_files(host)?)
}

/// As [`settings`], and the beginning of a digest of the files that they are from, where those could be read.
pub fn settings_and_digest(host: &Reader) -> (Result<Settings, Stop>, Option<String>) {
    match settings_files(host) {
        Ok(files) => (parsed(&files), Some(settings_digest(&files))),
        Err(stop) => (Err(stop), None),
    }
}

/// The beginning of a digest of settings files: others than these have another.
pub fn settings_digest(files: &[(String, String)]) -> String {
    let mut digest = Digest::of(format!("{files:?}").as_bytes()).to_string();
    digest.truncate(16);
    digest
}

/// As [`settings`], as if [`SETTINGS`] held `text`: what a change to it would come to.
///
/// # Errors
/// As [`settings`].
pub fn settings_with(host: &Reader, text: &str) -> Result<Settings, Stop> {
    let mut files = settings_files(host)?;
    files.retain(|(path, _)| path != SETTINGS);
    files.insert(0, (SETTINGS.to_owned(), text.to_owned()));
    parsed(&files)
}

/// The path and the text of each file that settings are read from, in order.
///
/// # Errors
/// Where they cannot be read, or somebody else than root could write them.
pub fn settings_files(host: &Reader) -> Result<Vec<(String, String)>, Stop> {
    let mut paths = vec![SETTINGS.to_owned()];
    // A dot hides what an editor or a package manager has not finished.
    let fragments = host.list(FRAGMENTS).map_err(|error| unusable(&error))?.into_iter();
    let fragments = fragments.filter(|name| name.ends_with(".toml") && !name.starts_with('.'));
    paths.extend(fragments.map(|name| format!("{FRAGMENTS}/{name}")));
    let mut wrong = host.not_roots_alone([DIRECTORY, FRAGMENTS]).map_err(|error| unusable(&error))?;
    let mut texts = Vec::new();
    for path in paths {
        match host.read_roots_own(&path, SETTINGS_BYTES) {
            Ok(Some(bytes)) => {
                let text = String::from_utf8(bytes).map_err(|_| bad(&format!("{path} is not UTF-8")))?;
                texts.push((path, text));
            }
            Ok(None) => {}
            // All that is wrong is told.
            Err(Error::Refused { reason: "not-roots-alone", why, .. }) => wrong.push(why),
            Err(error) => return Err(unusable(&error)),
        }
    }
    if wrong.is_empty() { Ok(texts) } else { Err(bad(&wrong.join("; "))) }
}

fn parsed(texts: &[(String, String)]) -> Result<Settings, Stop> {
    config::settings(texts).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        bad(&lines.join("; "))
    })
}

fn bad(message: &str) -> Stop {
    let (class, reason) = (Class::Stalled, "bad-settings".to_owned());
    Stop { stage: Stage::Fetch, class, reason, message: one_line(message, 1000) }
}

/// A file that cannot be looked at says nothing about the settings; one that is in the way does.
fn unusable(error: &Error) -> Stop {
    let mut message = error.chain();
    match error {
        Error::Io { source, .. } => {
            if source.kind() == std::io::ErrorKind::PermissionDenied {
                message.push_str("; this needs root");
            }
            let reason = "cannot-tell".to_owned();
            Stop { stage: Stage::Fetch, class: Class::Transient, reason, message: one_line(&message, 1000) }
        }
        _ => bad(&message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_may_be_looked_at_later() {
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let stop = unusable(&Error::Io { doing: "read", path: SETTINGS.into(), source: denied });
        assert_eq!((stop.reason.as_str(), stop.class), ("cannot-tell", Class::Transient));
        assert_eq!(stop.message, "cannot read /etc/trueup/agent.toml: permission denied; this needs root");
    }
}
