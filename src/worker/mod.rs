//! Aside: the fetch worker's side of the pipe.
//!
//! A short-lived process of its own (the hidden verb `fetch-worker`) that speaks to Git servers and
//! opens repositories, so that a hole in a parser of Git, TLS or SSH is not a hole in the agent. It is
//! the only module that names gix, and it knows [`protocol`] and nothing else of the house. What it
//! answers is believed by nobody: the agent hashes every object from the commit down.
//!
//! What it says over https goes by curl, with limits, certificates and proxy of its own settings alone (`http`).
//!
//! The same wall stands around what asks over http and tcp for a check (`probe`, the hidden verb `check-worker`).
//!
//! Its clone is a cache. Any trouble with it is answered by a fresh one.

mod clone;
mod http;
mod local;
mod look;
mod probe;
pub mod protocol;
mod remote;
mod serve;
mod trouble;
mod wall;
mod weight;

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};

use protocol::{Answer, WireError};

pub use probe::{Question, ask};
pub use serve::serve;
pub use wall::{Wall, WallError};

/// Why the worker ends before its input does.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Wall(#[from] WallError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// The whole worker, behind `wall`: requests on standard input, answers on standard output, until the input ends.
pub fn main(wall: &Wall) -> ExitCode {
    // It was started as /proc/self/exe, and would be called "exe".
    let _ = nix::sys::prctl::set_name(c"trueup-fetch");
    match work(wall) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fetch-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(wall: &Wall) -> Result<(), Error> {
    let walls = wall.raise()?;
    thread::Builder::new().spawn(end_with_the_input).map_err(Error::Thread)?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    Answer::Walls(walls).send(&mut output)?;
    output.flush().map_err(WireError::Io)?;
    Ok(serve(io::stdin().lock(), output)?)
}

/// Whoever asked is gone: so is the worker, whatever it is waiting for. What it started ends with its pipes.
fn end_with_the_input() {
    let input = io::stdin();
    // Nothing is waited for but the end, which is always told; poll(2).
    while !matches!(poll(&mut [PollFd::new(&input, PollFlags::empty())], None), Ok(1)) {}
    std::process::exit(1);
}
