//! The one test binary. `storeys` checks that no file is forgotten here.
#![allow(clippy::disallowed_methods, reason = "tests set the scene themselves")]

mod binding;
mod cli;
mod days;
mod examples;
mod golden;
mod hosts;
mod killed;
mod mistakes;
mod reasons;
mod source;
mod storeys;
