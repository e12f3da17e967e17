//! What is mounted where, as far as it decides what has to answer before a path is looked at. Pure.

/// File systems that the kernel answers for by itself, out of what this machine has; see filesystems(5). Of any other
/// a server answers, here (FUSE) or over the network, or a daemon that mounts it first (autofs): or nobody does.
const LOCAL: &[&str] = &[
    "bcachefs",
    "binfmt_misc",
    "bpf",
    "btrfs",
    "cgroup",
    "cgroup2",
    "configfs",
    "cramfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "ecryptfs",
    "efivarfs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "fusectl",
    "hfsplus",
    "hugetlbfs",
    "iso9660",
    "jfs",
    "mqueue",
    "msdos",
    "nfsd",
    "nilfs2",
    "nsfs",
    "ntfs3",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "reiserfs",
    "romfs",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
    "udf",
    "vfat",
    "xfs",
    "zfs",
];

/// One mount, as a line of proc_pid_mountinfo(5) tells.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    id: u32,
    parent: u32,
    device: String,
    point: String,
    kind: String,
    /// Of an autofs: what it mounts is mounted at it, and not in it.
    direct: bool,
    /// Nobody may answer for it.
    may_hang: bool,
}

/// What has to answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    /// The file system, by its device.
    pub(super) device: String,
    /// Where it is mounted.
    pub(super) point: String,
    /// Its type.
    pub(super) kind: String,
    /// What of it is asked for.
    pub(super) path: String,
}

/// All mounts; none where none of them may hang.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Mount>);

impl Table {
    /// Of the lines of proc_pid_mountinfo(5). What the root directory itself lies on does not count: this program comes
    /// from there.
    pub(super) fn parse(text: &str) -> Self {
        let all: Vec<Mount> = text.lines().filter_map(Mount::parse).collect();
        if all.iter().any(|mount| mount.may_hang) { Self(all) } else { Self::default() }
    }

    /// Whether no mount may hang.
    pub(super) fn is_quiet(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this file system is mounted.
    pub(super) fn has(&self, device: &str) -> bool {
        self.0.iter().any(|mount| mount.device == device)
    }

    /// What has to answer before `path`, which has no symbolic links on the way, is looked at itself: in the order of the way.
    pub(super) fn on_the_way(&self, path: &str) -> Vec<Asked> {
        if !self.0.iter().any(|mount| mount.may_hang && within(&mount.point, path).is_some()) {
            return Vec::new();
        }
        self.way(path).into_iter().filter(|mount| mount.may_hang).filter_map(|mount| mount.asked(path)).collect()
    }

    /// What has to answer before everything below `path` is looked at. An autofs is not: a look does not have it mount.
    pub(super) fn below(&self, path: &str) -> Vec<Asked> {
        let below = |mount: &&Mount| within(path, &mount.point).is_some_and(|within| !within.is_empty());
        let seen = |mount: &&Mount| self.way(&mount.point).last().is_some_and(|last| last.id == mount.id);
        let mounts = self.0.iter().filter(|mount| mount.may_hang).filter(below).filter(seen);
        mounts.filter_map(|mount| mount.asked(&mount.point)).collect()
    }

    /// The mounts that the way to `path` leads through: where several are stacked only the uppermost is seen.
    fn way(&self, path: &str) -> Vec<&Mount> {
        let is_first = |mount: &&Mount| !self.0.iter().any(|other| other.id == mount.parent && other.id != mount.id);
        let Some(mut here) = self.0.iter().filter(|mount| mount.point == "/").find(is_first) else { return Vec::new() };
        let mut way = Vec::new();
        let ends = path.char_indices().filter(|&(at, c)| c == '/' && at > 0).map(|(at, _)| at);
        for at in std::iter::once("/").chain(ends.map(|end| &path[..end])).chain([path]) {
            let before = here.id;
            while let Some(above) =
                self.0.iter().find(|mount| mount.parent == here.id && mount.point == at && mount.id != here.id)
            {
                here = above;
            }
            if here.id != before || way.is_empty() {
                way.push(here);
            }
        }
        way
    }
}

impl Mount {
    /// `36 35 98:0 /mnt1 /mnt/parent rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
    fn parse(line: &str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ');
        let (id, parent) = (mount.next()?.parse().ok()?, mount.next()?.parse().ok()?);
        let (device, _, point) = (mount.next()?.to_owned(), mount.next()?, unescaped(mount.next()?));
        let mut system = system.split(' ');
        let kind = system.next()?.to_owned();
        let direct = system.nth(1).is_some_and(|options| options.split(',').any(|option| option == "direct"));
        let may_hang = point != "/" && !LOCAL.contains(&kind.as_str());
        Some(Self { id, parent, device, point, kind, direct, may_hang })
    }

    /// What of it is asked before `path` is looked at; nothing where that does not come to it.
    fn asked(&self, path: &str) -> Option<Asked> {
        let asked = match (self.kind.as_str(), within(&self.point, path)?) {
            ("autofs", "") => return None,
            ("autofs", _) if self.direct => self.point.clone(),
            // What is mounted in it is mounted once something in that is asked for.
            ("autofs", within) => format!("{}/{}", self.point, within.split_once('/')?.0),
            _ => self.point.clone(),
        };
        let Self { device, point, kind, .. } = self;
        Some(Asked { device: device.clone(), point: point.clone(), kind: kind.clone(), path: asked })
    }
}

/// The rest of `path` in the directory `above`; `None` where it is not there, and empty where it is that itself.
fn within<'p>(above: &str, path: &'p str) -> Option<&'p str> {
    let rest = path.strip_prefix(above.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// Blanks, tabs, newlines and backslashes stand there as `\040` and its like.
fn unescaped(text: &str) -> String {
    let code = |at: usize| u8::from_str_radix(text.get(at + 1..at + 4)?, 8).ok();
    let (mut plain, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = text.as_bytes().get(at) {
        let escaped = if byte == b'\\' { code(at) } else { None };
        plain.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        1 1 0:2 / / rw - rootfs rootfs rw\n\
        20 1 8:1 / / rw,relatime shared:1 - nfs4 server:/root rw\n\
        21 20 0:20 / /proc rw - proc proc rw\n\
        30 20 0:40 / /srv/net rw,relatime shared:2 - nfs4 server:/export rw,hard\n\
        31 30 8:2 / /srv/net/local rw - ext4 /dev/sdb1 rw\n\
        32 31 0:41 / /srv/net/local/far rw - fuse.sshfs ana@server: rw\n\
        40 20 0:42 / /mnt/a\\040b rw - cifs //server/x rw\n\
        50 20 0:43 / /mnt/over rw - fuse.gone gone rw\n\
        51 50 8:3 / /mnt/over rw - xfs /dev/sdc1 rw\n\
        60 20 0:44 / /auto/direct rw - autofs systemd-1 rw,fd=1,direct,pipe_ino=7\n\
        61 20 0:45 / /home rw - autofs auto.home rw,fd=2,indirect\n\
        62 61 0:46 / /home/ana rw - nfs server:/home/ana rw\n";

    fn on_the_way(path: &str) -> Vec<String> {
        Table::parse(MOUNTS).on_the_way(path).into_iter().map(|asked| asked.path).collect()
    }

    #[test]
    fn whatever_may_hang_on_the_way_has_to_answer_in_its_order() {
        assert_eq!(on_the_way("/etc/motd"), Vec::<String>::new(), "what the root directory lies on does not count");
        assert_eq!(on_the_way("/srv/net"), ["/srv/net"]);
        assert_eq!(on_the_way("/srv/net/x/y"), ["/srv/net"]);
        assert_eq!(on_the_way("/srv/network"), Vec::<String>::new());
        assert_eq!(on_the_way("/srv/net/local/x"), ["/srv/net"], "it is gone through");
        assert_eq!(on_the_way("/srv/net/local/far/x"), ["/srv/net", "/srv/net/local/far"]);
        assert_eq!(on_the_way("/mnt/a b/x"), ["/mnt/a b"]);
    }

    #[test]
    fn what_is_covered_by_another_mount_is_not_come_to() {
        assert_eq!(on_the_way("/mnt/over/x"), Vec::<String>::new());
    }

    #[test]
    fn what_is_mounted_as_it_is_gone_through_is_asked_for_where_a_look_would_have_it_mounted() {
        assert_eq!(on_the_way("/auto/direct"), Vec::<String>::new());
        assert_eq!(on_the_way("/auto/direct/x"), ["/auto/direct"]);
        assert_eq!(on_the_way("/home/ben"), Vec::<String>::new());
        assert_eq!(on_the_way("/home/ben/.ssh"), ["/home/ben"]);
        assert_eq!(on_the_way("/home/ana/.ssh"), ["/home/ana", "/home/ana"]);
    }

    #[test]
    fn what_is_mounted_below_a_directory_has_to_answer_before_that_is_looked_through() {
        let below = |path: &str| -> Vec<String> {
            Table::parse(MOUNTS).below(path).into_iter().map(|asked| asked.point).collect()
        };
        assert_eq!(below("/srv"), ["/srv/net", "/srv/net/local/far"]);
        assert_eq!(below("/srv/net"), ["/srv/net/local/far"]);
        assert_eq!(below("/mnt"), ["/mnt/a b"]);
        assert_eq!(below("/auto"), Vec::<String>::new());
        assert_eq!(below("/etc"), Vec::<String>::new());
    }

    #[test]
    fn where_nothing_may_hang_nothing_is_kept_in_mind() {
        let local: String = MOUNTS.lines().filter(|line| line.contains("proc") || line.contains(" / / ")).collect();
        assert!(Table::parse(&local).is_quiet());
        assert!(!Table::parse(MOUNTS).is_quiet());
        assert!(Table::parse("not a table\n\n1 2 3 - x").is_quiet());
    }

    #[test]
    fn a_mount_point_may_have_any_name() {
        assert_eq!(unescaped(r"/a\040b\134\011\012c\\04x\é"), "/a b\\\t\nc\\\\04x\\é");
    }
}
