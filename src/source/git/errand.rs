//! What one worker is sent out with: where to, what for, and the wall around it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::SourceError;
use super::super::pipe::Pipe;
use super::{Result, Source, text};
use crate::config::{SourceSettings, Transport, credential, port, proxy_port, transport};
use crate::host::{self, Copies, Worker};
use crate::model::Digest;
use crate::worker::Wall;
use crate::worker::protocol::{Open, Place, Remote, Secret, Walls};

/// Names are asked for over TCP as well, where the answer is long; RFC 7766.
const DNS: u16 = 53;

/// A look at one URL.
pub(super) struct Errand {
    place: Place,
    wall: Wall,
    copies: Option<Copies>,
}

/// The wall of a worker that reads what somebody named on the command line: with its owner's eyes, wherever the parts
/// of the repository lie (a linked work tree, borrowed objects), and with no way to tell anybody but us.
pub(super) fn of_somebody(directory: &Path) -> Wall {
    Wall { user: Worker::owner(directory), read: vec![PathBuf::from("/")], ..Wall::default() }
}

/// What stands around the fetch workers of this host: one is started, and sent nowhere.
///
/// # Errors
/// Where none can be started, or its wall cannot be put up.
pub fn walls(worker: &Worker) -> Result<Walls> {
    const LIMIT: Duration = Duration::from_secs(20);
    let wall = Wall { user: worker.user().map_err(SourceError::Host)?, ..Wall::default() };
    let pipe = Pipe::start(worker, &wall, None, "its wall", LIMIT)?;
    pipe.walls().ok_or_else(|| SourceError::Settings("the fetch worker has no wall".to_owned()))
}

impl Errand {
    pub(super) fn new(settings: &SourceSettings, url: &str, worker: &Worker) -> Result<Self> {
        let transport = transport(url).map_err(|why| SourceError::Settings(format!("a URL of the source {why}")))?;
        let user = worker.user().map_err(SourceError::Host)?;
        if let Transport::Local(directory) = &transport {
            let place = Place::Local { directory: text(directory)? };
            let wall = Wall { user, read: vec![directory.clone()], ..Wall::default() };
            return Ok(Self { place, wall, copies: None });
        }
        if transport.is_insecure() && !settings.allow_insecure {
            let message = format!(
                "{url}: anybody on the way can change what is fetched; set source.allow_insecure = true to take it all the same"
            );
            return Err(SourceError::of_worker("insecure", &message));
        }
        let cache = worker.cache().map_err(SourceError::Host)?;
        let web = matches!(transport, Transport::Https | Transport::Http);
        let proxy = settings.proxy.as_deref().filter(|_| web);
        // Whoever goes through a proxy has no need of the server itself.
        let to = match proxy {
            Some(proxy) => proxy_port(proxy).map_err(|why| SourceError::Settings(format!("source.proxy {why}")))?,
            None => port(url).unwrap_or(DNS),
        };
        let ports = vec![to, DNS];
        let programs = transport == Transport::Ssh;
        let cached = Some(cache.clone());
        let room = worker.room();
        let mut wall = Wall { user, cache: cached, room, ports: Some(ports), programs, ..Wall::default() };
        let mut files = Files { copies: worker.copies().map_err(SourceError::Host)?, wall: &mut wall };
        let https = transport == Transport::Https;
        let login = settings.token_file.as_deref().filter(|_| https).map(login).transpose()?;
        let ca_file = files.optional(settings.ca_file.as_deref().filter(|_| https))?;
        let client_cert = files.optional(settings.client_cert.as_deref().filter(|_| https))?;
        let client_key = settings.client_key.as_deref().filter(|_| https);
        client_key.map(of_root_alone).transpose()?;
        let client_key = files.optional(client_key)?;
        let ssh_key = settings.ssh_key.as_deref().filter(|_| programs);
        ssh_key.map(of_root_alone).transpose()?;
        let ssh_key = files.optional(ssh_key)?;
        let known_hosts = if programs { files.known_hosts(&settings.known_hosts)? } else { String::new() };
        let copies = files.copies;
        let name =
            |url: &str| Digest::of(format!("{url}\n{}", settings.branch).as_bytes()).to_string()[..24].to_owned();
        let place = Place::Remote(Box::new(Remote {
            url: url.to_owned(),
            cache: text(&cache.join(name(url)))?,
            beside: settings.urls.iter().filter(|other| *other != url).map(|other| name(other)).collect(),
            insecure: settings.allow_insecure,
            ca_file,
            proxy: proxy.unwrap_or_default().to_owned(),
            client_cert,
            client_key,
            login,
            ssh_key,
            known_hosts,
        }));
        Ok(Self { place, wall, copies })
    }

    /// Sends the worker out.
    pub(super) fn run(self, settings: &SourceSettings, url: &str, worker: &Worker) -> Result<Source> {
        let Self { place, wall, copies } = self;
        let pipe = Pipe::start(worker, &wall, copies, url, settings.timeout)?;
        Source::over(pipe, Open { place, branch: settings.branch.clone() }, &settings.path)
    }
}

/// Files that the worker needs: copies of its own, or opened to it where it reads as we do.
struct Files<'a> {
    copies: Option<Copies>,
    wall: &'a mut Wall,
}

impl Files<'_> {
    fn optional(&mut self, file: Option<&Path>) -> Result<String> {
        file.map_or(Ok(String::new()), |file| self.open(file))
    }

    /// None at all is as none that is pinned: ssh says so.
    fn known_hosts(&mut self, file: &Path) -> Result<String> {
        match self.open(file) {
            // One that systemd was to hand over is missed here.
            Err(SourceError::Host(host::Error::Io { source, .. })) if source.kind() == io::ErrorKind::NotFound => {
                text(file)
            }
            opened => opened,
        }
    }

    fn open(&mut self, file: &Path) -> Result<String> {
        handed_over(file)?;
        match &mut self.copies {
            Some(copies) => {
                let copy = copies.add(file).map_err(SourceError::Host)?;
                self.wall.read.push(copy.clone());
                text(&copy)
            }
            None => {
                self.wall.read.push(file.to_owned());
                text(file)
            }
        }
    }
}

/// Says what is missing where `file` is a credential that systemd was to hand over.
fn handed_over(file: &Path) -> Result<()> {
    match credential(file) {
        Some(name) if !file.exists() => Err(SourceError::NoCredential { name: name.to_owned() }),
        _ => Ok(()),
    }
}

/// Opens a file that is nobody's but ours.
fn of_root_alone(file: &Path) -> Result<File> {
    handed_over(file)?;
    let failed = |source| SourceError::Read { path: file.to_owned(), source };
    let open = host::open_regular(file).map_err(failed)?;
    let meta = open.metadata().map_err(failed)?;
    let ours = [0, rustix::process::geteuid().as_raw()].contains(&meta.uid());
    if meta.mode() & 0o027 != 0 || !ours {
        return Err(SourceError::Settings(format!(
            "{} is a secret, and others than root and its group can read it, or its group write it: chown root and chmod 600 it",
            file.display()
        )));
    }
    Ok(open)
}

/// The token in `file`, or `USER:TOKEN`. Servers that take a token take it with any user name.
fn login(file: &Path) -> Result<(String, Secret)> {
    const LONGEST: u64 = 8 << 10;
    let failed = |source| SourceError::Read { path: file.to_owned(), source };
    let mut token = String::new();
    of_root_alone(file)?.take(LONGEST).read_to_string(&mut token).map_err(failed)?;
    let token = token.trim();
    if token.is_empty() || token.chars().any(char::is_control) {
        return Err(SourceError::Settings(format!("{} does not hold one token", file.display())));
    }
    let (user, secret) = token.split_once(':').unwrap_or(("x-token-auth", token));
    Ok((user.to_owned(), Secret(secret.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Reader;

    fn errand(settings: &SourceSettings) -> Result<Errand> {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let worker = Reader::directory(scratch.path()).expect("opened").worker(PathBuf::from("/nowhere/trueup"));
        Errand::new(settings, &settings.urls[0], &worker)
    }

    #[test]
    fn the_port_that_is_open_to_the_worker_is_that_of_the_proxy_where_there_is_one() {
        let ports = |url: &str, proxy: Option<&str>| {
            let at = SourceSettings::at(url);
            let settings = SourceSettings { allow_insecure: true, proxy: proxy.map(str::to_owned), ..at };
            errand(&settings).expect("sent out").wall.ports.expect("it needs the network")
        };
        let proxy = Some("http://proxy.example.org:3128");
        assert_eq!(ports("https://h:8443/x", None), [8443, DNS]);
        assert_eq!(ports("https://h:8443/x", proxy), [3128, DNS]);
        assert_eq!(ports("http://h/x", proxy), [3128, DNS]);
        assert_eq!(ports("git@h:x", proxy), [22, DNS]);
        assert_eq!(ports("git://h/x", proxy), [9418, DNS]);
    }

    #[test]
    fn a_credential_that_is_missing_is_named_with_the_line_that_loads_it() {
        let missing = Some(PathBuf::from("/run/credentials/trueup.service/no-such-credential"));
        let at = SourceSettings::at;
        for settings in [
            SourceSettings { token_file: missing.clone(), ..at("https://h/x") },
            SourceSettings { ca_file: missing.clone(), ..at("https://h/x") },
            SourceSettings { client_cert: missing.clone(), ..at("https://h/x") },
            SourceSettings { client_key: missing.clone(), ..at("https://h/x") },
            SourceSettings { ssh_key: missing.clone(), ..at("git@h:x") },
            SourceSettings { known_hosts: missing.clone().expect("named"), ..at("git@h:x") },
        ] {
            let error = errand(&settings).err().expect("missing");
            assert_eq!(error.reason(), "cannot-read");
            let said = error.to_string();
            assert!(said.starts_with("trueup.service has no credential no-such-credential: "), "{said}");
            assert!(said.contains("`LoadCredential=no-such-credential:/etc/trueup/no-such-credential`"), "{said}");
        }
    }
}
