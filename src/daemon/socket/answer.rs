//! From a call to what is to be done about it: pure, but for the documents that are written once.

use std::collections::BTreeSet;

use zlink::varlink_service;

use super::documents::{Documents, Message, Which};
use super::interface;
use super::parameters::Parameters;
use super::wire::{Fault, INTERFACE, Method, Wrong};
use crate::daemon::{Request, Snapshot};
use crate::model::{CommitId, Id, escaped};
use crate::reconcile::{self, NotNamed};

/// A suspension ends within this many seconds: 30 days.
const LONGEST_SUSPENSION: i64 = 30 * 24 * 3600;
/// How long a reason may be, in characters.
const LONGEST_REASON: usize = 500;
/// How many resources one request may name.
const MOST_RESOURCES: usize = 100;

/// What a call comes to.
#[derive(Debug)]
pub(super) enum Doing {
    /// This is the answer.
    Say(Message),
    /// The status, and again whenever it changes.
    Watch,
    /// The loop is asked.
    Ask(Request),
}

/// Who calls, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// The user, by the credentials of the peer.
    pub(super) uid: u32,
    /// Whether more than one reply was asked for.
    pub(super) more: bool,
    /// Whether another protocol was asked for.
    pub(super) upgrade: bool,
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// What `method` comes to.
pub(super) fn judge(
    method: Method,
    call: Call,
    snapshot: &Snapshot,
    documents: &mut Documents,
) -> Result<Doing, Wrong> {
    if call.upgrade {
        let parameter = "upgrade".into();
        return Err(varlink_service::Error::InvalidParameter { parameter }.into());
    }
    let Some((interface, name)) = method.method.rsplit_once('.') else {
        return Err(Wrong::no_method(&method.method));
    };
    match interface {
        INTERFACE => {}
        "org.varlink.service" => {
            return service(name, method.parameters).map(Doing::Say).map_err(|wrong| match wrong {
                // That interface has its own word for it.
                Wrong::Agent(Fault::InvalidParameter { parameter, .. }) => {
                    varlink_service::Error::InvalidParameter { parameter: parameter.into() }.into()
                }
                wrong => wrong,
            });
        }
        _ => return Err(Wrong::no_interface(interface)),
    }
    let diffs = call.uid == 0;
    let which = match name {
        "Status" => Which::Status,
        "Resources" => Which::Resources,
        "Drift" => Which::Drift { diffs },
        "Plan" => Which::Plan { diffs },
        "History" => {
            let mut given = Parameters::new(method.parameters)?;
            let limit = given.count("limit")?;
            given.end()?;
            let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
            return Ok(Doing::Say(documents.history(snapshot, limit)));
        }
        "Watch" => {
            Parameters::new(method.parameters)?.end()?;
            return if call.more { Ok(Doing::Watch) } else { Err(varlink_service::Error::ExpectedMore.into()) };
        }
        name if CHANGES.contains(&name) => {
            if call.uid != 0 {
                return Err(Fault::PermissionDenied.into());
            }
            return change(name, Parameters::new(method.parameters)?, snapshot, call.now).map(Doing::Ask);
        }
        _ => return Err(Wrong::no_method(&method.method)),
    };
    Parameters::new(method.parameters)?.end()?;
    Ok(Doing::Say(documents.get(snapshot, which)))
}

/// The interface that every Varlink service has.
fn service(name: &str, parameters: Option<serde_json::Value>) -> Result<Message, Wrong> {
    let mut given = Parameters::new(parameters)?;
    match name {
        "GetInfo" => {
            given.end()?;
            Ok(Message::reply(interface::info()))
        }
        "GetInterfaceDescription" => {
            let wanted = given.text("interface")?;
            given.end()?;
            let description = interface::description(&wanted).ok_or_else(|| Wrong::no_interface(&wanted))?;
            Ok(Message::reply(serde_json::json!({ "description": description })))
        }
        _ => Err(Wrong::no_method(&format!("org.varlink.service.{name}"))),
    }
}

/// Methods that ask the loop for something.
pub(super) const CHANGES: &[&str] = &["Sync", "Suspend", "Resume", "Approve", "Retry", "Rollback", "Restore"];

/// What root asks for, with every value looked at.
fn change(name: &str, mut given: Parameters, snapshot: &Snapshot, now: i64) -> Result<Request, Wrong> {
    let request = match name {
        "Sync" => Request::Sync { allow_removals: given.count("allow_removals")? },
        "Suspend" => Request::Suspend {
            resources: resources(&mut given)?,
            until: until(&mut given, now)?,
            reason: reason(&mut given)?,
        },
        "Resume" => Request::Resume { resources: resources(&mut given)? },
        "Approve" => {
            let commit = given.maybe_text("commit")?;
            Request::Approve { commit: commit.map(|commit| find(&commit, snapshot, true)).transpose()? }
        }
        "Retry" => Request::Retry,
        "Rollback" => Request::Rollback { commit: find(&given.text("commit")?, snapshot, false)? },
        "Restore" => Request::Restore { copy: copy(&mut given)? },
        _ => return Err(Wrong::no_method(name)),
    };
    given.end()?;
    Ok(request)
}

fn resources(given: &mut Parameters) -> Result<Vec<Id>, Wrong> {
    let mut seen = BTreeSet::new();
    let mut ids = Vec::new();
    for text in given.texts("resources", MOST_RESOURCES)? {
        let id: Id = text.parse().map_err(|error| Wrong::parameter("resources", format!("{error}")))?;
        if seen.insert(id.clone()) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn until(given: &mut Parameters, now: i64) -> Result<i64, Wrong> {
    let until = given.integer("until")?;
    if until <= now {
        return Err(Wrong::parameter("until", "that time is over already"));
    }
    if until.saturating_sub(now) > LONGEST_SUSPENSION {
        return Err(Wrong::parameter("until", "a suspension ends within 30 days"));
    }
    Ok(until)
}

fn reason(given: &mut Parameters) -> Result<String, Wrong> {
    let reason = given.text("reason")?;
    let length = reason.chars().count();
    if length > LONGEST_REASON {
        let message = format!("a reason has at most {LONGEST_REASON} characters, this one {length}");
        return Err(Wrong::parameter("reason", message));
    }
    Ok(escaped(&reason))
}

fn copy(given: &mut Parameters) -> Result<String, Wrong> {
    let copy = given.text("copy")?;
    let digits = copy.strip_prefix("k-").unwrap_or_default();
    if !(1..=64).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(Wrong::parameter("copy", "copies are called like k-7f31; `trueup restore` lists them"));
    }
    Ok(copy)
}

/// The commit that `text` stands for: a full id, or the beginning of one that this host knows of; also of one that it
/// has only `seen`, which nobody may have signed.
fn find(text: &str, snapshot: &Snapshot, seen: bool) -> Result<CommitId, Wrong> {
    reconcile::named_commit(text, &known(snapshot, seen)).map_err(|error| match error {
        NotNamed::NoId(_) => Wrong::parameter("commit", error.to_string()),
        _ => Wrong::refused(error.reason(), error.to_string()),
    })
}

/// Every commit that this host has acted on of late, and with `seen` that it has seen.
fn known(snapshot: &Snapshot, seen: bool) -> BTreeSet<CommitId> {
    let status = &*snapshot.status;
    let revision = &status.revision;
    let chosen = [&status.approved, &status.rolled_back].into_iter().flatten().map(|choice| &choice.commit);
    let passed = snapshot.history.iter().filter_map(|passed| passed.revision.as_ref());
    let seen = revision.seen.as_ref().filter(|_| seen);
    let named = [&revision.attempted, &revision.applied].into_iter().flatten().chain(seen);
    named.chain(chosen).chain(passed).filter_map(|commit| commit.parse().ok()).collect()
}
