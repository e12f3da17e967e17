//! `[checks]`.

use std::ops::Range;
use std::time::Duration;

use super::types::{At, CheckEntry, Probe};
use super::walk::{Value, Walk};
use crate::model::one_line;

const CHECK: &[&str] = &["http", "tcp", "command", "user", "timeout", "when"];
/// The most that one try may take: what is waited for altogether is no more.
const LONGEST: Duration = Duration::from_secs(5 * 60);

pub(super) fn checks(walk: &mut Walk<'_>, value: &Value<'_>) -> Vec<CheckEntry> {
    let Some(table) = walk.table("checks", value) else { return Vec::new() };
    let mut checks = Vec::new();
    for (name, value) in table {
        checks.extend(check(walk, name.get_ref(), name.span(), value));
    }
    checks
}

fn check(walk: &mut Walk<'_>, name: &str, span: Range<usize>, value: &Value<'_>) -> Option<CheckEntry> {
    let table = walk.table(name, value)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 100 || !name.bytes().all(fits) {
        let message = format!("a check cannot be called `{}`", one_line(name, 100));
        walk.error_hint(span.clone(), message, "it is letters, digits and . _ -, 100 at most");
    }
    let mut entry =
        CheckEntry { name: At::new(name.to_owned(), span.clone()), probe: None, user: None, timeout: None, when: None };
    let mut probes = 0;
    for (key, value) in table {
        let probe = match key.get_ref().as_ref() {
            "http" => http(walk, value),
            "tcp" => tcp(walk, value),
            "command" => walk.command("command", value).map(|line| At::new(Probe::Command(line.value), value.span())),
            "user" => {
                entry.user = walk.text("user", value);
                continue;
            }
            "timeout" => {
                entry.timeout = duration(walk, value);
                continue;
            }
            "when" => {
                entry.when = walk.text("when", value);
                continue;
            }
            other => {
                walk.unknown(other, key.span(), CHECK);
                continue;
            }
        };
        probes += 1;
        entry.probe = probe;
    }
    if probes != 1 {
        walk.error(span, format!("the check `{}` must have one of `http`, `tcp` and `command`", one_line(name, 100)));
        return None;
    }
    if let (Some(user), Some(Probe::Http(_) | Probe::Tcp(_))) = (&entry.user, entry.probe.as_ref().map(|at| &at.value))
    {
        walk.error(user.span.clone(), "`user` is for a `command`; nobody's program asks over http or tcp");
    }
    entry.probe.is_some().then_some(entry)
}

fn http(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<At<Probe>> {
    const SCHEMES: [&str; 2] = ["http://", "https://"];
    let url = walk.text("http", value)?;
    let Some(rest) = SCHEMES.iter().find_map(|scheme| url.value.strip_prefix(scheme)) else {
        walk.error(url.span, "`http` must be a URL that starts with http:// or https://");
        return None;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = url.value.bytes().all(|byte| byte.is_ascii_graphic());
    if authority.contains('@') {
        walk.error_hint(url.span, "`http` must not have a login in it", "whoever may read the status could read it");
        return None;
    }
    if url.value.len() > 2000 || !plain || !has_host_and_port(authority) {
        walk.error(url.span, "`http` must be a URL such as \"http://127.0.0.1:8080/healthz\"");
        return None;
    }
    Some(url.map(Probe::Http))
}

/// A host, and a port where one is said.
fn has_host_and_port(authority: &str) -> bool {
    let after_brackets = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    match after_brackets.rsplit_once(':') {
        Some((host, port)) => {
            (authority.starts_with('[') || !host.is_empty()) && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => !authority.is_empty(),
    }
}

fn tcp(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<At<Probe>> {
    let address = walk.text("tcp", value)?;
    let plain = address.value.bytes().all(|byte| byte.is_ascii_graphic()) && address.value.len() <= 300;
    let fits = address
        .value
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    if !plain || !fits {
        walk.error(address.span, "`tcp` must be an address and a port, such as \"127.0.0.1:22\"");
        return None;
    }
    Some(address.map(Probe::Tcp))
}

fn duration(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<At<Duration>> {
    let text = walk.text("timeout", value)?;
    let digits = text.value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.value.split_at(digits);
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => 0,
    };
    let long = number.parse::<u32>().ok().map(|number| Duration::from_millis(u64::from(number) * unit));
    match long.filter(|_| unit > 0) {
        None => walk.error(text.span, "`timeout` must be a duration such as \"30s\" or \"2m\""),
        Some(long) if long.is_zero() || long > LONGEST => {
            walk.error(text.span, "`timeout` must be more than nothing, and at most 5 minutes");
        }
        Some(long) => return Some(At::new(long, text.span)),
    }
    None
}
