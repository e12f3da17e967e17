//! What stands on the host, as far as a repository can hold it, and what of it cannot be taken and why.

use std::collections::{BTreeMap, BTreeSet};

use super::{Scene, suspect, units};
use crate::compile;
use crate::host::{NodeType, Reader};
use crate::kinds::file::{File, ancestors, protected};
use crate::kinds::package::{self, Package};
use crate::kinds::unit::{self, Unit};
use crate::kinds::{Kind, Observed};
use crate::model::{Facts, Id, one_line};
use crate::reconcile;
use crate::secret::Plain;

mod files;

/// Something that can be declared.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: Id,
    pub(super) what: What,
    /// How it was found.
    pub(super) seen: Observed,
}

#[derive(Debug)]
pub(super) enum What {
    File {
        content: Plain,
        mode: u32,
        owners: Owners,
        suspicions: Vec<suspect::Suspicion>,
    },
    Link {
        target: String,
        owners: Owners,
    },
    Directory {
        mode: u32,
        owners: Owners,
    },
    /// The version, where that is declared too.
    Package(Option<String>),
    Unit(units::State),
}

/// Owner and group, where they are not root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Owners {
    pub(super) owner: Option<String>,
    pub(super) group: Option<String>,
}

/// Something that was not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) id: String,
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// Lines of its content that this is about.
    pub(super) lines: Vec<usize>,
}

impl Left {
    pub(super) fn new(id: &str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { id: id.to_owned(), reason, message: message.into(), lines: Vec::new() }
    }
}

/// All that was looked at.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) items: Vec<Item>,
    pub(super) left: Vec<Left>,
    pub(super) notes: Vec<String>,
}

/// Why a path is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// It lies on the way to what was asked for.
    Around,
    /// It lies below a directory that was asked for, or is a file of a unit.
    Below,
    /// It was asked for itself.
    Asked,
}

/// How to look.
pub(super) struct Look<'a> {
    pub(super) host: &'a Reader,
    /// Versions of packages are declared too.
    pub(super) exact: bool,
    /// This host lets the repository set setuid, setgid and sticky bits.
    pub(super) setid: bool,
    pub(super) layer: &'a str,
    facts: &'a Facts,
    own: reconcile::Own,
    found: Looked,
    paths: BTreeMap<String, Why>,
    bytes: u64,
}

impl<'a> Look<'a> {
    pub(super) fn new(scene: &'a Scene<'_>, exact: bool) -> Self {
        let Scene { host, settings, facts, layer, .. } = scene;
        let (setid, own) = (settings.policy.setid, reconcile::Own::of(host, settings));
        Self { host, exact, setid, layer, facts, own, found: Looked::default(), paths: BTreeMap::new(), bytes: 0 }
    }

    /// Looks at `ids`, and nothing else of the host.
    ///
    /// # Errors
    /// Where it is more than one run takes, or an end is asked for.
    pub(super) fn at(mut self, ids: &[Id]) -> anyhow::Result<Looked> {
        let of = |kind: &str| -> Vec<&str> {
            let named: BTreeSet<&str> = ids.iter().filter(|id| id.kind() == kind).map(Id::name).collect();
            named.into_iter().collect()
        };
        let packages: BTreeSet<&str> = of(Package::WORD).into_iter().map(|name| self.package_name(name)).collect();
        self.packages(&packages.into_iter().collect::<Vec<&str>>());
        self.units(&of(Unit::WORD));
        for path in of(File::WORD) {
            self.gather(path)?;
        }
        self.files()?;
        self.found.items.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(self.found)
    }

    fn left(&mut self, id: &str, reason: &'static str, message: impl Into<String>) {
        self.found.left.push(Left::new(id, reason, message));
    }

    /// The one name by which `name` is declared.
    fn package_name<'n>(&mut self, name: &'n str) -> &'n str {
        let one = compile::package_name(name, self.facts);
        if one != name {
            self.found.notes.push(format!("package:{} is package:{}", one_line(name, 100), one_line(one, 100)));
        }
        one
    }

    fn packages(&mut self, names: &[&str]) {
        // A name is an argument of the package manager.
        let named = |name: &&str| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._:".contains(&b))
        };
        let (good, bad): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| named(name));
        for name in bad {
            self.left(&format!("package:{name}"), "not-installed", "no package has such a name");
        }
        if good.is_empty() {
            return;
        }
        for (name, seen) in good.iter().zip(Package::observe(self.host, &good)) {
            let id = Id::new(Package::WORD, name);
            match seen {
                Err(error) => self.left(id.as_str(), error.reason(), error.chain()),
                Ok(package::Observed::Absent { .. }) => {
                    self.left(id.as_str(), "not-installed", "it is not installed here")
                }
                Ok(package::Observed::Broken { status, .. }) => {
                    let status = one_line(&status, 40);
                    self.left(
                        id.as_str(),
                        "not-installed",
                        format!("it is {status}: mend it first, dpkg --configure -a"),
                    );
                }
                Ok(seen @ package::Observed::Installed { .. }) => {
                    let version = match &seen {
                        package::Observed::Installed { version, .. } if self.exact => Some(version.clone()),
                        _ => None,
                    };
                    self.found.items.push(Item { id, what: What::Package(version), seen: Observed::Package(seen) });
                }
            }
        }
    }

    fn units(&mut self, names: &[&str]) {
        if names.is_empty() {
            return;
        }
        let triggers: Vec<String> = names.iter().flat_map(|name| units::triggers(name)).collect();
        let triggers: Vec<&str> = triggers.iter().map(String::as_str).collect();
        let running: BTreeSet<&str> = triggers
            .iter()
            .zip(Unit::observe(self.host, &triggers))
            .filter(|(_, seen)| seen.as_ref().is_ok_and(|seen| seen.is_active()))
            .map(|(name, _)| *name)
            .collect();
        for (name, seen) in names.iter().zip(Unit::observe(self.host, names)) {
            let id = Id::new(Unit::WORD, name);
            if protected::is_our_unit(name) {
                self.left(id.as_str(), "self-trust", "it runs trueup itself");
                continue;
            }
            let seen = match seen {
                Ok(seen) => seen,
                Err(error) => {
                    self.left(id.as_str(), error.reason(), error.chain());
                    continue;
                }
            };
            if unit::file_of(self.host, name).is_some_and(|file| units::goes_with_a_reboot(&file)) {
                let why =
                    "its unit file is in /run, which the next reboot empties: put it below /etc/systemd/system first";
                self.left(id.as_str(), "unit-state", why);
                continue;
            }
            let triggered = units::triggers(name).iter().any(|trigger| running.contains(trigger.as_str()));
            let files = self.unit_files(name);
            match units::state(&seen, triggered) {
                Ok(state) => {
                    if seen.active == Some(unit::Active::Failed) {
                        self.found.notes.push(format!("unit:{name} has failed; whether it runs is not declared"));
                    }
                    self.found.items.push(Item { id, what: What::Unit(state), seen: Observed::Unit(seen) });
                }
                // Its file makes it known.
                Err(("unit-state", _)) if files && seen.file == unit::FileState::Static => {}
                Err((reason, message)) => self.left(id.as_str(), reason, message),
            }
        }
    }

    /// Its unit file and drop-ins below /etc, to be looked at with all other files; whether there are any.
    fn unit_files(&mut self, name: &str) -> bool {
        let (files, directories) = units::files(name);
        let mut found: Vec<String> = files.iter().map(|file| format!("{}/{file}", compile::UNITS)).collect();
        for directory in directories {
            let directory = format!("{}/{directory}", compile::UNITS);
            match self.host.list(&directory) {
                Ok(names) => {
                    let drop_ins = names.iter().filter(|name| name.ends_with(".conf"));
                    found.extend(drop_ins.map(|name| format!("{directory}/{name}")));
                }
                Err(error) => self.left(&format!("file:{directory}"), error.reason(), error.chain()),
            }
        }
        // A link there is a mask, another name, or a unit of elsewhere.
        found.retain(|path| {
            self.host.look(path).is_ok_and(|meta| meta.is_some_and(|meta| meta.node == NodeType::Regular))
        });
        for path in &found {
            self.add(path, Why::Below);
        }
        !found.is_empty()
    }

    fn add(&mut self, path: &str, why: Why) {
        let known = self.paths.entry(path.to_owned()).or_insert(why);
        *known = why.max(*known);
        for above in ancestors(path) {
            self.paths.entry(above.to_owned()).or_insert(Why::Around);
        }
    }
}
