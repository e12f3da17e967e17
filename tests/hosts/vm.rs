//! A virtual machine: what makes a host where its kernel and its page cache have to end with it, too.
//!
//! Debian's kernel and an ext4 image of the bookworm hosts, by qemu: with KVM where that runs a guest, else with every
//! instruction emulated, which takes some twenty seconds to boot. Commands reach it by ssh over a serial port, which is
//! there whatever becomes of its network; that is a tap on the bridge of the lab.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use super::image::Variant;
use super::network::Network;
use super::server::{Says, Server, bound_to_us, done};

/// How long a boot may take where every instruction is emulated, on a machine that is busy.
const BOOT: Duration = Duration::from_secs(300);

/// How long a machine may take to come down where it was made to.
const REBOOT: Duration = Duration::from_secs(300);

/// How long a kernel may take that only panics, where KVM works.
const PROBE: &str = "5";

/// Hands ssh the connection to a socket.
const CONNECT: &str = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                       socket.send_fds(socket.socket(fileno=1), [b\"-\"], [s.fileno()])";

/// Makes the disk of a machine: the image, what makes it a machine, what the host has over that, and a package, which
/// is installed here in a second, and in a machine that is emulated in half a minute.
/// Arguments: image, layer, directory, deb.
const DISK_SCRIPT: &str = r#"
mount -t overlay overlay -o "lowerdir=$2:$1,upperdir=$3/upper,workdir=$3/work" "$3/root"
cp "$4" "$3/root/srv/"
# As in any chroot: nothing of a running system is reached.
mount -t tmpfs tmpfs "$3/root/run"
chroot "$3/root" dpkg --force-confold -i "/srv/${4##*/}"
umount "$3/root/run"
mke2fs -q -t ext4 -d "$3/root" "$3/disk" 1G
"#;

/// A virtual machine that is up, or can be.
pub struct Vm {
    directory: PathBuf,
    bridge: String,
    tap: String,
    /// The last of its address, too.
    k: u8,
    /// What its kernel is told.
    words: String,
    /// In this order they end.
    way_in: Option<Server>,
    qemu: Option<Qemu>,
}

impl Vm {
    /// Makes the `k`th machine of `network`, with a disk of its own in `directory`, of what is in `upper` there; it is off.
    pub fn new(network: &Network, k: u8, directory: PathBuf, deb: &Path) -> Self {
        let mut make = Command::new("unshare");
        make.args(["--mount", "--propagation", "private", "sh", "-ec", DISK_SCRIPT, "disk"]);
        make.args([Variant::Bookworm.image(), &parts().join("layer"), &directory]);
        done(make.arg(deb));
        let words = [
            "console=ttyS0 loglevel=5 mitigations=off panic=1 systemd.show_status=no".to_owned(),
            format!("lab.address={}/24 lab.gateway={}", network.host_address(k), network.address()),
        ];
        Self {
            directory,
            bridge: network.bridge(),
            tap: format!("{}-{k}", network.bridge()),
            k,
            words: words.join(" "),
            way_in: None,
            qemu: None,
        }
    }

    /// Turns it on, and waits until commands can be run on it.
    pub fn start(&mut self) {
        let file = |name: &str| self.directory.join(name).display().to_string();
        let part = |name: &str| parts().join(name).display().to_string();
        let mut command = bound_to_us("qemu-system-x86_64");
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-smp", "1", "-m", "1024"]);
        command.args(accelerator());
        command.args(["-kernel", &part("kernel"), "-initrd", &part("initramfs"), "-append", &self.words]);
        // What the machine was told that it is written survives it; what is only in its page cache does not.
        command.args(["-drive", &format!("file={},if=virtio,format=raw,cache=writeback", file("disk"))]);
        // The interface is qemu's, and goes with it.
        command.args(["-netdev", &format!("tap,id=net,ifname={},script=no,downscript=no", self.tap)]);
        command.args(["-device", &format!("virtio-net-pci,netdev=net,mac=52:54:00:77:00:{:02x}", self.k)]);
        command.args(["-chardev", &format!("socket,id=way-in,path={},server=on,wait=off", file("way-in"))]);
        command.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=way-in"]);
        command.args(["-chardev", &format!("file,id=console,path={},append=on", file("console"))]);
        command.args(["-serial", "chardev:console", "-qmp", "stdio"]);
        // What a qemu that was killed left.
        drop(fs::remove_file(self.directory.join("way-in")));
        self.qemu = Some(Qemu::start(command, &self.directory.join("qemu")));
        let ip = |arguments: &[&str]| drop(done(Command::new("ip").args(arguments)));
        ip(&["link", "set", &self.tap, "master", &self.bridge, "up"]);
        self.enter();
    }

    /// Connects: one connection, by which all commands go.
    fn enter(&mut self) {
        self.way_in = None;
        let control = self.directory.join("ssh");
        drop(fs::remove_file(&control));
        let socket = self.directory.join("way-in");
        let mut ssh = bound_to_us("ssh");
        ssh.args(self.options()).args(["-M", "-o", "ProxyUseFdpass=yes"]);
        // What is on its way may lie there until more comes: an emulated port does not always tell its guest. So something
        // does, and is answered.
        ssh.args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=60"]);
        ssh.args(["-o", &format!("ProxyCommand=python3 -c '{CONNECT}' '{}'", socket.display())]);
        ssh.args(["root@vm", "echo up; exec sleep infinity"]);
        self.way_in = Some(Server::start_within(BOOT, ssh, Says::Stdout, "up"));
    }

    fn options(&self) -> Vec<String> {
        let file = |directory: &Path, name: &str| directory.join(name).display().to_string();
        let mut options = vec!["-F".to_owned(), "none".to_owned()];
        options.extend(["-S".to_owned(), file(&self.directory, "ssh"), "-i".to_owned(), file(parts(), "key")]);
        let settings = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"];
        options.extend(settings.into_iter().flat_map(|setting| ["-o".to_owned(), setting.to_owned()]));
        options
    }

    /// What runs `arguments` on it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        // By the connection that stands, or not at all.
        ssh.args(self.options()).args(["-o", "ProxyCommand=false", "root@vm"]);
        let quoted = arguments.iter().map(|argument| format!("'{}'", argument.replace('\'', "'\\''")));
        ssh.arg(quoted.collect::<Vec<_>>().join(" "));
        ssh
    }

    /// Waits until its kernel has panicked so often since it was made, and it is up again.
    pub fn await_panics(&mut self, times: usize) {
        let panics = |console: &str| console.matches("Kernel panic").count();
        while panics(&self.console()) < times {
            // One panic may reset it more than once.
            self.qemu.as_ref().expect("it is on").await_event("RESET");
        }
        self.enter();
    }

    /// What it said while it booted.
    pub fn console(&self) -> String {
        let read = |name: &str| fs::read(self.directory.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[read("qemu"), read("console")].concat()).into_owned()
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.qemu.is_some()
    }

    /// Turns it off as a power cut does: nothing is said to it, and what its disk has not been given is lost.
    pub fn cut(&mut self) {
        self.qemu = None;
        self.way_in = None;
    }
}

/// A running qemu, ended when it is dropped.
struct Qemu {
    child: Child,
    events: Receiver<String>,
}

impl Qemu {
    /// Starts it, and waits until it has made what it was asked for. What goes wrong it says in `log`.
    fn start(mut command: Command, log: &Path) -> Self {
        let told = File::create(log).expect("a file of the lab's own");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(told);
        let mut child = command.spawn().expect("setpriv starts");
        let stdout = child.stdout.take().expect("piped");
        let (tell, events) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                drop(tell.send(line));
            }
        });
        let mut qemu = Self { child, events };
        let stdin = qemu.child.stdin.as_mut().expect("piped");
        let asked = stdin.write_all(b"{\"execute\":\"qmp_capabilities\"}\n");
        // It answers once the machine is made.
        let answered = asked.is_ok() && (0..2).all(|_| qemu.events.recv_timeout(BOOT).is_ok());
        assert!(answered, "qemu did not start: {}", fs::read_to_string(log).unwrap_or_default());
        qemu
    }

    #[track_caller]
    fn await_event(&self, name: &str) {
        let name = format!("\"event\": \"{name}\"");
        let mut heard = String::new();
        while !heard.contains(&name) {
            heard = self.events.recv_timeout(REBOOT).unwrap_or_else(|_| panic!("no {name}; the last was {heard}"));
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The directory of what machines are made of, built if it is not there, as the images of the hosts are.
fn parts() -> &'static Path {
    static PARTS: OnceLock<PathBuf> = OnceLock::new();
    PARTS.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hosts/vm_image");
        PathBuf::from(done(Command::new(script).stderr(Stdio::inherit())).trim_end())
    })
}

/// What qemu runs the guest's instructions by. That there is a /dev/kvm does not mean that a guest comes far with it: a
/// kernel that finds no root and panics shows it.
fn accelerator() -> &'static [&'static str] {
    static WORKS: OnceLock<bool> = OnceLock::new();
    const KVM: &[&str] = &["-accel", "kvm", "-cpu", "host"];
    let works = *WORKS.get_or_init(|| {
        let mut probe = Command::new("timeout");
        probe.args([PROBE, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-m", "256"]);
        probe.args(KVM).args(["-no-reboot", "-append", "panic=-1", "-kernel"]).arg(parts().join("kernel"));
        let output = probe.stdin(Stdio::null()).output().expect("timeout starts");
        let works = Path::new("/dev/kvm").exists() && output.status.success();
        println!("virtual machines run {}", if works { "by KVM" } else { "emulated" });
        works
    });
    if works { KVM } else { &["-accel", "tcg,tb-size=128", "-cpu", "qemu64,+rdrand"] }
}
