//! What a broken file can do to a host: nothing, since it is judged before it is installed, with its set.

use super::report::Told;
use super::{Host, Lab, Variant};

fn failed(told: &Told, id: &str, words: &[&str]) {
    let step = told.step(id);
    assert_eq!(step.reason.as_deref(), Some("validation-failed"), "{id}: {told:#?}");
    let said = step.message.clone().unwrap_or_default();
    words.iter().for_each(|word| assert!(said.contains(word), "{id}: {word:?} in {said}"));
    assert!(!said.contains("/run/trueup"), "it speaks of the file that is meant: {said}");
}

/// What a daemon logs of itself: what its configuration said each time that it was started or reloaded.
const APP: &str = "#!/bin/sh
trap 'echo reloaded >>/run/app.log' HUP
echo started >>/run/app.log
while :; do sleep 0.1; done
";

fn nothing_is_left(host: &Host) {
    assert_eq!(host.shell("ls -A /run/trueup/trial 2>/dev/null"), "", "no staged file stays");
    assert_eq!(host.shell("find /etc -name '.trueup-*'"), "");
}

#[test]
fn a_broken_unit_or_sshd_or_declared_file_is_not_installed_and_the_rest_is() {
    let Some(mut lab) = Lab::new(1) else { return };
    let unit = "[Service]\nExecStart=/bin/sleep infinity\n";
    lab.fleet.write("hosts/web-01/units/app.service", unit);
    lab.fleet.write("hosts/web-01/files/etc/ssh/sshd_config.d/50-fleet.conf", "X11Forwarding no\n");
    lab.fleet.write("hosts/web-01/files/etc/sudoers.d/admins", "%admins ALL=(ALL) ALL\n");
    lab.fleet.write("hosts/web-01/files/etc/numbers", "1\n");
    let validate = "validate = [\"sh\", \"-c\", \"grep -q '^[0-9]*$' \\\"$1\\\" || { echo $1: not a number; exit 1; }\", \"sh\", \"{}\"]";
    lab.fleet.write(
        "hosts/web-01/host.toml",
        format!("[units]\n\"app.service\" = \"on\"\n[files.\"/etc/numbers\"]\n{validate}\n"),
    );
    lab.fleet.commit("good");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    let before = host.unit("app.service", "InvocationID");
    nothing_is_left(&host);

    lab.fleet
        .write("hosts/web-01/units/app.service", "[Service]\nExecStart=/bin/sleep infinity\nthis is no assignment\n");
    lab.fleet.write("hosts/web-01/files/etc/ssh/sshd_config.d/50-fleet.conf", "X11Forwarding perhaps\n");
    lab.fleet.write("hosts/web-01/files/etc/sudoers.d/admins", "%admins ALL=(ALL ALL\n");
    lab.fleet.write("hosts/web-01/files/etc/numbers", "one\n");
    lab.fleet.write("hosts/web-01/files/etc/motd", "the rest\n");
    lab.fleet.commit("broken");
    let told = host.trueup(&["run"]);
    assert_eq!(told.status, 1, "{told:#?}");
    failed(&told, "file:/etc/systemd/system/app.service", &["line 3", "Missing '='"]);
    failed(&told, "file:/etc/ssh/sshd_config.d/50-fleet.conf", &["/etc/ssh/sshd_config.d/50-fleet.conf"]);
    failed(&told, "file:/etc/sudoers.d/admins", &["visudo", "/etc/sudoers.d/admins:1"]);
    failed(&told, "file:/etc/numbers", &["/etc/numbers: not a number"]);
    assert_eq!(host.read("/etc/systemd/system/app.service"), unit);
    assert_eq!(host.read("/etc/ssh/sshd_config.d/50-fleet.conf"), "X11Forwarding no\n");
    assert_eq!(host.read("/etc/numbers"), "1\n");
    assert_eq!(host.read("/etc/motd"), "the rest\n");
    assert_eq!(host.unit("app.service", "InvocationID"), before, "the old service runs on");
    nothing_is_left(&host);

    // A drop-in is judged with the unit that it is for, a template as any instance, and a plan runs no commands.
    lab.fleet.write("hosts/web-01/units/many@.service", "[Service]\nExecStart=/bin/sleep %i\n[Install\n");
    lab.fleet.write("hosts/web-01/units/app.service", unit);
    lab.fleet.write("hosts/web-01/units/app.service.d/x.conf", "[Service]\nRestart=sometimes\n");
    lab.fleet.write("hosts/web-01/files/etc/ssh/sshd_config.d/50-fleet.conf", "X11Forwarding yes\n");
    lab.fleet.write("hosts/web-01/files/etc/sudoers.d/admins", "%admins ALL=(ALL) NOPASSWD: ALL\n");
    lab.fleet.write("hosts/web-01/files/etc/numbers", "2\n");
    lab.fleet.commit("a broken drop-in");
    assert_eq!(host.run(&["trueup", "plan"]).status, 2);
    let told = host.trueup(&["run", "--retry"]);
    failed(&told, "file:/etc/systemd/system/app.service.d/x.conf", &["line 2", "sometimes"]);
    failed(&told, "file:/etc/systemd/system/many@.service", &["line 3", "Invalid section header"]);
    assert!(!host.has("/etc/systemd/system/app.service.d/x.conf") && !host.has("/etc/systemd/system/many@.service"));
    lab.fleet.remove("hosts/web-01/units/many@.service");
    assert_eq!(host.read("/etc/numbers"), "2\n");
    lab.fleet.write("hosts/web-01/units/app.service.d/x.conf", "[Service]\nRestart=always\n");
    lab.fleet.commit("mended");
    host.trueup(&["run", "--retry"]).converged();
    assert_ne!(host.unit("app.service", "InvocationID"), before, "once, for what it uses has changed");
}

#[test]
fn what_is_right_by_itself_is_judged_with_what_is_read_with_it() {
    let Some(mut lab) = Lab::new(1) else { return };
    let file = |path: &str| format!("hosts/web-01/files/etc/{path}");
    lab.fleet.write(&file("sudoers.d/ops"), "User_Alias OPS = ada\nOPS ALL=(ALL) ALL\n");
    lab.fleet.write("hosts/web-01/host.toml", "[files.\"/etc/sudoers.d/*\"]\nmode = \"0440\"\n");
    lab.fleet.commit("good");
    let host = lab.boot("web-01");
    let whole = |host: &Host| host.shell("visudo -c && mkdir -p /run/sshd && sshd -t");
    host.shell("ln -s /etc/sudoers.d /srv/own");
    host.trueup(&["run"]).converged();
    whole(&host);

    // Debian's sshd_config has that line already; sudo knows an alias once; and what is reached by a link of root's is
    // what it is where it lies.
    lab.fleet.write(&file("ssh/sshd_config.d/10-sftp.conf"), "Subsystem sftp internal-sftp\n");
    lab.fleet.write(&file("ssh/sshd_config.d/20-fleet.conf"), "X11Forwarding no\n");
    lab.fleet.write(&file("sudoers.d/more"), "User_Alias OPS = bob\n");
    lab.fleet.write(&file("sudoers.d/fine"), "User_Alias WEB = eve\nWEB ALL=(ALL) ALL\n");
    lab.fleet.write("hosts/web-01/files/srv/own/broken", "this is not sudoers\n");
    lab.fleet.commit("each by itself");
    let told = host.trueup(&["run"]);
    failed(&told, "file:/etc/ssh/sshd_config.d/10-sftp.conf", &["/etc/ssh/sshd_config line", "'sftp' already defined"]);
    failed(&told, "file:/etc/sudoers.d/more", &["/etc/sudoers.d/", "OPS"]);
    failed(&told, "file:/srv/own/broken", &["/etc/sudoers.d/broken:1"]);
    let there = host.shell("ls /etc/sudoers.d /etc/ssh/sshd_config.d");
    assert!(there.contains("fine") && there.contains("20-fleet.conf"), "{there}");
    assert!(!there.contains("more") && !there.contains("10-sftp") && !there.contains("broken"), "{there}");
    whole(&host);
    nothing_is_left(&host);

    // What goes makes room, and what is broken already is held against nobody.
    lab.fleet.remove(&file("sudoers.d/ops"));
    lab.fleet.remove(&file("ssh/sshd_config.d/10-sftp.conf"));
    lab.fleet.remove("hosts/web-01/files/srv/own/broken");
    lab.fleet.commit("the one for the other");
    host.trueup(&["run", "--retry"]).converged();
    assert_eq!(host.shell("ls /etc/sudoers.d | grep -e ops -e more"), "more\n");
    whole(&host);
    host.write("/etc/sudoers.d/theirs", "User_Alias OPS = mallory\n");
    lab.fleet.write(&file("sudoers.d/later"), "eve ALL=(ALL) ALL\n");
    lab.fleet.commit("after somebody's mistake");
    host.trueup(&["run"]).converged();
    assert!(host.has("/etc/sudoers.d/later"));
    nothing_is_left(&host);
}

#[test]
fn of_six_files_of_a_set_one_is_broken_so_none_is_installed_and_nothing_reloads() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write(
        "hosts/web-01/units/app.service",
        "[Service]\nExecStart=/usr/local/bin/app\nExecReload=/bin/kill -HUP $MAINPID\n",
    );
    lab.fleet.write_executable("hosts/web-01/files/usr/local/bin/app", APP);
    let set = |lab: &Lab, text: &str| {
        (1..=6).for_each(|n| lab.fleet.write(&format!("hosts/web-01/files/etc/app/{n}.conf"), format!("{text} {n}\n")));
    };
    set(&lab, "good");
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[units.\"app.service\"]\nactive = true\non_change = \"reload\"\nwatch = [\"/etc/app/*\"]\n\
         [files.\"/etc/app/*\"]\nvalidate = [\"grep\", \"-q\", \"good\", \"{}\"]\n",
    );
    lab.fleet.commit("good");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    host.await_that("grep -qx started /run/app.log");

    set(&lab, "also good");
    lab.fleet.write("hosts/web-01/files/etc/app/4.conf", "broken\n");
    lab.fleet.commit("one is broken");
    let told = host.trueup(&["run"]);
    assert_eq!(told.status, 1, "{told:#?}");
    failed(&told, "file:/etc/app/4.conf", &["grep"]);
    for n in 1..=6 {
        assert_eq!(host.read(&format!("/etc/app/{n}.conf")), format!("good {n}\n"), "none of them");
    }
    assert_eq!(told.step("file:/etc/app/1.conf").outcome, "skipped");
    assert_eq!(host.read("/run/app.log"), "started\n", "nothing reloads");

    set(&lab, "also good");
    lab.fleet.commit("mended");
    host.trueup(&["run", "--retry"]).converged();
    assert_eq!(host.read("/etc/app/4.conf"), "also good 4\n");
    host.await_that("[ \"$(cat /run/app.log)\" = \"$(printf 'started\\nreloaded')\" ]");
    // What was stopped stays stopped.
    host.ok(&["systemctl", "stop", "app.service"]);
    nothing_is_left(&host);
}

#[test]
fn what_a_unit_refuses_once_it_is_in_place_is_put_back_whole_and_nothing_reads_it() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write(
        "hosts/web-01/units/app.service",
        "[Service]\nExecStart=/usr/local/bin/app\nExecReload=/bin/kill -HUP $MAINPID\n",
    );
    lab.fleet.write_executable("hosts/web-01/files/usr/local/bin/app", APP);
    // Only together are they right or wrong.
    lab.fleet.write_executable(
        "hosts/web-01/files/usr/local/bin/app-check",
        "#!/bin/sh\necho judged >>/run/judged\n[ \"$(cat /etc/app/a.conf)\" = \"$(cat /etc/app/b.conf)\" ] || { echo a and b differ; exit 1; }\n",
    );
    lab.fleet.write("hosts/web-01/files/etc/app/a.conf", "1\n");
    lab.fleet.write("hosts/web-01/files/etc/app/b.conf", "1\n");
    lab.fleet.write("hosts/web-01/files/etc/app/gone.conf", "goes\n");
    let manifest = "[units.\"app.service\"]\nactive = true\non_change = \"reload\"\nwatch = [\"/etc/app/**\"]\n\
                    validate = [\"/usr/local/bin/app-check\"]\n[files.\"/etc/app/b.conf\"]\nmode = \"0640\"\n";
    lab.fleet.write("hosts/web-01/host.toml", manifest);
    lab.fleet.commit("good");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    host.await_that("grep -qx started /run/app.log");
    let standing = host.shell("stat -c '%n %a %U' /etc/app/*");

    lab.fleet.write("hosts/web-01/files/etc/app/a.conf", "2\n");
    lab.fleet.write("hosts/web-01/files/etc/app/c.conf", "new\n");
    lab.fleet.remove("hosts/web-01/files/etc/app/gone.conf");
    lab.fleet.write("hosts/web-01/files/etc/motd", "the rest\n");
    lab.fleet.commit("they differ");
    host.shell("rm /run/judged");
    let told = host.trueup(&["run"]);
    assert_eq!(told.status, 1, "{told:#?}");
    failed(&told, "file:/etc/app/a.conf", &["app.service", "a and b differ"]);
    assert_eq!(host.read("/run/judged"), "judged\n", "once");
    assert_eq!(
        (host.read("/etc/app/a.conf"), host.read("/etc/app/gone.conf")),
        ("1\n".to_owned(), "goes\n".to_owned())
    );
    assert!(!host.has("/etc/app/c.conf"));
    assert_eq!(host.shell("stat -c '%n %a %U' /etc/app/*"), standing, "owners and modes too");
    assert_eq!(host.read("/etc/motd"), "the rest\n");
    assert_eq!(host.read("/run/app.log"), "started\n", "nothing reloads");
    nothing_is_left(&host);

    // It is as if it had never been there: the next commit goes on from what stood before.
    lab.fleet.write("hosts/web-01/files/etc/app/b.conf", "2\n");
    lab.fleet.commit("they are equal");
    host.trueup(&["run", "--retry"]).converged();
    host.await_that("[ \"$(cat /run/app.log)\" = \"$(printf 'started\\nreloaded')\" ]");
    assert_eq!((host.has("/etc/app/c.conf"), host.has("/etc/app/gone.conf")), (true, false));
    host.trueup(&["run"]).idle();
}

#[test]
fn what_a_unit_reads_as_it_starts_is_judged_with_the_rest_and_put_back_with_it() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.fleet.write(
        "hosts/web-01/units/app.service",
        "[Service]\nEnvironmentFile=/etc/default/app\nImportCredential=app.*\nExecStart=/usr/local/bin/app\n",
    );
    lab.fleet.write_executable("hosts/web-01/files/usr/local/bin/app", APP);
    lab.fleet.write_executable(
        "hosts/web-01/files/usr/local/bin/app-check",
        "#!/bin/sh\ncmp /etc/app.conf /etc/default/app && cmp /etc/app.conf /etc/credstore/app.key\n",
    );
    let all = ["app.conf", "default/app", "credstore/app.key"];
    let write = |lab: &Lab, paths: &[&str], content: &str| {
        for path in paths {
            lab.fleet.write(&format!("hosts/web-01/files/etc/{path}"), format!("A={content}\n"));
        }
    };
    write(&lab, &all, "1");
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[units.\"app.service\"]\nactive = true\nwatch = [\"/etc/app.conf\"]\nvalidate = [\"/usr/local/bin/app-check\"]\n",
    );
    lab.fleet.commit("good");
    let host = lab.boot_on(Variant::Trixie, "web-01", "");
    host.trueup(&["run"]).converged();
    let invocation = host.unit("app.service", "InvocationID");
    for alone in &all[1..] {
        write(&lab, &[*alone], "2");
        lab.fleet.commit("they differ");
        let told = host.trueup(&["run"]);
        assert_eq!(told.status, 1, "{told:#?}");
        failed(&told, &format!("file:/etc/{alone}"), &["app.service", "put back"]);
        assert_eq!(all.map(|path| host.read(&format!("/etc/{path}"))), ["A=1\n"; 3]);
        assert_eq!(host.unit("app.service", "InvocationID"), invocation, "nothing restarts");
        write(&lab, &[*alone], "1");
        lab.fleet.commit("as it was");
        host.trueup(&["run", "--retry"]).converged();
    }
    write(&lab, &all, "3");
    lab.fleet.commit("all of them");
    host.trueup(&["run"]).converged();
    assert_eq!(all.map(|path| host.read(&format!("/etc/{path}"))), ["A=3\n"; 3]);
    assert_ne!(host.unit("app.service", "InvocationID"), invocation);
    nothing_is_left(&host);
    host.trueup(&["run"]).idle();
}

#[test]
fn what_only_looks_odd_is_installed_and_a_judge_does_not_see_our_environment() {
    let Some(mut lab) = Lab::new(1) else { return };
    // A template, with an instance of it, and a program that comes with the same commit.
    lab.fleet.write(
        "hosts/web-01/units/app@.service",
        "[Unit]\nDocumentation=man:nobody(8)\n[Service]\nExecStart=/usr/local/bin/app %i\n\
         LaterKey=of another version\nStandardOutput=syslog\nUser=nobody\n[Install]\nWantedBy=multi-user.target\n",
    );
    lab.fleet.write_executable("hosts/web-01/files/usr/local/bin/app", APP);
    // Drop-ins of an instance, of a unit of the system, and of one that nobody has.
    lab.fleet.write("hosts/web-01/units/app@1.service.d/x.conf", "[Service]\nNice=1\n");
    lab.fleet.write("hosts/web-01/units/cron.service.d/x.conf", "[Service]\nNice=1\n");
    lab.fleet.write("hosts/web-01/units/nobody.service.d/x.conf", "[Service]\nExecStart=\nExecStart=/bin/true\n");
    lab.fleet.write("hosts/web-01/units/app.timer", "[Timer]\nOnCalendar=daily\nUnit=app@1.service\n");
    let sshd = "PasswordAuthentication no\nMatch Group admins\n  PasswordAuthentication yes\n";
    lab.fleet.write("hosts/web-01/files/etc/ssh/sshd_config.d/50-fleet.conf", sshd);
    lab.fleet.write(
        "hosts/web-01/files/etc/sudoers.d/admins",
        "Defaults:%admins !lecture\nCmnd_Alias WEB = /bin/systemctl restart nginx\n%admins ALL=(root) NOPASSWD: WEB\n",
    );
    // It tells what it sees of the machine.
    let look = "env | cut -d= -f1 | sort >/run/seen-env; basename $1 >/run/seen-name";
    lab.fleet.write("hosts/web-01/files/etc/odd name.conf", "1\n");
    lab.fleet.write(
        "hosts/web-01/host.toml",
        format!(
            "[units]\n\"app@1.service\" = \"on\"\n[files.\"/etc/odd name.conf\"]\n\
             validate = [\"sh\", \"-c\", \"{}\", \"sh\", \"{{}}\"]\n",
            look.replace("$1", "\\\"$1\\\"")
        ),
    );
    lab.fleet.commit("odd");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    assert_eq!(host.unit_state("app@1.service"), "active enabled");
    assert_eq!(host.read("/run/seen-name"), "odd name.conf\n");
    assert!(!host.read("/run/seen-env").contains("TRUEUP"), "{}", host.read("/run/seen-env"));
    nothing_is_left(&host);
}
