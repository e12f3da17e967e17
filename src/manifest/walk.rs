use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{At, Problem, Text, nearest};
use crate::model::{Word, one_line};

pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// How the message of every syntax error starts.
pub(super) const NOT_TOML: &str = "not valid TOML";

/// Keys that are no tables and stand at the top of some manifest. After a `[table]` they fall into it.
const TOP_LEVEL: &[&str] = &["format", "machine_id", "requires", "roles"];

/// The hint for one of [`TOP_LEVEL`] that stands too far down.
pub(super) const BEFORE_TABLES: &str = "top-level keys stand before the first [table]";

/// Whether `key` belongs at the top of a manifest.
pub(super) fn is_top_level(key: &str) -> bool {
    TOP_LEVEL.contains(&key)
}

/// A walk over one manifest that collects what is wrong on its way and goes on.
pub(super) struct Walk<'p> {
    path: &'p str,
    pub(super) problems: Vec<Problem>,
}

impl<'p> Walk<'p> {
    pub(super) fn new(path: &'p str) -> Self {
        Self { path, problems: Vec::new() }
    }

    /// The file that is walked.
    pub(super) fn path(&self) -> &'p str {
        self.path
    }

    pub(super) fn error(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.problems.push(Problem::error(self.path, Some(span), message));
    }

    pub(super) fn error_hint(&mut self, span: Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::error(self.path, Some(span), message).hint(hint));
    }

    pub(super) fn note(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.problems.push(Problem::note(self.path, Some(span), message));
    }

    /// How many errors there are so far.
    pub(super) fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.is_error()).count()
    }

    /// Reads `content` as TOML, as far as it goes. Where the second part is `false` the text is not TOML, which has been told.
    pub(super) fn document<'i>(&mut self, text: &'i str) -> (DeTable<'i>, bool) {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            let there = text.get(span.clone()).unwrap_or_default().trim();
            match error.message() {
                "duplicate key" => {
                    let message = format!("not valid TOML: `{}` is here a second time", one_line(there, 100));
                    self.error_hint(span, message, "put both together, or take one out");
                }
                message if there.is_empty() && message.starts_with("string values must be quoted") => {
                    self.error(span, "not valid TOML: a value is missing");
                }
                message => self.error(span, format!("not valid TOML: {message}")),
            }
        }
        (table.into_inner(), errors.is_empty())
    }

    /// Forgets what was told of lines that are not TOML, besides that: there the parser made up values to go on.
    pub(super) fn forget_guesses(&mut self, text: &str) {
        let text = Text::from(Cow::from(text));
        let line = |problem: &Problem| problem.span.as_ref().map(|span| text.line(span.start).0);
        let broken: BTreeSet<_> = self.problems.iter().filter(|p| p.message.starts_with(NOT_TOML)).map(line).collect();
        self.problems.retain(|problem| problem.message.starts_with(NOT_TOML) || !broken.contains(&line(problem)));
    }

    /// `key` is none of `known`.
    pub(super) fn unknown(&mut self, key: &str, span: Range<usize>, known: &[&str]) {
        let hint = match nearest(key, known.iter().copied()) {
            _ if is_top_level(key) => BEFORE_TABLES.to_owned(),
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.error_hint(span, format!("unknown key `{}`", one_line(key, 100)), hint);
    }

    pub(super) fn wrong_type(&mut self, key: &str, wanted: &str, value: &Value<'_>) {
        let found = named(value.get_ref());
        self.error(value.span(), format!("`{}` must be {wanted}, not {found}", one_line(key, 100)));
    }

    pub(super) fn table<'v, 'i>(&mut self, key: &str, value: &'v Value<'i>) -> Option<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(key, "a table", value);
        }
        table
    }

    pub(super) fn array<'v, 'i>(&mut self, key: &str, value: &'v Value<'i>) -> Option<&'v [Value<'i>]> {
        match value.get_ref() {
            DeValue::Array(array) => Some(array),
            _ => {
                self.wrong_type(key, "an array", value);
                None
            }
        }
    }

    /// A string, which may be empty.
    pub(super) fn string(&mut self, key: &str, value: &Value<'_>) -> Option<At<String>> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, "a string", value);
        }
        text.map(|text| At::new(text.to_owned(), value.span()))
    }

    /// A string that says something.
    pub(super) fn text(&mut self, key: &str, value: &Value<'_>) -> Option<At<String>> {
        let text = self.string(key, value)?;
        if text.value.trim().is_empty() {
            self.error(text.span, format!("`{}` is empty", one_line(key, 100)));
            return None;
        }
        Some(text)
    }

    pub(super) fn boolean(&mut self, key: &str, value: &Value<'_>) -> Option<At<bool>> {
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong_type(key, "true or false", value);
        }
        found.map(|found| At::new(found, value.span()))
    }

    /// A whole number from 0 to `most`.
    pub(super) fn count(&mut self, key: &str, value: &Value<'_>, most: u64) -> Option<At<u64>> {
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, "a whole number", value);
            return None;
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if number <= most => Some(At::new(number, value.span())),
            _ => {
                let bound = if most == u64::MAX { "0 or more".to_owned() } else { format!("from 0 to {most}") };
                self.error(value.span(), format!("`{key}` must be a whole number, {bound}"));
                None
            }
        }
    }

    /// One of a closed set of words.
    pub(super) fn word<W: Word>(&mut self, key: &str, value: &Value<'_>) -> Option<At<W>> {
        let words: Vec<(&str, W)> = W::ALL.iter().map(|word| (word.as_str(), *word)).collect();
        self.one_of(key, value, &words)
    }

    /// One of `words`.
    pub(super) fn one_of<T: Copy>(&mut self, key: &str, value: &Value<'_>, words: &[(&str, T)]) -> Option<At<T>> {
        let text = self.string(key, value)?;
        if let Some((_, found)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(At::new(*found, text.span));
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = if text.value.is_empty() {
            format!("`{key}` is empty")
        } else {
            format!("`{key}` cannot be \"{}\"", one_line(&text.value, 100))
        };
        let hint = match nearest(&text.value, all.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"? It is one of: {}", all.join(", ")),
            None => format!("it is one of: {}", all.join(", ")),
        };
        self.error_hint(text.span, message, hint);
        None
    }

    /// An array of strings that say something; one that does not is told and left out.
    pub(super) fn texts(&mut self, key: &str, value: &Value<'_>) -> Option<Vec<At<String>>> {
        let array = self.array(key, value)?;
        let mut texts = Vec::new();
        for element in array {
            texts.extend(self.text(key, element));
        }
        Some(texts)
    }

    /// A command: a program and its arguments, the program first. Arguments may be empty.
    pub(super) fn command(&mut self, key: &str, value: &Value<'_>) -> Option<At<Vec<String>>> {
        let array = self.array(key, value)?;
        let Some((program, arguments)) = array.split_first() else {
            self.error_hint(value.span(), format!("`{key}` is empty"), "it is a program and its arguments");
            return None;
        };
        let mut words = vec![self.text(key, program)?.value];
        for argument in arguments {
            words.push(self.string(key, argument)?.value);
        }
        // What execve(2) cannot be given.
        if words.iter().any(|word| word.contains('\0')) {
            self.error(value.span(), format!("`{key}` holds a NUL, which no command can be given"));
            return None;
        }
        Some(At::new(words, value.span()))
    }
}

/// What a value is, in words that follow "not".
fn named(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
