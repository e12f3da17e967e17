//! Which commit somebody means who gives its first digits.

use crate::model::{CommitId, one_line};

/// How many digits have to be given at least.
const FEWEST: usize = 4;

/// What was given names no commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNamed {
    /// It cannot be the id of a commit.
    #[error("`{0}` is no commit id: give at least {FEWEST} of its hexadecimal digits")]
    NoId(String),
    /// This host knows of none that begins so.
    #[error("this host has met no commit that begins with {0}: give all digits of its id")]
    Unknown(String),
    /// Several begin so.
    #[error("{0} begins several commits that this host has met: {1}")]
    Several(String, String),
}

impl NotNamed {
    /// The stable word for reports.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoId(_) | Self::Unknown(_) => "no-such-commit",
            Self::Several(..) => "ambiguous-commit",
        }
    }
}

/// The commit that `text` means: a full id, known or not, or the first digits of one of `known`.
///
/// # Errors
/// Where it means none of them, or several.
pub fn named_commit<'k>(text: &str, known: impl IntoIterator<Item = &'k CommitId>) -> Result<CommitId, NotNamed> {
    let digits = text.trim().to_ascii_lowercase();
    if let Ok(id) = digits.parse() {
        return Ok(id);
    }
    if !(FEWEST..64).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(NotNamed::NoId(one_line(text, 80)));
    }
    let mut found: Vec<&CommitId> = known.into_iter().filter(|id| id.as_str().starts_with(&digits)).collect();
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [one] => Ok(one.clone()),
        [] => Err(NotNamed::Unknown(one_line(&digits, 80))),
        _ => {
            let listed: Vec<&str> = found.iter().take(8).map(|id| id.as_str()).collect();
            Err(NotNamed::Several(digits, listed.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(start: &str) -> CommitId {
        format!("{start:0<40}").parse().expect("40 digits")
    }

    #[test]
    fn first_digits_name_the_one_commit_that_is_known_by_them() {
        let known = [id("4f2a9c1"), id("4f2b"), id("4f2a9c1"), id("b81d07e")];
        let named = |text: &str| named_commit(text, &known);
        assert_eq!(named("4f2a"), Ok(id("4f2a9c1")), "twice the same is one");
        assert_eq!(named(" B81D07E\n"), Ok(id("b81d07e")));
        assert_eq!(named(id("123").as_str()), Ok(id("123")), "a full id need not be known");
        for (text, reason) in [
            ("4f2", "no-such-commit"),
            ("b81d08", "no-such-commit"),
            ("main", "no-such-commit"),
            ("", "no-such-commit"),
            ("4f2\u{1b}", "no-such-commit"),
        ] {
            assert_eq!(named(text).expect_err("none").reason(), reason, "{text:?}");
        }
        let several = named_commit("4f2a", &[id("4f2a1"), id("4f2a2")]).expect_err("two");
        assert_eq!(several.reason(), "ambiguous-commit");
        assert!(several.to_string().contains(id("4f2a2").as_str()), "{several}");
        assert!(!named("4f2\u{1b}").expect_err("none").to_string().contains('\u{1b}'));
    }
}
