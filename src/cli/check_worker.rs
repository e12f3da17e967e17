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
    #[arg(long, value_name = "URL", required_unless_present_any = ["tcp", "host"], conflicts_with_all = ["tcp", "host"])]
    http: Option<String>,
    /// The address and port where somebody is to listen
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "host")]
    tcp: Option<String>,
    /// The address that is to answer, be it that nobody listens there
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
}

impl CheckWorker {
    pub(super) fn run(self) -> ExitCode {
        let question = match (self.http, self.tcp, self.host) {
            (Some(url), ..) => Question::Http(url),
            (None, Some(address), _) => Question::Tcp(address),
            (None, None, Some(address)) => Question::Host(address),
            (None, None, None) => return ExitCode::FAILURE,
        };
        ask(&question, self.user, Duration::from_millis(self.limit))
    }
}
