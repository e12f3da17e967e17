//! `[files]`.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::entries::fell_in;
use super::types::{At, FileEntry, Stand};
use super::walk::{Value, Walk};
use crate::kinds;
use crate::kinds::file::{Exclusive, Replace};
use crate::model::one_line;

const KEYS: &[&str] = &[
    "owner",
    "group",
    "mode",
    "type",
    "target",
    "content",
    "state",
    "attributes_only",
    "replace",
    "validate",
    "when",
    "drift",
    "release",
    "raw",
    "exclusive",
    "source",
];

/// What only an exact path can say.
const OF_PATHS: &[&str] = &["type", "target", "content", "source", "state", "attributes_only", "exclusive"];

pub(super) fn files(walk: &mut Walk<'_>, value: &Value<'_>) -> Vec<FileEntry> {
    let mut files = Vec::new();
    let Some(table) = walk.table("files", value) else { return files };
    for (key, value) in table {
        if !fell_in(walk, key, "files") {
            files.extend(file(walk, key, value));
        }
    }
    files
}

/// What an entry says of what stands there, key by key, before it is made one [`Stand`].
#[derive(Default)]
struct Said {
    kind: Option<At<Type>>,
    target: Option<At<String>>,
    content: Option<At<String>>,
    source: Option<At<String>>,
    absent: Option<At<bool>>,
    attributes_only: Option<At<bool>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Type {
    File,
    Directory,
    Symlink,
}

fn file(walk: &mut Walk<'_>, key: &Spanned<DeString<'_>>, value: &Value<'_>) -> Option<FileEntry> {
    let path = At::new(key.get_ref().clone().into_owned(), key.span());
    let Some(table) = value.get_ref().as_table() else {
        let message = format!("the file `{}` must be a table", one_line(&path.value, 200));
        walk.error_hint(value.span(), message, "write [files.\"/path\"] and its attributes below");
        return None;
    };
    let before = walk.errors();
    let mut entry = FileEntry {
        pattern: path.value.contains(['*', '?', '[', '{']),
        path,
        stand: None,
        owner: None,
        group: None,
        mode: None,
        replace: None,
        exclusive: None,
        validate: None,
        raw: None,
        when: None,
        drift: None,
        release: None,
        broken: false,
    };
    let mut said = Said::default();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if entry.pattern && OF_PATHS.contains(&name) {
            let hint = "a pattern gives attributes to paths that are declared elsewhere; what stands there is said for one path at a time";
            walk.error_hint(key.span(), format!("a pattern cannot have `{name}`"), hint);
            continue;
        }
        attribute(walk, &mut entry, &mut said, key, value);
    }
    if !entry.pattern {
        entry.stand = stand(walk, said, &entry.path.span);
    }
    entry.broken = walk.errors() > before;
    Some(entry)
}

fn attribute(
    walk: &mut Walk<'_>,
    entry: &mut FileEntry,
    said: &mut Said,
    key: &Spanned<DeString<'_>>,
    value: &Value<'_>,
) {
    match key.get_ref().as_ref() {
        "owner" => entry.owner = principal(walk, "owner", value),
        "group" => entry.group = principal(walk, "group", value),
        "mode" => entry.mode = mode(walk, value),
        "type" => {
            let types = &[("file", Type::File), ("directory", Type::Directory), ("symlink", Type::Symlink)];
            said.kind = walk.one_of("type", value, types);
        }
        "target" => said.target = walk.text("target", value),
        "content" => said.content = walk.string("content", value),
        "source" => said.source = walk.text("source", value),
        "state" => said.absent = walk.one_of("state", value, &[("present", false), ("absent", true)]),
        "attributes_only" => said.attributes_only = walk.boolean("attributes_only", value),
        "replace" => {
            let words = &[("symlink", Replace::Symlink), ("directory", Replace::Directory), ("any", Replace::Any)];
            entry.replace = walk.one_of("replace", value, words);
        }
        "validate" => {
            entry.validate = walk.command("validate", value).filter(|command| names_the_file(walk, command));
        }
        "when" => entry.when = walk.text("when", value),
        "drift" => entry.drift = walk.word("drift", value),
        "release" => entry.release = walk.word("release", value),
        "raw" => entry.raw = walk.boolean("raw", value),
        "exclusive" => entry.exclusive = exclusive(walk, value),
        other => walk.unknown(other, key.span(), KEYS),
    }
}

/// Makes one statement of all that was said of what stands there.
fn stand(walk: &mut Walk<'_>, said: Said, path: &Range<usize>) -> Option<At<Stand>> {
    let mut stands: Vec<(&str, At<Stand>)> = Vec::new();
    let link = said.kind.as_ref().is_some_and(|kind| kind.value == Type::Symlink);
    match (link, said.target) {
        (true, Some(target)) => stands.push(("type = \"symlink\"", target.map(Stand::Symlink))),
        (true, None) => {
            let span = said.kind.as_ref().map_or_else(|| path.clone(), |kind| kind.span.clone());
            walk.error_hint(span, "a symlink must have a `target`", "target = \"/where/it/points\"");
        }
        (false, Some(target)) => {
            walk.error_hint(target.span, "only a symlink has a `target`", "add type = \"symlink\"");
        }
        (false, None) => {}
    }
    match said.kind {
        Some(At { value: Type::Directory, span }) => {
            stands.push(("type = \"directory\"", At::new(Stand::Directory, span)))
        }
        Some(At { value: Type::File, span }) if said.absent.as_ref().is_some_and(|absent| absent.value) => {
            walk.error(span, "what is absent has no `type`");
        }
        _ => {}
    }
    stands.extend(said.content.map(|content| ("content", content.map(Stand::Inline))));
    stands.extend(said.source.map(|source| ("source", source.map(Stand::Source))));
    if let Some(At { value: true, span }) = said.absent {
        stands.push(("state = \"absent\"", At::new(Stand::Absent, span)));
    }
    if let Some(At { value: true, span }) = said.attributes_only {
        stands.push(("attributes_only", At::new(Stand::Attributes, span)));
    }
    if let [(first, _), (second, at), ..] = stands.as_slice() {
        walk.error(
            at.span.clone(),
            format!("`{first}` and `{second}` cannot both be; one of them says what stands there"),
        );
    }
    stands.into_iter().next().map(|(_, stand)| stand)
}

/// Whether a validator of a file is told which: it judges the new file where that is staged, not what stands there.
fn names_the_file(walk: &mut Walk<'_>, command: &At<Vec<String>>) -> bool {
    let named = command.value[1..].iter().any(|word| word.contains("{}"));
    if !named {
        let hint = "{} stands for the new file, as in [\"nginx\", \"-t\", \"-c\", \"{}\"]; what judges files where they \
                    are used is the `validate` of a unit";
        walk.error_hint(command.span.clone(), "`validate` of a file names it nowhere", hint);
    }
    named
}

/// `true`, `false`, or what is in it all the same.
fn exclusive(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<At<Option<Exclusive>>> {
    let table = match value.get_ref() {
        DeValue::Boolean(said) => return Some(At::new(said.then(Exclusive::default), value.span())),
        DeValue::Table(table) => table,
        _ => {
            walk.wrong_type("exclusive", "true, false or { ignore = [\"…\"] }", value);
            return None;
        }
    };
    let mut exclusive = Exclusive::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "ignore" => {
                let patterns = walk.texts("ignore", value).unwrap_or_default();
                exclusive.ignore.extend(patterns.into_iter().filter_map(|pattern| ignored(walk, pattern)));
            }
            other => walk.unknown(other, key.span(), &["ignore"]),
        }
    }
    Some(At::new(Some(exclusive), value.span()))
}

/// A pattern of paths below the directory.
fn ignored(walk: &mut Walk<'_>, At { value, span }: At<String>) -> Option<String> {
    let shown = one_line(&value, 200);
    if value.split('/').any(|part| matches!(part, "" | "." | "..")) || value.chars().any(char::is_control) {
        let hint = "it is a pattern of paths relative to the directory, such as \"live/**\"";
        walk.error_hint(span, format!("`ignore` cannot hold \"{shown}\""), hint);
        return None;
    }
    if value.starts_with('!') {
        let hint = "no pattern takes back what another ignores; \\! stands for a name that begins with one";
        walk.error_hint(span, format!("`ignore` cannot hold \"{shown}\""), hint);
        return None;
    }
    if let Err(error) = kinds::pattern(&value) {
        walk.error(span, format!("`{shown}` is no pattern: {}", error.kind()));
        return None;
    }
    Some(value)
}

/// A user or group by name or number.
fn principal(walk: &mut Walk<'_>, key: &str, value: &Value<'_>) -> Option<At<String>> {
    let text = match value.get_ref() {
        DeValue::Integer(_) => walk.count(key, value, u64::from(u32::MAX) - 1)?.map(|id| id.to_string()),
        _ => walk.text(key, value)?,
    };
    let numeric = text.value.bytes().all(|b| b.is_ascii_digit());
    // The number 4294967295 is (uid_t) -1, which chown(2) reads as "leave it".
    let possible = match numeric {
        true => text.value.parse::<u32>().is_ok_and(|id| id != u32::MAX),
        false => {
            let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            let inner = |b: u8| b.is_ascii_alphanumeric() || b"_.-@\\+$".contains(&b);
            text.value.len() <= 256 && first(text.value.as_bytes()[0]) && text.value.bytes().all(inner)
        }
    };
    if !possible {
        let message = format!("`{key}` cannot be \"{}\"", one_line(&text.value, 100));
        walk.error_hint(text.span, message, "it is a name or a number");
        return None;
    }
    Some(text)
}

fn mode(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<At<u32>> {
    if let DeValue::Integer(integer) = value.get_ref() {
        let message = "`mode` must be a string, not an integer";
        walk.error_hint(
            value.span(),
            message,
            format!("quote it: mode = \"0{}\"", integer.as_str().trim_start_matches('0')),
        );
        return None;
    }
    let text = walk.text("mode", value)?;
    let octal = text.value.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(&text.value, 8) {
        Ok(bits) if octal && (3..=4).contains(&text.value.len()) => Some(At::new(bits, text.span)),
        _ => {
            let message = format!("`mode` cannot be \"{}\"", one_line(&text.value, 40));
            walk.error_hint(text.span, message, "it is three or four octal digits, such as \"0644\"");
            None
        }
    }
}
