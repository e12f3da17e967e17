use std::collections::BTreeSet;

use crate::model::Facts;

/// The host directory that is this host's: the one named as the setting, and then only that; else as the fully
/// qualified name, else as the short name. Lower case, exact. `None` where there is no such directory.
pub fn select<'a>(hosts: &'a BTreeSet<String>, setting: Option<&str>, facts: &Facts) -> Option<&'a str> {
    names_tried(setting, facts).iter().find_map(|name| hosts.get(name)).map(String::as_str)
}

/// The names that [`select`] looks for, in order.
pub fn names_tried(setting: Option<&str>, facts: &Facts) -> Vec<String> {
    let own = [facts.fqdn.as_deref(), facts.hostname.as_deref()];
    let candidates: &[Option<&str>] = if setting.is_some() { &[setting] } else { &own };
    let mut names: Vec<String> = Vec::new();
    for name in candidates.iter().flatten().map(|name| name.trim_end_matches('.').to_lowercase()) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(fqdn: Option<&str>, hostname: &str) -> Facts {
        Facts { fqdn: fqdn.map(str::to_owned), hostname: Some(hostname.to_owned()), ..Facts::default() }
    }

    #[test]
    fn the_setting_then_the_full_name_then_the_short_one() {
        let hosts: BTreeSet<String> = ["web-01", "web-01.example.org", "db"].map(str::to_owned).into();
        let both = facts(Some("web-01.example.org"), "web-01");
        assert_eq!(select(&hosts, None, &both), Some("web-01.example.org"));
        assert_eq!(select(&hosts, None, &facts(Some("web-01.other"), "WEB-01")), Some("web-01"));
        assert_eq!(select(&hosts, Some("DB"), &both), Some("db"));
        assert_eq!(select(&hosts, Some("gone"), &both), None, "a setting is not second-guessed");
        assert_eq!(select(&hosts, None, &facts(None, "web-02")), None);
        assert_eq!(select(&hosts, None, &Facts::default()), None);
    }

    #[test]
    fn the_names_tried_can_be_told() {
        assert_eq!(names_tried(None, &facts(Some("A.example.org."), "a")), ["a.example.org", "a"]);
        assert_eq!(names_tried(None, &facts(Some("a"), "a")), ["a"]);
        assert_eq!(names_tried(Some(""), &facts(None, "a")), Vec::<String>::new());
    }
}
