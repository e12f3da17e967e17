//! Adding to a manifest what it does not say yet, everything else in it left as somebody wrote it. Pure.

use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, Value};

/// What is to stand at one key of one table: `[files."/etc/motd"]`, `nginx` of `[packages]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// `files`, `packages`, `units`, `secrets`.
    pub(super) table: &'static str,
    /// The key in it.
    pub(super) key: String,
    pub(super) says: Says,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Says {
    /// One word.
    Word(String),
    /// Attributes; those that the entry has beside them stay.
    Attributes(Vec<(&'static str, Said)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Text(String),
    Flag(bool),
}

/// Why an entry could not be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken(pub(super) String);

impl Said {
    fn value(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Flag(flag) => (*flag).into(),
        }
    }

    fn is(&self, item: &Item) -> bool {
        match self {
            Self::Text(text) => item.as_str() == Some(text),
            Self::Flag(flag) => item.as_bool() == Some(*flag),
        }
    }
}

/// A manifest that is added to.
#[derive(Debug)]
pub(super) struct Manifest(DocumentMut);

impl Manifest {
    /// # Errors
    /// Where `text` is no TOML.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: toml_edit::TomlError| error.message().to_owned())
    }

    pub(super) fn text(&self) -> String {
        self.0.to_string()
    }

    /// Whether `table` has `key`, and of that these attributes; none of them means the entry itself.
    pub(super) fn has(&self, table: &str, key: &str, attributes: &[&str]) -> bool {
        let Some(item) = self.0.get(table).and_then(Item::as_table_like).and_then(|table| table.get(key)) else {
            return false;
        };
        attributes.is_empty()
            || item.as_table_like().is_some_and(|entry| attributes.iter().any(|name| entry.contains_key(name)))
    }

    /// Adds `entry`. What says something else already is overwritten where `replace`.
    ///
    /// # Errors
    /// Where something else is said; nothing is changed then.
    pub(super) fn add(&mut self, entry: &Entry, replace: bool) -> Result<(), Taken> {
        let Entry { table, key, says } = entry;
        let made = || {
            let mut made = Table::new();
            // Where all of it are tables of their own it needs no header.
            made.set_implicit(*table == "files");
            Item::Table(made)
        };
        let item = self.0.as_table_mut().entry(table).or_insert_with(made);
        let wrong = || Taken(format!("`{table}` is no table"));
        let within = item.as_table_like_mut().ok_or_else(wrong)?;
        match (within.get_mut(key), says) {
            (None, says) => {
                let item = new(table, says);
                within.insert(key, item);
                Ok(())
            }
            (Some(item), Says::Attributes(said)) if item.is_table_like() => {
                let there = item.as_table_like_mut().ok_or_else(wrong)?;
                attributes(there, said, replace)
            }
            (Some(item), Says::Word(word)) if item.as_str() == Some(word) => Ok(()),
            (Some(item), says) if replace => {
                *item = new(table, says);
                Ok(())
            }
            (Some(_), _) => Err(Taken(format!("[{table}] says something else of it already"))),
        }
    }
}

fn attributes(there: &mut dyn TableLike, said: &[(&'static str, Said)], replace: bool) -> Result<(), Taken> {
    let differs = |(name, said): &&(&'static str, Said)| there.get(name).is_some_and(|item| !said.is(item));
    if let Some((name, _)) = said.iter().find(differs).filter(|_| !replace) {
        return Err(Taken(format!("its `{name}` is said to be something else already")));
    }
    for (name, said) in said {
        match there.get_mut(name) {
            Some(item) if said.is(item) => {}
            // What stands around it, a comment behind it, stays.
            Some(Item::Value(value)) => {
                let decor = value.decor().clone();
                *value = said.value();
                *value.decor_mut() = decor;
            }
            _ => drop(there.insert(name, Item::Value(said.value()))),
        }
    }
    Ok(())
}

/// Files have tables of their own; of packages and units an entry is one line.
fn new(table: &str, says: &Says) -> Item {
    let said = match says {
        Says::Word(word) => return Item::Value(word.as_str().into()),
        Says::Attributes(said) => said,
    };
    if table == "files" {
        let mut made = Table::new();
        for (name, said) in said {
            made.insert(name, Item::Value(said.value()));
        }
        return Item::Table(made);
    }
    let mut made = InlineTable::new();
    for (name, said) in said {
        made.insert(*name, said.value());
    }
    Item::Value(made.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Said {
        Said::Text(text.to_owned())
    }

    fn word(table: &'static str, key: &str, word: &str) -> Entry {
        Entry { table, key: key.to_owned(), says: Says::Word(word.to_owned()) }
    }

    fn entry(table: &'static str, key: &str, said: &[(&'static str, Said)]) -> Entry {
        Entry { table, key: key.to_owned(), says: Says::Attributes(said.to_vec()) }
    }

    fn edited(before: &str, entries: &[Entry]) -> String {
        let mut manifest = Manifest::parse(before).expect("TOML");
        for entry in entries {
            manifest.add(entry, false).expect("there is room");
        }
        let text = manifest.text();
        toml::from_str::<toml::Table>(&text).expect("TOML all the same");
        text
    }

    #[test]
    fn a_manifest_is_made_of_nothing() {
        let made = edited(
            "",
            &[
                word("packages", "nginx", "present"),
                word("units", "nginx.service", "on"),
                entry("units", "x.timer", &[("enabled", Said::Flag(true)), ("active", Said::Flag(false))]),
                entry("files", "/etc/motd", &[("owner", text("ana")), ("mode", text("0600"))]),
                entry("files", "/srv/x", &[("type", text("directory"))]),
            ],
        );
        let wanted = "[packages]\nnginx = \"present\"\n\n[units]\n\"nginx.service\" = \"on\"\n\
                      \"x.timer\" = { enabled = true, active = false }\n\n\
                      [files.\"/etc/motd\"]\nowner = \"ana\"\nmode = \"0600\"\n\n\
                      [files.\"/srv/x\"]\ntype = \"directory\"\n";
        assert_eq!(made, wanted);
    }

    #[test]
    fn what_somebody_wrote_stays_as_it_is() {
        let before = "# The web server.\nroles = [ 'base' ]   # all have it\n\n[packages] # theirs\nvim='present'\n\n\
                      # last\n[files.\"/etc/a\"]  # a\nowner = \"a\" # who\n";
        let made = edited(
            before,
            &[
                word("packages", "nginx", "present"),
                entry("files", "/etc/a", &[("mode", text("0600")), ("owner", text("a"))]),
                entry("files", "/etc/b", &[("mode", text("0600"))]),
                word("units", "a.service", "off"),
            ],
        );
        let wanted = "# The web server.\nroles = [ 'base' ]   # all have it\n\n[packages] # theirs\nvim='present'\n\
                      nginx = \"present\"\n\n# last\n[files.\"/etc/a\"]  # a\nowner = \"a\" # who\nmode = \"0600\"\n\n\
                      [files.\"/etc/b\"]\nmode = \"0600\"\n\n[units]\n\"a.service\" = \"off\"\n";
        assert_eq!(made, wanted);
    }

    #[test]
    fn inline_tables_and_dotted_keys_are_added_to() {
        for before in [
            "files = { \"/etc/a\" = { owner = \"a\" } }\nunits = { \"a.service\" = \"on\" }\n",
            "files.\"/etc/a\".owner = \"a\"\nunits.\"a.service\" = \"on\"\n",
            "[files]\n\"/etc/a\" = { owner = \"a\" }\n[units]\n\"a.service\" = \"on\"\n",
        ] {
            let made = edited(
                before,
                &[
                    entry("files", "/etc/a", &[("mode", text("0600"))]),
                    entry("files", "/etc/b", &[("mode", text("0640"))]),
                    word("units", "b.service", "on"),
                ],
            );
            let table: toml::Table = toml::from_str(&made).expect("TOML");
            assert_eq!(table["files"]["/etc/a"]["owner"].as_str(), Some("a"), "{made}");
            assert_eq!(table["files"]["/etc/a"]["mode"].as_str(), Some("0600"), "{made}");
            assert_eq!(table["files"]["/etc/b"]["mode"].as_str(), Some("0640"), "{made}");
            assert_eq!(table["units"]["b.service"].as_str(), Some("on"), "{made}");
            assert_eq!(table["units"]["a.service"].as_str(), Some("on"), "{made}");
        }
    }

    #[test]
    fn what_is_said_already_is_overwritten_only_where_that_is_asked_for() {
        let before = "[units]\n\"a.service\" = \"off\"\n[files.\"/etc/a\"]\nmode = \"0600\" # why\n";
        let mut manifest = Manifest::parse(before).expect("TOML");
        let (unit, file) = (
            word("units", "a.service", "on"),
            entry("files", "/etc/a", &[("owner", text("a")), ("mode", text("0640"))]),
        );
        for entry in [&unit, &file] {
            assert!(manifest.add(entry, false).is_err());
        }
        assert_eq!(manifest.text(), before);
        for entry in [&unit, &file] {
            manifest.add(entry, true).expect("replaced");
        }
        assert_eq!(
            manifest.text(),
            "[units]\n\"a.service\" = \"on\"\n[files.\"/etc/a\"]\nmode = \"0640\" # why\nowner = \"a\"\n"
        );
        assert!(manifest.has("files", "/etc/a", &["mode"]) && !manifest.has("files", "/etc/a", &["group"]));
        assert!(manifest.has("files", "/etc/a", &[]) && !manifest.has("files", "/etc/b", &[]));
        let mut broken = Manifest::parse("units = 3\n").expect("TOML");
        assert!(broken.add(&unit, true).is_err());
    }
}
