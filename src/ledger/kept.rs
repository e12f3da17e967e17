use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Ledger, Origin};
use crate::kinds::Before;
use crate::model::{Digest, Id};

/// How much is kept of edits, in bytes, all together.
pub const KEPT_BYTES: u64 = 256 << 20;

/// How many edits of one resource are kept.
const EDITS_EACH: usize = 5;

/// A copy of what was overwritten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// What people call it: `k-7f31`.
    pub id: String,
    /// Whose.
    pub resource: Id,
    /// Why it was kept.
    pub why: Why,
    /// When, in seconds since 1970.
    pub at: i64,
    /// What it was; its content, if it has one, by digest.
    pub before: Before,
    /// Length of its content in bytes.
    pub size: u64,
}

/// Why a copy was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// It stood there before trueup first wrote there.
    Original,
    /// It was put back by a correction.
    Edit,
}

/// How long copies are kept, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct KeptLimits {
    /// Originals.
    pub originals: i64,
    /// Edits.
    pub edits: i64,
}

impl Ledger {
    /// Notes a copy of `before`, and gives it its id.
    pub fn keep(&mut self, resource: &Id, why: Why, at: i64, before: Before, size: u64) -> String {
        // The same copy is called the same by every version: how it is kept is no part of that.
        let stood = format!("{before:?}").replace(", kept: Kept(None)", "").replace(", unlisted: Unlisted(None)", "");
        let seed = Digest::of(format!("{resource} {at} {stood} {}", self.kept.len()).as_bytes()).to_string();
        let taken: BTreeSet<&str> = self.kept.iter().map(|kept| kept.id.as_str()).collect();
        let id = (4..=seed.len())
            .map(|length| format!("k-{}", &seed[..length]))
            .find(|id| !taken.contains(id.as_str()))
            .unwrap_or_else(|| format!("k-{seed}"));
        self.kept.push(Kept { id: id.clone(), resource: resource.clone(), why, at, before, size });
        id
    }

    /// Drops edits, the oldest first, until at most `room` bytes of them are left. Those in `fresh` stay. Says whether
    /// any went.
    pub fn make_room(&mut self, room: u64, fresh: &BTreeSet<String>) -> bool {
        self.kept.sort_by_key(|kept| kept.at);
        let all = self.kept.len();
        let mut left = room;
        let mut full = false;
        let mut kept = Vec::with_capacity(all);
        for copy in std::mem::take(&mut self.kept).into_iter().rev() {
            if copy.why == Why::Edit && !fresh.contains(&copy.id) {
                full |= copy.size > left;
                if full {
                    continue;
                }
                left -= copy.size;
            }
            kept.push(copy);
        }
        kept.reverse();
        self.kept = kept;
        self.kept.len() < all
    }

    /// Drops the copies whose time is over: originals and edits by age, edits also by number and by
    /// their size together, the oldest first. Those in `fresh`, made just now, stay.
    pub fn expire(&mut self, now: i64, limits: KeptLimits, fresh: &BTreeSet<String>) {
        self.pass_time(now, limits.originals, limits.edits);
        let now = self.believed(now, limits.originals);
        let mut each: BTreeMap<Id, usize> = BTreeMap::new();
        let mut bytes: u64 = 0;
        self.kept.sort_by_key(|kept| kept.at);
        let mut kept: Vec<Kept> = Vec::with_capacity(self.kept.len());
        for copy in std::mem::take(&mut self.kept).into_iter().rev() {
            let age = now.saturating_sub(copy.at);
            let stays = match copy.why {
                Why::Original => age <= limits.originals,
                Why::Edit => {
                    let number = each.entry(copy.resource.clone()).or_default();
                    *number += 1;
                    bytes = bytes.saturating_add(copy.size);
                    let within = age <= limits.edits && *number <= EDITS_EACH && bytes <= KEPT_BYTES;
                    within || fresh.contains(&copy.id)
                }
            };
            if stays {
                kept.push(copy);
            }
        }
        kept.reverse();
        self.kept = kept;
    }

    /// The contents that copies still need, and what may have to be put back at once, and originals that are not older
    /// than `originals` seconds.
    pub fn contents(&self, now: i64, originals: i64) -> BTreeSet<Digest> {
        let now = self.believed(now, originals);
        let origins = self.entries.values().flat_map(|entry| match &entry.origin {
            Origin::Found { before, at, .. } if now.saturating_sub(*at) <= originals => before.contents(),
            Origin::Found { .. } | Origin::Adopted => Vec::new(),
        });
        let unjudged = self.unjudged.files.values().flat_map(|file| file.before.contents());
        origins.chain(self.kept.iter().flat_map(|kept| kept.before.contents())).chain(unjudged).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Observed;
    use crate::kinds::file;

    fn ledger_with(copies: &[(Why, i64, u64)]) -> Ledger {
        let mut ledger = Ledger::default();
        let id = Id::new("file", "/etc/motd");
        for &(why, at, size) in copies {
            ledger.keep(&id, why, at, Observed::File(file::Observed::Absent).before(), size);
        }
        ledger
    }

    const LIMITS: KeptLimits = KeptLimits { originals: 100, edits: 10 };

    #[test]
    fn edits_go_by_age_number_and_size_and_originals_by_age_only() {
        let mut ledger = ledger_with(&[(Why::Original, 0, 1), (Why::Edit, 89, 1), (Why::Edit, 90, 1)]);
        ledger.expire(100, LIMITS, &BTreeSet::new());
        assert_eq!(ledger.kept.iter().map(|kept| kept.at).collect::<Vec<_>>(), [0, 90]);

        let mut ledger = ledger_with(&(1..=7).map(|at| (Why::Edit, at, 1)).collect::<Vec<_>>());
        ledger.expire(7, LIMITS, &BTreeSet::new());
        assert_eq!(ledger.kept.iter().map(|kept| kept.at).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);

        let mut ledger = ledger_with(&[(Why::Edit, 1, KEPT_BYTES), (Why::Edit, 2, 1)]);
        let mut room = ledger.clone();
        ledger.expire(3, LIMITS, &BTreeSet::new());
        assert_eq!(ledger.kept.iter().map(|kept| kept.at).collect::<Vec<_>>(), [2]);

        let newest = BTreeSet::from([room.kept[1].id.clone()]);
        assert!(!room.make_room(KEPT_BYTES, &newest));
        assert!(room.make_room(KEPT_BYTES - 1, &newest));
        assert_eq!(room.kept.iter().map(|kept| kept.at).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn ids_are_short_and_never_given_twice() {
        let ledger = ledger_with(&[(Why::Edit, 1, 1); 300]);
        let ids: BTreeSet<&str> = ledger.kept.iter().map(|kept| kept.id.as_str()).collect();
        assert_eq!(ids.len(), 300);
        assert!(ids.iter().all(|id| id.len() < 12), "{ids:?}");
    }
}
