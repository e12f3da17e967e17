use std::fmt;

use serde::{Deserialize, Serialize};

/// One property of one resource that is not as wanted: `mode 0644 → 0600`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `content`, `mode`, `owner`, `group`, `type`, `target`, `version`, `enabled`, `linked`, `active`, `masked`…
    pub property: String,
    /// As observed; empty where there is nothing to say.
    pub from: String,
    /// As wanted; empty where there is nothing to say.
    pub to: String,
}

impl Change {
    /// `property` is `from` and should be `to`. Both are escaped by whoever shows them.
    pub fn new(property: &str, from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { property: property.to_owned(), from: from.into(), to: to.into() }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clean = |text: &str| super::one_line(text, 200);
        match (self.property.as_str(), self.from.as_str(), self.to.as_str()) {
            // Contents are named by digest, which tells a reader nothing; `Detail` has the lines.
            ("content", ..) => write!(f, "content"),
            // Versions and states speak for themselves.
            ("version" | "state" | "masked" | "enabled" | "active", from, to) if !from.is_empty() && !to.is_empty() => {
                write!(f, "{} → {}", clean(from), clean(to))
            }
            ("masked" | "hold", "", to) => write!(f, "{}", clean(to)),
            ("masked", _, "") => write!(f, "unmasked"),
            // What a unit runs; `to` is what puts it right, where that is done.
            ("replaced-binary", path, how) => behind(f, "runs a binary that was replaced", path, how),
            ("replaced-library", path, how) => behind(f, "runs a library that was replaced", path, how),
            ("older-unit-file", path, how) => behind(f, "runs by an older unit file than there is", path, how),
            ("older-configuration", path, how) => {
                behind(f, "runs with an older configuration than there is", path, how)
            }
            (property, "", "") => write!(f, "{property}"),
            (property, "", to) => write!(f, "{property} {}", clean(to)),
            (property, from, "") => write!(f, "{property} {} →", clean(from)),
            (property, from, to) => write!(f, "{property} {} → {}", clean(from), clean(to)),
        }
    }
}

fn behind(f: &mut fmt::Formatter<'_>, what: &str, path: &str, how: &str) -> fmt::Result {
    write!(f, "{what} ({})", super::one_line(path, 200))?;
    if how.is_empty() { Ok(()) } else { write!(f, " → {}", super::one_line(how, 200)) }
}

impl Detail {
    /// All that is said of the content of a secret: not even how long it is.
    pub fn of_secret() -> Self {
        Self { summary: "differs (secret)".to_owned(), lines: Vec::new() }
    }
}

/// What a change of content is, line by line, where it is text and not a secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Detail {
    /// `+2 -1`, `binary, 12 KiB → 14 KiB`.
    pub summary: String,
    /// Unified lines with their sign in front; empty where there is nothing to show. Not escaped.
    pub lines: Vec<String>,
}
