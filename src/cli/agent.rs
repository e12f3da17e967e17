use anyhow::Context;
use clap::Args;

/// The agent itself.
#[derive(Debug, Args)]
pub(super) struct Agent {}

impl Agent {
    #[allow(clippy::unused_self, reason = "as every verb")]
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        anyhow::ensure!(rustix::process::geteuid().is_root(), "the agent needs root: systemctl start trueup");
        crate::daemon::run(super::executable()?).context("the agent cannot run")?;
        Ok(0)
    }
}
