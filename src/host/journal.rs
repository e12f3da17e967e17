//! The journal, by its native protocol: one datagram an entry. Whoever logs never waits for a journal that does
//! not read: what it does not take in time is lost, counted, and told later.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Reader;

/// Where systemd-journald(8) listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Who says it: `journalctl -t trueup`.
const IDENTIFIER: &str = "trueup";

/// How long a full queue is waited for, all entries of one call together.
const PATIENCE: Duration = Duration::from_millis(200);

/// How grave an entry is: syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody has to act.
    Error = 3,
    /// Somebody should know.
    Warning = 4,
    /// Normal, and worth a line.
    Notice = 5,
    /// Of interest to who looks for it.
    Info = 6,
}

/// One entry of the journal (systemd.journal-fields(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `MESSAGE_ID`: 32 hexadecimal digits, the same for every entry of one sort.
    pub message_id: &'static str,
    /// How grave it is.
    pub priority: Priority,
    /// The sentence, in one line, bounded and escaped.
    pub message: String,
    /// `TRUEUP_…` fields: upper-case names and their values, bounded and escaped.
    pub fields: Vec<(&'static str, String)>,
}

impl Reader {
    /// Puts entries into the journal of this machine; on standard error, one line each, where it has no journal.
    /// Nothing for a directory. Gives how many were lost since nobody took them. Waits at most a fifth of a second.
    pub fn log(&self, entries: &[Entry]) -> usize {
        if self.machine { self.journal.log(entries) } else { 0 }
    }
}

/// A way to the journal; connected when first needed, and kept.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    socket: RefCell<Option<UnixDatagram>>,
}

impl Default for Journal {
    fn default() -> Self {
        Self::at(Path::new(SOCKET))
    }
}

/// What came of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// The journal has it.
    Taken,
    /// Nobody took it in time.
    Lost,
    /// There is no journal.
    NoJournal,
}

impl Journal {
    fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: RefCell::new(None) }
    }

    fn log(&self, entries: &[Entry]) -> usize {
        let mut patience = PATIENCE;
        let mut lost = 0;
        for entry in entries {
            let taken = match self.send(&encode(entry), &mut patience) {
                Sent::Taken => true,
                Sent::Lost => false,
                Sent::NoJournal => print(entry),
            };
            lost += usize::from(!taken);
        }
        lost
    }

    fn send(&self, datagram: &[u8], patience: &mut Duration) -> Sent {
        let mut slot = self.socket.borrow_mut();
        // Twice, since a journal that was started anew may listen on another socket than the one that is known.
        for _ in 0..2 {
            let socket = match slot.take() {
                Some(socket) => socket,
                None => match self.connect() {
                    Ok(socket) => socket,
                    Err(_) => return Sent::NoJournal,
                },
            };
            match send(&socket, datagram, patience) {
                Ok(()) => {
                    *slot = Some(socket);
                    return Sent::Taken;
                }
                Err(error) if is_lost(&error) => {
                    *slot = Some(socket);
                    return Sent::Lost;
                }
                Err(_) => {}
            }
        }
        Sent::NoJournal
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(&self.path)?;
        Ok(socket)
    }
}

/// Sends at once, or as soon as there is room, for as long as there is patience.
fn send(socket: &UnixDatagram, datagram: &[u8], patience: &mut Duration) -> io::Result<()> {
    loop {
        match socket.send(datagram) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !patience.is_zero() => {
                let began = Instant::now();
                writable(socket, *patience);
                // Time that cannot be measured is time that passes.
                *patience = patience.saturating_sub(began.elapsed().max(Duration::from_millis(1)));
            }
            Err(error) => return Err(error),
        }
    }
}

/// The journal is there, and does not take this entry: its queue is full, or the entry larger than a datagram may be.
fn is_lost(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    error.kind() == io::ErrorKind::WouldBlock
        || matches!(errno, Some(rustix::io::Errno::MSGSIZE | rustix::io::Errno::NOBUFS))
}

/// Whether something can be written before `patience` is over.
fn writable(file: impl AsFd, patience: Duration) -> bool {
    let limit = Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
    let mut files = [PollFd::new(&file, PollFlags::OUT)];
    matches!(poll(&mut files, Some(&limit)), Ok(1..)) && files[0].revents().contains(PollFlags::OUT)
}

/// The entry as one line of standard error, with its priority in front as sd-daemon(3) has it. Whether it was
/// taken: nobody may be reading.
fn print(entry: &Entry) -> bool {
    let mut line = String::new();
    let _ = writeln!(line, "<{}>{}", entry.priority as u8, crate::model::escaped(&entry.message));
    let mut stderr = io::stderr().lock();
    writable(&stderr, Duration::ZERO) && stderr.write_all(line.as_bytes()).is_ok()
}

/// One datagram of the journal's native protocol: a field a line, or, where the value has line ends, its name, its
/// length as 64-bit little-endian number and the value (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
fn encode(entry: &Entry) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(512);
    field(&mut datagram, "MESSAGE", &entry.message);
    field(&mut datagram, "MESSAGE_ID", entry.message_id);
    field(&mut datagram, "PRIORITY", &(entry.priority as u8).to_string());
    field(&mut datagram, "SYSLOG_IDENTIFIER", IDENTIFIER);
    for (name, value) in &entry.fields {
        field(&mut datagram, name, value);
    }
    datagram
}

fn field(datagram: &mut Vec<u8>, name: &str, value: &str) {
    datagram.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        datagram.push(b'\n');
        datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        datagram.push(b'=');
    }
    datagram.extend_from_slice(value.as_bytes());
    datagram.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn entry(message: &str) -> Entry {
        Entry { message_id: ID, priority: Priority::Notice, message: message.to_owned(), fields: Vec::new() }
    }

    #[test]
    fn an_entry_is_the_bytes_that_the_protocol_asks_for() {
        let plain = Entry { fields: vec![("TRUEUP_EVENT", "drift".to_owned())], ..entry("drift: a = b") };
        let wanted = format!(
            "MESSAGE=drift: a = b\nMESSAGE_ID={ID}\nPRIORITY=5\nSYSLOG_IDENTIFIER=trueup\nTRUEUP_EVENT=drift\n"
        );
        assert_eq!(encode(&plain), wanted.as_bytes());

        // A line end in a value starts no field.
        let forged = entry("x\nTRUEUP_EVENT=applied");
        let mut wanted = b"MESSAGE\n".to_vec();
        wanted.extend_from_slice(&[22, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend_from_slice(b"x\nTRUEUP_EVENT=applied\nMESSAGE_ID=");
        assert!(encode(&forged).starts_with(&wanted));
        let long = entry(&format!("{}\n", "x".repeat(299)));
        assert_eq!(encode(&long)[8..16], [44, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn every_entry_is_a_datagram_and_one_connection_does() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let path = scratch.path().join("socket");
        let journald = UnixDatagram::bind(&path).expect("bound");
        let journal = Journal::at(&path);
        assert_eq!(journal.log(&[entry("one"), entry("two")]), 0);
        let mut buffer = [0; 4096];
        for message in ["one", "two"] {
            let length = journald.recv(&mut buffer).expect("it was sent");
            assert_eq!(buffer[..length], encode(&entry(message)));
        }
        assert!(journal.socket.borrow().is_some());
    }

    #[test]
    fn a_journal_that_was_started_anew_is_found_again() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let path = scratch.path().join("socket");
        let first = UnixDatagram::bind(&path).expect("bound");
        let journal = Journal::at(&path);
        assert_eq!(journal.send(b"one", &mut PATIENCE.clone()), Sent::Taken);
        drop(first);
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(journal.send(b"nobody", &mut PATIENCE.clone()), Sent::NoJournal);
        let second = UnixDatagram::bind(&path).expect("bound");
        assert_eq!(journal.send(b"two", &mut PATIENCE.clone()), Sent::Taken);
        let mut buffer = [0; 16];
        let length = second.recv(&mut buffer).expect("it was sent");
        assert_eq!(&buffer[..length], b"two");
    }

    #[test]
    fn a_journal_that_does_not_read_loses_entries_and_holds_nobody_up() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let path = scratch.path().join("socket");
        let journald = UnixDatagram::bind(&path).expect("bound");
        let journal = Journal::at(&path);
        let many = vec![entry(&"x".repeat(500)); 10_000];
        let lost = journal.log(&many);
        assert!(lost > 0 && lost < many.len(), "{lost} are lost");
        journald.set_nonblocking(true).expect("set");
        let mut buffer = [0; 4096];
        let mut taken = 0;
        while journald.recv(&mut buffer).is_ok() {
            taken += 1;
        }
        assert_eq!(taken + lost, many.len());
        // There is room again.
        assert_eq!(journal.log(&many[..1]), 0);
        // What no datagram can hold is lost, and nothing else.
        assert_eq!(journal.log(&[entry(&"x".repeat(16 << 20)), entry("small")]), 1);
    }

    #[test]
    fn a_directory_has_no_journal() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let path = scratch.path().join("socket");
        let journald = UnixDatagram::bind(&path).expect("bound");
        journald.set_nonblocking(true).expect("set");
        let mut reader = Reader::directory(scratch.path()).expect("it is there");
        reader.journal = Journal::at(&path);
        assert_eq!(reader.log(&[entry("nothing")]), 0);
        let error = journald.recv(&mut [0; 16]).expect_err("nothing was sent");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
