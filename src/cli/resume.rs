use clap::Args;

use super::{Ground, ask};
use crate::daemon::Request;
use crate::model::Id;

/// Change again what was suspended. Without an id: everything, and a rollback ends too.
#[derive(Debug, Args)]
pub(super) struct Resume {
    /// Which: /etc/motd, nginx.service, package:nginx; without any, everything
    #[arg(value_name = "ID", value_parser = ask::resource)]
    ids: Vec<Id>,
    #[command(flatten)]
    ground: Ground,
}

impl Resume {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let request = Request::Resume { resources: self.ids.clone() };
        ask::ask(&self.ground, "resume", |agent| agent.ask(&request))
    }
}
