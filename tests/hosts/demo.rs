//! The demo shows what it says it shows.

use std::process::{Command, Stdio};

use super::{Lab, installed, locks};

#[test]
fn the_demo_comes_to_its_end_and_shows_each_of_its_points() {
    // It is a host of its own, and counts as one.
    let Some(_lab) = Lab::new(1) else { return };
    let _alone = locks::lock("demo.lock");
    // It cleans up where the test is ended, too.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "--", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/demo/run")])
        .arg(installed::deb())
        .stdin(Stdio::null())
        .output()
        .expect("the demo starts");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    let points = [
        "unconfigured",
        "source.url             https://git.example.org/fleet.git",
        "applied: ",
        "in-sync",
        "$ systemctl is-active greeter.service\nactive\n",
        "greeter.service reloaded",
        "says: good morning",
        "drift: /etc/greeter/greeter.conf content",
        "$ cat /etc/greeter/greeter.conf\ngreeting=good morning\n",
        "INC-4711",
        "left as it is: suspended until",
        "$ cat /etc/greeter/greeter.conf\ngreeting=howdy\n",
        "suspended  file:/etc/greeter/greeter.conf",
        "put back to roles/greeter@",
        "$ cat /etc/greeter/greeter.conf\ngreeting=good morning\n",
        "git revert",
        "applied: ",
        "$ cat /etc/greeter/greeter.conf\ngreeting=hello\n",
        "in-sync",
    ];
    let mut rest = &*shown;
    for point in points {
        let at = rest.find(point).unwrap_or_else(|| panic!("{point:?} is not shown, or not in its place:\n{shown}"));
        rest = &rest[at + point.len()..];
    }
}
