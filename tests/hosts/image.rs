//! The image that every host is an overlay of.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// The directory of the image, built if it is not there. The script beside this file does it, under a lock,
/// so that `tests/setup` and any number of tests share one.
pub fn directory() -> PathBuf {
    static IMAGE: LazyLock<PathBuf> = LazyLock::new(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hosts/image");
        let output = Command::new(script)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|error| panic!("cannot run {script}: {error}"));
        assert!(output.status.success(), "{script} ended with {}", output.status);
        PathBuf::from(String::from_utf8(output.stdout).expect("a path in UTF-8").trim_end())
    });
    IMAGE.clone()
}
