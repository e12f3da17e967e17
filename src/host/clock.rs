use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;

use crate::model::Zone;

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
        self.since_1970().as_secs().cast_signed()
    }

    /// The time since 1970, as finely as it is known.
    pub fn since_1970(self) -> Duration {
        match self {
            Self::Fixed(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
            // A clock before 1970 is a broken clock; ages are then zero, never negative surprises.
            Self::System => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// The zone that times are said in.
    pub fn zone(self) -> Zone {
        match self {
            Self::Fixed(_) => Zone::utc(),
            Self::System => TimeZone::try_system().map_or_else(|_| Zone::utc(), Zone::new),
        }
    }
}
