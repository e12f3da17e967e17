//! The package that brings a unit file brings what the unit runs: where a transaction replaces the one, the unit runs on
//! what the other had before. What stood there is on disk before the transaction begins, so that it is known after a
//! crash too.

use std::collections::BTreeSet;

use super::depend::OF_PACKAGES;
use super::{Error, Ground, linked};
use crate::host::{self, Reader};
use crate::kinds::file::protected::is_our_unit;
use crate::kinds::unit::{self, OnChange};
use crate::kinds::{self, Spec};
use crate::ledger::{self, Ledger, OwedRefresh, UnitFile};
use crate::model::Id;

/// Writes down, synced, what the unit files of declared units are that another would move, as far as they are of packages.
pub(super) fn note(ground: &mut Ground<'_>) -> Result<(), Error> {
    if !ground.host.is_machine() {
        return Ok(());
    }
    let desired = ground.desired;
    // The package of trueup restarts trueup. Of the others only those are asked for that a package may replace.
    let units = desired.resources.iter().filter(|(id, wanted)| match &wanted.spec {
        Spec::Unit(want) => {
            want.on_change != OnChange::None
                && !is_our_unit(id.name())
                && !ground.ledger.replacing.contains_key(*id)
                && has_file_of_package(ground.host, id.name())
        }
        _ => false,
    });
    let ids: Vec<&Id> = units.map(|(id, _)| id).collect();
    let mut noted = Vec::new();
    for (id, seen) in ids.iter().zip(kinds::observe(ground.host, &ids)) {
        let Ok(seen) = seen else { continue };
        let path = unit::file_of(ground.host, id.name());
        let Some(path) = path.filter(|path| path.starts_with(OF_PACKAGES)) else { continue };
        let file = BTreeSet::from([Id::new("file", &path)]);
        let how = desired.resources.get(*id).and_then(|wanted| wanted.spec.refresh(id.name(), &seen, &file));
        if let (Some(how), Ok(stamp)) = (how, stamp(ground.host, &path)) {
            let invocation = seen.invocation().map(ToOwned::to_owned);
            noted.push(((*id).clone(), UnitFile { path, stamp, how, invocation }));
        }
    }
    let follows = linked::of_packages(ground);
    if !noted.is_empty() || !follows.is_empty() {
        ground.ledger.replacing.extend(noted);
        for (id, asked) in follows {
            ground.ledger.following.entry(id).or_default().extend(asked);
        }
        ledger::save(ground.state, ground.ledger)?;
    }
    Ok(())
}

/// Whether a unit file of a package is there under the name `unit`, or by a link of that name; also where that cannot be
/// told.
pub(super) fn has_file_of_package(host: &Reader, unit: &str) -> bool {
    let is = |hop: &String| Ok(host.canonical(hop)?.starts_with(OF_PACKAGES) && host.look(hop)?.is_some());
    let leads = |path: &String| {
        let found: Result<Vec<bool>, host::Error> = host.hops(path).and_then(|hops| hops.iter().map(is).collect());
        found.map_or(true, |found| found.contains(&true))
    };
    unit::unit_files(unit).iter().any(leads)
}

/// Has the units whose files were replaced owe what their declaration says, and names them. A unit that the package's own
/// scripts restarted is another invocation by now, which pays the debt.
pub(super) fn owe(host: &Reader, ledger: &mut Ledger) -> BTreeSet<Id> {
    let mut owing = BTreeSet::new();
    // Whoever is at it now may not have done with these files.
    if ledger.replacing.is_empty() || !kinds::package::nobody_is_at_work(host) {
        return owing;
    }
    for (unit, before) in std::mem::take(&mut ledger.replacing) {
        match stamp(host, &before.path) {
            Ok(now) if now == before.stamp => {}
            Ok(_) => {
                let file = Id::new("file", &before.path);
                let known = ledger.refreshes.remove(&unit).filter(|owed| owed.invocation == before.invocation);
                let new = OwedRefresh {
                    how: before.how,
                    because: vec![file],
                    invocation: before.invocation,
                    catches_up: false,
                };
                let owed = match known {
                    Some(known) => known.join(new),
                    None => new,
                };
                ledger.refreshes.insert(unit.clone(), owed);
                owing.insert(unit);
            }
            // What cannot be told is told later.
            Err(_) => drop(ledger.replacing.insert(unit, before)),
        }
    }
    owing
}

/// What a pass that was cut short left to be found out, once its transaction has ended.
pub(super) fn late(ground: &mut Ground<'_>) {
    if ground.ledger.replacing.is_empty() || !kinds::package::running(ground.host).is_ok_and(|all| all.is_empty()) {
        return;
    }
    owe(ground.host, ground.ledger);
    // Where it cannot be written the next pass finds it out once more.
    let _ = ledger::save(ground.state, ground.ledger);
}

fn stamp(host: &Reader, path: &str) -> Result<Option<(u64, i128)>, host::Error> {
    Ok(host.look(path)?.map(|meta| (meta.inode, meta.changed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Refresh;

    #[allow(clippy::disallowed_methods, reason = "a scratch directory")]
    #[test]
    fn only_units_whose_file_a_package_brings_are_asked_for() {
        let scene = tempfile::tempdir().expect("a scratch directory");
        let at = |path: &str| scene.path().join(path);
        for path in [
            "usr/lib/systemd/system/ssh.service",
            "usr/lib/systemd/system/in@.service",
            "etc/systemd/system/own.service",
        ] {
            std::fs::create_dir_all(at(path).parent().expect("has one")).expect("made");
            std::fs::write(at(path), "").expect("written");
        }
        let link = |target: &str, path: &str| std::os::unix::fs::symlink(target, at(path)).expect("made");
        link("usr/lib", "lib");
        link("/lib/systemd/system/ssh.service", "etc/systemd/system/sshd.service");
        link("/lib/systemd/system/gone.service", "etc/systemd/system/old.service");
        let host = Reader::directory(scene.path()).expect("it is there");
        for unit in ["ssh.service", "sshd.service", "in@one.service"] {
            assert!(has_file_of_package(&host, unit), "{unit}");
        }
        for unit in ["own.service", "old.service", "nowhere.service"] {
            assert!(!has_file_of_package(&host, unit), "{unit}");
        }
    }

    #[test]
    fn a_unit_owes_a_restart_where_its_file_is_another_and_only_there() {
        let scene = tempfile::tempdir().expect("a scratch directory");
        let directory = scene.path().join("usr/lib/systemd/system");
        #[allow(clippy::disallowed_methods, reason = "a scratch directory")]
        let write = |name: &str| {
            std::fs::create_dir_all(&directory).expect("made");
            std::fs::write(directory.join(format!("{name}.new")), "the same").expect("written");
            std::fs::rename(directory.join(format!("{name}.new")), directory.join(name)).expect("renamed");
        };
        let host = Reader::directory(scene.path()).expect("it is there");
        let (one, other, third) =
            (Id::new("unit", "one.service"), Id::new("unit", "other.service"), Id::new("unit", "third.service"));
        let mut ledger = Ledger::default();
        for id in [&one, &other, &third] {
            write(id.name());
            let path = format!("{OF_PACKAGES}{}", id.name());
            let stamp = stamp(&host, &path).expect("it is there");
            let invocation = Some("a".to_owned());
            ledger.replacing.insert(id.clone(), UnitFile { path, stamp, how: Refresh::Restart, invocation });
        }
        let file = |id: &Id| Id::new("file", &format!("{OF_PACKAGES}{}", id.name()));
        let older = |invocation: &str| OwedRefresh {
            how: Refresh::Reload,
            because: vec![Id::new("file", "/etc/a")],
            invocation: Some(invocation.to_owned()),
            catches_up: false,
        };
        ledger.refreshes.insert(one.clone(), older("a"));
        ledger.refreshes.insert(third.clone(), older("of another run"));
        let text = serde_json::to_string(&ledger).expect("written");
        assert_eq!(serde_json::from_str::<Ledger>(&text).expect("read again"), ledger);

        write(one.name());
        write(third.name());
        assert_eq!(owe(&host, &mut ledger), BTreeSet::from([one.clone(), third.clone()]));
        assert!(ledger.replacing.is_empty());
        assert_eq!(ledger.refreshes[&one].because, [Id::new("file", "/etc/a"), file(&one)], "together with the rest");
        assert_eq!(ledger.refreshes[&third].because, [file(&third)], "what that run owed is paid");
        assert_eq!(ledger.refreshes[&third].invocation.as_deref(), Some("a"));
        assert!(!ledger.refreshes.contains_key(&other), "the same file");
    }
}
