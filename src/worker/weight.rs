//! What a pack unfolds to, watched while it comes: a small one can hold, or tell how to make, any amount.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use gix::progress::{Count, Id, MessageLevel, NestedProgress, Progress, Step, StepShared, UNKNOWN, Unit};

/// How much any pack may unfold to, in bytes: what is inflated of it and what is made of that, together.
const FREE: usize = 1 << 30;
/// How many bytes more for each that came. Ten thousand commits that each change one of ten thousand hosts have less.
const TIMES: usize = 256;
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Of what is counted; gix_pack::bundle::write::ProgressId, gix_pack::index::write::ProgressId.
const RECEIVED: Id = *b"BWRB";
const UNFOLDED: Id = *b"IWDB";

/// The counters of one fetch, which gix moves.
#[derive(Debug, Clone, Default)]
struct Counters {
    received: StepShared,
    unfolded: StepShared,
}

impl Counters {
    fn are_over(&self) -> bool {
        let most = self.received.load(Ordering::Relaxed).saturating_mul(TIMES).saturating_add(FREE);
        self.unfolded.load(Ordering::Relaxed) > most
    }
}

/// Does what `receive` does, unless the pack unfolds to too much: then there is nothing.
pub(super) fn bounded<T, E>(receive: impl FnOnce(Scale, &AtomicBool) -> Result<T, E>) -> Option<Result<T, E>> {
    let counters = Counters::default();
    let (stop, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let scale = Scale { counters: counters.clone(), id: UNKNOWN, own: StepShared::default() };
    let received = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                stop.fetch_or(counters.are_over(), Ordering::Relaxed);
                thread::park_timeout(LOOK);
            }
        });
        let received = receive(scale, &stop);
        over.store(true, Ordering::Relaxed);
        watch.thread().unpark();
        received
    });
    // One that came to its end in spite of it is whole.
    (received.is_ok() || !counters.are_over()).then_some(received)
}

/// What gix tells its progress to.
#[derive(Debug)]
pub(super) struct Scale {
    counters: Counters,
    id: Id,
    own: StepShared,
}

impl Scale {
    fn counted(&self) -> &Arc<AtomicUsize> {
        match self.id {
            RECEIVED => &self.counters.received,
            UNFOLDED => &self.counters.unfolded,
            _ => &self.own,
        }
    }
}

impl Count for Scale {
    fn set(&self, step: Step) {
        self.own.store(step, Ordering::Relaxed);
    }
    fn step(&self) -> Step {
        self.counted().load(Ordering::Relaxed)
    }
    fn inc_by(&self, step: Step) {
        self.counted().fetch_add(step, Ordering::Relaxed);
    }
    fn counter(&self) -> StepShared {
        Arc::clone(self.counted())
    }
}

impl Progress for Scale {
    fn init(&mut self, _max: Option<Step>, _unit: Option<Unit>) {}
    fn set_name(&mut self, _name: String) {}
    fn name(&self) -> Option<String> {
        None
    }
    fn id(&self) -> Id {
        self.id
    }
    fn message(&self, _level: MessageLevel, _message: String) {}
}

impl NestedProgress for Scale {
    type SubProgress = Self;

    fn add_child(&mut self, _name: impl Into<String>) -> Self {
        Self { counters: self.counters.clone(), id: UNKNOWN, own: StepShared::default() }
    }

    fn add_child_with_id(&mut self, name: impl Into<String>, id: Id) -> Self {
        Self { id, ..self.add_child(name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a pack of so many bytes that unfolds to so many, half of it inflated and half made of that.
    fn weighed(received: usize, unfolded: usize) -> Option<Result<(), ()>> {
        bounded(|mut scale, stop| {
            scale.add_child_with_id("read pack", RECEIVED).inc_by(received);
            scale.add_child_with_id("decompressing", UNFOLDED).inc_by(unfolded / 2);
            scale
                .add_child_with_id("Decoding", UNFOLDED)
                .counter()
                .fetch_add(unfolded - unfolded / 2, Ordering::Relaxed);
            scale.add_child_with_id("Resolving", *b"IWRO").inc_by(usize::MAX / 2);
            let counters = scale.counters.clone();
            while counters.are_over() && !stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            if stop.load(Ordering::Relaxed) { Err(()) } else { Ok(()) }
        })
    }

    #[test]
    fn what_unfolds_to_more_than_its_size_can_mean_is_stopped() {
        assert_eq!(weighed(0, FREE), Some(Ok(())));
        assert_eq!(weighed(0, FREE + 1), None);
        assert_eq!(weighed(1000, FREE + 1000 * TIMES), Some(Ok(())));
        assert_eq!(weighed(1000, FREE + 1000 * TIMES + 1), None);
    }

    #[test]
    fn another_error_stays_what_it_is() {
        assert_eq!(bounded(|_, _| Err::<(), _>("else")), Some(Err("else")));
    }
}
