use clap::Args;

use super::Fleet;
use crate::host::{Reader, Writer};
use crate::reconcile;
use crate::report::journal::Told;
use crate::report::{Palette, Report, plan_text, result_text};

/// One pass.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    pub(super) fleet: Fleet,
    /// Allow the guard to let this many removals pass, once
    #[arg(long, value_name = "N")]
    allow_removals: Option<u64>,
    /// Try what failed or is contested again now, and not later
    #[arg(long)]
    retry: bool,
}

impl Run {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let reader = self.fleet.ground.reader()?;
        let report = match self.pass(reader) {
            Ok(report) => report,
            Err(error) => super::stopped(Report::new("run"), error)?,
        };
        if self.fleet.ground.json {
            super::print_json(&report)?;
        } else {
            print_problems(&report);
            super::print(&result_text(&report, Palette::new(true)));
        }
        Ok(report.state.exit_code())
    }

    fn pass(&self, reader: Reader) -> anyhow::Result<Report> {
        let ask = reconcile::Ask { retry: self.retry, ..self.fleet.ask("run", &reader, self.allow_removals)? };
        let mut host = super::take(reader)?;
        let now = host.now();
        let show = |report: &Report, host: &Writer| {
            // Where it stalled before there was one there is none to show.
            if !self.fleet.ground.json && report.observed {
                host.say("");
                super::print(&plan_text(report, now, Palette::new(true)));
            }
        };
        let mut report = reconcile::pass(&mut host, &ask, show);
        if report.undo {
            // It is a pass of its own; what led to it is told and remembered first.
            reconcile::tell(&host, &mut Told::default(), &Told::default(), &report);
            reconcile::remember_pass(&host, &mut report);
            if !self.fleet.ground.json {
                super::print(&result_text(&report, Palette::new(true)));
            }
            let undo = ask.undo(&host);
            report = reconcile::pass(&mut host, &undo, show);
        }
        host.say("");
        // The agent, where it runs, has to know what was said already.
        reconcile::tell(&host, &mut Told::default(), &Told::default(), &report);
        reconcile::remember_pass(&host, &mut report);
        Ok(report)
    }
}

/// Mistakes in the repository go to where mistakes go.
pub(super) fn print_problems(report: &Report) {
    if !report.problems.is_empty() {
        super::tell(&report.problems);
    }
}
