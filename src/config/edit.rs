//! One key of `agent.toml` set to another value, all that its author wrote besides left as it is. Pure.

use toml::de::DeTable;

use super::parse::SECTIONS;

/// The text cannot be changed by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is no TOML as it stands.
    #[error("it is no TOML: {0}")]
    NotToml(String),
    /// The key cannot be put where it belongs without changing something else.
    #[error("{key} cannot be set in it by itself: {why}; set it by hand")]
    Cannot {
        /// Which.
        key: &'static str,
        /// What became of it.
        why: String,
    },
}

/// `text` with `key` (`source.url`) set to the string `value`. A value that is there is replaced; else the line goes
/// below the one that shows its default, or below the head of its section, which is added where it is missing.
///
/// # Errors
/// Where `text` is no TOML, or is written so that the key has no place in it.
pub fn edited(text: &str, key: &'static str, value: &str) -> Result<String, EditError> {
    let (section, name) = key.split_once('.').expect("every key has its section");
    debug_assert!(SECTIONS.iter().any(|(_, keys)| keys.contains(&key)), "{key} is no key");
    let quoted = toml::Value::String(value.to_owned()).to_string();
    let root = parse(text)?;
    let span = root.get(section).and_then(|table| table.get_ref().as_table()?.get(name)).map(toml::Spanned::span);
    let new = match span {
        Some(span) => format!("{}{quoted}{}", &text[..span.start], &text[span.end..]),
        None => inserted(text, section, name, &format!("{name} = {quoted}\n")),
    };
    let cannot = |why: String| EditError::Cannot { key, why };
    let again = parse(&new).map_err(|error| cannot(error.to_string()))?;
    let found = again.get(section).and_then(|table| table.get_ref().as_table()?.get(name)?.get_ref().as_str());
    if found == Some(value) { Ok(new) } else { Err(cannot(format!("it does not stand in [{section}]"))) }
}

fn parse(text: &str) -> Result<DeTable<'_>, EditError> {
    DeTable::parse(text)
        .map(toml::Spanned::into_inner)
        .map_err(|error| EditError::NotToml(error.message().trim_end().replace('\n', "; ")))
}

/// `text` with `line` where the key `name` of `section` belongs.
fn inserted(text: &str, section: &str, name: &str, line: &str) -> String {
    let head = format!("[{section}]");
    let (mut within, mut after, mut at) = (false, None, 0);
    for written in text.split_inclusive('\n') {
        at += written.len();
        let bare = written.trim();
        if bare.starts_with('[') {
            within = bare.split('#').next().unwrap_or_default().trim_end() == head;
            if within {
                after = Some(at);
            }
        } else if within && shows_default(bare, name) {
            after = Some(at);
        }
    }
    let end = |text: &str| if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match after {
        Some(at) => format!("{}{}{line}{}", &text[..at], end(&text[..at]), &text[at..]),
        None => {
            let gap = if text.is_empty() { "" } else { "\n" };
            format!("{text}{}{gap}{head}\n{line}", end(text))
        }
    }
}

/// `#branch = "main"`, as the packaged file has it.
fn shows_default(line: &str, name: &str) -> bool {
    let rest = line.strip_prefix('#').and_then(|rest| rest.trim_start().strip_prefix(name));
    rest.is_some_and(|rest| rest.trim_start().starts_with('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    const PACKAGED: &str = include_str!("../../packaging/agent.toml");
    const URL: &str = "https://git.example.org/fleet.git";

    #[test]
    fn the_packaged_file_keeps_its_comments() {
        let text = edited(PACKAGED, "source.url", URL).expect("set");
        let text = edited(&text, "policy.update", "observe").expect("set");
        let added: Vec<&str> = text.lines().filter(|line| !PACKAGED.lines().any(|known| known == *line)).collect();
        assert_eq!(added, [&*format!("url = \"{URL}\""), "update = \"observe\""]);
        assert_eq!(text.lines().count(), PACKAGED.lines().count() + 2);
        let settings = settings(&[("agent.toml".to_owned(), text.clone())]).expect("valid");
        assert_eq!(settings.source.expect("a source").urls, [URL]);
        let place = text.lines().position(|line| line.starts_with("url")).expect("there");
        assert!(text.lines().nth(place - 1).expect("a line").starts_with("#url = "), "below its default");
    }

    #[test]
    fn a_value_that_is_there_is_replaced_where_it_stands() {
        let text = "# ours\n[source]\nurl = [\n  \"/a\", # first\n  \"/b\",\n] # both\nbranch = \"x\"\n";
        assert_eq!(
            edited(text, "source.url", "/c").expect("set"),
            "# ours\n[source]\nurl = \"/c\" # both\nbranch = \"x\"\n"
        );
        assert_eq!(edited("source.url = '/a'", "source.url", "/c").expect("set"), "source.url = \"/c\"");
        assert_eq!(
            edited("source = { url = \"/a\" }\n", "source.url", "/c").expect("set"),
            "source = { url = \"/c\" }\n"
        );
        let once = edited("", "source.url", "/c").expect("set");
        assert_eq!(edited(&once, "source.url", "/c").expect("set"), once, "setting it again changes nothing");
    }

    #[test]
    fn a_missing_key_or_section_is_added() {
        assert_eq!(edited("", "source.url", "/c").expect("set"), "[source]\nurl = \"/c\"\n");
        assert_eq!(
            edited("[host]\nname = \"a\"", "source.url", "/c").expect("set"),
            "[host]\nname = \"a\"\n\n[source]\nurl = \"/c\"\n"
        );
        assert_eq!(edited("[source] # here", "source.url", "/c").expect("set"), "[source] # here\nurl = \"/c\"\n");
        assert_eq!(
            edited("[source]\nbranch = \"x\"\n[host]\n", "source.url", "/c").expect("set"),
            "[source]\nurl = \"/c\"\nbranch = \"x\"\n[host]\n"
        );
    }

    #[test]
    fn what_needs_escaping_is_escaped() {
        let odd = "a\"b\\c";
        let text = edited("", "source.path", odd).expect("set");
        assert!(text.contains(r#"a"b\c"#) || text.contains(r#"a\"b\\c"#), "{text}");
    }

    #[test]
    fn what_has_no_place_for_it_is_refused() {
        assert!(matches!(edited("[source", "source.url", "/c"), Err(EditError::NotToml(_))));
        for text in ["source = { branch = \"x\" }\n", "source = 3\n"] {
            let error = edited(text, "source.url", "/c").expect_err("refused");
            assert!(error.to_string().contains("set it by hand"), "{error}");
        }
        // A head within a string is no head; what comes of it is looked at.
        let text = "x = \"\"\"\n[source]\n\"\"\"\n";
        assert!(edited(text, "source.url", "/c").is_err());
    }
}
