//! The wall that the worker puts up around itself before it starts a thread or reads a byte: its own user, no
//! capabilities, no new privileges, limits, Landlock, a system-call filter. What it starts (ssh) is behind it too.
//!
//! Landlock and the filter are per thread, and inherited: they have to stand before any other thread runs. The order
//! is what it is since each step takes away what the ones before it need.

use std::fs;
use std::io;
use std::path::PathBuf;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

use super::protocol::Walls;

mod calls;
mod paths;

/// What this worker needs, so what stays open to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wall {
    /// Whose it becomes. `None` keeps the user it was started as: not root, or root in a directory that stands for a machine.
    pub user: Option<(u32, u32)>,
    /// A control group of its own, to move into; below one that is delegated to us.
    pub cgroup: Option<PathBuf>,
    /// Where it may write: the directory of its clones.
    pub cache: Option<PathBuf>,
    /// How large a file it may write there, in bytes; a pack of a sensible size where that is not said.
    pub room: Option<u64>,
    /// What it may read besides what every program needs: a repository, its keys.
    pub read: Vec<PathBuf>,
    /// The network, and the TCP ports that it may connect to; `None` where it needs no network at all.
    pub ports: Option<Vec<u16>>,
    /// Whether it starts programs (ssh).
    pub programs: bool,
}

/// A wall that cannot be put up. Nothing is read then.
#[derive(Debug, thiserror::Error)]
pub enum WallError {
    /// The system refuses.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it says.
        source: io::Error,
    },
    /// The system-call filter.
    #[error("cannot filter system calls: {0}")]
    Filter(#[from] seccompiler::Error),
    /// Its rules.
    #[error("cannot make the filter of system calls: {0}")]
    Rules(#[from] seccompiler::BackendError),
    /// Landlock.
    #[error("cannot restrict paths: {0}")]
    Paths(#[from] landlock::RulesetError),
    /// Neither of the two that keep files apart.
    #[error(
        "this kernel has no Landlock, and there is no user trueup-fetch, so nothing would keep the fetch worker from \
         root's files: make the user (systemd-sysusers, or useradd --system trueup-fetch)"
    )]
    NoWall,
}

/// How much memory of its own it may have, in bytes: twice what a first fetch of ten thousand hosts takes, and one
/// object of the largest size.
const MEMORY: u64 = 512 << 20;
/// How large a file it may write, in bytes: a pack.
const LARGEST_FILE: u64 = 4 << 30;
/// How many files it may have open.
const FILES: u64 = 256;
/// How many processes and threads a user of its own may have.
const PROCESSES: u64 = 128;

impl Wall {
    /// As arguments of the worker's verb; `trueup fetch-worker` reads them.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["fetch-worker".to_owned()];
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        if let Some((uid, gid)) = self.user {
            add("--user", format!("{uid}:{gid}"));
        }
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        self.cgroup.iter().for_each(|cgroup| add("--cgroup", path(cgroup)));
        self.cache.iter().for_each(|cache| add("--cache", path(cache)));
        self.room.iter().for_each(|room| add("--room", room.to_string()));
        self.read.iter().for_each(|read| add("--read", path(read)));
        self.ports.iter().flatten().for_each(|port| add("--port", port.to_string()));
        if self.programs {
            arguments.push("--programs".to_owned());
        }
        arguments
    }

    /// Puts it up; what stands then.
    ///
    /// # Errors
    /// Where any of it cannot be put up but Landlock, which older kernels lack.
    pub fn raise(&self) -> Result<Walls, WallError> {
        if let Some(cgroup) = &self.cgroup {
            join(cgroup).map_err(system("move into a control group of its own"))?;
        }
        // Opened while it still may; Landlock is told of descriptors, not of names.
        let open = paths::Open::of(self);
        self.lose_power()?;
        self.limit()?;
        let landlock = paths::restrict(open, self)?;
        let root = Uid::effective().is_root();
        if landlock == 0 && root {
            return Err(WallError::NoWall);
        }
        calls::filter(self, root)?;
        Ok(Walls { uid: Uid::effective().as_raw(), landlock, filtered: true })
    }

    /// Another user, no capabilities, and no way to have any again; capabilities(7).
    fn lose_power(&self) -> Result<(), WallError> {
        if Uid::effective().is_root() {
            for capability in CapabilitySet::all().iter() {
                match remove_capability_from_bounding_set(capability) {
                    // One that this kernel does not know.
                    Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                    Err(error) => return Err(system("drop capabilities")(error.into())),
                }
            }
        }
        if let Some((uid, gid)) = self.user {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            setgroups(&[gid]).map_err(|error| system("leave root's groups")(error.into()))?;
            setresgid(gid, gid, gid).map_err(|error| system("leave root's group")(error.into()))?;
            setresuid(uid, uid, uid).map_err(|error| system("become its own user")(error.into()))?;
        }
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        clear_ambient_capability_set().map_err(|error| system("drop capabilities")(error.into()))?;
        set_capabilities(None, none).map_err(|error| system("drop capabilities")(error.into()))?;
        set_no_new_privs(true).map_err(|error| system("do without new privileges")(error.into()))?;
        // Nobody else's debugger, and no core: there are keys in here.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|error| system("close its memory to others")(error.into()))
    }

    fn limit(&self) -> Result<(), WallError> {
        let mut limits = vec![
            (Resource::RLIMIT_CORE, 0),
            (Resource::RLIMIT_DATA, MEMORY),
            (Resource::RLIMIT_FSIZE, self.room.unwrap_or(LARGEST_FILE).min(LARGEST_FILE)),
            (Resource::RLIMIT_NOFILE, FILES),
            (Resource::RLIMIT_MEMLOCK, 1 << 20),
        ];
        // Whoever writes more is told so, and not ended; setrlimit(2).
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGXFSZ);
        signals.thread_block().map_err(|error| system("limit itself")(error.into()))?;
        if self.user.is_some() {
            limits.push((Resource::RLIMIT_NPROC, PROCESSES));
        }
        for (resource, limit) in limits {
            setrlimit(resource, limit, limit).map_err(|error| system("limit itself")(error.into()))?;
        }
        Ok(())
    }
}

#[allow(clippy::disallowed_methods, reason = "the worker moves itself, and knows nothing of the house")]
fn join(cgroup: &std::path::Path) -> io::Result<()> {
    // 0 is whoever writes it; cgroups(7).
    fs::write(cgroup.join("cgroup.procs"), "0")
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> WallError {
    move |source| WallError::System { what, source }
}
