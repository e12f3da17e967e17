use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;

use rustix::process::DumpableBehavior;
use zeroize::Zeroizing;

use super::{Error, Reader, open_regular};
use crate::model::Digest;
use crate::secret::{Identity, Keys, Locked, Plain, seal};

/// The keys by which this host is known to who encrypts for it, sshd(8): any of them opens, the first that is there seals.
pub const HOST_KEYS: [&str; 2] = ["/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key"];
/// The most bytes of a file with keys.
const LONGEST: u64 = 1 << 20;

/// The keys that open the secrets of this host, read when the first of them is needed and forgotten with this.
#[derive(Debug)]
pub struct Keyring {
    /// Where they may be, and how messages call that.
    places: Vec<(PathBuf, String)>,
    stamp: Digest,
    /// Root named the file.
    chosen: bool,
    machine: bool,
    read: OnceLock<Result<Identity, Locked>>,
}

impl Reader {
    /// The file with the keys that open secrets, where the settings name one; else they are the host's own of SSH.
    pub fn identify(&self, identity: Option<&Path>) {
        *self.identity.borrow_mut() = identity.map(Path::to_owned);
    }

    /// The keys that open the secrets of this host; the same ones for as long as their files are.
    pub fn keyring(&self) -> Rc<Keyring> {
        let now = self.places();
        let mut known = self.keyring.borrow_mut();
        if let Some(known) = known.as_ref().filter(|known| known.is_of(&now)) {
            return Rc::clone(known);
        }
        Rc::clone(known.insert(Rc::new(now)))
    }

    /// Where those are, not read yet.
    fn places(&self) -> Keyring {
        let chosen = self.identity.borrow();
        let chosen = chosen.as_ref().map(|path| path.to_string_lossy().into_owned());
        let names = match &chosen {
            Some(chosen) => vec![chosen.clone()],
            None => HOST_KEYS.map(str::to_owned).to_vec(),
        };
        let places: Vec<_> = names.into_iter().map(|name| (self.below_root(&name), name)).collect();
        let stamp = stamp(&places);
        Keyring { places, stamp, chosen: chosen.is_some(), machine: self.is_machine(), read: OnceLock::new() }
    }
}

impl Keyring {
    fn identity(&self) -> Result<&Identity, Locked> {
        self.read.get_or_init(|| self.load()).as_ref().map_err(Clone::clone)
    }

    fn load(&self) -> Result<Identity, Locked> {
        hide();
        let mut found: Option<Identity> = None;
        for (path, name) in &self.places {
            match read(path, name).map_err(Locked::NoIdentity)? {
                None => {}
                Some(text) => {
                    let read = Identity::parse(&text).map_err(|why| Locked::NoIdentity(format!("{name} {why}")))?;
                    found = Some(match found {
                        Some(found) => found.and(read),
                        None => read,
                    });
                }
            }
        }
        found.ok_or_else(|| self.nothing())
    }

    /// Which files they are, without what is in them: another once one of those comes, goes, or is replaced.
    pub fn stamp(&self) -> Digest {
        self.stamp
    }

    fn is_of(&self, now: &Self) -> bool {
        (&self.places, self.stamp, self.chosen) == (&now.places, now.stamp, now.chosen)
    }

    fn nothing(&self) -> Locked {
        let names: Vec<&str> = self.places.iter().map(|(_, name)| name.as_str()).collect();
        match self.chosen {
            true => Locked::NoIdentity(format!(
                "{} is not there, and secrets.identity of agent.toml names it",
                names.join(", ")
            )),
            false if self.machine => Locked::NoIdentity(format!(
                "there is no {}: make one with `ssh-keygen -A`, or name a file with secrets.identity in agent.toml",
                names.join(" or ")
            )),
            false => Locked::Away,
        }
    }
}

impl Keys for Keyring {
    fn open(&self, sealed: &[u8]) -> Result<Plain, Locked> {
        self.identity()?.open(sealed).map_err(|locked| match locked {
            Locked::NotForUs(who) => {
                let names: Vec<&str> = self.places.iter().map(|(_, name)| name.as_str()).collect();
                Locked::NotForUs(format!("this host's {who} ({})", names.join(", ")))
            }
            other => other,
        })
    }

    fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, Locked> {
        let own = self.identity()?.recipients();
        seal(plain, &own[..own.len().min(1)], false).map_err(Locked::NoIdentity)
    }
}

/// What there is to know of the files at `places` without reading them.
fn stamp(places: &[(PathBuf, String)]) -> Digest {
    let file = |(path, name): &(PathBuf, String)| {
        let stands = fs::metadata(path).map(|meta| {
            let who = (meta.uid(), meta.gid(), meta.mode());
            let when = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            (meta.dev(), meta.ino(), meta.size(), who, when)
        });
        (name.clone(), stands.map_err(|error| error.kind()))
    };
    let files: Vec<_> = places.iter().map(file).collect();
    Digest::of(format!("{files:?}").as_bytes())
}

/// The keys in the file at `path`, which is nobody's but ours; `None` where there is none.
///
/// # Errors
/// Why they cannot be used.
pub fn identity_file(path: &Path) -> Result<Option<Identity>, String> {
    let name = path.display().to_string();
    hide();
    let Some(text) = read(path, &name)? else { return Ok(None) };
    Identity::parse(&text).map(Some).map_err(|why| format!("{name} {why}"))
}

/// From here on this process holds keys and plaintext: it leaves no core, and nobody but root looks into it, see
/// PR_SET_DUMPABLE(2const). It has no effect on programs that it starts.
pub fn hide() {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// The text of a file with keys that is nobody's but ours; `None` where there is none.
fn read(path: &Path, name: &str) -> Result<Option<Zeroizing<String>>, String> {
    let failed = |error: std::io::Error| {
        let needs = if error.kind() == std::io::ErrorKind::PermissionDenied { "; this needs root" } else { "" };
        format!("cannot read {name}: {error}{needs}")
    };
    let file = match open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let meta = file.metadata().map_err(failed)?;
    let ours = [0, rustix::process::geteuid().as_raw()].contains(&meta.uid());
    // Some distributions let a group of sshd's helpers read host keys.
    if meta.mode() & 0o027 != 0 || !ours {
        return Err(format!(
            "{name} is a private key, and others than root and its group can read it, or its group write it: chown root and chmod 600 it"
        ));
    }
    if meta.len() > LONGEST {
        return Err(format!("{name} is too long for a file with keys"));
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(meta.len()).unwrap_or_default() + 1));
    file.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

impl Error {
    /// `thing` is a secret that cannot be read here.
    pub fn locked(thing: &str, locked: &Locked) -> Self {
        let then = match locked {
            Locked::NotForUs(_) => {
                "; what stands there is kept: name that key as `recipient` in [secrets] of its host.toml, and run `trueup secret rekey`"
            }
            Locked::Away => "",
            _ => "; what stands there is kept",
        };
        Self::Refused { thing: thing.to_owned(), reason: locked.reason(), why: format!("{locked}{then}") }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests lay out what is read")]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_the_same_until_one_of_its_files_comes_goes_or_is_replaced() {
        let root = tempfile::tempdir().expect("a scratch directory");
        let host = Reader::directory(root.path()).expect("opens");
        let key = root.path().join(&HOST_KEYS[0][1..]);
        fs::create_dir_all(key.parent().expect("a directory")).expect("made");
        let mut last = host.keyring();
        let mut next = |same: bool| {
            let now = host.keyring();
            assert_eq!((Rc::ptr_eq(&now, &last), now.stamp() == last.stamp()), (same, same));
            last = now;
        };
        next(true);
        fs::write(&key, "one").expect("written");
        next(false);
        next(true);
        // The same length, and perhaps the same time.
        fs::write(key.with_extension("new"), "two").expect("written");
        fs::rename(key.with_extension("new"), &key).expect("renamed");
        next(false);
        host.identify(Some(Path::new("/etc/trueup/key")));
        next(false);
        host.identify(None);
        next(false);
        fs::remove_file(&key).expect("removed");
        next(false);
        next(true);
    }
}
