use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// Names one managed thing on one host: `file:/etc/motd`, `package:nginx`, `unit:nginx.service`.
///
/// The part before the first colon is the word of its kind, the rest its name within the kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Id {
    text: String,
    colon: usize,
}

/// The text is not `kind:name`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{0}` is not a resource id; ids look like file:/etc/motd, package:nginx or unit:nginx.service")]
pub struct NotAnId(String);

impl Id {
    /// The id of `name` in the kind whose word is `kind`.
    pub fn new(kind: &str, name: &str) -> Self {
        Self { text: format!("{kind}:{name}"), colon: kind.len() }
    }

    /// The word of the kind: `file`.
    pub fn kind(&self) -> &str {
        &self.text[..self.colon]
    }

    /// The name within the kind: `/etc/motd`.
    pub fn name(&self) -> &str {
        &self.text[self.colon + 1..]
    }

    /// The whole id as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for Id {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        match text.split_once(':') {
            Some((kind, name))
                if !kind.is_empty() && !name.is_empty() && kind.bytes().all(|b| b.is_ascii_lowercase()) =>
            {
                Ok(Self { colon: kind.len(), text })
            }
            _ => Err(NotAnId(crate::model::one_line(&text, 200))),
        }
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.text
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// For people, who see it on a terminal: escaped. [`Id::as_str`] is the id itself.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&crate::model::escaped(&self.text))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
