//! What a host cannot do without if it is to be reached and put right by itself, and which of it a change may break.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settling::Eyes;
use super::watch::Look;
use crate::host::{Error, Program};
use crate::model::{Id, one_line};
use crate::worker::Question;

/// How long an answer from the network may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of who asks may take beyond that.
const GRACE: Duration = Duration::from_secs(5);

/// One of those things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vital {
    /// A source of the repository or the default gateway answers.
    Network,
    /// The gateway itself answers, and not only its network card: where it did, no less will do. Nothing by itself.
    Gateway,
    /// The name of a source can be resolved.
    Names,
    /// The system bus lets us in.
    Bus,
    /// The agent's own settings can be used.
    Settings,
}

impl Vital {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Network, Self::Gateway, Self::Names, Self::Bus, Self::Settings];

    /// The stable word for a host that has lost it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Network | Self::Gateway | Self::Names => "cut-off",
            Self::Bus => "bus-lost",
            Self::Settings => "bad-settings",
        }
    }
}

impl std::fmt::Display for Vital {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Network => "the way out of this host",
            Self::Gateway => "the default gateway",
            Self::Names => "name resolution",
            Self::Bus => "the system bus",
            Self::Settings => "trueup's own configuration",
        })
    }
}

/// Network, resolver, firewall, trust stores, sshd and trueup itself: paths that are, or are below, one of these.
const NETWORK_PATHS: &[&str] = &[
    "/etc/NetworkManager",
    "/etc/bind",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/dhcp",
    "/etc/dhcpcd.conf",
    "/etc/dnsmasq.conf",
    "/etc/dnsmasq.d",
    "/etc/firewalld",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/hosts.allow",
    "/etc/hosts.deny",
    "/etc/iproute2",
    "/etc/iptables",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/modprobe.d",
    "/etc/modules",
    "/etc/modules-load.d",
    "/etc/netplan",
    "/etc/network",
    "/etc/networkd-dispatcher",
    "/etc/nftables.conf",
    "/etc/nftables.d",
    "/etc/nsswitch.conf",
    "/etc/pki",
    "/etc/resolv.conf",
    "/etc/resolvconf",
    "/etc/ssh",
    "/etc/ssl",
    "/etc/sysconfig/iptables",
    "/etc/sysconfig/network",
    "/etc/sysconfig/network-scripts",
    "/etc/sysconfig/nftables.conf",
    "/etc/sysctl.conf",
    "/etc/sysctl.d",
    "/etc/systemd/network",
    "/etc/systemd/networkd.conf",
    "/etc/systemd/networkd.conf.d",
    "/etc/systemd/resolved.conf",
    "/etc/systemd/resolved.conf.d",
    "/etc/trueup",
    "/etc/udev/rules.d",
    "/etc/ufw",
    "/etc/unbound",
    "/etc/wireguard",
    "/etc/wpa_supplicant",
    "/usr/lib/systemd/network",
    "/usr/lib/sysctl.d",
    "/usr/local/share/ca-certificates",
];
/// Of these what names are resolved by.
const NAMES_PATHS: &[&str] = &[
    "/etc/NetworkManager",
    "/etc/bind",
    "/etc/dhcp",
    "/etc/dhcpcd.conf",
    "/etc/dnsmasq.conf",
    "/etc/dnsmasq.d",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/netplan",
    "/etc/network",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/resolvconf",
    "/etc/systemd/network",
    "/etc/systemd/resolved.conf",
    "/etc/systemd/resolved.conf.d",
    "/etc/unbound",
];
const NAMES_NAMES: &[&str] =
    &["bind9", "dnsmasq", "glibc", "libc6", "libnss", "network", "nscd", "resolvconf", "sssd", "systemd", "unbound"];
const BUS_PATHS: &[&str] = &["/etc/dbus-1", "/usr/share/dbus-1", "/etc/machine-id", "/etc/polkit-1"];
const SETTINGS_PATHS: &[&str] = &["/etc/trueup"];
/// Beginnings of the names of units and packages.
const NETWORK_NAMES: &[&str] = &[
    "NetworkManager",
    "bind9",
    "ca-certificates",
    "conntrack",
    "dhcp",
    "dnsmasq",
    "firewalld",
    "glibc",
    "ifupdown",
    "iproute",
    "iptables",
    "isc-dhcp",
    "kernel",
    "libc6",
    "libnss",
    "linux-image",
    "netfilter",
    "netplan",
    "network",
    "nftables",
    "nscd",
    "openssh",
    "openssl",
    "libssl",
    "resolvconf",
    "ssh",
    "sssd",
    "systemd",
    "trueup",
    "udev",
    "ufw",
    "unbound",
    "wg-quick",
    "wicked",
    "wireguard",
    "wpa",
];
const BUS_NAMES: &[&str] = &["dbus", "systemd", "libdbus"];
const SETTINGS_NAMES: &[&str] = &["trueup"];

/// What a change of these may break. Whatever else fails meanwhile is not its fault.
pub fn at_stake<'i>(changed: impl IntoIterator<Item = &'i Id>) -> BTreeSet<Vital> {
    let mut found = BTreeSet::new();
    for id in changed {
        let unit_file = (id.kind() == "file").then(|| unit_of(id.name())).flatten();
        let rules = [
            (Vital::Network, NETWORK_PATHS, NETWORK_NAMES),
            (Vital::Gateway, NETWORK_PATHS, NETWORK_NAMES),
            (Vital::Names, NAMES_PATHS, NAMES_NAMES),
            (Vital::Bus, BUS_PATHS, BUS_NAMES),
            (Vital::Settings, SETTINGS_PATHS, SETTINGS_NAMES),
        ];
        for (vital, paths, names) in rules {
            let named = |name: &str| names.iter().any(|known| name.starts_with(known));
            let hit = match (id.kind(), unit_file) {
                ("file", None) => paths.iter().any(|known| is_below(id.name(), known)),
                ("file", Some(unit)) => named(unit),
                _ => named(id.name()),
            };
            if hit {
                found.insert(vital);
            }
        }
    }
    found
}

/// Whether one of the two paths is the other, or lies below it: a directory that is replaced takes what is in it along.
fn is_below(path: &str, known: &str) -> bool {
    let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    below(path, known) || below(known, path)
}

/// The unit that a file below a directory of systemd.unit(5) belongs to.
fn unit_of(path: &str) -> Option<&str> {
    const DIRECTORIES: [&str; 3] = ["/etc/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/"];
    let rest = DIRECTORIES.iter().find_map(|directory| path.strip_prefix(directory))?;
    rest.split('/').next()
}

/// How `vital` is right now; `None` where somebody asks for an end.
pub(super) fn look(eyes: &Eyes<'_>, vital: Vital) -> Option<Look> {
    let told = |result: Result<(), String>| match result {
        Ok(()) => Look::Good(None),
        Err(why) => Look::Down(one_line(&why, 300)),
    };
    Some(match vital {
        Vital::Network => told(way_out(eyes)?),
        Vital::Gateway => {
            let gateways = eyes.host.gateways().into_iter().map(Question::Host).collect::<Vec<_>>();
            let answered = ask(eyes, &gateways)?.is_ok_and(|answers| answers.contains(&true));
            told(answered.then_some(()).ok_or_else(|| "it does not answer".to_owned()))
        }
        Vital::Names => told(names(eyes)?),
        Vital::Bus => told(eyes.host.bus_answers().map_err(|error| error.chain())),
        Vital::Settings => told((eyes.settings)()),
    })
}

/// Whether this host knows where a source is; one that has an address always is.
fn names(eyes: &Eyes<'_>) -> Option<Result<(), String>> {
    if eyes.endpoints.iter().any(|(name, _)| name.parse::<IpAddr>().is_ok()) {
        return Some(Ok(()));
    }
    let questions: Vec<Question> = eyes.endpoints.iter().map(|(name, _)| Question::Name(name.clone())).collect();
    let answers = match ask(eyes, &questions)? {
        Ok(answers) => answers,
        Err(why) => return Some(Err(why)),
    };
    if answers.is_empty() || answers.contains(&true) {
        return Some(Ok(()));
    }
    let names: Vec<&str> = eyes.endpoints.iter().map(|(name, _)| name.as_str()).collect();
    Some(Err(format!("no address is found of {}", names.join(", "))))
}

/// Asks all at once whether it is so.
fn ask(eyes: &Eyes<'_>, questions: &[Question]) -> Option<Result<Vec<bool>, String>> {
    let Eyes { host, worker, .. } = eyes;
    let program = |question: &Question| -> Result<Program, Error> {
        Ok(worker.program(&question.arguments(worker.user()?, PATIENCE)).limit(PATIENCE + GRACE))
    };
    match questions.iter().map(program).collect::<Result<Vec<Program>, Error>>() {
        Ok(programs) => Some(Ok(host.query_all(&programs)?.iter().map(Result::is_ok).collect())),
        Err(error) => Some(Err(error.chain())),
    }
}

/// Whether somebody out there answers, who has to be there for this host to come by a better revision.
fn way_out(eyes: &Eyes<'_>) -> Option<Result<(), String>> {
    let host = eyes.host;
    let gateways = host.gateways();
    let sources = eyes.endpoints.iter().map(|(name, port)| match name.contains(':') {
        true => Question::Tcp(format!("[{name}]:{port}")),
        false => Question::Tcp(format!("{name}:{port}")),
    });
    let questions: Vec<Question> = sources.chain(gateways.iter().cloned().map(Question::Host)).collect();
    let answered = match ask(eyes, &questions)? {
        Ok(answers) => answers.contains(&true),
        Err(why) => return Some(Err(why)),
    };
    // A firewall of this host's own does not keep the gateway's card from answering.
    let by_card = || !eyes.gateway_answered && gateways.iter().any(|gateway| host.is_on_the_wire(gateway));
    if answered || by_card() {
        return Some(Ok(()));
    }
    Some(Err(match (eyes.endpoints.is_empty(), gateways.is_empty()) {
        (_, true) => "no source answers, and there is no default route".to_owned(),
        (true, false) => format!("the default gateway {} does not answer", gateways.join(" or ")),
        (false, false) => format!("neither a source nor the default gateway {} answers", gateways.join(" or ")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stake(ids: &[(&str, &str)]) -> Vec<Vital> {
        let ids: Vec<Id> = ids.iter().map(|(kind, name)| Id::new(kind, name)).collect();
        at_stake(&ids).into_iter().collect()
    }

    #[test]
    fn only_what_has_to_do_with_it_puts_it_at_stake() {
        assert_eq!(stake(&[("file", "/etc/motd"), ("unit", "nginx.service"), ("package", "tool")]), []);
        assert_eq!(
            stake(&[("file", "/etc/systemd/network/10-lan.network")]),
            [Vital::Network, Vital::Gateway, Vital::Names]
        );
        assert_eq!(stake(&[("file", "/etc/systemd")]), [Vital::Network, Vital::Gateway, Vital::Names]);
        assert_eq!(stake(&[("file", "/etc/resolv.conf")]), [Vital::Network, Vital::Gateway, Vital::Names]);
        assert_eq!(stake(&[("file", "/etc/systemd/networks")]), []);
        assert_eq!(stake(&[("file", "/etc/systemd/system/ssh.service.d/x.conf")]), [Vital::Network, Vital::Gateway]);
        assert_eq!(stake(&[("file", "/etc/systemd/system/app.service")]), []);
        assert_eq!(stake(&[("unit", "nftables.service")]), [Vital::Network, Vital::Gateway]);
        assert_eq!(stake(&[("unit", "dbus.socket")]), [Vital::Bus]);
        assert_eq!(stake(&[("file", "/etc/dbus-1/system.d/x.conf")]), [Vital::Bus]);
        assert_eq!(stake(&[("package", "trueup")]), [Vital::Network, Vital::Gateway, Vital::Settings]);
        assert_eq!(
            stake(&[("file", "/etc/trueup/agent.d/50.toml")]),
            [Vital::Network, Vital::Gateway, Vital::Settings]
        );
    }
}
