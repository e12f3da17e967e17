//! `[packages]` and `[units]`.

use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::nearest;
use super::types::{At, PackageEntry, State, UnitEntry};
use super::walk::{BEFORE_TABLES, Value, Walk, is_top_level};
use crate::kinds::package::{Downgrade, Version};
use crate::kinds::unit::{OnChange, ReloadFailed};
use crate::model::one_line;

type Key<'i> = Spanned<DeString<'i>>;

/// Tells of a top-level key that fell into the table before it.
pub(super) fn fell_in(walk: &mut Walk<'_>, key: &Key<'_>, table: &str) -> bool {
    let name = key.get_ref();
    if is_top_level(name) {
        walk.error_hint(key.span(), format!("`{name}` does not belong in [{table}]"), BEFORE_TABLES);
        return true;
    }
    false
}

/// What `one` reads of every entry of `[table]`.
fn each<T>(
    walk: &mut Walk<'_>,
    table: &str,
    value: &Value<'_>,
    one: fn(&mut Walk<'_>, &Key<'_>, &Value<'_>) -> Option<T>,
) -> Vec<T> {
    let mut entries = Vec::new();
    for (key, value) in walk.table(table, value).into_iter().flatten() {
        if !fell_in(walk, key, table) {
            entries.extend(one(walk, key, value));
        }
    }
    entries
}

pub(super) fn packages(walk: &mut Walk<'_>, value: &Value<'_>) -> Vec<PackageEntry> {
    each(walk, "packages", value, package)
}

fn package(walk: &mut Walk<'_>, key: &Key<'_>, value: &Value<'_>) -> Option<PackageEntry> {
    let mut entry = PackageEntry {
        name: At::new(key.get_ref().clone().into_owned(), key.span()),
        state: At::new(State::Present, key.span()),
        version: None,
        downgrade: None,
        when: None,
        drift: None,
        release: None,
    };
    let name = one_line(&entry.name.value, 100);
    match value.get_ref() {
        DeValue::String(_) => {
            let text = walk.string(&name, value)?;
            entry.state.span.clone_from(&text.span);
            match text.value.as_str() {
                "present" => {}
                "absent" => entry.state.value = State::Absent,
                _ => entry.version = Some(version(walk, &name, text)?),
            }
        }
        DeValue::Table(_) => package_at_length(walk, &mut entry, value),
        _ => {
            let message = format!("the package `{name}` must be a string or a table");
            walk.error_hint(value.span(), message, "it is \"present\", \"absent\", a version or { version = \"…\" }");
            return None;
        }
    }
    Some(entry)
}

fn package_at_length(walk: &mut Walk<'_>, entry: &mut PackageEntry, value: &Value<'_>) {
    const KEYS: &[&str] = &["version", "state", "when", "downgrade", "drift", "release"];
    const STATES: &[(&str, State)] = &[("present", State::Present), ("absent", State::Absent)];
    const DOWNGRADES: &[(&str, Downgrade)] =
        &[("never", Downgrade::Never), ("intended", Downgrade::Intended), ("always", Downgrade::Always)];
    let Some(table) = value.get_ref().as_table() else { return };
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "version" => entry.version = walk.text("version", value).and_then(|text| version(walk, "version", text)),
            "state" => entry.state = walk.one_of("state", value, STATES).unwrap_or_else(|| entry.state.clone()),
            "when" => entry.when = walk.text("when", value),
            "downgrade" => entry.downgrade = walk.one_of("downgrade", value, DOWNGRADES),
            "drift" => entry.drift = walk.word("drift", value),
            "release" => entry.release = walk.word("release", value),
            other => walk.unknown(other, key.span(), KEYS),
        }
    }
    if let (State::Absent, Some(version)) = (entry.state.value, &entry.version) {
        walk.error(version.span.clone(), "a package that is absent has no `version`");
    }
}

fn version(walk: &mut Walk<'_>, key: &str, text: At<String>) -> Option<At<Version>> {
    let pattern = text.value.contains(['*', '?']);
    let plain = text.value.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-~:^_*?".contains(&b));
    let likely = text.value.bytes().any(|b| b.is_ascii_digit()) || pattern;
    if !plain || !likely || text.value.starts_with('-') || text.value.len() > 256 {
        let message = match text.value.as_str() {
            "" => format!("`{key}` is empty"),
            wrong => format!("`{key}` cannot be \"{}\"", one_line(wrong, 100)),
        };
        let hint = match text.value.as_str() {
            "latest" | "upgraded" | "newest" => {
                "what is installed is never upgraded here; say \"present\" or a version"
            }
            "removed" | "purged" | "uninstalled" => "say \"absent\"",
            wrong => match nearest(wrong, ["present", "absent"]) {
                Some("present") => "did you mean \"present\"?",
                Some(_) => "did you mean \"absent\"?",
                None => "it is \"present\", \"absent\", an exact version, or a pattern such as \"1.22.*\"",
            },
        };
        walk.error_hint(text.span, message, hint);
        return None;
    }
    Some(text.map(|text| if pattern { Version::Glob(text) } else { Version::Exact(text) }))
}

pub(super) fn units(walk: &mut Walk<'_>, value: &Value<'_>) -> Vec<UnitEntry> {
    each(walk, "units", value, unit)
}

fn unit(walk: &mut Walk<'_>, key: &Key<'_>, value: &Value<'_>) -> Option<UnitEntry> {
    let mut entry = UnitEntry {
        name: At::new(key.get_ref().clone().into_owned(), key.span()),
        enabled: None,
        active: None,
        masked: None,
        on_change: None,
        watch: Vec::new(),
        watch_restart: Vec::new(),
        watch_reload: Vec::new(),
        reload_failed: None,
        validate: None,
        when: None,
        drift: None,
        release: None,
    };
    let name = one_line(&entry.name.value, 100);
    match value.get_ref() {
        DeValue::String(_) => {
            let span = value.span();
            let (enabled, active, masked) = walk
                .one_of(
                    &name,
                    value,
                    &[
                        ("on", (Some(true), Some(true), Some(false))),
                        ("off", (Some(false), Some(false), None)),
                        ("masked", (None, None, Some(true))),
                    ],
                )?
                .value;
            entry.enabled = Some(At::new(enabled, span.clone()));
            entry.active = Some(At::new(active, span.clone()));
            entry.masked = masked.map(|masked| At::new(masked, span));
        }
        DeValue::Table(table) if table.is_empty() => {
            walk.error_hint(
                value.span(),
                format!("the unit `{name}` says nothing"),
                "write \"on\", \"off\", \"masked\" or a table",
            );
            return None;
        }
        DeValue::Table(_) => unit_at_length(walk, &mut entry, value),
        DeValue::Boolean(flag) => {
            let hint = format!("write \"{}\"", if *flag { "on" } else { "off" });
            walk.error_hint(value.span(), format!("the unit `{name}` must be a string or a table"), hint);
            return None;
        }
        _ => {
            let message = format!("the unit `{name}` must be a string or a table");
            walk.error_hint(value.span(), message, "write \"on\", \"off\", \"masked\" or a table");
            return None;
        }
    }
    Some(entry)
}

fn unit_at_length(walk: &mut Walk<'_>, entry: &mut UnitEntry, value: &Value<'_>) {
    const KEYS: &[&str] =
        &["enabled", "active", "masked", "on_change", "watch", "reload_failed", "validate", "when", "drift", "release"];
    const ON_CHANGE: &[(&str, OnChange)] = &[
        ("restart", OnChange::Restart),
        ("reload", OnChange::Reload),
        ("start", OnChange::Start),
        ("none", OnChange::None),
    ];
    const RELOAD_FAILED: &[(&str, ReloadFailed)] =
        &[("report", ReloadFailed::Report), ("restart", ReloadFailed::Restart)];
    let Some(table) = value.get_ref().as_table() else { return };
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "enabled" => entry.enabled = walk.boolean("enabled", value).map(|flag| flag.map(Some)),
            "active" => entry.active = walk.boolean("active", value).map(|flag| flag.map(Some)),
            "masked" => entry.masked = walk.boolean("masked", value),
            "on_change" => entry.on_change = walk.one_of("on_change", value, ON_CHANGE),
            "watch" => watch(walk, entry, value),
            "reload_failed" => entry.reload_failed = walk.one_of("reload_failed", value, RELOAD_FAILED),
            "validate" => entry.validate = walk.command("validate", value),
            "when" => entry.when = walk.text("when", value),
            "drift" => entry.drift = walk.word("drift", value),
            "release" => entry.release = walk.word("release", value),
            other => walk.unknown(other, key.span(), KEYS),
        }
    }
    if let Some(At { value: true, span }) = &entry.masked {
        // Masked means: whatever another layer says of these is not wanted.
        entry.enabled.get_or_insert_with(|| At::new(None, span.clone()));
        entry.active.get_or_insert_with(|| At::new(None, span.clone()));
    }
}

/// A list of patterns, or a list for each of what the unit does.
fn watch(walk: &mut Walk<'_>, entry: &mut UnitEntry, value: &Value<'_>) {
    const HINT: &str = "write [\"/etc/app/**\"], or { restart = [...], reload = [...] }";
    let table = match value.get_ref() {
        DeValue::Array(_) => return entry.watch = walk.texts("watch", value).unwrap_or_default(),
        DeValue::Table(table) => table,
        _ => return walk.error_hint(value.span(), "`watch` must be a list or a table", HINT),
    };
    if table.is_empty() {
        walk.error_hint(value.span(), "`watch` says nothing", HINT);
    }
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "restart" => entry.watch_restart = walk.texts("restart", value).unwrap_or_default(),
            "reload" => entry.watch_reload = walk.texts("reload", value).unwrap_or_default(),
            other => walk.unknown(other, key.span(), &["restart", "reload"]),
        }
    }
}
