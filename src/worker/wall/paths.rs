//! Which paths and ports are open, by Landlock; landlock(7).

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::{Wall, WallError};

/// What is asked of the kernel: all that this version of Landlock (Linux 6.12) knows. An older kernel does what it can.
const ASKED: ABI = ABI::V6;

/// Read by the resolver of names, TLS and ssh. Not all are there everywhere.
const READ: &[&str] = &[
    "/usr",
    // Links to /usr on most; their own directories where they are not.
    "/lib",
    "/lib64",
    "/bin",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/gnutls",
    // Where /etc/resolv.conf may lead to.
    "/run/systemd/resolve",
    "/run/NetworkManager/resolv.conf",
    "/run/resolvconf",
    "/run/nscd",
    "/dev/urandom",
    "/dev/random",
    "/sys/devices/system/cpu",
    "/proc/sys/vm",
    "/proc/meminfo",
];

/// What is open, each with what may be done there.
pub(super) struct Open(Vec<(PathFd, BitFlags<AccessFs>)>);

impl Open {
    /// What `wall` leaves open, as far as it is there.
    pub(super) fn of(wall: &Wall) -> Self {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let run = if wall.programs { read | AccessFs::Execute } else { read };
        let write = AccessFs::from_all(ASKED) & !(AccessFs::Execute | AccessFs::MakeSock | AccessFs::MakeChar);
        let write = write & !(AccessFs::MakeBlock | AccessFs::MakeFifo | AccessFs::IoctlDev);
        let mut open = Self(Vec::new());
        READ.iter().for_each(|path| open.add(Path::new(path), if path.starts_with("/etc") { read } else { run }));
        open.add(Path::new("/dev/null"), read | AccessFs::WriteFile);
        wall.read.iter().for_each(|path| open.add(path, read));
        wall.cache.iter().for_each(|path| open.add(path, write));
        open
    }

    fn add(&mut self, path: &Path, access: BitFlags<AccessFs>) {
        if let Ok(there) = PathFd::new(path) {
            // What is not a directory takes rights of files only.
            let access = if path.is_dir() { access } else { access & AccessFs::from_file(ASKED) };
            self.0.push((there, access));
        }
    }
}

/// Restricts this thread and all that it starts. The version of Landlock that is in force; 0 where there is none.
pub(super) fn restrict(open: Open, wall: &Wall) -> Result<u8, WallError> {
    let rules = open.0.into_iter().map(|(path, access)| Ok(PathBeneath::new(path, access)));
    let ports = wall.ports.iter().flatten().map(|port| Ok(NetPort::new(*port, AccessNet::ConnectTcp)));
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ASKED))?
        .handle_access(AccessNet::from_all(ASKED))?
        .scope(Scope::from_all(ASKED))?
        .create()?
        .add_rules(rules.map(|rule: Result<_, landlock::RulesetError>| rule))?
        .add_rules(ports.map(|rule: Result<_, landlock::RulesetError>| rule))?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => 0,
        (_, LandlockStatus::Available { effective_abi, .. }) => (effective_abi as u8).min(ASKED as u8),
        _ => 0,
    })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what is refused is tried")]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    #[test]
    fn only_its_clones_are_written_and_only_what_it_needs_is_read_and_connected_to() {
        let at = tempfile::tempdir().expect("tempdir");
        let path = |name: &str| at.path().join(name);
        fs::create_dir(path("cache")).expect("mkdir");
        fs::write(path("key"), "k").expect("writes");
        fs::write(path("other"), "o").expect("writes");
        let servers = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a server"));
        let [allowed, other] = servers.each_ref().map(|server| server.local_addr().expect("an address"));
        let wall = Wall {
            cache: Some(path("cache")),
            read: vec![path("key")],
            ports: Some(vec![allowed.port()]),
            ..Wall::default()
        };
        let (cache, key, file) = (path("cache"), path("key"), path("other"));
        let seen = thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).expect("allowed");
            let open = Open::of(&wall);
            let landlock = restrict(open, &wall).expect("restricts");
            if landlock == 0 {
                return landlock;
            }
            let denied = |result: std::io::Result<()>, what: &str| {
                assert_eq!(result.expect_err(what).kind(), ErrorKind::PermissionDenied, "{what}");
            };
            fs::create_dir(cache.join("a")).expect("its own");
            fs::write(cache.join("a/b"), "x").expect("its own");
            fs::rename(cache.join("a/b"), cache.join("c")).expect("its own");
            fs::read(&key).expect("what it was given");
            fs::read("/etc/passwd").expect("what every program needs");
            denied(fs::write(&key, ""), "writing what it may read");
            denied(fs::read(&file).map(drop), "reading what it was not given");
            denied(fs::read("/etc/shadow").map(drop), "reading secrets of the host");
            denied(fs::read_dir("/root").map(drop), "listing a home");
            denied(fs::write("/tmp/trueup-wall", ""), "writing elsewhere");
            if landlock >= 4 {
                TcpStream::connect(allowed).expect("the port of its server");
                denied(TcpStream::connect(other).map(drop), "another port");
            }
            landlock
        });
        let landlock = seen.join().expect("nothing panics");
        assert!(landlock > 0, "this kernel has no Landlock: the wall cannot be tested here");
    }
}
