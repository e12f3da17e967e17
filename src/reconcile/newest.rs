//! Which revision a pass acts on: the tip of the branch, unless this host is held or root went back.

use super::Ask;
use super::bind::bind;
use super::fetch::fetch;
use super::forward::Forward;
use super::offline::Stored;
use super::reuse::{Told, compiled_before, compiled_from};
use super::select::{compile_host, noted};
use super::stop::{At, stop};
use crate::brakes::{Brakes, Choice};
use crate::compile::Compiled;
use crate::host::Reader;
use crate::ledger::Ledger;
use crate::model::{Class, CommitId, Facts, Revision, Stage, Stop, Update, one_line};
use crate::report::{Report, State};
use crate::source::{Anew, BranchRecord, Gate, Origin, Passed, Record, Source, SourceError, Stands};

/// The newest revision that this host may have, verified and compiled.
pub(super) struct Newest {
    pub(super) compiled: Compiled,
    pub(super) revision: Revision,
    pub(super) forward: Forward,
    /// Why it is not the tip.
    pub(super) standing: Option<(State, Stop)>,
    /// Why our own copy of what was acted on before may not be kept to, should it come to that.
    pub(super) below_floor: Option<Stop>,
}

/// There is no newest revision to act on.
pub(super) struct Refused {
    pub(super) why: Stop,
    /// Why our own copy of what was acted on before may not be kept to either.
    pub(super) below_floor: Option<Stop>,
}

impl From<Stop> for Refused {
    fn from(why: Stop) -> Self {
        Self { why, below_floor: None }
    }
}

/// Fetch, verify, compile. Of the facts the first are compiled with, the second are this host's own.
pub(super) fn newest(
    host: &Reader,
    ask: &Ask,
    report: &mut Report,
    ledger: &mut Ledger,
    (brakes, gate): (&Brakes, &Gate),
    (facts, own): (&Facts, &Facts),
    reuse: bool,
) -> Result<Newest, Refused> {
    host.say("looking at the source");
    let mut record = Record::load(&host.state()).at(Stage::Fetch)?;
    let from = ledger.attempted.as_ref().and_then(|revision| revision.commit.as_ref());
    // Before any server is asked: which of them are behind depends on it.
    let followed = ask.settings.source.as_ref().filter(|_| ask.local.is_none());
    let anew = followed.and_then(|source| record.start(&source.branch, host.was_acted_on(), from, host.now()));
    let mut origin = fetch(host, ask, &record)?;
    report.seen(origin.tip());
    report.walls = origin.walls();
    let branch = match &origin {
        Origin::Git(source) => source.branch().to_owned(),
        Origin::Directory(_) => String::new(),
    };
    // Nothing is adopted where what is known from elsewhere has to be in the tip.
    report.anew = anew.clone().filter(|anew| matches!(anew, Anew::StateLost { from: Some(_) }));
    let known = record.branch(&branch);
    let has = known.acted_on().or(ledger.attempted.as_ref().and_then(|revision| revision.commit.as_ref()));
    let look = Look { host, ask, facts, reuse, record: &record, known: &known, has: has.cloned(), gate };
    let found = match (&mut origin, &brakes.rolled_back) {
        (Origin::Git(source), Some(choice)) => {
            look.back(source, choice, report).and_then(|chosen| Ok((look.compile(&mut origin, report)?, chosen)))
        }
        _ => look.forward(&mut origin, brakes.approved.as_ref(), ledger, report),
    };
    let below_floor = look.below_floor(&mut origin, found.is_ok());
    let ((compiled, told), chosen) = match found {
        Ok(found) => found,
        Err(why) => return Err(Refused { why, below_floor }),
    };
    report.believe(chosen.passed.as_ref());
    report.anew = anew;
    bind(ledger, &compiled.desired.host, own).at(Stage::Compile)?;
    let (revision, tip) = (origin.revision().clone(), origin.tip().commit.clone());
    let update = compiled.desired.update.unwrap_or(Update::Auto);
    let passed = chosen.passed.map(|passed| (gate.clone(), passed));
    let forward = Forward { record, branch, tip, by_root: chosen.by_root, update, told, passed };
    Ok(Newest { compiled, revision, forward, standing: chosen.standing, below_floor })
}

/// The commit that the origin is turned to.
#[derive(Default)]
struct Chosen {
    /// It is one that only root's word brings this host to.
    by_root: bool,
    /// Why it is not the tip.
    standing: Option<(State, Stop)>,
    /// Who signed it, where that has to be known.
    passed: Option<Passed>,
}

/// A revision as it is compiled, and what is to be stored with it where it was not taken from there.
type Made = (Compiled, Option<Told>);

/// What the choice depends on.
struct Look<'a> {
    host: &'a Reader,
    ask: &'a Ask,
    facts: &'a Facts,
    /// What was compiled before may be taken from our own copy.
    reuse: bool,
    record: &'a Record,
    /// What it knows of this branch.
    known: &'a BranchRecord,
    /// What was acted on last.
    has: Option<CommitId>,
    /// Whom this host believes.
    gate: &'a Gate,
}

impl Look<'_> {
    /// Root went back: to exactly that commit, whatever the tip is by now.
    fn back(&self, source: &mut Source, choice: &Choice, report: &mut Report) -> Result<Chosen, Stop> {
        let hint = "trueup rollback COMMIT names another, trueup resume goes on with the branch";
        let back = source.back_to(&choice.commit, self.record, self.floor()).map_err(|error| advise(&error, hint))?;
        source.turn_to(&choice.commit).at(Stage::Verify)?;
        let said = rolled_back(choice);
        let standing = match &back.refused {
            // That the branch was rewritten meanwhile is the graver news.
            Some(refused) => {
                report.notes.push(said.message);
                (State::Stalled, stop(Stage::Verify, refused))
            }
            None => {
                if source.tip().commit.as_ref() != Some(&choice.commit) {
                    report.notes.push(format!("{} is seen and waits for trueup resume", source.tip().short()));
                }
                (State::Pending, said)
            }
        };
        let passed = match self.believed(source) {
            Ok(passed) => passed,
            // Root chose it, and what this host has followed contains it: that was judged when it came.
            Err(_) if back.followed => None,
            Err(why) => return Err(why),
        };
        Ok(Chosen { by_root: back.stands == Stands::Behind, standing: Some(standing), passed })
    }

    /// The tip, or under `hold` what is approved of the way to it.
    fn forward(
        &self,
        origin: &mut Origin,
        approved: Option<&Choice>,
        ledger: &Ledger,
        report: &mut Report,
    ) -> Result<(Made, Chosen), Stop> {
        let mut passed = None;
        if let Origin::Git(source) = origin {
            source.only_forward(self.record, self.floor()).at(Stage::Verify)?;
            passed = self.believed(source)?;
        }
        let tip = origin.tip().clone();
        let mut of_tip = report.clone();
        let compiled = self.compile(origin, &mut of_tip);
        let acted = match &tip.commit {
            Some(commit) => self.has.as_ref() == Some(commit),
            None => ledger.attempted.as_ref() == Some(&tip),
        };
        let free = acted || approved.is_some_and(|choice| tip.commit.as_ref() == Some(&choice.commit));
        let held = !free && self.update(compiled.as_ref().ok().map(|(compiled, _)| compiled)) == Update::Hold;
        if held {
            (report.update, of_tip.update) = (Some(Update::Hold), Some(Update::Hold));
        }
        // Whoever asks for the plan sees the one that waits.
        if !held || self.ask.command == "plan" {
            *report = of_tip;
            let compiled = compiled?;
            if held {
                report.notes.push(self.waits(&tip));
            }
            return Ok((compiled, Chosen { passed, ..Chosen::default() }));
        }
        if let Err(stop) = compiled {
            report.notes.push(format!("{} could not be acted on as it is: {}", tip.short(), stop.message));
        }
        match (&mut *origin, approved) {
            (Origin::Git(source), Some(choice)) => {
                let chosen = self.approved(source, choice)?;
                Ok((self.compile(origin, report)?, chosen))
            }
            _ => Err(pending(self.waits(&tip))),
        }
    }

    /// This host is held, and something else than the tip is approved.
    fn approved(&self, source: &mut Source, choice: &Choice) -> Result<Chosen, Stop> {
        let tip = source.tip().clone();
        let hint = format!("trueup approve takes {}", tip.short());
        let stands =
            source.approved(&choice.commit, self.record, self.floor()).map_err(|error| advise(&error, &hint))?;
        let (chosen, by) = (choice.commit.short(), one_line(&choice.by, 80));
        if stands == Stands::Behind {
            let has = self.has.as_ref().map_or("what was acted on", CommitId::short);
            return Err(pending(format!(
                "{}; {chosen}, approved by {by}, does not contain {has}, and a host only goes forward \
                 (trueup rollback {chosen} goes back)",
                self.waits(&tip)
            )));
        }
        source.turn_to(&choice.commit).at(Stage::Verify)?;
        let passed = self.believed(source)?;
        let standing = pending(format!(
            "update = \"hold\": {} is seen and waits; {chosen} holds, approved by {by}; trueup approve takes the newer",
            tip.short()
        ));
        Ok(Chosen { by_root: false, standing: Some((State::Pending, standing)), passed })
    }

    /// Whether new revisions are applied: the most cautious of agent.toml, the revision that was acted on last and
    /// the one that is seen. So no revision takes `hold` off for itself, nor for a later one: root does, in
    /// agent.toml or by approving a revision without it. What root's word brought back has no say in what follows.
    fn update(&self, tip: Option<&Compiled>) -> Update {
        let tip = tip.and_then(|compiled| compiled.desired.update).unwrap_or(Update::Auto);
        self.ask.settings.policy.update.max(tip).max(self.said())
    }

    /// What the revision that was acted on last, on the way forward, says of later ones. Where that is lost it may
    /// have been `hold`. It was never `observe`: nobody was ever brought to a revision that says so.
    fn said(&self) -> Update {
        if let Some(said) = self.known.update {
            return said.min(Update::Hold);
        }
        match Stored::said(&self.host.state()) {
            // What is stored is what root went back to.
            _ if self.known.by_root.is_some() => Update::Hold,
            Some(said) => said.min(Update::Hold),
            None if self.has.is_none() => Update::Auto,
            None => Update::Hold,
        }
    }

    /// Why our own copy, which is of another revision, may not be kept to. What `origin` was turned to was judged.
    fn below_floor(&self, origin: &mut Origin, judged: bool) -> Option<Stop> {
        let (Origin::Git(source), Some(floor)) = (origin, self.floor()) else { return None };
        let stored = Stored::look(&self.host.state()).ok().flatten()?.revision.commit.clone()?;
        if judged && source.revision().commit.as_ref() == Some(&stored) {
            return None;
        }
        // Where it cannot be told, as where the source is not to be had, drift is corrected on.
        let below = source.below_floor(&stored, floor).ok().flatten()?;
        Some(stop(Stage::Verify, &below))
    }

    fn waits(&self, tip: &Revision) -> String {
        let tip = tip.short();
        match &self.has {
            Some(has) => {
                format!("update = \"hold\": {tip} is seen and waits; keeping to {} until trueup approve", has.short())
            }
            None => format!("update = \"hold\": {tip} is seen, and nothing is applied before trueup approve"),
        }
    }

    fn compile(&self, origin: &mut Origin, report: &mut Report) -> Result<Made, Stop> {
        let from = compiled_from(self.host, self.ask, self.facts, origin);
        if self.reuse
            && let Some(compiled) = compiled_before(self.host, from, report)
        {
            return Ok((compiled, None));
        }
        let compiled = compile_host(origin, self.ask, self.host, self.facts, report)?;
        // What a key is missing for is read as soon as it is there.
        let from = from.filter(|_| !compiled.desired.has_unread_secrets());
        let raw = origin.raw().and_then(|raw| String::from_utf8(raw.to_vec()).ok());
        let told = Told { notes: noted(&compiled).collect(), from, raw };
        Ok((compiled, Some(told)))
    }

    /// Whether somebody whom root named has signed what is read. What was acted on already was judged when it came.
    fn believed(&self, source: &mut Source) -> Result<Option<Passed>, Stop> {
        let acted = source.revision().commit.as_ref().and_then(|commit| self.known.acted_on_at(commit));
        self.gate.judge(source, acted.unwrap_or_else(|| self.host.now())).at(Stage::Verify)
    }

    fn floor(&self) -> Option<&CommitId> {
        self.ask.settings.trust.floor.as_ref()
    }
}

/// What is said for as long as root's rollback holds.
pub(super) fn rolled_back(choice: &Choice) -> Stop {
    Stop {
        stage: Stage::Verify,
        class: Class::Stalled,
        reason: "rolled-back-by-root".to_owned(),
        message: format!(
            "rolled back to {} by {}; holds until trueup resume",
            choice.commit.short(),
            one_line(&choice.by, 80)
        ),
    }
}

/// A host that is held keeps to the revision it has.
fn pending(message: String) -> Stop {
    Stop { stage: Stage::Verify, class: Class::Stalled, reason: "held".to_owned(), message: one_line(&message, 1000) }
}

/// What is wrong with a commit that somebody chose, and what to do.
fn advise(error: &SourceError, hint: &str) -> Stop {
    let stop = stop(Stage::Verify, error);
    let chosen = matches!(
        error,
        SourceError::NoSuchCommit { .. } | SourceError::NotInHistory { .. } | SourceError::ChosenBelowFloor { .. }
    );
    if chosen { Stop { message: format!("{}; {hint}", stop.message), ..stop } } else { stop }
}
