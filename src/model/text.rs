use std::borrow::Cow;

/// `text` made safe to show: control characters, bidirectional marks and line ends are written as
/// `\u{…}`, so that text from outside can neither forge a line nor steer a terminal.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_format(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// `text` escaped, without the logins of URLs, and cut to at most `limit` characters, with `…` where something was cut.
pub fn one_line(text: &str, limit: usize) -> String {
    let text = without_logins(text);
    // Escaping only lengthens, so what lies past the limit cannot come back into view.
    let head: String = text.chars().take(limit + 1).collect();
    let escaped = escaped(&head);
    if escaped.chars().count() <= limit {
        return escaped;
    }
    let mut cut: String = escaped.chars().take(limit.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// `text`, with `…` for what stands before the host in each URL where that is a login: a password or a token. The name alone
/// by which ssh and git go to a server is none.
fn without_logins(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "/\"'<>`\\".contains(c)).unwrap_or(after.len());
        let web = ["http", "https", "ftp", "ftps"].iter().any(|scheme| before[..at].ends_with(scheme));
        rest = match after[..end].rfind('@') {
            Some(host) if web || after[..host].contains(':') => {
                out.push('…');
                &after[host..]
            }
            _ => after,
        };
    }
    if out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Invisible characters that reorder or hide text: bidirectional controls, zero-width characters,
/// line and paragraph separators, tags (Unicode general category Cf and Zl, Zp, the harmful part).
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_and_journal_cannot_be_steered() {
        assert_eq!(escaped("a\nb\x1b[2J\u{202e}c\u{9b}"), "a\\nb\\u{1b}[2J\\u{202e}c\\u{9b}");
        assert_eq!(escaped("größe → ok"), "größe → ok");
    }

    #[test]
    fn logins_of_urls_are_not_shown() {
        for (text, shown) in [
            ("for http://user:s3cret@127.0.0.1:1/x and", "for http://…@127.0.0.1:1/x and"),
            ("(baseurl: \"https://t0ken@h/x\"), ftp://u:p@w@h", "(baseurl: \"https://…@h/x\"), ftp://…@h"),
            ("ssh://git@h:22/x git://h/x https://h/@x", "ssh://git@h:22/x git://h/x https://h/@x"),
            ("socks5h://u:p@h", "socks5h://…@h"),
            ("a@b :// c@d", "a@b :// c@d"),
        ] {
            assert_eq!(one_line(text, 200), shown);
        }
        let cut = format!("http://user:{}@h", "s3cret".repeat(100));
        assert!(!one_line(&cut, 20).contains("s3c"));
    }

    #[test]
    fn long_text_is_cut_to_the_limit() {
        assert_eq!(one_line("abcdef", 6), "abcdef");
        assert_eq!(one_line("abcdefg", 6), "abcde…");
        assert_eq!(one_line(&"\n".repeat(10), 6).chars().count(), 6);
    }
}
