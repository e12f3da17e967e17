//! On Debian and its kin, installing a package starts its services. Those that are declared are started by
//! us, once their own files are in place: until then invoke-rc.d(8) and deb-systemd-invoke(1p) are told not
//! to, by the interface that Debian has for it, policy-rc.d. It is there for as long as a transaction of ours
//! is, and no longer: it goes with the unit that the transaction runs in, whatever becomes of trueup. One that an
//! administrator has is asked first meanwhile, and put back.

use super::transient;
use crate::host::{Attributes, Error, NodeType, Over, Reader, Writer};

/// Where Debian looks for the policy of this host.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Where an administrator's own is while ours is there.
const ASIDE: &str = "/usr/sbin/policy-rc.d.trueup";
/// The second line of ours, by which one that a crash left is known.
const MARK: &str = "# trueup: withholds first starts for the time of one package transaction";
/// An administrator's own is read up to this length, in bytes.
const LIMIT: u64 = 1 << 20;

/// Withholds the first start of `units` from now on. `false` where there is nothing to withhold, or something stands
/// there that is no program.
pub fn withhold(host: &mut Writer, units: &[&str]) -> Result<bool, Error> {
    if units.is_empty() || host.look("/usr/sbin")?.is_none() {
        return Ok(false);
    }
    match (Standing::at(host, POLICY)?, Standing::at(host, ASIDE)?) {
        (Standing::Other, _) => return Ok(false),
        (theirs @ (Standing::File { .. } | Standing::Link { .. }), aside) if !theirs.is_ours() => {
            // One that was put aside before is of no use any more: this is the one that they have now.
            if aside == Standing::Other {
                return Ok(false);
            }
            // At no time is there none: this is a copy, and ours takes the place of theirs at once.
            theirs.put(host, ASIDE)?;
        }
        // Ours takes its place at once, so it was somebody else who took it away: with the package that it came in.
        (Standing::Nothing, Standing::File { .. } | Standing::Link { .. }) => host.remove(ASIDE)?,
        _ => {}
    }
    let attributes = Attributes { uid: Some(0), gid: Some(0), mode: Some(0o755), unlisted: None };
    host.write_file(POLICY, attributes, script(units).as_bytes(), Over::Leaf)?;
    Ok(true)
}

/// Takes our policy away, one that a crash left too, unless a transaction of ours goes on; an administrator's own is
/// there again.
pub fn release(host: &mut Writer) -> Result<(), Error> {
    // What cannot be read is not ours.
    let (Ok(standing), Ok(aside)) = (Standing::at(host, POLICY), Standing::at(host, ASIDE)) else { return Ok(()) };
    let is_there = matches!(aside, Standing::File { .. } | Standing::Link { .. });
    if !standing.is_ours() && !is_there || !transient::running(host)?.is_empty() {
        return Ok(());
    }
    match (standing.is_ours(), is_there) {
        (true, true) => aside.put(host, POLICY)?,
        (true, false) => return host.remove(POLICY),
        // There is theirs, or none, as they have it now: what was put aside is only a copy of what they had.
        (false, _) => {}
    }
    host.remove(ASIDE)
}

/// What is at a place where a policy may be.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Nothing,
    File {
        content: Vec<u8>,
        uid: u32,
        gid: u32,
        mode: u32,
    },
    Link {
        target: String,
    },
    /// A directory and the like, or far too long.
    Other,
}

impl Standing {
    fn at(host: &Reader, path: &str) -> Result<Self, Error> {
        let Some(meta) = host.look(path)? else { return Ok(Self::Nothing) };
        Ok(match meta.node {
            NodeType::Regular if meta.size <= LIMIT => match host.read(path, LIMIT)? {
                Some(content) => Self::File { content, uid: meta.uid, gid: meta.gid, mode: meta.mode },
                None => Self::Nothing,
            },
            NodeType::Symlink => host.read_link(path)?.map_or(Self::Nothing, |target| Self::Link { target }),
            _ => Self::Other,
        })
    }

    fn is_ours(&self) -> bool {
        matches!(self, Self::File { content, .. } if is_ours(content))
    }

    /// Makes the same at `path`, at once.
    fn put(&self, host: &mut Writer, path: &str) -> Result<(), Error> {
        match self {
            Self::File { content, uid, gid, mode } => {
                let attributes = Attributes { uid: Some(*uid), gid: Some(*gid), mode: Some(*mode), unlisted: None };
                host.write_file(path, attributes, content, Over::Leaf)
            }
            Self::Link { target } => host.make_symlink(path, target, Attributes::default(), Over::Leaf),
            Self::Nothing | Self::Other => Ok(()),
        }
    }
}

/// A command line for a unit that takes our policy away; see systemd.service(5). An administrator's own stays, or is there
/// again. Without a semicolon: systemd writes that into the file of a transient unit in a way that it does not read again.
pub fn removal() -> String {
    let is_aside = format!("test -e {ASIDE} -o -L {ASIDE}");
    format!(
        "/bin/sh -c \"grep -qsxF '{MARK}' {POLICY} && \
         ({is_aside} && mv -fT {ASIDE} {POLICY} || {is_aside} || rm -f {POLICY})\""
    )
}

fn is_ours(policy: &[u8]) -> bool {
    String::from_utf8_lossy(policy).lines().nth(1) == Some(MARK)
}

/// Answers 101, "do not", for these units by their full name and by that of an init script, where an administrator's own
/// policy has nothing against them (0 and 104; see /usr/share/doc/init-system-helpers/README.policy-rc.d.gz). Unit names
/// hold nothing that a shell would read as a pattern but what is quoted here.
fn script(units: &[&str]) -> String {
    let quoted = |name: &str| format!("'{}'", name.replace('\'', r"'\''"));
    let names: Vec<String> = units
        .iter()
        .flat_map(|name| [Some(quoted(name)), name.strip_suffix(".service").map(quoted)])
        .flatten()
        .collect();
    let theirs = format!(
        "if [ -x {ASIDE} ]; then\n    {ASIDE} \"$@\"\n    said=$?\n    case $said in 0 | 104) ;; *) exit $said ;; esac\nfi\n"
    );
    format!("#!/bin/sh\n{MARK}\n{theirs}case \"$1\" in\n{}) exit 101 ;;\nesac\nexit 0\n", names.join("|"))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests lay out what is read, and run the script as invoke-rc.d does")]
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
            std::process::Command::new(shell).arg(&path).args([name, "start"]).status().expect("it runs").code()
        };
        for name in ["nginx", "nginx.service", "o'dd@a\\x2db.service", "app.socket"] {
            assert_eq!(says(name), Some(101), "{name}");
        }
        for name in ["ssh", "nginx2", "app", "ngin*"] {
            assert_eq!(says(name), Some(0), "{name}");
        }
        assert!(is_ours(script.as_bytes()) && removal().contains(MARK) && !removal().contains(';'));
        assert!(!is_ours(b"#!/bin/sh\nexit 101\n"));
    }

    #[test]
    fn an_administrators_own_is_asked_first() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let put = |name: &str, content: &str, mode: u32| {
            let path = directory.path().join(name);
            drop(std::fs::remove_file(&path));
            crate::host::write_new(&path, content.as_bytes()).expect("written");
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&path, permissions).expect("a mode");
            path
        };
        let theirs = put("theirs", "", 0o755);
        let place = theirs.to_string_lossy();
        // By the shell: what was just written may be open in a child of another test, and then cannot be executed.
        let asks = script(&["nginx.service"]).replace(&format!("    {ASIDE} "), &format!("    /bin/sh {place} "));
        let ours = put("ours", &asks.replace(ASIDE, &place), 0o755);
        let says = |name: &str| {
            let output =
                std::process::Command::new("/bin/sh").arg(&ours).args([name, "start"]).output().expect("it runs");
            (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        for (policy, mode, nginx, ssh) in [
            ("#!/bin/sh\nexit 0\n", 0o755, (101, ""), (0, "")),
            ("#!/bin/sh\nexit 104\n", 0o755, (101, ""), (0, "")),
            ("#!/bin/sh\nexit 101\n", 0o755, (101, ""), (101, "")),
            (
                "#!/bin/sh\n[ \"$1 $2\" = 'ssh start' ] && echo restart && exit 106\nexit 0\n",
                0o755,
                (101, ""),
                (106, "restart"),
            ),
            // Nobody asks one that cannot be run.
            ("#!/bin/sh\nexit 101\n", 0o644, (101, ""), (0, "")),
        ] {
            put("theirs", policy, mode);
            let owned = |(code, said): (i32, &str)| (code, said.to_owned());
            assert_eq!((says("nginx"), says("ssh")), (owned(nginx), owned(ssh)), "{policy}");
        }
    }

    /// A host without systemd, on which no transaction goes on.
    fn host(directory: &std::path::Path) -> Writer {
        std::fs::DirBuilder::new().recursive(true).create(directory.join("usr/sbin")).expect("made");
        Writer::take(Reader::directory(directory).expect("a directory")).expect("alone")
    }

    #[test]
    fn an_administrators_own_is_put_back_whatever_it_is() {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let mut host = host(directory.path());
        let attributes = |mode| Attributes { mode: Some(mode), ..Attributes::default() };
        let units = ["nginx.service"];
        for link in [false, true] {
            match link {
                true => host.make_symlink(POLICY, "policies/ours", Attributes::default(), Over::Leaf).expect("made"),
                false => {
                    host.write_file(POLICY, attributes(0o750), b"#!/bin/sh\nexit 0\n", Over::Leaf).expect("written")
                }
            }
            let before = Standing::at(&host, POLICY).expect("looked at");
            assert!(withhold(&mut host, &units).expect("done"));
            assert!(Standing::at(&host, POLICY).expect("looked at").is_ours());
            // What a crash left is there already, and theirs is not lost to it.
            assert!(withhold(&mut host, &units).expect("done"));
            assert_eq!(Standing::at(&host, ASIDE).expect("looked at"), before);
            release(&mut host).expect("done");
            assert_eq!(Standing::at(&host, POLICY).expect("looked at"), before);
            assert_eq!(Standing::at(&host, ASIDE).expect("looked at"), Standing::Nothing);

            // Cut short before ours was there.
            before.put(&mut host, ASIDE).expect("put");
            release(&mut host).expect("done");
            assert_eq!(Standing::at(&host, ASIDE).expect("looked at"), Standing::Nothing);
            assert_eq!(Standing::at(&host, POLICY).expect("looked at"), before);
        }
        // One that somebody wrote meanwhile is theirs from now on, and is asked like any other.
        let newer = b"#!/bin/sh\nexit 101\n";
        assert!(withhold(&mut host, &units).expect("done"));
        host.write_file(POLICY, attributes(0o755), newer, Over::Leaf).expect("written");
        release(&mut host).expect("done");
        assert!(withhold(&mut host, &units).expect("done"));
        assert_eq!(host.read(ASIDE, LIMIT).expect("read").expect("there"), newer);
        release(&mut host).expect("done");
        assert_eq!(host.read(POLICY, LIMIT).expect("read").expect("there"), newer);
        // One that went meanwhile, with the package that it came in, does not come back.
        for again in [false, true] {
            assert!(withhold(&mut host, &units).expect("done"));
            host.remove(POLICY).expect("gone");
            if again {
                assert!(withhold(&mut host, &units).expect("done"));
            }
            release(&mut host).expect("done");
            for path in [POLICY, ASIDE] {
                assert_eq!(Standing::at(&host, path).expect("looked at"), Standing::Nothing, "{path}");
            }
        }
    }
}
