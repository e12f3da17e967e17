use super::types::{Include, Layer, LayerKind};
use super::walk::{Value, Walk};
use super::{Problem, checks, entries, files, sections};

const KEYS: &[&str] =
    &["roles", "machine_id", "checks", "facts", "files", "guard", "packages", "policy", "secrets", "units", "vars"];

/// Reads the `role.toml` or `host.toml` at `path`. What could be read is returned beside what is wrong; the last
/// part is `false` where the text is not TOML, so that much of it may be missing.
pub fn parse_layer(path: &str, text: &str, kind: LayerKind) -> (Layer, Vec<Problem>, bool) {
    let mut walk = Walk::new(path);
    let (table, whole) = walk.document(text);
    let mut layer = Layer::default();
    for (key, value) in &table {
        match (key.get_ref().as_ref(), kind) {
            ("roles", _) => layer.roles = roles(&mut walk, value),
            ("machine_id", LayerKind::Host) => layer.machine_id = sections::machine_id(&mut walk, value),
            ("machine_id", LayerKind::Role) => {
                walk.error_hint(key.span(), "`machine_id` does not belong in a role.toml", "it belongs in a host.toml");
            }
            ("format" | "requires", _) => {
                let name = key.get_ref();
                walk.error_hint(key.span(), format!("`{name}` does not belong here"), "it belongs in trueup.toml");
            }
            ("checks", _) => layer.checks = checks::checks(&mut walk, value),
            ("facts", _) => layer.facts = sections::facts(&mut walk, value),
            ("files", _) => layer.files = files::files(&mut walk, value),
            ("guard", _) => layer.max_removals = sections::guard(&mut walk, value),
            ("packages", _) => layer.packages = entries::packages(&mut walk, value),
            ("policy", _) => layer.policy = sections::policy(&mut walk, value),
            ("secrets", LayerKind::Host) => layer.recipients = sections::secrets(&mut walk, value),
            ("secrets", LayerKind::Role) => {
                let hint = "recipients are those of a host (host.toml) or of the fleet (trueup.toml)";
                walk.error_hint(key.span(), "`secrets` does not belong in a role.toml", hint);
            }
            ("units", _) => layer.units = entries::units(&mut walk, value),
            ("vars", _) => layer.vars = sections::vars(&mut walk, value),
            (other, _) => walk.unknown(other, key.span(), KEYS),
        }
    }
    if !whole {
        walk.forget_guesses(text);
    }
    (layer, walk.problems, whole)
}

fn roles(walk: &mut Walk<'_>, value: &Value<'_>) -> Vec<Include> {
    let mut includes = Vec::new();
    for element in walk.array("roles", value).unwrap_or_default() {
        if element.get_ref().is_str() {
            includes.extend(walk.text("role", element).map(|role| Include { role, when: None }));
            continue;
        }
        if !element.get_ref().is_table() {
            walk.error_hint(
                element.span(),
                "a role must be a string or a table",
                "write \"web\", or { role = \"web\", when = \"…\" }",
            );
            continue;
        }
        includes.extend(conditional(walk, element));
    }
    includes
}

fn conditional(walk: &mut Walk<'_>, element: &Value<'_>) -> Option<Include> {
    let (mut role, mut when) = (None, None);
    let mut named = false;
    for (key, value) in element.get_ref().as_table()? {
        match key.get_ref().as_ref() {
            "role" => {
                named = true;
                role = walk.text("role", value);
            }
            "when" => when = walk.text("when", value),
            other => walk.unknown(other, key.span(), &["role", "when"]),
        }
    }
    if !named {
        walk.error_hint(element.span(), "this names no role", "write { role = \"web\", when = \"…\" }");
    }
    Some(Include { role: role?, when })
}
