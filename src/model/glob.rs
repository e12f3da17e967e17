//! Patterns of names and versions, as people write them.

/// Whether `text` as a whole matches `pattern`, in which `*` stands for anything and `?` for one character.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last `*` does not match: that `*` takes one character more.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, taken)) = retry else { return false };
                retry = Some((after, taken + 1));
                (p, t) = (after, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_is_anything_and_a_question_mark_one_character() {
        assert!(matches("1.22.*", "1.22.1-9+deb12u3"));
        assert!(matches("*", ""));
        assert!(matches("1.?-*u1", "1.2-3u2u1"));
        assert!(!matches("1.?", "1."));
        assert!(!matches("1.?", "1.22"));
    }

    #[test]
    fn the_whole_version_is_matched_epoch_included() {
        assert!(!matches("1.22", "1.22.1"));
        assert!(!matches("2.*", "1:2.0"));
        assert!(matches("1:2.*", "1:2.0"));
    }

    #[test]
    fn many_stars_do_not_take_forever() {
        assert!(!matches(&format!("{}b", "*a".repeat(40)), &"a".repeat(2000)));
    }
}
