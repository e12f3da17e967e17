use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Fleet, names};
use crate::compile;
use crate::host::Instead;
use crate::model::one_line;
use crate::secret::{Header, Plain};

/// Write a secret: to every host that has it, and to the recipients of trueup.toml.
#[derive(Debug, Args)]
pub(super) struct Encrypt {
    /// The file of the repository, which ends in .age; what is there is replaced
    path: PathBuf,
    /// What to encrypt; - is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    from: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Encrypt {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let (fleet, path) = Fleet::of(&self.path)?;
        let readers = fleet.readers(&path)?;
        let plain = self.plain()?;
        anyhow::ensure!(!Header::is_attempted(&plain), "this is encrypted already; put it in its place as it is");
        fleet.write(&path, &plain, &readers, Instead::Anything)?;
        let to = names(&readers);
        if self.json {
            super::super::print_json(&serde_json::json!({
                "version": 1, "command": "secret encrypt", "path": path, "recipients": to, "nameless": readers.nameless,
            }))?;
        } else {
            super::super::print(&format!("{} is encrypted to\n  {}\n", one_line(&path, 200), to.join("\n  ")));
        }
        Ok(0)
    }

    fn plain(&self) -> anyhow::Result<Plain> {
        let mut bytes = Vec::new();
        // What is longer before it is encrypted is too long afterwards, and may have no end.
        let most = compile::FILE_LIMIT + 1;
        if self.from == Path::new("-") {
            let input = std::io::stdin().lock();
            if input.is_terminal() {
                super::super::tell("trueup: type or paste the secret, and end it with Ctrl-D on a line of its own\n");
            }
            input.take(most).read_to_end(&mut bytes).context("cannot read standard input")?;
        } else {
            File::open(&self.from)
                .and_then(|from| from.take(most).read_to_end(&mut bytes))
                .with_context(|| format!("cannot read {}", self.from.display()))?;
        }
        let bytes = Plain::from(bytes);
        anyhow::ensure!(
            bytes.len() as u64 <= compile::FILE_LIMIT,
            "this is longer than a file of a fleet can be, which has at most {} bytes (16 MiB), and nothing is changed",
            compile::FILE_LIMIT
        );
        // Whoever pipes into this may have failed, and the old secret goes.
        anyhow::ensure!(!bytes.is_empty(), "there is nothing to encrypt, and nothing is changed");
        Ok(bytes)
    }
}
