//! `[packages]` of all layers.

use std::collections::BTreeMap;

use super::merge::Claim;
use super::work::Work;
use crate::kinds;
use crate::kinds::package::{Downgrade, Spec, Version};
use crate::manifest::{PackageEntry, State};
use crate::model::{Facts, Family, Id, one_line};

pub(super) fn compile(work: &mut Work<'_>) {
    let layers = work.layers;
    let native = native(work.facts);
    let mut declared: BTreeMap<&str, Vec<(usize, &PackageEntry)>> = BTreeMap::new();
    for (layer, here) in layers.0.iter().enumerate() {
        for entry in &here.layer.packages {
            let name = entry.name.value.as_str();
            if !well_named(name, work.facts.os.as_ref().and_then(|os| os.family)) {
                let message = format!("a package cannot be called `{}`", one_line(name, 100));
                work.problems.push(work.place(layer, &entry.name.span).error(message).hint(name_hint(name)));
            } else if work.holds(layer, entry.when.as_ref()) {
                let said = declared.entry(canonical(name, &native)).or_default();
                match said.iter().find(|(other, _)| *other == layer) {
                    Some((_, other)) => {
                        let first = work.place(layer, &other.name.span).show(work.snapshot);
                        let (a, b) = (one_line(&other.name.value, 100), one_line(name, 100));
                        let message = format!("`{a}` ({first}) and `{b}` are two names of one package");
                        work.problems.push(work.place(layer, &entry.name.span).error(message));
                    }
                    None => said.push((layer, entry)),
                }
            }
        }
    }
    for (name, entries) in declared {
        package(work, name, &entries);
    }
}

/// The one name by which the package `name` is known on a host of which this is known.
pub fn package_name<'n>(name: &'n str, facts: &Facts) -> &'n str {
    canonical(name, &native(facts))
}

fn native(facts: &Facts) -> [&str; 2] {
    facts.arch.as_deref().map(|arch| [arch, debian_name(arch)]).unwrap_or_default()
}

/// The one name of a package: the architecture is part of it only where that is a foreign one.
fn canonical<'n>(name: &'n str, native: &[&str]) -> &'n str {
    match name.split_once(':') {
        Some((bare, arch)) if ["native", "any", "all", "noarch"].contains(&arch) || native.contains(&arch) => bare,
        _ => name,
    }
}

/// What Debian calls the architecture that uname(2) calls `arch`; see dpkg-architecture(1).
fn debian_name(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i486" | "i586" | "i686" => "i386",
        "armv7l" | "armv8l" => "armhf",
        "armv6l" | "armv5tel" => "armel",
        "ppc64le" => "ppc64el",
        "mips64" => "mips64el",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// deb-control(5): lower case, digits, plus, minus, dot, two characters at least. rpm also has capitals and `_`.
fn well_named(name: &str, family: Option<Family>) -> bool {
    let (package, arch) = name.split_once(':').map_or((name, None), |(package, arch)| (package, Some(arch)));
    let debian = family == Some(Family::Debian);
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || (!debian && b.is_ascii_uppercase());
    let arch_fits = arch
        .is_none_or(|arch| !arch.is_empty() && arch.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
    (2..=200).contains(&package.len())
        && first(package.as_bytes()[0])
        && package.bytes().all(|b| first(b) || b"+-.".contains(&b) || (!debian && b == b'_'))
        && arch_fits
}

fn name_hint(name: &str) -> String {
    match name.split_once('=') {
        Some((name, version)) => format!("write {} = \"{}\"", one_line(name, 100), one_line(version, 100)),
        None if well_named(&name.to_lowercase(), Some(Family::Debian)) => {
            format!("names of Debian's packages are lower case: `{}`", one_line(&name.to_lowercase(), 100))
        }
        None => "it is letters, digits, plus, minus and dots, and may end in :ARCHITECTURE".to_owned(),
    }
}

fn package(work: &mut Work<'_>, name: &str, entries: &[(usize, &PackageEntry)]) {
    let shown = one_line(name, 100);
    let claims = |work: &Work<'_>| {
        let state = |(layer, entry): &(usize, &PackageEntry)| work.claim(*layer, Some(&entry.state));
        entries.iter().filter_map(state).collect::<Vec<Claim<State>>>()
    };
    let states = claims(work);
    let show_state = |state: &State| if *state == State::Present { "present" } else { "absent" }.to_owned();
    let Some(state) = work.settle(states, &format!("package:{shown}"), show_state) else { return };
    // "present" beside a version is the version, so who says no version says nothing of it.
    let versions = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.version.as_ref())).collect();
    let version = work.settle(versions, &format!("`version` of package:{shown}"), |version| match version {
        Version::Any => "any".to_owned(),
        Version::Exact(version) | Version::Glob(version) => version.clone(),
    });
    let downgrades = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.downgrade.as_ref())).collect();
    let downgrade = work.settle(downgrades, &format!("`downgrade` of package:{shown}"), |downgrade| match downgrade {
        Downgrade::Never => "never".to_owned(),
        Downgrade::Intended => "intended".to_owned(),
        Downgrade::Always => "always".to_owned(),
    });
    let drifts = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.drift.as_ref())).collect();
    let drift = work.settle(drifts, &format!("`drift` of package:{shown}"), ToString::to_string);
    let releases = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.release.as_ref())).collect();
    let release = work.settle(releases, &format!("`release` of package:{shown}"), ToString::to_string);
    let spec = match state.value {
        State::Absent => Spec::Absent,
        State::Present => Spec::present(
            version.as_ref().map(|claim| claim.value.clone()).unwrap_or_default(),
            downgrade.map(|claim| claim.value).unwrap_or_default(),
        ),
    };
    let layer = version.filter(|_| state.value == State::Present).map_or(state.layer, |version| version.layer);
    let (drift, release) = (drift.map(|claim| claim.value), release.map(|claim| claim.value));
    work.add(Id::new("package", name), kinds::Spec::Package(spec), layer, drift, release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_foreign_architecture_is_part_of_the_name() {
        let native = ["x86_64", debian_name("x86_64")];
        for name in ["nginx", "nginx:amd64", "nginx:x86_64", "nginx:native", "nginx:any", "nginx:all", "nginx:noarch"] {
            assert_eq!(canonical(name, &native), "nginx");
        }
        assert_eq!(canonical("libc6:i386", &native), "libc6:i386");
        assert_eq!(canonical("nginx:amd64", &["aarch64", debian_name("aarch64")]), "nginx:amd64");
    }

    #[test]
    fn names_are_those_that_package_managers_have() {
        let debian = Some(Family::Debian);
        for good in ["nginx", "g++", "libc6:i386", "postgresql-15", "0ad", "libstdc++6.1"] {
            assert!(well_named(good, debian), "{good}");
            assert!(well_named(good, None), "{good}");
        }
        for bad in ["", "a", "-x", "Nginx", "a b", "a=1", "a_b", "nginx:", "--purge", "a/b", "nginx;id", "ü1"] {
            assert!(!well_named(bad, debian), "{bad}");
        }
        for rpm in ["NetworkManager", "python3_x", "compat-libstdc++-33"] {
            assert!(well_named(rpm, Some(Family::Redhat)), "{rpm}");
        }
        assert!(!well_named("-y", None) && !well_named("a b", None) && !well_named("nginx*", None));
    }
}
