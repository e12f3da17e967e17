//! `[vars]` of all layers as one table.

use std::collections::{BTreeMap, BTreeSet};

use super::layers::Layers;
use super::merge::{Claim, Place, undominated};
use crate::manifest::{Var, VarEntry, Vars};

/// `near` over `far`, key by key.
pub(super) fn over(far: &Vars, near: &Vars) -> Vars {
    let mut merged = far.clone();
    for (name, entry) in &near.0 {
        let value = match (merged.0.get(name).map(|entry| &entry.value), &entry.value) {
            (Some(Var::Table(far)), Var::Table(near)) => Var::Table(over(far, near)),
            (_, value) => value.clone(),
        };
        merged.0.insert(name.clone(), VarEntry { key: entry.key.clone(), value });
    }
    merged
}

/// Two layers that contradict each other about a variable.
pub(super) struct Contradiction {
    pub name: String,
    pub one: Claim<String>,
    pub other: Claim<String>,
}

/// The variables of all layers, the nearer before the farther.
pub(super) fn merge(layers: &Layers, contradictions: &mut Vec<Contradiction>) -> Vars {
    let claims = layers.0.iter().enumerate().map(|(layer, here)| (layer, &here.layer.vars)).collect();
    merge_tables(layers, "vars", claims, contradictions)
}

fn merge_tables(layers: &Layers, path: &str, tables: Vec<(usize, &Vars)>, wrong: &mut Vec<Contradiction>) -> Vars {
    let names: BTreeSet<&String> = tables.iter().flat_map(|(_, vars)| vars.0.keys()).collect();
    let mut merged = BTreeMap::new();
    for name in names {
        let claims: Vec<Claim<&VarEntry>> = tables
            .iter()
            .filter_map(|(layer, vars)| Some((*layer, vars.0.get(name)?)))
            .map(|(layer, entry)| Claim {
                layer,
                value: entry,
                place: Place { path: layers.0[layer].manifest.clone(), span: Some(entry.key.clone()) },
            })
            .collect();
        if let Some(entry) = merge_one(layers, &format!("{path}.{name}"), claims, wrong) {
            merged.insert(name.clone(), entry);
        }
    }
    Vars(merged)
}

fn merge_one(
    layers: &Layers,
    path: &str,
    claims: Vec<Claim<&VarEntry>>,
    wrong: &mut Vec<Contradiction>,
) -> Option<VarEntry> {
    let top = undominated(claims.clone(), layers);
    let first = top.first()?;
    if top.iter().all(|claim| matches!(claim.value.value, Var::Table(_))) {
        // Tables further away add to these, unless something that is no table stands between.
        let hidden = |layer: usize| {
            claims
                .iter()
                .any(|claim| !matches!(claim.value.value, Var::Table(_)) && layers.overrules(claim.layer, layer))
        };
        let tables = claims
            .iter()
            .filter(|claim| !hidden(claim.layer))
            .filter_map(|claim| match &claim.value.value {
                Var::Table(vars) => Some((claim.layer, vars)),
                _ => None,
            })
            .collect();
        let value = Var::Table(merge_tables(layers, path, tables, wrong));
        return Some(VarEntry { key: first.value.key.clone(), value });
    }
    if let Some(other) = top.iter().find(|claim| claim.value != first.value) {
        let shown = |claim: &Claim<&VarEntry>| Claim {
            layer: claim.layer,
            value: show(&claim.value.value),
            place: claim.place.clone(),
        };
        wrong.push(Contradiction { name: path.to_owned(), one: shown(first), other: shown(other) });
    }
    top.last().map(|claim| claim.value.clone())
}

fn show(var: &Var) -> String {
    match var {
        Var::Text(text) => format!("\"{text}\""),
        Var::Integer(number) => number.to_string(),
        Var::Float(number) => number.to_string(),
        Var::Boolean(flag) => flag.to_string(),
        Var::Array(array) => format!("[{}]", array.iter().map(show).collect::<Vec<_>>().join(", ")),
        Var::Table(_) => "a table".to_owned(),
    }
}
