//! Errors that end a pass, each with its stable word and whether trying again may help.

use super::bind::HostChanged;
use crate::apply;
use crate::host;
use crate::model::{Class, Stage, Stop, one_line};
use crate::source::SourceError;

/// What belongs to a stage becomes a stop of that stage.
pub(super) trait At<T> {
    fn at(self, stage: Stage) -> Result<T, Stop>;
}

impl<T, E: Reasoned> At<T> for Result<T, E> {
    fn at(self, stage: Stage) -> Result<T, Stop> {
        self.map_err(|error| stop(stage, &error))
    }
}

/// An error that can end a pass: its stable word, and whether trying again may help.
pub(super) trait Reasoned: std::error::Error {
    fn word(&self) -> (&'static str, Class);
}

pub(super) fn stop(stage: Stage, error: &dyn Reasoned) -> Stop {
    let (reason, class) = error.word();
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !message.contains(&cause_text) {
            message.push_str(": ");
            message.push_str(&cause_text);
        }
        source = cause.source();
    }
    Stop { stage, class, reason: reason.to_owned(), message: one_line(&message, 1000) }
}

impl Reasoned for host::Error {
    fn word(&self) -> (&'static str, Class) {
        (self.reason(), Class::Transient)
    }
}

impl Reasoned for host::FactsError {
    fn word(&self) -> (&'static str, Class) {
        ("cannot-tell", Class::Transient)
    }
}

impl Reasoned for host::StateError {
    fn word(&self) -> (&'static str, Class) {
        // Its own method, not this one.
        host::StateError::word(self)
    }
}

impl Reasoned for host::DocumentError {
    fn word(&self) -> (&'static str, Class) {
        match self {
            Self::CannotLook(error) => error.word(),
            Self::Damaged { .. } => ("state-damaged", Class::Stalled),
            Self::FromTheFuture { .. } => ("agent-too-old", Class::Stalled),
        }
    }
}

impl Reasoned for apply::Error {
    fn word(&self) -> (&'static str, Class) {
        match self {
            Self::State(error) => error.word(),
        }
    }
}

impl Reasoned for SourceError {
    fn word(&self) -> (&'static str, Class) {
        (self.reason(), self.class())
    }
}

impl Reasoned for HostChanged {
    fn word(&self) -> (&'static str, Class) {
        ("host-changed", Class::Stalled)
    }
}
