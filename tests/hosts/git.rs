//! A fleet repository, and the Git servers that hand it out.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::{Says, Server, bound_to_us, done};

/// A fleet repository as somebody works in it, with the bare one that it is pushed to.
pub struct Fleet {
    work: PathBuf,
    bare: PathBuf,
    commits: u32,
}

impl Fleet {
    /// An empty fleet below `directory`; nothing is pushed yet.
    pub fn new(directory: &Path) -> Self {
        let fleet = Self { work: directory.join("work"), bare: directory.join("served/fleet.git"), commits: 0 };
        fs::create_dir_all(&fleet.work).expect("a directory of the lab's own");
        done(git().args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(&fleet.bare));
        fleet.git(&["init", "--quiet", "--initial-branch=main"]);
        fleet.git(&["remote", "add", "origin", &fleet.bare.display().to_string()]);
        fleet.write("trueup.toml", "format = 1\n");
        fleet
    }

    /// Where the repository that servers hand out is.
    pub fn bare(&self) -> &Path {
        &self.bare
    }

    fn git(&self, arguments: &[&str]) -> String {
        done(git().arg("-C").arg(&self.work).args(arguments))
    }

    /// Writes a file of the work tree.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.work.join(path);
        fs::create_dir_all(path.parent().expect("below the work tree")).expect("a directory of the lab's own");
        fs::write(&path, content).expect("a file of the lab's own");
    }

    /// Writes an executable file of the work tree.
    pub fn write_executable(&self, path: &str, content: &str) {
        self.write(path, content);
        let path = self.work.join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a file of the lab's own");
    }

    /// Makes a symbolic link in the work tree.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.work.join(path);
        fs::create_dir_all(path.parent().expect("below the work tree")).expect("a directory of the lab's own");
        symlink(target, path).expect("a link of the lab's own");
    }

    /// Removes a file, or a directory with all that is below it.
    pub fn remove(&self, path: &str) {
        self.git(&["rm", "-r", "--quiet", "--force", "--", path]);
    }

    fn record(&mut self, arguments: &[&str]) -> String {
        self.commits += 1;
        let date = format!("{} +0000", 1_760_000_000 + 60 * self.commits);
        done(
            git()
                .arg("-C")
                .arg(&self.work)
                .args(arguments)
                .env("GIT_AUTHOR_DATE", &date)
                .env("GIT_COMMITTER_DATE", &date),
        );
        self.head()
    }

    fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    fn push(&self) {
        self.git(&["push", "--quiet", "--force", "origin", "HEAD:main"]);
    }

    /// From now on commits are signed with the SSH key in `key`, by whom it belongs to; with `None` by nobody.
    pub fn sign_with(&self, key: Option<&Path>) {
        self.git(&["config", "gpg.format", "ssh"]);
        self.git(&["config", "commit.gpgSign", if key.is_some() { "true" } else { "false" }]);
        if let Some(key) = key {
            self.git(&["config", "user.signingKey", &key.display().to_string()]);
        }
    }

    /// Commits what is on a branch of its own and merges it: the merge, the commit before it stays the first parent.
    pub fn merge(&mut self, path: &str, content: &str, sign_side: Option<&Path>, sign_merge: Option<&Path>) -> String {
        self.git(&["checkout", "--quiet", "-b", "side"]);
        self.write(path, content);
        self.git(&["add", "--all"]);
        self.sign_with(sign_side);
        self.record(&["commit", "--quiet", "-m", "side"]);
        self.git(&["checkout", "--quiet", "main"]);
        self.sign_with(sign_merge);
        self.record(&["merge", "--quiet", "--no-ff", "--no-edit", "side"]);
        self.git(&["branch", "--quiet", "-D", "side"]);
        self.push();
        self.head()
    }

    /// Commits what the work tree holds, pushes it and gives its id.
    pub fn commit(&mut self, message: &str) -> String {
        self.git(&["add", "--all"]);
        let id = self.record(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.push();
        id
    }

    /// Gives the server a branch `name` at the last commit.
    pub fn branch(&self, name: &str) {
        self.git(&["push", "--quiet", "origin", &format!("HEAD:refs/heads/{name}")]);
    }

    /// Commits and pushes the opposite of the last commit.
    pub fn revert(&mut self) -> String {
        let id = self.record(&["revert", "--no-edit", "HEAD"]);
        self.push();
        id
    }

    /// Replaces the last commit by one with what the work tree holds now, and forces that on the server.
    pub fn force_push(&mut self, message: &str) -> String {
        self.git(&["add", "--all"]);
        let id = self.record(&["commit", "--quiet", "--amend", "-m", message]);
        self.push();
        id
    }

    /// Goes back to `commit`, as if nothing after it had been, and forces that on the server.
    pub fn reset(&mut self, commit: &str) {
        self.git(&["reset", "--quiet", "--hard", commit]);
        self.push();
    }
}

/// git that reads nobody's configuration.
fn git() -> Command {
    let mut command = Command::new("git");
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .envs([("GIT_AUTHOR_NAME", "Ana"), ("GIT_AUTHOR_EMAIL", "ana@example.org")])
        .envs([("GIT_COMMITTER_NAME", "Ana"), ("GIT_COMMITTER_EMAIL", "ana@example.org")]);
    command
}

/// `git daemon` on port 9418 for what is below `served`: unencrypted, nobody is who they say they are.
pub fn daemon(address: &str, served: &Path) -> Server {
    // Not by way of `git`, which would start it as a child that outlives it.
    let program = Path::new(done(git().arg("--exec-path")).trim()).join("git-daemon");
    let mut command = bound_to_us(program);
    command.args(["--verbose", "--export-all", "--reuseaddr", "--port=9418"]);
    command.arg(format!("--listen={address}")).arg(format!("--base-path={}", served.display())).arg(served);
    command.envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")]);
    Server::start(command, Says::Stderr, "Ready to rumble")
}

/// A certificate authority of the lab's own.
pub struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// Makes one below `directory`, with a certificate for the server at `address`.
    pub fn new(directory: PathBuf, address: &str) -> Self {
        fs::create_dir_all(&directory).expect("a directory of the lab's own");
        let own = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"];
        let name = format!("subjectAltName=IP:{address},DNS:git.fleet.test");
        let server = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", &name, "-addext", "basicConstraints=CA:FALSE"];
        for (who, more) in [("ca", &own[..]), ("server", &server[..])] {
            let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
            let subject = format!("/CN={who} of the lab");
            let files = [format!("{who}.key"), format!("{who}.pem")];
            done(
                Command::new("openssl")
                    .current_dir(&directory)
                    .args(["req", "-x509"])
                    .args(key)
                    .args(["-subj", &subject, "-keyout", &files[0], "-out", &files[1]])
                    .args(more),
            );
        }
        Self { directory }
    }

    /// Its own certificate, which hosts are to believe.
    pub fn certificate(&self) -> Vec<u8> {
        fs::read(self.directory.join("ca.pem")).expect("made by new")
    }
}

/// `git http-backend` behind HTTPS on `port`, for what is below `served`. With a token, only for who has it.
pub fn https(address: &str, port: u16, served: &Path, authority: &Authority, token: Option<&str>) -> Server {
    let token: Vec<String> = token.map(|token| format!("--token={token}")).into_iter().collect();
    start_https(address, port, served, authority, &token)
}

fn start_https(address: &str, port: u16, served: &Path, authority: &Authority, more: &[String]) -> Server {
    let mut command = bound_to_us("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hosts/https_git.py"));
    command.arg(format!("--listen={address}:{port}")).arg(format!("--root={}", served.display()));
    command.arg(format!("--certificate={}", authority.directory.join("server.pem").display()));
    command.arg(format!("--key={}", authority.directory.join("server.key").display()));
    command.args(more);
    command.envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")]);
    Server::start(command, Says::Stdout, "listening")
}

/// The same for who has `token`; the answer to a fetch stops in the middle while there is a file `hold`, and is held then,
/// which `hold.held` beside it tells.
pub fn https_held(address: &str, port: u16, served: &Path, authority: &Authority, token: &str, hold: &Path) -> Server {
    start_https(address, port, served, authority, &[format!("--token={token}"), format!("--hold={}", hold.display())])
}

/// The port of sshd; 22 may be the machine's own.
pub const SSH_PORT: u16 = 2222;

/// sshd that gives out `served` to who has the deploy key, and nothing else to anybody.
pub struct Ssh {
    directory: PathBuf,
    address: String,
    _server: Server,
}

impl Ssh {
    /// Starts it. Its keys are below `directory`.
    pub fn start(address: &str, directory: PathBuf) -> Self {
        fs::create_dir_all(&directory).expect("a directory of the lab's own");
        for key in ["host", "deploy", "other"] {
            let file = directory.join(key);
            done(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"]).arg(file));
        }
        let file = |name: &str| directory.join(name).display().to_string();
        fs::copy(directory.join("deploy.pub"), directory.join("authorized_keys")).expect("a file of the lab's own");
        let configuration = format!(
            "ListenAddress {address}:{SSH_PORT}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             ForceCommand {} shell -c \"$SSH_ORIGINAL_COMMAND\"\n",
            file("host"),
            file("authorized_keys"),
            done(Command::new("sh").args(["-c", "command -v git"])).trim(),
        );
        fs::write(directory.join("sshd_config"), configuration).expect("a file of the lab's own");
        // Where sshd puts its unprivileged half; the machine's own service would make it.
        fs::create_dir_all("/run/sshd").expect("root makes a directory");
        let mut command = bound_to_us("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(directory.join("sshd_config"));
        let server = Server::start(command, Says::Stderr, "Server listening");
        Self { directory, address: address.to_owned(), _server: server }
    }

    /// The private deploy key.
    pub fn deploy_key(&self) -> Vec<u8> {
        fs::read(self.directory.join("deploy")).expect("made by start")
    }

    /// The line that pins the server's key, or that of another server.
    pub fn known_hosts(&self, right: bool) -> String {
        let key = self.directory.join(if right { "host.pub" } else { "other.pub" });
        format!("[{}]:{SSH_PORT} {}", self.address, fs::read_to_string(key).expect("made by start"))
    }
}
