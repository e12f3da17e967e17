use rustix::thread::CapabilitySet;

use super::{Error, Reader};
use crate::model::{Facts, Family, Os, one_line};

/// What any file that facts are read from may hold at most.
const LIMIT: u64 = 1 << 20;

/// The facts of a host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// A file of the system cannot be read.
    #[error(transparent)]
    Host(#[from] Error),
    /// A line of os-release(5) that matters is none.
    #[error("{path}: `{line}` is not an assignment as os-release(5) has them")]
    OsRelease {
        /// Which file.
        path: &'static str,
        /// The line, escaped and bounded.
        line: String,
    },
    /// The machine id is none.
    #[error("/etc/machine-id does not hold 32 hexadecimal digits as machine-id(5) has them")]
    MachineId,
}

impl Reader {
    /// Whether the kernel takes modules from us, as it does not in most containers; CAP_SYS_MODULE of capabilities(7).
    pub fn may_load_modules(&self) -> bool {
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_MODULE))
    }

    /// What compiling may know of this host. Of a directory that stands for a machine only what its own
    /// files tell; the rest is `None`.
    ///
    /// # Errors
    /// Where a file that tells is there and cannot be read, or holds something else.
    pub fn facts(&self) -> Result<Facts, FactsError> {
        let mut facts = Facts { os: self.os()?, machine_id: self.machine_id()?, ..Facts::default() };
        if self.is_machine() {
            let uname = rustix::system::uname();
            let name = uname.nodename().to_string_lossy().to_ascii_lowercase();
            let short = name.split('.').next().unwrap_or_default().to_owned();
            facts.arch = Some(uname.machine().to_string_lossy().into_owned());
            facts.fqdn = if name.contains('.') { Some(name) } else { fqdn(&self.text("/etc/hosts")?, &short) };
            facts.hostname = Some(short).filter(|short| !short.is_empty());
            facts.cpus = self.cpus()?;
            facts.memory_mib = memory_mib(&self.text("/proc/meminfo")?);
        }
        Ok(facts)
    }

    /// The content of a file of the system; empty where it is not there.
    fn text(&self, path: &str) -> Result<String, Error> {
        let content = self.read_following(path, LIMIT)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&content).into_owned())
    }

    fn os(&self) -> Result<Option<Os>, FactsError> {
        for path in ["/etc/os-release", "/usr/lib/os-release"] {
            if let Some(content) = self.read_following(path, LIMIT)? {
                let text = String::from_utf8_lossy(&content).into_owned();
                return os_release(&text).map(Some).map_err(|line| FactsError::OsRelease { path, line });
            }
        }
        Ok(None)
    }

    fn machine_id(&self) -> Result<Option<String>, FactsError> {
        let text = self.text("/etc/machine-id")?;
        match text.trim_end() {
            "" | "uninitialized" => Ok(None),
            id if id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(Some(id.to_ascii_lowercase())),
            _ => Err(FactsError::MachineId),
        }
    }

    fn cpus(&self) -> Result<Option<u32>, Error> {
        let online = cpu_list(&self.text("/sys/devices/system/cpu/online")?);
        // A container may have no sysfs.
        Ok(online.or_else(|| std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok())))
    }
}

/// `ID`, `ID_LIKE`, `VERSION_ID` and `VERSION_CODENAME`; the line that is wrong, where one of them is.
fn os_release(text: &str) -> Result<Os, String> {
    let (mut id, mut like, mut version, mut codename) =
        ("linux".to_owned(), String::new(), String::new(), String::new());
    for line in text.lines() {
        let line = line.trim();
        let Some((name, value)) = line.split_once('=') else { continue };
        let place = match name {
            "ID" => &mut id,
            "ID_LIKE" => &mut like,
            "VERSION_ID" => &mut version,
            "VERSION_CODENAME" => &mut codename,
            // What nobody asks for is not judged, comments among it.
            _ => continue,
        };
        *place = assigned(value).ok_or_else(|| one_line(line, 120))?;
    }
    Ok(Os { family: Family::of(&id, &like), id, version, codename })
}

/// The value of an assignment: one word, quoted or not, as a shell without substitutions has it.
fn assigned(value: &str) -> Option<String> {
    let bare = |c: char| c.is_ascii_alphanumeric() || "._-+:/@%,~^".contains(c);
    if let Some(inner) = value.strip_prefix('\'') {
        return inner.strip_suffix('\'').filter(|inner| !inner.contains('\'')).map(str::to_owned);
    }
    let Some(inner) = value.strip_prefix('"') else {
        return value.chars().all(bare).then(|| value.to_owned());
    };
    let mut out = String::new();
    let mut rest = inner.chars();
    loop {
        match rest.next()? {
            '"' => return rest.next().is_none().then_some(out),
            '\\' => match rest.next()? {
                c @ ('"' | '\\' | '$' | '`') => out.push(c),
                c => out.extend(['\\', c]),
            },
            '$' | '`' => return None,
            c => out.push(c),
        }
    }
}

/// The name in hosts(5) that is `short` and a domain.
fn fqdn(hosts: &str, short: &str) -> Option<String> {
    hosts
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(|line| line.split_whitespace().skip(1))
        .map(str::to_ascii_lowercase)
        .find(|name| {
            name.strip_prefix(short)
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|domain| !domain.is_empty() && domain != "localdomain")
        })
        .filter(|_| !short.is_empty())
}

/// How many processors a list like `0-3,8` names.
fn cpu_list(text: &str) -> Option<u32> {
    text.trim().split(',').try_fold(0_u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// `MemTotal` of proc_meminfo(5), which is in KiB.
fn memory_mib(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make what is then looked at")]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read_with_its_quotes() {
        let os = os_release(
            "# comment\nPRETTY_NAME=broken \"\nID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME='bookworm'\nHOME_URL=\"a$b\"\n",
        )
        .expect("well formed where it matters");
        assert_eq!((os.id.as_str(), os.version.as_str(), os.codename.as_str()), ("debian", "12", "bookworm"));
        assert_eq!(os.family, Some(Family::Debian));
        let like = os_release("ID=\"neon\"\nID_LIKE=\"ubuntu debian\"\n").expect("well formed");
        assert_eq!(like.family, Some(Family::Debian));
        assert_eq!(os_release("").expect("empty is fine").id, "linux");
    }

    #[test]
    fn an_assignment_that_is_none_is_told() {
        for value in ["\"12", "12\"", "1 2", "$(id)", "\"`id`\"", "\"a\"b", "'a", "'a'b'", "\"a\\"] {
            assert_eq!(assigned(value), None, "{value}");
        }
        assert_eq!(os_release("ID=a;b\n").expect_err("not a word"), "ID=a;b");
        assert_eq!(assigned(r#""a \"b\" \$c \\d \e""#).as_deref(), Some(r#"a "b" $c \d \e"#));
        assert_eq!(assigned("").as_deref(), Some(""));
    }

    #[test]
    fn the_full_name_is_the_one_that_starts_with_the_short() {
        let hosts = "127.0.0.1 localhost web localhost.localdomain # web.comment\n10.0.0.1 db.example.org\n10.0.0.2 WEB.example.org web\n";
        assert_eq!(fqdn(hosts, "web").as_deref(), Some("web.example.org"));
        assert_eq!(fqdn(hosts, "we"), None);
        assert_eq!(fqdn(hosts, ""), None);
    }

    #[test]
    fn processors_and_memory_are_counted() {
        assert_eq!(cpu_list("0-3,8\n"), Some(5));
        assert_eq!(cpu_list("0\n"), Some(1));
        assert_eq!(cpu_list(""), None);
        assert_eq!(cpu_list("3-1"), None);
        assert_eq!(memory_mib("MemFree: 1 kB\nMemTotal:       2048576 kB\n"), Some(2000));
        assert_eq!(memory_mib("MemTotal: many\n"), None);
    }

    #[test]
    fn a_directory_tells_only_what_its_own_files_tell() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let etc = root.path().join("etc");
        std::fs::create_dir_all(root.path().join("usr/lib")).expect("made");
        std::fs::create_dir(&etc).expect("made");
        let facts = |reader: &Reader| reader.facts().expect("readable");
        let reader = Reader::directory(root.path()).expect("opened");
        assert_eq!(facts(&reader), Facts::default());
        std::fs::write(root.path().join("usr/lib/os-release"), "ID=fedora\nVERSION_ID=42\n").expect("written");
        std::os::unix::fs::symlink("../usr/lib/os-release", etc.join("os-release")).expect("linked");
        std::fs::write(etc.join("machine-id"), "5B1f8d7c0a2e4e6f9b3c1d2a7f8e9012\n").expect("written");
        let found = facts(&reader);
        assert_eq!(found.os.expect("told").id, "fedora");
        assert_eq!(found.machine_id.as_deref(), Some("5b1f8d7c0a2e4e6f9b3c1d2a7f8e9012"));
        assert_eq!((found.arch, found.hostname, found.cpus), (None, None, None));
        std::fs::write(etc.join("machine-id"), "uninitialized\n").expect("written");
        assert_eq!(facts(&reader).machine_id, None);
        std::fs::write(etc.join("machine-id"), "5b1f\n").expect("written");
        assert!(matches!(reader.facts(), Err(FactsError::MachineId)));
    }

    #[test]
    fn a_machine_tells_all() {
        let facts = Reader::machine().expect("opened").facts().expect("readable");
        assert!(facts.os.is_some() && facts.arch.is_some() && facts.hostname.is_some());
        assert!(facts.cpus.is_some_and(|n| n > 0) && facts.memory_mib.is_some_and(|n| n > 0));
    }
}
