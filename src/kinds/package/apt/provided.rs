//! Which installed packages provide a name, as dpkg has it.

use std::collections::{BTreeMap, BTreeSet};

use super::database::{LIMIT, STATUS, paragraphs};
use crate::host::{Error, Reader};

/// By which name it is remembered.
const REMEMBERED: &str = "what dpkg's packages provide";

/// By name, the installed packages that provide one of `names`.
pub fn provided(host: &Reader, names: &BTreeSet<&str>) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
    let Some(file) = host.look(STATUS)? else { return Ok(BTreeMap::new()) };
    let all = host.found_in(REMEMBERED, &file, || -> Result<_, Error> {
        Ok(parse(&String::from_utf8_lossy(&host.read(STATUS, LIMIT)?.unwrap_or_default())))
    })?;
    Ok(all.iter().filter(|(name, _)| names.contains(name.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect())
}

/// Debian policy 7.5: names, each with a version perhaps.
fn parse(status: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for [status, package, provides] in paragraphs(status, ["Status", "Package", "Provides"]) {
        if status.split_whitespace().last() != Some("installed") {
            continue;
        }
        let names = provides.split(',').filter_map(|part| part.trim().split([' ', ':', '(']).next());
        for name in names.filter(|name| !name.is_empty() && *name != package) {
            all.entry(name.to_owned()).or_default().insert(package.to_owned());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_installed_packages_provide_is_known_by_name() {
        let paragraph = |name: &str, state: &str, provides: &str| {
            format!("Package: {name}\nStatus: install ok {state}\nVersion: 1\nProvides: {provides}\n\n")
        };
        let text = paragraph("postfix", "installed", "default-mta, mail-transport-agent (= 3.7), postfix")
            + &paragraph("exim", "config-files", "mail-transport-agent")
            + &paragraph("nullmailer", "installed", "mail-transport-agent:any");
        let all = parse(&text);
        let by = |name: &str| all.get(name).map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(by("mail-transport-agent"), Some(vec!["nullmailer", "postfix"]));
        assert_eq!((by("default-mta"), by("postfix")), (Some(vec!["postfix"]), None));
    }
}
