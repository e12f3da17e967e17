use jiff::civil;

use super::patterns::Patterns;
use crate::model::{Zone, one_line};

/// What a line allows its key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// The key signs certificates, and nothing else.
    pub authority: bool,
    /// What signatures may be made for; `None` is anything.
    pub namespaces: Option<Patterns>,
    /// Seconds since 1970; it is valid then already.
    pub valid_after: Option<i64>,
    /// Seconds since 1970; it is still valid then.
    pub valid_before: Option<i64>,
}

type Result<T> = std::result::Result<T, String>;

impl Options {
    /// The options that `text` begins with, up to a space, and what follows them.
    ///
    /// # Errors
    /// What is wrong with them, and what to do.
    pub fn parse<'a>(text: &'a str, zone: &Zone) -> Result<(Self, &'a str)> {
        let mut options = Self::default();
        let mut rest = text;
        loop {
            let (name, after) = rest.split_at(rest.find(['=', ',', ' ', '\t']).unwrap_or(rest.len()));
            let (value, after) = match after.strip_prefix('=') {
                Some(after) => {
                    let (value, after) = quoted(after)?;
                    (Some(value), after)
                }
                None => (None, after),
            };
            options.set(name, value.as_deref(), zone)?;
            match after.strip_prefix(',') {
                Some(after) => rest = after,
                None if after.starts_with([' ', '\t']) || after.is_empty() => {
                    options.check()?;
                    return Ok((options, after));
                }
                None => return Err(format!("after {} a comma or a space has to follow", one_line(name, 60))),
            }
        }
    }

    fn set(&mut self, name: &str, value: Option<&str>, zone: &Zone) -> Result<()> {
        let lower = name.to_ascii_lowercase();
        let twice = match (lower.as_str(), value) {
            ("cert-authority", None) => std::mem::replace(&mut self.authority, true),
            ("namespaces", Some(value)) => {
                let patterns = Patterns::of(value).map_err(|why| format!("namespaces {why}"))?;
                self.namespaces.replace(patterns).is_some()
            }
            // Where clocks show a time twice, what is valid for less long is meant.
            ("valid-after", Some(value)) => self.valid_after.replace(time(&lower, value, zone)?.1).is_some(),
            ("valid-before", Some(value)) => self.valid_before.replace(time(&lower, value, zone)?.0).is_some(),
            ("cert-authority", Some(_)) => return Err("cert-authority takes no value".to_owned()),
            ("namespaces" | "valid-after" | "valid-before", None) => {
                return Err(format!("{lower} takes a value: {lower}=\"…\""));
            }
            _ => {
                return Err(format!(
                    "{:?} is neither an option nor a kind of key that is known here; see ssh-keygen(1), ALLOWED SIGNERS",
                    one_line(name, 60)
                ));
            }
        };
        if twice { Err(format!("{lower} stands there twice; keep one")) } else { Ok(()) }
    }

    fn check(&self) -> Result<()> {
        match (self.valid_after, self.valid_before) {
            (Some(after), Some(before)) if before <= after => {
                Err("valid-before is not later than valid-after, so the key is never valid".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// The value in quotes that `text` begins with, and what follows it; `\"` is a quote within.
fn quoted(text: &str) -> Result<(String, &str)> {
    let inner = text.strip_prefix('"').ok_or("a value stands in quotes: namespaces=\"git\"")?;
    let mut value = String::new();
    let mut chars = inner.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &inner[at + 1..])),
            '\\' if chars.next_if(|(_, next)| *next == '"').is_some() => value.push('"'),
            c => value.push(c),
        }
    }
    Err("a quote is not closed".to_owned())
}

/// The moments that the time `text` of the option `name` may mean, the first and the last: in UTC where it ends in `Z`,
/// else in `zone`.
fn time(name: &str, text: &str, zone: &Zone) -> Result<(i64, i64)> {
    let utc = Zone::utc();
    let (digits, zone) = text.strip_suffix(['Z', 'z']).map_or((text, zone), |digits| (digits, &utc));
    let number = |at: usize, length: usize| digits.get(at..at + length).map_or(Ok(0), str::parse::<i8>);
    let moments = || {
        let year: i16 = digits.get(..4)?.parse().ok()?;
        let part = |at| number(at, 2).ok();
        let at = civil::DateTime::new(year, part(4)?, part(6)?, part(8)?, part(10)?, part(12)?, 0).ok()?;
        zone.moments(at).filter(|(first, _)| *first > 0)
    };
    let shape = digits.bytes().all(|byte| byte.is_ascii_digit()) && [8, 12, 14].contains(&digits.len());
    shape.then(moments).flatten().ok_or_else(|| {
        let text = one_line(text, 40);
        format!("{name}={text:?} is no time since 1970; it is YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with Z for UTC")
    })
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(text, &Zone::utc()).map(|(options, rest)| {
            assert!(rest.is_empty(), "{rest:?} is left");
            options
        })
    }

    #[test]
    fn every_option_is_known_however_it_is_written() {
        let all = parse("CERT-authority,namespaces=\"git,file\",Valid-After=\"20260101\",valid-before=\"20270101Z\"");
        let all = all.expect("options");
        assert!(all.authority);
        assert!(all.namespaces.expect("given").allow("git"));
        assert_eq!((all.valid_after, all.valid_before), (Some(1_767_225_600), Some(1_798_761_600)));
        assert_eq!(parse("namespaces=\"a\\\"b\"").expect("one").namespaces, Some(Patterns::of("a\"b").expect("one")));
        let (one, rest) = Options::parse("cert-authority \tssh-rsa AAAA", &Zone::utc()).expect("one");
        assert_eq!((one.authority, rest), (true, " \tssh-rsa AAAA"));
    }

    #[test]
    fn times_are_local_unless_they_say_utc() {
        let paris = Zone::new(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule"));
        let after = |text: &str| {
            Options::parse(&format!("valid-after=\"{text}\""), &paris).map(|(options, _)| options.valid_after)
        };
        for (text, moment) in [
            ("20260101", 1_767_222_000),
            ("20260101Z", 1_767_225_600),
            ("202601010130", 1_767_227_400),
            ("202601010130z", 1_767_231_000),
            ("20260101013005", 1_767_227_405),
            ("20260701", 1_782_856_800),
            ("20240229Z", 1_709_164_800),
        ] {
            assert_eq!(after(text), Ok(Some(moment)), "{text}");
        }
        let before = Options::parse("valid-before=\"202610250230\"", &paris).expect("a time").0.valid_before;
        assert_eq!((after("202610250230"), before), (Ok(Some(1_792_891_800)), Some(1_792_888_200)), "shown twice");
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in [
            "",
            "restrict",
            "ssh-ed2551",
            "no-cert-authority",
            "cert-authority=\"yes\"",
            "cert-authorityx",
            "cert-authority,",
            ",cert-authority",
            "cert-authority,,namespaces=\"git\"",
            "cert-authority,cert-authority",
            "namespaces",
            "namespaces=git",
            "namespaces=\"git",
            "namespaces=\"git\\\"",
            "namespaces=\"git\"x",
            "namespaces=\"\"",
            "namespaces=\"git,\"",
            "namespaces=\"git\",NAMESPACES=\"git\"",
            "valid-after=\"20260101\",valid-after=\"20260101\"",
            "valid-before=\"20260101\",valid-before=\"20260101\"",
            "valid-after=\"20260102\",valid-before=\"20260102\"",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        for time in [
            "",
            "Z",
            "2026",
            "202601",
            "2026010",
            "20260101 ",
            "+2026101",
            "20260230",
            "20261301",
            "20260001",
            "202601012400",
            "202601010060",
            "20260101000060",
            "19700101Z",
            "19600101Z",
            "20260101ZZ",
            "2026010100Z",
            "２０２６0101",
            "é0260101",
            "20260101000000000",
        ] {
            assert!(parse(&format!("valid-after=\"{time}\"")).is_err(), "{time}");
        }
    }
}
