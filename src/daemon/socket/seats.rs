//! Who may be connected at the same time: so many of each user, so many of all others together, and seats that only
//! root can take, so that root is always answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many connections there may be, and how many of them may watch. A watcher has no time limit, so that watchers
/// leave room for those that ask and go.
#[derive(Debug, Clone, Copy)]
pub struct Seats {
    /// Of all users but root together: connections, watchers.
    pub others: (usize, usize),
    /// Of one user that is not root: connections, watchers.
    pub each: (usize, usize),
    /// Of root: connections, watchers.
    pub root: (usize, usize),
}

impl Default for Seats {
    fn default() -> Self {
        Self { others: (64, 32), each: (8, 4), root: (32, 16) }
    }
}

/// Who is connected now.
#[derive(Debug, Clone)]
pub(super) struct Table {
    seats: Seats,
    taken: Arc<Mutex<BTreeMap<u32, Taken>>>,
}

/// Of one user.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    connected: usize,
    watching: usize,
}

/// One connection's place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    table: Table,
    uid: u32,
    watches: bool,
}

impl Table {
    pub(super) fn new(seats: Seats) -> Self {
        Self { seats, taken: Arc::default() }
    }

    /// A place for a connection of `uid`; `None` where there is none left for it.
    pub(super) fn take(&self, uid: u32) -> Option<Seat> {
        let mut taken = self.lock();
        let (connected, _) = sum(&taken, uid);
        let (own, all) = (taken.get(&uid).copied().unwrap_or_default(), self.most(uid));
        if own.connected >= all.0.0 || connected >= all.1.0 {
            return None;
        }
        taken.entry(uid).or_default().connected += 1;
        drop(taken);
        Some(Seat { table: self.clone(), uid, watches: false })
    }

    /// Nobody is connected.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// What `uid` may take by itself, and together with those that share seats with it.
    fn most(&self, uid: u32) -> ((usize, usize), (usize, usize)) {
        if uid == 0 { (self.seats.root, self.seats.root) } else { (self.seats.each, self.seats.others) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Taken>> {
        // Numbers are whole at every instant, whoever panicked.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections and watchers of those that share seats with `uid`.
fn sum(taken: &BTreeMap<u32, Taken>, uid: u32) -> (usize, usize) {
    let shared = taken.iter().filter(|(other, _)| (**other == 0) == (uid == 0)).map(|(_, taken)| taken);
    shared.fold((0, 0), |(connected, watching), one| (connected + one.connected, watching + one.watching))
}

impl Seat {
    /// Whose it is.
    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// Makes it a watcher's; whether there is room for one more.
    pub(super) fn watch(&mut self) -> bool {
        let mut taken = self.table.lock();
        let (_, watching) = sum(&taken, self.uid);
        let (own, all) = self.table.most(self.uid);
        let Some(mine) = taken.get_mut(&self.uid) else { return false };
        if self.watches || mine.watching >= own.1 || watching >= all.1 {
            return self.watches;
        }
        mine.watching += 1;
        self.watches = true;
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.table.lock();
        if let Some(mine) = taken.get_mut(&self.uid) {
            mine.connected -= 1;
            mine.watching -= usize::from(self.watches);
            if mine.connected == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new(Seats { others: (5, 3), each: (3, 2), root: (2, 1) })
    }

    fn seats(table: &Table, uid: u32, n: usize) -> Vec<Seat> {
        (0..n).filter_map(|_| table.take(uid)).collect()
    }

    #[test]
    fn one_user_takes_no_more_than_its_share_and_all_others_no_more_than_theirs() {
        let table = table();
        let alice = seats(&table, 1000, 9);
        assert_eq!(alice.len(), 3);
        let bob = seats(&table, 1001, 9);
        assert_eq!(bob.len(), 2, "five in all");
        assert!(table.take(1002).is_none());
        drop(alice);
        assert!(table.take(1002).is_some());
    }

    #[test]
    fn root_has_seats_that_nobody_else_can_take() {
        let table = table();
        let others: Vec<Seat> = (1..100).flat_map(|uid| seats(&table, uid, 9)).collect();
        assert_eq!(others.len(), 5);
        let root = seats(&table, 0, 9);
        assert_eq!(root.len(), 2);
        drop(root);
        assert_eq!(seats(&table, 0, 9).len(), 2, "what is given back is there again");
    }

    #[test]
    fn watchers_leave_room_for_those_that_ask() {
        let table = table();
        let mut alice = seats(&table, 1000, 3);
        assert_eq!(alice.iter_mut().filter_map(|seat| seat.watch().then_some(())).count(), 2);
        let mut bob = seats(&table, 1001, 2);
        assert_eq!(bob.iter_mut().filter_map(|seat| seat.watch().then_some(())).count(), 1, "three in all");
        let mut root = table.take(0).expect("a seat");
        assert!(root.watch() && root.watch(), "twice is once");
        assert!(!table.take(0).expect("a seat").watch());
        drop((alice, bob, root));
        assert!(table.is_empty());
        assert!(table.take(1000).expect("a seat").watch());
    }
}
