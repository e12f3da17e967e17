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
    /// What is asked
    #[command(flatten)]
    question: What,
}

/// One question.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The URL that is to answer
    #[arg(long, value_name = "URL")]
    http: Option<String>,
    /// The address and port where somebody is to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcp: Option<String>,
    /// The address that is to answer, be it that nobody listens there
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// The name that is to have an address
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl CheckWorker {
    pub(super) fn run(self) -> ExitCode {
        let What { http, tcp, host, name } = self.question;
        let asked = http.map(Question::Http).or(tcp.map(Question::Tcp)).or(host.map(Question::Host));
        let Some(question) = asked.or(name.map(Question::Name)) else { return ExitCode::FAILURE };
        ask(&question, self.user, Duration::from_millis(self.limit))
    }
}
