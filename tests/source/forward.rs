//! Only forward; and commits that somebody chose.

use std::fs;

use trueup::model::{Class, CommitId};
use trueup::source::{Entry, Record, Source, Stands};

use super::{Bench, git, git_daemon, layers};

#[test]
fn a_force_push_is_refused_and_a_fast_forward_is_not() {
    let bench = Bench::new();
    let first = bench.commit("first");
    let mut record = Record::default();
    record.apply("main", &first, 1);

    git(&bench.work(), &["checkout", "--quiet", "-b", "side"]);
    bench.commit("on the side");
    git(&bench.work(), &["checkout", "--quiet", "main"]);
    bench.commit("second");
    git(&bench.work(), &["merge", "--quiet", "--no-edit", "side"]);
    let merged: CommitId = git(&bench.work(), &["rev-parse", "HEAD"]).parse().expect("an id");
    let mut source = bench.open(&bench.local()).expect("opens");
    source.only_forward(&record, Some(&first)).expect("a fast-forward over a merge");
    record.apply("main", &merged, 2);
    drop(source);

    git(&bench.work(), &["reset", "--quiet", "--hard", first.as_str()]);
    let rewritten = bench.commit("rewritten");
    let error = bench.open(&bench.local()).expect("opens").only_forward(&record, None).expect_err("a force-push");
    assert_eq!((error.reason(), error.class()), ("not-a-descendant", Class::Stalled));
    let (from, to) = (merged.short(), rewritten.short());
    assert_eq!(
        error.to_string(),
        format!("main moved from {from} to {to}, which does not contain it; staying on {from}")
    );

    git(&bench.work(), &["reset", "--quiet", "--hard", first.as_str()]);
    let error = bench.open(&bench.local()).expect("opens").only_forward(&record, None).expect_err("an older commit");
    assert_eq!(error.reason(), "not-a-descendant");
    let error = bench.open(&bench.local()).expect("opens").only_forward(&Record::default(), Some(&merged));
    assert_eq!(error.expect_err("below the floor").reason(), "below-floor");
}

/// main is at `third`, on top of `second` and `first`; `stranger` is on another branch.
struct Line {
    bench: Bench,
    first: CommitId,
    second: CommitId,
    third: CommitId,
    stranger: CommitId,
}

fn line() -> Line {
    let bench = Bench::new();
    let said = |text: &str| {
        bench.file("hosts/web-01/files/etc/motd", text);
        bench.commit(text)
    };
    let first = said("first");
    git(&bench.work(), &["checkout", "--quiet", "-b", "side"]);
    let stranger = said("stranger");
    git(&bench.work(), &["checkout", "--quiet", "main"]);
    let (second, third) = (said("second"), said("third"));
    Line { bench, first, second, third, stranger }
}

fn motd(source: &mut Source) -> String {
    let mut snapshot = source.snapshot().expect("a snapshot");
    assert_eq!(&snapshot.revision, source.revision());
    source.read_layers(&mut snapshot, &layers(&["hosts/web-01"])).expect("reads");
    match &snapshot.entries["hosts/web-01/files/etc/motd"] {
        Entry::File { content, .. } => String::from_utf8_lossy(content).into_owned(),
        other => panic!("{other:?}"),
    }
}

fn nowhere() -> CommitId {
    "0123456789".repeat(4).parse().expect("40 digits")
}

#[test]
fn a_source_that_is_turned_to_an_older_commit_reads_that_one_and_knows_its_tip() {
    let line = line();
    let mut source = line.bench.open(&line.bench.local()).expect("opens");
    assert_eq!(motd(&mut source), "third");
    for (commit, text) in [(&line.first, "first"), (&line.second, "second"), (&line.third, "third")] {
        source.turn_to(commit).expect("it is there");
        assert_eq!(motd(&mut source), text);
        assert_eq!((source.revision().subject.as_str(), source.tip().subject.as_str()), (text, "third"));
    }
    assert_eq!(source.turn_to(&nowhere()).expect_err("not there").reason(), "corrupt-object");
}

#[test]
fn a_commit_that_is_approved_has_to_be_of_the_branch_and_above_the_floor() {
    let line = line();
    let mut source = line.bench.open(&line.bench.local()).expect("opens");
    let mut record = Record::default();
    let mut judged = |record: &Record, commit: &CommitId, floor: Option<&CommitId>| {
        source.approved(commit, record, floor).map_err(|error| error.reason())
    };
    assert_eq!(judged(&record, &line.first, None), Ok(Stands::Ahead), "nothing was acted on yet");
    record.apply("main", &line.second, 1);
    assert_eq!(judged(&record, &line.third, None), Ok(Stands::Ahead));
    assert_eq!(judged(&record, &line.second, None), Ok(Stands::Ahead), "it is that");
    assert_eq!(judged(&record, &line.first, None), Ok(Stands::Behind));
    assert_eq!(judged(&record, &line.stranger, None), Err("not-in-history"));
    assert_eq!(judged(&record, &nowhere(), None), Err("no-such-commit"));
    assert_eq!(judged(&record, &line.second, Some(&line.second)), Ok(Stands::Ahead));
    assert_eq!(judged(&record, &line.first, Some(&line.second)), Err("below-floor"));
    // Gone back since, by root's word: how far the branch had come is what counts.
    record.go_back("main", &line.first, 2);
    assert_eq!(judged(&record, &line.first, None), Ok(Stands::Behind));
}

#[test]
fn root_goes_back_to_what_is_in_the_history_of_the_branch_and_above_the_floor() {
    let line = line();
    let mut record = Record::default();
    record.apply("main", &line.second, 1);
    let back = |record: &Record, commit: &CommitId, floor: Option<&CommitId>| {
        let mut source = line.bench.open(&line.bench.local()).expect("opens");
        let back = source.back_to(commit, record, floor).map_err(|error| (error.reason(), error.class()))?;
        Ok((back.stands, back.refused.map(|error| error.reason())))
    };
    assert_eq!(back(&record, &line.first, None), Ok((Stands::Behind, None)));
    assert_eq!(back(&record, &line.third, None), Ok((Stands::Ahead, None)), "not applied here before");
    assert_eq!(back(&Record::default(), &line.first, None), Ok((Stands::Ahead, None)), "a new host");
    assert_eq!(back(&record, &line.first, Some(&line.second)), Err(("below-floor", Class::Stalled)));
    assert_eq!(back(&record, &line.stranger, None), Err(("not-in-history", Class::Stalled)));
    assert_eq!(back(&record, &nowhere(), None), Err(("no-such-commit", Class::Stalled)));

    // A server that serves an older branch is still refused, and takes nothing from root's word.
    record.apply("main", &line.third, 2);
    record.go_back("main", &line.first, 3);
    git(&line.bench.work(), &["reset", "--quiet", "--hard", line.second.as_str()]);
    assert_eq!(back(&record, &line.first, None), Ok((Stands::Behind, Some("not-a-descendant"))));
    let error = line.bench.open(&line.bench.local()).expect("opens").only_forward(&record, None).expect_err("older");
    let (from, to, staying) = (line.third.short(), line.second.short(), line.first.short());
    assert_eq!(
        error.to_string(),
        format!("main moved from {from} to {to}, which does not contain it; staying on {staying}")
    );
    // What only the refused branch contains is nobody's history.
    git(&line.bench.work(), &["reset", "--quiet", "--hard", line.first.as_str()]);
    let forced = line.bench.commit("forced");
    assert_eq!(back(&record, &forced, None), Err(("not-a-descendant", Class::Stalled)));
    assert_eq!(back(&record, &line.second, None), Ok((Stands::Behind, Some("not-a-descendant"))));
}

#[test]
fn a_rewritten_branch_takes_no_fresh_clone_at_each_look_for_a_commit_that_is_gone() {
    let line = line();
    let (_daemon, url) = git_daemon(line.bench.at.path());
    let settings = line.bench.settings(&url);
    let mut record = Record::default();
    record.apply("main", &line.third, 1);
    record.go_back("main", &line.second, 2);
    // The server has nothing of the old branch any more, and our clone is lost: `second` is to be had nowhere.
    git(&line.bench.work(), &["checkout", "--quiet", "--orphan", "new"]);
    line.bench.commit("another beginning");
    git(&line.bench.work(), &["branch", "--quiet", "--force", "main", "new"]);
    drop(line.bench.open(&settings).expect("clones"));
    let clone = line.bench.clone();
    let mark = clone.join("mark");
    fs::write(&mark, "").expect("write");
    for commit in [&line.second, &line.first, &nowhere()] {
        let mut source = line.bench.open(&settings).expect("looks");
        assert_eq!(source.back_to(commit, &record, None).expect_err("gone").reason(), "not-a-descendant");
        let judged = source.approved(commit, &record, None).expect_err("gone");
        assert_eq!(judged.reason(), "no-such-commit", "{judged}");
    }
    assert!(mark.exists(), "the clone is still the same");
}
