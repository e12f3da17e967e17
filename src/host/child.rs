use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Error;
use crate::model::one_line;

/// How much of the end of standard error is kept.
const KEPT: usize = 4096;

/// A child that is talked to over its standard input and output: its environment cleared, its own
/// process group, which is killed whole when the time that was allowed for waiting on it is used up,
/// and when this is dropped. What it writes to standard error is read, bounded, and kept for [`Child::said`].
///
/// Reading and writing are what [`Read`] and [`Write`] of this type do; they end with an error or the
/// end of the stream once the child is killed.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    clock: Arc<Clock>,
    watch: Option<JoinHandle<()>>,
    said: Arc<Mutex<Vec<u8>>>,
    listener: Option<JoinHandle<()>>,
    /// How much time is left for waiting on it.
    left: Duration,
    since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Clock {
    state: Mutex<Watched>,
    changed: Condvar,
    expired: AtomicBool,
}

#[derive(Debug, Default)]
struct Watched {
    deadline: Option<Instant>,
    over: bool,
    /// A control group that holds the child and all that it started, and goes with it.
    cgroup: Option<PathBuf>,
}

impl Watched {
    /// Kills `group`, and whatever has left it and is in the control group still; cgroups(7).
    fn kill(&self, group: Pid) {
        killpg(group, Signal::SIGKILL).ok();
        if let Some(cgroup) = &self.cgroup {
            std::fs::write(cgroup.join("cgroup.kill"), "1").ok();
        }
    }
}

impl Clock {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        // Nothing panics while it holds this; were it so, the values are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut Watched)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Kills `group` when the deadline passes; returns then, or when the child is over.
    fn watch(&self, group: Pid) {
        let mut state = self.lock();
        while !state.over {
            let now = Instant::now();
            state = match state.deadline {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) if deadline <= now => {
                    self.expired.store(true, Ordering::SeqCst);
                    // Under the lock: the process is not reaped before `over`, so the id is still its own.
                    state.kill(group);
                    return;
                }
                Some(deadline) => {
                    let wait = self.changed.wait_timeout(state, deadline - now);
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Child {
    /// Starts `executable`, whose environment is only PATH, LC_ALL and HOME; `limit` is how long all
    /// waiting on it, between [`Child::arm`] and [`Child::disarm`], may take together.
    ///
    /// # Errors
    /// Where it cannot be started.
    #[allow(clippy::disallowed_methods, reason = "host/ is where programs are started")]
    pub fn start(executable: &Path, arguments: &[&str], limit: Duration) -> Result<Self, Error> {
        let mut process = Command::new(executable)
            // For ps(1): its path may be /proc/self/exe.
            .arg0("trueup")
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", "/")
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Start { program: one_line(&executable.to_string_lossy(), 120), source })?;
        let group = Pid::from_raw(process.id().cast_signed());
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().expect("stdout was asked for");
        let stderr = process.stderr.take().expect("stderr was asked for");
        let said = Arc::new(Mutex::new(Vec::new()));
        let clock = Arc::new(Clock::default());
        let watch = thread::spawn({
            let clock = Arc::clone(&clock);
            move || clock.watch(group)
        });
        let listener = thread::spawn({
            let said = Arc::clone(&said);
            move || listen(stderr, &said)
        });
        Ok(Self {
            process,
            stdin,
            stdout,
            clock,
            watch: Some(watch),
            said,
            listener: Some(listener),
            left: limit,
            since: None,
        })
    }

    /// The same, which moves itself into the control group `cgroup`: whatever is in there ends with it.
    #[must_use]
    pub(super) fn within(self, cgroup: Option<PathBuf>) -> Self {
        self.clock.set(|state| state.cgroup = cgroup);
        self
    }

    /// From now on somebody waits for it: the time that is left starts to run.
    pub fn arm(&mut self) {
        let now = Instant::now();
        self.since = Some(now);
        self.clock.set(|state| state.deadline = Some(now + self.left));
    }

    /// Nobody waits for it: what was waited is taken off, and the time stands still.
    pub fn disarm(&mut self) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        self.clock.set(|state| state.deadline = None);
    }

    /// Whether it was killed because its time was used up.
    pub fn timed_out(&self) -> bool {
        self.clock.expired.load(Ordering::SeqCst)
    }

    /// Ends it, and tells the last lines it wrote to standard error, escaped, in one line.
    pub fn said(&mut self) -> String {
        self.end();
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        one_line(&lines[lines.len().saturating_sub(4)..].join("; "), 400)
    }

    /// Kills the group and reaps the child; does nothing the second time.
    fn end(&mut self) {
        let Some(watch) = self.watch.take() else { return };
        self.stdin = None;
        // Not reaped yet, so the group is still its own, even where the child has ended by itself.
        let group = Pid::from_raw(self.process.id().cast_signed());
        self.clock.set(|state| {
            state.kill(group);
            state.over = true;
        });
        watch.join().ok();
        self.process.wait().ok();
        if let Some(cgroup) = self.clock.lock().cgroup.take() {
            remove_group(&cgroup);
        }
        // What left the group may hold standard error open for good; the thread then stays behind.
        if let Some(listener) = self.listener.take() {
            let patience = Instant::now() + Duration::from_millis(200);
            while !listener.is_finished() && Instant::now() < patience {
                thread::yield_now();
            }
            if listener.is_finished() {
                listener.join().ok();
            }
        }
    }
}

impl Read for Child {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stdout.read(buffer)
    }
}

impl Write for Child {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.flush()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// Removes a control group whose processes are ending; a dead one is still in it until init has reaped it.
fn remove_group(cgroup: &Path) {
    let patience = Instant::now() + Duration::from_millis(200);
    while std::fs::remove_dir(cgroup).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy) {
        if Instant::now() >= patience {
            return;
        }
        thread::yield_now();
    }
}

/// Reads `stream` to its end and keeps the last of it.
fn listen(mut stream: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut block = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut block) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&block[..n]);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::retry_on_intr;

    use super::*;

    fn shell(script: &str, limit: Duration) -> Child {
        Child::start(Path::new("/bin/sh"), &["-c", script], limit).expect("sh starts")
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn it_is_talked_to_both_ways() {
        let mut child = shell("read line; echo \"got $line\"", LONG);
        child.write_all(b"this\n").expect("writes");
        let mut answer = String::new();
        child.read_to_string(&mut answer).expect("reads");
        assert_eq!(answer, "got this\n");
    }

    #[test]
    fn one_that_does_not_answer_in_time_is_killed_with_its_children() {
        let mut child = shell("sleep 1000 & sleep 1000", Duration::from_millis(50));
        child.arm();
        let mut answer = Vec::new();
        child.read_to_end(&mut answer).expect("ends, as nobody holds the pipe any more");
        assert!(child.timed_out());
    }

    #[test]
    fn one_that_does_not_read_in_time_does_not_hold_us() {
        let mut child = shell("sleep 1000", Duration::from_millis(50));
        child.arm();
        assert!(child.write_all(&vec![0; 1 << 20]).is_err());
        assert!(child.timed_out());
    }

    #[test]
    fn time_stands_still_while_nobody_waits() {
        let mut child = shell("cat", LONG);
        child.arm();
        child.disarm();
        assert!(child.left <= LONG && child.clock.lock().deadline.is_none());
        assert!(!child.timed_out());
    }

    #[test]
    fn its_last_words_are_kept_bounded_and_escaped() {
        let mut child = shell(
            "i=0; while [ $i -lt 5000 ]; do echo line $i >&2; i=$((i+1)); done; printf 'bad \\033[2J\\n' >&2",
            LONG,
        );
        let mut rest = Vec::new();
        child.read_to_end(&mut rest).expect("ends");
        // The writer has ended; the listener reads what is in the pipe before the end of it.
        let said = child.said();
        assert!(said.ends_with("line 4999; bad \\u{1b}[2J"), "{said}");
        assert!(child.said.lock().expect("whole").len() <= KEPT);
    }

    #[test]
    fn dropping_it_leaves_no_process_behind() {
        let child = shell("sleep 1000 & sleep 1000", LONG);
        let pipe = child.stdout.as_fd().try_clone_to_owned().expect("a second descriptor");
        drop(child);
        // Every process of the group holds the other end; a dead one that nobody reaped yet does not.
        let mut held = [PollFd::new(&pipe, PollFlags::IN)];
        let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
        let ended = retry_on_intr(|| poll(&mut held, Some(&patience))).expect("polls");
        assert_eq!(ended, 1, "somebody still holds the pipe");
        assert!(held[0].revents().contains(PollFlags::HUP));
    }

    #[test]
    fn its_environment_is_not_ours() {
        let mut child = Child::start(Path::new("/usr/bin/env"), &[], LONG).expect("env starts");
        let mut text = String::new();
        child.read_to_string(&mut text).expect("reads");
        let names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
        assert_eq!(names.len(), 3, "{text}");
        assert!(names.iter().all(|name| ["PATH", "LC_ALL", "HOME"].contains(name)), "{text}");
    }
}
