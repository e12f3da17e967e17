use std::collections::BTreeSet;

use super::{Applied, Error, Ground};
use crate::host::{self, Payloads, Reader, StateDir, StateError};
use crate::kinds::{Before, Observed, Phase, Spec, file, package};
use crate::ledger::{self, Entry, KEPT_BYTES, Origin, OwedRefresh, Why};
use crate::model::{Digest, Id, Outcome};
use crate::plan::{Action, Plan, PlannedRefresh, Step};
use crate::secret::Plain;

/// Removes the temporary files that a pass which was cut short may have left beside what it was writing.
pub(super) fn sweep(ground: &mut Ground<'_>) {
    let entries = ground.ledger.entries.iter();
    let intended =
        entries.filter(|(id, entry)| id.kind() == "file" && entry.intended.is_some()).map(|(id, _)| id.name());
    for path in intended.chain(ground.ledger.writing.iter().map(String::as_str)) {
        file::sweep(ground.host, path);
    }
}

/// Notes which of the directories that were about to be made on the way to something really were made by us. What
/// somebody else made meanwhile, an administrator or a package, is theirs.
pub(super) fn made(ground: &mut Ground<'_>) {
    let made = ground.host.take_made();
    if made.is_empty() {
        return;
    }
    let is_made = |path: &String| ground.host.canonical(path).is_ok_and(|real| made.contains(&real));
    let ours: Vec<String> = ground.ledger.making.iter().filter(|path| is_made(path)).cloned().collect();
    for path in ours {
        ground.ledger.making.remove(&path);
        ground.ledger.implied.insert(path);
    }
}

/// Writes down, synced, everything that is about to be done: contents to write, copies of what will be
/// overwritten, who owns what, what units and the system will have to do. Only then may it be done.
pub(super) fn intend(ground: &mut Ground<'_>, plan: &Plan, applied: &mut Applied) -> Result<(), Error> {
    if plan.is_empty() {
        return Ok(());
    }
    if !ground.payloads.is_empty() {
        ground.payloads.store(ground.state)?;
    }
    let now = ground.host.now();
    // What packages bring is known only after them; then all is planned, and this done, once more.
    let packages = plan.steps.iter().any(|step| step.phase == Phase::Packages);
    applied.unkept.extend(beyond(ground, plan, applied)?);
    let goes = plan.steps.iter().filter(|step| step.opens_way()).map(|step| step.id.name()).collect();
    let returns = |step: &&Step| step.action == Action::LetGo && !step.want.removes();
    let returning: BTreeSet<&Id> = plan.steps.iter().filter(returns).map(|step| &step.id).collect();
    // What is made on the way to one file in a directory is what is made on the way to all.
    let mut ways = BTreeSet::new();
    for step in &plan.steps {
        let before = match keep(ground, step, plan, now, applied)? {
            Ok(Stood { before, copy }) => {
                applied.kept.extend(copy.map(|copy| (step.id.clone(), copy)));
                before
            }
            Err(error) => {
                super::ended(ground, step, plan, Err(error), applied);
                continue;
            }
        };
        if step.action == Action::LetGo && step.id.kind() == "file" && !step.want.removes() {
            ground.ledger.writing.insert(step.id.name().to_owned());
        }
        if step.id.kind() == "file"
            && !step.want.removes()
            && !(packages && step.phase > Phase::Packages)
            && let way = file::ancestors(step.id.name()).next()
            && !ways.contains(&way)
        {
            match make_on_the_way(ground, step, &goes, &returning) {
                // What would be made unseen would stay for good.
                Err(error) if error.reason() == "io-error" => {
                    super::ended(ground, step, plan, Err(error), applied);
                    continue;
                }
                Err(_) => {}
                Ok(()) => drop(ways.insert(way)),
            }
        }
        // What is let go stays recorded as it was last applied until it is gone.
        if step.action != Action::LetGo && own(ground, step, before, now) {
            applied.made.insert(step.id.clone());
        }
    }
    for (id, asked) in &plan.following {
        ground.ledger.following.entry(id.clone()).or_default().extend(asked.clone());
    }
    let starting = |id: &Id| applied.outcomes.get(id).is_none_or(|outcome| *outcome == Outcome::Done);
    // What is held back is owed all the same.
    let waiting = plan.waiting.iter().map(|(what, _)| *what);
    ground.ledger.activations.extend(plan.activations.iter().copied().chain(waiting));
    let owing = plan.owing.iter().map(|held| &held.refresh);
    let all = plan.refreshes.iter().chain(owing).filter(|refresh| refresh.because.iter().any(starting)).cloned();
    // What catches up is owed too: once it was tried, systemd's own dates tell of it, whether it was done or failed.
    let steps = plan.steps.iter().filter(|step| starting(&step.id));
    for refresh in all.chain(steps.filter_map(Step::catching_up)) {
        let PlannedRefresh { how, because, invocation, catches_up, .. } = refresh;
        let owed = OwedRefresh { how, because, invocation, catches_up };
        // What came to be known since the plan was made.
        let known = ground.ledger.refreshes.remove(&refresh.id).filter(|known| known.invocation == owed.invocation);
        let owed = known.into_iter().fold(owed, OwedRefresh::join);
        ground.ledger.refreshes.insert(refresh.id.clone(), owed);
    }
    ledger::save(ground.state, ground.ledger)?;
    Ok(())
}

/// The steps for whose edits there is no room: of the most that is kept of them, this pass has what it makes itself, and
/// older ones give way before anything is copied.
fn beyond(ground: &mut Ground<'_>, plan: &Plan, applied: &Applied) -> Result<BTreeSet<Id>, Error> {
    let fresh: BTreeSet<String> = applied.kept.values().cloned().collect();
    let mine = ground.ledger.kept.iter().filter(|copy| copy.why == Why::Edit && fresh.contains(&copy.id));
    let mut room = KEPT_BYTES.saturating_sub(mine.map(|copy| copy.size).sum());
    let mut beyond = BTreeSet::new();
    for step in &plan.steps {
        let (Spec::File(want), Observed::File(seen)) = (&step.want, &step.seen) else { continue };
        let size = match step.keep {
            Some(Why::Original) => continue,
            // What cannot be told is told when it is copied.
            _ if file::goes_whole(want, seen) => file::tree_size(ground.host, step.id.name()).unwrap_or_default(),
            Some(Why::Edit) if step.want.overwrites() => seen.size(),
            _ => continue,
        };
        match room.checked_sub(size) {
            Some(left) => room = left,
            None => drop(beyond.insert(step.id.clone())),
        }
    }
    if ground.ledger.make_room(room, &fresh) {
        // In this order: what the ledger names is there.
        ledger::save(ground.state, ground.ledger)?;
        sweep_kept(ground)?;
    }
    Ok(beyond)
}

/// What stood where a step goes, and the copy of it, where one is kept.
struct Stood {
    before: Before,
    copy: Option<String>,
}

/// Why nothing could be kept: the outer error ends the pass, the inner one the step.
enum NotKept {
    State(StateError),
    Host(host::Error),
}

impl From<host::Error> for NotKept {
    fn from(error: host::Error) -> Self {
        Self::Host(error)
    }
}

/// Copies what stands there, where it has to be kept. The outer error ends the pass, the inner one the step.
fn keep(
    ground: &mut Ground<'_>,
    step: &Step,
    plan: &Plan,
    now: i64,
    applied: &Applied,
) -> Result<Result<Stood, host::Error>, Error> {
    let before = match stood(ground.host, &step.id, &step.seen) {
        Ok(before) => before,
        Err(error) => return Ok(Err(error)),
    };
    if let (Spec::File(want), Observed::File(seen)) = (&step.want, &step.seen)
        && file::goes_whole(want, seen)
    {
        if applied.unkept.contains(&step.id) {
            return Ok(Err(no_room(step)));
        }
        return match whole(ground, step, seen, plan) {
            Ok((before, size)) => Ok(Ok(note(ground, step, before, size, now, applied))),
            Err(NotKept::Host(error)) => Ok(Err(error)),
            Err(NotKept::State(error)) => Err(error.into()),
        };
    }
    if step.keep.is_none() || !before.expires() || !step.want.overwrites() {
        // A stopped unit or a removed package is nobody's work to be given back.
        return Ok(Ok(Stood { before, copy: None }));
    }
    if applied.unkept.contains(&step.id) {
        return Ok(match ground.desired.stranger_of(&step.id) {
            None => Ok(Stood { before, copy: None }),
            // Nothing takes its place: it can wait for room.
            Some(_) => Err(no_room(step)),
        });
    }
    let (mut size, mut before) = (0, before);
    if before.content_digest().is_some() {
        (before, size) = match keep_content(ground.host, &step.id, &step.seen, before, step.secret)? {
            Ok(kept) => kept,
            Err(error) => return Ok(Err(error)),
        };
    }
    Ok(Ok(note(ground, step, before, size, now, applied)))
}

/// What stands at `id`, which was `seen`, with all that putting it back needs but its content.
///
/// # Errors
/// Where that cannot be told, or it is no longer as it was seen.
pub fn stood(host: &Reader, id: &Id, seen: &Observed) -> Result<Before, host::Error> {
    match seen.before() {
        Before::File(before) => before.told_of_list(host, id.name()).map(Before::File),
        before => Ok(before),
    }
}

fn no_room(step: &Step) -> host::Error {
    host::Error::Refused {
        thing: step.id.name().to_owned(),
        reason: "too-large-to-keep",
        why: "this pass keeps as much of what it overwrites as it may already; the next one goes on".to_owned(),
    }
}

/// A directory that goes with all that is in it, and the length of that.
fn whole(ground: &Ground<'_>, step: &Step, seen: &file::Observed, plan: &Plan) -> Result<(Before, u64), NotKept> {
    let inside = format!("{}/", step.id.name());
    let let_go: Vec<(&str, &file::Spec)> = plan
        .steps
        .iter()
        .filter(|step| step.action == Action::LetGo && step.id.kind() == "file")
        .filter_map(|step| match &step.want {
            Spec::File(want) => Some((step.id.name().strip_prefix(&inside)?, want)),
            _ => None,
        })
        .collect();
    let implied = |path: &str| ground.ledger.implied.contains(path);
    let mut size = 0;
    let before = file::keep_tree(ground.host, step.id.name(), seen, &let_go, &implied, |within, content| {
        size += content.len() as u64;
        keep_inside(ground, &format!("{inside}{within}"), content)
    })?;
    Ok((Before::File(before), size))
}

/// Puts the content of the file `name`, which goes with the directory that it is in, into our own; of a secret encrypted.
fn keep_inside(ground: &Ground<'_>, name: &str, content: &[u8]) -> Result<file::Kept, NotKept> {
    let entry = ground.ledger.entries.get(&Id::new("file", name));
    if !entry.is_some_and(Entry::is_secret) {
        put(ground.state, content).map_err(NotKept::State)?;
        return Ok(file::Kept::default());
    }
    let sealed = file::seal(ground.host, name, content)?;
    put(ground.state, &sealed).map_err(NotKept::State)?;
    Ok(file::Kept(Some(file::Sealed(Digest::of(&sealed)))))
}

/// Notes the copy in the ledger. Of an empty directory that is to go anyway there is nothing to keep.
fn note(ground: &mut Ground<'_>, step: &Step, before: Before, size: u64, now: i64, applied: &Applied) -> Stood {
    let empty = matches!(&before, Before::File(file::Before::Directory { tree, .. }) if tree.is_empty());
    let why = match step.keep {
        Some(why) => why,
        None if empty => return Stood { before, copy: None },
        None => Why::Edit,
    };
    // Kept in this pass already, before packages were installed.
    let known = applied.kept.get(&step.id);
    let known = known.filter(|id| ground.ledger.kept.iter().any(|copy| copy.id == **id && copy.before == before));
    let copy = match known {
        Some(id) => id.clone(),
        None => ground.ledger.keep(&step.id, why, now, before.clone(), size),
    };
    Stood { before, copy: Some(copy) }
}

/// Puts the content of what stands at `id`, which was `seen`, into our own directory, unless it is there and whole;
/// encrypted to this host where it may be a secret. `before`, with how it is kept, and its length.
///
/// # Errors
/// Where our directory cannot be written; inside, where it is not what the look found, or cannot be read or encrypted.
pub fn keep_content(
    host: &Reader,
    id: &Id,
    seen: &Observed,
    before: Before,
    secret: bool,
) -> Result<Result<(Before, u64), host::Error>, StateError> {
    let Observed::File(file) = seen else { return Ok(Ok((before, 0))) };
    let before = match before {
        Before::File(before) if secret => before,
        before => return Ok(file::keep(host, id.name(), file)?.map(|size| (before, size.unwrap_or_default()))),
    };
    let content = match seen.content(host, id.name()) {
        Ok(Some(content)) => Plain::from(content),
        Ok(None) => return Ok(Ok((Before::File(before), 0))),
        Err(error) => return Ok(Err(error)),
    };
    match file::sealed(host, id.name(), before, &content) {
        Ok((before, encrypted)) => {
            put(&host.state(), &encrypted).map(|()| Ok((Before::File(before), content.len() as u64)))
        }
        Err(error) => Ok(Err(error)),
    }
}

fn put(state: &StateDir, content: &[u8]) -> Result<(), StateError> {
    let name = host::kept_name(&Digest::of(content));
    // One that a failing disk has damaged is written anew.
    let whole = matches!(state.read(&name), Ok(Some(there)) if there == content);
    if whole { Ok(()) } else { state.write(&name, content) }
}

/// Writes down which directories writing `step` is going to make on its way; those in `returning` are put back for
/// their own sake.
fn make_on_the_way(
    ground: &mut Ground<'_>,
    step: &Step,
    goes: &BTreeSet<&str>,
    returning: &BTreeSet<&Id>,
) -> Result<(), host::Error> {
    let made = file::implied(ground.host, step.id.name(), goes)?;
    let declared = |path: &String| {
        let id = Id::new("file", path);
        ground.desired.resources.contains_key(&id) || returning.contains(&id)
    };
    ground.ledger.making.extend(made.into_iter().filter(|path| !declared(path)));
    Ok(())
}

/// Takes charge of what `step` is about to write. Says whether it was not ours before.
fn own(ground: &mut Ground<'_>, step: &Step, before: Before, now: i64) -> bool {
    // A directory that was made for what lies below it is declared by now: there was nothing before us.
    let implied = step.id.kind() == "file" && ground.ledger.implied.remove(step.id.name());
    let strangers = matches!(&before, Before::File(file::Before::Directory { tree, .. }) if !tree.is_empty());
    let before = if implied && !strangers { Before::File(file::Before::Absent) } else { before };
    let new = !ground.ledger.entries.contains_key(&step.id);
    let entry = ground
        .ledger
        .entries
        .entry(step.id.clone())
        .or_insert_with(|| Entry::new(Origin::Adopted, step.drift, step.release, &step.layer));
    // Of an empty directory that we made there is nothing that was there before us.
    let made = matches!(&entry.origin, Origin::Found { before: Before::File(file::Before::Absent), .. });
    let empty = matches!(&before, Before::File(file::Before::Directory { .. })) && !strangers;
    if step.original && !(made && empty) {
        let before = match &entry.origin {
            Origin::Found { before: known, .. } => before.renewed(known),
            Origin::Adopted => before,
        };
        entry.origin = Origin::Found { before, at: now, overwritten: false };
    }
    entry.intended = Some(Box::new(step.want.clone()));
    (entry.drift, entry.release) = (step.drift, step.release);
    entry.layer.clone_from(&step.layer);
    new
}

/// Removes directories that were made only for what lay in them, once nothing of ours does and they are empty.
///
/// # Errors
/// Where our own directory cannot be written.
pub fn drop_implied(ground: &mut Ground<'_>) -> Result<(), Error> {
    let needed = |ledger: &ledger::Ledger, path: &str| {
        let below = format!("{path}/");
        ledger.entries.contains_key(&Id::new("file", path))
            || ledger
                .entries
                .range(Id::new("file", &below)..)
                .next()
                .is_some_and(|(id, _)| id.name().starts_with(&below))
    };
    let idle: Vec<String> =
        ground.ledger.implied.iter().rev().filter(|path| !needed(ground.ledger, path)).cloned().collect();
    let mut dropped = false;
    for path in idle {
        // Not empty: strangers live there now. It stays, and stays known, until they are gone.
        if ground.host.remove_directory(&path).is_ok() {
            dropped |= ground.ledger.implied.remove(&path);
        }
    }
    if dropped {
        ledger::save(ground.state, ground.ledger)?;
    }
    Ok(())
}

/// Removes contents and packs that nothing needs any more, and what a pass that was killed left of a package
/// transaction; `packs` are those that something needs.
///
/// # Errors
/// Where our own directory cannot be read or written.
pub fn sweep_contents(ground: &Ground<'_>, packs: &[Digest]) -> Result<(), Error> {
    sweep_kept(ground)?;
    Payloads::sweep(ground.state, packs)?;
    package::sweep(ground.host)?;
    Ok(())
}

fn sweep_kept(ground: &Ground<'_>) -> Result<(), Error> {
    let contents = ground.ledger.contents(ground.host.now(), ground.originals);
    let needed: BTreeSet<String> = contents.iter().map(host::kept_name).collect();
    for name in ground.state.list("kept")? {
        let name = format!("kept/{name}");
        if !needed.contains(&name) {
            ground.state.remove(&name)?;
        }
    }
    Ok(())
}
