use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crate::kinds::file::{Exclusive, Replace};
use crate::kinds::package::{Downgrade, Version};
use crate::kinds::unit::{OnChange, ReloadFailed};
use crate::model::{Drift, Release, Update};
use crate::secret::Recipient;

/// A value and the bytes of the file it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct At<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub span: Range<usize>,
}

impl<T> At<T> {
    /// `value`, written at `span`.
    pub fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }

    /// Another value of the same place.
    pub fn map<U>(self, to: impl FnOnce(T) -> U) -> At<U> {
        At { value: to(self.value), span: self.span }
    }
}

/// Which manifest is being read; some keys stand in one kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// `roles/NAME/role.toml`.
    Role,
    /// `hosts/NAME/host.toml`.
    Host,
}

/// `trueup.toml`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fleet {
    /// `[vars]` of all hosts.
    pub vars: Vars,
    /// `[policy]` of all hosts.
    pub policy: Policy,
    /// `[guard] max_removals`.
    pub max_removals: Option<At<u64>>,
    /// `[secrets]`: who can read every secret besides its hosts.
    pub recipients: Vec<At<Recipient>>,
}

/// `role.toml` or `host.toml`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layer {
    /// `roles`, in order.
    pub roles: Vec<Include>,
    /// `machine_id`, hosts only.
    pub machine_id: Option<At<String>>,
    /// `[secrets]`, hosts and the fleet only: whom their secrets are encrypted to.
    pub recipients: Vec<At<Recipient>>,
    /// `[facts]`.
    pub facts: Assumed,
    /// `[vars]`.
    pub vars: Vars,
    /// `[policy]`.
    pub policy: Policy,
    /// `[guard] max_removals`.
    pub max_removals: Option<At<u64>>,
    /// `[packages]`.
    pub packages: Vec<PackageEntry>,
    /// `[files]`, exact paths and patterns.
    pub files: Vec<FileEntry>,
    /// `[units]`.
    pub units: Vec<UnitEntry>,
    /// `[checks]`.
    pub checks: Vec<CheckEntry>,
}

/// One entry of `[checks]`.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckEntry {
    /// Its name.
    pub name: At<String>,
    /// What is asked; none where that is wrong, which was told.
    pub probe: Option<At<Probe>>,
    /// `user`: who runs a command.
    pub user: Option<At<String>>,
    /// `timeout`: how long one try may take.
    pub timeout: Option<At<Duration>>,
    /// Only where this holds.
    pub when: Option<At<String>>,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Whether this URL answers well.
    Http(String),
    /// Whether somebody listens at this address and port.
    Tcp(String),
    /// Whether this program ends well.
    Command(Vec<String>),
}

/// One element of `roles`.
#[derive(Debug, Clone, PartialEq)]
pub struct Include {
    /// The role's name.
    pub role: At<String>,
    /// Included only where this holds.
    pub when: Option<At<String>>,
}

/// `[facts]`: what to assume off the host, and what must be so on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assumed {
    /// Distribution and version, `debian:12`; the version is empty where none was given.
    pub os: Option<At<(String, String)>>,
    /// See [`crate::model::Facts`].
    pub arch: Option<At<String>>,
    /// See [`crate::model::Facts`].
    pub hostname: Option<At<String>>,
    /// See [`crate::model::Facts`].
    pub fqdn: Option<At<String>>,
    /// See [`crate::model::Facts`].
    pub machine_id: Option<At<String>>,
    /// See [`crate::model::Facts`].
    pub cpus: Option<At<u32>>,
    /// See [`crate::model::Facts`].
    pub memory_mib: Option<At<u64>>,
}

/// A table of variables.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vars(pub BTreeMap<String, VarEntry>);

/// One variable. Two are equal where their values are, wherever they stand.
#[derive(Debug, Clone)]
pub struct VarEntry {
    /// Where its name stands.
    pub key: Range<usize>,
    /// What it is.
    pub value: Var,
}

impl PartialEq for VarEntry {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// The value of a variable.
#[derive(Debug, Clone, PartialEq)]
pub enum Var {
    /// A string, or a date or time as written.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A list.
    Array(Vec<Var>),
    /// A table.
    Table(Vars),
}

/// `[policy]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// What to do about drift.
    pub drift: Option<At<Drift>>,
    /// What happens when a declaration goes away.
    pub release: Option<At<Release>>,
    /// Whether new revisions are applied.
    pub update: Option<At<Update>>,
}

/// Whether a package is to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is.
    Present,
    /// It is not.
    Absent,
}

/// One entry of `[packages]`.
#[derive(Debug, Clone, PartialEq)]
pub struct PackageEntry {
    /// The package.
    pub name: At<String>,
    /// Present where nothing else was said.
    pub state: At<State>,
    /// Exact or a pattern; `None` is any.
    pub version: Option<At<Version>>,
    /// Whether a newer one may be replaced.
    pub downgrade: Option<At<Downgrade>>,
    /// Declared only where this holds.
    pub when: Option<At<String>>,
    /// Its own policy.
    pub drift: Option<At<Drift>>,
    /// Its own policy.
    pub release: Option<At<Release>>,
}

/// What a `[files]` entry says of what stands at its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// `content = "…"`.
    Inline(String),
    /// `source = "…"`: a file of the repository.
    Source(String),
    /// `type = "directory"`.
    Directory,
    /// `type = "symlink"` with its `target`.
    Symlink(String),
    /// `state = "absent"`.
    Absent,
    /// `attributes_only = true`.
    Attributes,
}

/// One entry of `[files]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FileEntry {
    /// Path or pattern, as written.
    pub path: At<String>,
    /// Whether it is a pattern.
    pub pattern: bool,
    /// What stands there; `None` where the tree says it.
    pub stand: Option<At<Stand>>,
    /// User name or number.
    pub owner: Option<At<String>>,
    /// Group name or number.
    pub group: Option<At<String>>,
    /// Permission bits.
    pub mode: Option<At<u32>>,
    /// What may be in the way.
    pub replace: Option<At<Replace>>,
    /// Whether nothing but what is declared may be in it; `Some(None)` is said to be false.
    pub exclusive: Option<At<Option<Exclusive>>>,
    /// What judges it before it is installed: a program and its arguments.
    pub validate: Option<At<Vec<String>>>,
    /// Ships a file of the tree as it is, suffixes and all.
    pub raw: Option<At<bool>>,
    /// Declared only where this holds.
    pub when: Option<At<String>>,
    /// Its own policy.
    pub drift: Option<At<Drift>>,
    /// Its own policy.
    pub release: Option<At<Release>>,
    /// Something in it was wrong and has been told, so what is missing from it is no further mistake.
    pub broken: bool,
}

/// One entry of `[units]`.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitEntry {
    /// The unit.
    pub name: At<String>,
    /// `Some(None)` is said to be left alone: what `masked` does to what another layer says.
    pub enabled: Option<At<Option<bool>>>,
    /// As `enabled`.
    pub active: Option<At<Option<bool>>>,
    /// Whether nothing may start it.
    pub masked: Option<At<bool>>,
    /// What to do when something it uses changes.
    pub on_change: Option<At<OnChange>>,
    /// Patterns of declared files that it uses.
    pub watch: Vec<At<String>>,
    /// The same, of files for which it restarts.
    pub watch_restart: Vec<At<String>>,
    /// The same, of files for which it reloads.
    pub watch_reload: Vec<At<String>>,
    /// What to do where a reload fails.
    pub reload_failed: Option<At<ReloadFailed>>,
    /// What judges those once all are in place: a program and its arguments.
    pub validate: Option<At<Vec<String>>>,
    /// Declared only where this holds.
    pub when: Option<At<String>>,
    /// Its own policy.
    pub drift: Option<At<Drift>>,
    /// Its own policy.
    pub release: Option<At<Release>>,
}
