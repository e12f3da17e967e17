//! What rpm and dnf have written down about what is installed. rpm is asked which versions, in one query; dnf for
//! whose sake they are there.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::five::Conditions;
use super::{Generation, is_name, native};
use crate::host::{Error, Meta, Output, Program, Reader};
use crate::kinds::package::at_work::AtWork;
use crate::kinds::package::fault::later;
use crate::kinds::package::{Observed, Order, tool};
use crate::model::{glob, one_line};

/// By which name it is remembered what rpm said.
const REMEMBERED: &str = "rpm";
/// One package a line.
const QUERY: &str = "%{NAME}\\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\\t%{ARCH}\\n";
/// Where distributions keep rpm's database: a look that finds none would take everything for absent.
const DATABASES: &[&str] = &["/usr/lib/sysimage/rpm", "/var/lib/rpm"];
const DATABASE_FILES: &[&str] = &["rpmdb.sqlite", "Packages.db", "Packages"];
/// Where it says what dnf never removes, see `protected_packages` in dnf.conf(5).
const PROTECTED: &[&str] = &["/etc/dnf/protected.d", "/etc/yum/protected.d"];
/// What a host does not do without in any case.
const ALWAYS_PROTECTED: &[&str] =
    &["dnf", "dnf5", "rpm", "systemd", "glibc", "kernel", "kernel-core", "setup", "filesystem", "trueup"];
/// The longest of dnf's own files.
pub(super) const LIMIT: u64 = 4 << 20;
/// Settings of dnf.
const SETTINGS: &str = "/etc/dnf/dnf.conf";
/// Where the fifth reads settings beside that, see dnf5.conf(5).
const SETTINGS_BESIDE: &[&str] = &["/usr/share/dnf5/libdnf.conf.d", "/etc/dnf/libdnf5.conf.d"];
/// The architecture of packages that fit all.
pub(super) const EVERY: &str = "noarch";

/// The packages that were asked for, or all.
#[derive(Debug)]
pub struct Database {
    native: String,
    packages: HashMap<String, Vec<Entry>>,
    /// Name and architecture.
    automatic: HashSet<(String, String)>,
    protected: Vec<String>,
    /// What dnf keeps at a version; `None` where it cannot keep anything.
    locks: Option<Vec<Lock>>,
    /// Those of which several versions may be there side by side.
    many: HashSet<String>,
}

/// What is installed under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its version and release, with an epoch that is not 0.
    pub version: String,
    /// What it was built for.
    pub architecture: String,
}

/// What keeps a package at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lock {
    /// A line of the plugin of the fourth dnf.
    Pattern(String),
    /// An entry of the fifth.
    Conditions(Conditions),
}

impl Lock {
    /// Whether it is for packages of this name.
    fn concerns(&self, bare: &str) -> bool {
        match self {
            Self::Pattern(pattern) => concerns(pattern, bare),
            Self::Conditions(conditions) => conditions.concerns(bare),
        }
    }

    /// Whether it keeps just what is installed.
    fn keeps(&self, bare: &str, entry: &Entry) -> bool {
        match self {
            Self::Pattern(pattern) => keeps(pattern, bare, entry),
            Self::Conditions(conditions) => conditions.keeps(bare, entry),
        }
    }
}

/// What is installed under `names`.
pub fn observe<G: Generation>(host: &Reader, names: &[&str]) -> Result<Vec<Result<Observed, Error>>, Error> {
    let known: Vec<&str> = names.iter().copied().filter(|name| is_name(name)).collect();
    let mut database = Database::of_names::<G>(host, &known)?;
    let mut at_work = AtWork::Nobody;
    // Each upgrade has both versions for a while: rpm takes the old one away once the new one is there. Whoever cannot be
    // told is as good as one that goes on: it is looked at again.
    let now = || AtWork::now(host).unwrap_or(AtWork::Ours);
    if names.iter().any(|name| database.duplicates(name).is_some()) {
        at_work = now();
        if at_work == AtWork::Nobody {
            // Whose upgrade it was may have ended since rpm was asked.
            database = Database::of_names::<G>(host, &known)?;
            at_work = now();
        }
    }
    Ok(names.iter().map(|name| database.look(name, &at_work)).collect())
}

fn twice(name: &str, versions: &[&str]) -> Error {
    let (name, versions) = (one_line(name, 80), one_line(&versions.join(" and "), 200));
    let why = format!(
        "rpm has it as {versions}: an upgrade was cut short; `dnf remove --duplicates` leaves the newest of everything that \
         is there twice, `rpm -e NAME-VERSION` takes one away"
    );
    Error::Unknown { thing: format!("package:{name}"), why }
}

/// Whether dnf keeps several versions of a package side by side, by what it provides; see `installonlypkgs` in dnf.conf(5).
fn is_installonly(name: &str, provides: &str, settings: &str) -> bool {
    const ALWAYS: &[&str] = &[
        "kernel",
        "kernel-PAE",
        "installonlypkg(kernel)",
        "installonlypkg(kernel-module)",
        "installonlypkg(vm)",
        "multiversion(kernel)",
    ];
    let own =
        settings.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| key.trim() == "installonlypkgs");
    let own: Vec<&str> =
        own.flat_map(|(_, value)| value.split([' ', ',', '\t'])).filter(|word| !word.is_empty()).collect();
    let provided = provides.lines().filter_map(|line| line.split_whitespace().next()).chain([name]);
    provided.into_iter().any(|word| ALWAYS.contains(&word) || own.contains(&word))
}

impl Database {
    /// All that is installed.
    pub fn read<G: Generation>(host: &Reader) -> Result<Self, Error> {
        is_there(host)?;
        let output = host.query(&Program::new("rpm").args(["-qa", "--qf", QUERY]))?;
        let packages = sound(&output).and_then(|()| parse(&output.text())).map_err(|why| unknown("rpm", why))?;
        Self::of::<G>(host, packages, &[])
    }

    /// What is installed under `names`, which is many times faster than all where there are few.
    fn of_names<G: Generation>(host: &Reader, names: &[&str]) -> Result<Self, Error> {
        is_there(host)?;
        if names.is_empty() {
            return Self::of::<G>(host, HashMap::new(), &[]);
        }
        let bare: Vec<&str> = names.iter().map(|name| bare(name)).collect();
        let ask = || {
            let output = host.query(&Program::new("rpm").args(["-q", "--qf", QUERY, "--"]).args(&bare).any_status())?;
            let packages = answer(&output, &bare).map_err(|why| unknown("rpm", why))?;
            Ok((bare.iter().map(|&name| name.to_owned()).collect::<Vec<String>>(), packages))
        };
        let Some(file) = newest_file(host)? else { return Self::of::<G>(host, ask()?.1, &bare) };
        let mut known = host.found_in(REMEMBERED, &file, ask)?;
        if known.0 != bare {
            // Of several questions the last is remembered.
            host.forget_found(REMEMBERED);
            known = host.found_in(REMEMBERED, &file, ask)?;
        }
        Self::of::<G>(host, known.1.clone(), &bare)
    }

    /// `asked` are the names that are of interest, or all where there is none.
    fn of<G: Generation>(host: &Reader, packages: HashMap<String, Vec<Entry>>, asked: &[&str]) -> Result<Self, Error> {
        let any = asked.iter().any(|name| packages.contains_key(*name));
        let automatic = match packages.is_empty() || !asked.is_empty() && !any {
            true => HashSet::new(),
            false => automatic::<G>(host)?,
        };
        let many = HashSet::new();
        let (protected, locks) = (protected(host)?, G::locks(host)?);
        let mut database = Self { native: native(), packages, automatic, protected, locks, many };
        database.many = database.side_by_side(host)?;
        Ok(database)
    }

    /// Those of several versions that may be so.
    fn side_by_side(&self, host: &Reader) -> Result<HashSet<String>, Error> {
        let several = self.packages.keys().filter(|name| self.versions(name).len() > 1);
        let mut many = HashSet::new();
        for name in several {
            let provides = host.query(&Program::new("rpm").args(["-q", "--provides", "--", name]))?;
            sound(&provides).map_err(|why| unknown("rpm", why))?;
            if is_installonly(name, &provides.text(), &settings(host)?) {
                many.insert(name.clone());
            }
        }
        Ok(many)
    }

    /// The versions of `name` that are there side by side, the oldest first.
    fn versions(&self, name: &str) -> Vec<&str> {
        let name = tool::Database::canonical(self, name);
        let (bare, foreign) = name.split_once(':').map_or((name, None), |(bare, foreign)| (bare, Some(foreign)));
        let entries = self.packages.get(bare).map(Vec::as_slice).unwrap_or_default();
        let mut versions: Vec<&str> =
            entries.iter().filter(|entry| self.is_meant(entry, foreign)).map(|entry| entry.version.as_str()).collect();
        versions.sort_by(|a, b| super::compare(a, b));
        versions
    }

    /// What is known of `name`.
    fn look(&self, name: &str, at_work: &AtWork) -> Result<Observed, Error> {
        match (self.duplicates(name), at_work) {
            (None, _) => Ok(tool::Database::observed(self, name)),
            // It is waited for, and goes on from there.
            (Some(_), AtWork::Ours) => Ok(self.newest(name)),
            (Some(versions), AtWork::Theirs(holder)) => {
                let versions = one_line(&versions.join(" and as "), 200);
                Err(later(&format!("package:{name}"), &format!("it is there as {versions} while "), holder))
            }
            (Some(versions), AtWork::Nobody) => Err(twice(name, &versions)),
        }
    }

    /// The newest of all that is there under this name.
    fn newest(&self, name: &str) -> Observed {
        let Some((bare, entry)) = self.entry(name) else { return Observed::Absent { config_files: false } };
        Observed::Installed {
            version: entry.version.clone(),
            architecture: entry.architecture.clone(),
            essential: self.is_protected(bare),
            automatic: self.automatic.contains(&(bare.to_owned(), entry.architecture.clone())),
            held: self.locks.as_ref().map(|locks| locks.iter().any(|lock| lock.keeps(bare, entry))),
            order: Order::Rpm,
        }
    }

    fn is_protected(&self, bare: &str) -> bool {
        self.protected.iter().any(|protected| protected == bare)
    }

    /// What an upgrade that was cut short left twice: which one it is cannot be told.
    fn duplicates(&self, name: &str) -> Option<Vec<&str>> {
        let versions = self.versions(name);
        (versions.len() > 1 && !self.many.contains(bare(tool::Database::canonical(self, name)))).then_some(versions)
    }

    /// Whether `entry` is of the architecture that a name says, or of that which it means without.
    fn is_meant(&self, entry: &Entry, foreign: Option<&str>) -> bool {
        match foreign {
            Some(foreign) => entry.architecture == foreign,
            None => entry.architecture == self.native || entry.architecture == EVERY,
        }
    }

    /// The architecture of this machine.
    pub fn native(&self) -> &str {
        &self.native
    }

    /// The version that is installed under a name.
    pub fn version(&self, name: &str) -> Option<&str> {
        self.entry(name).map(|(_, entry)| entry.version.as_str())
    }

    fn entry<'a>(&self, name: &'a str) -> Option<(&'a str, &Entry)> {
        let name = tool::Database::canonical(self, name);
        let (bare, foreign) = name.split_once(':').map_or((name, None), |(bare, foreign)| (bare, Some(foreign)));
        let entries = self.packages.get(bare)?;
        // Several kernels are there side by side.
        let ours = entries.iter().filter(|entry| self.is_meant(entry, foreign));
        Some((bare, ours.max_by(|a, b| super::compare(&a.version, &b.version))?))
    }
}

impl tool::Database for Database {
    fn canonical<'a>(&self, name: &'a str) -> &'a str {
        match name.split_once(':') {
            Some((bare, "native" | EVERY | "any")) => bare,
            Some((bare, architecture)) if architecture == self.native => bare,
            _ => name,
        }
    }

    fn observed(&self, name: &str) -> Observed {
        match (self.duplicates(name), self.entry(name)) {
            (Some(versions), Some((bare, entry))) => Observed::Broken {
                status: format!("installed as {}", versions.join(" and as ")),
                version: entry.version.clone(),
                essential: self.is_protected(bare),
            },
            _ => self.newest(name),
        }
    }

    fn is_held(&self, name: &str) -> bool {
        let bare = bare(tool::Database::canonical(self, name));
        self.locks.as_ref().is_some_and(|locks| locks.iter().any(|lock| lock.concerns(bare)))
    }

    fn cannot_hold(&self) -> Option<&'static str> {
        self.locks.is_none().then_some("the versionlock plugin of dnf is not installed")
    }
}

/// What is set for dnf, whichever it is.
fn settings(host: &Reader) -> Result<String, Error> {
    let mut files = vec![SETTINGS.to_owned()];
    for directory in SETTINGS_BESIDE {
        if host.look(directory)?.is_some() {
            let names = host.list(directory)?.into_iter().filter(|name| name.ends_with(".conf"));
            files.extend(names.map(|name| format!("{directory}/{name}")));
        }
    }
    let mut said = String::new();
    for file in files {
        let content = host.read_following(&file, LIMIT)?.unwrap_or_default();
        said += &format!("{}\n", String::from_utf8_lossy(&content));
    }
    Ok(said)
}

fn bare(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

fn unknown(thing: &str, why: String) -> Error {
    Error::Unknown { thing: thing.to_owned(), why }
}

/// The inode, length and time of the last change of content of a file.
pub type Written = (u64, u64, i128);

/// The file that the database at `path` was last written to. What is new is in the write-ahead log of SQLite, where that
/// holds anything; the database itself is then written by whoever only reads, too.
fn written_to(host: &Reader, path: &str) -> Result<Option<Meta>, Error> {
    let log = host.look(&format!("{path}-wal"))?.filter(|log| log.size > 0);
    if log.is_some() { Ok(log) } else { host.look(path) }
}

/// When the database at `path` was last written.
fn written(host: &Reader, path: &str) -> Result<Option<Written>, Error> {
    Ok(written_to(host, path)?.map(|meta| (meta.inode, meta.size, meta.modified)))
}

/// The file that rpm's database was last written to, wherever that is.
pub(super) fn newest_file(host: &Reader) -> Result<Option<Meta>, Error> {
    let mut newest: Option<Meta> = None;
    for path in WRITTEN_IN {
        newest = newest.into_iter().chain(written_to(host, path)?).max_by_key(|file| file.changed);
    }
    Ok(newest)
}

/// When rpm's database was last written, wherever that is.
pub fn written_last(host: &Reader) -> Result<Vec<Option<Written>>, Error> {
    WRITTEN_IN.iter().map(|path| written(host, path)).collect()
}

/// Why packages are there, as of a state of what that is written in. dnf takes long to answer, and is asked anew only
/// when one of these files is another.
#[derive(Debug)]
struct Known {
    files: Vec<Option<Written>>,
    automatic: HashSet<(String, String)>,
}

/// What dnf said last in this process.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
/// Where rpm keeps what is installed.
const WRITTEN_IN: &[&str] = &[
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/Packages",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages.db",
    "/var/lib/rpm/Packages",
];

/// The packages that are there because something else needed them.
fn automatic<G: Generation>(host: &Reader) -> Result<HashSet<(String, String)>, Error> {
    // Looked at first: what is written meanwhile is found to be another the next time.
    let files = [G::REASONS].iter().chain(WRITTEN_IN).map(|path| written(host, path));
    let files = files.collect::<Result<Vec<_>, _>>().unwrap_or_default();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    remembered(&mut known, files, || {
        let said = G::reasons(host)?;
        // It is asked only where something is installed.
        if said.trim().is_empty() {
            return Err(unknown("dnf", "it did not say why any package is installed".to_owned()));
        }
        parse_reasons(&said).map_err(|why| unknown("dnf", why))
    })
}

/// What is `known` where `files` are the same, else what `ask` answers. Where the first of them is not to
/// be seen, what changes is not either.
fn remembered(
    known: &mut Option<Known>,
    files: Vec<Option<Written>>,
    ask: impl FnOnce() -> Result<HashSet<(String, String)>, Error>,
) -> Result<HashSet<(String, String)>, Error> {
    if let Some(known) = known.as_ref().filter(|known| known.files == files && matches!(files.first(), Some(Some(_)))) {
        return Ok(known.automatic.clone());
    }
    *known = None;
    let automatic = ask()?;
    *known = Some(Known { files, automatic: automatic.clone() });
    Ok(automatic)
}

/// Whether rpm has written anything down here.
pub fn has_database(host: &Reader) -> bool {
    let there =
        |directory: &&str| DATABASE_FILES.iter().any(|file| host.below_root(&format!("{directory}/{file}")).exists());
    DATABASES.iter().any(there)
}

/// rpm makes a database that it does not find, and answers from that.
fn is_there(host: &Reader) -> Result<(), Error> {
    match has_database(host) {
        true => Ok(()),
        false => Err(unknown("rpm's database", format!("it is in neither of {}", DATABASES.join(", ")))),
    }
}

/// Of a database that it cannot read rpm says that the packages are not installed, and what is wrong as an error
/// beside that.
pub fn sound(output: &Output) -> Result<(), String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    // The last says what came of it, those before why.
    match errors[errors.len().saturating_sub(2)..].join("; ") {
        none if none.is_empty() => Ok(()),
        why => Err(one_line(&why, 300)),
    }
}

/// What rpm said of the packages that it was `asked` for by their names: of each it says something.
fn answer(output: &Output, asked: &[&str]) -> Result<HashMap<String, Vec<Entry>>, String> {
    sound(output)?;
    let text = output.text();
    let missing: Vec<&str> = text.lines().filter_map(missing).collect();
    // It ends with the number of those that it did not find, 254 at most.
    if usize::try_from(output.status).ok() != Some(missing.len().min(254)) {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("it ended with status {}: {}", output.status, one_line(&said, 300)));
    }
    let found: String =
        text.lines().filter(|line| self::missing(line).is_none()).map(|line| format!("{line}\n")).collect();
    let packages = parse(&found)?;
    // A name is also that of a package with its version, or with its architecture.
    let is_label = |rest: &str| rest.is_empty() || rest.starts_with(['-', '.']);
    let names = || text.lines().filter_map(|line| line.split('\t').next());
    let is_told =
        |name: &&&str| missing.contains(*name) || names().any(|known| name.strip_prefix(known).is_some_and(is_label));
    match asked.iter().find(|name| !is_told(name)) {
        None => Ok(packages),
        Some(name) => Err(format!("it said nothing of {}", one_line(name, 80))),
    }
}

/// The name of which a line says that no such package is installed.
fn missing(line: &str) -> Option<&str> {
    line.strip_prefix("package ")?.strip_suffix(" is not installed")
}

fn parse(text: &str) -> Result<HashMap<String, Vec<Entry>>, String> {
    let mut packages: HashMap<String, Vec<Entry>> = HashMap::new();
    for line in text.lines() {
        let [name, version, architecture] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(format!("a line that is not understood: {}", one_line(line, 80)));
        };
        // Keys that packages are signed with are among them.
        if name == "gpg-pubkey" || architecture == "(none)" {
            continue;
        }
        if name.is_empty() || version.is_empty() || architecture.is_empty() {
            return Err(format!("a package without a name or a version: {}", one_line(line, 80)));
        }
        let version = version.strip_prefix("0:").unwrap_or(version).to_owned();
        let entry = Entry { version, architecture: architecture.to_owned() };
        packages.entry(name.to_owned()).or_default().push(entry);
    }
    Ok(packages)
}

/// The packages that are there because something else needed them.
fn parse_reasons(text: &str) -> Result<HashSet<(String, String)>, String> {
    let mut automatic = HashSet::new();
    for line in text.lines() {
        let [name, architecture, reason] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(format!("a line that is not understood: {}", one_line(line, 80)));
        };
        // The fifth writes `Weak Dependency`.
        if matches!(reason.to_ascii_lowercase().as_str(), "dependency" | "weak-dependency" | "weak dependency") {
            automatic.insert((name.to_owned(), architecture.to_owned()));
        }
    }
    Ok(automatic)
}

fn protected(host: &Reader) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = ALWAYS_PROTECTED.iter().map(|name| (*name).to_owned()).collect();
    for directory in PROTECTED {
        if host.look(directory)?.is_none() {
            continue;
        }
        for file in host.list(directory)?.into_iter().filter(|file| file.ends_with(".conf")) {
            let content = host.read_following(&format!("{directory}/{file}"), LIMIT)?.unwrap_or_default();
            names.extend(lines(&content));
        }
    }
    Ok(names)
}

/// The lines that say something.
pub(super) fn lines(content: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(content);
    let said = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    said.map(str::to_owned).collect()
}

/// Whether a lock is for packages of this name; `!` keeps one version out rather than in.
fn concerns(lock: &str, bare: &str) -> bool {
    let Some(rest) = lock.strip_prefix(bare) else { return false };
    // What follows the name is `-EPOCH:VERSION…`, `-VERSION…`, or nothing.
    rest.is_empty()
        || rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '*'))
}

/// Whether a lock keeps just what is installed.
fn keeps(lock: &str, bare: &str, entry: &Entry) -> bool {
    let epoch = if entry.version.contains(':') { "" } else { "0:" };
    let plain = entry.version.split_once(':').map_or(entry.version.as_str(), |(_, version)| version);
    concerns(lock, bare)
        && [
            format!("{bare}-{epoch}{}.{}", entry.version, entry.architecture),
            format!("{bare}-{epoch}{}", entry.version),
            format!("{bare}-{plain}.{}", entry.architecture),
            format!("{bare}-{plain}"),
        ]
        .iter()
        .any(|name| glob::matches(lock, name))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    #[test]
    fn a_database_that_cannot_be_read_has_not_lost_its_packages() {
        let said = |stderr: &str| Output {
            status: 2,
            stdout: b"package foo is not installed\npackage bar is not installed\n".to_vec(),
            stderr: stderr.as_bytes().to_vec(),
        };
        assert!(answer(&said(""), &["foo", "bar"]).expect("neither is there").is_empty());
        assert!(answer(&said("warning: Found bdb database, using that\n"), &["foo", "bar"]).is_ok());
        let why = answer(&said(include_str!("../fixtures/rpm-damaged-errors.txt")), &["foo", "bar"])
            .expect_err("it cannot be told");
        assert!(why.contains("cannot open Packages database in /usr/lib/sysimage/rpm"), "{why}");
    }
    use crate::kinds::package::cut;
    use crate::kinds::package::dnf::Five;
    use crate::kinds::package::tool::Database as _;

    /// The packages of a real host, as its programs tell them.
    pub fn fixture() -> Database {
        Database {
            native: "x86_64".to_owned(),
            packages: parse(include_str!("../fixtures/rpm-qa.txt")).expect("understood"),
            automatic: parse_reasons(include_str!("../fixtures/dnf-reasons.txt")).expect("understood"),
            protected: vec!["dnf".to_owned()],
            locks: Some(lines(include_bytes!("../fixtures/versionlock.list")).into_iter().map(Lock::Pattern).collect()),
            many: HashSet::from(["kernel".to_owned()]),
        }
    }

    fn installed(version: &str, is_automatic: bool, held: Option<bool>) -> Observed {
        Observed::Installed {
            version: version.to_owned(),
            architecture: "noarch".to_owned(),
            essential: false,
            automatic: is_automatic,
            held,
            order: Order::Rpm,
        }
    }

    #[test]
    fn a_package_is_found_with_its_version_and_why_it_is_there() {
        let database = fixture();
        assert_eq!(database.observed("mailer"), installed("1.0-1", false, Some(false)));
        assert_eq!(database.observed("words"), installed("1.0-1", true, Some(false)));
        assert_eq!(database.observed("alpha"), installed("2:2.0-1", false, Some(true)));
        assert_eq!(database.observed("nothing-of-that-name"), Observed::Absent { config_files: false });
        assert!(crate::kinds::package::is_protected(&database.observed("dnf")));
        assert_eq!(database.observed("gpg-pubkey"), Observed::Absent { config_files: false });
    }

    #[test]
    fn the_fifth_says_why_packages_are_there_in_words_of_its_own() {
        let automatic = parse_reasons(include_str!("../fixtures/dnf5-reasons.txt")).expect("understood");
        let mut names: Vec<&str> = automatic.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["conf", "mailer", "words"], "neither what a user wanted nor what rpm alone installed");
    }

    #[test]
    fn what_the_fifth_locked_is_held() {
        let locks = Five::locks_in(include_str!("../fixtures/versionlock.toml")).expect("understood");
        let database = Database { locks: Some(locks), ..fixture() };
        assert_eq!(database.observed("alpha"), installed("2:2.0-1", false, Some(true)));
        assert_eq!(database.observed("mailer"), installed("1.0-1", false, Some(false)));
        assert!(tool::Database::is_held(&database, "alpha") && !tool::Database::is_held(&database, "mailer"));
    }

    #[test]
    fn what_may_be_there_side_by_side_is_set_in_any_of_the_places() {
        let directory = tempfile::tempdir().expect("a directory");
        let host = Reader::directory(directory.path()).expect("a directory");
        let put = |path: &str, content: &str| {
            let path = directory.path().join(path);
            std::fs::DirBuilder::new().recursive(true).create(path.parent().expect("below")).expect("made");
            crate::host::write_new(&path, content.as_bytes()).expect("written");
        };
        assert_eq!(settings(&host).expect("there is nothing"), "\n");
        put("etc/dnf/dnf.conf", "[main]\ninstallonlypkgs=one");
        put("etc/dnf/libdnf5.conf.d/20-own.conf", "[main]\ninstallonlypkgs=two\n");
        put("usr/share/dnf5/libdnf.conf.d/10-distribution.conf", "[main]\ninstallonlypkgs=three\n");
        put("usr/share/dnf5/libdnf.conf.d/README", "installonlypkgs=four\n");
        let said = settings(&host).expect("read");
        for name in ["one", "two", "three"] {
            assert!(is_installonly(name, "", &said), "{name}: {said}");
        }
        assert!(!is_installonly("four", "", &said));
    }

    #[test]
    fn a_foreign_architecture_is_another_package() {
        let text = "glibc\t2.39-1\ti686\nglibc\t2.39-2\tx86_64\nkernel\t6.8-1\tx86_64\nkernel\t6.10-1\tx86_64\n";
        let database = Database { packages: parse(text).expect("understood"), ..fixture() };
        assert_eq!(database.version("glibc"), Some("2.39-2"));
        assert_eq!(database.version("glibc:i686"), Some("2.39-1"));
        assert_eq!(database.version("glibc:x86_64"), Some("2.39-2"));
        assert_eq!(database.canonical("glibc:x86_64"), "glibc");
        assert_eq!(database.version("glibc:s390x"), None);
        assert_eq!(database.version("kernel"), Some("6.10-1"), "the newest of several");
    }

    #[test]
    fn what_is_there_twice_is_neither_of_the_two_unless_it_may_be() {
        let text = "tool\t1.0-1\tnoarch\ntool\t1.1-1\tx86_64\nglibc\t2-1\ti686\nglibc\t2-1\tx86_64\nkernel\t6.8-1\tx86_64\n\
                    kernel\t6.10-1\tx86_64\n";
        let database = Database { packages: parse(text).expect("understood"), ..fixture() };
        assert_eq!(database.duplicates("tool"), Some(vec!["1.0-1", "1.1-1"]));
        assert!(
            matches!(database.observed("tool"), Observed::Broken { status, .. } if status == "installed as 1.0-1 and as 1.1-1")
        );
        let looked = |at_work| database.look("tool", &at_work);
        assert_eq!(looked(AtWork::Nobody).expect_err("which of the two").reason(), "cannot-tell");
        let theirs = looked(AtWork::Theirs("dnf (pid 7)".to_owned())).expect_err("later");
        assert_eq!(theirs.reason(), "package-lock-held");
        let ours = looked(AtWork::Ours).expect("an upgrade has both for a while");
        assert!(matches!(ours, Observed::Installed { version, .. } if version == "1.1-1"));
        for name in ["glibc", "glibc:i686", "kernel", "nothing"] {
            assert_eq!(database.duplicates(name), None, "{name}");
        }
        assert!(is_installonly("kernel-core", "kernel-core = 6.8-1\ninstallonlypkg(kernel)\n", ""));
        assert!(is_installonly("own", "own = 1\n", "[main]\nbest=True\ninstallonlypkgs = other, own\n"));
        assert!(!is_installonly("tool", "tool = 1.0-1\n", "[main]\ninstallonlypkgs=other\n"));
    }

    #[test]
    fn a_lock_on_another_version_or_another_name_does_not_hold() {
        let entry = Entry { version: "1.1-1".to_owned(), architecture: "noarch".to_owned() };
        for lock in ["alpha-0:1.1-1.*", "alpha-1.1-1.noarch", "alpha-1.1-1", "alpha-0:1.*"] {
            assert!(keeps(lock, "alpha", &entry) && concerns(lock, "alpha"), "{lock}");
        }
        for lock in ["alpha-0:1.0-1.*", "alpha-1:1.1-1.*"] {
            assert!(!keeps(lock, "alpha", &entry) && concerns(lock, "alpha"), "{lock}");
        }
        for lock in ["alpha-tools-0:1.1-1.*", "!alpha-0:1.1-1.*", "alph"] {
            assert!(!concerns(lock, "alpha"), "{lock}");
        }
    }

    #[test]
    fn without_the_plugin_nothing_is_held_and_it_says_why() {
        let database = Database { locks: None, ..fixture() };
        assert_eq!(database.observed("alpha"), installed("2:2.0-1", false, None));
        assert!(database.cannot_hold().is_some_and(|why| why.contains("versionlock")));
        assert_eq!(fixture().cannot_hold(), None);
    }

    #[test]
    fn what_is_not_understood_is_not_absence() {
        for text in ["alpha\t1.0-1\n", "\t1.0-1\tnoarch\n", "alpha\t\tnoarch\n", "error: cannot open Packages\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse_reasons("alpha\tuser\n").is_err());
        let said = |status, text: &str| Output { status, stdout: text.into(), stderr: Vec::new() };
        let text = "alpha\t1.0-1\tnoarch\npackage nope is not installed\n";
        let found = answer(&said(1, text), &["alpha", "nope"]).expect("both are told of");
        assert_eq!(found.keys().collect::<Vec<_>>(), ["alpha"]);
        assert!(answer(&said(1, text), &["alpha", "beta", "nope"]).is_err(), "nothing was said of one");
        assert!(answer(&said(0, ""), &["alpha"]).is_err(), "nothing was said at all");
        assert!(answer(&said(0, text), &["alpha", "nope"]).is_err(), "the number is wrong");
        assert!(answer(&said(0, "alpha\t1.0-1\tnoarch\n"), &["alpha-1.0"]).is_ok(), "by its version");
        assert!(answer(&said(0, "alpha\t1.0-1\tnoarch\n"), &["alpha.noarch"]).is_ok(), "by its architecture");
        assert!(answer(&said(0, "gpg-pubkey\t1-1\t(none)\n"), &["gpg-pubkey"]).is_ok(), "a key is no package");
    }

    #[test]
    fn what_rpm_did_not_say_to_its_end_is_not_absence() {
        let text = include_str!("../fixtures/rpm-qa.txt").lines().filter(|line| !line.starts_with("gpg-pubkey"));
        let asked: Vec<&str> =
            text.clone().filter_map(|line| line.split('\t').next()).chain(["nope", "none"]).collect();
        let text: String = text.map(|line| format!("{line}\n")).collect::<String>()
            + "package nope is not installed\npackage none is not installed\n";
        for status in [2, 1, 0] {
            let said = |text: &str| Output { status, stdout: text.into(), stderr: Vec::new() };
            assert_eq!(answer(&said(&text), &asked).is_ok(), status == 2, "the number of those that are not there");
            for cut in cut::short(&text) {
                assert!(answer(&said(cut), &asked).is_err(), "{status}: {cut}");
            }
        }
    }

    #[test]
    fn dnf_is_asked_again_only_when_it_could_answer_otherwise() {
        let directory = tempfile::tempdir().expect("a directory");
        let host = Reader::directory(directory.path()).expect("a directory");
        let asked = std::cell::Cell::new(0);
        let mut known = None;
        let mut look = |is_answered: bool| {
            let files = ["/history", "/rpmdb"].map(|path| written(&host, path).expect("seen")).to_vec();
            remembered(&mut known, files, || {
                asked.set(asked.get() + 1);
                if is_answered { Ok(HashSet::new()) } else { Err(unknown("dnf", String::new())) }
            })
            .is_ok()
        };
        let ours = crate::host::StateDir::new(directory.path().to_path_buf());
        let put = |name: &str, content: &[u8]| ours.write(name, content).expect("written");
        put("rpmdb", b"1");
        assert!(look(true) && look(true));
        assert_eq!(asked.get(), 2, "what dnf writes down is somewhere else");
        put("history", b"1");
        assert!(look(true) && look(true) && look(true));
        assert_eq!(asked.get(), 3);
        put("history", b"2");
        assert!(!look(false) && look(true) && look(true));
        assert_eq!(asked.get(), 5, "no answer is none to remember");
        put("rpmdb", b"23");
        assert!(look(true) && look(true));
        assert_eq!(asked.get(), 6);
        put("history-wal", b"");
        assert!(look(true) && asked.get() == 6, "an empty log says nothing");
        put("history-wal", b"4");
        assert!(look(true) && asked.get() == 7);
        put("history", b"24");
        assert!(look(true) && asked.get() == 7, "a reader took over what the log says");
    }

    #[test]
    fn a_host_without_a_database_cannot_tell() {
        let directory = tempfile::tempdir().expect("a directory");
        let host = Reader::directory(directory.path()).expect("a directory");
        assert!(is_there(&host).is_err());
        std::fs::DirBuilder::new().recursive(true).create(directory.path().join("var/lib/rpm/Packages")).expect("made");
        assert!(is_there(&host).is_ok());
    }
}
