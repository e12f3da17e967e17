//! The agent's settings, read anew.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::super::schedule::Schedule;
use super::super::systemd;
use super::Agent;
use crate::config::Settings;
use crate::model::{Class, Facts, Stop};
use crate::reconcile;
use crate::report::journal;

/// How long after settings could not be looked at they are read again.
const REREAD: Duration = Duration::from_secs(60);

impl Agent {
    pub(super) fn reload(&mut self) {
        systemd::reloading();
        self.read_settings();
        systemd::ready();
    }

    pub(super) fn read_settings(&mut self) {
        let facts = self.host.facts().ok();
        self.reread = None;
        let (settings, digest) = reconcile::settings_and_digest(&self.host);
        match settings {
            Ok(settings) => {
                self.settings = Ok(settings);
                (self.digest, self.refused) = (digest, None);
                self.facts = facts;
                self.schedule = rhythm(&self.settings, self.facts.as_ref());
                self.leave_alone = None;
                self.log(&[journal::reloaded()]);
                self.brakes = reconcile::brakes(&self.host);
                // It may be what they were changed for.
                if let Some(current) = &self.running {
                    current.link.interrupt.store(true, Ordering::Relaxed);
                }
                self.want(true);
            }
            // There were none before, and nothing new to say of those that still cannot be looked at.
            Err(stop) if self.settings.is_err() => {
                self.reread = again(Some(&stop));
                if self.settings.as_ref().err() != Some(&stop) {
                    self.log(&[journal::no_settings(&stop.message)]);
                }
                self.settings = Err(stop);
            }
            // What was in force goes on.
            Err(stop) => {
                self.log(&[journal::bad_settings(&stop.message)]);
                self.refused = Some(format!("settings were not taken, and those from before stay: {}", stop.message));
            }
        }
    }
}

/// When settings are read again that could not be looked at; those that are wrong stay so until somebody reloads.
pub(super) fn again(stop: Option<&Stop>) -> Option<Instant> {
    stop.filter(|stop| stop.class == Class::Transient).map(|_| Instant::now() + REREAD)
}

/// The rhythm of this host: by what no other host has.
pub(super) fn rhythm(settings: &Result<Settings, Stop>, facts: Option<&Facts>) -> Schedule {
    let interval = settings.as_ref().ok().and_then(|settings| settings.source.as_ref()).map(|source| source.interval);
    let own = facts.and_then(|facts| facts.machine_id.as_deref().or(facts.hostname.as_deref())).unwrap_or_default();
    Schedule::new(interval.unwrap_or(Duration::from_secs(60)), own)
}
