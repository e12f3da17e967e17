//! What goes over the socket besides the documents: calls as they come in, and errors.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zlink::varlink_service;

/// The interface of the agent.
pub(in crate::daemon) const INTERFACE: &str = "io.trueup.Agent";

/// A method and its parameters, as sent. Parameters are judged by hand: serde would pass over unknown ones, and
/// could not say which one is wrong.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Method {
    pub(super) method: String,
    #[serde(default)]
    pub(super) parameters: Option<Value>,
}

/// Errors of `io.trueup.Agent`.
#[derive(Debug, Clone, PartialEq, Eq, zlink::ReplyError, zlink::introspect::ReplyError)]
#[zlink(interface = "io.trueup.Agent")]
pub(in crate::daemon) enum Fault {
    /// Only root may ask for this.
    PermissionDenied,
    /// Too many others are connected, or watch.
    Busy,
    /// It cannot be done; the reason is a stable word.
    Refused { reason: String, message: String },
    /// A parameter that is missing, unknown or not as it should be.
    InvalidParameter { parameter: String, message: String },
}

/// What is answered instead of a reply.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Wrong {
    /// Of our own interface.
    Agent(Fault),
    /// Of the interface that every Varlink service has.
    Service(varlink_service::Error<'static>),
}

impl Wrong {
    pub(super) fn refused(reason: &str, message: String) -> Self {
        Self::Agent(Fault::Refused { reason: reason.to_owned(), message })
    }

    pub(super) fn parameter(name: &str, message: impl Into<String>) -> Self {
        let parameter = crate::model::one_line(name, 100);
        Self::Agent(Fault::InvalidParameter { parameter, message: message.into() })
    }

    pub(super) fn no_method(method: &str) -> Self {
        Self::Service(varlink_service::Error::MethodNotFound { method: short(method) })
    }

    pub(super) fn no_interface(interface: &str) -> Self {
        Self::Service(varlink_service::Error::InterfaceNotFound { interface: short(interface) })
    }
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Self {
        Self::Agent(fault)
    }
}

impl From<varlink_service::Error<'static>> for Wrong {
    fn from(error: varlink_service::Error<'static>) -> Self {
        Self::Service(error)
    }
}

/// What a caller sent is given back bounded.
fn short(text: &str) -> Cow<'static, str> {
    Cow::Owned(crate::model::one_line(text, 200))
}
