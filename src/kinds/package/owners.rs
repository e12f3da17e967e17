//! Which files belong to installed packages.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use super::at_work::AtWork;
use super::{dnf, fault};
use crate::host::{Error, Output, Program, Reader};
use crate::kinds::file::protected::unaliased;
use crate::model::one_line;

/// Where dpkg lists what it installed, one file a package, one path a line.
const LISTS: &str = "/var/lib/dpkg/info";
/// Three lines each: the path, where it was diverted to, and by whom; dpkg-divert(1).
const DIVERSIONS: &str = "/var/lib/dpkg/diversions";
/// The longest list of one package.
const LIMIT: u64 = 64 << 20;
/// So many paths are asked about at once: what one command takes is bounded, see execve(2).
const AT_ONCE: usize = 500;
/// Where others write down what they installed.
const OTHERS: &[(&str, &str)] = &[("/var/lib/pacman/local", "pacman"), ("/lib/apk/db/installed", "apk")];

/// Those of `paths` that belong to an installed package, or are a configuration file that one left; by whatever name the
/// package has it, and whatever links lead there by now.
///
/// # Errors
/// Where that cannot be told of one of them: also while anybody is at work with packages, since what is unpacked stands
/// there before it is written down whose it is.
pub fn owned(host: &Reader, paths: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
    nobody_is_at_work(host)?;
    let owned = known_or_asked(host, paths)?;
    nobody_is_at_work(host)?;
    Ok(owned)
}

fn nobody_is_at_work(host: &Reader) -> Result<(), Error> {
    match AtWork::now(host)? {
        AtWork::Nobody => Ok(()),
        AtWork::Ours => Err(fault::later("packages", "", "trueup")),
        AtWork::Theirs(holder) => Err(fault::later("packages", "", &holder)),
    }
}

/// Whether dpkg or rpm gives such a name to what it is about to put in place: that is theirs, whatever their databases
/// say; dpkg's conffiles bear theirs until they are configured.
pub fn is_working_name(name: &str) -> bool {
    let of_rpm = |(_, hex): (&str, &str)| hex.len() == 8 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.ends_with(".dpkg-new") || name.ends_with(".dpkg-tmp") || name.rsplit_once(';').is_some_and(of_rpm)
}

fn known_or_asked(host: &Reader, paths: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
    let stamps = if host.is_machine() { stamps(host)? } else { Vec::new() };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) =
        known.as_ref().filter(|known| !stamps.is_empty() && known.stamps == stamps && known.asked == *paths)
    {
        return Ok(known.answer.owned(host, paths));
    }
    *known = None;
    let answer = ask(host, paths)?;
    let owned = answer.owned(host, paths);
    if !stamps.is_empty() {
        *known = Some(Known { stamps, asked: paths.clone(), answer });
    }
    Ok(owned)
}

/// The answer to the last question in this process: the same one comes with each pass, and the answer is another only
/// once something was installed or removed.
struct Known {
    stamps: Vec<Option<dnf::Written>>,
    asked: BTreeSet<String>,
    answer: Answer,
}

/// What the databases say of some paths.
#[derive(Default)]
struct Answer {
    /// Those that rpm says are owned; it knows a directory by any name.
    by_rpm: BTreeSet<String>,
    /// What dpkg lists that has the last name of one of them.
    by_dpkg: BTreeSet<String>,
}

impl Answer {
    /// Those of `paths` that are owned. Where the links on the way to one cannot be told it is.
    fn owned(&self, host: &Reader, paths: &BTreeSet<String>) -> BTreeSet<String> {
        let mut owned = self.by_rpm.clone();
        // By the name that it has where /usr is merged, too; most have it already.
        let listed = self.by_dpkg.iter().flat_map(|line| [line.clone(), unaliased(line)]);
        owned.extend(listed.filter(|line| paths.contains(line)));
        let mut rest: BTreeMap<&str, Vec<(&String, String)>> = BTreeMap::new();
        for path in paths.iter().filter(|path| !owned.contains(*path)).collect::<Vec<_>>() {
            match host.canonical(path) {
                Ok(real) => rest.entry(last_name(path)).or_default().push((path, real)),
                Err(_) => drop(owned.insert(path.clone())),
            }
        }
        for line in &self.by_dpkg {
            let Some(alike) = rest.get(last_name(line)) else { continue };
            let names = every_name(host, line);
            let is = |real: &String| names.as_ref().map_or(true, |names| names.contains(real));
            owned.extend(alike.iter().filter(|(_, real)| is(real)).map(|(path, _)| (*path).clone()));
        }
        owned
    }
}

fn last_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The names, without symbolic links on the way, of what stands at `path`, and of what it leads to where it is a link.
fn every_name(host: &Reader, path: &str) -> Result<Vec<String>, Error> {
    match host.hops(path).and_then(|hops| hops.iter().map(|hop| host.canonical(hop)).collect()) {
        // Where a file stands on the way nothing can stand behind it.
        Err(Error::InTheWay { .. }) => Ok(Vec::new()),
        names => names,
    }
}

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// When packages were installed or removed last: dpkg replaces a list by a new one, rpm writes its database.
fn stamps(host: &Reader) -> Result<Vec<Option<dnf::Written>>, Error> {
    let mut stamps = dnf::written_last(host)?;
    for path in [LISTS, DIVERSIONS] {
        stamps.push(host.look(path)?.map(|meta| (meta.inode, meta.size, meta.modified)));
    }
    Ok(stamps)
}

fn ask(host: &Reader, paths: &BTreeSet<String>) -> Result<Answer, Error> {
    let (dpkg, rpm) = (host.look(LISTS)?.is_some(), dnf::has_database(host));
    if !dpkg && !rpm {
        let other = OTHERS.iter().find(|(place, _)| host.below_root(place).exists());
        return match other.map(|(_, other)| *other).or(host.is_machine().then_some("this host")) {
            None => Ok(Answer::default()),
            Some(other) => Err(Error::Unknown {
                thing: "packages".to_owned(),
                why: format!("what packages of {other} hold is not known; only of dpkg and rpm it is"),
            }),
        };
    }
    let mut answer =
        Answer { by_dpkg: if dpkg { of_dpkg(host, paths)? } else { BTreeSet::new() }, ..Answer::default() };
    if rpm {
        let owned = answer.owned(host, paths);
        let rest: Vec<&str> = paths.iter().filter(|path| !owned.contains(*path)).map(String::as_str).collect();
        answer.by_rpm = of_rpm(host, &rest)?;
    }
    Ok(answer)
}

/// The packages that have brought each of `paths`, those that are half there too; by the names by which dpkg keeps their
/// lists, or rpm's. None for what nobody brought. What is diverted is not followed.
///
/// # Errors
/// Where that cannot be told of one of them.
pub fn owners(host: &Reader, paths: &BTreeSet<String>) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    if host.look(LISTS)?.is_some() {
        of_lists(host, paths, |package, line| {
            for name in BTreeSet::from([line.to_owned(), unaliased(line)]).into_iter().filter(|it| paths.contains(it)) {
                owners.entry(name).or_default().insert(package.to_owned());
            }
        })?;
    }
    if dnf::has_database(host) {
        for path in paths {
            // One a question: of several nothing tells which line is whose.
            let query = Program::new("rpm").args(["-qf", "--qf", "%{NAME}\\n", "--", path]).any_status();
            let output = host.query(&query)?;
            let names = named(&output).map_err(|why| Error::Unknown { thing: "rpm".to_owned(), why })?;
            if !names.is_empty() {
                owners.entry(path.clone()).or_default().extend(names);
            }
        }
    }
    Ok(owners)
}

/// What dpkg lists that may be one of `paths`, by another name perhaps: it has the same last name.
fn of_dpkg(host: &Reader, paths: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
    let mut listed = BTreeSet::new();
    of_lists(host, paths, |_, line| listed.extend([line.to_owned()]))?;
    let names = last_names(paths);
    let diversions = host.read(DIVERSIONS, LIMIT)?.unwrap_or_default();
    listed.extend(alike(&String::from_utf8_lossy(&diversions), &names).map(str::to_owned));
    Ok(listed)
}

/// Tells, with the package that brought it, what dpkg lists that has the last name of one of `paths`.
fn of_lists(host: &Reader, paths: &BTreeSet<String>, mut tell: impl FnMut(&str, &str)) -> Result<(), Error> {
    let names = last_names(paths);
    for list in host.list(LISTS)? {
        let Some(package) = list.strip_suffix(".list") else { continue };
        // One that went meanwhile is of a package that did.
        let Some(text) = host.read(&format!("{LISTS}/{list}"), LIMIT)? else { continue };
        alike(&String::from_utf8_lossy(&text), &names).for_each(|line| tell(package, line));
    }
    Ok(())
}

fn last_names(paths: &BTreeSet<String>) -> HashSet<&str> {
    paths.iter().map(|path| last_name(path)).collect()
}

/// The paths in `text` that have one of these last names.
fn alike<'t>(text: &'t str, names: &HashSet<&str>) -> impl Iterator<Item = &'t str> {
    text.lines().filter(|line| line.starts_with('/') && names.contains(last_name(line)))
}

/// The packages that rpm says one path is of; see `strange`.
fn named(output: &Output) -> Result<BTreeSet<String>, String> {
    let strange = strange(output)?;
    if !strange.is_empty() {
        return Ok(BTreeSet::new());
    }
    let names: BTreeSet<String> = output.text().lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if names.is_empty() { Err("it says nothing of whose a file is".to_owned()) } else { Ok(names) }
}

fn of_rpm(host: &Reader, paths: &[&str]) -> Result<BTreeSet<String>, Error> {
    let mut owned = BTreeSet::new();
    for paths in paths.chunks(AT_ONCE) {
        let query = Program::new("rpm").args(["-qf", "--qf", "%{NAME}\\n", "--"]).args(paths).any_status();
        let output = host.query(&query)?;
        let strange = strange(&output).map_err(|why| Error::Unknown { thing: "rpm".to_owned(), why })?;
        owned.extend(paths.iter().filter(|path| !strange.contains(**path)).map(|path| (*path).to_owned()));
    }
    Ok(owned)
}

/// The paths that rpm says no package owns. What it says anything else of is owned, or it is not known.
fn strange(output: &Output) -> Result<BTreeSet<String>, String> {
    dnf::sound(output)?;
    let text = output.text();
    let strange =
        |line: &str| Some(line.strip_prefix("file ")?.strip_suffix(" is not owned by any package")?.to_owned());
    let strange: BTreeSet<String> = text.lines().filter_map(strange).collect();
    // It ends with the number of those, 254 at most.
    if usize::try_from(output.status).ok() != Some(strange.len().min(254)) {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("it ended with status {}: {}", output.status, one_line(&said, 300)));
    }
    Ok(strange)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests lay out what is read")]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn asked(paths: &[&str]) -> BTreeSet<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn what_dpkg_lists_or_diverts_is_owned_by_either_name() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let info = root.path().join("var/lib/dpkg/info");
        fs::create_dir_all(&info).expect("made");
        fs::write(info.join("a.list"), "/.\n/etc\n/etc/a\n/lib/x\n").expect("written");
        fs::write(info.join("b:amd64.list"), "/etc/b\n").expect("written");
        fs::write(info.join("b.conffiles"), "/etc/c\n").expect("written");
        fs::write(root.path().join("var/lib/dpkg/diversions"), "/usr/bin/d\n/usr/bin/d.real\npkg\n").expect("written");
        let host = Reader::directory(root.path()).expect("opens");
        let paths = asked(&["/etc/a", "/etc/b", "/etc/c", "/usr/lib/x", "/usr/bin/d.real", "/etc/a/b"]);
        let owned = owned(&host, &paths).expect("told");
        assert_eq!(owned, asked(&["/etc/a", "/etc/b", "/usr/lib/x", "/usr/bin/d.real"]));
    }

    #[test]
    fn whatever_links_lead_there_what_dpkg_lists_is_owned_by_every_name_that_it_has() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let at = |path: &str| root.path().join(path);
        for directory in ["var/lib/dpkg/info", "etc", "srv/x/d", "srv/loose", "usr/lib", "opt"] {
            fs::create_dir_all(at(directory)).expect("made");
        }
        for file in ["srv/x/f", "srv/x/g", "srv/x/d/h", "usr/lib/l", "srv/target", "srv/loose/u"] {
            fs::write(at(file), "x").expect("written");
        }
        // An administrator's, the system's, and one in the place of the file itself.
        symlink("../srv/x", at("etc/x")).expect("made");
        symlink("usr/lib", at("lib")).expect("made");
        symlink("/srv/x", at("srv/y")).expect("made");
        symlink("/srv/target", at("opt/target")).expect("made");
        symlink("round", at("opt/round")).expect("made");
        let list = "/etc/x\n/etc/x/f\n/etc/x/d\n/etc/x/d/h\n/usr/lib/l\n/opt/target\n/opt/round/u\n";
        fs::write(at("var/lib/dpkg/info/a.list"), list).expect("written");
        let host = Reader::directory(root.path()).expect("opens");
        let owned = |paths: &[&str]| owned(&host, &asked(paths)).expect("told");
        let theirs = ["/srv/x/f", "/srv/y/f", "/srv/x/d", "/srv/x/d/h", "/lib/l", "/srv/target", "/srv/x"];
        assert_eq!(owned(&theirs), asked(&theirs));
        assert_eq!(owned(&["/srv/x/g", "/srv/x/d/f", "/etc/f", "/srv/y"]), asked(&[]));
        // Where it cannot be told what a link leads to it is not taken for a stranger.
        assert_eq!(owned(&["/srv/loose/u"]), asked(&["/srv/loose/u"]));
    }

    #[test]
    fn who_brought_a_file_is_told_by_the_name_of_the_package() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let info = root.path().join("var/lib/dpkg/info");
        fs::create_dir_all(&info).expect("made");
        fs::write(info.join("a.list"), "/.\n/lib/systemd/system/a.service\n/usr/bin/both\n").expect("written");
        fs::write(info.join("b:amd64.list"), "/usr/bin/both\n/usr/lib/systemd/system/b.service\n").expect("written");
        let host = Reader::directory(root.path()).expect("opens");
        let units = "/usr/lib/systemd/system";
        let [a, b] = ["a", "b"].map(|name| format!("{units}/{name}.service"));
        let paths = [&a, &b, "/usr/bin/both", "/etc/a.service"];
        let owners = owners(&host, &asked(&paths)).expect("told");
        let told: Vec<(&str, Vec<&str>)> =
            owners.iter().map(|(path, by)| (path.as_str(), by.iter().map(String::as_str).collect())).collect();
        assert_eq!(told, [("/usr/bin/both", vec!["a", "b:amd64"]), (&a, vec!["a"]), (&b, vec!["b:amd64"])]);
    }

    #[test]
    fn what_is_about_to_be_put_in_place_has_a_name_of_its_own() {
        for name in ["a.conf.dpkg-new", "a.dpkg-tmp", "a.conf;5f3a9b01"] {
            assert!(is_working_name(name), "{name}");
        }
        for name in ["a.conf", "a.dpkg-dist", "a.dpkg-old", "a;5f3a9b0", "a;5f3a9b0x", "a.rpmnew"] {
            assert!(!is_working_name(name), "{name}");
        }
    }

    #[test]
    fn where_nothing_was_ever_installed_nothing_is_owned_and_what_is_not_understood_is_an_error() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let host = Reader::directory(root.path()).expect("opens");
        assert_eq!(owned(&host, &asked(&["/etc/a"])).expect("told"), BTreeSet::new());
        fs::create_dir_all(root.path().join("var/lib/pacman/local")).expect("made");
        assert_eq!(owned(&host, &asked(&["/etc/a"])).expect_err("not known").reason(), "cannot-tell");
    }

    #[test]
    fn rpm_names_the_owners_of_a_file_or_says_that_there_is_none() {
        let output =
            |status, stdout: &str, stderr: &str| Output { status, stdout: stdout.into(), stderr: stderr.into() };
        assert_eq!(named(&output(0, "sudo\nsudo\nother\n", "")), Ok(asked(&["sudo", "other"])));
        assert_eq!(named(&output(1, "file /etc/x is not owned by any package\n", "")), Ok(BTreeSet::new()));
        for (status, said, error) in [(0, "", ""), (1, "", "error: cannot open Packages database\n"), (1, "sudo\n", "")]
        {
            assert!(named(&output(status, said, error)).is_err(), "{status} {said:?} {error:?}");
        }
    }

    #[test]
    fn of_what_rpm_says_only_plain_words_make_a_stranger() {
        let output =
            |status, stdout: &str, stderr: &str| Output { status, stdout: stdout.into(), stderr: stderr.into() };
        let said = "sudo\nfile /etc/x is not owned by any package\n";
        assert_eq!(strange(&output(1, said, "")), Ok(asked(&["/etc/x"])));
        assert!(strange(&output(0, said, "")).is_err(), "the number is wrong");
        assert!(strange(&output(1, "", "error: cannot open Packages database\n")).is_err());
        assert_eq!(strange(&output(0, "sudo\n", "")), Ok(BTreeSet::new()));
        let all = "file /etc/x is not owned by any package\nsudo\nfile /etc/y is not owned by any package\n";
        crate::kinds::package::cut::is_all_or_nothing(all, |text| strange(&output(2, text, "")));
    }
}
