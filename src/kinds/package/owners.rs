//! Which files belong to installed packages.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::{apt, dnf, transient};
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

/// Those of `paths` that belong to an installed package, or are a configuration file that one left.
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
    let ours = || transient::running(host).ok().filter(|running| !running.is_empty()).map(|_| "trueup".to_owned());
    match apt::lock_holder(host).or_else(|| dnf::at_work(host)).or_else(ours) {
        None => Ok(()),
        Some(holder) => Err(Error::Refused {
            thing: "packages".to_owned(),
            reason: "package-lock-held",
            why: format!("{holder} is at work with them; it is looked at again later"),
        }),
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
        return Ok(known.owned.clone());
    }
    *known = None;
    let owned = ask(host, paths)?;
    if !stamps.is_empty() {
        *known = Some(Known { stamps, asked: paths.clone(), owned: owned.clone() });
    }
    Ok(owned)
}

/// The answer to the last question in this process: the same one comes with each pass, and the answer is another only
/// once something was installed or removed.
struct Known {
    stamps: Vec<Option<dnf::Written>>,
    asked: BTreeSet<String>,
    owned: BTreeSet<String>,
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

fn ask(host: &Reader, paths: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
    let (dpkg, rpm) = (host.look(LISTS)?.is_some(), dnf::has_database(host));
    if !dpkg && !rpm {
        let other = OTHERS.iter().find(|(place, _)| host.below_root(place).exists());
        return match other.map(|(_, other)| *other).or(host.is_machine().then_some("this host")) {
            None => Ok(BTreeSet::new()),
            Some(other) => Err(Error::Unknown {
                thing: "packages".to_owned(),
                why: format!("what packages of {other} hold is not known; only of dpkg and rpm it is"),
            }),
        };
    }
    let mut owned = if dpkg { of_dpkg(host, paths)? } else { BTreeSet::new() };
    if rpm {
        let rest: Vec<&str> = paths.iter().filter(|path| !owned.contains(*path)).map(String::as_str).collect();
        owned.extend(of_rpm(host, &rest)?);
    }
    Ok(owned)
}

fn of_dpkg(host: &Reader, paths: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
    let mut owned = BTreeSet::new();
    let mut take = |text: &[u8]| {
        for line in String::from_utf8_lossy(text).lines() {
            // By the name that it has where /usr is merged; most have it already.
            let merged = !line.starts_with("/usr/") && !line.starts_with("/etc/");
            let found = paths.get(line).or_else(|| if merged { paths.get(&unaliased(line)) } else { None });
            owned.extend(found.cloned());
        }
    };
    for name in host.list(LISTS)?.iter().filter(|name| name.ends_with(".list")) {
        let path = format!("{LISTS}/{name}");
        // One that went meanwhile is of a package that did.
        host.read(&path, LIMIT)?.iter().for_each(|text| take(text));
    }
    host.read(DIVERSIONS, LIMIT)?.iter().for_each(|text| take(text));
    Ok(owned)
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
    fn of_what_rpm_says_only_plain_words_make_a_stranger() {
        let output =
            |status, stdout: &str, stderr: &str| Output { status, stdout: stdout.into(), stderr: stderr.into() };
        let said = "sudo\nfile /etc/x is not owned by any package\n";
        assert_eq!(strange(&output(1, said, "")), Ok(asked(&["/etc/x"])));
        assert!(strange(&output(0, said, "")).is_err(), "the number is wrong");
        assert!(strange(&output(1, "", "error: cannot open Packages database\n")).is_err());
        assert_eq!(strange(&output(0, "sudo\n", "")), Ok(BTreeSet::new()));
    }
}
