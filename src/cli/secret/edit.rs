use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use clap::Args;

use super::{Fleet, Key};
use crate::compile;
use crate::host::{self, Scratch};
use crate::model::one_line;
use crate::secret::{Plain, SUFFIX};

/// Change a secret in $VISUAL or $EDITOR. What it holds is written to a directory in memory only, which goes with this.
/// Where somebody else changes the file meanwhile, that stays and what was edited goes.
#[derive(Debug, Args)]
pub(super) struct Edit {
    /// The file of the repository; where there is none, it is made
    path: PathBuf,
    #[command(flatten)]
    key: Key,
}

impl Edit {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
        let (fleet, path) = Fleet::of(&self.path)?;
        let readers = fleet.readers(&path)?;
        let old = match fleet.snapshot.entries.contains_key(&path) {
            true => fleet.open(&path, &self.key.identity()?)?,
            false => Plain::from(Vec::new()),
        };
        // Whatever ends this, the plaintext goes first. What is typed at the terminal is for the editor.
        let (end, typed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for (signal, flag) in [(SIGTERM, &end), (SIGHUP, &end), (SIGINT, &typed), (SIGQUIT, &typed)] {
            signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot listen for signals")?;
        }
        let scratch = Scratch::new()?;
        let name = path.rsplit('/').next().unwrap_or(&path);
        let copy = scratch.put(name.strip_suffix(SUFFIX).unwrap_or(name), &old)?;
        let editor =
            ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok().filter(|set| !set.is_empty()));
        if !host::edit(editor.as_deref().unwrap_or("vi"), &copy, &end)? {
            anyhow::bail!("ended before it was saved; {} is as it was", one_line(&path, 200));
        }
        let new =
            Plain::from(host::read_regular(&copy, compile::FILE_LIMIT).context("the editor left nothing to read")?);
        drop(scratch);
        if *new == *old {
            super::super::print(&format!("{} is as it was\n", one_line(&path, 200)));
            return Ok(0);
        }
        anyhow::ensure!(!new.is_empty(), "the editor left an empty file; {} is as it was", one_line(&path, 200));
        fleet
            .write(&path, &new, &readers, fleet.unchanged(&path))
            .context("what you have edited is kept nowhere; edit it again")?;
        super::super::print(&format!("{} is changed\n", one_line(&path, 200)));
        Ok(0)
    }
}
