//! One file: what the layers say of it, made one.

use std::sync::Arc;

use super::exclusive;
use super::files::{Pattern, Source};
use super::merge::{Claim, Place, undominated};
use super::paths::{self, Regular};
use super::tree::{self, Leaf, LeafContent};
use super::work::Work;
use super::{secrets, source};
use crate::kinds;
use crate::kinds::file::protected::{self, Shape};
use crate::kinds::file::{Replace, Sealed, Spec, What};
use crate::manifest::{At, FileEntry, Problem, Stand};
use crate::model::{Digest, Id, one_line};

/// What the entries of `[files]` say about one path.
pub(super) struct About<'e, 'a> {
    pub path: &'e str,
    /// Entries of this very path, by layer.
    pub exact: &'e [(usize, &'a FileEntry)],
    /// Patterns that match it, the longest first.
    pub patterns: Vec<&'e Pattern<'a>>,
}

impl About<'_, '_> {
    /// The value of one attribute: exact entries before patterns, longer patterns before shorter ones; within that,
    /// what the layers come to.
    pub fn attribute<T: PartialEq + Clone>(
        &self,
        work: &mut Work<'_>,
        name: &str,
        get: impl Fn(&FileEntry) -> Option<&At<T>>,
        show: impl Fn(&T) -> String,
    ) -> Option<Claim<T>> {
        let mut claims: Vec<_> =
            self.exact.iter().filter_map(|(layer, entry)| work.claim(*layer, get(entry))).collect();
        let mut longest = None;
        if claims.is_empty() {
            for pattern in &self.patterns {
                if longest.is_some_and(|longest| pattern.length < longest) {
                    break;
                }
                if let Some(claim) = work.claim(pattern.layer, get(pattern.entry)) {
                    longest = Some(pattern.length);
                    claims.push(claim);
                }
            }
        }
        if claims.is_empty() {
            return None;
        }
        work.settle(claims, &format!("`{name}` of file:{}", one_line(self.path, 200)), show)
    }

    /// Whether the suffixes of its file belong to its name.
    pub fn raw(&self, work: &mut Work<'_>) -> bool {
        let raw = self.attribute(work, "raw", |entry| entry.raw.as_ref(), ToString::to_string);
        raw.is_some_and(|raw| raw.value)
    }

    /// Whether an attribute said at `place` was said of this path alone.
    fn exactly(&self, place: &Place) -> bool {
        self.exact.iter().any(|(_, entry)| {
            let spans = [
                entry.owner.as_ref().map(|at| &at.span),
                entry.group.as_ref().map(|at| &at.span),
                entry.mode.as_ref().map(|at| &at.span),
                entry.validate.as_ref().map(|at| &at.span),
            ];
            spans.into_iter().flatten().any(|span| place.span.as_ref() == Some(span))
        })
    }
}

/// What stands at a path, its content found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub what: What,
    /// As it is stored: of a secret encrypted.
    pub content: Option<Arc<[u8]>>,
    pub mode: Option<u32>,
    pub secret: Option<Sealed>,
}

/// Makes one resource of what the layers say of a path.
pub(super) fn compile(work: &mut Work<'_>, about: &About<'_, '_>, claims: &[Claim<Source>]) {
    let path = about.path;
    // What a layer above replaces is not even rendered.
    let top = undominated(claims.to_vec(), work.layers);
    let mut found = Vec::new();
    let mut broken = false;
    for claim in top {
        match find(work, about, &claim) {
            Ok(value) => found.push(Claim { layer: claim.layer, value, place: claim.place }),
            Err(problem) => {
                work.problems.push(*problem);
                broken = true;
            }
        }
    }
    let stand = work.settle(found, &format!("file:{}", one_line(path, 200)), show_found);
    let owner = about.attribute(work, "owner", |entry| entry.owner.as_ref(), Clone::clone);
    let group = about.attribute(work, "group", |entry| entry.group.as_ref(), Clone::clone);
    let mode = about.attribute(work, "mode", |entry| entry.mode.as_ref(), |mode| format!("{mode:04o}"));
    let replace = about.attribute(work, "replace", |entry| entry.replace.as_ref(), show_replace);
    let validate = about.attribute(work, "validate", |entry| entry.validate.as_ref(), |words| words.join(" "));
    let drift = about.attribute(work, "drift", |entry| entry.drift.as_ref(), ToString::to_string);
    let release = about.attribute(work, "release", |entry| entry.release.as_ref(), ToString::to_string);
    let Some(stand) = stand.filter(|_| !broken) else { return };
    let exclusive = exclusive::settle(work, about, &stand.value.what);
    fitting(work, about, &stand, (owner.as_ref(), group.as_ref(), mode.as_ref()));
    judged(work, about, &stand, validate.as_ref());
    let mut spec = Spec {
        what: stand.value.what.clone(),
        owner: owner.map(|claim| claim.value),
        group: group.map(|claim| claim.value),
        mode: mode.map(|claim| claim.value),
        unlisted: None,
        replace: replace.map(|claim| claim.value).unwrap_or_default(),
        // A pattern may match links and directories among files.
        validate: match stand.value.what {
            What::Regular { .. } | What::Sealed { .. } => validate.map(|claim| claim.value).unwrap_or_default(),
            _ => Vec::new(),
        },
        secret: stand.value.secret,
    };
    complete(&mut spec, stand.value.mode);
    if spec.secret.is_some() {
        if protected::is_fragment(path) {
            let problem = stand.place.error(format!("{path} sets what this agent does, and has to be readable"));
            return work.problems.push(problem.reason("self-trust"));
        }
        secrets::judge(work, &stand.place);
    }
    if let Err(refused) = paths::permitted(path, Shape::of(&spec), regular(&spec, stand.value.content.as_deref())) {
        let problem = stand.place.error(refused.why);
        let problem = Problem { hint: refused.hint.map(str::to_owned), reason: refused.reason, ..problem };
        return work.problems.push(problem);
    }
    if let Some(content) = stand.value.content {
        work.keep(content, &stand.place);
    }
    let (drift, release) = (drift.map(|claim| claim.value), release.map(|claim| claim.value));
    let id = Id::new("file", path);
    work.add(id.clone(), kinds::Spec::File(spec), stand.layer, drift, release);
    if let Some(wanted) = work.resources.get_mut(&id) {
        wanted.exclusive = exclusive;
    }
}

/// Fills in what was not said: root's own, and the mode of what stands there.
fn complete(spec: &mut Spec, mode: Option<u32>) {
    match spec.what {
        What::Absent => (spec.owner, spec.group, spec.mode) = (None, None, None),
        What::Attributes => {}
        What::Regular { .. } | What::Sealed { .. } | What::Directory | What::Tree { .. } | What::Symlink { .. } => {
            spec.owner.get_or_insert_with(|| "root".to_owned());
            spec.group.get_or_insert_with(|| "root".to_owned());
            spec.mode = match spec.what {
                What::Symlink { .. } => None,
                _ => spec.mode.or(mode),
            };
        }
    }
}

fn regular<'a>(spec: &Spec, content: Option<&'a [u8]>) -> Regular<'a> {
    let root = |name: &Option<String>| name.as_deref().is_some_and(|name| name == "root" || name == "0");
    Regular {
        content: content.unwrap_or_default(),
        guarded: root(&spec.owner) && spec.mode.is_some_and(|mode| mode & 0o7022 == 0),
    }
}

type Said<'c> = (Option<&'c Claim<String>>, Option<&'c Claim<String>>, Option<&'c Claim<u32>>);

/// Tells of attributes that what stands there cannot have.
fn fitting(work: &mut Work<'_>, about: &About<'_, '_>, stand: &Claim<Found>, (owner, group, mode): Said<'_>) {
    let mut wrong = Vec::new();
    if let Some(mode) = mode.filter(|mode| mode.value & 0o7000 != 0 && !work.setid) {
        let message = format!("`mode` {:04o} sets setuid, setgid or sticky", mode.value);
        let hint = "the host's own configuration must allow it: setid = true in [policy] of agent.toml";
        wrong.push(mode.place.error(message).hint(hint).reason("setid"));
    }
    let places = [
        ("owner", owner.map(|claim| (claim.layer, &claim.place))),
        ("group", group.map(|claim| (claim.layer, &claim.place))),
        ("mode", mode.map(|claim| (claim.layer, &claim.place))),
    ];
    for (name, said) in places {
        // A pattern may match links and absences among other things, and a layer may overrule what stands there.
        let Some((_, place)) = said.filter(|(layer, place)| *layer == stand.layer && about.exactly(place)) else {
            continue;
        };
        match stand.value.what {
            What::Absent => wrong.push(place.error(format!("what is absent has no `{name}`"))),
            What::Symlink { .. } if name == "mode" => wrong.push(place.error("a symlink has no `mode`")),
            _ => {}
        }
    }
    if stand.value.what == What::Attributes && owner.is_none() && group.is_none() && mode.is_none() {
        let problem = stand.place.error("attributes_only without any attribute");
        wrong.push(problem.hint("say `owner`, `group` or `mode`"));
    }
    work.problems.append(&mut wrong);
}

/// Tells of a `validate` that is given nothing to judge.
fn judged(work: &mut Work<'_>, about: &About<'_, '_>, stand: &Claim<Found>, validate: Option<&Claim<Vec<String>>>) {
    let has_content = matches!(stand.value.what, What::Regular { .. } | What::Sealed { .. });
    // As of other attributes.
    let said = |said: &&Claim<Vec<String>>| said.layer == stand.layer && about.exactly(&said.place);
    if let Some(validate) = validate.filter(said).filter(|_| !has_content) {
        let message = format!("`validate` judges new content, and there is none here ({})", show_found(&stand.value));
        let hint = "say it of a file; a pattern, such as \"/etc/app/**\", means all files of a directory";
        work.problems.push(validate.place.error(message).hint(hint));
    }
}

fn show_replace(replace: &Replace) -> String {
    match replace {
        Replace::Nothing => "nothing",
        Replace::Symlink => "symlink",
        Replace::Directory => "directory",
        Replace::Any | Replace::Own => "any",
    }
    .to_owned()
}

fn show_found(found: &Found) -> String {
    match &found.what {
        _ if found.secret.is_some() => "a secret".to_owned(),
        What::Sealed { .. } => "a secret".to_owned(),
        What::Regular { content, size } => {
            let kind = if found.mode == Some(0o755) { "an executable file" } else { "a file" };
            format!("{kind} ({size} bytes, SHA-256 {}…)", content.short())
        }
        What::Directory | What::Tree { .. } => "a directory".to_owned(),
        What::Symlink { target } => format!("a symlink to {target}"),
        What::Absent => "absent".to_owned(),
        What::Attributes => "attributes_only".to_owned(),
    }
}

/// Finds what a source comes to: renders templates, measures content.
fn find(work: &mut Work<'_>, about: &About<'_, '_>, claim: &Claim<Source>) -> Result<Found, Box<Problem>> {
    let regular = |content: Arc<[u8]>, mode: u32| Found {
        what: What::Regular { content: Digest::of(&content), size: content.len() as u64 },
        content: Some(content),
        mode: Some(mode),
        secret: None,
    };
    let plain = |what: What, mode: Option<u32>| Found { what, content: None, mode, secret: None };
    Ok(match &claim.value {
        Source::Entry(Stand::Inline(text)) => regular(Arc::from(text.as_bytes()), 0o644),
        Source::Entry(Stand::Source(path)) => {
            let raw = about.raw(work);
            let file = source::find(work, claim.layer, path, &claim.place, raw)?;
            let mode = if file.executable { 0o755 } else { 0o644 };
            regular(rendered(work, &file.place, &file.content, file.templates)?, mode)
        }
        Source::Entry(Stand::Directory) => plain(What::Directory, Some(0o755)),
        Source::Entry(Stand::Absent) => plain(What::Absent, None),
        Source::Entry(Stand::Attributes) => plain(What::Attributes, None),
        Source::Entry(Stand::Symlink(target)) => {
            tree::link_target(target).map_err(|why| Box::new(claim.place.error(why)))?;
            plain(What::Symlink { target: target.clone() }, None)
        }
        Source::Leaf(Leaf { place, content, .. }) => match content {
            LeafContent::Symlink(target) => plain(What::Symlink { target: target.clone() }, None),
            LeafContent::File { content, executable, templates, secret: true } => {
                secrets::find(work, place, content, (*executable, *templates))?
            }
            LeafContent::File { content, executable, templates, secret: false } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                regular(rendered(work, place, content, *templates)?, mode)
            }
        },
    })
}

fn rendered(work: &Work<'_>, place: &Place, content: &Arc<[u8]>, templates: usize) -> Result<Arc<[u8]>, Box<Problem>> {
    let mut content = Arc::clone(content);
    for turn in 0..templates {
        let Ok(source) = std::str::from_utf8(&content) else {
            return Err(Box::new(place.error("this template is not UTF-8")));
        };
        match work.scope.render(&place.path, source) {
            Ok(text) => content = text.into(),
            Err(trouble) => {
                // After the first turn the text is no longer that of the file.
                let span = trouble.span.filter(|_| turn == 0);
                return Err(Box::new(Problem { span, hint: trouble.hint, ..place.error(trouble.message) }));
            }
        }
    }
    Ok(content)
}
