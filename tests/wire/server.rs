//! A Git server that says what it is told to, byte by byte, over git:// in version 2 of the protocol;
//! gitprotocol-v2(5). What it is told may be wrong in any way.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use gix_hash::ObjectId;

use super::pack::Objects;

/// What is said at one place.
#[derive(Debug, Clone, Default)]
pub struct Part {
    once: Vec<u8>,
    /// After that again and again, until nobody listens.
    ever: Vec<u8>,
}

impl Part {
    pub fn then_for_ever(mut self, ever: impl Into<Vec<u8>>) -> Self {
        self.ever = ever.into();
        self
    }

    fn say(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(&self.once)?;
        if self.ever.is_empty() {
            return Ok(());
        }
        let block = self.ever.repeat(1 + (1 << 16) / self.ever.len());
        loop {
            stream.write_all(&block)?;
        }
    }
}

impl<T: Into<Vec<u8>>> From<T> for Part {
    fn from(once: T) -> Self {
        Self { once: once.into(), ever: Vec::new() }
    }
}

/// What the server says at each place of the conversation.
#[derive(Debug, Clone)]
pub struct Says {
    /// First of all: what it can do.
    pub hello: Part,
    /// When it is asked for its branches.
    pub refs: Part,
    /// When it is asked for a pack.
    pub pack: Part,
}

impl Says {
    /// The whole of `objects`, with a branch main that is at `tip`.
    pub fn all(objects: &Objects, tip: ObjectId) -> Self {
        Self::pack(objects.pack().bytes(), tip)
    }

    /// This pack, with a branch main that is at `tip`.
    pub fn pack(pack: impl AsRef<[u8]>, tip: ObjectId) -> Self {
        let refs = [&line(format!("{tip} refs/heads/main\n"))[..], b"0000"].concat();
        Self { hello: hello(tip.kind()).into(), refs: refs.into(), pack: packfile(pack.as_ref()).into() }
    }
}

/// One pkt-line.
pub fn line(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [format!("{:04x}", text.len() + 4).as_bytes(), text].concat()
}

/// What a server of such ids can do.
pub fn hello(hash: gix_hash::Kind) -> Vec<u8> {
    let format = line(format!("object-format={hash}\n"));
    [line("version 2\n"), line("agent=git/2\n"), line("ls-refs\n"), line("fetch\n"), format, b"0000".to_vec()].concat()
}

/// `bytes` in one of the bands: 1 is the pack, 2 for people, 3 is an error.
pub fn band(number: u8, bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(60_000).flat_map(|part| line([&[number], part].concat())).collect()
}

/// The answer that holds a pack.
pub fn packfile(pack: &[u8]) -> Vec<u8> {
    [line("packfile\n"), band(1, pack), b"0000".to_vec()].concat()
}

/// A server; what it says can be changed at any time.
#[derive(Debug)]
pub struct Server {
    says: Arc<Mutex<Says>>,
    address: String,
}

impl Server {
    pub fn start(says: Says) -> Self {
        Self::start_at("127.0.0.1", says)
    }

    /// At an address of this machine.
    pub fn start_at(address: &str, says: Says) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let says = Arc::new(Mutex::new(says));
        let shared = Arc::clone(&says);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let says = shared.lock().expect("whole").clone();
                // Whoever hangs up has heard enough.
                thread::spawn(move || drop(converse(stream, &says)));
            }
        });
        Self { says, address }
    }

    pub fn url(&self) -> String {
        format!("git://{}/fleet", self.address)
    }

    pub fn say(&self, says: &Says) {
        *self.says.lock().expect("whole") = says.clone();
    }
}

fn converse(mut stream: TcpStream, says: &Says) -> io::Result<()> {
    packet(&mut stream)?;
    says.hello.say(&mut stream)?;
    if says.hello.once.len() < 20 {
        // Nobody could ask for anything after that.
        return hang_up(&mut stream);
    }
    while let Some(request) = request(&mut stream)? {
        let is = |what: &str| request.iter().any(|line| line.starts_with(what.as_bytes()));
        if is("command=ls-refs") {
            says.refs.say(&mut stream)?;
        } else if is("done") {
            says.pack.say(&mut stream)?;
            return hang_up(&mut stream);
        } else {
            // It has something in common with us, or not: it is to come to its end.
            stream.write_all(&[line("acknowledgments\n"), line("NAK\n"), b"0000".to_vec()].concat())?;
        }
    }
    Ok(())
}

/// Says no more, and hears the other side to its end: it sees an end, not a reset.
fn hang_up(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    io::copy(stream, &mut io::sink()).map(drop)
}

/// The lines of a request, to its end; `None` where there is none any more.
fn request(stream: &mut TcpStream) -> io::Result<Option<Vec<Vec<u8>>>> {
    let mut lines = Vec::new();
    loop {
        match packet(stream) {
            Ok((0, _)) if lines.is_empty() => return Ok(None),
            Ok((0, _)) => return Ok(Some(lines)),
            Ok((_, line)) => lines.push(line),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// The length of one pkt-line as it was told, and what is in it.
fn packet(stream: &mut TcpStream) -> io::Result<(usize, Vec<u8>)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = std::str::from_utf8(&length).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    let length = length.ok_or(io::ErrorKind::InvalidData)?;
    let mut content = vec![0; length.saturating_sub(4)];
    stream.read_exact(&mut content)?;
    Ok((length, content))
}
