use std::cmp::Ordering;

/// Which of two versions is the newer one, by the rules of rpm-version(7). Where one says no release, any will do.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Parts::of(a), Parts::of(b));
    let release = || match (a.release, b.release) {
        (Some(a), Some(b)) => part(a.as_bytes(), b.as_bytes()),
        _ => Ordering::Equal,
    };
    a.epoch.cmp(&b.epoch).then_with(|| part(a.version.as_bytes(), b.version.as_bytes())).then_with(release)
}

/// `EPOCH:VERSION-RELEASE`, of which neither version nor release holds a dash.
struct Parts<'a> {
    epoch: u64,
    version: &'a str,
    release: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
            None => (0, text),
        };
        match rest.rsplit_once('-') {
            Some((version, release)) => Self { epoch, version, release: Some(release) },
            None => Self { epoch, version: rest, release: None },
        }
    }
}

/// Compares segment by segment: runs of digits as numbers, runs of letters as text. All else only separates, but
/// for `~`, which sorts before the end, and `^`, which sorts after the end and before anything more.
fn part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        (a, b) = (after_separators(a), after_separators(b));
        match (a.first(), b.first()) {
            (Some(b'~'), Some(b'~')) | (Some(b'^'), Some(b'^')) => (a, b) = (&a[1..], &b[1..]),
            (Some(b'~'), _) => return Ordering::Less,
            (_, Some(b'~')) => return Ordering::Greater,
            (None, None) => return Ordering::Equal,
            // What has more is the newer one; so `^` is newer than the end and older than anything else.
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(b'^'), Some(_)) => return Ordering::Less,
            (Some(_), Some(b'^')) => return Ordering::Greater,
            (Some(left), Some(right)) => {
                // A number is newer than a word.
                let order = left.is_ascii_digit().cmp(&right.is_ascii_digit());
                if order.is_ne() {
                    return order;
                }
                let order = if left.is_ascii_digit() {
                    let (left, right) = (number(&mut a), number(&mut b));
                    // Without leading zeros the longer number is the greater, whatever its size.
                    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
                } else {
                    take(&mut a, u8::is_ascii_alphabetic).cmp(take(&mut b, u8::is_ascii_alphabetic))
                };
                if order.is_ne() {
                    return order;
                }
            }
        }
    }
}

fn after_separators(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'~' | b'^'));
    &text[start.unwrap_or(text.len())..]
}

/// Takes the bytes that `text` starts with and that are `wanted`.
fn take<'a>(text: &mut &'a [u8], wanted: impl Fn(&u8) -> bool) -> &'a [u8] {
    let end = text.iter().position(|byte| !wanted(byte)).unwrap_or(text.len());
    let (taken, rest) = text.split_at(end);
    *text = rest;
    taken
}

/// Takes the digits that `text` starts with, without leading zeros.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let digits = take(text, u8::is_ascii_digit);
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
            "~",
            "0",
            "1.0~rc1",
            "1.0~rc2",
            "1.0",
            "1.0^git1",
            "1.0^git2~1",
            "1.0^git2",
            "1.0a",
            "1.0b",
            "1.0.a",
            "1.0.1",
            "1.9",
            "1.10",
            "2a",
            "2.0",
            "10",
            "1:0.1",
            "2:0",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for b in &ascending[i + 1..] {
                // Separators only separate.
                let order =
                    if ["1.0a", "1.0.a"].contains(a) && *b == "1.0.a" { Ordering::Equal } else { Ordering::Less };
                let order = if (*a, *b) == ("1.0b", "1.0.a") { Ordering::Greater } else { order };
                assert_eq!(compare(a, b), order, "{a} < {b}");
                assert_eq!(compare(b, a), order.reverse(), "{b} > {a}");
            }
        }
        for (a, b) in [
            ("0:1", "1"),
            ("1.00", "1.0"),
            ("1_0", "1.0"),
            ("1.0", "1.0."),
            ("99999999999999999999", "099999999999999999999"),
            ("1.0-3", "1.0"),
        ] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} = {b}");
        }
    }

    #[test]
    fn the_release_decides_where_versions_are_the_same() {
        let ascending = ["1.0-1", "1.0-1.fc39", "1.0-1.fc40", "1.0-2.fc39", "1.1~beta-9", "1.1-1", "1:0.1-1"];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{} < {}", pair[0], pair[1]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rpm_agrees(a in "[0-2][0-2a.+~^_]{0,6}", b in "[0-2][0-2a.+~^_]{0,6}") {
            let ours = part(a.as_bytes(), b.as_bytes());
            prop_assert_eq!(ours, part(b.as_bytes(), a.as_bytes()).reverse());
            // Where there is no rpm there is nothing to agree with.
            let host = Reader::machine().expect("/ is a directory");
            if host.below_root("/usr/bin/rpm").exists() {
                let ask = format!("%{{lua: print(rpm.vercmp(\"{a}\", \"{b}\"))}}");
                let rpm = Program::new("rpm").args(["--eval", &ask]);
                let theirs: i32 = host.query(&rpm).expect("rpm runs").text().trim().parse().expect("a number");
                prop_assert_eq!(ours, theirs.cmp(&0), "{} {}", a, b);
            }
        }
    }
}
