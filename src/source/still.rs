//! Where a repository of this machine stands, by the files in which Git keeps that (gitrepository-layout(5)): for the many
//! passes that find it where it was. It only ever says that what is checked out is still the commit that is known;
//! whatever else is there is for the fetch worker to find.

use std::path::Path;

use crate::host;
use crate::model::CommitId;

/// What such a file holds at most, in bytes.
const LONGEST: u64 = 512;

/// A commit that is known, as Git hashes it: its content, without the header of the object.
#[derive(Debug, Clone, Copy)]
pub struct Had<'a> {
    /// Its id.
    pub commit: &'a CommitId,
    /// Its content. Whether it is that is not checked yet.
    pub raw: &'a str,
}

/// Whether what is checked out in the repository `directory`, bare or with a work tree, is `commit`. A branch that is
/// packed, or kept in another way than in a file of its own, is not looked for.
pub(super) fn is_still_at(directory: &Path, commit: &CommitId) -> bool {
    let work_tree = directory.join(".git");
    let git = if work_tree.is_dir() { work_tree } else { directory.to_owned() };
    let line = |name: &str| {
        let content = String::from_utf8(host::read_regular(&git.join(name), LONGEST).ok()?).ok()?;
        content.strip_suffix('\n').map(str::to_owned)
    };
    let Some(head) = line("HEAD") else { return false };
    let id = match head.strip_prefix("ref: ") {
        Some(branch) if is_branch(branch) => line(branch),
        Some(_) => None,
        None => Some(head),
    };
    id.as_deref() == Some(commit.as_str())
}

/// Whether it names a file below `refs/heads`; git-check-ref-format(1).
fn is_branch(name: &str) -> bool {
    let parts = name.strip_prefix("refs/heads/").unwrap_or_default().split('/');
    parts.into_iter().all(|part| !part.is_empty() && !part.starts_with('.'))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests lay out repositories")]
mod tests {
    use std::fs;

    use super::*;

    fn id(digit: &str) -> CommitId {
        digit.repeat(40).parse().expect("an id")
    }

    #[test]
    fn only_a_branch_in_a_file_of_its_own_or_no_branch_at_all_is_where_it_was() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let (one, two) = (id("1"), id("2"));
        for git in ["work/.git", "bare"] {
            let git = scratch.path().join(git);
            let directory = if git.ends_with(".git") { git.parent().expect("above") } else { &git };
            fs::create_dir_all(git.join("refs/heads/fleet")).expect("made");
            fs::write(git.join("refs/heads/fleet/main"), format!("{one}\n")).expect("written");
            fs::write(git.join("outside"), format!("{one}\n")).expect("written");
            for (head, is) in [
                ("ref: refs/heads/fleet/main\n".to_owned(), true),
                (format!("{one}\n"), true),
                (format!("{two}\n"), false),
                (format!("{one}"), false),
                (format!("{one}\n\n"), false),
                ("ref: refs/heads/fleet/packed\n".to_owned(), false),
                ("ref: refs/heads/fleet\n".to_owned(), false),
                ("ref: refs/heads/../../outside\n".to_owned(), false),
                ("ref: outside\n".to_owned(), false),
                ("ref: refs/heads/.invalid\n".to_owned(), false),
                (String::new(), false),
            ] {
                fs::write(git.join("HEAD"), &head).expect("written");
                assert_eq!(is_still_at(directory, &one), is, "{head:?}");
            }
            fs::write(git.join("HEAD"), "ref: refs/heads/fleet/main\n").expect("written");
            assert!(!is_still_at(directory, &two));
        }
        assert!(!is_still_at(&scratch.path().join("nothing"), &one));
    }
}
