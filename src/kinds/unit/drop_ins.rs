//! Drop-ins that somebody else put beside a declared unit: an administrator, systemctl(1), a program. They are told and left
//! alone.

use std::collections::{BTreeMap, BTreeSet};

use super::name;
use crate::host::{Error, Reader};
use crate::model::{Id, one_line};

/// Where they are, and what such a place says of them; systemd.unit(5), "Unit File Load Path".
const PLACES: [(&str, &str); 5] = [
    ("/etc/systemd/system", ""),
    ("/etc/systemd/system.control", "by systemctl set-property"),
    ("/run/systemd/system", "until the next reboot"),
    ("/run/systemd/system.control", "by systemctl set-property, until the next reboot"),
    ("/run/systemd/transient", "transient: of a program, while it runs"),
];
/// So many of one unit are named.
const FEW: usize = 5;

/// What there is to say of the drop-ins of `units` that are not `declared`, a line for each unit that has any. Those of
/// packages, and those for all units of a type, are nobody's.
///
/// # Errors
/// Where one of the directories cannot be listed.
pub fn strange(host: &Reader, units: &BTreeSet<&str>, declared: &dyn Fn(&Id) -> bool) -> Result<Vec<String>, Error> {
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (place, what) in PLACES {
        let place = Place::look(host, place)?;
        if place.there.is_empty() {
            continue;
        }
        for unit in units {
            let mut directories = name::drop_in_directories(unit);
            // The last is that of the type.
            directories.pop();
            for directory in directories {
                let files = place.files(host, &directory)?.into_iter();
                let strange = files.filter(|path| !declared(&Id::new("file", path)));
                let told = strange.map(|path| if what.is_empty() { path } else { format!("{path} ({what})") });
                all.entry(unit).or_default().extend(told);
            }
        }
    }
    let lines = all.into_iter().filter(|(_, files)| !files.is_empty()).map(|(unit, files)| {
        let more = files.len().saturating_sub(FEW);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown = files[..files.len().min(FEW)].join(", ");
        format!("unit:{unit} has drop-ins that nobody declares, left alone: {}{more}", one_line(&shown, 1500))
    });
    Ok(lines.collect())
}

/// Where unit files are, of which it is known which directories of drop-ins are in it: most that a unit may have are not.
pub(super) struct Place<'p> {
    path: &'p str,
    there: BTreeSet<String>,
}

impl<'p> Place<'p> {
    pub(super) fn look(host: &Reader, path: &'p str) -> Result<Self, Error> {
        let there = host.list(path)?.into_iter().filter(|entry| entry.ends_with(".d")).collect();
        Ok(Self { path, there })
    }

    /// The drop-ins in `directory`, with their paths.
    pub(super) fn files(&self, host: &Reader, directory: &str) -> Result<Vec<String>, Error> {
        if !self.there.contains(directory) {
            return Ok(Vec::new());
        }
        let directory = format!("{}/{directory}", self.path);
        let files = host.list(&directory)?.into_iter().filter(|file| file.ends_with(".conf"));
        Ok(files.map(|file| format!("{directory}/{file}")).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "a scratch directory")]
    #[test]
    fn what_others_put_beside_a_unit_is_told_with_what_it_is() {
        let scene = tempfile::tempdir().expect("a scratch directory");
        let write = |path: &str| {
            let path = scene.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
            std::fs::write(path, "").expect("written");
        };
        let host = Reader::directory(scene.path()).expect("it is there");
        let told = |units: &[&str]| {
            let declared = |id: &Id| id.name() == "/etc/systemd/system/app.service.d/ours.conf";
            strange(&host, &units.iter().copied().collect(), &declared).expect("can be looked at")
        };
        assert!(told(&["app.service"]).is_empty(), "nothing is there");
        for path in [
            "etc/systemd/system/app.service.d/ours.conf",
            "etc/systemd/system/app.service.d/README",
            "etc/systemd/system/service.d/all.conf",
            "usr/lib/systemd/system/app.service.d/packaged.conf",
            "etc/systemd/system/other.service.d/theirs.conf",
        ] {
            write(path);
        }
        assert!(told(&["app.service"]).is_empty());
        write("etc/systemd/system/app.service.d/theirs.conf");
        write("run/systemd/transient/app.service.d/50-x.conf");
        write("etc/systemd/system/in@.socket.d/theirs.conf");
        assert_eq!(
            told(&["app.service", "in@one.socket"]),
            [
                "unit:app.service has drop-ins that nobody declares, left alone: /etc/systemd/system/app.service.d/theirs.conf, \
             /run/systemd/transient/app.service.d/50-x.conf (transient: of a program, while it runs)",
                "unit:in@one.socket has drop-ins that nobody declares, left alone: /etc/systemd/system/in@.socket.d/theirs.conf",
            ]
        );
        for n in 0..9 {
            write(&format!("run/systemd/system/app.service.d/{n}.conf"));
        }
        assert!(told(&["app.service"])[0].ends_with("and 6 more"), "bounded");
    }
}
