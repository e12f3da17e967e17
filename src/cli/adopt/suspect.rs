//! What content looks as if it must not be committed in the clear. Pure. It errs to the side of caution: what is
//! suspected wrongly can be named with `--in-clear`, and what was pushed is known for good.

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

/// Files that hold nothing else, whatever they look like; `closed` to others, also those whose name or place only hints
/// at it.
fn by_name(path: &str, closed: bool, text: &str) -> Option<&'static str> {
    const NAMES: &[&str] = &[
        ".netrc",
        "_netrc",
        ".pgpass",
        ".my.cnf",
        ".htpasswd",
        ".git-credentials",
        ".dockercfg",
        ".vault-token",
        ".erlang.cookie",
        "krb5.keytab",
        "sasl_passwd",
        "chap-secrets",
        "pap-secrets",
        "ipsec.secrets",
        "random-seed",
    ];
    const ENDS: &[&str] =
        &[".keytab", ".kdbx", ".p8", ".p12", ".pfx", ".pkcs12", ".jks", ".keystore", ".ppk", ".htpasswd", ".tdb"];
    // What may be public too, and says so then.
    const KEYS: &[&str] = &[".key", "_key", "privatekey", ".keyring"];
    const PACKAGES: &[&str] = &["/usr/share/keyrings/", "/etc/apt/keyrings/", "/etc/apt/trusted.gpg.d/"];
    const HINTS: &[&str] = &["passwd", "pgpass", "netrc", "secret", "credential", "cookie"];
    const ROOMS: &[&str] =
        &["/private/", "/credstore/", "/cryptsetup-keys.d/", "/.gnupg/private-keys-v1.d/", "/.docker/"];
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let name = without_endings(&name);
    let ssh = name.starts_with("ssh_host_") && name.ends_with("_key")
        || ["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"].contains(&name);
    let public = PACKAGES.iter().any(|at| path.starts_with(at))
        || !closed && (text.contains("PUBLIC KEY") || text.contains("DNSKEY"));
    if ssh || !public && KEYS.iter().any(|end| name.ends_with(end)) {
        return Some("a private key, by its name");
    }
    if NAMES.contains(&name) || ENDS.iter().any(|end| name.ends_with(end)) {
        return Some("credentials, by its name");
    }
    let hint = HINTS.iter().any(|hint| name.contains(hint)) || ROOMS.iter().any(|room| path.contains(room));
    (closed && hint).then_some("credentials, by its name and that not everybody may read it")
}

/// A name without what is put behind it where a file is made into a map, or kept.
fn without_endings(name: &str) -> &str {
    const ENDS: &[&str] = &[".db", ".lmdb", ".bak", ".old", ".orig", "~"];
    let mut name = name;
    loop {
        let end = ENDS.iter().find_map(|end| name.strip_suffix(end));
        let kept = || name.rsplit_once('.').filter(|(_, end)| end.starts_with("dpkg-") || end.starts_with("rpm"));
        let Some(shorter) = end.or_else(|| kept().map(|(shorter, _)| shorter)) else { return name };
        name = shorter;
    }
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

/// What is a secret by how it is written, whoever wrote it and wherever it stands.
fn by_form(line: &str) -> Option<&'static str> {
    const KEYS: &[&str] = &[
        "PuTTY-User-Key-File",
        "AGE-SECRET-KEY-",
        "(private-key",
        "(protected-private-key",
        ":private-key(",
        ":protected-private-key(",
    ];
    if begins_key(line) || KEYS.iter().any(|key| line.contains(key)) {
        return Some("a private key");
    }
    for (begin, least, what) in TOKENS {
        if line.match_indices(begin).any(|(at, _)| is_token(line, at, begin, *least)) {
            return Some(what);
        }
    }
    if line.match_indices("eyJ").any(|(at, _)| is_web_token(&line[at..])) {
        return Some("a token");
    }
    (hashed(line)).then_some("the hash of a password").or_else(|| in_url(line).then_some("a password in a URL"))
}

/// `-----BEGIN … KEY…-----`, unless it is a public one.
fn begins_key(line: &str) -> bool {
    if !line.contains("----") {
        return false;
    }
    let line = line.to_ascii_lowercase();
    ["----begin ", "---- begin "].iter().any(|begin| {
        line.match_indices(begin).any(|(at, _)| {
            let label = line[at + begin.len()..].split("--").next().unwrap_or_default();
            label.contains("key") && !label.contains("public")
        })
    })
}

/// How keys and tokens of well-known services begin, and how many characters follow at least.
const TOKENS: &[(&str, usize, &str)] = &[
    ("AKIA", 16, "a key of AWS"),
    ("ASIA", 16, "a key of AWS"),
    ("ghp_", 30, "a token of GitHub"),
    ("gho_", 30, "a token of GitHub"),
    ("ghs_", 30, "a token of GitHub"),
    ("github_pat_", 30, "a token of GitHub"),
    ("glpat-", 16, "a token of GitLab"),
    ("xoxb-", 16, "a token of Slack"),
    ("xoxp-", 16, "a token of Slack"),
    ("sk_live_", 16, "a key of Stripe"),
    ("AIza", 30, "a key of Google"),
    ("hvs.", 20, "a token of Vault"),
    ("npm_", 30, "a token of npm"),
    ("dckr_pat_", 20, "a token of Docker"),
];

fn is_token(line: &str, at: usize, begin: &str, least: usize) -> bool {
    let before = line[..at].chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric());
    let after = line[at + begin.len()..].chars().take_while(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).count();
    !before && after >= least
}

/// A JSON web token: three parts, two of which begin as `{"` does in base64.
fn is_web_token(text: &str) -> bool {
    let whole: String =
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || "_-.=".contains(*c)).take(4096).collect();
    let mut parts = whole.split('.');
    matches!((parts.next(), parts.next(), parts.next()), (Some(a), Some(b), Some(_)) if a.len() > 10 && b.len() > 10)
}

/// crypt(5), and what LDAP servers have.
fn hashed(line: &str) -> bool {
    const BEGINS: &[&str] = &[
        "$1$", "$2a$", "$2b$", "$2y$", "$5$", "$6$", "$7$", "$y$", "$gy$", "$apr1$", "$argon2", "{SSHA", "{SHA}",
        "{CRYPT}",
    ];
    BEGINS.iter().any(|begin| {
        line.match_indices(begin).any(|(at, _)| {
            let rest = &line[at + begin.len()..];
            let hash = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "./$=,+}-_".contains(*c)).count();
            hash >= 12
        })
    })
}

/// `scheme://user:password@host`.
fn in_url(line: &str) -> bool {
    line.match_indices("://").any(|(at, _)| {
        let rest = &line[at + 3..];
        let end = rest.find(|c: char| c.is_whitespace() || "/\"'<>".contains(c)).unwrap_or(rest.len());
        let Some((user, _)) = rest[..end].rsplit_once('@') else { return false };
        user.split_once(':').is_some_and(|(_, password)| !is_harmless(password))
    })
}

/// `key = value`, `key: value`, `key value` where the key is one of a secret and the value could be it. Among other bytes
/// than text only a key of a long word is one: short ones stand there by chance.
fn assigned(line: &str, is_text: bool) -> Option<&'static str> {
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

fn unquoted(word: &str) -> &str {
    word.trim_matches(['"', '\'', '`', ',', ';'])
}

/// The word that ends `text`, quotes taken off.
fn last_word(text: &str) -> &str {
    let text = text.trim_end().trim_end_matches(['"', '\'', '`', '?', ':', '+']);
    let at = text.rfind(|c: char| c.is_whitespace() || "\"'`{(,;&?<[".contains(c)).map_or(0, |at| at + 1);
    text.get(at..).unwrap_or(text)
}

/// The word that begins `text`; of a quoted one all that is in the quotes. What is in `$(…)`, `${…}`, `%(…)`, `{{ … }}` or
/// `<…>` is no end of it.
fn first_word(text: &str) -> &str {
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
fn words(key: &str) -> Vec<String> {
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
const PARTS: &[&str] =
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

fn has_part(word: &str) -> bool {
    PARTS.iter().any(|part| word.contains(part))
}

fn is_key(key: &str) -> bool {
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

fn is_harmless_of(key: &str, value: &str) -> bool {
    let value = unquoted(value.trim());
    // nsswitch.conf(5), pam.d(5) and apt_preferences(5).
    const LOOKED_UP: &[&str] = &["files", "compat", "systemd", "sss", "ldap", "nis", "winbind", "db", "extrausers"];
    const STACK: &[&str] = &["required", "requisite", "sufficient", "optional", "include", "substack"];
    const PINNED: &[&str] = &["release", "origin", "version"];
    let key = key.trim_start_matches('-');
    is_harmless(value)
        || (key == "Pin" && PINNED.contains(&value))
        || (key == "passwd" && LOOKED_UP.contains(&value))
        || (key == "password" && (STACK.contains(&value) || value.starts_with('[')))
}

/// Whether `value` says that there is something, or where it is, rather than what.
fn is_harmless(value: &str) -> bool {
    const SAID: &[&str] = &[
        "", "yes", "no", "true", "false", "on", "off", "none", "null", "nil", "default", "never", "always", "optional",
        "required", "all", "any", "ask", "prompt", "disabled", "enabled", "-", "*", "!", "x",
    ];
    const PLACES: &[&str] = &[
        "/etc/", "/run/", "/var/", "/usr/", "/home/", "/root/", "/srv/", "/opt/", "/tmp/", "/dev/", "/proc/", "/lib/",
        "/mnt/", "file:/", "%d/",
    ];
    let value = value.trim_matches(['"', '\'', '\\']);
    let place = value.trim_start_matches(['<', '@']).trim_start();
    let file = place.split('#').next().unwrap_or(place);
    SAID.contains(&value.to_lowercase().as_str())
        || PLACES.iter().any(|at| place.starts_with(at))
        || [".pem", ".key"].iter().any(|end| file.ends_with(end))
        || is_filled_in(value)
        || value.chars().all(|c| c == '*')
}

/// Whether the whole of `value` stands for what is put there later.
fn is_filled_in(value: &str) -> bool {
    const AROUND: &[(&str, &str)] = &[("${", "}"), ("$(", ")"), ("%(", ")s"), ("{{", "}}"), ("<", ">")];
    let name = |text: &str| {
        !text.is_empty()
            && !text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let place = value.strip_prefix('$').is_some_and(|rest| name(rest) || rest.parse::<u8>().is_ok());
    let template = value.strip_prefix('@').and_then(|rest| rest.strip_suffix('@')).is_some_and(name);
    place || template || AROUND.iter().any(|(begin, end)| value.starts_with(begin) && value.ends_with(end))
}

/// Whether a word for a secret stands in `line`, which is no comment.
fn says_a_word(line: &str) -> bool {
    let line = line.trim();
    if line.starts_with(['#', ';']) || line.starts_with("//") {
        return false;
    }
    words(line).iter().any(|word| {
        PARTS.iter().any(|part| word.contains(part)) || ["token", "psk", "pass", "pwd"].contains(&word.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<usize> {
        suspicions("/etc/app.conf", 0o644, text.as_bytes()).into_iter().filter_map(|found| found.line).collect()
    }

    #[test]
    fn what_is_a_secret_by_its_form_is_told_by_its_line() {
        for secret in [
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----",
            "-----BEGIN OpenVPN Static key V1-----",
            "-----begin private key-----",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----",
            "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----",
            "Key: (private-key (ecc (curve Ed25519)",
            "(21:protected-private-key(3:rsa",
            "url https://ana:$ecret!@git.example.org/x",
            "AGE-SECRET-KEY-1QQQQ",
            "PuTTY-User-Key-File-3: ssh-ed25519",
            "ana:$6$saltsalt$kjhKJHkjhKJHkjhkjhKJH:19000:0:99999:7:::",
            "ana:$y$j9T$abcdefgh$ABCDEFGHIJ",
            "x:$2y$10$abcdefghijklmnopqrstuv",
            "userPassword:: {SSHA}abcdefghijklmnop==",
            "id AKIAIOSFODNN7EXAMPLE",
            "url https://ana:hunter2@git.example.org/x",
            "mysql://app:hunter2@db/app",
            "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
            "x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
        ] {
            assert_eq!(told(&format!("a\n{secret}\nb\n")), [2], "{secret}");
        }
    }

    #[test]
    fn what_is_assigned_to_a_key_of_a_secret_is_told() {
        for secret in [
            "password = hunter2",
            "password=hunter2",
            "password: hunter2",
            "password hunter2",
            "  \"password\": \"hunter2\",",
            "{\"user\": \"x\", \"dbPassword\": \"y2\"}",
            "define('DB_PASSWORD', 'hunter2');",
            "Environment=DB_PASSWORD=hunter2",
            "Environment=\"API_TOKEN=abc123\"",
            "export AWS_SECRET_ACCESS_KEY=abc/def",
            "api_key = \"0123\"",
            "apiKey: 0123",
            "PrivateKey = YJkZr0v=",
            "PresharedKey = YJkZr0v=",
            "psk=\"a long one\"",
            "bindpw abc",
            "olcRootPW: abc",
            "smtp_pass = abc",
            "client_secret=abc",
            "secret_key_base: abc",
            "rocommunity = abc",
            "#password=hunter2",
            "# client_secret = abc",
            "machine h login ana password hunter2",
            "set my_password 'hunter2'",
            "requirepass = hunter2",
            "auth_token => 'abc'",
            "PASSWORD='two words'",
            "pin: 1234",
            "    client-key-data: LS0tLS1CRUdJTg==",
            "client-key: abc",
            "  \"auth\": \"YW5hOmh1bnRlcjI=\"",
            "//registry.npmjs.org/:_auth=YW5hOmh1bnRlcjI=",
            "wep_key0=abcde",
            "wep-key3=abcde",
            "ExecStart=/usr/bin/app --password hunter2",
            "ExecStart=/usr/bin/app --password=hunter2 --all",
            "ExecStart=/usr/bin/app --verbose --token abc",
            "app --secret 'a b' x",
            "app --api-key abc",
            "command: [\"app\", \"--password\", \"hunter2\"]",
            "command: [\"app\",\"--password\",\"hunter2\"]",
            "keytool -storepass hunter2",
            "ExecStart=/usr/bin/curl -u ana:hunter2 https://example.org",
            "curl -sS --user 'ana:hunter2' https://example.org",
            "curl -uana:hunter2 https://example.org",
            "curl -ulou:hunter2 https://example.org",
            "mysql -u root -phunter2 app",
            "ExecStart=/usr/bin/mysqldump -p'hunter2' app",
            "password = $ecret!",
            "password = $3cret",
            "password = @home",
            "password = <3cats",
            "password = %(x",
            "password = ${A}hunter2",
            "password \"$ecret!\"",
            "<password>hunter2</password>",
            "<db><user>x</user><dbPassword type=\"a\">hunter2</dbPassword></db>",
            "<secret><![CDATA[hunter2]]></secret>",
        ] {
            assert_eq!(told(secret), [1], "{secret}");
        }
    }

    #[test]
    fn settings_about_secrets_are_none() {
        let text = "PasswordAuthentication no\n#PermitEmptyPasswords no\nPermitRootLogin prohibit-password\n\
                    AuthenticationMethods publickey,password\nAuthorizedKeysFile .ssh/authorized_keys\n\
                    password requisite pam_pwquality.so retry=3\npassword [success=1 default=ignore] pam_unix.so\n\
                    passwd: files systemd\nPASS_MAX_DAYS 99999\nPASS_MIN_LEN 5\nDefaults passwd_timeout=1\n\
                    ana ALL=(ALL) NOPASSWD: ALL\nproxy_pass http://127.0.0.1:8080;\nfastcgi_pass unix:/run/php.sock;\n\
                    ssl_password_file /etc/keys/pass;\nssl_certificate_key /etc/ssl/private/x.key;\n\
                    password_file = /etc/app/password\npassword = ${PASSWORD}\npassword = {{ vars.password }}\n\
                    password=\ntoken = <your token>\nuser = ana\n# The password is kept elsewhere.\n\
                    # Note on token: see the manual\nkey = value\nssh-ed25519 AAAAC3NzaC1lZDI1 ana@example.org\n\
                    -----BEGIN CERTIFICATE-----\nhttp://example.org:8080/@x\nEnvironmentFile=/etc/app/secret\n\
                    session_token_ttl = 30\nThis host has no secret.\nWelcome, this is a motd: no password needed.\n";
        let lines: Vec<&str> = text.lines().collect();
        let told: Vec<&str> = told(text).into_iter().map(|line| lines[line - 1]).collect();
        assert_eq!(told, Vec::<&str>::new());
    }

    #[test]
    fn what_only_stands_for_a_secret_is_none() {
        for innocent in [
            "password = $PASSWORD",
            "password=$1",
            "password=\"$(cat \"/x/y z\")\"",
            "password=$(pass show x)",
            "password = ${A:-}",
            "password = @PASSWORD@",
            "password = %(db_password)s",
            "password \"{{ vars.password }}\"",
            "machine h login ana password {{ vars.password }}",
            "https://ana:$PASSWORD@git.example.org/x",
            "https://ana:${PASSWORD}@git.example.org/x",
            "ExecStart=/usr/bin/app --password ${PASSWORD} --token \"$TOKEN\"",
            "ExecStart=/usr/bin/app --password-file /etc/app/x --token-ttl 30",
            "ExecStart=/usr/bin/app --ask-password --verbose",
            "app --password \\",
            "--password) shift ;;",
            "# app --password X",
            "curl -u \"$A:$B\" https://example.org",
            "curl -u ana https://example.org",
            "systemctl --user start a:b",
            "sudo -u ana:b x",
            "mysql -u root -p app",
            "mysql -p\"$PASSWORD\" app",
            "mkdir -pv /x",
            "<password></password>",
            "<password>${PASSWORD}</password>",
            "<password-file>x</password-file>",
            "<user>ana</user>",
            "auth_basic \"closed\";",
            "auth: none",
            "  \"auth\": \"oauth\"",
            "client-key: client.key",
            "wep_tx_keyidx=0",
            "auth required pam_unix.so",
            "password optional pam_gnome_keyring.so",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN PGP PUBLIC KEY BLOCK-----",
            "-----BEGIN CERTIFICATE-----",
            "(public-key (ecc",
            "PasswordAuthentication yes",
            "ENCRYPT_METHOD YESCRYPT",
            "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so",
            "Pin: origin deb.example.org",
            "kpasswd 464/tcp",
            "LoadCredential=x",
            "ImportCredential=passwd.*",
            "Description=Authorization Manager",
            "[credential \"https://example.org\"]",
            "private_key = $dir/private/cakey.pem# The private key",
            "application/vnd.x.token tst",
        ] {
            assert_eq!(told(innocent), Vec::<usize>::new(), "{innocent}");
        }
    }

    #[test]
    fn a_word_is_enough_in_a_file_that_not_everybody_may_read() {
        let text = "# the password\nthe secret of the house\n";
        assert_eq!(told(text), Vec::<usize>::new());
        let closed = suspicions("/etc/x", 0o640, text.as_bytes());
        assert_eq!(closed, [Suspicion { line: Some(2), what: CLOSED }]);
        assert_eq!(suspicions("/etc/x", 0o600, b"nothing of the kind\n"), []);
    }

    #[test]
    fn files_that_are_credentials_by_name_are_told_whole() {
        for path in
            ["/root/.netrc", "/etc/ssh/ssh_host_ed25519_key", "/root/.ssh/id_rsa", "/etc/krb5.keytab", "/srv/x.p12"]
        {
            let found = suspicions(path, 0o644, b"\0\xff binary");
            assert_eq!(found.len(), 1, "{path}");
            assert_eq!(found[0].line, None);
        }
        assert_eq!(suspicions("/etc/ssh/ssh_host_ed25519_key.pub", 0o644, b"ssh-ed25519 AAAA x\n"), []);
    }

    #[test]
    fn names_and_places_count_whatever_is_put_behind_them() {
        let is = |path: &str, mode: u32| suspicions(path, mode, b"x\n").len();
        for path in [
            "/etc/postfix/sasl_passwd.db",
            "/etc/postfix/sasl_passwd.lmdb",
            "/root/.netrc.bak",
            "/root/.pgpass.dpkg-old",
            "/etc/ipsec.secrets.rpmsave",
            "/root/.my.cnf~",
            "/etc/ssl/server.key",
            "/etc/ssl/server.key.old.orig",
            "/etc/dropbear/dropbear_rsa_host_key",
            "/etc/wireguard/privatekey",
            "/etc/ceph/ceph.client.admin.keyring",
            "/var/lib/samba/private/secrets.tdb",
            "/etc/x.p8",
            "/etc/x.pkcs12",
            "/etc/x.jks",
        ] {
            assert_eq!(is(path, 0o644), 1, "{path}");
        }
        for path in [
            "/etc/pam.d/chpasswd",
            "/etc/pgpass.conf",
            "/etc/app/secret",
            "/etc/app/credentials",
            "/etc/app/cookie",
            "/etc/ssl/private/x",
            "/etc/credstore/x",
            "/etc/cryptsetup-keys.d/x",
            "/root/.gnupg/private-keys-v1.d/x",
            "/root/.docker/config.json",
        ] {
            assert_eq!((is(path, 0o644), is(path, 0o640)), (0, 1), "{path}");
        }
        for path in [
            "/etc/dropbear/dropbear_rsa_host_key.pub",
            "/usr/share/keyrings/x.keyring",
            "/etc/apt/keyrings/x.key",
            "/etc/apt/trusted.gpg.d/x.keyring",
            "/etc/keyboard",
            "/etc/hosts.bak",
        ] {
            assert_eq!((is(path, 0o644), is(path, 0o600)), (0, 0), "{path}");
        }
        let public = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n";
        assert_eq!(suspicions("/etc/x.key", 0o644, public), []);
        assert_eq!(suspicions("/etc/security/opasswd", 0o600, b""), []);
    }

    #[test]
    fn bytes_and_long_words_count_in_a_file_that_not_everybody_may_read() {
        let bytes = b"\xff\0\x01";
        assert_eq!(suspicions("/etc/munge/x", 0o600, bytes), [Suspicion { line: None, what: NO_TEXT }]);
        assert_eq!(suspicions("/etc/munge/x", 0o644, bytes), []);
        for word in [
            "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=",
            "ABCDEFGHIJKLMNOPQRST",
            "correct-horse-battery-staple",
            "0123456789abcdef",
            "[\"HvY8ubRZMgafUOWvrOadwOckVa1wN3QWAo46FVKbVN8=\"]",
        ] {
            let text = format!("# a\n{word}\n");
            let found = suspicions("/etc/x", 0o640, text.as_bytes());
            assert_eq!(found, [Suspicion { line: Some(2), what: ALONE }], "{word}");
            assert_eq!(suspicions("/etc/x", 0o644, text.as_bytes()), [], "{word}");
        }
        let innocent = "short\n#0123456789abcdef0123\n################\n================\n[a-section-of-settings]\n\
                        /etc/app/a/long/path\nworker_processes=4096\na_label_of_yaml_here:\n<an-element-of-it/>\n\
                        a_function_of_it()\nhttps://example.org/x\n${A_VARIABLE_OF_IT}\nDefaults env_reset_something\n\
                        -----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUabc\n-----END CERTIFICATE-----\n";
        assert_eq!(suspicions("/etc/x", 0o640, innocent.as_bytes()), []);
        let key = b"-----BEGIN PRIVATE KEY-----\nMIIBszCCAVmgAwIBAgIUabc\n-----END PRIVATE KEY-----\n";
        assert_eq!(suspicions("/etc/x", 0o600, key), [Suspicion { line: Some(1), what: "a private key" }]);
    }

    #[test]
    fn what_stands_by_chance_among_other_bytes_is_no_secret() {
        let lines = |content: &[u8]| -> Vec<usize> {
            suspicions("/srv/blob", 0o600, content).into_iter().filter_map(|found| found.line).collect()
        };
        assert_eq!(
            lines(b"\xff\0 pw:abc\n\xfe token=x\xff\n\xffpassword=hunter2\n-----BEGIN PRIVATE KEY-----\n"),
            [3, 4]
        );
    }

    #[test]
    fn a_very_long_line_is_not_taken_apart() {
        let long = format!("{}\"password\": \"x1\"", "a=b,".repeat(1 << 20));
        assert_eq!(told(&long), [1]);
        assert_eq!(told(&"a=b,".repeat(1 << 20)), Vec::<usize>::new());
        let long = "a=b,".repeat(LONGEST);
        for (rest, lines) in [
            ("{\"api_key\":\"x1\"}", 1),
            ("{\"accessToken\" : \"x1\"}", 1),
            ("aws_access_key=abcdefgh", 1),
            ("this.token=e", 0),
            ("{\"token\":\"\",\"x\":\"${TOKEN}\"}", 0),
            ("tokenizer:\"abc\"", 0),
        ] {
            assert_eq!(told(&format!("{long}{rest}")).len(), lines, "{rest}");
        }
        assert_eq!(told(&format!("{}{}", " ".repeat(1 << 20), "-----BEGIN PRIVATE KEY-----")), [1]);
    }

    #[test]
    fn what_is_told_is_bounded_and_an_encrypted_file_is_no_secret() {
        assert_eq!(told(&"password=a1\n".repeat(500)).len(), MOST);
        assert_eq!(suspicions("/x", 0o600, b"age-encryption.org/v1\n-> ssh-ed25519 x y\nz\n--- password\n").len(), 0);
    }
}
