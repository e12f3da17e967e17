//! What lies above a path may change its type in the same plan: then what is below it is judged, ordered and held
//! back together with that.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, HeldStep, Plan, Situation, Step};
use crate::kinds::{Before, Observed, Spec, file};
use crate::ledger::Origin;
use crate::model::Id;

/// How a path below something that changes is to be judged.
pub(super) enum Below {
    /// By what the look found.
    AsSeen,
    /// Nothing is there: what the look found lies behind a link, or a file, that goes first.
    Nothing,
    /// What the look found is behind a link that we made since it was written: it is not ours.
    Elsewhere,
}

/// What `step` does to what lies below it.
pub(super) fn turn(step: &Step) -> Option<file::Turn> {
    match (&step.want, &step.seen) {
        (Spec::File(want), Observed::File(seen)) => file::turn(want, seen),
        _ => None,
    }
}

/// The resources that lie above `id`, the nearest first.
fn above(id: &Id) -> impl Iterator<Item = Id> {
    let file = id.kind() == "file";
    file::ancestors(id.name()).filter(move |_| file).map(|path| Id::new("file", path))
}

/// How `id`, which is `wanted` or not, is to be judged, `turns` being the steps above it that change their type.
pub(super) fn judged(situation: &Situation<'_>, turns: &BTreeMap<Id, file::Turn>, id: &Id, wanted: bool) -> Below {
    if wanted {
        let goes = !turns.is_empty() && above(id).any(|above| turns.get(&above) == Some(&file::Turn::Opens));
        return if goes { Below::Nothing } else { Below::AsSeen };
    }
    // What was written by way of a link that stood there before us is let go by way of it.
    let made_by_us = |above: &Id| {
        let entry = situation.ledger.entries.get(above)?;
        let link = entry.intended.as_deref().into_iter().chain(&entry.applied).any(|spec| spec.is_link());
        let before = matches!(&entry.origin, Origin::Found { before, .. } if !was_link(before));
        let now = matches!(situation.observed.get(above), Some(Ok(Observed::File(seen))) if seen.is_link());
        (link && before && now).then_some(())
    };
    if above(id).any(|above| made_by_us(&above).is_some()) { Below::Elsewhere } else { Below::AsSeen }
}

fn was_link(before: &Before) -> bool {
    matches!(before, Before::File(file::Before::Symlink { .. }))
}

/// What lies below something that is held back, and would have gone first, is held back with it.
pub(super) fn hold_back(plan: &mut Plan) {
    let held = plan.held.iter().filter(|held| turn(&held.step) == Some(file::Turn::Opens));
    let held: BTreeMap<Id, _> = held.map(|held| (held.step.id.clone(), held.why.clone())).collect();
    if held.is_empty() {
        return;
    }
    for step in std::mem::take(&mut plan.steps) {
        let why = above(&step.id).find_map(|above| held.get(&above)).filter(|_| step.action != Action::LetGo);
        match why.cloned() {
            Some(why) => plan.held.push(HeldStep { step, why }),
            None => plan.steps.push(step),
        }
    }
}

/// In the order of work; parents before what is in them, what goes after the rest and the other way round. What
/// stands in the way of something goes before it, and what is in a directory that becomes something else before that.
pub(super) fn order(steps: &mut [Step]) {
    const BEFORE: u8 = 0;
    const WORK: u8 = 1;
    const AFTER: u8 = 2;
    let mut class: Vec<u8> = steps.iter().map(|step| if step.want.removes() { AFTER } else { WORK }).collect();
    let turns: BTreeMap<Id, (usize, file::Turn)> =
        steps.iter().enumerate().filter_map(|(at, step)| Some((step.id.clone(), (at, turn(step)?)))).collect();
    for at in 0..steps.len() {
        if class[at] != WORK || steps[at].action == Action::LetGo || turns.is_empty() {
            continue;
        }
        for (over, _) in
            above(&steps[at].id).filter_map(|id| turns.get(&id)).filter(|(_, turn)| *turn == file::Turn::Opens)
        {
            class[*over] = WORK;
            steps[*over].phase = steps[*over].phase.min(steps[at].phase);
        }
    }
    for at in 0..steps.len() {
        if steps[at].action != Action::LetGo || turns.is_empty() {
            continue;
        }
        let over = above(&steps[at].id).filter_map(|id| turns.get(&id)).map(|(over, _)| *over);
        for over in over.filter(|over| class[*over] == WORK).collect::<BTreeSet<_>>() {
            class[at] = BEFORE;
            steps[at].phase = steps[at].phase.min(steps[over].phase);
        }
    }
    let class: BTreeMap<Id, u8> = steps.iter().map(|step| step.id.clone()).zip(class).collect();
    steps.sort_by(|a, b| {
        let (of_a, of_b) = (class[&a.id], class[&b.id]);
        a.phase.cmp(&b.phase).then(of_a.cmp(&of_b)).then_with(|| match of_a {
            WORK => a.id.cmp(&b.id),
            _ => b.id.cmp(&a.id),
        })
    });
}
