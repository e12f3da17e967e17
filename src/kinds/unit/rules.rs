//! What is to be done about a unit. Pure.

use std::collections::BTreeSet;

use globset::GlobMatcher;

use super::name::{self, DIRECTORIES};
use super::{Active, Before, Fails, FileState, Follow, Load, Observed, OnChange, ReloadFailed, Spec};
use crate::host::Error;
use crate::kinds::{Need, Phase, Refresh, pattern};
use crate::model::{Change, Id};

/// Restarting these takes logins, or the bus itself, with it: only a reboot is safe.
const NEVER_RESTARTED: [&str; 4] =
    ["dbus.service", "dbus-broker.service", "messagebus.service", "systemd-logind.service"];

/// What a unit that fails again and again is said to be meanwhile.
const WAITS: &str = "waits to be started anew";
/// And once that was done.
const ANEW: &str = "failed and was started anew";

/// Whether restarting it is safe on a host that is in use.
pub(super) fn may_restart(name: &str) -> bool {
    !NEVER_RESTARTED.contains(&name)
}

/// What is wanted, in words.
pub(super) fn describe(want: &Spec) -> String {
    let said =
        |value: Option<bool>, yes: &'static str, no: &'static str| value.map(|value| if value { yes } else { no });
    let state = [
        said(want.masked, "masked", "not masked"),
        said(want.enabled, "enabled", "disabled"),
        said(want.active, "active", "inactive"),
    ];
    let mut words: Vec<String> = state.into_iter().flatten().map(ToOwned::to_owned).collect();
    match want.on_change {
        OnChange::Restart => words.push("restart on change".to_owned()),
        OnChange::Reload => words.push("reload on change".to_owned()),
        OnChange::Start => words.push("start on change".to_owned()),
        OnChange::None => {}
    }
    if !want.watch.is_empty() {
        words.push(format!("watches {}", want.watch.join(" ")));
    }
    for (word, watched) in [("restart", &want.watch_restart), ("reload", &want.watch_reload)] {
        if !watched.is_empty() {
            words.push(format!("{word} for {}", watched.join(" ")));
        }
    }
    if want.reload_failed == ReloadFailed::Restart {
        words.push("restart where a reload fails".to_owned());
    }
    words.join(", ")
}

/// What is not as wanted.
pub(super) fn diff(want: &Spec, seen: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();
    let absent = seen.is_absent();
    let file = if absent { "not-found" } else { seen.file.as_str() };
    match want.masked {
        Some(true) if seen.file != FileState::Masked => {
            let from = if seen.is_masked() { file } else { "" };
            changes.push(Change::new("masked", from, "masked"));
        }
        Some(false) if seen.is_masked() => changes.push(Change::new("masked", file, "")),
        _ => {}
    }
    if want.masked != Some(true) {
        match want.enabled {
            Some(true) if seen.instances_only => changes.push(Change::new("enabled", "instances only", "enabled")),
            Some(true) if !seen.file.counts_as_enabled() => changes.push(Change::new("enabled", file, "enabled")),
            Some(false) if !seen.file.counts_as_disabled() => changes.push(Change::new("enabled", file, "disabled")),
            _ => {}
        }
        if let Some(follow) = seen.follow.as_ref().filter(|_| want.enabled == Some(true)) {
            let named = [("unlinked", &follow.go), ("linked", &follow.come)].into_iter();
            let named = named.filter(|(_, links)| !links.is_empty());
            changes.extend(named.map(|(word, links)| Change::new(word, "", Follow::words(links))));
        }
    }
    if let Some(active) = seen.active {
        let from = if absent && !seen.is_active() { "not-found" } else { active.as_str() };
        match wants_active(want) {
            Some(true) if let Some(fails) = &seen.fails => {
                changes.push(Change::new("active", if fails.anew { ANEW } else { WAITS }, "active"));
            }
            Some(true) if !holds_active(seen) => changes.push(Change::new("active", from, "active")),
            Some(false) if active.is_active() => changes.push(Change::new("active", from, "inactive")),
            _ => {}
        }
    }
    changes
}

/// A mask that leaves the unit running would be half a mask.
fn wants_active(want: &Spec) -> Option<bool> {
    if want.masked == Some(true) { Some(false) } else { want.active }
}

/// It is active, or nothing can be done about that it is not.
fn holds_active(seen: &Observed) -> bool {
    seen.is_active() || (seen.active == Some(Active::Inactive) && seen.condition_failed)
}

/// Whether anything of the unit is to be turned on.
pub(super) fn wants_on(want: &Spec) -> bool {
    want.masked != Some(true) && (want.enabled == Some(true) || want.active == Some(true))
}

/// Whether all that is wanted of it is that it is out of the way.
fn wants_off(want: &Spec) -> bool {
    want.masked == Some(true) || (!wants_on(want) && (want.enabled == Some(false) || want.active == Some(false)))
}

/// What has to stop goes before the files and packages it runs on.
pub(super) fn phase(changes: &[Change]) -> Phase {
    let is = |change: &Change, property: &str, to: &str| change.property == property && change.to == to;
    let stops = |c: &Change| is(c, "active", "inactive") || is(c, "enabled", "disabled") || is(c, "masked", "masked");
    let starts = |c: &Change| is(c, "active", "active") || is(c, "enabled", "enabled");
    if changes.iter().any(stops) && !changes.iter().any(starts) { Phase::Stop } else { Phase::Units }
}

/// Whether what was inactive is to run.
pub fn starts(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.property == "active" && change.to == "active")
}

/// Whether all that is missing is that systemd has yet to start it anew, or that this comes to something.
pub fn only_waits(changes: &[Change]) -> bool {
    let waits = |change: &Change| change.property == "active" && [WAITS, ANEW].contains(&change.from.as_str());
    !changes.is_empty() && changes.iter().all(waits)
}

/// Why what was to run does not, where `seen` tells.
pub(super) fn fallen(name: &str, seen: &Observed) -> Option<Error> {
    let why = match (&seen.fails, seen.active) {
        (Some(Fails { result, anew }), _) => {
            let then = if *anew { "has just started it anew" } else { "waits to start it anew" };
            format!("it failed ({result}), and systemd {then}; see journalctl -u {name}")
        }
        (None, Some(Active::Failed)) => format!("it was started, and failed since; see journalctl -u {name}"),
        _ => return None,
    };
    Some(Error::Unit { thing: format!("unit:{name}"), what: "start", why })
}

/// What must hold first: its unit file and drop-ins, what it watches, and the service that it starts.
pub(super) fn needs(name: &str, want: &Spec) -> Vec<Need> {
    // What is only to go away needs nothing: it goes before its files do.
    if wants_off(want) {
        return Vec::new();
    }
    let mut needs = Vec::new();
    for directory in DIRECTORIES {
        for file in name::files(name) {
            needs.push(Need::Resource(Id::new("file", &format!("{directory}/{file}"))));
        }
        for drop_ins in name::drop_in_directories(name) {
            needs.push(Need::Below("file", format!("{directory}/{drop_ins}/")));
        }
    }
    needs.extend(want.watched().map(|pattern| Need::Matching(pattern.clone())));
    needs.extend(name::triggered_service(name).map(|service| Need::Resource(Id::new("unit", &service))));
    needs
}

/// Where the unit file of `name` may be declared, its template's too.
pub fn unit_files(name: &str) -> Vec<String> {
    DIRECTORIES
        .into_iter()
        .flat_map(|directory| name::files(name).into_iter().map(move |file| format!("{directory}/{file}")))
        .collect()
}

/// Whether `id` may be a unit file or a drop-in, of whatever unit.
pub fn may_define(id: &Id) -> bool {
    let below = |directory| id.name().strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
    id.kind() == "file" && DIRECTORIES.into_iter().any(below)
}

/// Whether `id` is a unit file or drop-in of the unit `name`.
pub fn is_its_file(name: &str, id: &Id) -> bool {
    if id.kind() != "file" {
        return false;
    }
    DIRECTORIES.iter().any(|directory| {
        let Some(below) = id.name().strip_prefix(directory).and_then(|rest| rest.strip_prefix('/')) else {
            return false;
        };
        match below.split_once('/') {
            None => name::files(name).iter().any(|file| file == below),
            Some((directory, file)) => {
                !file.contains('/')
                    && file.ends_with(".conf")
                    && name::drop_in_directories(name).iter().any(|drop_ins| drop_ins == directory)
            }
        }
    })
}

/// Those of `changed` that match any of `patterns`. A pattern that is none matches nothing; compiling a repository
/// refuses it.
fn matching<'c>(
    patterns: impl IntoIterator<Item = &'c String>,
    changed: &'c BTreeSet<Id>,
) -> impl Iterator<Item = &'c Id> {
    let patterns = patterns.into_iter().filter_map(|text| pattern(text).ok());
    let patterns: Vec<GlobMatcher> = patterns.map(|glob| glob.compile_matcher()).collect();
    let is_match = move |id: &Id| patterns.iter().any(|pattern| pattern.is_match(id.name()));
    changed.iter().filter(move |id| id.kind() == "file" && is_match(id))
}

/// Those of `changed` that the unit uses; `start_files` are patterns of what it reads as it starts.
pub fn used(name: &str, want: &Spec, start_files: &[String], changed: &BTreeSet<Id>) -> Vec<Id> {
    let watched: BTreeSet<&Id> = matching(want.watched().chain(start_files), changed).collect();
    changed.iter().filter(|id| is_its_file(name, id) || watched.contains(id)).cloned().collect()
}

/// What those of `changed` that the unit uses ask of it: a file that it watches for a restart or a reload that, its own
/// files and all others the word of `on_change`.
fn asked(name: &str, want: &Spec, start_files: &[String], changed: &BTreeSet<Id>) -> BTreeSet<OnChange> {
    let mut asked = BTreeSet::new();
    let others = want.watch.iter().chain(start_files);
    if matching(others, changed).next().is_some() || changed.iter().any(|id| is_its_file(name, id)) {
        asked.insert(want.on_change);
    }
    for (word, watched) in [(OnChange::Restart, &want.watch_restart), (OnChange::Reload, &want.watch_reload)] {
        if matching(watched, changed).next().is_some() {
            asked.insert(word);
        }
    }
    asked
}

/// Whether any of `changed` asks the unit to do something, be it what it may not do.
pub(super) fn moves(name: &str, want: &Spec, start_files: &[String], changed: &BTreeSet<Id>) -> bool {
    asked(name, want, start_files, changed).iter().any(|word| *word != OnChange::None)
}

/// What the unit does now that those in `changed` were written: one thing, of what they ask for the one that serves all.
/// What is not active stays so, unless it is declared active and only an unmet condition kept it down.
pub(super) fn refresh(name: &str, want: &Spec, seen: &Observed, changed: &BTreeSet<Id>) -> Option<Refresh> {
    let masked = want.masked == Some(true) || (seen.is_masked() && want.masked.is_none());
    // In a directory nothing runs.
    if masked || seen.active.is_none() || name::is_template(name) {
        return None;
    }
    let asked = asked(name, want, &seen.start_files, changed);
    let may_run = want.active != Some(false);
    if may_run && seen.is_active() {
        if asked.contains(&OnChange::Restart) && may_restart(name) {
            return Some(Refresh::Restart);
        }
        if asked.contains(&OnChange::Reload) {
            return Some(Refresh::Reload);
        }
    }
    let holds_again = || want.active == Some(true) && !seen.is_active() && seen.condition_failed;
    let restarts = [OnChange::Restart, OnChange::Reload].iter().any(|word| asked.contains(word));
    (asked.contains(&OnChange::Start) || restarts && holds_again()).then_some(Refresh::Start)
}

/// Whether the unit is restarted where a reload of it failed.
pub fn falls_back(name: &str, want: &Spec) -> bool {
    want.reload_failed == ReloadFailed::Restart && may_restart(name)
}

/// What returns the unit to how it was: only what the last declaration had set.
pub(super) fn put_back(before: &Before, last: &Spec) -> Spec {
    let mut spec = Spec { enabled: None, active: None, masked: None, validate: Vec::new(), ..last.clone() };
    let we_masked = last.masked == Some(true) && !before.masked;
    if we_masked {
        spec.masked = Some(false);
    }
    if before.masked {
        // Under a mask nothing runs, and what its links were is not known.
        spec.masked = last.masked.is_some().then_some(true);
        return spec;
    }
    if !before.present {
        // It came with us, with its file or its package: stopped and unlinked before that goes.
        spec.enabled = last.enabled.map(|_| false);
        spec.active = last.active.map(|_| false);
        return spec;
    }
    spec.enabled = last.enabled.and(before.enabled);
    spec.active = if we_masked || last.active.is_some() { before.active } else { None };
    spec
}

/// What one unit needs done, mask and links before jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) mask: bool,
    pub(super) unlink: bool,
    pub(super) enable: bool,
    pub(super) disable: bool,
    pub(super) disable_runtime: bool,
    pub(super) stop: bool,
    pub(super) start: bool,
}

/// What is to be done so that `now`, looked at after any unmasking, becomes `want`; what its links have to follow is known
/// of what was `planned`.
///
/// # Errors
/// Where no amount of work would do: the rule that says so, by its stable word.
pub(super) fn work(name: &str, want: &Spec, (planned, now): (&Observed, &Observed)) -> Result<Work, Error> {
    let changes = diff(want, now);
    let follow = planned.follow.as_ref().filter(|_| want.enabled == Some(true) && want.masked != Some(true));
    let has = |property: &str, to: &str| changes.iter().any(|c| c.property == property && c.to == to);
    let work = Work {
        mask: has("masked", "masked"),
        unlink: follow.is_some_and(|follow| !follow.go.is_empty()),
        enable: has("enabled", "enabled") || follow.is_some_and(|follow| !follow.come.is_empty()),
        disable: has("enabled", "disabled") && now.file == FileState::Enabled,
        disable_runtime: has("enabled", "disabled") && now.file == FileState::EnabledRuntime,
        stop: has("active", "inactive"),
        // systemd does that by itself, and a job to start it would only wait for that; systemd.service(5), `RestartSec=`.
        start: has("active", "active") && now.fails.is_none(),
    };
    if !(work.enable || work.start) {
        return Ok(work);
    }
    if now.is_masked() {
        return Err(refused(name, "masked", "it is masked here; declare `masked = false`, or unmask it on the host"));
    }
    if now.load == Load::NotFound && now.file == FileState::None {
        return Err(refused(
            name,
            "no-such-unit",
            "there is no unit file of this name on this host; declare its package, or its unit file in units/",
        ));
    }
    if work.start && name::is_template(name) {
        return Err(refused(
            name,
            "needs-an-instance",
            "a template itself cannot run; declare an instance, name@instance",
        ));
    }
    if work.start && now.oneshot {
        return Err(refused(
            name,
            "oneshot-never-stays-active",
            "a oneshot is not active once it has run; declare `on_change = \"start\"` instead of active, or set \
             RemainAfterExit=yes in the unit",
        ));
    }
    Ok(work)
}

/// A rule of this kind says no.
pub(super) fn refused(name: &str, reason: &'static str, why: &str) -> Error {
    Error::Refused { thing: format!("unit:{name}"), reason, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(name: &str, want: &Spec, now: &Observed) -> Result<Work, Error> {
        super::work(name, want, (now, now))
    }

    fn seen(file: FileState, active: Active) -> Observed {
        Observed { load: Load::Loaded, file, ..Observed::nothing(Some(active)) }
    }

    fn on() -> Spec {
        Spec { enabled: Some(true), active: Some(true), masked: Some(false), ..Spec::default() }
    }

    fn off() -> Spec {
        Spec { enabled: Some(false), active: Some(false), masked: Some(false), ..Spec::default() }
    }

    fn masked() -> Spec {
        Spec { masked: Some(true), ..Spec::default() }
    }

    fn told(want: &Spec, seen: &Observed) -> String {
        diff(want, seen).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn changed(paths: &[&str]) -> BTreeSet<Id> {
        paths.iter().map(|path| Id::new("file", path)).collect()
    }

    #[test]
    fn on_means_enabled_and_active() {
        assert_eq!(told(&on(), &seen(FileState::Disabled, Active::Inactive)), "disabled → enabled, inactive → active");
        assert_eq!(told(&on(), &seen(FileState::Enabled, Active::Active)), "");
        assert_eq!(told(&on(), &seen(FileState::EnabledRuntime, Active::Active)), "enabled-runtime → enabled");
        assert_eq!(told(&on(), &seen(FileState::Enabled, Active::Failed)), "failed → active");
        assert_eq!(told(&on(), &seen(FileState::Enabled, Active::Deactivating)), "deactivating → active");
        assert_eq!(told(&on(), &Observed::nothing(Some(Active::Inactive))), "not-found → enabled, not-found → active");
    }

    #[test]
    fn a_unit_that_stays_enabled_follows_its_section_and_only_that() {
        let links = |names: &[&str]| names.iter().map(|name| format!("/etc/systemd/system/{name}")).collect();
        let follow = Follow {
            go: links(&["a.target.wants/a.service", "b.service"]),
            come: links(&["c.target.wants/a.service"]),
            ..Follow::default()
        };
        let planned = Observed { follow: Some(follow), ..seen(FileState::Enabled, Active::Active) };
        assert_eq!(
            told(&on(), &planned),
            "unlinked a.target.wants/a.service, b.service, linked c.target.wants/a.service"
        );
        assert_eq!(phase(&diff(&on(), &planned)), Phase::Units);
        assert_eq!(told(&masked(), &planned), "masked, active → inactive");
        assert_eq!(told(&off(), &planned), "enabled → disabled, active → inactive");
        let now = seen(FileState::Enabled, Active::Active);
        let done = super::work("a.service", &on(), (&planned, &now)).expect("nothing stands in the way");
        assert_eq!(done, Work { unlink: true, enable: true, ..Work::default() });
        let gone =
            Observed { follow: Some(Follow { come: BTreeSet::new(), ..planned.follow.unwrap_or_default() }), ..now };
        let done = super::work("a.service", &on(), (&gone, &gone)).expect("nothing stands in the way");
        assert_eq!(done, Work { unlink: true, ..Work::default() });
    }

    #[test]
    fn what_enabling_means_nothing_to_is_not_fought() {
        use FileState::{Alias, Generated, Indirect, Static};
        for file in [Static, Indirect, Generated, Alias] {
            assert_eq!(told(&on(), &seen(file, Active::Active)), "", "{file:?}");
            assert_eq!(told(&off(), &seen(file, Active::Inactive)), "", "{file:?}");
        }
    }

    #[test]
    fn on_its_way_up_is_no_drift_and_neither_is_an_unmet_condition() {
        for active in [Active::Activating, Active::Reloading, Active::Refreshing] {
            assert_eq!(told(&on(), &seen(FileState::Enabled, active)), "");
        }
        let mut unmet = seen(FileState::Enabled, Active::Inactive);
        assert_ne!(told(&on(), &unmet), "");
        unmet.condition_failed = true;
        assert_eq!(told(&on(), &unmet), "");
        unmet.active = Some(Active::Failed);
        assert_eq!(told(&on(), &unmet), "failed → active");
    }

    #[test]
    fn what_fails_and_waits_to_be_started_anew_is_not_active_and_systemd_does_that() {
        let fails = Some(Fails { result: "exit-code".to_owned(), anew: false });
        let waits = Observed { fails, ..seen(FileState::Enabled, Active::Activating) };
        assert_eq!(told(&on(), &waits), "waits to be started anew → active");
        assert!(only_waits(&diff(&on(), &waits)));
        assert_eq!(work("a.service", &on(), &waits).expect("nothing stands in the way"), Work::default());
        let why = fallen("a.service", &waits).expect("it does not run").to_string();
        assert!(why.contains("it failed (exit-code), and systemd waits to start it anew"), "{why}");
        // It is still to be stopped, and still restarted for what changed.
        assert_eq!(told(&off(), &waits), "enabled → disabled, activating → inactive");
        assert!(work("a.service", &off(), &waits).expect("nothing stands in the way").stop);
        let its = changed(&["/etc/systemd/system/a.service"]);
        assert_eq!(refresh("a.service", &on(), &waits, &its), Some(Refresh::Restart));

        // Nor is it once that was done, for a while.
        let fails = waits.fails.clone().map(|fails| Fails { anew: true, ..fails });
        let anew = Observed { fails, ..seen(FileState::Enabled, Active::Active) };
        assert_eq!(told(&on(), &anew), "failed and was started anew → active");
        assert!(only_waits(&diff(&on(), &anew)));
        assert_eq!(work("a.service", &on(), &anew).expect("nothing stands in the way"), Work::default());
        let why = fallen("a.service", &anew).expect("it does not stay up").to_string();
        assert!(why.contains("it failed (exit-code), and systemd has just started it anew"), "{why}");
        assert_eq!(told(&Spec::default(), &anew), "", "nobody has declared it active");

        let disabled = Observed { file: FileState::Disabled, ..waits };
        assert!(!only_waits(&diff(&on(), &disabled)) && !only_waits(&[]));
        assert!(work("a.service", &on(), &disabled).expect("nothing stands in the way").enable);
        assert!(fallen("a.service", &seen(FileState::Enabled, Active::Activating)).is_none());
        assert!(fallen("a.service", &seen(FileState::Enabled, Active::Failed)).is_some());
    }

    #[test]
    fn off_is_satisfied_by_absence_and_failure() {
        assert_eq!(told(&off(), &Observed::nothing(Some(Active::Inactive))), "");
        assert_eq!(told(&off(), &seen(FileState::Disabled, Active::Failed)), "");
        assert_eq!(
            told(&off(), &seen(FileState::EnabledRuntime, Active::Activating)),
            "enabled-runtime → disabled, activating → inactive"
        );
    }

    #[test]
    fn masked_also_stops_and_on_unmasks() {
        assert_eq!(told(&masked(), &seen(FileState::Enabled, Active::Active)), "masked, active → inactive");
        assert_eq!(told(&masked(), &seen(FileState::Masked, Active::Inactive)), "");
        assert_eq!(told(&masked(), &seen(FileState::MaskedRuntime, Active::Inactive)), "masked-runtime → masked");
        assert_eq!(
            told(&on(), &seen(FileState::Masked, Active::Inactive)),
            "unmasked, masked → enabled, inactive → active"
        );
    }

    #[test]
    fn in_a_directory_nothing_is_said_about_running() {
        let nothing = Observed::nothing(None);
        assert_eq!(told(&on(), &nothing), "not-found → enabled");
        assert_eq!(refresh("a.service", &on(), &nothing, &changed(&["/etc/systemd/system/a.service"])), None);
    }

    #[test]
    fn what_stops_goes_first_and_what_starts_last() {
        let phase_of = |want: &Spec, seen: &Observed| phase(&diff(want, seen));
        assert_eq!(phase_of(&off(), &seen(FileState::Enabled, Active::Active)), Phase::Stop);
        assert_eq!(phase_of(&off(), &seen(FileState::Enabled, Active::Inactive)), Phase::Stop);
        assert_eq!(phase_of(&masked(), &seen(FileState::Static, Active::Inactive)), Phase::Stop);
        assert_eq!(phase_of(&on(), &seen(FileState::Disabled, Active::Inactive)), Phase::Units);
        assert_eq!(phase_of(&on(), &seen(FileState::Enabled, Active::Active)), Phase::Units);
        let mixed = Spec { enabled: Some(true), active: Some(false), ..Spec::default() };
        assert_eq!(phase_of(&mixed, &seen(FileState::Disabled, Active::Active)), Phase::Units);
    }

    #[test]
    fn a_unit_needs_its_files_what_it_watches_and_what_it_starts() {
        let want = Spec { watch: vec!["/etc/app/**".to_owned()], ..on() };
        let needs = needs("app@x.timer", &want);
        for needed in [
            Need::Resource(Id::new("file", "/etc/systemd/system/app@x.timer")),
            Need::Resource(Id::new("file", "/etc/systemd/system/app@.timer")),
            Need::Below("file", "/etc/systemd/system/app@.timer.d/".to_owned()),
            Need::Matching("/etc/app/**".to_owned()),
            Need::Resource(Id::new("unit", "app@x.service")),
        ] {
            assert!(needs.contains(&needed), "{needed:?}");
        }
        assert_eq!(super::needs("app.timer", &off()), []);
        assert_eq!(super::needs("app.timer", &masked()), []);
    }

    #[test]
    fn only_what_a_unit_uses_moves_it() {
        let running = seen(FileState::Enabled, Active::Active);
        let want = Spec { watch: vec!["/etc/app/*.conf".to_owned()], ..on() };
        let moved = |path| refresh("app@x.service", &want, &running, &changed(&[path]));
        for path in [
            "/etc/systemd/system/app@x.service",
            "/etc/systemd/system/app@.service",
            "/etc/systemd/system/app@.service.d/10-limits.conf",
            "/etc/systemd/system/service.d/all.conf",
            "/usr/local/lib/systemd/system/app@.service",
            "/usr/lib/systemd/system/app@.service",
            "/usr/lib/systemd/system/app@x.service.d/10-limits.conf",
            "/etc/app/a.conf",
        ] {
            assert_eq!(moved(path), Some(Refresh::Restart), "{path}");
        }
        for path in [
            "/etc/systemd/system/app.service",
            "/etc/systemd/system/app@y.service",
            "/etc/systemd/system/app@.service.d/README",
            "/etc/app/sub/a.conf",
            "/etc/app",
        ] {
            assert_eq!(moved(path), None, "{path}");
        }
        let package = BTreeSet::from([Id::new("package", "/etc/app/a.conf")]);
        assert_eq!(refresh("app@x.service", &want, &running, &package), None);
    }

    #[test]
    fn what_is_watched_for_a_restart_or_a_reload_moves_it_so_whatever_on_change_says() {
        let patterns = |text: &str| vec![text.to_owned()];
        let want = |on_change| Spec {
            on_change,
            watch: patterns("/etc/app/*"),
            watch_restart: patterns("/etc/app.restart/*"),
            watch_reload: patterns("/etc/app.re*/*"),
            ..on()
        };
        let running = seen(FileState::Enabled, Active::Active);
        let moved = |on_change, paths: &[&str]| refresh("a.service", &want(on_change), &running, &changed(paths));
        let (own, plain, reload, restart) =
            ("/etc/systemd/system/a.service", "/etc/app/1", "/etc/app.reload/1", "/etc/app.restart/1");
        for on_change in [OnChange::Restart, OnChange::Reload, OnChange::Start, OnChange::None] {
            assert_eq!(moved(on_change, &[restart]), Some(Refresh::Restart), "of both lists, too");
            assert_eq!(moved(on_change, &[reload]), Some(Refresh::Reload));
            assert_eq!(moved(on_change, &[reload, restart, own]), Some(Refresh::Restart));
            assert_eq!(used("a.service", &want(on_change), &[], &changed(&[own, plain, reload, restart])).len(), 4);
        }
        assert_eq!(moved(OnChange::Reload, &[own]), Some(Refresh::Reload));
        assert_eq!(moved(OnChange::None, &[own, plain]), None);
        assert_eq!(moved(OnChange::Restart, &[reload, plain]), Some(Refresh::Restart));
        // What cannot be restarted may still be reloaded.
        let its = changed(&[reload, restart]);
        assert_eq!(refresh("dbus.service", &want(OnChange::Restart), &running, &its), Some(Refresh::Reload));

        let down = seen(FileState::Enabled, Active::Inactive);
        assert_eq!(refresh("a.service", &want(OnChange::Restart), &down, &its), None);
        assert_eq!(
            refresh("a.service", &Spec { active: Some(false), ..want(OnChange::Restart) }, &running, &its),
            None
        );
        let both = changed(&[restart, own]);
        assert_eq!(refresh("a.service", &want(OnChange::Start), &down, &both), Some(Refresh::Start));
        assert!(needs("a.service", &want(OnChange::None)).contains(&Need::Matching("/etc/app.restart/*".to_owned())));
        let all = describe(&want(OnChange::None));
        assert_eq!(
            all,
            "not masked, enabled, active, watches /etc/app/*, restart for /etc/app.restart/*, reload for /etc/app.re*/*"
        );
    }

    #[test]
    fn a_reload_that_fails_falls_back_where_that_is_declared_and_safe() {
        let declared = Spec { reload_failed: ReloadFailed::Restart, ..on() };
        assert!(falls_back("a.service", &declared) && !falls_back("a.service", &on()));
        assert!(!falls_back("dbus.service", &declared), "that is never restarted");
        let text = serde_json::to_string(&declared).expect("plain data");
        assert_eq!(serde_json::from_str::<Spec>(&text).expect("what was written"), declared);
    }

    #[test]
    fn a_spec_that_watches_by_a_list_is_stored_as_it_always_was() {
        let spec = Spec { watch: vec!["/etc/a".to_owned()], ..Spec::default() };
        let text = serde_json::to_string(&spec).expect("plain data");
        assert_eq!(text, r#"{"on_change":"restart","watch":["/etc/a"]}"#);
        let table = Spec { watch_restart: spec.watch.clone(), watch_reload: vec!["/etc/b".to_owned()], ..spec };
        let text = serde_json::to_string(&table).expect("plain data");
        assert_eq!(serde_json::from_str::<Spec>(&text).expect("what was written"), table);
    }

    #[test]
    fn a_change_never_starts_what_is_down() {
        let its = changed(&["/etc/systemd/system/a.service"]);
        let act = |want: &Spec, seen: &Observed| refresh("a.service", want, seen, &its);
        let undeclared = Spec::default();
        for active in [Active::Inactive, Active::Failed, Active::Deactivating] {
            assert_eq!(act(&undeclared, &seen(FileState::Disabled, active)), None);
            assert_eq!(act(&on(), &seen(FileState::Enabled, active)), None);
        }
        assert_eq!(act(&undeclared, &seen(FileState::Static, Active::Activating)), Some(Refresh::Restart));
        assert_eq!(act(&off(), &seen(FileState::Enabled, Active::Active)), None);
        let reload = Spec { on_change: OnChange::Reload, ..on() };
        assert_eq!(act(&reload, &seen(FileState::Enabled, Active::Active)), Some(Refresh::Reload));
        let none = Spec { on_change: OnChange::None, ..on() };
        assert_eq!(act(&none, &seen(FileState::Enabled, Active::Active)), None);
    }

    #[test]
    fn a_oneshot_that_is_to_run_on_change_runs_unless_masked() {
        let its = changed(&["/etc/aliases"]);
        let mut want = Spec { on_change: OnChange::Start, watch: vec!["/etc/aliases".to_owned()], ..Spec::default() };
        let down = seen(FileState::Static, Active::Inactive);
        assert_eq!(refresh("newaliases.service", &want, &down, &its), Some(Refresh::Start));
        want.masked = Some(true);
        assert_eq!(refresh("newaliases.service", &want, &down, &its), None);
    }

    #[test]
    fn a_condition_that_may_hold_now_is_tried_again() {
        let mut unmet = seen(FileState::Enabled, Active::Inactive);
        unmet.condition_failed = true;
        let its = changed(&["/etc/systemd/system/a.service"]);
        assert_eq!(refresh("a.service", &on(), &unmet, &its), Some(Refresh::Start));
        assert_eq!(refresh("a.service", &Spec::default(), &unmet, &its), None);
    }

    #[test]
    fn the_bus_and_logins_are_not_restarted() {
        let its = changed(&["/etc/systemd/system/service.d/all.conf"]);
        let running = seen(FileState::Static, Active::Active);
        assert_eq!(refresh("dbus.service", &on(), &running, &its), None);
        assert_eq!(refresh("cron.service", &on(), &running, &its), Some(Refresh::Restart));
    }

    #[test]
    fn work_is_done_only_where_it_can_hold() {
        let reason = |name: &str, want: &Spec, now: &Observed| work(name, want, now).expect_err("refused").reason();
        let undeclared_mask = Spec { masked: None, ..on() };
        assert_eq!(reason("a.service", &undeclared_mask, &seen(FileState::Masked, Active::Inactive)), "masked");
        assert_eq!(reason("a.service", &on(), &Observed::nothing(Some(Active::Inactive))), "no-such-unit");
        assert_eq!(reason("a@.service", &on(), &seen(FileState::Enabled, Active::Inactive)), "needs-an-instance");
        let mut oneshot = seen(FileState::Static, Active::Inactive);
        oneshot.oneshot = true;
        assert_eq!(reason("a.service", &on(), &oneshot), "oneshot-never-stays-active");

        oneshot.active = Some(Active::Active);
        assert_eq!(work("a.service", &on(), &oneshot).expect("holds"), Work::default());
        let quiet = Spec { masked: None, ..off() };
        assert_eq!(
            work("a.service", &quiet, &seen(FileState::Masked, Active::Inactive)).expect("holds"),
            Work::default()
        );
        assert_eq!(
            work("a.service", &off(), &seen(FileState::EnabledRuntime, Active::Active)).expect("can be done"),
            Work { disable_runtime: true, stop: true, ..Work::default() }
        );
        assert_eq!(
            work("a.service", &masked(), &seen(FileState::Enabled, Active::Active)).expect("can be done"),
            Work { mask: true, stop: true, ..Work::default() }
        );
    }

    #[test]
    fn letting_go_returns_to_what_was() {
        let back = |seen: &Observed, last: &Spec| put_back(&Before::from(seen), last);
        let spec = |enabled, active, masked| Spec { enabled, active, masked, ..Spec::default() };

        let was_off = seen(FileState::Disabled, Active::Inactive);
        assert_eq!(back(&was_off, &on()), spec(Some(false), Some(false), None));
        assert_eq!(back(&seen(FileState::Static, Active::Active), &off()), spec(None, Some(true), None));
        let was_not = Observed::nothing(Some(Active::Inactive));
        assert_eq!(back(&was_not, &on()), spec(Some(false), Some(false), None));
        assert_eq!(back(&was_not, &Spec::default()), Spec::default());
        assert_eq!(back(&seen(FileState::Enabled, Active::Active), &masked()), spec(None, Some(true), Some(false)));
        assert_eq!(back(&seen(FileState::Masked, Active::Inactive), &on()), spec(None, None, Some(true)));
        let only_enabled = spec(Some(true), None, None);
        assert_eq!(back(&was_off, &only_enabled), spec(Some(false), None, None));
    }
}
