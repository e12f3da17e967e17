//! The side of a check that speaks to the network: behind the same wall as what fetches, it asks once and says in one
//! line how that went.

use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use curl::easy::{Easy2, Handler, NetRc, WriteError};

use super::wall::Wall;

/// Names are asked for over TCP as well, where the answer is long; RFC 7766.
const DNS: u16 = 53;
/// What is read of an answer, in bytes: how it begins is enough.
const ENOUGH: usize = 64 << 10;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether a URL answers well.
    Http(String),
    /// Whether somebody listens at an address and port.
    Tcp(String),
    /// Whether a host answers at all, be it that nobody listens there.
    Host(String),
    /// Whether a name has an address.
    Name(String),
}

impl Question {
    /// The TCP port that it needs; none where it says none that can be.
    pub fn port(&self) -> Option<u16> {
        let after_brackets = |text: &str| text.rsplit_once(']').map_or(text.to_owned(), |(_, after)| after.to_owned());
        match self {
            Self::Tcp(address) => address.rsplit_once(':')?.1.parse().ok(),
            Self::Host(_) | Self::Name(_) => Some(DNS),
            Self::Http(url) => {
                let (scheme, rest) = url.split_once("://")?;
                let authority = rest.split(['/', '?', '#']).next()?;
                match after_brackets(authority).rsplit_once(':') {
                    Some((_, port)) => port.parse().ok(),
                    None if scheme == "https" => Some(443),
                    None => Some(80),
                }
            }
        }
    }

    /// The wall around whoever asks.
    pub fn wall(&self, user: Option<(u32, u32)>) -> Wall {
        Wall { user, ports: Some(self.port().into_iter().chain([DNS]).collect()), ..Wall::default() }
    }

    /// As arguments of the verb that asks; `trueup check-worker` reads them.
    pub fn arguments(&self, user: Option<(u32, u32)>, limit: Duration) -> Vec<String> {
        let mut arguments = vec!["check-worker".to_owned(), "--limit".to_owned(), limit.as_millis().to_string()];
        if let Some((uid, gid)) = user {
            arguments.extend(["--user".to_owned(), format!("{uid}:{gid}")]);
        }
        let (name, value) = match self {
            Self::Http(url) => ("--http", url),
            Self::Tcp(address) => ("--tcp", address),
            Self::Host(address) => ("--host", address),
            Self::Name(name) => ("--name", name),
        };
        arguments.extend([name.to_owned(), value.clone()]);
        arguments
    }

    fn ask(&self, limit: Duration) -> Result<(), String> {
        match self {
            Self::Http(url) => http(url, limit),
            Self::Tcp(address) => connect(address.as_str(), limit).map_err(|error| error.to_string()),
            Self::Host(address) => match connect((address.as_str(), DNS), limit) {
                Err(error) if error.kind() != ErrorKind::ConnectionRefused => Err(error.to_string()),
                _ => Ok(()),
            },
            Self::Name(name) => (name.as_str(), DNS).to_socket_addrs().map(drop).map_err(|error| error.to_string()),
        }
    }
}

/// Asks, behind its wall; how that went is the exit code, and why not is a line on standard error.
pub fn ask(question: &Question, user: Option<(u32, u32)>, limit: Duration) -> ExitCode {
    let _ = nix::sys::prctl::set_name(c"trueup-check");
    let asked = question.wall(user).raise().map_err(|error| error.to_string());
    match asked.and_then(|_| question.ask(limit)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn connect(to: impl ToSocketAddrs, limit: Duration) -> io::Result<()> {
    let begun = Instant::now();
    let mut last = io::Error::new(ErrorKind::NotFound, "it has no address");
    for address in to.to_socket_addrs()? {
        let left = limit.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Takes the beginning of an answer and leaves the rest.
struct Beginning(usize);

impl Handler for Beginning {
    fn write(&mut self, part: &[u8]) -> Result<usize, WriteError> {
        self.0 += part.len();
        // Fewer bytes than came end it.
        Ok(if self.0 > ENOUGH { 0 } else { part.len() })
    }
}

fn http(url: &str, limit: Duration) -> Result<(), String> {
    let mut easy = Easy2::new(Beginning(0));
    let prepare = |easy: &mut Easy2<Beginning>| -> Result<(), curl::Error> {
        easy.url(url)?;
        easy.follow_location(false)?;
        easy.netrc(NetRc::Ignored)?;
        // Said, though empty: else the environment is asked.
        easy.proxy("")?;
        easy.noproxy("")?;
        easy.useragent(concat!("trueup/", env!("CARGO_PKG_VERSION")))?;
        easy.connect_timeout(limit)?;
        easy.timeout(limit)
    };
    prepare(&mut easy).map_err(|error| error.to_string())?;
    let asked = easy.perform();
    let status = easy.response_code().unwrap_or_default();
    match (status, asked) {
        (200..400, Ok(())) => Ok(()),
        (200..400, Err(_)) if easy.get_ref().0 > ENOUGH => Ok(()),
        (0 | 200..400, Err(error)) => Err(error.extra_description().unwrap_or(error.description()).to_owned()),
        (0, Ok(())) => Err("it did not answer".to_owned()),
        (status, _) => Err(format!("it answered {status}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A server that answers once.
    fn answering(answer: &'static str) -> String {
        let server = TcpListener::bind("127.0.0.1:0").expect("a server");
        let address = server.local_addr().expect("an address").to_string();
        thread::spawn(move || {
            let (mut client, _) = server.accept().expect("somebody asks");
            let _ = client.read(&mut [0; 4096]);
            client.write_all(answer.as_bytes()).expect("answered");
        });
        address
    }

    #[test]
    fn an_answer_holds_where_it_is_success_or_another_place_to_look() {
        for (answer, holds) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok(())),
            ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Ok(())),
            ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Err("it answered 503".to_owned())),
        ] {
            let question = Question::Http(format!("http://{}/healthz", answering(answer)));
            assert_eq!(question.ask(LIMIT), holds, "{answer}");
        }
        assert!(Question::Http(format!("http://{}/", answering("nonsense\r\n"))).ask(LIMIT).is_err());
    }

    #[test]
    fn somebody_has_to_listen() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a server");
        let address = server.local_addr().expect("an address").to_string();
        assert_eq!(Question::Tcp(address.clone()).ask(LIMIT), Ok(()));
        drop(server);
        assert!(Question::Tcp(address.clone()).ask(LIMIT).is_err());
        assert!(Question::Http(format!("http://{address}/")).ask(LIMIT).is_err());
    }

    #[test]
    fn a_name_has_an_address_or_none() {
        assert_eq!(Question::Name("localhost".to_owned()).ask(LIMIT), Ok(()));
        assert!(Question::Name("a b".to_owned()).ask(LIMIT).is_err());
    }

    #[test]
    fn a_host_answers_where_it_refuses_too() {
        assert_eq!(Question::Host("127.0.0.1".to_owned()).ask(LIMIT), Ok(()));
        assert!(Question::Host("".to_owned()).ask(LIMIT).is_err());
        assert_eq!(Question::Host("fe80::1%lo".to_owned()).port(), Some(DNS));
    }

    #[test]
    fn whoever_asks_may_connect_to_the_port_that_it_asks_and_no_other() {
        let port = |url: &str| Question::Http(url.to_owned()).port();
        assert_eq!(port("http://a/x:1"), Some(80));
        assert_eq!(port("https://a"), Some(443));
        assert_eq!(port("https://[::1]:8443/x"), Some(8443));
        assert_eq!(port("http://[::1]/"), Some(80));
        assert_eq!(Question::Tcp("[::1]:22".to_owned()).port(), Some(22));
        assert_eq!(Question::Tcp("a:22".to_owned()).wall(None).ports, Some(vec![22, DNS]));
    }
}
