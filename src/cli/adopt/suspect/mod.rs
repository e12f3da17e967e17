//! What content looks as if it must not be committed in the clear. Pure. It errs to the side of caution: what is
//! suspected wrongly can be named with `--in-clear`, and what was pushed is known for good.

mod assigned;
mod form;
mod name;
mod value;
mod words;

use self::assigned::assigned;
use self::form::{begins_key, by_form};
use self::name::by_name;
use self::value::is_harmless;
use self::words::{PARTS, first_word, says_a_word};

/// A place that looks like a secret. What stands there is never part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspicion {
    /// The line, from 1; `None` for the file as a whole.
    pub(super) line: Option<usize>,
    /// What it looks like: `a private key`.
    pub(super) what: &'static str,
}

/// How many places of a file are told.
const MOST: usize = 20;

/// The longest line that is taken apart, in bytes.
const LONGEST: usize = 16 << 10;

/// What looks secret in `content`, which stands at `path` with these permission bits.
pub(super) fn suspicions(path: &str, mode: u32, content: &[u8]) -> Vec<Suspicion> {
    let mut found = Vec::new();
    if content.is_empty() || crate::secret::Header::read(content).is_ok() {
        return found;
    }
    let is_text = std::str::from_utf8(content).is_ok_and(|text| !text.contains('\0'));
    let text = String::from_utf8_lossy(content);
    let closed = mode & 0o004 == 0;
    if let Some(what) = by_name(path, closed, &text).or((closed && !is_text).then_some(NO_TEXT)) {
        found.push(Suspicion { line: None, what });
    }
    let closed = closed && is_text;
    // Long words of a certificate are public, and of a key its first line is told.
    let mut block = false;
    for (at, line) in text.lines().enumerate() {
        if found.len() == MOST {
            break;
        }
        if line.contains("-----BEGIN ") {
            block = ["CERTIFICATE", "PUBLIC", "PARAMETERS", "CRL"].iter().any(|what| line.contains(what))
                || begins_key(line);
        } else if line.contains("-----END ") {
            block = false;
        }
        let alone = || (closed && !block && is_token_alone(line)).then_some(ALONE);
        if let Some(what) = in_line(line, closed, is_text).or_else(alone) {
            found.push(Suspicion { line: Some(at + 1), what });
        }
    }
    found
}

/// Whether `line` is one long word, as keys, cookies and passphrases are.
fn is_token_alone(line: &str) -> bool {
    let line = line.trim();
    let word = line.trim_matches(['"', '\'', ',', ';']);
    let comment = line.starts_with(['#', ';']) || line.starts_with("//");
    // What is code or a setting: a path, a section, an element, a label, a call, `name=value`.
    let section = word.starts_with('[') && word.ends_with(']') && !word.contains('"');
    let code = word.starts_with(['/', '<', '{', '}']) || word.ends_with([':', '{', '(']) || word.ends_with("()");
    let setting = word.trim_end_matches('=').split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    });
    let other = comment || section || code || setting;
    !other
        && word.chars().count() >= 16
        && !word.contains(char::is_whitespace)
        && !word.contains("://")
        && word.contains(char::is_alphanumeric)
        && !is_harmless(word)
}

fn in_line(line: &str, closed: bool, is_text: bool) -> Option<&'static str> {
    if line.len() > LONGEST {
        // It is not taken apart; that it says a word has to do.
        let lower = line.to_ascii_lowercase();
        let says = || {
            (PARTS.iter().any(|part| lower.contains(part)) || sets_in_long(&lower))
                .then_some("a word for a secret, in a very long line")
        };
        return by_form(line).or_else(says);
    }
    by_form(line).or_else(|| assigned(line, is_text)).or_else(|| (closed && says_a_word(line)).then_some(CLOSED))
}

/// Whether a key of a secret is set in `line`, as in `"token":"x"`, whatever stands around it.
fn sets_in_long(line: &str) -> bool {
    ["api_key", "api-key", "access_key", "access-key", "accesskey", "token"].iter().any(|key| {
        line.match_indices(key).any(|(at, _)| {
            let rest = line[at + key.len()..].trim_start_matches(['"', '\'', '\\', ' ']);
            let Some(rest) = rest.strip_prefix([':', '=']) else { return false };
            let rest = rest.trim_start_matches(['=', '>', ':', '\\', ' ']);
            let value = first_word(rest);
            // In code a short word is the name of a variable.
            !is_harmless(value) && (rest.starts_with(['"', '\'']) || value.len() >= 8)
        })
    })
}

const NO_TEXT: &str = "other bytes than text, in a file that not everybody may read";

const ALONE: &str = "a long word alone on its line, in a file that not everybody may read";

const CLOSED: &str = "a word for a secret, in a file that not everybody may read";

#[cfg(test)]
mod tests;
