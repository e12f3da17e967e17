//! What the system needs after a file changed, done by the system's own engines.

use std::io;

use crate::host::{Error, Program, Writer};
use crate::kinds::{Activation, package};
use crate::model::one_line;

/// Where systemd keeps the programs that only it calls; the second is for hosts whose /lib is apart.
const SYSTEMD: [&str; 2] = ["/usr/lib/systemd", "/lib/systemd"];

/// Exit status of systemd-tmpfiles(8): some lines could not be read, some could not be carried out.
const TMPFILES_PARTLY: [i32; 2] = [65, 73];

/// Brings into force what was written. Nothing runs in a directory that stands for a machine, where
/// each of these happens at its first boot.
///
/// # Errors
/// Where the system's own engine is not there, or ends badly; its last lines are in the error.
pub fn activate(host: &mut Writer, what: Activation) -> Result<(), Error> {
    if !host.is_machine() {
        return Ok(());
    }
    match what {
        Activation::Sysusers => run(host, Program::new("systemd-sysusers")),
        Activation::PackageIndex => package::refresh_index(host),
        Activation::DaemonReload => host.daemon_reload(),
        Activation::Tmpfiles => tmpfiles(host),
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
    }
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

/// Lines of the distribution's own that cannot be carried out here are not our failure, as at boot;
/// those of the administrator's directory are.
fn tmpfiles(host: &mut Writer) -> Result<(), Error> {
    let program = Program::new("systemd-tmpfiles").arg("--create").any_status();
    host.say("running systemd-tmpfiles");
    let output = host.run(&program)?;
    let said = String::from_utf8_lossy(&output.stderr);
    match tmpfiles_failure(output.status, &said) {
        None => Ok(()),
        Some(tail) => Err(Error::Program {
            program: "systemd-tmpfiles --create".to_owned(),
            status: format!("exit status: {}", output.status),
            tail,
        }),
    }
}

/// The lines to show where this is a failure.
fn tmpfiles_failure(status: i32, said: &str) -> Option<String> {
    let ours: Vec<&str> = said.lines().map(str::trim).filter(|line| line.contains("/etc/tmpfiles.d/")).collect();
    let show = |lines: &[&str]| Some(one_line(&lines[lines.len().saturating_sub(4)..].join("; "), 600));
    match status {
        0 => None,
        status if TMPFILES_PARTLY.contains(&status) && ours.is_empty() => None,
        status if TMPFILES_PARTLY.contains(&status) => show(&ours),
        _ => show(&said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>()),
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
            activate(&mut host, what).expect("skipped");
        }
    }

    #[test]
    fn only_our_own_lines_make_systemd_tmpfiles_fail() {
        let vendors = "/usr/lib/tmpfiles.d/a.conf:3: Failed to resolve user 'x': No such process";
        let ours = "/etc/tmpfiles.d/b.conf:1: Unknown command type 'Q'";
        assert_eq!(tmpfiles_failure(0, vendors), None);
        assert_eq!(tmpfiles_failure(65, vendors), None);
        assert_eq!(tmpfiles_failure(73, "Failed to create /run/x"), None);
        assert_eq!(tmpfiles_failure(65, &format!("{vendors}\n{ours}\n")).as_deref(), Some(ours));
        assert_eq!(tmpfiles_failure(1, "first\n\nlast\n").as_deref(), Some("first; last"));
    }
}
