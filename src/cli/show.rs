use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use crate::compile::{self, Options};
use crate::manifest;
use crate::model::{escaped, one_line};
use crate::reconcile;
use crate::source::Origin;

/// What a host will be.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The name of its directory below hosts/
    host: String,
    /// The repository, as it stands on disk
    #[arg(long, value_name = "PATH", default_value = ".")]
    repo: PathBuf,
    /// Subdirectory that is the fleet repository
    #[arg(long, value_name = "DIR", default_value = "", value_parser = super::subdirectory)]
    path: String,
    /// Facts to use instead of those the repository assumes, as `trueup facts --json` prints them
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let mut origin = Origin::work_tree(&self.repo, &self.path)?;
        let mut snapshot = origin.snapshot()?;
        anyhow::ensure!(
            snapshot.hosts.contains(&self.host),
            "there is no hosts/{} in {}",
            one_line(&self.host, 80),
            self.repo.join(&self.path).display()
        );
        reconcile::read_host(&mut origin, &mut snapshot, &self.host)?;
        let facts = match &self.facts {
            Some(path) => super::read_facts(path)?,
            None => compile::assumed_facts(&snapshot, &self.host),
        };
        let options = Options { setid: true, ..Options::default() };
        // Bits that the host's own configuration may refuse are shown as declared.
        let compiled = match compile::compile(&snapshot, &self.host, &facts, &options) {
            Ok(compiled) => compiled,
            Err(problems) => {
                let text = manifest::render(&problems, manifest::text_of(&snapshot), true);
                super::tell(&text);
                return Ok(1);
            }
        };
        if self.json {
            let document = serde_json::json!({
                "version": 1,
                "command": "show",
                "host": self.host,
                "roles": compiled.roles,
                "update": compiled.desired.update,
                "resources": compiled.desired.resources,
                "checks": compiled.desired.checks,
            });
            super::print_json(&document)?;
            return Ok(0);
        }
        let mut out = format!("{}   roles {}\n", escaped(&self.host), compiled.roles.join(", "));
        let width = compiled.desired.resources.keys().map(|id| id.as_str().chars().count()).max().unwrap_or(0).min(60);
        for (id, wanted) in &compiled.desired.resources {
            let exclusive = if wanted.exclusive.is_some() { ", exclusive" } else { "" };
            let words = one_line(&format!("{}{exclusive}", wanted.spec.describe()), 120);
            let _ = writeln!(out, "  {:width$}  {words:50} {}", one_line(id.as_str(), 200), wanted.layer);
        }
        for (name, check) in &compiled.desired.checks {
            let words = one_line(&check.describe(), 120);
            let _ = writeln!(out, "  {:width$}  {words:50} {}", format!("check {name}"), check.layer);
        }
        super::print(&out);
        Ok(0)
    }
}
