//! `[units]` of all layers, and the units that unit files and drop-ins make known.

use std::collections::{BTreeMap, BTreeSet};

use globset::GlobMatcher;

use super::files::{self, Files};
use super::merge::Claim;
use super::paths::{self, is_or_below};
use super::tree::{Leaf, LeafContent, UNITS};
use super::work::Work;
use crate::kinds;
use crate::kinds::file::What;
use crate::kinds::file::protected::is_our_unit;
use crate::kinds::unit::{self, OnChange, ReloadFailed, Spec, TYPES};
use crate::manifest::{At, Problem, UnitEntry};
use crate::model::{Id, one_line};

const LINKS_HINT: &str = "say it in [units]: \"NAME.service\" = \"on\" enables a unit by its own [Install] section";

/// Whether `name` can be the name of a unit, and why not.
fn well_named(name: &str) -> Result<(), String> {
    let Some((stem, suffix)) = name.rsplit_once('.') else {
        return Err("a unit's name ends in its type".to_owned());
    };
    if !TYPES.contains(&suffix) {
        return Err(format!("`.{}` is no type of unit", one_line(suffix, 40)));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    if stem.is_empty() || stem.starts_with('@') || name.len() > 255 || !stem.bytes().all(allowed) {
        return Err(format!("a unit cannot be called `{}`", one_line(name, 100)));
    }
    Ok(())
}

/// Whether `name` is a template, `x@.service`.
fn is_template(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, _)| stem.ends_with('@'))
}

/// Whether a leaf of `units/` stands where a unit file or a drop-in can stand.
pub(super) fn fits_tree(leaf: &Leaf) -> Result<(), Problem> {
    no_links_into(leaf)?;
    let inside = leaf.path.strip_prefix(UNITS).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&leaf.path);
    let hint = "units/ holds unit files (app.service) and drop-ins (nginx.service.d/limits.conf); other files belong in files/";
    match inside.split_once('/') {
        None => well_named(inside).map_err(|why| leaf.place.error(why).hint(hint))?,
        Some(_) if is_of_units(inside) => {}
        Some(_) => return Err(leaf.place.error("this is neither a unit file nor a drop-in").hint(hint)),
    }
    match &leaf.content {
        LeafContent::Symlink(target) if target == "/dev/null" && !inside.contains('/') => Err(leaf
            .place
            .error("a unit is not masked by a link")
            .hint(format!("say \"{}\" = \"masked\" in [units]", one_line(inside, 100)))),
        _ => Ok(()),
    }
}

/// Whether what stands at `path`, a link of systemd's own by its place, enables a unit.
pub fn is_enabling(path: &str) -> bool {
    let inside = path.strip_prefix(UNITS).and_then(|rest| rest.strip_prefix('/'));
    let directory = inside.and_then(|inside| inside.split_once('/')).map(|(directory, _)| directory);
    directory.is_some_and(|directory| [".wants", ".requires", ".upholds"].iter().any(|end| directory.ends_with(end)))
}

/// Whether `inside`, a path within `units/`, is that of a unit file or a drop-in.
pub fn is_of_units(inside: &str) -> bool {
    match inside.split_once('/') {
        None => well_named(inside).is_ok(),
        Some((directory, file)) => {
            let of = directory.strip_suffix(".d");
            let known = of.is_some_and(|of| TYPES.contains(&of) || well_named(of).is_ok());
            known && !file.contains('/') && file.ends_with(".conf") && file != ".conf"
        }
    }
}

/// Refuses the links by which units are enabled: they are systemd's own.
pub(super) fn no_links_into(leaf: &Leaf) -> Result<(), Problem> {
    if !is_enabling(&leaf.path) {
        return Ok(());
    }
    let directory = leaf.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let directory = directory.strip_prefix(UNITS).unwrap_or(directory).trim_start_matches('/');
    let message = format!("units are not enabled by files in `{}/`", one_line(directory, 100));
    Err(leaf.place.error(message).hint(LINKS_HINT))
}

/// The unit that the file at `path` belongs to; `None` for templates, and for drop-ins of many units.
fn unit_of(path: &str) -> Option<&str> {
    let directory = unit::DIRECTORIES.iter().find(|directory| is_or_below(path, directory))?;
    let inside = path.strip_prefix(directory)?.strip_prefix('/')?;
    let name = match inside.split_once('/') {
        None => inside,
        Some((directory, file)) if file.ends_with(".conf") && !file.contains('/') => directory.strip_suffix(".d")?,
        Some(_) => return None,
    };
    let stem = name.rsplit_once('.')?.0;
    // `foo-.service.d` is for all units whose names begin with `foo-`.
    let of_many = stem.ends_with('-') || is_template(name);
    (well_named(name).is_ok() && !of_many).then_some(name)
}

pub(super) fn compile(work: &mut Work<'_>, files: &Files) {
    let layers = work.layers;
    let mut declared: BTreeMap<String, Vec<(usize, &UnitEntry)>> = BTreeMap::new();
    for (layer, here) in layers.0.iter().enumerate() {
        for entry in &here.layer.units {
            if let Some(problem) = misnamed(work, layer, entry) {
                work.problems.push(problem);
            } else if work.holds(layer, entry.when.as_ref()) {
                declared.entry(entry.name.value.clone()).or_default().push((layer, entry));
            }
        }
    }
    for (name, layer) in made_known(work) {
        if !declared.contains_key(&name) {
            work.add(Id::new("unit", &name), kinds::Spec::Unit(Spec::default()), layer, None, None);
        }
    }
    for (name, entries) in declared {
        unit(work, &name, &entries, files);
    }
}

fn misnamed(work: &Work<'_>, layer: usize, entry: &UnitEntry) -> Option<Problem> {
    let name = &entry.name;
    let why = well_named(&name.value).err()?;
    let problem = work.place(layer, &name.span).error(why);
    let service = format!("{}.service", name.value);
    let typed = TYPES.iter().any(|suffix| name.value.ends_with(&format!(".{suffix}")));
    Some(problem.hint(match name.value.contains('.') || well_named(&service).is_err() {
        false => format!("did you mean \"{service}\"?"),
        true if typed => "it is letters, digits and : - _ . \\ @, 255 at most".to_owned(),
        true => format!("a name ends in one of: .{}", TYPES.join(", .")),
    }))
}

/// Units that a declared unit file or drop-in belongs to, and the layer that declares it.
fn made_known(work: &Work<'_>) -> BTreeMap<String, usize> {
    let mut known = BTreeMap::new();
    for (id, wanted) in &work.resources {
        let kinds::Spec::File(spec) = &wanted.spec else { continue };
        if matches!(spec.what, What::Regular { .. } | What::Sealed { .. })
            && let Some(unit) = unit_of(id.name())
            && let Some(layer) = work.layers.0.iter().position(|here| here.name == wanted.layer)
        {
            known.entry(unit.to_owned()).or_insert(layer);
        }
    }
    known
}

fn unit(work: &mut Work<'_>, name: &str, entries: &[(usize, &UnitEntry)], files: &Files) {
    let shown = one_line(name, 100);
    let flag = |flag: &Option<bool>| flag.map_or("left alone".to_owned(), |flag| flag.to_string());
    let enabled = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.enabled.as_ref())).collect();
    let enabled = work.settle(enabled, &format!("`enabled` of unit:{shown}"), flag);
    let active = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.active.as_ref())).collect();
    let active = work.settle(active, &format!("`active` of unit:{shown}"), flag);
    let masked = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.masked.as_ref())).collect();
    let masked = work.settle(masked, &format!("`masked` of unit:{shown}"), ToString::to_string);
    let on_change = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.on_change.as_ref())).collect();
    let on_change = work.settle(on_change, &format!("`on_change` of unit:{shown}"), |word| match word {
        OnChange::Restart => "restart".to_owned(),
        OnChange::Reload => "reload".to_owned(),
        OnChange::Start => "start".to_owned(),
        OnChange::None => "none".to_owned(),
    });
    let failed = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.reload_failed.as_ref())).collect();
    let reload_failed = work.settle(failed, &format!("`reload_failed` of unit:{shown}"), |word| match word {
        ReloadFailed::Report => "report".to_owned(),
        ReloadFailed::Restart => "restart".to_owned(),
    });
    let validate = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.validate.as_ref())).collect();
    let validate = work.settle(validate, &format!("`validate` of unit:{shown}"), |words| words.join(" "));
    let drifts = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.drift.as_ref())).collect();
    let drift = work.settle(drifts, &format!("`drift` of unit:{shown}"), ToString::to_string);
    let releases = entries.iter().filter_map(|(layer, entry)| work.claim(*layer, entry.release.as_ref())).collect();
    let release = work.settle(releases, &format!("`release` of unit:{shown}"), ToString::to_string);
    impossible(work, name, enabled.as_ref(), active.as_ref(), masked.as_ref());
    if is_our_unit(name) {
        own_end(work, name, [enabled.as_ref(), active.as_ref()], masked.as_ref());
    }
    let spec = Spec {
        enabled: enabled.and_then(|claim| claim.value),
        active: active.and_then(|claim| claim.value),
        masked: masked.map(|claim| claim.value),
        on_change: on_change.map(|claim| claim.value).unwrap_or_default(),
        watch: watch(work, entries, files, |entry| &entry.watch),
        watch_restart: watch(work, entries, files, |entry| &entry.watch_restart),
        watch_reload: watch(work, entries, files, |entry| &entry.watch_reload),
        reload_failed: reload_failed.map(|claim| claim.value).unwrap_or_default(),
        validate: validate.map(|claim| claim.value).unwrap_or_default(),
    };
    let layer = entries.last().map_or(0, |(layer, _)| *layer);
    let (drift, release) = (drift.map(|claim| claim.value), release.map(|claim| claim.value));
    work.add(Id::new("unit", name), kinds::Spec::Unit(spec), layer, drift, release);
}

/// Tells of states that no unit can be in.
fn impossible(
    work: &mut Work<'_>,
    name: &str,
    enabled: Option<&Claim<Option<bool>>>,
    active: Option<&Claim<Option<bool>>>,
    masked: Option<&Claim<bool>>,
) {
    let shown = one_line(name, 100);
    let wanted = |claim: Option<&Claim<Option<bool>>>| claim.filter(|claim| claim.value == Some(true)).cloned();
    if let Some(active) = wanted(active).filter(|_| is_template(name)) {
        let hint = format!("name an instance, such as \"{}\"", shown.replacen("@.", "@1.", 1));
        work.problems.push(active.place.error(format!("`{shown}` is a template and cannot be active")).hint(hint));
    }
    if let Some(masked) = masked.filter(|masked| masked.value) {
        for (word, claim) in [("enabled", wanted(enabled)), ("active", wanted(active))] {
            if let Some(claim) = claim {
                let place = masked.place.show(work.snapshot);
                work.problems.push(claim.place.error(format!("`{shown}` cannot be {word} and masked (at {place})")));
            }
        }
    }
}

/// Tells of what would end trueup itself, so that no later commit could bring it back.
fn own_end(work: &mut Work<'_>, name: &str, states: [Option<&Claim<Option<bool>>>; 2], masked: Option<&Claim<bool>>) {
    let shown = one_line(name, 100);
    let places = ["disabled", "inactive"].into_iter().zip(states).filter_map(|(word, claim)| {
        claim.filter(|claim| claim.value == Some(false)).map(|claim| (word, claim.place.clone()))
    });
    let masked = masked.filter(|claim| claim.value).map(|claim| ("masked", claim.place.clone()));
    for (word, place) in places.chain(masked) {
        let problem = place.error(format!("`{shown}` is trueup's own and cannot be {word}"));
        work.problems.push(problem.hint("only root on the host ends trueup").reason("self-trust"));
    }
}

/// The patterns of all layers together, each once.
fn watch(
    work: &mut Work<'_>,
    entries: &[(usize, &UnitEntry)],
    files: &Files,
    of: impl Fn(&UnitEntry) -> &[At<String>],
) -> Vec<String> {
    let mut patterns = BTreeSet::new();
    for (layer, entry) in entries {
        for said in of(entry) {
            match watched(said, files) {
                Ok((pattern, matches)) => {
                    if !matches {
                        let message = format!("nothing that is declared matches `{}`", one_line(&said.value, 200));
                        work.problems.push(work.place(*layer, &said.span).note(message));
                    }
                    patterns.insert(pattern);
                }
                Err(why) => work.problems.push(work.place(*layer, &said.span).error(why)),
            }
        }
    }
    patterns.into_iter().collect()
}

fn watched(said: &At<String>, files: &Files) -> Result<(String, bool), String> {
    let pattern = paths::canonical_pattern(&said.value).map_err(|refused| refused.why)?;
    let matcher: GlobMatcher = files::matcher(&pattern)?;
    let matches = files.paths.iter().any(|path| matcher.is_match(path));
    Ok((pattern, matches))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_units() {
        for good in [
            "a.service",
            "getty@tty1.service",
            "x@.service",
            "-.mount",
            "dev-sda1.device",
            "a.b.timer",
            "home-\\x2da.mount",
        ] {
            assert_eq!(well_named(good), Ok(()), "{good}");
        }
        for bad in ["nginx", "", ".service", "a b.service", "a.conf", "a/b.service", "@.service", "a.service\n"] {
            assert!(well_named(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_unit_file_or_drop_in_belongs_to_its_unit() {
        assert_eq!(unit_of("/etc/systemd/system/app.service"), Some("app.service"));
        assert_eq!(unit_of("/etc/systemd/system/nginx.service.d/limits.conf"), Some("nginx.service"));
        assert_eq!(unit_of("/usr/lib/systemd/system/app@1.socket"), Some("app@1.socket"));
        for none in [
            "/etc/systemd/system/app@.service",
            "/etc/systemd/system/service.d/x.conf",
            "/etc/systemd/system/a-.service.d/x.conf",
            "/etc/systemd/system/x.d/a/b.conf",
            "/etc/systemd/journald.conf",
            "/etc/systemd/systems/a.service",
            "/etc/systemd/system",
        ] {
            assert_eq!(unit_of(none), None, "{none}");
        }
    }
}
