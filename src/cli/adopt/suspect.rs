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
    if crate::secret::Header::read(content).is_ok() {
        return found;
    }
    if let Some(what) = by_name(path) {
        found.push(Suspicion { line: None, what });
    }
    let is_text = std::str::from_utf8(content).is_ok_and(|text| !text.contains('\0'));
    let text = String::from_utf8_lossy(content);
    let closed = mode & 0o004 == 0 && is_text;
    for (at, line) in text.lines().enumerate() {
        if found.len() == MOST {
            break;
        }
        if let Some(what) = in_line(line, closed, is_text) {
            found.push(Suspicion { line: Some(at + 1), what });
        }
    }
    found
}

/// Files that hold nothing else, whatever they look like.
fn by_name(path: &str) -> Option<&'static str> {
    const NAMES: &[&str] = &[
        ".netrc",
        "_netrc",
        ".pgpass",
        ".my.cnf",
        ".htpasswd",
        ".git-credentials",
        ".dockercfg",
        ".vault-token",
        "krb5.keytab",
        "sasl_passwd",
        "chap-secrets",
        "pap-secrets",
        "ipsec.secrets",
        "random-seed",
    ];
    const ENDS: &[&str] = &[".keytab", ".kdbx", ".p12", ".pfx", ".jks", ".keystore", ".ppk", ".htpasswd"];
    let name = path.rsplit('/').next().unwrap_or(path);
    let key = name.starts_with("ssh_host_") && name.ends_with("_key")
        || ["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"].contains(&name);
    if key {
        return Some("a private key, by its name");
    }
    (NAMES.contains(&name) || ENDS.iter().any(|end| name.ends_with(end))).then_some("credentials, by its name")
}

fn in_line(line: &str, closed: bool, is_text: bool) -> Option<&'static str> {
    if line.len() > LONGEST {
        // It is not taken apart; that it says a word has to do.
        let lower = line.to_ascii_lowercase();
        let says =
            || PARTS.iter().any(|part| lower.contains(part)).then_some("a word for a secret, in a very long line");
        return by_form(line).or_else(says);
    }
    by_form(line).or_else(|| assigned(line, is_text)).or_else(|| (closed && says_a_word(line)).then_some(CLOSED))
}

const CLOSED: &str = "a word for a secret, in a file that not everybody may read";

/// What is a secret by how it is written, whoever wrote it and wherever it stands.
fn by_form(line: &str) -> Option<&'static str> {
    if line.contains("-----BEGIN ") && (line.contains("PRIVATE KEY") || line.contains("OPENSSH PRIVATE")) {
        return Some("a private key");
    }
    if line.contains("PuTTY-User-Key-File") || line.contains("AGE-SECRET-KEY-") {
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
    let said = |(key, value): (&str, &str)| is_key(key) && !by_chance(key) && !is_harmless_of(key, value);
    const WHAT: &str = "a value for a password, key or token";
    // All of `a=1 password=2`, `{"user": "x", "password": "y"}`, `define('DB_PASSWORD', 'x')`.
    for (at, sign) in line.char_indices().filter(|(_, c)| matches!(c, '=' | ':' | ',')) {
        let key = last_word(&line[..at]);
        let value = line[at + sign.len_utf8()..].trim_start_matches(['=', '>', ':', '~', '+']);
        let value = first_word(value);
        // In a sentence a colon or a comma is no assignment.
        let sentence = sign == ',' && !line.contains("define") || comment && sign != '=';
        if !sentence && said((key, value)) {
            return Some(WHAT);
        }
    }
    if comment {
        return None;
    }
    let words: Vec<&str> = line.trim_end_matches(';').split_whitespace().collect();
    // A directive alone on its line, or pairs of netrc(5): `login x password y`.
    let pairs = words.first().is_some_and(|word| ["machine", "default", "login", "set", "export"].contains(word));
    let directive = words.len() == 2 || words.len() > 2 && words[1].starts_with(['"', '\'']);
    let said = |pair: &[&str]| said((unquoted(pair[0]), unquoted(pair[1])));
    ((pairs && words.windows(2).any(said)) || (directive && said(&words[..2]))).then_some(WHAT)
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

/// The word that begins `text`; of a quoted one all that is in the quotes.
fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    for quote in ['"', '\'', '`'] {
        if let Some(rest) = text.strip_prefix(quote) {
            return rest.split(quote).next().unwrap_or(rest);
        }
    }
    text.split(|c: char| c.is_whitespace() || ",;)}&".contains(c)).next().unwrap_or(text)
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
    // nsswitch.conf(5), and pam.d(5).
    const LOOKED_UP: &[&str] = &["files", "compat", "systemd", "sss", "ldap", "nis", "winbind", "db", "extrausers"];
    const STACK: &[&str] = &["required", "requisite", "sufficient", "optional", "include", "substack"];
    let key = key.trim_start_matches('-');
    is_harmless(value)
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
        "/mnt/", "file:/",
    ];
    let value = value.trim_matches(['"', '\'']);
    SAID.contains(&value.to_lowercase().as_str())
        || PLACES.iter().any(|place| value.starts_with(place))
        || ["$", "%(", "{{", "<", "@"].iter().any(|begin| value.starts_with(begin))
        || value.chars().all(|c| c == '*')
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
        assert_eq!(told(&format!("{}{}", " ".repeat(1 << 20), "-----BEGIN PRIVATE KEY-----")), [1]);
    }

    #[test]
    fn what_is_told_is_bounded_and_an_encrypted_file_is_no_secret() {
        assert_eq!(told(&"password=a1\n".repeat(500)).len(), MOST);
        assert_eq!(suspicions("/x", 0o600, b"age-encryption.org/v1\n-> ssh-ed25519 x y\nz\n--- password\n").len(), 0);
    }
}
