//! Everything that can happen to the agent.

use super::Asked;
use super::agent::Written;
use super::pass::Ended;

/// One thing that happened. Most carry nothing: they only say *look again*, and several are as good as one.
pub(super) enum Event {
    /// The clock: a pass, or a word to the watchdog, is due.
    Due,
    /// Something that is watched on this host changed.
    Changed,
    /// The source was looked at while a pass runs; what its branch is at, where that could be seen.
    Glanced(Option<String>),
    /// A pass came to its end.
    Ended(Box<Ended>),
    /// The pass says what it is doing.
    Doing,
    /// Somebody asks for something.
    Asked(Asked),
    /// What somebody asked for was judged and written down.
    Written(Box<Written>),
    /// Settings are to be read anew: SIGHUP.
    Reload,
    /// The agent is to end: SIGTERM, SIGINT.
    Stop,
}
