//! Packages of the distribution. The name is the package's own; `foo:i386` is that of a foreign architecture.
//!
//! What satisfies a declaration is never upgraded. All that is to be done is one transaction, simulated
//! first: it is refused where it would take away what no declaration lets go. The story is the same for
//! all package managers, in `converge`; another one is a module beside `apt` and `dnf` that answers what
//! `tool` asks, and its word in `backend`.

mod apt;
mod at_work;
mod backend;
mod blame;
mod converge;
#[cfg(test)]
mod cut;
mod dnf;
mod fault;
mod leftovers;
mod marks;
mod owners;
#[cfg(test)]
mod played;
mod policy;
mod provided;
mod solve;
mod spec;
mod tool;
mod transient;
mod version;
mod work;

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::backend::Backend;
use crate::host::{self, Payloads, Reader, Writer};
use crate::kinds::{Around, Foreseen, Job, Kind, Need, Phase};
use crate::model::{Cause, Change, Id, glob, one_line};

pub use at_work::{nobody_is_at_work, none_of_ours_is_at_work};
pub use owners::{is_working_name, owned, owners};
pub use solve::WOULD_CHANGE_RESTING;
pub use spec::{Downgrade, Spec, Version};
pub use transient::{running, sweep, tell_late};
pub use version::Order;

/// The kind whose word is `package`.
#[derive(Debug)]
pub struct Package;

/// What a look at one package found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Not installed.
    Absent {
        /// Its configuration files were left behind.
        config_files: bool,
    },
    /// Installed, and configured.
    Installed {
        /// As the package manager writes it, epoch included.
        version: String,
        /// Its architecture: `amd64`, `all`.
        architecture: String,
        /// Essential or protected: the system does not do without it.
        essential: bool,
        /// Installed because something else needed it, so that it may go once nothing does.
        automatic: bool,
        /// Kept at its version by the package manager; `None` where this host's cannot keep any.
        held: Option<bool>,
        /// How its versions are ordered.
        order: Order,
    },
    /// Somewhere in between.
    Broken {
        /// The package manager's own word: `half-configured`, `unpacked`, `half-installed`…
        status: String,
        /// Of what is half there; may be empty.
        version: String,
        /// Essential or protected.
        essential: bool,
    },
}

/// What stood there before trueup did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Before {
    /// Not installed.
    Absent,
    /// Installed, or half so.
    Installed {
        /// In this version.
        version: String,
        /// Because something else needed it.
        automatic: bool,
        /// Kept at its version.
        held: bool,
    },
}

/// What a transaction would do, dependencies included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What is installed or replaced, in the package manager's order.
    pub install: Vec<Install>,
    /// The names of what goes.
    pub remove: Vec<String>,
    /// The names of what is configured before something else comes or goes: where that fails the rest is not come to.
    pub first: Vec<String>,
    /// What is refused, and why; it is not part of the transaction.
    pub refused: Vec<Refusal>,
    /// The names of what this index does not know, or cannot satisfy: a fresh one is fetched before it is tried.
    pub undecided: Vec<String>,
    /// What else there is to know of it, one line each.
    pub notes: Vec<String>,
}

impl Transaction {
    /// What it does beside what was asked for, and what of that it refuses.
    fn beside(self, wants: &[(&str, &Spec, &Observed)]) -> Foreseen {
        let place = |name: &str| wants.iter().position(|(wanted, ..)| *wanted == name);
        let listed = |what: &str, names: Vec<String>| {
            (!names.is_empty()).then(|| format!("packages: {what} {}", names.join(", ")))
        };
        let also = self.install.iter().filter(|install| place(&install.name).is_none());
        let also = also.map(|install| format!("{} {}", install.name, install.to)).collect();
        let gone = self.remove.into_iter().filter(|name| place(name).is_none()).collect();
        let refused = self.refused.into_iter().filter_map(|refusal| {
            let error = host::Error::Refused { thing: refusal.name.clone(), reason: refusal.reason, why: refusal.why };
            Some((place(&refusal.name)?, error))
        });
        let notes = self.notes.into_iter().map(|note| format!("packages: {note}"));
        Foreseen {
            notes: listed("also installs", also).into_iter().chain(listed("also removes", gone)).chain(notes).collect(),
            refused: refused.collect(),
        }
    }
}

/// One package that a transaction would install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// Its name, with its architecture where that is a foreign one.
    pub name: String,
    /// The version that is there now.
    pub from: Option<String>,
    /// The version that will be.
    pub to: String,
}

/// A declaration that is not tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The name as declared.
    pub name: String,
    /// The stable reason word.
    pub reason: &'static str,
    /// One line for people.
    pub why: String,
}

/// The system does not do without this package: it is never removed.
pub fn is_protected(seen: &Observed) -> bool {
    match seen {
        Observed::Absent { .. } => false,
        Observed::Installed { essential, .. } | Observed::Broken { essential, .. } => *essential,
    }
}

/// What converging `jobs` (name, wanted, seen) would do, where the packages that are `resting` stay as they are.
/// Nothing is written, not even a cache.
///
/// # Errors
/// Where the package manager cannot tell.
pub fn simulate(
    host: &Reader,
    jobs: &[(&str, &Spec, &Observed)],
    resting: &[&str],
) -> Result<Transaction, host::Error> {
    if !host.is_machine() || jobs.iter().all(|(_, want, seen)| Package::diff(want, seen).is_empty()) {
        return Ok(Transaction::default());
    }
    Backend::of(host)?.simulate(host, jobs, resting)
}

/// Takes away what a pass that was killed left behind to keep services from starting, unless its transaction goes on.
///
/// # Errors
/// Where that cannot be told or done.
pub fn start_services_again(host: &mut Writer) -> Result<(), host::Error> {
    if host.is_machine() { policy::release(host) } else { Ok(()) }
}

/// Fetches the indexes of all package sources. It takes at most a few minutes.
///
/// # Errors
/// Where any source did not answer; the indexes of the others are fresh then. Reason `index-failed`, or
/// `package-lock-held` where somebody else is at work.
pub fn refresh_index(host: &mut Writer) -> Result<(), host::Error> {
    Backend::of(host)?.refresh_index(host)
}

/// What to say of `names` that no package has here and that installed packages provide, one line each.
///
/// # Errors
/// Where the package manager cannot tell.
pub fn provided(host: &Reader, names: &BTreeSet<&str>) -> Result<Vec<String>, host::Error> {
    if !host.is_machine() || names.is_empty() {
        return Ok(Vec::new());
    }
    Ok(provided::told(&Backend::of(host)?.provided(host, names)?))
}

impl Kind for Package {
    const WORD: &'static str = "package";
    type Spec = Spec;
    type Observed = Observed;
    type Before = Before;

    fn describe(want: &Spec) -> String {
        match want {
            Spec::Absent => "absent".to_owned(),
            Spec::Released => "released".to_owned(),
            Spec::Left { .. } => "left as it was before".to_owned(),
            Spec::Present { version: Version::Any, .. } => "present".to_owned(),
            Spec::Present { version: Version::Exact(version), .. } => format!("{version}, held"),
            Spec::Present { version: Version::Glob(pattern), .. } => pattern.clone(),
        }
    }

    fn is_protected(seen: &Observed) -> bool {
        is_protected(seen)
    }

    fn foresee(host: &Reader, jobs: &[Job<'_, Self>], resting: &BTreeSet<Id>) -> Foreseen {
        let wants: Vec<_> = jobs.iter().map(|job| (job.name, job.want, job.seen)).collect();
        match simulate(host, &wants, &names(resting)) {
            Ok(transaction) => transaction.beside(&wants),
            Err(error) => Foreseen {
                notes: vec![format!("packages: cannot be told beforehand: {}", error.chain())],
                refused: Vec::new(),
            },
        }
    }

    fn obstacle(name: &str, want: &Spec, seen: &Observed, cause: Cause) -> Option<host::Error> {
        let (Spec::Present { version, downgrade, .. }, Observed::Installed { version: installed, order, .. }) =
            (want, seen)
        else {
            return None;
        };
        // Which version a pattern comes to is known once the package manager was asked, see `solve`.
        let Version::Exact(wanted) = version else { return None };
        let word = match downgrade {
            Downgrade::Never => "never",
            Downgrade::Intended if cause != Cause::Intended => "intended",
            Downgrade::Intended | Downgrade::Always => return None,
        };
        if order.compare(installed, wanted) != Ordering::Greater {
            return None;
        }
        let why = format!(
            "{installed} is installed, newer than what is declared; downgrade = \"{word}\" does not put the older one back"
        );
        Some(host::Error::Refused { thing: format!("package:{name}"), reason: "downgrade-refused", why })
    }

    fn diff(want: &Spec, seen: &Observed) -> Vec<Change> {
        match (want, seen) {
            (Spec::Absent | Spec::Released, Observed::Absent { .. }) => Vec::new(),
            (Spec::Absent, _) => vec![Change::new("state", state(seen), "absent")],
            // Whether something needs it cannot be told from here; automatic is as far as letting go goes.
            (Spec::Released, Observed::Installed { automatic: true, held: None | Some(false), .. }) => Vec::new(),
            (Spec::Released, _) => vec![Change::new("state", state(seen), "released")],
            (Spec::Left { unhold, automatic }, Observed::Installed { automatic: is_automatic, held, .. }) => {
                let hold = (*unhold && *held == Some(true)).then(|| Change::new("hold", "", "not held"));
                let mark = (*automatic && !is_automatic).then(|| Change::new("mark", "manual", "automatic"));
                hold.into_iter().chain(mark).collect()
            }
            // It is gone, or half so, and that is no longer for us to mend.
            (Spec::Left { .. }, _) => Vec::new(),
            (Spec::Present { version, unhold, .. }, Observed::Installed { version: there, automatic, held, .. }) => {
                let mut changes = Vec::new();
                if !satisfies(version, there) {
                    changes.push(Change::new("version", there, text(version)));
                }
                if matches!(version, Version::Exact(_)) && *held == Some(false) {
                    changes.push(Change::new("hold", "", "held"));
                }
                if *unhold && *held == Some(true) {
                    changes.push(Change::new("hold", "", "not held"));
                }
                // What is declared must not go once nothing else needs it.
                if *automatic {
                    changes.push(Change::new("mark", "automatic", "manual"));
                }
                changes
            }
            (Spec::Present { version, .. }, _) => {
                let mut changes = vec![Change::new("state", state(seen), "installed")];
                if *version != Version::Any {
                    changes.push(Change::new("version", "", text(version)));
                }
                if matches!(version, Version::Exact(_)) {
                    changes.push(Change::new("hold", "", "held"));
                }
                changes
            }
        }
    }

    fn is_absent(seen: &Observed) -> bool {
        matches!(seen, Observed::Absent { .. })
    }

    fn is_begun(want: &Spec, seen: &Observed) -> bool {
        match (want, seen) {
            // The transaction outlives the pass that began it, which marks what it brought.
            (Spec::Present { version, .. }, Observed::Installed { version: there, .. }) => {
                *version != Version::Any && satisfies(version, there)
            }
            (Spec::Present { .. } | Spec::Absent | Spec::Released, Observed::Broken { .. }) => true,
            _ => false,
        }
    }

    fn removes(want: &Spec) -> bool {
        matches!(want, Spec::Absent | Spec::Released)
    }

    fn phase(_name: &str, _want: &Spec, _changes: &[Change]) -> Phase {
        Phase::Packages
    }

    fn needs(_name: &str, _want: &Spec) -> Vec<Need> {
        Vec::new()
    }

    fn before(seen: &Observed) -> Before {
        match seen {
            Observed::Absent { .. } => Before::Absent,
            Observed::Installed { version, automatic, held, .. } => {
                Before::Installed { version: version.clone(), automatic: *automatic, held: *held == Some(true) }
            }
            Observed::Broken { version, .. } => {
                Before::Installed { version: version.clone(), automatic: false, held: false }
            }
        }
    }

    fn after(want: &Spec, last: &Spec, before: Option<&Before>) -> Spec {
        match want {
            Spec::Present { version: version @ (Version::Any | Version::Glob(_)), downgrade, .. } => Spec::Present {
                version: version.clone(),
                downgrade: *downgrade,
                unhold: before.is_some_and(|before| holds(last, before)),
                back: false,
            },
            other => other.clone(),
        }
    }

    fn within(want: &Spec, cause: Cause) -> Spec {
        match want {
            Spec::Present { version, downgrade: Downgrade::Intended, unhold, back } if cause != Cause::Intended => {
                let version = version.clone();
                Spec::Present { version, downgrade: Downgrade::Never, unhold: *unhold, back: *back }
            }
            other => other.clone(),
        }
    }

    fn put_back(before: &Before, last: &Spec) -> Option<Spec> {
        match (before, last) {
            // Ours to let go.
            (Before::Absent, Spec::Present { .. }) => Some(Spec::Released),
            // Ours to put back.
            (Before::Installed { .. }, Spec::Absent | Spec::Released) => Some(Spec::back()),
            (Before::Installed { automatic, .. }, Spec::Present { .. }) => {
                let unhold = holds(last, before);
                (unhold || *automatic).then_some(Spec::Left { unhold, automatic: *automatic })
            }
            (Before::Absent, _) | (Before::Installed { .. }, Spec::Left { .. }) => None,
        }
    }

    fn observe(host: &Reader, names: &[&str]) -> Vec<Result<Observed, host::Error>> {
        if !host.is_machine() {
            return names.iter().map(|name| Err(deferred(name))).collect();
        }
        match Backend::of(host).and_then(|backend| backend.observe(host, names)) {
            Ok(found) => found,
            Err(error) => {
                let why = error.chain();
                names
                    .iter()
                    .map(|name| Err(host::Error::Unknown { thing: one_line(name, 80), why: why.clone() }))
                    .collect()
            }
        }
    }

    fn apply(
        host: &mut Writer,
        _payloads: &Payloads,
        jobs: &[Job<'_, Self>],
        around: &Around<'_>,
    ) -> Vec<Result<(), host::Error>> {
        if !host.is_machine() {
            return jobs.iter().map(|job| Err(deferred(job.name))).collect();
        }
        match Backend::of(host) {
            Ok(backend) => {
                let withheld: Vec<&str> = around.withheld.iter().map(String::as_str).collect();
                backend.apply(host, jobs, &names(around.resting), &withheld)
            }
            Err(error) => {
                let why = error.chain();
                jobs.iter()
                    .map(|job| Err(host::Error::Unknown { thing: one_line(job.name, 80), why: why.clone() }))
                    .collect()
            }
        }
    }
}

/// Whether `last` keeps the package at its version, which nobody did before us.
fn holds(last: &Spec, before: &Before) -> bool {
    matches!(last, Spec::Present { version: Version::Exact(_), .. })
        && !matches!(before, Before::Installed { held: true, .. })
}

/// The names of those that are packages.
fn names(ids: &BTreeSet<Id>) -> Vec<&str> {
    ids.iter().filter(|id| id.kind() == Package::WORD).map(Id::name).collect()
}

fn deferred(name: &str) -> host::Error {
    host::Error::Refused {
        thing: one_line(name, 80),
        reason: "deferred",
        why: "packages are not installed into a directory".to_owned(),
    }
}

/// Whether a package of version `there` is what `want` asks for.
fn satisfies(want: &Version, there: &str) -> bool {
    match want {
        Version::Any => true,
        Version::Exact(version) => version == there,
        Version::Glob(pattern) => glob::matches(pattern, there),
    }
}

fn text(version: &Version) -> &str {
    match version {
        Version::Any => "any",
        Version::Exact(text) | Version::Glob(text) => text,
    }
}

fn state(seen: &Observed) -> &str {
    match seen {
        Observed::Absent { .. } => "absent",
        Observed::Installed { .. } => "installed",
        Observed::Broken { status, .. } => status,
    }
}

#[cfg(test)]
mod tests {
    use super::dnf::Spoken;
    use super::*;

    fn installed(version: &str) -> Observed {
        Observed::Installed {
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            essential: false,
            automatic: false,
            held: Some(false),
            order: Order::Deb,
        }
    }

    fn automatic(version: &str, is_held: bool) -> Observed {
        let mut seen = installed(version);
        if let Observed::Installed { automatic, held, .. } = &mut seen {
            (*automatic, *held) = (true, Some(is_held));
        }
        seen
    }

    fn held(version: &str) -> Observed {
        let mut seen = installed(version);
        if let Observed::Installed { held, .. } = &mut seen {
            *held = Some(true);
        }
        seen
    }

    fn half() -> Observed {
        Observed::Broken { status: "half-configured".to_owned(), version: "1.0".to_owned(), essential: false }
    }

    fn present(version: Version) -> Spec {
        Spec::present(version, Downgrade::default())
    }

    fn exact(version: &str) -> Spec {
        present(Version::Exact(version.to_owned()))
    }

    fn changes(want: &Spec, seen: &Observed) -> Vec<String> {
        Package::diff(want, seen).iter().map(ToString::to_string).collect()
    }

    const GONE: Observed = Observed::Absent { config_files: false };
    const REST: Observed = Observed::Absent { config_files: true };

    #[test]
    fn a_newer_version_is_replaced_only_as_the_declaration_allows() {
        let obstacle = |version, downgrade, cause| {
            Package::obstacle("p", &Spec::present(version, downgrade), &installed("2.0"), cause).is_some()
        };
        let exact = || Version::Exact("1.0".to_owned());
        assert!(obstacle(exact(), Downgrade::Never, Cause::Intended));
        assert!(!obstacle(exact(), Downgrade::Intended, Cause::Intended));
        assert!(obstacle(exact(), Downgrade::Intended, Cause::Corrective));
        assert!(!obstacle(exact(), Downgrade::Always, Cause::Corrective));
        // Which version a pattern comes to is not known before the package manager was asked.
        for pattern in ["1.*", "*.0-1", "2.*", "2.0*1"] {
            assert!(!obstacle(Version::Glob(pattern.to_owned()), Downgrade::Never, Cause::Corrective), "{pattern}");
        }
        assert!(!obstacle(Version::Exact("3.0".to_owned()), Downgrade::Never, Cause::Corrective));
        assert!(!obstacle(Version::Any, Downgrade::Never, Cause::Corrective));
    }

    #[test]
    fn present_is_satisfied_by_any_version_and_a_hold_is_left_alone() {
        assert!(changes(&present(Version::Any), &installed("1.0")).is_empty());
        assert!(changes(&present(Version::Any), &held("1.0")).is_empty());
        assert_eq!(changes(&present(Version::Any), &GONE), ["absent → installed"]);
        assert_eq!(changes(&present(Version::Any), &REST), ["absent → installed"]);
        assert_eq!(changes(&present(Version::Any), &half()), ["half-configured → installed"]);
    }

    #[test]
    fn what_is_declared_is_not_automatic() {
        assert_eq!(changes(&present(Version::Any), &automatic("1.0", false)), ["mark automatic → manual"]);
    }

    #[test]
    fn an_exact_version_is_that_version_and_held() {
        assert!(changes(&exact("1.0"), &held("1.0")).is_empty());
        assert_eq!(changes(&exact("1.0"), &installed("1.0")), ["held"]);
        assert_eq!(changes(&exact("1.1"), &held("1.0")), ["1.0 → 1.1"]);
        assert_eq!(changes(&exact("1.1"), &GONE), ["absent → installed", "version 1.1", "held"]);
    }

    #[test]
    fn where_nothing_can_be_held_an_exact_version_is_only_that_version() {
        let mut seen = installed("1.0");
        if let Observed::Installed { held, order, .. } = &mut seen {
            (*held, *order) = (None, Order::Rpm);
        }
        assert!(changes(&exact("1.0"), &seen).is_empty());
        assert_eq!(changes(&exact("1.1"), &seen), ["1.0 → 1.1"]);
        assert_eq!(changes(&Spec::Released, &seen), ["installed → released"]);
        assert_eq!(
            Package::before(&seen),
            Before::Installed { version: "1.0".to_owned(), automatic: false, held: false }
        );
    }

    #[test]
    fn what_is_newer_is_told_by_the_rules_of_the_package_manager() {
        let never = Spec::present(Version::Exact("1.0^git1-1".to_owned()), Downgrade::Never);
        let is_refused = |rules| {
            let mut seen = installed("1.0-1");
            if let Observed::Installed { order, .. } = &mut seen {
                *order = rules;
            }
            Package::obstacle("p", &never, &seen, Cause::Intended).is_some()
        };
        assert!(!is_refused(Order::Rpm), "a caret is newer");
        assert!(!is_refused(Order::Deb));
        let text = |a: &str, b: &str| (Order::Deb.compare(a, b), Order::Rpm.compare(a, b));
        assert_eq!(text("1.0a", "1.0.1"), (Ordering::Less, Ordering::Less));
        assert_eq!(text("1.0+1", "1.0.1"), (Ordering::Less, Ordering::Equal));
    }

    #[test]
    fn what_a_transaction_brought_and_nobody_marked_yet_is_begun() {
        assert!(Package::is_begun(&exact("1.1"), &installed("1.1")) && Package::is_begun(&exact("1.1"), &half()));
        assert!(Package::is_begun(&present(Version::Glob("1.*".to_owned())), &automatic("1.1", true)));
        assert!(Package::is_begun(&Spec::Absent, &half()));
        for (want, seen) in [(exact("1.1"), installed("1.0")), (exact("1.1"), GONE), (Spec::Absent, installed("1.0"))] {
            assert!(!Package::is_begun(&want, &seen), "{want:?} {seen:?}");
        }
        assert!(!Package::is_begun(&present(Version::Any), &installed("1.0")), "that says nothing");
    }

    #[test]
    fn a_glob_is_satisfied_by_what_matches_it() {
        let want = present(Version::Glob("1.22.*".to_owned()));
        assert!(changes(&want, &installed("1.22.1-9")).is_empty());
        assert_eq!(changes(&want, &installed("1.24.0")), ["1.24.0 → 1.22.*"]);
    }

    #[test]
    fn configuration_files_left_behind_are_absence() {
        assert!(changes(&Spec::Absent, &REST).is_empty());
        assert!(Package::is_absent(&REST));
        assert_eq!(changes(&Spec::Absent, &installed("1.0")), ["installed → absent"]);
        assert_eq!(changes(&Spec::Absent, &half()), ["half-configured → absent"]);
    }

    #[test]
    fn letting_go_ends_with_absent_or_automatic_and_unheld() {
        assert!(changes(&Spec::Released, &GONE).is_empty());
        assert!(changes(&Spec::Released, &automatic("1.0", false)).is_empty());
        assert_eq!(changes(&Spec::Released, &automatic("1.0", true)), ["installed → released"]);
        assert_eq!(changes(&Spec::Released, &installed("1.0")), ["installed → released"]);
    }

    #[test]
    fn a_package_that_was_there_before_stays_and_one_of_ours_is_let_go() {
        let there = Package::before(&installed("1.0"));
        assert_eq!(Package::put_back(&there, &present(Version::Any)), None);
        assert_eq!(Package::put_back(&there, &Spec::Absent), Some(Spec::back()));
        assert_eq!(Package::put_back(&there, &present(Version::Glob("1.*".to_owned()))), None);
        let gone = Package::before(&REST);
        assert_eq!(Package::put_back(&gone, &exact("1.0")), Some(Spec::Released));
        assert_eq!(Package::put_back(&gone, &Spec::Absent), None);
    }

    #[test]
    fn what_cannot_be_put_back_for_good_stays_away_and_nothing_that_is_declared_does() {
        for reason in ["removes-undeclared", "no-such-package", "unresolvable", "package-held"] {
            assert!(Spec::back().stays_away(reason), "{reason}");
            assert!(!present(Version::Any).stays_away(reason), "{reason}");
        }
        // A mirror that is away, a lock, a full disk, a script that failed, what is suspended: tried again.
        for reason in
            ["download-failed", "index-failed", "package-lock-held", "disk-full", "package-failed", "package-suspended"]
        {
            assert!(!Spec::back().stays_away(reason), "{reason}");
        }
    }

    #[test]
    fn a_hold_and_a_mark_that_were_ours_go_with_their_declaration() {
        let left = |unhold, automatic| Some(Spec::Left { unhold, automatic });
        let back = |before: &Observed, last: &Spec| Package::put_back(&Package::before(before), last);
        assert_eq!(back(&installed("1.0"), &exact("1.0")), left(true, false));
        assert_eq!(back(&automatic("1.0", false), &exact("1.0")), left(true, true));
        assert_eq!(back(&automatic("1.0", true), &exact("1.0")), left(false, true));
        assert_eq!(back(&held("1.0"), &exact("1.0")), None);
        assert_eq!(back(&automatic("1.0", false), &present(Version::Any)), left(false, true));
        let want = Spec::Left { unhold: true, automatic: true };
        assert_eq!(changes(&want, &held("1.0")), ["not held", "mark manual → automatic"]);
        assert!(changes(&want, &automatic("1.0", false)).is_empty());
        assert!(changes(&want, &GONE).is_empty() && changes(&want, &half()).is_empty());
    }

    #[test]
    fn what_follows_an_exact_version_is_not_held_unless_it_was_before() {
        let after = |want: &Spec, last: &Spec, before: &Observed| {
            changes(&Package::after(want, last, Some(&Package::before(before))), &held("1.0"))
        };
        for want in [present(Version::Any), present(Version::Glob("1.*".to_owned()))] {
            assert_eq!(after(&want, &exact("1.0"), &installed("1.0")), ["not held"]);
            assert_eq!(after(&want, &exact("1.0"), &GONE), ["not held"]);
            assert!(after(&want, &exact("1.0"), &held("1.0")).is_empty(), "somebody else's");
            assert!(after(&want, &want, &installed("1.0")).is_empty(), "somebody else's since");
            assert_eq!(Package::after(&want, &exact("1.0"), None), want, "adopted as it was");
        }
        assert_eq!(Package::after(&exact("1.1"), &exact("1.0"), Some(&Before::Absent)), exact("1.1"));
        let text = serde_json::to_string(&present(Version::Any)).expect("plain data");
        assert!(!text.contains("unhold"), "{text}");
    }

    #[test]
    fn what_a_hand_upgraded_is_not_downgraded_where_only_an_intention_may() {
        let never = Spec::present(Version::Glob("1.*".to_owned()), Downgrade::Never);
        let intended = present(Version::Glob("1.*".to_owned()));
        assert_eq!(Package::within(&intended, Cause::Corrective), never);
        assert_eq!(Package::within(&intended, Cause::Intended), intended);
        let always = Spec::present(Version::Any, Downgrade::Always);
        assert_eq!(Package::within(&always, Cause::Corrective), always);
    }

    #[test]
    fn before_is_written_as_it_was_and_read_again() {
        let before = Package::before(&held("1.0"));
        let json = serde_json::to_string(&before).expect("plain data");
        assert_eq!(json, r#"{"state":"installed","version":"1.0","automatic":false,"held":true}"#);
        assert_eq!(serde_json::from_str::<Before>(&json).expect("as written"), before);
        assert_eq!(serde_json::from_str::<Before>(r#"{"state":"absent"}"#).expect("as documented"), Before::Absent);
    }

    #[test]
    fn a_directory_defers_every_package() {
        let directory = tempfile::tempdir().expect("a directory");
        let host = Reader::directory(directory.path()).expect("a directory");
        for answer in Package::observe(&host, &["a", "b"]) {
            let error = answer.expect_err("deferred");
            assert_eq!(error.reason(), "deferred");
        }
    }

    fn host_with(os_release: &str, programs: &[&str]) -> (tempfile::TempDir, Reader) {
        let directory = tempfile::tempdir().expect("a directory");
        let host = Reader::directory(directory.path()).expect("a directory");
        for program in programs {
            let path = directory.path().join(program.trim_start_matches('/'));
            std::fs::DirBuilder::new().recursive(true).create(path).expect("made");
        }
        std::fs::DirBuilder::new().recursive(true).create(directory.path().join("etc")).expect("made");
        host::write_new(&directory.path().join("etc/os-release"), os_release.as_bytes()).expect("written");
        (directory, host)
    }

    const APT: [&str; 2] = ["/usr/bin/dpkg", "/usr/bin/apt-get"];
    const DNF: [&str; 2] = ["/usr/bin/dnf-3", "/usr/bin/rpm"];
    const DNF5: [&str; 2] = ["/usr/bin/dnf5", "/usr/bin/rpm"];

    #[test]
    fn facts_choose_the_package_manager() {
        let both = [&APT[..], &DNF[..]].concat();
        for (os_release, programs, backend) in [
            ("ID=debian\n", &both[..], Backend::Apt),
            ("ID=ubuntu\nID_LIKE=debian\n", &APT, Backend::Apt),
            ("ID=fedora\n", &both, Backend::Dnf(Spoken::Four)),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", &DNF, Backend::Dnf(Spoken::Four)),
            ("ID=fedora\n", &DNF5, Backend::Dnf(Spoken::Five)),
            // Of a family that nobody knows, what is there has to do.
            ("ID=newcomer\n", &DNF5, Backend::Dnf(Spoken::Five)),
            ("ID=newcomer\n", &DNF, Backend::Dnf(Spoken::Four)),
            ("ID=newcomer\n", &APT, Backend::Apt),
        ] {
            let (_directory, host) = host_with(os_release, programs);
            assert_eq!(Backend::of(&host).expect(os_release), backend, "{os_release}");
        }
    }

    #[test]
    fn of_two_dnf_the_one_that_the_system_itself_uses_is_spoken_to() {
        let all = ["/usr/bin/dnf-3", "/usr/bin/dnf5", "/usr/bin/rpm"];
        for (own, spoken) in [
            (Some("dnf5"), Spoken::Five),
            (Some("dnf-3"), Spoken::Four),
            (Some("/usr/bin/dnf-3"), Spoken::Four),
            // A program that is neither, or none at all.
            (Some("/opt/dnf"), Spoken::Five),
            (None, Spoken::Five),
        ] {
            let (_directory, host) = host_with("ID=fedora\n", &all);
            if let Some(own) = own {
                let mut host =
                    Writer::take(Reader::directory(&host.below_root("/")).expect("a directory")).expect("alone");
                host.make_symlink("/usr/bin/dnf", own, host::Attributes::default(), host::Over::Nothing).expect("made");
            }
            assert_eq!(Backend::of(&host).expect("one of them"), Backend::Dnf(spoken), "{own:?}");
        }
        // Where it leads to one that is not there the other has to do.
        let (_directory, host) = host_with("ID=fedora\n", &DNF);
        let mut writer = Writer::take(Reader::directory(&host.below_root("/")).expect("a directory")).expect("alone");
        writer.make_symlink("/usr/bin/dnf", "dnf5", host::Attributes::default(), host::Over::Nothing).expect("made");
        assert_eq!(Backend::of(&host).expect("the other"), Backend::Dnf(Spoken::Four));
    }

    #[test]
    fn an_unknown_package_manager_is_named() {
        for (os_release, programs, said) in [
            ("ID=debian\n", &[][..], "apt-get or dpkg"),
            ("ID=debian\n", &DNF, "apt-get or dpkg"),
            ("ID=fedora\n", &APT, "neither dnf5 nor dnf-3"),
            ("ID=fedora\n", &["/usr/bin/dnf5"], "or no rpm"),
            ("ID=fedora\n", &["/usr/bin/dnf", "/usr/bin/rpm"], "neither dnf5 nor dnf-3"),
            ("ID=opensuse-leap\n", &["/usr/bin/zypper", "/usr/bin/rpm"], "zypper and rpm are not supported yet"),
            ("ID=alpine\n", &["/sbin/apk"], "apk are not supported yet"),
            ("ID=newcomer\n", &[], "no package manager"),
        ] {
            let (_directory, host) = host_with(os_release, programs);
            let error = Backend::of(&host).expect_err(os_release);
            assert_eq!(error.reason(), "cannot-tell", "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
