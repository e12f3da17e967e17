//! HTTP: logins, tokens, redirects.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use trueup::config::SourceSettings;
use trueup::model::Class;

use super::{Bench, check_first};

/// `git http-backend` behind a server of a few lines. `requests` counts; a request without the right
/// `authorization` gets 401.
struct Http {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
    requests: Arc<AtomicUsize>,
}

impl Http {
    /// Of the repository of its bench.
    fn url(&self) -> String {
        let repository = Path::new("work").join(".git");
        format!("http://{}/{}", self.address, repository.display())
    }
}

fn http(base: &Path, authorization: Option<&'static str>, redirect: Option<String>) -> Http {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address").to_string();
    let http = Http { address, seen: Arc::default(), requests: Arc::default() };
    let (seen, requests, base) = (Arc::clone(&http.seen), Arc::clone(&http.requests), base.to_owned());
    thread::spawn(move || {
        for stream in socket.incoming() {
            requests.fetch_add(1, Ordering::SeqCst);
            serve_http(stream.expect("a connection"), &base, authorization, redirect.as_deref(), &seen);
        }
    });
    http
}

fn serve_http(
    stream: TcpStream,
    base: &Path,
    authorization: Option<&str>,
    redirect: Option<&str>,
    seen: &Mutex<Vec<String>>,
) {
    let mut input = BufReader::new(stream.try_clone().expect("a socket"));
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let mut lines = head.iter().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    seen.lock().expect("whole").extend(head.iter().cloned());
    let mut output = stream;
    let mut refuse =
        |line: &str| drop(write!(output, "HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
    if let Some(to) = redirect {
        let path = head[0].split(' ').nth(1).expect("a path");
        return refuse(&format!("301 Moved\r\nLocation: {to}{path}"));
    }
    if authorization.is_some() && header("authorization").as_deref() != authorization {
        return refuse("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"");
    }
    let mut parts = head[0].split(' ');
    let (method, target) = (parts.next().expect("a method"), parts.next().expect("a target"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().expect("a length"))];
    input.read_exact(&mut body).expect("the body");
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", base)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git http-backend starts");
    backend.stdin.take().expect("stdin").write_all(&body).expect("takes the body");
    let answer = backend.wait_with_output().expect("ends").stdout;
    let text = String::from_utf8_lossy(&answer);
    let status = text.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    drop(write!(output, "HTTP/1.1 {status}\r\nConnection: close\r\n"));
    drop(output.write_all(&answer));
}

#[test]
fn http_is_cloned_from_and_looked_at() {
    let bench = Bench::new();
    let server = http(bench.at.path(), None, None);
    let settings = bench.settings(&server.url());
    check_first(&mut bench.open(&settings).expect("clones"));
    let before = server.requests.load(Ordering::SeqCst);
    check_first(&mut bench.open(&settings).expect("looks"));
    assert_eq!(server.requests.load(Ordering::SeqCst) - before, 2, "the handshake and one list of references");
    let error = bench.open(&bench.settings(&format!("http://{}/none", server.address))).expect_err("not there");
    assert_eq!((error.reason(), error.class()), ("no-such-repository", Class::Stalled), "{error}");
}

#[test]
fn a_token_is_not_sent_in_the_open_and_a_login_that_is_asked_for_is_an_error() {
    let bench = Bench::new();
    let server = http(bench.at.path(), Some("Basic nobody-knows"), None);
    let token = bench.at.path().join("token");
    fs::write(&token, "s3cret\n").expect("write");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("chmod");
    let settings = SourceSettings { token_file: Some(token), ..bench.settings(&server.url()) };
    let error = bench.open(&settings).expect_err("no login");
    assert_eq!((error.reason(), error.class()), ("access-denied", Class::Stalled), "{error}");
    let seen = server.seen.lock().expect("whole");
    assert!(!seen.is_empty() && seen.iter().all(|line| !line.to_lowercase().starts_with("authorization")), "{seen:?}");
}

#[test]
fn a_redirect_is_not_followed() {
    let bench = Bench::new();
    let other = http(bench.at.path(), None, None);
    let server = http(bench.at.path(), None, Some(format!("http://{}", other.address)));
    let error = bench.open(&bench.settings(&server.url())).expect_err("redirected");
    assert_eq!((error.reason(), error.class()), ("redirected", Class::Stalled), "{error}");
    assert!(error.to_string().contains("source.url"), "{error}");
    assert_eq!(other.requests.load(Ordering::SeqCst), 0);
}

#[test]
fn a_token_file_that_everybody_can_read_is_refused() {
    let bench = Bench::new();
    let token = bench.at.path().join("token");
    fs::write(&token, "s3cret\n").expect("write");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).expect("chmod");
    let settings = SourceSettings { token_file: Some(token), ..bench.settings("https://127.0.0.1:1/x") };
    let error = bench.open(&settings).expect_err("refused");
    assert_eq!(error.reason(), "bad-settings");
    assert!(error.to_string().contains("chmod 600"), "{error}");
}
