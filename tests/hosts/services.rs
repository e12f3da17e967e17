//! Services as Debian packages them: a real nginx and a real postgresql, in an order in which every peer has scars.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use super::image::prepared;
use super::server::done;
use super::{Host, Lab};

/// Where Debian's own packages of these are, with what they need; fetched once.
fn debs() -> PathBuf {
    static DEBS: LazyLock<PathBuf> = LazyLock::new(|| prepared("debs", "services"));
    DEBS.clone()
}

/// How often systemd says that a unit was started, or reloaded; see systemd.journal-fields(7) and the catalog of systemd.
fn times(host: &Host, unit: &str, message: &str) -> usize {
    host.journal(&[&format!("UNIT={unit}"), &format!("MESSAGE_ID={message}")]).len()
}

const STARTED: &str = "39f53479d3a045ac8e11786248231fbf";
const RELOADED: &str = "7b05ebc668384222baa8881179cfda54";

/// What is served at a port.
fn page(host: &Host, port: &str) -> String {
    let ask = "exec 3<>/dev/tcp/127.0.0.1/$1; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; sed '1,/^\\r$/d' <&3";
    host.ok(&["bash", "-euc", ask, "ask", port])
}

/// Waits until that is served at a port: nginx answers to a reload before it is through with it.
fn await_page(host: &Host, port: &str, says: &str) {
    let ask = "exec 3<>/dev/tcp/127.0.0.1/$0; printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; grep -qx \"$1\" <&3";
    host.await_that(&format!("bash -c '{ask}' {port} '{says}' 2>/dev/null"));
}

/// What listens, noted by each start of a unit.
const LISTENS: &str = "[Service]\nExecStartPost=/bin/sh -c 'ss -Hltn >>/run/listened'\n";

const NGINX: &str = "[packages]\nnginx = \"present\"\n\
                     [units.\"nginx.service\"]\nenabled = true\nactive = true\non_change = \"reload\"\n\
                     watch = [\"/etc/nginx/**\"]\nvalidate = [\"nginx\", \"-t\"]\n";

fn site(port: u16, says: &str) -> String {
    format!("server {{\n\tlisten 127.0.0.1:{port};\n\treturn 200 \"{says}\\n\";\n}}\n")
}

/// The package as Debian has it, one version higher, with other configuration files.
fn newer_nginx_common(lab: &Lab) -> String {
    let debs = fs::read_dir(debs()).expect("they were fetched").map(|entry| entry.expect("an entry").path());
    let is_it =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nginx-common_"));
    let deb = debs.into_iter().find(is_it).expect("it is among them");
    let tree = lab.directory("nginx-common");
    done(Command::new("dpkg-deb").arg("-R").args([&deb, &tree]));
    let control = fs::read_to_string(tree.join("DEBIAN/control")).expect("there");
    let version = control.lines().find_map(|line| line.strip_prefix("Version: ")).expect("it has one").to_owned();
    // Newer than that, and still what nginx needs.
    let newer = format!("{version}.0");
    fs::write(tree.join("DEBIAN/control"), control.replace(&version, &newer)).expect("a file of the lab's own");
    for path in ["etc/nginx/sites-available/default", "etc/nginx/nginx.conf"] {
        let content = fs::read_to_string(tree.join(path)).expect("a configuration file of it");
        fs::write(tree.join(path), format!("# newer\n{content}")).expect("a file of the lab's own");
    }
    let built = lab.directory(&format!("nginx-common_{newer}_all.deb"));
    done(Command::new("dpkg-deb").args(["--root-owner-group", "-Zgzip", "-b"]).args([&tree, &built]));
    lab.apt().add(&built);
    newer
}

#[test]
fn nginx_starts_once_with_what_is_declared_keeps_it_through_an_upgrade_and_reads_no_set_that_is_broken() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().stock(&debs());
    lab.fleet.write("hosts/web-01/host.toml", NGINX);
    lab.fleet.write("hosts/web-01/files/etc/nginx/sites-available/default", site(8085, "fleet"));
    lab.fleet.commit("nginx");
    let host = lab.boot("web-01");
    host.write("/etc/systemd/system/nginx.service.d/listens.conf", LISTENS);

    // Its first start is with what is declared: never did anything listen where the package's own site does.
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(host.unit_state("nginx.service"), "active enabled");
    assert_eq!(times(&host, "nginx.service", STARTED), 1, "started once");
    let listened = host.read("/run/listened");
    assert!(listened.contains("127.0.0.1:8085 ") && !listened.contains(":80 "), "{listened}");
    assert_eq!(page(&host, "8085"), "fleet\n");
    assert!(!run.report.notes.iter().any(|note| note.contains("lies beside")), "{run:#?}");
    host.trueup(&["run"]).idle();

    // An upgrade asks nobody: ours stays, what the package brings lies beside it and is told; what nobody declared is new.
    let newer = newer_nginx_common(&lab);
    host.shell("apt-get -qq update");
    lab.fleet.write("hosts/web-01/host.toml", NGINX.replacen("]\n", &format!("]\nnginx-common = \"{newer}\"\n"), 1));
    lab.fleet.commit("newer");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(host.package("nginx-common"), Some(newer));
    assert_eq!(host.read("/etc/nginx/sites-available/default"), site(8085, "fleet"));
    assert!(host.read("/etc/nginx/sites-available/default.dpkg-dist").starts_with("# newer\n"));
    assert!(host.read("/etc/nginx/nginx.conf").starts_with("# newer\n"), "nobody changed that");
    let beside: Vec<&String> = run.report.notes.iter().filter(|note| note.contains("lies beside")).collect();
    let said = "packages: /etc/nginx/sites-available/default stays as it is; what its package brings lies beside it: \
                /etc/nginx/sites-available/default.dpkg-dist";
    assert_eq!(beside, [said], "{run:#?}");
    let told = host.journal(&["TRUEUP_EVENT=left-beside"]);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0]["TRUEUP_RESOURCE"], "file:/etc/nginx/sites-available/default");
    assert_eq!(page(&host, "8085"), "fleet\n");
    assert!(!host.read("/run/listened").contains(":80 "));
    let run = host.trueup(&["run"]);
    run.idle();
    assert!(!run.report.notes.iter().any(|note| note.contains("lies beside")), "told once: {run:#?}");

    // A set of six: together they are right, and are read by one reload.
    let set = |lab: &Lab, says: &str| {
        for n in 1..=6 {
            lab.fleet.write(
                &format!("hosts/web-01/files/etc/nginx/conf.d/{n}.conf"),
                site(9000 + n, &format!("{says} {n}")),
            );
        }
    };
    set(&lab, "good");
    lab.fleet.commit("six sites");
    host.trueup(&["run"]).converged();
    assert_eq!(times(&host, "nginx.service", RELOADED), 1);
    await_page(&host, "9006", "good 6");
    let workers = || host.ok(&["pgrep", "-P", &host.unit("nginx.service", "MainPID")]);
    let before = (workers(), host.unit("nginx.service", "InvocationID"));

    // One of them is broken, as nginx itself says: none is installed, nothing reloads, and the old ones are served.
    set(&lab, "better");
    lab.fleet.write("hosts/web-01/files/etc/nginx/conf.d/4.conf", "server {\n\tlisten 127.0.0.1:9004\n}\n");
    lab.fleet.commit("one is broken");
    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
    for n in 1..=6 {
        let path = format!("/etc/nginx/conf.d/{n}.conf");
        assert_eq!(host.read(&path), site(9000 + n, &format!("good {n}")), "{path}");
        let step = run.step(&format!("file:{path}"));
        assert_eq!(step.reason.as_deref(), Some("validation-failed"), "{run:#?}");
        let said = step.message.as_deref().unwrap_or_default();
        assert!(said.contains("nginx.service") && said.contains("conf.d/4.conf:"), "{said}");
        assert_eq!(page(&host, &format!("900{n}")), format!("good {n}\n"));
    }
    assert_eq!(times(&host, "nginx.service", RELOADED), 1, "nothing reloads");
    assert_eq!((workers(), host.unit("nginx.service", "InvocationID")), before, "the same processes");
    assert_eq!(host.shell("find /etc/nginx -name '*trueup*'"), "");

    set(&lab, "better");
    lab.fleet.commit("mended");
    host.trueup(&["run", "--retry"]).converged();
    assert_eq!(times(&host, "nginx.service", RELOADED), 2);
    await_page(&host, "9004", "better 4");
    assert_eq!(host.read("/etc/nginx/conf.d/4.conf"), site(9004, "better 4"));
    host.trueup(&["run"]).idle();
}

const POSTGRES: &str = "[packages]\npostgresql-15 = \"present\"\n\
                        [files.\"/etc/postgresql/15/main/conf.d/fleet.conf\"]\nowner = \"postgres\"\ngroup = \"postgres\"\n\
                        [units]\n\"postgresql.service\" = \"on\"\n\
                        [units.\"postgresql@15-main.service\"]\nactive = true\nwatch = [\"/etc/postgresql/15/main/conf.d/**\"]\n";

#[test]
fn the_first_start_of_a_cluster_of_postgresql_has_what_is_declared() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().stock(&debs());
    lab.fleet.write("hosts/db-01/host.toml", POSTGRES);
    let settings = |buffers: &str| format!("port = 5433\nlog_line_prefix = 'fleet '\nshared_buffers = '{buffers}'\n");
    let path = "hosts/db-01/files/etc/postgresql/15/main/conf.d/fleet.conf";
    lab.fleet.write(path, settings("33MB"));
    lab.fleet.commit("postgresql");
    let host = lab.boot("db-01");
    let shown = |setting: &str| {
        let ask = format!("SHOW {setting}");
        host.ok(&["runuser", "-u", "postgres", "--", "psql", "-p", "5433", "-Atc", &ask]).trim().to_owned()
    };
    let starts = || {
        let log = host.read("/var/log/postgresql/postgresql-15-main.log");
        log.lines().filter(|line| line.contains("starting PostgreSQL 15")).map(str::to_owned).collect::<Vec<_>>()
    };

    // An administrator has a policy of his own, which is asked first and is there again afterwards.
    let theirs = "#!/bin/sh\necho \"$@\" >>/run/asked\nexit 0\n";
    host.write("/usr/sbin/policy-rc.d", theirs);
    host.shell("chmod 750 /usr/sbin/policy-rc.d");

    host.trueup(&["run"]).converged();
    assert_eq!((shown("shared_buffers").as_str(), shown("port").as_str()), ("33MB", "5433"));
    // Each start writes its first line by the settings that it has.
    let first = starts();
    assert!(first.len() == 1 && first[0].starts_with("fleet "), "{first:?}");
    assert_eq!(times(&host, "postgresql@15-main.service", STARTED), 1);
    assert!(host.read("/run/asked").lines().any(|asked| asked.starts_with("postgresql") && asked.contains("start")));
    assert_eq!(host.read("/usr/sbin/policy-rc.d"), theirs);
    assert_eq!(host.stat("/usr/sbin/policy-rc.d"), "regular file 750 root:root");
    assert!(!host.has("/usr/sbin/policy-rc.d.trueup"));
    host.trueup(&["run"]).idle();

    lab.fleet.write(path, settings("34MB"));
    lab.fleet.commit("more");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(run.refresh("unit:postgresql@15-main.service").how, "restart");
    assert_eq!(shown("shared_buffers"), "34MB");
    assert_eq!(starts().len(), 2, "restarted once");
    host.trueup(&["run"]).idle();
}
