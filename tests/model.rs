//! The promise as properties: sequences of repositories, drift, crashes, suspensions, reverts and rollbacks, thrown by
//! dice, against a model of what a host then is.
//!
//! * Each managed file is the old one or the new one, never a mix, whatever a pass is killed at.
//! * What trueup never managed is never touched, and what stood there before it did comes back.
//! * The host never goes back unless root says so.
//! * It converges within two passes of the last disturbance, or says of each resource why not.
//! * Nothing is changed while it is suspended, and nothing by a pass with nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use trueup::brakes::{self, Brakes, Choice, Suspension};
use trueup::config;
use trueup::host::{Reader, Writer};
use trueup::model::Id;
use trueup::reconcile::{self, Ask};
use trueup::report::{Report, State};

use super::sample::{Dice, long};
use super::scratch::put;
use super::source::{git, trueup};

mod pure;

use pure::{Declared, Entry, Fate, Inside, Node, Want, step};

/// How many sequences there are where nobody asked for more.
const FEW: u64 = 30;
const MANY: u64 = 1000;
/// How much happens in a sequence.
const LENGTH: usize = 14;

/// What may be declared. Some have something on the host before trueup comes; the last lies where no directory is yet.
const PATHS: [&str; 6] = ["/etc/m/given", "/etc/m/box", "/etc/m/a", "/srv/m/c", "/srv/m/link", "/srv/m/deep/er/e"];
/// What is made on the way to the last of them.
const ON_THE_WAY: &str = "/srv/m/deep";
/// What is never declared.
const STRANGERS: [&str; 3] = ["/etc/m/stranger", "/srv/m/stranger", "/srv/m/strange.link"];
/// System calls by which a pass changes something, or makes a change last, and about how many of each it makes.
const CALLS: [(&str, usize); 10] = [
    ("fsync", 18),
    ("fsync", 18),
    ("fsync", 18),
    ("renameat2", 3),
    ("renameat", 2),
    ("rename", 7),
    ("unlinkat", 2),
    ("mkdirat", 1),
    ("symlinkat", 1),
    ("fchmod", 4),
];

type Declarations = BTreeMap<&'static str, Declared>;
type World = BTreeMap<&'static str, Node>;

/// What a revision declares. Of the paths every third is one role's.
#[derive(Debug, Clone, Default, PartialEq)]
struct Revision {
    declared: Declarations,
    /// The host has these roles.
    roles: [bool; 2],
    /// A variable of the host, which templates say.
    word: usize,
}

impl Revision {
    fn layer(path: &str) -> usize {
        PATHS.iter().position(|known| *known == path).expect("one of them") % 3
    }

    /// What holds on the host.
    fn effective(&self) -> Declarations {
        let has = |path: &str| Self::layer(path).checked_sub(1).is_none_or(|role| self.roles[role]);
        let mut effective: Declarations =
            self.declared.iter().filter(|(path, _)| has(path)).map(|(path, one)| (*path, one.clone())).collect();
        for one in effective.values_mut() {
            if let Want::File { content, template: true, .. } = &mut one.want {
                *content = format!("{} {content}", self.word);
            }
        }
        effective
    }

    fn write(&self, repo: &Path) {
        for name in ["hosts", "roles"] {
            drop(fs::remove_dir_all(repo.join(name)));
        }
        put(&repo.join("trueup.toml"), "format = 1\n");
        put(&repo.join("hosts/web-01/files/etc/anchor"), "ours\n");
        let roles: Vec<&str> =
            ["one", "two"].into_iter().zip(self.roles).filter(|(_, has)| *has).map(|(r, _)| r).collect();
        let mut manifests = [
            format!("roles = {roles:?}\n[vars]\nword = {}\n[guard]\nmax_removals = 1000\n", self.word),
            String::new(),
            String::new(),
        ];
        for (path, one) in &self.declared {
            let layer = Self::layer(path);
            let at = repo.join(["hosts/web-01", "roles/one", "roles/two"][layer]);
            one.write(path, &at.join("files"), &mut manifests[layer]);
        }
        for (at, manifest) in
            ["hosts/web-01/host.toml", "roles/one/role.toml", "roles/two/role.toml"].iter().zip(manifests)
        {
            put(&repo.join(at), &manifest);
        }
    }
}

/// What is counted over all sequences.
#[derive(Debug, Default)]
struct Counts {
    sequences: u64,
    passes: usize,
    crashes: usize,
    inside: usize,
    drifts: usize,
    commits: usize,
    reverts: usize,
    rollbacks: usize,
    suspensions: usize,
    refusals: usize,
}

impl Counts {
    /// Whether what a sample is taken for came about often enough in it.
    fn are_enough(&self) -> bool {
        self.crashes >= 20 && self.inside >= 5 && self.refusals >= 5
    }
}

/// A host, its repository, and what the model knows of them.
struct Scene<'c> {
    scratch: tempfile::TempDir,
    dice: Dice,
    counts: &'c mut Counts,
    /// What happened, for whoever has to find out.
    story: String,
    /// Every commit with what it declares; the branch is at the last.
    history: Vec<(String, Revision)>,
    brakes: Brakes,
    world: World,
    /// What the ledger may say of each path: after a crash that is not known for sure.
    ledger: BTreeMap<&'static str, Vec<Option<Entry>>>,
    /// The commit that the last pass acted on, where that is known.
    acted: Option<usize>,
    /// Temporary files of a pass that was killed may be there.
    struck: bool,
}

impl<'c> Scene<'c> {
    fn new(seed: u64, counts: &'c mut Counts) -> Self {
        let mut scene = Self {
            scratch: tempfile::tempdir().expect("a scratch directory"),
            dice: Dice::of(seed),
            counts,
            story: String::new(),
            history: Vec::new(),
            brakes: Brakes::default(),
            world: World::new(),
            ledger: PATHS.iter().map(|path| (*path, vec![None])).collect(),
            acted: None,
            struck: false,
        };
        let file = |content: &str, mode| Node::File { content: content.to_owned(), mode };
        scene.world = World::from([
            ("/etc/m/given", file("theirs\n", 0o640)),
            (
                "/etc/m/box",
                Node::Directory { mode: 0o750, inside: Inside::from([("theirs".to_owned(), "one\n".to_owned())]) },
            ),
            ("/srv/m/link", Node::Link("theirs".to_owned())),
            ("/etc/m/stranger", file("a stranger's\n", 0o600)),
            (
                "/srv/m/stranger",
                Node::Directory { mode: 0o711, inside: Inside::from([("s".to_owned(), "s\n".to_owned())]) },
            ),
            ("/srv/m/strange.link", Node::Link("stranger".to_owned())),
        ]);
        for directory in ["root/etc/m", "root/srv/m", "repo"] {
            fs::create_dir_all(scene.at(directory)).expect("made");
        }
        for (path, node) in &scene.world {
            scene.place(path, Some(node));
        }
        git(&scene.at("repo"), &["init", "--quiet"]);
        scene.commit(Revision { roles: [true, true], ..Revision::default() });
        scene.pass();
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn on_host(&self, path: &str) -> PathBuf {
        self.at("root").join(path.trim_start_matches('/'))
    }

    fn tell(&mut self, what: &str) {
        let _ = writeln!(self.story, "  {what}");
    }

    /// Puts `node` at `path`, whatever is there, as somebody does who is not trueup.
    fn place(&self, path: &str, node: Option<&Node>) {
        let path = self.on_host(path);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path).expect("removed"),
            Ok(_) => fs::remove_file(&path).expect("removed"),
            Err(_) => {}
        }
        let mode = |mode: u32| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        match node {
            None => {}
            Some(Node::File { content, mode: bits }) => {
                fs::write(&path, content).expect("written");
                mode(*bits);
            }
            Some(Node::Link(target)) => symlink(target, &path).expect("made"),
            Some(Node::Directory { mode: bits, inside }) => {
                fs::create_dir(&path).expect("made");
                for (name, content) in inside {
                    fs::write(path.join(name), content).expect("written");
                }
                mode(*bits);
            }
        }
    }

    fn look(&self, path: &str) -> Option<Node> {
        let path = self.on_host(path);
        let meta = fs::symlink_metadata(&path).ok()?;
        let text = |path: &Path| fs::read_to_string(path).expect("text");
        let mode = meta.mode() & 0o7777;
        Some(if meta.is_symlink() {
            Node::Link(fs::read_link(&path).expect("a link").to_str().expect("text").to_owned())
        } else if meta.is_dir() {
            let names = fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").file_name());
            let names = names.map(|name| name.to_str().expect("text").to_owned()).filter(|name| !is_temporary(name));
            Node::Directory { mode, inside: names.map(|name| (name.clone(), text(&path.join(name)))).collect() }
        } else {
            Node::File { content: text(&path), mode }
        })
    }

    // What happens.

    fn commit(&mut self, revision: Revision) {
        let repo = self.at("repo");
        revision.write(&repo);
        git(&repo, &["add", "--all"]);
        git(&repo, &["commit", "--quiet", "--allow-empty", "--message", "another"]);
        self.history.push((git(&repo, &["rev-parse", "HEAD"]), revision));
        self.counts.commits += 1;
    }

    fn another_commit(&mut self) {
        let mut revision = self.history.last().expect("there is one").1.clone();
        for _ in 0..=self.dice.below(4) {
            match self.dice.below(9) {
                0 => {
                    let role = self.dice.below(2);
                    revision.roles[role] = !revision.roles[role];
                }
                1 => revision.word += 1,
                2 => drop(revision.declared.remove(PATHS[self.dice.below(PATHS.len())])),
                _ => {
                    let path = PATHS[self.dice.below(PATHS.len())];
                    revision.declared.insert(path, Declared::thrown(&mut self.dice));
                }
            }
        }
        self.tell(&format!("commit {}: {revision:?}", self.history.len()));
        self.commit(revision);
    }

    /// Of the last commit, as Git does it.
    fn revert(&mut self) {
        if self.history.len() < 2 {
            return;
        }
        let repo = self.at("repo");
        let before = self.history[self.history.len() - 2].1.clone();
        if git(&repo, &["diff", "--name-only", "HEAD^", "HEAD"]).is_empty() {
            return;
        }
        git(&repo, &["revert", "--no-edit", "HEAD"]);
        self.tell(&format!("revert, commit {}", self.history.len()));
        self.history.push((git(&repo, &["rev-parse", "HEAD"]), before));
        self.counts.reverts += 1;
    }

    /// Somebody who is not trueup is at work, where something may be declared or where nothing ever is.
    fn drift(&mut self) {
        let all: Vec<&'static str> = PATHS.iter().chain(&STRANGERS).copied().collect();
        let path = all[self.dice.below(all.len())];
        if !self.on_host(path).parent().is_some_and(Path::exists) {
            return;
        }
        let node = match (self.dice.below(5), self.world.get(path).cloned()) {
            (0, Some(node)) => Some(node.with_mode([0o600, 0o755, 0o711][self.dice.below(3)])),
            (1, Some(Node::Directory { mode, mut inside })) => {
                inside.insert(format!("dropped-{}", self.dice.below(3)), "dropped\n".to_owned());
                Some(Node::Directory { mode, inside })
            }
            (2, _) => None,
            _ => Some(Node::thrown(&mut self.dice)),
        };
        self.tell(&format!("drift: {path} is {node:?}"));
        let stood = self.world.get(path).is_some_and(Node::is_directory);
        if stood
            && !node.as_ref().is_some_and(Node::is_directory)
            && let Some(known) = self.ledger.get_mut(path)
        {
            let of = |one: Option<Entry>| match one {
                None => vec![None],
                Some(entry) => entry.removed_by_hand().into_iter().map(Some).collect(),
            };
            *known = std::mem::take(known).into_iter().flat_map(of).collect();
        }
        self.place(path, node.as_ref());
        match node {
            Some(node) => drop(self.world.insert(path, node)),
            None => drop(self.world.remove(path)),
        }
        self.counts.drifts += 1;
    }

    fn suspend(&mut self) {
        let resource = match self.dice.below(4) {
            0 => None,
            _ => Some(Id::new("file", PATHS[self.dice.below(PATHS.len())])),
        };
        self.tell(&format!("suspended: {resource:?}"));
        let now = Reader::directory(&self.at("root")).expect("opens").now();
        let (by, reason) = ("alice".to_owned(), "INC-4711".to_owned());
        self.brakes.suspend(Suspension { resource, since: now, until: now + 3600, by, reason });
        self.save_brakes();
        self.counts.suspensions += 1;
    }

    fn resume(&mut self) {
        self.tell("resume");
        self.brakes = Brakes::default();
        self.save_brakes();
    }

    /// Root goes back on this host.
    fn roll_back(&mut self) {
        let to = self.dice.below(self.history.len());
        self.tell(&format!("rollback to {to}"));
        let commit = self.history[to].0.parse().expect("an id");
        self.brakes.rolled_back = Some(Choice { commit, by: "alice".to_owned(), at: 1 });
        self.save_brakes();
        self.counts.rollbacks += 1;
    }

    fn save_brakes(&self) {
        let host = Reader::directory(&self.at("root")).expect("opens");
        brakes::save(&host.agent_state(), &self.brakes).expect("saved");
    }

    /// The branch is moved to where it was before, or to what cannot be compiled: refused, and the host stays.
    fn refused(&mut self) {
        let (Some(acted), None) = (self.acted, &self.brakes.rolled_back) else { return };
        if acted + 1 != self.history.len() || acted == 0 {
            return;
        }
        let repo = self.at("repo");
        let tip = self.history[acted].0.clone();
        let reason = if self.dice.below(2) == 0 {
            let older = self.history[self.dice.below(acted)].0.clone();
            git(&repo, &["reset", "--quiet", "--hard", &older]);
            "not-a-descendant"
        } else {
            put(&repo.join("hosts/web-01/host.toml"), "nonsense = 1\n");
            git(&repo, &["commit", "--quiet", "--all", "--message", "nonsense"]);
            "compile"
        };
        self.tell(&format!("the branch is refused: {reason}"));
        self.drift();
        let report = self.pass_over(acted);
        assert_eq!(report.state, State::Stalled, "{}", brief(&report));
        assert!(
            report.reason.as_deref().is_some_and(|said| said == reason || reason == "compile"),
            "{}",
            brief(&report)
        );
        git(&repo, &["reset", "--quiet", "--hard", &tip]);
        self.counts.refusals += 1;
    }

    // What is to come of it.

    /// The commit that the next pass acts on.
    fn target(&self) -> usize {
        let of = |choice: &Choice| self.history.iter().position(|(commit, _)| *commit == choice.commit.to_string());
        self.brakes.rolled_back.as_ref().and_then(of).unwrap_or(self.history.len() - 1)
    }

    /// What may become of `path` in a pass over `revision`, from each state that the ledger may be in.
    fn fates(&self, path: &'static str, wanted: Option<&Declared>) -> Vec<Fate> {
        let suspended = self.brakes.suspensions.iter().any(|one| one.resource == Some(Id::new("file", path)));
        let seen = self.world.get(path);
        self.ledger[path].iter().map(|entry| step(entry.as_ref(), wanted, seen, suspended)).collect()
    }

    fn host_suspended(&self) -> bool {
        self.brakes.suspensions.iter().any(|one| one.resource.is_none())
    }

    fn pass(&mut self) -> Report {
        self.pass_over(self.target())
    }

    fn pass_over(&mut self, target: usize) -> Report {
        let before = self.stamps();
        let host = Reader::directory(&self.at("root")).expect("opens");
        let mut settings = config::settings(&[]).expect("no settings are valid settings");
        settings.host.name = Some("web-01".to_owned());
        let local = Some(self.at("repo"));
        let ask = Ask { local, retry: true, ..Ask::new("run", settings, &host, trueup().to_owned()) };
        let report = reconcile::pass(&mut Writer::take(host).expect("nobody else is here"), &ask, |_, _| ());
        self.counts.passes += 1;
        self.tell(&format!("pass over {target}: {:?} {:?}", report.state, report.reason));
        let refused = report.state == State::Stalled;
        if self.host_suspended() {
            assert_eq!(before, self.stamps(), "something was changed while the host was suspended");
            return report;
        }
        let declared = self.history[target].1.effective();
        let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for path in PATHS {
            let fates = self.fates(path, declared.get(path));
            let seen = self.look(path);
            let kept: Vec<&Fate> = fates.iter().filter(|fate| fate.node == seen).collect();
            assert!(!kept.is_empty(), "{path} is {seen:?}, and was to be one of {fates:#?}\n{}", brief(&report));
            reasons.insert(path, kept.iter().map(|fate| fate.reason).collect());
            let entries = kept.iter().map(|fate| fate.entry.clone());
            self.ledger.insert(
                path,
                entries.fold(Vec::new(), |mut all, one| {
                    if !all.contains(&one) {
                        all.push(one);
                    }
                    all
                }),
            );
            match seen {
                Some(node) => drop(self.world.insert(path, node)),
                None => drop(self.world.remove(path)),
            }
        }
        self.strangers_are_untouched();
        self.says_why(&report, &reasons);
        assert_eq!(self.temporary(), Vec::<PathBuf>::new(), "left over");
        self.struck = false;
        self.acted = Some(target).filter(|_| !refused).or(self.acted);
        report
    }

    /// A resource that is not as declared is told with its reason, and what is told is so.
    fn says_why(&self, report: &Report, reasons: &BTreeMap<&str, BTreeSet<&str>>) {
        for (path, reasons) in reasons {
            let id = Id::new("file", path);
            let said = report.steps.iter().filter(|line| line.id == id && line.outcome != "done");
            let said: Vec<&str> = said.map(|line| line.reason.as_deref().unwrap_or(line.outcome)).collect();
            let right = |reason: &&str| if reason.is_empty() { said.is_empty() } else { said == [*reason] };
            assert!(
                reasons.iter().any(right),
                "{path}: it says {said:?}, and was to say {reasons:?}\n{}",
                brief(report)
            );
        }
        let nothing = reasons.values().flatten().all(|reason| reason.is_empty());
        if nothing && report.state != State::Stalled && self.brakes == Brakes::default() {
            assert!(report.converged(), "{}", brief(report));
        }
    }

    /// A second pass with nothing new.
    fn rests(&mut self) {
        let before = self.stamps();
        let report = self.pass();
        // What failed is tried again.
        if report.steps.iter().any(|line| line.outcome == "failed") {
            return;
        }
        let done: Vec<_> = report.steps.iter().filter(|line| line.outcome == "done").collect();
        assert!(done.is_empty(), "the second pass did something: {done:#?}");
        assert_eq!(before, self.stamps(), "the second pass changed something");
    }

    /// A pass that is killed at one of its calls; it may end before it comes to that.
    fn crash(&mut self) {
        let (call, most) = CALLS[self.dice.below(CALLS.len())];
        let n = 1 + self.dice.below(most);
        let target = self.target();
        self.tell(&format!("killed at {call} {n}, over {target}"));
        let inject = format!("inject={call}:signal=KILL:when={n}");
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]).arg(trueup());
        strace.args(["run", "--retry", "--json", "--host", "web-01", "--root"]).arg(self.at("root"));
        strace.arg("--repo").arg(self.at("repo"));
        let output = strace.stderr(Stdio::null()).output().expect("it starts");
        self.counts.passes += 1;
        if output.status.signal() == Some(9) || output.status.code() == Some(137) {
            self.counts.crashes += 1;
            self.counts.inside += usize::from(self.is_inside());
        }
        self.acted = None;
        self.struck = true;
        self.strangers_are_untouched();
        if self.host_suspended() {
            return self.nothing_moved();
        }
        let declared = self.history[target].1.effective();
        for path in PATHS {
            let fates = self.fates(path, declared.get(path));
            let (old, seen) = (self.world.get(path).cloned(), self.look(path));
            let mut entries: Vec<Option<Entry>> = Vec::new();
            let mut may = |entry: &Option<Entry>| {
                if !entries.contains(entry) {
                    entries.push(entry.clone());
                }
            };
            for (fate, before) in fates.iter().zip(&self.ledger[path]) {
                if seen == old {
                    may(before);
                }
                if seen == old || seen == fate.node {
                    may(&fate.intended);
                }
                if seen == fate.node {
                    may(&fate.entry);
                }
            }
            assert!(!entries.is_empty(), "{path} is {seen:?}, neither {old:?} nor one of {fates:#?}");
            self.ledger.insert(path, entries);
            match seen {
                Some(node) => drop(self.world.insert(path, node)),
                None => drop(self.world.remove(path)),
            }
        }
    }

    fn nothing_moved(&self) {
        for path in PATHS {
            assert_eq!(self.look(path).as_ref(), self.world.get(path), "{path} was touched");
        }
    }

    fn strangers_are_untouched(&self) {
        for path in STRANGERS {
            assert_eq!(self.look(path).as_ref(), self.world.get(path), "{path} is a stranger's");
        }
        let names = |path: &str| {
            let all = fs::read_dir(self.on_host(path)).expect("readable").map(|entry| entry.expect("readable"));
            let all = all.map(|entry| entry.file_name().to_str().expect("text").to_owned());
            all.filter(|name| !is_temporary(name)).map(|name| format!("{path}/{name}")).collect::<BTreeSet<_>>()
        };
        let known = PATHS.iter().chain(&STRANGERS).chain([&ON_THE_WAY]);
        let known: BTreeSet<String> = known.map(|&path| path.to_owned()).collect();
        for directory in ["/etc/m", "/srv/m"] {
            let more: Vec<String> = names(directory).difference(&known).cloned().collect();
            assert_eq!(more, Vec::<String>::new());
        }
    }

    /// A pass has said what it is about to do, and not yet what came of it.
    fn is_inside(&self) -> bool {
        let read = |name: &str| fs::read_to_string(self.at("root/var/lib/trueup").join(name)).ok();
        let text = read("ledger").or_else(|| read("ledger.previous")).unwrap_or_default();
        let ledger: Value =
            text.split_once('\n').and_then(|(_, json)| serde_json::from_str(json).ok()).unwrap_or_default();
        let entries = ledger["entries"].as_object().cloned().unwrap_or_default();
        entries.values().any(|entry| !entry["intended"].is_null())
            || ledger["writing"].as_array().is_some_and(|writing| !writing.is_empty())
    }

    /// Every path of the host but our own state, with all that a write would change.
    fn stamps(&self) -> BTreeMap<PathBuf, (u64, i64, i64, i64, i64, u32)> {
        let all = self.below_root().into_iter().map(|(path, meta)| {
            (path, (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec(), meta.mode()))
        });
        all.collect()
    }

    fn temporary(&self) -> Vec<PathBuf> {
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_temporary);
        self.below_root().into_iter().map(|(path, _)| path).filter(|path| name(path)).collect()
    }

    fn below_root(&self) -> Vec<(PathBuf, fs::Metadata)> {
        let (mut found, mut todo) = (Vec::new(), vec![self.at("root")]);
        let var = self.at("root/var");
        while let Some(directory) = todo.pop() {
            for entry in fs::read_dir(&directory).expect("readable") {
                let path = entry.expect("readable").path();
                if path == var {
                    continue;
                }
                let meta = fs::symlink_metadata(&path).expect("there");
                if meta.is_dir() {
                    todo.push(path.clone());
                }
                found.push((path, meta));
            }
        }
        found
    }

    /// One sequence.
    fn run(&mut self) {
        for _ in 0..LENGTH {
            match self.dice.below(20) {
                0..=5 => self.another_commit(),
                6 | 7 => self.revert(),
                8..=10 => self.drift(),
                11 => self.suspend(),
                12 => self.resume(),
                13 => self.roll_back(),
                14 => self.refused(),
                15 => self.crash(),
                16..=18 => {
                    // With something to do.
                    self.another_commit();
                    self.drift();
                    self.crash();
                    // What was begun is not gone on with, as likely as not.
                    if self.dice.below(2) == 0 {
                        self.revert();
                    }
                }
                _ => {}
            }
            if self.dice.below(3) > 0 {
                self.pass();
                if self.dice.below(4) == 0 {
                    self.rests();
                }
            }
        }
        // The disturbances end.
        self.resume();
        self.pass();
        let report = self.pass();
        let told = report.steps.iter().any(|line| line.outcome != "done");
        assert!(report.converged() || told, "{}", brief(&report));
        self.rests();
        // And all of it goes.
        self.tell("everything goes");
        self.commit(Revision::default());
        self.pass();
        self.rests();
        let last = PATHS[PATHS.len() - 1];
        assert_eq!(self.on_host(ON_THE_WAY).exists(), self.world.contains_key(last), "directories of ours");
    }
}

/// What of a report helps to see what it was about.
fn brief(report: &Report) -> String {
    let mut text = format!("{:?} {:?} {:?}\n", report.state, report.reason, report.message);
    for line in &report.steps {
        let _ = writeln!(
            text,
            "{} {} {:?} {} {:?} {:?}",
            line.id, line.action, line.cause, line.outcome, line.reason, line.message
        );
    }
    for note in &report.left {
        let _ = writeln!(text, "left: {note:?}");
    }
    text
}

fn is_temporary(name: &str) -> bool {
    name.starts_with(".trueup-") && name.ends_with('~')
}

#[test]
fn whatever_happens_the_host_is_what_the_model_says() {
    let first = Dice::seed();
    let mut counts = Counts::default();
    let mut wrong = Vec::new();
    let least = if long() { MANY } else { FEW };
    // Some are thrown few crashes: then more are thrown.
    for seed in (0..least * 4).map(|n| first.wrapping_add(n)) {
        if counts.sequences >= least && counts.are_enough() {
            break;
        }
        let mut scene = Scene::new(seed, &mut counts);
        let done = catch_unwind(AssertUnwindSafe(|| scene.run()));
        if let Err(why) = done {
            let why = why.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned());
            wrong.push(format!("TRUEUP_SEED={seed}\n{}{why}", scene.story));
        }
        counts.sequences += 1;
        if counts.sequences % 100 == 0 {
            println!("{counts:?}");
        }
        if wrong.len() >= 3 {
            break;
        }
    }
    println!("{counts:?}");
    assert!(wrong.is_empty(), "{} sequences are wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(counts.are_enough(), "{counts:?}");
}
