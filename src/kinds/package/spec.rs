use serde::{Deserialize, Serialize};

/// What is wanted of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Spec {
    /// Not installed.
    Absent,
    /// Installed.
    Present {
        /// In which version.
        #[serde(default)]
        version: Version,
        /// Whether a newer one may be replaced.
        #[serde(default)]
        downgrade: Downgrade,
        /// It is held by us, and is not to be any more. No declaration says so: a hold of somebody else's is left alone.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unhold: bool,
        /// It stood there before us and is put back: it gives way to whatever is declared. No declaration says so.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        back: bool,
    },
    /// Let go: removed if nothing else installed needs it, else marked as installed automatically.
    Released,
    /// Let go, and stays, since it was there before: what we marked is as it was.
    Left {
        /// It is held by us, and is not to be any more.
        unhold: bool,
        /// It was there because something else needed it.
        automatic: bool,
    },
}

impl Spec {
    /// Installed, as a declaration says it.
    pub fn present(version: Version, downgrade: Downgrade) -> Self {
        Self::Present { version, downgrade, unhold: false, back: false }
    }

    /// What stood there before us, in whatever version there is now.
    pub fn back() -> Self {
        Self::Present { version: Version::Any, downgrade: Downgrade::default(), unhold: false, back: true }
    }

    /// Whether it only puts back what stood there before us.
    pub fn is_back(&self) -> bool {
        matches!(self, Self::Present { back: true, .. })
    }

    /// Whether what was refused as `reason` says will not be put back: something that is declared, held or indispensable is in
    /// the way, or no source has it any more. What may pass is no such reason.
    pub fn stays_away(&self, reason: &str) -> bool {
        const FOR_GOOD: &[&str] = &[
            "removes-undeclared",
            "protected-package",
            "package-held",
            "downgrade-refused",
            "no-such-package",
            "no-such-version",
            "unresolvable",
        ];
        self.is_back() && FOR_GOOD.contains(&reason)
    }
}

/// Which version satisfies a declaration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// Any; what is installed is never upgraded.
    #[default]
    Any,
    /// This one, held.
    Exact(String),
    /// Any that matches, `*` and `?` standing for anything.
    Glob(String),
}

/// Whether a newer version than the wanted one may be replaced by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Downgrade {
    /// Never: a newer version is an error.
    Never,
    /// When the declaration moved.
    #[default]
    Intended,
    /// Always, drift included.
    Always,
}
