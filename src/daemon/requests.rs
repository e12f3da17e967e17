//! What comes of a request. Pure: the answer, and what has to be done for it.

use super::pass::Given;
use super::{Caller, Refusal, Request};
use crate::brakes::{Brakes, Choice, Restoring, Suspension};
use crate::host::Entry;
use crate::ledger::Ledger;
use crate::model::{CommitId, Id, one_line};
use crate::report::{RestoreStatus, age, journal};

/// How long a resource that was given back is left alone, in seconds.
const GIVEN_BACK: i64 = 4 * 60 * 60;

/// What is known of this host when somebody asks.
pub(super) struct Known<'a> {
    /// A source is configured.
    pub(super) configured: bool,
    /// What people asked for before cannot be read, and never will be.
    pub(super) damaged: bool,
    /// The commit that was seen last.
    pub(super) seen: Option<CommitId>,
    /// What is ours.
    pub(super) ledger: &'a Ledger,
    /// A revision has not settled yet, and is undone where it does not.
    pub(super) armed: bool,
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// What has to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// For whoever asked.
    pub(super) message: String,
    /// Whether a pass has to run now.
    pub(super) pass: Pass,
    /// The guard lets so many removals pass in it.
    pub(super) allow_removals: Option<u64>,
    /// It tries again what failed or is contested.
    pub(super) retry: bool,
    /// It asks the source, even where that is left alone for a while.
    pub(super) source: bool,
}

/// Whether a pass has to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// No.
    No,
    /// One more, after the one that may be running.
    After,
    /// One more; the one that may be running ends between steps.
    Instead,
}

/// Whether it can only be answered by who knows what is managed here.
pub(super) fn names_resources(request: &Request) -> bool {
    match request {
        Request::Suspend { resources, .. } => !resources.is_empty(),
        Request::Restore { .. } => true,
        _ => false,
    }
}

/// Whether nothing holds after it of what people asked for before, but an approval.
pub(super) fn forgets_all(request: &Request) -> bool {
    matches!(request, Request::Resume { resources } if resources.is_empty())
}

/// Takes `request` in: `brakes` are then what holds from now on, to be saved before anything is answered.
pub(super) fn decide(
    request: &Request,
    caller: &Caller,
    brakes: &mut Brakes,
    known: &Known<'_>,
) -> Result<Decision, Refusal> {
    let done = |message: String, pass: Pass| Decision {
        message,
        pass: if known.configured { pass } else { Pass::No },
        allow_removals: None,
        retry: false,
        // Whoever only wants something left alone does not wait for a source that does not answer.
        source: !matches!(request, Request::Suspend { .. } | Request::Restore { .. }),
    };
    let needs_pass =
        matches!(request, Request::Sync { .. } | Request::Retry | Request::Rollback { .. } | Request::Restore { .. });
    if needs_pass && !known.configured {
        return Err(refusal("unconfigured", "no source is configured: trueup setup URL"));
    }
    let choice = |commit: &CommitId| Choice { commit: commit.clone(), by: caller.name.clone(), at: known.now };
    match request {
        Request::Sync { allow_removals } => {
            Ok(Decision { allow_removals: *allow_removals, ..done("looking now".to_owned(), Pass::After) })
        }
        Request::Suspend { resources, until, reason } => {
            let message = suspend(brakes, known, caller, (resources, *until, reason))?;
            Ok(done(message, Pass::Instead))
        }
        Request::Resume { resources } => Ok(done(resume(brakes, known, resources)?, Pass::After)),
        Request::Approve { commit } => {
            let Some(commit) = commit.as_ref().or(known.seen.as_ref()) else {
                return Err(refusal("no-such-commit", "nothing was seen yet that could be approved: trueup sync"));
            };
            let again = brakes.approved.as_ref().is_some_and(|before| before.commit == *commit);
            brakes.approved = Some(choice(commit));
            let more = if again { " already; `trueup sync` looks for newer ones" } else { "" };
            Ok(done(format!("{} is approved{more}", commit.short()), Pass::After))
        }
        Request::Retry => {
            let message = "what failed or is contested is tried again now".to_owned();
            Ok(Decision { retry: true, ..done(message, Pass::After) })
        }
        Request::Rollback { commit } => {
            brakes.rolled_back = Some(choice(commit));
            let message = format!("going back to {}, which holds until `trueup resume`", commit.short());
            Ok(done(message, Pass::Instead))
        }
        Request::Restore { copy } => {
            let Some(kept) = known.ledger.kept.iter().find(|kept| kept.id == *copy) else {
                let message = format!("no copy is called {}; `trueup restore` lists them", one_line(copy, 40));
                return Err(refusal("no-such-copy", &message));
            };
            let resource = kept.resource.clone();
            let message = format!("{resource} goes back to what it was in {copy}");
            if brakes.restoring.iter().all(|one| one.copy != *copy) {
                let suspension = |brakes: &Brakes| {
                    brakes.suspensions.iter().find(|one| one.resource.as_ref() == Some(&resource)).cloned()
                };
                let (mut held, mut before) = (None, None);
                if known.ledger.entries.contains_key(&resource) {
                    before = suspension(brakes);
                    let until = known.now.saturating_add(GIVEN_BACK);
                    let resources = std::slice::from_ref(&resource);
                    suspend(brakes, known, caller, (resources, until, &format!("restored {copy}")))?;
                    held = suspension(brakes);
                }
                let (copy, by) = (copy.clone(), caller.name.clone());
                brakes.restoring.push(Restoring { copy, resource, by, at: known.now, held, before });
            }
            Ok(done(message, Pass::Instead))
        }
    }
}

/// What the journal is told of `request`, which turned the brakes `before` into `brakes`.
pub(super) fn told(
    request: &Request,
    caller: &Caller,
    (before, brakes): (&Brakes, &Brakes),
    known: &Known<'_>,
) -> Vec<Entry> {
    let who = caller.name.as_str();
    match request {
        Request::Sync { allow_removals } => {
            allow_removals.iter().map(|&removals| journal::allowed(removals, who)).collect()
        }
        Request::Suspend { resources, until, reason } => {
            vec![journal::suspended(resources, *until, who, &one_line(reason, 500))]
        }
        Request::Resume { .. } if known.damaged => vec![journal::forgotten(who)],
        Request::Resume { .. } => ended(before, brakes, known.now, who),
        Request::Approve { .. } => brakes.approved.iter().map(journal::approved).collect(),
        Request::Retry => vec![journal::retried(who)],
        Request::Rollback { .. } => brakes.rolled_back.iter().map(journal::rollback).collect(),
        // Told once a pass has done it.
        Request::Restore { .. } => Vec::new(),
    }
}

/// What came of the copies that a pass was to give back: `brakes` know of them no longer; who asked and whoever
/// looks are told.
pub(super) fn given(given: &[Given], brakes: &mut Brakes) -> (Vec<RestoreStatus>, Vec<Entry>) {
    let came_of = |Given { copy, failed }: &Given| {
        let one = brakes.restored(copy, failed.is_none())?;
        let (resource, by) = (&one.resource, one.by.as_str());
        let (outcome, message, entry) = match failed {
            None => {
                let stays = match one.held {
                    Some(_) => ", and suspended for 4 h so that it stays; commit it to keep it",
                    None => "",
                };
                let message = format!("{resource} is as it was in {copy} again{stays}");
                ("done", message, journal::restored(copy, resource, by))
            }
            Some(why) => {
                let stays = if one.held.is_some() { "; it is not suspended for that" } else { "" };
                let message = format!("{resource} is not as it was in {copy} again: {why}{stays}");
                ("failed", message, journal::not_restored(copy, resource, by, why))
            }
        };
        let (copy, resource, by) = (copy.clone(), resource.as_str().to_owned(), one_line(by, 80));
        let status = RestoreStatus {
            copy,
            resource,
            by,
            at: one.at,
            outcome: outcome.to_owned(),
            message: one_line(&message, 600),
        };
        Some((status, entry))
    };
    given.iter().filter_map(came_of).unzip()
}

/// What held `before` and holds no more.
fn ended(before: &Brakes, brakes: &Brakes, now: i64, who: &str) -> Vec<Entry> {
    let over: Vec<&Suspension> = before.in_force(now).filter(|one| !brakes.suspensions.contains(one)).collect();
    let ids: Vec<Id> = over.iter().filter_map(|one| one.resource.clone()).collect();
    let gone_back = before.rolled_back.as_ref().filter(|_| brakes.rolled_back.is_none());
    let mut entries: Vec<Entry> = gone_back.map(|choice| journal::forward(choice, who)).into_iter().collect();
    if over.len() > ids.len() {
        entries.push(journal::resumed(&[], who));
    }
    if !ids.is_empty() {
        entries.push(journal::resumed(&ids, who));
    }
    entries
}

fn suspend(
    brakes: &mut Brakes,
    known: &Known<'_>,
    caller: &Caller,
    (resources, until, reason): (&[Id], i64, &str),
) -> Result<String, Refusal> {
    if known.armed {
        let message = "a revision has not settled yet, and is undone where it does not: wait for that (trueup status \
                       --watch), then suspend";
        return Err(refusal("undo-armed", message));
    }
    if let Some(stranger) = resources.iter().find(|id| !known.ledger.entries.contains_key(id)) {
        let message = format!("{} is not managed on this host", one_line(stranger.as_str(), 200));
        return Err(refusal("not-managed", &message));
    }
    let one = |resource: Option<Id>| Suspension {
        resource,
        since: known.now,
        until,
        by: caller.name.clone(),
        reason: one_line(reason, 500),
    };
    let long = age(until.saturating_sub(known.now));
    if resources.is_empty() {
        brakes.suspend(one(None));
        return Ok(format!("nothing on this host is changed for {long}; it is looked at all the same"));
    }
    for id in resources {
        brakes.suspend(one(Some(id.clone())));
    }
    let names: Vec<&str> = resources.iter().map(Id::as_str).collect();
    let (are, they) = if names.len() == 1 { ("is", "it is") } else { ("are", "they are") };
    let names = one_line(&names.join(", "), 400);
    Ok(format!("{names} {are} not changed for {long}; {they} looked at all the same"))
}

fn resume(brakes: &mut Brakes, known: &Known<'_>, resources: &[Id]) -> Result<String, Refusal> {
    if resources.is_empty() && known.damaged {
        return Ok(
            "what was suspended could not be read, and is forgotten; so are an approval and a rollback".to_owned()
        );
    }
    // What is over already is nobody's to end.
    brakes.suspensions.retain(|one| known.now < one.until);
    if resources.is_empty() {
        let mut ended = Vec::new();
        if let Some(gone_back) = brakes.rolled_back.take() {
            ended.push(format!("the rollback to {}", gone_back.commit.short()));
        }
        ended.extend(brakes.suspensions.drain(..).map(|one| match one.resource {
            Some(id) => one_line(id.as_str(), 200),
            None => "the whole host".to_owned(),
        }));
        return Ok(match ended.as_slice() {
            [] => "nothing was suspended".to_owned(),
            ended => format!("resumed: {}", one_line(&ended.join(", "), 400)),
        });
    }
    let is_suspended = |id: &&Id| brakes.suspensions.iter().any(|one| one.resource.as_ref() == Some(*id));
    if let Some(id) = resources.iter().find(|id| !is_suspended(id)) {
        let message = format!("{} is not suspended", one_line(id.as_str(), 200));
        return Err(refusal("not-suspended", &message));
    }
    brakes.suspensions.retain(|one| one.resource.as_ref().is_none_or(|id| !resources.contains(id)));
    let names: Vec<&str> = resources.iter().map(Id::as_str).collect();
    Ok(format!("resumed: {}", one_line(&names.join(", "), 400)))
}

/// A request that cannot be taken.
pub(super) fn refusal(reason: &str, message: &str) -> Refusal {
    Refusal { reason: reason.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Spec;
    use crate::ledger::{Entry, Origin};
    use crate::model::{Drift, Release};

    const NOW: i64 = 1_800_000_000;
    const COMMIT: &str = "4f2a9c14f2a9c14f2a9c14f2a9c14f2a9c14f2a9";

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        let entry = Entry {
            was_secret: false,
            origin: Origin::Adopted,
            applied: None::<Spec>,
            intended: None,
            drift: Drift::Correct,
            release: Release::Restore,
            layer: "roles/base".to_owned(),
        };
        ledger.entries.insert("file:/etc/motd".parse().expect("an id"), entry);
        ledger
    }

    fn ask(request: &Request, brakes: &mut Brakes) -> Result<Decision, Refusal> {
        let caller = Caller { uid: 0, name: "alice".to_owned() };
        let ledger = ledger();
        let seen = Some(COMMIT.parse().expect("a commit"));
        decide(
            request,
            &caller,
            brakes,
            &Known { configured: true, damaged: false, seen, ledger: &ledger, armed: false, now: NOW },
        )
    }

    fn suspend_of(ids: &[&str]) -> Request {
        let resources = ids.iter().map(|id| id.parse().expect("an id")).collect();
        Request::Suspend { resources, until: NOW + 3600, reason: "INC-4711".to_owned() }
    }

    #[test]
    fn a_suspension_says_who_and_ends_what_runs() {
        let mut brakes = Brakes::default();
        let decision = ask(&suspend_of(&["file:/etc/motd"]), &mut brakes).expect("it is managed");
        assert_eq!(decision.message, "file:/etc/motd is not changed for 1 h; it is looked at all the same");
        assert_eq!(decision.pass, Pass::Instead);
        let suspension = brakes.suspended(&"file:/etc/motd".parse().expect("an id"), NOW).expect("it holds");
        assert_eq!((suspension.by.as_str(), suspension.reason.as_str()), ("alice", "INC-4711"));
        assert!(brakes.suspended(&"file:/etc/motd".parse().expect("an id"), NOW + 3600).is_none(), "it expires");
    }

    #[test]
    fn nothing_is_suspended_while_a_revision_may_still_be_undone() {
        let ledger = Ledger::default();
        let known = Known { configured: true, damaged: false, seen: None, ledger: &ledger, armed: true, now: NOW };
        let caller = Caller { uid: 0, name: "alice".to_owned() };
        let mut brakes = Brakes::default();
        let refused = decide(&suspend_of(&[]), &caller, &mut brakes, &known).expect_err("armed");
        assert_eq!((refused.reason.as_str(), brakes), ("undo-armed", Brakes::default()));
    }

    #[test]
    fn what_is_not_managed_cannot_be_suspended_and_nothing_changes() {
        let mut brakes = Brakes::default();
        let refused = ask(&suspend_of(&["file:/etc/motd", "file:/etc/x"]), &mut brakes).expect_err("a stranger");
        assert_eq!(refused.reason, "not-managed");
        assert_eq!(brakes, Brakes::default());
    }

    #[test]
    fn resume_ends_one_or_all() {
        let mut brakes = Brakes::default();
        let one = Request::Resume { resources: vec!["file:/etc/motd".parse().expect("an id")] };
        assert_eq!(ask(&one, &mut brakes).expect_err("it is not").reason, "not-suspended");
        ask(&suspend_of(&["file:/etc/motd"]), &mut brakes).expect("it is managed");
        ask(&suspend_of(&[]), &mut brakes).expect("the host");
        ask(&one, &mut brakes).expect("it is suspended");
        assert!(brakes.host_suspended(NOW).is_some());
        ask(&Request::Rollback { commit: COMMIT.parse().expect("a commit") }, &mut brakes).expect("taken");
        let all = ask(&Request::Resume { resources: Vec::new() }, &mut brakes).expect("always");
        assert_eq!(all.message, "resumed: the rollback to 4f2a9c1, the whole host");
        assert_eq!(brakes, Brakes::default());
    }

    #[test]
    fn the_journal_is_told_what_resume_ended_and_nothing_where_that_is_nothing() {
        let mut before = Brakes::default();
        ask(&suspend_of(&["file:/etc/motd"]), &mut before).expect("it is managed");
        ask(&suspend_of(&[]), &mut before).expect("the host");
        ask(&Request::Rollback { commit: COMMIT.parse().expect("a commit") }, &mut before).expect("taken");
        let (ledger, caller) = (ledger(), Caller { uid: 0, name: "alice".to_owned() });
        let known = Known { configured: true, damaged: false, seen: None, ledger: &ledger, armed: false, now: NOW };
        let resume = Request::Resume { resources: Vec::new() };
        let told = |before: &Brakes| -> Vec<String> {
            let entries = told(&resume, &caller, (before, &Brakes::default()), &known);
            entries.into_iter().map(|entry| entry.message).collect()
        };
        let said = [
            "resumed: this host goes forward again from 4f2a9c1, as asked by alice",
            "resumed: this host may be changed again, as asked by alice",
            "resumed: /etc/motd may be changed again, as asked by alice",
        ];
        assert_eq!(told(&before), said);
        assert_eq!(told(&Brakes::default()), Vec::<String>::new());
    }

    #[test]
    fn resume_ends_what_is_still_in_force_and_says_so_where_that_cannot_be_read() {
        let mut brakes = Brakes::default();
        ask(&suspend_of(&["file:/etc/motd"]), &mut brakes).expect("it is managed");
        let (ledger, caller) = (ledger(), Caller { uid: 0, name: "alice".to_owned() });
        let later =
            Known { configured: true, damaged: false, seen: None, ledger: &ledger, armed: false, now: NOW + 3600 };
        let all = Request::Resume { resources: Vec::new() };
        let mut after = brakes.clone();
        let decided = decide(&all, &caller, &mut after, &later).expect("always");
        assert_eq!(decided.message, "nothing was suspended");
        assert!(told(&all, &caller, (&brakes, &after), &later).is_empty());
        let one = Request::Resume { resources: vec!["file:/etc/motd".parse().expect("an id")] };
        assert_eq!(decide(&one, &caller, &mut brakes, &later).expect_err("over").reason, "not-suspended");

        let damaged = Known { damaged: true, ..later };
        let mut none = Brakes::default();
        let decided = decide(&all, &caller, &mut none, &damaged).expect("always");
        assert!(decided.message.starts_with("what was suspended could not be read, and is forgotten"));
        let entries = told(&all, &caller, (&none, &none), &damaged);
        let said: Vec<&str> = entries.iter().map(|entry| entry.message.as_str()).collect();
        let words = "resumed: what was suspended could not be read, and is forgotten, as asked by alice";
        assert_eq!(said, [words]);
        assert!(entries[0].fields.contains(&("TRUEUP_ACTOR", "alice".to_owned())));
    }

    #[test]
    fn approve_without_a_commit_is_what_was_seen() {
        let mut brakes = Brakes::default();
        ask(&Request::Approve { commit: None }, &mut brakes).expect("something was seen");
        assert_eq!(brakes.approved.expect("approved").commit.as_str(), COMMIT);
    }

    #[test]
    fn a_copy_nobody_has_is_not_given_back() {
        let refused = ask(&Request::Restore { copy: "k-1".to_owned() }, &mut Brakes::default()).expect_err("none");
        assert_eq!(refused.reason, "no-such-copy");
    }

    #[test]
    fn without_a_source_nothing_is_looked_at() {
        let caller = Caller { uid: 0, name: "alice".to_owned() };
        let ledger = ledger();
        let known = Known { configured: false, damaged: false, seen: None, ledger: &ledger, armed: false, now: NOW };
        let sync = Request::Sync { allow_removals: None };
        let refused = decide(&sync, &caller, &mut Brakes::default(), &known).expect_err("nothing to look at");
        assert_eq!(refused.reason, "unconfigured");
        let restore = Request::Restore { copy: "k-1".to_owned() };
        assert!(decide(&restore, &caller, &mut Brakes::default(), &known).is_err(), "nobody would do it");
        let resume = Request::Resume { resources: Vec::new() };
        let decided = decide(&resume, &caller, &mut Brakes::default(), &known).expect("taken");
        assert_eq!(decided.pass, Pass::No);
    }
}
