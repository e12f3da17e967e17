//! Requests over https, and over http where that is allowed, by curl: for a fetch, and for the look at one ref.
//!
//! gix has a transport of its own for curl, which can neither show a certificate of ours nor be kept from what it finds
//! around it. This one is driven by whoever reads: there is no thread, and no more of an answer in memory than is read.

use std::cell::RefCell;
use std::io::{self, BufRead, Read, Write};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use curl::easy::{Easy2, Handler, List, NetRc, WriteError};
use curl::multi::{Easy2Handle, Multi};
use gix::protocol::transport::client;
use gix::protocol::transport::client::blocking_io::http::{GetResponse, PostBodyDataKind, PostResponse};

use super::protocol::Remote;

/// How long until there is a connection.
const CONNECT: Duration = Duration::from_secs(20);
/// A server that has died, or trickles: bytes a second,
const SLOW: u32 = 10;
/// over so long.
const SLOW_FOR: Duration = Duration::from_secs(30);

/// What an answer's head may hold, in bytes.
const LARGEST_HEAD: usize = 64 << 10;
/// What a request may hold, in bytes: the names of what is wanted and of what is there.
const LARGEST_REQUEST: usize = 16 << 20;
/// How much of an answer is taken before somebody reads it, in bytes.
const AHEAD: usize = 256 << 10;

/// gix's way to a server.
pub(super) struct Http {
    remote: Remote,
    /// It keeps the connection from one request to the next.
    multi: Rc<Multi>,
}

/// One request and its answer, which begins when somebody wants to read it.
pub(super) struct Exchange {
    multi: Rc<Multi>,
    state: State,
    /// What is sent; none where nothing is asked for but what is there.
    request: Option<Vec<u8>>,
    head_is_good: bool,
    /// Nothing came of the last step.
    idle: bool,
}

enum State {
    Prepared(Box<Easy2<Received>>),
    Running(Easy2Handle<Received>),
    Ended(Received),
    Failed,
}

/// What has come and was not read yet.
#[derive(Default)]
pub(super) struct Received {
    status: u16,
    head: Vec<u8>,
    body: Vec<u8>,
    paused: bool,
}

impl Handler for Received {
    fn header(&mut self, line: &[u8]) -> bool {
        // A proxy's own answer, and what is only said meanwhile, come first.
        if let Some(rest) = line.strip_prefix(b"HTTP/") {
            self.head.clear();
            let status = rest.split(|byte| *byte == b' ').nth(1).and_then(|word| std::str::from_utf8(word).ok());
            self.status = status.and_then(|word| word.trim().parse().ok()).unwrap_or_default();
        }
        self.head.extend_from_slice(line);
        self.head.len() <= LARGEST_HEAD
    }

    fn write(&mut self, part: &[u8]) -> Result<usize, WriteError> {
        if self.body.len() >= AHEAD {
            self.paused = true;
            return Err(WriteError::Pause);
        }
        self.body.extend_from_slice(part);
        Ok(part.len())
    }
}

impl Received {
    /// Whether the server has what was asked for.
    fn judge(&self) -> io::Result<()> {
        match self.status {
            200..300 => Ok(()),
            401 => {
                let offers = self.header_values("www-authenticate");
                let required = client::AuthenticationRequired { www_authenticate: offers };
                Err(io::Error::new(io::ErrorKind::PermissionDenied, required))
            }
            status => Err(io::Error::other(format!("Received HTTP status {status}"))),
        }
    }

    fn header_values<T: for<'a> From<&'a str>>(&self, name: &str) -> Vec<T> {
        let text = String::from_utf8_lossy(&self.head);
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().into()).collect()
    }
}

/// A request to `remote` at `url`, with what every one of them has.
fn prepared(remote: &Remote, url: &str, headers: List) -> Result<Easy2<Received>, curl::Error> {
    let mut easy = Easy2::new(Received::default());
    easy.url(url)?;
    // What is sent goes to the authority that root named, and to no other.
    easy.follow_location(false)?;
    easy.netrc(NetRc::Ignored)?;
    // Said, though empty: else the environment is asked.
    easy.proxy(&remote.proxy)?;
    easy.noproxy("")?;
    easy.connect_timeout(CONNECT)?;
    easy.low_speed_limit(SLOW)?;
    easy.low_speed_time(SLOW_FOR)?;
    if !remote.ca_file.is_empty() {
        easy.cainfo(&remote.ca_file)?;
        // Else what the system believes is believed besides.
        easy.capath("/dev/null")?;
    }
    if !remote.client_cert.is_empty() {
        easy.ssl_cert(&remote.client_cert)?;
        easy.ssl_cert_type("PEM")?;
        easy.ssl_key(&remote.client_key)?;
        easy.ssl_key_type("PEM")?;
        // Said, though empty: else the terminal is asked.
        easy.key_password("")?;
    }
    easy.http_headers(headers)?;
    Ok(easy)
}

impl Exchange {
    /// A request that sends `request`, or only asks where there is none.
    ///
    /// # Errors
    /// Where curl takes the URL or a header for none.
    pub(super) fn new(
        remote: &Remote,
        multi: Rc<Multi>,
        url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        request: Option<Vec<u8>>,
    ) -> Result<Self, curl::Error> {
        let mut list = List::new();
        for header in headers {
            list.append(header.as_ref())?;
        }
        // A large request is not announced first.
        list.append("Expect:")?;
        let easy = prepared(remote, url, list)?;
        Ok(Self { multi, state: State::Prepared(Box::new(easy)), request, head_is_good: false, idle: false })
    }

    /// The head of the answer, once that has come and is a good one.
    fn head(&mut self) -> io::Result<Vec<u8>> {
        while self.received().is_none_or(|received| received.body.is_empty()) && !self.is_over() {
            self.step()?;
        }
        let Some(received) = self.received() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        received.judge()?;
        self.head_is_good = true;
        Ok(self.received().map(|received| std::mem::take(&mut received.head)).unwrap_or_default())
    }

    /// The next part of the answer into `buffer`; nothing at its end.
    fn next(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        if !self.head_is_good {
            self.head()?;
        }
        loop {
            if let Some(received) = self.received() {
                std::mem::swap(&mut received.body, buffer);
            }
            if !buffer.is_empty() || self.is_over() {
                return Ok(());
            }
            if let State::Running(handle) = &mut self.state
                && std::mem::take(&mut handle.get_mut().paused)
            {
                // What was held back comes at once.
                handle.unpause_write().map_err(io::Error::other)?;
            } else {
                self.step()?;
            }
        }
    }

    fn received(&mut self) -> Option<&mut Received> {
        match &mut self.state {
            State::Prepared(easy) => Some(easy.get_mut()),
            State::Running(handle) => Some(handle.get_mut()),
            State::Ended(received) => Some(received),
            State::Failed => None,
        }
    }

    /// How much there is to read.
    fn amount(&mut self) -> usize {
        self.received().map_or(0, |received| received.head.len() + received.body.len())
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Ended(_) | State::Failed)
    }

    /// Waits for the network once, and takes what has come.
    fn step(&mut self) -> io::Result<()> {
        const A_WHILE: Duration = Duration::from_secs(1);
        const A_MOMENT: Duration = Duration::from_millis(5);
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Prepared(mut easy) => {
                if let Some(request) = self.request.take() {
                    easy.post(true).map_err(io::Error::other)?;
                    easy.post_fields_copy(&request).map_err(io::Error::other)?;
                }
                self.state = State::Running(self.multi.add2(*easy).map_err(io::Error::other)?);
            }
            State::Running(handle) => {
                let ready = self.multi.wait(&mut [], A_WHILE).map_err(io::Error::other)?;
                // It does not wait where there is nothing to wait on, as while a name is looked up.
                if ready == 0 && self.idle {
                    thread::sleep(A_MOMENT);
                }
                self.state = State::Running(handle);
            }
            over => {
                self.state = over;
                return Ok(());
            }
        }
        let before = self.amount();
        self.multi.perform().map_err(io::Error::other)?;
        self.idle = self.amount() == before;
        let State::Running(handle) = &self.state else { return Ok(()) };
        let mut result = None;
        self.multi.messages(|message| result = message.result_for2(handle).or(result.take()));
        match (result, std::mem::replace(&mut self.state, State::Failed)) {
            (None, going_on) => self.state = going_on,
            (Some(Ok(())), State::Running(handle)) => {
                let mut easy = self.multi.remove2(handle).map_err(io::Error::other)?;
                self.state = State::Ended(std::mem::take(easy.get_mut()));
            }
            (Some(Err(error)), _) => return Err(io::Error::other(error)),
            (Some(Ok(())), _) => {}
        }
        Ok(())
    }
}

type Shared = Rc<RefCell<Exchange>>;

/// The lines of an answer's head.
pub(super) struct Headers {
    exchange: Option<Shared>,
    lines: io::Cursor<Vec<u8>>,
}

/// The body of an answer.
pub(super) struct Body {
    exchange: Shared,
    part: Vec<u8>,
    at: usize,
}

/// The body of a request.
pub(super) struct Request(Shared);

impl Body {
    /// Of an exchange of which the head is of no interest.
    pub(super) fn of(exchange: Exchange) -> Self {
        Self::over(Rc::new(RefCell::new(exchange)))
    }

    fn over(exchange: Shared) -> Self {
        Self { exchange, part: Vec::new(), at: 0 }
    }
}

impl BufRead for Headers {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Some(exchange) = self.exchange.take() {
            self.lines = io::Cursor::new(exchange.borrow_mut().head()?);
        }
        self.lines.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.lines.consume(amount);
    }
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.part.len() {
            self.at = 0;
            self.exchange.borrow_mut().next(&mut self.part)?;
        }
        Ok(&self.part[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Headers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl Write for Request {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let mut exchange = self.0.borrow_mut();
        let request = exchange.request.get_or_insert_default();
        if request.len() + part.len() > LARGEST_REQUEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        request.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Http {
    pub(super) fn new(remote: &Remote) -> Self {
        Self { remote: remote.clone(), multi: Rc::new(Multi::new()) }
    }

    fn begin(
        &self,
        url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        request: Option<Vec<u8>>,
    ) -> gix::Result<PostResponse<Headers, Body, Request>> {
        let exchange = Exchange::new(&self.remote, Rc::clone(&self.multi), url, headers, request);
        let exchange = Rc::new(RefCell::new(exchange.map_err(gix::Error::from_error)?));
        Ok(PostResponse {
            post_body: Request(Rc::clone(&exchange)),
            headers: Headers { exchange: Some(Rc::clone(&exchange)), lines: io::Cursor::default() },
            body: Body::over(exchange),
        })
    }
}

impl client::blocking_io::http::Http for Http {
    type Headers = Headers;
    type ResponseBody = Body;
    type PostBody = Request;

    fn get(
        &mut self,
        url: &str,
        _base: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Headers, Body>> {
        self.begin(url, headers, None).map(Into::into)
    }

    fn post(
        &mut self,
        url: &str,
        _base: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _kind: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Headers, Body, Request>> {
        self.begin(url, headers, Some(Vec::new()))
    }

    /// What there is to configure stands in the `Remote`.
    fn configure(&mut self, _config: &dyn std::any::Any) -> gix::Result {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers each request with the next of `answers`; its URL.
    fn server(answers: Vec<Vec<u8>>) -> String {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/x", socket.local_addr().expect("an address"));
        thread::spawn(move || {
            for (answer, stream) in answers.into_iter().zip(socket.incoming()) {
                let mut stream = stream.expect("a connection");
                let mut input = io::BufReader::new(stream.try_clone().expect("a socket"));
                let mut line = String::new();
                while input.read_line(&mut line).is_ok_and(|length| length > 2) {
                    line.clear();
                }
                // Whoever has read enough goes.
                let _ = stream.write_all(&answer);
            }
        });
        url
    }

    fn exchange(url: &str, request: Option<Vec<u8>>) -> Exchange {
        let remote = Remote {
            url: url.to_owned(),
            cache: String::new(),
            beside: Vec::new(),
            insecure: true,
            ca_file: String::new(),
            proxy: String::new(),
            client_cert: String::new(),
            client_key: String::new(),
            login: None,
            ssh_key: String::new(),
            known_hosts: String::new(),
        };
        Exchange::new(&remote, Rc::new(Multi::new()), url, ["Accept: x"], request).expect("a request")
    }

    fn answer(head: &str, body: &[u8]) -> Vec<u8> {
        [format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes(), body].concat()
    }

    #[test]
    fn an_answer_that_nobody_reads_is_not_taken_in_and_whoever_reads_gets_all_of_it() {
        let long: Vec<u8> = (0..8_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let url = server(vec![answer("200 OK", &long)]);
        let mut exchange = exchange(&url, None);
        for _ in 0..200 {
            if let State::Running(handle) = &mut exchange.state
                && handle.get_ref().paused
            {
                break;
            }
            exchange.step().expect("goes on");
        }
        let held = exchange.received().expect("it goes on");
        assert!(held.paused && held.body.len() < 2 * AHEAD, "{}", held.body.len());
        let mut body = Body::of(exchange);
        let mut all = Vec::new();
        while let Ok(part) = body.fill_buf()
            && !part.is_empty()
        {
            assert!(part.len() < 2 * AHEAD, "{}", part.len());
            let taken = part.len().min(10_000);
            all.extend_from_slice(&part[..taken]);
            body.consume(taken);
        }
        assert!(all == long, "{} of {}", all.len(), long.len());
    }

    #[test]
    fn what_is_no_success_is_an_error_with_its_status_and_nothing_of_it_is_read() {
        let url = server(vec![
            answer("404 Not Found", b"secret"),
            answer("301 Moved\r\nLocation: http://127.0.0.1:1/", b"secret"),
            answer("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", b"secret"),
            answer("nonsense", b"secret"),
        ]);
        let read = || {
            let mut text = String::new();
            let error = Body::of(exchange(&url, Some(b"ask".to_vec()))).read_to_string(&mut text).expect_err("refused");
            assert_eq!(text, "");
            error
        };
        assert_eq!(read().to_string(), "Received HTTP status 404");
        assert_eq!(read().to_string(), "Received HTTP status 301");
        let error = read();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let offers = error.get_ref().and_then(|inner| inner.downcast_ref::<client::AuthenticationRequired>());
        assert_eq!(offers.expect("what it offers").www_authenticate, ["Basic realm=\"x\""]);
        read();
    }

    #[test]
    fn a_head_and_a_request_without_end_are_cut() {
        let url = server(vec![[b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'x'; 4 * LARGEST_HEAD]].concat()]);
        assert!(Body::of(exchange(&url, None)).read(&mut [0]).is_err());
        let mut request = Request(Rc::new(RefCell::new(exchange(&url, Some(Vec::new())))));
        request.write_all(&vec![0; LARGEST_REQUEST]).expect("at the limit");
        assert_eq!(request.write(&[0]).expect_err("over it").kind(), io::ErrorKind::FileTooLarge);
    }
}
