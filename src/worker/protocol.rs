//! What goes over the pipe between the agent and the fetch worker: frames of a length (four bytes, big
//! endian) and that many bytes, of which the first says what it is. Both sides bound every length and
//! every count before they believe it; anything unexpected ends the conversation.

use std::fmt;
use std::io::{self, Read, Write};

/// How many objects one request may ask for.
pub const MOST_OBJECTS: usize = 1024;
/// The largest file that is handed over, in bytes.
pub const LARGEST_BLOB: u64 = 16 << 20;
/// The largest commit that is handed over, in bytes: of many at once, before anybody is known to have signed one.
pub const LARGEST_COMMIT: u64 = 1 << 20;
/// The largest directory that is handed over, in bytes.
pub const LARGEST_OBJECT: u64 = 32 << 20;
/// The longest way from one commit to another.
pub const LONGEST_PATH: usize = 200_000;

const LARGEST_REQUEST: usize = 256 << 10;
const LARGEST_ANSWER: usize = LARGEST_OBJECT as usize + 64;
const LONGEST_TEXT: usize = 16 << 10;

/// The id of an object: 20 bytes (SHA-1) or 32 (SHA-256).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    length: u8,
    bytes: [u8; 32],
}

impl ObjectName {
    /// The id with these bytes; `None` where there are not 20 or 32 of them.
    pub fn from_bytes(raw: &[u8]) -> Option<Self> {
        let length = match raw.len() {
            length @ (20 | 32) => u8::try_from(length).ok()?,
            _ => return None,
        };
        let mut bytes = [0; 32];
        bytes[..raw.len()].copy_from_slice(raw);
        Some(Self { length, bytes })
    }

    /// The id written as `hex`; `None` where that is not 40 or 64 hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        if !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) || hex.len() % 2 == 1 {
            return None;
        }
        let bytes: Option<Vec<u8>> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).ok()).collect();
        Self::from_bytes(&bytes?)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What nobody may see: it has no way to be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What the agent asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Look at a branch and have its whole history at hand. Answered by [`Answer::Tip`].
    Open(Box<Open>),
    /// What is at hand is damaged: get it anew. Answered by [`Answer::Tip`].
    Afresh,
    /// Hand over objects. Answered by one answer for each, in order: [`Answer::Object`],
    /// [`Answer::TooLarge`] or [`Answer::Missing`].
    Objects(Vec<ObjectName>),
    /// A way down from one commit to another. Answered by [`Answer::Path`], [`Answer::NotADescendant`] or, where the
    /// upper one is not at hand, [`Answer::Missing`].
    Path {
        /// Where it starts.
        from: ObjectName,
        /// Where it is to end.
        to: ObjectName,
    },
    /// The commits that one has in its history, itself included, and the other has not. Answered by
    /// [`Answer::Path`], or, where one of the two is not at hand, [`Answer::Missing`].
    Since {
        /// Whose history.
        tip: ObjectName,
        /// What is known already, with all that is before it.
        known: ObjectName,
    },
}

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Where.
    pub place: Place,
    /// The branch, without `refs/heads/`; `HEAD` is what is checked out (local only).
    pub branch: String,
}

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory, opened where it is.
    Local {
        /// Absolute.
        directory: String,
    },
    /// A server; what it has is cached in a clone.
    Remote(Box<Remote>),
}

/// A server, and what is needed to speak with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Without credentials.
    pub url: String,
    /// The directory of the clone, absolute; made where it is missing, replaced where it is damaged.
    pub cache: String,
    /// The names of clones beside it that are in use too; any other is one of former settings, and goes.
    pub beside: Vec<String>,
    /// Whether `http` and `git` are allowed.
    pub insecure: bool,
    /// CA certificates to believe instead of the system's; empty for the system's.
    pub ca_file: String,
    /// The proxy that https and http go through, without credentials; empty for none.
    pub proxy: String,
    /// The certificate that the server is shown, PEM; empty for none.
    pub client_cert: String,
    /// Its private key, PEM.
    pub client_key: String,
    /// User name and password, or token; for https only.
    pub login: Option<(String, Secret)>,
    /// The private key for ssh; empty for ssh's own.
    pub ssh_key: String,
    /// Pinned host keys for ssh.
    pub known_hosts: String,
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A commit.
    Commit,
    /// A directory.
    Tree,
    /// A file.
    Blob,
}

/// What stands around a worker, as it says itself before it has read anything that could make it lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walls {
    /// The user that it is.
    pub uid: u32,
    /// The version of Landlock that is in force; 0 where the kernel has none.
    pub landlock: u8,
    /// Whether its system calls are filtered.
    pub filtered: bool,
}

/// What the worker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// What stands around it: its first word, before it was asked anything.
    Walls(Walls),
    /// The commit that the branch names.
    Tip(ObjectName),
    /// An object.
    Object(Kind, Vec<u8>),
    /// A file that is not handed over.
    TooLarge(u64),
    /// There is no such object.
    Missing,
    /// Commits: of a path each but the first is a parent of the one before it, of a difference in any order.
    Path(Vec<ObjectName>),
    /// There is no way down.
    NotADescendant,
    /// It cannot be done.
    Error {
        /// A stable word.
        reason: String,
        /// For people; not escaped.
        message: String,
    },
}

/// The conversation is over.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The pipe broke.
    #[error("the pipe broke: {0}")]
    Io(#[from] io::Error),
    /// The other side ended before it said what it had to say.
    #[error("the other side ended")]
    Ended,
    /// The other side does not keep to the protocol.
    #[error("the other side does not keep to the protocol: {0}")]
    Malformed(&'static str),
}

type Result<T> = std::result::Result<T, WireError>;

impl Request {
    /// Sends it; the caller flushes.
    ///
    /// # Errors
    /// Where the pipe breaks, or the request is larger than the other side would take.
    pub fn send(&self, output: &mut impl Write) -> Result<()> {
        let mut out = Out::default();
        match self {
            Self::Open(open) => out.byte(b'o').open(open),
            Self::Afresh => out.byte(b'a'),
            Self::Objects(names) => out.byte(b'n').names(names),
            Self::Path { from, to } => out.byte(b'p').names(&[*from, *to]),
            Self::Since { tip, known } => out.byte(b's').names(&[*tip, *known]),
        };
        out.send(output, LARGEST_REQUEST)
    }

    /// Receives one; `None` at the end of the input.
    ///
    /// # Errors
    /// Where the pipe breaks or what came is no request.
    pub fn receive(input: &mut impl Read) -> Result<Option<Self>> {
        let Some(frame) = frame(input, LARGEST_REQUEST)? else { return Ok(None) };
        let mut fields = In(&frame);
        let request = match fields.byte()? {
            b'o' => Self::Open(Box::new(fields.open()?)),
            b'a' => Self::Afresh,
            b'n' => Self::Objects(fields.names(MOST_OBJECTS)?),
            b'p' => match fields.names(2)?[..] {
                [from, to] => Self::Path { from, to },
                _ => return Err(WireError::Malformed("a path has two ends")),
            },
            b's' => match fields.names(2)?[..] {
                [tip, known] => Self::Since { tip, known },
                _ => return Err(WireError::Malformed("a difference is one of two")),
            },
            _ => return Err(WireError::Malformed("no such request")),
        };
        fields.end()?;
        Ok(Some(request))
    }
}

impl Answer {
    /// Sends it; the caller flushes.
    ///
    /// # Errors
    /// Where the pipe breaks, or the answer is larger than the other side would take.
    pub fn send(&self, output: &mut impl Write) -> Result<()> {
        let mut out = Out::default();
        match self {
            Self::Walls(walls) => {
                out.byte(b'w').rest(&walls.uid.to_be_bytes()).byte(walls.landlock).byte(u8::from(walls.filtered))
            }
            Self::Tip(name) => out.byte(b't').names(&[*name]),
            Self::Object(kind, content) => out.byte(kind.letter()).rest(content),
            Self::TooLarge(size) => out.byte(b'L').rest(&size.to_be_bytes()),
            Self::Missing => out.byte(b'M'),
            Self::Path(names) => out.byte(b'p').names(names),
            Self::NotADescendant => out.byte(b'N'),
            Self::Error { reason, message } => out.byte(b'E').text(reason).text(message),
        };
        out.send(output, LARGEST_ANSWER)
    }

    /// Receives one.
    ///
    /// # Errors
    /// Where the pipe breaks or ends, or what came is no answer.
    pub fn receive(input: &mut impl Read) -> Result<Self> {
        let mut frame = frame(input, LARGEST_ANSWER)?.ok_or(WireError::Ended)?;
        if let Some(kind) = frame.first().copied().and_then(Kind::of_letter) {
            if frame.len() as u64 - 1 > kind.limit() {
                return Err(WireError::Malformed("an object over its limit"));
            }
            frame.remove(0);
            return Ok(Self::Object(kind, frame));
        }
        let mut fields = In(&frame);
        let answer = match fields.byte()? {
            b'w' => Self::Walls(Walls {
                uid: u32::from_be_bytes(fields.array()?),
                landlock: fields.byte()?,
                filtered: fields.flag()?,
            }),
            b't' => match fields.names(1)?[..] {
                [name] => Self::Tip(name),
                _ => return Err(WireError::Malformed("a tip is one commit")),
            },
            b'L' => Self::TooLarge(u64::from_be_bytes(fields.array()?)),
            b'M' => Self::Missing,
            b'p' => Self::Path(fields.names(LONGEST_PATH)?),
            b'N' => Self::NotADescendant,
            b'E' => Self::Error { reason: fields.text()?, message: fields.text()? },
            _ => return Err(WireError::Malformed("no such answer")),
        };
        fields.end()?;
        Ok(answer)
    }
}

impl Kind {
    /// The largest object of this kind that is handed over, in bytes.
    pub fn limit(self) -> u64 {
        match self {
            Self::Blob => LARGEST_BLOB,
            Self::Commit => LARGEST_COMMIT,
            Self::Tree => LARGEST_OBJECT,
        }
    }

    fn letter(self) -> u8 {
        match self {
            Self::Commit => b'c',
            Self::Tree => b'd',
            Self::Blob => b'b',
        }
    }

    fn of_letter(letter: u8) -> Option<Self> {
        [Self::Commit, Self::Tree, Self::Blob].into_iter().find(|kind| kind.letter() == letter)
    }
}

/// Reads one frame of at most `limit` bytes; `None` at the end of the input.
fn frame(input: &mut impl Read, limit: usize) -> Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut have = 0;
    while have < length.len() {
        match input.read(&mut length[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(WireError::Ended),
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > limit {
        return Err(WireError::Malformed("a frame of a length that is not allowed"));
    }
    // Grows with what really comes, not with what is announced.
    let mut frame = Vec::with_capacity(length.min(64 << 10));
    input.take(length as u64).read_to_end(&mut frame)?;
    if frame.len() < length {
        return Err(WireError::Ended);
    }
    Ok(Some(frame))
}

#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    fn rest(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn count(&mut self, count: usize) -> &mut Self {
        // What does not fit is refused by `send`, whose limit is far below.
        self.rest(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes())
    }

    fn text(&mut self, text: &str) -> &mut Self {
        let mut end = text.len().min(LONGEST_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.count(end).rest(&text.as_bytes()[..end])
    }

    fn names(&mut self, names: &[ObjectName]) -> &mut Self {
        self.count(names.len());
        for name in names {
            self.byte(name.length).rest(name.as_bytes());
        }
        self
    }

    fn open(&mut self, open: &Open) -> &mut Self {
        self.text(&open.branch);
        match &open.place {
            Place::Local { directory } => self.byte(b'l').text(directory),
            Place::Remote(remote) => {
                let (user, secret) = remote.login.as_ref().map_or(("", ""), |(user, secret)| (user, &secret.0));
                self.byte(b'r')
                    .text(&remote.url)
                    .text(&remote.cache)
                    .text(&remote.beside.join("\n"))
                    .byte(u8::from(remote.insecure))
                    .text(&remote.ca_file)
                    .text(&remote.proxy)
                    .text(&remote.client_cert)
                    .text(&remote.client_key);
                self.byte(u8::from(remote.login.is_some())).text(user).text(secret);
                self.text(&remote.ssh_key).text(&remote.known_hosts)
            }
        }
    }

    fn send(&self, output: &mut impl Write, limit: usize) -> Result<()> {
        if self.0.len() > limit {
            return Err(WireError::Malformed("a frame that the other side would not take"));
        }
        let length = u32::try_from(self.0.len()).expect("the limits fit in 32 bits");
        output.write_all(&length.to_be_bytes())?;
        Ok(output.write_all(&self.0)?)
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) =
            self.0.split_at_checked(length).ok_or(WireError::Malformed("a frame that ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many were taken"))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Malformed("a flag is 0 or 1")),
        }
    }

    fn count(&mut self, most: usize) -> Result<usize> {
        let count = u32::from_be_bytes(self.array()?) as usize;
        if count > most {
            return Err(WireError::Malformed("more than is allowed"));
        }
        Ok(count)
    }

    fn text(&mut self) -> Result<String> {
        let length = self.count(LONGEST_TEXT)?;
        let text = std::str::from_utf8(self.take(length)?);
        Ok(text.map_err(|_| WireError::Malformed("text that is not UTF-8"))?.to_owned())
    }

    fn names(&mut self, most: usize) -> Result<Vec<ObjectName>> {
        let count = self.count(most)?;
        let mut names = Vec::with_capacity(count.min(self.0.len() / 20));
        for _ in 0..count {
            let length = usize::from(self.byte()?);
            let name = ObjectName::from_bytes(self.take(length)?);
            names.push(name.ok_or(WireError::Malformed("an id is 20 or 32 bytes"))?);
        }
        Ok(names)
    }

    fn open(&mut self) -> Result<Open> {
        let branch = self.text()?;
        let place = match self.byte()? {
            b'l' => Place::Local { directory: self.text()? },
            b'r' => Place::Remote(Box::new(Remote {
                url: self.text()?,
                cache: self.text()?,
                beside: self.text()?.lines().map(str::to_owned).collect(),
                insecure: self.flag()?,
                ca_file: self.text()?,
                proxy: self.text()?,
                client_cert: self.text()?,
                client_key: self.text()?,
                login: {
                    let (some, user, secret) = (self.flag()?, self.text()?, self.text()?);
                    some.then_some((user, Secret(secret)))
                },
                ssh_key: self.text()?,
                known_hosts: self.text()?,
            })),
            _ => return Err(WireError::Malformed("no such place")),
        };
        Ok(Open { place, branch })
    }

    fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Malformed("more than belongs into a frame")) }
    }
}

#[cfg(test)]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(byte: u8) -> ObjectName {
        ObjectName::from_bytes(&[byte; 20]).expect("20 bytes")
    }

    fn open() -> Request {
        Request::Open(Box::new(Open {
            place: Place::Remote(Box::new(Remote {
                url: "https://h/x".to_owned(),
                cache: "/var/lib/trueup/clone/1".to_owned(),
                beside: vec!["2".to_owned(), "3".to_owned()],
                insecure: true,
                ca_file: String::new(),
                proxy: "http://p:3128".to_owned(),
                client_cert: "/c".to_owned(),
                client_key: "/ck".to_owned(),
                login: Some(("ana".to_owned(), Secret("s3cret".to_owned()))),
                ssh_key: "/k".to_owned(),
                known_hosts: "/h".to_owned(),
            })),
            branch: "main".to_owned(),
        }))
    }

    #[test]
    fn what_is_sent_is_received() {
        let local = Open { place: Place::Local { directory: "/srv/x".to_owned() }, branch: "HEAD".to_owned() };
        let requests = [
            open(),
            Request::Open(Box::new(local)),
            Request::Afresh,
            Request::Objects(vec![name(1); MOST_OBJECTS]),
            Request::Objects(vec![ObjectName::from_bytes(&[9; 32]).expect("32")]),
            Request::Path { from: name(1), to: name(2) },
            Request::Since { tip: name(1), known: name(2) },
        ];
        let mut wire = Vec::new();
        requests.iter().for_each(|request| request.send(&mut wire).expect("sends"));
        let mut input = &wire[..];
        for request in requests {
            assert_eq!(Request::receive(&mut input).expect("receives"), Some(request));
        }
        assert_eq!(Request::receive(&mut input).expect("the end"), None);

        let answers = [
            Answer::Walls(Walls { uid: 990, landlock: 6, filtered: true }),
            Answer::Tip(name(1)),
            Answer::Object(Kind::Blob, Vec::new()),
            Answer::Object(Kind::Tree, b"x".to_vec()),
            Answer::TooLarge(1 << 40),
            Answer::Missing,
            Answer::Path(vec![name(1), name(2)]),
            Answer::NotADescendant,
            Answer::Error { reason: "r".to_owned(), message: "ü".to_owned() },
        ];
        let mut wire = Vec::new();
        answers.iter().for_each(|answer| answer.send(&mut wire).expect("sends"));
        let mut input = &wire[..];
        for answer in answers {
            assert_eq!(Answer::receive(&mut input).expect("receives"), answer);
        }
        assert!(matches!(Answer::receive(&mut input), Err(WireError::Ended)));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let mut wire = Vec::new();
        Answer::Object(Kind::Blob, vec![0; LARGEST_BLOB as usize]).send(&mut wire).expect("at the limit");
        assert!(Answer::receive(&mut &wire[..]).is_ok());
        wire.clear();
        Answer::Object(Kind::Blob, vec![0; LARGEST_BLOB as usize + 1]).send(&mut wire).expect("a frame could hold it");
        assert!(matches!(Answer::receive(&mut &wire[..]), Err(WireError::Malformed(_))));
        for (over, fits) in [(0, true), (1, false)] {
            wire.clear();
            Answer::Object(Kind::Commit, vec![0; LARGEST_COMMIT as usize + over]).send(&mut wire).expect("fits");
            assert_eq!(Answer::receive(&mut &wire[..]).is_ok(), fits);
        }
        assert!(Answer::Object(Kind::Tree, vec![0; LARGEST_ANSWER]).send(&mut Vec::new()).is_err());
        wire.clear();
        Request::Objects(vec![name(1); MOST_OBJECTS + 1]).send(&mut wire).expect("a frame could hold it");
        assert!(matches!(Request::receive(&mut &wire[..]), Err(WireError::Malformed(_))));
    }

    #[test]
    fn every_truncation_and_every_other_first_byte_is_an_error_not_a_panic() {
        let mut wire = Vec::new();
        open().send(&mut wire).expect("sends");
        for end in 1..wire.len() {
            assert!(Request::receive(&mut &wire[..end]).is_err(), "cut at {end}");
        }
        for inner in 0..wire.len() - 4 {
            let mut cut = u32::try_from(inner).expect("small").to_be_bytes().to_vec();
            cut.extend_from_slice(&wire[4..4 + inner]);
            assert!(Request::receive(&mut &cut[..]).is_err(), "frame cut at {inner}");
        }
        for byte in 0..=255u8 {
            let mut longer = vec![0, 0, 0, 9, byte];
            longer.extend_from_slice(&[255; 8]);
            drop((Request::receive(&mut &longer[..]), Answer::receive(&mut &longer[..])));
        }
    }

    #[test]
    fn an_announced_length_is_not_believed() {
        for length in [0u32, LARGEST_ANSWER as u32 + 1, u32::MAX] {
            assert!(matches!(Answer::receive(&mut &length.to_be_bytes()[..]), Err(WireError::Malformed(_))));
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert!(!format!("{:?}", open()).contains("s3cret"));
    }

    #[test]
    fn ids_are_read_from_hexadecimal_digits() {
        assert_eq!(ObjectName::from_hex(&name(0xab).to_string()), Some(name(0xab)));
        for bad in ["", "ab", "zz", &"a".repeat(39), &"a".repeat(41), &"é".repeat(20)] {
            assert_eq!(ObjectName::from_hex(bad), None, "{bad}");
        }
    }
}
