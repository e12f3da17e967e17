//! Who is at fault where a transaction did not get through, and what may be tried again without them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Observed;
use super::solve::{Action, Task};
use crate::model::one_line;

/// What a package manager says of those that did not get through.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Blame {
    /// Those at fault themselves, the first one first, each with its own words.
    pub culprits: Vec<(String, String)>,
    /// Those that wait for others, each with whatever is named as missing.
    pub waiting: BTreeMap<String, BTreeSet<String>>,
    /// It is no package's fault, but the machine's: no other would fare better.
    pub is_general: bool,
}

impl Blame {
    /// The same, by the names that `canonical` makes of them.
    pub fn named(self, canonical: impl Fn(&str) -> String) -> Self {
        let set = |names: BTreeSet<String>| names.iter().map(|name| canonical(name)).collect();
        Self {
            culprits: self.culprits.into_iter().map(|(name, why)| (canonical(&name), why)).collect(),
            waiting: self.waiting.into_iter().map(|(name, others)| (canonical(&name), set(others))).collect(),
            is_general: self.is_general,
        }
    }

    /// Takes in what a later transaction said. Whether somebody is at fault who was not before.
    pub fn learn(&mut self, later: &Self) -> bool {
        let news: Vec<_> = later.culprits.iter().filter(|(name, _)| self.words(name).is_none()).cloned().collect();
        let is_news = !news.is_empty() && !later.is_general;
        self.culprits.extend(news);
        self.waiting.extend(later.waiting.clone());
        self.is_general |= later.is_general;
        is_news
    }

    /// `name` is at fault itself, in words that `why` gives; its first words stay.
    pub fn accuse(&mut self, name: String, why: impl FnOnce() -> String) {
        if self.words(&name).is_none() {
            self.culprits.push((name, why()));
        }
    }

    /// The words of `name`, where it is at fault itself.
    pub fn words(&self, name: &str) -> Option<&str> {
        self.culprits.iter().find(|(culprit, _)| culprit == name).map(|(_, why)| why.as_str())
    }

    /// Who is at fault for what `name` waits for.
    pub fn behind(&self, name: &str) -> Option<&str> {
        let (mut seen, mut todo) = (BTreeSet::from([name]), vec![name]);
        while let Some(next) = todo.pop() {
            for other in self.waiting.get(next).into_iter().flatten() {
                if self.words(other).is_some() {
                    return Some(other);
                }
                if seen.insert(other) {
                    todo.push(other);
                }
            }
        }
        None
    }

    /// What to say of what cannot be had because of `culprit`: with its words, unless those are told for itself.
    pub fn because(&self, culprit: &str, is_told: bool) -> String {
        let culprit_id = format!("because package:{} failed", one_line(culprit, 80));
        match self.words(culprit) {
            Some(why) if !is_told => format!("{culprit_id}: {why}"),
            _ => culprit_id,
        }
    }

    /// Who keeps `name` undone: itself, who is behind it, or else the first that failed.
    pub fn culprit<'b>(&'b self, name: &'b str) -> Option<&'b str> {
        let first = self.culprits.first().map(|(name, _)| name.as_str());
        self.words(name).map(|_| name).or_else(|| self.behind(name)).or(first)
    }
}

/// dpkg began to unpack it, or to take it away, and did not come through: see dpkg(1).
pub fn is_half_there(seen: &Observed) -> bool {
    matches!(seen, Observed::Broken { status, .. } if status == "half-installed")
}

/// Those at fault that are half there: apt takes such a package away first in whatever it does, unless it is held, and stops
/// where that fails.
pub fn half_there(blame: &Blame, observed: impl Fn(&str) -> Observed) -> Vec<&str> {
    let names = blame.culprits.iter().map(|(name, _)| name.as_str());
    names.filter(|name| is_half_there(&observed(name))).collect()
}

/// Those of `tasks` that what is there now does not show as done.
pub fn undone(tasks: &[Task], observed: impl Fn(&str) -> Observed) -> Vec<Task> {
    let is_done = |task: &Task| match (&task.action, observed(&task.name)) {
        (Action::Install { version, .. }, Observed::Installed { version: there, .. }) => {
            version.as_ref().is_none_or(|wanted| *wanted == there)
        }
        (Action::Remove | Action::Release, Observed::Absent { .. }) => true,
        _ => false,
    };
    tasks.iter().filter(|task| !is_done(task)).cloned().collect()
}

/// Those of the `undone` that may be tried again: they are not at fault, nor do they wait for anybody who is.
pub fn blameless(undone: &[Task], blame: &Blame, observed: impl Fn(&str) -> Observed) -> Vec<Task> {
    // It is there, and somebody else has not done what it asked for, see deb-triggers(5).
    let awaits = |name: &str| matches!(observed(name), Observed::Broken { status, .. } if status == "triggers-awaited");
    let is_free = |name: &str| blame.words(name).is_none() && blame.behind(name).is_none() && !awaits(name);
    undone.iter().filter(|task| is_free(&task.name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::Order;
    use super::*;

    fn blame() -> Blame {
        let waiting = [("app", "lib"), ("lib", "broken"), ("round", "trip"), ("trip", "round")];
        let waiting = waiting.map(|(name, other)| (name.to_owned(), BTreeSet::from([other.to_owned()])));
        let culprits = vec![("broken".to_owned(), "so sorry".to_owned())];
        Blame { culprits, waiting: waiting.into(), is_general: false }
    }

    fn task(name: &str, action: Action) -> Task {
        Task { index: 0, name: name.to_owned(), action, held: false }
    }

    fn installed(version: &str) -> Observed {
        Observed::Installed {
            version: version.to_owned(),
            architecture: "all".to_owned(),
            essential: false,
            automatic: false,
            held: Some(false),
            order: Order::Deb,
        }
    }

    #[test]
    fn what_waits_for_a_culprit_is_told_with_it_however_far_it_is_from_that() {
        let blame = blame();
        let why = |name, is_told| blame.culprit(name).map(|culprit| blame.because(culprit, is_told));
        assert_eq!(blame.culprit("broken"), Some("broken"));
        assert_eq!(why("app", false).as_deref(), Some("because package:broken failed: so sorry"));
        assert_eq!(why("lib", true).as_deref(), Some("because package:broken failed"), "it is told itself");
        assert_eq!((blame.behind("round"), blame.behind("stranger")), (None, None));
        // Nothing is said of it: the first that failed kept it from its turn.
        assert_eq!(why("stranger", true).as_deref(), Some("because package:broken failed"));
        assert_eq!(Blame::default().culprit("stranger"), None);
    }

    #[test]
    fn what_is_tried_again_is_neither_done_nor_at_fault_nor_behind_who_is() {
        let install = |name| task(name, Action::Install { version: None, downgrade: false });
        let newer = task("newer", Action::Install { version: Some("2.0".to_owned()), downgrade: false });
        let tasks = [
            install("app"),
            install("broken"),
            install("there"),
            install("fine"),
            install("triggering"),
            newer,
            task("gone", Action::Remove),
            task("goes", Action::Release),
        ];
        let half = |status: &str| Observed::Broken { status: status.into(), version: "1.0".into(), essential: false };
        let observed = |name: &str| match name {
            "there" | "newer" | "goes" => installed("1.0"),
            "triggering" => half("triggers-awaited"),
            "broken" | "app" => half("unpacked"),
            _ => Observed::Absent { config_files: false },
        };
        let names = |tasks: &[Task]| tasks.iter().map(|task| task.name.clone()).collect::<Vec<_>>();
        let undone = undone(&tasks, observed);
        assert_eq!(names(&undone), ["app", "broken", "fine", "triggering", "newer", "goes"]);
        assert_eq!(names(&blameless(&undone, &blame(), observed)), ["fine", "newer", "goes"]);
        assert_eq!(half_there(&blame(), |_| half("half-installed")), ["broken"]);
        assert_eq!(half_there(&blame(), observed), [] as [&str; 0]);
    }

    #[test]
    fn only_somebody_new_at_fault_is_a_reason_to_try_again() {
        let mut all = Blame::default();
        assert!(all.learn(&blame()));
        assert!(!all.learn(&blame()), "without them it was tried already");
        let other = Blame { culprits: vec![("other".to_owned(), "no".to_owned())], ..Blame::default() };
        assert!(all.clone().learn(&other));
        let full = Blame { is_general: true, ..other };
        assert!(!all.learn(&full) && !Blame::default().learn(&Blame::default()));
    }
}
