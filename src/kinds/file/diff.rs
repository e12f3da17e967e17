use super::{Observed, Owner, Present, Spec, Standing, What};
use crate::host::powers_lost;
use crate::model::Change;

/// What has to change for `seen` to be as `want` says.
pub(super) fn diff(want: &Spec, seen: &Observed) -> Vec<Change> {
    let seen = match (&want.what, seen) {
        (What::Absent, Observed::Absent | Observed::AbsentBehind { .. }) => return Vec::new(),
        (What::Absent, Observed::Present(seen)) => return vec![Change::new("state", seen.what.describe(), "absent")],
        // What it comes to is not known: always more to do, which an obstacle then keeps from being done.
        (What::Sealed { .. }, _) => return vec![Change::new("content", "", "")],
        (what, Observed::Absent | Observed::AbsentBehind { .. }) => {
            return vec![Change::new("state", "absent", describe(what))];
        }
        (_, Observed::Present(seen)) => seen,
    };
    let mut changes = Vec::new();
    match (&want.what, &seen.what) {
        (What::Attributes, _) | (What::Directory | What::Tree { .. }, Standing::Directory) => {}
        (What::Regular { content, .. }, Standing::Regular { digest, .. }) => {
            if content != digest {
                changes.push(Change::new("content", digest.short(), content.short()));
            }
        }
        (What::Regular { content, .. }, Standing::Large { size }) => {
            changes.push(Change::new("content", format!("{size} B"), content.short()));
        }
        (What::Symlink { target: to }, Standing::Symlink { target: from }) => {
            if to != from {
                changes.push(Change::new("target", from, to));
            }
        }
        // Nothing else can be compared across types.
        (what, standing) => return vec![Change::new("type", standing.describe(), describe(what))],
    }
    let owner = owned("owner", want.owner.as_deref(), seen.owner.as_ref());
    let group = owned("group", want.group.as_deref(), seen.group.as_ref());
    let mode = want.mode.or_else(|| without_powers(seen, owner.is_some(), group.is_some()));
    changes.extend([owner, group, moded(mode, want.unlisted, seen)].into_iter().flatten());
    changes
}

/// The mode of what is given to another owner or group, where it may do something in the name of the one that it has:
/// that goes.
fn without_powers(seen: &Present, owner: bool, group: bool) -> Option<u32> {
    let powers = powers_lost(seen.what == Standing::Directory, owner, group);
    (seen.mode & powers != 0).then_some(seen.mode & !powers)
}

fn owned(property: &str, want: Option<&str>, seen: Option<&Owner>) -> Option<Change> {
    let (want, seen) = (want?, seen?);
    (!seen.is(want)).then(|| Change::new(property, seen.name(), want))
}

fn moded(want: Option<u32>, unlisted: Option<u32>, seen: &Present) -> Option<Change> {
    let want = want? & 0o7777;
    let differs = want != seen.mode && unlisted != Some(seen.mode) && !matches!(seen.what, Standing::Symlink { .. });
    differs.then(|| Change::new("mode", format!("{:04o}", seen.mode), format!("{want:04o}")))
}

/// With its article: `a symbolic link`.
pub(super) fn describe(what: &What) -> &'static str {
    match what {
        What::Absent => "absent",
        What::Regular { .. } | What::Sealed { .. } => "a file",
        What::Directory | What::Tree { .. } => "a directory",
        What::Symlink { .. } => "a symbolic link",
        What::Attributes => "present",
    }
}

/// What is wanted, in words: `a regular file, 12 B, 0644 root:root`.
pub(super) fn wanted(want: &Spec) -> String {
    let mut words = match &want.what {
        What::Symlink { target } => format!("a symbolic link to {target}"),
        // How long it is says something of a password.
        _ if want.secret.is_some() => "a secret".to_owned(),
        What::Regular { size, .. } => format!("{}, {size} B", describe(&want.what)),
        what => describe(what).to_owned(),
    };
    if let Some(mode) = want.mode {
        words.push_str(&format!(", {mode:04o}"));
    }
    match (&want.owner, &want.group) {
        (Some(owner), Some(group)) => words.push_str(&format!(", {owner}:{group}")),
        (Some(owner), None) => words.push_str(&format!(", owner {owner}")),
        (None, Some(group)) => words.push_str(&format!(", group {group}")),
        (None, None) => {}
    }
    words
}
