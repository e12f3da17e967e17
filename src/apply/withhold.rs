//! On Debian and its kin, installing a package starts its services. Those that are declared are started by
//! us, once their own files are in place: until then invoke-rc.d(8) and deb-systemd-invoke(1p) are told not
//! to, by the interface that Debian has for it, policy-rc.d. Elsewhere there is nothing to withhold.

use super::Ground;
use crate::host::{self, Attributes, Over};
use crate::kinds::{Observed, Spec, package};
use crate::model::Id;

/// Where Debian looks for the policy of this host.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// The second line of ours, by which one that a crash left is known.
const MARK: &str = "# trueup: withholds first starts for the time of one package transaction";
/// An administrator's own is read up to this length, in bytes.
const LIMIT: u64 = 1 << 20;

/// Withholds the first start of declared units that do not run yet, while packages are installed. `false`
/// where the host has a policy of its own, which is left alone, or there is nothing to withhold.
pub(super) fn withhold(ground: &mut Ground<'_>) -> Result<bool, host::Error> {
    let host = &ground.host;
    if !host.is_machine() || !package::starts_services(host)? || host.look("/usr/sbin")?.is_none() {
        return Ok(false);
    }
    match ground.host.read(POLICY, LIMIT)? {
        Some(standing) if !is_ours(&standing) => return Ok(false),
        _ => {}
    }
    // Whoever says nothing about whether a unit runs leaves that to its package.
    let says = |spec: &Spec| matches!(spec, Spec::Unit(unit) if unit.active.is_some() || unit.masked == Some(true));
    let ids: Vec<&Id> =
        ground.desired.resources.iter().filter(|(_, wanted)| says(&wanted.spec)).map(|(id, _)| id).collect();
    let seen = crate::kinds::observe(ground.host, &ids);
    let resting: Vec<&str> = ids
        .into_iter()
        .zip(seen)
        .filter(|(_, seen)| matches!(seen, Ok(Observed::Unit(seen)) if !seen.is_active()))
        .map(|(id, _)| id.name())
        .collect();
    if resting.is_empty() {
        return Ok(false);
    }
    let attributes = Attributes { uid: Some(0), gid: Some(0), mode: Some(0o755) };
    ground.host.write_file(POLICY, attributes, script(&resting).as_bytes(), Over::Leaf)?;
    Ok(true)
}

/// Takes our policy away, one that a crash left too.
pub(super) fn release(ground: &mut Ground<'_>) -> Result<(), host::Error> {
    if !ground.host.is_machine() {
        return Ok(());
    }
    match ground.host.read(POLICY, LIMIT) {
        Ok(Some(standing)) if is_ours(&standing) => ground.host.remove(POLICY),
        // What cannot be read as a file is not ours.
        _ => Ok(()),
    }
}

fn is_ours(policy: &[u8]) -> bool {
    String::from_utf8_lossy(policy).lines().nth(1) == Some(MARK)
}

/// Answers 101, "do not", for these units by their full name and by that of an init script. Unit names
/// hold nothing that a shell would read as a pattern but what is quoted here.
fn script(units: &[&str]) -> String {
    let quoted = |name: &str| format!("'{}'", name.replace('\'', r"'\''"));
    let names: Vec<String> = units
        .iter()
        .flat_map(|name| [Some(quoted(name)), name.strip_suffix(".service").map(quoted)])
        .flatten()
        .collect();
    format!("#!/bin/sh\n{MARK}\ncase \"$1\" in\n{}) exit 101 ;;\nesac\nexit 0\n", names.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_units_that_are_named_are_withheld() {
        let script = script(&["nginx.service", "o'dd@a\\x2db.service", "app.socket"]);
        let directory = tempfile::tempdir().expect("a scratch directory");
        let path = directory.path().join("policy");
        host::write_new(&path, script.as_bytes()).expect("written");
        let shell = std::path::Path::new("/bin/sh");
        let says = |name: &str| {
            #[allow(clippy::disallowed_methods, reason = "the script is run as invoke-rc.d runs it")]
            std::process::Command::new(shell).arg(&path).args([name, "start"]).status().expect("it runs").code()
        };
        for name in ["nginx", "nginx.service", "o'dd@a\\x2db.service", "app.socket"] {
            assert_eq!(says(name), Some(101), "{name}");
        }
        for name in ["ssh", "nginx2", "app", "ngin*"] {
            assert_eq!(says(name), Some(0), "{name}");
        }
        assert!(is_ours(script.as_bytes()));
        assert!(!is_ours(b"#!/bin/sh\nexit 101\n"));
    }
}
