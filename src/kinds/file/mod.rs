//! Files: regular files, directories, symbolic links, absence. The name is the canonical absolute path.

use std::collections::BTreeSet;

use crate::host::{Error, Payloads, Reader, Writer};
use crate::kinds::{Activation, Around, Foreseen, Job, Kind, Need, Phase};
use crate::model::{Cause, Change, Detail, Digest, Id};
use crate::secret::Locked;

mod activation;
mod apply;
mod before;
mod diff;
mod exclusive;
mod explain;
mod judge;
mod observed;
mod obstacle;
pub mod protected;
mod secret;
mod spec;
mod tree;
mod turn;
mod written;

pub use activation::unit_of;
pub use apply::sweep;
pub use before::{Before, Kept};
pub use exclusive::{Exclusive, Ignored, Strangers, strangers};
pub use explain::keep;
pub use judge::{Joined, Judge, judges, sshd_cannot_tell, unit_complaints, unit_file};
pub use observed::{Observed, Owner, Present, Standing, is_like};
pub use secret::{content, seal, sealed};
pub use spec::{Replace, Sealed, Spec, What, over_own};
pub use tree::{Node, goes_whole, keep_tree, tree_size};
pub use turn::{Turn, turn};

/// The kind whose word is `file`.
#[derive(Debug)]
pub struct File;

/// What is looked into, and kept of a file before it is overwritten, has at most this many bytes.
const KEEP: u64 = 256 << 20;

impl Kind for File {
    const WORD: &'static str = "file";
    type Spec = Spec;
    type Observed = Observed;
    type Before = Before;

    fn describe(want: &Spec) -> String {
        diff::wanted(want)
    }

    fn diff(want: &Spec, seen: &Observed) -> Vec<Change> {
        diff::diff(want, seen)
    }

    fn is_absent(seen: &Observed) -> bool {
        seen.is_absent()
    }

    fn removes(want: &Spec) -> bool {
        want.what == What::Absent
    }

    fn phase(name: &str, want: &Spec, _: &[Change]) -> Phase {
        // A source that goes has to go before packages too, or it is asked once more.
        if is_early(name) {
            Phase::Early
        } else if Self::removes(want) {
            Phase::Removals
        } else {
            Phase::Files
        }
    }

    fn needs(name: &str, want: &Spec) -> Vec<Need> {
        if Self::removes(want) {
            return Vec::new();
        }
        ancestors(name).map(|path| Need::Resource(Id::new(Self::WORD, path))).collect()
    }

    fn before(seen: &Observed) -> Before {
        Before::of(seen)
    }

    fn after(want: &Spec, last: &Spec, before: Option<&Before>) -> Spec {
        before.map_or_else(|| want.clone(), |before| before.after(want, last))
    }

    fn put_back(before: &Before, last: &Spec) -> Option<Spec> {
        before.put_back(last)
    }

    fn renewed(now: &Before, before: &Before) -> Before {
        now.renewed(before)
    }

    fn as_found(before: &Before) -> Option<Spec> {
        before.as_found()
    }

    fn expires(before: &Before) -> bool {
        *before != Before::Absent
    }

    fn content_digest(before: &Before) -> Option<Digest> {
        before.digest()
    }

    fn payload(want: &Spec) -> Option<Digest> {
        want.payload()
    }

    fn is_secret(want: &Spec) -> bool {
        want.secret.is_some()
    }

    fn deferred(_: &str, want: &Spec, _: &Observed, _: &dyn Fn(&Id) -> bool) -> Option<&'static str> {
        let away = want.what == What::Sealed { why: Locked::Away };
        away.then_some("encrypted, and there is no key here to read it with")
    }

    fn overwrites(want: &Spec) -> bool {
        want.what != What::Attributes
    }

    fn obstacle(name: &str, want: &Spec, seen: &Observed, _: Cause) -> Option<Error> {
        // By which name it stands there is known of what stands there; of what does not, the look has asked.
        if let Observed::Present(Present { real: Some(real), .. }) = seen
            && let Err(error) = protected::refuse(name, real, protected::Shape::of(want))
        {
            return Some(error);
        }
        obstacle::obstacle(name, want, seen)
    }

    fn activations(name: &str) -> Vec<Activation> {
        activation::activations(name).to_vec()
    }

    fn observe(host: &Reader, names: &[&str]) -> Vec<Result<Observed, Error>> {
        observed::observe(host, names)
    }

    fn explain(host: &Reader, payloads: &Payloads, name: &str, want: &Spec, seen: &Observed) -> Option<Detail> {
        explain::explain(host, payloads, name, want, seen)
    }

    fn content(host: &Reader, name: &str, seen: &Observed) -> Result<Option<Vec<u8>>, Error> {
        match seen {
            Observed::Present(Present { what: Standing::Regular { digest, size }, .. }) => {
                explain::content(host, name, digest, *size, KEEP).map(Some)
            }
            Observed::Present(Present { what: Standing::Large { size }, .. }) => {
                Err(explain::too_large(name, *size, KEEP))
            }
            _ => Ok(None),
        }
    }

    fn foresee(host: &Reader, jobs: &[Job<'_, Self>], _resting: &BTreeSet<Id>) -> Foreseen {
        let goes = jobs.iter().enumerate().filter(|(_, job)| goes_whole(job.want, job.seen));
        let refused = goes.filter_map(|(at, job)| Some((at, host.tree(job.name, tree::LIMITS).err()?)));
        Foreseen { notes: Vec::new(), refused: refused.collect() }
    }

    fn apply(host: &mut Writer, payloads: &Payloads, jobs: &[Job<'_, Self>], _: &Around<'_>) -> Vec<Result<(), Error>> {
        apply::apply(host, payloads, jobs)
    }
}

/// The directories that `path` lies in, the nearest first, without `/`.
pub fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rfind('/').map(|at| &path[..at]))
        .skip(1)
        .filter(|path| !path.is_empty())
}

/// The directories on the way to `path` that are not there now, the outermost first: those that
/// writing it makes, which go again when they are empty. `goes` are paths of which what stands there goes first.
///
/// # Errors
/// Where that cannot be told.
pub fn implied(host: &Reader, path: &str, goes: &BTreeSet<&str>) -> Result<Vec<String>, Error> {
    let mut missing = Vec::new();
    for above in ancestors(path) {
        let makes_way = !goes.is_empty() && (goes.contains(above) || ancestors(above).any(|path| goes.contains(path)));
        if !makes_way && host.look(above)?.is_some() {
            break;
        }
        missing.push(above.to_owned());
    }
    missing.reverse();
    Ok(missing)
}

/// Whether package managers or systemd-sysusers(8) read `path`.
fn is_early(path: &str) -> bool {
    const BELOW: &[&str] = &[
        "/etc/apt/",
        "/usr/share/keyrings/",
        "/etc/dpkg/",
        "/etc/sysusers.d/",
        "/usr/lib/sysusers.d/",
        "/usr/local/lib/sysusers.d/",
        "/etc/yum.repos.d/",
        "/etc/dnf/",
        "/etc/yum/",
        "/etc/pki/rpm-gpg/",
        "/etc/zypp/",
        "/etc/pacman.d/",
    ];
    path == "/etc/pacman.conf"
        || BELOW.iter().any(|below| path.starts_with(below) || below.strip_suffix('/') == Some(path))
}

#[cfg(test)]
mod tests;
