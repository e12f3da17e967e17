//! What is assigned to a key of a secret, or given to a command.

use super::value::{is_harmless, is_harmless_of};
use super::words::{first_word, has_part, is_key, last_word, unquoted, words};

/// `key = value`, `key: value`, `key value` where the key is one of a secret and the value could be it. Among other bytes
/// than text only a key of a long word is one: short ones stand there by chance.
pub(super) fn assigned(line: &str, is_text: bool) -> Option<&'static str> {
    let line = line.trim();
    let (comment, line) = match line.strip_prefix(['#', ';']).or_else(|| line.strip_prefix("//")) {
        Some(rest) => (true, rest.trim_start_matches(['#', ';', '/']).trim()),
        None => (false, line),
    };
    let by_chance = |key: &str| !is_text && !words(key).iter().any(|word| has_part(word));
    let is_key = |key: &str| is_key(key) && !by_chance(key);
    const WHAT: &str = "a value for a password, key or token";
    // All of `a=1 password=2`, `{"user": "x", "password": "y"}`, `define('DB_PASSWORD', 'x')`.
    for (at, sign) in line.char_indices().filter(|(_, c)| matches!(c, '=' | ':' | ',')) {
        let key = last_word(&line[..at]);
        let value = || first_word(line[at + sign.len_utf8()..].trim_start_matches(['=', '>', ':', '~', '+']));
        // In a sentence a colon or a comma is no assignment.
        let sentence = sign == ',' && !line.contains("define") || comment && sign != '=';
        if !sentence && (is_key(key) && !is_harmless_of(key, value()) || is_login(key, sign) && is_base64(value())) {
            return Some(WHAT);
        }
    }
    if in_element(line, is_key) {
        return Some(WHAT);
    }
    if comment {
        return None;
    }
    if in_command(line, is_key) {
        return Some(WHAT);
    }
    if in_block(line, is_key) || in_statement(line) {
        return Some(WHAT);
    }
    let words: Vec<&str> = line.trim_end_matches(';').split_whitespace().collect();
    // A directive alone on its line, or pairs of netrc(5): `login x password y`.
    let pairs = words.first().is_some_and(|word| ["machine", "default", "login", "set", "export"].contains(word));
    let directive = words.len() == 2 || words.len() > 2 && words[1].starts_with(['"', '\'']);
    let mut rest = line.trim_end_matches(';');
    while let Some((key, after)) = rest.split_once(char::is_whitespace) {
        rest = after.trim_start();
        let key = unquoted(key);
        if (pairs || directive) && !key.contains(['=', '[', '/', ')']) && is_key(key) {
            let value = match first_word(rest) {
                "" => unquoted(rest.split_whitespace().next().unwrap_or_default()).trim_start_matches('}'),
                value => value,
            };
            if !is_harmless_of(key, value) {
                return Some(WHAT);
            }
        }
        if !pairs {
            break;
        }
    }
    None
}

/// `key "k" { algorithm hmac-sha256; secret "x"; };`: a directive that does not stand alone on its line.
fn in_block(line: &str, is_key: impl Fn(&str) -> bool) -> bool {
    // A sentence does not end so.
    if !line.ends_with([';', '}']) {
        return false;
    }
    let mut end = 0;
    line.split_inclusive([';', '{', '}']).any(|directive| {
        end += directive.len();
        let Some((key, rest)) = directive.trim_start().split_once(char::is_whitespace) else { return false };
        let given = rest.trim().trim_end_matches(';');
        let alone =
            given.starts_with(['"', '\'']) || !given.contains(char::is_whitespace) && !given.starts_with(['=', ':']);
        // What stands for a value may hold what ends a directive.
        let value = first_word(&line[end - rest.len()..]);
        alone && !key.contains(['=', '[', '/', ')']) && is_key(unquoted(key)) && !is_harmless_of(key, value)
    })
}

/// `IDENTIFIED BY 'x'` and `ALTER USER a WITH PASSWORD 'x'` of SQL, `stats auth user:x` and `user a insecure-password x` of
/// HAProxy.
fn in_statement(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is = |at: usize, word: &str| words.get(at).is_some_and(|found| found.eq_ignore_ascii_case(word));
    let about_users = ["create", "alter", "grant", "set"].iter().any(|verb| is(0, verb))
        || (0..words.len()).any(|at| is(at, "identified"));
    (1..words.len()).any(|at| {
        let quoted = words[at].starts_with(['\'', '"']);
        let sql = quoted && about_users && ["by", "password", "as"].iter().any(|word| is(at - 1, word));
        sql && !is_harmless(unquoted(words[at]))
            || is(0, "stats") && is(at - 1, "auth") && has_password(words[at])
            || is(at - 1, "insecure-password") && !is_harmless(words[at])
    })
}

/// `"auth": "…"` of Docker, `_auth=…` of npm: a name and a password in base64.
fn is_login(key: &str, sign: char) -> bool {
    key == "auth" && sign == ':' || key.ends_with("_auth") && words(key).last().is_some_and(|word| word == "auth")
}

fn is_base64(value: &str) -> bool {
    value.len() >= 16 && value.chars().all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c)) && !is_harmless(value)
}

/// `<password>x</password>`.
fn in_element(line: &str, is_key: impl Fn(&str) -> bool) -> bool {
    line.match_indices('<').any(|(at, _)| {
        let rest = &line[at + 1..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_-.:".contains(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        if !is_key(name) {
            return false;
        }
        let Some((_, inside)) = rest.split_once('>') else { return false };
        let Some((inside, _)) = inside.split_once(&format!("</{name}")) else { return false };
        let value = inside.trim().trim_start_matches("<![CDATA[").trim_end_matches("]]>");
        // An element in it is looked at by itself.
        let outer = value.starts_with('<') && value.contains("</");
        !outer && !is_harmless(value.trim())
    })
}

/// What the words of a command give away: `--password x`, `curl -u user:x`, `mysql -px`.
fn in_command(line: &str, is_key: impl Fn(&str) -> bool) -> bool {
    line.match_indices('-').any(|(at, _)| {
        let before = &line[..at];
        if !before.is_empty() && !before.ends_with(|c: char| c.is_whitespace() || "\"'[,".contains(c)) {
            return false;
        }
        let rest = &line[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c)).unwrap_or(rest.len());
        let (option, after) = rest.split_at(end);
        let given = after.trim_start_matches(['"', '\'', ',']);
        let apart = given.starts_with(char::is_whitespace) || ["\",", "',"].iter().any(|sign| after.starts_with(sign));
        let next = || if apart { first_word(given) } else { "" };
        if (option.starts_with("--") || option.len() > 4) && is_key(option) {
            let value = next();
            return !value.starts_with('-') && value.contains(char::is_alphanumeric) && !is_harmless_of(option, value);
        }
        let runs = |program: &str| {
            before
                .split(|c: char| c.is_whitespace() || "/=\"'`(|;&@".contains(c))
                .any(|word| word.trim_start_matches(['-', '+', '!']).starts_with(program))
        };
        let joined =
            |name: &str| rest.strip_prefix(name).filter(|joined| joined.starts_with(|c: char| !c.is_whitespace()));
        if let Some(login) = joined("-u") {
            return runs("curl") && has_password(first_word(login));
        }
        let several = !option.starts_with("--") && option.ends_with(['u', 'U']);
        if several || ["--user", "--proxy-user"].contains(&option) {
            let login = after.strip_prefix('=').map_or_else(next, first_word);
            return runs("curl") && has_password(login);
        }
        joined("-p")
            .is_some_and(|password| (runs("mysql") || runs("mariadb")) && !is_harmless(unquoted(first_word(password))))
    })
}

/// `user:password`.
fn has_password(login: &str) -> bool {
    login.split_once(':').is_some_and(|(_, password)| !is_harmless(password))
}
