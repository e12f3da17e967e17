use toml::de::DeTable;

use super::types::Fleet;
use super::walk::Walk;
use super::{FORMAT, Problem, sections, version};
use crate::model::one_line;

const KEYS: &[&str] = &["format", "requires", "guard", "policy", "secrets", "vars"];

/// Keys of layers, which people put here by mistake.
const OF_LAYERS: &[&str] = &["checks", "facts", "files", "machine_id", "packages", "roles", "units"];

/// Reads `trueup.toml`, whose path in the repository is `path`, for this version of the agent. What could be read is
/// returned beside what is wrong; the last part is `false` where the text is not TOML. Where the file is for a newer agent, that is the
/// one thing told of it.
pub fn parse_fleet(path: &str, text: &str) -> (Fleet, Vec<Problem>, bool) {
    parse_for(env!("CARGO_PKG_VERSION"), path, text)
}

fn parse_for(agent: &str, path: &str, text: &str) -> (Fleet, Vec<Problem>, bool) {
    let mut walk = Walk::new(path);
    let (table, whole) = walk.document(text);
    let mut head = Walk::new(path);
    if !for_this_agent(&mut head, &table, agent, whole) {
        // The rest may hold words of a newer format, so nothing of it is judged.
        return (Fleet::default(), head.problems, whole);
    }
    let mut fleet = Fleet::default();
    for (key, value) in &table {
        match key.get_ref().as_ref() {
            "format" | "requires" => {}
            "policy" => fleet.policy = sections::policy(&mut walk, value),
            "guard" => fleet.max_removals = sections::guard(&mut walk, value),
            "secrets" => fleet.recipients = sections::secrets(&mut walk, value),
            "vars" => fleet.vars = sections::vars(&mut walk, value),
            other if OF_LAYERS.contains(&other) => walk.error_hint(
                key.span(),
                format!("`{other}` does not belong in trueup.toml"),
                "it belongs in a host.toml or a role.toml",
            ),
            other => walk.unknown(other, key.span(), KEYS),
        }
    }
    walk.problems.append(&mut head.problems);
    if !whole {
        walk.forget_guesses(text);
    }
    (fleet, walk.problems, whole)
}

/// Judges `format` and `requires`; `false` where the file is for a newer agent.
fn for_this_agent(walk: &mut Walk<'_>, table: &DeTable<'_>, agent: &str, whole: bool) -> bool {
    let get = |name: &str| table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value);
    match get("format") {
        None if whole => walk.problems.push(
            Problem::error(walk.path(), None, "trueup.toml does not say its `format`")
                .hint(format!("put `format = {FORMAT}` at its top")),
        ),
        None => {}
        Some(value) => match walk.count("format", value, u64::MAX) {
            Some(format) if format.value > FORMAT => {
                walk.problems.push(
                    Problem::error(
                        walk.path(),
                        Some(format.span),
                        format!(
                            "`format` {} is newer than this agent ({agent}), which knows format {FORMAT}",
                            format.value
                        ),
                    )
                    .hint("bring the agent up to date")
                    .reason("agent-too-old"),
                );
                return false;
            }
            Some(format) if format.value < FORMAT => {
                walk.error_hint(
                    format.span,
                    format!("there is no `format` {}", format.value),
                    format!("it is {FORMAT}"),
                );
            }
            _ => {}
        },
    }
    let Some(requires) = get("requires").and_then(|value| walk.text("requires", value)) else { return true };
    match version::satisfied(&requires.value, agent) {
        Ok(true) => {}
        Ok(false) => {
            let wanted = one_line(&requires.value, 40);
            walk.problems.push(
                Problem::error(
                    walk.path(),
                    Some(requires.span),
                    format!("this repository requires {wanted}; this agent is {agent}"),
                )
                .hint("bring the agent up to date")
                .reason("agent-too-old"),
            );
            return false;
        }
        Err(wrong) => walk.error(requires.span, wrong),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        parse_for("0.2.0", "trueup.toml", text).1.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn the_smallest_is_a_format() {
        assert_eq!(told("format = 1"), Vec::<String>::new());
        assert_eq!(told(""), ["trueup.toml does not say its `format`"]);
    }

    #[test]
    fn of_a_newer_format_nothing_else_is_judged() {
        let (_, problems, _) = parse_for("0.2.0", "trueup.toml", "format = 2\nnew = 1\n[vars]\nx = {}\n[[policy]]");
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].message, "`format` 2 is newer than this agent (0.2.0), which knows format 1");
        assert_eq!(problems[0].reason, Some("agent-too-old"));
    }

    #[test]
    fn an_agent_too_old_is_told_before_unknown_keys() {
        let (_, problems, _) = parse_for("0.2.0", "trueup.toml", "format = 1\nrequires = \">=0.3\"\nnew = 1\n");
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].reason, Some("agent-too-old"));
        assert_eq!(told("format = 1\nrequires = \">=0.2\"\nnew = 1\n"), ["unknown key `new`"]);
    }

    #[test]
    fn wrong_values_are_told() {
        assert_eq!(told("format = 0"), ["there is no `format` 0"]);
        assert_eq!(told("format = \"1\""), ["`format` must be a whole number, not a string"]);
        assert_eq!(told("format = -1").len(), 1);
        assert_eq!(told("format = 1\nrequires = \"\""), ["`requires` is empty"]);
        assert_eq!(told("format = 1\nrequires = \"0.3\"").len(), 1);
        assert_eq!(told("format = 1\nroles = []"), ["`roles` does not belong in trueup.toml"]);
    }
}
