use crate::kinds::{Activation, unit};

/// Directories with a slash at the end, files without.
const TABLE: &[(&str, &[Activation])] = &[
    // systemd.unit(5), podman-systemd.unit(5); fstab(5) and crypttab(5) are made into units by generators.
    ("/etc/systemd/system/", &[Activation::DaemonReload]),
    ("/usr/lib/systemd/system/", &[Activation::DaemonReload]),
    ("/usr/local/lib/systemd/system/", &[Activation::DaemonReload]),
    ("/etc/containers/systemd/", &[Activation::DaemonReload]),
    ("/usr/share/containers/systemd/", &[Activation::DaemonReload]),
    ("/etc/fstab", &[Activation::DaemonReload]),
    ("/etc/crypttab", &[Activation::DaemonReload]),
    // Of /usr/local/lib the engines read as much as of /usr/lib, whether their man pages say so or not: CONF_PATHS of
    // systemd's constants.h.
    ("/etc/sysusers.d/", &[Activation::Sysusers]),
    ("/usr/lib/sysusers.d/", &[Activation::Sysusers]),
    ("/usr/local/lib/sysusers.d/", &[Activation::Sysusers]),
    ("/etc/tmpfiles.d/", &[Activation::Tmpfiles]),
    ("/usr/lib/tmpfiles.d/", &[Activation::Tmpfiles]),
    ("/usr/local/lib/tmpfiles.d/", &[Activation::Tmpfiles]),
    ("/etc/sysctl.conf", &[Activation::Sysctl]),
    ("/etc/sysctl.d/", &[Activation::Sysctl]),
    ("/usr/lib/sysctl.d/", &[Activation::Sysctl]),
    ("/usr/local/lib/sysctl.d/", &[Activation::Sysctl]),
    ("/etc/modules", &[Activation::ModulesLoad]),
    ("/etc/modules-load.d/", &[Activation::ModulesLoad]),
    ("/usr/lib/modules-load.d/", &[Activation::ModulesLoad]),
    ("/usr/local/lib/modules-load.d/", &[Activation::ModulesLoad]),
    ("/etc/udev/rules.d/", &[Activation::Udev]),
    ("/usr/lib/udev/rules.d/", &[Activation::Udev]),
    ("/usr/local/lib/udev/rules.d/", &[Activation::Udev]),
    // systemd.network(5) is networkd's, systemd.link(5) udev's; both lie here.
    ("/etc/systemd/network/", &[Activation::Udev, Activation::Networkd]),
    ("/usr/lib/systemd/network/", &[Activation::Udev, Activation::Networkd]),
    ("/usr/local/lib/systemd/network/", &[Activation::Udev, Activation::Networkd]),
    ("/etc/systemd/journald.conf", &[Activation::Journald]),
    ("/etc/systemd/journald.conf.d/", &[Activation::Journald]),
    ("/etc/systemd/resolved.conf", &[Activation::Resolved]),
    ("/etc/systemd/resolved.conf.d/", &[Activation::Resolved]),
    ("/etc/systemd/timesyncd.conf", &[Activation::Timesyncd]),
    ("/etc/systemd/timesyncd.conf.d/", &[Activation::Timesyncd]),
    ("/etc/systemd/logind.conf", &[Activation::NeedsReboot]),
    ("/etc/systemd/logind.conf.d/", &[Activation::NeedsReboot]),
    ("/etc/dbus-1/", &[Activation::NeedsReboot]),
    // apt-secure(8), sources.list(5), apt_preferences(5).
    ("/etc/apt/sources.list", &[Activation::PackageIndex]),
    ("/etc/apt/sources.list.d/", &[Activation::PackageIndex]),
    ("/etc/apt/keyrings/", &[Activation::PackageIndex]),
    ("/etc/apt/trusted.gpg", &[Activation::PackageIndex]),
    ("/etc/apt/trusted.gpg.d/", &[Activation::PackageIndex]),
    ("/etc/apt/preferences", &[Activation::PackageIndex]),
    ("/etc/apt/preferences.d/", &[Activation::PackageIndex]),
    ("/etc/apt/auth.conf.d/", &[Activation::PackageIndex]),
    ("/usr/share/keyrings/", &[Activation::PackageIndex]),
    // dnf.conf(5), dnf5.conf(5).
    ("/etc/yum.repos.d/", &[Activation::PackageIndex]),
    ("/etc/dnf/vars/", &[Activation::PackageIndex]),
    ("/etc/dnf/repos.override.d/", &[Activation::PackageIndex]),
    ("/etc/yum/vars/", &[Activation::PackageIndex]),
    ("/etc/pki/rpm-gpg/", &[Activation::PackageIndex]),
    ("/etc/zypp/repos.d/", &[Activation::PackageIndex]),
    ("/etc/pacman.conf", &[Activation::PackageIndex]),
    ("/etc/pacman.d/", &[Activation::PackageIndex]),
    // update-ca-certificates(8), update-ca-trust(8).
    ("/usr/local/share/ca-certificates/", &[Activation::CaCertificates]),
    ("/etc/ca-certificates.conf", &[Activation::CaCertificates]),
    ("/etc/pki/ca-trust/source/", &[Activation::CaCertificates]),
    ("/etc/ld.so.conf", &[Activation::Ldconfig]),
    ("/etc/ld.so.conf.d/", &[Activation::Ldconfig]),
];

/// What the system needs after the file `path` was written or removed.
pub fn activations(path: &str) -> &'static [Activation] {
    TABLE
        .iter()
        .find(|(place, _)| if place.ends_with('/') { path.starts_with(place) } else { path == *place })
        .map_or(&[], |(_, activations)| activations)
}

/// The unit whose unit file or drop-in `path` is, see systemd.unit(5); `None` of links in `.wants` and
/// `.requires`, and of drop-ins for more than one unit.
pub fn unit_of(path: &str) -> Option<String> {
    let rest = unit::DIRECTORIES.iter().find_map(|below| path.strip_prefix(below)?.strip_prefix('/'))?;
    let unit = match rest.split_once('/') {
        None => rest,
        Some((directory, file)) if file.ends_with(".conf") && !file.contains('/') => directory.strip_suffix(".d")?,
        Some(_) => return None,
    };
    let (stem, suffix) = unit.rsplit_once('.')?;
    let known = matches!(
        suffix,
        "service"
            | "socket"
            | "target"
            | "timer"
            | "path"
            | "mount"
            | "automount"
            | "swap"
            | "slice"
            | "scope"
            | "device"
    );
    // `foo-.service.d` is for every unit that starts with `foo-`; `-.mount` is that of `/`.
    let for_many = stem.len() > 1 && stem.ends_with('-');
    (known && !stem.is_empty() && !for_many).then(|| unit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_what_a_path_needs() {
        for (path, needs) in [
            ("/etc/systemd/system/app.service", &[Activation::DaemonReload][..]),
            ("/etc/systemd/system/nginx.service.d/limits.conf", &[Activation::DaemonReload]),
            ("/etc/containers/systemd/app.container", &[Activation::DaemonReload]),
            ("/etc/sysctl.conf", &[Activation::Sysctl]),
            ("/etc/sysctl.d/50-net.conf", &[Activation::Sysctl]),
            ("/etc/apt/sources.list.d/x.sources", &[Activation::PackageIndex]),
            ("/etc/apt/apt.conf.d/50x", &[]),
            ("/etc/yum.repos.d/x.repo", &[Activation::PackageIndex]),
            ("/etc/pki/rpm-gpg/RPM-GPG-KEY-x", &[Activation::PackageIndex]),
            ("/etc/dnf/vars/stream", &[Activation::PackageIndex]),
            ("/etc/dnf/protected.d/x.conf", &[]),
            ("/etc/systemd/network/10-lan.network", &[Activation::Udev, Activation::Networkd]),
            ("/etc/systemd/logind.conf.d/x.conf", &[Activation::NeedsReboot]),
            ("/usr/local/lib/sysctl.d/x.conf", &[Activation::Sysctl]),
            ("/usr/local/lib/tmpfiles.d/x.conf", &[Activation::Tmpfiles]),
            ("/usr/local/lib/sysusers.d/x.conf", &[Activation::Sysusers]),
            ("/usr/local/lib/modules-load.d/x.conf", &[Activation::ModulesLoad]),
            ("/usr/local/lib/udev/rules.d/x.rules", &[Activation::Udev]),
            ("/usr/local/lib/systemd/network/x.link", &[Activation::Udev, Activation::Networkd]),
            ("/usr/local/lib/x.conf", &[]),
            ("/etc/sysctl.configuration", &[]),
            ("/etc/motd", &[]),
        ] {
            assert_eq!(activations(path), needs, "{path}");
        }
    }

    #[test]
    fn unit_files_and_drop_ins_belong_to_their_unit() {
        for (path, unit) in [
            ("/etc/systemd/system/app.service", Some("app.service")),
            ("/etc/systemd/system/app@.service", Some("app@.service")),
            ("/etc/systemd/system/nginx.service.d/x.conf", Some("nginx.service")),
            ("/etc/systemd/system/foo@.service.d/x.conf", Some("foo@.service")),
            ("/etc/systemd/system/-.mount.d/x.conf", Some("-.mount")),
            ("/usr/lib/systemd/system/x.timer", Some("x.timer")),
            ("/etc/systemd/system/foo-.service.d/x.conf", None),
            ("/etc/systemd/system/service.d/x.conf", None),
            ("/etc/systemd/system/nginx.service.d/README", None),
            ("/etc/systemd/system/multi-user.target.wants/app.service", None),
            ("/etc/systemd/system/a.target.requires/app.service", None),
            ("/etc/systemd/system/nginx.service.d", None),
            ("/etc/systemd/user/app.service", None),
            ("/etc/nginx.service", None),
        ] {
            assert_eq!(unit_of(path).as_deref(), unit, "{path}");
        }
    }
}
