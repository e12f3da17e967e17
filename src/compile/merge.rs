//! What several layers say of one thing, made one.

use std::ops::Range;

use super::layers::Layers;
use crate::manifest::{Problem, position};
use crate::model::one_line;
use crate::source::{Entry, Snapshot};

/// A place in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub path: String,
    /// `None` for a file as a whole.
    pub span: Option<Range<usize>>,
}

impl Place {
    pub fn new(path: &str, span: &Range<usize>) -> Self {
        Self { path: path.to_owned(), span: Some(span.clone()) }
    }

    /// `roles/web/role.toml:12`, or the path alone where no line is known.
    pub fn show(&self, snapshot: &Snapshot) -> String {
        let text = match snapshot.entries.get(&self.path) {
            Some(Entry::File { content, .. }) => std::str::from_utf8(content).ok(),
            _ => None,
        };
        match (&self.span, text) {
            (Some(span), Some(text)) => format!("{}:{}", self.path, position(text, span).0),
            _ => self.path.clone(),
        }
    }

    pub fn error(&self, message: impl Into<String>) -> Problem {
        Problem::error(self.path.clone(), self.span.clone(), message)
    }

    pub fn note(&self, message: impl Into<String>) -> Problem {
        Problem::note(self.path.clone(), self.span.clone(), message)
    }
}

/// What one layer says of something.
#[derive(Debug, Clone)]
pub(super) struct Claim<T> {
    /// Its index in [`Layers`].
    pub layer: usize,
    pub value: T,
    pub place: Place,
}

/// Those of `claims` that no layer above them overrules, in the order of the layers.
pub(super) fn undominated<T>(claims: Vec<Claim<T>>, layers: &Layers) -> Vec<Claim<T>> {
    let said: Vec<usize> = claims.iter().map(|claim| claim.layer).collect();
    claims.into_iter().filter(|claim| !said.iter().any(|above| layers.overrules(*above, claim.layer))).collect()
}

/// The one thing that `claims` come to: `None` where nobody says anything. Where two layers contradict each other and
/// none above them decides, one problem that names both.
pub(super) fn settle<T: PartialEq>(
    claims: Vec<Claim<T>>,
    what: &str,
    show: impl Fn(&T) -> String,
    layers: &Layers,
    snapshot: &Snapshot,
) -> Result<Option<Claim<T>>, Problem> {
    let mut top = undominated(claims, layers);
    if let [first, rest @ ..] = top.as_slice()
        && let Some(other) = rest.iter().find(|claim| claim.value != first.value)
    {
        let values = (show(&first.value), show(&other.value));
        return Err(contradiction(what, (first, &values.0), (other, &values.1), layers, snapshot));
    }
    Ok(top.pop())
}

/// One problem that names both places.
pub(super) fn contradiction<T>(
    what: &str,
    (one, one_shown): (&Claim<T>, &str),
    (other, other_shown): (&Claim<T>, &str),
    layers: &Layers,
    snapshot: &Snapshot,
) -> Problem {
    let (a, b) = (&layers.0[one.layer].name, &layers.0[other.layer].name);
    let message = format!(
        "{what} is {} in {} and {} in {}",
        one_line(one_shown, 100),
        one.place.show(snapshot),
        one_line(other_shown, 100),
        other.place.show(snapshot)
    );
    let hint = if a == b {
        "both stand in one layer: say it once, or make one pattern longer than the other".to_owned()
    } else {
        let host = layers.0.last().map_or("the host", |here| here.name.as_str());
        format!("neither of {a} and {b} includes the other: let one include the other, or say it in {host}")
    };
    other.place.error(message).hint(hint)
}
