//! Packages and units, which a manifest declares.

use super::super::manifest::{Entry, Manifest, Says};
use super::super::units;
use super::{Left, Outcome, Weigh, contradicted};
use crate::compile::Wanted;
use crate::kinds::{self, package, unit};
use crate::model::{Change, Id};

impl Weigh<'_> {
    pub(super) fn package(
        &self,
        id: &Id,
        version: Option<String>,
        wanted: Option<&Wanted>,
        seen: &kinds::Observed,
        manifest: &mut Manifest,
    ) -> Result<Outcome, Left> {
        if let Some(Wanted { spec, layer, .. }) = wanted {
            let own = layer == self.layer;
            // Whether it is held, or marked as installed automatically, follows from its being declared.
            let changes: Vec<Change> = spec.diff(seen);
            let otherwise = changes.iter().any(|change| ["state", "version"].contains(&change.property.as_str()));
            let is = |exact: &str| matches!(spec, kinds::Spec::Package(package::Spec::Present { version: package::Version::Exact(said), .. }) if said == exact);
            if !otherwise && version.as_deref().is_none_or(is) {
                return Ok(Outcome::Declared(layer.clone()));
            }
            let at = self.place(layer, id);
            let over = own && self.replace;
            if otherwise && !over {
                let shown: Vec<String> = changes.iter().map(Change::to_string).collect();
                let why = format!("declares it otherwise: {}", shown.join(", "));
                return Err(match own {
                    true => Left::new(id.as_str(), "exists", format!("{at} {why}; --replace overwrites it")),
                    false => contradicted(id, &at, &why),
                });
            }
        } else if manifest.has("packages", id.name(), &[]) {
            let at = self.place(self.layer, id);
            return Err(contradicted(id, &at, "declares it under a condition that does not hold here"));
        }
        let word = version.unwrap_or_else(|| "present".to_owned());
        let entry = Entry { table: "packages", key: id.name().to_owned(), says: Says::Word(word) };
        self.add(id, entry, manifest)?;
        Ok(self.in_manifest())
    }

    pub(super) fn unit(
        &self,
        id: &Id,
        state: units::State,
        wanted: Option<&Wanted>,
        seen: &kinds::Observed,
        manifest: &mut Manifest,
    ) -> Result<Outcome, Left> {
        let mut state = state;
        if let Some(Wanted { spec: kinds::Spec::Unit(spec), layer, .. }) = wanted {
            let own = layer == self.layer;
            let changes = kinds::Spec::Unit(spec.clone()).diff(seen);
            let over = own && self.replace;
            if !changes.is_empty() && !over {
                let at = self.place(layer, id);
                let shown: Vec<String> = changes.iter().map(Change::to_string).collect();
                let why = format!("declares it otherwise: {}", shown.join(", "));
                return Err(match own {
                    true => Left::new(id.as_str(), "exists", format!("{at} {why}; --replace overwrites it")),
                    false => contradicted(id, &at, &why),
                });
            }
            if changes.is_empty() {
                state = unsaid(state, spec);
                if state == units::State::default() {
                    return Ok(Outcome::Declared(layer.clone()));
                }
            }
        } else if manifest.has("units", id.name(), &[]) {
            let at = self.place(self.layer, id);
            return Err(contradicted(id, &at, "declares it under a condition that does not hold here"));
        }
        let there = manifest.has("units", id.name(), &[]);
        let says = if there && !self.replace { state.attributes() } else { state.says() };
        self.add(id, Entry { table: "units", key: id.name().to_owned(), says }, manifest)?;
        Ok(self.in_manifest())
    }
}

/// What of `state` `spec` does not say.
fn unsaid(state: units::State, spec: &unit::Spec) -> units::State {
    units::State {
        enabled: state.enabled.filter(|_| spec.enabled.is_none()),
        active: state.active.filter(|_| spec.active.is_none()),
        masked: state.masked.filter(|_| spec.masked.is_none()),
    }
}
