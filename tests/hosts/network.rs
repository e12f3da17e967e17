//! A network of a lab's own: one bridge with an address on it, and nothing behind it.

use std::process::Command;

/// A bridge. What listens on its address is reached by the hosts of this lab only.
pub struct Network {
    number: u8,
}

impl Network {
    /// The network of lab `number`, whose lock the caller holds. What a killed test left of it is replaced.
    pub fn new(number: u8) -> Self {
        let network = Self { number };
        let bridge = network.bridge();
        drop(Command::new("ip").args(["link", "delete", &bridge]).output());
        ip(&["link", "add", &bridge, "type", "bridge"]);
        ip(&["address", "add", &format!("{}/24", network.address()), "dev", &bridge]);
        ip(&["link", "set", &bridge, "up"]);
        network
    }

    /// The name of the bridge.
    pub fn bridge(&self) -> String {
        format!("trueup-{}", self.number)
    }

    /// Where the servers listen.
    pub fn address(&self) -> String {
        format!("10.77.{}.1", self.number)
    }

    /// The address of the `k`th host, from 1.
    pub fn host_address(&self, k: u8) -> String {
        format!("10.77.{}.{}", self.number, k + 1)
    }

    /// Cuts the network in two, the servers on one side and the hosts on the other, or joins it again.
    pub fn partition(&self, cut: bool) {
        ip(&["link", "set", &self.bridge(), if cut { "down" } else { "up" }]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["link", "delete", &self.bridge()]).output());
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip starts");
    assert!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
}
