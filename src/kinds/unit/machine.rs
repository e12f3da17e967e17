//! Units of a running machine, over D-Bus.

use std::collections::{BTreeMap, BTreeSet};

use super::links::{self, Enablement, SYSTEM};
use super::rules::{self, Work};
use super::{Active, Fails, FileState, Install, Load, Observed, Turn, Unit};
use super::{anew, directory, name};
use crate::host::{Asked, Error, Reader, UnitDetails, UnitFileResults, UnitStatus, Writer};
use crate::kinds::{Job, Refresh};

/// How large a unit file may be that is looked into, in bytes.
const UNIT_FILE: u64 = 1 << 20;

/// Looks at `names`: one call for how they run, one for their files, then what only some have.
pub(super) fn observe(host: &Reader, names: &[&str]) -> Vec<Result<Observed, Error>> {
    let bus = match host.bus() {
        Ok(bus) => bus,
        Err(error) => {
            let why = error.to_string();
            let unknown = |name: &&str| Err(Error::Unknown { thing: format!("unit:{name}"), why: why.clone() });
            return names.iter().map(unknown).collect();
        }
    };
    let valid: Vec<&str> = names.iter().copied().filter(|name| name::is_valid(name)).collect();
    let loadable: Vec<&str> = valid.iter().copied().filter(|name| !name::is_template(name)).collect();
    let mut found = first_looks(names, bus.file_states(&valid), bus.statuses(&loadable));

    let loaded: Vec<usize> = (0..names.len())
        .filter(|&i| !name::is_template(names[i]) && matches!(&found[i], Ok(seen) if seen.load == Load::Loaded))
        .collect();
    let asks: Vec<(&str, Asked)> =
        loaded.iter().map(|&i| (names[i], found[i].as_ref().map_or(Asked::Nothing, asked))).collect();
    for (&i, details) in loaded.iter().zip(bus.details(&asks)) {
        match (details, &mut found[i]) {
            (Ok(details), Ok(seen)) => add(seen, details),
            (Err(error), seen) => *seen = Err(error),
            (Ok(_), Err(_)) => {}
        }
    }
    anew::add(host, names, &mut found);
    for (name, seen) in names.iter().zip(&mut found) {
        if let Err(error) = seen.as_mut().map_or(Ok(()), |seen| refine(host, name, seen)) {
            *seen = Err(error);
        }
    }
    found
}

/// What the two calls for many units tell of each: `files` of all that are valid names, `statuses` of those of them
/// that are no template.
fn first_looks(
    names: &[&str],
    files: Vec<Result<Option<String>, Error>>,
    statuses: Vec<Result<UnitStatus, Error>>,
) -> Vec<Result<Observed, Error>> {
    let (mut files, mut statuses) = (files.into_iter(), statuses.into_iter());
    let look = |name: &&str| {
        if !name::is_valid(name) {
            return Err(rules::refused(name, "not-a-unit-name", "unit names end in their type, as nginx.service"));
        }
        // Both are taken before either is judged: what is next belongs to the next name.
        let file = files.next().unwrap_or(Ok(None));
        // A template has a unit file, and nothing that runs.
        let status = if name::is_template(name) { None } else { statuses.next() };
        Ok(first_look(file?.as_deref(), status.transpose()?.as_ref()))
    };
    names.iter().map(look).collect()
}

/// What the two calls for many units tell of one.
fn first_look(file: Option<&str>, status: Option<&UnitStatus>) -> Observed {
    let file = file.filter(|state| !state.is_empty()).map_or(FileState::None, FileState::parse);
    let mut seen = Observed::nothing(Some(Active::Inactive));
    seen.file = file;
    match status {
        Some(status) => {
            seen.load = Load::parse(&status.load);
            seen.active = Some(Active::parse(&status.active));
            seen.sub.clone_from(&status.sub);
        }
        None => {
            seen.load = match file {
                FileState::None => Load::NotFound,
                FileState::Masked | FileState::MaskedRuntime => Load::Masked,
                _ => Load::Loaded,
            }
        }
    }
    seen
}

/// What more there is to ask of a unit.
fn asked(seen: &Observed) -> Asked {
    match (seen.active, seen.sub.as_str()) {
        _ if seen.waits() => Asked::Waits,
        // What has exited, and stays active for that, runs nothing.
        (Some(Active::Active), "running") => Asked::Runs,
        (Some(Active::Active), _) => Asked::Nothing,
        _ => Asked::AtRest,
    }
}

fn add(seen: &mut Observed, details: UnitDetails) {
    seen.oneshot = details.service_type.as_deref() == Some("oneshot") && !details.remain_after_exit;
    seen.condition_failed = details.condition_failed;
    let failed = details.result.filter(|result| result != "success");
    seen.fails = failed.map(|result| Fails { result, anew: false });
    seen.invocation = details.invocation;
    seen.need_daemon_reload = details.need_daemon_reload;
    seen.main = details.main;
}

/// Two words of systemd's mean two things each, which only the unit file itself tells apart.
fn refine(host: &Reader, name: &str, seen: &mut Observed) -> Result<(), Error> {
    let loaded = seen.load == Load::Loaded && !name::is_template(name);
    match seen.file {
        // Nothing to enable: as good as static, though systemd calls it linked.
        FileState::Linked | FileState::LinkedRuntime if loaded && !has_install(host, name)? => {
            seen.file = FileState::Static;
        }
        // systemd has made it by itself, as it does `-.mount` and `system.slice`: there is nothing to enable.
        FileState::None if loaded && host.bus()?.fragment(name)?.is_empty() => seen.file = FileState::Static,
        // Not enabled, though another name of it is linked.
        FileState::Indirect if loaded && has_install(host, name)? => seen.file = FileState::Disabled,
        FileState::Enabled | FileState::Indirect if name::is_template(name) => {
            seen.instances_only = links::has_none_of_its_own(host, &links::all(host)?, name);
        }
        _ => {}
    }
    Ok(())
}

fn has_install(host: &Reader, name: &str) -> Result<bool, Error> {
    let path = host.bus()?.fragment(name)?;
    let text = if path.is_empty() { None } else { host.read_following(&path, UNIT_FILE)? };
    let mut install = Install::default();
    install.add(&String::from_utf8_lossy(&text.unwrap_or_default()));
    Ok(!install.has_no_links())
}

/// Masks and links first, then one daemon-reload, then what stops, then what starts; but what is masked stops before.
pub(super) fn apply(host: &mut Writer, jobs: &[Job<'_, Unit>], enablement: &Enablement) -> Vec<Result<(), Error>> {
    let names: Vec<&str> = jobs.iter().map(|job| job.name).collect();
    // What the plan saw is from before packages and files: the look that counts is now.
    let mut now = observe(host, &names);
    let behind = |(seen, job): (&Result<Observed, Error>, &Job<'_, Unit>)| match seen {
        Ok(seen) => seen.need_daemon_reload || (seen.load == Load::NotFound && rules::wants_on(job.want)),
        Err(_) => false,
    };
    if now.iter().zip(jobs).any(behind) {
        if let Err(error) = host.daemon_reload() {
            return everybody(&names, &error);
        }
        now = observe(host, &names);
    }
    unmask(host, jobs, &names, &mut now);

    let mut works: Vec<Result<Work, Error>> =
        now.into_iter().zip(jobs).map(|(seen, job)| rules::work(job.name, job.want, (job.seen, &seen?))).collect();
    let mut changed = false;
    let mut keep = |(results, any): UnitFileResults| {
        changed |= any;
        results
    };
    stage(&mut works, &names, |work| work.disable, |names| keep(disable(host, names, enablement)));
    stage(&mut works, &names, |work| work.disable_runtime, |names| keep(host.disable_units(names, true)));
    stage(&mut works, &names, |work| work.enable, |names| keep(host.enable_units(names)));
    // After that: what is to stay enabled is so at every instant.
    stage(&mut works, &names, |work| work.unlink, |names| keep(unlink(host, jobs, names)));
    // A timer that still runs when systemd reads that it is masked fails, as what it starts has vanished.
    stage(&mut works, &names, |work| work.mask && work.stop, |names| host.stop_units(names));
    stage(&mut works, &names, |work| work.mask, |names| keep(host.mask_units(names)));
    if changed && let Err(error) = host.daemon_reload() {
        return everybody(&names, &error);
    }
    if changed {
        named_by_now(host, jobs, &mut works);
    }
    stage(&mut works, &names, |work| work.stop && !work.mask, |names| host.stop_units(names));
    stage(&mut works, &names, |work| work.start, |names| start(host, names));
    works.into_iter().map(|work| work.map(drop)).collect()
}

/// What is another name (`Alias=`) of a unit that was enabled just now is there only now.
fn named_by_now(host: &Reader, jobs: &[Job<'_, Unit>], works: &mut [Result<Work, Error>]) {
    let missing = |work: &Result<Work, Error>| work.as_ref().is_err_and(|error| error.reason() == "no-such-unit");
    let missing: Vec<usize> = (0..works.len()).filter(|&at| missing(&works[at])).collect();
    let names: Vec<&str> = missing.iter().map(|&at| jobs[at].name).collect();
    if names.is_empty() {
        return;
    }
    for (at, seen) in missing.into_iter().zip(observe(host, &names)) {
        let Ok(seen) = seen else { continue };
        if let Ok(work) = rules::work(jobs[at].name, jobs[at].want, (jobs[at].seen, &seen)) {
            works[at] = Ok(work);
        }
    }
}

/// Those whose unit file is a link of the administrator's: systemd's own disabling would remove that too, and the unit
/// with it.
fn linked(host: &Reader, names: &[&str]) -> BTreeSet<String> {
    let is_linked = |name: &&&str| {
        // A link to another name is an alias, which goes with the links of its unit.
        let target = host.read_link(&format!("{SYSTEM}/{name}")).ok().flatten();
        target.is_some_and(|target| target.rsplit('/').next() == Some(name))
    };
    names.iter().filter(is_linked).map(|name| (*name).to_owned()).collect()
}

/// Removes the links that enabling makes: by systemd, but for those whose unit file it would take away too, or links of
/// what is declared to be enabled.
fn disable(host: &mut Writer, names: &[&str], enablement: &Enablement) -> UnitFileResults {
    let linked = linked(host, names);
    let mut results: BTreeMap<&str, Result<(), Error>> = BTreeMap::new();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for name in names.iter().copied() {
        match links::of_disabling(host, name, enablement) {
            Ok((_, stay)) if linked.contains(name) || !stay.is_empty() => ours.push(name),
            Ok(_) => theirs.push(name),
            // What has to stay cannot be told.
            Err(error) => drop(results.insert(name, Err(error))),
        }
    }
    let (disabled, changed) = host.disable_units(&theirs, false);
    results.extend(theirs.into_iter().zip(disabled));
    for name in &ours {
        results.insert(*name, directory::unlink(host, name, enablement));
    }
    let answers = names.iter().map(|name| results.remove(name).unwrap_or(Ok(()))).collect();
    (answers, changed || !ours.is_empty())
}

/// Removes the links that the sections of `names` do not ask for any more.
fn unlink(host: &mut Writer, jobs: &[Job<'_, Unit>], names: &[&str]) -> UnitFileResults {
    let follow = |name: &&str| jobs.iter().find(|job| job.name == *name).and_then(|job| job.seen.follow.as_ref());
    let gone = |name| follow(name).map_or(Ok(()), |follow| directory::unfollow(host, name, follow));
    (names.iter().map(gone).collect(), true)
}

/// Takes masks off where that is declared; what is below is only then to be seen.
fn unmask(host: &mut Writer, jobs: &[Job<'_, Unit>], names: &[&str], now: &mut [Result<Observed, Error>]) {
    let masked: Vec<usize> = (0..jobs.len())
        .filter(|&i| jobs[i].want.masked == Some(false) && matches!(&now[i], Ok(seen) if seen.is_masked()))
        .collect();
    if masked.is_empty() {
        return;
    }
    let some: Vec<&str> = masked.iter().map(|&i| names[i]).collect();
    let (results, _) = host.unmask_units(&some);
    let reloaded = host.daemon_reload();
    for ((&i, result), seen) in masked.iter().zip(results).zip(observe(host, &some)) {
        now[i] = match (&reloaded, result) {
            (Ok(()), Ok(())) => seen,
            (_, Err(error)) => Err(error),
            (Err(error), _) => Err(again(names[i], error)),
        };
    }
}

/// Does one kind of work for all that need it; whoever fails is out of the rest.
fn stage(
    works: &mut [Result<Work, Error>],
    names: &[&str],
    needed: impl Fn(&Work) -> bool,
    run: impl FnOnce(&[&str]) -> Vec<Result<(), Error>>,
) {
    let some: Vec<usize> = (0..works.len()).filter(|&i| matches!(&works[i], Ok(work) if needed(work))).collect();
    if some.is_empty() {
        return;
    }
    let batch: Vec<&str> = some.iter().map(|&i| names[i]).collect();
    for (&i, result) in some.iter().zip(run(&batch)) {
        if let Err(error) = result {
            works[i] = Err(error);
        }
    }
}

/// Restarts, reloads and starts; each answers for itself. What is not active is neither restarted nor reloaded; nor is
/// what has restarted already along with another, see `PartOf=` and its like in systemd.unit(5).
pub(super) fn refresh(host: &mut Writer, turns: &[Turn<'_>]) -> Vec<Result<(), Error>> {
    let names: Vec<&str> = turns.iter().map(|turn| turn.name).collect();
    let statuses = match host.bus() {
        Ok(bus) => bus.statuses(&names),
        Err(error) => return everybody(&names, &error),
    };
    let mut results: Vec<Result<(), Error>> = Vec::with_capacity(turns.len());
    let mut due = [Vec::new(), Vec::new(), Vec::new()];
    for (i, (status, turn)) in statuses.into_iter().zip(turns).enumerate() {
        let active = status.map(|status| Active::parse(&status.active).is_active());
        match (&active, turn.how) {
            (Ok(true), Refresh::Restart) => due[0].push(i),
            (Ok(true), Refresh::Reload) => due[1].push(i),
            (Ok(_), Refresh::Start) => due[2].push(i),
            (Ok(false), _) | (Err(_), _) => {}
        }
        results.push(active.map(drop));
    }
    let runs = read_anew(host, turns, &mut due, &mut results);
    let [restarts, reloads, starts] = due;
    let batch = |which: &[usize]| which.iter().map(|&i| names[i]).collect::<Vec<_>>();
    let mut done: Vec<(usize, Result<(), Error>)> = Vec::new();
    for wave in waves(host, turns, restarts) {
        let wave = run_still(host, turns, &runs, wave, &mut results);
        done.extend(wave.iter().copied().zip(host.restart_units(&batch(&wave))));
    }
    // What restarts has read all there is to read: whoever is a part of it needs no reload then.
    let reloads = run_still(host, turns, &runs, reloads, &mut results);
    done.extend(reloads.iter().copied().zip(host.reload_units(&batch(&reloads))));
    done.extend(starts.iter().copied().zip(host.start_units(&batch(&starts))));
    for (i, result) in done {
        results[i] = result;
    }
    results
}

/// Starts these, sockets first: once its service is active systemd refuses to start one (systemd.socket(5)).
fn start(host: &mut Writer, names: &[&str]) -> Vec<Result<(), Error>> {
    let (sockets, others): (Vec<&str>, Vec<&str>) = names.iter().copied().partition(|name| name.ends_with(".socket"));
    let mut results: BTreeMap<&str, Result<(), Error>> = BTreeMap::new();
    for some in [sockets, others] {
        let started = host.start_units(&some);
        results.extend(some.into_iter().zip(started));
    }
    names.iter().map(|name| results.remove(name).unwrap_or(Ok(()))).collect()
}

/// See [`super::forget_failed`].
pub(super) fn forget_failed(host: &mut Writer, names: &[&str]) {
    let names: Vec<&str> =
        names.iter().copied().filter(|name| name::is_valid(name) && !name::is_template(name)).collect();
    let Ok(statuses) = host.bus().map(|bus| bus.statuses(&names)) else { return };
    let gone = |status: &UnitStatus| {
        Load::parse(&status.load) == Load::NotFound && Active::parse(&status.active) == Active::Failed
    };
    let gone = names.iter().zip(statuses).filter(|(_, status)| status.as_ref().is_ok_and(gone));
    let gone: Vec<&str> = gone.map(|(name, _)| *name).collect();
    host.reset_failed_units(&gone);
}

/// Those of `due` that restart, in the order in which they have to: what restarts along with another comes after that.
fn waves(host: &Reader, turns: &[Turn<'_>], due: Vec<usize>) -> Vec<Vec<usize>> {
    if due.len() < 2 {
        return vec![due];
    }
    let names: Vec<&str> = due.iter().map(|&i| turns[i].name).collect();
    // Of what cannot be told nothing is known to restart with another: at worst it does so twice.
    let Ok(follows) = host.bus().map(|bus| bus.restarts_with(&names)) else { return vec![due] };
    let follows = follows.into_iter().map(Result::unwrap_or_default).collect::<Vec<_>>();
    layers(&names, &follows).into_iter().map(|layer| layer.into_iter().map(|at| due[at]).collect()).collect()
}

/// The places of `names`, each after those of them that it `follows`; those that follow each other are together.
fn layers(names: &[&str], follows: &[Vec<String>]) -> Vec<Vec<usize>> {
    let mut left: Vec<usize> = (0..names.len()).collect();
    let mut layers = Vec::new();
    while !left.is_empty() {
        let waits =
            |&at: &usize| left.iter().any(|&other| other != at && follows[at].iter().any(|it| it == names[other]));
        let (rest, now): (Vec<usize>, Vec<usize>) = left.iter().copied().partition(waits);
        let (now, rest) = if now.is_empty() { (rest, Vec::new()) } else { (now, rest) };
        layers.push(now);
        left = rest;
    }
    layers
}

/// Waits for those of `names` that are about to come up along with another: until then they are who they were.
fn come_up(host: &mut Writer, names: &[&str]) {
    let Ok(statuses) = host.bus().map(|bus| bus.statuses(names)) else { return };
    let comes = names.iter().zip(statuses).filter(|(_, status)| status.as_ref().is_ok_and(|status| status.has_job));
    let coming: Vec<&str> = comes.map(|(name, _)| *name).collect();
    // Whether one did is seen next.
    if !coming.is_empty() {
        host.start_units(&coming);
    }
}

/// Those of `due` that are still the one of their `runs` that has to, as far as can be told: another one has read
/// everything. One that has ended already did not come up again, and that is its result.
fn run_still(
    host: &mut Writer,
    turns: &[Turn<'_>],
    runs: &[Option<String>],
    mut due: Vec<usize>,
    results: &mut [Result<(), Error>],
) -> Vec<usize> {
    if due.iter().all(|&i| runs[i].is_none()) {
        return due;
    }
    come_up(host, &due.iter().map(|&i| turns[i].name).collect::<Vec<_>>());
    let asks: Vec<(&str, Asked)> = due.iter().map(|&i| (turns[i].name, Asked::Nothing)).collect();
    let Ok(details) = host.bus().map(|bus| bus.details(&asks)) else { return due };
    let is_over = |(&i, now): (&usize, Result<UnitDetails, Error>)| {
        now.is_ok_and(|now| runs[i].is_some() && now.invocation.is_some() && now.invocation != runs[i]).then_some(i)
    };
    let over: BTreeSet<usize> = due.iter().zip(details).filter_map(is_over).collect();
    due.retain(|i| !over.contains(i));
    let over: Vec<usize> = over.into_iter().collect();
    let names: Vec<&str> = over.iter().map(|&i| turns[i].name).collect();
    let statuses = host.bus().map(|bus| bus.statuses(&names)).unwrap_or_default();
    for (i, status) in over.into_iter().zip(statuses) {
        match status {
            Ok(status) if Active::parse(&status.active).is_active() => {}
            Ok(status) => {
                results[i] = Err(Error::Unit {
                    thing: format!("unit:{}", turns[i].name),
                    what: "restart",
                    why: format!("it restarted along with another unit, and is {} since", status.active),
                });
            }
            Err(error) => results[i] = Err(error),
        }
    }
    due
}

/// Makes systemd read what it has not yet of the units that are `due`: what replaced their files did not. Where it
/// cannot, these are out of the rest. Answers with the run of each that has to: where systemd reads only now, the one there
/// is now.
fn read_anew(
    host: &mut Writer,
    turns: &[Turn<'_>],
    due: &mut [Vec<usize>; 3],
    results: &mut [Result<(), Error>],
) -> Vec<Option<String>> {
    let mut runs: Vec<Option<String>> = turns.iter().map(|turn| turn.run.map(str::to_owned)).collect();
    let all: Vec<usize> = due.iter().flatten().copied().collect();
    let asks: Vec<(&str, Asked)> = all.iter().map(|&i| (turns[i].name, Asked::Nothing)).collect();
    let Ok(details) = host.bus().map(|bus| bus.details(&asks)) else { return runs };
    let now = all.into_iter().zip(details).filter_map(|(i, details)| Some((i, details.ok()?)));
    let behind: Vec<(usize, UnitDetails)> = now.filter(|(_, details)| details.need_daemon_reload).collect();
    if behind.is_empty() {
        return runs;
    }
    let read = host.daemon_reload();
    for (i, details) in behind {
        runs[i] = details.invocation;
        if let Err(error) = &read {
            results[i] = Err(again(turns[i].name, error));
            due.iter_mut().for_each(|due| due.retain(|&other| other != i));
        }
    }
    runs
}

/// One cause, told for each name.
fn everybody(names: &[&str], error: &Error) -> Vec<Result<(), Error>> {
    names.iter().map(|name| Err(again(name, error))).collect()
}

fn again(name: &str, error: &Error) -> Error {
    let (what, why) = match error {
        Error::Unit { what, why, .. } => (*what, why.clone()),
        other => ("systemd", other.to_string()),
    };
    Error::Unit { thing: format!("unit:{name}"), what, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(load: &str, active: &str) -> UnitStatus {
        UnitStatus { load: load.to_owned(), active: active.to_owned(), sub: "dead".to_owned(), has_job: false }
    }

    #[test]
    fn absence_is_what_both_calls_say() {
        assert!(first_look(None, Some(&status("not-found", "inactive"))).is_absent());
        assert!(first_look(Some(""), Some(&status("not-found", "inactive"))).is_absent());
        assert!(!first_look(None, Some(&status("loaded", "active"))).is_absent());
        assert!(first_look(Some("masked"), Some(&status("not-found", "inactive"))).is_masked());
    }

    #[test]
    fn a_template_is_there_when_its_file_is() {
        assert!(first_look(None, None).is_absent());
        let seen = first_look(Some("disabled"), None);
        assert_eq!((seen.load, seen.active), (Load::Loaded, Some(Active::Inactive)));
    }

    #[test]
    fn what_polls_waits_and_does_not_fail() {
        let mut waits = status("loaded", "activating");
        for sub in ["auto-restart", "auto-restart-queued"] {
            waits.sub = sub.to_owned();
            let mut seen = first_look(Some("enabled"), Some(&waits));
            assert_eq!(asked(&seen), Asked::Waits);
            let ended = |result: &str| UnitDetails { result: Some(result.to_owned()), ..UnitDetails::default() };
            add(&mut seen, ended("success"));
            assert_eq!(seen.fails, None);
            add(&mut seen, ended("signal"));
            assert_eq!(seen.fails, Some(Fails { result: "signal".to_owned(), anew: false }));
        }
        waits.sub = "start".to_owned();
        assert_eq!(asked(&first_look(Some("enabled"), Some(&waits))), Asked::AtRest);
    }

    #[test]
    fn each_unit_gets_its_own_state_though_another_could_not_be_told() {
        let unknown = |thing: &str| Error::Unknown { thing: thing.to_owned(), why: "no answer".to_owned() };
        let names = ["a.service", "not a name", "t@.service", "b.service", "c.service"];
        let files = vec![Err(unknown("a")), Ok(Some("static".to_owned())), Ok(None), Ok(Some("enabled".to_owned()))];
        let up = || status("loaded", "active");
        let found = first_looks(&names, files, vec![Ok(up()), Err(unknown("b")), Ok(status("loaded", "failed"))]);
        assert!(found[0].is_err() && found[1].is_err() && found[3].is_err(), "{found:?}");
        assert_eq!(found[2].as_ref().map(|seen| seen.file).ok(), Some(FileState::Static));
        let last = found[4].as_ref().expect("both are told");
        assert_eq!((last.file, last.active), (FileState::Enabled, Some(Active::Failed)));
    }

    #[test]
    fn what_restarts_along_with_another_comes_after_that() {
        let of = |names: [&'static str; 3], follows: [&[&str]; 3]| {
            let follows = follows.map(|others| others.iter().map(|&other| other.to_owned()).collect::<Vec<_>>());
            let layers = layers(&names, &follows).into_iter();
            layers.map(|layer| layer.into_iter().map(|at| names[at]).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        let names = ["a", "b", "c"];
        assert_eq!(of(names, [&[], &[], &[]]), [vec!["a", "b", "c"]]);
        assert_eq!(of(names, [&["b"], &["c", "not-due"], &[]]), [vec!["c"], vec!["b"], vec!["a"]]);
        assert_eq!(of(names, [&["c"], &["b"], &[]]), [vec!["b", "c"], vec!["a"]]);
        let round = of(names, [&["b"], &["a"], &["a"]]);
        assert_eq!(round.concat().len(), 3, "each once, whatever they say of each other: {round:?}");
    }

    #[test]
    fn who_failed_is_out_of_the_rest() {
        let mut works: Vec<Result<Work, Error>> =
            (0..3).map(|i| Ok(Work { enable: i < 2, start: true, ..Work::default() })).collect();
        let names = ["a.service", "b.service", "c.service"];
        stage(
            &mut works,
            &names,
            |work| work.enable,
            |names| {
                assert_eq!(names, ["a.service", "b.service"]);
                vec![Err(rules::refused("a.service", "no-such-unit", "")), Ok(())]
            },
        );
        stage(
            &mut works,
            &names,
            |work| work.start,
            |names| {
                assert_eq!(names, ["b.service", "c.service"]);
                vec![Ok(()), Ok(())]
            },
        );
        assert!(works[0].is_err() && works[1].is_ok() && works[2].is_ok());
    }
}
