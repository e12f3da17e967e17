use std::fs::File;
use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;

use super::{Error, Reader};
use crate::model::Zone;

/// A moment that no clock that is set can move: in which boot, and how long after it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uptime {
    /// Random, of this boot; random(4).
    pub boot: String,
    /// Seconds since it began, those asleep counted; CLOCK_BOOTTIME of clock_gettime(2).
    pub seconds: u64,
}

impl Reader {
    /// Now.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn uptime(&self) -> Result<Uptime, Error> {
        const BOOT: &str = "/proc/sys/kernel/random/boot_id";
        let boot =
            std::fs::read_to_string(BOOT).map_err(|source| Error::Io { doing: "read", path: BOOT.into(), source })?;
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Ok(Uptime { boot: boot.trim().to_owned(), seconds: u64::try_from(now.tv_sec).unwrap_or_default() })
    }
}

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
            Self::System => local().or_else(|| TimeZone::try_system().ok()).map_or_else(Zone::utc, Zone::new),
        }
    }
}

/// The zone that is set for the machine, localtime(5). Whoever asks for it by its name reads the whole database of zones
/// first; `None` where `TZ` names another, as tzset(3) has it.
fn local() -> Option<TimeZone> {
    const LONGEST: u64 = 1 << 20;
    if std::env::var_os("TZ").is_some() {
        return None;
    }
    let mut rules = Vec::new();
    File::open("/etc/localtime").ok()?.take(LONGEST).read_to_end(&mut rules).ok()?;
    TimeZone::tzif("Local", &rules).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_of_this_machine_is_the_one_that_its_name_means() {
        let named = Zone::new(TimeZone::try_system().unwrap_or(TimeZone::UTC));
        for at in (0..400).map(|week| 1_600_000_000 + week * 7 * 86_400) {
            assert_eq!(Clock::System.zone().stamp(at), named.stamp(at));
        }
    }
}
