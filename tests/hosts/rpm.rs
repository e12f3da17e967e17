//! Packages of dnf and rpm, on hosts that are of Fedora's kin: with the fourth dnf, and with the fifth.

use super::dnf::Package;
use super::{Host, Lab, Variant};

fn declare(lab: &mut Lab, packages: &str) {
    lab.fleet.write("hosts/rpm-01/host.toml", format!("[packages]\n{packages}\n"));
    lab.fleet.write("hosts/rpm-01/files/etc/motd", "ours\n");
    lab.fleet.commit(packages);
}

/// How many transactions dnf has done; their numbers stand first.
fn transactions(host: &Host) -> usize {
    let list = host.shell("dnf -q history list 2>/dev/null || true");
    list.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit())).count()
}

/// What is locked, and at which versions.
fn locked(host: &Host) -> String {
    let list = host.ok(&["dnf", "-q", "--disablerepo=*", "versionlock", "list"]);
    // `tool-1:2.0-1.*`, or `Package name: tool` and `evr = 1:2.0-1` below what it says of whoever did it.
    let said = list.lines().filter(|line| !line.starts_with('#')).map(|line| line.trim_start_matches("Package name: "));
    let joined = said.collect::<Vec<_>>().join("-").replace("-evr = ", "-").replace("-0:", "-");
    joined.trim().trim_end_matches(".*").to_owned()
}

#[test]
fn versions_are_as_declared_and_what_stands_in_the_way_is_told_beforehand() {
    versions(Variant::Rpm);
}

#[test]
fn versions_are_as_declared_and_what_stands_in_the_way_is_told_beforehand_with_dnf_5() {
    versions(Variant::Rpm5);
}

fn versions(variant: Variant) {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.dnf().publish(&[
        Package::new("tool", "1.0-1").field("Requires", "words"),
        Package::new("tool", "1.1-1.fc40").field("Requires", "words"),
        Package::new("tool", "1:2.0-1").field("Requires", "words"),
        Package::new("words", "1.0-1"),
        Package::new("theirs", "1.0-1"),
        Package::new("rival", "1.0-1").field("Conflicts", "theirs"),
    ]);
    declare(&mut lab, "tool = \"1.*\"");
    let host = lab.boot_on(variant, "rpm-01", "");
    assert_eq!(host.ok(&["systemctl", "is-system-running"]).trim(), "running");
    let facts = host.ok(&["trueup", "facts", "--json"]);
    assert!(facts.contains("\"family\":\"redhat\"") || facts.contains("\"family\": \"redhat\""), "{facts}");
    host.shell("dnf -q -y install theirs");
    let before = transactions(&host);

    let plan = host.trueup(&["plan"]);
    assert_eq!(plan.status, 2, "{plan:#?}");
    assert!(plan.report.notes.iter().any(|note| note.contains("also installs words 1.0-1")), "{plan:#?}");
    assert_eq!(host.package("tool"), None);
    host.trueup(&["run"]).converged();
    assert_eq!(host.package("tool").as_deref(), Some("1.1-1.fc40"), "the newest that matches");
    assert_eq!(transactions(&host), before + 1);
    host.trueup(&["run"]).idle();

    declare(&mut lab, "tool = \"1:2.0-1\"");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(run.step("package:tool").changes, ["1.1-1.fc40 → 1:2.0-1", "held"]);
    assert_eq!(locked(&host), "tool-1:2.0-1");
    host.trueup(&["run"]).idle();

    // An older one: what the declaration says goes, what a hand did does not.
    declare(&mut lab, "tool = \"1.0-1\"");
    host.trueup(&["run"]).converged();
    assert_eq!(host.package("tool").as_deref(), Some("1.0-1"));
    assert_eq!(locked(&host), "tool-1.0-1");
    host.shell("dnf -q versionlock clear; dnf -q -y upgrade tool");
    for verb in ["plan", "run"] {
        let told = host.trueup(&[verb]);
        assert_eq!((told.status, told.report.reason.as_deref()), (1, Some("downgrade-refused")), "{told:#?}");
    }
    assert_eq!(host.package("tool").as_deref(), Some("1:2.0-1"));
    declare(&mut lab, "tool = { version = \"1.0-1\", downgrade = \"always\" }");
    host.trueup(&["run"]).converged();
    assert_eq!(host.package("tool").as_deref(), Some("1.0-1"));

    // What nobody declared absent is not removed for what is declared present; the rest goes on.
    declare(&mut lab, "tool = \"1.0-1\"\nrival = \"present\"\nnobodys = \"present\"");
    let plan = host.trueup(&["plan"]);
    assert_eq!(plan.step("package:rival").reason.as_deref(), Some("removes-undeclared"), "{plan:#?}");
    assert!(plan.step("package:rival").message.as_deref().is_some_and(|why| why.contains("theirs")), "{plan:#?}");
    host.shell("echo by hand >/etc/motd");
    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
    assert_eq!(run.step("package:nobodys").reason.as_deref(), Some("no-such-package"), "{run:#?}");
    assert_eq!(run.step("file:/etc/motd").outcome, "done");
    assert!(host.package("theirs").is_some() && host.package("rival").is_none());
    assert_eq!(host.read("/etc/motd"), "ours\n");

    // What an administrator has excluded for the same name is theirs.
    let by_hand = "\n# INC-4711\n[[packages]]\nname = \"tool\"\n\n[[packages.conditions]]\nkey = \"evr\"\ncomparator = \"!=\"\nvalue = \"3.0-1\"\n";
    if variant == Variant::Rpm5 {
        host.write("/srv/by-hand", by_hand);
        host.shell("cat /srv/by-hand >>/etc/dnf/versionlock.toml");
    }

    // Declared both, they go and come together. What the system cannot do without does not go.
    declare(&mut lab, "rival = \"present\"\ntheirs = \"absent\"");
    let before = transactions(&host);
    host.trueup(&["run"]).converged();
    assert!(host.package("theirs").is_none() && host.package("rival").is_some());
    assert_eq!(host.package("tool"), None, "let go, and nothing needs it");
    if variant == Variant::Rpm5 {
        let left = host.read("/etc/dnf/versionlock.toml");
        assert!(left.ends_with(by_hand) && left.matches("[[packages]]").count() == 1, "{left}");
        host.shell("dnf -q versionlock clear");
    } else {
        assert_eq!(locked(&host), "", "nor is it locked any more");
    }
    assert_eq!(transactions(&host), before + 1, "all that is to be done is one transaction");
    lab.dnf().publish(&[Package::new("dnf", "9.0-1")]);
    host.shell("dnf -q -y --refresh install dnf");
    declare(&mut lab, "rival = \"present\"\ntheirs = \"absent\"\ndnf = \"absent\"");
    host.trueup(&["run"]).stalled("protected");
    assert!(host.package("dnf").is_some());
    if variant == Variant::Rpm5 {
        changes_what_is_locked_and_brings_nothing_that_is_excluded(&mut lab, &host);
    }
}

/// The fifth can pass over its locks only together with what the host excludes.
fn changes_what_is_locked_and_brings_nothing_that_is_excluded(lab: &mut Lab, host: &Host) {
    let newer = Package::new("app", "2.0-1").field("Requires", "extra");
    lab.dnf().publish(&[Package::new("app", "1.0-1"), newer, Package::new("extra", "1.0-1")]);
    host.shell("dnf -q -y --refresh install app-1.0; dnf -q versionlock add app; cp /etc/dnf/dnf.conf /srv/");
    host.shell("echo excludepkgs=extra >>/etc/dnf/dnf.conf");
    declare(lab, "rival = \"present\"\ntheirs = \"absent\"\napp = \"2.0-1\"");
    let run = host.trueup(&["run"]);
    let step = run.step("package:app");
    assert_eq!(step.reason.as_deref(), Some("unresolvable"), "{run:#?}");
    let why = step.message.clone().unwrap_or_default();
    assert!(why.contains("extra 1.0-1, which this host excludes"), "{why}");
    assert_eq!(host.package("app").as_deref(), Some("1.0-1"));
    host.shell("cp /srv/dnf.conf /etc/dnf/dnf.conf");
    host.trueup(&["run", "--retry"]).converged();
    assert_eq!((host.package("app").as_deref(), locked(host).as_str()), (Some("2.0-1"), "app-2.0-1"));
}

#[test]
fn a_package_its_user_its_configuration_and_its_unit_come_in_one_pass_and_drift_is_put_back() {
    in_one_pass(Variant::Rpm);
}

#[test]
fn a_package_its_user_its_configuration_and_its_unit_come_in_one_pass_and_drift_is_put_back_with_dnf_5() {
    in_one_pass(Variant::Rpm5);
}

fn in_one_pass(variant: Variant) {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.dnf().publish(&[
        Package::new("app", "1.0-1")
            .field("Requires", "words")
            .field("Requires(pre)", "/bin/sh")
            .script("pre", "getent passwd app >/dev/null || useradd --system app")
            .config("/etc/app.conf", "as packaged\n")
            .service("/bin/sleep infinity"),
        Package::new("words", "1.0-1"),
        Package::new("before", "1.0-1"),
    ]);
    lab.fleet.write(
        "hosts/rpm-01/host.toml",
        "[packages]\napp = \"present\"\nbefore = \"present\"\n[units]\n\"app.service\" = \"on\"\n\
         [files.\"/etc/app.conf\"]\nowner = \"app\"\nmode = \"0640\"\n",
    );
    lab.fleet.write("hosts/rpm-01/files/etc/app.conf", "from the fleet\n");
    lab.fleet.commit("app");
    let host = lab.boot_on(variant, "rpm-01", "");
    host.shell("dnf -q -y install before");
    let there_before = transactions(&host);

    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(host.stat("/etc/app.conf"), "regular file 640 app:root");
    assert_eq!(host.read("/etc/app.conf"), "from the fleet\n");
    assert_eq!(host.unit_state("app.service"), "active enabled");
    assert_eq!(transactions(&host), there_before + 1);
    assert!(!host.has("/usr/sbin/policy-rc.d"), "Debian's way is not gone here");
    assert!(!host.shell("ls /var/lib/trueup").contains("packages/"), "nothing is left of the transaction");
    host.trueup(&["run"]).idle();

    // Taken away by hand: found, told and put back, its files as the fleet has them.
    host.shell("rpm -e --nodeps app");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(run.step("package:app").cause, "corrective");
    assert_eq!(host.package("app").as_deref(), Some("1.0-1"));
    assert_eq!(host.read("/etc/app.conf"), "from the fleet\n");
    assert_eq!(host.unit_state("app.service"), "active enabled");

    // An upgrade by somebody else brings a configuration file of its own, which lies beside ours.
    lab.dnf()
        .publish(&[Package::new("app", "1.1-1").config("/etc/app.conf", "newer\n").service("/bin/sleep infinity")]);
    host.shell("dnf -q -y --refresh upgrade app");
    assert_eq!(host.package("app").as_deref(), Some("1.1-1"));
    host.trueup(&["run"]).idle();
    assert_eq!(host.read("/etc/app.conf"), "from the fleet\n");

    // One of ours tells what it laid there.
    lab.dnf()
        .publish(&[Package::new("app", "1.2-1").config("/etc/app.conf", "newest\n").service("/bin/sleep infinity")]);
    host.shell("dnf -q makecache --refresh");
    let manifest = "[packages]\napp = \"1.2-1\"\nbefore = \"present\"\n[units]\n\"app.service\" = \"on\"\n\
                    [files.\"/etc/app.conf\"]\nowner = \"app\"\nmode = \"0640\"\n";
    lab.fleet.write("hosts/rpm-01/host.toml", manifest);
    lab.fleet.commit("a newer one");
    let run = host.trueup(&["run"]);
    run.converged();
    let said = "packages: /etc/app.conf stays as it is; what its package brings lies beside it: /etc/app.conf.rpmnew";
    assert!(run.report.notes.iter().any(|note| note == said), "{run:#?}");
    assert_eq!(
        (host.read("/etc/app.conf"), host.read("/etc/app.conf.rpmnew")),
        ("from the fleet\n".into(), "newest\n".into())
    );
    host.trueup(&["run"]).idle();

    // What is declared does not count as somebody's dependency; what was there before stays when let go.
    lab.fleet.write("hosts/rpm-01/host.toml", "[packages]\nwords = \"present\"\n[guard]\nmax_removals = 4\n");
    lab.fleet.remove("hosts/rpm-01/files/etc/app.conf");
    lab.fleet.commit("without app");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(run.step("package:words").changes, ["mark automatic → manual"], "{run:#?}");
    assert_eq!(host.package("app"), None);
    assert_eq!(host.package("before").as_deref(), Some("1.0-1"));
    assert_eq!(host.package("words").as_deref(), Some("1.0-1"));
    host.trueup(&["run"]).idle();
}

#[test]
fn what_fails_is_told_readably_and_the_others_go_on() {
    failures(Variant::Rpm);
}

#[test]
fn what_fails_is_told_readably_and_the_others_go_on_with_dnf_5() {
    failures(Variant::Rpm5);
}

fn failures(variant: Variant) {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.dnf().publish(&[
        Package::new("broken", "1.0-1").field("Requires(pre)", "/bin/sh").script("pre", "echo so sorry\nexit 1"),
        Package::new("fine", "1.0-1").file("/srv/fine", "fine\n", 0o644),
        Package::new("usurper", "1.0-1").file("/srv/fine", "not so\n", 0o644),
        Package::new("lost", "1.0-1"),
        Package::new("unmet", "1.0-1").field("Requires", "nothing-here"),
        Package::new("stuck", "1.0-1").script("preun", "[ -e /srv/mended ]"),
        Package::new("exact", "1.0-1").field("Provides", "exactly"),
        Package::new("halting", "1.0-1").script("post", "echo no user\nexit 3"),
    ]);
    lab.dnf().lose("lost");
    let all = ["halting", "usurper", "broken", "fine", "lost", "unmet", "stuck"];
    declare(&mut lab, &all.map(|name| format!("{name} = \"present\"")).join("\n"));
    let host = lab.boot_on(variant, "rpm-01", "");

    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
    let told = |id: &str| {
        let step = run.step(id);
        (step.reason.clone().unwrap_or_default(), step.message.clone().unwrap_or_default())
    };
    let (reason, why) = told("package:broken");
    assert_eq!(reason, "package-failed", "{why}");
    assert!(why.contains("%prein scriptlet failed, exit status 1: so sorry"), "{why}");
    let (reason, why) = told("package:unmet");
    assert_eq!(reason, "unresolvable", "{why}");
    assert!(why.contains("nothing provides nothing-here"), "{why}");
    let (reason, why) = told("package:lost");
    assert_eq!(reason, "download-failed", "{why}");
    // The fifth names the file.
    assert!(why.contains("lost-1.0-1.noarch") || why.contains("lost-0-1.0-1.noarch.rpm"), "{why}");
    let (reason, why) = told("package:usurper");
    assert_eq!(reason, "package-failed", "{why}");
    assert!(why.contains("file /srv/fine ") && why.contains("conflict"), "{why}");
    assert_eq!(host.package("usurper"), None);
    // rpm goes on after that one.
    assert_eq!(run.step("package:halting").outcome, "done", "{run:#?}");
    let said = "halting is as it is to be, but its %post scriptlet failed, exit status 3: no user";
    let notes: Vec<&String> = run.report.notes.iter().filter(|note| note.contains("scriptlet")).collect();
    assert_eq!(notes, [&format!("packages: {said}")], "{run:#?}");
    let told = host.journal(&["TRUEUP_EVENT=complaint", "TRUEUP_RESOURCE=package:halting"]);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0]["MESSAGE"], format!("complaint: {said}"));
    assert!(host.package("fine").is_some() && host.package("stuck").is_some() && host.package("broken").is_none());
    assert_eq!(host.read("/etc/motd"), "ours\n");

    // One that cannot be removed is not forgotten.
    declare(&mut lab, "fine = \"present\"");
    for _ in 0..2 {
        let run = host.trueup(&["run"]);
        assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
        assert!(run.step("package:stuck").message.as_deref().is_some_and(|why| why.contains("%preun")), "{run:#?}");
    }
    host.shell("touch /srv/mended");
    host.trueup(&["run", "--retry"]).converged();
    assert_eq!(host.package("stuck"), None);

    // Where nothing can be held the version is as declared nevertheless, and the plan says what is missing.
    host.write("/etc/dnf/plugins/versionlock.conf", "[main]\nenabled = 0\n");
    declare(&mut lab, "fine = \"present\"\nexact = \"1.0-1\"");
    let plan = host.trueup(&["plan"]);
    let is_told = plan.report.notes.iter().any(|note| note.contains("exact") && note.contains("versionlock"));
    assert_eq!(is_told, variant == Variant::Rpm, "the fifth does without that plugin: {plan:#?}");
    host.trueup(&["run"]).converged();
    host.trueup(&["run"]).idle();

    // A source that the fleet brings is read before packages are; one that does not answer is told.
    lab.fleet.write(
        "hosts/rpm-01/files/etc/yum.repos.d/gone.repo",
        "[gone]\nname=gone\nbaseurl=http://127.0.0.1:9/\ngpgcheck=0\n",
    );
    lab.fleet.commit("a source that is not there");
    let run = host.trueup(&["run"]);
    let told = format!("{run:#?}");
    assert!(told.contains("index-failed") && told.contains("gone"), "{told}");
    lab.fleet.remove("hosts/rpm-01/files/etc/yum.repos.d/gone.repo");
    lab.dnf().publish(&[Package::new("late", "1.0-1")]);
    declare(&mut lab, "fine = \"present\"\nexact = \"1.0-1\"\nlate = \"present\"\nexactly = \"absent\"");
    let run = host.trueup(&["run"]);
    run.converged();
    let said =
        "package:exactly is absent, and what provides that is installed: exact; it has to be declared absent to go";
    assert!(run.report.notes.iter().any(|note| note == said), "{run:#?}");
    assert_eq!(host.package("late").as_deref(), Some("1.0-1"), "what the index does not know makes it be fetched");

    // Somebody else's database cannot be looked at: that is not absence.
    host.shell("mv /usr/lib/sysimage/rpm /usr/lib/sysimage/moved");
    let run = host.trueup(&["run"]);
    assert_eq!(run.step("package:fine").reason.as_deref(), Some("cannot-tell"), "{run:#?}");
    host.shell("rm -rf /usr/lib/sysimage/rpm; mv /usr/lib/sysimage/moved /usr/lib/sysimage/rpm");
    // Nor can a damaged one, of which rpm says that nothing is installed.
    host.shell(
        "cp -a /usr/lib/sysimage/rpm /srv/rpm; cd /usr/lib/sysimage/rpm; rm -f rpmdb.sqlite-*; echo no >rpmdb.sqlite",
    );
    let run = host.trueup(&["run"]);
    assert_eq!(run.step("package:fine").reason.as_deref(), Some("cannot-tell"), "{run:#?}");
    host.shell("rm -rf /usr/lib/sysimage/rpm; mv /srv/rpm /usr/lib/sysimage/rpm");
    // What is there twice is neither of the two.
    lab.dnf().publish(&[Package::new("fine", "1.1-1")]);
    host.shell("cd /srv; dnf -q --refresh download fine-1.1; rpm -i --force fine-*1.1-1*.rpm");
    assert_eq!(host.ok(&["rpm", "-q", "fine"]).lines().count(), 2);
    for verb in ["plan", "run"] {
        let told = host.trueup(&[verb]);
        let step = told.step("package:fine");
        assert_eq!(step.reason.as_deref(), Some("cannot-tell"), "{told:#?}");
        let why = step.message.clone().unwrap_or_default();
        assert!(why.contains("1.0-1 and 1.1-1") && why.contains("dnf remove --duplicates"), "{why}");
    }
    host.shell("rpm -e fine-1.1-1");
    host.trueup(&["run", "--retry"]).converged();
    // What a power cut left of dnf's locks bears a number that is another's by now.
    host.shell("echo 1 >/var/lib/dnf/rpmdb_lock.pid; rpm -e fine");
    host.trueup(&["run"]).converged();
}

#[test]
fn the_agent_asks_dnf_only_when_packages_changed() {
    asked_only_when_needed(Variant::Rpm);
}

#[test]
fn the_agent_asks_dnf_only_when_packages_changed_with_dnf_5() {
    asked_only_when_needed(Variant::Rpm5);
}

fn asked_only_when_needed(variant: Variant) {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.dnf().publish(&[Package::new("tool", "1.0-1")]);
    declare(&mut lab, "tool = \"present\"");
    let host = lab.boot_on(variant, "rpm-01", "interval = \"1s\"\n");
    host.trueup(&["run"]).converged();
    let program = if variant == Variant::Rpm { "/usr/bin/dnf-3" } else { "/usr/bin/dnf5" };
    host.shell(&format!(
        "mv {program} /usr/bin/dnf-asked && sed 's/^X//' >{program} <<'END'\n\
         X#!/bin/sh\nXprintf '%s\\\\n' \"$*\" >>/run/asked\nXexec /usr/bin/dnf-asked \"$@\"\nEND\nchmod 755 {program}"
    ));
    host.shell("systemd-run --quiet --unit=agent trueup agent");
    let passes = |count: usize| {
        for _ in 0..count {
            host.shell("for _ in $(seq 100); do trueup sync && break || sleep 0.1; done");
        }
    };
    let asked = || host.shell("cat /run/asked").lines().count();
    passes(4);
    assert_eq!(asked(), 1, "{}", host.read("/run/asked"));
    // Only dnf's own record changes.
    let verb = if variant == Variant::Rpm { "remove" } else { "dependency" };
    host.shell(&format!("/usr/bin/dnf-asked -q -y mark {verb} tool"));
    passes(4);
    let reason = host.shell("/usr/bin/dnf-asked -q repoquery --installed --qf '%{reason}' tool").to_lowercase();
    assert!(reason.contains("user"), "{reason}");
    host.shell("systemctl stop agent");
}

#[test]
fn whoever_is_at_work_is_named_and_waited_for() {
    at_work(Variant::Rpm);
}

#[test]
fn whoever_is_at_work_is_named_and_waited_for_with_dnf_5() {
    at_work(Variant::Rpm5);
}

fn at_work(variant: Variant) {
    let Some(mut lab) = Lab::new(1) else { return };
    let post = "touch /run/begun; while [ -e /run/wait ]; do sleep 0.1; done";
    let slow = Package::new("slow", "1.0-1").script("post", post);
    lab.dnf().publish(&[Package::new("tool", "1.0-1"), Package::new("other", "1.0-1"), slow]);
    declare(&mut lab, "tool = \"present\"");
    let host = lab.boot_on(variant, "rpm-01", "interval = \"1s\"\n");
    let waits = || {
        host.shell("systemd-run --quiet --unit=agent trueup agent");
        host.await_status("it waits", |status| {
            let doing = status["running"]["doing"].as_str().unwrap_or_default();
            doing.contains("waiting for dnf") && doing.contains("(pid ")
        });
        assert_eq!(host.package("tool"), None);
    };
    let goes_on = || {
        host.await_status("it went on", |status| status["state"] == "in-sync" && status["running"].is_null());
        assert!(host.package("tool").is_some());
        host.shell("systemctl stop agent");
    };
    host.write("/run/wait", "");
    let somebody = host.spawn(&["dnf", "-q", "-y", "install", "slow"], None);
    host.await_that("[ -e /run/begun ]");
    // A look waits for nobody.
    let plan = host.trueup(&["plan"]);
    assert_eq!((plan.status, plan.step("package:tool").outcome.as_str()), (2, "planned"), "{plan:#?}");
    waits();
    host.ok(&["rm", "/run/wait"]);
    assert_eq!(somebody.wait().status, 0);
    goes_on();
    if variant == Variant::Rpm5 {
        // The fifth holds its lock while it asks, too.
        host.shell("rpm -e tool");
        let mut somebody = host.spawn_with_input(&["dnf", "install", "other"]);
        host.await_that("grep -q \":$(stat -c %i /var/lib/dnf/system-repo.lock) \" /proc/locks");
        waits();
        somebody.close_input();
        assert_ne!(somebody.wait().status, 0, "nobody said yes");
        goes_on();
    }
}
