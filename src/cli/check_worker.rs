use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::worker::{Question, ask};

/// What is asked, and as whom.
#[derive(Debug, Args)]
pub(super) struct CheckWorker {
    /// The user and group to become, as numbers
    #[arg(long, value_name = "UID:GID", value_parser = super::fetch_worker::user)]
    user: Option<(u32, u32)>,
    /// How long it may take, in milliseconds
    #[arg(long, value_name = "MS")]
    limit: u64,
    /// The URL that is to answer
    #[arg(long, value_name = "URL", required_unless_present = "tcp", conflicts_with = "tcp")]
    http: Option<String>,
    /// The address and port where somebody is to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcp: Option<String>,
}

impl CheckWorker {
    pub(super) fn run(self) -> ExitCode {
        let question = match (self.http, self.tcp) {
            (Some(url), _) => Question::Http(url),
            (None, Some(address)) => Question::Tcp(address),
            (None, None) => return ExitCode::FAILURE,
        };
        ask(&question, self.user, Duration::from_millis(self.limit))
    }
}
