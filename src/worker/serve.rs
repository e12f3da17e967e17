use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::path::PathBuf;

use gix::ObjectId;

use super::protocol::{Answer, Kind, LONGEST_PATH, ObjectName, Open, Place, Request, WireError};
use super::trouble::{Result, Trouble};
use super::{clone, local};

/// Answers requests until `input` ends.
///
/// # Errors
/// Where the other side does not keep to the protocol, or the pipe breaks.
pub fn serve(mut input: impl Read, mut output: impl Write) -> std::result::Result<(), WireError> {
    let mut opened: Option<Opened> = None;
    while let Some(request) = Request::receive(&mut input)? {
        match request {
            Request::Open(open) => {
                opened = None;
                answer_open(&mut opened, *open, false).send(&mut output)?;
            }
            Request::Afresh => {
                let open = opened.take().map(|before| before.open);
                match open {
                    Some(open) => answer_open(&mut opened, open, true).send(&mut output)?,
                    None => nothing_open().send(&mut output)?,
                }
            }
            Request::Objects(names) => {
                for name in names {
                    opened
                        .as_ref()
                        .map_or_else(nothing_open, |opened| object(&opened.repository, name))
                        .send(&mut output)?;
                }
            }
            Request::Path { from, to } => {
                let path = |opened: &Opened| path(&opened.repository, id(from), id(to)).unwrap_or_else(Answer::from);
                opened.as_ref().map_or_else(nothing_open, path).send(&mut output)?;
            }
            Request::Since { tip, known } => {
                let since =
                    |opened: &Opened| since(&opened.repository, id(tip), id(known)).unwrap_or_else(Answer::from);
                opened.as_ref().map_or_else(nothing_open, since).send(&mut output)?;
            }
        }
        output.flush()?;
    }
    Ok(())
}

struct Opened {
    open: Open,
    repository: gix::Repository,
}

fn nothing_open() -> Answer {
    Trouble::new("bad-request", "nothing is open").into()
}

fn answer_open(opened: &mut Option<Opened>, open: Open, afresh: bool) -> Answer {
    match open_place(&open, afresh) {
        Ok((repository, tip)) => {
            *opened = Some(Opened { open, repository });
            Answer::Tip(name(tip))
        }
        Err(trouble) => trouble.into(),
    }
}

fn open_place(open: &Open, afresh: bool) -> Result<(gix::Repository, ObjectId)> {
    match &open.place {
        Place::Local { .. } if afresh => {
            Err(Trouble::new("bad-request", "a repository that is opened in place is not ours to renew"))
        }
        Place::Local { directory } => {
            let directory = PathBuf::from(directory);
            let repository = local::open(&directory)?;
            let tip = local::tip(&repository, &directory, &open.branch)?;
            Ok((repository, tip))
        }
        Place::Remote(remote) => clone::fetch(remote, &open.branch, afresh),
    }
}

fn id(name: ObjectName) -> ObjectId {
    ObjectId::from_bytes_or_panic(name.as_bytes())
}

fn name(id: ObjectId) -> ObjectName {
    ObjectName::from_bytes(id.as_slice()).expect("an object id is 20 or 32 bytes")
}

fn kind(kind: gix::objs::Kind) -> Option<Kind> {
    match kind {
        gix::objs::Kind::Commit => Some(Kind::Commit),
        gix::objs::Kind::Tree => Some(Kind::Tree),
        gix::objs::Kind::Blob => Some(Kind::Blob),
        gix::objs::Kind::Tag => None,
    }
}

fn object(repository: &gix::Repository, name: ObjectName) -> Answer {
    let wanted = id(name);
    if wanted.kind() != repository.object_hash() {
        return Answer::Missing;
    }
    // The header first: what is too large is not inflated at all.
    match repository.try_find_header(wanted) {
        Ok(Some(header)) => match kind(header.kind()) {
            Some(Kind::Blob) if header.size() > Kind::Blob.limit() => return Answer::TooLarge(header.size()),
            Some(kind) if header.size() > kind.limit() => {
                return Trouble::new("too-large", format!("object {name} has {} bytes", header.size())).into();
            }
            _ => {}
        },
        Ok(None) => return Answer::Missing,
        Err(error) => return Trouble::damaged(format_args!("object {name}"), &error).into(),
    }
    match repository.try_find_object(wanted) {
        Ok(Some(found)) => match kind(found.kind) {
            Some(kind) => Answer::Object(kind, found.detach().data),
            None => Answer::Missing,
        },
        Ok(None) => Answer::Missing,
        Err(error) => Trouble::damaged(format_args!("object {name}"), &error).into(),
    }
}

/// The shortest way down from `from` to `to`, breadth first.
fn path(repository: &gix::Repository, from: ObjectId, to: ObjectId) -> Result<Answer> {
    if from.kind() != to.kind() || from.kind() != repository.object_hash() {
        return Ok(Answer::NotADescendant);
    }
    match repository.try_find_header(from) {
        Ok(Some(header)) if header.kind() == gix::objs::Kind::Commit => {}
        Ok(_) => return Ok(Answer::Missing),
        Err(error) => return Err(Trouble::damaged(format_args!("object {from}"), &error)),
    }
    let mut above: HashMap<ObjectId, ObjectId> = HashMap::new();
    let mut next = VecDeque::from([from]);
    while let Some(at) = next.pop_front() {
        if at == to {
            return way_down(&above, from, to);
        }
        let commit = repository.find_commit(at).map_err(|error| {
            Trouble::damaged(format_args!("cannot follow the history past {at}{}", shallow(repository)), &error)
        })?;
        for parent in commit.parent_ids() {
            let parent = parent.detach();
            if parent != from {
                above.entry(parent).or_insert_with(|| {
                    next.push_back(parent);
                    at
                });
            }
        }
    }
    Ok(Answer::NotADescendant)
}

fn way_down(above: &HashMap<ObjectId, ObjectId>, from: ObjectId, to: ObjectId) -> Result<Answer> {
    let mut path = vec![name(to)];
    let mut at = to;
    while at != from {
        at = above[&at];
        path.push(name(at));
        if path.len() > LONGEST_PATH {
            return Err(Trouble::new(
                "too-large",
                format!("more than {LONGEST_PATH} commits lie between {from} and {to}"),
            ));
        }
    }
    path.reverse();
    Ok(Answer::Path(path))
}

/// What `tip` has in its history and `known` has not, in no order.
fn since(repository: &gix::Repository, tip: ObjectId, known: ObjectId) -> Result<Answer> {
    if [tip, known].iter().any(|id| id.kind() != repository.object_hash() || !repository.has_object(id)) {
        return Ok(Answer::Missing);
    }
    let damaged = |error: gix::Error| {
        Trouble::damaged(format_args!("cannot follow the history of {tip}{}", shallow(repository)), &error)
    };
    let walk = repository.rev_walk([tip]).with_hidden([known]).all().map_err(damaged)?;
    let mut found = Vec::new();
    for commit in walk {
        found.push(name(commit.map_err(damaged)?.id));
        if found.len() > LONGEST_PATH {
            return Err(Trouble::new("too-large", format!("more than {LONGEST_PATH} commits are new in {tip}")));
        }
    }
    Ok(Answer::Path(found))
}

fn shallow(repository: &gix::Repository) -> &'static str {
    if repository.is_shallow().unwrap_or(false) {
        " (this is a shallow clone; `git fetch --unshallow` completes it)"
    } else {
        ""
    }
}
