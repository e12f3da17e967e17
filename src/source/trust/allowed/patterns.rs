use crate::model::glob;

/// The longest pattern; ssh-keygen(1) matches none that is longer.
const LONGEST: usize = 1000;

/// Patterns between commas, as in ssh_config(5): `*` is anything, `?` one character, and what a pattern after `!`
/// matches is never meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patterns(String);

impl Patterns {
    /// The patterns of `text`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of(text: &str) -> Result<Self, &'static str> {
        let patterns = Self(text.to_owned());
        if patterns.parts().any(|(_, pattern)| pattern.is_empty()) {
            return Err("has an empty pattern between its commas");
        }
        if patterns.parts().any(|(_, pattern)| pattern.len() > LONGEST) {
            return Err("has a pattern that is longer than 1000 bytes");
        }
        Ok(patterns)
    }

    /// As they are written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` is meant: some pattern matches it, and none after `!` does.
    pub fn allow(&self, name: &str) -> bool {
        let mut meant = false;
        for (negated, pattern) in self.parts() {
            if glob::matches(pattern, name) {
                if negated {
                    return false;
                }
                meant = true;
            }
        }
        meant
    }

    /// Whether any of the patterns, taken for a name as it stands, is meant. Git asks ssh-keygen for the patterns of a
    /// key, and then for each of them whether it may sign.
    pub fn allow_themselves(&self) -> bool {
        self.0.split(',').any(|pattern| self.allow(pattern))
    }

    /// Each with whether it is negated.
    fn parts(&self) -> impl Iterator<Item = (bool, &str)> {
        self.0.split(',').map(|part| part.strip_prefix('!').map_or((false, part), |pattern| (true, pattern)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_meant_by_any_pattern_and_excluded_by_any_negated_one() {
        let patterns = Patterns::of("*@example.org,!eve@*,ben").expect("patterns");
        for (name, meant) in
            [("ana@example.org", true), ("ben", true), ("eve@example.org", false), ("eve", false), ("Ben", false)]
        {
            assert_eq!(patterns.allow(name), meant, "{name}");
        }
        assert!(!Patterns::of("!eve").expect("a pattern").allow("ana"), "negation alone means nobody");
    }

    #[test]
    fn patterns_that_exclude_all_that_they_mean_allow_nobody() {
        for (text, allowed) in [("ana", true), ("*,!eve", true), ("!eve", false), ("ana,!ana", false), ("a?,!*", false)]
        {
            assert_eq!(Patterns::of(text).expect("patterns").allow_themselves(), allowed, "{text}");
        }
    }

    #[test]
    fn what_matches_nothing_is_a_mistake() {
        for text in ["", ",", "a,", ",a", "a,,b", "!", "a,!"] {
            assert!(Patterns::of(text).is_err(), "{text:?}");
        }
        assert!(Patterns::of(&"x".repeat(LONGEST)).is_ok());
        assert!(Patterns::of(&"x".repeat(LONGEST + 1)).is_err());
    }
}
