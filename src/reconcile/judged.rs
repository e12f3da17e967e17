//! What was made of the tip of the branch when it was seen last. It is remembered across passes and restarts, and
//! insisted on while the source is silent: that nobody answers makes a host neither better nor approved.

use super::Ask;
use crate::brakes::Brakes;
use crate::compile;
use crate::host::StateDir;
use crate::model::{Class, Digest, Facts, Stop};
use crate::report::{Judged, Report, State};

/// Bumped when an older trueup could misread what is written.
const FORMAT: u32 = 1;
/// A document of our own directory.
const NAME: &str = "seen";

/// What is found on this host each time, whoever answers: nothing to be remembered.
const OWN: &[&str] = &["host-changed", "interrupted", "cannot-tell", "state-damaged"];
/// Who this host is decides, and no setting that says how cautious to be.
const WHO: &[&str] = &["no-such-host", "other-machine"];

/// Notes in `report` what was made of the tip that it has seen: `why` it is not acted on as it is.
pub(super) fn judge(report: &mut Report, ask: &Ask, brakes: &Brakes, facts: &Facts, why: Option<(State, &Stop)>) {
    let Some(seen) = report.revision.seen.clone() else { return };
    let Some(source) = ask.settings.source.as_ref().filter(|_| ask.local.is_none()) else { return };
    if why.is_some_and(|(_, stop)| OWN.contains(&stop.reason.as_str())) {
        return;
    }
    report.judged = Some(Judged {
        branch: source.branch.clone(),
        seen,
        commit: report.commit.clone(),
        verdict: why.map(|(state, stop)| (state, stop.clone())),
        names: names(ask, facts),
        under: under(ask, brakes),
    });
}

/// As [`judge`], where there is no newest revision to act on.
pub(super) fn refuse(report: &mut Report, ask: &Ask, brakes: &Brakes, facts: &Facts, why: &Stop, state: &StateDir) {
    match why.class {
        Class::Stalled => judge(report, ask, brakes, facts, Some((state_of(why), why))),
        // Seen, and not to be read just now: what was made of it before still holds.
        Class::Transient if last(state, ask).is_some_and(|last| Some(&last.seen) == report.revision.seen.as_ref()) => {}
        Class::Transient => judge(report, ask, brakes, facts, None),
    }
}

/// How the host is where `why` keeps it from the newest revision.
pub(super) fn state_of(why: &Stop) -> State {
    match (why.class, why.reason.as_str()) {
        (_, "held") => State::Pending,
        (Class::Transient, _) => State::Degraded,
        (Class::Stalled, _) => State::Stalled,
    }
}

/// What was made of the tip that was seen last of this branch. What cannot be read is only not known.
pub(super) fn last(state: &StateDir, ask: &Ask) -> Option<Judged> {
    let branch = &ask.settings.source.as_ref().filter(|_| ask.local.is_none())?.branch;
    let document = state.load::<Judged>(NAME, FORMAT).ok()??;
    // A copy from before may be of another commit.
    (!document.recovered && document.value.branch == *branch).then_some(document.value)
}

/// Why the tip that `last` is of is not acted on, as far as that does not depend on what was set or asked for since.
pub(super) fn verdict(last: &Judged, ask: &Ask, brakes: &Brakes, facts: &Facts) -> Option<(State, Stop)> {
    let (state, stop) = last.verdict.as_ref()?;
    let holds = if WHO.contains(&stop.reason.as_str()) {
        names(ask, facts).iter().all(|name| last.names.contains(name))
    } else {
        stands(last, ask, brakes)
    };
    holds.then(|| (*state, stop.clone()))
}

/// Whether nothing else was set or asked for since.
pub(super) fn stands(last: &Judged, ask: &Ask, brakes: &Brakes) -> bool {
    last.under == under(ask, brakes)
}

/// Remembers what was made of the tip that `report` has seen, where that is new; on disk when this returns. Where it
/// cannot be, that is a note: the next look at the source finds it again.
pub(super) fn remember(state: &StateDir, report: &mut Report) {
    let Some(judged) = report.judged.take() else { return };
    if let Err(error) = state.save(NAME, FORMAT, &judged) {
        report.notes.push(format!("what was seen cannot be remembered: {error}"));
    }
}

fn names(ask: &Ask, facts: &Facts) -> Vec<String> {
    compile::names_tried(ask.settings.host.name.as_deref(), facts)
}

/// Settings and wishes by which a tip is judged, and who judges.
fn under(ask: &Ask, brakes: &Brakes) -> Digest {
    let path = ask.settings.source.as_ref().map(|source| &source.path);
    let chosen = [&brakes.approved, &brakes.rolled_back].map(|choice| choice.as_ref().map(|choice| &choice.commit));
    let all = (env!("CARGO_PKG_VERSION"), &ask.settings.policy, &ask.settings.trust, path, chosen);
    Digest::of(format!("{all:?}").as_bytes())
}
