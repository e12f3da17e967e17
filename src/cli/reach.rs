//! A real look at the source, with nothing in its place where it cannot be had.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::config::{Settings, SourceSettings, credential, shown};
use crate::host::{Program, Reader};
use crate::model::{Class, Revision, one_line};
use crate::source::{Gate, Health, Known, Record, SharedHealth, Source, SourceError};

/// What a look at the source found.
#[derive(Debug, Clone)]
pub(super) struct Reached {
    /// The URL that answered, as it may be shown.
    pub(super) place: String,
    /// The branch.
    pub(super) branch: String,
    /// Where it is.
    pub(super) revision: Revision,
    /// Whether there is a fleet repository where the settings say.
    pub(super) fleet: bool,
    /// The names of its hosts.
    pub(super) hosts: BTreeSet<String>,
    /// How long it took.
    pub(super) took: Duration,
    /// The URLs that were passed over for that one, each with the stable word and one line.
    pub(super) passed_over: Vec<(String, &'static str, String)>,
}

/// Why there is nothing to act on.
#[derive(Debug, Clone)]
pub(super) struct Unreached {
    /// The stable word.
    pub(super) reason: &'static str,
    /// Whether trying again may help.
    pub(super) class: Class,
    /// One line.
    pub(super) message: String,
}

impl Unreached {
    /// What somebody can do about it.
    pub(super) fn advice(&self) -> &'static str {
        advice(self.reason)
    }
}

/// What somebody can do about a source that cannot be used for this `reason`.
pub(super) fn advice(reason: &str) -> &'static str {
    match reason {
        "unreachable" => "check the address, the network, DNS, and whether the server runs",
        "timed-out" => "check the network and the server, or raise source.timeout",
        "access-denied" => {
            "give a token in source.token_file or a certificate in source.client_cert (https), or a key in \
                 source.ssh_key (ssh), and let it read the repository"
        }
        "bad-certificate" => "name the server's authority in source.ca_file, and check the clock",
        "bad-host-key" => "pin the server's key in source.known_hosts, having made sure that it is the right one",
        "no-such-repository" => "check the path in source.url, and whether the token or key may read it",
        "no-such-branch" => "check source.branch",
        "redirected" => "put the new address into source.url",
        "insecure" => "use https or ssh, or set source.allow_insecure = true",
        "not-a-repository" | "cannot-read" => "check the path and who may read it; git fsck",
        "not-a-descendant" => "push a branch that contains what was acted on last; nothing older is taken",
        "below-floor" => "find out who moved the branch and why; trust.floor is what root set",
        "corrupt-object" => "distrust the server; git fsck there",
        "damaged-clone" | "fetch-failed" => "try again; if it stays, see the message, the disk and the memory",
        "state-damaged" => "restore /var/lib/trueup from a backup, or move what is named away",
        "state-unwritable" | "cannot-tell" => "be root, and check the permissions and the mount of /var/lib/trueup",
        "disk-full" => "make room",
        "bad-settings" => "correct the setting or the file that is named",
        _ => "see the message",
    }
}

impl From<SourceError> for Unreached {
    fn from(error: SourceError) -> Self {
        let (reason, class) = (error.reason(), error.class());
        Self { reason, class, message: one_line(&super::output::chain(&error.into()), 800) }
    }
}

/// Looks at the source as a pass does, and takes its tip only where a pass would.
pub(super) fn reach(host: &Reader, settings: &Settings, executable: &Path) -> Result<Reached, Unreached> {
    let none = || SourceError::Settings("no source is configured".to_owned());
    let source = settings.source.as_ref().ok_or_else(none)?;
    host.say("looking at the source");
    let began = Instant::now();
    let record = Record::load(&host.state())?;
    let (health, floor) = (SharedHealth::default(), settings.trust.floor.as_ref());
    let known = Known { health: &health, record: &record, floor, clock: &|| host.now(), patience: 0 };
    let mut at = Source::seek(source, &host.worker(executable.to_owned()), &known)?;
    at.only_forward(&record, settings.trust.floor.as_ref())?;
    let acted = at.tip().commit.as_ref().and_then(|commit| record.branch(&source.branch).acted_on_at(commit));
    Gate::open(host, &settings.trust)?.judge(&mut at, acted.unwrap_or_else(|| host.now()))?;
    let snapshot = at.snapshot()?;
    host.say("");
    Ok(Reached {
        place: one_line(&shown(at.place()), 400),
        branch: source.branch.clone(),
        revision: at.tip().clone(),
        fleet: snapshot.entries.contains_key("trueup.toml"),
        hosts: snapshot.hosts,
        took: began.elapsed(),
        passed_over: source.urls.iter().filter_map(|url| passed_over(&health.now(), url)).collect(),
    })
}

fn passed_over(health: &Health, url: &str) -> Option<(String, &'static str, String)> {
    let failing = health.failing(url)?;
    Some((one_line(&shown(url), 400), failing.reason, failing.message.clone()))
}

/// The keys that `file` has of `server`, which is named as in known_hosts(5): `ED25519 SHA256:…`. ssh-keygen(1) knows
/// hashed names too.
///
/// # Errors
/// In words, where that cannot be told.
pub(super) fn pinned(host: &Reader, server: &str, file: &str) -> Result<Vec<String>, String> {
    let look = Program::new("ssh-keygen").args(["-l", "-F", server, "-f", file]).any_status();
    let output = host.query(&look).map_err(|error| error.chain())?;
    Ok(fingerprints(&output.text()))
}

/// Lines are `SERVER TYPE SHA256:…`, each below a comment.
fn fingerprints(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let at = fields.iter().position(|field| field.starts_with("SHA256:"))?;
        Some(one_line(&format!("{} {}", fields.get(at.checked_sub(1)?)?, fields[at]), 120))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

/// How somebody makes sure of a server's key and pins it.
pub(super) fn how_to_pin(server: &str, source: &SourceSettings) -> String {
    let (name, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        Some((name, port)) => (name, format!("-p {port} ")),
        None => (server, String::new()),
    };
    let pin = match credential(&source.known_hosts) {
        Some(name) => format!("put it into the file that the credential {name} of trueup.service is loaded from"),
        None => format!("`cat key >>{}`", source.known_hosts.display()),
    };
    format!(
        "`ssh-keyscan {port}{name} >key; ssh-keygen -lf key` shows what the server says now; compare it with the \
         fingerprint that its operator publishes, and only then {pin}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_from_what_ssh_keygen_prints() {
        let text = "# Host git.example.org found: line 1 \ngit.example.org ED25519 SHA256:abc+/ \n\
                    # Host git.example.org found: line 2 \n|1|x=|y= RSA SHA256:def\nnothing here\n";
        assert_eq!(fingerprints(text), ["ED25519 SHA256:abc+/", "RSA SHA256:def"]);
        assert_eq!(fingerprints("SHA256:alone"), Vec::<String>::new());
    }

    #[test]
    fn how_to_pin_names_the_port() {
        let source = SourceSettings::at("ssh://git@h:2222/x");
        assert!(how_to_pin("[h]:2222", &source).contains("`ssh-keyscan -p 2222 h >key;"));
        assert!(how_to_pin("h", &source).contains("`ssh-keyscan h >key;"));
        assert!(how_to_pin("h", &source).ends_with("only then `cat key >>/etc/trueup/known_hosts`"));
        let known_hosts = "/run/credentials/trueup.service/hosts".into();
        let source = SourceSettings { known_hosts, ..source };
        assert!(how_to_pin("h", &source).ends_with("the credential hosts of trueup.service is loaded from"));
    }
}
