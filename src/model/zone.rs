use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// The time zone that people on this host read and write times in.
#[derive(Debug, Clone)]
pub struct Zone(TimeZone);

/// How a moment is written by people.
const RULE: &str = "a time of the day like 09:00, or a date and time like \"2026-11-24 09:00\"";

impl Zone {
    /// This one; see [`crate::host::Reader::zone`] for the machine's own.
    pub fn new(zone: TimeZone) -> Self {
        Self(zone)
    }

    /// The time at Greenwich, for tests and for hosts that know no better.
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// `at`, seconds since 1970, as short as it is clear at `now`: `09:00` today, `Tue 09:00` in the days to come,
    /// `2026-12-01 09:00` otherwise.
    pub fn clock(&self, at: i64, now: i64) -> String {
        let (Ok(at), Ok(now)) = (Timestamp::from_second(at), Timestamp::from_second(now)) else {
            return "never".to_owned();
        };
        let (at, now) = (at.to_zoned(self.0.clone()), now.to_zoned(self.0.clone()));
        let week = now.date().checked_add(6.days()).unwrap_or_else(|_| now.date());
        let form = match at.date() {
            day if day == now.date() => "%H:%M",
            day if day > now.date() && day <= week => "%a %H:%M",
            _ => "%Y-%m-%d %H:%M",
        };
        at.strftime(form).to_string()
    }

    /// `at`, seconds since 1970, for a log: `2026-11-23 18:04:05`.
    pub fn stamp(&self, at: i64) -> String {
        let Ok(at) = Timestamp::from_second(at) else { return "never".to_owned() };
        at.to_zoned(self.0.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// The first and the last moment at which clocks in this zone show `at`, in seconds since 1970. They differ where
    /// clocks are put back; a time that clocks leave out is what it would have been.
    pub fn moments(&self, at: civil::DateTime) -> Option<(i64, i64)> {
        let shown = self.0.to_ambiguous_zoned(at);
        let second = |zoned: Result<jiff::Zoned, jiff::Error>| zoned.ok().map(|at| at.timestamp().as_second());
        if let jiff::tz::AmbiguousOffset::Fold { .. } = shown.offset() {
            return Some((second(shown.clone().earlier())?, second(shown.later())?));
        }
        let only = second(shown.compatible())?;
        Some((only, only))
    }

    /// The moment that `text` means at `now`, in seconds since 1970: a time of the day is the next one to come.
    ///
    /// # Errors
    /// What it has to be, where it is not.
    pub fn moment(&self, text: &str, now: i64) -> Result<i64, &'static str> {
        let today = Timestamp::from_second(now).map_err(|_| RULE)?.to_zoned(self.0.clone());
        let seconds = |moment: civil::DateTime| {
            moment.to_zoned(self.0.clone()).map(|at| at.timestamp().as_second()).map_err(|_| RULE)
        };
        if let Ok(time) = civil::Time::strptime("%H:%M", text) {
            let at = seconds(today.date().to_datetime(time))?;
            let tomorrow = today.date().tomorrow().map_err(|_| RULE)?;
            return if at > now { Ok(at) } else { seconds(tomorrow.to_datetime(time)) };
        }
        ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]
            .iter()
            .find_map(|form| civil::DateTime::strptime(form, text).ok())
            .map_or(Err(RULE), seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 2026-11-23, 18:00 at Greenwich.
    const NOW: i64 = 1_795_456_800;

    fn paris() -> Zone {
        Zone::new(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule"))
    }

    #[test]
    fn a_moment_is_said_as_short_as_it_is_clear() {
        let zone = Zone::utc();
        let said: Vec<String> =
            [0, 3600, 15 * 3600, 6 * 86_400, 7 * 86_400, -86_400].map(|later| zone.clock(NOW + later, NOW)).to_vec();
        assert_eq!(said, ["18:00", "19:00", "Tue 09:00", "Sun 18:00", "2026-11-30 18:00", "2026-11-22 18:00"]);
        assert_eq!(paris().clock(NOW, NOW), "19:00");
        assert_eq!(paris().stamp(NOW + 5), "2026-11-23 19:00:05");
        assert_eq!(zone.clock(i64::MAX, NOW), "never");
    }

    #[test]
    fn a_time_of_the_day_is_the_next_to_come() {
        let zone = Zone::utc();
        assert_eq!(zone.moment("19:30", NOW), Ok(NOW + 5400));
        assert_eq!(zone.moment("18:00", NOW), Ok(NOW + 86_400), "this very minute is over");
        assert_eq!(zone.moment("09:00", NOW), Ok(NOW + 15 * 3600));
        assert_eq!(paris().moment("19:30", NOW), Ok(NOW + 1800));
        assert_eq!(zone.moment("2026-11-24 09:00", NOW), Ok(NOW + 15 * 3600));
        assert_eq!(zone.moment("2026-11-24T09:00", NOW), Ok(NOW + 15 * 3600));
        for wrong in ["", "9", "25:00", "tomorrow", "2026-11-24", "09:00 "] {
            assert_eq!(zone.moment(wrong, NOW), Err(RULE), "{wrong:?}");
        }
    }

    #[test]
    fn a_time_that_clocks_show_twice_has_two_moments() {
        let moments = |text| paris().moments(civil::DateTime::strptime("%Y-%m-%d %H:%M", text).expect("a time"));
        // In the night of 2026-10-25 clocks are put back from 3 to 2, in that of 2026-03-29 on from 2 to 3.
        assert_eq!(moments("2026-10-25 02:30"), Some((1_792_888_200, 1_792_891_800)));
        assert_eq!(moments("2026-10-25 04:30"), Some((1_792_899_000, 1_792_899_000)));
        assert_eq!(moments("2026-03-29 02:30"), Some((1_774_747_800, 1_774_747_800)), "03:30 of the summer");
    }

    #[test]
    fn the_next_nine_o_clock_is_one_also_where_clocks_change_in_between() {
        // The night of 2026-10-25 has 25 hours in Paris.
        let evening = paris().moment("2026-10-24 21:00", NOW).expect("a moment");
        assert_eq!(paris().moment("09:00", evening), Ok(evening + 13 * 3600));
    }
}
