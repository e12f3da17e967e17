//! Names that no package has and that installed packages provide. `absent` of one holds, whatever provides it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::one_line;

/// What to say of `absent` names that installed packages provide, one line each.
pub fn told(provided: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let line = |(name, by): (&String, &BTreeSet<String>)| {
        let by: Vec<&str> = by.iter().map(String::as_str).filter(|by| by != name).collect();
        let of = if by.len() == 1 { "it has" } else { "they have" };
        let line = || {
            format!(
                "package:{name} is absent, and what provides that is installed: {}; {of} to be declared absent to go",
                by.join(", ")
            )
        };
        (!by.is_empty()).then(|| one_line(&line(), 400))
    };
    provided.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_provides_what_is_absent_is_named_and_nobody_is_not() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let provided = [("mail", names(&["exim", "postfix"])), ("none", names(&[])), ("web", names(&["nginx"]))];
        let provided = provided.map(|(name, by)| (name.to_owned(), by)).into();
        assert_eq!(
            told(&provided),
            [
                "package:mail is absent, and what provides that is installed: exim, postfix; they have to be declared absent to go",
                "package:web is absent, and what provides that is installed: nginx; it has to be declared absent to go",
            ]
        );
    }
}
