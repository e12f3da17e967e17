use clap::Args;

use super::Ground;
use crate::reconcile;
use crate::report::{Palette, Report, plan_text, result_text};

/// What is no longer as it was last applied.
#[derive(Debug, Args)]
pub(super) struct Drift {
    #[command(flatten)]
    ground: Ground,
}

impl Drift {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let host = self.ground.reader()?;
        // Where the settings cannot be read drift is told all the same.
        let settings = reconcile::settings(&host).unwrap_or_default();
        let (report, looked) = match reconcile::drift(&host, &settings.trusted_files()) {
            Ok(report) => (report, true),
            Err(stop) => (super::stopped(Report::new("drift"), stop.into())?, false),
        };
        host.say("");
        let palette = Palette::new(true);
        if self.ground.json {
            super::print_json(&report)?;
        } else if !looked {
            super::print(&result_text(&report, palette));
        } else if report.steps.is_empty() {
            super::print(&format!("No drift: {} managed, all as last applied.\n", report.counts.managed));
        } else {
            super::print(&plan_text(&report, host.now(), palette));
        }
        Ok(report.state.exit_code())
    }
}
