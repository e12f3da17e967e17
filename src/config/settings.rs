use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::origin::Origin;
use super::url::{Transport, endpoint, transport};

use crate::model::{CommitId, Takeover, TrustMode, Update};

/// Settings that are valid, defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where the fleet repository is; `None` is `unconfigured`.
    pub source: Option<SourceSettings>,
    /// Who this host is.
    pub host: HostSettings,
    /// What a revision has to be besides reachable.
    pub trust: TrustSettings,
    /// How cautious to be.
    pub policy: PolicySettings,
    /// How a change is watched.
    pub change: ChangeSettings,
    /// How long things are kept.
    pub state: StateSettings,
    /// What opens secrets.
    pub secrets: SecretsSettings,
    /// Where each key that was set stands.
    pub(super) written: BTreeMap<&'static str, Origin>,
}

/// `[source]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSettings {
    /// In order of preference; at least one.
    pub urls: Vec<String>,
    /// The branch that is followed.
    pub branch: String,
    /// Subdirectory that is the fleet repository; empty for the root.
    pub path: String,
    /// How often the source is looked at.
    pub interval: Duration,
    /// Without a successful look for this long the host is `stale`.
    pub max_age: Duration,
    /// Whether `http://` and `git://` are allowed.
    pub allow_insecure: bool,
    /// CA certificates to believe instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy that https and http go through: `http://HOST:PORT`.
    pub proxy: Option<String>,
    /// The certificate that the server is shown, PEM; with its key, or none at all.
    pub client_cert: Option<PathBuf>,
    /// Its private key, PEM, root's only.
    pub client_key: Option<PathBuf>,
    /// A file with the token for https, root's only.
    pub token_file: Option<PathBuf>,
    /// The private key for ssh, root's only.
    pub ssh_key: Option<PathBuf>,
    /// Pinned host keys for ssh.
    pub known_hosts: PathBuf,
    /// How long one fetch may take.
    pub timeout: Duration,
}

/// `[host]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostSettings {
    /// `host.name`; `None` is this machine's own name.
    pub name: Option<String>,
}

/// `[trust]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustSettings {
    /// Files that name who may sign: `allowed_signers` of ssh-keygen(1), or OpenPGP keys. Without any, no signature is
    /// verified.
    pub signers: Vec<PathBuf>,
    /// A file of keys that were taken back.
    pub revoked: Option<PathBuf>,
    /// Which commits have to be signed.
    pub mode: TrustMode,
    /// The commit that the chain begins with.
    pub introduction: Option<CommitId>,
    /// Never older than this commit, whatever else is lost.
    pub floor: Option<CommitId>,
}

/// `[policy]`.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySettings {
    /// The most cautious of this and the repository's wins.
    pub update: Update,
    /// Whether what stands on the host may be taken over.
    pub takeover: Takeover,
    /// Whether the repository may set setuid, setgid and sticky bits.
    pub setid: bool,
}

/// `[change]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeSettings {
    /// How long everything has to stay well before a revision counts as good.
    pub settle: Duration,
    /// When a revision that has not settled is undone, whatever became of the agent.
    pub deadline: Duration,
    /// How many times a unit restarts, reloads or runs within ten minutes, whatever asks for it.
    pub restarts: usize,
}

/// `[state]`.
#[derive(Debug, Clone, PartialEq)]
pub struct StateSettings {
    /// How long originals are kept.
    pub originals: Duration,
    /// How long edits that were put back are kept.
    pub edits: Duration,
}

/// `[secrets]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SecretsSettings {
    /// A private key of SSH or identities of age, root's only; `None` is the host's own keys of SSH.
    pub identity: Option<PathBuf>,
}

const DAY: u64 = 24 * 60 * 60;

impl Settings {
    /// The files by which sources and signers are believed and secrets are read, wherever root has put them: not for the repository.
    pub fn trusted_files(&self) -> Vec<&Path> {
        let source = self.source.iter().flat_map(SourceSettings::files);
        let trust = self.trust.signers.iter().chain(&self.trust.revoked).map(PathBuf::as_path);
        let secrets = self.secrets.identity.as_deref();
        source.chain(trust).chain(secrets).collect()
    }
}

impl Default for Settings {
    /// Unconfigured: no source.
    fn default() -> Self {
        Self {
            source: None,
            host: HostSettings::default(),
            trust: TrustSettings::default(),
            policy: PolicySettings::default(),
            change: ChangeSettings::default(),
            state: StateSettings::default(),
            secrets: SecretsSettings::default(),
            written: BTreeMap::new(),
        }
    }
}

impl SourceSettings {
    /// Where this host connects to if it fetches; nowhere from directories.
    pub fn endpoints(&self) -> Vec<(String, u16)> {
        let by_proxy = |url: &&String| matches!(transport(url), Ok(Transport::Https | Transport::Http));
        let endpoint = |url: &String| match &self.proxy {
            Some(proxy) if by_proxy(&url) => endpoint(proxy),
            _ => endpoint(url),
        };
        self.urls.iter().filter_map(endpoint).collect()
    }

    /// Certificates, keys, and what is pinned.
    fn files(&self) -> impl Iterator<Item = &Path> {
        let optional = [&self.ca_file, &self.token_file, &self.client_cert, &self.client_key, &self.ssh_key];
        optional.into_iter().flatten().chain([&self.known_hosts]).map(PathBuf::as_path)
    }

    /// The source at `url`, everything else by default.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            branch: "main".to_owned(),
            path: String::new(),
            interval: Duration::from_secs(60),
            max_age: Duration::from_secs(DAY),
            allow_insecure: false,
            ca_file: None,
            proxy: None,
            client_cert: None,
            client_key: None,
            token_file: None,
            ssh_key: None,
            known_hosts: PathBuf::from("/etc/trueup/known_hosts"),
            timeout: Duration::from_secs(5 * 60),
        }
    }
}

impl TrustSettings {
    /// Whether a commit has to be signed.
    pub fn is_configured(&self) -> bool {
        !self.signers.is_empty()
    }
}

impl Default for TrustSettings {
    fn default() -> Self {
        Self { signers: Vec::new(), revoked: None, mode: TrustMode::Head, introduction: None, floor: None }
    }
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self { update: Update::Auto, takeover: Takeover::Adopt, setid: false }
    }
}

impl Default for ChangeSettings {
    fn default() -> Self {
        Self { settle: Duration::from_secs(30), deadline: Duration::from_secs(10 * 60), restarts: 10 }
    }
}

impl Default for StateSettings {
    fn default() -> Self {
        Self { originals: Duration::from_secs(30 * DAY), edits: Duration::from_secs(7 * DAY) }
    }
}
