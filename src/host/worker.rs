use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::unistd::{Uid, User};

use super::{Child, Error, Program, Reader};

/// Whose a fetch worker is; the packages make it.
const USER: &str = "trueup-fetch";

/// The unit whose control group is delegated to us, `Delegate=` in systemd.resource-control(5).
const UNIT: &str = "/trueup.service";

/// What one key or list of certificates may hold at most, in bytes.
const LARGEST_COPY: u64 = 4 << 20;

/// What fetch workers of this machine are started with: this program, whose they are, and where they keep their clones.
#[derive(Debug, Clone)]
pub struct Worker {
    executable: PathBuf,
    /// Why there is none, where there has to be.
    user: Result<Option<(u32, u32)>, String>,
    cache: PathBuf,
    run: PathBuf,
    delegated: Option<PathBuf>,
}

/// Private copies of files for one worker; they go with this.
#[derive(Debug)]
pub struct Copies {
    directory: PathBuf,
    count: u32,
    owner: (u32, u32),
    /// Says that they are in use.
    _lock: fs::File,
}

impl Reader {
    /// How fetch workers are started here; `executable` is this program.
    pub fn worker(&self, executable: PathBuf) -> Worker {
        let own = self.is_machine() && Uid::effective().is_root();
        Worker {
            executable,
            user: if own { worker_user().map(Some) } else { Ok(None) },
            cache: self.below_root("/var/cache/trueup"),
            run: self.below_root("/run/trueup/fetch"),
            delegated: if own { delegated() } else { None },
        }
    }
}

/// The user of fetch workers, and its group. Root's own would do without powers, and still be let in wherever a file is
/// root's.
fn worker_user() -> Result<(u32, u32), String> {
    match User::from_name(USER) {
        Ok(Some(user)) if !user.uid.is_root() => Ok((user.uid.as_raw(), user.gid.as_raw())),
        Ok(Some(_)) => Err(format!("{USER} is root, and has to be a user that owns nothing")),
        Ok(None) => Err(format!(
            "there is no user {USER}, which is whose what reads from the network has to be: systemd-sysusers \
             trueup.conf, or useradd --system {USER}"
        )),
        Err(errno) => Err(format!("the user {USER} cannot be looked up: {errno}")),
    }
}

/// The control group of the agent, where it is ours to divide; cgroups(7), version 2.
fn delegated() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let trees =
        ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|tree| Path::new(tree).join(own.trim_start_matches('/')));
    trees.into_iter().find(|tree| own.ends_with(UNIT) && tree.join("cgroup.procs").exists())
}

impl Worker {
    /// This program.
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// The same, with its clones in `cache`: for tests.
    #[must_use]
    pub fn with_cache(mut self, cache: PathBuf) -> Self {
        self.cache = cache;
        self
    }

    /// Whose a worker for the network is; `None` is whoever runs this, who is not root or has a directory for a machine.
    ///
    /// # Errors
    /// `no-fetch-user`, where there has to be a user of its own.
    pub fn user(&self) -> Result<Option<(u32, u32)>, Error> {
        self.user.clone().map_err(|why| Error::Refused {
            thing: "the fetch worker".to_owned(),
            reason: "no-fetch-user",
            why,
        })
    }

    /// Whose a worker is that reads `directory` because somebody named it on the command line: its owner, so that root
    /// reads what belongs to others with their eyes. `None` is whoever runs this.
    pub fn owner(directory: &Path) -> Option<(u32, u32)> {
        let owner = fs::metadata(directory).ok().map(|meta| (meta.uid(), meta.gid()))?;
        (Uid::effective().is_root() && owner.0 != 0).then_some(owner)
    }

    /// The directory of the clones, the worker's own. One that is somebody else's is a cache that nobody can use, and goes.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn cache(&self) -> Result<PathBuf, Error> {
        let path = self.cache.join("clone");
        let failed = |source| failed_to("make", &path, source);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.cache).map_err(failed)?;
        let user = self.user()?;
        let owner = user.map_or_else(|| Uid::effective().as_raw(), |(uid, _)| uid);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() && meta.uid() == owner => return Ok(path),
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path).map_err(failed)?,
            Ok(_) => fs::remove_file(&path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        if let Some((uid, gid)) = user {
            chown(&path, Some(uid), Some(gid)).map_err(failed)?;
        }
        Ok(path)
    }

    /// How large a file may be that a worker writes, in bytes: a share of what is free, so that no server fills the
    /// disk of the host. `None` where that cannot be told.
    pub fn room(&self) -> Option<u64> {
        const SHARE: u64 = 4;
        let free = rustix::fs::statvfs(&self.cache).ok()?;
        Some(free.f_bavail.saturating_mul(free.f_frsize) / SHARE)
    }

    /// Where private copies for one worker go; `None` where the worker reads files as we do.
    ///
    /// # Errors
    /// Where the directory cannot be made.
    pub fn copies(&self) -> Result<Option<Copies>, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Some(owner) = self.user()? else { return Ok(None) };
        let failed = |source| failed_to("make", &self.run, source);
        // Passed through by the worker, and listed by nobody.
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&self.run).map_err(failed)?;
        // One that is being made is nobody's left-over.
        let all = fs::File::open(&self.run).and_then(|all| all.lock().map(|()| all)).map_err(failed)?;
        self.sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = self.run.join(format!("{}-{number}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&directory).map_err(failed)?;
        let open = fs::File::open(&directory).map_err(failed)?;
        open.try_lock_shared().map_err(|error| failed(error.into()))?;
        chown(&directory, Some(owner.0), Some(owner.1)).map_err(failed)?;
        drop(all);
        Ok(Some(Copies { directory, count: 0, owner, _lock: open }))
    }

    /// Removes what a process that was killed has left: nobody holds the lock on it any more.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.run).into_iter().flatten().flatten() {
            let left = fs::File::open(entry.path()).is_ok_and(|open| open.try_lock().is_ok());
            if left {
                // What cannot be removed now is removed by the next.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// A worker that says what it has to say and ends, as a program.
    pub fn program(&self, arguments: &[String]) -> Program {
        Program::new(&self.executable).args(arguments)
    }

    /// Starts a worker with these arguments; `limit` is how long all waiting on it may take together.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(&self, arguments: &[String], limit: Duration) -> Result<Child, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let cgroup = self.delegated.as_ref().map(|delegated| {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            delegated.join(format!("fetch-{}-{number}", std::process::id()))
        });
        // Without one it is ended by its process group, which it cannot leave.
        let cgroup = cgroup.filter(|cgroup| fs::create_dir(cgroup).is_ok());
        let name = cgroup.as_ref().map(|cgroup| cgroup.to_string_lossy().into_owned());
        if let Some(name) = &name {
            arguments.extend(["--cgroup", name]);
        }
        Child::start(&self.executable, &arguments, limit).map(|child| child.within(cgroup))
    }
}

fn failed_to(doing: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { doing, path: path.to_owned(), source }
}

impl Copies {
    /// A copy of `file` that the worker alone can read; its path.
    ///
    /// # Errors
    /// Where the file cannot be read or the copy not be written.
    pub fn add(&mut self, file: &Path) -> Result<PathBuf, Error> {
        let mut content = Vec::new();
        fs::File::open(file)
            .and_then(|open| open.take(LARGEST_COPY + 1).read_to_end(&mut content))
            .map_err(|source| failed_to("read", file, source))?;
        if content.len() as u64 > LARGEST_COPY {
            let source = io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {LARGEST_COPY} bytes"));
            return Err(failed_to("read", file, source));
        }
        let path = self.directory.join(self.count.to_string());
        self.count += 1;
        let failed = |source| failed_to("write", &path, source);
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path).map_err(failed)?;
        std::os::unix::fs::fchown(&copy, Some(self.owner.0), Some(self.owner.1)).map_err(failed)?;
        copy.write_all(&content).map_err(failed)?;
        Ok(path)
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
