use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Something on the host could not be looked at, or could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call on a file failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `rename`…
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is mounted on the way does not answer, so that nothing of it was looked at.
    #[error("{path}: what is mounted at {point} ({kind}) does not answer")]
    NotAnswering {
        /// The path that was to be reached.
        path: String,
        /// Where it is mounted.
        point: String,
        /// The type of the file system: `nfs4`, `fuse.sshfs`…
        kind: String,
    },
    /// A symbolic link on the way that somebody else than root could move.
    #[error("{path}: {link} on the way is a symbolic link that {who} could move; not followed")]
    UntrustedLink {
        /// The path that was to be reached.
        path: String,
        /// The link.
        link: String,
        /// Who could move it.
        who: String,
    },
    /// Something of another type stands at the path, or on the way to it.
    #[error("{path}: {what} is in the way{}", if hint.is_empty() { String::new() } else { format!("; {hint}") })]
    InTheWay {
        /// The path that was to be written.
        path: String,
        /// What stands there: `a directory`, `a mount point`…
        what: String,
        /// What the author of the declaration can do.
        hint: String,
    },
    /// No user database knows this owner.
    #[error("{path}: no {what} {name:?} on this host")]
    UnknownOwner {
        /// The file that was to be written; it is not.
        path: String,
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A payload that was staged is gone.
    #[error("{thing}: its content {digest} is not at hand")]
    NoPayload {
        /// Which resource.
        thing: String,
        /// Which content.
        digest: String,
    },
    /// A program ended badly. Its last lines tell why.
    #[error("{program} ended with {status}{}", if tail.is_empty() { String::new() } else { format!(": {tail}") })]
    Program {
        /// Its name and arguments.
        program: String,
        /// `exit status: 100`, `signal: 9`.
        status: String,
        /// The end of what it wrote to standard error, or to standard output; escaped, one line.
        tail: String,
    },
    /// A program could not be started.
    #[error("cannot start {program}")]
    Start {
        /// Its name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program took too long and was ended with all its children.
    #[error("{program} was ended after {} s", after.as_secs())]
    TimeOut {
        /// Its name and arguments.
        program: String,
        /// How long it was given.
        after: Duration,
    },
    /// A call on the bus, or the job it started, failed.
    #[error("{thing}: {what} failed: {why}")]
    Unit {
        /// The unit, or `systemd`.
        thing: String,
        /// `start`, `enable`, `daemon-reload`…
        what: &'static str,
        /// What systemd said.
        why: String,
    },
    /// Refused by a rule of this kind; nothing was done.
    #[error("{thing}: {why}")]
    Refused {
        /// The resource.
        thing: String,
        /// The stable reason word.
        reason: &'static str,
        /// Which rule, and what to do.
        why: String,
    },
    /// It could not be told how things are. Never taken for absence.
    #[error("{thing}: {why}")]
    Unknown {
        /// What was looked at.
        thing: String,
        /// Why that did not answer.
        why: String,
    },
}

/// In the place of what a program said, which may be of a secret that it read.
pub const UNSAID: &str = "what was said is not shown, since a secret was read";

impl Error {
    /// The stable word for reports.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk-full",
                io::ErrorKind::ReadOnlyFilesystem => "read-only",
                _ => "io-error",
            },
            Self::NotAnswering { .. } => "not-answering",
            Self::UntrustedLink { .. } => "untrusted-link",
            Self::InTheWay { .. } => "in-the-way",
            Self::UnknownOwner { .. } => "unknown-owner",
            Self::NoPayload { .. } => "no-payload",
            Self::Program { .. } | Self::Start { .. } => "program-failed",
            Self::TimeOut { .. } => "timed-out",
            Self::Unit { .. } => "unit-failed",
            Self::Refused { reason, .. } => reason,
            Self::Unknown { .. } => "cannot-tell",
        }
    }

    /// Somebody asked for an end before `thing` was begun.
    pub fn interrupted(thing: &str) -> Self {
        let why = "not begun, since an end was asked for".to_owned();
        Self::Refused { thing: thing.to_owned(), reason: "interrupted", why }
    }

    /// The same without what a program said, which may be of a secret that it read.
    #[must_use]
    pub fn unsaid(mut self) -> Self {
        match &mut self {
            Self::Program { tail: said, .. } | Self::Refused { why: said, .. } | Self::Unknown { why: said, .. } => {
                UNSAID.clone_into(said);
            }
            Self::Io { .. }
            | Self::NotAnswering { .. }
            | Self::UntrustedLink { .. }
            | Self::InTheWay { .. }
            | Self::UnknownOwner { .. }
            | Self::NoPayload { .. }
            | Self::Start { .. }
            | Self::TimeOut { .. }
            | Self::Unit { .. } => {}
        }
        self
    }

    /// The error and what it came from, in one line.
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            line.push_str(": ");
            line.push_str(&cause.to_string());
            source = cause.source();
        }
        line
    }
}
