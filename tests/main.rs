//! The one test binary. `storeys` checks that no file is forgotten here.
#![allow(clippy::disallowed_methods, reason = "tests set the scene themselves")]

mod adopt;
mod binding;
mod brakes;
mod cli;
mod days;
mod doctor;
mod examples;
mod exclusive;
mod first;
mod golden;
mod held;
mod hosts;
mod journal;
mod mistakes;
mod model;
mod reasons;
mod reuse;
mod revert;
mod sample;
mod scratch;
mod secrets;
mod silent;
mod socket;
mod source;
mod storeys;
mod struck;
mod swapped;
mod transports;
mod trees;
mod verbs;
mod ways;
mod wire;
