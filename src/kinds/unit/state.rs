use serde::{Deserialize, Serialize};

use super::{Behind, Follow};
use crate::kinds::Refresh;

/// How a unit was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Whether its configuration could be read.
    pub load: Load,
    /// The state of its unit file, as `systemctl is-enabled` has it.
    pub file: FileState,
    /// A template of which instances are enabled, and not the one that its section names (`DefaultInstance=`): systemd
    /// calls it enabled, or indirect.
    pub instances_only: bool,
    /// Whether it runs; `None` in a directory, where nothing runs.
    pub active: Option<Active>,
    /// systemd's finer word for that: `running`, `exited`, `listening`; empty in a directory.
    pub sub: String,
    /// A oneshot that is not active once it has run. Told only of a service that is not active.
    pub oneshot: bool,
    /// A start was tried, and a condition of the unit did not hold.
    pub condition_failed: bool,
    /// Its last run failed, and systemd starts it anew: `Restart=`, systemd.service(5). `None` where that run ended well: what
    /// polls is started anew for ever, as it is meant to be.
    pub fails: Option<Fails>,
    /// Which run this is, in hexadecimal; `None` where it never ran.
    pub invocation: Option<String>,
    /// What is on disk is newer than what the service manager has read.
    pub need_daemon_reload: bool,
    /// Patterns of what it reads whenever it starts, by its own settings. Told only where that matters: see
    /// [`add_start_files`](super::add_start_files).
    pub start_files: Vec<String>,
    /// The main process of a service that runs.
    pub main: Option<u32>,
    /// In what it is behind; only a look at processes fills it.
    pub behind: Vec<Behind>,
    /// What its links have to follow; only who knows what is about to change can tell.
    pub follow: Option<Follow>,
}

/// How a unit failed that systemd starts anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fails {
    /// By systemd's word: `exit-code`, `signal`…
    pub result: String,
    /// It was started anew a moment ago; else systemd waits to do so.
    pub anew: bool,
}

impl Observed {
    /// A unit of which nothing is there; `active` is `None` in a directory.
    pub fn nothing(active: Option<Active>) -> Self {
        Self {
            load: Load::NotFound,
            file: FileState::None,
            instances_only: false,
            active,
            sub: String::new(),
            oneshot: false,
            condition_failed: false,
            fails: None,
            invocation: None,
            need_daemon_reload: false,
            start_files: Vec::new(),
            main: None,
            behind: Vec::new(),
            follow: None,
        }
    }

    /// What puts right in what it is behind, as far as that may be done unasked.
    pub fn remedy(&self) -> Option<Refresh> {
        self.behind.iter().filter_map(|behind| behind.remedy).min()
    }

    /// Nothing of this name is there, not even a mask.
    pub fn is_absent(&self) -> bool {
        self.load == Load::NotFound && self.file == FileState::None
    }

    /// It is masked, for good or until the next reboot.
    pub fn is_masked(&self) -> bool {
        self.load == Load::Masked || matches!(self.file, FileState::Masked | FileState::MaskedRuntime)
    }

    /// It ran, and systemd waits to start it anew.
    pub(super) fn waits(&self) -> bool {
        self.active == Some(Active::Activating) && matches!(self.sub.as_str(), "auto-restart" | "auto-restart-queued")
    }

    /// It is enabled, or there was nothing to link so far.
    pub fn is_enabled(&self) -> bool {
        matches!(self.file, FileState::Enabled | FileState::Static | FileState::Indirect)
    }

    /// It runs, or is about to.
    pub fn is_active(&self) -> bool {
        self.active.is_some_and(Active::is_active)
    }
}

macro_rules! states {
    ($(#[$doc:meta])* $name:ident, otherwise $other:ident { $($(#[$vdoc:meta])* $value:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $value),+ }

        impl $name {
            /// systemd's word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }

            /// From systemd's word; words of later versions are understood as the least that they can mean.
            pub(super) fn parse(word: &str) -> Self {
                match word { $($text => Self::$value,)+ _ => Self::$other }
            }
        }
    };
}

states! {
    /// Whether the configuration of a unit could be read.
    Load, otherwise Error {
        /// It could.
        Loaded = "loaded",
        /// There is none.
        NotFound = "not-found",
        /// It is linked to /dev/null.
        Masked = "masked",
        /// It has a setting that cannot be.
        BadSetting = "bad-setting",
        /// It could not.
        Error = "error",
    }
}

states! {
    /// The state of a unit file; see systemctl(1), `is-enabled`.
    FileState, otherwise Bad {
        /// Linked as its `[Install]` section says.
        Enabled = "enabled",
        /// The same, until the next reboot.
        EnabledRuntime = "enabled-runtime",
        /// Not linked.
        Disabled = "disabled",
        /// It has no `[Install]` section: others pull it in.
        Static = "static",
        /// Its `[Install]` section only names other units.
        Indirect = "indirect",
        /// Made by a generator.
        Generated = "generated",
        /// Made by a program, while the system runs.
        Transient = "transient",
        /// Another name of a unit.
        Alias = "alias",
        /// A link to a unit file outside of the usual directories.
        Linked = "linked",
        /// The same, until the next reboot.
        LinkedRuntime = "linked-runtime",
        /// Linked to /dev/null.
        Masked = "masked",
        /// The same, until the next reboot.
        MaskedRuntime = "masked-runtime",
        /// It cannot be read as a unit file.
        Bad = "bad",
        /// There is no unit file.
        None = "none",
    }
}

states! {
    /// Whether a unit runs; see systemctl(1), `is-active`.
    Active, otherwise Inactive {
        /// It does.
        Active = "active",
        /// It does, and reads its configuration again.
        Reloading = "reloading",
        /// It does, and its mounts are made anew.
        Refreshing = "refreshing",
        /// It is about to.
        Activating = "activating",
        /// It does not.
        Inactive = "inactive",
        /// It does not, since it failed.
        Failed = "failed",
        /// It is about to stop.
        Deactivating = "deactivating",
        /// It does not, while its file system is repaired.
        Maintenance = "maintenance",
    }
}

impl Active {
    /// It runs, or is about to.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Active | Self::Reloading | Self::Refreshing | Self::Activating)
    }
}

impl FileState {
    /// It starts at boot as far as that is its own to say: linked, or nothing to link.
    pub(super) fn counts_as_enabled(self) -> bool {
        self == Self::Enabled || self.is_not_ours_to_say()
    }

    /// It does not start at boot, as far as that is its own to say.
    pub(super) fn counts_as_disabled(self) -> bool {
        !matches!(self, Self::Enabled | Self::EnabledRuntime)
    }

    /// Enabling and disabling mean nothing to it.
    fn is_not_ours_to_say(self) -> bool {
        matches!(self, Self::Static | Self::Indirect | Self::Generated | Self::Transient | Self::Alias)
    }
}

/// How a unit was before trueup first changed it. What is `None` was not to be told, or cannot be set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// It was there.
    pub present: bool,
    /// Started at boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Linked to /dev/null.
    #[serde(default)]
    pub masked: bool,
}

impl From<&Observed> for Before {
    fn from(seen: &Observed) -> Self {
        let enabled = match seen.file {
            _ if seen.instances_only => Some(false),
            FileState::Enabled => Some(true),
            FileState::Disabled | FileState::EnabledRuntime => Some(false),
            _ => None,
        };
        Self {
            present: !seen.is_absent(),
            enabled,
            active: seen.active.map(Active::is_active),
            // A mask that a reboot forgets is not made into one that stays.
            masked: seen.file == FileState::Masked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_systemd_says_is_never_taken_for_running() {
        assert_eq!(Active::parse("dancing"), Active::Inactive);
        assert_eq!(Active::parse("refreshing"), Active::Refreshing);
        assert_eq!(FileState::parse("enabled-runtime"), FileState::EnabledRuntime);
        assert_eq!(Load::parse("merged"), Load::Error);
    }

    #[test]
    fn before_is_the_same_after_the_ledger() {
        let before = Before { present: true, enabled: Some(true), active: None, masked: false };
        let text = serde_json::to_string(&before).expect("plain data");
        assert_eq!(text, r#"{"present":true,"enabled":true,"masked":false}"#);
        assert_eq!(serde_json::from_str::<Before>(&text).expect("what was written"), before);
    }
}
