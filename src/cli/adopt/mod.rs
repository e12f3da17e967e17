//! What stands on this host, brought into the work tree of a fleet repository as a layer that then plans to nothing.
//!
//! All is looked at first (`look`), weighed against what is declared (`weigh`), compiled as it would be, shown, and only
//! then written. Nothing is committed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::{Ground, ask};
use crate::compile::{self, Compiled, Options, Secrets};
use crate::config::Settings;
use crate::host::{self, HOST_KEYS, Reader, WorkTree};
use crate::manifest::{self as format, Problem};
use crate::model::{Facts, Id, one_line};
use crate::reconcile;
use crate::secret::{self, Recipient};
use crate::source::{Entry, Origin, Snapshot};

mod attributes;
mod look;
mod manifest;
mod outlook;
mod place;
mod suspect;
mod tell;
mod units;
mod weigh;

use outlook::Outlook;
use weigh::{Weighed, Write};

/// Bring what stands on this host into the work tree of a fleet repository, as a layer that then plans to nothing. Nothing is
/// committed, and nothing of the host is changed. What looks like a secret, is declared otherwise or cannot be declared is told and left
/// out; the exit status is 1 then.
#[derive(Debug, Args)]
pub(super) struct Adopt {
    /// What to bring: the path of a file or link, of a directory with what is below it, the name of a unit, or an id:
    /// /etc/motd, nginx.service, package:nginx
    #[arg(required = true, value_name = "PATH|ID", value_parser = ask::resource)]
    what: Vec<Id>,
    /// The repository, as it stands on disk; nothing is committed
    #[arg(long, value_name = "PATH", default_value = ".")]
    repo: PathBuf,
    /// Subdirectory that is the fleet repository
    #[arg(long, value_name = "DIR", default_value = "", value_parser = super::subdirectory)]
    path: String,
    /// The host whose layer it becomes, instead of this machine's own name; it is made where there is none
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Make it part of this role instead, which is made where there is none
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Declare packages in exactly the version that is installed, and held there
    #[arg(long)]
    exact: bool,
    /// Write what looks like a secret encrypted, to this host and the recipients of trueup.toml
    #[arg(long)]
    encrypt: bool,
    /// Write this file as it is, though it looks like a secret
    #[arg(long, value_name = "PATH", value_parser = ask::resource)]
    in_clear: Vec<Id>,
    /// Overwrite what differs in this layer already
    #[arg(long)]
    replace: bool,
    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    ground: Ground,
}

/// The host as the repository has it.
struct Scene<'a> {
    host: &'a Reader,
    settings: &'a Settings,
    facts: &'a Facts,
    /// The name of its directory.
    name: String,
    /// What is written to: `hosts/web-01`, `roles/base`.
    layer: String,
}

impl Adopt {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        if self.encrypt {
            ensure!(secret::SUPPORTED, "this trueup was built without the feature `secrets`");
        }
        // Contents may be secrets before it is known that they are.
        host::hide();
        let host = self.ground.reader()?;
        let settings = reconcile::settings(&host)?;
        host.identify(settings.secrets.identity.as_deref());
        let facts = host.facts()?;
        let mut origin = Origin::work_tree(&self.repo, &self.path)?;
        let root = if self.path.is_empty() { self.repo.clone() } else { self.repo.join(&self.path) };
        let first = origin.snapshot()?;
        ensure!(
            first.entries.contains_key("trueup.toml"),
            "{} is not a fleet repository: it has no trueup.toml",
            root.display()
        );
        let name = self.name(&first, &settings, &facts)?;
        let layer = match &self.role {
            Some(role) => format!("roles/{}", layer_name(role)?),
            None => format!("hosts/{name}"),
        };
        let scene = Scene { host: &host, settings: &settings, facts: &facts, name, layer };
        let (snapshot, includes) = scene.read(&mut origin, first, self.encrypt)?;
        let before = match scene.compile(&snapshot) {
            Ok(compiled) => compiled,
            Err(problems) => return self.refused(&scene, &snapshot, &problems, false),
        };
        if let (Some(pin), Some(own), true) = (&before.machine_id, &facts.machine_id, host.is_machine()) {
            ensure!(pin == own, "hosts/{} is pinned to machine id {pin}, and this machine's is {own}", scene.name);
        }
        host.say("looking at the host");
        let looked = look::Look::new(&scene, self.exact).at(&self.what)?;
        let own_key = if self.encrypt { scene.own_key()? } else { None };
        let in_clear: BTreeSet<String> = self.in_clear.iter().map(|id| id.name().to_owned()).collect();
        let attributes = attributes::Attributes::of(&root)?;
        let weigh = weigh::Weigh {
            snapshot: &snapshot,
            desired: &before.desired,
            layer: &scene.layer,
            replace: self.replace,
            encrypt: self.encrypt,
            in_clear: &in_clear,
            changed_by_git: &|path, content| attributes.change(path, content),
            own_key: own_key.as_ref(),
        };
        let mut weighed = weigh.all(looked).with_context(|| weigh.manifest_path())?;
        let mut after = with(&snapshot, &weighed);
        let outlook = |compiled: Compiled| (scene.outlook(&compiled), compiled);
        let mut made = scene.compile(&after).map(outlook);
        if let Ok((Outlook { differences, .. }, _)) = &made
            && weigh.complete(&mut weighed, differences.iter().map(|one| (&one.id, one.properties.as_slice())))?
        {
            after = with(&snapshot, &weighed);
            made = scene.compile(&after).map(outlook);
        }
        let (outlook, compiled) = match made {
            Ok(made) => made,
            Err(problems) => return self.refused(&scene, &after, &problems, true),
        };
        host.say("");
        let unmet = in_clear.iter().filter(|path| !weighed.outcomes.iter().any(|(id, _)| id.name() == path.as_str()));
        weighed.notes.extend(unmet.map(|path| format!("--in-clear {path}: nothing of this name was adopted")));
        let written = !self.dry_run && !weighed.writes.is_empty();
        if written {
            write(&WorkTree::open(&root)?, &snapshot, &weighed, &weigh.manifest_path())?;
            scene.is_as_compiled(&self.repo, &self.path, self.encrypt, &compiled)?;
        }
        tell::tell(&tell::Told {
            adopt: self,
            root: &root,
            scene: &scene,
            weighed: &weighed,
            outlook: &outlook,
            written,
            includes,
        })?;
        Ok(u8::from(!weighed.left.is_empty() || outlook.refused.is_some()))
    }

    /// The name of the host's directory, which need not be there yet.
    fn name(&self, snapshot: &Snapshot, settings: &Settings, facts: &Facts) -> anyhow::Result<String> {
        if let Some(name) = &self.host {
            return layer_name(name);
        }
        let setting = settings.host.name.as_deref();
        if let Some(name) = compile::select(&snapshot.hosts, setting, facts) {
            return Ok(name.to_owned());
        }
        let tried = compile::names_tried(setting, facts);
        layer_name(tried.last().context("this host has no name: say --host NAME")?)
    }

    /// What is written would not compile, or what is there does not: nothing is written.
    fn refused(
        &self,
        scene: &Scene<'_>,
        snapshot: &Snapshot,
        problems: &[Problem],
        adopted: bool,
    ) -> anyhow::Result<u8> {
        scene.host.say("");
        let text = format::render(problems, format::text_of(snapshot), !self.ground.json);
        tell::refused(self, scene, &text, adopted)?;
        Ok(1)
    }
}

/// A name that a directory of hosts or roles can have.
fn layer_name(name: &str) -> anyhow::Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let good = !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(plain);
    ensure!(good, "{} cannot be the name of a host or role", one_line(name, 100));
    ensure!(name.to_lowercase() == name, "names of hosts and roles are lower case: {}", name.to_lowercase());
    Ok(name.to_owned())
}

impl Scene<'_> {
    /// The layers of the host, that which is written to among them, and all others where `every`. Where the host does not
    /// include the role that is written to, it is compiled as if it were that role alone: `false`.
    fn read(&self, origin: &mut Origin, mut snapshot: Snapshot, every: bool) -> anyhow::Result<(Snapshot, bool)> {
        let role = self.layer.strip_prefix("roles/");
        let there = snapshot.hosts.contains(&self.name);
        if every {
            let all = snapshot.hosts.iter().map(|name| format!("hosts/{name}"));
            let all: Vec<String> = all.chain(snapshot.roles.iter().map(|name| format!("roles/{name}"))).collect();
            origin.read_layers(&mut snapshot, &all)?;
        }
        if there {
            reconcile::read_host(origin, &mut snapshot, &self.name)?;
        }
        let Some(role) = role else {
            if !there {
                snapshot.hosts.insert(self.name.clone());
                snapshot.layers.insert(self.layer.clone());
            }
            return Ok((snapshot, true));
        };
        if !snapshot.roles.contains(role) {
            snapshot.roles.insert(role.to_owned());
            snapshot.layers.insert(self.layer.clone());
        }
        let includes =
            there && self.compile(&snapshot).map_or(true, |compiled| compiled.roles.iter().any(|name| name == role));
        if !includes {
            let own = format!("hosts/{}/", self.name);
            snapshot.entries.retain(|path, _| !path.starts_with(&own));
            snapshot.hosts.insert(self.name.clone());
            snapshot.layers.insert(format!("hosts/{}", self.name));
            let manifest = format!("roles = [\"{role}\"]\n").into_bytes();
            let entry = Entry::File { content: manifest.into(), executable: false };
            snapshot.entries.insert(format!("{own}host.toml"), entry);
            reconcile::read_host(origin, &mut snapshot, &self.name)?;
        }
        Ok((snapshot, includes))
    }

    fn compile(&self, snapshot: &Snapshot) -> Result<Compiled, Vec<Problem>> {
        let keys = self.host.keyring();
        let known = reconcile::known_facts(self.host, snapshot, &self.name, self.facts);
        let secrets = Secrets::Opened(&*keys);
        let options = Options { setid: self.settings.policy.setid, on_host: self.host.is_machine(), secrets };
        compile::compile(snapshot, &self.name, &known, &options)
    }

    fn outlook(&self, compiled: &Compiled) -> Outlook {
        Outlook::of(reconcile::first(self.host, self.settings, compiled.desired.clone()))
    }

    /// Whether what is on disk now is what was compiled before it was written.
    fn is_as_compiled(
        &self,
        repo: &std::path::Path,
        path: &str,
        every: bool,
        compiled: &Compiled,
    ) -> anyhow::Result<()> {
        let mut origin = Origin::work_tree(repo, path)?;
        let first = origin.snapshot()?;
        let (snapshot, _) = self.read(&mut origin, first, every)?;
        match self.compile(&snapshot) {
            Ok(now) if now.desired == compiled.desired => Ok(()),
            Ok(_) => bail!("it is written, but somebody else changed the repository meanwhile: run `trueup check`"),
            Err(problems) => {
                super::tell(&format::render(&problems, format::text_of(&snapshot), true));
                bail!("it is written, but somebody else changed the repository meanwhile, and it does not compile")
            }
        }
    }

    /// The public key by which secrets are encrypted to this host.
    fn own_key(&self) -> anyhow::Result<Option<Recipient>> {
        for key in HOST_KEYS {
            if let Some(line) = self.host.read_following(&format!("{key}.pub"), 1 << 16)? {
                let line = String::from_utf8_lossy(&line).into_owned();
                return Recipient::parse(&line).map(Some).map_err(|why| anyhow::anyhow!("{key}.pub {why}"));
            }
        }
        Ok(None)
    }
}

/// `snapshot` as it is once all is written.
fn with(snapshot: &Snapshot, weighed: &Weighed) -> Snapshot {
    let mut after = snapshot.clone();
    for (path, write) in &weighed.writes {
        let entry = match write {
            Write::File { content, mode } => {
                Entry::File { content: content.as_slice().into(), executable: mode & 0o100 != 0 }
            }
            Write::Link(target) => Entry::Symlink { target: target.as_bytes().into() },
        };
        after.entries.insert(path.clone(), entry);
    }
    after
}

/// Trees before the manifest, which speaks of files that are there.
fn write(tree: &WorkTree, snapshot: &Snapshot, weighed: &Weighed, manifest: &str) -> anyhow::Result<()> {
    let (last, first): (Vec<&String>, Vec<&String>) = weighed.writes.keys().partition(|path| *path == manifest);
    for (done, path) in first.into_iter().chain(last).enumerate() {
        let new = !snapshot.entries.contains_key(path);
        let written = match &weighed.writes[path] {
            Write::File { content, mode } => tree.put(path, content, *mode, new),
            Write::Link(target) => tree.link(path, target, new),
        };
        written.with_context(|| {
            format!(
                "{done} of {} files are written, and {manifest}, which says whose they are, is not: commit nothing, run \
                 it again once this is mended",
                weighed.writes.len()
            )
        })?;
    }
    Ok(())
}
