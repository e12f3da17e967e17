//! What is in an exclusive directory and nobody declares is wanted absent, each thing as a resource of its own: so it is
//! planned, guarded, kept, held back, let go and undone as any other.

use std::collections::BTreeSet;
use std::path::Path;

use crate::compile::{Desired, Unlisted, Wanted};
use crate::config::Settings;
use crate::host::{Error, NodeType, Reader};
use crate::kinds::Spec;
use crate::kinds::file::{self, Exclusive, Ignored, Strangers};
use crate::ledger::Ledger;
use crate::model::{Drift, Id};

/// What is no stranger, besides what is wanted.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    /// Files of the agent's own.
    pub(super) own: &'a [&'a Path],
    /// What is declared, where what is wanted is only what was delivered of that.
    pub(super) due: Vec<&'a Id>,
}

/// Adds the strangers of every exclusive directory to what is wanted. What `met` names, and what is known of earlier
/// passes, stays wanted absent also where nothing is there now.
pub(super) fn find<'m>(
    host: &Reader,
    known: &Known<'_>,
    desired: &mut Desired,
    ledger: &mut Ledger,
    met: impl Iterator<Item = &'m Id>,
) {
    let directories: Vec<(Id, Wanted)> = desired
        .declared()
        .filter(|(_, wanted)| wanted.exclusive.is_some())
        .map(|(id, wanted)| (id.clone(), wanted.clone()))
        .collect();
    if directories.is_empty() {
        return;
    }
    host.say("looking for strangers in exclusive directories");
    let (declared, unresolved) = match names(host, known, desired) {
        Ok(declared) => (declared, None),
        Err(error) => (BTreeSet::new(), Some(error.chain())),
    };
    let nothing = Exclusive::default();
    let asked: Vec<(&str, &Exclusive)> =
        directories.iter().map(|(id, wanted)| (id.name(), wanted.exclusive.as_ref().unwrap_or(&nothing))).collect();
    let looked = match unresolved {
        None => file::strangers(host, &asked, &declared),
        // What is to be there may stand under another name than any that is known.
        Some(why) => asked.iter().map(|(path, _)| Err(unknown(path, &why))).collect(),
    };
    let all: BTreeSet<&str> = directories.iter().map(|(id, _)| id.name()).collect();
    let met: BTreeSet<Id> = met.cloned().collect();
    for (((id, wanted), (_, exclusive)), looked) in directories.iter().zip(&asked).zip(looked) {
        let inside = Inside { id, wanted, ignored: exclusive.ignored(), all: &all, declared: &declared };
        inside.add(host, desired, ledger, &met, looked);
    }
}

/// What is wanted, with what would go from exclusive directories on a host of which nothing is known yet.
pub fn with_strangers(host: &Reader, settings: &Settings, mut desired: Desired) -> Desired {
    let known = Known { own: &settings.trusted_files(), due: Vec::new() };
    find(host, &known, &mut desired, &mut Ledger::default(), std::iter::empty());
    desired
}

/// Every name of what is to be there: as it is declared, and without the links on the way.
///
/// # Errors
/// Where one of them cannot be told.
fn names(host: &Reader, known: &Known<'_>, desired: &Desired) -> Result<BTreeSet<String>, Error> {
    let mut names = BTreeSet::new();
    let mut add = |path: &str| {
        match host.canonical(path) {
            Ok(real) => drop(names.insert(real)),
            // Where a file stands on the way nothing can stand behind it. What does not answer is where it is mounted.
            Err(Error::InTheWay { .. } | Error::NotAnswering { .. }) => {}
            Err(error) => return Err(error),
        }
        names.insert(path.to_owned());
        Ok(())
    };
    let declared = desired.resources.keys().chain(known.due.iter().copied());
    declared.filter(|id| id.kind() == "file").try_for_each(|id| add(id.name()))?;
    for path in known.own.iter().filter_map(|path| path.to_str()) {
        host.hops(path)?.iter().try_for_each(|hop| add(hop))?;
    }
    Ok(names)
}

fn unknown(directory: &str, why: &str) -> Error {
    let why = format!("what in it is declared cannot be told: {why}");
    Error::Unknown { thing: directory.to_owned(), why }
}

/// One exclusive directory.
struct Inside<'a> {
    id: &'a Id,
    wanted: &'a Wanted,
    ignored: Ignored,
    all: &'a BTreeSet<&'a str>,
    declared: &'a BTreeSet<String>,
}

impl Inside<'_> {
    fn add(
        &self,
        host: &Reader,
        desired: &mut Desired,
        ledger: &mut Ledger,
        met: &BTreeSet<Id>,
        looked: Result<Strangers, Error>,
    ) {
        let (found, unknown) = match looked {
            Ok(found) => (found, None),
            Err(error) => (Strangers::default(), Some(error)),
        };
        for path in &found.paths {
            desired.resources.insert(Id::new("file", path), self.absent(self.wanted.drift));
        }
        let first = Id::new("file", &format!("{}/", self.id.name()));
        let known = ledger.entries.range(&first..).take_while(|(id, _)| id.as_str().starts_with(first.as_str()));
        let owing: Vec<Id> = known.filter(|(_, entry)| entry.owes()).map(|(id, _)| id.clone()).collect();
        let met = met.range(&first..).take_while(|id| id.as_str().starts_with(first.as_str())).cloned();
        let known: BTreeSet<Id> = owing.into_iter().chain(met).filter(|id| self.concerns(desired, id)).collect();
        for id in known {
            if found.spared.contains(id.name()) {
                // A package has it by now; a copy of what stood there before is kept all the same.
                ledger.entries.remove(&id);
                continue;
            }
            let there = host.look(id.name());
            if unknown.is_none() && matches!(&there, Ok(Some(meta)) if meta.node == NodeType::Directory) {
                // There is something in it that stays.
                continue;
            }
            // Where it cannot be told whose it is it is neither removed nor let go.
            let left_alone = unknown.is_some() && !matches!(there, Ok(None));
            let drift = if left_alone { Drift::Ignore } else { self.wanted.drift };
            desired.resources.insert(id, self.absent(drift));
        }
        let told = match (&unknown, found.unnameable.first()) {
            (Some(error), _) => Some(Unlisted { reason: error.reason(), message: error.chain(), but_names: false }),
            (None, Some(first)) => {
                let count = found.unnameable.len();
                let why = format!(
                    "{count} names in it cannot be written down ({first}); nobody declares them, and they stay"
                );
                let message = format!("{}: {why}", self.id.name());
                Some(Unlisted { reason: "cannot-tell", message, but_names: true })
            }
            (None, None) => None,
        };
        desired.unlisted.extend(told.map(|told| (self.id.clone(), told)));
    }

    /// Whether `id`, which is below this directory, is nobody's but its own to judge.
    fn concerns(&self, desired: &Desired, id: &Id) -> bool {
        let within = id.name().strip_prefix(self.id.name()).and_then(|rest| rest.strip_prefix('/'));
        let nearest = file::ancestors(id.name()).find(|above| self.all.contains(above));
        !desired.resources.contains_key(id)
            && nearest == Some(self.id.name())
            && !self.is_needed(id.name())
            && !within.is_some_and(|within| self.ignored.covers(within))
    }

    /// Whether something is to be at `path`, or below it.
    fn is_needed(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        let below = self.declared.range(inside.clone()..).next();
        self.declared.contains(path) || below.is_some_and(|below| below.starts_with(&inside))
    }

    fn absent(&self, drift: Drift) -> Wanted {
        let spec = file::Spec::of(file::What::Absent);
        let stranger_of = Some(self.id.clone());
        Wanted { spec: Spec::File(spec), drift, exclusive: None, stranger_of, ..self.wanted.clone() }
    }
}
