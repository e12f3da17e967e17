//! What stands on a host, brought into a work tree: the layer that comes of it plans to nothing, what cannot be taken is
//! told, and no secret is written in the clear.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::scratch::{put, root_and_repo};

/// A repository that knows no host yet, and a directory that stands for one.
struct Scene {
    scratch: tempfile::TempDir,
    root: PathBuf,
    repo: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let (scratch, root, repo) = root_and_repo();
        let scene = Self { scratch, root, repo };
        scene.declare("trueup.toml", "format = 1\n");
        scene
    }

    fn declare(&self, path: &str, text: &str) {
        put(&self.repo.join(path), text);
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn on_host(&self, path: &str, text: &str, mode: u32) {
        put(&self.at(path), text);
        self.mode(path, mode);
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).expect("ours");
    }

    fn link(&self, path: &str, target: &str) {
        fs::create_dir_all(self.at(path).parent().expect("below the root")).expect("made");
        symlink(target, self.at(path)).expect("linked");
    }

    fn trueup(&self, arguments: &[&str], root: &Path) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
        command.args(arguments).arg("--root").arg(root).arg("--repo").arg(&self.repo).args(["--host", "web-01"]);
        command.stdin(Stdio::null()).output().expect("started")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.trueup(&[&["adopt"], arguments].concat(), &self.root)
    }

    #[track_caller]
    fn adopt(&self, arguments: &[&str]) -> Told {
        Told::of(&self.run(&[arguments, &["--json"]].concat()))
    }

    fn written(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.repo.join(path)).ok()
    }

    /// Every path of the repository.
    fn paths(&self) -> Vec<String> {
        let mut found: Vec<String> = tree(&self.repo, true)
            .into_iter()
            .map(|line| line.split('\t').next().unwrap_or_default().to_owned())
            .collect();
        found.retain(|path| path != "trueup.toml");
        found
    }

    /// A plan here has no step, and on a directory with nothing in it the same comes to be.
    #[track_caller]
    fn plans_to_nothing(&self, below: &str) {
        let plan = self.trueup(&["plan", "--json"], &self.root);
        let report: Value = serde_json::from_slice(&plan.stdout).unwrap_or_else(|_| panic!("{}", all(&plan)));
        assert_eq!(report["steps"], Value::Array(Vec::new()), "{report:#}");
        let fresh = self.scratch.path().join("fresh");
        drop(fs::remove_dir_all(&fresh));
        fs::create_dir(&fresh).expect("made");
        for name in ["passwd", "group"] {
            if let Ok(text) = fs::read_to_string(self.at(&format!("/etc/{name}"))) {
                put(&fresh.join("etc").join(name), &text);
            }
        }
        if let Ok(key) = fs::read_to_string(self.at("/etc/ssh/ssh_host_ed25519_key")) {
            put(&fresh.join("etc/ssh/ssh_host_ed25519_key"), &key);
            fs::set_permissions(fresh.join("etc/ssh/ssh_host_ed25519_key"), fs::Permissions::from_mode(0o600))
                .expect("ours");
        }
        let run = self.trueup(&["run"], &fresh);
        assert_eq!(run.status.code(), Some(0), "{}", all(&run));
        assert_eq!(tree(&self.root.join(below), false), tree(&fresh.join(below), false));
    }
}

struct Told {
    code: Option<i32>,
    document: Value,
}

impl Told {
    #[track_caller]
    fn of(output: &Output) -> Self {
        let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {}", all(output)));
        Self { code: output.status.code(), document }
    }

    /// `outcome reason` of one resource.
    #[track_caller]
    fn outcome(&self, id: &str) -> String {
        let line = self.line(id);
        let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", word("outcome"), word("reason")).trim().to_owned()
    }

    #[track_caller]
    fn line(&self, id: &str) -> &Value {
        let lines = self.document["resources"].as_array().expect("a list");
        let found: Vec<&Value> = lines.iter().filter(|line| line["id"] == *id).collect();
        assert_eq!(found.len(), 1, "{id}: {:#}", self.document);
        found[0]
    }

    /// All is taken, and nothing of it would change here.
    #[track_caller]
    fn whole(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{:#}", self.document);
        assert_eq!(self.document["differences"], Value::Array(Vec::new()), "{:#}", self.document);
        self
    }
}

fn all(output: &Output) -> String {
    [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat()
}

/// Every file, link and directory below `directory`: path, type, mode (of a checkout: executable or not), owner, content.
fn tree(directory: &Path, checkout: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.strip_prefix(directory).expect("below").display().to_string();
            if name.starts_with("var/lib/trueup") || name == "var" || name == "var/lib" {
                continue;
            }
            let meta = fs::symlink_metadata(&path).expect("there");
            let mode = meta.permissions().mode() & 0o7777;
            let what = if meta.is_symlink() {
                format!("link {}", fs::read_link(&path).expect("a link").display())
            } else if meta.is_dir() {
                open.push(path.clone());
                if checkout {
                    continue;
                }
                format!("directory {mode:04o}")
            } else if meta.is_file() {
                format!("file {mode:04o} {:?}", fs::read(&path).expect("readable"))
            } else {
                "other".to_owned()
            };
            lines.push(format!("{name}\t{what} {}:{}", meta.uid(), meta.gid()));
        }
    }
    lines.sort();
    lines
}

#[test]
fn a_tree_is_adopted_with_its_modes_and_links_and_a_fresh_host_comes_to_the_same() {
    let scene = Scene::new();
    scene.on_host("/etc/app/app.conf", "port = 80\n", 0o644);
    scene.on_host("/etc/app/closed.conf", "user = ana\n", 0o600);
    scene.on_host("/etc/app/run", "#!/bin/sh\n", 0o755);
    scene.on_host("/etc/app/own", "#!/bin/sh\n", 0o700);
    scene.on_host("/etc/app/read-only", "x\n", 0o444);
    scene.on_host("/etc/app/x.j2", "{{ literally }}\n", 0o644);
    scene.on_host("/etc/app/a[1].conf", "x\n", 0o640);
    scene.on_host("/etc/app/sub/deep/er", "x\n", 0o644);
    scene.link("/etc/app/current", "app.conf");
    scene.link("/etc/app/nowhere", "/not/there");
    fs::create_dir_all(scene.at("/etc/app/empty")).expect("made");
    scene.mode("/etc/app/empty", 0o755);
    scene.mode("/etc/app/sub", 0o750);
    for plain in ["/etc", "/etc/app", "/etc/app/sub/deep"] {
        scene.mode(plain, 0o755);
    }
    let told = scene.adopt(&["/etc/app"]);
    told.whole();
    assert_eq!(told.document["written"], true);
    let wanted = "[files.\"/etc/app/a[[]1].conf\"]\nmode = \"0640\"\n\n[files.\"/etc/app/closed.conf\"]\nmode = \"0600\"\n\n\
                  [files.\"/etc/app/empty\"]\ntype = \"directory\"\n\n[files.\"/etc/app/own\"]\nmode = \"0700\"\n\n\
                  [files.\"/etc/app/read-only\"]\nmode = \"0444\"\n\n\
                  [files.\"/etc/app/sub\"]\ntype = \"directory\"\nmode = \"0750\"\n\n\
                  [files.\"/etc/app/x.j2\"]\nraw = true\n";
    assert_eq!(scene.written("hosts/web-01/host.toml").as_deref(), Some(wanted));
    let file = |name: &str| scene.repo.join("hosts/web-01/files/etc/app").join(name);
    let mode = |name: &str| fs::metadata(file(name)).expect("written").permissions().mode() & 0o777;
    assert_eq!((mode("app.conf"), mode("closed.conf"), mode("run"), mode("own")), (0o644, 0o600, 0o755, 0o700));
    assert_eq!(fs::read_link(file("current")).expect("a link"), Path::new("app.conf"));
    scene.plans_to_nothing("etc/app");

    // A second time there is nothing to do.
    let before = tree(&scene.repo, true);
    let told = scene.adopt(&["/etc/app", "/etc/app/run"]);
    told.whole();
    assert_eq!(told.document["written"], false);
    assert_eq!(told.outcome("file:/etc/app/run"), "declared");
    assert_eq!(tree(&scene.repo, true), before);
}

#[test]
fn units_are_declared_as_they_are_with_their_files() {
    let scene = Scene::new();
    let service = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
    for name in ["on", "off", "plain"] {
        scene.on_host(&format!("/etc/systemd/system/{name}.service"), service, 0o644);
    }
    scene.on_host("/etc/systemd/system/on.service.d/limits.conf", "[Service]\nLimitCORE=0\n", 0o644);
    scene.on_host("/etc/systemd/system/on.service.d/README", "not asked for\n", 0o644);
    scene.on_host("/usr/lib/systemd/system/static.service", "[Service]\nExecStart=/bin/true\n", 0o644);
    scene.on_host("/usr/lib/systemd/system/real.service", service, 0o644);
    scene.link("/etc/systemd/system/multi-user.target.wants/on.service", "/etc/systemd/system/on.service");
    scene.link("/etc/systemd/system/masked.service", "/dev/null");
    scene.link("/etc/systemd/system/alias.service", "/usr/lib/systemd/system/real.service");
    let told = scene.adopt(&["on.service", "unit:off.service", "masked.service", "plain.service"]);
    told.whole();
    let wanted = "[units]\n\"masked.service\" = \"masked\"\n\"off.service\" = { enabled = false }\n\
                  \"on.service\" = { enabled = true }\n\"plain.service\" = { enabled = false }\n";
    assert_eq!(scene.written("hosts/web-01/host.toml").as_deref(), Some(wanted));
    assert_eq!(
        scene.paths(),
        [
            "hosts/web-01/host.toml",
            "hosts/web-01/units/off.service",
            "hosts/web-01/units/on.service",
            "hosts/web-01/units/on.service.d/limits.conf",
            "hosts/web-01/units/plain.service",
        ]
    );
    let told = scene.adopt(&["static.service", "alias.service", "none.service", "trueup.service", "package:nginx"]);
    assert_eq!(told.code, Some(1));
    assert_eq!(told.outcome("unit:static.service"), "left-out unit-state");
    assert_eq!(told.outcome("unit:alias.service"), "left-out unit-state");
    assert_eq!(told.outcome("unit:none.service"), "left-out no-such-unit");
    assert_eq!(told.outcome("unit:trueup.service"), "left-out self-trust");
    assert_eq!(told.outcome("package:nginx"), "left-out deferred");
    // The links by which they are so are systemd's own.
    let told = scene.adopt(&["/etc/systemd/system"]);
    assert_eq!(told.outcome("file:/etc/systemd/system/multi-user.target.wants/on.service"), "left-out systemd-link");
    assert_eq!(told.outcome("file:/etc/systemd/system/masked.service"), "left-out systemd-link");
    assert_eq!(told.outcome("file:/etc/systemd/system/alias.service"), "left-out systemd-link");
    assert_eq!(told.outcome("file:/etc/systemd/system/on.service.d/README"), "adopted");
    assert_eq!(told.outcome("file:/etc/systemd/system/on.service"), "declared");
}

#[test]
fn what_cannot_be_taken_is_told_and_the_rest_is_adopted() {
    let scene = Scene::new();
    scene.on_host("/etc/motd", "hello\n", 0o644);
    scene.on_host("/etc/setuid", "x\n", 0o4755);
    scene.on_host("/etc/passwd", "root:x:0:0::/root:/bin/sh\n", 0o644);
    scene.on_host("/etc/group", "root:x:0:\n", 0o644);
    scene.on_host("/etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0o444);
    scene.on_host("/etc/trueup/agent.toml", "", 0o644);
    scene.on_host("/etc/trueup/agent.d/x.toml", "", 0o644);
    scene.on_host("/etc/app/.gitignore", "*\n", 0o644);
    scene.on_host("/etc/app/.git/config", "x\n", 0o644);
    scene.on_host("/etc/app/lfs", "version https://git-lfs.github.com/spec/v1\noid x\n", 0o644);
    scene.on_host("/etc/full", "", 0o644);
    scene.on_host("/etc/over", "", 0o644);
    let sized = |path: &str, length: u64| {
        let file = fs::File::options().write(true).open(scene.at(path)).expect("there");
        file.set_len(length).expect("sparse");
    };
    sized("/etc/full", 16 << 20);
    sized("/etc/over", (16 << 20) + 1);
    let _socket = UnixListener::bind(scene.at("/etc/app/socket")).expect("bound");
    assert!(Command::new("mkfifo").arg(scene.at("/etc/app/fifo")).status().expect("mkfifo").success());
    put(&scene.root.join("etc/app/\u{1}control"), "x\n");
    // A directory that everybody may write to: its links lead where anybody likes, its files may be anybody's names.
    scene.on_host("/srv/open/mine", "x\n", 0o644);
    scene.link("/srv/open/away", "/etc");
    scene.on_host("/srv/other", "x\n", 0o644);
    fs::hard_link(scene.at("/srv/other"), scene.at("/srv/open/hard")).expect("linked");
    scene.mode("/srv/open", 0o777);
    fs::create_dir(scene.at("/srv/sticky")).expect("made");
    scene.mode("/srv/sticky", 0o1755);

    let paths = [
        "/etc/motd",
        "/etc/setuid",
        "/etc/passwd",
        "/etc/machine-id",
        "/etc/trueup",
        "/etc/app",
        "/etc/full",
        "/etc/over",
        "/etc/not-there",
        "/proc/version",
        "/srv/open/mine",
        "/srv/open/away/motd",
        "/srv/open/hard",
        "/srv/other",
        "/srv/sticky",
        "/",
        "/etc/motd/below",
    ];
    let told = scene.adopt(&paths);
    assert_eq!(told.code, Some(1));
    for (id, outcome) in [
        ("file:/etc/motd", "adopted"),
        ("file:/etc/setuid", "left-out setid"),
        ("file:/etc/passwd", "left-out protected-path"),
        ("file:/etc/machine-id", "left-out protected-path"),
        ("file:/etc/trueup", "left-out self-trust"),
        ("file:/etc/app/.gitignore", "left-out not-for-git"),
        ("file:/etc/app/.git", "left-out not-for-git"),
        ("file:/etc/app/lfs", "left-out not-for-git"),
        ("file:/etc/app/socket", "left-out special-file"),
        ("file:/etc/app/fifo", "left-out special-file"),
        ("file:/etc/app/\\x01control", "left-out bad-path"),
        ("file:/etc/full", "adopted"),
        ("file:/etc/over", "left-out too-large"),
        ("file:/etc/not-there", "left-out not-there"),
        ("file:/etc/motd/below", "left-out in-the-way"),
        ("file:/proc/version", "left-out protected-path"),
        ("file:/srv/open/mine", "adopted"),
        ("file:/srv/open/away/motd", "left-out untrusted-link"),
        ("file:/srv/open/hard", "left-out untrusted-link"),
        ("file:/srv/other", "adopted"),
        ("file:/srv/sticky", "left-out setid"),
        ("file:/", "left-out protected-path"),
    ] {
        assert_eq!(told.outcome(id), outcome, "{id}: {:#}", told.line(id));
    }
    assert_eq!(
        scene.paths(),
        [
            "hosts/web-01/files/etc/full",
            "hosts/web-01/files/etc/motd",
            "hosts/web-01/files/srv/open/mine",
            "hosts/web-01/files/srv/other",
            "hosts/web-01/host.toml",
        ]
    );
    // The directory around it is what it is.
    let manifest = scene.written("hosts/web-01/host.toml").expect("written");
    let wanted =
        "[files.\"/etc/app\"]\ntype = \"directory\"\n\n[files.\"/srv/open\"]\ntype = \"directory\"\nmode = \"0777\"\n";
    assert_eq!(manifest, wanted);
    // Where the host takes such modes from a repository they are declared.
    scene.on_host("/etc/trueup/agent.toml", "[policy]\nsetid = true\n", 0o644);
    let told = scene.adopt(&["/etc/setuid", "/srv/sticky"]);
    told.whole();
    assert!(scene.written("hosts/web-01/host.toml").expect("written").contains("mode = \"4755\""));
}

const CANARY: &str = "canary-PUJBXVQK";

#[test]
fn no_secret_is_written_in_the_clear_nor_said() {
    let scene = Scene::new();
    scene.on_host("/etc/app/db.conf", &format!("user = app\npassword = {CANARY}\n"), 0o644);
    let key = format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n");
    scene.on_host("/etc/app/key.pem", &key, 0o600);
    scene.on_host("/root/.netrc", &format!("machine h login ana password {CANARY}\n"), 0o600);
    scene.on_host("/etc/app/plain.conf", "user = app\n", 0o644);
    for arguments in [&["/etc/app", "/root/.netrc"][..], &["/etc/app", "/root/.netrc", "--dry-run"]] {
        for json in [&[][..], &["--json"]] {
            let output = scene.run(&[arguments, json].concat());
            assert_eq!(output.status.code(), Some(1), "{}", all(&output));
            assert!(!all(&output).contains(CANARY), "{}", all(&output));
        }
    }
    let told = scene.adopt(&["/etc/app", "/root/.netrc"]);
    assert_eq!(told.outcome("file:/etc/app/db.conf"), "left-out looks-secret");
    assert_eq!(told.line("file:/etc/app/db.conf")["lines"], serde_json::json!([2]));
    assert_eq!(told.line("file:/etc/app/key.pem")["lines"], serde_json::json!([1]));
    assert_eq!(told.outcome("file:/root/.netrc"), "left-out looks-secret");
    assert_eq!(scene.paths(), ["hosts/web-01/files/etc/app/plain.conf", "hosts/web-01/host.toml"]);
    // Only what is named is written as it is.
    let told = scene.adopt(&["/etc/app", "--in-clear", "/etc/app/db.conf", "--in-clear", "/etc/app/dc.conf"]);
    assert_eq!(
        told.document["notes"],
        serde_json::json!(["--in-clear /etc/app/dc.conf: nothing of this name was adopted"])
    );
    assert_eq!(told.outcome("file:/etc/app/db.conf"), "adopted");
    assert_eq!(told.outcome("file:/etc/app/key.pem"), "left-out looks-secret");
    assert!(scene.written("hosts/web-01/files/etc/app/db.conf").expect("written").contains(CANARY));
}

#[cfg(feature = "secrets")]
#[test]
fn a_secret_is_encrypted_to_this_host_whose_plan_is_empty_then() {
    let scene = Scene::new();
    let text = format!("password = {CANARY}\n");
    scene.on_host("/etc/app/db.conf", &text, 0o640);
    scene.on_host("/etc/app/x.j2", &text, 0o600);
    let told = scene.adopt(&["/etc/app/db.conf", "--encrypt"]);
    assert_eq!(told.outcome("file:/etc/app/db.conf"), "left-out looks-secret", "nobody could read it");

    fs::create_dir_all(scene.at("/etc/ssh")).expect("made");
    let mut made = Command::new("ssh-keygen");
    made.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(scene.at("/etc/ssh/ssh_host_ed25519_key"));
    assert!(made.status().expect("ssh-keygen is there").success());
    let told = scene.adopt(&["/etc/app", "--encrypt"]);
    assert_eq!(told.outcome("file:/etc/app/db.conf"), "adopted");
    assert_eq!(told.line("file:/etc/app/db.conf")["encrypted"], true);
    assert_eq!(told.outcome("file:/etc/app/x.j2"), "left-out looks-secret");
    assert_eq!(told.document["differences"], Value::Array(Vec::new()), "{:#}", told.document);
    let sealed = scene.written("hosts/web-01/files/etc/app/db.conf.age").expect("written");
    assert!(sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"), "{sealed}");
    let manifest = scene.written("hosts/web-01/host.toml").expect("written");
    assert!(
        manifest.contains("[secrets]\nrecipient = \"ssh-ed25519 ") && manifest.contains("mode = \"0640\""),
        "{manifest}"
    );
    fs::remove_file(scene.at("/etc/app/x.j2")).expect("ours");
    scene.plans_to_nothing("etc/app");
    let check = Command::new(env!("CARGO_BIN_EXE_trueup")).arg("check").arg(&scene.repo).output().expect("started");
    assert_eq!(check.status.code(), Some(0), "{}", all(&check));
    assert_eq!(scene.adopt(&["/etc/app", "--encrypt"]).outcome("file:/etc/app/db.conf"), "declared");
    // The host's own key opens all of them, and encrypted to itself it is of no use.
    for arguments in [&["/etc/ssh"][..], &["/etc/ssh", "--encrypt"]] {
        let told = scene.adopt(arguments);
        assert_eq!(told.outcome("file:/etc/ssh/ssh_host_ed25519_key"), "left-out self-trust");
        assert_eq!(told.outcome("file:/etc/ssh/ssh_host_ed25519_key.pub"), "left-out host-identity");
        assert_eq!((told.code, &told.document["refused"]), (Some(1), &Value::Null), "{:#}", told.document);
    }

    // Another content goes over it only where that is asked for, and never in the clear.
    scene.on_host("/etc/app/db.conf", "password = another\n", 0o640);
    assert_eq!(scene.adopt(&["/etc/app/db.conf", "--encrypt"]).outcome("file:/etc/app/db.conf"), "left-out exists");
    scene.adopt(&["/etc/app/db.conf", "--encrypt", "--replace"]).whole();
    assert_ne!(scene.written("hosts/web-01/files/etc/app/db.conf.age"), Some(sealed));
    scene.on_host("/etc/app/db.conf", "nothing\n", 0o644);
    scene.adopt(&["/etc/app/db.conf", "--encrypt", "--replace"]).whole();
    assert!(!scene.paths().iter().any(|path| path.ends_with("db.conf")), "it stays a secret: {:?}", scene.paths());
}

#[test]
fn what_nobody_lets_us_read_is_left_out_and_the_rest_is_adopted() {
    let scene = Scene::new();
    scene.on_host("/etc/app/a.conf", "a\n", 0o644);
    scene.on_host("/etc/app/closed/b.conf", "b\n", 0o644);
    scene.on_host("/etc/other/c.conf", "c\n", 0o644);
    for closed in ["/etc/app/closed", "/etc/other"] {
        scene.mode(closed, 0);
    }
    // Where the program was built may be closed to others.
    let program = scene.scratch.path().join("trueup");
    fs::copy(env!("CARGO_BIN_EXE_trueup"), &program).expect("copied");
    let mut command = Command::new(&program);
    if rustix::process::geteuid().is_root() {
        let mut given = Command::new("chown");
        given.args(["-R", "65534:65534"]).arg(scene.scratch.path());
        assert!(given.status().expect("chown is there").success());
        command.uid(65534).gid(65534);
    }
    command
        .args(["adopt", "/etc/app", "/etc/app/closed", "/etc/other", "--json", "--host", "web-01", "--root"])
        .arg(&scene.root);
    let told = Told::of(&command.arg("--repo").arg(&scene.repo).current_dir("/").output().expect("started"));
    assert_eq!(told.code, Some(1), "{:#}", told.document);
    assert_eq!(told.outcome("file:/etc/app/a.conf"), "adopted");
    assert_eq!(told.outcome("file:/etc/app/closed"), "left-out io-error");
    assert_eq!(told.outcome("file:/etc/other"), "left-out io-error");
    for closed in ["/etc/app/closed", "/etc/other"] {
        scene.mode(closed, 0o700);
    }
}

#[test]
fn a_package_has_one_name() {
    let scene = Scene::new();
    let told = scene.adopt(&["package:nginx", "package:nginx:native", "package:nginx:all"]);
    assert_eq!(told.outcome("package:nginx"), "left-out deferred");
    assert_eq!(told.document["resources"].as_array().map(Vec::len), Some(1), "{:#}", told.document);
    let notes = ["package:nginx:all is package:nginx", "package:nginx:native is package:nginx"];
    assert_eq!(told.document["notes"], serde_json::json!(notes));
}

#[test]
fn what_git_would_write_otherwise_is_left_out_until_it_is_told_not_to() {
    let scene = Scene::new();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(&scene.repo).args(["-c", "user.name=Ana", "-c", "user.email=ana@example.org"]);
        let done = git.args(arguments).output().expect("git is there");
        assert!(done.status.success(), "{}", all(&done));
        done.stdout
    };
    git(&["init", "-q"]);
    scene.declare(".gitattributes", "# Ours.\n* text=auto eol=lf\n");
    scene.on_host("/etc/app/crlf", "a\r\nb\r\n", 0o640);
    scene.on_host("/etc/app/lf", "a\nb\n", 0o644);
    let told = scene.adopt(&["/etc/app"]);
    assert_eq!(told.outcome("file:/etc/app/crlf"), "left-out not-for-git");
    let message = told.line("file:/etc/app/crlf")["message"].as_str().expect("why");
    let said = "which Git would change by .gitattributes:2; say `-text` of hosts/web-01/files/etc/app/crlf there";
    assert!(message.ends_with(said), "{message}");
    assert_eq!(told.outcome("file:/etc/app/lf"), "adopted");
    scene.declare(".gitattributes", "# Ours.\n* text=auto eol=lf\nhosts/*/files/** -text\n");
    scene.adopt(&["/etc/app"]).whole();
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "as it is"]);
    let kept = git(&["cat-file", "blob", ":hosts/web-01/files/etc/app/crlf"]);
    assert_eq!(kept, b"a\r\nb\r\n");
    scene.plans_to_nothing("etc/app");
    // The last word is in the checkout's own file, and what is no checkout is looked at as if it were to be one.
    scene.on_host("/etc/app/more", "a\r\n", 0o644);
    scene.declare(".git/info/attributes", "more text\n");
    let told = scene.adopt(&["/etc/app/more"]);
    assert_eq!(told.outcome("file:/etc/app/more"), "left-out not-for-git");
    assert!(told.line("file:/etc/app/more")["message"].to_string().contains("by .git/info/attributes:1;"));
    fs::remove_dir_all(scene.repo.join(".git")).expect("ours");
    scene.adopt(&["/etc/app/more"]).whole();
}

#[test]
fn what_is_mounted_is_told_whatever_directory_it_covers() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scene = Scene::new();
    for directory in ["/srv", "/opt/app"] {
        fs::create_dir_all(scene.at(directory)).expect("made");
    }
    // The mounts go with the process that made them.
    let adopt = |paths: &[&str]| {
        let script = "root=$1; shift; mount -t tmpfs -o mode=755 none \"$root/srv\" && \
                      mount -t tmpfs -o mode=1777 none \"$root/opt/app\" && echo a >\"$root/srv/a\" && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).arg(&scene.root);
        command.args([env!("CARGO_BIN_EXE_trueup"), "adopt", "--json", "--dry-run", "--host", "web-01", "--root"]);
        command.arg(&scene.root).arg("--repo").arg(&scene.repo).args(paths);
        Told::of(&command.output().expect("started"))
    };
    for paths in [&["/srv", "/opt/app"][..], &["/srv", "/opt"]] {
        let told = adopt(paths);
        assert_eq!(told.code, Some(1), "{:#}", told.document);
        assert_eq!(told.outcome("file:/srv"), "left-out mount-point");
        assert_eq!(told.outcome("file:/opt/app"), "left-out mount-point");
    }
    // What is named on it is taken, as what lies on the way to it is not.
    adopt(&["/srv/a"]).whole();
}

#[test]
fn what_root_named_in_the_agent_s_settings_is_left_out_and_a_plan_that_is_refused_for_it_is_told() {
    let scene = Scene::new();
    scene.on_host("/etc/trueup/agent.toml", "[trust]\nsigners = \"/etc/app/signers\"\n", 0o644);
    scene.on_host("/etc/app/signers", "ana@example.org ssh-ed25519 AAAA\n", 0o644);
    scene.on_host("/etc/app/motd", "hello\n", 0o644);
    let told = scene.adopt(&["/etc/app"]);
    assert_eq!(told.outcome("file:/etc/app/signers"), "left-out self-trust");
    assert_eq!(told.outcome("file:/etc/app/motd"), "adopted");
    assert_eq!((told.code, &told.document["refused"]), (Some(1), &Value::Null), "{:#}", told.document);
    // What somebody declared of it before stalls the host whole, as it is here.
    scene.declare("hosts/web-01/files/etc/app/signers", "ana@example.org ssh-ed25519 AAAA\n");
    let told = scene.adopt(&["/etc/app/motd"]);
    assert_eq!(told.outcome("file:/etc/app/motd"), "declared");
    assert_eq!(
        (told.code, &told.document["refused"]["reason"]),
        (Some(1), &"self-trust".into()),
        "{:#}",
        told.document
    );
    let text = all(&scene.run(&["/etc/app/motd"]));
    let said = "A pass here would change nothing, self-trust: file:/etc/app/signers (hosts/web-01) decides whom this host \
                believes (agent.toml), which is not for the repository to write. Mend that before you push.";
    assert!(text.contains(said) && !text.contains("would be empty"), "{text}");
    // So does a plan that would take away more than anybody is likely to mean.
    fs::remove_file(scene.repo.join("hosts/web-01/files/etc/app/signers")).expect("ours");
    scene.declare("hosts/web-01/host.toml", "[files.\"/etc/app/many\"]\ntype = \"directory\"\nexclusive = true\n");
    scene.on_host("/etc/app/many/0", "mine\n", 0o644);
    scene.declare("hosts/web-01/files/etc/app/many/0", "mine\n");
    for n in 1..100 {
        scene.on_host(&format!("/etc/app/many/{n}"), "a stranger\n", 0o644);
    }
    let told = scene.adopt(&["/etc/app/motd"]);
    assert_eq!((told.code, &told.document["refused"]["reason"]), (Some(1), &"guard".into()), "{:#}", told.document);
    assert_eq!(told.document["differences"].as_array().map(Vec::len), Some(99), "{:#}", told.document);
    scene.adopt(&["/etc/app/many"]).whole();
}

#[test]
fn what_is_declared_already_is_not_written_twice_and_what_is_said_otherwise_is_told_with_its_place() {
    let scene = Scene::new();
    scene.declare(
        "hosts/web-01/host.toml",
        "roles = [\"base\"]\n[files.\"/etc/when\"]\nwhen = \"1 == 2\"\ncontent = \"x\"\n\
         [units.\"when.service\"]\nwhen = \"1 == 2\"\nenabled = true\n",
    );
    scene.declare(
        "roles/base/role.toml",
        "[files.\"/etc/only\"]\nattributes_only = true\nmode = \"0644\"\n[files.\"/etc/gone\"]\nstate = \"absent\"\n\
         [files.\"/etc/mode\"]\nmode = \"0600\"\n",
    );
    scene.declare("roles/base/files/etc/same", "same\n");
    scene.declare("roles/base/files/etc/other", "theirs\n");
    scene.declare("roles/base/files/etc/mode", "mode\n");
    scene.declare("hosts/web-01/files/etc/rendered.j2", "{{ host.name }}\n");
    scene.declare("hosts/web-01/files/etc/template.j2", "{{ host.name }}\n");
    scene.on_host("/etc/rendered", "web-01\n", 0o644);
    for name in ["same", "other", "mode", "only", "gone", "template", "new", "when"] {
        scene.on_host(&format!("/etc/{name}"), &format!("{name}\n"), 0o644);
    }
    let before = tree(&scene.repo, true);
    let names =
        ["same", "other", "mode", "only", "gone", "template", "rendered", "when"].map(|name| format!("/etc/{name}"));
    let paths: Vec<&str> = names.iter().map(String::as_str).collect();
    for more in [&[][..], &["--replace"]] {
        let told = scene.adopt(&[&paths[..], more].concat());
        assert_eq!(told.code, Some(1));
        for (name, outcome, place) in [
            ("same", "declared", ""),
            ("rendered", "declared", ""),
            ("other", "left-out contradicts", "roles/base/files/etc/other "),
            ("mode", "left-out contradicts", "roles/base/files/etc/mode "),
            ("only", "left-out contradicts", "roles/base/role.toml:1 "),
            ("gone", "left-out contradicts", "roles/base/role.toml:4 "),
            ("template", "left-out contradicts", "hosts/web-01/files/etc/template.j2 "),
            ("when", "left-out contradicts", "hosts/web-01/host.toml:2 "),
        ] {
            let id = format!("file:/etc/{name}");
            assert_eq!(told.outcome(&id), outcome, "{id}: {:#}", told.line(&id));
            let message = told.line(&id)["message"].as_str().unwrap_or_default();
            assert!(message.starts_with(place), "{message}");
        }
        assert_eq!(told.line("file:/etc/same")["layer"], "roles/base");
        assert_eq!(tree(&scene.repo, true), before);
    }
    scene.on_host("/usr/lib/systemd/system/when.service", "[Install]\nWantedBy=multi-user.target\n", 0o644);
    let told = scene.adopt(&["when.service", "--replace"]);
    assert_eq!(told.outcome("unit:when.service"), "left-out contradicts");
    assert!(told.line("unit:when.service")["message"].as_str().expect("why").starts_with("hosts/web-01/host.toml:5 "));
    // What differs of the rest is told, and does not keep what is new from being adopted.
    let told = scene.adopt(&["/etc/new"]);
    assert_eq!((told.code, told.outcome("file:/etc/new").as_str()), (Some(0), "adopted"));
    let differences = told.document["differences"].as_array().expect("a list");
    let differs: Vec<&str> = differences.iter().filter_map(|one| one["id"].as_str()).collect();
    assert_eq!(differs, ["file:/etc/gone", "file:/etc/mode", "file:/etc/other", "file:/etc/template"]);
}

#[test]
fn what_differs_in_the_layer_is_overwritten_only_where_that_is_asked_for() {
    let scene = Scene::new();
    let manifest = "# Mine.\n[files.\"/etc/motd\"]\nmode = \"0600\" # for us\n\n[units]\n\"a.service\" = \"on\"\n";
    scene.declare("hosts/web-01/host.toml", manifest);
    scene.declare("hosts/web-01/files/etc/motd", "old\n");
    scene.declare("hosts/web-01/files/etc/bare", "bare\n");
    scene.on_host("/etc/motd", "new\n", 0o644);
    scene.declare("hosts/web-01/files/etc/text", "old\n");
    scene.on_host("/etc/text", "new\n", 0o644);
    scene.on_host("/etc/bare", "bare\n", 0o640);
    let service = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
    scene.on_host("/usr/lib/systemd/system/a.service", service, 0o644);
    let told = scene.adopt(&["/etc/motd", "a.service", "/etc/bare", "/etc/text"]);
    assert_eq!(told.outcome("file:/etc/motd"), "left-out exists");
    assert_eq!(told.outcome("file:/etc/text"), "left-out exists");
    assert_eq!(scene.written("hosts/web-01/files/etc/text").as_deref(), Some("old\n"));
    assert_eq!(told.outcome("unit:a.service"), "left-out exists");
    // Attributes that nobody said are added.
    assert_eq!(told.outcome("file:/etc/bare"), "adopted");
    assert_eq!(scene.written("hosts/web-01/files/etc/motd").as_deref(), Some("old\n"));
    let with_bare = format!(
        "{}\n[files.\"/etc/bare\"]\nmode = \"0640\"\n\n[units]\n\"a.service\" = \"on\"\n",
        manifest.split("\n[units]").next().expect("a beginning")
    );
    assert_eq!(scene.written("hosts/web-01/host.toml"), Some(with_bare));
    let told = scene.adopt(&["/etc/motd", "a.service", "/etc/bare", "/etc/text", "--replace"]);
    told.whole();
    assert_eq!(scene.written("hosts/web-01/files/etc/text").as_deref(), Some("new\n"));
    assert_eq!(scene.written("hosts/web-01/files/etc/motd").as_deref(), Some("new\n"));
    let now = scene.written("hosts/web-01/host.toml").expect("there");
    assert!(now.starts_with("# Mine.\n[files.\"/etc/motd\"]\nmode = \"0644\" # for us\n"), "{now}");
    assert!(now.contains("\"a.service\" = { enabled = false }"), "{now}");
    assert!(now.contains("[files.\"/etc/bare\"]\nmode = \"0640\"\n"), "{now}");
}

#[test]
fn a_pattern_of_some_layer_does_not_give_adopted_files_what_they_do_not_have() {
    let scene = Scene::new();
    scene.declare("hosts/web-01/host.toml", "roles = [\"base\"]\n[files.\"/etc/app/*.row\"]\nmode = \"0440\"\n");
    scene.declare("roles/base/role.toml", "[files.\"/etc/app/**\"]\nmode = \"0600\"\n");
    for (name, mode) in [("a.conf", 0o644), ("b.conf", 0o600), ("c.row", 0o644), ("d.row", 0o440)] {
        scene.on_host(&format!("/etc/app/{name}"), "x\n", mode);
    }
    scene.adopt(&["/etc/app"]).whole();
    let manifest = scene.written("hosts/web-01/host.toml").expect("there");
    assert!(manifest.ends_with(
        "mode = \"0440\"\n\n[files.\"/etc/app/b.conf\"]\nmode = \"0600\"\n\n[files.\"/etc/app/d.row\"]\nmode = \"0440\"\n\n\
         [files.\"/etc/app/a.conf\"]\nmode = \"0644\"\n\n[files.\"/etc/app/c.row\"]\nmode = \"0644\"\n"
    ), "{manifest}");
    scene.plans_to_nothing("etc/app");
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_would_be() {
    let scene = Scene::new();
    scene.on_host("/etc/motd", "hello\n", 0o600);
    let output = scene.run(&["/etc/motd", "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    let text = all(&output);
    for said in [
        "+ file:/etc/motd  hosts/web-01/files/etc/motd",
        "1 to be adopted into hosts/web-01, 0 already declared, 0 left out.",
        "A plan here would be empty.",
        "Nothing was written.",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert_eq!(scene.paths(), Vec::<String>::new());
    let text = all(&scene.run(&["/etc/motd"]));
    assert!(text.contains("1 adopted into hosts/web-01") && text.contains("git add hosts/web-01;"), "{text}");
    // What is made belongs to whom the repository belongs.
    let owner = |path: &str| fs::metadata(scene.repo.join(path)).map(|meta| (meta.uid(), meta.gid())).expect("there");
    for made in ["hosts", "hosts/web-01/files/etc/motd", "hosts/web-01/host.toml"] {
        assert_eq!(owner(made), owner("trueup.toml"), "{made}");
    }
}

#[test]
fn a_role_is_written_and_it_is_told_that_the_host_does_not_include_it() {
    let scene = Scene::new();
    scene.on_host("/etc/motd", "hello\n", 0o600);
    scene.declare("hosts/web-01/files/etc/motd", "another\n");
    let output = scene.run(&["/etc/motd", "--role", "base"]);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    assert!(all(&output).contains("hosts/web-01 does not include roles/base: add \"base\""), "{}", all(&output));
    assert_eq!(scene.written("roles/base/role.toml").as_deref(), Some("[files.\"/etc/motd\"]\nmode = \"0600\"\n"));
    assert_eq!(scene.written("hosts/web-01/files/etc/motd").as_deref(), Some("another\n"), "the host's is its own");
    // Once it does, the host's own word stands against it.
    scene.declare("hosts/web-01/host.toml", "roles = [\"base\"]\n");
    let told = scene.adopt(&["/etc/motd", "--role", "base"]);
    assert_eq!(told.outcome("file:/etc/motd"), "left-out contradicts");
    fs::remove_dir_all(scene.repo.join("hosts/web-01/files")).expect("ours");
    scene.adopt(&["/etc/motd", "--role", "base"]).whole();
    assert_eq!(scene.adopt(&["/etc/motd"]).line("file:/etc/motd")["layer"], "roles/base");
}

#[test]
fn nothing_is_written_where_the_repository_is_none_or_does_not_compile_or_leads_elsewhere() {
    let scene = Scene::new();
    scene.on_host("/srv/app/x", "hello\n", 0o644);
    let refused = |arguments: &[&str], said: &str| {
        let output = scene.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", all(&output));
        assert!(all(&output).contains(said), "{said}: {}", all(&output));
    };
    // Links that lead out of it.
    let outside = scene.scratch.path().join("outside");
    fs::create_dir(&outside).expect("made");
    symlink(&outside, scene.repo.join("hosts")).expect("linked");
    refused(&["/srv/app/x"], "is in the way");
    fs::remove_file(scene.repo.join("hosts")).expect("ours");
    scene.declare("hosts/web-01/files/etc/motd", "hello\n");
    fs::create_dir(scene.repo.join("hosts/web-01/files/srv")).expect("made");
    symlink(&outside, scene.repo.join("hosts/web-01/files/srv/app")).expect("linked");
    refused(&["/srv/app/x"], "with what was adopted the repository would not compile");
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
    fs::remove_dir_all(scene.repo.join("hosts/web-01/files/srv")).expect("ours");

    scene.declare("hosts/web-01/host.toml", "[packges]\n");
    refused(&["/srv/app/x"], "does not compile for this host as it is");
    fs::remove_file(scene.repo.join("hosts/web-01/host.toml")).expect("ours");
    refused(&["/srv/app/x", "--role", "../x"], "cannot be the name");
    refused(&["/srv/app/x", "--role", "Base"], "lower case");
    let told = scene.trueup(&["adopt", "relative"], &scene.root);
    assert_eq!(told.status.code(), Some(1), "{}", all(&told));
    fs::remove_file(scene.repo.join("trueup.toml")).expect("ours");
    refused(&["/srv/app/x"], "it has no trueup.toml");
    assert_eq!(scene.paths(), ["hosts/web-01/files/etc/motd"]);
}
