//! On Debian and its kin, installing a package starts its services. Those that are declared are started by
//! us, once their own files are in place: until then invoke-rc.d(8) and deb-systemd-invoke(1p) are told not
//! to, by the interface that Debian has for it, policy-rc.d. It is there for as long as a transaction of ours
//! is, and no longer: it goes with the unit that the transaction runs in, whatever becomes of trueup.

use super::transient;
use crate::host::{Attributes, Error, Over, Writer};

/// Where Debian looks for the policy of this host.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// The second line of ours, by which one that a crash left is known.
const MARK: &str = "# trueup: withholds first starts for the time of one package transaction";
/// An administrator's own is read up to this length, in bytes.
const LIMIT: u64 = 1 << 20;

/// Withholds the first start of `units` from now on. `false` where the host has a policy of its own, which is left
/// alone, or there is nothing to withhold.
pub fn withhold(host: &mut Writer, units: &[&str]) -> Result<bool, Error> {
    if units.is_empty() || host.look("/usr/sbin")?.is_none() {
        return Ok(false);
    }
    match host.read(POLICY, LIMIT)? {
        Some(standing) if !is_ours(&standing) => return Ok(false),
        _ => {}
    }
    let attributes = Attributes { uid: Some(0), gid: Some(0), mode: Some(0o755) };
    host.write_file(POLICY, attributes, script(units).as_bytes(), Over::Leaf)?;
    Ok(true)
}

/// Takes our policy away, one that a crash left too, unless a transaction of ours goes on.
pub fn release(host: &mut Writer) -> Result<(), Error> {
    match host.read(POLICY, LIMIT) {
        Ok(Some(standing)) if is_ours(&standing) && transient::running(host)?.is_empty() => host.remove(POLICY),
        // What cannot be read as a file is not ours.
        _ => Ok(()),
    }
}

/// A command line for a unit that takes our policy away; see systemd.service(5). An administrator's own stays.
pub fn removal() -> String {
    format!("/bin/sh -c \"grep -qsxF '{MARK}' {POLICY} && rm -f {POLICY}\"")
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
        crate::host::write_new(&path, script.as_bytes()).expect("written");
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
        assert!(is_ours(script.as_bytes()) && removal().contains(MARK));
        assert!(!is_ours(b"#!/bin/sh\nexit 101\n"));
    }
}
