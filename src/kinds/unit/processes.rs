//! Looks at what running units run, once a look, each process once.

use std::collections::BTreeSet;
use std::time::Duration;

use super::drop_ins::Place;
use super::effective::{self, Behind, Verdict, Why};
use super::{Observed, OnChange, Spec, name, rules};
use crate::host::Reader;
use crate::kinds::Refresh;
use crate::model::Id;

/// What of the declared files has to be known for it.
pub struct Declared<'a> {
    /// Those whose paths begin so.
    pub below: &'a dyn Fn(&str) -> Vec<&'a Id>,
    /// Whether this one is as declared, and its content is the declaration's to say; none where it is not declared.
    pub holds: &'a dyn Fn(&Id) -> Option<bool>,
    /// Whether a unit was restarted for this file, and this invocation of it is the run that came of that.
    pub began_with: &'a dyn Fn(&str, &str, &Id) -> bool,
}

/// In what each of `units` is behind. Nothing is concluded of what cannot be told.
pub fn behind(host: &Reader, units: &[(&str, &Spec, &Observed)], declared: &Declared<'_>) -> Vec<Vec<Behind>> {
    let places = match units.is_empty() {
        true => Vec::new(),
        false => name::DIRECTORIES.into_iter().filter_map(|path| Place::look(host, path).ok()).collect(),
    };
    units.iter().map(|(name, want, seen)| of_one(host, name, (want, seen), declared, &places)).collect()
}

fn of_one(
    host: &Reader,
    name: &str,
    (want, seen): (&Spec, &Observed),
    declared: &Declared<'_>,
    places: &[Place<'_>],
) -> Vec<Behind> {
    let mut all = Vec::new();
    let Some(main) = seen.main else { return all };
    // A library is told of whatever runs and is to run.
    if effective::verdict(name, want, seen, Why::ReplacedLibrary, None) == Verdict::Nothing {
        return all;
    }
    let replaced = host.replaced(main);
    if let Some(path) = replaced.binary {
        let verdict = effective::verdict(name, want, seen, Why::ReplacedBinary, None);
        effective::add(&mut all, Why::ReplacedBinary, path, verdict);
    }
    for path in replaced.libraries {
        effective::add(&mut all, Why::ReplacedLibrary, path, Verdict::Told);
    }
    if want.on_change != OnChange::None || !want.watch_restart.is_empty() || !want.watch_reload.is_empty() {
        let files = newer(host, name, (want, seen), (main, declared), places);
        for (id, why, verdict) in files.unwrap_or_default() {
            effective::add(&mut all, why, id.name().to_owned(), verdict);
        }
    }
    all
}

/// The files that were written since the unit was started, or told to read them. systemd is asked only where a first look
/// finds one; none where it does not answer.
fn newer(
    host: &Reader,
    name: &str,
    (want, seen): (&Spec, &Observed),
    (main, declared): (u32, &Declared<'_>),
    places: &[Place<'_>],
) -> Option<Vec<(Id, Why, Verdict)>> {
    let now = host.since_1970();
    let started = host.began(main)?;
    let suspect = |id: &Id| {
        let modified = host.modified(id.name())?;
        effective::is_newer(modified, started, started, now).then_some(modified)
    };
    let mut found: Vec<(Id, Why, Duration)> = Vec::new();
    // What systemd has not read yet is no definition of what it would start.
    if !seen.need_daemon_reload {
        let files = unit_files(host, name, places).into_iter().filter(|id| (declared.holds)(id) != Some(false));
        found.extend(files.filter_map(|id| suspect(&id).map(|modified| (id, Why::OlderUnitFile, modified))));
    }
    let below =
        want.watched().chain(&seen.start_files).flat_map(|pattern| (declared.below)(effective::literal(pattern)));
    let below: BTreeSet<Id> = below.cloned().collect();
    let used = rules::used(name, want, &seen.start_files, &below).into_iter();
    let used = used.filter(|id| !rules::is_its_file(name, id) && (declared.holds)(id) == Some(true));
    found.extend(used.filter_map(|id| suspect(&id).map(|modified| (id, Why::OlderConfiguration, modified))));
    if found.is_empty() {
        return Some(Vec::new());
    }

    let bus = host.bus().ok()?;
    let instants = bus.instants(name).ok()??;
    let read = bus.files(name).ok()?;
    let read: BTreeSet<String> = read.into_iter().map(of_usr).collect();
    let started = (host.wall(instants.started.0)?, instants.started.1);
    let changed = (host.wall(instants.changed.0)?, instants.changed.1);
    let judge = |(id, why, modified): (Id, Why, Duration)| {
        if why == Why::OlderUnitFile && !read.contains(id.name()) {
            return None;
        }
        // What is for all units of a type comes with systemd's own package: no commit asks for a restart of all.
        let anybodys = (declared.holds)(&id).is_none() && !is_its_own(name, &id);
        // Who was restarted for it, and writes it anew, would be for ever.
        let began_with = |run: &String| (declared.began_with)(name, run, &id);
        let again =
            effective::is_its_own_doing(modified, started.0) && seen.invocation.as_ref().is_some_and(began_with);
        let verdict = match effective::verdict(name, want, seen, why, Some(&id)) {
            Verdict::Done(_) if anybodys || again => Verdict::Told,
            verdict => verdict,
        };
        let (reckoned, recorded) = match verdict {
            Verdict::Nothing => return None,
            // Whichever way it was told to read them, a reload is what the declaration asks for.
            Verdict::Done(Refresh::Reload) => changed,
            _ => started,
        };
        effective::is_newer(modified, reckoned, recorded, now).then_some((id, why, verdict))
    };
    Some(found.into_iter().filter_map(judge).collect())
}

/// Whether a unit file or drop-in is for this unit, or its template, and not for more of them.
fn is_its_own(name: &str, id: &Id) -> bool {
    name::files(name).iter().any(|file| {
        let path = id.name();
        path.rsplit('/').next() == Some(file.as_str()) || path.contains(&format!("/{file}.d/"))
    })
}

/// The drop-ins of `name`, and where its unit file may be.
fn unit_files(host: &Reader, name: &str, places: &[Place<'_>]) -> Vec<Id> {
    let directories = name::drop_in_directories(name);
    let drop_ins = |place: &Place<'_>| {
        let files = directories.iter().flat_map(|directory| place.files(host, directory).unwrap_or_default());
        files.collect::<Vec<String>>()
    };
    let all = rules::unit_files(name).into_iter().chain(places.iter().flat_map(drop_ins));
    all.map(|path| Id::new("file", &path)).collect()
}

/// Where `/lib` is a link, systemd may have found a file by that.
fn of_usr(path: String) -> String {
    if path.starts_with("/lib/") { format!("/usr{path}") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_all_units_of_a_type_or_prefix_is_not_a_units_own() {
        let is_own = |path: &str| is_its_own("app-web@one.service", &Id::new("file", path));
        for own in [
            "/etc/systemd/system/app-web@.service",
            "/usr/lib/systemd/system/app-web@one.service.d/a.conf",
            "/etc/systemd/system/app-web@.service.d/a.conf",
        ] {
            assert!(is_own(own), "{own}");
        }
        for other in ["/usr/lib/systemd/system/service.d/a.conf", "/etc/systemd/system/app-.service.d/a.conf"] {
            assert!(!is_own(other), "{other}");
        }
    }
}
