use std::cmp::Ordering;

/// Which of two versions is the newer one, by the rules of deb-version(7).
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Parts::of(a), Parts::of(b));
    a.epoch.cmp(&b.epoch).then_with(|| part(a.upstream, b.upstream)).then_with(|| part(a.revision, b.revision))
}

struct Parts<'a> {
    epoch: u64,
    upstream: &'a [u8],
    revision: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(version: &'a str) -> Self {
        let (epoch, rest) = match version.split_once(':') {
            Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
            None => (0, version),
        };
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Self { epoch, upstream: upstream.as_bytes(), revision: revision.as_bytes() }
    }
}

/// Compares by turns what is not digits, character by character, and what is, as numbers.
fn part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        while starts_without_digit(a) || starts_without_digit(b) {
            let order = weight(a.first()).cmp(&weight(b.first()));
            if order.is_ne() {
                return order;
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let (left, right) = (number(&mut a), number(&mut b));
        // Without leading zeros the longer number is the greater, whatever its size.
        let order = left.len().cmp(&right.len()).then_with(|| left.cmp(right));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

fn starts_without_digit(text: &[u8]) -> bool {
    text.first().is_some_and(|byte| !byte.is_ascii_digit())
}

/// `~` sorts before the end, the end (or a digit) before letters, letters before everything else.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        None => 0,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

/// Takes the digits that `text` starts with, without leading zeros.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().position(|&byte| byte != b'0').unwrap_or(digits.len());
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::{Program, Reader};

    #[test]
    fn versions_are_ordered_as_the_manual_says() {
        let ascending = [
            "~~",
            "~~a",
            "~",
            "0",
            "1.0~rc1",
            "1.0",
            "1.0-1",
            "1.0-1+deb12u1",
            "1.0-1.1",
            "1.0a",
            "1.0+",
            "1.9",
            "1.10",
            "1:0.1",
            "2:0",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{} < {}", pair[0], pair[1]);
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{} > {}", pair[1], pair[0]);
        }
        for (a, b) in [("0:1", "1"), ("1.00", "1.0"), ("1-0", "1"), ("99999999999999999999", "099999999999999999999")] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} = {b}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn dpkg_agrees(a in "([0-2]:)?[0-2][0-2a.+~]{0,5}(-[0-2a.+~]{1,3})?", b in "([0-2]:)?[0-2][0-2a.+~]{0,5}(-[0-2a.+~]{1,3})?") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            // Where there is no dpkg there is nothing to agree with.
            let host = Reader::machine().expect("/ is a directory");
            if host.below_root("/usr/bin/dpkg").exists() {
                for (word, order) in [("lt", Ordering::Less), ("eq", Ordering::Equal), ("gt", Ordering::Greater)] {
                    let dpkg = Program::new("dpkg").args(["--compare-versions", &a, word, &b]).any_status();
                    let holds = host.query(&dpkg).expect("dpkg runs").status == 0;
                    prop_assert_eq!(holds, compare(&a, &b) == order, "{} {} {}", a, word, b);
                }
            }
        }
    }
}
