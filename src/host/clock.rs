use std::time::{SystemTime, UNIX_EPOCH};

/// Where the time comes from.
#[derive(Debug, Clone, Copy, Default)]
pub enum Clock {
    /// The machine's wall clock.
    #[default]
    System,
    /// Always this many seconds since 1970, for tests.
    Fixed(i64),
}

impl Clock {
    /// Seconds since 1970.
    pub fn now(self) -> i64 {
        match self {
            Self::Fixed(seconds) => seconds,
            // A clock before 1970 is a broken clock; ages are then zero, never negative surprises.
            Self::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs().cast_signed()),
        }
    }
}
