use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

use crate::model::Id;

/// What a map has of ids that are asked for in order: each is found by going on from the last, not from the root.
pub(super) struct Along<'m, T>(Peekable<btree_map::Iter<'m, Id, T>>);

impl<'m, T> Along<'m, T> {
    pub(super) fn of(map: &'m BTreeMap<Id, T>) -> Self {
        Self(map.iter().peekable())
    }

    /// What is there of `id`, which comes after every id that was asked for before.
    pub(super) fn at(&mut self, id: &Id) -> Option<&'m T> {
        while let Some(&(next, found)) = self.0.peek() {
            match next.cmp(id) {
                std::cmp::Ordering::Less => drop(self.0.next()),
                std::cmp::Ordering::Equal => return Some(found),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_in_order_is_found_as_in_the_map() {
        let map: BTreeMap<Id, u8> = (1..=3).map(|n| (Id::new("file", &format!("/{}", 2 * n)), 2 * n)).collect();
        let mut along = Along::of(&map);
        for n in 1..=7 {
            let id = Id::new("file", &format!("/{n}"));
            assert_eq!(along.at(&id), map.get(&id), "{n}");
        }
        assert_eq!(Along::of(&BTreeMap::<Id, u8>::new()).at(&Id::new("file", "/1")), None);
    }
}
