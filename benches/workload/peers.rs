//! The same workload by others, as Debian packages them, on the same host: what trueup is held against.

use std::fmt::Write;
use std::path::PathBuf;

use super::hosts::host::Host;
use super::hosts::image::prepared;
use super::hosts::lab::Lab;
use super::measure::Measured;
use super::{
    MODES, OWNERS, PACKAGES, PROGRAM, Passes, ROOT, content_of, first, idle_and_repaired, package, path_of, units,
};

/// Where the contents are that they copy from; none of them has a repository of its own in this.
const CONTENTS: &str = "/opt/contents";
/// How often each pass is measured: some take a minute.
const ROUNDS: usize = 3;

/// One of them.
#[derive(Debug, Clone, Copy)]
pub enum Peer {
    /// CFEngine, with one question for all packages and one for all units.
    CfengineTuned,
    /// CFEngine as its standard library has it: a promise for each.
    Cfengine,
    /// Puppet without a server.
    Puppet,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CfengineTuned, Self::Cfengine, Self::Puppet];

    /// What it is, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::CfengineTuned => "CFEngine, tuned by hand",
            Self::Cfengine => "CFEngine, standard library",
            Self::Puppet => "Puppet, `apply`",
        }
    }

    fn command(self) -> [&'static str; 4] {
        match self {
            // Locks would have it do nothing within a minute.
            Self::CfengineTuned | Self::Cfengine => ["cf-agent", "--no-lock", "--file", "/root/workload.cf"],
            Self::Puppet => ["puppet", "apply", "--detailed-exitcodes", "/root/workload.pp"],
        }
    }

    /// What it is told for W(n).
    fn policy(self, n: usize) -> (&'static str, String) {
        match self {
            Self::CfengineTuned => ("/root/workload.cf", cfengine(n, None, &tuned())),
            Self::Cfengine => ("/root/workload.cf", cfengine(n, Some(LIBRARY), &by_library())),
            Self::Puppet => ("/root/workload.pp", puppet(n)),
        }
    }
}

/// Debian's packages of them, with all that these need: fetched once, where there is an archive to fetch them from.
pub fn debs() -> PathBuf {
    prepared("debs", "peers")
}

/// Installs them. Their own daemons do not run: one pass at a time is measured.
pub fn prepare(host: &Host) {
    host.shell(
        "ln -sf /dev/null /etc/systemd/system/cfengine3.service; ln -sf /dev/null /etc/systemd/system/puppet.service
         DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends install cfengine3 puppet-agent
         chmod 700 /var/lib/cfengine3/ppkeys",
    );
}

/// What they are, with their versions.
pub fn versions(host: &Host) -> String {
    let of = |package: &str| host.ok(&["dpkg-query", "-W", "-f=${Package} ${Version}", package]);
    format!("{}, {}", of("cfengine3"), of("puppet-agent"))
}

/// Measures one of them, on a host that trueup has brought to W(n).
pub fn passes(host: &Host, lab: &Lab, peer: Peer, n: usize) -> Passes {
    host.shell(&format!("rm -rf {CONTENTS}; cp -a {ROOT} {CONTENTS}"));
    let (path, policy) = peer.policy(n);
    host.write(path, policy);
    host.shell(&format!("chmod 600 {path}"));
    let command: Vec<&str> = [PROGRAM, "measure"].into_iter().chain(peer.command()).collect();
    let measured = || {
        let measured = Measured::from_json(&host.ok(&command));
        // Puppet says by 2 that it changed something.
        assert!(matches!(measured.status, 0 | 2), "{} failed: {}", peer.name(), measured.said);
        measured
    };
    let first = first(host, lab, n, ROUNDS, "", measured);
    let (idle, repaired) = idle_and_repaired(host, n, ROUNDS, measured);
    let path = |k: usize| format!("{ROOT}/{}", path_of(k));
    for k in [0, n / 2 + ROUNDS, n - 1] {
        assert_eq!(host.peek(&path(k)), content_of(k).into_bytes(), "{} brought {}", peer.name(), path(k));
        let (owner, group) = OWNERS[k / 3 % 3];
        let is = host.ok(&["stat", "-c", "0%a %U %G", &path(k)]);
        assert_eq!(is.trim(), format!("{} {owner} {group}", MODES[k % 3]), "{}: {}", peer.name(), path(k));
    }
    Passes { first, idle, repaired }
}

/// CFEngine's own, as Debian has it.
const LIBRARY: &str = "/usr/share/cfengine3/masterfiles/lib/stdlib.cf";

fn cfengine(n: usize, library: Option<&str>, system: &str) -> String {
    let inputs = library.map_or(String::new(), |path| format!("  inputs => {{ \"{path}\" }};\n"));
    let mut policy = format!(
        "body common control\n{{\n{inputs}  bundlesequence => {{ \"workload\", \"system\" }};\n}}\n\
         body copy_from workload(from)\n{{\n  source => \"$(from)\";\n  compare => \"digest\";\n  copy_backup => \"false\";\n}}\n\
         body perms workload(mode, owner, group)\n{{\n  mode => \"$(mode)\";\n  owners => {{ \"$(owner)\" }};\n  \
         groups => {{ \"$(group)\" }};\n  rxdirs => \"false\";\n}}\nbundle agent workload\n{{\n files:\n"
    );
    for k in 0..n {
        let (path, (owner, group), mode) = (path_of(k), OWNERS[k / 3 % 3], MODES[k % 3]);
        let _ = writeln!(
            policy,
            "  \"{ROOT}/{path}\" copy_from => workload(\"{CONTENTS}/{path}\"), \
             perms => workload(\"{mode}\", \"{owner}\", \"{group}\");"
        );
    }
    policy + "}\n" + system
}

/// One process that asks for all units, one for all packages.
fn tuned() -> String {
    let packages: Vec<String> = (0..PACKAGES).map(package).collect();
    let (packages, units) = (packages.join(" "), units().join(" "));
    format!(
        "bundle agent system\n{{\n classes:\n  \"units\" expression => returnszero(\"/bin/systemctl --quiet is-active \
         {units} && /bin/systemctl --quiet is-enabled {units}\", \"useshell\");\n  \"packages\" expression => \
         returnszero(\"/usr/bin/dpkg-query -W {packages} >/dev/null 2>&1\", \"useshell\");\n commands:\n  !packages::\n   \
         \"/usr/bin/apt-get -y install {packages}\";\n  !units::\n   \"/bin/systemctl enable --now {units}\";\n}}\n"
    )
}

fn by_library() -> String {
    let listed = |names: Vec<String>| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "bundle agent system\n{{\n vars:\n  \"packages\" slist => {{ {} }};\n  \"units\" slist => {{ {} }};\n packages:\n  \
         \"$(packages)\" package_policy => \"add\", package_method => apt;\n services:\n  \"$(units)\" service_policy => \
         \"start\";\n}}\n",
        listed((0..PACKAGES).map(package).collect()),
        listed(units())
    )
}

fn puppet(n: usize) -> String {
    let mut manifest = format!("file {{ '{ROOT}': ensure => directory }}\n");
    for directory in 0..n.div_ceil(50) {
        let _ = writeln!(manifest, "file {{ '{ROOT}/d{directory:03}': ensure => directory }}");
    }
    for k in 0..n {
        let (path, (owner, group), mode) = (path_of(k), OWNERS[k / 3 % 3], MODES[k % 3]);
        let _ = writeln!(
            manifest,
            "file {{ '{ROOT}/{path}': source => '{CONTENTS}/{path}', mode => '{mode}', owner => '{owner}', group => '{group}' }}"
        );
    }
    for package in (0..PACKAGES).map(package) {
        let _ = writeln!(manifest, "package {{ '{package}': ensure => installed }}");
    }
    for unit in units() {
        let _ = writeln!(manifest, "service {{ '{unit}': ensure => running, enable => true }}");
    }
    manifest
}
