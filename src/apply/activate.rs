//! What the system needs after a file changed, done by the system's own engines.

use std::io;

use super::engine::{self, Ours};
use crate::compile::Desired;
use crate::host::{Error, Program, Reader, Writer};
use crate::kinds::{Activation, package};

/// Where systemd keeps the programs that only it calls; the second is for hosts whose /lib is apart.
const SYSTEMD: [&str; 2] = ["/usr/lib/systemd", "/lib/systemd"];

/// Exit status of systemd-tmpfiles(8): some lines could not be read, some could not be carried out.
const TMPFILES_PARTLY: [i32; 2] = [65, 73];

/// What the administrator has for systemd-tmpfiles(8).
const TMPFILES: &str = "/etc/tmpfiles.d";
/// A file of more is not looked through for what its lines are about, nor are more files.
const BYTES: u64 = 1 << 20;
const FILES: usize = 1_000;

/// An engine that ended well and said that it could not do all: its name, and its last words.
pub type Complaint = (&'static str, String);

/// Brings into force what was written. Nothing runs in a directory that stands for a machine, where
/// each of these happens at its first boot.
///
/// # Errors
/// Where the system's own engine is not there, or ends badly; its last lines are in the error.
pub(super) fn activate(host: &mut Writer, what: Activation, ours: &Ours) -> Result<Option<Complaint>, Error> {
    if !host.is_machine() {
        return Ok(None);
    }
    let done = match what {
        Activation::Sysusers => return sysusers(host, ours),
        Activation::Tmpfiles => return tmpfiles(host, ours),
        Activation::PackageIndex => package::refresh_index(host),
        Activation::DaemonReload => host.daemon_reload(),
        Activation::ModulesLoad => modules_load(host),
        Activation::Sysctl => own_program(host, "systemd-sysctl"),
        Activation::Udev => {
            // Where it does not run, as in a container, it reads its rules when it starts.
            when_active(host, what, Program::new("udevadm").args(["control", "--reload"]))
        }
        Activation::Networkd => when_active(host, what, Program::new("networkctl").arg("reload")),
        Activation::Journald | Activation::Resolved | Activation::Timesyncd => restart(host, what),
        Activation::CaCertificates => ca_certificates(host),
        Activation::Ldconfig => run(host, Program::new("ldconfig")),
        // Told by whoever asked; doing it would end every session on the host.
        Activation::NeedsReboot => Ok(()),
    };
    done.map(|()| None)
}

/// What of the files that the engine of `what` reads is declared; of those for systemd-tmpfiles also what the administrator
/// has. What cannot be read is known by its path.
pub(super) fn ours(host: &Reader, what: Activation, desired: &Desired) -> Ours {
    let mut ours = Ours::default();
    if !matches!(what, Activation::Sysusers | Activation::Tmpfiles) {
        return ours;
    }
    let declared = desired.resources.iter().filter(|(id, wanted)| wanted.spec.activations(id.name()).contains(&what));
    let mut files: Vec<String> = declared.map(|(id, _)| id.name().to_owned()).collect();
    if what == Activation::Tmpfiles {
        let listed = host.list(TMPFILES).unwrap_or_default().into_iter().filter(|name| name.ends_with(".conf"));
        files.extend(listed.map(|name| format!("{TMPFILES}/{name}")));
    }
    for path in files.iter().take(FILES) {
        let content = host.read_following(path, BYTES).ok().flatten().unwrap_or_default();
        ours.add(path, what, &String::from_utf8_lossy(&content));
    }
    ours
}

fn run(host: &mut Writer, program: Program) -> Result<(), Error> {
    host.say(&format!("running {}", program.name()));
    host.run(&program).map(drop)
}

fn own_program(host: &mut Writer, name: &str) -> Result<(), Error> {
    let there =
        SYSTEMD.iter().map(|directory| format!("{directory}/{name}")).find(|path| host.below_root(path).exists());
    match there {
        Some(path) => run(host, Program::new(path)),
        None => Err(missing(name)),
    }
}

/// Where nobody may load modules, as in a container, it is nobody's failure: systemd does not even try there, since
/// systemd-modules-load.service(8) has `ConditionCapability=CAP_SYS_MODULE`.
fn modules_load(host: &mut Writer) -> Result<(), Error> {
    match own_program(host, "systemd-modules-load") {
        Err(Error::Program { .. }) if !host.may_load_modules() => Ok(()),
        other => other,
    }
}

/// A program that is not installed.
fn missing(name: &str) -> Error {
    Error::Start { program: name.to_owned(), source: io::Error::from(io::ErrorKind::NotFound) }
}

fn is_active(host: &Writer, unit: &str) -> Result<bool, Error> {
    let status = host.bus()?.statuses(&[unit]).pop().transpose()?;
    Ok(status.is_some_and(|status| status.active == "active" || status.active == "reloading"))
}

fn when_active(host: &mut Writer, what: Activation, program: Program) -> Result<(), Error> {
    match what.unit() {
        Some(unit) if is_active(host, unit)? => run(host, program),
        _ => Ok(()),
    }
}

fn restart(host: &mut Writer, what: Activation) -> Result<(), Error> {
    match what.unit() {
        Some(unit) if is_active(host, unit)? => host.restart_units(&[unit]).pop().unwrap_or(Ok(())),
        // Where it is not active, or not there, it reads its settings when it starts.
        _ => Ok(()),
    }
}

/// It ends well although it passes over lines.
fn sysusers(host: &mut Writer, ours: &Ours) -> Result<Option<Complaint>, Error> {
    const NAME: &str = "systemd-sysusers";
    host.say(&format!("running {NAME}"));
    let output = host.run(&Program::new(NAME))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = ours.lines(&said);
    Ok((!lines.is_empty()).then(|| (NAME, engine::last(&lines))))
}

/// Lines of the distribution's own that cannot be carried out here are not our failure, as at boot;
/// ours are, and those of the administrator's directory.
fn tmpfiles(host: &mut Writer, ours: &Ours) -> Result<Option<Complaint>, Error> {
    let program = Program::new("systemd-tmpfiles").arg("--create").any_status();
    host.say("running systemd-tmpfiles");
    let output = host.run(&program)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = ours.lines(&said);
    match tmpfiles_failure(output.status, &said, &lines) {
        None if output.status == 0 && !lines.is_empty() => Ok(Some(("systemd-tmpfiles", engine::last(&lines)))),
        None => Ok(None),
        Some(tail) => Err(Error::Program {
            program: "systemd-tmpfiles --create".to_owned(),
            status: format!("exit status: {}", output.status),
            tail,
        }),
    }
}

/// The lines to show where this is a failure. `ours` are those that tell of something of ours.
fn tmpfiles_failure(status: i32, said: &str, ours: &[&str]) -> Option<String> {
    match status {
        0 => None,
        status if TMPFILES_PARTLY.contains(&status) => (!ours.is_empty()).then(|| engine::last(ours)),
        _ => Some(engine::last(&said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>())),
    }
}

/// Debian and SUSE have one name for it, Fedora and Arch the other.
fn ca_certificates(host: &mut Writer) -> Result<(), Error> {
    let has =
        |name: &str| ["/usr/sbin", "/usr/bin"].iter().any(|dir| host.below_root(&format!("{dir}/{name}")).exists());
    match ["update-ca-certificates", "update-ca-trust"].into_iter().find(|name| has(name)) {
        Some(name) => run(host, Program::new(name)),
        None => Err(missing("update-ca-certificates or update-ca-trust")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Reader;

    #[test]
    fn in_a_directory_nothing_is_run() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let reader = Reader::directory(directory.path()).expect("it is there");
        let mut host = Writer::take(reader).expect("nobody else is here");
        for what in [
            Activation::Sysusers,
            Activation::PackageIndex,
            Activation::DaemonReload,
            Activation::Tmpfiles,
            Activation::Sysctl,
            Activation::Udev,
            Activation::Journald,
            Activation::CaCertificates,
            Activation::Ldconfig,
            Activation::NeedsReboot,
        ] {
            activate(&mut host, what, &Ours::default()).expect("skipped");
        }
    }

    #[test]
    fn only_our_own_lines_make_systemd_tmpfiles_fail() {
        let vendors = "/usr/lib/tmpfiles.d/a.conf:3: Failed to resolve user 'x': No such process";
        let ours = "/etc/tmpfiles.d/b.conf:1: Unknown command type 'Q'";
        assert_eq!(tmpfiles_failure(0, vendors, &[]), None);
        assert_eq!(tmpfiles_failure(65, vendors, &[]), None);
        assert_eq!(tmpfiles_failure(73, "Failed to create /run/x", &[]), None);
        assert_eq!(tmpfiles_failure(65, &format!("{vendors}\n{ours}\n"), &[ours]).as_deref(), Some(ours));
        assert_eq!(tmpfiles_failure(1, "first\n\nlast\n", &[]).as_deref(), Some("first; last"));
    }
}
