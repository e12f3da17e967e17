//! What we remember is damaged, one file of our own state after the other.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use trueup::brakes::{self, Brakes, Experience, Suspension};
use trueup::host::Reader;

use super::super::sample::sample;
use super::super::source::{git, trueup};
use super::{Tree, copy, put, text, walk};

/// How many mishaps are tried where nobody asked for all of them.
const SAMPLE: usize = 60;
/// What can happen to a file.
const DAMAGES: &[&str] =
    &["empty", "halved", "a bit flipped", "from the future", "a directory", "a symlink", "gone", "not to be read"];

/// A host that has had a source, trust, a correction, takeovers and a release, and a person who asked for something.
struct Past {
    scratch: tempfile::TempDir,
    commits: Vec<String>,
    tree: Tree,
}

impl Past {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let mut past = Self { scratch, commits: Vec::new(), tree: Tree::new() };
        let repo = past.at("repo");
        fs::create_dir(&repo).expect("made");
        git(&repo, &["init", "--quiet"]);
        for name in ["key", "lost"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(past.at(name));
            assert!(keygen.status().expect("ssh-keygen(1)").success());
        }
        let public = |name: &str| fs::read_to_string(past.at(&format!("{name}.pub"))).expect("a key");
        let agent = format!(
            "[source]\nurl = {:?}\n[trust]\nsigners = \"/etc/trueup/signers\"\nrevoked = \"/etc/trueup/revoked\"\n",
            repo.display().to_string()
        );
        for (path, content) in [
            ("passwd", "root:x:0:0::/root:/bin/sh\n"),
            ("group", "root:x:0:\n"),
            ("motd", "theirs\n"),
            ("issue", "theirs\n"),
            ("trueup/agent.toml", &agent),
            ("trueup/signers", &format!("ana@example.org {}", public("key"))),
            ("trueup/revoked", &public("lost")),
        ] {
            put(&past.at("root/etc").join(path), content);
        }
        for n in 0..3 {
            for name in ["a", "b"] {
                put(&repo.join("hosts/web-01/files/etc").join(name), &format!("{name} {n}\n"));
            }
            // Taken over from the first, and given back by the third.
            put(&repo.join("hosts/web-01/files/etc/motd"), "ours\n");
            put(&repo.join("hosts/web-01/files/etc/issue"), "ours\n");
            put(&repo.join("trueup.toml"), "format = 1\n");
            put(&repo.join("hosts/web-01/host.toml"), "");
            if n == 2 {
                fs::remove_file(repo.join("hosts/web-01/files/etc/issue")).expect("removed");
            }
            git(&repo, &["add", "--all"]);
            let key = format!("user.signingkey={}", past.at("key").display());
            git(&repo, &["-c", "gpg.format=ssh", "-c", &key, "commit", "--quiet", "-S", "--message", &n.to_string()]);
            past.commits.push(git(&repo, &["rev-parse", "HEAD"]));
            past.in_sync(&format!("commit {n}"));
            put(&past.at("root/etc/a"), "an edit\n");
            past.in_sync("a correction");
        }
        let host = Reader::directory(&past.at("root")).expect("opens");
        // Over for a long time; a document all the same.
        let over =
            Suspension { resource: None, since: 1, until: 2, by: "ana".to_owned(), reason: "INC-4711".to_owned() };
        for _ in 0..2 {
            let asked =
                Brakes { suspensions: vec![over.clone()], ..brakes::load(&host.agent_state()).expect("whole").value };
            brakes::save(&host.agent_state(), &asked).expect("saved");
        }
        if brakes::load_experience(&host.state()).expect("whole").is_none() {
            brakes::save_experience(&host.state(), &Experience::default()).expect("saved");
        }
        past.in_sync("with all of its past");
        past.tree = past.seen();
        copy(&past.at("root"), &past.at("before"));
        past
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn seen(&self) -> Tree {
        let mut tree = Tree::new();
        walk(&self.at("root/etc"), "", &mut tree);
        tree
    }

    /// The branch is at this commit.
    fn check_out(&self, which: usize) {
        put(&self.at("repo/.git/refs/heads/main"), &format!("{}\n", self.commits[which]));
    }

    /// One pass; `denied` are the paths that cannot be opened in it.
    fn run(&self, denied: Option<&Path>) -> (bool, Value, String) {
        let mut command = match denied {
            None => Command::new(trueup()),
            Some(path) => {
                let mut strace = Command::new("strace");
                strace.args(["-qq", "-o", "/dev/null", "-e", "trace=openat", "-e", "inject=openat:error=EACCES", "-P"]);
                strace.arg(path).arg(trueup());
                strace
            }
        };
        command.args(["run", "--host", "web-01", "--json", "--root"]).arg(self.at("root"));
        let output = command.output().expect("it starts");
        let told = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.success(), told, text(&output))
    }

    fn in_sync(&self, when: &str) {
        let (well, told, text) = self.run(None);
        assert!(well && told["state"] == "in-sync", "{when}: {text}");
    }

    /// All files of our own state, as names below it.
    fn documents(&self) -> Vec<String> {
        let mut own = Tree::new();
        walk(&self.at("before/var/lib/trueup"), "", &mut own);
        own.into_iter().filter(|(_, node)| node.0 == 'f').map(|(path, _)| path[1..].to_owned()).collect()
    }

    /// The host as it was, but for this; false where that cannot happen to this file.
    fn damage(&self, name: &str, damage: &str) -> bool {
        let file = self.at("root/var/lib/trueup").join(name);
        let content = fs::read(&file).expect("a file");
        let half = content.len() / 2;
        match damage {
            "empty" if !content.is_empty() => fs::write(&file, b""),
            "halved" if half > 0 => fs::write(&file, &content[..half]),
            "a bit flipped" if half > 0 => {
                let mut content = content;
                content[half] ^= 4;
                fs::write(&file, content)
            }
            "from the future" => {
                let text = String::from_utf8_lossy(&content).into_owned();
                let Some(newer) = ["trueup NAME 1 ", "\"version\": 1,", "\"version\":1,"].iter().find_map(|now| {
                    let plain = name.rsplit('/').next().and_then(|name| name.split('.').next()).expect("a name");
                    let now = now.replace("NAME", plain);
                    text.contains(&now).then(|| text.replacen(&now, &now.replace('1', "9"), 1))
                }) else {
                    return false;
                };
                fs::write(&file, newer)
            }
            "a directory" => fs::remove_file(&file).and_then(|()| fs::create_dir(&file)),
            "a symlink" => {
                fs::write(self.at("elsewhere"), &content).expect("written");
                fs::remove_file(&file).and_then(|()| symlink(self.at("elsewhere"), &file))
            }
            "gone" => fs::remove_file(&file),
            "not to be read" => Ok(()),
            _ => return false,
        }
        .expect("damaged");
        true
    }

    fn begin(&self) {
        fs::remove_dir_all(self.at("root")).expect("removed");
        copy(&self.at("before"), &self.at("root"));
        self.check_out(2);
    }
}

/// What is taken from elsewhere, or done without, where it is not whole.
const SPARE: &[&str] = &["revision", "seen", "history", "experience", "payloads", "kept"];

/// A file, with its previous copy or without, and what happens to it.
#[derive(Debug, Clone)]
struct Mishap {
    name: String,
    with_previous: bool,
    damage: &'static str,
}

impl Past {
    fn mishaps(&self) -> Vec<Mishap> {
        let documents = self.documents();
        let mut all = Vec::new();
        for name in &documents {
            for damage in DAMAGES {
                for with_previous in [false, true] {
                    if !with_previous || documents.contains(&format!("{name}.previous")) {
                        all.push(Mishap { name: name.clone(), with_previous, damage });
                    }
                }
            }
        }
        all
    }

    /// The host as it was, the branch at this commit, and the mishap; false where that cannot happen to this file.
    fn befalls(&self, mishap: &Mishap, tip: usize) -> bool {
        self.begin();
        self.check_out(tip);
        let previous = format!("{}.previous", mishap.name);
        self.damage(&mishap.name, mishap.damage) && (!mishap.with_previous || self.damage(&previous, mishap.damage))
    }

    fn put_back(&self, mishap: &Mishap) {
        for name in [mishap.name.clone(), format!("{}.previous", mishap.name)] {
            let below = Path::new("var/lib/trueup").join(&name);
            let (from, to) = (self.at("before").join(&below), self.at("root").join(&below));
            drop(fs::remove_file(&to).or_else(|_| fs::remove_dir(&to)));
            if from.exists() {
                copy(&from, &to);
            }
        }
    }
}

/// Where it is not whole that is said, with its name; but for what can be spared, and for what stands in for another.
fn is_told(mishap: &Mishap, told: &Value, text: &str) {
    let plain = mishap.name.split('/').next().unwrap_or_default().split('.').next().unwrap_or_default();
    let stands_by = mishap.name.ends_with(".previous");
    let state = told["state"].as_str().unwrap_or_default();
    match mishap.damage {
        _ if SPARE.contains(&plain) || stands_by => {}
        // Nothing of it is known any more, as on a new host; or its previous copy says that there was one.
        "gone" => {}
        _ => {
            let said = format!("{}{}", told["message"], told["notes"]);
            let named = mishap.name.rsplit('/').next().expect("a name");
            assert!(said.contains(named), "{mishap:?}: not named: {text}");
            // What its previous copy stands in for is whole again.
            assert!(["degraded", "stalled"].contains(&state) || !mishap.with_previous, "{mishap:?}: {text}");
        }
    }
}

#[test]
fn whatever_happens_to_a_file_of_our_state_nothing_goes_back_or_is_deleted_and_put_back_it_is_in_sync() {
    let past = Past::new();
    let names = past.documents();
    for one in ["ledger", "record", "trust", "agent/brakes", "experience", "revision", "seen", "history", "lock"] {
        assert!(names.iter().any(|name| name == one), "{one} is not among {names:?}");
    }
    let all = past.mishaps();
    let (mut count, mut came) = (0, BTreeMap::<String, usize>::new());
    for mishap in sample(all, SAMPLE) {
        let path = past.at("root/var/lib/trueup").join(&mishap.name);
        let denied = (mishap.damage == "not to be read").then_some(path.as_path());
        // First the branch has gone back to what was here before: a state that is lost must not bring that here.
        for tip in [0, 2] {
            if !past.befalls(&mishap, tip) {
                continue;
            }
            let (well, told, text) = past.run(denied);
            assert!(!text.contains("panicked") && !told.is_null(), "{mishap:?}: {text}");
            assert!(past.seen() == past.tree, "{mishap:?}, the branch at {tip}: something was changed: {text}");
            if tip == 0 {
                assert!(!well, "{mishap:?}: a branch that went back is accepted: {text}");
                continue;
            }
            count += 1;
            is_told(&mishap, &told, &text);
            *came.entry(format!("{} {}", told["state"], told["reason"])).or_default() += 1;
            past.put_back(&mishap);
            past.in_sync(&format!("{mishap:?}: put back"));
            assert!(past.seen() == past.tree, "{mishap:?}: put back");
        }
    }
    println!("{count} mishaps of {} files of our state: {came:?}", names.len());
    assert!(count >= 30, "{count}");
}
