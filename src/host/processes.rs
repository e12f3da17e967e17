//! What a process runs on, as the kernel tells it; proc(5).
//!
//! Whatever cannot be told is told as nothing: the process is gone meanwhile, it is in a place that cannot be looked
//! into, the kernel says no. Nobody is wrong for that, and the next look comes.

use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::Reader;

/// How much of the mappings of one process is read, in bytes: the kernel's own limit of 65,530 of them is about six times
/// as much, and a program's files are mapped long before what it asks for later.
const MAPS: u64 = 1 << 20;

/// What the kernel appends to the name of a file that has none any more.
const DELETED: &[u8] = b" (deleted)";

/// Where programs and libraries are. What is mapped and deleted elsewhere was meant so: /memfd:, /SYSV, /dev/zero, what
/// is compiled at run time below /tmp, /run and /var.
const PLACES: [&[u8]; 6] = [b"/usr/", b"/lib/", b"/lib64/", b"/bin/", b"/sbin/", b"/opt/"];

/// What of a process another file stands for by now, under the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Its program.
    pub binary: Option<String>,
    /// What else of code it has mapped: libraries. Each once, in the order of names.
    pub libraries: Vec<String>,
}

impl Reader {
    /// What the process `pid` runs on and is replaced by now; nothing where that cannot be told.
    ///
    /// Only what the kernel says is deleted counts, and only where a file stands under its name now, seen by the process's
    /// own root: what is merely hidden below another mount, or gone for good, was not replaced.
    pub fn replaced(&self, pid: u32) -> Replaced {
        let of = PathBuf::from(format!("/proc/{pid}"));
        let answers =
            |path: &[u8]| std::str::from_utf8(path).is_ok_and(|path| self.answers(directory_of(path)).is_ok());
        let stands = |path: &[u8]| answers(path).then(|| standing(&of.join("root"), path)).flatten();
        let binary = fs::read_link(of.join("exe")).ok().map(|path| path.into_os_string().into_vec());
        let binary = binary.as_deref().and_then(|path| path.strip_suffix(DELETED));
        let maps = told(&of.join("maps")).unwrap_or_default();
        let mut libraries: Vec<&[u8]> = deleted_code(&maps).map(|(path, _)| path).collect();
        libraries.retain(|path| Some(*path) != binary);
        libraries.sort_unstable();
        libraries.dedup();
        libraries.retain(|path| stands(path).is_some_and(|now| !is_mapped(&maps, path, &now)));
        let binary = binary.filter(|path| {
            let (now, running) = (stands(path), fs::metadata(of.join("exe")).ok());
            now.zip(running).is_some_and(|(now, running)| (now.dev(), now.ino()) != (running.dev(), running.ino()))
        });
        Replaced { binary: binary.map(text), libraries: libraries.into_iter().map(text).collect() }
    }

    /// When the content of the file `path` changed last, since 1970; of a symbolic link that itself. None where that
    /// cannot be told, or it is neither.
    pub fn modified(&self, path: &str) -> Option<Duration> {
        self.answers(directory_of(path)).ok()?;
        let meta = fs::symlink_metadata(self.below_root(path)).ok()?;
        let counts = meta.is_file() || meta.is_symlink();
        meta.modified().ok().filter(|_| counts)?.duration_since(UNIX_EPOCH).ok()
    }

    /// When the process `pid` was started, by the wall clock as it is set now: since 1970, at most a hundredth of a second
    /// too early. None where that cannot be told.
    pub fn began(&self, pid: u32) -> Option<Duration> {
        let stat = told(&Path::new("/proc").join(pid.to_string()).join("stat"))?;
        let now = clock_gettime(ClockId::Boottime);
        let now = Duration::new(u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?);
        self.since_1970().checked_sub(now.checked_sub(since_boot(&stat)?)?)
    }

    /// Which time of the wall clock, as it is set now, an instant of CLOCK_MONOTONIC was: since 1970. A host that slept
    /// since makes it later than it was.
    pub fn wall(&self, monotonic: Duration) -> Option<Duration> {
        let now = clock_gettime(ClockId::Monotonic);
        let now = Duration::new(u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?);
        self.since_1970().checked_sub(now.checked_sub(monotonic)?)
    }
}

/// What the kernel says in one of its files, in few calls: it does not tell how long that is, and puts it together anew
/// with each.
fn told(path: &Path) -> Option<Vec<u8>> {
    let mut said = Vec::with_capacity(8 << 10);
    File::open(path).and_then(|file| file.take(MAPS).read_to_end(&mut said)).ok()?;
    Some(said)
}

/// The directory that the absolute `path` lies in.
fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map(|(above, _)| above).filter(|above| !above.is_empty()).unwrap_or("/")
}

/// The regular file that stands at `path` below `root`, which is that of the process itself.
fn standing(root: &Path, path: &[u8]) -> Option<Metadata> {
    let path = path.strip_prefix(b"/")?;
    fs::metadata(root.join(std::ffi::OsStr::from_bytes(path))).ok().filter(Metadata::is_file)
}

/// When a process was started, after the boot began: field 22 of /proc/PID/stat, in hundredths of a second (`USER_HZ` is
/// 100 wherever Linux runs by now; proc_pid_stat(5)). The name of its program comes before, and may be anything.
fn since_boot(stat: &[u8]) -> Option<Duration> {
    let name = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[name + 1..]).ok()?;
    // The one after the name is field 3.
    let ticks: u64 = rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()?;
    Some(Duration::from_millis(ticks.checked_mul(10)?))
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The code among `maps` whose file is deleted: path and inode. See proc_pid_maps(5).
fn deleted_code(maps: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    lines(maps).filter(|line| line.code).filter_map(|line| {
        let path = line.path.strip_suffix(DELETED)?;
        PLACES.iter().any(|place| path.starts_with(place)).then_some((path, line.inode))
    })
}

/// Whether the very file that stands at `path` now is among `maps` under the same name: then it was not replaced, but
/// removed and put back, or is loaded twice.
fn is_mapped(maps: &[u8], path: &[u8], now: &Metadata) -> bool {
    deleted_code(maps).any(|(deleted, inode)| deleted == path && inode == now.ino())
}

/// One mapping, as far as it is asked for here.
struct Mapping<'m> {
    /// It may be executed.
    code: bool,
    inode: u64,
    /// With what the kernel appends to it; a newline in it is escaped.
    path: &'m [u8],
}

/// `5581d0a3e000-5581d0a40000 r-xp 00002000 08:01 1573131    /usr/bin/sleep (deleted)`. A last line that was cut off is
/// not complete, and what has no path is left out.
fn lines(maps: &[u8]) -> impl Iterator<Item = Mapping<'_>> {
    maps.split_inclusive(|&byte| byte == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b"\n")?;
        let mut rest = line;
        let mut field = || {
            let end = rest.iter().position(|&byte| byte == b' ')?;
            let (field, after) = rest.split_at(end);
            rest = after.trim_ascii_start();
            Some(field)
        };
        let (_, permissions, _, _) = (field()?, field()?, field()?, field()?);
        let inode = std::str::from_utf8(field()?).ok()?.parse().ok()?;
        rest.starts_with(b"/").then_some(Mapping { code: permissions.get(2) == Some(&b'x'), inode, path: rest })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a real /proc/PID/maps: a Python that runs on after libc6 and liblzma5 were upgraded under it, with a library
    /// that it has compiled for itself, a memfd, and shared memory.
    const MAPS: &[u8] = include_bytes!("fixtures/maps.txt");

    #[test]
    fn code_of_deleted_files_is_found_and_nothing_else() {
        let mut found: Vec<String> = deleted_code(MAPS).map(|(path, _)| text(path)).collect();
        found.dedup();
        assert_eq!(found, ["/usr/lib/x86_64-linux-gnu/liblzma.so.5.4.1", "/usr/lib/x86_64-linux-gnu/libc.so.6"]);
        assert!(lines(MAPS).count() > found.len(), "there are others");
    }

    #[test]
    fn a_line_that_was_cut_off_tells_nothing() {
        let line = b"7f0000000000-7f0000001000 r-xp 00000000 08:01 77 /usr/lib/liba.so (deleted)";
        assert_eq!(deleted_code(line).count(), 0);
        let whole = [line.as_slice(), b"\n"].concat();
        assert_eq!(deleted_code(&whole).collect::<Vec<_>>(), [(b"/usr/lib/liba.so".as_slice(), 77)]);
        for odd in [
            "\n",
            "x\n",
            "7f-7f r-xp 0 08:01 abc /usr/lib/a (deleted)\n",
            "7f-7f rw-p 0 08:01 7 /usr/lib/a (deleted)\n",
        ] {
            assert_eq!(deleted_code(odd.as_bytes()).count(), 0, "{odd:?}");
        }
    }

    #[test]
    fn a_name_with_spaces_is_whole() {
        let line = b"7f00-7f01 r-xp 00000000 08:01 7                   /opt/an app/lib a.so (deleted)\n";
        assert_eq!(deleted_code(line).map(|(path, _)| text(path)).collect::<Vec<_>>(), ["/opt/an app/lib a.so"]);
    }

    #[test]
    fn of_a_process_that_is_gone_nothing_is_told() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let reader = Reader::directory(directory.path()).expect("it is there");
        // No process ever has this id; see proc(5), pid_max.
        assert_eq!(reader.replaced(u32::MAX), Replaced::default());
        assert_eq!(reader.replaced(std::process::id()).binary, None, "nobody has replaced us");
    }

    #[test]
    fn an_instant_of_the_boot_is_a_time_of_the_wall_clock() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let reader = Reader::directory(directory.path()).expect("it is there");
        let (boot, later) = (reader.wall(Duration::ZERO).expect("told"), reader.wall(Duration::from_millis(1)));
        assert!(boot < reader.since_1970() && later.is_some_and(|later| later > boot));
        assert_eq!(reader.wall(Duration::MAX), None, "it is still to come");
    }

    #[test]
    fn a_process_was_started_when_the_kernel_says_whatever_its_name_is() {
        // Of real processes; the second called itself so.
        let sleep = b"2913 (sleep) S 2912 2912 2861 0 -1 4194304 116 0 0 0 0 0 0 0 20 0 1 0 482190 5513216 429 18446744073709551615 1 1 0";
        assert_eq!(since_boot(sleep), Some(Duration::from_millis(4_821_900)));
        let odd = b"2914 (a) S 1 (b)) S 2912 2912 2861 0 -1 4194304 116 0 0 0 0 0 0 0 20 0 1 0 77 5513216 429 1";
        assert_eq!(since_boot(odd), Some(Duration::from_millis(770)));
        for odd in [&b""[..], b"1 (a) S 1", b"1 (a) S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 x 1"] {
            assert_eq!(since_boot(odd), None);
        }
        let directory = tempfile::tempdir().expect("a scratch directory");
        let reader = Reader::directory(directory.path()).expect("it is there");
        let began = reader.began(std::process::id()).expect("we run");
        assert!(began < reader.since_1970() && began > reader.wall(Duration::ZERO).expect("told"), "{began:?}");
        assert_eq!(reader.began(u32::MAX), None);
    }
}
