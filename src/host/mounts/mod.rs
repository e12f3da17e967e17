//! File systems that may hang: one whose server is gone holds whoever looks at anything on it in the kernel, perhaps for
//! good, and nobody can end that. So nothing of it is looked at before it answered.
//!
//! Which mounts there are is read from proc_pid_mountinfo(5), which touches none of them. One that a path leads through is
//! asked by a child process, which hangs in our stead: it is left behind then, and tells by its end that somebody
//! answers again. Until then no other is sent after it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};

use super::{Error, Program};

mod table;
#[cfg(test)]
mod tests;

use table::{Asked, Table};

/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// For so long an answer is believed, within one look.
const BELIEVED: Duration = Duration::from_secs(2);
/// For so long it is not asked again, within one look, whether something else is mounted: thousands of files are looked at
/// in that time.
const SETTLED: Duration = Duration::from_millis(20);
/// What asks: statfs(2), which no file system answers from what it remembers.
const PROGRAM: &[&str] = &["stat", "--file-system", "--"];

/// What is mounted, and what is known of who answers. Shared by passes one after the other, and by whoever watches.
#[derive(Debug, Clone, Default)]
pub struct Mounts(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    source: Source,
    table: Table,
    asked: HashMap<Asked, Known>,
    patience: Duration,
    /// For how long an answer is believed.
    believed: Duration,
    /// When it was asked last what is mounted.
    refreshed: Option<Instant>,
}

impl Default for State {
    fn default() -> Self {
        let (source, table, asked) = (Source::default(), Table::default(), HashMap::new());
        Self { source, table, asked, patience: PATIENCE, believed: BELIEVED, refreshed: None }
    }
}

/// Where it is told what is mounted.
#[derive(Debug, Default)]
enum Source {
    /// Not opened yet.
    #[default]
    Unopened,
    /// /proc/self/mountinfo, which tells by poll(2) that it changed.
    Kernel(File),
    /// Of a test; and what asks there.
    #[cfg(test)]
    Pretended(Vec<String>),
}

/// What is known of one file system.
#[derive(Debug)]
enum Known {
    /// It answered then.
    Answered(Instant),
    /// Somebody still waits for it.
    Waiting(Asking),
}

impl Mounts {
    /// A look begins: who answered in the last one may hang by now.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        state.asked.retain(|_, known| matches!(known, Known::Waiting(_)));
        state.refreshed = None;
    }

    /// Returns once everything answers that the way to `path` leads through: all of it, that has no symbolic links
    /// itself. `shown` is what the path is called.
    ///
    /// # Errors
    /// [`Error::NotAnswering`] where something does not; where that cannot be asked.
    pub(super) fn answer(&self, path: &str, shown: &str) -> Result<(), Error> {
        // One that mounts another as it is asked has more on the way afterwards.
        self.all(|table| table.on_the_way(path), shown)
    }

    /// The same for everything that is mounted below the directory `path`.
    ///
    /// # Errors
    /// As [`Mounts::answer`].
    pub(super) fn answer_below(&self, path: &str, shown: &str) -> Result<(), Error> {
        self.all(|table| table.below(path), shown)
    }

    /// Whether nothing is mounted that may hang.
    pub(super) fn are_quiet(&self) -> bool {
        let mut state = self.lock();
        state.refresh();
        state.table.is_quiet()
    }

    fn all(&self, concerned: impl Fn(&Table) -> Vec<Asked>, shown: &str) -> Result<(), Error> {
        let mut state = self.lock();
        // However long the others take, each is asked once.
        let mut answered = HashSet::new();
        loop {
            state.refresh();
            if state.table.is_quiet() {
                return Ok(());
            }
            let is_known = |asked: &Asked| answered.contains(asked) || state.is_believed(asked);
            let unknown = concerned(&state.table).into_iter().find(|asked| !is_known(asked));
            let Some(asked) = unknown else { return Ok(()) };
            match state.ask(&asked) {
                Ok(true) => drop(answered.insert(asked)),
                Ok(false) => {
                    let Asked { point, kind, .. } = asked;
                    return Err(Error::NotAnswering { path: shown.to_owned(), point, kind });
                }
                Err(source) => return Err(Error::Start { program: PROGRAM[0].to_owned(), source }),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this; were it so, the values are still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mounts of a test; `program` asks, is given what of them, and may take this long.
    #[cfg(test)]
    pub(crate) fn pretend(table: &str, program: &[&str], patience: Duration) -> Self {
        let source = Source::Pretended(program.iter().map(|&word| word.to_owned()).collect());
        Self(Arc::new(Mutex::new(State { source, table: Table::parse(table), patience, ..State::default() })))
    }
}

impl State {
    /// Reads what is mounted, where that changed. Where it cannot be read nothing is known to hang.
    fn refresh(&mut self) {
        if self.refreshed.is_some_and(|at| at.elapsed() < SETTLED) {
            return;
        }
        self.refreshed = Some(Instant::now());
        let mut opened = false;
        if matches!(self.source, Source::Unopened)
            && let Ok(file) = File::open("/proc/self/mountinfo")
        {
            (self.source, opened) = (Source::Kernel(file), true);
        }
        let Source::Kernel(file) = &mut self.source else { return };
        if !opened && !has_changed(file) {
            return;
        }
        let mut text = Vec::new();
        if file.rewind().and_then(|()| file.read_to_end(&mut text)).is_ok() {
            self.table = Table::parse(&String::from_utf8_lossy(&text));
            let table = &self.table;
            self.asked.retain(|asked, _| table.has(&asked.device));
        }
    }

    fn is_believed(&self, asked: &Asked) -> bool {
        matches!(self.asked.get(asked), Some(Known::Answered(at)) if at.elapsed() < self.believed)
    }

    /// Whether it answers: while there is patience, or at once where it is known that it does not.
    fn ask(&mut self, asked: &Asked) -> io::Result<bool> {
        if let Some(Known::Waiting(asking)) = self.asked.get_mut(asked)
            && !asking.has_ended()?
        {
            return Ok(false);
        }
        let program = match &self.source {
            #[cfg(test)]
            Source::Pretended(program) => program.iter().map(String::as_str).collect(),
            _ => PROGRAM.to_vec(),
        };
        let mut asking = Asking::start(&program, &asked.path)?;
        let answered = asking.answers_within(self.patience)?;
        if !answered && matches!(self.source, Source::Kernel(_)) {
            asking.leave_behind();
        }
        // What is asked may be mounted by that: autofs(5).
        self.refreshed = None;
        let known = if answered { Known::Answered(Instant::now()) } else { Known::Waiting(asking) };
        self.asked.insert(asked.clone(), known);
        Ok(answered)
    }
}

fn has_changed(file: &File) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut asked, Some(&at_once)), Ok(0))
}

/// A process that asks. Nobody waits for it but a thread of its own: where it hangs not even a signal ends it.
#[derive(Debug)]
struct Asking(Child);

impl Asking {
    fn start(program: &[&str], path: &str) -> io::Result<Self> {
        Command::new(program[0])
            .args(&program[1..])
            .arg(path)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Self)
    }

    fn has_ended(&mut self) -> io::Result<bool> {
        self.0.try_wait().map(|status| status.is_some())
    }

    /// Whatever it finds, an error too, is an answer; that somebody killed it is none.
    fn answers_within(&mut self, limit: Duration) -> io::Result<bool> {
        let process = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty())?;
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = Timespec::try_from(left).map_err(io::Error::other)?;
            let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&wait));
            match ended {
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(_) => return Ok(self.0.try_wait()?.is_some_and(|status| status.code().is_some())),
            }
        }
    }

    /// Takes it out of the agent's own unit: systemd would wait for it where that is to end, as long as any step may take. As
    /// good as it goes.
    fn leave_behind(&self) {
        if !Path::new("/run/systemd/system").is_dir() || !rustix::process::geteuid().is_root() {
            return;
        }
        let pid = self.0.id().to_string();
        let name = format!("trueup-asks-{pid}.scope");
        let manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];
        let method = ["StartTransientUnit", "ssa(sv)a(sa(sv))", &name, "fail"];
        // A scope: org.freedesktop.systemd1(5). Nor is it waited for where the host goes down.
        let properties = ["3", "PIDs", "au", "1", &pid, "TimeoutStopUSec", "t", "1000000"];
        let collected = ["CollectMode", "s", "inactive-or-failed", "0"];
        let words = [&["--system", "call"][..], &manager, &method, &properties, &collected].concat();
        let _ = Program::new("busctl").args(words).limit(PATIENCE).run(&AtomicBool::new(false));
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        // Whoever has ended already is not hit, and one that hangs ends when it can.
        let _ = self.0.kill();
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let pid = Pid::from_child(&self.0);
            thread::spawn(move || waitpid(Some(pid), WaitOptions::empty()));
        }
    }
}
