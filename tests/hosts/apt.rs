//! An apt repository of small packages that a test makes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::{Says, Server, bound_to_us, done};

/// A package to be built.
pub struct Package {
    name: String,
    version: String,
    architecture: &'static str,
    fields: String,
    files: Vec<(String, String, u32)>,
    scripts: Vec<(&'static str, String)>,
}

impl Package {
    /// A package with nothing in it.
    pub fn new(name: &str, version: &str) -> Self {
        let (name, version) = (name.to_owned(), version.to_owned());
        Self { name, version, architecture: "all", fields: String::new(), files: Vec::new(), scripts: Vec::new() }
    }

    /// For this architecture only, rather than for all.
    pub fn of_architecture(self, architecture: &'static str) -> Self {
        Self { architecture, ..self }
    }

    /// A control field, such as `Depends`.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push_str(&format!("{name}: {value}\n"));
        self
    }

    /// A file that it installs, owned by root.
    pub fn file(mut self, path: &str, content: &str, mode: u32) -> Self {
        self.files.push((path.to_owned(), content.to_owned(), mode));
        self
    }

    /// A maintainer script: `preinst`, `postinst`, `prerm`, `postrm`, or the list `conffiles`.
    pub fn script(mut self, name: &'static str, content: &str) -> Self {
        self.scripts.push((name, content.to_owned()));
        self
    }

    /// A service of the package's own name that runs `command`, enabled and started when it is installed and
    /// stopped before it is removed, the way debhelper's snippets do it. `postinst` runs before.
    pub fn service(self, command: &str, postinst: &str) -> Self {
        let unit = format!("{}.service", self.name);
        let content = format!(
            "[Unit]\nDescription={unit} of the tests\n\n[Service]\nExecStart={command}\n\n[Install]\nWantedBy=multi-user.target\n"
        );
        self.file(&format!("/lib/systemd/system/{unit}"), &content, 0o644)
            .script(
                "postinst",
                &format!(
                    "#!/bin/sh\nset -e\n{postinst}\nif [ \"$1\" = configure ]; then\n  deb-systemd-helper unmask {unit} >/dev/null || true\n  \
                     if deb-systemd-helper --quiet was-enabled {unit}; then deb-systemd-helper enable {unit} >/dev/null || true\n  \
                     else deb-systemd-helper update-state {unit} >/dev/null || true; fi\n  \
                     if [ -d /run/systemd/system ]; then\n    systemctl --system daemon-reload >/dev/null || true\n    \
                     if [ -n \"$2\" ]; then action=restart; else action=start; fi\n    \
                     deb-systemd-invoke $action {unit} >/dev/null || true\n  fi\nfi\n"
                ),
            )
            .script(
                "prerm",
                &format!(
                    "#!/bin/sh\nset -e\nif [ -d /run/systemd/system ] && [ \"$1\" = remove ]; then\n  \
                     deb-systemd-invoke stop {unit} >/dev/null || true\nfi\n"
                ),
            )
            .script(
                "postrm",
                &format!(
                    "#!/bin/sh\nset -e\nif [ \"$1\" = remove ] && [ -d /run/systemd/system ]; then\n  \
                     systemctl --system daemon-reload >/dev/null || true\nfi\n\
                     if [ \"$1\" = purge ]; then deb-systemd-helper purge {unit} >/dev/null || true; fi\n"
                ),
            )
    }

    /// Builds it into the directory `pool`; `scratch` is for the work.
    fn build(&self, scratch: &Path, pool: &Path) {
        drop(fs::remove_dir_all(scratch));
        let put = |path: &str, content: &str, mode: u32| {
            let path = scratch.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("below scratch")).expect("a directory of the lab's own");
            fs::write(&path, content).expect("a file of the lab's own");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a file of the lab's own");
        };
        let control = format!(
            "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: Tests <tests@example.org>\n{}Description: a package of the tests\n",
            self.name, self.version, self.architecture, self.fields
        );
        put("DEBIAN/control", &control, 0o644);
        for (name, content) in &self.scripts {
            put(&format!("DEBIAN/{name}"), content, if *name == "conffiles" { 0o644 } else { 0o755 });
        }
        for (path, content, mode) in &self.files {
            put(path, content, *mode);
        }
        let target = pool.join(format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture));
        done(Command::new("dpkg-deb").args(["--root-owner-group", "-Zgzip", "-b"]).args([scratch, &target]));
    }
}

/// A flat repository, signed with a key of its own, served over http.
pub struct Repository {
    directory: PathBuf,
    url: String,
    key: String,
    _server: Server,
}

const PORT: u16 = 8080;

impl Repository {
    /// An empty one below `directory`, served on `address`.
    pub fn new(directory: PathBuf, address: &str) -> Self {
        let home = directory.join("gnupg");
        fs::create_dir_all(directory.join("pool")).expect("a directory of the lab's own");
        fs::create_dir_all(&home).expect("a directory of the lab's own");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("a directory of the lab's own");
        let who = "apt@example.org";
        done(gpg(&home).args(["--passphrase", "", "--quick-generate-key", who, "ed25519", "sign", "never"]));
        let key = done(gpg(&home).args(["--armor", "--export", who]));
        let mut command = bound_to_us("python3");
        command.args(["-u", "-m", "http.server", "--bind", address, "--directory"]);
        command.arg(directory.join("pool")).arg(PORT.to_string());
        let server = Server::start(command, Says::Stdout, "Serving HTTP");
        let repository = Self { directory, url: format!("http://{address}:{PORT}/"), key, _server: server };
        repository.publish(&[]);
        repository
    }

    /// Adds packages, and signs the new index.
    pub fn publish(&self, packages: &[Package]) {
        let pool = self.directory.join("pool");
        for package in packages {
            package.build(&self.directory.join("scratch"), &pool);
        }
        let ftparchive = |what: &str| done(Command::new("apt-ftparchive").current_dir(&pool).args([what, "."]));
        fs::write(pool.join("Packages"), ftparchive("packages")).expect("a file of the lab's own");
        drop(fs::remove_file(pool.join("InRelease")));
        let release = self.directory.join("Release");
        fs::write(&release, ftparchive("release")).expect("a file of the lab's own");
        done(
            gpg(&self.directory.join("gnupg"))
                .args(["--clear-sign", "--output"])
                .args([pool.join("InRelease"), release]),
        );
    }

    /// Adds a package that is built already.
    pub fn add(&self, deb: &Path) {
        let name = deb.file_name().expect("a file");
        fs::copy(deb, self.directory.join("pool").join(name)).expect("a directory of the lab's own");
        self.publish(&[]);
    }

    /// Adds all packages of a directory.
    pub fn stock(&self, debs: &Path) {
        let pool = self.directory.join("pool");
        done(Command::new("cp").args(["-a", "--"]).arg(debs.join(".")).arg(&pool));
        self.publish(&[]);
    }

    /// Serves nothing any more, or all of it again.
    pub fn is_down(&self, down: bool) {
        let (there, away) = (self.directory.join("pool"), self.directory.join("away"));
        let (from, to) = if down { (there, away) } else { (away, there) };
        fs::rename(from, to).expect("a directory of the lab's own");
    }

    /// The key that signs it, armoured.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A `.sources` file for it; its key is believed from `key_path`.
    pub fn source(&self, key_path: &str) -> String {
        format!("Types: deb\nURIs: {}\nSuites: ./\nSigned-By: {key_path}\n", self.url)
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let mut command = Command::new("gpgconf");
        drop(command.arg("--homedir").arg(self.directory.join("gnupg")).args(["--kill", "all"]).output());
    }
}

fn gpg(home: &Path) -> Command {
    let mut command = Command::new("gpg");
    command.args(["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--homedir"]).arg(home);
    command
}
