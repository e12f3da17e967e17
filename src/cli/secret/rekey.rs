use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Fleet, Key};
use crate::model::one_line;
use crate::secret::{Header, Identity};

/// Encrypt secrets anew, to whom has to read them now: after a host came, went or got another key.
#[derive(Debug, Args)]
pub(super) struct Rekey {
    /// The files of the repository; without any, those whose header shows that it is needed
    paths: Vec<PathBuf>,
    /// Every secret of the repository. A header does not say which keys of age a file is encrypted to: after one of those
    /// was replaced by another, this is needed
    #[arg(long, conflicts_with = "paths")]
    all: bool,
    #[command(flatten)]
    key: Key,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    path: String,
    outcome: &'static str,
    message: Option<String>,
}

impl Rekey {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let mut due = Vec::new();
        if self.paths.is_empty() {
            let fleet = Fleet::around(&std::path::absolute(".")?)?;
            let paths: Vec<String> = fleet.secrets().map(str::to_owned).collect();
            due.extend(paths.into_iter().map(|path| (None, path)));
            return self.each(due, Some(fleet));
        }
        for path in &self.paths {
            let (fleet, path) = Fleet::of(path)?;
            due.push((Some(fleet), path));
        }
        self.each(due, None)
    }

    /// All that can be rekeyed is, whatever becomes of the others.
    fn each(&self, due: Vec<(Option<Fleet>, String)>, all: Option<Fleet>) -> anyhow::Result<u8> {
        let identity = self.key.identity()?;
        let mut lines = Vec::new();
        for (own, path) in due {
            let Some(fleet) = own.as_ref().or(all.as_ref()) else { continue };
            let (outcome, message) = match self.one(fleet, &path, &identity, own.is_some() || self.all) {
                Ok(true) => ("rekeyed", None),
                Ok(false) => ("unchanged", None),
                Err(error) => ("failed", Some(format!("{error:#}"))),
            };
            lines.push(Line { path, outcome, message });
        }
        let failed = lines.iter().any(|line| line.outcome == "failed");
        if self.json {
            let document =
                serde_json::json!({ "version": 1, "command": "secret rekey", "ok": !failed, "files": lines });
            super::super::print_json(&document)?;
        } else {
            for Line { path, outcome, message } in &lines {
                let why = message.as_ref().map(|why| format!("   {}", one_line(why, 300))).unwrap_or_default();
                super::super::print(&format!("{outcome:9} {}{why}\n", one_line(path, 200)));
            }
        }
        Ok(u8::from(failed))
    }

    fn one(&self, fleet: &Fleet, path: &str, identity: &Identity, always: bool) -> anyhow::Result<bool> {
        let readers = fleet.readers(path)?;
        let header = Header::read(fleet.sealed(path)?).map_err(anyhow::Error::msg)?;
        if !always && header.is_just_for(readers.known.iter().map(|reader| &reader.recipient)) {
            return Ok(false);
        }
        let plain = fleet.open(path, identity)?;
        fleet.write(path, &plain, &readers, fleet.unchanged(path))?;
        Ok(true)
    }
}
