//! From what is wanted to one transaction that the package manager can do. Pure, but for the question that
//! it is handed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::fault::{Fault, Remedy};
use super::version::Order;
use super::{Downgrade, Observed, Spec, Transaction, Version, is_protected, satisfies};
use crate::model::{glob, one_line};

/// The versions of one package that could be installed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What the package manager would choose.
    pub candidate: Option<String>,
    /// All, with their priorities; see apt_preferences(5).
    pub versions: Vec<(String, i32)>,
}

/// What a package manager's names and versions are like.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How its versions are ordered.
    pub order: Order,
    /// A name, with an architecture perhaps: nothing that a program would take for an option, a pattern or a
    /// wish to remove.
    pub is_name: fn(&str) -> bool,
}

/// The word for what would change a package that is suspended or contested.
pub const WOULD_CHANGE_RESTING: &str = "package-suspended";

/// One declaration that does not hold.
#[derive(Debug)]
pub struct Open<'a> {
    /// Which job.
    pub index: usize,
    /// The name as the package manager prints it.
    pub name: &'a str,
    /// What is wanted.
    pub want: &'a Spec,
    /// What is there now.
    pub seen: Observed,
    /// It is held, which one may also do to a package that is not installed.
    pub held: bool,
}

/// What to ask of the package manager for one declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Which job.
    pub index: usize,
    /// The name as the package manager prints it.
    pub name: String,
    /// What to do.
    pub action: Action,
    /// The package is held, and is to change nevertheless.
    pub held: bool,
}

/// What to do with one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Install it, the package manager's own candidate where no version is said; `downgrade`: an older one than is there.
    Install { version: Option<String>, downgrade: bool },
    /// Remove it.
    Remove,
    /// Remove it, unless something needs it.
    Release,
}

impl Task {
    /// It puts an older version in place of a newer one.
    pub fn is_downgrade(&self) -> bool {
        matches!(self.action, Action::Install { downgrade: true, .. })
    }

    /// It takes a package away.
    pub fn takes_away(&self) -> bool {
        matches!(self.action, Action::Remove | Action::Release)
    }
}

/// What to ask of the package manager for `open`; `None` where marking what is installed is all.
pub fn task(open: &Open<'_>, policies: &HashMap<String, Policy>, rules: Rules) -> Result<Option<Task>, Fault> {
    let task = |action| Ok(Some(Task { index: open.index, name: open.name.to_owned(), action, held: open.held }));
    match (open.want, &open.seen) {
        (Spec::Absent | Spec::Released, Observed::Absent { .. }) | (Spec::Left { .. }, _) => Ok(None),
        (Spec::Absent, seen) if is_protected(seen) => {
            Err(Fault::new("protected-package", "it is essential or protected, and is never removed"))
        }
        // It goes no further than `automatic`.
        (Spec::Released, seen) if is_protected(seen) => Ok(None),
        (Spec::Absent, _) => task(Action::Remove),
        (Spec::Released, _) => task(Action::Release),
        (Spec::Present { version, .. }, Observed::Installed { version: there, .. }) if satisfies(version, there) => {
            Ok(None)
        }
        (Spec::Present { version, downgrade, .. }, seen) => {
            if !(rules.is_name)(open.name) {
                let why = format!("{} cannot be the name of a package", one_line(open.name, 80));
                return Err(Fault::new("no-such-package", why));
            }
            let version = choose(open.name, version, policies, rules.order)?;
            let older = matches!((seen, &version),
                (Observed::Installed { version: there, .. } | Observed::Broken { version: there, .. }, Some(version))
                    if rules.order.compare(version, there) == Ordering::Less);
            if older && *downgrade == Downgrade::Never {
                let version = version.as_deref().unwrap_or_default();
                let why = format!(
                    "what is installed is newer than {version}, and `downgrade` does not put that in its place"
                );
                return Err(Fault::new("downgrade-refused", why));
            }
            task(Action::Install { version, downgrade: older })
        }
    }
}

/// The version to install: by apt's own rule, the highest priority and of these the newest, where several
/// would do.
fn choose(
    name: &str,
    want: &Version,
    policies: &HashMap<String, Policy>,
    order: Order,
) -> Result<Option<String>, Fault> {
    let missing = |why: String| Fault::new("no-such-package", why).with(Remedy::Refresh);
    let Some(policy) = policies.get(name) else {
        let start = format!("{name}:");
        return Err(missing(match policies.keys().find(|other| other.starts_with(&start)) {
            Some(other) => format!("there is only {other}; declare that name to have it"),
            None => "no package source has a package of this name".to_owned(),
        }));
    };
    let matching = policy
        .versions
        .iter()
        .filter(|(version, priority)| match want {
            Version::Any => policy.candidate.is_some(),
            Version::Exact(exact) => version == exact,
            Version::Glob(pattern) => *priority >= 0 && glob::matches(pattern, version),
        })
        .max_by(|(a, a_priority), (b, b_priority)| a_priority.cmp(b_priority).then_with(|| order.compare(a, b)));
    match (want, matching) {
        (Version::Any, Some(_)) => Ok(None),
        (_, Some((version, _))) => Ok(Some(version.clone())),
        _ if policy.versions.is_empty() => {
            Err(missing("no package source has it; the name is a virtual or a former one".to_owned()))
        }
        (Version::Any, None) => Err(missing("the preferences of this host allow none of its versions".to_owned())),
        (Version::Exact(wanted) | Version::Glob(wanted), None) => {
            let there: Vec<&str> = policy.versions.iter().map(|(version, _)| version.as_str()).collect();
            let (wanted, there) = (one_line(wanted, 80), one_line(&there.join(", "), 200));
            let why = format!("no package source has version {wanted}; available: {there}");
            Err(Fault::new("no-such-version", why).with(Remedy::Refresh))
        }
    }
}

/// What a transaction may do beside its tasks.
pub struct Limits<'a> {
    /// The names that are declared absent or let go: these may go.
    pub may_go: &'a BTreeSet<String>,
    /// The names that are suspended or contested: these are neither installed nor changed nor removed.
    pub resting: &'a BTreeSet<String>,
    /// Those that were at fault for what a transaction before this one did not get through: these are not touched again,
    /// and what cannot do without is told so. By name, with what to say.
    pub failed: &'a BTreeMap<String, String>,
    /// Whether the package manager keeps a package as it is.
    pub is_held: &'a dyn Fn(&str) -> bool,
}

/// Whether a simulated transaction keeps to what was declared: nothing else goes, nothing held or resting changes,
/// nothing is replaced by something older.
pub fn judge(
    transaction: &Transaction,
    tasks: &[&Task],
    order: Order,
    Limits { may_go, resting, failed, is_held }: &Limits<'_>,
) -> Result<(), Fault> {
    let listed = |names: &[&str]| one_line(&names.join(", "), 300);
    let gone: Vec<&str> = transaction.remove.iter().map(String::as_str).collect();
    let installed = transaction.install.iter().map(|install| install.name.as_str());
    let first = transaction.first.iter().map(String::as_str);
    if let Some(why) = installed.clone().chain(gone.iter().copied()).chain(first).find_map(|name| failed.get(name)) {
        return Err(Fault::new("package-failed", why.as_str()));
    }
    let rest: Vec<&str> = installed.chain(gone.iter().copied()).filter(|name| resting.contains(*name)).collect();
    if !rest.is_empty() {
        let why = format!("that would change what is suspended or contested: {}", listed(&rest));
        return Err(Fault::new(WOULD_CHANGE_RESTING, why));
    }
    let undeclared: Vec<&str> = gone.iter().copied().filter(|name| !may_go.contains(*name)).collect();
    if !undeclared.is_empty() {
        let what = listed(&undeclared);
        let why = format!("that would also remove {what}, which is not declared absent");
        return Err(Fault::new("removes-undeclared", why));
    }
    let task_of = |name: &str| tasks.iter().find(|task| task.name == name);
    let changes = transaction.install.iter().map(|install| install.name.as_str());
    // What is declared absent may go although held: the declaration says so.
    let held: Vec<&str> =
        changes.filter(|name| is_held(name) && !task_of(name).is_some_and(|task| task.held)).collect();
    if !held.is_empty() {
        return Err(Fault::new("package-held", format!("that would change what is held: {}", listed(&held))));
    }
    let older = transaction.install.iter().find(|install| {
        install.from.as_ref().is_some_and(|from| order.compare(&install.to, from) == Ordering::Less)
            && !task_of(&install.name).is_some_and(|task| task.is_downgrade())
    });
    match older {
        Some(install) => {
            let why = format!("that would put an older version in place of {}", one_line(&install.name, 80));
            Err(Fault::new("downgrade-refused", why))
        }
        None => Ok(()),
    }
}

/// What of the tasks can be done together.
#[derive(Debug, Default)]
pub struct Settled<'t> {
    /// These.
    pub accepted: Vec<&'t Task>,
    /// What they come to.
    pub transaction: Transaction,
    /// Not these, and why.
    pub failed: Vec<(&'t Task, Fault)>,
}

/// Finds the tasks that `ask` allows together, asking as little as it can: all at once, and only where
/// that is refused by halves, so that one impossible package does not keep the others out.
pub fn settle<'t>(
    tasks: impl IntoIterator<Item = &'t Task>,
    mut ask: impl FnMut(&[&Task]) -> Result<Transaction, Fault>,
) -> Result<Settled<'t>, Fault> {
    let mut all: Vec<&Task> = tasks.into_iter().collect();
    // What is let go comes last: it gives way to what is wanted.
    all.sort_by_key(|task| (task.action == Action::Release, task.takes_away()));
    let mut settled = Settled::default();
    add(&mut settled, &all, &mut ask)?;
    // What was refused for want of something that was accepted after it.
    let again = std::mem::take(&mut settled.failed);
    let last = settled.accepted.last().map(|task| all.iter().position(|other| other == task));
    for (task, fault) in again {
        let at = all.iter().position(|other| *other == task);
        if last.is_some_and(|last| at < last) {
            add(&mut settled, &[task], &mut ask)?;
        } else {
            settled.failed.push((task, fault));
        }
    }
    Ok(settled)
}

fn add<'t>(
    settled: &mut Settled<'t>,
    tasks: &[&'t Task],
    ask: &mut impl FnMut(&[&Task]) -> Result<Transaction, Fault>,
) -> Result<(), Fault> {
    if tasks.is_empty() {
        return Ok(());
    }
    let together: Vec<&Task> = settled.accepted.iter().chain(tasks).copied().collect();
    match ask(&together) {
        Ok(transaction) => {
            settled.transaction = transaction;
            settled.accepted.extend(tasks);
            Ok(())
        }
        Err(fault) if fault.remedy == Remedy::General => Err(fault),
        Err(fault) if tasks.len() == 1 => {
            settled.failed.push((tasks[0], fault));
            Ok(())
        }
        Err(_) => {
            let (left, right) = tasks.split_at(tasks.len() / 2);
            add(settled, left, ask)?;
            add(settled, right, ask)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::{apt, tool::Tool};
    use super::*;
    use crate::kinds::package::Install;

    /// What a package source has.
    fn policies() -> HashMap<String, Policy> {
        let of = |versions: &[&str]| Policy {
            candidate: versions.first().map(|version| (*version).to_owned()),
            versions: versions.iter().map(|version| ((*version).to_owned(), 500)).collect(),
        };
        let known = [
            ("alpha", of(&["2:2.0-1", "1.1-2+deb12u1", "1.1-1", "1.0-1"])),
            ("mail-thing", of(&[])),
            ("forei:i386", of(&["1.0"])),
        ];
        known.into_iter().map(|(name, policy)| (name.to_owned(), policy)).collect()
    }

    fn present(version: Version, downgrade: Downgrade) -> Spec {
        Spec::present(version, downgrade)
    }

    fn installed(version: &str, is_essential: bool) -> Observed {
        Observed::Installed {
            version: version.to_owned(),
            architecture: "all".to_owned(),
            essential: is_essential,
            automatic: false,
            held: Some(false),
            order: Order::Deb,
        }
    }

    fn shown(task: &Task) -> String {
        match &task.action {
            Action::Install { version: Some(version), .. } => format!("{}={version}", task.name),
            Action::Install { version: None, .. } => task.name.clone(),
            Action::Remove | Action::Release => format!("{}-", task.name),
        }
    }

    fn ask_for(name: &str, want: &Spec, seen: Observed) -> Result<Option<String>, Fault> {
        let found = task(&Open { index: 0, name, want, seen, held: false }, &policies(), apt::Apt::RULES)?;
        Ok(found.map(|task| format!("{}{}", shown(&task), if task.is_downgrade() { " (downgrade)" } else { "" })))
    }

    fn version(version: Version) -> Result<Option<String>, Fault> {
        let gone = Observed::Absent { config_files: false };
        ask_for("alpha", &present(version, Downgrade::Intended), gone)
    }

    #[test]
    fn a_glob_becomes_the_newest_version_that_matches() {
        assert_eq!(version(Version::Glob("1.*".to_owned())), Ok(Some("alpha=1.1-2+deb12u1".to_owned())));
        assert_eq!(version(Version::Exact("1.0-1".to_owned())), Ok(Some("alpha=1.0-1".to_owned())));
        assert_eq!(version(Version::Any), Ok(Some("alpha".to_owned())));
    }

    #[test]
    fn whether_a_glob_is_older_is_told_by_the_version_that_it_comes_to() {
        let ask = |pattern: &str, there| {
            let want = present(Version::Glob(pattern.to_owned()), Downgrade::Never);
            ask_for("alpha", &want, installed(there, false))
        };
        // Newer than the pattern's own beginning, and yet older than what it stands for.
        assert_eq!(ask("1.1-2*", "1.1-1x"), Ok(Some("alpha=1.1-2+deb12u1".to_owned())));
        assert_eq!(ask("*deb12*", "1.0-1"), Ok(Some("alpha=1.1-2+deb12u1".to_owned())));
        assert_eq!(ask("1.?-*", "2:1.0-1").expect_err("older").reason, "downgrade-refused");
        assert_eq!(ask("*deb12*", "2:2.0-1").expect_err("older").reason, "downgrade-refused");
    }

    #[test]
    fn a_version_that_is_not_there_names_those_that_are() {
        for wanted in [Version::Exact("9".to_owned()), Version::Glob("9.*".to_owned())] {
            let fault = version(wanted).expect_err("not there");
            assert_eq!((fault.reason, fault.remedy), ("no-such-version", Remedy::Refresh));
            assert!(fault.why.ends_with("available: 2:2.0-1, 1.1-2+deb12u1, 1.1-1, 1.0-1"), "{}", fault.why);
        }
    }

    #[test]
    fn a_name_without_a_package_is_refused() {
        let any = present(Version::Any, Downgrade::Intended);
        let gone = || Observed::Absent { config_files: false };
        for (name, said) in [("nope", "no package source"), ("mail-thing", "virtual"), ("forei", "only forei:i386")] {
            let fault = ask_for(name, &any, gone()).expect_err(name);
            assert_eq!((fault.reason, fault.remedy), ("no-such-package", Remedy::Refresh), "{name}");
            assert!(fault.why.contains(said), "{}", fault.why);
        }
        let fault = ask_for("--purge", &any, gone()).expect_err("an option");
        assert_eq!((fault.reason, fault.remedy), ("no-such-package", Remedy::None));
    }

    #[test]
    fn a_downgrade_is_allowed_unless_it_is_never() {
        let older = || Version::Exact("1.0-1".to_owned());
        let seen = || installed("1.1-1", false);
        assert_eq!(
            ask_for("alpha", &present(older(), Downgrade::Intended), seen()),
            Ok(Some("alpha=1.0-1 (downgrade)".to_owned()))
        );
        let fault = ask_for("alpha", &present(older(), Downgrade::Never), seen()).expect_err("never");
        assert_eq!(fault.reason, "downgrade-refused");
        let newer = present(Version::Exact("2:2.0-1".to_owned()), Downgrade::Never);
        assert_eq!(ask_for("alpha", &newer, seen()), Ok(Some("alpha=2:2.0-1".to_owned())));
    }

    #[test]
    fn what_is_essential_is_not_removed() {
        assert_eq!(ask_for("alpha", &Spec::Absent, installed("1", false)), Ok(Some("alpha-".to_owned())));
        assert_eq!(
            ask_for("alpha", &Spec::Absent, installed("1", true)).expect_err("essential").reason,
            "protected-package"
        );
        assert_eq!(ask_for("alpha", &Spec::Released, installed("1", true)), Ok(None));
    }

    fn install(name: &str, from: Option<&str>, to: &str) -> Install {
        Install { name: name.to_owned(), from: from.map(str::to_owned), to: to.to_owned() }
    }

    fn some(index: usize, name: &str, action: Action) -> Task {
        Task { index, name: name.to_owned(), action, held: false }
    }

    fn fresh(index: usize, name: &str) -> Task {
        some(index, name, Action::Install { version: None, downgrade: false })
    }

    #[test]
    fn nothing_undeclared_is_removed() {
        let wants = [some(0, "alpha", Action::Remove)];
        let tasks: Vec<&Task> = wants.iter().collect();
        let transaction = Transaction { remove: vec!["beta".to_owned(), "alpha".to_owned()], ..Transaction::default() };
        let declared = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let judged = |names: &[&str]| {
            let limits = Limits {
                may_go: &declared(names),
                resting: &BTreeSet::new(),
                failed: &BTreeMap::new(),
                is_held: &|_| false,
            };
            judge(&transaction, &tasks, Order::Deb, &limits)
        };
        let fault = judged(&["alpha"]).expect_err("beta");
        assert_eq!(fault.reason, "removes-undeclared");
        assert!(fault.why.contains("remove beta,"), "{}", fault.why);
        assert_eq!(judged(&["alpha", "beta"]), Ok(()));
    }

    #[test]
    fn what_somebody_holds_or_has_newer_is_not_changed_along_the_way() {
        let wants = [fresh(0, "beta")];
        let tasks: Vec<&Task> = wants.iter().collect();
        let none = BTreeSet::new();
        let failed = BTreeMap::from([("gamma".to_owned(), "because package:gamma failed".to_owned())]);
        let limits = Limits { may_go: &none, resting: &none, failed: &failed, is_held: &|name| name == "alpha" };
        let held = Transaction { install: vec![install("alpha", Some("1.1-1"), "2:2.0-1")], ..Transaction::default() };
        assert_eq!(judge(&held, &tasks, Order::Deb, &limits).expect_err("held").reason, "package-held");
        let older = Transaction { install: vec![install("conff", Some("1.0"), "0.9")], ..Transaction::default() };
        assert_eq!(judge(&older, &tasks, Order::Deb, &limits).expect_err("older").reason, "downgrade-refused");
        let fine = Transaction { install: vec![install("conff", Some("1.0"), "1.1")], ..Transaction::default() };
        assert_eq!(judge(&fine, &tasks, Order::Deb, &limits), Ok(()));
        // Who was at fault before is neither brought nor taken along, nor does anything come after it.
        let one = || vec!["gamma".to_owned()];
        for touching in [
            Transaction { install: vec![install("gamma", None, "1.0")], ..Transaction::default() },
            Transaction { remove: one(), ..Transaction::default() },
            Transaction { first: one(), ..Transaction::default() },
        ] {
            let fault = judge(&touching, &tasks, Order::Deb, &limits).expect_err("gamma failed");
            assert_eq!((fault.reason, fault.why.as_str()), ("package-failed", "because package:gamma failed"));
        }
    }

    #[test]
    fn what_is_suspended_or_contested_is_neither_changed_nor_brought_back_along_the_way() {
        let wants = [fresh(0, "beta")];
        let tasks: Vec<&Task> = wants.iter().collect();
        let (none, resting) = (BTreeSet::new(), BTreeSet::from(["alpha".to_owned()]));
        let going = |names: &[&str]| Transaction {
            remove: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Transaction::default()
        };
        let installing = |name: &str, from| Transaction {
            install: vec![install("beta", None, "1.0"), install(name, from, "2.0")],
            ..Transaction::default()
        };
        for changed in [installing("alpha", Some("1.0")), installing("alpha", None), going(&["alpha"])] {
            let limits = Limits { may_go: &resting, resting: &resting, failed: &BTreeMap::new(), is_held: &|_| false };
            let fault = judge(&changed, &tasks, Order::Deb, &limits).expect_err("alpha is suspended");
            assert_eq!((fault.reason, fault.remedy), ("package-suspended", Remedy::None));
            assert!(fault.why.ends_with(": alpha"), "{}", fault.why);
            let limits = Limits { resting: &none, ..limits };
            assert_eq!(judge(&changed, &tasks, Order::Deb, &limits), Ok(()));
        }
        let limits = Limits { may_go: &none, resting: &resting, failed: &BTreeMap::new(), is_held: &|_| false };
        assert_eq!(judge(&installing("gamma", Some("1.0")), &tasks, Order::Deb, &limits), Ok(()));
    }

    fn names(tasks: &[&Task]) -> Vec<String> {
        tasks.iter().map(|task| shown(task)).collect()
    }

    #[test]
    fn what_can_be_done_is_asked_once() {
        let wants: Vec<Task> = (0..50).map(|i| fresh(i, &format!("p{i}"))).collect();
        let asked = Cell::new(0);
        let settled = settle(&wants, |_| {
            asked.set(asked.get() + 1);
            Ok(Transaction::default())
        });
        assert_eq!(settled.expect("all").accepted.len(), 50);
        assert_eq!(asked.get(), 1);
    }

    #[test]
    fn one_impossible_package_is_left_out_and_the_others_go_on() {
        let wants: Vec<Task> = (0..64).map(|i| fresh(i, &format!("p{i}"))).collect();
        let asked = Cell::new(0);
        let settled = settle(&wants, |tasks| {
            asked.set(asked.get() + 1);
            match tasks.iter().any(|task| task.name == "p17") {
                true => Err(Fault::new("unresolvable", "no")),
                false => Ok(Transaction::default()),
            }
        })
        .expect("the others");
        assert_eq!(settled.accepted.len(), 63);
        assert_eq!(settled.failed.len(), 1);
        assert_eq!(settled.failed[0].0.name, "p17");
        assert!(asked.get() < 20, "{}", asked.get());
    }

    #[test]
    fn what_is_let_go_gives_way_to_what_is_wanted() {
        let wants = [some(0, "alpha", Action::Release), fresh(1, "beta")];
        let settled = settle(&wants, |tasks| match names(tasks).contains(&"alpha-".to_owned()) && tasks.len() == 2 {
            true => Err(Fault::new("unresolvable", "beta needs alpha")),
            false => Ok(Transaction::default()),
        })
        .expect("one of them");
        assert_eq!(names(&settled.accepted), ["beta"]);
        assert_eq!(settled.failed[0].0.name, "alpha");
    }

    #[test]
    fn what_was_refused_for_want_of_a_later_one_is_tried_again() {
        let wants = [fresh(0, "first"), fresh(1, "second"), fresh(2, "never")];
        let settled = settle(&wants, |tasks| {
            let names = names(tasks);
            let has = |name: &str| names.iter().any(|other| other == name);
            match has("never") || has("first") && !has("second") {
                true => Err(Fault::new("unresolvable", "no")),
                false => Ok(Transaction::default()),
            }
        })
        .expect("two of them");
        assert_eq!(names(&settled.accepted), ["second", "first"]);
        assert_eq!(settled.failed.len(), 1);
    }

    #[test]
    fn what_no_package_could_help_ends_the_asking() {
        let wants: Vec<Task> = (0..50).map(|i| fresh(i, &format!("p{i}"))).collect();
        let asked = Cell::new(0);
        let settled = settle(&wants, |_| {
            asked.set(asked.get() + 1);
            Err(Fault::new("package-lock-held", "held").with(Remedy::General))
        });
        assert_eq!(settled.expect_err("the lock").reason, "package-lock-held");
        assert_eq!(asked.get(), 1);
    }
}
