//! Files of the host: what a tree and `[files]` can say of them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::ensure;

use super::super::{place, suspect};
use super::{Item, Left, Look, Owners, What, Why};
use crate::compile;
use crate::host::NodeType;
use crate::kinds::file::protected::{self, Shape};
use crate::kinds::file::{File, Observed as Seen, Owner, Present, Standing};
use crate::kinds::{Kind, Observed, unit};
use crate::model::{Digest, Id, one_line};
use crate::secret::Plain;

/// How many bytes of content are taken at once.
const MOST_BYTES: u64 = 256 << 20;

impl Look<'_> {
    /// `path`, under the one name that it has, and what is below it.
    pub(super) fn gather(&mut self, path: &str) -> anyhow::Result<()> {
        let id = format!("file:{path}");
        if path == "/" {
            self.left(&id, "protected-path", "the root directory is not adopted whole: name what is below it");
            return Ok(());
        }
        let real = match self.host.canonical(&protected::unaliased(path)) {
            Ok(real) => real,
            Err(error) => {
                self.left(&id, error.reason(), error.chain());
                return Ok(());
            }
        };
        if let Err(protected) = protected::made_by_the_kernel(&real) {
            self.left(&id, protected.reason, protected.why);
            return Ok(());
        }
        if real != path {
            self.found.notes.push(format!("{} is {}", one_line(path, 200), one_line(&real, 200)));
        }
        let directory = match self.host.look(&real) {
            Ok(Some(meta)) => meta.node == NodeType::Directory && !meta.mount_point,
            // What is wrong is told where it is looked at with the others.
            Ok(None) | Err(_) => false,
        };
        let entered = directory && protected::permitted(&real, Shape::Directory).is_ok();
        if entered && let Err(error) = self.host.list(&real) {
            self.left(&format!("file:{real}"), error.reason(), error.chain());
            return Ok(());
        }
        self.add(&real, Why::Asked);
        if !entered {
            return Ok(());
        }
        let closed = RefCell::new(BTreeMap::new());
        let enter = |inner: &str| {
            let whole = format!("{real}/{inner}");
            let name = inner.rsplit('/').next().unwrap_or(inner);
            if protected::permitted(&whole, Shape::Directory).is_err() || place::is_gits(name) {
                return false;
            }
            // One that cannot be read is left out, and not all that is beside it.
            let listed = self.host.list(&whole);
            listed.map_err(|error| closed.borrow_mut().insert(inner.to_owned(), error)).is_ok()
        };
        let below = self.host.below(&real, compile::RESOURCE_LIMIT, &enter)?;
        let closed = closed.into_inner();
        for (inner, _) in below.nodes.iter().filter(|(inner, _)| !closed.contains_key(inner)) {
            self.add(&format!("{real}/{inner}"), Why::Below);
        }
        for (inner, error) in closed {
            self.left(&format!("file:{real}/{inner}"), error.reason(), error.chain());
        }
        for path in below.unnameable {
            self.left(
                &format!("file:{path}"),
                "bad-path",
                "nobody can write down its name: not UTF-8, or control characters",
            );
        }
        let count = self.paths.len();
        ensure!(
            count <= compile::RESOURCE_LIMIT,
            "that is {count} files and directories; a host has at most {}: name less at once",
            compile::RESOURCE_LIMIT
        );
        Ok(())
    }

    pub(super) fn files(&mut self) -> anyhow::Result<()> {
        let paths = std::mem::take(&mut self.paths);
        let names: Vec<&str> = paths.keys().map(String::as_str).collect();
        if names.is_empty() {
            return Ok(());
        }
        let mut directories = Vec::new();
        for ((path, why), seen) in paths.iter().zip(File::observe(self.host, &names)) {
            ensure!(!self.host.interrupted(), "ended before anything was written, as asked");
            let id = format!("file:{path}");
            match seen {
                Err(_) if *why == Why::Around => {}
                Err(error) => self.left(&id, error.reason(), error.chain()),
                Ok(Seen::Absent | Seen::AbsentBehind { .. }) if *why == Why::Asked => {
                    self.left(&id, "not-there", "nothing stands there");
                }
                Ok(Seen::Absent | Seen::AbsentBehind { .. }) => {}
                Ok(Seen::Present(seen)) => {
                    let done = match seen.what {
                        Standing::Directory => {
                            directories.push((path, *why, seen));
                            Ok(())
                        }
                        _ => self.file(path, seen),
                    };
                    if let Err(left) = done {
                        self.found.left.push(left);
                    }
                }
            }
            ensure!(self.bytes <= MOST_BYTES, "that is more than {} MiB of files: name less at once", MOST_BYTES >> 20);
        }
        // The deepest first: one that is declared keeps those around it from being empty.
        for (path, why, seen) in directories.into_iter().rev() {
            self.directory(path, why, seen);
        }
        Ok(())
    }

    fn file(&mut self, path: &str, seen: Present) -> Result<(), Left> {
        let id = Id::new(File::WORD, path);
        let left = |reason, message: String| Left::new(id.as_str(), reason, message);
        let shape = match seen.what {
            Standing::Symlink { .. } => Shape::Other,
            _ => Shape::Regular,
        };
        permitted(path, shape).map_err(|(reason, why)| left(reason, why))?;
        if let Some(why) = self.own.refuses(path) {
            return Err(left("self-trust", format!("it {why}")));
        }
        if place::is_of_one_host(path) {
            let why = "it goes with a key that this host made for itself, and one that is installed anew makes another";
            return Err(left("host-identity", why.to_owned()));
        }
        if let Some(why) = place::not_for_git(self.layer, path) {
            return Err(left("not-for-git", why));
        }
        if seen.mount_point {
            return Err(left("mount-point", "something is mounted there".to_owned()));
        }
        let owners = owners(&seen);
        let what = match &seen.what {
            Standing::Other(node) => {
                return Err(left("special-file", format!("{} is not declared by any repository", node.describe())));
            }
            Standing::Symlink { target } => {
                of_systemd(path, target).map_err(|why| left("systemd-link", why))?;
                if target.is_empty() || target.len() >= 4096 || target.chars().any(char::is_control) {
                    return Err(left("not-for-git", "where this link points cannot be written down".to_owned()));
                }
                What::Link { target: target.clone(), owners }
            }
            _ => self.content(path, &seen, owners)?,
        };
        self.found.items.push(Item { id, what, seen: Observed::File(Seen::Present(seen)) });
        Ok(())
    }

    fn content(&mut self, path: &str, seen: &Present, owners: Owners) -> Result<What, Left> {
        let id = format!("file:{path}");
        let left = |reason, message: String| Left::new(&id, reason, message);
        let failed = |error: crate::host::Error| Left::new(&id, error.reason(), error.chain());
        if seen.mode & 0o7000 != 0 && !self.setid {
            return Err(left("setid", setid(seen.mode)));
        }
        if seen.links > 1
            && let Some(who) = self.host.who_else(path).map_err(failed)?
        {
            let why = format!("it has {} names (hard links), and {who} could have made it one of them", seen.links);
            return Err(left("untrusted-link", why));
        }
        let limit = compile::FILE_LIMIT;
        let (Standing::Regular { size, .. } | Standing::Large { size }) = seen.what else {
            return Err(left("stale", "it is another thing by now".to_owned()));
        };
        if size > limit {
            return Err(left("too-large", format!("it has {size} bytes; a file of a repository has at most {limit}")));
        }
        let content = self.host.read(path, limit).map_err(failed)?;
        let changed = || left("stale", "it was changed while it was looked at: try again".to_owned());
        // It may be a secret.
        let content = Plain::from(content.ok_or_else(changed)?);
        // What was looked at is what was read.
        if !matches!(&seen.what, Standing::Regular { digest, .. } if *digest == Digest::of(&content)) {
            return Err(changed());
        }
        if content.starts_with(compile::LFS) {
            return Err(left("not-for-git", "it is a Git LFS pointer, not the file".to_owned()));
        }
        self.bytes += content.len() as u64;
        let suspicions = suspect::suspicions(path, seen.mode, &content);
        Ok(What::File { content, mode: seen.mode, owners, suspicions })
    }

    /// A directory is declared where it is not what is made on the way to something else: root's own, 0755, not empty.
    fn directory(&mut self, path: &str, why: Why, seen: Present) {
        let id = Id::new(File::WORD, path);
        if seen.mount_point && why != Why::Around {
            return self.left(id.as_str(), "mount-point", "something is mounted there; what is on it is not looked at");
        }
        let inside = format!("{path}/");
        let holds = self.found.items.iter().any(|item| item.id.name().starts_with(&inside));
        if protected::is_structure(path) || (why == Why::Around && !holds) {
            return;
        }
        let enabling = [".wants", ".requires", ".upholds"].iter().any(|end| path.ends_with(end));
        if enabling && path.starts_with(compile::UNITS) {
            return;
        }
        let owners = owners(&seen);
        let plain = seen.mode == 0o755 && owners == Owners::default();
        if plain && (holds || why == Why::Around) {
            return;
        }
        if seen.mode & 0o7000 != 0 && !self.setid {
            match why {
                Why::Around => self.found.notes.push(format!(
                    "{} is {:04o}, which is not declared: where it is missing it is made root's own, 0755",
                    one_line(path, 200),
                    seen.mode
                )),
                _ => self.left(id.as_str(), "setid", setid(seen.mode)),
            }
            return;
        }
        if let Err((reason, why)) = permitted(path, Shape::Directory) {
            return self.left(id.as_str(), reason, why);
        }
        if let Some(why) = place::not_for_git(self.layer, path) {
            return self.left(id.as_str(), "not-for-git", why);
        }
        if seen.mount_point {
            return;
        }
        let what = What::Directory { mode: seen.mode, owners };
        self.found.items.push(Item { id, what, seen: Observed::File(Seen::Present(seen)) });
    }
}

fn setid(mode: u32) -> String {
    format!(
        "its mode {mode:04o} has setuid, setgid or sticky, which this host takes from no repository: setid = true in [policy] \
         of agent.toml allows it"
    )
}

fn permitted(path: &str, shape: Shape) -> Result<(), (&'static str, String)> {
    protected::permitted(path, shape).map_err(|protected| (protected.reason, protected.why))?;
    if protected::is_fragment(path) {
        return Err(("self-trust", format!("{path} sets what the agent itself does; declare it by hand")));
    }
    Ok(())
}

/// Links that systemctl makes belong to the states of units.
fn of_systemd(path: &str, target: &str) -> Result<(), String> {
    let unit = target.rsplit('/').next().unwrap_or(target);
    if compile::is_enabling(path) {
        let unit = path.rsplit('/').next().unwrap_or(path);
        return Err(format!("systemctl made this link, to enable a unit: adopt unit:{}", one_line(unit, 100)));
    }
    let Some(name) = path.strip_prefix(compile::UNITS).and_then(|rest| rest.strip_prefix('/')) else { return Ok(()) };
    if name.contains('/') || !unit::is_valid(name) {
        return Ok(());
    }
    if target == "/dev/null" {
        return Err(format!("this link masks a unit: adopt unit:{}", one_line(name, 100)));
    }
    let other = unit::is_valid(unit) && unit != name;
    let theirs = ["/lib/systemd/system/", "/usr/lib/systemd/system/", "/usr/local/lib/systemd/system/"];
    if other || theirs.iter().any(|directory| target.starts_with(directory)) {
        return Err(format!("systemctl made this link, another name of a unit: adopt unit:{}", one_line(unit, 100)));
    }
    Ok(())
}

fn owners(seen: &Present) -> Owners {
    Owners { owner: named(seen.owner.as_ref()), group: named(seen.group.as_ref()) }
}

/// How a declaration names `owner`; root needs no word. By number where there is no name, or none that a declaration
/// can have.
fn named(owner: Option<&Owner>) -> Option<String> {
    let owner = owner.filter(|owner| !owner.is("root"))?;
    let possible = |name: &&String| {
        let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        name.bytes().next().is_some_and(first)
            && !name.bytes().all(|b| b.is_ascii_digit())
            && name.len() <= 256
            && name.bytes().all(|b| first(b) || b"_.-@\\+$".contains(&b))
    };
    Some(owner.names.iter().find(possible).cloned().unwrap_or_else(|| owner.id.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_said_by_a_name_that_a_declaration_can_have() {
        let of = |id: u32, names: &[&str]| {
            named(Some(&Owner { id, names: names.iter().map(|name| (*name).to_owned()).collect() }))
        };
        assert_eq!(of(0, &["root"]), None);
        assert_eq!(of(0, &["toor", "root"]), None);
        assert_eq!(of(33, &["www-data"]).as_deref(), Some("www-data"));
        assert_eq!(of(4242, &[]).as_deref(), Some("4242"));
        assert_eq!(of(7, &["1234", "-x", "a b"]).as_deref(), Some("7"));
        assert_eq!(named(None), None);
    }

    #[test]
    fn links_of_systemd_s_own_are_told_from_somebody_s() {
        let told = |path: &str, target: &str| of_systemd(&format!("/etc/systemd/system/{path}"), target).is_err();
        assert!(told("multi-user.target.wants/a.service", "/lib/systemd/system/a.service"));
        assert!(told("a.service", "/dev/null"));
        assert!(told("sshd.service", "/lib/systemd/system/ssh.service"));
        assert!(told("dbus-org.x.service", "x.service"));
        assert!(!told("a.service", "/opt/a/a.service"));
        assert!(!told("a.service.d/x.conf", "/opt/x.conf"));
        assert!(of_systemd("/etc/localtime", "/usr/share/zoneinfo/UTC").is_ok());
    }
}
