//! Who judges a file before it is installed, and what the system's own judges mean by what they say. Pure.

use super::protected::is_or_below;
use super::{Spec, What};
use crate::kinds::unit;

/// What judges a new file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judge {
    /// A command of the repository; `{}` stands for the new file.
    Declared(Vec<String>),
    /// visudo(8): a mistake there locks everybody out of sudo.
    Sudoers,
    /// sshd(8): with a mistake there it does not start again.
    Sshd,
    /// systemd-analyze(1) `verify`.
    Unit,
}

/// Files that are read together: one that includes the others.
#[derive(Debug, Clone, Copy)]
pub struct Joined {
    /// The one that includes.
    pub main: &'static str,
    /// The directory of those that it includes.
    pub directory: &'static str,
}

impl Judge {
    /// What it reads together.
    pub fn joined(&self) -> Option<Joined> {
        match self {
            Self::Sudoers => Some(Joined { main: "/etc/sudoers", directory: "/etc/sudoers.d" }),
            Self::Sshd => Some(Joined { main: "/etc/ssh/sshd_config", directory: "/etc/ssh/sshd_config.d" }),
            Self::Declared(_) | Self::Unit => None,
        }
    }
}

impl Joined {
    /// Whether `path` is one of them.
    pub fn reads(&self, path: &str) -> bool {
        let name = path.strip_prefix(self.directory).and_then(|rest| rest.strip_prefix('/'));
        path == self.main || name.is_some_and(|name| !name.contains('/'))
    }

    /// `text` of the main file, which includes what is in `other` for what is in the directory. An include by another name
    /// stays as it is: what is there is read then.
    pub fn with_directory(&self, text: &str, other: &str) -> String {
        let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~');
        let mut parts = text.split(self.directory);
        let mut new = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let whole = !new.ends_with(goes_on) && !part.starts_with(goes_on);
            new.push_str(if whole { other } else { self.directory });
            new.push_str(part);
        }
        new
    }
}

/// Who judges the new file at `path`.
pub fn judges(path: &str, want: &Spec) -> Vec<Judge> {
    if !matches!(want.what, What::Regular { .. }) {
        return Vec::new();
    }
    let declared = (!want.validate.is_empty()).then(|| Judge::Declared(want.validate.clone()));
    let own = if is_sudoers(path) {
        Some(Judge::Sudoers)
    } else if is_sshd(path) {
        Some(Judge::Sshd)
    } else {
        unit_file(path).map(|_| Judge::Unit)
    };
    own.into_iter().chain(declared).collect()
}

/// Whether sudo(8) reads `path`; what holds a dot or ends in a tilde it passes over, see sudoers(5).
fn is_sudoers(path: &str) -> bool {
    let within = path.strip_prefix("/etc/sudoers.d/");
    path == "/etc/sudoers" || within.is_some_and(|name| !name.contains(['.', '/']) && !name.ends_with('~'))
}

/// Whether sshd reads `path` as Debian, Fedora and their kin configure it.
fn is_sshd(path: &str) -> bool {
    let within = path.strip_prefix("/etc/ssh/sshd_config.d/");
    path == "/etc/ssh/sshd_config" || within.is_some_and(|name| name.ends_with(".conf") && !name.contains('/'))
}

/// What of `path` is below a directory of unit files: `app.service`, `nginx.service.d/limits.conf`.
pub fn unit_file(path: &str) -> Option<&str> {
    let directory = unit::DIRECTORIES.iter().find(|directory| is_or_below(path, directory))?;
    let name = path.strip_prefix(directory)?.strip_prefix('/')?;
    let typed = |name: &str| unit::TYPES.iter().any(|of| name.strip_suffix(of).is_some_and(|stem| stem.ends_with('.')));
    match name.split_once('/') {
        None => typed(name).then_some(name),
        Some((above, file)) => {
            (above.strip_suffix(".d").is_some_and(typed) && file.ends_with(".conf") && !file.contains('/'))
                .then_some(name)
        }
    }
}

/// What sshd says where it has no host keys yet: no word on its configuration.
pub fn sshd_cannot_tell(said: &str) -> bool {
    said.contains("no hostkeys available")
}

/// What systemd says of a line of which it takes nothing.
const LOST: &[&str] = &["ignoring", "Missing '='", "Failed to parse", "Invalid", "Assignment outside of section"];

/// Of what `systemd-analyze verify` has said, what makes the file `name` (`app.service`, `app.service.d/x.conf`), which
/// is staged at `path`, unusable: its lines that systemd does not understand, and units that would not be loaded. What
/// systemd only warns of is no reason, nor is a key that this version does not know; a program that is not there yet may
/// be installed later in the same pass.
pub fn unit_complaints(said: &str, path: &str, name: &str) -> Vec<String> {
    let own = |line: &str| {
        let (number, what) = line.strip_prefix(path)?.strip_prefix(':')?.split_once(": ")?;
        let unknown = ["Unknown key", "Unknown section", "Unknown lvalue"].iter().any(|word| what.starts_with(word));
        let lost = LOST.iter().any(|word| what.contains(word)) && !unknown;
        (number.parse::<u32>().is_ok() && lost).then(|| format!("line {number}: {what}"))
    };
    let whole = |line: &str| {
        // Of a drop-in only what stands in it.
        let what = line.strip_prefix(name).filter(|_| !name.contains('/'))?.strip_prefix(": ")?;
        let refused = ["Refusing", "fatal error", "will not be started"].iter().any(|word| what.contains(word));
        refused.then(|| what.to_owned())
    };
    said.lines().filter_map(|line| own(line).or_else(|| whole(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn judged(path: &str, validate: &[&str]) -> Vec<Judge> {
        let what = What::Regular { content: Digest::of(b""), size: 0 };
        let validate = validate.iter().map(|&word| word.to_owned()).collect();
        let spec = Spec { validate, ..Spec::of(what) };
        assert_eq!(judges(path, &Spec { what: What::Absent, ..spec.clone() }), [], "what goes is not judged");
        judges(path, &spec)
    }

    #[test]
    fn what_can_lock_people_out_is_judged_by_the_system_itself() {
        for path in ["/etc/sudoers", "/etc/sudoers.d/admins"] {
            assert_eq!(judged(path, &[]), [Judge::Sudoers], "{path}");
        }
        for path in ["/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d/50-fleet.conf"] {
            assert_eq!(judged(path, &[]), [Judge::Sshd], "{path}");
        }
        for path in ["/etc/systemd/system/app.service", "/usr/lib/systemd/system/a@.timer.d/x.conf"] {
            assert_eq!(judged(path, &[]), [Judge::Unit], "{path}");
        }
        for path in [
            "/etc/sudoers.d/admins.bak",
            "/etc/sudoers.d/x/y",
            "/etc/ssh/sshd_config.d/x",
            "/etc/ssh/ssh_config",
            "/etc/systemd/system/app.conf",
            "/etc/systemd/system/app.service.wants/x.service",
            "/etc/systemd/system/x.d/y.conf",
            "/etc/motd",
        ] {
            assert_eq!(judged(path, &[]), [], "{path}");
        }
    }

    #[test]
    fn what_is_read_together_includes_another_directory_for_the_systems_own() {
        let sudoers = Judge::Sudoers.joined().expect("sudoers");
        let text = "Defaults env_reset\n@includedir /etc/sudoers.d\n#includedir /etc/sudoers.d/\n\
                    @include /etc/sudoers.d.old\n@includedir /opt/etc/sudoers.d";
        assert_eq!(
            sudoers.with_directory(text, "/t/d"),
            "Defaults env_reset\n@includedir /t/d\n#includedir /t/d/\n@include /etc/sudoers.d.old\n\
             @includedir /opt/etc/sudoers.d"
        );
        let sshd = Judge::Sshd.joined().expect("sshd_config");
        let include = "Include /etc/ssh/sshd_config.d/*.conf\nInclude sshd_config.d/*\n";
        assert_eq!(sshd.with_directory(include, "/t/d"), "Include /t/d/*.conf\nInclude sshd_config.d/*\n");
        for (path, read) in [
            ("/etc/ssh/sshd_config", true),
            ("/etc/ssh/sshd_config.d/x.conf", true),
            ("/etc/ssh/sshd_config.d/x/y.conf", false),
            ("/etc/ssh/sshd_config.d", false),
            ("/etc/ssh/ssh_config", false),
            ("/etc/sudoers", false),
        ] {
            assert_eq!(sshd.reads(path), read, "{path}");
        }
        assert!(Judge::Unit.joined().is_none());
    }

    #[test]
    fn a_declared_judge_comes_after_the_systems_own() {
        let declared = Judge::Declared(vec!["check".to_owned(), "{}".to_owned()]);
        assert_eq!(judged("/etc/motd", &["check", "{}"]).as_slice(), std::slice::from_ref(&declared));
        assert_eq!(judged("/etc/sudoers", &["check", "{}"]), [Judge::Sudoers, declared]);
    }

    #[test]
    fn what_systemd_does_not_understand_of_a_unit_is_told_and_what_it_passes_over_is_not() {
        let complaints = |said: &str| unit_complaints(said, "/t/bad.service", "bad.service");
        assert_eq!(
            complaints("/t/bad.service:5: Missing '=', ignoring line."),
            ["line 5: Missing '=', ignoring line."]
        );
        assert_eq!(complaints("/t/bad.service:5: Unknown key 'Foo' in section [Service], ignoring.").len(), 0);
        assert_eq!(
            complaints(
                "/t/bad.service:2: Unknown key 'ExecStrat' in section [Service], ignoring.\n\
                 bad.service: Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing.\n\
                 Unit bad.service has a bad unit file setting."
            ),
            ["Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing."]
        );
        for warning in [
            "Standard output type syslog is obsolete, automatically updating to journal.",
            "Unit uses KillMode=none. This is unsafe, as it disables systemd's process lifecycle management.",
            "Unit uses MemoryLimit=; please use MemoryMax= instead. Support for MemoryLimit= will be removed soon.",
            "Special user nobody configured, this is not safe!",
        ] {
            assert_eq!(complaints(&format!("/t/bad.service:3: {warning}")).len(), 0, "{warning}");
        }
        assert_eq!(complaints("bad.service: Command /nowhere/x is not executable: No such file or directory").len(), 0);
        let others = "/t/other.service:1: Missing '=', ignoring line.\n/lib/systemd/system/x.service:3: Missing '='\n\
                      other.service: no ExecStart. Refusing.\n";
        assert_eq!(complaints(others).len(), 0, "of another unit");
    }
}
