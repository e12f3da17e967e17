use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Serialize;

use super::Ground;
use crate::config::{InForce, Origin};
use crate::model::one_line;

mod agent;
mod looked;
mod machine;
mod source;

use looked::Looked;

/// Look at everything that trueup stands on.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    ground: Ground,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Somebody should know; work goes on.
    Warn,
    /// It keeps trueup from its work.
    Bad,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }

    fn colour(self) -> AnsiColor {
        match self {
            Self::Ok => AnsiColor::Green,
            Self::Warn => AnsiColor::Yellow,
            Self::Bad => AnsiColor::Red,
        }
    }
}

/// What one check says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// How it is.
    level: Level,
    /// What was looked at.
    about: &'static str,
    /// What was found.
    message: String,
    /// What to do, unless it is ok.
    advice: Option<String>,
}

impl Finding {
    fn ok(about: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Ok, about, message: message.into(), advice: None }
    }

    fn warn(about: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warn, about, message: message.into(), advice: Some(advice.into()) }
    }

    fn bad(about: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Bad, about, message: message.into(), advice: Some(advice.into()) }
    }

    fn needs_root(about: &'static str) -> Self {
        Self::warn(about, "not looked at: needs root", "sudo trueup doctor")
    }
}

/// Judges what was looked at; no check looks itself.
type Check = fn(&Looked) -> Vec<Finding>;

/// In the order in which they are told: what is asked of the host, where from, whether the host can.
const CHECKS: &[Check] = &[
    agent::configuration,
    agent::service,
    agent::timer,
    agent::socket,
    source::reached,
    source::selection,
    source::trust,
    source::credentials,
    source::pins,
    machine::clock,
    machine::disks,
    machine::state,
    agent::lock,
    agent::worker,
    agent::journal,
    machine::packages,
    machine::owed,
    machine::watches,
    machine::kept,
];

/// The JSON form.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    command: &'static str,
    ok: bool,
    findings: &'a [Finding],
    settings: Vec<SettingLine>,
}

#[derive(Debug, Serialize)]
struct SettingLine {
    key: &'static str,
    value: String,
    /// Null for a default.
    path: Option<String>,
    line: Option<usize>,
    acted_on: bool,
}

impl Doctor {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let host = self.ground.reader()?;
        let looked = looked::look(&host, &super::executable()?);
        host.say("");
        let findings = judged(&looked);
        let settings = looked.settings.as_ref().map(crate::config::Settings::in_force).unwrap_or_default();
        let ok = !findings.iter().any(|finding| finding.level == Level::Bad);
        if self.ground.json {
            let settings = settings.into_iter().map(line).collect();
            super::print_json(&Document { version: 1, command: "doctor", ok, findings: &findings, settings })?;
        } else {
            super::print(&text(&settings, &findings));
        }
        Ok(u8::from(!ok))
    }
}

fn judged(looked: &Looked) -> Vec<Finding> {
    CHECKS.iter().flat_map(|check| check(looked)).collect()
}

fn line(setting: InForce) -> SettingLine {
    let InForce { key, value, origin, acted_on } = setting;
    let (path, line) = match origin {
        Origin::Default => (None, None),
        Origin::File { path, line } => (Some(path), Some(line)),
    };
    SettingLine { key, value, path, line, acted_on }
}

/// For people; colours go where there is no terminal.
fn text(settings: &[InForce], findings: &[Finding]) -> String {
    let mut out = String::new();
    for InForce { key, value, origin, .. } in settings {
        let value = if value.is_empty() { "(empty)" } else { value };
        let _ = writeln!(out, "{key:22} {:44} {origin}", one_line(value, 400));
    }
    if !settings.is_empty() {
        out.push('\n');
    }
    for Finding { level, about, message, advice } in findings {
        let style = Style::new().fg_color(Some(level.colour().into()));
        let _ = writeln!(out, "{style}{:4}{style:#}  {about:14} {}", level.word(), one_line(message, 1200));
        if let Some(advice) = advice {
            let _ = writeln!(out, "{:21}→ {}", "", one_line(advice, 600));
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let _ = writeln!(out, "{} ok, {} warn, {} bad.", count(Level::Ok), count(Level::Warn), count(Level::Bad));
    out
}

#[cfg(test)]
mod tests {
    use super::looked::tests::healthy;
    use super::*;

    #[test]
    fn a_healthy_host_has_nothing_bad_and_every_check_speaks() {
        let looked = healthy();
        for finding in judged(&looked) {
            assert_ne!(finding.level, Level::Bad, "{finding:?}");
        }
        for (i, check) in CHECKS.iter().enumerate() {
            assert!(!check(&looked).is_empty(), "check {i} says nothing");
        }
    }

    #[test]
    fn what_is_not_ok_says_what_to_do() {
        let findings = [
            Finding::ok("clock", "synchronized"),
            Finding::warn("trust", "transport-only", "nothing yet"),
            Finding::bad("source", "unreachable\nat all", "check the network"),
        ];
        let text = anstream::adapter::strip_str(&text(&[], &findings)).to_string();
        assert_eq!(
            text,
            "ok    clock          synchronized\nwarn  trust          transport-only\n                     → nothing yet\n\
             bad   source         unreachable\\nat all\n                     → check the network\n1 ok, 1 warn, 1 bad.\n"
        );
    }
}
