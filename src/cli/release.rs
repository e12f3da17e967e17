use clap::Args;

use super::{Ground, ask};
use crate::host::Reader;
use crate::model::Id;
use crate::reconcile;
use crate::report::{Palette, Report, plan_text, result_text};

/// Hand resources back.
#[derive(Debug, Args)]
pub(super) struct Release {
    /// Which: /etc/motd, nginx.service, package:nginx
    #[arg(value_name = "ID", value_parser = ask::resource, required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<Id>,
    /// Everything that is managed here
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    ground: Ground,
}

impl Release {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let reader = self.ground.reader()?;
        // What was planned is still told where it has to stop after that.
        let mut planned = None;
        let (report, whole) = match self.release(reader, &mut planned) {
            Ok(report) => (report, true),
            Err(error) => (super::stopped(planned.unwrap_or_else(|| Report::new("release")), error)?, false),
        };
        if self.ground.json {
            super::print_json(&report)?;
        } else {
            super::print(&result_text(&report, Palette::new(true)));
            if whole && !self.all {
                super::print("What is still declared in the repository is taken in charge again by the next pass.\n");
            }
        }
        Ok(report.state.exit_code())
    }

    fn release(&self, reader: Reader, planned: &mut Option<Report>) -> anyhow::Result<Report> {
        let settings = crate::reconcile::settings(&reader)?;
        let mut host = super::take(reader)?;
        let ids = if self.all { None } else { Some(self.ids.as_slice()) };
        let now = host.now();
        let released = reconcile::release(&mut host, &settings, ids, |report, host| {
            *planned = Some(report.clone());
            if !self.ground.json {
                host.say("");
                super::print(&plan_text(report, now, Palette::new(true)));
            }
        });
        host.say("");
        let mut report = released?;
        report.pass = host.new_pass();
        reconcile::remember_pass(&host, &mut report);
        Ok(report)
    }
}
