use clap::Args;

use super::Ground;
use crate::ledger::{self, Binding};
use crate::reconcile;
use crate::report::Report;

/// Let this host be another one from now on.
#[derive(Debug, Args)]
pub(super) struct Rebind {
    /// The name of its directory below hosts/
    name: String,
    #[command(flatten)]
    ground: Ground,
}

impl Rebind {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_');
        anyhow::ensure!(
            !self.name.is_empty()
                && self.name.len() <= 253
                && self.name.chars().all(plain)
                && !self.name.starts_with('.'),
            "{:?} is not the name of a host's directory (lower case, exact)",
            crate::model::one_line(&self.name, 80)
        );
        let host = super::take(self.ground.reader()?)?;
        let own = host.facts()?;
        // That of a cloned disk is not taken over under a new name: everything is adopted anew.
        let (mut ledger, _) = reconcile::read_ledger(&host, &own, &mut Report::new("rebind"))?;
        let machine_id = own.machine_id;
        let was = ledger.bound.replace(Binding { host: self.name.clone(), machine_id });
        ledger::save(&host.state(), &ledger)?;
        let was = was.map(|was| was.host);
        if self.ground.json {
            let document = serde_json::json!({ "version": 1, "command": "rebind", "was": was, "host": self.name });
            super::print_json(&document)?;
        } else {
            let was = was.unwrap_or_else(|| "this host".to_owned());
            super::print(&format!("{was} is now bound to hosts/{}\n", self.name));
        }
        Ok(0)
    }
}
