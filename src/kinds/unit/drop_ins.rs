//! Drop-ins that somebody else put beside a declared unit, and unit files in the place of its package's: an administrator,
//! systemctl(1), a program. They are told and left alone.

use std::collections::{BTreeMap, BTreeSet};

use super::name;
use crate::host::{Error, NodeType, Reader};
use crate::model::{Id, one_line};

/// Where they are, and what such a place says of them; systemd.unit(5), "Unit File Load Path".
const PLACES: [(&str, &str); 5] = [
    ("/etc/systemd/system", ""),
    ("/etc/systemd/system.control", "by systemctl set-property"),
    ("/run/systemd/system", "until the next reboot"),
    ("/run/systemd/system.control", "by systemctl set-property, until the next reboot"),
    ("/run/systemd/transient", "transient: of a program, while it runs"),
];
/// Those of them in which a unit file goes before what is in the ones after them, by their places in [`PLACES`].
const RANK: [usize; 5] = [1, 3, 4, 0, 2];
/// So many of one unit are named.
const FEW: usize = 5;

/// Where packages have their unit files.
const OF_PACKAGES: &str = name::DIRECTORIES[2];

/// What there is to say of the drop-ins of `units` that are not `declared`, and of unit files in the place of a package's
/// that are not, a line for each unit that has any. Drop-ins of packages, and those for all units of a type, are nobody's.
///
/// # Errors
/// Where one of the directories cannot be listed.
pub fn strange(host: &Reader, units: &BTreeSet<&str>, declared: &dyn Fn(&Id) -> bool) -> Result<Vec<String>, Error> {
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut whole: BTreeMap<&str, String> = BTreeMap::new();
    let packages = Place::look(host, OF_PACKAGES)?;
    let places = PLACES.into_iter().map(|(place, what)| Ok((Place::look(host, place)?, what)));
    let places = places.collect::<Result<Vec<_>, Error>>()?;
    for unit in units {
        // Of all that are there one counts.
        let has = |name: &String| RANK.into_iter().map(|at| &places[at]).find(|(place, _)| place.there.contains(name));
        let Some((place, what)) = name::files(unit).iter().find_map(has) else { continue };
        let instead = place.instead(host, unit, &packages)?.filter(|path| !declared(&Id::new("file", path)));
        if let Some(path) = instead {
            whole.insert(unit, told(path, what));
        }
    }
    for (place, what) in places.iter().filter(|(place, _)| !place.is_empty()) {
        for unit in units {
            let mut directories = name::drop_in_directories(unit);
            // The last is that of the type.
            directories.pop();
            for directory in directories {
                let files = place.files(host, &directory)?.into_iter();
                let strange = files.filter(|path| !declared(&Id::new("file", path)));
                all.entry(unit).or_default().extend(strange.map(|path| told(path, what)));
            }
        }
    }
    let lines = all.into_iter().filter(|(_, files)| !files.is_empty()).map(|(unit, files)| {
        let more = files.len().saturating_sub(FEW);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown = files[..files.len().min(FEW)].join(", ");
        format!("unit:{unit} has drop-ins that nobody declares, left alone: {}{more}", one_line(&shown, 1500))
    });
    let whole = whole.into_iter().map(|(unit, path)| {
        let path = one_line(&path, 1500);
        format!(
            "unit:{unit} runs by a unit file that nobody declares, in the place of its package's, left alone: {path}"
        )
    });
    Ok(whole.chain(lines).collect())
}

fn told(path: String, what: &str) -> String {
    if what.is_empty() { path } else { format!("{path} ({what})") }
}

/// Where unit files are, of which it is known what is in it: most that a unit may have is not.
pub(super) struct Place<'p> {
    path: &'p str,
    there: BTreeSet<String>,
}

impl<'p> Place<'p> {
    pub(super) fn look(host: &Reader, path: &'p str) -> Result<Self, Error> {
        Ok(Self { path, there: host.list(path)?.into_iter().collect() })
    }

    fn is_empty(&self) -> bool {
        self.there.is_empty()
    }

    /// The unit file here that `unit` runs by in the place of one of `packages`: neither a mask nor a link to that.
    fn instead(&self, host: &Reader, unit: &str, packages: &Self) -> Result<Option<String>, Error> {
        // What is for the unit itself goes before what is for its template, wherever it is.
        let names = name::files(unit);
        let Some(place) = names.iter().position(|name| self.there.contains(name)) else { return Ok(None) };
        if !names[place..].iter().any(|name| packages.there.contains(name)) {
            return Ok(None);
        }
        let path = format!("{}/{}", self.path, names[place]);
        let of_package = |hop: &String| host.canonical(hop).map(|real| real.starts_with(OF_PACKAGES));
        Ok(match host.look(&path)? {
            // An empty one is a mask, see systemd.unit(5).
            Some(meta) if meta.node == NodeType::Regular && meta.size > 0 => Some(path),
            Some(meta) if meta.node == NodeType::Symlink => {
                let hops = host.hops(&path)?;
                let masks = hops.last().is_some_and(|last| last == "/dev/null");
                let theirs = hops[1..].iter().map(of_package).collect::<Result<Vec<bool>, Error>>()?;
                (!masks && !theirs.contains(&true)).then_some(path)
            }
            _ => None,
        })
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
    fn a_unit_file_in_the_place_of_a_packages_is_told() {
        let scene = tempfile::tempdir().expect("a scratch directory");
        let write = |path: &str, content: &str| {
            let path = scene.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
            std::fs::write(path, content).expect("written");
        };
        let host = Reader::directory(scene.path()).expect("it is there");
        let units = ["app.service", "own.service", "in@one.service", "out@one.service"];
        let told = || {
            let declared = |id: &Id| id.name() == "/etc/systemd/system/ours.service";
            let units = units.into_iter().chain(["ours.service", "masked.service", "alias.service", "empty.service"]);
            strange(&host, &units.collect(), &declared).expect("can be looked at")
        };
        for unit in ["app", "in@", "out@one", "ours", "masked", "alias", "empty"] {
            write(&format!("usr/lib/systemd/system/{unit}.service"), "[Service]\n");
        }
        write("etc/systemd/system/own.service", "[Service]\n");
        write("etc/systemd/system/ours.service", "[Service]\n");
        write("etc/systemd/system/empty.service", "");
        write("etc/systemd/system/out@.service", "[Service]\n");
        let link = |target: &str, path: &str| {
            std::os::unix::fs::symlink(target, scene.path().join(path)).expect("made");
        };
        link("usr/lib", "lib");
        link("/dev/null", "etc/systemd/system/masked.service");
        link("/lib/systemd/system/app.service", "etc/systemd/system/alias.service");
        assert!(told().is_empty(), "{:?}", told());
        write("etc/systemd/system/app.service", "[Service]\n");
        write("run/systemd/system/app.service", "[Service]\n");
        write("run/systemd/system/in@one.service", "[Service]\n");
        // What is declared goes before it.
        write("run/systemd/system/ours.service", "[Service]\n");
        let line = "runs by a unit file that nobody declares, in the place of its package's, left alone:";
        assert_eq!(
            told(),
            [
                format!("unit:app.service {line} /etc/systemd/system/app.service"),
                format!("unit:in@one.service {line} /run/systemd/system/in@one.service (until the next reboot)"),
            ]
        );
    }

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
