use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use super::{Error, Reader};

impl Reader {
    /// What is wrong with the owner or the mode of each of `paths` that is there, and what to do: whoever can write them
    /// decides what root does. Nothing is, for a directory that stands for a machine.
    ///
    /// # Errors
    /// Where one cannot be looked at.
    pub fn not_roots_alone<'p>(&self, paths: impl IntoIterator<Item = &'p str>) -> Result<Vec<String>, Error> {
        let mut wrong = Vec::new();
        for path in paths.into_iter().filter(|_| self.is_machine()) {
            // Links on the way were followed by the rule of links already; what counts is where they lead.
            match std::fs::metadata(self.below_root(path)) {
                Ok(meta) => wrong.extend(not_roots(path, meta.uid(), meta.mode())),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Io { doing: "look at", path: path.into(), source }),
            }
        }
        Ok(wrong)
    }
}

/// What is wrong with the owner or the mode of `path`, and what to do.
pub(super) fn not_roots(path: &str, uid: u32, mode: u32) -> Option<String> {
    if uid != 0 {
        return Some(format!("{path} belongs to uid {uid}, and has to be root's: chown root {path}"));
    }
    (mode & 0o022 != 0).then(|| {
        let mode = mode & 0o7777;
        format!("{path} (mode {mode:04o}) can be written by others than root: chmod go-w {path}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_roots_and_nobody_else_writes_them() {
        let path = "/etc/trueup/agent.d/x.toml";
        for fine in [0o100_644, 0o100_600, 0o40_755, 0o100_440] {
            assert_eq!(not_roots(path, 0, fine), None, "{fine:o}");
        }
        let why = not_roots(path, 1000, 0o100_644).expect("somebody else's");
        assert_eq!(why, format!("{path} belongs to uid 1000, and has to be root's: chown root {path}"));
        for (mode, shown) in [(0o100_664, "0664"), (0o100_646, "0646"), (0o41_777, "1777")] {
            let why = not_roots(path, 0, mode).expect("others write it");
            let wanted = format!("{path} (mode {shown}) can be written by others than root: chmod go-w {path}");
            assert_eq!(why, wanted);
        }
    }
}
