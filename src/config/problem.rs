use std::fmt;
use std::ops::Range;

use crate::model::one_line;

/// Something in the agent's configuration that cannot be used as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Which file.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = one_line(&self.path, 4096);
        write!(f, "{path}:{}:{}: {}", self.line, self.column, one_line(&self.message, 600))
    }
}

impl std::error::Error for ConfigProblem {}

/// Where something stands in one file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub path: &'a str,
    pub text: &'a str,
    pub start: usize,
}

impl<'a> Place<'a> {
    /// The place of `span` in the file whose text this place is of.
    pub fn at(self, span: &Range<usize>) -> Place<'a> {
        Place { start: span.start, ..self }
    }

    /// The problem `message` here.
    pub fn problem(self, message: impl Into<String>) -> ConfigProblem {
        let column = self.before().rsplit('\n').next().unwrap_or("").chars().count() + 1;
        ConfigProblem { path: self.path.to_owned(), line: self.line(), column, message: message.into() }
    }

    /// The line, from 1.
    pub fn line(self) -> usize {
        self.before().matches('\n').count() + 1
    }

    fn before(self) -> &'a str {
        self.text.get(..self.start).unwrap_or(self.text)
    }
}

/// `; did you mean "…"?` where one of `known` is near to `written`, else the list of them.
pub(super) fn hint(written: &str, known: &[&str]) -> String {
    // More letters wrong than right is no typing mistake.
    let near = known.iter().map(|word| (distance(written, word), word)).min();
    match near {
        Some((steps, word)) if steps <= 1 + word.chars().count() / 4 => format!("; did you mean \"{word}\"?"),
        _ => format!("; known are {}", known.join(", ")),
    }
}

/// How many letters to add, take away, change or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut above = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(above[j - 2] + 1);
            }
        }
        above = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_word() {
        assert_eq!(hint("brnach", &["url", "branch"]), "; did you mean \"branch\"?");
        assert_eq!(hint("intervall", &["interval"]), "; did you mean \"interval\"?");
        assert_eq!(hint("colour", &["url", "branch"]), "; known are url, branch");
    }

    #[test]
    fn columns_are_counted_in_characters() {
        let place = Place { path: "a", text: "ä = 1\nöö = 2\n", start: 12 };
        assert_eq!(place.problem("x").to_string(), "a:2:4: x");
    }
}
