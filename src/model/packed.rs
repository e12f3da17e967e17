use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads a map of many entries, made of all of them at once: nodes of one that grows entry by entry, in order, stay half
/// empty, and a host may have ten thousand.
///
/// # Errors
/// Where it is no map of such entries.
pub fn packed<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    deserializer.deserialize_map(Entries(PhantomData))
}

struct Entries<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
    type Value = BTreeMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_as_any_other() {
        #[derive(Deserialize)]
        struct Document(#[serde(deserialize_with = "packed")] BTreeMap<String, u32>);
        for text in [r#"{}"#, r#"{"b":1,"a":2,"c":3}"#, r#"{"a":1,"b":2,"a":3}"#] {
            let Document(read) = serde_json::from_str(text).expect("a map");
            assert_eq!(read, serde_json::from_str::<BTreeMap<String, u32>>(text).expect("a map"), "{text}");
        }
        for text in ["[]", r#"{"a":"b"}"#, r#"{"a":1"#] {
            assert!(serde_json::from_str::<Document>(text).is_err(), "{text}");
        }
    }
}
