//! What is a secret by how it is written, whoever wrote it and wherever it stands.

use super::value::is_harmless;

/// What is a secret by how it is written, whoever wrote it and wherever it stands.
pub(super) fn by_form(line: &str) -> Option<&'static str> {
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
    if WEBHOOKS.iter().any(|begin| line.match_indices(begin).any(|(at, _)| has_path(&line[at + begin.len()..]))) {
        return Some("a URL that is a password itself");
    }
    (hashed(line)).then_some("the hash of a password").or_else(|| in_url(line).then_some("a password in a URL"))
}

/// `-----BEGIN … KEY…-----`, unless it is a public one.
pub(super) fn begins_key(line: &str) -> bool {
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
    ("ghu_", 30, "a token of GitHub"),
    ("ghr_", 30, "a token of GitHub"),
    ("github_pat_", 30, "a token of GitHub"),
    ("glpat-", 16, "a token of GitLab"),
    ("xoxb-", 16, "a token of Slack"),
    ("xoxp-", 16, "a token of Slack"),
    ("xoxa-", 16, "a token of Slack"),
    ("xoxe-", 16, "a token of Slack"),
    ("xoxr-", 16, "a token of Slack"),
    ("xoxs-", 16, "a token of Slack"),
    ("xapp-", 16, "a token of Slack"),
    ("sk_live_", 16, "a key of Stripe"),
    ("rk_live_", 16, "a key of Stripe"),
    ("sk-ant-", 16, "a key of Anthropic"),
    ("sk-proj-", 16, "a key of OpenAI"),
    ("sk-svcacct-", 16, "a key of OpenAI"),
    ("sk-admin-", 16, "a key of OpenAI"),
    ("hf_", 30, "a token of Hugging Face"),
    ("pypi-", 30, "a token of PyPI"),
    ("AIza", 30, "a key of Google"),
    ("hvs.", 20, "a token of Vault"),
    ("npm_", 30, "a token of npm"),
    ("dckr_pat_", 20, "a token of Docker"),
];

/// Whoever knows such a URL may post to it; how they begin, without what stands for whom.
const WEBHOOKS: &[&str] = &[
    "hooks.slack.com/services/",
    "hooks.slack.com/triggers/",
    "hooks.slack.com/workflows/",
    "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/",
    "webhook.office.com/webhookb2/",
    "api.telegram.org/bot",
];

/// Whether `text` goes on with what nobody guesses.
fn has_path(text: &str) -> bool {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || "/_-:@".contains(*c)).count() >= 20
}

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
