//! trueup on real hosts: Debian's own systemd as PID 1, journald, D-Bus, dpkg or rpm, a network of their own.
//!
//! A [`Lab`] is what one test needs: a fleet repository with a Git server, a bridge, an apt or an rpm repository
//! where asked for, and hosts over a shared image of their [`Variant`]. What a lab made ends with it: servers and hosts are ended by
//! process id (and by the kernel if the test itself is killed), mounts live in a mount namespace of each host.
//!
//! Where the kernel and its page cache have to be the host's own, it is a virtual machine ([`vm`]).
//!
//! Needs root and the programs named in [`lab::PROGRAMS`]; `tests/setup` installs them. Where something is
//! missing a test says what, and fails if `CI` is set.
#![allow(clippy::disallowed_methods, reason = "a harness makes processes, files and mounts; the ban is for the agent")]

mod apt;
mod dnf;
mod git;
mod host;
mod image;
mod installed;
mod lab;
mod listing;
mod locks;
mod network;
mod report;
mod server;
mod vm;

// What is shown, one file a claim.
mod activation;
mod adopt;
mod agent;
mod agent_killed;
mod agent_socket;
mod deb;
mod demo;
mod disk_full;
mod doctor;
mod drift;
mod effective;
mod enablement;
mod ending;
mod exclusive;
mod forward;
mod hand;
mod hanging;
mod harness;
mod hold;
mod hostile;
mod journal;
mod letting_go;
mod observe;
mod one_pass;
mod own_upgrade;
mod packages;
mod page_cache;
mod plan_and_run;
mod power;
mod restarts;
mod revert;
mod rpm;
mod rpm_package;
mod safe;
mod secrets;
mod selection;
mod services;
mod sources;
mod swapped;
mod trixie;
mod trust;
mod unit_files;
mod units;
mod validation;
mod validation_killed;
mod varlink;
mod wall;

use host::Host;
use image::Variant;
use lab::Lab;
