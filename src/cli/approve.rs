use clap::Args;

use super::{Ground, ask};

/// Let a host with update = "hold" go to a revision.
#[derive(Debug, Args)]
pub(super) struct Approve {
    /// Which, by its id or the beginning of it; without one, the newest that was seen
    commit: Option<String>,
    #[command(flatten)]
    ground: Ground,
}

impl Approve {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        ask::ask(&self.ground, "approve", |agent| agent.approve(self.commit.as_deref()))
    }
}
