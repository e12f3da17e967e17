use globset::{Glob, GlobBuilder};
use serde::{Deserialize, Serialize};

use crate::host;
use crate::model::Id;

/// What jobs would do beside what they say.
#[derive(Debug, Default)]
pub struct Foreseen {
    /// In words: `packages: also installs libfoo 1.2`.
    pub notes: Vec<String>,
    /// Jobs that would be refused, by their place, and why.
    pub refused: Vec<(usize, host::Error)>,
}

/// The order of work within a pass; see `DESIGN.md` §5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Units that have to stop or be masked, before what they run on goes.
    Stop,
    /// Files that package managers and systemd-sysusers(8) read; their activation follows.
    Early,
    /// One package transaction.
    Packages,
    /// All other files, new before removed.
    Files,
    /// Files and directories that go.
    Removals,
    /// Units: enabled, started, reloaded, restarted.
    Units,
}

/// Something that must hold before a resource is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// This resource, where it is declared.
    Resource(Id),
    /// Every declared resource whose id matches: (kind word, name prefix).
    Below(&'static str, String),
    /// Every declared file that matches this pattern.
    Matching(String),
}

/// Whether a resource is one that is needed.
pub type Meets = Box<dyn Fn(&Id) -> bool>;

impl Need {
    /// Tells the resources that meet it; nothing meets a pattern that is none, which compiling a repository refuses.
    pub fn meets(self) -> Option<Meets> {
        Some(match self {
            Self::Resource(needed) => Box::new(move |id| needed == *id),
            Self::Below(kind, prefix) => Box::new(move |id| id.kind() == kind && id.name().starts_with(&prefix)),
            Self::Matching(text) => {
                let matcher = pattern(&text).ok()?.compile_matcher();
                Box::new(move |id| id.kind() == "file" && matcher.is_match(id.name()))
            }
        })
    }
}

/// What a unit does when something it uses has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refresh {
    /// Stop and start.
    Restart,
    /// Read its configuration again.
    Reload,
    /// Run once (a oneshot).
    Start,
}

impl Refresh {
    /// The word used in manifests and plans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Start => "start",
        }
    }
}

/// What the system needs after a file changes, done by its own engines. In order of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// systemd-sysusers(8).
    Sysusers,
    /// Package indexes are fetched again before any package work.
    PackageIndex,
    /// daemon-reload of the service manager; before anything else that concerns units.
    DaemonReload,
    /// `systemd-tmpfiles --create`, see systemd-tmpfiles(8).
    Tmpfiles,
    /// systemd-modules-load(8).
    ModulesLoad,
    /// systemd-sysctl(8).
    Sysctl,
    /// `udevadm control --reload`, see udevadm(8).
    Udev,
    /// `networkctl reload`, see networkctl(1).
    Networkd,
    /// Restart of systemd-journald(8).
    Journald,
    /// Restart of systemd-resolved(8).
    Resolved,
    /// Restart of systemd-timesyncd(8).
    Timesyncd,
    /// update-ca-certificates(8) or update-ca-trust(8).
    CaCertificates,
    /// ldconfig(8).
    Ldconfig,
    /// D-Bus or logind: only a reboot is safe. Told, never done.
    NeedsReboot,
}

impl Activation {
    /// The unit that is restarted or reloaded by it.
    pub fn unit(self) -> Option<&'static str> {
        match self {
            Self::Udev => Some("systemd-udevd.service"),
            Self::Networkd => Some("systemd-networkd.service"),
            Self::Journald => Some("systemd-journald.service"),
            Self::Resolved => Some("systemd-resolved.service"),
            Self::Timesyncd => Some("systemd-timesyncd.service"),
            Self::Sysusers
            | Self::PackageIndex
            | Self::DaemonReload
            | Self::Tmpfiles
            | Self::ModulesLoad
            | Self::Sysctl
            | Self::CaCertificates
            | Self::Ldconfig
            | Self::NeedsReboot => None,
        }
    }
}

/// What matches the paths that `text` means, the same for `[files]`, `watch` and what depends on it: `*`
/// stays within a directory and `**` does not.
///
/// # Errors
/// Where it is no pattern.
pub fn pattern(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(true).build()
}
