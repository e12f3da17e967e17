//! Words, and which of them are of a secret.

pub(super) fn unquoted(word: &str) -> &str {
    word.trim_matches(['"', '\'', '`', ',', ';'])
}

/// The word that ends `text`, quotes taken off.
pub(super) fn last_word(text: &str) -> &str {
    let text = text.trim_end().trim_end_matches(['"', '\'', '`', '?', ':', '+']);
    let at = text.rfind(|c: char| c.is_whitespace() || "\"'`{(,;&?<[".contains(c)).map_or(0, |at| at + 1);
    text.get(at..).unwrap_or(text)
}

/// The word that begins `text`; of a quoted one all that is in the quotes. What is in `$(…)`, `${…}`, `%(…)`, `{{ … }}` or
/// `<…>` is no end of it.
pub(super) fn first_word(text: &str) -> &str {
    /// No value is longer.
    const LONG: usize = 1024;
    let text = text.trim_start();
    let quote = text.chars().next().filter(|c| "\"'`".contains(*c));
    let text = quote.map_or(text, |quote| &text[quote.len_utf8()..]);
    let start = match text.find('>') {
        Some(at) if quote.is_none() && at < LONG && text.starts_with('<') => at + 1,
        _ => 0,
    };
    let (mut before, mut depth) = (' ', 0_usize);
    for (count, (at, c)) in text[start..].char_indices().enumerate() {
        let ends = quote.map_or_else(|| c.is_whitespace() || ",;)}&".contains(c), |quote| c == quote);
        if count == LONG || depth == 0 && ends {
            return &text[..start + at];
        }
        let doubled = c == '{' && text[start + at..].starts_with("{{");
        match c {
            '(' | '{' if depth > 0 || "$%".contains(before) || doubled => depth += 1,
            ')' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        before = c;
    }
    text
}

/// The words of a key: `AWS_SECRET_ACCESS_KEY`, `bindPassword`, `api-key`, in lower case.
pub(super) fn words(key: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower = false;
    for c in key.chars() {
        if !c.is_ascii_alphanumeric() {
            words.push(String::new());
        } else {
            if c.is_ascii_uppercase() && lower {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.push(c.to_ascii_lowercase());
            }
        }
        lower = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Parts of words that only ever mean a secret.
pub(super) const PARTS: &[&str] =
    &["password", "passwd", "passphrase", "secret", "apikey", "authtok", "presharedkey", "privatekey"];
/// Words that mean one where the key ends in them.
const LAST: &[&str] = &[
    "pass",
    "pw",
    "pwd",
    "bindpw",
    "rootpw",
    "token",
    "psk",
    "credential",
    "credentials",
    "community",
    "pin",
    "bearer",
    "authorization",
];

/// Keys that are two words.
const TWO: &[(&str, &str)] = &[
    ("private", "key"),
    ("api", "key"),
    ("access", "key"),
    ("secret", "key"),
    ("auth", "key"),
    ("preshared", "key"),
    ("shared", "key"),
    ("encryption", "key"),
    ("signing", "key"),
    ("master", "key"),
    ("account", "key"),
    ("client", "key"),
    ("wep", "key0"),
    ("wep", "key1"),
    ("wep", "key2"),
    ("wep", "key3"),
];

/// What a setting about passwords ends in, which is none itself.
const ABOUT: &[&str] = &[
    "authentication",
    "file",
    "files",
    "path",
    "dir",
    "directory",
    "prompt",
    "prompts",
    "policy",
    "length",
    "len",
    "min",
    "max",
    "expiry",
    "expire",
    "expires",
    "age",
    "days",
    "timeout",
    "ttl",
    "quality",
    "remember",
    "retries",
    "tries",
    "required",
    "reqd",
    "enabled",
    "allowed",
    "logins",
    "change",
    "url",
    "uri",
    "endpoint",
    "command",
    "cmd",
    "type",
    "mode",
    "method",
    "encryption",
    "login",
    "algorithm",
    "scheme",
    "hash",
    "hashing",
    "auth",
    "id",
    "name",
    "names",
    "count",
    "backend",
    "manager",
    "store",
    "agent",
    "plugin",
];

/// Keys that only look like one.
const NOT: &[&str] = &[
    "nopasswd",
    "kpasswd",
    "import_credential",
    "load_credential",
    "load_credential_encrypted",
    "proxy_pass",
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "grpc_pass",
    "memcached_pass",
    "permitemptypasswords",
];

pub(super) fn has_part(word: &str) -> bool {
    PARTS.iter().any(|part| word.contains(part))
}

pub(super) fn is_key(key: &str) -> bool {
    let words = words(unquoted(key.trim()));
    let (Some(last), whole) = (words.last(), words.join("_")) else { return false };
    if NOT.contains(&whole.as_str()) || words.len() > 12 {
        return false;
    }
    if ABOUT.contains(&last.as_str()) && words.len() > 1 {
        return false;
    }
    let part = words.iter().any(|word| has_part(word));
    let two = words.windows(2).any(|pair| TWO.iter().any(|(a, b)| pair[0] == *a && pair[1] == *b));
    part || two
        || LAST.contains(&last.as_str())
        || last.len() > 5 && ["token", "pass", "community"].iter().any(|end| last.ends_with(end))
}

/// Whether a word for a secret stands in `line`, which is no comment.
pub(super) fn says_a_word(line: &str) -> bool {
    let line = line.trim();
    if line.starts_with(['#', ';']) || line.starts_with("//") {
        return false;
    }
    words(line).iter().any(|word| {
        PARTS.iter().any(|part| word.contains(part)) || ["token", "psk", "pass", "pwd"].contains(&word.as_str())
    })
}
