use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::kinds::{Before, Observed, Spec};
use crate::model::Id;

/// What was written, or was about to be, for units that judge it once it is in place, and that they have not judged
/// yet. On disk before the first file of it is written, and taken away with the verdict.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unjudged {
    /// By unit.
    pub sets: BTreeMap<Id, Set>,
    /// By file.
    pub files: BTreeMap<Id, Written>,
    /// Units that owed something before that already.
    pub owing: BTreeSet<Id>,
}

/// What one unit uses of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Set {
    /// What judges them; empty where the unit judges nothing and only shares files with one that does.
    pub validate: Vec<String>,
    /// Which.
    pub files: BTreeSet<Id>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// What stood there before; its content is kept.
    pub before: Before,
    /// What is written.
    pub want: Spec,
    /// What the ledger said, with the intent, and without what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Entry>,
}

/// What stands where something was about to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// What was to be written.
    AsWritten,
    /// What stood there before, or nothing.
    NotWritten,
    /// Somebody else's.
    Strange,
}

impl Written {
    /// What to converge to where it is refused; none where what stood there cannot be put back.
    pub fn back(&self) -> Option<Spec> {
        self.before.put_back(&self.want)
    }

    /// Whose `now` is.
    pub fn stands(&self, now: &Observed) -> Stands {
        if self.want.diff(now).is_empty() {
            return Stands::AsWritten;
        }
        let is_back = now.before() == self.before || self.back().is_some_and(|back| back.diff(now).is_empty());
        if is_back || now.is_absent() { Stands::NotWritten } else { Stands::Strange }
    }
}

impl Unjudged {
    /// Nothing is owed a verdict.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// A file is about to be written. What was judged last is what stood there before the first time.
    pub fn write(&mut self, id: Id, written: Written) {
        match self.files.get_mut(&id) {
            Some(known) => known.want = written.want,
            None => drop(self.files.insert(id, written)),
        }
    }

    /// Forgets the files that `stays` does not hold of, and all where none is left.
    pub fn retain(&mut self, stays: impl Fn(&Id) -> bool) {
        self.files.retain(|id, _| stays(id));
        for set in self.sets.values_mut() {
            set.files.retain(&stays);
        }
        self.sets.retain(|_, set| !set.files.is_empty());
        if self.files.is_empty() {
            *self = Self::default();
        }
    }

    /// What is refused, each file with why, and what goes back with it: a file may belong to several sets, and those are
    /// whole or not at all.
    pub fn spread(&self, mut refused: BTreeMap<Id, String>) -> BTreeMap<Id, String> {
        let mut known = 0;
        while refused.len() > known {
            known = refused.len();
            for set in self.sets.values() {
                if let Some(why) = set.files.iter().find_map(|file| refused.get(file)).cloned() {
                    for file in &set.files {
                        refused.entry(file.clone()).or_insert_with(|| why.clone());
                    }
                }
            }
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::file::{self, Present, Standing};
    use crate::ledger::Ledger;
    use crate::model::Digest;

    fn id(name: &str) -> Id {
        Id::new("file", &format!("/etc/{name}"))
    }

    fn seen(content: &str, mode: u32) -> Observed {
        let what = Standing::Regular { digest: Digest::of(content.as_bytes()), size: content.len() as u64 };
        let (owner, group, links, mount_point, real) = (None, None, 1, false, None);
        Observed::File(file::Observed::Present(Present { what, owner, group, mode, links, mount_point, real }))
    }

    fn absent() -> Observed {
        Observed::File(file::Observed::Absent)
    }

    fn written(before: &Observed, content: &str) -> Written {
        let want = seen(content, 0o644).before().as_found().expect("a file can be put back");
        Written { before: before.before(), want, entry: None }
    }

    fn unjudged(sets: &[(&str, &[&str])]) -> Unjudged {
        let mut unjudged = Unjudged::default();
        for (unit, files) in sets {
            let files: BTreeSet<Id> = files.iter().map(|name| id(name)).collect();
            files.iter().for_each(|id| unjudged.write(id.clone(), written(&absent(), "new")));
            let validate = vec!["/bin/judge".to_owned()];
            unjudged.sets.insert(Id::new("unit", unit), Set { validate, files });
        }
        unjudged
    }

    #[test]
    fn what_stands_there_is_ours_or_what_was_before_or_somebody_else_s() {
        let file = written(&seen("old", 0o600), "new");
        for (now, stands) in [
            (seen("new", 0o644), Stands::AsWritten),
            (seen("old", 0o600), Stands::NotWritten),
            (absent(), Stands::NotWritten),
            (seen("theirs", 0o644), Stands::Strange),
            (seen("new", 0o600), Stands::Strange),
            (seen("old", 0o644), Stands::Strange),
        ] {
            assert_eq!(file.stands(&now), stands, "{now:?}");
        }
        let new = written(&absent(), "new");
        assert_eq!(new.stands(&absent()), Stands::NotWritten);
        assert_eq!(new.stands(&seen("theirs", 0o644)), Stands::Strange);
        assert!(new.back().expect("nothing can be put back").removes());
    }

    #[test]
    fn of_what_is_written_twice_the_first_is_what_stood_there_before() {
        let mut unjudged = Unjudged::default();
        unjudged.write(id("a"), written(&seen("old", 0o644), "half"));
        unjudged.write(id("a"), written(&seen("half", 0o644), "new"));
        let file = &unjudged.files[&id("a")];
        assert_eq!(file.before, seen("old", 0o644).before());
        assert_eq!(file.stands(&seen("new", 0o644)), Stands::AsWritten);
    }

    #[test]
    fn what_is_refused_goes_back_with_every_set_that_it_belongs_to() {
        let unjudged = unjudged(&[("a.service", &["1", "2"]), ("b.service", &["2", "3"]), ("c.service", &["4"])]);
        let refused = unjudged.spread([(id("3"), "why".to_owned())].into());
        assert_eq!(refused.keys().collect::<Vec<_>>(), [&id("1"), &id("2"), &id("3")]);
        assert!(refused.values().all(|why| why == "why"));
        assert!(unjudged.spread(BTreeMap::new()).is_empty());
    }

    #[test]
    fn what_is_forgotten_leaves_the_sets_and_nothing_where_nothing_is_left() {
        let mut unjudged = unjudged(&[("a.service", &["1", "2"]), ("b.service", &["3"])]);
        unjudged.owing.insert(Id::new("unit", "a.service"));
        unjudged.retain(|file| *file == id("1"));
        assert_eq!(unjudged.sets.len(), 1);
        assert_eq!(unjudged.sets[&Id::new("unit", "a.service")].files, [id("1")].into());
        assert_eq!(unjudged.owing.len(), 1);
        unjudged.retain(|_| false);
        assert_eq!(unjudged, Unjudged::default());
    }

    #[test]
    fn its_contents_are_needed_for_as_long_as_it_is_owed_a_verdict_and_older_ledgers_owe_none() {
        let mut ledger = Ledger::default();
        assert!(!serde_json::to_string(&ledger).expect("written").contains("unjudged"), "an older trueup knows it not");
        ledger.unjudged.write(id("a"), written(&seen("old", 0o644), "new"));
        assert_eq!(ledger.contents(0, 0), [Digest::of(b"old")].into());
        let text = serde_json::to_string(&ledger).expect("written");
        assert_eq!(serde_json::from_str::<Ledger>(&text).expect("read"), ledger);
        ledger.unjudged.retain(|_| false);
        assert!(ledger.contents(0, 0).is_empty());
    }
}
