//! Programs of the machine that serve a lab.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A running server, ended when it is dropped, or by the kernel when the test's thread ends.
pub struct Server(Child);

/// Which stream a server says on that it listens.
#[derive(Clone, Copy)]
pub enum Says {
    Stdout,
    Stderr,
}

/// `program`, which the kernel ends when the thread that starts it ends.
pub fn bound_to_us(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
    command
}

impl Server {
    /// Starts `command` and waits until it says a line that contains `ready`.
    pub fn start(command: Command, says: Says, ready: &str) -> Self {
        Self::start_within(Duration::from_secs(30), command, says, ready)
    }

    /// The same for one that may be silent as long as `patience`.
    pub fn start_within(patience: Duration, mut command: Command, says: Says, ready: &str) -> Self {
        let name = format!("{command:?}");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        let mut server = Self(child);
        let (told, hears) = mpsc::channel();
        let (spoken, silent): (Box<dyn Read + Send>, Box<dyn Read + Send>) = match says {
            Says::Stdout => (Box::new(stdout), Box::new(stderr)),
            Says::Stderr => (Box::new(stderr), Box::new(stdout)),
        };
        // Both are read to their end, so that the server never waits for a reader.
        for stream in [spoken, silent] {
            let told = told.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines() {
                    let Ok(line) = line else { break };
                    drop(told.send(line));
                }
            });
        }
        drop(told);
        let mut heard = String::new();
        loop {
            match hears.recv_timeout(patience) {
                Ok(line) if line.contains(ready) => break,
                Ok(line) => heard.extend([line.as_str(), "\n"]),
                Err(_) => {
                    drop(server.0.kill());
                    panic!("{name} did not say {ready:?}:\n{heard}");
                }
            }
        }
        server
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let process = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        nix::sys::signal::kill(process, signal).expect("it runs");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs `command` to its end and gives its standard output.
pub fn done(command: &mut Command) -> String {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
