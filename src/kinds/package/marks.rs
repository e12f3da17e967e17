//! Which packages are held and marked once transactions have ended, and what to say of holds. Pure, but for the marking.

use std::collections::BTreeSet;

use super::blame::is_half_there;
use super::fault::Fault;
use super::solve::Open;
use super::tool::{Database, Mark, Tool};
use super::{Observed, Spec, Version, satisfies};
use crate::host::Writer;
use crate::model::one_line;

/// Holds and marks what is there now, each kind of mark in one call.
///
/// # Errors
/// Where the package manager does not take a mark.
pub fn mark<T: Tool>(host: &mut Writer, open: &[Open<'_>], tried: &BTreeSet<usize>) -> Result<(), Fault> {
    let database = T::read(host)?;
    for (mark, names) in marks(&database, open, tried) {
        if !names.is_empty() {
            T::mark(host, mark, &names)?;
        }
    }
    Ok(())
}

/// The marks that what is there lacks. What was `tried` and should be gone is not needed by anything: it is still to go.
fn marks<'o>(database: &impl Database, open: &'o [Open<'_>], tried: &BTreeSet<usize>) -> [(Mark, Vec<&'o str>); 4] {
    let (mut hold, mut unhold, mut manual, mut auto) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for open in open {
        let seen = database.observed(open.name);
        let is_held = match &seen {
            Observed::Installed { held, .. } => *held == Some(true),
            // dnf's locks outlive what they lock.
            _ => database.is_held(open.name),
        };
        if is_held && is_held_no_more(open, &seen) {
            unhold.push(open.name);
        }
        let Observed::Installed { version: there, automatic, held, .. } = seen else { continue };
        match open.want {
            Spec::Left { automatic: was, .. } if *was && !automatic => auto.push(open.name),
            Spec::Present { version, .. } => {
                let ours = matches!(version, Version::Exact(_)) && satisfies(version, &there);
                // apt forgets that it is held when it is told to change it all the same.
                if held == Some(false) && (ours || is_held_by_others(open)) {
                    hold.push(open.name);
                }
                if automatic {
                    manual.push(open.name);
                }
            }
            // It could not go, since something needs it: from now on it goes with that.
            Spec::Released if !automatic && !tried.contains(&open.index) => auto.push(open.name),
            Spec::Left { .. } | Spec::Released | Spec::Absent => {}
        }
    }
    [(Mark::Unhold, unhold), (Mark::Hold, hold), (Mark::Manual, manual), (Mark::Auto, auto)]
}

/// A hold of ours that what was `open` is to lose, `seen` as it is now.
fn is_held_no_more(open: &Open<'_>, seen: &Observed) -> bool {
    match open.want {
        // An exact version stays held.
        want if is_held_as_half_there(open) && !is_half_there(seen) => {
            !matches!(want, Spec::Present { version: Version::Exact(_), .. })
        }
        Spec::Present { unhold, .. } | Spec::Left { unhold, .. } => {
            *unhold && matches!(seen, Observed::Installed { .. })
        }
        Spec::Released => !matches!(seen, Observed::Broken { .. }),
        Spec::Absent => false,
    }
}

/// We hold it, so that apt does not begin with it whatever else it is told to do.
fn is_held_as_half_there(open: &Open<'_>) -> bool {
    open.held && is_half_there(&open.seen)
}

/// What to say of exact versions where nothing can be held at one.
pub fn unheld(database: &impl Database, open: &[Open<'_>]) -> Option<String> {
    let why = database.cannot_hold()?;
    let exact = |open: &&Open<'_>| matches!(open.want, Spec::Present { version: Version::Exact(_), .. });
    let names: Vec<&str> = open.iter().filter(exact).map(|open| open.name).collect();
    (!names.is_empty())
        .then(|| one_line(&format!("not held at the declared version: {}: {why}", names.join(", ")), 300))
}

/// It is held, and not by a declaration, as far as can be told: an exact version is held by one, and so is what is half there
/// by us.
fn is_held_by_others(open: &Open<'_>) -> bool {
    open.held
        && !is_half_there(&open.seen)
        && matches!(open.want, Spec::Present { version: Version::Any | Version::Glob(_), unhold: false, .. })
}

/// What to say of what somebody else holds and what is changed all the same, since a declaration asks for that.
pub fn held_by_others(open: &[Open<'_>], changing: &BTreeSet<usize>) -> Option<String> {
    let held = open.iter().filter(|open| changing.contains(&open.index) && is_held_by_others(open));
    let names: Vec<&str> = held.map(|open| open.name).collect();
    let said = || {
        format!("held on this host, changed all the same as declared, and still held afterwards: {}", names.join(", "))
    };
    (!names.is_empty()).then(|| one_line(&said(), 300))
}

#[cfg(test)]
mod tests {
    use super::super::{Downgrade, played};
    use super::*;

    #[test]
    fn what_is_held_while_half_there_is_not_held_once_it_is_another() {
        let half = || Observed::Broken { status: "half-installed".into(), version: "3.0".into(), essential: false };
        let unpacked = || Observed::Broken { status: "unpacked".into(), version: "3.0".into(), essential: false };
        let any = Spec::present(Version::Any, Downgrade::default());
        let exact = Spec::present(Version::Exact("3.0".to_owned()), Downgrade::default());
        let lifted = |want: &Spec, seen: Observed, now: Observed| {
            is_held_no_more(&Open { index: 0, name: "a", want, seen, held: true }, &now)
        };
        for now in [unpacked(), played::there(), played::gone()] {
            for want in [&any, &Spec::Absent, &Spec::Released] {
                assert!(lifted(want, half(), now.clone()), "{want:?} {now:?}");
            }
            assert!(!lifted(&exact, half(), now), "it stays held");
        }
        assert!(!lifted(&any, half(), half()), "it is still to be mended");
        assert!(!lifted(&any, unpacked(), played::there()), "somebody else's");
    }

    #[test]
    fn a_hold_of_somebody_else_is_told_where_what_it_holds_changes() {
        let glob = Spec::present(Version::Glob("3.*".to_owned()), Downgrade::default());
        let exact = Spec::present(Version::Exact("3.0".to_owned()), Downgrade::default());
        let ours = Spec::Present { version: Version::Any, downgrade: Downgrade::default(), unhold: true, back: false };
        let wants = [("theirs", &glob), ("exact", &exact), ("ours", &ours), ("rests", &glob), ("free", &glob)];
        let open: Vec<Open<'_>> = wants
            .iter()
            .enumerate()
            .map(|(index, (name, want))| {
                let seen = Observed::Absent { config_files: false };
                Open { index, name, want, seen, held: *name != "free" }
            })
            .collect();
        let half = Observed::Broken { status: "half-installed".into(), version: "3.0".into(), essential: false };
        assert!(!is_held_by_others(&Open { index: 5, name: "ours", want: &glob, seen: half, held: true }));
        let told = held_by_others(&open, &BTreeSet::from([0, 1, 2, 4])).expect("one is held");
        assert!(told.starts_with("held on this host, changed all the same") && told.ends_with(": theirs"), "{told}");
        assert_eq!(held_by_others(&open, &BTreeSet::from([1, 2, 4])), None);
    }
}
