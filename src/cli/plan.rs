use clap::Args;

use super::Fleet;
use super::run::print_problems;
use crate::reconcile;
use crate::report::{Palette, Report, State, plan_text, result_text};

/// What a pass would change.
#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    pub(super) fleet: Fleet,
    /// Plan as if this many removals were allowed
    #[arg(long, value_name = "N")]
    allow_removals: Option<u64>,
}

impl Plan {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let host = self.fleet.ground.reader()?;
        let mut report = Report::new("plan");
        let (report, planned) = match self.fleet.ask("plan", &host, self.allow_removals) {
            Ok(ask) => match reconcile::look(&host, &ask, &mut report) {
                Ok(looked) => (looked.report, true),
                Err(stop) => {
                    report.stopped(&stop);
                    (report, false)
                }
            },
            Err(error) => (super::stopped(report, error)?, false),
        };
        host.say("");
        if self.fleet.ground.json {
            super::print_json(&report)?;
            return Ok(report.state.exit_code());
        }
        let palette = Palette::new(true);
        if planned || !report.steps.is_empty() {
            super::print(&plan_text(&report, host.now(), palette));
        }
        print_problems(&report);
        // What keeps to an older revision says why.
        if !planned || report.state >= State::Degraded {
            super::print(&result_text(&report, palette));
        }
        if planned {
            super::print("Nothing was changed.\n");
        }
        Ok(report.state.exit_code())
    }
}
