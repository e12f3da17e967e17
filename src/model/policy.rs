use serde::{Deserialize, Serialize};

/// A closed set of words that people write in manifests and settings.
pub trait Word: Sized + Copy + 'static {
    /// Every value, in the order to list them.
    const ALL: &'static [Self];
    /// How it is written.
    fn as_str(self) -> &'static str;
    /// The value written `text`.
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|word| word.as_str() == text)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $value:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $value),+ }

        impl Word for $name {
            const ALL: &'static [Self] = &[$(Self::$value),+];
            fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// Why a step is needed.
    Cause {
        /// The declaration moved.
        Intended = "intended",
        /// The host drifted.
        Corrective = "corrective",
        /// Both.
        Conflicting = "conflicting",
    }
}

words! {
    /// What to do about drift of a resource.
    Drift {
        /// Put it back.
        Correct = "correct",
        /// Say so, change nothing.
        Report = "report",
        /// Seeded: written when missing or when the declaration changes.
        Ignore = "ignore",
    }
}

words! {
    /// What happens when a declaration goes away.
    Release {
        /// What trueup made is removed, what it replaced is put back.
        Restore = "restore",
        /// It is left as it is.
        Leave = "leave",
    }
}

words! {
    /// Whether new revisions are applied. Ordered: the most cautious is the greatest.
    Update {
        /// Applied when seen.
        Auto = "auto",
        /// Correct to the approved revision only.
        Hold = "hold",
        /// Never change anything.
        Observe = "observe",
    }
}

words! {
    /// Which commits have to be signed, where trust is configured.
    TrustMode {
        /// The one that is acted on.
        Head = "head",
        /// Every one since the introduction, by somebody whom its parents allow.
        Chain = "chain",
    }
}

words! {
    /// Whether the host allows what stands on it to be taken over.
    Takeover {
        /// It does; what stood there is kept.
        Adopt = "adopt",
        /// It does not.
        Refuse = "refuse",
    }
}
