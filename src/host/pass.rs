use ulid::Ulid;

use super::{Clock, Reader};

impl Reader {
    /// An id for a pass: a ULID, so that ids sort by time. Under a fixed clock it is always the same.
    pub fn new_pass(&self) -> String {
        let milliseconds = u64::try_from(self.since_1970().as_millis()).unwrap_or(0);
        let mut random = [0; 16];
        if matches!(self.clock, Clock::System) {
            // Short of entropy it is less unique, and no worse.
            let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK);
        }
        Ulid::from_parts(milliseconds, u128::from_le_bytes(random)).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_passes_differ_and_sort_by_time() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let reader = || Reader::directory(scratch.path()).expect("it is there");
        assert_ne!(reader().new_pass(), reader().new_pass());
        let at = |seconds| reader().with_clock(Clock::Fixed(seconds)).new_pass();
        assert!(at(1_800_000_000) < at(1_800_000_001));
        assert_eq!(at(1_800_000_000).len(), 26);
    }
}
