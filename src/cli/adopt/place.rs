//! Where in a layer something of the host belongs, and what Git cannot keep there. Pure.

use crate::compile;
use crate::model::one_line;
use crate::secret::SUFFIX;
use crate::source::{Entry, Snapshot};

/// The path in the repository of what stands at `path` on the host.
pub(super) fn of(layer: &str, path: &str, sealed: bool) -> String {
    let suffix = if sealed { SUFFIX } else { "" };
    match path.strip_prefix(compile::UNITS).and_then(|rest| rest.strip_prefix('/')) {
        Some(inside) if compile::is_of_units(inside) => format!("{layer}/units/{inside}{suffix}"),
        _ => format!("{layer}/files{path}{suffix}"),
    }
}

/// A file of the trees of `layer` that declares `path`, by its path in the repository, and the suffixes that are not of
/// its name.
pub(super) fn leaf<'s>(snapshot: &Snapshot, layer: &str, path: &str) -> Option<(String, &'s str)> {
    let units = path.strip_prefix(compile::UNITS).map(|inside| format!("{layer}/units{inside}"));
    [Some(format!("{layer}/files{path}")), units].into_iter().flatten().find_map(|stem| {
        ["", SUFFIX, ".j2", ".j2.age"].into_iter().find_map(|suffix| {
            let at = format!("{stem}{suffix}");
            matches!(snapshot.entries.get(&at), Some(Entry::File { .. } | Entry::Symlink { .. }))
                .then_some((at, suffix))
        })
    })
}

/// Whether the suffix of this name would be taken for what the format means by it.
pub(super) fn is_raw(path: &str) -> bool {
    path.ends_with(".j2") || path.ends_with(SUFFIX)
}

/// Whether Git means something by this name, so that it is never somebody's file.
pub(super) fn is_gits(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let rest = name.strip_prefix(".git");
    name == "git~1"
        || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ' ', ':']))
        || [".gitignore", ".gitattributes", ".gitmodules", ".gitkeep"].contains(&name.as_str())
}

/// Why Git could not hand on what stands at `path`.
pub(super) fn not_for_git(layer: &str, path: &str) -> Option<String> {
    if let Some(name) = path.split('/').find(|name| is_gits(name)) {
        return Some(format!(
            "Git means something of its own by the name {}; declare it with `content` in [files]",
            one_line(name, 60)
        ));
    }
    let longest = of(layer, path, true).len();
    (longest > 4096).then(|| format!("its path in the repository would have {longest} bytes, more than 4096"))
}

/// Whether this is the public half of one of the keys that sshd(8) proves by which host it is, or a certificate for one:
/// beside another key it is a lie.
pub(super) fn is_of_one_host(path: &str) -> bool {
    let name = path.strip_prefix("/etc/ssh/ssh_host_").filter(|name| !name.contains('/'));
    name.is_some_and(|name| name.ends_with(".pub"))
}

/// How `[files]` names `path`: as it is, or as the pattern that matches nothing else; `None` where there is none.
pub(super) fn key(path: &str) -> Option<String> {
    const SPECIAL: [char; 4] = ['*', '?', '[', '{'];
    if !path.contains(SPECIAL) {
        return Some(path.to_owned());
    }
    // What a backslash is in a pattern is another question.
    if path.contains('\\') {
        return None;
    }
    Some(
        path.chars().map(|c| if SPECIAL.contains(&c) || c == '}' { format!("[{c}]") } else { c.to_string() }).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_files_and_drop_ins_have_a_tree_of_their_own() {
        for (path, wanted) in [
            ("/etc/motd", "hosts/a/files/etc/motd"),
            ("/etc/systemd/system/app.service", "hosts/a/units/app.service"),
            ("/etc/systemd/system/app@.service", "hosts/a/units/app@.service"),
            ("/etc/systemd/system/nginx.service.d/x.conf", "hosts/a/units/nginx.service.d/x.conf"),
            ("/etc/systemd/system/service.d/x.conf", "hosts/a/units/service.d/x.conf"),
            ("/etc/systemd/system/nginx.service.d/README", "hosts/a/files/etc/systemd/system/nginx.service.d/README"),
            ("/etc/systemd/system/app.service.bak", "hosts/a/files/etc/systemd/system/app.service.bak"),
            ("/etc/systemd/system.conf", "hosts/a/files/etc/systemd/system.conf"),
        ] {
            assert_eq!(of("hosts/a", path, false), wanted);
            assert_eq!(of("hosts/a", path, true), format!("{wanted}.age"));
        }
    }

    #[test]
    fn what_git_means_something_by_is_not_put_into_it() {
        for path in
            ["/srv/.git/config", "/srv/.GIT/x", "/srv/.gitignore", "/x/.gitattributes", "/x/.gitkeep", "/x/git~1/a"]
        {
            assert!(not_for_git("hosts/a", path).is_some(), "{path}");
        }
        for path in ["/etc/git.conf", "/etc/.gitolite.rc", "/etc/motd"] {
            assert_eq!(not_for_git("hosts/a", path), None, "{path}");
        }
        assert!(not_for_git("hosts/a", &format!("/{}", "a/".repeat(2_040))).is_some());
    }

    #[test]
    fn what_goes_with_a_key_of_a_host_is_of_that_host() {
        for name in ["ed25519_key.pub", "rsa_key.pub", "ed25519_key-cert.pub"] {
            assert!(is_of_one_host(&format!("/etc/ssh/ssh_host_{name}")), "{name}");
        }
        for path in
            ["/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ca.pub", "/etc/ssh/ssh_host_/a.pub", "/srv/ssh_host_rsa_key.pub"]
        {
            assert!(!is_of_one_host(path), "{path}");
        }
    }

    #[test]
    fn a_name_with_characters_of_patterns_is_a_pattern_of_itself() {
        assert_eq!(key("/etc/motd").as_deref(), Some("/etc/motd"));
        assert_eq!(key("/etc/a\\x2d.mount").as_deref(), Some("/etc/a\\x2d.mount"));
        assert_eq!(key("/etc/*\\x").as_deref(), None);
        for path in ["/etc/a[1].conf", "/etc/*", "/etc/what?", "/etc/{a,b}"] {
            let key = key(path).expect("a pattern");
            let glob = crate::kinds::pattern(&key).expect("a pattern").compile_matcher();
            assert!(glob.is_match(path), "{key}");
            assert!(!glob.is_match("/etc/a1.conf") && !glob.is_match("/etc/x") && !glob.is_match("/etc/a"), "{key}");
        }
    }
}
