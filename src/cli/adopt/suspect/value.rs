//! Values that say that there is a secret, or where it is, rather than what.

use super::words::unquoted;

pub(super) fn is_harmless_of(key: &str, value: &str) -> bool {
    let value = unquoted(value.trim());
    // nsswitch.conf(5), pam.d(5) and apt_preferences(5).
    const LOOKED_UP: &[&str] = &["files", "compat", "systemd", "sss", "ldap", "nis", "winbind", "db", "extrausers"];
    const STACK: &[&str] = &["required", "requisite", "sufficient", "optional", "include", "substack"];
    const PINNED: &[&str] = &["release", "origin", "version"];
    let key = key.trim_start_matches('-');
    is_harmless(value)
        || (key == "Pin" && PINNED.contains(&value))
        || (key == "passwd" && LOOKED_UP.contains(&value))
        || (key == "password" && (STACK.contains(&value) || value.starts_with('[')))
}

/// Whether `value` says that there is something, or where it is, rather than what.
pub(super) fn is_harmless(value: &str) -> bool {
    const SAID: &[&str] = &[
        "", "yes", "no", "true", "false", "on", "off", "none", "null", "nil", "default", "never", "always", "optional",
        "required", "all", "any", "ask", "prompt", "disabled", "enabled", "-", "*", "!", "x",
    ];
    const PLACES: &[&str] = &[
        "/etc/", "/run/", "/var/", "/usr/", "/home/", "/root/", "/srv/", "/opt/", "/tmp/", "/dev/", "/proc/", "/lib/",
        "/mnt/", "file:/", "%d/",
    ];
    let value = value.trim_matches(['"', '\'', '\\']);
    let place = value.trim_start_matches(['<', '@']).trim_start();
    let file = place.split('#').next().unwrap_or(place);
    SAID.contains(&value.to_lowercase().as_str())
        || PLACES.iter().any(|at| place.starts_with(at))
        || [".pem", ".key"].iter().any(|end| file.ends_with(end))
        || is_filled_in(value)
        || value.chars().all(|c| c == '*')
}

/// Whether the whole of `value` stands for what is put there later.
fn is_filled_in(value: &str) -> bool {
    const AROUND: &[(&str, &str)] = &[("${", "}"), ("$(", ")"), ("%(", ")s"), ("{{", "}}"), ("<", ">")];
    let name = |text: &str| {
        !text.is_empty()
            && !text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let place = value.strip_prefix('$').is_some_and(|rest| name(rest) || rest.parse::<u8>().is_ok());
    let template = value.strip_prefix('@').and_then(|rest| rest.strip_suffix('@')).is_some_and(name);
    place || template || AROUND.iter().any(|(begin, end)| value.starts_with(begin) && value.ends_with(end))
}
