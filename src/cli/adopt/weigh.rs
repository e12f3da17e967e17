//! What of that which was looked at is written into the layer: what is declared already is not, and what somebody else
//! says otherwise is told. Pure but for sealing.

use std::collections::{BTreeMap, BTreeSet};

use super::look::{Item, Left, Looked, What};
use super::manifest::{Entry, Manifest, Said, Says, Taken};
use super::{place, suspect};
use crate::compile::{self, Desired, Wanted};
use crate::kinds;
use crate::kinds::file;
use crate::manifest::{self as format, LayerKind};
use crate::model::{Change, Id, one_line};
use crate::secret::{self, Plain, Recipient};
use crate::source::{self, Snapshot};

mod states;

/// What goes into one path of the repository.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Write {
    File { content: Vec<u8>, mode: u32 },
    Link(String),
}

/// What became of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is written to this path, or into the manifest.
    Adopted { place: String, encrypted: bool },
    /// This layer declares it as it is.
    Declared(String),
}

/// All that is to be done, and is not.
#[derive(Debug, Default)]
pub(super) struct Weighed {
    pub(super) outcomes: Vec<(Id, Outcome)>,
    pub(super) left: Vec<Left>,
    pub(super) notes: Vec<String>,
    /// By path in the repository.
    pub(super) writes: BTreeMap<String, Write>,
    /// Owner, group and mode of every file that is adopted, the usual ones too.
    attributed: BTreeMap<Id, Vec<(&'static str, String)>>,
}

/// What is asked for.
pub(super) struct Weigh<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// What the host is declared to be now.
    pub(super) desired: &'a Desired,
    /// `hosts/web-01`.
    pub(super) layer: &'a str,
    /// What differs in the layer already is overwritten.
    pub(super) replace: bool,
    /// What looks secret is encrypted.
    pub(super) encrypt: bool,
    /// What looks secret is written all the same.
    pub(super) in_clear: &'a BTreeSet<String>,
    /// Why Git would not keep a file of this content as it is at this path.
    pub(super) changed_by_git: &'a dyn Fn(&str, &[u8]) -> Option<String>,
    /// The public key of this host, where it is named nowhere.
    pub(super) own_key: Option<&'a Recipient>,
}

/// What is to be done about one item.
enum Way {
    /// Nothing of it is declared.
    New,
    /// What stands there is declared by this very layer, and these properties are not.
    Complete(Vec<String>),
    /// The layer's own file, at this path, is overwritten.
    Over { at: String, sealed: bool },
    /// It is as it is declared, by this layer.
    Declared(String),
}

impl Weigh<'_> {
    /// # Errors
    /// Where the manifest of the layer is no TOML.
    pub(super) fn all(&self, looked: Looked) -> anyhow::Result<Weighed> {
        let at = self.manifest_path();
        let text = text_of(self.snapshot, &at).unwrap_or_default();
        let mut manifest = Manifest::parse(&text).map_err(anyhow::Error::msg)?;
        let mut weighed = Weighed { left: looked.left, notes: looked.notes, ..Weighed::default() };
        for item in looked.items {
            let id = item.id.clone();
            match self.one(item, &mut manifest, &mut weighed) {
                Ok(outcome) => weighed.outcomes.push((id, outcome)),
                Err(left) => weighed.left.push(left),
            }
        }
        let new = manifest.text();
        let created = !self.snapshot.entries.contains_key(&at) && !weighed.writes.is_empty();
        if new != text {
            weighed.writes.insert(at, Write::File { content: new.into_bytes(), mode: 0o644 });
        } else if created {
            let content = format!("# What {} is.\n", self.layer).into_bytes();
            weighed.writes.insert(at, Write::File { content, mode: 0o644 });
        }
        weighed.left.sort_by(|a, b| a.id.cmp(&b.id));
        // What is asked for by itself too is told once.
        weighed.left.dedup();
        weighed.outcomes.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(weighed)
    }

    /// Says of adopted files what a pattern of some layer would make otherwise: these properties of those. Whether there was
    /// any.
    ///
    /// # Errors
    /// As [`Weigh::all`].
    pub(super) fn complete<'d>(
        &self,
        weighed: &mut Weighed,
        differences: impl Iterator<Item = (&'d Id, &'d [String])>,
    ) -> anyhow::Result<bool> {
        let at = self.manifest_path();
        let text = match weighed.writes.get(&at) {
            Some(Write::File { content, .. }) => String::from_utf8_lossy(content).into_owned(),
            _ => text_of(self.snapshot, &at).unwrap_or_default(),
        };
        let mut manifest = Manifest::parse(&text).map_err(anyhow::Error::msg)?;
        for (id, properties) in differences {
            let Some(attributes) = weighed.attributed.get(id) else { continue };
            let said = attributes.iter().filter(|(name, _)| properties.iter().any(|property| property == name));
            let said: Vec<_> = said.map(|(name, value)| (*name, Said::Text(value.clone()))).collect();
            if let (false, Some(key)) = (said.is_empty(), place::key(id.name())) {
                // What cannot be said is told as a difference.
                let _ = manifest.add(&Entry { table: "files", key, says: Says::Attributes(said) }, self.replace);
            }
        }
        let new = manifest.text();
        let any = new != text;
        if any {
            weighed.writes.insert(at, Write::File { content: new.into_bytes(), mode: 0o644 });
        }
        Ok(any)
    }

    pub(super) fn manifest_path(&self) -> String {
        let name = if self.layer.starts_with("hosts/") { "host.toml" } else { "role.toml" };
        format!("{}/{name}", self.layer)
    }

    fn one(&self, item: Item, manifest: &mut Manifest, weighed: &mut Weighed) -> Result<Outcome, Left> {
        let Item { id, what, seen } = item;
        let wanted = self.desired.resources.get(&id);
        match what {
            What::Package(version) => self.package(&id, version, wanted, &seen, manifest),
            What::Unit(state) => self.unit(&id, state, wanted, &seen, manifest),
            what => self.file(&id, what, wanted, &seen, manifest, weighed),
        }
    }

    fn file(
        &self,
        id: &Id,
        what: What,
        wanted: Option<&Wanted>,
        seen: &kinds::Observed,
        manifest: &mut Manifest,
        Weighed { writes, attributed, .. }: &mut Weighed,
    ) -> Result<Outcome, Left> {
        let path = id.name();
        let way = match self.way_of_file(id, wanted, seen, manifest)? {
            Way::Declared(layer) => return Ok(Outcome::Declared(layer)),
            way => way,
        };
        let mut said: Vec<(&'static str, Said)> = Vec::new();
        let (stands, usual, mode, owners) = match what {
            What::File { content, mode, owners, suspicions } => {
                let suspected = !suspicions.is_empty() && !self.in_clear.contains(path);
                let (stands, encrypted) = self.stands(id, &way, (content, mode), (suspected, &suspicions), manifest)?;
                let usual = match (encrypted, mode & 0o100 != 0) {
                    (false, false) => 0o644,
                    (false, true) => 0o755,
                    (true, false) => 0o600,
                    (true, true) => 0o700,
                };
                if stands.is_some() && place::is_raw(path) {
                    said.push(("raw", Said::Flag(true)));
                }
                (stands.map(|write| (write, encrypted)), Some(usual), Some(mode), owners)
            }
            What::Link { target, owners } => (Some((Write::Link(target), false)), None, None, owners),
            What::Directory { mode, owners } => {
                if matches!(way, Way::New) {
                    said.push(("type", Said::Text("directory".to_owned())));
                }
                (None, Some(0o755), Some(mode), owners)
            }
            What::Package(_) | What::Unit(_) => return Err(Left::new(id.as_str(), "not-there", "it is no file")),
        };
        let directory = said.iter().any(|(name, _)| *name == "type");
        let key = place::key(path).filter(|key| !directory || key == path);
        let attributes = [
            ("owner", owners.owner.clone().unwrap_or_else(|| "root".to_owned()), owners.owner.is_some()),
            ("group", owners.group.clone().unwrap_or_else(|| "root".to_owned()), owners.group.is_some()),
            ("mode", format!("{:04o}", mode.unwrap_or_default()), mode.is_some() && mode != usual),
        ];
        let whole = attributes.iter().filter(|(name, ..)| *name != "mode" || mode.is_some());
        let whole = whole.map(|(name, value, _)| (*name, value.clone())).collect();
        for (name, value, unusual) in attributes {
            let say = match &way {
                Way::Complete(missing) => missing.iter().any(|missing| missing == name),
                // What the entry says of what was there before must not stay.
                Way::Over { .. } => unusual || key.as_ref().is_some_and(|key| manifest.has("files", key, &[name])),
                Way::New | Way::Declared(_) => unusual,
            };
            if say {
                said.push((name, Said::Text(value)));
            }
        }
        if !said.is_empty() {
            let key = key.ok_or_else(|| {
                let why = "its name holds a character that patterns in [files] are made of";
                Left::new(id.as_str(), "bad-path", why)
            })?;
            self.add(id, Entry { table: "files", key, says: Says::Attributes(said) }, manifest)?;
        }
        attributed.insert(id.clone(), whole);
        let (at, write, encrypted) = match (way, stands) {
            (Way::Complete(_), _) | (_, None) => return Ok(self.in_manifest()),
            (Way::Over { at, .. }, Some((write, encrypted))) => (at, write, encrypted),
            (_, Some((write, encrypted))) => (place::of(self.layer, path, encrypted), write, encrypted),
        };
        if writes.contains_key(&at) {
            let why = format!("{at} is the place of another file that is adopted: adopt one of them by hand");
            return Err(Left::new(id.as_str(), "exists", why));
        }
        writes.insert(at.clone(), write);
        Ok(Outcome::Adopted { place: at, encrypted })
    }

    /// What is written of a file, and whether that is encrypted.
    fn stands(
        &self,
        id: &Id,
        way: &Way,
        (content, mode): (Plain, u32),
        (suspected, suspicions): (bool, &[suspect::Suspicion]),
        manifest: &mut Manifest,
    ) -> Result<(Option<Write>, bool), Left> {
        let sealed = match way {
            Way::Complete(_) => {
                let leaf = place::leaf(self.snapshot, self.layer, id.name());
                return Ok((None, leaf.is_some_and(|(_, suffix)| suffix == secret::SUFFIX)));
            }
            Way::Over { at, sealed: false } if suspected && self.encrypt => {
                let why = format!(
                    "{at} is there in the clear, and this looks like a secret: take it out of the repository first"
                );
                return Err(Left::new(id.as_str(), "exists", why));
            }
            Way::Over { sealed, .. } => *sealed,
            Way::New | Way::Declared(_) => false,
        };
        if suspected && !self.encrypt {
            return Err(looks_secret(id, suspicions));
        }
        if suspected || sealed {
            let content = self.sealed(id, &content, manifest)?;
            let mode = if mode & 0o100 != 0 { 0o755 } else { 0o644 };
            return Ok((Some(Write::File { content, mode }), true));
        }
        let at = match way {
            Way::Over { at, .. } => at.clone(),
            _ => place::of(self.layer, id.name(), false),
        };
        if let Some(why) = (self.changed_by_git)(&at, &content) {
            return Err(Left::new(id.as_str(), "not-for-git", why));
        }
        // Git keeps nothing but whether it is executable. Who may not read it may not read this copy either.
        let own = if mode & 0o004 == 0 { 0o600 } else { 0o644 };
        let mode = own | if mode & 0o100 == 0 { 0 } else { own >> 2 & 0o111 };
        Ok((Some(Write::File { content: content.to_vec(), mode }), false))
    }

    fn in_manifest(&self) -> Outcome {
        Outcome::Adopted { place: self.manifest_path(), encrypted: false }
    }

    /// Whether a file may be written into the layer, and how.
    fn way_of_file(
        &self,
        id: &Id,
        wanted: Option<&Wanted>,
        seen: &kinds::Observed,
        manifest: &Manifest,
    ) -> Result<Way, Left> {
        let path = id.name();
        let leaf = place::leaf(self.snapshot, self.layer, path);
        let Some(wanted) = wanted else {
            // It stands there under a condition that does not hold here, or under a name of another path.
            if let Some((at, _)) = leaf {
                return Err(contradicted(id, &at, "declares it already, under a condition that does not hold here"));
            }
            let condition = manifest.has("files", path, &["when"]);
            if condition {
                let at = self.place(self.layer, id);
                return Err(contradicted(id, &at, "says something of it under a condition that does not hold here"));
            }
            return Ok(Way::New);
        };
        let kinds::Spec::File(spec) = &wanted.spec else { return Ok(Way::New) };
        let at = self.place(&wanted.layer, id);
        if spec.what == file::What::Attributes {
            return Err(contradicted(id, &at, "declares its owner and mode only, on purpose"));
        }
        let changes = wanted.spec.diff(seen);
        if changes.is_empty() {
            return Ok(Way::Declared(wanted.layer.clone()));
        }
        let own = wanted.layer == self.layer;
        let attributes: Vec<&str> = changes.iter().map(|change| change.property.as_str()).collect();
        let attributes_only = attributes.iter().all(|name| ["owner", "group", "mode"].contains(name));
        let unsaid = place::key(path).is_some_and(|key| !manifest.has("files", &key, &attributes));
        if own && attributes_only && (unsaid || self.replace) {
            return Ok(Way::Complete(attributes.into_iter().map(str::to_owned).collect()));
        }
        if !own {
            return Err(contradicted(id, &at, &format!("declares it otherwise: {}", told(&changes))));
        }
        match leaf {
            Some((at, "")) if self.replace => Ok(Way::Over { at, sealed: false }),
            Some((at, secret::SUFFIX)) if self.replace && self.encrypt => Ok(Way::Over { at, sealed: true }),
            Some((at, "")) => Err(Left::new(
                id.as_str(),
                "exists",
                format!("{at} is there and differs: {}; --replace overwrites it", told(&changes)),
            )),
            Some((at, secret::SUFFIX)) => Err(Left::new(
                id.as_str(),
                "exists",
                format!("{at} is a secret that differs; --replace --encrypt overwrites it"),
            )),
            Some((at, _)) => Err(contradicted(id, &at, "is a template, and does not come to what stands here")),
            None => Err(contradicted(id, &at, &format!("declares it otherwise: {}", told(&changes)))),
        }
    }

    fn add(&self, id: &Id, entry: Entry, manifest: &mut Manifest) -> Result<(), Left> {
        manifest.add(&entry, self.replace).map_err(|Taken(why)| {
            let at = self.place(self.layer, id);
            Left::new(id.as_str(), "exists", format!("{at}: {why}; --replace overwrites it"))
        })
    }

    /// `plain`, encrypted to those who have to read it: as `trueup secret encrypt` does.
    fn sealed(&self, id: &Id, plain: &[u8], manifest: &mut Manifest) -> Result<Vec<u8>, Left> {
        let left = |why: String| Left::new(id.as_str(), "looks-secret", why);
        if place::is_raw(id.name()) {
            return Err(left(
                "it looks secret, and a name that ends in .j2 or .age cannot be that of a secret".to_owned(),
            ));
        }
        let at = place::of(self.layer, id.name(), true);
        let readers = compile::readers(self.snapshot, &at).map_err(|why| left(format!("{at} {why}")))?;
        let mut to: BTreeSet<Recipient> = readers.known.iter().map(|reader| reader.recipient.clone()).collect();
        let host = self.layer.strip_prefix("hosts/");
        let nameless = |name: &&String| !(host == Some(name.as_str()) && self.own_key.is_some());
        if let Some(name) = readers.nameless.iter().find(nameless) {
            let why = format!(
                "hosts/{} could not read it: put its /etc/ssh/ssh_host_ed25519_key.pub into its host.toml as `recipient` in \
                 [secrets]",
                one_line(name, 100)
            );
            return Err(left(why));
        }
        if !readers.nameless.is_empty()
            && let Some(own) = self.own_key
        {
            let says = Says::Word(own.to_string());
            self.add(id, Entry { table: "secrets", key: "recipient".to_owned(), says }, manifest)?;
            to.insert(own.clone());
        }
        if to.is_empty() {
            return Err(left(
                "it looks like a secret, and nobody is named who could read it: [secrets] of trueup.toml".to_owned(),
            ));
        }
        let to: Vec<Recipient> = to.into_iter().collect();
        secret::seal(plain, &to, true).map_err(left)
    }

    /// Where `layer` declares `id`: a file of its tree, or a line of its manifest.
    fn place(&self, layer: &str, id: &Id) -> String {
        if id.kind() == "file"
            && let Some((at, _)) = place::leaf(self.snapshot, layer, id.name())
        {
            return at;
        }
        let (name, kind) = match layer.starts_with("hosts/") {
            true => ("host.toml", LayerKind::Host),
            false => ("role.toml", LayerKind::Role),
        };
        let path = format!("{layer}/{name}");
        let text = text_of(self.snapshot, &path).unwrap_or_default();
        let (parsed, _, _) = format::parse_layer(&path, &text, kind);
        let span = match id.kind() {
            "file" => parsed.files.iter().find(|entry| entry.path.value == id.name()).map(|entry| &entry.path.span),
            "package" => {
                parsed.packages.iter().find(|entry| entry.name.value == id.name()).map(|entry| &entry.name.span)
            }
            _ => parsed.units.iter().find(|entry| entry.name.value == id.name()).map(|entry| &entry.name.span),
        };
        match span {
            Some(span) => format!("{path}:{}", format::position(&text, span).0),
            None => path,
        }
    }
}

fn contradicted(id: &Id, place: &str, why: &str) -> Left {
    Left::new(id.as_str(), "contradicts", format!("{place} {why}"))
}

fn told(changes: &[Change]) -> String {
    changes.iter().map(Change::to_string).collect::<Vec<_>>().join(", ")
}

fn looks_secret(id: &Id, suspicions: &[suspect::Suspicion]) -> Left {
    let lines: Vec<usize> = suspicions.iter().filter_map(|suspicion| suspicion.line).collect();
    let mut told: Vec<String> = Vec::new();
    let mut kinds: Vec<&str> = Vec::new();
    for suspicion in suspicions {
        if !kinds.contains(&suspicion.what) {
            kinds.push(suspicion.what);
        }
    }
    for what in kinds {
        let at: Vec<String> = suspicions
            .iter()
            .filter(|suspicion| suspicion.what == what)
            .filter_map(|suspicion| suspicion.line.map(|line| line.to_string()))
            .collect();
        told.push(match at.len() {
            0 => what.to_owned(),
            1 => format!("{what} on line {}", at[0]),
            _ => format!("{what} on lines {}", at.join(", ")),
        });
    }
    let message = format!(
        "it looks like a secret: {}; --encrypt writes it encrypted, --in-clear {} as it is",
        told.join("; "),
        one_line(id.name(), 200)
    );
    Left { lines, ..Left::new(id.as_str(), "looks-secret", message) }
}

fn text_of(snapshot: &Snapshot, path: &str) -> Option<String> {
    match snapshot.entries.get(path) {
        Some(source::Entry::File { content, .. }) => Some(String::from_utf8_lossy(content).into_owned()),
        _ => None,
    }
}
