//! What came of it, for people and for programs.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::outlook::Outlook;
use super::weigh::{Outcome, Weighed};
use super::{Adopt, Scene};
use crate::model::one_line;

pub(super) struct Told<'a> {
    pub(super) adopt: &'a Adopt,
    pub(super) root: &'a Path,
    pub(super) scene: &'a Scene<'a>,
    pub(super) weighed: &'a Weighed,
    pub(super) outlook: &'a Outlook,
    pub(super) written: bool,
    /// The host includes the role that was written to.
    pub(super) includes: bool,
}

/// The JSON form.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    command: &'static str,
    host: &'a str,
    layer: &'a str,
    written: bool,
    resources: Vec<Line<'a>>,
    files: Vec<&'a str>,
    differences: Vec<DifferenceLine<'a>>,
    refused: Option<Refused<'a>>,
    notes: &'a [String],
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    id: &'a str,
    outcome: &'static str,
    place: Option<&'a str>,
    encrypted: bool,
    layer: Option<&'a str>,
    reason: Option<&'a str>,
    message: Option<&'a str>,
    lines: &'a [usize],
}

#[derive(Debug, Serialize)]
struct DifferenceLine<'a> {
    id: &'a str,
    changes: &'a [String],
    layer: &'a str,
}

#[derive(Debug, Serialize)]
struct Refused<'a> {
    reason: &'a str,
    message: &'a str,
}

pub(super) fn tell(told: &Told<'_>) -> anyhow::Result<()> {
    if told.adopt.ground.json {
        return super::super::print_json(&document(told));
    }
    super::super::print(&text(told));
    Ok(())
}

/// Nothing was written, since it does not compile.
pub(super) fn refused(adopt: &Adopt, scene: &Scene<'_>, problems: &str, adopted: bool) -> anyhow::Result<()> {
    if adopt.ground.json {
        return super::super::print_json(&serde_json::json!({
            "version": 1, "command": "adopt", "host": scene.name, "layer": scene.layer, "written": false,
            "resources": [], "files": [], "differences": [], "refused": null, "notes": [], "problems": problems,
        }));
    }
    super::super::tell(problems);
    super::super::tell(match adopted {
        true => "trueup: nothing was written: with what was adopted the repository would not compile for this host\n",
        false => "trueup: nothing was written: the repository does not compile for this host as it is\n",
    });
    Ok(())
}

fn document<'a>(told: &'a Told<'_>) -> Document<'a> {
    let taken = told.weighed.outcomes.iter().map(|(id, outcome)| {
        let line = Line {
            id: id.as_str(),
            outcome: "declared",
            place: None,
            encrypted: false,
            layer: None,
            reason: None,
            message: None,
            lines: &[],
        };
        match outcome {
            Outcome::Adopted { place, encrypted } => Line {
                outcome: "adopted",
                place: Some(place),
                encrypted: *encrypted,
                layer: Some(&told.scene.layer),
                ..line
            },
            Outcome::Declared(layer) => Line { layer: Some(layer), ..line },
        }
    });
    let left = told.weighed.left.iter().map(|left| Line {
        id: &left.id,
        outcome: "left-out",
        place: None,
        encrypted: false,
        layer: None,
        reason: Some(left.reason),
        message: Some(&left.message),
        lines: &left.lines,
    });
    Document {
        version: 1,
        command: "adopt",
        host: &told.scene.name,
        layer: &told.scene.layer,
        written: told.written,
        resources: taken.chain(left).collect(),
        files: told.weighed.writes.keys().map(String::as_str).collect(),
        differences: told
            .outlook
            .differences
            .iter()
            .map(|one| DifferenceLine { id: one.id.as_str(), changes: &one.changes, layer: &one.layer })
            .collect(),
        refused: told.outlook.refused.as_ref().map(|stop| Refused { reason: &stop.reason, message: &stop.message }),
        notes: &told.weighed.notes,
    }
}

fn text(told: &Told<'_>) -> String {
    let Told { weighed, scene, .. } = told;
    let ids =
        weighed.outcomes.iter().map(|(id, _)| id.as_str()).chain(weighed.left.iter().map(|left| left.id.as_str()));
    let width = ids.map(|id| id.chars().count()).max().unwrap_or(0).min(60);
    let mut out = String::new();
    let mut line = |sign: char, id: &str, what: &str| {
        let _ = writeln!(out, "  {sign} {:width$}  {}", one_line(id, 200), one_line(what, 600));
    };
    let (mut adopted, mut declared) = (0, 0);
    for (id, outcome) in &weighed.outcomes {
        match outcome {
            Outcome::Adopted { place, encrypted } => {
                adopted += 1;
                let how = if *encrypted { "   encrypted" } else { "" };
                line('+', id.as_str(), &format!("{place}{how}"));
            }
            Outcome::Declared(layer) => {
                declared += 1;
                line('=', id.as_str(), &format!("already declared by {layer}"));
            }
        }
    }
    for left in &weighed.left {
        line('!', &left.id, &format!("left out, {}: {}", left.reason, left.message));
    }
    for note in &weighed.notes {
        let _ = writeln!(out, "  note: {}", one_line(note, 400));
    }
    let verb = if told.written { "adopted into" } else { "to be adopted into" };
    let _ = writeln!(
        out,
        "{adopted} {verb} {}, {declared} already declared, {} left out.",
        scene.layer,
        weighed.left.len()
    );
    differences(&mut out, told);
    if !told.includes {
        let role = scene.layer.trim_start_matches("roles/");
        let _ = writeln!(
            out,
            "hosts/{} does not include {}: add \"{role}\" to `roles` of its host.toml.",
            scene.name, scene.layer
        );
    }
    next(&mut out, told);
    out
}

fn differences(out: &mut String, told: &Told<'_>) {
    const SHOWN: usize = 50;
    let Outlook { differences, refused } = told.outlook;
    if let Some(stop) = refused {
        let message = one_line(&stop.message, 600);
        let _ =
            writeln!(out, "A pass here would change nothing, {}: {message}. Mend that before you push.", stop.reason);
    } else if differences.is_empty() {
        out.push_str("A plan here would be empty.\n");
    }
    if differences.is_empty() {
        return;
    }
    let _ = writeln!(out, "A plan here would change:");
    for one in differences.iter().take(SHOWN) {
        let changes = one_line(&one.changes.join(", "), 300);
        let _ = writeln!(out, "  ~ {}  {changes}   {}", one_line(one.id.as_str(), 200), one.layer);
    }
    if differences.len() > SHOWN {
        let _ = writeln!(out, "  and {} more", differences.len() - SHOWN);
    }
}

fn next(out: &mut String, told: &Told<'_>) {
    if !told.written {
        out.push_str("Nothing was written.\n");
        return;
    }
    let root = told.root.display();
    // What somebody has ignored there may be what is not to be seen: nothing is added by force.
    let _ = writeln!(
        out,
        "Nothing is committed. In {root}: git add {0}; git status --ignored {0} (is anything of it ignored?); \
         git diff --cached; trueup check; git commit; git push",
        told.scene.layer
    );
}
