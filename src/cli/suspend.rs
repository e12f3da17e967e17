use std::time::Duration;

use clap::Args;

use super::{Ground, ask};
use crate::config;
use crate::daemon::Request;
use crate::model::{Id, Zone};

/// How long something is suspended where nobody says how long, in seconds.
const DEFAULT: i64 = 4 * 60 * 60;
/// How long something may be suspended, in seconds.
const LONGEST: i64 = 30 * 24 * 60 * 60;
/// How long a reason may be, in characters.
const REASON: usize = 300;

/// Stop changing resources, or the whole host, for a while. They are looked at all the same.
#[derive(Debug, Args)]
pub(super) struct Suspend {
    /// Which: /etc/motd, nginx.service, package:nginx; without any, the whole host
    #[arg(value_name = "ID", value_parser = ask::resource)]
    ids: Vec<Id>,
    /// For how long: 90s, 15m, 8h, 2d; at most 30d [default: 4h]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, conflicts_with = "until")]
    length: Option<Duration>,
    /// Until when, in the time zone of this host: 09:00 (the next to come), or "2026-11-24 09:00"
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Why: shown on every status
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    ground: Ground,
}

impl Suspend {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let host = self.ground.place()?;
        let until = self.end(host.now(), &host.zone())?;
        anyhow::ensure!(
            self.reason.chars().count() <= REASON && !self.reason.chars().any(char::is_control),
            "the reason is one line of at most {REASON} characters"
        );
        let request = Request::Suspend { resources: self.ids.clone(), until, reason: self.reason.clone() };
        ask::ask(&self.ground, "suspend", |agent| agent.ask(&request))
    }

    /// When it is over, in seconds since 1970.
    fn end(&self, now: i64, zone: &Zone) -> anyhow::Result<i64> {
        let end = match (&self.until, self.length) {
            (Some(text), _) => zone.moment(text, now).map_err(|rule| anyhow::anyhow!("--until is {rule}"))?,
            (None, Some(length)) => now.saturating_add(i64::try_from(length.as_secs()).unwrap_or(i64::MAX)),
            (None, None) => now + DEFAULT,
        };
        anyhow::ensure!(end > now, "--until is over already");
        anyhow::ensure!(
            end - now <= LONGEST,
            "nothing is suspended for longer than 30 days; for good, take it out of the repository or set drift = \"report\""
        );
        Ok(end)
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    config::duration(text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        suspend: Suspend,
    }

    /// Monday 2026-11-23, 18:00 at Greenwich.
    const NOW: i64 = 1_795_456_800;

    fn seconds(arguments: &[&str]) -> Result<i64, String> {
        let line = Line::try_parse_from([&["suspend"], arguments].concat()).map_err(|error| error.to_string())?;
        line.suspend.end(NOW, &Zone::utc()).map(|end| end - NOW).map_err(|error| error.to_string())
    }

    #[test]
    fn it_always_ends_and_within_a_month() {
        let hour = 3600;
        assert_eq!(seconds(&[]), Ok(4 * hour));
        assert_eq!(seconds(&["/etc/motd", "--for", "90s"]), Ok(90));
        assert_eq!(seconds(&["--for", "15m"]), Ok(900));
        assert_eq!(seconds(&["--for", "8h"]), Ok(8 * hour));
        assert_eq!(seconds(&["--for", "30d"]), Ok(30 * 24 * hour));
        assert_eq!(seconds(&["--until", "09:00"]), Ok(15 * hour));
        assert_eq!(seconds(&["--until", "2026-11-25 18:00"]), Ok(48 * hour));
        for (wrong, why) in [
            (&["--for", "31d"][..], "30 days"),
            (&["--until", "2027-01-01 00:00"], "30 days"),
            (&["--until", "2026-11-23 17:59"], "over already"),
            (&["--until", "tea time"], "--until is a time of the day"),
            (&["--for", "8"], "a whole number and s, m, h or d"),
            (&["--for", "0s"], "from 1s"),
            (&["--for", "1h", "--until", "09:00"], "cannot be used with"),
            (&["nginx"], "nginx.service"),
        ] {
            let said = seconds(wrong).expect_err("refused");
            assert!(said.contains(why), "{wrong:?}: {said}");
        }
    }
}
