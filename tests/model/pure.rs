//! The model: what a pass makes of one path, from what is declared, what stands there and what was ours. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::super::sample::Dice;
use super::put;

/// What is in a directory, which trueup never looks into: name and content.
pub type Inside = BTreeMap<String, String>;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    File { content: String, mode: u32 },
    Link(String),
    Directory { mode: u32, inside: Inside },
}

/// What is wanted at a path.
#[derive(Debug, Clone, PartialEq)]
pub enum Want {
    File { content: String, mode: u32, template: bool },
    Link(String),
    Directory { mode: u32 },
    Absent,
    Attributes { mode: u32 },
}

/// A declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    pub want: Want,
    /// `replace = "any"`.
    pub replaces: bool,
    /// `drift = "report"`.
    pub report: bool,
    /// `release = "leave"`.
    pub leave: bool,
}

/// What stood there before trueup wrote there.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// What was declared; it was never written.
    Adopted,
    Found {
        before: Option<Node>,
        overwritten: bool,
    },
}

/// What trueup knows of a path that it has taken charge of.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub origin: Origin,
    pub applied: Option<Want>,
    /// What a pass was about to bring about that did not come to its end.
    pub intended: Option<Want>,
    pub report: bool,
    pub leave: bool,
}

/// What comes of a path.
#[derive(Debug, Clone)]
pub struct Fate {
    /// What stands there then.
    pub node: Option<Node>,
    pub entry: Option<Entry>,
    /// What is known of it while that is being brought about.
    pub intended: Option<Entry>,
    /// Why it is not as declared; empty where it is.
    pub reason: &'static str,
}

impl Node {
    pub fn thrown(dice: &mut Dice) -> Self {
        let n = dice.below(4);
        let mode = [0o644, 0o600][dice.below(2)];
        match dice.below(4) {
            0 => Self::Link(format!("by-hand-{n}")),
            1 => {
                let inside = (0..n % 3).map(|n| (format!("by-hand-{n}"), format!("{n}\n")));
                Self::Directory { mode: 0o755, inside: inside.collect() }
            }
            _ => Self::File { content: format!("by hand {n}\n"), mode },
        }
    }

    pub fn with_mode(&self, bits: u32) -> Self {
        let mut node = self.clone();
        if let Self::File { mode, .. } | Self::Directory { mode, .. } = &mut node {
            *mode = bits;
        }
        node
    }

    fn mode(&self) -> Option<u32> {
        match self {
            Self::File { mode, .. } | Self::Directory { mode, .. } => Some(*mode),
            Self::Link(_) => None,
        }
    }

    fn is_full(&self) -> bool {
        matches!(self, Self::Directory { inside, .. } if !inside.is_empty())
    }

    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }

    /// Of the same type.
    fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Want {
    /// Something of ours stands there.
    fn is_thing(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Link(_) | Self::Directory { .. })
    }

    fn is_like(&self, seen: &Node) -> bool {
        matches!(
            (self, seen),
            (Self::File { .. }, Node::File { .. })
                | (Self::Link(_), Node::Link(_))
                | (Self::Directory { .. }, Node::Directory { .. })
        )
    }

    fn overwrites(&self) -> bool {
        !matches!(self, Self::Attributes { .. })
    }

    fn holds(&self, seen: Option<&Node>) -> bool {
        match (self, seen) {
            (Self::Absent, seen) => seen.is_none(),
            (Self::File { content, mode, .. }, Some(Node::File { content: is, mode: bits })) => {
                content == is && mode == bits
            }
            (Self::Link(target), Some(Node::Link(is))) => target == is,
            (Self::Directory { mode }, Some(Node::Directory { mode: bits, .. })) => mode == bits,
            (Self::Attributes { mode }, Some(seen)) => seen.mode().is_none_or(|bits| bits == *mode),
            _ => false,
        }
    }

    /// What stands there once it holds, where `seen` is in nobody's way.
    fn over(&self, seen: Option<&Node>) -> Option<Node> {
        match (self, seen) {
            (Self::Absent, _) => None,
            (Self::File { content, mode, .. }, _) => Some(Node::File { content: content.clone(), mode: *mode }),
            (Self::Link(target), _) => Some(Node::Link(target.clone())),
            (Self::Directory { mode }, Some(seen @ Node::Directory { .. })) => Some(seen.with_mode(*mode)),
            (Self::Directory { mode }, _) => Some(Node::Directory { mode: *mode, inside: Inside::new() }),
            (Self::Attributes { mode }, seen) => seen.map(|seen| seen.with_mode(*mode)),
        }
    }
}

impl Declared {
    pub fn thrown(dice: &mut Dice) -> Self {
        let n = dice.below(3);
        let mode = [0o644, 0o600][dice.below(2)];
        let want = match dice.below(12) {
            0 => Want::Absent,
            1 | 2 => Want::Link(format!("ours-{n}")),
            3 | 4 => Want::Directory { mode: [0o755, 0o750][dice.below(2)] },
            5..=7 => Want::Attributes { mode: [0o640, 0o700][dice.below(2)] },
            8 => Want::File { content: format!("rendered {n}\n"), mode: 0o644, template: true },
            _ => Want::File { content: format!("ours {n}\n"), mode, template: false },
        };
        // What is to be gone may be a directory with something in it.
        let replaces = want == Want::Absent || (want.overwrites() && dice.below(3) > 0);
        Self { want, replaces, report: dice.below(8) == 0, leave: dice.below(10) == 0 }
    }

    pub fn write(&self, path: &str, files: &Path, manifest: &mut String) {
        let _ = writeln!(manifest, "[files.{path:?}]");
        let at = files.join(path.trim_start_matches('/'));
        match &self.want {
            Want::File { content, mode, template } => {
                let _ = writeln!(manifest, "mode = \"{mode:04o}\"");
                if *template {
                    put(&files.join(format!("{}.j2", &path[1..])), &format!("{{{{ vars.word }}}} {content}"));
                } else {
                    put(&at, content);
                }
            }
            Want::Link(target) => {
                let _ = writeln!(manifest, "type = \"symlink\"\ntarget = {target:?}");
            }
            Want::Directory { mode } => {
                let _ = writeln!(manifest, "type = \"directory\"\nmode = \"{mode:04o}\"");
            }
            Want::Absent => manifest.push_str("state = \"absent\"\n"),
            Want::Attributes { mode } => {
                let _ = writeln!(manifest, "attributes_only = true\nmode = \"{mode:04o}\"");
            }
        }
        for (said, line) in [
            (self.replaces, "replace = \"any\"\n"),
            (self.report, "drift = \"report\"\n"),
            (self.leave, "release = \"leave\"\n"),
        ] {
            if said {
                manifest.push_str(line);
            }
        }
    }
}

impl Entry {
    /// What may be known once somebody has removed the directory that stands there: what was in it is kept from when a pass
    /// is about to put something else in its place, and no earlier.
    pub fn removed_by_hand(self) -> Vec<Self> {
        let moves = |want: &Option<Want>| matches!(want, Some(Want::File { .. } | Want::Link(_) | Want::Absent));
        let Origin::Found { before: Some(Node::Directory { mode, .. }), overwritten } = self.origin else {
            return vec![self];
        };
        if moves(&self.applied) {
            return vec![self];
        }
        let before = Some(Node::Directory { mode, inside: Inside::new() });
        let emptied = Self { origin: Origin::Found { before, overwritten }, ..self.clone() };
        if moves(&self.intended) { vec![self, emptied] } else { vec![emptied] }
    }

    /// What is known to have been brought about.
    fn effective(&self, seen: Option<&Node>) -> Option<&Want> {
        self.intended.as_ref().filter(|intended| intended.holds(seen)).or(self.applied.as_ref())
    }
}

/// What a pass makes of a path where `seen` stands.
pub fn step(entry: Option<&Entry>, wanted: Option<&Declared>, seen: Option<&Node>, suspended: bool) -> Fate {
    let stays = |entry: Option<Entry>, reason| Fate { node: seen.cloned(), intended: entry.clone(), entry, reason };
    match (entry, wanted) {
        (None, None) => stays(None, ""),
        (Some(entry), None) if suspended => stays(Some(entry.clone()), "suspended"),
        (Some(entry), None) => let_go(entry, seen),
        (entry, Some(wanted)) => converge(entry, wanted, seen, suspended),
    }
}

fn converge(entry: Option<&Entry>, wanted: &Declared, seen: Option<&Node>, suspended: bool) -> Fate {
    let Declared { want, replaces, report, leave } = wanted;
    let last = entry.and_then(|entry| entry.effective(seen));
    let before = entry.and_then(|entry| match &entry.origin {
        Origin::Found { before, .. } => before.as_ref(),
        Origin::Adopted => None,
    });
    // What stood there before comes back where only its attributes are ours by now, and so does what was in a directory.
    // But for their sake nobody's directory goes.
    let theirs = seen.is_some_and(Node::is_directory) && !last.is_some_and(|last| last.holds(seen));
    let content = before.filter(|_| !theirs && !want.overwrites() && last.is_some_and(Want::overwrites));
    let due = match (want, content) {
        (Want::Attributes { mode }, Some(content)) => Some(match content {
            Node::Directory { .. } if seen.is_some_and(Node::is_directory) => seen.expect("there").with_mode(*mode),
            content => content.with_mode(*mode),
        }),
        (Want::Directory { mode }, _) if !seen.is_some_and(Node::is_directory) => match (before, last) {
            (Some(before @ Node::Directory { .. }), Some(Want::File { .. } | Want::Link(_) | Want::Absent)) => {
                Some(before.with_mode(*mode))
            }
            _ => want.over(seen),
        },
        _ => want.over(seen),
    };
    let holds = want.holds(seen) && (content.is_none() || due.as_ref() == seen);
    let said = |entry: Option<&Entry>| entry.map(|entry| Entry { report: *report, leave: *leave, ..entry.clone() });
    let stays = |entry: Option<Entry>, reason| Fate { node: seen.cloned(), intended: entry.clone(), entry, reason };
    if holds {
        let mut known = said(entry).unwrap_or(Entry {
            origin: Origin::Adopted,
            applied: None,
            intended: None,
            report: *report,
            leave: *leave,
        });
        if let Origin::Found { before, overwritten } = &mut known.origin
            && known.intended.as_ref().is_some_and(Want::overwrites)
        {
            *overwritten = before.is_none() || want.overwrites();
        }
        (known.applied, known.intended) = (Some(want.clone()), None);
        return Fate { node: seen.cloned(), entry: Some(known), intended: entry.cloned(), reason: "" };
    }
    let corrective = last == Some(want);
    let intended = last.is_none_or(|last| last != want && last.holds(seen));
    if *report && !intended {
        return stays(said(entry), "report-only");
    }
    let found = entry.is_some_and(|entry| entry.origin != Origin::Adopted);
    let own = found && last.is_some_and(|last| last.holds(seen) && last.overwrites() && *last != Want::Absent);
    let put_back = content.is_some();
    let in_the_way = match (due.as_ref(), seen) {
        (Some(due), Some(seen)) => want.overwrites() && !due.is_like(seen) && !replaces && !own,
        _ => false,
    };
    // Nobody's directory makes way for what we put back.
    let full = seen.is_some_and(Node::is_full) && !due.as_ref().is_some_and(Node::is_directory);
    let blocked = full && ((own && !replaces) || put_back);
    if suspended {
        return stays(said(entry), "suspended");
    }
    if in_the_way {
        return stays(said(entry), "in-the-way");
    }
    if seen.is_none() && !want.overwrites() && !put_back {
        let mut left = said(entry);
        if let Some(left) = &mut left {
            left.intended = Some(want.clone());
        }
        return stays(left.filter(|left| left.applied.is_some()), "no-such-file");
    }
    let mut known = said(entry).unwrap_or(Entry {
        origin: Origin::Adopted,
        applied: None,
        intended: None,
        report: *report,
        leave: *leave,
    });
    known.origin = origin(entry, want, seen, corrective);
    known.intended = Some(want.clone());
    if blocked {
        return Fate { node: seen.cloned(), entry: Some(known.clone()), intended: Some(known), reason: "not-empty" };
    }
    let mut done = known.clone();
    (done.applied, done.intended) = (Some(want.clone()), None);
    if let Origin::Found { before, overwritten } = &mut done.origin
        && (want.overwrites() || put_back)
    {
        *overwritten = before.is_none() || want.overwrites();
    }
    Fate { node: due, entry: Some(done), intended: Some(known), reason: "" }
}

/// What stood there before, once `want` is brought about over `seen`.
fn origin(entry: Option<&Entry>, want: &Want, seen: Option<&Node>, corrective: bool) -> Origin {
    let now = || Origin::Found { before: seen.cloned(), overwritten: false };
    let Some(entry) = entry else { return now() };
    let Origin::Found { before, overwritten } = &entry.origin else {
        return if corrective { Origin::Adopted } else { now() };
    };
    let renewed = || {
        let mode = before.as_ref().and_then(Node::mode);
        let before = seen.map(|seen| mode.map_or_else(|| seen.clone(), |mode| seen.with_mode(mode)));
        Origin::Found { before, overwritten: false }
    };
    // Content that was left alone so far is overwritten; of a directory that is what is in it.
    let left_alone = match (&entry.applied, &entry.intended) {
        (Some(applied), _) => !applied.overwrites(),
        (None, Some(intended)) => !intended.overwrites(),
        (None, None) => false,
    };
    let goes = matches!(want, Want::File { .. } | Want::Link(_) | Want::Absent);
    let last = entry.effective(seen);
    let directory = goes && seen.is_some_and(Node::is_directory) && matches!(last, Some(Want::Directory { .. }));
    if !overwritten && left_alone && want.overwrites() {
        return renewed();
    }
    let is_more = before.as_ref().map_or_else(|| seen.is_some_and(Node::is_full), Node::is_directory);
    if directory && is_more {
        return renewed();
    }
    entry.origin.clone()
}

fn let_go(entry: &Entry, seen: Option<&Node>) -> Fate {
    let left = |node: Option<Node>| Fate { node, entry: None, intended: Some(entry.clone()), reason: "" };
    let last = entry.effective(seen);
    let as_applied = last.is_none_or(|last| last.holds(seen));
    let gone = seen.is_none() && !last.is_some_and(|last| last.holds(seen));
    let Origin::Found { before, overwritten } = &entry.origin else { return left(seen.cloned()) };
    if gone || entry.leave {
        return left(seen.cloned());
    }
    let strange = entry.applied.is_none()
        && seen.is_some()
        && seen != before.as_ref()
        && !entry.intended.as_ref().is_some_and(|intended| intended.holds(seen));
    if entry.report && (!as_applied || strange) {
        return left(seen.cloned());
    }
    // What somebody put in the place of a thing of ours is not for us to take away, where it is of another type.
    let mut ours = entry.applied.iter().chain(&entry.intended).filter(|want| want.is_thing()).peekable();
    if before.is_none() && ours.peek().is_some() && seen.is_some_and(|seen| !ours.any(|want| want.is_like(seen))) {
        return left(seen.cloned());
    }
    let Some(was) = entry.intended.as_ref().or(entry.applied.as_ref()) else { return left(seen.cloned()) };
    if !*overwritten && !was.overwrites() {
        let mode = before.as_ref().and_then(Node::mode);
        return left(seen.map(|seen| mode.map_or_else(|| seen.clone(), |mode| seen.with_mode(mode))));
    }
    match (before, seen) {
        // What is in it is not ours.
        (None | Some(Node::File { .. } | Node::Link(_)), Some(seen)) if seen.is_full() => left(Some(seen.clone())),
        (Some(before @ Node::Directory { .. }), Some(seen @ Node::Directory { .. })) => {
            left(Some(before.mode().map_or_else(|| seen.clone(), |mode| seen.with_mode(mode))))
        }
        (before, _) => left(before.clone()),
    }
}
