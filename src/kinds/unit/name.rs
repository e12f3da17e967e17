//! What the name of a unit tells; see systemd.unit(5).

/// Where unit files and drop-ins may be declared: the administrator's, then those of packages. `/lib` is `/usr/lib` by
/// the time that anything has an id.
pub const DIRECTORIES: [&str; 3] = ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];

/// The types of units.
pub const TYPES: &[&str] =
    &["service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"];

/// Whether `name` is a full unit name, suffix included.
pub fn is_valid(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    let Some((stem, suffix)) = name.rsplit_once('.') else { return false };
    name.len() <= 255
        && !stem.is_empty()
        && !stem.starts_with('@')
        && TYPES.contains(&suffix)
        && name.bytes().all(allowed)
}

/// The part before the last dot, and the type after it.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or((name, ""))
}

/// `foo` and `bar` of `foo@bar.service`; `bar` is empty for a template, `None` for a plain unit.
pub(super) fn prefix_and_instance(name: &str) -> (&str, Option<&str>) {
    let (stem, _) = split(name);
    stem.split_once('@').map_or((stem, None), |(prefix, instance)| (prefix, Some(instance)))
}

/// Whether it is a template itself: `foo@.service`.
pub(super) fn is_template(name: &str) -> bool {
    prefix_and_instance(name).1 == Some("")
}

/// The template of an instance: `foo@.service` for `foo@bar.service`.
pub(super) fn template(name: &str) -> Option<String> {
    match prefix_and_instance(name) {
        (prefix, Some(instance)) if !instance.is_empty() => Some(format!("{prefix}@.{}", split(name).1)),
        _ => None,
    }
}

/// This instance of the template `name`.
pub(super) fn with_instance(name: &str, instance: &str) -> String {
    format!("{}@{instance}.{}", prefix_and_instance(name).0, split(name).1)
}

/// `.service`, with its dot.
pub(super) fn suffix(name: &str) -> &str {
    &name[name.rfind('.').unwrap_or(name.len())..]
}

/// The service that a timer, socket or path unit starts unless it says otherwise.
pub(super) fn triggered_service(name: &str) -> Option<String> {
    let (stem, suffix) = split(name);
    matches!(suffix, "timer" | "socket" | "path").then(|| format!("{stem}.service"))
}

/// The names that its unit file may have: its own, and its template's.
pub(super) fn files(name: &str) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(template(name)).collect()
}

/// The directories, without path, whose `*.conf` are its drop-ins: its own, its template's, those of
/// each prefix that ends in a dash, and that of its type.
pub(super) fn drop_in_directories(name: &str) -> Vec<String> {
    let (prefix, instance) = prefix_and_instance(name);
    let suffix = suffix(name);
    let mut found = Vec::new();
    let mut add = |prefix: &str| match instance {
        None => found.push(format!("{prefix}{suffix}.d")),
        Some(instance) => {
            if !instance.is_empty() {
                found.push(format!("{prefix}@{instance}{suffix}.d"));
            }
            found.push(format!("{prefix}@{suffix}.d"));
        }
    };
    add(prefix);
    for (dash, _) in prefix.rmatch_indices('-') {
        // The whole name up to a final dash has been added already.
        if dash > 0 && dash + 1 < prefix.len() {
            add(&prefix[..=dash]);
        }
    }
    found.push(format!("{}.d", &suffix[1.min(suffix.len())..]));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names_only() {
        for good in ["nginx.service", "getty@tty1.service", "foo@.socket", "dev-disk\\x2d1.swap", "-.mount"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in
            ["nginx", ".service", "a/b.service", "../a.service", "a b.service", "@x.service", "a.conf", "a.service\n"]
        {
            assert!(!is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn instances_have_a_template() {
        assert_eq!(template("getty@tty1.service").as_deref(), Some("getty@.service"));
        assert_eq!(template("getty@.service"), None);
        assert_eq!(template("getty.service"), None);
        assert!(is_template("getty@.service"));
        assert_eq!(with_instance("getty@.service", "tty2"), "getty@tty2.service");
    }

    #[test]
    fn drop_ins_of_templates_prefixes_and_types_count() {
        assert_eq!(drop_in_directories("a.service"), ["a.service.d", "service.d"]);
        assert_eq!(
            drop_in_directories("a-b@x.service"),
            ["a-b@x.service.d", "a-b@.service.d", "a-@x.service.d", "a-@.service.d", "service.d"]
        );
        assert_eq!(drop_in_directories("-.mount"), ["-.mount.d", "mount.d"]);
    }

    #[test]
    fn a_timer_starts_the_service_of_its_name() {
        assert_eq!(triggered_service("backup.timer").as_deref(), Some("backup.service"));
        assert_eq!(triggered_service("in@x.socket").as_deref(), Some("in@x.service"));
        assert_eq!(triggered_service("a.service"), None);
    }
}
