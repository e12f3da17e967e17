//! The same on Debian 13, with its newer systemd.

use super::apt::Package;
use super::{Lab, Variant};

#[test]
fn a_file_a_package_and_a_unit_converge_on_trixie() {
    let Some(mut lab) = Lab::new(1) else { return };
    lab.apt().publish(&[Package::new("sleeper", "1.0").service("/bin/sleep infinity", "")]);
    lab.fleet.write(
        "hosts/web-13/host.toml",
        "[packages]\nsleeper = \"present\"\n[units]\n\"sleeper.service\" = \"on\"\n\"beat.service\" = \"on\"\n",
    );
    lab.fleet.write("hosts/web-13/files/etc/motd", "from the fleet\n");
    let beat = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";
    lab.fleet.write("hosts/web-13/units/beat.service", beat);
    lab.fleet.commit("first");
    let host = lab.boot_on(Variant::Trixie, "web-13", "");
    assert_eq!(host.ok(&["systemctl", "is-system-running"]).trim(), "running");
    assert!(host.shell("systemctl --version").starts_with("systemd 257"));
    host.ok(&["varlinkctl", "--version"]);

    host.trueup(&["run"]).converged();
    assert_eq!(host.read("/etc/motd"), "from the fleet\n");
    assert_eq!(host.package("sleeper").as_deref(), Some("1.0"));
    for unit in ["sleeper.service", "beat.service"] {
        assert_eq!(host.unit_state(unit), "active enabled");
    }
    host.trueup(&["run"]).idle();
    host.shell("apt-get -qq -y remove sleeper; systemctl stop beat; echo by hand >/etc/motd");
    let run = host.trueup(&["run"]);
    run.converged();
    for id in ["package:sleeper", "unit:beat.service", "file:/etc/motd"] {
        assert_eq!(run.step(id).cause, "corrective", "{run:#?}");
    }
    host.trueup(&["run"]).idle();
}

#[test]
fn a_host_without_trueup_has_nothing_of_it() {
    let Some(lab) = Lab::new(1) else { return };
    lab.dnf();
    for variant in [Variant::Trixie, Variant::Rpm] {
        let host = lab.boot_plain(variant, "bare-01", &[("/etc/marker".to_owned(), b"here\n".to_vec())]);
        assert_eq!(host.read("/etc/marker"), "here\n");
        for path in ["/usr/bin/trueup", "/var/lib/trueup", "/etc/trueup"] {
            assert!(!host.has(path), "{path}");
        }
        assert_eq!(host.has("/etc/yum.repos.d/lab.repo"), variant == Variant::Rpm);
    }
}
