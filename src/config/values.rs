use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::credential;
use super::problem::{ConfigProblem, Place, hint};
use crate::model::{Word, one_line};

/// A value as written, and where.
#[derive(Debug)]
pub(super) struct Written<'a> {
    /// `source.branch`.
    pub name: &'static str,
    pub value: &'a DeValue<'a>,
    pub place: Place<'a>,
}

type Result<T> = std::result::Result<T, ConfigProblem>;

impl Written<'_> {
    pub fn problem(&self, message: &str) -> ConfigProblem {
        self.place.problem(format!("{} {message}", self.name))
    }

    fn wanted(&self, what: &str) -> ConfigProblem {
        self.problem(&format!("is {what}, not {}", article(self.value.type_str())))
    }

    pub fn text(&self) -> Result<&str> {
        let text = self.value.as_str().ok_or_else(|| self.wanted("a string"))?;
        if text.chars().any(char::is_control) {
            return Err(self.problem("holds a control character"));
        }
        Ok(text)
    }

    pub fn flag(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.wanted("true or false"))
    }

    /// A whole number from `least` to `most`.
    pub fn count(&self, least: usize, most: usize) -> Result<usize> {
        let number = self.value.as_integer().ok_or_else(|| self.wanted("a whole number"))?;
        let read = usize::from_str_radix(number.as_str(), number.radix()).ok();
        read.filter(|count| (least..=most).contains(count)).ok_or_else(|| {
            let written = one_line(number.as_str(), 40);
            self.problem(&format!("is from {least} to {most}, and this is {written}"))
        })
    }

    /// One string or a list of strings, each with its own place.
    pub fn texts(&self) -> Result<Vec<Written<'_>>> {
        let one = |value, place| Written { name: self.name, value, place };
        match self.value {
            DeValue::String(_) => Ok(vec![one(self.value, self.place)]),
            DeValue::Array(list) => {
                Ok(list.iter().map(|item| one(item.get_ref(), self.place.at(&item.span()))).collect())
            }
            _ => Err(self.wanted("a string or a list of strings")),
        }
    }

    pub fn word<W: Word>(&self) -> Result<W> {
        let text = self.text()?;
        let known: Vec<&str> = W::ALL.iter().map(|word| word.as_str()).collect();
        W::parse(text).ok_or_else(|| self.problem(&format!("cannot be {:?}{}", one_line(text, 40), hint(text, &known))))
    }

    /// As [`duration`].
    pub fn duration(&self) -> Result<Duration> {
        self.seconds_by(duration)
    }

    /// As [`Written::duration`], from `least` to `most`.
    pub fn duration_within(&self, least: Duration, most: Duration) -> Result<Duration> {
        let total = self.seconds_by(seconds)?.map(Duration::from_secs).filter(|total| (least..=most).contains(total));
        total.ok_or_else(|| {
            let (least, most) = (duration_text(least), duration_text(most));
            let written = one_line(self.value.as_str().unwrap_or_default(), 40);
            self.problem(&format!("is from {least} to {most}, and this is {written}"))
        })
    }

    fn seconds_by<T>(&self, read: impl FnOnce(&str) -> std::result::Result<T, &'static str>) -> Result<T> {
        read(self.value.as_str().unwrap_or_default()).map_err(|rule| self.problem(&format!("is {rule}")))
    }

    /// An absolute path.
    pub fn file(&self) -> Result<PathBuf> {
        let text = self.text()?;
        if !text.starts_with('/') || text.ends_with('/') || text.len() > 4096 {
            return Err(self.problem("is the absolute path of a file"));
        }
        Ok(PathBuf::from(text))
    }

    /// An absolute path, or the name of a credential of the agent's unit.
    pub fn credential(&self) -> Result<PathBuf> {
        let text = self.text()?;
        if text.contains('/') {
            return self.file();
        }
        let wrong = || self.problem("is the absolute path of a file, or the name of a credential of trueup.service");
        credential::path(text).ok_or_else(wrong)
    }

    /// The same, where the path can stand in the command line that ssh is started with.
    pub fn plain_credential(&self) -> Result<PathBuf> {
        let path = self.credential()?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._+@:,-".contains(&b);
        if !path.as_os_str().as_encoded_bytes().iter().copied().all(plain) {
            return Err(self.problem("may hold letters, digits and / . _ + @ : , - only"));
        }
        Ok(path)
    }

    /// A path relative to the repository's root, normalized; empty for the root.
    pub fn subdirectory(&self) -> Result<String> {
        subdirectory(self.text()?).map_err(|rule| self.problem(&format!("is {rule}")))
    }

    /// A host name: lower case, digits, dashes and dots.
    pub fn host_name(&self) -> Result<String> {
        let text = self.text()?;
        let label = |part: &str| {
            !part.is_empty()
                && part.len() <= 63
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
        };
        if text.len() > 253 || !text.split('.').all(label) {
            return Err(self.problem("is a host name in lower case, like \"web-01\" or \"web-01.example.org\""));
        }
        Ok(text.to_owned())
    }
}

/// A path relative to the root of a repository, without the slashes at its end; empty for the root itself.
///
/// # Errors
/// What it has to be, where it is not.
pub fn subdirectory(text: &str) -> std::result::Result<String, &'static str> {
    if text.bytes().all(|b| b == b'/') && text.len() <= 1 {
        return Ok(String::new());
    }
    let path = text.trim_end_matches('/');
    let wrong = |part: &str| matches!(part, "" | "." | "..") || part.chars().any(char::is_control);
    if path.len() > 4096 || path.split('/').any(wrong) {
        return Err("a path relative to the root of the repository, without . and ..");
    }
    Ok(path.to_owned())
}

/// A duration as it is written: in the largest unit that it is a whole number of.
pub(super) fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(24 * 60 * 60, 'd'), (60 * 60, 'h'), (60, 'm')];
    let (size, unit) =
        units.into_iter().find(|(size, _)| seconds > 0 && seconds.is_multiple_of(*size)).unwrap_or((1, 's'));
    format!("{}{unit}", seconds / size)
}

/// A whole number and its unit: `90s`, `10m`, `6h`, `30d`.
///
/// # Errors
/// What it has to be, where it is not.
pub fn duration(text: &str) -> std::result::Result<Duration, &'static str> {
    const YEARS_10: u64 = 10 * 366 * 24 * 60 * 60;
    let total = seconds(text)?.filter(|n| (1..=YEARS_10).contains(n));
    total.map(Duration::from_secs).ok_or("from 1s to ten years")
}

/// How many seconds that is; `None` where it is more than can be counted.
fn seconds(text: &str) -> std::result::Result<Option<u64>, &'static str> {
    const RULE: &str = "a duration: a whole number and s, m, h or d, like \"60s\", \"10m\", \"6h\", \"30d\"";
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 60 * 60,
        Some(b'd') => 24 * 60 * 60,
        _ => return Err(RULE),
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(RULE);
    }
    Ok(digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)))
}

pub(super) fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}
