//! Aside: the fetch worker's side of the pipe.
//!
//! A short-lived process of its own (the hidden verb `fetch-worker`) that speaks to Git servers and
//! opens repositories, so that a hole in a parser of Git, TLS or SSH is not a hole in the agent. It is
//! the only module that names gix, and it knows [`protocol`] and nothing else of the house. What it
//! answers is believed by nobody: the agent hashes every object from the commit down.
//!
//! Its clone is a cache. Any trouble with it is answered by a fresh one.

mod clone;
mod local;
mod look;
pub mod protocol;
mod remote;
mod serve;
mod trouble;

use std::io;
use std::process::ExitCode;

pub use serve::serve;

/// The whole worker: requests on standard input, answers on standard output, until the input ends.
pub fn main() -> ExitCode {
    // It was started as /proc/self/exe, and would be called "exe".
    let _ = nix::sys::prctl::set_name(c"trueup-fetch");
    match serve(io::stdin().lock(), io::BufWriter::new(io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fetch-worker: {error}");
            ExitCode::FAILURE
        }
    }
}
