//! What dpkg and apt have written down about what is installed: deb822(5) paragraphs, read by ourselves,
//! which is many times faster than asking; dpkg is asked where reading leaves a doubt.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::host::{Error, Program, Reader};
use crate::kinds::package::tool::Database as _;
use crate::kinds::package::{Observed, Order, tool};
use crate::model::one_line;

pub(super) const STATUS: &str = "/var/lib/dpkg/status";
const UPDATES: &str = "/var/lib/dpkg/updates";
/// The files of each package that has any here, one list a package.
const LISTS: &str = "/var/lib/dpkg/info";
const STATES: &str = "/var/lib/apt/extended_states";
pub(super) const LIMIT: u64 = 64 << 20;
/// The same facts in the same words as the status file has, one package a line.
const QUERY: &str = "-f=${Status}\\t${Package}\\t${Version}\\t${Architecture}\\t${Essential}\\t${Protected}\\n";

/// Every package that dpkg knows something of.
#[derive(Debug)]
pub struct Database {
    native: String,
    packages: Arc<HashMap<String, Vec<Entry>>>,
    /// Name and architecture; packages for all architectures are here under the native one.
    automatic: Arc<HashSet<(String, String)>>,
    interrupted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    architecture: String,
    version: String,
    essential: bool,
    held: bool,
    state: State,
}

/// In ascending order of how much of the package is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    NotInstalled,
    ConfigFiles,
    Broken(String),
    Installed,
}

impl Database {
    /// Reads it.
    pub fn read(host: &Reader) -> Result<Self, Error> {
        let interrupted = interrupted(host)?;
        let parse = |status: &[u8]| parse_status(&String::from_utf8_lossy(status));
        let status = if interrupted { None } else { host.read_parsed(STATUS, LIMIT, parse)? };
        // A doubt about the file is resolved by its owner; a doubt about the owner's answer is an error.
        let packages = match status {
            Some(Ok(packages)) => packages,
            Some(Err(_)) | None => {
                let output = host.query(&Program::new("dpkg-query").args(["-W", QUERY]))?;
                Arc::new(parse_query(&output.text()).map_err(|why| unknown("dpkg-query", why))?)
            }
        };
        let parse = |states: &[u8]| parse_states(&String::from_utf8_lossy(states));
        let states = host.read_parsed(STATES, LIMIT, parse)?.transpose().map_err(|why| unknown(STATES, why))?;
        let automatic = states.unwrap_or_default();
        Self::of(packages, automatic, interrupted).map_err(|why| unknown(STATUS, why))
    }

    fn of(
        packages: Arc<HashMap<String, Vec<Entry>>>,
        automatic: Arc<HashSet<(String, String)>>,
        interrupted: bool,
    ) -> Result<Self, String> {
        // dpkg is itself a package, and always of the native architecture.
        let native = packages
            .get("dpkg")
            .and_then(|entries| entries.iter().find(|entry| entry.state > State::ConfigFiles))
            .map(|entry| entry.architecture.clone())
            .ok_or("dpkg itself is not among the packages")?;
        Ok(Self { native, packages, automatic, interrupted })
    }

    /// An earlier run of dpkg did not come to its end, for any package.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted || self.packages.values().flatten().any(|entry| matches!(entry.state, State::Broken(_)))
    }

    fn entry<'a>(&self, name: &'a str) -> Option<(&'a str, &Entry)> {
        let name = self.canonical(name);
        let (bare, foreign) = name.split_once(':').map_or((name, None), |(bare, foreign)| (bare, Some(foreign)));
        let ours = |entry: &&Entry| match foreign {
            Some(foreign) => entry.architecture == foreign,
            None => entry.architecture == self.native || entry.architecture == "all",
        };
        let entries = self.packages.get(bare)?;
        // A package that changed between `all` and the native architecture may have left a trace of the old.
        Some((bare, entries.iter().filter(ours).max_by_key(|entry| &entry.state)?))
    }

    /// dpkg has a list of the files of a package of this name, and does not know of any: what it has written down is not
    /// whole.
    pub fn is_lost(&self, host: &Reader, name: &str) -> bool {
        if self.entry(name).is_some() {
            return false;
        }
        let (bare, architecture) = self.canonical(name).split_once(':').unwrap_or((self.canonical(name), &self.native));
        let is_there = |list: String| !matches!(host.look(&list), Ok(None));
        // A name without an architecture is that of the only package of this name.
        is_there(format!("{LISTS}/{bare}:{architecture}.list"))
            || !self.packages.contains_key(bare) && is_there(format!("{LISTS}/{bare}.list"))
    }

    fn is_automatic(&self, bare: &str, architecture: &str) -> bool {
        let architecture = if architecture == "all" { &self.native } else { architecture };
        self.automatic.contains(&(bare.to_owned(), architecture.to_owned()))
    }
}

impl tool::Database for Database {
    fn canonical<'a>(&self, name: &'a str) -> &'a str {
        match name.split_once(':') {
            Some((bare, "native" | "all" | "any")) => bare,
            Some((bare, architecture)) if architecture == self.native => bare,
            _ => name,
        }
    }

    fn observed(&self, name: &str) -> Observed {
        let Some((name, entry)) = self.entry(name) else { return Observed::Absent { config_files: false } };
        match &entry.state {
            State::NotInstalled => Observed::Absent { config_files: false },
            State::ConfigFiles => Observed::Absent { config_files: true },
            State::Broken(status) => {
                Observed::Broken { status: status.clone(), version: entry.version.clone(), essential: entry.essential }
            }
            State::Installed => Observed::Installed {
                version: entry.version.clone(),
                architecture: entry.architecture.clone(),
                essential: entry.essential,
                automatic: self.is_automatic(name, &entry.architecture),
                held: Some(entry.held),
                order: Order::Deb,
            },
        }
    }

    fn is_held(&self, name: &str) -> bool {
        self.entry(name).is_some_and(|(_, entry)| entry.held)
    }
}

/// dpkg writes down each step here, and clears it once all is in its status file.
fn interrupted(host: &Reader) -> Result<bool, Error> {
    Ok(!host.list(UPDATES)?.is_empty())
}

fn unknown(thing: &str, why: String) -> Error {
    Error::Unknown { thing: thing.to_owned(), why }
}

/// The paragraphs of a deb822(5) file, each the fields that `wanted` names, in that order.
pub(super) fn paragraphs<'a, const N: usize>(text: &'a str, wanted: [&str; N]) -> Vec<[&'a str; N]> {
    let mut all = Vec::new();
    let mut fields = [""; N];
    let mut any = false;
    for line in text.lines().chain(std::iter::once("")) {
        if line.trim().is_empty() {
            if std::mem::take(&mut any) {
                all.push(std::mem::replace(&mut fields, [""; N]));
            }
        } else {
            any = true;
            // A line that starts with space goes on with the field before, and none of ours has several.
            if let Some((name, value)) = line.split_once(':').filter(|_| !line.starts_with([' ', '\t']))
                && let Some(i) = wanted.iter().position(|field| field.eq_ignore_ascii_case(name))
            {
                fields[i] = value.trim();
            }
        }
    }
    all
}

fn parse_status(text: &str) -> Result<HashMap<String, Vec<Entry>>, String> {
    const FIELDS: [&str; 6] = ["Status", "Package", "Version", "Architecture", "Essential", "Protected"];
    // dpkg ends each paragraph with an empty line, the last one too.
    if !text.is_empty() && !text.ends_with("\n\n") {
        return Err("the last paragraph has no end".to_owned());
    }
    collect(paragraphs(text, FIELDS))
}

fn parse_query(text: &str) -> Result<HashMap<String, Vec<Entry>>, String> {
    let mut rows = Vec::new();
    for line in text.lines() {
        let row: Vec<&str> = line.split('\t').collect();
        rows.push(row.try_into().map_err(|_| format!("a line that is not understood: {}", one_line(line, 80)))?);
    }
    collect(rows)
}

fn collect(rows: Vec<[&str; 6]>) -> Result<HashMap<String, Vec<Entry>>, String> {
    let mut packages: HashMap<String, Vec<Entry>> = HashMap::with_capacity(rows.len());
    for [status, name, version, architecture, essential, protected] in rows {
        let doubt = |what: &str| Err(format!("package {}: {what} {:?}", one_line(name, 80), one_line(status, 80)));
        if name.is_empty() {
            return Err("a paragraph that names no package".to_owned());
        }
        let words: Vec<&str> = status.split_ascii_whitespace().collect();
        let [want, flag, state] = words[..] else { return doubt("status") };
        let state = match (flag, state) {
            (_, "not-installed") => State::NotInstalled,
            ("ok", "config-files") => State::ConfigFiles,
            ("ok", "installed") => State::Installed,
            (
                "ok" | "reinstreq",
                "half-installed" | "unpacked" | "half-configured" | "triggers-awaited" | "triggers-pending",
            ) => State::Broken(state.to_owned()),
            ("reinstreq", "installed" | "config-files") => State::Broken("needs to be reinstalled".to_owned()),
            _ => return doubt("status"),
        };
        if state > State::NotInstalled && (architecture.is_empty() || version.is_empty() && state == State::Installed) {
            return doubt("no version or architecture for");
        }
        packages.entry(name.to_owned()).or_insert_with(|| Vec::with_capacity(1)).push(Entry {
            architecture: architecture.to_owned(),
            version: version.to_owned(),
            essential: essential == "yes" || protected == "yes",
            held: want == "hold",
            state,
        });
    }
    Ok(packages)
}

fn parse_states(text: &str) -> Result<HashSet<(String, String)>, String> {
    let mut automatic = HashSet::new();
    for [name, architecture, mark] in paragraphs(text, ["Package", "Architecture", "Auto-Installed"]) {
        match (name, mark) {
            ("", _) => return Err("a paragraph that names no package".to_owned()),
            (_, "") => return Err(format!("no mark for {}", one_line(name, 80))),
            (_, "1") => drop(automatic.insert((name.to_owned(), architecture.to_owned()))),
            _ => {}
        }
    }
    Ok(automatic)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::kinds::package::cut;

    /// The packages of a real host, as its files have them.
    pub fn fixture() -> Database {
        let packages = parse_status(include_str!("../fixtures/status.txt")).expect("understood");
        let automatic = parse_states(include_str!("../fixtures/extended_states.txt")).expect("understood");
        Database::of(Arc::new(packages), Arc::new(automatic), false).expect("has dpkg")
    }

    fn installed(version: &str, architecture: &str) -> Observed {
        Observed::Installed {
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            essential: false,
            automatic: false,
            held: Some(false),
            order: Order::Deb,
        }
    }

    #[test]
    fn a_package_is_found_with_its_version() {
        assert_eq!(fixture().observed("conff"), installed("1.0", "all"));
        assert_eq!(fixture().observed("nothing-of-that-name"), Observed::Absent { config_files: false });
    }

    #[test]
    fn essential_and_protected_held_and_automatic_are_told_apart() {
        let database = fixture();
        for name in ["essent", "protec", "dpkg"] {
            assert!(crate::kinds::package::is_protected(&database.observed(name)), "{name}");
        }
        assert!(!crate::kinds::package::is_protected(&database.observed("conff")));
        assert!(matches!(database.observed("alpha"), Observed::Installed { held: Some(true), automatic: false, .. }));
        assert!(matches!(
            database.observed("libkeyutils1"),
            Observed::Installed { held: Some(false), automatic: true, .. }
        ));
    }

    #[test]
    fn a_foreign_architecture_is_another_package() {
        let database = fixture();
        assert_eq!(database.observed("libm"), Observed::Absent { config_files: false });
        assert_eq!(database.observed("libm:i386"), installed("1.0", "i386"));
        assert_eq!(database.observed("conff:amd64"), installed("1.0", "all"));
        assert_eq!(database.canonical("conff:amd64"), "conff");
        assert_eq!(database.canonical("libm:i386"), "libm:i386");
    }

    #[test]
    fn what_is_half_there_is_neither_installed_nor_absent() {
        let database = fixture();
        assert!(matches!(database.observed("broken"), Observed::Broken { status, .. } if status == "half-configured"));
        assert!(database.is_interrupted());
        assert_eq!(database.observed("leftover"), Observed::Absent { config_files: true });
    }

    #[test]
    fn the_file_and_the_program_tell_the_same() {
        let asked = parse_query(include_str!("../fixtures/dpkg-query.txt")).expect("understood");
        let read = parse_status(include_str!("../fixtures/status.txt")).expect("understood");
        // The fixture of the file is cut to some packages; of each of these both say the same.
        for (name, entries) in &read {
            assert_eq!(Some(entries), asked.get(name), "{name}");
        }
        assert!(read.len() > 5);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test lays out what is read")]
    fn what_was_cut_short_is_not_absence() {
        // As dpkg has them: a list of files of each package of which any file is there.
        let root = tempfile::tempdir().expect("a scratch directory");
        std::fs::create_dir_all(root.path().join("var/lib/dpkg/info")).expect("made");
        let all = parse_status(include_str!("../fixtures/status.txt")).expect("understood");
        for (name, entry) in all.iter().flat_map(|(name, entries)| entries.iter().map(move |entry| (name, entry))) {
            if entry.state > State::NotInstalled {
                std::fs::write(root.path().join(format!("var/lib/dpkg/info/{name}.list")), "").expect("written");
            }
        }
        let host = Reader::directory(root.path()).expect("opens");
        let whole = Database::of(Arc::new(all.clone()), Arc::default(), false).expect("has dpkg");
        let mut doubts = 0;
        let rows = |text: &str| match text.starts_with("Package: ") {
            true => parse_status(text),
            false => parse_query(text),
        };
        let query: String = include_str!("../fixtures/dpkg-query.txt")
            .lines()
            .filter(|line| line.split('\t').nth(1).is_some_and(|name| all.contains_key(name)))
            .map(|line| format!("{line}\n"))
            .collect();
        for text in [include_str!("../fixtures/status.txt"), &query] {
            for cut in cut::short(text) {
                let found = rows(cut).and_then(|packages| Database::of(Arc::new(packages), Arc::default(), false));
                let Ok(found) = found else { continue };
                for name in all.keys() {
                    let (now, then) = (found.observed(name), whole.observed(name));
                    let is_lost = found.is_lost(&host, name);
                    doubts += usize::from(is_lost);
                    assert!(now == then || is_lost, "{name} is {now:?}, and was {then:?}; cut to:\n{cut}");
                }
            }
        }
        assert!(doubts > 10, "{doubts}");
        assert!(!whole.is_lost(&host, "nothing-of-that-name") && all.keys().all(|name| !whole.is_lost(&host, name)));
        // Inside a paragraph.
        for text in [include_str!("../fixtures/status.txt"), include_str!("../fixtures/extended_states.txt")] {
            let is_status = text.contains("Status: ");
            let mut refused = 0;
            for cut in cut::short(text).filter(|cut| !cut.is_empty() && !cut.ends_with("\n\n")) {
                let is_refused = if is_status { parse_status(cut).is_err() } else { parse_states(cut).is_err() };
                // Of a mark only the last line says anything.
                assert!(is_refused || !is_status && cut.ends_with("Auto-Installed: 1\n"), "{cut}");
                refused += usize::from(is_refused);
            }
            assert!(refused > 10, "{refused}");
        }
    }

    #[test]
    fn what_was_lost_of_one_architecture_is_not_absent_beside_another() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let lists = |names: &[&str]| {
            for name in names {
                let path = root.path().join(format!("var/lib/dpkg/info/{name}.list"));
                std::fs::DirBuilder::new().recursive(true).create(path.parent().expect("below")).expect("made");
                crate::host::write_new(&path, b"/.\n").expect("written");
            }
        };
        let paragraph = |name: &str, architecture: &str| {
            format!("Package: {name}\nStatus: install ok installed\nArchitecture: {architecture}\nVersion: 1\n\n")
        };
        let known = [("dpkg", "amd64"), ("libm", "amd64"), ("libn", "i386"), ("tool", "amd64")];
        let text: String = known.iter().map(|(name, architecture)| paragraph(name, architecture)).collect();
        let packages = parse_status(&text).expect("understood");
        let database = Database::of(Arc::new(packages), Arc::default(), false).expect("has dpkg");
        let host = Reader::directory(root.path()).expect("opens");
        lists(&["dpkg", "libm:amd64", "libm:i386", "libn:amd64", "libn:i386", "tool", "gone"]);
        for lost in ["libm:i386", "libn", "libn:amd64", "gone", "gone:i386"] {
            assert!(database.is_lost(&host, lost), "{lost}");
        }
        for known in ["libm", "libn:i386", "tool", "tool:i386", "libm:arm64", "nothing"] {
            assert!(!database.is_lost(&host, known), "{known}");
        }
    }

    #[test]
    fn what_is_not_understood_is_not_absence() {
        for text in [
            "Package: a\nStatus: install ok\n\n",
            "Package: a\nStatus: install ok new-word\nArchitecture: all\nVersion: 1\n\n",
            "Status: install ok installed\nVersion: 1\n\n",
            "Package: a\nStatus: install ok installed\nArchitecture: all\n\n",
            "Package: a\nVersion: 1\n\n",
            "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0-",
        ] {
            assert!(parse_status(text).is_err(), "{text}");
        }
        assert!(parse_query("install ok installed\ta\t1.0\n").is_err());
        assert!(Database::of(Arc::new(parse_status("").expect("empty")), Arc::default(), false).is_err());
    }

    #[test]
    fn fields_are_found_whatever_their_case_and_descriptions_are_passed_over() {
        let text = "package: a\nstatus: hold ok installed\nArchitecture: all\nVersion: 1\nDescription: x\n Version: 9\n .\n Status: y\n\n\n";
        let packages = parse_status(text).expect("understood");
        assert_eq!(packages["a"][0].version, "1");
        assert!(packages["a"][0].held);
    }
}
