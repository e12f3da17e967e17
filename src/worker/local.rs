//! Repositories that are directories of this machine: opened where they are.

use std::fs;
use std::path::Path;

use gix::ObjectId;

use super::trouble::{Result, Trouble};

/// Opens the repository in `directory`, bare or with a work tree. None of its settings are believed:
/// nothing it names is run.
pub(super) fn open(directory: &Path) -> Result<gix::Repository> {
    let meta = fs::metadata(directory).map_err(|error| Trouble::io("read", directory, &error))?;
    if !meta.is_dir() {
        return Err(Trouble::new("not-a-repository", format!("{} is not a directory", directory.display())));
    }
    fs::read_dir(directory).map_err(|error| Trouble::io("read", directory, &error))?;
    let options = gix::open::Options::isolated()
        .with(gix::sec::Trust::Reduced)
        .config_overrides([format!("gitoxide.objects.allocLimit={}", super::clone::LARGEST_OBJECT)]);
    gix::open_opts(directory, options).map_err(|_| unreadable(directory).unwrap_or_else(|| not_a_repository(directory)))
}

/// The commit that `branch` names; `HEAD` is what is checked out.
pub(super) fn tip(repository: &gix::Repository, directory: &Path, branch: &str) -> Result<ObjectId> {
    // What a parser says may hold what it has read: a link in there may lead to a file that is nobody else's to see.
    let damaged = |_: gix::Error| {
        unreadable(directory).unwrap_or_else(|| {
            let message = format!("cannot read {branch} of {}: git fsck there tells why", directory.display());
            Trouble::new("damaged-clone", message)
        })
    };
    let named = match branch {
        "HEAD" => repository.head().map_err(damaged)?.try_into_peeled_id().map_err(damaged)?,
        _ => match repository.try_find_reference(&format!("refs/heads/{branch}")).map_err(damaged)? {
            Some(mut reference) => Some(reference.peel_to_id().map_err(damaged)?),
            None => None,
        },
    };
    named.map(gix::Id::detach).ok_or_else(|| {
        // An unreadable directory of references looks like one without references.
        unreadable(directory).unwrap_or_else(|| {
            let what = match branch {
                "HEAD" => "no commit yet".to_owned(),
                _ => format!("no branch {branch}"),
            };
            Trouble::new("no-such-branch", format!("{} has {what}", directory.display()))
        })
    })
}

fn not_a_repository(directory: &Path) -> Trouble {
    let message =
        format!("{} is not a Git repository that can be read: git status there tells why", directory.display());
    Trouble::new("not-a-repository", message)
}

/// The first of the places that Git needs that is there and cannot be read.
fn unreadable(directory: &Path) -> Option<Trouble> {
    let work_tree = directory.join(".git");
    let git = if fs::symlink_metadata(&work_tree).is_ok() { work_tree } else { directory.to_owned() };
    for name in ["", "objects", "objects/pack", "refs", "refs/heads"] {
        let path = git.join(name);
        match fs::read_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Some(Trouble::io("read", &path, &error));
            }
            _ => {}
        }
    }
    for name in ["HEAD", "config", "packed-refs"] {
        let path = git.join(name);
        match fs::File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Some(Trouble::io("read", &path, &error));
            }
            _ => {}
        }
    }
    None
}
