use serde::{Deserialize, Serialize};

/// What is wanted of a unit. `None` leaves that property alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Started at boot, by its `[Install]` section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Running, listening, waiting, mounted: systemd's `active`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Linked to /dev/null, so that nothing starts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked: Option<bool>,
    /// What to do when something it uses changes.
    #[serde(default)]
    pub on_change: OnChange,
    /// Patterns of declared files that it uses, besides its unit file and drop-ins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watch: Vec<String>,
    /// The same, of files for which it restarts whatever `on_change` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watch_restart: Vec<String>,
    /// The same, of files for which it reloads whatever `on_change` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watch_reload: Vec<String>,
    /// What to do where a reload fails.
    #[serde(default, skip_serializing_if = "ReloadFailed::is_default")]
    pub reload_failed: ReloadFailed,
    /// What judges those once all are in place, before it is restarted or reloaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validate: Vec<String>,
}

impl Spec {
    /// The patterns of all files that it is said to use.
    pub(super) fn watched(&self) -> impl Iterator<Item = &String> {
        [&self.watch, &self.watch_restart, &self.watch_reload].into_iter().flatten()
    }
}

/// What a unit does when something it uses changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// Restart it, if it is active.
    #[default]
    Restart,
    /// Reload it, if it is active.
    Reload,
    /// Start it (a oneshot, run once).
    Start,
    /// Nothing.
    None,
}

/// What is done where a unit fails to reload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReloadFailed {
    /// It is told, and tried again later.
    #[default]
    Report,
    /// It is restarted, in the same pass.
    Restart,
}

impl ReloadFailed {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
