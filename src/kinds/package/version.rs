use std::cmp::Ordering;

use super::{apt, dnf};

/// By which rules the versions of a package are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Those of deb-version(7).
    Deb,
    /// Those of rpm-version(7).
    Rpm,
}

impl Order {
    /// Which of two versions is the newer one.
    pub fn compare(self, a: &str, b: &str) -> Ordering {
        match self {
            Self::Deb => apt::compare(a, b),
            Self::Rpm => dnf::compare(a, b),
        }
    }
}
