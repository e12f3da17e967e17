//! What the fifth dnf prints, understood. Pure; each with fixtures of what it really printed.

use crate::kinds::package::blame::Blame;
use crate::kinds::package::dnf::answers::{name_in, scriptlet, unfinished};
use crate::kinds::package::fault::{Fault, Remedy, lock_held};
use crate::kinds::package::{Install, Transaction};
use crate::model::one_line;

/// What it said last, because it was told so, where it would do something.
const WOULD: &str = "Operation aborted by the user.";
/// What it says where it would not.
const NOTHING: &str = "Nothing to do.";

/// What `dnf5 --assumeno do` would do: what comes under its name and architecture. What went before is not told.
pub fn simulation(status: i32, stdout: &str, stderr: &str) -> Result<Transaction, Fault> {
    let unclear = |why: String| Fault::new("cannot-tell", why).with(Remedy::General);
    match status {
        0 if stdout.lines().any(|line| line == NOTHING) => Ok(Transaction::default()),
        1 if stderr.lines().any(|line| line == WOULD) => table(stdout).map_err(unclear),
        0 => Err(unclear("dnf did not say what it would do".to_owned())),
        _ => Err(refusal(stderr)),
    }
}

/// What stands in the table of a transaction.
fn table(text: &str) -> Result<Transaction, String> {
    /// What the lines below a heading are.
    enum Part {
        Come,
        Go,
        Neither,
    }
    let mut transaction = Transaction::default();
    let mut part = Part::Neither;
    // What may be replaced: name and architecture of what comes.
    let mut comes: Option<(&str, &str)> = None;
    let mut lines = text.lines().skip_while(|line| !line.starts_with("Package "));
    if lines.next().is_none() {
        return Err("dnf did not say what it would do".to_owned());
    }
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            _ if line == "Transaction Summary:" => return Ok(transaction),
            [] => {}
            // A heading stands in the first column, what is below it in the second.
            _ if !line.starts_with(' ') => {
                part = match line.split([' ', ':']).next() {
                    Some("Installing" | "Upgrading" | "Downgrading" | "Reinstalling") => Part::Come,
                    Some("Removing") => Part::Go,
                    // Also what only has another reason from then on.
                    _ => Part::Neither,
                };
            }
            _ if matches!(part, Part::Neither) => {}
            ["replacing", old, architecture, _, ..] => {
                // What has another version afterwards does not go.
                let (name, new) = comes.ok_or("something replaces nothing")?;
                if name != old || architecture != new && ![architecture, new].contains(&"noarch") {
                    transaction.remove.push(format!("{old}:{architecture}"));
                }
            }
            // A name or a version that did not fit would end so.
            [name, architecture, version, ..] if !name.contains('…') && !version.contains('…') => match part {
                Part::Go => transaction.remove.push(format!("{name}:{architecture}")),
                _ => {
                    comes = Some((name, architecture));
                    transaction.install.push(Install {
                        name: format!("{name}:{architecture}"),
                        from: None,
                        to: version.strip_prefix("0:").unwrap_or(version).to_owned(),
                    });
                }
            },
            _ => return Err(format!("a line of dnf that is not understood: {}", one_line(line, 120))),
        }
    }
    Err("the table of the transaction has no end".to_owned())
}

/// Whether what there is in the sources, one a line, has this package (`name:architecture`) in this version.
pub fn lists(available: &str, name: &str, version: &str) -> bool {
    available.lines().any(|line| match line.split('\t').collect::<Vec<_>>()[..] {
        [bare, there, architecture] => {
            there.strip_prefix("0:").unwrap_or(there) == version && format!("{bare}:{architecture}") == name
        }
        _ => false,
    })
}

/// Who was in the middle of a transaction when this one was to begin; it waits for all other locks.
pub fn lock_holder(text: &str) -> Option<String> {
    text.contains("Failed to obtain rpm transaction lock").then(|| "another transaction".to_owned())
}

/// Why dnf did not do, or would not do, what it was asked.
pub fn refusal(text: &str) -> Fault {
    /// What it says of the package sources, rather than of packages.
    const OF_SOURCES: &[&str] = &[
        "Cache-only enabled but no cache for",
        "Failed to download packages",
        "Failed to download metadata",
        "cacheonly option is activated",
    ];
    const FULL: &[&str] = &["No space left on device", "more space on the", "more inodes on the"];
    if let Some(holder) = lock_holder(text) {
        return lock_held(&holder);
    }
    if text.contains("Unknown argument \"do\"") {
        let why = "this dnf 5 has no `do`, which came with 5.2.14: it has to be upgraded";
        return Fault::new("cannot-tell", why).with(Remedy::General);
    }
    if let Some(why) = unresolved(text) {
        return match () {
            () if text.contains("removing the following protected packages:") => Fault::new("protected-package", why),
            () if text.contains("matches only packages excluded by versionlock") => Fault::new("package-held", why),
            () => Fault::new("unresolvable", why).with(Remedy::Refresh),
        };
    }
    if let Some(why) = untrusted(text) {
        return Fault::new("not-authenticated", why);
    }
    let said = last_errors(text);
    if FULL.iter().any(|words| text.contains(words)) {
        return Fault::new("disk-full", said).with(Remedy::General);
    }
    if OF_SOURCES.iter().any(|words| text.contains(words)) {
        return Fault::new("download-failed", said).with(Remedy::Refresh);
    }
    // Two packages that have the same file, and the like: found before anything is done, of these packages.
    if text.contains("Transaction failed: Rpm transaction") && text.lines().any(|line| line.starts_with("  - ")) {
        return Fault::new("package-failed", said);
    }
    Fault::new("package-failed", said).with(Remedy::General)
}

/// The first problem of a transaction that was not found, its lines joined.
fn unresolved(text: &str) -> Option<String> {
    let below = text.lines().skip_while(|line| *line != "Failed to resolve the transaction:");
    let lines: Vec<&str> = below.skip(1).take_while(|line| !line.starts_with("You can try")).collect();
    if lines.is_empty() {
        return None;
    }
    let is_problem = |line: &&str| line.starts_with("Problem");
    // That the request is in the way of what it requests helps nobody, nor does what is not there anyway.
    let says = |line: &&str| {
        !["conflicting requests", "problem with installed package"].contains(line)
            && !line.starts_with("No packages to remove for argument")
    };
    let said: Vec<&str> = match lines.iter().position(is_problem) {
        Some(at) => {
            let first = lines[at].split_once(": ").map_or("", |(_, said)| said);
            let more = lines[at + 1..].iter().take_while(|line| line.starts_with("  - "));
            [first].into_iter().chain(more.map(|line| line.trim_start_matches("  - "))).filter(says).collect()
        }
        None => lines.iter().copied().filter(says).collect(),
    };
    Some(one_line(&said.join("; "), 400))
}

/// What dnf does not install because nobody it trusts has signed it.
fn untrusted(text: &str) -> Option<String> {
    if !text.contains("Signature verification failed") {
        return None;
    }
    // `OpenPGP check for package "NEVRA" (FILE) from repo "ID" has failed: WHY`
    let of = |line: &str| {
        let rest = line.strip_prefix("OpenPGP check for package \"")?;
        let (package, rest) = rest.split_once('"')?;
        let (_, why) = rest.split_once(" has failed: ")?;
        Some(format!("{package}: {why}"))
    };
    let why: Vec<String> = text.lines().filter_map(of).collect();
    Some(one_line(&format!("its signature is not good: {}", why.join("; ")), 400))
}

/// Who did not get through a transaction that printed `log`, by name and architecture. rpm goes on with the others, and
/// says of none that it waits.
pub fn blame(log: &str) -> Blame {
    let lines = plain(log);
    let mut blame = Blame::default();
    for (at, line) in lines.iter().enumerate() {
        let by_rpm = line.strip_prefix("[RPM] ");
        let is_full =
            |line: &str| line.starts_with("unpacking of archive failed") && line.contains("No space left on device");
        blame.is_general |= by_rpm.is_some_and(is_full);
        let (name, why) = if let Some((name, what)) = by_rpm.and_then(scriptlet) {
            let Some((_, printed)) = of_script(&lines[..at]).filter(|(is_critical, _)| *is_critical) else { continue };
            (name, with_last_words(&what, printed))
        } else if let Some(name) = line.strip_prefix("Unpack error: ").and_then(name_in) {
            let before = lines[..at].last().and_then(|line| line.strip_prefix("[RPM] "));
            (name, one_line(before.unwrap_or("it could not be unpacked"), 400))
        } else if let Some(name) = by_rpm.and_then(unfinished) {
            (name, one_line(by_rpm.unwrap_or_default(), 400))
        } else {
            continue;
        };
        blame.accuse(name, || why);
    }
    blame
}

/// The scripts that failed and that rpm has gone on after, by name and architecture of their packages: those are installed
/// or gone.
pub fn warnings(log: &str) -> Vec<(String, String)> {
    let lines = plain(log);
    let warning = |(at, line): (usize, &&str)| {
        let (name, what) = scriptlet(line.strip_prefix("[RPM] ")?)?;
        let (_, printed) = of_script(&lines[..at]).filter(|(is_critical, _)| !is_critical)?;
        Some((name, with_last_words(&what, printed)))
    };
    lines.iter().enumerate().filter_map(warning).collect()
}

fn plain(log: &str) -> Vec<&str> {
    log.lines().map(|line| line.strip_prefix(">>> ").unwrap_or(line).trim_end()).collect()
}

/// Whether the script whose failure is told after these lines was one without which rpm does not go on, and what it
/// printed.
fn of_script<'l, 't>(before: &'l [&'t str]) -> Option<(bool, &'l [&'t str])> {
    let at = before.iter().rposition(|line| line.contains(" scriptlet: "))?;
    let is_critical = match before[at] {
        line if line.starts_with("Error in ") => true,
        line if line.starts_with("Non-critical error in ") => false,
        _ => return None,
    };
    Some((is_critical, &before[at + 1..]))
}

/// `what`, with what its own script `printed` last.
fn with_last_words(what: &str, printed: &[&str]) -> String {
    let last = printed.iter().rfind(|line| !line.trim().is_empty() && **line != "Scriptlet output:");
    one_line(&last.map_or_else(|| what.to_owned(), |last| format!("{what}: {}", last.trim())), 400)
}

/// dnf's last words: those that say what failed, with what is indented below, and what a source answered.
fn last_errors(text: &str) -> String {
    let mut said: Vec<&str> = Vec::new();
    let answered = text.lines().rev().find_map(|line| line.strip_prefix(">>> Curl error "));
    let mut below = false;
    for line in text.lines() {
        let is_error =
            ["Failed to ", "Cannot ", "Transaction failed: ", "Cache-only "].iter().any(|it| line.starts_with(it));
        // Between the two it tells of what it did not check.
        if is_error || below && line.starts_with(' ') {
            said.push(line.trim().trim_start_matches("- "));
        }
        below = is_error || below && (line.starts_with(' ') || line.starts_with("Warning: "));
    }
    if said.is_empty() {
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        return one_line(last.unwrap_or("it said nothing"), 300);
    }
    let answered = answered.map(|line| line.split(" [").next().unwrap_or(line));
    let answered = answered.map(|line| line.split_once(": ").map_or(line, |(_, said)| said));
    one_line(&said.into_iter().chain(answered).collect::<Vec<_>>().join("; "), 500)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::package::cut;
    use crate::kinds::package::dnf::answers::complete;
    use crate::kinds::package::dnf::database::tests::fixture;

    macro_rules! said {
        ($name:literal) => {
            (
                include_str!(concat!("../../fixtures/dnf5-", $name, ".txt")),
                include_str!(concat!("../../fixtures/dnf5-", $name, "-errors.txt")),
            )
        };
    }

    fn transaction((out, err): (&str, &str)) -> Transaction {
        let mut transaction = simulation(1, out, err).expect("understood");
        complete(&mut transaction, &fixture());
        transaction
    }

    fn installs(transaction: &Transaction) -> Vec<(&str, Option<&str>, &str)> {
        let install = transaction.install.iter();
        install.map(|i| (i.name.as_str(), i.from.as_deref(), i.to.as_str())).collect()
    }

    #[test]
    fn what_comes_and_goes_is_read() {
        let found = transaction(said!("transaction"));
        assert_eq!(
            installs(&found),
            [
                ("alpha", Some("2:2.0-1"), "1.0-1"),
                ("broken", None, "1.0-1"),
                ("needsold", None, "1.0-1"),
                ("bash", None, "5.2-1"),
            ]
        );
        assert_eq!(found.remove, ["beta", "words"], "what has another version afterwards does not go");
        assert_eq!(transaction(said!("dependents")).remove, ["words", "beta"]);
        let (out, err) = said!("nothing");
        assert_eq!(simulation(0, out, err), Ok(Transaction::default()));
    }

    #[test]
    fn names_that_do_not_fit_are_read_whole() {
        let found = transaction(said!("long"));
        let long = "a-package-with-a-very-long-name-that-does-not-fit-in-a-column-of-the-table";
        assert_eq!(installs(&found)[0], (long, None, "1.0.20240101git0123456789abcdef-100.fc40"));
        assert_eq!(found.install.len(), 2);
        let (out, err) = said!("long");
        assert!(simulation(1, &out.replace("0123456789abcdef-100.fc40", "0…"), err).is_err(), "which version is it");
    }

    #[test]
    fn what_is_replaced_by_another_goes() {
        let found = transaction(said!("obsoletes"));
        assert_eq!(installs(&found), [("neworig", None, "1.0-1")]);
        assert_eq!(found.remove, ["orig"]);
        // Another architecture of the same name is another package.
        let (out, err) = said!("obsoletes");
        let out = out.replace("neworig          noarch", "orig             x86_64");
        assert_eq!(transaction((&out, err)).remove, [] as [&str; 0]);
        assert_eq!(transaction((&out.replace("orig noarch", "orig i686"), err)).remove, ["orig:i686"]);
    }

    #[test]
    fn a_foreign_architecture_is_part_of_the_name() {
        assert_eq!(installs(&transaction(said!("upgrade"))), [("libm:i686", None, "1.1-1"), ("libm", None, "1.0-1")]);
    }

    #[test]
    fn what_only_has_another_reason_does_not_come() {
        let text = "Package Arch Version Repository Size\nChanging reason:\n mailer noarch 0:1.0-1 @System 0.0 B\n   \
                    User -> Dependency\n\nTransaction Summary:\n Changing reason:    1 package\n";
        assert_eq!(simulation(1, text, WOULD), Ok(Transaction::default()));
    }

    #[test]
    fn what_was_cut_short_is_told_from_what_there_is() {
        for (status, (out, err)) in [
            (1, said!("transaction")),
            (1, said!("long")),
            (1, said!("obsoletes")),
            (1, said!("upgrade")),
            (1, said!("dependents")),
            (0, said!("nothing")),
        ] {
            cut::is_all_or_nothing(out, |out| simulation(status, out, err));
            if status == 1 {
                cut::is_all_or_nothing(err, |err| simulation(status, out, err));
            }
        }
        // Whatever is left of an error, it is one.
        for err in [
            include_str!("../../fixtures/dnf5-unmet-errors.txt"),
            include_str!("../../fixtures/dnf5-conflict-errors.txt"),
            include_str!("../../fixtures/dnf5-two-errors.txt"),
            include_str!("../../fixtures/dnf5-protected-errors.txt"),
            include_str!("../../fixtures/dnf5-needed-errors.txt"),
            include_str!("../../fixtures/dnf5-no-match-errors.txt"),
            include_str!("../../fixtures/dnf5-locked-errors.txt"),
            include_str!("../../fixtures/dnf5-no-index-errors.txt"),
        ] {
            for err in cut::short(err).chain([err]) {
                assert!(simulation(1, "", err).is_err(), "{err}");
            }
        }
    }

    #[test]
    fn a_simulation_that_is_not_understood_is_no_simulation() {
        assert!(simulation(0, "", "").is_err());
        assert!(simulation(0, "Complete!\n", "").is_err());
        assert!(simulation(1, "", WOULD).is_err());
        let table = |rows: &str| format!("Package Arch Version Repository Size\n{rows}\nTransaction Summary:\n");
        assert!(simulation(1, &table("Installing:\n alpha\n"), WOULD).is_err());
        assert!(simulation(1, &table("Installing:\n   replacing alpha noarch 0:1.0-1 lab\n"), WOULD).is_err());
    }

    #[test]
    fn refusals_are_told_apart() {
        for (text, reason, remedy, why) in [
            (
                include_str!("../../fixtures/dnf5-unmet-errors.txt"),
                "unresolvable",
                Remedy::Refresh,
                "nothing provides nothing-here needed by delta-1.0-1.noarch from lab",
            ),
            (
                include_str!("../../fixtures/dnf5-two-errors.txt"),
                "unresolvable",
                Remedy::Refresh,
                "nothing provides nothing-here needed by delta-1.0-1.noarch from lab",
            ),
            (
                include_str!("../../fixtures/dnf5-needed-errors.txt"),
                "unresolvable",
                Remedy::Refresh,
                "installed package beta-1.0-1.noarch requires words, but none of the providers can be installed",
            ),
            (
                include_str!("../../fixtures/dnf5-no-match-errors.txt"),
                "unresolvable",
                Remedy::Refresh,
                "No match for argument: nope",
            ),
            (
                include_str!("../../fixtures/dnf5-protected-errors.txt"),
                "protected-package",
                Remedy::None,
                "The operation would result in removing the following protected packages: dnf5",
            ),
            (
                include_str!("../../fixtures/dnf5-locked-errors.txt"),
                "package-held",
                Remedy::None,
                "Argument 'alpha-1.0-1' matches only packages excluded by versionlock.",
            ),
            (
                include_str!("../../fixtures/dnf5-not-fetched-errors.txt"),
                "download-failed",
                Remedy::Refresh,
                "Failed to download packages; Librepo error: Cannot download needsold-0-1.0-1.noarch.rpm: All mirrors were \
                 tried; Could not read a file:// file for file:///pool/needsold-0-1.0-1.noarch.rpm",
            ),
            (
                include_str!("../../fixtures/dnf5-not-cached-errors.txt"),
                "download-failed",
                Remedy::Refresh,
                "Cannot download the \"needsold-1.0-1.noarch\" package, cacheonly option is activated.",
            ),
            (
                include_str!("../../fixtures/dnf5-index-failed-errors.txt"),
                "download-failed",
                Remedy::Refresh,
                "Failed to download metadata (baseurl: \"http://127.0.0.1:9/\") for repository \"gone\": Usable URL not \
                 found; Could not connect to server for http://127.0.0.1:9/repodata/repomd.xml",
            ),
            (
                include_str!("../../fixtures/dnf5-no-index-errors.txt"),
                "download-failed",
                Remedy::Refresh,
                "Cache-only enabled but no cache for repository \"gone\"",
            ),
            (
                include_str!("../../fixtures/dnf5-clash-errors.txt"),
                "package-failed",
                Remedy::None,
                "Transaction failed: Rpm transaction failed.; file /etc/beta.conf from install of clash-0:1.0-1.noarch \
                 conflicts with file from package conf-0:1.0-1.noarch",
            ),
            (
                include_str!("../../fixtures/dnf5-full-errors.txt"),
                "disk-full",
                Remedy::General,
                "Transaction failed: Rpm transaction failed.; installing package big-0:1.0-1.noarch needs 9MB more space on \
                 the /srv/small filesystem",
            ),
            (
                include_str!("../../fixtures/dnf5-not-signed-errors.txt"),
                "not-authenticated",
                Remedy::None,
                "its signature is not good: bash-5.2-1.noarch: The package is not signed.",
            ),
            (
                "Unknown argument \"do\" for command \"dnf5\". Add \"--help\" for more information about the arguments.\n",
                "cannot-tell",
                Remedy::General,
                "this dnf 5 has no `do`, which came with 5.2.14: it has to be upgraded",
            ),
            (
                "Transaction failed: Failed to obtain rpm transaction lock. Another transaction is in progress.\n",
                "package-lock-held",
                Remedy::General,
                "the package lock is held by another transaction; it was waited for, and is tried again later",
            ),
            ("", "package-failed", Remedy::General, "it said nothing"),
        ] {
            let fault = refusal(text);
            assert_eq!((fault.reason, fault.remedy, fault.why.as_str()), (reason, remedy, why), "{text}");
        }
        let conflict = refusal(include_str!("../../fixtures/dnf5-conflict-errors.txt"));
        assert_eq!(conflict.reason, "unresolvable");
        assert!(
            conflict.why.starts_with("installed package theirs-1.0-1.noarch conflicts with theirs"),
            "{conflict:?}"
        );
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, why)| ((*name).to_owned(), (*why).to_owned())).collect()
    }

    #[test]
    fn who_is_at_fault_is_told_with_the_last_words_of_its_script() {
        let log = include_str!("../../fixtures/dnf5-script-failed.txt");
        let prein = "its %prein scriptlet failed, exit status 1: so sorry";
        assert_eq!(blame(log).culprits, pairs(&[("broken:noarch", prein)]));
        let silent = ">>> Running %preun scriptlet: stuck-0:1.0-1.noarch\n>>> Error in %preun scriptlet: \
                      stuck-0:1.0-1.noarch\n>>> [RPM] %preun(stuck-0:1.0-1.noarch) scriptlet failed, exit status 1\n";
        let preun = ("stuck:noarch", "its %preun scriptlet failed, exit status 1");
        assert_eq!(blame(silent).culprits, pairs(&[preun]));
        assert_eq!(blame(&format!("{log}{silent}")).culprits, pairs(&[("broken:noarch", prein), preun]));
        let archive = blame(include_str!("../../fixtures/dnf5-unpack-failed.txt"));
        let [(name, why)] = &archive.culprits[..] else { panic!("{archive:?}") };
        assert_eq!(name, "big:noarch");
        assert!(why.starts_with("unpacking of archive failed on file /srv/small/big;"), "{why}");
    }

    #[test]
    fn a_script_that_rpm_goes_on_after_is_a_warning_and_nobodys_failure() {
        let log = include_str!("../../fixtures/dnf5-scripts-failed.txt");
        let culprits = [
            ("badpretrans:noarch", "its %pretrans scriptlet failed, exit status 1: not today"),
            ("badpre:noarch", "its %prein scriptlet failed, exit status 1: no entry"),
            ("badpreun:noarch", "its %preun scriptlet failed, exit status 1: i stay"),
        ];
        assert_eq!(blame(log).culprits, pairs(&culprits));
        let told = [
            ("badpost:noarch", "its %post scriptlet failed, exit status 1: so sorry"),
            ("badpostun:noarch", "its %postun scriptlet failed, exit status 1: half gone"),
            ("badposttrans:noarch", "its %posttrans scriptlet failed, exit status 1: late words"),
        ];
        assert_eq!(warnings(log), pairs(&told));
        assert_eq!(warnings(include_str!("../../fixtures/dnf5-script-failed.txt")), []);
    }

    #[test]
    fn a_package_is_in_the_sources_only_in_the_version_that_is_there() {
        let there = include_str!("../../fixtures/dnf5-available.txt");
        assert!(lists(there, "alpha:noarch", "2:2.0-1") && lists(there, "libm:i686", "1.1-1"));
        for (name, version) in [("alpha:noarch", "2.0-1"), ("libm:s390x", "1.1-1"), ("alph:noarch", "1.0-1")] {
            assert!(!lists(there, name, version), "{name} {version}");
        }
    }
}
