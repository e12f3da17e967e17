//! What may be managed, and under which one name.

use crate::config;
use crate::host;
use crate::kinds::file::protected::{self, Protected, Shape, unaliased};

pub(super) use crate::kinds::file::protected::is_or_below;

/// The most bytes of a path.
pub(super) const PATH_LIMIT: usize = 4_096;

/// `path` under the one name it is known by, or why it cannot be managed.
pub(super) fn canonical(path: &str) -> Result<String, Refused> {
    well_formed(path)?;
    let path = unaliased(path);
    if path == "/" {
        return Err("the root directory itself cannot be managed".into());
    }
    protected::made_by_the_kernel(&path)?;
    Ok(path)
}

/// `pattern` with its fixed beginning under the one name it is known by, or why it can match nothing.
pub(super) fn canonical_pattern(pattern: &str) -> Result<String, Refused> {
    well_formed(pattern)?;
    Ok(unaliased(pattern))
}

/// Why a path cannot be managed, and the reason word where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub why: String,
    pub hint: Option<&'static str>,
    pub reason: Option<&'static str>,
}

impl Refused {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), hint: None, reason: None }
    }

    fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    fn reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }
}

impl From<&str> for Refused {
    fn from(why: &str) -> Self {
        Self::new(why)
    }
}

impl From<Protected> for Refused {
    fn from(Protected { why, hint, reason }: Protected) -> Self {
        // A mistake like any other, unless it is about our own trust.
        Self { why, hint, reason: Some(reason).filter(|reason| *reason == "self-trust") }
    }
}

/// Whether `path` is absolute and normalised.
pub(super) fn well_formed(path: &str) -> Result<(), Refused> {
    if path.len() > PATH_LIMIT {
        return Err(Refused::new(format!("a path has at most {PATH_LIMIT} bytes; this one has {}", path.len())));
    }
    if path.is_empty() {
        return Err("a path is empty".into());
    }
    let Some(rest) = path.strip_prefix('/') else {
        return Err(Refused::from("a path must be absolute").hint("it starts with /"));
    };
    if path.chars().any(char::is_control) {
        return Err("a path cannot hold control characters".into());
    }
    if rest.is_empty() {
        return Ok(());
    }
    if rest.ends_with('/') {
        return Err(Refused::from("a path cannot end in /").hint("a directory has type = \"directory\""));
    }
    for component in rest.split('/') {
        match component {
            "" => return Err("a path cannot hold //".into()),
            "." | ".." => return Err(Refused::new(format!("a path cannot hold `{component}`"))),
            // NAME_MAX, path_resolution(7).
            long if long.len() > 255 => {
                return Err(Refused::new(format!("a name has at most 255 bytes; one here has {}", long.len())));
            }
            ours if host::is_temporary(ours.as_bytes()) => {
                return Err(Refused::new(format!(
                    "`{ours}` is a name of trueup's own temporary files, which it removes"
                ))
                .hint("it is left over from a pass that was cut short: take it out"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Content of a regular file, and what its mode and owner come to, where a rule depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Regular<'a> {
    pub content: &'a [u8],
    /// It is root's own, and writable by nobody else.
    pub guarded: bool,
}

/// Whether the repository may declare this at the canonical `path`: DESIGN §6 (guard) and §9. `regular` is told of
/// regular files.
pub(super) fn permitted(path: &str, shape: Shape, regular: Regular<'_>) -> Result<(), Refused> {
    protected::permitted(path, shape)?;
    if protected::is_fragment(path) { fragment(path, regular) } else { Ok(()) }
}

/// Whether a fragment of the agent's settings sets nothing but what Git may set.
fn fragment(path: &str, Regular { content, guarded }: Regular<'_>) -> Result<(), Refused> {
    if !guarded {
        return Err(Refused::new(format!("{path} must be root's own and writable by nobody else")).reason("self-trust"));
    }
    let text = std::str::from_utf8(content).ok();
    let Some((text, table)) = text.and_then(|text| Some((text, toml::from_str::<toml::Table>(text).ok()?))) else {
        return Err(
            Refused::new(format!("{path} is not valid TOML, so what it sets cannot be judged")).reason("self-trust")
        );
    };
    match table.keys().find(|key| ["source", "trust", "policy", "host", "secrets"].contains(&key.as_str())) {
        None => usable(path, text),
        Some(key) => Err(Refused::new(format!("{path} sets `{key}`, which only root on the host may set"))
            .hint("take [source], [trust], [policy], [host] and [secrets] out of it")
            .reason("self-trust")),
    }
}

/// An agent does not run at all on settings that it cannot use, and then nothing could take them back.
fn usable(path: &str, text: &str) -> Result<(), Refused> {
    match config::settings(&[(path.to_owned(), text.to_owned())]) {
        Ok(_) => Ok(()),
        Err(problems) => {
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Err(Refused::new(format!("no agent would run with this: {}", all.join("; "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_lead_elsewhere_are_refused() {
        for wrong in [
            "",
            "relative",
            "../../etc/shadow",
            "/etc/../etc/shadow",
            "//etc//x",
            "/etc/x/",
            "/etc/./x",
            "/",
            "/a\0b",
            "/a\nb",
            "/etc/..",
            "/..",
            "/proc",
            "/proc/sys/x",
            "/sys/x",
            "/dev/null",
            "/dev",
            "/a\u{9b}b",
        ] {
            assert!(canonical(wrong).is_err(), "{wrong:?}");
        }
        for right in ["/etc/motd", "/procession", "/device/x", "/tmp/x", "/run/x", "/etc/...", "/etc/.x", "/etc/a b"] {
            assert_eq!(canonical(right).as_deref(), Ok(right));
        }
    }

    #[test]
    fn the_limit_is_tested_at_its_edge() {
        let of = |length: usize| format!("/{}", "a/".repeat(length / 2))[..length].trim_end_matches('/').to_owned();
        assert!(canonical(&format!("{}b", of(PATH_LIMIT - 1))).is_ok());
        let (at, over) = (format!("/{}bc", "a/".repeat(2_046)), format!("/{}bcd", "a/".repeat(2_046)));
        assert_eq!((at.len(), over.len()), (PATH_LIMIT - 1, PATH_LIMIT));
        assert!(canonical(&over).is_ok());
        assert!(canonical(&format!("{over}e")).expect_err("one over").why.contains("4096 bytes; this one has 4097"));
        assert!(canonical(&format!("/{}", "a".repeat(255))).is_ok());
        assert!(canonical(&format!("/{}", "a".repeat(256))).is_err());
    }

    #[test]
    fn two_names_of_one_path_are_one() {
        for (alias, real) in [
            ("/bin/sh", "/usr/bin/sh"),
            ("/lib/systemd/system/a.service", "/usr/lib/systemd/system/a.service"),
            ("/lib64/x", "/usr/lib64/x"),
            ("/var/run/x", "/run/x"),
            ("/var/lock", "/run/lock"),
            ("/library", "/library"),
            ("/var/running", "/var/running"),
        ] {
            assert_eq!(canonical(alias).as_deref(), Ok(real));
        }
        assert_eq!(canonical_pattern("/var/run/**").as_deref(), Ok("/run/**"));
    }

    fn text(path: &str, content: &str) -> Result<(), Refused> {
        permitted(path, Shape::Regular, Regular { content: content.as_bytes(), guarded: true })
    }

    #[test]
    fn git_does_not_reach_its_own_trust() {
        let path = "/etc/trueup/agent.d/20-fleet.toml";
        assert_eq!(text(path, "[change]\nsettle = \"10s\"\n"), Ok(()));
        for wrong in [
            "[trust]\nsigners = \"x\"",
            "source.url = \"x\"",
            "policy = {}",
            "\"host\".name = \"x\"",
            "not toml [",
            "[\"tru\\u0073t\"]",
        ] {
            assert_eq!(text(path, wrong).expect_err(wrong).reason, Some("self-trust"), "{wrong}");
        }
        let unguarded = Regular { content: b"", guarded: false };
        assert_eq!(permitted(path, Shape::Regular, unguarded).expect_err("not ours").reason, Some("self-trust"));
        for shape in [Shape::Directory, Shape::Attributes, Shape::Other] {
            let nothing = Regular { content: b"", guarded: false };
            assert_eq!(permitted(path, shape, nothing).expect_err("not regular").reason, Some("self-trust"));
        }
        for path in [
            "/etc/trueup",
            "/etc/trueup/agent.toml",
            "/etc/trueup/agent.d",
            "/etc/trueup/agent.d/a/b.toml",
            "/etc/trueup/agent.d/x",
            "/var/lib/trueup/ledger",
            "/run/trueup/x",
            "/etc/trueup/allowed_signers",
            "/usr/bin/trueup",
            "/etc/systemd/system/trueup.service.d/x.conf",
        ] {
            assert_eq!(text(path, "").expect_err(path).reason, Some("self-trust"), "{path}");
        }
        assert_eq!(text("/etc/trueup.conf", ""), Ok(()));
        assert_eq!(text("/etc/passwd", "").expect_err("accounts").reason, None);
    }

    #[test]
    fn settings_that_no_agent_could_run_with_are_mistakes() {
        let path = "/etc/trueup/agent.d/20-fleet.toml";
        for (wrong, said) in [
            ("[state]\nedits = 3\n", "2:9: "),
            ("[state]\nedit = \"3d\"\n", "2:1: unknown key \"edit\" in [state]"),
            ("[stat]\n", "1:2: unknown section [stat]"),
            ("\n[state]\nedits = \"many\"\noriginals = 1\n", "; "),
        ] {
            let refused = text(path, wrong).expect_err(wrong);
            assert_eq!(refused.reason, None, "{wrong}");
            assert!(refused.why.contains(&format!("{path}:")) && refused.why.contains(said), "{}", refused.why);
        }
    }
}
