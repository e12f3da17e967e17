//! The links by which units are enabled: those that are there, and those that `[Install]` sections ask for, now and once
//! a plan is carried out. See systemd.unit(5).

use std::collections::{BTreeMap, BTreeSet};

use super::install::{Install, InstallError};
use super::{FileState, name};
use crate::host::{Error, Reader};

/// Where the administrator's unit files and all links are.
pub(super) const SYSTEM: &str = name::DIRECTORIES[0];
/// Where unit files are looked for, the first wins; see systemd.unit(5).
const SEARCHED: [&str; 4] = [SYSTEM, "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
pub(super) const NULL: &str = "/dev/null";
/// How large a unit file may be that is looked into, in bytes.
pub(super) const LIMIT: u64 = 1 << 20;

/// What is to stand at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coming {
    /// Nothing.
    Nothing,
    /// A regular file with this content.
    File(Vec<u8>),
    /// A symbolic link to this.
    Link(String),
    /// What nobody tells here.
    Unknown,
}

/// Unit files and drop-ins as they stand, or as they will: what is `coming` goes before what is there.
#[derive(Debug, Clone, Copy)]
pub struct View<'v> {
    host: &'v Reader,
    coming: Option<&'v BTreeMap<String, Coming>>,
}

/// Links by their full paths, each with the unit that it pulls in or renames.
pub type Links = BTreeMap<String, String>;

/// What the links of a unit that is to stay enabled have to follow, since what its `[Install]` section asks for moves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Follow {
    /// What it asked for so far.
    pub asked: Links,
    /// Links that go, by their paths.
    pub go: BTreeSet<String>,
    /// Links that are to be made, by their paths.
    pub come: BTreeSet<String>,
    /// The repository asks for it, or what it has brought.
    pub intended: bool,
}

/// A unit file that was found.
pub(super) struct Found {
    /// Where; links point there.
    pub(super) path: String,
    pub(super) install: Install,
    pub(super) state: FileState,
}

/// Which units are declared to be enabled, and which not to be.
pub type Enablement = BTreeMap<String, bool>;

impl<'v> View<'v> {
    /// As it is.
    pub fn now(host: &'v Reader) -> Self {
        Self { host, coming: None }
    }

    /// As it will be.
    pub fn once(host: &'v Reader, coming: &'v BTreeMap<String, Coming>) -> Self {
        Self { host, coming: Some(coming) }
    }

    fn comes(&self, path: &str) -> Option<&'v Coming> {
        self.coming?.get(path)
    }

    fn read_link(&self, path: &str) -> Result<Option<String>, Error> {
        match self.comes(path) {
            Some(Coming::Link(target)) => Ok(Some(target.clone())),
            Some(_) => Ok(None),
            None => self.host.read_link(path),
        }
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.comes(path) {
            Some(Coming::File(text)) => Ok(Some(text.clone())),
            Some(Coming::Nothing | Coming::Link(_)) => Ok(None),
            Some(Coming::Unknown) => {
                Err(Error::Unknown { thing: path.to_owned(), why: "it is not known what is to stand there".to_owned() })
            }
            None => self.host.read(path, LIMIT),
        }
    }

    /// The names of the drop-ins in `directory`, in order.
    fn drop_ins(&self, directory: &str) -> Result<Vec<String>, Error> {
        let inside = format!("{directory}/");
        let coming = self.coming.into_iter().flat_map(|coming| coming.range(inside.clone()..));
        let coming = coming.map_while(|(path, _)| path.strip_prefix(&inside)).map(str::to_owned);
        let all: BTreeSet<String> = self.host.list(directory)?.into_iter().chain(coming).collect();
        Ok(all.into_iter().filter(|file| file.ends_with(".conf")).collect())
    }

    /// The unit file of `name`, or of its template, where there is one.
    pub(super) fn find(&self, name: &str) -> Result<Option<Found>, Error> {
        for file in name::files(name) {
            for directory in SEARCHED {
                if let Some(found) = self.at(directory, &file, name)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    fn at(&self, directory: &str, file: &str, name: &str) -> Result<Option<Found>, Error> {
        let path = format!("{directory}/{file}");
        let found = |path: &str, install, state| Ok(Some(Found { path: path.to_owned(), install, state }));
        let mut text = None;
        match self.read_link(&path)? {
            Some(target) if target == NULL => return found(&path, Install::default(), FileState::Masked),
            Some(target) => {
                let other = base_name(&target);
                // An instance that is linked to its template is the template's.
                if other != file && name::template(file).as_deref() != Some(other) && name::is_valid(other) {
                    return found(&path, Install::default(), FileState::Alias);
                }
                let target = lexical(directory, &target);
                // A link that leads nowhere is no unit file.
                if self.read_link(&target)?.is_none() {
                    text = self.read(&target)?;
                }
            }
            None => text = self.read(&path)?,
        }
        let Some(text) = text else { return Ok(None) };
        if text.is_empty() {
            return found(&path, Install::default(), FileState::Masked);
        }
        let mut install = Install::default();
        install.add(&String::from_utf8_lossy(&text));
        for drop_in in self.all_drop_ins(name)? {
            if let Some(text) = self.read(&drop_in)? {
                install.add(&String::from_utf8_lossy(&text));
            }
        }
        let state = if install.is_empty() {
            FileState::Static
        } else if install.has_no_links() {
            FileState::Indirect
        } else {
            FileState::Disabled
        };
        found(&path, install, state)
    }

    /// The drop-ins of `name` and of its template that may have an `[Install]` section, in the order in which they are read:
    /// by their names, of two of one name that in the place that goes before.
    fn all_drop_ins(&self, name: &str) -> Result<Vec<String>, Error> {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        for of in name::files(name) {
            for directory in SEARCHED {
                let directory = format!("{directory}/{of}.d");
                for file in self.drop_ins(&directory)? {
                    let path = format!("{directory}/{file}");
                    if self.comes(&path) != Some(&Coming::Nothing) {
                        all.entry(file).or_insert(path);
                    }
                }
            }
        }
        Ok(all.into_values().collect())
    }

    /// The links that enabling `name` makes, and those of the units that its section names with it.
    ///
    /// # Errors
    /// Where they are not to be told.
    pub fn asked(&self, name: &str) -> Result<Links, Error> {
        let mut links = Links::new();
        self.add_asked(name, &mut links, &mut BTreeSet::new())?;
        Ok(links)
    }

    fn add_asked(&self, name: &str, links: &mut Links, seen: &mut BTreeSet<String>) -> Result<(), Error> {
        if !name::is_valid(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(found) = self.find(name)? else { return Ok(()) };
        let unknown = |error: InstallError| Error::Unknown { thing: format!("unit:{name}"), why: error.to_string() };
        for link in found.install.links(name).map_err(unknown)? {
            let unit = link.split_once('/').map_or_else(|| base_name(&found.path), |(_, unit)| unit);
            links.insert(format!("{SYSTEM}/{link}"), unit.to_owned());
        }
        found.install.also.iter().try_for_each(|also| self.add_asked(also, links, seen))
    }

    /// `name`, and the units that its section names with it.
    fn with_others(&self, name: &str, seen: &mut BTreeSet<String>) -> Result<(), Error> {
        if !name::is_valid(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let also = self.find(name)?.map(|found| found.install.also).unwrap_or_default();
        also.iter().try_for_each(|also| self.with_others(also, seen))
    }
}

/// Every link that enabling could have made.
///
/// # Errors
/// Where they cannot be looked at.
pub fn all(host: &Reader) -> Result<Links, Error> {
    let mut links = Links::new();
    for entry in host.list(SYSTEM)? {
        let path = format!("{SYSTEM}/{entry}");
        if [".wants", ".requires", ".upholds"].iter().any(|end| entry.ends_with(end)) {
            for unit in host.list(&path)? {
                let path = format!("{path}/{unit}");
                if host.read_link(&path)?.is_some() {
                    links.insert(path, unit);
                }
            }
        } else if name::is_valid(&entry)
            && let Some(target) = host.read_link(&path)?
        {
            let target = base_name(&target);
            if target != entry && name::is_valid(target) {
                links.insert(path, target.to_owned());
            }
        }
    }
    Ok(links)
}

/// Those of `links` that are to `name`; those to any instance where it is a template.
pub(super) fn of<'l>(links: &'l Links, name: &str) -> Vec<&'l str> {
    let is_its = |unit: &str| unit == name || name::template(unit).is_some_and(|template| template == name);
    links.iter().filter(|(_, unit)| is_its(unit)).map(|(path, _)| path.as_str()).collect()
}

/// What disabling `name` takes away, together with the units that its section names with it, and what of that has to
/// stay: the links of what is declared to be enabled.
pub(super) fn of_disabling(
    host: &Reader,
    name: &str,
    enablement: &Enablement,
) -> Result<(BTreeSet<String>, BTreeSet<String>), Error> {
    let links = all(host)?;
    let view = View::now(host);
    let mut units = BTreeSet::new();
    view.with_others(name, &mut units)?;
    let goes: BTreeSet<&str> = units.iter().flat_map(|unit| of(&links, unit)).collect();
    let stays = Kept::of(&view, name, enablement);
    let (stay, go) = goes.into_iter().map(str::to_owned).partition(|path| stays.keeps(path, &links));
    Ok((go, stay))
}

/// Whether none of the links is there that enabling the template `name` makes, where it makes any: what `links` lead to its
/// instances are those of the instances. What cannot be told is as systemd has it.
pub(super) fn has_none_of_its_own(host: &Reader, links: &Links, name: &str) -> bool {
    let is_there = |(path, unit): (&String, &String)| links.get(path) == Some(unit);
    View::now(host).asked(name).is_ok_and(|asked| !asked.is_empty() && !asked.iter().any(is_there))
}

/// What is kept for the sake of units that are declared to be enabled.
struct Kept<'e> {
    enablement: &'e Enablement,
    but: &'e str,
    asked: BTreeSet<String>,
}

impl<'e> Kept<'e> {
    /// For the sake of all units but `name`.
    fn of(view: &View<'_>, name: &'e str, enablement: &'e Enablement) -> Self {
        let others = enablement.iter().filter(|(other, enabled)| **enabled && *other != name);
        // Of what cannot be told its own links stay all the same.
        let asked = others.flat_map(|(other, _)| view.asked(other).unwrap_or_default()).map(|(path, _)| path);
        Self { enablement, but: name, asked: asked.collect() }
    }

    fn keeps(&self, path: &str, links: &Links) -> bool {
        let unit = links.get(path);
        match unit.and_then(|unit| self.enablement.get(unit)) {
            Some(true) if unit.is_some_and(|unit| unit != self.but) => true,
            // What is said of a unit itself goes before what another brings along.
            Some(false) => false,
            _ => self.asked.contains(path),
        }
    }
}

/// What the links of `name` have to follow, where it `asked` for these so far and is to go on as `then` says; none where
/// nothing is to be done, or that is not to be told. `there` are all links.
pub fn follow(name: &str, asked: &Links, then: &View<'_>, there: &Links, enablement: &Enablement) -> Option<Follow> {
    let target = then.asked(name).ok()?;
    if target == *asked {
        return None;
    }
    let gone: Vec<&String> = asked
        .iter()
        // What leads to another unit by now is somebody else's.
        .filter(|(path, unit)| !target.contains_key(*path) && there.get(*path) == Some(unit))
        .map(|(path, _)| path)
        .collect();
    let go = if gone.is_empty() {
        BTreeSet::new()
    } else {
        let kept = Kept::of(then, name, enablement);
        gone.into_iter().filter(|path| !kept.keeps(path, there)).cloned().collect()
    };
    let come: BTreeSet<String> =
        target.iter().filter(|(path, unit)| there.get(*path) != Some(unit)).map(|(path, _)| path.clone()).collect();
    let follow = Follow { asked: asked.clone(), go, come, intended: true };
    (!follow.go.is_empty() || !follow.come.is_empty()).then_some(follow)
}

impl Follow {
    /// The links, as people know them: `multi-user.target.wants/app.service`.
    pub(super) fn words(links: &BTreeSet<String>) -> String {
        let short = |path: &String| path.strip_prefix(SYSTEM).unwrap_or(path).trim_start_matches('/').to_owned();
        links.iter().map(short).collect::<Vec<_>>().join(", ")
    }
}

/// Where a link in `directory` leads, by its text alone: what is below a root directory is never followed out of it.
fn lexical(directory: &str, target: &str) -> String {
    let from = if target.starts_with('/') { "" } else { directory };
    let mut path = Vec::new();
    for part in from.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    format!("/{}", path.join("/"))
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that stands for a machine, with these files; `-> ` begins what is a link.
    #[allow(clippy::disallowed_methods, reason = "a scratch directory")]
    fn place(files: &[(&str, &str)]) -> (tempfile::TempDir, Reader) {
        let directory = tempfile::tempdir().expect("a scratch directory");
        for (path, content) in files {
            let path = directory.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().expect("has one")).expect("scratch");
            match content.strip_prefix("-> ") {
                Some(target) => std::os::unix::fs::symlink(target, path).expect("scratch"),
                None => std::fs::write(path, content).expect("scratch"),
            }
        }
        let host = Reader::directory(directory.path()).expect("it is there");
        (directory, host)
    }

    fn names(paths: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
        paths.into_iter().map(|path| path.as_ref().replace("/etc/systemd/system/", "")).collect()
    }

    const FILE: &str = "/etc/systemd/system/app.service";

    #[test]
    fn a_section_is_read_as_it_will_be_and_with_its_drop_ins() {
        let (_directory, host) = place(&[
            (FILE, "[Install]\nWantedBy=a.target\nAlso=app.socket\n"),
            ("/usr/lib/systemd/system/app.socket", "[Install]\nWantedBy=sockets.target\n"),
            ("/usr/lib/systemd/system/app.service.d/20.conf", "[Install]\nWantedBy=b.target\n"),
            ("/usr/lib/systemd/system/app.service.d/30.conf", "[Install]\nWantedBy=c.target\n"),
            ("/etc/systemd/system/app.service.d/30.conf", "[Install]\nAlias=web.service\n"),
        ]);
        let asked = |view: View<'_>| names(view.asked("app.service").expect("told").into_keys());
        let now = ["a.target.wants/app.service", "b.target.wants/app.service", "sockets.target.wants/app.socket"];
        assert_eq!(asked(View::now(&host)), [&now[..], &["web.service"]].concat());
        let file = |text: &str| Coming::File(text.as_bytes().to_vec());
        let coming = BTreeMap::from([
            (FILE.to_owned(), file("[Install]\nRequiredBy=d.target\n")),
            ("/etc/systemd/system/app.service.d/10.conf".to_owned(), file("[Install]\nUpheldBy=e.service\n")),
            ("/etc/systemd/system/app.service.d/30.conf".to_owned(), Coming::Nothing),
        ]);
        let once = View::once(&host, &coming);
        assert_eq!(
            asked(once),
            [
                "b.target.wants/app.service",
                "c.target.wants/app.service",
                "d.target.requires/app.service",
                "e.service.upholds/app.service"
            ]
        );
        let unknown = BTreeMap::from([(FILE.to_owned(), Coming::Unknown)]);
        assert!(View::once(&host, &unknown).asked("app.service").is_err());
    }

    #[test]
    fn links_that_lead_elsewhere_or_that_another_unit_asks_for_do_not_go() {
        let (_directory, host) = place(&[
            (FILE, "[Install]\nWantedBy=a.target\nAlias=web.service x.service\nAlso=app.socket\n"),
            ("/etc/systemd/system/app.socket", "[Install]\nWantedBy=sockets.target\n"),
            ("/etc/systemd/system/other.service", "[Install]\nAlias=web.service\n"),
            ("/etc/systemd/system/a.target.wants/app.service", &format!("-> {FILE}")),
            ("/etc/systemd/system/theirs.target.wants/app.service", &format!("-> {FILE}")),
            ("/etc/systemd/system/sockets.target.wants/app.socket", "-> /etc/systemd/system/app.socket"),
            ("/etc/systemd/system/web.service", "-> /etc/systemd/system/other.service"),
            ("/etc/systemd/system/x.service", &format!("-> {FILE}")),
        ]);
        let asked = View::now(&host).asked("app.service").expect("told");
        let coming = BTreeMap::from([(FILE.to_owned(), Coming::File(b"[Install]\nWantedBy=b.target\n".to_vec()))]);
        let there = all(&host).expect("listed");
        let follow = |enabled: &[&str]| {
            let enablement = enabled.iter().map(|name| ((*name).to_owned(), true)).collect();
            follow("app.service", &asked, &View::once(&host, &coming), &there, &enablement).expect("it moves")
        };
        let moved = follow(&["app.service"]);
        assert_eq!(names(&moved.go), ["a.target.wants/app.service", "sockets.target.wants/app.socket", "x.service"]);
        assert_eq!(names(&moved.come), ["b.target.wants/app.service"]);
        assert_eq!(names(follow(&["app.service", "app.socket"]).go), ["a.target.wants/app.service", "x.service"]);
        // What the socket will ask for cannot be told.
        let sealed = coming.clone().into_iter().chain([("/etc/systemd/system/app.socket".to_owned(), Coming::Unknown)]);
        let sealed = sealed.collect();
        let enablement = ["app.service", "app.socket"].map(|name| (name.to_owned(), true)).into();
        let moved = super::follow("app.service", &asked, &View::once(&host, &sealed), &there, &enablement);
        assert_eq!(names(moved.expect("it moves").go), ["a.target.wants/app.service", "x.service"]);
        let same = super::follow("app.service", &asked, &View::now(&host), &there, &Enablement::new());
        assert_eq!(same, None, "what is missing and was asked for all the time is no news");
    }

    #[test]
    fn disabling_keeps_what_is_declared_to_be_enabled() {
        let template = "[Install]\nWantedBy=a.target\nDefaultInstance=one\n";
        let (_directory, host) = place(&[
            (FILE, "[Install]\nWantedBy=a.target\nAlso=app.socket app.timer\n"),
            ("/etc/systemd/system/app.socket", "[Install]\nWantedBy=sockets.target\n"),
            ("/etc/systemd/system/app.timer", "[Install]\nWantedBy=timers.target\n"),
            ("/etc/systemd/system/in@.service", template),
            ("/etc/systemd/system/a.target.wants/app.service", &format!("-> {FILE}")),
            ("/etc/systemd/system/sockets.target.wants/app.socket", "-> /etc/systemd/system/app.socket"),
            ("/etc/systemd/system/timers.target.wants/app.timer", "-> /etc/systemd/system/app.timer"),
            ("/etc/systemd/system/a.target.wants/in@one.service", "-> /etc/systemd/system/in@.service"),
            ("/etc/systemd/system/a.target.wants/in@two.service", "-> /etc/systemd/system/in@.service"),
        ]);
        let of = |name: &str, declared: &[(&str, bool)]| {
            let enablement = declared.iter().map(|(name, enabled)| ((*name).to_owned(), *enabled)).collect();
            let (go, stay) = of_disabling(&host, name, &enablement).expect("told");
            (names(go), names(stay))
        };
        let (go, stay) = of("app.service", &[("app.socket", true), ("app.timer", false)]);
        assert_eq!(go, ["a.target.wants/app.service", "timers.target.wants/app.timer"]);
        assert_eq!(stay, ["sockets.target.wants/app.socket"]);
        let (one, two) = ("a.target.wants/in@one.service".to_owned(), "a.target.wants/in@two.service".to_owned());
        assert_eq!(of("in@.service", &[("in@two.service", true)]), (vec![one.clone()], vec![two.clone()]));
        assert_eq!(of("in@one.service", &[("in@.service", true)]), (Vec::new(), vec![one.clone()]));
        let off = [("in@.service", true), ("in@one.service", false)];
        assert_eq!(of("in@one.service", &off), (vec![one], Vec::new()), "what is said of it goes first");
        assert_eq!(of("in@two.service", &off), (vec![two], Vec::new()));
    }
}
