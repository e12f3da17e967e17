//! A stack that is deep enough for the template engine.
//!
//! The engine parses, compiles, compares, prints and drops by recursion, and a stack that overflows aborts the whole
//! process. So its work is done on a stack of [`STACK`] bytes, and what could need a deeper one is refused: the length
//! of one tag and the number of tags (`tags`), and the number of steps, of which each adds at most one level to a value
//! (`expr`).

use std::cell::Cell;
use std::thread::Builder;

/// Bytes of address space; only what is used of it is ever memory.
const STACK: usize = 512 << 20;

thread_local! {
    /// Whether this thread has that stack.
    static DEEP: Cell<bool> = const { Cell::new(false) };
}

/// There was no address space for such a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoStack;

/// Does `work` on a deep stack: this one, if it is.
pub(super) fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NoStack> {
    if DEEP.get() {
        return Ok(work());
    }
    std::thread::scope(|scope| {
        let thread = Builder::new().name("compile".to_owned()).stack_size(STACK).spawn_scoped(scope, || {
            DEEP.set(true);
            work()
        });
        match thread.map_err(|_| NoStack)?.join() {
            Ok(result) => Ok(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_stack_is_taken_once() {
        let ids = deep(|| (std::thread::current().id(), deep(|| std::thread::current().id()))).expect("a stack");
        assert_eq!(ids.1, Ok(ids.0));
        assert_ne!(ids.0, std::thread::current().id());
    }
}
