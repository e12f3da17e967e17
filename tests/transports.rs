//! What the source is reached through, and what of several URLs is asked first: through the real worker, at servers on
//! the loopback address.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use trueup::config::SourceSettings;
use trueup::model::{Class, CommitId};
use trueup::source::{Known, Record, SharedHealth, Source, SourceError};

use crate::source::{Bench, Server, background, check_first, free_port, git, git_daemon, run};

const TOKEN: &str = "tok-5b2e91";
/// The user name that a token is sent with, and the token, as they are in a request.
const IN_A_REQUEST: &str = "eC10b2tlbi1hdXRoOnRvay01YjJlOTE=";

/// A directory of certificates; `ca` is the authority that is believed, `other` one that is not.
struct Certificates(PathBuf);

/// What the bench's repository is called on a server of all that is below the bench.
fn served(bench: &Bench) -> String {
    let repository = bench.work().join(".git");
    format!("/{}", repository.strip_prefix(bench.at.path()).expect("below it").display())
}

impl Certificates {
    fn new(bench: &Bench) -> Self {
        let directory = bench.at.path().join("tls");
        fs::create_dir(&directory).expect("mkdir");
        let made = Self(directory);
        for name in ["ca", "other"] {
            let (key, certificate) = (made.key(name), made.certificate(name));
            let make = ["req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", &format!("/CN={name}")];
            run("openssl", &[&make[..], &["-keyout", &key, "-out", &certificate]].concat());
        }
        made.sign("server", "ca", "IP:127.0.0.1,IP:127.0.0.2,DNS:git.fleet.test", "2");
        made
    }

    /// A certificate called `name` by the authority `by`, for the names `of`.
    fn sign(&self, name: &str, by: &str, of: &str, days: &str) {
        let (request, names) = (self.path(name, "request"), format!("subjectAltName={of}"));
        let subject = format!("/CN={name}");
        let make = ["req", "-new", "-newkey", "ed25519", "-nodes", "-subj", &subject, "-addext", &names];
        run("openssl", &[&make[..], &["-keyout", &self.key(name), "-out", &request]].concat());
        let sign = ["x509", "-req", "-in", &request, "-days", days, "-copy_extensions", "copy", "-CAcreateserial"];
        let by = ["-CA", &self.certificate(by), "-CAkey", &self.key(by), "-out", &self.certificate(name)];
        run("openssl", &[&sign[..], &by].concat());
        fs::set_permissions(self.key(name), fs::Permissions::from_mode(0o600)).expect("chmod");
    }

    fn path(&self, name: &str, what: &str) -> String {
        self.0.join(format!("{name}.{what}")).display().to_string()
    }

    fn key(&self, name: &str) -> String {
        self.path(name, "key")
    }

    fn certificate(&self, name: &str) -> String {
        self.path(name, "pem")
    }

    /// A server of the repositories of `bench` with the certificate `name`, and what it logs.
    fn serve(&self, bench: &Bench, name: &str, more: &[&str]) -> (Server, u16, PathBuf) {
        let port = free_port();
        let (server, log) = self.serve_at(bench, "127.0.0.1", port, name, more);
        (server, port, log)
    }

    fn serve_at(&self, bench: &Bench, address: &str, port: u16, name: &str, more: &[&str]) -> (Server, PathBuf) {
        let log = bench.at.path().join(format!("log-{name}-{}", free_port()));
        let mut server = script("https_git.py");
        server.args(["--listen", &format!("{address}:{port}"), "--root", &bench.at.path().display().to_string()]);
        server.args(["--certificate", &self.certificate(name), "--key", &self.key(name)]);
        server.args(["--log", &log.display().to_string()]).args(more);
        let started = background(&mut server, port);
        while TcpStream::connect((address, port)).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        (started, log)
    }

    /// The source at that port.
    fn settings(&self, bench: &Bench, port: u16) -> SourceSettings {
        let settings = bench.settings(&format!("https://127.0.0.1:{port}{}", served(bench)));
        SourceSettings { ca_file: Some(self.certificate("ca").into()), allow_insecure: false, ..settings }
    }

    fn shown(&self, name: &str, key: &str, settings: &SourceSettings) -> SourceSettings {
        let (client_cert, client_key) = (Some(self.certificate(name).into()), Some(self.key(key).into()));
        SourceSettings { client_cert, client_key, ..settings.clone() }
    }
}

fn script(name: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(name));
    command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    command
}

fn proxy(bench: &Bench, more: &[&str]) -> (Server, String, PathBuf) {
    let (port, log) = (free_port(), bench.at.path().join(format!("proxy-{}", free_port())));
    let mut proxy = script("http_proxy.py");
    proxy.args(["--listen", &format!("127.0.0.1:{port}"), "--to", "127.0.0.1", "--log", &log.display().to_string()]);
    (background(proxy.args(more), port), format!("http://127.0.0.1:{port}"), log)
}

fn token(bench: &Bench) -> PathBuf {
    let path = bench.at.path().join("token");
    fs::write(&path, format!("{TOKEN}\n")).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    path
}

fn read(log: &Path) -> String {
    fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn refused(bench: &Bench, settings: &SourceSettings, reason: &str, said: &[&str]) -> SourceError {
    let error = bench.open(settings).expect_err(reason);
    assert_eq!(error.reason(), reason, "{error}");
    said.iter().for_each(|word| assert!(error.to_string().contains(word), "{word:?} was to be said: {error}"));
    error
}

#[test]
fn a_server_that_asks_for_a_certificate_is_shown_ours_and_takes_no_other() {
    let bench = Bench::new();
    let tls = Certificates::new(&bench);
    tls.sign("client", "ca", "DNS:web-01", "2");
    tls.sign("stranger", "other", "DNS:web-01", "2");
    let (_server, port, log) = tls.serve(&bench, "server", &["--client-authority", &tls.certificate("ca")]);
    let settings = tls.settings(&bench, port);
    let ours = tls.shown("client", "client", &settings);
    check_first(&mut bench.open(&ours).expect("clones"));
    let before = read(&log).lines().filter(|line| line.starts_with("POST")).count();
    check_first(&mut bench.open(&ours).expect("looks"));
    assert_eq!(read(&log).lines().filter(|line| line.starts_with("POST")).count(), before + 1, "one request");
    bench.commit("second");
    assert_eq!(bench.open(&ours).expect("fetches").tip().subject, "second");

    let error = refused(&bench, &settings, "access-denied", &["certificate required", "set source.client_cert"]);
    assert_eq!(error.class(), Class::Stalled);
    let stranger = tls.shown("stranger", "stranger", &settings);
    refused(&bench, &stranger, "access-denied", &["unknown ca", "does not take", "source.client_cert"]);
    let mixed = tls.shown("client", "stranger", &settings);
    refused(&bench, &mixed, "bad-certificate", &["source.client_key"]);
    fs::set_permissions(tls.key("client"), fs::Permissions::from_mode(0o644)).expect("chmod");
    refused(&bench, &ours, "bad-settings", &["client.key", "chmod 600"]);
}

#[test]
fn a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it() {
    let bench = Bench::new();
    let tls = Certificates::new(&bench);
    tls.sign("client", "ca", "DNS:web-01", "2");
    let locked = tls.key("locked");
    run("openssl", &["pkey", "-in", &tls.key("client"), "-aes256", "-passout", "pass:word", "-out", &locked]);
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o600)).expect("chmod");
    let (_server, port, _) = tls.serve(&bench, "server", &["--client-authority", &tls.certificate("ca")]);
    let settings = tls.shown("client", "locked", &tls.settings(&bench, port));
    let settings = SourceSettings { timeout: Duration::from_secs(20), ..settings };
    refused(&bench, &settings, "bad-certificate", &["without a passphrase"]);
}

#[test]
fn certificates_of_servers_are_refused_each_with_its_reason() {
    let bench = Bench::new();
    let tls = Certificates::new(&bench);
    let told = |name: &str, said: &str| {
        let (_server, port, log) = tls.serve(&bench, name, &["--token", TOKEN]);
        let settings = SourceSettings { token_file: Some(token(&bench)), ..tls.settings(&bench, port) };
        let error = refused(&bench, &settings, "bad-certificate", &[said]);
        assert_eq!(error.class(), Class::Stalled);
        assert_eq!(read(&log), "", "nothing is asked of a server that is not believed");
    };
    let (key, certificate) = (tls.key("self"), tls.certificate("self"));
    let subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
    let make = ["req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-keyout", &key, "-out", &certificate];
    run("openssl", &[&make[..], &subject].concat());
    told("self", "self-signed certificate");
    tls.sign("old", "ca", "IP:127.0.0.1", "-1");
    told("old", "certificate has expired");
    tls.sign("named", "ca", "DNS:elsewhere.example,IP:192.0.2.1", "2");
    told("named", "no alternative certificate subject name matches");
    tls.sign("stranger", "other", "IP:127.0.0.1", "2");
    told("stranger", "issuer certificate");
}

#[test]
fn a_proxy_is_asked_to_connect_and_sees_no_token() {
    let bench = Bench::new();
    let tls = Certificates::new(&bench);
    let (_server, port, seen) = tls.serve(&bench, "server", &["--token", TOKEN]);
    // A name that only the proxy knows: the server cannot be reached without it.
    let url = format!("https://git.fleet.test:{port}{}", served(&bench));
    let direct =
        SourceSettings { urls: vec![url.clone()], token_file: Some(token(&bench)), ..tls.settings(&bench, port) };
    refused(&bench, &direct, "unreachable", &["git.fleet.test"]);
    let (_proxy, address, log) = proxy(&bench, &[]);
    let through = SourceSettings { proxy: Some(address.clone()), ..direct };
    check_first(&mut bench.open(&through).expect("clones"));
    check_first(&mut bench.open(&through).expect("looks"));
    let passed = read(&log);
    assert!(passed.contains(&format!("CONNECT git.fleet.test:{port} HTTP/1.1")), "{passed}");
    assert!(!passed.to_lowercase().contains("authorization"), "{passed}");
    assert!(!passed.contains(TOKEN) && !passed.contains(IN_A_REQUEST), "{passed}");
    assert!(read(&seen).contains(IN_A_REQUEST), "it goes to the server alone");

    let dead = SourceSettings { proxy: Some(format!("http://127.0.0.1:{}", free_port())), ..through.clone() };
    refused(&bench, &dead, "unreachable", &["(through http://127.0.0.1:"]);
    let (_closed, closed, log) = proxy(&bench, &["--refuse", "407"]);
    let closed = SourceSettings { proxy: Some(closed), ..through.clone() };
    refused(&bench, &closed, "access-denied", &["response 407", "source.proxy"]);
    assert!(!read(&log).contains(IN_A_REQUEST));
}

#[test]
fn a_redirect_to_another_host_gets_no_token_whenever_it_comes() {
    let bench = Bench::new();
    let tls = Certificates::new(&bench);
    let port = free_port();
    let settings = SourceSettings { token_file: Some(token(&bench)), ..tls.settings(&bench, port) };
    // The same port, which is open to the worker.
    let to = format!("https://127.0.0.2:{port}");
    let at = |address: &str, more: &[&str]| tls.serve_at(&bench, address, port, "server", more);
    let (server, seen) = at("127.0.0.1", &["--redirect", &to]);
    let (_other, other) = at("127.0.0.2", &[]);
    let error = refused(&bench, &settings, "redirected", &["source.url"]);
    assert_eq!(error.class(), Class::Stalled);
    assert!(!read(&seen).is_empty() && !read(&seen).to_lowercase().contains("authorization"), "it was not asked for");
    drop(server);
    // Where it first asks for the token, and then sends us away.
    let (server, seen) = at("127.0.0.1", &["--redirect", &to, "--token", TOKEN]);
    refused(&bench, &settings, "redirected", &["source.url"]);
    assert!(read(&seen).contains(IN_A_REQUEST), "it is its own token");
    drop(server);
    // Where there is a clone already, and the token goes with the first request.
    let (server, _) = at("127.0.0.1", &["--token", TOKEN]);
    check_first(&mut bench.open(&settings).expect("clones"));
    drop(server);
    let (_server, seen) = at("127.0.0.1", &["--redirect", &to, "--token", TOKEN]);
    refused(&bench, &settings, "redirected", &["source.url"]);
    assert!(read(&seen).starts_with("POST ") && read(&seen).contains("GET "), "{}", read(&seen));
    assert_eq!(read(&other), "", "nothing was sent elsewhere");
}

// Several URLs.

/// A source that is looked for again and again.
struct Seeker<'a> {
    bench: &'a Bench,
    health: SharedHealth,
    record: Record,
    settings: SourceSettings,
    patience: i64,
}

impl<'a> Seeker<'a> {
    fn new(bench: &'a Bench, urls: &[&str]) -> Self {
        let settings =
            SourceSettings { urls: urls.iter().map(|url| (*url).to_owned()).collect(), ..bench.settings("") };
        let settings = SourceSettings { timeout: Duration::from_secs(2), ..settings };
        Self { bench, health: SharedHealth::default(), record: Record::default(), settings, patience: 0 }
    }

    fn look(&self, now: i64) -> Result<Source, SourceError> {
        let known =
            Known { health: &self.health, record: &self.record, floor: None, clock: &|| now, patience: self.patience };
        Source::seek(&self.settings, &self.bench.worker, &known)
    }

    fn takes(&self, now: i64, url: &str) -> Source {
        let source = self.look(now).expect("one answers");
        assert_eq!(source.place(), url);
        assert_eq!(self.health.now().answered(), Some(url));
        source
    }
}

#[test]
fn the_look_after_one_that_the_first_url_did_not_answer_does_not_wait_for_it_again() {
    let bench = Bench::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let dead = format!("git://{}/work", silent.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in silent.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            held.push(stream);
        }
    });
    let (_daemon, url) = git_daemon(bench.at.path());
    let seeker = Seeker::new(&bench, &[&dead, &url]);
    check_first(&mut seeker.takes(1000, &url));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let health = seeker.health.now();
    let failing = health.failing(&dead).expect("it fails");
    assert_eq!((failing.reason, failing.since), ("timed-out", 1000));
    check_first(&mut seeker.takes(1030, &url));
    assert_eq!(asked.load(Ordering::SeqCst), 1, "it rests");
    check_first(&mut seeker.takes(1060, &url));
    assert_eq!(asked.load(Ordering::SeqCst), 2, "it is tried again");
    check_first(&mut seeker.takes(1120, &url));
    assert_eq!(asked.load(Ordering::SeqCst), 2, "and rests for longer");
}

/// `work` is at a commit that contains the one at which the mirror has stopped.
fn lagging(bench: &Bench) -> (String, String, CommitId) {
    git(bench.at.path(), &["clone", "--quiet", "--bare", "work", "mirror.git"]);
    let newest = bench.commit("second");
    let path = |name: &str| bench.at.path().join(name).display().to_string();
    (path("mirror.git"), path("work"), newest)
}

#[test]
fn a_mirror_that_lags_behind_is_passed_over() {
    let bench = Bench::new();
    let (mirror, work, newest) = lagging(&bench);
    let mut seeker = Seeker::new(&bench, &[&mirror, &work]);
    // A host that has not acted on anything yet takes what is preferred.
    assert_eq!(seeker.takes(1000, &mirror).tip().subject, "first");
    seeker.record.apply("main", &newest, 1);
    for now in [1000, 1030, 1090, 9000, 20_000] {
        assert_eq!(seeker.takes(now, &work).tip().subject, "second");
        let health = seeker.health.now();
        let failing = health.failing(&mirror).expect("it lags");
        assert_eq!((failing.reason, failing.since), ("not-a-descendant", 1000));
        assert!(failing.message.contains("does not contain it"), "{failing:?}");
    }
    git(Path::new(&mirror), &["fetch", "--quiet", &work, "main:main"]);
    assert_eq!(seeker.takes(40_000, &mirror).tip().subject, "second", "it has caught up");
    assert_eq!(seeker.health.now().failing(&mirror), None);
}

#[test]
fn where_no_tip_may_be_acted_on_the_preferred_one_is_what_is_refused() {
    let bench = Bench::new();
    let (mirror, work, newest) = lagging(&bench);
    git(&bench.work(), &["reset", "--quiet", "--hard", "HEAD~1"]);
    let forced = bench.commit("forced");
    for (urls, preferred) in [([&mirror, &work], "first"), ([&work, &mirror], "forced")] {
        let mut seeker = Seeker::new(&bench, &[urls[0], urls[1], "/nowhere/fleet.git"]);
        seeker.record.apply("main", &newest, 1);
        for now in [1000, 1010, 1061, 1130, 5000] {
            let mut source = seeker.look(now).expect("two answer");
            assert_eq!((source.place(), source.tip().subject.as_str()), (urls[0].as_str(), preferred));
            let error = source.only_forward(&seeker.record, None).expect_err("refused");
            assert_eq!(error.reason(), "not-a-descendant");
        }
    }
    assert_ne!(forced, newest);
}

#[test]
fn a_mirror_that_lags_behind_is_no_refusal_while_the_current_one_is_away_for_a_moment() {
    let bench = Bench::new();
    let (mirror, _, newest) = lagging(&bench);
    let away = format!("git://127.0.0.1:{}/work", free_port());
    for urls in [[&away, &mirror], [&mirror, &away]] {
        let mut seeker = Seeker { patience: 300, ..Seeker::new(&bench, &[urls[0], urls[1]]) };
        seeker.record.apply("main", &newest, 1);
        for now in [1000, 1061, 1299] {
            let error = seeker.look(now).expect_err("it may come back");
            assert_eq!((error.reason(), error.class()), ("unreachable", Class::Transient), "{error}");
        }
        for now in [1300, 5000] {
            assert_eq!(seeker.look(now).expect("it answers").place(), mirror);
        }
        // Whoever is not patient is told at once.
        let hasty = Seeker { patience: 0, health: SharedHealth::default(), ..seeker };
        assert_eq!(hasty.look(1000).expect("it answers").place(), mirror);
    }
}

#[test]
fn what_is_said_where_none_answers_does_not_depend_on_which_was_asked_first() {
    let bench = Bench::new();
    let seeker = Seeker::new(&bench, &["/nowhere/a", "/nowhere/b"]);
    let said = |now| seeker.look(now).expect_err("none answers").to_string();
    let first = said(1000);
    assert!(first.contains("/nowhere/b") && first.contains("before that") && first.contains("/nowhere/a"), "{first}");
    // The first rests for longer than the second, which is asked before it then.
    seeker.health.failed("/nowhere/a", 1000, &SourceError::Settings(String::new()));
    assert_eq!(said(1061), first);
    assert_eq!(said(1062), first);
}
