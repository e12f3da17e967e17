//! The agent's end of the pipe to the fetch worker. What comes is bounded, and hashed before it leaves here.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::time::Duration;

use super::{MOST_BYTES, SourceError, objects};
use crate::host::{self, Copies};
use crate::model::one_line;
use crate::worker::Wall;
use crate::worker::protocol::{
    Answer, Kind, LONGEST_PATH, MOST_OBJECTS, ObjectName, Open, Place, Request, Walls, WireError,
};

/// What carries the conversation: the worker's process, or in tests anything else.
pub(super) trait Channel: Read + Write + Debug {
    /// Somebody waits from now on.
    fn arm(&mut self) {}
    /// Nobody waits any more.
    fn disarm(&mut self) {}
    /// Whether it ended because the wait was too long.
    fn timed_out(&self) -> bool {
        false
    }
    /// Ends it, and tells its last words.
    fn said(&mut self) -> String {
        String::new()
    }
}

/// Nobody yet.
impl Channel for std::io::Empty {}

impl Channel for host::Child {
    fn arm(&mut self) {
        host::Child::arm(self);
    }
    fn disarm(&mut self) {
        host::Child::disarm(self);
    }
    fn timed_out(&self) -> bool {
        host::Child::timed_out(self)
    }
    fn said(&mut self) -> String {
        host::Child::said(self)
    }
}

/// A conversation with one worker.
#[derive(Debug)]
pub(super) struct Pipe {
    channel: Box<dyn Channel>,
    /// For messages: the URL or directory.
    place: String,
    limit: Duration,
    /// How many bytes may still come.
    left: u64,
    /// Whether the worker was told to get everything anew.
    renewed: bool,
    /// What stands around the worker; none around one of a test.
    walls: Option<Walls>,
    /// Keys for the worker alone. They go after it.
    _copies: Option<Copies>,
    /// The worker that is sent out as soon as something is asked of it.
    waiting: Option<Box<Waiting>>,
}

/// What a worker is sent out with, and for what.
#[derive(Debug)]
struct Waiting {
    worker: host::Worker,
    wall: Wall,
    open: Open,
}

/// An object that was hashed, or a file that is too large to be handed over.
#[derive(Debug)]
pub(super) enum Received {
    Content(Vec<u8>),
    TooLarge(u64),
}

type Result<T> = std::result::Result<T, SourceError>;

impl Pipe {
    /// Starts a worker behind `wall`, for which `copies` were made, and waits until the wall stands.
    pub fn start(
        worker: &host::Worker,
        wall: &Wall,
        copies: Option<Copies>,
        place: &str,
        limit: Duration,
    ) -> Result<Self> {
        let child = worker.start(&wall.arguments(), limit).map_err(SourceError::Start)?;
        let mut pipe = Self { _copies: copies, ..Self::over(Box::new(child), place, limit) };
        pipe.greet()?;
        Ok(pipe)
    }

    /// A conversation with a worker that is started, and has `open` at hand, once something is asked of it.
    pub fn later(worker: &host::Worker, wall: Wall, open: Open, limit: Duration) -> Self {
        let place = match &open.place {
            Place::Local { directory } => directory.clone(),
            Place::Remote(remote) => remote.url.clone(),
        };
        let waiting = Some(Box::new(Waiting { worker: worker.clone(), wall, open }));
        Self { waiting, ..Self::over(Box::new(std::io::empty()), &place, limit) }
    }

    /// Waits until the wall stands.
    fn greet(&mut self) -> Result<()> {
        self.channel.arm();
        let first = self.receive();
        self.channel.disarm();
        match first? {
            Answer::Walls(walls) if walls.filtered => self.walls = Some(walls),
            other => return Err(self.unexpected(&other)),
        }
        Ok(())
    }

    /// Sends out the worker that waits, if one does. Where its branch is by then is for the next look.
    fn send_out(&mut self) -> Result<()> {
        let Some(waiting) = self.waiting.take() else { return Ok(()) };
        let sent = self.start_one(&waiting);
        if sent.is_err() {
            // Whoever asks again hears the same.
            self.waiting = Some(waiting);
        }
        sent
    }

    fn start_one(&mut self, Waiting { worker, wall, open }: &Waiting) -> Result<()> {
        self.channel = Box::new(worker.start(&wall.arguments(), self.limit).map_err(SourceError::Start)?);
        self.greet()?;
        self.open(open.clone()).map(drop)
    }

    pub fn over(channel: Box<dyn Channel>, place: &str, limit: Duration) -> Self {
        let place = one_line(place, 300);
        Self { channel, place, limit, left: MOST_BYTES, renewed: false, walls: None, _copies: None, waiting: None }
    }

    /// What stands around the worker.
    pub fn walls(&self) -> Option<Walls> {
        self.walls
    }

    /// For messages: the URL or directory.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Has the branch at hand; which commit it names.
    pub fn open(&mut self, open: Open) -> Result<ObjectName> {
        match self.ask(&Request::Open(Box::new(open)))? {
            Answer::Tip(name) => Ok(name),
            Answer::Error { reason, message } => Err(self.refused(&reason, &message)),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The objects `wanted`, in their order, each hashed. Where one is missing or damaged, the worker is
    /// told once to get everything anew.
    pub fn objects(&mut self, wanted: &[(ObjectName, Kind)]) -> Result<Vec<Received>> {
        let mut all = Vec::new();
        for batch in wanted.chunks(MOST_OBJECTS) {
            let received = match self.batch(batch)? {
                Ok(received) => received,
                Err(bad) => {
                    self.renew(bad)?;
                    self.batch(batch)??
                }
            };
            all.extend(received);
        }
        Ok(all)
    }

    /// One object that is no file.
    pub fn object(&mut self, name: ObjectName, kind: Kind) -> Result<Vec<u8>> {
        match self.objects(&[(name, kind)])?.pop() {
            Some(Received::Content(content)) => Ok(content),
            _ => Err(self.corrupt(name, "is not there")),
        }
    }

    /// The commits from `from` down to `to`, both included, where the worker knows a way; not checked. There is
    /// none from a commit that it does not have; one that it `must` have is got anew.
    pub fn path(&mut self, from: ObjectName, to: ObjectName, must: bool) -> Result<Option<Vec<ObjectName>>> {
        let request = Request::Path { from, to };
        loop {
            match self.ask(&request)? {
                Answer::Path(path) if path.len() <= LONGEST_PATH => return Ok(Some(path)),
                Answer::Missing if must => self.renew(self.corrupt(from, "is not there"))?,
                Answer::NotADescendant | Answer::Missing => return Ok(None),
                Answer::Error { reason, message } => self.renew(SourceError::of_worker(&reason, &message))?,
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    /// The commits in the history of `tip` that are not in that of `known`, as the worker says; not checked. None at all
    /// where it does not have them.
    pub fn since(&mut self, tip: ObjectName, known: ObjectName) -> Result<Vec<ObjectName>> {
        match self.ask(&Request::Since { tip, known })? {
            Answer::Path(names) if names.len() <= LONGEST_PATH => Ok(names),
            Answer::Missing => Ok(Vec::new()),
            Answer::Error { reason, message } => Err(SourceError::of_worker(&reason, &message)),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Whether the worker has a commit of this name; it may lie. That it has not is no reason to get anything anew.
    pub fn has(&mut self, name: ObjectName) -> Result<bool> {
        match self.ask(&Request::Objects(vec![name]))? {
            Answer::Object(kind, _) => Ok(kind == Kind::Commit),
            Answer::Missing | Answer::TooLarge(_) => Ok(false),
            Answer::Error { reason, message } => Err(SourceError::of_worker(&reason, &message)),
            other => Err(self.unexpected(&other)),
        }
    }

    /// What is read next is another revision, with a bound of its own.
    pub fn refill(&mut self) {
        self.left = MOST_BYTES;
    }

    /// The inner error is one of an object, after which the conversation can go on.
    fn batch(&mut self, batch: &[(ObjectName, Kind)]) -> Result<Result<Vec<Received>>> {
        self.send(&Request::Objects(batch.iter().map(|(name, _)| *name).collect()))?;
        let mut received = Ok(Vec::with_capacity(batch.len()));
        for (name, kind) in batch {
            // All answers are read, also after a bad one: the next request has its own.
            let answer = self.receive()?;
            if let Ok(sound) = &mut received {
                match self.checked(*name, *kind, answer)? {
                    Ok(object) => sound.push(object),
                    Err(bad) => received = Err(bad),
                }
            }
        }
        self.channel.disarm();
        Ok(received)
    }

    fn checked(&mut self, name: ObjectName, kind: Kind, answer: Answer) -> Result<Result<Received>> {
        Ok(match answer {
            Answer::Object(is, content) if is == kind => {
                self.left = self.left.checked_sub(content.len() as u64).ok_or_else(|| self.too_much())?;
                objects::check(name, kind, &content)
                    .map_err(|why| self.corrupt(name, &why))
                    .map(|()| Received::Content(content))
            }
            Answer::Object(..) => Err(self.corrupt(name, "is of another kind than it should be")),
            Answer::TooLarge(size) if kind == Kind::Blob => Ok(Received::TooLarge(size)),
            Answer::Missing => Err(self.corrupt(name, "is not there")),
            Answer::Error { reason, message } => Err(match SourceError::of_worker(&reason, &message) {
                SourceError::Fetch { reason: "damaged-clone", message } => {
                    self.corrupt(name, &format!("cannot be read: {message}"))
                }
                other => other,
            }),
            other => return Err(self.unexpected(&other)),
        })
    }

    /// Tells the worker, once, to get everything anew, because of `trouble`; it is the error where that
    /// was done before or is not possible.
    fn renew(&mut self, trouble: SourceError) -> Result<()> {
        if self.renewed {
            return Err(trouble);
        }
        self.renewed = true;
        match self.ask(&Request::Afresh)? {
            Answer::Tip(_) => Ok(()),
            _ => Err(trouble),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Answer> {
        self.send(request)?;
        let answer = self.receive();
        self.channel.disarm();
        answer
    }

    fn send(&mut self, request: &Request) -> Result<()> {
        self.send_out()?;
        self.channel.arm();
        let sent = request.send(&mut self.channel).and_then(|()| Ok(self.channel.flush()?));
        sent.map_err(|error| self.broken(&error))
    }

    fn receive(&mut self) -> Result<Answer> {
        Answer::receive(&mut self.channel).map_err(|error| self.broken(&error))
    }

    fn broken(&mut self, error: &WireError) -> SourceError {
        let said = self.channel.said();
        if self.channel.timed_out() {
            return SourceError::TimedOut { place: self.place.clone(), after: self.limit };
        }
        // What Rust's own allocator says where a limit of the worker's wall is reached.
        if said.contains("memory allocation of") {
            let what = "what the server sends takes more memory than the fetch worker may have".to_owned();
            return SourceError::TooLarge { place: self.place.clone(), what };
        }
        let why = if said.is_empty() { error.to_string() } else { format!("{error}: {said}") };
        SourceError::Worker { place: self.place.clone(), why }
    }

    fn unexpected(&mut self, answer: &Answer) -> SourceError {
        let what = match answer {
            Answer::Walls(_) => "what stands around it",
            Answer::Tip(_) => "a commit",
            Answer::Object(..) => "an object",
            Answer::TooLarge(_) => "a size",
            Answer::Missing => "nothing",
            Answer::Path(_) | Answer::NotADescendant => "a path",
            Answer::Error { .. } => "an error",
        };
        SourceError::Worker { place: self.place.clone(), why: format!("it answered {what}, which was not asked for") }
    }

    /// What ssh says goes to standard error, not into the answer.
    fn refused(&mut self, reason: &str, message: &str) -> SourceError {
        let said = if matches!(reason, "unreachable" | "fetch-failed") { self.channel.said() } else { String::new() };
        if said.contains("Host key verification failed") || said.contains("host key is known") {
            let message = format!("{}: {said}; put the server's key into source.known_hosts", self.place);
            return SourceError::of_worker("bad-host-key", &message);
        }
        if said.is_empty() {
            return SourceError::of_worker(reason, message);
        }
        SourceError::of_worker(reason, &format!("{message}: {said}"))
    }

    pub fn corrupt(&self, name: ObjectName, why: &str) -> SourceError {
        SourceError::Corrupt { place: self.place.clone(), object: name.to_string(), why: one_line(why, 300) }
    }

    fn too_much(&self) -> SourceError {
        let what = format!("what this host uses of the revision has more than {MOST_BYTES} bytes");
        SourceError::TooLarge { place: self.place.clone(), what }
    }
}
