use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::source::trust::tests::workshop::{Hand, MADE, NOW, Workshop, trust};

/// Commits, made as they are needed.
#[derive(Default)]
struct Forge {
    links: BTreeMap<CommitId, Link>,
    asked: Vec<CommitId>,
}

impl History for Forge {
    type Error = Infallible;

    fn commit(&mut self, id: &CommitId) -> Result<Link, Infallible> {
        self.asked.push(id.clone());
        Ok(self.links[id].clone())
    }
}

impl Forge {
    /// A commit with `parents` and this content of the file of signers, signed by `hand`.
    fn commit(&mut self, parents: &[&CommitId], signers: Option<&str>, hand: Option<&Hand>) -> CommitId {
        let who = format!("Ana <ana@example.org> {} +0000", MADE + i64::try_from(self.links.len()).expect("few"));
        let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
        let payload = format!(
            "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n{parents}author {who}\ncommitter {who}\n\nsubject\n"
        );
        let raw = hand.map_or_else(|| payload.clone().into_bytes(), |hand| hand.sign(&payload));
        let id = gix_object::compute_hash(gix_hash::Kind::Sha1, gix_object::Kind::Commit, &raw).expect("no collision");
        let id: CommitId = id.to_string().parse().expect("an id");
        let signers = signers.map(|text| Arc::from(text.as_bytes()));
        self.links.insert(id.clone(), Link::New { commit: Arc::from(raw), signers });
        id
    }

    /// `id` is believed from now on.
    fn trust(&mut self, id: &CommitId) {
        let (Link::New { signers, .. } | Link::Trusted { signers }) = self.links[id].clone();
        self.links.insert(id.clone(), Link::Trusted { signers });
    }

    /// A commit that is believed.
    fn introduction(&mut self, signers: Option<&str>) -> CommitId {
        let id = self.commit(&[], signers, None);
        self.trust(&id);
        id
    }

    fn judge(&mut self, tip: &CommitId, host: &Trust) -> Result<Judged, ChainError<Infallible>> {
        self.asked.clear();
        judge(self, tip, host, &Zone::utc(), NOW)
    }

    /// `fine`, or the reason and the commit that it is about.
    fn said(&mut self, tip: &CommitId, host: &Trust) -> (&'static str, Option<CommitId>) {
        match self.judge(tip, host) {
            Ok(_) => ("fine", None),
            Err(error) => {
                let reason = error.reason().expect("a word");
                let commit = match error {
                    ChainError::Refused { commit, .. }
                    | ChainError::SignersRemoved { commit, .. }
                    | ChainError::BadSigners { commit, .. }
                    | ChainError::Unrelated { commit } => Some(commit),
                    _ => None,
                };
                (reason, commit)
            }
        }
    }
}

fn hands() -> [Hand; 3] {
    [1, 2, 3].map(Hand::new)
}

#[test]
fn each_commit_is_signed_by_somebody_whom_its_parent_allows() {
    let [ana, ben, eve] = hands();
    let host = trust(eve.line(), "");
    let mut forge = Forge::default();
    let (one, both) = (ana.line(), ana.line() + &ben.line());
    let introduction = forge.introduction(Some(&one));
    let added = forge.commit(&[&introduction], Some(&both), Some(&ana));
    let by_ben = forge.commit(&[&added], Some(&both), Some(&ben));
    let without_ana = forge.commit(&[&by_ben], Some(&ben.line()), Some(&ana));
    let judged = forge.judge(&without_ana, &host).expect("believed");
    assert_eq!(judged.signed.expect("new").principal, ana.name());
    assert_eq!(judged.commits, [added.clone(), by_ben.clone(), without_ana.clone()]);
    assert_eq!(forge.asked.len(), 4, "each once: {:?}", forge.asked);
    // Ana let herself go: what she signs after that is nobody's.
    let late = forge.commit(&[&without_ana], Some(&ben.line()), Some(&ana));
    assert_eq!(forge.said(&late, &host), ("unknown-key", Some(late.clone())));
    // Nobody allows oneself.
    let taken = forge.commit(&[&introduction], Some(&both), Some(&ben));
    let after = forge.commit(&[&taken], Some(&both), Some(&ben));
    assert_eq!(forge.said(&after, &host), ("unknown-key", Some(taken)), "the first that is wrong is told");
    // What the host says is not asked where the repository says something.
    let by_host = forge.commit(&[&introduction], Some(&one), Some(&eve));
    assert_eq!(forge.said(&by_host, &host), ("unknown-key", Some(by_host.clone())));
}

#[test]
fn an_unsigned_commit_is_refused_wherever_it_stands() {
    let [ana, ..] = hands();
    let host = trust(ana.line(), "");
    for signers in [None, Some(ana.line())] {
        let mut forge = Forge::default();
        let introduction = forge.introduction(signers.as_deref());
        let unsigned = forge.commit(&[&introduction], signers.as_deref(), None);
        let after = forge.commit(&[&unsigned], signers.as_deref(), Some(&ana));
        assert_eq!(forge.said(&unsigned, &host), ("unsigned", Some(unsigned.clone())));
        assert_eq!(forge.said(&after, &host), ("unsigned", Some(unsigned)));
    }
}

#[test]
fn the_signers_of_the_host_decide_where_the_repository_has_none() {
    let [ana, ben, _] = hands();
    let host = trust(ana.line(), "");
    let mut forge = Forge::default();
    let introduction = forge.introduction(None);
    let next = forge.commit(&[&introduction], None, Some(&ana));
    let begun = forge.commit(&[&next], Some(&ben.line()), Some(&ana));
    let by_ben = forge.commit(&[&begun], Some(&ben.line()), Some(&ben));
    assert_eq!(forge.judge(&by_ben, &host).expect("believed").commits.len(), 3);
    let too_early = forge.commit(&[&next], Some(&ben.line()), Some(&ben));
    assert_eq!(forge.said(&too_early, &host), ("unknown-key", Some(too_early.clone())));
    let too_late = forge.commit(&[&begun], Some(&ben.line()), Some(&ana));
    assert_eq!(forge.said(&too_late, &host), ("unknown-key", Some(too_late.clone())));
}

#[test]
fn the_file_of_signers_can_neither_go_nor_be_emptied_nor_broken() {
    let [ana, ..] = hands();
    let host = trust(ana.line(), "");
    let mut forge = Forge::default();
    let introduction = forge.introduction(Some(&ana.line()));
    let removed = forge.commit(&[&introduction], None, Some(&ana));
    let after = forge.commit(&[&removed], None, Some(&ana));
    for tip in [&removed, &after] {
        assert_eq!(forge.said(tip, &host), ("signers-removed", Some(removed.clone())));
    }
    let sentence = forge.judge(&removed, &host).expect_err("removed").to_string();
    assert!(sentence.contains(removed.short()) && sentence.contains(introduction.short()), "{sentence}");
    for text in ["", "# nobody\n", "ana ssh-ed25519\n", &format!("ana restrict {}", ana.line())] {
        let emptied = forge.commit(&[&introduction], Some(text), Some(&ana));
        let after = forge.commit(&[&emptied], Some(&ana.line()), Some(&ana));
        for tip in [&emptied, &after] {
            assert_eq!(forge.said(tip, &host), ("bad-signers", Some(emptied.clone())), "{text:?}");
        }
    }
    // What is not even signed well is not read.
    let hostile = forge.commit(&[&introduction], Some(""), None);
    assert_eq!(forge.said(&hostile, &host).0, "unsigned");
    let broken = forge.introduction(Some("ana\n"));
    let after = forge.commit(&[&broken], Some(&ana.line()), Some(&ana));
    assert_eq!(forge.said(&after, &host), ("bad-signers", Some(broken)));
}

#[test]
fn a_merge_is_signed_by_somebody_whom_all_sides_allow() {
    let [ana, ben, eve] = hands();
    let host = trust(eve.line(), "");
    let mut forge = Forge::default();
    let both = ana.line() + &ben.line();
    let introduction = forge.introduction(Some(&ana.line()));
    // On a side branch Ben is allowed, and there alone.
    let side = forge.commit(&[&introduction], Some(&both), Some(&ana));
    let by_ben = forge.commit(&[&side], Some(&both), Some(&ben));
    let main = forge.commit(&[&introduction], Some(&ana.line()), Some(&ana));
    // Whichever comes first, in the commit and by its id.
    for _ in 0..8 {
        let main = forge.commit(&[&main], Some(&ana.line()), Some(&ana));
        for parents in [[&main, &by_ben], [&by_ben, &main]] {
            let unauthorised = forge.commit(&parents, Some(&both), Some(&ben));
            assert_eq!(forge.said(&unauthorised, &host), ("unknown-key", Some(unauthorised.clone())));
        }
    }
    let authorised = forge.commit(&[&main, &by_ben], Some(&both), Some(&ana));
    assert_eq!(forge.said(&authorised, &host), ("fine", None));
    let after = forge.commit(&[&authorised], Some(&both), Some(&ben));
    assert_eq!(forge.said(&after, &host), ("fine", None));
    // The second parent is a commit that only its own branch allows: the commit itself is the one that is refused.
    let strange = forge.commit(&[&introduction], Some(&both), Some(&ben));
    let merge = forge.commit(&[&main, &strange], Some(&both), Some(&ana));
    assert_eq!(forge.said(&merge, &host), ("unknown-key", Some(strange)));
    let dropped = forge.commit(&[&main, &by_ben], None, Some(&ana));
    assert_eq!(forge.said(&dropped, &host), ("signers-removed", Some(dropped.clone())));
}

#[test]
fn a_side_without_signers_is_judged_by_the_host() {
    let [ana, ben, _] = hands();
    let mut forge = Forge::default();
    let introduction = forge.introduction(None);
    let with = forge.commit(&[&introduction], Some(&ben.line()), Some(&ana));
    let without = forge.commit(&[&introduction], None, Some(&ana));
    let merge = forge.commit(&[&with, &without], Some(&ben.line()), Some(&ben));
    assert_eq!(forge.said(&merge, &trust(ana.line(), "")), ("unknown-key", Some(merge.clone())));
    assert_eq!(forge.said(&merge, &trust(ana.line() + &ben.line(), "")), ("fine", None));
    let removed = forge.commit(&[&with, &without], None, Some(&ben));
    assert_eq!(forge.said(&removed, &trust(ana.line() + &ben.line(), "")).0, "signers-removed");
}

#[test]
fn every_commit_descends_from_one_that_is_believed() {
    let [ana, ..] = hands();
    let host = trust(ana.line(), "");
    let mut forge = Forge::default();
    let introduction = forge.introduction(None);
    let root = forge.commit(&[], None, Some(&ana));
    assert_eq!(forge.said(&root, &host), ("unrelated-history", Some(root.clone())));
    let merge = forge.commit(&[&introduction, &root], None, Some(&ana));
    assert_eq!(forge.said(&merge, &host), ("unrelated-history", Some(root.clone())));
    let itself = forge.judge(&introduction, &host).expect("believed");
    assert_eq!(itself, Judged { signed: None, commits: vec![] });
    // A branch that left before the introduction comes from nowhere that is believed, too.
    let before = forge.commit(&[], None, Some(&ana));
    let late = forge.commit(&[&before], None, Some(&ana));
    forge.trust(&late);
    let aside = forge.commit(&[&before], None, Some(&ana));
    let merge = forge.commit(&[&late, &aside], None, Some(&ana));
    assert_eq!(forge.said(&merge, &host), ("unrelated-history", Some(before.clone())));
    forge.trust(&before);
    assert_eq!(forge.said(&merge, &host), ("fine", None));
}

#[test]
fn revocations_of_the_host_hold_for_the_signers_of_the_repository() {
    let [ana, ..] = hands();
    let mut forge = Forge::default();
    let introduction = forge.introduction(Some(&ana.line()));
    let next = forge.commit(&[&introduction], Some(&ana.line()), Some(&ana));
    assert_eq!(forge.said(&next, &trust(ana.line(), "")).0, "fine");
    assert_eq!(forge.said(&next, &trust(ana.line(), &ana.fingerprint())).0, "revoked-key");
}

#[test]
fn a_circle_ends_and_is_not_believed() {
    let [ana, ..] = hands();
    let host = trust(ana.line(), "");
    let mut forge = Forge::default();
    let introduction = forge.introduction(None);
    let one = forge.commit(&[&introduction], None, Some(&ana));
    let two = forge.commit(&[&one], None, Some(&ana));
    // No hash gives that; ids are believed here, so that nothing may hang on it.
    let link = forge.links[&two].clone();
    forge.links.insert(one.clone(), link);
    assert_eq!(forge.said(&two, &host), ("unrelated-history", Some(two.clone())));
}

#[test]
fn a_chain_that_is_too_long_is_refused_and_a_long_one_costs_no_stack() {
    struct Endless(u64);
    impl History for Endless {
        type Error = Infallible;
        fn commit(&mut self, _: &CommitId) -> Result<Link, Infallible> {
            self.0 += 1;
            let who = "Ana <ana@example.org> 1 +0000";
            let text = format!("tree {:040}\nparent {:040x}\nauthor {who}\ncommitter {who}\n\nsubject\n", 0, self.0);
            Ok(Link::New { commit: Arc::from(text.into_bytes()), signers: None })
        }
    }
    let tip: CommitId = "0".repeat(40).parse().expect("an id");
    let error = judge(&mut Endless(0), &tip, &trust(hands()[0].line(), ""), &Zone::utc(), NOW).expect_err("endless");
    assert_eq!(error.reason(), Some("too-large"));
    assert!(error.to_string().contains("50000 commits between 0000000 and"), "{error}");
}

#[test]
fn commits_of_git_itself_are_a_chain_too() {
    let workshop = Workshop::new();
    let (path, line) = workshop.ed25519("key");
    let commits = [MADE, MADE + 1, MADE + 2].map(|time| workshop.commit_at(&path, time));
    let mut forge = Forge::default();
    let ids = commits.clone().map(|raw| {
        let id = gix_object::compute_hash(gix_hash::Kind::Sha1, gix_object::Kind::Commit, &raw).expect("no collision");
        let id: CommitId = id.to_string().parse().expect("an id");
        forge.links.insert(id.clone(), Link::New { commit: Arc::from(raw), signers: None });
        id
    });
    let host = trust(format!("ana {line}"), "");
    assert_eq!(forge.said(&ids[2], &host), ("unrelated-history", Some(ids[0].clone())));
    forge.trust(&ids[0]);
    assert_eq!(forge.judge(&ids[2], &host).expect("believed").commits, ids[1..]);
}

/// What one commit of a random history is: its parents among those before it, who signs, and whom it allows.
type Plan = (Vec<prop::sample::Index>, Option<usize>, Option<Vec<usize>>);

fn plan() -> impl Strategy<Value = Vec<Plan>> {
    let parents = prop::collection::vec(any::<prop::sample::Index>(), 1..3);
    let by = prop_oneof![1 => Just(None), 12 => (0..3_usize).prop_map(Some)];
    let allowed = prop::sample::subsequence(vec![0, 1, 2], 0..=3);
    let signers = prop_oneof![1 => Just(None), 3 => Just(Some(vec![0, 1, 2])), 2 => allowed.prop_map(Some)];
    prop::collection::vec((parents, by, signers), 1..7)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
    /// The rule, said for each commit by itself.
    #[test]
    fn a_chain_is_believed_where_the_rule_holds_for_each_of_its_commits(plan in plan(), first in prop::option::of(Just(vec![0, 1]))) {
        let hands = hands();
        let host = trust(hands[0].line() + &hands[2].line(), "");
        let text = |allowed: &Option<Vec<usize>>| {
            allowed.as_ref().map(|allowed| allowed.iter().map(|hand| hands[*hand].line()).collect::<String>())
        };
        let mut forge = Forge::default();
        let mut made = vec![(forge.introduction(text(&first).as_deref()), first)];
        let mut needed: Vec<BTreeSet<usize>> = vec![BTreeSet::new()];
        let mut holds = vec![true];
        for (at, (parents, by, signers)) in plan.into_iter().enumerate() {
            let parents: BTreeSet<usize> = parents.iter().map(|parent| parent.index(made.len())).collect();
            let ids: Vec<&CommitId> = parents.iter().map(|parent| &made[*parent].0).collect();
            let id = forge.commit(&ids, text(&signers).as_deref(), by.map(|hand| &hands[hand]));
            let allows = |parent: &usize| match &made[*parent].1 {
                None => by.is_some_and(|hand| hand != 1),
                Some(allowed) => by.is_some_and(|hand| allowed.contains(&hand)) && signers.is_some(),
            };
            holds.push(parents.iter().all(allows) && signers.as_ref().is_none_or(|allowed| !allowed.is_empty()));
            let before = parents.iter().flat_map(|parent| needed[*parent].clone()).chain([at + 1]).collect();
            needed.push(before);
            made.push((id, signers));
        }
        for (at, (id, _)) in made.iter().enumerate() {
            let believed = needed[at].iter().all(|commit| holds[*commit]);
            prop_assert_eq!(forge.judge(id, &host).is_ok(), believed, "commit {} of {:?}", at, &made);
        }
    }
}
