//! What every dnf answers alike, understood, and what is made of its answers. Pure.

use std::collections::HashMap;

use super::database::Database;
use crate::kinds::package::fault::{Fault, Remedy};
use crate::kinds::package::solve::{Action, Policy, Task};
use crate::kinds::package::{Transaction, tool};
use crate::model::one_line;

/// What the package sources have: by name, with its architecture where that is a foreign one. As dnf would
/// choose it: the newest first.
pub fn policies(text: &str, native: &str) -> Result<HashMap<String, Policy>, Fault> {
    let mut all: HashMap<String, Policy> = HashMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let [name, version, architecture] = line.split('\t').collect::<Vec<_>>()[..] else {
            let why = format!("a line of dnf that is not understood: {}", one_line(line, 120));
            return Err(Fault::new("cannot-tell", why).with(Remedy::General));
        };
        let version = version.strip_prefix("0:").unwrap_or(version);
        let policy = all.entry(canonical(name, architecture, native)).or_default();
        if !policy.versions.iter().any(|(known, _)| known == version) {
            policy.versions.push((version.to_owned(), 0));
        }
    }
    for policy in all.values_mut() {
        policy.versions.sort_by(|(a, _), (b, _)| super::compare(b, a));
        policy.candidate = policy.versions.first().map(|(version, _)| version.clone());
    }
    Ok(all)
}

fn canonical(name: &str, architecture: &str, native: &str) -> String {
    match architecture == native || architecture == "noarch" {
        true => name.to_owned(),
        false => format!("{name}:{architecture}"),
    }
}

/// Names as declarations have them, and what was there before.
pub fn complete(transaction: &mut Transaction, database: &Database) {
    let short = |name: &str| match name.strip_suffix(":noarch") {
        Some(bare) => bare.to_owned(),
        None => tool::Database::canonical(database, name).to_owned(),
    };
    for install in &mut transaction.install {
        install.name = short(&install.name);
        install.from = database.version(&install.name).map(str::to_owned);
    }
    for name in &mut transaction.remove {
        *name = short(name);
    }
}

/// What is wanted is part of the transaction, rather than something that replaces it.
pub fn keeps_to(transaction: &Transaction, tasks: &[&Task]) -> Result<(), Fault> {
    let comes = |name: &str| transaction.install.iter().any(|install| install.name == name);
    let missing = tasks.iter().find(|task| matches!(task.action, Action::Install { .. }) && !comes(&task.name));
    let Some(task) = missing else { return Ok(()) };
    let others: Vec<&str> = transaction.install.iter().map(|install| install.name.as_str()).collect();
    let why = match others.is_empty() {
        true => format!("dnf would not install {}", task.name),
        false => format!("dnf would not install {}, but {}", task.name, one_line(&others.join(", "), 200)),
    };
    Err(Fault::new("unresolvable", why).with(Remedy::Refresh))
}

/// `NAME:ARCH` of `NAME-VERSION-RELEASE.ARCH`.
pub fn name_in(nevra: &str) -> Option<String> {
    let (rest, architecture) = nevra.rsplit_once('.')?;
    let mut parts = rest.rsplitn(3, '-').skip(2);
    Some(format!("{}:{architecture}", parts.next().filter(|name| !name.is_empty())?))
}

/// Whose scriptlet failed, where rpm says that here, and how: `%prein(broken-1.0-1.noarch) scriptlet failed, exit status 1`.
pub fn scriptlet(text: &str) -> Option<(String, String)> {
    let (script, rest) = text.strip_prefix('%')?.split_once('(')?;
    let (package, what) = rest.split_once(") ")?;
    what.starts_with("scriptlet failed").then_some(())?;
    Some((name_in(package)?, format!("its %{script} {what}")))
}

/// What was not done, where rpm says that here: `broken-1.0-1.noarch: install failed`.
pub fn unfinished(text: &str) -> Option<String> {
    let (package, what) = text.split_once(": ")?;
    matches!(what, "install failed" | "erase failed").then(|| name_in(package))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::package::Install;

    #[test]
    fn versions_are_read_and_the_newest_is_the_candidate() {
        for text in [include_str!("../fixtures/dnf-available.txt"), include_str!("../fixtures/dnf5-available.txt")] {
            let all = policies(text, "x86_64").expect("understood");
            let alpha = &all["alpha"];
            assert_eq!(alpha.candidate.as_deref(), Some("2:2.0-1"));
            let versions: Vec<&str> = alpha.versions.iter().map(|(version, _)| version.as_str()).collect();
            assert_eq!(versions, ["2:2.0-1", "1.1-2.fc40", "1.1-1", "1.0-1"]);
            assert!(!all.contains_key("mail-thing"), "what is provided is not what is there");
        }
        let foreign = policies(include_str!("../fixtures/dnf5-available.txt"), "x86_64").expect("understood");
        assert!(foreign.contains_key("libm") && foreign.contains_key("libm:i686"));
        assert!(policies("error\n", "x86_64").is_err());
    }

    #[test]
    fn a_package_is_named_by_what_rpm_calls_it() {
        for (nevra, name) in [
            ("broken-1.0-1.noarch", Some("broken:noarch")),
            ("gcc-c++-0:14.1-2.fc40.x86_64", Some("gcc-c++:x86_64")),
            ("-1-1.noarch", None),
            ("broken-1.noarch", None),
            ("so sorry", None),
        ] {
            assert_eq!(name_in(nevra).as_deref(), name, "{nevra}");
        }
        assert_eq!(scriptlet("%post(a-1-1.noarch) scriptlet finished"), None);
        assert_eq!(unfinished("a-1-1.noarch: install skipped"), None, "since another failed");
    }

    #[test]
    fn something_else_in_place_of_what_is_wanted_is_refused() {
        let install = |name: &str| {
            let action = Action::Install { version: None, downgrade: false };
            Task { index: 0, name: name.to_owned(), action, held: false }
        };
        let comes = Install { name: "neworig".to_owned(), from: None, to: "1.0-1".to_owned() };
        let found = Transaction { install: vec![comes], ..Transaction::default() };
        assert_eq!(keeps_to(&found, &[&install("neworig")]), Ok(()));
        let fault = keeps_to(&found, &[&install("orig")]).expect_err("another one");
        assert_eq!((fault.reason, fault.why.as_str()), ("unresolvable", "dnf would not install orig, but neworig"));
    }
}
