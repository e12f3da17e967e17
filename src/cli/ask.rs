//! What verbs that ask the agent have in common.

use super::Ground;
use crate::daemon::Answer;
use crate::daemon::client::{Client, ClientError};
use crate::kinds::{WORDS, unit};
use crate::model::{Id, one_line};
use crate::report::State;

/// Asks the agent, and prints its answer.
pub(super) fn ask(
    ground: &Ground,
    command: &'static str,
    question: impl FnOnce(&mut Client) -> Result<Answer, ClientError>,
) -> anyhow::Result<u8> {
    ask_or(ground, command, None, question)
}

/// The same; where no agent runs, `instead` does it.
pub(super) fn ask_or(
    ground: &Ground,
    command: &'static str,
    instead: Option<&'static str>,
    question: impl FnOnce(&mut Client) -> Result<Answer, ClientError>,
) -> anyhow::Result<u8> {
    let host = ground.place()?;
    match ground.client(&host).and_then(|mut client| question(&mut client)) {
        Ok(Answer { message, pass }) => {
            if ground.json {
                let document = serde_json::json!({
                    "version": 1, "command": command, "done": true, "reason": null, "message": message, "pass": pass,
                });
                super::print_json(&document)?;
            } else {
                super::print(&format!("{}\n", one_line(&message, 1000)));
            }
            Ok(0)
        }
        Err(error) => match (error, instead) {
            (ClientError::NotRunning, Some(instead)) => refused(ground, command, ClientError::Instead(instead)),
            (error, _) => refused(ground, command, error),
        },
    }
}

/// Tells that the agent did not do what it was asked for, as JSON where that was asked for.
pub(super) fn refused(ground: &Ground, command: &'static str, error: ClientError) -> anyhow::Result<u8> {
    if !ground.json {
        return Err(error.into());
    }
    let message = match &error {
        ClientError::Refused { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let document = serde_json::json!({
        "version": 1, "command": command, "done": false, "reason": word(&error), "message": message, "pass": null,
    });
    super::print_json(&document)?;
    Ok(exit_code(&error))
}

/// The stable word for why the agent could not be asked, or would not.
fn word(error: &ClientError) -> &str {
    match error {
        ClientError::NotRunning | ClientError::Instead(_) => "not-running",
        ClientError::PermissionDenied => "needs-root",
        ClientError::Refused { reason, .. } => reason,
        ClientError::Invalid { .. } => "bad-value",
        _ => "no-answer",
    }
}

/// Refused, or not there: 3. An answer that did not come may come the next time: 1.
pub(super) fn exit_code(error: &ClientError) -> u8 {
    match error {
        ClientError::NotRunning
        | ClientError::Instead(_)
        | ClientError::PermissionDenied
        | ClientError::Refused { .. } => State::Stalled.exit_code(),
        _ => 1,
    }
}

/// A resource as people write it: its id, the path of a file, or the name of a unit.
pub(super) fn resource(text: &str) -> Result<Id, String> {
    if text.starts_with('/') {
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        return match parts.iter().any(|part| matches!(*part, "." | "..")) {
            true => Err("write the path without . and ..".to_owned()),
            false => Ok(Id::new("file", &format!("/{}", parts.join("/")))),
        };
    }
    match text.parse::<Id>() {
        Ok(id) if id.kind() == "file" && id.name().starts_with('/') => resource(id.name()),
        Ok(id) if id.kind() != "file" && WORDS.contains(&id.kind()) => Ok(id),
        _ if unit::is_valid(text) => Ok(Id::new("unit", text)),
        _ => Err("a resource is the path of a file, the name of a unit, or an id: /etc/motd, nginx.service, \
                  package:nginx"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_as_people_name_them() {
        let id = |text: &str| resource(text).map(String::from);
        for (text, wanted) in [
            ("/etc/motd", "file:/etc/motd"),
            ("/etc//motd.d/", "file:/etc/motd.d"),
            ("file:/etc/motd", "file:/etc/motd"),
            ("nginx.service", "unit:nginx.service"),
            ("getty@tty1.service", "unit:getty@tty1.service"),
            ("unit:nginx.service", "unit:nginx.service"),
            ("package:nginx", "package:nginx"),
            ("package:libc6:i386", "package:libc6:i386"),
        ] {
            assert_eq!(id(text).as_deref(), Ok(wanted), "{text}");
        }
        for wrong in ["", "nginx", "etc/motd", "./motd", "/etc/../motd", "file:motd", "host:web-01", "a/b.service"] {
            assert!(id(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn refusals_exit_3_and_a_lost_answer_1() {
        let refused = ClientError::Refused { reason: "not-managed".to_owned(), message: String::new() };
        assert_eq!((exit_code(&refused), word(&refused)), (3, "not-managed"));
        assert_eq!((exit_code(&ClientError::NotRunning), word(&ClientError::NotRunning)), (3, "not-running"));
        let denied = ClientError::PermissionDenied;
        assert_eq!((exit_code(&denied), word(&denied)), (3, "needs-root"));
    }
}
