//! The `allowed_signers` file, see ssh-keygen(1), ALLOWED SIGNERS. ssh-keygen passes over a line that it does not
//! understand; here the whole file is refused then, because what is half understood is worse than nothing.

mod options;
mod patterns;

use std::sync::Arc;

use self::options::Options;
use self::patterns::Patterns;
use super::ssh::{self, Key, NAMESPACE, Signer};
use super::{Refusal, Times};
use crate::model::{Zone, one_line};

/// The largest file, in bytes.
const LARGEST: usize = 1 << 20;
/// The most lines.
const MOST_LINES: usize = 10_000;
/// How much of the principals is shown, in characters.
const SHOWN: usize = 200;

/// One line: who may sign with which key, and when.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    file: Arc<str>,
    line: usize,
    principals: Patterns,
    options: Options,
    key: Key,
}

/// The lines of `content`; `file` is what it is called in messages.
///
/// # Errors
/// `bad-trust` where a line is not understood, or there is none.
pub(super) fn parse(file: &str, content: &[u8], zone: &Zone) -> Result<Vec<Entry>, Refusal> {
    let bad = |line, why: String| Refusal::BadTrust { file: one_line(file, 400), line, why };
    if content.len() > LARGEST {
        return Err(bad(None, format!("is larger than {LARGEST} bytes")));
    }
    let name: Arc<str> = Arc::from(one_line(file, 400));
    let mut entries = Vec::new();
    for (at, line) in content.split(|byte| *byte == b'\n').enumerate() {
        if at >= MOST_LINES {
            return Err(bad(None, format!("has more than {MOST_LINES} lines")));
        }
        let parsed = std::str::from_utf8(line)
            .map_err(|_| "is not UTF-8; write it anew".to_owned())
            .and_then(|line| entry(line.strip_suffix('\r').unwrap_or(line), zone));
        let parsed =
            parsed.map_err(|why| bad(Some(at + 1), format!("{why}; nobody is believed until it is mended")))?;
        entries.extend(parsed.map(|(principals, options, key)| Entry {
            file: Arc::clone(&name),
            line: at + 1,
            principals,
            options,
            key,
        }));
    }
    if entries.is_empty() {
        return Err(bad(
            None,
            "names nobody who may sign; write one line for each: who@example.org ssh-ed25519 AAAA…".to_owned(),
        ));
    }
    Ok(entries)
}

fn entry(line: &str, zone: &Zone) -> Result<Option<(Patterns, Options, Key)>, String> {
    let line = line.trim_start_matches([' ', '\t']);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err("has a control character".to_owned());
    }
    let (principals, rest) = principals(line)?;
    let (options, rest) = match ssh::is_kind(word(rest).0) {
        true => (Options::default(), rest),
        false => Options::parse(rest, zone)?,
    };
    let (kind, rest) = word(rest.trim_start_matches([' ', '\t']));
    let (blob, _comment) = word(rest);
    let key = Key::of_text(kind, blob)?;
    if !options.authority && !principals.allow_themselves() {
        return Err(format!("the principals {:?} exclude everybody", one_line(principals.as_str(), 100)));
    }
    Ok(Some((principals, options, key)))
}

/// Who it is about, quoted where there are spaces, and what follows.
fn principals(line: &str) -> Result<(Patterns, &str), String> {
    let (text, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("a quote is not closed")?,
        None => line.split_at(line.find([' ', '\t', '"']).unwrap_or(line.len())),
    };
    if !rest.starts_with([' ', '\t']) {
        return Err("a line is: who@example.org, options if any, the kind of the key, the key".to_owned());
    }
    let patterns = Patterns::of(text).map_err(|why| format!("the principals {:?} {why}", one_line(text, 100)))?;
    Ok((patterns, rest.trim_start_matches([' ', '\t'])))
}

/// The first word of `text`, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_at(text.find([' ', '\t']).unwrap_or(text.len()));
    (word, rest.trim_start_matches([' ', '\t']))
}

/// Who of `entries`, which come from `files`, made a signature with `signer` at `times`.
///
/// # Errors
/// `unknown-key`, `expired-key`, `not-yet-valid-key`.
pub(super) fn who(entries: &[Entry], signer: &Signer, times: Times, files: &str) -> Result<String, Refusal> {
    let mut nearest = None;
    for refused in entries.iter().filter(|entry| entry.has(signer)).map(|entry| entry.allows(signer, times)) {
        match refused {
            Ok(principal) => return Ok(principal),
            // That a key is too old says more than that another line is not about it.
            Err(refusal @ (Refusal::ExpiredKey { .. } | Refusal::NotYetValidKey { .. })) => {
                nearest = nearest.filter(|known| !matches!(known, Refusal::UnknownKey { .. })).or(Some(refusal));
            }
            Err(refusal) => nearest = nearest.or(Some(refusal)),
        }
    }
    Err(nearest.unwrap_or_else(|| {
        let why = match &signer.certificate {
            None => format!("which is no key of {files}; add it there, or have somebody sign who is there"),
            Some(certificate) => format!(
                "whose certificate is by {}, which is no cert-authority of {files}; add that there, or have somebody sign who is there",
                certificate.authority.fingerprint()
            ),
        };
        Refusal::UnknownKey { key: signer.key.fingerprint(), why }
    }))
}

impl Entry {
    /// Whether it is about the key of `signer`: an authority is never a signer itself.
    fn has(&self, signer: &Signer) -> bool {
        match &signer.certificate {
            Some(certificate) => self.options.authority && certificate.authority == self.key,
            None => !self.options.authority && signer.key == self.key,
        }
    }

    fn allows(&self, signer: &Signer, times: Times) -> Result<String, Refusal> {
        let here = format!("{}:{}", self.file, self.line);
        let principal = match &signer.certificate {
            None => self.principals.as_str(),
            Some(certificate) => match certificate.principals.iter().find(|name| self.principals.allow(name)) {
                Some(name) => name,
                None => {
                    return Err(Refusal::UnknownKey {
                        key: signer.key.fingerprint(),
                        why: format!(
                            "whose certificate names nobody whom {here} allows; have it certified for one of them"
                        ),
                    });
                }
            },
        };
        let principal = one_line(principal, SHOWN);
        let key = format!("{} ({principal})", signer.key.fingerprint());
        if self.options.namespaces.as_ref().is_some_and(|namespaces| !namespaces.allow(NAMESPACE)) {
            let why = format!("which may not sign commits; add \"{NAMESPACE}\" to its namespaces at {here}");
            return Err(Refusal::UnknownKey { key, why });
        }
        if let Some(certificate) = &signer.certificate {
            let remedy = "have it certified anew, or sign with another key";
            times.within(&key, certificate.valid_from, certificate.valid_to, "its certificate", remedy)?;
        }
        let remedy = format!("sign with another key, or mend {here}");
        times.within(&key, self.options.valid_after, self.options.valid_before, &here, &remedy)?;
        Ok(principal)
    }
}

#[cfg(test)]
mod agreement;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn parsed(text: &str) -> Result<Vec<Entry>, Refusal> {
        parse("/etc/signers", text.as_bytes(), &Zone::utc())
    }

    #[test]
    fn lines_are_read_as_ssh_keygen_reads_them() {
        let text = format!(
            "# who may sign\n\n  \t\nana@x,*@example.org {KEY}\n  \"Ana B,c d\"\t namespaces=\"git\"  {KEY} a comment\r\nca cert-authority {KEY}"
        );
        let entries = parsed(&text).expect("lines");
        let seen: Vec<_> =
            entries.iter().map(|entry| (entry.line, entry.principals.as_str(), entry.options.authority)).collect();
        assert_eq!(seen, [(4, "ana@x,*@example.org", false), (5, "Ana B,c d", false), (6, "ca", true)]);
    }

    #[test]
    fn a_line_that_is_not_understood_is_named_and_refuses_the_file() {
        let good = format!("ana {KEY}\n");
        for (bad, about) in [
            (KEY.to_owned(), "neither an option nor a kind of key"),
            ("ana".to_owned(), "a line is"),
            ("ana ssh-ed25519".to_owned(), "no key"),
            (format!("ana restrict {KEY}"), "neither an option nor a kind of key"),
            (format!("\"ana {KEY}"), "quote"),
            (format!("\"ana\"b {KEY}"), "a line is"),
            (format!("a\"na\" {KEY}"), "a line is"),
            (format!("ana,, {KEY}"), "empty pattern"),
            (format!("ana,!* {KEY}"), "exclude everybody"),
            (format!("ana {}", KEY.replace("AAAAC3", "AAAAC4")), "no key"),
            (format!("ana {}!", KEY), "no key"),
            (format!("ana {}", KEY.replace("ssh-ed25519", "ssh-rsa")), "is of another kind"),
            (format!("ana namespaces=\"git\"{KEY}"), "comma or a space"),
            (format!("ana {KEY}\u{1b}"), "control character"),
            (format!("ana\u{0} {KEY}"), "control character"),
        ] {
            let refusal = parsed(&format!("{good}{bad}\n{good}")).expect_err(&bad);
            let Refusal::BadTrust { file, line, why } = &refusal else { panic!("{refusal:?}") };
            assert_eq!((file.as_str(), *line), ("/etc/signers", Some(2)), "{bad}");
            assert!(why.contains(about), "{bad}: {why}");
        }
        let bytes = [good.as_bytes(), b"# caf\xe9\n"].concat();
        assert!(parse("x", &bytes, &Zone::utc()).expect_err("Latin-1").to_string().starts_with("x:2: is not UTF-8"));
    }

    #[test]
    fn a_file_that_names_nobody_is_no_file_that_allows_nobody() {
        for text in ["", "\n\n", "# nobody yet\n", "\r\n"] {
            assert!(
                parsed(text).expect_err("nobody").to_string().starts_with("/etc/signers: names nobody"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let line = format!("ana {KEY}\n");
        // What follows the last line end is a line too.
        assert_eq!(parsed(&"\n".repeat(MOST_LINES - 2).replacen('\n', &line, 1)).expect("fits").len(), 1);
        let full = format!("{line}{}", "\n".repeat(MOST_LINES - 2));
        assert!(parsed(&full).is_ok());
        assert!(parsed(&format!("{full}\n")).expect_err("a line too many").to_string().contains("10000 lines"));
        let wide = format!("{line}#{}", "x".repeat(LARGEST - line.len() - 1));
        assert!(parsed(&wide).is_ok());
        assert!(parsed(&format!("{wide}x")).expect_err("a byte too many").to_string().contains("1048576 bytes"));
    }
}
