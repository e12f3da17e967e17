//! `trueup setup` brings a host to its repository; `trueup doctor` says what is wrong with one, and what to do.

use serde_json::Value;

use super::lab::HTTPS_PORT;
use super::{Host, Lab, git};

fn doctor(host: &Host) -> (i32, Value) {
    let output = host.run(&["trueup", "doctor", "--json"]);
    let document = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:#?}"));
    (output.status, document)
}

fn bad(document: &Value) -> Vec<String> {
    let all = document["findings"].as_array().expect("a list");
    let line = |one: &Value| format!("{}: {} → {}", one["about"], one["message"], one["advice"]);
    all.iter().filter(|one| one["level"] == "bad").map(line).collect()
}

/// Something is bad, and what is said of it holds each of `words`.
#[track_caller]
fn is_bad(host: &Host, words: &[&str]) {
    let (status, document) = doctor(host);
    let bad = bad(&document);
    assert_eq!(status, 1, "{bad:#?}");
    assert!(bad.iter().any(|line| words.iter().all(|word| line.contains(word))), "{words:?} in {bad:#?}");
}

#[track_caller]
fn is_well(host: &Host) {
    let (status, document) = doctor(host);
    assert_eq!((status, bad(&document)), (0, Vec::new()), "{document:#}");
}

#[test]
fn setup_follows_a_repository_and_writes_nothing_where_that_would_not_work() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/motd", "from the fleet\n");
    lab.fleet.commit("first");
    let ca = ("/etc/trueup/ca.pem".to_owned(), lab.authority().certificate());
    let host = lab.boot_bare("web-01", &[ca]);
    let address = lab.network.address();
    let url = format!("https://{address}:{HTTPS_PORT}/fleet.git");
    let setup = |more: &[&str]| host.run(&[&["trueup", "setup"], more].concat());
    let refused = |more: &[&str], words: &[&str]| {
        let output = setup(more);
        assert!([1, 2, 3].contains(&output.status), "{output:#?}");
        for word in words {
            assert!(output.stderr.contains(word), "{word:?} in {output:#?}");
        }
        assert!(!host.has("/etc/trueup/agent.toml"), "{output:#?}");
    };

    // What would not work says why.
    refused(&[&url, "--yes"], &["nothing was written", "bad-certificate", "source.ca_file"]);
    let known = ["--ca-file", "/etc/trueup/ca.pem"];
    let missing = format!("https://{address}:{HTTPS_PORT}/missing.git");
    refused(&[&[missing.as_str(), "--yes"], &known[..]].concat(), &["missing.git"]);
    refused(&[&[url.as_str(), "--yes", "--branch", "gone"], &known[..]].concat(), &["no-such-branch"]);
    refused(&[&[url.as_str(), "--yes", "--path", "sub"], &known[..]].concat(), &["not-a-fleet", "--path"]);
    refused(&[&[url.as_str(), "--yes", "--name", "web-02"], &known[..]].concat(), &["hosts/web-02", "web-01"]);
    refused(&["http://h/x", "--yes"], &["allow_insecure"]);
    // Nobody is there to be asked, and nobody said yes.
    refused(&[&[url.as_str()], &known[..]].concat(), &["--yes"]);

    // ssh: the server is pinned by somebody, never by setup.
    let server = git::Ssh::start(&address, lab.directory("ssh"));
    host.write("/root/key", server.deploy_key());
    host.shell("chmod 600 /root/key");
    let path = lab.fleet.bare().display().to_string();
    let ssh = format!("ssh://root@{address}:{}{path}", git::SSH_PORT);
    let keyscan = format!("ssh-keyscan -p {} {address}", git::SSH_PORT);
    refused(&[&ssh, "--ssh-key", "/root/key", "--yes"], &["/etc/trueup/known_hosts", &keyscan]);
    host.write("/root/.ssh/known_hosts", server.known_hosts(true));
    refused(&[&ssh, "--ssh-key", "/root/key", "--yes"], &["/root/.ssh/known_hosts has", "SHA256:"]);

    // Whoever sits at a terminal is asked, and may say no.
    let line = format!("trueup setup {url} --ca-file /etc/trueup/ca.pem");
    let asked = host.run_with(&["script", "-qec", &line, "/dev/null"], b"n\n");
    assert!(
        asked.status == 2 && asked.stdout.contains("[y/N]") && asked.stdout.contains("Nothing was written."),
        "{asked:#?}"
    );
    assert!(!host.has("/etc/trueup/agent.toml"));

    // What works is shown, written, and done.
    let done = setup(&[&[url.as_str(), "--yes", "--update", "auto"], &known[..]].concat());
    assert_eq!(done.status, 0, "{done:#?}");
    for word in ["hosts/web-01", "file:/etc/motd", "/etc/trueup/agent.toml is written"] {
        assert!(done.stdout.contains(word), "{word:?} in {done:#?}");
    }
    assert_eq!(host.stat("/etc/trueup/agent.toml"), "regular file 644 root:root");
    assert!(host.read("/etc/trueup/agent.toml").contains("# Where the fleet repository is."), "comments are kept");
    host.trueup(&["run"]).converged();
    assert_eq!(host.read("/etc/motd"), "from the fleet\n");

    // Again: nothing changes. Another: only by force, and the file that stood there is kept.
    let written = host.read("/etc/trueup/agent.toml");
    let again = setup(&[&url, "--yes"]);
    assert!(again.status == 0 && again.stdout.contains("says so already"), "{again:#?}");
    assert_eq!(host.read("/etc/trueup/agent.toml"), written);
    host.write("/etc/trueup/known_hosts", server.known_hosts(true));
    let other = [ssh.as_str(), "--ssh-key", "/root/key", "--yes"];
    let refused = setup(&other);
    assert!(refused.status == 1 && refused.stderr.contains("already"), "{refused:#?}");
    let done = setup(&[&other[..], &["--force"]].concat());
    assert!(done.status == 0 && done.stdout.contains("is pinned in /etc/trueup/known_hosts"), "{done:#?}");
    assert_eq!(host.read("/etc/trueup/agent.toml.before-setup"), written);
    host.trueup(&["run"]).converged();
    is_well(&host);
}

#[test]
fn setup_starts_the_units_that_are_installed_and_has_them_read_again() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/motd", "from the fleet\n");
    lab.fleet.commit("first");
    let ca = ("/etc/trueup/ca.pem".to_owned(), lab.authority().certificate());
    let host = lab.boot_bare("web-01", &[ca]);
    // In the place of the agent: something that takes the lock when it starts, and when it is to read its settings.
    let lock = "flock -n /var/lib/trueup/lock true";
    host.write(
        "/etc/systemd/system/trueup.service",
        format!(
            "[Unit]\nWants=trueup.socket\nAfter=trueup.socket\n\
             [Service]\nType=exec\nExecStartPre=/bin/sh -c '{lock}'\nExecStart=/bin/sleep infinity\n\
             ExecReload=/bin/sh -c '{lock} && touch /run/read-again'\n[Install]\nWantedBy=multi-user.target\n"
        ),
    );
    host.write(
        "/etc/systemd/system/trueup.socket",
        "[Unit]\nPartOf=trueup.service\n[Socket]\nListenStream=/run/trueup/trueup.sock\n",
    );
    host.shell("systemctl daemon-reload");
    let url = format!("https://{}:{HTTPS_PORT}/fleet.git", lab.network.address());
    let setup = || host.run(&["trueup", "setup", &url, "--ca-file", "/etc/trueup/ca.pem", "--yes"]);
    let done = setup();
    assert!(done.status == 0 && done.stdout.contains("enabled and started"), "{done:#?}");
    assert_eq!(host.unit_state("trueup.service"), "active enabled");
    assert_eq!(host.unit_state("trueup.socket"), "active static");
    assert!(!host.has("/run/read-again"));
    let again = setup();
    assert!(again.status == 0 && again.stdout.contains("has read it"), "{again:#?}");
    assert!(host.has("/run/read-again"));

    // A service that runs and does not answer is not well; one that is stopped is not started by a look.
    is_bad(&host, &["agent", "journalctl -u trueup"]);
    host.shell("systemctl stop trueup.service; systemctl start trueup.socket");
    is_bad(&host, &["enabled and does not run", "systemctl start trueup"]);
    assert_eq!(host.unit("trueup.service", "ActiveState"), "inactive", "a look starts nothing");
}

#[test]
fn a_healthy_host_has_nothing_bad_and_each_broken_thing_says_what_to_do() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write("hosts/web-01/files/etc/motd", "from the fleet\n");
    lab.fleet.commit("first");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    is_well(&host);
    let text = host.ok(&["trueup", "doctor"]);
    assert!(
        text.lines().any(|line| line.starts_with("source.url") && line.ends_with("/etc/trueup/agent.toml:2")),
        "{text}"
    );

    lab.network.partition(true);
    host.write("/etc/trueup/agent.toml", lab.agent_toml("timeout = \"2s\"\n"));
    is_bad(&host, &["source", "check the network"]);
    lab.network.partition(false);
    host.write("/etc/trueup/agent.toml", lab.agent_toml(""));

    host.shell("mkdir -p /etc/trueup/agent.d; chmod 0777 /etc/trueup/agent.d; chmod 0666 /etc/trueup/agent.toml");
    is_bad(&host, &["configuration", "chmod go-w /etc/trueup/agent.d", "chmod go-w /etc/trueup/agent.toml"]);
    host.shell("chmod 0755 /etc/trueup/agent.d; chmod 0644 /etc/trueup/agent.toml");
    is_well(&host);

    host.shell("cd /var/lib/trueup; cp -a ledger /root/; rm -f ledger.previous; echo half >ledger");
    is_bad(&host, &["state", "ledger is damaged", "adopted anew"]);
    host.shell("cp -a /root/ledger /var/lib/trueup/ledger");
    is_well(&host);

    host.shell("mount --bind /var/lib/trueup /var/lib/trueup; mount -o remount,bind,ro /var/lib/trueup");
    is_bad(&host, &["disk", "/var/lib/trueup is mounted read-only", "remount,rw"]);
    host.shell("umount /var/lib/trueup; mount -t tmpfs -o size=1m tmpfs /var/lib/trueup");
    is_bad(&host, &["disk", "/var/lib/trueup: ", "make room"]);
    host.shell("umount /var/lib/trueup");
    is_well(&host);

    host.write("/etc/trueup/agent.toml", lab.agent_toml("token_file = \"/etc/trueup/token\"\n"));
    is_bad(&host, &["credentials", "/etc/trueup/token (source.token_file) is missing", "install -m 600"]);

    // Whoever is not root learns what can be known, and that more needs root.
    host.write("/etc/trueup/agent.toml", lab.agent_toml(""));
    let output = host.run(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "trueup", "doctor"]);
    assert!(output.status == 0 && output.stdout.contains("needs root"), "{output:#?}");
}
