//! What is read together with other files is judged together with them, too: a file that is right by itself may say what
//! another has said before, or not say any more what another needs.

use std::collections::{BTreeMap, BTreeSet};

use super::Ground;
use super::validate::{self, has_new_content};
use crate::host::{Error, Trial, Writer};
use crate::kinds::file::{self, Joined, Judge};
use crate::kinds::{Observed, Spec};
use crate::model::Id;
use crate::plan::Step;
use crate::secret::Plain;

/// More than this of one file is not read, nor are more files of a directory: they are then not judged together.
const BYTES: u64 = 1 << 20;
const FILES: usize = 1_000;
/// Of so many new files it is found out which are to blame; of more all are.
const FEW: usize = 8;
/// Where fragments are staged.
const INSIDE: &str = "d";

/// One file of those that are read together, as it will be.
struct New<'p> {
    id: &'p Id,
    path: String,
    /// None where it goes.
    content: Option<Plain>,
    /// It may fail: it is installed with a content that is new.
    judged: bool,
}

/// Judges what `due` makes of files that are read together; what is broken already is held against nobody.
pub(super) fn judge(ground: &mut Ground<'_>, due: &[&Step], failed: &mut BTreeMap<Id, String>) {
    for judge in [Judge::Sudoers, Judge::Sshd] {
        let Some(joined) = judge.joined() else { continue };
        let news: Vec<New<'_>> = due
            .iter()
            .filter(|step| !failed.contains_key(&step.id))
            .filter_map(|step| new(ground, step, &joined))
            .collect();
        let mut blamed: Vec<&New<'_>> = news.iter().filter(|new| new.judged).collect();
        if blamed.is_empty() || ground.host.interrupted() {
            continue;
        }
        let secret = due.iter().any(|step| step.secret && news.iter().any(|new| *new.id == step.id))
            || ground.ledger.entries.iter().any(|(id, entry)| reads(&joined, id) && entry.is_secret());
        let all: Vec<&New<'_>> = news.iter().collect();
        let Err(why) = verdict(ground.host, &judge, &joined, &all, secret) else { continue };
        if verdict(ground.host, &judge, &joined, &[], secret).is_err() {
            continue;
        }
        if (2..=FEW).contains(&blamed.len()) {
            // Without whom would it be right?
            let mut rightly = blamed.clone();
            rightly.retain(|one| {
                let rest: Vec<&New<'_>> = news.iter().filter(|new| new.id != one.id).collect();
                verdict(ground.host, &judge, &joined, &rest, secret).is_ok()
            });
            if !rightly.is_empty() {
                blamed = rightly;
            }
        }
        failed.extend(blamed.into_iter().map(|new| (new.id.clone(), why.clone())));
    }
}

/// Whether `id` is one of the files that are read together.
fn reads(joined: &Joined, id: &Id) -> bool {
    id.kind() == "file" && joined.reads(id.name())
}

/// What `step` makes of one of the files that are read together.
fn new<'p>(ground: &Ground<'_>, step: &'p Step, joined: &Joined) -> Option<New<'p>> {
    let (Spec::File(spec), Observed::File(_)) = (&step.want, &step.seen) else { return None };
    let path = step.seen.known_as(&step.id);
    if !joined.reads(path) {
        return None;
    }
    let content = match &spec.what {
        file::What::Absent => None,
        // What is not to be had fails when it is to be written.
        file::What::Regular { .. } => {
            Some(file::content(ground.host, ground.payloads, step.id.name(), spec).ok().flatten()?)
        }
        _ => return None,
    };
    let judged = content.is_some() && has_new_content(step);
    Some(New { id: &step.id, path: path.to_owned(), content, judged })
}

/// What the judge says of the files that stand there, and of `news` in their places.
fn verdict(host: &mut Writer, judge: &Judge, joined: &Joined, news: &[&New<'_>], secret: bool) -> Result<(), String> {
    host.say(&format!("judging {} with all that it includes", joined.main));
    // What cannot be laid out together was judged by itself.
    let Ok(Some((trial, staged))) = stage(host, joined, news) else { return Ok(()) };
    let Some((command, properties)) = validate::command(host, judge, &staged) else { return Ok(()) };
    let output = validate::run(host, &command, properties)?;
    let inside = trial.path().join(INSIDE);
    let both = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
    let text = String::from_utf8_lossy(&both).replace(&*inside.to_string_lossy(), joined.directory);
    let said = validate::last_lines(&text.replace(&staged, joined.main));
    match output.status {
        0 => Ok(()),
        _ if *judge == Judge::Sshd && file::sshd_cannot_tell(&said) => Ok(()),
        status if secret => Err(validate::unsaid(&command[0], status)),
        status => Err(validate::refusal(&command[0], &said, status)),
    }
}

/// Lays them out: a copy of the main file, which includes copies of the fragments. None where there is no main file, or
/// it is none that can be read so.
fn stage(host: &Writer, joined: &Joined, news: &[&New<'_>]) -> Result<Option<(Trial, String)>, Error> {
    let find = |path: &str| news.iter().find(|new| new.path == path);
    let content = |path: &str| match find(path) {
        Some(new) => Ok(new.content.clone()),
        None => host.read_following(path, BYTES).map(|content| content.map(Plain::from)),
    };
    let Some(main) = content(joined.main)? else { return Ok(None) };
    let Ok(text) = std::str::from_utf8(&main) else { return Ok(None) };
    let inside = format!("{}/", joined.directory);
    let mut names: BTreeSet<String> = host.list(joined.directory)?.into_iter().collect();
    names.extend(news.iter().filter_map(|new| new.path.strip_prefix(&inside).map(ToOwned::to_owned)));
    if names.len() > FILES {
        return Ok(None);
    }
    let trial = host.trial()?;
    for name in names {
        // What is no file there is not read as one either.
        if let Ok(Some(content)) = content(&format!("{inside}{name}")) {
            trial.put(&format!("{INSIDE}/{name}"), &content)?;
        }
    }
    let text = joined.with_directory(text, &trial.path().join(INSIDE).to_string_lossy());
    let name = joined.main.rsplit('/').next().unwrap_or(joined.main);
    let staged = trial.put(name, text.as_bytes())?.to_string_lossy().into_owned();
    Ok(Some((trial, staged)))
}
