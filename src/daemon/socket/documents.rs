//! What is answered, as bytes: written once for a snapshot, and shared by all that ask for it, so that a thousand
//! readers of a long document cost its memory once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use zlink::Reply;

use crate::daemon::Snapshot;
use crate::model::Cause;
use crate::report::{Attention, Report, ResourceCounts, Status, SuspendedStatus};

/// One message, ready to be sent: the first `upto` bytes that are shared, then `tail`.
#[derive(Debug, Clone)]
pub(super) struct Message {
    shared: Arc<Vec<u8>>,
    upto: usize,
    tail: &'static [u8],
}

impl Message {
    /// `value` and the NUL that ends a message.
    pub(super) fn of(value: &impl Serialize) -> Self {
        Self::whole(Arc::new(bytes(value)))
    }

    /// A reply that holds `parameters`.
    pub(super) fn reply(parameters: impl Serialize) -> Self {
        Self::of(&Reply::new(Some(parameters)))
    }

    fn whole(shared: Arc<Vec<u8>>) -> Self {
        Self { upto: shared.len(), shared, tail: b"" }
    }

    /// What is to be sent, one after the other.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        [&self.shared[..self.upto], self.tail]
    }
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("documents have keys that are text and no other way to fail");
    bytes.push(0);
    bytes
}

/// Which document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    /// The status.
    Status,
    /// The same, with more to come.
    Watched,
    /// Resources in numbers, and those that are not as declared.
    Resources,
    /// The differences that nobody declared.
    Drift { diffs: bool },
    /// What the last pass planned, and what came of it.
    Plan { diffs: bool },
}

/// What was written for the newest snapshot.
#[derive(Debug, Default)]
pub(super) struct Documents {
    of: Option<Snapshot>,
    written: BTreeMap<Which, Arc<Vec<u8>>>,
    history: Option<(Arc<Vec<u8>>, Vec<usize>)>,
}

#[derive(Debug, Serialize)]
struct StatusParameters<'a> {
    status: &'a Status,
}

#[derive(Debug, Serialize)]
struct ReportParameters<'a> {
    report: Option<&'a Report>,
}

#[derive(Debug, Serialize)]
struct ResourcesParameters<'a> {
    resources: ResourceCounts,
    attention: &'a [Attention],
    suspended: &'a [SuspendedStatus],
}

impl Documents {
    /// The document, as it is in `snapshot`.
    pub(super) fn get(&mut self, snapshot: &Snapshot, which: Which) -> Message {
        self.renew(snapshot);
        let shared = self.written.entry(which).or_insert_with(|| Arc::new(write(snapshot, which)));
        Message::whole(Arc::clone(shared))
    }

    /// At most `limit` passes, the newest first.
    pub(super) fn history(&mut self, snapshot: &Snapshot, limit: usize) -> Message {
        self.renew(snapshot);
        let (shared, ends) = self.history.get_or_insert_with(|| write_history(snapshot));
        let upto = ends[limit.min(ends.len() - 1)];
        Message { shared: Arc::clone(shared), upto, tail: b"]}}\0" }
    }

    /// Forgets what was written, and the snapshot that it was written for.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Forgets what was written of another snapshot.
    fn renew(&mut self, snapshot: &Snapshot) {
        let same = |known: &Snapshot| {
            let report = match (&known.report, &snapshot.report) {
                (Some(known), Some(report)) => Arc::ptr_eq(known, report),
                (known, report) => known.is_none() && report.is_none(),
            };
            (Arc::ptr_eq(&known.status, &snapshot.status), report, Arc::ptr_eq(&known.history, &snapshot.history))
        };
        let (status, report, history) = self.of.as_ref().map_or((false, false, false), same);
        self.written.retain(|which, _| match which {
            Which::Status | Which::Watched | Which::Resources => status,
            Which::Drift { .. } | Which::Plan { .. } => report,
        });
        if !history {
            self.history = None;
        }
        if !(status && report && history) {
            self.of = Some(snapshot.clone());
        }
    }
}

fn write(snapshot: &Snapshot, which: Which) -> Vec<u8> {
    let status = &*snapshot.status;
    let report = |change: fn(&mut Report), diffs| {
        let report = snapshot.report.as_deref().map(|report| {
            let mut report = report.clone();
            change(&mut report);
            if diffs { report } else { without_content(report) }
        });
        bytes(&Reply::new(Some(ReportParameters { report: report.as_ref() })))
    };
    match which {
        Which::Status => bytes(&Reply::new(Some(StatusParameters { status }))),
        Which::Watched => bytes(&Reply::new(Some(StatusParameters { status })).set_continues(Some(true))),
        Which::Resources => bytes(&Reply::new(Some(ResourcesParameters {
            resources: status.resources,
            attention: &status.attention,
            suspended: &status.suspended,
        }))),
        Which::Drift { diffs } => report(only_drift, diffs),
        Which::Plan { diffs } => report(|_| (), diffs),
    }
}

/// What was not declared: see `Report::steps`.
fn only_drift(report: &mut Report) {
    report.command = "drift";
    report.steps.retain(|line| line.cause.is_some_and(|cause| cause != Cause::Intended));
    report.refreshes.clear();
    report.activations.clear();
    report.left.clear();
}

/// Without what shows lines of files: the host's, or the repository's.
fn without_content(mut report: Report) -> Report {
    for line in &mut report.steps {
        line.diff = Vec::new();
    }
    report.problems = String::new();
    report
}

/// All passes, and where the first so many of them end.
fn write_history(snapshot: &Snapshot) -> (Arc<Vec<u8>>, Vec<usize>) {
    let mut written = b"{\"parameters\":{\"history\":[".to_vec();
    let mut ends = vec![written.len()];
    for passed in &*snapshot.history {
        if ends.len() > 1 {
            written.push(b',');
        }
        serde_json::to_writer(&mut written, passed).expect("a pass has keys that are text and no other way to fail");
        ends.push(written.len());
    }
    (Arc::new(written), ends)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::daemon::socket::tests::{line, passed, snapshot};

    fn read(message: &Message) -> Value {
        let mut bytes = message.parts().concat();
        assert_eq!(bytes.pop(), Some(0));
        let mut value: Value = serde_json::from_slice(&bytes).expect("JSON");
        value["parameters"].take()
    }

    #[test]
    fn a_document_is_written_once_for_a_snapshot_and_afresh_for_the_next() {
        let mut documents = Documents::default();
        let mut now = snapshot();
        now.report = Some(Arc::new(Report::new("agent")));
        let first = documents.get(&now, Which::Status);
        let plan = documents.get(&now, Which::Plan { diffs: true });
        assert!(Arc::ptr_eq(&first.shared, &documents.get(&now, Which::Status).shared));
        let mut status = (*now.status).clone();
        status.message = Some("new".to_owned());
        now.status = Arc::new(status);
        let second = documents.get(&now, Which::Status);
        assert_eq!(read(&second)["status"]["message"], "new");
        let same = documents.get(&now, Which::Plan { diffs: true });
        assert!(Arc::ptr_eq(&plan.shared, &same.shared), "the report is the same");
        now.report = None;
        assert!(read(&documents.get(&now, Which::Plan { diffs: true }))["report"].is_null());
    }

    #[test]
    fn a_status_is_the_same_as_json_prints() {
        let now = snapshot();
        let status = read(&Documents::default().get(&now, Which::Status));
        assert_eq!(status["status"], serde_json::to_value(&*now.status).expect("JSON"));
        let resources = read(&Documents::default().get(&now, Which::Resources));
        assert_eq!(resources["resources"], status["status"]["resources"]);
        assert_eq!(resources["attention"], status["status"]["attention"]);
    }

    #[test]
    fn content_is_shown_only_where_diffs_are() {
        let mut report = Report::new("agent");
        report.steps = vec![line("file:/etc/motd", Some(Cause::Corrective), &["-secret", "+word"])];
        report.problems = "the secret line".to_owned();
        let now = Snapshot { report: Some(Arc::new(report)), ..snapshot() };
        let mut documents = Documents::default();
        for which in [Which::Plan { diffs: true }, Which::Drift { diffs: true }] {
            assert!(read(&documents.get(&now, which)).to_string().contains("secret"));
        }
        for which in [Which::Plan { diffs: false }, Which::Drift { diffs: false }] {
            let document = read(&documents.get(&now, which));
            assert!(!document.to_string().contains("secret"), "{document}");
            assert_eq!(document["report"]["steps"][0]["id"], "file:/etc/motd");
        }
    }

    #[test]
    fn drift_is_what_nobody_declared() {
        let mut report = Report::new("agent");
        report.steps = vec![
            line("file:/a", Some(Cause::Intended), &[]),
            line("file:/b", Some(Cause::Corrective), &[]),
            line("file:/c", Some(Cause::Conflicting), &[]),
            line("file:/d", None, &[]),
        ];
        let now = Snapshot { report: Some(Arc::new(report)), ..snapshot() };
        let drift = read(&Documents::default().get(&now, Which::Drift { diffs: false }));
        let steps = drift["report"]["steps"].as_array().expect("a list");
        let ids: Vec<&str> = steps.iter().filter_map(|step| step["id"].as_str()).collect();
        assert_eq!(ids, ["file:/b", "file:/c"]);
        assert_eq!(drift["report"]["command"], "drift");
    }

    #[test]
    fn history_gives_the_newest_as_many_as_asked() {
        let passes: Vec<_> = ["3", "2", "1"].map(passed).into();
        let now = Snapshot { history: passes.into(), ..snapshot() };
        let mut documents = Documents::default();
        let mut ids = |limit| {
            let read = read(&documents.history(&now, limit));
            let list = read["history"].as_array().expect("a list").clone();
            list.iter().map(|pass| pass["pass"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ids(0), [""; 0]);
        assert_eq!(ids(1), ["3"]);
        assert_eq!(ids(3), ["3", "2", "1"]);
        assert_eq!(ids(usize::MAX), ["3", "2", "1"]);
    }
}
