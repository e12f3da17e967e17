//! What the fifth dnf keeps at a version: entries of its file, see dnf5-versionlock(8). Pure.

use std::cmp::Ordering;

use serde::Deserialize;
use toml_edit::{DocumentMut, Item, Table, TomlError};

use crate::kinds::package::dnf::compare;
use crate::kinds::package::dnf::database::Entry;
use crate::model::{glob, one_line};

/// The layout that there is; of another it reads nothing.
const LAYOUT: &str = "1.0";

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    version: String,
    #[serde(default)]
    packages: Vec<Conditions>,
}

/// One entry: of the packages of this name only those that meet all conditions may come.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Conditions {
    /// `*` and `?` stand for anything.
    #[serde(default)]
    name: String,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Condition {
    /// `evr`, `epoch` or `arch`.
    #[serde(default)]
    key: String,
    #[serde(default)]
    comparator: String,
    #[serde(default)]
    value: String,
}

/// The entries of its file.
pub fn parse(text: &str) -> Result<Vec<Conditions>, String> {
    let file: File = toml::from_str(text).map_err(|error| one_line(error.message(), 200))?;
    if file.version != LAYOUT {
        return Ok(Vec::new());
    }
    // Without a name or a condition an entry locks nothing.
    Ok(file.packages.into_iter().filter(|entry| !entry.name.is_empty() && !entry.conditions.is_empty()).collect())
}

/// `text` without what `versionlock add` has written for packages of these names: a version, and nothing else. Ranges,
/// patterns and what is excluded somebody wrote by hand, and they stay. `None` where there is nothing to take out.
pub fn without_versions(text: &str, names: &[String]) -> Result<Option<String>, String> {
    let mut file: DocumentMut = text.parse().map_err(|error: TomlError| one_line(error.message(), 200))?;
    let known = file.get("version").and_then(Item::as_str) == Some(LAYOUT);
    let Some(entries) = file.get_mut("packages").and_then(Item::as_array_of_tables_mut).filter(|_| known) else {
        return Ok(None);
    };
    let text = |table: &Table, key: &str| table.get(key).and_then(Item::as_str).unwrap_or_default().to_owned();
    let is_version = |entry: &Table| {
        let conditions = entry.get("conditions").and_then(Item::as_array_of_tables);
        let only = conditions.filter(|all| all.len() == 1).and_then(|all| all.get(0));
        only.is_some_and(|only| text(only, "key") == "evr" && ["=", "=="].contains(&text(only, "comparator").as_str()))
    };
    let before = entries.len();
    entries.retain(|entry| !(names.contains(&text(entry, "name")) && is_version(entry)));
    Ok((entries.len() < before).then(|| file.to_string()))
}

impl Conditions {
    /// Whether it is for packages of this name.
    pub fn concerns(&self, bare: &str) -> bool {
        glob::matches(&self.name, bare)
    }

    /// Whether it keeps just what is installed: it says this version, and all else that it says holds.
    pub fn keeps(&self, bare: &str, entry: &Entry) -> bool {
        let says =
            |condition: &Condition| condition.key == "evr" && matches!(condition.comparator.as_str(), "=" | "==");
        self.concerns(bare)
            && self.conditions.iter().any(says)
            && self.conditions.iter().all(|condition| condition.is_met(entry))
    }
}

impl Condition {
    /// Whether what is installed meets it. One that dnf does not understand it passes over, and so do we.
    fn is_met(&self, entry: &Entry) -> bool {
        let (epoch, _) = entry.version.split_once(':').unwrap_or(("0", ""));
        let order = match self.key.as_str() {
            "evr" => compare(&entry.version, &self.value),
            "epoch" => match (epoch.parse::<u64>(), self.value.parse::<u64>()) {
                (Ok(there), Ok(wanted)) => there.cmp(&wanted),
                _ => return true,
            },
            "arch" => entry.architecture.as_str().cmp(&self.value),
            _ => return true,
        };
        match self.comparator.as_str() {
            "=" | "==" => order == Ordering::Equal,
            "<>" | "!=" => order != Ordering::Equal,
            "<" => order == Ordering::Less,
            "<=" => order != Ordering::Greater,
            ">" => order == Ordering::Greater,
            ">=" => order != Ordering::Less,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::package::cut;

    fn entry(version: &str) -> Entry {
        Entry { version: version.to_owned(), architecture: "noarch".to_owned() }
    }

    #[test]
    fn what_dnf_itself_locked_is_kept_at_its_version() {
        let locks = parse(include_str!("../../fixtures/versionlock.toml")).expect("understood");
        assert_eq!(locks.len(), 1);
        assert!(locks[0].concerns("alpha") && !locks[0].concerns("alpha-tools"));
        assert!(locks[0].keeps("alpha", &entry("2:2.0-1")));
        for version in ["2.0-1", "2:2.0-2", "2:1.0-1"] {
            assert!(!locks[0].keeps("alpha", &entry(version)), "{version}");
        }
    }

    #[test]
    fn a_version_is_taken_out_and_what_somebody_wrote_by_hand_stays() {
        let own = include_str!("../../fixtures/versionlock.toml");
        let alpha = ["alpha".to_owned()];
        let entry = |name: &str, conditions: &[(&str, &str, &str)]| {
            let condition = |(key, comparator, value): &(&str, &str, &str)| {
                format!(
                    "[[packages.conditions]]\nkey = \"{key}\"\ncomparator = \"{comparator}\"\nvalue = \"{value}\"\n\n"
                )
            };
            let conditions: String = conditions.iter().map(condition).collect();
            format!("# why\n[[packages]]\nname = \"{name}\"\n\n{conditions}")
        };
        let by_hand = [
            entry("alpha", &[("evr", "<", "3")]),
            entry("alpha", &[("evr", "!=", "2.1-1")]),
            entry("alpha", &[("evr", "=", "2.0-1"), ("arch", "=", "i686")]),
            entry("al*", &[("evr", "=", "2.0-1")]),
            entry("beta", &[("evr", "=", "2.0-1")]),
        ]
        .concat();
        let both = format!("{own}{by_hand}");
        let left = without_versions(&both, &alpha).expect("understood").expect("one goes");
        assert_eq!(left.matches("[[packages]]").count(), 5, "{left}");
        assert!(left.ends_with(&by_hand), "{left}");
        assert_eq!(without_versions(&left, &alpha), Ok(None), "nothing else does");
        assert_eq!(without_versions("", &alpha), Ok(None));
        assert_eq!(without_versions(&own.replace("1.0\"", "2.0\""), &alpha), Ok(None), "a layout that is not known");
        assert!(without_versions("[", &alpha).is_err());
    }

    #[test]
    fn a_file_that_was_cut_short_keeps_nothing() {
        for text in cut::short(include_str!("../../fixtures/versionlock.toml")) {
            let keeps = parse(text).is_ok_and(|locks| locks.iter().any(|lock| lock.keeps("alpha", &entry("2:2.0-1"))));
            // Its last line is the version.
            assert!(!keeps || text.contains("2:2.0-1"), "{text}");
        }
    }

    #[test]
    fn only_a_version_that_is_said_is_kept_and_all_that_is_said_must_hold() {
        let lock = |conditions: &str| {
            let text = format!("version = \"1.0\"\n[[packages]]\nname = \"al*\"\n{conditions}");
            parse(&text).expect("understood").pop()
        };
        let condition = |key: &str, comparator: &str, value: &str| {
            format!("[[packages.conditions]]\nkey = \"{key}\"\ncomparator = \"{comparator}\"\nvalue = \"{value}\"\n")
        };
        let keeps = |conditions: &[String]| {
            lock(&conditions.concat()).is_some_and(|lock| lock.keeps("alpha", &entry("1:1.1-1")))
        };
        let exact = condition("evr", "=", "1:1.1-1");
        assert!(keeps(std::slice::from_ref(&exact)));
        assert!(keeps(&[condition("evr", "==", "1:1.1-1")]));
        assert!(keeps(&[exact.clone(), condition("arch", "!=", "i686"), condition("epoch", ">=", "1")]));
        assert!(keeps(&[exact.clone(), condition("flavour", "=", "sweet")]), "dnf passes over it");
        assert!(!keeps(&[exact.clone(), condition("arch", "=", "i686")]));
        assert!(!keeps(&[exact, condition("epoch", "<", "1")]));
        assert!(!keeps(&[condition("evr", "<", "1:2.0-1")]), "newer ones may come");
        assert_eq!(lock(""), None, "nothing is said");
    }

    #[test]
    fn what_is_not_understood_is_not_absence() {
        assert!(parse("version = ").is_err());
        assert!(parse("version = \"1.0\"\npackages = 7\n").is_err());
        assert_eq!(parse("packages = []\nversion = \"1.0\"\n"), Ok(Vec::new()), "as it leaves it once all are deleted");
        assert_eq!(
            parse("version = \"2.0\"\n[[packages]]\nname = \"alpha\"\n"),
            Ok(Vec::new()),
            "nor does dnf read it"
        );
    }
}
