use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::{Ground, ask};
use crate::brakes::Brakes;
use crate::daemon::client::ClientError;
use crate::host::Reader;
use crate::ledger::{self, Ledger};
use crate::model::one_line;
use crate::reconcile;
use crate::report::status::{Parts, make};
use crate::report::{Last, Palette, change_line, status_text_for};

type Document = crate::report::Status;

/// How long to wait for an agent that is not there, while watching.
const PAUSE: Duration = Duration::from_secs(1);
/// Home, and everything from there cleared (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// How this host is.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Show it again at each change, until interrupted; where there is no terminal, a line for each
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    ground: Ground,
}

impl Status {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let host = self.ground.place()?;
        if self.watch {
            return self.watch(&host);
        }
        let status = match self.ground.client(&host).and_then(|mut client| client.status()) {
            Ok(status) => status,
            Err(ClientError::NotRunning) => without_agent(&host, None),
            Err(error) => return ask::refused(&self.ground, "status", error),
        };
        if self.ground.json {
            super::print_json(&status)?;
        } else {
            super::print(&status_text_for(is_root(), &status, host.now(), &host.zone(), Palette::new(true)));
        }
        Ok(status.state.exit_code())
    }

    fn watch(&self, host: &Reader) -> anyhow::Result<u8> {
        // Whoever watches has seen enough: that is no failure.
        let always = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGINT, 0, always)
            .context("cannot listen for signals")?;
        let screen = !self.ground.json && std::io::stdout().is_terminal();
        // How it was without an agent, for as long as there is none.
        let mut alone: Option<Document> = None;
        let mut shown = Shown { json: self.ground.json, screen, last: String::new() };
        loop {
            // It may have been restarted, or upgraded: it is waited for.
            let mut readers = true;
            let watched = self.ground.client(host).and_then(|mut client| {
                client.watch(|status| {
                    alone = None;
                    readers = shown.show(&status, host);
                    if readers { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })
            });
            match watched {
                Err(error @ (ClientError::PermissionDenied | ClientError::Refused { .. })) => {
                    return ask::refused(&self.ground, "status", error);
                }
                Err(ClientError::NotRunning) => {
                    let status = without_agent(host, alone.as_ref());
                    readers = shown.show(&status, host);
                    alone = Some(status);
                }
                Err(error) => shown.failed(&error),
                Ok(()) => {}
            }
            if !readers {
                return Ok(0);
            }
            thread::sleep(PAUSE);
        }
    }
}

/// What was shown last, and how.
struct Shown {
    json: bool,
    screen: bool,
    last: String,
}

impl Shown {
    /// Tells once why there is nothing to show.
    fn failed(&mut self, error: &ClientError) {
        let line = one_line(&error.to_string(), 600);
        if self.last != line {
            super::tell(&format!("trueup: {line}\n"));
            self.last = line;
        }
    }

    /// Shows it, where it says something new; false where nobody reads any more.
    fn show(&mut self, status: &Document, host: &Reader) -> bool {
        let palette = Palette::new(true);
        let (line, text) = if self.json {
            let line = serde_json::to_string(status).unwrap_or_default();
            (line.clone(), format!("{line}\n"))
        } else if self.screen {
            // Each time, since ages grow.
            (String::new(), format!("{CLEAR}{}", status_text_for(is_root(), status, host.now(), &host.zone(), palette)))
        } else {
            let line = change_line(status, palette);
            let time = host.zone().stamp(host.now());
            (line.clone(), format!("{time}   {line}\n"))
        };
        if !line.is_empty() && line == self.last {
            return true;
        }
        self.last = line;
        let mut out = anstream::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What is known where no agent answers: what it left on disk, as far as that may be read.
fn without_agent(host: &Reader, previous: Option<&Document>) -> Document {
    let mut notes = Vec::new();
    let mut note = |error: &dyn std::fmt::Display| notes.push(one_line(&error.to_string(), 400));
    let settings = reconcile::settings(host);
    let settings = settings.inspect_err(|stop| note(&stop.message)).unwrap_or_default();
    let ledger = ledger::load(&host.state()).map(|(ledger, _)| ledger);
    let readable = ledger.is_ok();
    let ledger: Ledger = ledger.inspect_err(|error| note(error)).unwrap_or_default();
    let (mut brakes, mut last) = (Brakes::default(), None);
    if readable {
        match reconcile::brakes(host) {
            Ok(read) => brakes = read,
            Err(stop) => note(&stop.message),
        }
        match reconcile::history(&host.state()) {
            Ok(history) => last = history.into_iter().next(),
            Err(error) => note(&error),
        }
    }
    let mut status = make(&Parts {
        host: ledger.bound.as_ref().map(|bound| bound.host.as_str()),
        applied: ledger.applied.as_ref(),
        attempted: ledger.attempted.as_ref(),
        brakes: &brakes,
        previous,
        last: last.map(|last| Last { pass: last.pass, at: last.at, took_ms: 0, state: last.state }),
        ..Parts::new(&settings, host.now())
    });
    status.resources.managed = ledger.entries.len();
    status.notes = notes;
    status
}
