use super::KEEP;
use super::diff::describe;
use super::explain::too_large;
use super::{Observed, Present, Replace, Spec, Standing, What};
use crate::host::{Error, Over};

/// What stands there and keeps `want` from being converged to, if anything: told in the plan already. Pure.
pub(super) fn obstacle(path: &str, want: &Spec, seen: &Observed) -> Option<Error> {
    if let What::Sealed { why } = &want.what {
        return Some(Error::locked(path, why));
    }
    let Observed::Present(standing) = seen else { return None };
    match (&want.what, &standing.what) {
        (What::Attributes, _) | (What::Directory | What::Tree { .. }, Standing::Directory) => None,
        (_, Standing::Large { size }) => Some(too_large(path, *size, KEEP)),
        _ if standing.mount_point => Some(in_the_way(path, want, standing)),
        (What::Absent, Standing::Other(_)) if want.replace != Replace::Any => Some(in_the_way(path, want, standing)),
        (What::Absent, _) => None,
        _ => over(path, want, seen).err(),
    }
}

/// What may go where `want` is to stand and `seen` stands. Pure.
///
/// # Errors
/// `in-the-way` where what stands there may not go.
pub(super) fn over(path: &str, want: &Spec, seen: &Observed) -> Result<Over, Error> {
    let Observed::Present(seen) = seen else { return Ok(Over::Nothing) };
    let replace = want.replace;
    match (&want.what, &seen.what) {
        (What::Regular { .. } | What::Sealed { .. }, Standing::Regular { .. })
        | (What::Symlink { .. }, Standing::Symlink { .. }) => Ok(Over::Leaf),
        (_, Standing::Symlink { .. }) if matches!(replace, Replace::Symlink | Replace::Any | Replace::Own) => {
            Ok(Over::Leaf)
        }
        (_, Standing::Regular { .. }) if matches!(replace, Replace::Any | Replace::Own) => Ok(Over::Leaf),
        (_, Standing::Directory) if matches!(replace, Replace::Directory | Replace::Any) => Ok(Over::Tree),
        (_, Standing::Directory) if replace == Replace::Own => Ok(Over::Empty),
        (_, Standing::Other(_)) if replace == Replace::Any => Ok(Over::Leaf),
        _ => Err(in_the_way(path, want, seen)),
    }
}

/// Names what stands there and the word that allows it to go.
pub(super) fn in_the_way(path: &str, want: &Spec, seen: &Present) -> Error {
    let word = match seen.what {
        Standing::Symlink { .. } => "symlink",
        Standing::Directory => "directory",
        Standing::Regular { .. } | Standing::Large { .. } | Standing::Other(_) => "any",
    };
    let (what, hint) = match &want.what {
        _ if seen.mount_point => ("a mount point", String::new()),
        What::Absent => (seen.what.describe(), format!("replace = \"{word}\" removes it")),
        what => (seen.what.describe(), format!("replace = \"{word}\" allows {} in its place", describe(what))),
    };
    Error::InTheWay { path: path.to_owned(), what: what.to_owned(), hint }
}
