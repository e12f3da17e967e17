use serde::{Deserialize, Serialize};

/// What compiling may know of the host, all read once. What is `None` is not known (off the host).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    /// The distribution, from os-release(5).
    pub os: Option<Os>,
    /// Machine architecture as uname(2) has it: `x86_64`.
    pub arch: Option<String>,
    /// Short host name.
    pub hostname: Option<String>,
    /// Fully qualified host name, where one is known.
    pub fqdn: Option<String>,
    /// machine-id(5), 32 hexadecimal digits.
    pub machine_id: Option<String>,
    /// Processors online.
    pub cpus: Option<u32>,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
}

/// The distribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Os {
    /// `ID=` of os-release(5): `debian`.
    pub id: String,
    /// Which package manager and habits to expect; `None` where trueup knows no family.
    pub family: Option<Family>,
    /// `VERSION_ID=`: `12`; empty on rolling distributions.
    #[serde(default)]
    pub version: String,
    /// `VERSION_CODENAME=`: `bookworm`; may be empty.
    #[serde(default)]
    pub codename: String,
}

/// Distributions that share a package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// apt and dpkg.
    Debian,
    /// dnf and rpm.
    Redhat,
    /// zypper and rpm.
    Suse,
    /// pacman.
    Arch,
}

impl Family {
    /// The family of the distribution called `id`, or else of one it says it is like (`ID_LIKE=`).
    pub fn of(id: &str, like: &str) -> Option<Self> {
        std::iter::once(id).chain(like.split_whitespace()).find_map(|id| match id {
            "debian" | "ubuntu" | "raspbian" | "devuan" => Some(Self::Debian),
            "rhel" | "fedora" | "centos" | "rocky" | "almalinux" | "ol" | "amzn" => Some(Self::Redhat),
            "suse" | "sles" | "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" => Some(Self::Suse),
            "arch" | "archlinux" | "manjaro" => Some(Self::Arch),
            _ => None,
        })
    }

    /// The word used in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Redhat => "redhat",
            Self::Suse => "suse",
            Self::Arch => "arch",
        }
    }
}
