//! Commits and keys, made by the tools that people make them with.
#![allow(clippy::disallowed_methods, reason = "tests make keys and commits with git, ssh-keygen and gpg")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use gix_hash::Kind;
use ssh_key::private::Ed25519Keypair;
use ssh_key::{HashAlg, LineEnding, PrivateKey, SshSig};

use crate::model::Zone;
use crate::source::trust::{Refusal, Revoked, Signed, Signers, Trust, verify};

/// When commits are made, and when they are judged, if not said otherwise: 2026-11-01 and a day later.
pub const MADE: i64 = 1_793_491_200;
pub const NOW: i64 = MADE + 86_400;

/// A directory with a repository, and keys.
pub struct Workshop {
    at: tempfile::TempDir,
    pub hash: Kind,
}

impl Workshop {
    pub fn new() -> Self {
        Self::of(Kind::Sha1)
    }

    pub fn of(hash: Kind) -> Self {
        let workshop = Self { at: tempfile::tempdir().expect("tempdir"), hash };
        workshop.git(&["init", "--quiet", &format!("--object-format={hash}"), "work"], workshop.path());
        workshop
    }

    pub fn path(&self) -> &Path {
        self.at.path()
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.path())
            .env_remove("GIT_DIR")
            .env_remove("SSH_AUTH_SOCK")
            .env("TZ", "UTC")
            .env("GNUPGHOME", self.path().join("gnupg"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null");
        command
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
        done(&output, program, arguments)
    }

    /// Runs `program` with `input`, and says whether it succeeded, and what it said.
    pub fn ask(&self, program: &str, arguments: &[&str], input: &[u8]) -> (bool, String) {
        let mut command = self.command(program, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        // It may have heard enough before all is said.
        drop(child.stdin.take().expect("a pipe").write_all(input));
        let output = child.wait_with_output().expect("it ends");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn git(&self, arguments: &[&str], directory: &Path) -> String {
        let output = self.command("git", arguments).current_dir(directory).output().expect("git is installed");
        done(&output, "git", arguments)
    }

    /// The path of a file with `content`.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path().join(name);
        fs::write(&path, content).expect("write");
        text(path)
    }

    /// Makes an SSH key: its path, and its line.
    pub fn key(&self, name: &str, arguments: &[&str]) -> (String, String) {
        let path = text(self.path().join(name));
        let fixed = ["-q", "-N", "", "-C", "", "-f", &path];
        self.run("ssh-keygen", &[arguments, &fixed[..]].concat());
        let line = fs::read_to_string(format!("{path}.pub")).expect("its public half");
        (path, line.trim().to_owned())
    }

    pub fn ed25519(&self, name: &str) -> (String, String) {
        self.key(name, &["-t", "ed25519"])
    }

    /// Commits, signed with the SSH key at `key`; the commit as Git hashes it.
    pub fn commit(&self, key: &str) -> Vec<u8> {
        self.commit_at(key, MADE)
    }

    pub fn commit_at(&self, key: &str, time: i64) -> Vec<u8> {
        self.commit_with(&["gpg.format=ssh", &format!("user.signingKey={key}")], time)
    }

    /// Commits with `settings`, signed.
    pub fn commit_with(&self, settings: &[&str], time: i64) -> Vec<u8> {
        let mut arguments = vec!["-c", "user.name=Ana", "-c", "user.email=ana@example.org"];
        settings.iter().for_each(|setting| arguments.extend(["-c", setting]));
        arguments.extend(["commit", "--quiet", "--allow-empty", "-S", "--message", "tls: new intermediate"]);
        let work = self.path().join("work");
        let date = format!("{time} +0100");
        let mut command = self.command("git", &arguments);
        command.current_dir(&work).env("GIT_COMMITTER_DATE", &date).env("GIT_AUTHOR_DATE", &date);
        done(&command.output().expect("git is installed"), "git", &arguments);
        self.raw("HEAD")
    }

    /// Runs gpg in a home of its own, which asks nobody.
    #[cfg(feature = "openpgp")]
    pub fn gpg(&self, arguments: &[&str]) -> String {
        let home = self.path().join("gnupg");
        if !home.exists() {
            fs::create_dir(&home).expect("mkdir");
            fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("chmod");
        }
        let fixed = ["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""];
        self.run("gpg", &[&fixed[..], arguments].concat())
    }

    /// Commits, signed by gpg with `key`; gpg is given `arguments` besides those of git.
    #[cfg(feature = "openpgp")]
    pub fn commit_by_gpg(&self, key: &str, arguments: &str, time: i64) -> Vec<u8> {
        let program = self.file("gpg", format!("#!/bin/sh\nexec gpg --batch --quiet {arguments} \"$@\"\n"));
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
        self.commit_with(&[&format!("gpg.program={program}"), &format!("user.signingKey={key}")], time)
    }

    fn raw(&self, revision: &str) -> Vec<u8> {
        let mut command = self.command("git", &["cat-file", "commit", revision]);
        command.current_dir(self.path().join("work")).output().expect("git is installed").stdout
    }

    /// Judges `commit` by lines of `allowed_signers`.
    pub fn judge(&self, commit: &[u8], signers: &str) -> Result<Signed, Refusal> {
        self.judge_at(commit, signers, "", NOW)
    }

    pub fn judge_at(&self, commit: &[u8], signers: &str, revoked: &str, now: i64) -> Result<Signed, Refusal> {
        verify(commit, self.hash, &trust(signers, revoked), now)
    }
}

impl Drop for Workshop {
    /// The agent that gpg leaves behind goes with its home.
    fn drop(&mut self) {
        if self.path().join("gnupg").exists() {
            drop(self.command("gpgconf", &["--kill", "all"]).output());
        }
    }
}

pub fn trust(signers: impl AsRef<[u8]>, revoked: &str) -> Trust {
    Trust {
        signers: Signers::parse("/etc/signers", signers.as_ref(), &Zone::utc()).expect("signers"),
        revoked: Revoked::parse("/etc/revoked", revoked.as_bytes()).expect("revoked keys"),
    }
}

/// What came of judging: `fine`, or the reason and the whole sentence.
pub fn said(judged: Result<Signed, Refusal>) -> (&'static str, String) {
    match judged {
        Ok(signed) => ("fine", signed.principal),
        Err(refusal) => (refusal.reason(), refusal.to_string()),
    }
}

/// The fingerprint of the key `line`, as ssh-keygen says it.
pub fn fingerprint(workshop: &Workshop, path: &str) -> String {
    let listed = workshop.run("ssh-keygen", &["-l", "-f", &format!("{path}.pub")]);
    listed.split(' ').nth(1).expect("a fingerprint").to_owned()
}

/// A commit made of `payload` with the signature `armored`.
pub fn sealed(payload: &str, armored: &str) -> Vec<u8> {
    let (headers, message) = payload.split_once("\n\n").expect("a commit");
    format!("{headers}\ngpgsig {}\n\n{message}", armored.trim_end().replace('\n', "\n ")).into_bytes()
}

/// A commit that is not signed.
pub fn unsigned(time: i64) -> String {
    let who = format!("Ana <ana@example.org> {time} +0100");
    format!("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor {who}\ncommitter {who}\n\ntls: new intermediate\n")
}

/// A key that signs here, without any tool; there is one for each number.
pub struct Hand(PrivateKey);

impl Hand {
    pub fn new(number: u8) -> Self {
        Self(PrivateKey::from(Ed25519Keypair::from_seed(&[number; 32])))
    }

    /// Its line in a file of signers.
    pub fn line(&self) -> String {
        format!("{} {}\n", self.name(), self.0.public_key().to_openssh().expect("a line"))
    }

    pub fn name(&self) -> String {
        self.fingerprint()[7..12].to_owned()
    }

    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    pub fn sign(&self, payload: &str) -> Vec<u8> {
        let signature = SshSig::sign(&self.0, "git", HashAlg::Sha512, payload.as_bytes()).expect("signs");
        sealed(payload, &signature.to_pem(LineEnding::LF).expect("an armour"))
    }
}

pub fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("UTF-8")
}

fn done(output: &Output, program: &str, arguments: &[&str]) -> String {
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
