//! The way out of this host, as the kernel has it.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::Reader;

/// RTF_UP and RTF_GATEWAY of route(8).
const BY_GATEWAY: u32 = 3;
/// ATF_COM of arp(7): the hardware address is known.
const COMPLETE: u32 = 2;

impl Reader {
    /// The gateways of default routes, as getaddrinfo(3) takes them; none where there are none, or that cannot be told.
    pub fn gateways(&self) -> Vec<String> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut found = v4(&read("/proc/net/route"));
        found.extend(v6(&read("/proc/net/ipv6_route")));
        found
    }

    /// Whether the kernel knows where `gateway` is on the wire; it asks anew of one that it has not heard of lately.
    pub fn is_on_the_wire(&self, gateway: &str) -> bool {
        on_the_wire(&fs::read_to_string("/proc/net/arp").unwrap_or_default(), gateway)
    }
}

/// Of proc_net(5), `route`: addresses are as the machine has them in memory.
fn v4(table: &str) -> Vec<String> {
    let gateway = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let is_default = number(1)? == 0 && number(7)? == 0 && number(3)? & BY_GATEWAY == BY_GATEWAY;
        is_default.then(|| Ipv4Addr::from(number(2)?.to_ne_bytes()).to_string().into()).flatten()
    };
    table.lines().skip(1).filter_map(gateway).collect()
}

/// Of `ipv6_route`: destination, its length, source, its length, gateway, metric, two counters, flags, device.
fn v6(table: &str) -> Vec<String> {
    let gateway = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let flags = u32::from_str_radix(fields.get(8)?, 16).ok()?;
        let address = Ipv6Addr::from(u128::from_str_radix(fields.get(4)?, 16).ok()?);
        let is_default = fields.first()?.bytes().all(|b| b == b'0') && *fields.get(1)? == "00";
        let zone = if address.is_unicast_link_local() { format!("%{}", fields.get(9)?) } else { String::new() };
        (is_default && flags & BY_GATEWAY == BY_GATEWAY).then(|| format!("{address}{zone}"))
    };
    table.lines().filter_map(gateway).collect()
}

fn on_the_wire(table: &str, address: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let flags = fields.get(2).and_then(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok());
        fields.first() == Some(&address) && flags.is_some_and(|flags| flags & COMPLETE != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn gateways_are_those_of_default_routes() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                     wg0\t00000000\t0500000A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n\
                     eth1\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\nnonsense\n";
        assert_eq!(v4(table), ["192.168.0.1"]);
        let zero = "0".repeat(32);
        let local = format!("fe80{}1", "0".repeat(27));
        let table = format!(
            "{zero} 00 {zero} 00 {local} 00000400 00000001 00000000 00000003 eth0\n\
             {local} 80 {zero} 00 {zero} 00000000 00000002 00000000 80200001 lo\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n"
        );
        assert_eq!(v6(&table), ["fe80::1%eth0"]);
        assert_eq!((v4(""), v6("")), (Vec::new(), Vec::new()));
    }

    #[test]
    fn who_answers_is_on_the_wire() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     192.168.0.1      0x1         0x2         52:54:00:00:00:01     *        eth0\n\
                     192.168.0.9      0x1         0x0         00:00:00:00:00:00     *        eth0\n";
        let here = |address: &str| on_the_wire(table, address);
        assert_eq!((here("192.168.0.1"), here("192.168.0.9"), here("192.168.0.2")), (true, false, false));
    }
}
