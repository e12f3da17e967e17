use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};

use super::Error;
use crate::model::one_line;

/// How much of each stream is kept; the rest is read and dropped.
const KEPT: usize = 16 << 20;
/// How long what a program left behind may hold its output open.
const GRACE: Duration = Duration::from_secs(2);

/// A program to run: its environment cleared, its own process group, a time-out at which the whole
/// group is killed, what it prints bounded.
#[derive(Debug, Clone)]
pub struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    input: Vec<u8>,
    limit: Duration,
    any_status: bool,
}

/// What a program printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit status; -1 after a signal.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, with what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Program {
    /// The program `name`, looked up in the system's own directories, given a minute.
    pub fn new(name: impl Into<OsString>) -> Self {
        Self {
            name: name.into(),
            arguments: Vec::new(),
            environment: vec![
                ("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
                ("LC_ALL".into(), "C.UTF-8".into()),
                ("HOME".into(), "/".into()),
            ],
            input: Vec::new(),
            limit: Duration::from_secs(60),
            any_status: false,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// The command `line` of the unit that systemd-run(1) makes: word by word as it stands, for systemd would put
    /// variables in, systemd.service(5).
    #[must_use]
    pub fn command_of_unit<'w>(self, line: impl IntoIterator<Item = &'w str>) -> Self {
        self.arg("--").args(line.into_iter().map(|word| word.replace('$', "$$")))
    }

    /// A variable of its environment, which is otherwise only PATH, LC_ALL and HOME.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// What it reads from standard input; nothing by default.
    #[must_use]
    pub fn input(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Any exit status is an answer, not an error.
    #[must_use]
    pub fn any_status(mut self) -> Self {
        self.any_status = true;
        self
    }

    /// Its name, for messages.
    pub fn name(&self) -> &str {
        self.name.to_str().unwrap_or("program")
    }

    /// What it printed, where all of that is kept: an answer that is cut short knows of less than there is.
    pub(super) fn whole(&self, output: Output) -> Result<Output, Error> {
        match output.stdout.len() < KEPT {
            true => Ok(output),
            false => {
                let why = format!("{} printed more than {} MiB", self.line(), KEPT >> 20);
                Err(Error::Unknown { thing: self.name().to_owned(), why })
            }
        }
    }

    /// How long it may take, the end of its children included.
    pub(super) fn longest(&self) -> Duration {
        self.limit + 4 * GRACE
    }

    fn line(&self) -> String {
        let mut line = self.name.to_string_lossy().into_owned();
        for argument in &self.arguments {
            line.push(' ');
            line.push_str(&argument.to_string_lossy());
        }
        one_line(&line, 120)
    }

    /// Runs it to its end. `interrupt` is not looked at: a step is never cut short.
    pub(super) fn run(&self, _interrupt: &AtomicBool) -> Result<Output, Error> {
        let mut child = Command::new(&self.name)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .process_group(0)
            .stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Start { program: self.line(), source })?;
        let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
        let deadline = Instant::now() + self.limit;

        if let Some(mut stdin) = child.stdin.take() {
            let input = self.input.clone();
            // A program that does not read its input is no error of ours.
            thread::spawn(move || drop(stdin.write_all(&input)));
        }
        let stdout = Drain::of(child.stdout.take().expect("stdout was asked for"));
        let stderr = Drain::of(child.stderr.take().expect("stderr was asked for"));

        // The streams end when the program and whatever inherited them have ended; a child that holds
        // them open past the end of the program is killed with its group. Until then the program stays
        // unreaped, so that its number, which is that of the group, is nobody else's.
        let (ended, exited) = mpsc::channel();
        thread::spawn(move || {
            let what = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            while waitid(Id::Pid(group), what) == Err(Errno::EINTR) {}
            let _ = ended.send(());
        });
        let timely = exited.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok();
        let kill = || {
            let _ = killpg(group, Signal::SIGKILL);
        };
        if !timely {
            kill();
            // Whoever hangs in the kernel, as on a file system whose server is gone, hears no signal, and is left behind.
            if exited.recv_timeout(GRACE).is_err() {
                thread::spawn(move || child.wait());
                return Err(Error::TimeOut { program: self.line(), after: self.limit });
            }
        }
        let (stdout, stderr) = (stdout.take(kill), stderr.take(kill));
        let status = child.wait().map_err(|source| Error::Start { program: self.line(), source })?;
        let output = Output { status: status.code().unwrap_or(-1), stdout, stderr };
        if !timely {
            return Err(Error::TimeOut { program: self.line(), after: self.limit });
        }
        if !self.any_status && !status.success() {
            let said = if output.stderr.iter().all(u8::is_ascii_whitespace) { &output.stdout } else { &output.stderr };
            return Err(Error::Program { program: self.line(), status: status.to_string(), tail: tail(said) });
        }
        Ok(output)
    }
}

/// The last non-empty lines of `said`, joined, escaped and bounded.
fn tail(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    one_line(&lines[lines.len().saturating_sub(4)..].join("; "), 600)
}

/// What comes out of one stream, kept as it comes.
struct Drain {
    kept: Arc<Mutex<Vec<u8>>>,
    end: mpsc::Receiver<()>,
}

impl Drain {
    fn of(mut stream: impl Read + Send + 'static) -> Self {
        let (done, end) = mpsc::channel();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let ours = Arc::clone(&kept);
        thread::spawn(move || {
            let mut block = [0; 16 << 10];
            while let Ok(n @ 1..) = stream.read(&mut block) {
                let mut kept = ours.lock().unwrap_or_else(PoisonError::into_inner);
                let room = KEPT.saturating_sub(kept.len());
                kept.extend_from_slice(&block[..n.min(room)]);
            }
            let _ = done.send(());
        });
        Self { kept, end }
    }

    /// What came, once the program has ended. Whatever it left behind that holds the stream open gets a little time,
    /// is killed where `kill` reaches it, and is not waited for where it does not.
    fn take(self, kill: impl Fn()) -> Vec<u8> {
        if self.end.recv_timeout(GRACE).is_err() {
            kill();
            let _ = self.end.recv_timeout(GRACE);
        }
        std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(program: Program) -> Result<Output, Error> {
        program.run(&AtomicBool::new(false))
    }

    #[test]
    fn the_command_of_a_unit_is_taken_word_by_word() {
        let line = ["/bin/sh", "-c", "x=1; test ${x} = $1"];
        let program = Program::new("systemd-run").command_of_unit(line);
        assert_eq!(program.line(), "systemd-run -- /bin/sh -c x=1; test $${x} = $$1");
    }

    #[test]
    fn a_failure_names_the_program_and_its_last_words() {
        let error = run(Program::new("sh").args(["-c", "echo so it goes >&2; exit 3"])).expect_err("exit 3");
        assert!(error.to_string().contains("exit status: 3: so it goes"), "{error}");
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_its_children() {
        let hang = Program::new("sh").args(["-c", "sleep 1000 & sleep 1000"]).limit(Duration::from_millis(100));
        assert!(matches!(run(hang), Err(Error::TimeOut { .. })));
    }

    #[test]
    fn one_that_no_signal_ends_is_left_behind() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let told = scratch.path().join("pid");
        // It leaves the group that is killed.
        let leaves = "import os, sys, time; os.setpgid(0, os.getpgid(os.getppid())); \
                      open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(30)";
        let program = Program::new("python3").args(["-c", leaves]).arg(told.to_str().expect("text"));
        assert!(matches!(run(program.limit(Duration::from_secs(2))), Err(Error::TimeOut { .. })));
        let pid: i32 = std::fs::read_to_string(&told).expect("told").parse().expect("a number");
        assert_eq!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL), Ok(()), "it is there");
    }

    #[test]
    fn a_child_that_keeps_the_output_open_does_not_hold_us() {
        let output = run(Program::new("sh").args(["-c", "sleep 1000 & echo done"])).expect("ends");
        assert_eq!(output.text(), "done\n");
        assert_eq!(output.status, 0);
    }

    #[test]
    fn what_was_printed_is_kept_though_somebody_in_a_session_of_his_own_holds_the_output_open() {
        let output = run(Program::new("sh").args(["-c", "setsid sleep 8 & echo done; echo said >&2"])).expect("ends");
        assert_eq!((output.text().as_str(), output.stderr.as_slice(), output.status), ("done\n", &b"said\n"[..], 0));
    }

    #[test]
    fn an_answer_that_is_not_kept_whole_is_none() {
        let print = |bytes: usize| Program::new("head").args(["-c", &bytes.to_string(), "/dev/zero"]);
        let answer = |program: Program| run(program.clone()).and_then(|output| program.whole(output));
        assert_eq!(answer(print(KEPT - 1)).expect("kept").stdout.len(), KEPT - 1);
        let error = answer(print(KEPT + 1)).expect_err("cut short");
        assert_eq!(error.reason(), "cannot-tell", "{error}");
    }

    #[test]
    fn the_environment_is_not_ours() {
        let output = run(Program::new("env")).expect("env runs");
        assert!(
            output.text().lines().all(|line| ["PATH=", "LC_ALL=", "HOME="].iter().any(|name| line.starts_with(name))),
            "{}",
            output.text()
        );
    }
}
