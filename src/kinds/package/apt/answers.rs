//! What apt's programs print, understood. Pure; each with fixtures of what they really printed.

use std::collections::HashMap;

use crate::kinds::package::blame::Blame;
use crate::kinds::package::fault::{Fault, Remedy, lock_held};
use crate::kinds::package::solve::Policy;
use crate::kinds::package::{Install, Transaction};
use crate::model::one_line;

/// `apt-cache policy NAME… LAST`: by name as apt writes it. Names it does not know are missing; it knows of the last.
pub fn policy(text: &str, last: &str) -> Result<HashMap<String, Policy>, String> {
    let mut all: HashMap<String, Policy> = HashMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
            name.clone_into(&mut current);
            all.entry(current.clone()).or_default();
            continue;
        }
        let Some(policy) = all.get_mut(&current) else { continue };
        if let Some(candidate) = line.strip_prefix("  Candidate: ") {
            policy.candidate = Some(candidate.to_owned()).filter(|candidate| candidate != "(none)");
        } else if line.starts_with("     ") || line.starts_with(" *** ") {
            // A version stands in the sixth column; where it can be had from stands further in.
            let rest = &line[5..];
            if !rest.starts_with(' ') {
                let mut words = rest.split_ascii_whitespace();
                if let (Some(version), Some(priority)) = (words.next(), words.next()) {
                    policy.versions.push((version.to_owned(), priority.parse().unwrap_or(0)));
                }
            }
        }
    }
    // What was cut short would know fewer packages, and fewer of their versions.
    match all.remove(last) {
        Some(known) if !known.versions.is_empty() => Ok(all),
        _ => Err("apt-cache did not say all that it knows".to_owned()),
    }
}

/// What `apt-get -s` says that it would do.
pub fn simulation(text: &str) -> Result<Transaction, String> {
    let mut transaction = Transaction::default();
    let (mut counted, mut configured) = (None, Vec::new());
    for line in text.lines() {
        counted = counted.or_else(|| summary(line));
        let doubt = || format!("a line of apt-get that is not understood: {}", one_line(line, 120));
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("Inst"), Some(name)) => {
                let mut word = words.next().ok_or_else(doubt)?;
                let from = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).map(str::to_owned);
                if from.is_some() {
                    word = words.next().ok_or_else(doubt)?;
                }
                let to = word.strip_prefix('(').ok_or_else(doubt)?.trim_end_matches(')').to_owned();
                transaction.first.append(&mut configured);
                transaction.install.push(Install { name: name.to_owned(), from, to });
            }
            (Some("Remv" | "Purg"), Some(name)) => {
                transaction.first.append(&mut configured);
                transaction.remove.push(name.to_owned());
            }
            (Some("Conf"), Some(name)) => configured.push(name.to_owned()),
            _ => {}
        }
    }
    // What was cut short would do less than apt does.
    match counted {
        Some((come, go)) if transaction.install.len() >= come && transaction.remove.len() >= go => Ok(transaction),
        Some(_) => Err("apt-get did not say all that it would do".to_owned()),
        None => Err("apt-get did not say what it would do".to_owned()),
    }
}

/// How many packages come and how many go, by the line in which apt sums up: `1 upgraded, 2 newly installed, 3 to
/// remove and 4 not upgraded.`
fn summary(line: &str) -> Option<(usize, usize)> {
    if !line.contains(" upgraded, ") || !line.contains(" newly installed, ") {
        return None;
    }
    let (mut come, mut go) = (0, 0);
    for part in line.split(", ").flat_map(|part| part.split(" and ")) {
        let (count, what) = part.split_once(' ')?;
        let count: usize = count.parse().ok()?;
        match what {
            "upgraded" | "newly installed" | "reinstalled" | "downgraded" => come += count,
            "to remove" => go += count,
            _ => {}
        }
    }
    Some((come, go))
}

/// Who holds the lock that a program did not get, as far as it says: `unattended-upgr (pid 812)`.
/// `None` where it got its lock, be it after having waited for it.
pub fn lock_holder(text: &str) -> Option<String> {
    const BY_APT: [&str; 3] =
        ["E: Could not get lock ", "E: Unable to acquire the dpkg frontend lock ", "E: Unable to lock directory "];
    let by_dpkg = text.lines().find_map(|line| line.split_once("was locked by another process with pid "));
    if let Some((_, pid)) = by_dpkg {
        return Some(format!("pid {}", one_line(pid.trim(), 20)));
    }
    if !text.lines().any(|line| BY_APT.iter().any(|start| line.starts_with(start))) {
        return None;
    }
    // The name may stand in the lines that it printed while it waited.
    let named = text.lines().find_map(|line| line.split_once("It is held by process ").map(|(_, holder)| holder));
    let Some(holder) = named else { return Some("another process".to_owned()) };
    let holder = holder.trim_end_matches("...").trim();
    Some(match holder.split_once(' ') {
        Some((pid, name)) => format!("{} (pid {})", one_line(name.trim_matches(['(', ')']), 40), one_line(pid, 20)),
        None => format!("pid {}", one_line(holder, 20)),
    })
}

/// dpkg left work undone, see `dpkg --configure -a` in dpkg(1).
pub fn is_interrupted(text: &str) -> bool {
    text.contains("dpkg was interrupted")
}

/// What is installed lacks what it depends on, so that apt does nothing before that is mended.
pub fn is_unmet(text: &str) -> bool {
    text.contains("E: Unmet dependencies")
}

/// Why `apt-get` did not do, or would not do, what it was asked.
pub fn refusal(stdout: &str, stderr: &str) -> Fault {
    /// What apt says of the packages that it was asked for, rather than of itself.
    const OF_PACKAGES: &[&str] = &[
        "E: Unable to correct problems",
        "E: Unable to locate package",
        "E: Version '",
        "has no installation candidate",
        "E: Couldn't find any package",
        "E: Error, pkgProblemResolver::Resolve",
        "E: Unable to satisfy dependencies",
        "needs to be reinstalled, but",
    ];
    if let Some(holder) = lock_holder(stderr).or_else(|| lock_holder(stdout)) {
        return lock_held(&holder);
    }
    let both = format!("{stdout}\n{stderr}");
    let said = last_errors(&both);
    let fault = |reason, why| Fault::new(reason, why);
    if both.contains("E: Essential packages were removed") {
        return fault("protected-package", "that would remove an essential or protected package".to_owned());
    }
    if both.contains("E: Held packages were changed") {
        let held = block(&both, "The following held packages will be changed:");
        return fault("package-held", format!("that would change what is held: {held}"));
    }
    if both.contains("E: Packages need to be removed but remove is disabled") {
        let gone = block(&both, "The following packages will be REMOVED:");
        return fault("removes-undeclared", format!("that would also remove {gone}, which is not declared absent"));
    }
    if both.contains("E: Packages were downgraded") {
        let older = block(&both, "The following packages will be DOWNGRADED:");
        return fault("downgrade-refused", format!("that would put an older version in place of {older}"));
    }
    if both.contains("E: There were unauthenticated packages") {
        let unsigned = block(&both, "WARNING: The following packages cannot be authenticated!");
        return fault(
            "not-authenticated",
            format!("their source is not signed by a key that is trusted here: {unsigned}"),
        );
    }
    if OF_PACKAGES.iter().any(|words| both.contains(words)) {
        let unmet = block(&both, UNMET);
        let why = if unmet.is_empty() { said } else { unmet };
        return fault("unresolvable", why).with(Remedy::Refresh);
    }
    if is_unmet(&both) {
        let why = format!("apt does nothing before what is installed has what it depends on: {}", block(&both, UNMET));
        return fault("package-failed", why).with(Remedy::General);
    }
    let full = ["enough free space", "No space left on device"].iter().any(|words| both.contains(words));
    if full {
        return fault("disk-full", said).with(Remedy::General);
    }
    if both.contains("E: Failed to fetch") || both.contains("E: Some files failed to download") {
        return fault("download-failed", said).with(Remedy::Refresh);
    }
    fault("package-failed", said).with(Remedy::General)
}

/// Who did not get through a transaction that printed `log`, by the names that dpkg writes.
pub fn blame(log: &str) -> Blame {
    // On a terminal of apt's own, lines end with a carriage return too.
    let lines: Vec<&str> = log.split(['\n', '\r']).map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let mut blame = Blame::default();
    for (at, name) in lines.iter().enumerate().filter_map(|(at, line)| Some((at, in_error(line)?))) {
        let why = lines.get(at + 1).map_or("", |line| line.trim());
        blame.is_general |= why.contains("No space left on device");
        if WAITING.iter().any(|start| why.starts_with(start)) {
            let above = lines[..at].iter().rposition(|line| line.starts_with("dpkg: ")).unwrap_or(at);
            let words = lines[above..at].iter().flat_map(|line| line.split([' ', '(', ')', ',', ';']));
            let others =
                words.map(|word| word.trim_end_matches('.')).filter(|word| *word != name).map(str::to_owned).collect();
            blame.waiting.insert(name, others);
        } else {
            blame.accuse(name, || with_last_words(why, &lines[..at]));
        }
    }
    blame
}

/// How dpkg begins to say that a package waits for another.
const WAITING: &[&str] = &["dependency problems - ", "pre-dependency problem - "];

/// The package that dpkg did not get through with, where this is what it begins to say so with.
fn in_error(line: &str) -> Option<String> {
    let rest = line.strip_prefix("dpkg: error processing ")?;
    if let Some(rest) = rest.strip_prefix("package ") {
        return rest.split(' ').next().map(str::to_owned);
    }
    let file = rest.strip_prefix("archive ")?.split(' ').next()?.rsplit('/').next()?;
    // apt numbers the files when there are many: `12-nginx_1.0_amd64.deb`.
    let file =
        file.split_once('-').filter(|(n, _)| n.bytes().all(|b| b.is_ascii_digit())).map_or(file, |(_, rest)| rest);
    let (name, rest) = file.strip_suffix(".deb").unwrap_or(file).split_once('_')?;
    let (_, architecture) = rest.rsplit_once('_')?;
    Some(format!("{name}:{architecture}"))
}

/// `why`, with what its own script said last: that stands right before.
fn with_last_words(why: &str, before: &[&str]) -> String {
    const OF_OTHERS: &[&str] = &[
        "Setting up ",
        "Unpacking ",
        "Removing ",
        "Purging ",
        "Preparing ",
        "Processing triggers",
        "Selecting previously",
        "(Reading database",
        "debconf: delaying package configuration",
        "dpkg: ",
    ];
    let said = match before.last().map_or("", |line| line.trim()) {
        "" => why.to_owned(),
        line if OF_OTHERS.iter().any(|start| line.starts_with(start)) => why.to_owned(),
        line => format!("{why}: {line}"),
    };
    one_line(&said, 400)
}

/// What lacks something that it depends on, so that apt does nothing else before that is mended: the names, as apt writes
/// them.
pub fn unmet(text: &str) -> Vec<String> {
    let below = text.lines().skip_while(|line| *line != UNMET).skip(1);
    let names = below.take_while(|line| line.starts_with(' ')).filter_map(|line| line.trim_start().split_once(" : "));
    names.map(|(name, _)| name.to_owned()).collect()
}

const UNMET: &str = "The following packages have unmet dependencies:";

/// apt's last words: its `E:` lines, without those that say nothing of the matter.
fn last_errors(text: &str) -> String {
    const BESIDE: &[&str] = &["E: Can not write log", "E: Some index files failed to download", "E: Some files failed"];
    let clean = |line: &str| match line.split_once("E: Type '").and_then(|(_, rest)| rest.split_once("' is not known"))
    {
        // It quotes a word of a file of sources, which may be a secret.
        Some((_, rest)) => format!("a type is not known{}", rest.trim_end()),
        None => line.trim_start_matches("E: ").trim().to_owned(),
    };
    let errors: Vec<String> = text
        .split(['\n', '\r'])
        .filter(|line| line.starts_with("E: ") && !BESIDE.iter().any(|start| line.starts_with(start)))
        .map(clean)
        .collect();
    if errors.is_empty() {
        let last = text.split(['\n', '\r']).map(str::trim).rfind(|line| !line.is_empty());
        return one_line(last.unwrap_or("it said nothing"), 300);
    }
    one_line(&errors[errors.len().saturating_sub(3)..].join("; "), 500)
}

/// The indented lines after the line `head`, joined.
fn block(text: &str, head: &str) -> String {
    let lines = text.lines().skip_while(|line| *line != head).skip(1);
    let words: Vec<&str> = lines.take_while(|line| line.starts_with(' ')).map(str::trim).collect();
    one_line(&words.join("; "), 400)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::package::cut;

    #[test]
    fn candidates_and_versions_are_read() {
        let all = policy(include_str!("../fixtures/policy.txt"), "dpkg").expect("whole");
        let alpha = &all["alpha"];
        assert_eq!(alpha.candidate.as_deref(), Some("2:2.0-1"));
        let versions: Vec<&str> = alpha.versions.iter().map(|(version, _)| version.as_str()).collect();
        assert_eq!(versions, ["2:2.0-1", "1.1-2+deb12u1", "1.1-1", "1.0-1"]);
        assert!(alpha.versions.iter().all(|(_, priority)| *priority == 500));
    }

    #[test]
    fn the_installed_version_is_one_of_them() {
        let all = policy(include_str!("../fixtures/policy.txt"), "dpkg").expect("whole");
        assert_eq!(all["libc6"].versions, [("2.36-9+deb12u14".to_owned(), 100)]);
    }

    #[test]
    fn a_virtual_package_has_no_candidate_and_an_unknown_one_is_missing() {
        let all = policy(include_str!("../fixtures/policy.txt"), "dpkg").expect("whole");
        assert_eq!(all["mail-thing"], Policy::default());
        assert!(!all.contains_key("nope"));
        assert!(all.contains_key("forei:i386") && !all.contains_key("forei"));
    }

    #[test]
    fn what_comes_and_goes_is_read() {
        let transaction = simulation(include_str!("../fixtures/simulate.txt")).expect("understood");
        let install: Vec<(&str, Option<&str>, &str)> =
            transaction.install.iter().map(|i| (i.name.as_str(), i.from.as_deref(), i.to.as_str())).collect();
        assert_eq!(install, [("broken", None, "1.0"), ("conff", Some("1.0"), "1.1"), ("forei:i386", None, "1.0")]);
        assert_eq!(transaction.remove, ["beta", "libm:i386"]);
    }

    #[test]
    fn what_was_cut_short_is_told_from_what_there_is() {
        cut::is_all_or_nothing(include_str!("../fixtures/simulate.txt"), simulation);
        cut::is_all_or_nothing(include_str!("../fixtures/policy.txt"), |text| policy(text, "dpkg"));
        assert!(policy("", "dpkg").is_err(), "nothing was said of anything");
        // Whatever is left of an error, it is one.
        for text in [
            include_str!("../fixtures/essential.txt"),
            include_str!("../fixtures/held.txt"),
            include_str!("../fixtures/downgrade.txt"),
            include_str!("../fixtures/no-remove.txt"),
            include_str!("../fixtures/not-fetched.txt"),
            include_str!("../fixtures/unauthenticated.txt"),
            include_str!("../fixtures/unmet.txt"),
        ] {
            for text in cut::short(text) {
                assert!(!refusal(text, "").why.is_empty(), "{text}");
                assert!(simulation(text).is_err() || text.contains("newly installed"), "{text}");
            }
        }
    }

    #[test]
    fn a_simulation_that_is_not_understood_is_no_simulation() {
        assert!(simulation("Inst alpha\n").is_err());
        assert!(simulation("Inst alpha [1.0]\n").is_err());
        assert!(simulation("Inst alpha 1.0\n").is_err());
        let whole = include_str!("../fixtures/simulate.txt");
        assert!(simulation(&whole.replace("Inst forei", "Cut forei")).is_err());
        assert!(simulation(&whole.replace("Remv beta", "Cut beta")).is_err());
        assert_eq!(
            summary("0 upgraded, 0 newly installed, 1 downgraded, 2 to remove and 3 not upgraded."),
            Some((1, 2))
        );
        // One that was cut short says less than it would do.
        assert!(simulation("").is_err());
        assert!(simulation("Reading package lists...\nBuilding dependency tree...\n").is_err());
    }

    #[test]
    fn the_holder_of_a_lock_is_named() {
        let text = include_str!("../fixtures/lock-frontend.txt");
        assert_eq!(lock_holder(text).as_deref(), Some("unattended-upgr (pid 11776)"));
        let text = include_str!("../fixtures/lock-lists.txt");
        assert_eq!(lock_holder(text).as_deref(), Some("apt-get (pid 11777)"));
        let text = include_str!("../fixtures/lock-dpkg.txt");
        assert_eq!(lock_holder(text).as_deref(), Some("pid 11776"));
        assert_eq!(lock_holder("Reading package lists...\n"), None);
        let waited = "Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7837 (perl)...\n";
        assert_eq!(lock_holder(waited), None);
        let in_vain = format!(
            "{waited}E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?\n"
        );
        assert_eq!(lock_holder(&in_vain).as_deref(), Some("perl (pid 7837)"));
        assert_eq!(refusal("", include_str!("../fixtures/lock-frontend.txt")).reason, "package-lock-held");
    }

    #[test]
    fn a_refusal_says_which_dependency_is_unmet() {
        let fault = refusal(include_str!("../fixtures/unmet.txt"), "");
        assert_eq!(fault.reason, "unresolvable");
        assert_eq!(fault.why, "delta : Depends: nothing-here but it is not installable");
        assert_eq!(fault.remedy, Remedy::Refresh);
    }

    #[test]
    fn refusals_are_told_apart() {
        for (text, reason) in [
            (include_str!("../fixtures/essential.txt"), "protected-package"),
            (include_str!("../fixtures/held.txt"), "package-held"),
            (include_str!("../fixtures/downgrade.txt"), "downgrade-refused"),
            (include_str!("../fixtures/not-fetched.txt"), "download-failed"),
            (include_str!("../fixtures/no-remove.txt"), "removes-undeclared"),
            ("E: Malformed entry 1 in list file /etc/apt/sources.list (Suite)\n", "package-failed"),
            ("E: You don't have enough free space in /var/cache/apt/archives/.\n", "disk-full"),
        ] {
            assert_eq!(refusal(text, "").reason, reason, "{text}");
        }
        assert!(refusal(include_str!("../fixtures/held.txt"), "").why.ends_with("held: alpha"));
        let fault = refusal(
            include_str!("../fixtures/unauthenticated.txt"),
            "E: There were unauthenticated packages and -y was used without --allow-unauthenticated\n",
        );
        // Of these packages: the others can be had.
        assert_eq!((fault.reason, fault.remedy), ("not-authenticated", Remedy::None));
        assert!(fault.why.ends_with(": unsigned") && fault.why.contains("signed"), "{}", fault.why);
    }

    #[test]
    fn an_interrupted_dpkg_and_unmet_dependencies_are_known() {
        assert!(is_interrupted(include_str!("../fixtures/interrupted.txt")));
        assert!(is_unmet(include_str!("../fixtures/fix-broken.txt")));
        assert!(!is_unmet(include_str!("../fixtures/unmet.txt")));
        assert!(!is_interrupted(include_str!("../fixtures/unmet.txt")));
    }

    type Pairs = Vec<(String, String)>;

    /// Who is at fault, and in which words; who waits, and for which of them.
    fn blamed(log: &str) -> (Pairs, Pairs) {
        let blame = blame(log).named(|name| name.trim_end_matches(":all").to_owned());
        let behind = |name: &String| Some((name.clone(), blame.behind(name)?.to_owned()));
        (blame.culprits.clone(), blame.waiting.keys().filter_map(behind).collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(name, why)| ((*name).to_owned(), (*why).to_owned())).collect()
    }

    #[test]
    fn what_others_said_before_is_no_word_of_the_script() {
        let said = "dpkg: error processing archive /srv/a_1_i386.deb (--unpack):\n package architecture (i386) does not match\n";
        for before in [
            "debconf: delaying package configuration, since apt-utils is not installed",
            "(Reading database ... 10055 files)",
        ] {
            let (culprits, _) = blamed(&format!("{before}\n{said}"));
            assert_eq!(culprits, pairs(&[("a:i386", "package architecture (i386) does not match")]));
        }
    }

    #[test]
    fn who_is_at_fault_is_told_from_who_waits_for_them_each_with_the_last_words_of_a_script() {
        let postinst =
            "installed broken package post-installation script subprocess returned error exit status 1: so sorry";
        let log = include_str!("../fixtures/postinst-failed.txt");
        assert_eq!(blamed(log), (pairs(&[("broken", postinst)]), Vec::new()));
        assert_eq!(blamed(&log.replace('\n', "\r\n")), blamed(log));
        // The others of the same unpacking were unpacked, and nothing came after it.
        let preinst = "new badpre package pre-installation script subprocess returned error exit status 1: no entry";
        assert_eq!(blamed(include_str!("../fixtures/preinst-failed.txt")).0, pairs(&[("badpre", preinst)]));
        // What goes goes first: nothing came to its turn.
        let prerm = "installed badprerm package pre-removal script subprocess returned error exit status 1: i stay";
        assert_eq!(blamed(include_str!("../fixtures/prerm-failed.txt")).0, pairs(&[("badprerm", prerm)]));
        let badpost =
            "installed badpost package post-installation script subprocess returned error exit status 1: so sorry";
        let waits = pairs(&[("needspost", "badpost"), ("needstoo", "badpost")]);
        assert_eq!(blamed(include_str!("../fixtures/dependents-failed.txt")), (pairs(&[("badpost", badpost)]), waits));
        let waits = pairs(&[("predeps", "badpost")]);
        assert_eq!(blamed(include_str!("../fixtures/predepends-failed.txt")), (pairs(&[("badpost", badpost)]), waits));
        let overwrites = "trying to overwrite '/srv/fine.txt', which is also in package clash 1.0";
        assert_eq!(blamed(include_str!("../fixtures/overwrites.txt")).0, pairs(&[("hasfile", overwrites)]));
        let trigger =
            "installed indexer package post-installation script subprocess returned error exit status 1: no index";
        assert_eq!(blamed(include_str!("../fixtures/trigger-failed.txt")).0, pairs(&[("indexer", trigger)]));
    }

    #[test]
    fn a_full_disk_is_nobodys_fault_and_a_script_that_talks_of_one_is_its_own() {
        let of_dpkg = "dpkg: error processing archive /srv/12-a_1_all.deb (--unpack):\n cannot copy extracted data for                        './x' to '/x.dpkg-new': failed to write (No space left on device)\n";
        assert!(blame(of_dpkg).is_general);
        assert!(
            !blame(&include_str!("../fixtures/postinst-failed.txt").replace("so sorry", "No space left on device"))
                .is_general
        );
    }

    #[test]
    fn what_has_to_be_configured_before_others_come_or_go_is_known() {
        let first = |text: &str| simulation(text).expect("understood").first;
        assert_eq!(first(include_str!("../fixtures/simulate.txt")), [] as [&str; 0]);
        let text = "0 upgraded, 1 newly installed, 1 to remove and 0 not upgraded.\nConf a (1 x [all])\nRemv b [1]\n\
                    Conf c (1 x [all])\nInst d (1 x [all])\nConf d (1 x [all])\n";
        assert_eq!(first(text), ["a", "c"]);
    }

    #[test]
    fn what_lacks_what_it_depends_on_is_named() {
        assert_eq!(unmet(include_str!("../fixtures/fix-broken.txt")), ["beta"]);
        assert_eq!(unmet(include_str!("../fixtures/simulate.txt")), [] as [&str; 0]);
        let fault = refusal(include_str!("../fixtures/fix-broken.txt"), "");
        assert_eq!((fault.reason, fault.remedy), ("package-failed", Remedy::General), "that may pass");
        assert!(fault.why.ends_with(": beta : Depends: alpha but it is not going to be installed"), "{}", fault.why);
    }
}
