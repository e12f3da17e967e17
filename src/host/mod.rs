//! Storey 2: the only door to the machine.
//!
//! Nothing here opens `/` by itself: everything goes through the root directory that a [`Reader`]
//! was made for, so the whole agent runs on a directory as well. A [`Reader`] cannot write. A
//! [`Writer`] exists only while it holds the exclusive lock. [`StateDir`] writes our own corner only.

#![allow(
    clippy::disallowed_methods,
    reason = "this is the door to the machine that the lint keeps others from going around"
)]

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

mod agent;
mod begun;
mod bus;
mod child;
mod clock;
mod documents;
mod error;
mod export;
mod facts;
mod files;
mod journal;
mod keep;
mod keyring;
mod mounts;
mod parsed;
mod pass;
mod payloads;
mod peer;
mod processes;
mod program;
mod pulse;
mod regular;
mod replace;
mod roots;
mod routes;
mod scratch;
mod sign;
mod state;
mod trial;
mod users;
mod vitals;
mod work_tree;
mod worker;

use crate::model::Zone;

pub use bus::{Asked, Bus, Instants, StartFiles, UnitDetails, UnitFileResults, UnitStatus, UnitWatch};
pub use child::Child;
pub use clock::{Clock, Uptime};
pub use documents::Documents;
pub use error::{Error, UNSAID};
pub use export::{edit, write_new};
pub use facts::FactsError;
pub use files::{
    Attributes, Below, Hashed, Looks, Made, Meta, NodeType, Over, Ready, Stage, TreeLimits, is_temporary, powers_lost,
};
pub use journal::{Entry, Priority};
pub use keyring::{HOST_KEYS, Keyring, hide, identity_file};
pub use mounts::Mounts;
pub use payloads::{Payloads, kept_name};
pub use processes::Replaced;
pub use program::{Output, Program};
pub use pulse::{Pulse, Silence};
pub use regular::{open_regular, read_regular};
pub use replace::{Instead, follows_no_link, replace_file};
pub use scratch::Scratch;
pub use state::{Document, DocumentError, Lock, LockError, StateDir, StateError};
pub use trial::Trial;
pub use users::Users;
pub use vitals::{Disk, Holder};
pub use work_tree::WorkTree;
pub use worker::{Copies, Worker};

/// A view of one machine, or of one directory that stands for a machine. It cannot write.
#[derive(Debug)]
pub struct Reader {
    root: files::Root,
    machine: bool,
    clock: Clock,
    bus: OnceCell<Result<Bus, String>>,
    interrupt: Arc<AtomicBool>,
    /// It is not looked at now.
    deaf: Cell<bool>,
    progress: Progress,
    pulse: Arc<Pulse>,
    alive: agent::Alive,
    journal: journal::Journal,
    /// The file with the keys that open secrets, where root named one.
    identity: RefCell<Option<PathBuf>>,
    keyring: RefCell<Option<Rc<Keyring>>>,
    /// What was read in a look before; none where everything is read.
    memory: Option<Memory>,
}

/// What was read already and need not be read again, as long as it is unchanged: of one look after the other.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Contents of files.
    pub files: Hashed,
    /// Our own documents.
    pub documents: Documents,
    /// What is mounted, and who of that answers.
    pub mounts: Mounts,
}

/// Told, in one short line, what is being done or waited for.
pub struct Progress(Box<dyn Fn(&str)>);

impl Progress {
    /// `tell` gets each line as it comes; it has to be quick.
    pub fn new(tell: impl Fn(&str) + 'static) -> Self {
        Self(Box::new(tell))
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new(|_| ())
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}

impl Reader {
    /// This machine.
    ///
    /// # Errors
    /// Where `/` cannot be opened.
    pub fn machine() -> Result<Self, Error> {
        Self::open(Path::new("/"), true)
    }

    /// A directory that stands for a machine: no service manager, no package manager, no network.
    ///
    /// # Errors
    /// Where `directory` is not a directory that can be opened.
    pub fn directory(directory: &Path) -> Result<Self, Error> {
        let reader = Self::open(directory, false)?;
        reader.keeps_its_state()?;
        Ok(reader)
    }

    /// Our own state is opened by its path, as of a machine; in a directory a link on the way could lead out of it.
    fn keeps_its_state(&self) -> Result<(), Error> {
        let root = self.root.path();
        let io = |source| Error::Io { doing: "resolve", path: root.to_owned(), source };
        let real = std::fs::canonicalize(root).map_err(io)?;
        for path in ["/var", "/var/lib", "/var/lib/trueup"] {
            let below = self.below_root(path);
            if std::fs::symlink_metadata(&below).is_err() {
                break;
            }
            if !std::fs::canonicalize(&below).is_ok_and(|below| below.starts_with(&real)) {
                let why = format!("{path} leads out of {}, and what trueup keeps there with it", root.display());
                return Err(Error::Refused { thing: "/var/lib/trueup".to_owned(), reason: "untrusted-link", why });
            }
        }
        Ok(())
    }

    fn open(path: &Path, machine: bool) -> Result<Self, Error> {
        Ok(Self {
            root: files::Root::open(path, machine)?,
            machine,
            clock: Clock::System,
            bus: OnceCell::new(),
            interrupt: Arc::default(),
            deaf: Cell::new(false),
            progress: Progress::default(),
            pulse: Arc::default(),
            alive: agent::Alive::default(),
            journal: journal::Journal::default(),
            identity: RefCell::default(),
            keyring: RefCell::default(),
            memory: None,
        })
    }

    /// The same view with another clock, for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The same view that tells `progress` what is going on.
    #[must_use]
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// The same view that shows `pulse` that work goes on.
    #[must_use]
    pub fn with_pulse(mut self, pulse: Arc<Pulse>) -> Self {
        self.root.show(Arc::clone(&pulse));
        self.pulse = pulse;
        self
    }

    /// The same view that ends between steps once `flag` is set.
    #[must_use]
    pub fn with_interrupt(mut self, flag: Arc<AtomicBool>) -> Self {
        self.interrupt = flag;
        self
    }

    /// The same view, at the beginning of a look that reads nothing again that is in `memory`.
    #[must_use]
    pub fn with_memory(mut self, memory: Memory) -> Self {
        memory.files.begin();
        memory.mounts.begin();
        let mounts = memory.mounts.clone();
        self.memory = Some(memory);
        self.with_mounts(mounts)
    }

    /// The same view, which knows of what is mounted what is known in `mounts`.
    #[must_use]
    pub fn with_mounts(mut self, mounts: Mounts) -> Self {
        self.root.know(mounts);
        self
    }

    /// What is known of the content of `path` is not so: it is read again.
    pub fn forget(&self, path: &str) {
        if let Some(memory) = &self.memory {
            memory.files.forget(Path::new(path));
        }
    }

    /// Whether this is a running machine rather than a directory.
    pub fn is_machine(&self) -> bool {
        self.machine
    }

    /// The directory that stands for `/`.
    pub fn root_path(&self) -> &Path {
        self.root.path()
    }

    /// `path`, which is absolute, below the root directory: for messages and for programs that take a root.
    pub fn below_root(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// Where our own state lives.
    pub fn state(&self) -> StateDir {
        let state = StateDir::new(self.below_root("/var/lib/trueup"));
        match &self.memory {
            Some(memory) => state.with_documents(memory.documents.clone()),
            None => state,
        }
    }

    /// Where the agent keeps what it alone writes: what people asked for. Passes never write or sweep there, so
    /// it needs not the lock of passes but its own.
    pub fn agent_state(&self) -> StateDir {
        StateDir::new(self.below_root("/var/lib/trueup/agent"))
    }

    /// Seconds since 1970.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// The time since 1970, as finely as it is known.
    pub fn since_1970(&self) -> std::time::Duration {
        self.clock.since_1970()
    }

    /// The time zone of the machine: `TZ`, else `/etc/localtime`; Greenwich where neither tells, and under a fixed clock.
    pub fn zone(&self) -> Zone {
        self.clock.zone()
    }

    /// Tells whoever watches, in one short line, what is being done or waited for.
    pub fn say(&self, line: &str) {
        self.pulse.turn();
        self.goes_on(Duration::ZERO);
        (self.progress.0)(line);
    }

    /// Whether somebody asked for an end; looked at between steps, never inside one.
    pub fn interrupted(&self) -> bool {
        self.pulse.beat();
        !self.deaf.get() && self.interrupt.load(Ordering::SeqCst)
    }

    /// Whether what somebody asks for is heard: not while something is put back that has to be whole.
    pub fn hear(&self, heard: bool) {
        self.deaf.set(!heard);
    }

    /// Runs a program that only looks, and waits for it.
    ///
    /// # Errors
    /// Where it cannot be started, ends badly or takes too long. See [`Program`].
    pub fn query(&self, program: &Program) -> Result<Output, Error> {
        self.machine_only(program)?;
        self.bounded(program).and_then(|output| program.whole(output))
    }

    /// Runs programs that only look, all at once; an answer for each. Where somebody asks for an end, those that go on are
    /// waited for no longer: `None`. Each ends at its own limit all the same.
    pub fn query_all(&self, programs: &[Program]) -> Option<Vec<Result<Output, Error>>> {
        const NOTICE: Duration = Duration::from_millis(100);
        let longest = programs.iter().map(Program::longest).max().unwrap_or_default();
        self.pulse.expect(longest);
        self.goes_on(longest);
        let (done, ended) = std::sync::mpsc::channel();
        for (at, program) in programs.iter().enumerate() {
            if let Err(error) = self.machine_only(program) {
                let _ = done.send((at, Err(error)));
                continue;
            }
            let (program, done, interrupt) = (program.clone(), done.clone(), Arc::clone(&self.interrupt));
            std::thread::spawn(move || {
                done.send((at, program.run(&interrupt).and_then(|output| program.whole(output))))
            });
        }
        drop(done);
        let mut answers: Vec<Option<Result<Output, Error>>> = programs.iter().map(|_| None).collect();
        loop {
            match ended.recv_timeout(NOTICE) {
                Ok((at, answer)) => answers[at] = Some(answer),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) if self.interrupt.load(Ordering::SeqCst) => {
                    return None;
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
        self.pulse.beat();
        let lost = |program: &Program| {
            Err(Error::Unknown { thing: program.name().to_owned(), why: "whoever waited for it is gone".to_owned() })
        };
        Some(
            answers
                .into_iter()
                .zip(programs)
                .map(|(answer, program)| answer.unwrap_or_else(|| lost(program)))
                .collect(),
        )
    }

    /// Something is waited for from now on, in silence, that ends by itself after at most `limit`.
    pub fn waits(&self, limit: Duration) {
        self.pulse.expect(limit);
        self.goes_on(limit);
    }

    fn bounded(&self, program: &Program) -> Result<Output, Error> {
        self.pulse.expect(program.longest());
        self.goes_on(program.longest());
        let output = program.run(&self.interrupt);
        self.pulse.beat();
        self.goes_on(Duration::ZERO);
        output
    }

    /// systemd over D-Bus; one connection, made when first asked for.
    ///
    /// # Errors
    /// Where there is no bus to reach.
    pub fn bus(&self) -> Result<&Bus, Error> {
        self.bus
            .get_or_init(|| Bus::connect().map_err(|error| error.to_string()))
            .as_ref()
            .map_err(|why| Error::Unknown { thing: "systemd on the system bus".to_owned(), why: why.clone() })
    }

    /// Whether the system bus lets somebody in now.
    ///
    /// # Errors
    /// Why not.
    pub fn bus_answers(&self) -> Result<(), Error> {
        Bus::answers()
    }

    fn machine_only(&self, program: &Program) -> Result<(), Error> {
        if self.machine {
            return Ok(());
        }
        Err(Error::Unknown { thing: program.name().to_owned(), why: "programs are not run for a directory".to_owned() })
    }
}

/// What is to be told of a pass beside what became of its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// What it is about.
    pub about: About,
    /// One line for people, escaped and bounded.
    pub line: String,
}

/// What an [`Aside`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// A configuration file, by its path: a package has laid another beside it.
    Beside(String),
    /// A package, by its name: a script of it failed, and the package manager went on.
    Script(String),
    /// A program of the system: it ended well, and said that it could not do all.
    Engine(String),
}

/// A [`Reader`] that may write too, for as long as it holds the exclusive lock.
#[derive(Debug)]
pub struct Writer {
    reader: Reader,
    /// What was found on the way and is to be told, since it was last asked for.
    asides: Vec<Aside>,
    /// Directories that were looked through for left-overs.
    swept: BTreeSet<String>,
    /// Directories that were made on the way to something else, links resolved, since they were last asked for.
    made: Vec<String>,
    /// When what is written is made durable.
    syncs: files::Syncs,
    _lock: Lock,
}

impl Writer {
    /// Takes the exclusive lock of this machine (or directory), without waiting for it.
    ///
    /// # Errors
    /// Where somebody else holds it, or our directory cannot be made. The reader is lost with it.
    pub fn take(reader: Reader) -> Result<Self, LockError> {
        let lock = reader.state().lock()?;
        reader.acts();
        Ok(Self {
            reader,
            asides: Vec::new(),
            swept: BTreeSet::new(),
            made: Vec::new(),
            syncs: files::Syncs::default(),
            _lock: lock,
        })
    }

    /// The next who asks for the bus gets a connection of its own: the one before may have ended with a bus that was
    /// changed.
    pub fn connect_anew(&mut self) {
        self.reader.bus.take();
    }

    /// The directories that were made on the way to what was written, links resolved, since this was last asked.
    pub fn take_made(&mut self) -> Vec<String> {
        std::mem::take(&mut self.made)
    }

    /// Has something told of this pass.
    pub fn tell_aside(&mut self, aside: Aside) {
        self.asides.push(aside);
    }

    /// What is to be told of this pass, since this was last asked.
    pub fn take_asides(&mut self) -> Vec<Aside> {
        std::mem::take(&mut self.asides)
    }

    /// Runs a program that changes the machine, and waits for it.
    ///
    /// # Errors
    /// Where it cannot be started, ends badly or takes too long. See [`Program`].
    pub fn run(&mut self, program: &Program) -> Result<Output, Error> {
        self.reader.machine_only(program)?;
        self.reader.bounded(program)
    }
}

impl std::ops::Deref for Writer {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}
