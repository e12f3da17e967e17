use super::Applied;
use crate::host::Reader;
use crate::kinds::{self, Refresh, Spec, unit};
use crate::model::{Id, Outcome};
use crate::plan::{Action, Plan, Step};

/// Looks again at everything that was touched: a step is done when what it wanted holds, not when a
/// program said so.
pub fn settle(host: &Reader, plan: &Plan, applied: &mut Applied) {
    let steps: Vec<&Step> = plan.steps.iter().chain(&applied.afterwards).collect();
    let touched: Vec<&Step> =
        steps.into_iter().filter(|step| applied.outcomes.get(&step.id) == Some(&Outcome::Done)).collect();
    let ids: Vec<&Id> = touched.iter().map(|step| &step.id).collect();
    let found = kinds::observe(host, &ids);
    let mut fallen = Vec::new();
    for (step, seen) in touched.into_iter().zip(found) {
        match seen {
            Ok(seen) if step.action == Action::LetGo => {
                if step.want.removes() && !seen.is_absent() {
                    let why = "something needs it, or it could not be removed";
                    applied.stays.entry(step.id.clone()).or_insert_with(|| why.to_owned());
                }
            }
            Ok(seen) if runs_on(step, &seen) => {
                let why = format!("{}: it was told to restart, and is still the run that it was", step.id);
                fallen.push((step.id.clone(), "did-not-hold", why));
            }
            Ok(seen) if step.want.diff(&seen).is_empty() || may_yet_come(step, &seen) => {}
            Ok(seen) => match step.want.fallen(step.id.name(), &seen) {
                Some(error) => fallen.push((step.id.clone(), error.reason(), error.chain())),
                None => fallen.push((step.id.clone(), "did-not-hold", differs(&step.want, &seen))),
            },
            // Nobody looked any more, which is no word on what was done; the next pass looks.
            Err(error) if error.reason() == "interrupted" => applied.interrupted = true,
            Err(error) => fallen.push((step.id.clone(), error.reason(), error.chain())),
        }
    }
    for (id, reason, message) in fallen {
        applied.outcomes.insert(id, Outcome::Failed { reason: reason.to_owned(), message });
    }
}

/// A restart that did not happen: another invocation would prove it; see systemd.exec(5), `$INVOCATION_ID`.
fn runs_on(step: &Step, seen: &kinds::Observed) -> bool {
    let before = step.seen.invocation();
    let active = matches!(seen, kinds::Observed::Unit(seen) if seen.is_active());
    step.remedy() == Some(Refresh::Restart) && active && before.is_some() && seen.invocation() == before
}

/// It was started in this pass, and its first try came to nothing: whether another one does better is for those who watch
/// it, and for the next look.
fn may_yet_come(step: &Step, seen: &kinds::Observed) -> bool {
    let waits = |seen: &kinds::Observed| matches!(seen, kinds::Observed::Unit(seen) if seen.fails.is_some());
    waits(seen) && !waits(&step.seen) && unit::only_waits(&step.want.diff(seen))
}

fn differs(want: &Spec, seen: &kinds::Observed) -> String {
    let changes: Vec<String> = want.diff(seen).iter().map(ToString::to_string).collect();
    format!("it was applied, and a look afterwards found it otherwise: {}", changes.join(", "))
}
