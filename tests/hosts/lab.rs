//! What one test needs: a fleet, its Git server, a network, hosts.

use std::cell::{Cell, OnceCell};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::apt::Repository;
use super::git::{self, Authority, Fleet};
use super::host::{Host, Setup};
use super::image::Variant;
use super::network::Network;
use super::server::Server;
use super::{dnf, locks};

/// What must be there, each with the Debian package it comes in.
pub const PROGRAMS: [(&str, &str); 23] = [
    ("systemd-nspawn", "systemd-container"),
    ("systemd-id128", "systemd"),
    ("mmdebstrap", "mmdebstrap"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("flock", "util-linux"),
    ("timeout", "coreutils"),
    ("ip", "iproute2"),
    ("git", "git"),
    ("python3", "python3"),
    ("openssl", "openssl"),
    ("ssh-keygen", "openssh-client"),
    ("/usr/sbin/sshd", "openssh-server"),
    ("gpg", "gnupg"),
    ("dpkg-deb", "dpkg"),
    ("apt-ftparchive", "apt-utils"),
    ("rpmbuild", "rpm"),
    ("createrepo_c", "createrepo-c"),
    ("ssh", "openssh-client"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("/sbin/mke2fs", "e2fsprogs"),
    ("cpio", "cpio"),
];

/// The port of the Git server that hosts use unless a test says otherwise.
pub const HTTPS_PORT: u16 = 8443;

/// Where a lab's hosts have the key of its package repository.
pub const APT_KEY: &str = "/etc/apt/keyrings/lab.asc";

/// One test's own world. The fields are dropped in this order: servers, network, then the locks.
pub struct Lab {
    /// The fleet repository that every host of this lab reads.
    pub fleet: Fleet,
    authority: Authority,
    _https: Server,
    apt: OnceCell<Repository>,
    dnf: OnceCell<dnf::Repository>,
    /// The network that hosts and servers share.
    pub network: Network,
    directory: PathBuf,
    booted: Cell<u8>,
    _permits: Vec<File>,
    _lock: File,
}

impl Lab {
    /// A lab for at most `hosts` hosts at a time; waits until they may be up. `None`, after saying what, where
    /// this machine lacks something that hosts need.
    pub fn new(hosts: usize) -> Option<Self> {
        let missing = missing();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            assert!(std::env::var_os("CI").is_none(), "nothing may be skipped where CI is set, but: {missing}");
            eprintln!("skipped: {missing}; tests/setup installs what is missing");
            return None;
        }
        let permits = locks::permits(hosts);
        let (number, lock) = (1..=250)
            .find_map(|number| Some((number, locks::try_lock(&format!("lab-{number}.lock"))?)))
            .expect("no more than two labs run at a time");
        // What a killed test left is nobody's now.
        let directory = locks::cache().join(format!("lab-{number}"));
        drop(fs::remove_dir_all(&directory));
        fs::create_dir_all(&directory).expect("a directory of the lab's own");
        let network = Network::new(number);
        let fleet = Fleet::new(&directory.join("git"));
        let authority = Authority::new(directory.join("tls"), &network.address());
        let https = git::https(&network.address(), HTTPS_PORT, &directory.join("git/served"), &authority, None);
        Some(Self {
            fleet,
            authority,
            _https: https,
            apt: OnceCell::new(),
            dnf: OnceCell::new(),
            network,
            directory,
            booted: Cell::new(0),
            _permits: permits,
            _lock: lock,
        })
    }

    /// A directory of the lab's own.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What the Git servers hand out.
    pub fn served(&self) -> &Path {
        self.fleet.bare().parent().expect("below the directory that is served")
    }

    /// The certificate authority of its servers.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The package repository, made when it is first asked for. Hosts that are booted after that have it as a
    /// source, as if somebody had set it up long ago.
    pub fn apt(&self) -> &Repository {
        self.apt.get_or_init(|| Repository::new(self.directory("apt"), &self.network.address()))
    }

    /// The same for rpm hosts.
    pub fn dnf(&self) -> &dnf::Repository {
        self.dnf.get_or_init(|| dnf::Repository::new(self.directory("dnf"), &self.network.address()))
    }

    /// The agent's configuration that hosts get: the fleet over https, `more` appended.
    pub fn agent_toml(&self, more: &str) -> String {
        let address = self.network.address();
        format!(
            "[source]\nurl = \"https://{address}:{HTTPS_PORT}/fleet.git\"\nca_file = \"/etc/trueup/ca.pem\"\n{more}"
        )
    }

    /// Boots a host that follows the fleet.
    pub fn boot(&self, name: &str) -> Host {
        self.boot_with(name, "")
    }

    /// Boots a host that follows the fleet, with `more` in its agent's configuration.
    pub fn boot_with(&self, name: &str, more: &str) -> Host {
        self.boot_on(Variant::Bookworm, name, more)
    }

    /// Boots a host of `variant` that follows the fleet, with `more` in its agent's configuration.
    pub fn boot_on(&self, variant: Variant, name: &str, more: &str) -> Host {
        let files = self.agent_files(more);
        let setup =
            Setup { name, variant, files: &[files, self.sources(variant)].concat(), has_trueup: true, unified: false };
        let host = self.start(&setup);
        self.fetch_indexes(variant, &host);
        host
    }

    /// Boots a host with these files and trueup's program, and nothing that configures it.
    pub fn boot_bare(&self, name: &str, files: &[(String, Vec<u8>)]) -> Host {
        self.start(&Setup { name, variant: Variant::Bookworm, files, has_trueup: true, unified: false })
    }

    /// Boots a host of `variant` without trueup, with these files and the lab's package repository as a source.
    pub fn boot_plain(&self, variant: Variant, name: &str, files: &[(String, Vec<u8>)]) -> Host {
        let files = [files, &self.sources(variant)].concat();
        let host = self.start(&Setup { name, variant, files: &files, has_trueup: false, unified: false });
        self.fetch_indexes(variant, &host);
        host
    }

    /// The same, where control groups are one hierarchy of version 2.
    pub fn boot_unified(&self, name: &str, files: &[(String, Vec<u8>)]) -> Host {
        self.start(&Setup { name, variant: Variant::Bookworm, files, has_trueup: false, unified: true })
    }

    /// What an agent needs to follow the fleet, with `more` in its configuration: path → content.
    pub fn agent_files(&self, more: &str) -> Vec<(String, Vec<u8>)> {
        vec![
            ("/etc/trueup/agent.toml".to_owned(), self.agent_toml(more).into_bytes()),
            ("/etc/trueup/ca.pem".to_owned(), self.authority.certificate()),
            // Whatever a test has in a later file wins.
            ("/etc/trueup/agent.d/10-settle.toml".to_owned(), b"[change]\nsettle = \"1s\"\nrestarts = 1000\n".to_vec()),
        ]
    }

    /// The package repository of this lab that such a host can read, where it was asked for.
    fn sources(&self, variant: Variant) -> Vec<(String, Vec<u8>)> {
        match (variant, self.apt.get(), self.dnf.get()) {
            (Variant::Rpm | Variant::Rpm5, _, Some(dnf)) => {
                vec![("/etc/yum.repos.d/lab.repo".to_owned(), dnf.source().into())]
            }
            (Variant::Bookworm | Variant::Trixie, Some(apt), _) => vec![
                (APT_KEY.to_owned(), apt.key().into()),
                ("/etc/apt/sources.list.d/lab.sources".to_owned(), apt.source(APT_KEY).into()),
            ],
            _ => Vec::new(),
        }
    }

    fn fetch_indexes(&self, variant: Variant, host: &Host) {
        match variant {
            Variant::Rpm | Variant::Rpm5 if self.dnf.get().is_some() => drop(host.ok(&["dnf", "-q", "makecache"])),
            Variant::Bookworm | Variant::Trixie if self.apt.get().is_some() => {
                drop(host.ok(&["apt-get", "-qq", "update"]));
            }
            _ => {}
        }
    }

    /// Boots a virtual machine that follows the fleet, with `more` in its agent's configuration, these files and a deb.
    pub fn boot_vm(&self, name: &str, more: &str, files: &[(String, Vec<u8>)], deb: &Path) -> Host {
        let files = [&self.agent_files(more), &self.sources(Variant::Bookworm), files].concat();
        let k = self.next();
        let host = Host::boot_vm(&self.network, k, self.directory(&format!("host-{k}")), name, &files, deb);
        self.fetch_indexes(Variant::Bookworm, &host);
        host
    }

    /// The number of the next host.
    fn next(&self) -> u8 {
        self.booted.set(self.booted.get() + 1);
        self.booted.get()
    }

    fn start(&self, setup: &Setup<'_>) -> Host {
        let k = self.next();
        let host = Host::boot(&self.network, k, self.directory(&format!("host-{k}")), setup);
        if setup.has_trueup {
            // As its package brings it.
            host.shell("mkdir -m 700 /var/lib/trueup; mkdir -p /var/cache/trueup /run/trueup");
            host.write("/usr/lib/sysusers.d/trueup.conf", include_str!("../../systemd/trueup.sysusers"));
            host.ok(&["systemd-sysusers", "trueup.conf"]);
        }
        host
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.apt.take());
        drop(self.dnf.take());
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// What this machine lacks, in words.
fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("needs root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &str| {
        Path::new(program).is_absolute() && Path::new(program).exists()
            || std::env::split_paths(&path).any(|directory| directory.join(program).exists())
    };
    for (program, package) in PROGRAMS {
        if !there(program) {
            missing.push(format!("needs {program} ({package})"));
        }
    }
    missing
}
