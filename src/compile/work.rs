//! One compilation under way: what it reads, and what it has made so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::expr::Scope;
use super::layers::Layers;
use super::merge::{Claim, Place, settle};
use super::{Secrets, Wanted};
use crate::host::Payloads;
use crate::kinds::Spec;
use crate::manifest::{At, Policy, Problem};
use crate::model::{Drift, Facts, Id, Release};
use crate::source::Snapshot;

/// The most resources of one host.
pub const RESOURCE_LIMIT: usize = 20_000;

/// How many bytes the files of one host hold together at most: what templates come to has no other bound in sum.
pub(super) const CONTENT_LIMIT: usize = 512 << 20;

pub(super) struct Work<'a> {
    pub snapshot: &'a Snapshot,
    pub layers: &'a Layers,
    pub scope: &'a Scope,
    pub facts: &'a Facts,
    /// Whether setuid, setgid and sticky bits may be declared.
    pub setid: bool,
    /// What to do about secrets.
    pub secrets: Secrets<'a>,
    pub problems: Vec<Problem>,
    pub resources: BTreeMap<Id, Wanted>,
    pub payloads: Payloads,
    /// How many bytes those hold.
    pub content: usize,
    /// Policies of layers that have been asked for.
    pub policies: BTreeMap<usize, (Drift, Release)>,
}

impl<'a> Work<'a> {
    /// Whether an entry of layer `layer` is declared; a condition that cannot be judged is told, and does not hold.
    pub fn holds(&mut self, layer: usize, when: Option<&At<String>>) -> bool {
        let Some(when) = when else { return true };
        self.scope.holds(&when.value).unwrap_or_else(|trouble| {
            let mut problem = self.place(layer, &when.span).error(trouble.message);
            problem.hint = trouble.hint;
            self.problems.push(problem);
            false
        })
    }

    /// Keeps the content of a file that is declared at `place`, equal ones once.
    pub fn keep(&mut self, content: Arc<[u8]>, place: &Place) {
        if self.content > CONTENT_LIMIT {
            // That was told already.
            return;
        }
        let (size, kept) = (content.len(), self.payloads.len());
        self.payloads.insert(content);
        if self.payloads.len() > kept {
            self.content += size;
        }
        if self.content > CONTENT_LIMIT {
            let message =
                format!("the files of one host may hold {CONTENT_LIMIT} bytes together, and this is one too many");
            self.problems.push(place.error(message));
        }
    }

    /// A place in the manifest of a layer.
    pub fn place(&self, layer: usize, span: &std::ops::Range<usize>) -> Place {
        Place::new(&self.layers.0[layer].manifest, span)
    }

    /// What layer `layer` says, where it says something.
    pub fn claim<T: Clone>(&self, layer: usize, said: Option<&At<T>>) -> Option<Claim<T>> {
        said.map(|at| Claim { layer, value: at.value.clone(), place: self.place(layer, &at.span) })
    }

    /// The one thing that `claims` come to; a contradiction is told and comes to nothing.
    pub fn settle<T: PartialEq>(
        &mut self,
        claims: Vec<Claim<T>>,
        what: &str,
        show: impl Fn(&T) -> String,
    ) -> Option<Claim<T>> {
        settle(claims, what, show, self.layers, self.snapshot).unwrap_or_else(|problem| {
            self.problems.push(problem);
            None
        })
    }

    /// The policy for what `layer` declares: of the layers at or above it, the nearest to the host wins.
    pub fn policy(&mut self, layer: usize) -> (Drift, Release) {
        if let Some(known) = self.policies.get(&layer) {
            return *known;
        }
        let chosen = |at: usize| at == layer || at == 0 || self.layers.overrules(at, layer);
        let over: Vec<usize> = (0..self.layers.0.len()).filter(|at| chosen(*at)).collect();
        let drift = self.of_policies(&over, "drift", |policy| policy.drift.as_ref(), |drift| drift.to_string());
        let release =
            self.of_policies(&over, "release", |policy| policy.release.as_ref(), |release| release.to_string());
        let policy = (drift.unwrap_or(Drift::Correct), release.unwrap_or(Release::Restore));
        self.policies.insert(layer, policy);
        policy
    }

    /// What `[policy]` of these layers comes to for one key.
    pub fn of_policies<T: PartialEq + Clone + 'a>(
        &mut self,
        over: &[usize],
        key: &str,
        get: impl Fn(&'a Policy) -> Option<&'a At<T>>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let layers = self.layers;
        let claims = over.iter().filter_map(|at| self.claim(*at, get(&layers.0[*at].layer.policy))).collect();
        self.settle(claims, &format!("`{key}` of [policy]"), show).map(|claim| claim.value)
    }

    /// Adds a resource that `layer` declares, with its own policy where it has one.
    pub fn add(&mut self, id: Id, spec: Spec, layer: usize, drift: Option<Drift>, release: Option<Release>) {
        let policy = self.policy(layer);
        let wanted = Wanted {
            spec,
            drift: drift.unwrap_or(policy.0),
            release: release.unwrap_or(policy.1),
            layer: self.layers.0[layer].name.clone(),
            exclusive: None,
            stranger_of: None,
        };
        self.resources.insert(id, wanted);
    }
}
