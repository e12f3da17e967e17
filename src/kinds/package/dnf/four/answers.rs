//! What the fourth dnf prints, understood. Pure; each with fixtures of what it really printed.

use crate::kinds::package::blame::Blame;
use crate::kinds::package::dnf::answers::{scriptlet, unfinished};
use crate::kinds::package::fault::{Fault, Remedy, lock_held};
use crate::kinds::package::{Install, Transaction};
use crate::model::one_line;

/// Why the shell of dnf, which always ends with status 0, did not do what it was told.
pub fn failed(stdout: &str, stderr: &str) -> Option<Fault> {
    // What it says instead of doing it, because it was told so.
    let error = |line: &&str| line.starts_with("Error") && !line.starts_with("Error: Operation aborted");
    let wrong = stderr.lines().any(|line| error(&line)) || stdout.lines().any(|line| line.starts_with(" Problem"));
    wrong.then(|| refusal(stdout, stderr))
}

/// What stands in the table of a transaction: what comes under its name and architecture. What went before
/// is not told.
pub fn simulation(text: &str) -> Result<Transaction, String> {
    /// What the lines below a heading are.
    enum Part {
        Come,
        Go,
        Neither,
    }
    let mut transaction = Transaction::default();
    let mut part = None;
    let mut lines = text.lines().skip_while(|line| !line.starts_with("====")).skip(1).peekable();
    let has_table = lines.peek().is_some();
    for line in &mut lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["Transaction", "Summary"] => return Ok(transaction),
            [] => {}
            _ if line.starts_with("====") => {}
            // A heading stands in the first column, what is below it in the second.
            _ if !line.starts_with(' ') => {
                let (heading, _) = line.split_once(':').unwrap_or((line, ""));
                part = Some(match heading.split(' ').next() {
                    Some("Installing" | "Upgrading" | "Downgrading" | "Reinstalling") => Part::Come,
                    Some("Removing") => Part::Go,
                    _ => Part::Neither,
                });
            }
            ["replacing", old, ..] => transaction.remove.push(with_colon(old)),
            // What did not fit stands further in.
            _ if line.starts_with("  ") => {}
            [name, architecture, version, ..] => match part {
                Some(Part::Come) => transaction.install.push(Install {
                    name: format!("{name}:{architecture}"),
                    from: None,
                    to: version.strip_prefix("0:").unwrap_or(version).to_owned(),
                }),
                Some(Part::Go) => transaction.remove.push(format!("{name}:{architecture}")),
                // What it says about the columns.
                Some(Part::Neither) | None => {}
            },
            _ => return Err(format!("a line of dnf that is not understood: {}", one_line(line, 120))),
        }
    }
    match has_table {
        true => Err("the table of the transaction has no end".to_owned()),
        false if text.contains("Nothing to do.") => Ok(transaction),
        false => Err("dnf did not say what it would do".to_owned()),
    }
}

/// `name:arch` of `name.arch`.
fn with_colon(name: &str) -> String {
    name.rsplit_once('.').map_or_else(|| name.to_owned(), |(name, architecture)| format!("{name}:{architecture}"))
}

/// Who holds the lock that dnf did not get. `None` where it got its lock, be it after having waited for it.
pub fn lock_holder(text: &str) -> Option<String> {
    let (_, holder) = text.lines().find_map(|line| line.split_once(" already locked by "))?;
    Some(match holder.trim() {
        pid if !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()) => format!("pid {}", one_line(pid, 20)),
        _ => "another process".to_owned(),
    })
}

/// Why dnf did not do, or would not do, what it was asked.
pub fn refusal(stdout: &str, stderr: &str) -> Fault {
    /// What it says of the package sources, rather than of packages.
    const OF_SOURCES: &[&str] = &[
        "Cache-only enabled but no cache for",
        "Error downloading packages",
        "Failed to download metadata",
        "invalid cache, but cannot be downloaded",
        "Cannot download",
    ];
    const FULL: &[&str] = &["No space left on device", "more space needed on the", "needs at least"];
    let both = format!("{stdout}\n{stderr}");
    if let Some(holder) = lock_holder(&both) {
        return lock_held(&holder);
    }
    if both.contains("removing the following protected packages:") {
        return Fault::new("protected-package", problem(stdout));
    }
    if let Some(why) = untrusted(&both) {
        return Fault::new("not-authenticated", why);
    }
    let said = last_errors(&both);
    if FULL.iter().any(|words| both.contains(words)) {
        return Fault::new("disk-full", said).with(Remedy::General);
    }
    if OF_SOURCES.iter().any(|words| both.contains(words)) {
        return Fault::new("download-failed", said).with(Remedy::Refresh);
    }
    if stdout.lines().any(|line| line.starts_with(" Problem")) {
        return Fault::new("unresolvable", problem(stdout)).with(Remedy::Refresh);
    }
    if both.contains("Unable to find a match") {
        return Fault::new("unresolvable", said).with(Remedy::Refresh);
    }
    // Two packages that have the same file, and the like: found before anything is done, of these packages.
    if both.contains("Transaction test error") {
        return Fault::new("package-failed", said);
    }
    Fault::new("package-failed", said).with(Remedy::General)
}

/// What dnf does not install because nobody it trusts has signed it.
fn untrusted(text: &str) -> Option<String> {
    if text.contains("You have enabled checking of packages via GPG keys") {
        let source = text.lines().find_map(|line| line.strip_prefix("Problem repository: ")).unwrap_or("a source");
        let source = one_line(source, 80);
        return Some(format!(
            "packages of {source} have to be signed, and no key for them is known: it needs a gpgkey"
        ));
    }
    text.contains("GPG check FAILED").then(|| {
        let of_packages = |line: &&str| line.ends_with(" is not signed") || line.contains(" is not installed");
        let why: Vec<&str> = text.lines().map(str::trim).filter(of_packages).collect();
        one_line(&format!("its signature is not good: {}", why.join("; ")), 400)
    })
}

/// Who did not get through a transaction that printed `log`, by name and architecture. rpm goes on with the others, and
/// says of none that it waits.
pub fn blame(log: &str) -> Blame {
    let lines = said(log);
    let mut blame = Blame::default();
    for (at, line) in lines.iter().enumerate().filter_map(|(at, line)| Some((at, line.strip_prefix("error: ")?))) {
        blame.is_general |= line.starts_with("unpacking of archive failed") && line.contains("No space left on device");
        let (name, why) = if let Some((name, what)) = scriptlet(line) {
            (name, with_last_words(&what, &lines[..at]))
        } else if let Some(name) = unfinished(line) {
            // `error: unpacking of archive failed…`, then `error: broken-1.0-1.noarch: install failed`.
            let before = lines[..at].last().and_then(|line| line.strip_prefix("error: "));
            (name, one_line(&before.into_iter().chain([line]).collect::<Vec<_>>().join("; "), 400))
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
    let lines = said(log);
    let warning = |(at, line): (usize, &&str)| {
        let (name, what) = scriptlet(line.strip_prefix("warning: ")?)?;
        Some((name, with_last_words(&what, &lines[..at])))
    };
    lines.iter().enumerate().filter_map(warning).collect()
}

/// The lines that say something.
fn said(log: &str) -> Vec<&str> {
    log.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// `what`, with what its own script said last: that stands right before.
fn with_last_words(what: &str, before: &[&str]) -> String {
    let last = before.last().copied().unwrap_or_default();
    let is_of_others = last.starts_with("Running scriptlet")
        || last.contains(" : ")
        || ["error: ", "warning: ", "Error in "].iter().any(|start| last.starts_with(start));
    let why = if last.is_empty() || is_of_others { what.to_owned() } else { format!("{what}: {last}") };
    one_line(&why, 400)
}

/// The lines of the first problem, joined.
fn problem(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(" Problem"));
    let first = lines.next().and_then(|line| line.split_once(": ")).map_or("", |(_, said)| said);
    let more = lines.take_while(|line| line.starts_with("  - ")).map(|line| line.trim_start_matches("  - "));
    // That the request is in the way of what it requests helps nobody.
    let words: Vec<&str> = [first].into_iter().chain(more).filter(|line| *line != "conflicting requests").collect();
    one_line(&words.join("; "), 400)
}

/// dnf's last words: what stands behind `Error:`, with what is indented below.
fn last_errors(text: &str) -> String {
    let mut said: Vec<&str> = Vec::new();
    let mut below = false;
    for line in text.split(['\n', '\r']) {
        let error = line.strip_prefix("Error: ").or_else(|| line.strip_prefix("error: "));
        let error = error.filter(|error| !error.starts_with("Operation aborted"));
        if error.is_some() || below && line.starts_with("  ") {
            said.extend(Some(error.unwrap_or(line).trim()).filter(|line| !line.is_empty()));
        }
        below = error.is_some() || below && line.starts_with("  ");
    }
    if said.is_empty() {
        let last = text.split(['\n', '\r']).map(str::trim).rfind(|line| !line.is_empty());
        return one_line(last.unwrap_or("it said nothing"), 300);
    }
    one_line(&said[said.len().saturating_sub(4)..].join("; "), 500)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::package::cut;
    use crate::kinds::package::dnf::answers::complete;
    use crate::kinds::package::dnf::database::tests::fixture;

    fn said(out: &str, err: &str) -> Fault {
        failed(out, err).expect("it failed")
    }

    fn transaction(text: &str) -> Transaction {
        let mut transaction = simulation(text).expect("understood");
        complete(&mut transaction, &fixture());
        transaction
    }

    fn installs(transaction: &Transaction) -> Vec<(&str, Option<&str>, &str)> {
        let install = transaction.install.iter();
        install.map(|i| (i.name.as_str(), i.from.as_deref(), i.to.as_str())).collect()
    }

    #[test]
    fn what_comes_and_goes_is_read() {
        let found = transaction(include_str!("../../fixtures/dnf-transaction.txt"));
        assert_eq!(
            installs(&found),
            [("broken", None, "1.0-1"), ("bash", None, "5.0-1"), ("alpha", Some("2:2.0-1"), "1.0-1")]
        );
        assert_eq!(found.remove, ["words", "beta"]);
    }

    #[test]
    fn names_that_do_not_fit_are_read_whole() {
        let found = transaction(include_str!("../../fixtures/dnf-long.txt"));
        let long = "a-package-with-a-very-long-name-that-does-not-fit-in-a-column-of-the-table";
        assert_eq!(installs(&found)[0], (long, None, "1.0.20240101git0123456789abcdef-100.fc40"));
        assert_eq!(found.install.len(), 2);
    }

    #[test]
    fn what_is_replaced_goes() {
        let text = include_str!("../../fixtures/dnf-obsoletes.txt");
        let found = transaction(text);
        assert_eq!(installs(&found), [("neworig", None, "1.0-1")]);
        assert_eq!(found.remove, ["orig"]);
    }

    #[test]
    fn a_foreign_architecture_is_part_of_the_name() {
        let text = "====\n Package Architecture Version Repository Size\n====\nInstalling:\n glibc i686 2.39-1 os 1 M\n \
                    glibc x86_64 0:2.39-1 os 1 M\n\nTransaction Summary\n";
        assert_eq!(installs(&transaction(text)), [("glibc:i686", None, "2.39-1"), ("glibc", None, "2.39-1")]);
    }

    #[test]
    fn what_was_cut_short_is_told_from_what_there_is() {
        for text in [
            include_str!("../../fixtures/dnf-transaction.txt"),
            include_str!("../../fixtures/dnf-long.txt"),
            include_str!("../../fixtures/dnf-obsoletes.txt"),
        ] {
            cut::is_all_or_nothing(text, simulation);
        }
        // Whatever is left of an error, it is one, or nothing that could be acted on.
        for (out, err) in [
            (include_str!("../../fixtures/dnf-unmet.txt"), ""),
            (include_str!("../../fixtures/dnf-conflict.txt"), ""),
            (include_str!("../../fixtures/dnf-protected.txt"), ""),
            (
                include_str!("../../fixtures/dnf-not-fetched.txt"),
                include_str!("../../fixtures/dnf-not-fetched-errors.txt"),
            ),
            ("", include_str!("../../fixtures/dnf-clash-errors.txt")),
            ("", include_str!("../../fixtures/dnf-not-signed-errors.txt")),
        ] {
            for out in cut::short(out) {
                assert!(failed(out, err).is_some() || simulation(out).is_err(), "{out}{err}");
            }
            for err in cut::short(err) {
                assert!(failed(out, err).is_some() || simulation(out).is_err() || out.contains("===="), "{out}{err}");
            }
        }
    }

    #[test]
    fn a_simulation_that_is_not_understood_is_no_simulation() {
        assert!(simulation("").is_err());
        assert!(simulation("====\n Package\n====\nInstalling:\n alpha noarch 1.0-1 lab 1 k\n").is_err(), "cut off");
        assert!(simulation("====\n====\nInstalling:\n alpha\n\nTransaction Summary\n").is_err());
        assert_eq!(simulation("Dependencies resolved.\nNothing to do.\nComplete!\n"), Ok(Transaction::default()));
    }

    #[test]
    fn refusals_are_told_apart() {
        for (out, err, reason, why) in [
            (
                include_str!("../../fixtures/dnf-unmet.txt"),
                "",
                "unresolvable",
                "nothing provides nothing-here needed by delta-1.0-1.noarch",
            ),
            (
                include_str!("../../fixtures/dnf-conflict.txt"),
                "",
                "unresolvable",
                "problem with installed package theirs-1.0-1.noarch; package rival-1.0-1.noarch conflicts with theirs \
                 provided by theirs-1.0-1.noarch",
            ),
            (
                include_str!("../../fixtures/dnf-protected.txt"),
                "",
                "protected-package",
                "The operation would result in removing the following protected packages: dnf",
            ),
            (
                include_str!("../../fixtures/dnf-transaction.txt"),
                "Error: Unable to find a match: nope\nError: Operation aborted.\n",
                "unresolvable",
                "Unable to find a match: nope",
            ),
            (
                include_str!("../../fixtures/dnf-not-fetched.txt"),
                include_str!("../../fixtures/dnf-not-fetched-errors.txt"),
                "download-failed",
                "Error downloading packages:; needsold-1.0-1.noarch: Cannot download, all mirrors were already tried \
                 without success",
            ),
            (
                "",
                include_str!("../../fixtures/dnf-clash-errors.txt"),
                "package-failed",
                "Transaction test error:; file /etc/beta.conf from install of clash-1.0-1.noarch conflicts with file \
                 from package beta-1.0-1.noarch",
            ),
            (
                "",
                "Error: Cache-only enabled but no cache for 'lab'\n",
                "download-failed",
                "Cache-only enabled but no cache for 'lab'",
            ),
            (
                "",
                include_str!("../../fixtures/dnf-not-signed-errors.txt"),
                "not-authenticated",
                "its signature is not good: Package rival-1.0-1.noarch.rpm is not signed",
            ),
            (
                "",
                "\nYou have enabled checking of packages via GPG keys. This is a good thing.\n\nProblem repository: \
                 [lab]\nbandwidth: 0\nError: None\n",
                "not-authenticated",
                "packages of [lab] have to be signed, and no key for them is known: it needs a gpgkey",
            ),
            ("", "Error: RPMDB already locked by 16201\n", "package-lock-held", ""),
        ] {
            let fault = said(out, err);
            assert_eq!(fault.reason, reason, "{out}{err}");
            assert!(why.is_empty() || fault.why == why, "{}", fault.why);
        }
        assert_eq!(
            said("", "Error: cachedir already locked by 30526\n").why.split(';').next(),
            Some("the package lock is held by pid 30526")
        );
    }

    #[test]
    fn only_what_went_wrong_is_a_failure() {
        assert_eq!(failed(include_str!("../../fixtures/dnf-transaction.txt"), "Error: Operation aborted.\n"), None);
        assert_eq!(failed("Nothing to do.\nComplete!\n", ""), None);
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, why)| ((*name).to_owned(), (*why).to_owned())).collect()
    }

    #[test]
    fn who_is_at_fault_is_told_with_the_last_words_of_its_script() {
        let log = include_str!("../../fixtures/dnf-script-failed.txt");
        let prein = "its %prein scriptlet failed, exit status 1: so sorry";
        assert_eq!(blame(log).culprits, pairs(&[("broken:noarch", prein)]));
        let archive =
            "error: unpacking of archive failed on file /x: cpio: mkdir\nerror: big-1.0-1.noarch: install failed\n";
        let unpacking = "unpacking of archive failed on file /x: cpio: mkdir; big-1.0-1.noarch: install failed";
        assert_eq!(blame(archive).culprits, pairs(&[("big:noarch", unpacking)]));
        assert!(!blame(archive).is_general);
        assert!(blame(&archive.replace("cpio: mkdir", "cpio: write failed - No space left on device")).is_general);
    }

    #[test]
    fn a_script_that_rpm_goes_on_after_is_a_warning_and_nobodys_failure() {
        let log = include_str!("../../fixtures/dnf-scripts-failed.txt");
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
        assert_eq!(warnings(include_str!("../../fixtures/dnf-script-failed.txt")), []);
        let silent =
            "  Running scriptlet: a-1-1.noarch  1/1\nwarning: %post(a-1-1.noarch) scriptlet failed, signal 9\n";
        assert_eq!(warnings(silent), pairs(&[("a:noarch", "its %post scriptlet failed, signal 9")]));
    }
}
