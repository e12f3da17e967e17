//! Storey 3: the kinds of resources.
//!
//! **A new kind** is one new folder here, its `pub mod` line and its word in `kinds!` below. In the
//! folder: a type that implements [`Kind`], its `Spec` (what is wanted), `Observed` (what a look
//! found) and `Before` (what stood there, enough to put it back). Questions about values are pure
//! functions; looking takes a [`Reader`], which cannot write; applying takes a [`Writer`], which
//! exists only while the exclusive lock is held. The enums over all kinds are closed: a kind with a
//! missing handler does not compile.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::host::{self, Payloads, Reader, Writer};
use crate::model::{Cause, Change, Detail, Digest, Id};

pub mod file;
pub mod package;
pub mod unit;
mod words;

pub use words::{Activation, Foreseen, Meets, Need, Phase, Refresh, pattern};

/// One kind of managed resource. Everything about it lives in `kinds/<kind>/`.
pub trait Kind: Sized {
    /// What stands before the colon of an id.
    const WORD: &'static str;
    /// What is wanted; "absent" is a value of it, "undeclared" is not. It holds digests, never content.
    type Spec: Clone + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned;
    /// What a look found, absence included.
    type Observed: Clone + PartialEq + std::fmt::Debug;
    /// What stood there before trueup did, enough to put it back.
    type Before: Clone + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned;

    /// What is wanted, in words for people: `0644 root:root, 12 B`. Pure.
    fn describe(want: &Self::Spec) -> String;

    /// What has to change for `seen` to be as `want` says; empty where it is. Pure.
    fn diff(want: &Self::Spec, seen: &Self::Observed) -> Vec<Change>;

    /// Nothing of this name is there.
    fn is_absent(seen: &Self::Observed) -> bool;

    /// Converging to this spec takes something away: a file gone, a package removed.
    fn removes(want: &Self::Spec) -> bool;

    /// When in a pass this is done. Pure.
    fn phase(name: &str, want: &Self::Spec, changes: &[Change]) -> Phase;

    /// The resources that must hold before this one is tried. Pure.
    fn needs(name: &str, want: &Self::Spec) -> Vec<Need>;

    /// What this resource has to do since those in `changed` were written; `None` for most kinds. Pure.
    fn refresh(_name: &str, _want: &Self::Spec, _seen: &Self::Observed, _changed: &BTreeSet<Id>) -> Option<Refresh> {
        None
    }

    /// Why this cannot be done here and is nobody's fault: a unit of a package that a directory does not
    /// have. `declared` says whether a resource is part of the same desired set. Pure.
    fn deferred(
        _name: &str,
        _want: &Self::Spec,
        _seen: &Self::Observed,
        _declared: &dyn Fn(&Id) -> bool,
    ) -> Option<&'static str> {
        None
    }

    /// What stands in the way of converging to `want`, if anything can be told beforehand. Pure.
    fn obstacle(_name: &str, _want: &Self::Spec, _seen: &Self::Observed, _cause: Cause) -> Option<host::Error> {
        None
    }

    /// What the system needs after this name was written or removed. Pure.
    fn activations(_name: &str) -> Vec<Activation> {
        Vec::new()
    }

    /// Whether `seen` is what a pass that was cut short may have left on its way to `want`: a package that is installed in
    /// that version, and not marked yet. Pure.
    fn is_begun(_want: &Self::Spec, _seen: &Self::Observed) -> bool {
        false
    }

    /// What changes whenever it is started anew: a unit's invocation. Pure.
    fn invocation(_seen: &Self::Observed) -> Option<&str> {
        None
    }

    /// The system cannot do without it: an essential package. Pure.
    fn is_protected(_seen: &Self::Observed) -> bool {
        false
    }

    /// Those of `changed` that this resource is declared to use, for which it has to refresh. Pure.
    fn declared_used(_name: &str, _want: &Self::Spec, _changed: &BTreeSet<Id>) -> Vec<Id> {
        Vec::new()
    }

    /// The same, and those that it uses as `seen` tells. Pure.
    fn used(name: &str, want: &Self::Spec, _seen: &Self::Observed, changed: &BTreeSet<Id>) -> Vec<Id> {
        Self::declared_used(name, want, changed)
    }

    /// What to keep of `seen` before trueup first changes it. Pure; contents are kept by digest.
    fn before(seen: &Self::Observed) -> Self::Before;

    /// What to converge to when the declaration goes away; `None` leaves the resource as it is. Pure.
    fn put_back(before: &Self::Before, last: &Self::Spec) -> Option<Self::Spec>;

    /// What converging to `want` comes to where `last` was applied before and `before` stood there before us: what `last`
    /// had set, and nobody asks for any more, goes. It satisfies `want`. Pure.
    fn after(want: &Self::Spec, _last: &Self::Spec, _before: Option<&Self::Before>) -> Self::Spec {
        want.clone()
    }

    /// What of `want` may be done for this cause. Pure.
    fn within(want: &Self::Spec, _cause: Cause) -> Self::Spec {
        want.clone()
    }

    /// Why what was applied does not hold, where `seen` tells: a unit that started and failed. Pure.
    fn fallen(_name: &str, _want: &Self::Spec, _seen: &Self::Observed) -> Option<host::Error> {
        None
    }

    /// What to converge to instead when a resource is let go and what defines it goes too; `None` where that
    /// makes no difference. Pure.
    fn without(_name: &str, _want: &Self::Spec, _goes: &dyn Fn(&Id) -> bool) -> Option<Self::Spec> {
        None
    }

    /// `now` with those properties of `before` that were ours to set since: its owner and mode. Pure.
    fn renewed(now: &Self::Before, _before: &Self::Before) -> Self::Before {
        now.clone()
    }

    /// What stood there, as something to converge to, whatever has been there since. Pure.
    fn as_found(_before: &Self::Before) -> Option<Self::Spec> {
        None
    }

    /// Whether what stood there is kept for a time only, and then left alone. Pure.
    fn expires(_before: &Self::Before) -> bool {
        false
    }

    /// The content that `before` needs to be put back, if it has one. Pure.
    fn content_digest(_before: &Self::Before) -> Option<Digest> {
        None
    }

    /// The content that a spec needs, if it has one. Pure.
    fn payload(_want: &Self::Spec) -> Option<Digest> {
        None
    }

    /// Nothing of its content may be shown. Pure.
    fn is_secret(_want: &Self::Spec) -> bool {
        false
    }

    /// Converging to this spec overwrites content, so that what stands there has to be kept. Pure.
    fn overwrites(_want: &Self::Spec) -> bool {
        true
    }

    /// Looks at `names`, in one batch. "Could not look" is an error of that name, never absence.
    fn observe(host: &Reader, names: &[&str]) -> Vec<Result<Self::Observed, host::Error>>;

    /// What a change of content is, line by line, for the plan. Reads, never writes.
    fn explain(
        _host: &Reader,
        _payloads: &Payloads,
        _name: &str,
        _want: &Self::Spec,
        _seen: &Self::Observed,
    ) -> Option<Detail> {
        None
    }

    /// What converging these jobs would do beside what they say, as far as it can be told without doing it.
    /// `resting` is as in [`Around`]. Reads, never writes.
    fn foresee(_host: &Reader, _jobs: &[Job<'_, Self>], _resting: &BTreeSet<Id>) -> Foreseen {
        Foreseen::default()
    }

    /// The content that stands there now, to be kept before it is overwritten; `None` where this kind
    /// or this state has none.
    fn content(_host: &Reader, _name: &str, _seen: &Self::Observed) -> Result<Option<Vec<u8>>, host::Error> {
        Ok(None)
    }

    /// Converges each job, in one batch; each answers for itself.
    fn apply(
        host: &mut Writer,
        payloads: &Payloads,
        jobs: &[Job<'_, Self>],
        around: &Around<'_>,
    ) -> Vec<Result<(), host::Error>>;
}

/// What is to be left alone while jobs are converged.
#[derive(Debug)]
pub struct Around<'a> {
    /// Suspended or contested: not changed for the sake of a job either.
    pub resting: &'a BTreeSet<Id>,
    /// Names of units that what a job installs would start, and that are started by the pass, later.
    pub withheld: &'a [String],
    /// Which units are declared to be enabled, and which not to be: what is done to another leaves them so.
    pub enablement: &'a unit::Enablement,
}

impl Before {
    /// Every content that is needed to put it back.
    pub fn contents(&self) -> Vec<Digest> {
        let tree = if let Self::File(before) = self { before.of_tree().collect() } else { Vec::new() };
        self.content_digest().into_iter().chain(tree).collect()
    }
}

impl Observed {
    /// By which name the system knows what stands, or is to stand, at `id`: without the symbolic links on the way.
    pub fn known_as<'n>(&'n self, id: &'n Id) -> &'n str {
        let real = if let Self::File(seen) = self { seen.real() } else { None };
        real.unwrap_or_else(|| id.name())
    }
}

impl Spec {
    /// A directory is to be put back with all that was in it.
    pub fn is_tree(&self) -> bool {
        matches!(self, Self::File(file::Spec { what: file::What::Tree { .. }, .. }))
    }

    /// A symbolic link is wanted.
    pub fn is_link(&self) -> bool {
        matches!(self, Self::File(file::Spec { what: file::What::Symlink { .. }, .. }))
    }
}

/// One resource to converge.
#[derive(Debug)]
pub struct Job<'a, K: Kind> {
    /// The name within the kind.
    pub name: &'a str,
    /// What is wanted.
    pub want: &'a K::Spec,
    /// What the look found that the plan was made from.
    pub seen: &'a K::Observed,
}

macro_rules! kinds {
    ($($Kind:ident => $module:ident),+ $(,)?) => {
        /// What is wanted of one resource.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Spec { $(#[allow(missing_docs)] $Kind(<$module::$Kind as Kind>::Spec)),+ }

        /// What a look at one resource found.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Observed { $(#[allow(missing_docs)] $Kind(<$module::$Kind as Kind>::Observed)),+ }

        /// What stood in one resource's place before trueup.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Before { $(#[allow(missing_docs)] $Kind(<$module::$Kind as Kind>::Before)),+ }

        /// The words of all kinds.
        pub const WORDS: &[&str] = &[$(<$module::$Kind as Kind>::WORD),+];

        impl Spec {
            /// The word of its kind.
            pub fn word(&self) -> &'static str {
                match self { $(Self::$Kind(_) => <$module::$Kind as Kind>::WORD),+ }
            }

            /// See [`Kind::describe`].
            pub fn describe(&self) -> String {
                match self { $(Self::$Kind(want) => <$module::$Kind as Kind>::describe(want)),+ }
            }

            /// See [`Kind::diff`]. Values of two kinds cannot be compared and differ in `kind`.
            pub fn diff(&self, seen: &Observed) -> Vec<Change> {
                match (self, seen) {
                    $((Self::$Kind(want), Observed::$Kind(seen)) => <$module::$Kind as Kind>::diff(want, seen),)+
                    #[allow(unreachable_patterns)]
                    _ => vec![Change::new("kind", "", self.word())],
                }
            }

            /// See [`Kind::is_begun`].
            pub fn is_begun(&self, seen: &Observed) -> bool {
                match (self, seen) {
                    $((Self::$Kind(want), Observed::$Kind(seen)) => <$module::$Kind as Kind>::is_begun(want, seen),)+
                    #[allow(unreachable_patterns)]
                    _ => false,
                }
            }

            /// See [`Kind::overwrites`].
            pub fn overwrites(&self) -> bool {
                match self { $(Self::$Kind(want) => <$module::$Kind as Kind>::overwrites(want)),+ }
            }

            /// See [`Kind::payload`].
            pub fn payload(&self) -> Option<Digest> {
                match self { $(Self::$Kind(want) => <$module::$Kind as Kind>::payload(want)),+ }
            }

            /// See [`Kind::is_secret`].
            pub fn is_secret(&self) -> bool {
                match self { $(Self::$Kind(want) => <$module::$Kind as Kind>::is_secret(want)),+ }
            }

            /// See [`Kind::removes`].
            pub fn removes(&self) -> bool {
                match self { $(Self::$Kind(want) => <$module::$Kind as Kind>::removes(want)),+ }
            }

            /// See [`Kind::phase`].
            pub fn phase(&self, name: &str, changes: &[Change]) -> Phase {
                match self { $(Self::$Kind(want) => <$module::$Kind as Kind>::phase(name, want, changes)),+ }
            }

            /// See [`Kind::activations`].
            pub fn activations(&self, name: &str) -> Vec<Activation> {
                match self { $(Self::$Kind(_) => <$module::$Kind as Kind>::activations(name)),+ }
            }

            /// See [`Kind::after`].
            pub fn after(&self, last: &Self, before: Option<&Before>) -> Self {
                match (self, last) {
                    $((Self::$Kind(want), Self::$Kind(last)) => {
                        let before = match before {
                            Some(Before::$Kind(before)) => Some(before),
                            #[allow(unreachable_patterns)]
                            _ => None,
                        };
                        Self::$Kind(<$module::$Kind as Kind>::after(want, last, before))
                    })+
                    #[allow(unreachable_patterns)]
                    _ => self.clone(),
                }
            }

            /// See [`Kind::within`].
            pub fn within(&self, cause: Cause) -> Self {
                match self { $(Self::$Kind(want) => Self::$Kind(<$module::$Kind as Kind>::within(want, cause))),+ }
            }

            /// See [`Kind::fallen`].
            pub fn fallen(&self, name: &str, seen: &Observed) -> Option<host::Error> {
                match (self, seen) {
                    $((Self::$Kind(want), Observed::$Kind(seen)) => <$module::$Kind as Kind>::fallen(name, want, seen),)+
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }

            /// See [`Kind::without`].
            pub fn without(&self, name: &str, goes: &dyn Fn(&Id) -> bool) -> Option<Self> {
                match self { $(Self::$Kind(want) => <$module::$Kind as Kind>::without(name, want, goes).map(Self::$Kind)),+ }
            }

            /// See [`Kind::needs`].
            pub fn needs(&self, name: &str) -> Vec<Need> {
                match self { $(Self::$Kind(want) => <$module::$Kind as Kind>::needs(name, want)),+ }
            }

            /// See [`Kind::deferred`].
            pub fn deferred(&self, name: &str, seen: &Observed, declared: &dyn Fn(&Id) -> bool) -> Option<&'static str> {
                match (self, seen) {
                    $((Self::$Kind(want), Observed::$Kind(seen)) => <$module::$Kind as Kind>::deferred(name, want, seen, declared),)+
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }

            /// See [`Kind::declared_used`].
            pub fn declared_used(&self, name: &str, changed: &BTreeSet<Id>) -> Vec<Id> {
                match self { $(Self::$Kind(want) => <$module::$Kind as Kind>::declared_used(name, want, changed)),+ }
            }

            /// See [`Kind::used`].
            pub fn used(&self, name: &str, seen: &Observed, changed: &BTreeSet<Id>) -> Vec<Id> {
                match (self, seen) {
                    $((Self::$Kind(want), Observed::$Kind(seen)) => <$module::$Kind as Kind>::used(name, want, seen, changed),)+
                    #[allow(unreachable_patterns)]
                    _ => self.declared_used(name, changed),
                }
            }

            /// See [`Kind::obstacle`].
            pub fn obstacle(&self, name: &str, seen: &Observed, cause: Cause) -> Option<host::Error> {
                match (self, seen) {
                    $((Self::$Kind(want), Observed::$Kind(seen)) => <$module::$Kind as Kind>::obstacle(name, want, seen, cause),)+
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }

            /// See [`Kind::refresh`].
            pub fn refresh(&self, name: &str, seen: &Observed, changed: &BTreeSet<Id>) -> Option<Refresh> {
                match (self, seen) {
                    $((Self::$Kind(want), Observed::$Kind(seen)) => <$module::$Kind as Kind>::refresh(name, want, seen, changed),)+
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }

            /// See [`Kind::explain`].
            pub fn explain(&self, host: &Reader, payloads: &Payloads, name: &str, seen: &Observed) -> Option<Detail> {
                match (self, seen) {
                    $((Self::$Kind(want), Observed::$Kind(seen)) => <$module::$Kind as Kind>::explain(host, payloads, name, want, seen),)+
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }
        }

        impl Observed {
            /// See [`Kind::is_absent`].
            pub fn is_absent(&self) -> bool {
                match self { $(Self::$Kind(seen) => <$module::$Kind as Kind>::is_absent(seen)),+ }
            }

            /// See [`Kind::invocation`].
            pub fn invocation(&self) -> Option<&str> {
                match self { $(Self::$Kind(seen) => <$module::$Kind as Kind>::invocation(seen)),+ }
            }

            /// See [`Kind::is_protected`].
            pub fn is_protected(&self) -> bool {
                match self { $(Self::$Kind(seen) => <$module::$Kind as Kind>::is_protected(seen)),+ }
            }

            /// See [`Kind::before`].
            pub fn before(&self) -> Before {
                match self { $(Self::$Kind(seen) => Before::$Kind(<$module::$Kind as Kind>::before(seen))),+ }
            }

            /// See [`Kind::content`].
            pub fn content(&self, host: &Reader, name: &str) -> Result<Option<Vec<u8>>, host::Error> {
                match self { $(Self::$Kind(seen) => <$module::$Kind as Kind>::content(host, name, seen)),+ }
            }
        }

        impl Before {
            /// See [`Kind::renewed`].
            pub fn renewed(&self, before: &Self) -> Self {
                match (self, before) {
                    $((Self::$Kind(now), Self::$Kind(before)) => Self::$Kind(<$module::$Kind as Kind>::renewed(now, before)),)+
                    #[allow(unreachable_patterns)]
                    _ => self.clone(),
                }
            }

            /// See [`Kind::as_found`].
            pub fn as_found(&self) -> Option<Spec> {
                match self { $(Self::$Kind(before) => <$module::$Kind as Kind>::as_found(before).map(Spec::$Kind)),+ }
            }

            /// See [`Kind::expires`].
            pub fn expires(&self) -> bool {
                match self { $(Self::$Kind(before) => <$module::$Kind as Kind>::expires(before)),+ }
            }

            /// See [`Kind::content_digest`].
            pub fn content_digest(&self) -> Option<Digest> {
                match self { $(Self::$Kind(before) => <$module::$Kind as Kind>::content_digest(before)),+ }
            }

            /// See [`Kind::put_back`].
            pub fn put_back(&self, last: &Spec) -> Option<Spec> {
                match (self, last) {
                    $((Self::$Kind(before), Spec::$Kind(last)) => <$module::$Kind as Kind>::put_back(before, last).map(Spec::$Kind),)+
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }
        }

        /// Looks at every id, one batch a kind, in the order given.
        pub fn observe(host: &Reader, ids: &[&Id]) -> Vec<Result<Observed, host::Error>> {
            let mut found: Vec<Option<Result<Observed, host::Error>>> = ids.iter().map(|_| None).collect();
            $({
                let mine: Vec<usize> = (0..ids.len()).filter(|&i| ids[i].kind() == <$module::$Kind as Kind>::WORD).collect();
                if !mine.is_empty() {
                    let names: Vec<&str> = mine.iter().map(|&i| ids[i].name()).collect();
                    for (i, seen) in mine.into_iter().zip(<$module::$Kind as Kind>::observe(host, &names)) {
                        found[i] = Some(seen.map(Observed::$Kind));
                    }
                }
            })+
            found.into_iter().zip(ids).map(|(seen, id)| {
                seen.unwrap_or_else(|| Err(host::Error::Unknown { thing: id.to_string(), why: "no kind of this name".to_owned() }))
            }).collect()
        }

        $(impl Part for $module::$Kind {
            fn part<'a>(job: &AnyJob<'a>) -> Option<Job<'a, Self>> {
                match (job.want, job.seen) {
                    (Spec::$Kind(want), Observed::$Kind(seen)) => Some(Job { name: job.id.name(), want, seen }),
                    _ => None,
                }
            }
        })+

        /// What every job would do beside what it says, one batch a kind; what is `resting` stays as it is.
        pub fn foresee(host: &Reader, jobs: &[AnyJob<'_>], resting: &BTreeSet<Id>) -> Foreseen {
            let mut all = Foreseen::default();
            $({
                let (mine, batch) = batch::<$module::$Kind>(jobs);
                if !batch.is_empty() {
                    let Foreseen { notes, refused } = <$module::$Kind as Kind>::foresee(host, &batch, resting);
                    all.notes.extend(notes);
                    all.refused.extend(refused.into_iter().filter_map(|(at, why)| Some((*mine.get(at)?, why))));
                }
            })+
            all
        }

        /// Converges every job, one batch a kind, in the order given.
        pub fn apply(
            host: &mut Writer,
            payloads: &Payloads,
            jobs: &[AnyJob<'_>],
            around: &Around<'_>,
        ) -> Vec<Result<(), host::Error>> {
            let mut done: Vec<Option<Result<(), host::Error>>> = jobs.iter().map(|_| None).collect();
            $({
                let (mine, batch) = batch::<$module::$Kind>(jobs);
                if !batch.is_empty() {
                    for (i, result) in mine.into_iter().zip(<$module::$Kind as Kind>::apply(host, payloads, &batch, around)) {
                        done[i] = Some(result);
                    }
                }
            })+
            done.into_iter().zip(jobs).map(|(result, job)| {
                result.unwrap_or_else(|| Err(host::Error::Unknown { thing: job.id.to_string(), why: "wanted and observed are of two kinds".to_owned() }))
            }).collect()
        }
    };
}

kinds! { Package => package, File => file, Unit => unit }

/// One resource of any kind to converge.
#[derive(Debug)]
pub struct AnyJob<'a> {
    /// Which.
    pub id: &'a Id,
    /// What is wanted.
    pub want: &'a Spec,
    /// What the look found that the plan was made from.
    pub seen: &'a Observed,
}

/// A kind, as one of all kinds.
trait Part: Kind {
    /// The job, where it is of this kind.
    fn part<'a>(job: &AnyJob<'a>) -> Option<Job<'a, Self>>;
}

/// The jobs of one kind, and their places among all.
fn batch<'a, K: Part>(jobs: &[AnyJob<'a>]) -> (Vec<usize>, Vec<Job<'a, K>>) {
    jobs.iter().enumerate().filter_map(|(i, job)| Some((i, K::part(job)?))).unzip()
}
