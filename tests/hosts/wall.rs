//! The wall around the fetch worker, as the package brings it up on a real host.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::thread;

use super::Lab;
use super::installed::QUICK;
use super::server::{Says, Server, bound_to_us};

/// Who the workers are, as the host counts, oldest first.
const WORKERS: &str = "pgrep -x trueup-fetch";

/// A server that takes connections and never answers; its port.
fn silent(address: &str) -> u16 {
    let server = TcpListener::bind((address, 0)).expect("a port of the lab's network");
    let port = server.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in server.incoming().flatten() {
            // Held until the other side has enough of it.
            thread::spawn(move || (&stream).read_to_end(&mut Vec::new()));
        }
    });
    port
}

#[test]
fn the_worker_is_a_user_of_its_own_without_powers_and_all_of_it_ends_with_the_agent() {
    let Some(lab) = Lab::new(1) else { return };
    let address = lab.network.address();
    let port = silent(&address);
    let token = "t0ken-that-nobody-may-see";
    let agent =
        format!("[source]\nurl = \"https://{address}:{port}/fleet.git\"\ntoken_file = \"/etc/trueup/token\"\n{QUICK}");
    let host = lab.boot_plain(
        super::Variant::Bookworm,
        "web-01",
        &[("/etc/trueup/agent.toml".to_owned(), agent.into_bytes()), ("/etc/trueup/token".to_owned(), token.into())],
    );
    host.ok(&["chmod", "600", "/etc/trueup/token"]);
    host.install(&super::installed::deb());
    host.await_that(WORKERS);
    let worker = host.shell(WORKERS).trim().to_owned();
    let status = host.shell(&format!("cat /proc/{worker}/status"));
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name}: {status}")).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let id = |kind| host.ok(&["id", kind, "trueup-fetch"]).trim().to_owned();
    assert_eq!(field("Uid"), vec![id("-u"); 4]);
    assert_eq!(field("Gid"), vec![id("-g"); 4]);
    assert_eq!(field("Groups"), [id("-g")]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    assert_eq!((field("NoNewPrivs"), field("Seccomp")), (vec!["1".to_owned()], vec!["2".to_owned()]));
    let limits = host.shell(&format!("cat /proc/{worker}/limits"));
    assert!(limits.lines().any(|line| line.starts_with("Max core file size") && line.contains(" 0 ")), "{limits}");
    // Where root's eyes see everything, the token is in neither.
    for file in ["cmdline", "environ"] {
        assert!(!host.shell(&format!("tr '\\0' '\\n' </proc/{worker}/{file}")).contains(token), "{file}");
    }
    assert!(!host.shell("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'").contains(token));

    // It cannot read what root can, nor write anything but its clones.
    assert_eq!(host.stat("/var/cache/trueup/clone"), "directory 700 trueup-fetch:trueup-fetch");
    assert_eq!(host.run(&["trueup", "status", "--json"]).status, 2, "the agent answers meanwhile");

    // Killed without a word: what it had started does not outlive it.
    host.ok(&["kill", "-KILL", &host.agent()]);
    host.await_that(&format!("! [ -d /proc/{worker} ]"));
    host.await_that(WORKERS);
    host.ok(&["systemctl", "stop", "trueup"]);
    host.no_agent();
}

#[test]
fn keys_reach_the_worker_as_copies_for_one_run_and_doctor_shows_its_wall() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    let first = lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", QUICK);
    host.await_applied(&first);
    host.await_passes(1);
    assert_eq!(host.stat("/run/trueup/fetch"), "directory 711 root:root");
    host.ok(&["systemctl", "stop", "trueup"]);
    assert_eq!(host.shell("ls -A /run/trueup/fetch"), "", "nothing stays of them");
    // What a killed agent left is swept by the next.
    host.shell("mkdir -m 700 /run/trueup/fetch/999999-0; echo key >/run/trueup/fetch/999999-0/0");
    // It tells of a service that does not run, too.
    let doctor = host.run(&["trueup", "doctor"]).stdout;
    let line = doctor.lines().find(|line| line.contains("fetch worker")).unwrap_or_else(|| panic!("{doctor}"));
    assert!(line.contains("behind its wall") && line.contains("Landlock"), "{line}");
    assert_eq!(host.shell("ls -A /run/trueup/fetch"), "");

    // Without its user nothing is read from the network, and that is said.
    host.ok(&["userdel", "trueup-fetch"]);
    let doctor = host.run(&["trueup", "doctor"]).stdout;
    assert!(doctor.contains("there is no user trueup-fetch"), "{doctor}");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 8080\n");
    lab.fleet.commit("another port");
    let told = host.trueup(&["run"]);
    told.stalled("no-fetch-user");
    assert!(told.report.message.as_deref().is_some_and(|said| said.contains("systemd-sysusers")), "{told:#?}");
    assert_eq!(host.read("/etc/app.conf"), "port = 80\n");
    host.ok(&["systemd-sysusers", "trueup.conf"]);
    host.trueup(&["run"]).converged();
    assert_eq!(host.read("/etc/app.conf"), "port = 8080\n");
}

#[test]
fn only_the_worker_opens_sockets_of_the_network() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 80\n");
    lab.fleet.write("hosts/web-01/host.toml", "[units]\n\"cron.service\" = \"on\"\n[packages]\ncron = \"present\"\n");
    lab.fleet.commit("web-01");
    let host = lab.boot_installed("web-01", "interval = \"1d\"\n");
    host.await_status("the first pass", |status| status["state"] == "in-sync");
    lab.fleet.write("hosts/web-01/files/etc/app.conf", "port = 8080\n");
    let second = lab.fleet.commit("another port");
    let file = lab.directory("sockets");
    let mut strace = bound_to_us("strace");
    // What is executed is another program: the worker, dpkg-query.
    strace.args(["-f", "-b", "execve", "-e", "trace=socket", "-o", file.to_str().expect("text")]);
    strace.args(["-p", &host.outside(&host.agent())]);
    let traced = Server::start(strace, Says::Stderr, "attached");
    host.ok(&["trueup", "sync"]);
    host.await_applied(&second);
    drop(traced);
    let trace = fs::read_to_string(&file).expect("a trace");
    assert!(trace.contains("socket(AF_UNIX"), "it saw the sockets: {trace}");
    let of_its_own = |line: &str| line.contains("socket(AF_UNIX") || line.contains("socket(AF_NETLINK");
    let others: Vec<&str> = trace.lines().filter(|line| line.contains("socket(") && !of_its_own(line)).collect();
    assert!(others.is_empty(), "{others:#?}");
}
