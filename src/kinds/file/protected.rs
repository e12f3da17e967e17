//! Paths that are not for the repository to write, whatever name leads there. Pure.
//!
//! The compiler asks of the path that is declared, the look of the path that it resolves to on this host, and the
//! write once more: a symbolic link on the way, declared a commit earlier, must not lead around any of it.

use super::{Spec, What};
use crate::host::Error;

/// Directories that a merged /usr (file-hierarchy(7)) or systemd keeps as links, and where they lead.
const ALIASES: &[(&str, &str)] = &[
    ("/bin", "/usr/bin"),
    ("/sbin", "/usr/sbin"),
    ("/lib", "/usr/lib"),
    ("/lib64", "/usr/lib64"),
    ("/var/run", "/run"),
    ("/var/lock", "/run/lock"),
];

/// Whole-file management of these is refused: accounts and the loader's preload belong to the system.
const ACCOUNTS: &[&str] = &[
    "/etc/passwd",
    "/etc/shadow",
    "/etc/group",
    "/etc/gshadow",
    "/etc/passwd-",
    "/etc/shadow-",
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/ld.so.preload",
];

/// What says which machine this is, machine-id(5): the ledger is of that machine, and the journal is kept under it.
const IDENTITY: &[&str] = &["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// Directories without which there is no host: never absent, never anything else.
const STRUCTURE: &[&str] = &[
    "/",
    "/boot",
    "/etc",
    "/etc/systemd",
    "/etc/systemd/system",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/run/lock",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/sbin",
    "/usr/share",
    "/usr/local",
    "/usr/local/bin",
    "/usr/lib/systemd",
    "/usr/lib/systemd/system",
    "/usr/local/lib/systemd/system",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/tmp",
];

/// What the kernel makes.
const KERNEL: &[&str] = &["/proc", "/sys", "/dev"];

/// trueup's own corners of the host, and its program where packages and people put it.
const OURS: &[&str] = &["/etc/trueup", "/var/lib/trueup", "/run/trueup", "/usr/bin/trueup", "/usr/local/bin/trueup"];

/// Where unit files are that the service manager reads, systemd.unit(5).
const UNITS: &[&str] = &[
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/etc/systemd/system.control",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/usr/lib/systemd/system",
    "/usr/local/lib/systemd/system",
];

/// Where Git may put settings of the agent, apart from those of trust.
const OUR_FRAGMENTS: &str = "/etc/trueup/agent.d";

/// What is wanted at a path, as far as permission depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// Owner, group and mode of what is there.
    Attributes,
    /// A symbolic link or nothing.
    Other,
}

impl Shape {
    /// That of a spec.
    pub fn of(want: &Spec) -> Self {
        match want.what {
            What::Regular { .. } | What::Sealed { .. } => Self::Regular,
            What::Directory | What::Tree { .. } => Self::Directory,
            What::Attributes => Self::Attributes,
            What::Absent | What::Symlink { .. } => Self::Other,
        }
    }
}

/// Why a path is not for the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protected {
    /// Which rule.
    pub why: String,
    /// What to do instead.
    pub hint: Option<&'static str>,
    /// `self-trust` or `protected-path`.
    pub reason: &'static str,
}

impl Protected {
    fn system(why: String, hint: Option<&'static str>) -> Self {
        Self { why, hint, reason: "protected-path" }
    }

    fn ours(why: String) -> Self {
        Self { why, hint: None, reason: "self-trust" }
    }
}

/// `path` with the system's own links at its beginning resolved.
pub fn unaliased(path: &str) -> String {
    for (alias, real) in ALIASES {
        if let Some(rest) = path.strip_prefix(alias)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return format!("{real}{rest}");
        }
    }
    path.to_owned()
}

/// Whether `path` is `tree` or lies below it.
pub fn is_or_below(path: &str, tree: &str) -> bool {
    path.strip_prefix(tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the repository may want something of this shape at the canonical `path`. What a settings fragment of
/// ours holds is another question, see [`is_fragment`].
///
/// # Errors
/// Why not.
pub fn permitted(path: &str, shape: Shape) -> Result<(), Protected> {
    made_by_the_kernel(path)?;
    if ACCOUNTS.contains(&path) && shape != Shape::Attributes {
        let hint = "accounts are made by sysusers.d(5); attributes_only = true is possible";
        return Err(Protected::system(format!("{path} cannot be managed whole"), Some(hint)));
    }
    if IDENTITY.contains(&path) && shape != Shape::Attributes {
        let hint = "it is the machine's own, made at its first boot: systemd-machine-id-setup(1)";
        return Err(Protected::system(format!("{path} cannot be managed"), Some(hint)));
    }
    if STRUCTURE.contains(&path) && !matches!(shape, Shape::Directory | Shape::Attributes) {
        return Err(Protected::system(format!("{path} must stay a directory"), None));
    }
    if OURS.iter().any(|ours| is_or_below(path, ours)) && !is_fragment(path) {
        let hint = "the repository may declare files /etc/trueup/agent.d/NAME.toml only";
        return Err(Protected { hint: Some(hint), ..Protected::ours(format!("{path} is trueup's own")) });
    }
    if is_fragment(path) && shape != Shape::Regular {
        return Err(Protected::ours(format!("{path} must be a regular file")));
    }
    if let Some(all) = for_all_units(path) {
        let hint = "a drop-in is for units by name, in NAME.service.d, or by a prefix, in PREFIX-.service.d";
        let why = format!("{path} is for every {all}, and so for trueup's own");
        return Err(Protected { hint: Some(hint), ..Protected::ours(why) });
    }
    if let Some(unit) = our_unit(path) {
        return Err(Protected::ours(format!("{path} belongs to trueup's own {unit}")));
    }
    Ok(())
}

/// Whether `path` is a directory without which there is no host.
pub fn is_structure(path: &str) -> bool {
    STRUCTURE.contains(&path)
}

/// Below these there is what nobody declares and no package owns: links that the system makes, homes, mount points, state.
const NEVER_EXCLUSIVE: &[&str] = &[
    "/etc/alternatives",
    "/etc/pki",
    "/etc/ssl",
    "/etc/ssl/certs",
    "/etc/systemd",
    "/etc/systemd/user",
    "/usr/lib/sysimage/libdnf5",
    "/usr/lib/sysimage/rpm",
    "/usr/local/share/ca-certificates",
    "/var/lib/dnf",
    "/var/lib/dpkg",
    "/var/lib/private",
    "/var/lib/rpm",
    "/var/lib/systemd",
];

/// Whether the repository may say that the directory `path` holds nothing but what is declared: never of one that the
/// system itself lives in.
///
/// # Errors
/// Why not.
pub fn may_be_exclusive(path: &str) -> Result<(), Protected> {
    permitted(path, Shape::Directory)?;
    // `/etc`, `/srv`, and what is right below those that are shared by all.
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let shared = ["", "/usr", "/usr/local", "/usr/share", "/usr/lib", "/var"].contains(&parent);
    let above = OURS.iter().chain(&[OUR_FRAGMENTS]).any(|ours| is_or_below(ours, path));
    let units = UNITS.iter().any(|units| *units == path || is_or_below(units, path));
    let links = UNITS.iter().any(|units| is_or_below(path, units))
        && [".wants", ".requires", ".upholds"].iter().any(|end| path.ends_with(end));
    if shared || above || units || links || STRUCTURE.contains(&path) || NEVER_EXCLUSIVE.contains(&path) {
        let hint = "say `exclusive` of a directory of your own, such as /etc/sudoers.d or /srv/app/conf.d";
        return Err(Protected::system(format!("{path} holds what the system itself puts there"), Some(hint)));
    }
    Ok(())
}

/// Refuses what is below `/proc`, `/sys` and `/dev`.
///
/// # Errors
/// Why not.
pub fn made_by_the_kernel(path: &str) -> Result<(), Protected> {
    match KERNEL.iter().find(|tree| is_or_below(path, tree)) {
        None => Ok(()),
        Some(tree) => {
            let why = format!("nothing in {tree} can be managed: the kernel makes what is there");
            Err(Protected::system(why, None))
        }
    }
}

/// Whether the canonical `path` is a fragment of the agent's settings, which Git may declare.
pub fn is_fragment(path: &str) -> bool {
    let name = path.strip_prefix(OUR_FRAGMENTS).and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| !name.contains('/') && name.ends_with(".toml"))
}

/// Whether a unit of this name runs trueup itself: `trueup.service`, `trueup-….timer`.
pub fn is_our_unit(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, suffix)| {
        stem.starts_with("trueup") && matches!(suffix, "service" | "timer" | "socket" | "path")
    })
}

/// What `path` is called where unit files are, and what of it lies below that.
fn among_units(path: &str) -> Option<(&str, &str)> {
    let inside = UNITS.iter().find_map(|units| path.strip_prefix(units)?.strip_prefix('/'))?;
    Some(inside.split_once('/').unwrap_or((inside, "")))
}

/// The type of unit that a drop-in at or below `path` is for, all of them, where there are such of ours; systemd.unit(5).
fn for_all_units(path: &str) -> Option<&str> {
    let (first, _) = among_units(path)?;
    first.strip_suffix(".d").filter(|of| ["service", "timer", "socket"].contains(of))
}

/// The unit of ours whose unit file, or whose directory of drop-ins or links, is at or above `path`.
fn our_unit(path: &str) -> Option<&str> {
    const LINKS: [&str; 3] = [".wants", ".requires", ".upholds"];
    let (first, rest) = among_units(path)?;
    let unit = LINKS.iter().chain(&[".d"]).find_map(|end| first.strip_suffix(end)).unwrap_or(first);
    // A link of that name in `timers.target.wants/` is what starts it at boot.
    let linked = LINKS.iter().any(|end| first.ends_with(end)).then_some(rest);
    [Some(unit), linked].into_iter().flatten().find(|unit| is_our_unit(unit))
}

/// The same question of what `path` is on this host, where symbolic links on the way make that the name `real`.
///
/// # Errors
/// `self-trust` or `protected-path`, with both names.
pub(super) fn refuse(path: &str, real: &str, shape: Shape) -> Result<(), Error> {
    let real = unaliased(real);
    if real == path {
        return Ok(());
    }
    // The settings of the agent are judged by what they hold, which only the compiler does, by their own name.
    let judged = match is_fragment(&real) {
        true => Err(Protected::ours(format!("{real} is trueup's own"))),
        false => permitted(&real, shape),
    };
    judged.map_err(|protected| Error::Refused {
        thing: path.to_owned(),
        reason: protected.reason,
        why: format!("symbolic links on the way lead to {real}: {}", protected.why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(path: &str, shape: Shape) -> Option<&'static str> {
        permitted(path, shape).err().map(|protected| protected.reason)
    }

    #[test]
    fn accounts_are_not_managed_whole() {
        for path in ["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/ld.so.preload", "/etc/shadow-"] {
            assert_eq!(reason(path, Shape::Regular), Some("protected-path"), "{path}");
            assert_eq!(reason(path, Shape::Other), Some("protected-path"), "{path}");
            assert_eq!(reason(path, Shape::Attributes), None, "{path}");
        }
        assert_eq!(reason("/etc/passwd.d", Shape::Regular), None);
    }

    #[test]
    fn which_machine_it_is_is_the_machines_own() {
        for path in IDENTITY {
            assert_eq!(reason(path, Shape::Regular), Some("protected-path"), "{path}");
            assert_eq!(reason(path, Shape::Other), Some("protected-path"), "{path}");
            assert_eq!(reason(path, Shape::Attributes), None, "{path}");
        }
    }

    #[test]
    fn a_drop_in_for_all_units_of_a_type_is_one_for_ours() {
        for path in [
            "/etc/systemd/system/service.d/all.conf",
            "/etc/systemd/system/timer.d/jitter.conf",
            "/run/systemd/system/socket.d/x.conf",
            "/usr/local/lib/systemd/system/service.d",
        ] {
            assert_eq!(reason(path, Shape::Regular), Some("self-trust"), "{path}");
            assert_eq!(reason(path, Shape::Directory), Some("self-trust"), "{path}");
        }
        for path in [
            "/etc/systemd/system/mount.d/x.conf",
            "/etc/systemd/system/app-.service.d/x.conf",
            "/etc/systemd/user/service.d/x.conf",
            "/etc/systemd/system/service.d.conf",
        ] {
            assert_eq!(reason(path, Shape::Regular), None, "{path}");
        }
    }

    #[test]
    fn the_structure_of_a_host_stays() {
        for path in ["/", "/etc", "/var/lib", "/usr/local/bin"] {
            assert_eq!(reason(path, Shape::Other), Some("protected-path"), "{path}");
            assert_eq!(reason(path, Shape::Regular), Some("protected-path"), "{path}");
            assert_eq!(reason(path, Shape::Directory), None, "{path}");
            assert_eq!(reason(path, Shape::Attributes), None, "{path}");
        }
        assert_eq!(reason("/sys/x", Shape::Attributes), Some("protected-path"));
    }

    #[test]
    fn nothing_that_the_system_lives_in_is_exclusive() {
        for path in [
            "/",
            "/etc",
            "/usr",
            "/var",
            "/home",
            "/root",
            "/srv",
            "/opt",
            "/tmp",
            "/run",
            "/boot",
            "/usr/bin",
            "/usr/lib/python3",
            "/usr/local/lib",
            "/var/lib",
            "/var/spool",
            "/var/lib/dpkg",
            "/etc/trueup",
            "/etc/trueup/agent.d",
            "/var/lib/trueup",
            "/etc/systemd/system",
            "/etc/systemd/system/multi-user.target.wants",
            "/etc/ssl/certs",
            "/dev/shm",
            "/usr/local/lib/systemd",
        ] {
            assert!(may_be_exclusive(path).is_err(), "{path}");
        }
        for path in [
            "/etc/sudoers.d",
            "/etc/ssh/authorized_keys.d",
            "/etc/nginx/conf.d",
            "/srv/app",
            "/home/ana/.ssh",
            "/etc/systemd/system/app.service.d",
            "/var/lib/app",
        ] {
            assert_eq!(may_be_exclusive(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn the_program_and_its_units_are_ours() {
        for path in [
            "/usr/bin/trueup",
            "/usr/local/bin/trueup",
            "/etc/trueup/agent.toml",
            "/var/lib/trueup/ledger",
            "/etc/systemd/system/trueup.service",
            "/usr/lib/systemd/system/trueup-undo.timer",
            "/etc/systemd/system/trueup.service.d",
            "/etc/systemd/system/trueup.service.d/x.conf",
            "/etc/systemd/system/timers.target.wants/trueup.timer",
            "/etc/systemd/system/trueup.timer.wants/x.service",
            "/usr/local/lib/systemd/system/trueup.socket",
            "/run/systemd/system.attached/trueup.service",
            "/etc/systemd/system/trueup-.timer.d/x.conf",
        ] {
            assert_eq!(reason(path, Shape::Regular), Some("self-trust"), "{path}");
            assert_eq!(reason(path, Shape::Attributes), Some("self-trust"), "{path}");
        }
        for path in [
            "/usr/bin/trueup-exporter",
            "/etc/systemd/system/app.service.d/trueup.conf",
            "/etc/systemd/system/trueup.target",
            "/etc/systemd/system/mount.d/x.conf",
            "/etc/systemd/system/nottrueup.service",
            "/etc/systemd/user/trueup.service",
            "/etc/trueup/agent.d/x.toml",
        ] {
            assert_eq!(reason(path, Shape::Regular), None, "{path}");
        }
    }

    #[test]
    fn another_name_of_it_is_no_way_around() {
        let reason = |real| refuse("/opt/e/x", real, Shape::Regular).err().map(|error| error.reason());
        assert_eq!(reason("/etc/trueup/agent.toml"), Some("self-trust"));
        assert_eq!(
            reason("/etc/trueup/agent.d/x.toml"),
            Some("self-trust"),
            "what it holds is not judged by this name"
        );
        assert_eq!(reason("/etc/passwd"), Some("protected-path"));
        assert_eq!(reason("/bin/trueup"), Some("self-trust"));
        assert_eq!(reason("/etc/motd"), None);
        assert!(refuse("/opt/e/passwd", "/etc/passwd", Shape::Attributes).is_ok());
        let own = "/etc/trueup/agent.d/x.toml";
        assert!(refuse(own, own, Shape::Regular).is_ok());
    }
}
