use clap::Args;

use super::{Ground, ask};
use crate::daemon::Request;

/// Try what failed or is contested again, now.
#[derive(Debug, Args)]
pub(super) struct Retry {
    #[command(flatten)]
    ground: Ground,
}

impl Retry {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        ask::ask_or(&self.ground, "retry", Some("`trueup run --retry`"), |agent| agent.ask(&Request::Retry))
    }
}
