use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::{Fleet, Key};

/// Print what a secret holds, to standard output and as it is.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The file of the repository
    path: PathBuf,
    #[command(flatten)]
    key: Key,
}

impl Show {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let (fleet, path) = Fleet::of(&self.path)?;
        let plain = fleet.open(&path, &self.key.identity()?)?;
        let mut out = std::io::stdout().lock();
        out.write_all(&plain).and_then(|()| out.flush()).context("cannot write to standard output")?;
        Ok(0)
    }
}
