use crate::host::Priority;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $id:literal, $priority:ident;)+) => {
        /// A sort of entry. Each has a word, and a `MESSAGE_ID` that never changes, with an entry in
        /// `systemd/trueup.catalog`. Ids are made with `journalctl --new-id128`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Event { $($(#[$doc])* $name),+ }

        impl Event {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The word of `TRUEUP_EVENT`, and what a message begins with.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }

            /// `MESSAGE_ID`: 128 bits in hexadecimal.
            pub fn message_id(self) -> &'static str {
                match self { $(Self::$name => $id),+ }
            }

            /// How grave it usually is.
            pub fn priority(self) -> Priority {
                match self { $(Self::$name => Priority::$priority),+ }
            }
        }
    };
}

events! {
    /// A resource is not as it was last applied: put back, or left so and why.
    Drift = "drift", "655974679e1a47c5b2cf79ed9a1104cd", Notice;
    /// Somebody keeps changing a resource back; it is left alone for a while.
    Contested = "contested", "45d72e2198f34ca0b682a5c2b37aeaad", Warning;
    /// A resource was changed, since its declaration was.
    Changed = "changed", "e609ddff6f16453d9bf1b6985c57fa78", Info;
    /// A resource that stood here before is managed from now on.
    TakenOver = "taken-over", "f84942a1aa7d4365938bc3e501248bf0", Notice;
    /// A resource is no longer declared: removed, put back, or left.
    LetGo = "let-go", "d932aead59034b23a84f5e8ed446fbd7", Notice;
    /// A unit restarted, reloaded or ran, since something that it uses changed.
    Refreshed = "refreshed", "ba27de3d2b754699b35f54453f8708f8", Info;
    /// A package brought a configuration file, or took one away, and another lies beside it.
    LeftBeside = "left-beside", "9ba3b5247b8541afbe5554094ccfe464", Notice;
    /// Something that was run for a pass failed, or complained, without keeping anything from being done.
    Complaint = "complaint", "4c59f38d5e7f4b71b8331d31532226e4", Warning;
    /// A revision changed something here, and everything of it holds.
    Applied = "applied", "da1da11c0a4948bdba522b62d1bb9c01", Notice;
    /// A revision changed something here, and not everything of it holds.
    Attempted = "attempted", "9650835f63cf48a3bbdeed4e212dc5bd", Warning;
    /// A resource did not converge.
    Failed = "failed", "00acc7af38034d33acdb4db7bc890935", Error;
    /// The host as a whole: something did not converge, or trueup itself is short of something.
    Degraded = "degraded", "a279917ebd2c472a804988a2ef06b4a1", Warning;
    /// Everything holds again.
    Converged = "converged", "8b240875f1954f428cb68b18b6115852", Notice;
    /// The newest revision cannot be acted on before somebody does something.
    Stalled = "stalled", "5abbe4dc793e47dc857ac72faf8285de", Error;
    /// The newest revision is not acted on, since it must not be.
    Refused = "refused", "5875dd5e65584a1b8bfc8d96a4a0bb71", Error;
    /// A revision was undone.
    RolledBack = "rolled-back", "f442ebc42f464405bf6cd99af9ae7423", Error;
    /// A change is known, and waits for somebody or for a time.
    Pending = "pending", "c0bc0d8d23aa4fec8208c8cd5d2e25a4", Notice;
    /// A pass ended between steps, as asked; the next goes on.
    Interrupted = "interrupted", "72e777cceeda4b008e3ac86231015f7a", Notice;
    /// What was acted on here is remembered no more; the branch is adopted anew.
    StateLost = "state-lost", "97bc6afda4844558890e662dd2ccd223", Warning;
    /// Root follows another branch than before.
    BranchChanged = "branch-changed", "86d0065041044ec5b9a439a7526a9ab3", Notice;
    /// The source does not answer.
    Unreachable = "unreachable", "45d9d3bb55df4f05afec95151026ba5c", Warning;
    /// The source answers again.
    Reachable = "reachable", "753e02afeb87417f8da826afdcec1e6f", Notice;
    /// A pass does not go on.
    Hangs = "hangs", "2c1ebbd207f441c8b3f4d4845cd231fa", Error;
    /// The pass that did not goes on, or has ended.
    GoesOn = "goes-on", "8467525793fb4fdc94a641541caae411", Notice;
    /// Somebody asked that something is not changed for a while.
    Suspended = "suspended", "513cb4f76c124982b4ceb601830a79ed", Notice;
    /// Something may be changed again.
    Resumed = "resumed", "983baf88931e4fd098cd49c66bdc8d24", Notice;
    /// Somebody let a held host go to a revision.
    Approved = "approved", "2f366f4f9d78474c91b53abd4dcc0311", Notice;
    /// Somebody asked to go back to a revision.
    RollbackAsked = "rollback", "32325b8ec2974724927a03f355bf75d3", Notice;
    /// Somebody asked to try again what failed or is contested.
    Retried = "retry", "e34e271b5f8b4e51b69aaa5f563e6cdd", Notice;
    /// Somebody had a kept copy given back.
    Restored = "restored", "c71e8fa1cf9e4f36aa02f6d282896c08", Notice;
    /// Somebody allowed removals that the guard would refuse.
    Allowed = "allowed", "e67392c94e564a4cbb35b9e29c188a71", Notice;
    /// The agent started.
    Started = "started", "a0bca376261f41e1bd1de2aac5a39c90", Info;
    /// The agent ends.
    Stopping = "stopping", "50f78b3fb9ba4d7c9f6379fb02533bc9", Info;
    /// The agent read its settings anew.
    Reloaded = "reloaded", "a26c5e37300d465185d393352b263c95", Info;
    /// The agent's settings are wrong; those from before stay in force.
    BadSettings = "bad-settings", "84a5960c4f1b4730ba41226a3497f874", Error;
    /// The journal did not take entries in time.
    Lost = "lost-entries", "35b82f40443c4a9ab5b50abe43af586f", Warning;
    /// Of an event, what found no place; the entry bears the word of that event, and this id.
    More = "more", "c4e94c340a554e85a21d399030eb6de4", Notice;
}
