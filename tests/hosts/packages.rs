//! Packages: any version, an exact one, a pattern; what stands in the way is told beforehand.

use super::apt::Package;
use super::{Host, Lab, Variant};

fn declare(lab: &mut Lab, packages: &str) {
    lab.fleet.write("hosts/web-01/host.toml", format!("[packages]\n{packages}\n"));
    lab.fleet.write("hosts/web-01/files/etc/motd", "ours\n");
    lab.fleet.commit(packages);
}

fn held(host: &Host) -> String {
    host.ok(&["apt-mark", "showhold"])
}

#[test]
fn versions_are_as_declared_and_what_stands_in_the_way_is_told_beforehand() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[
        Package::new("tool", "1.0").field("Depends", "words"),
        Package::new("tool", "1.1").field("Depends", "words"),
        Package::new("tool", "2.0").field("Depends", "words"),
        Package::new("words", "1.0"),
        Package::new("theirs", "1.0"),
        Package::new("rival", "1.0").field("Conflicts", "theirs"),
        Package::new("mailer", "1.0").field("Provides", "mail-thing"),
    ]);
    declare(&mut lab, "tool = \"1.*\"");
    let host = lab.boot("web-01");
    host.shell("apt-get -qq update && apt-get -qq -y install theirs");

    let plan = host.trueup(&["plan"]);
    assert_eq!(plan.status, 2, "{plan:#?}");
    assert!(plan.report.notes.iter().any(|note| note.contains("also installs words 1.0")), "{plan:#?}");
    host.trueup(&["run"]).converged();
    assert_eq!(host.package("tool").as_deref(), Some("1.1"), "the newest that matches");
    host.trueup(&["run"]).idle();

    declare(&mut lab, "tool = \"2.0\"");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(run.step("package:tool").changes, ["1.1 → 2.0", "held"]);
    assert_eq!(held(&host), "tool\n");

    // An older one: what the declaration says goes, what a hand did does not.
    declare(&mut lab, "tool = \"1.0\"");
    host.trueup(&["run"]).converged();
    assert_eq!(host.package("tool").as_deref(), Some("1.0"));
    host.shell("apt-get -qq -y --allow-change-held-packages install tool=2.0");
    for verb in ["plan", "run"] {
        let told = host.trueup(&[verb]);
        assert_eq!((told.status, told.report.reason.as_deref()), (1, Some("downgrade-refused")), "{told:#?}");
    }
    assert_eq!(host.package("tool").as_deref(), Some("2.0"));
    declare(&mut lab, "tool = { version = \"1.0\", downgrade = \"always\" }");
    host.trueup(&["run"]).converged();
    assert_eq!(host.package("tool").as_deref(), Some("1.0"));

    // What nobody declared absent is not removed for what is declared present; the rest goes on.
    declare(&mut lab, "tool = \"1.0\"\nrival = \"present\"\nnobodys = \"present\"");
    let plan = host.trueup(&["plan"]);
    assert_eq!(plan.step("package:rival").reason.as_deref(), Some("removes-undeclared"), "{plan:#?}");
    host.shell("echo by hand >/etc/motd");
    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
    assert_eq!(run.step("package:nobodys").reason.as_deref(), Some("no-such-package"), "{run:#?}");
    assert_eq!(run.step("file:/etc/motd").outcome, "done");
    assert!(host.package("theirs").is_some() && host.package("rival").is_none());
    // What was refused beforehand is not asked about in every pass.
    let met = || host.read("/var/lib/trueup/experience");
    let before = met();
    let again = host.trueup(&["run"]);
    let rival = again.step("package:rival");
    assert_eq!((rival.action.as_str(), rival.reason.as_deref()), ("wait", Some("removes-undeclared")), "{again:#?}");
    assert_eq!(met(), before, "waiting writes nothing");
    assert_eq!(host.read("/etc/motd"), "ours\n");

    // Of a foreign architecture it is another package, and nobody guesses which one is meant.
    declare(&mut lab, "tool = \"1.0\"\n\"lib32:i386\" = \"present\"");
    let plan = host.trueup(&["plan"]);
    let message = plan.step("package:lib32:i386").message.clone().unwrap_or_default();
    assert!(message.contains("dpkg --add-architecture i386"), "{plan:#?}");
    host.ok(&["dpkg", "--add-architecture", "i386"]);
    lab.apt().publish(&[Package::new("lib32", "1.0").of_architecture("i386")]);
    host.shell("apt-get -qq update");
    declare(&mut lab, "tool = \"1.0\"\nlib32 = \"present\"");
    let run = host.trueup(&["run", "--retry"]);
    let step = run.step("package:lib32");
    assert_eq!(step.reason.as_deref(), Some("no-such-package"), "{run:#?}");
    assert!(step.message.as_deref().is_some_and(|why| why.contains("there is only lib32:i386")), "{run:#?}");
    declare(&mut lab, "tool = \"1.0\"\n\"lib32:i386\" = \"1.*\"");
    host.trueup(&["run", "--retry"]).converged();
    assert_eq!(host.package("lib32:i386").as_deref(), Some("1.0"));
    host.trueup(&["run"]).idle();

    // What was cut off the end of dpkg's own file is not known, rather than absent.
    host.shell(
        "cp /var/lib/dpkg/status /srv/status; sed -n '/^Package: theirs$/q; p' /srv/status >/var/lib/dpkg/status",
    );
    declare(&mut lab, "tool = \"1.0\"\ntheirs = \"present\"");
    for verb in ["plan", "run"] {
        let told = host.trueup(&[verb]);
        let theirs = told.step("package:theirs");
        assert_eq!(theirs.reason.as_deref(), Some("cannot-tell"), "{told:#?}");
        assert!(theirs.message.as_deref().is_some_and(|why| why.contains("status is not whole")), "{told:#?}");
    }
    host.shell("cp /srv/status /var/lib/dpkg/status");
    host.trueup(&["run", "--retry"]).converged();

    // Who provides what is absent is as declared, and named.
    host.shell("apt-get -qq -y install mailer");
    declare(&mut lab, "tool = \"1.0\"\ntheirs = \"present\"\nmail-thing = \"absent\"\nnobodys = \"absent\"");
    for verb in ["plan", "run"] {
        let told = host.trueup(&[verb]);
        assert_eq!(told.status, 0, "{told:#?}");
        let notes: Vec<&String> = told.report.notes.iter().filter(|note| note.contains("is absent")).collect();
        let said = "package:mail-thing is absent, and what provides that is installed: mailer; it has to be declared absent to go";
        assert_eq!(notes, [said], "{told:#?}");
    }

    // What the system cannot do without does not go, and with it nothing of the plan.
    declare(&mut lab, "base-files = \"absent\"");
    host.shell("echo by hand >/etc/motd");
    host.trueup(&["run"]).stalled("protected");
    assert!(host.package("base-files").is_some());
    assert_eq!(host.read("/etc/motd"), "ours\n", "the last good revision still holds");
}

#[test]
fn what_a_package_brings_may_be_taken_over_and_what_was_there_before_only_where_the_host_says_so() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[
        Package::new("demo", "1.0")
            .file("/etc/demo.conf", "as packaged\n", 0o644)
            .script("conffiles", "/etc/demo.conf\n")
            .service("/bin/sleep infinity", ""),
        Package::new("other", "1.0").service("/bin/sleep infinity", ""),
    ]);
    lab.fleet.write(
        "hosts/web-01/host.toml",
        "[packages]\ndemo = \"present\"\nother = \"present\"\n[units]\n\"demo.service\" = \"on\"\n",
    );
    lab.fleet.write("hosts/web-01/units/other.service.d/nice.conf", "[Service]\nNice=5\n");
    lab.fleet.write("hosts/web-01/files/etc/demo.conf", "from the fleet\n");
    lab.fleet.write("hosts/web-01/files/etc/theirs.conf", "from the fleet\n");
    lab.fleet.commit("demo");
    let host = lab.boot_with("web-01", "[policy]\ntakeover = \"refuse\"\n");
    host.write("/etc/theirs.conf", "theirs\n");

    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.reason.as_deref()), (1, Some("takeover-refused")), "{run:#?}");
    assert_eq!(host.read("/etc/demo.conf"), "from the fleet\n");
    assert_eq!(host.read("/etc/theirs.conf"), "theirs\n");
    assert_eq!(host.unit_state("demo.service"), "active enabled");
    assert_eq!(
        host.unit_state("other.service"),
        "active enabled",
        "nobody says whether it runs: as its package has it"
    );
    assert_eq!(host.unit("other.service", "Nice"), "5");
    assert!(!host.has("/usr/sbin/policy-rc.d"));

    // Let go by hand, all of it, the package and what lies around it.
    host.trueup(&["release", "--all"]).converged();
    assert_eq!(host.package("demo"), None);
    assert_eq!(host.read("/etc/demo.conf"), "as packaged\n", "removed, not purged");
    assert_eq!(host.read("/etc/theirs.conf"), "theirs\n");
}

#[test]
fn scripts_of_packages_that_meddle_or_fail_are_told_and_made_good() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[
        Package::new("stuck", "1.0").script("prerm", "#!/bin/sh\n[ -e /srv/mended ]\n"),
        Package::new("meddler", "1.0").script(
            "postinst",
            "#!/bin/sh\necho '# mine now' >/etc/apt/sources.list.d/zz.list\nrm -f /etc/theirs.conf\n",
        ),
    ]);
    lab.fleet.write("hosts/web-01/files/etc/apt/sources.list.d/zz.list", "# the fleet's\n");
    lab.fleet.write("hosts/web-01/files/etc/theirs.conf", "the fleet's\n");
    declare(&mut lab, "stuck = \"present\"");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();

    // What a script did to what is ours is put right in the same pass, and told.
    declare(&mut lab, "stuck = \"present\"\nmeddler = \"present\"");
    let run = host.trueup(&["run"]);
    run.converged();
    assert_eq!(run.step("file:/etc/theirs.conf").cause, "corrective", "{run:#?}");
    assert_eq!(run.step("file:/etc/apt/sources.list.d/zz.list").cause, "corrective", "{run:#?}");
    assert_eq!(host.read("/etc/apt/sources.list.d/zz.list"), "# the fleet's\n");
    assert_eq!(host.read("/etc/theirs.conf"), "the fleet's\n");
    host.trueup(&["run"]).idle();

    // One that cannot be removed is not forgotten.
    declare(&mut lab, "meddler = \"present\"");
    for _ in 0..2 {
        let run = host.trueup(&["run"]);
        assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
        assert_eq!(run.step("package:stuck").outcome, "failed", "{run:#?}");
    }
    host.shell("touch /srv/mended");
    host.trueup(&["run", "--retry"]).converged();
    assert_eq!(host.package("stuck"), None);

    // What its package did not make ready is not started, nor started anew, and waits with it.
    let needy = |version| {
        let user = format!("[ -e /srv/user-{version} ] || {{ echo 'needy: cannot make my user' >&2; exit 1; }}");
        Package::new("needy", version).service("/bin/sleep infinity", &user)
    };
    lab.apt().publish(&[needy("1.0"), needy("2.0")]);
    for version in ["1.0", "2.0"] {
        let state = || (host.unit_state("needy.service"), host.unit("needy.service", "InvocationID"));
        let before = state();
        let wanted = format!("[packages]\nneedy = \"{version}\"\n[units]\n\"needy.service\" = \"on\"\n");
        lab.fleet.write("hosts/web-01/host.toml", wanted);
        lab.fleet.commit(version);
        for _ in 0..2 {
            let run = host.trueup(&["run"]);
            assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
            let package = run.step("package:needy");
            assert!(package.message.as_deref().is_some_and(|why| why.contains("cannot make my user")), "{run:#?}");
            let unit = if version == "1.0" {
                let unit = run.step("unit:needy.service");
                (unit.outcome.as_str(), unit.message.as_deref())
            } else {
                let unit = run.refresh("unit:needy.service");
                (unit.outcome.as_str(), unit.message.as_deref())
            };
            assert_eq!(unit, ("skipped", Some("because package:needy")), "{run:#?}");
            let is = state();
            assert!(if version == "1.0" { is.0 == "inactive disabled" } else { is == before }, "{is:?} {before:?}");
        }
        host.shell(&format!("touch /srv/user-{version}"));
        let run = host.trueup(&["run", "--retry"]);
        assert_eq!((run.status, run.report.state.as_str()), (0, "in-sync"), "{run:#?}");
        assert_eq!(state().0, "active enabled");
        assert_ne!(state().1, before.1);
        host.trueup(&["run"]).idle();
    }
}

/// A script that fails, with these words, until somebody has mended that.
fn fails(words: &str) -> String {
    format!("#!/bin/sh\n[ -e /srv/mended ] || {{ echo '{words}'; exit 1; }}\n")
}

#[test]
fn packages_that_fail_keep_no_others_from_coming_or_going_in_the_same_pass() {
    failing(Variant::Bookworm);
}

#[test]
fn packages_that_fail_keep_no_others_from_coming_or_going_in_the_same_pass_on_trixie() {
    failing(Variant::Trixie);
}

fn failing(variant: Variant) {
    let Some(mut lab) = Lab::new(1) else { return };
    let served = "#!/bin/sh\ncat /etc/served.conf >>/run/served.starts\nexec sleep infinity\n";
    lab.apt().publish(&[
        Package::new("stuck", "1.0").script("prerm", &fails("I stay")),
        Package::new("gone", "1.0"),
        Package::new("halfgone", "1.0").script("postrm", &fails("half gone")),
        Package::new("sorry", "1.0").script("postinst", &fails("so sorry")),
        Package::new("refuses", "1.0").script("preinst", &fails("no entry")),
        Package::new("fine", "1.0").file("/srv/fine", "fine\n", 0o644),
        Package::new("exact", "1.0"),
        Package::new("needs", "1.0").field("Depends", "refuses"),
        Package::new("early", "1.0").field("Pre-Depends", "sorry"),
        Package::new("needs-hidden", "1.0").field("Depends", "hidden"),
        Package::new("hidden", "1.0").script("preinst", &fails("not me")),
        Package::new("served", "1.0")
            .file("/usr/bin/served", served, 0o755)
            .file("/etc/served.conf", "as packaged\n", 0o644)
            .script("conffiles", "/etc/served.conf\n")
            .service("/usr/bin/served", ""),
    ]);
    declare(&mut lab, "stuck = \"present\"\ngone = \"present\"\nhalfgone = \"present\"");
    let host = lab.boot_on(variant, "web-01", "");
    host.trueup(&["run"]).converged();

    let all = "stuck = \"absent\"\ngone = \"absent\"\nhalfgone = \"absent\"\nsorry = \"present\"\nrefuses = \"present\"\nfine = \"present\"\n\
               exact = \"1.0\"\nneeds = \"present\"\nearly = \"present\"\nneeds-hidden = \"present\"\nserved = \"present\"\n\
               [units]\n\"served.service\" = \"on\"";
    lab.fleet.write("hosts/web-01/files/etc/served.conf", "from the fleet\n");
    declare(&mut lab, all);
    let run = host.trueup(&["run"]);
    assert_eq!((run.status, run.report.state.as_str()), (1, "degraded"), "{run:#?}");
    for done in ["gone", "fine", "exact", "served"] {
        assert_eq!(run.step(&format!("package:{done}")).outcome, "done", "{done}: {run:#?}");
    }
    assert_eq!(run.step("unit:served.service").outcome, "done", "{run:#?}");
    for (failed, words) in [
        ("stuck", "pre-removal script subprocess returned error exit status 1: I stay"),
        ("halfgone", "post-removal script subprocess returned error exit status 1: half gone; it is held"),
        ("sorry", "post-installation script subprocess returned error exit status 1: so sorry"),
        ("refuses", "pre-installation script subprocess returned error exit status 1: no entry"),
        ("needs", "because package:refuses failed"),
        ("early", "because package:sorry failed"),
        ("needs-hidden", "because package:hidden failed: new hidden package pre-installation script"),
    ] {
        let step = run.step(&format!("package:{failed}"));
        assert_eq!((step.outcome.as_str(), step.reason.as_deref()), ("failed", Some("package-failed")), "{run:#?}");
        assert!(step.message.as_deref().is_some_and(|why| why.contains(words)), "{failed}: {run:#?}");
    }
    assert!(host.package("gone").is_none() && host.package("fine").is_some() && host.package("stuck").is_some());
    assert_eq!(held(&host), "exact\nhalfgone\n");
    assert_eq!(host.unit_state("served.service"), "active enabled");
    assert_eq!(host.read("/run/served.starts"), "from the fleet\n", "started once, with its file in place");
    assert!(!host.has("/usr/sbin/policy-rc.d"));
    assert_eq!(host.ok(&["apt-get", "-q", "check"]).lines().filter(|line| line.starts_with("E:")).count(), 0);

    // While those wait, what is left half done of them holds nobody up.
    host.shell("dpkg -r fine; systemctl stop served; dpkg -r served");
    let run = host.trueup(&["run"]);
    for done in ["fine", "served"] {
        let step = run.step(&format!("package:{done}"));
        assert_eq!((step.outcome.as_str(), step.cause.as_str()), ("done", "corrective"), "{run:#?}");
    }
    assert_eq!(run.step("package:stuck").action, "wait", "{run:#?}");
    assert_eq!(host.unit_state("served.service"), "active enabled");

    host.shell("touch /srv/mended");
    host.trueup(&["run", "--retry"]).converged();
    assert!(["needs", "early", "needs-hidden", "sorry"].iter().all(|name| host.package(name).is_some()));
    assert_eq!((host.package("halfgone"), held(&host).as_str()), (None, "exact\n"));
    host.trueup(&["run"]).idle();
}

#[test]
fn what_is_half_there_is_held_only_where_it_is_declared_and_only_until_it_is_mended() {
    let Some(mut lab) = Lab::new(1) else { return };
    let half =
        |name| Package::new(name, "1.0").script("preinst", &fails("no entry")).script("postrm", &fails("nor out"));
    lab.apt().publish(&[
        half("hidden"),
        half("stays").file("/etc/stays.conf", "x\n", 0o644).script("conffiles", "/etc/stays.conf\n"),
        Package::new("needs", "1.0").field("Depends", "hidden"),
    ]);
    declare(&mut lab, "stays = \"present\"\nneeds = \"present\"");
    let host = lab.boot("web-01");
    let run = host.trueup(&["run"]);
    let message = |name: &str| run.step(&format!("package:{name}")).message.clone().unwrap_or_default();
    assert!(message("stays").contains("; it is held, since"), "{run:#?}");
    assert!(message("needs").contains("; hidden is half-installed and not declared"), "{run:#?}");
    assert_eq!(held(&host), "stays\n");

    // As it was told.
    host.shell("touch /srv/mended; apt-get install -y --reinstall hidden");
    host.trueup(&["run", "--retry"]).converged();
    assert!(["stays", "needs"].iter().all(|name| host.package(name).is_some()));
    assert_eq!(held(&host), "");
    host.trueup(&["run"]).idle();
}

#[test]
fn what_came_half_way_is_taken_back_so_that_later_passes_get_past_it() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[
        Package::new("fine", "1.0"),
        Package::new("needs", "1.0").field("Depends", "refuses"),
        Package::new("refuses", "1.0").script("preinst", &fails("no entry")),
    ]);
    declare(&mut lab, "fine = \"present\"");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();
    declare(&mut lab, "fine = \"present\"\nneeds = \"present\"");
    let run = host.trueup(&["run"]);
    let message = run.step("package:needs").message.clone().unwrap_or_default();
    assert!(message.contains("because package:refuses failed: ") && message.ends_with(": no entry"), "{run:#?}");
    assert_eq!(host.package("needs"), None);

    host.shell("dpkg -r fine");
    let run = host.trueup(&["run"]);
    assert_eq!(run.step("package:fine").outcome, "done", "{run:#?}");
    assert_eq!(run.step("package:needs").action, "wait", "{run:#?}");
    host.shell("touch /srv/mended");
    host.trueup(&["run", "--retry"]).converged();
    host.trueup(&["run"]).idle();
}

#[test]
fn a_suspended_package_is_neither_upgraded_nor_brought_back_for_the_sake_of_another() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[Package::new("tool", "1.0"), Package::new("words", "1.0"), Package::new("fine", "1.0")]);
    declare(&mut lab, "tool = \"1.0\"\nwords = \"present\"");
    let host = lab.boot("web-01");
    host.shell("apt-get -qq update");
    host.trueup(&["run"]).converged();
    let told_to_agent = |verb: &str| {
        // Only the agent takes such words; what it does meanwhile is what a pass by hand does.
        host.shell("systemd-run --quiet --unit=asked trueup agent");
        host.shell(&format!("for _ in $(seq 100); do trueup {verb} && break || sleep 0.1; done; systemctl stop asked"));
    };
    told_to_agent("suspend package:words");

    lab.apt().publish(&[
        Package::new("tool", "1.0"),
        Package::new("tool", "2.0").field("Depends", "words (>= 2.0)"),
        Package::new("words", "1.0"),
        Package::new("words", "2.0"),
        Package::new("fine", "1.0"),
    ]);
    host.shell("apt-get -qq update");
    declare(&mut lab, "tool = \"2.0\"\nwords = \"present\"\nfine = \"present\"");
    let versions = |host: &Host| ["tool", "words", "fine"].map(|name| host.package(name));
    let are = |versions: [Option<&str>; 3]| versions.map(|version| version.map(str::to_owned));
    for removed in [false, true] {
        if removed {
            host.shell("apt-get -qq -y remove words");
        }
        for verb in [&["plan"][..], &["run", "--retry"], &["run"]] {
            let told = host.trueup(verb);
            let step = told.step("package:tool");
            assert_eq!(
                (step.outcome.as_str(), step.reason.as_deref()),
                ("failed", Some("package-suspended")),
                "{told:#?}"
            );
            assert!(step.message.as_deref().is_some_and(|why| why.contains("words")), "{told:#?}");
        }
        let words = if removed { None } else { Some("1.0") };
        assert_eq!(versions(&host), are([Some("1.0"), words, Some("1.0")]), "the others go on");
    }

    told_to_agent("resume package:words");
    host.trueup(&["run"]).converged();
    assert_eq!(versions(&host), are([Some("2.0"), Some("2.0"), Some("1.0")]));
}

#[test]
fn a_hold_and_a_mark_of_ours_end_with_what_asked_for_them() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[Package::new("tool", "1.0"), Package::new("theirs", "1.0"), Package::new("words", "1.0")]);
    declare(&mut lab, "tool = \"1.0\"\ntheirs = \"1.0\"\nwords = \"present\"");
    let host = lab.boot("web-01");
    host.shell("apt-get -qq update && apt-get -qq -y install tool theirs words");
    host.shell("apt-mark -q auto tool words; apt-mark -q hold theirs");
    let automatic = || host.ok(&["apt-mark", "showauto", "tool", "theirs", "words"]);
    host.trueup(&["run"]).converged();
    assert_eq!((held(&host).as_str(), automatic().as_str()), ("theirs\ntool\n", ""));
    host.trueup(&["run"]).idle();

    // Whether any version or those of a pattern will do, none of them is kept; what was held before us stays so.
    for version in ["1.*", "present"] {
        declare(&mut lab, &format!("tool = \"{version}\"\ntheirs = \"{version}\"\nwords = \"present\""));
        let plan = host.trueup(&["plan"]);
        assert_eq!(plan.step("package:tool").changes, ["not held"], "{plan:#?}");
        host.trueup(&["run"]).converged();
        assert_eq!(held(&host), "theirs\n");
        host.trueup(&["run"]).idle();
        // A hold of somebody's own is left alone.
        host.ok(&["apt-mark", "hold", "tool"]);
        host.trueup(&["run"]).idle();
        assert_eq!(held(&host), "theirs\ntool\n");
        host.ok(&["apt-mark", "unhold", "tool"]);
        declare(&mut lab, "tool = \"1.0\"\ntheirs = \"1.0\"\nwords = \"present\"");
        host.trueup(&["run"]).converged();
    }

    // What a declaration asks for is done though somebody holds it: that is said, and it is held as before.
    let newer = || Package::new("theirs", "3.0");
    lab.apt().publish(&[Package::new("tool", "1.0"), Package::new("words", "1.0"), newer()]);
    host.shell("apt-get -qq update");
    declare(&mut lab, "tool = \"1.0\"\ntheirs = \"3.*\"\nwords = \"present\"");
    let plan = host.trueup(&["plan"]);
    let told = |note: &String| note.contains("held on this host, changed all the same") && note.ends_with(": theirs");
    assert!(plan.report.notes.iter().any(told), "{plan:#?}");
    host.trueup(&["run"]).converged();
    assert_eq!((host.package("theirs").as_deref(), held(&host).as_str()), (Some("3.0"), "theirs\ntool\n"));
    host.trueup(&["run"]).idle();

    declare(&mut lab, "# nothing");
    host.trueup(&["run"]).converged();
    assert_eq!((held(&host).as_str(), automatic().as_str()), ("theirs\n", "tool\nwords\n"));
    assert!(host.package("tool").is_some() && host.package("words").is_some(), "they were there before");
    host.trueup(&["run"]).idle();

    // What had to go for something that is declared does not come back beside that, nor what no source has any more.
    let rival = || Package::new("rival", "1.0").field("Conflicts", "words");
    lab.apt().publish(&[Package::new("tool", "1.0"), Package::new("words", "1.0"), rival()]);
    host.shell("apt-get -qq update");
    declare(&mut lab, "rival = \"present\"\nwords = \"absent\"\ntool = \"absent\"");
    host.trueup(&["run"]).converged();
    declare(&mut lab, "rival = \"present\"\ntool = \"absent\"");
    let plan = host.run(&["trueup", "plan"]);
    let text = plan.stdout.as_str();
    assert!(
        text.contains("package:words") && text.contains("released, left in place: that would also remove rival"),
        "{text}"
    );
    host.trueup(&["run"]).idle();
    host.write("/etc/apt/preferences.d/no-tool", "Package: tool\nPin: release *\nPin-Priority: -1\n");
    declare(&mut lab, "rival = \"present\"");
    let run = host.trueup(&["run"]);
    run.converged();
    let tool = run.step("package:tool").message.clone().unwrap_or_default();
    assert!(tool.contains("it stays: the preferences of this host allow none"), "{run:#?}");
    host.trueup(&["run"]).idle();
    assert!(host.package("rival").is_some() && host.package("words").is_none() && host.package("tool").is_none());
}

#[test]
fn what_somebody_is_at_work_on_is_looked_at_later_and_is_no_drift() {
    let Some(mut lab) = Lab::new(1) else { return };
    let postinst = "#!/bin/sh\nwhile [ -e /run/wait ]; do sleep 0.1; done\n";
    lab.apt().publish(&[Package::new("tool", "1.0")]);
    declare(&mut lab, "tool = \"present\"");
    let host = lab.boot("web-01");
    host.trueup(&["run"]).converged();

    lab.apt().publish(&[Package::new("tool", "1.1").script("postinst", postinst)]);
    host.write("/run/wait", "");
    host.shell("apt-get -qq update");
    let somebody = host.spawn(&["apt-get", "-q", "-y", "install", "tool"], None);
    let half = "dpkg-query -W -f '${db:Status-Status}' tool";
    host.shell(&format!("for _ in $(seq 300); do [ \"$({half})\" = half-configured ] && break; sleep 0.1; done"));
    let plan = host.trueup(&["plan"]);
    let step = plan.step("package:tool");
    assert_eq!(step.reason.as_deref(), Some("package-lock-held"), "{plan:#?}");
    assert!(step.message.as_deref().is_some_and(|said| said.contains("apt-get (pid ")), "{plan:#?}");
    host.ok(&["rm", "/run/wait"]);
    assert_eq!(somebody.wait().status, 0);
    host.trueup(&["run"]).idle();
}
