//! A host: an overlay of the image, booted by systemd-nspawn.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::image::Variant;
use super::network::Network;
use super::report::Told;
use super::server::{bound_to_us, done};
use super::vm::Vm;

/// How long a boot may take, loaded machines included.
const BOOT: Duration = Duration::from_secs(120);

/// After how many seconds a command on a host is ended.
const COMMAND: &str = "300";

/// In a clean environment.
const CLEAN: [&str; 5] =
    ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"];

/// Mounts and processes of a host are in namespaces of its own, so that they end with nspawn, and that with
/// the test; its control groups are its own too, else two hosts would share the groups of their services.
/// Arguments: lower, directory, cgroup, then systemd-nspawn's own.
const BOOT_SCRIPT: &str = r#"
lower=$1 directory=$2 cgroup=$3
shift 3
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    mkdir -p "$hierarchy/$cgroup"
    echo $$ >"$hierarchy/$cgroup/cgroup.procs"
done
# Where /run is not a tmpfs, nspawn refuses to start.
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$directory/upper,workdir=$directory/work" "$directory/root"
exec systemd-nspawn "$@"
"#;

/// What a command on a host printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit status; 128 and the signal after a signal.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// What a host is made of.
pub struct Setup<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it runs.
    pub variant: Variant,
    /// What is on it beside the image: path → content.
    pub files: &'a [(String, Vec<u8>)],
    /// Whether trueup is on it, as this machine built it.
    pub has_trueup: bool,
    /// Whether it has one hierarchy of control groups, version 2, without controllers; otherwise as the machine has them.
    pub unified: bool,
}

/// A host that is up.
pub struct Host {
    name: String,
    variant: Variant,
    machine: String,
    directory: PathBuf,
    address: String,
    bridge: String,
    gateway: String,
    unified: bool,
    nspawn: Option<Child>,
    /// Its PID 1, as the machine counts; 0 where it is off, or a virtual machine.
    leader: u32,
    /// Where it is a virtual machine.
    vm: Option<Vm>,
}

impl Host {
    /// Makes the `k`th host of `network` (from 1) and boots it. What it writes goes below `directory`.
    pub fn boot(network: &Network, k: u8, directory: PathBuf, setup: &Setup<'_>) -> Self {
        let Setup { name, variant, files, has_trueup, unified } = *setup;
        let mut host = Self::make(network, k, directory, name, files);
        (host.variant, host.unified) = (variant, unified || variant == Variant::Rpm5);
        if has_trueup {
            let binary = host.directory.join("upper/usr/bin/trueup");
            fs::create_dir_all(binary.parent().expect("below upper")).expect("a directory of the lab's own");
            fs::copy(env!("CARGO_BIN_EXE_trueup"), &binary).expect("the binary is built");
            for unit in ["trueup-undo.service", "trueup-undo.timer", "trueup-undo-boot.service"] {
                let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(unit);
                host.put(&format!("/usr/lib/systemd/system/{unit}"), &fs::read(from).expect("one of ours"));
            }
        }
        host.start();
        host
    }

    /// The same for a virtual machine, with a deb installed.
    pub fn boot_vm(
        network: &Network,
        k: u8,
        directory: PathBuf,
        name: &str,
        files: &[(String, Vec<u8>)],
        deb: &Path,
    ) -> Self {
        let mut host = Self::make(network, k, directory, name, files);
        host.vm = Some(Vm::new(network, k, host.directory.clone(), deb));
        host.start();
        host
    }

    /// What is on it beside the image; it is off.
    fn make(network: &Network, k: u8, directory: PathBuf, name: &str, files: &[(String, Vec<u8>)]) -> Self {
        let host = Self {
            name: name.to_owned(),
            variant: Variant::Bookworm,
            machine: format!("{}-{k}", network.bridge()),
            directory,
            address: network.host_address(k),
            bridge: network.bridge(),
            gateway: network.address(),
            unified: false,
            nspawn: None,
            leader: 0,
            vm: None,
        };
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(host.directory.join(part)).expect("a directory of the lab's own");
        }
        host.put("/etc/hostname", format!("{name}\n").as_bytes());
        host.put("/etc/machine-id", done(Command::new("systemd-id128").arg("new")).as_bytes());
        host.put("/etc/hosts", format!("127.0.0.1 localhost\n127.0.1.1 {name}.fleet.test {name}\n").as_bytes());
        for (path, content) in files {
            host.put(path, content);
        }
        host
    }

    /// A file of the host before its first boot, 0644.
    fn put(&self, path: &str, content: &[u8]) {
        let target = self.directory.join("upper").join(path.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("below upper")).expect("a directory of the lab's own");
        fs::write(&target, content).expect("a file of the lab's own");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).expect("a file of the lab's own");
    }

    fn cgroup(&self) -> String {
        format!("trueup-tests/{}", self.machine)
    }

    fn start(&mut self) {
        match &mut self.vm {
            Some(vm) => vm.start(),
            None => self.start_container(),
        }
        self.is_up();
    }

    /// Waits until systemd has done what a boot is.
    fn is_up(&self) {
        let state = self.run(&["systemctl", "is-system-running", "--wait"]);
        assert!(
            ["running", "degraded"].contains(&state.stdout.trim()),
            "{} did not come up: {state:?}\n{}",
            self.name,
            self.console()
        );
    }

    fn start_container(&mut self) {
        let notify = self.directory.join("notify");
        drop(fs::remove_file(&notify));
        let events = UnixDatagram::bind(&notify).expect("a socket of the lab's own");
        events.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let console = fs::File::create(self.directory.join("console")).expect("a file of the lab's own");
        let child = bound_to_us("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-ec", BOOT_SCRIPT, "boot"])
            .args([self.variant.image().as_os_str(), self.directory.as_os_str(), self.cgroup().as_ref()])
            .args(["-q", "--register=no", "--keep-unit", "--notify-ready=yes", "--boot", "--console=pipe"])
            .args(["--timezone=off", "--resolv-conf=off", "--link-journal=no"])
            .arg(format!("--machine={}", self.machine))
            .arg(format!("--directory={}", self.directory.join("root").display()))
            .arg(format!("--network-bridge={}", self.bridge))
            .env("NOTIFY_SOCKET", &notify)
            // systemd-nspawn(1) has it in its list of variables.
            .envs(self.unified.then_some(("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")))
            .stdout(console.try_clone().expect("a second handle"))
            .stderr(console)
            .spawn()
            .expect("setpriv starts");
        self.nspawn = Some(child);
        self.await_boot(&events);
    }

    /// nspawn says when there is a PID 1, and, once that says so, that the boot is over: sd_notify(3), `--notify-ready`.
    fn await_boot(&mut self, events: &UnixDatagram) {
        let began = Instant::now();
        let mut message = [0; 4096];
        loop {
            match events.recv(&mut message) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&message[..length]).into_owned();
                    if text.lines().any(|line| line.starts_with("X_NSPAWN_LEADER_PID=")) {
                        // Its number is that of nspawn's own namespace; here it is the child of the child.
                        let unshare = self.nspawn.as_ref().expect("it was started").id();
                        self.leader = only_child(only_child(unshare));
                        self.connect();
                    }
                    if text.lines().any(|line| line == "READY=1") {
                        return;
                    }
                }
                // A wait that has a limit is not begun anew where the process was stopped and went on: signal(7).
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => panic!("{}: no word of its boot: {error}", self.name),
            }
            let ended = self.nspawn.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "{} ended while it booted ({ended:?}):\n{}", self.name, self.console());
            assert!(began.elapsed() < BOOT, "{} did not boot in {BOOT:?}:\n{}", self.name, self.console());
        }
    }

    /// Gives the host's end of the cable its address.
    fn connect(&self) {
        let script = "ip address add \"$1/24\" dev host0; ip link set host0 up; ip route add default via \"$2\"";
        let leader = self.leader.to_string();
        done(Command::new("nsenter").args([
            "-t",
            &leader,
            "-n",
            "sh",
            "-ec",
            script,
            "net",
            &self.address,
            &self.gateway,
        ]));
    }

    fn console(&self) -> String {
        let of_container = || fs::read_to_string(self.directory.join("console")).unwrap_or_default();
        self.vm.as_ref().map_or_else(of_container, Vm::console)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command on the host, as root, with nothing to read and a clean environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "5", COMMAND]).current_dir("/");
        let arguments = [&CLEAN, arguments].concat();
        if let Some(vm) = &self.vm {
            let inside = vm.command(&arguments);
            command.arg(inside.get_program()).args(inside.get_args());
            return command;
        }
        command.args(["nsenter", "-t", &self.leader.to_string(), "-m", "-p", "-n", "-u", "-i", "-C"]).args(arguments);
        command
    }

    /// Runs a command on the host.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.spawn(arguments, None).wait()
    }

    /// Runs a command on the host, which reads `input`.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        self.spawn(arguments, Some(input)).wait()
    }

    /// Starts a command on the host.
    pub fn spawn(&self, arguments: &[&str], input: Option<&[u8]>) -> Running {
        let mut command = self.command(arguments);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("timeout starts");
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin.write_all(input).expect("the command reads its input");
        }
        Running(child)
    }

    /// Runs a command on the host that has to end well, and gives its standard output.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status == 0, "{}: {arguments:?}: {output:#?}", self.name);
        output.stdout
    }

    /// Starts a command on the host whose standard input is open until [`Running::close_input`].
    pub fn spawn_with_input(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(command.spawn().expect("timeout starts"))
    }

    /// A process of the host, as the machine counts.
    #[track_caller]
    pub fn outside(&self, pid: &str) -> String {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(&self.leader.to_string());
        let is_it = |candidate: &String| {
            let status = fs::read_to_string(format!("/proc/{candidate}/status")).unwrap_or_default();
            let mut numbers =
                status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or("").split_whitespace();
            numbers.next_back() == Some(pid) && namespace(candidate) == own
        };
        let processes = fs::read_dir("/proc").expect("there is /proc").flatten();
        let mut names = processes.filter_map(|entry| entry.file_name().into_string().ok());
        names.find(is_it).unwrap_or_else(|| panic!("{}: there is no process {pid}", self.name))
    }

    /// Runs a shell script on the host that has to end well, and gives its standard output.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        self.ok(&["sh", "-euc", script])
    }

    /// Mounts a file system of the host's own at `at`: so many MB of ext4 in the new file `image`, made with `options` of
    /// mkfs.ext4.
    pub fn mount_ext4(&self, image: &Path, at: &str, size: u64, options: &[&str]) {
        drop(fs::remove_file(image));
        let file = fs::File::create_new(image).expect("a file of the lab's own");
        file.set_len(size << 20).expect("sparse");
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).arg(image).output().expect("it starts");
            assert!(output.status.success(), "{program}: {output:?}");
            String::from_utf8(output.stdout).expect("text").trim().to_owned()
        };
        run("/sbin/mkfs.ext4", &[&["-q"], options].concat());
        let device = run("/sbin/losetup", &["--find", "--show"]);
        let number = device.strip_prefix("/dev/loop").expect("a loop device");
        self.shell(&format!(
            "mkdir -p {at}; test -e {device} || mknod -m 600 {device} b 7 {number}; mount -t ext4 {device} {at}
             rm -rf {at}/lost+found"
        ));
        // It goes with the mount.
        assert!(Command::new("/sbin/losetup").args(["--detach", &device]).status().expect("it starts").success());
    }

    /// Whether a shell script on the host ends well.
    pub fn holds(&self, script: &str) -> bool {
        self.run(&["sh", "-euc", script]).status == 0
    }

    /// `trueup` with these arguments and `--json`.
    #[track_caller]
    pub fn trueup(&self, arguments: &[&str]) -> Told {
        let output = self.run(&[&["trueup"], arguments, &["--json"]].concat());
        let report = serde_json::from_str(&output.stdout).unwrap_or_else(|error| {
            panic!("{}: trueup {arguments:?} printed no report: {error}\n{output:#?}", self.name)
        });
        Told { status: output.status, report, stderr: output.stderr }
    }

    /// Writes into a file in place, as an editor would: owner and mode of one that is there stay.
    #[track_caller]
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let script = "mkdir -p \"$(dirname \"$1\")\" && cat >\"$1\"";
        let output = self.run_with(&["sh", "-euc", script, "write", path], content.as_ref());
        assert!(output.status == 0, "{}: cannot write {path}: {output:?}", self.name);
    }

    /// The content of a file.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        self.ok(&["cat", "--", path])
    }

    /// `regular file 644 root:root`, or `absent`.
    pub fn stat(&self, path: &str) -> String {
        let output = self.run(&["stat", "-c", "%F %a %U:%G", "--", path]);
        if output.status != 0 {
            assert!(output.stderr.contains("No such file"), "{output:?}");
            return "absent".to_owned();
        }
        // stat(1) has its own words for files without content.
        output.stdout.trim().replace("regular empty file", "regular file")
    }

    /// Whether there is anything at this path.
    pub fn has(&self, path: &str) -> bool {
        self.stat(path) != "absent"
    }

    /// One property of a unit, as `systemctl show` has it.
    pub fn unit(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "--property", property, "--", unit]).trim().to_owned()
    }

    /// `active enabled`, `inactive disabled`…
    pub fn unit_state(&self, unit: &str) -> String {
        format!("{} {}", self.unit(unit, "ActiveState"), self.unit(unit, "UnitFileState"))
    }

    /// The version of an installed package.
    pub fn package(&self, package: &str) -> Option<String> {
        if self.variant.is_rpm() {
            let format = "%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}";
            let output = self.run(&["rpm", "-q", "--qf", format, "--", package]);
            return (output.status == 0).then(|| output.stdout.trim_start_matches("0:").to_owned());
        }
        let output = self.run(&["dpkg-query", "-W", "-f=${db:Status-Abbrev}${Version}", package]);
        // Installed, or installed and held.
        let installed = output.stdout.strip_prefix("ii ").or(output.stdout.strip_prefix("hi "));
        installed.filter(|_| output.status == 0).map(str::to_owned)
    }

    /// Where the root of the host is, seen from the machine. Absolute symbolic links below it lead astray.
    #[track_caller]
    pub fn root(&self) -> PathBuf {
        assert_ne!(self.leader, 0, "{}: nothing of it is seen from here", self.name);
        PathBuf::from(format!("/proc/{}/root", self.leader))
    }

    /// The bytes of a file, looked at without a trace: not even the time of access moves.
    pub fn peek(&self, path: &str) -> Vec<u8> {
        let path = self.root().join(path.trim_start_matches('/'));
        let no_atime = rustix::fs::OFlags::NOATIME.bits().cast_signed();
        let file = fs::File::options().read(true).custom_flags(no_atime).open(&path);
        let mut file = file.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        let mut content = Vec::new();
        io::Read::read_to_end(&mut file, &mut content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        content
    }

    /// Copies a directory of the machine to `path` on the host; to a virtual machine, a file.
    pub fn copy_in(&self, from: &Path, path: &str) {
        if self.vm.is_some() {
            return self.write(path, fs::read(from).expect("a file"));
        }
        let target = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("below a root")).expect("a directory on the host");
        done(Command::new("cp").arg("-a").args([from, &target]));
    }

    /// Pulls the plug: every process of the host ends at once, nothing is said to any of them. Then it boots
    /// again over what was written.
    pub fn cut(&mut self) {
        self.power_off();
        self.start();
    }

    /// Waits until the kernel of the virtual machine has panicked so often, and that is up again.
    #[track_caller]
    pub fn await_panics(&mut self, times: usize) {
        self.vm.as_mut().expect("only a virtual machine comes up again by itself").await_panics(times);
        self.is_up();
    }

    fn power_off(&mut self) {
        if let Some(vm) = &mut self.vm {
            vm.cut();
        }
        let Some(mut nspawn) = self.nspawn.take() else { return };
        if self.leader != 0 {
            drop(Command::new("kill").args(["-KILL", &self.leader.to_string()]).output());
            self.leader = 0;
        }
        // It ends by itself after its PID 1; where that never came up, it has to be told.
        let patience = Instant::now();
        while patience.elapsed() < Duration::from_secs(5) && matches!(nspawn.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(nspawn.kill());
        drop(nspawn.wait());
        for hierarchy in ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"] {
            remove_cgroup(&Path::new(hierarchy).join(self.cgroup()));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() && (self.leader != 0 || self.vm.as_ref().is_some_and(Vm::is_on)) {
            let journal = self.run(&["journalctl", "--no-pager", "-b", "-n", "40"]);
            eprintln!("--- the last of the journal of {}:\n{}", self.name, journal.stdout);
        }
        self.power_off();
    }
}

fn only_child(parent: u32) -> u32 {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    children.trim().parse().unwrap_or_else(|error| panic!("{path}: {children:?}: {error}"))
}

/// Removes a control group and those below it. They are empty: their processes have ended.
fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    drop(fs::remove_dir(path));
}

/// A command that runs on a host.
pub struct Running(Child);

impl Running {
    /// What it prints, to be read as it comes.
    pub fn stdout(&mut self) -> std::process::ChildStdout {
        self.0.stdout.take().expect("it is taken once")
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        drop(self.0.stdin.take());
    }

    /// Ends it, and what it started on the host: timeout(1) hands the signal on.
    pub fn end(&mut self) {
        let timeout = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(timeout, nix::sys::signal::Signal::SIGTERM);
        drop(self.0.wait());
    }

    /// Waits for its end.
    pub fn wait(self) -> Output {
        use std::os::unix::process::ExitStatusExt;
        let output = self.0.wait_with_output().expect("the command was started");
        let status = output.status;
        Output {
            status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
