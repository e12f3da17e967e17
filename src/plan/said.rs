//! What the system's own programs say of secrets that they read. Pure.

use crate::compile::Desired;
use crate::host::Error;
use crate::kinds::{Activation, Spec};
use crate::ledger::Ledger;
use crate::model::Id;

/// Reasons of which the message is in words of a program, which may quote what it reads.
const QUOTES: &[&str] = &["program-failed", "index-failed", "download-failed"];

/// `error` of what reads the files of `what`, without what was said where one of them is a secret, or may still be.
pub fn said(error: Error, what: Activation, desired: &Desired, ledger: &Ledger) -> Error {
    let quotes = QUOTES.contains(&error.reason());
    if quotes && reads_secrets(what, desired, ledger) { error.unsaid() } else { error }
}

/// Whether one of the files of `what` is a secret, or may still be.
pub fn reads_secrets(what: Activation, desired: &Desired, ledger: &Ledger) -> bool {
    let reads = |id: &Id, spec: &Spec| spec.activations(id.name()).contains(&what);
    let is_declared = desired.resources.iter().any(|(id, wanted)| wanted.spec.is_secret() && reads(id, &wanted.spec));
    is_declared
        || ledger.entries.iter().any(|(id, entry)| {
            let last = entry.applied.as_ref().or(entry.intended.as_deref());
            entry.is_secret() && last.is_some_and(|spec| reads(id, spec))
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kinds::file::{self, Sealed, What};
    use crate::ledger::{Entry, Origin};
    use crate::model::{Digest, Drift, Release};

    #[test]
    fn what_reads_a_secret_is_not_heard_and_what_does_not_is() {
        let spec = |secret: bool| {
            let what = What::Regular { content: Digest::of(b"x"), size: 1 };
            Spec::File(file::Spec { secret: secret.then(|| Sealed(Digest::of(b"y"))), ..file::Spec::of(what) })
        };
        let of = |path: &str, secret: bool| {
            let mut ledger = Ledger::default();
            let mut entry = Entry::new(Origin::Adopted, Drift::Correct, Release::Restore, "");
            entry.applied = Some(spec(secret));
            ledger.entries.insert(Id::new("file", path), entry);
            ledger
        };
        let desired = Desired {
            host: String::new(),
            resources: BTreeMap::new(),
            update: None,
            max_removals: None,
            checks: BTreeMap::new(),
            unlisted: BTreeMap::new(),
        };
        let failed = || Error::Program {
            program: "systemd-sysctl".to_owned(),
            status: "exit status: 1".to_owned(),
            tail: "Couldn't write 's3cret'".to_owned(),
        };
        let told = |ledger: &Ledger, what| said(failed(), what, &desired, ledger).chain();
        let sysctl = of("/etc/sysctl.d/50-x.conf", true);
        let silent = "systemd-sysctl ended with exit status: 1: what was said is not shown, since a secret was read";
        assert_eq!(told(&sysctl, Activation::Sysctl), silent);
        assert!(told(&sysctl, Activation::Tmpfiles).contains("s3cret"), "it reads others");
        assert!(told(&of("/etc/sysctl.d/50-x.conf", false), Activation::Sysctl).contains("s3cret"));
        let sources = of("/etc/apt/sources.list.d/x.list", true);
        for (reason, shown) in [("download-failed", false), ("index-failed", false), ("package-lock-held", true)] {
            let error = Error::Refused { thing: "app".to_owned(), reason, why: "http://h/s3cret".to_owned() };
            let told = said(error, Activation::PackageIndex, &desired, &sources);
            assert_eq!((told.reason(), told.chain().contains("s3cret")), (reason, shown));
        }
    }
}
