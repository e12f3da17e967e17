use clap::Args;

use super::{Ground, ask};

/// Go back to an older revision, and stay there until `trueup resume`. (`git revert` needs none of this.)
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// Which, by its id or the beginning of it: `trueup history` has them
    commit: String,
    #[command(flatten)]
    ground: Ground,
}

impl Rollback {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        ask::ask(&self.ground, "rollback", |agent| agent.rollback(&self.commit))
    }
}
