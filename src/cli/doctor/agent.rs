//! What is asked of this host, and whether anything of trueup is at work on it.

use super::Finding;
use super::looked::{Looked, Unit, Unseen};
use crate::model::one_line;
use crate::worker::protocol::Walls;

pub(super) fn configuration(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "configuration";
    let settings = match &looked.settings {
        Ok(settings) => settings,
        Err(stop) => {
            return vec![Finding::bad(ABOUT, &stop.message, "correct what is named; nothing is done until then")];
        }
    };
    let mut findings = vec![match (&settings.source, looked.files.as_slice()) {
        (Some(_), files) => Finding::ok(ABOUT, files.join(", ")),
        (None, []) => Finding::warn(ABOUT, "unconfigured: there is no settings file", "trueup setup URL"),
        (None, files) => {
            Finding::warn(ABOUT, format!("unconfigured: {} names no source", files.join(", ")), "trueup setup URL")
        }
    }];
    if let (Some(in_force), Some(on_disk)) = &looked.settings_files
        && in_force != on_disk
    {
        let message = "the agent has other settings in force than these files, which changed since it read them";
        let advice = "systemctl reload trueup; trueup status says whether it took them";
        findings.push(Finding::warn(ABOUT, message, advice));
    }
    if let Some(source) = settings.source.as_ref().filter(|source| source.max_age < source.interval) {
        let (age, interval) = (source.max_age.as_secs(), source.interval.as_secs());
        let message = format!("source.max_age ({age} s) is shorter than source.interval ({interval} s)");
        findings.push(Finding::warn(ABOUT, message, "raise max_age, or the host is `stale` between two looks"));
    }
    findings
}

pub(super) fn service(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "service";
    if !looked.machine {
        return Vec::new();
    }
    let (service, socket) = match &looked.units {
        Ok(units) => units,
        Err(why) => {
            let why = match why {
                Unseen::NeedsRoot => return vec![Finding::needs_root(ABOUT)],
                Unseen::Failed(why) => why,
            };
            return vec![Finding::warn(ABOUT, format!("systemd does not answer: {why}"), "systemctl status trueup")];
        }
    };
    let binary = format!("{} {}", looked.executable, env!("CARGO_PKG_VERSION"));
    let mut findings = vec![of_service(ABOUT, service, &binary)];
    if service.status.active == "active" && socket.status.load == "loaded" && socket.status.active != "active" {
        let message = format!("trueup.socket is {}: nobody can ask the agent", one_line(&socket.status.active, 40));
        findings.push(Finding::warn(ABOUT, message, "systemctl restart trueup"));
    }
    findings
}

/// What undoes a change that cuts this host off.
pub(super) fn timer(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "undo";
    let Ok(timer) = &looked.timer else { return Vec::new() };
    vec![match (timer.status.load.as_str(), timer.status.active.as_str()) {
        ("loaded", "active") => Finding::ok(ABOUT, "trueup-undo.timer runs: a change has not settled yet"),
        ("loaded", "failed") => Finding::bad(
            ABOUT,
            "trueup-undo.timer has failed: no revision is applied",
            "systemctl reset-failed trueup-undo.timer",
        ),
        ("loaded", _) => Finding::ok(ABOUT, "trueup-undo.timer is there, and runs while a change has not settled"),
        ("masked", _) => Finding::bad(
            ABOUT,
            "trueup-undo.timer is masked: no revision is applied, since nothing would undo it",
            "systemctl unmask trueup-undo.timer",
        ),
        (load, _) => Finding::bad(
            ABOUT,
            format!("trueup-undo.timer is {}: no revision is applied, since nothing would undo it", one_line(load, 40)),
            "install the package",
        ),
    }]
}

fn of_service(about: &'static str, service: &Unit, binary: &str) -> Finding {
    let enabled = service.file.as_deref().is_some_and(|state| state.starts_with("enabled"));
    match (service.status.load.as_str(), service.status.active.as_str(), enabled) {
        ("not-found", ..) => Finding::warn(
            about,
            format!("{binary}; trueup.service is not installed: there are only the passes that somebody starts"),
            "install the package; until then `trueup run` by hand or by a timer",
        ),
        ("masked", ..) => {
            Finding::bad(about, "trueup.service is masked", "systemctl unmask trueup && systemctl enable --now trueup")
        }
        ("loaded", "active" | "reloading", true) => {
            Finding::ok(about, format!("{binary}; trueup.service is active and enabled"))
        }
        ("loaded", "active" | "reloading", false) => Finding::warn(
            about,
            "trueup.service is active and not enabled: it is gone after a reboot",
            "systemctl enable trueup",
        ),
        ("loaded", "failed", _) => {
            Finding::bad(about, "trueup.service has failed", "journalctl -u trueup; then systemctl restart trueup")
        }
        ("loaded", "activating", _) => {
            Finding::warn(about, "trueup.service is starting", "look again; journalctl -u trueup")
        }
        ("loaded", _, true) => {
            Finding::bad(about, "trueup.service is enabled and does not run", "systemctl start trueup")
        }
        ("loaded", _, false) => {
            Finding::warn(about, "trueup.service is neither enabled nor active", "systemctl enable --now trueup")
        }
        (load, ..) => {
            let message = format!("systemd cannot use trueup.service: {}", one_line(load, 40));
            Finding::bad(about, message, "systemctl status trueup; install the package again")
        }
    }
}

pub(super) fn socket(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "agent";
    let finding = match &looked.answer {
        None => return Vec::new(),
        Some(Err(why)) => {
            Finding::bad(ABOUT, format!("it does not answer: {why}"), "journalctl -u trueup; systemctl restart trueup")
        }
        Some(Ok(version)) if version == env!("CARGO_PKG_VERSION") => {
            Finding::ok(ABOUT, format!("it answers; version {version}"))
        }
        Some(Ok(version)) => Finding::warn(
            ABOUT,
            format!("version {} runs, and this is {}", one_line(version, 40), env!("CARGO_PKG_VERSION")),
            "systemctl restart trueup",
        ),
    };
    vec![finding]
}

pub(super) fn lock(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "lock";
    vec![match &looked.holder {
        Err(Unseen::NeedsRoot) => Finding::needs_root(ABOUT),
        Err(Unseen::Failed(why)) => Finding::bad(ABOUT, why, "be root, and check the permissions of /var/lib/trueup"),
        Ok(None) => Finding::ok(ABOUT, "free: no pass is under way"),
        Ok(Some(holder)) if holder.name == "trueup" => Finding::ok(ABOUT, format!("a pass is under way: {holder}")),
        Ok(Some(holder)) => {
            let advice = "wait for it; or end it, and no pass is lost by that";
            Finding::warn(ABOUT, format!("held by {holder}"), advice)
        }
    }]
}

pub(super) fn worker(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "fetch worker";
    if !looked.machine {
        return Vec::new();
    }
    vec![match &looked.worker {
        Err(Unseen::NeedsRoot) => Finding::needs_root(ABOUT),
        Err(Unseen::Failed(why)) => Finding::bad(
            ABOUT,
            format!("cannot be put behind its wall: {why}"),
            "see the message; journalctl -u trueup",
        ),
        Ok(Walls { uid, landlock: 0, .. }) => Finding::warn(
            ABOUT,
            format!("behind its wall: uid {uid}, no capabilities, system calls filtered; {}", paths(0)),
            "nothing, or a kernel with Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK, lsm=landlock,…)",
        ),
        Ok(Walls { uid, landlock, .. }) => {
            let message =
                format!("behind its wall: uid {uid}, no capabilities, system calls filtered; {}", paths(*landlock));
            Finding::ok(ABOUT, message)
        }
    }]
}

/// What Landlock keeps apart, by its version; landlock(7).
fn paths(landlock: u8) -> String {
    match landlock {
        0 => "this kernel has no Landlock, so it reads and writes what its user may".to_owned(),
        1..=3 => format!("Landlock {landlock} for paths (ports from version 4, Linux 6.7)"),
        4 | 5 => format!("Landlock {landlock} for paths and ports"),
        _ => format!("Landlock {landlock} for paths, ports and signals"),
    }
}

pub(super) fn journal(looked: &Looked) -> Vec<Finding> {
    const ABOUT: &str = "journal";
    if !looked.machine {
        return Vec::new();
    }
    vec![match looked.journal {
        true => Finding::ok(ABOUT, "/run/systemd/journal/socket is there"),
        false => Finding::warn(
            ABOUT,
            "there is no /run/systemd/journal/socket: events go to standard error",
            "systemctl status systemd-journald.socket",
        ),
    }]
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::looked::tests::{healthy, settings, unit};
    use super::*;
    use crate::host::Holder;
    use crate::model::{Class, Stage, Stop};

    fn level(findings: &[Finding]) -> Level {
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings[0].level
    }

    #[test]
    fn settings_that_cannot_be_used_are_told_with_what_is_wrong() {
        let message =
            "/etc/trueup/agent.d (mode 0777) can be written by others than root: chmod go-w /etc/trueup/agent.d";
        let stop = Stop {
            stage: Stage::Fetch,
            class: Class::Stalled,
            reason: "bad-settings".to_owned(),
            message: message.to_owned(),
        };
        let mut looked = healthy();
        looked.settings = Err(stop);
        let found = configuration(&looked);
        assert_eq!((level(&found), found[0].message.as_str()), (Level::Bad, message));
    }

    #[test]
    fn what_is_set_and_makes_no_sense_together_is_told() {
        let mut looked = healthy();
        looked.settings = Ok(settings("[source]\nurl = \"/x\"\ninterval = \"2h\"\nmax_age = \"1h\"\n"));
        let found = configuration(&looked);
        assert_eq!(found.iter().map(|one| one.level).collect::<Vec<_>>(), [Level::Ok, Level::Warn]);
        assert!(found[1].message.contains("max_age (3600 s) is shorter"), "{found:?}");
        looked.settings_files = (Some("a".to_owned()), Some("b".to_owned()));
        let found = configuration(&looked);
        assert!(found[1].level == Level::Warn && found[1].message.contains("other settings in force"), "{found:?}");
        looked.settings_files.0 = None;
        assert_eq!(configuration(&looked).len(), 2, "no agent runs");
        looked.settings = Ok(settings(""));
        assert!(configuration(&looked)[0].message.starts_with("unconfigured"));
    }

    #[test]
    fn without_its_timer_nothing_would_be_undone() {
        let mut looked = healthy();
        assert_eq!(level(&timer(&looked)), Level::Ok);
        for load in ["masked", "not-found", "bad-setting"] {
            looked.timer = Ok(unit(load, "inactive", None));
            assert_eq!(level(&timer(&looked)), Level::Bad, "{load}");
        }
        looked.timer = Err(Unseen::NeedsRoot);
        assert_eq!(timer(&looked), []);
    }

    #[test]
    fn each_way_in_which_the_service_does_not_run_has_its_own_advice() {
        let of = |load, active, file| of_service("service", &unit(load, active, file), "trueup");
        for (unit, wanted, advice) in [
            (of("loaded", "active", Some("enabled")), Level::Ok, ""),
            (of("loaded", "active", Some("disabled")), Level::Warn, "systemctl enable trueup"),
            (of("loaded", "inactive", Some("enabled")), Level::Bad, "systemctl start trueup"),
            (of("loaded", "inactive", Some("disabled")), Level::Warn, "systemctl enable --now trueup"),
            (of("loaded", "failed", Some("enabled")), Level::Bad, "journalctl -u trueup"),
            (of("masked", "inactive", Some("masked")), Level::Bad, "unmask"),
            (of("not-found", "inactive", None), Level::Warn, "install the package"),
            (of("bad-setting", "inactive", Some("enabled")), Level::Bad, "install the package again"),
        ] {
            assert_eq!(unit.level, wanted, "{unit:?}");
            assert!(unit.advice.clone().unwrap_or_default().contains(advice), "{unit:?}");
        }
        let mut looked = healthy();
        looked.units = Ok((unit("loaded", "active", Some("enabled")), unit("loaded", "inactive", Some("enabled"))));
        assert!(service(&looked)[1].message.contains("nobody can ask the agent"));
    }

    #[test]
    fn an_agent_has_to_answer_and_be_of_this_version() {
        let mut looked = healthy();
        assert_eq!(level(&socket(&looked)), Level::Ok);
        looked.answer = Some(Ok("0.0.1".to_owned()));
        assert_eq!(level(&socket(&looked)), Level::Warn);
        looked.answer = Some(Err("connection refused".to_owned()));
        assert_eq!(level(&socket(&looked)), Level::Bad);
        looked.answer = None;
        assert_eq!(socket(&looked), []);
    }

    #[test]
    fn a_lock_names_its_holder() {
        let mut looked = healthy();
        assert_eq!(level(&lock(&looked)), Level::Ok);
        for (name, wanted) in [("trueup", Level::Ok), ("flock", Level::Warn)] {
            looked.holder = Ok(Some(Holder { pid: 812, name: name.to_owned() }));
            let found = lock(&looked);
            assert_eq!(level(&found), wanted);
            assert!(found[0].message.contains(&format!("{name} (pid 812)")), "{found:?}");
        }
        looked.holder = Err(Unseen::NeedsRoot);
        assert_eq!(lock(&looked), [Finding::needs_root("lock")]);
    }

    #[test]
    fn a_worker_whose_wall_has_a_gap_is_never_told_as_fine() {
        let of = |worker: Result<Walls, Unseen>| level(&self::worker(&Looked { worker, ..healthy() }));
        let walls = |uid, landlock| Ok(Walls { uid, landlock, filtered: true });
        assert_eq!(of(walls(990, 6)), Level::Ok);
        assert_eq!(of(walls(990, 1)), Level::Ok);
        assert_eq!(of(walls(990, 0)), Level::Warn);
        assert_eq!(of(Err(Unseen::Failed("no".to_owned()))), Level::Bad);
    }
}
