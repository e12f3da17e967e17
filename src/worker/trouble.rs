//! From what gix, curl and ssh say to a stable word and one readable line.

use std::io;

use super::protocol::{Answer, Remote};

/// What cannot be done, and why.
#[derive(Debug)]
pub(super) struct Trouble {
    pub reason: &'static str,
    pub message: String,
}

pub(super) type Result<T> = std::result::Result<T, Trouble>;

impl Trouble {
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// `path` cannot be read or written.
    pub fn io(doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        Self::new("cannot-read", format!("cannot {doing} {}: {}", path.display(), why(error)))
    }

    /// What is at hand cannot be used.
    pub fn damaged(what: impl std::fmt::Display, error: &gix::Error) -> Self {
        Self::new("damaged-clone", format!("{what}: {}", chain(error)))
    }

    /// Talking with the server `remote` failed.
    pub fn remote(remote: &Remote, error: &gix::Error) -> Self {
        let said = chain(error);
        let (reason, hint) = judge(remote, error, &said);
        let said =
            if said.contains(NO_SMART_HTTP) { "a web server answers, and not as Git does".to_owned() } else { said };
        let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
        let through = if remote.proxy.is_empty() { String::new() } else { format!(" (through {})", remote.proxy) };
        Self::new(reason, format!("{}{through}: {said}{hint}", remote.url))
    }
}

impl From<Trouble> for Answer {
    fn from(trouble: Trouble) -> Self {
        Self::Error { reason: trouble.reason.to_owned(), message: trouble.message }
    }
}

/// What the system said, without its number.
fn why(error: &io::Error) -> String {
    let said = error.to_string();
    said.split(" (os error").next().unwrap_or(&said).to_owned()
}

/// Everything the error says, outermost first, once each.
fn chain(error: &gix::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for part in error.iter_errors() {
        let part = format!("{part:#}");
        let part = part.split(" (os error").next().unwrap_or("").trim();
        if !part.is_empty() && !said.iter().any(|have| have.contains(part)) {
            said.push(part.to_owned());
        }
    }
    // What stands last is what happened; what stands first only says where.
    if said.len() > 1 {
        said.remove(0);
    }
    said.join(": ")
}

const REDIRECT: &str = "redirects are not followed; put the address that the repository has now into source.url";
const NO_LOGIN: &str = "check source.token_file (https) or source.ssh_key (ssh)";

const NO_WAY_THROUGH: &str = "the proxy in source.proxy does not let us through; trueup has no login for it";
const NOT_OURS: &str = "the server does not take the certificate in source.client_cert";
const NO_CERTIFICATE: &str = "the server asks for a certificate: set source.client_cert and source.client_key";

/// What a server says when it does not take the certificate that it was shown, or was shown none; RFC 8446, 6.2.
const ALERTS: &[&str] = &[
    "alert certificate required",
    "alert bad certificate",
    "alert unknown ca",
    "alert certificate unknown",
    "alert unsupported certificate",
    "alert certificate expired",
    "alert certificate revoked",
    "alert access denied",
];

/// gix of an answer without the content type of Git's own (gitprotocol-http(5)), in many words for programmers.
const NO_SMART_HTTP: &str = "to indicate 'smart' protocol";
const NO_GIT: &str = "check the path in source.url, and that this server has Git's smart HTTP there";

/// The word for the trouble, and what to do about it.
fn judge(remote: &Remote, error: &gix::Error, said: &str) -> (&'static str, &'static str) {
    let has = |text: &str| said.contains(text);
    if let Some(curl) = error.iter_errors().find_map(as_curl) {
        if ALERTS.iter().any(|alert| has(alert)) {
            return ("access-denied", if remote.client_cert.is_empty() { NO_CERTIFICATE } else { NOT_OURS });
        }
        if has("CONNECT tunnel failed, response 40") {
            return ("access-denied", NO_WAY_THROUGH);
        }
        return curl;
    }
    match () {
        () if has("HTTP status 30") => ("redirected", REDIRECT),
        () if has("HTTP status 404") => ("no-such-repository", ""),
        () if has(NO_SMART_HTTP) => ("no-such-repository", NO_GIT),
        () if has("HTTP status 401") || has("HTTP status 403") => ("access-denied", NO_LOGIN),
        () if error.is_unauthenticated() || has("ermission denied") => ("access-denied", NO_LOGIN),
        () if has("Host key verification failed") => ("bad-host-key", "put the server's key into source.known_hosts"),
        () if has("not exported") || has("epository not found") || has("does not appear to be a git repository") => {
            ("no-such-repository", "")
        }
        () if error.iter_errors().any(is_too_large) => ("too-large", LARGER_THAN_ROOM),
        () if error.is_resource_exhausted() => ("too-large", ""),
        () if has("HTTP status 5") || has("HTTP status 429") => ("unreachable", ""),
        () if WAYS_TO_BE_AWAY.iter().any(|text| has(text)) || error.iter_errors().any(is_away) => ("unreachable", ""),
        () => ("fetch-failed", ""),
    }
}

const LARGER_THAN_ROOM: &str =
    "what comes is larger than the share of the disk that it may take: a quarter of what is free";

/// More than a file may hold here; setrlimit(2), RLIMIT_FSIZE.
fn is_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::FileTooLarge)
}

/// What resolvers and ssh say of a server that cannot be spoken with.
const WAYS_TO_BE_AWAY: &[&str] = &[
    "lookup address",
    "resolve host",
    "resolve hostname",
    "connect to host",
    "Connection closed by",
    "Connection to ",
];

fn is_away(error: &(dyn std::error::Error + 'static)) -> bool {
    use io::ErrorKind as Is;
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            Is::ConnectionRefused
                | Is::ConnectionReset
                | Is::ConnectionAborted
                | Is::BrokenPipe
                | Is::NotConnected
                | Is::TimedOut
                | Is::HostUnreachable
                | Is::NetworkUnreachable
                | Is::NetworkDown
        )
    })
}

fn as_curl(error: &(dyn std::error::Error + 'static)) -> Option<(&'static str, &'static str)> {
    let inner = |error: &io::Error| error.get_ref().and_then(|inner| inner.downcast_ref::<curl::Error>().map(of_curl));
    error.downcast_ref::<curl::Error>().map(of_curl).or_else(|| error.downcast_ref::<io::Error>().and_then(inner))
}

fn of_curl(error: &curl::Error) -> (&'static str, &'static str) {
    // A key that is not that of the certificate is an argument that is no good.
    if error.is_ssl_certproblem() || error.is_bad_function_argument() {
        return (
            "bad-certificate",
            "check source.client_cert and source.client_key: PEM, of each other, without a passphrase",
        );
    }
    let certificate = error.is_peer_failed_verification()
        || error.is_ssl_cacert()
        || error.is_ssl_cacert_badfile()
        || error.is_ssl_issuer_error();
    (if certificate { "bad-certificate" } else { "unreachable" }, "")
}
