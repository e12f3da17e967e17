//! trueup keeps plain Linux servers true to a Git repository. This page is the map of the house.
//!
//! > A commit becomes a *revision*; the revision and this host's *facts* compile to a *desired* set; the
//! > desired set meets what is *observed* and what the *ledger* says was last applied, and the three make a
//! > *plan*; across the write boundary the plan becomes *outcomes*, which are *settled*, *recorded* and
//! > *reported*.
//!
//! `Fetch → Verify → Compile → Observe → Plan ‖ Apply → Settle → Record → Report`. [`reconcile`] is that line as
//! code. A newcomer reads `reconcile.rs`, then `kinds/mod.rs`, and knows the house.
//!
//! # Storeys
//!
//! A module imports only from storeys below its own, so a circle cannot be built; a test reads the imports
//! and holds the order.
//!
//! | storey | module | pure? | holds |
//! | --- | --- | --- | --- |
//! | 0 | [`model`] | pure | the words: ids, revision, digest, cause, outcome, stage, facts |
//! | 1 | [`config`] | pure | the agent's own settings: fragments as written → settings that are valid |
//! | 2 | [`host`] | effects | the only door to the machine: [`host::Reader`], [`host::Writer`], [`host::StateDir`] |
//! | 3 | [`kinds`] | by signature | the trait [`kinds::Kind`], the list of kinds, `file`, `package`, `unit` |
//! | 4 | [`source`] | effects | the pipe to the fetch worker, objects verified, only forward; a [`source::Snapshot`] |
//! | 5 | [`manifest`] | pure | the repository's format as written: parse, spans, problems |
//! | 6 | [`compile`] | pure | a snapshot and facts → what is wanted, or every problem |
//! | 7 | [`ledger`] | pure, storing apart | what is ours, last applied, what stood before, what is owed |
//! | 8 | [`brakes`] | pure, storing apart | what holds changes back: suspensions, approval, contests, retries |
//! | 9 | [`plan`] | pure | classify, order, guard |
//! | 10 | [`apply`] | effects | walk the plan, settle, record |
//! | 11 | [`report`] | pure | one value; JSON, text, status, history and what the journal is told are made from it |
//! | 12 | [`reconcile`] | composition | one pass |
//! | 13 | [`daemon`] | effects | the agent: one loop, the schedule (pure), the status socket |
//! | 14 | [`cli`] | effects | one file a verb |
//! | aside | [`secret`] | pure but for sealing | age: who a secret is for, opening, sealing; plaintext that nothing prints |
//! | aside | [`worker`] | effects | the fetch worker: the only module that names gix; it knows the pipe's protocol and nothing else of the house |
//!
//! # Three locks
//!
//! 1. *Types.* A [`host::Reader`] cannot write. A [`host::Writer`] exists only by taking the exclusive lock, so
//!    a dry run is unable to write, not asked not to. [`host::StateDir`] writes our own directory only. All
//!    are rooted: the whole agent runs on a directory.
//! 2. *Lint.* clippy's `disallowed-methods` bans spawning, file writes and the wall clock outside of [`host`].
//! 3. *Test.* The storey test; and over every golden case: applying twice changes nothing the second time,
//!    a plan writes nothing, a crash anywhere and another pass end in the same tree, strangers are not touched.
//!
//! # What is absent
//!
//! No kind is a trait object: [`kinds::Spec`] and its like are closed enums, so a missing handler does not
//! compile. No spec holds content, only its digest, so neither ledger nor report can leak any. What a secret holds is
//! never stored but where it belongs: our own copies of it are encrypted to this host. No observation
//! that failed is taken for absence. Nothing is looked at on a mount that may hang before that answered. Nothing is
//! written that the synced ledger does not know of beforehand. Nothing outside of [`worker`] links to a Git, TLS or SSH parser. No `unsafe`.

pub mod apply;
pub mod brakes;
pub mod cli;
pub mod compile;
pub mod config;
pub mod daemon;
pub mod host;
pub mod kinds;
pub mod ledger;
pub mod manifest;
pub mod model;
pub mod plan;
pub mod reconcile;
pub mod report;
pub mod secret;
pub mod source;
pub mod worker;
