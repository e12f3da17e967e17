//! Servers that have to show who they are: certificates, host keys.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use trueup::config::SourceSettings;
use trueup::model::Class;

use super::{Bench, background, check_first, free_port, run};

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let bench = Bench::new();
    let path = |name: &str| bench.at.path().join(name).display().to_string();
    let (key, certificate) = (path("key.pem"), path("certificate.pem"));
    let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    let make = ["req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "1", "-keyout", &key, "-out", &certificate];
    run("openssl", &[&make[..], &subject[..]].concat());
    let port = free_port();
    let accept = port.to_string();
    let mut server = Command::new("openssl");
    let _server =
        background(server.args(["s_server", "-www", "-accept", &accept, "-cert", &certificate, "-key", &key]), port);
    let url = |host: &str| format!("https://{host}:{port}/work");
    let error = bench.open(&bench.settings(&url("localhost"))).expect_err("self-signed");
    assert_eq!((error.reason(), error.class()), ("bad-certificate", Class::Stalled), "{error}");
    assert!(error.to_string().contains("self-signed"), "{error}");
    let believed =
        |host: &str| SourceSettings { ca_file: Some(PathBuf::from(&certificate)), ..bench.settings(&url(host)) };
    let error = bench.open(&believed("127.0.0.1")).expect_err("another name");
    assert_eq!(error.reason(), "bad-certificate", "{error}");
    let error = bench.open(&believed("localhost")).expect_err("no repository there");
    assert_ne!(error.reason(), "bad-certificate", "{error}");
}

#[test]
fn ssh_is_cloned_from_with_a_pinned_host_key_only() {
    let sshd = Path::new("/usr/sbin/sshd");
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !sshd.exists() || !root {
        eprintln!("skipped: needs /usr/sbin/sshd, and root to start it");
        return;
    }
    let bench = Bench::new();
    fs::set_permissions(bench.at.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::create_dir_all("/run/sshd").expect("where sshd drops its privileges");
    let path = |name: &str| bench.at.path().join(name).display().to_string();
    for key in ["host", "user", "stranger"] {
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
    }
    let port = free_port();
    let accepted = fs::read_to_string(path("user.pub")).expect("reads");
    fs::write(path("authorized"), format!("environment=\"GIT_CONFIG_COUNT=1\",environment=\"GIT_CONFIG_KEY_0=safe.directory\",environment=\"GIT_CONFIG_VALUE_0=*\" {accepted}")).expect("writes");
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
         PermitRootLogin yes\nPermitUserEnvironment yes\nUsePAM no\nPasswordAuthentication no\n",
        path("host"),
        path("authorized")
    );
    fs::write(path("sshd_config"), config).expect("writes");
    let _server = background(Command::new(sshd).args(["-D", "-e", "-f", &path("sshd_config")]), port);
    let host_key = fs::read_to_string(path("host.pub")).expect("reads");
    fs::write(path("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).expect("writes");
    fs::write(path("no_hosts"), "").expect("writes");

    let settings = SourceSettings {
        ssh_key: Some(PathBuf::from(path("user"))),
        known_hosts: PathBuf::from(path("known_hosts")),
        ..bench.settings(&format!("ssh://root@127.0.0.1:{port}{}", bench.work().display()))
    };
    check_first(&mut bench.open(&settings).expect("clones"));
    let unknown = SourceSettings { known_hosts: PathBuf::from(path("no_hosts")), ..settings.clone() };
    let error = bench.open(&unknown).expect_err("not pinned");
    assert_eq!((error.reason(), error.class()), ("bad-host-key", Class::Stalled), "{error}");
    // Nobody is asked for the passphrase of a key.
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "word", "-f", &path("locked")]);
    let locked = SourceSettings { ssh_key: Some(PathBuf::from(path("locked"))), ..settings.clone() };
    let locked = SourceSettings { timeout: Duration::from_secs(20), ..locked };
    let error = bench.open(&locked).expect_err("it cannot be opened");
    assert_eq!((error.reason(), error.class()), ("access-denied", Class::Stalled), "{error}");
    let stranger = SourceSettings { ssh_key: Some(PathBuf::from(path("stranger"))), ..settings };
    let error = bench.open(&stranger).expect_err("not let in");
    assert_eq!((error.reason(), error.class()), ("access-denied", Class::Stalled), "{error}");
}
