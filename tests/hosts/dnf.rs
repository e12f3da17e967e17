//! An rpm repository of small packages that a test makes.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::{Says, Server, bound_to_us, done};

/// A package to be built.
pub struct Package {
    name: String,
    version: String,
    fields: String,
    files: Vec<(String, String, u32, bool)>,
    scripts: String,
}

impl Package {
    /// A package with nothing in it. `version` is `VERSION-RELEASE`, with an epoch before that perhaps.
    pub fn new(name: &str, version: &str) -> Self {
        let (name, version) = (name.to_owned(), version.to_owned());
        Self { name, version, fields: String::new(), files: Vec::new(), scripts: String::new() }
    }

    /// A tag of its spec file, such as `Requires`.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push_str(&format!("{name}: {value}\n"));
        self
    }

    /// A file that it installs, owned by root.
    pub fn file(mut self, path: &str, content: &str, mode: u32) -> Self {
        self.files.push((path.to_owned(), content.to_owned(), mode, false));
        self
    }

    /// A configuration file: one that was edited stays, and the new one comes as `.rpmnew`.
    pub fn config(mut self, path: &str, content: &str) -> Self {
        self.files.push((path.to_owned(), content.to_owned(), 0o644, true));
        self
    }

    /// A scriptlet for the shell: `pre`, `post`, `preun`, `postun`.
    pub fn script(mut self, name: &str, content: &str) -> Self {
        self.scripts.push_str(&format!("%{name}\n{content}\n"));
        self
    }

    /// A service of the package's own name that runs `command`. As on Fedora its scriptlets leave to presets
    /// whether it is enabled, do not start it, and stop it before it goes; see daemon(7).
    pub fn service(self, command: &str) -> Self {
        let unit = format!("{}.service", self.name);
        let content = format!(
            "[Unit]\nDescription={unit} of the tests\n\n[Service]\nExecStart={command}\n\n[Install]\nWantedBy=multi-user.target\n"
        );
        self.file(&format!("/usr/lib/systemd/system/{unit}"), &content, 0o644)
            .script("post", &format!("[ $1 -ne 1 ] || systemctl --no-reload preset {unit} || :"))
            .script("preun", &format!("[ $1 -ne 0 ] || systemctl --no-reload disable --now {unit} || :"))
    }

    /// Builds it into the directory `pool`; `scratch` is for the work.
    fn build(&self, scratch: &Path, pool: &Path) {
        drop(fs::remove_dir_all(scratch));
        fs::create_dir_all(scratch.join("source")).expect("a directory of the lab's own");
        let (epoch, rest) = self.version.split_once(':').unwrap_or(("0", &self.version));
        let (version, release) = rest.split_once('-').expect("a version and a release");
        let (mut install, mut files) = (String::new(), String::new());
        for (i, (path, content, mode, is_config)) in self.files.iter().enumerate() {
            let source = scratch.join("source").join(i.to_string());
            fs::write(&source, content).expect("a file of the lab's own");
            writeln!(install, "install -D -m {mode:o} {} %{{buildroot}}{path}", source.display()).expect("a string");
            let kind = if *is_config { "%config(noreplace) " } else { "" };
            writeln!(files, "%attr({mode:o}, root, root) {kind}{path}").expect("a string");
        }
        let spec = format!(
            "Name: {}\nVersion: {version}\nRelease: {release}\nEpoch: {epoch}\nSummary: a package of the tests\n\
             License: MIT\nBuildArch: noarch\nAutoReqProv: no\n{}\n%description\nOf the tests.\n\n%install\n\
             mkdir -p %{{buildroot}}\n{install}\n{}\n%files\n{files}",
            self.name, self.fields, self.scripts
        );
        let path = scratch.join("package.spec");
        fs::write(&path, spec).expect("a file of the lab's own");
        let mut rpmbuild = Command::new("rpmbuild");
        rpmbuild.args(["-bb", "--quiet", "--define", &format!("_topdir {}", scratch.display())]);
        rpmbuild.args(["--define", &format!("_rpmdir {}", pool.display())]);
        // Whatever the machine is, and whoever has left settings on it.
        rpmbuild.args(["--define", "_rpmfilename %{name}-%{epoch}-%{version}-%{release}.%{arch}.rpm"]);
        rpmbuild.args(["--define", &format!("_dbpath {}", scratch.join("db").display())]);
        done(rpmbuild.args(["--define", "__os_install_post %{nil}"]).arg(&path));
    }
}

/// A repository without signatures, served over http.
pub struct Repository {
    directory: PathBuf,
    url: String,
    _server: Server,
}

const PORT: u16 = 8081;

impl Repository {
    /// One below `directory`, served on `address`, in which is only what scriptlets need.
    pub fn new(directory: PathBuf, address: &str) -> Self {
        let pool = directory.join("pool");
        fs::create_dir_all(&pool).expect("a directory of the lab's own");
        let mut command = bound_to_us("python3");
        command.args(["-u", "-m", "http.server", "--bind", address, "--directory"]);
        command.arg(&pool).arg(PORT.to_string());
        let server = Server::start(command, Says::Stdout, "Serving HTTP");
        let repository = Self { directory, url: format!("http://{address}:{PORT}/"), _server: server };
        // The shell is Debian's; rpm has to be told of it.
        repository.publish(&[Package::new("bash", "5.2-1").field("Provides", "/bin/sh")]);
        repository
    }

    /// Adds packages, and makes the index anew.
    pub fn publish(&self, packages: &[Package]) {
        let pool = self.directory.join("pool");
        for package in packages {
            package.build(&self.directory.join("scratch"), &pool);
        }
        done(Command::new("createrepo_c").arg("--quiet").arg(&pool));
    }

    /// Adds a package that is built already, and one that says that what it needs of the system is there: below dnf
    /// the host is a Debian.
    pub fn add(&self, rpm: &Path) {
        let name = rpm.file_name().expect("a file");
        fs::copy(rpm, self.directory.join("pool").join(name)).expect("a directory of the lab's own");
        let needs = done(Command::new("rpm").args(["-qp", "--requires"]).arg(rpm));
        let mut below = Package::new("below", "1.0-1");
        for need in needs.lines().filter(|need| !need.starts_with(['/', 'c']) && !need.starts_with("rpmlib(")) {
            below = below.field("Provides", &need.trim().replace(">=", "="));
        }
        self.publish(&[below]);
    }

    /// Takes the file of a package away, which stays in the index.
    pub fn lose(&self, name: &str) {
        let pool = fs::read_dir(self.directory.join("pool")).expect("a directory of the lab's own");
        for file in pool.map(|entry| entry.expect("an entry").path()) {
            if file.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&format!("{name}-"))) {
                fs::remove_file(file).expect("a file of the lab's own");
            }
        }
    }

    /// A `.repo` file for it.
    pub fn source(&self) -> String {
        format!("[lab]\nname=packages of the tests\nbaseurl={}\ngpgcheck=0\n", self.url)
    }
}
