//! Tables that more than one manifest has.

use toml::de::DeValue;

use super::types::{Assumed, At, Policy, Var, VarEntry, Vars};
use super::walk::{BEFORE_TABLES, Value, Walk, is_top_level};
use crate::model::one_line;
use crate::secret::Recipient;

pub(super) fn policy(walk: &mut Walk<'_>, value: &Value<'_>) -> Policy {
    let mut policy = Policy::default();
    let Some(table) = walk.table("policy", value) else { return policy };
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "drift" => policy.drift = walk.word("drift", value),
            "release" => policy.release = walk.word("release", value),
            "update" => policy.update = walk.word("update", value),
            other => walk.unknown(other, key.span(), &["drift", "release", "update"]),
        }
    }
    policy
}

pub(super) fn guard(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<At<u64>> {
    let mut max_removals = None;
    for (key, value) in walk.table("guard", value)? {
        match key.get_ref().as_ref() {
            "max_removals" => max_removals = walk.count("max_removals", value, u64::MAX),
            other => walk.unknown(other, key.span(), &["max_removals"]),
        }
    }
    max_removals
}

/// The keys that secrets are encrypted to: `recipient`, one, or `recipients`.
pub(super) fn secrets(walk: &mut Walk<'_>, value: &Value<'_>) -> Vec<At<Recipient>> {
    let mut written = Vec::new();
    let Some(table) = walk.table("secrets", value) else { return Vec::new() };
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "recipient" => written.extend(walk.text("recipient", value)),
            "recipients" => written.extend(walk.texts("recipients", value).unwrap_or_default()),
            other => walk.unknown(other, key.span(), &["recipient", "recipients"]),
        }
    }
    let mut recipients: Vec<At<Recipient>> = Vec::new();
    for At { value, span } in written {
        match Recipient::parse(&value) {
            Ok(key) if recipients.iter().any(|known| known.value == key) => {
                walk.error(span, "this key stands here twice")
            }
            Ok(key) => recipients.push(At::new(key, span)),
            Err(why) => walk.error(span, format!("`{}` {why}", one_line(&value, 100))),
        }
    }
    recipients
}

pub(super) fn vars(walk: &mut Walk<'_>, value: &Value<'_>) -> Vars {
    let Some(table) = walk.table("vars", value) else { return Vars::default() };
    for key in table.keys().filter(|key| is_top_level(key.get_ref())) {
        // A variable of this name is possible, so this cannot be an error.
        let name = key.get_ref();
        walk.note(key.span(), format!("`{name}` is a variable here, and nothing more; {BEFORE_TABLES}"));
    }
    of_table(walk, table)
}

fn of_table(walk: &mut Walk<'_>, table: &toml::de::DeTable<'_>) -> Vars {
    let mut vars = Vars::default();
    for (key, value) in table {
        if let Some(var) = var(walk, key.get_ref(), value) {
            vars.0.insert(key.get_ref().clone().into_owned(), VarEntry { key: key.span(), value: var });
        }
    }
    vars
}

fn var(walk: &mut Walk<'_>, key: &str, value: &Value<'_>) -> Option<Var> {
    Some(match value.get_ref() {
        DeValue::String(text) => Var::Text(text.clone().into_owned()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Var::Integer(number),
            Err(_) => {
                walk.error(value.span(), format!("`{}` does not fit in 64 bits", one_line(key, 100)));
                return None;
            }
        },
        DeValue::Float(float) => match float.as_str().parse() {
            Ok(number) => Var::Float(number),
            Err(_) => {
                walk.error(value.span(), format!("`{}` is no number", one_line(key, 100)));
                return None;
            }
        },
        DeValue::Boolean(flag) => Var::Boolean(*flag),
        DeValue::Datetime(time) => Var::Text(time.to_string()),
        DeValue::Array(array) => Var::Array(array.iter().filter_map(|element| var(walk, key, element)).collect()),
        DeValue::Table(table) => Var::Table(of_table(walk, table)),
    })
}

const FACTS: &[&str] = &["os", "arch", "cpus", "fqdn", "hostname", "machine_id", "memory_mib"];

pub(super) fn facts(walk: &mut Walk<'_>, value: &Value<'_>) -> Assumed {
    let mut facts = Assumed::default();
    let Some(table) = walk.table("facts", value) else { return facts };
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "os" => facts.os = os(walk, value),
            "arch" => facts.arch = walk.text("arch", value),
            "hostname" => facts.hostname = walk.text("hostname", value),
            "fqdn" => facts.fqdn = walk.text("fqdn", value),
            "machine_id" => facts.machine_id = machine_id(walk, value),
            "cpus" => {
                let cpus = walk.count("cpus", value, u64::from(u32::MAX));
                facts.cpus = cpus.map(|cpus| cpus.map(|cpus| u32::try_from(cpus).expect("bounded when read")));
            }
            "memory_mib" => facts.memory_mib = walk.count("memory_mib", value, u64::MAX),
            other => walk.unknown(other, key.span(), FACTS),
        }
    }
    facts
}

fn os(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<At<(String, String)>> {
    const HINT: &str = "it is ID and VERSION_ID of os-release(5), such as \"debian:12\"";
    if value.get_ref().is_table() {
        walk.error_hint(value.span(), "`os` must be a string, not a table", HINT);
        return None;
    }
    let os = walk.text("os", value)?;
    let (id, version) = os.value.split_once(':').unwrap_or((&os.value, ""));
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if id.is_empty() || !plain(id) || !plain(version) || (version.is_empty() && os.value.contains(':')) {
        walk.error_hint(os.span, format!("`os` cannot be \"{}\"", one_line(&os.value, 100)), HINT);
        return None;
    }
    Some(At::new((id.to_owned(), version.to_owned()), os.span))
}

/// A machine id, machine-id(5).
pub(super) fn machine_id(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<At<String>> {
    let id = walk.text("machine_id", value)?;
    let hex = id.value.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if id.value.len() != 32 || !hex {
        walk.error_hint(
            id.span,
            format!("`machine_id` cannot be \"{}\"", one_line(&id.value, 100)),
            "it is 32 lower-case hexadecimal digits, as /etc/machine-id has them",
        );
        return None;
    }
    Some(id)
}
