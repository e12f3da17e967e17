use rustix::time::{ClockId, clock_gettime};

/// A file that was changed within so many nanoseconds before it was read is read again: clocks of file systems are coarse.
pub(super) const SETTLED: i128 = 2_000_000_000;
/// Within so many seconds everything is read again, whatever is known: who writes through a mapping need not move any
/// time, and a disk may have lost what it held.
pub(super) const DAY: u64 = 86_400;

/// When a file began to be read: it decides for how long what was read is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    /// Nanoseconds since 1970, by the clock that file systems have.
    pub(super) wall: i128,
    /// Seconds since the boot.
    pub(super) up: u64,
}

impl Begun {
    pub(super) fn now() -> Self {
        let wall = clock_gettime(ClockId::Realtime);
        Self { wall: i128::from(wall.tv_sec) * 1_000_000_000 + i128::from(wall.tv_nsec), up: up() }
    }

    /// Whether a file that was `changed` then, in nanoseconds since 1970, cannot have been changed once more since without
    /// its times moving on.
    pub(super) fn is_long_after(self, changed: i128) -> bool {
        changed.saturating_add(SETTLED) < self.wall
    }

    /// Whether less than a day is over, `up` seconds after the boot.
    pub(super) fn is_of_today(self, up: u64) -> bool {
        up.saturating_sub(self.up) < DAY
    }
}

/// Seconds since the boot, those asleep counted; CLOCK_BOOTTIME of clock_gettime(2).
pub(super) fn up() -> u64 {
    u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or_default()
}
