//! What a file of signers allows here is what `ssh-keygen -Y` allows by it.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::source::trust::tests::workshop::{MADE, Workshop};

/// Who might sign, besides all that stand in a file.
const NAMES: &[&str] = &["ana@example.org", "ben", "eve@example.org", "Ana B", "*", "!ben"];
const PAYLOAD: &[u8] = b"tree and so on\n";

/// A signature, by a file and as it was understood.
struct Made {
    path: String,
    signer: Signer,
}

struct Bench {
    workshop: Workshop,
    /// Of the key that signs, another, and an authority.
    lines: [String; 3],
    /// By the key, and by its certificate.
    made: [Made; 2],
}

impl Bench {
    fn new() -> Self {
        let workshop = Workshop::new();
        let (key, line) = workshop.ed25519("key");
        let (_, other) = workshop.ed25519("other");
        let (authority, ca) = workshop.ed25519("ca");
        let sign = |path: &str, name: &str| {
            let (_, armored) = workshop.ask("ssh-keygen", &["-Y", "sign", "-f", path, "-n", "git"], PAYLOAD);
            let signer = ssh::verify(armored.as_bytes(), PAYLOAD).expect("a signature");
            Made { path: workshop.file(name, armored), signer }
        };
        let plain = sign(&key, "plain.sig");
        let validity = format!("{}:{}", stamp(MADE - 10), stamp(MADE + 10));
        let public = format!("{key}.pub");
        workshop.run(
            "ssh-keygen",
            &["-q", "-s", &authority, "-I", "id", "-n", "ben,ana@example.org", "-V", &validity, &public],
        );
        let certified = sign(&format!("{key}-cert.pub"), "certified.sig");
        Self { lines: [line, other, ca], made: [plain, certified], workshop }
    }

    /// Whether ssh-keygen takes `made` for one by `name` at `time`.
    fn keygen(&self, file: &str, name: &str, made: &Made, time: i64) -> bool {
        let time = format!("-Overify-time={}", stamp(time));
        let arguments = ["-Y", "verify", "-f", file, "-I", name, "-n", "git", "-s", &made.path, &time];
        self.workshop.ask("ssh-keygen", &arguments, PAYLOAD).0
    }

    /// Whether git would find out that somebody made it: it asks who has the key, and then of each whether they may.
    fn git(&self, file: &str, made: &Made, time: i64) -> bool {
        let stamp = format!("-Overify-time={}", stamp(time));
        let (_, found) =
            self.workshop.ask("ssh-keygen", &["-Y", "find-principals", "-f", file, "-s", &made.path, &stamp], b"");
        found.lines().any(|name| !name.is_empty() && self.keygen(file, name, made, time))
    }
}

fn stamp(time: i64) -> String {
    Zone::utc().stamp(time).chars().filter(char::is_ascii_digit).collect()
}

/// One line that is understood: of the key with this number, so that lines of one key come together.
fn line() -> impl Strategy<Value = (usize, String)> {
    let principals = prop::sample::select(vec![
        "ana@example.org",
        "ben",
        "*@example.org",
        "*",
        "a?a@*,ben",
        "ana@*,!ana*,ben",
        "*,!eve*",
        "\"Ana B\"",
        "\"Ana B,*\"",
        "eve@example.org",
        "!eve*,*a*,b?n",
        "b*n,*@*.org",
    ]);
    let before = format!("valid-before=\"{}Z\"", stamp(MADE + 1));
    let after = format!("Valid-After=\"{}\"", stamp(MADE));
    let option = vec![
        "namespaces=\"git\"".to_owned(),
        "NAMESPACES=\"file,g*\"".to_owned(),
        "namespaces=\"*,!git\"".to_owned(),
        "namespaces=\"file\"".to_owned(),
        before,
        after,
    ];
    let options = prop::sample::subsequence(option, 0..=2);
    // Mostly, what is certified is by the authority, and nothing else is.
    let key = prop::sample::select(vec![
        (0, ""),
        (0, ""),
        (0, "Cert-Authority"),
        (1, ""),
        (2, "cert-authority"),
        (2, "cert-authority"),
        (2, ""),
    ]);
    let space = prop::sample::select(vec![" ", "\t", "  \t "]);
    let end = prop::sample::select(vec!["", " a comment", "\r", " # ", "\t"]);
    (principals, options, key, space, end).prop_map(|(principals, mut options, (key, authority), space, end)| {
        options.extend((!authority.is_empty()).then(|| authority.to_owned()));
        let options = if options.is_empty() { String::new() } else { options.join(",") + space };
        (key, format!("{principals}{space}{options}KEY{end}"))
    })
}

#[test]
fn ssh_keygen_allows_what_is_allowed_here_and_nothing_else() {
    let bench = Bench::new();
    let files = prop::collection::vec(prop_oneof![6 => line().prop_map(Some), 1 => Just(None)], 1..6);
    let time = prop::sample::select(vec![-11, -10, -1, 0, 1, 9, 10]).prop_map(|later| MADE + later);
    let seen = RefCell::new([[0; 2]; 2]);
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&(files, time), |(lines, time)| {
        let written: Vec<String> = lines
            .iter()
            .map(|line| {
                line.as_ref().map_or("  # nobody".to_owned(), |(key, line)| line.replace("KEY", &bench.lines[*key]))
            })
            .collect();
        let text = written.join("\n");
        let file = bench.workshop.file("signers", &text);
        // Two lists of namespaces on a line, or nobody on any: ssh-keygen passes over them.
        let Ok(entries) = parse("signers", text.as_bytes(), &Zone::utc()) else {
            return Err(TestCaseError::reject("mistaken"));
        };
        for (at, made) in bench.made.iter().enumerate() {
            let times = Times { committed: time, now: time };
            let allows = |entry: &Entry| who(std::slice::from_ref(entry), &made.signer, times, "").is_ok();
            let certified = |name: &str| {
                made.signer
                    .certificate
                    .as_ref()
                    .is_none_or(|certificate| certificate.principals.iter().any(|known| known == name))
            };
            let patterns = entries.iter().flat_map(|entry| entry.principals.as_str().split(','));
            let mut names: Vec<&str> = NAMES.iter().copied().chain(patterns).collect();
            names.sort_unstable();
            names.dedup();
            let mut anybody = false;
            for name in names {
                let here = certified(name) && entries.iter().any(|entry| allows(entry) && entry.principals.allow(name));
                prop_assert_eq!(bench.keygen(&file, name, made, time), here, "{} in\n{}", name, &text);
                anybody |= here;
            }
            let believed = who(&entries, &made.signer, times, "").is_ok();
            prop_assert_eq!(believed, anybody, "somebody in\n{}", &text);
            // Git takes the first line of the key alone for who has it, so it allows less.
            prop_assert!(believed || !bench.git(&file, made, time), "git in\n{}", &text);
            seen.borrow_mut()[at][usize::from(believed)] += 1;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let seen = seen.into_inner();
    assert!(seen.as_flattened().iter().all(|cases| *cases > 4), "too few that are refused or believed: {seen:?}");
}

#[test]
fn ssh_keygen_passes_over_what_is_refused_here() {
    let bench = Bench::new();
    let [key, ..] = &bench.lines;
    let good = format!("ben {key}\n");
    for bad in [
        format!("ana restrict {key}"),
        format!("ana namespaces=\"git\",namespaces=\"git\" {key}"),
        format!("ana valid-before=\"2026\" {key}"),
        format!("ana {}", key.replace("AAAAC3", "AAAAC4")),
        "ana".to_owned(),
    ] {
        let text = format!("{bad}\n{good}");
        let file = bench.workshop.file("signers", &text);
        assert!(bench.keygen(&file, "ben", &bench.made[0], MADE), "{bad}");
        assert!(!bench.keygen(&file, "ana", &bench.made[0], MADE), "{bad}");
        assert_eq!(parse("signers", text.as_bytes(), &Zone::utc()).expect_err(&bad).reason(), "bad-trust");
    }
}
