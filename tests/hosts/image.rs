//! The images that hosts are overlays of.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Debian 12, systemd 252.
    Bookworm,
    /// Debian 13, systemd 257: it has varlinkctl.
    Trixie,
    /// dnf and rpm. Below that it is a bookworm that says it is a Fedora.
    Rpm,
    /// The same with dnf 5, and Debian's next release below it, whose systemd wants control groups of version 2.
    Rpm5,
}

impl Variant {
    /// The word that the script knows it by.
    fn word(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Rpm => "rpm",
            Self::Rpm5 => "rpm5",
        }
    }

    /// Whether its packages are rpm's.
    pub fn is_rpm(self) -> bool {
        matches!(self, Self::Rpm | Self::Rpm5)
    }

    /// The directory of its image, built if it is not there. The script beside this file does it, under a lock,
    /// so that `tests/setup` and any number of tests share one.
    pub fn image(self) -> &'static Path {
        static IMAGES: [OnceLock<PathBuf>; 4] = [const { OnceLock::new() }; 4];
        IMAGES[self as usize].get_or_init(|| prepared("image", self.word()))
    }
}

/// What a script beside this file has prepared, and prepares first where it is not there: the directory that it prints.
pub fn prepared(script: &str, which: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(script);
    let output = Command::new(&script).arg(which).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
    assert!(output.status.success(), "{} ended with {}", script.display(), output.status);
    PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end())
}
