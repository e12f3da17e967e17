//! What is of no pass: what root asked the agent for, and the agent itself.

use super::sentence;
use super::{Draft, Event};
use crate::brakes::{Choice, Suspension};
use crate::host::Entry;
use crate::model::{CommitId, Id, one_line};
use crate::report::held::utc;

/// How many ids one sentence names.
const NAMED: usize = 5;

/// What is meant: a few resources, or the whole host where there are none.
fn what(resources: &[Id]) -> String {
    if resources.is_empty() {
        return "this host".to_owned();
    }
    let names: Vec<String> = resources.iter().map(sentence::name).collect();
    sentence::some(&names, NAMED)
}

fn by(draft: Draft, who: &str, resources: &[Id]) -> Entry {
    let draft = draft.with("TRUEUP_ACTOR", who);
    let ids: Vec<&str> = resources.iter().map(Id::as_str).collect();
    match ids.as_slice() {
        [one] => draft.with("TRUEUP_RESOURCE", one),
        ids => draft.with("TRUEUP_RESOURCES", &ids.join(" ")),
    }
    .done()
}

fn named(who: &str) -> String {
    one_line(who, 100)
}

/// Somebody asked that `resources`, or the whole host where there are none, are not changed before `until` (seconds
/// since 1970), and said `why`, where that is not empty.
pub fn suspended(resources: &[Id], until: i64, who: &str, why: &str) -> Entry {
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    let are = if resources.len() > 1 { "are" } else { "is" };
    let (what, until) = (what(resources), utc(until));
    let sentence = format!("{what} {are} not changed before {until}, as asked by {}{why}", named(who));
    by(Draft::new(Event::Suspended, &sentence), who, resources)
}

/// Somebody ended suspensions: those of `resources`, or that of the whole host where there are none.
pub fn resumed(resources: &[Id], who: &str) -> Entry {
    let sentence = format!("{} may be changed again, as asked by {}", what(resources), named(who));
    by(Draft::new(Event::Resumed, &sentence), who, resources)
}

/// Somebody ended everything, and what that was could not be read.
pub fn forgotten(who: &str) -> Entry {
    let sentence = format!("what was suspended could not be read, and is forgotten, as asked by {}", named(who));
    by(Draft::new(Event::Resumed, &sentence).with("TRUEUP_REASON", "state-damaged"), who, &[])
}

/// Somebody ended the rollback to `choice`.
pub fn forward(choice: &Choice, who: &str) -> Entry {
    let sentence = format!("this host goes forward again from {}, as asked by {}", choice.commit.short(), named(who));
    by(revision(Event::Resumed, &sentence, &choice.commit), who, &[])
}

/// The time of a suspension is over.
pub fn expired(suspension: &Suspension) -> Entry {
    let resources: Vec<Id> = suspension.resource.iter().cloned().collect();
    let sentence =
        format!("{} may be changed again: the suspension by {} is over", what(&resources), named(&suspension.by));
    by(Draft::new(Event::Resumed, &sentence).with("TRUEUP_REASON", "expired"), &suspension.by, &resources)
}

/// Somebody let a held host go to a revision.
pub fn approved(choice: &Choice) -> Entry {
    let sentence = format!("{} may be applied, as asked by {}", choice.commit.short(), named(&choice.by));
    by(revision(Event::Approved, &sentence, &choice.commit), &choice.by, &[])
}

/// Somebody asked to go back to a revision.
pub fn rollback(choice: &Choice) -> Entry {
    let commit = choice.commit.short();
    let sentence =
        format!("this host goes to {commit} and stays there until trueup resume, as asked by {}", named(&choice.by));
    by(revision(Event::RollbackAsked, &sentence, &choice.commit), &choice.by, &[])
}

/// Somebody asked to try again, now, what failed or is contested.
pub fn retried(who: &str) -> Entry {
    let sentence = format!("what failed or is contested is tried again, as asked by {}", named(who));
    by(Draft::new(Event::Retried, &sentence), who, &[])
}

/// Somebody had the copy `kept` given back to `resource`.
pub fn restored(kept: &str, resource: &Id, who: &str) -> Entry {
    let sentence = format!("{} is as in {kept} again, as asked by {}", sentence::name(resource), named(who));
    by(Draft::new(Event::Restored, &sentence).with("TRUEUP_KEPT", kept), who, std::slice::from_ref(resource))
}

/// The copy `kept`, which somebody asked for, could not be given back to `resource`, as `why` says.
pub fn not_restored(kept: &str, resource: &Id, who: &str, why: &str) -> Entry {
    let name = sentence::name(resource);
    let sentence = format!("{name} is not as in {kept} again, as asked by {}: {}", named(who), one_line(why, 400));
    by(Draft::new(Event::Failed, &sentence).with("TRUEUP_KEPT", kept), who, std::slice::from_ref(resource))
}

/// Somebody allowed the guard to let `removals` pass, once.
pub fn allowed(removals: u64, who: &str) -> Entry {
    let sentence = format!("{removals} removals are allowed, once, as asked by {}", named(who));
    by(Draft::new(Event::Allowed, &sentence).with("TRUEUP_COUNT", &removals.to_string()), who, &[])
}

/// The agent, of this version, started.
pub fn started(version: &str) -> Entry {
    Draft::new(Event::Started, &format!("trueup {}", one_line(version, 100))).done()
}

/// The agent ends, as asked.
pub fn stopping() -> Entry {
    Draft::new(Event::Stopping, "trueup ends, as asked").done()
}

/// The agent read its settings anew, and they are in force.
pub fn reloaded() -> Entry {
    Draft::new(Event::Reloaded, "the settings were read anew and are in force").done()
}

/// The agent's settings cannot be used, as `message` says; those from before stay in force.
pub fn bad_settings(message: &str) -> Entry {
    let sentence = format!("{}; the settings from before stay in force", one_line(message, 800));
    Draft::new(Event::BadSettings, &sentence).with("TRUEUP_REASON", "bad-settings").done()
}

/// The agent's settings cannot be used, as `message` says, and there are none from before.
pub fn no_settings(message: &str) -> Entry {
    let sentence = format!("{}; nothing is done before they can be used", one_line(message, 800));
    Draft::new(Event::BadSettings, &sentence).with("TRUEUP_REASON", "bad-settings").done()
}

/// The pass with the id `pass` does not go on, as `message` says.
pub fn hangs(pass: &str, message: &str) -> Entry {
    Draft::new(Event::Hangs, message).with("TRUEUP_PASS", pass).with("TRUEUP_REASON", "no-progress").done()
}

/// No pass hangs any more.
pub fn goes_on() -> Entry {
    Draft::new(Event::GoesOn, "the pass that showed no progress goes on, or is over").done()
}

fn revision(event: Event, sentence: &str, commit: &CommitId) -> Draft {
    Draft::new(event, sentence).with("TRUEUP_REVISION", commit.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'a>(entry: &'a Entry, name: &str) -> Option<&'a str> {
        entry.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn what_was_asked_says_who_asked() {
        let id: Id = "file:/etc/motd".parse().expect("an id");
        let ids = std::slice::from_ref(&id);
        let until = 1_800_000_000;
        let entry = suspended(ids, until, "alice", "INC-4711\nTRUEUP_EVENT=applied");
        assert_eq!(
            entry.message,
            "suspended: /etc/motd is not changed before 2027-01-15 08:00 UTC, as asked by alice: INC-4711\\nTRUEUP_EVENT=applied"
        );
        assert_eq!(field(&entry, "TRUEUP_ACTOR"), Some("alice"));
        assert_eq!(field(&entry, "TRUEUP_RESOURCE"), Some("file:/etc/motd"));
        let entry = suspended(&[], until, "alice", "");
        assert_eq!(entry.message, "suspended: this host is not changed before 2027-01-15 08:00 UTC, as asked by alice");
        let by = "alice".to_owned();
        let over = expired(&Suspension { resource: Some(id.clone()), since: 0, until, by, reason: String::new() });
        assert_eq!(over.message, "resumed: /etc/motd may be changed again: the suspension by alice is over");
        let package: Id = "package:nginx".parse().expect("an id");
        let entry = resumed(&[id, package], "ben");
        assert_eq!(entry.message, "resumed: /etc/motd, package nginx may be changed again, as asked by ben");
        assert_eq!(field(&entry, "TRUEUP_RESOURCES"), Some("file:/etc/motd package:nginx"));
    }

    #[test]
    fn a_chosen_revision_is_named_in_full() {
        let commit = "4f2a9c1000000000000000000000000000000000";
        let choice = Choice { commit: commit.parse().expect("an id"), by: "ana".to_owned(), at: 0 };
        for entry in [approved(&choice), rollback(&choice)] {
            assert!(entry.message.contains("4f2a9c1") && !entry.message.contains(commit), "{}", entry.message);
            assert_eq!(field(&entry, "TRUEUP_REVISION"), Some(commit));
        }
    }
}
